//! Path attributes of a received UPDATE, and what an error in one of them does (RFC 4271 §5, §6.3, RFC 7606 §3, §7).
//!
//! Each attribute is cut out here and its value read by `netgauze-bgp-pkt`, so that an error stays with the attribute it is in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use altitude_dataplane::mapping::Prefix;
use netgauze_bgp_pkt::{
    community::Community,
    path_attribute::{
        Aggregator, As2Aggregator, As2PathSegment, As4Aggregator, As4Path, As4PathSegment, AsPath as WireAsPath,
        AsPathSegmentType, Communities, LocalPreference, MultiExitDiscriminator, NextHop, Origin as WireOrigin,
    },
};
use netgauze_parse_utils::{
    reader::SliceReader,
    traits::{ParseFromWithOneInput, ParseFromWithTwoInputs},
};

use super::{AS_TRANS, BgpFault, Context, Notification, nlri};
use crate::alt::bgp::route::{AsPath, Family, Foreign, Origin, Segment};

/// Flags: may be unknown to a speaker, goes on beyond the neighbour, was passed on by one that did not know it, has a length
/// of 2 octets (RFC 4271 §4.3).
pub(super) const OPTIONAL: u8 = 0x80;
pub(super) const TRANSITIVE: u8 = 0x40;
pub(super) const PARTIAL: u8 = 0x20;
pub(super) const EXTENDED: u8 = 0x10;

/// Type codes.
pub(super) const ORIGIN: u8 = 1;
pub(super) const AS_PATH: u8 = 2;
pub(super) const NEXT_HOP: u8 = 3;
pub(super) const MULTI_EXIT_DISC: u8 = 4;
pub(super) const LOCAL_PREF: u8 = 5;
pub(super) const ATOMIC_AGGREGATE: u8 = 6;
pub(super) const AGGREGATOR: u8 = 7;
pub(super) const COMMUNITIES: u8 = 8;
pub(super) const ORIGINATOR_ID: u8 = 9;
pub(super) const CLUSTER_LIST: u8 = 10;
pub(super) const MP_REACH: u8 = 14;
pub(super) const MP_UNREACH: u8 = 15;
pub(super) const EXTENDED_COMMUNITIES: u8 = 16;
pub(super) const AS4_PATH: u8 = 17;
pub(super) const AS4_AGGREGATOR: u8 = 18;
pub(super) const LARGE_COMMUNITIES: u8 = 32;

/// The flags, of Optional and Transitive, that a known type must have.
const fn proper_flags(kind: u8) -> Option<u8> {
    match kind {
        ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF | ATOMIC_AGGREGATE => Some(TRANSITIVE),
        MULTI_EXIT_DISC | ORIGINATOR_ID | CLUSTER_LIST | MP_REACH | MP_UNREACH => Some(OPTIONAL),
        AGGREGATOR | COMMUNITIES | EXTENDED_COMMUNITIES | AS4_PATH | AS4_AGGREGATOR | LARGE_COMMUNITIES => {
            Some(OPTIONAL | TRANSITIVE)
        }
        _ => None,
    }
}

/// MP_REACH_NLRI of a family that the session carries (RFC 4760 §3).
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) next_hop: IpAddr,
    pub(super) prefixes: Vec<Prefix>,
}

/// What the attributes of one message say.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) origin: Option<Origin>,
    pub(super) as_path: Option<AsPath>,
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) med: Option<u32>,
    pub(super) local_pref: Option<u32>,
    pub(super) atomic_aggregate: bool,
    pub(super) aggregator: Option<(u32, Ipv4Addr)>,
    pub(super) communities: Box<[u32]>,
    pub(super) foreign: Vec<Foreign>,
    pub(super) as4_path: Option<AsPath>,
    pub(super) as4_aggregator: Option<(u32, Ipv4Addr)>,
    pub(super) reach: Option<Reach>,
    /// Prefixes of MP_UNREACH_NLRI and the family they are of.
    pub(super) unreach: Option<(Family, Vec<Prefix>)>,
    /// There is an MP_REACH_NLRI, whatever it is about.
    pub(super) has_reach: bool,
    /// Number of attributes.
    pub(super) count: usize,
    /// The routes of the message count as withdrawn.
    pub(super) withdraw: bool,
}

/// What an attribute that could not be taken does.
enum Broken {
    /// The routes of the message count as withdrawn.
    Withdraw,
    /// It is as if the attribute were not there.
    Discard,
    /// The session ends.
    Reset(Notification),
}

/// One attribute, cut out.
struct Attribute<'a> {
    flags: u8,
    kind: u8,
    /// From its length on, as the library reads it.
    from_length: &'a [u8],
    value: &'a [u8],
}

