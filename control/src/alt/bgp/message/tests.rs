use std::net::Ipv4Addr;

use netgauze_bgp_pkt::{
    BgpMessage,
    path_attribute::PathAttributeValue,
    wire::{deserializer::BgpParsingContext, serializer::BgpMessageWritingError},
};
use netgauze_parse_utils::{WritablePdu, reader::SliceReader, traits::ParseFromWithOneInput};
use proptest::prelude::*;

use super::*;
use crate::alt::{
    bgp::route::{AsPath, Attributes, Foreign, Origin, Segment},
    tunnels::TunnelId,
};

/// We are AS 64512 at 10.42.1.1/30 and fd00::1/64, the neighbour AS 64513 at 10.42.1.2.
fn context() -> Context {
    let mut neighbor = NeighborSettings::new(TunnelId(0), ip("10.42.1.1"), 30, ip("10.42.1.2"), 64513);
    neighbor.tunnel_addresses.push((ip("fd00::1"), 64));
    Context::new(64512, &neighbor)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn attributes(path: &[u32]) -> Attributes {
    Attributes {
        origin: Origin::Igp,
        as_path: AsPath([Segment::Sequence(path.into())].into()),
        med: None,
        local_pref: None,
        atomic_aggregate: false,
        aggregator: None,
        communities: [].into(),
        foreign: [].into(),
    }
}

fn encoded(message: &Message, context: &Context) -> Vec<u8> {
    let mut octets = Vec::new();
    encode(message, context, &mut octets).expect("sendable");
    octets
}

/// All messages in `octets`, read.
fn decoded(octets: &[u8], context: &Context) -> Vec<Parsed> {
    let mut splitter = Splitter::default();
    splitter.push(octets);
    let mut all = Vec::new();
    while let Some(message) = splitter.next() {
        all.push(parse(message.expect("framed"), context).expect("read"));
    }
    all
}

fn one(octets: &[u8], context: &Context) -> Parsed {
    let mut all = decoded(octets, context);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn clean(message: Message) -> Parsed {
    Parsed { message: Some(message), faults: vec![] }
}

/// An UPDATE of these three parts, and what comes of it.
fn update_of(withdrawn: &[u8], attributes: &[&[u8]], announced: &[u8]) -> Result<Parsed, Notification> {
    let attributes = attributes.concat();
    let mut message = vec![0xff; 16];
    let length = HEADER + 4 + withdrawn.len() + attributes.len() + announced.len();
    message.extend((length as u16).to_be_bytes());
    message.push(2);
    message.extend((withdrawn.len() as u16).to_be_bytes());
    message.extend(withdrawn);
    message.extend((attributes.len() as u16).to_be_bytes());
    message.extend(attributes);
    message.extend(announced);
    parse(&message, &context())
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
/// AS 64513.
const PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x01];
const HOP: &[u8] = &[0x40, 3, 4, 10, 42, 1, 2];
/// 10.1.0.0/16.
const NLRI: &[u8] = &[16, 10, 1];
/// 2001:db8:1::/48 by fd00::2.
const REACH: &[u8] = &[
    0x80, 14, 28, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 48, 0x20, 0x01, 0x0d, 0xb8, 0, 1,
];

/// The codec of the library on the same octets.
fn by_library(octets: &[u8]) -> BgpMessage {
    let mut context = BgpParsingContext::default();
    BgpMessage::parse(&mut SliceReader::new(octets), &mut context).expect("the library reads it")
}

fn from_library(message: &BgpMessage) -> Vec<u8> {
    let mut octets = Vec::new();
    let written: Result<(), BgpMessageWritingError> = message.write(&mut octets);
    written.expect("a Vec takes all");
    octets
}

#[test]
fn an_open_says_all_it_has_to_and_nothing_is_lost() {
    let full = Open {
        asn: 4_200_000_001,
        hold: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        families: Families::ALL,
        route_refresh: true,
        enhanced_refresh: true,
        graceful: Some(Graceful {
            restarting: true,
            time: 4095,
            families: vec![(Family::V4, true), (Family::V6, false)],
        }),
        four_octet: true,
    };
    let octets = encoded(&Message::Open(full.clone()), &context());
    assert_eq!(&octets[20..22], &AS_TRANS.to_be_bytes(), "4 octets do not fit the old field");
    assert_eq!(one(&octets, &context()), clean(Message::Open(full.clone())));
    let small = Open {
        asn: 65001,
        families: Families { v4: true, v6: false },
        route_refresh: false,
        enhanced_refresh: false,
        graceful: None,
        four_octet: false,
        ..full
    };
    let mut bare = encoded(&Message::Open(small.clone()), &context());
    assert_eq!(one(&bare, &context()), clean(Message::Open(small.clone())));
    // Without any capability IPv4 is meant.
    bare.truncate(29);
    bare[17] = 29;
    bare[28] = 0;
    assert_eq!(one(&bare, &context()), clean(Message::Open(small)));
}

fn open_of(body: &[u8]) -> Result<Open, Notification> {
    capabilities::open(body)
}

#[test]
fn capabilities_of_others_do_not_hide_those_that_follow() {
    // AFI 16397, which the library does not know; an unknown capability; IPv6 unicast; AS 65550; one that is cut short.
    let capabilities =
        [&[1, 4, 0x40, 0x0d, 0, 1][..], &[200, 2, 1, 2], &[1, 4, 0, 2, 0, 1], &[65, 4, 0, 1, 0, 14], &[64, 1, 0]]
            .concat();
    let body = |extended: bool| {
        let mut body = vec![4, 0x5b, 0xa0, 0, 90, 10, 0, 0, 2];
        let length = capabilities.len() as u8;
        if extended {
            body.extend([255, 255, 0, length + 3, 2, 0, length]);
        } else {
            body.extend([length + 2, 2, length]);
        }
        body.extend(&capabilities);
        body
    };
    for extended in [false, true] {
        let open = open_of(&body(extended)).expect("read");
        assert_eq!(open.families, Families { v4: false, v6: true });
        assert_eq!((open.asn, open.four_octet, open.graceful), (65550, true, None));
    }
}

#[test]
fn opens_that_are_none_are_refused_with_the_code_for_it() {
    let good = [4, 0xfc, 0x01, 0, 90, 10, 0, 0, 2, 0];
    assert!(open_of(&good).is_ok());
    let with = |at: usize, octets: &[u8]| {
        let mut body = good.to_vec();
        body.splice(at..(at + octets.len()).min(body.len()), octets.iter().copied());
        open_of(&body).map_err(|n| (n.code, n.subcode, n.data))
    };
    assert_eq!(with(0, &[3]), Err((2, 1, vec![0, 4])));
    assert_eq!(with(1, &[0, 0]), Err((2, 2, vec![0, 0])));
    assert_eq!(with(1, &[0x5b, 0xa0]), Err((2, 2, vec![0x5b, 0xa0])), "AS_TRANS is nobody");
    assert_eq!(with(3, &[0, 2]), Err((2, 6, vec![0, 2])));
    assert!(with(3, &[0, 0]).is_ok() && with(3, &[0, 3]).is_ok());
    assert_eq!(with(5, &[0, 0, 0, 0]), Err((2, 3, vec![0, 0, 0, 0])));
    assert_eq!(with(9, &[4, 1, 2, 0, 0]), Err((2, 4, vec![1])), "a parameter that is no capability");
    assert_eq!(with(9, &[1]), Err((2, 0, vec![])), "lengths that contradict each other");
    assert_eq!(with(9, &[3, 2, 2, 65]), Err((2, 0, vec![])));
    assert_eq!(open_of(&good[..9]).map_err(|n| (n.code, n.subcode)), Err((2, 0)));
}

#[test]
fn headers_that_are_none_end_the_session_with_the_code_for_it() {
    let header = |marker: u8, length: u16, kind: u8| {
        let mut octets = vec![marker; 16];
        octets.extend(length.to_be_bytes());
        octets.push(kind);
        let mut splitter = Splitter::default();
        splitter.push(&octets);
        splitter.next().map(|found| found.map(<[u8]>::len).map_err(|n| (n.code, n.subcode, n.data)))
    };
    assert_eq!(header(0xff, 19, 4), Some(Ok(19)));
    assert_eq!(header(0xfe, 19, 4), Some(Err((1, 1, vec![]))));
    for (length, kind) in [(18, 4), (20, 4), (28, 1), (22, 2), (20, 3), (4097, 2), (0, 2), (65535, 1)] {
        let found = header(0xff, length, kind);
        assert_eq!(found, Some(Err((1, 2, length.to_be_bytes().to_vec()))), "type {kind} of {length} octets");
    }
    assert_eq!(header(0xff, 19, 0), Some(Err((1, 3, vec![0]))));
    assert_eq!(header(0xff, 19, 6), Some(Err((1, 3, vec![6]))));
    // The rest of it is waited for.
    assert_eq!((header(0xff, 4096, 2), header(0xff, 29, 1)), (None, None));
}

#[test]
fn messages_come_out_whole_however_they_are_cut() {
    let messages = [
        Message::Keepalive,
        Message::EndOfRib(Family::V4),
        Message::EndOfRib(Family::V6),
        Message::RouteRefresh { family: Family::V6, kind: RefreshKind::End },
        Message::RouteRefresh { family: Family::V4, kind: RefreshKind::Begin },
        Message::Notification(Notification::cease(Cease::Shutdown, "Wartung bis früh")),
    ];
    let octets: Vec<u8> = messages.iter().flat_map(|message| encoded(message, &context())).collect();
    for step in 1..octets.len() {
        let mut splitter = Splitter::default();
        let mut read = Vec::new();
        for piece in octets.chunks(step) {
            splitter.push(piece);
            while let Some(message) = splitter.next() {
                read.extend(parse(message.unwrap(), &context()).unwrap().message);
            }
        }
        assert_eq!(read, messages, "in pieces of {step}");
    }
}

#[test]
fn the_library_reads_what_is_written_here() {
    let mut rich = attributes(&[64513, 4_200_000_001]);
    rich.med = Some(7);
    rich.atomic_aggregate = true;
    rich.aggregator = Some((4_200_000_001, Ipv4Addr::new(10, 0, 0, 9)));
    rich.communities = [0xffff_ff01, 0xfc01_0001].into();
    rich.foreign = [Foreign { flags: 0xe0, kind: 99, value: [1, 2, 3].into() }].into();
    let update = Update {
        withdrawn: prefixes(&["10.9.0.0/16", "0.0.0.0/0", "10.128.0.0/9", "10.1.2.3/32"]),
        announced: vec![
            (ip("10.42.1.2"), prefixes(&["10.1.0.0/16", "10.2.2.0/23"])),
            (ip("fd00::2"), prefixes(&["2001:db8:1::/48", "::/0", "2001:db8::1/128"])),
        ],
        attributes: Some(rich),
    };
    let octets = encoded(&Message::Update(update.clone()), &context());
    let all = decoded(&octets, &context());
    assert_eq!(all.len(), 3, "withdrawn, IPv4 and IPv6 apart");
    let mut splitter = Splitter::default();
    splitter.push(&octets);
    let mut kinds = Vec::new();
    while let Some(message) = splitter.next() {
        let BgpMessage::Update(read) = by_library(message.unwrap()) else { panic!("an UPDATE") };
        kinds.push((
            read.withdraw_routes().len(),
            read.nlri().len(),
            read.path_attributes().iter().filter(|a| matches!(a.value(), PathAttributeValue::MpReach(_))).count(),
            read.path_attributes().len(),
        ));
    }
    assert_eq!(kinds, [(4, 0, 0, 0), (0, 2, 0, 8), (0, 0, 1, 8)]);
    let mut merged = Update::default();
    for parsed in all {
        assert_eq!(parsed.faults, []);
        let Some(Message::Update(part)) = parsed.message else { panic!("an UPDATE") };
        merged.withdrawn.extend(part.withdrawn);
        merged.announced.extend(part.announced);
        merged.attributes = part.attributes.or(merged.attributes);
    }
    assert_eq!(merged, update);
}

#[test]
fn what_the_library_writes_is_read_here() {
    for message in [Message::Keepalive, Message::Notification(Notification::new(2, 6, &[0, 1]))] {
        let octets = encoded(&message, &context());
        assert_eq!(from_library(&by_library(&octets)), octets);
    }
    let octets = update_octets();
    let again = from_library(&by_library(&octets));
    assert_eq!(one(&again, &context()), one(&octets, &context()));
}

fn update_octets() -> Vec<u8> {
    let update = Update {
        withdrawn: vec![],
        announced: vec![(ip("10.42.1.2"), prefixes(&["10.1.0.0/16"]))],
        attributes: Some(attributes(&[64513])),
    };
    encoded(&Message::Update(update), &context())
}

#[test]
fn a_large_update_becomes_as_many_messages_as_it_needs() {
    let many = |count: u32, v6: bool| -> Vec<Prefix> {
        (0..count)
            .map(|n| {
                let address = if v6 {
                    IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(n) << 80).to_be_bytes())
                } else {
                    IpAddr::from((10 << 24 | n << 8).to_be_bytes())
                };
                Prefix::new(address, if v6 { 48 } else { 24 }).unwrap()
            })
            .collect()
    };
    let mut long = attributes(&[64513]);
    long.as_path = AsPath([Segment::Sequence((64513..64513 + 300).collect())].into());
    for (count, v6, attributes) in [(5000, false, attributes(&[64513])), (5000, true, long)] {
        let prefixes = many(count, v6);
        let next_hop = ip(if v6 { "fd00::2" } else { "10.42.1.2" });
        let update = Update {
            withdrawn: prefixes.clone(),
            announced: vec![(next_hop, prefixes.clone())],
            attributes: Some(attributes),
        };
        let octets = encoded(&Message::Update(update), &context());
        let (mut withdrawn, mut announced) = (Vec::new(), Vec::new());
        let mut splitter = Splitter::default();
        splitter.push(&octets);
        let (mut full, mut messages) = (0, 0);
        while let Some(message) = splitter.next() {
            let message = message.unwrap();
            messages += 1;
            full += usize::from(message.len() > MESSAGE_MAX - 20);
            let Some(Message::Update(read)) = parse(message, &context()).unwrap().message else { panic!("an UPDATE") };
            withdrawn.extend(read.withdrawn);
            announced.extend(read.announced.into_iter().flat_map(|(_, prefixes)| prefixes));
        }
        assert_eq!((withdrawn, announced), (prefixes.clone(), prefixes));
        assert_eq!(full, messages - 2, "all but the last of each are full");
    }
}

