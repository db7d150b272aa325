//! The map-cache that workers read: longest-prefix match per Instance-ID and family, one writer, lock-free readers.
//!
//! One table answers both questions of a packet: is its source ours ([`Snapshot::ours`], else [`Snapshot::is_local`]), and
//! where does its destination live ([`Snapshot::way`]). The control thread owns the [`Writer`]; each worker owns a [`Reader`] and takes one
//! [`Snapshot`] per turn. The start of a turn is its quiescent state: the writer uses memory anew only after every worker
//! has passed one.
//!
//! Changes are made in place. A worker sees each at once and whole: while an entry is replaced it finds the old one or the
//! new one, never neither. When several belong together ([`Writer::publish`] ends them), the order decides what is seen in
//! between: more-specifics go in first and out last, and no packet takes a way that neither the old nor the new table has
//! (RFC 9301 §5.5).
//!
//! Read it from below:
//! * `tables`: all that workers can reach, and how it hangs together.
//! * `lookup`, `descend`, `lanes`: how they go through it, one address or a batch; `lookups`: such a batch.
//! * `ours`: what is local, as a list for what is asked of sources.
//! * `trie`, `flat`, `hosts`, `grow`: how the writer changes it under their eyes; `values`: locator-sets, headers, next hops.
//! * `quiescence`: when memory may be used anew. All reasoning about memory order is there, with loom models.
//! * `memory`: arenas that never move; `store`, `records`: the writer's own books.
//! * `hits`: counters per worker and entry, outside the table, so that a worker's counting changes nothing that others
//!   read.

#![allow(unsafe_code)]

mod atomics;
mod descend;
mod entry;
mod flat;
mod grow;
mod hits;
mod hosts;
mod lanes;
mod lookup;
mod lookups;
mod memory;
mod ours;
mod quiescence;
mod records;
mod store;
mod tables;
mod trie;
mod values;

use std::{
    hash::{BuildHasher, RandomState},
    marker::PhantomData,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

pub use entry::{Choice, Delivery, Entry, Forwarding, Hits, SetId, Way};
use hits::{Tallies, Tally};
use lookup::Walk;
pub use lookups::Lookups;
pub use memory::prefetch;
pub use ours::Ours;
use quiescence::{Grace, Presence, quiescence};
use records::Records;
use store::{LIMBO_MAX, Retired, Store};
use tables::Tables;
use trie::Key;

use crate::{
    counters::Volume,
    mapping::{EidPrefix, InstanceId, Mark, NextHop},
};

/// Why a change was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// As many entries as the table was made for.
    #[error("the map-cache is full ({0} entries): raise --map-cache-max")]
    Full(usize),
    /// So much was taken out since a worker last began a turn that nothing is left to use: it hangs. Try again later.
    #[error("the map-cache waits for a worker that hangs ({0} parts taken out are still in its hands)")]
    Waiting(usize),
    /// A choice names a locator that the set was not made with.
    #[error("{0} is no locator of this set")]
    NotAMember(IpAddr),
}

/// The writing end: the control thread's.
pub struct Writer {
    grace: Grace,
    store: Store,
    tallies: Tallies,
    capacity: usize,
}

/// The reading end: one worker's. Steps in with its first [`snapshot`](Self::snapshot).
pub struct Reader {
    presence: Presence,
    tables: Arc<Tables>,
    walk: Walk,
    tally: Arc<Tally>,
}

/// The right to look things up during one turn. It stays with its worker's thread, which alone writes its counters.
pub struct Snapshot<'a> {
    tables: &'a Tables,
    walk: Walk,
    volumes: &'a [Volume],
    generation: u64,
    _not_send: PhantomData<*const ()>,
}

/// What a table occupies, octets. Parts that were used once and stand by for the next change are counted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Roots, nodes, leaves and hosts: what a look-up goes through.
    pub trie: usize,
    /// Locator-sets, outer headers and next hops.
    pub values: usize,
    /// The writer's own books.
    pub records: usize,
    /// Counters of all workers.
    pub counters: usize,
}

impl Memory {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.trie + self.values + self.records + self.counters
    }
}

