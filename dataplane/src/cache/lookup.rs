//! Longest-prefix match as workers do it: one address, or a batch whose memory accesses overlap.
//!
//! A batch goes down level by level, all its addresses side by side: each step asks for the line that the address needs
//! next, and by the time its turn comes again the line is there. No step depends on data by a branch: an address that is
//! done goes on to node 0, which has no ways and changes nothing.
//!
//! Under a flat root ([`flat`](super::flat)) a batch takes two such steps at most.
//!
//! The same code is compiled twice, for any x86-64 and for x86-64-v3, whose single instructions for counting and masking
//! bits make up most of a step; [`Walk::best`] chooses once, at start.

use std::{
    hint::select_unpredictable,
    net::IpAddr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::{
    lookups::{Lookups, Wanted},
    memory::prefetch,
    tables::{BLOCK, DEEP, FALLBACK, FLAT, FLAT_BLOCK, JUNCTION, Node, Root, SHORT, STRIDE, Tables},
};
use crate::mapping::InstanceId;

/// Addresses that go down side by side.
const GROUP: usize = 64;
/// As many are quicker one by one than a group is made ready: when little arrives, a turn has few packets, or one.
const FEW: usize = 4;

/// A family's addresses: their first bits in front.
trait Address: Copy {
    const V6: bool;
    /// All bits, from the top.
    fn bits(self) -> u128;
    /// The first `count` bits, at most 24, as a number.
    fn head(self, count: u32) -> u32;
    /// The 64 bits behind the first `count`, from the top.
    fn tail(self, count: u32) -> u64;
}

impl Address for u32 {
    const V6: bool = false;

    fn bits(self) -> u128 {
        u128::from(self) << 96
    }

    #[inline(always)]
    fn head(self, count: u32) -> u32 {
        self >> (32 - count)
    }

    #[inline(always)]
    fn tail(self, count: u32) -> u64 {
        u64::from(self) << 32 << count
    }
}

impl Address for u128 {
    const V6: bool = true;

    fn bits(self) -> u128 {
        self
    }

    #[inline(always)]
    fn head(self, count: u32) -> u32 {
        (self >> 96) as u32 >> (32 - count)
    }

    #[inline(always)]
    fn tail(self, count: u32) -> u64 {
        (self << count >> 64) as u64
    }
}

/// The two entry points, in the version for this processor.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    one: unsafe fn(&Tables, u32, IpAddr) -> u32,
    all: unsafe fn(&Tables, &mut Lookups),
}

impl Walk {
    /// The fastest version that the processor can run.
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("popcnt")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("avx2")
        {
            return Self { one: v3::one, all: v3::all };
        }
        Self::plain()
    }

    /// The version that every processor runs.
    pub(super) fn plain() -> Self {
        Self { one, all }
    }

    /// The slot of the longest prefix that holds `address`, 0 for none.
    #[inline]
    pub(super) fn one(self, tables: &Tables, instance: u32, address: IpAddr) -> u32 {
        // SAFETY: `best` took this version only after it saw that the processor has what it was compiled for.
        unsafe { (self.one)(tables, instance, address) }
    }

    /// Looks all of `lookups` up.
    #[inline]
    pub(super) fn all(self, tables: &Tables, lookups: &mut Lookups) {
        // SAFETY: as in `one`.
        unsafe { (self.all)(tables, lookups) };
    }
}

#[cfg(target_arch = "x86_64")]
mod v3 {
    use super::{IpAddr, Lookups, Tables};

    #[target_feature(enable = "bmi1,bmi2,popcnt,lzcnt,avx2")]
    pub(super) fn one(tables: &Tables, instance: u32, address: IpAddr) -> u32 {
        super::one(tables, instance, address)
    }

    #[target_feature(enable = "bmi1,bmi2,popcnt,lzcnt,avx2")]
    pub(super) fn all(tables: &Tables, lookups: &mut Lookups) {
        super::all(tables, lookups);
    }
}

