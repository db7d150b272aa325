//! What the tables and documents look like.

mod bgp;
mod locators;
mod nat;
mod registration;
mod sites;
mod subscriptions;

use std::time::{Duration, UNIX_EPOCH};

use altitude_control::api::{EntryLocator, Origin, RouteStatus, Scope, SourceStatus, Stat, TunnelStatus};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Mapping, Ttl};
use serde_json::json;

use super::*;

fn eid(text: &str, instance: u32) -> EidPrefix {
    EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix: text.parse().unwrap() }
}

fn entries() -> Vec<Entry> {
    let locator = |address: &str, priority| Locator::unicast(address.parse().unwrap(), priority, 50);
    let mapping = Mapping {
        eid: eid("2.2.0.0/16", 0),
        ttl: Ttl::Minutes(1440),
        version: 0,
        action: Action::NoAction,
        authoritative: true,
        locators: vec![locator("240.0.254.20", 1), locator("240.0.254.21", 255), locator("2001:db8::20", 2)],
    };
    let created = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let mut first = Entry::new(Table::Cache, &mapping, Origin::MapReply, created, |rloc| {
        rloc.is_ipv4() && !rloc.to_string().ends_with("21")
    });
    (first.left, first.packets, first.octets) = (Some(Duration::from_secs(86_399)), 20, 1680);
    let hole = Mapping::negative(eid("10.0.0.0/8", 7), Ttl::Minutes(15), Action::NativelyForward);
    let second = Entry::new(Table::Cache, &hole, Origin::Static, created, |_| false);
    vec![first, second]
}

fn counts() -> Vec<Counts> {
    let worker = |number: u16, sent| Counts {
        scope: Scope::Worker(number),
        stats: vec![
            Stat::new("encapsulated", sent),
            Stat::new("copied-octets", 0),
            Stat::new("too-big", u64::from(number)),
        ],
    };
    let control =
        Counts { scope: Scope::Control, stats: vec![Stat::new("misses", 3), Stat::new("control-malformed", 0)] };
    vec![worker(0, 1_000_000), worker(1, 5), control]
}

fn alt() -> AltStatus {
    let tunnel = TunnelStatus {
        name: "alt0".to_owned(),
        local: [240, 0, 254, 10].into(),
        remote: [240, 0, 254, 30].into(),
        key: None,
        checksum: true,
        up: true,
        addresses: vec![([10, 42, 0, 1].into(), 30)],
        stats: vec![Stat::new("received", 4), Stat::new("sent", 17)],
    };
    let route = |prefix, via: Option<&str>| RouteStatus { eid: eid(prefix, 0), via: via.map(str::to_owned) };
    let source = |instance, source: &str, ready| SourceStatus {
        instance: InstanceId::new(instance).unwrap(),
        source: source.to_owned(),
        ready,
        prefixes: 12,
    };
    AltStatus {
        tunnels: vec![tunnel],
        sources: vec![source(0, "embedded", true), source(5, "netlink:table=4342", false)],
        routes: vec![route("0.0.0.0/0", Some("alt0")), route("9.0.0.0/8", None)],
    }
}

fn port() -> PortStatus {
    PortStatus {
        name: "eth0".to_owned(),
        index: 3,
        site: true,
        core: true,
        native: false,
        instance: InstanceId::DEFAULT,
        up: true,
        zero_copy: false,
        mtu: 1500,
        mac: Some([2, 0, 0, 0, 0xab, 1]),
        stats: vec![Stat::new("received-packets", 12), Stat::new("kernel-rx-dropped", 0)],
    }
}

#[test]
fn map_cache_table() {
    assert_eq!(
        text::tables(&Answer::MapCache(entries()), false),
        "\
EID-PREFIX     TTL LEFT  ORIGIN     LOCATOR OR ACTION  PRIORITY/WEIGHT  STATE        PACKETS  OCTETS
2.2.0.0/16     23:59:59  map-reply  240.0.254.20                  1/50  up                20    1680
                                    240.0.254.21                255/50  not offered
                                    2001:db8::20                  2/50  no path
[7]10.0.0.0/8         -  static     natively-forward                                       0       0
"
    );
    assert_eq!(text::tables(&Answer::MapCache(Vec::new()), false), "the map-cache is empty\n");
}

