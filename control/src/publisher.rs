//! Compiles what the control plane knows into what workers read, and keeps it so while paths change.
//!
//! ```text
//! mapping (map-cache)  ─┐
//! EID-prefix (database) ├─ + path to each RLOC, host (underlay) → Forwarding → cache::Writer → workers
//! host of the site     ─┘
//! ```
//!
//! The only owner of the [`Writer`]. It keeps an index from each RLOC to the prefixes that use it, so that a changed
//! path recompiles those prefixes and no others.

use std::net::IpAddr;

use altitude_dataplane::{
    cache::{Delivery, Forwarding, Hits, Writer},
    mapping::{
        Action, Adjacency, Candidate, Eid, EidPrefix, InstanceId, Locator, LocatorSet, Mapping, OuterHeader, Prefix,
    },
    verdict::Reason,
};
use hashbrown::{HashMap, HashSet};

/// Rounds of [`Publisher::age_hosts`] without a packet after which a site host is forgotten.
const IDLE_ROUNDS: u8 = 10;

/// How far the underlay is with one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Frames can be sent.
    Ready(Adjacency),
    /// The route or the next hop's link-layer address is being asked for.
    Waiting,
    /// No route, or not through one of our ports.
    Unreachable,
}

/// What the publisher asks the underlay.
pub trait Paths {
    /// How to reach `destination`, which is being watched.
    fn path(&self, destination: IpAddr) -> Path;

    /// The source address the routing table prefers towards `destination`, if it names one.
    fn source(&self, destination: IpAddr) -> Option<IpAddr>;
}

/// What must be watched from now on, or no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Keep the path to this destination resolved, and report its changes.
    Start(IpAddr),
    /// Nobody needs it any more.
    Stop(IpAddr),
}

/// Who needs the path to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum User {
    Mapping(EidPrefix),
    Host(Eid),
}

/// Traffic to a site host, as last seen by [`Publisher::age_hosts`].
#[derive(Debug, Clone, Copy, Default)]
struct HostUse {
    packets: u64,
    idle_rounds: u8,
}

/// Limits and identity of the box.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our RLOCs, in order of preference within a family.
    pub rlocs: Vec<IpAddr>,
    /// Most site hosts whose link-layer address is kept at one time.
    pub hosts_max: usize,
}

/// See the module's text.
pub struct Publisher {
    settings: Settings,
    writer: Writer,
    mappings: HashMap<EidPrefix, Mapping>,
    hosts: HashMap<Eid, HostUse>,
    users: HashMap<IpAddr, HashSet<User>>,
    /// Prefixes published as "ask", only because their path is not ready.
    waiting: HashSet<EidPrefix>,
    dirty: bool,
    /// Entries refused because the table was full.
    refused: u64,
}

impl Publisher {
    /// A publisher that writes to an empty table.
    #[must_use]
    pub fn new(settings: Settings, writer: Writer) -> Self {
        Self {
            settings,
            writer,
            mappings: HashMap::new(),
            hosts: HashMap::new(),
            users: HashMap::new(),
            waiting: HashSet::new(),
            dirty: false,
            refused: 0,
        }
    }

    /// Makes a prefix ours: packets from it are encapsulated, packets to it delivered.
    pub fn own(&mut self, eid: EidPrefix) {
        self.put(eid, Forwarding::Local(Delivery::Unresolved));
    }

    /// Publishes a mapping, or its successor.
    pub fn show(&mut self, mapping: Mapping, paths: &dyn Paths, todo: &mut Vec<Watch>) {
        let eid = mapping.eid;
        let wanted = watched(&mapping);
        if let Some(old) = self.mappings.insert(eid, mapping) {
            for destination in watched(&old).into_iter().filter(|destination| !wanted.contains(destination)) {
                self.leave(destination, User::Mapping(eid), todo);
            }
        }
        for destination in wanted {
            self.join(destination, User::Mapping(eid), todo);
        }
        self.recompile(eid, paths);
    }

