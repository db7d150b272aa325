//! From the core to the site: check the outer headers, take them off, and hand the inner packet to its host.
//!
//! Every check of RFC 9300 §5.3 and §16 that needs no state comes first, in `read`; what the packet claims about
//! itself is not believed (the N, L, E and V bits are read by nobody in the public-Internet profile, RFC 9300 §4.1; where a
//! header feature is on, [`features`] reads them).
//! `decap` decides once the inner addresses were looked up. TTL, DSCP and ECN go from the outer to the inner header,
//! DSCP unless the settings say otherwise; nothing of the packet moves.

#![forbid(unsafe_code)]

mod onward;
mod packet;

use std::net::IpAddr;

pub(crate) use packet::CorePacket;
use packet::{Inner, Outer};

use crate::{
    batch::{Questions, Word},
    cache::{Entry, Way},
    classify::{Fault, IpHeader, Part, Plain, PlainV6, Rlocs, is_martian, may_be_martian, may_be_martian_v6},
    encap::{Context, Setup, readdress, rewrite_word, tos_and_ttl},
    features,
    frame::{Frame, Umem},
    mapping::{InstanceId, NextHop, PortIndex},
    sightings::Desk,
    verdict::{Reason, Verdict, Wanted},
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

/// Checks all that needs no entry, and has the inner destination looked up; the source where its entry is needed. Of a
/// packet that is dropped nothing is looked up.
#[inline(always)]
pub(crate) fn read(octets: &[u8], setup: &Setup, questions: &mut Questions<'_, '_>) -> Word {
    let plain = read_plain(octets, &setup.rlocs).and_then(|outer| read_plain_inner(octets, &outer, setup, questions));
    match plain {
        Some(packet) => Word::core(packet),
        None => read_any(octets, setup, questions).map_or_else(Word::lost, Word::core),
    }
}

/// As [`read`], of whatever a frame may hold.
///
/// # Errors
/// Why the packet is dropped.
#[inline(never)]
fn read_any(octets: &[u8], setup: &Setup, questions: &mut Questions<'_, '_>) -> Result<CorePacket, Reason> {
    let outer = match read_plain_v6(octets, &setup.rlocs) {
        Some(outer) => outer,
        None => read_outer(octets, &setup.rlocs)?,
    };
    if let Some(packet) = read_plain_inner(octets, &outer, setup, questions) {
        return Ok(packet);
    }
    let header = read_inner(&octets[outer.length..outer.length + outer.inner], &setup.rlocs)?;
    let ours = questions.is_ours(outer.instance, header.source);
    let asks = asks(ours, setup.asks_sources).ok_or(Reason::InnerSourceLocal)?;
    questions.push(outer.instance, asks.then_some(header.source), header.destination);
    let IpHeader { total, tos, ttl, .. } = header;
    Ok(CorePacket::new(&outer, &Inner { v4: header.source.is_ipv4(), total: total as u16, tos, ttl }, asks))
}

/// Whether a source's entry has to be looked up, by what is known of whether it is ours. `None` if it is: packets of the
/// site do not come out of a tunnel, it is spoofed (RFC 7835 §2.2.4).
#[inline(always)]
fn asks(ours: Option<bool>, asks_sources: bool) -> Option<bool> {
    match ours {
        Some(true) => None,
        Some(false) => Some(asks_sources),
        None => Some(true),
    }
}

/// The inner headers of nearly all packets. `None` for others, and for those with anything wrong.
#[inline(always)]
fn read_plain_inner(
    octets: &[u8],
    outer: &Outer,
    setup: &Setup,
    questions: &mut Questions<'_, '_>,
) -> Option<CorePacket> {
    let Setup { rlocs, asks_sources, .. } = setup;
    let inner = &octets[outer.length..outer.length + outer.inner];
    if let Some(Plain { source, destination, total, tos, ttl, .. }) = Plain::read(inner) {
        if may_be_martian(source) | may_be_martian(destination) | rlocs.contains_v4(destination) {
            return None;
        }
        let asks = asks(questions.is_ours_v4(outer.instance, source), *asks_sources)?;
        questions.push_v4(outer.instance, asks.then_some(source), destination);
        return Some(CorePacket::new(outer, &Inner { v4: true, total, tos, ttl }, asks));
    }
    let PlainV6 { source, destination, total, tos, ttl, .. } = PlainV6::read(inner)?;
    if may_be_martian_v6(source) | may_be_martian_v6(destination) | rlocs.contains_v6(destination) {
        return None;
    }
    let asks = asks(questions.is_ours_v6(outer.instance, source), *asks_sources)?;
    questions.push_v6(outer.instance, asks.then_some(source), destination);
    Some(CorePacket::new(outer, &Inner { v4: false, total: total as u16, tos, ttl }, asks))
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
        link: LINK,
        length: LENGTH,
        inner: total - (LENGTH - LINK),
        instance: InstanceId::new(instance).unwrap_or_default(),
        tos: ip.tos,
        ttl: ip.ttl,
    })
}

