//! All that workers read, and nothing else: arenas, and the few words that lead into them.
//!
//! ```text
//! Instance-ID ─ index ─▶ instance ─ root of the family ─▶ word ─▶ node ─▶ … ─▶ leaf = slot
//!
//! slot ─┬─ action ─┬─▶ line of a locator-set ─▶ header
//!       │          └─▶ next hop
//!       ├─ mark, where a header feature is switched on
//!       └─ counters, one for each worker
//! ```
//!
//! Every link is an index in an atomic word, stored with Release and loaded with Acquire (ordering 1 of
//! [`quiescence`](super::quiescence)).

use std::{
    hash::BuildHasher,
    net::IpAddr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use foldhash::fast::FixedState;

use super::{
    memory::{Arena, prefetch},
    ours::Masked,
};
use crate::mapping::{InstanceId, NextHop, OuterHeader};

/// Bits that one node decides.
pub(super) const STRIDE: u32 = 6;
/// Where the ways of IPv6 prefixes part: up to here all are in nodes; from here on hosts are in a hash table.
pub(super) const DEEP: u32 = 66;
/// Bits of a flat root (IPv4): see [`flat`](super::flat).
pub(super) const FLAT: u32 = 16;
/// Bits of a block below it.
pub(super) const FLAT_BLOCK: u32 = 8;
/// Set in a place among the cells of all blocks, and in a cell that is no slot but leads to a block: it holds the place of
/// that block's first cell.
pub(super) const BLOCK: u32 = 1 << 31;
/// In a cell that is no slot: the rest is the index of a word with a child and a leaf.
pub(super) const JUNCTION: u32 = 1 << 30;
/// In a cell that nothing covers: a junction to the word at index 0, below which there is nothing. So that one bit tells
/// slots from all else.
pub(super) const UNCOVERED: u32 = JUNCTION;
/// Length of the prefixes that a block's cell stands for.
pub(super) const FINE: u32 = FLAT + FLAT_BLOCK;
/// Words in front of a root of more than [`STRIDE`] bits: leaves of prefixes shorter than [`SHORT`], by the first
/// octet. A default route would otherwise be written to every word of the root.
pub(super) const FALLBACK: u32 = 256;
/// See [`FALLBACK`].
pub(super) const SHORT: u32 = 8;

/// Six bits of an address: 64 ways on.
///
/// A node that workers can reach keeps its bitmaps; what changes is where its arrays are.
#[repr(C, align(32))]
pub(super) struct Node {
    /// Ways that lead to a child.
    pub(super) children: u64,
    /// Ways that a prefix of this node covers.
    pub(super) covered: u64,
    /// Covered ways where another leaf begins than the one before.
    pub(super) starts: u64,
    /// Children in the order of their ways.
    pub(super) child_base: AtomicU32,
    /// Leaves in the order of their ways.
    pub(super) leaf_base: AtomicU32,
}

/// Index of the default instance, whether it has prefixes or not: most tables have no other.
pub(super) const DEFAULT: u32 = 1;

/// The roots of one Instance-ID by family, and what is local in it; zero is none.
#[derive(Default)]
pub(super) struct Instance {
    pub(super) roots: [AtomicU64; 2],
    /// Lists of local EID-prefixes: see [`ours`](super::ours).
    pub(super) ours: [AtomicU64; 2],
}

/// 256 cells of a flat root, or below one of its cells.
#[repr(C, align(64))]
pub(super) struct Block(pub(super) [AtomicU32; 1 << FLAT_BLOCK]);

/// A root: 2^`bits` words at `base`, behind the fallback if it is wider than [`STRIDE`]. A word holds a child (low half)
/// and a leaf (high half). Of a flat root, `base` is its first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) base: u32,
    pub(super) bits: u32,
    /// One word for all: what stands for a root under a [`JUNCTION`]. Workers never meet it.
    pub(super) lone: bool,
}

impl Root {
    #[inline(always)]
    pub(super) const fn from_word(word: u64) -> Self {
        Self::new(word as u32, (word >> 32) as u32)
    }

    pub(super) const fn new(base: u32, bits: u32) -> Self {
        Self { base, bits, lone: false }
    }

    /// Of a flat root, behind the block of the fallback: place of its first cell.
    #[inline(always)]
    pub(super) const fn first_cell(self) -> u32 {
        BLOCK | (self.base + 1) << FLAT_BLOCK
    }

    pub(super) const fn word(self) -> u64 {
        (self.bits as u64) << 32 | self.base as u64
    }
}

/// A power-of-two table of words: `1 << log` of them at `base`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hashed {
    pub(super) base: u32,
    pub(super) log: u32,
}

impl Hashed {
    #[inline(always)]
    pub(super) const fn from_word(word: u64) -> Self {
        Self { base: word as u32, log: (word >> 32) as u32 }
    }

    pub(super) const fn word(self) -> u64 {
        (self.log as u64) << 32 | self.base as u64
    }

    pub(super) const fn mask(self) -> u32 {
        (1 << self.log) - 1
    }
}