#[test]
fn what_can_not_be_sent_is_withdrawn() {
    let mut fat = attributes(&[64513]);
    fat.foreign = [Foreign { flags: 0xc0, kind: 99, value: vec![0; 4070].into() }].into();
    for (next_hop, prefix, attributes) in [
        ("10.42.1.2", "10.1.0.0/16", fat.clone()),
        ("fd00::2", "2001:db8::/32", fat),
        ("fd00::2", "10.1.0.0/16", attributes(&[64513])),
    ] {
        let update = Update {
            withdrawn: vec![],
            announced: vec![(ip(next_hop), prefixes(&[prefix]))],
            attributes: Some(attributes),
        };
        let mut octets = Vec::new();
        assert_eq!(encode(&Message::Update(update), &context(), &mut octets), Err(BgpFault::NotSendable));
        let instead = Update { withdrawn: prefixes(&[prefix]), ..Update::default() };
        assert_eq!(one(&octets, &context()), clean(Message::Update(instead)));
    }
}

#[test]
fn end_of_rib_is_told_from_an_update_without_routes() {
    for family in Family::ALL {
        let octets = encoded(&Message::EndOfRib(family), &context());
        assert_eq!(one(&octets, &context()), clean(Message::EndOfRib(family)));
        let BgpMessage::Update(read) = by_library(&octets) else { panic!("an UPDATE") };
        assert!(read.end_of_rib().is_some());
    }
    let parsed = update_of(&[], &[ORIGIN], &[]).unwrap();
    assert_eq!(parsed, clean(Message::Update(Update::default())));
}

