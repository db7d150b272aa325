//! Changes of many entries, a slice of them in each round: FLUSH, and the leave of a client whose entries go with it.
//!
//! FLUSH is told when it begins. What it takes out from then on is told by itself only where it may have changed since, because
//! subscribers have it again then. The table's order has less-specifics first, so that no packet takes the way of one whose
//! more-specific has left.

use std::{ops::Bound, time::Instant};

use altitude_control::{
    api::{Asker, Done, Event, Outcome, Refused, Table},
    map_cache,
};
use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};
use mio::Token;

use super::{Driver, operations::writable};

/// Entries that one round looks at: with a million of them in the table it takes about a millisecond.
const SLICE: usize = 512;

/// Something that goes on in the next round.
pub(super) enum Sweep {
    Flush(Flush),
    /// This client has left.
    Leave(Asker),
}

/// A FLUSH, as far as it got.
pub(super) struct Flush {
    asker: Asker,
    instance: Option<InstanceId>,
    /// Static entries too.
    all: bool,
    /// Where it goes on.
    start: Bound<EidPrefix>,
    /// The generation when it began.
    since: u64,
    count: u64,
}

impl Driver<'_> {
    pub(super) fn flush(
        &mut self,
        asker: Asker,
        table: Table,
        instance: Option<InstanceId>,
        all: bool,
    ) -> Result<Outcome, Refused> {
        writable(table)?;
        let first = Prefix::new([0; 4].into(), 0).expect("a length of 0 suits every family");
        let start =
            instance.map_or(Bound::Unbounded, |instance| Bound::Included(EidPrefix { instance, prefix: first }));
        self.tell(Event::Flushed { table, instance, all });
        let since = self.generation;
        self.operations.sweeps.push_back(Sweep::Flush(Flush { asker, instance, all, start, since, count: 0 }));
        Ok(Outcome::Later)
    }

    /// What was to go with a connection goes.
    pub(super) fn client_left(&mut self, token: Token) {
        self.watcher_left(token);
        let asker = Asker(token.0 as u64);
        if self.operations.owns_some(asker) {
            self.operations.sweeps.push_back(Sweep::Leave(asker));
        }
    }

    /// Does the next slice; true if there are more.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        let unfinished = match self.operations.sweeps.pop_front() {
            None => None,
            Some(Sweep::Flush(flush)) => self.sweep_flush(now, flush),
            Some(Sweep::Leave(asker)) => self.sweep_owned(now, asker).then_some(Sweep::Leave(asker)),
        };
        if let Some(sweep) = unfinished {
            self.operations.sweeps.push_front(sweep);
        }
        !self.operations.sweeps.is_empty()
    }

    fn sweep_flush(&mut self, now: Instant, mut flush: Flush) -> Option<Sweep> {
        let meant = |cached: &map_cache::Cached<'_>| flush.all || cached.origin != map_cache::Origin::Static;
        let here = self.map_cache.iter_from(flush.start);
        let here = here.take_while(|cached| flush.instance.is_none_or(|instance| cached.eid.instance == instance));
        let slice: Vec<(EidPrefix, bool)> = here.take(SLICE).map(|cached| (cached.eid, meant(&cached))).collect();
        for (eid, _) in slice.iter().filter(|(_, meant)| *meant) {
            self.news.muted = !self.operations.changes.since(eid, flush.since);
            self.cache(now, map_cache::Input::Remove(*eid));
            flush.count += 1;
        }
        self.news.muted = false;
        match slice.last() {
            Some((last, _)) if slice.len() == SLICE => {
                flush.start = Bound::Excluded(*last);
                Some(Sweep::Flush(flush))
            }
            _ => {
                self.conclude(flush.asker, &Ok(Done { entry: None, count: flush.count }));
                None
            }
        }
    }

    /// Takes out what a client has left behind; true if there is more.
    fn sweep_owned(&mut self, now: Instant, asker: Asker) -> bool {
        let slice = self.operations.owned(asker, SLICE);
        for eid in &slice {
            self.cache(now, map_cache::Input::Remove(*eid));
            self.operations.disown(eid);
        }
        slice.len() == SLICE
    }

    /// Has a client told what became of its request, if it is still there.
    fn conclude(&mut self, asker: Asker, outcome: &Result<Done, Refused>) {
        let token = Token(asker.0 as usize);
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.conclude(outcome, self.generation);
            self.ready.insert(token);
        }
    }
}