#[inline(always)]
fn one(tables: &Tables, instance: u32, address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => single(tables, instance, v4.to_bits()),
        IpAddr::V6(v6) => single(tables, instance, v6.to_bits()),
    }
}

#[inline(always)]
fn all(tables: &Tables, lookups: &mut Lookups) {
    let Lookups { v4, v6, repeats, found, tickets, instance, mixed, .. } = lookups;
    let found = &mut found[..*tickets];
    let shared = (!*mixed).then_some(*instance);
    look_up(tables, v4, shared, found);
    look_up(tables, v6, shared, found);
    for &ticket in repeats.iter() {
        found[ticket as usize] = found[ticket as usize - 1];
    }
}

/// Looks the addresses of one family up, in the way that suits their number and the instance that they share, if any.
///
/// Loops and not `for_each`, which the compiler may keep as a function of its own: one for any x86-64.
#[inline(always)]
fn look_up<A: Address>(tables: &Tables, all: &[Wanted<A>], shared: Option<InstanceId>, found: &mut [u32]) {
    if all.is_empty() {
        return;
    }
    let Some(instance) = shared else {
        for group in all.chunks(GROUP) {
            descend_mixed(tables, group, found);
        }
        return;
    };
    let index = tables.instance_index(instance);
    let root = tables.root(index, A::V6);
    if all.len() <= FEW {
        for Wanted { address, ticket, .. } in all {
            found[*ticket as usize] = single(tables, index, *address);
        }
    } else if !A::V6 && root.bits == FLAT {
        for group in all.chunks(GROUP) {
            descend_flat(tables, root, group, found);
        }
    } else {
        for group in all.chunks(GROUP) {
            descend_nodes(tables, |_| (index, root), group, found);
        }
    }
}

/// One step down: the way that the next six bits take, and what covers it.
///
/// Returns the child, 0 for none, and leaves `best` at the last leaf that covers the address.
#[inline(always)]
fn step(node: &Node, rest: u64, best: &mut u32) -> u32 {
    let way = rest >> (64 - STRIDE);
    let below = (1 << way) - 1;
    // Ordering 1: what the array holds is seen once its place is.
    let leaves = node.leaf_base.load(Ordering::Acquire);
    let children = node.child_base.load(Ordering::Acquire);
    let leaf = leaves.wrapping_add((node.starts & (below << 1 | 1)).count_ones()).wrapping_sub(1);
    let child = children.wrapping_add((node.children & below).count_ones());
    // Either is as likely: a branch would be mispredicted every other time.
    *best = select_unpredictable(node.covered >> way & 1 == 1, leaf, *best);
    select_unpredictable(node.children >> way & 1 == 1, child, 0)
}

/// Where a root's words begin.
#[inline(always)]
const fn first_word(root: Root) -> u32 {
    if root.bits > STRIDE { root.base + FALLBACK } else { root.base }
}

/// The steps from a root until the way of IPv6 hosts parts.
#[inline(always)]
const fn steps(root: Root) -> u32 {
    (DEEP - root.bits) / STRIDE
}

#[inline(always)]
fn single<A: Address>(tables: &Tables, instance: u32, address: A) -> u32 {
    let root = tables.root(instance, A::V6);
    if !A::V6 && root.bits == FLAT {
        let cell = tables.cell(root_cell(tables, root, address));
        return flat_slot(tables, root, cell, address);
    }
    let word = tables.word(first_word(root) + address.head(root.bits)).load(Ordering::Acquire);
    let (mut node, mut best) = (word as u32, (word >> 32) as u32);
    let mut rest = address.tail(root.bits);
    for _ in 0..steps(root) {
        if node == 0 {
            break;
        }
        node = step(tables.node(node), rest, &mut best);
        rest <<= STRIDE;
    }
    if A::V6 && node != 0 {
        if let Some(slot) = tables.find_host(instance, address.bits()) {
            return slot;
        }
        best = beneath(tables, node, (address.bits() << DEEP >> 64) as u64, best);
    }
    finish(tables, root, address, best)
}

