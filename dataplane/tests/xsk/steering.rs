//! The steering program: each class of packet goes to the socket or to the kernel, and is counted as what it is.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use altitude_dataplane::{
    frame::Umem,
    mapping::{MacAddress, Prefix},
    port::{
        Port, Region,
        xsk::{Interface, Roles, SocketOptions, SteerCounts, SteerError, Steering, XdpMode, XskPort},
    },
};

use crate::lab::{
    LIMIT, Link, PATIENCE, Station, ethernet, fragment6, in_namespace, ip, ipv4, ipv6, link, mac, open, udp,
};

const SITE: Roles = Roles { site: true, core: false, native: false };
const CORE: Roles = Roles { site: false, core: true, native: false };
const BOTH: Roles = Roles { site: true, core: true, native: false };
const NATIVE: Roles = Roles { site: false, core: false, native: true };
const NATIVE_AND_CORE: Roles = Roles { core: true, ..NATIVE };

/// Where a frame came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Socket,
    Kernel,
}
use To::{Kernel, Socket};

/// One interface with a socket and a program, a station at its far end, and one that sees what the kernel gets.
struct Rig {
    link: Link,
    umem: Umem,
    ports: Vec<XskPort>,
    steering: Steering,
    far: Station,
    kernel: Station,
    sent: u8,
}

impl Rig {
    /// As the demo's first site: EID-prefixes 1.1.0.0/16 and 2001:db8:1::/48, RLOCs 240.0.254.10 and 2001:db8:ffff::10.
    fn new(roles: Roles) -> Option<Self> {
        let link = link("near", "far");
        let (umem, ports) = open(&[&link.near], &SocketOptions::default())?;
        let mut steering = Steering::attach(&link.near, roles, XdpMode::Native).unwrap();
        steering.set_site_prefixes(&prefixes(&["1.1.0.0/16", "2001:db8:1::/48"])).unwrap();
        let own = ["240.0.254.10", "2001:db8:ffff::10", "1.1.0.254", "2001:db8:1::fe"];
        steering.set_own_addresses(&own.map(|address| address.parse().unwrap())).unwrap();
        steering.set_rlocs(&own.map(|address| address.parse().unwrap())[..2]).unwrap();
        ports[0].register(&mut steering).unwrap();
        let (far, kernel) = (Station::on(&link.far), Station::on(&link.near));
        Some(Self { link, umem, ports, steering, far, kernel, sent: 0 })
    }

    /// Sends `frame` from the far end with a mark at its end, and says where it came out and as what it was counted.
    fn steer(&mut self, frame: &[u8]) -> (To, &'static str) {
        self.sent += 1;
        let mark = [b"mark".as_slice(), &[self.sent]].concat();
        let marked = [frame, &mark].concat();
        let before = self.counts();
        self.far.send(&marked);
        let to = self.arrival(&marked, &mark);
        let after = self.counts();
        let counted: Vec<&str> = after
            .reasons
            .iter()
            .zip(before.reasons)
            .filter(|(after, before)| after.1 != before.1)
            .map(|(after, _)| after.0)
            .collect();
        assert_eq!(counted.len(), 1, "one frame, one reason: {counted:?}");
        let redirected = (after.redirected - before.redirected, after.passed - before.passed);
        assert_eq!(redirected, if to == Socket { (1, 0) } else { (0, 1) });
        (to, counted[0])
    }

    fn arrival(&mut self, marked: &[u8], mark: &[u8]) -> To {
        let deadline = Instant::now() + PATIENCE;
        let mut batch = Vec::new();
        loop {
            self.ports[0].receive(&mut self.umem, &mut batch, LIMIT);
            if let Some(frame) = batch.pop() {
                assert!(batch.is_empty(), "one frame was sent");
                assert_eq!(self.umem.octets(&frame), marked, "the socket gets the frame as it was sent");
                self.umem.release(frame);
                return Socket;
            }
            // The kernel takes a VLAN tag out before a packet socket sees the frame, so only the end is compared.
            if self.kernel.try_receive().is_some_and(|frame| frame.ends_with(mark)) {
                return Kernel;
            }
            assert!(Instant::now() < deadline, "the frame came out nowhere: {:?}", self.counts());
        }
    }

