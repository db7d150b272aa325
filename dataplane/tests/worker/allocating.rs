//! Invariant 1: a turn allocates nothing, whatever arrives. A counting allocator watches.

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    features::Features,
    frame::{Frame, Umem},
    port::Port,
    tap::{Filter, OCTETS},
    verdict::Reason,
};

use crate::{
    packets::{DF, lisp, udp},
    world::{CORE_PORT, Options, SITE_PORT, World, prefix},
};

/// Receives the same packets over and over, swallows what it sends, and allocates nothing itself.
struct Treadmill {
    packets: Vec<Vec<u8>>,
    next: usize,
    still: bool,
}

impl Port for Treadmill {
    fn receive(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>, limit: usize) {
        for _ in 0..if self.still { 0 } else { limit } {
            let Some(mut frame) = umem.allocate() else { return };
            let packet = &self.packets[self.next];
            self.next = (self.next + 1) % self.packets.len();
            assert!(umem.set_len(&mut frame, packet.len()));
            umem.octets_mut(&mut frame).copy_from_slice(packet);
            batch.push(frame);
        }
    }

    fn transmit(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>) -> usize {
        let count = batch.len();
        for frame in batch.drain(..) {
            umem.release(frame);
        }
        count
    }

    fn outstanding(&self) -> usize {
        0
    }
}

fn treadmill(packets: Vec<Vec<u8>>) -> Treadmill {
    Treadmill { still: packets.is_empty(), packets, next: 0 }
}

/// Encapsulated, split, refused with ICMP, held under many EIDs, dropped.
fn site_packets() -> Vec<Vec<u8>> {
    let known = |data| udp("1.1.1.1", "2.2.2.2", (1, 2), data);
    let mut packets = vec![
        known(20).host_frame(),
        known(1470).fragment(0).host_frame(),
        known(1470).fragment(DF).host_frame(),
        known(20).ttl(1).host_frame(),
        udp("2001:db8:1::1", "2001:db8:2::2", (1, 2), 20).host_frame(),
        udp("9.9.9.9", "2.2.2.2", (1, 2), 20).host_frame(),
        vec![0; 10],
    ];
    packets.extend((0..200).map(|n| udp("1.1.1.1", &format!("5.5.{n}.5"), (1, 2), 20).host_frame()));
    packets
}

/// Decapsulated, held for a neighbour, dropped.
fn core_packets() -> Vec<Vec<u8>> {
    let inner = |to: &str| udp("2.2.2.2", to, (1, 2), 20).octets();
    let outer = |inner: &[u8]| lisp("240.0.254.20", "240.0.254.10", 0, 0, inner).peer_frame();
    vec![outer(&inner("1.1.1.1")), outer(&inner("1.1.7.7")), outer(&inner("7.7.7.7")), outer(&[0x50; 40])]
}

#[test]
fn no_turn_allocates() {
    for features in [Features::default(), Features { versions: true, status: true, nonces: true }] {
        no_turn_allocates_with(features);
    }
}

fn no_turn_allocates_with(features: Features) {
    let ports = vec![treadmill(site_packets()), treadmill(core_packets()), treadmill(Vec::new())];
    let mut world = World::on(ports, Options { features, ..Options::default() });
    world.learn_side(1, 2, false, None);
    world.learn(prefix("1.1.7.7/32"), Forwarding::Local(Delivery::Unresolved));

    let everything = Filter { trace: 1, eid: None, rloc: None, ports: u16::MAX, reasons: None, snaplen: 2048 };
    let (mut seen, mut traced) = (Vec::with_capacity(2 * OCTETS), 0);
    let measured = allocation_counter::measure(|| {
        for turn in 0..2000 {
            if turn % 500 == 0 {
                assert!(world.watch.order((turn % 1000 == 0).then_some(everything)));
            }
            world.turn();
            world.wait(7);
            seen.clear();
            while world.watch.take(&mut seen).is_some() {
                traced += 1;
            }
        }
        world.ports.iter_mut().for_each(|port| port.still = true);
        world.wait(5000);
        world.turn();
    });
    assert_eq!(measured.count_total, 0, "a turn allocated");

    // Every kind of thing did happen.
    let counters = world.counters.clone();
    for (what, count) in [
        ("encapsulated", counters.encapsulated.get()),
        ("decapsulated", counters.decapsulated.get()),
        ("split", counters.split.get()),
        ("held", counters.held.get()),
        ("ICMP", counters.icmp_sent.get()),
        ("received at the site", counters.port(SITE_PORT as u8).received.packets.get()),
        ("received at the core", counters.port(CORE_PORT as u8).received.packets.get()),
        ("traced", traced),
        ("displaced", counters.dropped(Reason::HoldDisplaced)),
        ("expired", counters.dropped(Reason::HoldExpired)),
        ("foreign", counters.dropped(Reason::InnerDestinationForeign)),
    ] {
        assert!(count > 0, "{what}: none");
    }
    world.settle_accounts();
}