impl Attribute<'_> {
    fn is_extended(&self) -> bool {
        self.flags & EXTENDED != 0
    }

    fn read<'a, T: ParseFromWithOneInput<'a, bool>>(&'a self) -> Option<T> {
        T::parse(&mut SliceReader::new(self.from_length), self.is_extended()).ok()
    }

    fn read_with_width<'a, T: ParseFromWithTwoInputs<'a, bool, bool>>(&'a self, four_octet: bool) -> Option<T> {
        T::parse(&mut SliceReader::new(self.from_length), self.is_extended(), four_octet).ok()
    }

    /// The optional attribute error of an attribute whose routes cannot be told (RFC 7606 §5.3, §7.11).
    fn unreadable(&self) -> Broken {
        Broken::Reset(Notification::new(3, 9, &[&[self.flags, self.kind], self.from_length].concat()))
    }
}

/// Reads all attributes in `octets`.
///
/// # Errors
/// Where routes cannot be told (RFC 7606 §5.3), a multiprotocol attribute is there twice (§3 g) or a well-known one is unknown
/// (RFC 4271 §6.3).
pub(super) fn read(octets: &[u8], context: &Context, faults: &mut Vec<BgpFault>) -> Result<Found, Notification> {
    let mut found = Found::default();
    // One bit for each type code met.
    let mut seen = [0u64; 4];
    let mut rest = octets;
    while !rest.is_empty() {
        let Some((attribute, next)) = cut(rest) else {
            // Lengths that run over the end (RFC 7606 §4).
            found.withdraw = true;
            break;
        };
        rest = next;
        found.count += 1;
        let word = &mut seen[usize::from(attribute.kind >> 6)];
        let bit = 1 << (attribute.kind & 63);
        if *word & bit != 0 {
            if matches!(attribute.kind, MP_REACH | MP_UNREACH) {
                return Err(Notification::new(3, 1, &[]));
            }
            faults.push(BgpFault::AttributeDiscarded);
            continue;
        }
        *word |= bit;
        match take(&attribute, context, &mut found, faults) {
            Ok(()) => {}
            Err(Broken::Withdraw) => found.withdraw = true,
            Err(Broken::Discard) => faults.push(BgpFault::AttributeDiscarded),
            Err(Broken::Reset(notification)) => return Err(notification),
        }
    }
    Ok(found)
}

fn cut(octets: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let (&[flags, kind], from_length) = octets.split_first_chunk::<2>()?;
    let (length, header) = if flags & EXTENDED == 0 {
        (usize::from(*from_length.first()?), 1)
    } else {
        (usize::from(u16::from_be_bytes(*from_length.first_chunk()?)), 2)
    };
    let (from_length, rest) = from_length.split_at_checked(header + length)?;
    Some((Attribute { flags, kind, from_length, value: &from_length[header..] }, rest))
}

fn take(
    attribute: &Attribute<'_>,
    context: &Context,
    found: &mut Found,
    faults: &mut Vec<BgpFault>,
) -> Result<(), Broken> {
    match proper_flags(attribute.kind) {
        Some(flags) if attribute.flags & (OPTIONAL | TRANSITIVE) == flags => {}
        Some(_) => {
            found.has_reach |= attribute.kind == MP_REACH;
            // What is withdrawn stays withdrawn, and the routes of an MP_REACH_NLRI must be known to be.
            if !matches!(attribute.kind, MP_REACH | MP_UNREACH) {
                return Err(Broken::Withdraw);
            }
            found.withdraw = true;
        }
        None => return foreign(attribute, found),
    }
    match attribute.kind {
        ORIGIN => found.origin = Some(origin(attribute).ok_or(Broken::Withdraw)?),
        AS_PATH => found.as_path = Some(as_path(attribute, context.four_octet).ok_or(Broken::Withdraw)?),
        NEXT_HOP => found.next_hop = Some(attribute.read::<NextHop>().ok_or(Broken::Withdraw)?.next_hop()),
        MULTI_EXIT_DISC => {
            found.med = Some(attribute.read::<MultiExitDiscriminator>().ok_or(Broken::Withdraw)?.metric());
        }
        // From another AS they mean nothing, whatever they look like (RFC 7606 §7.5, §7.9, §7.10).
        LOCAL_PREF | ORIGINATOR_ID | CLUSTER_LIST if context.external() => return Err(Broken::Discard),
        LOCAL_PREF => {
            found.local_pref = Some(attribute.read::<LocalPreference>().ok_or(Broken::Withdraw)?.metric());
        }
        ATOMIC_AGGREGATE if attribute.value.is_empty() => found.atomic_aggregate = true,
        ATOMIC_AGGREGATE => return Err(Broken::Discard),
        AGGREGATOR => found.aggregator = Some(aggregator(attribute, context.four_octet).ok_or(Broken::Discard)?),
        COMMUNITIES => found.communities = communities(attribute).ok_or(Broken::Withdraw)?,
        MP_REACH => reach(attribute, context, found, faults)?,
        MP_UNREACH => unreach(attribute, context, found, faults)?,
        // A speaker of 4-octet AS numbers has no use for these (RFC 6793 §6).
        AS4_PATH | AS4_AGGREGATOR if context.four_octet => return Err(Broken::Discard),
        AS4_PATH => found.as4_path = Some(as4_path(attribute).ok_or(Broken::Discard)?),
        AS4_AGGREGATOR => found.as4_aggregator = Some(aggregator(attribute, true).ok_or(Broken::Discard)?),
        EXTENDED_COMMUNITIES if !is_run_of(attribute.value, 8) => return Err(Broken::Withdraw),
        LARGE_COMMUNITIES if !is_run_of(attribute.value, 12) => return Err(Broken::Withdraw),
        EXTENDED_COMMUNITIES | LARGE_COMMUNITIES => keep(attribute, 0, found),
        // ORIGINATOR_ID and CLUSTER_LIST of a route reflector of our AS: not passed on, for we are none.
        _ => {}
    }
    Ok(())
}

