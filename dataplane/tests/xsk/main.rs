//! AF_XDP over veth pairs, in network namespaces: sockets, the four rings, and the steering program.
//!
//! They need root and a kernel with AF_XDP, and say `SKIP` where those are missing.

mod lab;
mod steering;

use std::{fs, net::IpAddr, thread, time::Duration, time::Instant};

use altitude_dataplane::{
    frame::{SLOT, Umem},
    port::{
        Port,
        xsk::{Bind, Interface, Roles, SocketOptions, Steering, XdpMode, XskError, XskPort, open_worker},
    },
};
use lab::{LIMIT, Link, PATIENCE, Station, ethernet, in_namespace, ip, ipv4, link, mac, open, receive_one, udp};

const SITE: Roles = Roles { site: true, core: false, native: false };
const CORE: Roles = Roles { site: false, core: true, native: false };

fn accounted(umem: &Umem, ports: &[XskPort], held: usize) {
    let outstanding: usize = ports.iter().map(Port::outstanding).sum();
    assert_eq!(umem.free() + outstanding + held, umem.slots(), "every frame is in one place");
}

fn steer(site: &Link, core: &Link, ports: &[XskPort], mode: XdpMode) -> [Steering; 2] {
    let rloc: IpAddr = "240.0.254.10".parse().unwrap();
    let mut at_site = Steering::attach(&site.near, SITE, mode).unwrap();
    at_site.set_site_prefixes(&["1.1.0.0/16".parse().unwrap()]).unwrap();
    at_site.set_own_addresses(&[rloc]).unwrap();
    let mut at_core = Steering::attach(&core.near, CORE, mode).unwrap();
    at_core.set_rlocs(&[rloc]).unwrap();
    ports[0].register(&mut at_site).unwrap();
    ports[1].register(&mut at_core).unwrap();
    [at_site, at_core]
}

/// From the site's far end to the core's with 36 octets in front, and back with them taken off.
fn cross(options: &SocketOptions, mode: XdpMode) {
    let (site, core) = (link("site", "host"), link("core", "peer"));
    let Some((mut umem, mut ports)) = open(&[&site.near, &core.near], options) else { return };
    accounted(&umem, &ports, 0);
    let [at_site, at_core] = steer(&site, &core, &ports, mode);
    let (host, peer) = (Station::on(&site.far), Station::on(&core.far));

    let sent = ethernet(mac(&site.near), &[], 0x0800, &ipv4("1.1.0.1", "2.2.0.1", 17, 0, &[], &udp(7, &[0xa5; 1400])));
    host.send(&sent);
    let mut frame = receive_one(&mut ports, 0, &mut umem);
    assert_eq!(umem.octets(&frame), sent, "as it was sent");
    let received_at = frame.start();
    assert!(umem.grow(&mut frame, 36));
    assert_eq!(frame.start(), received_at - 36, "nothing is copied, only the start moves");
    let mut outer: Vec<u8> = ethernet(mac(&core.far), &[], 0x88b5, &[]);
    outer.extend(100..122);
    umem.octets_mut(&mut frame)[..36].copy_from_slice(&outer);
    accounted(&umem, &ports, 1);
    let mut batch = vec![frame];
    assert_eq!(ports[1].transmit(&mut umem, &mut batch), 1);
    assert!(batch.is_empty());
    accounted(&umem, &ports, 0);
    assert_eq!(peer.receive(), [outer, sent].concat(), "octet by octet");

    let inner = ethernet(mac(&site.far), &[], 0x88b5, b"from beyond");
    let tunnelled = ipv4("240.0.254.20", "240.0.254.10", 17, 0, &[], &udp(4341, &[&[0; 8], &inner[..]].concat()));
    peer.send(&ethernet(mac(&core.near), &[], 0x0800, &tunnelled));
    let mut frame = receive_one(&mut ports, 1, &mut umem);
    umem.shrink(&mut frame, 14 + 36);
    assert_eq!(ports[0].transmit(&mut umem, &mut vec![frame]), 1);
    // The station also sees what it sent itself: nothing here.
    assert_eq!(host.receive(), inner);

    drained(&mut umem, &mut ports);
    assert_eq!((at_site.counts().unwrap().reason("site"), at_core.counts().unwrap().reason("core")), (1, 1));
    for port in &ports {
        let statistics = port.observer().unwrap().statistics().unwrap();
        assert_eq!(statistics, port.statistics().unwrap());
        assert_eq!((statistics.rx_dropped, statistics.rx_invalid, statistics.tx_invalid), (0, 0, 0));
    }
}

