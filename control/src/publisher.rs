//! Compiles what the control plane knows into what workers read, and keeps it so while paths change.
//!
//! ```text
//! mapping (map-cache)  ─┐
//! EID-prefix (database) ├─ + path to each RLOC, host (underlay), answers to probes (prober) → sets, entries → cache::Writer → workers
//! host of the site     ─┘
//! ```
//!
//! The only owner of the [`Writer`]. Of mappings it keeps their locator-sets alone, one in the workers' table for each that
//! the map-cache numbers: which prefix has which is the map-cache's to know. An index from each RLOC to the sets that use
//! it has a changed path recompile those sets; the mappings, however many, follow without being touched.

mod choose;
mod marks;
mod native;
mod proxy;
mod report;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use altitude_dataplane::{
    cache::{Delivery, Forwarding, Hits, SetId, Writer},
    features::Features,
    mapping::{Action, Adjacency, Eid, EidPrefix, InstanceId, Locator, Mapping, Mark, Nonce},
    verdict::Reason,
};
use hashbrown::HashMap;

use self::users::{User, Users};
use crate::{
    map_cache::{MapCache, SetNumber},
    prefix_map::PrefixMap,
    prober,
    slab::Chunked,
};

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

    /// What RLOC-probes say of a locator.
    fn probed(&self, _locator: IpAddr) -> prober::State {
        prober::State::Unknown
    }

    /// The nonce that packets to a locator carry.
    fn nonce(&self, _locator: IpAddr) -> Option<Nonce> {
        None
    }

    /// The one UDP port that all our data packets come from, while we are behind a NAT
    /// (draft-ermagan-lisp-nat-traversal-19 §5.1.3). When it changes, [`Publisher::ports_changed`].
    fn source_port(&self) -> Option<u16> {
        None
    }

    /// Locator-Status-Bits that the site of a cached prefix last sent of these locators.
    fn status(&self, _eid: &EidPrefix, _locators: &[Locator]) -> Option<u32> {
        None
    }
}

/// What must be watched from now on, or no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Keep the path to this destination resolved, and report its changes.
    Start(IpAddr),
    /// Nobody needs it any more.
    Stop(IpAddr),
}

/// A locator-set of the map-cache's.
#[derive(Debug, Clone)]
struct Held {
    instance: InstanceId,
    locators: Box<[Locator]>,
    /// Its place in the workers' table; `None` while there was no room for it.
    id: Option<SetId>,
}

/// Traffic to a site host, as last seen by [`Publisher::age_hosts`].
#[derive(Debug, Clone, Copy, Default)]
struct HostUse {
    packets: u64,
    idle_rounds: u8,
}

impl HostUse {
    /// One round of ageing; true if too many have passed without a packet. `packets` are all so far.
    fn is_over(&mut self, packets: u64) -> bool {
        self.idle_rounds = if packets == self.packets { self.idle_rounds + 1 } else { 0 };
        self.packets = packets;
        self.idle_rounds >= IDLE_ROUNDS
    }
}

/// Limits and identity of the box.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our RLOCs, in order of preference within a family.
    pub rlocs: Vec<IpAddr>,
    /// PETRs, which take what would be forwarded natively; none: the underlay does.
    pub petrs: Vec<IpAddr>,
    /// Most site hosts whose link-layer address is kept at one time, and as many destinations that are no EIDs.
    pub hosts_max: usize,
    /// What goes natively has a next hop for each destination, not one for a prefix.
    pub native_by_host: bool,
    /// Which header features are on: without any, entries have no marks.
    pub features: Features,
}

/// Most refused entries that one [`Publisher::mend`] tries again.
const MENDS_MAX: usize = 256;

