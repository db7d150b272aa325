//! Packets out of a tunnel that are for nobody behind our site ports: a PETR sends those on whose destination is no EID
//! (RFC 6832 §6), a re-encapsulating router puts those that go to an EID into the next tunnel (RFC 9300 §3, RTR).
//!
//! One that is for xTRs behind NATs takes only what is from or to one of them, and sends it to the port that the NAT has for it
//! (draft-ermagan-lisp-nat-traversal-19 §5.3.1).
//!
//! One that is for sites takes only what comes from a locator of its source's mapping; or, where it is not the first stop on the
//! way, from another stop of the path that the destination's mapping names (RFC 8060 §4.6). That is more than is asked of it: but
//! behind its outer header nobody sees any more who sent a packet, and it would lend that header to everybody.
//!
//! A PETR is for LISP sites only: the inner source must have a mapping, and the packet must come from one of its locators
//! (RFC 6832 §6.1). In one that is no RTR, what goes to an EID stays: its sender has better ways, and may be where we would
//! send it back to.

#![forbid(unsafe_code)]

use super::{CorePacket, deliver, rewrite};
use crate::{
    cache::{Entry, Way},
    classify::IpHeader,
    encap::{self, Context, SitePacket},
    features,
    frame::{Frame, Umem},
    mapping::{Eid, OuterHeader, PortIndex},
    sightings::Desk,
    verdict::{Miss, Reason, Verdict, Wanted},
    worker::SourceCheck,
};

/// Readies a packet of which nothing is to be said, and gives the port that it goes out by. `None` for any other; then
/// nothing is done, and [`pass`] decides.
#[inline(never)]
pub(super) fn pass_plain(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: CorePacket,
    source: Option<Entry>,
    destination: Entry,
    context: &Context<'_>,
) -> Option<PortIndex> {
    let Context { cache, setup } = context;
    if !setup.proxy.petr || setup.features.any() {
        return None;
    }
    let Way::Native(next_hop) = cache.way(destination, 0) else { return None };
    let octets = umem.octets(frame);
    let admitted = setup.proxy.serves(packet.instance(octets)) && cache.has_member(source?, packet.rloc(octets));
    if !admitted || deliver(umem, frame, packet, next_hop, context).is_err() {
        return None;
    }
    setup.counters.decapsulated_native.add(1);
    cache.hit(destination, packet.total());
    Some(next_hop.port())
}

/// Decides on a packet that is not for our site by what was found for its inner source and destination.
#[inline(never)]
pub(super) fn pass(
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
    let instance = packet.instance(octets);
    if !setup.proxy.serves(instance) {
        let known = cache.knows(instance);
        return Verdict::Drop(if known { Reason::InnerDestinationForeign } else { Reason::UnknownInstance });
    }
    let inner = &octets[packet.outer()..];
    let flow = IpHeader::read(inner).map_or(0, |header| setup.key.flow(inner, &header));
    let way = destination.map(|entry| cache.way(entry, flow));
    if let Err(verdict) = vet(packet, octets, source, (destination, way), context) {
        return verdict;
    }
    if let Some(desk) = desk
        && let Err(reason) = features::check(&packet.arrived(octets), source, None, context, desk)
    {
        return Verdict::Drop(reason);
    }
    let Some(entry) = destination else { return ask(packet, octets, Side::Destination, Wanted::Mapping) };
    match cache.way(entry, flow) {
        Way::Native(next_hop) if setup.proxy.petr => {
            if let Err(reason) = deliver(umem, frame, packet, next_hop, context) {
                return Verdict::Drop(reason);
            }
            setup.counters.decapsulated_native.add(1);
            cache.hit(entry, packet.total());
            Verdict::Send(next_hop.port())
        }
        Way::NativeUnresolved if setup.proxy.petr => ask(packet, octets, Side::Destination, Wanted::Neighbour),
        Way::Request => ask(packet, octets, Side::Destination, Wanted::Mapping),
        Way::Tunnel(outer) if setup.proxy.rtr => match relay(umem, frame, packet, flow, outer, context) {
            Ok(()) => {
                cache.hit(entry, packet.total());
                Verdict::Send(outer.port())
            }
            Err(reason) => Verdict::Drop(reason),
        },
        Way::Tunnel(_) => Verdict::Drop(Reason::InnerDestinationEid),
        Way::Drop(reason) => {
            cache.hit(entry, packet.total());
            Verdict::Drop(reason)
        }
        // The first two: ours since a moment ago; the next packet is delivered.
        Way::Deliver(_) | Way::Unresolved | Way::Native(_) | Way::NativeUnresolved => {
            Verdict::Drop(Reason::InnerDestinationForeign)
        }
    }
}

