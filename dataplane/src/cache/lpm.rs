//! Longest-prefix match: a persistent trie of stride 6.
//!
//! A clone shares everything and costs one reference count; a change then copies the nodes on its way, once per clone
//! however many changes follow. So the table that readers hold never changes, and the next one is made beside it.
//!
//! A [`Node`] stands at a depth that is a multiple of 6 bits and holds the prefixes of the six lengths from there
//! (a complete binary tree in one bitmap, as Tree Bitmap has it) and up to 64 branches for longer ones. Levels where
//! nothing parts are skipped and a prefix alone in its branch needs no node: every node has at least two occupants, so
//! there are fewer nodes than prefixes whatever their lengths, and a small table is small.

#![forbid(unsafe_code)]

use std::{net::IpAddr, sync::Arc};

use crate::mapping::{InstanceId, Prefix};

/// Bits that one node decides.
const STRIDE: u8 = 6;

/// For each value of a node's six bits, the places of the prefixes that hold it: lengths 0 … 5 relative to the node.
const HOLDERS: [u64; 64] = {
    let mut holders = [0; 64];
    let mut chunk = 0;
    while chunk < 64 {
        let mut length = 0;
        while length < STRIDE as usize {
            holders[chunk] |= 1 << place(chunk, length);
            length += 1;
        }
        chunk += 1;
    }
    holders
};

/// Number of a prefix in a node's binary tree: 1 is the root, 2n and 2n + 1 are below n. Longer is larger.
const fn place(chunk: usize, length: usize) -> usize {
    1 << length | chunk >> (STRIDE as usize - length)
}

/// A prefix of any family: its bits from the top, the rest zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    bits: u128,
    length: u8,
}

impl Key {
    /// An Instance-ID as a prefix that holds itself alone.
    #[inline]
    pub(super) fn instance(instance: InstanceId) -> Self {
        Self { bits: u128::from(instance.get()) << 104, length: 24 }
    }

    pub(super) fn prefix(prefix: &Prefix) -> Self {
        Self { bits: bits(prefix.address()), length: prefix.length() }
    }

    /// The first `length` bits of `self`.
    fn shortened(&self, length: u8) -> Self {
        let bits = self.bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self { bits, length }
    }

    #[inline]
    fn holds(&self, address: u128) -> bool {
        (self.bits ^ address).leading_zeros() >= u32::from(self.length)
    }

    fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.holds(other.bits)
    }

    /// How many leading bits both have in common.
    fn common(&self, other: &Self) -> u8 {
        let equal = (self.bits ^ other.bits).leading_zeros() as u8;
        equal.min(self.length).min(other.length)
    }
}

/// An address as the trie sees it.
#[inline]
pub(super) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// A map from prefixes to values, searched by longest match.
#[derive(Debug)]
pub(super) struct Trie<V> {
    root: Option<Branch<V>>,
}

#[derive(Debug)]
enum Branch<V> {
    /// The only prefix here.
    Leaf(Arc<Leaf<V>>),
    Node(Arc<Node<V>>),
}

#[derive(Debug, Clone)]
struct Leaf<V> {
    key: Key,
    value: V,
}

#[derive(Debug)]
struct Node<V> {
    /// What all below have in common; its length is the node's depth.
    key: Key,
    /// Places that have an entry; `entries` holds them in order, without gaps.
    entry_map: u64,
    /// Chunks that have a branch; `branches` holds them in order, without gaps.
    branch_map: u64,
    entries: Vec<Arc<Leaf<V>>>,
    branches: Vec<Branch<V>>,
}

/// Where a prefix belongs in a node that covers it: bit numbers of the maps.
enum Spot {
    Entry(u32),
    Branch(u32),
}

/// How many bits of `map` are set below `bit`: the index of its item.
#[inline]
const fn rank(map: u64, bit: u32) -> usize {
    (map & ((1 << bit) - 1)).count_ones() as usize
}

const fn has(map: u64, bit: u32) -> bool {
    map >> bit & 1 == 1
}

// Derived, these would ask for `V: Clone`.
impl<V> Clone for Trie<V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone() }
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<V> Clone for Branch<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(leaf) => Self::Leaf(leaf.clone()),
            Self::Node(node) => Self::Node(node.clone()),
        }
    }
}

impl<V> Clone for Node<V> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), branches: self.branches.clone(), ..*self }
    }
}

