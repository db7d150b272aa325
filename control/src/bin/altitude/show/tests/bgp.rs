//! `show bgp`.

use std::time::Duration;

use altitude_control::api::{BgpRoute, BgpStatus, NeighborStatus, RouteOrigin, SessionStatus, SpeakerStatus, Stat};
use altitude_dataplane::mapping::InstanceId;
use serde_json::{Value, json};

use super::{super::bgp::Printer, Answer, eid, json as documents, text};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn status() -> BgpStatus {
    let neighbor = |address: [u8; 4], name: &str, session: Option<SessionStatus>| NeighborStatus {
        name: name.to_owned(),
        address: address.into(),
        local: [10, 42, 0, 2].into(),
        tunnel: "alt0".to_owned(),
        instance: InstanceId::DEFAULT,
        asn: 64510,
        state: if session.is_some() { "Established" } else { "Active" },
        since: seconds(3671),
        received: if session.is_some() { 900_000 } else { 0 },
        advertised: 2,
        last_down: session.is_none().then(|| (seconds(7), "the neighbour could not be connected".to_owned())),
        retry: session.is_none().then_some(seconds(4)),
        stale: session.is_none().then_some(seconds(90)),
        session,
        stats: vec![Stat::new("updates-received", 12), Stat::new("bgp-as-loop", 0)],
    };
    let session = SessionStatus {
        router_id: [10, 42, 0, 1].into(),
        hold: seconds(90),
        capabilities: vec!["ipv4-unicast".to_owned(), "graceful-restart".to_owned()],
    };
    let speaker = SpeakerStatus { asn: 64530, router_id: [10, 42, 0, 2].into(), restarting: false };
    let neighbors = vec![neighbor([10, 42, 0, 1], "10.42.0.1", Some(session)), neighbor([10, 42, 1, 1], "west", None)];
    BgpStatus { speaker: Some(speaker), neighbors }
}

fn routes() -> Vec<BgpRoute> {
    let best = BgpRoute {
        eid: eid("1.1.0.0/16", 0),
        origin: RouteOrigin::Neighbor,
        neighbor: "west".to_owned(),
        best: true,
        stale: true,
        why_not: String::new(),
        as_path: "64520".to_owned(),
        med: None,
        communities: Vec::new(),
    };
    let other = BgpRoute {
        neighbor: "10.42.0.1".to_owned(),
        best: false,
        stale: false,
        why_not: "longer AS path".to_owned(),
        as_path: "64510 {64520 64521}".to_owned(),
        med: Some(5),
        communities: vec![(64510 << 16) | 7],
        ..best.clone()
    };
    let ours = BgpRoute {
        eid: eid("2001:db8:2::/48", 7),
        origin: RouteOrigin::Local,
        neighbor: String::new(),
        best: true,
        as_path: String::new(),
        why_not: String::new(),
        med: None,
        communities: Vec::new(),
        ..other.clone()
    };
    vec![best, other, ours]
}

fn shown(only: Option<&str>) -> String {
    text::tables(&Answer::Bgp(status(), only.map(str::to_owned)), false)
}

#[test]
fn neighbours_in_a_table() {
    assert_eq!(
        shown(None),
        "\
AS 64530, router ID 10.42.0.2, 1 of 2 neighbours up

NEIGHBOR   NAME     AS  INSTANCE  TUNNEL  STATE           SINCE  RECEIVED  ADVERTISED  LAST DOWN
10.42.0.1  -     64510         0  alt0    Established  01:01:11    900000           2  -
10.42.1.1  west  64510         0  alt0    Active       01:01:11         0           2  the neighbour could not be connected
"
    );
    let silent = text::tables(&Answer::Bgp(BgpStatus::default(), None), false);
    assert!(silent.starts_with("BGP is not spoken here: give --alt-as"), "{silent}");
}

