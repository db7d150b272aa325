use std::collections::{BTreeMap, VecDeque};

use altitude_dataplane::mapping::Prefix;

use super::*;
use crate::alt::{
    bgp::{
        message::Cease,
        route::{AsPath, Attributes, Origin, Segment, Update},
        settings::Families,
    },
    tunnels::TunnelId,
};

#[test]
fn two_that_both_dial_agree_on_one_connection_at_any_timing() {
    for seed in 0..500 {
        let mut world = World::new(seed);
        // From a quick network to one where a dial may be given up before it is answered.
        world.latency_max = Duration::from_millis([20, 200, 2500][seed as usize % 3]);
        world.input(0, PeerInput::Start);
        let offset = world.latency();
        world.run_for(offset);
        world.input(1, PeerInput::Start);
        world.run_for(Duration::from_secs(120));
        assert_eq!(world.states(), [State::Established; 2], "seed {seed}");
        assert!(world.ups(0) >= 1 && world.ups(1) >= 1);
        // It settles soon and for good, and nothing is left over.
        for side in &world.sides {
            let status = side.peer.status();
            assert!(status.established <= 2, "seed {seed}: {} sessions", status.established);
            assert!(world.now - status.since > Duration::from_secs(60), "seed {seed}: a late session");
        }
        assert_eq!(world.wires.len(), 2, "seed {seed}: more than one connection");
    }
}

#[test]
fn routes_go_both_ways_and_end_of_rib_and_refresh_with_them() {
    let mut world = World::new(1);
    world.start();
    world.until_up();
    let v4 = update(64512, "10.42.1.1", &["10.1.0.0/16", "10.2.2.0/24"]);
    let v6 = update(64512, "fd00::1", &["2001:db8:1::/48"]);
    world.input(0, PeerInput::Send(&v4));
    world.input(0, PeerInput::Send(&v6));
    world.input(0, PeerInput::SendEndOfRib(Family::V4));
    world.input(0, PeerInput::SendEndOfRib(Family::V6));
    world.input(1, PeerInput::SendRefresh(Family::V6, RefreshKind::Request));
    world.run_for(Duration::from_secs(1));
    let seen = world.take(1);
    assert_eq!(
        seen,
        [
            PeerOutput::Update(v4),
            PeerOutput::Update(v6),
            PeerOutput::EndOfRib(Family::V4),
            PeerOutput::EndOfRib(Family::V6)
        ]
    );
    assert_eq!(world.take(0), [PeerOutput::Refresh(Family::V6, RefreshKind::Request)]);
}

#[test]
fn keepalives_hold_a_silent_session_and_the_hold_timer_ends_a_dead_one() {
    let mut world = World::new(2);
    world.start();
    world.until_up();
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.states(), [State::Established; 2]);
    assert_eq!((world.take(0), world.take(1)), (vec![], vec![]), "nothing worth a word");
    world.deaf = true;
    world.run_for(Duration::from_secs(91));
    for side in 0..2 {
        let expired = Notification::new(4, 0, &[]);
        let downs = world.downs(side);
        assert_eq!(downs, [(DownReason::Sent(expired), None)], "side {side}");
    }
    world.deaf = false;
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.states(), [State::Established; 2]);
}

#[test]
fn an_operator_stops_with_a_word_and_starts_again() {
    let mut world = World::new(3);
    world.start();
    world.until_up();
    world.input(0, PeerInput::Stop { cease: Cease::Shutdown, text: "fibre work until 4", again: Again::Never });
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.sides[0].peer.state(), State::Idle);
    let (_, reason) = world.sides[1].seen_down().expect("down");
    assert_eq!(reason.to_string(), "the neighbour sent Cease, Administrative Shutdown (6/2): \"fibre work until 4\"");
    world.input(0, PeerInput::Start);
    world.run_for(Duration::from_secs(70));
    assert_eq!(world.states(), [State::Established; 2]);
}

