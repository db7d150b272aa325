//! Every reason to drop, each by a packet that meets it and nothing else.

use std::collections::BTreeSet;

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    frame::{Frame, HEADROOM, SLOT, Umem},
    mapping::Adjacency,
    port::{MemPort, Port},
    verdict::Reason,
    worker::Hold,
};

use crate::{packets::*, world::*};

/// A world that has every kind of entry.
fn furnished() -> World {
    let mut world = World::with(Options { hold: Hold::Drop, ..Options::default() });
    world.learn_side(1, 2, false, None);
    let small = Adjacency { mtu: 1300, ..adjacency(SITE_PORT, 1500) };
    world.learn(prefix("1.1.8.0/24"), Forwarding::Local(Delivery::Adjacent(small)));
    world.learn(prefix("1.1.9.0/24"), Forwarding::Local(Delivery::Unresolved));
    world.learn(prefix("169.254.0.0/16"), Forwarding::Local(Delivery::Unresolved));
    world.learn(prefix("4.0.0.0/8"), Forwarding::Request);
    for (eid, reason) in [
        ("3.1.0.0/16", Reason::NoUsableLocator),
        ("3.2.0.0/16", Reason::ActNoAction),
        ("3.3.0.0/16", Reason::ActDrop),
        ("3.4.0.0/16", Reason::ActPolicyDenied),
        ("3.5.0.0/16", Reason::ActAuthFailure),
        ("3.6.0.0/16", Reason::NativeNoRoute),
    ] {
        world.learn(prefix(eid), Forwarding::Drop(reason));
    }
    world
}

fn good() -> Ip {
    udp("1.1.1.1", "2.2.2.2", (1000, 2000), 40)
}

/// Changes octets of an IP packet, and puts the IPv4 header checksum right if told so.
fn forged(packet: &Ip, seal_it: bool, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut octets = packet.octets();
    change(&mut octets);
    if seal_it {
        seal(&mut octets);
    }
    octets
}

fn to(destination: &str) -> Vec<u8> {
    udp("1.1.1.1", destination, (1, 2), 40).octets()
}

fn from(source: &str) -> Vec<u8> {
    udp(source, "2.2.2.2", (1, 2), 40).octets()
}

/// IP packets from the site and why each is dropped.
fn site_packets() -> Vec<(Reason, Vec<u8>)> {
    let v6 = || udp("2001:db8:1::1", "2001:db8:2::2", (1, 2), 40);
    let mut table = vec![
        (Reason::SiteTruncated, forged(&good(), true, |p| p[2] = 1)),
        (Reason::SiteTruncated, forged(&v6(), false, |p| p[4] = 1)),
        (Reason::SiteNotIp, forged(&good(), false, |p| p[0] = 0x75)),
        (Reason::SiteNotIp, forged(&v6(), false, |p| p[0] = 0x40)),
        (Reason::SiteBadHeader, forged(&good(), false, |p| p[0] = 0x44)),
        (Reason::SiteBadHeader, forged(&good(), false, |p| p[2..4].fill(0))),
        (Reason::SiteBadHeader, forged(&good(), false, |p| (p[0], p[3]) = (0x46, 20))),
        (Reason::SiteBadChecksum, forged(&good(), false, |p| p[8] = 63)),
        (Reason::SiteBadChecksum, forged(&good(), false, |p| p[10] ^= 0x80)),
        (Reason::TtlExpired, good().ttl(1).octets()),
        (Reason::TtlExpired, good().ttl(0).octets()),
        (Reason::TtlExpired, v6().ttl(1).octets()),
        (Reason::TooBig, udp("1.1.1.1", "2.2.2.2", (1, 2), 1464 - 28 + 1).octets()),
        (Reason::TooBig, udp("2001:db8:1::1", "2001:db8:2::2", (1, 2), 1464 - 48 + 1).octets()),
        (Reason::MissNotHeld, to("9.9.9.9")),
        (Reason::MissNotHeld, to("4.4.4.4")),
        (Reason::DestinationRloc, to("240.0.254.10")),
        (Reason::DestinationLocal, to("1.1.1.2")),
        (Reason::NoUsableLocator, to("3.1.1.1")),
        (Reason::ActNoAction, to("3.2.1.1")),
        (Reason::ActDrop, to("3.3.1.1")),
        (Reason::ActPolicyDenied, to("3.4.1.1")),
        (Reason::ActAuthFailure, to("3.5.1.1")),
        (Reason::NativeNoRoute, to("3.6.1.1")),
        (Reason::SourceNotLocal, from("7.7.7.7")),
        (Reason::SourceNotLocal, from("2.2.2.1")),
        (Reason::SourceNotLocal, udp("2001:db8:2::1", "2001:db8:2::2", (1, 2), 4).octets()),
    ];
    for martian in ["127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.5", "239.1.1.1", "255.255.255.255", "169.254.1.1"] {
        table.push((Reason::SourceMartian, from(martian)));
        table.push((Reason::DestinationMartian, to(martian)));
    }
    for martian in ["::", "::1", "ff02::1", "ff0e::5", "fe80::1"] {
        table.push((Reason::SourceMartian, udp(martian, "2001:db8:2::2", (1, 2), 4).octets()));
        table.push((Reason::DestinationMartian, udp("2001:db8:1::1", martian, (1, 2), 4).octets()));
    }
    table
}