#[test]
fn database_table() {
    let mut own = entries().remove(0);
    (own.table, own.origin) = (Table::Database, Origin::Api);
    own.locators.truncate(1);
    own.locators[0].locator.local = true;
    assert_eq!(
        text::tables(&Answer::Database(vec![own]), false),
        "\
EID-PREFIX          TTL  ORIGIN  LOCATOR       PRIORITY/WEIGHT  STATE      PACKETS  OCTETS
2.2.0.0/16  1d 00:00:00  api     240.0.254.20             1/50  local, up       20    1680
"
    );
}

/// The column of versions is there where a mapping has one.
#[test]
fn versions_have_a_column_where_there_are_some() {
    let mut list = entries();
    list[0].version = 4095;
    assert_eq!(
        text::tables(&Answer::MapCache(list.clone()), false),
        "\
EID-PREFIX     TTL LEFT  ORIGIN     VERSION  LOCATOR OR ACTION  PRIORITY/WEIGHT  STATE        PACKETS  OCTETS
2.2.0.0/16     23:59:59  map-reply     4095  240.0.254.20                  1/50  up                20    1680
                                             240.0.254.21                255/50  not offered
                                             2001:db8::20                  2/50  no path
[7]10.0.0.0/8         -  static           -  natively-forward                                       0       0
"
    );
    list.truncate(1);
    list[0].locators.truncate(1);
    assert_eq!(
        text::tables(&Answer::Database(list), false),
        "\
EID-PREFIX          TTL  ORIGIN     VERSION  LOCATOR       PRIORITY/WEIGHT  STATE  PACKETS  OCTETS
2.2.0.0/16  1d 00:00:00  map-reply     4095  240.0.254.20             1/50  up          20    1680
"
    );
}

#[test]
fn counters_hide_zeros_unless_all_are_wanted() {
    assert_eq!(
        text::tables(&Answer::Counters(counts()), false),
        "\
WORKERS         TOTAL  WORKER 0  WORKER 1
encapsulated  1000005   1000000         5
too-big             1         0         1

CONTROL THREAD  CONTROL
misses                3
"
    );
    let all = text::tables(&Answer::Counters(counts()), true);
    assert!(all.contains("\ncopied-octets        0         0         0\n"), "{all}");
    assert!(all.contains("\ncontrol-malformed        0\n"), "{all}");
    let nothing = vec![Counts { scope: Scope::Worker(0), stats: vec![Stat::new("missed", 0)] }];
    assert_eq!(text::tables(&Answer::Counters(nothing), false), "every counter is zero; --all shows them\n");
}

#[test]
fn ports_table() {
    assert_eq!(
        text::tables(&Answer::Ports(vec![port()]), false),
        "\
PORT  ROLE       INSTANCE  LINK  SOCKETS   MTU  MAC
eth0  site+core         0  up    copy     1500  02:00:00:00:ab:01

COUNTER           eth0
received-packets    12
"
    );
}

#[test]
fn alt_table() {
    assert_eq!(
        text::tables(&Answer::Alt(alt()), false),
        "\
TUNNEL  STATE  LOCAL         REMOTE        KEY  CHECKSUM  ADDRESSES     RECEIVED  SENT
alt0    up     240.0.254.10  240.0.254.30    -  yes       10.42.0.1/30         4    17

INSTANCE  ROUTES FROM         PREFIXES  STATE
       0  embedded                  12  ready
       5  netlink:table=4342        12  being read

STATIC ROUTE  VIA
0.0.0.0/0     alt0
9.0.0.0/8     discard
"
    );
}

