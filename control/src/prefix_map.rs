//! A map from EID-Prefixes that answers longest match, what lies beneath, and the gap around an address.
//!
//! For the control plane's tables: ordered, so that machines stay deterministic, and never on a packet's path. Keys are
//! ordered by (instance, address, length), so a prefix and all beneath it are one range, and the longest match is
//! found by stepping from the nearest key to the prefix it shares with the address (at most one step per bit).
//!
//! Each family has its own B-tree with packed keys: 8 octets for IPv4 and 20 for IPv6, where an [`EidPrefix`] takes 24. A
//! B-tree grows node by node, so no insert ever stops to move the whole table, as a hash table's would.

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    net::IpAddr,
    ops::Bound,
};

use altitude_dataplane::mapping::{Eid, EidPrefix, InstanceId, Prefix};

/// Octets of a key beside its address: Instance-ID and length.
const BESIDE: usize = 4;

/// Instance-ID (3 octets), address and length, so that the order of octets is the order of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key<const N: usize>([u8; N]);

type Key4 = Key<{ BESIDE + 4 }>;
type Key6 = Key<{ BESIDE + 16 }>;

/// The key of a prefix, by family.
enum Either {
    V4(Key4),
    V6(Key6),
}

impl From<&EidPrefix> for Either {
    fn from(eid: &EidPrefix) -> Self {
        let length = eid.prefix.length();
        match eid.prefix.address() {
            IpAddr::V4(v4) => Self::V4(Key::new(eid.instance, &v4.octets(), length)),
            IpAddr::V6(v6) => Self::V6(Key::new(eid.instance, &v6.octets(), length)),
        }
    }
}

impl<const N: usize> Key<N> {
    /// Behind all keys.
    const MAX: Self = Self([0xff; N]);

    fn new(instance: InstanceId, address: &[u8], length: u8) -> Self {
        let mut octets = [0; N];
        octets[..3].copy_from_slice(&instance.get().to_be_bytes()[1..]);
        octets[3..N - 1].copy_from_slice(address);
        octets[N - 1] = length;
        Self(octets)
    }

    /// No key of the instance stands before it.
    fn first(instance: u32) -> Self {
        let mut octets = [0; N];
        octets[..3].copy_from_slice(&instance.to_be_bytes()[1..]);
        Self(octets)
    }

    fn instance(&self) -> &[u8] {
        &self.0[..3]
    }

    fn address(&self) -> &[u8] {
        &self.0[3..N - 1]
    }

    const fn length(&self) -> u8 {
        self.0[N - 1]
    }

    fn eid(&self) -> EidPrefix {
        let instance = u32::from_be_bytes([0, self.0[0], self.0[1], self.0[2]]);
        let address = match <[u8; 4]>::try_from(self.address()) {
            Ok(v4) => IpAddr::from(v4),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(self.address()).expect("an address has 4 or 16 octets")),
        };
        EidPrefix {
            instance: InstanceId::new(instance).expect("24 bits"),
            prefix: Prefix::new(address, self.length()).expect("it came from a prefix"),
        }
    }

    /// How many leading bits of the addresses are the same.
    fn common_bits(&self, other: &Self) -> u8 {
        let pairs = self.address().iter().zip(other.address());
        match pairs.clone().position(|(one, other)| one != other) {
            Some(at) => (at * 8) as u8 + (self.address()[at] ^ other.address()[at]).leading_zeros() as u8,
            None => (pairs.len() * 8) as u8,
        }
    }

    fn covers(&self, inner: &Self) -> bool {
        self.instance() == inner.instance() && self.length() <= inner.length() && self.holds(inner)
    }

    /// Whether the address of `inner` lies inside.
    fn holds(&self, inner: &Self) -> bool {
        self.common_bits(inner) >= self.length()
    }

    /// Shortened to `length` bits; a length that is no shorter leaves it as it is.
    fn cut(mut self, length: u8) -> Self {
        if length < self.length() {
            self.fill(length, false);
            self.0[N - 1] = length;
        }
        self
    }

    /// The last key of the range that it and all beneath it make up.
    fn last(mut self) -> Self {
        self.fill(self.length(), true);
        self.0[N - 1] = ((N - BESIDE) * 8) as u8;
        self
    }

    /// Sets all bits of the address from `start` on.
    fn fill(&mut self, start: u8, ones: bool) {
        let (at, bit) = (usize::from(start / 8), start % 8);
        let address = &mut self.0[3..N - 1];
        for (index, octet) in address.iter_mut().enumerate().skip(at) {
            let mask = if index == at { 0xff_u8 >> bit } else { 0xff };
            *octet = if ones { *octet | mask } else { *octet & !mask };
        }
    }
}

