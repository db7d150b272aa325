//! ICMP errors to hosts: what they say, about what they are never sent, and how many.

use std::net::IpAddr;

use altitude_dataplane::{cache::Forwarding, verdict::Reason};

use crate::{packets::*, world::*};

const BIG: usize = 1464 - 28 + 1;

fn world() -> World {
    let mut world = World::new();
    world.learn_side(1, 2, false, None);
    for (eid, reason) in [
        ("3.1.0.0/16", Reason::NoUsableLocator),
        ("3.3.0.0/16", Reason::ActDrop),
        ("2001:db8:3::/48", Reason::NoUsableLocator),
        ("2001:db8:33::/48", Reason::ActDrop),
    ] {
        world.learn(prefix(eid), Forwarding::Drop(reason));
    }
    world
}

/// An ICMP error read by hand: type, code, last word, quoted octets.
fn read(octets: &[u8], link: usize) -> (u8, u8, u32, Vec<u8>) {
    let packet = sound(&octets[link..]);
    assert_eq!(octets.len(), link + packet.len());
    let icmp = if packet[0] >> 4 == 4 {
        assert_eq!((packet[9], &packet[12..20]), (1, &[1, 1, 0, 1, 1, 1, 1, 1][..]), "from the port to the host");
        assert_eq!(ones_sum(&packet[20..]), 0xffff, "ICMP checksum");
        &packet[20..]
    } else {
        assert_eq!(packet[6], 58);
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap()).to_string();
        assert_eq!((address(8), address(24)), ("2001:db8:1::1".into(), "2001:db8:1::7".into()));
        let pseudo = [&packet[8..40], &((packet.len() - 40) as u32).to_be_bytes()[..], &[0, 0, 0, 58]].concat();
        assert_eq!(ones_sum(&[&pseudo, &packet[40..]].concat()), 0xffff, "ICMPv6 checksum");
        &packet[40..]
    };
    (icmp[0], icmp[1], u32::from_be_bytes(icmp[4..8].try_into().unwrap()), icmp[8..].to_vec())
}

/// MTU-5: no IPv6 host is told to send less than 1280 octets, however little the path carries; IPv4 ones are told what it is.
#[test]
fn an_ipv6_host_is_never_told_less_than_it_must_send() {
    for (mtu, told_v4, told_v6) in
        [(1400, 1364, 1364), (1317, 1281, 1281), (1316, 1280, 1280), (1300, 1264, 1280), (612, 576, 1280)]
    {
        let mut world = World::new();
        for eid in ["2.2.0.0/16", "2001:db8:2::/48"] {
            world.learn_tunnel(prefix(eid), rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, mtu));
        }
        for (source, destination, told) in
            [("1.1.1.1", "2.2.2.2", told_v4), ("2001:db8:1::7", "2001:db8:2::2", told_v6)]
        {
            let sent = world.through(SITE_PORT, udp(source, destination, (1, 2), 1400).host_frame(), SITE_PORT);
            assert_eq!(read(&sent, 14).2, told, "MTU {mtu}, {destination}");
        }
    }
}

