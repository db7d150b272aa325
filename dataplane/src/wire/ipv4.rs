//! IPv4 header: 20 octets and up to 40 of options.
//!
//! ```text
//! |Version=4|IHL(4)|  TOS (8): DSCP(6) ECN(2)  |        total length (16)        |
//! |      identification (16)      |0|DF|MF|     fragment offset (13)              |
//! |   TTL (8)   |  protocol (8)   |             header checksum (16)              |
//! |  source (32)  |  destination (32)  |  options (IHL − 5 words)  |
//! ```
//!
//! Source: RFC 791 §3.1; RFC 3168 §5 for ECN.

use std::net::Ipv4Addr;

use super::{WireError, checksum};

/// IPv4 options as they stand in the header: whole words, at most ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// No options.
    pub const NONE: Self = Self(&[]);

    /// `None` unless `octets` are whole 32-bit words, at most 40 octets.
    #[must_use]
    pub const fn new(octets: &'a [u8]) -> Option<Self> {
        if octets.len() <= 40 && octets.len().is_multiple_of(4) { Some(Self(octets)) } else { None }
    }

    /// The octets, padding included.
    #[must_use]
    pub const fn octets(&self) -> &'a [u8] {
        self.0
    }
}

/// An IPv4 header. Its checksum is no field: it is computed on writing and verified over the octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Header<'a> {
    /// DSCP and ECN, one octet.
    pub tos: u8,
    /// Header and payload, octets; at least [`length`](Self::length).
    pub total_length: u16,
    /// Tells the fragments of one packet from those of others.
    pub identification: u16,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// In units of 8 octets, 13 bits.
    pub fragment_offset: u16,
    /// Hops left.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Options, rarely any.
    pub options: Options<'a>,
}

impl<'a> Ipv4Header<'a> {
    /// Octets of a header without options.
    pub const LENGTH: usize = 20;

    /// Splits the header off the front of `octets`; the rest is cut to the total length (link-layer padding goes).
    ///
    /// The checksum is not verified: `checksum::verifies(&octets[..header.length()])` does.
    ///
    /// # Errors
    /// [`WireError::Truncated`] below 20 octets or below the total length; [`WireError::Contradiction`] when the version
    /// is not 4, the header is shorter than 20 octets or longer than the packet.
    #[inline]
    pub fn split(octets: &'a [u8]) -> Result<(Self, &'a [u8]), WireError> {
        let Some(fixed) = octets.first_chunk::<20>() else {
            return Err(WireError::Truncated { need: Self::LENGTH, have: octets.len() });
        };
        if fixed[0] >> 4 != 4 {
            return Err(WireError::Contradiction("IP version is not 4"));
        }
        let length = usize::from(fixed[0] & 0x0f) * 4;
        let total = u16::from_be_bytes([fixed[2], fixed[3]]);
        if length < Self::LENGTH {
            return Err(WireError::Contradiction("IPv4 header below 20 octets"));
        }
        if usize::from(total) < length {
            return Err(WireError::Contradiction("IPv4 header longer than the packet"));
        }
        let Some(packet) = octets.get(..usize::from(total)) else {
            return Err(WireError::Truncated { need: usize::from(total), have: octets.len() });
        };
        let (head, payload) = packet.split_at(length);
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
        let header = Self {
            tos: fixed[1],
            total_length: total,
            identification: u16::from_be_bytes([fixed[4], fixed[5]]),
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            fragment_offset: fragment & 0x1fff,
            ttl: fixed[8],
            protocol: fixed[9],
            source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
            options: Options(&head[Self::LENGTH..]),
        };
        Ok((header, payload))
    }

