//! Whole IP packets with one UDP datagram: what travels through the ALT (RFC 6836 §3).

use std::net::{IpAddr, SocketAddr};

use altitude_dataplane::wire::{
    WireError as Malformed, checksum,
    ipv4::{Ipv4Header, Options},
    ipv6::{self, Ipv6Header},
    protocol,
    udp::UdpHeader,
};

use super::WireError;

/// Where an IP packet goes, and its length in octets: what lies behind it is no part of it. `None` if it is none.
#[must_use]
pub fn destination(packet: &[u8]) -> Option<(IpAddr, usize)> {
    match packet.first()? >> 4 {
        4 => {
            let (header, _) = Ipv4Header::split(packet).ok()?;
            Some((header.destination.into(), usize::from(header.total_length)))
        }
        6 => {
            let (header, _) = Ipv6Header::split(packet).ok()?;
            Some((header.destination.into(), Ipv6Header::LENGTH + usize::from(header.payload_length)))
        }
        _ => None,
    }
}

/// An IP packet around `payload`, a whole datagram of `protocol`: no options, no extension headers. `None` where the addresses
/// are of two families or the payload is too long.
#[must_use]
pub fn enclose(
    (source, destination): (IpAddr, IpAddr),
    protocol: u8,
    ttl: u8,
    dont_fragment: bool,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let mut octets = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header {
                tos: 0,
                total_length: u16::try_from(Ipv4Header::LENGTH + payload.len()).ok()?,
                // Free for packets that cannot be fragmented (RFC 6864 §4.1); the others here are too short to be.
                identification: 0,
                dont_fragment,
                more_fragments: false,
                fragment_offset: 0,
                ttl,
                protocol,
                source,
                destination,
                options: Options::NONE,
            };
            let mut octets = vec![0; Ipv4Header::LENGTH];
            header.write(&mut octets);
            octets
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: 0,
                payload_length: u16::try_from(payload.len()).ok()?,
                next_header: protocol,
                hop_limit: ttl,
                source,
                destination,
            };
            let mut octets = vec![0; Ipv6Header::LENGTH];
            header.write(&mut octets);
            octets
        }
        _ => return None,
    };
    octets.extend(payload);
    Some(octets)
}

/// A UDP datagram in its IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpPacket<'a> {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes; of the source's family.
    pub destination: SocketAddr,
    /// TTL or Hop Limit.
    pub ttl: u8,
    /// The datagram's data.
    pub payload: &'a [u8],
}

impl<'a> UdpPacket<'a> {
    /// Longest payload that a packet of either family carries, octets: IPv4's, for IPv6 carries 20 more.
    pub const PAYLOAD_MAX: usize = u16::MAX as usize - Ipv4Header::LENGTH - UdpHeader::LENGTH;

    /// Reads a packet. Octets behind the IP packet are ignored, extension headers stepped over.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: cut off, lengths that contradict, a wrong IPv4 header or UDP checksum, no UDP checksum
    /// (RFC 9301 §5 has it computed on the control port), a fragment, or no UDP.
    pub fn parse(octets: &'a [u8]) -> Result<Self, WireError> {
        let (source, destination, ttl, datagram): (IpAddr, IpAddr, u8, &[u8]) = match octets.first().map(|o| o >> 4) {
            Some(4) => {
                let (header, payload) = Ipv4Header::split(octets)?;
                if !checksum::verifies(&octets[..header.length()]) {
                    return Err(Malformed::Checksum("IPv4 header").into());
                }
                expect_udp(header.protocol, header.is_fragment())?;
                (header.source.into(), header.destination.into(), header.ttl, payload)
            }
            Some(6) => {
                let (header, payload) = Ipv6Header::split(octets)?;
                let transport = ipv6::transport(header.next_header, payload)
                    .ok_or(Malformed::Contradiction("IPv6 extension headers"))?;
                expect_udp(transport.protocol, transport.fragment)?;
                (header.source.into(), header.destination.into(), header.hop_limit, &payload[transport.offset..])
            }
            Some(_) => return Err(Malformed::Contradiction("IP version is neither 4 nor 6").into()),
            None => return Err(Malformed::Truncated { need: 1, have: 0 }.into()),
        };
        let (udp, payload) = UdpHeader::split(datagram)?;
        if usize::from(udp.length) != datagram.len() {
            return Err(Malformed::Contradiction("UDP length differs from the IP packet's").into());
        }
        if !udp.verifies(source, destination, payload) {
            return Err(Malformed::Checksum("UDP").into());
        }
        let (source, destination) = ((source, udp.source).into(), (destination, udp.destination).into());
        Ok(Self { source, destination, ttl, payload })
    }

    /// The octets of the packet: DF set, no options, no extension headers, UDP checksum computed.
    ///
    /// # Panics
    /// If the families of source and destination differ, or the payload is longer than an IP packet holds (65,507
    /// octets in IPv4, 65,527 in IPv6): the caller builds both.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let room = usize::from(u16::MAX) - if self.source.is_ipv4() { Ipv4Header::LENGTH } else { 0 };
        let length = UdpHeader::LENGTH + self.payload.len();
        assert!(length <= room, "a datagram of {length} octets");
        let (source, destination) = (self.source, self.destination);
        let mut udp =
            UdpHeader { source: source.port(), destination: destination.port(), length: length as u16, checksum: 0 };
        udp.checksum = udp.compute(source.ip(), destination.ip(), self.payload);
        let mut datagram = vec![0; UdpHeader::LENGTH];
        udp.write(&mut datagram);
        datagram.extend(self.payload);
        let packet = enclose((source.ip(), destination.ip()), protocol::UDP, self.ttl, true, &datagram);
        packet.unwrap_or_else(|| panic!("{source} and {destination} are of different families"))
    }
}

