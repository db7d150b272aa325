//! Good files, and each mistake with its line.

mod bgp;
mod features;
mod lisp_sec;
mod map_server;
mod nat;
mod probing;
mod proxy;
mod pubsub;

use super::*;

const FOUR_CORES: [usize; 4] = [0, 1, 2, 3];
const EXAMPLE: &str = include_str!("../../../docker/altitude.example.toml");

/// The smallest site; six lines, so that what is appended starts on line 8.
const SITE: &str = r#"rlocs = ["240.0.254.10"]
[[site-port]]
name = "eth1"
[[core-port]]
name = "eth0"
[[eid-prefix]]
prefix = "1.1.0.0/16"
"#;

fn read(text: &str) -> Result<Config, Problems> {
    parse(Path::new("x.toml"), text, Draft::default(), &Machine { cores: FOUR_CORES.to_vec() })
}

fn problems(text: &str) -> Vec<String> {
    match read(text) {
        Ok(config) => panic!("accepted: {config:?}\n{text}"),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_example_is_good_and_means_what_it_says() {
    let config = read(EXAMPLE).unwrap();
    assert_eq!(
        config.summary(),
        "1 site port, 1 core port, 1 RLOC, 2 EID-prefixes, 0 static mappings, 1 ALT tunnel, 2 ALT routes, 1 BGP neighbour, \
         0 Map-Servers, 1 worker"
    );
    assert_eq!(config.rlocs, [IpAddr::from([240, 0, 254, 10])]);
    assert_eq!(
        config.ports[0],
        Port { name: "eth1".into(), site: true, core: false, native: false, instance: InstanceId::DEFAULT }
    );
    assert_eq!(
        config.ports[1],
        Port { name: "eth0".into(), site: false, core: true, native: false, instance: InstanceId::DEFAULT }
    );
    assert_eq!(config.database[0].eid.to_string(), "1.1.0.0/16");
    assert!(config.database.iter().all(|own| own.authoritative && own.ttl.to_wire() == TTL_MINUTES));
    let locator = config.database[1].locators[0];
    assert_eq!((locator.priority, locator.weight, locator.local, locator.reachable), (PRIORITY, WEIGHT, true, true));
    let tunnel = &config.tunnels[0];
    assert_eq!((tunnel.local.to_string(), tunnel.remote.to_string()), ("240.0.254.10".into(), "240.0.254.30".into()));
    assert_eq!(tunnel.addresses, [(IpAddr::from([10, 42, 0, 1]), 30)]);
    assert!(config.routes.iter().all(|route| route.hop == Hop::Tunnel(TunnelId(0))));
}

/// Every commented-out `#key = value` of the example is valid, and is the default where the text says so.
#[test]
fn the_examples_commented_values_are_good_too() {
    let uncommented: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| match line.trim_start().strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest,
            _ => line,
        })
        .collect();
    let config = read(&uncommented.join("\n")).unwrap();
    assert_eq!(config.map_cache.len(), 2);
    assert_eq!(config.map_cache[1].action, altitude_dataplane::mapping::Action::Drop);
    assert_eq!(config.database[0].locators.len(), 2);
    assert!(!config.database[0].locators[1].local);
    let plain = read(EXAMPLE).unwrap();
    assert_eq!((config.ring, config.frames, config.hold), (plain.ring, plain.frames, plain.hold));
    let [server] = &config.map_servers[..] else { panic!("{:?}", config.map_servers) };
    assert_eq!((server.keys.len(), server.proxy, server.merge, server.form), (1, false, false, Default::default()));
    assert_eq!((config.state_dir, config.identity.xtr_id.is_some()), (plain.state_dir, true));
    assert_eq!((config.api, config.log, config.xdp, config.bind), (plain.api, plain.log, plain.xdp, plain.bind));
    assert_eq!((config.map_cache_max, config.busy_poll), (plain.map_cache_max, plain.busy_poll));
    assert_eq!((config.batch, config.source_check), (plain.batch, plain.source_check));
    assert_eq!(config.probing, plain.probing);
}

