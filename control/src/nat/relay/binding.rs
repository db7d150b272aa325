//! What a NAT has for one xTR.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Ttl};

use super::{LIFETIME, WAITING_MAX};
use crate::{rate::Bucket, wire::XtrIdentity};

/// What a binding is known by; those of one xTR stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) xtr_id: [u8; 16],
    pub(super) inner: IpAddr,
    pub(super) translated: SocketAddr,
}

/// One EID-Prefix of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) expires: Instant,
    pub(super) priority: u8,
    pub(super) weight: u8,
    /// When it was last said how it is reached.
    pub(super) told: Instant,
}

/// A Map-Register that was relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Its nonce, and the Map-Server.
    pub(super) nonce: (u64, IpAddr),
    /// Its prefixes, where the Map-Server shares no key with us.
    pub(super) said: Option<[u8; 32]>,
}

/// What is at one address.
#[derive(Debug, Default)]
pub(super) struct Address {
    pub(super) bindings: usize,
    pub(super) unverified: BTreeSet<(Instant, Name)>,
}

/// What a NAT has for one xTR.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) xtr: XtrIdentity,
    pub(super) rloc: IpAddr,
    pub(super) inner_port: u16,
    pub(super) nonce: u64,
    pub(super) waiting: VecDeque<Waiting>,
    /// The last of them that a Map-Notify came for.
    pub(super) proven: VecDeque<(u64, IpAddr)>,
    /// How often it may register, once it is verified.
    pub(super) bucket: Bucket,
    /// None: not verified.
    pub(super) prefixes: BTreeMap<EidPrefix, Claim>,
    /// Whether it was said that it is verified.
    pub(super) told: bool,
    pub(super) since: Instant,
    pub(super) heard: Instant,
    /// When something of it ends.
    pub(super) due: Instant,
}

/// A binding, for who looks on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Whose.
    pub xtr: XtrIdentity,
    /// Address and port of the xTR as we see them.
    pub translated: SocketAddr,
    /// Our RLOC that it registers at.
    pub rloc: IpAddr,
    /// Address and port of the xTR as it sees them.
    pub inner: SocketAddr,
    /// Of its last Map-Register.
    pub nonce: u64,
    /// Whether a Map-Server vouched for it.
    pub verified: bool,
    /// When its first Map-Register came.
    pub since: Instant,
    /// When its last one came.
    pub heard: Instant,
    /// What is behind it, once it is verified.
    pub eids: Vec<EidPrefix>,
}

impl Held {
    /// Whether a Map-Server vouched for it: then there is something behind it.
    pub(super) fn is_verified(&self) -> bool {
        !self.prefixes.is_empty()
    }

    pub(super) fn waits_for(&self, nonce: (u64, IpAddr)) -> bool {
        self.waiting.iter().any(|waiting| waiting.nonce == nonce)
    }

    pub(super) fn has_proven(&self, nonce: (u64, IpAddr)) -> bool {
        self.proven.contains(&nonce)
    }

    /// A Map-Register was relayed.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(waiting);
    }

    /// Its Map-Notify came.
    pub(super) fn prove(&mut self, nonce: (u64, IpAddr)) {
        self.waiting.retain(|waiting| waiting.nonce != nonce);
        if self.proven.len() == WAITING_MAX {
            self.proven.pop_front();
        }
        self.proven.push_back(nonce);
    }
}

/// How long a record may be believed; `None`: it is taken back.
pub(super) fn lasts(ttl: Ttl) -> Option<Duration> {
    match ttl {
        Ttl::Remove | Ttl::Minutes(0) => None,
        Ttl::Minutes(minutes) => Some(LIFETIME.min(Duration::from_secs(u64::from(minutes) * 60))),
        Ttl::ReceiverDecides => Some(LIFETIME),
    }
}
