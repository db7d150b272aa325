//! Changes of a client's that belong together.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Mapping};

use super::{CacheFault, MapCache, Meter, Origin, Output, order::Segment, store::NEVER};

impl MapCache {
    /// How many new entries a batch may have that puts in `puts` and takes out `removes`: what it names does not give way to
    /// it, and leaves only after all is put in.
    #[must_use]
    pub fn room(&self, puts: &BTreeSet<EidPrefix>, removes: &[EidPrefix]) -> usize {
        let leaving = self.leaving(puts, removes);
        let named = puts.iter().chain(&leaving).filter_map(|eid| self.store.exact(eid));
        let kept = named.filter(|entry| entry.expires != NEVER).count();
        let weak = self.order.count(Segment::Hot) + self.order.count(Segment::Cold) - kept;
        (self.settings.capacity + weak).saturating_sub(self.len())
    }

    /// What leaves with a batch: also short drops, which end where something newer and wider comes.
    fn leaving(&self, puts: &BTreeSet<EidPrefix>, removes: &[EidPrefix]) -> BTreeSet<EidPrefix> {
        let given_up = puts.iter().flat_map(|eid| self.given_up.within(eid).map(|(inner, ())| inner));
        given_up.chain(removes.iter().copied()).filter(|eid| !puts.contains(eid)).collect()
    }

    pub(super) fn batch(
        &mut self,
        now: Instant,
        mut puts: Vec<(Mapping, Option<Duration>)>,
        removes: &[EidPrefix],
        meter: Meter<'_>,
        todo: &mut Vec<Output>,
    ) {
        let named: BTreeSet<EidPrefix> = puts.iter().map(|(mapping, _)| mapping.eid).collect();
        let new = named.iter().filter(|eid| self.store.exact(eid).is_none()).count();
        if new > self.room(&named, removes) {
            todo.push(Output::Fault(CacheFault::Full));
            return;
        }
        let mut leaving: Vec<EidPrefix> = self.leaving(&named, removes).into_iter().collect();
        for eid in named.iter().chain(&leaving) {
            if let Some(number) = self.store.number(eid) {
                let segment = self.store.entries[number].warmth.segment();
                self.order.remove(number, segment);
            }
        }
        self.make_room(new, meter, todo);
        // Workers see each change at once: with this order a packet finds what the table said before or says after.
        puts.sort_by_key(|(mapping, _)| Reverse(mapping.eid.prefix.length()));
        leaving.sort_by_key(|eid| eid.prefix.length());
        for (mapping, life) in puts {
            let expires = life.map_or(NEVER, |life| self.clock.tick_after(now + life));
            self.put(now, mapping, Origin::Api, expires, meter, todo);
        }
        for eid in leaving {
            self.withdraw_exact(&eid, todo);
        }
    }
}
