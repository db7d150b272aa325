//! An RTR, xTRs behind NATs and Map-Servers, with a clock.

use std::num::NonZeroU16;

use altitude_dataplane::mapping::{Action, Locator, Prefix};

use super::*;
use crate::wire::{
    Algorithm, Form, Key, Message,
    packet::{UdpPacket, destination},
};

const RTR: &str = "240.0.254.30";
/// The Map-Server that shares a key with us, and the one that does not.
const KEYED: &str = "240.0.254.50";
const PLAIN: &str = "240.0.254.51";
/// What a NAT has for an xTR that calls itself [`INNER`].
const OUTER: &str = "203.0.113.50:20001";
const INNER: &str = "10.0.0.2:4342";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse::<Prefix>().unwrap() }
}

fn key(id: u8) -> Key {
    Key::new(id, Algorithm::Sha256, format!("of the RTR {id}").as_bytes())
}

const fn xtr(id: u8) -> XtrIdentity {
    XtrIdentity { xtr_id: [id; 16], site_id: 42 }
}

/// What an xTR registers: an RTR's locator, and its own, which nobody can send to.
fn record(prefix: &str, minutes: u32) -> Mapping {
    let rtr = Locator::unicast(ip(RTR), 1, 100);
    let own = Locator { local: true, reachable: false, ..Locator::unicast(at(INNER).ip(), 7, 30) };
    let mapping = Mapping::negative(eid(prefix), Ttl::from_wire(minutes), Action::NoAction);
    Mapping { locators: vec![own, rtr], ..mapping }
}

fn register(nonce: u64, records: Vec<Mapping>) -> MapRegister {
    let flags = MapRegister { proxy: true, want_notify: true, ..MapRegister::default() };
    MapRegister { nonce, records, xtr: Some(xtr(1)), ..flags }
}

struct World {
    relay: Relay,
    start: Instant,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self::with(|settings| settings)
    }

    fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let servers = vec![
            Peer { address: ip(KEYED), keys: vec![key(1), key(2)] },
            Peer { address: ip(PLAIN), keys: Vec::new() },
        ];
        let start = Instant::now();
        let settings = change(Settings::new(servers, vec![InstanceId::DEFAULT]));
        Self { relay: Relay::new(settings), start, now: start }
    }

    /// Seconds after the start.
    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start + Duration::from_secs(seconds);
        self
    }

    fn wake(&mut self) -> Vec<Output> {
        let mut todo = Vec::new();
        self.relay.step(self.now, Input::Wake, &mut todo);
        todo
    }

    /// A Map-Register comes from a translated address.
    fn registers(&mut self, from: &str, server: &str, message: &MapRegister) -> Vec<Output> {
        self.registers_as(INNER, from, server, message)
    }

    /// One of an xTR that calls itself `inner`.
    fn registers_as(&mut self, inner: &str, from: &str, server: &str, message: &MapRegister) -> Vec<Output> {
        let payload = message.clone().signed(&Key::new(1, Algorithm::Sha256, b"of the site"), Form::default());
        let server = if server.contains(':') { at(server) } else { SocketAddr::new(ip(server), CONTROL_PORT) };
        let packet = UdpPacket { source: at(inner), destination: server, ttl: 64, payload: &payload }.encode();
        let octets = ecm::encapsulate_for_rtr(&packet);
        let ecm = Ecm::parse(&octets).unwrap();
        let Ok(Message::MapRegister(message)) = Message::parse(&payload) else { panic!("a Map-Register") };
        let mut todo = Vec::new();
        let input = Input::Register { from: at(from), local: ip(RTR), ecm: &ecm, message: &message };
        self.relay.step(self.now, input, &mut todo);
        todo
    }

    /// A Map-Notify comes from a Map-Server, with one of its keys or none.
    fn notified(&mut self, from: &str, with: Option<&Key>, message: MapNotify) -> Vec<Output> {
        let octets = notify(from, with, message);
        self.notified_as(from, &octets)
    }

    fn notified_as(&mut self, from: &str, octets: &[u8]) -> Vec<Output> {
        let ecm = Ecm::parse(octets).unwrap();
        let Ok(Message::MapNotify(message)) = Message::parse(ecm.datagram.payload) else { panic!("a Map-Notify") };
        let mut todo = Vec::new();
        self.relay.step(self.now, Input::Notify { from: ip(from), ecm: &ecm, octets, message: &message }, &mut todo);
        todo
    }

    /// One round: registered, and vouched for by the Map-Server without a key.
    fn round(&mut self, from: &str, nonce: u64, records: Vec<Mapping>) -> Vec<Output> {
        let relayed = self.registers(from, PLAIN, &register(nonce, records.clone()));
        assert!(matches!(&relayed[..], [Output::Relay { .. }]), "{relayed:?}");
        self.notified(PLAIN, None, answer(nonce, records))
    }

    fn only(&self) -> Binding {
        let all: Vec<Binding> = self.relay.bindings().collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }
}

