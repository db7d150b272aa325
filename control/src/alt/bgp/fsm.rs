//! One connection's way through the states of RFC 4271 §8.2.2, one file each.
//!
//! ```text
//!            Start                connected             OPEN                KEEPALIVE
//!   Idle ───────────▶ Connect ──────────────▶ OpenSent ──────▶ OpenConfirm ──────────▶ Established
//!    │                ▲  │ failed            ▲  │ lost            │                      │
//!    │    retry timer │  ▼                   │  ▼                 ▼ anything wrong       ▼
//!    └──────────────▶ Active ───────────────▶┘ Active            Idle                   Idle
//!      Start, incoming           accepted
//! ```
//!
//! A neighbour has two of these: one that dials and one that listens, and [`super::peer`] decides between them (§6.8). Two
//! things are simpler than in the RFC: there is no DelayOpen, and a dial that fails leads to Active, as it does there with
//! DelayOpen, so that the retry timer alone says when the next one is made.

mod active;
mod connect;
mod established;
mod idle;
mod open_confirm;
mod open_sent;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{
    message::{BgpFault, Cease, Message, Notification, Open, Splitter},
    peer::{ConnectionId, DownReason, Session},
};

/// RFC 4271 §8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Nothing is tried.
    Idle,
    /// The neighbour is dialled.
    Connect,
    /// The neighbour is waited for, or the time to dial it again.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// The neighbour's OPEN was accepted.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}

/// Who dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// We.
    Outgoing,
    /// The neighbour.
    Incoming,
}

/// What happens to a connection; the numbers are those of RFC 4271 §8.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// 1, 3, 4, 5.
    Start,
    /// 2, and an end on purpose: with this message.
    Stop(Notification),
    /// An end without a word: the tunnel is down, we leave for a restart, the neighbour has restarted.
    Abort(DownReason),
    /// 9.
    ConnectRetryExpired,
    /// 10.
    HoldExpired,
    /// 11.
    KeepaliveExpired,
    /// 16.
    Connected,
    /// 17.
    Accepted(ConnectionId),
    /// 18.
    Lost,
    /// 19, with what both sides agree on.
    Open(Box<Session>),
    /// 21, 22, 28: a message that cannot be accepted.
    Bad(BgpFault, Notification),
    /// 23.
    Collision,
    /// 24, 25.
    Notification(Notification),
    /// 26.
    Keepalive,
    /// 27, and what later RFCs added: UPDATE, End-of-RIB, ROUTE-REFRESH.
    Routes(Message),
}

/// What must be done about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Dial, and tell the connection's number by [`Fsm::dialled`].
    Dial,
    /// Write this.
    Send(ConnectionId, Message),
    /// Close it.
    Close(ConnectionId),
    /// Established.
    Up,
    /// For the tables.
    Deliver(Message),
    /// Count this.
    Fault(BgpFault),
    /// It is over, with the session if it was Established.
    End(DownReason, Option<Box<Session>>),
}

/// What the states look at.
pub(super) struct Env<'a> {
    pub(super) now: Instant,
    /// Our OPEN.
    pub(super) open: &'a Open,
    /// Between attempts to connect.
    pub(super) connect_retry: Duration,
    pub(super) random: &'a mut Random,
}

/// Spreads timers. The sequence is that of SplitMix64: good enough for that and for nothing else.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Three quarters of `time` up to all of it (RFC 4271 §10).
    pub(super) fn jitter(&mut self, time: Duration) -> Duration {
        let quarter = time / 4;
        time - quarter.mul_f64((self.next() % 1024) as f64 / 1024.0)
    }
}

/// One connection, or the wait for one.
#[derive(Debug)]
pub(super) struct Fsm {
    pub(super) direction: Direction,
    pub(super) state: State,
    pub(super) connection: Option<ConnectionId>,
    pub(super) splitter: Splitter,
    /// What both sides agree on, from OpenConfirm on.
    pub(super) session: Option<Box<Session>>,
    pub(super) connect_retry: Option<Instant>,
    pub(super) hold: Option<Instant>,
    pub(super) keepalive: Option<Instant>,
}

