//! Header features: what packets say where one is switched on, and what is made of what they say.

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    features::{Features, TOLD_MAX},
    mapping::{EidPrefix, MapVersion, Mark},
    sightings::Seen,
};

use crate::{packets::*, vectors::frame_of, world::*};

const OFF: Features = Features { versions: false, status: false, nonces: false };
const VERSIONS: Features = Features { versions: true, ..OFF };
const STATUS: Features = Features { status: true, ..OFF };
const BOTH: Features = Features { versions: true, status: true, nonces: false };

fn world(features: Features) -> World {
    World::with(Options { features, ..Options::default() })
}

fn version(version: u16) -> Mark {
    Mark { version: MapVersion::new(version), ..Mark::default() }
}

fn status(bits: u32) -> Mark {
    Mark { status: Some(bits), ..Mark::default() }
}

fn own(world: &mut World, eid: EidPrefix, mark: Mark) {
    let local = Forwarding::Local(Delivery::Adjacent(adjacency(SITE_PORT, 1500)));
    world.writer.insert_marked(eid, local, mark).unwrap();
}

/// The LISP header that a packet from `own` to a mapping marked `theirs` gets, in this instance.
fn stamped(features: Features, number: u32, own_mark: Mark, theirs: Mark) -> [u8; 8] {
    let mut world = World::with(Options { features, instance: number, ..Options::default() });
    own(&mut world, prefix_in(number, "10.1.0.0/16"), own_mark);
    let to = prefix_in(number, "10.2.0.0/16");
    world.learn_tunnel(to, rloc(1, false), rloc(2, false), number, &adjacency(CORE_PORT, 1500));
    assert!(world.writer.mark(&to, theirs));
    let sent = world.through(SITE_PORT, udp("10.1.1.1", "10.2.2.2", (1, 2), 20).host_frame(), CORE_PORT);
    assert_eq!(sent[36..38], 4341_u16.to_be_bytes());
    world.settle_accounts();
    sent[42..50].try_into().unwrap()
}

/// MV-3, MV-4, MV-10, G-11: V only with map-versioning on, and only if both mappings have a version; the octets are
/// those of vector D03. L only with status bits on; the octets are those of D02.
#[test]
fn what_packets_say_hangs_on_the_features_and_on_both_mappings() {
    let whole = Mark { status: Some(3), ..version(0x123) };
    let none = Mark::default();
    let table: [(Features, u32, Mark, Mark, &str); 13] = [
        (OFF, 0, whole, version(0x456), "0000000000000000"),
        (OFF, 7, whole, version(0x456), "0800000000000700"),
        (VERSIONS, 0, whole, version(0x456), "1012345600000000"),
        (VERSIONS, 7, whole, version(0x456), "1812345600000700"),
        (VERSIONS, 0, version(0xfff), version(1), "10fff00100000000"),
        (VERSIONS, 0, whole, none, "0000000000000000"),
        (VERSIONS, 0, none, version(0x456), "0000000000000000"),
        (STATUS, 0, whole, version(0x456), "4000000000000003"),
        (STATUS, 0, status(0x8000_0105), none, "4000000080000105"),
        (STATUS, 0xabcd, whole, none, "4800000000abcd03"),
        (STATUS, 0xabcd, status(0x8000_0105), none, "4800000000abcd05"),
        (STATUS, 0, version(9), status(7), "0000000000000000"),
        (BOTH, 7, whole, version(0x456), "5812345600000703"),
    ];
    for (number, (features, instance, own, theirs, expected)) in table.into_iter().enumerate() {
        let header = stamped(features, instance, own, theirs);
        let shown: String = header.iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(shown, expected, "case {number}");
    }
}

/// A packet from 2.2.2.2 at side 2 to 1.1.1.1, with this first word and second word.
fn arriving(word: u32, second: u32) -> Vec<u8> {
    let inner = udp("2.2.2.2", "1.1.1.1", (1, 2), 20).octets();
    let mut packet = lisp("240.0.254.20", "240.0.254.10", 0, second, &inner);
    packet.payload[8..12].copy_from_slice(&word.to_be_bytes());
    packet.peer_frame()
}

const fn versions(source: u32, dest: u32) -> u32 {
    0x1000_0000 | source << 12 | dest
}

/// What becomes of it: why it is dropped, and what went up.
fn fate(features: Features, ours: Mark, theirs: Option<Mark>, frame: Vec<u8>) -> (Option<&'static str>, Vec<Seen>) {
    let mut world = world(features);
    own(&mut world, prefix("1.1.0.0/16"), ours);
    if let Some(mark) = theirs {
        world.learn_side(1, 2, false, None);
        assert!(world.writer.mark(&prefix("2.2.0.0/16"), mark));
    }
    let sent = world.pass(CORE_PORT, frame);
    let dropped = world.drops().into_keys().next();
    assert_eq!(sent.len(), usize::from(dropped.is_none()));
    let told = world.told();
    for sighting in &told {
        assert_eq!((sighting.rloc, sighting.source.address), (rloc(2, false), [2, 2, 2, 2].into()));
        assert_eq!(sighting.destination, std::net::IpAddr::from([1, 1, 1, 1]));
    }
    assert_eq!(world.worker.take_asked(), !told.is_empty());
    world.settle_accounts();
    (dropped, told.into_iter().map(|sighting| sighting.seen).collect())
}

