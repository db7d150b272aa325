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
        for (_, target) in targets::ALL.iter().chain(targets::BGP) {
            target(&octets);
        }
    }
}
