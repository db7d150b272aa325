//! The registrar: tells Map-Servers which EID-Prefixes this site has and where, and keeps telling them.
//!
//! ```text
//!   start, change ─▶ a round: Map-Registers with all mappings, M set ─▶ … every 20 s for 5 min, then every 60 s
//!                      │ no Map-Notify: again after 1, 2, 4 … 60 s, with a new nonce
//!                      └ Map-Notify with its nonce ─▶ registered
//!   stop, prefix gone ─▶ Map-Register with TTL 0
//! ```
//!
//! The mappings are spread over as many messages as their size needs. A message that is sent again gets a new nonce: the
//! Map-Server refuses one that it has seen, and the Map-Notify alone may have been lost. Nonces grow over restarts, because
//! they start from the wall clock.
//!
//! Sources: RFC 9301 §5.6 (nonces, records), §5.7 (retransmission, Map-Notify, Map-Notify-Ack), §8.2 (intervals), §5 (sizes).

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Mapping, Ttl};

use crate::{
    fault::faults,
    wire::{AuthenticationError, Form, Key, MapNotify, MapRegister, XtrIdentity},
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

/// What the registrar is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Each address once.
    pub servers: Vec<MapServer>,
    /// What is registered.
    pub database: Vec<Mapping>,
    /// Who we are among the site's xTRs.
    pub xtr: Option<XtrIdentity>,
    /// Greater than every nonce used before with these keys: the wall clock's seconds in the upper half.
    pub first_nonce: u64,
}

/// What happens to the registrar.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A Map-Notify came.
    Notify {
        /// IP source.
        from: IpAddr,
        /// As read.
        message: MapNotify,
        /// What it was read from.
        octets: Vec<u8>,
    },
    /// The site's mappings are these now.
    Change(Vec<Mapping>),
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
        /// The message.
        octets: Vec<u8>,
    },
    /// A Map-Server confirmed all we registered, after it had not.
    Registered(IpAddr),
    /// A Map-Server that had confirmed does so no more.
    Lost(IpAddr),
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

/// How things stand with a Map-Server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It confirmed every prefix.
    Registered {
        /// When it first did so without a break.
        since: Instant,
    },
    /// Nothing came back that counts.
    Silent {
        /// When the first message went out that it has not confirmed.
        since: Instant,
    },
    /// Its Map-Notifies are signed with something else than our keys.
    WrongKey {
        /// When the first of them came.
        since: Instant,
    },
    /// It confirmed less than we registered.
    Partial {
        /// Prefixes that it left out.
        refused: usize,
    },
}

/// One Map-Server for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Which.
    pub address: IpAddr,
    /// How things stand.
    pub standing: Standing,
    /// Map-Registers sent.
    pub sent: u64,
    /// Map-Notifies that answered one of them.
    pub confirmed: u64,
    /// When the last of these came.
    pub last_notify: Option<Instant>,
}

/// A Map-Register that waits for its Map-Notify.
#[derive(Debug, Clone)]
struct Waiting {
    records: Vec<Mapping>,
    again_at: Instant,
    spacing: Duration,
}

/// One Map-Server as the machine sees it.
#[derive(Debug)]
struct Server {
    settings: MapServer,
    /// By nonce.
    waiting: BTreeMap<u64, Waiting>,
    /// Prefixes that the last round's answers left out, so far.
    refused: usize,
    standing: Standing,
    next_round: Instant,
    rounds: u32,
    sent: u64,
    confirmed: u64,
    last_notify: Option<Instant>,
    /// Of the Map-Notifies that answered nothing, the greatest.
    last_unasked: Option<u64>,
}

/// The machine.
#[derive(Debug)]
pub struct Registrar {
    servers: Vec<Server>,
    database: Vec<Mapping>,
    xtr: Option<XtrIdentity>,
    first_nonce: u64,
    next_nonce: u64,
    quick_until: Instant,
}

