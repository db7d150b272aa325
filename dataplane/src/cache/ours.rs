//! Which addresses are ours: the few EID-prefixes of an instance's database, as a list beside the trie.
//!
//! Of a packet's source only one thing is asked, whether it lies in a local EID-prefix (RFC 9300 §4.2); its entry, which may
//! be that of one host among thousands, tells nothing more. So a worker compares it with the outermost local prefixes, of
//! which there is one or a few, and leaves the trie to destinations.
//!
//! The list says the same as the trie or nothing: where there are more prefixes than [`LISTED_MAX`], or where an entry inside
//! them is not local (a more-specific that lives elsewhere, RFC 9301 §5.5), the trie has to be asked.
//!
//! A list that workers can reach never changes; the link to it is stored with Release and loaded with Acquire (ordering 1
//! of [`quiescence`](super::quiescence)).

use std::{collections::BTreeSet, net::IpAddr, ops::Bound, sync::atomic::Ordering};

use super::{
    memory::{Arena, Arrays},
    records::Records,
    store::{Retired, Store},
    tables::Tables,
};
use crate::mapping::{EidPrefix, InstanceId, Prefix};

/// Most prefixes of a list. Each costs every packet a comparison; a few dozen would cost what the trie does.
pub(super) const LISTED_MAX: usize = 16;

/// A prefix as it is compared with.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Masked<A> {
    mask: A,
    bits: A,
}

/// Where a list is: its length above, and its first prefix below. Zero is an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link(u64);

impl Link {
    const EMPTY: Self = Self(0);
    /// There is no list: ask the trie. Of length 0 as well, but not at 0.
    const UNLISTED: Self = Self(1);

    const fn new(base: u32, count: usize) -> Self {
        Self((count as u64) << 32 | base as u64)
    }

    #[inline(always)]
    const fn base(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    const fn count(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// What is ours in one instance; good for one turn.
#[derive(Clone, Copy)]
pub struct Ours<'a> {
    v4: List<'a, u32>,
    v6: List<'a, u128>,
}

/// The first prefix apart: mostly there is no other.
#[derive(Clone, Copy)]
struct List<'a, A> {
    first: Masked<A>,
    rest: &'a [Masked<A>],
    /// Whether there is a list: without one the trie has to be asked.
    listed: bool,
}

impl<'a, A: Copy + From<u8> + PartialEq + std::ops::BitAnd<Output = A>> List<'a, A> {
    fn new(link: Link, prefixes: &'a [Masked<A>]) -> Self {
        let nothing = Masked { mask: A::from(0), bits: A::from(1) };
        let (first, rest) = prefixes.split_first().map_or((nothing, prefixes), |(first, rest)| (*first, rest));
        Self { first, rest, listed: link != Link::UNLISTED }
    }

    #[inline(always)]
    fn holds(&self, address: A) -> Option<bool> {
        let inside = |prefix: &Masked<A>| address & prefix.mask == prefix.bits;
        if inside(&self.first) || self.rest.iter().any(inside) {
            return Some(true);
        }
        self.listed.then_some(false)
    }
}

impl Ours<'_> {
    /// A list that tells nothing, so that every source's entry is looked up.
    #[must_use]
    pub(crate) fn unlisted() -> Self {
        Self { v4: List::new(Link::UNLISTED, &[]), v6: List::new(Link::UNLISTED, &[]) }
    }

    /// Whether an IPv4 address is ours; `None` if only its entry tells.
    #[inline(always)]
    #[must_use]
    pub fn holds_v4(&self, address: u32) -> Option<bool> {
        self.v4.holds(address)
    }

    /// As [`holds_v4`](Self::holds_v4), of an IPv6 address.
    #[inline(always)]
    #[must_use]
    pub fn holds_v6(&self, address: u128) -> Option<bool> {
        self.v6.holds(address)
    }

    /// As [`holds_v4`](Self::holds_v4), of any address.
    #[inline]
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> Option<bool> {
        match address {
            IpAddr::V4(v4) => self.holds_v4(v4.to_bits()),
            IpAddr::V6(v6) => self.holds_v6(v6.to_bits()),
        }
    }
}

impl Tables {
    /// What is ours in the instance with this index.
    #[inline]
    pub(super) fn ours(&self, instance: u32) -> Ours<'_> {
        let [v4, v6] = &self.instance(instance).ours;
        let (v4, v6) = (Link(v4.load(Ordering::Acquire)), Link(v6.load(Ordering::Acquire)));
        // SAFETY: a link leads to a list that was written before it was stored; the writer uses its places anew only
        // after every reader that could hold it has begun a later turn.
        let (listed4, listed6) =
            unsafe { (self.ours4.slice(v4.base(), v4.count()), self.ours6.slice(v6.base(), v6.count())) };
        Ours { v4: List::new(v4, listed4), v6: List::new(v6, listed6) }
    }
}

/// The writer's book of one family of an instance that has local prefixes.
#[derive(Default)]
pub(super) struct Book {
    /// All local prefixes, those of hosts included.
    local: BTreeSet<Prefix>,
    /// Of them, those that no other covers: what is listed.
    outermost: BTreeSet<Prefix>,
    /// Entries inside that are not local; not kept up while there are too many to list.
    holes: usize,
}

impl Book {
    /// Octets in use, about: the two sets' own are not told.
    pub(super) fn octets(&self) -> usize {
        (self.local.len() + self.outermost.len()) * 2 * size_of::<Prefix>()
    }

    /// Whether a prefix lies inside a local one, or is one.
    fn covers(&self, prefix: &Prefix) -> bool {
        self.outermost.range(..=prefix).next_back().is_some_and(|outer| outer.covers(prefix))
    }