    /// Takes a mapping back.
    pub fn hide(&mut self, eid: &EidPrefix, todo: &mut Vec<Watch>) {
        let Some(mapping) = self.mappings.remove(eid) else { return };
        for destination in watched(&mapping) {
            self.leave(destination, User::Mapping(*eid), todo);
        }
        self.waiting.remove(eid);
        self.dirty |= self.writer.remove(eid);
    }

    /// Has the path to a host of the site resolved, because a worker wants to deliver to it.
    pub fn want_host(&mut self, eid: Eid, paths: &dyn Paths, todo: &mut Vec<Watch>) {
        if self.hosts.contains_key(&eid) {
            return;
        }
        if self.hosts.len() >= self.settings.hosts_max {
            self.refused += 1;
            return;
        }
        self.hosts.insert(eid, HostUse::default());
        self.join(eid.address, User::Host(eid), todo);
        self.redeliver(eid, paths);
    }

    /// The path to a watched destination changed: recompiles whoever uses it.
    pub fn path_changed(&mut self, destination: IpAddr, paths: &dyn Paths) {
        let Some(users) = self.users.get(&destination) else { return };
        for user in users.iter().copied().collect::<Vec<_>>() {
            match user {
                User::Mapping(eid) => self.recompile(eid, paths),
                User::Host(eid) => self.redeliver(eid, paths),
            }
        }
    }

    /// One round of ageing: forgets site hosts that got no packet for ten rounds.
    pub fn age_hosts(&mut self, todo: &mut Vec<Watch>) {
        let mut idle = Vec::new();
        for (&eid, used) in &mut self.hosts {
            let packets = self.writer.hits(&EidPrefix::host(eid)).unwrap_or_default().packets;
            used.idle_rounds = if packets == used.packets { used.idle_rounds + 1 } else { 0 };
            used.packets = packets;
            if used.idle_rounds >= IDLE_ROUNDS {
                idle.push(eid);
            }
        }
        for eid in idle {
            self.hosts.remove(&eid);
            self.leave(eid.address, User::Host(eid), todo);
            self.dirty |= self.writer.remove(&EidPrefix::host(eid));
        }
    }

    /// Whether a mapping for `eid` is there and only its path is missing: asking the mapping system would not help.
    #[must_use]
    pub fn waits_for_path(&self, eid: Eid) -> bool {
        self.waiting.iter().any(|prefix| prefix.contains(eid))
    }

    /// Shows the workers all changes since the last call, in one step; false if there were none.
    pub fn publish(&mut self) -> bool {
        self.writer.reclaim();
        // Refused while a worker hangs and too many tables wait for it: the changes stay for the next call.
        let shown = self.dirty && self.writer.publish();
        self.dirty &= !shown;
        shown
    }

    /// What used the entry of exactly this prefix.
    #[must_use]
    pub fn hits(&self, eid: &EidPrefix) -> Hits {
        self.writer.hits(eid).unwrap_or_default()
    }

    /// Retired tables that a worker may still read.
    pub fn limbo(&mut self) -> usize {
        self.writer.reclaim()
    }