#[test]
fn what_can_not_agree_says_why_and_backs_off() {
    type Change = fn(&mut Settings);
    let cases: [(Change, u8, u8); 4] = [
        (|b| b.asn = 65000, 2, 2),
        (|b| b.neighbors[0].asn = 65000, 2, 2),
        (|b| b.neighbors[0].families = Families { v4: false, v6: true }, 2, 7),
        (|b| b.asn = 64512, 2, 2),
    ];
    for (change, code, subcode) in cases {
        let mut world = World::with(4, |settings| {
            settings[0].neighbors[0].families = Families { v4: true, v6: false };
            change(&mut settings[1]);
        });
        world.start();
        world.run_for(Duration::from_secs(600));
        assert_eq!((world.ups(0), world.ups(1)), (0, 0));
        let reasons: Vec<_> = world.sides.iter().flat_map(|side| &side.seen).filter_map(failure).collect();
        let is_it = |reason: &DownReason| match reason {
            DownReason::Sent(n) | DownReason::Received(n) => (n.code, n.subcode) == (code, subcode),
            _ => false,
        };
        assert!(reasons.iter().any(|(reason, _)| is_it(reason)), "{reasons:?}");
        // One that is refused dials again every 5 s less jitter, one that refuses waits longer.
        assert!(world.dials < 200, "{} dials", world.dials);
        let logged = reasons.iter().filter(|(_, first)| *first).count();
        assert!(logged <= 6, "{logged} lines for the log: {reasons:?}");
    }
}

#[test]
fn a_neighbour_that_is_not_there_is_dialled_every_connect_retry() {
    let mut world = World::new(5);
    world.blackhole = true;
    world.input(0, PeerInput::Start);
    world.run_for(Duration::from_secs(100));
    // Every 5 s less jitter.
    assert!((20..=28).contains(&world.dials), "{} dials", world.dials);
    let logged = world.sides[0].seen.iter().filter_map(failure).filter(|(_, first)| *first).count();
    assert_eq!(logged, 1);
}

#[test]
fn a_lost_connection_keeps_the_routes_and_a_notification_does_not() {
    let mut world = World::new(6);
    world.start();
    world.until_up();
    world.cut();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.states(), [State::Established; 2]);
    for side in 0..2 {
        let downs = world.downs(side);
        let [(DownReason::Closed, Some(graceful))] = &downs[..] else { panic!("{downs:?}") };
        assert_eq!((graceful.restarting, graceful.time), (false, 120));
    }
}

#[test]
fn a_restarted_neighbour_takes_its_session_over() {
    let mut world = World::new(7);
    world.start();
    world.until_up();
    world.restart(1, |settings| settings.restarting = true);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.states(), [State::Established; 2]);
    let downs = world.downs(0);
    let [(DownReason::Restarted, Some(_))] = &downs[..] else { panic!("{downs:?}") };
    let session = world.sides[0].peer.session().expect("up");
    let graceful = session.graceful.as_ref().expect("agreed");
    assert!(graceful.restarting);
    assert_eq!(graceful.families, [(Family::V4, true), (Family::V6, true)]);
}

#[test]
fn a_tunnel_that_goes_down_ends_the_session_at_once_and_back_up_begins_one_at_once() {
    let mut world = World::new(8);
    world.start();
    world.until_up();
    world.deaf = true;
    world.input(0, PeerInput::LinkDown);
    world.input(1, PeerInput::LinkDown);
    assert_eq!(world.downs(0), [(DownReason::LinkDown, None)]);
    world.run_for(Duration::from_secs(60));
    let dials = world.dials;
    world.deaf = false;
    world.input(0, PeerInput::LinkUp);
    world.input(1, PeerInput::LinkUp);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.states(), [State::Established; 2]);
    assert!(world.dials - dials <= 4);
}

#[test]
fn one_side_may_wait_for_the_other() {
    let mut world = World::with(9, |settings| settings[0].neighbors[0].passive = true);
    world.start();
    assert_eq!(world.sides[0].peer.state(), State::Active);
    world.until_up();
    assert_eq!(world.dials, 1);
}

