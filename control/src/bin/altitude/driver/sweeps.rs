//! Changes of many entries, a slice of them in each round: FLUSH, the leave of a client whose entries go with it, what was
//! learned inside prefixes that have become ours, and what was learned before everything began to go to an RTR.
//!
//! FLUSH is told when it begins, and holds from then on for clients: what it has still to take out is shown to nobody, and ADD
//! puts another in its place. What surely came or changed since stays; what a Map-Reply merely confirmed did not. What only may
//! have changed, because so many changes are not remembered, is shown, goes, and is told. The table's order has less-specifics
//! first, so that no packet takes the way of one whose more-specific has left.
//!
//! FLUSH of the database, and the leave of a client with mappings of ours, are told of each mapping when it is undone.

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
    time::Instant,
};

use altitude_control::{
    api::{Asker, Changes, Done, Event, Outcome, Refused, Table},
    map_cache::{self, Origin},
};
use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};
use mio::Token;

use super::{
    Driver,
    nat_site::NatSite,
    news::{News, Turn},
    operations::Operations,
};

/// Entries that one round looks at: with a million of them in the table it takes about a millisecond.
const SLICE: usize = 512;
/// FLUSHes that wait or go on at one time: who asked for one may leave, and ask again.
const FLUSHES_MAX: usize = 32;

/// A FLUSH, as far as it got.
pub(super) struct Flush {
    asker: Asker,
    table: Table,
    instance: Option<InstanceId>,
    /// Static entries too, and those of NAT traversal, which nobody could look up again.
    all: bool,
    /// Where it goes on.
    start: Bound<EidPrefix>,
    /// The generation when it was asked for; of the database how much clients had put in, see `Database::puts`.
    since: u64,
    count: u64,
}

impl Flush {
    /// Whether it is about such entries.
    fn means(&self, eid: &EidPrefix, origin: map_cache::Origin) -> bool {
        let instance = self.instance.is_none_or(|instance| instance == eid.instance);
        instance && (self.all || !matches!(origin, map_cache::Origin::Static | map_cache::Origin::Nat))
    }

    /// Whether it has told that this entry is gone, and has still to take it out.
    fn condemns(&self, eid: &EidPrefix, origin: map_cache::Origin, changes: &Changes) -> bool {
        let ahead = self.table == Table::Cache && (self.start, Bound::Unbounded).contains(eid);
        ahead && self.means(eid, origin) && !changes.since(eid, self.since)
    }
}

impl Operations {
    /// Whether a FLUSH that goes on has told that such an entry is gone.
    fn condemn(&self, eid: &EidPrefix, origin: map_cache::Origin) -> bool {
        self.flushes.iter().any(|flush| flush.condemns(eid, origin, &self.changes))
    }

    /// What becomes of an entry of the map-cache, for who was told that a FLUSH took it out: to him one that says something else
    /// has come. To be asked before the change is noted, after which the FLUSH spares it.
    fn seen(&self, eid: &EidPrefix, turn: Turn, origin: impl Fn() -> Option<map_cache::Origin>) -> Turn {
        let condemned = || origin().is_some_and(|origin| self.condemn(eid, origin));
        match turn {
            Turn::Changed if !self.flushes.is_empty() && condemned() => Turn::Came,
            other => other,
        }
    }

    /// An entry turned, which made this generation; returns what that is to who listens. What a client names was not condemned,
    /// or taken out before. `origin` is that of an entry of the map-cache, as it is now.
    pub(super) fn note(
        &mut self,
        (table, eid, turn): (Table, EidPrefix, Turn),
        generation: u64,
        news: &News,
        origin: impl Fn() -> Option<map_cache::Origin>,
    ) -> Turn {
        let shown = if table == Table::Database || news.names(&eid) { turn } else { self.seen(&eid, turn, &origin) };
        let left = matches!(turn, Turn::Left { .. });
        // Of what is gone nobody asks whether it has changed: a FLUSH does not push out what others want to know.
        if !(news.muted && left) {
            self.changes.note(eid, generation);
        }
        // A client may have put another in its place in the same step.
        if left && table == Table::Cache && origin() != Some(map_cache::Origin::Api) {
            self.disown(&eid);
        }
        shown
    }
}

