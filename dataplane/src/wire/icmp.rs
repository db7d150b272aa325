//! ICMP and ICMPv6 errors: 8 octets, then the start of the packet they are about.
//!
//! ```text
//! | type (8) | code (8) | checksum (16) |
//! | ICMP 3/4: unused (16), next-hop MTU (16) · ICMPv6 2: MTU (32) · others: unused (32) |
//! | quoted packet … |
//! ```
//!
//! A message is the 8 octets and the quote. Builders grow these 8 octets in front of a packet that is already in
//! place, so nothing is copied.
//!
//! Source: RFC 792; next-hop MTU RFC 1191 §4; RFC 4443 §3.

use std::net::Ipv6Addr;

use super::{WireError, checksum, protocol};

/// Octets in front of the quote.
pub const LENGTH: usize = 8;
/// Longest IPv4 packet that carries an ICMP error, octets (RFC 1812 §4.3.2.3).
pub const PACKET_MAX: usize = 576;
/// Longest IPv6 packet that carries an ICMPv6 error, octets: the minimum MTU (RFC 4443 §2.4).
pub const PACKET_MAX_V6: usize = 1280;

/// An ICMP error for an IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// Type 3 code 4: DF is set and the packet is longer than `mtu` octets. Older routers send 0.
    FragmentationNeeded {
        /// Next-hop MTU, octets.
        mtu: u16,
    },
    /// Type 3 with any other code: 0 network, 1 host, 13 administratively prohibited (RFC 1812 §5.2.7.1). Code 4 is
    /// [`FragmentationNeeded`](Self::FragmentationNeeded) without an MTU.
    Unreachable {
        /// Which kind.
        code: u8,
    },
    /// Type 11: 0 TTL, 1 reassembly.
    TimeExceeded {
        /// Which kind.
        code: u8,
    },
}

impl IcmpError {
    /// Reads a whole message and returns the quote; the checksum is verified.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 8 octets; [`WireError::Checksum`]; [`WireError::Contradiction`] for another type.
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (head, quote) = head(message)?;
        if !checksum::verifies(message) {
            return Err(WireError::Checksum("ICMP"));
        }
        let error = match (head[0], head[1]) {
            (3, 4) => Self::FragmentationNeeded { mtu: u16::from_be_bytes([head[6], head[7]]) },
            (3, code) => Self::Unreachable { code },
            (11, code) => Self::TimeExceeded { code },
            _ => return Err(WireError::Contradiction("no ICMP error spoken here")),
        };
        Ok((error, quote))
    }

    /// Writes the 8 octets to the front of `message`, whose quote is in place, checksum included.
    pub fn write(&self, message: &mut [u8]) {
        let (kind, code, mtu) = match *self {
            Self::FragmentationNeeded { mtu } => (3, 4, mtu),
            Self::Unreachable { code } => (3, code, 0),
            Self::TimeExceeded { code } => (11, code, 0),
        };
        message[..6].copy_from_slice(&[kind, code, 0, 0, 0, 0]);
        message[6..8].copy_from_slice(&mtu.to_be_bytes());
        let sum = checksum::checksum(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// An ICMPv6 error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icmp6Error {
    /// Type 1: 0 no route, 1 prohibited, 3 address unreachable, 4 port.
    Unreachable {
        /// Which kind.
        code: u8,
    },
    /// Type 2: the packet is longer than `mtu` octets.
    PacketTooBig {
        /// Next-hop MTU, octets.
        mtu: u32,
    },
    /// Type 3: 0 Hop Limit, 1 reassembly.
    TimeExceeded {
        /// Which kind.
        code: u8,
    },
}

impl Icmp6Error {
    /// Reads a whole message from `source` to `destination` and returns the quote; the checksum is verified.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 8 octets; [`WireError::Checksum`]; [`WireError::Contradiction`] for another type.
    pub fn split(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (head, quote) = head(message)?;
        if checksum::fold(pseudo_header(source, destination, message) + checksum::sum(message)) != 0xffff {
            return Err(WireError::Checksum("ICMPv6"));
        }
        let error = match (head[0], head[1]) {
            (1, code) => Self::Unreachable { code },
            (2, _) => Self::PacketTooBig { mtu: u32::from_be_bytes([head[4], head[5], head[6], head[7]]) },
            (3, code) => Self::TimeExceeded { code },
            _ => return Err(WireError::Contradiction("no ICMPv6 error spoken here")),
        };
        Ok((error, quote))
    }

    /// Writes the 8 octets to the front of `message`, whose quote is in place, checksum included.
    pub fn write(&self, source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8]) {
        let (kind, code, mtu) = match *self {
            Self::Unreachable { code } => (1, code, 0),
            Self::PacketTooBig { mtu } => (2, 0, mtu),
            Self::TimeExceeded { code } => (3, code, 0),
        };
        message[..4].copy_from_slice(&[kind, code, 0, 0]);
        message[4..8].copy_from_slice(&mtu.to_be_bytes());
        let sum = !checksum::fold(pseudo_header(source, destination, message) + checksum::sum(message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

fn head(message: &[u8]) -> Result<(&[u8; LENGTH], &[u8]), WireError> {
    message.split_first_chunk().ok_or(WireError::Truncated { need: LENGTH, have: message.len() })
}

fn pseudo_header(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u32 {
    checksum::pseudo_header(source.into(), destination.into(), protocol::ICMPV6, message.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_value() {
        // Type, code and the rest by hand; vectors C01 and C02 check the checksums.
        let table = [
            (IcmpError::FragmentationNeeded { mtu: 1464 }, [3, 4], [0, 0, 0x05, 0xb8]),
            (IcmpError::Unreachable { code: 13 }, [3, 13], [0; 4]),
            (IcmpError::TimeExceeded { code: 0 }, [11, 0], [0; 4]),
        ];
        for (error, kind, rest) in table {
            let mut message = [0xee; 37]; // odd
            error.write(&mut message);
            assert_eq!((&message[..2], &message[4..8]), (&kind[..], &rest[..]));
            assert_eq!(IcmpError::split(&message), Ok((error, &[0xee; 29][..])));
            message[20] ^= 1;
            assert_eq!(IcmpError::split(&message), Err(WireError::Checksum("ICMP")));
        }
        let (us, host) = ("2001:db8:a::1".parse().unwrap(), "2001:db8:a::10".parse().unwrap());
        let table = [
            (Icmp6Error::Unreachable { code: 1 }, [1, 1], [0; 4]),
            (Icmp6Error::PacketTooBig { mtu: 1444 }, [2, 0], [0, 0, 0x05, 0xa4]),
            (Icmp6Error::TimeExceeded { code: 0 }, [3, 0], [0; 4]),
        ];
        for (error, kind, rest) in table {
            let mut message = [0xee; 56];
            error.write(us, host, &mut message);
            assert_eq!((&message[..2], &message[4..8]), (&kind[..], &rest[..]));
            assert_eq!(Icmp6Error::split(us, host, &message), Ok((error, &[0xee; 48][..])));
            assert_eq!(Icmp6Error::split(us, us, &message), Err(WireError::Checksum("ICMPv6")));
        }
        assert_eq!(IcmpError::split(&[3; 7]), Err(WireError::Truncated { need: 8, have: 7 }));
    }
}