/// Frames from the site that are wrong before IP.
fn site_frames() -> Vec<(Reason, Vec<u8>)> {
    let whole = frame(SITE, HOST, &[], &good().octets());
    let arp = [&[0xff; 6], &HOST[..], &[0x08, 0x06], &[0; 46]].concat();
    let mut third_tag = tagged(whole.clone(), &[(0x88a8, 1), (0x8100, 2), (0x8100, 3)]);
    third_tag.truncate(80);
    vec![
        (Reason::SiteTruncated, vec![]),
        (Reason::SiteTruncated, whole[..13].to_vec()),
        (Reason::SiteTruncated, whole[..14].to_vec()),
        (Reason::SiteTruncated, whole[..33].to_vec()),
        (Reason::SiteTruncated, whole[..whole.len() - 1].to_vec()),
        (Reason::SiteTruncated, tagged(whole, &[(0x88a8, 1), (0x8100, 2)])[..20].to_vec()),
        (Reason::SiteNotIp, arp),
        (Reason::SiteNotIp, third_tag),
    ]
}

const PEER_RLOC: &str = "240.0.254.20";
const OUR_RLOC: &str = "240.0.254.10";

fn inner() -> Ip {
    udp("2.2.2.2", "1.1.1.1", (1, 2), 40)
}

fn around(inner: &[u8]) -> Ip {
    lisp(PEER_RLOC, OUR_RLOC, 0, 0, inner)
}

/// Outer packets from the core and why each is dropped.
fn outer_packets() -> Vec<(Reason, Vec<u8>)> {
    let outer = || around(&inner().octets());
    let outer_v6 = |from: &str| lisp(from, "2001:db8:254::1", 0, 0, &inner().octets());
    let mut other_port = outer();
    other_port.payload[2..4].copy_from_slice(&4342_u16.to_be_bytes());
    let mut tcp = outer();
    tcp.protocol = 6;
    let mut short_udp = outer();
    short_udp.payload.truncate(7);
    let with_length = |length: u16| {
        let mut packet = outer();
        packet.payload[4..6].copy_from_slice(&length.to_be_bytes());
        packet.octets()
    };
    let mut tiny = outer();
    tiny.payload.truncate(15);
    tiny.payload[4..6].copy_from_slice(&15_u16.to_be_bytes());
    let bad_checksum = |packet: Ip| {
        let mut packet = with_udp_checksum(packet);
        *packet.payload.last_mut().unwrap() ^= 1;
        packet.octets()
    };
    let mut fragment_v6 = outer_v6("2001:db8:254::2");
    fragment_v6.protocol = 44;
    let right_length = outer().payload.len() as u16;
    let mut table = vec![
        (Reason::OuterTruncated, forged(&outer(), true, |p| p[2] = 1)),
        (Reason::OuterTruncated, short_udp.octets()),
        (Reason::OuterBadHeader, forged(&outer(), false, |p| p[0] = 0x44)),
        (Reason::OuterBadHeader, forged(&outer(), false, |p| p[0] = 0x95)),
        (Reason::OuterBadChecksum, forged(&outer(), false, |p| p[8] = 1)),
        (Reason::OuterFragment, outer().fragment(MF).octets()),
        (Reason::OuterFragment, outer().fragment(5).octets()),
        (Reason::OuterFragment, fragment_v6.octets()),
        (Reason::OuterNotOurs, lisp(PEER_RLOC, "240.0.254.11", 0, 0, &inner().octets()).octets()),
        (Reason::OuterMartian, outer_v6("::1").octets()),
        (Reason::NotLisp, other_port.octets()),
        (Reason::NotLisp, tcp.octets()),
        (Reason::UdpBadLength, with_length(right_length - 1)),
        (Reason::UdpBadLength, with_length(right_length + 1)),
        (Reason::UdpBadLength, with_length(0)),
        (Reason::UdpBadLength, tiny.octets()),
        (Reason::UdpBadChecksum, bad_checksum(outer())),
        (Reason::UdpBadChecksum, bad_checksum(outer_v6("2001:db8:254::2"))),
        (Reason::UnknownInstance, lisp(PEER_RLOC, OUR_RLOC, 0x08, 0x00ff_ff00, &inner().octets()).octets()),
    ];
    for key in 1..=3 {
        table.push((Reason::Encrypted, lisp(PEER_RLOC, OUR_RLOC, key, 0, &inner().octets()).octets()));
    }
    for martian in ["127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255", "169.254.1.1"] {
        table.push((Reason::OuterMartian, lisp(martian, OUR_RLOC, 0, 0, &inner().octets()).octets()));
    }
    table
}

