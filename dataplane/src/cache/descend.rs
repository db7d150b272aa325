//! The steps of a look-up: down the nodes, and what is at the end of them or of a flat root.

use std::{
    hint::select_unpredictable,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    lookup::Address,
    memory::prefetch,
    tables::{BLOCK, DEEP, FALLBACK, FINE, FLAT, JUNCTION, Node, Root, SHORT, STRIDE, Tables, UNCOVERED},
};

/// Addresses that go down side by side.
pub(super) const GROUP: usize = 64;
/// As many are quicker one by one than a group is made ready: when little arrives, a turn has few packets, or one.
pub(super) const FEW: usize = 4;

/// Index of an instance, and its root.
pub(super) type Owner = (u32, Root);

/// Where a root's words begin.
#[inline(always)]
pub(super) const fn first_word(root: Root) -> u32 {
    if root.bits > STRIDE { root.base + FALLBACK } else { root.base }
}

/// The steps from a depth until the way of IPv6 hosts parts.
#[inline(always)]
const fn steps(from: u32) -> u32 {
    (DEEP - from) / STRIDE
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

/// One address, from a word at depth `bits` on.
#[inline(always)]
pub(super) fn nodes_one<A: Address>(tables: &Tables, owner: Owner, word: u64, bits: u32, address: A) -> u32 {
    let (mut node, mut best) = (word as u32, (word >> 32) as u32);
    let mut rest = address.tail(bits);
    for _ in 0..steps(bits) {
        if node == 0 {
            break;
        }
        node = step(tables.node(node), rest, &mut best);
        rest <<= STRIDE;
    }
    if A::V6 && node != 0 {
        if let Some(slot) = tables.find_host(owner.0, address.bits()) {
            return slot;
        }
        best = beneath(tables, node, (address.bits() << DEEP >> 64) as u64, best);
    }
    finish(tables, owner.1, address, best)
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
    if best == 0 && root.bits == FLAT {
        return short(tables, root, address);
    }
    let leaf = if best == 0 && root.bits > STRIDE {
        tables.word(root.base + address.head(SHORT)).load(Ordering::Acquire) as u32
    } else {
        best
    };
    tables.leaf(leaf).load(Ordering::Acquire)
}

/// What the fallback of a flat root has.
#[inline(always)]
fn short<A: Address>(tables: &Tables, root: Root, address: A) -> u32 {
    match tables.block(root.base)[address.head(SHORT) as usize].load(Ordering::Acquire) {
        UNCOVERED => 0,
        slot => slot,
    }
}

/// One address under a flat root.
#[inline(always)]
pub(super) fn flat_one<A: Address>(tables: &Tables, owner: Owner, address: A) -> u32 {
    let cells = tables.cells();
    let mut cell = tables.cell(cells, owner.1.first_cell() + address.head(FLAT));
    if cell & BLOCK != 0 {
        cell = tables.cell(cells, cell | address.octet(FLAT));
    }
    flat_end(tables, owner, cell, address)
}

/// What a cell of a flat root that leads to no block means for an address.
#[inline(always)]
fn flat_end<A: Address>(tables: &Tables, owner: Owner, cell: u32, address: A) -> u32 {
    match cell {
        UNCOVERED => short(tables, owner.1, address),
        cell if cell & JUNCTION != 0 => {
            let word = tables.word(cell & !JUNCTION).load(Ordering::Acquire);
            nodes_one(tables, owner, word, FINE, address)
        }
        slot => slot,
    }
}

/// Goes on with the addresses that found no slot but a junction, or nothing.
#[inline(always)]
pub(super) fn end_odd<A: Address>(tables: &Tables, owner: Owner, addresses: &[A], found: &mut [u32]) {
    let mut words: [*const AtomicU64; GROUP] = [std::ptr::null(); GROUP];
    let (mut some, mut lanes) = ([A::default(); GROUP], [0_u8; GROUP]);
    let mut count = 0;
    for (lane, (slot, address)) in found.iter_mut().zip(addresses).enumerate() {
        if *slot == UNCOVERED {
            *slot = short(tables, owner.1, *address);
        } else if *slot & JUNCTION != 0 {
            words[count] = tables.words.address(*slot & !JUNCTION);
            (some[count], lanes[count]) = (*address, lane as u8);
            count += 1;
        }
    }
    if count <= FEW {
        for lane in lanes[..count].iter().map(|lane| usize::from(*lane)) {
            found[lane] = flat_end(tables, owner, found[lane], addresses[lane]);
        }
        return;
    }
    let mut slots = [0; GROUP];
    descend_nodes(tables, &words, FINE, |_| owner, &some[..count], &mut slots[..count]);
    for (slot, lane) in slots.iter().zip(&lanes[..count]) {
        found[usize::from(*lane)] = *slot;
    }
}

/// At most [`GROUP`] addresses side by side, from words at depth `bits` on; `owner` tells each one's instance and root.
#[inline(always)]
pub(super) fn descend_nodes<A: Address>(
    tables: &Tables,
    words: &[*const AtomicU64; GROUP],
    bits: u32,
    owner: impl Fn(usize) -> Owner,
    addresses: &[A],
    found: &mut [u32],
) {
    let count = addresses.len().min(GROUP);
    let mut nodes = [0_u32; GROUP];
    let mut rests = [0_u64; GROUP];
    let mut best = [0_u32; GROUP];
    for lane in 0..count {
        rests[lane] = addresses[lane].tail(bits);
        prefetch(words[lane]);
    }
    let base = tables.nodes.address(0);
    let mut busy = 0;
    for lane in 0..count {
        // SAFETY: a word of the root or a junction, as in `Tables::word`.
        let word = unsafe { &*words[lane] }.load(Ordering::Acquire);
        (nodes[lane], best[lane]) = (word as u32, (word >> 32) as u32);
        busy |= nodes[lane];
        prefetch(base.wrapping_add(nodes[lane] as usize));
    }
    for _ in 0..steps(bits) {
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
    for (lane, (slot, address)) in found.iter_mut().zip(&addresses[..count]).enumerate() {
        *slot = finish(tables, owner(lane).1, *address, best[lane]);
    }
    if A::V6 && busy != 0 {
        deepen(tables, addresses, &nodes, owner, &best, found);
    }
}

/// Finds the hosts and the longest prefixes among addresses that have a node at depth [`DEEP`].
#[inline(always)]
fn deepen<A: Address>(
    tables: &Tables,
    addresses: &[A],
    deep: &[u32; GROUP],
    owner: impl Fn(usize) -> Owner,
    best: &[u32; GROUP],
    found: &mut [u32],
) {
    let lanes = || (0..addresses.len()).filter(|&lane| deep[lane] != 0);
    for lane in lanes() {
        tables.prefetch_host(owner(lane).0, addresses[lane].bits());
    }
    for lane in lanes() {
        let address = addresses[lane].bits();
        if let Some(host) = tables.find_host(owner(lane).0, address) {
            found[lane] = host;
            continue;
        }
        let leaf = beneath(tables, deep[lane], (address << DEEP >> 64) as u64, best[lane]);
        if leaf != best[lane] {
            found[lane] = tables.leaf(leaf).load(Ordering::Acquire);
        }
    }
}