    fn counts(&self) -> SteerCounts {
        self.steering.counts().unwrap()
    }

    fn mac(&self) -> MacAddress {
        mac(&self.link.near)
    }

    fn run(&mut self, cases: &[(&str, Vec<u8>, To, &str)]) {
        for (name, frame, to, reason) in cases {
            assert_eq!(self.steer(frame), (*to, *reason), "{name}");
        }
    }
}

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const V4: u16 = 0x0800;
const V6: u16 = 0x86dd;

/// PITR-3: whoever sends it, what goes to an aggregate is taken; the rest stays with the kernel, untouched.
#[test]
fn a_native_port_gives_the_socket_only_what_goes_to_an_aggregate() {
    for roles in [NATIVE, NATIVE_AND_CORE] {
        in_namespace(|| {
            let Some(mut rig) = Rig::new(roles) else { return };
            rig.steering.set_aggregates(&prefixes(&["2.0.0.0/8", "240.0.0.0/8", "2001:db8:2::/47"])).unwrap();
            let to = rig.mac();
            let v4 = |source, destination| ipv4(source, destination, 17, 0, &[], &udp(4341, b"data"));
            let v6 = |source, destination| ipv6(source, destination, 17, &udp(7, b"data"));
            let anybody6 = "2600::1";
            let lisp = if roles.core { (Socket, "core") } else { (Kernel, "to-box") };
            rig.run(&[
                ("anybody to an EID", ethernet(to, &[], V4, &v4("8.8.8.8", "2.2.2.2")), Socket, "native"),
                ("a source of the site's", ethernet(to, &[], V4, &v4("1.1.0.1", "2.2.2.2")), Socket, "native"),
                ("IPv6", ethernet(to, &[], V6, &v6(anybody6, "2001:db8:3::3")), Socket, "native"),
                ("beside", ethernet(to, &[], V4, &v4("8.8.8.8", "3.3.3.3")), Kernel, "other-destination"),
                ("IPv6 beside", ethernet(to, &[], V6, &v6(anybody6, "2001:db8:4::1")), Kernel, "other-destination"),
                ("to the box", ethernet(to, &[], V4, &v4("8.8.8.8", "240.0.254.10")), lisp.0, lisp.1),
                ("multicast", ethernet(to, &[], V4, &v4("8.8.8.8", "224.0.0.5")), Kernel, "not-unicast"),
            ]);
            rig.steering.set_aggregates(&prefixes(&["3.0.0.0/8"])).unwrap();
            rig.run(&[
                ("not any more", ethernet(to, &[], V4, &v4("8.8.8.8", "2.2.2.2")), Kernel, "other-destination"),
                ("from now on", ethernet(to, &[], V4, &v4("8.8.8.8", "3.3.3.3")), Socket, "native"),
            ]);
        });
    }
}

