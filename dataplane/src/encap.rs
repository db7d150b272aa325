//! From the site to the core: look both addresses up, write the outer header in front, send.
//!
//! ```text
//! | Ethernet, VLAN tags | IP | payload | padding |          as received
//!                       ^ TTL − 1; nothing else of the packet changes, and nothing of it moves
//! | Ethernet | IP | UDP 4341 | LISP | IP | payload |        as sent: only the start of the frame moved
//! ```
//!
//! `read` is the part before the look-up, `encap` the one behind it; `batch` lets the packets of a batch take each part
//! together. Until the verdict is [`Verdict::Send`] the packet stays as it came: a held frame is
//! decided anew, and an ICMP error quotes what the host sent.

#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::{
    batch::{self, Questions},
    cache::{Entry, Snapshot, Way},
    classify::{self, Fault, FlowKey, IpHeader, Plain, PlainV6, Rlocs, is_martian, may_be_martian, may_be_martian_v6},
    counters::Counters,
    frame::{Frame, Umem},
    mapping::{Adjacency, Eid, InstanceId, OuterHeader, Patch},
    verdict::{Miss, Notice, Reason, Verdict, Wanted},
    wire::{
        checksum,
        ethernet::{IPV4, IPV6},
    },
    worker::{PortRole, SourceCheck},
};

/// What both paths need beside the frame; fixed for a turn.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The table.
    pub(crate) cache: &'a Snapshot<'a>,
    /// The worker's own.
    pub(crate) setup: &'a Setup,
}

/// What a worker goes by from start to end.
#[derive(Debug)]
pub(crate) struct Setup {
    /// What our ports are for.
    pub(crate) ports: Vec<PortRole>,
    /// Our RLOCs.
    pub(crate) rlocs: Rlocs,
    /// Keys of the flow hash.
    pub(crate) key: FlowKey,
    /// How sources of packets out of tunnels are checked.
    pub(crate) source_check: SourceCheck,
    /// Where it counts.
    pub(crate) counters: Arc<Counters>,
}

/// A packet from a site, between its two parts: its flow, its length and where it starts. What else it says is read again
/// where it is rewritten.
///
/// One word, as [`batch`](crate::batch) keeps it: written in parts and read as a whole, it would have to be waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SitePacket(pub(crate) u64);

impl SitePacket {
    const V4: u64 = 1 << 56;
    const EXPIRED: u64 = 1 << 57;
    const ASKS: u64 = batch::ASKS;

    #[inline(always)]
    fn new(flow: u32, total: u16, link: usize, v4: bool, ttl: u8, asks: bool) -> Self {
        let v4 = if v4 { Self::V4 } else { 0 };
        let expired = if ttl <= 1 { Self::EXPIRED } else { 0 };
        let asks = if asks { Self::ASKS } else { 0 };
        Self(u64::from(flow) | u64::from(total) << 32 | (link as u64) << 48 | v4 | expired | asks)
    }

    /// The hash of its flow.
    #[inline(always)]
    pub(crate) const fn flow(self) -> u32 {
        self.0 as u32
    }

    /// Whether only the entry of its source tells whether it is one of ours.
    #[inline(always)]
    const fn asks(self) -> bool {
        self.0 & Self::ASKS != 0
    }

    /// Octets of the IP packet.
    #[inline(always)]
    const fn total(self) -> usize {
        (self.0 >> 32 & 0xffff) as usize
    }

    /// Octets in front of it.
    #[inline(always)]
    const fn link(self) -> usize {
        (self.0 >> 48 & 0xff) as usize
    }

    #[inline(always)]
    const fn is_v4(self) -> bool {
        self.0 & Self::V4 != 0
    }

    /// Whether it has no hop left that could be taken off.
    #[inline(always)]
    const fn is_expired(self) -> bool {
        self.0 & Self::EXPIRED != 0
    }
}

impl From<Fault> for Reason {
    /// As the site side counts it.
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Truncated => Self::SiteTruncated,
            Fault::NotIp => Self::SiteNotIp,
            Fault::BadHeader => Self::SiteBadHeader,
            Fault::BadChecksum => Self::SiteBadChecksum,
        }
    }
}

