//! Carries out what clients of the mapping API want done.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Instant,
};

use altitude_control::{
    api::{
        Asker, Batch, Changes, Checks, Done, Failed, Judged, Method, Offer, Operation, Outcome, Refused, Router, Table,
        TraceAsk, View,
    },
    map_cache,
};
use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};

use super::{
    Driver,
    sweeps::{Flush, Overtaken},
};

const FULL: Refused = Refused::Full("the map-cache is full of entries that stay: raise --map-cache-max");
/// Locators out of use at one time.
const BANNED_MAX: usize = 4096;

/// What is kept of operations.
#[derive(Default)]
pub(super) struct Operations {
    pub(super) changes: Changes,
    /// Entries that go with a connection,
    owners: BTreeMap<EidPrefix, Asker>,
    /// and the same by connection.
    owned: BTreeSet<(Asker, EidPrefix)>,
    /// FLUSHes that go on in the next round, one after the other.
    pub(super) flushes: VecDeque<Flush>,
    /// Clients that have left entries behind.
    pub(super) leavers: VecDeque<Asker>,
    pub(super) overtaken: Overtaken,
    pub(super) done: u64,
    pub(super) refused: u64,
}

impl Operations {
    /// Whether the entry goes with the connection that put it in.
    pub(super) fn is_ephemeral(&self, eid: &EidPrefix) -> bool {
        self.owners.contains_key(eid)
    }

    /// The entry goes with this connection.
    fn own(&mut self, eid: EidPrefix, asker: Asker) {
        self.disown(&eid);
        self.owners.insert(eid, asker);
        self.owned.insert((asker, eid));
    }

    /// The entry is nobody's any more.
    pub(super) fn disown(&mut self, eid: &EidPrefix) {
        if let Some(owner) = self.owners.remove(eid) {
            self.owned.remove(&(owner, *eid));
        }
    }

    /// At most `max` of the entries that go with a connection.
    pub(super) fn owned(&self, asker: Asker, max: usize) -> Vec<EidPrefix> {
        let first = EidPrefix { instance: InstanceId::DEFAULT, prefix: Prefix::new([0; 4].into(), 0).expect("/0") };
        let owned = self.owned.range((asker, first)..).take_while(|(owner, _)| *owner == asker);
        owned.take(max).map(|(_, eid)| *eid).collect()
    }

    /// Whether any entry goes with a connection.
    pub(super) fn owns_some(&self, asker: Asker) -> bool {
        !self.owned(asker, 1).is_empty()
    }
}

impl Router for Driver<'_> {
    fn view(&self) -> &dyn View {
        self
    }

    fn perform(&mut self, asker: Asker, operation: Operation) -> Result<Outcome, Refused> {
        let now = Instant::now();
        // A reload is nobody's change: who asks for one hears of it as all others.
        self.news.cause = Some(asker).filter(|_| operation != Operation::Reload);
        self.news.about = match &operation {
            Operation::Add(offer) | Operation::Change { offer, .. } => Some(vec![offer.mapping.eid]),
            Operation::Delete { eid, .. } => Some(vec![*eid]),
            Operation::Flush { .. } | Operation::Judge { .. } | Operation::Clear { .. } | Operation::Reload => None,
        };
        tracing::debug!(client = asker.0, ?operation, "asked through the mapping API");
        let done = match operation {
            Operation::Add(offer) => self.add(now, asker, offer).map(Outcome::Done),
            Operation::Change { offer, unless_after } => {
                self.change(now, asker, offer, unless_after).map(Outcome::Done)
            }
            Operation::Delete { table, eid, unless_after } => {
                self.delete(now, table, &eid, unless_after).map(Outcome::Done)
            }
            Operation::Flush { table, instance, all } => self.flush(now, asker, table, (instance, all)),
            Operation::Reload => {
                let reloaded = self.reload(now);
                reloaded.map(|count| Done { entry: None, count: count as u64 }.into()).map_err(Refused::Invalid)
            }
            Operation::Judge { judged, up } => self.judge(judged, up).map(Outcome::Done),
            Operation::Clear { neighbor, soft } => self.clear(now, neighbor.as_deref(), soft).map(Outcome::Done),
        };
        (self.news.cause, self.news.about) = (None, None);
        match &done {
            Ok(_) => self.operations.done += 1,
            Err(_) => self.operations.refused += 1,
        }
        done
    }

    fn perform_all(&mut self, asker: Asker, operations: Vec<Operation>) -> Result<Done, Failed> {
        let now = Instant::now();
        let count = operations.len() as u64;
        tracing::debug!(client = asker.0, ?operations, "asked through the mapping API, all or none");
        let verified = self.verify(now, operations, 0);
        match &verified {
            Ok(_) => self.operations.done += count,
            Err(_) => self.operations.refused += 1,
        }
        let batch = verified?;
        match batch.table() {
            Table::Cache => self.do_batch(now, asker, &batch),
            Table::Database => self.do_own(now, asker, &batch),
        }
        Ok(Done { entry: None, count })
    }

    fn try_all(&mut self, operations: Vec<Operation>, ahead: i32) -> Result<i32, Failed> {
        let batch = self.verify(Instant::now(), operations, ahead)?;
        Ok(ahead.saturating_add(self.stays_more(&batch)))
    }

    fn trace(&mut self, asker: Asker, ask: Option<TraceAsk>) -> Result<(), Refused> {
        self.start_trace(asker, ask)
    }
}