/// Inner packets out of a good outer one and why each is dropped.
fn inner_packets() -> Vec<(Reason, Vec<u8>)> {
    let between = |source: &str, destination: &str| udp(source, destination, (1, 2), 40).octets();
    let v6 = || udp("2001:db8:2::2", "2001:db8:1::1", (1, 2), 40);
    let mut table = vec![
        (Reason::InnerTruncated, vec![]),
        (Reason::InnerTruncated, inner().octets()[..19].to_vec()),
        (Reason::InnerTruncated, inner().octets()[..67].to_vec()),
        (Reason::InnerTruncated, v6().octets()[..87].to_vec()),
        // Vectors X10 and X11: neither 4 nor 6.
        (Reason::InnerBadHeader, forged(&inner(), false, |p| p[0] = 0x55)),
        (Reason::InnerBadHeader, forged(&inner(), false, |p| p[0] = 0x05)),
        (Reason::InnerBadHeader, forged(&inner(), false, |p| p[0] = 0x44)),
        (Reason::InnerBadChecksum, forged(&inner(), false, |p| p[11] ^= 1)),
        (Reason::InnerSourceLocal, between("1.1.1.7", "1.1.1.1")),
        (Reason::InnerSourceLocal, between("1.1.9.7", "1.1.1.1")),
        (Reason::InnerDestinationRloc, between("2.2.2.2", OUR_RLOC)),
        (Reason::InnerDestinationForeign, between("2.2.2.2", "8.8.8.8")),
        (Reason::InnerDestinationForeign, between("2.2.2.2", "2.2.2.3")),
        (Reason::InnerDestinationForeign, between("2.2.2.2", "3.2.2.3")),
        (Reason::EcnNotCapable, inner().octets()),
        (Reason::InnerTtlExpired, inner().ttl(0).octets()),
        (Reason::InnerTooBig, udp("2.2.2.2", "1.1.8.1", (1, 2), 1300 - 28 + 1).octets()),
        (Reason::MissNotHeld, between("2.2.2.2", "1.1.9.1")),
    ];
    for martian in ["127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255", "169.254.1.1"] {
        table.push((Reason::InnerSourceMartian, between(martian, "1.1.1.1")));
        table.push((Reason::InnerDestinationMartian, between("2.2.2.2", martian)));
    }
    for martian in ["::", "::1", "ff02::1", "fe80::1"] {
        table.push((Reason::InnerSourceMartian, between(martian, "2001:db8:1::1")));
        table.push((Reason::InnerDestinationMartian, between("2001:db8:2::2", martian)));
    }
    table
}