/// The map; iteration is in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixMap<V> {
    v4: BTreeMap<Key4, V>,
    v6: BTreeMap<Key6, V>,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> FromIterator<(EidPrefix, V)> for PrefixMap<V> {
    fn from_iter<I: IntoIterator<Item = (EidPrefix, V)>>(pairs: I) -> Self {
        let mut map = Self::new();
        for (prefix, value) in pairs {
            map.insert(prefix, value);
        }
        map
    }
}

impl<V> PrefixMap<V> {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self { v4: BTreeMap::new(), v6: BTreeMap::new() }
    }

    /// Puts in or replaces the value of exactly this prefix; returns the one before.
    pub fn insert(&mut self, prefix: EidPrefix, value: V) -> Option<V> {
        match Either::from(&prefix) {
            Either::V4(key) => self.v4.insert(key, value),
            Either::V6(key) => self.v6.insert(key, value),
        }
    }

    /// Takes out the value of exactly this prefix.
    pub fn remove(&mut self, prefix: &EidPrefix) -> Option<V> {
        match Either::from(prefix) {
            Either::V4(key) => self.v4.remove(&key),
            Either::V6(key) => self.v6.remove(&key),
        }
    }

    /// The value of exactly this prefix.
    #[must_use]
    pub fn get(&self, prefix: &EidPrefix) -> Option<&V> {
        match Either::from(prefix) {
            Either::V4(key) => self.v4.get(&key),
            Either::V6(key) => self.v6.get(&key),
        }
    }

    /// The value of exactly this prefix.
    #[must_use]
    pub fn get_mut(&mut self, prefix: &EidPrefix) -> Option<&mut V> {
        match Either::from(prefix) {
            Either::V4(key) => self.v4.get_mut(&key),
            Either::V6(key) => self.v6.get_mut(&key),
        }
    }

    /// How many prefixes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Keeps what `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&EidPrefix, &mut V) -> bool) {
        self.v4.retain(|key, value| keep(&key.eid(), value));
        self.v6.retain(|key, value| keep(&key.eid(), value));
    }

    /// Every prefix with its value, by instance, then address, then length; IPv4 before IPv6.
    pub fn iter(&self) -> impl Iterator<Item = (EidPrefix, &V)> {
        self.iter_from(Bound::Unbounded)
    }

    /// As [`iter`](Self::iter), from this prefix on, itself included or not: for reading a table a little at a time.
    pub fn iter_from(&self, start: Bound<EidPrefix>) -> impl Iterator<Item = (EidPrefix, &V)> {
        let (Bound::Included(eid) | Bound::Excluded(eid)) = start else {
            return Iter { v4: self.v4.range(..).peekable(), v6: self.v6.range(..).peekable() };
        };
        let instance = eid.instance.get();
        // Of the other family what comes after it: IPv6 from its instance on, IPv4 from the next.
        let (v4, v6) = match Either::from(&eid) {
            Either::V4(key) => (bound_of(key, start), Bound::Included(Key::first(instance))),
            Either::V6(key) => (
                Bound::Included(if instance < InstanceId::MAX { Key::first(instance + 1) } else { Key::MAX }),
                bound_of(key, start),
            ),
        };
        let (v4, v6) = (self.v4.range((v4, Bound::Unbounded)), self.v6.range((v6, Bound::Unbounded)));
        Iter { v4: v4.peekable(), v6: v6.peekable() }
    }

    /// The longest prefix that holds `eid`.
    #[must_use]
    pub fn longest(&self, eid: Eid) -> Option<(EidPrefix, &V)> {
        self.covering(&EidPrefix::host(eid))
    }

    /// All prefixes that cover `eid`, the longest first.
    pub(crate) fn all_covering<'a>(&'a self, eid: &EidPrefix) -> impl Iterator<Item = (EidPrefix, &'a V)> + use<'a, V> {
        let mut next = self.covering(eid);
        std::iter::from_fn(move || {
            let (found, value) = next?;
            let shorter = found.prefix.length().checked_sub(1);
            next = shorter.and_then(|length| {
                let prefix = Prefix::new(found.prefix.address(), length).ok()?;
                self.covering(&EidPrefix { prefix, ..found })
            });
            Some((found, value))
        })
    }

    /// The longest prefix that covers all of `inner`, `inner` itself included.
    #[must_use]
    pub fn covering(&self, inner: &EidPrefix) -> Option<(EidPrefix, &V)> {
        match Either::from(inner) {
            Either::V4(key) => covering(&self.v4, &key).map(|(key, value)| (key.eid(), value)),
            Either::V6(key) => covering(&self.v6, &key).map(|(key, value)| (key.eid(), value)),
        }
    }

    /// Every prefix inside `outer`, `outer` itself included.
    pub fn within(&self, outer: &EidPrefix) -> impl Iterator<Item = (EidPrefix, &V)> {
        let (v4, v6) = match Either::from(outer) {
            Either::V4(key) => (Some(self.v4.range(key..=key.last())), None),
            Either::V6(key) => (None, Some(self.v6.range(key..=key.last()))),
        };
        let v4 = v4.into_iter().flatten().map(|(key, value)| (key.eid(), value));
        v4.chain(v6.into_iter().flatten().map(|(key, value)| (key.eid(), value)))
    }

    /// The shortest prefix that holds `eid`, lies inside the longest match of `eid` (if there is one) and overlaps no
    /// other prefix of the map: what an answer about the longest match, or about the absence of one, may speak of
    /// (RFC 9301 §8.4, the least specific prefix that matches nothing known).
    #[must_use]
    pub fn gap(&self, eid: Eid) -> EidPrefix {
        match Either::from(&EidPrefix::host(eid)) {
            Either::V4(host) => gap(&self.v4, &host).eid(),
            Either::V6(host) => gap(&self.v6, &host).eid(),
        }
    }

    /// What the map occupies at most, in octets: the B-trees' nodes as they are when filled in ascending order, each
    /// with 6 of its 11 places in use. The standard library does not tell more.
    #[must_use]
    pub fn octets(&self) -> usize {
        nodes::<Key4, V>(self.v4.len()) + nodes::<Key6, V>(self.v6.len())
    }
}

