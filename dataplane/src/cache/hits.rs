//! What used each entry: a slot per entry, and per worker an array of counters indexed by slot.
//!
//! Only its worker writes an array, so counting is a plain load and store. The writer never sets a counter back: it
//! remembers what a slot stood at when it was handed out, and reports the difference. A slot is handed out again only
//! when no worker can still count for the entry that had it.

use std::{
    alloc::{Layout, alloc_zeroed, handle_alloc_error},
    collections::VecDeque,
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
        // SAFETY: `memory` is a fresh allocation by the global allocator with the layout of `[Volume; slots]`, and
        // zero octets are a `Volume`: it is made of `AtomicU64` alone, which has the bit validity of `u64`.
        Self(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(memory, slots)) })
    }

    pub(super) fn volumes(&self) -> &[Volume] {
        &self.0
    }
}

/// A slot as it was handed out last.
#[derive(Clone, Copy, Default)]
struct Issue {
    /// What the tallies stood at.
    base: Hits,
    /// The publication that shows its entry first.
    generation: u64,
}

/// The writer's side: who has which slot.
pub(super) struct Slots {
    tallies: Vec<Arc<Tally>>,
    /// By slot; slots from here to `limit` were never used.
    issues: Vec<Issue>,
    limit: usize,
    free: Vec<u32>,
    /// Of entries removed since the last publication.
    leaving: Vec<u32>,
    /// Free once every worker passed the publication that removed the entry.
    waiting: VecDeque<(u64, u32)>,
}

impl Slots {
    pub(super) fn new(limit: usize, readers: usize) -> Self {
        let tallies = (0..readers).map(|_| Arc::new(Tally::new(limit))).collect();
        let (free, leaving, waiting) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { tallies, issues: Vec::new(), limit, free, leaving, waiting }
    }

    pub(super) fn tallies(&self) -> &[Arc<Tally>] {
        &self.tallies
    }

    /// A slot for an entry that publication `generation` will show; `None` while too many wait for workers.
    pub(super) fn issue(&mut self, generation: u64) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.issues.len() < self.limit => {
                self.issues.push(Issue::default());
                (self.issues.len() - 1) as u32
            }
            None => return None,
        };
        self.issues[slot as usize] = Issue { base: self.total(slot), generation };
        Some(slot)
    }

    /// Takes back the slot of an entry that publication `generation` will no longer show.
    pub(super) fn give_back(&mut self, slot: u32, generation: u64) {
        let never_shown = self.issues[slot as usize].generation == generation;
        if never_shown { &mut self.free } else { &mut self.leaving }.push(slot);
    }

    /// Publication `generation` is out: what left before it waits for the workers to pass it.
    pub(super) fn published(&mut self, generation: u64) {
        self.waiting.extend(self.leaving.drain(..).map(|slot| (generation, slot)));
    }

    /// All workers have passed publication `generation`.
    pub(super) fn recover(&mut self, generation: u64) {
        let over = self.waiting.partition_point(|&(removed, _)| removed <= generation);
        self.free.extend(self.waiting.drain(..over).map(|(_, slot)| slot));
    }

    /// Slots of removed entries that cannot be handed out yet.
    pub(super) fn waiting(&self) -> usize {
        self.leaving.len() + self.waiting.len()
    }

    /// Counted since the slot was handed out.
    pub(super) fn hits(&self, slot: u32) -> Hits {
        let (now, base) = (self.total(slot), self.issues[slot as usize].base);
        Hits { packets: now.packets.wrapping_sub(base.packets), octets: now.octets.wrapping_sub(base.octets) }
    }

    fn total(&self, slot: u32) -> Hits {
        self.tallies.iter().fold(Hits::default(), |sum, tally| {
            let volume = &tally.volumes()[slot as usize];
            Hits {
                packets: sum.packets.wrapping_add(volume.packets.get()),
                octets: sum.octets.wrapping_add(volume.octets.get()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_only_after_its_grace_period_and_counts_from_zero() {
        let mut slots = Slots::new(2, 2);
        let (first, second) = (slots.issue(1).unwrap(), slots.issue(1).unwrap());
        assert_eq!(slots.issue(1), None);
        slots.published(1);
        slots.tallies[0].volumes()[first as usize].count(100);
        slots.tallies[1].volumes()[first as usize].count(50);
        assert_eq!(slots.hits(first), Hits { packets: 2, octets: 150 });

        slots.give_back(first, 2);
        slots.published(2);
        slots.recover(1);
        assert_eq!((slots.issue(3), slots.waiting()), (None, 1));
        slots.tallies[1].volumes()[first as usize].count(1000);
        slots.recover(2);
        assert_eq!((slots.issue(3), slots.waiting()), (Some(first), 0));
        assert_eq!(slots.hits(first), Hits::default());
        assert_eq!(slots.hits(second), Hits::default());
    }

    #[test]
    fn the_slot_of_an_entry_that_nobody_saw_is_free_at_once() {
        let mut slots = Slots::new(1, 1);
        for _ in 0..3 {
            let slot = slots.issue(1).unwrap();
            slots.give_back(slot, 1);
            assert_eq!(slots.waiting(), 0);
        }
    }
}
