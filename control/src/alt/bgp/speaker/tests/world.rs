//! Routers and links with a latency, as the driver and the kernel would be.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::alt::bgp::settings::{NeighborSettings, Rule};

const LATENCY: Duration = Duration::from_millis(2);

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(super) fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: prefix(text) }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Permits what is inside `text`, of up to `le` bits.
pub(super) fn permit(text: &str, le: u8) -> Rule {
    let prefix = prefix(text);
    Rule { permit: true, prefix, ge: prefix.length(), le }
}

/// The address of `of` on its link with `with`.
pub(super) fn address(of: usize, with: usize) -> IpAddr {
    let (low, high) = (of.min(with), of.max(with));
    [10, 42, (low * 16 + high) as u8, 1 + u8::from(of > with)].into()
}

fn address6(of: usize, with: usize) -> IpAddr {
    let (low, high) = (of.min(with), of.max(with));
    [0xfd00, 0, 0, (low * 16 + high) as u16, 0, 0, 0, 1 + u16::from(of > with)].into()
}

#[derive(Debug)]
enum Arrival {
    Dialled { from: usize, connection: ConnectionId, to: usize },
    Connected(usize, ConnectionId),
    Refused(usize, ConnectionId),
    Octets(usize, ConnectionId, Vec<u8>),
    Closed(usize, ConnectionId),
    Drained(usize, ConnectionId),
}

/// All routers.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) speakers: Vec<Speaker>,
    /// Sockets take nothing.
    pub(super) stuck: bool,
    settings: Vec<Settings>,
    events: Vec<Vec<Event>>,
    written: Vec<usize>,
    /// Both ends of each connection.
    pairs: BTreeMap<(usize, ConnectionId), (usize, ConnectionId)>,
    cut: BTreeSet<(usize, usize)>,
    gone: BTreeSet<usize>,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    undrained: Vec<(usize, ConnectionId)>,
    serial: u64,
}

impl World {
    /// Each router with its neighbours in the order of `links`; tunnel N is the Nth neighbour's.
    pub(super) fn settings(count: usize, links: &[(usize, usize)]) -> Vec<Settings> {
        let asn = |router: usize| 64512 + router as u32;
        let one = |router: usize| {
            let others = links.iter().filter_map(|link| match *link {
                (one, other) if one == router => Some(other),
                (one, other) if other == router => Some(one),
                _ => None,
            });
            let neighbor = |(index, other): (usize, usize)| {
                let (local, remote) = (address(router, other), address(other, router));
                let mut neighbor = NeighborSettings::new(TunnelId(index), local, 24, remote, asn(other));
                neighbor.tunnel_addresses.push((address6(router, other), 64));
                neighbor
            };
            Settings {
                asn: asn(router),
                router_id: [10, 0, 0, router as u8 + 1].into(),
                neighbors: others.enumerate().map(neighbor).collect(),
                ..Settings::default()
            }
        };
        (0..count).map(one).collect()
    }

    pub(super) fn of(settings: Vec<Settings>) -> Self {
        let now = Instant::now();
        let speaker =
            |(index, settings): (usize, &Settings)| Speaker::new(settings.clone(), now, index as u64).unwrap();
        Self {
            now,
            speakers: settings.iter().enumerate().map(speaker).collect(),
            stuck: false,
            events: vec![Vec::new(); settings.len()],
            written: vec![0; settings.len()],
            settings,
            pairs: BTreeMap::new(),
            cut: BTreeSet::new(),
            gone: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            undrained: Vec::new(),
            serial: 0,
        }
    }

    /// 0 – 1 – 2 – …
    pub(super) fn line(count: usize) -> Self {
        let links: Vec<_> = (1..count).map(|router| (router - 1, router)).collect();
        Self::of(Self::settings(count, &links))
    }

    pub(super) fn ring(count: usize) -> Self {
        let links: Vec<_> = (0..count).map(|router| (router, (router + 1) % count)).collect();
        Self::of(Self::settings(count, &links))
    }

    /// All others around 0, with changed settings.
    pub(super) fn star(count: usize, change: impl Fn(usize, &mut Settings)) -> Self {
        let links: Vec<_> = (1..count).map(|router| (0, router)).collect();
        let mut settings = Self::settings(count, &links);
        settings.iter_mut().enumerate().for_each(|(index, settings)| change(index, settings));
        Self::of(settings)
    }

    pub(super) fn start(&mut self) {
        (0..self.speakers.len()).for_each(|router| self.input(router, Input::Start));
    }

    pub(super) fn events(&self, router: usize) -> &[Event] {
        &self.events[router]
    }

    /// Octets a router has written so far.
    pub(super) fn written(&self, router: usize) -> usize {
        self.written[router]
    }

    pub(super) fn input(&mut self, router: usize, input: Input<'_>) {
        let mut todo = Vec::new();
        self.speakers[router].step(self.now, input, &mut todo);
        self.obey(router, todo);
    }

    fn later(&mut self, arrival: Arrival) {
        self.serial += 1;
        self.arrivals.insert((self.now + LATENCY, self.serial), arrival);
    }

