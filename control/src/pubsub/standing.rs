//! One prefix that is subscribed to, and how that stands.

use std::{net::IpAddr, time::Instant};

use altitude_dataplane::mapping::EidPrefix;

use crate::{lisp_sec::asking::Sealed, map_server::is_newer, wire::Key};

/// How things stand with a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Asked for.
    Asking,
    /// Confirmed.
    Live,
    /// The Map-Server would not.
    Refused,
    /// Nobody answered.
    Silent,
}

impl Standing {
    /// Stable name, as `show subscriptions` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Live => "live",
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }
}

/// A Map-Request that is not answered yet.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub(super) nonce: u64,
    /// What its answer must prove, with LISP-SEC.
    pub(super) sealed: Option<Sealed>,
}

/// One prefix that is subscribed to.
#[derive(Debug, Clone)]
pub(super) struct One {
    pub(super) standing: Standing,
    pub(super) since: Instant,
    /// It stays, in use or not.
    pub(super) fixed: bool,
    /// The last nonce that was sent.
    pub(super) sent: u64,
    /// The last one of a Map-Notify, or the one before the first that was sent.
    pub(super) seen: u64,
    /// The start of that Map-Notify's MAC.
    pub(super) seen_mac: u64,
    /// The tries of this asking; none: none is under way.
    pub(super) tries: Vec<Try>,
    /// What its Map-Notifies are signed with, where no key is shared: of the try that was confirmed, and of the one before, until
    /// the Map-Server uses the new one.
    pub(super) keys: Vec<Key>,
    /// Which algorithm of LISP-SEC is asked for next.
    pub(super) algorithm: usize,
    pub(super) due: Instant,
    /// What the confirmation spoke of, if it is wider.
    pub(super) scope: EidPrefix,
    pub(super) server: Option<IpAddr>,
    pub(super) notifies: u64,
    pub(super) lost_at: Option<Instant>,
}

impl One {
    /// One more than the last of either side (RFC 9437 §5).
    pub(super) const fn next_nonce(&self) -> u64 {
        let last = if is_newer(self.seen, self.sent) { self.seen } else { self.sent };
        last.wrapping_add(1)
    }

    /// The try with this nonce, if it is waited for.
    pub(super) fn asked(&self, nonce: u64) -> Option<&Try> {
        self.tries.iter().find(|one| one.nonce == nonce)
    }

    /// Whether the nonce is one of those that are waited for.
    pub(super) fn confirms(&self, nonce: u64) -> bool {
        self.asked(nonce).is_some()
    }
}
