//! Routes of one instance: Adj-RIB-In of all neighbours, the decision, Loc-RIB, and what each neighbour was told.
//!
//! ```text
//! learn, forget ─▶ destination of the prefix: its routes, the selected one first ─▶ lookup
//!                    │ log: this destination changed
//!                    ▼
//!                 AdjOut of a neighbour: what it was told of each destination ─▶ announce, withdraw
//! ```
//!
//! A route is 16 octets beside its attributes, which all routes announced together share. Routes of a session that ended are told by
//! the number of the session they came in, so marking a million as stale is one addition; [`Table::sweep`] takes them out in
//! portions. What changed is noted once in a log that all neighbours read; each compares what it was told with what holds when its turn
//! comes, so a route that came and went in between costs it nothing.

mod adj_out;
mod decision;
mod interned;
mod log;
mod lost;
mod select;
#[cfg(test)]
pub(super) mod tests;
mod trie;

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    ops::ControlFlow,
};

use altitude_dataplane::mapping::Prefix;

pub(super) use adj_out::{AdjOut, Batch, Export, Told};
pub(super) use interned::{AttributesId, Interner};
use log::Log;
pub(super) use log::Position;
use trie::{Key, Trie};

use super::route::{Family, PeerId};
use crate::slab::Slab;

/// No route.
const NONE: u32 = u32::MAX;

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

/// [`RouteSource`] in two octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin(u16);

impl Origin {
    const LOCAL: Self = Self(u16::MAX);
    const AGGREGATE: Self = Self(u16::MAX - 1);
    /// Nobody, where no route is selected.
    const NOBODY: Self = Self(u16::MAX - 2);
    /// Nobody any more: see [`lost`].
    const LOST: Self = Self(u16::MAX - 3);

    const fn of(source: RouteSource) -> Self {
        match source {
            RouteSource::Local => Self::LOCAL,
            RouteSource::Aggregate => Self::AGGREGATE,
            RouteSource::Peer(peer) => Self(peer.0 as u16),
        }
    }

    const fn source(self) -> RouteSource {
        match self {
            Self::LOCAL => RouteSource::Local,
            Self::AGGREGATE => RouteSource::Aggregate,
            Self(peer) => RouteSource::Peer(PeerId(peer as usize)),
        }
    }
}

#[derive(Debug)]
struct Route {
    attributes: AttributesId,
    /// Of the same destination.
    next: u32,
    origin: Origin,
    /// The session it came in; older ones than the neighbour's are stale.
    session: u16,
    dampened: bool,
}

#[derive(Debug)]
struct Destination {
    prefix: Prefix,
    /// Of its routes; the selected one if there is one.
    first: u32,
    /// Whether the first is selected; none is while all are held back.
    selected: bool,
    /// Neighbours that were told of it.
    told: u16,
    /// Stays although it may have no routes: see [`lost`].
    remembered: bool,
    /// Where in the log it was last noted.
    noted: Option<Position>,
}

/// What the table knows of a neighbour.
#[derive(Debug, Clone)]
struct Neighbor {
    external: bool,
    address: IpAddr,
    router_id: Ipv4Addr,
    /// The number of the session, for each family.
    sessions: [u16; 2],
    /// Prefixes held.
    held: usize,
}

/// A route as it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) prefix: Prefix,
    pub(super) source: RouteSource,
    pub(super) selected: bool,
    pub(super) stale: bool,
    pub(super) dampened: bool,
    pub(super) attributes: &'a super::route::Attributes,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    tries: [Trie; 2],
    destinations: Slab<Destination>,
    /// Who the selected route of each destination is from: all that a look-up reads beside the trie.
    ways: Vec<Origin>,
    routes: Slab<Route>,
    pub(super) attributes: Interner,
    neighbors: Vec<Neighbor>,
    log: Log,
    /// Neighbours that read the log.
    readers: usize,
    /// Aggregates whose components stay here.
    summaries: Vec<Prefix>,
    /// All aggregates of ours.
    aggregates: Vec<Prefix>,
    /// Destinations that are remembered, the oldest first.
    remembered: VecDeque<u32>,
    changed: bool,
    /// Prefixes without a usable route of a neighbour's any more, since this was asked last.
    gone: Vec<Prefix>,
    counts: (usize, usize),
}

