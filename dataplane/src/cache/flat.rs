//! A flat root, for IPv4 tables of the size of the Internet's: 2^20 words, and blocks of 16 for the four bits below.
//!
//! ```text
//! word of a /20 ─▶ entry                                          what covers all of it
//!               └▶ block: 16 words ─▶ entry                       what covers this /24
//!                                 └─▶ junction ─▶ child, leaf     prefixes longer than /24: nodes, as elsewhere
//! ```
//!
//! Words hold entries themselves, not places of leaves, so a look-up takes two accesses where nodes take three. It is
//! paid for with memory: 8 MiB, and 128 octets for each /20 with longer prefixes, 25 MiB for the default-free zone of
//! 2024 (nodes: 12). Changes are single stores; a short prefix takes one for each /24 that it covers, at most 65,536.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    entry::Entry,
    grow::words,
    store::{InstanceState, Retired, Store},
    tables::{BLOCK, Block, FALLBACK, FLAT, FLAT_BLOCK, JUNCTION, Root, SHORT},
    trie::{Draft, Key},
};
use crate::mapping::InstanceId;

/// Length of the prefixes that a block's word stands for.
const FINE: u32 = FLAT + FLAT_BLOCK;
/// Words of a block.
const BLOCK_WORDS: usize = 1 << FLAT_BLOCK;
/// Words for junctions that are taken at a time.
const JUNCTIONS: usize = 512;

/// A place that holds an entry.
#[derive(Clone, Copy)]
enum Cell {
    /// In the root or the fallback.
    Word(u32),
    /// In a block.
    Block(u32, usize),
}

impl Store {
    pub(super) fn insert_flat(&mut self, root: Root, key: &Key, slot: u32) {
        if key.length > FINE {
            let cell = self.fine_cell(root, key);
            let junction = self.junction(cell);
            return self.insert_low(junction, key, slot);
        }
        if key.length > FLAT {
            self.fine_cell(root, key);
        }
        self.each_cell(root, key, |store, cell| {
            let there = store.cover_of(cell);
            if there == 0 || store.records.length(there) <= key.length {
                store.set_cover(cell, slot);
            }
        });
    }

    pub(super) fn withdraw_flat(&mut self, root: Root, key: &Key, slot: u32) {
        if key.length > FINE {
            let cell = self.fine_cell(root, key);
            let junction = self.junction(cell);
            self.withdraw_low(junction, key, slot);
            let word = self.tables.word(junction.base).load(Ordering::Relaxed);
            if word as u32 == 0 {
                let cover = self.cover_of(cell);
                self.cell(cell).store(cover, Ordering::Release);
                self.retire(Retired::Junction(junction.base));
            }
        } else {
            let from = if key.length < SHORT { 0 } else { SHORT };
            let next = self.records.cover(&self.records.get(slot).eid, from);
            let mine = self.records.entry(slot).0;
            self.each_cell(root, key, |store, cell| {
                if store.cover_of(cell) == mine {
                    match next {
                        Some(next) => store.set_cover(cell, next),
                        None => store.uncover(cell),
                    }
                }
            });
            let leaf = std::mem::take(&mut self.records.get_mut(slot).leaf);
            if leaf != 0 {
                self.retire(Retired::Leaves { base: leaf, count: 1 });
            }
        }
        if key.length > FLAT {
            self.collapse(root, key);
        }
    }

    pub(super) fn rewrite_flat(&mut self, root: Root, key: &Key, old: Entry, new: Entry) {
        if key.length > FINE {
            let cell = self.fine_cell(root, key);
            let junction = self.junction(cell);
            return self.rewrite_low(junction, key, old, new);
        }
        self.each_cell(root, key, |store, cell| {
            let word = store.cell(cell);
            if word.load(Ordering::Relaxed) == old.0 {
                word.store(new.0, Ordering::Release);
            }
        });
        let leaf = self.records.get(old.slot()).leaf;
        if leaf != 0 {
            self.tables.leaf(leaf).store(new.0, Ordering::Release);
        }
    }

    fn cell(&self, cell: Cell) -> &AtomicU64 {
        match cell {
            Cell::Word(index) => self.tables.word(index),
            Cell::Block(index, place) => &self.tables.block(index)[place],
        }
    }

    /// The entry in a cell, or what covers the junction there; 0 for none.
    fn cover_of(&self, cell: Cell) -> u64 {
        let word = self.cell(cell).load(Ordering::Relaxed);
        if word as u32 != JUNCTION {
            return word;
        }
        let junction = self.tables.word((word >> 32) as u32).load(Ordering::Relaxed);
        self.tables.leaf((junction >> 32) as u32).load(Ordering::Relaxed)
    }

    fn set_cover(&mut self, cell: Cell, slot: u32) {
        let word = self.cell(cell).load(Ordering::Relaxed);
        if word as u32 == JUNCTION {
            let leaf = self.own_leaf(slot);
            self.set_leaf((word >> 32) as u32, false, leaf);
        } else {
            self.cell(cell).store(self.records.entry(slot).0, Ordering::Release);
        }
    }

    fn uncover(&self, cell: Cell) {
        let word = self.cell(cell).load(Ordering::Relaxed);
        if word as u32 == JUNCTION {
            self.set_leaf((word >> 32) as u32, false, 0);
        } else {
            self.cell(cell).store(0, Ordering::Release);
        }
    }