fn answer(nonce: u64, records: Vec<Mapping>) -> MapNotify {
    MapNotify { nonce, records, xtr: Some(xtr(1)), ..MapNotify::default() }
}

fn notify(from: &str, with: Option<&Key>, message: MapNotify) -> Vec<u8> {
    let payload = message.signed(&Key::new(1, Algorithm::Sha256, b"of the site"), Form::default());
    let source = SocketAddr::new(ip(from), CONTROL_PORT);
    let packet = UdpPacket { source, destination: at(INNER), ttl: 64, payload: &payload }.encode();
    match with {
        Some(key) => ecm::encapsulate_vouched(key, Form::default(), &packet),
        None => ecm::encapsulate_for_rtr(&packet),
    }
}

fn faults(outputs: &[Output]) -> Vec<RelayFault> {
    outputs.iter().filter_map(|output| if let Output::Drop(fault) = output { Some(*fault) } else { None }).collect()
}

/// What is installed: prefix, translated locators with priority and weight.
fn installed(outputs: &[Output]) -> Vec<(String, Vec<String>)> {
    let show = |locator: &Locator| {
        let port = locator.translated.map_or(0, NonZeroU16::get);
        format!("{}:{port} {}/{}", locator.address, locator.priority, locator.weight)
    };
    let one = |output: &Output| match output {
        Output::Install(mapping) => {
            Some((mapping.eid.to_string(), mapping.locators.iter().map(show).collect::<Vec<_>>()))
        }
        Output::Remove(eid) => Some((eid.to_string(), vec![])),
        _ => None,
    };
    outputs.iter().filter_map(one).collect()
}

fn delivered(outputs: &[Output]) -> Vec<(String, String)> {
    let one = |output: &Output| match output {
        Output::Deliver { to, local, .. } => Some((to.to_string(), local.to_string())),
        _ => None,
    };
    outputs.iter().filter_map(one).collect()
}

/// RTR-4, RTR-5: all five items are kept, and nothing is installed before a Map-Server has vouched; what goes on to it is the same
/// packet in an ECM with N and without R.
#[test]
fn a_binding_moves_no_data_before_its_notify() {
    let mut world = World::new();
    let message = register(100, vec![record("192.0.2.0/24", 1440)]);
    let todo = world.registers(OUTER, KEYED, &message);
    let [Output::Relay { to, octets }] = &todo[..] else { panic!("{todo:?}") };
    let ecm = Ecm::parse(octets).unwrap();
    assert_eq!((*to, ecm.for_rtr, ecm.relayed, ecm.proof), (ip(KEYED), false, true, None));
    assert_eq!((ecm.datagram.source, destination(ecm.packet).unwrap().0), (at(INNER), ip(KEYED)));
    let Ok(Message::MapRegister(inside)) = Message::parse(ecm.datagram.payload) else { panic!("a Map-Register") };
    assert_eq!((inside.nonce, inside.records), (100, message.records.clone()));

    let kept = world.only();
    assert_eq!((kept.translated, kept.rloc, kept.inner), (at(OUTER), ip(RTR), at(INNER)));
    assert_eq!((kept.xtr, kept.nonce, kept.verified, kept.eids.len()), (xtr(1), 100, false, 0));

    let todo = world.notified(KEYED, Some(&key(1)), answer(100, message.records));
    let expected = ("192.0.2.0/24".to_owned(), vec!["203.0.113.50:20001 7/30".to_owned()]);
    assert_eq!((installed(&todo), faults(&todo)), (vec![expected], vec![]));
    assert!(todo.contains(&Output::Verified { xtr: xtr(1), translated: at(OUTER) }));
    let kept = world.only();
    assert_eq!((kept.verified, kept.eids), (true, vec![eid("192.0.2.0/24")]));
}

/// RTR-7: the Map-Notify goes to the translated port as data of instance 0xFFFFFF, octet for octet as the Map-Server sent it, so
/// that the xTR can verify it.
#[test]
fn the_notify_goes_to_the_translated_port() {
    let mut world = World::new();
    world.registers(OUTER, KEYED, &register(100, vec![record("192.0.2.0/24", 1440)]));
    let octets = notify(KEYED, Some(&key(2)), answer(100, vec![record("192.0.2.0/24", 1440)]));
    let todo = world.notified_as(KEYED, &octets);
    let Some(Output::Deliver { to, local, octets: data }) = todo.last() else { panic!("{todo:?}") };
    assert_eq!((*to, *local), (at(OUTER), ip(RTR)));
    assert_eq!(data[..8], [0x08, 0, 0, 0, 0xff, 0xff, 0xff, 0]);
    assert_eq!(data[8..], *Ecm::parse(&octets).unwrap().packet);
    assert_eq!(data_map_notify::parse(data).unwrap().destination, at(INNER));
    // What is installed comes first: the xTR sends as soon as it knows.
    let places: Vec<bool> = todo.iter().map(|output| matches!(output, Output::Install(_))).collect();
    assert_eq!(places.iter().position(|is| *is), Some(0), "{todo:?}");
}

