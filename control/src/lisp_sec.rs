//! LISP-SEC: a Map-Reply proves that it answers our Map-Request, that its sender may speak of these EID-Prefixes, and that nobody
//! changed it.
//!
//! ```text
//! ITR ─ ITR-OTK, wrapped ─▶ Map-Resolver ─ ITR-OTK, wrapped anew ─▶ Map-Server ─ MS-OTK, wrapped; EID-AD ─▶ ETR
//!  ▲                                                                                                        │
//!  └────────────── Map-Reply: EID-AD, MAC under the ITR-OTK; PKT-AD, MAC under MS-OTK = KDF(ITR-OTK) ───────┘
//! ```
//!
//! The Map-Server says in the EID-AD what is registered, under a key that the ETR does not know: an ETR cannot claim more. The
//! ETR signs the whole message under a key derived from that one. [`asking`] is the ITR's part, [`gate`] that of everybody
//! who is asked. One-Time Keys travel in ECMs only, so nothing of this goes over the ALT.
//!
//! Source: RFC 9303 §4, §6.

#![forbid(unsafe_code)]

pub mod asking;
mod fault;
pub mod gate;
pub mod keys;
#[cfg(test)]
mod tests;

pub use self::fault::SecurityFault;

/// What a router is told of LISP-SEC, where it is switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How we ask; `None`: our own Map-Requests go without it.
    pub asking: Option<asking::Asking>,
    /// How we are asked.
    pub gate: gate::Settings,
}
