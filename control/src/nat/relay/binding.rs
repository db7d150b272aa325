//! What a NAT has for one xTR.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Ttl};

use super::{
    LIFETIME,
    waiting::{Mark, Waiting},
};
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
    pub(super) proven: VecDeque<Mark>,
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
}

/// Appends to what has a bound, and gives what had to go for it.
pub(super) fn push_bounded<T>(list: &mut VecDeque<T>, one: T, limit: usize) -> Option<T> {
    let oldest = if list.len() >= limit { list.pop_front() } else { None };
    list.push_back(one);
    oldest
}

/// How long a record may be believed; `None`: it is taken back. Its TTL is for map-caches: the Map-Server goes on naming us as long
/// as it keeps the registration.
pub(super) const fn lasts(ttl: Ttl) -> Option<Duration> {
    match ttl {
        Ttl::Remove | Ttl::Minutes(0) => None,
        Ttl::Minutes(_) | Ttl::ReceiverDecides => Some(LIFETIME),
    }
}
