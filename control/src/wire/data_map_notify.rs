//! Data-Map-Notify: a Map-Notify that an RTR sends to an xTR behind a NAT as a data packet, so that it arrives through the same
//! binding as data will.
//!
//! ```text
//! | outer IP | UDP from 4342 to the translated port               |
//! |0|0|0|0|1|0|0|0|                  0                            |     LISP data header: I
//! |        Instance-ID = 0xFFFFFF                 |       0       |
//! | IPv4 or IPv6 header | UDP header to 4342 | Map-Notify         |     as in the ECM that brought it to the RTR
//! ```
//!
//! Source: draft-ermagan-lisp-nat-traversal-19 §4.5; the data header RFC 9300 §5.1.

use altitude_dataplane::wire::{WireError as Malformed, lisp::DataHeader};

use super::{WireError, packet::UdpPacket};

/// The Instance-ID that says so; no site can have it where NAT traversal is on.
pub const INSTANCE: u32 = 0xff_ffff;

/// UDP payload that carries `packet`, the inner packet of an ECM with a Map-Notify.
#[must_use]
pub fn encode(packet: &[u8]) -> Vec<u8> {
    let mut octets = vec![0; DataHeader::LENGTH];
    DataHeader { instance: Some(INSTANCE), ..DataHeader::PLAIN }.write(&mut octets);
    octets.extend(packet);
    octets
}

/// Reads what came to port 4341; whether a Map-Notify is inside, its reader says.
///
/// # Errors
/// [`WireError::Malformed`]: cut off, a data packet of another instance or without one, or an inner packet that
/// [`UdpPacket::parse`] refuses.
pub fn parse(octets: &[u8]) -> Result<UdpPacket<'_>, WireError> {
    let (header, packet) = DataHeader::split(octets)?;
    if header.instance != Some(INSTANCE) {
        return Err(Malformed::Contradiction("not a Data-Map-Notify").into());
    }
    UdpPacket::parse(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RTR-7, RTR-8.
    #[test]
    fn octets_and_value() {
        let (source, destination) = ("203.0.113.100:4342".parse().unwrap(), "10.0.0.2:4342".parse().unwrap());
        let packet = UdpPacket { source, destination, ttl: 64, payload: &[0x40, 0, 0, 0] };
        let inner = packet.encode();
        let octets = encode(&inner);
        assert_eq!(octets[..8], [0x08, 0, 0, 0, 0xff, 0xff, 0xff, 0]);
        assert_eq!(octets[8..], inner);
        assert_eq!(parse(&octets), Ok(packet));
        for length in 0..octets.len() {
            assert!(parse(&octets[..length]).is_err(), "cut to {length}");
        }
        // Data of instance 0xFFFFFE, and of no instance.
        for (at, octet) in [(6, 0xfe), (0, 0)] {
            let mut other = octets.clone();
            other[at] = octet;
            assert_eq!(parse(&other), Err(Malformed::Contradiction("not a Data-Map-Notify").into()));
        }
        // A nonce beside the I bit changes nothing.
        let mut marked = octets.clone();
        marked[0] |= 0x80;
        assert_eq!(parse(&marked), Ok(packet));
    }
}