/// An empty table for at most `capacity` entries and `readers` workers.
#[must_use]
pub fn new(capacity: usize, readers: usize) -> (Writer, Vec<Reader>) {
    let (grace, presences) = quiescence(readers);
    // Twice the entries, so that a full table can be exchanged within one grace period.
    let slots = capacity.saturating_mul(2).min(1 << 29);
    let tallies = Tallies::new(slots + 1, readers);
    let seed = RandomState::new().hash_one(0);
    let tables = Arc::new(Tables::new(capacity, seed));
    let walk = Walk::best();
    let readers = presences
        .into_iter()
        .zip(tallies.each())
        .map(|(presence, tally)| Reader { presence, tables: tables.clone(), walk, tally: tally.clone() })
        .collect();
    let store = Store::new(tables, Records::new(capacity, slots, seed));
    (Writer { grace, store, tallies, capacity }, readers)
}

impl Writer {
    /// Makes a locator-set with these locators, whatever their state; no entry has it yet.
    ///
    /// # Errors
    /// [`CacheError::Full`], [`CacheError::Waiting`], [`CacheError::NotAMember`].
    pub fn add_set(&mut self, members: &[IpAddr], choice: &Choice) -> Result<SetId, CacheError> {
        self.room()?;
        self.store.add_set(members, choice)
    }

    /// Rewrites what workers choose from: every entry that has the set follows, at once.
    ///
    /// # Errors
    /// [`CacheError::Full`], [`CacheError::Waiting`], [`CacheError::NotAMember`]; the set is then unchanged.
    pub fn change_set(&mut self, set: SetId, choice: &Choice) -> Result<(), CacheError> {
        self.room()?;
        self.store.change_set(set, choice)
    }

    /// Takes a set out. No entry may have it any more.
    pub fn remove_set(&mut self, set: SetId) {
        self.store.remove_set(set);
    }

    /// Puts in or replaces the entry of exactly this prefix, without a mark; a replaced entry keeps its hits. Workers see it
    /// at once.
    ///
    /// # Errors
    /// [`CacheError::Full`] (only for a new prefix, or without memory), [`CacheError::Waiting`].
    pub fn insert(&mut self, eid: EidPrefix, forwarding: Forwarding) -> Result<(), CacheError> {
        self.insert_marked(eid, forwarding, Mark::default())
    }