/// RTR-6: with a key shared, what does not prove itself by it is dropped, whatever its nonce; without one the nonce has to be that
/// of a Map-Register that waits there. Each has a counter of its own, and none changes anything.
#[test]
fn notifies_that_prove_nothing_are_dropped() {
    let records = || vec![record("192.0.2.0/24", 1440)];
    let stranger = Key::new(1, Algorithm::Sha256, b"another");
    let unknown = Key::new(9, Algorithm::Sha256, b"of the RTR 9");
    for (server, from, with, nonce, fault) in [
        (KEYED, KEYED, Some(&stranger), 100, RelayFault::Forged),
        (KEYED, KEYED, Some(&unknown), 100, RelayFault::Forged),
        (KEYED, KEYED, None, 100, RelayFault::Unproven),
        (KEYED, KEYED, Some(&key(1)), 101, RelayFault::Nonce), // an old one once more
        (PLAIN, PLAIN, None, 101, RelayFault::Nonce),
        (PLAIN, PLAIN, Some(&key(1)), 100, RelayFault::Forged), // proven by a key that is not shared
        (KEYED, PLAIN, None, 100, RelayFault::Nonce),           // it waits for another
        (KEYED, "240.0.254.52", None, 100, RelayFault::Unwanted),
    ] {
        let mut world = World::new();
        world.registers(OUTER, server, &register(100, records()));
        let todo = world.notified(from, with, answer(nonce, records()));
        assert_eq!(todo, [Output::Drop(fault)], "{server} {from} {nonce}");
        assert!(!world.only().verified);
        // The right one is taken still, and once.
        let right = if server == KEYED { Some(key(1)) } else { None };
        assert_eq!(delivered(&world.notified(server, right.as_ref(), answer(100, records()))).len(), 1);
        let again = world.notified(server, right.as_ref(), answer(100, records()));
        assert_eq!(again, [Output::Drop(RelayFault::Nonce)]);
    }
    // Of an xTR that nobody knows, and without an identity.
    let mut world = World::new();
    assert_eq!(world.notified(PLAIN, None, answer(100, records())), [Output::Drop(RelayFault::Unwanted)]);
    world.registers(OUTER, PLAIN, &register(100, records()));
    let unnamed = MapNotify { xtr: None, ..answer(100, records()) };
    assert_eq!(world.notified(PLAIN, None, unnamed), [Output::Drop(RelayFault::Unwanted)]);
    let other = MapNotify { xtr: Some(xtr(2)), ..answer(100, records()) };
    assert_eq!(world.notified(PLAIN, None, other), [Output::Drop(RelayFault::Unwanted)]);
    // One octet of the packet inside, and its UDP checksum: not what the Map-Server said.
    let octets = notify(KEYED, Some(&key(1)), answer(100, records()));
    world.registers(OUTER, KEYED, &register(101, records()));
    for at in 8..octets.len() {
        let mut forged = octets.clone();
        forged[at] ^= 1;
        if let Ok(ecm) = Ecm::parse(&forged)
            && let Ok(Message::MapNotify(message)) = Message::parse(ecm.datagram.payload)
        {
            let mut todo = Vec::new();
            let input = Input::Notify { from: ip(KEYED), ecm: &ecm, octets: &forged, message: &message };
            world.relay.step(world.now, input, &mut todo);
            assert_eq!(faults(&todo), [RelayFault::Forged], "octet {at}");
        }
    }
}

#[test]
fn only_what_is_named_and_for_our_map_servers_is_relayed() {
    let mut world = World::new();
    let records = vec![record("192.0.2.0/24", 1440)];
    let unnamed = MapRegister { xtr: None, ..register(1, records.clone()) };
    assert_eq!(world.registers(OUTER, KEYED, &unnamed), [Output::Drop(RelayFault::Unnamed)]);
    for server in ["240.0.254.52", "8.8.8.8", "240.0.254.50:53"] {
        let todo = world.registers(OUTER, server, &register(1, records.clone()));
        assert_eq!(todo, [Output::Drop(RelayFault::ForeignServer)], "{server}");
    }
    assert_eq!(world.relay.len(), 0);
}