/// As [`read_plain`], over IPv6.
#[inline(always)]
fn read_plain_v6(octets: &[u8], rlocs: &Rlocs) -> Option<Outer> {
    const LINK: usize = 14;
    const LENGTH: usize = LINK + 40 + UdpHeader::LENGTH + DataHeader::LENGTH;
    let head: &[u8; LENGTH] = octets.first_chunk()?;
    let ip = PlainV6::read(&octets[LINK..])?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let flags = head[62];
    let right = ([head[12], head[13]] == IPV6.to_be_bytes())
        & (ip.protocol == UDP)
        & (ip.ports as u16 == LISP_DATA)
        & (ip.total >= LENGTH - LINK)
        // UDP length and checksum: zero is what LISP sends, over IPv6 too (RFC 6935 §5).
        & (word(58) == (ip.total as u32 - 40) << 16)
        & (flags & lisp::K == 0)
        & !may_be_martian_v6(ip.source)
        & rlocs.contains_v6(ip.destination);
    if !right {
        return None;
    }
    let instance = if flags & lisp::I == 0 { 0 } else { word(66) >> 8 };
    Some(Outer {
        link: LINK,
        length: LENGTH,
        inner: ip.total - (LENGTH - LINK),
        instance: InstanceId::new(instance).unwrap_or_default(),
        tos: ip.tos,
        ttl: ip.ttl,
    })
}

/// Readies a packet of which nothing is to be said, and gives the port that it goes out by. `None` for any other; then
/// nothing is done, and [`decap`] decides.
#[inline(always)]
pub(crate) fn decap_plain(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: CorePacket,
    source: Option<Entry>,
    destination: Option<Entry>,
    context: &Context<'_>,
) -> Option<PortIndex> {
    let Context { cache, setup } = context;
    let entry = destination?;
    let Some(next_hop) = cache.delivery(entry) else {
        return onward::pass_plain(umem, frame, packet, source, entry, context);
    };
    if packet.asks() {
        if setup.features.any() {
            return None;
        }
        let foreign = |source| !cache.is_local(source);
        let trusted = match setup.source_check {
            SourceCheck::Standard => source.is_none_or(foreign),
            SourceCheck::Notify => source.is_some_and(foreign),
            // No locator-set is under an entry of our own.
            SourceCheck::Secure => cache.has_member(source?, packet.rloc(umem.octets(frame))),
        };
        if !trusted {
            return None;
        }
    }
    deliver(umem, frame, packet, next_hop, context).ok()?;
    cache.hit(entry, packet.total());
    Some(next_hop.port())
}