/// A /128. Written once, slot last; a slot of [`Host::GONE`] is a host that left.
#[repr(C, align(32))]
pub(super) struct Host {
    pub(super) high: AtomicU64,
    pub(super) low: AtomicU64,
    pub(super) instance: AtomicU64,
    pub(super) slot: AtomicU64,
}

impl Host {
    /// No slot: those have 32 bits.
    pub(super) const GONE: u64 = 1 << 32;
}

/// 64 octets of a locator-set: see [`values`](super::values).
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [AtomicU32; 16]);

/// Eight RLOCs of a locator-set, each in 64 bits.
#[repr(C, align(64))]
pub(super) struct Members(pub(super) [AtomicU64; 8]);

/// See the module's text.
pub(super) struct Tables {
    pub(super) nodes: Arena<Node>,
    pub(super) leaves: Arena<AtomicU32>,
    /// By slot.
    pub(super) actions: Arena<AtomicU32>,
    /// By slot: a [`Mark`](crate::mapping::Mark) as a word. Pages that no header feature touched are not there.
    pub(super) marks: Arena<AtomicU64>,
    /// Roots and the index of instances.
    pub(super) words: Arena<AtomicU64>,
    pub(super) blocks: Arena<Block>,
    pub(super) hosts: Arena<Host>,
    pub(super) instances: Arena<Instance>,
    pub(super) lines: Arena<Line>,
    /// Beside `lines`, by the same index.
    pub(super) members: Arena<Members>,
    pub(super) headers: Arena<OuterHeader>,
    pub(super) next_hops: Arena<NextHop>,
    /// Local EID-prefixes of IPv4 and of IPv6.
    pub(super) ours4: Arena<Masked<u32>>,
    pub(super) ours6: Arena<Masked<u128>>,
    /// [`Hashed`] into `words`: Instance-ID + 1 below, index of the instance above.
    pub(super) index: AtomicU64,
    /// [`Hashed`] into `hosts`.
    pub(super) host_table: AtomicU64,
    /// Seeded, so that nobody outside can choose what collides.
    pub(super) hasher: FixedState,
}