fn is_run_of(value: &[u8], octets: usize) -> bool {
    !value.is_empty() && value.len().is_multiple_of(octets)
}

/// An attribute of a type not known here: it goes on if it may, and says that it was not understood (RFC 4271 §5).
fn foreign(attribute: &Attribute<'_>, found: &mut Found) -> Result<(), Broken> {
    if attribute.flags & OPTIONAL == 0 {
        let whole = [&[attribute.flags, attribute.kind], attribute.from_length].concat();
        return Err(Broken::Reset(Notification::new(3, 2, &whole)));
    }
    if attribute.flags & TRANSITIVE != 0 {
        keep(attribute, PARTIAL, found);
    }
    Ok(())
}

fn keep(attribute: &Attribute<'_>, more: u8, found: &mut Found) {
    let flags = (attribute.flags & (OPTIONAL | TRANSITIVE | PARTIAL)) | more;
    found.foreign.push(Foreign { flags, kind: attribute.kind, value: attribute.value.into() });
}

fn origin(attribute: &Attribute<'_>) -> Option<Origin> {
    Some(match attribute.read::<WireOrigin>()? {
        WireOrigin::IGP => Origin::Igp,
        WireOrigin::EGP => Origin::Egp,
        WireOrigin::Incomplete => Origin::Incomplete,
    })
}

fn as_path(attribute: &Attribute<'_>, four_octet: bool) -> Option<AsPath> {
    match attribute.read_with_width::<WireAsPath>(four_octet)? {
        WireAsPath::As2PathSegments(segments) => {
            let segment = |segment: &As2PathSegment| {
                self::segment(segment.segment_type(), segment.as_numbers().iter().copied().map(u32::from).collect())
            };
            segments.iter().map(segment).collect::<Option<_>>().map(AsPath)
        }
        WireAsPath::As4PathSegments(segments) => wide_path(&segments),
    }
}

fn as4_path(attribute: &Attribute<'_>) -> Option<AsPath> {
    wide_path(attribute.read::<As4Path>()?.segments())
}

fn wide_path(segments: &[As4PathSegment]) -> Option<AsPath> {
    let segment = |segment: &As4PathSegment| self::segment(segment.segment_type(), segment.as_numbers().into());
    segments.iter().map(segment).collect::<Option<_>>().map(AsPath)
}

/// `None` with AS 0 (RFC 7607 §2).
fn segment(kind: AsPathSegmentType, asns: Box<[u32]>) -> Option<Segment> {
    if asns.contains(&0) {
        return None;
    }
    Some(match kind {
        AsPathSegmentType::AsSequence => Segment::Sequence(asns),
        AsPathSegmentType::AsSet => Segment::Set(asns),
    })
}

/// `None` with AS 0 (RFC 7607 §2).
fn aggregator(attribute: &Attribute<'_>, four_octet: bool) -> Option<(u32, Ipv4Addr)> {
    let found = match attribute.read_with_width::<Aggregator>(four_octet)? {
        Aggregator::As2Aggregator(read) => from_two(&read),
        Aggregator::As4Aggregator(read) => from_four(&read),
    };
    (found.0 != 0).then_some(found)
}

