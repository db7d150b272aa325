//! NAT traversal as an RTR and as a Map-Server: what comes in ECMs with R or N, Info-Requests, and what the RTR says is done here.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use altitude_control::{
    api::{BindingStatus, BindingsAfter, BindingsPage, Stat},
    config::Config,
    fault::{ControlFault, Tally},
    map_cache, map_server,
    nat::relay::{self, Relay, RelayFault},
    wire::{Info, Message, ecm::Ecm},
};

use super::{Driver, messages::CONTROL_PORT};

/// R and N in the first octet of an ECM.
const MARKS: u8 = 3;

/// The RTR and what belongs to it.
pub(super) struct Relaying {
    /// `None`: we relay for nobody.
    pub(super) relay: Option<Relay>,
    /// Map-Registers that were passed on.
    registers: u64,
    /// Data-Map-Notifies.
    notifies: u64,
    /// Info-Requests to our Map-Server.
    infos: u64,
    /// Info-Replies of it.
    informed: u64,
    faults: Tally<RelayFault>,
}

impl Relaying {
    pub(super) fn new(config: &Config) -> Self {
        let settings = |servers| relay::Settings {
            // What others registered, and never gives way, leaves room for what is looked up.
            prefixes_max: config.map_cache_max / 2,
            ..relay::Settings::new(servers, config.roles.proxies.instances.clone())
        };
        Self {
            relay: config.nat.map_servers.clone().map(settings).map(Relay::new),
            registers: 0,
            notifies: 0,
            infos: 0,
            informed: 0,
            faults: Tally::default(),
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.relay.as_ref().and_then(Relay::due)
    }

    /// What the mapping API shows behind this one.
    pub(super) fn page(&self, now: Instant, after: Option<BindingsAfter>, max: usize) -> BindingsPage {
        let status = |one: relay::Binding| BindingStatus {
            verified: one.verified,
            xtr_id: one.xtr.xtr_id,
            site_id: one.xtr.site_id,
            translated: one.translated,
            rloc: one.rloc,
            inner: one.inner,
            nonce: one.nonce,
            since: now.saturating_duration_since(one.since),
            heard: now.saturating_duration_since(one.heard),
            eids: one.eids,
        };
        let after = after.map(|after| (after.xtr_id, after.inner, after.translated));
        let bindings = self.relay.iter().flat_map(|relay| relay.bindings_after(after));
        BindingsPage::of(bindings.map(status), max)
    }

    pub(super) fn faults(&self) -> &Tally<RelayFault> {
        &self.faults
    }
}

impl Driver<'_> {
    pub(super) fn relay_stats(&self) -> [Stat; 5] {
        let own = &self.relaying;
        let bindings = own.relay.as_ref().map_or(0, Relay::len);
        [
            Stat::new("nat-bindings", bindings as u64),
            Stat::new("nat-registers-relayed", own.registers),
            Stat::new("data-map-notifies-sent", own.notifies),
            Stat::new("info-requests-received", own.infos),
            Stat::new("info-replies-sent", own.informed),
        ]
    }

    /// Takes in what an xTR behind a NAT, a Map-Server or an RTR sends through one of them; false if the ECM is none of that.
    pub(super) fn traverses(&mut self, now: Instant, local: IpAddr, from: SocketAddr, octets: &[u8]) -> bool {
        let marked = octets.first().is_some_and(|first| first & MARKS != 0);
        let (relays, serves) = (self.relaying.relay.is_some(), self.map_server.takes_relayed());
        if !marked || !(relays || serves) {
            return false;
        }
        // What is malformed is counted by who reads it next.
        let Ok(ecm) = Ecm::parse(octets) else { return false };
        let Ok(message) = Message::parse(ecm.datagram.payload) else { return false };
        match (message, ecm.for_rtr, ecm.relayed) {
            (Message::MapRegister(message), true, false) if relays => {
                self.relay_step(now, relay::Input::Register { from, local, ecm: &ecm, message: &message });
            }
            (Message::MapNotify(message), true, false) if relays && !message.ack => {
                self.relay_step(now, relay::Input::Notify { from: from.ip(), ecm: &ecm, octets, message: &message });
            }
            (Message::MapRegister(message), false, true) if serves => {
                self.traffic.map_registers_in += 1;
                self.map_server_step(now, map_server::Input::Relayed { from, local, ecm: &ecm, message: &message });
            }
            _ => return false,
        }
        true
    }

    /// Takes in an Info-Request.
    pub(super) fn info_requested(
        &mut self,
        now: Instant,
        local: IpAddr,
        from: SocketAddr,
        message: &Info,
        octets: &[u8],
    ) {
        if !self.map_server.takes_relayed() {
            tracing::debug!(%from, "Info-Request, and our Map-Server has no RTRs to name");
            return self.faults.control.count(ControlFault::UnknownType);
        }
        self.relaying.infos += 1;
        self.map_server_step(now, map_server::Input::Info { from, local, message, octets });
    }

    /// Sends an Info-Reply.
    pub(super) fn inform(&mut self, local: IpAddr, to: SocketAddr, octets: &[u8]) {
        self.relaying.informed += 1;
        // Who hears nothing asks again.
        let _ = self.try_send(Some(local), to, octets);
    }

    pub(super) fn wake_relay(&mut self, now: Instant) {
        if self.relaying.due().is_some_and(|due| due <= now) {
            self.relay_step(now, relay::Input::Wake);
        }
    }

    /// Steps the RTR and does what it says.
    fn relay_step(&mut self, now: Instant, input: relay::Input<'_>) {
        let Some(relay) = &mut self.relaying.relay else { return };
        let mut todo = Vec::new();
        relay.step(now, input, &mut todo);
        for output in todo {
            match output {
                relay::Output::Relay { to, octets } => {
                    self.relaying.registers += 1;
                    self.send(SocketAddr::new(to, CONTROL_PORT), &octets);
                }
                relay::Output::Deliver { to, local, octets } => {
                    self.relaying.notifies += 1;
                    // The xTR registers again.
                    let _ = self.try_send(Some(local), to, &octets);
                }
                relay::Output::Install(mapping) => self.cache(now, map_cache::Input::Nat(mapping)),
                relay::Output::Remove(eid) => self.cache(now, map_cache::Input::NatGone(eid)),
                relay::Output::Verified { xtr, translated } => {
                    let xtr = format_args!("{:032x}", u128::from_be_bytes(xtr.xtr_id)).to_string();
                    tracing::debug!(%xtr, %translated, "an xTR behind a NAT registered through us");
                }
                relay::Output::Ended { xtr, translated } => {
                    let xtr = format_args!("{:032x}", u128::from_be_bytes(xtr.xtr_id)).to_string();
                    tracing::debug!(%xtr, %translated, "the binding of an xTR behind a NAT ended");
                }
                relay::Output::Drop(fault) => {
                    tracing::debug!(?fault, "a message of NAT traversal came to nothing");
                    self.relaying.faults.count(fault);
                }
            }
        }
    }
}