#[test]
fn a_neighbour_that_says_nothing_or_half_of_it_loses_its_own_session_alone() {
    let half = solo_open(64513)[..25].to_vec();
    for said in [&[][..], &half] {
        let mut solo = Solo::new();
        let connection = solo.accepted();
        solo.octets(connection, said);
        solo.until(Duration::from_secs(239));
        assert_eq!(solo.peer.state(), State::OpenSent);
        solo.until(Duration::from_secs(241));
        assert_eq!(solo.notifications(), [(4, 0)]);
        assert_eq!(solo.logged(), [BgpFault::HoldExpired]);
    }
}

#[test]
fn half_a_message_in_a_session_is_ended_by_the_hold_timer() {
    let mut solo = Solo::new();
    let connection = solo.established();
    let whole = encoded(&Message::Update(update(64513, "10.42.1.2", &["10.1.0.0/16"])));
    solo.octets(connection, &whole[..30]);
    solo.until(Duration::from_secs(95));
    assert_eq!(solo.notifications(), [(4, 0)]);
    assert_eq!(solo.peer.status().received.updates, 0);
}

#[test]
fn a_flood_of_small_messages_ends_the_session_and_is_logged_once() {
    let mut solo = Solo::new();
    let connection = solo.established();
    let flood: Vec<u8> = (0..1000).flat_map(|_| encoded(&Message::Keepalive)).collect();
    solo.octets(connection, &flood);
    assert_eq!(solo.notifications(), [(6, 8)]);
    assert_eq!(solo.logged(), [BgpFault::Flood]);
    assert!(solo.peer.status().received.keepalives < 300);
    assert_eq!(solo.peer.admit(), None, "not at once again");
    // As many in the time they should take are fine.
    let mut solo = Solo::new();
    let connection = solo.established();
    for _ in 0..1000 {
        solo.now += Duration::from_millis(100);
        solo.octets(connection, &encoded(&Message::Keepalive));
    }
    assert_eq!(solo.peer.state(), State::Established);
}

/// ALT-16, G-9.
#[test]
fn broken_routes_are_counted_each_and_logged_once_and_the_session_stays() {
    let mut solo = Solo::new();
    let connection = solo.established();
    // Another first AS.
    let broken = encoded(&Message::Update(update(64999, "10.42.1.2", &["10.1.0.0/16"])));
    for _ in 0..1000 {
        solo.octets(connection, &broken);
    }
    assert_eq!(solo.peer.state(), State::Established);
    assert_eq!(solo.logged(), [BgpFault::FirstAs]);
    assert_eq!(solo.peer.status().faults.get(BgpFault::FirstAs), 1000);
    let withdrawn = solo.seen.iter().filter(|output| matches!(output, PeerOutput::Update(_))).count();
    assert_eq!(withdrawn, 1000);
}

#[test]
fn nonsense_ends_the_session_and_the_neighbour_is_kept_away_for_a_while() {
    let mut solo = Solo::new();
    let connection = solo.established();
    solo.octets(connection, b"GET / HTTP/1.1\r\nHost: example.net\r\n\r\n");
    assert_eq!(solo.notifications(), [(1, 1)]);
    assert_eq!(solo.logged(), [BgpFault::MessageMalformed]);
    solo.octets(connection, &encoded(&Message::Keepalive));
    assert_eq!(solo.notifications(), [(1, 1)], "what comes afterwards is nobody's");
    assert_eq!(solo.peer.admit(), None);
    solo.until(Duration::from_secs(2));
    assert!(solo.peer.admit().is_some());
}

#[test]
fn a_second_connection_is_turned_away_while_the_session_is_fine() {
    let mut solo = Solo::new();
    let first = solo.established();
    let second = solo.accepted();
    let written = solo.written.len();
    solo.octets(second, &solo_open(64513));
    assert_eq!(solo.notifications(), [(6, 7)]);
    assert_eq!(solo.peer.session().map(|session| session.connection), Some(first));
    let probe = &solo.written[written];
    assert_eq!((probe.0, &probe.1[..]), (first, &encoded(&Message::Keepalive)[..]), "is the old one alive?");
    // Half-open connections do not pile up: a new one replaces the one before.
    let third = solo.accepted();
    let fourth = solo.accepted();
    assert!(solo.closed.contains(&third) && !solo.closed.contains(&fourth));
}

