//! Protocol machines of the LISP control plane: plain values in, plain values out.
//!
//! ```text
//! worker's miss ─▶ resolver ─▶ Map-Request ─▶ alt ─▶ … ─▶ ETR's responder
//!                     ▲                                        │
//! workers' tables ◀─ publisher ◀─ map_cache ◀─ resolver ◀── Map-Reply
//!                     ▲
//!                  underlay ◀─ netlink
//! ```
//!
//! No machine holds a socket, a clock or a random source: time and nonces come in with each input, and what must be
//! done comes out as values. The program's driver does it, with the safe wrappers of [`os`].

pub mod alt;
pub mod api;
pub mod config;
pub mod database;
pub mod echo_nonce;
pub mod fault;
pub mod inline;
pub mod lig;
pub mod lisp_sec;
pub mod map_cache;
pub mod map_resolver;
pub mod map_server;
pub mod nat;
pub mod os;
pub mod path_mtu;
pub mod prefix_map;
pub mod prober;
pub mod publisher;
pub mod pubsub;
pub mod rate;
pub mod registrar;
pub mod resolver;
pub mod responder;
pub mod rloc;
mod slab;
pub mod smr;
pub mod status_bits;
pub mod strangers;
pub mod underlay;
pub mod versions;
pub mod wire;
