//! The speaker and the sources of EID routes.

use std::time::Duration;

use super::*;
use crate::{
    alt::bgp::{
        route::PeerId,
        settings::{Families, MaxPrefixes, MaxPrefixesAction, NeighborSettings, Password},
    },
    os::bgp_socket::FarEnd,
};

/// An ALT router with two tunnels and two neighbours; what is appended starts on line 18.
const ALT: &str = r#"rlocs = ["240.0.254.30"]
[[alt.tunnel]]
name = "alt0"
remote = "240.0.254.10"
addresses = ["10.42.0.2/30", "fd00:42::2/64"]
[[alt.tunnel]]
name = "alt1"
remote = "240.0.254.20"
addresses = ["10.42.1.2/30"]
[alt]
as = 64530
[[alt.neighbor]]
address = "10.42.0.1"
as = 64510
[[alt.neighbor]]
address = "10.42.1.1"
as = 64520
"#;

#[test]
fn neighbours_with_nothing_but_defaults() {
    let config = read(ALT).unwrap();
    let speaker = config.speaker.as_ref().unwrap();
    assert_eq!((speaker.asn, speaker.router_id.to_string().as_str(), speaker.restarting), (64530, "10.42.0.2", false));
    assert!(speaker.originate.is_empty() && speaker.aggregates.is_empty());
    let first = &speaker.neighbors[0];
    assert_eq!((first.name.as_str(), first.asn, first.tunnel), ("10.42.0.1", 64510, TunnelId(0)));
    assert_eq!((first.local.to_string().as_str(), first.tunnel_addresses.len()), ("10.42.0.2", 2));
    assert_eq!((first.hold, first.connect_retry, first.passive, first.families), (90, 5, false, Families::ALL));
    assert_eq!((&first.password, first.max_prefixes, first.dampening), (&None, None, None));
    assert!(first.graceful_restart && first.import.0.is_empty() && first.export.0.is_empty());
    assert_eq!(speaker.neighbors[1].tunnel, TunnelId(1));
    assert_eq!(config.ribs, BTreeMap::from([(InstanceId::DEFAULT, RibSource::Embedded)]));
}

