//! Map-Reply, type 2.
//!
//! ```text
//! |Type=2 |P|E|S|          Reserved (17)          | Record Count  |
//! |                         Nonce (64)                            |
//! | EID-records ...                               Record Count times
//! | LISP-SEC authentication data ...              if S
//! ```
//!
//! Source: RFC 9301 §5.4; the S bit RFC 9303 §6.2.

use altitude_dataplane::mapping::Mapping;

/// The answer to a Map-Request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapReply {
    /// As in the request.
    pub nonce: u64,
    /// P bit: answers an RLOC-probe.
    pub probe: bool,
    /// E bit: the site echoes nonces.
    pub echo_nonce: bool,
    /// What the mapping system says, up to 255; more-specifics come along with the prefix asked for.
    pub records: Vec<Mapping>,
    /// S bit: the authentication data as it came, neither read nor verified here; never empty when there.
    pub security: Option<Vec<u8>>,
}