/// RTR-11: what is renewed lives, what is not ends after three minutes, whatever its TTL for map-caches; an unverified one after ten
/// seconds.
#[test]
fn a_binding_lives_by_its_map_registers() {
    let mut world = World::new();
    world.round(OUTER, 1, vec![record("192.0.2.0/24", 1440), record("198.51.100.0/24", 1)]);
    // A keepalive may be longer than a TTL.
    assert_eq!(world.at(100).wake(), []);
    for (nonce, seconds, left) in [(2, 100, 2), (3, 179, 2), (4, 279, 1), (5, 458, 1)] {
        let gone = world.at(seconds).wake();
        assert_eq!(installed(&gone).len(), usize::from(seconds == 279), "{seconds}");
        let todo = world.round(OUTER, nonce, vec![record("192.0.2.0/24", 1)]);
        assert_eq!((delivered(&todo).len(), faults(&todo)), (1, vec![]), "{seconds}");
        assert_eq!(world.only().eids.len(), left, "{seconds}");
    }
    assert_eq!(world.relay.due(), Some(world.start + Duration::from_secs(638)));
    // Map-Registers alone are nothing: somebody has to vouch for them.
    world.at(630).registers(OUTER, PLAIN, &register(6, vec![record("192.0.2.0/24", 1440)]));
    let todo = world.at(638).wake();
    assert_eq!(installed(&todo), [("192.0.2.0/24".to_owned(), vec![])]);
    assert_eq!(faults(&todo), [RelayFault::Lost]);
    assert!(todo.contains(&Output::Ended { xtr: xtr(1), translated: at(OUTER) }));
    assert!(world.relay.is_empty() && world.relay.due().is_none());

    world.at(700).registers(OUTER, PLAIN, &register(7, vec![record("192.0.2.0/24", 1440)]));
    assert_eq!(world.at(709).wake(), []);
    assert_eq!(world.relay.len(), 1);
    assert_eq!(world.at(710).wake(), []);
    assert!(world.relay.is_empty(), "nobody vouched");
}

#[test]
fn what_is_taken_back_goes() {
    let mut world = World::new();
    world.round(OUTER, 1, vec![record("192.0.2.0/24", 1440), record("198.51.100.0/24", 1440)]);
    let todo = world.round(OUTER, 2, vec![record("192.0.2.0/24", 0)]);
    assert_eq!(installed(&todo), [("192.0.2.0/24".to_owned(), vec![])]);
    assert_eq!(world.only().eids, [eid("198.51.100.0/24")]);
    let todo = world.round(OUTER, 3, vec![record("198.51.100.0/24", 0)]);
    assert_eq!(delivered(&todo).len(), 1, "the xTR is told, too");
    assert_eq!((faults(&todo), world.relay.len()), (vec![], 0));
    assert!(todo.contains(&Output::Ended { xtr: xtr(1), translated: at(OUTER) }));
}

/// A NAT that forgot has another port for the xTR: once that is vouched for, and not before, it is the one.
#[test]
fn another_port_takes_over_when_it_is_verified() {
    const NEXT: &str = "203.0.113.50:20777";
    let mut world = World::new();
    world.round(OUTER, 1, vec![record("192.0.2.0/24", 1440)]);
    let todo = world.at(5).registers(NEXT, PLAIN, &register(2, vec![record("192.0.2.0/24", 1440)]));
    assert!(matches!(&todo[..], [Output::Relay { .. }]));
    let states: Vec<(SocketAddr, bool)> = world.relay.bindings().map(|one| (one.translated, one.verified)).collect();
    assert_eq!(states, [(at(OUTER), true), (at(NEXT), false)]);
    let todo = world.notified(PLAIN, None, answer(2, vec![record("192.0.2.0/24", 1440)]));
    let port = |outputs: &[Output]| installed(outputs).last().map(|(_, locators)| locators.clone());
    assert_eq!(port(&todo), Some(vec!["203.0.113.50:20777 7/30".to_owned()]));
    assert_eq!(delivered(&todo), [(NEXT.to_owned(), RTR.to_owned())]);
    assert_eq!(world.only().translated, at(NEXT));
}

/// Who copies a Map-Register on the way and sends it from elsewhere has no binding verified by the xTR's own Map-Notify, neither
/// before it came nor by having it sent again.
#[test]
fn a_copied_map_register_takes_nothing_over() {
    const THIEF: &str = "198.18.0.1:4341";
    let mut world = World::new();
    let message = register(7, vec![record("192.0.2.0/24", 1440)]);
    world.registers(OUTER, PLAIN, &message);
    assert_eq!(world.registers(THIEF, PLAIN, &message), [Output::Drop(RelayFault::Replayed)]);
    world.notified(PLAIN, None, answer(7, message.records.clone()));
    assert_eq!(world.registers(THIEF, PLAIN, &message), [Output::Drop(RelayFault::Replayed)]);
    // What another Map-Server said since changes nothing of that.
    world.registers(OUTER, KEYED, &register(6, message.records.clone()));
    world.notified(KEYED, Some(&key(1)), answer(6, message.records.clone()));
    assert_eq!(world.registers(THIEF, PLAIN, &message), [Output::Drop(RelayFault::Replayed)]);
    assert_eq!(world.only().translated, at(OUTER));
    // What the xTR calls itself is in no MAC: it is one of what it registers, and another one helps nobody where it names none.
    let other = |world: &mut World, message| world.registers_as("10.9.9.9:4342", THIEF, PLAIN, message);
    assert_eq!(other(&mut world, &message), [Output::Drop(RelayFault::ForeignInner)]);
    let named_by_none =
        || vec![Mapping { locators: vec![Locator::unicast(ip(RTR), 1, 100)], ..record("192.0.2.0/24", 9) }];
    let message = register(7, named_by_none());
    world.registers(OUTER, PLAIN, &message);
    assert_eq!(other(&mut world, &message), [Output::Drop(RelayFault::Replayed)]);
    world.notified(PLAIN, None, answer(7, named_by_none()));
    assert_eq!(other(&mut world, &message), [Output::Drop(RelayFault::Replayed)]);
    assert_eq!(world.only().translated, at(OUTER));
    // With another nonce it is relayed; the Map-Server believes nothing of it.
    world.registers(THIEF, PLAIN, &register(8, message.records));
    assert_eq!(
        world.relay.bindings().filter(|one| one.verified).map(|one| one.translated).collect::<Vec<_>>(),
        [at(OUTER)]
    );
}

