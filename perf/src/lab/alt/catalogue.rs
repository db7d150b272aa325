//! The labs that `altitude-perf lab` knows.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::plan::{AggregatePlan, Bgp, Plan, Role, RouterPlan, SitePlan, TunnelPlan};
use crate::lab::Software;

/// The slides' two sites: FRR speaks BGP on their ALT router as Quagga did, Altitude itself on the xTRs.
#[must_use]
pub fn slides() -> Plan {
    let one = site("site1", ["1.1.1.1", "1.1.0.1", "1.1.0.0/16"], ["1:1::1", "1::1", "1::/48"]);
    let two = site("site2", ["2.2.2.2", "2.2.0.1", "2.2.0.0/16"], ["2:2::2", "2::1", "2::/48"]);
    Plan {
        name: "slides",
        about: "the slides' two sites, FRR beside Altitude on their ALT router",
        routers: vec![
            router("xtr1", 10, 64_501, Bgp::Embedded, Some(one)),
            router("xtr2", 20, 64_502, Bgp::Embedded, Some(two)),
            router("alt", 30, 64_500, Bgp::Beside(Software::Frr), None),
        ],
        tunnels: tunnels(&[[0, 2], [1, 2]], false),
    }
}

/// Three levels, all Altitude, two ways through the core:
///
/// ```text
///            core1      core2
///            /   \      /   \        each joined to both aggregators
///         agg1 (10.1.0.0/16)  agg2
///         /   \                 |
///     edge1   edge2           edge3
///  10.1.64/18 10.1.0/18      10.2.64/18
/// ```
#[must_use]
pub fn levels() -> Plan {
    let one = site("site1", ["10.1.77.88", "10.1.64.1", "10.1.64.0/18"], ["1:1::88", "1:1::1", "1:1::/64"]);
    let two = site("site2", ["10.1.7.8", "10.1.0.1", "10.1.0.0/18"], ["1:2::88", "1:2::1", "1:2::/64"]);
    let three = site("site3", ["10.2.77.88", "10.2.64.1", "10.2.64.0/18"], ["2:1::88", "2:1::1", "2:1::/64"]);
    let mut routers = vec![
        router("core1", 1, 64_601, Bgp::Embedded, None),
        router("core2", 2, 64_602, Bgp::Embedded, None),
        router("agg1", 11, 64_611, Bgp::Embedded, None),
        router("agg2", 12, 64_612, Bgp::Embedded, None),
        router("edge1", 21, 64_621, Bgp::Embedded, Some(one)),
        router("edge2", 22, 64_622, Bgp::Embedded, Some(two)),
        router("edge3", 23, 64_623, Bgp::Embedded, Some(three)),
        asker("asker1", 91),
        asker("asker2", 92),
    ];
    routers[2].aggregates = aggregates(&["edge1", "edge2"]);
    let mut all = tunnels(&[[2, 0], [2, 1], [3, 0], [3, 1], [4, 2], [5, 2], [6, 3]], true);
    all.extend(tunnels(&[[7, 5], [8, 6]], false));
    Plan { name: "levels", about: "three levels of ALT routers, seven of them, two ways", routers, tunnels: all }
}

/// A chain of three levels with other people's daemons at its ends: the edge's is FRR, the aggregator is Altitude alone,
/// the core's is BIRD.
///
/// ```text
/// xtr1 ── frr ── agg (10.1.0.0/16) ── bird ── xtr2
///                                       └── asker
/// ```
#[must_use]
pub fn mixed() -> Plan {
    let one = site("site1", ["10.1.77.88", "10.1.64.1", "10.1.64.0/18"], ["1:1::88", "1:1::1", "1:1::/64"]);
    let two = site("site2", ["10.2.77.88", "10.2.64.1", "10.2.64.0/18"], ["2:1::88", "2:1::1", "2:1::/64"]);
    let mut routers = vec![
        router("xtr1", 10, 64_701, Bgp::Embedded, Some(one)),
        router("frr", 31, 64_731, Bgp::Beside(Software::Frr), None),
        router("agg", 32, 64_732, Bgp::Embedded, None),
        router("bird", 33, 64_733, Bgp::Beside(Software::Bird), None),
        router("xtr2", 20, 64_702, Bgp::Embedded, Some(two)),
        asker("asker", 91),
    ];
    routers[2].aggregates = aggregates(&["frr"]);
    let mut all = tunnels(&[[0, 1], [1, 2], [2, 3], [3, 4]], true);
    all.extend(tunnels(&[[5, 3]], false));
    Plan { name: "mixed", about: "FRR, Altitude and BIRD as ALT routers in one chain", routers, tunnels: all }
}