fn parsed(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&json::document(answer)).unwrap()
}

/// The documents whole: a change here breaks users' scripts.
#[test]
fn json_is_stable() {
    let locator = |address: &str, priority, up| {
        json!({
            "address": address, "priority": priority, "weight": 50, "multicast-priority": 255, "multicast-weight": 0,
            "local": false, "reachable": true, "up": up, "taken-out": false,
        })
    };
    assert_eq!(
        parsed(&Answer::MapCache(entries())),
        json!({ "map-cache": [
            {
                "eid": "2.2.0.0/16", "instance": 0, "ttl": 86400, "left": 86399, "version": 0, "origin": "map-reply",
                "action": null, "authoritative": true, "packets": 20, "octets": 1680, "created": 1_700_000_000_123_u64,
                "used": null, "locators": [
                    locator("240.0.254.20", 1, true), locator("240.0.254.21", 255, false), locator("2001:db8::20", 2, false),
                ],
            },
            {
                "eid": "10.0.0.0/8", "instance": 7, "ttl": 900, "left": null, "version": 0, "origin": "static",
                "action": "natively-forward", "authoritative": false, "packets": 0, "octets": 0,
                "created": 1_700_000_000_123_u64, "used": null, "locators": [],
            },
        ] })
    );
    assert_eq!(parsed(&Answer::Database(Vec::new())), json!({ "database": [] }));
    assert_eq!(
        parsed(&Answer::Counters(counts())),
        json!({
            "workers": [
                { "worker": 0, "counters": { "encapsulated": 1_000_000, "copied-octets": 0, "too-big": 0 } },
                { "worker": 1, "counters": { "encapsulated": 5, "copied-octets": 0, "too-big": 1 } },
            ],
            "control": { "misses": 3, "control-malformed": 0 },
        })
    );
    assert_eq!(
        parsed(&Answer::Ports(vec![port()])),
        json!({ "ports": [{
            "name": "eth0", "index": 3, "site": true, "core": true, "native": false, "instance": 0, "up": true, "zero-copy": false,
            "mtu": 1500, "mac": "02:00:00:00:ab:01", "counters": { "received-packets": 12, "kernel-rx-dropped": 0 },
        }] })
    );
    assert_eq!(
        parsed(&Answer::Alt(alt())),
        json!({
            "tunnels": [{
                "name": "alt0", "state": "up", "local": "240.0.254.10", "remote": "240.0.254.30", "key": null, "checksum": true,
                "addresses": ["10.42.0.1/30"], "counters": { "received": 4, "sent": 17 },
            }],
            "sources": [
                { "instance": 0, "source": "embedded", "prefixes": 12, "ready": true },
                { "instance": 5, "source": "netlink:table=4342", "prefixes": 12, "ready": false },
            ],
            "routes": [
                { "eid": "0.0.0.0/0", "instance": 0, "via": "alt0" }, { "eid": "9.0.0.0/8", "instance": 0, "via": null },
            ],
        })
    );
}

#[test]
fn without_a_router_the_error_says_what_to_do() {
    let api = std::env::temp_dir().join(format!("altitude-none-{}.sock", std::process::id()));
    let error = show(&Show {
        what: What::MapCache,
        part: None,
        prefix: None,
        neighbor: None,
        json: false,
        all: false,
        watch: None,
        api,
    })
    .unwrap_err();
    assert!(error.starts_with("altitude: no router answers at "), "{error}");
    assert!(error.contains("start it with `altitude run`"), "{error}");
}

#[test]
fn a_locator_is_told_by_what_keeps_packets_from_it() {
    let unreachable = EntryLocator {
        locator: Locator { reachable: false, ..Locator::unicast([10, 0, 0, 1].into(), 1, 1) },
        up: false,
        bad: false,
    };
    let mut entry = entries().remove(0);
    entry.locators = vec![unreachable];
    assert!(text::tables(&Answer::MapCache(vec![entry]), false).contains("1/1  unreachable"));
}