/// Nonces that come next can be guessed: who sends them before the xTR does keeps it from nothing, and gets nothing of its.
#[test]
fn a_guessed_nonce_locks_nobody_out() {
    const THIEF: &str = "198.18.0.1:4341";
    let mut world = World::new();
    let records = || vec![record("192.0.2.0/24", 1440)];
    world.round(OUTER, 7, records());
    for nonce in 8..12 {
        assert_eq!(faults(&world.registers(THIEF, PLAIN, &register(nonce, records()))), []);
    }
    for nonce in 8..12 {
        assert_eq!(delivered(&world.round(OUTER, nonce, records())), [(OUTER.to_owned(), RTR.to_owned())]);
    }
    let states: Vec<(SocketAddr, bool)> = world.relay.bindings().map(|one| (one.translated, one.verified)).collect();
    assert_eq!(states, [(at(THIEF), false), (at(OUTER), true)]);
    assert_eq!(world.registers(THIEF, PLAIN, &register(11, records())), [Output::Drop(RelayFault::Replayed)]);
}

/// RTR-6: a Map-Notify is about what the Map-Register was about, and about nothing else; one that is not spends nothing.
#[test]
fn nothing_else_is_installed_than_was_registered() {
    for (server, with) in [(PLAIN, None), (KEYED, Some(key(1)))] {
        let mut world = World::new();
        let own = || vec![record("192.0.2.0/24", 1440)];
        world.registers(OUTER, server, &register(1, own()));
        let both = vec![record("192.0.2.0/24", 1440), record("0.0.0.0/0", 1440)];
        for forged in [vec![record("0.0.0.0/0", 1440)], both, vec![]] {
            let todo = world.notified(server, with.as_ref(), answer(1, forged));
            assert_eq!(todo, [Output::Drop(RelayFault::OtherPrefixes)]);
        }
        assert_eq!(delivered(&world.notified(server, with.as_ref(), answer(1, own()))).len(), 1);
    }
}

/// Who has a binding of another xTR's name verified, by a site of his own, has nothing of it: the nonces that the xTR will use are no
/// more his than a stranger's, and the xTR's Map-Notify is not for him.
#[test]
fn another_sites_key_vouches_for_nothing_else() {
    const THIEF: &str = "198.18.0.1:4341";
    let (own, his) = (|| vec![record("192.0.2.0/24", 1440)], || vec![record("198.51.100.0/24", 1440)]);
    for (server, with) in [(PLAIN, None), (KEYED, Some(key(1)))] {
        let mut world = World::new();
        world.round(THIEF, 1, his());
        // The nonce that is under way, before the xTR is known at all.
        world.registers(OUTER, server, &register(7, own()));
        let copied = world.registers(THIEF, server, &register(7, own()));
        assert_eq!(copied, [Output::Drop(RelayFault::Replayed)]);
        // With more than it registers the copy is another message, whose Map-Notify would be another one.
        world.registers(THIEF, server, &register(7, [own(), his()].concat()));
        let todo = world.notified(server, with.as_ref(), answer(7, own()));
        assert_eq!(delivered(&todo), [(OUTER.to_owned(), RTR.to_owned())]);
        let behind = |world: &World| world.relay.bindings().find(|one| one.translated == at(THIEF)).unwrap().eids;
        assert_eq!(behind(&world), [eid("198.51.100.0/24")]);
        // Nonces that come: they are the xTR's when it sends them.
        for nonce in 8..72 {
            world.registers(THIEF, server, &register(nonce, own()));
        }
        for nonce in 8..72 {
            assert_eq!(faults(&world.registers(OUTER, server, &register(nonce, own()))), []);
            let todo = world.notified(server, with.as_ref(), answer(nonce, own()));
            assert_eq!(delivered(&todo), [(OUTER.to_owned(), RTR.to_owned())]);
        }
        assert_eq!(behind(&world), [eid("198.51.100.0/24")]);
    }
    // Nor do his own nonces, which he may choose, spend any of the xTR's.
    let mut world = World::new();
    world.round(THIEF, 7, his());
    assert_eq!(delivered(&world.round(OUTER, 7, own())), [(OUTER.to_owned(), RTR.to_owned())]);
}

