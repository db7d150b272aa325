//! The packets of the benches: UDP between the two sites, bare or LISP-encapsulated.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use altitude_dataplane::{
    mapping::MacAddress,
    wire::{
        ethernet::{self, EthernetHeader},
        ipv4::{Ipv4Header, Options},
        ipv6::Ipv6Header,
        lisp::DataHeader,
        udp::{LISP_DATA, UdpHeader},
    },
};

const UDP: u8 = 17;
/// Room for the longest header stack (Ethernet, IPv6, UDP, LISP, IPv6, UDP: 118 octets), in whole cache lines: copies
/// of a length known beforehand are the cheapest.
pub(super) const HEAD_MAX: usize = 128;

/// Inner and outer address family, IPv4 if true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Families {
    /// Of the site's packets.
    pub inner4: bool,
    /// Of the RLOCs.
    pub outer4: bool,
}

impl Families {
    /// The four mixes.
    pub const ALL: [Self; 4] = [
        Self { inner4: true, outer4: true },
        Self { inner4: true, outer4: false },
        Self { inner4: false, outer4: true },
        Self { inner4: false, outer4: false },
    ];

    /// Inner family, then outer: as `v4v6`.
    #[must_use]
    pub fn name(self) -> String {
        let name = |v4| if v4 { "v4" } else { "v6" };
        format!("{}{}", name(self.inner4), name(self.outer4))
    }
}

impl FromStr for Families {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|families| families.name() == name);
        found.ok_or_else(|| format!("one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Which path packets take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Direction {
    /// From the site to the core.
    Encap,
    /// From the core to the site.
    Decap,
}

impl Direction {
    /// As `encap`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encap => "encap",
            Self::Decap => "decap",
        }
    }
}

/// Lengths of the site's packets, Ethernet header and frame check sequence included, as operators count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// All alike.
    Octets(u16),
    /// The Internet mix: 7 of 64, 4 of 570, 1 of 1518.
    Imix,
}

impl Size {
    /// As `64` or `imix`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Octets(octets) => octets.to_string(),
            Self::Imix => "imix".into(),
        }
    }

    /// Length of the inner IP packet of frame number `frame`. Below the headers' own length it cannot go.
    fn inner(self, frame: usize, families: Families) -> usize {
        const MIX: [u16; 12] = [64, 570, 64, 64, 570, 64, 64, 570, 64, 64, 570, 1518];
        let octets = match self {
            Self::Octets(octets) => octets,
            Self::Imix => MIX[frame % MIX.len()],
        };
        let headers = if families.inner4 { 20 + 8 } else { 40 + 8 };
        (usize::from(octets) - 14 - 4).max(headers)
    }

    /// Lengths of the inner IP packets in the order in which they come, again and again.
    pub(super) fn inners(self, families: Families) -> Vec<usize> {
        let period = if self == Self::Imix { 12 } else { 1 };
        (0..period).map(|frame| self.inner(frame, families)).collect()
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match (name, name.parse()) {
            ("imix", _) => Ok(Self::Imix),
            (_, Ok(octets @ 64..=1518)) => Ok(Self::Octets(octets)),
            _ => Err("imix, or octets from 64 to 1518".into()),
        }
    }
}

pub(super) const SITE_MAC: MacAddress = [2, 0, 0, 0, 1, 1];
pub(super) const OUR_MAC: MacAddress = [2, 0, 0, 0, 1, 2];
pub(super) const CORE_MAC: MacAddress = [2, 0, 0, 0, 2, 1];

pub(super) fn rloc(v4: bool, ours: bool) -> IpAddr {
    let last = if ours { 10 } else { 20 };
    if v4 { Ipv4Addr::new(240, 0, 254, last).into() } else { v6(0xf, 0, last.into()) }
}

/// Hosts of the site: as many as packets in a batch, so that no two next to each other share an address.
pub(super) const HOSTS: u8 = 64;

