//! The RTR: relays what xTRs behind NATs register, and learns by that where they are.
//!
//! ```text
//! ECM with R from an xTR ─ for a Map-Server of ours? ─ within the rates? ─▶ binding, unverified ─▶ ECM with N to the Map-Server
//! ECM with R from a Map-Server ─ its key, or the nonce ─▶ binding, verified ─▶ Data-Map-Notify to the xTR; its EID-Prefixes in
//! 180 s without another, or TTL 0 ─▶ gone
//! ```
//!
//! A binding is what a NAT has for one xTR: a [`Binding`] is known by the translated address and port, the xTR-ID and what the xTR
//! calls itself. What is not verified moves no data, and what is verified changes by nothing that is not: who forges a
//! Map-Register gets a binding of his own, which ends when no Map-Notify comes for it. A NAT that gives the xTR another port
//! makes a new binding, too, which takes the prefixes of the old one over when it is verified. A Map-Register that was seen before
//! from elsewhere makes none, whatever it says that the xTR calls itself: its Map-Notify would be the one for the other.
//!
//! Verified is a binding for the EID-Prefixes that it has, and for no others: whoever has a site of his own may have bindings of any
//! xTR-ID verified. A Map-Notify is for the Map-Register that it shares the nonce and all EID-Prefixes with, and no binding that is
//! verified for these waits for one that is not. One that is verified for none yet does, for ten seconds: who knows
//! the xTR's next nonce keeps it out. So our xTRs' nonces cannot be foretold.
//!
//! Two xTRs, or two links of one, may have the same EID-Prefix: their bindings are locators of one mapping.
//!
//! Source: draft-ermagan-lisp-nat-traversal-19 §4.3, §4.4, §4.5, §5.3.

#![forbid(unsafe_code)]

mod binding;
mod fault;
mod prefixes;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    ops::Bound,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Mapping, Ttl};

pub use self::{binding::Binding, fault::RelayFault};
use self::{
    binding::{Address, Held, Name},
    waiting::{Mark, mark},
};
use crate::{
    alt::datagrams::CONTROL_PORT,
    map_server::TIMEOUT,
    nat::Peer,
    rate::{Bucket, Buckets, Rate},
    wire::{
        MapNotify, MapRegister, XtrIdentity, data_map_notify,
        ecm::{self, Ecm},
    },
};

/// How long a Map-Register waits for its Map-Notify, unless the binding has all EID-Prefixes that it is about.
pub const UNVERIFIED_FOR: Duration = Duration::from_secs(10);
/// How long a binding lasts without another Map-Notify: as long as the Map-Server keeps the registration (RFC 9301 §8.2).
pub const LIFETIME: Duration = TIMEOUT;
/// Map-Registers of one binding whose Map-Notify is waited for: more than a round of a large site has.
const WAITING_MAX: usize = 64;
/// Addresses whose Map-Registers are counted at a time.
const ADDRESSES_MAX: usize = 131_072;
/// EID-Prefixes of one binding.
const PREFIXES_MAX: usize = 256;
/// Bindings and prefixes that end in one step: when a Map-Server was away, all run out together.
const ENDED_MAX: usize = 4096;
/// How often it is said again what has not changed, in case somebody took it out.
const TELL_AGAIN: Duration = Duration::from_secs(120);
/// Bindings that one EID-Prefix is reached by.
const CLAIMS_MAX: usize = 16;
/// Bindings of one xTR at one address that are not verified; the one that ends first gives way.
const STRANGERS_OF_XTR_MAX: usize = 16;

/// What the RTR is told at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Map-Servers that xTRs may register with through us. With a key, what one says has to be proven by it.
    pub servers: Vec<Peer>,
    /// Instances whose packets we take.
    pub instances: Vec<InstanceId>,
    /// Map-Registers of what is not verified at one address, and of one verified binding.
    pub each: Rate,
    /// Map-Registers of bindings that are not verified, altogether: what a flood of forged ones may take of the Map-Servers' time.
    pub strangers: Rate,
    /// Most bindings.
    pub bindings_max: usize,
    /// Most bindings of one address: xTRs behind one NAT.
    pub of_address_max: usize,
    /// Of them, most that are not verified; then the one that ends first gives way.
    pub strangers_of_address_max: usize,
    /// Most EID-Prefixes altogether: none of them gives way to what the map-cache learns.
    pub prefixes_max: usize,
}

