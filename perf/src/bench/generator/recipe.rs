//! What packets are made of, and the first packet of each length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use altitude_dataplane::{
    mapping::{InstanceId, MacAddress, Prefix},
    wire::{
        checksum::{fold, pseudo_header, sum},
        ethernet::{self, EthernetHeader},
        ipv4::{Ipv4Header, Options},
        ipv6::Ipv6Header,
        lisp::DataHeader,
        protocol::UDP,
        udp::{LISP_DATA, UdpHeader},
    },
};

use super::{chance::mix, traffic::Distribution};
use crate::bench::{Direction, Size};

/// What a probe's payload starts with; its time stamp follows: nanoseconds of CLOCK_MONOTONIC, 8 octets in network order.
pub(super) const MAGIC: [u8; 8] = *b"altprobe";
/// Octets of a probe's payload.
const PROBE: usize = 16;
const ETHERNET: usize = EthernetHeader::LENGTH;
/// First UDP source port of the inner packets, and how many are used before the destination port changes. All ports are
/// dynamic ones (RFC 6335 §6): whoever looks into the packets takes them for no protocol, damaged as it would be.
const PORTS: (u32, u32) = (49_152, 11_848);
/// First UDP destination port of the inner packets.
const SERVICE: u32 = PORTS.0 + PORTS.1;

/// Which packets a stream is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Link-layer source and destination.
    pub macs: (MacAddress, MacAddress),
    /// [`Direction::Encap`]: plain packets from the near host to far ones. [`Direction::Decap`]: LISP packets that carry
    /// packets from far hosts to the near one.
    pub direction: Direction,
    /// Whether the RLOCs are of IPv4.
    pub outer4: bool,
    /// Length of the packets inside; LISP adds to it.
    pub size: Size,
    /// The site's host, by its EID. Its family is the inner one.
    pub near: IpAddr,
    /// Prefixes of the far hosts' EIDs, of the same family.
    pub far: Vec<Prefix>,
    /// Prefixes of those without a mapping.
    pub strangers: Vec<Prefix>,
    /// RLOCs in the outer header, source and destination; of one family.
    pub rlocs: (IpAddr, IpAddr),
    /// Instance-ID in the LISP header.
    pub instance: Option<InstanceId>,
    /// Flows to far hosts, spread over the prefixes in turns; as many to strangers if there are any.
    pub flows: u32,
    /// Which flow each packet belongs to.
    pub distribution: Distribution,
    /// Share of packets of far hosts, percent; the rest is of strangers.
    pub hit_percent: u8,
    /// Every so many-th packet is a probe.
    pub probes: Option<u32>,
}

/// Where a flow's octets are in a frame; 0 is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Places {
    pub(super) address: usize,
    /// Of the inner UDP header, both.
    pub(super) ports: usize,
    pub(super) outer_port: usize,
    pub(super) ip_sum: usize,
    pub(super) udp_sum: usize,
    pub(super) stamp: usize,
}

/// A frame of one length without what differs by flow. The sums are folded; what differs is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    /// Length of the frame.
    pub(super) total: usize,
    /// Its first octets; all beyond are zero.
    pub(super) head: Vec<u8>,
    /// Of the inner IPv4 header.
    pub(super) ip_sum: u16,
    /// Of the inner UDP checksum.
    pub(super) udp_sum: u16,
}

/// What differs by flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) address: IpAddr,
    /// Inner UDP ports.
    pub(super) ports: (u16, u16),
    /// Outer UDP source port.
    pub(super) outer_port: u16,
}

impl Flow {
    /// What the flow adds to the sum of the inner IPv4 header.
    pub(super) fn ip_sum(&self) -> u16 {
        match self.address {
            IpAddr::V4(address) => fold(sum(&address.octets())),
            IpAddr::V6(address) => fold(sum(&address.octets())),
        }
    }

