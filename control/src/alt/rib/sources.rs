//! All sources of EID routes as one: the longest match wins, and a static route over another of the same prefix.

use std::{fmt, net::IpAddr, str::FromStr, time::Instant};

use altitude_dataplane::mapping::{Eid, InstanceId, Prefix};

use super::{Hop, Rib, StaticRib, kernel::KernelRib};

/// Where the routes of one instance come from, beside static ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RibSource {
    /// Nowhere else.
    Static,
    /// Our own BGP speaker.
    Embedded,
    /// A table of the kernel's that another routing daemon fills.
    Netlink {
        /// Its number.
        table: u32,
    },
}

impl fmt::Display for RibSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => f.pad("static"),
            Self::Embedded => f.pad("embedded"),
            Self::Netlink { table } => f.pad(&format!("netlink:table={table}")),
        }
    }
}

impl FromStr for RibSource {
    type Err = String;

    /// Fails with what would have been accepted.
    fn from_str(text: &str) -> Result<Self, String> {
        let table = |number: &str| number.parse().ok().filter(|table| *table > 0);
        match (text, text.strip_prefix("netlink:table=")) {
            ("static", _) => Ok(Self::Static),
            ("embedded", _) => Ok(Self::Embedded),
            (_, Some(number)) => table(number)
                .map(|table| Self::Netlink { table })
                .ok_or_else(|| "give the number of a routing table, 1 to 4294967295: netlink:table=4342".to_owned()),
            _ => Err("write static, embedded or netlink:table=N".to_owned()),
        }
    }
}

/// The routes of every source. `S` is the speaker.
#[derive(Debug, Clone)]
pub struct Routes<S> {
    /// From the configuration.
    pub fixed: StaticRib,
    /// By BGP.
    pub speaker: Option<S>,
    /// From tables of the kernel, one for each instance that has such a source.
    pub kernel: Vec<KernelRib>,
}

impl<S: Rib> Routes<S> {
    /// The sources that may have a route of the instance, the preferred first.
    fn of(&self, instance: InstanceId) -> impl Iterator<Item = &dyn Rib> {
        let speaker = self.speaker.iter().map(|speaker| speaker as &dyn Rib);
        let kernel = self.kernel.iter().filter(move |rib| rib.instance() == instance).map(|rib| rib as &dyn Rib);
        [&self.fixed as &dyn Rib].into_iter().chain(speaker).chain(kernel)
    }
}

impl<S: Rib> Rib for Routes<S> {
    fn route(&self, instance: InstanceId, eid: IpAddr) -> Option<(Prefix, Hop)> {
        let mut best: Option<(Prefix, Hop)> = None;
        for found in self.of(instance).filter_map(|rib| rib.route(instance, eid)) {
            if best.is_none_or(|(prefix, _)| prefix.length() < found.0.length()) {
                best = Some(found);
            }
        }
        best
    }

    /// The narrowest of all sources' gaps: each is inside its source's longest match and free of its other routes, and no
    /// wider prefix around the EID is both for every source.
    fn gap(&self, instance: InstanceId, eid: IpAddr) -> Prefix {
        let gaps = self.of(instance).map(|rib| rib.gap(instance, eid));
        gaps.max_by_key(Prefix::length).unwrap_or_else(|| Prefix::host(eid))
    }

    fn went_lately(&self, now: Instant, eid: Eid, length: Option<u8>) -> bool {
        self.of(eid.instance).any(|rib| rib.went_lately(now, eid, length))
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::EidPrefix;
    use proptest::prelude::*;

    use super::*;
    use crate::alt::tunnels::TunnelId;

    fn eid(text: &str) -> EidPrefix {
        EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
    }

    fn rib(routes: &[(EidPrefix, Hop)]) -> StaticRib {
        StaticRib::new(routes.to_vec()).unwrap()
    }

    #[test]
    fn a_source_is_written_as_it_is_read() {
        for text in ["static", "embedded", "netlink:table=4342"] {
            assert_eq!(text.parse::<RibSource>().unwrap().to_string(), text);
        }
        for (wrong, said) in [
            ("bgp", "write static, embedded or netlink:table=N"),
            ("netlink", "write static"),
            ("netlink:table=", "give the number of a routing table"),
            ("netlink:table=0", "give the number"),
            ("netlink:table=4294967296", "give the number"),
        ] {
            assert!(wrong.parse::<RibSource>().unwrap_err().contains(said), "{wrong}");
        }
    }

    #[test]
    fn the_longest_match_wins_and_a_static_route_over_its_like() {
        let (first, second) = (Hop::Tunnel(TunnelId(0)), Hop::Tunnel(TunnelId(1)));
        let routes = Routes {
            fixed: rib(&[(eid("10.0.0.0/8"), first), (eid("10.1.0.0/16"), Hop::Discard)]),
            speaker: Some(rib(&[
                (eid("10.0.0.0/8"), second),
                (eid("10.1.1.0/24"), second),
                (eid("11.0.0.0/8"), second),
            ])),
            kernel: Vec::new(),
        };
        for (address, expected) in [
            ("10.9.9.9", Some(first)),
            ("10.1.9.9", Some(Hop::Discard)),
            ("10.1.1.9", Some(second)),
            ("11.1.1.1", Some(second)),
            ("12.1.1.1", None),
        ] {
            assert_eq!(routes.lookup(InstanceId::DEFAULT, address.parse().unwrap()), expected, "{address}");
        }
        // 10.1.1.0/24 is known to one source alone, and bounds the hole all the same.
        let gap = routes.gap(InstanceId::DEFAULT, "10.1.0.1".parse().unwrap());
        assert_eq!(gap.to_string(), "10.1.0.0/24");
    }

    fn any_prefix() -> impl Strategy<Value = EidPrefix> {
        (any::<u8>(), any::<u8>(), 0_u8..=24).prop_map(|(top, low, length)| EidPrefix {
            instance: InstanceId::DEFAULT,
            prefix: Prefix::new([top & 3, low & 0xc3, 0, 0].into(), length).unwrap(),
        })
    }

    proptest! {
        #[test]
        fn two_sources_are_as_good_as_one_with_all_routes(
            mut routes in prop::collection::vec((any_prefix(), any::<bool>()), 0..24), asked in any_prefix(),
        ) {
            routes.sort_unstable();
            routes.dedup_by_key(|(eid, _)| *eid);
            let hop = |index: usize| Hop::Tunnel(TunnelId(index));
            let all: Vec<(EidPrefix, Hop, bool)> =
                routes.iter().enumerate().map(|(index, (eid, side))| (*eid, hop(index), *side)).collect();
            let part = |wanted: &dyn Fn(bool) -> bool| {
                rib(&all.iter().filter(|route| wanted(route.2)).map(|route| (route.0, route.1)).collect::<Vec<_>>())
            };
            let both = Routes { fixed: part(&|side| side), speaker: Some(part(&|side| !side)), kernel: Vec::new() };
            let one = part(&|_| true);
            let address = asked.prefix.address();
            prop_assert_eq!(both.route(InstanceId::DEFAULT, address), one.route(InstanceId::DEFAULT, address));
            prop_assert_eq!(both.gap(InstanceId::DEFAULT, address), one.gap(InstanceId::DEFAULT, address));
        }
    }
}
