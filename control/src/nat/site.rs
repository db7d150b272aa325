//! A site that may be behind a NAT: finds out, and has itself registered and reached through an RTR if so.
//!
//! ```text
//!   start ─▶ an Info-Request from each RLOC to each Map-Server, again after 1, 2, 4 … 60 s
//!              │ Info-Reply: what we look like from there
//!              ├ our address and port everywhere, or silence ─▶ Way::Direct: no NAT, all as ever
//!              └ others somewhere ─▶ Way::Relayed: the registrar goes through the first RTR named
//!                   │ a Data-Map-Notify that the registrar believes ─▶ 0.0.0.0/0 and ::/0 lead to the RTR
//!                   └ silence ─▶ they lead nowhere; the next RTR, and once all were tried a pause as long as a keepalive
//! ```
//!
//! The [registrar](crate::registrar) does what is left: its rounds through the RTR are what keeps the NAT's binding, and its
//! keys what proves a Data-Map-Notify. Of several RTRs one is in use at a time, and it alone is registered: the others have no
//! binding that packets could come in by.
//!
//! Info-Requests leave from port 4342: an answer to port 4341 would be taken for data.
//!
//! Source: draft-ermagan-lisp-nat-traversal-19 §5.1.

#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::EidPrefix;

use crate::{
    fault::faults,
    registrar::{MapServer, Relay, Way},
    rloc::routable,
    wire::{AuthenticationError, Info, MapNotify, Message, Translation, data_map_notify},
};

/// Port that Info-Requests come from, and that Map-Servers and RTRs have.
const CONTROL_PORT: u16 = 4342;
/// When an Info-Request without its answer is first sent again.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Where the doubling of that ends.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Info-Requests without an answer after which nobody is thought to speak of NATs.
const TRIES: u32 = 3;
/// Of the nonces of one question that is sent again and again, how many an answer may name.
const NONCES_MAX: usize = 4;
/// How long an answer holds, by its TTL, minutes: at least and at most.
const HOLDS: (u32, u32) = (1, 60);
/// TTL of our questions, minutes: nothing of ours hangs on it.
const TTL: u32 = 10;

/// What it is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our RLOCs.
    pub rlocs: Vec<IpAddr>,
    /// Whom we register with: [`Registrar`](crate::registrar::Registrar)'s.
    pub servers: Vec<MapServer>,
    /// One of our EID-prefixes, by which Map-Servers know our keys; `None`: nobody is asked.
    pub eid: Option<EidPrefix>,
    /// Ours.
    pub xtr_id: [u8; 16],
    /// Time between two registrations through an RTR.
    pub keepalive: Duration,
    /// The port that all our data comes from behind a NAT: a random one, as it tells who is behind the NAT's address.
    pub port: u16,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    /// An Info-Reply came to port 4342.
    Info {
        /// Of this RLOC.
        local: IpAddr,
        /// IP source.
        from: IpAddr,
        /// As read.
        message: Info,
        /// What it was read from.
        octets: &'a [u8],
    },
    /// Something came to port 4341 that is no data.
    Data {
        /// Where from.
        from: SocketAddr,
        /// Data header and what follows.
        octets: &'a [u8],
    },
    /// The registrar waited for what [`Output::Notify`] handed over, and believed it.
    Confirmed,
    /// The registrar hears from no Map-Server.
    Silent,
    /// One of our EID-prefixes is this now.
    Change(Option<EidPrefix>),
    /// The time of [`Site::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send these octets from port 4342 of an RLOC of ours to port 4342 of a Map-Server.
    Ask {
        /// Our RLOC.
        from: IpAddr,
        /// The Map-Server.
        to: IpAddr,
        /// The message.
        octets: Vec<u8>,
    },
    /// The registrar reaches Map-Servers so from now on.
    Way(Way),
    /// A Map-Notify for the registrar, which shall verify it.
    Notify {
        /// The Map-Server, as the inner header says.
        from: IpAddr,
        /// As read.
        message: MapNotify,
        /// What it was read from.
        octets: Vec<u8>,
    },
    /// Everything beyond our site goes to this RTR, or to none.
    Lead(Option<IpAddr>),
    /// Things stand otherwise than before.
    Stands(Standing),
    /// Count this.
    Drop(NatFault),
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has answered yet.
    Unknown,
    /// There is no NAT, or nobody who would say so.
    Open,
    /// Behind a NAT, and no RTR is known.
    Stranded,
    /// Behind a NAT; nothing has come through this RTR yet, or no more.
    Trying(IpAddr),
    /// Behind a NAT, and reached through this RTR.
    Behind(IpAddr),
}

