//! One writer shows a value to many readers, and frees the old ones by quiescent states.
//!
//! ```text
//! writer  publish: swap current ─ advance epoch e ─ old value into limbo, stamped e
//!         reclaim: fence ─ read every word ─ free what is stamped at or below the smallest
//! reader  snapshot: read epoch ─ announce it in its own word ─ read current
//!         go_offline: announce OFFLINE, above every epoch
//! ```
//!
//! A word says "I hold nothing that was retired at or before this epoch". It may lag, never lead: a word that lags
//! only delays a free. Readers write nothing but their own word, so a snapshot costs two loads of a line that changes
//! only with a publication, and one store that nobody contends for.
//!
//! The orderings that carry this, each with what goes wrong without it (the loom models in `tests.rs` fail on each):
//!
//! 1. `current` is swapped with Release and loaded with Acquire: else a reader follows the pointer into a value whose
//!    octets it does not see yet.
//! 2. `epoch` is stored with Release after the swap and loaded with Acquire before `current` is: else a reader
//!    announces epoch e and still loads the value retired at e, which the writer then frees under it.
//! 3. A word is stored with Release and read with Acquire: else the reads of the turn before may happen after the
//!    announcement that they are over, and meet freed memory.
//! 4. Coming back from OFFLINE, a SeqCst fence stands between the store to the word and the load of `current`, and
//!    another in `reclaim` between the swap and the reading of words. This is the one place where a word goes *down*:
//!    without the fences the store may wait in the store buffer while `current` is read, the writer still sees
//!    OFFLINE, and frees what the reader has just loaded. A reader that is online needs none: until its store is seen,
//!    its older, lower word protects more, not less.

use std::{collections::VecDeque, ptr::NonNull};

use crossbeam::utils::CachePadded;

use super::atomics::{Arc, AtomicPtr, AtomicU64, Mutex, Ordering, fence};

/// Word of a reader that holds nothing.
const OFFLINE: u64 = u64::MAX;

/// Most retired values that may wait for readers; a publication beyond is refused.
pub(super) const LIMBO_MAX: usize = 4096;

/// What both ends share; the last of them to go frees what is left.
struct Shared<T> {
    head: CachePadded<Head<T>>,
    /// One per reader.
    words: Box<[CachePadded<AtomicU64>]>,
    /// What was in limbo when the writer left.
    left_over: Mutex<Vec<Retired<T>>>,
}

/// Read by every reader each turn, written by a publication: one line of its own.
struct Head<T> {
    /// From [`Box::into_raw`], never null.
    current: AtomicPtr<T>,
    /// Publications so far.
    epoch: AtomicU64,
}

/// A value that no new snapshot finds; it may be dropped once every word is at `epoch` or above.
struct Retired<T> {
    epoch: u64,
    value: NonNull<T>,
}

// SAFETY: it owns the value as a `Box<T>` does, and [`publication`] makes values of `T: Send + Sync` only.
unsafe impl<T: Send + Sync> Send for Retired<T> {}

impl<T> Drop for Retired<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer is from `Box::into_raw` and was taken out of `current` once, so nobody else frees it;
        // a `Retired` is dropped in `reclaim`, after its grace period, or with `Shared`, when no reader is left.
        drop(unsafe { Box::from_raw(self.value.as_ptr()) });
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let value = self.head.current.load(Ordering::Relaxed);
        // SAFETY: the last owner drops `Shared`, so no reader and no writer is left; `current` is from `Box::into_raw`.
        drop(unsafe { Box::from_raw(value) });
    }
}

/// The writing end.
pub(super) struct Publisher<T> {
    shared: Arc<Shared<T>>,
    /// In the order of their epochs.
    limbo: VecDeque<Retired<T>>,
    epoch: u64,
}

/// One reader's end; offline until its first snapshot.
pub(super) struct Subscriber<T> {
    shared: Arc<Shared<T>>,
    /// Its word.
    index: usize,
    offline: bool,
}