impl Settings {
    /// The defaults: 50 Map-Registers a second of one address, 5000 of strangers.
    #[must_use]
    pub const fn new(servers: Vec<Peer>, instances: Vec<InstanceId>) -> Self {
        Self {
            servers,
            instances,
            each: Rate { burst: 500, every: Duration::from_millis(20) },
            strangers: Rate { burst: 5000, every: Duration::from_micros(200) },
            bindings_max: 131_072,
            of_address_max: 4096,
            strangers_of_address_max: 256,
            prefixes_max: 131_072,
        }
    }
}

/// What happens to the RTR.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input<'a> {
    /// A Map-Register came in an ECM with the R bit.
    Register {
        /// The translated address and port.
        from: SocketAddr,
        /// Which of our RLOCs it was sent to.
        local: IpAddr,
        /// The ECM.
        ecm: &'a Ecm<'a>,
        /// What is inside.
        message: &'a MapRegister,
    },
    /// A Map-Notify came in an ECM with the R bit.
    Notify {
        /// Where it came from.
        from: IpAddr,
        /// The ECM.
        ecm: &'a Ecm<'a>,
        /// What it was read from.
        octets: &'a [u8],
        /// What is inside.
        message: &'a MapNotify,
    },
    /// The time of [`Relay::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this ECM to port 4342 of a Map-Server.
    Relay {
        /// The Map-Server.
        to: IpAddr,
        /// The message.
        octets: Vec<u8>,
    },
    /// Send this Data-Map-Notify from port 4342 of one of our RLOCs.
    Deliver {
        /// The translated address and port.
        to: SocketAddr,
        /// The RLOC that the binding leads to.
        local: IpAddr,
        /// The message.
        octets: Vec<u8>,
    },
    /// Packets to this prefix go to these translated ports from now on.
    Install(Mapping),
    /// Nobody behind a NAT has this prefix any more.
    Remove(EidPrefix),
    /// A binding is verified for the first time. For the log.
    Verified {
        /// Whose.
        xtr: XtrIdentity,
        /// The translated address and port.
        translated: SocketAddr,
    },
    /// A verified binding ended. For the log.
    Ended {
        /// Whose.
        xtr: XtrIdentity,
        /// The translated address and port.
        translated: SocketAddr,
    },
    /// Count this.
    Drop(RelayFault),
}

/// The machine.
#[derive(Debug)]
pub struct Relay {
    settings: Settings,
    bindings: BTreeMap<Name, Held>,
    deadlines: BTreeSet<(Instant, Name)>,
    /// Those of them that are not verified.
    unverified: BTreeSet<(Instant, Name)>,
    addresses: HashMap<IpAddr, Address>,
    /// Bindings by the Map-Registers that wait there: one for each.
    waiting: HashMap<Mark, Name>,
    /// Verified bindings by what is behind them.
    claims: BTreeMap<EidPrefix, BTreeSet<Name>>,
    each: Buckets<IpAddr>,
    strangers: Bucket,
}

