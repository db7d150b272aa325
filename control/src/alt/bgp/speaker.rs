//! The speaker: neighbours and the table of each instance, together one machine.
//!
//! ```text
//! Input ─▶ peer ─▶ Update ─▶ import ─▶ table: routes, decision, Loc-RIB ─▶ Rib::lookup
//!                                        │ log of changes
//! Output ◀─ peer ◀─ Update ◀─ export ◀── Adj-RIB-Out: what each neighbour was told
//! ```
//!
//! Reading is one UPDATE at a time; writing is done in portions between inputs, so no step takes long however many routes there
//! are. While something is left to write, [`Speaker::due`] is now.
//!
//! Sources: RFC 4271 §9 (routes in, decision, routes out); RFC 4724 (graceful restart); RFC 7313 (refresh); RFC 6836 §4.2, §6.

mod advertise;
mod event;
mod neighbor;
mod receive;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Eid, EidPrefix, InstanceId, Prefix};

pub use event::{Event, RouteFault};
use neighbor::Neighbor;
pub use view::{InstanceSummary, NeighborStatus, RouteView, Summary};

pub use super::rib::RouteSource;
use super::{
    aggregate::{Aggregates, originated},
    message::{Cease, RefreshKind},
    peer::{Again, ConnectionId, Peer, PeerInput},
    rib::Table,
    route::{Family, PeerId},
    settings::Settings,
};
use crate::alt::{
    rib::{Hop, Rib, lately::Lately},
    tunnels::TunnelId,
};

/// Most neighbours of one speaker.
pub const NEIGHBORS_MAX: usize = 1024;

/// Why settings were refused; the texts say what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpeakerError {
    /// More than [`NEIGHBORS_MAX`].
    #[error("{0} BGP neighbours: at most {NEIGHBORS_MAX} are possible")]
    TooManyNeighbors(usize),
    /// Two neighbours of one address behind one tunnel.
    #[error("two BGP neighbours have the address {0}: keep one of them")]
    DuplicateNeighbor(IpAddr),
    /// One prefix aggregated twice.
    #[error("two aggregates {0}: keep one of them")]
    DuplicateAggregate(EidPrefix),
    /// An aggregate whose component neighbour does not exist.
    #[error("aggregate {0}: a component is no configured neighbour; name one of the [[alt.neighbor]] addresses")]
    UnknownComponent(EidPrefix),
    /// An aggregate of one instance whose component neighbour belongs to another.
    #[error("aggregate {eid}: neighbour {neighbor} belongs to another instance")]
    ForeignComponent {
        /// The aggregate.
        eid: EidPrefix,
        /// The neighbour's name.
        neighbor: String,
    },
}

/// What happens to the speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// Run all neighbours.
    Start,
    /// End all sessions, with a text for the neighbours' operators (RFC 9003).
    Shutdown {
        /// At most 255 octets of it are sent.
        text: &'a str,
    },
    /// Leave all sessions without a word, for a restart of our own: neighbours keep our routes (RFC 4724 §4).
    Leave,
    /// The time of [`Speaker::due`] has come.
    Wake,
    /// An outgoing connection is there.
    Connected(ConnectionId),
    /// An outgoing connection was refused or timed out.
    Refused(ConnectionId),
    /// Read from a connection.
    Octets(ConnectionId, &'a [u8]),
    /// The other side closed it, or it broke.
    Closed(ConnectionId),
    /// The socket has taken all that was written.
    Drained(ConnectionId),
    /// A tunnel went up or down. All are up at first.
    Tunnel {
        /// Which.
        tunnel: TunnelId,
        /// Whether packets pass.
        up: bool,
    },
    /// Announce a prefix as our own.
    Originate(EidPrefix),
    /// No longer.
    Withdraw(EidPrefix),
    /// An operator wants a neighbour's session anew, or only the routes again.
    Clear {
        /// Which neighbour.
        peer: PeerId,
        /// Keep the session; exchange the routes anew.
        soft: bool,
    },
}

/// What must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Dial a neighbour.
    Connect {
        /// The connection's number from now on.
        connection: ConnectionId,
        /// Whom.
        peer: PeerId,
    },
    /// Write to a connection.
    Write {
        /// Which.
        connection: ConnectionId,
        /// Whole messages.
        octets: Vec<u8>,
    },
    /// Close a connection once all that was written before is sent.
    Close(ConnectionId),
    /// To be logged once.
    Event(Event),
    /// Routes of this instance changed; said at most once a step and instance.
    Changed(InstanceId),
}

/// The machine.
#[derive(Debug)]
pub struct Speaker {
    settings: Settings,
    neighbors: Vec<Neighbor>,
    tables: BTreeMap<InstanceId, Table>,
    aggregates: Aggregates,
    lately: Lately,
    /// Until when nothing is announced, after our own restart (RFC 4724 §4.1).
    deferred_until: Option<Instant>,
    /// Whose turn it is to write.
    turn: usize,
    seed: u64,
    /// The time of the last step.
    now: Instant,
}