#[test]
fn a_neighbour_with_all_there_is() {
    let text = format!(
        r#"{ALT}
name = "east"
password = "schlüssel"
ttl-security = true
hold = 3
connect-retry = 1
advertisement-interval = 5
passive = true
families = ["ipv6"]
max-prefixes = 100
max-prefixes-action = "idle"
import = ["deny 10.9.0.0/16 le 32", "permit 10.0.0.0/8 le 24", "permit ::/0 ge 16", "permit 10.0.0.0/8"]
export = []
graceful-restart = false
dampening = true
default-originate = true
[[alt.aggregate]]
prefix = "10.0.0.0/8"
components = ["10.42.1.1", "10.42.0.1", "10.42.1.1"]
summary-only = true
[[alt.route]]
prefix = "10.77.0.0/16"
via = "discard"
announce = true
"#
    );
    let config = read(&text).unwrap();
    let speaker = config.speaker.as_ref().unwrap();
    let east = &speaker.neighbors[1];
    assert_eq!((east.name.as_str(), revealed(east), east.ttl_security), ("east", Some("schlüssel"), true));
    assert_eq!((east.hold, east.connect_retry, east.advertisement_interval), (3, 1, Duration::from_secs(5)));
    assert_eq!((east.passive, east.families), (true, Families { v4: false, v6: true }));
    assert_eq!(east.max_prefixes, Some(MaxPrefixes { limit: 100, action: MaxPrefixesAction::Idle }));
    let rules: Vec<_> =
        east.import.0.iter().map(|rule| (rule.permit, rule.prefix.to_string(), rule.ge, rule.le)).collect();
    let rule = |permit, prefix: &str, ge, le| (permit, prefix.to_owned(), ge, le);
    assert_eq!(
        rules,
        [
            rule(false, "10.9.0.0/16", 16, 32),
            rule(true, "10.0.0.0/8", 8, 24),
            rule(true, "::/0", 16, 128),
            rule(true, "10.0.0.0/8", 8, 8),
        ]
    );
    assert!(!east.graceful_restart && east.dampening.is_some() && east.default_originate);
    let aggregate = &speaker.aggregates[0];
    assert_eq!((aggregate.eid.to_string().as_str(), aggregate.summary_only), ("10.0.0.0/8", true));
    assert_eq!(aggregate.components, [PeerId(0), PeerId(1)]);
    assert_eq!(speaker.originate.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.77.0.0/16"]);
}

#[test]
fn our_own_eid_prefixes_are_announced_unless_told_otherwise() {
    let site =
        format!("{SITE}[[alt.tunnel]]\nname = \"alt0\"\nremote = \"240.0.254.30\"\naddresses = [\"fd00::1/64\"]\n");
    let speaker = |keys: &str| read(&format!("{site}[alt]\nas = 64510\n{keys}")).unwrap().speaker.unwrap();
    let with = speaker("");
    assert_eq!(with.originate.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1.1.0.0/16"]);
    assert_eq!(with.router_id.to_string(), "240.0.254.10", "no tunnel has an IPv4 address");
    let without = speaker("announce-database = false\nrouter-id = \"1.2.3.4\"\nrestart-time = 7");
    assert!(without.originate.is_empty());
    assert_eq!((without.router_id.to_string().as_str(), without.restart_time), ("1.2.3.4", 7));
}

#[test]
fn each_instance_has_its_source() {
    let sources = |text: &str| -> Vec<String> {
        let config = read(text).unwrap();
        config.ribs.iter().map(|(instance, source)| format!("{instance} {source}")).collect()
    };
    let plain = ALT.split("[alt]").next().unwrap();
    assert_eq!(sources(plain), ["0 static"]);
    assert_eq!(sources(&format!("{plain}[alt]\nrib = \"netlink:table=4342\"")), ["0 netlink:table=4342"]);
    let several = "instance = 7\n[[alt.rib]]\ninstance = 5\nsource = \"netlink:table=4343\"\n[[alt.route]]\nprefix = \"::/0\"\n\
                   via = \"alt1\"\ninstance = 9\n";
    assert_eq!(sources(&format!("{ALT}{several}")), ["0 embedded", "5 netlink:table=4343", "7 embedded", "9 static"]);
}

#[test]
fn a_password_may_lie_in_a_file_of_its_own() {
    let folder = std::env::temp_dir().join(format!("altitude-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("alt.toml");
    let text = format!("{ALT}password-file = \"alt1.key\"\n");
    let load = |password: &[u8]| {
        std::fs::write(folder.join("alt1.key"), password).unwrap();
        parse(&path, &text, Draft::default(), &Machine { cores: vec![0] })
    };
    let speaker = load(b"secret word\nsecond line\n").unwrap().speaker.unwrap();
    assert_eq!(revealed(&speaker.neighbors[1]), Some("secret word"));
    for (password, said) in [
        (&b"\n"[..], "the password of neighbour 10.42.1.1 is empty; give 1 to 80 octets"),
        (&[b'x'; 81], "the password of neighbour 10.42.1.1 is too long; give 1 to 80 octets"),
        (b"secret\0word", "the password of neighbour 10.42.1.1 contains a NUL character"),
        (b"secret\xff", "alt1.key cannot be read: it is not text; give the path"),
    ] {
        let error = load(password).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:18: ", path.display())) && error.contains(said), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let error = parse(&path, &text, Draft::default(), &Machine { cores: vec![0] }).unwrap_err().to_string();
    assert!(error.contains("alt1.key cannot be read: No such file"), "{error}");
}

/// ALT-2, ALT-3, ALT-4, ALT-8: appended to [`ALT`], what is said, and in which line.
#[test]
fn each_mistake_has_its_line_and_its_remedy() {
    let neighbor = |address: &str, more: &str| format!("{ALT}[[alt.neighbor]]\naddress = \"{address}\"\n{more}");
    let after = |text: &str| format!("{ALT}{text}");
    let alt = |from: &str, to: &str| ALT.replace(from, to);
    let cases: Vec<(String, &str)> = vec![
        // The speaker.
        (alt("as = 64530", "as = 0"), "x.toml:11: our AS 0 is out of range; give 1 to 4294967295"),
        (alt("as = 64530", "as = 23456"), "x.toml:11: AS 23456 stands for AS numbers of four octets; give one for"),
        (alt("as = 64530", "as = 65535"), "x.toml:11: AS 65535 is reserved; give one for private use"),
        (
            alt("as = 64530", ""),
            "x.toml:13: there are BGP neighbours, but no AS of ours; add as = N to [alt], or --alt-as",
        ),
        (alt("as = 64530", "as = 64530\nrouter-id = \"0.0.0.0\""), "x.toml:12: '0.0.0.0' cannot be a router ID; write"),
        (alt("as = 64530", "as = 64530\nrouter-id = \"fd00::1\""), "x.toml:12: 'fd00::1' cannot be a router ID; write"),
        (alt("as = 64530", "as = 64530\nrestart-time = 4096"), "x.toml:12: restart-time 4096 is out of range"),
        (
            alt("as = 64530", "as = 64530\nrib = 5"),
            "x.toml:12: 'rib': invalid type: integer `5` in [alt]; expected a string",
        ),
        // ALT-3: neighbours are behind tunnels.
        (
            neighbor("192.0.2.1", "as = 1"),
            "x.toml:19: neighbour 192.0.2.1 is on no tunnel's subnet; BGP runs through tunnels only: give an address on a \
             subnet of 10.42.0.2/30, fd00:42::2/64, 10.42.1.2/30",
        ),
        (neighbor("10.42.0.2", "as = 1"), "x.toml:19: neighbour 10.42.0.2 is our own address on tunnel alt0; give the"),
        (neighbor("fe80::1", "as = 1"), "x.toml:19: fe80::1 is a link-local address"),
        (neighbor("10.42.0.1/30", "as = 1"), "x.toml:19: '10.42.0.1/30' is not an address"),
        (neighbor("10.42.0.1", "as = 1"), "x.toml:19: neighbour 10.42.0.1 is given twice; keep one"),
        (
            alt("10.42.1.2/30", "10.42.0.6/29")
                .replace("10.42.0.2/30", "10.42.0.2/29")
                .replace("10.42.1.1", "10.42.0.5"),
            "x.toml:13: neighbour 10.42.0.1 is on a subnet of tunnel alt0 and of alt1; give each tunnel a subnet of its own",
        ),
        // Its session.
        (neighbor("fd00:42::1", ""), "x.toml:18: missing field `as` in [[alt.neighbor]]; add as = ..."),
        (neighbor("fd00:42::1", "as = 0"), "x.toml:20: the neighbour's AS 0 is out of range"),
        (
            neighbor("fd00:42::1", "as = 64530"),
            "x.toml:19: neighbour fd00:42::1 has our own AS 64530; each ALT router is",
        ),
        (after("hold = 2"), "x.toml:18: a hold time of 2 s is too short for BGP; give 3 or more, or 0"),
        (after("hold = 65536"), "x.toml:18: hold 65536 is out of range"),
        (after("connect-retry = 0"), "x.toml:18: connect-retry 0 is out of range; give 1 to 3600"),
        (after("advertisement-interval = -1"), "x.toml:18: advertisement-interval -1 is out of range; give 0 to 600"),
        (after("name = \"\""), "x.toml:18: the name of a neighbour is empty"),
        (after("password = \"\""), "x.toml:18: the password of neighbour 10.42.1.1 is empty; give 1 to 80 octets"),
        (
            after("password = \"a\"\npassword-file = \"b\""),
            "x.toml:19: neighbour 10.42.1.1 has both a password and a password file; keep one",
        ),
        (after("families = [\"ipx\"]"), "x.toml:18: address family 'ipx' is unknown; write ipv4 or ipv6"),
        (after("families = []"), "x.toml:16: the families of neighbour 10.42.1.1 are an empty list; name ipv4"),
        (after("instance = -1"), "x.toml:18: Instance-ID -1 is out of range"),
        // What it may announce.
        (after("max-prefixes = 0"), "x.toml:18: max-prefixes 0 is out of range"),
        (
            after("max-prefixes-action = \"warn\""),
            "x.toml:18: max-prefixes-action without max-prefixes; add max-prefixes",
        ),
        (
            after("max-prefixes = 5\nmax-prefixes-action = \"restart=0\""),
            "x.toml:19: max-prefixes-action 'restart=0' is unknown; write warn, idle, or restart=SECONDS",
        ),
        (
            after("import = [\"10.0.0.0/8\"]"),
            "x.toml:18: prefix-list rule \"10.0.0.0/8\" says neither permit nor deny; write",
        ),
        (after("import = [\"permit\"]"), "x.toml:18: prefix-list rule \"permit\" has no prefix; write permit or deny"),
        (after("export = [\"permit any\"]"), "x.toml:18: prefix-list rule \"permit any\" is no rule: "),
        (
            after("export = [\"permit 10.1.0.0/8\"]"),
            "x.toml:18: prefix-list rule \"permit 10.1.0.0/8\" has host bits set in 10.1.0.0/8; write 10.0.0.0/8",
        ),
        (
            after("export = [\"permit 10.0.0.0/8 le\"]"),
            "x.toml:18: prefix-list rule \"permit 10.0.0.0/8 le\" has le without a length",
        ),
        (
            after("export = [\"permit 10.0.0.0/8 le 24 le 25\"]"),
            "x.toml:18: prefix-list rule \"permit 10.0.0.0/8 le 24 le 25\" has le twice",
        ),
        (
            after("export = [\"permit 10.0.0.0/8 eq 24\"]"),
            "x.toml:18: prefix-list rule \"permit 10.0.0.0/8 eq 24\" has a word 'eq' that means nothing here",
        ),
        (
            after("export = [\"permit 10.0.0.0/8 ge 25 le 24\"]"),
            "x.toml:18: prefix-list rule \"permit 10.0.0.0/8 ge 25 le 24\" can match nothing: it asks for 25 to 24 bits; \
             lengths go up from 8 to ge, to le, to 32",
        ),
        (
            after("export = [\"permit 10.0.0.0/8 le 33\"]"),
            "x.toml:18: prefix-list rule \"permit 10.0.0.0/8 le 33\" can match",
        ),
        (
            after("export = [\"permit 10.0.0.0/8 le 7\"]"),
            "x.toml:18: prefix-list rule \"permit 10.0.0.0/8 le 7\" can match",
        ),
        // ALT-8: aggregates of what our neighbours announce.
        (
            after("[[alt.aggregate]]\nprefix = \"10.0.0.0/8\"\ncomponents = []"),
            "x.toml:19: aggregate 10.0.0.0/8 has no components; name the neighbours that announce its parts",
        ),
        (
            after("[[alt.aggregate]]\nprefix = \"10.0.0.0/8\"\ncomponents = [\"10.42.7.1\"]"),
            "x.toml:20: component 10.42.7.1 of aggregate 10.0.0.0/8 is no neighbour of ours; write the address of an",
        ),
        (
            after("[[alt.aggregate]]\nprefix = \"10.0.0.0/8\"\ninstance = 5\ncomponents = [\"10.42.0.1\"]"),
            "x.toml:21: component 10.42.0.1 of aggregate [5]10.0.0.0/8 is a neighbour of instance 0; name neighbours of",
        ),
        (
            after(&"[[alt.aggregate]]\nprefix = \"10.0.0.0/8\"\ncomponents = [\"10.42.0.1\"]\n".repeat(2)),
            "x.toml:22: aggregate 10.0.0.0/8 is given twice; keep one",
        ),
        // Sources.
        (
            after("[[alt.rib]]\nsource = \"quagga\""),
            "x.toml:19: source of EID routes 'quagga' is unknown; write static, embedded or netlink:table=N",
        ),
        (
            after("[[alt.rib]]\nsource = \"static\""),
            "x.toml:19: instance 0 has BGP neighbours, but its EID routes come from static; write embedded, or take",
        ),
        (
            after("[[alt.rib]]\ninstance = 5\nsource = \"netlink:table=254\""),
            "x.toml:20: table 254 is one of the kernel's own; EID routes must not meet those of hosts",
        ),
        (
            after("[[alt.rib]]\ninstance = 5\nsource = \"static\"\n[[alt.rib]]\ninstance = 5\nsource = \"static\""),
            "x.toml:23: two sources of EID routes for instance 5; keep one",
        ),
        (
            after(
                "[[alt.rib]]\ninstance = 5\nsource = \"netlink:table=7\"\n[[alt.rib]]\ninstance = 6\nsource = \"netlink:table=7\"",
            ),
            "x.toml:20: instances 5, 6 would share table 7; their EIDs may overlap",
        ),
        (
            format!("{SITE}[alt]\nrib = \"embedded\""),
            "x.toml:9: EID routes are to come from our own speaker, which has no AS; add as = N to [alt]",
        ),
        (
            format!("{SITE}[alt]\nrib = \"netlink:table=4342\""),
            "x.toml:9: no tunnel has an interface that routes of table 4342 could lead to; give the tunnels addresses",
        ),
        (
            format!("{SITE}[[alt.route]]\nprefix = \"2.0.0.0/8\"\nvia = \"discard\"\nannounce = true"),
            "x.toml:11: an ALT route is to be announced, but there is no AS of ours; add as = N",
        ),
        (
            format!("{SITE}[alt]\nas = 5\n[[alt.neighbor]]\naddress = \"10.0.0.1\"\nas = 6"),
            "x.toml:11: neighbour 10.0.0.1 is on",
        ),
    ];
    for (text, said) in cases {
        let found = problems(&text);
        assert!(
            found.iter().any(|problem| problem.starts_with(said)),
            "\n{said}\nis not among\n{found:#?}\nfor\n{text}"
        );
        // What two lines are both at fault for is told of both.
        let twice = said.contains("share table") || said.contains("subnet of tunnel");
        assert!(found.len() == if twice { 2 } else { 1 }, "{found:#?}\nfor\n{text}");
    }
}

#[test]
fn a_password_is_shown_nowhere() {
    let draft = toml::from_str::<NeighborDraft>("address = \"10.42.0.1\"\nas = 1\npassword = \"hunter2\"").unwrap();
    assert!(!format!("{draft:?}").contains("hunter2"));
    let text = format!("{ALT}password = \"hunter2\"\nhold = 1\n");
    assert!(!problems(&text).concat().contains("hunter2"));
    let text = format!("{ALT}password = \"hunter2\"\n");
    let config = read(&text).unwrap();
    let speaker = config.speaker.as_ref().unwrap();
    assert_eq!(revealed(speaker.neighbors.last().unwrap()), Some("hunter2"));
    let far = FarEnd::of(speaker.neighbors.last().unwrap());
    for shown in [format!("{speaker:?}"), format!("{config:#?}"), format!("{far:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

fn revealed(neighbor: &NeighborSettings) -> Option<&str> {
    neighbor.password.as_ref().map(Password::reveal)
}