/// Every packet of the tables with its port.
fn cases() -> Vec<(Reason, usize, Vec<u8>)> {
    let site = |(reason, packet): (Reason, Vec<u8>)| {
        // The EtherType follows the family that the packet was built as, not its version nibble.
        let mut octets = frame(SITE, HOST, &[], &packet);
        let v6 = packet.len() >= 40 && packet[8..12] == [0x20, 0x01, 0x0d, 0xb8] || packet[0] >> 4 == 6;
        octets[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        (reason, SITE_PORT, octets)
    };
    let core = |(reason, packet): (Reason, Vec<u8>)| (reason, CORE_PORT, frame(CORE, PEER, &[], &packet));
    let mut cases: Vec<_> = site_packets().into_iter().map(site).collect();
    cases.extend(site_frames().into_iter().map(|(reason, octets)| (reason, SITE_PORT, octets)));
    cases.extend(outer_packets().into_iter().map(core));
    cases.extend(inner_packets().into_iter().map(|(reason, packet)| {
        let tos = if reason == Reason::EcnNotCapable { 3 } else { 0 };
        core((reason, around(&packet).tos(tos).octets()))
    }));
    cases.push((Reason::OuterTruncated, CORE_PORT, vec![0; 13]));
    cases.push((Reason::OuterBadHeader, CORE_PORT, [&[0; 12][..], &[0x08, 0x06], &[0; 46]].concat()));
    cases
}

/// ITR-2, ETR-1, ETR-5, ETR-6, ETR-8, ETR-29, G-14, G-16: in the order of the tables above
#[test]
fn each_packet_is_dropped_for_its_reason_and_for_no_other() {
    for (number, (reason, port, octets)) in cases().into_iter().enumerate() {
        let mut world = furnished();
        world.pass(port, octets);
        assert_eq!(world.drops(), [(reason.name(), 1)].into(), "case {number}");
        let forwarded = world.counters.encapsulated.get() + world.counters.decapsulated.get();
        assert_eq!((forwarded, world.counters.native.get()), (0, 0), "case {number}");
        world.settle_accounts();
    }
}

#[test]
fn the_packets_that_the_cases_are_made_from_pass() {
    let mut world = furnished();
    for packet in [good(), good().ttl(2), udp("1.1.1.1", "2.2.2.2", (1, 2), 1464 - 28)] {
        world.through(SITE_PORT, packet.host_frame(), CORE_PORT);
    }
    world.through(CORE_PORT, around(&inner().octets()).peer_frame(), SITE_PORT);
    let largest = udp("2.2.2.2", "1.1.8.1", (1, 2), 1300 - 28);
    world.through(CORE_PORT, around(&largest.octets()).peer_frame(), SITE_PORT);
    assert_eq!(world.drops(), [].into());
}

/// Reasons that a state brings about, not a packet; each is reached by a test of its own.
const BY_STATE: [Reason; 17] = [
    Reason::HoldDisplaced, // holding::a_fifth_frame_displaces_the_oldest
    Reason::HoldFull,      // holding::the_worker_holds_no_more_than_its_share
    Reason::HoldExpired,   // holding::without_an_answer_frames_leave_after_three_seconds
    // sources::the_matrix_of_levels_and_sources
    Reason::InnerSourceUnknown,
    Reason::OuterSourceForeign,
    // proxies::a_pitr_takes_nothing_else, a_pitr_does_not_return_what_its_aggregate_attracted,
    // a_petr_refuses_forged_sources_and_what_goes_to_an_eid
    Reason::DestinationNotAggregated,
    Reason::NativeLoop,
    Reason::InnerDestinationEid,
    // nat::only_what_one_registered_end_has_is_relayed
    Reason::NotRegistered,
    // features::versions_that_arrive_are_held_against_what_is_known
    Reason::VersionUnexpected,
    Reason::DestVersionZero,
    Reason::DestVersionNewer,
    Reason::DestVersionOlder,
    Reason::SourceVersionOlder,
    Reason::NoHeadroom,    // below
    Reason::TransmitFull,  // holding::what_a_full_ring_refuses_twice_is_dropped
    Reason::MissQueueFull, // holding::a_scan_asks_at_a_bounded_pace
];

/// G-9.
#[test]
fn no_reason_is_left_without_a_test() {
    let by_packet: BTreeSet<&str> = cases().into_iter().map(|(reason, ..)| reason.name()).collect();
    let by_state: BTreeSet<&str> = BY_STATE.iter().map(|reason| reason.name()).collect();
    let reached: BTreeSet<&str> = by_packet.union(&by_state).copied().collect();
    let all: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(all.difference(&reached).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(by_packet.is_disjoint(&by_state));
}

/// A port that leaves no room in front of what it receives.
struct Flush(MemPort);

impl Port for Flush {
    fn receive(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>, limit: usize) {
        self.0.receive(umem, batch, limit);
        for frame in batch {
            let packet = umem.octets(frame).to_vec();
            assert!(umem.grow(frame, HEADROOM) && umem.set_len(frame, packet.len()) && packet.len() < SLOT);
            umem.octets_mut(frame).copy_from_slice(&packet);
        }
    }

    fn transmit(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>) -> usize {
        self.0.transmit(umem, batch)
    }

    fn outstanding(&self) -> usize {
        self.0.outstanding()
    }
}

#[test]
fn without_headroom_a_packet_is_dropped_not_moved() {
    let ports = (0..3).map(|_| Flush(MemPort::new())).collect();
    let mut world = World::on(ports, Options::default());
    world.learn_tunnel(prefix("2.2.0.0/16"), rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, 1500));
    world.ports[SITE_PORT].0.arrive(good().host_frame());
    world.turn();
    assert_eq!(world.drops(), [("no-headroom", 1)].into());
    world.settle_accounts();
}
