//! Values to octets. An UPDATE becomes as many messages as it needs, each family apart from the other (RFC 7606 §5.1).
//!
//! `netgauze-bgp-pkt` writes what stands in OPEN. Its UPDATE would have to be built of boxes of prefixes first, once for each
//! message, and knows nothing of filling messages; it writes about as fast (1M prefixes in 10,000 messages: 31 ms there with the
//! values already built, 30 ms here).

use std::net::IpAddr;

use altitude_dataplane::mapping::Prefix;

use super::{
    AS_TRANS, BgpFault, Context, HEADER, MESSAGE_MAX, Message, RefreshKind,
    attributes::{
        AGGREGATOR, AS_PATH, AS4_AGGREGATOR, AS4_PATH, ATOMIC_AGGREGATE, COMMUNITIES, EXTENDED, LOCAL_PREF, MP_REACH,
        MP_UNREACH, MULTI_EXIT_DISC, NEXT_HOP, OPTIONAL, ORIGIN, TRANSITIVE,
    },
    capabilities, nlri,
};
use crate::alt::bgp::route::{AsPath, Attributes, Family, Origin, Segment, Update};

/// ASes of one segment of an AS path: its count has one octet.
const SEGMENT_MAX: usize = 255;

/// Appends `message` to `octets`.
///
/// # Errors
/// [`BgpFault::NotSendable`]: attributes that leave no room for a prefix in a message, or IPv4 prefixes with an IPv6 next hop. The
/// prefixes concerned are withdrawn instead, so that the neighbour is left with nothing that is no longer true.
pub fn encode(message: &Message, context: &Context, octets: &mut Vec<u8>) -> Result<(), BgpFault> {
    match message {
        Message::Open(open) => framed(octets, 1, |octets| capabilities::write(open, octets)),
        Message::Update(update) => return encode_update(update, context, octets),
        Message::EndOfRib(Family::V4) => framed(octets, 2, |octets| octets.extend_from_slice(&[0; 4])),
        Message::EndOfRib(Family::V6) => withdraw_v6(&[], octets),
        Message::Keepalive => framed(octets, 4, |_| {}),
        Message::Notification(notification) => framed(octets, 3, |octets| {
            let room = MESSAGE_MAX - HEADER - 2;
            octets.extend_from_slice(&[notification.code, notification.subcode]);
            octets.extend_from_slice(&notification.data[..notification.data.len().min(room)]);
        }),
        Message::RouteRefresh { family, kind } => framed(octets, 5, |octets| {
            let subtype = match kind {
                RefreshKind::Request => 0,
                RefreshKind::Begin => 1,
                RefreshKind::End => 2,
            };
            octets.extend_from_slice(&[0, afi(*family), subtype, 1]);
        }),
    }
    Ok(())
}

const fn afi(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 2,
    }
}

/// Writes a message of type `kind` whose body `write` appends.
fn framed(octets: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = octets.len();
    octets.extend_from_slice(&[0xff; 16]);
    octets.extend_from_slice(&[0, 0, kind]);
    write(octets);
    close(octets, start + 16, start);
}