/// Checks all that needs no entry, and has the destination looked up; the source only where there is no other way to tell
/// whether it is ours.
///
/// # Errors
/// Why the packet is dropped; then nothing is looked up.
#[inline(always)]
pub(crate) fn read(
    octets: &[u8],
    instance: InstanceId,
    setup: &Setup,
    questions: &mut Questions<'_, '_>,
) -> Result<SitePacket, Reason> {
    const LINK: usize = 14;
    let Setup { rlocs, key, .. } = setup;
    let Some((link, packet)) = octets.split_first_chunk::<LINK>() else { return Err(Reason::SiteTruncated) };
    let ethertype = u16::from_be_bytes([link[12], link[13]]);
    if ethertype == IPV4
        && let Some(header) = Plain::read(packet)
    {
        let Plain { source, destination, total, ttl, .. } = header;
        let odd = may_be_martian(source) | may_be_martian(destination) | rlocs.contains_v4(destination);
        if !odd {
            let asks = asks(questions.is_ours_v4(instance, source))?;
            questions.push_v4(instance, asks.then_some(source), destination);
            return Ok(SitePacket::new(key.flow_plain(&header), total, LINK, true, ttl, asks));
        }
    } else if ethertype == IPV6
        && let Some(header) = PlainV6::read(packet)
    {
        let PlainV6 { source, destination, total, ttl, .. } = header;
        let odd = may_be_martian_v6(source) | may_be_martian_v6(destination) | rlocs.contains_v6(destination);
        if !odd {
            let asks = asks(questions.is_ours_v6(instance, source))?;
            questions.push_v6(instance, asks.then_some(source), destination);
            return Ok(SitePacket::new(key.flow_plain_v6(&header), total as u16, LINK, false, ttl, asks));
        }
    }
    read_any(octets, instance, setup, questions)
}

/// Whether a source's entry has to be asked for, by what is known of whether it is ours. LISP must not touch what is no
/// packet of ours, whatever the cache says of its destination (RFC 9300 §4.2).
#[inline(always)]
fn asks(ours: Option<bool>) -> Result<bool, Reason> {
    match ours {
        Some(false) => Err(Reason::SourceNotLocal),
        ours => Ok(ours.is_none()),
    }
}

/// As [`read`], of whatever a frame may hold.
#[inline(never)]
fn read_any(
    octets: &[u8],
    instance: InstanceId,
    setup: &Setup,
    questions: &mut Questions<'_, '_>,
) -> Result<SitePacket, Reason> {
    let (link, header) = IpHeader::in_frame(octets)?;
    if is_martian(header.source) {
        return Err(Reason::SourceMartian);
    }
    if is_martian(header.destination) {
        return Err(Reason::DestinationMartian);
    }
    if setup.rlocs.contains(header.destination) {
        return Err(Reason::DestinationRloc);
    }
    let asks = asks(questions.is_ours(instance, header.source))?;
    questions.push(instance, asks.then_some(header.source), header.destination);
    let flow = setup.key.flow(&octets[link..], &header);
    Ok(SitePacket::new(flow, header.total as u16, link, header.source.is_ipv4(), header.ttl, asks))
}

/// What is asked for if there is no mapping.
#[cold]
fn miss(octets: &[u8], instance: InstanceId) -> Verdict {
    let (_, header) = IpHeader::in_frame(octets).expect("it was read before");
    let destination = Eid { instance, address: header.destination };
    Verdict::Miss(Miss { wanted: Wanted::Mapping, destination, source: header.source })
}

#[cold]
fn too_big(octets: &[u8], limit: usize) -> Verdict {
    let (_, header) = IpHeader::in_frame(octets).expect("it was read before");
    if header.may_split {
        return Verdict::Split;
    }
    Verdict::Refuse(Reason::TooBig, Notice::TooBig { limit: limit.min(usize::from(u16::MAX)) as u16 })
}

/// Decides on a packet of a site of `instance` by what was found for its source and destination, and readies it if it
/// can be sent.
#[inline(always)]
pub(crate) fn encap(
    umem: &mut Umem,
    frame: &mut Frame,
    instance: InstanceId,
    packet: SitePacket,
    source: Option<Entry>,
    destination: Option<Entry>,
    context: &Context<'_>,
) -> Verdict {
    if packet.asks() && !source.is_some_and(|source| context.cache.is_local(source)) {
        return Verdict::Drop(Reason::SourceNotLocal);
    }
    if packet.is_expired() {
        return Verdict::Refuse(Reason::TtlExpired, Notice::TimeExceeded);
    }
    let Some(entry) = destination else { return miss(umem.octets(frame), instance) };
    let total = packet.total();
    let Way::Tunnel(outer) = context.cache.way(entry, packet.flow()) else {
        return without_tunnel(umem, frame, instance, packet, entry, context);
    };
    if total > outer.inner_limit() {
        return too_big(umem.octets(frame), outer.inner_limit());
    }
    context.cache.hit(entry, total);
    encapsulate(umem, frame, packet, outer, &context.setup.counters)
}

