//! A LISP site and a network without LISP reach each other through a PETR and PITR, both ways, both families; judged by what
//! tshark sees on the wire.
//!
//! ```text
//! site1 ── xtr1 ─┬─ LISP ─▶ proxy ── native ─▶ inet ── beyond
//!                │  ◀─ LISP ─┘        ◀─ native ─┘
//!                └─ ms: Map-Resolver and Map-Server
//! ```

use std::{collections::BTreeSet, fs, net::IpAddr, time::Duration};

use altitude_perf::lab::{self, Capture, Kind, Lab, Link, Namespace, Packet, Pings, Router, SITES, veth};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
const MS: &str = "240.0.254.50";
const PROXY: &str = "240.0.254.30";
/// A host on the native link, and what it is the gateway to.
const INET: [&str; 2] = ["9.9.9.9", "2600:9::9"];
const BEYOND: [&str; 2] = ["9.8.8.8", "2600:8::8"];

fn join(role: &'static str) -> Namespace {
    Namespace::create(&format!("alt{}", std::process::id()), role).unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn counter(router: &Router, name: &str) -> u64 {
    let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
    lab::total(&json, name).unwrap_or_else(|| panic!("no {name} in {json}"))
}

/// The network without LISP behind the lab's third router, which is no ALT router here.
fn network(lab: &Lab) -> Namespace {
    let inet = join("inet");
    let (inside, outside) = (Link { namespace: &inet, name: "eth0" }, Link { namespace: &lab.alt, name: "native" });
    veth(inside, outside, 1500).unwrap();
    for (host, gateway, length) in [(INET[0], "9.9.9.1", 24), (INET[1], "2600:9::1", 64)] {
        inside.address(ip(host), length).unwrap();
        outside.address(ip(gateway), length).unwrap();
        let v6 = if host.contains(':') { "-6 " } else { "" };
        inet.ip(&format!("{v6}route add default via {gateway}")).unwrap();
        lab.alt.ip(&format!("{v6}route add default via {host}")).unwrap();
    }
    inet.ip("link set lo up").unwrap();
    for beyond in BEYOND {
        Link { namespace: &inet, name: "lo" }.address(ip(beyond), if beyond.contains(':') { 128 } else { 32 }).unwrap();
    }
    inet
}

fn map_server(lab: &Lab) -> (Namespace, Router) {
    let namespace = join("ms");
    veth(Link { namespace: &namespace, name: "core" }, Link { namespace: &lab.core, name: "ms" }, lab::CORE_MTU)
        .unwrap();
    lab.core.ip("link set ms master br0").unwrap();
    namespace.ip(&format!("address add {MS}/24 dev core")).unwrap();
    let site = |index: usize| {
        let [v4, v6] = SITES[index].eid_prefixes();
        let rloc = SITES[index].rloc.0;
        format!("[[site]]\nname = \"site{index}\"\neid-prefixes = [\"{v4}\", \"{v6}\"]\netrs = [\"{rloc}\"]\n")
    };
    let state = lab.folder().join("ms");
    let head = format!("rlocs = [\"{MS}\"]\nstate-dir = \"{}\"\n", state.display());
    let file = lab.folder().join("ms.toml");
    fs::write(&file, format!("{head}[map-resolver]\n{}{}", site(0), site(1))).unwrap();
    let flags = ["--config".to_owned(), file.display().to_string()];
    let router = Router::start("ms", &namespace, &flags, lab.folder()).unwrap();
    (namespace, router)
}

/// What crosses a link on the core: every data packet by its outer addresses; none of the hosts' packets goes bare.
fn tunnels(packets: &[Packet]) -> BTreeSet<(String, String)> {
    let hosts: Vec<IpAddr> = [INET, BEYOND].concat().into_iter().map(ip).collect();
    let mut found = BTreeSet::new();
    for packet in packets {
        assert!(!packet.damaged, "{packet:?}");
        let [outer, ..] = &packet.headers[..] else { continue };
        assert!(!hosts.contains(&outer.source) && !hosts.contains(&outer.destination), "bare: {packet:?}");
        if packet.kind == Kind::Data {
            found.insert((outer.source.to_string(), outer.destination.to_string()));
        }
    }
    found
}

/// PITR-3, PITR-7, PETR-1, PETR-3, ITR-30: nobody loses a packet, not even the first.
#[test]
fn a_site_and_the_rest_of_the_internet_reach_each_other() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let inet = network(&lab);
    let _server = map_server(&lab);
    let [v4, v6] = SITES[0].eid_prefixes();
    let ports = format!("--core-port core --map-resolver {MS} --workers 0");
    let flags =
        format!("--site-port site {ports} --rloc 240.0.254.10 --eid-prefix {v4} --eid-prefix {v6} --petr {PROXY}");
    let xtr = Router::start("xtr1", &lab.xtrs[0], &words(&flags), lab.folder()).unwrap();
    let flags = format!(
        "{ports} --rloc {PROXY} --native-port native --as-petr --pitr-prefix 1.0.0.0/8 --pitr-prefix 2001:db8::/32"
    );
    let proxy = Router::start("proxy", &lab.alt, &words(&flags), lab.folder()).unwrap();
    let capture = Capture::start("core", lab.core_link(0), "", lab.folder()).unwrap();

    let all = Pings { sent: 3, answered: 3 };
    for host in lab.hosts(0) {
        assert_eq!(
            lab::ping(&inet, host, 3).unwrap(),
            all,
            "strangers to {host}\n{}",
            proxy.show(&["counters"]).unwrap()
        );
    }
    for host in [INET, BEYOND].concat() {
        assert_eq!(
            lab.ping(0, ip(host), 3).unwrap(),
            all,
            "the site to {host}\n{}",
            proxy.show(&["counters"]).unwrap()
        );
    }
    let shown = proxy.show(&["map-cache"]).unwrap();
    assert!(shown.contains(&v4) && shown.contains("natively-forward"), "{shown}");
    let shown = proxy.show(&["ports"]).unwrap();
    assert!(shown.contains("native"), "{shown}");
    // 3 replies to strangers and 6 of the site's own requests, both families.
    assert_eq!((counter(&proxy, "decapsulated_native"), counter(&proxy, "encapsulated")), (18, 18));
    assert_eq!(counter(&xtr, "native"), 0, "all goes through the PETR");

    // PITR-7: no EID, and the way out leads back to where it came from.
    assert_eq!(lab::ping(&inet, ip("1.2.3.4"), 2).unwrap().answered, 0);
    assert_eq!((counter(&proxy, "native_loop"), counter(&proxy, "icmp_sent")), (2, 2));
    assert_eq!(counter(&proxy, "encapsulated"), 18);

    let packets = capture.stop_when("every echo", LIMIT, |packets| {
        packets.iter().filter(|packet| packet.kind == Kind::Data).count() >= 36
    });
    let both = [("240.0.254.10", PROXY), (PROXY, "240.0.254.10")];
    let both: BTreeSet<_> = both.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    assert_eq!(tunnels(&packets.unwrap()), both);
}

