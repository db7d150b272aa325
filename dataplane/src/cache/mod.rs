//! The map-cache that workers read: longest-prefix match per Instance-ID and family, one writer, lock-free readers.
//!
//! One table answers both questions of a packet: is its source ours ([`Forwarding::Local`]), and where does its
//! destination live. The control thread owns the [`Writer`]; changes become visible together at
//! [`Writer::publish`] (RFC 9301 §5.5). Each worker owns a [`Reader`] and takes one [`Snapshot`] per turn; the start of
//! a turn is its quiescent state, and the writer frees memory only after every worker has passed one.
//!
//! ```text
//! Writer ─ insert, remove ─▶ next table ─ publish ─▶ current table ◀─ snapshot ─ Reader, Reader, …
//!                                                        │ the one before
//!                                                        ▼
//!                                                      limbo ─ every reader has taken a later snapshot ─▶ freed
//! ```
//!
//! Read it from below:
//! * `lpm`: a persistent trie. A changed table shares all but a few small nodes with the one it was made from, so
//!   readers keep theirs unchanged while the next is made, and a publication costs what changed, not what there is.
//! * `table`: Instance-ID → family → prefix, each step such a trie; thousands of small instances stay small.
//! * `publication`: how a worker gets at the current table without a lock, and when an old one may be freed. All
//!   reasoning about memory order is there, with loom models.
//! * `hits`: counters per worker and entry, outside the table, so that a worker's counting changes nothing that others
//!   read.

#![allow(unsafe_code)]

mod atomics;
mod entry;
mod hits;
mod lpm;
mod publication;
mod table;

use std::{marker::PhantomData, net::IpAddr, sync::Arc};

pub use entry::{Delivery, Entry, Forwarding, Hits};
use hits::{Slots, Tally};
use publication::{Publisher, Subscriber, publication};
use table::Table;

use crate::{
    counters::Volume,
    mapping::{EidPrefix, InstanceId},
};

/// Why an insert was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// As many entries as the table was made for.
    #[error("the map-cache is full ({0} entries): raise --map-cache-max")]
    Full(usize),
    /// As many entries again were removed since a worker last began a turn: it hangs. Try again later.
    #[error("the map-cache cannot reuse {0} removed entries: a worker hangs")]
    Waiting(usize),
}

/// The writing end: the control thread's.
pub struct Writer {
    publisher: Publisher<Table>,
    /// What the next publication will show.
    next: Table,
    slots: Slots,
    entries: usize,
    capacity: usize,
}

/// The reading end: one worker's. Steps in with its first [`snapshot`](Self::snapshot).
pub struct Reader {
    subscriber: Subscriber<Table>,
    tally: Arc<Tally>,
}

/// The table as it stood at the start of a turn. It stays with its worker's thread, which alone writes its counters.
pub struct Snapshot<'a> {
    table: &'a Table,
    volumes: &'a [Volume],
    _not_send: PhantomData<*const ()>,
}

/// An empty table for at most `capacity` entries and `readers` workers.
#[must_use]
pub fn new(capacity: usize, readers: usize) -> (Writer, Vec<Reader>) {
    let (publisher, subscribers) = publication(Table::default(), readers);
    // Twice the entries, so that a full table can be exchanged within one grace period.
    let slots = Slots::new(capacity.saturating_mul(2).min(u32::MAX as usize), readers);
    let readers = subscribers
        .into_iter()
        .zip(slots.tallies())
        .map(|(subscriber, tally)| Reader { subscriber, tally: tally.clone() })
        .collect();
    let mut next = Table::default();
    next.generation = 1;
    (Writer { publisher, next, slots, entries: 0, capacity }, readers)
}

impl Writer {
    /// Puts in or replaces the entry of exactly this prefix; a replaced entry keeps its hits. Visible after
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`CacheError::Full`], [`CacheError::Waiting`]; neither when it replaces.
    pub fn insert(&mut self, eid: EidPrefix, forwarding: Forwarding) -> Result<(), CacheError> {
        let slot = match self.next.get(&eid) {
            Some(replaced) => replaced.slot(),
            None => self.new_slot()?,
        };
        self.next.insert(Entry::new(eid, forwarding, slot));
        Ok(())
    }

    fn new_slot(&mut self) -> Result<u32, CacheError> {
        if self.entries >= self.capacity {
            return Err(CacheError::Full(self.capacity));
        }
        let slot = self.slots.issue(self.next.generation).or_else(|| {
            self.reclaim();
            self.slots.issue(self.next.generation)
        });
        let slot = slot.ok_or_else(|| CacheError::Waiting(self.slots.waiting()))?;
        self.entries += 1;
        Ok(slot)
    }

    /// Takes out the entry of exactly this prefix; false if there is none.
    pub fn remove(&mut self, eid: &EidPrefix) -> bool {
        let Some(entry) = self.next.get(eid) else { return false };
        self.slots.give_back(entry.slot(), self.next.generation);
        self.next.remove(eid);
        self.entries -= 1;
        true
    }

    /// Shows readers all changes since the last call, in one step.
    ///
    /// False, and nothing shown, while thousands of retired tables wait for a worker that hangs; the changes stay for
    /// the next call.
    pub fn publish(&mut self) -> bool {
        self.reclaim();
        let Ok(generation) = self.publisher.publish(self.next.clone()) else { return false };
        self.slots.published(generation);
        self.next.generation = generation + 1;
        true
    }

    /// Frees what no reader can see any more; returns how many retired tables still wait.
    pub fn reclaim(&mut self) -> usize {
        let passed = self.publisher.reclaim();
        self.slots.recover(passed);
        self.publisher.waiting()
    }

    /// Packets and octets that used the entry of exactly this prefix, over all workers. It may lag behind a worker's
    /// turn; it never counts anything twice.
    #[must_use]
    pub fn hits(&self, eid: &EidPrefix) -> Option<Hits> {
        self.next.get(eid).map(|entry| self.slots.hits(entry.slot()))
    }

    /// Entries put in.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }
}

impl Reader {
    /// The table for the coming turn. Calling it is the quiescent state: no reference of the turn before may live, and
    /// the borrow checker sees to it.
    #[inline]
    pub fn snapshot(&mut self) -> Snapshot<'_> {
        Snapshot { table: self.subscriber.snapshot(), volumes: self.tally.volumes(), _not_send: PhantomData }
    }

    /// Steps aside before the worker sleeps, so that memory is reclaimed without it; the next
    /// [`snapshot`](Self::snapshot) steps back in.
    pub fn go_offline(&mut self) {
        self.subscriber.go_offline();
    }
}

impl<'a> Snapshot<'a> {
    /// The entry of the longest prefix that holds `address`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, instance: InstanceId, address: IpAddr) -> Option<&'a Entry> {
        self.table.lookup(instance, address)
    }

    /// Whether any entry exists for the instance: tells an unknown Instance-ID from an unknown EID.
    #[must_use]
    pub fn knows(&self, instance: InstanceId) -> bool {
        self.table.knows(instance)
    }

    /// Counts a packet of `octets` for `entry`, in this worker's own counters.
    #[inline]
    pub fn hit(&self, entry: &Entry, octets: usize) {
        // An entry of another cache may have a slot that this one lacks; it is not counted.
        if let Some(volume) = self.volumes.get(entry.slot() as usize) {
            volume.count(octets);
        }
    }

    /// Grows by one with every publication.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.table.generation
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
