//! UDP header: 8 octets.
//!
//! ```text
//! | source port (16) | destination port (16) | length (16) | checksum (16) |
//! ```
//!
//! Source: RFC 768; zero checksums over IPv6 RFC 6935 §5.

use std::net::IpAddr;

use super::{WireError, checksum, protocol};

/// The LISP data plane's port (RFC 9300 §19.1).
pub const LISP_DATA: u16 = 4341;
/// The LISP control plane's port (RFC 9301 §12.1).
pub const LISP_CONTROL: u16 = 4342;

/// A UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpHeader {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Header and data, octets; at least 8.
    pub length: u16,
    /// As on the wire; 0 is none.
    pub checksum: u16,
}

impl UdpHeader {
    /// Octets of the header.
    pub const LENGTH: usize = 8;

    /// Splits the header off the front of `octets`; the rest is cut to the length. The checksum is not verified.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 8 octets or below the length; [`WireError::Contradiction`] for a length below 8.
    #[inline]
    pub fn split(octets: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let Some((&[a, b, c, d, e, f, g, h], _)) = octets.split_first_chunk::<{ Self::LENGTH }>() else {
            return Err(WireError::Truncated { need: Self::LENGTH, have: octets.len() });
        };
        let header = Self {
            source: u16::from_be_bytes([a, b]),
            destination: u16::from_be_bytes([c, d]),
            length: u16::from_be_bytes([e, f]),
            checksum: u16::from_be_bytes([g, h]),
        };
        let length = usize::from(header.length);
        if length < Self::LENGTH {
            return Err(WireError::Contradiction("UDP length below 8"));
        }
        let Some(data) = octets.get(Self::LENGTH..length) else {
            return Err(WireError::Truncated { need: length, have: octets.len() });
        };
        Ok((header, data))
    }

    /// Writes the header to the front of `octets`.
    #[inline]
    pub fn write(&self, octets: &mut [u8]) {
        octets[..2].copy_from_slice(&self.source.to_be_bytes());
        octets[2..4].copy_from_slice(&self.destination.to_be_bytes());
        octets[4..6].copy_from_slice(&self.length.to_be_bytes());
        octets[6..8].copy_from_slice(&self.checksum.to_be_bytes());
    }

    /// The checksum of this header over `data`, whatever the field holds; never 0, which means none.
    #[must_use]
    pub fn compute(&self, source: IpAddr, destination: IpAddr, data: &[u8]) -> u16 {
        let header = u32::from(self.source) + u32::from(self.destination) + u32::from(self.length);
        let pseudo = checksum::pseudo_header(source, destination, protocol::UDP, u32::from(self.length));
        match !checksum::fold(pseudo + header + checksum::sum(data)) {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// Whether the checksum is right; no checksum is not.
    #[must_use]
    pub fn verifies(&self, source: IpAddr, destination: IpAddr, data: &[u8]) -> bool {
        self.checksum == self.compute(source, destination, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_value() {
        // Vector D02's outer header and its checksum over IPv6.
        let octets = [0xc1, 0xa6, 0x10, 0xf5, 0x00, 0x0a, 0xa8, 0x31, 1, 2, 3];
        let header = UdpHeader { source: 0xc1a6, destination: LISP_DATA, length: 10, checksum: 0xa831 };
        assert_eq!(UdpHeader::split(&octets), Ok((header, &[1, 2][..])));
        let mut written = [0; 8];
        header.write(&mut written);
        assert_eq!(written, octets[..8]);
        assert_eq!(UdpHeader::split(&octets[..9]), Err(WireError::Truncated { need: 10, have: 9 }));
        assert_eq!(UdpHeader::split(&octets[..7]), Err(WireError::Truncated { need: 8, have: 7 }));
        assert_eq!(UdpHeader::split(&[0, 1, 0, 2, 0, 7, 0, 0]), Err(WireError::Contradiction("UDP length below 8")));
    }

    #[test]
    fn a_computed_checksum_is_never_zero() {
        let (source, destination) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let header = UdpHeader { source: 1, destination: 2, length: 10, checksum: 0 };
        let without = header.compute(source, destination, &[0, 0]);
        let data = without.to_be_bytes();
        assert_eq!(header.compute(source, destination, &data), 0xffff, "the sum is all ones");
        assert!(UdpHeader { checksum: 0xffff, ..header }.verifies(source, destination, &data));
        assert!(!header.verifies(source, destination, &data), "none is not right");
        assert!(!UdpHeader { checksum: 0xffff, ..header }.verifies(source, destination, &[0, 1]));
    }
}
