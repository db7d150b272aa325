use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use altitude_dataplane::wire::{
    ethernet::EthernetHeader, ipv4::Ipv4Header, ipv6::Ipv6Header, lisp::DataHeader, udp::UdpHeader,
};

use super::{
    super::{
        live::Live,
        pace::{Due, Pacer},
        recipe::MAGIC,
        traffic::Traffic,
    },
    *,
};
use crate::bench::{Families, Size};

const STAMP: u64 = 0x0123_4567_89ab_cdef;

/// One frame, taken apart.
#[derive(Debug)]
struct Seen {
    outer: Option<(IpAddr, IpAddr, UdpHeader, DataHeader)>,
    ends: (IpAddr, IpAddr),
    udp: UdpHeader,
    payload: Vec<u8>,
}

/// Takes an IP packet with UDP apart; its own checksum is verified.
fn ip_udp(octets: &[u8]) -> ((IpAddr, IpAddr), UdpHeader, &[u8]) {
    let (ends, rest): ((IpAddr, IpAddr), _) = if octets[0] >> 4 == 4 {
        let (header, rest) = Ipv4Header::split(octets).expect("a right IPv4 header");
        assert_eq!((header.ttl, header.protocol), (64, 17));
        ((header.source.into(), header.destination.into()), rest)
    } else {
        let (header, rest) = Ipv6Header::split(octets).expect("a right IPv6 header");
        assert_eq!((header.hop_limit, header.next_header), (64, 17));
        ((header.source.into(), header.destination.into()), rest)
    };
    let (udp, data) = UdpHeader::split(rest).expect("a right UDP header");
    (ends, udp, data)
}

fn take_apart(frame: &[u8], lisp: bool) -> Seen {
    let (_, packet) = EthernetHeader::split(frame).unwrap();
    let (mut inner, mut outer) = (packet, None);
    if lisp {
        let ((source, destination), udp, data) = ip_udp(packet);
        assert_eq!((udp.destination, udp.checksum), (4341, 0));
        let (header, rest) = DataHeader::split(data).unwrap();
        (inner, outer) = (rest, Some((source, destination, udp, header)));
    }
    let (ends, udp, payload) = ip_udp(inner);
    assert!(udp.verifies(ends.0, ends.1, payload), "the inner checksum is right");
    Seen { outer, ends, udp, payload: payload.to_vec() }
}

fn frames(stream: &Stream, count: usize) -> Vec<Vec<u8>> {
    // What was in the room before must not be seen.
    let (mut progress, mut room) = (Progress::default(), vec![0xee; 2048]);
    let mut next = || {
        room.fill(0xee);
        let length = stream.write(&mut progress, &mut room, || STAMP);
        room[..length].to_vec()
    };
    (0..count).map(|_| next()).collect()
}

fn all() -> impl Iterator<Item = Traffic> {
    let sizes = [Size::Octets(64), Size::Octets(256), Size::Octets(1400), Size::Imix];
    let directions = [Direction::Encap, Direction::Decap];
    let cases = directions.into_iter().flat_map(|direction| Families::ALL.map(|families| (direction, families)));
    cases.flat_map(move |(direction, families)| sizes.map(|size| Traffic::new(direction, families, size)))
}

#[test]
fn every_frame_is_a_right_packet_of_its_flow() {
    for traffic in all() {
        let traffic = Traffic { flows: 300, prefixes: 100, probes: Some(50), ..traffic };
        let recipe = traffic.recipe();
        let lisp = traffic.direction == Direction::Decap;
        let mut flows = HashMap::new();
        for (number, frame) in frames(&Stream::new(&recipe).unwrap(), 600).iter().enumerate() {
            let seen = take_apart(frame, lisp);
            let far = if lisp { seen.ends.0 } else { seen.ends.1 };
            assert_eq!(if lisp { seen.ends.1 } else { seen.ends.0 }, recipe.near);
            assert!(recipe.far.iter().any(|prefix| prefix.contains(far)), "{far}");
            let mut port = 0;
            if let Some((source, destination, udp, header)) = seen.outer {
                assert_eq!((source, destination), recipe.rlocs);
                assert_eq!(header, DataHeader::PLAIN);
                assert!(udp.source >= 0xc000);
                port = udp.source;
            }
            if number % 50 == 49 {
                assert_eq!((&seen.payload[..8], &seen.payload[8..16]), (&MAGIC[..], &STAMP.to_be_bytes()[..]));
            } else {
                assert!(seen.payload.iter().all(|&octet| octet == 0));
            }
            let known = flows.entry((far, seen.udp.source, seen.udp.destination)).or_insert((port, 0));
            assert_eq!(known.0, port, "a flow keeps its outer port");
            known.1 += 1;
        }
        assert_eq!(flows.len(), 300);
        assert!(flows.values().all(|(_, packets)| *packets == 2), "in turns");
        if lisp {
            let ports: HashSet<u16> = flows.values().map(|(port, _)| *port).collect();
            assert!(ports.len() > 290, "outer ports differ: {}", ports.len());
        }
    }
}