/// Goes on from `node` to the end.
fn beneath(tables: &Tables, mut node: u32, mut rest: u64, mut best: u32) -> u32 {
    while node != 0 {
        node = step(tables.node(node), rest, &mut best);
        rest <<= STRIDE;
    }
    best
}

/// The slot in leaf `best`, or what the fallback has.
#[inline(always)]
fn finish<A: Address>(tables: &Tables, root: Root, address: A, best: u32) -> u32 {
    let leaf = if best == 0 && root.bits > STRIDE {
        tables.word(root.base + address.head(SHORT)).load(Ordering::Acquire) as u32
    } else {
        best
    };
    tables.leaf(leaf).load(Ordering::Acquire)
}

/// Where a flat root keeps the cell of an address: behind the block of the fallback.
#[inline(always)]
fn root_cell<A: Address>(tables: &Tables, root: Root, address: A) -> *const AtomicU32 {
    tables.blocks.address(root.base + 1).cast::<AtomicU32>().wrapping_add(address.head(FLAT) as usize)
}

/// The last cell on the way of an address: in a block, or in the root. The root is small enough to stay in the
/// second-level cache.
#[inline(always)]
fn flat_place<A: Address>(tables: &Tables, root: Root, address: A) -> *const AtomicU32 {
    let outer = root_cell(tables, root, address);
    let cell = tables.cell(outer);
    let inner = tables.blocks.address(cell & !BLOCK).cast::<AtomicU32>().wrapping_add(block_place(address));
    select_unpredictable(cell & BLOCK != 0, inner, outer)
}

/// What a cell of a flat root, not yet looked into, means for an address.
fn flat_slot<A: Address>(tables: &Tables, root: Root, mut cell: u32, address: A) -> u32 {
    if cell & BLOCK != 0 {
        cell = tables.block(cell & !BLOCK)[block_place(address)].load(Ordering::Acquire);
    }
    if cell & JUNCTION != 0 {
        let junction = tables.word(cell & !JUNCTION).load(Ordering::Acquire);
        let best = beneath(tables, junction as u32, address.tail(FLAT + FLAT_BLOCK), (junction >> 32) as u32);
        cell = tables.leaf(best).load(Ordering::Acquire);
    }
    if cell == 0 {
        return tables.block(root.base)[address.head(SHORT) as usize].load(Ordering::Acquire);
    }
    cell
}

/// The place in its block that an address looks at.
#[inline(always)]
fn block_place<A: Address>(address: A) -> usize {
    (address.tail(FLAT) >> (64 - FLAT_BLOCK)) as usize
}

/// Addresses of several instances: those under roots of the same width go down together.
#[inline(always)]
fn descend_mixed<A: Address>(tables: &Tables, group: &[Wanted<A>], found: &mut [u32]) {
    let mut owners = [(0, Root::new(0, 0)); GROUP];
    let mut last = None;
    for (lane, wanted) in group.iter().enumerate() {
        owners[lane] = match last {
            Some((instance, owner)) if instance == wanted.instance => owner,
            _ => {
                let index = tables.instance_index(wanted.instance);
                (index, tables.root(index, A::V6))
            }
        };
        last = Some((wanted.instance, owners[lane]));
    }
    let mut left: u64 = u64::MAX >> (GROUP - group.len());
    while left != 0 {
        let bits = owners[left.trailing_zeros() as usize].1.bits;
        let mut some = [group[0]; GROUP];
        let mut theirs = owners;
        let mut count = 0;
        for lane in (0..group.len()).filter(|lane| left >> lane & 1 == 1) {
            if owners[lane].1.bits == bits {
                (some[count], theirs[count]) = (group[lane], owners[lane]);
                count += 1;
            }
        }
        for (lane, owner) in owners.iter().enumerate().take(group.len()) {
            left &= !(u64::from(owner.1.bits == bits) << lane);
        }
        if !A::V6 && bits == FLAT {
            for (wanted, (_, root)) in some[..count].iter().zip(&theirs) {
                let cell = tables.cell(root_cell(tables, *root, wanted.address));
                found[wanted.ticket as usize] = flat_slot(tables, *root, cell, wanted.address);
            }
        } else {
            descend_nodes(tables, |lane| theirs[lane], &some[..count], found);
        }
    }
}