/// What was learned inside prefixes before they became ours, as far as it is still there. Each is told when it goes.
#[derive(Default)]
pub(super) struct Overtaken {
    /// Our prefixes, each with where it goes on.
    left: BTreeMap<EidPrefix, Bound<EidPrefix>>,
}

impl Overtaken {
    /// This prefix is ours from now on.
    fn begin(&mut self, own: EidPrefix) {
        self.left.insert(own, Bound::Included(own));
    }

    /// The next entries that are to go: it has looked at no more than [`SLICE`] prefixes and entries for them.
    fn slice<'c, I: Iterator<Item = EidPrefix> + 'c>(
        &mut self,
        is_ours: impl Fn(&EidPrefix) -> bool,
        cached_from: impl Fn(Bound<EidPrefix>) -> I,
    ) -> Vec<EidPrefix> {
        let (mut slice, mut looked) = (Vec::new(), 0);
        while looked < SLICE
            && let Some((own, start)) = self.left.pop_first()
        {
            looked += 1;
            // What is not ours any more is learned as it should be.
            if !is_ours(&own) {
                continue;
            }
            let room = SLICE - looked;
            let before = slice.len();
            slice.extend(cached_from(start).take_while(|eid| own.covers(eid)).take(room));
            looked += slice.len() - before;
            if slice.len() - before == room {
                let last = slice[before..].last().map_or(start, |last| Bound::Excluded(*last));
                self.left.insert(own, last);
            }
        }
        slice
    }
}

/// What was learned before everything began to go to an RTR, as far as it is still there. Each is told when it goes.
///
/// Nothing is learned of what leads to an RTR, so one way through the table finds all of it; where more begins to, it begins anew.
/// What it has not come to goes where it went before, at the worst as long as the round that finds it takes to come.
#[derive(Default)]
pub(super) struct Bypass {
    /// Where it goes on; `None`: all is done.
    start: Option<Bound<EidPrefix>>,
}

impl Bypass {
    /// An RTR leads from now on, or to more than before.
    pub(super) const fn begin(&mut self) {
        self.start = Some(Bound::Unbounded);
    }

    /// The next entries that are to go, of [`SLICE`] that it has looked at; `led` is what goes to the RTR, and where there is no such
    /// thing any more, all stay.
    fn slice<I: Iterator<Item = (EidPrefix, Origin)>>(
        &mut self,
        led: &[EidPrefix],
        cached_from: impl Fn(Bound<EidPrefix>) -> I,
    ) -> Vec<EidPrefix> {
        let Some(start) = self.start.take().filter(|_| !led.is_empty()) else { return Vec::new() };
        let looked: Vec<(EidPrefix, Origin)> = cached_from(start).take(SLICE).collect();
        self.start = looked.last().filter(|_| looked.len() == SLICE).map(|(last, _)| Bound::Excluded(*last));
        let learned = |origin| matches!(origin, Origin::Reply | Origin::PubSub | Origin::GivenUp);
        let is_led = |eid: &EidPrefix| led.iter().any(|all| all.covers(eid));
        let goes = |(eid, origin): (EidPrefix, Origin)| (learned(origin) && is_led(&eid)).then_some(eid);
        looked.into_iter().filter_map(goes).collect()
    }
}

