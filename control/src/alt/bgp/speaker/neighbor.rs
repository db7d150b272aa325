//! One neighbour's part of the speaker: what hangs on its session, and what outlives it.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::RouteFault;
use crate::{
    alt::bgp::{
        dampening::Dampener,
        peer::{Peer, Session},
        rib::{AdjOut, Position, Table, Told},
        route::Family,
        settings::{Families, NeighborSettings},
    },
    fault::{Fault, Tally},
};

/// Octets written to a connection and not yet taken by its socket, above which nothing more is announced on it.
const WINDOW: usize = 64 * 1024;

/// What hangs on a session.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: Session,
    pub(super) out: AdjOut,
    /// Octets written since the socket had taken all.
    pub(super) in_flight: usize,
    /// Up to where in the log may be told now; `None` until the time of the next announcements.
    pub(super) round: Option<Position>,
    pub(super) next_round: Instant,
    /// Something was told in this round.
    pub(super) spoke: bool,
    /// Default routes of our own that are to be told.
    pub(super) defaults: Families,
    /// Families whose first exchange we have yet to end.
    pub(super) end_of_rib: Families,
    /// Families whose repetition we have yet to end (RFC 7313).
    pub(super) end_of_refresh: Families,
    /// Families whose first exchange the neighbour has yet to end.
    pub(super) awaited: Families,
    /// Kinds of refused routes that were said.
    pub(super) said: Vec<bool>,
    pub(super) warned: bool,
}

impl Link {
    pub(super) fn new(session: Session, table: &mut Table, defaults: bool, now: Instant) -> Self {
        let families = session.families;
        Self {
            out: AdjOut::new(table),
            in_flight: 0,
            round: None,
            next_round: now,
            spoke: false,
            defaults: if defaults { families } else { Families::NONE },
            end_of_rib: families,
            end_of_refresh: Families::NONE,
            awaited: if session.graceful.is_some() { families } else { Families::NONE },
            said: vec![false; RouteFault::ALL.len()],
            warned: false,
            session,
        }
    }

    pub(super) const fn blocked(&self) -> bool {
        self.in_flight >= WINDOW
    }

    /// Whether marks or default routes wait to be sent.
    pub(super) fn has_marks(&self) -> bool {
        let ends = self.out.scanned() && !(self.end_of_rib.is_empty() && self.end_of_refresh.is_empty());
        ends || !self.defaults.is_empty()
    }

    /// When something can be announced next, as far as the neighbour lets us; `now` or before is at once.
    fn due(&self, table: &Table, interval: Duration, now: Instant) -> Option<Instant> {
        if self.blocked() {
            return None;
        }
        if self.has_marks() {
            return Some(now);
        }
        let at_once = interval.is_zero() || self.round.is_some();
        self.out.behind(table, Position::MAX).then_some(if at_once { now } else { self.next_round })
    }
}

/// Stale routes that are being taken out.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) next: u32,
    pub(super) families: [bool; 2],
}

/// One neighbour.
#[derive(Debug)]
pub(super) struct Neighbor {
    pub(super) peer: Peer,
    pub(super) link: Option<Link>,
    /// Until when stale routes are kept, by family.
    pub(super) stale: [Option<Instant>; 2],
    pub(super) sweep: Option<Sweep>,
    /// What was told in sessions that are gone.
    pub(super) graves: Vec<Told>,
    pub(super) dampener: Option<Dampener>,
    pub(super) refused: Tally<RouteFault>,
}

impl Neighbor {
    pub(super) fn new(peer: Peer, external: bool) -> Self {
        let dampening = peer.settings().dampening.filter(|_| external);
        Self {
            link: None,
            stale: [None; 2],
            sweep: None,
            graves: Vec::new(),
            dampener: dampening.map(Dampener::new),
            refused: Tally::default(),
            peer,
        }
    }

    pub(super) const fn settings(&self) -> &NeighborSettings {
        self.peer.settings()
    }

    /// Whether it has a session, or had one and its routes are kept.
    pub(super) fn present(&self) -> bool {
        self.link.is_some() || self.stale.iter().any(Option::is_some)
    }

    /// Its stale routes of `family` are to go.
    pub(super) fn sweep(&mut self, family: Family) {
        let mut families = self.sweep.take().map_or([false; 2], |sweep| sweep.families);
        families[family as usize] = true;
        self.sweep = Some(Sweep { next: 0, families });
    }

    /// The next hop it is told for a family; without an address of the family on the tunnel it is told no routes.
    pub(super) fn next_hop(&self, family: Family) -> Option<IpAddr> {
        let settings = self.settings();
        let usable = |address: &IpAddr| match address {
            IpAddr::V4(_) => family == Family::V4,
            IpAddr::V6(v6) => family == Family::V6 && !v6.is_unicast_link_local(),
        };
        let others = settings.tunnel_addresses.iter().map(|(address, _)| *address);
        std::iter::once(settings.local).chain(others).find(usable)
    }

    /// Whether something is left to do that waits for nothing.
    pub(super) const fn has_chores(&self) -> bool {
        self.sweep.is_some() || !self.graves.is_empty()
    }

    /// When it wants to be woken; `silent`: nothing is announced yet.
    pub(super) fn due(&self, table: &Table, silent: bool, now: Instant) -> Option<Instant> {
        let interval = self.settings().advertisement_interval;
        let link = self.link.as_ref().filter(|_| !silent).and_then(|link| link.due(table, interval, now));
        let chores = self.has_chores().then_some(now);
        let dampener = self.dampener.as_ref().and_then(Dampener::due);
        let stale = self.stale.iter().copied().flatten().min();
        [self.peer.due(), link, chores, dampener, stale].into_iter().flatten().min()
    }
}