    /// As [`insert`](Self::insert), with what header features say: no worker sees a new entry without it.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_marked(&mut self, eid: EidPrefix, forwarding: Forwarding, mark: Mark) -> Result<(), CacheError> {
        self.room()?;
        if let Some(slot) = self.store.records.find(&eid) {
            self.store.set_mark(slot, mark);
            let (old, new) = (self.store.action_of(slot), self.store.action(&forwarding));
            self.store.set_action(slot, new);
            if old.is_local() != new.is_local() {
                self.store.forget_entry(eid, old.is_local());
                self.store.note_entry(eid, new.is_local());
            }
            self.store.leave(old);
            return Ok(());
        }
        if self.len() >= self.capacity {
            return Err(CacheError::Full(self.capacity));
        }
        let v6 = eid.prefix.address().is_ipv6();
        let state = self.store.instance(eid.instance).ok_or(CacheError::Full(self.capacity))?;
        let root = self.store.root(state, v6).ok_or(CacheError::Full(self.capacity))?;
        let action = self.store.action(&forwarding);
        let Some(slot) = self.new_slot(eid) else {
            self.store.leave(action);
            self.store.drop_if_empty(eid.instance, v6);
            return Err(CacheError::Waiting(self.store.waiting()));
        };
        self.store.set_action(slot, action);
        self.store.set_mark(slot, mark);
        let state = self.store.count(eid.instance, v6, 1);
        self.store.insert(root, &Key::new(state.index, &eid), slot);
        self.store.note_entry(eid, action.is_local());
        self.store.grow_if_wanted(eid.instance, state, v6);
        Ok(())
    }

    /// Replaces what header features say under exactly this prefix; false if there is no entry.
    pub fn mark(&mut self, eid: &EidPrefix, mark: Mark) -> bool {
        let slot = self.store.records.find(eid);
        slot.is_some_and(|slot| {
            self.store.set_mark(slot, mark);
            true
        })
    }

    /// Whether a change can be made whatever it needs.
    fn room(&mut self) -> Result<(), CacheError> {
        let enough = |store: &Store| store.has_room() && store.waiting() < LIMBO_MAX;
        if enough(&self.store) || (self.reclaim() == 0 && self.store.has_room()) || enough(&self.store) {
            return Ok(());
        }
        match self.store.waiting() {
            0 => Err(CacheError::Full(self.capacity)),
            waiting => Err(CacheError::Waiting(waiting)),
        }
    }

    fn new_slot(&mut self, eid: EidPrefix) -> Option<u32> {
        let tallies = &self.tallies;
        self.store.records.enter(eid, |slot| tallies.total(slot)).or_else(|| {
            self.reclaim();
            let tallies = &self.tallies;
            self.store.records.enter(eid, |slot| tallies.total(slot))
        })
    }

    /// Takes out the entry of exactly this prefix; false if there is none. Workers see it at once.
    pub fn remove(&mut self, eid: &EidPrefix) -> bool {
        let Some(slot) = self.store.records.find(eid) else { return false };
        let v6 = eid.prefix.address().is_ipv6();
        let state = self.store.count(eid.instance, v6, -1);
        if let Some(root) = self.store.root(state, v6) {
            self.store.withdraw(root, &Key::new(state.index, eid), slot);
        }
        let action = self.store.action_of(slot);
        self.store.leave(action);
        self.store.records.strike(slot);
        self.store.retire(Retired::Slot(slot));
        self.store.forget_entry(*eid, action.is_local());
        self.store.drop_if_empty(eid.instance, v6);
        true
    }

    /// Ends a group of changes: workers that hold frames look again, and what the changes took out is used anew once
    /// every worker has begun a later turn.
    pub fn publish(&mut self) {
        let epoch = self.grace.advance();
        self.store.epoch = epoch + 1;
        self.reclaim();
    }

    /// Takes back what no worker can hold any more; returns how many parts still wait for workers.
    pub fn reclaim(&mut self) -> usize {
        let passed = self.grace.passed();
        self.store.recover(passed);
        self.store.waiting()
    }

    /// Packets and octets that used the entry of exactly this prefix, over all workers. A packet that a proxy sends on
    /// because of its source's entry uses that as well, without octets. It may lag behind a worker's
    /// turn; it never counts anything twice.
    #[must_use]
    pub fn hits(&self, eid: &EidPrefix) -> Option<Hits> {
        let slot = self.store.records.find(eid)?;
        let (now, base) = (self.tallies.total(slot), self.store.records.get(slot).base);
        let since = |now: u64, base: u64| now.wrapping_sub(base);
        Some(Hits { packets: since(now.packets, base.packets), octets: since(now.octets, base.octets) })
    }

    /// Entries put in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.records.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the table occupies.
    #[must_use]
    pub fn octets(&self) -> Memory {
        self.store.octets(self.tallies.each().len())
    }
}

impl Reader {
    /// The table for the coming turn. Calling it is the quiescent state: no reference of the turn before may live, and
    /// the borrow checker sees to it.
    #[inline]
    pub fn snapshot(&mut self) -> Snapshot<'_> {
        let generation = self.presence.begin();
        let Self { tables, walk, tally, .. } = self;
        Snapshot { tables, walk: *walk, volumes: tally.volumes(), generation, _not_send: PhantomData }
    }

    /// Steps aside before the worker sleeps, so that memory is reclaimed without it; the next
    /// [`snapshot`](Self::snapshot) steps back in.
    pub fn go_offline(&mut self) {
        self.presence.go_offline();
    }
}

