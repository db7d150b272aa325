//! LISP data header: 8 octets between the outer UDP header (port 4341) and the inner packet.
//!
//! ```text
//! |N|L|E|V|I|R|K|K|       nonce, or source|dest map-version       |
//! |        instance-id, if I, then 8 bits of / status bits        |
//! ```
//!
//! R is P in LISP-GPE, and the last octet of the first word is then the next protocol.
//!
//! Source: RFC 9300 §5.1 (layout), §5.3 (meaning); map-versions RFC 9302 §7; K bits RFC 8061 §8; GPE RFC 9305 §3.

use super::WireError;

/// N: the low 24 bits of the first word are a nonce.
pub(crate) const N: u8 = 0x80;
/// L: the second word ends with Locator-Status-Bits.
pub(crate) const L: u8 = 0x40;
const E: u8 = 0x20;
/// V: the low 24 bits of the first word are map-versions.
pub(crate) const V: u8 = 0x10;
/// I: the second word holds an Instance-ID.
pub(crate) const I: u8 = 0x08;
const P: u8 = 0x04;
/// K bits.
pub(crate) const K: u8 = 0x03;

/// What the low 24 bits of the first word are. N, V and P exclude each other, so no value can hold two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Nothing: zero when written, ignored when read.
    Absent,
    /// N: a nonce of 24 bits. N wins over V when a peer sets both (RFC 9300 §5.3).
    Nonce {
        /// 24 bits.
        value: u32,
        /// E: the peer asks for it back; means nothing without N.
        echo: bool,
    },
    /// V: map-versions of 12 bits each; 0 is none.
    Versions {
        /// Of the mapping of the inner source.
        source: u16,
        /// Of the mapping of the inner destination.
        dest: u16,
    },
    /// P of LISP-GPE: what follows the header. Only [`DataHeader::split_gpe`] reads it; send it only to peers known to
    /// speak GPE (RFC 9305 §5).
    NextProtocol(u8),
}

/// The LISP data header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// The low 24 bits of the first word.
    pub tag: Tag,
    /// I: the Instance-ID, 24 bits.
    pub instance: Option<u32>,
    /// L: Locator-Status-Bits, bit i for the locator of ordinal i; 32 of them, or 8 beside an Instance-ID.
    pub status: Option<u32>,
    /// K bits: which key the payload is encrypted with, 1 … 3; 0 is clear text.
    pub key: u8,
}

impl DataHeader {
    /// Octets of the header.
    pub const LENGTH: usize = 8;

    /// All flags zero: the public Internet's profile (RFC 9300 §4.1).
    pub const PLAIN: Self = Self { tag: Tag::Absent, instance: None, status: None, key: 0 };

    /// Splits the header off the front of `octets`; the R bit is ignored.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 8 octets.
    #[inline]
    pub fn split(octets: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let Some((head, rest)) = octets.split_first_chunk::<{ Self::LENGTH }>() else {
            return Err(WireError::Truncated { need: Self::LENGTH, have: octets.len() });
        };
        let flags = head[0];
        let low = u32::from_be_bytes([0, head[1], head[2], head[3]]);
        let word = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let tag = match (flags & N != 0, flags & V != 0) {
            (true, _) => Tag::Nonce { value: low, echo: flags & E != 0 },
            (false, true) => Tag::Versions { source: (low >> 12) as u16, dest: (low & 0x0fff) as u16 },
            (false, false) => Tag::Absent,
        };
        let (instance, status) = match (flags & I != 0, flags & L != 0) {
            (true, true) => (Some(word >> 8), Some(word & 0xff)),
            (true, false) => (Some(word >> 8), None),
            (false, true) => (None, Some(word)),
            (false, false) => (None, None),
        };
        Ok((Self { tag, instance, status, key: flags & K }, rest))
    }

    /// As [`split`](Self::split) for a peer that speaks LISP-GPE: with P set, N, E and V are ignored and the next
    /// protocol is read.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 8 octets.
    pub fn split_gpe(octets: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (mut header, rest) = Self::split(octets)?;
        if octets[0] & P != 0 {
            header.tag = Tag::NextProtocol(octets[3]);
        }
        Ok((header, rest))
    }

