//! Source ports: constant for a flow, spread over flows, the same for all fragments of a datagram.

use std::collections::BTreeSet;

use crate::{packets::*, world::*};

fn source_port(world: &mut World, packet: &Ip) -> u16 {
    open(&world.through(SITE_PORT, packet.host_frame(), CORE_PORT)).source_port
}

/// Pearson's statistic over 256 bins; 255 degrees of freedom: mean 255, standard deviation 22.6.
fn chi_square(bins: impl Iterator<Item = usize>, samples: usize) -> f64 {
    let mut counts = [0_u32; 256];
    for bin in bins {
        counts[bin] += 1;
    }
    let expected = samples as f64 / 256.0;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

/// ITR-7.
#[test]
fn ten_thousand_flows_spread_over_ports_and_stay() {
    for v6 in [false, true] {
        let mut world = World::new();
        world.learn_side(1, 2, false, None);
        // Neighbouring hosts and ports, as real flows have them.
        let flows: Vec<Ip> = (0..10_000_u16)
            .map(|n| {
                let (source, destination) = if v6 {
                    (format!("2001:db8:1::{:x}", n % 50), format!("2001:db8:2::{:x}", n / 50 % 20))
                } else {
                    (format!("1.1.0.{}", n % 50), format!("2.2.0.{}", n / 50 % 20))
                };
                let mut packet = udp(&source, &destination, (1024 + n / 1000, 443), 10);
                packet.protocol = [17, 6, 132][usize::from(n % 3)];
                packet
            })
            .collect();
        let ports: Vec<u16> = flows.iter().map(|flow| source_port(&mut world, flow)).collect();
        let low = chi_square(ports.iter().map(|port| usize::from(port & 0xff)), flows.len());
        let high = chi_square(ports.iter().map(|port| usize::from(port >> 6 & 0xff)), flows.len());
        assert!(low < 255.0 + 5.0 * 22.6 && high < 255.0 + 5.0 * 22.6, "chi-square {low} and {high}");
        // 10,000 balls in 16,384 urns leave 7,479 ± 38 urns used.
        let different = ports.iter().collect::<BTreeSet<_>>().len();
        assert!((7479 - 200..7479 + 200).contains(&different), "{different} ports");
        for (flow, port) in flows.iter().zip(&ports).step_by(7) {
            let mut later = flow.clone().tos(0x20).ttl(9);
            later.payload.extend([1; 100]);
            assert_eq!(source_port(&mut world, &later), *port, "a flow keeps its port");
        }
        world.settle_accounts();
    }
}

/// ITR-7.
#[test]
fn fragments_of_a_datagram_share_a_port_whatever_they_hold() {
    let mut world = World::new();
    world.learn_side(1, 2, false, None);
    let whole = udp("1.1.1.1", "2.2.2.2", (5, 6), 64);
    let first = whole.clone().fragment(MF);
    let middle = udp("1.1.1.1", "2.2.2.2", (7777, 8888), 64).fragment(MF | 9);
    let last = udp("1.1.1.1", "2.2.2.2", (99, 98), 64).fragment(18);
    let ports = [&first, &middle, &last].map(|packet| source_port(&mut world, packet));
    assert_eq!(ports, [ports[0]; 3]);
    assert_ne!(source_port(&mut world, &whole), ports[0], "a whole datagram shows its ports");

    let v6_fragment = |offset: u16, fill: u8| {
        let mut packet = udp("2001:db8:1::1", "2001:db8:2::2", (5, 6), 0);
        packet.protocol = 44;
        packet.payload = vec![17, 0, (offset >> 8) as u8, offset as u8, 0, 0, 0, 1];
        packet.payload.extend([fill; 24]);
        packet
    };
    let ports = [v6_fragment(1, 0x11), v6_fragment(9, 0x22), v6_fragment(16, 0x33)]
        .map(|packet| source_port(&mut world, &packet));
    assert_eq!(ports, [ports[0]; 3]);
}

#[test]
fn another_seed_gives_other_ports() {
    use altitude_dataplane::classify::{FlowKey, IpHeader};
    let packet = udp("1.1.1.1", "2.2.2.2", (5, 6), 1).octets();
    let header = IpHeader::read(&packet).unwrap();
    // The bits that decide the source port.
    let ports: BTreeSet<u32> = (0..100).map(|seed| FlowKey::new(seed).flow(&packet, &header) & 0x3fff).collect();
    assert!(ports.len() > 90, "{} ports from 100 seeds", ports.len());
    let slots: BTreeSet<u32> = (0..100).map(|seed| FlowKey::new(seed).flow(&packet, &header) >> 26).collect();
    assert!(slots.len() > 40, "{} of 64 slots from 100 seeds", slots.len());
}