/// Writes into the 2 octets at `at` how many there are from `from` on.
fn close(octets: &mut [u8], at: usize, from: usize) {
    let length = (octets.len() - from) as u16;
    octets[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

/// Leaves 2 octets for a length, appends what `write` does, and fills the length in.
fn sized(octets: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = octets.len();
    octets.extend_from_slice(&[0, 0]);
    write(octets);
    close(octets, at, at + 2);
}

/// [`encode`] for an UPDATE.
///
/// # Errors
/// Those of [`encode`].
pub fn encode_update(update: &Update, context: &Context, octets: &mut Vec<u8>) -> Result<(), BgpFault> {
    withdraw(&update.withdrawn, octets);
    let Some(attributes) = &update.attributes else { return Ok(()) };
    let mut result = Ok(());
    for (next_hop, prefixes) in &update.announced {
        let (Some(family), true) = (prefixes.first().map(Family::of), result.is_ok()) else { continue };
        result = match (family, next_hop) {
            (Family::V4, IpAddr::V4(next_hop)) => announce_v4(next_hop.octets(), prefixes, attributes, context, octets),
            (Family::V4, IpAddr::V6(_)) => Err(BgpFault::NotSendable),
            (Family::V6, IpAddr::V6(next_hop)) => announce_v6(next_hop.octets(), prefixes, attributes, context, octets),
            (Family::V6, IpAddr::V4(next_hop)) => {
                announce_v6(next_hop.to_ipv6_mapped().octets(), prefixes, attributes, context, octets)
            }
        };
        if result.is_err() {
            withdraw(prefixes, octets);
        }
    }
    result
}

/// The longest front of `prefixes` that fits into `room` octets, and the rest.
fn fit(prefixes: &[Prefix], room: usize) -> (&[Prefix], &[Prefix]) {
    let mut length = 0;
    let fits = prefixes.iter().take_while(|prefix| {
        length += nlri::length(prefix);
        length <= room
    });
    prefixes.split_at(fits.count())
}

fn write_run(prefixes: &[Prefix], octets: &mut Vec<u8>) {
    prefixes.iter().for_each(|prefix| nlri::write(prefix, octets));
}

fn withdraw(prefixes: &[Prefix], octets: &mut Vec<u8>) {
    // They come in runs of one family, mostly one run.
    for run in prefixes.chunk_by(|one, other| Family::of(one) == Family::of(other)) {
        let mut rest = run;
        while !rest.is_empty() {
            // The lengths of both lists; for IPv6 up to 7 more of the attribute.
            let (now, later) = fit(rest, MESSAGE_MAX - HEADER - 4 - 7);
            match Family::of(&run[0]) {
                Family::V4 => framed(octets, 2, |octets| {
                    sized(octets, |octets| write_run(now, octets));
                    octets.extend_from_slice(&[0, 0]);
                }),
                Family::V6 => withdraw_v6(now, octets),
            }
            rest = later;
        }
    }
}

/// Without prefixes this is the End-of-RIB marker of IPv6.
fn withdraw_v6(prefixes: &[Prefix], octets: &mut Vec<u8>) {
    framed(octets, 2, |octets| {
        octets.extend_from_slice(&[0, 0]);
        sized(octets, |octets| {
            octets.extend_from_slice(&[OPTIONAL | EXTENDED, MP_UNREACH]);
            sized(octets, |octets| {
                octets.extend_from_slice(&[0, afi(Family::V6), 1]);
                write_run(prefixes, octets);
            });
        });
    });
}

fn announce_v4(
    next_hop: [u8; 4],
    prefixes: &[Prefix],
    attributes: &Attributes,
    context: &Context,
    octets: &mut Vec<u8>,
) -> Result<(), BgpFault> {
    let mut block = Vec::with_capacity(128);
    write_attributes(attributes, Some(next_hop), context, &mut block);
    let mut rest = prefixes;
    while !rest.is_empty() {
        let room = (MESSAGE_MAX - HEADER - 4).checked_sub(block.len()).ok_or(BgpFault::NotSendable)?;
        let (now, later) = fit(rest, room);
        if now.is_empty() {
            return Err(BgpFault::NotSendable);
        }
        framed(octets, 2, |octets| {
            octets.extend_from_slice(&[0, 0]);
            sized(octets, |octets| octets.extend_from_slice(&block));
            write_run(now, octets);
        });
        rest = later;
    }
    Ok(())
}

fn announce_v6(
    next_hop: [u8; 16],
    prefixes: &[Prefix],
    attributes: &Attributes,
    context: &Context,
    octets: &mut Vec<u8>,
) -> Result<(), BgpFault> {
    /// Flags, type, length, AFI, SAFI, next hop with its length, one reserved octet.
    const REACH: usize = 4 + 3 + 17 + 1;
    let mut block = Vec::with_capacity(128);
    write_attributes(attributes, None, context, &mut block);
    let mut rest = prefixes;
    while !rest.is_empty() {
        let room = (MESSAGE_MAX - HEADER - 4 - REACH).checked_sub(block.len()).ok_or(BgpFault::NotSendable)?;
        let (now, later) = fit(rest, room);
        if now.is_empty() {
            return Err(BgpFault::NotSendable);
        }
        framed(octets, 2, |octets| {
            octets.extend_from_slice(&[0, 0]);
            sized(octets, |octets| {
                octets.extend_from_slice(&[OPTIONAL | EXTENDED, MP_REACH]);
                sized(octets, |octets| {
                    octets.extend_from_slice(&[0, afi(Family::V6), 1, 16]);
                    octets.extend_from_slice(&next_hop);
                    octets.push(0);
                    write_run(now, octets);
                });
                octets.extend_from_slice(&block);
            });
        });
        rest = later;
    }
    Ok(())
}

/// Appends one attribute, with a length of 1 octet wherever that is enough.
fn attribute(block: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => block.extend_from_slice(&[flags, kind, length]),
        Err(_) => {
            block.extend_from_slice(&[flags | EXTENDED, kind]);
            // A value this long leaves no room for a prefix, so the message is never sent.
            block.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    block.extend_from_slice(value);
}

/// In the order of their types (RFC 4271 §5), the foreign ones in the order they came.
fn write_attributes(attributes: &Attributes, next_hop: Option<[u8; 4]>, context: &Context, block: &mut Vec<u8>) {
    let origin = match attributes.origin {
        Origin::Igp => 0,
        Origin::Egp => 1,
        Origin::Incomplete => 2,
    };
    attribute(block, TRANSITIVE, ORIGIN, &[origin]);
    let wide = context.four_octet;
    let mut value = Vec::with_capacity(64);
    write_path(&attributes.as_path, wide, &mut value);
    attribute(block, TRANSITIVE, AS_PATH, &value);
    if let Some(next_hop) = next_hop {
        attribute(block, TRANSITIVE, NEXT_HOP, &next_hop);
    }
    if let Some(med) = attributes.med {
        attribute(block, OPTIONAL, MULTI_EXIT_DISC, &med.to_be_bytes());
    }
    if let (Some(local_pref), false) = (attributes.local_pref, context.external()) {
        attribute(block, TRANSITIVE, LOCAL_PREF, &local_pref.to_be_bytes());
    }
    if attributes.atomic_aggregate {
        attribute(block, TRANSITIVE, ATOMIC_AGGREGATE, &[]);
    }
    if let Some((asn, router)) = attributes.aggregator {
        value.clear();
        write_asn(asn, wide, &mut value);
        value.extend_from_slice(&router.octets());
        attribute(block, OPTIONAL | TRANSITIVE, AGGREGATOR, &value);
    }
    if !attributes.communities.is_empty() {
        value.clear();
        value.extend(attributes.communities.iter().flat_map(|community| community.to_be_bytes()));
        attribute(block, OPTIONAL | TRANSITIVE, COMMUNITIES, &value);
    }
    if !wide {
        write_four_octet_twins(attributes, block);
    }
    for foreign in &attributes.foreign {
        attribute(block, foreign.flags, foreign.kind, &foreign.value);
    }
}

/// AS4_PATH and AS4_AGGREGATOR, where 2 octets lose something (RFC 6793 §4.2.2).
fn write_four_octet_twins(attributes: &Attributes, block: &mut Vec<u8>) {
    let is_wide = |asn: &u32| u16::try_from(*asn).is_err();
    let any_wide = attributes.as_path.0.iter().any(|segment| match segment {
        Segment::Sequence(asns) | Segment::Set(asns) => asns.iter().any(is_wide),
    });
    if any_wide {
        let mut value = Vec::new();
        write_path(&attributes.as_path, true, &mut value);
        attribute(block, OPTIONAL | TRANSITIVE, AS4_PATH, &value);
    }
    if let Some((asn, router)) = attributes.aggregator.filter(|(asn, _)| is_wide(asn)) {
        let value = [asn.to_be_bytes(), router.octets()].concat();
        attribute(block, OPTIONAL | TRANSITIVE, AS4_AGGREGATOR, &value);
    }
}

fn write_path(path: &AsPath, wide: bool, value: &mut Vec<u8>) {
    for segment in &path.0 {
        let (kind, asns) = match segment {
            Segment::Set(asns) => (1, asns),
            Segment::Sequence(asns) => (2, asns),
        };
        for asns in asns.chunks(SEGMENT_MAX) {
            value.extend_from_slice(&[kind, asns.len() as u8]);
            asns.iter().for_each(|asn| write_asn(*asn, wide, value));
        }
    }
}

fn write_asn(asn: u32, wide: bool, value: &mut Vec<u8>) {
    if wide {
        value.extend_from_slice(&asn.to_be_bytes());
    } else {
        value.extend_from_slice(&u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
    }
}
