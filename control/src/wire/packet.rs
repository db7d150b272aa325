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
    /// Longest payload that any packet carries, octets: an IPv4 packet without options.
    pub const PAYLOAD_MAX: usize = 65_535 - Ipv4Header::LENGTH - UdpHeader::LENGTH;

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
    /// If the families of source and destination differ, or the payload is longer than
    /// [`PAYLOAD_MAX`](Self::PAYLOAD_MAX): the caller builds both.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.payload.len() <= Self::PAYLOAD_MAX, "a datagram of {} octets", self.payload.len());
        let length = (UdpHeader::LENGTH + self.payload.len()) as u16;
        let mut octets = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = Ipv4Header {
                    tos: 0,
                    total_length: length + Ipv4Header::LENGTH as u16,
                    // Free for packets that cannot be fragmented (RFC 6864 §4.1).
                    identification: 0,
                    dont_fragment: true,
                    more_fragments: false,
                    fragment_offset: 0,
                    ttl: self.ttl,
                    protocol: protocol::UDP,
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
                    payload_length: length,
                    next_header: protocol::UDP,
                    hop_limit: self.ttl,
                    source,
                    destination,
                };
                let mut octets = vec![0; Ipv6Header::LENGTH];
                header.write(&mut octets);
                octets
            }
            (source, destination) => panic!("{source} and {destination} are of different families"),
        };
        let (source, destination) = (self.source, self.destination);
        let mut udp = UdpHeader { source: source.port(), destination: destination.port(), length, checksum: 0 };
        udp.checksum = udp.compute(source.ip(), destination.ip(), self.payload);
        let at = octets.len();
        octets.resize(at + UdpHeader::LENGTH, 0);
        udp.write(&mut octets[at..]);
        octets.extend(self.payload);
        octets
    }
}

fn expect_udp(protocol: u8, fragment: bool) -> Result<(), Malformed> {
    match (protocol, fragment) {
        (_, true) => Err(Malformed::Contradiction("fragment of a control packet")),
        (protocol::UDP, false) => Ok(()),
        _ => Err(Malformed::Contradiction("not UDP")),
    }
}
