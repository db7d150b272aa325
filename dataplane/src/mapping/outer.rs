//! The outer header of one locator, compiled to octets before any packet needs it.

use std::net::IpAddr;

use super::InstanceId;
use crate::wire::udp::{LISP_CONTROL, LISP_DATA};

/// Longest outer header: Ethernet with two VLAN tags, IPv6, UDP, LISP.
pub const OUTER_MAX: usize = 14 + 2 * 4 + 40 + 8 + 8;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
/// UDP and LISP data header, octets.
const UDP_LISP: usize = 16;
/// Ethernet without a tag, octets.
const LINK: usize = 14;
/// Whole headers behind it.
const PLAIN_V4: usize = LINK + 20 + UDP_LISP;
const PLAIN_V6: usize = LINK + 40 + UDP_LISP;

/// A 48-bit MAC address in wire order.
pub type MacAddress = [u8; 6];

/// Index of a port in the order of the command line; every worker numbers its ports alike.
pub type PortIndex = u8;

/// One VLAN tag: TPID (0x8100 or 0x88a8) and TCI, host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// Tag protocol identifier.
    pub tpid: u16,
    /// Priority, DEI and VLAN-ID.
    pub tci: u16,
}

/// How frames reach the next hop: out of which port, with which link-layer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Adjacency {
    /// Egress port.
    pub port: PortIndex,
    /// Next hop's address.
    pub destination: MacAddress,
    /// Egress port's own address.
    pub source: MacAddress,
    /// Tag to add, if the next hop lives in a VLAN.
    pub vlan: Option<VlanTag>,
    /// Largest IP packet the link carries, octets.
    pub mtu: u16,
}

impl Adjacency {
    /// Writes the link-layer header to the front of `octets` and returns its length; `octets` must hold 18.
    #[inline(always)]
    pub fn write(&self, ethertype: u16, octets: &mut [u8]) -> usize {
        let octets = &mut octets[..18];
        octets[0..6].copy_from_slice(&self.destination);
        octets[6..12].copy_from_slice(&self.source);
        let mut at = 12;
        if let Some(tag) = self.vlan {
            octets[12..14].copy_from_slice(&tag.tpid.to_be_bytes());
            octets[14..16].copy_from_slice(&tag.tci.to_be_bytes());
            at = 16;
        }
        octets[at..at + 2].copy_from_slice(&ethertype.to_be_bytes());
        at + 2
    }

    /// Length of the link-layer header this adjacency writes: 14 or 18 octets.
    #[must_use]
    pub const fn link_length(&self) -> usize {
        if self.vlan.is_some() { 18 } else { 14 }
    }
}

/// What changes from packet to packet in an outer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Length of the inner IP packet, octets.
    pub inner_length: u16,
    /// TTL or Hop Limit of the inner header after our decrement (RFC 9300 §5.3).
    pub ttl: u8,
    /// Inner TOS or Traffic Class, DSCP and ECN (RFC 6040 §4.1, normal mode).
    pub tos: u8,
    /// Hash of the inner flow, which the source port comes from (RFC 9300 §12).
    pub flow: u32,
}

/// The UDP ports of an outer header. By default the source port is one of 49152 … 65535 for each flow, never 4341 or 4342
/// (RFC 9300 §12), and the destination port that of the LISP data plane.
///
/// Where a NAT is in between, both may be others: to an xTR behind it an RTR sends from its control port to the port that the NAT
/// has for the xTR, and the xTR itself sends from one port alone (draft-ermagan-lisp-nat-traversal-19 §5.1.3, §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ports {
    /// The same for all flows; `None`: by flow.
    pub source: Option<u16>,
    /// Of the far end.
    pub destination: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { source: None, destination: LISP_DATA }
    }
}

/// Of a source port by flow: what all have in common, and what the flow's hash decides.
const FLOW_PORTS: u16 = 0xc000;
const FLOW_MASK: u16 = 0x3fff;

/// What the LISP headers towards one locator carry where echo-nonce is on (RFC 9300 §10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce {
    /// 24 bits.
    pub value: u32,
    /// E: it is asked back. Without it is the one that was asked of us.
    pub echo: bool,
}

impl Nonce {
    /// The largest.
    pub const MAX: u32 = 0x00ff_ffff;
}

/// Ethernet, IP, UDP and LISP header towards one locator, ready but for [`Patch`]. Two cache lines; over untagged IPv4
/// only the first is read, and all of it is in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[repr(C, align(64))]
pub struct OuterHeader {
    /// One's-complement sum of the IPv4 header with length, TOS and TTL zero; not folded.
    sum: u32,
    /// Largest inner packet that fits the egress link, octets.
    inner_limit: u16,
    /// The source port, but for the bits that the flow decides: none where it is fixed.
    port_base: u16,
    port_mask: u16,
    /// Octets in use.
    length: u8,
    /// Where the IP header starts.
    link: u8,
    /// Egress port.
    port: PortIndex,
    ipv6: bool,
    octets: [u8; OUTER_MAX],
}

