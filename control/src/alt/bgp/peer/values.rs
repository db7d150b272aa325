//! What goes into a neighbour and what comes out.

use std::{
    fmt,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::{
    alt::bgp::{
        fsm::State,
        message::{BgpFault, Cease, Graceful, HEADER, Message, Notification, RefreshKind},
        route::{Family, PeerId, Update},
        settings::Families,
    },
    fault::Tally,
};

/// A TCP connection with a neighbour, in either direction; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// The neighbour it belongs to.
    #[must_use]
    pub const fn peer(self) -> PeerId {
        PeerId((self.0 >> 32) as usize)
    }
}

/// What happens to a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerInput<'a> {
    /// Run; also after a [`Stop`](Self::Stop), and at once where a back-off is waited for.
    Start,
    /// End the session and do what `again` says.
    Stop {
        /// What the neighbour is told.
        cease: Cease,
        /// Text for its operator, where `cease` takes one.
        text: &'a str,
        /// When to try again.
        again: Again,
    },
    /// End the connections without a word, as a crash does: neighbours keep the routes (RFC 4724 §4). Needs a Start to go on.
    Leave,
    /// The time of [`Peer::due`](super::Peer::due) has come.
    Wake,
    /// An outgoing connection is there.
    Connected(ConnectionId),
    /// An outgoing connection was refused or timed out.
    Refused(ConnectionId),
    /// The neighbour connected; the number is from [`Peer::admit`](super::Peer::admit).
    Accepted(ConnectionId),
    /// Read from a connection.
    Octets(ConnectionId, &'a [u8]),
    /// The other side closed it, or it broke.
    Closed(ConnectionId),
    /// The tunnel went down: sessions over it end at once.
    LinkDown,
    /// It is back.
    LinkUp,
    /// Announce and withdraw.
    Send(&'a Update),
    /// The first exchange of a family is complete.
    SendEndOfRib(Family),
    /// Route refresh; subtypes the neighbour does not speak are not sent.
    SendRefresh(Family, RefreshKind),
    /// Our own restart is over: OPENs no longer carry the Restart State bit.
    Restarted,
}

/// When a stopped neighbour is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// At the next [`PeerInput::Start`].
    Never,
    /// After this time, 0 for at once.
    After(Duration),
}

/// What must be done for a neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerOutput {
    /// Dial the neighbour.
    Connect(ConnectionId),
    /// Write to a connection.
    Write(ConnectionId, Vec<u8>),
    /// Close it once what was written before is sent.
    Close(ConnectionId),
    /// The session is there: everything may be announced.
    Up(Session),
    /// Routes of the neighbour.
    Update(Update),
    /// That was all of a family.
    EndOfRib(Family),
    /// The neighbour wants its routes again, or tells where a repetition of its own begins and ends.
    Refresh(Family, RefreshKind),
    /// The session is gone.
    Down {
        /// Why.
        reason: DownReason,
        /// There if the neighbour's routes may be kept as stale: its capability says which and how long (RFC 4724 §4.2).
        graceful: Option<Graceful>,
    },
    /// An attempt came to nothing before there was a session.
    Failed {
        /// Why.
        reason: DownReason,
        /// Not heard of since the last session: worth a line in the log.
        first: bool,
    },
    /// To be counted.
    Fault {
        /// What was wrong.
        fault: BgpFault,
        /// The first of its kind since the session, or the attempt, began: worth a line in the log.
        first: bool,
    },
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Families carried.
    pub families: Families,
    /// 4-octet AS numbers.
    pub four_octet: bool,
    /// What the neighbour said of its restarts, if both sides speak of them.
    pub graceful: Option<Graceful>,
    /// Either side may ask for all routes again.
    pub route_refresh: bool,
    /// With marks around them (RFC 7313).
    pub enhanced_refresh: bool,
    /// The neighbour's BGP Identifier.
    pub router_id: Ipv4Addr,
    /// The neighbour's AS number.
    pub asn: u32,
    /// Hold time, seconds; 0 is none.
    pub hold: u16,
    /// The neighbour's end and ours.
    pub connection: ConnectionId,
}

/// Why there is no session, or none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// We ended it with this; Hold Timer Expired among them.
    Sent(Notification),
    /// The neighbour ended it with this.
    Received(Notification),
    /// The connection was closed or broke without a word.
    Closed,
    /// Nobody listens, or nobody is there.
    Refused,
    /// The tunnel is down.
    LinkDown,
    /// The neighbour has restarted: it connected anew while the session was up (RFC 4724 §4.2).
    Restarted,
    /// We left without a word, for our own restart.
    Left,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => write!(f, "we sent {notification}"),
            Self::Received(notification) => write!(f, "the neighbour sent {notification}"),
            Self::Closed => f.write_str("the connection was lost"),
            Self::Refused => f.write_str("the neighbour could not be connected"),
            Self::LinkDown => f.write_str("the tunnel is down"),
            Self::Restarted => f.write_str("the neighbour restarted"),
            Self::Left => f.write_str("we restart"),
        }
    }
}

/// Messages of one direction, by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageCounts {
    /// OPEN.
    pub opens: u64,
    /// UPDATE, End-of-RIB included.
    pub updates: u64,
    /// KEEPALIVE.
    pub keepalives: u64,
    /// NOTIFICATION.
    pub notifications: u64,
    /// ROUTE-REFRESH.
    pub refreshes: u64,
}

impl MessageCounts {
    pub(super) const fn count(&mut self, message: &Message) {
        let kind = match message {
            Message::Open(_) => 1,
            Message::Update(_) | Message::EndOfRib(_) => 2,
            Message::Notification(_) => 3,
            Message::Keepalive => 4,
            Message::RouteRefresh { .. } => 5,
        };
        self.count_kind(kind);
    }

    /// Counts each of a run of messages that we wrote.
    pub(super) fn count_written(&mut self, mut octets: &[u8]) {
        while let Some(header) = octets.first_chunk::<HEADER>() {
            self.count_kind(header[18]);
            octets = &octets[usize::from(u16::from_be_bytes([header[16], header[17]]))..];
        }
    }

    const fn count_kind(&mut self, kind: u8) {
        *match kind {
            1 => &mut self.opens,
            2 => &mut self.updates,
            3 => &mut self.notifications,
            4 => &mut self.keepalives,
            _ => &mut self.refreshes,
        } += 1;
    }
}

/// What is to be known of a neighbour's session.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// The state, the further of the two where there are two connections.
    pub state: State,
    /// Since when a session is up or down.
    pub since: Instant,
    /// What was agreed on, while Established.
    pub session: Option<Session>,
    /// How often a session was there.
    pub established: u64,
    /// Why the last session, or attempt, ended, and when; attempts that nobody answered are left out where there is more to say.
    pub last_down: Option<(Instant, DownReason)>,
    /// Received.
    pub received: MessageCounts,
    /// Sent.
    pub sent: MessageCounts,
    /// When the next attempt is made, while none is under way.
    pub retry_at: Option<Instant>,
    /// What was wrong with what the neighbour sent.
    pub faults: Tally<BgpFault>,
}
