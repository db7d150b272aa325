//! Through two workers and back out: all families, tags, TOS values, ECN cells and TTLs.

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    mapping::{Adjacency, VlanTag},
    verdict::Reason,
    worker::DscpModel,
};

use crate::{packets::*, world::*};

/// Two sides that know each other over RLOCs of one family.
fn pair(v6: bool) -> (World, World) {
    let mut one = World::new();
    let mut two = World::with(Options { side: 2, ..Options::default() });
    one.learn_side(1, 2, v6, None);
    two.learn_side(2, 1, v6, None);
    (one, two)
}

fn hosts(v6: bool) -> (&'static str, &'static str) {
    if v6 { ("2001:db8:1::1", "2001:db8:2::2") } else { ("1.1.1.1", "2.2.2.2") }
}

/// What must come out: TTL one less, nothing else changed.
fn one_hop(packet: &Ip) -> Vec<u8> {
    Ip { ttl: packet.ttl - 1, ..packet.clone() }.octets()
}

/// ITR-4, ITR-6, ITR-8, MTU-3, G-11, MV-10, MV-4: TTL, checksum, DF and a LISP header of zeros
#[test]
fn four_family_mixes_three_tag_depths_and_many_lengths() {
    let tags: [&[(u16, u16)]; 3] = [&[], &[(0x8100, 7)], &[(0x88a8, 100), (0x8100, 0x6007)]];
    for (outer_v6, inner_v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut one, mut two) = pair(outer_v6);
        let (source, destination) = hosts(inner_v6);
        for tags in tags {
            for length in [0, 1, 2, 17, 18, 100, 1000, 1500 - 56 - 48] {
                let packet = udp(source, destination, (1000, 2000), length);
                let arriving = frame(SITE, HOST, tags, &packet.octets());
                let on_core = one.through(SITE_PORT, arriving, CORE_PORT);
                let tunnelled = open(&on_core);
                assert_eq!(tunnelled.outer, if outer_v6 { 40 } else { 20 });
                assert_eq!((tunnelled.inner, tunnelled.lisp), (one_hop(&packet), [0; 8]));
                assert_eq!(on_core[..12], [PEER, CORE].concat());

                let delivered = two.through(CORE_PORT, tagged(on_core, tags), SITE_PORT);
                assert_eq!(delivered[..12], [HOST, SITE].concat());
                assert_eq!(delivered[12..14], if inner_v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
                assert_eq!(delivered[14..], one_hop(&packet), "{length} octets, outer v6 {outer_v6}");
            }
        }
        for world in [one, two] {
            assert_eq!(world.counters.copied_octets.get(), 0);
            world.settle_accounts();
        }
    }
}

#[test]
fn options_and_a_tagged_egress() {
    let (mut one, _) = pair(false);
    let tag = VlanTag { tpid: 0x8100, tci: 9 };
    one.learn_side(1, 2, false, Some(tag));
    let packet = Ip { options: vec![1, 1, 1, 0], ..udp("1.1.1.1", "2.2.2.2", (1, 2), 30) };
    let mut sent = one.through(SITE_PORT, packet.host_frame(), CORE_PORT);
    assert_eq!(sent[12..18], [0x81, 0, 0, 9, 0x08, 0x00]);
    sent.drain(12..16);
    assert_eq!(open(&sent).inner, one_hop(&packet));

    let tagged_host = Adjacency { vlan: Some(tag), ..adjacency(SITE_PORT, 1500) };
    one.learn(prefix("1.1.0.0/16"), Forwarding::Local(Delivery::Adjacent(tagged_host)));
    let inner = Ip { options: vec![7, 4, 4, 0], ..udp("2.2.2.2", "1.1.1.1", (1, 2), 30) };
    let outer = Ip { options: vec![1; 40], ..lisp("240.0.254.20", "240.0.254.10", 0, 0, &inner.octets()) };
    let delivered = one.through(CORE_PORT, outer.peer_frame(), SITE_PORT);
    assert_eq!((&delivered[12..18], &delivered[18..]), (&[0x81, 0, 0, 9, 0x08, 0x00][..], &inner.octets()[..]));
    one.settle_accounts();
}

/// ITR-4, ITR-5.
#[test]
fn every_tos_goes_out_and_comes_back() {
    for (outer_v6, inner_v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut one, mut two) = pair(outer_v6);
        let (source, destination) = hosts(inner_v6);
        for tos in 0..=255 {
            let packet = udp(source, destination, (1000, 2000), 20).tos(tos);
            let on_core = one.through(SITE_PORT, packet.host_frame(), CORE_PORT);
            let tunnelled = open(&on_core);
            assert_eq!((tunnelled.tos, tunnelled.ttl), (tos, 63));
            let delivered = two.through(CORE_PORT, on_core, SITE_PORT);
            assert_eq!(delivered[14..], one_hop(&packet), "TOS {tos:#x}");
        }
        assert_eq!(two.counters.ecn_odd.get(), 0);
    }
}