/// Two routers and a tunnel: Altitude, called `ours`, and a daemon that Altitude carries, called `theirs`.
#[must_use]
pub fn pair(software: Software) -> Plan {
    let routers = vec![
        router("ours", 10, 64_801, Bgp::Embedded, None),
        router("theirs", 20, 64_802, Bgp::Carried(software), None),
    ];
    Plan { name: "pair", about: "Altitude and a BGP daemon", routers, tunnels: tunnels(&[[0, 1]], false) }
}

/// Three daemons in a row, `left`, `middle` and `right`, over Altitude's tunnels.
#[must_use]
pub fn daemons(row: [Software; 3]) -> Plan {
    let [left, middle, right] = row.map(Bgp::Carried);
    let routers = vec![
        router("left", 10, 64_811, left, None),
        router("middle", 20, 64_812, middle, None),
        router("right", 30, 64_813, right, None),
    ];
    Plan { name: "daemons", about: "three BGP daemons", routers, tunnels: tunnels(&[[0, 1], [1, 2]], true) }
}

/// Addresses in the core: the slides' 240.0.254.0/24 and an IPv6 subnet, with the same last number.
fn rloc(last: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(240, 0, 254, last), Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, last.into()))
}

fn router(name: &'static str, last: u8, asn: u32, bgp: Bgp, site: Option<SitePlan>) -> RouterPlan {
    RouterPlan { name, rloc: rloc(last), role: Role::Alt { asn, bgp }, site, aggregates: Vec::new() }
}

fn asker(name: &'static str, last: u8) -> RouterPlan {
    RouterPlan { name, rloc: rloc(last), role: Role::Asker, site: None, aggregates: Vec::new() }
}

/// What stands for the first of two regions, beyond these neighbours.
fn aggregates(components: &[&'static str]) -> Vec<AggregatePlan> {
    ["10.1.0.0/16", "2001:db8:1::/48"].map(|prefix| AggregatePlan { prefix, components: components.to_vec() }).to_vec()
}

fn tunnels(pairs: &[[usize; 2]], cable: bool) -> Vec<TunnelPlan> {
    pairs.iter().map(|&ends| TunnelPlan { ends, cable }).collect()
}

/// A site of a host, a gateway and an EID-prefix of each family; those of IPv6 are below 2001:db8::/32.
fn site(name: &'static str, v4: [&str; 3], v6: [&str; 3]) -> SitePlan {
    let [host4, gateway4, prefix4] = v4;
    let [host6, gateway6, prefix6] = v6.map(|rest| format!("2001:db8:{rest}"));
    let plain4 = |text: &str| text.parse::<Ipv4Addr>().expect("an address of the catalogue");
    let plain6 = |text: &str| text.parse::<Ipv6Addr>().expect("an address of the catalogue");
    SitePlan {
        name,
        host: (plain4(host4), plain6(&host6)),
        gateway: (plain4(gateway4), plain6(&gateway6)),
        prefixes: [prefix4.to_owned(), prefix6],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_addresses_are_one_each() {
        for plan in [slides(), levels(), mixed(), pair(Software::Frr), daemons([Software::Frr; 3])] {
            let names: HashSet<_> = plan.routers.iter().map(|router| router.name).collect();
            let rlocs: HashSet<_> = plan.routers.iter().map(|router| router.rloc).collect();
            assert_eq!((names.len(), rlocs.len()), (plan.routers.len(), plan.routers.len()), "{}", plan.name);
            // `to-` and a name is the name of an interface.
            assert!(names.iter().all(|name| name.len() <= 12), "{names:?}");
            let sites: HashSet<_> = plan.routers.iter().filter_map(|router| Some(router.site.as_ref()?.name)).collect();
            assert!(sites.is_disjoint(&names));
        }
    }

    #[test]
    fn levels_has_seven_routers_and_a_way_around_its_middle() {
        let plan = levels();
        assert_eq!(plan.routers.iter().filter(|router| router.role != Role::Asker).count(), 7);
        for core in ["core1", "core2"] {
            for aggregator in ["agg1", "agg2"] {
                assert!(plan.tunnels[plan.tunnel_between(core, aggregator)].cable);
            }
        }
    }
}
