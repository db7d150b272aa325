//! Two moments of a router → rates, and what happened between them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use altitude_control::api::{AltStatus, BgpStatus, Counts, LocatorStatus, PortStatus, RegistrationStatus, Scope, Stat};
use altitude_dataplane::verdict::Reason;

/// Events kept.
const EVENTS: usize = 200;
/// Shortest and longest time between two looks.
const PACE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(16));

/// What the router says at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) counts: Vec<Counts>,
    pub(super) ports: Vec<PortStatus>,
    pub(super) locators: Vec<LocatorStatus>,
    pub(super) alt: AltStatus,
    pub(super) bgp: BgpStatus,
    pub(super) registrations: Vec<RegistrationStatus>,
}

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Plain,
}

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: SystemTime,
    pub(super) tone: Tone,
    pub(super) text: String,
}

/// One worker in the last interval; rates are a second's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WorkerLine {
    pub(super) number: u16,
    /// Share of turns that found packets.
    pub(super) load: f64,
    pub(super) encapsulated: f64,
    pub(super) decapsulated: f64,
    pub(super) missed: f64,
    pub(super) dropped: f64,
    /// The reason of most of the drops.
    pub(super) worst: Option<(&'static str, f64)>,
}

/// One port in the last interval; rates are a second's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PortLine {
    pub(super) name: String,
    pub(super) roles: &'static str,
    pub(super) up: bool,
    /// Packets and octets in, then out.
    pub(super) rates: [f64; 4],
    /// What the kernel lost at its rings.
    pub(super) lost: f64,
}

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) api: String,
    pub(super) every: Duration,
    pub(super) paused: bool,
    /// Why nothing new comes, if so.
    pub(super) lost: Option<String>,
    pub(super) now: Option<Snapshot>,
    pub(super) workers: Vec<WorkerLine>,
    pub(super) ports: Vec<PortLine>,
    /// Newest first.
    pub(super) events: VecDeque<Event>,
    /// First locator shown.
    pub(super) first: usize,
}

impl Model {
    pub(super) fn new(api: String, every: Duration) -> Self {
        let (workers, ports, events) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { api, every, paused: false, lost: None, now: None, workers, ports, events, first: 0 }
    }

    /// The next moment.
    pub(super) fn take(&mut self, mut snapshot: Snapshot) {
        // What is wrong comes first, then what carries most.
        snapshot.locators.sort_by_key(|locator| (locator.up, std::cmp::Reverse(locator.carrying), locator.address));
        if self.lost.take().is_some() {
            self.tell(Tone::Good, "the router answers again".to_owned());
        }
        if let Some(before) = self.now.take() {
            let seconds = snapshot.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
            self.compare(&before, &snapshot);
            self.workers = workers(&before, &snapshot, seconds);
            self.ports = ports(&before, &snapshot, seconds);
        } else {
            (self.workers, self.ports) = (workers(&snapshot, &snapshot, 1.0), ports(&snapshot, &snapshot, 1.0));
        }
        self.first = self.first.min(snapshot.locators.len().saturating_sub(1));
        self.now = Some(snapshot);
    }

    /// The router did not answer.
    pub(super) fn lost(&mut self, why: String) {
        if self.lost.is_none() {
            self.tell(Tone::Bad, why.clone());
        }
        self.lost = Some(why);
    }

    pub(super) fn change_pace(&mut self, faster: bool) {
        let every = if faster { self.every / 2 } else { self.every * 2 };
        self.every = every.clamp(PACE.0, PACE.1);
    }

    pub(super) fn scroll(&mut self, by: isize) {
        let last = self.now.as_ref().map_or(0, |now| now.locators.len().saturating_sub(1));
        self.first = self.first.saturating_add_signed(by).min(last);
    }

    /// A counter of the control thread.
    pub(super) fn control(&self, name: &str) -> u64 {
        let counts = self.now.iter().flat_map(|now| &now.counts).filter(|counts| counts.scope == Scope::Control);
        counts.map(|counts| value(&counts.stats, name)).sum()
    }

    /// Share of the last interval's packets whose mapping was there; `None` if there was no packet.
    pub(super) fn hits(&self) -> Option<f64> {
        let hit: f64 = self.workers.iter().map(|worker| worker.encapsulated).sum();
        let missed: f64 = self.workers.iter().map(|worker| worker.missed).sum();
        (hit + missed > 0.0).then(|| hit / (hit + missed))
    }

    fn tell(&mut self, tone: Tone, text: String) {
        self.events.push_front(Event { at: SystemTime::now(), tone, text });
        self.events.truncate(EVENTS);
    }

