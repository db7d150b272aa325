//! The RTR: relays what xTRs behind NATs register, and learns by that where they are.
//!
//! ```text
//! ECM with R from an xTR ─ for a Map-Server of ours? ─ within the rates? ─▶ binding, unverified ─▶ ECM with N to the Map-Server
//! ECM with R from a Map-Server ─ its key, or the nonce ─▶ binding, verified ─▶ Data-Map-Notify to the xTR; its EID-Prefixes in
//! 180 s without another, or TTL ─▶ gone
//! ```
//!
//! A binding is what a NAT has for one xTR: a [`Binding`] is known by the translated address and port, the xTR-ID and what the xTR
//! calls itself. What is not verified moves no data, and what is verified changes by nothing that is not: who forges a
//! Map-Register gets a binding of his own, which ends when no Map-Notify comes for it. A NAT that gives the xTR another port
//! makes a new binding, too, and the old one ends when the new one is verified. A Map-Register that was seen before from elsewhere
//! makes none: its Map-Notify would be the one for the other.
//!
//! Two xTRs, or two links of one, may have the same EID-Prefix: their bindings are locators of one mapping.
//!
//! Source: draft-ermagan-lisp-nat-traversal-19 §4.3, §4.4, §4.5, §5.3.

#![forbid(unsafe_code)]

mod binding;
mod fault;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{
    Action, EidPrefix, InstanceId, Locator, Mapping, Ttl, UNUSABLE_PRIORITY, sort_locators,
};

use self::binding::{Claim, Held, Name, lasts};
pub use self::{binding::Binding, fault::RelayFault};
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

/// How long a Map-Register waits for its Map-Notify.
pub const UNVERIFIED_FOR: Duration = Duration::from_secs(10);
/// How long a binding lasts without another Map-Notify: as long as the Map-Server keeps the registration (RFC 9301 §8.2).
pub const LIFETIME: Duration = TIMEOUT;
/// Map-Registers of one binding whose Map-Notify is waited for: more than a round of a large site has.
const WAITING_MAX: usize = 64;
/// Addresses whose Map-Registers are counted at a time.
const ADDRESSES_MAX: usize = 131_072;
/// EID-Prefixes of one binding.
const PREFIXES_MAX: usize = 256;
/// Bindings that one EID-Prefix is reached by.
const CLAIMS_MAX: usize = 16;
/// Bindings of one xTR that calls itself by one address; of those not verified, the one that ends first gives way.
const OF_XTR_MAX: usize = 16;