/// What an UPDATE with one IPv4 prefix must come to.
#[derive(Debug, PartialEq)]
enum Fate {
    Taken,
    TakenWith(BgpFault),
    Withdrawn(BgpFault),
    Reset(u8, u8),
}

fn fate(result: Result<Parsed, Notification>) -> Fate {
    let parsed = match result {
        Ok(parsed) => parsed,
        Err(notification) => return Fate::Reset(notification.code, notification.subcode),
    };
    let Some(Message::Update(update)) = parsed.message else { panic!("an UPDATE") };
    match (&update.announced[..], &update.withdrawn[..], &parsed.faults[..]) {
        ([_, ..], [], []) => Fate::Taken,
        ([_, ..], [], [fault]) => Fate::TakenWith(*fault),
        ([], [_, ..], [fault, ..]) => Fate::Withdrawn(*fault),
        other => panic!("neither taken nor withdrawn: {other:?}"),
    }
}

/// ALT-16: rFC 7606 §7, RFC 4271 §6.3, RFC 7607: each error and what it does.
#[test]
fn each_broken_attribute_does_what_the_rfc_says() {
    use BgpFault::{AttributeDiscarded, FamilyNotNegotiated, FirstAs, NextHop, TreatAsWithdraw};
    use Fate::{Reset, Taken, TakenWith, Withdrawn};
    let cases: &[(&str, &[&[u8]], Fate)] = &[
        ("all is well", &[ORIGIN, PATH, HOP], Taken),
        ("extended length", &[&[0x50, 1, 0, 1, 0], PATH, HOP], Taken),
        ("no ORIGIN", &[PATH, HOP], Withdrawn(TreatAsWithdraw)),
        ("no AS_PATH", &[ORIGIN, HOP], Withdrawn(TreatAsWithdraw)),
        ("no NEXT_HOP", &[ORIGIN, PATH], Withdrawn(TreatAsWithdraw)),
        ("ORIGIN 3", &[&[0x40, 1, 1, 3], PATH, HOP], Withdrawn(TreatAsWithdraw)),
        ("ORIGIN of 2 octets", &[&[0x40, 1, 2, 0, 0], PATH, HOP], Withdrawn(TreatAsWithdraw)),
        ("ORIGIN optional", &[&[0xc0, 1, 1, 0], PATH, HOP], Withdrawn(TreatAsWithdraw)),
        ("ORIGIN twice", &[ORIGIN, &[0x40, 1, 1, 2], PATH, HOP], TakenWith(AttributeDiscarded)),
        ("AS_PATH empty", &[ORIGIN, &[0x40, 2, 0], HOP], Withdrawn(FirstAs)),
        ("segment of 0", &[ORIGIN, &[0x40, 2, 2, 2, 0], HOP], Withdrawn(TreatAsWithdraw)),
        ("segment type 5", &[ORIGIN, &[0x40, 2, 6, 5, 1, 0, 0, 0xfc, 1], HOP], Withdrawn(TreatAsWithdraw)),
        ("confederation", &[ORIGIN, &[0x40, 2, 6, 3, 1, 0, 0, 0xfc, 1], HOP], Withdrawn(TreatAsWithdraw)),
        ("segment cut short", &[ORIGIN, &[0x40, 2, 5, 2, 1, 0, 0, 0xfc], HOP], Withdrawn(TreatAsWithdraw)),
        ("AS 0", &[ORIGIN, &[0x40, 2, 10, 2, 2, 0, 0, 0xfc, 1, 0, 0, 0, 0], HOP], Withdrawn(TreatAsWithdraw)),
        ("another first AS", &[ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 2], HOP], Withdrawn(FirstAs)),
        ("a set first", &[ORIGIN, &[0x40, 2, 6, 1, 1, 0, 0, 0xfc, 1], HOP], Withdrawn(FirstAs)),
        ("NEXT_HOP of 3 octets", &[ORIGIN, PATH, &[0x40, 3, 3, 10, 42, 1]], Withdrawn(TreatAsWithdraw)),
        ("our NEXT_HOP", &[ORIGIN, PATH, &[0x40, 3, 4, 10, 42, 1, 1]], Withdrawn(NextHop)),
        ("a NEXT_HOP elsewhere", &[ORIGIN, PATH, &[0x40, 3, 4, 10, 42, 2, 2]], Withdrawn(NextHop)),
        ("NEXT_HOP 0", &[ORIGIN, PATH, &[0x40, 3, 4, 0, 0, 0, 0]], Withdrawn(NextHop)),
        ("NEXT_HOP multicast", &[ORIGIN, PATH, &[0x40, 3, 4, 224, 0, 0, 1]], Withdrawn(NextHop)),
        ("MED of 3 octets", &[ORIGIN, PATH, HOP, &[0x80, 4, 3, 0, 0, 1]], Withdrawn(TreatAsWithdraw)),
        ("MED transitive", &[ORIGIN, PATH, HOP, &[0xc0, 4, 4, 0, 0, 0, 1]], Withdrawn(TreatAsWithdraw)),
        ("LOCAL_PREF of another AS", &[ORIGIN, PATH, HOP, &[0x40, 5, 2, 0, 0]], TakenWith(AttributeDiscarded)),
        ("ATOMIC_AGGREGATE of 1", &[ORIGIN, PATH, HOP, &[0x40, 6, 1, 0]], TakenWith(AttributeDiscarded)),
        ("AGGREGATOR of 6", &[ORIGIN, PATH, HOP, &[0xc0, 7, 6, 0, 1, 1, 1, 1, 1]], TakenWith(AttributeDiscarded)),
        ("AGGREGATOR AS 0", &[ORIGIN, PATH, HOP, &[0xc0, 7, 8, 0, 0, 0, 0, 1, 1, 1, 1]], TakenWith(AttributeDiscarded)),
        ("COMMUNITIES of 3", &[ORIGIN, PATH, HOP, &[0xc0, 8, 3, 0, 0, 1]], Withdrawn(TreatAsWithdraw)),
        ("COMMUNITIES of 0", &[ORIGIN, PATH, HOP, &[0xc0, 8, 0]], Withdrawn(TreatAsWithdraw)),
        ("ORIGINATOR_ID of another AS", &[ORIGIN, PATH, HOP, &[0x80, 9, 1, 0]], TakenWith(AttributeDiscarded)),
        ("CLUSTER_LIST of another AS", &[ORIGIN, PATH, HOP, &[0x80, 10, 1, 0]], TakenWith(AttributeDiscarded)),
        (
            "extended communities of 7",
            &[ORIGIN, PATH, HOP, &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0]],
            Withdrawn(TreatAsWithdraw),
        ),
        ("large communities of 4", &[ORIGIN, PATH, HOP, &[0xc0, 32, 4, 0, 0, 0, 0]], Withdrawn(TreatAsWithdraw)),
        (
            "AS4_PATH of a new speaker",
            &[ORIGIN, PATH, HOP, &[0xc0, 17, 6, 2, 1, 0, 0, 0, 9]],
            TakenWith(AttributeDiscarded),
        ),
        ("unknown, optional", &[ORIGIN, PATH, HOP, &[0x80, 99, 1, 0]], Taken),
        ("unknown, well-known", &[ORIGIN, PATH, HOP, &[0x40, 99, 1, 0]], Reset(3, 2)),
        ("a length over the end", &[ORIGIN, PATH, HOP, &[0x80, 4, 200, 0]], Withdrawn(TreatAsWithdraw)),
        ("a header cut short", &[ORIGIN, PATH, HOP, &[0x80]], Withdrawn(TreatAsWithdraw)),
        ("MP_REACH twice", &[ORIGIN, PATH, HOP, REACH, REACH], Reset(3, 1)),
        ("MP_REACH cut short", &[ORIGIN, PATH, HOP, &[0x80, 14, 5, 0, 2, 1, 16, 0]], Reset(3, 9)),
        ("MP_REACH of 2 octets", &[ORIGIN, PATH, HOP, &[0x80, 14, 2, 0, 2]], Reset(3, 9)),
        ("MP_UNREACH /129", &[ORIGIN, PATH, HOP, &[0x80, 15, 4, 0, 2, 1, 129]], Reset(3, 9)),
        ("another family", &[ORIGIN, PATH, HOP, &[0x80, 14, 4, 0, 1, 128, 0]], TakenWith(FamilyNotNegotiated)),
    ];
    for (name, attributes, expected) in cases {
        assert_eq!(fate(update_of(&[], attributes, NLRI)), *expected, "{name}");
    }
}

