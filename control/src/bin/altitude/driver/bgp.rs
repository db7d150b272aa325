//! TCP connections with BGP neighbours: dialled, accepted, read in portions, written as far as the socket takes.
//!
//! ```text
//! socket ─▶ at most 16 KiB a round ─▶ Octets ─▶ Speaker ─▶ Write ─▶ outbox ─▶ socket; empty again: Drained
//! ```
//!
//! A neighbour with a million routes gets a turn like every other socket: misses and Map-Replies are served in between. The
//! speaker stops writing at some 64 KiB a connection until it hears that they left, so outboxes stay small; one beyond its
//! bound is a connection lost.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{self, Read, Write},
    net::{IpAddr, Shutdown},
    time::{Duration, Instant},
};

use altitude_control::{
    alt::bgp::{
        message::BgpFault,
        peer::ConnectionId,
        route::PeerId,
        settings::NeighborSettings,
        speaker::{Event, Input, Output, Speaker},
    },
    api::{Done, Refused},
    config::Config,
    os::bgp_socket::{self, BgpListener, FarEnd},
};
use altitude_dataplane::mapping::EidPrefix;
use mio::{Interest, Token, net::TcpStream};

use super::{
    Driver,
    restart::{Mark, TOUCH_EVERY},
};

/// Tokens of connections; never used twice.
pub(super) const CONNECTION: usize = 1 << 40;
/// Octets read from one connection in one round: some thousand prefixes.
const ROUND_OCTETS: usize = 16 << 10;
/// Connections accepted by one listener in one round.
const ROUND_ACCEPTS: usize = 16;
/// Octets that may wait for one socket.
const OUTBOX_MAX: usize = 1 << 20;
/// How long a connection that is being closed may take to deliver its last words.
const LINGER: Duration = Duration::from_secs(2);

/// How the router ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// For good: neighbours are told, and forget our routes.
    Stop,
    /// It will be back at once: neighbours keep our routes (RFC 4724).
    Restart,
}

/// What became of connections beside the speaker's own counts.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Nobody is welcome from there.
    pub(super) strangers: u64,
    /// More waited for a socket than may wait.
    pub(super) overflows: u64,
}

/// The connections.
pub(super) struct Connections {
    listeners: Vec<BgpListener>,
    open: BTreeMap<ConnectionId, Connection>,
    by_token: HashMap<Token, ConnectionId>,
    next: usize,
    pub(super) losses: Losses,
    /// Tells the next start that this one ran; there if neighbours keep our routes over a restart.
    pub(super) mark: Option<Mark>,
    next_touch: Option<Instant>,
}

impl Connections {
    pub(super) fn new(listeners: Vec<BgpListener>, config: &Config, now: Instant) -> Self {
        let graceful = config.speaker.as_ref().is_some_and(|speaker| {
            speaker.restart_time > 0 && speaker.neighbors.iter().any(|neighbor| neighbor.graceful_restart)
        });
        Self {
            listeners,
            open: BTreeMap::new(),
            by_token: HashMap::new(),
            next: CONNECTION,
            losses: Losses::default(),
            mark: graceful.then(|| Mark::beside(&config.api)),
            next_touch: graceful.then_some(now),
        }
    }

    pub(super) fn listeners(&mut self) -> impl Iterator<Item = &mut BgpListener> {
        self.listeners.iter_mut()
    }

    /// When the first connection has lingered long enough.
    fn due(&self) -> Option<Instant> {
        let until = |connection: &Connection| match connection.phase {
            Phase::Closing { until, .. } => Some(until),
            Phase::Dialling | Phase::Open => None,
        };
        self.open.values().filter_map(until).min()
    }

    fn remove(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open.remove(&id) {
            self.by_token.remove(&connection.token);
        }
    }
}

/// One connection; dropping it closes it.
struct Connection {
    stream: TcpStream,
    token: Token,
    phase: Phase,
    outbox: VecDeque<Vec<u8>>,
    /// Octets in the outbox.
    waiting: usize,
    /// Octets of the outbox's first element that have left.
    left: usize,
    /// The speaker waits to hear that all has left.
    owes_drained: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialling,
    Open,
    /// What is in the outbox goes out first; what comes in no longer counts.
    Closing {
        until: Instant,
        shut: bool,
    },
}