impl Table {
    /// A table for neighbours, of whom each is of another AS or not and has an address, in the order of [`PeerId`].
    pub(super) fn new(neighbors: impl Iterator<Item = (bool, IpAddr)>) -> Self {
        let neighbor = |(external, address)| Neighbor {
            external,
            address,
            router_id: Ipv4Addr::UNSPECIFIED,
            sessions: [0; 2],
            held: 0,
        };
        Self {
            tries: [Trie::new(), Trie::new()],
            destinations: Slab::new(),
            ways: Vec::new(),
            routes: Slab::new(),
            attributes: Interner::new(),
            neighbors: neighbors.map(neighbor).collect(),
            log: Log::default(),
            readers: 0,
            summaries: Vec::new(),
            aggregates: Vec::new(),
            remembered: VecDeque::new(),
            changed: false,
            gone: Vec::new(),
            counts: (0, 0),
        }
    }

    /// A neighbour's session is there, under this identifier.
    pub(super) fn identify(&mut self, peer: PeerId, router_id: Ipv4Addr) {
        self.neighbors[peer.0].router_id = router_id;
    }

    /// Takes a route in, in place of the source's route before to the prefix. The table takes over the caller's hold of
    /// `attributes`. Returns whether the attributes are others than before; `None` if there was no route.
    pub(super) fn learn(
        &mut self,
        source: RouteSource,
        prefix: Prefix,
        attributes: AttributesId,
        dampened: bool,
    ) -> Option<bool> {
        let origin = Origin::of(source);
        let session = self.session(source, Family::of(&prefix));
        let destinations = &mut self.destinations;
        let fresh = || {
            destinations.insert(Destination {
                prefix,
                first: NONE,
                selected: false,
                told: 0,
                remembered: false,
                noted: None,
            })
        };
        let number = self.tries[family(&prefix)].get_or_insert(Key::from(&prefix), fresh);
        if source == RouteSource::Aggregate && !self.aggregates.contains(&prefix) {
            self.aggregates.push(prefix);
        }
        let before = self.choice(number);
        let found = self.find(number, origin);
        let (changed, released) = match found {
            Some((_, at)) => {
                let route = &mut self.routes[at];
                let released = std::mem::replace(&mut route.attributes, attributes);
                (route.session, route.dampened) = (session, dampened);
                (Some(released != attributes), Some(released))
            }
            None => {
                self.append(number, Route { attributes, next: NONE, origin, session, dampened });
                (None, None)
            }
        };
        self.select(number);
        self.note(number, before);
        // Not before: the number of the set could have been given out again.
        released.into_iter().for_each(|released| self.attributes.release(released));
        changed
    }

    /// Takes a source's route to a prefix out; false if there is none.
    pub(super) fn forget(&mut self, source: RouteSource, prefix: &Prefix) -> bool {
        let Some(number) = self.tries[family(prefix)].get(Key::from(prefix)) else { return false };
        match self.find(number, Origin::of(source)) {
            Some((before, at)) => {
                self.take_out(number, before, at);
                if source == RouteSource::Aggregate {
                    self.end_aggregate(prefix);
                }
                true
            }
            None => false,
        }
    }

    /// Holds a route back, or uses it again.
    pub(super) fn dampen(&mut self, source: RouteSource, prefix: &Prefix, dampened: bool) {
        let Some(number) = self.tries[family(prefix)].get(Key::from(prefix)) else { return };
        let Some((_, at)) = self.find(number, Origin::of(source)) else { return };
        let before = self.choice(number);
        self.routes[at].dampened = dampened;
        self.select(number);
        self.note(number, before);
    }

    /// Whether a neighbour's route to this prefix is held.
    pub(super) fn holds(&self, peer: PeerId, prefix: &Prefix) -> bool {
        let number = self.tries[family(prefix)].get(Key::from(prefix));
        number.is_some_and(|number| self.find(number, Origin::of(RouteSource::Peer(peer))).is_some())
    }

    /// Everything that a neighbour has announced of a family so far is stale from now on.
    pub(super) fn age(&mut self, peer: PeerId, family: Family) {
        let session = &mut self.neighbors[peer.0].sessions[family as usize];
        *session = session.wrapping_add(1);
    }

