//! What the control plane puts under a prefix, what a look-up finds there, and where its packets go.

use std::num::NonZeroU32;

use crate::{
    mapping::{Adjacency, LocatorSet, NextHop, OuterHeader},
    verdict::Reason,
};

/// What the control plane wants done with packets to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// Inside one of our EID-prefixes: sources are ours, and decapsulated packets are delivered.
    Local(Delivery),
    /// Remote: encapsulate to one of the locators of this set ([`Writer::add_set`](super::Writer::add_set)).
    Encapsulate(SetId),
    /// Negative with ACT 1: send without an outer header to this next hop.
    Native(Adjacency),
    /// The same, but each destination has a next hop of its own: an entry for the host, or a miss of kind
    /// [`Neighbour`](crate::verdict::Wanted::Neighbour).
    NativeByHost,
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

/// A locator-set in the table, shared by all mappings that have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetId(pub(super) Action);

/// How packets for a locator-set leave at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// By these headers.
    Tunnel(LocatorSet),
    /// Its paths are being resolved: every packet is a miss.
    Request,
    /// Not at all: no locator of it can be used ([`Reason::NoUsableLocator`]).
    Unusable,
}

/// Where packets under an entry go, as a worker reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// To a host of the site, by this next hop.
    Deliver(&'a NextHop),
    /// To a host of the site whose next hop must be asked for.
    Unresolved,
    /// Into a tunnel: behind this header.
    Tunnel(&'a OuterHeader),
    /// As they are, to this next hop.
    Native(&'a NextHop),
    /// As they are, to a next hop that must be asked for.
    NativeUnresolved,
    /// Ask for the mapping.
    Request,
    /// Nowhere.
    Drop(Reason),
}

/// What a look-up finds; good for the turn it was found in.
///
/// The number of a slot: of its action in the table, of its counters in each worker, of the writer's record. Slot 0 is
/// nobody's, which in the table means "nothing here".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(NonZeroU32);

/// The same as words of the table: zero is `None`.
#[inline(always)]
pub(super) const fn slots_of(entries: &mut [Option<Entry>]) -> &mut [u32] {
    // SAFETY: `Option<NonZeroU32>` is as long and aligned as `u32`, each of whose values it can hold; so is what is
    // transparent to it. The slice borrowed stays borrowed.
    unsafe { std::slice::from_raw_parts_mut(entries.as_mut_ptr().cast(), entries.len()) }
}

impl Entry {
    /// From a word of the table; `None` from zero.
    #[inline(always)]
    pub(super) const fn from_slot(slot: u32) -> Option<Self> {
        match NonZeroU32::new(slot) {
            Some(slot) => Some(Self(slot)),
            None => None,
        }
    }

    #[inline(always)]
    pub(super) const fn slot(self) -> u32 {
        self.0.get()
    }

    /// A number that no other entry has at the same time.
    pub(crate) const fn number(self) -> u32 {
        self.slot()
    }
}

/// What to do, in 32 bits: kind in the low three, an index or a reason above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Action(pub(super) u32);

/// The kinds of [`Action`]; none is zero.
pub(super) struct Kind;

impl Kind {
    pub(super) const UNRESOLVED: u32 = 1;
    /// Index of a next hop.
    pub(super) const DELIVER: u32 = 2;
    /// Index of a line: a set of at most eight locators.
    pub(super) const NARROW: u32 = 3;
    /// Index of the first of several lines.
    pub(super) const WIDE: u32 = 4;
    /// Index of a next hop.
    pub(super) const NATIVE: u32 = 5;
    /// [`Kind::MAPPING`] or [`Kind::NEXT_HOP`]: what is asked for.
    pub(super) const REQUEST: u32 = 6;
    /// Number of a [`Reason`].
    pub(super) const DROP: u32 = 7;

    /// Index under [`Kind::REQUEST`].
    pub(super) const MAPPING: u32 = 0;
    /// The same: of a destination that is no EID.
    pub(super) const NEXT_HOP: u32 = 1;
}

impl Action {
    pub(super) const fn new(kind: u32, index: u32) -> Self {
        Self(index << 3 | kind)
    }

    #[inline(always)]
    pub(super) const fn kind(self) -> u32 {
        self.0 & 7
    }

    #[inline(always)]
    pub(super) const fn index(self) -> u32 {
        self.0 >> 3
    }

    /// Whether the prefix is one of ours.
    #[inline(always)]
    pub(super) const fn is_local(self) -> bool {
        matches!(self.kind(), Kind::UNRESOLVED | Kind::DELIVER)
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
