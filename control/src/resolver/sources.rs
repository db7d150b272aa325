//! How many misses of each source are pending: one host that scans must not take the places of all others (RFC 7835 §3.1), nor
//! one site those of the others. A host can make up addresses, but not the instance of its port: one that does can still take all
//! places of its own site, from the site's other hosts.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use altitude_dataplane::mapping::InstanceId;

use super::{ResolverFault, Settings};

/// A host, or where one may have any number of addresses its /64.
type Source = (InstanceId, IpAddr);

/// As many sources as there may be pending EID-Prefixes, at most.
#[derive(Debug, Default)]
pub(super) struct Sources {
    hosts: BTreeMap<Source, usize>,
    sites: BTreeMap<InstanceId, usize>,
}

fn source(instance: InstanceId, address: IpAddr) -> Source {
    match address {
        IpAddr::V4(_) => (instance, address),
        IpAddr::V6(v6) => (instance, Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

impl Sources {
    /// One more of this source.
    ///
    /// # Errors
    /// It, or its site, has as many as it may.
    pub(super) fn enter(
        &mut self,
        instance: InstanceId,
        address: IpAddr,
        settings: &Settings,
    ) -> Result<(), ResolverFault> {
        let host = source(instance, address);
        if self.hosts.get(&host).is_some_and(|count| *count >= settings.source_max) {
            return Err(ResolverFault::SourceFull);
        }
        if self.sites.get(&instance).is_some_and(|count| *count >= settings.site_max) {
            return Err(ResolverFault::SiteFull);
        }
        *self.hosts.entry(host).or_default() += 1;
        *self.sites.entry(instance).or_default() += 1;
        Ok(())
    }

    /// One less.
    pub(super) fn leave(&mut self, instance: InstanceId, address: IpAddr) {
        fewer(&mut self.hosts, &source(instance, address));
        fewer(&mut self.sites, &instance);
    }
}

fn fewer<K: Ord>(counts: &mut BTreeMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}