impl Driver<'_> {
    fn add(&mut self, now: Instant, asker: Asker, offer: Offer) -> Result<Done, Refused> {
        if offer.table == Table::Database {
            return self.add_own(now, asker, &offer);
        }
        self.acceptable(&offer)?;
        let eid = offer.mapping.eid;
        if self.holds(Table::Cache, &eid) {
            return Err(Refused::Exists(eid));
        }
        self.clear_for(now, &eid);
        self.put(now, asker, offer)
    }

    /// What a FLUSH has still to take out gives way to what comes in its place.
    pub(super) fn clear_for(&mut self, now: Instant, eid: &EidPrefix) {
        let there = self.map_cache.get(eid).filter(|cached| self.is_condemned(cached));
        if let Some(origin) = there.map(|cached| cached.origin) {
            self.take_out_condemned(now, eid, origin);
        }
    }

    fn change(&mut self, now: Instant, asker: Asker, offer: Offer, unless_after: Option<u64>) -> Result<Done, Refused> {
        if offer.table == Table::Database {
            return self.change_own(now, asker, &offer, unless_after);
        }
        self.acceptable(&offer)?;
        self.unchanged(Table::Cache, &offer.mapping.eid, unless_after)?;
        self.put(now, asker, offer)
    }

    /// Puts a client's mapping into the map-cache, whatever is there.
    fn put(&mut self, now: Instant, asker: Asker, offer: Offer) -> Result<Done, Refused> {
        let eid = offer.mapping.eid;
        match offer.ephemeral {
            true => self.operations.own(eid, asker),
            false => self.operations.disown(&eid),
        }
        self.resolver.settle(&eid);
        self.cache(now, map_cache::Input::Put(offer.mapping, offer.life));
        if self.map_cache.get(&eid).is_none() {
            self.operations.disown(&eid);
            return Err(FULL);
        }
        Ok(Done { count: 1, ..Done::default() })
    }

    fn delete(
        &mut self,
        now: Instant,
        table: Table,
        eid: &EidPrefix,
        unless_after: Option<u64>,
    ) -> Result<Done, Refused> {
        if table == Table::Database {
            return self.delete_own(now, eid, unless_after);
        }
        self.unchanged(Table::Cache, eid, unless_after)?;
        let entry = self.exact(table, eid);
        self.cache(now, map_cache::Input::Remove(*eid));
        Ok(Done { entry, count: 1 })
    }

    /// Whether an entry has not changed since a client saw it.
    pub(super) fn not_since(&self, eid: &EidPrefix, unless_after: Option<u64>) -> Result<(), Refused> {
        match unless_after {
            Some(seen) if seen > self.generation || self.operations.changes.since(eid, seen) => {
                Err(Refused::Changed(*eid))
            }
            _ => Ok(()),
        }
    }

    fn judge(&mut self, judged: Judged, up: bool) -> Result<Done, Refused> {
        let locators: BTreeSet<IpAddr> = match judged {
            Judged::Locator(address) => {
                let known = self.publisher.has_locator(address) || self.reachability.banned.contains(&address);
                known.then_some(address).into_iter().collect()
            }
            Judged::Mapping(eid) => {
                let used = self.map_cache.around(&eid, 0);
                let cached = used.first().and_then(|eid| self.map_cache.get(eid));
                cached.iter().flat_map(|cached| cached.locators).map(|locator| locator.address).collect()
            }
        };
        if locators.is_empty() {
            return Err(Refused::Missing(match judged {
                Judged::Locator(address) => format!("no mapping has a locator {address}"),
                Judged::Mapping(eid) => format!("no mapping for {eid} that has locators"),
            }));
        }
        if !up && self.reachability.banned.len() + locators.len() > BANNED_MAX {
            return Err(Refused::Full("as many locators are out of use as may be: take some back with REACH"));
        }
        for &locator in &locators {
            let banned = &mut self.reachability.banned;
            let turned = if up { banned.remove(&locator) } else { banned.insert(locator) };
            if turned {
                tracing::info!(%locator, up, "a client of the mapping API judged a locator");
                let known = self.reachability.known(&self.kernel.underlay);
                self.publisher.path_changed(locator, &known);
                self.generation += 1;
                self.judged(locator, up, Method::Admin);
            }
        }
        Ok(Done { entry: None, count: locators.len() as u64 })
    }

    /// A batch that can be done in a table with `ahead` more entries that stay.
    fn verify(&mut self, now: Instant, operations: Vec<Operation>, ahead: i32) -> Result<Batch, Failed> {
        // What is over has left: it would take room, or its new owner with it.
        self.cache(now, map_cache::Input::Wake);
        let batch = Batch::verify(operations, self)?;
        self.fits(&batch, ahead)?;
        Ok(batch)
    }

    /// Whether there is room for all that a batch puts in; else which operation is the first without.
    fn fits(&self, batch: &Batch, ahead: i32) -> Result<(), Failed> {
        if batch.table() == Table::Database {
            return self.fits_own(batch, ahead);
        }
        let puts: BTreeSet<EidPrefix> = batch.puts().map(|(_, offer)| offer.mapping.eid).collect();
        let new = batch.puts().filter(|(_, offer)| self.map_cache.get(&offer.mapping.eid).is_none());
        let mut places: Vec<usize> = new.map(|(at, _)| at).collect();
        places.sort_unstable();
        let room = less(self.map_cache.room(&puts, &batch.removes()), ahead);
        places.get(room).map_or(Ok(()), |&first| Err((first, FULL)))
    }

    /// How many more entries that stay a table has after a batch. One that leaves by itself takes room from nobody.
    fn stays_more(&self, batch: &Batch) -> i32 {
        let named = batch.named();
        let (before, after) = match batch.table() {
            Table::Cache => {
                let stays = |eid: &&EidPrefix| self.map_cache.get(eid).is_some_and(|cached| cached.expires.is_none());
                let puts = batch.puts().filter(|(_, offer)| offer.life.is_none());
                (named.iter().filter(stays).count(), puts.count())
            }
            Table::Database => (named.iter().filter(|eid| self.is_by_client(eid)).count(), batch.puts().count()),
        };
        after as i32 - before as i32
    }

    /// Does all of a batch that can be done, in one step of the map-cache.
    fn do_batch(&mut self, now: Instant, asker: Asker, batch: &Batch) {
        let named = batch.named();
        named.iter().for_each(|eid| self.clear_for(now, eid));
        (self.news.cause, self.news.about) = (Some(asker), Some(named));
        for (_, offer) in batch.puts() {
            let eid = offer.mapping.eid;
            match offer.ephemeral {
                true => self.operations.own(eid, asker),
                false => self.operations.disown(&eid),
            }
            self.resolver.settle(&eid);
        }
        let puts = batch.puts().map(|(_, offer)| (offer.mapping.clone(), offer.life)).collect();
        self.cache(now, map_cache::Input::Batch(puts, batch.removes()));
        (self.news.cause, self.news.about) = (None, None);
    }
}

