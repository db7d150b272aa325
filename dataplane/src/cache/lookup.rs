//! Longest-prefix match as workers do it: one address, or a batch whose memory accesses overlap.
//!
//! A batch goes down level by level, all its addresses side by side: each step asks for the line that the address needs
//! next, and by the time its turn comes again the line is there. No step depends on data by a branch: an address that is
//! done goes on to node 0, which has no ways and changes nothing.
//!
//! The same code is compiled twice, for any x86-64 and for x86-64-v3, whose single instructions for counting and masking
//! bits make up most of a step; [`Walk::best`] chooses once, at start.

use std::{net::IpAddr, sync::atomic::Ordering};

use super::{
    entry::Entry,
    memory::prefetch,
    tables::{DEEP, DEEP_FLAG, FALLBACK, Root, SHORT, STRIDE, Tables},
};
use crate::mapping::InstanceId;

/// Addresses that go down side by side.
const GROUP: usize = 32;

/// Addresses that are looked up together; a worker owns one and fills it anew for each batch.
#[derive(Debug)]
pub struct Lookups {
    v4: List<u32>,
    v6: List<u128>,
    /// By ticket: words of the table, zero where nothing was found.
    found: Box<[u64]>,
    /// Tickets given out.
    tickets: usize,
}

/// The addresses of one family: the first `count` of `wanted`.
#[derive(Debug)]
struct List<A> {
    wanted: Box<[Wanted<A>]>,
    count: usize,
}

impl<A: Copy + Default> List<A> {
    fn new(capacity: usize) -> Self {
        let none = Wanted { address: A::default(), instance: InstanceId::DEFAULT, ticket: 0 };
        Self { wanted: vec![none; capacity].into(), count: 0 }
    }

    #[inline(always)]
    fn push(&mut self, wanted: Wanted<A>) {
        self.wanted[self.count] = wanted;
        self.count += 1;
    }

