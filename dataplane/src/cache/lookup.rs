//! Longest-prefix match as workers do it: one address, or a batch whose memory accesses overlap.
//!
//! A batch goes down level by level, all its addresses side by side: each step asks for the line that the address needs
//! next, and by the time its turn comes again the line is there. No step depends on data by a branch: an address that is
//! done goes on to node 0, which has no ways and changes nothing.
//!
//! The steps themselves are in [`descend`](super::descend), those through a flat root in [`lanes`](super::lanes); here is
//! who goes down with whom.
//!
//! The same code is compiled twice, for any x86-64 and for x86-64-v3, whose single instructions for counting and masking
//! bits make up most of a step; [`Walk::best`] chooses once, at start.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    descend::{FEW, GROUP, Owner, descend_nodes, end_odd, first_word, flat_one, nodes_one},
    lanes::{Lanes, Single},
    lookups::{Lookups, Wanted},
    tables::{FLAT, Root, Tables},
};
use crate::mapping::InstanceId;

/// A family's addresses: their first bits in front.
pub(super) trait Address: Copy + Default + PartialEq {
    const V6: bool;
    /// All bits, from the top.
    fn bits(self) -> u128;
    /// The first `count` bits, at most 24, as a number.
    fn head(self, count: u32) -> u32;
    /// The 64 bits behind the first `count`, from the top.
    fn tail(self, count: u32) -> u64;
    /// The eight bits behind the first `count`: where it looks in a block.
    fn octet(self, count: u32) -> u32;
    /// IPv4 addresses as such; none of IPv6 ones.
    fn v4(addresses: &[Self]) -> &[u32];
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

    #[inline(always)]
    fn octet(self, count: u32) -> u32 {
        self >> (24 - count) & 0xff
    }

    #[inline(always)]
    fn v4(addresses: &[Self]) -> &[u32] {
        addresses
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

    #[inline(always)]
    fn octet(self, count: u32) -> u32 {
        (self >> (120 - count)) as u32 & 0xff
    }

    #[inline(always)]
    fn v4(_: &[Self]) -> &[u32] {
        &[]
    }
}

/// The entry points, in the version for this processor.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    one: unsafe fn(&Tables, u32, IpAddr) -> u32,
    all: unsafe fn(&Tables, &mut Lookups),
    array_v4: unsafe fn(&Tables, InstanceId, &[u32], &mut [u32]),
    array_v6: unsafe fn(&Tables, InstanceId, &[u128], &mut [u32]),
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
            return Self { one: v3::one, all: v3::all, array_v4: v3::array_v4, array_v6: v3::array_v6 };
        }
        Self::plain()
    }

    /// The version that every processor runs.
    pub(super) fn plain() -> Self {
        Self { one, all, array_v4: look_up_array::<Single, u32>, array_v6: look_up_array::<Single, u128> }
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

    /// Writes to `found` what each of `addresses` finds in an instance.
    #[inline]
    pub(super) fn array_v4(self, tables: &Tables, instance: InstanceId, addresses: &[u32], found: &mut [u32]) {
        // SAFETY: as in `one`.
        unsafe { (self.array_v4)(tables, instance, addresses, found) };
    }

    /// As [`array_v4`](Self::array_v4), IPv6 addresses.
    #[inline]
    pub(super) fn array_v6(self, tables: &Tables, instance: InstanceId, addresses: &[u128], found: &mut [u32]) {
        // SAFETY: as in `one`.
        unsafe { (self.array_v6)(tables, instance, addresses, found) };
    }
}

#[cfg(target_arch = "x86_64")]
mod v3 {
    use super::{InstanceId, IpAddr, Lookups, Owner, Quick, Tables};
    use crate::cache::lanes::Eight;

    #[target_feature(enable = "bmi1,bmi2,popcnt,lzcnt,avx2")]
    pub(super) fn one(tables: &Tables, instance: u32, address: IpAddr) -> u32 {
        super::one(tables, instance, address)
    }

    #[target_feature(enable = "bmi1,bmi2,popcnt,lzcnt,avx2")]
    pub(super) fn all(tables: &Tables, lookups: &mut Lookups) {
        match super::quick::<Eight>(tables, lookups) {
            Quick::Done => {}
            Quick::Odd(owner) => odd(tables, owner, lookups),
            Quick::No => any(tables, lookups),
        }
    }

