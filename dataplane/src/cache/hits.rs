//! What used each entry: a slot per entry, and per worker an array of counters indexed by slot.
//!
//! Only its worker writes an array, so counting is a plain load and store. The writer never sets a counter back: it
//! remembers what a slot stood at when it was handed out, and reports the difference. A slot is handed out again only
//! when no worker can still count for the entry that had it. A count that grew is also the mark of use by which the
//! control plane refreshes and evicts: no packet writes another.

use std::{
    alloc::{Layout, alloc_zeroed, handle_alloc_error},
    sync::Arc,
};

use super::Hits;
use crate::counters::Volume;

/// The counters of one worker, by slot.
pub(super) struct Tally(Box<[Volume]>);

impl Tally {
    /// All zero. Memory is used as slots are counted in, not before.
    fn new(slots: usize) -> Self {
        if slots == 0 {
            return Self(Box::default());
        }
        let layout = Layout::array::<Volume>(slots).expect("a table that large was never asked for");
        // SAFETY: the layout is not of size zero, because neither `slots` nor `Volume` is.
        let memory = unsafe { alloc_zeroed(layout) }.cast::<Volume>();
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        advise_huge(memory.cast(), layout.size());
        // SAFETY: `memory` is a fresh allocation by the global allocator with the layout of `[Volume; slots]`, and
        // zero octets are a `Volume`: it is made of `AtomicU64` alone, which has the bit validity of `u64`.
        Self(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(memory, slots)) })
    }

    pub(super) fn volumes(&self) -> &[Volume] {
        &self.0
    }
}

/// Asks for huge pages in `octets` octets from `start` on, none of which was touched yet: every packet counts somewhere in
/// them, and with pages of 4 KiB would mostly wait for their address.
fn advise_huge(start: *mut u8, octets: usize) {
    const HUGE_PAGE: usize = 2 << 20;
    let skip = start.align_offset(HUGE_PAGE);
    if let Some(whole) = octets.checked_sub(skip).map(|rest| rest - rest % HUGE_PAGE)
        && whole > 0
    {
        // SAFETY: the range is inside the allocation, and the advice changes no octet. A kernel without huge pages
        // refuses, and ordinary pages serve.
        let _refused = unsafe { libc::madvise(start.add(skip).cast(), whole, libc::MADV_HUGEPAGE) };
    }
}

/// The counters of all workers.
pub(super) struct Tallies(Vec<Arc<Tally>>);

impl Tallies {
    pub(super) fn new(slots: usize, readers: usize) -> Self {
        Self((0..readers).map(|_| Arc::new(Tally::new(slots))).collect())
    }

    pub(super) fn each(&self) -> &[Arc<Tally>] {
        &self.0
    }

    /// What a slot stands at, over all workers and all entries that ever had it.
    pub(super) fn total(&self, slot: u32) -> Hits {
        self.0.iter().fold(Hits::default(), |sum, tally| {
            let volume = &tally.volumes()[slot as usize];
            Hits {
                packets: sum.packets.wrapping_add(volume.packets.get()),
                octets: sum.octets.wrapping_add(volume.octets.get()),
            }
        })
    }
}
