//! What somebody who looks on is shown, and that packets do not notice.

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    port::MemPort,
    tap::{Came, Fate, Filter, OCTETS, RECORDS, Reasons, Record, Side},
    verdict::{Reason, Wanted},
    worker::Hold,
};

use crate::{packets::*, world::*};

const ALL: Filter = Filter { trace: 7, eid: None, rloc: None, ports: u16::MAX, reasons: None, snaplen: 2048 };

fn watched(options: Options, filter: Filter) -> World {
    let mut world = World::with(options);
    world.learn_side(1, 2, false, None);
    assert!(world.watch.order(Some(filter)));
    world
}

/// The records so far, each with its octets.
fn seen(world: &mut World) -> Vec<(Record, Vec<u8>)> {
    std::iter::from_fn(|| {
        let mut octets = Vec::new();
        world.watch.take(&mut octets).map(|record| (record, octets))
    })
    .collect()
}

/// Port, side, how it came and fate of each record.
fn fates(world: &mut World) -> Vec<(usize, Side, Came, Fate)> {
    let of = |(record, _): &(Record, Vec<u8>)| (usize::from(record.port), record.side, record.came, record.fate);
    seen(world).iter().map(of).collect()
}

fn to_site(destination: &str) -> Vec<u8> {
    let inner = udp("2.2.2.2", destination, (1, 2), 20).octets();
    lisp("240.0.254.20", "240.0.254.10", 0, 0, &inner).peer_frame()
}

#[test]
fn each_packet_is_shown_with_what_became_of_it() {
    use Came::Arrived;
    use Side::{In, Out};
    let mut world = watched(Options::default(), ALL);
    world.learn(prefix("1.1.7.7/32"), Forwarding::Local(Delivery::Unresolved));
    let host = |to: &str| udp("1.1.1.1", to, (1, 2), 20);
    let eid =
        |address: &str| altitude_dataplane::mapping::Eid { instance: instance(0), address: address.parse().unwrap() };
    let there = Fate::Encapsulated(rloc(2, false));
    let cases = [
        (
            SITE_PORT,
            host("2.2.2.2").host_frame(),
            vec![(SITE_PORT, In, Arrived, there), (CORE_PORT, Out, Arrived, there)],
        ),
        (
            CORE_PORT,
            to_site("1.1.1.1"),
            vec![(CORE_PORT, In, Arrived, Fate::Decapsulated), (SITE_PORT, Out, Arrived, Fate::Decapsulated)],
        ),
        // A port of both sides tells them apart by the packet.
        (
            BOTH_PORT,
            host("2.2.2.2").host_frame(),
            vec![(BOTH_PORT, In, Arrived, there), (CORE_PORT, Out, Arrived, there)],
        ),
        (
            SITE_PORT,
            host("2.2.2.2").ttl(1).host_frame(),
            vec![
                (SITE_PORT, In, Arrived, Fate::Dropped(Reason::TtlExpired)),
                (SITE_PORT, Out, Arrived, Fate::IcmpError),
            ],
        ),
        (
            SITE_PORT,
            host("9.9.9.9").host_frame(),
            vec![(SITE_PORT, In, Arrived, Fate::Held(Wanted::Mapping, eid("9.9.9.9")))],
        ),
        (CORE_PORT, to_site("1.1.7.7"), vec![(CORE_PORT, In, Arrived, Fate::Held(Wanted::Neighbour, eid("1.1.7.7")))]),
        (SITE_PORT, vec![0; 10], vec![(SITE_PORT, In, Arrived, Fate::Dropped(Reason::SiteTruncated))]),
        (CORE_PORT, to_site("7.7.7.7"), vec![(CORE_PORT, In, Arrived, Fate::Dropped(Reason::InnerDestinationForeign))]),
        (
            SITE_PORT,
            udp("1.1.1.1", "2.2.2.2", (1, 2), 1470).fragment(0).host_frame(),
            vec![
                (SITE_PORT, In, Arrived, Fate::Split),
                (SITE_PORT, In, Came::Part, there),
                (CORE_PORT, Out, Came::Part, there),
                (SITE_PORT, In, Came::Part, there),
                (CORE_PORT, Out, Came::Part, there),
            ],
        ),
    ];
    for (port, frame, expected) in cases {
        let sent = world.pass(port, frame.clone());
        let records = seen(&mut world);
        let found: Vec<_> = records.iter().map(|(it, _)| (usize::from(it.port), it.side, it.came, it.fate)).collect();
        assert_eq!(found, expected);
        if expected[0].3 != Fate::Split {
            assert_eq!(records[0].1, frame, "as it came, whatever was made of it");
            assert_eq!(
                records[1..].iter().map(|(_, octets)| octets).collect::<Vec<_>>(),
                sent.iter().map(|(_, octets)| octets).collect::<Vec<_>>()
            );
        }
    }
    world.settle_accounts();
}

