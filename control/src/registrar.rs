//! The registrar: tells Map-Servers which EID-Prefixes this site has and where, and keeps telling them.
//!
//! ```text
//!   start, change ─▶ a round: Map-Registers with all mappings, M set ─▶ … every 20 s for 5 min, then every 60 s
//!                      │ no Map-Notify: again after 1, 2, 4 … 60 s, with a new nonce; after two of them ─▶ silent
//!                      └ Map-Notify with one of its nonces ─▶ registered, but for what it leaves out
//!   stop, prefix gone ─▶ Map-Register with TTL 0; of one that others take the place of, behind theirs
//! ```
//!
//! The mappings are spread over as many messages as their size needs. A message that is sent again gets a new nonce: the
//! Map-Server refuses one that it has seen, and the Map-Notify alone may have been lost. Nonces grow over restarts, because
//! they start above all that were ever used ([`Settings::first_nonce`]); from one to the next they grow by what nobody can foretell:
//! an RTR that does not know us yet takes whoever comes first with one for us.
//!
//! Behind a NAT everything goes through an RTR instead, which the mappings then name, and comes again often enough to keep the NAT's
//! binding ([`Way::Relayed`]); what encloses it for the RTR is the driver's.
//!
//! Sources: draft-ermagan-lisp-nat-traversal-19 §5.1.1; RFC 9301 §5.6 (nonces, records), §5.7 (retransmission, Map-Notify,
//! Map-Notify-Ack), §8.2 (intervals), §5 (sizes).

#![forbid(unsafe_code)]

mod memory;
mod nonces;
mod server;
mod status;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Locator, Mapping, Ttl};
use hashbrown::HashSet;

pub use self::memory::{Damaged, Memory};
pub use self::status::{Circumstances, PrefixStanding, Reason, ServerStatus, Standing};
use self::{
    nonces::Nonces,
    server::{Server, Waiting},
};
use crate::{
    fault::faults,
    prefix_map::PrefixMap,
    wire::{Form, Key, MapNotify, MapRegister, XtrIdentity},
};

/// Time between two rounds (RFC 9301 §8.2).
pub const INTERVAL: Duration = Duration::from_secs(60);
/// The same soon after a start or a change.
pub const QUICK_INTERVAL: Duration = Duration::from_secs(20);
/// How long rounds are quick (RFC 9301 §8.2).
pub const QUICK_FOR: Duration = Duration::from_secs(300);
/// When a message without its Map-Notify is first sent again (RFC 9301 §5.7).
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Where the doubling of that ends (RFC 9301 §5.7).
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// Of the later rounds, every how many ask for a Map-Notify.
pub const CONFIRM_EVERY: u32 = 5;
/// Octets that the way through an RTR adds to a message of either inner family: the ECM's first word, inner IP and UDP header.
const ENCLOSED: [usize; 2] = [4 + 20 + 8, 4 + 40 + 8];
/// Most minutes that a mapping which names an RTR may be kept: a site whose RTR is silent takes another one, and nobody who has
/// the old mapping hears of it.
const RELAYED_TTL: u32 = 3;
/// Priority and weight of the RTR's locator.
const RTR_PREFERENCE: (u8, u8) = (1, 100);
/// Octets of UDP payload of a message over IPv4 and IPv6 while the path's MTU is not known (RFC 9301 §5).
const PAYLOAD_MAX: [usize; 2] = [576 - 20 - 8, 1280 - 40 - 8];

/// One Map-Server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapServer {
    /// Where it is.
    pub address: IpAddr,
    /// Keys shared with it, one or more: the first signs, all are accepted.
    pub keys: Vec<Key>,
    /// What its messages look like.
    pub form: Form,
    /// It shall answer Map-Requests for us.
    pub proxy: bool,
    /// It shall merge our locators with those of the site's other xTRs (RFC 9301 §5.6).
    pub merge: bool,
}

/// How Map-Servers are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Not at all: nobody is told anything as long as nobody knows whether a NAT is in between.
    Held,
    /// Not at all: a NAT is in between, and no RTR is known.
    Stranded,
    /// From port 4342 to port 4342.
    Direct,
    /// Through an RTR.
    Relayed(Relay),
}

/// The way out from behind a NAT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Whom packets to us go to.
    pub rtr: IpAddr,
    /// RLOCs of ours that nobody outside could send to.
    pub hidden: Vec<IpAddr>,
    /// From one round to the next, each of which asks for Map-Notifies.
    pub every: Duration,
}

