//! The decision process: which of a prefix's routes is used (RFC 4271 §9.1.2).
//!
//! In this order, each step among those that the one before left:
//!
//! 1. our own prefixes, then our aggregates, then what neighbours say;
//! 2. the highest LOCAL_PREF; routes of other ASes have 100 (§9.1.1);
//! 3. the shortest AS path, a set counting one (§9.1.2.2 a);
//! 4. the lowest ORIGIN (b);
//! 5. the lowest MULTI_EXIT_DISC among routes from the same neighbouring AS, none counting 0 (c);
//! 6. from another AS before from our own (d);
//! 7. the lowest BGP Identifier of the neighbour (f);
//! 8. the lowest address of the neighbour (g).
//!
//! Step e, the cost of the way to the next hop, is the same for all: each is the far end of a tunnel. The age of a route plays
//! no part, so the choice does not depend on what came first. As MED orders only routes from one AS, the choice is made among all
//! at once by leaving out, never by comparing two and two.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr},
};

use crate::alt::bgp::route::Origin;

/// What the choice depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// 0 our own, 1 an aggregate, 2 a neighbour's.
    pub(super) rank: u8,
    pub(super) local_pref: u32,
    pub(super) path_length: u32,
    pub(super) origin: Origin,
    pub(super) neighbor_as: u32,
    pub(super) med: u32,
    /// From another AS.
    pub(super) external: bool,
    pub(super) router_id: Ipv4Addr,
    pub(super) address: IpAddr,
}

/// The place of the best of `candidates`.
pub(super) fn best(candidates: &[Candidate]) -> Option<usize> {
    if candidates.len() <= 1 {
        return candidates.len().checked_sub(1);
    }
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    keep_least(&mut left, |place| {
        let candidate = &candidates[place];
        (candidate.rank, Reverse(candidate.local_pref), candidate.path_length, candidate.origin)
    });
    let among = left.clone();
    left.retain(|place| {
        let candidate = &candidates[*place];
        let beats = |other: &Candidate| other.neighbor_as == candidate.neighbor_as && other.med < candidate.med;
        !among.iter().any(|other| beats(&candidates[*other]))
    });
    keep_least(&mut left, |place| {
        let candidate = &candidates[place];
        (!candidate.external, candidate.router_id, candidate.address)
    });
    left.first().copied()
}

fn keep_least<K: Ord>(left: &mut Vec<usize>, key: impl Fn(usize) -> K) {
    if let Some(least) = left.iter().map(|place| key(*place)).min() {
        left.retain(|place| key(*place) == least);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain() -> Candidate {
        Candidate {
            rank: 2,
            local_pref: 100,
            path_length: 2,
            origin: Origin::Igp,
            neighbor_as: 64513,
            med: 10,
            external: true,
            router_id: [10, 0, 0, 5].into(),
            address: [10, 42, 0, 5].into(),
        }
    }

    /// Each step decides although all steps behind it say otherwise, and the steps before are level.
    #[test]
    fn the_steps_decide_in_their_order() {
        let worse_behind = |step: usize| Candidate {
            rank: 2,
            local_pref: if step < 2 { 50 } else { 100 },
            path_length: if step < 3 { 9 } else { 2 },
            origin: if step < 4 { Origin::Incomplete } else { Origin::Igp },
            neighbor_as: 64513,
            med: if step < 5 { 99 } else { 10 },
            external: step >= 6,
            router_id: [10, 0, 0, if step < 7 { 9 } else { 5 }].into(),
            address: [10, 42, 0, 9].into(),
        };
        let better: [Candidate; 9] = [
            Candidate { rank: 0, ..worse_behind(0) },
            Candidate { rank: 1, ..worse_behind(1) },
            Candidate { local_pref: 101, ..worse_behind(2) },
            Candidate { path_length: 1, ..worse_behind(3) },
            Candidate { origin: Origin::Igp, path_length: 2, ..worse_behind(4) },
            Candidate { med: 9, ..worse_behind(5) },
            Candidate { external: true, ..worse_behind(6) },
            Candidate { router_id: [10, 0, 0, 4].into(), ..worse_behind(7) },
            Candidate { address: [10, 42, 0, 4].into(), ..worse_behind(8) },
        ];
        for (step, better) in better.into_iter().enumerate() {
            let other = match step {
                4 => Candidate { origin: Origin::Egp, ..plain() },
                6 => Candidate { external: false, ..plain() },
                _ => plain(),
            };
            assert_eq!(best(&[other, better]), Some(1), "step {step}");
            assert_eq!(best(&[better, other]), Some(0), "step {step}");
        }
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[plain()]), Some(0));
    }

    #[test]
    fn med_is_compared_within_one_neighbouring_as_only() {
        let from = |neighbor_as, med, id| Candidate { neighbor_as, med, router_id: [10, 0, 0, id].into(), ..plain() };
        // The lower MED is of another AS: the identifier decides.
        assert_eq!(best(&[from(64513, 10, 1), from(64514, 5, 2)]), Some(0));
        // What RFC 3345 calls the trap of comparing in pairs: the first is out by the third, wherever it stands.
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 0, 1]] {
            let all = [from(64513, 10, 1), from(64514, 0, 2), from(64513, 5, 3)];
            let shuffled = order.map(|place| all[place]);
            assert_eq!(best(&shuffled).map(|place| shuffled[place]), Some(all[1]), "{order:?}");
        }
    }

    /// Of neighbours with addresses of their own.
    fn candidates(least: usize) -> impl Strategy<Value = Vec<Candidate>> {
        let small = (0_u8..3, 0_u32..2, 0_u32..2, 0..2, 0_u32..2, 0_u32..3);
        let one = (small, any::<bool>(), 0_u8..3).prop_map(|(small, external, id)| {
            let (rank, local_pref, path_length, origin, neighbor_as, med) = small;
            let origin = if origin == 0 { Origin::Igp } else { Origin::Egp };
            let (router_id, address) = ([10, 0, 0, id].into(), [10, 42, 0, 0].into());
            Candidate { rank, local_pref, path_length, origin, neighbor_as, med, external, router_id, address }
        });
        prop::collection::vec(one, least..6).prop_map(|candidates| {
            let numbered = candidates.into_iter().zip(1..);
            numbered.map(|(one, last)| Candidate { address: [10, 42, 0, last].into(), ..one }).collect()
        })
    }

    proptest! {
        #[test]
        fn the_order_they_came_in_does_not_matter(
            (candidates, shuffled) in candidates(1).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        ) {
            let chosen = best(&candidates).map(|place| candidates[place]);
            prop_assert_eq!(chosen, best(&shuffled).map(|place| shuffled[place]));
        }

        #[test]
        fn what_was_not_chosen_can_go(candidates in candidates(2)) {
            // Leaving out a loser changes nothing, unless its MED kept another one out.
            let chosen = best(&candidates).unwrap();
            for (place, loser) in candidates.iter().enumerate().filter(|(place, _)| *place != chosen) {
                let hides = |other: &Candidate| other.neighbor_as == loser.neighbor_as && loser.med < other.med;
                if !candidates.iter().any(hides) {
                    let mut rest = candidates.clone();
                    rest.remove(place);
                    prop_assert_eq!(best(&rest).map(|place| rest[place]), Some(candidates[chosen]));
                }
            }
        }
    }
}
