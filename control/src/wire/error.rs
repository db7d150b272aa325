//! Why a control message is dropped.

use altitude_dataplane::wire::WireError as Malformed;

/// As many kinds as there are reactions: count, or count and log what the peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Lengths, counts or fields that do not fit together, or a wrong checksum. Count it.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// An AFI not known, or not spoken as an EID. Count and log it (RFC 9301 §5.1).
    #[error("address family {0} is not spoken here")]
    UnknownAfi(u16),
    /// An EID of an LCAF type not spoken, or a vendor's LCAF anywhere. Count and log it (RFC 9306 §3, §4).
    #[error("LCAF type {0} is not spoken here")]
    UnknownLcaf(u8),
}
