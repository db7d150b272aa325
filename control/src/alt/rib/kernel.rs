//! EID routes that another routing daemon (FRR, BIRD) puts into a table of the kernel's.
//!
//! ```text
//! netlink: Begin, Route(Dumped)…, End ─▶ what was there before and is not in the dump goes
//!          Route(Added), Route(Replaced), Gone ─▶ one route
//!          LinkDown, AddressGone, NextHopGone, Lost, a change that is ambiguous ─▶ Dump, at most every 100 ms
//! ```
//!
//! A route whose device is a tunnel's interface leads through the tunnel; blackhole, unreachable and prohibit routes are holes.
//! Others are of no use here and ignored. The kernel deletes routes without telling when a link goes down, loses its last
//! address, or when a next-hop object goes: the whole table is then read again.
//!
//! Of several routes for one prefix the lowest metric wins, and of several of one metric the one the kernel uses itself: the
//! first of the dump.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Eid, EidPrefix, InstanceId, Prefix};

use super::{Hop, Rib, lately::Lately};
use crate::{alt::tunnels::TunnelId, fault::faults, prefix_map::PrefixMap};

/// Most prefixes of one table.
pub const ROUTES_MAX: usize = 4_000_000;
/// Between the beginnings of two dumps.
const DUMP_EVERY: Duration = Duration::from_millis(100);
/// After a dump that the kernel refused.
const RETRY: Duration = Duration::from_secs(1);

/// A route as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoute {
    /// What it leads to.
    pub prefix: Prefix,
    /// The lower is preferred.
    pub metric: u32,
    /// Type of service; part of what tells routes apart.
    pub tos: u8,
    /// Where it leads.
    pub way: Way,
}

/// Where a route of the kernel's leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Out of one of these interfaces, by index; those that are usable.
    Devices(Vec<u32>),
    /// Nowhere, on purpose.
    Discard,
    /// To the machine itself, to another table, to a group.
    Other,
}

/// How a route came to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// In a dump.
    Dumped,
    /// As new, beside others of the same prefix and metric if there are some.
    Added,
    /// In place of the one of the same prefix and metric.
    Replaced,
}

/// What the machine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A dump begins.
    Begin,
    /// A route is there.
    Route(KernelRoute, Told),
    /// A route is gone.
    Gone(KernelRoute),
    /// The dump is over; whether nothing changed under it.
    End {
        /// It holds together.
        whole: bool,
    },
    /// The kernel refused the dump.
    Refused,
    /// A link is up.
    LinkUp(u32),
    /// A link is down.
    LinkDown(u32),
    /// A link, an address or a next-hop object is gone, and routes with it.
    Shaken,
    /// Notifications were lost.
    Lost,
    /// Time has passed.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Have the table dumped. No further dump is asked for before its end.
    Dump,
    /// Count this.
    Fault(RibFault),
}

faults! {
    /// What a table of the kernel's made difficult.
    RibFault {
        /// A route out of an interface that is no tunnel's.
        NotATunnel = "rib-not-a-tunnel",
        /// More prefixes than a table may have.
        Full = "rib-full",
        /// A dump that the kernel refused.
        Refused = "rib-dump-refused",
        /// Notifications that were lost, so that the table was read again.
        Lost = "rib-notifications-lost",
    }
}

/// One route of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    metric: u32,
    tos: u8,
    hop: Hop,
    /// Another of the same metric stands behind it.
    shadows: bool,
    round: u32,
}

impl Kept {
    const fn key(&self) -> (u32, u8) {
        (self.metric, self.tos)
    }
}

/// The machine, for one table and the instance it is the source of.
#[derive(Debug, Clone)]
pub struct KernelRib {
    instance: InstanceId,
    table: u32,
    devices: BTreeMap<u32, TunnelId>,
    /// Routes of each prefix, the preferred first; never empty.
    routes: PrefixMap<Vec<Kept>>,
    lately: Lately,
    limit: usize,
    down: BTreeSet<u32>,
    round: u32,
    dumping: bool,
    /// Another dump is wanted, not before this.
    wanted: Option<Instant>,
    begun: Option<Instant>,
    /// The first dump came to its end.
    read: bool,
}

impl KernelRib {
    /// The routes of `table` for `instance`; `devices` are the tunnels' interfaces by index. It starts with a
    /// [`Input::Wake`].
    #[must_use]
    pub fn new(instance: InstanceId, table: u32, devices: BTreeMap<u32, TunnelId>, now: Instant) -> Self {
        Self {
            instance,
            table,
            devices,
            routes: PrefixMap::new(),
            lately: Lately::default(),
            limit: ROUTES_MAX,
            down: BTreeSet::new(),
            round: 0,
            dumping: false,
            wanted: Some(now),
            begun: None,
            read: false,
        }
    }

    /// Whose routes they are.
    #[must_use]
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Number of the table.
    #[must_use]
    pub const fn table(&self) -> u32 {
        self.table
    }

