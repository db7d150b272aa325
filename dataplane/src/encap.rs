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
    batch::{ASKS, Questions, Word},
    cache::{Entry, Snapshot, Way},
    classify::{Fault, FlowKey, IpHeader, Plain, PlainV6, Rlocs, is_martian, may_be_martian, may_be_martian_v6},
    counters::{Counter, Counters},
    features::{self, Features},
    frame::{Frame, Umem},
    mapping::{Eid, InstanceId, NextHop, OuterHeader, Patch, PortIndex},
    proxy::{self, Proxy},
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
    /// Keys of the flow hash, and their seed.
    pub(crate) key: FlowKey,
    pub(crate) hash_seed: u32,
    /// How sources of packets out of tunnels are checked.
    pub(crate) source_check: SourceCheck,
    /// Whether the entries of such sources are looked at.
    pub(crate) asks_sources: bool,
    /// What we do for other sites.
    pub(crate) proxy: Proxy,
    /// Which header features are on.
    pub(crate) features: Features,
    /// Bits of its TOS that a packet out of a tunnel keeps.
    pub(crate) kept: u8,
    /// Where it counts.
    pub(crate) counters: Arc<Counters>,
}

/// A packet from a site, or a stranger's to one, between its two parts: its flow, its length and where it starts. What else it says is read again
/// where it is rewritten.
///
/// One word, as [`batch`](crate::batch) keeps it: written in parts and read as a whole, it would have to be waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SitePacket(pub(crate) u64);

impl SitePacket {
    const V4: u64 = 1 << 56;
    const EXPIRED: u64 = 1 << 57;
    const ASKS: u64 = ASKS;
    const STRANGE: u64 = 1 << 59;

