//! Wider roots for larger tables: 6 bits at first, so that an instance with a few prefixes costs a kilobyte, up to 18 bits
//! for IPv4 and 24 for IPv6, where the root takes the place of the first steps of every look-up.
//!
//! From 65,536 prefixes on IPv4 has a flat root instead ([`flat`](super::flat)), unless most of them are longer than
//! /24, as hosts are: those are found by nodes in any case.
//!
//! Growing takes the first level of nodes into the root: no prefix is looked at but those that end there. Workers see
//! the old root until the new one is complete. A root of 24 bits is 128 MiB of addresses, of which only the pages with
//! prefixes become memory.

use std::sync::atomic::Ordering;

use super::{
    store::{InstanceState, Retired, Store},
    tables::{FALLBACK, FLAT, Root, SHORT, STRIDE},
    trie::{Draft, Key},
};
use crate::mapping::InstanceId;

/// The number of IPv4 prefixes from which a flat root is considered, and considered again.
const FLAT_FROM: u32 = 65_536;

/// The number of prefixes from which a root of so many bits is too small.
const fn enough(bits: u32, v6: bool) -> Option<u32> {
    match bits {
        6 => Some(256),
        12 => Some(8192),
        18 if v6 => Some(16_384),
        18 => Some(FLAT_FROM),
        _ => None,
    }
}

/// Words of a root and its fallback.
pub(super) const fn words(bits: u32) -> u32 {
    (1 << bits) + if bits > STRIDE { FALLBACK } else { 0 }
}

impl Store {
    /// The root of a family, made if there is none. `None` without memory.
    pub(super) fn root(&mut self, state: InstanceState, v6: bool) -> Option<Root> {
        let link = &self.tables.instance(state.index).roots[usize::from(v6)];
        match link.load(Ordering::Relaxed) {
            0 => {
                let base = self.words.allocate(&self.tables.words, words(STRIDE) as usize)?;
                let root = Root::new(base, STRIDE);
                link.store(root.word(), Ordering::Release);
                Some(root)
            }
            word => Some(Root::from_word(word)),
        }
    }

    /// Lets the root of a family without prefixes go.
    pub(super) fn drop_root(&mut self, state: InstanceState, v6: bool) {
        let word = self.tables.instance(state.index).roots[usize::from(v6)].swap(0, Ordering::Release);
        if word != 0 {
            match Root::from_word(word) {
                root if root.bits == FLAT => self.retire_flat(root),
                root => self.retire(Retired::Words { base: root.base, count: words(root.bits) }),
            }
        }
    }

    /// Widens the root if the family has become too large for it.
    pub(super) fn grow_if_wanted(&mut self, instance: InstanceId, state: InstanceState, v6: bool) {
        let Some(root) = self.root(state, v6) else { return };
        let wanted = enough(root.bits, v6).is_some_and(|enough| state.prefixes[usize::from(v6)] >= enough);
        if wanted && !v6 && root.bits == 18 {
            // Asked now and then only, because every record is looked at.
            if state.prefixes[0].is_multiple_of(FLAT_FROM) {
                self.flatten_if_coarse(instance, state, root);
            }
        } else if wanted {
            self.grow(instance, state, v6, root);
        }
    }

    fn grow(&mut self, instance: InstanceId, state: InstanceState, v6: bool, old: Root) {
        let bits = old.bits + STRIDE;
        // Without memory for it the old root goes on serving.
        let Some(base) = self.words.allocate(&self.tables.words, words(bits) as usize) else { return };
        let new = Root::new(base, bits);
        if bits == 18 {
            self.tables.words.advise((base + FALLBACK) as usize, 1 << bits, libc::MADV_HUGEPAGE);
        }
        let old_words = old.base + words(old.bits) - (1 << old.bits);
        for number in 0..1 << old.bits {
            let word = self.tables.word(old_words + number).load(Ordering::Relaxed);
            if word != 0 {
                self.widen(word, base + FALLBACK + (number << STRIDE));
            }
        }
        if old.bits == STRIDE {
            // They were among the root's own, and in nodes.
            let short: Vec<u32> = self.records.shorter(instance, v6, SHORT).collect();
            for slot in short {
                let key = Key::new(state.index, &self.records.get(slot).eid);
                self.insert_high(new, &key, slot);
            }
        } else {
            for place in 0..FALLBACK {
                let word = self.tables.word(old.base + place).load(Ordering::Relaxed);
                self.tables.word(base + place).store(word, Ordering::Relaxed);
            }
        }
        self.tables.instance(state.index).roots[usize::from(v6)].store(new.word(), Ordering::Release);
        self.retire(Retired::Words { base: old.base, count: words(old.bits) });
    }

    /// Writes the 64 words that take the place of one, and of the node that it leads to.
    fn widen(&mut self, word: u64, first: u32) {
        let (node, leaf) = (word as u32, (word >> 32) as u32);
        let leaf = if leaf == 0 { 0 } else { self.if_long(self.tables.leaf(leaf).load(Ordering::Relaxed)) };
        if node == 0 {
            if leaf != 0 {
                (first..first + (1 << STRIDE)).for_each(|word| self.set_leaf(word, false, leaf));
            }
            return;
        }
        let draft = Draft::of(self.tables.node(node));
        for (way, cover) in self.covers(&draft).into_iter().enumerate() {
            let own = self.if_long(cover);
            let leaf = if own == 0 { leaf } else { own };
            let child = draft.child(way).map_or(0, |child| {
                let copy = Draft::of(self.tables.node(child)).node();
                self.lone_node(copy)
            });
            if leaf | child != 0 {
                let new = u64::from(leaf) << 32 | u64::from(child);
                self.tables.word(first + way as u32).store(new, Ordering::Relaxed);
            }
        }
        self.retire(Retired::Nodes { base: node, count: 1 });
        if draft.leaf_count() > 0 {
            self.retire(Retired::Leaves { base: draft.leaf_base, count: draft.leaf_count() });
        }
        if draft.child_count() > 0 {
            self.retire(Retired::Nodes { base: draft.child_base, count: draft.child_count() });
        }
    }

    /// The own leaf of a slot's prefix, unless that belongs into the fallback.
    fn if_long(&mut self, slot: u32) -> u32 {
        if self.records.length(slot) >= SHORT { self.own_leaf(slot) } else { 0 }
    }
}