/// Octets of the nodes of a B-tree with `len` keys: leaves, and above them nodes with 12 more words.
fn nodes<K, V>(len: usize) -> usize {
    let leaf = (11 * (size_of::<K>() + size_of::<V>()) + 12).next_multiple_of(8);
    let leaves = len.div_ceil(6);
    leaves * leaf + leaves.div_ceil(6) * (leaf + 96)
}

fn covering<'a, const N: usize, V>(map: &'a BTreeMap<Key<N>, V>, inner: &Key<N>) -> Option<(&'a Key<N>, &'a V)> {
    let mut bound = *inner;
    loop {
        let (key, value) = map.range(..=bound).next_back()?;
        if key.covers(inner) {
            return Some((key, value));
        }
        if key.instance() != inner.instance() {
            return None;
        }
        // Whatever covers `inner` and stands before `key` also covers `key`: it is no longer than what both share.
        bound = inner.cut(key.common_bits(inner).min(bound.length()));
    }
}

fn gap<const N: usize, V>(map: &BTreeMap<Key<N>, V>, host: &Key<N>) -> Key<N> {
    let around = covering(map, host).map_or(0, |(key, _)| key.length());
    let same_instance = |key: &&Key<N>| key.instance() == host.instance();
    // The neighbours in order share the most bits with the EID; those that hold it are the match or wider ones.
    let outside = |key: &&Key<N>| !key.holds(host);
    let before = map.range(..host).rev().map(|(key, _)| key).take_while(same_instance).find(outside);
    let after = map.range(host..).map(|(key, _)| key).take_while(same_instance).find(outside);
    let length = [before, after].into_iter().flatten().map(|key| key.common_bits(host) + 1).fold(around, u8::max);
    host.cut(length)
}

/// A bound of the same kind as `like`.
const fn bound_of<const N: usize>(key: Key<N>, like: Bound<EidPrefix>) -> Bound<Key<N>> {
    if matches!(like, Bound::Included(_)) { Bound::Included(key) } else { Bound::Excluded(key) }
}