impl Speaker {
    /// A speaker that waits for [`Input::Start`]. `seed` jitters timers; it is not a secret.
    ///
    /// # Errors
    /// [`SpeakerError`].
    pub fn new(settings: Settings, now: Instant, seed: u64) -> Result<Self, SpeakerError> {
        check(&settings)?;
        let neighbor = |index: usize| {
            let peer = Peer::new(&settings, PeerId(index), now, seed.wrapping_add(index as u64));
            Neighbor::new(peer, settings.neighbors[index].asn != settings.asn)
        };
        let mut speaker = Self {
            neighbors: (0..settings.neighbors.len()).map(neighbor).collect(),
            tables: BTreeMap::new(),
            aggregates: Aggregates::new(settings.aggregates.clone()),
            lately: Lately::default(),
            deferred_until: settings.restarting.then(|| now + seconds(settings.restart_time)),
            turn: 0,
            seed,
            now,
            settings,
        };
        for instance in speaker.settings.neighbors.iter().map(|neighbor| neighbor.instance).collect::<Vec<_>>() {
            speaker.table(instance);
        }
        for eid in speaker.settings.originate.clone() {
            speaker.originate(eid);
        }
        Ok(speaker)
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input<'_>, todo: &mut Vec<Output>) {
        self.now = now;
        self.take(input, todo);
        self.finish(todo);
    }

    fn take(&mut self, input: Input<'_>, todo: &mut Vec<Output>) {
        match input {
            Input::Start => {
                self.review_aggregates(todo);
                self.drive_all(&PeerInput::Start, todo);
            }
            Input::Shutdown { text } => {
                self.drive_all(&PeerInput::Stop { cease: Cease::Shutdown, text, again: Again::Never }, todo);
            }
            Input::Leave => self.drive_all(&PeerInput::Leave, todo),
            Input::Wake => {
                for peer in (0..self.neighbors.len()).map(PeerId) {
                    if self.neighbors[peer.0].peer.due().is_some_and(|due| due <= self.now) {
                        self.drive(peer, PeerInput::Wake, todo);
                    }
                }
                self.expire(todo);
            }
            Input::Connected(connection) => self.connection(connection, PeerInput::Connected(connection), todo),
            Input::Refused(connection) => self.connection(connection, PeerInput::Refused(connection), todo),
            Input::Octets(connection, octets) => {
                self.connection(connection, PeerInput::Octets(connection, octets), todo);
            }
            Input::Closed(connection) => self.connection(connection, PeerInput::Closed(connection), todo),
            Input::Drained(connection) => {
                let link = self.neighbors.get_mut(connection.peer().0).and_then(|neighbor| neighbor.link.as_mut());
                if let Some(link) = link.filter(|link| link.session.connection == connection) {
                    link.in_flight = 0;
                }
            }
            Input::Tunnel { tunnel, up } => {
                for peer in (0..self.neighbors.len()).map(PeerId) {
                    if self.neighbors[peer.0].settings().tunnel == tunnel {
                        self.drive(peer, if up { PeerInput::LinkUp } else { PeerInput::LinkDown }, todo);
                    }
                }
            }
            Input::Originate(eid) => self.originate(eid),
            Input::Withdraw(eid) => {
                if let Some(table) = self.tables.get_mut(&eid.instance) {
                    table.forget(RouteSource::Local, &eid.prefix);
                }
            }
            Input::Clear { peer, soft } => self.clear(peer, soft, todo),
        }
    }

    /// Ends every step.
    fn finish(&mut self, todo: &mut Vec<Output>) {
        self.work(todo);
        for (instance, table) in &mut self.tables {
            for prefix in table.take_gone() {
                self.lately.lose(self.now, EidPrefix { instance: *instance, prefix });
            }
        }
        let changed = self.tables.iter_mut().filter_map(|(instance, table)| table.take_changed().then_some(*instance));
        todo.extend(changed.map(Output::Changed));
    }

