//! A bounded run of the fuzz targets on every build: seeded mutations of all vectors, and every input that once failed.

use std::{fs, path::Path};

use altitude_control::alt::bgp::{
    message::{Cease, Context, Graceful, Message, Notification, Open, RefreshKind, encode},
    route::{AsPath, Attributes, Family, Foreign, Origin, Segment, Update},
};
use altitude_dataplane::mapping::Prefix;

#[path = "../../dataplane/tests/vectors/load.rs"]
mod load;
#[path = "../../dataplane/fuzz/mutate.rs"]
mod mutate;
#[path = "../fuzz/targets.rs"]
mod targets;

/// Inputs for each target and each seed.
const INPUTS: usize = 100_000;

#[test]
fn mutated_vectors_break_nothing() {
    let vectors = load::all();
    let messages: Vec<Vec<u8>> = vectors.iter().map(|vector| vector.payload.clone()).collect();
    let packets: Vec<Vec<u8>> = vectors.iter().map(|vector| vector.frame[14..].to_vec()).collect();
    for (name, target) in targets::ALL {
        let mut read = 0;
        for (seed, corpus) in [(1, &messages), (2, &packets)] {
            let mut mutator = mutate::Mutator::new(corpus, seed);
            read += (0..INPUTS).filter(|_| target(&mutator.input())).count();
        }
        println!("{name}: {} inputs, {read} of them read", 2 * INPUTS);
        assert!(read > INPUTS / 100, "{name}: hardly anything could be read, so hardly anything was tried");
    }
}

#[test]
fn mutated_bgp_messages_break_nothing() {
    let corpus = bgp_corpus();
    for (name, target) in targets::BGP {
        let mut mutator = mutate::Mutator::new(&corpus, 3);
        let read = (0..INPUTS).filter(|_| target(&mutator.input())).count();
        println!("{name}: {INPUTS} inputs, {read} of them read");
        assert!(read > INPUTS / 100, "{name}: hardly anything could be read, so hardly anything was tried");
    }
}

#[test]
fn mutated_requests_of_the_mapping_api_break_nothing() {
    let corpus = api_corpus();
    for (name, target) in targets::API {
        assert!(corpus.iter().all(|octets| target(octets)), "{name}: the corpus itself can be read");
        let mut mutator = mutate::Mutator::new(&corpus, 5);
        let read = (0..INPUTS).filter(|_| target(&mutator.input())).count();
        println!("{name}: {INPUTS} inputs, {read} of them read");
        assert!(read > INPUTS / 100, "{name}: hardly anything could be read, so hardly anything was tried");
    }
}

/// Requests and events of every kind.
fn api_corpus() -> Vec<Vec<u8>> {
    let eid = [3, 0, 8, 0, 0, 1, 16, 0, 2, 2, 0, 0].as_slice();
    let table = [1, 0, 1, 0, 0, 2, 0, 4, 0, 5, 0, 0, 0].as_slice();
    let mapping =
        |flags: u8, act: u8| [&[4, 0, 36, 0, flags, 0, 0, 0, 90, 0, 0, 0, 0, 0, act, 7][..], &[0; 24]].concat();
    let rloc =
        |last: u8| [&[5, 0, 46, 0, 1, 100, 255, 0, 0x10, 0, 0, 0][..], &[0; 32], &[0, 1, 240, 0, 254, last]].concat();
    let must = [1, 0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0].as_slice();
    let filter = [10, 0, 22, 0, 0x20, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 16, 0, 2, 2, 0, 0].as_slice();
    let (reach, miss) = ([8, 0, 6, 0, 6, 3, 0, 0, 0, 0].as_slice(), [6, 0, 4, 0, 1, 4, 0, 0].as_slice());
    let messages: [(u16, u16, Vec<u8>); 17] = [
        (1, 0, [table, eid, &mapping(4, 0), &rloc(20), &rloc(21)].concat()),
        (1, 0, [eid, &mapping(1, 3)].concat()),
        (2, 0, [table, eid, must].concat()),
        (3, 0, [table, eid, &mapping(0, 0), &rloc(20), must].concat()),
        (4, 0, eid.to_vec()),
        (4, 8, table.to_vec()),
        (6, 0, [&rloc(20), reach].concat()),
        (7, 0, eid.to_vec()),
        (8, 0x40, [filter, filter].concat()),
        (9, 0x100, table.to_vec()),
        (10, 0, vec![0, 0x40, 1, 0, 1]),
        (13, 0, vec![]),
        (1, 4, [table, eid, &mapping(0, 0), &rloc(20)].concat()),
        (2, 0x84, [table, eid].concat()),
        (5, 4, [table, eid, miss, &[5, 0x40, 6, 0, 0, 1, 1, 1, 1, 1]].concat()),
        (7, 4, [&rloc(20), reach].concat()),
        (9, 4, table.to_vec()),
    ];
    let message = |(op, flags, body): (u16, u16, Vec<u8>)| {
        let length = (32 + body.len() as u32).to_le_bytes();
        [b"ALT1".as_slice(), &length, &op.to_le_bytes(), &flags.to_le_bytes(), &[0; 20], &body].concat()
    };
    messages.into_iter().map(message).collect()
}

