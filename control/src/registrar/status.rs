//! How things stand with a Map-Server, and in words why they do not stand better.

use std::{net::IpAddr, time::Instant};

use altitude_dataplane::mapping::EidPrefix;

use super::{Relay, Way};
use crate::wire::{Algorithm, AuthenticationError};

/// How things stand with a Map-Server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The first answers are still to come, or some of them.
    Waiting,
    /// It confirmed every prefix.
    Registered,
    /// Nothing came back that counts, not even for messages that were sent again.
    Silent,
    /// Its Map-Notifies are not signed as ours would be.
    WrongKey(AuthenticationError),
    /// It confirmed less than we registered.
    Partial {
        /// Prefixes that it left out of its answers.
        refused: usize,
        /// Prefixes that it gave no answer for.
        silent: usize,
    },
}

impl Standing {
    /// Stable name, as `show registrations` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Registered => "registered",
            Self::Silent => "silent",
            Self::WrongKey(_) => "wrong-key",
            Self::Partial { .. } => "partial",
        }
    }
}

/// What a Map-Server says of one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixStanding {
    /// The answer is still to come.
    Waiting,
    /// It has it.
    Registered,
    /// It answered, and left it out.
    Refused,
    /// It did not answer what was sent again and again.
    Silent,
}

impl PrefixStanding {
    /// Stable name, as `show registrations` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Registered => "registered",
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }
}

/// One Map-Server for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Which.
    pub address: IpAddr,
    /// How it is reached.
    pub way: Way,
    /// How things stand,
    pub standing: Standing,
    /// and since when.
    pub since: Instant,
    /// Each prefix of the database: what is said of it, and since when. Ascending.
    pub prefixes: Vec<(EidPrefix, PrefixStanding, Instant)>,
    /// Key ID that signs what is sent,
    pub key_id: u8,
    /// and how.
    pub algorithm: Algorithm,
    /// Map-Registers sent.
    pub sent: u64,
    /// Map-Notifies that answered one of them.
    pub confirmed: u64,
    /// When the last of these came.
    pub last_notify: Option<Instant>,
}

/// What the machine cannot know and may be the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circumstances<'a> {
    /// What the system said when a message to this Map-Server could not be sent the last time.
    pub not_sent: Option<&'a str>,
    /// Nothing tells which nonces an earlier run used, and the clock alone keeps ours above them.
    pub nonces_by_clock: bool,
}

/// Why a site is not registered, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Prefixes that a reason names before it only counts the rest.
const NAMED_MAX: usize = 8;

impl ServerStatus {
    /// Why not every prefix is registered; `None` if all are.
    #[must_use]
    pub fn reason(&self, circumstances: Circumstances<'_>) -> Option<Reason> {
        let reason = |what: String, remedy: String| Some(Reason { what, remedy });
        let address = self.address;
        match self.way {
            Way::Held => {
                return reason(
                    "it has not told yet whether a NAT is between us".to_owned(),
                    format!("wait; if that lasts, see that UDP 4342 passes from here to {address} and back"),
                );
            }
            Way::Stranded => {
                return reason(
                    "we are behind a NAT, and no Map-Server names an RTR that would relay for us".to_owned(),
                    "name RTRs at the Map-Server: [[nat.relay]] with the address of each".to_owned(),
                );
            }
            Way::Direct | Way::Relayed(_) => {}
        }
        if let (Some(error), false) = (circumstances.not_sent, self.standing == Standing::Registered) {
            return reason(
                format!("messages to it are not sent: {error}"),
                format!("`ip route get {address}` shows what the kernel thinks; add a route, or correct its address"),
            );
        }
        match self.standing {
            Standing::Registered => None,
            Standing::Waiting => reason(
                "its answer is not there yet".to_owned(),
                "wait: an unanswered message goes again after 1, 2, 4 … 60 s".to_owned(),
            ),
            Standing::Silent => Some(self.silent(circumstances.nonces_by_clock)),
            Standing::WrongKey(error) => Some(self.wrong_key(error)),
            Standing::Partial { refused: 0, .. } => reason(
                format!("it gives no answer for {}", self.named(PrefixStanding::Silent)),
                "see its log or counters for what it does not believe; if it never saw them, messages of that size are lost \
                 on the way"
                    .to_owned(),
            ),
            Standing::Partial { .. } => reason(
                format!("it refuses {}", self.named(PrefixStanding::Refused)),
                "give them to this site in its configuration, with this key; a part of a prefix of the site must be \
                 allowed there (more-specifics)"
                    .to_owned(),
            ),
        }
    }

    /// A Map-Server that does not believe a message says nothing, so silence has many reasons.
    fn silent(&self, nonces_by_clock: bool) -> Reason {
        let Self { address, key_id, .. } = self;
        let algorithm = name(self.algorithm);
        let what = if self.confirmed == 0 {
            format!("nothing came back for {} messages", self.sent)
        } else {
            "nothing comes back any more".to_owned()
        };
        let nonces = if nonces_by_clock {
            "; and that the clock here was not set back: nothing was kept of the nonces of earlier runs, so it alone keeps ours \
             growing, and a Map-Server is silent to those it has seen"
        } else {
            ""
        };
        let path = match &self.way {
            Way::Relayed(Relay { rtr, .. }) => format!(
                "the RTR {rtr} runs and relays for this Map-Server ([[nat.map-server]] there), that UDP passes from port 4341 here \
                 to port 4342 there and back, that {address} runs"
            ),
            _ => format!("it runs, that UDP 4342 passes from here to {address} and back"),
        };
        let remedy = format!(
            "see that {path}, and that it has a site with our \
             EID-prefixes, Key ID {key_id}, algorithm {algorithm} and the same secret: it is silent to what it does not \
             believe, and its log or counters tell{nonces}"
        );
        Reason { what, remedy }
    }

    fn wrong_key(&self, error: AuthenticationError) -> Reason {
        let Self { key_id, .. } = self;
        let algorithm = name(self.algorithm);
        let (what, remedy) = match error {
            AuthenticationError::UnknownKey(theirs) => (
                format!("it signs its answers with Key ID {theirs}, which is not ours (Key ID {key_id})"),
                format!("give the key the same ID at both ends: id = {theirs} here, or {key_id} there"),
            ),
            AuthenticationError::Algorithm(theirs) => (
                format!("it signs its answers with algorithm {theirs}, and our key is for {algorithm}"),
                "give the key the same algorithm at both ends (1 is sha1, 2 sha256, 3 sha256-hkdf)".to_owned(),
            ),
            AuthenticationError::Length(octets) => (
                format!("its answers carry {octets} octets of authentication data, which {algorithm} does not have"),
                "see what its software sends, and whether it is of this protocol".to_owned(),
            ),
            AuthenticationError::Mac => (
                format!("its answers are signed with another secret than ours for Key ID {key_id}"),
                "give the same secret at both ends; a blank at the end of a line counts".to_owned(),
            ),
        };
        Reason { what, remedy }
    }

    /// The prefixes that stand so, by name as far as they are few.
    fn named(&self, like: PrefixStanding) -> String {
        let all = || self.prefixes.iter().filter(|(_, standing, _)| *standing == like);
        let names: Vec<String> = all().take(NAMED_MAX).map(|(eid, ..)| eid.to_string()).collect();
        match all().count() - names.len() {
            0 => names.join(", "),
            more => format!("{} and {more} more", names.join(", ")),
        }
    }
}

/// The name that the configuration has for an algorithm.
const fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha1 => "sha1",
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha256Hkdf => "sha256-hkdf",
    }
}
