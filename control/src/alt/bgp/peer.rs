//! One neighbour: its configuration, up to two connections with their states (RFC 4271 §8), and which of the two stays (§6.8).
//!
//! ```text
//!           Start                 dial ─▶ outgoing: Connect ─▶ OpenSent ─▶ OpenConfirm ─┐
//!   Idle ──────────▶ both at once                                                       ├─▶ collision ─▶ Established
//!     ▲             listen ─▶ incoming: Active ──▶ OpenSent ─▶ OpenConfirm ─────────────┘
//!     └── any failure: the routes go, and a new attempt is made after a while that doubles
//! ```
//!
//! Whatever a neighbour sends ends its own session at the worst. It is counted each time and told to be logged once.

mod collision;
mod sessions;
mod values;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use values::{Again, ConnectionId, DownReason, MessageCounts, PeerInput, PeerOutput, PeerStatus, Session};

use super::{
    fsm::{Action, Direction, Env, Event, Fsm, Random, State},
    message::{self, BgpFault, Cease, Context, Graceful, Message, Notification, Open, Parsed, RefreshKind},
    route::{Family, PeerId, Update},
    settings::{NeighborSettings, Settings},
};
use crate::{
    fault::{Fault, Tally},
    rate::{Bucket, Rate},
};

/// KEEPALIVEs and ROUTE-REFRESHs beyond this are a flood. A stalled connection that recovers delivers at most a hold time's
/// worth of them at once.
const CHATTER: Rate = Rate { burst: 200, every: Duration::from_millis(50) };

/// One neighbour.
#[derive(Debug)]
pub struct Peer {
    id: PeerId,
    settings: NeighborSettings,
    open: Open,
    context: Context,
    random: Random,
    /// The session, or the one that dials.
    main: Fsm,
    /// The one that listens.
    second: Fsm,
    serial: u32,
    link_up: bool,
    /// An operator wants a session.
    wanted: bool,
    /// When the next attempt is made.
    retry_at: Option<Instant>,
    /// Until then even the neighbour's own attempts are refused: it sent something that it will send again.
    unwelcome: bool,
    failures: u32,
    chatter: Bucket,
    since: Instant,
    established: u64,
    last_down: Option<(Instant, DownReason)>,
    /// Why attempts since the last session failed: each was told to be logged once.
    failures_told: Vec<DownReason>,
    received: MessageCounts,
    sent: MessageCounts,
    faults: Tally<BgpFault>,
    /// One bit for each fault told since the last session began.
    told: u64,
    /// Taken from and given back to the two machines.
    actions: Vec<Action>,
}

impl Peer {
    /// The neighbour `peer` of `settings`; it waits for [`PeerInput::Start`]. `seed` spreads its timers; it is not a secret.
    ///
    /// # Panics
    /// If `settings` has no such neighbour.
    #[must_use]
    pub fn new(settings: &Settings, peer: PeerId, now: Instant, seed: u64) -> Self {
        let neighbor = settings.neighbors[peer.0].clone();
        Self {
            id: peer,
            open: our_open(settings, &neighbor),
            context: Context::new(settings.asn, &neighbor),
            settings: neighbor,
            random: Random(seed),
            main: Fsm::new(Direction::Outgoing),
            second: Fsm::new(Direction::Incoming),
            serial: 0,
            link_up: true,
            wanted: false,
            retry_at: None,
            unwelcome: false,
            failures: 0,
            chatter: Bucket::default(),
            since: now,
            established: 0,
            last_down: None,
            failures_told: Vec::new(),
            received: MessageCounts::default(),
            sent: MessageCounts::default(),
            faults: Tally::default(),
            told: 0,
            actions: Vec::new(),
        }
    }

    /// Number for a connection of the neighbour's, which is then told as [`PeerInput::Accepted`]; `None` if it is to be closed at
    /// once.
    pub fn admit(&mut self) -> Option<ConnectionId> {
        let fits = matches!(self.second.state, State::Active | State::OpenSent);
        if self.wanted && self.link_up && !self.unwelcome && fits {
            return Some(self.next_connection());
        }
        self.faults.count(BgpFault::NotWelcome);
        None
    }

