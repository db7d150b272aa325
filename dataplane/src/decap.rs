//! From the core to the site: check the outer headers, take them off, and hand the inner packet to its host.
//!
//! Every check of RFC 9300 §5.3 and §16 that needs no state comes first; what the packet claims about itself is not
//! believed (the N, L, E and V bits are read by nobody in the public-Internet profile, RFC 9300 §4.1). TTL, DSCP and
//! ECN go from the outer to the inner header; nothing of the packet moves.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::{
    cache::{Delivery, Forwarding},
    classify::{Fault, IPV4, IPV6, IpHeader, Part, is_martian, link_layer},
    encap::{Context, readdress, rewrite_word},
    frame::{Frame, Umem},
    mapping::{Adjacency, Eid, InstanceId},
    verdict::{Miss, Reason, Verdict, Wanted},
};

/// UDP port of LISP data (RFC 9300 §19.1).
const LISP_DATA: u16 = 4341;
const UDP: u8 = 17;
const IPV6_FRAGMENT: u8 = 44;
/// UDP and LISP data header, octets.
const UDP_LISP: usize = 16;

/// What the outer headers say, once they passed.
struct Outer {
    /// Octets in front of the inner packet.
    length: usize,
    /// Octets of the UDP payload behind the LISP header.
    inner: usize,
    ttl: u8,
    tos: u8,
    instance: InstanceId,
}

/// Decides on a packet from the core, and readies the inner one if it can be delivered. `mtu` tells how long a packet
/// a port carries.
#[inline]
pub fn decap(umem: &mut Umem, frame: &mut Frame, context: &Context<'_>, mtu: impl Fn(&Adjacency) -> u16) -> Verdict {
    let octets = umem.octets(frame);
    let outer = match read_outer(octets, context.rlocs) {
        Ok(outer) => outer,
        Err(reason) => return Verdict::Drop(reason),
    };
    let header = match IpHeader::read(&octets[outer.length..outer.length + outer.inner]) {
        Ok(header) => header,
        Err(fault) => return Verdict::Drop(inner_reason(fault)),
    };
    if let Some(reason) = spoofed(&header, outer.instance, context) {
        return Verdict::Drop(reason);
    }
    let Some(entry) = context.cache.lookup(outer.instance, header.destination) else {
        // Asked last, because packets of an unknown instance find nothing anyway.
        let known = context.cache.knows(outer.instance);
        return Verdict::Drop(if known { Reason::InnerDestinationForeign } else { Reason::UnknownInstance });
    };
    let adjacency = match entry.forwarding() {
        Forwarding::Local(Delivery::Adjacent(adjacency)) => adjacency,
        Forwarding::Local(Delivery::Unresolved) => {
            let destination = Eid { instance: outer.instance, address: header.destination };
            return Verdict::Miss(Miss { wanted: Wanted::Neighbour, destination, source: header.source });
        }
        _ => return Verdict::Drop(Reason::InnerDestinationForeign),
    };
    let ecn = Ecn::combine(header.tos, outer.tos);
    let Some(codepoint) = ecn.codepoint else { return Verdict::Drop(Reason::EcnNotCapable) };
    // The smaller of both; the ETR takes no hop off of its own (RFC 9300 §5.3).
    let ttl = header.ttl.min(outer.ttl);
    if ttl == 0 {
        return Verdict::Drop(Reason::InnerTtlExpired);
    }
    if header.total > usize::from(mtu(adjacency)) {
        return Verdict::Drop(Reason::InnerTooBig);
    }
    let Some(packet) = readdress(umem, frame, outer.length, &header, adjacency) else {
        return Verdict::Drop(Reason::NoHeadroom);
    };
    // DSCP by the uniform model (RFC 9300 §5.3, RFC 2983 §3).
    rewrite(packet, &header, ttl, outer.tos & 0xfc | codepoint);
    context.counters.ecn_odd.add(u64::from(ecn.odd));
    context.counters.decapsulated.add(1);
    context.cache.hit(entry, header.total);
    Verdict::Send(adjacency.port)
}

/// Whether a packet on a port that is site and core at once belongs to the core side: UDP to port 4341 of an RLOC of
/// ours. It need not be well-formed; what only looks like it is counted by [`decap`].
#[inline]
#[must_use]
pub fn is_for_etr(octets: &[u8], rlocs: &[IpAddr]) -> bool {
    let Some((ethertype, link)) = link_layer(octets) else { return false };
    let packet = &octets[link..];
    let (destination, protocol, length) = match ethertype {
        IPV4 if packet.len() >= 20 => {
            let to: [u8; 4] = [packet[16], packet[17], packet[18], packet[19]];
            (IpAddr::from(to), packet[9], usize::from(packet[0] & 0xf) * 4)
        }
        IPV6 if packet.len() >= 40 => {
            (IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).expect("16 octets")), packet[6], 40)
        }
        _ => return false,
    };
    let port = packet.get(length + 2..length + 4);
    protocol == UDP && port == Some(&LISP_DATA.to_be_bytes()[..]) && rlocs.contains(&destination)
}