impl Driver<'_> {
    /// What was learned while there was no NAT would keep packets from the RTR, and cannot be asked for again: the next slice of it
    /// goes.
    pub(super) fn sweep_bypass(&mut self, now: Instant) {
        let cached_from = |start| self.map_cache.iter_from(start).map(|cached| (cached.eid, cached.origin));
        let NatSite { bypass, led, .. } = &mut self.nat_site;
        let slice = bypass.slice(led, cached_from);
        self.take_out(now, slice);
    }

    /// What was learned of other sites inside prefixes that are ours now is wrong; at least what a slice has goes at once.
    pub(super) fn forget_inside(&mut self, now: Instant, own: &[EidPrefix]) {
        if !own.is_empty() {
            own.iter().for_each(|eid| self.operations.overtaken.begin(*eid));
            self.sweep_overtaken(now);
        }
    }

    fn sweep_overtaken(&mut self, now: Instant) {
        let is_ours = |eid: &EidPrefix| self.own.get(eid).is_some();
        let cached_from = |start| self.map_cache.iter_from(start).map(|cached| cached.eid);
        let slice = self.operations.overtaken.slice(is_ours, cached_from);
        self.take_out(now, slice);
    }

    pub(super) fn flush(
        &mut self,
        asker: Asker,
        table: Table,
        (instance, all): (Option<InstanceId>, bool),
    ) -> Result<Outcome, Refused> {
        if table == Table::Database && all {
            return Err(Refused::Unsupported(
                "the database is not emptied of what the configuration says: without ALL what clients made goes",
            ));
        }
        if self.operations.flushes.len() >= FLUSHES_MAX {
            return Err(Refused::Full("as many FLUSHes go on as may: ask again when one has ended"));
        }
        let first = Prefix::new([0; 4].into(), 0).expect("a length of 0 suits every family");
        let start =
            instance.map_or(Bound::Unbounded, |instance| Bound::Included(EidPrefix { instance, prefix: first }));
        if table == Table::Cache {
            self.tell(Event::Flushed { table, instance, all });
        }
        let since = if table == Table::Database { self.own.puts() } else { self.generation };
        self.operations.flushes.push_back(Flush { asker, table, instance, all, start, since, count: 0 });
        Ok(Outcome::Later)
    }

    /// Whether a FLUSH that goes on has told that this entry is gone.
    pub(super) fn is_condemned(&self, cached: &map_cache::Cached<'_>) -> bool {
        self.operations.condemn(&cached.eid, cached.origin)
    }

    /// Takes a condemned entry out before it is its turn, as the FLUSH would.
    pub(super) fn take_out_condemned(&mut self, now: Instant, eid: &EidPrefix, origin: map_cache::Origin) {
        let Operations { flushes, changes, .. } = &mut self.operations;
        if let Some(flush) = flushes.iter_mut().find(|flush| flush.condemns(eid, origin, changes)) {
            flush.count += 1;
            // Who does this is about another entry or about this one; what else ends meanwhile is told.
            let about = self.news.about.replace(vec![*eid]);
            self.news.muted = true;
            self.cache(now, map_cache::Input::Remove(*eid));
            (self.news.muted, self.news.about) = (false, about);
        }
    }

    /// What was to go with a connection goes.
    pub(super) fn client_left(&mut self, token: Token) {
        self.watcher_left(token);
        let asker = Asker(token.0 as u64);
        if self.own.owns_some(asker) && self.own_left(Instant::now(), asker) {
            self.operations.own_leavers.push_back(asker);
        }
        if self.operations.owns_some(asker) {
            self.operations.leavers.push_back(asker);
        }
    }

    /// Does the next slice of a FLUSH and of all else that goes; true if there are more.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        if let Some(flush) = self.operations.flushes.pop_front()
            && let Some(unfinished) = self.sweep_flush(now, flush)
        {
            self.operations.flushes.push_front(unfinished);
        }
        if let Some(asker) = self.operations.own_leavers.pop_front()
            && self.own_left(now, asker)
        {
            self.operations.own_leavers.push_front(asker);
        }
        self.sweep_owned(now);
        self.sweep_overtaken(now);
        self.sweep_bypass(now);
        let Operations { flushes, leavers, own_leavers, overtaken, .. } = &self.operations;
        let leaving = !leavers.is_empty() || !own_leavers.is_empty();
        !flushes.is_empty() || leaving || !overtaken.left.is_empty() || self.nat_site.bypass.start.is_some()
    }

    fn sweep_flush(&mut self, now: Instant, mut flush: Flush) -> Option<Flush> {
        let more = match flush.table {
            Table::Cache => self.flush_slice(now, &mut flush),
            Table::Database => {
                let (undone, more) = self.flush_own(now, flush.asker, (flush.instance, flush.since));
                flush.count += undone as u64;
                more
            }
        };
        if more {
            return Some(flush);
        }
        self.conclude(flush.asker, &Ok(Done { entry: None, count: flush.count }));
        None
    }

    /// Takes out the next slice of the map-cache; true if there is more.
    fn flush_slice(&mut self, now: Instant, flush: &mut Flush) -> bool {
        let changes = &self.operations.changes;
        let goes = |cached: &map_cache::Cached<'_>| {
            flush.means(&cached.eid, cached.origin) && !changes.surely_since(&cached.eid, flush.since)
        };
        let here = self.map_cache.iter_from(flush.start);
        let here = here.take_while(|cached| flush.instance.is_none_or(|instance| cached.eid.instance == instance));
        let slice: Vec<(EidPrefix, bool)> = here.take(SLICE).map(|cached| (cached.eid, goes(&cached))).collect();
        let gone = slice.iter().filter(|(_, goes)| *goes).map(|(eid, _)| *eid);
        let (told, untold): (Vec<EidPrefix>, Vec<EidPrefix>) =
            gone.partition(|eid| self.operations.changes.since(eid, flush.since));
        flush.count += (told.len() + untold.len()) as u64;
        for (list, muted) in [(told, false), (untold, true)] {
            (self.news.cause, self.news.muted) = (Some(flush.asker), muted);
            // What else comes or ends in the same step is nobody's doing, and told.
            self.news.about = Some(list.clone());
            self.take_out(now, list);
        }
        (self.news.muted, self.news.cause, self.news.about) = (false, None, None);
        if let Some((last, _)) = slice.last() {
            flush.start = Bound::Excluded(*last);
        }
        slice.len() == SLICE
    }

    /// Takes out what clients have left behind, as much as a slice has.
    fn sweep_owned(&mut self, now: Instant) {
        let mut slice = Vec::new();
        while slice.len() < SLICE
            && let Some(&asker) = self.operations.leavers.front()
        {
            let owned = self.operations.owned(asker, SLICE - slice.len());
            owned.iter().for_each(|eid| self.operations.disown(eid));
            slice.extend(owned);
            if !self.operations.owns_some(asker) {
                self.operations.leavers.pop_front();
            }
        }
        self.take_out(now, slice);
    }

    /// Takes entries out in one step of the map-cache, which ends others by their time only once.
    pub(super) fn take_out(&mut self, now: Instant, eids: Vec<EidPrefix>) {
        if !eids.is_empty() {
            self.cache(now, map_cache::Input::Batch(Vec::new(), eids));
        }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use altitude_control::prefix_map::PrefixMap;

    use super::*;

    fn eid(instance: u32, text: &str) -> EidPrefix {
        EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix: text.parse().unwrap() }
    }

    #[test]
    fn condemned_is_what_it_is_about_and_has_not_reached_and_did_not_change_since() {
        use map_cache::Origin::{Api, Nat, Reply, Static};
        let mut changes = Changes::default();
        changes.note(eid(0, "2.0.0.0/16"), 10);
        changes.note(eid(0, "3.0.0.0/16"), 11);
        let flush = |instance: Option<u32>, all| Flush {
            asker: Asker(1),
            table: Table::Cache,
            instance: instance.map(|number| InstanceId::new(number).unwrap()),
            all,
            start: Bound::Excluded(eid(0, "1.0.0.0/16")),
            since: 10,
            count: 0,
        };
        let cases = [
            (flush(None, false), eid(0, "2.0.0.0/16"), Reply, true),
            (flush(None, false), eid(0, "2.0.0.0/16"), Static, false),
            (flush(None, true), eid(0, "2.0.0.0/16"), Static, true),
            (flush(None, false), eid(0, "2.0.0.0/16"), Nat, false),
            (flush(None, true), eid(0, "2.0.0.0/16"), Nat, true),
            // It came or changed since.
            (flush(None, false), eid(0, "3.0.0.0/16"), Api, false),
            // Where it has been already.
            (flush(None, false), eid(0, "1.0.0.0/16"), Api, false),
            (flush(None, false), eid(7, "1.0.0.0/16"), Api, true),
            (flush(Some(7), false), eid(7, "1.0.0.0/16"), Api, true),
            (flush(Some(7), false), eid(0, "2.0.0.0/16"), Api, false),
        ];
        for (flush, eid, origin, condemned) in cases {
            assert_eq!(flush.condemns(&eid, origin, &changes), condemned, "{eid} {origin:?}");
        }
    }

    #[test]
    fn who_was_told_of_a_flush_hears_of_a_condemned_entry_that_changes_as_one_that_comes() {
        use map_cache::Origin::{Api, Reply, Static};
        let (wanted, other) = (eid(0, "2.0.0.0/16"), eid(0, "1.0.0.0/16"));
        let left = Turn::Left { expired: true };
        let about = |eid| {
            let mut news = News::default();
            news.about = Some(vec![eid]);
            news
        };
        let flushing = |table| {
            let start = Bound::Excluded(other);
            let flush = Flush { asker: Asker(1), table, instance: None, all: false, start, since: 10, count: 0 };
            let mut operations = Operations::default();
            operations.flushes.push_back(flush);
            operations
        };
        let (cache, database) = (Table::Cache, Table::Database);
        for (flushed, news, turned, origin, shown) in [
            (cache, News::default(), (cache, wanted, Turn::Changed), Some(Reply), Turn::Came),
            (cache, News::default(), (cache, wanted, Turn::Came), Some(Reply), Turn::Came),
            (cache, News::default(), (cache, wanted, left), None, left),
            (cache, News::default(), (cache, wanted, Turn::Changed), Some(Static), Turn::Changed),
            // Where it has been already.
            (cache, News::default(), (cache, other, Turn::Changed), Some(Reply), Turn::Changed),
            // A static one, which stays, until a client changed it.
            (cache, about(wanted), (cache, wanted, Turn::Changed), Some(Api), Turn::Changed),
            (cache, about(other), (cache, wanted, Turn::Changed), Some(Reply), Turn::Came),
            // The other table.
            (cache, News::default(), (database, wanted, Turn::Changed), Some(Reply), Turn::Changed),
            (database, News::default(), (cache, wanted, Turn::Changed), Some(Reply), Turn::Changed),
        ] {
            let mut operations = flushing(flushed);
            assert_eq!(operations.note(turned, 11, &news, || origin), shown, "{flushed:?} {turned:?} {origin:?}");
            assert!(operations.changes.surely_since(&turned.1, 10), "{turned:?}");
            // It was told, and the FLUSH spares it from now on.
            let again = operations.note((turned.0, turned.1, Turn::Changed), 12, &News::default(), || origin);
            assert_eq!(again, Turn::Changed, "{turned:?}");
        }
        let none = || -> Option<map_cache::Origin> { panic!("without a FLUSH nobody asks") };
        let turned = (cache, wanted, Turn::Changed);
        assert_eq!(Operations::default().note(turned, 11, &News::default(), none), Turn::Changed);
    }

    /// One prefix of ours that holds many entries, and many that hold none, are looked at in slices alike.
    #[test]
    fn what_was_learned_inside_our_new_prefixes_goes_in_slices_and_nothing_else_does() {
        let host = |number: u32| eid(0, &format!("1.1.{}.{}/32", number >> 8, number & 255));
        let inside: Vec<EidPrefix> = std::iter::once(eid(0, "1.1.0.0/16")).chain((0..1500).map(host)).collect();
        let others = [eid(0, "1.0.0.0/8"), eid(0, "1.2.0.0/24"), eid(7, "1.1.0.0/24"), eid(0, "2001:db8::/48")];
        let cached: PrefixMap<()> = inside.iter().chain(&others).map(|eid| (*eid, ())).collect();
        let looked = Cell::new(0);
        let cached_from =
            |start| cached.iter_from(start).map(|(eid, ())| eid).inspect(|_| looked.set(looked.get() + 1));
        let mut overtaken = Overtaken::default();
        let ours = [eid(0, "1.1.0.0/16"), eid(0, "9.0.0.0/8")];
        ours.iter().for_each(|own| overtaken.begin(*own));
        let mut gone = Vec::new();
        let mut rounds = 0;
        while !overtaken.left.is_empty() {
            looked.set(0);
            gone.extend(overtaken.slice(|own| ours.contains(own), cached_from));
            assert!(looked.get() <= SLICE, "{}", looked.get());
            rounds += 1;
        }
        assert_eq!((gone, rounds), (inside, 3));
        (0..1500).for_each(|number| overtaken.begin(host(number)));
        for left in [1501 - SLICE, 1502 - 2 * SLICE, 0] {
            assert_eq!(overtaken.slice(|_| true, |_| std::iter::empty()), []);
            assert_eq!(overtaken.left.len(), left);
        }
        overtaken.begin(ours[0]);
        assert_eq!(overtaken.slice(|_| false, cached_from), [], "it is another's again");
        assert!(overtaken.left.is_empty());
    }

    /// An instance of ours may leave and come back while an RTR leads, and things are learned in it meanwhile.
    #[test]
    fn what_was_learned_goes_whenever_more_begins_to_lead_to_an_rtr() {
        let (one, other) = (eid(0, "0.0.0.0/0"), eid(7, "0.0.0.0/0"));
        let mut site = NatSite::default();
        let learned = [(eid(0, "1.1.0.0/16"), Origin::Reply), (eid(7, "1.1.0.0/16"), Origin::Reply)];
        let mut goes = |all: Vec<EidPrefix>, gone: &[EidPrefix]| {
            assert_eq!(site.lead(all), gone);
            site.bypass.slice(&site.led, |_| learned.into_iter())
        };
        assert_eq!(goes(vec![one, other], &[]), [learned[0].0, learned[1].0]);
        assert_eq!(goes(vec![one, other], &[]), [], "it was looked for");
        assert_eq!(goes(vec![one], &[other]), [], "its instance is none of ours any more");
        assert_eq!(goes(vec![one, other], &[]), [learned[0].0, learned[1].0], "it was learned meanwhile");
        assert_eq!(goes(vec![], &[one, other]), [], "the NAT is gone");
    }

    #[test]
    fn what_was_learned_before_an_rtr_leads_goes_in_slices_less_specifics_first_and_the_rest_stays() {
        use Origin::{Api, GivenUp, Nat, PubSub, Reply, Static};
        let host = |number: u32| eid(0, &format!("1.1.{}.{}/32", number >> 8, number & 255));
        let learned = [(eid(0, "1.0.0.0/8"), Reply), (eid(0, "1.1.0.0/16"), PubSub), (eid(0, "9.9.9.9/32"), GivenUp)];
        let stay = [
            (eid(0, "0.0.0.0/0"), Nat),
            (eid(0, "1.1.0.0/24"), Static),
            (eid(0, "1.2.0.0/24"), Api),
            (eid(7, "1.1.0.0/24"), Reply),
            (eid(0, "2001:db8::/48"), Reply),
        ];
        let hosts = (0..1500).map(|number| (host(number), Reply));
        let all: PrefixMap<Origin> = learned.into_iter().chain(stay).chain(hosts).collect();
        let led = [eid(0, "0.0.0.0/0")];
        let run = |rounds_led: usize| {
            let (mut cached, mut bypass, mut gone) = (all.clone(), Bypass::default(), Vec::new());
            assert_eq!(bypass.slice(&led, |_| std::iter::empty()), [], "no RTR has begun to lead");
            bypass.begin();
            let mut round = 0;
            while bypass.start.is_some() {
                let looked = Cell::new(0);
                let from = |start| {
                    let here = cached.iter_from(start).map(|(eid, origin)| (eid, *origin));
                    here.inspect(|_| looked.set(looked.get() + 1))
                };
                let slice = bypass.slice(if round < rounds_led { &led } else { &[] }, from);
                assert!(looked.get() <= SLICE, "{}", looked.get());
                slice.iter().for_each(|eid| assert!(cached.remove(eid).is_some()));
                gone.extend(slice);
                round += 1;
            }
            (cached, gone, round)
        };
        let (cached, gone, rounds) = run(usize::MAX);
        assert_eq!(cached.iter().map(|(eid, origin)| (eid, *origin)).collect::<Vec<_>>(), {
            let stay: PrefixMap<Origin> = stay.into_iter().collect();
            stay.iter().map(|(eid, origin)| (eid, *origin)).collect::<Vec<_>>()
        });
        assert_eq!((gone.len(), rounds), (1503, 3));
        // No packet takes the way of a less-specific whose more-specific has left.
        for (index, eid) in gone.iter().enumerate() {
            assert!(!gone[index + 1..].iter().any(|later| later.covers(eid)), "{eid}");
        }
        let (cached, gone, rounds) = run(1);
        assert_eq!((cached.len() + gone.len(), rounds), (1508, 2), "the NAT is gone: what is left may stay");
        assert!(gone.len() < SLICE, "{}", gone.len());
    }
}