faults! {
    /// Why a message about NATs had no effect.
    NatFault {
        /// An Info-Reply that answers nothing of ours.
        Unasked = "info-reply-unasked",
        /// An Info-Reply with a Key ID that is not shared with this Map-Server.
        UnknownKey = "info-reply-unknown-key",
        /// An Info-Reply signed by another key, or changed on the way.
        Mac = "info-reply-bad-authentication",
        /// A Data-Map-Notify that came from elsewhere than the RTR in use.
        Stranger = "data-map-notify-from-stranger",
        /// Cut off, no Map-Notify inside, or not to the control port.
        Malformed = "data-map-notify-malformed",
        /// A Data-Map-Notify for another xTR.
        OtherXtr = "data-map-notify-for-another-xtr",
    }
}

/// One RLOC of ours as one Map-Server sees it.
#[derive(Debug)]
struct View {
    rloc: IpAddr,
    /// Index into the settings' servers.
    server: usize,
    /// Of the question that waits for its answer, the last one last.
    nonces: Vec<u64>,
    /// Questions since the last answer.
    tries: u32,
    spacing: Duration,
    at: Instant,
    seen: Option<Seen>,
}

/// What an answer said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    translated: bool,
    rtrs: Vec<IpAddr>,
}

/// The machine.
#[derive(Debug)]
pub struct Site {
    settings: Settings,
    views: Vec<View>,
    /// RTRs that were named, in the order they are tried.
    rtrs: Vec<IpAddr>,
    rtr: Option<IpAddr>,
    /// The RTR that the default entries lead to.
    leads: Option<IpAddr>,
    /// RTRs tried in a row to no avail.
    failed: Vec<IpAddr>,
    /// When the next of them is tried again.
    again_at: Option<Instant>,
    way: Way,
    standing: Standing,
}

