//! What mappings say to header features: their versions and Locator-Status-Bits.

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    mapping::{Adjacency, Eid, EidPrefix, MapVersion, Mapping, Mark},
};

use super::{Paths, Publisher, Watch};

impl Publisher {
    /// Makes a prefix ours: packets from it are encapsulated, packets to it delivered.
    pub fn own(&mut self, eid: EidPrefix, todo: &mut Vec<Watch>) {
        self.own_as(eid, Delivery::Unresolved, todo);
    }

    /// The same, of a prefix all of whose hosts have one next hop.
    pub fn own_behind(&mut self, eid: EidPrefix, next_hop: Adjacency, todo: &mut Vec<Watch>) {
        self.own_as(eid, Delivery::Adjacent(next_hop), todo);
    }

    fn own_as(&mut self, eid: EidPrefix, delivery: Delivery, todo: &mut Vec<Watch>) {
        // Destinations inside that had a next hop of their own are hosts of ours now.
        self.forget_beyond(&eid, todo);
        let mark = *self.own.get(&eid).unwrap_or(&Mark::default());
        self.own.insert(eid, mark);
        self.put(eid, Some(Forwarding::Local(delivery)), mark);
        // Those that were of a shorter prefix of ours until now.
        self.mark_hosts(eid, mark);
    }

    /// A prefix is ours no more; nor are the hosts in it.
    pub fn disown(&mut self, eid: &EidPrefix, todo: &mut Vec<Watch>) {
        self.own.remove(eid);
        self.unshown.remove(eid);
        self.dirty |= self.writer.remove(eid);
        let hosts: Vec<Eid> = self.hosts.keys().filter(|host| eid.contains(**host)).copied().collect();
        for host in hosts {
            self.forget_host(host, todo);
        }
    }

    /// What packets of a prefix of ours are to say from now on. Hosts of it that have entries of their own follow.
    pub fn mark_own(&mut self, eid: EidPrefix, mark: Mark) {
        match self.own.get_mut(&eid) {
            Some(before) if *before != mark => *before = mark,
            _ => return,
        }
        self.writer.mark(&eid, mark);
        self.mark_hosts(eid, mark);
    }

    fn mark_hosts(&mut self, eid: EidPrefix, mark: Mark) {
        for host in self.hosts.keys().copied() {
            if self.own.longest(host).is_some_and(|(own, _)| own == eid) {
                self.writer.mark(&EidPrefix::host(host), mark);
            }
        }
    }

    /// The longest of our EID-prefixes that holds all of this one.
    #[must_use]
    pub fn own_covering(&self, eid: &EidPrefix) -> Option<EidPrefix> {
        self.own.covering(eid).map(|(own, _)| own)
    }

    /// The longest of our EID-prefixes that holds the EID.
    #[must_use]
    pub fn own_prefix(&self, eid: Eid) -> Option<EidPrefix> {
        self.own.longest(eid).map(|(own, _)| own)
    }

    /// What is known of a cached mapping beyond its locators, if it is shown.
    pub fn mark(&mut self, mapping: &Mapping, paths: &dyn Paths) {
        let mark = self.mark_of(mapping, paths);
        self.writer.mark(&mapping.eid, mark);
    }

    pub(super) fn mark_of(&self, mapping: &Mapping, paths: &dyn Paths) -> Mark {
        let relayed = mapping.locators.iter().any(|locator| locator.translated.is_some());
        let mark = Mark { relayed, ..Mark::default() };
        if !self.settings.features.marks() || mapping.is_negative() {
            return mark;
        }
        let status = paths.status(&mapping.eid, &mapping.locators);
        Mark { version: MapVersion::new(mapping.version), status, ..mark }
    }
}