/// A nonce that somebody sent before an xTR that is not verified is his for ten seconds and no longer, even if he has a binding that
/// lasts; and a Map-Notify that comes later is for nobody.
#[test]
fn what_waits_for_too_long_waits_no_more() {
    const THIEF: &str = "198.18.0.1:4341";
    let own = || vec![record("192.0.2.0/24", 1440)];
    let mut world = World::new();
    world.round(THIEF, 1, vec![record("198.51.100.0/24", 1440)]);
    world.registers(THIEF, PLAIN, &register(7, own()));
    world.registers(THIEF, PLAIN, &register(8, own()));
    let guessed = world.at(9).registers(OUTER, PLAIN, &register(7, own()));
    assert_eq!(guessed, [Output::Drop(RelayFault::Replayed)]);
    assert_eq!(world.at(10).notified(PLAIN, None, answer(8, own())), [Output::Drop(RelayFault::OtherPrefixes)]);
    assert_eq!(delivered(&world.round(OUTER, 7, own())), [(OUTER.to_owned(), RTR.to_owned())]);
    // What the xTR itself waits for stays its own: a Map-Server that was away may answer a copy.
    world.registers(OUTER, PLAIN, &register(9, own()));
    let copied = world.at(100).registers(THIEF, PLAIN, &register(9, own()));
    assert_eq!(copied, [Output::Drop(RelayFault::Replayed)]);
    assert_eq!(delivered(&world.notified(PLAIN, None, answer(9, own()))), [(OUTER.to_owned(), RTR.to_owned())]);
}

/// What a site without a NAT tells its Map-Server, and somebody copies on the way, names no RTR, and is none of ours to relay.
#[test]
fn only_what_names_this_rtr_is_relayed() {
    let mut world = World::new();
    let direct = |address: &str| {
        let locators = vec![Locator { local: true, ..Locator::unicast(ip(address), 1, 100) }];
        vec![Mapping { locators, ..record("192.0.2.0/24", 1440) }]
    };
    for address in ["198.18.0.7", "240.0.254.31"] {
        let todo = world.registers(OUTER, PLAIN, &register(1, direct(address)));
        assert_eq!(todo, [Output::Drop(RelayFault::ForeignRtr)], "{address}");
    }
    assert_eq!(faults(&world.registers(OUTER, PLAIN, &register(2, direct(RTR)))), []);
    let withdrawn = vec![Mapping { ttl: Ttl::Remove, ..direct("198.18.0.7").remove(0) }];
    assert_eq!(faults(&world.registers(OUTER, PLAIN, &register(3, withdrawn))), []);
}

/// Who owns another site, and knows what an xTR calls itself, takes only his own prefixes over.
#[test]
fn another_sites_key_ends_nothing() {
    let mut world = World::new();
    world.round(OUTER, 1, vec![record("192.0.2.0/24", 1440), record("192.0.3.0/24", 1440)]);
    let todo = world.round("198.18.0.1:4341", 2, vec![record("198.51.100.0/24", 1440)]);
    assert_eq!(installed(&todo), [("198.51.100.0/24".to_owned(), vec!["198.18.0.1:4341 7/30".to_owned()])]);
    let verified = |world: &World| world.relay.bindings().filter(|one| one.verified).count();
    assert_eq!(verified(&world), 2);
    // One prefix after the other goes to where the xTR is now; then its old binding ends.
    let moved = |world: &mut World, nonce, prefix| world.round("203.0.113.50:20777", nonce, vec![record(prefix, 1440)]);
    let ended = Output::Ended { xtr: xtr(1), translated: at(OUTER) };
    let todo = moved(&mut world, 3, "192.0.2.0/24");
    assert_eq!((installed(&todo).len(), todo.contains(&ended), verified(&world)), (1, false, 3));
    let todo = moved(&mut world, 4, "192.0.3.0/24");
    assert_eq!((installed(&todo).len(), todo.contains(&ended), verified(&world)), (1, true, 2));
}

#[test]
fn nothing_comes_from_port_0() {
    let mut world = World::new();
    let todo = world.registers("203.0.113.50:0", PLAIN, &register(1, vec![record("192.0.2.0/24", 1440)]));
    assert_eq!((todo, world.relay.len()), (vec![Output::Drop(RelayFault::NoPort)], 0));
}