#[test]
fn an_operator_may_clear_a_session_and_a_limit_may_keep_it_down() {
    let mut solo = Solo::new();
    solo.established();
    let again = Again::After(Duration::ZERO);
    solo.step(PeerInput::Stop { cease: Cease::Reset, text: "", again });
    assert_eq!(solo.notifications(), [(6, 4)]);
    assert!(solo.peer.admit().is_some(), "at once");
    let mut solo = Solo::new();
    solo.established();
    let again = Again::After(Duration::from_secs(300));
    solo.step(PeerInput::Stop { cease: Cease::MaxPrefixes, text: "", again });
    assert_eq!(solo.notifications(), [(6, 1)]);
    solo.until(Duration::from_secs(299));
    assert_eq!(solo.peer.admit(), None);
    solo.until(Duration::from_secs(301));
    assert!(solo.peer.admit().is_some());
}

#[test]
fn what_the_neighbour_does_not_speak_is_not_sent() {
    let mut solo = Solo::new();
    let connection = solo.accepted();
    let open = Open {
        families: Families { v4: true, v6: false },
        route_refresh: false,
        enhanced_refresh: false,
        graceful: None,
        ..their_open(64513)
    };
    solo.octets(connection, &encoded(&Message::Open(open)));
    solo.octets(connection, &encoded(&Message::Keepalive));
    assert_eq!(solo.peer.state(), State::Established);
    let written = solo.written.len();
    solo.step(PeerInput::SendRefresh(Family::V4, RefreshKind::Request));
    solo.step(PeerInput::SendRefresh(Family::V4, RefreshKind::Begin));
    solo.step(PeerInput::SendEndOfRib(Family::V6));
    assert_eq!(solo.written.len(), written);
    solo.step(PeerInput::SendEndOfRib(Family::V4));
    assert_eq!(solo.written.len(), written + 1);
    solo.step(PeerInput::Closed(connection));
    assert!(matches!(solo.seen.last(), Some(PeerOutput::Down { reason: DownReason::Closed, graceful: None })));
}

#[test]
fn our_restart_is_told_until_it_is_over() {
    let mut settings = settings()[0].clone();
    settings.restarting = true;
    let mut solo = Solo::with(&settings);
    let restarting = |solo: &mut Solo| {
        let connection = solo.accepted();
        let (_, octets) = solo.written.iter().rev().find(|(to, _)| *to == connection).expect("an OPEN");
        let parsed = message::parse(octets, &Context::new(64513, &solo.peer.settings)).expect("an OPEN");
        let Some(Message::Open(open)) = parsed.message else { panic!("an OPEN") };
        open.graceful.expect("the capability")
    };
    let graceful = restarting(&mut solo);
    assert_eq!((graceful.restarting, graceful.families[0]), (true, (Family::V4, true)));
    solo.step(PeerInput::Restarted);
    let graceful = restarting(&mut solo);
    assert_eq!((graceful.restarting, graceful.families[0]), (false, (Family::V4, false)));
}

/// One peer that waits for its neighbour, whose part the test plays.
struct Solo {
    now: Instant,
    begun: Instant,
    peer: Peer,
    /// What was written, and to which connection.
    written: Vec<(ConnectionId, Vec<u8>)>,
    closed: Vec<ConnectionId>,
    seen: Vec<PeerOutput>,
}

impl Solo {
    fn new() -> Self {
        Self::with(&settings()[0])
    }

    fn with(settings: &Settings) -> Self {
        let mut settings = settings.clone();
        settings.neighbors[0].passive = true;
        let now = Instant::now();
        let peer = Peer::new(&settings, PeerId(0), now, 1);
        let mut solo = Self { now, begun: now, peer, written: vec![], closed: vec![], seen: vec![] };
        solo.step(PeerInput::Start);
        solo
    }