/// Decides on a packet by what was found for its inner source and destination, and readies the inner one if it can be
/// delivered.
#[inline(never)]
pub(crate) fn decap(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: CorePacket,
    source: Option<Entry>,
    destination: Option<Entry>,
    context: &Context<'_>,
    desk: Option<&mut Desk>,
) -> Verdict {
    let Context { cache, setup } = context;
    let octets = umem.octets(frame);
    // As in `read`.
    if source.is_some_and(|source| cache.is_local(source)) {
        return Verdict::Drop(Reason::InnerSourceLocal);
    }
    let Some(entry) = destination else {
        if setup.proxy.is_on() {
            return onward::pass(umem, frame, packet, source, destination, context, desk);
        }
        // Asked last, because packets of an unknown instance find nothing anyway.
        let known = cache.knows(packet.instance(octets));
        return Verdict::Drop(if known { Reason::InnerDestinationForeign } else { Reason::UnknownInstance });
    };
    // Of a host: no flow is needed to tell.
    let way = cache.way(entry, 0);
    let (Way::Deliver(_) | Way::Unresolved) = way else {
        return match setup.proxy.is_on() {
            true => onward::pass(umem, frame, packet, source, destination, context, desk),
            false => Verdict::Drop(Reason::InnerDestinationForeign),
        };
    };
    match (setup.source_check, source) {
        (SourceCheck::Secure, None) => {
            return Verdict::DropAndAsk(Reason::InnerSourceUnknown, packet.miss(octets, Wanted::Mapping));
        }
        (SourceCheck::Secure, Some(mapping)) if !cache.has_member(mapping, packet.rloc(octets)) => {
            return Verdict::Drop(Reason::OuterSourceForeign);
        }
        _ => {}
    }
    if let Some(desk) = desk
        && let Err(reason) = features::check(&packet.arrived(octets), source, Some(entry), context, desk)
    {
        return Verdict::Drop(reason);
    }
    let Way::Deliver(next_hop) = way else { return Verdict::Miss(packet.miss(octets, Wanted::Neighbour)) };
    // Before the header that names the instance is gone.
    let unknown = setup.source_check == SourceCheck::Notify && source.is_none();
    let miss = unknown.then(|| packet.miss(octets, Wanted::Mapping));
    if let Err(reason) = deliver(umem, frame, packet, next_hop, context) {
        return Verdict::Drop(reason);
    }
    cache.hit(entry, packet.total());
    match miss {
        Some(miss) => Verdict::SendAndAsk(next_hop.port(), miss),
        None => Verdict::Send(next_hop.port()),
    }
}

/// Takes the outer headers off and lets the packet go by `next_hop`; does nothing to one that must not go.
#[inline(always)]
fn deliver(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: CorePacket,
    next_hop: &NextHop,
    context: &Context<'_>,
) -> Result<(), Reason> {
    if packet.is_not_capable() {
        return Err(Reason::EcnNotCapable);
    }
    if packet.ttl() == 0 {
        return Err(Reason::InnerTtlExpired);
    }
    if packet.total() > next_hop.mtu() {
        return Err(Reason::InnerTooBig);
    }
    let v4 = packet.is_v4();
    let Some(inner) = readdress(umem, frame, packet.outer(), packet.total(), v4, next_hop) else {
        return Err(Reason::NoHeadroom);
    };
    if packet.is_changed()
        && let Some(head) = inner.first_chunk_mut()
    {
        rewrite(head, v4, packet, context.setup.kept);
    }
    let counters = &context.setup.counters;
    if packet.is_odd() {
        counters.ecn_odd.add(1);
    }
    counters.decapsulated.add(1);
    Ok(())
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
    Ok(Outer { link, length, inner: inner.len(), instance, tos: ip.tos, ttl: ip.ttl })
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

/// Writes TOS and TTL to the inner header; of the TOS that it has it keeps the bits `kept`.
#[inline(always)]
fn rewrite(head: &mut [u8; 20], v4: bool, packet: CorePacket, kept: u8) {
    let (old_tos, old_ttl) = tos_and_ttl(head, v4);
    let (tos, ttl) = (packet.tos() & !kept | old_tos & kept, packet.ttl());
    if !v4 {
        head[0] = 0x60 | tos >> 4;
        head[1] = head[1] & 0x0f | tos << 4;
        head[7] = ttl;
        return;
    }
    if tos != old_tos {
        rewrite_word(head, 0, [head[0], tos]);
    }
    if ttl != old_ttl {
        rewrite_word(head, 8, [ttl, head[9]]);
    }
}
