//! Which locator a flow takes: a table of 64 slots with exact quotas and a reachability overlay.
//!
//! The home table is computed from (RLOC, priority, weight) alone, so every ITR draws the same one. When a locator
//! goes down only its slots are dealt anew, so only its flows move, and they come back with it (RFC 9300 §9, §12;
//! RFC 9301 §5.4).

use std::net::IpAddr;

use super::{OuterHeader, UNUSABLE_PRIORITY};

/// Slots of a locator-set's table; a weight's error is below one slot.
pub const SLOTS: usize = 64;

/// A locator offered to [`LocatorSet::compile`].
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The RLOC; candidates are told apart by it.
    pub address: IpAddr,
    /// Lower is better; 255 is never chosen.
    pub priority: u8,
    /// Relative share within one priority.
    pub weight: u8,
    /// Its compiled header; `None` while it cannot be used (down, no route, no RLOC of ours of its family).
    pub outer: Option<OuterHeader>,
}

/// A locator-set compiled for workers: flow hash → outer header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatorSet {
    slots: [u8; SLOTS],
    outers: Box<[OuterHeader]>,
}

impl LocatorSet {
    /// Deals the slots out; `None` when no candidate can be used.
    ///
    /// Order of `candidates` does not matter. Of more than 255 candidates the rest is ignored (a Map-Reply record
    /// holds no more).
    #[must_use]
    pub fn compile(candidates: &[Candidate]) -> Option<Self> {
        let mut sorted: Vec<&Candidate> =
            candidates.iter().filter(|candidate| candidate.priority != UNUSABLE_PRIORITY).take(255).collect();
        sorted.sort_by_key(|candidate| (candidate.priority, candidate.address));
        let best = sorted.iter().find(|candidate| candidate.outer.is_some())?.priority;
        let group: Vec<&Candidate> = sorted.into_iter().filter(|candidate| candidate.priority == best).collect();

        let everyone: Vec<usize> = (0..SLOTS).map(spread).collect();
        let mut owner = [0_u8; SLOTS];
        deal(&everyone, &group, |_| true, &mut owner);
        let orphans: Vec<usize> =
            everyone.into_iter().filter(|&slot| group[usize::from(owner[slot])].outer.is_none()).collect();
        deal(&orphans, &group, |candidate| candidate.outer.is_some(), &mut owner);

        let mut place = [0_u8; 256];
        let mut outers = Vec::with_capacity(group.len());
        for (index, candidate) in group.iter().enumerate() {
            if let Some(outer) = &candidate.outer {
                place[index] = outers.len() as u8;
                outers.push(outer.clone());
            }
        }
        Some(Self { slots: owner.map(|index| place[usize::from(index)]), outers: outers.into() })
    }

    /// The header for a flow, by the top six bits of its hash.
    #[inline]
    #[must_use]
    pub fn choose(&self, flow: u32) -> &OuterHeader {
        &self.outers[usize::from(self.slots[(flow >> 26) as usize])]
    }

    /// For each slot, the place of its header in [`outers`](Self::outers).
    #[must_use]
    pub const fn slots(&self) -> &[u8; SLOTS] {
        &self.slots
    }

    /// The headers in use.
    #[must_use]
    pub fn outers(&self) -> &[OuterHeader] {
        &self.outers
    }
}

/// Visits the slots in an order that spreads each owner over the table (37 is prime to 64).
const fn spread(step: usize) -> usize {
    step * 37 % SLOTS
}