/// ITR-4, ITR-32, ITR-33, MTU-2.
#[test]
fn each_error_says_what_happened_and_quotes_the_packet_as_it_came() {
    let v4 = |destination: &str, data| udp("1.1.1.1", destination, (1, 2), data);
    let v6 = |destination: &str, data| udp("2001:db8:1::7", destination, (1, 2), data);
    let table = [
        (v4("2.2.2.2", 40).ttl(1), 11, 0, 0),
        (v4("2.2.2.2", BIG), 3, 4, 1464),
        (v4("3.1.1.1", 40), 3, 1, 0),
        (v4("3.3.1.1", 41), 3, 13, 0),
        (v6("2001:db8:2::2", 40).ttl(1), 3, 0, 0),
        (v6("2001:db8:2::2", BIG - 20), 2, 0, 1464),
        (v6("2001:db8:3::1", 40), 1, 0, 0),
        (v6("2001:db8:33::1", 41), 1, 1, 0),
    ];
    for (packet, kind, code, word) in table {
        for tags in [&[][..], &[(0x88a8, 3), (0x8100, 4)]] {
            let mut world = world();
            let octets = packet.octets();
            let sent = world.through(SITE_PORT, frame(SITE, HOST, tags, &octets), SITE_PORT);
            let link = 14 + 4 * tags.len();
            assert_eq!(sent[..link], frame(HOST, SITE, tags, &octets)[..link], "back where it came from");
            let (got_kind, got_code, got_word, quote) = read(&sent, link);
            assert_eq!((got_kind, got_code, got_word), (kind, code, word), "{packet:?}");
            let room = if packet.source.is_ipv4() { 576 - 28 } else { 1280 - 48 };
            assert_eq!(quote, octets[..octets.len().min(room)]);
            assert_eq!((world.counters.icmp_sent.get(), world.counters.copied_octets.get()), (1, 0));
            world.settle_accounts();
        }
    }
}

/// ITR-32: a packet that the mapping system does not want is dropped without a word, and counted.
#[test]
fn nothing_is_said_about_other_negative_entries() {
    for reason in [Reason::ActNoAction, Reason::ActPolicyDenied, Reason::ActAuthFailure] {
        for (eid, source, destination) in
            [("4.0.0.0/8", "1.1.1.1", "4.4.4.4"), ("2001:db8:4::/48", "2001:db8:1::7", "2001:db8:4::4")]
        {
            let mut world = world();
            world.learn(prefix(eid), Forwarding::Drop(reason));
            let sent = world.pass(SITE_PORT, udp(source, destination, (1, 2), 40).host_frame());
            assert_eq!((sent, world.drops()), (vec![], [(reason.name(), 1)].into()));
            assert_eq!(world.counters.icmp_sent.get(), 0);
            world.settle_accounts();
        }
    }
}

/// MTU-2.
#[test]
fn outer_ipv6_leaves_less_room() {
    let mut world = World::new();
    world.learn_side(1, 2, true, None);
    let sent = world.through(SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 1444 - 28 + 1).host_frame(), SITE_PORT);
    assert_eq!(read(&sent, 14).2, 1444);
    world.through(SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 1444 - 28).host_frame(), CORE_PORT);
}

/// MTU-6.
#[test]
fn no_error_about_errors_groups_and_later_fragments() {
    let icmp = |source: &str, destination: &str, protocol, kind| {
        let mut packet = udp(source, destination, (0, 0), BIG);
        (packet.protocol, packet.payload[0]) = (protocol, kind);
        packet
    };
    let chained = |chain: &[u8]| {
        let mut packet = udp("2001:db8:1::7", "2001:db8:2::2", (0, 0), BIG);
        packet.protocol = 0;
        packet.payload[..chain.len()].copy_from_slice(chain);
        packet
    };
    let silent = [
        icmp("1.1.1.1", "2.2.2.2", 1, 3),
        icmp("1.1.1.1", "2.2.2.2", 1, 4),
        icmp("1.1.1.1", "2.2.2.2", 1, 5),
        icmp("1.1.1.1", "2.2.2.2", 1, 11),
        icmp("1.1.1.1", "2.2.2.2", 1, 12),
        icmp("2001:db8:1::7", "2001:db8:2::2", 58, 1),
        icmp("2001:db8:1::7", "2001:db8:2::2", 58, 127),
        icmp("2001:db8:1::7", "2001:db8:2::2", 58, 137),
        udp("1.1.1.1", "2.2.2.2", (1, 2), BIG).fragment(DF | MF | 7),
        // Hop-by-hop, then an ICMPv6 error; hop-by-hop, then a later fragment; a chain without end.
        chained(&[58, 0, 0, 0, 0, 0, 0, 0, 1]),
        chained(&[44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0x01, 0x00]),
        chained(&[0; 128]),
    ];
    for (number, packet) in silent.iter().enumerate() {
        let mut world = world();
        assert_eq!(world.pass(SITE_PORT, packet.host_frame()), [], "case {number}");
        assert_eq!(world.drops(), [("too-big", 1)].into());
    }
    let loud = [
        icmp("1.1.1.1", "2.2.2.2", 1, 8),
        icmp("2001:db8:1::7", "2001:db8:2::2", 58, 128),
        udp("1.1.1.1", "2.2.2.2", (1, 2), BIG).fragment(DF | MF),
        chained(&[58, 0, 0, 0, 0, 0, 0, 0, 128]),
        chained(&[44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0x00, 0x01]),
    ];
    for packet in loud {
        world().through(SITE_PORT, packet.host_frame(), SITE_PORT);
    }
    let mut world = world();
    let to_all = frame([0xff; 6], HOST, &[], &silent[8].clone().fragment(DF).octets());
    assert_eq!(world.pass(SITE_PORT, to_all), [], "nobody answers a link-layer broadcast");
}