/// ETR-3, ETR-4.
#[test]
fn ecn_comes_out_by_the_table_of_rfc_6040() {
    const NOT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    // Figure 4: inner, outer, result (None: dropped), whether it is counted as odd.
    let table = [
        (NOT, NOT, Some(NOT), 0),
        (NOT, ECT0, Some(NOT), 1),
        (NOT, ECT1, Some(NOT), 1),
        (NOT, CE, None, 0),
        (ECT0, NOT, Some(ECT0), 0),
        (ECT0, ECT0, Some(ECT0), 0),
        (ECT0, ECT1, Some(ECT1), 0),
        (ECT0, CE, Some(CE), 0),
        (ECT1, NOT, Some(ECT1), 0),
        (ECT1, ECT0, Some(ECT1), 1),
        (ECT1, ECT1, Some(ECT1), 0),
        (ECT1, CE, Some(CE), 0),
        (CE, NOT, Some(CE), 0),
        (CE, ECT0, Some(CE), 0),
        (CE, ECT1, Some(CE), 1),
        (CE, CE, Some(CE), 0),
    ];
    for (dscp, outer_v6, inner_v6) in [DscpModel::Uniform, DscpModel::Pipe]
        .into_iter()
        .flat_map(|dscp| [(dscp, false, false), (dscp, false, true), (dscp, true, false), (dscp, true, true)])
    {
        let mut two = World::with(Options { side: 2, dscp, ..Options::default() });
        two.learn_side(2, 1, outer_v6, None);
        let (source, destination) = hosts(inner_v6);
        let [from, to] = [1, 2].map(|side| rloc(side, outer_v6).to_string());
        for (inner_ecn, outer_ecn, result, odd) in table {
            for outer_dscp in [0, 46 << 2, 63 << 2] {
                let inner = udp(source, destination, (1, 2), 9).tos(10 << 2 | inner_ecn);
                let outer = lisp(&from, &to, 0, 0, &inner.octets()).tos(outer_dscp | outer_ecn);
                let before = two.counters.ecn_odd.get();
                let sent = two.pass(CORE_PORT, outer.peer_frame());
                let delivered = sent.first().map(|(_, octets)| octets[14..].to_vec());
                let dscp = if dscp == DscpModel::Uniform { outer_dscp } else { 10 << 2 };
                let expected = result.map(|ecn| inner.clone().tos(dscp | ecn).octets());
                assert_eq!(delivered, expected, "inner {inner_ecn:02b} outer {outer_ecn:02b}");
                assert_eq!(two.counters.ecn_odd.get() - before, odd);
            }
        }
        assert_eq!(two.drops(), [("ecn-not-capable", 3)].into());
        two.settle_accounts();
    }
}

/// ETR-2.
#[test]
fn the_smaller_ttl_comes_out() {
    for inner_v6 in [false, true] {
        let (_, mut two) = pair(false);
        let (source, destination) = hosts(inner_v6);
        for (inner_ttl, outer_ttl, result) in
            [(60, 3, Some(3)), (3, 60, Some(3)), (1, 255, Some(1)), (255, 255, Some(255)), (0, 9, None), (9, 0, None)]
        {
            let inner = udp(source, destination, (1, 2), 9).ttl(inner_ttl);
            let outer = lisp("240.0.254.10", "240.0.254.20", 0, 0, &inner.octets()).ttl(outer_ttl);
            let sent = two.pass(CORE_PORT, outer.peer_frame());
            let delivered = sent.first().map(|(_, octets)| octets[14..].to_vec());
            assert_eq!(delivered, result.map(|ttl| inner.ttl(ttl).octets()));
        }
        assert_eq!(two.drops(), [("inner-ttl-expired", 2)].into());
    }
}

/// ETR-6, ETR-9, G-6, G-11, MV-10.
#[test]
fn flags_of_the_lisp_header_change_nothing_but_the_instance() {
    let (_, mut two) = pair(false);
    let five = Forwarding::Local(Delivery::Adjacent(Adjacency { destination: [5; 6], ..adjacency(SITE_PORT, 1500) }));
    two.learn(prefix_in(5, "2.2.0.0/16"), five);
    let inner = udp("1.1.1.1", "2.2.2.2", (1, 2), 9);
    // N, L, E, V and R in all combinations, D07 and D08 among them: the way of instance 0.
    for flags in (0..=255_u8).filter(|flags| flags & 0x03 == 0) {
        let instance = flags & 0x08 != 0;
        let mut outer = lisp("240.0.254.10", "240.0.254.20", flags, 5 << 8 | 0xff, &inner.octets());
        outer.payload[9..12].copy_from_slice(&[0xab, 0xcd, 0xef]);
        let delivered = two.through(CORE_PORT, outer.peer_frame(), SITE_PORT);
        assert_eq!(delivered[..6], if instance { [5; 6] } else { HOST }, "flags {flags:#04x}");
        assert_eq!(delivered[14..], inner.octets());
    }
    // I with Instance-ID 0 is instance 0 (RFC 9300 §8).
    let outer = lisp("240.0.254.10", "240.0.254.20", 0x08, 0, &inner.octets());
    assert_eq!(two.through(CORE_PORT, outer.peer_frame(), SITE_PORT)[..6], HOST);
}