/// Both families in one order.
struct Iter<'a, V> {
    v4: Peekable<btree_map::Range<'a, Key4, V>>,
    v6: Peekable<btree_map::Range<'a, Key6, V>>,
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (EidPrefix, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let v4_first = match (self.v4.peek(), self.v6.peek()) {
            (Some((v4, _)), Some((v6, _))) => v4.instance() <= v6.instance(),
            (v4, _) => v4.is_some(),
        };
        if v4_first {
            self.v4.next().map(|(key, value)| (key.eid(), value))
        } else {
            self.v6.next().map(|(key, value)| (key.eid(), value))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds;

    use altitude_dataplane::mapping::InstanceId;
    use proptest::prelude::*;

    use super::*;

    fn eid(text: &str) -> EidPrefix {
        EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
    }

    fn map(prefixes: &[&str]) -> PrefixMap<()> {
        prefixes.iter().map(|text| (eid(text), ())).collect()
    }

    #[test]
    fn gaps_are_those_of_the_text_book() {
        for (known, address, expected) in [
            (&["198.51.100.0/24"][..], "198.51.97.5", "198.51.96.0/22"),
            (&["192.0.2.0/24"], "198.51.100.20", "196.0.0.0/6"),
            (&[], "198.51.100.20", "0.0.0.0/0"),
            (&["::/0"], "198.51.100.20", "0.0.0.0/0"),
            // Inside an aggregate: never wider than it, and around its parts.
            (&["10.1.0.0/16", "10.1.64.0/18"], "10.1.128.199", "10.1.128.0/17"),
            (&["10.1.0.0/16", "10.1.64.0/18"], "10.1.1.1", "10.1.0.0/18"),
            (&["10.1.0.0/16"], "10.1.77.88", "10.1.0.0/16"),
            (&["10.1.77.88"], "10.1.77.88", "10.1.77.88/32"),
        ] {
            let address = address.parse().unwrap();
            let gap = map(known).gap(Eid { instance: InstanceId::DEFAULT, address });
            assert_eq!(gap, eid(expected), "{known:?} around {address}");
        }
    }

    /// Few enough distinct prefixes of both families and two instances that they nest and collide.
    fn prefix() -> impl Strategy<Value = EidPrefix> {
        (0_u32..2, any::<bool>(), 0_u8..=8, any::<u8>(), 0_u8..2).prop_map(|(instance, v4, length, top, deep)| {
            let address: IpAddr = match v4 {
                true => [top, 0, 0, deep].into(),
                false => [u16::from(top) << 8, 0, 0, 0, 0, 0, 0, u16::from(deep)].into(),
            };
            let length = if deep == 1 { length + if v4 { 24 } else { 120 } } else { length };
            let prefix = Prefix::new(address, length).unwrap();
            EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix }
        })
    }

    proptest! {
        #[test]
        fn agrees_with_looking_at_every_prefix(known in prop::collection::vec(prefix(), 0..24), asked in prefix()) {
            let map: PrefixMap<()> = known.iter().map(|eid| (*eid, ())).collect();
            let plain = known.iter().filter(|key| key.covers(&asked)).max_by_key(|key| key.prefix.length());
            prop_assert_eq!(map.covering(&asked).map(|(key, ())| key), plain.copied());
            let mut within: Vec<EidPrefix> = known.iter().filter(|key| asked.covers(key)).copied().collect();
            within.sort_unstable();
            within.dedup();
            let mut all = known.clone();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(map.iter().map(|(key, ())| key).collect::<Vec<_>>(), all);
            prop_assert_eq!(map.get(&asked).is_some(), known.contains(&asked));
            prop_assert_eq!(map.within(&asked).map(|(key, ())| key).collect::<Vec<_>>(), within);
        }

        #[test]
        fn pages_together_are_the_whole(
            known in prop::collection::vec(prefix(), 0..24), size in 1_usize..5, from in prefix(),
        ) {
            let map: PrefixMap<()> = known.iter().map(|eid| (*eid, ())).collect();
            let mut read: Vec<EidPrefix> = Vec::new();
            loop {
                let start = read.last().copied().map_or(Bound::Unbounded, Bound::Excluded);
                let page: Vec<EidPrefix> = map.iter_from(start).map(|(eid, ())| eid).take(size).collect();
                if page.is_empty() {
                    break;
                }
                read.extend(page);
            }
            let all: Vec<EidPrefix> = map.iter().map(|(key, ())| key).collect();
            prop_assert_eq!(&read, &all);
            for start in [Bound::Included(from), Bound::Excluded(from)] {
                let expected = all.iter().filter(|eid| (start, Bound::Unbounded).contains(*eid));
                prop_assert!(map.iter_from(start).map(|(eid, ())| eid).eq(expected.copied()));
            }
        }

        /// MR-5.
        #[test]
        fn a_gap_holds_the_eid_and_nothing_known_and_cannot_be_wider(
            known in prop::collection::vec(prefix(), 0..24), asked in prefix(),
        ) {
            let map: PrefixMap<()> = known.iter().map(|eid| (*eid, ())).collect();
            let eid = Eid { instance: asked.instance, address: asked.prefix.address() };
            let around = map.longest(eid).map(|(key, ())| key);
            let allowed = |gap: &EidPrefix| {
                around.is_none_or(|around| around.covers(gap))
                    && !known.iter().any(|key| !key.contains(eid) && (gap.covers(key) || key.covers(gap)))
            };
            let gap = map.gap(eid);
            prop_assert!(gap.contains(eid) && allowed(&gap), "{gap} around {eid}");
            if gap.prefix.length() > 0 {
                let wider = Prefix::new(gap.prefix.address(), gap.prefix.length() - 1).unwrap();
                prop_assert!(!allowed(&EidPrefix { prefix: wider, ..gap }), "{gap} could be wider around {eid}");
            }
        }
    }
}