#[test]
fn defaults_are_those_the_help_names() {
    let config = read(SITE).unwrap();
    assert_eq!((config.ring, config.frames, config.map_cache_max), (RING, FRAMES, MAP_CACHE_MAX));
    assert_eq!((config.workers.as_slice(), config.control_core), ([3].as_slice(), None));
    assert_eq!((config.xdp, config.bind, config.busy_poll), (XdpMode::Auto, Bind::Auto, None));
    assert_eq!((config.hold, config.hugepages), (Hold::Queue, false));
    assert_eq!((config.batch, config.source_check, config.dscp), (64, SourceCheck::Standard, DscpName::Uniform));
    assert_eq!((config.site_routes, config.path_mtu), (SiteRoutes::Heed, PathMtuName::Link));
    assert_eq!((config.api.as_path(), config.resolver), (Path::new(API_PATH), ResolverName::BuiltIn));
    assert_eq!(config.api_read_only.as_deref(), Some(Path::new("/run/altitude/map-ro.sock")));
    assert_eq!(read(&format!("api-read-only = \"off\"\n{SITE}")).unwrap().api_read_only, None);
    assert_eq!((config.log, config.log_format), (LogLevel::Info, LogFormat::Text));
}

#[test]
fn an_alt_router_needs_neither_ports_nor_eids_nor_rlocs() {
    let text = r#"
        [[alt.tunnel]]
        name = "alt0"
        remote = "240.0.254.10"
        local = "240.0.254.30"
        [[alt.tunnel]]
        name = "alt1"
        remote = "240.0.254.20"
        local = "240.0.254.30"
        [[alt.route]]
        prefix = "1.1.0.0/16"
        via = "alt0"
        [[alt.route]]
        prefix = "2.0.0.0/8"
        via = "discard"
    "#;
    let config = read(text).unwrap();
    assert!(config.ports.is_empty() && config.database.is_empty() && config.rlocs.is_empty());
    assert_eq!(
        config.routes.iter().map(|route| route.hop).collect::<Vec<_>>(),
        [Hop::Tunnel(TunnelId(0)), Hop::Discard]
    );
}

#[test]
fn nested_eid_prefixes_one_port_for_both_roles_and_another_xtr_are_legal() {
    let text = r#"
        rlocs = ["240.0.254.10", "2001:db8:ff::10"]
        workers = "2-3,0"
        frames = 5184
        [[site-port]]
        name = "eth0"
        [[core-port]]
        name = "eth0"
        [[eid-prefix]]
        prefix = "1.1.0.0/16"
        [[eid-prefix]]
        prefix = "1.1.1.0/24"
        ttl = 10
        locators = [
            { address = "2001:db8:ff::10" },
            { address = "240.0.254.11", local = false, priority = 2, weight = 0 },
        ]
    "#;
    let config = read(text).unwrap();
    assert_eq!(config.ports.len(), 1);
    assert!(config.ports[0].site && config.ports[0].core);
    assert_eq!(config.workers, [2, 3, 0]);
    let locators = &config.database[1].locators;
    assert_eq!(locators[0].address.to_string(), "240.0.254.11", "wire order: IPv4 first");
    assert!(!locators[0].local && locators[1].local);
    assert_eq!(config.database[0].locators.len(), 2);
}

/// ITR-37.
#[test]
fn a_default_mapping_is_legal() {
    let entry = |eid: &str| format!("[[map-cache]]\neid = \"{eid}\"\nlocators = [{{ address = \"240.0.254.20\" }}]\n");
    let config = read(&format!("{SITE}{}{}", entry("0.0.0.0/0"), entry("::/0"))).unwrap();
    let eids: Vec<String> = config.map_cache.iter().map(|mapping| mapping.eid.to_string()).collect();
    assert_eq!(eids, ["0.0.0.0/0", "::/0"]);
}