#[test]
fn routes_of_both_families_share_the_fate_of_their_message_but_not_of_a_next_hop() {
    let parsed = update_of(&[], &[ORIGIN, PATH, HOP, REACH], NLRI).unwrap();
    let Some(Message::Update(update)) = parsed.message else { panic!("an UPDATE") };
    let both = prefixes(&["10.1.0.0/16", "2001:db8:1::/48"]);
    assert_eq!(update.announced, [(ip("10.42.1.2"), vec![both[0]]), (ip("fd00::2"), vec![both[1]])]);
    let parsed = update_of(&[], &[PATH, HOP, REACH], NLRI).unwrap();
    let Some(Message::Update(update)) = parsed.message else { panic!("an UPDATE") };
    assert_eq!((update.announced.len(), update.withdrawn), (0, both.clone()));
    let elsewhere = &[0x40, 3, 4, 192, 0, 2, 1][..];
    let parsed = update_of(&[], &[ORIGIN, PATH, elsewhere, REACH], NLRI).unwrap();
    let Some(Message::Update(update)) = parsed.message else { panic!("an UPDATE") };
    assert_eq!(update.withdrawn, [both[0]]);
    assert_eq!(update.announced, [(ip("fd00::2"), vec![both[1]])]);
    assert_eq!(parsed.faults, [BgpFault::NextHop]);
}

