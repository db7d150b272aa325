//! Packets whose mapping or neighbour is missing, as stories with time; and rings that are full.

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    mapping::Eid,
    port::MemPort,
    verdict::{Reason, Wanted},
    worker::Hold,
};

use crate::{packets::*, world::*};

/// The n-th packet of a flow to a destination; its number is its first octet of data.
fn numbered(destination: &str, number: u8) -> Vec<u8> {
    let mut packet = udp("1.1.1.1", destination, (1, 2), 9);
    packet.payload[8] = number;
    packet.host_frame()
}

/// The numbers of the packets that left through the core port.
fn numbers(world: &mut World) -> Vec<u8> {
    let sent = world.sent();
    assert!(sent.iter().all(|(port, _)| *port == CORE_PORT));
    sent.iter().map(|(_, octets)| open(octets).inner[28]).collect()
}

fn way(world: &mut World, eid: &str) {
    world.learn_tunnel(prefix(eid), rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, 1500));
}

/// ITR-44, ITR-45, ITR-49.
#[test]
fn frames_wait_for_the_mapping_and_leave_in_order() {
    let mut world = World::new();
    for number in 1..=3 {
        world.ports[SITE_PORT].arrive(numbered("2.2.2.2", number));
    }
    assert_eq!(world.turn(), 3);
    let asked = world.asked();
    assert_eq!(asked.len(), 1, "one question for all of them");
    assert_eq!((asked[0].wanted, asked[0].source), (Wanted::Mapping, "1.1.1.1".parse().unwrap()));
    assert_eq!(asked[0].destination, Eid { instance: instance(0), address: "2.2.2.2".parse().unwrap() });
    assert!(world.worker.take_asked() && !world.worker.take_asked());

    world.wait(2999);
    assert_eq!((world.turn(), world.worker.holding()), (0, 3));
    way(&mut world, "7.0.0.0/8");
    assert_eq!((world.turn(), world.worker.holding()), (0, 3), "another mapping is no answer");
    way(&mut world, "2.2.0.0/16");
    world.ports[SITE_PORT].arrive(numbered("2.2.2.2", 4));
    assert_eq!(world.turn(), 4);
    assert_eq!(numbers(&mut world), [1, 2, 3, 4], "the held ones first");
    assert_eq!((world.counters.held.get(), world.counters.held_sent.get(), world.counters.missed.get()), (3, 3, 3));
    assert_eq!(world.drops(), [].into());
    world.settle_accounts();
}

/// ITR-45.
#[test]
fn a_fifth_frame_displaces_the_oldest() {
    let mut world = World::new();
    for number in 1..=10 {
        world.pass(SITE_PORT, numbered("2.2.2.2", number));
    }
    assert_eq!((world.asked().len(), world.worker.holding()), (1, 4));
    way(&mut world, "2.2.0.0/16");
    world.turn();
    assert_eq!(numbers(&mut world), [7, 8, 9, 10]);
    assert_eq!(world.drops(), [("hold-displaced", 6)].into());
    world.settle_accounts();
}

/// ITR-45.
#[test]
fn without_an_answer_frames_leave_after_three_seconds() {
    let mut world = World::new();
    world.pass(SITE_PORT, numbered("2.2.2.2", 1));
    world.wait(1500);
    world.pass(SITE_PORT, numbered("2.2.2.2", 2));
    world.pass(SITE_PORT, numbered("2.2.3.3", 3));
    world.wait(1499);
    assert_eq!((world.turn(), world.worker.holding()), (0, 3));
    world.wait(1);
    assert_eq!((world.turn(), world.worker.holding()), (1, 2));
    world.wait(1499);
    assert_eq!((world.turn(), world.worker.holding()), (0, 2));
    world.wait(1);
    assert_eq!((world.turn(), world.worker.holding()), (2, 0));
    assert_eq!(world.drops(), [("hold-expired", 3)].into());
    way(&mut world, "2.2.0.0/16");
    assert_eq!(world.turn(), 0);
    // The EID can be asked for again at once.
    assert_eq!(world.asked().len(), 3, "the second packet, after 1.5 s, asked again");
    world.pass(SITE_PORT, numbered("8.8.8.8", 4));
    assert_eq!(world.asked().len(), 1);
    world.settle_accounts();
}

