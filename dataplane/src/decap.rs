//! From the core to the site: check the outer headers, take them off, and hand the inner packet to its host.
//!
//! Every check of RFC 9300 §5.3 and §16 that needs no state comes first, in [`read`]; what the packet claims about
//! itself is not believed (the N, L, E and V bits are read by nobody in the public-Internet profile, RFC 9300 §4.1).
//! [`decap`] decides once the inner addresses were looked up. TTL, DSCP and ECN go from the outer to the inner header;
//! nothing of the packet moves.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::{
    batch::Pairs,
    cache::{Entry, Way},
    classify::{Fault, IpHeader, Part, Plain, Rlocs, is_martian, may_be_martian},
    encap::{Context, readdress, rewrite_word},
    frame::{Frame, Umem},
    mapping::{Adjacency, Eid, InstanceId},
    verdict::{Miss, Reason, Verdict, Wanted},
    wire::{
        ethernet::{IPV4, IPV6},
        ipv6,
        lisp::{self, DataHeader},
        protocol::UDP,
        udp::{LISP_DATA, UdpHeader},
        vlan,
    },
    worker::SourceCheck,
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
    /// Octets in front of the outer IP header.
    link: usize,
}

/// A packet from the core, between its two parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CorePacket {
    instance: InstanceId,
    /// Octets of the inner packet.
    total: u16,
    /// Octets in front of it.
    outer: u8,
    outer_tos: u8,
    outer_ttl: u8,
    tos: u8,
    ttl: u8,
    v4: bool,
    /// Octets in front of the outer IP header.
    link: u8,
}

/// Checks all that needs no table, and has both inner addresses looked up.
///
/// # Errors
/// Why the packet is dropped; then nothing is looked up.
#[inline(always)]
pub(crate) fn read(octets: &[u8], context: &Context<'_>, lookups: &mut Pairs) -> Result<CorePacket, Reason> {
    let outer = match read_plain(octets, &context.setup.rlocs) {
        Some(outer) => outer,
        None => read_outer(octets, &context.setup.rlocs)?,
    };
    let inner = &octets[outer.length..outer.length + outer.inner];
    let packet = |total, tos, ttl, v4| CorePacket {
        instance: outer.instance,
        total,
        outer: outer.length as u8,
        outer_tos: outer.tos,
        outer_ttl: outer.ttl,
        tos,
        ttl,
        v4,
        link: outer.link as u8,
    };
    if let Some(Plain { source, destination, total, tos, ttl, .. }) = Plain::read(inner) {
        let odd = may_be_martian(source) | may_be_martian(destination) | context.setup.rlocs.contains_v4(destination);
        if !odd {
            lookups.push_v4(outer.instance, source, destination);
            return Ok(packet(total, tos, ttl, true));
        }
    }
    let header = read_inner(inner, &context.setup.rlocs)?;
    lookups.push(outer.instance, header.source, header.destination);
    Ok(packet(header.total as u16, header.tos, header.ttl, header.source.is_ipv4()))
}

/// The outer headers of nearly all packets over IPv4: as [`OuterHeader`](crate::mapping::OuterHeader) writes them, with
/// no tag in front. `None` for others, and for those with anything wrong.
#[inline(always)]
fn read_plain(octets: &[u8], rlocs: &Rlocs) -> Option<Outer> {
    const LINK: usize = 14;
    const LENGTH: usize = LINK + 20 + UdpHeader::LENGTH + DataHeader::LENGTH;
    let head: &[u8; LENGTH] = octets.first_chunk()?;
    let ip = Plain::read(&octets[LINK..])?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let total = usize::from(ip.total);
    let flags = head[42];
    let right = ([head[12], head[13]] == IPV4.to_be_bytes())
        & (ip.protocol == UDP)
        & (ip.ports as u16 == LISP_DATA)
        & (total >= LENGTH - LINK)
        // UDP length and checksum: zero is what LISP sends.
        & (word(38) == (u32::from(ip.total) - 20) << 16)
        & (flags & lisp::K == 0)
        & !may_be_martian(ip.source)
        & rlocs.contains_v4(ip.destination);
    if !right {
        return None;
    }
    let instance = if flags & lisp::I == 0 { 0 } else { word(46) >> 8 };
    Some(Outer {
        length: LENGTH,
        inner: total - (LENGTH - LINK),
        ttl: ip.ttl,
        tos: ip.tos,
        instance: InstanceId::new(instance).unwrap_or_default(),
        link: LINK,
    })
}

impl CorePacket {
    /// The RLOC it came from; reads the frame again.
    fn rloc(&self, octets: &[u8]) -> IpAddr {
        let ip = &octets[usize::from(self.link)..];
        if ip[0] >> 4 == 4 {
            IpAddr::from([ip[12], ip[13], ip[14], ip[15]])
        } else {
            IpAddr::from(<[u8; 16]>::try_from(&ip[8..24]).expect("16 octets"))
        }
    }

    /// Asks for what is missing for one of the inner addresses; reads the frame again.
    #[cold]
    fn miss(&self, octets: &[u8], wanted: Wanted) -> Miss {
        let instance = self.instance;
        let inner = IpHeader::read(&octets[usize::from(self.outer)..]).expect("it was read before");
        let (source, destination) = match wanted {
            Wanted::Neighbour => (inner.source, inner.destination),
            // The mapping of who sent it.
            Wanted::Mapping => (inner.destination, inner.source),
        };
        Miss { wanted, destination: Eid { instance, address: destination }, source }
    }
}

