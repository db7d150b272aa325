//! From the site to the core: look the destination up, write the outer header in front, send.
//!
//! ```text
//! | Ethernet, VLAN tags | IP | payload | padding |          as received
//!                       ^ TTL − 1; nothing else of the packet changes, and nothing of it moves
//! | Ethernet | IP | UDP 4341 | LISP | IP | payload |        as sent: only the start of the frame moved
//! ```
//!
//! Until the verdict is [`Verdict::Send`] the packet stays as it came: a held frame is decided anew, and an ICMP error
//! quotes what the host sent.

#![forbid(unsafe_code)]

use crate::{
    cache::{Snapshot, Way},
    classify::{self, Fault, FlowKey, IpHeader, is_martian},
    counters::Counters,
    frame::{Frame, Umem},
    mapping::{Adjacency, Eid, InstanceId, OuterHeader, Patch},
    verdict::{Miss, Notice, Reason, Verdict, Wanted},
    wire::{
        checksum,
        ethernet::{IPV4, IPV6},
    },
};

/// What both paths need beside the frame; fixed for a turn.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The table.
    pub cache: &'a Snapshot<'a>,
    /// Our RLOCs.
    pub rlocs: &'a [std::net::IpAddr],
    /// Keys of the flow hash.
    pub key: FlowKey,
    /// The worker's counters.
    pub counters: &'a Counters,
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

/// Decides on a packet from a site of `instance`, and readies it if it can be sent.
#[inline]
pub fn encap(umem: &mut Umem, frame: &mut Frame, instance: InstanceId, context: &Context<'_>) -> Verdict {
    let octets = umem.octets(frame);
    let (link, header) = match IpHeader::in_frame(octets) {
        Ok(found) => found,
        Err(fault) => return Verdict::Drop(fault.into()),
    };
    if let Some(reason) = excluded(&header, instance, context) {
        return Verdict::Drop(reason);
    }
    if header.ttl <= 1 {
        return Verdict::Refuse(Reason::TtlExpired, Notice::TimeExceeded);
    }
    let destination = Eid { instance, address: header.destination };
    let miss = Verdict::Miss(Miss { wanted: Wanted::Mapping, destination, source: header.source });
    let Some(entry) = context.cache.lookup(instance, header.destination) else { return miss };
    let flow = context.key.flow(&octets[link..], &header);
    match context.cache.way(entry, flow) {
        Way::Tunnel(outer) => {
            if header.total > outer.inner_limit() {
                return too_big(&header, outer.inner_limit());
            }
            context.cache.hit(entry, header.total);
            encapsulate(umem, frame, link, &header, outer, flow, context.counters)
        }
        Way::Native(adjacency) => {
            if header.total > usize::from(adjacency.mtu) {
                return too_big(&header, usize::from(adjacency.mtu));
            }
            context.cache.hit(entry, header.total);
            forward_natively(umem, frame, link, &header, adjacency, context.counters)
        }
        Way::Request => miss,
        Way::Deliver(_) | Way::Unresolved => Verdict::Drop(Reason::DestinationLocal),
        Way::Drop(reason) => {
            context.cache.hit(entry, header.total);
            match reason {
                Reason::ActDrop => Verdict::Refuse(reason, Notice::Prohibited),
                Reason::NoUsableLocator => Verdict::Refuse(reason, Notice::Unreachable),
                _ => Verdict::Drop(reason),
            }
        }
    }
}

/// Packets that LISP must not touch whatever the cache says: not from an EID of ours, or to where no tunnel may lead.
fn excluded(header: &IpHeader, instance: InstanceId, context: &Context<'_>) -> Option<Reason> {
    if is_martian(header.source) {
        return Some(Reason::SourceMartian);
    }
    if is_martian(header.destination) {
        return Some(Reason::DestinationMartian);
    }
    if context.rlocs.contains(&header.destination) {
        return Some(Reason::DestinationRloc);
    }
    let local = context.cache.lookup(instance, header.source).is_some_and(|entry| context.cache.is_local(entry));
    (!local).then_some(Reason::SourceNotLocal)
}

fn too_big(header: &IpHeader, limit: usize) -> Verdict {
    if header.may_split {
        return Verdict::Split;
    }
    Verdict::Refuse(Reason::TooBig, Notice::TooBig { limit: limit.min(usize::from(u16::MAX)) as u16 })
}

fn encapsulate(
    umem: &mut Umem,
    frame: &mut Frame,
    link: usize,
    header: &IpHeader,
    outer: &OuterHeader,
    flow: u32,
    counters: &Counters,
) -> Verdict {
    umem.shrink(frame, link);
    if !(umem.set_len(frame, header.total) && umem.grow(frame, outer.len())) {
        return Verdict::Drop(Reason::NoHeadroom);
    }
    let octets = umem.octets_mut(frame);
    let ttl = decrement_ttl(&mut octets[outer.len()..], header);
    let source_port = classify::source_port(flow);
    outer.stamp(octets, Patch { inner_length: header.total as u16, ttl, tos: header.tos, source_port });
    counters.encapsulated.add(1);
    Verdict::Send(outer.port())
}

fn forward_natively(
    umem: &mut Umem,
    frame: &mut Frame,
    link: usize,
    header: &IpHeader,
    adjacency: &Adjacency,
    counters: &Counters,
) -> Verdict {
    let Some(packet) = readdress(umem, frame, link, header, adjacency) else {
        return Verdict::Drop(Reason::NoHeadroom);
    };
    decrement_ttl(packet, header);
    counters.native.add(1);
    Verdict::Send(adjacency.port)
}

/// Replaces all that lies in front of the IP packet, `skip` octets, by the link-layer header of `adjacency`, cuts off
/// what lies behind it, and gives the packet; `None` if there is no room.
#[inline]
pub(crate) fn readdress<'a>(
    umem: &'a mut Umem,
    frame: &mut Frame,
    skip: usize,
    header: &IpHeader,
    adjacency: &Adjacency,
) -> Option<&'a mut [u8]> {
    umem.shrink(frame, skip);
    if !(umem.set_len(frame, header.total) && umem.grow(frame, adjacency.link_length())) {
        return None;
    }
    let octets = umem.octets_mut(frame);
    let link = adjacency.write(if header.source.is_ipv4() { IPV4 } else { IPV6 }, octets);
    Some(&mut octets[link..])
}

/// Takes one hop off, with the IPv4 checksum adjusted, and gives the new TTL. The old one is above 0.
#[inline]
fn decrement_ttl(packet: &mut [u8], header: &IpHeader) -> u8 {
    let ttl = header.ttl - 1;
    match header.source {
        std::net::IpAddr::V4(_) => rewrite_word(packet, 8, [ttl, header.protocol]),
        std::net::IpAddr::V6(_) => packet[7] = ttl,
    }
    ttl
}

/// Replaces the 16-bit word `at` of an IPv4 header and adjusts the checksum for it.
#[inline]
pub(crate) fn rewrite_word(packet: &mut [u8], at: usize, new: [u8; 2]) {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let sealed = checksum::adjust(word(10), word(at), u16::from_be_bytes(new));
    packet[at..at + 2].copy_from_slice(&new);
    packet[10..12].copy_from_slice(&sealed.to_be_bytes());
}
