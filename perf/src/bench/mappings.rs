//! The remote prefixes of a bench's table, and the locators behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use altitude_dataplane::mapping::Prefix;

use super::{Families, packets::rloc};

/// Prefixes that share a locator-set: about as many as one network of the Internet announces.
const PER_SET: u32 = 12;

/// Remote prefixes, spread over the whole unicast space as /24 and /48: harder on a table than the Internet's, whose
/// prefixes lie in clusters. None lies inside another, so that the source of every packet is known.
#[derive(Debug, Clone)]
pub(super) struct Mappings {
    families: Families,
    prefixes: Vec<Prefix>,
    sets: u32,
}

impl Mappings {
    /// These prefixes, one locator behind all.
    pub(super) const fn listed(families: Families, prefixes: Vec<Prefix>) -> Self {
        Self { families, prefixes, sets: 0 }
    }

    /// `count` prefixes; `sets` locator-sets of two locators each, by default one for twelve prefixes.
    pub(super) fn spread(families: Families, count: u32, sets: Option<u32>) -> Self {
        let prefixes = stretch(families.inner4).take(count as usize).collect();
        Self { families, prefixes, sets: sets.unwrap_or(count.div_ceil(PER_SET)).max(1) }
    }

    pub(super) fn len(&self) -> usize {
        self.prefixes.len()
    }

    pub(super) fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }

    /// Prefixes like these that are not among them.
    pub(super) fn strangers(&self, count: usize) -> Vec<Prefix> {
        stretch(self.families.inner4).skip(self.len()).take(count).collect()
    }

    /// The locator-set of prefix `index`.
    pub(super) const fn set_of(&self, index: usize) -> u32 {
        if self.sets == 0 { 0 } else { (index % self.sets as usize) as u32 }
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = Vec<IpAddr>> {
        (0..self.sets.max(1)).map(|set| self.rlocs(set))
    }

    /// The locators of a set. They differ in their low 32 bits only.
    pub(super) fn rlocs(&self, set: u32) -> Vec<IpAddr> {
        if self.sets == 0 {
            return vec![rloc(self.families.outer4, false)];
        }
        let locator = |number: u32| -> IpAddr {
            if self.families.outer4 {
                Ipv4Addr::from_bits(0xf100_0000 + number).into()
            } else {
                Ipv6Addr::from_bits(0x2001_0db8_00fe_u128 << 80 | u128::from(number)).into()
            }
        };
        vec![locator(2 * set), locator(2 * set + 1)]
    }
}

/// The prefix of a site that holds `address`; lengths for IPv4 and IPv6.
pub(super) fn site(address: IpAddr, lengths: (u8, u8)) -> Prefix {
    let length = if address.is_ipv4() { lengths.0 } else { lengths.1 };
    Prefix::new(address, length).expect("a length of the family")
}

/// Prefixes without end, or nearly: each once, in an order without order, and none that the benches need otherwise.
fn stretch(v4: bool) -> Box<dyn Iterator<Item = Prefix>> {
    if v4 {
        let numbers = (0..1 << 24).map(|index| scatter(index, 24)).filter(|number| {
            let (first, second) = (number >> 16, number >> 8 & 0xff);
            let unicast = matches!(first, 1..=223) && first != 127 && (first, second) != (169, 254);
            unicast && (first, second) != (1, 1)
        });
        return Box::new(numbers.map(|number| site(Ipv4Addr::from_bits(number << 8).into(), (24, 48))));
    }
    // 2000::/3: 45 bits to choose from, of which 32 make each prefix another; 2001:db8::/32 is kept out.
    let numbers = (0..u32::MAX).map(|index| (scatter(index, 32), scatter(index, 24) & 0x1fff));
    let all = numbers.map(|(high, low)| 1_u128 << 125 | u128::from(high) << 93 | u128::from(low) << 80);
    Box::new(all.filter(|bits| bits >> 96 != 0x2001_0db8).map(|bits| site(Ipv6Addr::from_bits(bits).into(), (24, 48))))
}

/// A permutation of the numbers of `bits` bits (at most 32): odd factors and shifted copies can be undone, so no two
/// meet. The constants are those of a well-known integer hash (splitmix32).
const fn scatter(number: u32, bits: u32) -> u32 {
    let mask = u32::MAX >> (32 - bits);
    let mut x = number & mask;
    x = (x ^ x >> (bits / 2)).wrapping_mul(0x7feb_352d) & mask;
    x = (x ^ x >> (bits / 2 - 1)).wrapping_mul(0x846c_a68b) & mask;
    (x ^ x >> (bits / 2)) & mask
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::bench::packets::local;

    #[test]
    fn prefixes_are_distinct_unicast_and_not_ours() {
        for families in Families::ALL {
            let mappings = Mappings::spread(families, 50_000, None);
            let distinct: HashSet<_> = mappings.prefixes().iter().chain(&mappings.strangers(1000)).copied().collect();
            assert_eq!(distinct.len(), 51_000);
            assert!(distinct.iter().all(|prefix| !prefix.contains(local(families.inner4, 0))));
            assert_eq!(mappings.sets().count(), 4167);
            let rlocs: HashSet<_> = mappings.sets().flatten().collect();
            assert_eq!(rlocs.len(), 2 * 4167);
        }
    }
}