#[test]
fn a_port_without_addresses_is_silent() {
    use std::sync::Arc;

    use altitude_dataplane::{
        cache::{self, Delivery},
        counters::Counters,
        frame::Umem,
        mapping::InstanceId,
        port::{MemPort, Region},
        proxy::Proxy,
        queue,
        worker::{Hold, PortRole, Settings, SourceCheck, Worker, turn},
    };
    let role = PortRole {
        site: true,
        core: false,
        native: false,
        instance: InstanceId::DEFAULT,
        mac: SITE,
        address4: None,
        address6: None,
    };
    let settings = Settings {
        ports: vec![role],
        rlocs: vec![],
        hash_seed: 0,
        hold: Hold::Drop,
        source_check: SourceCheck::Standard,
        proxy: Proxy::default(),
        batch: 64,
    };
    let counters = Arc::new(Counters::default());
    let umem = Umem::new(Region::anonymous(64));
    let mut worker = Worker::new(settings, umem, queue::misses(4).0, counters.clone());
    let (mut writer, mut readers) = cache::new(8, 1);
    for eid in ["1.1.0.0/16", "2001:db8:1::/48"] {
        writer.insert(prefix(eid), Forwarding::Local(Delivery::Unresolved)).unwrap();
    }
    writer.publish();
    let mut ports = vec![MemPort::new()];
    ports[0].arrive(udp("1.1.1.1", "2.2.2.2", (1, 2), 9).ttl(1).host_frame());
    ports[0].arrive(udp("2001:db8:1::7", "2001:db8:2::2", (1, 2), 9).ttl(1).host_frame());
    turn(&mut worker, &mut ports, &readers[0].snapshot(), std::time::Instant::now());
    assert_eq!((ports[0].take_sent(), counters.dropped(Reason::TtlExpired)), (vec![], 2));
    worker.finish(ports);
}

/// MTU-6, ITR-32.
#[test]
fn a_flood_gets_a_burst_and_then_the_rate() {
    let mut world = world();
    let errors = |world: &mut World, hosts: u32, packets: u32| -> u64 {
        let before = world.counters.icmp_sent.get();
        for n in 0..packets {
            let source = format!("1.1.{}.{}", n % hosts / 200, n % hosts % 200 + 1);
            world.ports[SITE_PORT].arrive(udp(&source, "3.3.3.3", (1, 2), 9).host_frame());
        }
        while world.turn() > 0 {}
        world.sent();
        world.counters.icmp_sent.get() - before
    };
    assert_eq!(errors(&mut world, 1, 1000), 20, "one source: its own burst");
    world.wait(1000);
    assert_eq!(errors(&mut world, 1, 1000), 20, "and 20 a second");
    world.wait(100_000);
    assert_eq!(errors(&mut world, 600, 5000), 100, "many sources: the worker's burst");
    world.wait(500);
    assert_eq!(errors(&mut world, 600, 5000), 50, "and 100 a second");
    assert_eq!(world.counters.dropped(Reason::ActDrop), 12_000, "dropped all the same");
    world.settle_accounts();
}
