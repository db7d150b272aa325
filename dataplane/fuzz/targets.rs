//! What is asserted of any octets whatsoever; shared by the fuzz targets here and by `tests/fuzz_smoke.rs`.
//!
//! Nothing panics, and what can be read can be written and reads back as the same value. A target tells whether there was
//! anything it could read, so that a run that reaches nothing shows.

use std::net::Ipv6Addr;

use altitude_dataplane::wire::{
    arp::ArpPacket,
    checksum,
    ethernet::EthernetHeader,
    icmp::{Icmp6Error, IcmpError},
    ipv4::{Ipv4Header, Options},
    ipv6::{self, Ipv6Header},
    lisp::DataHeader,
    protocol,
    udp::{self, UdpHeader},
    vlan::{self, VlanHeader},
};

/// A name, and what it does with any octets: whether it could read them.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target.
pub(crate) const ALL: &[Target] = &[("frame", frame), ("headers", headers), ("checksums", checksums)];

/// Reads a frame as the two paths do: link layer, IP, UDP, LISP, inner packet.
pub(crate) fn frame(octets: &[u8]) -> bool {
    vlan::payload(octets).is_ok_and(|(_, packet)| {
        assert!(octets.ends_with(packet));
        ip(packet, 3)
    })
}

/// Reads a packet, and what UDP port 4341 carries, at most `depth` packets inside each other. True for a LISP data header
/// in it.
fn ip(octets: &[u8], depth: usize) -> bool {
    let (found, payload) = match octets.first().map(|first| first >> 4) {
        Some(4) => match ipv4(octets) {
            Some((header, payload)) if !header.is_fragment() => (header.protocol, payload),
            _ => return false,
        },
        Some(6) => {
            let Some((header, payload)) = ipv6(octets) else { return false };
            match ipv6::transport(header.next_header, payload) {
                Some(found) if !found.fragment => (found.protocol, &payload[found.offset..]),
                _ => return false,
            }
        }
        _ => return false,
    };
    if found != protocol::UDP {
        return false;
    }
    let Some((header, data)) = udp(payload) else { return false };
    if header.destination == udp::LISP_DATA
        && depth > 0
        && let Ok((_, inner)) = DataHeader::split(data)
    {
        lisp(data);
        ip(inner, depth - 1);
        return true;
    }
    false
}

/// Reads the octets as each header there is.
pub(crate) fn headers(octets: &[u8]) -> bool {
    if let Ok((header, rest)) = EthernetHeader::split(octets) {
        let mut again = [0xee; EthernetHeader::LENGTH];
        header.write(&mut again);
        assert_eq!([&again, rest].concat(), octets);
    }
    if let Ok((header, rest)) = VlanHeader::split(octets) {
        let mut again = [0xee; VlanHeader::LENGTH];
        header.write(&mut again);
        assert_eq!([&again, rest].concat(), octets);
    }
    if let Ok((packet, rest)) = ArpPacket::split(octets) {
        let mut again = [0xee; ArpPacket::LENGTH];
        packet.write(&mut again);
        assert_eq!([&again, rest].concat(), octets);
    }
    let read = [ipv4(octets).is_some(), ipv6(octets).is_some(), udp(octets).is_some()];
    lisp(octets);
    icmp(octets);
    if let Some((&next_header, payload)) = octets.split_first()
        && let Some(found) = ipv6::transport(next_header, payload)
    {
        assert!(found.offset <= payload.len());
    }
    read.contains(&true)
}

fn ipv4(octets: &[u8]) -> Option<(Ipv4Header<'_>, &[u8])> {
    let (header, payload) = Ipv4Header::split(octets).ok()?;
    assert_eq!(header.length() + payload.len(), usize::from(header.total_length));
    assert_eq!(Options::new(header.options.octets()), Some(header.options));
    let mut again = vec![0xee; header.length()];
    header.write(&mut again);
    assert!(checksum::verifies(&again));
    again.extend(payload);
    assert_eq!(Ipv4Header::split(&again), Ok((header, payload)));
    Some((header, payload))
}

fn ipv6(octets: &[u8]) -> Option<(Ipv6Header, &[u8])> {
    let (header, payload) = Ipv6Header::split(octets).ok()?;
    let mut again = vec![0xee; Ipv6Header::LENGTH];
    header.write(&mut again);
    again.extend(payload);
    assert_eq!(again, octets[..again.len()]);
    Some((header, payload))
}

fn udp(octets: &[u8]) -> Option<(UdpHeader, &[u8])> {
    let (header, data) = UdpHeader::split(octets).ok()?;
    let mut again = vec![0xee; UdpHeader::LENGTH];
    header.write(&mut again);
    again.extend(data);
    assert_eq!(again, octets[..again.len()]);
    let (source, destination) = ([10, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into());
    let right = UdpHeader { checksum: header.compute(source, destination, data), ..header };
    assert!(right.checksum != 0 && right.verifies(source, destination, data));
    Some((header, data))
}

fn lisp(octets: &[u8]) {
    for split in [DataHeader::split, DataHeader::split_gpe] {
        if let Ok((header, inner)) = split(octets) {
            let mut again = [0xee; DataHeader::LENGTH];
            header.write(&mut again);
            assert_eq!(split(&again), Ok((header, &[][..])));
            assert_eq!(inner.len(), octets.len() - DataHeader::LENGTH);
        }
    }
}

/// Also with the checksum put right, for hardly any octets have a right one.
fn icmp(octets: &[u8]) {
    let (source, destination) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
    let _ = (IcmpError::split(octets), Icmp6Error::split(source, destination, octets));
    let mut message = octets.to_vec();
    if message.len() >= 4 {
        message[2..4].fill(0);
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    if let Ok((error, quote)) = IcmpError::split(&message) {
        let mut again = message.clone();
        error.write(&mut again);
        assert_eq!(IcmpError::split(&again), Ok((error, quote)));
    }
    if message.len() >= 4 {
        let pseudo = checksum::pseudo_header(source.into(), destination.into(), protocol::ICMPV6, message.len() as u32);
        message[2..4].fill(0);
        let sum = !checksum::fold(pseudo + checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    if let Ok((error, quote)) = Icmp6Error::split(source, destination, &message) {
        let mut again = message.clone();
        error.write(source, destination, &mut again);
        assert_eq!(Icmp6Error::split(source, destination, &again), Ok((error, quote)));
    }
}

/// Sums any octets the slow way as well, and changes one word of them.
pub(crate) fn checksums(octets: &[u8]) -> bool {
    let slow = octets
        .chunks(2)
        .fold(0_u64, |total, word| total + (u64::from(word[0]) << 8) + word.get(1).map_or(0, |&low| u64::from(low)));
    let fast = u64::from(checksum::fold(checksum::sum(octets)));
    assert_eq!(fast % 0xffff, slow % 0xffff);
    assert_eq!(fast == 0, slow == 0, "only octets of zeros have the sum zero");
    if let [a, b, c, d, ..] = *octets {
        let (old, new) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let mut changed = octets.to_vec();
        changed[..2].copy_from_slice(&[c, d]);
        let (adjusted, anew) = (checksum::adjust(checksum::checksum(octets), old, new), checksum::checksum(&changed));
        // They differ only where every word is zero: a sum brought down to zero shows as 0xffff (RFC 1624 §3), and no
        // header is all zeros.
        assert!(adjusted == anew || changed.iter().all(|&octet| octet == 0), "{adjusted:#06x} {anew:#06x}");
    }
    !octets.is_empty()
}
