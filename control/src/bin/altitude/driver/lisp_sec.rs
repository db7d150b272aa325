//! LISP-SEC: protected Map-Requests of ours and of others.

use std::{net::IpAddr, net::SocketAddr, time::Instant};

use altitude_control::{
    alt::datagrams::{self, Ask},
    fault::{ControlFault, Fault},
    lisp_sec::{SecurityFault, gate::Protection},
    responder::Arrival,
    wire::{MapRequest, ecm},
};

use super::{Driver, messages::CONTROL_PORT};

impl Driver<'_> {
    /// Counts it, and tells the operator that somebody may be lying (RFC 9303 §6.5, §6.9): of each kind the 1st, 2nd, 4th, 8th …,
    /// for whoever lies can do so often.
    pub(super) fn insecure(&mut self, fault: SecurityFault, message: &'static str) {
        self.faults.security.count(fault);
        let (name, seen) = (fault.name(), self.faults.security.get(fault));
        if fault != SecurityFault::Off && seen.is_power_of_two() {
            tracing::warn!(message, fault = name, seen, "LISP-SEC");
        } else {
            tracing::debug!(message, fault = name, "LISP-SEC");
        }
    }

    /// Sends a protected Map-Request to our Map-Resolver: without one it does not go at all.
    pub(super) fn request_secured(&mut self, now: Instant, target: IpAddr, message: &MapRequest, security: &[u8]) {
        if self.ask_resolver(now, target, message, Some(security)) {
            self.traffic.secured_out += 1;
        } else {
            self.faults.control.count(ControlFault::NoAltRoute);
        }
    }

    /// Finds the way of a client's protected Map-Request: our own Map-Server, another one in an ECM, or an answer of ours. Over the
    /// ALT it cannot go.
    pub(super) fn resolve_protected(
        &mut self,
        now: Instant,
        ask: &Ask<'_>,
        request: MapRequest,
        protection: &Protection,
    ) {
        if !self.map_server.has(ask.eid)
            && let Some(server) = self.gate.server(ask.eid)
        {
            let security = protection.onward(request.nonce, &server.key);
            let (to, message) = (server.address, ecm::encapsulate_secured(&security, &ask.datagram.encode()));
            self.traffic.map_requests_to_sites += 1;
            return self.send(SocketAddr::new(to, CONTROL_PORT), &message);
        }
        let mut todo = Vec::new();
        self.engine.resolve(now, ask, request, &self.rib, &mut todo);
        for output in todo {
            match output {
                datagrams::Output::Deliver { request, source } => {
                    let arrival = Arrival { source, destination: None };
                    self.answer(now, &request, arrival, Some(protection));
                }
                datagrams::Output::Site { eid, request, source, .. } => {
                    self.serve_site(now, eid, &request, source, ask.packet, Some(protection));
                }
                datagrams::Output::NegativeReply { to, mut message } => {
                    protection.sign_about(&mut message, ask.eid, false);
                    self.traffic.map_replies_out += 1;
                    self.send(to, &message.encode());
                }
                datagrams::Output::PassOn { .. } | datagrams::Output::Forward { .. } => {
                    self.insecure(SecurityFault::OnlyAlt, "Map-Request of a client");
                }
                other => self.perform(now, &mut vec![other], &mut []),
            }
        }
    }
}
