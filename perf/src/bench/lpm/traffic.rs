//! Which addresses are looked up: drawn before, streamed in order, the same for the subject and its references.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use altitude_dataplane::mapping::Prefix;

use super::{
    model::Model,
    random::{Random, Zipf},
    table::{Family, Table, inside},
};

/// How addresses are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Any address; of IPv6 any in 2000::/3.
    Uniform,
    /// Destinations, each a random host in a random prefix, drawn by Zipf's law with exponent 1.
    Zipf,
    /// A random host in a random prefix.
    Rand,
    /// A random host in one of the longest prefixes, of equally long ones the most deeply nested: at random out of the
    /// first hundredth of them, where chains are longest, and out of the first half, which no cache holds.
    Worst,
}

impl Pattern {
    pub(super) const ALL: [Self; 4] = [Self::Uniform, Self::Zipf, Self::Rand, Self::Worst];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::Rand => "rand",
            Self::Worst => "worst",
        }
    }

    /// `count` addresses; Zipf's law draws from as many destinations.
    pub(super) fn queries(self, table: &Table, model: &Model, count: usize) -> Arc<Queries> {
        let mut random = Random::new(0x0071_aff1c ^ self as u64);
        let host = |prefixes: &[Prefix], random: &mut Random| inside(prefixes[random.below(prefixes.len())], random);
        let lefts: Vec<u128> = match self {
            Self::Uniform => {
                let fixed = if table.family == Family::V4 { (0, 0) } else { (7 << 125, 1 << 125) };
                (0..count).map(|_| random.wide() & !fixed.0 | fixed.1).collect()
            }
            Self::Rand => (0..count).map(|_| host(&table.prefixes, &mut random)).collect(),
            Self::Zipf => {
                let destinations: Vec<u128> = (0..count).map(|_| host(&table.prefixes, &mut random)).collect();
                let zipf = Zipf::new(count);
                (0..count).map(|_| destinations[zipf.rank(&mut random)]).collect()
            }
            Self::Worst => {
                let ranked = ranked(table, model);
                let parts = [ranked.len().div_ceil(100), ranked.len().div_ceil(2)];
                (0..count).map(|_| host(&ranked[..parts[random.below(2)]], &mut random)).collect()
            }
        };
        Arc::new(Queries::new(table.family, &lefts))
    }
}

/// The longest first, of equally long ones the most deeply nested.
fn ranked(table: &Table, model: &Model) -> Vec<Prefix> {
    let mut ranked: Vec<(u8, u8, Prefix)> =
        table.prefixes.iter().zip(model.depths()).map(|(prefix, depth)| (prefix.length(), depth, *prefix)).collect();
    ranked.sort_unstable_by_key(|(length, depth, _)| std::cmp::Reverse((*length, *depth)));
    ranked.into_iter().map(|(_, _, prefix)| prefix).collect()
}

/// Addresses of one family in the form that look-ups take them.
#[derive(Debug)]
pub(super) enum Queries {
    /// Numbers.
    V4(Vec<u32>),
    /// Octets as in a packet.
    V6(Vec<[u8; 16]>),
}

impl Queries {
    fn new(family: Family, lefts: &[u128]) -> Self {
        match family {
            Family::V4 => Self::V4(lefts.iter().map(|left| (left >> 96) as u32).collect()),
            Family::V6 => Self::V6(lefts.iter().map(|left| left.to_be_bytes()).collect()),
        }
    }

    pub(super) const fn len(&self) -> usize {
        match self {
            Self::V4(addresses) => addresses.len(),
            Self::V6(addresses) => addresses.len(),
        }
    }

    /// The first `count` of them.
    pub(super) fn addresses(&self, count: usize) -> Vec<IpAddr> {
        match self {
            Self::V4(addresses) => addresses.iter().take(count).map(|bits| IpAddr::V4((*bits).into())).collect(),
            Self::V6(addresses) => addresses.iter().take(count).map(|octets| Ipv6Addr::from(*octets).into()).collect(),
        }
    }
}