/// RTR-8: instance 0xFFFFFF on port 4341 is for the control plane where we may be behind a NAT, and an instance like any other
/// where not.
#[test]
fn behind_a_nat_data_map_notifies_stay_with_the_kernel() {
    in_namespace(|| {
        let Some(mut rig) = Rig::new(CORE) else { return };
        let to = rig.mac();
        let lisp = |flags: u8, instance: [u8; 3]| [&[flags, 0, 0, 0], &instance[..], &[0], b"inside"].concat();
        let v4 = |fragment: u16, data: &[u8]| ipv4("240.0.254.20", "240.0.254.10", 17, fragment, &[], &udp(4341, data));
        let notify = lisp(0x08, [0xff; 3]);
        let (plain, more) = (ethernet(to, &[], V4, &v4(0, &notify)), ethernet(to, &[], V4, &v4(0x2000, &notify)));
        let six = ethernet(to, &[], V6, &ipv6("2001:db8:ffff::20", "2001:db8:ffff::10", 17, &udp(4341, &notify)));
        rig.run(&[
            ("switched off", plain.clone(), Socket, "core"),
            ("IPv6, switched off", six.clone(), Socket, "core"),
        ]);
        rig.steering.set_behind_nat(true).unwrap();
        let other = |flags, instance| ethernet(to, &[], V4, &v4(0, &lisp(flags, instance)));
        rig.run(&[
            ("IPv4", plain.clone(), Kernel, "data-map-notify"),
            ("IPv6", six, Kernel, "data-map-notify"),
            ("with a nonce", other(0x88, [0xff; 3]), Kernel, "data-map-notify"),
            ("its first fragment", more, Kernel, "data-map-notify"),
            ("without I", other(0x00, [0xff; 3]), Socket, "core"),
            ("another instance", other(0x08, [0xff, 0xff, 0xfe]), Socket, "core"),
            ("yet another", other(0x08, [0x7f, 0xff, 0xff]), Socket, "core"),
            ("too short for a header", ethernet(to, &[], V4, &v4(0, &[0x08, 0])), Socket, "core"),
        ]);
        rig.steering.set_behind_nat(false).unwrap();
        rig.run(&[("switched off again", plain, Socket, "core")]);
    });
}

#[test]
fn a_site_port_gives_the_socket_only_what_the_site_sends_beyond() {
    in_namespace(|| {
        let Some(mut rig) = Rig::new(SITE) else { return };
        let to = rig.mac();
        let v4 = |source, destination| ipv4(source, destination, 17, 0, &[], &udp(7, b"data"));
        let v6 = |source, destination| ipv6(source, destination, 17, &udp(7, b"data"));
        let eid = "1.1.0.1";
        let eid6 = "2001:db8:1::1";
        let options = ipv4(eid, "2.2.0.1", 17, 0, &[1; 8], &udp(7, b"data"));
        let mut long_header = v4(eid, "2.2.0.1");
        long_header[0] = 0x4f;
        long_header.truncate(24);
        let mut wrong_version = v4(eid, "2.2.0.1");
        wrong_version[0] = 0x65;
        rig.run(&[
            ("IPv4 beyond", ethernet(to, &[], V4, &v4(eid, "2.2.0.1")), Socket, "site"),
            ("IPv6 beyond", ethernet(to, &[], V6, &v6(eid6, "2001:db8:2::1")), Socket, "site"),
            ("IPv4 options", ethernet(to, &[], V4, &options), Socket, "site"),
            ("a later fragment", ethernet(to, &[], V4, &ipv4(eid, "2.2.0.1", 17, 5, &[], &[9; 16])), Socket, "site"),
            ("to an address of class E", ethernet(to, &[], V4, &v4(eid, "240.0.254.20")), Socket, "site"),
            ("one VLAN tag", ethernet(to, &[7], V4, &v4(eid, "2.2.0.1")), Socket, "site"),
            ("two VLAN tags", ethernet(to, &[7, 8], V6, &v6(eid6, "2001:db8:2::1")), Socket, "site"),
            ("three VLAN tags", ethernet(to, &[7, 8, 9], V4, &v4(eid, "2.2.0.1")), Kernel, "not-ip"),
            ("ARP", ethernet([0xff; 6], &[], 0x0806, &[0; 46]), Kernel, "other-station"),
            ("ARP to us", ethernet(to, &[], 0x0806, &[0; 46]), Kernel, "not-ip"),
            ("another station", ethernet([2; 6], &[], V4, &v4(eid, "2.2.0.1")), Kernel, "other-station"),
            ("to the box", ethernet(to, &[], V4, &v4(eid, "1.1.0.254")), Kernel, "to-box"),
            ("LISP data to the box", ethernet(to, &[], V4, &v4(eid, "240.0.254.10")), Kernel, "to-box"),
            (
                "neighbour solicitation",
                ethernet(to, &[], V6, &ipv6(eid6, "2001:db8:1::fe", 58, &[0; 24])),
                Kernel,
                "to-box",
            ),
            ("multicast", ethernet(to, &[], V4, &v4(eid, "224.0.0.5")), Kernel, "not-unicast"),
            ("broadcast", ethernet(to, &[], V4, &v4(eid, "255.255.255.255")), Kernel, "not-unicast"),
            ("link-local", ethernet(to, &[], V4, &v4(eid, "169.254.1.1")), Kernel, "not-unicast"),
            ("IPv6 multicast", ethernet(to, &[], V6, &v6(eid6, "ff05::2")), Kernel, "not-unicast"),
            ("IPv6 link-local", ethernet(to, &[], V6, &v6(eid6, "fe80::1")), Kernel, "not-unicast"),
            ("IPv6 loopback", ethernet(to, &[], V6, &v6(eid6, "::1")), Kernel, "not-unicast"),
            ("no EID", ethernet(to, &[], V4, &v4("1.2.0.1", "2.2.0.1")), Kernel, "other-source"),
            ("no IPv6 EID", ethernet(to, &[], V6, &v6("2001:db8:2::1", "2001:db8:3::1")), Kernel, "other-source"),
            ("IPv6 link-local source", ethernet(to, &[], V6, &v6("fe80::1", "2001:db8:2::1")), Kernel, "other-source"),
            ("header beyond the packet", ethernet(to, &[], V4, &long_header), Kernel, "malformed"),
            ("version of the other family", ethernet(to, &[], V4, &wrong_version), Kernel, "malformed"),
        ]);
    });
}

