//! Asks: what Map-Requests with the N bit want, until a Map-Notify-Ack proves that their xTR wants it.
//!
//! An ask is kept beside the subscription that it would change, and hears of changes as that does, so that it can take its place
//! at once. Nobody can tell a forged one from a true one; so they are few, they have a pace of their own, and the oldest gives
//! way: a true one is acknowledged within the time of one round trip.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::Mapping;

use super::{Ask, Name, Output, RLOCS_MAX, Said, SiteFault, Standing, Subscription, Subscriptions, is_newer};
use crate::rate::{Bucket, Rate};

/// Asks at one time.
const ASKS_MAX: usize = 4096;
/// Asks of one xTR for one prefix: the tries of one xTR, and a stranger's.
const ASKS_OF_NAME_MAX: usize = 8;
/// How often the answer to an ask is sent again: it goes where a stranger may have sent it.
pub(super) const AGAIN_MAX: usize = 2;
/// The pace of these.
const PACE: Rate = Rate { burst: 20, every: Duration::from_millis(5) };
/// How far ahead of a subscription's nonce an ask may be for its nonce to be left out by a publication: so far ahead are the
/// tries of one xTR.
const TRIES_AHEAD: u64 = 16;

/// The asks' places.
#[derive(Debug)]
pub(super) struct Asks {
    by_name: BTreeMap<(Name, u64), u32>,
    /// The oldest first.
    by_age: BTreeMap<u64, u32>,
    places: u64,
    pub(super) retries: BTreeSet<(Instant, u32)>,
    bucket: Bucket,
}

impl Asks {
    pub(super) const fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
            by_age: BTreeMap::new(),
            places: 0,
            retries: BTreeSet::new(),
            bucket: Bucket::new(),
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let (at, _) = self.retries.first()?;
        Some(self.bucket.next(PACE).map_or(*at, |token| token.max(*at)))
    }

    /// Those behind a place, with theirs; places begin with 1.
    pub(super) fn after(&self, place: u64) -> impl Iterator<Item = (u64, u32)> {
        self.by_age.range((Bound::Excluded(place), Bound::Unbounded)).map(|(place, number)| (*place, *number))
    }

    fn of(&self, name: &Name) -> impl Iterator<Item = u32> {
        self.by_name.range((*name, 0)..=(*name, u64::MAX)).map(|(_, number)| *number)
    }

    fn place(&mut self, name: Name) -> u64 {
        self.places += 1;
        debug_assert!(!self.by_name.contains_key(&(name, self.places)), "places only grow");
        self.places
    }

    fn insert(&mut self, name: Name, place: u64, number: u32) {
        self.by_name.insert((name, place), number);
        self.by_age.insert(place, number);
    }

    pub(super) fn remove(&mut self, name: &Name, place: u64) {
        self.by_name.remove(&(*name, place));
        self.by_age.remove(&place);
    }
}

impl Subscriptions {
    /// Whether this very Map-Request came before, and is not proven yet.
    pub(super) fn has_asked(&self, name: &Name, nonce: u64) -> bool {
        self.asks.of(name).any(|number| self.table[number].nonce == nonce)
    }

    /// Takes in a subscription that was [permitted](Self::permit), and confirms it.
    pub(in crate::map_server) fn subscribe(&mut self, now: Instant, ask: &Ask<'_>, said: Said, todo: &mut Vec<Output>) {
        let Some(number) = self.enter(now, ask, &said.records) else { return };
        let until = said.temporary.then(|| now + self.settings.temporary());
        let one = &mut self.table[number];
        one.until = until;
        one.rlocs = ask.rlocs.iter().take(RLOCS_MAX).copied().collect();
        // Whoever asks is best reached where it asked from.
        one.turn = one.rlocs.iter().position(|rloc| *rloc == ask.source).unwrap_or(0);
        one.pending.extend(said.rest);
        self.send(now, number, said.records, todo);
    }

    /// Confirms the end of a subscription at its xTR's wish, to where the wish came from (RFC 9437 §5). Of what was never
    /// subscribed to nothing is kept.
    pub(in crate::map_server) fn unsubscribe(
        &mut self,
        now: Instant,
        ask: &Ask<'_>,
        record: Mapping,
        todo: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peer(ask.xtr) else { return };
        let known = self.by_name.contains_key(&self.name(peer, ask));
        let Some(number) = self.enter(now, ask, &[]) else { return };
        self.table[number].rlocs = vec![ask.source];
        self.send(now, number, vec![record], todo);
        if !known {
            self.remove(number);
        }
    }

