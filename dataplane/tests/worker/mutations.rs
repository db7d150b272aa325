//! A million packets that went wrong on the way: none crashes a worker, none is lost from the accounts, and what goes
//! out is well-formed.

use altitude_dataplane::{
    cache::{Delivery, Forwarding},
    features::Features,
    mapping::{MapVersion, Mark},
    verdict::Reason,
};

use crate::{packets::*, world::*};

/// Marsaglia's xorshift: the same million packets in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let v4 = udp("1.1.1.1", "2.2.2.2", (1000, 2000), 30);
    let v6 = udp("2001:db8:1::1", "2001:db8:2::2", (1000, 2000), 30);
    let back4 = udp("2.2.2.2", "1.1.1.1", (1000, 2000), 30);
    let back6 = udp("2001:db8:2::2", "2001:db8:1::1", (1000, 2000), 30);
    let mut seeds = vec![
        v4.host_frame(),
        v6.host_frame(),
        v4.clone().ttl(1).host_frame(),
        udp("1.1.1.1", "9.9.9.9", (1, 2), 30).host_frame(),
        udp("1.1.1.1", "2.2.2.2", (1, 2), 1472).fragment(0).host_frame(),
        Ip { options: vec![7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 0], ..v4.clone() }.host_frame(),
        Ip { protocol: 0, ..v6 }.ttl(1).host_frame(),
        tagged(v4.host_frame(), &[(0x88a8, 1), (0x8100, 2)]),
    ];
    for (from, to) in [("240.0.254.20", "240.0.254.10"), ("2001:db8:254::2", "2001:db8:254::1")] {
        for inner in [&back4, &back6] {
            seeds.push(lisp(from, to, 0, 0, &inner.octets()).peer_frame());
            seeds.push(lisp(from, to, 0x10, 0, &inner.octets()).peer_frame());
            seeds.push(lisp(from, to, 0x08, 5 << 8, &inner.octets()).peer_frame());
            seeds.push(with_udp_checksum(lisp(from, to, 0xc0, 7, &inner.octets())).peer_frame());
        }
    }
    seeds
}

/// Changes a few octets, and now and then the length; half of the time with checksums put right, so that mutations
/// get past them.
fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut octets = seed.to_vec();
    for _ in 0..=random.below(4) {
        // Headers more often than data.
        let reach = if random.below(4) == 0 { octets.len() } else { octets.len().min(100) };
        let at = random.below(reach);
        octets[at] = match random.below(4) {
            0 => octets[at] ^ 1 << random.below(8),
            1 => [0, 0xff, 0x7f, 0x80][random.below(4)],
            _ => random.next() as u8,
        };
    }
    match random.below(8) {
        0 => octets.truncate(random.below(octets.len() + 1)),
        1 => octets.extend(vec![0xaa; random.below(200)]),
        _ => {}
    }
    if random.below(2) == 0 && octets.len() >= 34 && octets[12..14] == [8, 0] {
        seal(&mut octets[14..]);
        if octets.len() >= 70 && octets[50] >> 4 == 4 {
            seal(&mut octets[50..]);
        }
    }
    octets
}

#[test]
fn a_million_mutated_packets_at_every_port() {
    mutated_packets(1_000_000, Features::default(), 30);
}

/// The same where headers are read too: whatever they claim, only what is due goes up and out.
#[test]
fn mutated_packets_where_header_features_are_on() {
    mutated_packets(200_000, Features { versions: true, status: true, nonces: true }, 34);
}

fn mutated_packets(count: usize, features: Features, reasons: usize) {
    let mut world = World::with(Options { slots: 2048, misses: 64, features, ..Options::default() });
    world.learn_side(1, 2, false, None);
    world.learn(prefix("0.0.0.0/2"), Forwarding::Native(adjacency(CORE_PORT, 1500)));
    world.learn(prefix("3.0.0.0/8"), Forwarding::Drop(Reason::ActDrop));
    world.learn(prefix("1.1.128.0/17"), Forwarding::Local(Delivery::Unresolved));
    world.learn(prefix_in(5, "1.1.0.0/16"), Forwarding::Local(Delivery::Adjacent(adjacency(SITE_PORT, 1500))));
    let mark = |number| Mark { version: MapVersion::new(number), status: Some(1), ..Mark::default() };
    assert!(world.writer.mark(&prefix("1.1.0.0/16"), mark(70)) && world.writer.mark(&prefix("2.2.0.0/16"), mark(5)));
    let seeds = seeds();
    let mut random = Random(0x5eed_0fa1_1c0d_e001);
    let mut sent = [0_u64; 3];
    for turn in 0..count / 64 + 1 {
        for _ in 0..64 {
            let seed = &seeds[random.below(seeds.len())];
            let mutated = mutate(seed, &mut random);
            world.ports[random.below(3)].arrive(mutated);
        }
        world.turn();
        world.wait(random.next() % 20);
        if turn % 8 == 0 {
            world.asked();
            world.told();
        }
        for (port, octets) in world.sent() {
            sent[port] += 1;
            let link = match octets[12..14] {
                [0x81, 0x00] | [0x88, 0xa8] if octets[16..18] == [0x81, 0x00] => 22,
                [0x81, 0x00] | [0x88, 0xa8] if octets[16..18] == [0x88, 0xa8] => 22,
                [0x81, 0x00] | [0x88, 0xa8] => 18,
                _ => 14,
            };
            let packet = sound(&octets[link..]);
            assert_eq!(octets.len(), link + packet.len());
            if port == CORE_PORT
                && !features.any()
                && octets[30..34] == [240, 0, 254, 20]
                && packet[9] == 17
                && packet[22..24] == [16, 245]
            {
                open(&octets);
            }
        }
    }
    while world.turn() > 0 {
        world.sent();
    }
    let counters = world.counters.clone();
    assert!(sent[SITE_PORT] > 2_000 && sent[CORE_PORT] > 2_000, "enough gets through: {sent:?}");
    assert!(counters.icmp_sent.get() > 100 && counters.held_sent.get() + counters.held.get() > 100);
    let received: u64 = (0..3).map(|port| counters.port(port).received.packets.get()).sum();
    assert!(received >= count as u64, "{received} packets");
    let reached = world.drops().len();
    assert!(reached > reasons, "only {reached} reasons: {:?}", world.drops());
    world.settle_accounts();
}