/// A router on the core that re-encapsulates.
fn stop(lab: &Lab, name: &'static str, namespace: &Namespace, rloc: &str) -> Router {
    let flags = format!("--as-rtr --core-port core --rloc {rloc} --map-resolver {MS} --workers 0");
    Router::start(name, namespace, &words(&flags), lab.folder()).unwrap()
}

/// LOC-9, RTR-1, RTR-14: what an ETR asks for in its mapping happens: its packets pass two routers, and no other's do; the first
/// packet too.
#[test]
fn a_path_is_followed_stop_by_stop() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let _server = map_server(&lab);
    let second = join("rtr2");
    let link = Link { namespace: &lab.core, name: "rtr2" };
    veth(Link { namespace: &second, name: "core" }, link, lab::CORE_MTU).unwrap();
    lab.core.ip("link set rtr2 master br0").unwrap();
    // Of IPv6 an address to ask from is enough.
    for (address, length) in [("240.0.254.31", 24), ("2001:db8:f::31", 64)] {
        Link { namespace: &second, name: "core" }.address(ip(address), length).unwrap();
    }
    let stops = [stop(&lab, "rtr1", &lab.alt, PROXY), stop(&lab, "rtr2", &second, "240.0.254.31")];
    let site = |index: usize, locators: &str| {
        let [v4, v6] = SITES[index].eid_prefixes();
        let rloc = SITES[index].rloc.0;
        let head = format!("rlocs = [\"{rloc}\"]\nmap-resolvers = [\"{MS}\"]\nworkers = \"0\"\n");
        let ports = "[[site-port]]\nname = \"site\"\n[[core-port]]\nname = \"core\"\n";
        let eid = |prefix: &str| format!("[[eid-prefix]]\nprefix = \"{prefix}\"\n{locators}");
        let name = ["xtr1", "xtr2"][index];
        let file = lab.folder().join(format!("{name}.toml"));
        fs::write(&file, format!("{head}{ports}{}{}", eid(&v4), eid(&v6))).unwrap();
        let flags = ["--config".to_owned(), file.display().to_string()];
        Router::start(name, &lab.xtrs[index], &flags, lab.folder()).unwrap()
    };
    let xtr1 = site(0, "");
    let via = format!("via = [\"{PROXY}\", \"240.0.254.31\"]");
    let _xtr2 = site(1, &format!("locators = [{{ address = \"240.0.254.20\", {via} }}]\n"));
    let captures = [0, 1].map(|index| {
        let name = ["near", "far"][index];
        Capture::start(name, lab.core_link(index), "udp port 4341", lab.folder()).unwrap()
    });

    for host in lab.hosts(1) {
        let pings = lab.ping(0, host, 3).unwrap();
        assert_eq!(pings, Pings { sent: 3, answered: 3 }, "{host}\n{}", stops[0].show(&["counters"]).unwrap());
    }
    let [near, far] =
        captures.map(|capture| capture.stop_when("every echo", LIMIT, |packets| packets.len() >= 12).unwrap());
    let pairs = |pairs: [(&str, &str); 2]| -> BTreeSet<_> {
        pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    };
    let back = ("240.0.254.20", "240.0.254.10");
    assert_eq!(tunnels(&near), pairs([("240.0.254.10", PROXY), back]));
    assert_eq!(tunnels(&far), pairs([("240.0.254.31", "240.0.254.20"), back]));
    // A hop for each router that had it in hand.
    let inside = |packets: &[Packet], from: &str| -> BTreeSet<u8> {
        let of = packets.iter().filter(|packet| packet.headers[0].source == ip(from));
        of.map(|packet| packet.headers[1].ttl).collect()
    };
    assert_eq!(inside(&near, "240.0.254.10"), [lab::PING_TTL - 1].into());
    assert_eq!(inside(&far, "240.0.254.31"), [lab::PING_TTL - 3].into());
    for router in &stops {
        assert_eq!((counter(router, "reencapsulated"), counter(router, "decapsulated")), (6, 0));
    }
    let shown = xtr1.show(&["map-cache"]).unwrap();
    assert!(shown.contains(PROXY) && shown.contains("240.0.254.31") && shown.contains("240.0.254.20"), "{shown}");
}
