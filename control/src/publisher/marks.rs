//! What mappings say to header features: their versions and Locator-Status-Bits.

use std::collections::BTreeSet;

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    mapping::{Adjacency, Eid, EidPrefix, MapVersion, Mapping, Mark},
};

use super::{Paths, Publisher, Watch};
use crate::prefix_map::PrefixMap;

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
        self.mark_hosts(|own| *own == eid, |host| eid.contains(host));
    }

    /// These prefixes are ours no more; nor are the hosts in them.
    pub fn disown(&mut self, eids: &[EidPrefix], todo: &mut Vec<Watch>) {
        if eids.is_empty() {
            return;
        }
        for eid in eids {
            self.own.remove(eid);
            self.unshown.remove(eid);
            self.dirty |= self.writer.remove(eid);
        }
        // Once over all hosts, however many prefixes there are.
        let gone: PrefixMap<()> = eids.iter().map(|eid| (*eid, ())).collect();
        let hosts: Vec<Eid> = self.hosts.keys().filter(|host| gone.longest(**host).is_some()).copied().collect();
        for host in hosts {
            self.forget_host(host, todo);
        }
    }

    /// What packets of prefixes of ours are to say from now on. Hosts of them that have entries of their own follow.
    pub fn mark_own(&mut self, marks: impl IntoIterator<Item = (EidPrefix, Mark)>) {
        let mut changed = BTreeSet::new();
        for (eid, mark) in marks {
            let Some(before) = self.own.get_mut(&eid).filter(|before| **before != mark) else { continue };
            *before = mark;
            self.writer.mark(&eid, mark);
            changed.insert(eid);
        }
        if !changed.is_empty() {
            self.mark_hosts(|own| changed.contains(own), |_| true);
        }
    }

    /// Has hosts among these say what their EID-prefixes say, where those are among these.
    fn mark_hosts(&mut self, own: impl Fn(&EidPrefix) -> bool, host: impl Fn(Eid) -> bool) {
        for host in self.hosts.keys().copied().filter(|one| host(*one)) {
            if let Some((_, mark)) = self.own.longest(host).filter(|(eid, _)| own(eid)) {
                self.writer.mark(&EidPrefix::host(host), *mark);
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