#[test]
fn a_core_port_gives_the_socket_only_lisp_data_to_an_rloc() {
    in_namespace(|| {
        let Some(mut rig) = Rig::new(CORE) else { return };
        let to = rig.mac();
        let (peer, rloc) = ("240.0.254.20", "240.0.254.10");
        let (peer6, rloc6) = ("2001:db8:ffff::20", "2001:db8:ffff::10");
        let data = udp(4341, b"LISP....inner");
        let more = 0x2000;
        rig.run(&[
            ("data", ethernet(to, &[], V4, &ipv4(peer, rloc, 17, 0, &[], &data)), Socket, "core"),
            ("data with DF", ethernet(to, &[], V4, &ipv4(peer, rloc, 17, 0x4000, &[], &data)), Socket, "core"),
            ("data after options", ethernet(to, &[], V4, &ipv4(peer, rloc, 17, 0, &[1; 40], &data)), Socket, "core"),
            ("data in a VLAN", ethernet(to, &[5], V4, &ipv4(peer, rloc, 17, 0, &[], &data)), Socket, "core"),
            ("data over IPv6", ethernet(to, &[], V6, &ipv6(peer6, rloc6, 17, &data)), Socket, "core"),
            ("first fragment", ethernet(to, &[], V4, &ipv4(peer, rloc, 17, more, &[], &data)), Socket, "core-fragment"),
            (
                "first IPv6 fragment",
                ethernet(to, &[], V6, &ipv6(peer6, rloc6, 44, &fragment6(17, 0, true, &data))),
                Socket,
                "core-fragment",
            ),
            ("later fragment", ethernet(to, &[], V4, &ipv4(peer, rloc, 17, 9, &[], &data)), Kernel, "later-fragment"),
            (
                "later IPv6 fragment",
                ethernet(to, &[], V6, &ipv6(peer6, rloc6, 44, &fragment6(17, 9, false, &data))),
                Kernel,
                "later-fragment",
            ),
            ("control", ethernet(to, &[], V4, &ipv4(peer, rloc, 17, 0, &[], &udp(4342, b"ctl"))), Kernel, "not-lisp"),
            (
                "first fragment of control",
                ethernet(to, &[], V4, &ipv4(peer, rloc, 17, more, &[], &udp(4342, b"ctl"))),
                Kernel,
                "not-lisp",
            ),
            (
                "control over IPv6",
                ethernet(to, &[], V6, &ipv6(peer6, rloc6, 17, &udp(4342, b"ctl"))),
                Kernel,
                "not-lisp",
            ),
            ("GRE", ethernet(to, &[], V4, &ipv4(peer, rloc, 47, 0, &[], &data)), Kernel, "not-lisp"),
            ("a fragment of GRE", ethernet(to, &[], V4, &ipv4(peer, rloc, 47, 9, &[], &data)), Kernel, "not-lisp"),
            ("TCP to 4341", ethernet(to, &[], V4, &ipv4(peer, rloc, 6, 0, &[], &data)), Kernel, "not-lisp"),
            ("no RLOC", ethernet(to, &[], V4, &ipv4(peer, "1.1.0.254", 17, 0, &[], &data)), Kernel, "not-lisp"),
            (
                "an EID's packet",
                ethernet(to, &[], V4, &ipv4("1.1.0.1", "2.2.0.1", 17, 0, &[], &data)),
                Kernel,
                "not-lisp",
            ),
            (
                "another station",
                ethernet([2; 6], &[], V4, &ipv4(peer, rloc, 17, 0, &[], &data)),
                Kernel,
                "other-station",
            ),
        ]);
    });
}

