//! Packets out of a tunnel that are for nobody behind our site ports: a PETR sends those on whose destination is no EID
//! (RFC 6832 §6).
//!
//! Only for LISP sites: the inner source must have a mapping, and the packet must come from one of its locators (RFC 6832
//! §6.1). What goes to an EID stays here: its sender has better ways, and may be where we would send it back to.

#![forbid(unsafe_code)]

use super::{CorePacket, deliver};
use crate::{
    cache::{Entry, Way},
    classify::IpHeader,
    encap::Context,
    frame::{Frame, Umem},
    mapping::{Eid, PortIndex},
    verdict::{Miss, Reason, Verdict, Wanted},
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
    if !setup.proxy.petr {
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
) -> Verdict {
    let Context { cache, setup } = context;
    let octets = umem.octets(frame);
    let instance = packet.instance(octets);
    if !setup.proxy.serves(instance) {
        let known = cache.knows(instance);
        return Verdict::Drop(if known { Reason::InnerDestinationForeign } else { Reason::UnknownInstance });
    }
    match source {
        None => return ask(packet, octets, Side::Source, Wanted::Mapping),
        Some(mapping) if !cache.has_member(mapping, packet.rloc(octets)) => {
            return Verdict::Drop(Reason::OuterSourceForeign);
        }
        Some(_) => {}
    }
    let Some(entry) = destination else { return ask(packet, octets, Side::Destination, Wanted::Mapping) };
    match cache.way(entry, 0) {
        Way::Native(next_hop) => {
            if let Err(reason) = deliver(umem, frame, packet, next_hop, context) {
                return Verdict::Drop(reason);
            }
            setup.counters.decapsulated_native.add(1);
            cache.hit(entry, packet.total());
            Verdict::Send(next_hop.port())
        }
        Way::NativeUnresolved => ask(packet, octets, Side::Destination, Wanted::Neighbour),
        Way::Request => ask(packet, octets, Side::Destination, Wanted::Mapping),
        Way::Tunnel(_) => Verdict::Drop(Reason::InnerDestinationEid),
        Way::Drop(reason) => {
            cache.hit(entry, packet.total());
            Verdict::Drop(reason)
        }
        // Ours since a moment ago; the next packet is delivered.
        Way::Deliver(_) | Way::Unresolved => Verdict::Drop(Reason::InnerDestinationForeign),
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