impl Fsm {
    /// Idle.
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            state: State::Idle,
            connection: None,
            splitter: Splitter::default(),
            session: None,
            connect_retry: None,
            hold: None,
            keepalive: None,
        }
    }

    /// Takes in one event and appends what must be done to `todo`.
    pub(super) fn step(&mut self, event: Event, env: &mut Env<'_>, todo: &mut Vec<Action>) {
        match self.state {
            State::Idle => idle::on(self, &event, env, todo),
            State::Connect => connect::on(self, &event, env, todo),
            State::Active => active::on(self, &event, env, todo),
            State::OpenSent => open_sent::on(self, event, env, todo),
            State::OpenConfirm => open_confirm::on(self, event, env, todo),
            State::Established => established::on(self, event, env, todo),
        }
    }

    /// The number of the connection that [`Action::Dial`] asked for.
    pub(super) fn dialled(&mut self, connection: ConnectionId) {
        self.connection = Some(connection);
    }

    /// When the next timer expires.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.connect_retry, self.hold, self.keepalive].into_iter().flatten().min()
    }

    /// The timer that has expired, the hold timer before the others.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Event> {
        let over = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        if over(&mut self.hold) {
            Some(Event::HoldExpired)
        } else if over(&mut self.keepalive) {
            Some(Event::KeepaliveExpired)
        } else if over(&mut self.connect_retry) {
            Some(Event::ConnectRetryExpired)
        } else {
            None
        }
    }

    /// Dials: Connect.
    fn dial(&mut self, env: &mut Env<'_>, todo: &mut Vec<Action>) {
        self.connect_retry = Some(env.now + env.random.jitter(env.connect_retry));
        self.state = State::Connect;
        todo.push(Action::Dial);
    }

    /// Waits: Active. One that dials does it again when the retry timer expires.
    fn wait(&mut self, env: &mut Env<'_>) {
        *self = Self::new(self.direction);
        self.state = State::Active;
        if self.direction == Direction::Outgoing {
            self.connect_retry = Some(env.now + env.random.jitter(env.connect_retry));
        }
    }

    /// Sends our OPEN: OpenSent.
    fn open(&mut self, connection: ConnectionId, env: &Env<'_>, todo: &mut Vec<Action>) {
        *self = Self { connection: Some(connection), state: State::OpenSent, ..Self::new(self.direction) };
        self.hold = Some(env.now + patience(env.open.hold));
        todo.push(Action::Send(connection, Message::Open(env.open.clone())));
    }

    fn restart_hold(&mut self, now: Instant) {
        let seconds = self.session.as_ref().map_or(0, |session| session.hold);
        self.hold = (seconds > 0).then(|| now + Duration::from_secs(seconds.into()));
    }

    fn restart_keepalive(&mut self, env: &mut Env<'_>) {
        let seconds = self.session.as_ref().map_or(0, |session| session.hold);
        // A third of the hold time (RFC 4271 §10).
        self.keepalive =
            (seconds > 0).then(|| env.now + env.random.jitter(Duration::from_millis(u64::from(seconds) * 1000 / 3)));
    }

    fn send(&self, message: Message, todo: &mut Vec<Action>) {
        if let Some(connection) = self.connection {
            todo.push(Action::Send(connection, message));
        }
    }

    /// Sends `notification` and ends: Idle.
    fn end_with(&mut self, notification: Notification, todo: &mut Vec<Action>) {
        self.send(Message::Notification(notification.clone()), todo);
        self.end(DownReason::Sent(notification), todo);
    }

    /// Ends: Idle.
    fn end(&mut self, reason: DownReason, todo: &mut Vec<Action>) {
        let session = self.session.take().filter(|_| self.state == State::Established);
        todo.extend(self.connection.map(Action::Close));
        *self = Self::new(self.direction);
        todo.push(Action::End(reason, session));
    }

    /// Ends what has not begun: Idle.
    fn give_up(&mut self, todo: &mut Vec<Action>) {
        todo.extend(self.connection.map(Action::Close));
        *self = Self::new(self.direction);
    }

    /// What ends a connection with an OPEN on its way, whatever its state: all that is left to the states is `None`.
    fn end_on(&mut self, event: Event, todo: &mut Vec<Action>) -> Option<Event> {
        match event {
            Event::Stop(notification) => self.end_with(notification, todo),
            Event::Abort(reason) => self.end(reason, todo),
            Event::HoldExpired => {
                todo.push(Action::Fault(BgpFault::HoldExpired));
                self.end_with(Notification::new(4, 0, &[]), todo);
            }
            Event::Bad(fault, notification) => {
                todo.push(Action::Fault(fault));
                self.end_with(notification, todo);
            }
            Event::Collision => {
                todo.push(Action::Fault(BgpFault::Collision));
                self.end_with(Notification::cease(Cease::Collision, ""), todo);
            }
            Event::Notification(notification) => self.end(DownReason::Received(notification), todo),
            other => return Some(other),
        }
        None
    }

    /// A message that does not belong into the state: Finite State Machine Error with the state's subcode (RFC 6608 §3).
    fn unexpected(&mut self, subcode: u8, todo: &mut Vec<Action>) {
        todo.push(Action::Fault(BgpFault::Unexpected));
        self.end_with(Notification::new(5, subcode, &[]), todo);
    }
}

/// How long an OPEN is waited for: 4 minutes (RFC 4271 §8.2.2), less where the hold time asks for quick sessions.
fn patience(hold: u16) -> Duration {
    let seconds = if hold == 0 { 240 } else { (u64::from(hold) * 4).clamp(10, 240) };
    Duration::from_secs(seconds)
}