#[test]
fn prefixes_that_can_not_be_told_end_the_session_and_those_no_host_can_have_are_left_out() {
    for run in [&[33, 10, 1, 1, 1, 1][..], &[24, 10, 1], &[16]] {
        assert_eq!(fate(update_of(&[], &[ORIGIN, PATH, HOP], run)), Fate::Reset(3, 10), "{run:?}");
        assert_eq!(fate(update_of(run, &[], &[])), Fate::Reset(3, 10), "{run:?}");
    }
    let run = [&[24, 224, 0, 1][..], &[8, 127], NLRI, &[0]].concat();
    let parsed = update_of(&[], &[ORIGIN, PATH, HOP], &run).unwrap();
    let Some(Message::Update(update)) = parsed.message else { panic!("an UPDATE") };
    assert_eq!(update.announced[0].1, prefixes(&["10.1.0.0/16", "0.0.0.0/0"]));
    assert_eq!(parsed.faults, [BgpFault::PrefixRefused; 2]);
}

#[test]
fn lengths_of_the_lists_and_errors_without_routes_end_the_session() {
    let lists = |body: &[u8]| {
        let mut message = vec![0xff; 16];
        message.extend(((HEADER + body.len()) as u16).to_be_bytes());
        message.push(2);
        message.extend(body);
        fate(parse(&message, &context()))
    };
    assert_eq!(lists(&[0, 5, 0, 0]), Fate::Reset(3, 1));
    assert_eq!(lists(&[0, 0, 0, 9, 0x40]), Fate::Reset(3, 1));
    // The routes it was about may have been in what could not be read.
    assert_eq!(fate(update_of(&[], &[&[0x40, 1, 1, 9], PATH], &[])), Fate::Reset(3, 1));
}

