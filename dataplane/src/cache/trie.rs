//! Changing the trie under the eyes of workers.
//!
//! A node decides six bits. For its 64 ways it says which lead to a child and which leaf covers them: the longest of the
//! node's own prefixes, so that no change reaches beyond one node. A look-up remembers the last leaf that covered it on its
//! way down.
//!
//! ```text
//! root word ─▶ node  children  0010 0100 …      child_base ─▶ [node, node]
//!                    covered   0111 1000 …      leaf_base  ─▶ [leaf, leaf]
//!                    starts    0100 1000 …
//! ```
//!
//! A node that can be reached keeps its bitmaps, because they and its arrays must be read together. To change them, a new
//! node is written beside it, in a copy of the array that it stands in, and the parent's `child_base` (or the root word) is
//! turned to the copy: one store, one node, a few small copies. What was there before waits for the workers.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    store::{Retired, Store},
    tables::{DEEP, FALLBACK, FLAT, Node, Root, SHORT, STRIDE},
};
use crate::mapping::EidPrefix;

/// Length of the IPv6 prefixes that are in the host table.
const HOST: u32 = 128;
/// Ways of a node.
const WAYS: usize = 1 << STRIDE;

/// A prefix as the trie sees it: its bits from the top.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Index of its instance.
    pub(super) instance: u32,
    pub(super) bits: u128,
    pub(super) length: u32,
}

impl Key {
    pub(super) fn new(instance: u32, eid: &EidPrefix) -> Self {
        let bits = match eid.prefix.address() {
            std::net::IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            std::net::IpAddr::V6(v6) => v6.to_bits(),
        };
        Self { instance, bits, length: u32::from(eid.prefix.length()) }
    }

    /// The way it takes in a node at `depth`.
    const fn way(&self, depth: u32) -> usize {
        ((self.bits << depth) >> (128 - STRIDE)) as usize
    }

    /// The ways that it covers in the node at `depth`, where it ends: first and number.
    const fn span(&self, depth: u32) -> (usize, usize) {
        (self.way(depth), 1 << (depth + STRIDE - self.length))
    }

    /// Depth of the node where it ends, under a root of `bits` bits; it is longer than those.
    const fn depth(&self, bits: u32) -> u32 {
        bits + (self.length - 1 - bits) / STRIDE * STRIDE
    }

    /// Its first bits as a number.
    pub(super) const fn head(&self, count: u32) -> u32 {
        (self.bits >> (128 - count)) as u32
    }
}

/// A node that is being made. Its arrays are known by what they hold.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Draft {
    pub(super) children: u64,
    pub(super) covered: u64,
    pub(super) starts: u64,
    pub(super) child_base: u32,
    pub(super) leaf_base: u32,
}

impl Draft {
    pub(super) fn of(node: &Node) -> Self {
        let Node { children, covered, starts, .. } = *node;
        let [child_base, leaf_base] = [&node.child_base, &node.leaf_base].map(|base| base.load(Ordering::Relaxed));
        Self { children, covered, starts, child_base, leaf_base }
    }

    pub(super) const fn node(self) -> Node {
        let Self { children, covered, starts, child_base, leaf_base } = self;
        let (child_base, leaf_base) = (AtomicU32::new(child_base), AtomicU32::new(leaf_base));
        Node { children, covered, starts, child_base, leaf_base }
    }

    /// Index of the child on `way`, if there is one.
    pub(super) const fn child(&self, way: usize) -> Option<u32> {
        if self.children >> way & 1 == 0 {
            return None;
        }
        Some(self.child_base + self.rank(way))
    }

    const fn rank(&self, way: usize) -> u32 {
        (self.children & ((1 << way) - 1)).count_ones()
    }

    pub(super) const fn child_count(&self) -> u32 {
        self.children.count_ones()
    }

    pub(super) const fn leaf_count(&self) -> u32 {
        self.starts.count_ones()
    }

    const fn is_empty(&self) -> bool {
        self.children | self.covered == 0
    }
}

/// The way down to a node: each node above it, and the way taken there.
#[derive(Default)]
struct Path {
    steps: [(u32, u8); 22],
    length: usize,
}

impl Path {
    fn push(&mut self, node: u32, way: usize) {
        self.steps[self.length] = (node, way as u8);
        self.length += 1;
    }

    fn pop(&mut self) -> Option<(u32, usize)> {
        self.length = self.length.checked_sub(1)?;
        let (node, way) = self.steps[self.length];
        Some((node, usize::from(way)))
    }
}

/// Where a prefix is kept under a root.
enum Home {
    /// In the fallback: too short for the root.
    Fallback,
    /// In the root's words.
    Root,
    /// In a node.
    Node,
}

