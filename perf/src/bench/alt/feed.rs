//! What neighbours say: a table split over four of them, as octets.
//!
//! Neighbouring prefixes share attributes as those of one origin do, 1 to 11 of them (6 in the middle); paths have 2 to 6 ASes. The
//! groups come in random order, as they do from a speaker that keeps routes in a hash table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use altitude_control::alt::{
    bgp::{
        message::{self, Context, Message, Open},
        route::{AsPath, Attributes, Family, Origin, Segment, Update},
        settings::{Families, NeighborSettings},
    },
    tunnels::TunnelId,
};
use altitude_dataplane::mapping::Prefix;

use crate::bench::lpm::random::Random;

/// Neighbours.
pub(super) const NEIGHBORS: usize = 4;
/// AS number of the speaker under test.
pub(super) const ASN: u32 = 64512;
/// Hold time, seconds; long enough for a slow machine.
const HOLD: u16 = 600;

/// One neighbour's part of the load.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) index: usize,
    /// UPDATEs, then End-of-RIB of both families.
    pub(super) octets: Vec<u8>,
    pub(super) prefixes: usize,
    /// Different sets of attributes.
    pub(super) sets: usize,
}

/// AS number of a neighbour.
pub(super) const fn asn(index: usize) -> u32 {
    ASN + 1 + index as u32
}

/// Its end of the link.
pub(super) fn remote(index: usize) -> Ipv4Addr {
    [10, 42, index as u8, 2].into()
}

/// The speaker's end.
pub(super) fn local(index: usize) -> Ipv4Addr {
    [10, 42, index as u8, 1].into()
}

/// The IPv6 addresses of both ends: 1 is the speaker's, 2 the neighbour's.
pub(super) fn address6(index: usize, end: u16) -> Ipv6Addr {
    [0xfd00, 0, 0, index as u16, 0, 0, 0, end].into()
}

/// How the speaker sees a neighbour.
pub(super) fn neighbor(index: usize) -> NeighborSettings {
    let (local, remote) = (local(index).into(), remote(index).into());
    let mut settings = NeighborSettings::new(TunnelId(index), local, 24, remote, asn(index));
    settings.tunnel_addresses.push((address6(index, 1).into(), 64));
    settings.passive = true;
    settings.hold = HOLD;
    settings.name = format!("neighbor-{index}");
    settings
}

/// How a neighbour reads what the speaker says.
pub(super) fn context(index: usize) -> Context {
    let (here, there): (IpAddr, IpAddr) = (remote(index).into(), local(index).into());
    let mut settings = NeighborSettings::new(TunnelId(0), here, 24, there, ASN);
    settings.tunnel_addresses.push((address6(index, 2).into(), 64));
    Context::new(asn(index), &settings)
}

/// OPEN and KEEPALIVE: a neighbour's whole part of the handshake, sent at once.
pub(super) fn greeting(index: usize) -> Vec<u8> {
    let open = Open {
        asn: asn(index),
        hold: HOLD,
        router_id: remote(index),
        families: Families::ALL,
        route_refresh: true,
        enhanced_refresh: false,
        graceful: None,
        four_octet: true,
    };
    let mut octets = Vec::new();
    for message in [Message::Open(open), Message::Keepalive] {
        message::encode(&message, &context(index), &mut octets).expect("short");
    }
    octets
}

/// Splits `prefixes` over the neighbours.
pub(super) fn split(mut prefixes: Vec<Prefix>) -> Vec<Feed> {
    prefixes.sort_unstable();
    let mut random = Random::new(0xa17);
    let mut groups: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while start < prefixes.len() {
        let family = Family::of(&prefixes[start]);
        let most = (start + 1 + random.below(11)).min(prefixes.len());
        let end = (start + 1..most).find(|end| Family::of(&prefixes[*end]) != family).unwrap_or(most);
        groups.push((start, end));
        start = end;
    }
    random.shuffle(&mut groups);
    let parts = groups.chunks(groups.len().div_ceil(NEIGHBORS).max(1)).enumerate();
    parts.map(|(index, groups)| feed(index, groups, &prefixes, &mut random)).collect()
}

fn feed(index: usize, groups: &[(usize, usize)], prefixes: &[Prefix], random: &mut Random) -> Feed {
    let context = context(index);
    let mut octets = Vec::new();
    for (number, (start, end)) in groups.iter().enumerate() {
        let prefixes = prefixes[*start..*end].to_vec();
        let next_hop: IpAddr = match Family::of(&prefixes[0]) {
            Family::V4 => remote(index).into(),
            Family::V6 => address6(index, 2).into(),
        };
        let mut path = vec![asn(index)];
        path.extend((0..random.below(4)).map(|_| 100_000 + random.below(500) as u32));
        // The origin: no two groups share all their attributes.
        path.push(200_000 + (number * NEIGHBORS + index) as u32);
        let attributes = Attributes {
            origin: Origin::Igp,
            as_path: AsPath([Segment::Sequence(path.into())].into()),
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Box::default(),
            foreign: Box::default(),
        };
        let update =
            Update { withdrawn: Vec::new(), announced: vec![(next_hop, prefixes)], attributes: Some(attributes) };
        message::encode(&Message::Update(update), &context, &mut octets).expect("short paths");
    }
    for family in Family::ALL {
        message::encode(&Message::EndOfRib(family), &context, &mut octets).expect("short");
    }
    let count = groups.iter().map(|(start, end)| end - start).sum();
    Feed { index, octets, prefixes: count, sets: groups.len() }
}