    fn obey(&mut self, router: usize, todo: Vec<Output>) {
        for output in todo {
            match output {
                Output::Connect { connection, peer } => {
                    let to = self.other(router, peer);
                    self.later(Arrival::Dialled { from: router, connection, to });
                }
                Output::Write { connection, octets } => {
                    self.written[router] += octets.len();
                    if let Some((to, other)) = self.reachable(router, connection) {
                        self.later(Arrival::Octets(to, other, octets));
                    }
                    match self.stuck {
                        true => self.undrained.push((router, connection)),
                        false => self.later(Arrival::Drained(router, connection)),
                    }
                }
                Output::Close(connection) => {
                    if let Some((to, other)) = self.reachable(router, connection) {
                        self.later(Arrival::Closed(to, other));
                    }
                    self.pairs.remove(&(router, connection));
                }
                Output::Event(event) => self.events[router].push(event),
                Output::Changed(_) => {}
            }
        }
    }

    fn other(&self, router: usize, peer: PeerId) -> usize {
        let remote = self.settings[router].neighbors[peer.0].remote;
        let is_it = |other: &usize| *other != router && address(*other, router) == remote;
        (0..self.speakers.len()).find(is_it).unwrap()
    }

    fn broken(&self, one: usize, other: usize) -> bool {
        self.cut.contains(&(one.min(other), one.max(other))) || self.gone.contains(&one) || self.gone.contains(&other)
    }

    fn reachable(&self, router: usize, connection: ConnectionId) -> Option<(usize, ConnectionId)> {
        self.pairs.get(&(router, connection)).copied().filter(|(other, _)| !self.broken(router, *other))
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut spins = 0;
        loop {
            let arrival = self.arrivals.keys().next().map(|(at, _)| *at);
            let alive = (0..self.speakers.len()).filter(|router| !self.gone.contains(router));
            let due = alive.filter_map(|router| Some((self.speakers[router].due()?, router))).min();
            let next = [arrival, due.map(|(at, _)| at)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            spins = if next > self.now { 0 } else { spins + 1 };
            assert!(spins < 100_000, "time stands still");
            self.now = self.now.max(next);
            match due {
                Some((at, router)) if at <= self.now => self.input(router, Input::Wake),
                _ => {
                    let (_, arrival) = self.arrivals.pop_first().unwrap();
                    self.arrive(arrival);
                }
            }
        }
        self.now = end;
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Dialled { from, connection, to } => {
                let mut todo = Vec::new();
                let ends = (address(to, from), address(from, to));
                let accepted = match self.broken(from, to) {
                    true => None,
                    false => self.speakers[to].admit(self.now, ends.0, ends.1, &mut todo),
                };
                match accepted {
                    Some(other) => {
                        self.pairs.insert((from, connection), (to, other));
                        self.pairs.insert((to, other), (from, connection));
                        self.later(Arrival::Connected(from, connection));
                    }
                    None => self.later(Arrival::Refused(from, connection)),
                }
                self.obey(to, todo);
            }
            Arrival::Connected(router, connection) => self.alive(router, Input::Connected(connection)),
            Arrival::Refused(router, connection) => self.alive(router, Input::Refused(connection)),
            Arrival::Octets(router, connection, octets) => {
                if self.reachable(router, connection).is_some() {
                    self.alive(router, Input::Octets(connection, &octets));
                }
            }
            Arrival::Closed(router, connection) => {
                self.pairs.remove(&(router, connection));
                self.alive(router, Input::Closed(connection));
            }
            Arrival::Drained(router, connection) => self.alive(router, Input::Drained(connection)),
        }
    }

    fn alive(&mut self, router: usize, input: Input<'_>) {
        if !self.gone.contains(&router) {
            self.input(router, input);
        }
    }

    pub(super) fn unstick(&mut self) {
        self.stuck = false;
        for (router, connection) in std::mem::take(&mut self.undrained) {
            self.later(Arrival::Drained(router, connection));
        }
    }

    fn tunnel(&mut self, one: usize, other: usize, up: bool) {
        for (router, with) in [(one, other), (other, one)] {
            let remote = address(with, router);
            let neighbor = self.settings[router].neighbors.iter().find(|neighbor| neighbor.remote == remote).unwrap();
            let tunnel = neighbor.tunnel;
            self.alive(router, Input::Tunnel { tunnel, up });
        }
    }

    /// The link goes down and both ends see it.
    pub(super) fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert((one.min(other), one.max(other)));
        self.tunnel(one, other, false);
    }

    pub(super) fn mend(&mut self, one: usize, other: usize) {
        self.cut.remove(&(one.min(other), one.max(other)));
        self.tunnel(one, other, true);
    }

    /// The process is gone; the kernel closes its connections.
    pub(super) fn crash(&mut self, router: usize) {
        let ended: Vec<_> = self.pairs.extract_if(.., |(of, _), _| *of == router).map(|(_, other)| other).collect();
        for (other, connection) in ended {
            self.later(Arrival::Closed(other, connection));
        }
        self.gone.insert(router);
    }

    /// It runs anew.
    pub(super) fn restart(&mut self, router: usize, change: impl FnOnce(&mut Settings)) {
        self.arrivals.retain(|_, arrival| match arrival {
            Arrival::Connected(of, _) | Arrival::Refused(of, _) | Arrival::Octets(of, ..) | Arrival::Drained(of, _) => {
                *of != router
            }
            Arrival::Dialled { .. } | Arrival::Closed(..) => true,
        });
        let mut settings = self.settings[router].clone();
        change(&mut settings);
        self.speakers[router] = Speaker::new(settings, self.now, 1000 + router as u64).unwrap();
        self.gone.remove(&router);
        self.input(router, Input::Start);
    }
}