fn read_outer(octets: &[u8], rlocs: &[IpAddr]) -> Result<Outer, Reason> {
    let (link, ip) = IpHeader::in_frame(octets).map_err(outer_reason)?;
    if ip.part != Part::Whole || ip.protocol == IPV6_FRAGMENT && ip.source.is_ipv6() {
        return Err(Reason::OuterFragment);
    }
    if !rlocs.contains(&ip.destination) {
        return Err(Reason::OuterNotOurs);
    }
    if is_martian(ip.source) {
        return Err(Reason::OuterMartian);
    }
    let payload = &octets[link + ip.length..link + ip.total];
    if ip.protocol != UDP {
        return Err(Reason::NotLisp);
    }
    let udp: &[u8; 8] = payload.first_chunk().ok_or(Reason::OuterTruncated)?;
    if u16::from_be_bytes([udp[2], udp[3]]) != LISP_DATA {
        return Err(Reason::NotLisp);
    }
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    if length != payload.len() || length < UDP_LISP {
        return Err(Reason::UdpBadLength);
    }
    // Zero is what LISP sends, over IPv6 too (RFC 6935 §5); anything else has to be right.
    if udp[6..8] != [0, 0] && !udp_checksum_is_right(&ip, payload) {
        return Err(Reason::UdpBadChecksum);
    }
    let lisp: &[u8; 8] = payload[8..].first_chunk().ok_or(Reason::OuterTruncated)?;
    if lisp[0] & KEY_ID != 0 {
        return Err(Reason::Encrypted);
    }
    let instance = match lisp[0] & INSTANCE {
        0 => InstanceId::DEFAULT,
        _ => InstanceId::new(u32::from_be_bytes([0, lisp[4], lisp[5], lisp[6]])).expect("24 bits"),
    };
    let inner = length - UDP_LISP;
    Ok(Outer { length: link + ip.length + UDP_LISP, inner, ttl: ip.ttl, tos: ip.tos, instance })
}

/// I: an Instance-ID is present.
const INSTANCE: u8 = 0x08;
/// KK: the key the payload is encrypted with; 0 is clear text (RFC 8061 §8).
const KEY_ID: u8 = 0x03;

fn outer_reason(fault: Fault) -> Reason {
    match fault {
        Fault::Truncated => Reason::OuterTruncated,
        Fault::NotIp | Fault::BadHeader => Reason::OuterBadHeader,
        Fault::BadChecksum => Reason::OuterBadChecksum,
    }
}

fn inner_reason(fault: Fault) -> Reason {
    match fault {
        Fault::Truncated => Reason::InnerTruncated,
        Fault::NotIp | Fault::BadHeader => Reason::InnerBadHeader,
        Fault::BadChecksum => Reason::InnerBadChecksum,
    }
}

/// Addresses that a packet out of a tunnel must not carry (RFC 7835 §2.2.4).
fn spoofed(header: &IpHeader, instance: InstanceId, context: &Context<'_>) -> Option<Reason> {
    if is_martian(header.source) {
        return Some(Reason::InnerSourceMartian);
    }
    if is_martian(header.destination) {
        return Some(Reason::InnerDestinationMartian);
    }
    if context.rlocs.contains(&header.destination) {
        return Some(Reason::InnerDestinationRloc);
    }
    match context.cache.lookup(instance, header.source).map(crate::cache::Entry::forwarding) {
        Some(Forwarding::Local(_)) => Some(Reason::InnerSourceLocal),
        _ => None,
    }
}

fn udp_checksum_is_right(ip: &IpHeader, datagram: &[u8]) -> bool {
    let words = |octets: &[u8]| {
        let (pairs, odd) = octets.as_chunks::<2>();
        let sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
        sum + odd.first().map_or(0, |last| u64::from(*last) << 8)
    };
    let address = |address: IpAddr| match address {
        IpAddr::V4(v4) => words(&v4.octets()),
        IpAddr::V6(v6) => words(&v6.octets()),
    };
    let length = datagram.len() as u64;
    let mut sum = address(ip.source) + address(ip.destination) + u64::from(UDP) + length + words(datagram);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

/// Writes TTL and TOS to the inner header.
#[inline]
fn rewrite(packet: &mut [u8], header: &IpHeader, ttl: u8, tos: u8) {
    if header.source.is_ipv6() {
        packet[0] = 0x60 | tos >> 4;
        packet[1] = packet[1] & 0x0f | tos << 4;
        packet[7] = ttl;
        return;
    }
    if tos != header.tos {
        rewrite_word(packet, 0, [packet[0], tos]);
    }
    if ttl != header.ttl {
        rewrite_word(packet, 8, [ttl, header.protocol]);
    }
}

/// What becomes of the ECN field on decapsulation.
struct Ecn {
    /// Goes out in the inner header; `None`: the packet must be dropped.
    codepoint: Option<u8>,
    /// A combination that should not happen.
    odd: bool,
}

impl Ecn {
    /// The table of RFC 6040 §4.2, figure 4: row by inner, column by outer; codepoints 00 Not-ECT, 01 ECT(1), 10
    /// ECT(0), 11 CE.
    #[inline]
    fn combine(inner: u8, outer: u8) -> Self {
        const ODD: u8 = 0x10;
        const DROP: u8 = 0x20;
        const TABLE: [[u8; 4]; 4] = [
            // outer: Not-ECT, ECT(1), ECT(0), CE
            [0b00, ODD, ODD, DROP],
            [0b01, 0b01, 0b01 | ODD, 0b11],
            [0b10, 0b01, 0b10, 0b11],
            [0b11, 0b11 | ODD, 0b11, 0b11],
        ];
        let cell = TABLE[usize::from(inner & 3)][usize::from(outer & 3)];
        Self { codepoint: (cell & DROP == 0).then_some(cell & 3), odd: cell & ODD != 0 }
    }
}