/// Gives `slots` to the members of `group` that `may` have them, in proportion to weight: whole quotas first, then one
/// each to the largest remainders. Equal weights, all-zero ones included, share evenly; zero beside non-zero gets none.
fn deal(slots: &[usize], group: &[&Candidate], may: impl Fn(&Candidate) -> bool, owner: &mut [u8; SLOTS]) {
    let members: Vec<usize> = (0..group.len()).filter(|&index| may(group[index])).collect();
    let all_zero = members.iter().all(|&index| group[index].weight == 0);
    let weight = |index: usize| if all_zero { 1 } else { usize::from(group[index].weight) };
    let total: usize = members.iter().map(|&index| weight(index)).sum();
    if total == 0 || slots.is_empty() {
        return;
    }
    let mut quota: Vec<usize> = members.iter().map(|&index| slots.len() * weight(index) / total).collect();
    let mut by_remainder: Vec<usize> = (0..members.len()).collect();
    by_remainder.sort_by_key(|&m| (std::cmp::Reverse(slots.len() * weight(members[m]) % total), m));
    let left_over = slots.len() - quota.iter().sum::<usize>();
    for &m in &by_remainder[..left_over] {
        quota[m] += 1;
    }
    let owners = members.iter().zip(quota).flat_map(|(&index, count)| std::iter::repeat_n(index, count));
    for (&slot, index) in slots.iter().zip(owners) {
        owner[slot] = index as u8;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::mapping::{Adjacency, InstanceId};

    fn candidate(last: u8, priority: u8, weight: u8, up: bool) -> Candidate {
        let address = IpAddr::from([240, 0, 254, last]);
        let adjacency = Adjacency { port: 0, destination: [2; 6], source: [4; 6], vlan: None, mtu: 1500 };
        let outer = OuterHeader::new(&adjacency, [240, 0, 254, 1].into(), address, InstanceId::DEFAULT);
        Candidate { address, priority, weight, outer: outer.filter(|_| up) }
    }

    /// Last octet of the locator of each slot.
    fn table(candidates: &[Candidate]) -> Vec<u8> {
        let set = LocatorSet::compile(candidates).unwrap();
        (0..SLOTS as u32)
            .map(|slot| match set.choose(slot << 26).destination() {
                IpAddr::V4(address) => address.octets()[3],
                IpAddr::V6(_) => unreachable!("only IPv4 offered"),
            })
            .collect()
    }

    fn counts(table: &[u8]) -> BTreeMap<u8, usize> {
        let mut counts = BTreeMap::new();
        for &owner in table {
            *counts.entry(owner).or_default() += 1;
        }
        counts
    }

    /// LOC-4.
    #[test]
    fn shares_follow_weights_within_one_slot() {
        let set = [(1, 30), (2, 20), (3, 20), (4, 10)].map(|(last, weight)| candidate(last, 1, weight, true));
        assert_eq!(counts(&table(&set)), [(1, 24), (2, 16), (3, 16), (4, 8)].into());
    }

    /// LOC-4, LOC-5.
    #[test]
    fn weight_zero_gets_nothing_beside_others_and_an_even_share_among_zeros() {
        assert_eq!(counts(&table(&[candidate(1, 1, 0, true), candidate(2, 1, 50, true)])), [(2, 64)].into());
        assert_eq!(counts(&table(&[candidate(1, 1, 0, true), candidate(2, 1, 0, true)])), [(1, 32), (2, 32)].into());
    }

    /// LOC-1, LOC-3.
    #[test]
    fn only_the_lowest_usable_priority_is_used() {
        let set = [candidate(1, 255, 9, true), candidate(2, 1, 1, false), candidate(3, 2, 1, true)];
        assert_eq!(counts(&table(&set)), [(3, 64)].into());
        assert_eq!(LocatorSet::compile(&set[..2]), None);
        assert_eq!(LocatorSet::compile(&[]), None);
    }

    /// LOC-6.
    #[test]
    fn losing_one_of_four_moves_only_its_flows_and_they_return() {
        let all = [1, 2, 3, 4].map(|n| candidate(n, 1, 25, true));
        let mut one_down = all.clone();
        one_down[2].outer = None;
        let (before, after) = (table(&all), table(&one_down));
        for (was, is) in before.iter().zip(&after) {
            assert!(was == is || *was == 3, "a flow of locator {was} moved to {is}");
        }
        assert!(!after.contains(&3));
        assert_eq!(table(&all), before);
        let mut shuffled = all.to_vec();
        shuffled.reverse();
        assert_eq!(table(&shuffled), before, "the order of the records does not matter");
    }
}