    /// What the flow adds to the sum of the inner UDP checksum.
    pub(super) fn udp_sum(&self) -> u16 {
        fold(u32::from(self.ip_sum()) + u32::from(self.ports.0) + u32::from(self.ports.1))
    }
}

impl Recipe {
    const fn inner4(&self) -> bool {
        self.near.is_ipv4()
    }

    const fn ip_length(v4: bool) -> usize {
        if v4 { 20 } else { 40 }
    }

    /// Octets of the outer IP, UDP and LISP headers.
    fn outer_length(&self) -> usize {
        match self.direction {
            Direction::Encap => 0,
            Direction::Decap => Self::ip_length(self.outer4) + UdpHeader::LENGTH + DataHeader::LENGTH,
        }
    }

    /// Octets of all headers.
    fn headers(&self) -> usize {
        ETHERNET + self.outer_length() + Self::ip_length(self.inner4()) + UdpHeader::LENGTH
    }

    pub(super) fn places(&self) -> Places {
        let inner4 = self.inner4();
        let ip = ETHERNET + self.outer_length();
        let udp = ip + Self::ip_length(inner4);
        let decap = self.direction == Direction::Decap;
        let address = match (inner4, decap) {
            (true, true) => 12,
            (true, false) => 16,
            (false, true) => 8,
            (false, false) => 24,
        };
        Places {
            address: ip + address,
            ports: udp,
            outer_port: if decap { ETHERNET + Self::ip_length(self.outer4) } else { 0 },
            ip_sum: if inner4 { ip + 10 } else { 0 },
            udp_sum: udp + 6,
            stamp: udp + UdpHeader::LENGTH + MAGIC.len(),
        }
    }

    /// The lengths that come, each once, and which of them each packet has, over and over.
    pub(super) fn classes(&self) -> (Vec<Class>, Vec<usize>) {
        const MIX: [usize; 12] = [64, 570, 64, 64, 570, 64, 64, 570, 64, 64, 570, 1518];
        let sizes = match self.size {
            Size::Octets(octets) => vec![usize::from(octets)],
            Size::Imix => MIX.to_vec(),
        };
        let mut distinct = sizes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let turns = sizes.iter().filter_map(|size| distinct.binary_search(size).ok()).collect();
        (distinct.into_iter().map(|size| self.class(self.inner_length(size, false), false)).collect(), turns)
    }

    /// A probe: as long as the smallest packet, or as its stamp needs.
    pub(super) fn probe(&self) -> Class {
        let size = if let Size::Octets(octets) = self.size { usize::from(octets) } else { 64 };
        self.class(self.inner_length(size, true), true)
    }

    /// Length of the inner packet of a frame of `size` octets, or the least that there can be. The frame check sequence
    /// counts four.
    fn inner_length(&self, size: usize, probe: bool) -> usize {
        let payload = if probe { PROBE } else { 0 };
        let least = Self::ip_length(self.inner4()) + UdpHeader::LENGTH + payload;
        (size - ETHERNET - 4).max(least)
    }

