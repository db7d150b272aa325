//! A map from EID-Prefixes that answers longest match, what lies beneath, and the gap around an address.
//!
//! For the control plane's tables: ordered, so that machines stay deterministic, and never on a packet's path. Keys are
//! ordered by (instance, address, length), so a prefix and all beneath it are one range, and the longest match is
//! found by stepping from the nearest key to the prefix it shares with the address (at most one step per bit).

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, net::IpAddr};

use altitude_dataplane::mapping::{Eid, EidPrefix, Prefix};

/// The map; iteration is in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixMap<V>(BTreeMap<EidPrefix, V>);

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> FromIterator<(EidPrefix, V)> for PrefixMap<V> {
    fn from_iter<I: IntoIterator<Item = (EidPrefix, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl<V> PrefixMap<V> {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Puts in or replaces the value of exactly this prefix; returns the one before.
    pub fn insert(&mut self, prefix: EidPrefix, value: V) -> Option<V> {
        self.0.insert(prefix, value)
    }

    /// Takes out the value of exactly this prefix.
    pub fn remove(&mut self, prefix: &EidPrefix) -> Option<V> {
        self.0.remove(prefix)
    }

    /// The value of exactly this prefix.
    #[must_use]
    pub fn get(&self, prefix: &EidPrefix) -> Option<&V> {
        self.0.get(prefix)
    }

    /// The value of exactly this prefix.
    #[must_use]
    pub fn get_mut(&mut self, prefix: &EidPrefix) -> Option<&mut V> {
        self.0.get_mut(prefix)
    }

    /// How many prefixes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every prefix with its value, by instance, then address, then length.
    pub fn iter(&self) -> impl Iterator<Item = (&EidPrefix, &V)> {
        self.0.iter()
    }

    /// The longest prefix that holds `eid`.
    #[must_use]
    pub fn longest(&self, eid: Eid) -> Option<(&EidPrefix, &V)> {
        self.covering(&EidPrefix::host(eid))
    }

    /// The longest prefix that covers all of `inner`, `inner` itself included.
    #[must_use]
    pub fn covering(&self, inner: &EidPrefix) -> Option<(&EidPrefix, &V)> {
        let mut bound = *inner;
        loop {
            let (key, value) = self.0.range(..=bound).next_back()?;
            if key.covers(inner) {
                return Some((key, value));
            }
            if key.instance != inner.instance || key.prefix.address().is_ipv4() != inner.prefix.address().is_ipv4() {
                return None;
            }
            // Whatever covers `inner` and stands before `key` also covers `key`: it is no longer than what both share.
            bound = cut(inner, common_bits(key.prefix.address(), inner.prefix.address()).min(bound.prefix.length()));
        }
    }

    /// Every prefix inside `outer`, `outer` itself included.
    pub fn within(&self, outer: &EidPrefix) -> impl Iterator<Item = (&EidPrefix, &V)> {
        let last = EidPrefix { instance: outer.instance, prefix: Prefix::host(last_address(&outer.prefix)) };
        self.0.range(*outer..=last)
    }

    /// The shortest prefix that holds `eid`, lies inside the longest match of `eid` (if there is one) and overlaps no
    /// other prefix of the map: what an answer about the longest match, or about the absence of one, may speak of
    /// (RFC 9301 §8.4, the least specific prefix that matches nothing known).
    #[must_use]
    pub fn gap(&self, eid: Eid) -> EidPrefix {
        let host = EidPrefix::host(eid);
        let around = self.longest(eid).map_or(0, |(key, _)| key.prefix.length());
        let same_family =
            |key: &EidPrefix| key.instance == eid.instance && key.prefix.address().is_ipv4() == eid.address.is_ipv4();
        // The neighbours in order share the most bits with `eid`; those that hold it are the match or wider ones.
        let outside = |key: &EidPrefix| !key.contains(eid);
        let before = self.0.range(..host).rev().map(|(key, _)| *key).take_while(same_family).find(outside);
        let after = self.0.range(host..).map(|(key, _)| *key).take_while(same_family).find(outside);
        let length = [before, after]
            .into_iter()
            .flatten()
            .map(|key| common_bits(key.prefix.address(), eid.address) + 1)
            .fold(around, u8::max);
        cut(&host, length)
    }
}

/// `prefix` shortened to `length` bits; a length that is no shorter leaves it as it is.
fn cut(prefix: &EidPrefix, length: u8) -> EidPrefix {
    let length = length.min(prefix.prefix.length());
    let shorter = Prefix::new(prefix.prefix.address(), length).unwrap_or(prefix.prefix);
    EidPrefix { instance: prefix.instance, prefix: shorter }
}

/// How many leading bits two addresses of one family share.
fn common_bits(one: IpAddr, other: IpAddr) -> u8 {
    let bits = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    };
    bits as u8
}

/// The address of `prefix` with all host bits one.
fn last_address(prefix: &Prefix) -> IpAddr {
    let length = u32::from(prefix.length());
    match prefix.address() {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() | u32::MAX.checked_shr(length).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() | u128::MAX.checked_shr(length).unwrap_or(0)).into()),
    }
}

#[cfg(test)]
mod tests {
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
            prop_assert_eq!(map.covering(&asked).map(|(key, ())| key), plain);
            let mut within: Vec<EidPrefix> = known.iter().filter(|key| asked.covers(key)).copied().collect();
            within.sort_unstable();
            within.dedup();
            prop_assert_eq!(map.within(&asked).map(|(key, ())| *key).collect::<Vec<_>>(), within);
        }

        #[test]
        fn a_gap_holds_the_eid_and_nothing_known_and_cannot_be_wider(
            known in prop::collection::vec(prefix(), 0..24), asked in prefix(),
        ) {
            let map: PrefixMap<()> = known.iter().map(|eid| (*eid, ())).collect();
            let eid = Eid { instance: asked.instance, address: asked.prefix.address() };
            let around = map.longest(eid).map(|(key, ())| *key);
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