impl Site {
    /// A site whose first questions are due at once.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        let view = |rloc: IpAddr, server: usize| View {
            rloc,
            server,
            nonces: Vec::new(),
            tries: 0,
            spacing: RETRY_FIRST,
            at: now,
            seen: None,
        };
        let servers = settings.servers.iter().enumerate();
        let pairs = servers.flat_map(|(index, server)| settings.rlocs.iter().map(move |rloc| (index, server, *rloc)));
        let views = pairs
            .filter(|(_, server, rloc)| rloc.is_ipv4() == server.address.is_ipv4())
            .map(|(index, _, rloc)| view(rloc, index))
            .collect();
        Self {
            settings,
            views,
            rtrs: Vec::new(),
            rtr: None,
            leads: None,
            failed: Vec::new(),
            again_at: None,
            way: Way::Held,
            standing: Standing::Unknown,
        }
    }

    /// Takes in one input and appends what must be done to `todo`. `nonce` gives numbers that each are greater than all before.
    pub fn step(&mut self, now: Instant, input: Input<'_>, nonce: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        match input {
            Input::Info { local, from, message, octets } => {
                if let Err(fault) = self.told(now, (local, from), &message, octets) {
                    todo.push(Output::Drop(fault));
                }
            }
            Input::Data { from, octets } => match self.notified(from, octets) {
                Ok(notify) => todo.push(notify),
                Err(fault) => todo.push(Output::Drop(fault)),
            },
            Input::Confirmed if self.is_behind() => {
                self.failed.clear();
                self.again_at = None;
                self.lead(self.rtr, todo);
            }
            Input::Silent if self.is_behind() => self.next_rtr(now, todo),
            Input::Change(eid) => {
                self.settings.eid = eid;
            }
            Input::Confirmed | Input::Silent | Input::Wake => {}
        }
        if self.again_at.is_some_and(|again_at| again_at <= now) {
            self.try_again(now);
        }
        self.ask(now, nonce, todo);
        self.settle(todo);
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let questions = self.views.iter().filter(|_| self.settings.eid.is_some()).map(|view| view.at);
        questions.chain(self.again_at).min()
    }

    /// How things stand.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// The port that all data packets are to come from, while we are behind a NAT.
    #[must_use]
    pub fn source_port(&self) -> Option<u16> {
        self.is_behind().then_some(self.settings.port)
    }

    /// Whether nobody could answer a Map-Request of ours: its ITR-RLOCs are hidden, and packets go to the RTR, if anywhere.
    #[must_use]
    pub const fn is_hidden(&self) -> bool {
        matches!(self.way, Way::Relayed(_) | Way::Stranded)
    }

    /// Whether Map-Servers can tell us of changes: our RLOCs are known to be what they seem.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.way, Way::Direct)
    }

    const fn is_behind(&self) -> bool {
        matches!(self.way, Way::Relayed(_))
    }

    /// The RLOC that messages to an RTR leave from, and those inside of them: one that the NAT hides, if one is of the family.
    #[must_use]
    pub fn rloc_towards(&self, to: IpAddr) -> Option<IpAddr> {
        let hidden = self.hidden();
        let all = hidden.iter().chain(&self.settings.rlocs);
        all.copied().find(|rloc| rloc.is_ipv4() == to.is_ipv4())
    }

    /// Asks what is due.
    fn ask(&mut self, now: Instant, nonce: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        let Some(eid) = self.settings.eid else { return };
        for view in self.views.iter_mut().filter(|view| view.at <= now) {
            let server = &self.settings.servers[view.server];
            let nonce = nonce();
            view.nonces.push(nonce);
            view.nonces.drain(..view.nonces.len().saturating_sub(NONCES_MAX));
            view.tries = view.tries.saturating_add(1);
            view.at = now + view.spacing;
            view.spacing = (view.spacing * 2).min(RETRY_MAX);
            let question = Info { nonce, authentication: Default::default(), ttl: TTL, eid, reply: None };
            let octets = question.signed(&server.keys[0], server.form);
            todo.push(Output::Ask { from: view.rloc, to: server.address, octets });
        }
    }

    /// Takes in an Info-Reply.
    fn told(
        &mut self,
        now: Instant,
        (local, from): (IpAddr, IpAddr),
        message: &Info,
        octets: &[u8],
    ) -> Result<(), NatFault> {
        let (servers, rlocs) = (&self.settings.servers, &self.settings.rlocs);
        let asked = |view: &&mut View| {
            view.rloc == local && servers[view.server].address == from && view.nonces.contains(&message.nonce)
        };
        let view = self.views.iter_mut().find(asked).ok_or(NatFault::Unasked)?;
        let Some(told) = &message.reply else { return Err(NatFault::Unasked) };
        message.verify(octets, &servers[view.server].keys).map_err(|error| match error {
            AuthenticationError::UnknownKey(_) => NatFault::UnknownKey,
            _ => NatFault::Mac,
        })?;
        view.nonces.clear();
        (view.tries, view.spacing) = (0, RETRY_FIRST);
        let (least, most) = HOLDS;
        view.at = now + Duration::from_secs(60) * message.ttl.clamp(least, most);
        let family = |rtr: &IpAddr| rlocs.iter().any(|rloc| rloc.is_ipv4() == rtr.is_ipv4());
        let usable = |rtr: &&IpAddr| routable(**rtr) && family(rtr) && !rlocs.contains(rtr);
        view.seen = Some(Seen {
            translated: (told.etr, told.etr_port) != (view.rloc, CONTROL_PORT),
            rtrs: told.rtrs.iter().filter(usable).copied().collect(),
        });
        self.gather();
        Ok(())
    }

    /// Makes the list of RTRs anew.
    fn gather(&mut self) {
        self.rtrs.clear();
        for rtr in self.views.iter().filter_map(|view| view.seen.as_ref()).flat_map(|seen| &seen.rtrs) {
            if self.rtrs.len() < Translation::RTRS_MAX && !self.rtrs.contains(rtr) {
                self.rtrs.push(*rtr);
            }
        }
        self.failed.retain(|rtr| self.rtrs.contains(rtr));
        if self.rtr.is_none_or(|rtr| !self.rtrs.contains(&rtr)) {
            self.failed.clear();
            self.again_at = None;
            self.rtr = self.rtrs.first().copied();
        } else if let (Some(_), Some(rtr)) = (self.again_at, self.untried()) {
            self.again_at = None;
            self.rtr = Some(rtr);
        }
    }

    /// The first RTR that has not failed.
    fn untried(&self) -> Option<IpAddr> {
        self.rtrs.iter().find(|rtr| !self.failed.contains(rtr)).copied()
    }

    /// Reads a Data-Map-Notify. Who signed it is the registrar's to see.
    fn notified(&self, from: SocketAddr, octets: &[u8]) -> Result<Output, NatFault> {
        if Some(from.ip()) != self.rtr {
            return Err(NatFault::Stranger);
        }
        let packet = data_map_notify::parse(octets).map_err(|_| NatFault::Malformed)?;
        if packet.destination.port() != CONTROL_PORT {
            return Err(NatFault::Malformed);
        }
        let Ok(Message::MapNotify(message)) = Message::parse(packet.payload) else { return Err(NatFault::Malformed) };
        if message.xtr.is_none_or(|xtr| xtr.xtr_id != self.settings.xtr_id) {
            return Err(NatFault::OtherXtr);
        }
        Ok(Output::Notify { from: packet.source.ip(), message, octets: packet.payload.to_vec() })
    }

    /// Nothing comes through the RTR in use.
    fn next_rtr(&mut self, now: Instant, todo: &mut Vec<Output>) {
        let Some(rtr) = self.rtr.filter(|_| self.again_at.is_none()) else { return };
        self.lead(None, todo);
        self.failed.push(rtr);
        match self.untried() {
            Some(next) => self.rtr = Some(next),
            None => self.rest(now),
        }
    }

    /// All were tried; by the time that the next one is, somebody may have named another.
    fn rest(&mut self, now: Instant) {
        self.again_at = Some(now + self.settings.keepalive);
        self.views.iter_mut().for_each(|view| view.at = view.at.min(now));
    }

    /// The rest is over. The registrar never stopped trying the only one there is, and says of its silence only once.
    fn try_again(&mut self, now: Instant) {
        let next = self.following();
        if next == self.rtr {
            return self.rest(now);
        }
        self.failed.clear();
        self.again_at = None;
        self.rtr = next;
    }

    /// The RTR behind the one in use.
    fn following(&self) -> Option<IpAddr> {
        let at = self.rtrs.iter().position(|rtr| Some(*rtr) == self.rtr);
        let next = at.map_or(0, |at| (at + 1) % self.rtrs.len());
        self.rtrs.get(next).copied()
    }

    fn lead(&mut self, rtr: Option<IpAddr>, todo: &mut Vec<Output>) {
        if self.leads != rtr {
            self.leads = rtr;
            todo.push(Output::Lead(rtr));
        }
    }

    /// RLOCs of ours that look different from somewhere.
    fn hidden(&self) -> Vec<IpAddr> {
        let translated = |rloc: &IpAddr| {
            let mut views = self.views.iter().filter(|view| view.rloc == *rloc);
            views.any(|view| view.seen.as_ref().is_some_and(|seen| seen.translated))
        };
        self.settings.rlocs.iter().copied().filter(translated).collect()
    }

    /// Says what follows from all this.
    fn settle(&mut self, todo: &mut Vec<Output>) {
        let hidden = self.hidden();
        let decided = self.views.iter().all(|view| view.seen.is_some() || view.tries > TRIES);
        let (way, standing) = match self.rtr {
            _ if hidden.is_empty() && decided => (Way::Direct, Standing::Open),
            _ if hidden.is_empty() => (Way::Held, Standing::Unknown),
            None => (Way::Stranded, Standing::Stranded),
            Some(rtr) => (Way::Relayed(Relay { rtr, hidden, every: self.settings.keepalive }), Standing::Trying(rtr)),
        };
        if self.way != way {
            let rtr = |way: &Way| if let Way::Relayed(relay) = way { Some(relay.rtr) } else { None };
            if rtr(&self.way) != rtr(&way) {
                self.lead(None, todo);
            }
            self.way = way.clone();
            todo.push(Output::Way(way));
        }
        let standing = match standing {
            Standing::Trying(rtr) if self.leads == Some(rtr) => Standing::Behind(rtr),
            other => other,
        };
        if self.standing != standing {
            self.standing = standing;
            todo.push(Output::Stands(standing));
        }
    }
}