/// ITR-30, ITR-45.
#[test]
fn a_negative_answer_drops_what_was_held_for_its_own_reason() {
    let mut world = World::new();
    for (last, _) in [(1, ()), (2, ()), (3, ())] {
        world.pass(SITE_PORT, numbered(&format!("3.{last}.0.1"), last));
    }
    world.writer.insert(prefix("3.1.0.0/16"), Forwarding::Drop(Reason::ActNoAction)).unwrap();
    world.writer.insert(prefix("3.2.0.0/16"), Forwarding::Drop(Reason::ActDrop)).unwrap();
    world.learn(prefix("3.3.0.0/16"), Forwarding::Native(adjacency(CORE_PORT, 1500)));
    assert_eq!(world.turn(), 3);
    let sent: Vec<usize> = world.sent().into_iter().map(|(port, _)| port).collect();
    assert_eq!(sent, [SITE_PORT, CORE_PORT], "an ICMP error for ACT 3, and the packet of ACT 1");
    assert_eq!(world.drops(), [("act-drop", 1), ("act-no-action", 1)].into());
    assert_eq!((world.counters.held_sent.get(), world.counters.native.get()), (1, 1));
    world.settle_accounts();
}

/// ITR-31.
#[test]
fn an_entry_that_says_ask_goes_on_asking() {
    let mut world = World::new();
    world.learn(prefix("4.0.0.0/8"), Forwarding::Request);
    for second in 0..5 {
        for number in 0..10 {
            world.pass(SITE_PORT, numbered("4.4.4.4", number));
        }
        assert_eq!(world.asked().len(), 1, "second {second}: one question, ten packets");
        world.wait(1000);
    }
    assert!(world.drops().keys().all(|name| name.starts_with("hold-")));
    way(&mut world, "4.0.0.0/8");
    world.turn();
    assert_eq!(numbers(&mut world), [6, 7, 8, 9]);
    world.settle_accounts();
}

#[test]
fn decapsulated_packets_wait_for_the_neighbour() {
    let mut world = World::new();
    world.learn(prefix("1.1.9.0/24"), Forwarding::Local(Delivery::Unresolved));
    let packets: Vec<Ip> = (1..=2).map(|port| udp("2.2.2.2", "1.1.9.9", (port, 2), 9)).collect();
    for packet in &packets {
        let outer = lisp("240.0.254.20", "240.0.254.10", 0, 0, &packet.octets());
        assert_eq!(world.pass(CORE_PORT, outer.peer_frame()), []);
    }
    let asked = world.asked();
    assert_eq!((asked.len(), asked[0].wanted), (1, Wanted::Neighbour));
    assert_eq!(asked[0].destination.address.to_string(), "1.1.9.9");
    let found = Forwarding::Local(Delivery::Adjacent(adjacency(SITE_PORT, 1500)));
    world.learn(prefix("1.1.9.9/32"), found);
    world.turn();
    let delivered: Vec<Vec<u8>> = world.sent().into_iter().map(|(_, octets)| octets[14..].to_vec()).collect();
    assert_eq!(delivered, packets.iter().map(Ip::octets).collect::<Vec<_>>());
    world.settle_accounts();
}

/// ITR-45.
#[test]
fn the_worker_holds_no_more_than_its_share() {
    for (slots, limit) in [(64, 16), (16_384, 1024)] {
        let mut world = World::with(Options { slots, misses: 4096, ..Options::default() });
        for n in 0..limit + 10 {
            world.pass(SITE_PORT, numbered(&format!("2.{}.{}.1", 2 + n / 250, n % 250), 1));
        }
        assert_eq!(world.worker.holding(), limit);
        assert_eq!(world.drops(), [("hold-full", 10)].into());
        assert_eq!(world.asked().len(), limit + 10, "those not held are asked for all the same");
        way(&mut world, "2.0.0.0/8");
        assert_eq!(world.turn(), limit);
        assert_eq!(numbers(&mut world).len(), limit);
        world.settle_accounts();
    }
}