    /// Entries refused because a limit was reached.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn recompile(&mut self, eid: EidPrefix, paths: &dyn Paths) {
        let Some(mapping) = self.mappings.get(&eid) else { return };
        let compiled = self.compile(mapping, paths);
        if compiled.is_none() {
            self.waiting.insert(eid);
        } else {
            self.waiting.remove(&eid);
        }
        // While it waits every packet is a miss, so workers hold what they may hold.
        self.put(eid, compiled.unwrap_or(Forwarding::Request));
    }

    fn redeliver(&mut self, eid: Eid, paths: &dyn Paths) {
        let prefix = EidPrefix::host(eid);
        match paths.path(eid.address) {
            Path::Ready(adjacency) => self.put(prefix, Forwarding::Local(Delivery::Adjacent(adjacency))),
            // The covering prefix is Local and unresolved: back to asking.
            Path::Waiting | Path::Unreachable => self.dirty |= self.writer.remove(&prefix),
        }
    }

    /// `None` while it hangs on a path that is being resolved.
    fn compile(&self, mapping: &Mapping, paths: &dyn Paths) -> Option<Forwarding> {
        if mapping.is_negative() {
            return self.compile_negative(mapping, paths);
        }
        let mut waiting = false;
        let candidates: Vec<Candidate> = mapping
            .locators
            .iter()
            .map(|locator| {
                let outer = self.header(locator, mapping.eid.instance, paths, &mut waiting);
                Candidate { address: locator.address, priority: locator.priority, weight: locator.weight, outer }
            })
            .collect();
        match LocatorSet::compile(&candidates) {
            Some(set) => Some(Forwarding::Encapsulate(set)),
            None if waiting => None,
            None => Some(Forwarding::Drop(Reason::NoUsableLocator)),
        }
    }

    fn compile_negative(&self, mapping: &Mapping, paths: &dyn Paths) -> Option<Forwarding> {
        Some(match mapping.action {
            Action::NoAction => Forwarding::Drop(Reason::ActNoAction),
            Action::SendMapRequest => Forwarding::Request,
            Action::Drop => Forwarding::Drop(Reason::ActDrop),
            Action::DropPolicyDenied => Forwarding::Drop(Reason::ActPolicyDenied),
            Action::DropAuthFailure => Forwarding::Drop(Reason::ActAuthFailure),
            Action::NativelyForward => match paths.path(representative(&mapping.eid.prefix)) {
                Path::Ready(adjacency) => Forwarding::Native(adjacency),
                Path::Waiting => return None,
                Path::Unreachable => Forwarding::Drop(Reason::NativeNoRoute),
            },
        })
    }

    /// The outer header towards a locator, if it can be used now (RFC 9300 §9).
    fn header(
        &self,
        locator: &Locator,
        instance: InstanceId,
        paths: &dyn Paths,
        waiting: &mut bool,
    ) -> Option<OuterHeader> {
        if !locator.usable() {
            return None;
        }
        let source = self.source(locator.address, paths)?;
        match paths.path(locator.address) {
            Path::Ready(adjacency) => OuterHeader::new(&adjacency, source, locator.address, instance),
            Path::Waiting => {
                *waiting = true;
                None
            }
            Path::Unreachable => None,
        }
    }

    /// Our RLOC of the locator's family: the one the routing table prefers, else the first configured.
    fn source(&self, destination: IpAddr, paths: &dyn Paths) -> Option<IpAddr> {
        let ours = |address: &IpAddr| self.settings.rlocs.contains(address);
        paths
            .source(destination)
            .filter(ours)
            .or_else(|| self.settings.rlocs.iter().copied().find(|rloc| rloc.is_ipv4() == destination.is_ipv4()))
    }

    fn put(&mut self, eid: EidPrefix, forwarding: Forwarding) {
        match self.writer.insert(eid, forwarding) {
            Ok(()) => self.dirty = true,
            Err(_) => self.refused += 1,
        }
    }

    fn join(&mut self, destination: IpAddr, user: User, todo: &mut Vec<Watch>) {
        let users = self.users.entry(destination).or_default();
        if users.is_empty() {
            todo.push(Watch::Start(destination));
        }
        users.insert(user);
    }

    fn leave(&mut self, destination: IpAddr, user: User, todo: &mut Vec<Watch>) {
        let Some(users) = self.users.get_mut(&destination) else { return };
        users.remove(&user);
        if users.is_empty() {
            self.users.remove(&destination);
            todo.push(Watch::Stop(destination));
        }
    }
}

/// Destinations whose paths a mapping hangs on.
fn watched(mapping: &Mapping) -> Vec<IpAddr> {
    if mapping.is_negative() {
        let native = mapping.action == Action::NativelyForward;
        return native.then(|| representative(&mapping.eid.prefix)).into_iter().collect();
    }
    mapping.locators.iter().filter(|locator| locator.usable()).map(|locator| locator.address).collect()
}

/// The address whose route stands for a natively forwarded prefix: the first that a host could have.
fn representative(prefix: &Prefix) -> IpAddr {
    match prefix.address() {
        address if prefix.is_host() => address,
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() | 1).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() | 1).into()),
    }
}

#[cfg(test)]
mod tests;