impl<'a> Snapshot<'a> {
    /// The entry of the longest prefix that holds `address`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, instance: InstanceId, address: IpAddr) -> Option<Entry> {
        let index = self.tables.instance_index(instance);
        Entry::from_slot(self.walk.one(self.tables, index, address))
    }

    /// The same for every address of `lookups`, several times as fast as one by one.
    #[inline]
    pub fn lookup_all(&self, lookups: &mut Lookups) {
        self.walk.all(self.tables, lookups);
    }

    /// Writes to `found` what each IPv4 address finds in an instance; as many as the shorter of the two has. For callers
    /// that have their addresses side by side; packets give theirs one by one, to [`lookup_all`](Self::lookup_all).
    #[inline]
    pub fn lookup_array_v4(&self, instance: InstanceId, addresses: &[u32], found: &mut [Option<Entry>]) {
        self.walk.array_v4(self.tables, instance, addresses, entry::slots_of(found));
    }

    /// As [`lookup_array_v4`](Self::lookup_array_v4), IPv6 addresses.
    #[inline]
    pub fn lookup_array_v6(&self, instance: InstanceId, addresses: &[u128], found: &mut [Option<Entry>]) {
        self.walk.array_v6(self.tables, instance, addresses, entry::slots_of(found));
    }

    /// What is ours in an instance: quicker than the entry of an address, where it can tell.
    #[inline]
    #[must_use]
    pub fn ours(&self, instance: InstanceId) -> Ours<'a> {
        self.tables.ours(self.tables.instance_index(instance))
    }

    /// Whether the prefix of `entry` is one of ours.
    #[inline]
    #[must_use]
    pub fn is_local(&self, entry: Entry) -> bool {
        self.tables.action(entry).is_local()
    }

    /// What header features say under `entry`.
    #[inline]
    #[must_use]
    pub fn mark(&self, entry: Entry) -> Mark {
        Mark::from_word(self.tables.mark_word(entry.slot()).load(Ordering::Acquire))
    }

    /// Asks the processor for what every question about `entry` begins with.
    #[inline(always)]
    pub fn prefetch(&self, entry: Entry) {
        prefetch(self.tables.actions.address(entry.slot()));
    }

    /// Asks the processor for what [`mark`](Self::mark) will touch.
    #[inline(always)]
    pub fn prefetch_mark(&self, entry: Entry) {
        prefetch(self.tables.marks.address(entry.slot()));
    }

    /// Asks the processor for what [`hit`](Self::hit) will touch.
    #[inline(always)]
    pub fn prefetch_hit(&self, entry: Entry) {
        prefetch(self.volumes.as_ptr().wrapping_add(entry.slot() as usize));
    }

    /// Asks the processor for what [`way`](Self::way) will touch, once what [`prefetch`](Self::prefetch) asked for has
    /// come.
    #[inline(always)]
    pub fn prefetch_way(&self, entry: Entry) {
        prefetch(self.tables.first_line(entry));
    }

    /// The same for [`has_member`](Self::has_member).
    #[inline(always)]
    pub fn prefetch_members(&self, entry: Entry) {
        prefetch(self.tables.first_members(entry));
    }

    /// Where packets under `entry`, of the flow with this hash, go.
    #[inline]
    #[must_use]
    pub fn way(&self, entry: Entry, flow: u32) -> Way<'a> {
        self.tables.way(entry, flow)
    }

    /// The next hop of packets to a host of the site under `entry`; `None` if it is not known, or if they go elsewhere.
    #[inline(always)]
    #[must_use]
    pub fn delivery(&self, entry: Entry) -> Option<&'a NextHop> {
        self.tables.delivery(entry)
    }

    /// Whether `rloc` is a locator of the set under `entry`, reachable or not; false of an entry without a set.
    #[inline(always)]
    #[must_use]
    pub fn has_member(&self, entry: Entry, rloc: IpAddr) -> bool {
        self.tables.has_member(entry, rloc)
    }

    /// Whether any entry exists for the instance: tells an unknown Instance-ID from an unknown EID.
    #[must_use]
    pub fn knows(&self, instance: InstanceId) -> bool {
        self.tables.has_prefixes(self.tables.instance_index(instance))
    }

    /// Counts a packet of `octets` for `entry`, in this worker's own counters.
    #[inline]
    pub fn hit(&self, entry: Entry, octets: usize) {
        // An entry of another cache may have a slot that this one lacks; it is not counted.
        if let Some(volume) = self.volumes.get(entry.slot() as usize) {
            volume.count(octets);
        }
    }

    /// Grows by one with every [`Writer::publish`].
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