/// Decides on a packet by what was found for its inner source and destination, and readies the inner one if it can be
/// delivered.
#[inline(always)]
pub(crate) fn decap(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: &CorePacket,
    [source, destination]: [Option<Entry>; 2],
    context: &Context<'_>,
) -> Verdict {
    // Spoofed: packets of the site do not come out of a tunnel (RFC 7835 §2.2.4).
    if source.is_some_and(Entry::is_local) {
        return Verdict::Drop(Reason::InnerSourceLocal);
    }
    let Some(entry) = destination else {
        // Asked last, because packets of an unknown instance find nothing anyway.
        let known = context.cache.knows(packet.instance);
        return Verdict::Drop(if known { Reason::InnerDestinationForeign } else { Reason::UnknownInstance });
    };
    let way = context.cache.way(entry, 0);
    let (Way::Deliver(_) | Way::Unresolved) = way else { return Verdict::Drop(Reason::InnerDestinationForeign) };
    let mut ask = false;
    match context.setup.source_check {
        SourceCheck::Standard => {}
        SourceCheck::Notify => ask = source.is_none(),
        SourceCheck::Secure => match source {
            Some(mapping) if context.cache.has_member(mapping, packet.rloc(umem.octets(frame))) => {}
            Some(_) => return Verdict::Drop(Reason::OuterSourceForeign),
            None => {
                let miss = packet.miss(umem.octets(frame), Wanted::Mapping);
                return Verdict::DropAndAsk(Reason::InnerSourceUnknown, miss);
            }
        },
    }
    let Way::Deliver(adjacency) = way else {
        return Verdict::Miss(packet.miss(umem.octets(frame), Wanted::Neighbour));
    };
    let asked = ask.then(|| packet.miss(umem.octets(frame), Wanted::Mapping));
    let verdict = deliver(umem, frame, packet, adjacency, context);
    let Verdict::Send(_) = verdict else { return verdict };
    context.cache.hit(entry, usize::from(packet.total));
    match (verdict, asked) {
        (Verdict::Send(port), Some(miss)) => Verdict::SendAndAsk(port, miss),
        _ => verdict,
    }
}

#[inline(always)]
fn deliver(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: &CorePacket,
    adjacency: &Adjacency,
    context: &Context<'_>,
) -> Verdict {
    let CorePacket { total, outer, outer_tos, outer_ttl, tos, ttl, v4, .. } = *packet;
    let ecn = Ecn::combine(tos, outer_tos);
    let Some(codepoint) = ecn.codepoint else { return Verdict::Drop(Reason::EcnNotCapable) };
    // The smaller of both; the ETR takes no hop off of its own (RFC 9300 §5.3).
    let hops = ttl.min(outer_ttl);
    if hops == 0 {
        return Verdict::Drop(Reason::InnerTtlExpired);
    }
    let mtu = context.setup.ports.get(usize::from(adjacency.port)).map_or(0, |egress| egress.mtu.min(adjacency.mtu));
    if total > mtu {
        return Verdict::Drop(Reason::InnerTooBig);
    }
    let Some(inner) = readdress(umem, frame, usize::from(outer), total, v4, adjacency) else {
        return Verdict::Drop(Reason::NoHeadroom);
    };
    // DSCP by the uniform model (RFC 9300 §5.3, RFC 2983 §3).
    rewrite(inner, v4, (ttl, hops), (tos, outer_tos & 0xfc | codepoint));
    context.setup.counters.ecn_odd.add(u64::from(ecn.odd));
    context.setup.counters.decapsulated.add(1);
    Verdict::Send(adjacency.port)
}

/// Whether a packet on a port that is site and core at once belongs to the core side: UDP to port 4341 of an RLOC of
/// ours. It need not be well-formed; what only looks like it is counted by [`decap`].
#[inline]
#[must_use]
pub(crate) fn is_for_etr(octets: &[u8], rlocs: &Rlocs) -> bool {
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
    protocol == UDP && port == Some(&LISP_DATA.to_be_bytes()[..]) && rlocs.contains(destination)
}

fn read_outer(octets: &[u8], rlocs: &Rlocs) -> Result<Outer, Reason> {
    let (link, ip) = IpHeader::in_frame(octets).map_err(outer_reason)?;
    if ip.part != Part::Whole || ip.source.is_ipv6() && ip.protocol == ipv6::FRAGMENT {
        return Err(Reason::OuterFragment);
    }
    if !rlocs.contains(ip.destination) {
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
    Ok(Outer { length, inner: inner.len(), ttl: ip.ttl, tos: ip.tos, instance, link })
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

/// Reads an inner header that is not plain, or not of a packet that may come out of a tunnel (RFC 7835 §2.2.4).
fn read_inner(inner: &[u8], rlocs: &Rlocs) -> Result<IpHeader, Reason> {
    let header = IpHeader::read(inner).map_err(inner_reason)?;
    if is_martian(header.source) {
        return Err(Reason::InnerSourceMartian);
    }
    if is_martian(header.destination) {
        return Err(Reason::InnerDestinationMartian);
    }
    if rlocs.contains(header.destination) {
        return Err(Reason::InnerDestinationRloc);
    }
    Ok(header)
}

/// Writes TTL and TOS, each as it was and as it shall be, to the inner header.
#[inline(always)]
fn rewrite(packet: &mut [u8], v4: bool, (ttl, hops): (u8, u8), (tos, new_tos): (u8, u8)) {
    let Some(head) = packet.first_chunk_mut::<20>() else { return };
    if !v4 {
        head[0] = 0x60 | new_tos >> 4;
        head[1] = head[1] & 0x0f | new_tos << 4;
        head[7] = hops;
        return;
    }
    if new_tos != tos {
        rewrite_word(head, 0, [head[0], new_tos]);
    }
    if hops != ttl {
        rewrite_word(head, 8, [hops, head[9]]);
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
