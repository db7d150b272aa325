//! What each state does with each event, all of them; and what the timers are worth.

use std::net::Ipv4Addr;

use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};

use super::*;
use crate::alt::bgp::{message::RefreshKind, route::Family, settings::Families};

const CONNECTION: ConnectionId = ConnectionId(7);
const ANOTHER: ConnectionId = ConnectionId(8);
const STATES: [State; 6] = [Idle, Connect, Active, OpenSent, OpenConfirm, Established];

/// Columns: the states; a cell: the state after, and what was done.
///
/// `dial`, `open`, `keepalive`: sent or done; `4/0`: a NOTIFICATION of this code; `close`; `up`; `deliver`; `end`: told as over;
/// `fault`: counted.
#[rustfmt::skip]
const OUTGOING: [(&str, [&str; 6]); 16] = [
    //                    Idle            Connect                   Active            OpenSent                          OpenConfirm                    Established
    ("start",            ["Connect dial", "=",                      "=",              "=",                              "=",                           "="]),
    ("stop",             ["=",            "Idle close",             "Idle",           "Idle 6/2 close end",             "Idle 6/2 close end",          "Idle 6/2 close end"]),
    ("abort",            ["=",            "Idle close",             "Idle",           "Idle close end",                 "Idle close end",              "Idle close end"]),
    ("retry-expired",    ["=",            "= close end dial",       "Connect dial",   "=",                              "=",                           "="]),
    ("hold-expired",     ["=",            "=",                      "=",              "Idle fault 4/0 close end",       "Idle fault 4/0 close end",    "Idle fault 4/0 close end"]),
    ("keepalive-expired",["=",            "=",                      "=",              "=",                              "= keepalive",                 "= keepalive"]),
    ("connected",        ["=",            "OpenSent open",          "=",              "=",                              "=",                           "="]),
    ("accepted",         ["=",            "=",                      "=",              "=",                              "=",                           "="]),
    ("lost",             ["=",            "Active end",             "=",              "Active close end",               "Idle close end",              "Idle close end"]),
    ("open",             ["=",            "=",                      "=",              "OpenConfirm keepalive",          "Idle fault 5/2 close end",    "Idle fault 5/3 close end"]),
    ("bad",              ["=",            "=",                      "=",              "Idle fault 1/1 close end",       "Idle fault 1/1 close end",    "Idle fault 1/1 close end"]),
    ("collision",        ["=",            "Idle close",             "Idle",           "Idle fault 6/7 close end",       "Idle fault 6/7 close end",    "Idle fault 6/7 close end"]),
    ("notification",     ["=",            "=",                      "=",              "Idle close end",                 "Idle close end",              "Idle close end"]),
    ("keepalive",        ["=",            "=",                      "=",              "Idle fault 5/1 close end",       "Established up",              "="]),
    ("update",           ["=",            "=",                      "=",              "Idle fault 5/1 close end",       "Idle fault 5/2 close end",    "= deliver"]),
    ("refresh",          ["=",            "=",                      "=",              "Idle fault 5/1 close end",       "Idle fault 5/2 close end",    "= deliver"]),
];

/// Where one that listens differs: it neither dials nor is it in Connect.
#[rustfmt::skip]
const INCOMING: [(&str, [&str; 6]); 3] = [
    ("start",            ["Active",       "=",                      "=",              "=",                              "=",                           "="]),
    ("retry-expired",    ["=",            "= close end dial",       "=",              "=",                              "=",                           "="]),
    ("accepted",         ["=",            "=",                      "OpenSent open",  "=",                              "=",                           "="]),
];

fn event(name: &str) -> Event {
    match name {
        "start" => Event::Start,
        "stop" => Event::Stop(Notification::cease(Cease::Shutdown, "")),
        "abort" => Event::Abort(DownReason::LinkDown),
        "retry-expired" => Event::ConnectRetryExpired,
        "hold-expired" => Event::HoldExpired,
        "keepalive-expired" => Event::KeepaliveExpired,
        "connected" => Event::Connected,
        "accepted" => Event::Accepted(ANOTHER),
        "lost" => Event::Lost,
        "open" => Event::Open(session(90)),
        "bad" => Event::Bad(BgpFault::MessageMalformed, Notification::new(1, 1, &[])),
        "collision" => Event::Collision,
        "notification" => Event::Notification(Notification::new(6, 4, &[])),
        "keepalive" => Event::Keepalive,
        "update" => Event::Routes(Message::EndOfRib(Family::V4)),
        "refresh" => Event::Routes(Message::RouteRefresh { family: Family::V4, kind: RefreshKind::Request }),
        _ => unreachable!("no such event: {name}"),
    }
}

#[test]
fn every_state_does_with_every_event_what_the_table_says() {
    for direction in [Direction::Outgoing, Direction::Incoming] {
        for (name, cells) in OUTGOING {
            let row = INCOMING.iter().find(|(other, _)| direction == Direction::Incoming && *other == name);
            let cells = row.map_or(cells, |(_, cells)| *cells);
            for (state, expected) in STATES.into_iter().zip(cells) {
                let mut fsm = at(direction, state, 90);
                let actions = step(&mut fsm, event(name));
                let after = if fsm.state == state { "=".to_owned() } else { fsm.state.to_string() };
                let found = [after].into_iter().chain(actions.iter().map(shown)).collect::<Vec<_>>().join(" ");
                assert_eq!(found, expected, "{direction:?} {state} on {name}");
            }
        }
    }
}