impl Registrar {
    /// A registrar whose first round is due at once.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        let server = |settings: MapServer| Server {
            settings,
            waiting: BTreeMap::new(),
            refused: 0,
            standing: Standing::Silent { since: now },
            next_round: now,
            rounds: 0,
            sent: 0,
            confirmed: 0,
            last_notify: None,
            last_unasked: None,
        };
        Self {
            servers: settings.servers.into_iter().map(server).collect(),
            database: settings.database.into_iter().map(ours).collect(),
            xtr: settings.xtr,
            first_nonce: settings.first_nonce,
            next_nonce: settings.first_nonce,
            quick_until: now + QUICK_FOR,
        }
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input, todo: &mut Vec<Output>) {
        match input {
            Input::Notify { from, message, octets } => {
                if let Err(fault) = self.notified(now, from, message, &octets, todo) {
                    todo.push(Output::Drop(fault));
                }
            }
            Input::Change(database) => self.change(now, database, todo),
            Input::Stop => {
                let all: Vec<EidPrefix> = self.database.iter().map(|mapping| mapping.eid).collect();
                self.withdraw(&all, todo);
                self.servers.clear();
            }
            Input::Wake => {}
        }
        self.run(now, todo);
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let server = |server: &Server| {
            let retry = server.waiting.values().map(|waiting| waiting.again_at).min();
            retry.map_or(server.next_round, |retry| retry.min(server.next_round))
        };
        self.servers.iter().filter(|_| !self.database.is_empty()).map(server).min()
    }

    /// How things stand with each Map-Server, in the order of the settings.
    pub fn servers(&self) -> impl Iterator<Item = ServerStatus> {
        self.servers.iter().map(|server| ServerStatus {
            address: server.settings.address,
            standing: server.standing,
            sent: server.sent,
            confirmed: server.confirmed,
            last_notify: server.last_notify,
        })
    }

    /// Starts what is due: rounds, and single messages that were not answered.
    fn run(&mut self, now: Instant, todo: &mut Vec<Output>) {
        if self.database.is_empty() {
            return;
        }
        for index in 0..self.servers.len() {
            if self.servers[index].next_round <= now {
                self.round(now, index, todo);
            }
            let late = |server: &Server| {
                server.waiting.iter().find(|(_, waiting)| waiting.again_at <= now).map(|(nonce, _)| *nonce)
            };
            while let Some(nonce) = late(&self.servers[index]) {
                let Some(Waiting { records, spacing, .. }) = self.servers[index].waiting.remove(&nonce) else { break };
                self.send(now, index, records, Some((spacing * 2).min(RETRY_MAX)), todo);
            }
        }
    }

    /// Registers everything with one Map-Server. What the last round still waits for is part of it.
    fn round(&mut self, now: Instant, index: usize, todo: &mut Vec<Output>) {
        let quick = now < self.quick_until;
        let server = &mut self.servers[index];
        // As long as something is not confirmed, every round asks for it.
        let unconfirmed = !server.waiting.is_empty() || !matches!(server.standing, Standing::Registered { .. });
        let confirm = quick || unconfirmed || server.rounds.is_multiple_of(CONFIRM_EVERY);
        let spacing = server.waiting.values().map(|waiting| waiting.spacing).max().unwrap_or(RETRY_FIRST);
        server.waiting.clear();
        server.refused = 0;
        server.rounds += 1;
        server.next_round = now + if quick { QUICK_INTERVAL } else { INTERVAL };
        for records in self.messages(index) {
            self.send(now, index, records, confirm.then_some(spacing), todo);
        }
    }

    /// The database in parts that each fit a message to this Map-Server.
    fn messages(&self, index: usize) -> Vec<Vec<Mapping>> {
        let limit = PAYLOAD_MAX[usize::from(self.servers[index].settings.address.is_ipv6())];
        let size = |records: &[Mapping]| self.register(index, 0, records.to_vec(), false).len();
        let empty = size(&[]);
        let (mut messages, mut length) = (Vec::<Vec<Mapping>>::new(), 0);
        for mapping in &self.database {
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

    /// Sends one message, and waits for its Map-Notify for the time given before it goes again.
    fn send(
        &mut self,
        now: Instant,
        index: usize,
        records: Vec<Mapping>,
        wait: Option<Duration>,
        todo: &mut Vec<Output>,
    ) {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        let octets = self.register(index, nonce, records.clone(), wait.is_some());
        let server = &mut self.servers[index];
        server.sent += 1;
        if let Some(spacing) = wait {
            server.waiting.insert(nonce, Waiting { records, again_at: now + spacing, spacing });
        }
        todo.push(Output::Send { to: server.settings.address, octets });
        // Two whole retries without an answer: what was confirmed before is in doubt.
        if wait.is_some_and(|spacing| spacing > RETRY_FIRST * 2)
            && matches!(server.standing, Standing::Registered { .. })
        {
            server.standing = Standing::Silent { since: now };
            todo.push(Output::Lost(server.settings.address));
        }
    }

    fn register(&self, index: usize, nonce: u64, records: Vec<Mapping>, want_notify: bool) -> Vec<u8> {
        let MapServer { keys, form, proxy, merge, .. } = &self.servers[index].settings;
        let (proxy, merge) = (*proxy, *merge);
        let ttl_timeout = records.iter().any(|mapping| mapping.ttl == Ttl::Remove);
        let message =
            MapRegister { proxy, merge, ttl_timeout, want_notify, nonce, records, xtr: self.xtr, ..Default::default() };
        message.signed(&keys[0], *form)
    }

    /// Verifies before it believes anything (RFC 9301 §5.7).
    fn notified(
        &mut self,
        now: Instant,
        from: IpAddr,
        message: MapNotify,
        octets: &[u8],
        todo: &mut Vec<Output>,
    ) -> Result<(), NotifyFault> {
        let server = self.servers.iter_mut().find(|server| server.settings.address == from);
        let server = server.ok_or(NotifyFault::Stranger)?;
        if message.ack {
            return Err(NotifyFault::Ack);
        }
        let key = message.verify(octets, &server.settings.keys).map_err(|error| {
            if !matches!(server.standing, Standing::Registered { .. } | Standing::WrongKey { .. }) {
                server.standing = Standing::WrongKey { since: now };
            }
            match error {
                AuthenticationError::UnknownKey(_) => NotifyFault::UnknownKey,
                _ => NotifyFault::Mac,
            }
        })?;
        if let Some(asked) = server.waiting.remove(&message.nonce) {
            server.confirm(now, &asked.records, &message.records, todo);
            return Ok(());
        }
        // Nobody waits for it: an answer that comes twice, or news of the Map-Server's own, to be acknowledged once.
        let answer = (self.first_nonce..self.next_nonce).contains(&message.nonce);
        if answer || server.last_unasked.is_some_and(|last| message.nonce <= last) {
            return Err(NotifyFault::Replayed);
        }
        server.last_unasked = Some(message.nonce);
        let ack = MapNotify { ack: true, ..message }.signed(key, server.settings.form);
        todo.push(Output::Send { to: from, octets: ack });
        Ok(())
    }

    /// Takes on other mappings: what is gone is withdrawn, the rest registered at once.
    fn change(&mut self, now: Instant, database: Vec<Mapping>, todo: &mut Vec<Output>) {
        let database: Vec<Mapping> = database.into_iter().map(ours).collect();
        let stays = |eid: &EidPrefix| database.iter().any(|mapping| mapping.eid == *eid);
        let gone: Vec<EidPrefix> = self.database.iter().map(|mapping| mapping.eid).filter(|eid| !stays(eid)).collect();
        self.withdraw(&gone, todo);
        self.database = database;
        self.quick_until = now + QUICK_FOR;
        for server in &mut self.servers {
            server.waiting.clear();
            server.next_round = now;
        }
    }

    /// Takes prefixes of the database back, once, without waiting for an answer (RFC 9301 §5.4).
    fn withdraw(&mut self, gone: &[EidPrefix], todo: &mut Vec<Output>) {
        let whole = std::mem::take(&mut self.database);
        let leaving = whole.iter().filter(|mapping| gone.contains(&mapping.eid));
        self.database = leaving.map(|mapping| Mapping { ttl: Ttl::Remove, ..mapping.clone() }).collect();
        for index in 0..self.servers.len() {
            for records in self.messages(index) {
                let nonce = self.next_nonce;
                self.next_nonce += 1;
                let octets = self.register(index, nonce, records, false);
                let server = &mut self.servers[index];
                server.sent += 1;
                todo.push(Output::Send { to: server.settings.address, octets });
            }
        }
        self.database = whole;
    }
}

impl Server {
    /// Takes in the Map-Notify for a message that asked for `asked`.
    fn confirm(&mut self, now: Instant, asked: &[Mapping], given: &[Mapping], todo: &mut Vec<Output>) {
        self.confirmed += 1;
        self.last_notify = Some(now);
        let missing = |asked: &&Mapping| !given.iter().any(|given| given.eid == asked.eid);
        self.refused += asked.iter().filter(missing).count();
        if self.refused > 0 {
            if matches!(self.standing, Standing::Registered { .. }) {
                todo.push(Output::Lost(self.settings.address));
            }
            self.standing = Standing::Partial { refused: self.refused };
        } else if self.waiting.is_empty() && !matches!(self.standing, Standing::Registered { .. }) {
            self.standing = Standing::Registered { since: now };
            todo.push(Output::Registered(self.settings.address));
        }
    }
}

/// A mapping as an ETR of the site registers it: authoritative, and no locator marked as probed (RFC 9301 §5.4).
fn ours(mut mapping: Mapping) -> Mapping {
    mapping.authoritative = true;
    for locator in &mut mapping.locators {
        locator.probed = false;
    }
    mapping.locators.sort_by(altitude_dataplane::mapping::Locator::wire_order);
    mapping
}