    #[target_feature(enable = "bmi1,bmi2,popcnt,lzcnt,avx2")]
    pub(super) fn array_v4(tables: &Tables, instance: InstanceId, addresses: &[u32], found: &mut [u32]) {
        super::look_up_array::<Eight, _>(tables, instance, addresses, found);
    }

    #[target_feature(enable = "bmi1,bmi2,popcnt,lzcnt,avx2")]
    pub(super) fn array_v6(tables: &Tables, instance: InstanceId, addresses: &[u128], found: &mut [u32]) {
        super::look_up_array::<Eight, _>(tables, instance, addresses, found);
    }

    // Functions of their own: what the quick way does not need shall not cost it a large frame.
    #[inline(never)]
    #[target_feature(enable = "bmi1,bmi2,popcnt,lzcnt,avx2")]
    fn odd(tables: &Tables, owner: Owner, lookups: &mut Lookups) {
        super::odd(tables, owner, lookups);
    }

    #[inline(never)]
    #[target_feature(enable = "bmi1,bmi2,popcnt,lzcnt,avx2")]
    fn any(tables: &Tables, lookups: &mut Lookups) {
        super::any::<Eight>(tables, lookups);
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
fn single<A: Address>(tables: &Tables, instance: u32, address: A) -> u32 {
    let root = tables.root(instance, A::V6);
    if !A::V6 && root.bits == FLAT {
        return flat_one(tables, (instance, root), address);
    }
    let word = tables.word(first_word(root) + address.head(root.bits)).load(Ordering::Acquire);
    nodes_one(tables, (instance, root), word, root.bits, address)
}

/// All addresses of a batch.
fn all(tables: &Tables, lookups: &mut Lookups) {
    match quick::<Single>(tables, lookups) {
        Quick::Done => {}
        Quick::Odd(owner) => odd(tables, owner, lookups),
        Quick::No => any::<Single>(tables, lookups),
    }
}

/// What became of a batch on the quick way.
enum Quick {
    /// All were looked up.
    Done,
    /// All but those that found no slot in the cells of their root.
    Odd(Owner),
    /// It is not for such batches.
    No,
}

/// The quick way: IPv4, one instance, a flat root, an address for each ticket.
#[inline(always)]
fn quick<L: Lanes>(tables: &Tables, lookups: &mut Lookups) -> Quick {
    let Lookups { v4, found, tickets, instance, mixed, .. } = lookups;
    let found = &mut found[..*tickets];
    if *mixed || v4.count != *tickets || found.len() > GROUP || found.len() <= FEW {
        return Quick::No;
    }
    let index = tables.instance_index(*instance);
    let root = tables.root(index, false);
    if root.bits != FLAT {
        return Quick::No;
    }
    let odd = L::descend_flat(tables, root, v4.all().0, found);
    if odd { Quick::Odd((index, root)) } else { Quick::Done }
}

#[inline(always)]
fn odd(tables: &Tables, owner: Owner, lookups: &mut Lookups) {
    let Lookups { v4, found, tickets, .. } = lookups;
    end_odd(tables, owner, v4.all().0, &mut found[..*tickets]);
}

#[inline(always)]
fn any<L: Lanes>(tables: &Tables, lookups: &mut Lookups) {
    let Lookups { v4, v6, places, slots, found, tickets, instance, mixed } = lookups;
    let found = &mut found[..*tickets];
    let shared = (!*mixed).then_some(*instance);
    // An address for each ticket: what is found needs no telling.
    if v4.count == *tickets {
        return look_up::<L, _>(tables, v4, shared, found);
    }
    if v6.count == *tickets {
        return look_up::<L, _>(tables, v6, shared, found);
    }
    let (of_v4, of_v6) = slots[1..].split_at_mut(places.len());
    look_up::<L, _>(tables, v4, shared, &mut of_v4[..v4.count]);
    look_up::<L, _>(tables, v6, shared, &mut of_v6[..v6.count]);
    for (slot, &place) in found.iter_mut().zip(&*places) {
        *slot = slots[place as usize];
    }
}

/// Looks the addresses of one family up, in the way that suits their number and the instance that they share, if any.
///
/// Loops and not `for_each`, which the compiler may keep as a function of its own: one for any x86-64.
#[inline(always)]
fn look_up<L: Lanes, A: Address>(tables: &Tables, wanted: &Wanted<A>, shared: Option<InstanceId>, found: &mut [u32]) {
    let (addresses, instances) = wanted.all();
    if addresses.is_empty() {
        return;
    }
    if let Some(instance) = shared {
        return look_up_array::<L, A>(tables, instance, addresses, found);
    }
    for ((addresses, instances), found) in
        addresses.chunks(GROUP).zip(instances.chunks(GROUP)).zip(found.chunks_mut(GROUP))
    {
        look_up_mixed::<L, A>(tables, addresses, instances, found);
    }
}

/// Looks addresses of one family and one instance up.
#[inline(always)]
fn look_up_array<L: Lanes, A: Address>(tables: &Tables, instance: InstanceId, addresses: &[A], found: &mut [u32]) {
    // Whoever has more of one than of the other must not make a step where there is no address.
    let count = addresses.len().min(found.len());
    let (addresses, found) = (&addresses[..count], &mut found[..count]);
    let index = tables.instance_index(instance);
    let owner = (index, tables.root(index, A::V6));
    if addresses.len() <= FEW {
        for (address, slot) in addresses.iter().zip(found) {
            *slot = single(tables, index, *address);
        }
        return;
    }
    for (addresses, found) in addresses.chunks(GROUP).zip(found.chunks_mut(GROUP)) {
        look_up_shared::<L, A>(tables, |_| owner, addresses, found);
    }
}

/// At most [`GROUP`] addresses under roots of one width, or under one flat root; `owner` tells each one's.
#[inline(always)]
fn look_up_shared<L: Lanes, A: Address>(
    tables: &Tables,
    owner: impl Fn(usize) -> Owner,
    addresses: &[A],
    found: &mut [u32],
) {
    let bits = owner(0).1.bits;
    if !A::V6 && bits == FLAT {
        if L::descend_flat(tables, owner(0).1, addresses, found) {
            end_odd(tables, owner(0), addresses, found);
        }
        return;
    }
    let mut words: [*const AtomicU64; GROUP] = [std::ptr::null(); GROUP];
    for (lane, (word, address)) in words.iter_mut().zip(addresses).enumerate() {
        *word = tables.words.address(first_word(owner(lane).1) + address.head(bits));
    }
    descend_nodes(tables, &words, bits, owner, addresses, found);
}

/// Addresses of several instances: those under roots of the same width go down together.
#[inline(always)]
fn look_up_mixed<L: Lanes, A: Address>(tables: &Tables, addresses: &[A], instances: &[InstanceId], found: &mut [u32]) {
    let mut owners = [(0, Root::new(0, 0)); GROUP];
    let mut last = None;
    for (owner, &instance) in owners.iter_mut().zip(instances) {
        *owner = match last {
            Some((before, owner)) if before == instance => owner,
            _ => {
                let index = tables.instance_index(instance);
                (index, tables.root(index, A::V6))
            }
        };
        last = Some((instance, *owner));
    }
    let mut left: u64 = u64::MAX >> (GROUP - addresses.len());
    while left != 0 {
        let first = owners[left.trailing_zeros() as usize].1;
        let together = |root: Root| root.bits == first.bits && (root.bits != FLAT || root == first);
        let (mut some, mut theirs, mut lanes) = ([A::default(); GROUP], owners, [0_u8; GROUP]);
        let mut count = 0;
        for lane in (0..addresses.len()).filter(|lane| left >> lane & 1 == 1) {
            if together(owners[lane].1) {
                (some[count], theirs[count], lanes[count]) = (addresses[lane], owners[lane], lane as u8);
                count += 1;
            }
        }
        let mut slots = [0; GROUP];
        look_up_shared::<L, A>(tables, |lane| theirs[lane], &some[..count], &mut slots[..count]);
        for (slot, &lane) in slots.iter().zip(&lanes[..count]) {
            found[usize::from(lane)] = *slot;
            left &= !(1 << lane);
        }
    }
}