#[test]
fn lengths_come_as_the_mix_says() {
    for traffic in all() {
        let outer = match (traffic.direction, traffic.families.outer4) {
            (Direction::Encap, _) => 0,
            (Direction::Decap, v4) => 16 + if v4 { 20 } else { 40 },
        };
        // IPv6 and UDP do not fit 64 octets with the frame check sequence.
        let least = if traffic.families.inner4 { 60 } else { 62 };
        let wanted: Vec<usize> = match traffic.size {
            Size::Octets(octets) => vec![usize::from(octets) - 4; 12],
            Size::Imix => [7, 4, 1].into_iter().zip([60, 566, 1514]).flat_map(|(n, size)| vec![size; n]).collect(),
        };
        let wanted: Vec<usize> = wanted.into_iter().map(|length| length.max(least) + outer).collect();
        let stream = Stream::new(&traffic.recipe()).unwrap();
        let mut lengths: Vec<usize> = frames(&stream, 12).iter().map(Vec::len).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, wanted, "{traffic:?}");
    }
}

#[test]
fn the_hit_ratio_is_that_of_the_packets() {
    for (hit_percent, least, most) in [(0, 0, 0), (50, 4800, 5200), (99, 9850, 9950), (100, 10_000, 10_000)] {
        for distribution in [Distribution::Uniform, Distribution::Zipf] {
            let traffic = Traffic {
                hit_percent,
                distribution,
                ..Traffic::new(Direction::Encap, Families::ALL[0], Size::Octets(64))
            };
            let recipe = traffic.recipe();
            let is_in = |prefixes: &[altitude_dataplane::mapping::Prefix], address| {
                prefixes.iter().any(|prefix| prefix.contains(address))
            };
            let seen = frames(&Stream::new(&recipe).unwrap(), 10_000);
            let far: Vec<IpAddr> = seen.iter().map(|frame| take_apart(frame, false).ends.1).collect();
            let hits = far.iter().filter(|address| is_in(&recipe.far, **address)).count();
            assert!((least..=most).contains(&hits), "{hits} of 10000, not {hit_percent} %");
            let misses = far.iter().filter(|address| is_in(&recipe.strangers, **address)).count();
            assert_eq!(hits + misses, 10_000);
        }
    }
}

#[test]
fn a_million_flows_are_a_million() {
    let flows = FLOWS_MAX;
    let traffic = Traffic { flows, prefixes: flows, ..Traffic::new(Direction::Encap, Families::ALL[0], Size::Imix) };
    let distinct = |traffic: Traffic| {
        let stream = Stream::new(&traffic.recipe()).unwrap();
        stream.records.iter().map(|record| (record.address, record.ports)).collect::<HashSet<_>>().len()
    };
    assert_eq!(distinct(traffic), flows as usize);
    // To one prefix, the ports tell them apart; to a single host, too.
    assert_eq!(distinct(Traffic { prefixes: 1, ..traffic }), flows as usize);
    let mut recipe = traffic.recipe();
    recipe.far = vec![altitude_dataplane::mapping::Prefix::host(IpAddr::from([2, 2, 2, 2]))];
    let stream = Stream::new(&recipe).unwrap();
    assert_eq!(stream.records.iter().map(|record| record.ports).collect::<HashSet<_>>().len(), flows as usize);
}

#[test]
fn a_mapped_prefix_is_no_strangers_and_none_comes_twice() {
    for v4 in [true, false] {
        let numbers = (0..FLOWS_MAX).step_by(255).chain([FLOWS_MAX - 1]);
        let all: Vec<_> = numbers.flat_map(|index| [Traffic::far(v4, index), Traffic::stranger(v4, index)]).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        let rlocs = [true, false].map(|ours| crate::bench::packets::rloc(v4, ours));
        let ours = [crate::bench::packets::local(v4, 0), rlocs[0], rlocs[1]];
        assert!(!all.iter().any(|prefix| ours.iter().any(|address| prefix.contains(*address))));
    }
}

