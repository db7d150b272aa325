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

mod event;
mod view;

use std::{net::IpAddr, time::Instant};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};

pub use event::{Event, RouteFault};
pub use view::{InstanceSummary, NeighborStatus, RouteSource, RouteView, Summary};

use super::{peer::ConnectionId, route::PeerId, settings::Settings};
use crate::alt::{
    rib::{Hop, Rib},
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

impl Speaker {
    /// A speaker that waits for [`Input::Start`]. `seed` jitters timers; it is not a secret.
    ///
    /// # Errors
    /// [`SpeakerError`].
    pub fn new(settings: Settings, now: Instant, seed: u64) -> Result<Self, SpeakerError> {
        unimplemented!()
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input<'_>, todo: &mut Vec<Output>) {
        unimplemented!()
    }

    /// When the next [`Input::Wake`] is due; the time of the last step or before if work is left.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// A connection was accepted at `local` from `remote`; its number from now on, or `None`: close it, nobody is welcome from there.
    pub fn admit(
        &mut self,
        now: Instant,
        local: IpAddr,
        remote: IpAddr,
        todo: &mut Vec<Output>,
    ) -> Option<ConnectionId> {
        unimplemented!()
    }

    /// What is to be known of each neighbour, in the order of their numbers.
    pub fn neighbors(&self) -> impl Iterator<Item = NeighborStatus<'_>> {
        std::iter::empty()
    }

    /// The first `max` routes behind `after` (all from the start without), by instance, address and length; the selected route of a prefix first.
    #[must_use]
    pub fn routes(&self, after: Option<EidPrefix>, max: usize) -> Vec<RouteView> {
        unimplemented!()
    }

    /// The routes to exactly this prefix; the selected one first.
    #[must_use]
    pub fn routes_to(&self, eid: &EidPrefix) -> Vec<RouteView> {
        let _ = eid;
        unimplemented!()
    }

    /// How much there is.
    #[must_use]
    pub fn summary(&self) -> Summary {
        unimplemented!()
    }
}

impl Rib for Speaker {
    fn route(&self, instance: InstanceId, eid: IpAddr) -> Option<(Prefix, Hop)> {
        let _ = (instance, eid);
        unimplemented!()
    }

    fn gap(&self, instance: InstanceId, eid: IpAddr) -> Prefix {
        let _ = (instance, eid);
        unimplemented!()
    }
}
