//! GRE header of the ALT's tunnels: 4 octets and up to three optional words.
//!
//! ```text
//! |C|R|K|S|s| Reserved0 (8) | Version (3) |     Protocol Type (16)        |
//! | Checksum (16), if C                   | Reserved1 (16), if C          |
//! | Key (32), if K                                                        |
//! | Sequence Number (32), if S                                            |
//! ```
//!
//! Source: RFC 2784 §2; K and S RFC 2890 §2. The checksum covers header and payload.

use altitude_dataplane::wire::{WireError as Malformed, checksum};

use super::{WireError, cursor::Cursor};

const CHECKSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
/// R and the bits between S and Reserved0's ignored part: routing, which RFC 2784 §2.3 has refused.
const REFUSED: u16 = 0x4c00;
const VERSION: u16 = 0x0007;

/// Protocol type of an IPv4 payload.
pub const IPV4: u16 = 0x0800;
/// Protocol type of an IPv6 payload.
pub const IPV6: u16 = 0x86dd;
/// Protocol type of a keepalive on its way back: it has no payload.
pub const KEEPALIVE: u16 = 0;

/// The version in a GRE header, if that much of it is there.
#[must_use]
pub fn version(octets: &[u8]) -> Option<u16> {
    octets.first_chunk().map(|flags| u16::from_be_bytes(*flags) & VERSION)
}

/// A GRE header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GreHeader {
    /// C: a checksum is there, and right.
    pub checksum: bool,
    /// K: tells the tunnels between two addresses apart.
    pub key: Option<u32>,
    /// S: order of the packets.
    pub sequence: Option<u32>,
    /// EtherType of the payload.
    pub protocol: u16,
}

impl GreHeader {
    /// Longest header, octets.
    pub const LENGTH_MAX: usize = 16;

    /// Splits the header off the front of `octets`; the rest is the payload.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: cut off, a wrong checksum, a version other than 0, or bits set that RFC 2784 §2.3 has
    /// refused.
    pub fn split(octets: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let mut cursor = Cursor::new(octets);
        let flags = cursor.u16()?;
        let protocol = cursor.u16()?;
        if flags & VERSION != 0 {
            return Err(Malformed::Contradiction("GRE version is not 0").into());
        }
        if flags & REFUSED != 0 {
            return Err(Malformed::Contradiction("GRE routing bits").into());
        }
        let has_checksum = flags & CHECKSUM != 0;
        if has_checksum {
            cursor.take(4)?;
            if !checksum::verifies(octets) {
                return Err(Malformed::Checksum("GRE").into());
            }
        }
        let key = if flags & KEY != 0 { Some(cursor.u32()?) } else { None };
        let sequence = if flags & SEQUENCE != 0 { Some(cursor.u32()?) } else { None };
        Ok((Self { checksum: has_checksum, key, sequence, protocol }, cursor.rest()))
    }

    /// The header in front of `payload`, for a packet that is written in two parts.
    #[must_use]
    pub fn head(&self, payload: &[u8]) -> Head {
        let mut head = Head { octets: [0; Self::LENGTH_MAX], length: 0 };
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        let flags =
            flag(self.checksum, CHECKSUM) | flag(self.key.is_some(), KEY) | flag(self.sequence.is_some(), SEQUENCE);
        head.push(&flags.to_be_bytes());
        head.push(&self.protocol.to_be_bytes());
        if self.checksum {
            head.push(&[0; 4]);
        }
        for word in self.key.into_iter().chain(self.sequence) {
            head.push(&word.to_be_bytes());
        }
        if self.checksum {
            // The header is of even length, so the sums of both parts add up.
            let sum = !checksum::fold(checksum::sum(head.as_slice()) + checksum::sum(payload));
            head.octets[4..6].copy_from_slice(&sum.to_be_bytes());
        }
        head
    }

    /// Header and payload.
    #[must_use]
    pub fn encode(&self, payload: &[u8]) -> Vec<u8> {
        [self.head(payload).as_slice(), payload].concat()
    }
}

/// A header as it is written: 4 to 16 octets.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    octets: [u8; GreHeader::LENGTH_MAX],
    length: usize,
}

impl Head {
    /// Its octets.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.octets[..self.length]
    }

    fn push(&mut self, octets: &[u8]) {
        self.octets[self.length..self.length + octets.len()].copy_from_slice(octets);
        self.length += octets.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: GreHeader = GreHeader { checksum: false, key: None, sequence: None, protocol: IPV4 };

    #[test]
    fn octets_and_value() {
        for (octets, header) in [
            (&[0, 0, 8, 0, 0x45][..], PLAIN),
            (&[0x20, 0, 0x86, 0xdd, 0, 0, 0, 7, 0x45], GreHeader { key: Some(7), protocol: IPV6, ..PLAIN }),
            (&[0x10, 0, 8, 0, 0, 0, 0, 9, 0x45], GreHeader { sequence: Some(9), ..PLAIN }),
            (
                &[0xb0, 0, 8, 0, 0x02, 0xee, 0, 0, 0, 0, 0, 8, 0, 0, 0, 9, 0x45],
                GreHeader { checksum: true, key: Some(8), sequence: Some(9), ..PLAIN },
            ),
        ] {
            assert_eq!(GreHeader::split(octets), Ok((header, &[0x45][..])), "{octets:02x?}");
            assert_eq!(header.encode(&[0x45]), octets);
            for length in 0..octets.len() - 1 {
                assert!(GreHeader::split(&octets[..length]).is_err(), "{octets:02x?} cut to {length}");
            }
        }
    }

    #[test]
    fn bits_are_refused_or_ignored_as_rfc_2784_says() {
        let refused = |text| Err(Malformed::Contradiction(text).into());
        for (flags, expected) in [
            (0x4000_u16, refused("GRE routing bits")), // R
            (0x0800, refused("GRE routing bits")),     // s
            (0x0400, refused("GRE routing bits")),
            (0x0001, refused("GRE version is not 0")),
            (0x0002, refused("GRE version is not 0")),
            (0x0004, refused("GRE version is not 0")),
            (0x0200, Ok((PLAIN, &[0x45][..]))), // Reserved0
            (0x0100, Ok((PLAIN, &[0x45]))),
            (0x0080, Ok((PLAIN, &[0x45]))),
            (0x0008, Ok((PLAIN, &[0x45]))),
        ] {
            let octets = [&flags.to_be_bytes()[..], &[8, 0, 0x45]].concat();
            assert_eq!(GreHeader::split(&octets), expected, "{flags:#06x}");
        }
    }

    #[test]
    fn one_wrong_bit_anywhere_fails_the_checksum() {
        let header = GreHeader { checksum: true, key: Some(1), ..PLAIN };
        let octets = header.encode(b"payload");
        for bit in 0..octets.len() * 8 {
            let mut damaged = octets.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Without C there is nothing to verify; the tunnel's peer would have to agree on that.
            let unchecked = damaged[0] & 0x80 == 0;
            assert_eq!(GreHeader::split(&damaged).is_ok(), unchecked, "bit {bit}");
        }
    }
}