impl OuterHeader {
    /// Compiles the header from `source` to `destination`, both RLOCs of one family; `None` if the families differ.
    ///
    /// The UDP checksum is zero (RFC 6935 §5), DF is set (RFC 9300 §7.1), and of the flags only I can be set, for an
    /// instance other than the default (RFC 9300 §4.1, §8).
    #[must_use]
    pub fn new(adjacency: &Adjacency, source: IpAddr, destination: IpAddr, instance: InstanceId) -> Option<Self> {
        let mut octets = [0; OUTER_MAX];
        let (link, udp, sum, ipv6) = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let link = adjacency.write(IPV4, &mut octets);
                let ip = &mut octets[link..link + 20];
                ip[0] = 0x45;
                ip[6] = 0x40; // DF
                ip[9] = UDP;
                ip[12..16].copy_from_slice(&source.octets());
                ip[16..20].copy_from_slice(&destination.octets());
                let sum = ip.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
                (link, link + 20, sum, false)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let link = adjacency.write(IPV6, &mut octets);
                let ip = &mut octets[link..link + 40];
                ip[0] = 0x60;
                ip[6] = UDP;
                ip[8..24].copy_from_slice(&source.octets());
                ip[24..40].copy_from_slice(&destination.octets());
                (link, link + 40, 0, true)
            }
            _ => return None,
        };
        octets[udp + 2..udp + 4].copy_from_slice(&LISP_DATA.to_be_bytes());
        if instance != InstanceId::DEFAULT {
            octets[udp + 8] = 0x08; // I
            octets[udp + 12..udp + 16].copy_from_slice(&(instance.get() << 8).to_be_bytes());
        }
        let length = udp + UDP_LISP;
        Some(Self {
            octets,
            length: length as u8,
            link: link as u8,
            port: adjacency.port,
            ipv6,
            sum,
            port_base: FLOW_PORTS,
            port_mask: FLOW_MASK,
            inner_limit: adjacency.mtu.saturating_sub((length - link) as u16),
        })
    }

    /// The same with a nonce.
    #[must_use]
    pub fn with_nonce(mut self, nonce: Option<Nonce>) -> Self {
        if let Some(Nonce { value, echo }) = nonce {
            let lisp = self.len() - 8;
            self.octets[lisp] |= if echo { 0xa0 } else { 0x80 }; // N, and E
            self.octets[lisp + 1..lisp + 4].copy_from_slice(&value.to_be_bytes()[1..]);
        }
        self
    }

    /// The same with other UDP ports.
    #[must_use]
    pub fn with_ports(mut self, ports: Ports) -> Self {
        let udp = self.len() - UDP_LISP;
        self.octets[udp + 2..udp + 4].copy_from_slice(&ports.destination.to_be_bytes());
        (self.port_base, self.port_mask) = match ports.source {
            Some(port) => (port, 0),
            None => (FLOW_PORTS, FLOW_MASK),
        };
        self
    }

    /// Its UDP ports.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let udp = self.len() - UDP_LISP;
        Ports {
            source: (self.port_mask == 0).then_some(self.port_base),
            destination: u16::from_be_bytes([self.octets[udp + 2], self.octets[udp + 3]]),
        }
    }

    /// Whether it leads to a port of a NAT's, and not to the LISP data plane of its destination. A NAT may keep the port that it is
    /// given, but lets in what comes from where that led to alone.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        let Ports { source, destination } = self.ports();
        destination != LISP_DATA || source == Some(LISP_CONTROL)
    }

    /// Octets in front of the inner packet, link layer included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Port to send through.
    #[must_use]
    pub const fn port(&self) -> PortIndex {
        self.port
    }

    /// Largest inner packet that fits the egress link, octets: S = L − H of RFC 9300 §7.1.
    #[must_use]
    pub const fn inner_limit(&self) -> usize {
        self.inner_limit as usize
    }

    /// Address the header sends to.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        let ip = &self.octets[self.link as usize..];
        if self.ipv6 {
            IpAddr::from(<[u8; 16]>::try_from(&ip[24..40]).expect("16 octets"))
        } else {
            IpAddr::from(<[u8; 4]>::try_from(&ip[16..20]).expect("4 octets"))
        }
    }

    /// Copies the header to the front of `frame`, where [`len`](Self::len) octets must be free, and patches it.
    ///
    /// Without a VLAN tag the length is known beforehand: the copy is a few moves of whole registers, and one comparison
    /// carries every access.
    #[inline(always)]
    pub fn stamp(&self, frame: &mut [u8], patch: &Patch) {
        match self.len() {
            PLAIN_V4 if let Some(header) = frame.first_chunk_mut::<PLAIN_V4>() => {
                header.copy_from_slice(&self.octets[..PLAIN_V4]);
                self.patch_v4(&mut header[LINK..], patch);
            }
            PLAIN_V6 if let Some(header) = frame.first_chunk_mut::<PLAIN_V6>() => {
                header.copy_from_slice(&self.octets[..PLAIN_V6]);
                self.patch_v6(&mut header[LINK..], patch);
            }
            _ => self.stamp_tagged(frame, patch),
        }
    }

    #[cold]
    #[inline(never)]
    fn stamp_tagged(&self, frame: &mut [u8], patch: &Patch) {
        let header = &mut frame[..self.len()];
        header.copy_from_slice(&self.octets[..self.len()]);
        let ip = &mut header[self.link as usize..];
        if self.ipv6 {
            self.patch_v6(ip, patch);
        } else {
            self.patch_v4(ip, patch);
        }
    }

    #[inline(always)]
    fn patch_v4(&self, ip: &mut [u8], patch: &Patch) {
        let udp_length = patch.inner_length + UDP_LISP as u16;
        let total = udp_length + 20;
        ip[1] = patch.tos;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip[8] = patch.ttl;
        let sum = self.sum + u32::from(patch.tos) + u32::from(total) + (u32::from(patch.ttl) << 8);
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        ip[20..22].copy_from_slice(&self.source_port(patch.flow).to_be_bytes());
        ip[24..26].copy_from_slice(&udp_length.to_be_bytes());
    }

    #[inline(always)]
    fn patch_v6(&self, ip: &mut [u8], patch: &Patch) {
        let udp_length = patch.inner_length + UDP_LISP as u16;
        ip[0] = 0x60 | patch.tos >> 4;
        ip[1] = patch.tos << 4;
        ip[4..6].copy_from_slice(&udp_length.to_be_bytes());
        ip[7] = patch.ttl;
        ip[40..42].copy_from_slice(&self.source_port(patch.flow).to_be_bytes());
        ip[44..46].copy_from_slice(&udp_length.to_be_bytes());
    }

    /// Without a branch, as nobody can foretell which kind the next header is.
    #[inline(always)]
    const fn source_port(&self, flow: u32) -> u16 {
        self.port_base | flow as u16 & self.port_mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjacency(vlan: Option<VlanTag>) -> Adjacency {
        Adjacency { port: 1, destination: [2, 0, 0, 0, 0, 2], source: [2, 0, 0, 0, 0, 1], vlan, mtu: 1500 }
    }

    const PATCH: Patch = Patch { inner_length: 45, ttl: 63, tos: 0, flow: 0x5e5e_01a5 };

    #[test]
    fn v4_header_is_the_one_of_vector_d01() {
        // Frame of vector D01 up to the LISP header; the checksum was verified with tshark (there TTL 63, DF set).
        let expected = "0200000000020200000000010800\
                        45000051000040003f11c397cb007101cb007102\
                        c1a510f5003d00000000000000000000";
        let header =
            OuterHeader::new(&adjacency(None), [203, 0, 113, 1].into(), [203, 0, 113, 2].into(), InstanceId::DEFAULT)
                .unwrap();
        let mut frame = [0xee; OUTER_MAX];
        header.stamp(&mut frame, &PATCH);
        let shown: String = frame[..header.len()].iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(shown, expected);
        assert_eq!(header.inner_limit(), 1464);
        assert_eq!(header.destination(), IpAddr::from([203, 0, 113, 2]));
    }

    /// RCH-15: LISP headers of vectors D05, which asks for a nonce, and D06, which gives it back; beside an Instance-ID too.
    #[test]
    fn a_nonce_is_in_the_ready_header() {
        let lisp = |instance: u32, nonce: Option<Nonce>, vlan: Option<VlanTag>| {
            let (from, to) = ([203, 0, 113, 1].into(), [203, 0, 113, 2].into());
            let header = OuterHeader::new(&adjacency(vlan), from, to, InstanceId::new(instance).unwrap()).unwrap();
            let mut frame = [0xee; OUTER_MAX];
            header.with_nonce(nonce).stamp(&mut frame, &PATCH);
            let length = if vlan.is_some() { 54 } else { 50 };
            let shown: String = frame[length - 8..length].iter().map(|octet| format!("{octet:02x}")).collect();
            shown
        };
        let nonce = |echo| Some(Nonce { value: 0xbeef, echo });
        assert_eq!(lisp(0, nonce(true), None), "a000beef00000000");
        assert_eq!(lisp(0, nonce(false), None), "8000beef00000000");
        assert_eq!(lisp(7, nonce(true), Some(VlanTag { tpid: 0x8100, tci: 7 })), "a800beef00000700");
        assert_eq!(lisp(7, Some(Nonce { value: u32::MAX, echo: false }), None), "88ffffff00000700");
        assert_eq!(lisp(0, None, None), "0000000000000000");
    }

    /// RTR-9, RTR-10: either port may be another one than usual, and a fixed source port is that of all flows.
    #[test]
    fn ports_are_those_that_were_asked_for() {
        for (to, vlan) in [
            ("203.0.113.2", None),
            ("203.0.113.2", Some(VlanTag { tpid: 0x8100, tci: 7 })),
            ("2001:db8::2", None),
            ("2001:db8::2", Some(VlanTag { tpid: 0x8100, tci: 7 })),
        ] {
            let from = if to.contains(':') { "2001:db8::1" } else { "203.0.113.1" };
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let plain = OuterHeader::new(&adjacency(vlan), from, to, InstanceId::DEFAULT).unwrap();
            let shown = |header: &OuterHeader, flow: u32| {
                let mut frame = [0xee; OUTER_MAX];
                header.stamp(&mut frame, &Patch { flow, ..PATCH });
                let udp = header.len() - 16;
                let word = |at: usize| u16::from_be_bytes([frame[udp + at], frame[udp + at + 1]]);
                (word(0), word(2))
            };
            let fixed = Ports { source: Some(4342), destination: 20_001 };
            let translated = plain.clone().with_ports(fixed);
            assert_eq!(translated.ports(), fixed);
            assert_eq!([0, 7, u32::MAX].map(|flow| shown(&translated, flow)), [(4342, 20_001); 3]);
            let zero = plain.clone().with_ports(Ports { source: Some(0), ..Ports::default() });
            // One port for all flows is what an xTR behind a NAT has, and no NAT's.
            let kept = plain.clone().with_ports(Ports { source: Some(4342), destination: 4341 });
            let all = [&plain, &zero, &translated, &kept];
            assert_eq!(all.map(OuterHeader::is_translated), [false, false, true, true]);
            assert_eq!(shown(&zero, u32::MAX), (0, 4341));
            assert_eq!(plain.ports(), Ports::default());
            assert_eq!([0, 7, u32::MAX].map(|flow| shown(&plain, flow).0), [0xc000, 0xc007, 0xffff]);
            assert_eq!(translated.with_ports(Ports::default()), plain, "nothing else differs");
        }
    }

    #[test]
    fn v6_header_carries_tos_ttl_and_lengths() {
        let header = OuterHeader::new(
            &adjacency(Some(VlanTag { tpid: 0x8100, tci: 7 })),
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
            InstanceId::new(0xabcd).unwrap(),
        )
        .unwrap();
        let mut frame = [0; OUTER_MAX];
        header.stamp(&mut frame, &Patch { tos: 0xb9, ..PATCH });
        assert_eq!(header.len(), 18 + 56);
        assert_eq!(frame[12..18], [0x81, 0, 0, 7, 0x86, 0xdd]);
        assert_eq!(frame[18..26], [0x6b, 0x90, 0, 0, 0, 61, 17, 63]);
        assert_eq!(frame[58..66], [0xc1, 0xa5, 0x10, 0xf5, 0, 61, 0, 0]);
        assert_eq!(frame[66..74], [0x08, 0, 0, 0, 0x00, 0xab, 0xcd, 0]);
        assert_eq!(header.inner_limit(), 1444);
    }

    #[test]
    fn every_patch_leaves_a_right_ipv4_checksum() {
        let header =
            OuterHeader::new(&adjacency(None), [240, 0, 254, 10].into(), [240, 0, 254, 20].into(), InstanceId::DEFAULT)
                .unwrap();
        let mut frame = [0; OUTER_MAX];
        for tos in 0..=255 {
            for (ttl, inner_length) in [(1, 20), (64, 1464), (255, 65_479)] {
                header.stamp(&mut frame, &Patch { inner_length, ttl, tos, flow: u32::MAX });
                let sum: u32 = frame[14..34].chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
                assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "tos {tos} ttl {ttl}");
            }
        }
    }

    #[test]
    fn families_do_not_mix() {
        let mixed = OuterHeader::new(
            &adjacency(None),
            "2001:db8::1".parse().unwrap(),
            [240, 0, 254, 20].into(),
            InstanceId::DEFAULT,
        );
        assert_eq!(mixed, None);
    }
}