    fn step(&mut self, input: PeerInput<'_>) {
        let mut todo = Vec::new();
        self.peer.step(self.now, input, &mut todo);
        for output in todo {
            match output {
                PeerOutput::Write(connection, octets) => {
                    assert!(!self.closed.contains(&connection), "nothing is written to a closed connection");
                    self.written.push((connection, octets));
                }
                PeerOutput::Close(connection) => self.closed.push(connection),
                other => self.seen.push(other),
            }
        }
    }

    fn accepted(&mut self) -> ConnectionId {
        let connection = self.peer.admit().expect("welcome");
        self.step(PeerInput::Accepted(connection));
        connection
    }

    fn octets(&mut self, connection: ConnectionId, octets: &[u8]) {
        self.step(PeerInput::Octets(connection, octets));
    }

    fn established(&mut self) -> ConnectionId {
        let connection = self.accepted();
        self.octets(connection, &solo_open(64513));
        self.octets(connection, &encoded(&Message::Keepalive));
        assert_eq!(self.peer.state(), State::Established);
        connection
    }

    /// Lets the time since the beginning become `time`.
    fn until(&mut self, time: Duration) {
        let end = self.begun + time;
        while let Some(due) = self.peer.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.step(PeerInput::Wake);
        }
        self.now = end;
    }

    /// Codes of the NOTIFICATIONs written.
    fn notifications(&self) -> Vec<(u8, u8)> {
        let context = Context::new(64513, &self.peer.settings);
        let mut found = Vec::new();
        for (_, octets) in &self.written {
            let mut splitter = message::Splitter::default();
            splitter.push(octets);
            while let Some(octets) = splitter.next() {
                let parsed = message::parse(octets.expect("framed"), &context).expect("read");
                if let Some(Message::Notification(notification)) = parsed.message {
                    found.push((notification.code, notification.subcode));
                }
            }
        }
        found
    }

    /// Faults worth a line in the log.
    fn logged(&self) -> Vec<BgpFault> {
        let logged = |output: &PeerOutput| match output {
            PeerOutput::Fault { fault, first: true } => Some(*fault),
            _ => None,
        };
        self.seen.iter().filter_map(logged).collect()
    }
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut octets = Vec::new();
    message::encode(message, &Context::new(64513, &settings()[1].neighbors[0]), &mut octets).expect("sendable");
    octets
}

fn their_open(asn: u32) -> Open {
    let settings = &settings()[1];
    Open { asn, ..our_open(settings, &settings.neighbors[0]) }
}

fn solo_open(asn: u32) -> Vec<u8> {
    encoded(&Message::Open(their_open(asn)))
}

fn failure(output: &PeerOutput) -> Option<(&DownReason, bool)> {
    match output {
        PeerOutput::Failed { reason, first } => Some((reason, *first)),
        _ => None,
    }
}

/// Prefixes with a plain path of `asn`.
pub(crate) fn update(asn: u32, next_hop: &str, prefixes: &[&str]) -> Update {
    let prefixes: Vec<Prefix> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
    Update {
        withdrawn: Vec::new(),
        announced: vec![(next_hop.parse().unwrap(), prefixes)],
        attributes: Some(Attributes {
            origin: Origin::Igp,
            as_path: AsPath([Segment::Sequence([asn].into())].into()),
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: [].into(),
            foreign: [].into(),
        }),
    }
}

/// Two speakers, each the other's only neighbour.
fn settings() -> [Settings; 2] {
    let side = |asn: u32, router: u8, local: &str, remote: &str, remote_asn| {
        let mut neighbor =
            NeighborSettings::new(TunnelId(0), local.parse().unwrap(), 30, remote.parse().unwrap(), remote_asn);
        neighbor.tunnel_addresses.push((format!("fd00::{router}").parse().unwrap(), 64));
        Settings { asn, router_id: [10, 0, 0, router].into(), neighbors: vec![neighbor], ..Settings::default() }
    };
    [side(64512, 1, "10.42.1.1", "10.42.1.2", 64513), side(64513, 2, "10.42.1.2", "10.42.1.1", 64512)]
}

