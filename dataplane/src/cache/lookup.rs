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
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    entry::Entry,
    memory::prefetch,
    tables::{BLOCK, DEEP, FALLBACK, FLAT, FLAT_BLOCK, JUNCTION, Node, Root, SHORT, STRIDE, Tables},
};
use crate::mapping::InstanceId;

/// Addresses that go down side by side.
const GROUP: usize = 64;

/// Addresses that are looked up together; a worker owns one and fills it anew for each batch.
#[derive(Debug)]
pub struct Lookups {
    v4: Vec<Wanted<u32>>,
    v6: Vec<Wanted<u128>>,
    /// By ticket: words of the table, zero where nothing was found. As long as the capacity.
    found: Box<[u64]>,
    /// Given out: at least as many as there are addresses.
    tickets: usize,
}

#[derive(Debug, Clone, Copy)]
struct Wanted<A> {
    address: A,
    instance: InstanceId,
    ticket: u32,
}

impl Lookups {
    /// Room for `capacity` addresses; nothing is allocated afterwards.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let (v4, v6) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        Self { v4, v6, found: vec![0; capacity].into(), tickets: 0 }
    }

    /// Forgets all addresses.
    #[inline]
    pub fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
        self.tickets = 0;
    }

    /// Adds an address; returns the ticket for what will be found.
    ///
    /// # Panics
    /// Beyond the capacity.
    #[inline(always)]
    pub fn push(&mut self, instance: InstanceId, address: IpAddr) -> usize {
        match address {
            IpAddr::V4(v4) => self.push_v4(instance, v4.to_bits()),
            IpAddr::V6(v6) => self.push_v6(instance, v6.to_bits()),
        }
    }

    /// As [`push`](Self::push), an IPv4 address.
    #[inline(always)]
    pub fn push_v4(&mut self, instance: InstanceId, address: u32) -> usize {
        let ticket = self.ticket();
        put(&mut self.v4, Wanted { address, instance, ticket: ticket as u32 });
        ticket
    }

    /// As [`push`](Self::push), an IPv6 address.
    #[inline(always)]
    pub fn push_v6(&mut self, instance: InstanceId, address: u128) -> usize {
        let ticket = self.ticket();
        put(&mut self.v6, Wanted { address, instance, ticket: ticket as u32 });
        ticket
    }

    /// Gives out a ticket by which nothing will be found.
    ///
    /// # Panics
    /// Beyond the capacity.
    #[inline]
    pub fn skip(&mut self) -> usize {
        let ticket = self.ticket();
        self.found[ticket] = 0;
        ticket
    }

    #[inline(always)]
    fn ticket(&mut self) -> usize {
        let ticket = self.tickets;
        assert!(ticket < self.found.len(), "more addresses than there is room for");
        self.tickets += 1;
        ticket
    }

    /// What the address of `ticket` found, after [`Snapshot::lookup_all`](super::Snapshot::lookup_all).
    ///
    /// # Panics
    /// If there is no such ticket.
    #[inline(always)]
    #[must_use]
    pub fn found(&self, ticket: usize) -> Option<Entry> {
        Entry::from_word(self.found[ticket])
    }

    /// The same for every ticket, in the order in which they were given out.
    #[inline(always)]
    pub fn all_found(&self) -> impl Iterator<Item = Option<Entry>> {
        self.found[..self.tickets].iter().map(|word| Entry::from_word(*word))
    }
}