const fn home(root: Root, length: u32) -> Home {
    if root.bits > STRIDE && length < SHORT {
        Home::Fallback
    } else if length <= root.bits {
        Home::Root
    } else {
        Home::Node
    }
}

impl Store {
    /// Puts the entry of `slot`, whose prefix is `key`, into the trie below `root`. The prefix was not there.
    pub(super) fn insert(&mut self, root: Root, key: &Key, slot: u32) {
        match home(root, key.length) {
            _ if key.length == HOST => self.insert_host(root, key, slot),
            _ if root.bits == FLAT => self.insert_flat(root, key, slot),
            Home::Fallback | Home::Root => self.insert_high(root, key, slot),
            Home::Node => self.insert_low(root, key, slot),
        }
    }

    /// Takes it out again.
    pub(super) fn withdraw(&mut self, root: Root, key: &Key, slot: u32) {
        match home(root, key.length) {
            _ if key.length == HOST => self.withdraw_host(root, key),
            _ if root.bits == FLAT => self.withdraw_flat(root, key, slot),
            Home::Fallback | Home::Root => self.withdraw_high(root, key, slot),
            Home::Node => self.withdraw_low(root, key, slot),
        }
    }

    /// The words that a prefix covers, of the root or of the fallback: first and number.
    fn high_span(root: Root, key: &Key) -> (u32, u32) {
        match home(root, key.length) {
            Home::Fallback => (root.base + key.head(SHORT), 1 << (SHORT - key.length)),
            _ if root.bits > STRIDE => (root.base + FALLBACK + key.head(root.bits), 1 << (root.bits - key.length)),
            _ => (root.base + key.head(root.bits), 1 << (root.bits - key.length)),
        }
    }

    /// What a word of the root or the fallback says of its leaf. The two differ in where they keep it.
    fn leaf_of(&self, word: u32, fallback: bool) -> u32 {
        let word = self.tables.word(word).load(Ordering::Relaxed);
        if fallback { word as u32 } else { (word >> 32) as u32 }
    }

    pub(super) fn set_leaf(&self, index: u32, fallback: bool, leaf: u32) {
        let word = self.tables.word(index);
        let child = word.load(Ordering::Relaxed) & 0xffff_ffff;
        let new = if fallback { u64::from(leaf) } else { u64::from(leaf) << 32 | child };
        word.store(new, Ordering::Release);
    }

    /// The record's own leaf, made if it has none.
    pub(super) fn own_leaf(&mut self, slot: u32) -> u32 {
        let leaf = self.records.get(slot).leaf;
        if leaf != 0 {
            return leaf;
        }
        let leaf = self.lone_leaf(slot);
        self.records.get_mut(slot).leaf = leaf;
        leaf
    }

    pub(super) fn insert_high(&mut self, root: Root, key: &Key, slot: u32) {
        let fallback = matches!(home(root, key.length), Home::Fallback);
        let (first, count) = Self::high_span(root, key);
        let leaf = self.own_leaf(slot);
        for word in first..first + count {
            let there = self.leaf_of(word, fallback);
            let longer = there != 0 && {
                let length = self.records.length(self.tables.leaf(there).load(Ordering::Relaxed));
                length > key.length
            };
            if !longer {
                self.set_leaf(word, fallback, leaf);
            }
        }
    }

    fn withdraw_high(&mut self, root: Root, key: &Key, slot: u32) {
        let fallback = matches!(home(root, key.length), Home::Fallback);
        let from = if fallback || root.bits == STRIDE { 0 } else { SHORT };
        let (first, count) = Self::high_span(root, key);
        let leaf = std::mem::take(&mut self.records.get_mut(slot).leaf);
        if leaf == 0 {
            return;
        }
        let eid = self.records.get(slot).eid;
        let next = self.records.cover(&eid, from).map_or(0, |cover| self.own_leaf(cover));
        for word in first..first + count {
            if self.leaf_of(word, fallback) == leaf {
                self.set_leaf(word, fallback, next);
            }
        }
        self.retire(Retired::Leaves { base: leaf, count: 1 });
    }

    /// The word of the root that `key` passes.
    fn root_word(root: Root, key: &Key) -> u32 {
        if root.lone {
            return root.base;
        }
        let skip = if root.bits > STRIDE { FALLBACK } else { 0 };
        root.base + skip + key.head(root.bits)
    }

    /// Turns the child of a root word to `node`.
    fn set_root_child(&self, word: u32, node: u32) {
        let word = self.tables.word(word);
        let leaf = word.load(Ordering::Relaxed) >> 32 << 32;
        word.store(leaf | u64::from(node), Ordering::Release);
    }