/// One of the two, and what it said that is not for the network.
struct Side {
    settings: Settings,
    peer: Peer,
    seen: Vec<PeerOutput>,
}

impl Side {
    fn seen_down(&self) -> Option<(usize, &DownReason)> {
        self.seen.iter().enumerate().rev().find_map(|(at, output)| match output {
            PeerOutput::Down { reason, .. } => Some((at, reason)),
            _ => None,
        })
    }
}

/// What is on its way over the network.
#[derive(Debug)]
enum Flying {
    /// A connection attempt of the other side.
    Dial(ConnectionId),
    Connected(ConnectionId),
    Refused(ConnectionId),
    Octets(ConnectionId, Vec<u8>),
    Closed(ConnectionId),
}

/// Two peers and a network between them, under virtual time.
struct World {
    now: Instant,
    sides: [Side; 2],
    /// By time of arrival and order of sending: to which side, and what.
    flying: BTreeMap<(Instant, u64), (usize, Flying)>,
    sent: u64,
    /// Each end of a connection and the other end.
    wires: BTreeMap<(usize, ConnectionId), (usize, ConnectionId)>,
    /// Last arrival on a connection: what is sent later never overtakes.
    order: BTreeMap<(usize, ConnectionId), Instant>,
    random: Random,
    /// Anything below; 10 ms flat if it is zero.
    latency_max: Duration,
    /// Attempts to connect vanish.
    blackhole: bool,
    /// All vanishes.
    deaf: bool,
    dials: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    fn with(seed: u64, change: impl FnOnce(&mut [Settings; 2])) -> Self {
        let now = Instant::now();
        let mut settings = settings();
        change(&mut settings);
        let mut number = 0;
        let sides = settings.map(|settings| {
            number += 1;
            let peer = Peer::new(&settings, PeerId(0), now, seed * 2 + number);
            Side { settings, peer, seen: Vec::new() }
        });
        Self {
            now,
            sides,
            flying: BTreeMap::new(),
            sent: 0,
            wires: BTreeMap::new(),
            order: BTreeMap::new(),
            random: Random(seed),
            latency_max: Duration::ZERO,
            blackhole: false,
            deaf: false,
            dials: 0,
        }
    }

