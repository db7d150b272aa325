//! An embedded BGP-4 speaker that carries EID-prefixes between ALT routers (RFC 6836 §6).
//!
//! ```text
//! kernel TCP on a tunnel's TUN interface
//!   octets ─▶ message ─▶ peer (fsm, collision) ─▶ Update ─▶ rib: Adj-RIB-In ─▶ decision ─▶ Loc-RIB ─▶ EID routes
//!   octets ◀─ message ◀─ peer ◀──────────────────── Update ◀── Adj-RIB-Out ◀─ export ◀───────┘
//! ```
//!
//! Each ALT router is an AS of its own; the AS path is there for the shortest way and against loops, nothing else. Its routes
//! never meet the kernel's.

mod aggregate;
mod dampening;
pub mod fsm;
pub mod message;
pub mod peer;
mod policy;
mod rib;
pub mod route;
pub mod settings;
pub mod speaker;
