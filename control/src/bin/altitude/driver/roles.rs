//! Map-Resolver and Map-Server: what comes in an ECM, and Map-Requests for the sites.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Instant, SystemTime},
};

use altitude_control::{
    alt::bgp::speaker,
    config::{Config, Hop},
    fault::ControlFault,
    lisp_sec::gate::Protection,
    map_resolver::{self, EcmFault, Opened, open},
    map_server::{self, SiteId},
    responder::Arrival,
    wire::{MapNotify, MapRegister, MapRequest},
};
use altitude_dataplane::mapping::{Eid, EidPrefix};

use super::{Driver, messages::CONTROL_PORT, state::State};

/// What the Map-Server is told. Nonces of its own start from the clock, as an ETR's do, and half a second away from those of an
/// ETR that starts in the same second.
pub(super) fn server_settings(config: &Config) -> map_server::Settings {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let sites = config.roles.sites.clone();
    map_server::Settings {
        unreachable: config.roles.unreachable,
        aggregates: aggregates(config),
        wall,
        first_nonce: wall << 32 | 1 << 31,
        versions: config.features.versions,
        publishing: config.pubsub.publish.clone(),
        relays: config.nat.relays.clone(),
        signed_only: config.lisp_sec.as_ref().is_some_and(|settings| settings.gate.strict),
        journal: sites.iter().any(|site| !site.keys.is_empty()),
        ..map_server::Settings::new(sites, config.rlocs.clone())
    }
}