/// Both ends of a publication that shows `first`, epoch 0.
pub(super) fn publication<T: Send + Sync>(first: T, readers: usize) -> (Publisher<T>, Vec<Subscriber<T>>) {
    let head = Head { current: AtomicPtr::new(Box::into_raw(Box::new(first))), epoch: AtomicU64::new(0) };
    let shared = Arc::new(Shared {
        head: CachePadded::new(head),
        words: (0..readers).map(|_| CachePadded::new(AtomicU64::new(OFFLINE))).collect(),
        left_over: Mutex::new(Vec::new()),
    });
    let subscribers = (0..readers).map(|index| Subscriber { shared: shared.clone(), index, offline: true }).collect();
    (Publisher { shared, limbo: VecDeque::new(), epoch: 0 }, subscribers)
}

impl<T> Publisher<T> {
    /// Shows `value` to every snapshot from now on; returns its epoch.
    ///
    /// # Errors
    /// The value itself, while [`LIMBO_MAX`] retired ones wait: a reader hangs.
    pub(super) fn publish(&mut self, value: T) -> Result<u64, T> {
        if self.limbo.len() >= LIMBO_MAX {
            return Err(value);
        }
        let Head { current, epoch } = &*self.shared.head;
        // Release: ordering 1.
        let old = current.swap(Box::into_raw(Box::new(value)), Ordering::Release);
        self.epoch += 1;
        // Release: ordering 2.
        epoch.store(self.epoch, Ordering::Release);
        let value = NonNull::new(old).expect("current comes from a Box");
        self.limbo.push_back(Retired { epoch: self.epoch, value });
        Ok(self.epoch)
    }

    /// Frees the retired values that no reader can hold; returns the epoch that all readers have passed.
    pub(super) fn reclaim(&mut self) -> u64 {
        // Ordering 4: a reader coming online either shows in its word here or finds the value that is current now.
        fence(Ordering::SeqCst);
        // Acquire: ordering 3.
        let passed = self.shared.words.iter().map(|word| word.load(Ordering::Acquire)).min().unwrap_or(OFFLINE);
        let over = self.limbo.partition_point(|retired| retired.epoch <= passed);
        self.limbo.drain(..over);
        passed.min(self.epoch)
    }

    /// Retired values that wait for readers.
    pub(super) fn waiting(&self) -> usize {
        self.limbo.len()
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.reclaim();
        // A poisoned lock cannot be: nothing panics while it is held. Taking what is inside is right either way.
        let mut left_over = self.shared.left_over.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        left_over.extend(self.limbo.drain(..));
    }
}

impl<T> Subscriber<T> {
    /// Announces that nothing from before is held any more, and takes the value that is current now.
    #[inline]
    pub(super) fn snapshot(&mut self) -> &T {
        let Head { current, epoch } = &*self.shared.head;
        // Acquire: ordering 2. Release: ordering 3.
        self.shared.words[self.index].store(epoch.load(Ordering::Acquire), Ordering::Release);
        if self.offline {
            self.offline = false;
            // Ordering 4.
            fence(Ordering::SeqCst);
        }
        // Acquire: ordering 1.
        let value = current.load(Ordering::Acquire);
        // SAFETY: `current` always points at a live value (from `Box::into_raw`). The writer frees it only when every
        // word has reached the epoch of its retirement; ours does so in the next call of `snapshot`, `go_offline` or
        // `drop` at the earliest, and the borrow of `self` ends before any of them.
        unsafe { &*value }
    }

    /// Announces that nothing is held until the next [`snapshot`](Self::snapshot).
    pub(super) fn go_offline(&mut self) {
        self.offline = true;
        // Release: ordering 3.
        self.shared.words[self.index].store(OFFLINE, Ordering::Release);
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.go_offline();
    }
}

#[cfg(test)]
mod tests;