    fn masked4(&self) -> impl ExactSizeIterator<Item = Masked<u32>> {
        self.outermost.iter().map(|prefix| {
            let IpAddr::V4(address) = prefix.address() else { unreachable!("a book is of one family") };
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.length())).unwrap_or(0);
            Masked { mask, bits: address.to_bits() }
        })
    }

    fn masked6(&self) -> impl ExactSizeIterator<Item = Masked<u128>> {
        self.outermost.iter().map(|prefix| {
            let IpAddr::V6(address) = prefix.address() else { unreachable!("a book is of one family") };
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.length())).unwrap_or(0);
            Masked { mask, bits: address.to_bits() }
        })
    }

    fn is_listable(&self) -> bool {
        self.outermost.len() <= LISTED_MAX
    }

    /// Notes a local prefix; true if the outermost ones are others now.
    fn add(&mut self, prefix: Prefix) -> bool {
        self.local.insert(prefix);
        if self.covers(&prefix) {
            return false;
        }
        let inside: Vec<Prefix> = self.outermost.range(prefix..=last(prefix)).copied().collect();
        inside.iter().for_each(|inner| {
            self.outermost.remove(inner);
        });
        self.outermost.insert(prefix)
    }

    /// Forgets a local prefix; true if the outermost ones are others now.
    fn take(&mut self, prefix: Prefix) -> bool {
        self.local.remove(&prefix);
        if !self.outermost.remove(&prefix) {
            return false;
        }
        let mut next = Bound::Included(prefix);
        while let Some(&outer) = self.local.range((next, Bound::Included(last(prefix)))).next() {
            self.outermost.insert(outer);
            next = Bound::Excluded(last(outer));
        }
        true
    }
}

/// Puts a list where nobody sees it yet.
fn put<A>(arrays: &mut Arrays, arena: &Arena<Masked<A>>, list: impl ExactSizeIterator<Item = Masked<A>>) -> Link {
    let count = list.len();
    let base = arrays.allocate(arena, count);
    for (place, prefix) in (base..).zip(list) {
        // SAFETY: just handed out, so committed and unseen.
        unsafe { arena.put(place, prefix) };
    }
    Link::new(base, count)
}

/// The last host of a prefix: of all prefixes inside, the last in their order.
fn last(prefix: Prefix) -> Prefix {
    let length = u32::from(prefix.length());
    Prefix::host(match prefix.address() {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() | u32::MAX.checked_shr(length).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() | u128::MAX.checked_shr(length).unwrap_or(0)).into()),
    })
}

/// Holes that entries make in what is listed. Looks at every record there is.
fn holes(book: &Book, records: &Records, instance: InstanceId, v6: bool) -> usize {
    let inside = records.of(instance, v6);
    inside.iter().filter(|&&slot| book.covers(&records.get(slot).eid.prefix)).count() - book.local.len()
}

impl Store {
    /// Takes note of an entry that was put in, local or not.
    pub(super) fn note_entry(&mut self, eid: EidPrefix, is_local: bool) {
        let EidPrefix { instance, prefix } = eid;
        let family = (instance, prefix.address().is_ipv6());
        if is_local {
            if self.ours.entry(family).or_default().add(prefix) {
                self.relist(family);
            }
        } else if let Some(book) = self.ours.get_mut(&family)
            && book.is_listable()
            && book.covers(&prefix)
        {
            book.holes += 1;
            if book.holes == 1 {
                self.list(family);
            }
        }
    }

    /// Takes note of an entry that was taken out.
    pub(super) fn forget_entry(&mut self, eid: EidPrefix, is_local: bool) {
        let EidPrefix { instance, prefix } = eid;
        let family = (instance, prefix.address().is_ipv6());
        let Some(book) = self.ours.get_mut(&family) else { return };
        if is_local {
            if book.take(prefix) {
                self.relist(family);
            }
        } else if book.is_listable() && book.covers(&prefix) {
            book.holes -= 1;
            if book.holes == 0 {
                self.list(family);
            }
        }
    }

    /// Publishes the list of a family whose outermost prefixes have changed.
    fn relist(&mut self, family: (InstanceId, bool)) {
        let (instance, v6) = family;
        let Some(book) = self.ours.get_mut(&family) else { return };
        let entries = self.instances.get(&instance).map_or(0, |state| state.prefixes[usize::from(v6)] as usize);
        // Most often all entries of an instance are local when its database is filled.
        book.holes = match entries > book.local.len() && book.is_listable() {
            true => holes(book, &self.records, instance, v6),
            false => 0,
        };
        self.list(family);
        if self.ours.get(&family).is_some_and(|book| book.local.is_empty()) {
            self.ours.remove(&family);
        }
    }

    /// Publishes the list of a family as its book stands.
    fn list(&mut self, (instance, v6): (InstanceId, bool)) {
        let Some(state) = self.instances.get(&instance) else { return };
        let Some(book) = self.ours.get(&(instance, v6)) else { return };
        let index = state.index;
        let new = match (book.is_listable() && book.holes == 0, v6) {
            (false, _) => Link::UNLISTED,
            (true, _) if book.outermost.is_empty() => Link::EMPTY,
            (true, false) => put(&mut self.ours4, &self.tables.ours4, book.masked4()),
            (true, true) => put(&mut self.ours6, &self.tables.ours6, book.masked6()),
        };
        // Ordering 1: what the link leads to is there.
        let old = Link(self.tables.instance(index).ours[usize::from(v6)].swap(new.0, Ordering::Release));
        if old != Link::EMPTY && old != Link::UNLISTED {
            self.retire(Retired::Ours { v6, base: old.base(), count: old.count() as u32 });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
