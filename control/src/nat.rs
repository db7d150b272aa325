//! NAT traversal (draft-ermagan-lisp-nat-traversal-19).
//!
//! ```text
//! xTR ─ Info-Request ─▶ NAT ─▶ Map-Server            what am I to you, and who relays?
//! xTR ─ Map-Register in an ECM, R, from 4341 ─▶ NAT ─▶ RTR ─ the same, N ─▶ Map-Server
//! xTR ◀─ Data-Map-Notify ─ NAT ◀─ from 4342 ─ RTR ◀─ Map-Notify in an ECM, R ─ Map-Server
//! xTR ─ data, from one port ─▶ NAT ─▶ RTR ◀─▶ everybody else; to the xTR from 4342 to the port that the NAT has for it
//! ```
//!
//! [`site`] is the xTR's part, [`relay`] the RTR's. The Map-Server's is in [`map_server`](crate::map_server).

#![forbid(unsafe_code)]

pub mod relay;
pub mod site;

use std::net::IpAddr;

use crate::wire::Key;

/// The other one of an RTR and a Map-Server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: IpAddr,
    /// Keys shared with it, by which the RTR knows the Map-Server: the first signs, all are accepted. May be none.
    pub keys: Vec<Key>,
}
