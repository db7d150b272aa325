//! What the speaker tells operators.

use altitude_dataplane::mapping::EidPrefix;

use crate::{
    alt::bgp::{
        message::BgpFault,
        peer::{DownReason, Session},
        route::PeerId,
    },
    fault::faults,
};

/// Something worth a line in the log; each is said once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session is there.
    Up {
        /// With whom.
        peer: PeerId,
        /// What was agreed on.
        session: Session,
    },
    /// A session is gone.
    Down {
        /// With whom.
        peer: PeerId,
        /// Why.
        reason: DownReason,
        /// The neighbour's routes are kept for now (RFC 4724 §4.2).
        kept: bool,
    },
    /// An attempt came to nothing, for another reason than the one before.
    Failed {
        /// With whom.
        peer: PeerId,
        /// Why.
        reason: DownReason,
    },
    /// The first fault of its kind in a session.
    Fault {
        /// Whose message.
        peer: PeerId,
        /// What was wrong.
        fault: BgpFault,
    },
    /// The first route in a session that was not taken for this reason.
    Refused {
        /// Whose.
        peer: PeerId,
        /// Which.
        eid: EidPrefix,
        /// Why.
        fault: RouteFault,
    },
    /// The neighbour announced more prefixes than it may.
    MaxPrefixes {
        /// Which.
        peer: PeerId,
        /// How many it may.
        limit: u32,
    },
    /// Routes kept over a neighbour's restart were given up: it did not come back, or not with them.
    StaleGone {
        /// Which.
        peer: PeerId,
    },
    /// An aggregate is announced from now on.
    AggregateUp(EidPrefix),
    /// It no longer is: none of its components' neighbours is there.
    AggregateDown(EidPrefix),
    /// Our own restart is over: routes are announced from now on.
    RestartOver,
}

faults! {
    /// Why a route of a neighbour was not taken, or is not used.
    RouteFault {
        /// It has been here: our AS number is in its path (RFC 4271 §9.1.2).
        AsLoop = "bgp-as-loop",
        /// The import list denies it.
        ImportDenied = "bgp-import-denied",
        /// One more prefix than the neighbour may announce.
        MaxPrefixes = "bgp-max-prefixes",
        /// It flaps and is held back (RFC 2439).
        Dampened = "bgp-dampened",
        /// It flaps, but as many flapping routes as can be watched are watched.
        DampeningFull = "bgp-dampening-full",
    }
}