#[test]
fn a_port_with_both_roles_tells_them_apart() {
    in_namespace(|| {
        let Some(mut rig) = Rig::new(BOTH) else { return };
        let to = rig.mac();
        let packet = |source, destination, port| {
            ethernet(to, &[], V4, &ipv4(source, destination, 17, 0, &[], &udp(port, b"data")))
        };
        rig.run(&[
            ("data", packet("240.0.254.20", "240.0.254.10", 4341), Socket, "core"),
            ("beyond", packet("1.1.0.1", "2.2.0.1", 4341), Socket, "site"),
            ("an EID asks the box", packet("1.1.0.1", "240.0.254.10", 4342), Kernel, "to-box"),
            ("transit", packet("9.9.9.9", "2.2.0.1", 7), Kernel, "other-source"),
        ]);
    });
}

#[test]
fn a_set_as_large_as_may_be_is_replaced_by_another() {
    in_namespace(|| {
        let Some(mut rig) = Rig::new(SITE) else { return };
        let set = |first: u8| -> Vec<Prefix> {
            (0..=u16::MAX)
                .map(|number| Prefix::new([first, 0, (number >> 8) as u8, number as u8].into(), 32).unwrap())
                .collect()
        };
        for first in [3, 4] {
            rig.steering.set_site_prefixes(&set(first)).unwrap();
        }
        let to = rig.mac();
        let from = |source: &str| ethernet(to, &[], V4, &ipv4(source, "2.2.0.1", 17, 0, &[], &udp(7, b"data")));
        rig.run(&[("gone", from("3.0.5.6"), Kernel, "other-source"), ("new", from("4.0.5.6"), Socket, "site")]);
    });
}

#[test]
fn sets_are_replaced_and_an_unknown_queue_passes() {
    in_namespace(|| {
        let Some(mut rig) = Rig::new(SITE) else { return };
        let to = rig.mac();
        let from = |source: &str| ethernet(to, &[], V4, &ipv4(source, "2.2.0.1", 17, 0, &[], &udp(7, b"data")));
        rig.steering.set_site_prefixes(&prefixes(&["1.1.7.0/24", "3.0.0.0/8", "1.1.7.0/24"])).unwrap();
        rig.run(&[
            ("kept in part", from("1.1.7.1"), Socket, "site"),
            ("gone", from("1.1.0.1"), Kernel, "other-source"),
            ("new", from("3.4.5.6"), Socket, "site"),
        ]);
        rig.steering.set_own_addresses(&["2.2.0.1".parse().unwrap()]).unwrap();
        assert_eq!(rig.steer(&from("3.4.5.6")), (Kernel, "to-box"));
        rig.steering.set_own_addresses(&[]).unwrap();
        rig.steering.set_site_prefixes(&prefixes(&["0.0.0.0/0", "::/0"])).unwrap();
        assert_eq!(rig.steer(&from("77.0.0.1")), (Socket, "site"));

        ip("link set dev near address 02:00:00:00:00:77");
        let there = ethernet(rig.mac(), &[], V4, &ipv4("77.0.0.1", "2.2.0.1", 17, 0, &[], &udp(7, b"data")));
        assert_eq!(rig.steer(&there), (Kernel, "other-station"), "the program still knows the old address");
        rig.steering.refresh_mac().unwrap();
        assert_eq!(rig.steer(&there), (Socket, "site"));

        // The first socket of a worker is closed with its memory.
        rig.ports.clear();
        rig.umem = Umem::new(Region::anonymous(1));
        let deadline = Instant::now() + PATIENCE;
        // A child that another test just forked may keep the socket open for a moment: those frames are lost.
        while rig.counts().reason("no-socket") == 0 {
            rig.far.send(&there);
            assert!(Instant::now() < deadline, "{:?}", rig.counts());
            thread::yield_now();
        }
        assert!(std::iter::from_fn(|| Some(rig.kernel.receive())).any(|frame| frame == there), "the kernel has it");
    });
}