#[test]
fn what_is_forwarded_without_a_tunnel_or_into_the_next_one_is_told_apart() {
    let mut world = watched(Options { rtr: true, ..Options::default() }, ALL);
    world.learn(prefix("8.0.0.0/8"), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
    world.learn_tunnel(prefix("3.3.0.0/16"), rloc(1, false), rloc(3, false), 0, &adjacency(CORE_PORT, 1500));
    world.pass(SITE_PORT, udp("1.1.1.1", "8.8.8.8", (1, 2), 20).host_frame());
    world.pass(CORE_PORT, to_site("3.3.3.3"));
    let fates: Vec<_> = fates(&mut world).into_iter().map(|(port, _, _, fate)| (port, fate)).collect();
    let onward = Fate::Reencapsulated(rloc(3, false));
    let expected = [(SITE_PORT, Fate::Native), (NATIVE_PORT, Fate::Native), (CORE_PORT, onward), (CORE_PORT, onward)];
    assert_eq!(fates, expected);
}

/// Of a packet that is sent only the head is kept: with the longest headers there are, all that is changed lies in it.
#[test]
fn a_packet_is_shown_as_it_came_however_long_it_and_its_headers_are() {
    let mut world = watched(Options { rtr: true, ..Options::default() }, ALL);
    world.learn_tunnel(prefix("3.3.0.0/16"), rloc(1, true), rloc(3, true), 0, &adjacency(CORE_PORT, 1600));
    let with_options = |mut packet: Ip| {
        packet.options = vec![1; 40];
        packet
    };
    let tags = [(0x88a8, 7), (0x8100, 8)];
    for data in [0, 19, 20, 100, 1300] {
        let inner = |to: &str| with_options(udp("2.2.2.2", to, (1, 2), data)).tos(0xb9).octets();
        let outer = |to: &str| with_options(lisp("240.0.254.20", "240.0.254.10", 0, 0, &inner(to))).tos(0xbb);
        let wide = udp("2001:db8:2::2", "2001:db8:1::1", (1, 2), data).octets();
        let frames = [
            (SITE_PORT, with_options(udp("1.1.1.1", "2.2.2.2", (1, 2), data)).host_frame()),
            (SITE_PORT, udp("2001:db8:1::1", "2001:db8:2::2", (1, 2), data).host_frame()),
            (CORE_PORT, outer("1.1.1.1").peer_frame()),
            (CORE_PORT, outer("3.3.3.3").peer_frame()),
            (CORE_PORT, lisp("2001:db8:254::2", "2001:db8:254::1", 0, 0, &wide).peer_frame()),
        ];
        for (port, frame) in frames {
            for frame in [tagged(frame.clone(), &tags), frame] {
                let sent = world.pass(port, frame.clone());
                let records = seen(&mut world);
                assert_eq!(records.len(), 2, "{data} octets to port {port}: {:?}", world.drops());
                assert_eq!((&records[0].1, &records[1].1), (&frame, &sent[0].1), "{data} octets to port {port}");
            }
        }
    }
    world.settle_accounts();
}

/// Whole batches, of which each place once is the one that is wanted.
#[test]
fn of_a_batch_exactly_what_is_wanted_is_shown() {
    let few = Filter { eid: Some(prefix("2.2.7.0/24")), ..ALL };
    let losses = Filter { reasons: Some(Reasons::ALL), ..ALL };
    for (filter, lost) in [(few, false), (losses, true), (few, true)] {
        let mut world = watched(Options::default(), filter);
        for wanted in 0..64 {
            let frames: Vec<_> = (0..64)
                .map(|number| match number == wanted {
                    // The one that is dropped, where one is, keeps the batch from leaving by one port.
                    true => udp("1.1.1.1", "2.2.7.7", (1, 2), 300).ttl(if lost { 0 } else { 64 }).host_frame(),
                    false => udp("1.1.1.1", "2.2.2.2", (1, 2), number).host_frame(),
                })
                .collect();
            frames.iter().for_each(|frame| world.ports[SITE_PORT].arrive(frame.clone()));
            world.turn();
            let sent = world.sent();
            let records = seen(&mut world);
            let shown: Vec<_> = records.iter().filter(|(record, _)| record.side == Side::In).collect();
            assert_eq!(shown.len(), 1, "{filter:?}");
            assert_eq!(shown[0].1, frames[wanted]);
            let fate = if lost { Fate::Dropped(Reason::TtlExpired) } else { Fate::Encapsulated(rloc(2, false)) };
            assert_eq!(shown[0].0.fate, fate);
            if !lost {
                assert_eq!((records.len(), &records[1].1), (2, &sent[wanted].1));
            }
            // So that ICMP errors are not limited.
            world.wait(100);
        }
        world.settle_accounts();
    }
}

#[test]
fn where_a_packet_goes_is_asked_of_the_table() {
    let to = |number: u8| Filter { rloc: Some(rloc(number, false)), ..ALL };
    let by = |port: usize| Filter { ports: 1 << port, ..ALL };
    let host = |to: &str| udp("1.1.1.1", to, (1, 2), 20).host_frame();
    let cases = [
        (to(2), SITE_PORT, host("2.2.2.2"), true),
        (to(2), SITE_PORT, host("3.3.3.3"), false),
        (to(3), SITE_PORT, host("3.3.3.3"), true),
        (to(3), CORE_PORT, to_site("3.3.3.3"), true),
        (to(2), CORE_PORT, to_site("3.3.3.3"), true),
        (to(4), CORE_PORT, to_site("3.3.3.3"), false),
        (to(3), SITE_PORT, host("8.8.8.8"), false),
        (by(NATIVE_PORT), SITE_PORT, host("8.8.8.8"), true),
        (by(NATIVE_PORT), SITE_PORT, host("2.2.2.2"), false),
        (by(CORE_PORT), SITE_PORT, host("2.2.2.2"), true),
        (by(SITE_PORT), CORE_PORT, to_site("1.1.1.1"), true),
        (by(SITE_PORT), CORE_PORT, to_site("3.3.3.3"), false),
        (by(NATIVE_PORT), SITE_PORT, host("9.9.9.9"), false),
    ];
    for (number, (filter, port, frame, shown)) in cases.into_iter().enumerate() {
        let mut world = watched(Options { rtr: true, ..Options::default() }, filter);
        world.learn(prefix("8.0.0.0/8"), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
        world.learn_tunnel(prefix("3.3.0.0/16"), rloc(1, false), rloc(3, false), 0, &adjacency(CORE_PORT, 1500));
        world.pass(port, frame);
        assert_eq!(seen(&mut world).len(), if shown { 2 } else { 0 }, "{number}");
    }
}

#[test]
fn frames_that_waited_are_shown_again_when_their_wait_ends() {
    let mut world = watched(Options::default(), ALL);
    for number in 0..5 {
        world.pass(SITE_PORT, udp("1.1.1.1", "9.9.9.9", (1, 2), number).host_frame());
    }
    world.pass(SITE_PORT, udp("1.1.1.1", "5.5.5.5", (1, 2), 1).host_frame());
    let displaced = fates(&mut world)[4];
    assert_eq!(displaced, (SITE_PORT, Side::In, Came::Waited, Fate::Dropped(Reason::HoldDisplaced)));
    world.learn_tunnel(prefix("9.9.0.0/16"), rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, 1500));
    world.turn();
    let there = Fate::Encapsulated(rloc(2, false));
    let (came, went) = ((SITE_PORT, Side::In, Came::Waited, there), (CORE_PORT, Side::Out, Came::Waited, there));
    assert_eq!(fates(&mut world), [came, went].repeat(4));
    world.wait(3000);
    world.turn();
    assert_eq!(fates(&mut world), [(SITE_PORT, Side::In, Came::Waited, Fate::Dropped(Reason::HoldExpired))]);
}

#[test]
fn what_a_ring_refuses_is_shown_on_its_way_out() {
    let mut world = watched(Options::default(), Filter { reasons: Some(Reasons::ALL), ..ALL });
    world.ports[CORE_PORT] = MemPort::with_room(0);
    world.pass(SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 20).host_frame());
    assert_eq!(fates(&mut world), [], "it has one more turn");
    world.turn();
    let records = seen(&mut world);
    assert_eq!(records.len(), 1);
    let (record, octets) = &records[0];
    assert_eq!((record.port, record.side), (CORE_PORT as u8, Side::Out));
    assert_eq!(record.fate, Fate::Dropped(Reason::TransmitFull));
    assert_eq!(open(octets).inner.len(), 48, "with its outer header");
}

