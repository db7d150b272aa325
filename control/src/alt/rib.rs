//! The EID routes of the ALT: which tunnel leads towards an EID, apart from every other routing table (RFC 6836 §6.2).

use std::net::IpAddr;

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

/// A source of EID routes: static ones here, BGP later.
pub trait Rib {
    /// The route of the longest prefix that holds `eid`.
    fn lookup(&self, instance: InstanceId, eid: IpAddr) -> Option<Hop>;

    /// The widest prefix around `eid` inside its longest match that no other route reaches into: what a negative answer may
    /// speak of.
    fn gap(&self, instance: InstanceId, eid: IpAddr) -> Prefix;
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

    /// Every route, by instance, address and length.
    pub fn routes(&self) -> impl Iterator<Item = (EidPrefix, Hop)> {
        self.0.iter().map(|(eid, hop)| (*eid, *hop))
    }
}

impl Rib for StaticRib {
    fn lookup(&self, instance: InstanceId, eid: IpAddr) -> Option<Hop> {
        self.0.longest(Eid { instance, address: eid }).map(|(_, hop)| *hop)
    }

    fn gap(&self, instance: InstanceId, eid: IpAddr) -> Prefix {
        self.0.gap(Eid { instance, address: eid }).prefix
    }
}
