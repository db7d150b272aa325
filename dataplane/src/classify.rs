//! What a frame holds: where its IP header lies, what it says, and which flow it belongs to.
//!
//! Both paths read IP headers here and not through the values of [`wire`](crate::wire): one value for both families,
//! with no more fields than a path needs, one kind of fault for each counter, and the IPv4 checksum verified on the way.
//! The rules are those of a router that trusts nobody: version, header length, total length and IPv4 header checksum
//! are checked before any field is used; octets beyond the total length are padding.
//!
//! Nearly all headers are [`Plain`] or [`PlainV6`]; a path reads such a one in a few instructions, without asking what is
//! wrong with it. Whatever is not plain goes through [`IpHeader`], which tells.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{
    checksum,
    ethernet::{IPV4, IPV6},
    ipv6,
    protocol::{SCTP, TCP, UDP},
    vlan,
};

/// What is wrong with a packet; each path has its own counter for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Shorter than its headers say, or than any header.
    Truncated,
    /// Neither IPv4 nor IPv6, or a version that contradicts the EtherType.
    NotIp,
    /// IPv4 header length below 5 words or beyond the packet.
    BadHeader,
    /// Wrong IPv4 header checksum.
    BadChecksum,
}

/// Which part of a datagram an IPv4 packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment: the one with the transport header.
    First,
    /// A fragment further on.
    Later,
}

/// An IP header that passed the checks, in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpHeader {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// TOS or Traffic Class: DSCP and ECN.
    pub tos: u8,
    /// TTL or Hop Limit.
    pub ttl: u8,
    /// Protocol, or the first Next Header.
    pub protocol: u8,
    /// Octets before the payload: the IPv4 header with options, or the 40 of IPv6.
    pub length: usize,
    /// Octets of the whole packet, header included.
    pub total: usize,
    /// Fragment or not; of IPv6 always whole, for what its extension headers say is read where it matters.
    pub part: Part,
    /// Whether routers may split it: IPv4 with DF clear.
    pub may_split: bool,
}

impl IpHeader {
    /// Reads the IP header of a frame; gives it with the length of the link-layer header in front.
    ///
    /// # Errors
    /// The first [`Fault`] found.
    #[inline]
    pub fn in_frame(octets: &[u8]) -> Result<(usize, Self), Fault> {
        let (ethertype, packet) = vlan::payload(octets).map_err(|_| Fault::Truncated)?;
        let version = match ethertype {
            IPV4 => 4,
            IPV6 => 6,
            _ => return Err(Fault::NotIp),
        };
        if packet.first().ok_or(Fault::Truncated)? >> 4 != version {
            return Err(Fault::NotIp);
        }
        Self::read(packet).map(|header| (octets.len() - packet.len(), header))
    }

    /// Reads the header at the front of `packet`; the version nibble tells the family (RFC 9300 §5).
    ///
    /// # Errors
    /// The first [`Fault`] found.
    #[inline]
    pub fn read(packet: &[u8]) -> Result<Self, Fault> {
        match packet.first().ok_or(Fault::Truncated)? >> 4 {
            4 => Self::read_v4(packet),
            6 => Self::read_v6(packet),
            _ => Err(Fault::NotIp),
        }
    }

