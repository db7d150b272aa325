//! A flat root, for IPv4 tables of the size of the Internet's: 2^16 cells, and blocks of 256 for the eight bits below.
//!
//! ```text
//! cell of a /16 ─▶ slot                                           what covers all of it
//!               └▶ block: 256 cells ─▶ slot                       what covers this /24
//!                                   └─▶ junction ─▶ child, leaf   prefixes longer than /24: nodes, as elsewhere
//! ```
//!
//! The root is 256 KiB and stays in a core's second-level cache, so a look-up waits for memory once, where nodes let it
//! wait three times. It is paid for with memory: 1 KiB for each /16 with longer prefixes, 25 MiB for the default-free zone
//! of 2024 (nodes: 12). Changes are single stores; a short prefix takes one for each /24 that it covers, at most 65,536.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    grow::words,
    store::{InstanceState, Retired, Store},
    tables::{BLOCK, Block, FALLBACK, FINE, FLAT, FLAT_BLOCK, JUNCTION, Root, SHORT, UNCOVERED},
    trie::{Draft, Key},
};
use crate::mapping::InstanceId;

/// Cells of a block.
const CELLS: u32 = 1 << FLAT_BLOCK;
/// Blocks of a root: the fallback, by the first octet, and 2^16 cells.
const ROOT_BLOCKS: usize = 1 + (1 << (FLAT - FLAT_BLOCK));
/// Words for junctions that are taken at a time.
const JUNCTIONS: usize = 512;

/// A cell: number of the block, place in it.
type Cell = (u32, u32);

const fn is_junction(held: u32) -> bool {
    held & (BLOCK | JUNCTION) == JUNCTION && held != UNCOVERED
}

/// The block that a cell leads to.
const fn block_of(held: u32) -> u32 {
    (held & !BLOCK) >> FLAT_BLOCK
}

/// What a cell says of a slot; 0 for none.
const fn covered_by(slot: u32) -> u32 {
    if slot == 0 { UNCOVERED } else { slot }
}

impl Store {
    pub(super) fn insert_flat(&mut self, root: Root, key: &Key, slot: u32) {
        if key.length > FINE {
            let junction = self.junction(root, key);
            return self.insert_low(junction, key, slot);
        }
        if key.length > FLAT {
            self.fine_cell(root, key);
        }
        // Neighbours mostly have the same cover.
        let (mut last, mut longer) = (0, false);
        self.each_cell(root, key, |store, cell| {
            let there = store.cover_of(cell);
            if there != last {
                (last, longer) = (there, there != 0 && store.records.length(there) > key.length);
            }
            if !longer {
                store.set_cover(cell, slot);
            }
        });
    }

