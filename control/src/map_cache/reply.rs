//! What the records of one Map-Reply, or of one Map-Notify to a subscriber, do to the map-cache.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Mapping, Ttl};

use super::{
    BENEATH_MAX, CacheFault, DOUBTS_MAX, LOCAL_POLICY_TTL, MapCache, Meter, Origin, Output,
    origin::{Heard, Notice},
    store::{Entry, NEVER},
};

impl MapCache {
    pub(super) fn install(
        &mut self,
        now: Instant,
        records: Vec<Mapping>,
        heard: Heard,
        meter: Meter<'_>,
        todo: &mut Vec<Output>,
    ) {
        let records: BTreeMap<EidPrefix, Mapping> = records.into_iter().map(|record| (record.eid, record)).collect();
        if heard != Heard::Notify(Notice::Change) {
            let scope = if let Heard::Notify(Notice::Answer { scope }) = heard { Some(scope) } else { None };
            self.doubt_beneath(scope, &records, todo);
        }
        let mut records = records;
        if heard == Heard::Notify(Notice::Again) {
            records.retain(|_, record| !self.says_already(record));
        }
        let shared = records.values().filter_map(|record| life(record.ttl)).min();
        let mut lasting = Vec::with_capacity(records.len());
        let mut ending = Vec::new();
        for record in records.values() {
            match shared.filter(|_| life(record.ttl).is_some()) {
                Some(shared) => {
                    let beneath = self.shortest_beneath(&record.eid, &records, todo);
                    lasting.push((record.eid, self.clock.tick_after(now + shared).min(beneath)));
                }
                None => ending.push(record.eid),
            }
        }
        // Workers see each change at once: no packet may meet a less-specific that a more-specific overrides.
        lasting.sort_by_key(|(eid, _)| Reverse(eid.prefix.length()));
        ending.sort_by_key(|eid| eid.prefix.length());
        for (eid, expires) in lasting {
            self.drop_given_up(&eid, todo);
            if let Some(record) = records.remove(&eid) {
                self.put(now, record, heard.origin(), expires, meter, todo);
            }
        }
        for eid in ending {
            match self.origin(&eid) {
                Some(origin) if origin.is_fixed() => todo.push(Output::Fault(CacheFault::StaticKept)),
                _ => self.withdraw_exact(&eid, todo),
            }
        }
    }

    /// Whether an entry says the same, for however long.
    fn says_already(&self, record: &Mapping) -> bool {
        let Some(cached) = self.get(&record.eid).map(|cached| cached.mapping()) else { return false };
        (&cached.locators, cached.action, cached.version) == (&record.locators, record.action, record.version)
    }

    /// Asks again for the learned more-specifics of its records, and of its scope if it has one, that a reply does not list, or
    /// takes them out if that was done before.
    fn doubt_beneath(
        &mut self,
        scope: Option<EidPrefix>,
        records: &BTreeMap<EidPrefix, Mapping>,
        todo: &mut Vec<Output>,
    ) {
        let mut beneath: Vec<(u32, bool)> = Vec::new();
        let mut doubts = 0;
        let mut outermost: Option<EidPrefix> = None;
        let lasting = records.values().filter(|record| life(record.ttl).is_some()).map(|record| record.eid);
        for eid in scope.into_iter().chain(lasting) {
            // In this order whatever covers a record comes before it, and covers all that is beneath it too.
            if outermost.is_some_and(|outer| outer.covers(&eid)) {
                continue;
            }
            outermost = Some(eid);
            for (number, entry) in self.unlisted(&eid, records) {
                doubts += usize::from(!entry.doubted);
                beneath.push((number, entry.doubted));
                if doubts > DOUBTS_MAX {
                    break;
                }
            }
            if doubts > DOUBTS_MAX {
                break;
            }
        }
        if doubts > DOUBTS_MAX {
            beneath.pop();
        }
        for (number, doubted) in beneath {
            if doubted {
                self.withdraw(number, todo);
            } else {
                let entry = &mut self.store.entries[number];
                entry.doubted = true;
                todo.push(Output::Refresh(entry.eid));
            }
        }
        if doubts > DOUBTS_MAX {
            todo.push(Output::Fault(CacheFault::DoubtsCapped));
        }
    }

    /// The first end of the learned entries inside `eid` that a reply does not list; [`NEVER`] without any.
    fn shortest_beneath(&self, eid: &EidPrefix, records: &BTreeMap<EidPrefix, Mapping>, todo: &mut Vec<Output>) -> u64 {
        if self.store.within(eid).nth(BENEATH_MAX).is_some() {
            todo.push(Output::Fault(CacheFault::BeneathCapped));
        }
        self.unlisted(eid, records).map(|(_, entry)| entry.expires).min().unwrap_or(NEVER)
    }

    /// The learned entries inside `eid` that a reply does not list, among the first [`BENEATH_MAX`].
    fn unlisted(&self, eid: &EidPrefix, records: &BTreeMap<EidPrefix, Mapping>) -> impl Iterator<Item = (u32, &Entry)> {
        let beneath = self.store.within(eid).take(BENEATH_MAX);
        let learned = |entry: &Entry| matches!(entry.origin, Origin::Reply | Origin::PubSub);
        beneath.filter(move |(_, entry)| learned(entry) && !records.contains_key(&entry.eid))
    }
}

/// How long a record may be kept; `None` for not at all.
fn life(ttl: Ttl) -> Option<Duration> {
    match ttl {
        Ttl::Remove | Ttl::Minutes(0) => None,
        Ttl::Minutes(minutes) => Some(Duration::from_secs(u64::from(minutes) * 60)),
        Ttl::ReceiverDecides => Some(LOCAL_POLICY_TTL),
    }
}
