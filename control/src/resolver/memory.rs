//! What is remembered of prefixes for a while.

use std::{collections::BTreeSet, time::Instant};

use altitude_dataplane::mapping::EidPrefix;

use crate::prefix_map::PrefixMap;

/// Prefixes with a value, remembered until an instant: bounded, the ones that end first give way.
#[derive(Debug)]
pub(super) struct Memory<V> {
    capacity: usize,
    pub(super) values: PrefixMap<(Instant, V)>,
    by_time: BTreeSet<(Instant, EidPrefix)>,
}

impl<V: Copy> Memory<V> {
    pub(super) const fn new(capacity: usize) -> Self {
        Self { capacity, values: PrefixMap::new(), by_time: BTreeSet::new() }
    }

    pub(super) fn remember(&mut self, eid: EidPrefix, until: Instant, value: V) {
        self.forget(&eid);
        self.values.insert(eid, (until, value));
        self.by_time.insert((until, eid));
        while self.values.len() > self.capacity {
            self.drop_first();
        }
    }

    pub(super) fn forget(&mut self, eid: &EidPrefix) {
        if let Some((until, _)) = self.values.remove(eid) {
            self.by_time.remove(&(until, *eid));
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.by_time.first().is_some_and(|(until, _)| *until <= now) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, eid)) = self.by_time.pop_first() {
            self.values.remove(&eid);
        }
    }

    pub(super) fn get(&self, eid: &EidPrefix) -> Option<V> {
        self.values.get(eid).map(|(_, value)| *value)
    }

    pub(super) fn covering(&self, eid: &EidPrefix) -> Option<(EidPrefix, V)> {
        self.values.covering(eid).map(|(named, (_, value))| (named, *value))
    }
}