    /// The node at `depth` on the way of `key`, with the way there; `None` if the way ends before.
    fn descend(&self, root: Root, key: &Key, depth: u32) -> Option<(Path, u32)> {
        let mut path = Path::default();
        let mut node = self.tables.word(Self::root_word(root, key)).load(Ordering::Relaxed) as u32;
        let mut at = root.bits;
        while node != 0 && at < depth {
            let way = key.way(at);
            path.push(node, way);
            node = Draft::of(self.tables.node(node)).child(way)?;
            at += STRIDE;
        }
        (node != 0).then_some((path, node))
    }

    pub(super) fn insert_low(&mut self, root: Root, key: &Key, slot: u32) {
        self.change_at(root, key, key.depth(root.bits), |store, draft, depth| {
            store.cover(draft, key.span(depth), |store, there| {
                if there == 0 || store.records.length(there) <= key.length { slot } else { there }
            });
        });
    }

    /// Sees to it that there is a node at depth [`DEEP`], even an empty one.
    pub(super) fn insert_deep(&mut self, root: Root, key: &Key) {
        self.change_at(root, key, DEEP, |_, _, _| {});
    }

    /// Changes the node at `depth` on the way of `key`, making it and all above it if they are not there.
    fn change_at(&mut self, root: Root, key: &Key, depth: u32, change: impl Fn(&mut Self, &mut Draft, u32)) {
        let word = Self::root_word(root, key);
        let mut path = Path::default();
        let mut node = self.tables.word(word).load(Ordering::Relaxed) as u32;
        let mut at = root.bits;
        while node != 0 {
            let mut draft = Draft::of(self.tables.node(node));
            if at == depth {
                change(self, &mut draft, depth);
                return self.replace(word, path, node, draft);
            }
            let way = key.way(at);
            if let Some(child) = draft.child(way) {
                path.push(node, way);
                (node, at) = (child, at + STRIDE);
                continue;
            }
            let chain = self.chain(key, at + STRIDE, depth, change);
            self.add_child(&mut draft, way, chain);
            return self.replace(word, path, node, draft);
        }
        let chain = self.chain(key, at, depth, change);
        let index = self.lone_node(chain.node());
        self.set_root_child(word, index);
    }

    /// Nodes that nobody sees yet, each the only child of the one above, from depth `from` to `depth`.
    fn chain(&mut self, key: &Key, from: u32, depth: u32, change: impl Fn(&mut Self, &mut Draft, u32)) -> Draft {
        let mut draft = Draft::default();
        change(self, &mut draft, depth);
        let mut at = depth;
        while at > from {
            at -= STRIDE;
            let child = self.lone_node(draft.node());
            draft = Draft { children: 1 << key.way(at), child_base: child, ..Draft::default() };
        }
        draft
    }

    /// Gives a draft one child more.
    fn add_child(&mut self, draft: &mut Draft, way: usize, child: Draft) {
        let (old, count, rank) = (draft.child_base, draft.child_count(), draft.rank(way));
        let base = self.nodes.allocate(&self.tables.nodes, count as usize + 1);
        for place in 0..=count {
            let node = match place {
                place if place < rank => Draft::of(self.tables.node(old + place)),
                place if place == rank => child,
                place => Draft::of(self.tables.node(old + place - 1)),
            };
            // SAFETY: just handed out, so committed and unseen.
            unsafe { self.tables.nodes.put(base + place, node.node()) };
        }
        self.retire_nodes(old, count);
        draft.children |= 1 << way;
        draft.child_base = base;
    }

    /// Takes the child on `way` from a draft.
    fn remove_child(&mut self, draft: &mut Draft, way: usize) {
        let (old, count, rank) = (draft.child_base, draft.child_count(), draft.rank(way));
        let base = self.nodes.allocate(&self.tables.nodes, count as usize - 1);
        for place in (0..count).filter(|&place| place != rank) {
            let target = base + place - u32::from(place > rank);
            // SAFETY: just handed out, so committed and unseen.
            unsafe { self.tables.nodes.put(target, Draft::of(self.tables.node(old + place)).node()) };
        }
        self.retire_nodes(old, count);
        draft.children &= !(1 << way);
        draft.child_base = base;
    }

    fn retire_nodes(&mut self, base: u32, count: u32) {
        if count > 0 {
            self.retire(Retired::Nodes { base, count });
        }
    }