    /// Whether the table was read once from beginning to end.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        self.read
    }

    /// Number of prefixes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.wanted.filter(|_| !self.dumping)
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input, todo: &mut Vec<Output>) {
        match input {
            Input::Begin => self.round = self.round.wrapping_add(1),
            Input::Route(route, told) => self.put(now, &route, told, todo),
            Input::Gone(route) => self.take(now, &route),
            Input::End { whole } => {
                self.dumping = false;
                self.read = true;
                self.sweep(now);
                if !whole {
                    self.want(now);
                }
            }
            Input::Refused => {
                self.dumping = false;
                self.wanted = Some(now + RETRY);
                todo.push(Output::Fault(RibFault::Refused));
            }
            Input::LinkUp(index) => drop(self.down.remove(&index)),
            Input::LinkDown(index) => {
                if self.down.insert(index) {
                    self.want(now);
                }
            }
            Input::Shaken => self.want(now),
            Input::Lost => {
                todo.push(Output::Fault(RibFault::Lost));
                self.want(now);
            }
            Input::Wake => {}
        }
        if !self.dumping && self.wanted.is_some_and(|wanted| wanted <= now) {
            self.wanted = None;
            self.begun = Some(now);
            self.dumping = true;
            todo.push(Output::Dump);
        }
    }

    /// Has the table read again, soon.
    fn want(&mut self, now: Instant) {
        let earliest = self.begun.map_or(now, |begun| (begun + DUMP_EVERY).max(now));
        self.wanted.get_or_insert(earliest);
    }

    /// What the last dump did not hold is gone.
    fn sweep(&mut self, now: Instant) {
        let (round, lately) = (self.round, &mut self.lately);
        self.routes.retain(|eid, kept| {
            kept.retain(|route| route.round == round);
            if kept.is_empty() {
                lately.lose(now, *eid);
            }
            !kept.is_empty()
        });
    }

    fn put(&mut self, now: Instant, route: &KernelRoute, told: Told, todo: &mut Vec<Output>) {
        let eid = EidPrefix { instance: self.instance, prefix: route.prefix };
        let Some(hop) = self.hop(&route.way) else {
            todo.push(Output::Fault(RibFault::NotATunnel));
            if told == Told::Replaced {
                self.remove(now, &eid, (route.metric, route.tos));
            }
            return;
        };
        let (round, full) = (self.round, self.routes.len() >= self.limit);
        let new = Kept { metric: route.metric, tos: route.tos, hop, shadows: false, round };
        let Some(kept) = self.routes.get_mut(&eid) else {
            if full {
                todo.push(Output::Fault(RibFault::Full));
            } else {
                self.routes.insert(eid, vec![new]);
            }
            return;
        };
        let Some(at) = kept.iter().position(|other| other.key() == new.key()) else {
            let at = kept.partition_point(|other| other.key() < new.key());
            kept.insert(at, new);
            return;
        };
        let old = &mut kept[at];
        match told {
            Told::Dumped if old.round == round => old.shadows |= old.hop != hop,
            Told::Dumped | Told::Replaced => *old = new,
            Told::Added if old.hop == hop => old.round = round,
            // Before or behind it? The dump will tell.
            Told::Added => self.want(now),
        }
    }

    fn take(&mut self, now: Instant, route: &KernelRoute) {
        let eid = EidPrefix { instance: self.instance, prefix: route.prefix };
        let Some(hop) = self.hop(&route.way) else { return };
        let key = (route.metric, route.tos);
        let old = self.routes.get(&eid).and_then(|kept| kept.iter().find(|kept| kept.key() == key)).copied();
        let Some(old) = old else { return };
        if old.hop == hop {
            self.remove(now, &eid, key);
        }
        if old.hop != hop || old.shadows {
            self.want(now);
        }
    }

    fn remove(&mut self, now: Instant, eid: &EidPrefix, key: (u32, u8)) {
        let Some(kept) = self.routes.get_mut(eid) else { return };
        kept.retain(|route| route.key() != key);
        if kept.is_empty() {
            self.routes.remove(eid);
            self.lately.lose(now, *eid);
        }
    }

    fn hop(&self, way: &Way) -> Option<Hop> {
        match way {
            Way::Discard => Some(Hop::Discard),
            Way::Devices(devices) => {
                devices.iter().find_map(|index| self.devices.get(index)).map(|tunnel| Hop::Tunnel(*tunnel))
            }
            Way::Other => None,
        }
    }
}

impl Rib for KernelRib {
    fn route(&self, instance: InstanceId, eid: IpAddr) -> Option<(Prefix, Hop)> {
        let (eid, kept) = self.routes.longest(Eid { instance, address: eid })?;
        Some((eid.prefix, kept[0].hop))
    }

    fn gap(&self, instance: InstanceId, eid: IpAddr) -> Prefix {
        self.routes.gap(Eid { instance, address: eid }).prefix
    }

    fn went_lately(&self, now: Instant, eid: Eid, length: Option<u8>) -> bool {
        self.lately.holds(now, eid, length)
    }
}
