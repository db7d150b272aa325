//! Packets too long for the way whose sender allows fragments: RFC 9300 §7.1.

use altitude_dataplane::cache::Forwarding;

use crate::{packets::*, world::*};

fn long(data: usize) -> Ip {
    udp("1.1.1.1", "2.2.2.2", (1, 2), data).fragment(0)
}

/// Puts fragments together as a host does; checks offsets and flags.
fn reassemble(parts: &[Vec<u8>], more: bool) -> Vec<u8> {
    let mut payload = Vec::new();
    let first = u16::from_be_bytes([parts[0][6], parts[0][7]]) & 0x1fff;
    for (index, part) in parts.iter().enumerate() {
        let field = u16::from_be_bytes([part[6], part[7]]);
        assert_eq!(usize::from((field & 0x1fff) - first) * 8, payload.len());
        assert_eq!(field & MF != 0, more || index + 1 < parts.len());
        assert_eq!(field & DF, 0);
        payload.extend(&part[usize::from(part[0] & 0xf) * 4..]);
    }
    payload
}

/// MTU-1.
#[test]
fn one_packet_becomes_two_of_about_equal_size() {
    for data in [1465 - 28, 1472, 1471] {
        let mut world = World::new();
        world.learn_side(1, 2, false, None);
        let packet = long(data);
        world.ports[SITE_PORT].arrive(packet.host_frame());
        assert_eq!(world.turn(), 1);
        let sent: Vec<Tunnelled> = world.sent().iter().map(|(_, octets)| open(octets)).collect();
        let parts: Vec<Vec<u8>> = sent.iter().map(|tunnelled| tunnelled.inner.clone()).collect();
        assert_eq!(parts.len(), 2);
        assert!(parts[0].len().abs_diff(parts[1].len()) <= 16);
        assert_eq!(reassemble(&parts, false), packet.payload);
        assert!(parts.iter().all(|part| part[4..6] == [0x12, 0x34] && part[8] == 63));
        assert_eq!(sent[0].source_port, sent[1].source_port, "one path for the whole datagram");
        assert_eq!((world.counters.split.get(), world.counters.encapsulated.get()), (1, 2));
        assert_eq!(world.counters.copied_octets.get(), parts[1].len() as u64 - 20, "the second part's payload");
        world.settle_accounts();
    }
}

/// MTU-1.
#[test]
fn a_fragment_is_split_further_and_options_follow_their_copied_flag() {
    let mut world = World::new();
    world.learn_side(1, 2, false, None);
    // Record route (not copied), then a router alert (copied), then the end.
    let options = vec![7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 0];
    let packet = Ip { options: options.clone(), ..long(1456).fragment(MF | 185) };
    world.ports[SITE_PORT].arrive(packet.host_frame());
    world.turn();
    let parts: Vec<Vec<u8>> = world.sent().iter().map(|(_, octets)| open(octets).inner).collect();
    assert_eq!(reassemble(&parts, true), packet.payload);
    assert_eq!(u16::from_be_bytes([parts[0][6], parts[0][7]]), MF | 185);
    assert_eq!(parts[0][20..32], options);
    assert_eq!(parts[1][20..32], [1, 1, 1, 1, 1, 1, 1, 0x94, 4, 0, 0, 0]);
    world.settle_accounts();
}

#[test]
fn parts_that_are_still_too_long_are_split_again() {
    let mut world = World::new();
    world.learn_tunnel(prefix("2.2.0.0/16"), rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, 400));
    let packet = long(1400);
    world.ports[SITE_PORT].arrive(packet.host_frame());
    world.turn();
    let parts: Vec<Vec<u8>> = world.sent().iter().map(|(_, octets)| open(octets).inner).collect();
    assert!(parts.iter().all(|part| part.len() <= 364));
    assert_eq!(reassemble(&parts, false), packet.payload);
    assert_eq!(world.counters.split.get() + 1, parts.len() as u64);
    world.settle_accounts();
}

#[test]
fn what_cannot_be_split_is_dropped() {
    // An offset that would not fit its field; no frame left for the second part; parts that cannot get shorter.
    let mut world = World::new();
    world.learn_side(1, 2, false, None);
    world.pass(SITE_PORT, long(1472).fragment(0x1fff).host_frame());
    assert_eq!(world.drops(), [("too-big", 1)].into());
    world.settle_accounts();

    let mut world = World::with(Options { slots: 1, ..Options::default() });
    world.learn_side(1, 2, false, None);
    world.pass(SITE_PORT, long(1472).host_frame());
    assert_eq!(world.drops(), [("too-big", 1)].into());
    world.settle_accounts();

    let mut world = World::new();
    world.learn_tunnel(prefix("2.2.0.0/16"), rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, 60));
    world.pass(SITE_PORT, long(20).host_frame());
    assert!(world.counters.dropped(altitude_dataplane::verdict::Reason::TooBig) > 0);
    world.settle_accounts();
}

#[test]
fn a_native_way_splits_too() {
    let mut world = World::new();
    world.learn(prefix("0.0.0.0/0"), Forwarding::Native(adjacency(CORE_PORT, 1400)));
    let packet = Ip { destination: "9.9.9.9".parse().unwrap(), ..long(1472) };
    world.ports[SITE_PORT].arrive(packet.host_frame());
    world.turn();
    let parts: Vec<Vec<u8>> = world.sent().iter().map(|(_, octets)| sound(&octets[14..]).to_vec()).collect();
    assert_eq!(reassemble(&parts, false), packet.payload);
    assert_eq!(world.counters.native.get(), 2);
    world.settle_accounts();
}