/// Appends to a vector that has room: both have the capacity of all tickets together.
#[inline(always)]
fn put<A>(wanted: &mut Vec<Wanted<A>>, item: Wanted<A>) {
    debug_assert!(wanted.len() < wanted.capacity());
    // SAFETY: `ticket` checked that fewer than `capacity` tickets were given out, and each put one item into one vector
    // at most.
    unsafe {
        wanted.as_mut_ptr().add(wanted.len()).write(item);
        wanted.set_len(wanted.len() + 1);
    }
}

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
    one: unsafe fn(&Tables, u32, IpAddr) -> u64,
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

    /// The word of the longest prefix that holds `address`, 0 for none.
    #[inline]
    pub(super) fn one(self, tables: &Tables, instance: u32, address: IpAddr) -> u64 {
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
    pub(super) fn one(tables: &Tables, instance: u32, address: IpAddr) -> u64 {
        super::one(tables, instance, address)
    }

    #[target_feature(enable = "bmi1,bmi2,popcnt,lzcnt,avx2")]
    pub(super) fn all(tables: &Tables, lookups: &mut Lookups) {
        super::all(tables, lookups);
    }
}

#[inline(always)]
fn one(tables: &Tables, instance: u32, address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => single(tables, instance, v4.to_bits()),
        IpAddr::V6(v6) => single(tables, instance, v6.to_bits()),
    }
}

#[inline(always)]
fn all(tables: &Tables, lookups: &mut Lookups) {
    let Lookups { v4, v6, found, tickets } = lookups;
    let found = &mut found[..*tickets];
    v4.chunks(GROUP).for_each(|group| descend(tables, group, found));
    v6.chunks(GROUP).for_each(|group| descend(tables, group, found));
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
fn single<A: Address>(tables: &Tables, instance: u32, address: A) -> u64 {
    let root = tables.root(instance, A::V6);
    let word = tables.word(first_word(root) + address.head(root.bits)).load(Ordering::Acquire);
    if !A::V6 && root.bits == FLAT {
        return flat_word(tables, root, word, address);
    }
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
        if let Some(entry) = tables.find_host(instance, address.bits()) {
            return entry;
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

/// The entry's word in leaf `best`, or what the fallback has.
#[inline(always)]
fn finish<A: Address>(tables: &Tables, root: Root, address: A, best: u32) -> u64 {
    let leaf = if best == 0 && root.bits > STRIDE {
        tables.word(root.base + address.head(SHORT)).load(Ordering::Acquire) as u32
    } else {
        best
    };
    tables.leaf(leaf).load(Ordering::Acquire)
}

/// What a word of a flat root, not yet looked into, means for an address.
fn flat_word<A: Address>(tables: &Tables, root: Root, mut word: u64, address: A) -> u64 {
    if word as u32 == BLOCK {
        word = tables.block((word >> 32) as u32)[block_place(address)].load(Ordering::Acquire);
    }
    if word as u32 == JUNCTION {
        let junction = tables.word((word >> 32) as u32).load(Ordering::Acquire);
        let best = beneath(tables, junction as u32, address.tail(FLAT + FLAT_BLOCK), (junction >> 32) as u32);
        word = tables.leaf(best).load(Ordering::Acquire);
    }
    if word == 0 {
        return tables.word(root.base + address.head(SHORT)).load(Ordering::Acquire);
    }
    word
}

/// The place in its block that an address looks at.
#[inline(always)]
fn block_place<A: Address>(address: A) -> usize {
    (address.tail(FLAT) >> (64 - FLAT_BLOCK)) as usize
}

/// At most [`GROUP`] addresses side by side.
#[inline(always)]
fn descend<A: Address>(tables: &Tables, group: &[Wanted<A>], found: &mut [u64]) {
    // Addresses of a batch mostly share their instance.
    let first = tables.instance_index(group[0].instance);
    let root = tables.root(first, A::V6);
    if group.iter().all(|wanted| wanted.instance == group[0].instance) {
        if !A::V6 && root.bits == FLAT {
            descend_flat(tables, root, group, found);
        } else {
            descend_nodes(tables, [(first, root); GROUP], group, found);
        }
        return;
    }
    descend_mixed(tables, group, found);
}

/// Addresses of several instances: those under roots of the same width go down together.
#[inline(never)]
fn descend_mixed<A: Address>(tables: &Tables, group: &[Wanted<A>], found: &mut [u64]) {
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
                let word = tables.word(first_word(*root) + wanted.address.head(bits)).load(Ordering::Acquire);
                found[wanted.ticket as usize] = flat_word(tables, *root, word, wanted.address);
            }
        } else {
            descend_nodes(tables, theirs, &some[..count], found);
        }
    }
}

