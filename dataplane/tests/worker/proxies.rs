//! Between LISP and networks without it: what a PETR lets out, what a PITR takes in, and what neither may.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
};

use altitude_dataplane::{
    cache::Forwarding,
    features::Features,
    mapping::{Eid, MapVersion, Mark},
    samples::Samples,
    sightings::Seen,
    verdict::{Miss, Reason, Wanted},
    worker::DscpModel,
};

use crate::{packets::*, world::*};

/// Sites 2 and 3 have mappings, 8.0.0.0/8 and 2600::/12 are no EIDs.
fn world() -> World {
    let mut world = World::with(Options { proxy: true, ..Options::default() });
    world.learn_side(1, 2, false, None);
    world.learn_side(1, 3, false, None);
    for eid in ["8.8.0.0/16", "2600::/12"] {
        world.learn(prefix(eid), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
    }
    world.learn(prefix("8.9.0.0/16"), Forwarding::NativeByHost);
    world.learn(prefix("9.9.0.0/16"), Forwarding::Drop(Reason::ActDrop));
    world
}

/// From a site's xTR to our RLOC; both inner addresses are of one family, both outer ones IPv4.
fn tunnelled(from: u8, source: &str, destination: &str) -> Vec<u8> {
    let inner = udp(source, destination, (1, 2), 20).octets();
    lisp(&rloc(from, false).to_string(), &rloc(1, false).to_string(), 0, 0, &inner).peer_frame()
}

fn miss(wanted: Wanted, destination: &str, source: &str) -> Miss {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    Miss { wanted, destination: Eid { instance: instance(0), address: ip(destination) }, source: ip(source) }
}

/// PETR-1, PETR-3: what a LISP site sends to no EID leaves natively, IPv6 out of an IPv4 tunnel, too.
#[test]
fn a_petr_sends_on_what_comes_from_a_site_and_is_for_no_eid() {
    let mut world = world();
    for (source, destination) in [("2.2.2.2", "8.8.8.8"), ("2001:db8:2::2", "2600::1")] {
        let sent = world.through(CORE_PORT, tunnelled(2, source, destination), NATIVE_PORT);
        let inner = udp(source, destination, (1, 2), 20).octets();
        assert_eq!((&sent[..6], &sent[14..]), (&PEER[..], &inner[..]), "as the site sent it");
    }
    assert_eq!((world.counters.decapsulated.get(), world.counters.decapsulated_native.get()), (2, 2));
    world.through(CORE_PORT, tunnelled(2, "2.2.2.2", "1.1.1.1"), SITE_PORT);
    assert_eq!(world.counters.decapsulated_native.get(), 2, "our own site's is none of them");
    world.settle_accounts();
}

/// PETR-4, MV-9: a version of the destination's mapping means nothing where there is no such mapping of ours: neither 0, nor
/// another, nor the highest has a packet dropped, while our own site's are still held against ours.
#[test]
fn a_petr_goes_by_no_destination_version() {
    let versions = Features { versions: true, ..Features::default() };
    let mut world = World::with(Options { proxy: true, features: versions, ..Options::default() });
    world.learn_side(1, 2, false, None);
    world.learn(prefix("8.8.0.0/16"), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
    let versioned = |destination: &str, version: u32| {
        let inner = udp("2.2.2.2", destination, (1, 2), 20).octets();
        let mut packet = lisp(&rloc(2, false).to_string(), &rloc(1, false).to_string(), 0, 0, &inner);
        packet.payload[8..12].copy_from_slice(&(0x1000_0000 | 7 << 12 | version).to_be_bytes());
        packet.peer_frame()
    };
    for version in [0, 1, 9, 0xfff] {
        world.through(CORE_PORT, versioned("8.8.8.8", version), NATIVE_PORT);
    }
    assert_eq!((world.counters.decapsulated_native.get(), world.drops()), (4, [].into()));
    assert_eq!(world.pass(CORE_PORT, versioned("1.1.1.1", 9)), []);
    assert_eq!(world.drops(), [("version-unexpected", 1)].into(), "our mapping has none");
    world.settle_accounts();
}

/// MV-9: the version of who sends is held against what is known at a PETR and at an RTR, too, and its nonces are heard.
#[test]
fn what_is_sent_on_says_which_mapping_its_source_has() {
    let features = Features { versions: true, status: false, nonces: true };
    for rtr in [false, true] {
        let mut world = World::with(Options { proxy: !rtr, rtr, features, ..Options::default() });
        world.learn_side(1, 2, false, None);
        world.learn_side(1, 3, false, None);
        world.learn(prefix("8.8.0.0/16"), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
        let mark = Mark { version: MapVersion::new(7), ..Mark::default() };
        assert!(world.writer.mark(&prefix("2.2.0.0/16"), mark));
        let (destination, out) = if rtr { ("3.3.3.3", CORE_PORT) } else { ("8.8.8.8", NATIVE_PORT) };
        let with_word = |word: u32| {
            let inner = udp("2.2.2.2", destination, (1, 2), 20).octets();
            let mut packet = lisp(&rloc(2, false).to_string(), &rloc(1, false).to_string(), 0, 0, &inner);
            packet.payload[8..12].copy_from_slice(&word.to_be_bytes());
            packet.peer_frame()
        };
        world.through(CORE_PORT, with_word(0x1000_0000 | 7 << 12 | 9), out);
        assert_eq!(world.pass(CORE_PORT, with_word(0x1000_0000 | 6 << 12 | 9)), []);
        assert_eq!(world.drops(), [("source-version-older", 1)].into());
        world.through(CORE_PORT, with_word(0x1000_0000 | 8 << 12 | 9), out);
        world.through(CORE_PORT, with_word(0xa000_0000 | 0xabcdef), out);
        let seen: Vec<Seen> = world.told().iter().map(|sighting| sighting.seen).collect();
        assert!(seen.contains(&Seen::SourceNewer(MapVersion::new(8).unwrap())), "{seen:?}");
        assert!(seen.contains(&Seen::EchoAsked(0x00ab_cdef)), "{seen:?}");
        world.settle_accounts();
    }
}

/// PETR-1, PETR-5.
#[test]
fn a_petr_refuses_forged_sources_and_what_goes_to_an_eid() {
    for (from, source, destination, reason) in [
        (3, "2.2.2.2", "8.8.8.8", "outer-source-foreign"),
        (2, "3.3.3.3", "8.8.8.8", "outer-source-foreign"),
        (2, "8.8.1.1", "8.8.8.8", "outer-source-foreign"), // not a site at all
        (2, "1.1.1.1", "8.8.8.8", "inner-source-local"),
        (2, "2.2.2.2", "2.2.9.9", "inner-destination-eid"), // would go back where it came from
        (2, "2.2.2.2", "3.3.3.3", "inner-destination-eid"),
        (2, "2.2.2.2", "9.9.9.9", "act-drop"),
        (2, "2.2.2.2", "240.0.254.10", "inner-destination-rloc"),
        (2, "2.2.2.2", "127.0.0.1", "inner-destination-martian"),
    ] {
        let mut world = world();
        assert_eq!(world.pass(CORE_PORT, tunnelled(from, source, destination)), [], "{source} to {destination}");
        assert_eq!(world.drops(), [(reason, 1)].into(), "{source} to {destination}");
        assert_eq!(world.asked(), []);
        world.settle_accounts();
    }
}

/// PETR-1: who sends is asked for first, then whether the destination is an EID, then for its next hop; nothing is lost
/// meanwhile.
#[test]
fn a_petr_holds_a_packet_until_all_is_known() {
    let mut world = world();
    assert_eq!(world.pass(CORE_PORT, tunnelled(4, "4.4.4.4", "8.9.9.9")), []);
    assert_eq!(world.asked(), [miss(Wanted::Mapping, "4.4.4.4", "4.4.4.4")]);
    world.learn_tunnel(prefix("4.0.0.0/8"), rloc(1, false), rloc(4, false), 0, &adjacency(CORE_PORT, 1500));
    assert_eq!((world.turn(), world.sent()), (1, vec![]));
    assert_eq!(world.asked(), [miss(Wanted::Neighbour, "8.9.9.9", "4.4.4.4")]);
    world.learn(prefix("8.9.9.9/32"), Forwarding::Native(adjacency(CORE_PORT, 1500)));
    assert_eq!(world.turn(), 1);
    assert_eq!(world.sent().iter().map(|(port, _)| *port).collect::<Vec<_>>(), [CORE_PORT]);

    assert_eq!(world.pass(CORE_PORT, tunnelled(4, "4.4.4.4", "7.7.7.7")), []);
    assert_eq!(world.asked(), [miss(Wanted::Mapping, "7.7.7.7", "4.4.4.4")]);
    world.learn(prefix("7.0.0.0/8"), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
    assert_eq!(world.turn(), 1);
    assert_eq!(world.sent().len(), 1);
    assert_eq!(world.drops(), [].into());
    world.settle_accounts();
}

/// ETR-5: the same packets at an ETR that is no PETR are dropped, and nothing is asked for.
#[test]
fn without_the_role_only_the_site_is_delivered_to() {
    for destination in ["8.8.8.8", "8.9.9.9", "7.7.7.7", "3.3.3.3"] {
        let mut world = World::new();
        world.learn_side(1, 2, false, None);
        world.learn_side(1, 3, false, None);
        world.learn(prefix("8.8.0.0/16"), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
        world.learn(prefix("8.9.0.0/16"), Forwarding::NativeByHost);
        assert_eq!(world.pass(CORE_PORT, tunnelled(2, "2.2.2.2", destination)), []);
        assert_eq!((world.drops(), world.asked()), ([("inner-destination-foreign", 1)].into(), vec![]));
        world.settle_accounts();
    }
}

/// PETR-1, ETR-6: of other instances than its own a PETR takes nothing.
#[test]
fn a_petr_serves_its_instances_alone() {
    let mut world = world();
    world.learn_tunnel(prefix_in(7, "2.2.0.0/16"), rloc(1, false), rloc(2, false), 7, &adjacency(CORE_PORT, 1500));
    let inner = udp("2.2.2.2", "8.8.8.8", (1, 2), 20).octets();
    for number in [7_u32, 8] {
        let packet = lisp("240.0.254.20", "240.0.254.10", 0x08, number << 8, &inner).peer_frame();
        assert_eq!(world.pass(CORE_PORT, packet), []);
    }
    assert_eq!(world.drops(), [("inner-destination-foreign", 1), ("unknown-instance", 1)].into());
    assert_eq!(world.asked(), []);
    world.settle_accounts();
}

/// PITR-3, PITR-4: anybody's packet to an EID of an aggregate is encapsulated, with a hop less inside and outside.
#[test]
fn a_pitr_encapsulates_what_anybody_sends_to_an_eid() {
    for port in [NATIVE_PORT, NATIVE_CORE_PORT] {
        let mut world = world();
        for (source, destination) in [("8.8.8.8", "2.2.2.2"), ("4.1.1.1", "2.2.2.2"), ("2600::1", "2001:db8:2::2")] {
            let packet = udp(source, destination, (1, 2), 20).ttl(64).peer_frame();
            let sent = world.through(port, packet, CORE_PORT);
            assert_eq!(sent[22], 63, "outer TTL");
            assert_eq!(sent[26..34], [240, 0, 254, 10, 240, 0, 254, 20]);
            assert_eq!(sent[50..], udp(source, destination, (1, 2), 20).ttl(63).octets(), "from {source}");
        }
        // Options and fragments go the long way.
        let mut packet = udp("8.8.8.8", "2.2.2.2", (1, 2), 20).fragment(MF);
        packet.options = vec![1; 4];
        world.through(port, packet.peer_frame(), CORE_PORT);
        assert_eq!(world.drops(), [].into());
        world.settle_accounts();
    }
}

/// MV-9: a stranger's packet carries the version of the destination's mapping, and none of its own.
#[test]
fn a_pitr_says_which_mapping_it_used_where_versions_are_on() {
    let versions = Features { versions: true, ..Features::default() };
    let mut world = World::with(Options { proxy: true, features: versions, ..Options::default() });
    world.learn_side(1, 2, false, None);
    let mark = Mark { version: MapVersion::new(0x456), ..Mark::default() };
    assert!(world.writer.mark(&prefix("2.2.0.0/16"), mark));
    let sent = world.through(NATIVE_PORT, udp("8.8.8.8", "2.2.2.2", (1, 2), 20).peer_frame(), CORE_PORT);
    assert_eq!(sent[42..50], [0x10, 0, 0x04, 0x56, 0, 0, 0, 0]);
    world.settle_accounts();
}

/// PITR-3, PITR-4: not even what says that it comes from our own site, which the other side would believe.
#[test]
fn a_pitr_takes_nothing_else() {
    for (source, destination, ttl, reason) in [
        ("8.8.8.8", "3.3.3.3", 64, "destination-not-aggregated"),
        ("2600::1", "2001:db9::1", 64, "destination-not-aggregated"),
        ("8.8.8.8", "240.0.254.10", 64, "destination-rloc"),
        ("127.0.0.1", "2.2.2.2", 64, "source-martian"),
        ("8.8.8.8", "224.0.0.1", 64, "destination-martian"),
        ("8.8.8.8", "2.2.2.2", 1, "ttl-expired"),
    ] {
        let mut world = world();
        let sent = world.pass(NATIVE_PORT, udp(source, destination, (1, 2), 20).ttl(ttl).peer_frame());
        let icmp: Vec<usize> = sent.iter().map(|(port, _)| *port).collect();
        assert_eq!(icmp, if ttl == 1 { vec![NATIVE_PORT] } else { vec![] }, "{destination}");
        assert_eq!(world.drops(), [(reason, 1)].into(), "{destination}");
        world.settle_accounts();
    }
}

/// PITR-7: what has no mapping is not sent back to those who believe our announcement, but told; where another port leads on,
/// it goes there.
#[test]
fn a_pitr_does_not_return_what_its_aggregate_attracted() {
    let mut world = world();
    let native = |port| Forwarding::Native(adjacency(port, 1500));
    for (eid, forwarding) in [
        ("2.9.0.0/16", native(NATIVE_PORT)),
        ("2.8.0.0/16", native(NATIVE_CORE_PORT)),
        ("2.7.0.0/16", Forwarding::Drop(Reason::NativeNoRoute)),
        ("2.6.0.0/16", native(CORE_PORT)),
        ("2.5.0.0/16", Forwarding::NativeByHost),
    ] {
        world.learn(prefix(eid), forwarding);
    }
    for destination in ["2.9.9.9", "2.8.8.8", "2.7.7.7"] {
        let answer = world.through(NATIVE_PORT, udp("8.8.8.8", destination, (1, 2), 20).peer_frame(), NATIVE_PORT);
        assert_eq!((answer[23], answer[34]), (1, 3), "ICMP, destination unreachable: {destination}");
        assert_eq!(answer[30..34], [8, 8, 8, 8]);
    }
    assert_eq!(world.drops(), [("native-loop", 2), ("native-no-route", 1)].into());
    let sent = world.through(NATIVE_PORT, udp("8.8.8.8", "2.6.6.6", (1, 2), 20).peer_frame(), CORE_PORT);
    assert_eq!(sent[14..], udp("8.8.8.8", "2.6.6.6", (1, 2), 20).ttl(63).octets());
    assert_eq!(world.pass(NATIVE_PORT, udp("8.8.8.8", "2.5.5.5", (1, 2), 20).peer_frame()), []);
    assert_eq!(world.asked(), [miss(Wanted::Neighbour, "2.5.5.5", "8.8.8.8")]);
    world.settle_accounts();
}

/// PITR-3: an aggregate may hold EID-prefixes of our own site; those are delivered.
#[test]
fn a_pitr_delivers_to_its_own_site() {
    let mut world = world();
    let packet = udp("8.8.8.8", "1.1.1.1", (1, 2), 20);
    let sent = world.through(NATIVE_PORT, packet.peer_frame(), SITE_PORT);
    assert_eq!(sent[14..], packet.ttl(63).octets());
    world.settle_accounts();
}

/// PITR-5: what strangers ask for leaves half of the held packets' places to the site, and is asked for at a bounded pace.
#[test]
fn a_scan_by_strangers_leaves_room_for_the_site() {
    let mut world = World::with(Options { proxy: true, slots: 256, misses: 1024, ..Options::default() });
    let room = 256 / 4;
    for n in 0..200_u32 {
        world.ports[NATIVE_PORT].arrive(udp("8.8.8.8", &format!("2.2.{n}.1"), (1, 2), 20).peer_frame());
        world.turn();
    }
    assert_eq!(world.worker.holding(), room / 2);
    assert_eq!(world.drops(), [("hold-full", 200 - room as u64 / 2)].into());
    for n in 0..8 {
        world.ports[SITE_PORT].arrive(udp("1.1.1.1", &format!("3.3.{n}.1"), (1, 2), 20).host_frame());
    }
    world.turn();
    assert_eq!(world.worker.holding(), room / 2 + 8, "the site's own packets are held");
    // The control thread may have refused to ask for strangers: the site asks for itself.
    let asked = world.asked();
    world.ports[SITE_PORT].arrive(udp("1.1.1.1", "2.2.0.1", (1, 2), 20).host_frame());
    world.turn();
    assert_eq!(world.asked(), [miss(Wanted::Mapping, "2.2.0.1", "1.1.1.1")]);
    let many = asked.len();
    for n in 0..100_u32 {
        world.ports[NATIVE_PORT].arrive(udp("8.8.8.8", &format!("2.3.{n}.1"), (1, 2), 20).peer_frame());
    }
    world.turn();
    assert!(many <= 208 && world.asked().len() <= 16, "a turn's bound");
    world.settle_accounts();
}

/// MTU-6: what is told to strangers leaves the site's share of ICMP errors alone.
#[test]
fn icmp_errors_to_strangers_leave_those_to_the_site() {
    let mut world = world();
    for n in 0..300_u32 {
        let source = format!("8.{}.{}.1", n % 200, n / 200);
        world.pass(NATIVE_PORT, udp(&source, "2.2.2.2", (1, 2), 20).ttl(1).peer_frame());
    }
    let told = world.counters.icmp_sent.get();
    assert!((50..=100).contains(&told), "{told} to strangers");
    let sent = world.pass(SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 20).ttl(1).host_frame());
    assert_eq!((sent.len(), world.counters.icmp_sent.get()), (1, told + 1));
    world.settle_accounts();
}

/// PITR-6: another flow leaves nothing behind: what is known is a mapping.
#[test]
fn a_pitr_keeps_nothing_of_a_flow() {
    let mut world = world();
    let entries = world.writer.len();
    for n in 0..500_u16 {
        let packet = udp(&format!("8.8.{}.1", n % 200), "2.2.2.2", (n, 2), 20).peer_frame();
        world.through(NATIVE_PORT, packet, CORE_PORT);
    }
    assert_eq!((world.writer.len(), world.worker.holding(), world.asked()), (entries, 0, vec![]));
    world.settle_accounts();
}

/// The same from a site's xTR with these TOS and TTL outside and inside.
fn marked(from: u8, source: &str, destination: &str, (outer, inner): ((u8, u8), (u8, u8))) -> Vec<u8> {
    let inner = udp(source, destination, (1, 2), 20).tos(inner.0).ttl(inner.1).octets();
    let packet = lisp(&rloc(from, false).to_string(), &rloc(1, false).to_string(), 0, 0, &inner);
    packet.tos(outer.0).ttl(outer.1).peer_frame()
}

/// RTR-1: out of one tunnel and into the next with all that belongs to both: a hop less, a source port of ours, CE kept, the
/// headers ours; what may not pass does not.
#[test]
fn an_rtr_puts_packets_into_the_next_tunnel() {
    let mut world = World::with(Options { rtr: true, ..Options::default() });
    world.learn_side(1, 3, false, None);
    for (source, destination) in [("2.2.2.2", "3.3.3.3"), ("2001:db8:2::2", "2001:db8:3::3")] {
        let sent = world.through(CORE_PORT, marked(2, source, destination, ((3, 60), (2, 90))), CORE_PORT);
        assert_eq!(sent[26..34], [240, 0, 254, 10, 240, 0, 254, 30]);
        assert_eq!((sent[22], sent[15]), (59, 3), "TTL and TOS outside");
        assert!(u16::from_be_bytes([sent[34], sent[35]]) >= 0xc000, "a port of ours");
        assert_eq!(sent[50..], udp(source, destination, (1, 2), 20).tos(3).ttl(59).octets(), "inside");
    }
    assert_eq!((world.counters.reencapsulated.get(), world.counters.encapsulated.get()), (2, 0));
    for (packet, reason) in [
        (marked(2, "2.2.2.2", "3.3.3.3", ((0, 64), (0, 1))), "inner-ttl-expired"),
        (marked(2, "2.2.2.2", "3.3.3.3", ((3, 64), (0, 64))), "ecn-not-capable"),
        (marked(3, "2.2.2.2", "3.3.3.3", ((0, 64), (0, 64))), "inner-destination-eid"), // back where it came from
    ] {
        let before = world.drops().get(reason).copied().unwrap_or(0);
        assert_eq!(world.pass(CORE_PORT, packet), [], "{reason}");
        assert_eq!(world.drops().get(reason), Some(&(before + 1)), "{reason}");
    }
    // What is not known is asked for and held; natively nothing leaves.
    assert_eq!(world.pass(CORE_PORT, tunnelled(2, "2.2.2.2", "4.4.4.4")), []);
    assert_eq!(world.asked(), [miss(Wanted::Mapping, "4.4.4.4", "2.2.2.2")]);
    world.learn_tunnel(prefix("4.0.0.0/8"), rloc(1, false), rloc(4, false), 0, &adjacency(CORE_PORT, 1500));
    assert_eq!((world.turn(), world.sent().len()), (1, 1));
    world.learn(prefix("8.0.0.0/8"), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
    world.learn_tunnel(prefix("2.0.0.0/8"), rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, 1500));
    assert_eq!(world.pass(CORE_PORT, tunnelled(2, "2.2.2.2", "8.8.8.8")), []);
    assert_eq!(world.drops().get("inner-destination-foreign"), Some(&1));
    world.settle_accounts();
}

/// ETR-4: by the pipe model an RTR leaves the inner DSCP as it is, and the next tunnel shows it.
#[test]
fn an_rtr_keeps_the_dscp_of_a_pipe() {
    let mut world = World::with(Options { rtr: true, dscp: DscpModel::Pipe, ..Options::default() });
    world.learn_side(1, 3, false, None);
    for (source, destination) in [("2.2.2.2", "3.3.3.3"), ("2001:db8:2::2", "2001:db8:3::3")] {
        let sent =
            world.through(CORE_PORT, marked(2, source, destination, ((46 << 2 | 3, 60), (10 << 2 | 2, 90))), CORE_PORT);
        assert_eq!((sent[22], sent[15]), (59, 10 << 2 | 3), "TTL and TOS outside");
        assert_eq!(sent[50..], udp(source, destination, (1, 2), 20).tos(10 << 2 | 3).ttl(59).octets(), "inside");
    }
}

/// A stop lends its name to nobody: it sends on what comes from where its source is, or from a stop before it; who else sends is
/// asked for once.
#[test]
fn an_rtr_for_sites_takes_nothing_from_strangers() {
    let mut world = World::with(Options { rtr: true, known: true, ..Options::default() });
    let core = adjacency(CORE_PORT, 1500);
    // To 3.3.0.0/16 by way of side 5, of us, and of side 6.
    let path = [rloc(5, false), rloc(1, false), rloc(6, false), rloc(3, false)];
    let set = world.writer.add_set(&path, &choice(rloc(1, false), rloc(6, false), 0, &core)).unwrap();
    world.learn(prefix("3.3.0.0/16"), Forwarding::Encapsulate(set));
    world.learn_side(1, 2, false, None);
    world.learn(prefix("8.0.0.0/8"), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
    for (from, source, passes) in [
        (2, "2.2.2.2", true),
        // The stop before us, whoever its source.
        (5, "2.2.2.2", true),
        (5, "8.8.8.8", true),
        // Another site's EID, and a network's without LISP.
        (4, "2.2.2.2", false),
        (4, "8.8.8.8", false),
    ] {
        let (before, sent) = (world.drops(), world.pass(CORE_PORT, tunnelled(from, source, "3.3.3.3")));
        assert_eq!((sent.len(), world.drops() == before), (usize::from(passes), passes), "{from} {source}");
    }
    assert_eq!(world.drops(), [("outer-source-foreign", 2)].into());
    // Not known yet: asked for, and decided on when it is.
    assert_eq!(world.pass(CORE_PORT, tunnelled(7, "7.7.7.7", "3.3.3.3")), []);
    assert_eq!(world.asked(), [miss(Wanted::Mapping, "7.7.7.7", "7.7.7.7")]);
    world.learn_tunnel(prefix("7.7.0.0/16"), rloc(1, false), rloc(7, false), 0, &core);
    assert_eq!((world.turn(), world.sent().len()), (1, 1));
    // Of who is not where its source is, it might be a stop of the path, which is to be known first.
    assert_eq!(world.pass(CORE_PORT, tunnelled(9, "2.2.2.2", "9.9.9.9")), []);
    assert_eq!(world.asked(), [miss(Wanted::Mapping, "9.9.9.9", "2.2.2.2")]);
    let set =
        world.writer.add_set(&[rloc(9, false), rloc(4, false)], &choice(rloc(1, false), rloc(4, false), 0, &core));
    world.learn(prefix("9.9.0.0/16"), Forwarding::Encapsulate(set.unwrap()));
    assert_eq!((world.turn(), world.sent().len()), (1, 1));
    // One that is for everybody, because its operator says so.
    let mut open = World::with(Options { rtr: true, ..Options::default() });
    open.learn_side(1, 3, false, None);
    open.through(CORE_PORT, tunnelled(4, "2.2.2.2", "3.3.3.3"), CORE_PORT);
    world.settle_accounts();
}

/// RTR-14: routers that point at each other in a ring burn the TTL, and no more.
#[test]
fn a_loop_of_rtrs_ends() {
    let side = |side: u8, other: u8| {
        let mut world = World::with(Options { rtr: true, side, ..Options::default() });
        world.learn_tunnel(prefix("9.0.0.0/8"), rloc(side, false), rloc(other, false), 0, &adjacency(CORE_PORT, 1500));
        world
    };
    // None sees that it is sent back.
    let mut ring = [side(1, 2), side(2, 3), side(3, 1)];
    let mut packet = marked(7, "7.7.7.7", "9.9.9.9", ((0, 64), (0, 64)));
    let mut rounds = 0;
    while let Some((_, sent)) = ring[rounds % 3].pass(CORE_PORT, packet).pop() {
        packet = [&CORE[..], &PEER[..], &sent[12..]].concat();
        rounds += 1;
    }
    assert_eq!(rounds, 63);
    assert_eq!(ring[rounds % 3].drops(), [("inner-ttl-expired", 1)].into());
}

#[test]
fn of_a_packet_out_of_a_tunnel_that_misses_the_inner_one_is_copied() {
    let mut world = world();
    let (samples, mut taken) = Samples::new(4, Arc::new(AtomicBool::new(true)));
    world.worker = world.worker.with_samples(samples);
    world.pass(CORE_PORT, tunnelled(2, "2.2.2.2", "7.7.7.7"));
    assert_eq!(world.asked(), [miss(Wanted::Mapping, "7.7.7.7", "2.2.2.2")]);
    assert_eq!(taken.pop().unwrap().octets(), udp("2.2.2.2", "7.7.7.7", (1, 2), 20).octets());
    assert!(taken.pop().is_err());
    world.settle_accounts();
}
