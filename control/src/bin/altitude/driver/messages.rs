//! Control messages: UDP 4342, GRE tunnels, TUN devices.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use altitude_control::{
    alt::{datagrams, tunnels::TunnelId},
    fault::ControlFault,
    resolver,
    responder::Arrival,
    wire::{MapRequest, Message},
};
use altitude_dataplane::mapping::Eid;
use rand_chacha::rand_core::Rng;

use super::{Driver, ROUND};

/// UDP port of the LISP control plane.
const CONTROL_PORT: u16 = 4342;

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
                self.resolve(now, resolver::Input::Reply(reply));
            }
            Ok(Message::MapRequest(request)) => {
                self.traffic.map_requests_in += 1;
                self.answer(now, &request, Arrival { source: from, destination: Some(local) });
            }
            Ok(Message::MapRegister(_) | Message::MapNotify(_)) => {
                self.faults.control.count(ControlFault::UnknownType);
            }
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

    /// Steps the resolver and does what it says.
    pub(super) fn resolve(&mut self, now: Instant, input: resolver::Input) {
        let mut todo = Vec::new();
        self.resolver.step(now, input, &mut || self.nonces.next_u64(), &mut todo);
        for output in todo {
            match output {
                resolver::Output::Request { target, refresh: false, instance, message } => {
                    self.request(now, Eid { instance, address: target }, &message);
                }
                resolver::Output::Request { message, .. } => self.refresh(&message),
                resolver::Output::Install(mappings) => {
                    self.cache(now, altitude_control::map_cache::Input::Install(mappings));
                }
                resolver::Output::GiveUp(eid) => {
                    self.traffic.given_up += 1;
                    tracing::debug!(%eid, "nobody answers for this EID; its packets are dropped for 30 s");
                    self.cache(now, altitude_control::map_cache::Input::GiveUp(eid));
                }
                resolver::Output::Discard(fault) => self.faults.resolver.count(fault),
            }
        }
    }

    /// Sends a Map-Request into the ALT, from one of our RLOCs to the EID itself (RFC 6836 §3, §5.1).
    fn request(&mut self, now: Instant, target: Eid, message: &MapRequest) {
        // Source and destination of one packet are of one family. Without an RLOC of the EID's family the EID that asks
        // stands in; the answer goes to the ITR-RLOCs inside in any case.
        let asking = message.source_eid.map(|eid| eid.address);
        let source = self.rloc_of(target.address).or(asking).or(self.config.rlocs.first().copied());
        let Some(source) = source else { return };
        let mut todo = Vec::new();
        if self.engine.originate(message, source, target.address, target.instance, &self.rib, &mut todo) {
            self.traffic.map_requests_out += 1;
            tracing::debug!(eid = %target, nonce = format_args!("{:#018x}", message.nonce), "Map-Request into the ALT");
        } else {
            self.faults.control.count(ControlFault::NoAltRoute);
        }
        self.perform(now, todo);
    }

    /// Sends a Map-Request about a cached prefix to one of its locators: refreshes stay off the ALT (RFC 6836 §5.1,
    /// RFC 9301 §5.3).
    fn refresh(&mut self, message: &MapRequest) {
        let eid = message.records.first().map(|record| record.eid);
        let cached = eid.and_then(|eid| self.map_cache.get(&eid));
        let locator = cached.and_then(|cached| {
            let usable = cached.locators.iter().filter(|locator| locator.usable());
            usable.map(|locator| locator.address).find(|address| self.rloc_of(*address).is_some())
        });
        let Some(locator) = locator else {
            self.faults.control.count(ControlFault::NoRefreshLocator);
            return;
        };
        self.traffic.map_requests_out += 1;
        self.send(SocketAddr::new(locator, CONTROL_PORT), &message.encode());
    }

    fn rloc_of(&self, like: IpAddr) -> Option<IpAddr> {
        self.config.rlocs.iter().copied().find(|rloc| rloc.is_ipv4() == like.is_ipv4())
    }

    fn answer(&mut self, now: Instant, request: &MapRequest, arrival: Arrival) {
        match self.responder.answer(now, request, arrival) {
            Ok(answer) => {
                self.traffic.map_replies_out += 1;
                tracing::debug!(to = %answer.to, records = answer.message.records.len(), "Map-Reply");
                self.send(answer.to, &answer.message.encode());
            }
            Err(fault) => self.faults.request.count(fault),
        }
    }

    /// Sends from port 4342 of our RLOC of the destination's family.
    fn send(&mut self, to: SocketAddr, octets: &[u8]) {
        let socket = self.sockets.control.iter().find(|socket| socket.local().is_ipv4() == to.is_ipv4());
        let sent = socket.is_some_and(|socket| match socket.send_to(to, octets) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%to, %error, "a control message was not sent");
                false
            }
        });
        if !sent {
            self.faults.control.count(ControlFault::NotSent);
        }
    }

    /// Reads one GRE socket; true if it may have more.
    pub(super) fn serve_gre(&mut self, index: usize, now: Instant) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let local = self.sockets.gre[index].local();
        let mut more = true;
        for _ in 0..ROUND {
            match self.sockets.gre[index].receive(&mut buffer) {
                Ok((from, gre)) => self.tunnelled(now, from, local, &buffer[gre]),
                Err(error) => {
                    more = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.buffer = buffer;
        more
    }

    fn tunnelled(&mut self, now: Instant, from: IpAddr, local: IpAddr, gre: &[u8]) {
        match self.tunnels.receive(from, local, gre) {
            Ok((tunnel, packet)) => {
                self.tunnel_traffic[tunnel.0].received += 1;
                let mut todo = Vec::new();
                self.engine.receive(now, tunnel, packet, &self.rib, &mut todo);
                self.perform(now, todo);
            }
            Err(fault) => self.faults.gre.count(fault),
        }
    }

    /// Reads packets that the kernel sends into a tunnel; true if it may have more.
    pub(super) fn serve_tun(&mut self, tunnel: TunnelId) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut more = true;
        for _ in 0..ROUND {
            let Some(tun) = &self.sockets.tuns[tunnel.0] else { break };
            match tun.receive(&mut buffer) {
                Ok(length) => self.send_through(tunnel, &buffer[..length]),
                Err(error) => {
                    more = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.buffer = buffer;
        more
    }

    /// Does what the ALT engine says.
    fn perform(&mut self, now: Instant, todo: Vec<datagrams::Output>) {
        for output in todo {
            match output {
                datagrams::Output::Forward { tunnel, packet } => {
                    self.traffic.alt_forwarded += 1;
                    self.send_through(tunnel, &packet);
                }
                datagrams::Output::Deliver { request, source } => {
                    self.traffic.map_requests_in += 1;
                    self.answer(now, &request, Arrival { source, destination: None });
                }
                datagrams::Output::ToTun { tunnel, packet } => {
                    let tun = self.sockets.tuns[tunnel.0].as_ref();
                    if tun.is_none_or(|tun| tun.send(&packet).is_err()) {
                        self.faults.control.count(ControlFault::TunnelNotSent);
                    }
                }
                datagrams::Output::NegativeReply { to, message } => {
                    self.traffic.map_replies_out += 1;
                    self.send(to, &message.encode());
                }
                datagrams::Output::Drop(fault) => self.faults.datagram.count(fault),
            }
        }
    }

    fn send_through(&mut self, tunnel: TunnelId, packet: &[u8]) {
        let ends = &self.config.tunnels[tunnel.0];
        let socket = self.sockets.gre.iter().find(|socket| socket.local() == ends.local);
        let gre = self.tunnels.wrap(tunnel, packet);
        let sent = socket.zip(gre).is_some_and(|(socket, gre)| socket.send_to(ends.remote, &gre).is_ok());
        if sent {
            self.tunnel_traffic[tunnel.0].sent += 1;
        } else {
            self.faults.control.count(ControlFault::TunnelNotSent);
        }
    }
}
