//! VLAN tags between the Ethernet addresses and the EtherType of the packet.
//!
//! ```text
//! | TPID (16): the EtherType before the tag | PCP(3) DEI(1) VLAN-ID(12) | EtherType (16) |
//! ```
//!
//! Source: IEEE 802.1Q.

use super::{WireError, ethernet::EthernetHeader};

/// TPID of a customer tag.
pub const CUSTOMER: u16 = 0x8100;
/// TPID of a service tag.
pub const SERVICE: u16 = 0x88a8;
/// Tags that [`payload`] steps over.
pub const TAGS_MAX: usize = 2;

/// What follows a TPID: the tag's content and the next EtherType.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanHeader {
    /// Priority, DEI and VLAN-ID as one word.
    pub tci: u16,
    /// What follows the tag.
    pub ethertype: u16,
}

impl VlanHeader {
    /// Octets of the header.
    pub const LENGTH: usize = 4;

    /// Splits the header off the front of `octets`.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 4 octets.
    #[inline]
    pub fn split(octets: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let Some((&[a, b, c, d], rest)) = octets.split_first_chunk::<{ Self::LENGTH }>() else {
            return Err(WireError::Truncated { need: Self::LENGTH, have: octets.len() });
        };
        Ok((Self { tci: u16::from_be_bytes([a, b]), ethertype: u16::from_be_bytes([c, d]) }, rest))
    }

    /// Writes the header to the front of `octets`.
    #[inline]
    pub fn write(&self, octets: &mut [u8]) {
        octets[..2].copy_from_slice(&self.tci.to_be_bytes());
        octets[2..4].copy_from_slice(&self.ethertype.to_be_bytes());
    }

    /// The VLAN-ID, 12 bits.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.tci & 0x0fff
    }
}

/// Whether an EtherType announces a tag.
#[inline]
#[must_use]
pub const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, CUSTOMER | SERVICE)
}

/// The EtherType of a frame's packet and the packet itself, behind at most [`TAGS_MAX`] tags; with more, the next
/// tag's TPID is returned as the EtherType.
///
/// # Errors
/// [`WireError::Truncated`] when the frame ends within its link-layer header.
#[inline]
pub fn payload(frame: &[u8]) -> Result<(u16, &[u8]), WireError> {
    let (ethernet, mut rest) = EthernetHeader::split(frame)?;
    let mut ethertype = ethernet.ethertype;
    for _ in 0..TAGS_MAX {
        if !is_tag(ethertype) {
            break;
        }
        let (tag, behind) = VlanHeader::split(rest)?;
        (ethertype, rest) = (tag.ethertype, behind);
    }
    Ok((ethertype, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_value() {
        let octets = [0xe0, 0x07, 0x08, 0x00, 0x45];
        let header = VlanHeader { tci: 0xe007, ethertype: 0x0800 };
        assert_eq!(VlanHeader::split(&octets), Ok((header, &[0x45][..])));
        assert_eq!(header.id(), 7);
        let mut written = [0x45; 5];
        header.write(&mut written);
        assert_eq!(written, octets);
    }

    #[test]
    fn up_to_two_tags_are_stepped_over() {
        let frame = |link: &[u8]| [&[2; 12], link, &[0x45]].concat();
        for (link, ethertype, left) in [
            (&[8, 0][..], 0x0800, 1),
            (&[0x81, 0, 0, 7, 8, 0], 0x0800, 1),
            (&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 0x86, 0xdd], 0x86dd, 1),
            (&[0x81, 0, 0, 7, 0x81, 0, 0, 8, 0x81, 0, 0, 9], 0x8100, 3),
        ] {
            let frame = frame(link);
            let (found, rest) = payload(&frame).unwrap();
            assert_eq!((found, rest.len()), (ethertype, left));
        }
        assert_eq!(payload(&frame(&[0x81, 0, 0])), Err(WireError::Truncated { need: 4, have: 2 }));
    }
}