/// Room with `ahead` more entries than there are.
pub(super) fn less(room: usize, ahead: i32) -> usize {
    let taken = ahead.max(0).unsigned_abs() as usize;
    let freed = ahead.min(0).unsigned_abs() as usize;
    room.saturating_add(freed).saturating_sub(taken)
}

impl Checks for Driver<'_> {
    fn holds(&self, table: Table, eid: &EidPrefix) -> bool {
        if table == Table::Database {
            return self.own.get(eid).is_some();
        }
        // What was only given up on is no mapping, and what a FLUSH has still to take out is none any more.
        let there =
            |cached: map_cache::Cached<'_>| cached.origin != map_cache::Origin::GivenUp && !self.is_condemned(&cached);
        self.map_cache.get(eid).is_some_and(there)
    }

    fn acceptable(&self, offer: &Offer) -> Result<(), Refused> {
        if offer.table == Table::Database {
            return self.admits(offer);
        }
        let eid = &offer.mapping.eid;
        self.publisher
            .own_covering(eid)
            .map_or(Ok(()), |own| Err(Refused::Invalid(format!("{eid} lies inside our own EID-prefix {own}"))))
    }

    fn unchanged(&self, table: Table, eid: &EidPrefix, unless_after: Option<u64>) -> Result<(), Refused> {
        if table == Table::Database {
            return self.own_unchanged(eid, unless_after);
        }
        if self.map_cache.get(eid).is_none_or(|cached| self.is_condemned(&cached)) {
            return Err(Refused::Missing(format!("no entry for exactly {eid}")));
        }
        self.not_since(eid, unless_after)
    }
}
