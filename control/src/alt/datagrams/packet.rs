//! The datagram in its IP packet: what it asks, and one hop less to live.

use altitude_dataplane::wire::{WireError as Malformed, checksum};

use super::DatagramFault;
use crate::wire::{MapRequest, Message, WireError, packet::UdpPacket};

/// The UDP datagram of `packet`.
pub(super) fn datagram(packet: &[u8]) -> Result<UdpPacket<'_>, DatagramFault> {
    UdpPacket::parse(packet).map_err(|error| match error {
        WireError::Malformed(Malformed::Checksum(_)) => DatagramFault::Checksum,
        _ => DatagramFault::NotADatagram,
    })
}

/// The Map-Request in a datagram, if it is one for the mapping system.
pub(super) fn map_request(payload: &[u8]) -> Result<MapRequest, DatagramFault> {
    match Message::parse(payload).map_err(|_| DatagramFault::Malformed)? {
        Message::MapRequest(request) if request.probe => Err(DatagramFault::Probe),
        Message::MapRequest(request) => Ok(request),
        _ => Err(DatagramFault::NotMapRequest),
    }
}

/// Takes one hop off the life of `packet`, a whole IP packet, in place. The UDP checksum covers no TTL, and that of the
/// IPv4 header is adjusted (RFC 1624 §3).
pub(super) fn lower_ttl(packet: &mut [u8]) {
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return;
    }
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let sum = checksum::adjust(word(10), word(8), word(8) - 0x0100);
    packet[8] -= 1;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As if the packet had been written anew.
        #[test]
        fn one_hop_less_is_the_packet_written_anew(
            v4 in any::<bool>(), ends in any::<[[u8; 16]; 2]>(), ttl in 1_u8..=255, payload in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let address = |octets: [u8; 16]| -> IpAddr {
                if v4 { [octets[0], octets[1], octets[2], octets[3]].into() } else { octets.into() }
            };
            let [source, destination] = ends.map(|octets| (address(octets), 4342).into());
            let packet = UdpPacket { source, destination, ttl, payload: &payload };
            let mut octets = packet.encode();
            lower_ttl(&mut octets);
            prop_assert_eq!(octets, UdpPacket { ttl: ttl - 1, ..packet }.encode());
        }
    }

    /// The checksum 0xffff stays what a full computation gives, which the older equation 2 of RFC 1624 would not.
    #[test]
    fn every_header_checksum_stays_right() {
        for identification in 0..=u16::MAX {
            let mut octets = UdpPacket {
                source: "240.0.254.10:4342".parse().unwrap(),
                destination: "2.2.2.2:4342".parse().unwrap(),
                ttl: 64,
                payload: &[],
            }
            .encode();
            octets[4..6].copy_from_slice(&identification.to_be_bytes());
            octets[10..12].fill(0);
            let sum = checksum::checksum(&octets[..20]);
            octets[10..12].copy_from_slice(&sum.to_be_bytes());
            lower_ttl(&mut octets);
            assert!(checksum::verifies(&octets[..20]), "identification {identification:#06x}");
        }
    }
}