    /// Writes the header to the front of `octets`.
    #[inline]
    pub fn write(&self, octets: &mut [u8]) {
        let (tag_flags, low) = match self.tag {
            Tag::Absent => (0, 0),
            Tag::Nonce { value, echo } => (if echo { N | E } else { N }, value & 0x00ff_ffff),
            Tag::Versions { source, dest } => (V, u32::from(source & 0x0fff) << 12 | u32::from(dest & 0x0fff)),
            Tag::NextProtocol(protocol) => (P, u32::from(protocol)),
        };
        let (word_flags, word) = match (self.instance, self.status) {
            (Some(instance), Some(status)) => (I | L, instance << 8 | status & 0xff),
            (Some(instance), None) => (I, instance << 8),
            (None, Some(status)) => (L, status),
            (None, None) => (0, 0),
        };
        octets[..4].copy_from_slice(&low.to_be_bytes());
        octets[0] = tag_flags | word_flags | self.key & K;
        octets[4..8].copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_value() {
        let plain = DataHeader::PLAIN;
        for (octets, header) in [
            ([0; 8], plain),
            (
                [0xc0, 0xab, 0xcd, 0xef, 0, 0, 0, 5],
                DataHeader { tag: Tag::Nonce { value: 0xabcdef, echo: false }, status: Some(5), ..plain },
            ),
            ([0xa0, 0, 0xbe, 0xef, 0, 0, 0, 0], DataHeader { tag: Tag::Nonce { value: 0xbeef, echo: true }, ..plain }),
            ([0x48, 0, 0, 0, 0, 0xab, 0xcd, 3], DataHeader { instance: Some(0xabcd), status: Some(3), ..plain }),
            (
                [0x18, 0x12, 0x34, 0x56, 0, 0, 7, 0],
                DataHeader { tag: Tag::Versions { source: 0x123, dest: 0x456 }, instance: Some(7), ..plain },
            ),
            ([0x09, 0, 0, 0, 0xff, 0xff, 0xff, 0], DataHeader { instance: Some(0xff_ffff), key: 1, ..plain }),
        ] {
            assert_eq!(DataHeader::split(&octets), Ok((header, &[][..])));
            let mut written = [0xee; 8];
            header.write(&mut written);
            assert_eq!(written, octets);
        }
        assert_eq!(DataHeader::split(&[0; 7]), Err(WireError::Truncated { need: 8, have: 7 }));
    }

    #[test]
    fn what_must_be_ignored_is() {
        let read = |octets: [u8; 8]| DataHeader::split(&octets).unwrap().0;
        let nonce = Tag::Nonce { value: 0x123456, echo: false };
        assert_eq!(read([0x90, 0x12, 0x34, 0x56, 0, 0, 0, 0]).tag, nonce, "N and V: a nonce");
        assert_eq!(read([0x20, 1, 2, 3, 4, 5, 6, 7]), DataHeader::PLAIN, "E without N, and both words unused");
        assert_eq!(read([0x04, 0, 0, 3, 0, 0, 0, 0]), DataHeader::PLAIN, "R");
        assert_eq!(read([0x08, 0, 0, 0, 0, 0, 7, 0xff]).status, None, "status bits without L");
    }

    #[test]
    fn gpe_reads_p_and_nothing_else_differs() {
        let octets = [0x0c, 0, 0, 3, 0, 0, 9, 0];
        let header = DataHeader { tag: Tag::NextProtocol(3), instance: Some(9), ..DataHeader::PLAIN };
        assert_eq!(DataHeader::split_gpe(&octets).unwrap().0, header);
        let mut written = [0; 8];
        header.write(&mut written);
        assert_eq!(written, octets);
        let all = [0xb4, 9, 9, 1, 0, 0, 0, 0];
        assert_eq!(DataHeader::split_gpe(&all).unwrap().0.tag, Tag::NextProtocol(1), "N, E, V ignored beside P");
        let without = [0x80, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(DataHeader::split_gpe(&without), DataHeader::split(&without));
    }
}