    /// When the next [`Input::Wake`] is due; the time of the last step or before if work is left.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let silent = self.deferred_until.is_some();
        let due = |neighbor: &Neighbor| neighbor.due(&self.tables[&neighbor.settings().instance], silent, self.now);
        self.neighbors.iter().filter_map(due).chain(self.deferred_until).min()
    }

    /// A connection was accepted at `local` from `remote`; its number from now on, or `None`: close it, nobody is welcome from
    /// there.
    pub fn admit(
        &mut self,
        now: Instant,
        local: IpAddr,
        remote: IpAddr,
        todo: &mut Vec<Output>,
    ) -> Option<ConnectionId> {
        self.now = now;
        let ends = |neighbor: &Neighbor| (neighbor.settings().local, neighbor.settings().remote);
        let peer = PeerId(self.neighbors.iter().position(|neighbor| ends(neighbor) == (local, remote))?);
        let connection = self.neighbors[peer.0].peer.admit()?;
        self.drive(peer, PeerInput::Accepted(connection), todo);
        self.finish(todo);
        Some(connection)
    }

    fn connection(&mut self, connection: ConnectionId, input: PeerInput<'_>, todo: &mut Vec<Output>) {
        if connection.peer().0 < self.neighbors.len() {
            self.drive(connection.peer(), input, todo);
        }
    }

    fn drive_all(&mut self, input: &PeerInput<'_>, todo: &mut Vec<Output>) {
        for peer in (0..self.neighbors.len()).map(PeerId) {
            self.drive(peer, *input, todo);
        }
    }

    fn clear(&mut self, peer: PeerId, soft: bool, todo: &mut Vec<Output>) {
        let Some(neighbor) = self.neighbors.get(peer.0) else { return };
        if !soft {
            let again = Again::After(Duration::ZERO);
            self.drive(peer, PeerInput::Stop { cease: Cease::Reset, text: "", again }, todo);
            return self.drive(peer, PeerInput::Start, todo);
        }
        let Some(families) = neighbor.link.as_ref().map(|link| link.session.families) else { return };
        self.repeat(peer, families, todo);
        for family in families.iter() {
            self.drive(peer, PeerInput::SendRefresh(family, RefreshKind::Request), todo);
        }
    }

    fn originate(&mut self, eid: EidPrefix) {
        let table = self.table(eid.instance);
        let id = table.attributes.hold(originated());
        table.learn(RouteSource::Local, eid.prefix, id, false);
    }

    /// The table of an instance, made if there is none.
    fn table(&mut self, instance: InstanceId) -> &mut Table {
        let asn = self.settings.asn;
        let neighbors = self.settings.neighbors.iter();
        let known = neighbors.map(move |neighbor| (neighbor.asn != asn, neighbor.remote));
        self.tables.entry(instance).or_insert_with(|| Table::new(known))
    }

    /// A neighbour and the table of its instance.
    fn parts(&mut self, peer: PeerId) -> (&mut Neighbor, &mut Table) {
        let neighbor = &mut self.neighbors[peer.0];
        let table = self.tables.get_mut(&neighbor.settings().instance).expect("made with the neighbour");
        (neighbor, table)
    }
}

impl Rib for Speaker {
    fn route(&self, instance: InstanceId, eid: IpAddr) -> Option<(Prefix, Hop)> {
        let (length, source) = self.tables.get(&instance)?.lookup(eid)?;
        Some((Prefix::new(eid, length).expect("a length of the family"), self.hop(source)))
    }

    fn gap(&self, instance: InstanceId, eid: IpAddr) -> Prefix {
        let everything = || everything(if eid.is_ipv4() { Family::V4 } else { Family::V6 });
        self.tables.get(&instance).map_or_else(everything, |table| table.gap(eid))
    }

    fn went_lately(&self, now: Instant, eid: Eid, length: Option<u8>) -> bool {
        self.lately.holds(now, eid, length)
    }
}

/// The prefix that holds every address of a family.
fn everything(family: Family) -> Prefix {
    match family {
        Family::V4 => Prefix::ALL_V4,
        Family::V6 => Prefix::new(Ipv6Addr::UNSPECIFIED.into(), 0).expect("0 bits"),
    }
}

fn seconds(count: u16) -> Duration {
    Duration::from_secs(count.into())
}

fn check(settings: &Settings) -> Result<(), SpeakerError> {
    let neighbors = &settings.neighbors;
    if neighbors.len() > NEIGHBORS_MAX {
        return Err(SpeakerError::TooManyNeighbors(neighbors.len()));
    }
    let mut ends = BTreeSet::new();
    if let Some(twice) = neighbors.iter().find(|neighbor| !ends.insert((neighbor.local, neighbor.remote))) {
        return Err(SpeakerError::DuplicateNeighbor(twice.remote));
    }
    let mut aggregates = BTreeSet::new();
    for aggregate in &settings.aggregates {
        let eid = aggregate.eid;
        if !aggregates.insert(eid) {
            return Err(SpeakerError::DuplicateAggregate(eid));
        }
        for component in &aggregate.components {
            let neighbor = neighbors.get(component.0).ok_or(SpeakerError::UnknownComponent(eid))?;
            if neighbor.instance != eid.instance {
                return Err(SpeakerError::ForeignComponent { eid, neighbor: neighbor.name.clone() });
            }
        }
    }
    Ok(())
}
