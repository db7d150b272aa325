//! What a worker finds under a prefix.

use crate::{
    mapping::{Adjacency, EidPrefix, LocatorSet},
    verdict::Reason,
};

/// What to do with packets to a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forwarding {
    /// Inside one of our EID-prefixes: sources are ours, and decapsulated packets are delivered.
    Local(Delivery),
    /// Remote: encapsulate to one of these locators.
    Encapsulate(LocatorSet),
    /// Negative with ACT 1: send without an outer header to this next hop.
    Native(Adjacency),
    /// Negative with ACT 2: every packet is a miss.
    Request,
    /// Drop and count.
    Drop(Reason),
}

/// How a local EID is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Through this next hop.
    Adjacent(Adjacency),
    /// Not known yet: a miss of kind [`Neighbour`](crate::verdict::Wanted::Neighbour).
    Unresolved,
}

/// One entry of the table.
#[derive(Debug)]
pub struct Entry {
    eid: EidPrefix,
    forwarding: Forwarding,
    /// Index of its counters.
    slot: u32,
}

impl Entry {
    pub(super) const fn new(eid: EidPrefix, forwarding: Forwarding, slot: u32) -> Self {
        Self { eid, forwarding, slot }
    }

    /// Index of its counters.
    #[inline]
    pub(super) const fn slot(&self) -> u32 {
        self.slot
    }

    /// The prefix it was found under.
    #[must_use]
    pub const fn eid(&self) -> EidPrefix {
        self.eid
    }

    /// What to do.
    #[inline]
    #[must_use]
    pub const fn forwarding(&self) -> &Forwarding {
        &self.forwarding
    }
}

/// What used an entry, over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hits {
    /// Packets.
    pub packets: u64,
    /// Inner octets.
    pub octets: u64,
}
