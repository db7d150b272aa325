//! What the speaker shows: neighbours, routes, sums.

use std::time::Instant;

use altitude_dataplane::mapping::{EidPrefix, InstanceId};

use super::RouteFault;
use crate::{
    alt::{
        bgp::{
            peer::PeerStatus,
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

/// Who a route is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteSource {
    /// Announced as our own.
    Local,
    /// An aggregate of ours.
    Aggregate,
    /// A neighbour.
    Peer(PeerId),
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