#[test]
fn a_filter_shows_what_meets_all_that_it_names() {
    let none = Reasons::default();
    let filters = [
        // filter, numbers of the packets shown
        (ALL, vec![0, 1, 2, 3, 4]),
        (Filter { reasons: Some(Reasons::ALL), ..ALL }, vec![2, 4]),
        (Filter { reasons: Some(none.with(Reason::TtlExpired)), ..ALL }, vec![2]),
        (Filter { eid: Some(prefix("2.2.2.0/24")), ..ALL }, vec![0, 2, 3]),
        (Filter { eid: Some(prefix("1.1.1.9/32")), ..ALL }, vec![3, 4]),
        (Filter { eid: Some(prefix_in(5, "2.2.2.0/24")), ..ALL }, vec![]),
        (Filter { rloc: Some(rloc(2, false)), ..ALL }, vec![0, 1, 3, 4]),
        (Filter { rloc: Some("240.0.254.77".parse().unwrap()), ..ALL }, vec![]),
        (Filter { ports: 1 << SITE_PORT, ..ALL }, vec![0, 1, 2, 3]),
        (Filter { ports: 1 << CORE_PORT, ..ALL }, vec![0, 1, 3, 4]),
        (Filter { ports: 1 << NATIVE_PORT, ..ALL }, vec![]),
        (Filter { ports: 1 << CORE_PORT, reasons: Some(Reasons::ALL), ..ALL }, vec![4]),
    ];
    let inner = udp("2.2.2.2", "1.1.1.9", (1, 2), 20).octets();
    let spoofed = udp("1.1.2.2", "1.1.1.9", (1, 2), 20).octets();
    let packets = [
        (SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 20).host_frame()),
        (SITE_PORT, udp("1.1.1.1", "2.2.3.3", (1, 2), 20).host_frame()),
        (SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 20).ttl(1).host_frame()),
        (CORE_PORT, lisp("240.0.254.20", "240.0.254.10", 0, 0, &inner).peer_frame()),
        (CORE_PORT, lisp("240.0.254.20", "240.0.254.10", 0, 0, &spoofed).peer_frame()),
    ];
    for (filter, expected) in filters {
        let mut world = watched(Options::default(), filter);
        let mut shown = Vec::new();
        for (number, (port, frame)) in packets.iter().enumerate() {
            world.pass(*port, frame.clone());
            if seen(&mut world).iter().any(|(record, _)| record.side == Side::In) {
                shown.push(number);
            }
        }
        assert_eq!(shown, expected, "{filter:?}");
    }
}