fn expect_udp(protocol: u8, fragment: bool) -> Result<(), Malformed> {
    match (protocol, fragment) {
        (_, true) => Err(Malformed::Contradiction("fragment of a control packet")),
        (protocol::UDP, false) => Ok(()),
        _ => Err(Malformed::Contradiction("not UDP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet<'a>(source: &str, destination: &str, payload: &'a [u8]) -> UdpPacket<'a> {
        UdpPacket { source: source.parse().unwrap(), destination: destination.parse().unwrap(), ttl: 63, payload }
    }

    /// Puts a new IPv4 header over the datagram of `octets`.
    fn with_header(octets: &[u8], change: impl FnOnce(&mut Ipv4Header<'_>)) -> Vec<u8> {
        let (mut header, datagram) = Ipv4Header::split(octets).unwrap();
        change(&mut header);
        let mut changed = vec![0; header.length()];
        header.write(&mut changed);
        changed.extend(datagram);
        changed
    }

    const fn contradiction<T>(text: &'static str) -> Result<T, WireError> {
        Err(WireError::Malformed(Malformed::Contradiction(text)))
    }

    /// G-3.
    #[test]
    fn fragments_other_protocols_and_wrong_lengths_are_refused() {
        let good = packet("203.0.113.1:61000", "198.51.100.20:4342", b"request!");
        let octets = good.encode();
        assert_eq!(UdpPacket::parse(&octets), Ok(good));
        assert_eq!(UdpPacket::parse(&[&octets[..], &[0; 10]].concat()), Ok(good), "padding behind it");
        let fragment = contradiction("fragment of a control packet");
        assert_eq!(UdpPacket::parse(&with_header(&octets, |header| header.more_fragments = true)), fragment);
        assert_eq!(UdpPacket::parse(&with_header(&octets, |header| header.fragment_offset = 1)), fragment);
        assert_eq!(UdpPacket::parse(&with_header(&octets, |header| header.protocol = 6)), contradiction("not UDP"));
        let shorter = with_header(&octets, |header| header.total_length -= 1);
        assert!(matches!(UdpPacket::parse(&shorter), Err(WireError::Malformed(Malformed::Truncated { .. }))));
        let longer = [&with_header(&octets, |header| header.total_length += 1)[..], &[0]].concat();
        assert_eq!(UdpPacket::parse(&longer), contradiction("UDP length differs from the IP packet's"));
        let mut damaged = octets.clone();
        damaged[8] -= 1;
        assert_eq!(UdpPacket::parse(&damaged), Err(Malformed::Checksum("IPv4 header").into()));
        damaged = octets;
        damaged[26..28].fill(0);
        assert_eq!(UdpPacket::parse(&damaged), Err(Malformed::Checksum("UDP").into()), "no checksum");
        assert_eq!(UdpPacket::parse(&[]), Err(Malformed::Truncated { need: 1, have: 0 }.into()));
        assert_eq!(UdpPacket::parse(&[0x50]), contradiction("IP version is neither 4 nor 6"));
    }

    #[test]
    fn extension_headers_are_stepped_over_and_fragments_found() {
        let good = packet("[2001:db8::1]:61000", "[2001:db8:b::20]:4342", b"request!");
        let octets = good.encode();
        let with_extension = |kind: u8, extension: [u8; 8]| {
            let mut changed = [&octets[..40], &extension, &octets[40..]].concat();
            changed[5] += 8;
            changed[6] = kind;
            changed
        };
        assert_eq!(UdpPacket::parse(&with_extension(60, [17, 0, 1, 4, 0, 0, 0, 0])), Ok(good));
        let fragment = UdpPacket::parse(&with_extension(44, [17, 0, 0, 1, 0, 0, 0, 7])).err();
        assert_eq!(fragment, contradiction::<()>("fragment of a control packet").err());
        let endless = UdpPacket::parse(&with_extension(60, [17, 200, 1, 4, 0, 0, 0, 0])).err();
        assert_eq!(endless, contradiction::<()>("IPv6 extension headers").err());
    }

    #[test]
    fn the_longest_datagrams_fit() {
        let payload = vec![7; 65_527];
        assert_eq!(UdpPacket::PAYLOAD_MAX, 65_507);
        for (source, destination, length) in [("10.0.0.1:1", "10.0.0.2:2", 65_507), ("[::1]:1", "[::2]:2", 65_527)] {
            let longest = packet(source, destination, &payload[..length]);
            assert_eq!(UdpPacket::parse(&longest.encode()), Ok(longest));
        }
    }

    #[test]
    #[should_panic(expected = "a datagram of 65516 octets")]
    fn longer_ones_are_the_callers_fault() {
        let _ = packet("10.0.0.1:1", "10.0.0.2:2", &[7; 65_508]).encode();
    }
}
