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
//! ETR signs the whole message under a key derived from that one.
//!
//! Source: RFC 9303 §4, §6.

#![forbid(unsafe_code)]

pub mod keys;
