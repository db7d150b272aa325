//! ICMP errors about ALT datagrams: whole IP packets to the RLOC that a datagram came from, for the underlay (RFC 6836 §5.3).
//!
//! What is quoted is the datagram as it came out of the tunnel: the ITR finds its nonce in it.

use std::net::IpAddr;

use altitude_dataplane::wire::{
    icmp::{self, Icmp6Error, IcmpError},
    ipv4::Ipv4Header,
    ipv6::Ipv6Header,
    protocol,
};

use crate::wire::packet::enclose;

/// TTL and Hop Limit of the packets.
const TTL: u8 = 64;

/// What happened to a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Error {
    /// No way on.
    Unreachable,
    /// Its TTL was used up here.
    TimeExceeded,
}

/// The IP packet that tells `to` of the fate of `datagram`, an IP packet. `None` where the three are not of one family.
#[must_use]
pub fn packet(error: Error, from: IpAddr, to: IpAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    let message = match (from, to, datagram.first()? >> 4) {
        (IpAddr::V4(_), IpAddr::V4(_), 4) => {
            let mut message = unfinished(datagram, icmp::PACKET_MAX - Ipv4Header::LENGTH);
            let error = match error {
                Error::Unreachable => IcmpError::Unreachable { code: 1 },
                Error::TimeExceeded => IcmpError::TimeExceeded { code: 0 },
            };
            error.write(&mut message);
            message
        }
        (IpAddr::V6(source), IpAddr::V6(destination), 6) => {
            let mut message = unfinished(datagram, icmp::PACKET_MAX_V6 - Ipv6Header::LENGTH);
            let error = match error {
                Error::Unreachable => Icmp6Error::Unreachable { code: 0 },
                Error::TimeExceeded => Icmp6Error::TimeExceeded { code: 0 },
            };
            error.write(source, destination, &mut message);
            message
        }
        _ => return None,
    };
    let protocol = if from.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
    // Short enough for every path.
    enclose((from, to), protocol, TTL, true, &message)
}

/// A message of at most `longest` octets without its header, quoting as much of `datagram` as it may.
fn unfinished(datagram: &[u8], longest: usize) -> Vec<u8> {
    let mut message = vec![0; icmp::LENGTH];
    message.extend(&datagram[..datagram.len().min(longest - icmp::LENGTH)]);
    message
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::wire::checksum;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_quote_is_as_long_as_an_error_may_be() {
        for (from, to, version, quoted) in
            [("240.0.254.1", "240.0.254.10", 0x45, 548), ("2001:db8::1", "2001:db8::10", 0x60, 1232)]
        {
            let mut datagram = vec![7; 2000];
            datagram[0] = version;
            for (error, kinds) in [(Error::Unreachable, [(3, 1), (1, 0)]), (Error::TimeExceeded, [(11, 0), (3, 0)])] {
                let octets = packet(error, address(from), address(to), &datagram).unwrap();
                let quote = match (address(from), address(to)) {
                    (IpAddr::V4(_), IpAddr::V4(_)) => {
                        let (header, message) = Ipv4Header::split(&octets).unwrap();
                        assert!(checksum::verifies(&octets[..20]) && checksum::verifies(message));
                        assert_eq!((header.protocol, header.ttl, (message[0], message[1])), (1, 64, kinds[0]));
                        assert_eq!(
                            (IpAddr::from(header.source), IpAddr::from(header.destination)),
                            (address(from), address(to))
                        );
                        message[8..].to_vec()
                    }
                    (IpAddr::V6(source), IpAddr::V6(destination)) => {
                        let (header, message) = Ipv6Header::split(&octets).unwrap();
                        let (_, quote) = Icmp6Error::split(source, destination, message).unwrap();
                        assert_eq!(
                            (header.next_header, header.hop_limit, (message[0], message[1])),
                            (58, 64, kinds[1])
                        );
                        quote.to_vec()
                    }
                    _ => unreachable!(),
                };
                assert_eq!(quote, datagram[..quoted]);
            }
        }
        // A short one is quoted whole.
        let short = packet(Error::Unreachable, address("240.0.254.1"), address("240.0.254.10"), &[0x45, 1, 2]).unwrap();
        assert_eq!(&short[28..], [0x45, 1, 2]);
    }

    #[test]
    fn three_of_one_family_or_nothing() {
        let (v4, v6) = (address("240.0.254.1"), address("2001:db8::1"));
        for (from, to, datagram) in
            [(v4, v6, &[0x45_u8][..]), (v6, v4, &[0x45]), (v4, v4, &[0x60]), (v6, v6, &[0x45]), (v4, v4, &[])]
        {
            assert_eq!(packet(Error::Unreachable, from, to, datagram), None, "{from} {to} {datagram:?}");
        }
    }
}