/// What has not changed is told again now and then, and what has at once.
#[test]
fn what_is_known_is_not_told_each_time() {
    let mut world = World::new();
    let records = || vec![record("192.0.2.0/24", 1440)];
    let mut heavier = records();
    heavier[0].locators[0].weight = 60;
    for (nonce, seconds, records, told) in [
        (1, 0, records(), 1),
        (2, 30, records(), 0),
        (3, 119, records(), 0),
        (4, 120, records(), 1),
        (5, 130, heavier, 1),
    ] {
        assert_eq!(installed(&world.at(seconds).round(OUTER, nonce, records)).len(), told, "{seconds}");
    }
}

/// What runs out together ends a part at a time, the rest at once after.
#[test]
fn the_end_of_many_is_no_single_step() {
    let mut world = World::new();
    let many = |host: u8| (0..250).map(|n| record(&format!("10.{host}.{n}.0/24"), 1440)).collect::<Vec<_>>();
    for host in 0..20 {
        let message = MapRegister { xtr: Some(xtr(host)), ..register(1, many(host)) };
        world.registers(OUTER, PLAIN, &message);
        let todo = world.notified(PLAIN, None, MapNotify { xtr: message.xtr, ..answer(1, message.records.clone()) });
        assert_eq!(installed(&todo).len(), 250);
    }
    let first = installed(&world.at(180).wake()).len();
    assert!((ENDED_MAX - 250..ENDED_MAX + 250).contains(&first), "{first}");
    assert!(world.relay.due().is_some_and(|due| due <= world.now));
    assert_eq!((first + installed(&world.wake()).len(), world.relay.len()), (5000, 0));
}

/// Two xTRs of a site, each behind a NAT of its own: both are locators of its prefix, until one is gone.
#[test]
fn xtrs_of_one_site_share_its_prefix() {
    const OTHER: &str = "198.18.0.9:4341";
    let mut world = World::new();
    world.round(OUTER, 1, vec![record("192.0.2.0/24", 1440)]);
    let second = MapRegister { xtr: Some(xtr(2)), ..register(1, vec![record("192.0.2.0/24", 1440)]) };
    world.at(60).registers(OTHER, PLAIN, &second);
    let todo = world.notified(PLAIN, None, MapNotify { xtr: second.xtr, ..answer(1, second.records.clone()) });
    let both = vec!["198.18.0.9:4341 7/30".to_owned(), "203.0.113.50:20001 7/30".to_owned()];
    assert_eq!(installed(&todo), [("192.0.2.0/24".to_owned(), both)]);
    let todo = world.at(180).wake();
    assert_eq!(installed(&todo), [("192.0.2.0/24".to_owned(), vec!["198.18.0.9:4341 7/30".to_owned()])]);
    assert_eq!(world.only().xtr, xtr(2));
}

/// A message that has no room is taken as a whole or not at all, and the xTR does not hear of it: it would send everything here.
#[test]
fn what_is_not_taken_is_not_delivered() {
    let mut world = World::with(|settings| Settings { prefixes_max: 300, ..settings });
    let mut foreign = record("192.0.2.0/24", 1440);
    foreign.eid.instance = InstanceId::new(7).unwrap();
    let todo = world.round(OUTER, 1, vec![foreign, record("192.0.2.0/24", 1440)]);
    assert_eq!((todo, world.only().verified), (vec![Output::Drop(RelayFault::ForeignInstance)], false));
    assert_eq!((world.at(10).wake(), world.relay.len()), (vec![], 0), "nobody was told that it was there");
    // As many as two messages carry.
    let many =
        |from: usize| (from..from + 200).map(|n| record(&format!("10.{}.{}.0/24", n / 250, n % 250), 9)).collect();
    assert_eq!(faults(&world.round(OUTER, 2, many(0))), []);
    assert_eq!(world.round(OUTER, 3, many(100)), [Output::Drop(RelayFault::TooMany)]);
    assert_eq!(faults(&world.round(OUTER, 4, many(0))), [], "what it has it keeps");
    assert_eq!(world.only().eids.len(), 200);
    // And all together.
    let second = |nonce, records: Vec<Mapping>| MapRegister { xtr: Some(xtr(2)), ..register(nonce, records) };
    for (nonce, records, taken) in [(1, many(101), false), (2, many(100), true)] {
        let message = second(nonce, records);
        world.registers("198.18.0.9:4341", PLAIN, &message);
        let todo = world.notified(PLAIN, None, MapNotify { xtr: message.xtr, ..answer(nonce, message.records) });
        let expected = if taken { vec![] } else { vec![RelayFault::NoRoom] };
        assert_eq!((faults(&todo), delivered(&todo).len()), (expected, usize::from(taken)));
    }
}