    #[inline(always)]
    pub(crate) fn new(flow: u32, total: u16, link: usize, v4: bool, ttl: u8, asks: bool) -> Self {
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

    /// The same packet, from a network without LISP.
    pub(crate) const fn of_stranger(self) -> Self {
        Self(self.0 | Self::STRANGE)
    }

    /// Whether it came from a network without LISP.
    const fn is_of_stranger(self) -> bool {
        self.0 & Self::STRANGE != 0
    }

    /// Octets of the IP packet.
    #[inline(always)]
    pub(crate) const fn total(self) -> usize {
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
/// whether it is ours. Of a packet that is dropped nothing is looked up.
#[inline(always)]
pub(crate) fn read(octets: &[u8], instance: InstanceId, setup: &Setup, questions: &mut Questions<'_, '_>) -> Word {
    match read_plain(octets, instance, setup, questions) {
        Some(packet) => Word::site(packet),
        None => read_any(octets, instance, setup, questions).map_or_else(Word::lost, Word::site),
    }
}

/// As [`read`], of nearly all packets; `None` for others, and for those with anything wrong.
#[inline(always)]
fn read_plain(
    octets: &[u8],
    instance: InstanceId,
    setup: &Setup,
    questions: &mut Questions<'_, '_>,
) -> Option<SitePacket> {
    const LINK: usize = 14;
    let Setup { rlocs, key, .. } = setup;
    let (link, packet) = octets.split_first_chunk::<LINK>()?;
    let ethertype = u16::from_be_bytes([link[12], link[13]]);
    if ethertype == IPV4 {
        let header = Plain::read(packet)?;
        let Plain { source, destination, total, ttl, .. } = header;
        if may_be_martian(source) | may_be_martian(destination) | rlocs.contains_v4(destination) {
            return None;
        }
        let asks = asks(questions.is_ours_v4(instance, source))?;
        questions.push_v4(instance, asks.then_some(source), destination);
        return Some(SitePacket::new(key.flow_plain(&header), total, LINK, true, ttl, asks));
    }
    if ethertype != IPV6 {
        return None;
    }
    let header = PlainV6::read(packet)?;
    let PlainV6 { source, destination, total, ttl, .. } = header;
    if may_be_martian_v6(source) | may_be_martian_v6(destination) | rlocs.contains_v6(destination) {
        return None;
    }
    let asks = asks(questions.is_ours_v6(instance, source))?;
    questions.push_v6(instance, asks.then_some(source), destination);
    Some(SitePacket::new(key.flow_plain_v6(&header), total as u16, LINK, false, ttl, asks))
}

/// Whether a source's entry has to be asked for, by what is known of whether it is ours. `None` if it is not: LISP must not
/// touch what is no packet of ours, whatever the cache says of its destination (RFC 9300 §4.2).
#[inline(always)]
fn asks(ours: Option<bool>) -> Option<bool> {
    match ours {
        Some(false) => None,
        ours => Some(ours.is_none()),
    }
}

/// As [`read`], of whatever a frame may hold.
///
/// # Errors
/// Why the packet is dropped.
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
    let asks = asks(questions.is_ours(instance, header.source)).ok_or(Reason::SourceNotLocal)?;
    questions.push(instance, asks.then_some(header.source), header.destination);
    let flow = setup.key.flow(&octets[link..], &header);
    Ok(SitePacket::new(flow, header.total as u16, link, header.source.is_ipv4(), header.ttl, asks))
}

/// What is asked for if there is no mapping, or no next hop.
#[cold]
pub(crate) fn miss(octets: &[u8], instance: InstanceId, wanted: Wanted) -> Verdict {
    let (_, header) = IpHeader::in_frame(octets).expect("it was read before");
    let destination = Eid { instance, address: header.destination };
    Verdict::Miss(Miss { wanted, destination, source: header.source })
}

#[cold]
pub(crate) fn too_big(octets: &[u8], limit: usize) -> Verdict {
    let (_, header) = IpHeader::in_frame(octets).expect("it was read before");
    if header.may_split {
        return Verdict::Split;
    }
    Verdict::Refuse(Reason::TooBig, Notice::TooBig { limit: limit.min(usize::from(u16::MAX)) as u16 })
}

/// Readies a packet of which nothing is to be said, and gives the port that it goes out by. `None` for any other; then
/// nothing is done, and [`encap`] decides.
#[inline(always)]
pub(crate) fn encap_plain(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: SitePacket,
    destination: Option<Entry>,
    context: &Context<'_>,
) -> Option<PortIndex> {
    let Context { cache, setup } = context;
    let entry = destination?;
    // What a stranger's packet says of versions is stamped the long way.
    if packet.asks() | packet.is_expired() | (packet.is_of_stranger() && setup.features.marks()) {
        return None;
    }
    let Way::Tunnel(outer) = cache.way(entry, packet.flow()) else { return None };
    let total = packet.total();
    if total > outer.inner_limit() || !encapsulate(umem, frame, packet, outer, &setup.counters.encapsulated) {
        return None;
    }
    cache.hit(entry, total);
    Some(outer.port())
}

/// Decides on a packet of a site of `instance` by what was found for its source and destination, and readies it if it
/// can be sent.
#[inline(never)]
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
    let Some(entry) = destination else { return miss(umem.octets(frame), instance, Wanted::Mapping) };
    let total = packet.total();
    let Way::Tunnel(outer) = context.cache.way(entry, packet.flow()) else {
        if packet.is_of_stranger() {
            return proxy::without_tunnel(umem, frame, instance, packet, entry, context);
        }
        return without_tunnel(umem, frame, instance, packet, entry, context);
    };
    if total > outer.inner_limit() {
        return too_big(umem.octets(frame), outer.inner_limit());
    }
    context.cache.hit(entry, total);
    if !encapsulate(umem, frame, packet, outer, &context.setup.counters.encapsulated) {
        return Verdict::Drop(Reason::NoHeadroom);
    }
    if context.setup.features.marks() {
        let octets = umem.octets_mut(frame);
        if let Some(header) = octets[..outer.len()].last_chunk_mut() {
            // What is not ours has no say: a PITR's packets are no site's.
            let source = source.filter(|source| context.cache.is_local(*source));
            let source = source.map(|source| context.cache.mark(source));
            features::stamp(header, context.setup.features, source, context.cache.mark(entry));
        }
    }
    Verdict::Send(outer.port())
}

/// What becomes of a packet whose destination is known, but is not at the end of a tunnel.
#[inline(never)]
pub(crate) fn without_tunnel(
    umem: &mut Umem,
    frame: &mut Frame,
    instance: InstanceId,
    packet: SitePacket,
    entry: Entry,
    context: &Context<'_>,
) -> Verdict {
    let total = packet.total();
    match context.cache.way(entry, packet.flow()) {
        Way::Native(next_hop) => forward_natively(umem, frame, packet, entry, next_hop, context),
        Way::NativeUnresolved => miss(umem.octets(frame), instance, Wanted::Neighbour),
        // Into a tunnel since a moment ago: there is one after all, but asking once more does no harm.
        Way::Request | Way::Tunnel(_) => miss(umem.octets(frame), instance, Wanted::Mapping),
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

/// Puts the outer header in front and counts that; false, and nothing done, if there is no room for it.
#[inline(always)]
pub(crate) fn encapsulate(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: SitePacket,
    outer: &OuterHeader,
    count: &Counter,
) -> bool {
    let total = packet.total();
    if !umem.replace_front(frame, packet.link(), outer.len(), total) {
        return false;
    }
    let octets = umem.octets_mut(frame);
    let Some(head) = octets.get_mut(outer.len()..).and_then(<[u8]>::first_chunk_mut) else { return false };
    let (tos, ttl) = take_hop(head, packet.is_v4());
    outer.stamp(octets, &Patch { inner_length: total as u16, ttl, tos, flow: packet.flow() });
    count.add(1);
    true
}

/// Sends a packet on as it is, by the next hop of its entry.
pub(crate) fn forward_natively(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: SitePacket,
    entry: Entry,
    next_hop: &NextHop,
    context: &Context<'_>,
) -> Verdict {
    let (v4, total) = (packet.is_v4(), packet.total());
    if total > next_hop.mtu() {
        return too_big(umem.octets(frame), next_hop.mtu());
    }
    context.cache.hit(entry, total);
    let inner = readdress(umem, frame, packet.link(), total, v4, next_hop);
    let Some(head) = inner.and_then(<[u8]>::first_chunk_mut) else { return Verdict::Drop(Reason::NoHeadroom) };
    take_hop(head, v4);
    context.setup.counters.native.add(1);
    Verdict::Send(next_hop.port())
}

/// Replaces all that lies in front of the IP packet, `skip` octets, by the link-layer header towards `next_hop`, cuts off
/// what lies behind it, and gives the packet; `None`, and nothing done, if there is no room.
#[inline(always)]
#[must_use]
pub(crate) fn readdress<'a>(
    umem: &'a mut Umem,
    frame: &mut Frame,
    skip: usize,
    total: usize,
    v4: bool,
    next_hop: &NextHop,
) -> Option<&'a mut [u8]> {
    if !umem.replace_front(frame, skip, next_hop.len(), total) {
        return None;
    }
    next_hop.stamp(umem.octets_mut(frame), if v4 { IPV4 } else { IPV6 })
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