/// At most [`GROUP`] addresses under one flat root.
#[inline(always)]
fn descend_flat<A: Address>(tables: &Tables, root: Root, group: &[Wanted<A>], found: &mut [u32]) {
    for wanted in group {
        prefetch(flat_place(tables, root, wanted.address));
    }
    for wanted in group {
        let mut slot = tables.cell(flat_place(tables, root, wanted.address));
        if slot == 0 || slot & JUNCTION != 0 {
            slot = flat_slot(tables, root, slot, wanted.address);
        }
        found[wanted.ticket as usize] = slot;
    }
}

/// At most [`GROUP`] addresses side by side, under roots of one width; `owner` tells each one's instance and root.
#[inline(always)]
fn descend_nodes<A: Address>(
    tables: &Tables,
    owner: impl Fn(usize) -> (u32, Root),
    group: &[Wanted<A>],
    found: &mut [u32],
) {
    let count = group.len().min(GROUP);
    let group = &group[..count];
    let bits = owner(0).1.bits;
    let mut words: [*const AtomicU64; GROUP] = [std::ptr::null(); GROUP];
    let mut nodes = [0_u32; GROUP];
    let mut rests = [0_u64; GROUP];
    let mut best = [0_u32; GROUP];
    for (lane, wanted) in group.iter().enumerate() {
        words[lane] = tables.words.address(first_word(owner(lane).1) + wanted.address.head(bits));
        rests[lane] = wanted.address.tail(bits);
        prefetch(words[lane]);
    }
    let base = tables.nodes.address(0);
    let mut busy = 0;
    for lane in 0..count {
        // SAFETY: a word of the root, as in `Tables::word`.
        let word = unsafe { &*words[lane] }.load(Ordering::Acquire);
        (nodes[lane], best[lane]) = (word as u32, (word >> 32) as u32);
        busy |= nodes[lane];
        prefetch(base.wrapping_add(nodes[lane] as usize));
    }
    for _ in 0..steps(owner(0).1) {
        if busy == 0 {
            break;
        }
        busy = 0;
        for lane in 0..count {
            // SAFETY: a node that a word or a node leads to, as in `Tables::node`.
            let node = unsafe { &*base.wrapping_add(nodes[lane] as usize) };
            let child = step(node, rests[lane], &mut best[lane]);
            rests[lane] <<= STRIDE;
            nodes[lane] = child;
            busy |= child;
            prefetch(base.wrapping_add(child as usize));
        }
    }
    for &best in &best[..count] {
        prefetch(tables.leaves.address(best));
    }
    for (lane, wanted) in group.iter().enumerate() {
        found[wanted.ticket as usize] = finish(tables, owner(lane).1, wanted.address, best[lane]);
    }
    if A::V6 && busy != 0 {
        deepen(tables, group, &nodes, owner, &best, found);
    }
}

/// Finds the hosts and the longest prefixes among addresses that have a node at depth [`DEEP`].
#[inline(always)]
fn deepen<A: Address>(
    tables: &Tables,
    group: &[Wanted<A>],
    deep: &[u32; GROUP],
    owner: impl Fn(usize) -> (u32, Root),
    best: &[u32; GROUP],
    found: &mut [u32],
) {
    let lanes = || (0..group.len()).filter(|&lane| deep[lane] != 0);
    for lane in lanes() {
        tables.prefetch_host(owner(lane).0, group[lane].address.bits());
    }
    for lane in lanes() {
        let address = group[lane].address.bits();
        let slot = &mut found[group[lane].ticket as usize];
        if let Some(host) = tables.find_host(owner(lane).0, address) {
            *slot = host;
            continue;
        }
        let leaf = beneath(tables, deep[lane], (address << DEEP >> 64) as u64, best[lane]);
        if leaf != best[lane] {
            *slot = tables.leaf(leaf).load(Ordering::Acquire);
        }
    }
}
