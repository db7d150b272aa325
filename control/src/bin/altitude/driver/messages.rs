//! Control messages on UDP 4342, and what our own resolver and responder say.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use altitude_control::{
    config::{Config, ResolverName},
    fault::ControlFault,
    lisp_sec::gate::Protection,
    map_resolver::enclose,
    resolver,
    responder::Arrival,
    rloc,
    wire::{MapRequest, Message, ecm},
};
use altitude_dataplane::mapping::{Eid, EidPrefix, Ttl};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{Driver, ROUND, RunError, pubsub::SHORTEST, random};

/// UDP port of the LISP control plane.
pub(super) const CONTROL_PORT: u16 = 4342;

/// Map-Requests waiting for an answer at one time.
const PENDING_MAX: usize = 8192;
/// The same that one host made us send: a busy resolver or mail server has not as many, and eight that scan leave no room.
const SOURCE_PENDING_MAX: usize = 1024;
/// Most of them for the hosts of one site: the rest is for other sites, and half of it for what is refreshed alone.
const SITE_PENDING_MAX: usize = PENDING_MAX / 4 * 3;
/// Records taken from one Map-Reply.
const RECORDS_MAX: usize = 64;

/// What the resolver is told.
pub(super) fn resolver_settings(config: &Config, database: Vec<EidPrefix>) -> resolver::Settings {
    resolver::Settings {
        itr_rlocs: config.rlocs.clone(),
        pitr: config.roles.proxies.is_on(),
        database,
        shortest_v4: SHORTEST[0],
        shortest_v6: SHORTEST[1],
        pending_max: PENDING_MAX,
        source_max: SOURCE_PENDING_MAX,
        site_max: SITE_PENDING_MAX,
        records_max: RECORDS_MAX,
        security: config.lisp_sec.as_ref().and_then(|settings| settings.asking.clone()),
    }
}

/// A source of nonces: 64 bits at a time that nobody else can foretell (RFC 9301 §5.2).
pub(crate) fn nonces() -> Result<ChaCha20Rng, RunError> {
    Ok(ChaCha20Rng::from_seed(random()?))
}