    fn class(&self, inner: usize, probe: bool) -> Class {
        let decap = self.direction == Direction::Decap;
        let outer = self.outer_length();
        let total = ETHERNET + outer + inner;
        let first4 = if decap { self.outer4 } else { self.inner4() };
        let mut head = vec![0; (self.headers() + PROBE).min(total)];
        let ethertype = if first4 { ethernet::IPV4 } else { ethernet::IPV6 };
        EthernetHeader { destination: self.macs.1, source: self.macs.0, ethertype }.write(&mut head);
        let (ip, lisp) = (ETHERNET + outer, ETHERNET + outer - if decap { DataHeader::LENGTH } else { 0 });
        if decap {
            write_ip(&mut head[ETHERNET..], self.rlocs, outer + inner);
            let udp = UdpHeader { source: 0, destination: LISP_DATA, length: (16 + inner) as u16, checksum: 0 };
            udp.write(&mut head[lisp - UdpHeader::LENGTH..]);
            let instance = self.instance.map(InstanceId::get);
            DataHeader { instance, ..DataHeader::PLAIN }.write(&mut head[lisp..]);
        }
        // The address that differs by flow is zero.
        let none: IpAddr = if self.inner4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let ends = if decap { (none, self.near) } else { (self.near, none) };
        write_ip(&mut head[ip..], ends, inner);
        let udp = ip + Self::ip_length(self.inner4());
        let length = (inner - Self::ip_length(self.inner4())) as u16;
        UdpHeader { source: 0, destination: 0, length, checksum: 0 }.write(&mut head[udp..]);
        if probe {
            head[udp + UdpHeader::LENGTH..][..MAGIC.len()].copy_from_slice(&MAGIC);
        }
        let pseudo = fold(pseudo_header(ends.0, ends.1, UDP, length.into()));
        let udp_sum = fold(u32::from(pseudo) + u32::from(fold(sum(&head[udp..]))));
        let ip_sum = if self.inner4() {
            head[ip + 10..ip + 12].fill(0);
            fold(sum(&head[ip..udp]))
        } else {
            0
        };
        Class { total, head, ip_sum, udp_sum }
    }

    /// Flow `index` to a far host, or to a stranger.
    pub(super) fn flow(&self, index: u32, stranger: bool) -> Flow {
        let prefixes = if stranger { &self.strangers } else { &self.far };
        let turn = index / prefixes.len() as u32;
        let address = host(&prefixes[index as usize % prefixes.len()], turn);
        let ports = (PORTS.0 + turn % PORTS.1, SERVICE + turn / PORTS.1);
        // As an ITR does: the upper quarter of the ports, by a hash of the flow (RFC 9300 §4.1).
        let outer_port = 0xc000 | (mix(u64::from(index) << 1 | u64::from(stranger)) & 0x3fff) as u16;
        Flow { address, ports: (ports.0 as u16, ports.1 as u16), outer_port }
    }
}

/// `length` is that of the packet.
fn write_ip(octets: &mut [u8], ends: (IpAddr, IpAddr), length: usize) {
    match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ipv4Header {
            tos: 0,
            total_length: length as u16,
            identification: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            protocol: UDP,
            source,
            destination,
            options: Options::NONE,
        }
        .write(octets),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ipv6Header {
            traffic_class: 0,
            flow_label: 0,
            payload_length: (length - 40) as u16,
            next_header: UDP,
            hop_limit: 64,
            source,
            destination,
        }
        .write(octets),
        _ => unreachable!("both ends are checked to be of one family"),
    }
}

/// Prefix `index` of `site`, a /24 or /64; each of 2²⁰ is another one.
pub(super) fn site(v4: bool, site: u8, index: u32) -> Prefix {
    let address: IpAddr = if v4 {
        Ipv4Addr::from_bits((u32::from(site) << 24 | 2 << 16).wrapping_add(index << 8)).into()
    } else {
        // 2001:db8:site:index::, and the next block of addresses for each 65,536.
        Ipv6Addr::new(0x2001, 0xdb8 + (index >> 16) as u16, site.into(), index as u16, 0, 0, 0, 0).into()
    };
    Prefix::new(address, if v4 { 24 } else { 64 }).expect("a length of the family")
}

/// The `turn`-th host in a prefix: spread over it, never the first or the last address if there are others.
pub(super) fn host(prefix: &Prefix, turn: u32) -> IpAddr {
    let bits = if prefix.address().is_ipv4() { 32 } else { 128 } - u32::from(prefix.length());
    let number = match bits {
        0 => 0,
        1 => turn & 1,
        _ => {
            let room = (1_u64 << bits.min(32)) - 2;
            // The golden ratio's multiples lie evenly spread, however many there are.
            1 + ((u64::from(turn.wrapping_mul(0x9e37_79b1)) * room) >> 32) as u32
        }
    };
    match prefix.address() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() | number).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() | u128::from(number)).into(),
    }
}
