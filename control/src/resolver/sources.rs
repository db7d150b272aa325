//! How many misses of each source are pending: one host that scans must not take the places of all others (RFC 7835 §3.1).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use altitude_dataplane::mapping::InstanceId;

/// A host, or where one may have any number of addresses its /64.
type Source = (InstanceId, IpAddr);

/// As many sources as there may be pending EID-Prefixes, at most.
#[derive(Debug, Default)]
pub(super) struct Sources(BTreeMap<Source, usize>);

fn source(instance: InstanceId, address: IpAddr) -> Source {
    match address {
        IpAddr::V4(_) => (instance, address),
        IpAddr::V6(v6) => (instance, Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

impl Sources {
    /// One more of this source; false if it has `max` already.
    pub(super) fn enter(&mut self, instance: InstanceId, address: IpAddr, max: usize) -> bool {
        let count = self.0.entry(source(instance, address)).or_default();
        let room = *count < max;
        *count += usize::from(room);
        room
    }

    /// One less.
    pub(super) fn leave(&mut self, instance: InstanceId, address: IpAddr) {
        let source = source(instance, address);
        if let Some(count) = self.0.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&source);
            }
        }
    }
}