#[test]
fn control_messages_reach_an_ordinary_socket() {
    in_namespace(|| {
        let Some(rig) = Rig::new(CORE) else { return };
        ip("address add 10.9.0.1/24 dev near");
        let control = UdpSocket::bind("10.9.0.1:4342").unwrap();
        control.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = ipv4("10.9.0.2", "10.9.0.1", 17, 0, &[], &udp(4342, b"Map-Request"));
        rig.far.send(&ethernet(rig.mac(), &[], V4, &request));
        let mut octets = [0; 64];
        let (length, from) = control.recv_from(&mut octets).unwrap();
        assert_eq!((&octets[..length], from.to_string().as_str()), (b"Map-Request".as_slice(), "10.9.0.2:50000"));
    });
}

#[test]
fn a_second_program_is_refused_by_name_and_drop_detaches() {
    in_namespace(|| {
        let site = link("site", "host");
        let attached = || ip("link show dev site").contains("xdp");
        for (mode, generic) in [(XdpMode::Auto, false), (XdpMode::Native, false), (XdpMode::Generic, true)] {
            let steering = match Steering::attach(&site.near, SITE, mode) {
                Ok(steering) => steering,
                Err(error) => panic!("{error}"),
            };
            assert_eq!((steering.generic(), attached()), (generic, true));
            for second in [XdpMode::Auto, XdpMode::Native, XdpMode::Generic] {
                let error = Steering::attach(&site.near, CORE, second).unwrap_err();
                assert!(matches!(error, SteerError::Occupied { .. }), "{error:?}");
                let text = error.to_string();
                assert!(text.contains("attached to site") && text.contains("ip link set dev site xdp off"), "{text}");
            }
            drop(steering);
            assert!(!attached(), "{mode:?}: {}", ip("link show dev site"));
        }
    });
}

#[test]
fn what_cannot_be_steered_is_named() {
    in_namespace(|| {
        let missing = Interface::named("nowhere0").unwrap_err().to_string();
        assert!(missing.contains("no interface nowhere0"), "{missing}");
        let gone = Interface { name: "nowhere0".to_owned(), index: 77 };
        assert!(matches!(Steering::attach(&gone, SITE, XdpMode::Auto), Err(SteerError::Gone { .. })));
        ip("link set dev lo up");
        let lo = Interface::named("lo").unwrap();
        assert!(matches!(Steering::attach(&lo, SITE, XdpMode::Auto), Err(SteerError::NotEthernet { .. })));

        let Some(rig) = Rig::new(SITE) else { return };
        let other = link("other", "beyond");
        let mut steering = Steering::attach(&other.near, SITE, XdpMode::Auto).unwrap();
        let text = rig.ports[0].register(&mut steering).unwrap_err().to_string();
        assert!(text.contains("queue 0 of near") && text.contains("program of other"), "{text}");
        let many: Vec<_> = (0..5000_u32).map(|host| std::net::Ipv4Addr::from(host).into()).collect();
        let text = steering.set_rlocs(&many).unwrap_err().to_string();
        assert!(text.contains("5000 RLOCs") && text.contains("4096"), "{text}");
    });
}