#[test]
fn more_ports_get_more_frames_unless_told_otherwise() {
    let mut text = SITE.to_owned();
    for number in 2..8 {
        text += &format!("[[core-port]]\nname = \"eth{number}\"\n");
    }
    assert_eq!(read(&text).unwrap().frames, 8 * 2 * RING as usize + 1088);
    let told = format!("frames = 9280\n{text}");
    assert_eq!(
        problems(&told),
        ["x.toml:1: 9280 frames are too few for 8 ports with rings of 2048; give at least 33856, or smaller rings"]
    );
}

#[test]
fn flags_win_over_the_file() {
    let flag = |text: &str| Some(Given::by_flag(text.to_owned(), format!("--x {text}")));
    let settings = Settings {
        api: flag("/tmp/other.sock"),
        rlocs: Some(flag("240.0.254.99").into_iter().collect()),
        ..Settings::default()
    };
    let draft = Draft {
        eid_prefixes: vec![flags::eid_prefix("9.9.0.0/16").unwrap()],
        site_ports: vec![flags::site_port("veth0:0").unwrap()],
        settings,
        ..Draft::default()
    };
    let machine = Machine { cores: vec![0] };
    let config = parse(Path::new("x.toml"), SITE, draft, &machine).unwrap();
    assert_eq!(config.api, Path::new("/tmp/other.sock"));
    assert_eq!(config.api_read_only.as_deref(), Some(Path::new("/tmp/other-ro.sock")), "beside it");
    assert_eq!(config.rlocs, [IpAddr::from([240, 0, 254, 99])]);
    assert_eq!(config.database.len(), 1);
    assert_eq!(config.database[0].eid.to_string(), "9.9.0.0/16");
    assert_eq!(config.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["veth0", "eth0"]);
    assert_eq!(config.workers, [0]);
}

#[test]
fn a_flags_mistake_names_the_flag() {
    let draft = Draft { eid_prefixes: vec![flags::eid_prefix("1.1.1.1/16").unwrap()], ..Draft::default() };
    let error = parse(Path::new("x.toml"), SITE, draft, &Machine { cores: vec![0] }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--eid-prefix 1.1.1.1/16: prefix 1.1.1.1/16 has host bits set; write 1.1.0.0/16, or the length that was meant"
    );
}