impl Relay {
    /// A mapping as it looks from outside: the RTR has it, and what is hidden is not reachable.
    fn seen(&self, mapping: &mut Mapping) {
        for locator in mapping.locators.iter_mut().filter(|locator| self.hidden.contains(&locator.address)) {
            locator.reachable = false;
        }
        mapping.locators.retain(|locator| locator.address != self.rtr);
        let (priority, weight) = RTR_PREFERENCE;
        mapping.locators.push(Locator::unicast(self.rtr, priority, weight));
        mapping.ttl = match mapping.ttl {
            Ttl::Remove => Ttl::Remove,
            Ttl::Minutes(minutes) => Ttl::Minutes(minutes.min(RELAYED_TTL)),
            Ttl::ReceiverDecides => Ttl::Minutes(RELAYED_TTL),
        };
        altitude_dataplane::mapping::sort_locators(&mut mapping.locators);
    }
}

/// What the registrar is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Each address once.
    pub servers: Vec<MapServer>,
    /// What is registered.
    pub database: Vec<Mapping>,
    /// Who we are among the site's xTRs.
    pub xtr: Option<XtrIdentity>,
    /// We speak LISP-SEC: the S bit.
    pub security: bool,
    /// Greater than every nonce used before with these keys (RFC 9301 §5.6).
    pub first_nonce: u64,
    /// What nobody else knows of this run: nonces are made of it.
    pub secret: [u8; 16],
    /// How Map-Servers are reached at first.
    pub way: Way,
}

/// What happens to the registrar.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A Map-Notify came.
    Notify {
        /// IP source.
        from: IpAddr,
        /// It came in the guise of data, as an RTR delivers it.
        delivered: bool,
        /// As read.
        message: MapNotify,
        /// What it was read from.
        octets: Vec<u8>,
    },
    /// The site's mappings are these now.
    Change(Vec<Mapping>),
    /// Map-Servers are reached in another way: everything is told anew.
    Way(Way),
    /// The program ends.
    Stop,
    /// The time of [`Registrar::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send these octets from port 4342 to port 4342 of a Map-Server.
    Send {
        /// The Map-Server.
        to: IpAddr,
        /// The RTR that they go through, if they do.
        through: Option<IpAddr>,
        /// The message.
        octets: Vec<u8>,
    },
    /// Things stand otherwise with a Map-Server than before. [`Registrar::server`] tells more.
    Stands {
        /// Which.
        server: IpAddr,
        /// How.
        standing: Standing,
    },
    /// Count this.
    Drop(NotifyFault),
}

faults! {
    /// Why a Map-Notify had no effect.
    NotifyFault {
        /// From an address that is no Map-Server of ours.
        Stranger = "notify-from-stranger",
        /// A Map-Notify-Ack: nobody owes us one.
        Ack = "notify-ack-unwanted",
        /// A Key ID that is not shared with this Map-Server.
        UnknownKey = "notify-unknown-key",
        /// Signed by another key, or changed on the way.
        Mac = "notify-bad-authentication",
        /// An answer that was taken already, or news not newer than the last.
        Replayed = "notify-nonce-replayed",
    }
}

/// The machine.
#[derive(Debug)]
pub struct Registrar {
    servers: Vec<Server>,
    database: Vec<Mapping>,
    xtr: Option<XtrIdentity>,
    security: bool,
    nonces: Nonces,
    quick_until: Instant,
    way: Way,
}