/// What becomes of a packet whose destination is known, but is not at the end of a tunnel.
#[inline(never)]
fn without_tunnel(
    umem: &mut Umem,
    frame: &mut Frame,
    instance: InstanceId,
    packet: SitePacket,
    entry: Entry,
    context: &Context<'_>,
) -> Verdict {
    let total = packet.total();
    match context.cache.way(entry, packet.flow()) {
        Way::Native(adjacency) => {
            if total > usize::from(adjacency.mtu) {
                return too_big(umem.octets(frame), usize::from(adjacency.mtu));
            }
            context.cache.hit(entry, total);
            forward_natively(umem, frame, packet, adjacency, &context.setup.counters)
        }
        // Into a tunnel since a moment ago: there is one after all, but asking once more does no harm.
        Way::Request | Way::Tunnel(_) => miss(umem.octets(frame), instance),
        Way::Deliver(_) | Way::Unresolved => Verdict::Drop(Reason::DestinationLocal),
        Way::Drop(reason) => {
            context.cache.hit(entry, total);
            match reason {
                Reason::ActDrop => Verdict::Refuse(reason, Notice::Prohibited),
                Reason::NoUsableLocator => Verdict::Refuse(reason, Notice::Unreachable),
                _ => Verdict::Drop(reason),
            }
        }
    }
}

#[inline(always)]
fn encapsulate(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: SitePacket,
    outer: &OuterHeader,
    counters: &Counters,
) -> Verdict {
    let total = packet.total();
    // Before anything is known of the outer header: where the inner one lies does not depend on it.
    let inner = umem.octets_mut(frame).get_mut(packet.link()..).and_then(<[u8]>::first_chunk_mut);
    let Some(head) = inner else { return Verdict::Drop(Reason::SiteTruncated) };
    let (tos, ttl) = take_hop(head, packet.is_v4());
    if !umem.replace_front(frame, packet.link(), outer.len(), total) {
        return Verdict::Drop(Reason::NoHeadroom);
    }
    let source_port = classify::source_port(packet.flow());
    outer.stamp(umem.octets_mut(frame), &Patch { inner_length: total as u16, ttl, tos, source_port });
    counters.encapsulated.add(1);
    Verdict::Send(outer.port())
}

fn forward_natively(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: SitePacket,
    adjacency: &Adjacency,
    counters: &Counters,
) -> Verdict {
    let v4 = packet.is_v4();
    let inner = umem.octets_mut(frame).get_mut(packet.link()..).and_then(<[u8]>::first_chunk_mut);
    let Some(head) = inner else { return Verdict::Drop(Reason::SiteTruncated) };
    take_hop(head, v4);
    if !readdress(umem, frame, packet.link(), packet.total(), v4, adjacency) {
        return Verdict::Drop(Reason::NoHeadroom);
    }
    counters.native.add(1);
    Verdict::Send(adjacency.port)
}

/// Replaces all that lies in front of the IP packet, `skip` octets, by the link-layer header of `adjacency`, cuts off
/// what lies behind it; false if there is no room.
#[inline(always)]
#[must_use]
pub(crate) fn readdress(
    umem: &mut Umem,
    frame: &mut Frame,
    skip: usize,
    total: usize,
    v4: bool,
    adjacency: &Adjacency,
) -> bool {
    let room = umem.replace_front(frame, skip, adjacency.link_length(), total);
    if room {
        adjacency.write(if v4 { IPV4 } else { IPV6 }, umem.octets_mut(frame));
    }
    room
}

/// Takes one hop off, with the IPv4 checksum adjusted, and gives TOS and the new TTL. The old one is above 0.
#[inline(always)]
fn take_hop(head: &mut [u8; 20], v4: bool) -> (u8, u8) {
    let (tos, ttl) = tos_and_ttl(head, v4);
    let ttl = ttl.wrapping_sub(1);
    if v4 {
        head[8] = ttl;
        [head[10], head[11]] = checksum::after_hop([head[10], head[11]]);
    } else {
        head[7] = ttl;
    }
    (tos, ttl)
}

/// TOS and TTL, or Traffic Class and Hop Limit.
#[inline(always)]
pub(crate) const fn tos_and_ttl(head: &[u8; 20], v4: bool) -> (u8, u8) {
    if v4 { (head[1], head[8]) } else { (head[0] << 4 | head[1] >> 4, head[7]) }
}

/// Replaces the 16-bit word `at` of an IPv4 header and adjusts the checksum for it.
#[inline(always)]
pub(crate) fn rewrite_word(head: &mut [u8; 20], at: usize, new: [u8; 2]) {
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let sealed = checksum::adjust(word(10), word(at), u16::from_be_bytes(new));
    head[at..at + 2].copy_from_slice(&new);
    head[10..12].copy_from_slice(&sealed.to_be_bytes());
}
