//! What clients may have done: one value for each, whoever carries it out.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Mapping};

use super::{Entry, ProtocolError, Table, message::errno};
use crate::rloc::routable;

/// Most RLOCs of a mapping, as in OpenLISP.
pub const RLOCS_MAX: usize = 32;
/// Largest Map-Version (RFC 9302 §6.1).
const VERSION_MAX: u16 = 0x0fff;

/// Whether a client may change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// It may ask and listen.
    Read,
    /// It may change mappings too.
    Write,
}

/// Who asks: a connection, as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker(pub u64);

/// A mapping that a client wants in a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Which table.
    pub table: Table,
    /// What it says; its TTL is `life` in whole minutes, rounded up.
    pub mapping: Mapping,
    /// How long it stays; `None`: until it is taken out.
    pub life: Option<Duration>,
    /// It goes with the connection that put it in.
    pub ephemeral: bool,
    /// Of the database: none of its locators is ours, and that is meant.
    pub foreign: bool,
}

/// Whose locators a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// This one, in every mapping that has it.
    Locator(IpAddr),
    /// Those of the mapping that packets to this prefix use.
    Mapping(EidPrefix),
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Put in what is not there.
    Add(Offer),
    /// Put in the place of what is there; counters stay.
    Change {
        /// What shall be there.
        offer: Offer,
        /// Only if the entry has not changed since this generation.
        unless_after: Option<u64>,
    },
    /// Take out exactly this prefix.
    Delete {
        /// Of which table.
        table: Table,
        /// What.
        eid: EidPrefix,
        /// Only if the entry has not changed since this generation.
        unless_after: Option<u64>,
    },
    /// Take out all entries of a table, static ones only if `all` are meant: of the database what clients made, and never all.
    Flush {
        /// Which table.
        table: Table,
        /// Of this instance alone.
        instance: Option<InstanceId>,
        /// Static entries too.
        all: bool,
    },
    /// Read the configuration again, and take up what changed.
    Reload,
    /// Begin sessions with BGP neighbours anew, or only exchange the routes again.
    Clear {
        /// Name or address of one neighbour; `None`: all of them.
        neighbor: Option<String>,
        /// Keep the sessions.
        soft: bool,
    },
    /// Say of locators that they are to be used again, or not to be.
    Judge {
        /// Which.
        judged: Judged,
        /// REACH takes back what BADREACH said.
        up: bool,
    },
}

impl Operation {
    /// Whether it is much work for the router: a change of one of our own mappings is told to all who know of them. Of such
    /// operations a client has one done in a turn.
    #[must_use]
    pub fn is_long(&self) -> bool {
        match self {
            Self::Add(offer) | Self::Change { offer, .. } => offer.table == Table::Database,
            Self::Delete { table, .. } | Self::Flush { table, .. } => *table == Table::Database,
            Self::Reload | Self::Clear { .. } => true,
            Self::Judge { .. } => false,
        }
    }
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Done {
    /// What was taken out, if it was one entry.
    pub entry: Option<Entry>,
    /// How many entries or locators it touched.
    pub count: u64,
}

/// How far an operation got at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// To its end.
    Done(Done),
    /// It goes on in parts, and who asked waits: [`Session::conclude`](super::Session::conclude) ends that.
    Later,
}

impl From<Done> for Outcome {
    fn from(done: Done) -> Self {
        Self::Done(done)
    }
}

/// Why an operation was not done. The texts are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// ADD, and exactly this prefix is there.
    #[error("{0} is there already: CHANGE replaces it")]
    Exists(EidPrefix),
    /// There is no such entry or locator.
    #[error("{0}")]
    Missing(String),
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A bound is reached.
    #[error("{0}")]
    Full(&'static str),
    /// The entry changed after the generation named.
    #[error("{0} has changed meanwhile: look at it again")]
    Changed(EidPrefix),
    /// The client may only read.
    #[error("this client may only read: be root, or a member of the group altitude, and use the socket for writing")]
    Denied,
    /// Somebody else does it, and only one may.
    #[error("{0}")]
    Busy(&'static str),
    /// Not offered here.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl From<ProtocolError> for Refused {
    fn from(error: ProtocolError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl Refused {
    /// The error number of the reply, as Linux numbers them.
    #[must_use]
    pub const fn errno(&self) -> u32 {
        match self {
            Self::Exists(_) => errno::EXISTS,
            Self::Missing(_) => errno::NOT_FOUND,
            Self::Invalid(_) => errno::INVALID,
            Self::Full(_) => errno::NO_SPACE,
            Self::Changed(_) => errno::AGAIN,
            Self::Denied => errno::DENIED,
            Self::Busy(_) => errno::BUSY,
            Self::Unsupported(_) => errno::UNSUPPORTED,
        }
    }
}

impl Offer {
    /// Whether the mapping makes sense by itself.
    ///
    /// # Errors
    /// [`Refused::Invalid`], why not.
    pub fn check(&self) -> Result<(), Refused> {
        let invalid = |text: String| Err(Refused::Invalid(text));
        let Mapping { eid, version, action, locators, .. } = &self.mapping;
        if *version > VERSION_MAX {
            return invalid(format!("a Map-Version is at most {VERSION_MAX}"));
        }
        if locators.len() > RLOCS_MAX {
            return invalid(format!("a mapping has at most {RLOCS_MAX} RLOCs"));
        }
        if !locators.is_empty() && *action != Action::NoAction {
            return invalid("a mapping has RLOCs or an action, not both".to_owned());
        }
        for (at, locator) in locators.iter().enumerate() {
            let address = locator.address;
            if !routable(address) {
                return invalid(format!("{address} cannot be an RLOC: it is no unicast address"));
            }
            if eid.prefix.contains(address) && eid.prefix.length() > 0 {
                return invalid(format!("RLOC {address} lies inside {eid}: an RLOC is an address of the core"));
            }
            if locators[..at].iter().any(|other| other.address == address) {
                return invalid(format!("RLOC {address} is there twice"));
            }
        }
        Ok(())
    }
}