impl Registrar {
    /// A registrar whose first round is due at once.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        let database: Vec<Mapping> = settings.database.into_iter().map(ours).collect();
        Self {
            servers: settings.servers.into_iter().map(|server| Server::new(server, &database, now)).collect(),
            database,
            xtr: settings.xtr,
            security: settings.security,
            nonces: Nonces::new(settings.first_nonce, settings.secret),
            quick_until: now + QUICK_FOR,
            way: settings.way,
        }
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input, todo: &mut Vec<Output>) {
        match input {
            Input::Notify { from, delivered, message, octets } => {
                if let Err(fault) = self.notified(now, (from, delivered), message, &octets, todo) {
                    todo.push(Output::Drop(fault));
                }
            }
            Input::Change(database) => self.change(now, database, todo),
            Input::Way(way) => self.turn(now, way, todo),
            Input::Stop => {
                let all = std::mem::take(&mut self.database);
                self.withdraw_all(now, &all, todo);
                self.servers.clear();
            }
            Input::Wake => {}
        }
        self.run(now, todo);
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.servers.iter().filter(|_| !self.is_silent()).map(Server::due).min()
    }

    /// Map-Notifies that answered what was waited for, from all Map-Servers.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.servers.iter().map(Server::confirmed).sum()
    }

    /// A nonce greater than all before, for a message of somebody else's under the same keys.
    pub fn nonce(&mut self) -> u64 {
        self.nonces.draw()
    }

    /// Nothing is to be said, or not now.
    fn is_silent(&self) -> bool {
        self.database.is_empty() || self.is_cut_off()
    }

    const fn is_cut_off(&self) -> bool {
        matches!(self.way, Way::Held | Way::Stranded)
    }

    /// How things stand with each Map-Server, in the order of the settings.
    pub fn servers(&self) -> impl Iterator<Item = ServerStatus> {
        self.servers.iter().map(|server| server.status(&self.way))
    }

    /// How things stand with one Map-Server.
    #[must_use]
    pub fn server(&self, address: IpAddr) -> Option<ServerStatus> {
        self.servers.iter().find(|server| server.address() == address).map(|server| server.status(&self.way))
    }

    /// Starts what is due: rounds, and single messages that were not answered.
    fn run(&mut self, now: Instant, todo: &mut Vec<Output>) {
        if self.is_cut_off() {
            return;
        }
        if self.database.is_empty() {
            return self.withdraw_all(now, &[], todo);
        }
        let pace = self.pace(now);
        for index in 0..self.servers.len() {
            if let Some(wait) = self.servers[index].begin_round(now, pace) {
                for records in self.messages(index, &self.database) {
                    self.send(now, index, records, Vec::new(), wait, todo);
                }
                // What takes its place is told by now.
                let leaving = std::mem::take(&mut self.servers[index].leaving);
                self.withdraw(now, index, leaving, todo);
            }
            while let Some(Waiting { nonces, records, spacing, .. }) = self.servers[index].late(now) {
                self.send(now, index, records, nonces, Some((spacing * 2).min(RETRY_MAX)), todo);
            }
        }
    }

    /// Time to the next round, and whether all of this one is to be confirmed.
    fn pace(&self, now: Instant) -> (Duration, bool) {
        let quick = now < self.quick_until;
        let usual = if quick { QUICK_INTERVAL } else { INTERVAL };
        match &self.way {
            Way::Relayed(relay) => (relay.every, true),
            Way::Held | Way::Stranded | Way::Direct => (usual, quick),
        }
    }

    const fn relay(&self) -> Option<&Relay> {
        match &self.way {
            Way::Relayed(relay) => Some(relay),
            Way::Held | Way::Stranded | Way::Direct => None,
        }
    }

    /// Takes another way. What was told in the old one is in doubt.
    fn turn(&mut self, now: Instant, way: Way, todo: &mut Vec<Output>) {
        if way == self.way {
            return;
        }
        self.way = way;
        self.quick_until = now + QUICK_FOR;
        for server in &mut self.servers {
            server.change(now, &[], &self.database, todo);
        }
    }

    /// Mappings in parts that each fit a message to this Map-Server. One that is too large by itself goes alone, and the
    /// network layer cuts it up: a record cannot be divided.
    fn messages(&self, index: usize, mappings: &[Mapping]) -> Vec<Vec<Mapping>> {
        let inner = usize::from(self.servers[index].address().is_ipv6());
        let limit = self
            .relay()
            .map_or(PAYLOAD_MAX[inner], |relay| PAYLOAD_MAX[usize::from(relay.rtr.is_ipv6())] - ENCLOSED[inner]);
        let size = |records: &[Mapping]| self.register(index, 0, records.to_vec(), false).len();
        let empty = size(&[]);
        let (mut messages, mut length) = (Vec::<Vec<Mapping>>::new(), 0);
        for mapping in mappings {
            let octets = size(std::slice::from_ref(mapping)) - empty;
            match messages.last_mut() {
                Some(last) if length + octets <= limit && last.len() < MapRegister::RECORDS_MAX => {
                    last.push(mapping.clone());
                    length += octets;
                }
                _ => {
                    messages.push(vec![mapping.clone()]);
                    length = empty + octets;
                }
            }
        }
        messages
    }

    /// Sends one message, and waits for its Map-Notify for the time given before it goes again; `earlier` are the nonces that
    /// it had before.
    fn send(
        &mut self,
        now: Instant,
        index: usize,
        records: Vec<Mapping>,
        mut earlier: Vec<u64>,
        wait: Option<Duration>,
        todo: &mut Vec<Output>,
    ) {
        let nonce = self.nonce();
        let through = self.relay().map(|relay| relay.rtr);
        // What is taken back is no more the RTR's either, and it believes the Map-Server alone.
        let octets = self.register(index, nonce, records.clone(), wait.is_some() || through.is_some());
        let server = &mut self.servers[index];
        todo.push(Output::Send { to: server.address(), through, octets });
        server.sent();
        if let Some(spacing) = wait {
            earlier.push(nonce);
            server.await_answer(now, records, earlier, spacing, todo);
        } else if through.is_some() {
            server.told_rtr(nonce);
        }
    }

    fn register(&self, index: usize, nonce: u64, mut records: Vec<Mapping>, want_notify: bool) -> Vec<u8> {
        let MapServer { keys, form, proxy, merge, .. } = &self.servers[index].settings;
        let (relay, merge) = (self.relay(), *merge);
        // Through a NAT nobody but the Map-Server could answer for us.
        let proxy = *proxy || relay.is_some();
        if merge {
            // The others' locators are theirs to tell: it is the Map-Server that unites them.
            records.iter_mut().for_each(|record| record.locators.retain(|locator| locator.local));
        }
        if let Some(relay) = relay {
            records.iter_mut().for_each(|record| relay.seen(record));
        }
        let ttl_timeout = records.iter().any(|mapping| mapping.ttl == Ttl::Remove);
        let (security, xtr) = (self.security, self.xtr);
        let flags = MapRegister { proxy, merge, security, ttl_timeout, want_notify, ..Default::default() };
        let message = MapRegister { nonce, records, xtr, ..flags };
        message.signed(&keys[0], *form)
    }

    fn notified(
        &mut self,
        now: Instant,
        (from, delivered): (IpAddr, bool),
        message: MapNotify,
        octets: &[u8],
        todo: &mut Vec<Output>,
    ) -> Result<(), NotifyFault> {
        let through = self.relay().map(|relay| relay.rtr);
        let server = self.servers.iter_mut().find(|server| server.address() == from);
        let server = server.ok_or(NotifyFault::Stranger)?;
        if message.ack {
            return Err(NotifyFault::Ack);
        }
        if through.is_some() && !delivered {
            // It says nothing of the way through the RTR: whoever sends it is to hide from nobody that nothing comes that way.
            server.proves(&message, octets)?;
        }
        server.notified(now, message, octets, (&self.nonces, through), todo)
    }

    /// Takes on other mappings: what is gone is withdrawn, the rest registered at once.
    fn change(&mut self, now: Instant, database: Vec<Mapping>, todo: &mut Vec<Output>) {
        let database: Vec<Mapping> = database.into_iter().map(ours).collect();
        let old = std::mem::replace(&mut self.database, database);
        let stays: HashSet<EidPrefix> = self.database.iter().map(|mapping| mapping.eid).collect();
        let known: HashSet<EidPrefix> = old.iter().map(|mapping| mapping.eid).collect();
        let new = self.database.iter().map(|mapping| mapping.eid).filter(|eid| !known.contains(eid));
        let new: PrefixMap<()> = new.map(|eid| (eid, ())).collect();
        let is_replaced =
            |mapping: &Mapping| new.covering(&mapping.eid).is_some() || new.within(&mapping.eid).next().is_some();
        let gone = old.iter().filter(|mapping| !stays.contains(&mapping.eid)).cloned();
        let (replaced, gone): (Vec<Mapping>, Vec<Mapping>) = gone.partition(is_replaced);
        for server in &mut self.servers {
            server.leaving.retain(|mapping| !stays.contains(&mapping.eid));
            server.leaving.extend_from_slice(&replaced);
        }
        for index in 0..self.servers.len() {
            self.withdraw(now, index, gone.clone(), todo);
        }
        self.quick_until = now + QUICK_FOR;
        for server in &mut self.servers {
            server.change(now, &old, &self.database, todo);
        }
    }

    /// Takes mappings back, once, without waiting for an answer (RFC 9301 §5.4).
    fn withdraw(&mut self, now: Instant, index: usize, mut gone: Vec<Mapping>, todo: &mut Vec<Output>) {
        if self.is_cut_off() {
            return;
        }
        gone.iter_mut().for_each(|mapping| mapping.ttl = Ttl::Remove);
        for records in self.messages(index, &gone) {
            self.send(now, index, records, Vec::new(), None, todo);
        }
    }

    /// Takes back everything that a Map-Server may have.
    fn withdraw_all(&mut self, now: Instant, all: &[Mapping], todo: &mut Vec<Output>) {
        for index in 0..self.servers.len() {
            let leaving = std::mem::take(&mut self.servers[index].leaving);
            self.withdraw(now, index, [all, &leaving].concat(), todo);
        }
    }
}

/// A mapping as an ETR of the site registers it: authoritative, and no locator marked as probed (RFC 9301 §5.4).
fn ours(mut mapping: Mapping) -> Mapping {
    mapping.authoritative = true;
    for locator in &mut mapping.locators {
        locator.probed = false;
    }
    altitude_dataplane::mapping::sort_locators(&mut mapping.locators);
    mapping
}
