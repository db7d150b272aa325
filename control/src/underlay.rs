//! The underlay as the kernel sees it, compiled to adjacencies.
//!
//! The kernel routes and resolves: its route tables choose the next hop, its ARP (RFC 826) and Neighbor Discovery
//! (RFC 4861) find the next hop's MAC address. This machine learns links, addresses and neighbours from netlink, asks
//! for the route of each watched destination (an RLOC, or a host inside the site), and answers
//! [`adjacency`](Underlay::adjacency) once a frame could really be sent there out of one of our ports.
//!
//! XDP traffic passes by the kernel, so the kernel never sees our neighbours used: every [`REFRESH`] the machine asks
//! for each used next hop again, and the kernel probes it unless it is fresh anyway.

mod events;
mod reach;
mod timers;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Adjacency, MacAddress, PortIndex};

pub use events::{Input, Limits, Output, PortLink, Progress, RouteHop};
use timers::{Timer, Timers, backoff};

/// How often a next hop in use is asked for again.
pub const REFRESH: Duration = Duration::from_secs(30);
/// Route changes closer together than this cause one round of questions.
pub const COALESCE: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Link {
    name: String,
    mac: Option<MacAddress>,
    mtu: u16,
    up: bool,
    round: u64,
}

#[derive(Debug)]
struct Address {
    length: u8,
    round: u64,
}

#[derive(Debug)]
struct Neighbour {
    mac: MacAddress,
    permanent: bool,
    round: u64,
}

/// A next hop: interface index and address.
type HopKey = (u32, IpAddr);

/// A next hop of at least one watched destination.
#[derive(Debug, Default)]
struct Hop {
    users: BTreeSet<IpAddr>,
    /// Questions since the last answer.
    attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Unknown,
    Unreachable,
    Via { hop: HopKey, source: Option<IpAddr> },
}

#[derive(Debug)]
struct Watched {
    route: Route,
    /// Questions since the last answer with a next hop.
    attempts: u32,
    /// As last reported.
    found: Result<Adjacency, Progress>,
}

/// The machine.
#[derive(Debug)]
pub struct Underlay {
    ports: BTreeMap<String, PortIndex>,
    limits: Limits,
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<(IpAddr, u32), Address>,
    neighbours: BTreeMap<HopKey, Neighbour>,
    watched: BTreeMap<IpAddr, Watched>,
    hops: BTreeMap<HopKey, Hop>,
    timers: Timers,
    /// When all routes were last asked for.
    asked: Option<Instant>,
    /// Number of the current round of synchronisation.
    round: u64,
    ignored: u64,
}

impl Underlay {
    /// A machine that knows nothing yet of the given ports, each an index and an interface name.
    #[must_use]
    pub fn new(ports: Vec<(PortIndex, String)>) -> Self {
        Self {
            ports: ports.into_iter().map(|(port, name)| (name, port)).collect(),
            limits: Limits::default(),
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            watched: BTreeMap::new(),
            hops: BTreeMap::new(),
            timers: Timers::default(),
            asked: None,
            round: 0,
            ignored: 0,
        }
    }

    /// The same machine with other bounds.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// How to send to a watched destination, if it is known.
    #[must_use]
    pub fn adjacency(&self, destination: IpAddr) -> Option<Adjacency> {
        self.watched.get(&destination)?.found.ok()
    }

    /// How far the way to `destination` is known, for operators.
    #[must_use]
    pub fn explain(&self, destination: IpAddr) -> Progress {
        match self.find(destination) {
            Ok(_) => Progress::Ready,
            Err(progress) => progress,
        }
    }