#[test]
fn wide_as_numbers_survive_a_neighbour_that_knows_only_two_octets() {
    let mut narrow = context();
    narrow.four_octet = false;
    narrow.remote_asn = 64513;
    let mut wide = attributes(&[64513, 4_200_000_001, 65000, 70000]);
    wide.aggregator = Some((4_200_000_001, Ipv4Addr::new(10, 0, 0, 9)));
    let update = Update {
        withdrawn: vec![],
        announced: vec![(ip("10.42.1.2"), prefixes(&["10.1.0.0/16"]))],
        attributes: Some(wide.clone()),
    };
    let octets = encoded(&Message::Update(update.clone()), &narrow);
    assert_eq!(one(&octets, &narrow), clean(Message::Update(update)));
    let trans = [0x5b, 0xa0];
    assert_eq!(octets.windows(2).filter(|pair| *pair == trans).count(), 3, "2 in AS_PATH, 1 in AGGREGATOR");
}

#[test]
fn as4_path_knows_better_unless_someone_aggregated_since() {
    let path = |asns: &[u32]| AsPath([Segment::Sequence(asns.into())].into());
    let merged = |narrow: AsPath, wide: AsPath, aggregators: Option<(u32, u32)>| {
        let router = Ipv4Addr::new(10, 0, 0, 9);
        let mut found = attributes::Found {
            as_path: Some(narrow),
            as4_path: Some(wide),
            aggregator: aggregators.map(|(narrow, _)| (narrow, router)),
            as4_aggregator: aggregators.map(|(_, wide)| (wide, router)),
            ..attributes::Found::default()
        };
        attributes::merge(&mut found);
        (found.as_path.unwrap(), found.aggregator.map(|(asn, _)| asn))
    };
    let trans = u32::from(AS_TRANS);
    let narrow = path(&[64513, trans, trans]);
    assert_eq!(merged(narrow.clone(), path(&[70000, 80000]), None).0, path(&[64513, 70000, 80000]));
    assert_eq!(
        merged(narrow.clone(), path(&[70000, 80000]), Some((trans, 90000))),
        (path(&[64513, 70000, 80000]), Some(90000))
    );
    assert_eq!(merged(narrow.clone(), path(&[70000]), Some((64513, 90000))), (narrow.clone(), Some(64513)));
    // Longer than the path it belongs to: made up.
    assert_eq!(merged(narrow.clone(), path(&[1, 2, 3, 4]), None).0, narrow);
    let with_set = AsPath(
        [Segment::Sequence([64513].into()), Segment::Set([1, 2].into()), Segment::Sequence([trans].into())].into(),
    );
    let expected = AsPath(
        [Segment::Sequence([64513].into()), Segment::Set([1, 2].into()), Segment::Sequence([70000].into())].into(),
    );
    assert_eq!(merged(with_set, path(&[70000]), None).0, expected);
}

