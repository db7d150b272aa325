//! What we do for others than our own site: between LISP and networks without it (RFC 6832).
//!
//! ```text
//! native port ─ any source, an EID aggregate as destination ─ encapsulated as a site's packet      PITR
//! core port   ─ out of a tunnel from a LISP site, the destination is no EID ─ sent on natively      PETR
//! core port   ─ out of a tunnel, the destination is an EID of another site  ─ into the next tunnel  RTR
//! ```
//!
//! An RTR may be for xTRs behind NATs alone: then one end has to be one of theirs. Else it takes, unless it is told otherwise, what
//! sites send, each from its own locators, and what the stop before it on a path does; what strangers write would be in its name.
//!
//! The last two are in [`decap`](crate::decap), beside what is delivered. None keeps anything of a flow.

#![forbid(unsafe_code)]

use crate::{
    batch::{Questions, Word},
    cache::{Entry, Way},
    classify::{IpHeader, Plain, PlainV6, is_martian, may_be_martian, may_be_martian_v6},
    encap::{self, Context, Setup, SitePacket},
    frame::{Frame, Umem},
    mapping::{EidPrefix, InstanceId},
    verdict::{Notice, Reason, Verdict, Wanted},
    wire::ethernet::{IPV4, IPV6},
};

/// What a router is for others; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Packets out of tunnels whose destination is no EID are sent on natively.
    pub petr: bool,
    /// Packets out of tunnels whose destination is an EID go into the next one: a re-encapsulating router, such as one on an
    /// explicit locator path.
    pub rtr: bool,
    /// With `rtr`: only if the inner source or destination is of an xTR behind a NAT that registered through us
    /// (draft-ermagan-lisp-nat-traversal-19 §5.3.1).
    pub nat: bool,
    /// With `rtr`, without `nat`: only what comes from a locator of its source's mapping, or from another stop of its destination's
    /// path.
    pub known: bool,
    /// Instances whose packets a PETR or RTR takes.
    pub instances: Vec<InstanceId>,
    /// EID-prefixes that we attract from networks without LISP; a few, each costs every packet a comparison.
    pub aggregates: Vec<EidPrefix>,
}

impl Proxy {
    /// Whether packets out of tunnels may be for others than our site.
    #[inline(always)]
    pub(crate) const fn is_on(&self) -> bool {
        self.petr | self.rtr
    }

    /// Whether who sent a packet out of a tunnel decides where it may go.
    pub(crate) const fn admits_by_source(&self) -> bool {
        self.petr | self.nat | self.known
    }

    /// Whether packets of the instance are taken.
    pub(crate) fn serves(&self, instance: InstanceId) -> bool {
        self.instances.contains(&instance)
    }

    fn attracts(&self, instance: InstanceId, address: std::net::IpAddr) -> bool {
        self.aggregates.iter().any(|eid| eid.instance == instance && eid.prefix.contains(address))
    }
}

/// As [`encap::read`], of a packet from a network without LISP: whoever sent it, its destination is to lie in an aggregate.
#[inline(always)]
pub(crate) fn read(octets: &[u8], instance: InstanceId, setup: &Setup, questions: &mut Questions<'_, '_>) -> Word {
    let packet = match read_plain(octets, instance, setup, questions) {
        Some(packet) => Ok(packet),
        None => read_any(octets, instance, setup, questions),
    };
    packet.map_or_else(Word::lost, |packet| Word::site(packet.of_stranger()))
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
    let Setup { rlocs, key, proxy, .. } = setup;
    let (link, packet) = octets.split_first_chunk::<LINK>()?;
    match u16::from_be_bytes([link[12], link[13]]) {
        IPV4 => {
            let header = Plain::read(packet)?;
            let Plain { source, destination, total, ttl, .. } = header;
            let wrong = may_be_martian(source) | may_be_martian(destination) | rlocs.contains_v4(destination);
            let wrong = wrong || questions.is_ours_v4(instance, source) == Some(true);
            if wrong || !proxy.attracts(instance, std::net::Ipv4Addr::from_bits(destination).into()) {
                return None;
            }
            questions.push_v4(instance, None, destination);
            Some(SitePacket::new(key.flow_plain(&header), total, LINK, true, ttl, false))
        }
        IPV6 => {
            let header = PlainV6::read(packet)?;
            let PlainV6 { source, destination, total, ttl, .. } = header;
            let wrong = may_be_martian_v6(source) | may_be_martian_v6(destination) | rlocs.contains_v6(destination);
            let wrong = wrong || questions.is_ours_v6(instance, source) == Some(true);
            if wrong || !proxy.attracts(instance, std::net::Ipv6Addr::from_bits(destination).into()) {
                return None;
            }
            questions.push_v6(instance, None, destination);
            Some(SitePacket::new(key.flow_plain_v6(&header), total as u16, LINK, false, ttl, false))
        }
        _ => None,
    }
}

#[inline(never)]
fn read_any(
    octets: &[u8],
    instance: InstanceId,
    setup: &Setup,
    questions: &mut Questions<'_, '_>,
) -> Result<SitePacket, Reason> {
    let (link, header) = IpHeader::in_frame(octets)?;
    // Our own EIDs are not out there: what says so would leave with our RLOC to vouch for it.
    if is_martian(header.source) || questions.is_ours(instance, header.source) == Some(true) {
        return Err(Reason::SourceMartian);
    }
    if is_martian(header.destination) {
        return Err(Reason::DestinationMartian);
    }
    if setup.rlocs.contains(header.destination) {
        return Err(Reason::DestinationRloc);
    }
    if !setup.proxy.attracts(instance, header.destination) {
        return Err(Reason::DestinationNotAggregated);
    }
    questions.push(instance, None, header.destination);
    let flow = setup.key.flow(&octets[link..], &header);
    Ok(SitePacket::new(flow, header.total as u16, link, header.source.is_ipv4(), header.ttl, false))
}

/// What becomes of a stranger's packet whose destination is known, but is not at the end of a tunnel.
///
/// Our own announcement brought it here. What has no mapping must not be sent back to those who believe it: it leaves natively
/// only by a port that leads elsewhere.
#[inline(never)]
pub(crate) fn without_tunnel(
    umem: &mut Umem,
    frame: &mut Frame,
    instance: InstanceId,
    packet: SitePacket,
    entry: Entry,
    context: &Context<'_>,
) -> Verdict {
    let Context { cache, setup } = context;
    match cache.way(entry, packet.flow()) {
        // An EID-prefix of our own site inside the aggregate.
        Way::Deliver(next_hop) => encap::forward_natively(umem, frame, packet, entry, next_hop, context),
        Way::Unresolved => encap::miss(umem.octets(frame), instance, Wanted::Neighbour),
        Way::Native(next_hop) if setup.ports.get(usize::from(next_hop.port())).is_some_and(|port| port.native) => {
            cache.hit(entry, packet.total());
            Verdict::Refuse(Reason::NativeLoop, Notice::Unreachable)
        }
        Way::Drop(Reason::NativeNoRoute) => {
            cache.hit(entry, packet.total());
            Verdict::Refuse(Reason::NativeNoRoute, Notice::Unreachable)
        }
        _ => encap::without_tunnel(umem, frame, instance, packet, entry, context),
    }
}
