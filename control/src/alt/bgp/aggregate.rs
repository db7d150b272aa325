//! Shorter prefixes announced in place of many (RFC 6836 §4.2, §7.3).
//!
//! An aggregate appears once all neighbours that originate its components have a session with us, so that we know what is a hole
//! (rule ALT-8), and stays until none of them has: one site's failure must not take the others' way. Without components it is
//! always announced: then the configuration answers for them. Its attributes depend on nothing that its components do, so a flapping
//! component is seen by nobody beyond (rule ALT-14): an empty path, ATOMIC_AGGREGATE and AGGREGATOR (RFC 4271 §5.1.6, §5.1.7)
//! instead of AS_SETs, which RFC 9774 has given up.
//!
//! Its own route is a hole: what no component leads on from there is answered negatively (rule ALT-9).

use std::net::Ipv4Addr;

use altitude_dataplane::mapping::EidPrefix;

use super::{
    route::{AsPath, Attributes, Origin, PeerId},
    settings::Aggregate,
};

/// All aggregates and whether they are announced.
#[derive(Debug, Default)]
pub(super) struct Aggregates(Vec<(Aggregate, bool)>);

/// One that begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) eid: EidPrefix,
    pub(super) announced: bool,
    pub(super) summary_only: bool,
}

impl Aggregates {
    pub(super) fn new(aggregates: Vec<Aggregate>) -> Self {
        Self(aggregates.into_iter().map(|aggregate| (aggregate, false)).collect())
    }

    /// Which begin and which end, now that `present` tells who has a session, or had one and will come back.
    pub(super) fn review(&mut self, present: impl Fn(PeerId) -> bool) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (aggregate, announced) in &mut self.0 {
            let mut components = aggregate.components.iter();
            let next = if *announced {
                aggregate.components.is_empty() || components.any(|peer| present(*peer))
            } else {
                components.all(|peer| present(*peer))
            };
            if next != *announced {
                *announced = next;
                let Aggregate { eid, summary_only, .. } = *aggregate;
                turns.push(Turn { eid, announced: next, summary_only });
            }
        }
        turns
    }
}

/// What an aggregate is announced with.
pub(super) fn aggregated(asn: u32, router_id: Ipv4Addr) -> Attributes {
    Attributes { atomic_aggregate: true, aggregator: Some((asn, router_id)), ..originated() }
}

/// What our own prefixes are announced with.
pub(super) fn originated() -> Attributes {
    Attributes {
        origin: Origin::Igp,
        as_path: AsPath::default(),
        med: None,
        local_pref: None,
        atomic_aggregate: false,
        aggregator: None,
        communities: Box::default(),
        foreign: Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::InstanceId;

    use super::*;

    #[test]
    fn all_components_begin_it_and_the_last_one_ends_it() {
        let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix: "10.1.0.0/16".parse().unwrap() };
        let aggregate = |components: &[usize]| Aggregate {
            eid,
            components: components.iter().copied().map(PeerId).collect(),
            summary_only: true,
        };
        let turn = |announced| vec![Turn { eid, announced, summary_only: true }];
        let mut two = Aggregates::new(vec![aggregate(&[0, 2])]);
        for (present, expected) in [
            (&[][..], vec![]),
            (&[0, 1], vec![]),
            (&[0, 2], turn(true)),
            (&[2], vec![]),
            (&[0], vec![]),
            (&[1], turn(false)),
            (&[0], vec![]), // again only with all
            (&[0, 2], turn(true)),
        ] {
            assert_eq!(two.review(|peer| present.contains(&peer.0)), expected, "{present:?}");
        }
        let mut configured = Aggregates::new(vec![aggregate(&[])]);
        assert_eq!(configured.review(|_| false), turn(true));
        assert_eq!(configured.review(|_| false), vec![]);
    }
}