#[test]
fn timers_run_where_they_should_and_nowhere_else() {
    let now = Instant::now();
    for (state, retry, hold, keepalive) in [
        (Idle, false, false, false),
        (Connect, true, false, false),
        (Active, true, false, false),
        (OpenSent, false, true, false),
        (OpenConfirm, false, true, true),
        (Established, false, true, true),
    ] {
        let fsm = at(Direction::Outgoing, state, 90);
        let running = [fsm.connect_retry, fsm.hold, fsm.keepalive].map(|timer| timer.is_some());
        assert_eq!(running, [retry, hold, keepalive], "{state}");
    }
    let fsm = at(Direction::Outgoing, Established, 0);
    assert_eq!(fsm.due(), None, "a hold time of 0 is none");
    let mut fsm = at(Direction::Incoming, Established, 3);
    let keepalive = fsm.keepalive.unwrap() - base();
    assert!((750..=1000).contains(&keepalive.as_millis()), "{keepalive:?}");
    assert_eq!(fsm.hold.unwrap() - base(), Duration::from_secs(3));
    assert_eq!(fsm.expired(now), None);
    assert_eq!(fsm.expired(base() + Duration::from_secs(1)), Some(Event::KeepaliveExpired));
    assert_eq!(fsm.expired(base() + Duration::from_secs(3)), Some(Event::HoldExpired));
    assert_eq!(fsm.expired(base() + Duration::from_secs(9)), None, "once");
    assert_eq!([0, 3, 90].map(patience).map(|time| time.as_secs()), [240, 12, 240]);
}

#[test]
fn jitter_takes_a_quarter_at_most_and_differs_by_seed() {
    let time = Duration::from_secs(100);
    let draw = |seed| {
        let mut random = Random(seed);
        (0..1000).map(|_| random.jitter(time)).collect::<Vec<_>>()
    };
    let one = draw(1);
    assert!(one.iter().all(|drawn| (75..=100).contains(&drawn.as_secs())));
    assert!(one.iter().any(|drawn| drawn.as_secs() < 80) && one.iter().any(|drawn| drawn.as_secs() > 95));
    assert_ne!(one, draw(2));
    assert_eq!(one, draw(1));
}

/// One instant for a whole test run.
fn base() -> Instant {
    static BASE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *BASE.get_or_init(|| Instant::now() + Duration::from_secs(10))
}

fn our_open() -> Open {
    Open {
        asn: 64512,
        hold: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        families: Families::ALL,
        route_refresh: true,
        enhanced_refresh: true,
        graceful: None,
        four_octet: true,
    }
}

fn session(hold: u16) -> Box<Session> {
    Box::new(Session {
        families: Families::ALL,
        four_octet: true,
        graceful: None,
        route_refresh: true,
        enhanced_refresh: true,
        router_id: Ipv4Addr::new(10, 0, 0, 2),
        asn: 64513,
        hold,
        connection: CONNECTION,
    })
}

fn step(fsm: &mut Fsm, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    let open = our_open();
    let mut random = Random(1);
    let connect_retry = Duration::from_secs(5);
    fsm.step(event, &mut Env { now: base(), open: &open, connect_retry, random: &mut random }, &mut actions);
    actions
}

/// A machine led into `state` by what leads there.
fn at(direction: Direction, state: State, hold: u16) -> Fsm {
    let mut fsm = Fsm::new(direction);
    if state == Idle {
        return fsm;
    }
    if direction == Direction::Incoming && state == Connect {
        // It never gets there by itself.
        fsm.state = Connect;
        fsm.connection = Some(CONNECTION);
        return fsm;
    }
    step(&mut fsm, Event::Start);
    if direction == Direction::Outgoing {
        fsm.dialled(CONNECTION);
    }
    match (direction, state) {
        (Direction::Outgoing, Active) => _ = step(&mut fsm, Event::Lost),
        (_, Connect | Active) => {}
        (Direction::Outgoing, _) => _ = step(&mut fsm, Event::Connected),
        (Direction::Incoming, _) => _ = step(&mut fsm, Event::Accepted(CONNECTION)),
    }
    if matches!(state, OpenConfirm | Established) {
        step(&mut fsm, Event::Open(session(hold)));
    }
    if state == Established {
        step(&mut fsm, Event::Keepalive);
    }
    assert_eq!(fsm.state, state);
    fsm
}

fn shown(action: &Action) -> String {
    match action {
        Action::Dial => "dial".to_owned(),
        Action::Send(_, Message::Open(_)) => "open".to_owned(),
        Action::Send(_, Message::Keepalive) => "keepalive".to_owned(),
        Action::Send(_, Message::Notification(sent)) => format!("{}/{}", sent.code, sent.subcode),
        Action::Send(_, message) => format!("{message:?}"),
        Action::Close(_) => "close".to_owned(),
        Action::Up => "up".to_owned(),
        Action::Deliver(_) => "deliver".to_owned(),
        Action::Fault(_) => "fault".to_owned(),
        Action::End(..) => "end".to_owned(),
    }
}