/// MV-5, MV-6, MV-7, MV-10: each case of RFC 9302 §7.1 and §7.2; with the feature off nothing of it is read.
#[test]
fn versions_that_arrive_are_held_against_what_is_known() {
    let newer = |number| Seen::SourceNewer(MapVersion::new(number).unwrap());
    let older = |number| Seen::DestOlder(MapVersion::new(number).unwrap());
    let outlived = Mark { outlived: true, ..version(70) };
    // Our version, theirs as cached, the packet's source and dest version; why it is dropped, what goes up.
    let table = [
        (version(70), Some(version(5)), (5, 70), None, vec![]),
        (Mark::default(), Some(version(5)), (5, 70), Some("version-unexpected"), vec![]),
        (version(70), Some(version(5)), (5, 71), Some("dest-version-newer"), vec![]),
        (version(70), Some(version(5)), (5, 2118), Some("dest-version-newer"), vec![]),
        (version(70), Some(version(5)), (5, 2119), None, vec![older(2119)]),
        (version(70), Some(version(5)), (5, 69), None, vec![older(69)]),
        (outlived, Some(version(5)), (5, 69), Some("dest-version-older"), vec![]),
        (outlived, Some(version(5)), (5, 70), None, vec![]),
        (version(70), Some(version(5)), (5, 0), Some("dest-version-zero"), vec![]),
        (version(70), Some(version(5)), (6, 70), None, vec![newer(6)]),
        (version(70), Some(version(5)), (4, 70), Some("source-version-older"), vec![]),
        (version(70), Some(version(5)), (0, 70), None, vec![]),
        (version(70), Some(Mark::default()), (6, 70), None, vec![]),
        (version(70), None, (6, 70), None, vec![]),
        (version(70), Some(version(5)), (6, 69), None, vec![older(69), newer(6)]),
    ];
    for (number, (ours, theirs, (source, dest), dropped, told)) in table.into_iter().enumerate() {
        let frame = arriving(versions(source, dest), 0);
        assert_eq!(fate(VERSIONS, ours, theirs, frame.clone()), (dropped, told), "case {number}");
        assert_eq!(fate(OFF, ours, theirs, frame), (None, vec![]), "case {number}, feature off");
    }
    let plain = arriving(0, 0);
    assert_eq!(fate(VERSIONS, version(70), Some(version(5)), plain), (None, vec![]), "V clear: nothing to compare");
    let nonce = arriving(0x9000_0000 | 5 << 12 | 71, 0);
    assert_eq!(fate(VERSIONS, version(70), Some(version(5)), nonce), (None, vec![]), "N and V: a nonce");
}

/// MV-5: vector D03 as it is, to a mapping of ours that has no version.
#[test]
fn vector_d03_is_dropped_where_the_mapping_has_no_version() {
    for (ours, dropped) in [(Mark::default(), Some("version-unexpected")), (version(0x456), None)] {
        let mut world = world(VERSIONS);
        own(&mut world, prefix_in(7, "2001:db8:b::/48"), ours);
        let sent = world.pass(CORE_PORT, frame_of("D03"));
        assert_eq!((world.drops().into_keys().next(), sent.len()), (dropped, usize::from(dropped.is_none())));
        world.settle_accounts();
    }
}

/// MV-6: an ITR that goes on with an old version is told every three seconds; after ten times its packets are dropped, and
/// it is told twice a minute.
#[test]
fn who_never_hears_is_dropped_after_ten_times() {
    let mut world = world(VERSIONS);
    own(&mut world, prefix("1.1.0.0/16"), version(70));
    let (mut told, mut delivered) = (Vec::new(), Vec::new());
    for half in 0..240_u64 {
        delivered.extend((!world.pass(CORE_PORT, arriving(versions(0, 69), 0)).is_empty()).then_some(half * 500));
        told.extend(world.told().into_iter().map(|_| half * 500));
        world.wait(500);
    }
    let ten: Vec<u64> = (0..=u64::from(TOLD_MAX)).map(|time| time * 3_000).chain([60_000, 90_000]).collect();
    assert_eq!(told, ten);
    assert_eq!((delivered.len(), delivered.last()), (60, Some(&29_500)));
    // Whoever has heard is served at once, and so is another ITR.
    assert_eq!(world.pass(CORE_PORT, arriving(versions(0, 70), 0)).len(), 1);
    world.settle_accounts();
}