#[test]
fn what_finds_no_room_is_counted_and_every_packet_goes_its_way() {
    let mut world = watched(Options { hold: Hold::Drop, ..Options::default() }, Filter { snaplen: 40, ..ALL });
    let turns = RECORDS / 64;
    for _ in 0..turns {
        for _ in 0..64 {
            world.ports[SITE_PORT].arrive(udp("1.1.1.1", "2.2.2.2", (1, 2), 100).host_frame());
        }
        world.turn();
        assert_eq!(world.sent().len(), 64);
    }
    let (records, lost) = (seen(&mut world), world.counters.untraced.get());
    assert_eq!(records.len() as u64 + lost, 2 * RECORDS as u64, "each packet twice: as it came, as it was sent");
    assert_eq!(records.len(), RECORDS);
    assert!(records.iter().all(|(record, octets)| octets.len() == 40 && record.captured == 40 && record.trace == 7));
    assert_eq!((records[0].0.length, records[1].0.length), (142, 178));
    // Whatever has room again is shown again, each packet at both ends.
    for _ in 0..2 {
        world.pass(SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 20).host_frame());
        assert_eq!((seen(&mut world).len(), world.counters.untraced.get()), (2, lost));
    }
    assert!(world.watch.order(None));
    world.pass(SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 20).host_frame());
    assert_eq!((seen(&mut world).len(), world.counters.untraced.get()), (0, lost), "nobody looks on any more");
    world.settle_accounts();
}