    fn read_v4(packet: &[u8]) -> Result<Self, Fault> {
        let fixed: &[u8; 20] = packet.first_chunk().ok_or(Fault::Truncated)?;
        let length = usize::from(fixed[0] & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if length < 20 || length > total {
            return Err(Fault::BadHeader);
        }
        if total > packet.len() {
            return Err(Fault::Truncated);
        }
        if !checksum::verifies(&packet[..length]) {
            return Err(Fault::BadChecksum);
        }
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
        let part = match (fragment & 0x1fff, fragment & 0x2000) {
            (0, 0) => Part::Whole,
            (0, _) => Part::First,
            _ => Part::Later,
        };
        Ok(Self {
            source: IpAddr::V4(Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15])),
            destination: IpAddr::V4(Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19])),
            tos: fixed[1],
            ttl: fixed[8],
            protocol: fixed[9],
            length,
            total,
            part,
            may_split: fragment & 0x4000 == 0,
        })
    }

    fn read_v6(packet: &[u8]) -> Result<Self, Fault> {
        let fixed: &[u8; 40] = packet.first_chunk().ok_or(Fault::Truncated)?;
        let total = 40 + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        if total > packet.len() {
            return Err(Fault::Truncated);
        }
        Ok(Self {
            source: IpAddr::V6(address_v6(&fixed[8..24])),
            destination: IpAddr::V6(address_v6(&fixed[24..40])),
            tos: fixed[0] << 4 | fixed[1] >> 4,
            ttl: fixed[7],
            protocol: fixed[6],
            length: 40,
            total,
            part: Part::Whole,
            may_split: false,
        })
    }
}

fn address_v6(octets: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(<[u8; 16]>::try_from(octets).expect("the caller cut 16 octets"))
}

/// An IPv4 header as nearly all are: without options, the packet not a fragment and complete, the checksum right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// DSCP and ECN.
    pub tos: u8,
    /// Hops left.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// DF is clear.
    pub may_split: bool,
    /// Octets of the whole packet, header included: at least [`LENGTH`](Self::LENGTH).
    pub total: u16,
    /// The first word behind the header: both ports of TCP, UDP and SCTP.
    pub ports: u32,
}

impl Plain {
    /// Octets that are read: the header and the ports.
    pub const LENGTH: usize = 24;

    /// Reads the header at the front of `packet`; `None` if it is not plain, or not right.
    ///
    /// One length check carries every access, and all others end in one branch, which is hardly ever taken.
    #[inline(always)]
    #[must_use]
    pub fn read(packet: &[u8]) -> Option<Self> {
        let head: &[u8; Self::LENGTH] = packet.first_chunk()?;
        let (words, _) = head.as_chunks::<4>();
        let word = |index: usize| u32::from_be_bytes(words[index]);
        let addresses: [u8; 8] = head[12..20].try_into().expect("8 octets");
        // Whether the sum is zero modulo 0xffff does not depend on the order of octets (RFC 1071 §2); all zero, which must
        // not pass, it never is with a version in it.
        let pair = u64::from_ne_bytes(addresses);
        let sum: u64 = (0..3).map(|index| u64::from(u32::from_ne_bytes(words[index]))).sum();
        let sum = sum + (pair >> 32) + (pair & 0xffff_ffff);
        // Both at once, or the compiler takes them apart and puts them together again.
        let addresses = u64::from_be_bytes(addresses);
        let total = word(0) as u16;
        let right = (head[0] == 0x45)
            & (usize::from(total) >= Self::LENGTH)
            & (usize::from(total) <= packet.len())
            // More fragments, or an offset.
            & (word(1) & 0x3fff == 0)
            & is_multiple_of_ffff(sum);
        right.then(|| Self {
            source: (addresses >> 32) as u32,
            destination: addresses as u32,
            tos: head[1],
            ttl: head[8],
            protocol: head[9],
            may_split: word(1) & 0x4000 == 0,
            total,
            ports: word(5),
        })
    }
}

/// Whether `sum` modulo 0xffff is 0, without a division: the product with the inverse of 0xffff modulo 2⁶⁴ is the quotient
/// of a multiple, and above all quotients for any other.
#[inline(always)]
const fn is_multiple_of_ffff(sum: u64) -> bool {
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// An IPv6 header as nearly all are: followed by a transport protocol with ports, the packet complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainV6 {
    /// Source address.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// DSCP and ECN.
    pub tos: u8,
    /// Hops left.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Octets of the whole packet, header included: at least [`LENGTH`](Self::LENGTH).
    pub total: usize,
    /// The first word behind the header: both ports.
    pub ports: u32,
}