/// See the module's text.
pub struct Publisher {
    settings: Settings,
    writer: Writer,
    /// What packets of our EID-prefixes say, and what packets to them are held against.
    own: PrefixMap<Mark>,
    /// By [`SetNumber::place`].
    sets: Chunked<Option<Held>>,
    natives: PrefixMap<()>,
    /// Destinations inside natively forwarded prefixes that have a next hop of their own.
    beyond: PrefixMap<HostUse>,
    /// Which of them was last looked at to make room.
    hand: Option<EidPrefix>,
    /// The PETRs' locator-set in each instance that uses it.
    proxies: BTreeMap<InstanceId, SetId>,
    hosts: HashMap<Eid, HostUse>,
    users: HashMap<IpAddr, Users>,
    /// What the table refused and workers therefore miss; tried again by [`Publisher::mend`].
    unshown: BTreeSet<EidPrefix>,
    /// Sets whose last change the table refused.
    unturned: BTreeSet<SetNumber>,
    /// Instances whose PETRs' set is one of these.
    unproxied: BTreeSet<InstanceId>,
    dirty: bool,
    /// Entries refused because a limit was reached.
    refused: u64,
}

impl Publisher {
    /// A publisher that writes to an empty table.
    #[must_use]
    pub fn new(settings: Settings, writer: Writer) -> Self {
        Self {
            settings,
            writer,
            own: PrefixMap::new(),
            sets: Chunked::new(),
            natives: PrefixMap::new(),
            beyond: PrefixMap::new(),
            hand: None,
            proxies: BTreeMap::new(),
            hosts: HashMap::new(),
            users: HashMap::new(),
            unshown: BTreeSet::new(),
            unturned: BTreeSet::new(),
            unproxied: BTreeSet::new(),
            dirty: false,
            refused: 0,
        }
    }

    /// Publishes a mapping, or its successor. `set` is the map-cache's number for its locators, if it has any.
    pub fn show(&mut self, mapping: &Mapping, set: Option<SetNumber>, paths: &dyn Paths, todo: &mut Vec<Watch>) {
        let eid = mapping.eid;
        let forwarding = match (set, mapping.action) {
            (Some(set), _) => self.hold(set, mapping, paths, todo).map(Forwarding::Encapsulate),
            (None, Action::NativelyForward) if self.has_petrs() => {
                self.through_petrs(eid.instance, paths, todo).map(Forwarding::Encapsulate)
            }
            (None, Action::NativelyForward) => return self.show_native(eid, paths, todo),
            (None, Action::SendMapRequest) => Some(Forwarding::Request),
            (None, Action::NoAction) => Some(Forwarding::Drop(Reason::ActNoAction)),
            (None, Action::Drop) => Some(Forwarding::Drop(Reason::ActDrop)),
            (None, Action::DropPolicyDenied) => Some(Forwarding::Drop(Reason::ActPolicyDenied)),
            (None, Action::DropAuthFailure) => Some(Forwarding::Drop(Reason::ActAuthFailure)),
        };
        self.forget_native(&eid, todo);
        let mark = self.mark_of(mapping, paths);
        self.put(eid, forwarding, mark);
    }

    /// Takes a mapping back.
    pub fn hide(&mut self, eid: &EidPrefix, todo: &mut Vec<Watch>) {
        self.forget_native(eid, todo);
        self.unshown.remove(eid);
        self.dirty |= self.writer.remove(eid);
    }

    /// Takes a locator-set out that no mapping has any more.
    pub fn release(&mut self, set: SetNumber, todo: &mut Vec<Watch>) {
        let Some(held) = self.sets.get_mut(set.place()).and_then(Option::take) else { return };
        self.unturned.remove(&set);
        for destination in watched(&held.locators) {
            self.leave(destination, User::Set(set), todo);
        }
        if let Some(id) = held.id {
            self.writer.remove_set(id);
            self.dirty = true;
        }
    }

