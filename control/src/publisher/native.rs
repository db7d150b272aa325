//! What goes out natively: by one next hop for a whole prefix, or host by host.
//!
//! A prefix that the mapping system calls no EID-prefix is a hole between EID-prefixes, not a route of the underlay. Where
//! one gateway leads out of a site, the route of one address stands for all; in a PETR or PITR, which may have many, each
//! destination is asked for when a worker meets it.

use std::{net::IpAddr, ops::Bound};

use altitude_dataplane::{
    cache::Forwarding,
    mapping::{Eid, EidPrefix, Mark, Prefix},
    verdict::Reason,
};

use super::{HostUse, Path, Paths, Publisher, User, Watch};

/// Destinations looked at to make room for another.
const LOOKS: usize = 64;

impl Publisher {
    /// Publishes a prefix whose packets go natively.
    pub(super) fn show_native(&mut self, eid: EidPrefix, paths: &dyn Paths, todo: &mut Vec<Watch>) {
        if self.natives.get(&eid).is_none() {
            self.natives.insert(eid, ());
            if !self.is_by_host(&eid) {
                self.join(representative(&eid.prefix), User::Native(eid), todo);
            }
        }
        self.renative(eid, paths);
    }

    /// Turns such a prefix to what its path allows by now.
    pub(super) fn renative(&mut self, eid: EidPrefix, paths: &dyn Paths) {
        if self.is_by_host(&eid) {
            return self.put(eid, Some(Forwarding::NativeByHost), Mark::default());
        }
        let forwarding = match paths.path(representative(&eid.prefix)) {
            Path::Ready(adjacency) => Forwarding::Native(adjacency),
            // While it waits every packet is a miss, so workers hold what they may hold.
            Path::Waiting => Forwarding::Request,
            Path::Unreachable => Forwarding::Drop(Reason::NativeNoRoute),
        };
        self.put(eid, Some(forwarding), Mark::default());
    }

    /// A prefix is not natively forwarded any more, or not known to be.
    pub(super) fn forget_native(&mut self, eid: &EidPrefix, todo: &mut Vec<Watch>) {
        if self.natives.remove(eid).is_some() && !self.is_by_host(eid) {
            self.leave(representative(&eid.prefix), User::Native(*eid), todo);
        }
        self.forget_beyond(eid, todo);
    }

    fn is_by_host(&self, eid: &EidPrefix) -> bool {
        self.settings.native_by_host && !eid.prefix.is_host()
    }

    /// Whether the longest prefix known to hold a host is natively forwarded.
    pub(super) fn is_beyond(&self, host: &EidPrefix) -> bool {
        let native = self.natives.covering(host).map(|(eid, ())| eid.prefix.length());
        let own = self.own.covering(host).map(|(eid, _)| eid.prefix.length());
        native.is_some() && native > own
    }

    /// Has the path to a destination resolved that is no EID.
    pub(super) fn want_beyond(&mut self, eid: Eid, paths: &dyn Paths, todo: &mut Vec<Watch>) {
        let host = EidPrefix::host(eid);
        if self.beyond.get(&host).is_some() {
            return;
        }
        if self.beyond.len() >= self.settings.hosts_max && !self.give_way(todo) {
            self.refused += 1;
            return;
        }
        self.beyond.insert(host, HostUse::default());
        self.join(eid.address, User::Beyond(eid), todo);
        self.rebeyond(eid, paths);
    }

    /// Makes room for one: takes out the next that got no packet since it was last looked at, if it is among the next few.
    fn give_way(&mut self, todo: &mut Vec<Watch>) -> bool {
        let start = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<EidPrefix> = self.beyond.iter_from(start).take(LOOKS).map(|(host, _)| host).collect();
        // At the end it begins anew.
        self.hand = None;
        for host in next {
            self.hand = Some(host);
            let packets = self.writer.hits(&host).unwrap_or_default().packets;
            let Some(used) = self.beyond.get_mut(&host) else { continue };
            if used.packets == packets {
                self.beyond.remove(&host);
                self.drop_beyond(host, todo);
                return true;
            }
            used.packets = packets;
        }
        false
    }

    /// Turns such a destination to what its path allows by now.
    pub(super) fn rebeyond(&mut self, eid: Eid, paths: &dyn Paths) {
        let host = EidPrefix::host(eid);
        match paths.path(eid.address) {
            Path::Ready(adjacency) => self.put(host, Some(Forwarding::Native(adjacency)), Mark::default()),
            Path::Unreachable => self.put(host, Some(Forwarding::Drop(Reason::NativeNoRoute)), Mark::default()),
            // The prefix around it says that it has to be asked for.
            Path::Waiting => {
                self.unshown.remove(&host);
                self.dirty |= self.writer.remove(&host);
            }
        }
    }

    /// Forgets such destinations inside a prefix.
    pub(super) fn forget_beyond(&mut self, eid: &EidPrefix, todo: &mut Vec<Watch>) {
        if self.beyond.is_empty() {
            return;
        }
        let inside: Vec<EidPrefix> = self.beyond.within(eid).map(|(host, _)| host).collect();
        for host in inside {
            self.beyond.remove(&host);
            self.drop_beyond(host, todo);
        }
    }

    /// One round of ageing.
    pub(super) fn age_beyond(&mut self, todo: &mut Vec<Watch>) {
        let hosts: Vec<EidPrefix> = self.beyond.iter().map(|(host, _)| host).collect();
        for host in hosts {
            let packets = self.writer.hits(&host).unwrap_or_default().packets;
            if self.beyond.get_mut(&host).is_some_and(|used| used.is_over(packets)) {
                self.beyond.remove(&host);
                self.drop_beyond(host, todo);
            }
        }
    }

    fn drop_beyond(&mut self, host: EidPrefix, todo: &mut Vec<Watch>) {
        let address = host.prefix.address();
        self.leave(address, User::Beyond(Eid { instance: host.instance, address }), todo);
        self.unshown.remove(&host);
        self.dirty |= self.writer.remove(&host);
    }
}

/// The address whose route stands for a natively forwarded prefix: the first that a host could have.
fn representative(prefix: &Prefix) -> IpAddr {
    match prefix.address() {
        address if prefix.is_host() => address,
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() | 1).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() | 1).into()),
    }
}