    /// Shows `draft` instead of `node`, which stands at the end of `path` below the root word `word`.
    fn replace(&mut self, word: u32, mut path: Path, node: u32, draft: Draft) {
        let now = self.tables.node(node);
        if (now.children, now.covered, now.starts) == (draft.children, draft.covered, draft.starts) {
            // The same bitmaps: the arrays may be turned one after the other.
            now.leaf_base.store(draft.leaf_base, Ordering::Release);
            now.child_base.store(draft.child_base, Ordering::Release);
            return;
        }
        let Some((parent, way)) = path.pop() else {
            let index = self.lone_node(draft.node());
            self.set_root_child(word, index);
            return self.retire_nodes(node, 1);
        };
        let above = Draft::of(self.tables.node(parent));
        let (old, count, rank) = (above.child_base, above.child_count(), above.rank(way));
        let base = self.nodes.allocate(&self.tables.nodes, count as usize);
        for place in 0..count {
            let node = if place == rank { draft } else { Draft::of(self.tables.node(old + place)) };
            // SAFETY: just handed out, so committed and unseen.
            unsafe { self.tables.nodes.put(base + place, node.node()) };
        }
        self.tables.node(parent).child_base.store(base, Ordering::Release);
        self.retire_nodes(old, count);
    }

    /// Changes what covers `count` ways from `first` on: `change` gets what is there, 0 for nothing.
    fn cover(&mut self, draft: &mut Draft, (first, count): (usize, usize), change: impl Fn(&Self, u32) -> u32) {
        let mut covers = self.covers(draft);
        for cover in &mut covers[first..first + count] {
            *cover = change(self, *cover);
        }
        let (old, old_count) = (draft.leaf_base, draft.leaf_count());
        let (mut covered, mut starts, mut leaves, mut length) = (0_u64, 0_u64, [0_u32; WAYS], 0);
        let mut last = 0;
        for (way, &cover) in covers.iter().enumerate() {
            if cover != 0 {
                covered |= 1 << way;
                if cover != last {
                    starts |= 1 << way;
                    leaves[length] = cover;
                    length += 1;
                }
            }
            // Behind a gap the same leaf begins anew only if it is another one.
            last = if cover == 0 { last } else { cover };
        }
        let base = self.leaves.allocate(&self.tables.leaves, length);
        for (index, &leaf) in leaves[..length].iter().enumerate() {
            self.tables.leaf(base + index as u32).store(leaf, Ordering::Relaxed);
        }
        if old_count > 0 {
            self.retire(Retired::Leaves { base: old, count: old_count });
        }
        *draft = Draft { covered, starts, leaf_base: base, ..*draft };
    }

    /// For each way the slot of what covers it, 0 for nothing.
    pub(super) fn covers(&self, draft: &Draft) -> [u32; WAYS] {
        let mut covers = [0; WAYS];
        let (mut leaf, mut slot) = (draft.leaf_base, 0);
        for (way, cover) in covers.iter_mut().enumerate() {
            if draft.starts >> way & 1 == 1 {
                slot = self.tables.leaf(leaf).load(Ordering::Relaxed);
                leaf += 1;
            }
            if draft.covered >> way & 1 == 1 {
                *cover = slot;
            }
        }
        covers
    }

    pub(super) fn withdraw_low(&mut self, root: Root, key: &Key, slot: u32) {
        let eid = self.records.get(slot).eid;
        let depth = key.depth(root.bits);
        let next = self.records.cover(&eid, depth + 1).unwrap_or(0);
        let Some((path, node)) = self.descend(root, key, depth) else { return };
        let mut draft = Draft::of(self.tables.node(node));
        self.cover(&mut draft, key.span(depth), |_, there| if there == slot { next } else { there });
        self.settle(root, key, depth, path, node, draft);
    }

    /// Lets the node at depth [`DEEP`] go if nothing needs it any more.
    pub(super) fn withdraw_deep(&mut self, root: Root, key: &Key) {
        if let Some((path, node)) = self.descend(root, key, DEEP) {
            let draft = Draft::of(self.tables.node(node));
            if draft.is_empty() {
                self.settle(root, key, DEEP, path, node, draft);
            }
        }
    }

    /// Shows `draft` instead of `node` at `depth`, or takes the node out if it is empty, and all above that become so.
    fn settle(&mut self, root: Root, key: &Key, depth: u32, mut path: Path, node: u32, draft: Draft) {
        let word = Self::root_word(root, key);
        let (mut node, mut draft, mut at) = (node, draft, depth);
        while draft.is_empty() && !(at == DEEP && self.is_crowded(key)) {
            let Some((parent, way)) = path.pop() else {
                self.set_root_child(word, 0);
                return self.retire_nodes(node, 1);
            };
            at -= STRIDE;
            (node, draft) = (parent, Draft::of(self.tables.node(parent)));
            self.remove_child(&mut draft, way);
        }
        self.replace(word, path, node, draft);
    }
}
