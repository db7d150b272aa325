//! Our EID-prefixes at the Map-Servers: what the registrar says is done here.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use altitude_control::{
    config::Config,
    fault::{ControlFault, Tally},
    os::state_file,
    registrar::{Circumstances, Input, Memory, NotifyFault, Output, Registrar, Settings, Standing, Way},
    wire::{MapNotify, XtrIdentity},
};
use altitude_dataplane::mapping::Mapping;

use super::{Driver, RunError, messages::CONTROL_PORT, random};

/// Name of the file in the state directory.
const FILE: &str = "registrar.state";
/// Message types by the first half of their first octet.
const MAP_REGISTER: u8 = 3;

/// The registrar and what belongs to it.
pub(super) struct Registration {
    /// `None` without Map-Servers.
    pub(super) registrar: Option<Registrar>,
    /// Why the last message to a Map-Server was not sent; nothing for those to which it was.
    not_sent: BTreeMap<IpAddr, String>,
    /// Who we are to Map-Servers, and a number above all nonces of earlier runs; `None` where neither registrar nor subscriber
    /// need it.
    pub(super) identity: Option<(XtrIdentity, u64)>,
    /// Nothing was kept of earlier runs.
    nonces_by_clock: bool,
    pub(super) registers_sent: u64,
    pub(super) acks_sent: u64,
    pub(super) notifies_received: u64,
    pub(super) faults: Tally<NotifyFault>,
}

impl Registration {
    /// Reads and writes the state directory if there are Map-Servers to register with or to subscribe at.
    pub(super) fn new(config: &Config, now: Instant) -> Result<Self, RunError> {
        let mut registration = Self {
            registrar: None,
            not_sent: BTreeMap::new(),
            identity: None,
            nonces_by_clock: false,
            registers_sent: 0,
            acks_sent: 0,
            notifies_received: 0,
            faults: Tally::default(),
        };
        if config.map_servers.is_empty() && config.pubsub.subscribe.is_none() {
            return Ok(registration);
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let path = config.state_dir.join(FILE);
        let earlier = recall(&path);
        let (first_nonce, memory) = Memory::begin(earlier, seconds, random()?);
        if first_nonce != seconds << 32 {
            tracing::debug!("nonces go on above those of the last run: it was just now, or the clock was set back");
        }
        let kept = keep(&path, &memory);
        registration.nonces_by_clock = earlier.is_none() || kept.is_err();
        let made_up = || config.rlocs.first().map(|rloc| memory.xtr_id(*rloc));
        let xtr_id = config.identity.xtr_id.or_else(made_up).unwrap_or(memory.seed);
        let xtr = XtrIdentity { xtr_id, site_id: config.identity.site_id };
        registration.identity = Some((xtr, first_nonce));
        if config.map_servers.is_empty() {
            return Ok(registration);
        }
        registration.registrar = Some(Registrar::new(
            Settings {
                servers: config.map_servers.clone(),
                database: config.database.clone(),
                xtr: Some(xtr),
                security: config.lisp_sec.is_some(),
                first_nonce,
                secret: random()?,
                // Nobody is told of RLOCs that may be worth nothing outside.
                way: if config.nat.keepalive.is_some() { Way::Held } else { Way::Direct },
            },
            now,
        ));
        Ok(registration)
    }

    /// What may be the reason that a Map-Server does not have us, beside what the registrar knows.
    pub(super) fn circumstances(&self, server: IpAddr) -> Circumstances<'_> {
        let not_sent = self.not_sent.get(&server).map(String::as_str);
        Circumstances { not_sent, nonces_by_clock: self.nonces_by_clock }
    }
}

/// What an earlier run left.
fn recall(path: &Path) -> Option<Memory> {
    let text = match state_file::read(path) {
        Ok(text) => text?,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "what earlier runs left cannot be read; it is made anew");
            return None;
        }
    };
    let memory = Memory::parse(&text);
    if let Err(error) = memory {
        tracing::warn!(file = %path.display(), %error, "what earlier runs left cannot be read; it is made anew");
    }
    memory.ok()
}