    #[inline(always)]
    fn as_slice(&self) -> &[Wanted<A>] {
        &self.wanted[..self.count]
    }
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
        Self { v4: List::new(capacity), v6: List::new(capacity), found: vec![0; capacity].into(), tickets: 0 }
    }

    /// Forgets all addresses.
    #[inline]
    pub fn clear(&mut self) {
        (self.v4.count, self.v6.count, self.tickets) = (0, 0, 0);
    }

    /// Adds an address; returns the ticket for what will be found.
    ///
    /// # Panics
    /// Beyond the capacity.
    #[inline]
    pub fn push(&mut self, instance: InstanceId, address: IpAddr) -> usize {
        match address {
            IpAddr::V4(v4) => self.push_v4(instance, v4.to_bits()),
            IpAddr::V6(v6) => self.push_v6(instance, v6.to_bits()),
        }
    }

    /// As [`push`](Self::push), an IPv4 address.
    #[inline]
    pub fn push_v4(&mut self, instance: InstanceId, address: u32) -> usize {
        let ticket = self.ticket();
        self.v4.push(Wanted { address, instance, ticket: ticket as u32 });
        ticket
    }

    /// As [`push`](Self::push), an IPv6 address.
    #[inline]
    pub fn push_v6(&mut self, instance: InstanceId, address: u128) -> usize {
        let ticket = self.ticket();
        self.v6.push(Wanted { address, instance, ticket: ticket as u32 });
        ticket
    }

    /// Takes a ticket for nothing, by which nothing will be found.
    #[inline]
    pub fn skip(&mut self) -> usize {
        let ticket = self.ticket();
        self.found[ticket] = 0;
        ticket
    }

    #[inline(always)]
    const fn ticket(&mut self) -> usize {
        self.tickets += 1;
        self.tickets - 1
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

    /// The same for every ticket in the order in which they were given out.
    #[inline(always)]
    pub fn all_found(&self) -> impl Iterator<Item = Option<Entry>> {
        self.found[..self.tickets].iter().map(|word| Entry::from_word(*word))
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
    let Lookups { v4, v6, found, .. } = lookups;
    for group in v4.as_slice().chunks(GROUP) {
        descend(tables, group, found);
    }
    for group in v6.as_slice().chunks(GROUP) {
        descend(tables, group, found);
    }
}

/// One step down: the way that the next six bits take, and what covers it.
///
/// Returns the child, 0 for none, and leaves `best` at the last leaf that covers the address.
#[inline(always)]
fn step(tables: &Tables, node: u32, rest: u64, best: &mut u32) -> u32 {
    let node = tables.node(node);
    let way = rest >> (64 - STRIDE);
    let below = (1 << way) - 1;
    // Ordering 1: what the array holds is seen once its place is.
    let leaves = node.leaf_base.load(Ordering::Acquire);
    let children = node.child_base.load(Ordering::Acquire);
    let leaf = leaves.wrapping_add((node.starts & (below << 1 | 1)).count_ones()).wrapping_sub(1);
    let child = children + (node.children & below).count_ones();
    *best = if node.covered >> way & 1 == 1 { leaf } else { *best };
    if node.children >> way & 1 == 1 { child } else { 0 }
}

#[inline(always)]
fn single<A: Address>(tables: &Tables, instance: u32, address: A) -> u64 {
    let root = tables.root(instance, A::V6);
    let word = tables.word(root.base + root_offset(root) + address.head(root.bits)).load(Ordering::Acquire);
    let (mut node, mut best) = (word as u32, (word >> 32) as u32);
    let mut rest = address.tail(root.bits);
    while node != 0 && !(A::V6 && node & DEEP_FLAG != 0) {
        node = step(tables, node, rest, &mut best);
        rest <<= STRIDE;
    }
    if A::V6 && node != 0 {
        if let Some(entry) = tables.find_host(instance, address.bits()) {
            return entry;
        }
        best = beneath(tables, node & !DEEP_FLAG, address.bits(), best);
    }
    finish(tables, root, address, best)
}

/// Words of the fallback in front of the root's own.
#[inline(always)]
const fn root_offset(root: Root) -> u32 {
    if root.bits > STRIDE { FALLBACK } else { 0 }
}

/// Prefixes longer than [`DEEP`] that are not hosts.
fn beneath(tables: &Tables, mut node: u32, address: u128, mut best: u32) -> u32 {
    let mut rest = (address << DEEP >> 64) as u64;
    while node != 0 {
        node = step(tables, node, rest, &mut best);
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

/// At most [`GROUP`] addresses side by side.
#[inline(always)]
fn descend<A: Address>(tables: &Tables, group: &[Wanted<A>], found: &mut [u64]) {
    let count = group.len().min(GROUP);
    let group = &group[..count];
    let mut roots = [Root { base: 0, bits: STRIDE }; GROUP];
    let mut instances = [0_u32; GROUP];
    let mut words = [0_u32; GROUP];
    let mut nodes = [0_u32; GROUP];
    let mut rests = [0_u64; GROUP];
    let mut best = [0_u32; GROUP];
    let mut deep = [0_u32; GROUP];

    // Addresses of a batch mostly share their instance.
    let mut last: Option<InstanceId> = None;
    let (mut index, mut root) = (0, roots[0]);
    for (lane, wanted) in group.iter().enumerate() {
        if last != Some(wanted.instance) {
            last = Some(wanted.instance);
            index = tables.instance_index(wanted.instance);
            root = tables.root(index, A::V6);
        }
        instances[lane] = index;
        roots[lane] = root;
        words[lane] = root.base + root_offset(root) + wanted.address.head(root.bits);
        rests[lane] = wanted.address.tail(root.bits);
        prefetch(tables.words.address(words[lane]));
    }
    let mut busy = 0;
    for lane in 0..count {
        let word = tables.word(words[lane]).load(Ordering::Acquire);
        (nodes[lane], best[lane]) = (word as u32, (word >> 32) as u32);
        busy |= nodes[lane];
        prefetch(tables.nodes.address(nodes[lane]));
    }
    let mut any_deep = 0;
    while busy != 0 {
        busy = 0;
        for lane in 0..count {
            let mut child = step(tables, nodes[lane], rests[lane], &mut best[lane]);
            rests[lane] <<= STRIDE;
            if A::V6 {
                // All ones from the flag: parks the lane without a branch.
                let parks = (child.cast_signed() >> 31).cast_unsigned();
                deep[lane] |= child & parks;
                any_deep |= child & parks;
                child &= !parks;
            }
            nodes[lane] = child;
            busy |= child;
            prefetch(tables.nodes.address(child));
        }
    }
    for lane in 0..count {
        prefetch(tables.leaves.address(best[lane]));
    }
    for (lane, wanted) in group.iter().enumerate() {
        found[wanted.ticket as usize] = finish(tables, roots[lane], wanted.address, best[lane]);
    }
    if A::V6 && any_deep != 0 {
        deepen(tables, group, &deep, &instances, &best, found);
    }
}

/// Finds the hosts and the longest prefixes among addresses that reached depth [`DEEP`].
#[inline(always)]
fn deepen<A: Address>(
    tables: &Tables,
    group: &[Wanted<A>],
    deep: &[u32; GROUP],
    instances: &[u32; GROUP],
    best: &[u32; GROUP],
    found: &mut [u64],
) {
    let lanes = || (0..group.len()).filter(|&lane| deep[lane] != 0);
    for lane in lanes() {
        tables.prefetch_host(instances[lane], group[lane].address.bits());
    }
    for lane in lanes() {
        let address = group[lane].address.bits();
        let slot = &mut found[group[lane].ticket as usize];
        if let Some(entry) = tables.find_host(instances[lane], address) {
            *slot = entry;
            continue;
        }
        let leaf = beneath(tables, deep[lane] & !DEEP_FLAG, address, best[lane]);
        if leaf != best[lane] {
            *slot = tables.leaf(leaf).load(Ordering::Acquire);
        }
    }
}