/// What the RTR is told at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Map-Servers that xTRs may register with through us. With a key, what one says has to be proven by it.
    pub servers: Vec<Peer>,
    /// Instances whose packets we take.
    pub instances: Vec<InstanceId>,
    /// Map-Registers of one address, and of one verified binding.
    pub each: Rate,
    /// Map-Registers of bindings that are not verified, altogether: what a flood of forged ones may take of the Map-Servers' time.
    pub strangers: Rate,
    /// Most bindings.
    pub bindings_max: usize,
    /// Most bindings of one address: xTRs behind one NAT.
    pub of_address_max: usize,
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
            of_address_max: 256,
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
    /// Bindings by address.
    addresses: HashMap<IpAddr, usize>,
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
            addresses: HashMap::new(),
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
        self.bindings.iter().map(|(name, held)| Binding {
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
        let name = Name { xtr_id: xtr.xtr_id, inner: inner.ip(), translated: from };
        let verified = self.bindings.get(&name).is_some_and(Held::is_verified);
        if !self.may_register(now, &name) {
            return Err(RelayFault::Limited);
        }
        let nonce = (message.nonce, server.ip());
        let elsewhere = self.of_xtr(xtr.xtr_id, inner.ip()).filter(|other| *other != name);
        if elsewhere.filter_map(|other| self.bindings.get(&other)).any(|other| other.has_seen(nonce)) {
            return Err(RelayFault::Replayed);
        }
        if !self.bindings.contains_key(&name) {
            self.meet(now, name, local, xtr, todo)?;
        }
        let Some(held) = self.bindings.get_mut(&name) else { return Err(RelayFault::Full) };
        (held.xtr, held.inner_port, held.nonce, held.heard) = (xtr, inner.port(), message.nonce, now);
        if !verified {
            held.rloc = local;
        }
        if held.waiting.len() == WAITING_MAX {
            held.waiting.pop_front();
        }
        held.waiting.push_back(nonce);
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

    /// Makes a binding.
    fn meet(
        &mut self,
        now: Instant,
        name: Name,
        local: IpAddr,
        xtr: XtrIdentity,
        todo: &mut Vec<Output>,
    ) -> Result<(), RelayFault> {
        let of_xtr: Vec<Name> = self.of_xtr(name.xtr_id, name.inner).collect();
        if of_xtr.len() >= OF_XTR_MAX {
            let unverified = of_xtr.into_iter().filter_map(|name| self.bindings.get(&name).map(|held| (held, name)));
            let unverified = unverified.filter(|(held, _)| !held.is_verified());
            let first = unverified.min_by_key(|(held, _)| held.due).map(|(_, name)| name);
            self.end(first.ok_or(RelayFault::Full)?, todo);
        }
        let address = name.translated.ip();
        let of_address = self.addresses.get(&address).copied().unwrap_or(0);
        if of_address >= self.settings.of_address_max || self.bindings.len() >= self.settings.bindings_max {
            return Err(RelayFault::Full);
        }
        self.addresses.insert(address, of_address + 1);
        let held = Held {
            xtr,
            rloc: local,
            inner_port: 0,
            nonce: 0,
            waiting: VecDeque::new(),
            proven: BTreeMap::new(),
            bucket: Bucket::new(),
            prefixes: BTreeMap::new(),
            since: now,
            heard: now,
            due: now,
        };
        self.bindings.insert(name, held);
        self.deadlines.insert((now, name));
        Ok(())
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
        let names: Vec<Name> = self.of_xtr(xtr.xtr_id, inner).collect();
        if names.is_empty() {
            return Err(RelayFault::Unwanted);
        }
        let wanted = (message.nonce, from);
        let waits = |name: &&Name| self.bindings.get(name).is_some_and(|held| held.waiting.contains(&wanted));
        let name = *names.iter().find(waits).ok_or(RelayFault::Nonce)?;
        let Some(held) = self.bindings.get_mut(&name) else { return Err(RelayFault::Nonce) };
        held.waiting.retain(|waiting| *waiting != wanted);
        held.proven.insert(from, message.nonce);
        let (was_verified, rloc) = (held.is_verified(), held.rloc);
        self.take_in(now, name, &message.records, todo);
        let verified = self.bindings.get(&name).is_some_and(Held::is_verified);
        if verified && !was_verified {
            todo.push(Output::Verified { xtr, translated: name.translated });
            for other in names.into_iter().filter(|other| *other != name) {
                // Those not verified may be of somebody else, or the next one of this xTR.
                if self.bindings.get(&other).is_some_and(Held::is_verified) {
                    self.end(other, todo);
                }
            }
        }
        todo.push(Output::Deliver { to: name.translated, local: rloc, octets: data_map_notify::encode(ecm.packet) });
        if was_verified && !verified {
            self.end(name, todo);
        }
        Ok(())
    }

    /// Bindings of an xTR that calls itself so.
    fn of_xtr(&self, xtr_id: [u8; 16], inner: IpAddr) -> impl Iterator<Item = Name> {
        let first = Name { xtr_id, inner, translated: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let names = self.bindings.range(first..).map(|(name, _)| *name);
        names.take_while(move |name| (name.xtr_id, name.inner) == (xtr_id, inner))
    }

    /// Believes what a Map-Server says of a binding.
    fn take_in(&mut self, now: Instant, name: Name, records: &[Mapping], todo: &mut Vec<Output>) {
        for record in records {
            let Some(lasts) = lasts(record.ttl) else {
                self.unclaim(&name, &record.eid, todo);
                continue;
            };
            if !self.settings.instances.contains(&record.eid.instance) {
                todo.push(Output::Drop(RelayFault::ForeignInstance));
                continue;
            }
            let Some(held) = self.bindings.get_mut(&name) else { return };
            let claims = self.claims.get(&record.eid).map_or(0, BTreeSet::len);
            let known = held.prefixes.contains_key(&record.eid);
            if !known && (held.prefixes.len() >= PREFIXES_MAX || claims >= CLAIMS_MAX) {
                todo.push(Output::Drop(RelayFault::TooMany));
                continue;
            }
            self.claims.entry(record.eid).or_default().insert(name);
            let own = record.locators.iter().find(|locator| locator.address == name.inner);
            let own = own.filter(|locator| locator.priority != UNUSABLE_PRIORITY);
            // What says nothing of the xTR's own link has it share with the site's others.
            let (priority, weight) = own.map_or((1, 100), |locator| (locator.priority, locator.weight));
            held.prefixes.insert(record.eid, Claim { expires: now + lasts, priority, weight });
            self.tell(&record.eid, todo);
        }
        self.set_deadline(&name);
    }

    /// Says how a prefix is reached now.
    fn tell(&mut self, eid: &EidPrefix, todo: &mut Vec<Output>) {
        let names = self.claims.get(eid).into_iter().flatten();
        let locator = |name: &Name| {
            let claim = self.bindings.get(name)?.prefixes.get(eid)?;
            let translated = NonZeroU16::new(name.translated.port());
            Some(Locator { translated, ..Locator::unicast(name.translated.ip(), claim.priority, claim.weight) })
        };
        let mut locators: Vec<Locator> = names.filter_map(locator).collect();
        if locators.is_empty() {
            self.claims.remove(eid);
            todo.push(Output::Remove(*eid));
            return;
        }
        sort_locators(&mut locators);
        let mapping = Mapping::negative(*eid, Ttl::ReceiverDecides, Action::NoAction);
        todo.push(Output::Install(Mapping { locators, ..mapping }));
    }

    fn unclaim(&mut self, name: &Name, eid: &EidPrefix, todo: &mut Vec<Output>) {
        let held = self.bindings.get_mut(name);
        if held.is_none_or(|held| held.prefixes.remove(eid).is_none()) {
            return;
        }
        if let Some(names) = self.claims.get_mut(eid) {
            names.remove(name);
        }
        self.tell(eid, todo);
    }

    /// Takes a binding out, and what is behind it.
    fn end(&mut self, name: Name, todo: &mut Vec<Output>) {
        let Some(held) = self.bindings.remove(&name) else { return };
        self.deadlines.remove(&(held.due, name));
        let address = name.translated.ip();
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
        for eid in held.prefixes.keys() {
            if let Some(names) = self.claims.get_mut(eid) {
                names.remove(&name);
            }
            self.tell(eid, todo);
        }
        if !held.proven.is_empty() {
            todo.push(Output::Ended { xtr: held.xtr, translated: name.translated });
        }
    }

    /// Ends what has run out.
    fn end_old(&mut self, now: Instant, todo: &mut Vec<Output>) {
        while let Some(&(due, name)) = self.deadlines.first() {
            if due > now {
                return;
            }
            let Some(held) = self.bindings.get(&name) else {
                self.deadlines.pop_first();
                continue;
            };
            let over: Vec<EidPrefix> =
                held.prefixes.iter().filter(|(_, claim)| claim.expires <= now).map(|(eid, _)| *eid).collect();
            for eid in &over {
                self.unclaim(&name, eid, todo);
            }
            if self.bindings.get(&name).is_some_and(Held::is_verified) {
                self.set_deadline(&name);
                continue;
            }
            if !over.is_empty() {
                todo.push(Output::Drop(RelayFault::Lost));
            }
            self.end(name, todo);
        }
    }

    fn set_deadline(&mut self, name: &Name) {
        let Some(held) = self.bindings.get_mut(name) else { return };
        self.deadlines.remove(&(held.due, *name));
        let first = held.prefixes.values().map(|claim| claim.expires).min();
        held.due = first.unwrap_or(held.heard + UNVERIFIED_FOR);
        self.deadlines.insert((held.due, *name));
    }
}
