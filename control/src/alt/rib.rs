//! The EID routes of the ALT: which tunnel leads towards an EID, apart from every other routing table (RFC 6836 §6.2).
//!
//! ```text
//! configuration ──────────▶ StaticRib ─┐
//! neighbours ─▶ bgp::speaker ──────────┼─▶ sources: the longest match of all, static routes first ─▶ engine
//! FRR, BIRD ─▶ kernel table ─▶ kernel ─┘
//! ```

pub mod kernel;
pub mod lately;
pub mod sources;

use std::{net::IpAddr, time::Instant};

use altitude_dataplane::mapping::{Eid, EidPrefix, InstanceId, Prefix};

use super::tunnels::TunnelId;
use crate::prefix_map::PrefixMap;

/// Where an EID route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hop {
    /// To the neighbour at the far end.
    Tunnel(TunnelId),
    /// Nowhere: an aggregate announced by this router. What no longer route leads away is a hole (RFC 6836 §4.2).
    Discard,
}

/// A source of EID routes.
pub trait Rib {
    /// The longest prefix that holds `eid`, and where its route leads.
    fn route(&self, instance: InstanceId, eid: IpAddr) -> Option<(Prefix, Hop)>;

    /// Where the route of the longest prefix that holds `eid` leads.
    fn lookup(&self, instance: InstanceId, eid: IpAddr) -> Option<Hop> {
        self.route(instance, eid).map(|(_, hop)| hop)
    }

    /// The widest prefix around `eid` inside its longest match that no other route reaches into: what a negative answer may
    /// speak of.
    fn gap(&self, instance: InstanceId, eid: IpAddr) -> Prefix;

    /// Whether a route of more than `length` bits (`None`: of any) that held `eid` went lately: another may be on its way.
    fn went_lately(&self, now: Instant, eid: Eid, length: Option<u8>) -> bool {
        let _ = (now, eid, length);
        false
    }
}

/// Why routes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RibError {
    /// The same prefix twice.
    #[error("two ALT routes for {0}: keep one of them")]
    Duplicate(EidPrefix),
}

/// Routes that stay as they were configured.
#[derive(Debug, Clone, Default)]
pub struct StaticRib(PrefixMap<Hop>);

impl StaticRib {
    /// A table of `routes`.
    ///
    /// # Errors
    /// [`RibError::Duplicate`].
    pub fn new(routes: Vec<(EidPrefix, Hop)>) -> Result<Self, RibError> {
        let mut table = PrefixMap::new();
        for (eid, hop) in routes {
            if table.insert(eid, hop).is_some() {
                return Err(RibError::Duplicate(eid));
            }
        }
        Ok(Self(table))
    }

    /// Number of routes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every route, by instance, address and length.
    pub fn routes(&self) -> impl Iterator<Item = (EidPrefix, Hop)> {
        self.0.iter().map(|(eid, hop)| (eid, *hop))
    }
}

impl Rib for StaticRib {
    fn route(&self, instance: InstanceId, eid: IpAddr) -> Option<(Prefix, Hop)> {
        self.0.longest(Eid { instance, address: eid }).map(|(eid, hop)| (eid.prefix, *hop))
    }

    fn gap(&self, instance: InstanceId, eid: IpAddr) -> Prefix {
        self.0.gap(Eid { instance, address: eid }).prefix
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn eid(instance: u32, text: &str) -> EidPrefix {
        EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix: text.parse().unwrap() }
    }

    fn tunnel(id: usize) -> Hop {
        Hop::Tunnel(TunnelId(id))
    }

    #[test]
    fn the_longest_match_of_the_instance_and_family() {
        let rib = StaticRib::new(vec![
            (eid(0, "0.0.0.0/0"), tunnel(0)),
            (eid(0, "10.1.0.0/16"), Hop::Discard),
            (eid(0, "10.1.64.0/18"), tunnel(1)),
            (eid(0, "2001:db8::/32"), tunnel(2)),
            (eid(5, "10.1.0.0/16"), tunnel(3)),
        ])
        .unwrap();
        for (instance, address, expected) in [
            (0, "9.9.9.9", Some(tunnel(0))), // the ALT default route
            (0, "10.1.77.88", Some(tunnel(1))),
            (0, "10.1.128.199", Some(Hop::Discard)),
            (0, "2001:db8::1", Some(tunnel(2))),
            (0, "2001:db9::1", None),
            (5, "10.1.77.88", Some(tunnel(3))),
            (5, "9.9.9.9", None),
            (6, "10.1.77.88", None),
        ] {
            let instance = InstanceId::new(instance).unwrap();
            assert_eq!(rib.lookup(instance, address.parse().unwrap()), expected, "{address} in {instance}");
        }
        let hole: Prefix = "10.1.128.0/17".parse().unwrap();
        assert_eq!(rib.gap(InstanceId::DEFAULT, "10.1.128.199".parse().unwrap()), hole);
        assert_eq!(rib.routes().count(), 5);
    }

    #[test]
    fn one_prefix_has_one_route() {
        let twice = vec![(eid(0, "10.0.0.0/8"), tunnel(0)), (eid(0, "10.0.0.0/8"), Hop::Discard)];
        assert_eq!(StaticRib::new(twice).unwrap_err(), RibError::Duplicate(eid(0, "10.0.0.0/8")));
    }

    fn any_route() -> impl Strategy<Value = (EidPrefix, Hop)> {
        (0_u32..2, any::<bool>(), any::<u8>(), 0_u8..=32, 0_usize..4).prop_map(|(instance, v4, low, length, hop)| {
            let bits = u16::from(low);
            let address: IpAddr = if v4 { [low, 0, 0, low].into() } else { [bits << 8, 0, 0, 0, 0, 0, 0, bits].into() };
            let prefix = Prefix::new(address, if v4 { length } else { length * 4 }).unwrap();
            let hop = if hop == 0 { Hop::Discard } else { tunnel(hop) };
            (EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix }, hop)
        })
    }

    proptest! {
        #[test]
        fn agrees_with_looking_at_every_route(
            mut routes in prop::collection::vec(any_route(), 0..32), asked in prop::collection::vec(any_route(), 1..32),
        ) {
            routes.sort_by_key(|(eid, _)| *eid);
            routes.dedup_by_key(|(eid, _)| *eid);
            let rib = StaticRib::new(routes.clone()).unwrap();
            for (asked, _) in asked {
                let eid = Eid { instance: asked.instance, address: asked.prefix.address() };
                let matching = routes.iter().filter(|(prefix, _)| prefix.contains(eid));
                let plain = matching.max_by_key(|(prefix, _)| prefix.prefix.length()).map(|(_, hop)| *hop);
                prop_assert_eq!(rib.lookup(eid.instance, eid.address), plain);
            }
        }
    }
}