#[test]
fn a_shutdown_text_is_cut_between_characters_and_shown_without_tricks() {
    let long = "ä".repeat(200);
    let notification = Notification::cease(Cease::Shutdown, &long);
    assert_eq!(notification.data.len(), 255, "127 characters of 2 octets and the length");
    assert_eq!(notification.text(), Some("ä".repeat(127)));
    let tricky = Notification::new(6, 2, b"\x0dred\x1b[31m\nalert");
    assert_eq!(tricky.text().as_deref(), Some("red\u{fffd}[31m\u{fffd}aler"));
    assert_eq!(Notification::new(6, 2, &[]).text(), None);
    assert_eq!(Notification::new(6, 2, &[9, b'x']).text(), None, "shorter than it says");
    assert_eq!(Notification::new(6, 1, b"\x03abc").text(), None);
    assert_eq!(Notification::new(2, 2, &[]).to_string(), "OPEN Message Error, Bad Peer AS (2/2)");
    assert_eq!(Notification::new(4, 0, &[]).to_string(), "Hold Timer Expired (4/0)");
    assert_eq!(Notification::new(9, 9, &[]).to_string(), "unknown error (9/9)");
}

#[test]
fn refreshes_of_others_are_passed_over_and_wrong_lengths_are_not() {
    let refresh = |body: &[u8]| {
        let mut message = vec![0xff; 16];
        message.extend(((HEADER + body.len()) as u16).to_be_bytes());
        message.push(5);
        message.extend(body);
        parse(&message, &context())
    };
    for body in [[0, 1, 9, 1], [0, 1, 0, 128], [0x40, 4, 0, 71]] {
        assert_eq!(refresh(&body), Ok(Parsed { message: None, faults: vec![BgpFault::RefreshUnknown] }));
    }
    let error = refresh(&[0, 1, 0]).unwrap_err();
    assert_eq!((error.code, error.subcode, error.data.len()), (7, 1, 22));
}