#[test]
fn a_full_queue_to_the_control_thread_is_tried_again_each_turn() {
    let mut world = World::with(Options { misses: 2, ..Options::default() });
    for n in 1..=5 {
        world.ports[SITE_PORT].arrive(numbered(&format!("2.2.2.{n}"), n));
    }
    world.turn();
    assert_eq!((world.worker.holding(), world.counters.misses_unasked.get()), (5, 3), "held though nobody was asked");
    let mut asked = world.asked();
    for _ in 0..3 {
        world.turn();
        asked.extend(world.asked());
    }
    let mut last: Vec<String> = asked.iter().map(|miss| miss.destination.address.to_string()).collect();
    last.sort_unstable();
    assert_eq!(last, ["2.2.2.1", "2.2.2.2", "2.2.2.3", "2.2.2.4", "2.2.2.5"], "each once");
    world.settle_accounts();
}

/// ITR-44.
#[test]
fn a_scan_asks_at_a_bounded_pace() {
    let mut world = World::with(Options { hold: Hold::Drop, ..Options::default() });
    for n in 0..64 {
        world.ports[SITE_PORT].arrive(numbered(&format!("2.2.2.{n}"), n));
    }
    world.turn();
    assert_eq!(world.asked().len(), 16, "a quarter of a batch");
    assert_eq!(world.drops(), [("miss-not-held", 16), ("miss-queue-full", 48)].into());
    assert_eq!((world.counters.missed.get(), world.counters.misses_unasked.get()), (64, 48));
    // A flow is asked for once a turn, and leaves room for others.
    for number in 0..64 {
        world.ports[SITE_PORT].arrive(numbered("2.2.3.3", number));
    }
    world.turn();
    assert_eq!(world.asked().len(), 1);
    assert_eq!(world.counters.dropped(Reason::MissNotHeld), 16 + 64);
    world.settle_accounts();
}

#[test]
fn what_a_full_ring_refuses_twice_is_dropped() {
    let mut ports: Vec<MemPort> = (0..3).map(|_| MemPort::new()).collect();
    ports[CORE_PORT] = MemPort::with_room(4);
    let mut world = World::on(ports, Options::default());
    way(&mut world, "2.2.0.0/16");
    for number in 1..=10 {
        world.ports[SITE_PORT].arrive(numbered("2.2.2.2", number));
    }
    world.turn();
    assert_eq!((world.worker.unsent(), numbers(&mut world)), (6, vec![1, 2, 3, 4]));
    world.ports[SITE_PORT].arrive(numbered("2.2.2.2", 11));
    world.turn();
    assert_eq!(world.drops(), [("transmit-full", 2)].into(), "9 and 10 had their second turn");
    assert_eq!((world.worker.unsent(), numbers(&mut world)), (1, vec![5, 6, 7, 8]));
    world.turn();
    assert_eq!((world.worker.unsent(), numbers(&mut world)), (0, vec![11]));
    world.settle_accounts();
}

#[test]
fn frames_in_every_place_are_accounted_for_at_the_end() {
    let mut ports: Vec<MemPort> = (0..3).map(|_| MemPort::new()).collect();
    ports[CORE_PORT] = MemPort::with_room(0);
    let mut world = World::on(ports, Options::default());
    way(&mut world, "2.2.0.0/16");
    world.pass(SITE_PORT, numbered("2.2.2.2", 1));
    world.pass(SITE_PORT, numbered("5.5.5.5", 2));
    world.pass(SITE_PORT, numbered("2.2.2.2", 3));
    assert_eq!((world.worker.unsent(), world.worker.holding()), (1, 1));
    world.settle_accounts();
}