/// Takes turns until the kernel gave back all that was transmitted.
fn drained(umem: &mut Umem, ports: &mut [XskPort]) {
    let deadline = Instant::now() + PATIENCE;
    let mut batch = Vec::new();
    let full = |ports: &[XskPort]| ports.iter().map(Port::outstanding).sum::<usize>();
    let mut before = usize::MAX;
    while full(ports) != before || full(ports) > umem.slots() / 2 {
        before = full(ports);
        for port in &mut *ports {
            port.receive(umem, &mut batch, LIMIT);
            assert!(batch.is_empty(), "nothing more was sent");
        }
        assert!(Instant::now() < deadline, "frames were not completed: {ports:?}");
    }
    accounted(umem, ports, 0);
}

#[test]
fn a_frame_crosses_and_its_header_grows_in_place() {
    in_namespace(|| cross(&SocketOptions::default(), XdpMode::Auto));
}

#[test]
fn a_frame_crosses_with_generic_xdp() {
    in_namespace(|| cross(&SocketOptions { bind: Bind::Copy, ..SocketOptions::default() }, XdpMode::Generic));
}

#[test]
fn a_frame_crosses_with_busy_polling_and_small_rings() {
    let options = SocketOptions { ring: 64, frames: 512, busy_poll: Some(20), ..SocketOptions::default() };
    in_namespace(move || cross(&options, XdpMode::Native));
}

#[test]
fn without_huge_pages_ordinary_ones_serve() {
    in_namespace(|| {
        let site = link("site", "host");
        let options = SocketOptions { hugepages: true, frames: 1000, ..SocketOptions::default() };
        let Some((umem, ports)) = open(&[&site.near], &options) else { return };
        let free = fs::read_to_string("/proc/meminfo").unwrap();
        let free = free.lines().find_map(|line| line.strip_prefix("HugePages_Free:")).unwrap().trim() != "0";
        if !free {
            assert!(!ports[0].huge_pages());
        }
        let expected = if ports[0].huge_pages() { (2 << 20) / SLOT } else { 1000 };
        assert_eq!(umem.slots(), expected);
        assert!(!ports[0].zero_copy(), "veth has no zero-copy");
    });
}

#[test]
fn all_frames_are_accounted_for_after_a_hundred_thousand() {
    in_namespace(|| {
        const FRAMES: usize = 100_000;
        let (site, core) = (link("site", "host"), link("core", "peer"));
        let options = SocketOptions { ring: 128, frames: 1024, ..SocketOptions::default() };
        let Some((mut umem, mut ports)) = open(&[&site.near, &core.near], &options) else { return };
        let _steering = steer(&site, &core, &ports, XdpMode::Auto);
        let host = Station::on(&site.far);
        let sent = ethernet(mac(&site.near), &[], 0x0800, &ipv4("1.1.0.1", "2.2.0.1", 17, 0, &[], &udp(7, &[1; 64])));
        let mut batch = Vec::with_capacity(LIMIT);
        let mut forwarded = 0;
        let deadline = Instant::now() + 3 * PATIENCE;
        while forwarded < FRAMES {
            // As many as the fill ring surely has frames for, so none is lost.
            let burst = LIMIT.min(FRAMES - forwarded);
            (0..burst).for_each(|_| host.send(&sent));
            let mut arrived = 0;
            while arrived < burst {
                ports[0].receive(&mut umem, &mut batch, LIMIT);
                arrived += batch.len();
                while !batch.is_empty() {
                    forwarded += ports[1].transmit(&mut umem, &mut batch);
                    // Takes sent frames back when the share is used up; nothing arrives there.
                    ports[1].receive(&mut umem, &mut Vec::new(), LIMIT);
                }
                accounted(&umem, &ports, 0);
                assert!(Instant::now() < deadline, "{forwarded} frames passed: {ports:?}");
            }
        }
        drained(&mut umem, &mut ports);
        assert_eq!(ports.iter().map(Port::outstanding).sum::<usize>(), 2 * 128, "the fill rings, and nothing else");
        let received: serde_json::Value = serde_json::from_str(&ip("-j -s link show dev peer")).unwrap();
        assert_eq!(received[0]["stats64"]["rx"]["packets"], FRAMES);
        for port in &ports {
            assert_eq!(
                port.statistics().unwrap(),
                altitude_dataplane::port::xsk::XskStatistics {
                    fill_ring_empty: port.statistics().unwrap().fill_ring_empty,
                    tx_ring_empty: port.statistics().unwrap().tx_ring_empty,
                    ..Default::default()
                }
            );
        }
    });
}

