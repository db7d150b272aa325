//! Where entries come from.

use altitude_dataplane::mapping::EidPrefix;

/// Who is responsible for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The operator.
    Static,
    /// A Map-Reply.
    Reply,
    /// A Map-Notify of a Map-Server that we subscribed at.
    PubSub,
    /// A client of the mapping API.
    Api,
    /// NAT traversal: an xTR behind a NAT that registered through us, the RTR; or our own way out to an RTR.
    Nat,
    /// The resolver gave up.
    GivenUp,
}

impl Origin {
    /// Whether its entries give way to nothing that Map-Replies and Map-Notifies say.
    #[must_use]
    pub const fn is_fixed(self) -> bool {
        matches!(self, Self::Static | Self::Api | Self::Nat)
    }

    /// Stable name, as `show map-cache` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Reply => "map-reply",
            Self::PubSub => "pubsub",
            Self::Api => "api",
            Self::Nat => "nat",
            Self::GivenUp => "given-up",
        }
    }
}

/// What a Map-Notify to a subscriber is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// News: it says nothing about what it does not list.
    Change,
    /// The answer to a subscription, complete as a Map-Reply is.
    Answer {
        /// What it is about: what is inside and not listed is in doubt.
        scope: EidPrefix,
    },
    /// The answer to a renewal: complete, but what it only says again begins no new life, or it would never end.
    Again,
}

/// What records came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Reply,
    Notify(Notice),
}

impl Heard {
    pub(super) const fn origin(self) -> Origin {
        match self {
            Self::Reply => Origin::Reply,
            Self::Notify(_) => Origin::PubSub,
        }
    }
}
