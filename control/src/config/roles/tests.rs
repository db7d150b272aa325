//! Roles as they are written, and mistakes in them.

use std::{path::Path, time::Duration};

use crate::{
    alt::{datagrams::Unreachable, keepalive},
    config::{Config, Draft, Machine, parse},
    rate::Rate,
};

const ALL: &str = r#"
rlocs = ["240.0.254.1"]
map-resolvers = ["240.0.254.40", "240.0.254.41"]
petrs = ["240.0.254.60"]

[alt]
unreachable = "icmp"
ingress-rate = 1000

[[alt.tunnel]]
name = "alt0"
remote = "240.0.254.10"
ingress-rate = 10
keepalive = 10
keepalive-losses = 5

[[alt.tunnel]]
name = "alt1"
remote = "240.0.254.20"
keepalive = 0

[map-resolver]
clients = ["240.0.254.0/24"]
client-rate = 50
eid-rate = 5

[[site]]
name = "one"
eid-prefixes = ["10.1.1.0/24", "2001:db8:1::/48"]
more-specifics = true
etrs = ["240.0.254.21", "240.0.254.22"]
instance = 5

[[site]]
name = "two"
eid-prefixes = ["10.1.1.0/24"]
etrs = ["240.0.254.23"]
"#;

fn read(text: &str) -> Result<Config, Vec<String>> {
    let machine = Machine { cores: vec![0] };
    parse(Path::new("x.toml"), text, Draft::default(), &machine)
        .map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

fn per_second(count: u32) -> Rate {
    Rate { burst: count, every: Duration::from_secs(1) / count }
}

#[test]
fn every_role_means_what_it_says() {
    let config = read(ALL).unwrap();
    let roles = &config.roles;
    assert_eq!(
        roles.map_resolvers,
        ["240.0.254.40", "240.0.254.41"].map(|text| text.parse::<std::net::IpAddr>().unwrap())
    );
    assert_eq!(roles.petrs, ["240.0.254.60".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((roles.unreachable, roles.ingress), (Unreachable::Icmp, per_second(1000)));
    let options = config.tunnels[0].options;
    assert_eq!(options.ingress, Some(per_second(10)));
    assert_eq!(options.keepalive, Some(keepalive::Settings { every: Duration::from_secs(10), losses: 5 }));
    assert_eq!((config.tunnels[1].options.keepalive, options.kernel), (None, false));
    let resolver = roles.map_resolver.as_ref().unwrap();
    assert_eq!(resolver.clients, ["240.0.254.0/24".parse().unwrap()]);
    assert_eq!((resolver.each_client, resolver.each_eid), (per_second(50), per_second(5)));
    let texts: Vec<String> = roles.sites[0].eids.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["[5]10.1.1.0/24", "[5]2001:db8:1::/48"]);
    assert!(roles.sites[0].more_specifics && !roles.sites[1].more_specifics);
    assert_eq!((roles.sites[0].etrs.len(), roles.sites[1].eids[0].to_string().as_str()), (2, "10.1.1.0/24"));
    let plain = read("rlocs = [\"240.0.254.1\"]\n[map-resolver]\n").unwrap();
    assert!(plain.roles.map_resolver.is_some() && plain.roles.sites.is_empty() && plain.roles.map_resolvers.is_empty());
    assert!(plain.roles.petrs.is_empty());
    assert_eq!((plain.roles.unreachable, plain.roles.ingress), (Unreachable::NativelyForward, per_second(20_000)));
}

#[test]
fn each_mistake_is_told() {
    let base = "rlocs = [\"240.0.254.1\"]\n";
    let site = |more: &str| format!("{base}[[site]]\nname = \"one\"\neid-prefixes = [\"10.1.1.0/24\"]\n{more}");
    for (text, said) in [
        (
            format!("{base}[alt]\nunreachable = \"ping\""),
            "x.toml:3: unreachable 'ping' is unknown; write one of natively-forward, drop",
        ),
        (format!("{base}[alt]\ningress-rate = 0"), "x.toml:3: ingress-rate 0 is out of range"),
        (format!("{base}[map-resolver]\nclient = 1"), "x.toml:3: unknown field `client` in [map-resolver]"),
        (format!("{base}[map-resolver]\nclients = [\"10.0.0.1/8\"]"), "x.toml:3: prefix 10.0.0.1/8 has host bits set"),
        (site(""), "x.toml:3: site one has neither ETRs nor keys; add keys"),
        (site("etrs = [\"240.0.254.1\"]"), "x.toml:3: an ETR of site one is our own RLOC"),
        (site("etrs = [\"127.0.0.1\"]"), "x.toml:5: 127.0.0.1 is a loopback address"),
        (
            site(
                "etrs = [\"240.0.254.2\"]\n[[site]]\nname = \"two\"\neid-prefixes = [\"10.1.1.0/24\"]\netrs = [\"240.0.254.3\"]",
            ),
            "x.toml:7: EID-prefix 10.1.1.0/24 is given for two sites",
        ),
        (
            format!("map-resolvers = [\"240.0.254.1\"]\n{base}[map-resolver]\n"),
            "x.toml:1: Map-Resolver 240.0.254.1 is our own RLOC",
        ),
        (
            format!("map-resolvers = [\"2001:db8::1\"]\n{base}[map-resolver]\n"),
            "x.toml:1: no RLOC is of the family of Map-Resolver",
        ),
        (format!("petrs = [\"240.0.254.1\"]\n{base}"), "x.toml:1: PETR 240.0.254.1 is our own RLOC"),
        ("[map-resolver]\n".to_owned(), "x.toml: a Map-Resolver, a Map-Server, and whoever asks one need an address"),
        (
            format!("{base}[[alt.tunnel]]\nname = \"a\"\nremote = \"240.0.254.9\"\nkeepalive-losses = 2"),
            "x.toml:5: keepalive-losses counts keepalives, and none are sent; add keepalive = SECONDS",
        ),
        (
            format!("{base}[[alt.tunnel]]\nname = \"a\"\nremote = \"240.0.254.9\"\nkernel = true\nkeepalive = 10"),
            "x.toml:6: the kernel's GRE answers no keepalives; leave out keepalive, or kernel; BGP's hold time tells that a \
             neighbour is gone",
        ),
    ] {
        let found = read(&text).unwrap_err();
        assert!(
            found.iter().any(|problem| problem.starts_with(said)),
            "\n{said}\nis not among\n{found:#?}\nfor\n{text}"
        );
    }
}