/// ITR-3.
#[test]
fn an_instance_goes_on_the_wire_and_finds_its_own_table() {
    let mut one = World::new();
    one.learn_tunnel(prefix("2.2.0.0/16"), rloc(1, false), rloc(2, false), 0xabcdef, &adjacency(CORE_PORT, 1500));
    let sent = one.through(SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 9).host_frame(), CORE_PORT);
    assert_eq!(open(&sent).lisp, [0x08, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
    // The port's instance is 0: a mapping of another instance is not seen (RFC 9300 §8).
    one.learn_tunnel(prefix_in(5, "3.3.0.0/16"), rloc(1, false), rloc(2, false), 5, &adjacency(CORE_PORT, 1500));
    assert_eq!(one.pass(SITE_PORT, udp("1.1.1.1", "3.3.3.3", (1, 2), 9).host_frame()), []);
    assert_eq!(one.asked().len(), 1);
}

/// ETR-1.
#[test]
fn udp_checksums_may_be_absent_or_right() {
    for v6 in [false, true] {
        let (_, mut two) = pair(v6);
        let [from, to] = [1, 2].map(|side| rloc(side, v6).to_string());
        for length in [1, 2, 3, 64, 999] {
            let inner = udp("1.1.1.1", "2.2.2.2", (1, 2), length);
            let outer = with_udp_checksum(lisp(&from, &to, 0, 0, &inner.octets()));
            assert_ne!(outer.payload[6..8], [0, 0]);
            assert_eq!(two.through(CORE_PORT, outer.peer_frame(), SITE_PORT)[14..], inner.octets());
        }
    }
}

#[test]
fn native_packets_keep_everything_but_a_hop() {
    let (mut one, _) = pair(false);
    one.learn(prefix("0.0.0.0/0"), Forwarding::Native(adjacency(CORE_PORT, 1500)));
    let packet = udp("1.1.1.1", "9.9.9.9", (1, 2), 1472);
    let arriving = frame(SITE, HOST, &[(0x8100, 5)], &packet.octets());
    let sent = one.through(SITE_PORT, arriving, CORE_PORT);
    assert_eq!((&sent[..14], &sent[14..]), (&frame(PEER, CORE, &[], &packet.octets())[..14], &one_hop(&packet)[..]));
    assert_eq!((one.counters.native.get(), one.counters.encapsulated.get()), (1, 0));
    one.settle_accounts();
}

/// ITR-37.
#[test]
fn a_default_mapping_takes_what_nothing_else_is_known_of() {
    let mut one = World::new();
    for eid in ["0.0.0.0/0", "::/0"] {
        one.learn_tunnel(prefix(eid), rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, 1500));
    }
    one.learn(prefix("9.9.0.0/16"), Forwarding::Drop(Reason::ActNoAction));
    for (source, destination) in [("1.1.1.1", "8.8.8.8"), ("2001:db8:1::1", "2600::8")] {
        let packet = udp(source, destination, (1, 2), 9);
        assert_eq!(open(&one.through(SITE_PORT, packet.host_frame(), CORE_PORT)).inner, one_hop(&packet));
    }
    assert_eq!(one.pass(SITE_PORT, udp("1.1.1.1", "9.9.9.9", (1, 2), 9).host_frame()), []);
    assert_eq!(one.pass(SITE_PORT, udp("1.1.1.1", "1.1.9.9", (1, 2), 9).host_frame()), []);
    assert_eq!(one.drops(), [("act-no-action", 1), ("destination-local", 1)].into());
    assert_eq!(one.asked(), [], "nothing is missed");
    one.settle_accounts();
}

#[test]
fn a_port_may_be_site_and_core_at_once() {
    let (mut one, _) = pair(false);
    let inner = udp("2.2.2.2", "1.1.1.1", (1, 2), 9);
    let from_core = lisp("240.0.254.20", "240.0.254.10", 0, 0, &inner.octets());
    assert_eq!(one.through(BOTH_PORT, from_core.peer_frame(), SITE_PORT)[14..], inner.octets());
    let from_host = udp("1.1.1.1", "2.2.2.2", (1, 2), 9);
    let sent = one.through(BOTH_PORT, frame(SITE, HOST, &[(0x8100, 1)], &from_host.octets()), CORE_PORT);
    assert_eq!(open(&sent).inner, one_hop(&from_host));
    // LISP of a host to somebody else's RLOC is a host's packet like any other.
    let host_lisp = lisp("1.1.1.1", "2.2.2.2", 0, 0, &inner.octets());
    assert_eq!(open(&one.through(BOTH_PORT, host_lisp.host_frame(), CORE_PORT)).inner, one_hop(&host_lisp));
    one.settle_accounts();
}