    /// Writes [`length`](Self::length) octets to the front of `octets`, checksum included.
    #[inline]
    pub fn write(&self, octets: &mut [u8]) {
        let length = self.length();
        let head = &mut octets[..length];
        head[0] = 0x40 | (length / 4) as u8;
        head[1] = self.tos;
        head[2..4].copy_from_slice(&self.total_length.to_be_bytes());
        head[4..6].copy_from_slice(&self.identification.to_be_bytes());
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        head[6..8].copy_from_slice(&(flags | self.fragment_offset & 0x1fff).to_be_bytes());
        head[8] = self.ttl;
        head[9] = self.protocol;
        head[10..12].fill(0);
        head[12..16].copy_from_slice(&self.source.octets());
        head[16..20].copy_from_slice(&self.destination.octets());
        head[20..].copy_from_slice(self.options.octets());
        let sum = checksum::checksum(head);
        head[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    /// Octets of the header, options included: 20 … 60.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> usize {
        Self::LENGTH + self.options.octets().len()
    }

    /// Whether it is one of several fragments, the first included.
    #[inline]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inner header of vector D01.
    const PLAIN: [u8; 20] = [
        0x45, 0x00, 0x00, 0x2d, 0x12, 0x34, 0x00, 0x00, 0x3f, 0x11, 0x7d, 0x3a, 0xc0, 0x00, 0x02, 0x0a, 0xc6, 0x33,
        0x64, 0x14,
    ];

    const VALUE: Ipv4Header<'_> = Ipv4Header {
        tos: 0,
        total_length: 45,
        identification: 0x1234,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 63,
        protocol: 17,
        source: Ipv4Addr::new(192, 0, 2, 10),
        destination: Ipv4Addr::new(198, 51, 100, 20),
        options: Options::NONE,
    };

    fn packet(head: &[u8]) -> Vec<u8> {
        let mut packet = head.to_vec();
        packet.resize(60, 0xee);
        packet
    }

    #[test]
    fn octets_and_value() {
        let (header, payload) = Ipv4Header::split(&[PLAIN, [0xee; 20], [0xee; 20]].concat()).map(own).unwrap();
        assert_eq!((header, payload), (VALUE, 25), "padding behind the total length is cut");
        let mut written = [0xee; 20];
        VALUE.write(&mut written);
        assert_eq!(written, PLAIN);
        assert!(checksum::verifies(&PLAIN));
    }

    /// Lets a header without options outlive its octets.
    fn own((header, payload): (Ipv4Header<'_>, &[u8])) -> (Ipv4Header<'static>, usize) {
        assert_eq!(header.options, Options::NONE);
        (Ipv4Header { options: Options::NONE, ..header }, payload.len())
    }

    #[test]
    fn flags_offset_and_options_survive() {
        let options: Vec<u8> = (0..40).collect();
        for words in 0..=10 {
            for (dont_fragment, more_fragments, fragment_offset) in
                [(true, false, 0), (false, true, 0), (false, true, 185), (false, false, 0x1fff)]
            {
                let header = Ipv4Header {
                    dont_fragment,
                    more_fragments,
                    fragment_offset,
                    options: Options::new(&options[..words * 4]).unwrap(),
                    total_length: 60,
                    ..VALUE
                };
                let mut octets = [0; 60];
                header.write(&mut octets);
                let (read, payload) = Ipv4Header::split(&octets).unwrap();
                assert_eq!((read, payload.len()), (header, 40 - words * 4));
                assert!(checksum::verifies(&octets[..header.length()]));
                assert_eq!(read.is_fragment(), !dont_fragment);
            }
        }
        assert_eq!(Options::new(&options[..3]), None);
        assert_eq!(Options::new(&[0; 44]), None);
    }

    #[test]
    fn lengths_that_contradict_are_refused() {
        let with = |at: usize, value: u8| {
            let mut octets = PLAIN;
            octets[at] = value;
            packet(&octets)
        };
        for (octets, wrong) in [
            (with(0, 0x55), "IP version is not 4"),
            (with(0, 0x44), "IPv4 header below 20 octets"),
            (with(3, 19), "IPv4 header longer than the packet"),
            (with(0, 0x4c), "IPv4 header longer than the packet"),
        ] {
            assert_eq!(Ipv4Header::split(&octets), Err(WireError::Contradiction(wrong)));
        }
        assert_eq!(Ipv4Header::split(&PLAIN), Err(WireError::Truncated { need: 45, have: 20 }));
        assert_eq!(Ipv4Header::split(&PLAIN[..19]), Err(WireError::Truncated { need: 20, have: 19 }));
        assert_eq!(Ipv4Header::split(&with(2, 1)), Err(WireError::Truncated { need: 0x12d, have: 60 }));
    }
}