    /// When the next [`PeerInput::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        [self.retry_at, self.main.due(), self.second.due()].into_iter().flatten().min()
    }

    /// What it was configured with.
    #[must_use]
    pub const fn settings(&self) -> &NeighborSettings {
        &self.settings
    }

    /// What was agreed on, while there is a session.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.main.session.as_deref().filter(|_| self.main.state == State::Established)
    }

    /// The state: that of the connection that is further, or of what is done to get one.
    #[must_use]
    pub const fn state(&self) -> State {
        let listens = self.settings.passive && self.main.connection.is_none();
        if self.second.connection.is_some() && (self.second.state as u8) > self.main.state as u8 || listens {
            self.second.state
        } else {
            self.main.state
        }
    }

    /// What is to be known of it.
    #[must_use]
    pub fn status(&self) -> PeerStatus {
        PeerStatus {
            state: self.state(),
            since: self.since,
            session: self.session().cloned(),
            established: self.established,
            last_down: self.last_down.clone(),
            received: self.received,
            sent: self.sent,
            retry_at: self.retry_at,
            faults: self.faults.clone(),
        }
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: PeerInput<'_>, todo: &mut Vec<PeerOutput>) {
        match input {
            PeerInput::Start => {
                self.wanted = true;
                self.failures = 0;
                self.begin(now, todo);
            }
            PeerInput::Stop { cease, text, again } => {
                self.wanted = again != Again::Never;
                self.both(now, &Event::Stop(Notification::cease(cease, text)), todo);
                self.retry_at = None;
                match again {
                    Again::Never => {}
                    Again::After(Duration::ZERO) => self.begin(now, todo),
                    Again::After(time) => {
                        self.unwelcome = true;
                        self.retry_at = Some(now + time);
                    }
                }
            }
            PeerInput::Leave => {
                self.wanted = false;
                self.retry_at = None;
                self.both(now, &Event::Abort(DownReason::Left), todo);
            }
            PeerInput::LinkDown => {
                self.link_up = false;
                self.retry_at = None;
                self.both(now, &Event::Abort(DownReason::LinkDown), todo);
            }
            PeerInput::LinkUp => {
                self.link_up = true;
                self.failures = 0;
                self.begin(now, todo);
            }
            PeerInput::Wake => self.wake(now, todo),
            PeerInput::Connected(connection) => self.event(now, connection, Event::Connected, todo),
            PeerInput::Refused(connection) | PeerInput::Closed(connection) => {
                self.event(now, connection, Event::Lost, todo);
            }
            PeerInput::Accepted(connection) => self.accepted(now, connection, todo),
            PeerInput::Octets(connection, octets) => self.read(now, connection, octets, todo),
            PeerInput::Send(update) => self.announce(update, todo),
            PeerInput::SendEndOfRib(family) => self.send_of(family, &Message::EndOfRib(family), todo),
            PeerInput::SendRefresh(family, kind) => {
                let spoken = self.session().is_some_and(|session| match kind {
                    RefreshKind::Request => session.route_refresh,
                    RefreshKind::Begin | RefreshKind::End => session.enhanced_refresh,
                });
                if spoken {
                    self.send_of(family, &Message::RouteRefresh { family, kind }, todo);
                }
            }
            PeerInput::Restarted => {
                if let Some(graceful) = &mut self.open.graceful {
                    graceful.restarting = false;
                    graceful.families.iter_mut().for_each(|(_, kept)| *kept = false);
                }
            }
        }
    }

    fn next_connection(&mut self) -> ConnectionId {
        self.serial = self.serial.wrapping_add(1);
        ConnectionId((self.id.0 as u64) << 32 | u64::from(self.serial))
    }

    /// Begins an attempt, where there is none.
    fn begin(&mut self, now: Instant, todo: &mut Vec<PeerOutput>) {
        if !self.wanted || !self.link_up {
            return;
        }
        self.retry_at = None;
        self.unwelcome = false;
        if !self.settings.passive && self.second.state < State::OpenConfirm {
            self.advance(now, Which::Main, Event::Start, todo);
        }
        self.advance(now, Which::Second, Event::Start, todo);
    }

    /// The same for both connections.
    fn both(&mut self, now: Instant, event: &Event, todo: &mut Vec<PeerOutput>) {
        self.advance(now, Which::Main, event.clone(), todo);
        self.advance(now, Which::Second, event.clone(), todo);
    }

    fn wake(&mut self, now: Instant, todo: &mut Vec<PeerOutput>) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.begin(now, todo);
        }
        for which in [Which::Main, Which::Second] {
            // Each timer that expired is taken away, so this ends.
            while let Some(event) = self.fsm(which).expired(now) {
                self.advance(now, which, event, todo);
            }
        }
    }

    /// A neighbour that connects anew while its last connection has not even sent an OPEN has lost that one.
    fn accepted(&mut self, now: Instant, connection: ConnectionId, todo: &mut Vec<PeerOutput>) {
        if self.second.state == State::OpenSent {
            self.advance(now, Which::Second, Event::Lost, todo);
        }
        if self.second.state == State::Active && self.wanted && self.link_up {
            self.advance(now, Which::Second, Event::Accepted(connection), todo);
        } else {
            todo.push(PeerOutput::Close(connection));
        }
    }

    /// Gives an event to the machine of a connection, if it still has one.
    fn event(&mut self, now: Instant, connection: ConnectionId, event: Event, todo: &mut Vec<PeerOutput>) {
        match self.whose(connection) {
            Some(which) => self.advance(now, which, event, todo),
            None if event == Event::Connected => todo.push(PeerOutput::Close(connection)),
            None => {}
        }
    }

    fn whose(&self, connection: ConnectionId) -> Option<Which> {
        if self.main.connection == Some(connection) {
            Some(Which::Main)
        } else if self.second.connection == Some(connection) {
            Some(Which::Second)
        } else {
            None
        }
    }

    const fn fsm(&mut self, which: Which) -> &mut Fsm {
        match which {
            Which::Main => &mut self.main,
            Which::Second => &mut self.second,
        }
    }

    /// Reads what a connection delivered, message by message, for as long as it is ours.
    fn read(&mut self, now: Instant, connection: ConnectionId, octets: &[u8], todo: &mut Vec<PeerOutput>) {
        let Some(which) = self.whose(connection) else { return };
        self.fsm(which).splitter.push(octets);
        while let Some(which) = self.whose(connection) {
            let fsm = match which {
                Which::Main => &mut self.main,
                Which::Second => &mut self.second,
            };
            if let Some(session) = &fsm.session {
                self.context.four_octet = session.four_octet;
                self.context.families = session.families;
            }
            let Some(framed) = fsm.splitter.next() else { return };
            match framed.and_then(|message| message::parse(message, &self.context)) {
                Ok(parsed) => self.take(now, which, parsed, todo),
                Err(notification) => {
                    let fault = if notification.code == 2 { BgpFault::OpenRefused } else { BgpFault::MessageMalformed };
                    self.advance(now, which, Event::Bad(fault, notification), todo);
                }
            }
        }
    }

    fn take(&mut self, now: Instant, which: Which, parsed: Parsed, todo: &mut Vec<PeerOutput>) {
        for fault in parsed.faults {
            self.fault(fault, todo);
        }
        let Some(message) = parsed.message else { return };
        self.received.count(&message);
        if matches!(message, Message::Keepalive | Message::RouteRefresh { .. }) && !self.chatter.take(now, CHATTER) {
            let notification = Notification::cease(Cease::OutOfResources, "");
            return self.advance(now, which, Event::Bad(BgpFault::Flood, notification), todo);
        }
        match message {
            Message::Open(open) => self.opened(now, which, &open, todo),
            Message::Keepalive => self.advance(now, which, Event::Keepalive, todo),
            Message::Notification(notification) => {
                self.advance(now, which, Event::Notification(notification), todo);
            }
            Message::Update(_) | Message::EndOfRib(_) | Message::RouteRefresh { .. } => {
                self.advance(now, which, Event::Routes(message), todo);
            }
        }
    }

    /// Gives one event to one of the machines and does what it asks for.
    fn advance(&mut self, now: Instant, which: Which, event: Event, todo: &mut Vec<PeerOutput>) {
        let mut actions = std::mem::take(&mut self.actions);
        let connect_retry = Duration::from_secs(self.settings.connect_retry.max(1).into());
        let fsm = match which {
            Which::Main => &mut self.main,
            Which::Second => &mut self.second,
        };
        fsm.step(event, &mut Env { now, open: &self.open, connect_retry, random: &mut self.random }, &mut actions);
        for action in actions.drain(..) {
            self.act(now, which, action, todo);
        }
        self.actions = actions;
    }

    fn act(&mut self, now: Instant, which: Which, action: Action, todo: &mut Vec<PeerOutput>) {
        match action {
            Action::Dial => {
                let connection = self.next_connection();
                self.fsm(which).dialled(connection);
                todo.push(PeerOutput::Connect(connection));
            }
            Action::Send(connection, message) => self.write(connection, &message, todo),
            Action::Close(connection) => todo.push(PeerOutput::Close(connection)),
            Action::Fault(fault) => self.fault(fault, todo),
            Action::Up => self.up(now, which, todo),
            Action::Deliver(message) => todo.push(match message {
                Message::EndOfRib(family) => PeerOutput::EndOfRib(family),
                Message::RouteRefresh { family, kind } => PeerOutput::Refresh(family, kind),
                Message::Update(update) => PeerOutput::Update(update),
                Message::Open(_) | Message::Keepalive | Message::Notification(_) => return,
            }),
            Action::End(reason, session) => self.ended(now, reason, session.as_deref(), todo),
        }
    }

    fn fault(&mut self, fault: BgpFault, todo: &mut Vec<PeerOutput>) {
        self.faults.count(fault);
        let bit = 1 << fault.index();
        todo.push(PeerOutput::Fault { fault, first: self.told & bit == 0 });
        self.told |= bit;
    }

    /// To the session, if it carries the family.
    fn send_of(&mut self, family: Family, message: &Message, todo: &mut Vec<PeerOutput>) {
        if self.session().is_some_and(|session| session.families.contains(family)) {
            self.send(message, todo);
        }
    }

    /// To the session, if there is one.
    fn announce(&mut self, update: &Update, todo: &mut Vec<PeerOutput>) {
        if let Some(&Session { connection, four_octet, .. }) = self.session() {
            self.context.four_octet = four_octet;
            self.append(connection, todo, |context, octets| message::encode_update(update, context, octets));
        }
    }

    /// To the session, if there is one.
    fn send(&mut self, message: &Message, todo: &mut Vec<PeerOutput>) {
        if let Some(&Session { connection, .. }) = self.session() {
            self.write(connection, message, todo);
        }
    }

    fn write(&mut self, connection: ConnectionId, message: &Message, todo: &mut Vec<PeerOutput>) {
        self.append(connection, todo, |context, octets| message::encode(message, context, octets));
    }

    /// Messages for the same connection one after the other become one write.
    fn append(
        &mut self,
        connection: ConnectionId,
        todo: &mut Vec<PeerOutput>,
        encode: impl FnOnce(&Context, &mut Vec<u8>) -> Result<(), BgpFault>,
    ) {
        if !matches!(todo.last(), Some(PeerOutput::Write(to, _)) if *to == connection) {
            todo.push(PeerOutput::Write(connection, Vec::new()));
        }
        let Some(PeerOutput::Write(_, octets)) = todo.last_mut() else { return };
        let start = octets.len();
        let result = encode(&self.context, octets);
        self.sent.count_written(&octets[start..]);
        if octets.is_empty() {
            todo.pop();
        }
        if let Err(fault) = result {
            self.fault(fault, todo);
        }
    }
}

/// Which of the two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Main,
    Second,
}

impl Which {
    const fn other(self) -> Self {
        match self {
            Self::Main => Self::Second,
            Self::Second => Self::Main,
        }
    }
}

/// What we say of ourselves to a neighbour.
fn our_open(settings: &Settings, neighbor: &NeighborSettings) -> Open {
    let kept = |family| (family, settings.restarting);
    let graceful = neighbor.graceful_restart.then(|| Graceful {
        restarting: settings.restarting,
        time: settings.restart_time,
        families: neighbor.families.iter().map(kept).collect(),
    });
    Open {
        asn: settings.asn,
        hold: neighbor.hold,
        router_id: settings.router_id,
        families: neighbor.families,
        route_refresh: true,
        enhanced_refresh: true,
        graceful,
        four_octet: true,
    }
}