impl PlainV6 {
    /// Octets that are read: the header and the ports.
    pub const LENGTH: usize = 44;

    /// As [`Plain::read`].
    #[inline(always)]
    #[must_use]
    pub fn read(packet: &[u8]) -> Option<Self> {
        let head: &[u8; Self::LENGTH] = packet.first_chunk()?;
        let address = |at: usize| u128::from_be_bytes(head[at..at + 16].try_into().expect("16 octets"));
        let total = 40 + usize::from(u16::from_be_bytes([head[4], head[5]]));
        let protocol = head[6];
        let right = (head[0] >> 4 == 6) & (total >= Self::LENGTH) & (total <= packet.len()) & has_ports(protocol);
        right.then(|| Self {
            source: address(8),
            destination: address(24),
            tos: head[0] << 4 | head[1] >> 4,
            ttl: head[7],
            protocol,
            total,
            ports: u32::from_be_bytes([head[40], head[41], head[42], head[43]]),
        })
    }
}

/// Whether the header of a transport protocol begins with two ports.
#[inline(always)]
const fn has_ports(protocol: u8) -> bool {
    (protocol == TCP) | (protocol == UDP) | (protocol == SCTP)
}

/// Our routing locators, by family: looked through for every packet.
#[derive(Debug, Clone, Default)]
pub struct Rlocs {
    /// Mostly there is no other; 0 if there is none, which is no packet's address.
    first_v4: u32,
    more_v4: Vec<u32>,
    v6: Vec<u128>,
}

impl Rlocs {
    /// These addresses.
    #[must_use]
    pub fn new(addresses: &[IpAddr]) -> Self {
        let mut rlocs = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(v4) if rlocs.first_v4 == 0 => rlocs.first_v4 = v4.to_bits(),
                IpAddr::V4(v4) => rlocs.more_v4.push(v4.to_bits()),
                IpAddr::V6(v6) => rlocs.v6.push(v6.to_bits()),
            }
        }
        rlocs
    }

    /// Whether it is one of ours.
    #[inline]
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.contains_v4(v4.to_bits()),
            IpAddr::V6(v6) => self.contains_v6(v6.to_bits()),
        }
    }

    /// As [`contains`](Self::contains), of an IPv6 address.
    #[inline(always)]
    #[must_use]
    pub fn contains_v6(&self, address: u128) -> bool {
        self.v6.contains(&address)
    }

    /// As [`contains`](Self::contains), of an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub fn contains_v4(&self, address: u32) -> bool {
        self.first_v4 == address || !self.more_v4.is_empty() && self.more_v4.contains(&address)
    }
}

/// Addresses that no packet in transit may carry, neither as source nor as unicast destination: unspecified ("this
/// network"), loopback, multicast, limited broadcast, link-local (RFC 6890 §2.2, RFC 4291 §2.5.6).
///
/// 240.0.0.0/4 is allowed: the addresses of the project's own demonstration lie in it.
#[inline]
#[must_use]
pub fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_martian_v4(v4.to_bits()),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

const fn is_martian_v4(address: u32) -> bool {
    let [first, second, ..] = address.to_be_bytes();
    matches!((first, second), (0 | 127 | 224..=239, _) | (169, 254)) || address == u32::MAX
}

/// Whether an IPv4 address may be a martian: all that are, and all that share their first octet. One load, where
/// [`is_martian`] is a dozen comparisons.
#[inline(always)]
pub(crate) const fn may_be_martian(address: u32) -> bool {
    const FIRST: [bool; 256] = {
        let mut first = [false; 256];
        let mut octet = 0;
        while octet < first.len() {
            first[octet] = matches!(octet, 0 | 127 | 169 | 224..=239 | 255);
            octet += 1;
        }
        first
    };
    FIRST[(address >> 24) as usize]
}

