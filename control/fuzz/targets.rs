//! What is asserted of any octets whatsoever; shared by the fuzz targets here and by `tests/fuzz_smoke.rs`.
//!
//! Nothing panics, and what can be read can be written and reads back as the same value. A target tells whether there was
//! anything it could read, so that a run that reaches nothing shows.

use altitude_control::wire::{Algorithm, Key, Message, gre::GreHeader, packet::UdpPacket};
use altitude_dataplane::wire::{
    checksum,
    ipv4::Ipv4Header,
    ipv6::{self, Ipv6Header},
    udp::UdpHeader,
};

/// A name, and what it does with any octets: whether it could read them.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target.
pub(crate) const ALL: &[Target] = &[("message", message), ("packet", packet), ("gre", gre)];

/// Reads a control message.
pub(crate) fn message(octets: &[u8]) -> bool {
    let Ok(read) = Message::parse(octets) else { return false };
    let again = match &read {
        Message::MapRequest(request) => {
            assert!(request.itr_rlocs.len() <= 32 && !request.records.is_empty());
            request.encode()
        }
        Message::MapReply(reply) => {
            let _ = reply.probe_is_authoritative();
            reply.encode()
        }
        Message::MapRegister(register) => {
            let key = [Key::new(register.authentication.key_id, Algorithm::Sha256Hkdf, b"secret")];
            assert!(register.verify(octets, &key).is_err(), "nobody guesses a MAC");
            register.encode()
        }
        Message::MapNotify(notify) => {
            let key = [Key::new(notify.authentication.key_id, Algorithm::Sha1, b"secret")];
            assert!(notify.verify(octets, &key).is_err(), "nobody guesses a MAC");
            notify.encode()
        }
        Message::Other(_) => return false,
    };
    assert!(again.len() <= octets.len(), "nothing is added");
    assert_eq!(Message::parse(&again), Ok(read));
    true
}

/// Reads an ALT datagram, as it is and with its checksums put right, for hardly any octets have right ones.
pub(crate) fn packet(octets: &[u8]) -> bool {
    let as_it_is = checked_packet(octets);
    with_checksums(octets).is_some_and(|repaired| checked_packet(&repaired)) || as_it_is
}

fn checked_packet(octets: &[u8]) -> bool {
    let Ok(packet) = UdpPacket::parse(octets) else { return false };
    let again = packet.encode();
    assert_eq!(UdpPacket::parse(&again), Ok(packet));
    message(packet.payload);
    true
}

/// The packet with right IPv4 header and UDP checksums, if there are such headers.
fn with_checksums(octets: &[u8]) -> Option<Vec<u8>> {
    let mut repaired = octets.to_vec();
    let (source, destination, at) = match octets.first()? >> 4 {
        4 => {
            let (header, _) = Ipv4Header::split(octets).ok()?;
            header.write(&mut repaired);
            (header.source.into(), header.destination.into(), header.length())
        }
        6 => {
            let (header, payload) = Ipv6Header::split(octets).ok()?;
            let found = ipv6::transport(header.next_header, payload)?;
            (header.source.into(), header.destination.into(), Ipv6Header::LENGTH + found.offset)
        }
        _ => return None,
    };
    let (mut udp, data) = UdpHeader::split(&octets[at..]).ok()?;
    udp.checksum = udp.compute(source, destination, data);
    udp.write(&mut repaired[at..]);
    Some(repaired)
}

/// Reads a packet of the ALT's tunnels, as it is and with its checksum put right.
pub(crate) fn gre(octets: &[u8]) -> bool {
    let as_it_is = checked_gre(octets);
    if octets.len() >= 8 && octets[0] & 0x80 != 0 {
        let mut repaired = octets.to_vec();
        repaired[4..6].fill(0);
        let sum = checksum::checksum(&repaired);
        repaired[4..6].copy_from_slice(&sum.to_be_bytes());
        return checked_gre(&repaired);
    }
    as_it_is
}

fn checked_gre(octets: &[u8]) -> bool {
    let Ok((header, payload)) = GreHeader::split(octets) else { return false };
    let again = header.encode(payload);
    assert_eq!(again.len(), octets.len());
    assert_eq!(GreHeader::split(&again), Ok((header, payload)));
    packet(payload);
    true
}