impl<V> Trie<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value of the longest prefix that holds `address`.
    #[inline]
    pub(super) fn lookup(&self, address: u128) -> Option<&V> {
        let mut branch = self.root.as_ref()?;
        let mut longest: Option<(&Node<V>, u64)> = None;
        loop {
            match branch {
                Branch::Leaf(leaf) if leaf.key.holds(address) => return Some(&leaf.value),
                Branch::Node(node) if node.key.holds(address) => {
                    let chunk = node.chunk(address);
                    let holders = node.entry_map & HOLDERS[chunk as usize];
                    if holders != 0 {
                        longest = Some((node, holders));
                    }
                    if has(node.branch_map, chunk) {
                        branch = &node.branches[rank(node.branch_map, chunk)];
                        continue;
                    }
                }
                _ => {}
            }
            let (node, holders) = longest?;
            return Some(&node.entries[rank(node.entry_map, holders.ilog2())].value);
        }
    }

    /// The value of exactly this prefix.
    pub(super) fn get(&self, key: &Key) -> Option<&V> {
        let mut branch = self.root.as_ref()?;
        loop {
            match branch {
                Branch::Leaf(leaf) => return (leaf.key == *key).then_some(&leaf.value),
                Branch::Node(node) if node.key.covers(key) => match node.spot(key) {
                    Spot::Entry(bit) => {
                        return has(node.entry_map, bit).then(|| &node.entries[rank(node.entry_map, bit)].value);
                    }
                    Spot::Branch(bit) if has(node.branch_map, bit) => {
                        branch = &node.branches[rank(node.branch_map, bit)];
                    }
                    Spot::Branch(_) => return None,
                },
                Branch::Node(_) => return None,
            }
        }
    }

    /// The value of exactly this prefix, to change; nodes on the way that a clone shares are copied.
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut V>
    where
        V: Clone,
    {
        self.get(key)?;
        let mut branch = self.root.as_mut()?;
        loop {
            match branch {
                Branch::Leaf(leaf) => return Some(&mut Arc::make_mut(leaf).value),
                Branch::Node(node) => {
                    let node = Arc::make_mut(node);
                    match node.spot(key) {
                        Spot::Entry(bit) => {
                            let leaf = &mut node.entries[rank(node.entry_map, bit)];
                            return Some(&mut Arc::make_mut(leaf).value);
                        }
                        Spot::Branch(bit) => branch = &mut node.branches[rank(node.branch_map, bit)],
                    }
                }
            }
        }
    }

    /// Puts in or replaces the value of exactly this prefix.
    pub(super) fn insert(&mut self, key: Key, value: V) {
        let leaf = Arc::new(Leaf { key, value });
        match &mut self.root {
            None => self.root = Some(Branch::Leaf(leaf)),
            Some(branch) => branch.insert(leaf),
        }
    }

    /// Takes out the value of exactly this prefix; false if there is none.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        match &mut self.root {
            Some(branch @ Branch::Node(_)) => branch.remove(key),
            _ => self.root = None,
        }
        true
    }
}

impl<V> Branch<V> {
    fn key(&self) -> Key {
        match self {
            Self::Leaf(leaf) => leaf.key,
            Self::Node(node) => node.key,
        }
    }

    fn insert(&mut self, leaf: Arc<Leaf<V>>) {
        match self {
            Self::Leaf(present) if present.key == leaf.key => *present = leaf,
            Self::Node(node) if node.key.covers(&leaf.key) => Arc::make_mut(node).insert(leaf),
            // They part ways above: a node there holds both.
            _ => {
                let common = leaf.key.common(&self.key());
                let mut node = Node::new(leaf.key.shortened(common - common % STRIDE));
                node.adopt(self.clone());
                node.insert(leaf);
                *self = Self::Node(Arc::new(node));
            }
        }
    }

    /// Takes out `key`, which is below this node; a node with one occupant left gives way to it.
    fn remove(&mut self, key: &Key) {
        let Self::Node(node) = self else { return };
        let node = Arc::make_mut(node);
        node.remove(key);
        match (&node.entries[..], &node.branches[..]) {
            ([leaf], []) => *self = Self::Leaf(leaf.clone()),
            ([], [branch]) => *self = branch.clone(),
            _ => {}
        }
    }
}

impl<V> Node<V> {
    const fn new(key: Key) -> Self {
        Self { key, entry_map: 0, branch_map: 0, entries: Vec::new(), branches: Vec::new() }
    }

    /// The six bits of `address` that this node decides.
    #[inline]
    fn chunk(&self, address: u128) -> u32 {
        (address << self.key.length >> (128 - u32::from(STRIDE))) as u32
    }

    fn spot(&self, key: &Key) -> Spot {
        let (chunk, length) = (self.chunk(key.bits), key.length - self.key.length);
        if length < STRIDE { Spot::Entry(place(chunk as usize, length.into()) as u32) } else { Spot::Branch(chunk) }
    }

    /// Puts in or replaces a prefix that this node covers.
    fn insert(&mut self, leaf: Arc<Leaf<V>>) {
        match self.spot(&leaf.key) {
            Spot::Entry(bit) if has(self.entry_map, bit) => self.entries[rank(self.entry_map, bit)] = leaf,
            Spot::Branch(bit) if has(self.branch_map, bit) => {
                self.branches[rank(self.branch_map, bit)].insert(leaf);
            }
            _ => self.adopt(Branch::Leaf(leaf)),
        }
    }

    /// Puts a branch, or what it holds, at its free spot.
    fn adopt(&mut self, branch: Branch<V>) {
        match (self.spot(&branch.key()), branch) {
            (Spot::Branch(bit), branch) => {
                self.branches.insert(rank(self.branch_map, bit), branch);
                self.branch_map |= 1 << bit;
            }
            (Spot::Entry(bit), Branch::Leaf(leaf)) => {
                self.entries.insert(rank(self.entry_map, bit), leaf);
                self.entry_map |= 1 << bit;
            }
            (Spot::Entry(_), Branch::Node(_)) => unreachable!("a node below is at least a stride deeper"),
        }
    }

    /// Takes out `key`, which is here.
    fn remove(&mut self, key: &Key) {
        match self.spot(key) {
            Spot::Entry(bit) => {
                self.entries.remove(rank(self.entry_map, bit));
                self.entry_map &= !(1 << bit);
            }
            Spot::Branch(bit) => match &mut self.branches[rank(self.branch_map, bit)] {
                branch @ Branch::Node(_) => branch.remove(key),
                Branch::Leaf(_) => {
                    self.branches.remove(rank(self.branch_map, bit));
                    self.branch_map &= !(1 << bit);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
