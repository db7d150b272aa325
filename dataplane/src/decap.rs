//! From the core to the site: check the outer headers, take them off, and hand the inner packet to its host.
//!
//! Every check of RFC 9300 §5.3 and §16 that needs no state comes first; what the packet claims about itself is not
//! believed (the N, L, E and V bits are read by nobody in the public-Internet profile, RFC 9300 §4.1). TTL, DSCP and
//! ECN go from the outer to the inner header; nothing of the packet moves.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::{
    cache::Way,
    classify::{Fault, IpHeader, Part, is_martian},
    encap::{Context, readdress, rewrite_word},
    frame::{Frame, Umem},
    mapping::{Adjacency, Eid, InstanceId},
    verdict::{Miss, Reason, Verdict, Wanted},
    wire::{
        ethernet::{IPV4, IPV6},
        ipv6,
        lisp::DataHeader,
        protocol::UDP,
        udp::{LISP_DATA, UdpHeader},
        vlan,
    },
};

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
    let adjacency = match context.cache.way(entry, 0) {
        Way::Deliver(adjacency) => adjacency,
        Way::Unresolved => {
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
    let Ok((ethertype, packet)) = vlan::payload(octets) else { return false };
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
    if ip.part != Part::Whole || ip.source.is_ipv6() && ip.protocol == ipv6::FRAGMENT {
        return Err(Reason::OuterFragment);
    }
    if !rlocs.contains(&ip.destination) {
        return Err(Reason::OuterNotOurs);
    }
    if is_martian(ip.source) {
        return Err(Reason::OuterMartian);
    }
    if ip.protocol != UDP {
        return Err(Reason::NotLisp);
    }
    let payload = &octets[link + ip.length..link + ip.total];
    if payload.len() < UdpHeader::LENGTH {
        return Err(Reason::OuterTruncated);
    }
    let (udp, data) = UdpHeader::split(payload).map_err(|_| Reason::UdpBadLength)?;
    if udp.destination != LISP_DATA {
        return Err(Reason::NotLisp);
    }
    // Octets behind the datagram but inside the IP packet are nothing that an ITR sends.
    if usize::from(udp.length) != payload.len() {
        return Err(Reason::UdpBadLength);
    }
    let (lisp, inner) = DataHeader::split(data).map_err(|_| Reason::UdpBadLength)?;
    // Zero is what LISP sends, over IPv6 too (RFC 6935 §5); anything else has to be right.
    if udp.checksum != 0 && !udp.verifies(ip.source, ip.destination, data) {
        return Err(Reason::UdpBadChecksum);
    }
    if lisp.key != 0 {
        return Err(Reason::Encrypted);
    }
    let instance = InstanceId::new(lisp.instance.unwrap_or(0)).unwrap_or_default();
    let length = link + ip.total - inner.len();
    Ok(Outer { length, inner: inner.len(), ttl: ip.ttl, tos: ip.tos, instance })
}

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
    let local = context.cache.lookup(instance, header.source).is_some_and(|entry| context.cache.is_local(entry));
    local.then_some(Reason::InnerSourceLocal)
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