    /// Source address the kernel would choose towards a watched destination.
    #[must_use]
    pub fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        match self.watched.get(&destination)?.route {
            Route::Via { source, .. } => source,
            Route::Unknown | Route::Unreachable => None,
        }
    }

    /// All addresses of this machine, in order, each once.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let mut own: Vec<_> = self.addresses.keys().map(|(address, _)| *address).collect();
        own.dedup();
        own
    }

    /// The ports whose interface exists, by interface index.
    pub fn ports(&self) -> impl Iterator<Item = PortLink> {
        self.links.iter().filter_map(|(index, link)| {
            let on_link = self.addresses.iter().filter(|((_, at), _)| at == index);
            Some(PortLink {
                port: *self.ports.get(&link.name)?,
                name: link.name.clone(),
                index: *index,
                mac: link.mac,
                mtu: link.mtu,
                up: link.up,
                addresses: on_link.map(|((address, _), known)| (*address, known.length)).collect(),
            })
        })
    }

    /// The watched destinations, in order.
    pub fn watched(&self) -> impl ExactSizeIterator<Item = IpAddr> {
        self.watched.keys().copied()
    }

    /// Neighbours ignored because [`Limits::neighbours`] were known already.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.timers.due()
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input, todo: &mut Vec<Output>) {
        let round = self.round;
        match input {
            Input::Link { index, name, mac, mtu, up } => {
                self.link(now, index, Link { name, mac, mtu, up, round }, todo);
            }
            Input::LinkGone(index) => self.link_gone(now, index, todo),
            Input::Address { index, address, length } => {
                self.address(now, index, address, Some(Address { length, round }), todo);
            }
            Input::AddressGone { index, address } => self.address(now, index, address, None, todo),
            Input::Neighbour { index, address, mac, permanent } => {
                let neighbour = mac.map(|mac| Neighbour { mac, permanent, round });
                self.neighbour(now, (index, address), neighbour, todo);
            }
            Input::Route { destination, hop } => self.route(now, destination, hop, todo),
            Input::RoutesChanged => self.routes_changed(now, todo),
            Input::SyncBegin => self.round += 1,
            Input::SyncEnd => self.sweep(now, todo),
            Input::Watch(destination) => self.watch(now, destination, todo),
            Input::Unwatch(destination) => self.unwatch(destination),
            Input::Wake => {
                while let Some(timer) = self.timers.pop(now) {
                    match timer {
                        Timer::AllRoutes => self.ask_all(now, todo),
                        Timer::Route(destination) => self.ask(now, destination, todo),
                        Timer::Hop(index, address) => self.tend(now, (index, address), todo),
                    }
                }
            }
        }
    }

    fn link(&mut self, now: Instant, index: u32, link: Link, todo: &mut Vec<Output>) {
        let before = self.port(index);
        self.links.insert(index, link);
        self.link_changed(now, index, before, todo);
    }

    fn link_gone(&mut self, now: Instant, index: u32, todo: &mut Vec<Output>) {
        let before = self.port(index);
        let addresses: Vec<_> = self.addresses.keys().filter(|(_, at)| *at == index).copied().collect();
        for (address, _) in addresses {
            self.address(now, index, address, None, todo);
        }
        self.neighbours.retain(|(at, _), _| *at != index);
        if self.links.remove(&index).is_some() {
            self.link_changed(now, index, before, todo);
        }
    }

    /// The port on the interface with this index, if it is one, and whether it can carry frames. Tunnels run over others too.
    fn port(&self, index: u32) -> Option<(Option<PortIndex>, bool)> {
        let link = self.links.get(&index)?;
        let port = self.ports.get(&link.name).copied();
        Some((port, link.up && (link.mac.is_some() || port.is_none())))
    }

    fn link_changed(
        &mut self,
        now: Instant,
        index: u32,
        before: Option<(Option<PortIndex>, bool)>,
        todo: &mut Vec<Output>,
    ) {
        let hops: Vec<_> = self.hops.keys().filter(|(at, _)| *at == index).copied().collect();
        let usable = self.port(index);
        for hop in hops {
            if usable != before {
                self.tend_afresh(now, hop, todo);
            }
            self.update_users(hop, todo);
        }
        if usable != before {
            // The kernel deletes the IPv4 routes of a link that goes down without a notification.
            self.routes_changed(now, todo);
        }
    }

    fn address(&mut self, now: Instant, index: u32, address: IpAddr, known: Option<Address>, todo: &mut Vec<Output>) {
        let had = self.is_own(address);
        let changed = match known {
            Some(known) => self.addresses.insert((address, index), known).is_none(),
            None => self.addresses.remove(&(address, index)).is_some(),
        };
        if had != self.is_own(address) {
            todo.push(Output::AddressesChanged);
            self.update(address, todo);
            let hops: Vec<_> = self.hops.keys().filter(|(_, hop)| *hop == address).copied().collect();
            for hop in hops {
                self.tend_afresh(now, hop, todo);
            }
        }
        if changed {
            self.routes_changed(now, todo);
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.range((address, 0)..=(address, u32::MAX)).next().is_some()
    }

    fn neighbour(&mut self, now: Instant, hop: HopKey, known: Option<Neighbour>, todo: &mut Vec<Output>) {
        let room = self.neighbours.len() < self.limits.neighbours || self.neighbours.contains_key(&hop);
        let had = self.neighbours.get(&hop).map(|had| had.permanent);
        let has = known.as_ref().map(|has| has.permanent);
        match known {
            Some(known) if room => drop(self.neighbours.insert(hop, known)),
            Some(_) => {
                self.ignored += 1;
                return;
            }
            None => drop(self.neighbours.remove(&hop)),
        }
        if had != has && self.hops.contains_key(&hop) {
            match has {
                None => self.tend_afresh(now, hop, todo),
                Some(permanent) => self.rest(now, hop, permanent),
            }
        }
        self.update_users(hop, todo);
    }

    fn route(&mut self, now: Instant, destination: IpAddr, answer: Option<RouteHop>, todo: &mut Vec<Output>) {
        let Some(watched) = self.watched.get_mut(&destination) else { return };
        let timer = Timer::Route(destination);
        let route = match answer {
            Some(RouteHop { index, gateway, source }) => {
                watched.attempts = 0;
                self.timers.clear(timer);
                Route::Via { hop: (index, gateway.unwrap_or(destination)), source }
            }
            None => {
                if !self.timers.is_set(timer) {
                    self.timers.set(timer, now + backoff(watched.attempts));
                }
                Route::Unreachable
            }
        };
        let before = std::mem::replace(&mut watched.route, route);
        if before.hop() != route.hop() {
            self.leave(before, destination);
            if let Some(hop) = route.hop() {
                self.join(now, hop, destination, todo);
            }
        }
        self.update(destination, todo);
    }

    fn routes_changed(&mut self, now: Instant, todo: &mut Vec<Output>) {
        let at = self.asked.map_or(now, |asked| asked + COALESCE);
        if at <= now {
            self.ask_all(now, todo);
        } else if !self.timers.is_set(Timer::AllRoutes) {
            self.timers.set(Timer::AllRoutes, at);
        }
    }

    fn ask_all(&mut self, now: Instant, todo: &mut Vec<Output>) {
        self.timers.clear(Timer::AllRoutes);
        if self.watched.is_empty() {
            return;
        }
        self.asked = Some(now);
        let destinations: Vec<_> = self.watched.keys().copied().collect();
        for destination in destinations {
            if let Some(watched) = self.watched.get_mut(&destination) {
                watched.attempts = 0;
            }
            self.ask(now, destination, todo);
        }
    }

    /// Asks for a route, and again after a while: an answer can be lost, and a missing route can come.
    fn ask(&mut self, now: Instant, destination: IpAddr, todo: &mut Vec<Output>) {
        let Some(watched) = self.watched.get_mut(&destination) else { return };
        self.timers.set(Timer::Route(destination), now + backoff(watched.attempts));
        watched.attempts = watched.attempts.saturating_add(1);
        todo.push(Output::AskRoute(destination));
    }

    fn watch(&mut self, now: Instant, destination: IpAddr, todo: &mut Vec<Output>) {
        if self.watched.contains_key(&destination) {
            return;
        }
        if self.watched.len() >= self.limits.watched {
            todo.push(Output::Refused(destination));
            return;
        }
        self.watched
            .insert(destination, Watched { route: Route::Unknown, attempts: 0, found: Err(Progress::WaitingForRoute) });
        self.ask(now, destination, todo);
    }

    fn unwatch(&mut self, destination: IpAddr) {
        if let Some(watched) = self.watched.remove(&destination) {
            self.timers.clear(Timer::Route(destination));
            self.leave(watched.route, destination);
        }
    }

    fn join(&mut self, now: Instant, key: HopKey, destination: IpAddr, todo: &mut Vec<Output>) {
        let hop = self.hops.entry(key).or_default();
        let first = hop.users.is_empty();
        hop.users.insert(destination);
        if first {
            self.tend(now, key, todo);
        }
    }

    fn leave(&mut self, route: Route, destination: IpAddr) {
        let Some(key) = route.hop() else { return };
        let Some(hop) = self.hops.get_mut(&key) else { return };
        hop.users.remove(&destination);
        if hop.users.is_empty() {
            self.hops.remove(&key);
            self.timers.clear(Timer::Hop(key.0, key.1));
        }
    }

    /// Asks for a next hop if asking can help, and sets the time of the next question.
    fn tend(&mut self, now: Instant, key: HopKey, todo: &mut Vec<Output>) {
        let on_port = matches!(self.port(key.0), Some((Some(_), true)));
        let timer = Timer::Hop(key.0, key.1);
        let known = self.neighbours.get(&key).map(|neighbour| neighbour.permanent);
        let own = self.is_own(key.1);
        let Some(hop) = self.hops.get_mut(&key) else { return };
        if !on_port || own || known == Some(true) {
            self.timers.clear(timer);
            return;
        }
        let pause = if known.is_some() { REFRESH } else { backoff(hop.attempts) };
        hop.attempts = if known.is_some() { 0 } else { hop.attempts.saturating_add(1) };
        self.timers.set(timer, now + pause);
        todo.push(Output::Resolve { index: key.0, address: key.1 });
    }

    fn tend_afresh(&mut self, now: Instant, key: HopKey, todo: &mut Vec<Output>) {
        if let Some(hop) = self.hops.get_mut(&key) {
            hop.attempts = 0;
        }
        self.tend(now, key, todo);
    }

    /// The next hop has just answered: no question before [`REFRESH`] passed.
    fn rest(&mut self, now: Instant, key: HopKey, permanent: bool) {
        let timer = Timer::Hop(key.0, key.1);
        if permanent {
            self.timers.clear(timer);
        } else {
            self.timers.set(timer, now + REFRESH);
        }
        if let Some(hop) = self.hops.get_mut(&key) {
            hop.attempts = 0;
        }
    }

    fn sweep(&mut self, now: Instant, todo: &mut Vec<Output>) {
        let round = self.round;
        let addresses: Vec<_> =
            self.addresses.iter().filter(|(_, known)| known.round != round).map(|(key, _)| *key).collect();
        for (address, index) in addresses {
            self.address(now, index, address, None, todo);
        }
        let links: Vec<_> = self.links.iter().filter(|(_, link)| link.round != round).map(|(key, _)| *key).collect();
        for index in links {
            self.link_gone(now, index, todo);
        }
        let neighbours: Vec<_> =
            self.neighbours.iter().filter(|(_, known)| known.round != round).map(|(key, _)| *key).collect();
        for hop in neighbours {
            self.neighbour(now, hop, None, todo);
        }
        self.routes_changed(now, todo);
    }

    fn update_users(&mut self, key: HopKey, todo: &mut Vec<Output>) {
        for destination in self.hops.get(&key).map(|hop| hop.users.clone()).unwrap_or_default() {
            self.update(destination, todo);
        }
    }

    fn update(&mut self, destination: IpAddr, todo: &mut Vec<Output>) {
        let found = self.find(destination);
        let Some(watched) = self.watched.get_mut(&destination) else { return };
        let before = std::mem::replace(&mut watched.found, found);
        let waits = |found: Result<Adjacency, Progress>| found.is_err_and(Progress::is_waiting);
        if before.ok() != found.ok() || waits(before) != waits(found) {
            todo.push(Output::Changed(destination));
        }
    }

    fn find(&self, destination: IpAddr) -> Result<Adjacency, Progress> {
        let watched = self.watched.get(&destination).ok_or(Progress::NotWatched)?;
        if self.is_own(destination) {
            return Err(Progress::Own);
        }
        let hop = match watched.route {
            Route::Unknown => return Err(Progress::WaitingForRoute),
            Route::Unreachable => return Err(Progress::NoRoute),
            Route::Via { hop, .. } => hop,
        };
        let link = self.links.get(&hop.0).ok_or(Progress::NotOnPort)?;
        let port = *self.ports.get(&link.name).ok_or(Progress::NotOnPort)?;
        let Some(source) = link.mac.filter(|_| link.up) else { return Err(Progress::LinkDown) };
        let neighbour = self.neighbours.get(&hop).ok_or(Progress::WaitingForNeighbour)?;
        Ok(Adjacency { port, destination: neighbour.mac, source, vlan: None, mtu: link.mtu })
    }
}

#[cfg(test)]
mod tests;