/// The site's host `number`, below [`HOSTS`].
pub(super) fn local(v4: bool, number: u8) -> IpAddr {
    if v4 { Ipv4Addr::new(1, 1, 1, 1 + number).into() } else { v6(1, 1, 1 + u16::from(number)) }
}

fn v6(site: u16, subnet: u16, host: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, site, subnet, 0, 0, 0, host).into()
}

/// The headers of one packet, and how long it is.
#[derive(Debug, Clone)]
pub(super) struct Template {
    head: [u8; HEAD_MAX],
    total: u16,
}

impl Template {
    /// The headers in their room; what follows them there is zero.
    pub(super) const fn room(&self) -> &[u8; HEAD_MAX] {
        &self.head
    }

    /// Length from the Ethernet header on, without frame check sequence.
    pub(super) const fn total(&self) -> usize {
        self.total as usize
    }
}

/// Where one packet comes from, as far as flows differ in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// The host of our site.
    pub(super) local: IpAddr,
    /// The host at the other site.
    pub(super) remote: IpAddr,
    /// The RLOC before it.
    pub(super) rloc: IpAddr,
    /// UDP source port of the inner packet.
    pub(super) port: u16,
    /// UDP source port of the outer packet.
    pub(super) outer_port: u16,
    /// IPv4 identifications, inner and outer: whoever varies an address in a ready packet lets its sum with this stay
    /// the same, and the checksum with it.
    pub(super) balance: [u16; 2],
}

/// A packet between a host of the site and another one, its inner IP packet `inner` octets long.
pub(super) fn template(direction: Direction, families: Families, ends: Ends, inner: usize) -> Template {
    let (here, there) = (ends.local, ends.remote);
    let mut head = Head { octets: [0; HEAD_MAX], length: 0 };
    let decap = direction == Direction::Decap;
    let first4 = if decap { families.outer4 } else { families.inner4 };
    let ethernet = EthernetHeader {
        destination: OUR_MAC,
        source: if decap { CORE_MAC } else { SITE_MAC },
        ethertype: if first4 { ethernet::IPV4 } else { ethernet::IPV6 },
    };
    ethernet.write(head.next(14));
    let mut total = 14 + inner;
    if decap {
        let outer = if families.outer4 { 20 } else { 40 } + 16;
        head.ip(ends.rloc, rloc(families.outer4, true), ends.balance[1], outer + inner);
        head.udp(ends.outer_port, LISP_DATA, 16 + inner);
        DataHeader::PLAIN.write(head.next(DataHeader::LENGTH));
        total += outer;
    }
    let (source, destination) = if decap { (there, here) } else { (here, there) };
    head.ip(source, destination, ends.balance[0], inner);
    let ip = if families.inner4 { 20 } else { 40 };
    head.udp(ends.port, 2000, inner - ip);
    Template { head: head.octets, total: total as u16 }
}

/// Headers being written, outermost first.
struct Head {
    octets: [u8; HEAD_MAX],
    length: usize,
}

impl Head {
    fn next(&mut self, length: usize) -> &mut [u8] {
        let start = self.length;
        self.length += length;
        &mut self.octets[start..start + length]
    }

    /// `total` is the length of the IP packet.
    fn ip(&mut self, source: IpAddr, destination: IpAddr, identification: u16, total: usize) {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Ipv4Header {
                tos: 0,
                total_length: total as u16,
                identification,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
                ttl: 64,
                protocol: UDP,
                source,
                destination,
                options: Options::NONE,
            }
            .write(self.next(20)),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Ipv6Header {
                traffic_class: 0,
                flow_label: 0,
                payload_length: (total - 40) as u16,
                next_header: UDP,
                hop_limit: 64,
                source,
                destination,
            }
            .write(self.next(40)),
            _ => unreachable!("both addresses are made for one family"),
        }
    }

    fn udp(&mut self, source: u16, destination: u16, length: usize) {
        UdpHeader { source, destination, length: length as u16, checksum: 0 }.write(self.next(UdpHeader::LENGTH));
    }
}
