//! When memory that was taken out of the table may be used again: quiescent states.
//!
//! ```text
//! writer  unlink what goes (a store to the link that led there) ─ advance: epoch e ─ what went waits, stamped e
//!         passed: fence ─ read every word ─ what is stamped at or below the smallest is free
//! reader  begin:      read epoch ─ announce it in its own word ─ follow links
//!         go_offline: announce OFFLINE, above every epoch
//! ```
//!
//! A word says "I hold nothing that was unlinked before this epoch". It may lag, never lead: a word that lags only
//! delays a free. Readers write nothing but their own word, so a turn costs one load of a line that changes only with
//! a publication, and one store that nobody contends for.
//!
//! The orderings that carry this, each with what goes wrong without it (the loom models in `tests.rs` fail on each):
//!
//! 1. A link is stored with Release and loaded with Acquire (in `trie` and `values`, not here): else a reader follows
//!    it to octets that it does not see yet.
//! 2. `epoch` is stored with Release after the link and loaded with Acquire before any link is: else a reader
//!    announces epoch e and still follows a link unlinked before e, to memory that the writer then uses anew.
//! 3. A word is stored with Release and read with Acquire: else the reads of the turn before may happen after the
//!    announcement that they are over, and meet memory in new use.
//! 4. Coming back from OFFLINE, a SeqCst fence stands between the store to the word and the first load of a link, and
//!    another in `passed` between the unlinking and the reading of words. This is the one place where a word goes
//!    *down*: without the fences the store may wait in the store buffer while links are read, the writer still sees
//!    OFFLINE, and reuses what the reader has just found. A reader that is online needs none: until its store is seen,
//!    its older, lower word protects more, not less.

use crossbeam::utils::CachePadded;

use super::atomics::{Arc, AtomicU64, Ordering, fence};

/// Word of a reader that holds nothing.
const OFFLINE: u64 = u64::MAX;

/// What both ends share.
struct Shared {
    /// Advances so far. Read by every reader each turn, written by an advance: a line of its own.
    epoch: CachePadded<AtomicU64>,
    /// One per reader.
    words: Box<[CachePadded<AtomicU64>]>,
}

/// The writer's end.
pub(super) struct Grace {
    shared: Arc<Shared>,
    epoch: u64,
}

/// One reader's end; offline until it begins its first turn.
pub(super) struct Presence {
    shared: Arc<Shared>,
    /// Its word.
    index: usize,
    offline: bool,
}

/// Both ends, at epoch 0.
pub(super) fn quiescence(readers: usize) -> (Grace, Vec<Presence>) {
    let words = (0..readers).map(|_| CachePadded::new(AtomicU64::new(OFFLINE))).collect();
    let shared = Arc::new(Shared { epoch: CachePadded::new(AtomicU64::new(0)), words });
    let presences = (0..readers).map(|index| Presence { shared: shared.clone(), index, offline: true }).collect();
    (Grace { shared, epoch: 0 }, presences)
}

impl Grace {
    /// Closes an epoch: what was unlinked before this call is free once [`passed`](Self::passed) says the number
    /// returned.
    pub(super) fn advance(&mut self) -> u64 {
        self.epoch += 1;
        // Release: ordering 2.
        self.shared.epoch.store(self.epoch, Ordering::Release);
        self.epoch
    }

    /// The epoch that every reader has passed.
    pub(super) fn passed(&self) -> u64 {
        // Ordering 4: a reader coming online either shows in its word here or finds the links as they are now.
        fence(Ordering::SeqCst);
        // Acquire: ordering 3.
        let words = self.shared.words.iter().map(|word| word.load(Ordering::Acquire));
        words.min().unwrap_or(OFFLINE).min(self.epoch)
    }
}

impl Presence {
    /// Announces that nothing from before is held any more, and begins a turn; returns the epoch it sees at least.
    #[inline]
    pub(super) fn begin(&mut self) -> u64 {
        // Acquire: ordering 2. Release: ordering 3.
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        self.shared.words[self.index].store(epoch, Ordering::Release);
        if self.offline {
            self.offline = false;
            // Ordering 4.
            fence(Ordering::SeqCst);
        }
        epoch
    }

    /// Announces that nothing is held until the next turn.
    pub(super) fn go_offline(&mut self) {
        self.offline = true;
        // Release: ordering 3.
        self.shared.words[self.index].store(OFFLINE, Ordering::Release);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.go_offline();
    }
}

#[cfg(test)]
mod tests;