proptest! {
    #[test]
    fn updates_survive_the_way_over_the_wire(
        withdrawn in proptest::collection::vec(prefix(), 0..50),
        v4 in proptest::collection::vec(prefix_v4(), 1..50),
        path in proptest::collection::vec(1..=u32::MAX, 0..600),
        set in proptest::collection::vec(1..=u32::MAX, 0..5),
        med in proptest::option::of(any::<u32>()),
        communities in proptest::collection::vec(any::<u32>(), 0..100),
        four_octet in any::<bool>(),
    ) {
        let context = Context { four_octet, ..context() };
        let mut sent = attributes(&[]);
        // The neighbour's AS first, and segments of at most 255.
        let path: Vec<u32> = [64513].into_iter().chain(path).collect();
        let mut segments: Vec<Segment> = path.chunks(255).map(|asns| Segment::Sequence(asns.into())).collect();
        if !set.is_empty() {
            segments.push(Segment::Set(set.into()));
        }
        sent.as_path = AsPath(segments.into());
        sent.med = med;
        sent.communities = communities.into();
        let update = Update {
            withdrawn,
            announced: vec![(ip("10.42.1.2"), v4)],
            attributes: Some(sent),
        };
        let octets = encoded(&Message::Update(update.clone()), &context);
        let mut merged = Update::default();
        for parsed in decoded(&octets, &context) {
            prop_assert_eq!(&parsed.faults, &[]);
            let Some(Message::Update(part)) = parsed.message else { panic!("an UPDATE") };
            merged.withdrawn.extend(part.withdrawn);
            for (next_hop, prefixes) in part.announced {
                match merged.announced.last_mut() {
                    Some((last, all)) if *last == next_hop => all.extend(prefixes),
                    _ => merged.announced.push((next_hop, prefixes)),
                }
            }
            merged.attributes = part.attributes.or(merged.attributes);
        }
        if four_octet {
            prop_assert_eq!(merged, update);
        } else {
            // Sequences that were split to be sent may come back as one.
            let flat = |path: &AsPath| path.0.iter().flat_map(|segment| match segment {
                Segment::Sequence(asns) | Segment::Set(asns) => asns.to_vec(),
            }).collect::<Vec<u32>>();
            let (merged, update) = (merged.attributes.unwrap(), update.attributes.unwrap());
            prop_assert_eq!(flat(&merged.as_path), flat(&update.as_path));
        }
    }
}

fn prefix_v4() -> impl Strategy<Value = Prefix> {
    (any::<u32>(), 0..=32u8)
        .prop_map(|(bits, length)| {
            Prefix::new(Ipv4Addr::from(bits & 0x7fff_ffff | 0x0100_0000).into(), length).unwrap()
        })
        .prop_filter("no loopback", |prefix| {
            prefix.address() != ip("127.0.0.0") && !matches!(prefix.address(), IpAddr::V4(a) if a.is_loopback())
        })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    let v6 = (any::<u128>(), 0..=128u8).prop_map(|(bits, length)| {
        let bits = bits & !(7 << 125) | 1 << 125;
        Prefix::new(std::net::Ipv6Addr::from(bits).into(), length).unwrap()
    });
    prop_oneof![prefix_v4(), v6]
}