impl Relay {
    /// An RTR that nobody registers through yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            each: Buckets::new(settings.each, ADDRESSES_MAX),
            settings,
            bindings: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unverified: BTreeSet::new(),
            addresses: HashMap::new(),
            waiting: HashMap::new(),
            claims: BTreeMap::new(),
            strangers: Bucket::new(),
        }
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input<'_>, todo: &mut Vec<Output>) {
        self.end_old(now, todo);
        let taken = match input {
            Input::Register { from, local, ecm, message } => self.register(now, (from, local), ecm, message, todo),
            Input::Notify { from, ecm, octets, message } => self.notify(now, from, (ecm, octets), message, todo),
            Input::Wake => Ok(()),
        };
        todo.extend(taken.err().map(Output::Drop));
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// All bindings.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> {
        self.bindings_after(None)
    }

    /// Bindings behind that of this xTR-ID, of an xTR that has this address and port, and this translated one, ascending by these.
    pub fn bindings_after(&self, after: Option<([u8; 16], IpAddr, SocketAddr)>) -> impl Iterator<Item = Binding> {
        let after = after.map(|(xtr_id, inner, translated)| Name { xtr_id, inner, translated });
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.bindings.range((start, Bound::Unbounded)).map(|(name, held)| Binding {
            xtr: held.xtr,
            translated: name.translated,
            rloc: held.rloc,
            inner: SocketAddr::new(name.inner, held.inner_port),
            nonce: held.nonce,
            verified: held.is_verified(),
            since: held.since,
            heard: held.heard,
            eids: held.prefixes.keys().copied().collect(),
        })
    }

    fn register(
        &mut self,
        now: Instant,
        (from, local): (SocketAddr, IpAddr),
        ecm: &Ecm<'_>,
        message: &MapRegister,
        todo: &mut Vec<Output>,
    ) -> Result<(), RelayFault> {
        let xtr = message.xtr.ok_or(RelayFault::Unnamed)?;
        let (inner, server) = (ecm.datagram.source, ecm.datagram.destination);
        if server.port() != CONTROL_PORT || !self.settings.servers.iter().any(|known| known.address == server.ip()) {
            return Err(RelayFault::ForeignServer);
        }
        if from.port() == 0 {
            return Err(RelayFault::NoPort);
        }
        if !message.records.iter().all(|record| may_be_of(inner.ip(), record)) {
            return Err(RelayFault::ForeignInner);
        }
        if !message.records.iter().all(|record| leads_to(local, record)) {
            return Err(RelayFault::ForeignRtr);
        }
        let name = Name { xtr_id: xtr.xtr_id, inner: inner.ip(), translated: from };
        if !self.may_register(now, &name) {
            return Err(RelayFault::Limited);
        }
        let nonce = (message.nonce, server.ip());
        let mark = mark(xtr.xtr_id, nonce, &message.records);
        self.is_first(now, &name, &mark, &message.records)?;
        if !self.bindings.contains_key(&name) {
            self.meet(now, name, local, xtr, todo)?;
        }
        let Some(held) = self.bindings.get_mut(&name) else { return Err(RelayFault::Full) };
        (held.xtr, held.inner_port, held.nonce, held.heard) = (xtr, inner.port(), message.nonce, now);
        if !held.is_verified() {
            held.rloc = local;
        }
        self.wait(now, name, mark, nonce);
        self.set_deadline(&name);
        todo.push(Output::Relay { to: server.ip(), octets: ecm::encapsulate_relayed(ecm.packet) });
        Ok(())
    }

    /// What is verified has a rate of its own, so that nobody uses it up who only says that he is behind the same NAT.
    fn may_register(&mut self, now: Instant, name: &Name) -> bool {
        match self.bindings.get_mut(name) {
            Some(held) if held.is_verified() => held.bucket.take(now, self.settings.each),
            _ => self.each.take(now, name.translated.ip()).is_ok() && self.strangers.take(now, self.settings.strangers),
        }
    }

    fn notify(
        &mut self,
        now: Instant,
        from: IpAddr,
        (ecm, octets): (&Ecm<'_>, &[u8]),
        message: &MapNotify,
        todo: &mut Vec<Output>,
    ) -> Result<(), RelayFault> {
        let server = self.settings.servers.iter().find(|server| server.address == from).ok_or(RelayFault::Unwanted)?;
        match ecm.verify(octets, &server.keys) {
            None if server.keys.is_empty() => {}
            None => return Err(RelayFault::Unproven),
            Some(Ok(_)) => {}
            Some(Err(_)) => return Err(RelayFault::Forged),
        }
        let xtr = message.xtr.ok_or(RelayFault::Unwanted)?;
        let inner = ecm.datagram.destination.ip();
        let nonce = (message.nonce, from);
        let mark = mark(xtr.xtr_id, nonce, &message.records);
        let name = self.waits(now, &mark, &message.records).filter(|name| name.inner == inner);
        let name = name.ok_or_else(|| self.unasked((xtr.xtr_id, inner), nonce))?;
        self.prove(&name, mark);
        let Some(held) = self.bindings.get(&name) else { return Err(RelayFault::Nonce) };
        let (was_verified, rloc) = (held.is_verified(), held.rloc);
        self.take_in(now, name, &message.records, todo)?;
        let verified = self.bindings.get(&name).is_some_and(Held::is_verified);
        if verified && !was_verified {
            self.bindings.entry(name).and_modify(|held| held.told = true);
            todo.push(Output::Verified { xtr, translated: name.translated });
        }
        todo.push(Output::Deliver { to: name.translated, local: rloc, octets: data_map_notify::encode(ecm.packet) });
        if was_verified && !verified {
            self.end(name, todo);
        }
        Ok(())
    }
}

/// Whether an xTR that calls itself so may have registered a record: behind a NAT it names its own addresses as what nobody can
/// send to (§4.3), unless it names none.
fn may_be_of(inner: IpAddr, record: &Mapping) -> bool {
    let mut hidden = record.locators.iter().filter(|locator| !locator.reachable).peekable();
    record.ttl == Ttl::Remove || hidden.peek().is_none() || record.locators.iter().any(|one| one.address == inner)
}

/// Whether packets to a record's EIDs come to this RLOC of ours. What a site without a NAT tells its Map-Server names no RTR (§4.3).
fn leads_to(local: IpAddr, record: &Mapping) -> bool {
    record.ttl == Ttl::Remove || record.locators.iter().any(|one| one.address == local)
}
