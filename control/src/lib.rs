//! Protocol machines of the LISP control plane, and the operating system behind safe wrappers ([`os`]).

pub mod os;
pub mod publisher;
//! Protocol machines of the LISP control plane: plain values in, plain values out.
//!
//! ```text
//! worker's miss ─▶ resolver ─▶ Map-Request ─▶ alt ─▶ … ─▶ ETR's responder
//!                     ▲                                        │
//! workers' tables ◀─ map_cache ◀─ resolver ◀─── Map-Reply ◀────┘
//! ```
//!
//! No machine holds a socket, a clock or a random source: time and nonces come in with each input, and what must be done comes
//! out as values. The program's driver does it.

pub mod alt;
pub mod fault;
pub mod map_cache;
pub mod prefix_map;
pub mod rate;
pub mod resolver;
pub mod responder;
pub mod rloc;
pub mod wire;
pub mod underlay;
