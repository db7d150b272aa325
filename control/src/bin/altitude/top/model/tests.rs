use altitude_control::api::{PortStatus, TunnelStatus};
use altitude_dataplane::mapping::InstanceId;

use super::*;

/// A router with two ports, a worker and two locators, some seconds after it was started; all its counters grow by the
/// same number a second.
pub(in crate::top) fn snapshot(start: Instant, seconds: u64, a_second: u64) -> Snapshot {
    let grown = |name: &'static str, share: u64| Stat::new(name, seconds * a_second / share);
    let worker = Counts {
        scope: Scope::Worker(0),
        stats: vec![
            grown("encapsulated", 1),
            grown("decapsulated", 2),
            grown("missed", 100),
            grown("turns", 1),
            grown("idle-turns", 4),
            grown(Reason::ActDrop.name(), 10),
            grown(Reason::SiteBadHeader.name(), 20),
        ],
    };
    let control = Counts { scope: Scope::Control, stats: vec![Stat::new("map-cache-entries", 12)] };
    let port = |name: &str, site: bool| PortStatus {
        name: name.to_owned(),
        index: 1,
        site,
        core: !site,
        native: false,
        instance: InstanceId::default(),
        up: true,
        zero_copy: false,
        mtu: 1500,
        mac: None,
        stats: vec![grown("received-packets", 1), grown("received-octets", 1), grown("kernel-rx-dropped", 50)],
    };
    let locator = |last: u8, carrying| LocatorStatus {
        address: [240, 0, 254, last].into(),
        up: true,
        why: String::new(),
        mappings: 3,
        carrying,
        probing: None,
    };
    let tunnel = TunnelStatus {
        name: "alt0".to_owned(),
        local: [240, 0, 254, 10].into(),
        remote: [240, 0, 254, 30].into(),
        key: None,
        checksum: false,
        up: true,
        addresses: Vec::new(),
        stats: Vec::new(),
    };
    Snapshot {
        at: start + Duration::from_secs(seconds),
        counts: vec![worker, control],
        ports: vec![port("eth1", true), port("eth0", false)],
        locators: vec![locator(20, 1), locator(21, 2)],
        alt: AltStatus { tunnels: vec![tunnel], ..AltStatus::default() },
        bgp: BgpStatus::default(),
        registrations: Vec::new(),
    }
}

pub(in crate::top) fn model() -> (Model, Instant) {
    (Model::new("/run/altitude/map.sock".to_owned(), Duration::from_secs(1)), Instant::now())
}

#[test]
fn rates_are_a_seconds_share_of_what_grew() {
    let (mut model, start) = model();
    model.take(snapshot(start, 10, 1000));
    assert_eq!((model.workers[0].encapsulated, model.ports[0].rates), (0.0, [0.0; 4]));
    model.take(snapshot(start, 12, 1000));
    let worker = &model.workers[0];
    assert_eq!((worker.encapsulated, worker.decapsulated, worker.missed), (1000.0, 500.0, 10.0));
    assert_eq!((worker.load, worker.dropped), (0.75, 150.0));
    assert_eq!(worker.worst, Some((Reason::ActDrop.name(), 100.0)));
    assert_eq!((model.ports[1].rates, model.ports[1].lost), ([1000.0, 1000.0, 0.0, 0.0], 20.0));
    assert_eq!((model.control("map-cache-entries"), model.hits()), (12, Some(1000.0 / 1010.0)));
}

#[test]
fn a_router_that_was_started_again_begins_at_zero() {
    let (mut model, start) = model();
    model.take(snapshot(start, 100, 1000));
    model.lost("no router answers".to_owned());
    model.lost("no router answers".to_owned());
    let mut again = snapshot(start, 1, 1000);
    again.at = start + Duration::from_secs(101);
    model.take(again);
    assert_eq!(model.workers[0].encapsulated, 1000.0);
    let events: Vec<_> = model.events.iter().map(|event| (event.tone, event.text.as_str())).collect();
    assert_eq!(events, [(Tone::Good, "the router answers again"), (Tone::Bad, "no router answers")]);
}

#[test]
fn what_changes_is_told_with_its_reason_and_what_is_down_stands_first() {
    let (mut model, start) = model();
    model.take(snapshot(start, 1, 0));
    let mut broken = snapshot(start, 2, 0);
    broken.locators[0].up = false;
    broken.locators[0].why = "no answer to RLOC-probes".to_owned();
    broken.ports[1].up = false;
    broken.alt.tunnels[0].up = false;
    broken.counts[0].stats.push(Stat::new(Reason::TooBig.name(), 4));
    model.take(broken);
    let events: Vec<_> = model.events.iter().map(|event| (event.tone, event.text.as_str())).collect();
    let drops = format!("first drops for {}: 4", Reason::TooBig.name());
    assert_eq!(
        events,
        [
            (Tone::Bad, drops.as_str()),
            (Tone::Bad, "tunnel alt0 is down"),
            (Tone::Bad, "port eth0 is down"),
            (Tone::Bad, "locator 240.0.254.20 is down: no answer to RLOC-probes"),
        ]
    );
    assert_eq!(model.now.as_ref().unwrap().locators[0].address.to_string(), "240.0.254.20");
    model.take(snapshot(start, 3, 0));
    assert_eq!(model.events[0].text, "tunnel alt0 is up");
    // Of those that are up the one that carries most comes first.
    assert_eq!(model.now.as_ref().unwrap().locators[0].address.to_string(), "240.0.254.21");
}

#[test]
fn events_locators_and_the_pace_have_their_bounds() {
    let (mut model, start) = model();
    model.take(snapshot(start, 1, 0));
    for second in 2..300 {
        let mut next = snapshot(start, second, 0);
        next.ports[0].up = second % 2 == 0;
        model.take(next);
    }
    assert_eq!(model.events.len(), EVENTS);
    model.scroll(-1);
    assert_eq!(model.first, 0);
    model.scroll(9);
    assert_eq!(model.first, 1);
    for _ in 0..10 {
        model.change_pace(true);
    }
    assert_eq!(model.every, PACE.0);
    for _ in 0..10 {
        model.change_pace(false);
    }
    assert_eq!(model.every, PACE.1);
}