#[test]
fn one_neighbour_in_full() {
    assert_eq!(
        shown(Some("10.42.0.1")),
        "\
neighbor      10.42.0.1 (10.42.0.1), AS 64510
over          tunnel alt0, our end 10.42.0.2, instance 0
state         Established for 01:01:11
router ID     10.42.0.1
hold time     90 s
agreed on     ipv4-unicast, graceful-restart
prefixes      900000 received, 2 advertised

COUNTER           VALUE
updates-received     12
"
    );
    let west = shown(Some("west"));
    for said in [
        "last down     00:00:07 ago: the neighbour could not be connected\n",
        "next attempt  in 00:00:04\n",
        "stale routes  kept for 00:01:30 yet: the neighbour restarts\n",
    ] {
        assert!(west.contains(said), "{west}");
    }
    assert_eq!(shown(Some("10.9.9.9")), "there is no neighbour 10.9.9.9\n");
}

fn printed(json: bool, pages: &[&[BgpRoute]]) -> String {
    let mut out = Vec::new();
    let mut printer = Printer::start(json, &mut out).unwrap();
    for page in pages {
        printer.page(page).unwrap();
    }
    printer.end(false).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn routes_line_by_line() {
    let all = routes();
    let whole = "  \
  EID-PREFIX                  FROM              AS PATH                       NOTES
* 1.1.0.0/16                  west              64520                         stale
  1.1.0.0/16                  10.42.0.1         64510 {64520 64521}           longer AS path, MED 5, 64510:7
* [7]2001:db8:2::/48          (ours)            -
";
    assert_eq!(printed(false, &[&all]), whole.trim_start_matches(' ').replacen("EID-PREFIX", "  EID-PREFIX", 1));
    assert_eq!(printed(false, &[&all[..1], &[], &all[1..]]), printed(false, &[&all]), "pages leave no mark");
    assert_eq!(printed(false, &[]), "there is no BGP route\n");
}

/// The documents whole: a change here breaks users' scripts.
#[test]
fn json_is_stable() {
    let parsed: Value = serde_json::from_str(&documents::document(&Answer::Bgp(status(), None))).unwrap();
    assert_eq!(
        parsed,
        json!({
            "as": 64530, "router-id": "10.42.0.2", "restarting": false,
            "neighbors": [
                {
                    "address": "10.42.0.1", "name": "10.42.0.1", "as": 64510, "instance": 0, "tunnel": "alt0",
                    "local": "10.42.0.2", "state": "Established", "since": 3671, "router-id": "10.42.0.1", "hold": 90,
                    "capabilities": ["ipv4-unicast", "graceful-restart"], "received": 900_000, "advertised": 2,
                    "last-down": null, "retry": null, "stale": null,
                    "counters": { "updates-received": 12, "bgp-as-loop": 0 },
                },
                {
                    "address": "10.42.1.1", "name": "west", "as": 64510, "instance": 0, "tunnel": "alt0",
                    "local": "10.42.0.2", "state": "Active", "since": 3671, "router-id": null, "hold": null,
                    "capabilities": [], "received": 0, "advertised": 2,
                    "last-down": { "ago": 7, "reason": "the neighbour could not be connected" }, "retry": 4, "stale": 90,
                    "counters": { "updates-received": 12, "bgp-as-loop": 0 },
                },
            ],
        })
    );
    let all = routes();
    let parsed: Value = serde_json::from_str(&printed(true, &[&all[..1], &all[1..]])).unwrap();
    assert_eq!(
        parsed,
        json!({ "routes": [
            {
                "eid": "1.1.0.0/16", "instance": 0, "origin": "neighbor", "neighbor": "west", "best": true, "why-not": null,
                "stale": true, "as-path": "64520", "med": null, "communities": [],
            },
            {
                "eid": "1.1.0.0/16", "instance": 0, "origin": "neighbor", "neighbor": "10.42.0.1", "best": false,
                "why-not": "longer AS path", "stale": false, "as-path": "64510 {64520 64521}", "med": 5,
                "communities": ["64510:7"],
            },
            {
                "eid": "2001:db8:2::/48", "instance": 7, "origin": "local", "neighbor": null, "best": true, "why-not": null,
                "stale": false, "as-path": "", "med": null, "communities": [],
            },
        ] })
    );
    assert_eq!(printed(true, &[]), "{ \"routes\": [] }\n");
}