    fn enter(&mut self, now: Instant, ask: &Ask<'_>, records: &[Mapping]) -> Option<u32> {
        let peer = self.peer(ask.xtr)?;
        let name = self.name(peer, ask);
        let oldest = self.asks.by_age.first_key_value().map(|(_, number)| *number);
        let oldest = oldest.filter(|_| self.asks.by_age.len() >= ASKS_MAX);
        let of_name = self.asks.of(&name).next().filter(|_| self.asks.of(&name).count() >= ASKS_OF_NAME_MAX);
        if let Some(number) = of_name.or(oldest) {
            self.remove(number);
        }
        let wider = records.iter().find(|record| record.eid.covers(&ask.eid)).map(|record| record.eid);
        let (scope, place) = (wider.unwrap_or(ask.eid), self.asks.place(name));
        let standing = Standing::Asked { place, ends: ask.ends };
        let key = self.take_key(peer, ask);
        let one = Subscription { nonce: ask.nonce, key, ..Subscription::new(now, name, peer, scope, standing) };
        let number = self.table.insert(one);
        self.asks.insert(name, place, number);
        self.watch(scope, number);
        Some(number)
    }

    /// Sends again what was not acknowledged, or forgets the ask.
    pub(super) fn repeat_asks(&mut self, now: Instant, todo: &mut Vec<Output>) {
        while let Some((_, number)) = self.asks.retries.first().copied().filter(|(at, _)| *at <= now) {
            if self.table[number].sent.as_ref().is_none_or(|sent| sent.times >= AGAIN_MAX) {
                self.remove(number);
                todo.push(Output::Drop(SiteFault::SubscriptionUnproven));
            } else if self.asks.bucket.take(now, PACE) {
                self.repeat(now, number, todo);
            } else {
                return;
            }
        }
    }

    /// The ask has been proven: what it wants is done.
    pub(super) fn proven(&mut self, number: u32, ends: bool, todo: &mut Vec<Output>) {
        let (name, mut nonce, mut since) = {
            let one = &self.table[number];
            (one.name, one.nonce, one.since)
        };
        let stale = |other: &u32| *other != number && !is_newer(self.table[*other].nonce, nonce);
        let stale: Vec<u32> = self.asks.of(&name).filter(stale).collect();
        stale.into_iter().for_each(|other| self.remove(other));
        let before = self.by_name.get(&name).copied();
        if let Some(known) = before.map(|before| &mut self.table[before]) {
            // It may have been published to meanwhile.
            nonce = if is_newer(known.nonce, nonce) { known.nonce } else { nonce };
            known.nonce = nonce;
            since = if known.standing == Standing::Live { known.since } else { since };
        }
        if ends {
            self.remove(number);
            if let Some(before) = before {
                self.end(before, todo);
                self.note(before);
            }
            return;
        }
        let lives = before.is_some_and(|before| self.table[before].standing == Standing::Live);
        if let Some(fault) = self.room(&name).err().filter(|_| !lives) {
            self.remove(number);
            return todo.push(Output::Drop(fault));
        }
        if let Some(before) = before {
            self.remove(before);
        }
        let one = &mut self.table[number];
        (one.nonce, one.since) = (nonce, since);
        if let Some(by) = one.rlocs.get(one.turn).copied() {
            todo.push(Output::Subscribed { xtr: name.xtr, eid: name.eid, by });
        }
        self.go_live(number);
        self.queue(number);
        self.note(number);
    }

    /// An ask lives from now on, in the place of none.
    pub(super) fn go_live(&mut self, number: u32) {
        self.drop_sent(number);
        let one = &mut self.table[number];
        let (name, until) = (one.name, one.until);
        if let Standing::Asked { place, .. } = std::mem::replace(&mut one.standing, Standing::Live) {
            self.asks.remove(&name, place);
        }
        self.set_until(number, until);
        self.by_name.insert(name, number);
        *self.live.entry((name.xtr, name.client)).or_default() += 1;
    }

    /// The nonce of the next publication. Those that the xTR is using for asks of its own are left out: it would take one of the
    /// two for a replay.
    pub(super) fn next_nonce(&self, number: u32) -> u64 {
        let one = &self.table[number];
        let near = |nonce: &u64| is_newer(*nonce, one.nonce) && nonce.wrapping_sub(one.nonce) <= TRIES_AHEAD;
        let asked = self.asks.of(&one.name).map(|ask| self.table[ask].nonce).filter(near);
        let ahead = asked.map(|nonce| nonce.wrapping_sub(one.nonce)).max().unwrap_or(0);
        one.nonce.wrapping_add(ahead + 1)
    }
}

impl Subscription {
    pub(super) const fn new(
        now: Instant,
        name: Name,
        peer: usize,
        scope: altitude_dataplane::mapping::EidPrefix,
        standing: Standing,
    ) -> Self {
        Self {
            name,
            scope,
            peer,
            key: None,
            rlocs: Vec::new(),
            turn: 0,
            nonce: 0,
            standing,
            since: now,
            until: None,
            pending: BTreeSet::new(),
            queued: false,
            sent: None,
        }
    }
}
