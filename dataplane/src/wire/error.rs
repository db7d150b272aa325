//! Why octets are not the value they should be.

/// As many kinds as there are reactions; each becomes a drop with its own reason counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The octets end before the header or the length in it says.
    #[error("{need} octets are needed, {have} are there")]
    Truncated {
        /// Octets the header asks for.
        need: usize,
        /// Octets there are.
        have: usize,
    },
    /// Fields that exclude each other or a value the format does not allow; the text names them.
    #[error("contradiction: {0}")]
    Contradiction(&'static str),
    /// A checksum that does not match; the text names the header.
    #[error("wrong {0} checksum")]
    Checksum(&'static str),
}