impl Driver<'_> {
    /// Reads one UDP 4342 socket; true if it may have more.
    pub(super) fn serve_control(&mut self, index: usize, now: Instant) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let local = self.sockets.control[index].local();
        let mut more = true;
        for _ in 0..ROUND {
            match self.sockets.control[index].receive(&mut buffer) {
                Ok((length, from)) => self.control_message(now, local, from, &buffer[..length]),
                Err(error) => {
                    more = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.buffer = buffer;
        more
    }

    fn control_message(&mut self, now: Instant, local: IpAddr, from: SocketAddr, octets: &[u8]) {
        match Message::parse(octets) {
            Ok(Message::MapReply(reply)) => {
                self.traffic.map_replies_in += 1;
                self.map_resolvers.answered(reply.nonce);
                if self.refuses_subscription(now, &reply, octets) {
                    tracing::debug!(%from, "a subscription was answered with a Map-Reply");
                } else if reply.probe {
                    self.probe_replied(now, reply);
                } else if reply.security.is_some() {
                    self.resolve(now, resolver::Input::SecuredReply { reply, octets: octets.to_vec() });
                } else {
                    self.resolve(now, resolver::Input::Reply(reply));
                }
            }
            Ok(Message::MapRequest(request)) => {
                self.traffic.map_requests_in += 1;
                self.requested(now, &request, Arrival { source: from, destination: Some(local) });
            }
            Ok(Message::Other(ecm::TYPE)) if self.traverses(now, local, from, octets) => {}
            Ok(Message::Other(ecm::TYPE)) => self.encapsulated(now, from, octets),
            Ok(Message::MapRegister(message)) => self.registered(now, from, local, &message, octets),
            Ok(Message::MapNotify(message)) if message.ack => self.acknowledged(now, &message, octets),
            Ok(Message::MapNotify(message)) if self.is_publication(&message, octets) => {
                self.published(now, from, message, octets);
            }
            Ok(Message::MapNotify(message)) => self.notified(now, from, message, octets),
            Ok(Message::Info(message)) if message.reply.is_some() => {
                self.told_of_nat(now, local, from.ip(), message, octets);
            }
            Ok(Message::Info(message)) => self.info_requested(now, local, from, &message, octets),
            Ok(Message::Other(kind)) => {
                tracing::debug!(%from, kind, "control message of a type not spoken here");
                self.faults.control.count(ControlFault::UnknownType);
            }
            Err(error) => {
                tracing::debug!(%from, %error, "malformed control message");
                self.faults.control.count(ControlFault::Malformed);
            }
        }
    }

    /// Steps the resolver and does what it says. Switched off or behind a NAT, it asks for nothing: whoever listens has been told
    /// of the miss.
    pub(super) fn resolve(&mut self, now: Instant, input: resolver::Input) {
        use resolver::Input::{Miss, Refresh, Solicited};
        let hidden = self.nat_site.is_hidden();
        let asks_nothing = hidden || self.config.resolver == ResolverName::Off;
        if asks_nothing && matches!(input, Miss(_) | Refresh(_) | Solicited(_)) {
            return;
        }
        let mut todo = Vec::new();
        let echoes = match &input {
            resolver::Input::Reply(reply) | resolver::Input::SecuredReply { reply, .. } => reply.echo_nonce,
            _ => false,
        };
        self.resolver.step(now, input, &mut || self.nonces.next_u64(), &mut todo);
        for output in todo {
            match output {
                // Asked before: the RTR may reach what nobody could answer us about.
                resolver::Output::Request { .. } | resolver::Output::GiveUp(_) if hidden => {}
                resolver::Output::Request { target, message, security: Some(security), .. } => {
                    self.request_secured(now, target, &message, &security);
                }
                resolver::Output::Request { target, refresh: false, instance, message, .. } => {
                    self.request(now, Eid { instance, address: target }, &message);
                }
                resolver::Output::Request { target, message, .. } => self.refresh(now, target, &message),
                resolver::Output::Install(mappings) => {
                    self.hear_echoes(now, &mappings, echoes);
                    let there = mappings.iter().filter(|mapping| mapping.ttl != Ttl::Remove);
                    let eids: Vec<EidPrefix> = there.map(|mapping| mapping.eid).collect();
                    self.cache(now, altitude_control::map_cache::Input::Install(mappings));
                    self.learned(now, &eids);
                }
                resolver::Output::Proven => self.traffic.replies_proven += 1,
                resolver::Output::GiveUp(eid) => {
                    self.traffic.given_up += 1;
                    tracing::debug!(%eid, "nobody answers for this EID; its packets are dropped for 30 s");
                    self.cache(now, altitude_control::map_cache::Input::GiveUp(eid));
                }
                resolver::Output::Discard(fault) => self.faults.resolver.count(fault),
                resolver::Output::Insecure(fault) => self.insecure(fault, "Map-Reply"),
            }
        }
    }

    /// Sends a Map-Request into the ALT, from one of our RLOCs to the EID itself (RFC 6836 §3, §5.1). What no ALT route leads
    /// to is asked of a Map-Resolver (RFC 9301 §8.1).
    pub(super) fn request(&mut self, now: Instant, target: Eid, message: &MapRequest) {
        // Source and destination of one packet are of one family. Without an RLOC of the EID's family the EID that asks
        // stands in; the answer goes to the ITR-RLOCs inside in any case.
        let asking = message.source_eid.map(|eid| eid.address);
        let source = self.rloc_of(target.address).or(asking).or_else(|| self.own_address_of(target.address));
        let source = source.or(self.config.rlocs.first().copied());
        let Some(source) = source else { return };
        let mut todo = Vec::new();
        if self.engine.originate(now, message, source, target, &self.rib, &mut todo) {
            self.traffic.map_requests_out += 1;
            tracing::debug!(eid = %target, nonce = format_args!("{:#018x}", message.nonce), "Map-Request into the ALT");
        } else if !self.ask_resolver(now, target.address, message, None) {
            self.faults.control.count(ControlFault::NoAltRoute);
        }
        self.perform(now, &mut todo, &mut []);
    }

    /// Sends a Map-Request to our Map-Resolver, with LISP-SEC's authentication data if there are some; false if there is none.
    pub(super) fn ask_resolver(
        &mut self,
        now: Instant,
        target: IpAddr,
        message: &MapRequest,
        security: Option<&[u8]>,
    ) -> bool {
        let Some(server) = self.map_resolvers.ask(now, message.nonce) else { return false };
        let source = self.rloc_of(target).or_else(|| self.own_address_of(target).filter(|_| message.pitr));
        let Some(octets) = enclose(message, source, target, security) else { return false };
        self.traffic.map_requests_out += 1;
        tracing::debug!(eid = %target, %server, nonce = format_args!("{:#018x}", message.nonce), "Map-Request to a Map-Resolver");
        self.send(SocketAddr::new(server, CONTROL_PORT), &octets);
        true
    }

    /// Sends a Map-Request about a cached prefix: refreshes stay off the ALT (RFC 6836 §5.1), so it goes to the Map-Resolver,
    /// or without one to one of the prefix's locators (RFC 9301 §5.3), which are asked nothing but probes.
    fn refresh(&mut self, now: Instant, target: IpAddr, message: &MapRequest) {
        if self.ask_resolver(now, target, message, None) {
            return;
        }
        let eid = message.records.first().map(|record| record.eid);
        let cached = eid.and_then(|eid| self.map_cache.get(&eid));
        let locator = cached.and_then(|cached| {
            let usable = cached.locators.iter().filter(|locator| locator.usable() && locator.hop.is_none());
            usable.map(|locator| locator.address).find(|address| self.rloc_of(*address).is_some())
        });
        let Some(locator) = locator else {
            self.faults.control.count(ControlFault::NoRefreshLocator);
            return;
        };
        self.traffic.map_requests_out += 1;
        let probe = MapRequest { probe: true, ..message.clone() };
        self.send(SocketAddr::new(locator, CONTROL_PORT), &probe.encode());
    }

    pub(super) fn rloc_of(&self, like: IpAddr) -> Option<IpAddr> {
        self.config.rlocs.iter().copied().find(|rloc| rloc.is_ipv4() == like.is_ipv4())
    }

    /// Any address of ours of the same family that others could send to: a stranger's packet has no EID that could ask.
    fn own_address_of(&self, like: IpAddr) -> Option<IpAddr> {
        let own = self.kernel.underlay.own_addresses().into_iter();
        own.filter(|address| address.is_ipv4() == like.is_ipv4()).find(|address| rloc::routable(*address))
    }

    /// Answers for our own EID-Prefixes; `protection` is what a Map-Request in an ECM came with.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        request: &MapRequest,
        arrival: Arrival,
        protection: Option<&Protection>,
    ) {
        if let Err(fault) = self.gate.permit(request, protection) {
            return self.insecure(fault, "Map-Request for our EIDs");
        }
        self.doubt_death(now, &request.itr_rlocs);
        if request.smr_invoked {
            self.heard(now, request);
        }
        // An answer to an RLOC that nothing arrives at would be lost, while the same xTR has others.
        let alive: Vec<IpAddr> = request.itr_rlocs.iter().copied().filter(|rloc| !self.is_dead(*rloc)).collect();
        let itr_rlocs = if alive.is_empty() { request.itr_rlocs.clone() } else { alive };
        let request = MapRequest { itr_rlocs, ..request.clone() };
        let room = protection.map_or(0, Protection::growth);
        match self.responder.answer_with_room(now, &request, arrival, room) {
            Ok(mut answer) => {
                if let (Some(protection), Some(asked)) = (protection, request.records.first()) {
                    let asked = Eid { instance: asked.eid.instance, address: asked.eid.prefix.address() };
                    protection.sign_about(&mut answer.message, asked, false);
                }
                self.traffic.map_replies_out += 1;
                self.reachability.counts.probes_answered += u64::from(answer.message.probe);
                tracing::debug!(to = %answer.to, records = answer.message.records.len(), "Map-Reply");
                let back = arrival.destination.filter(|_| answer.to.ip() == arrival.source.ip());
                // Whoever asked asks again.
                let _ = self.try_send(back, answer.to, &answer.message.encode());
            }
            Err(fault) => self.faults.request.count(fault),
        }
    }

    /// Sends from port 4342 of the RLOC that packets to the destination leave from.
    pub(super) fn send(&mut self, to: SocketAddr, octets: &[u8]) {
        // What was not sent is counted; whoever asked asks again.
        let _ = self.try_send(None, to, octets);
    }

    /// The same, from this RLOC if one is given and it is ours, for who wants to know why it was not sent.
    pub(super) fn try_send(&mut self, from: Option<IpAddr>, to: SocketAddr, octets: &[u8]) -> io::Result<()> {
        let of = |rloc: IpAddr| self.sockets.control.iter().find(|socket| socket.local() == rloc);
        let socket = from.and_then(of).or_else(|| self.source_towards(to.ip()).and_then(of));
        let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "no RLOC of ours is of its family");
        let sent = socket.ok_or_else(none).and_then(|socket| socket.send_to(to, octets));
        if let Err(error) = &sent {
            tracing::debug!(%to, %error, "a control message was not sent");
            self.faults.control.count(ControlFault::NotSent);
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// G-7: of as many as a busy router asks in a day, none comes twice, and the next start has others.
    #[test]
    fn nonces_do_not_repeat() {
        let mut sources = [nonces().unwrap(), nonces().unwrap()];
        let drawn: Vec<u64> = (0..1_000_000).map(|count| sources[count % 2].next_u64()).collect();
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), drawn.len());
        for bit in 0..64 {
            let set = drawn.iter().filter(|nonce| **nonce >> bit & 1 == 1).count();
            // Ten standard deviations of 500.
            assert!(set.abs_diff(500_000) < 5000, "bit {bit} is set in {set}");
        }
    }
}