/// G-13, G-14: appended to or put before [`SITE`], what is said, and in which line.
#[test]
fn each_mistake_has_its_line_and_its_remedy() {
    let after = |text: &str| format!("{SITE}{text}");
    let before = |text: &str| format!("{text}\n{SITE}");
    let cases: Vec<(String, &str)> = vec![
        // Form.
        (before("ring = "), "x.toml:1: "),
        (before("rings = 5"), "x.toml:1: unknown field `rings`; expected one of `rlocs`"),
        (before("ring = \"5\""), "x.toml:1: 'ring': invalid type: string \"5\"; expected i64"),
        (after("ring = 512"), "x.toml:8: unknown field `ring` in [[eid-prefix]]; it belongs to the top level"),
        (after("[[alt.route]]\nvia = \"alt0\""), "x.toml:8: missing field `prefix` in [[alt.route]]; add prefix = ..."),
        (after("[alt]\nneighbour = 1"), "x.toml:9: unknown field `neighbour` in [alt]; expected one of `as`"),
        (before("[map-cache]\neid = 1"), "x.toml:1: 'map-cache' is not a list of tables; write [[map-cache]]"),
        // Sites.
        (after("[[eid-prefix]]\nprefix = \"1.1.0.0/16\""), "x.toml:9: EID-prefix 1.1.0.0/16 is given twice; "),
        (
            after("[[eid-prefix]]\nprefix = \"2.2.2.2/16\""),
            "x.toml:9: prefix 2.2.2.2/16 has host bits set; write 2.2.0.0/16",
        ),
        (
            after("[[eid-prefix]]\nprefix = \"240.0.0.0/8\""),
            "x.toml:1: RLOC 240.0.254.10 lies inside our own EID-prefix 240.0.0.0/8",
        ),
        (
            before("map-resolvers = [\"1.1.0.9\"]"),
            "x.toml:1: Map-Resolver 1.1.0.9 lies inside our own EID-prefix 1.1.0.0/16",
        ),
        (after("[[eid-prefix]]\nprefix = \"2.2.0.0/33\""), "x.toml:9: prefix length 33 is longer"),
        (
            after("[[eid-prefix]]\nprefix = \"224.0.0.0/8\""),
            "x.toml:9: prefix 224.0.0.0/8 starts at a multicast address",
        ),
        (
            after("[[eid-prefix]]\nprefix = \"2.2.0.0/16\"\nttl = 0"),
            "x.toml:10: ttl 0 is out of range; give 1 to 4294967294",
        ),
        (
            after("[[eid-prefix]]\nprefix = \"2.2.0.0/16\"\ninstance = 16777216"),
            "x.toml:10: Instance-ID 16777216 is out of range; give 0 to 16777215",
        ),
        (
            after("[[eid-prefix]]\nprefix = \"2.2.0.0/16\"\ninstance = 5"),
            "x.toml:9: EID-prefix 2.2.0.0/16 is of instance 5, but no site port is",
        ),
        (
            after("[[site-port]]\nname = \"eth2\"\ninstance = 5"),
            "x.toml:9: site port eth2 is of instance 5, but no EID-prefix is",
        ),
        (
            after("locators = [{ address = \"240.0.254.11\" }]"),
            "x.toml:8: locator 240.0.254.11 of EID-prefix 1.1.0.0/16 is none of our RLOCs; add it to rlocs",
        ),
        (
            after("locators = [{ address = \"240.0.254.11\", local = false }]"),
            "x.toml:7: no locator of EID-prefix 1.1.0.0/16 is ours",
        ),
        (after("locators = []"), "x.toml:7: the locators of 1.1.0.0/16 are an empty list"),
        (
            after("locators = [{ address = \"240.0.254.10\", priority = 256 }]"),
            "x.toml:8: priority 256 is out of range; give 0 to 255",
        ),
        (SITE.replace("[\"240", "[\"240.0.254.10\", \"240"), "x.toml:1: RLOC 240.0.254.10 is given twice"),
        (SITE.replace("240.0.254.10", "127.0.0.1"), "x.toml:1: 127.0.0.1 is a loopback address"),
        (SITE.replace("240.0.254.10", "240.0.254.10/24"), "x.toml:1: '240.0.254.10/24' is not an address"),
        (SITE.replace("rlocs = [\"240.0.254.10\"]", ""), "x.toml: no RLOC; add --rloc"),
        (SITE.replace("[[core-port]]", "[[site-port]]"), "x.toml: no core port; add --core-port"),
        (String::new(), "x.toml: there is nothing to do"),
        // Ports.
        (after("[[site-port]]\nname = \"eth1\""), "x.toml:9: site port eth1 is named twice"),
        (after("[[core-port]]\nname = \"eth0\""), "x.toml:9: core port eth0 is named twice"),
        (after("[[core-port]]\nname = \"eth/0\""), "x.toml:9: 'eth/0' cannot be the name of an interface"),
        (after("[[core-port]]\nname = \"sixteen-octets-x\""), "x.toml:9: 'sixteen-octets-x' cannot be"),
        (after("[[core-port]]\nname = \"eth2\"\ninstance = 3"), "x.toml:10: a core port has no Instance-ID"),
        (
            after(&(2..17).map(|n| format!("[[core-port]]\nname = \"eth{n}\"\n")).collect::<String>()),
            "x.toml: 17 ports are more than the 16",
        ),
        // Static mappings.
        (
            after("[[map-cache]]\neid = \"3.3.0.0/16\""),
            "x.toml:9: static mapping 3.3.0.0/16 has neither locators nor an action",
        ),
        (
            after("[[map-cache]]\neid = \"3.3.0.0/16\"\naction = \"drop\"\nlocators = [{ address = \"240.0.0.9\" }]"),
            "x.toml:10: static mapping 3.3.0.0/16 has both",
        ),
        (
            after("[[map-cache]]\neid = \"3.3.0.0/16\"\naction = \"explode\""),
            "x.toml:10: action 'explode' is unknown; write one of no-action, natively-forward",
        ),
        (
            after("[[map-cache]]\neid = \"3.3.0.0/16\"\nlocators = [{ address = \"1.1.5.5\" }]"),
            "x.toml:10: locator 1.1.5.5 lies inside our own EID-prefix 1.1.0.0/16",
        ),
        (
            after("[[map-cache]]\neid = \"3.3.0.0/16\"\nlocators = [{ address = \"240.0.254.10\" }]"),
            "x.toml:10: locator 240.0.254.10 of a static mapping is our own RLOC",
        ),
        (
            after("[[map-cache]]\neid = \"1.1.5.0/24\"\naction = \"drop\""),
            "x.toml:9: static mapping 1.1.5.0/24 lies inside our own EID-prefix 1.1.0.0/16",
        ),
        (
            after(&"[[map-cache]]\neid = \"3.3.0.0/16\"\naction = \"drop\"\n".repeat(2)),
            "x.toml:12: static mapping 3.3.0.0/16 is given twice",
        ),
        // ALT.
        (
            after("[[alt.tunnel]]\nname = \"alt0\"\nremote = \"240.0.254.10\""),
            "x.toml:10: tunnel alt0 ends where it starts",
        ),
        (
            after("[[alt.tunnel]]\nname = \"alt0\"\nremote = \"1.1.0.1\""),
            "x.toml:9: remote end 1.1.0.1 of tunnel alt0 lies inside our own EID-prefix",
        ),
        (after("[[alt.tunnel]]\nname = \"alt0\"\nremote = \"2001:db8::1\""), "x.toml:10: tunnel alt0 has no local end"),
        (
            after("[[alt.tunnel]]\nname = \"alt0\"\nremote = \"2001:db8::1\"\nlocal = \"240.0.254.10\""),
            "x.toml:10: tunnel alt0 goes from 240.0.254.10 to 2001:db8::1",
        ),
        (after("[[alt.tunnel]]\nname = \"eth0\"\nremote = \"240.0.254.30\""), "x.toml:9: tunnel name eth0 is taken"),
        (
            after(
                "[[alt.tunnel]]\nname = \"a\"\nremote = \"240.0.254.30\"\n[[alt.tunnel]]\nname = \"a\"\nremote = \"240.0.254.31\"",
            ),
            "x.toml:12: tunnel a is given twice",
        ),
        (
            after(
                "[[alt.tunnel]]\nname = \"a\"\nremote = \"240.0.254.30\"\n[[alt.tunnel]]\nname = \"b\"\nremote = \"240.0.254.30\"",
            ),
            "x.toml:12: tunnel b has the same ends and key",
        ),
        (
            after("[[alt.tunnel]]\nname = \"a\"\nremote = \"240.0.254.30\"\nkey = -1"),
            "x.toml:11: GRE key -1 is out of range",
        ),
        (
            after("[[alt.tunnel]]\nname = \"a\"\nremote = \"240.0.254.30\"\naddresses = [\"10.0.0.1\"]"),
            "x.toml:11: '10.0.0.1' is not an interface address",
        ),
        (
            after("[[alt.route]]\nprefix = \"0.0.0.0/0\"\nvia = \"alt9\""),
            "x.toml:10: ALT route leads to tunnel alt9, which is not defined",
        ),
        (
            after(&"[[alt.route]]\nprefix = \"0.0.0.0/0\"\nvia = \"discard\"\n".repeat(2)),
            "x.toml:12: ALT route 0.0.0.0/0 is given twice",
        ),
        // Tuning.
        (before("workers = \"0,0\""), "x.toml:1: core 0 is listed twice"),
        (before("workers = \"2-9\""), "x.toml:1: core 4 is not one this process may use; choose from 0, 1, 2, 3"),
        (before("workers = \"3-2\""), "x.toml:1: core range 3-2 runs backwards; write 2-3"),
        (before("workers = \"all\""), "x.toml:1: 'all' is not a list of cores"),
        (before("control-core = 4"), "x.toml:1: core 4 is not one"),
        (before("ring = 1000"), "x.toml:1: ring 1000 is not a power of two; give 512 or 1024"),
        (before("ring = 32"), "x.toml:1: ring 32 is out of range; give 64 to 32768"),
        (
            before("frames = 4096"),
            "x.toml:1: 4096 frames are too few for 2 ports with rings of 2048; give at least 9280",
        ),
        (before("map-cache-max = 0"), "x.toml:1: map-cache-max 0 is out of range"),
        (before("xdp = \"fast\""), "x.toml:1: XDP mode 'fast' is unknown; write one of auto, native, generic"),
        (before("bind = \"zero\""), "x.toml:1: bind mode 'zero' is unknown"),
        (before("hold = \"keep\""), "x.toml:1: hold 'keep' is unknown; write one of drop, queue"),
        (before("batch = 4"), "x.toml:1: batch 4 is out of range; give 8 to 256"),
        (
            before("source-check = \"strict\""),
            "x.toml:1: source check 'strict' is unknown; write one of standard, notify, secure",
        ),
        (before("dscp = \"short\""), "x.toml:1: DSCP model 'short' is unknown; write one of uniform, pipe"),
        (before("path-mtu = \"guess\""), "x.toml:1: path-mtu 'guess' is unknown; write one of link, learn"),
        (before("log = \"loud\""), "x.toml:1: log level 'loud' is unknown"),
        (before("busy-poll = 99999"), "x.toml:1: busy-poll 99999 is out of range; give 0 to 10000"),
        (before("api = \"/run/\""), "x.toml:1: '/run/' cannot be the path of a socket"),
        (before("api-read-only = \"/run/\""), "x.toml:1: '/run/' cannot be the path of a socket"),
        (
            before("api-read-only = \"/run/altitude/map.sock\""),
            "x.toml:1: '/run/altitude/map.sock' is the socket for writing and the one for reading; give api-read-only",
        ),
        (before(&format!("api = \"/{}.sock\"", "x".repeat(100))), "x.toml:1: '/xxxxxxxxxx"),
        (before("resolver = \"maybe\""), "x.toml:1: resolver 'maybe' is unknown; write one of built-in, off"),
    ];
    for (text, said) in cases {
        let found = problems(&text);
        assert!(
            found.iter().any(|problem| problem.starts_with(said)),
            "\n{said}\nis not among\n{found:#?}\nfor\n{text}"
        );
        assert_eq!(found.len(), 1, "{found:#?}\nfor\n{text}");
    }
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_lines_and_without_false_alarms() {
    let text = r#"ring = 1000
rlocs = ["nowhere"]
colour = "red"
[[core-port]]
name = 7
[[site-port]]
name = "eth1"
speed = 10
[[eid-prefix]]
prefix = "1.1.1.1/16"
ttl = "long"
instance = "x"
[[alt.tunnel]]
name = "alt0"
[[alt.route]]
prefix = "0.0.0.0/0"
via = "alt0"
"#;
    let places: Vec<String> = problems(text).iter().map(|p| p.split(": ").next().unwrap().to_owned()).collect();
    // The tunnel without a remote is told; the route to it is no second mistake. A bad element's values are not read.
    assert_eq!(places, [1, 2, 3, 5, 8, 11, 12, 13].map(|line| format!("x.toml:{line}")));
}

#[test]
fn an_unreadable_file_is_one_problem() {
    let error = load(Some(Path::new("/nonexistent/altitude.toml")), Draft::default(), &Machine::here()).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/altitude.toml: cannot be read: No such file"), "{error}");
}