/// Floods are bounded, and leave what is verified alone.
#[test]
fn strangers_fill_no_table() {
    let slow = Rate { burst: 8, every: Duration::from_secs(1) };
    let records = || vec![record("192.0.2.0/24", 1440)];
    let mut world = World::with(|settings| Settings { strangers: slow, of_address_max: 4, ..settings });
    world.round(OUTER, 1, records());
    // From one address: four bindings, of xTRs that nobody knows.
    let other = |id: u8, nonce: u64| MapRegister { xtr: Some(xtr(id)), ..register(nonce, records()) };
    let faults_of =
        |world: &mut World, from: &str, message: MapRegister| faults(&world.registers(from, PLAIN, &message));
    for id in 2..5 {
        assert_eq!(faults_of(&mut world, OUTER, other(id, 1)), []);
    }
    assert_eq!(faults_of(&mut world, OUTER, other(5, 1)), [RelayFault::GaveWay]);
    let kept: Vec<u8> = world.relay.bindings().map(|one| one.xtr.xtr_id[0]).collect();
    assert_eq!(kept, [1, 3, 4, 5], "the oldest gave way, and not the verified one");
    // Altogether: what is left of the rate.
    for host in 0..3 {
        assert_eq!(faults_of(&mut world, &format!("198.18.0.{host}:1"), other(9, 2 + host)), []);
    }
    assert_eq!(faults_of(&mut world, "198.18.1.1:1", other(9, 99)), [RelayFault::Limited]);
    assert_eq!(delivered(&world.round(OUTER, 2, records())).len(), 1, "what is verified is none of them");
    // Bindings for the xTR itself, of somebody who knows its name: at one address the oldest gives way, and not the verified one.
    let mut world = World::with(|settings| Settings { bindings_max: 100, ..settings });
    world.round(OUTER, 1, records());
    for port in 1..=50 {
        let gone = if port <= STRANGERS_OF_XTR_MAX as u64 { vec![] } else { vec![RelayFault::GaveWay] };
        let message = register(100 + port, records());
        assert_eq!(faults_of(&mut world, &format!("203.0.113.50:{port}"), message), gone, "{port}");
    }
    assert_eq!(world.relay.len(), 1 + STRANGERS_OF_XTR_MAX);
    // One by one they are all.
    let next = |last: Option<&Binding>| {
        let after = last.map(|last| (last.xtr.xtr_id, last.inner.ip(), last.translated));
        world.relay.bindings_after(after).next()
    };
    let one_by_one: Vec<Binding> = std::iter::successors(next(None), |last| next(Some(last))).take(100).collect();
    assert_eq!(one_by_one, world.relay.bindings().collect::<Vec<_>>());
    assert!(world.relay.bindings().any(|one| one.verified && one.translated == at(OUTER)));
    assert_eq!(faults_of(&mut world, "203.0.113.51:1", register(99, records())), [], "elsewhere there is room");
    assert_eq!(world.at(10).wake(), []);
    assert_eq!(world.only().translated, at(OUTER));
    // And those that another site had verified under the xTR's name, at its very address, leave it room.
    for port in 1..=2 * STRANGERS_OF_XTR_MAX as u64 {
        let his = vec![record(&format!("198.51.100.{port}/32"), 1440)];
        assert_eq!(faults(&world.round(&format!("203.0.113.50:{port}"), 200 + port, his)), [], "{port}");
    }
    assert_eq!(delivered(&world.round("203.0.113.50:20777", 300, records())).len(), 1);
    // Somebody who says that he is behind the same NAT uses up the address's rate, and not the xTR's.
    let slow = Rate { burst: 2, every: Duration::from_secs(10) };
    let mut world = World::with(|settings| Settings { each: slow, ..settings });
    world.round(OUTER, 1, records());
    for (id, fault) in [(2, vec![]), (3, vec![RelayFault::Limited])] {
        assert_eq!(faults_of(&mut world, "203.0.113.50:9", other(id, 1)), fault);
    }
    for (nonce, count) in [(2, 1), (3, 1)] {
        assert_eq!(delivered(&world.round(OUTER, nonce, records())).len(), count);
    }
    assert_eq!(faults_of(&mut world, OUTER, register(4, records())), [RelayFault::Limited], "it has a rate, too");
    // And all tables.
    let mut world = World::with(|settings| Settings { bindings_max: 2, ..settings });
    let full = |host: u8| MapRegister { xtr: Some(xtr(host)), ..register(1, records()) };
    assert_eq!(faults_of(&mut world, "198.18.0.1:1", full(1)), []);
    assert_eq!(faults_of(&mut world, "198.18.0.2:1", full(2)), []);
    assert_eq!(faults_of(&mut world, "198.18.0.3:1", full(3)), [RelayFault::GaveWay]);
    assert_eq!(world.relay.bindings().map(|one| one.xtr.xtr_id[0]).collect::<Vec<_>>(), [2, 3]);
    for (all, of_address) in [(1, 9), (9, 1)] {
        let change = |settings| Settings { bindings_max: all, of_address_max: of_address, ..settings };
        let mut world = World::with(change);
        world.round(OUTER, 1, records());
        assert_eq!(faults_of(&mut world, "203.0.113.50:9", full(2)), [RelayFault::Full]);
    }
}
