//! How many frames a turn takes together changes nothing: the same frames leave, in the same order, with the same counts.

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    verdict::Reason,
    worker::SourceCheck,
};

use crate::{packets::*, world::*};

/// Packets of every kind at every port, mixed: sent, split, refused, held, dropped, native; with tags and without.
fn mixed() -> Vec<(usize, Vec<u8>)> {
    let mut frames = Vec::new();
    for n in 0..400_u32 {
        let (host, other) = (n % 200 + 1, n % 7);
        let ports = (n as u16, 2000);
        frames.push(match n % 11 {
            0 => (SITE_PORT, udp("1.1.1.1", &format!("2.2.{other}.{host}"), ports, 1470).fragment(0).host_frame()),
            1 => (SITE_PORT, udp("1.1.1.1", &format!("3.3.{other}.{host}"), ports, 20).host_frame()),
            2 => (SITE_PORT, udp("9.9.9.9", "2.2.2.2", ports, 20).host_frame()),
            3 => (SITE_PORT, udp("1.1.1.1", "2.2.2.2", ports, 20).ttl(1).host_frame()),
            4 => (SITE_PORT, vec![0; 10]),
            5 => (SITE_PORT, udp(&format!("2001:db8:1::{host:x}"), "2001:db8:2::2", ports, 30).host_frame()),
            6 => (CORE_PORT, encapsulated(&format!("2.2.{other}.{host}"), "1.1.1.1", ports)),
            7 => (CORE_PORT, encapsulated("7.7.7.7", "1.1.1.1", ports)),
            8 => (BOTH_PORT, encapsulated("2.2.2.2", "1.1.1.1", ports)),
            // The second one is answered by ICMP at the port itself.
            9 if n % 2 == 0 => (BOTH_PORT, udp("1.1.1.1", "4.4.4.4", ports, 20).host_frame()),
            9 => (BOTH_PORT, udp("1.1.1.2", "4.4.4.4", ports, 20).ttl(1).host_frame()),
            _ => (SITE_PORT, udp("1.1.1.1", &format!("2.2.{other}.{host}"), ports, 20).host_frame()),
        });
    }
    frames
}

fn encapsulated(source: &str, destination: &str, ports: (u16, u16)) -> Vec<u8> {
    lisp("240.0.254.20", "240.0.254.10", 0, 0, &udp(source, destination, ports, 20).octets()).peer_frame()
}

/// What a port sent, in order, and every counter that is not about turns.
type Outcome = ([Vec<Vec<u8>>; 3], Vec<(&'static str, u64)>, usize);

fn outcome(batch: usize, source_check: SourceCheck) -> Outcome {
    let mut world = World::with(Options { batch, source_check, ..Options::default() });
    world.learn_side(1, 2, false, None);
    world.learn(prefix("4.0.0.0/8"), Forwarding::Native(adjacency(CORE_PORT, 1500)));
    world.learn(prefix("3.3.3.0/24"), Forwarding::Drop(Reason::ActDrop));
    world.learn(prefix("1.1.7.7/32"), Forwarding::Local(Delivery::Unresolved));
    for (port, frame) in mixed() {
        world.ports[port].arrive(frame);
    }
    while world.turn() > 0 {}
    let mut sent = [Vec::new(), Vec::new(), Vec::new()];
    world.sent().into_iter().for_each(|(port, frame)| sent[port].push(frame));
    // A port's frames are in order; those of several ports leave by turns, which are shorter in small batches.
    sent.iter_mut().for_each(|frames| frames.sort());
    let about_turns = ["turns", "idle-turns", "misses-unasked", "miss-queue-full"];
    let counts = world.counters.named().filter(|(name, _)| !about_turns.contains(name)).collect();
    let holding = world.worker.holding();
    world.settle_accounts();
    (sent, counts, holding)
}

#[test]
fn the_outcome_does_not_depend_on_the_batch() {
    for level in [SourceCheck::Standard, SourceCheck::Secure] {
        let expected = outcome(1, level);
        assert!(expected.0.iter().all(|sent| !sent.is_empty()) && expected.2 > 0, "something of every kind");
        for batch in [2, 5, 8, 31, 64, 256] {
            assert_eq!(outcome(batch, level), expected, "{level:?}, batch of {batch}");
        }
    }
}

#[test]
fn frames_of_a_port_keep_their_order_whatever_is_between_them() {
    for batch in [1, 3, 64, 256] {
        let mut world = World::with(Options { batch, ..Options::default() });
        world.learn_side(1, 2, false, None);
        for n in 0..300_u16 {
            world.ports[SITE_PORT].arrive(udp("1.1.1.1", "2.2.2.2", (n, 9), 20).host_frame());
            world.ports[SITE_PORT].arrive(udp("1.1.1.1", "3.3.3.3", (n, 9), 20).host_frame());
            world.ports[SITE_PORT].arrive(vec![0; 20]);
        }
        while world.turn() > 0 {}
        let ports: Vec<u16> = world
            .sent()
            .iter()
            .map(|(_, frame)| u16::from_be_bytes([frame[14 + 36 + 20], frame[14 + 36 + 21]]))
            .collect();
        assert_eq!(ports, (0..300).collect::<Vec<_>>(), "batch of {batch}");
        world.settle_accounts();
    }
}
