//! What the speaker shows: neighbours, routes, sums.

use std::{ops::ControlFlow, time::Instant};

use altitude_dataplane::mapping::{EidPrefix, InstanceId};

use super::{RouteFault, Speaker};
use crate::{
    alt::{
        bgp::{
            peer::PeerStatus,
            rib::RouteSource,
            route::{Attributes, PeerId},
            settings::NeighborSettings,
        },
        rib::Hop,
    },
    fault::Tally,
};

/// A neighbour with its routes counted.
#[derive(Debug, Clone)]
pub struct NeighborStatus<'a> {
    /// Which.
    pub peer: PeerId,
    /// What it was configured with: name, addresses, AS.
    pub settings: &'a NeighborSettings,
    /// Its session.
    pub session: PeerStatus,
    /// Prefixes of it that are held.
    pub received: usize,
    /// Prefixes it was told.
    pub advertised: usize,
    /// Whether all was said that there is to say now.
    pub in_step: bool,
    /// Until when routes from before its restart are kept.
    pub stale_until: Option<Instant>,
    /// Routes not taken or held back, by reason.
    pub refused: Tally<RouteFault>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteView {
    /// Where to.
    pub eid: EidPrefix,
    /// Who it is from.
    pub source: RouteSource,
    /// Where it leads.
    pub hop: Hop,
    /// It is the one that is used.
    pub selected: bool,
    /// From before the neighbour's restart.
    pub stale: bool,
    /// Held back because it flaps.
    pub dampened: bool,
    /// Its path attributes as they came.
    pub attributes: Attributes,
}

/// How much there is of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceSummary {
    /// Which.
    pub instance: InstanceId,
    /// Prefixes known.
    pub prefixes: usize,
    /// Routes to them, over all neighbours.
    pub routes: usize,
    /// Different sets of path attributes.
    pub attribute_sets: usize,
}

/// How much there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Neighbours configured.
    pub neighbors: usize,
    /// Of them, with a session.
    pub established: usize,
    /// Of each instance with neighbours or prefixes.
    pub instances: Vec<InstanceSummary>,
    /// Whether nothing is announced yet, for this is a restart of ours (RFC 4724 §4.1).
    pub deferring: bool,
}

impl Speaker {
    /// Whether routes are exchanged with a neighbour.
    #[must_use]
    pub fn has_session(&self, peer: PeerId) -> bool {
        self.neighbors.get(peer.0).is_some_and(|neighbor| neighbor.link.is_some())
    }

    /// What is to be known of each neighbour, in the order of their numbers.
    pub fn neighbors(&self) -> impl Iterator<Item = NeighborStatus<'_>> {
        self.neighbors.iter().enumerate().map(|(index, neighbor)| {
            let table = &self.tables[&neighbor.settings().instance];
            let link = neighbor.link.as_ref();
            let told = |link: &super::neighbor::Link| !link.out.behind(table, u64::MAX) && !link.has_marks();
            NeighborStatus {
                peer: PeerId(index),
                settings: neighbor.settings(),
                session: neighbor.peer.status(),
                received: table.held(PeerId(index)),
                advertised: link.map_or(0, |link| link.out.count()),
                in_step: link.is_some_and(told) && self.deferred_until.is_none(),
                stale_until: neighbor.stale.iter().copied().flatten().max(),
                refused: neighbor.refused.clone(),
            }
        })
    }

    /// The first routes behind `after` (from the start without), by instance, address and length, IPv4 first, the selected
    /// route of a prefix first: `max` of them, and those that share the last one's prefix.
    #[must_use]
    pub fn routes(&self, after: Option<EidPrefix>, max: usize) -> Vec<RouteView> {
        let mut routes: Vec<RouteView> = Vec::new();
        let first = after.map_or(InstanceId::DEFAULT, |after| after.instance);
        for (instance, table) in self.tables.range(first..) {
            let after = after.filter(|after| after.instance == *instance).map(|after| after.prefix);
            table.show(after, &mut |shown| {
                let eid = EidPrefix { instance: *instance, prefix: shown.prefix };
                if routes.len() >= max && routes.last().is_none_or(|last| last.eid != eid) {
                    return ControlFlow::Break(());
                }
                routes.push(RouteView {
                    eid,
                    source: shown.source,
                    hop: self.hop(shown.source),
                    selected: shown.selected,
                    stale: shown.stale,
                    dampened: shown.dampened,
                    attributes: shown.attributes.clone(),
                });
                ControlFlow::Continue(())
            });
        }
        routes
    }

    /// How much there is.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let instances = self.tables.iter().map(|(instance, table)| {
            let (prefixes, routes) = table.counts();
            InstanceSummary { instance: *instance, prefixes, routes, attribute_sets: table.attributes.len() }
        });
        Summary {
            neighbors: self.neighbors.len(),
            established: self.neighbors.iter().filter(|neighbor| neighbor.link.is_some()).count(),
            instances: instances.collect(),
            deferring: self.deferred_until.is_some(),
        }
    }

    /// Where the routes of a source lead.
    pub(super) fn hop(&self, source: RouteSource) -> Hop {
        match source {
            RouteSource::Local | RouteSource::Aggregate => Hop::Discard,
            RouteSource::Peer(peer) => Hop::Tunnel(self.neighbors[peer.0].settings().tunnel),
        }
    }
}