fn keep(path: &Path, memory: &Memory) -> io::Result<()> {
    let kept = state_file::replace(path, &memory.to_string());
    if let Err(error) = &kept {
        tracing::warn!(
            %error,
            "the xTR-ID and the nonces of this run are not kept: after a restart with the clock set back Map-Servers would \
             not believe us"
        );
    }
    kept
}

impl Driver<'_> {
    pub(super) fn registration_due(&self) -> Option<Instant> {
        self.registration.registrar.as_ref().and_then(Registrar::due)
    }

    pub(super) fn wake_registration(&mut self, now: Instant) {
        if self.registration_due().is_some_and(|due| due <= now) {
            self.register_step(now, Input::Wake);
        }
    }

    /// Takes in a Map-Notify.
    pub(super) fn notified(&mut self, now: Instant, from: SocketAddr, message: MapNotify, octets: &[u8]) {
        if self.registration.registrar.is_none() {
            self.faults.control.count(ControlFault::UnknownType);
            return;
        }
        self.registration.notifies_received += 1;
        let input = Input::Notify { from: from.ip(), delivered: false, message, octets: octets.to_vec() };
        self.register_step(now, input);
    }

    /// Tells the Map-Servers what our mappings are now.
    pub(super) fn register_anew(&mut self, now: Instant, database: Vec<Mapping>) {
        self.tell_nat_site(now, &database);
        self.register_step(now, Input::Change(database));
    }

    /// Takes everything back.
    pub(super) fn end_registrations(&mut self, now: Instant) {
        self.register_step(now, Input::Stop);
    }

    /// Steps the registrar and does what it says; whether it was a Map-Notify that was waited for.
    pub(super) fn register_step(&mut self, now: Instant, input: Input) -> bool {
        let Some(registrar) = &mut self.registration.registrar else { return false };
        let mut todo = Vec::new();
        let before = registrar.confirmed();
        registrar.step(now, input, &mut todo);
        let confirmed = registrar.confirmed() > before;
        let told = todo.iter().any(|output| matches!(output, Output::Stands { .. }));
        let silent = told && registrar.servers().all(|server| server.standing == Standing::Silent);
        for output in todo {
            match output {
                Output::Send { to, through, octets } => self.tell_map_server(to, through, &octets),
                Output::Stands { server, standing } => self.report_standing(server, standing),
                Output::Drop(fault) => self.registration.faults.count(fault),
            }
        }
        if silent {
            self.nothing_through_nat(now);
        }
        confirmed
    }

    fn tell_map_server(&mut self, to: IpAddr, through: Option<IpAddr>, octets: &[u8]) {
        let registers = octets.first().is_some_and(|first| first >> 4 == MAP_REGISTER);
        let sent = match through {
            Some(rtr) => self.send_by_rtr(rtr, to, octets),
            None => self.try_send(None, SocketAddr::new(to, CONTROL_PORT), octets),
        };
        match sent {
            Ok(()) => {
                self.registration.not_sent.remove(&to);
                let counter =
                    if registers { &mut self.registration.registers_sent } else { &mut self.registration.acks_sent };
                *counter += 1;
            }
            Err(error) => {
                self.registration.not_sent.insert(to, error.to_string());
            }
        }
    }

    /// One line for each change.
    fn report_standing(&self, server: IpAddr, standing: Standing) {
        let registrar = self.registration.registrar.as_ref();
        let reason = registrar.and_then(|registrar| registrar.server(server));
        let reason = reason.and_then(|status| status.reason(self.registration.circumstances(server)));
        match (standing, reason) {
            (Standing::Registered, _) => tracing::info!(%server, "registered with the Map-Server"),
            (Standing::Waiting, _) | (_, None) => tracing::debug!(%server, "registering with the Map-Server"),
            (_, Some(reason)) => tracing::warn!(
                %server,
                why = reason.what,
                "not registered with the Map-Server; `altitude show registrations` says what to do"
            ),
        }
    }
}