#[test]
fn addresses_of_another_family_are_refused() {
    let good = Traffic::new(Direction::Decap, Families::ALL[0], Size::Imix).recipe();
    assert!(Stream::new(&good).is_ok());
    let v6: IpAddr = "2001:db8::1".parse().unwrap();
    for (recipe, why) in [
        (Recipe { near: v6, ..good.clone() }, "the far prefix 2.2.0.0 is not an IPv6 address"),
        (Recipe { rlocs: (good.rlocs.0, v6), ..good.clone() }, "the outer destination 2001:db8::1 is not an IPv4"),
        (Recipe { far: Vec::new(), ..good.clone() }, "need a prefix"),
        (Recipe { strangers: Vec::new(), hit_percent: 99, ..good.clone() }, "need a prefix"),
        (Recipe { flows: 0, ..good }, "0 flows: from 1 to 1048576"),
    ] {
        let error = Stream::new(&recipe).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

/// The kernel's program and this crate make the same frames, one after another.
#[test]
fn the_kernel_makes_the_same_frames() {
    if !nix::unistd::geteuid().is_root() {
        return println!("SKIP: needs root (BPF)");
    }
    let distributions = [Distribution::Uniform, Distribution::Zipf];
    for (traffic, distribution) in all().zip(distributions.into_iter().cycle()) {
        let traffic = Traffic { flows: 50, prefixes: 7, hit_percent: 70, probes: Some(10), distribution, ..traffic };
        let stream = Stream::new(&traffic.recipe()).unwrap();
        let live = match Live::stream(None, &stream) {
            Ok(live) => live,
            Err(why) => return println!("SKIP: {why}"),
        };
        let ours = frames(&stream, 200);
        live.begin(&Pacer::new(None), Some(STAMP)).unwrap();
        for (number, ours) in ours.iter().enumerate() {
            if number == 120 {
                // The next run goes on where the last one ended.
                assert_eq!(live.begin(&Pacer::new(None).until(Some(80)), Some(STAMP)).unwrap().frames, 120);
            }
            let theirs = live.make().unwrap().expect("a flood is always due");
            assert_eq!(&theirs, ours, "frame {number} of {traffic:?}");
        }
        assert_eq!(live.make().unwrap(), None, "80 frames were asked for");
        let progress = live.progress().unwrap();
        assert_eq!((progress.frames, progress.hits + progress.misses, progress.probes), (200, 200, 8));
        assert_eq!(progress.octets, ours[120..].iter().map(|frame| frame.len() as u64).sum::<u64>());
    }
}

/// The kernel's program and the pacer let the same frames be due, on a clock that we set.
#[test]
fn the_kernel_keeps_the_same_pace() {
    if !nix::unistd::geteuid().is_root() {
        return println!("SKIP: needs root (BPF)");
    }
    let stream = Stream::new(&Traffic::new(Direction::Encap, Families::ALL[0], Size::Imix).recipe()).unwrap();
    for rate in [1000.0, 250_000.0, 3_333_333.3] {
        let live = match Live::stream(None, &stream) {
            Ok(live) => live,
            Err(why) => return println!("SKIP: {why}"),
        };
        let mut pacer = Pacer::new(Some(rate)).until(Some(3000));
        let mut ours = 0;
        let start = STAMP;
        // Up to 100 µs apart, and once so late that frames are forgone.
        for (look, late) in (0..2000_u64).map(|look| (look, if look > 700 { 5_000_000 } else { 0 })) {
            let elapsed = look * 37_717 % 100_000 + look * 100_000 + late;
            live.set_pace(&pacer, &Progress::default(), Some(start + elapsed)).unwrap();
            while let Due::Frames(count) = pacer.due(Duration::from_nanos(elapsed)) {
                ours += u64::from(count);
            }
            while live.make().unwrap().is_some() {}
            let Progress { frames, forgone, .. } = live.progress().unwrap();
            // A frame may be due a rounding error later, or count as forgone or not.
            assert!(frames.abs_diff(ours) <= 1, "{frames} by the kernel, {ours} by the pacer at {elapsed} ns");
            assert!(forgone.abs_diff(pacer.forgone()) <= 1, "{forgone} forgone, {} by the pacer", pacer.forgone());
        }
        assert_eq!((ours, live.progress().unwrap().frames), if rate < 2000.0 { (ours, ours) } else { (3000, 3000) });
    }
}
