//! Copies of packets without a mapping: made while somebody wants them, and within bounds.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use altitude_dataplane::{mapping::Eid, samples::Samples};

use crate::{packets::*, world::*};

fn to(last: u8) -> Vec<u8> {
    udp("1.1.1.1", &format!("2.2.2.{last}"), (1, 2), 9).host_frame()
}

#[test]
fn packets_are_copied_while_wanted_once_for_a_destination_and_counted_when_lost() {
    let mut world = World::new();
    let wanted = Arc::new(AtomicBool::new(false));
    let (samples, mut taken) = Samples::new(3, wanted.clone());
    world.worker = world.worker.with_samples(samples);
    world.pass(SITE_PORT, to(1));
    assert!(taken.pop().is_err(), "nobody wants any");
    wanted.store(true, Ordering::Relaxed);
    for last in [2, 2, 3] {
        world.ports[SITE_PORT].arrive(to(last));
    }
    world.turn();
    for last in [2, 3] {
        let sample = taken.pop().unwrap();
        assert_eq!(sample.destination, Eid { instance: instance(0), address: [2, 2, 2, last].into() });
        assert_eq!(sample.octets(), &to(last)[14..14 + 37], "the IP packet as it came, without what pads its frame");
    }
    assert!(taken.pop().is_err());
    // What has a mapping is nobody's business.
    world.learn_side(1, 9, false, None);
    world.pass(SITE_PORT, udp("1.1.1.1", "9.9.9.9", (1, 2), 9).host_frame());
    assert!(taken.pop().is_err());
    // A scan: four in a turn at most, and three fit the queue.
    for last in 10..30 {
        world.ports[SITE_PORT].arrive(to(last));
    }
    world.turn();
    assert_eq!(std::iter::from_fn(|| taken.pop().ok()).count(), 3);
    assert_eq!(world.counters.samples_lost.get(), 1);
    wanted.store(false, Ordering::Relaxed);
    world.pass(SITE_PORT, to(40));
    assert!(taken.pop().is_err());
    world.settle_accounts();
}

#[test]
fn a_packet_whose_miss_nobody_is_told_of_takes_no_others_place() {
    let mut world = World::new();
    let (samples, mut taken) = Samples::new(64, Arc::new(AtomicBool::new(true)));
    world.worker = world.worker.with_samples(samples);
    // One destination without an answer, packet after packet.
    for _ in 0..5 {
        world.pass(SITE_PORT, to(2));
    }
    world.pass(SITE_PORT, to(3));
    let taken: Vec<_> = std::iter::from_fn(|| taken.pop().ok()).map(|sample| sample.destination).collect();
    assert_eq!(taken, [2, 3].map(|last| Eid { instance: instance(0), address: [2, 2, 2, last].into() }));
    assert_eq!(world.asked().len(), 2);
    world.settle_accounts();
}