impl Tables {
    /// Empty tables for `capacity` entries.
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        let entries = capacity.clamp(1 << 12, 1 << 26);
        let tables = Self {
            nodes: Arena::reserve((entries * 32).min(1 << 30), true),
            leaves: Arena::reserve((entries * 32).min(1 << 30), true),
            actions: Arena::reserve((entries * 2 + 1).min(1 << 30), true),
            marks: Arena::reserve((entries * 2 + 1).min(1 << 30), false),
            words: Arena::reserve(1 << 28, false),
            // A flat root, and one for every prefix at most: they may lie as far apart as they can.
            blocks: Arena::reserve((entries + (1 << 11)).min(1 << 22), true),
            hosts: Arena::reserve((entries * 16).min(1 << 28), true),
            instances: Arena::reserve(entries * 2, false),
            lines: Arena::reserve((entries * 8).min(1 << 28), true),
            members: Arena::reserve((entries * 8).min(1 << 28), false),
            headers: Arena::reserve((entries * 4).min(1 << 28), true),
            next_hops: Arena::reserve(entries * 4, true),
            ours4: Arena::reserve(entries * 4, false),
            ours6: Arena::reserve(entries * 4, false),
            index: AtomicU64::new(0),
            host_table: AtomicU64::new(0),
            hasher: FixedState::with_seed(seed),
        };
        // Index 0 of each means "none", and is read: a node without ways, a leaf without entry, an empty root.
        let ready = tables.nodes.commit(1)
            && tables.leaves.commit(1)
            && tables.instances.commit(2)
            && tables.words.commit(1 << STRIDE)
            && tables.actions.commit(1)
            && tables.marks.commit(1)
            && tables.hosts.commit(1);
        assert!(ready, "no memory for an empty map-cache");
        tables
    }

    /// A node that a link leads to.
    #[inline(always)]
    pub(super) fn node(&self, index: u32) -> &Node {
        // SAFETY: indices come from links, which lead to nodes put before they were stored; the writer uses a node
        // anew only after every reader that could hold it has begun a later turn.
        unsafe { self.nodes.get(index) }
    }

    /// The word of a leaf that a node or a root word leads to.
    #[inline(always)]
    pub(super) fn leaf(&self, index: u32) -> &AtomicU32 {
        // SAFETY: as in `node`.
        unsafe { self.leaves.get(index) }
    }

    /// A word of a root or of the index.
    #[inline(always)]
    pub(super) fn word(&self, index: u32) -> &AtomicU64 {
        // SAFETY: as in `node`; the words of a root or a table are committed before the link to it is stored.
        unsafe { self.words.get(index) }
    }

    /// What to do under a slot.
    #[inline(always)]
    pub(super) fn action_word(&self, slot: u32) -> &AtomicU32 {
        // SAFETY: as in `node`: the action of a slot is committed before anything leads to the slot.
        unsafe { self.actions.get(slot) }
    }

    /// What header features say under a slot.
    #[inline(always)]
    pub(super) fn mark_word(&self, slot: u32) -> &AtomicU64 {
        // SAFETY: as in `action_word`, beside which it is committed.
        unsafe { self.marks.get(slot) }
    }

    /// A block of a flat root, or one that a cell of it leads to.
    #[inline(always)]
    pub(super) fn block(&self, index: u32) -> &[AtomicU32; 1 << FLAT_BLOCK] {
        // SAFETY: as in `node`.
        let Block(words) = unsafe { self.blocks.get(index) };
        words
    }

    /// The cells of all blocks, to be kept while many are read: where the one at place 0 would be, for places have
    /// [`BLOCK`] set.
    #[inline(always)]
    pub(super) fn cells(&self) -> *const AtomicU32 {
        self.blocks.address(0).cast::<AtomicU32>().wrapping_sub(BLOCK as usize)
    }

    /// What the cell at a place holds.
    #[inline(always)]
    pub(super) fn cell(&self, cells: *const AtomicU32, place: u32) -> u32 {
        // SAFETY: as in `block`: places are computed inside a flat root or one of its blocks.
        unsafe { &*cells.wrapping_add(place as usize) }.load(Ordering::Acquire)
    }

    #[inline(always)]
    pub(super) fn host(&self, index: u32) -> &Host {
        // SAFETY: as in `word`.
        unsafe { self.hosts.get(index) }
    }

    #[inline(always)]
    pub(super) fn instance(&self, index: u32) -> &Instance {
        // SAFETY: as in `node`; index 0 is committed and has no roots.
        unsafe { self.instances.get(index) }
    }

    /// The instance's index; 0, which has no prefixes, if nothing is known of it.
    #[inline(always)]
    pub(super) fn instance_index(&self, instance: InstanceId) -> u32 {
        if instance == InstanceId::DEFAULT { DEFAULT } else { self.find_instance(instance) }
    }

    fn find_instance(&self, instance: InstanceId) -> u32 {
        let table = self.index.load(Ordering::Acquire);
        if table == 0 {
            return 0;
        }
        let table = Hashed::from_word(table);
        let wanted = u64::from(instance.get()) + 1;
        let mut at = self.instance_place(wanted) & table.mask();
        loop {
            let word = self.word(table.base + at).load(Ordering::Acquire);
            match word & 0xffff_ffff {
                0 => return 0,
                found if found == wanted => return (word >> 32) as u32,
                _ => at = (at + 1) & table.mask(),
            }
        }
    }

    /// Where the search for an Instance-ID + 1 begins; to be masked.
    #[inline(always)]
    pub(super) fn instance_place(&self, wanted: u64) -> u32 {
        self.hasher.hash_one(wanted) as u32
    }

    /// The root for IPv4 (false) or IPv6 (true) of an instance; the empty root at word 0 if it has none.
    #[inline(always)]
    pub(super) fn root(&self, instance: u32, v6: bool) -> Root {
        match self.instance(instance).roots[usize::from(v6)].load(Ordering::Acquire) {
            0 => Root::new(0, STRIDE),
            word => Root::from_word(word),
        }
    }

    /// Whether an instance has any root, and thus any prefix.
    pub(super) fn has_prefixes(&self, instance: u32) -> bool {
        self.instance(instance).roots.iter().any(|root| root.load(Ordering::Acquire) != 0)
    }

    /// The slot of a /128, if it is there.
    #[inline]
    pub(super) fn find_host(&self, instance: u32, address: u128) -> Option<u32> {
        let table = self.host_table.load(Ordering::Acquire);
        if table == 0 {
            return None;
        }
        let table = Hashed::from_word(table);
        let mut at = self.host_place(instance, address) & table.mask();
        loop {
            let host = self.host(table.base + at);
            let slot = host.slot.load(Ordering::Acquire);
            if slot == 0 {
                return None;
            }
            let here = host.high.load(Ordering::Relaxed) == (address >> 64) as u64
                && host.low.load(Ordering::Relaxed) == address as u64
                && host.instance.load(Ordering::Relaxed) == u64::from(instance);
            if here && slot != Host::GONE {
                return Some(slot as u32);
            }
            at = (at + 1) & table.mask();
        }
    }

    /// Asks for the line where the search for a /128 begins.
    #[inline]
    pub(super) fn prefetch_host(&self, instance: u32, address: u128) {
        let table = Hashed::from_word(self.host_table.load(Ordering::Acquire));
        let at = self.host_place(instance, address) & table.mask();
        prefetch(self.hosts.address(table.base + at));
    }

    /// Where the search for a /128 begins; to be masked.
    #[inline(always)]
    pub(super) fn host_place(&self, instance: u32, address: u128) -> u32 {
        self.hasher.hash_one((address, instance)) as u32
    }

    /// What stands for an RLOC in [`Members`]; never 0. Of IPv4 the address itself, of IPv6 a hash.
    #[inline(always)]
    pub(super) fn member(&self, rloc: IpAddr) -> u64 {
        const V4: u64 = 1 << 63;
        match rloc {
            IpAddr::V4(v4) => u64::from(v4.to_bits()) | V4,
            // As one number: as an `IpAddr` it would be hashed octet by octet.
            IpAddr::V6(v6) => (self.hasher.hash_one(v6.to_bits()) & !V4).max(1),
        }
    }
}