    /// Takes a neighbour's stale routes out, of at most `max` destinations from `start` on; returns where to go on.
    pub(super) fn sweep(&mut self, peer: PeerId, families: [bool; 2], start: u32, max: u32) -> Option<u32> {
        let origin = Origin::of(RouteSource::Peer(peer));
        let end = self.destinations.places().min(start.saturating_add(max));
        for number in start..end {
            let Some(destination) = self.destinations.get(number) else { continue };
            let of = Family::of(&destination.prefix);
            if !families[of as usize] {
                continue;
            }
            let current = self.neighbors[peer.0].sessions[of as usize];
            match self.find(number, origin) {
                Some((before, at)) if self.routes[at].session != current => self.take_out(number, before, at),
                _ => {}
            }
        }
        (end < self.destinations.places()).then_some(end)
    }

    /// The prefixes below `prefix` are no longer announced, or again. Whoever reads the table goes through it all anew.
    pub(super) fn summarize(&mut self, prefix: Prefix, only: bool) {
        self.summaries.retain(|other| *other != prefix);
        if only {
            self.summaries.push(prefix);
        }
    }

    /// The length of the longest match, and who its route is from; nothing where an aggregate of ours would answer for a component
    /// that is lost.
    pub(super) fn lookup(&self, address: IpAddr) -> Option<(u8, RouteSource)> {
        let mut lost = false;
        for (length, number) in self.tries[usize::from(!address.is_ipv4())].matches(Key::left(address)) {
            match self.way(number) {
                Origin::NOBODY => {}
                Origin::LOST => lost = true,
                Origin::AGGREGATE if lost => return None,
                way => return Some((length, way.source())),
            }
        }
        None
    }

    fn way(&self, number: u32) -> Origin {
        self.ways.get(number as usize).copied().unwrap_or(Origin::NOBODY)
    }

    /// The widest prefix around `address` inside its longest match, be that lost, that no other route and nothing lost reaches into.
    pub(super) fn gap(&self, address: IpAddr) -> Prefix {
        let trie = &self.tries[usize::from(!address.is_ipv4())];
        let live = |number: u32| self.way(number) != Origin::NOBODY;
        let around = trie.matches(Key::left(address)).find(|(_, number)| live(*number)).map_or(0, |(length, _)| length);
        let length = trie.gap(Key::left(address), around, &live);
        Prefix::new(address, length).expect("a length of the family")
    }

    /// Shows the routes behind `after` in the order of prefixes, until `show` has had enough.
    pub(super) fn show<'a>(&'a self, after: Option<Prefix>, show: &mut dyn FnMut(Shown<'a>) -> ControlFlow<()>) {
        for family in Family::ALL {
            let start = match after {
                Some(after) if Family::of(&after) > family => continue,
                Some(after) if Family::of(&after) == family => Key::from(&after),
                _ => Key { bits: 0, length: 0 },
            };
            let mut visit = |number: u32| {
                let destination = &self.destinations[number];
                let mut at = if Some(destination.prefix) == after { NONE } else { destination.first };
                let mut selected = destination.selected;
                while at != NONE {
                    let route = &self.routes[at];
                    let source = route.origin.source();
                    show(Shown {
                        prefix: destination.prefix,
                        source,
                        selected: std::mem::take(&mut selected),
                        stale: route.session != self.session(source, family),
                        dampened: route.dampened,
                        attributes: &self.attributes.get(route.attributes).attributes,
                    })?;
                    at = route.next;
                }
                ControlFlow::Continue(())
            };
            if self.tries[family as usize].visit(start, &mut visit).is_break() {
                return;
            }
        }
    }

    /// Prefixes of a neighbour that are held.
    pub(super) fn held(&self, peer: PeerId) -> usize {
        self.neighbors[peer.0].held
    }

    /// Prefixes, and routes to them.
    pub(super) const fn counts(&self) -> (usize, usize) {
        self.counts
    }

    /// Whether any selection has changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The prefixes whose last route, a neighbour's, has gone since this was asked last; some may have one again.
    pub(super) fn take_gone(&mut self) -> Vec<Prefix> {
        std::mem::take(&mut self.gone)
    }

    fn session(&self, source: RouteSource, family: Family) -> u16 {
        match source {
            RouteSource::Peer(peer) => self.neighbors[peer.0].sessions[family as usize],
            RouteSource::Local | RouteSource::Aggregate => 0,
        }
    }
}

fn family(prefix: &Prefix) -> usize {
    Family::of(prefix) as usize
}