    fn start(&mut self) {
        self.input(0, PeerInput::Start);
        self.input(1, PeerInput::Start);
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|side| self.sides[side].peer.state())
    }

    fn ups(&self, side: usize) -> usize {
        self.sides[side].seen.iter().filter(|output| matches!(output, PeerOutput::Up(_))).count()
    }

    fn downs(&self, side: usize) -> Vec<(DownReason, Option<Graceful>)> {
        let down = |output: &PeerOutput| match output {
            PeerOutput::Down { reason, graceful } => Some((reason.clone(), graceful.clone())),
            _ => None,
        };
        self.sides[side].seen.iter().filter_map(down).collect()
    }

    fn take(&mut self, side: usize) -> Vec<PeerOutput> {
        std::mem::take(&mut self.sides[side].seen)
    }

    fn until_up(&mut self) {
        self.run_for(Duration::from_secs(3));
        assert_eq!(self.states(), [State::Established; 2]);
        for side in 0..2 {
            let seen = self.take(side);
            let ups = seen.iter().filter(|output| matches!(output, PeerOutput::Up(_))).count();
            assert_eq!(ups, 1);
        }
    }

    fn input(&mut self, side: usize, input: PeerInput<'_>) {
        let mut todo = Vec::new();
        self.sides[side].peer.step(self.now, input, &mut todo);
        let mut todo = VecDeque::from(todo);
        while let Some(output) = todo.pop_front() {
            self.output(side, output);
        }
    }

    fn latency(&mut self) -> Duration {
        if self.latency_max.is_zero() {
            return Duration::from_millis(10);
        }
        // What jitter leaves out of four times as much.
        self.latency_max * 4 - self.random.jitter(self.latency_max * 4)
    }

    fn fly(&mut self, at: Instant, to: usize, what: Flying) {
        self.sent += 1;
        self.flying.insert((at, self.sent), (to, what));
    }

    fn output(&mut self, side: usize, output: PeerOutput) {
        let other = 1 - side;
        let mut arrival = self.now + self.latency();
        if let PeerOutput::Write(connection, _) | PeerOutput::Close(connection) = &output {
            let last = self.order.entry((side, *connection)).or_insert(arrival);
            arrival = arrival.max(*last);
            *last = arrival;
        }
        match output {
            PeerOutput::Connect(connection) => {
                self.dials += 1;
                if !self.blackhole && !self.deaf {
                    self.fly(arrival, other, Flying::Dial(connection));
                }
            }
            PeerOutput::Write(connection, octets) => {
                if let Some(&(_, end)) = self.wires.get(&(side, connection)) {
                    self.fly(arrival, other, Flying::Octets(end, octets));
                }
            }
            PeerOutput::Close(connection) => {
                if let Some((_, end)) = self.wires.remove(&(side, connection)) {
                    self.fly(arrival, other, Flying::Closed(end));
                }
            }
            seen => self.sides[side].seen.push(seen),
        }
    }

    fn arrive(&mut self, to: usize, what: Flying) {
        if self.deaf {
            return;
        }
        match what {
            Flying::Dial(dialled) => {
                let from = 1 - to;
                let arrival = self.now + self.latency();
                self.order.insert((to, dialled), arrival);
                let Some(accepted) = self.sides[to].peer.admit() else {
                    return self.fly(arrival, from, Flying::Refused(dialled));
                };
                self.wires.insert((from, dialled), (to, accepted));
                self.wires.insert((to, accepted), (from, dialled));
                self.order.insert((to, accepted), arrival);
                self.fly(arrival, from, Flying::Connected(dialled));
                self.input(to, PeerInput::Accepted(accepted));
            }
            Flying::Connected(connection) => self.input(to, PeerInput::Connected(connection)),
            Flying::Refused(connection) => self.input(to, PeerInput::Refused(connection)),
            Flying::Octets(connection, octets) => {
                if self.wires.contains_key(&(to, connection)) {
                    // In pieces, as TCP may.
                    for piece in octets.chunks(7) {
                        self.input(to, PeerInput::Octets(connection, piece));
                    }
                }
            }
            Flying::Closed(connection) => {
                if self.wires.remove(&(to, connection)).is_some() {
                    self.input(to, PeerInput::Closed(connection));
                }
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let flying = self.flying.first_key_value().map(|((at, _), _)| *at);
            let due = self.sides.iter().filter_map(|side| side.peer.due()).min();
            let Some(next) = [flying, due].into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            if flying == Some(next) {
                let (_, (to, what)) = self.flying.pop_first().expect("there is one");
                self.arrive(to, what);
            } else {
                for side in 0..2 {
                    if self.sides[side].peer.due().is_some_and(|due| due <= self.now) {
                        self.input(side, PeerInput::Wake);
                    }
                }
            }
        }
        self.now = end;
    }

    /// Every connection breaks.
    fn cut(&mut self) {
        self.flying.clear();
        for (side, connection) in std::mem::take(&mut self.wires).into_keys() {
            self.input(side, PeerInput::Closed(connection));
        }
    }

    /// One side's process is gone and another one there, without the other side being told.
    fn restart(&mut self, side: usize, change: impl FnOnce(&mut Settings)) {
        self.wires.retain(|(end, _), (other, _)| *end != side && *other != side);
        let Side { settings, peer, .. } = &mut self.sides[side];
        change(settings);
        *peer = Peer::new(settings, PeerId(0), self.now, 99);
        self.input(side, PeerInput::Start);
    }
}