    /// Does something with every cell that a prefix of at most [`FINE`] bits covers. Of one longer than [`FLAT`] the block
    /// is there.
    fn each_cell(&mut self, root: Root, key: &Key, mut change: impl FnMut(&mut Self, Cell)) {
        if key.length < SHORT {
            let first = root.base + key.head(SHORT);
            return (first..first + (1 << (SHORT - key.length))).for_each(|word| change(self, Cell::Word(word)));
        }
        let first = root.base + FALLBACK + key.head(FLAT);
        let count = if key.length < FLAT { 1 << (FLAT - key.length) } else { 1 };
        for index in first..first + count {
            let word = self.tables.word(index).load(Ordering::Relaxed);
            if word as u32 != BLOCK {
                change(self, Cell::Word(index));
                continue;
            }
            let block = (word >> 32) as u32;
            let (first, count) = if key.length > FLAT {
                (key.head(FINE) as usize % BLOCK_WORDS, 1 << (FINE - key.length))
            } else {
                (0, BLOCK_WORDS)
            };
            (first..first + count).for_each(|place| change(self, Cell::Block(block, place)));
        }
    }

    /// The cell of the /24 that a prefix is in or begins with; its block is made if it is not there.
    fn fine_cell(&mut self, root: Root, key: &Key) -> Cell {
        let index = root.base + FALLBACK + key.head(FLAT);
        let word = self.tables.word(index).load(Ordering::Relaxed);
        let place = key.head(FINE) as usize % BLOCK_WORDS;
        if word as u32 == BLOCK {
            return Cell::Block((word >> 32) as u32, place);
        }
        let block = self.blocks.allocate(&self.tables.blocks, 1);
        // SAFETY: just handed out, so committed and unseen.
        unsafe { self.tables.blocks.put(block, Block(std::array::from_fn(|_| AtomicU64::new(word)))) };
        self.tables.word(index).store(u64::from(block) << 32 | u64::from(BLOCK), Ordering::Release);
        Cell::Block(block, place)
    }

    /// The junction in a cell, made if there is none, as the root of what is below.
    fn junction(&mut self, cell: Cell) -> Root {
        let word = self.cell(cell).load(Ordering::Relaxed);
        let base = if word as u32 == JUNCTION {
            (word >> 32) as u32
        } else {
            let base = self.lone_word();
            let leaf = Entry::from_word(word).map_or(0, |entry| self.own_leaf(entry.slot()));
            self.tables.word(base).store(u64::from(leaf) << 32, Ordering::Relaxed);
            self.cell(cell).store(u64::from(base) << 32 | u64::from(JUNCTION), Ordering::Release);
            base
        };
        Root { base, bits: FINE, lone: true }
    }

    /// A word that nobody sees yet.
    ///
    /// # Panics
    /// If the system has no memory left, as every allocation would.
    fn lone_word(&mut self) -> u32 {
        if self.junctions.is_empty() {
            let first = self.words.allocate(&self.tables.words, JUNCTIONS).expect("no memory left for the map-cache");
            self.junctions.extend((first..first + JUNCTIONS as u32).rev());
        }
        self.junctions.pop().unwrap_or_default()
    }

    /// Lets a block go that no prefix needs any more.
    fn collapse(&mut self, root: Root, key: &Key) {
        let index = root.base + FALLBACK + key.head(FLAT);
        let word = self.tables.word(index).load(Ordering::Relaxed);
        if word as u32 != BLOCK {
            return;
        }
        let block = (word >> 32) as u32;
        let words = self.tables.block(block);
        let first = words[0].load(Ordering::Relaxed);
        // Only a prefix that covers the whole /20 is the same in all; a junction never is.
        let same = words.iter().all(|word| word.load(Ordering::Relaxed) == first);
        if same && first as u32 != JUNCTION && self.records.length(first) <= FLAT {
            self.tables.word(index).store(first, Ordering::Release);
            self.retire(Retired::Block(block));
        }
    }

    /// Takes a flat root instead of one of nodes. Workers see the old one until the new one is complete.
    pub(super) fn flatten(&mut self, instance: InstanceId, state: InstanceState, old: Root) {
        // Without memory for it the old root goes on serving.
        let Some(base) = self.words.allocate(&self.tables.words, words(FLAT) as usize) else { return };
        self.tables.words.advise((base + FALLBACK) as usize, 1 << FLAT, libc::MADV_HUGEPAGE);
        let root = Root::new(base, FLAT);
        for slot in self.records.of(instance, false) {
            // What stood in the old root had a leaf of its own there.
            let leaf = std::mem::take(&mut self.records.get_mut(slot).leaf);
            if leaf != 0 {
                self.retire(Retired::Leaves { base: leaf, count: 1 });
            }
            let key = Key::new(state.index, &self.records.get(slot).eid);
            self.insert_flat(root, &key, slot);
        }
        self.tables.instance(state.index).roots[0].store(root.word(), Ordering::Release);
        let first = old.base + FALLBACK;
        for index in first..first + (1 << old.bits) {
            let node = self.tables.word(index).load(Ordering::Relaxed) as u32;
            if node != 0 {
                self.retire_tree(node);
                self.retire(Retired::Nodes { base: node, count: 1 });
            }
        }
        self.retire(Retired::Words { base: old.base, count: words(old.bits) });
    }

    /// Puts away all that a node leads to.
    fn retire_tree(&mut self, node: u32) {
        let draft = Draft::of(self.tables.node(node));
        if draft.leaf_count() > 0 {
            self.retire(Retired::Leaves { base: draft.leaf_base, count: draft.leaf_count() });
        }
        if draft.child_count() > 0 {
            (draft.child_base..draft.child_base + draft.child_count()).for_each(|child| self.retire_tree(child));
            self.retire(Retired::Nodes { base: draft.child_base, count: draft.child_count() });
        }
    }
}