    /// Has the path to a host resolved, of the site or where no EIDs are, because a worker wants to send to it.
    pub fn want_host(&mut self, eid: Eid, paths: &dyn Paths, todo: &mut Vec<Watch>) {
        if self.is_beyond(&EidPrefix::host(eid)) {
            return self.want_beyond(eid, paths, todo);
        }
        // Wanted before its prefix went.
        if self.hosts.contains_key(&eid) || self.own.longest(eid).is_none() {
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

    /// The path to a watched destination changed, or what probes say of a locator: recompiles whoever uses it.
    pub fn path_changed(&mut self, destination: IpAddr, paths: &dyn Paths) {
        let Some(users) = self.users.get(&destination) else { return };
        let sets = users.sets.iter().copied().map(User::Set);
        for user in sets.chain(users.others.iter().copied()).collect::<Vec<_>>() {
            match user {
                User::Set(set) => self.turn(set, paths),
                User::Native(eid) => self.renative(eid, paths),
                User::Host(eid) => self.redeliver(eid, paths),
                User::Beyond(eid) => self.rebeyond(eid, paths),
                User::Proxy(instance) => self.turn_proxy(instance, paths),
            }
        }
    }

    /// What [`Paths::source_port`] says is something else than before: recompiles every set.
    pub fn ports_changed(&mut self, paths: &dyn Paths) {
        for destination in self.users.keys().copied().collect::<Vec<_>>() {
            self.path_changed(destination, paths);
        }
    }

    /// One round of ageing: forgets hosts that got no packet for ten rounds.
    pub fn age_hosts(&mut self, todo: &mut Vec<Watch>) {
        let mut idle = Vec::new();
        for (&eid, used) in &mut self.hosts {
            let packets = self.writer.hits(&EidPrefix::host(eid)).unwrap_or_default().packets;
            if used.is_over(packets) {
                idle.push(eid);
            }
        }
        self.age_beyond(todo);
        for eid in idle {
            self.forget_host(eid, todo);
        }
    }

    fn forget_host(&mut self, eid: Eid, todo: &mut Vec<Watch>) {
        self.hosts.remove(&eid);
        self.leave(eid.address, User::Host(eid), todo);
        self.unshown.remove(&EidPrefix::host(eid));
        self.dirty |= self.writer.remove(&EidPrefix::host(eid));
    }

    /// Ends a group of changes: workers look again at what they hold; false if there were none.
    pub fn publish(&mut self) -> bool {
        let shown = std::mem::take(&mut self.dirty);
        if shown {
            self.writer.publish();
        }
        shown
    }

    /// Tries again what the table refused, some of it with each call.
    pub fn mend(&mut self, cache: &MapCache, paths: &dyn Paths, todo: &mut Vec<Watch>) {
        for set in std::mem::take(&mut self.unturned) {
            self.turn(set, paths);
        }
        for instance in std::mem::take(&mut self.unproxied) {
            self.turn_proxy(instance, paths);
        }
        let again: Vec<EidPrefix> = self.unshown.iter().copied().take(MENDS_MAX).collect();
        for eid in again {
            let host = Eid { instance: eid.instance, address: eid.prefix.address() };
            if eid.prefix.is_host() && self.hosts.contains_key(&host) {
                self.redeliver(host, paths);
            } else if self.beyond.get(&eid).is_some() {
                self.rebeyond(host, paths);
            } else if let Some(cached) = cache.get(&eid) {
                self.show(&cached.mapping(), cached.set, paths, todo);
            } else {
                self.unshown.remove(&eid);
            }
        }
    }

    /// Whether [`mend`](Self::mend) has anything to do.
    #[must_use]
    pub fn wants_mending(&self) -> bool {
        !self.unshown.is_empty() || !self.unturned.is_empty() || !self.unproxied.is_empty()
    }

    /// Whether a mapping of exactly this prefix was shown and not hidden since.
    #[must_use]
    pub fn shows(&self, eid: &EidPrefix) -> bool {
        self.writer.hits(eid).is_some() || self.unshown.contains(eid)
    }

    /// Whether packets see an entry of exactly this prefix as it was put in last.
    #[must_use]
    pub fn is_in_force(&self, eid: &EidPrefix) -> bool {
        self.writer.hits(eid).is_some() && !self.unshown.contains(eid)
    }

    /// Whether a mapping has a locator of this address that may be used.
    #[must_use]
    pub fn has_locator(&self, address: IpAddr) -> bool {
        self.users.get(&address).is_some_and(|users| !users.sets.is_empty())
    }

    /// Whether encapsulated packets are sent to this address: a locator's of a mapping, or a PETR's.
    #[must_use]
    pub fn sends_to(&self, address: IpAddr) -> bool {
        let proxy = |users: &Users| users.others.iter().any(|user| matches!(user, User::Proxy(_)));
        self.users.get(&address).is_some_and(|users| !users.sets.is_empty() || proxy(users))
    }

    /// What used the entry of exactly this prefix.
    #[must_use]
    pub fn hits(&self, eid: &EidPrefix) -> Hits {
        self.writer.hits(eid).unwrap_or_default()
    }

    /// Parts of the workers' table that were taken out and that a worker may still read.
    pub fn limbo(&mut self) -> usize {
        self.writer.reclaim()
    }

    /// Entries refused because a limit was reached.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// The set in the workers' table, put in with its first mapping. `None` if there is no room.
    fn hold(&mut self, set: SetNumber, mapping: &Mapping, paths: &dyn Paths, todo: &mut Vec<Watch>) -> Option<SetId> {
        self.sets.reach(set.place(), &None);
        if let Some(id) = self.sets[set.place()].as_ref().and_then(|held| held.id) {
            return Some(id);
        }
        for destination in watched(&mapping.locators) {
            self.join(destination, User::Set(set), todo);
        }
        let members: Vec<IpAddr> = mapping.locators.iter().map(|locator| locator.address).collect();
        let choice = self.choose(mapping.eid.instance, &mapping.locators, paths);
        let id = self.writer.add_set(&members, &choice).ok();
        let (instance, locators) = (mapping.eid.instance, mapping.locators.as_slice().into());
        self.sets[set.place()] = Some(Held { instance, locators, id });
        id
    }

    /// Turns a set to what its paths allow by now.
    fn turn(&mut self, set: SetNumber, paths: &dyn Paths) {
        let Some(Some(held)) = self.sets.get(set.place()) else { return };
        let Some(id) = held.id else { return };
        let choice = self.choose(held.instance, &held.locators, paths);
        match self.writer.change_set(id, &choice) {
            Ok(()) => self.dirty = true,
            Err(_) if self.unturned.insert(set) => self.refused += 1,
            Err(_) => {}
        }
    }

    fn redeliver(&mut self, eid: Eid, paths: &dyn Paths) {
        let prefix = EidPrefix::host(eid);
        match paths.path(eid.address) {
            Path::Ready(adjacency) => {
                // The longest match of its packets, so it says what its prefix says.
                let mark = self.own.longest(eid).map(|(_, mark)| *mark).unwrap_or_default();
                self.put(prefix, Some(Forwarding::Local(Delivery::Adjacent(adjacency))), mark);
            }
            // The covering prefix is Local and unresolved: back to asking.
            Path::Waiting | Path::Unreachable => {
                self.unshown.remove(&prefix);
                self.dirty |= self.writer.remove(&prefix);
            }
        }
    }

    /// Puts an entry in or replaces it; what finds no room is taken out, lest an entry leads to a set that is gone.
    fn put(&mut self, eid: EidPrefix, forwarding: Option<Forwarding>, mark: Mark) {
        if forwarding.is_some_and(|forwarding| self.writer.insert_marked(eid, forwarding, mark).is_ok()) {
            self.unshown.remove(&eid);
            self.dirty = true;
            return;
        }
        self.dirty |= self.writer.remove(&eid);
        if self.unshown.insert(eid) {
            self.refused += 1;
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
        users.remove(user);
        if users.is_empty() {
            self.users.remove(&destination);
            todo.push(Watch::Stop(destination));
        }
    }
}

/// Destinations whose paths a locator-set hangs on.
fn watched(locators: &[Locator]) -> impl Iterator<Item = IpAddr> {
    locators.iter().filter(|locator| locator.usable()).map(|locator| locator.address)
}

#[cfg(test)]
mod tests;