/// As [`may_be_martian`], of an IPv6 address.
#[inline(always)]
pub(crate) const fn may_be_martian_v6(address: u128) -> bool {
    // First octets 0x00, 0xfe and 0xff.
    ((address >> 120) as u8).wrapping_add(2) < 3
}

/// The keys of the flow hash, drawn from one seed.
#[derive(Debug, Clone, Copy)]
pub struct FlowKey([u64; 3]);

impl FlowKey {
    /// Every process has its own seed, so that nobody outside can choose the paths of flows.
    #[must_use]
    pub const fn new(seed: u32) -> Self {
        // Odd constants of SplitMix64; any that spread the seed over all bits would do.
        let seed = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self([seed, seed.wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1, seed.wrapping_mul(0x94d0_49bb_1331_11eb) | 1])
    }

    /// Hash of the flow that `packet`, with this header, belongs to (RFC 9300 §12).
    ///
    /// TCP, UDP and SCTP: addresses, protocol, ports. Everything else, ICMP echo included: addresses and protocol. So
    /// too every fragment of a datagram, or its first would take another way than the rest.
    #[inline]
    #[must_use]
    pub fn flow(self, packet: &[u8], header: &IpHeader) -> u32 {
        let (protocol, at, whole) = match header.source {
            IpAddr::V4(_) => (header.protocol, header.length, header.part == Part::Whole),
            IpAddr::V6(_) => match ipv6::transport(header.protocol, &packet[header.length..header.total]) {
                Some(transport) => (transport.protocol, header.length + transport.offset, !transport.fragment),
                None => (header.protocol, header.length, false),
            },
        };
        let ports = match packet[..header.total].get(at..).and_then(<[u8]>::first_chunk) {
            Some(ports) if whole && has_ports(protocol) => u32::from_be_bytes(*ports),
            _ => 0,
        };
        let addresses = match (header.source, header.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.addresses_v6(source.to_bits(), destination.to_bits()),
            _ => unreachable!("both addresses of a header are of one family"),
        };
        self.mix(addresses, ports, protocol)
    }

    /// As [`flow`](Self::flow), of a packet whose header is plain.
    #[inline(always)]
    #[must_use]
    pub fn flow_plain(self, header: &Plain) -> u32 {
        let ports = std::hint::select_unpredictable(has_ports(header.protocol), header.ports, 0);
        self.mix(u64::from(header.source) << 32 | u64::from(header.destination), ports, header.protocol)
    }

    /// The same for IPv6.
    #[inline(always)]
    #[must_use]
    pub fn flow_plain_v6(self, header: &PlainV6) -> u32 {
        self.mix(self.addresses_v6(header.source, header.destination), header.ports, header.protocol)
    }

    #[inline(always)]
    fn addresses_v6(self, source: u128, destination: u128) -> u64 {
        let Self([first, second, third]) = self;
        let pair = |address: u128, other: u64| fold((address >> 64) as u64 ^ other, address as u64 ^ second);
        pair(source, first) ^ pair(destination, third)
    }

    #[inline(always)]
    fn mix(self, addresses: u64, ports: u32, protocol: u8) -> u32 {
        let Self([first, _, third]) = self;
        let rest = u64::from(ports) << 8 | u64::from(protocol);
        let hash = fold(addresses ^ first, rest ^ third);
        (hash >> 32) as u32 ^ hash as u32
    }

    /// Hash of one address, to share out what is kept for each source.
    pub(crate) fn address(self, address: IpAddr) -> u32 {
        (fold(wide(address) ^ self.0[0], self.0[1]) >> 32) as u32
    }
}

/// 128 bits of an address in 64.
fn wide(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => {
            fold((v6.to_bits() >> 64) as u64 ^ 0x9fb2_1c65_1e98_df25, v6.to_bits() as u64 ^ 0xa076_1d64_78bd_642f)
        }
    }
}

/// Multiplies to 128 bits and folds the halves: every bit of the result depends on every bit of both factors.
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests;
