//! Map-Resolver and Map-Server: what comes in an ECM, and Map-Requests for the sites.

use std::{net::SocketAddr, time::Instant};

use altitude_control::{
    alt::bgp::speaker,
    config::Config,
    map_resolver::{self, EcmFault, Opened, open},
    map_server,
    responder::Arrival,
    wire::MapRequest,
};
use altitude_dataplane::mapping::Eid;

use super::{Driver, messages::CONTROL_PORT};

/// What the Map-Server is told.
pub(super) fn server_settings(config: &Config) -> map_server::Settings {
    map_server::Settings {
        unreachable: config.roles.unreachable,
        ..map_server::Settings::new(config.roles.sites.clone(), config.rlocs.clone())
    }
}

impl Driver<'_> {
    /// Takes in an Encapsulated Control Message: a Map-Server hands us, the ETR, a Map-Request, or an ITR asks us, its
    /// Map-Resolver.
    pub(super) fn encapsulated(&mut self, now: Instant, from: SocketAddr, octets: &[u8]) {
        let opened = match open(octets) {
            Ok(opened) => opened,
            Err(fault) => {
                tracing::debug!(%from, ?fault, "encapsulated control message refused");
                self.faults.ecm.count(fault);
                return;
            }
        };
        self.traffic.map_requests_in += 1;
        let Opened { packet, datagram, request, eid } = &opened;
        if self.responder.owns(*eid) {
            self.answer(now, request, Arrival { source: datagram.source, destination: None });
        } else if self.map_resolver.is_some() {
            self.resolve_for(now, from, opened);
        } else if self.map_server.has(*eid) {
            self.serve_site(now, *eid, request, datagram.source, packet);
        } else {
            self.faults.ecm.count(EcmFault::NotResolver);
        }
    }

    fn resolve_for(&mut self, now: Instant, from: SocketAddr, opened: Opened<'_>) {
        let Some(map_resolver) = &mut self.map_resolver else { return };
        let mut todo = Vec::new();
        map_resolver.step(now, map_resolver::Input::Asked { from, opened }, &mut todo);
        for output in todo {
            match output {
                map_resolver::Output::Resolve { ask, request } => {
                    tracing::debug!(%from, eid = %ask.eid, "Map-Request of a client");
                    let mut todo = Vec::new();
                    self.engine.resolve(now, &ask, *request, &self.rib, &mut todo);
                    self.perform(now, &mut todo, &mut ask.packet.to_vec());
                }
                map_resolver::Output::Reply { to, message } => {
                    self.traffic.map_replies_out += 1;
                    self.send(to, &message.encode());
                }
                map_resolver::Output::Drop(fault) => {
                    tracing::debug!(%from, ?fault, "Map-Request of a client refused");
                    self.faults.client.count(fault);
                }
            }
        }
    }

    /// Hands a Map-Request for a site of our Map-Server on to it; `packet` is the whole IP packet as it came.
    pub(super) fn serve_site(
        &mut self,
        now: Instant,
        eid: Eid,
        request: &MapRequest,
        source: SocketAddr,
        packet: &[u8],
    ) {
        self.map_server_step(now, map_server::Input::Request { eid, request, source, packet });
    }

    /// Steps the Map-Server and does what it says.
    pub(super) fn map_server_step(&mut self, now: Instant, input: map_server::Input<'_>) {
        let mut todo = Vec::new();
        self.map_server.step(now, input, &mut todo);
        for output in todo {
            match output {
                map_server::Output::Announce(eid) => {
                    tracing::debug!(%eid, "a site's EID-prefix is served");
                    self.announced.insert(eid);
                    self.speak(now, speaker::Input::Originate(eid));
                }
                map_server::Output::Withdraw(eid) => {
                    tracing::debug!(%eid, "a site's EID-prefix is served no more");
                    self.announced.remove(&eid);
                    self.withdraw(now, eid);
                }
                map_server::Output::Encapsulate { to, message } => {
                    self.traffic.map_requests_to_sites += 1;
                    self.send(SocketAddr::new(to, CONTROL_PORT), &message);
                }
                map_server::Output::Reply { to, message } => {
                    self.traffic.map_replies_out += 1;
                    self.send(to, &message.encode());
                }
                map_server::Output::Drop(fault) => self.faults.site.count(fault),
            }
        }
    }
}