    fn compare(&mut self, before: &Snapshot, after: &Snapshot) {
        let of = |up: bool| if up { Tone::Good } else { Tone::Bad };
        let word = |up: bool| if up { "up" } else { "down" };
        let mut told = Vec::new();
        let was: BTreeMap<_, _> = before.locators.iter().map(|locator| (locator.address, locator)).collect();
        for locator in &after.locators {
            let why = if locator.why.is_empty() { String::new() } else { format!(": {}", locator.why) };
            match was.get(&locator.address) {
                None => {
                    told.push((Tone::Plain, format!("locator {} is new, {}{why}", locator.address, word(locator.up))));
                }
                Some(old) if old.up != locator.up => {
                    told.push((of(locator.up), format!("locator {} is {}{why}", locator.address, word(locator.up))));
                }
                Some(_) => {}
            }
        }
        for port in &after.ports {
            if before.ports.iter().any(|old| old.name == port.name && old.up != port.up) {
                told.push((of(port.up), format!("port {} is {}", port.name, word(port.up))));
            }
        }
        for tunnel in &after.alt.tunnels {
            if before.alt.tunnels.iter().any(|old| old.name == tunnel.name && old.up != tunnel.up) {
                told.push((of(tunnel.up), format!("tunnel {} is {}", tunnel.name, word(tunnel.up))));
            }
        }
        for neighbor in &after.bgp.neighbors {
            let old = before.bgp.neighbors.iter().find(|old| old.address == neighbor.address);
            if old.is_some_and(|old| old.session.is_some() != neighbor.session.is_some()) {
                let up = neighbor.session.is_some();
                let why =
                    neighbor.last_down.as_ref().filter(|_| !up).map_or(String::new(), |(_, why)| format!(": {why}"));
                told.push((of(up), format!("BGP neighbour {} is {}{why}", neighbor.name, word(up))));
            }
        }
        for status in &after.registrations {
            let old = before.registrations.iter().find(|old| old.server == status.server);
            if old.is_some_and(|old| old.standing != status.standing) {
                let tone = of(status.standing == "registered");
                told.push((tone, format!("Map-Server {}: {}", status.server, status.standing)));
            }
        }
        for reason in Reason::ALL {
            let (was, is) = (dropped(before, *reason), dropped(after, *reason));
            if was == 0 && is > 0 {
                told.push((Tone::Bad, format!("first drops for {}: {is}", reason.name())));
            }
        }
        for (tone, text) in told {
            self.tell(tone, text);
        }
    }
}

fn value(stats: &[Stat], name: &str) -> u64 {
    stats.iter().find(|stat| stat.name == name).map_or(0, |stat| stat.value)
}

fn dropped(snapshot: &Snapshot, reason: Reason) -> u64 {
    let workers = snapshot.counts.iter().filter(|counts| counts.scope != Scope::Control);
    workers.map(|counts| value(&counts.stats, reason.name())).sum()
}

/// A second's share of what a counter grew by; a router that was started again begins at 0.
fn rate(before: u64, after: u64, seconds: f64) -> f64 {
    after.checked_sub(before).unwrap_or(after) as f64 / seconds
}

fn workers(before: &Snapshot, after: &Snapshot, seconds: f64) -> Vec<WorkerLine> {
    let line = |counts: &Counts| {
        let Scope::Worker(number) = counts.scope else { return None };
        let old = before.counts.iter().find(|old| old.scope == counts.scope);
        let grown =
            |name: &str| rate(old.map_or(0, |old| value(&old.stats, name)), value(&counts.stats, name), seconds);
        let drops = Reason::ALL.iter().map(|reason| (reason.name(), grown(reason.name())));
        let drops: Vec<_> = drops.filter(|(_, rate)| *rate > 0.0).collect();
        let (turns, idle) = (grown("turns"), grown("idle-turns"));
        Some(WorkerLine {
            number,
            load: if turns > 0.0 { 1.0 - idle / turns } else { 0.0 },
            encapsulated: grown("encapsulated"),
            decapsulated: grown("decapsulated"),
            missed: grown("missed"),
            dropped: drops.iter().fold(0.0, |sum, (_, rate)| sum + rate),
            worst: drops.into_iter().max_by(|one, other| one.1.total_cmp(&other.1)),
        })
    };
    after.counts.iter().filter_map(line).collect()
}

fn ports(before: &Snapshot, after: &Snapshot, seconds: f64) -> Vec<PortLine> {
    let line = |port: &PortStatus| {
        let old = before.ports.iter().find(|old| old.name == port.name);
        let grown = |name: &str| rate(old.map_or(0, |old| value(&old.stats, name)), value(&port.stats, name), seconds);
        let lost = ["kernel-rx-dropped", "kernel-rx-ring-full", "kernel-fill-ring-empty", "kernel-tx-invalid"];
        PortLine {
            name: port.name.clone(),
            roles: port.roles(),
            up: port.up,
            rates: ["received-packets", "received-octets", "sent-packets", "sent-octets"].map(grown),
            lost: lost.into_iter().map(grown).sum(),
        }
    };
    after.ports.iter().map(line).collect()
}

#[cfg(test)]
pub(super) mod tests;