    pub(super) fn withdraw_flat(&mut self, root: Root, key: &Key, slot: u32) {
        if key.length > FINE {
            let junction = self.junction(root, key);
            self.withdraw_low(junction, key, slot);
            let word = self.tables.word(junction.base).load(Ordering::Relaxed);
            if word as u32 == 0 {
                let cell = self.fine_cell(root, key);
                let cover = self.cover_of(cell);
                self.cell(cell).store(covered_by(cover), Ordering::Release);
                self.retire(Retired::Junction(junction.base));
            }
        } else {
            let from = if key.length < SHORT { 0 } else { SHORT };
            let next = self.records.cover(&self.records.get(slot).eid, from).unwrap_or(0);
            self.each_cell(root, key, |store, cell| {
                if store.cover_of(cell) == slot {
                    store.set_cover(cell, next);
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

    fn cell(&self, (block, place): Cell) -> &AtomicU32 {
        &self.tables.block(block)[place as usize]
    }

    /// The slot in a cell, or what covers the junction there; 0 for none.
    fn cover_of(&self, cell: Cell) -> u32 {
        let held = self.cell(cell).load(Ordering::Relaxed);
        if held & JUNCTION == 0 {
            return held;
        }
        let junction = self.tables.word(held & !JUNCTION).load(Ordering::Relaxed);
        self.tables.leaf((junction >> 32) as u32).load(Ordering::Relaxed)
    }

    /// Lets a slot cover a cell; 0 uncovers it.
    fn set_cover(&mut self, cell: Cell, slot: u32) {
        let held = self.cell(cell).load(Ordering::Relaxed);
        if !is_junction(held) {
            return self.cell(cell).store(covered_by(slot), Ordering::Release);
        }
        let leaf = if slot == 0 { 0 } else { self.own_leaf(slot) };
        self.set_leaf(held & !JUNCTION, false, leaf);
    }

    /// The cell of the /16 that a prefix is in or begins with.
    const fn coarse_cell(root: Root, key: &Key) -> Cell {
        let head = key.head(FLAT);
        (root.base + 1 + head / CELLS, head % CELLS)
    }

    /// Does something with every cell that a prefix of at most [`FINE`] bits covers. Of one longer than [`FLAT`] the block
    /// is there.
    fn each_cell(&mut self, root: Root, key: &Key, mut change: impl FnMut(&mut Self, Cell)) {
        if key.length < SHORT {
            let first = key.head(SHORT);
            return (first..first + (1 << (SHORT - key.length))).for_each(|place| change(self, (root.base, place)));
        }
        let (block, place) = Self::coarse_cell(root, key);
        // From /8 on the cells of a prefix are in one block of the root.
        let count = if key.length < FLAT { 1 << (FLAT - key.length) } else { 1 };
        for place in place..place + count {
            let held = self.cell((block, place)).load(Ordering::Relaxed);
            if held & BLOCK == 0 {
                change(self, (block, place));
                continue;
            }
            let (first, count) =
                if key.length > FLAT { (key.head(FINE) % CELLS, 1 << (FINE - key.length)) } else { (0, CELLS) };
            (first..first + count).for_each(|place| change(self, (block_of(held), place)));
        }
    }

    /// The cell of the /24 that a prefix is in or begins with; its block is made if it is not there.
    ///
    /// # Panics
    /// If the system has no memory left, as every allocation would.
    fn fine_cell(&mut self, root: Root, key: &Key) -> Cell {
        let coarse = Self::coarse_cell(root, key);
        let held = self.cell(coarse).load(Ordering::Relaxed);
        let place = key.head(FINE) % CELLS;
        if held & BLOCK != 0 {
            return (block_of(held), place);
        }
        let block = self.blocks.allocate(&self.tables.blocks, 1).expect("no memory left for the map-cache");
        self.blocks_used += 1;
        self.fill(block, held);
        self.cell(coarse).store(BLOCK | block << FLAT_BLOCK, Ordering::Release);
        (block, place)
    }

    /// Writes the same into all cells of a block that was just handed out.
    fn fill(&self, block: u32, held: u32) {
        // SAFETY: just handed out, so committed and unseen.
        unsafe { self.tables.blocks.put(block, Block(std::array::from_fn(|_| AtomicU32::new(held)))) };
    }

    /// The junction in the cell of a prefix's /24, made if there is none, as the root of what is below.
    fn junction(&mut self, root: Root, key: &Key) -> Root {
        let cell = self.fine_cell(root, key);
        let held = self.cell(cell).load(Ordering::Relaxed);
        if is_junction(held) {
            return Root { base: held & !JUNCTION, bits: FINE, lone: true };
        }
        let base = self.lone_word();
        let leaf = if held == UNCOVERED { 0 } else { self.own_leaf(held) };
        self.tables.word(base).store(u64::from(leaf) << 32, Ordering::Relaxed);
        self.cell(cell).store(base | JUNCTION, Ordering::Release);
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
        let coarse = Self::coarse_cell(root, key);
        let held = self.cell(coarse).load(Ordering::Relaxed);
        if held & BLOCK == 0 {
            return;
        }
        let block = block_of(held);
        let cells = self.tables.block(block);
        let first = cells[0].load(Ordering::Relaxed);
        // Only a prefix that covers the whole /16 is the same in all; a junction never is.
        let same = cells.iter().all(|cell| cell.load(Ordering::Relaxed) == first);
        if same && (first == UNCOVERED || (first & JUNCTION == 0 && self.records.length(first) <= FLAT)) {
            self.cell(coarse).store(first, Ordering::Release);
            self.retire(Retired::Blocks { base: block, count: 1 });
        }
    }

    /// Takes a flat root instead of one of nodes, if it would find most prefixes by itself.
    pub(super) fn flatten_if_coarse(&mut self, instance: InstanceId, state: InstanceState, old: Root) {
        let slots = self.records.of(instance, false);
        let fine = slots.iter().filter(|&&slot| self.records.length(slot) > FINE).count();
        if fine * 2 <= slots.len() {
            self.flatten(slots, state, old);
        }
    }

    /// Workers see the old root until the new one is complete.
    fn flatten(&mut self, slots: Vec<u32>, state: InstanceState, old: Root) {
        // Without memory for it the old root goes on serving.
        let Some(base) = self.blocks.allocate(&self.tables.blocks, ROOT_BLOCKS) else { return };
        self.blocks_used += ROOT_BLOCKS;
        (base..base + ROOT_BLOCKS as u32).for_each(|block| self.fill(block, UNCOVERED));
        let root = Root::new(base, FLAT);
        for slot in slots {
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

    /// Puts a flat root away, under which no prefix is left.
    pub(super) fn retire_flat(&mut self, root: Root) {
        self.retire(Retired::Blocks { base: root.base, count: ROOT_BLOCKS as u32 });
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
