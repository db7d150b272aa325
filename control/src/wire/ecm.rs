//! Encapsulated Control Message, type 8: an IP packet with a control message inside another control message.
//!
//! ```text
//! |Type=8 |S|D|E|M|            Reserved (24)                      |
//! | LISP-SEC authentication data    if S                          |
//! | IPv4 or IPv6 header | UDP header | control message            |
//! ```
//!
//! The bits E and M have two meanings (RFC 9301 §12.6; NAT traversal), so either is accepted and neither is sent.
//!
//! Source: RFC 9301 §5.8; authentication data RFC 9303 §6.1.

use altitude_dataplane::wire::WireError as Malformed;

use super::{
    WireError,
    cursor::Cursor,
    lisp_sec::{EID_AD_MIN, LISP_SEC},
    packet::{self, UdpPacket},
};

/// The message's type.
pub const TYPE: u8 = 8;

const SECURITY: u8 = 0x08;
const DDT: u8 = 0x04;

/// An Encapsulated Control Message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ecm<'a> {
    /// D: the answer shall be a Map-Referral (RFC 8111 §5).
    pub ddt: bool,
    /// S: the authentication data, from their type on; [`RequestData::parse`](super::lisp_sec::RequestData::parse) reads them.
    pub security: Option<&'a [u8]>,
    /// The inner IP packet, whole.
    pub packet: &'a [u8],
    /// Its datagram; the UDP checksum is right.
    pub datagram: UdpPacket<'a>,
}

impl<'a> Ecm<'a> {
    /// Reads a whole message. Octets behind the inner packet are ignored, as those behind any IP packet.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: cut off, another type, authentication data of an unknown type, or an inner packet that
    /// [`UdpPacket::parse`] refuses.
    pub fn parse(octets: &'a [u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(octets);
        let [first, _, _, _] = cursor.array()?;
        if first >> 4 != TYPE {
            return Err(Malformed::Contradiction("not an Encapsulated Control Message").into());
        }
        let security = if first & SECURITY != 0 { Some(authentication(&mut cursor)?) } else { None };
        let inner = cursor.rest();
        let datagram = UdpPacket::parse(inner)?;
        let length = packet::destination(inner).map_or(inner.len(), |(_, length)| length);
        Ok(Self { ddt: first & DDT != 0, security, packet: &inner[..length], datagram })
    }

    /// The octets of the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let first = TYPE << 4 | flag(self.security.is_some(), SECURITY) | flag(self.ddt, DDT);
        [&[first, 0, 0, 0], self.security.unwrap_or_default(), self.packet].concat()
    }
}

/// Steps over the authentication data and returns them.
fn authentication<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], WireError> {
    let whole = cursor.rest();
    let [kind, _, _, _] = cursor.array()?;
    if kind != LISP_SEC {
        return Err(Malformed::Contradiction("authentication data of an unknown type").into());
    }
    // RFC 9303 can be read to count the length word itself, which makes 28 of 24.
    let length = usize::from(cursor.u16()?);
    cursor.take(2)?;
    cursor.take(if length == 28 { 24 } else { length })?;
    let eid_ad = usize::from(cursor.u16()?);
    let rest = eid_ad.checked_sub(2).filter(|_| eid_ad >= usize::from(EID_AD_MIN));
    cursor.take(rest.ok_or(Malformed::Contradiction("EID-AD Length below 4"))?)?;
    Ok(&whole[..whole.len() - cursor.rest().len()])
}

/// The message that carries `packet`, an IP packet with a control message.
#[must_use]
pub fn encapsulate(packet: &[u8]) -> Vec<u8> {
    [&[TYPE << 4, 0, 0, 0], packet].concat()
}

/// The same with LISP-SEC's authentication data, from their type on.
#[must_use]
pub fn encapsulate_secured(security: &[u8], packet: &[u8]) -> Vec<u8> {
    [&[TYPE << 4 | SECURITY, 0, 0, 0], security, packet].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner() -> Vec<u8> {
        let (source, destination) = ("203.0.113.1:61000".parse().unwrap(), "198.51.100.20:4342".parse().unwrap());
        UdpPacket { source, destination, ttl: 64, payload: &[1, 2, 3] }.encode()
    }

    #[test]
    fn octets_and_value() {
        let inner = inner();
        let plain = encapsulate(&inner);
        let read = Ecm::parse(&plain).unwrap();
        assert_eq!(
            (read.packet, read.ddt, read.security, read.datagram.payload),
            (&inner[..], false, None, &[1, 2, 3][..])
        );
        assert_eq!(read.encode(), plain);
        // E, M and the reserved bits say nothing; what lies behind the inner packet is no part of it.
        let mut odd = [&plain[..], &[9; 5]].concat();
        odd[..4].copy_from_slice(&[0x83, 0xff, 0xff, 0xff]);
        assert_eq!(Ecm::parse(&odd), Ok(read));
        for length in 0..plain.len() {
            assert!(Ecm::parse(&plain[..length]).is_err(), "cut to {length}");
        }
        assert!(Ecm::parse(&[&[0x10, 0, 0, 0], &inner[..]].concat()).is_err(), "another type");
    }

    #[test]
    fn authentication_data_are_stepped_over_by_their_lengths() {
        let inner = inner();
        let with = |ad: &[u8]| [&[0x88, 0, 0, 0], ad, &inner].concat();
        let otk = [7; 24];
        for (length, eid_ad) in [(24_u8, &[0, 4, 0, 2][..]), (28, &[0, 4, 0, 2]), (24, &[0, 8, 0, 2, 1, 0, 0, 2])] {
            let ad = [&[1, 0, 0, 2, 0, length, 1, 2], &otk[..], eid_ad].concat();
            let message = with(&ad);
            let read = Ecm::parse(&message).unwrap();
            assert_eq!((read.security, read.packet), (Some(&ad[..]), &inner[..]));
            assert_eq!(read.encode(), message);
        }
        for wrong in [&[2, 0, 0, 0][..], &[1, 0, 0, 2, 0, 0, 1, 2, 0, 3, 0, 2], &[1, 0, 0, 2, 0xff, 0xff, 1, 2]] {
            assert!(Ecm::parse(&with(wrong)).is_err(), "{wrong:?}");
        }
    }
}