/// One packet that finds no room costs no other its place once there is some.
#[test]
fn what_is_too_long_for_the_room_left_is_counted_like_all_that_come_before_there_is_more() {
    let mut world = watched(Options { hold: Hold::Drop, ..Options::default() }, ALL);
    let long = udp("1.1.1.1", "2.2.2.2", (1, 2), 1400).host_frame();
    let both = 2 * long.len() + 36;
    let fit = OCTETS / both;
    for _ in 0..fit + 3 {
        world.pass(SITE_PORT, long.clone());
    }
    // As it came may have found room still, and as it went none.
    let lost = world.counters.untraced.get();
    assert!((5..=6).contains(&lost), "{lost}");
    world.pass(SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 0).host_frame());
    assert_eq!(world.counters.untraced.get(), lost + 2, "nothing overtakes what found no room");
    assert!(world.watch.take(&mut Vec::new()).is_some());
    world.pass(SITE_PORT, udp("1.1.1.1", "2.2.2.2", (1, 2), 0).host_frame());
    assert_eq!(world.counters.untraced.get(), lost + 2, "somebody made room");
}

#[test]
fn packets_do_not_notice_who_looks_on() {
    let frames = || {
        (0..400_u32).map(|number| {
            let data = (number * 37 % 1472) as usize;
            let from = if number % 11 == 0 { "9.9.9.9" } else { "1.1.1.1" };
            let to = ["2.2.2.2", "2.2.9.1", "7.7.7.7", "1.1.1.5", "127.0.0.1"][number as usize % 5];
            let packet = udp(from, to, (number as u16, 2), data).ttl((number % 7) as u8 * 9);
            let packet = packet.fragment(if number % 3 == 0 { 0 } else { DF });
            match number % 4 {
                0 => (CORE_PORT, lisp("240.0.254.20", "240.0.254.10", 0, 0, &packet.octets()).peer_frame()),
                1 => (BOTH_PORT, packet.host_frame()),
                _ => (SITE_PORT, packet.host_frame()),
            }
        })
    };
    let run = |filter: Option<Filter>| {
        let mut world = World::new();
        world.learn_side(1, 2, false, None);
        assert!(world.watch.order(filter));
        for (port, frame) in frames() {
            world.ports[port].arrive(frame);
        }
        let mut sent = Vec::new();
        for _ in 0..20 {
            world.turn();
            world.wait(200);
            sent.extend(world.sent());
            seen(&mut world);
        }
        let counts: Vec<_> = world.counters.named().collect();
        (sent, counts)
    };
    let alone = run(None);
    assert!(alone.0.len() > 100, "{} packets sent", alone.0.len());
    let few = Filter { eid: Some(prefix("2.2.9.0/24")), ports: 1 << CORE_PORT, ..ALL };
    for filter in [ALL, few, Filter { reasons: Some(Reasons::ALL), ..ALL }] {
        assert_eq!(run(Some(filter)), alone);
    }
}