/// Addresses under one flat root.
#[inline(always)]
fn descend_flat<A: Address>(tables: &Tables, root: Root, group: &[Wanted<A>], found: &mut [u64]) {
    let first = first_word(root);
    let mut places: [*const AtomicU64; GROUP] = [std::ptr::null(); GROUP];
    for (wanted, place) in group.iter().zip(&mut places) {
        *place = tables.words.address(first + wanted.address.head(FLAT));
        prefetch(*place);
    }
    for (wanted, place) in group.iter().zip(&mut places) {
        // SAFETY: a word of the root, as in `Tables::word`.
        let word = unsafe { &**place }.load(Ordering::Acquire);
        let inner = tables.blocks.address((word >> 32) as u32).cast::<AtomicU64>();
        let inner = inner.wrapping_add(block_place(wanted.address));
        *place = select_unpredictable(word as u32 == BLOCK, inner, *place);
        prefetch(*place);
    }
    for (wanted, place) in group.iter().zip(&places) {
        // SAFETY: a word of the root, or of the block that such a word leads to, as in `Tables::block`.
        let mut word = unsafe { &**place }.load(Ordering::Acquire);
        if word & 7 == 0 {
            word = flat_word(tables, root, word, wanted.address);
        }
        found[wanted.ticket as usize] = word;
    }
}

/// Addresses under roots of one width.
#[inline(always)]
fn descend_nodes<A: Address>(tables: &Tables, owners: [(u32, Root); GROUP], group: &[Wanted<A>], found: &mut [u64]) {
    let count = group.len().min(GROUP);
    let group = &group[..count];
    let bits = owners[0].1.bits;
    let mut words: [*const AtomicU64; GROUP] = [std::ptr::null(); GROUP];
    let mut nodes = [0_u32; GROUP];
    let mut rests = [0_u64; GROUP];
    let mut best = [0_u32; GROUP];
    for (lane, wanted) in group.iter().enumerate() {
        words[lane] = tables.words.address(first_word(owners[lane].1) + wanted.address.head(bits));
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
    for _ in 0..steps(owners[0].1) {
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
    best[..count].iter().for_each(|&best| prefetch(tables.leaves.address(best)));
    for (lane, wanted) in group.iter().enumerate() {
        found[wanted.ticket as usize] = finish(tables, owners[lane].1, wanted.address, best[lane]);
    }
    if A::V6 && busy != 0 {
        deepen(tables, group, &nodes, &owners, &best, found);
    }
}

/// Finds the hosts and the longest prefixes among addresses that have a node at depth [`DEEP`].
#[inline(never)]
fn deepen<A: Address>(
    tables: &Tables,
    group: &[Wanted<A>],
    deep: &[u32; GROUP],
    owners: &[(u32, Root); GROUP],
    best: &[u32; GROUP],
    found: &mut [u64],
) {
    let lanes = || (0..group.len()).filter(|&lane| deep[lane] != 0);
    for lane in lanes() {
        tables.prefetch_host(owners[lane].0, group[lane].address.bits());
    }
    for lane in lanes() {
        let address = group[lane].address.bits();
        let slot = &mut found[group[lane].ticket as usize];
        if let Some(entry) = tables.find_host(owners[lane].0, address) {
            *slot = entry;
            continue;
        }
        let leaf = beneath(tables, deep[lane], (address << DEEP >> 64) as u64, best[lane]);
        if leaf != best[lane] {
            *slot = tables.leaf(leaf).load(Ordering::Acquire);
        }
    }
}