/// Whether a packet comes from whom we take it, as far as it may leave by `way`, that of its destination's entry.
///
/// # Errors
/// What becomes of it if not, or not yet.
fn vet(
    packet: CorePacket,
    octets: &[u8],
    source: Option<Entry>,
    (destination, way): (Option<Entry>, Option<Way<'_>>),
    context: &Context<'_>,
) -> Result<(), Verdict> {
    let Context { cache, setup } = context;
    let relayed = setup.proxy.rtr && matches!(way, Some(Way::Tunnel(_)));
    if setup.proxy.nat && (relayed || !setup.proxy.petr) {
        admit(packet, octets, source, destination, context).map_err(Verdict::Drop)?;
    }
    if setup.source_check == SourceCheck::Secure || setup.proxy.petr && !relayed {
        return match source {
            None => Err(ask(packet, octets, Side::Source, Wanted::Mapping)),
            Some(mapping) if cache.has_member(mapping, packet.rloc(octets)) => Ok(()),
            Some(_) => Err(Verdict::Drop(Reason::OuterSourceForeign)),
        };
    }
    let goes_on = relayed || matches!(way, None | Some(Way::Request));
    if setup.proxy.known && goes_on { recognize(packet, octets, source, destination, context) } else { Ok(()) }
}

/// Whether one end of a packet is registered through us (draft-ermagan-lisp-nat-traversal-19 §5.3.1). This comes before anything
/// is asked for: strangers are to make us ask nothing. What a PETR takes is none of this.
///
/// # Errors
/// Why it must be dropped.
fn admit(
    packet: CorePacket,
    octets: &[u8],
    source: Option<Entry>,
    destination: Option<Entry>,
    Context { cache, .. }: &Context<'_>,
) -> Result<(), Reason> {
    let registered = |entry: &Entry| cache.mark(*entry).relayed;
    if destination.as_ref().is_some_and(registered) {
        return Ok(());
    }
    // The source alone admits it, which anybody can write: it has to come from where its NAT is.
    let own = source.filter(registered).ok_or(Reason::NotRegistered)?;
    if cache.has_member(own, packet.rloc(octets)) { Ok(()) } else { Err(Reason::OuterSourceForeign) }
}

/// Whether a packet comes from where its source is, or from another stop of the path to its destination.
///
/// # Errors
/// What becomes of it if not, or not yet.
fn recognize(
    packet: CorePacket,
    octets: &[u8],
    source: Option<Entry>,
    destination: Option<Entry>,
    Context { cache, .. }: &Context<'_>,
) -> Result<(), Verdict> {
    let comes_from = |entry: Entry| cache.has_member(entry, packet.rloc(octets));
    if source.is_some_and(comes_from) || destination.is_some_and(comes_from) {
        return Ok(());
    }
    match (source, destination) {
        (None, _) => Err(ask(packet, octets, Side::Source, Wanted::Mapping)),
        (_, None) => Err(ask(packet, octets, Side::Destination, Wanted::Mapping)),
        _ => Err(Verdict::Drop(Reason::OuterSourceForeign)),
    }
}

/// Takes a packet out of its tunnel and puts it into the next: all of decapsulation and all of encapsulation, so it has a hop
/// less, and its ECN field is that of both (RFC 9300 §5.3).
///
/// # Errors
/// Why the packet must be dropped.
fn relay(
    umem: &mut Umem,
    frame: &mut Frame,
    packet: CorePacket,
    flow: u32,
    outer: &OuterHeader,
    context: &Context<'_>,
) -> Result<(), Reason> {
    let counters = &context.setup.counters;
    // Not the whole set: its members may be the stops of a path, and the one before us sends what goes to the one behind. Behind
    // one NAT there may be two xTRs.
    if outer.destination() == packet.rloc(umem.octets(frame)) && !outer.is_translated() {
        return Err(Reason::InnerDestinationEid);
    }
    if packet.is_not_capable() {
        return Err(Reason::EcnNotCapable);
    }
    if packet.ttl() <= 1 {
        return Err(Reason::InnerTtlExpired);
    }
    if packet.total() > outer.inner_limit() {
        return Err(Reason::InnerTooBig);
    }
    let (v4, total) = (packet.is_v4(), packet.total() as u16);
    let head = umem.octets_mut(frame).get_mut(packet.outer()..).and_then(<[u8]>::first_chunk_mut);
    if let Some(head) = head.filter(|_| packet.is_changed()) {
        rewrite(head, v4, packet, context.setup.kept);
    }
    if packet.is_odd() {
        counters.ecn_odd.add(1);
    }
    let inner = SitePacket::new(flow, total, packet.outer(), v4, packet.ttl(), false);
    match encap::encapsulate(umem, frame, inner, outer, &counters.reencapsulated) {
        true => Ok(()),
        false => Err(Reason::NoHeadroom),
    }
}

/// Of which of a packet's addresses something is missing.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// The packet waits until it is known. In either case its source is who made us ask.
#[cold]
fn ask(packet: CorePacket, octets: &[u8], side: Side, wanted: Wanted) -> Verdict {
    let header = IpHeader::read(&octets[packet.outer()..]).expect("it was read before");
    let address = match side {
        Side::Source => header.source,
        Side::Destination => header.destination,
    };
    let destination = Eid { instance: packet.instance(octets), address };
    Verdict::Miss(Miss { wanted, destination, source: header.source })
}