impl Connection {
    fn new(stream: TcpStream, token: Token, phase: Phase) -> Self {
        Self { stream, token, phase, outbox: VecDeque::new(), waiting: 0, left: 0, owes_drained: false }
    }

    /// Writes what the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(first) = self.outbox.front() {
            match self.stream.write(&first[self.left..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.left += length;
                    self.waiting -= length;
                    if self.left == first.len() {
                        self.outbox.pop_front();
                        self.left = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What reading brought.
enum Got {
    Octets(usize),
    Nothing,
    End,
}

fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Got {
    loop {
        match stream.read(buffer) {
            Ok(0) => return Got::End,
            Ok(length) => return Got::Octets(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Got::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Got::End,
        }
    }
}

impl<'a> Driver<'a> {
    /// Steps the speaker and does what it says.
    pub(super) fn speak(&mut self, now: Instant, input: Input<'_>) {
        let Some(speaker) = &mut self.rib.speaker else { return };
        let mut todo = Vec::new();
        speaker.step(now, input, &mut todo);
        self.act(now, todo);
    }

    fn act(&mut self, now: Instant, todo: Vec<Output>) {
        for output in todo {
            match output {
                Output::Connect { connection, peer } => self.dial(now, connection, peer),
                Output::Write { connection, octets } => self.write(now, connection, octets),
                Output::Close(connection) => {
                    if let Some(open) = self.bgp.open.get_mut(&connection) {
                        open.phase = Phase::Closing { until: now + LINGER, shut: false };
                        self.ready.insert(open.token);
                    }
                }
                Output::Event(event) => self.report(&event),
                // Look-ups ask the speaker itself.
                Output::Changed(_) => {}
            }
        }
    }

    /// No longer announces a prefix, unless it is ours or the configuration has it announced.
    pub(super) fn withdraw(&mut self, now: Instant, eid: EidPrefix) {
        if !self.config.originates(&eid, self.own.get(&eid).is_some()) {
            self.speak(now, Input::Withdraw(eid));
        }
    }

    /// Begins sessions with neighbours anew, or has their routes exchanged again; all of them, or those of this name or address.
    pub(super) fn clear(&mut self, now: Instant, neighbor: Option<&str>, soft: bool) -> Result<Done, Refused> {
        let Some(speaker) = &self.config.speaker else {
            return Err(Refused::Unsupported("BGP is not spoken here"));
        };
        let address: Option<IpAddr> = neighbor.and_then(|named| named.parse().ok());
        let meant = |known: &NeighborSettings| {
            neighbor.is_none_or(|named| known.name == named || Some(known.remote) == address)
        };
        let peers = speaker.neighbors.iter().enumerate().filter(|(_, known)| meant(known));
        let peers: Vec<PeerId> = peers.map(|(at, _)| PeerId(at)).collect();
        if peers.is_empty() {
            let named = neighbor.unwrap_or("at all");
            return Err(Refused::Missing(format!("there is no BGP neighbour {named}")));
        }
        // Without a session there is nothing to exchange again.
        let exchanges = |peer: &PeerId| self.rib.speaker.as_ref().is_some_and(|speaker| speaker.has_session(*peer));
        let peers: Vec<PeerId> = peers.into_iter().filter(|peer| !soft || exchanges(peer)).collect();
        if peers.is_empty() {
            let named = neighbor.unwrap_or("any neighbour");
            return Err(Refused::Missing(format!(
                "there is no BGP session with {named}: no routes can be exchanged again"
            )));
        }
        for &peer in &peers {
            tracing::info!(neighbor = speaker.neighbors[peer.0].name, soft, "cleared through the mapping API");
            self.speak(now, Input::Clear { peer, soft });
        }
        Ok(Done { entry: None, count: peers.len() as u64 })
    }

    /// When something of the speaker is due.
    pub(super) fn speaker_due(&self) -> Option<Instant> {
        let speaker = self.rib.speaker.as_ref()?;
        [speaker.due(), self.bgp.due(), self.bgp.next_touch].into_iter().flatten().min()
    }

    pub(super) fn wake_speaker(&mut self, now: Instant) {
        if self.rib.speaker.as_ref().and_then(Speaker::due).is_some_and(|due| due <= now) {
            self.speak(now, Input::Wake);
        }
        if self.bgp.next_touch.is_some_and(|due| due <= now) {
            self.touch_mark(now);
        }
        self.bgp.open.retain(|_, connection| {
            let stays = !matches!(connection.phase, Phase::Closing { until, .. } if until <= now);
            if !stays {
                self.bgp.by_token.remove(&connection.token);
            }
            stays
        });
    }

    fn dial(&mut self, now: Instant, connection: ConnectionId, peer: PeerId) {
        let Some(neighbor) = self.neighbor(peer) else { return };
        let dialled = bgp_socket::dial(neighbor.local, &FarEnd::of(neighbor));
        match dialled.and_then(|stream| self.keep(connection, stream, Phase::Dialling)) {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(neighbor = neighbor.name, %error, "BGP neighbour not dialled");
                self.speak(now, Input::Refused(connection));
            }
        }
    }

    fn neighbor(&self, peer: PeerId) -> Option<&'a NeighborSettings> {
        self.config.speaker.as_ref()?.neighbors.get(peer.0)
    }

    fn keep(&mut self, id: ConnectionId, mut stream: TcpStream, phase: Phase) -> io::Result<()> {
        let token = Token(self.bgp.next);
        self.bgp.next += 1;
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.bgp.open.insert(id, Connection::new(stream, token, phase));
        self.bgp.by_token.insert(token, id);
        Ok(())
    }

    fn write(&mut self, now: Instant, id: ConnectionId, octets: Vec<u8>) {
        let Some(connection) = self.bgp.open.get_mut(&id) else { return };
        connection.waiting += octets.len();
        connection.outbox.push_back(octets);
        connection.owes_drained = true;
        self.ready.insert(connection.token);
        if connection.waiting > OUTBOX_MAX {
            self.bgp.losses.overflows += 1;
            self.bgp.remove(id);
            self.speak(now, Input::Closed(id));
        }
    }

    /// Takes waiting connections of neighbours; true if there may be more.
    pub(super) fn serve_listener(&mut self, index: usize, now: Instant) -> bool {
        for _ in 0..ROUND_ACCEPTS {
            let listener = &self.bgp.listeners[index];
            let local = listener.local();
            match listener.accept() {
                Ok((stream, from)) => self.admit(now, local, from, stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    tracing::debug!(%error, "a BGP connection was not accepted");
                    return false;
                }
            }
        }
        true
    }

    fn admit(&mut self, now: Instant, local: IpAddr, remote: IpAddr, stream: TcpStream) {
        let Some(speaker) = &mut self.rib.speaker else { return };
        let mut todo = Vec::new();
        match speaker.admit(now, local, remote, &mut todo) {
            None => self.bgp.losses.strangers += 1,
            Some(id) => {
                let settled = self
                    .neighbor(id.peer())
                    .map_or(Ok(()), |neighbor| bgp_socket::settle(&stream, &FarEnd::of(neighbor)));
                if let Err(error) = settled.and_then(|()| self.keep(id, stream, Phase::Open)) {
                    tracing::debug!(%error, "a BGP connection cannot be watched");
                    self.speak(now, Input::Closed(id));
                }
            }
        }
        self.act(now, todo);
    }

    /// Serves one connection; true if it may have more.
    pub(super) fn serve_connection(&mut self, token: Token, now: Instant) -> bool {
        let Some(&id) = self.bgp.by_token.get(&token) else { return false };
        let Some(connection) = self.bgp.open.get_mut(&id) else { return false };
        match connection.phase {
            Phase::Dialling => match bgp_socket::connected(&connection.stream) {
                Ok(false) => false,
                Ok(true) => {
                    connection.phase = Phase::Open;
                    self.speak(now, Input::Connected(id));
                    true
                }
                Err(error) => {
                    tracing::debug!(%error, "a BGP neighbour could not be connected");
                    self.bgp.remove(id);
                    self.speak(now, Input::Refused(id));
                    false
                }
            },
            Phase::Open => self.exchange(id, now),
            Phase::Closing { until, shut } => self.linger(id, until, shut),
        }
    }

    /// Writes what waits and reads a portion; true if there may be more.
    fn exchange(&mut self, id: ConnectionId, now: Instant) -> bool {
        let Some(connection) = self.bgp.open.get_mut(&id) else { return false };
        // What the neighbour said last may explain why nothing can be written any more: it is read first.
        let mut buffer = std::mem::take(&mut self.buffer);
        let got = read(&mut connection.stream, &mut buffer[..ROUND_OCTETS]);
        let drained = match connection.flush() {
            Ok(()) => connection.outbox.is_empty() && std::mem::take(&mut connection.owes_drained),
            Err(_) => false, // reading will find the end
        };
        let more = match got {
            Got::Octets(length) => {
                self.speak(now, Input::Octets(id, &buffer[..length]));
                true
            }
            Got::Nothing => false,
            Got::End => {
                self.bgp.remove(id);
                self.speak(now, Input::Closed(id));
                false
            }
        };
        self.buffer = buffer;
        if drained && self.bgp.open.contains_key(&id) {
            self.speak(now, Input::Drained(id));
        }
        more
    }

    /// Delivers the last words, says that there are no more, and waits for the other side to hear them: closing at once with
    /// something unread would throw them away.
    fn linger(&mut self, id: ConnectionId, until: Instant, shut: bool) -> bool {
        let Some(connection) = self.bgp.open.get_mut(&id) else { return false };
        let flushed = connection.flush();
        if flushed.is_ok() && connection.outbox.is_empty() && !shut {
            // One that is gone already needs no goodbye.
            let _ = connection.stream.shutdown(Shutdown::Write);
            connection.phase = Phase::Closing { until, shut: true };
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let got = read(&mut connection.stream, &mut buffer[..ROUND_OCTETS]);
        self.buffer = buffer;
        if flushed.is_err() || matches!(got, Got::End) {
            self.bgp.remove(id);
            return false;
        }
        matches!(got, Got::Octets(_))
    }

    /// Begins to end all sessions.
    pub(super) fn end_sessions(&mut self, now: Instant, ending: Ending) {
        match ending {
            Ending::Stop => self.speak(now, Input::Shutdown { text: "the router is stopped" }),
            Ending::Restart => self.speak(now, Input::Leave),
        }
        self.touch_mark(now);
        if ending == Ending::Stop
            && let Some(mark) = self.bgp.mark.take()
        {
            mark.remove();
        }
    }

    /// Makes the mark of a running speaker young again.
    fn touch_mark(&mut self, now: Instant) {
        self.bgp.next_touch = self.bgp.mark.as_ref().map(|_| now + TOUCH_EVERY);
        if let Some(Err(error)) = self.bgp.mark.as_ref().map(Mark::touch) {
            tracing::debug!(%error, "a restart would not be known as one");
        }
    }

    /// Whether all neighbours have heard what there was to say.
    pub(super) fn sessions_ended(&self) -> bool {
        self.bgp.open.is_empty()
    }

    fn report(&self, event: &Event) {
        let name = |peer: PeerId| self.neighbor(peer).map_or("?", |neighbor| neighbor.name.as_str());
        match event {
            Event::Up { peer, session } => tracing::info!(
                neighbor = name(*peer),
                asn = session.asn,
                router_id = %session.router_id,
                hold = session.hold,
                "BGP session is up"
            ),
            Event::Down { peer, reason, kept } => {
                tracing::warn!(neighbor = name(*peer), %reason, routes_kept = kept, "BGP session is down");
            }
            Event::Failed { peer, reason } => {
                tracing::info!(neighbor = name(*peer), %reason, "no BGP session yet; tried again");
            }
            // Both sides dialled at once; it happens whenever two routers start together.
            Event::Fault { peer, fault: BgpFault::Collision } => {
                tracing::debug!(neighbor = name(*peer), "of two BGP connections one was given up");
            }
            Event::Fault { peer, fault } => {
                let fault = altitude_control::fault::Fault::name(*fault);
                tracing::warn!(
                    neighbor = name(*peer),
                    fault,
                    "BGP neighbour sent something wrong; counted from now on"
                );
            }
            Event::Refused { peer, eid, fault } => {
                let why = altitude_control::fault::Fault::name(*fault);
                tracing::info!(neighbor = name(*peer), %eid, why, "BGP route not taken; counted from now on");
            }
            Event::MaxPrefixes { peer, limit } => {
                tracing::warn!(neighbor = name(*peer), limit, "BGP neighbour announces more prefixes than it may");
            }
            Event::StaleGone { peer } => {
                tracing::warn!(neighbor = name(*peer), "routes kept for a BGP neighbour's restart were given up");
            }
            Event::AggregateUp(eid) => tracing::info!(%eid, "aggregate is announced"),
            Event::AggregateDown(eid) => tracing::info!(%eid, "aggregate is no longer announced"),
            Event::RestartOver => tracing::info!("our restart is over; routes are announced"),
        }
    }
}