fn from_two(read: &As2Aggregator) -> (u32, Ipv4Addr) {
    (u32::from(*read.asn()), read.origin())
}

fn from_four(read: &As4Aggregator) -> (u32, Ipv4Addr) {
    (*read.asn(), read.origin())
}

fn communities(attribute: &Attribute<'_>) -> Option<Box<[u32]>> {
    if !is_run_of(attribute.value, 4) {
        return None;
    }
    let read = attribute.read::<Communities>()?;
    Some(read.communities().iter().map(Community::value).collect())
}

/// The family at the front of a multiprotocol attribute, `Err` if it is none of ours.
fn family(value: &[u8], context: &Context) -> Option<Result<Family, ()>> {
    let &[afi0, afi1, safi] = value.first_chunk::<3>()?;
    Some(match (afi0, afi1, safi) {
        (0, 1, 1) if context.families.v4 => Ok(Family::V4),
        (0, 2, 1) if context.families.v6 => Ok(Family::V6),
        _ => Err(()),
    })
}

fn reach(
    attribute: &Attribute<'_>,
    context: &Context,
    found: &mut Found,
    faults: &mut Vec<BgpFault>,
) -> Result<(), Broken> {
    found.has_reach = true;
    let Ok(family) = family(attribute.value, context).ok_or_else(|| attribute.unreadable())? else {
        faults.push(BgpFault::FamilyNotNegotiated);
        return Ok(());
    };
    let read = || {
        let (&length, rest) = attribute.value.get(3..)?.split_first()?;
        let (next_hop, rest) = rest.split_at_checked(length.into())?;
        let next_hop: IpAddr = match (family, next_hop.len()) {
            (Family::V4, 4) => Ipv4Addr::from(*next_hop.first_chunk::<4>()?).into(),
            // With 32 octets the second half is a link-local address (RFC 2545 §3).
            (Family::V6, 16 | 32) => Ipv6Addr::from(*next_hop.first_chunk::<16>()?).into(),
            _ => return None,
        };
        // One reserved octet.
        Some((next_hop, rest.get(1..)?))
    };
    let (next_hop, run) = read().ok_or_else(|| attribute.unreadable())?;
    let mut prefixes = Vec::new();
    nlri::read(run, family, &mut prefixes, faults).ok_or_else(|| attribute.unreadable())?;
    found.reach = Some(Reach { next_hop, prefixes });
    Ok(())
}

fn unreach(
    attribute: &Attribute<'_>,
    context: &Context,
    found: &mut Found,
    faults: &mut Vec<BgpFault>,
) -> Result<(), Broken> {
    let Ok(family) = family(attribute.value, context).ok_or_else(|| attribute.unreadable())? else {
        faults.push(BgpFault::FamilyNotNegotiated);
        return Ok(());
    };
    let mut prefixes = Vec::new();
    nlri::read(&attribute.value[3..], family, &mut prefixes, faults).ok_or_else(|| attribute.unreadable())?;
    found.unreach = Some((family, prefixes));
    Ok(())
}

/// AS_PATH with what AS4_PATH knows better (RFC 6793 §4.2.3).
pub(super) fn merge(found: &mut Found) {
    let (as4_path, as4_aggregator) = (found.as4_path.take(), found.as4_aggregator.take());
    match (found.aggregator, as4_aggregator) {
        // Someone who speaks 2 octets only has aggregated since.
        (Some((asn, _)), Some(_)) if asn != u32::from(AS_TRANS) => return,
        (Some(_), Some(wide)) => found.aggregator = Some(wide),
        _ => {}
    }
    let (Some(narrow), Some(wide)) = (&found.as_path, as4_path) else { return };
    let Some(mut lead) = narrow.length().checked_sub(wide.length()) else { return };
    let mut segments: Vec<Segment> = Vec::new();
    for segment in &narrow.0 {
        match segment {
            _ if lead == 0 => break,
            Segment::Sequence(asns) => {
                let taken = lead.min(asns.len());
                segments.push(Segment::Sequence(asns[..taken].into()));
                lead -= taken;
            }
            Segment::Set(asns) => {
                segments.push(Segment::Set(asns.clone()));
                lead -= 1;
            }
        }
    }
    let mut wide = wide.0.into_vec();
    // Two sequences side by side are one.
    if let (Some(Segment::Sequence(front)), Some(Segment::Sequence(back))) = (segments.last(), wide.first()) {
        wide[0] = Segment::Sequence([&front[..], &back[..]].concat().into());
        segments.pop();
    }
    segments.append(&mut wide);
    found.as_path = Some(AsPath(segments.into()));
}