/// What we may speak of beside our sites: without an ALT of everything, for there is nobody else.
fn aggregates(config: &Config) -> Option<Vec<EidPrefix>> {
    if config.tunnels.is_empty() {
        return None;
    }
    let holes = config.routes.iter().filter(|route| route.hop == Hop::Discard).map(|route| route.eid);
    let speaker = config.speaker.iter().flat_map(|speaker| &speaker.aggregates).map(|aggregate| aggregate.eid);
    Some(holes.chain(speaker).collect())
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
        let Opened { packet, datagram, security, request, eid } = &opened;
        let protection = match self.gate.admit(from.ip(), request.nonce, *security) {
            Ok(protection) => protection,
            Err(fault) => return self.insecure(fault, "Map-Request"),
        };
        if self.responder.owns(*eid) {
            let arrival = Arrival { source: datagram.source, destination: None };
            self.answer(now, request, arrival, protection.as_ref());
        } else if self.map_resolver.is_some() {
            self.resolve_for(now, from, opened, protection.as_ref());
        } else if !self.config.roles.sites.is_empty() {
            self.serve_site(now, *eid, request, datagram.source, packet, protection.as_ref());
        } else {
            self.faults.ecm.count(EcmFault::NotResolver);
        }
    }

    fn resolve_for(&mut self, now: Instant, from: SocketAddr, opened: Opened<'_>, protection: Option<&Protection>) {
        let Some(map_resolver) = &mut self.map_resolver else { return };
        let mut todo = Vec::new();
        map_resolver.step(now, map_resolver::Input::Asked { from, opened, protection }, &mut todo);
        for output in todo {
            match output {
                map_resolver::Output::Resolve { ask, request } => {
                    tracing::debug!(%from, eid = %ask.eid, "Map-Request of a client");
                    if let Some(protection) = protection {
                        self.resolve_protected(now, &ask, *request, protection);
                        continue;
                    }
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
        protection: Option<&Protection>,
    ) {
        if let Err(fault) = self.gate.permit(request, protection) {
            return self.insecure(fault, "Map-Request for a site");
        }
        self.map_server_step(now, map_server::Input::Request { eid, request, source, packet, protection });
    }

    /// Takes in a Map-Register.
    pub(super) fn registered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: IpAddr,
        message: &MapRegister,
        octets: &[u8],
    ) {
        if !self.map_server.takes_registrations() {
            tracing::debug!(%from, "Map-Register, and no site of ours has a key");
            return self.faults.control.count(ControlFault::UnknownType);
        }
        self.traffic.map_registers_in += 1;
        self.map_server_step(now, map_server::Input::Register { from, local, message, octets });
    }

    /// Takes in a Map-Notify-Ack.
    pub(super) fn acknowledged(&mut self, now: Instant, message: &MapNotify, octets: &[u8]) {
        if !self.map_server.takes_registrations() && !self.map_server.publishes() {
            return self.faults.control.count(ControlFault::UnknownType);
        }
        self.map_server_step(now, map_server::Input::Acknowledge { message, octets });
    }

    /// Announces what is served from the start, and what was registered before a restart.
    pub(super) fn begin_roles(&mut self, now: Instant) {
        let mut todo = Vec::new();
        self.map_server.begin(&mut todo);
        self.state = State::open(&self.config.state_dir, &mut self.map_server, now, &mut todo);
        self.perform_roles(now, todo);
    }

    pub(super) fn roles_due(&self) -> Option<Instant> {
        [self.map_server.due(), self.state.as_ref().and_then(State::due)].into_iter().flatten().min()
    }

    /// Ends registrations, repeats news, and hands over what is to be written.
    pub(super) fn wake_roles(&mut self, now: Instant) {
        if self.map_server.due().is_some_and(|due| due <= now) {
            self.map_server_step(now, map_server::Input::Wake);
        }
        match &mut self.state {
            Some(state) => state.round(&mut self.map_server, now),
            // Nobody writes it.
            None => drop(self.map_server.journal().map(std::mem::take)),
        }
    }

    pub(super) fn end_roles(&mut self) {
        if let Some(state) = &mut self.state {
            state.close(&mut self.map_server);
        }
    }

    /// Steps the Map-Server and does what it says.
    pub(super) fn map_server_step(&mut self, now: Instant, input: map_server::Input<'_>) {
        let mut todo = Vec::new();
        self.map_server.step(now, input, &mut todo);
        self.perform_roles(now, todo);
    }

    fn perform_roles(&mut self, now: Instant, todo: Vec<map_server::Output>) {
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
                map_server::Output::Registered { site, eid, by, key } => {
                    tracing::debug!(site = self.site_name(site), %eid, %by, key, "registered");
                }
                map_server::Output::Unregistered { site, eid, by } => {
                    tracing::debug!(site = self.site_name(site), %eid, %by, "registered no more");
                }
                map_server::Output::Subscribed { xtr, eid, by } => {
                    let xtr = format_args!("{:032x}", u128::from_be_bytes(xtr.xtr_id)).to_string();
                    tracing::debug!(%xtr, %eid, %by, "subscribed");
                }
                map_server::Output::Unsubscribed { xtr, eid } => {
                    let xtr = format_args!("{:032x}", u128::from_be_bytes(xtr.xtr_id)).to_string();
                    tracing::debug!(%xtr, %eid, "subscribed no more");
                }
                map_server::Output::Notify { to, local, octets } => {
                    self.traffic.map_notifies_out += 1;
                    // Whoever waits for it registers again.
                    let _ = self.try_send(Some(local), to, &octets);
                }
                map_server::Output::Inform { to, local, octets } => self.inform(local, to, &octets),
                map_server::Output::Encapsulate { to, message } => {
                    self.traffic.map_requests_to_sites += 1;
                    self.send(SocketAddr::new(to, CONTROL_PORT), &message);
                }
                map_server::Output::Reply { to, message } => {
                    self.traffic.map_replies_out += 1;
                    self.send(to, &message.encode());
                }
                map_server::Output::Drop(fault) => {
                    tracing::debug!(?fault, "a message for our Map-Server came to nothing");
                    self.faults.site.count(fault);
                }
            }
        }
    }

    fn site_name(&self, site: SiteId) -> &str {
        self.config.roles.sites.get(site.0).map_or("", |site| &site.name)
    }
}
