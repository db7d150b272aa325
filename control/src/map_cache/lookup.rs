//! What others ask of the map-cache: nothing changes by it.

use std::ops::Bound;

use altitude_dataplane::mapping::{Eid, EidPrefix};

use super::{Cached, MapCache, SetNumber};

impl MapCache {
    /// How many entries have this locator-set.
    #[must_use]
    pub fn users(&self, set: SetNumber) -> u32 {
        self.store.sets.users_of(set)
    }

    /// Every entry, by instance, address and length.
    pub fn iter(&self) -> impl Iterator<Item = Cached<'_>> {
        self.store.iter().map(|entry| self.store.show(entry, self.clock))
    }

    /// The same, from this prefix on, itself included or not.
    pub fn iter_from(&self, start: Bound<EidPrefix>) -> impl Iterator<Item = Cached<'_>> {
        self.store.iter_from(start).map(|entry| self.store.show(entry, self.clock))
    }

    /// The entry of exactly this prefix.
    #[must_use]
    pub fn get(&self, eid: &EidPrefix) -> Option<Cached<'_>> {
        self.store.exact(eid).map(|entry| self.store.show(entry, self.clock))
    }

    /// The entry that packets to `eid` use.
    #[must_use]
    pub fn lookup(&self, eid: Eid) -> Option<Cached<'_>> {
        self.store.longest(eid).map(|entry| self.store.show(entry, self.clock))
    }

    /// The prefix that covers `eid`, if one is cached; else at most `max` of those beneath it.
    #[must_use]
    pub fn around(&self, eid: &EidPrefix, max: usize) -> Vec<EidPrefix> {
        match self.store.covering(eid) {
            Some(entry) => vec![entry.eid],
            None => self.store.within(eid).take(max).map(|(_, entry)| entry.eid).collect(),
        }
    }
}
