//! IPv6 header: 40 octets, and the walk over extension headers.
//!
//! ```text
//! |Version=6| Traffic Class (8): DSCP(6) ECN(2) |          Flow Label (20)        |
//! |       payload length (16)       |  Next Header (8)  |     Hop Limit (8)       |
//! |  source (128)  |  destination (128)  |
//! ```
//!
//! Source: RFC 8200 §3, §4; Authentication Header RFC 4302 §2.

use std::net::Ipv6Addr;

use super::WireError;

/// Extension headers that [`transport`] steps over; packets with more are hashed by their addresses alone.
pub const EXTENSIONS_MAX: usize = 8;

/// The largest packet that every IPv6 link carries (RFC 8200 §5), octets.
pub const MTU_MIN: u32 = 1280;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// Next Header of the Fragment header.
pub const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// The fixed IPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Header {
    /// DSCP and ECN, one octet.
    pub traffic_class: u8,
    /// 20 bits.
    pub flow_label: u32,
    /// Everything behind the fixed header, octets.
    pub payload_length: u16,
    /// The first extension header, or the transport protocol.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6Header {
    /// Octets of the header.
    pub const LENGTH: usize = 40;

    /// Splits the header off the front of `octets`; the rest is cut to the payload length.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 40 octets or below the payload length; [`WireError::Contradiction`] when the
    /// version is not 6.
    #[inline]
    pub fn split(octets: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let Some((head, rest)) = octets.split_first_chunk::<{ Self::LENGTH }>() else {
            return Err(WireError::Truncated { need: Self::LENGTH, have: octets.len() });
        };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if first >> 28 != 6 {
            return Err(WireError::Contradiction("IP version is not 6"));
        }
        let payload_length = u16::from_be_bytes([head[4], head[5]]);
        let Some(payload) = rest.get(..usize::from(payload_length)) else {
            return Err(WireError::Truncated { need: Self::LENGTH + usize::from(payload_length), have: octets.len() });
        };
        let address = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|index| head[at + index]));
        let header = Self {
            traffic_class: (first >> 20) as u8,
            flow_label: first & 0x000f_ffff,
            payload_length,
            next_header: head[6],
            hop_limit: head[7],
            source: address(8),
            destination: address(24),
        };
        Ok((header, payload))
    }

    /// Writes the header to the front of `octets`.
    #[inline]
    pub fn write(&self, octets: &mut [u8]) {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        octets[..4].copy_from_slice(&first.to_be_bytes());
        octets[4..6].copy_from_slice(&self.payload_length.to_be_bytes());
        octets[6] = self.next_header;
        octets[7] = self.hop_limit;
        octets[8..24].copy_from_slice(&self.source.octets());
        octets[24..40].copy_from_slice(&self.destination.octets());
    }
}

/// Where the transport header is, as far as a flow hash or a port check needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// The first Next Header that is no extension header. In a fragment, that of the fragmented part.
    pub protocol: u8,
    /// Octets of extension headers in front of it.
    pub offset: usize,
    /// One of several fragments, the first included: ports must not be read from any (a datagram's fragments would part).
    pub fragment: bool,
}

/// Walks at most [`EXTENSIONS_MAX`] extension headers of `payload`, which follows a fixed header with `next_header`.
///
/// `None` when an extension header is cut off or there are more. The walk ends behind a Fragment header of one
/// fragment of several, for what follows need not start with a header. Packets without extension headers cost one
/// comparison.
#[inline]
#[must_use]
pub fn transport(next_header: u8, payload: &[u8]) -> Option<Transport> {
    let (mut protocol, mut offset) = (next_header, 0);
    for _ in 0..=EXTENSIONS_MAX {
        let unit = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => (1, 8),
            AUTHENTICATION => (2, 4),
            FRAGMENT => {
                let head = payload.get(offset..offset + 8)?;
                (protocol, offset) = (head[0], offset + 8);
                // Offset and M zero is an atomic fragment: a whole packet (RFC 6946).
                if u16::from_be_bytes([head[2], head[3]]) & 0xfff9 != 0 {
                    return Some(Transport { protocol, offset, fragment: true });
                }
                continue;
            }
            _ => return Some(Transport { protocol, offset, fragment: false }),
        };
        let &[next, length] = payload.get(offset..offset + 2)?.first_chunk()?;
        let octets = (usize::from(length) + unit.0) * unit.1;
        if payload.len() - offset < octets {
            return None;
        }
        (protocol, offset) = (next, offset + octets);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_value() {
        let mut octets = [0; 43];
        octets[..8].copy_from_slice(&[0x6b, 0x91, 0x23, 0x45, 0, 2, 17, 63]);
        octets[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        octets[39] = 0x20;
        let header = Ipv6Header {
            traffic_class: 0xb9,
            flow_label: 0x12345,
            payload_length: 2,
            next_header: 17,
            hop_limit: 63,
            source: "2001:db8::".parse().unwrap(),
            destination: "::20".parse().unwrap(),
        };
        assert_eq!(Ipv6Header::split(&octets), Ok((header, &[0, 0][..])));
        let mut written = [0xee; 40];
        header.write(&mut written);
        assert_eq!(written, octets[..40]);
        assert_eq!(Ipv6Header::split(&octets[..41]), Err(WireError::Truncated { need: 42, have: 41 }));
        assert_eq!(Ipv6Header::split(&octets[..39]), Err(WireError::Truncated { need: 40, have: 39 }));
        octets[0] = 0x45;
        assert_eq!(Ipv6Header::split(&octets), Err(WireError::Contradiction("IP version is not 6")));
    }

    #[test]
    fn the_walk_finds_the_transport_header_or_gives_up() {
        let found = |protocol, offset, fragment| Some(Transport { protocol, offset, fragment });
        let options = |next: u8, units: u8| {
            let mut octets = vec![0; 8 + usize::from(units) * 8];
            (octets[0], octets[1]) = (next, units);
            octets
        };
        let fragment = |next: u8, word: u16| [&[next, 0][..], &word.to_be_bytes(), &[0; 4]].concat();
        for (first, payload, expected) in [
            (17, vec![], found(17, 0, false)),
            (59, vec![], found(59, 0, false)),
            (0, options(6, 0), found(6, 8, false)),
            (0, [options(60, 1), options(43, 0), options(17, 2)].concat(), found(17, 16 + 8 + 24, false)),
            (51, [&[17, 4][..], &[0; 22]].concat(), found(17, 24, false)),
            (44, fragment(17, 0), found(17, 8, false)),
            (44, fragment(17, 0x0006), found(17, 8, false)), // reserved bits alone
            (44, fragment(17, 0x0001), found(17, 8, true)),
            (44, fragment(60, 0x05a8), found(60, 8, true)),
            (0, vec![6], None),
            (0, options(6, 1)[..15].to_vec(), None),
            (44, vec![17; 7], None),
            (60, options(60, 0).repeat(7).into_iter().chain(options(6, 0)).collect(), found(6, 64, false)),
            (60, options(60, 0).repeat(20), None),
        ] {
            assert_eq!(transport(first, &payload), expected, "{first} {payload:?}");
        }
    }
}