/// RCH-13: bits that differ from those known go up, 32 of them or 8 beside an Instance-ID; those of another state of the
/// locator-set do not. Vector D01 is such a packet.
#[test]
fn status_bits_go_up_when_they_differ() {
    let seen = |bits, width| vec![Seen::Status { bits, width }];
    let whole = |bits| Some(Mark { status: Some(bits), ..version(5) });
    // What is known of them, first word, second word; what goes up.
    let table = [
        (whole(3), 0x4000_0000, 3, vec![]),
        (whole(3), 0x4000_0000, 1, seen(1, 32)),
        (whole(3), 0xc0ab_cdef, 1, seen(1, 32)),
        (Some(version(5)), 0x4000_0000, 3, seen(3, 32)),
        (whole(0x103), 0x4000_0000, 3, seen(3, 32)),
        (whole(3), 0, 1, vec![]),
        (None, 0x4000_0000, 1, vec![]),
        (whole(3), 0x4000_0000 | versions(5, 70), 1, seen(1, 32)),
        (whole(3), 0x4000_0000 | versions(6, 70), 1, vec![Seen::SourceNewer(MapVersion::new(6).unwrap())]),
    ];
    for (number, (theirs, word, second, told)) in table.into_iter().enumerate() {
        let frame = arriving(word, second);
        assert_eq!(fate(BOTH, version(70), theirs, frame.clone()), (None, told), "case {number}");
        assert_eq!(fate(OFF, version(70), theirs, frame), (None, vec![]), "case {number}, feature off");
    }
    // Eight bits beside an Instance-ID; those above are not known to differ.
    for (known, told) in [(0x0000_0103, vec![]), (0x0000_0107, seen(3, 8))] {
        let mut world = world(BOTH);
        own(&mut world, prefix_in(9, "1.1.0.0/16"), version(70));
        world.learn_tunnel(prefix_in(9, "2.2.0.0/16"), rloc(1, false), rloc(2, false), 9, &adjacency(CORE_PORT, 1500));
        assert!(world.writer.mark(&prefix_in(9, "2.2.0.0/16"), status(known)));
        assert_eq!(world.pass(CORE_PORT, arriving(0x4800_0000, 9 << 8 | 3)).len(), 1);
        assert_eq!(world.told().into_iter().map(|sighting| sighting.seen).collect::<Vec<_>>(), told);
        world.settle_accounts();
    }
}

/// RCH-15, RCH-18: nonces go up as they are, each with who sent it; vector D05 asks for one back, D06 is such an answer.
#[test]
fn nonces_go_up() {
    let nonces = Features { nonces: true, ..OFF };
    let table = [
        (arriving(0xa000_beef, 0), Seen::EchoAsked(0xbeef)),
        (arriving(0x8000_beef, 0), Seen::Nonce(0xbeef)),
        (arriving(0x2000_beef, 0), Seen::NoNonce), // E without N means nothing
        (arriving(0xb012_3456, 0), Seen::EchoAsked(0x12_3456)),
        (arriving(versions(1, 2), 0), Seen::NoNonce),
        (arriving(0, 0), Seen::NoNonce),
    ];
    for (number, (frame, seen)) in table.into_iter().enumerate() {
        assert_eq!(fate(nonces, version(70), None, frame), (None, vec![seen]), "case {number}");
    }
    let mut world = world(nonces);
    own(&mut world, prefix("198.51.100.0/24"), Mark::default());
    assert_eq!(world.pass(CORE_PORT, frame_of("D05")).len(), 1);
    let told = world.told();
    assert_eq!((told[0].seen, told[0].rloc), (Seen::EchoAsked(0xbeef), [203, 0, 113, 1].into()));
    world.settle_accounts();
}

/// 1e5 packets, each with another version and another nonce, from one peer: few of them go up.
#[test]
fn a_storm_of_claims_is_heard_a_few_times_a_second() {
    let all = Features { versions: true, status: true, nonces: true };
    let mut world = world(all);
    own(&mut world, prefix("1.1.0.0/16"), version(1000));
    world.learn_side(1, 2, false, None);
    assert!(world.writer.mark(&prefix("2.2.0.0/16"), version(1)));
    for n in 0..10_000_u32 {
        let word = if n % 2 == 0 { versions(2 + n % 2000, 1 + n % 900) } else { 0xe000_0000 | n };
        world.pass(CORE_PORT, arriving(word, n));
        if n % 10 == 0 {
            world.wait(1); // a second in all
        }
        let told = world.told();
        assert!(told.len() <= 4);
    }
    let (told, lost) = (world.counters.sightings.get(), world.counters.sightings_lost.get());
    assert!((20..=60).contains(&told) && lost == 0, "{told}, and {lost} lost");
    world.settle_accounts();
}