#[test]
fn a_port_takes_no_more_than_its_share_and_no_empty_frame() {
    in_namespace(|| {
        let core = link("core", "peer");
        let options = SocketOptions { ring: 64, frames: 512, ..SocketOptions::default() };
        let Some((mut umem, mut ports)) = open(&[&core.near], &options) else { return };
        let mut batch: Vec<_> = std::iter::from_fn(|| umem.allocate()).collect();
        assert_eq!(batch.len(), 512 - 64, "the fill ring has its share");
        let packet = ethernet(mac(&core.far), &[], 0x88b5, &[0; 50]);
        for frame in batch.iter_mut().skip(1) {
            assert!(umem.set_len(frame, packet.len()));
            umem.octets_mut(frame).copy_from_slice(&packet);
        }
        let all = batch.len();
        let taken = ports[0].transmit(&mut umem, &mut batch);
        assert_eq!((taken, batch.len()), (64, all - 64), "share.transmit, from the front");
        accounted(&umem, &ports, batch.len());
        let deadline = Instant::now() + PATIENCE;
        let mut sent = taken;
        while !batch.is_empty() {
            sent += ports[0].transmit(&mut umem, &mut batch);
            accounted(&umem, &ports, batch.len());
            assert!(Instant::now() < deadline, "{sent} of {all} frames were sent");
        }
        drained(&mut umem, &mut ports);
        assert_eq!(ports[0].statistics().unwrap().tx_invalid, 0);
        let received: serde_json::Value = serde_json::from_str(&ip("-j -s link show dev peer")).unwrap();
        assert_eq!(received[0]["stats64"]["rx"]["packets"], all - 1, "all but the empty one");
    });
}

#[test]
fn a_port_refuses_the_frames_of_another_worker() {
    in_namespace(|| {
        let (site, core) = (link("site", "host"), link("core", "peer"));
        let Some((_umem, mut ports)) = open(&[&site.near], &SocketOptions::default()) else { return };
        let Some((mut other, _ports)) = open(&[&core.near], &SocketOptions::default()) else { return };
        let receive = std::panic::AssertUnwindSafe(|| ports[0].receive(&mut other, &mut Vec::new(), LIMIT));
        assert!(std::panic::catch_unwind(receive).is_err(), "the kernel would write into frames that are free there");
    });
}

#[test]
fn a_busy_queue_is_waited_for_and_then_named() {
    in_namespace(|| {
        let site = link("site", "host");
        let Some(holder) = open(&[&site.near], &SocketOptions::default()) else { return };
        let again = || open_worker(std::slice::from_ref(&site.near), 0, &SocketOptions::default());
        let text = again().unwrap_err().to_string();
        assert!(text.contains("queue 0 of site") && text.contains("stop the program"), "{text}");
        // Whether the queue is given up before the first try or between two of them, the socket opens.
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(30));
                drop(holder);
            });
            again().unwrap();
        });
    });
}

#[test]
fn options_that_cannot_work_are_refused_by_name() {
    let [one, two] = [1, 2].map(|index| Interface { name: format!("if{index}"), index });
    let refuse = |interfaces: &[Interface], ring, frames| {
        let options = SocketOptions { ring, frames, ..SocketOptions::default() };
        match open_worker(interfaces, 0, &options) {
            Err(XskError::Options(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    for (interfaces, ring, frames, says) in [
        (&[][..], 1024, 8192, "no interface"),
        (&[one.clone(), two.clone(), one.clone()][..], 1024, 8192, "if1 is named twice"),
        (&[one.clone()][..], 1000, 8192, "--ring"),
        (&[one.clone()][..], 32, 8192, "--ring"),
        (&[one, two][..], 1024, 511, "--frames must be at least 512 for 2 ports"),
    ] {
        let text = refuse(interfaces, ring, frames);
        assert!(text.contains(says), "{text}");
    }
}
