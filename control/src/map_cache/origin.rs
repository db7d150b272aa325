//! Where entries come from.

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
    /// The resolver gave up.
    GivenUp,
}

impl Origin {
    /// Stable name, as `show map-cache` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Reply => "map-reply",
            Self::PubSub => "pubsub",
            Self::Api => "api",
            Self::GivenUp => "given-up",
        }
    }
}
