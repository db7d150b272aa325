//! What a Map-Server is told of its sites.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::EidPrefix;

use super::subscriptions::Publishing;
use crate::{
    alt::datagrams::Unreachable,
    nat::Peer,
    rate::Rate,
    wire::{Form, Key},
};

/// Most prefixes registered for one site, unless told otherwise (RFC 7835 §3.9).
pub const PREFIXES_MAX: usize = 4096;
/// Most registrations altogether, unless told otherwise.
const REGISTRATIONS_MAX: usize = 2_000_000;
/// A site may register as often as this within [`SPAN`] even if it has few prefixes.
const MESSAGES_MIN: usize = 64;
/// The time between two rounds of an ETR that hurries (RFC 9301 §8.2).
const SPAN: Duration = Duration::from_secs(20);

/// Which of the configured sites: its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub usize);

/// Who answers Map-Requests for a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proxying {
    /// The Map-Server where an ETR asked for it (P bit), else an ETR.
    #[default]
    Etr,
    /// The Map-Server.
    Always,
    /// An ETR, but for those behind NATs, which nobody could ask.
    Never,
}

/// A site as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// What operators call it.
    pub name: String,
    /// Its EID-Prefixes.
    pub eids: Vec<EidPrefix>,
    /// Whether parts of them may be registered.
    pub more_specifics: bool,
    /// RLOCs of ETRs that serve what nobody registered.
    pub etrs: Vec<IpAddr>,
    /// Keys of its ETRs; all of them are accepted. None: nobody can register.
    pub keys: Vec<Key>,
    /// What the messages to its ETRs look like.
    pub form: Form,
    /// Nonces need not grow: routers from before RFC 9301 have random ones. Old messages can then be replayed.
    pub any_nonce: bool,
    /// Who answers for it.
    pub proxy: Proxying,
    /// Most prefixes it may have registered; 0 is [`PREFIXES_MAX`].
    pub prefixes_max: usize,
    /// Nobody is told where it is: the answer is Drop/Policy-Denied (RFC 9301 §8.3).
    pub denied: bool,
}

impl Site {
    pub(super) const fn limit(&self) -> usize {
        if self.prefixes_max == 0 { PREFIXES_MAX } else { self.prefixes_max }
    }

    /// How many Map-Registers are taken: within the shortest round as many as it may have prefixes, for some ETRs send a
    /// message for each (RFC 7835 §3.9).
    pub(super) fn rate(&self) -> Rate {
        let burst = self.limit().max(MESSAGES_MIN) as u32;
        Rate { burst, every: SPAN / burst }
    }
}

/// What the Map-Server is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sites; no EID-Prefix is in two of them.
    pub sites: Vec<Site>,
    /// Our RLOCs: their families are those we can send in.
    pub rlocs: Vec<IpAddr>,
    /// Prefixes that we may speak of although they are of no site, where others have the rest; `None`: there are no others.
    pub aggregates: Option<Vec<EidPrefix>>,
    /// What to say about EIDs that no ETR serves now.
    pub unreachable: Unreachable,
    /// Map-Requests of one ITR-RLOC about one EID.
    pub each: Rate,
    /// Map-Requests altogether.
    pub all: Rate,
    /// Most pairs of ITR-RLOC and EID whose rate is watched at a time.
    pub watched_max: usize,
    /// Most registrations: a prefix counts once for each xTR that registers it.
    pub registrations_max: usize,
    /// The calendar's time at start, seconds since 1970.
    pub wall: u64,
    /// Less than the nonce of every Map-Notify from now on that answers nothing, and not less than any before.
    pub first_nonce: u64,
    /// Whether what changes is written to [`MapServer::journal`](super::MapServer::journal).
    pub journal: bool,
    /// Who may subscribe to changes; `None`: nobody can.
    pub publishing: Option<Publishing>,
    /// Map-versioning: a record of an older version than is registered is refused (RFC 9302 §5).
    pub versions: bool,
    /// RTRs that xTRs behind NATs are told of, and that may relay what these register; none: no NAT traversal.
    pub relays: Vec<Peer>,
    /// LISP-SEC's strict mode: only ETRs that speak it may register.
    pub signed_only: bool,
}

impl Settings {
    /// The defaults: 3 Map-Requests at once and one a second for each pair, 200 000 a second altogether.
    #[must_use]
    pub const fn new(sites: Vec<Site>, rlocs: Vec<IpAddr>) -> Self {
        Self {
            sites,
            rlocs,
            aggregates: None,
            unreachable: Unreachable::NativelyForward,
            each: Rate { burst: 3, every: Duration::from_secs(1) },
            all: Rate { burst: 50_000, every: Duration::from_micros(5) },
            watched_max: 262_144,
            registrations_max: REGISTRATIONS_MAX,
            wall: 0,
            first_nonce: 0,
            journal: false,
            publishing: None,
            versions: false,
            relays: Vec::new(),
            signed_only: false,
        }
    }
}
