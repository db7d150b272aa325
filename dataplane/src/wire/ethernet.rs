//! Ethernet II header: 14 octets.
//!
//! ```text
//! | destination (48) | source (48) | EtherType (16) |
//! ```

use super::WireError;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// An Ethernet II header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetHeader {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// What follows; a VLAN tag's TPID if one does.
    pub ethertype: u16,
}

impl EthernetHeader {
    /// Octets of the header.
    pub const LENGTH: usize = 14;

    /// Splits the header off the front of `octets`.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 14 octets.
    #[inline]
    pub fn split(octets: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let Some((&[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low], rest)) =
            octets.split_first_chunk::<{ Self::LENGTH }>()
        else {
            return Err(WireError::Truncated { need: Self::LENGTH, have: octets.len() });
        };
        let header = Self {
            destination: [d0, d1, d2, d3, d4, d5],
            source: [s0, s1, s2, s3, s4, s5],
            ethertype: u16::from_be_bytes([high, low]),
        };
        Ok((header, rest))
    }

    /// Writes the header to the front of `octets`.
    #[inline]
    pub fn write(&self, octets: &mut [u8]) {
        octets[..6].copy_from_slice(&self.destination);
        octets[6..12].copy_from_slice(&self.source);
        octets[12..14].copy_from_slice(&self.ethertype.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_value() {
        let octets = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 9];
        let header = EthernetHeader { destination: [2, 0, 0, 0, 0, 2], source: [2, 0, 0, 0, 0, 1], ethertype: IPV6 };
        assert_eq!(EthernetHeader::split(&octets), Ok((header, &octets[14..])));
        let mut written = [9; 15];
        header.write(&mut written);
        assert_eq!(written, octets);
        assert_eq!(EthernetHeader::split(&octets[..13]), Err(WireError::Truncated { need: 14, have: 13 }));
    }
}
