//! What NAT traversal is told (draft-ermagan-lisp-nat-traversal-19).

use std::time::Duration;

pub use crate::nat::Peer as NatPeer;

/// NAT traversal, each side of it by itself; nothing of it by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nat {
    /// We may sit behind a NAT: how often the binding that data comes in by is kept alive.
    pub keepalive: Option<Duration>,
    /// We are an RTR for xTRs behind NATs: the Map-Servers that they may register with through us, each once, one or more.
    pub map_servers: Option<Vec<NatPeer>>,
    /// RTRs that our Map-Server tells xTRs of, each once.
    pub relays: Vec<NatPeer>,
}