/// BGP messages of every kind, each with two octets before it that say when and in what pieces it is sent to a peer, and as it is.
fn bgp_corpus() -> Vec<Vec<u8>> {
    let route = |text: &str| text.parse::<Prefix>().expect("a prefix");
    let update = |next_hop: &str, prefixes: &[&str]| Update {
        withdrawn: vec![route("10.9.0.0/16"), route("2001:db8:9::/48")],
        announced: vec![(next_hop.parse().expect("an address"), prefixes.iter().copied().map(route).collect())],
        attributes: Some(Attributes {
            origin: Origin::Igp,
            as_path: AsPath([Segment::Sequence([64513, 70000].into()), Segment::Set([1, 2].into())].into()),
            med: Some(1),
            local_pref: None,
            atomic_aggregate: true,
            aggregator: Some((70000, [10, 0, 0, 9].into())),
            communities: [0xffff_ff01].into(),
            foreign: [Foreign { flags: 0xe0, kind: 99, value: [1, 2, 3].into() }].into(),
        }),
    };
    let open = Open {
        asn: 64513,
        hold: 90,
        router_id: [10, 0, 0, 2].into(),
        families: targets::bgp_settings().neighbors[0].families,
        route_refresh: true,
        enhanced_refresh: true,
        graceful: Some(Graceful { restarting: true, time: 120, families: vec![(Family::V4, true)] }),
        four_octet: true,
    };
    let messages = [
        Message::Open(open),
        Message::Keepalive,
        Message::Update(update("10.42.1.2", &["10.1.0.0/16", "10.2.2.0/24"])),
        Message::Update(update("fd00::2", &["2001:db8:1::/48", "::/0"])),
        Message::EndOfRib(Family::V6),
        Message::RouteRefresh { family: Family::V4, kind: RefreshKind::Request },
        Message::Notification(Notification::cease(Cease::Shutdown, "maintenance")),
    ];
    let mut corpus = Vec::new();
    for four_octet in [true, false] {
        let context = Context { four_octet, ..Context::new(64512, &targets::bgp_settings().neighbors[0]) };
        for message in &messages {
            let mut octets = Vec::new();
            encode(message, &context, &mut octets).expect("sendable");
            corpus.extend([0, 1, 2].map(|stage| [&[stage, 64], &octets[..]].concat()));
            corpus.push(octets);
        }
    }
    corpus
}

#[test]
fn what_once_failed_does_not_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crashes");
    for entry in fs::read_dir(folder).expect("the folder is checked in") {
        let octets = fs::read(entry.expect("a readable folder").path()).expect("a readable file");
        for (_, target) in targets::ALL.iter().chain(targets::BGP).chain(targets::API) {
            target(&octets);
        }
    }
}
