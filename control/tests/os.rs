//! The wrappers of the operating system against a real kernel: two network namespaces joined by a veth pair.
//!
//! Needs root; without it every test says so and passes.

mod namespaces;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use altitude_control::{
    os::{
        control_socket::{CONTROL_PORT, ControlSocket},
        gre_socket::GreSocket,
        ip_socket::IpSocket,
        netlink::{Netlink, NetlinkCounters},
        tun::{Tun, tunnel_mtu},
    },
    underlay::{Input, Output, Progress, Underlay},
    wire::packet::UdpPacket,
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};

use namespaces::Namespaces;

const OURS: &str = "240.0.254.10";
const PEER: &str = "240.0.254.20";
const OURS6: &str = "2001:db8::10";
const PEER6: &str = "2001:db8::20";

/// Far more than anything here takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn start_tells_links_and_addresses() {
    let Some(lab) = Lab::new() else { return };
    let control = Control::start(&lab);
    let own = control.underlay.own_addresses();
    for address in [OURS, OURS6] {
        assert!(own.contains(&ip(address)), "{address} in {own:?}");
    }
    let ports: Vec<_> = control.underlay.ports().collect();
    assert_eq!(ports.len(), 1, "the loopback is no port: {ports:?}");
    assert_eq!((ports[0].port, ports[0].name.as_str(), ports[0].mtu), (7, "core", 1500));
    assert_eq!(ports[0].mac, Some([2, 0, 0, 0, 0, 0x10]));
    assert!(ports[0].up && ports[0].addresses.contains(&(ip(OURS), 24)), "{:?}", ports[0]);
    assert_eq!(control.netlink.counters(), NetlinkCounters::default());
}

#[test]
fn a_peer_is_found_by_arp_and_by_nd() {
    let Some(lab) = Lab::new() else { return };
    let mut control = Control::start(&lab);
    for (peer, ours) in [(PEER, OURS), (PEER6, OURS6)] {
        control.watch(peer);
        control.until(|control| control.progress(peer) == Progress::Ready);
        let adjacency = control.underlay.adjacency(ip(peer)).unwrap();
        assert_eq!((adjacency.port, adjacency.mtu, adjacency.vlan), (7, 1500, None));
        assert_eq!(adjacency.destination, [2, 0, 0, 0, 0, 0x20], "{peer}");
        assert_eq!(adjacency.source, [2, 0, 0, 0, 0, 0x10], "{peer}");
        assert_eq!(control.underlay.source_for(ip(peer)), Some(ip(ours)));
        assert_eq!(control.changed, [ip(peer)], "told once");
        control.changed.clear();
    }
    assert_eq!(control.netlink.counters(), NetlinkCounters::default());
}

#[test]
fn a_link_that_goes_down_and_up_takes_and_gives_back_the_adjacency() {
    let Some(lab) = Lab::new() else { return };
    let mut control = Control::start(&lab);
    control.watch(PEER);
    control.until(|control| control.progress(PEER) == Progress::Ready);
    control.changed.clear();
    lab.ours("link set core down");
    control.until(|control| control.underlay.adjacency(ip(PEER)).is_none());
    assert_eq!(control.changed, [ip(PEER)]);
    // The route is gone with the link, and the kernel does not say so for IPv4.
    control.until(|control| control.progress(PEER) == Progress::NoRoute);
    lab.ours("link set core up");
    control.until(|control| control.progress(PEER) == Progress::Ready);
    // Lost; looked for again, unless the neighbour was known before the route; found.
    assert!(control.changed.iter().all(|destination| *destination == ip(PEER)), "{:?}", control.changed);
    assert!((2..=3).contains(&control.changed.len()), "{:?}", control.changed);
}

#[test]
fn routes_come_change_and_go() {
    let Some(lab) = Lab::new() else { return };
    let far = "198.51.100.7";
    let mut control = Control::start(&lab);
    control.watch(far);
    control.watch(OURS);
    control.until(|control| control.progress(far) == Progress::NoRoute);
    control.until(|control| control.progress(OURS) == Progress::Own);
    lab.ours("route add 198.51.100.0/24 via 240.0.254.20");
    control.until(|control| control.progress(far) == Progress::Ready);
    lab.ours("route replace blackhole 198.51.100.0/24");
    control.until(|control| control.progress(far) == Progress::NoRoute);
    lab.ours("route replace 198.51.100.0/24 via inet6 2001:db8::20");
    control.until(|control| control.progress(far) == Progress::Ready);
    lab.ours("route replace 198.51.100.0/24 dev lo");
    control.until(|control| control.progress(far) == Progress::NotOnPort);
    lab.ours("route replace 198.51.100.0/24 via 240.0.254.99");
    control.until(|control| control.progress(far) == Progress::WaitingForNeighbour);
}

#[test]
fn a_neighbour_that_moves_or_dies_is_noticed() {
    let Some(lab) = Lab::new() else { return };
    let mut control = Control::start(&lab);
    control.watch(PEER);
    control.until(|control| control.progress(PEER) == Progress::Ready);
    lab.ours("neigh replace 240.0.254.20 lladdr 02:00:00:00:00:99 dev core nud permanent");
    control.until(|control| control.underlay.adjacency(ip(PEER)).is_some_and(|a| a.destination[5] == 0x99));
    lab.ours("neigh del 240.0.254.20 dev core");
    // Asked at once, the peer itself answers again.
    control.until(|control| control.underlay.adjacency(ip(PEER)).is_some_and(|a| a.destination[5] == 0x20));
    lab.theirs("link set core arp off");
    lab.ours("neigh del 240.0.254.20 dev core");
    control.until(|control| control.progress(PEER) == Progress::WaitingForNeighbour);
}

#[test]
fn a_thousand_questions_at_once_are_all_answered() {
    let Some(lab) = Lab::new() else { return };
    let mut control = Control::start(&lab);
    let destinations: Vec<IpAddr> =
        (0..1000).map(|n| IpAddr::from([203, 0, 100 + (n / 250) as u8, (n % 250) as u8])).collect();
    lab.ours("route add 203.0.0.0/16 via 240.0.254.20");
    for destination in &destinations {
        control.step(Input::Watch(*destination));
    }
    control.until(|control| control.underlay.watched().all(|d| control.underlay.explain(d) == Progress::Ready));
    control.changed.sort_unstable();
    assert_eq!(control.changed, destinations, "each told once");
    assert_eq!(control.netlink.counters().questions_lost, 0);
}

#[test]
fn lost_notifications_are_made_up_for() {
    let Some(lab) = Lab::new() else { return };
    let mut control = Control::start(&lab);
    control.watch(PEER);
    control.until(|control| control.progress(PEER) == Progress::Ready);
    setsockopt(&control.netlink, sockopt::RcvBuf, &1).expect("the smallest buffer");
    let mut batch: String = (0..200).map(|n| format!("addr add 10.9.0.{n}/32 dev lo\n")).collect();
    batch.extend((0..199).map(|n| format!("addr del 10.9.0.{n}/32 dev lo\n")));
    batch.push_str("addr add 10.8.0.1/32 dev lo\n");
    lab.batch(&batch);
    control.until(|control| control.underlay.own_addresses().contains(&ip("10.8.0.1")));
    assert!(control.netlink.counters().overruns > 0, "{:?}", control.netlink.counters());
    let own = control.underlay.own_addresses();
    let extra: Vec<_> = own.iter().filter(|address| address.to_string().starts_with("10.9.")).collect();
    assert_eq!(extra, [&ip("10.9.0.199")]);
    control.until(|control| control.progress(PEER) == Progress::Ready);
}

#[test]
fn a_tun_device_carries_packets_both_ways_and_vanishes() {
    let Some(lab) = Lab::new() else { return };
    let addresses = [(ip("192.0.2.1"), 30), (ip("2001:db8:1::1"), 64)];
    let mtu = tunnel_mtu(1500, ip(OURS), false, false);
    let tun = lab.inside(|| Tun::open("alt0", mtu, &addresses)).expect("TUN");
    let shown = lab.show("addr show dev alt0");
    for part in ["mtu 1476", "192.0.2.1/30", "2001:db8:1::1/64", "UP"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let inner = lab.inside(|| UdpSocket::bind("192.0.2.1:5000")).expect("bind to the tunnel's address");
    inner.set_nonblocking(true).unwrap();
    inner.send_to(b"ping", "192.0.2.2:6000").expect("route into the tunnel");
    let mut packet = [0; 2000];
    // The kernel also sends IPv6 multicast of its own into the device.
    let length =
        receive_when(&tun, || tun.receive(&mut packet).map(|length| Some(length).filter(|_| packet[0] >> 4 == 4)));
    assert_eq!((packet[9], &packet[12..20]), (17, &[192, 0, 2, 1, 192, 0, 2, 2][..]));
    assert_eq!(&packet[28..length], b"ping");
    // Back: swapped addresses and ports leave both checksums as they are.
    let there: Vec<u8> = packet[..length].to_vec();
    packet[12..16].copy_from_slice(&there[16..20]);
    packet[16..20].copy_from_slice(&there[12..16]);
    packet[20..22].copy_from_slice(&there[22..24]);
    packet[22..24].copy_from_slice(&there[20..22]);
    tun.send(&packet[..length]).expect("write to the TUN device");
    let mut answer = [0; 16];
    let (length, from) = receive_when(&inner, || inner.recv_from(&mut answer).map(Some));
    assert_eq!((&answer[..length], from), (&b"ping"[..], "192.0.2.2:6000".parse().unwrap()));
    assert_eq!(tun.receive(&mut [0; 2000]).map_err(|error| error.kind()).err(), Some(io::ErrorKind::WouldBlock));

    let index = tun.index();
    let mut control = Control::start(&lab);
    assert!(control.underlay.own_addresses().contains(&ip("192.0.2.1")));
    drop(tun);
    control.until(|control| !control.underlay.own_addresses().contains(&ip("192.0.2.1")));
    assert!(!lab.show("link").contains(&format!("{index}: alt0")), "the device is gone");
}

#[test]
fn a_tun_device_left_over_is_taken_over_and_other_names_are_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.ours("tuntap add dev alt0 mode tun");
    lab.ours("addr add 192.0.2.1/30 dev alt0");
    let tun = lab.inside(|| Tun::open("alt0", 1400, &[(ip("192.0.2.1"), 30)])).expect("take over");
    assert_eq!(tun.name(), "alt0");
    assert!(lab.show("link show dev alt0").contains("mtu 1400"));
    let second = lab.inside(|| Tun::open("alt0", 1400, &[])).map(drop).unwrap_err();
    assert!(second.to_string().contains("another process has this device open"), "{second}");
    let veth = lab.inside(|| Tun::open("core", 1400, &[])).map(drop).unwrap_err();
    assert!(veth.to_string().contains("an interface of this name exists that is no TUN device"), "{veth}");
}

#[test]
fn gre_goes_there_and_back_in_both_families_and_in_fragments() {
    let Some(lab) = Lab::new() else { return };
    for (ours, peer) in [(OURS, PEER), (OURS6, PEER6)] {
        let left = lab.inside(|| GreSocket::open(ip(ours))).expect("GRE socket");
        let right = lab.inside_theirs(|| GreSocket::open(ip(peer))).expect("GRE socket");
        assert_eq!(left.local(), ip(ours));
        let mut buffer = [0; 4096];
        assert_eq!(left.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for length in [4, 100, 1480, 3000] {
            let gre: Vec<u8> = [0, 0, 0x08, 0].into_iter().chain((4..length).map(|n| n as u8)).collect();
            left.send_to(ip(peer), &gre).expect("send");
            let (source, range) = receive_when(&right, || right.receive(&mut buffer).map(Some));
            assert_eq!((source, &buffer[range]), (ip(ours), &gre[..]));
            right.send_to(source, &gre).expect("send back");
            let (source, range) = receive_when(&left, || left.receive(&mut buffer).map(Some));
            assert_eq!((source, &buffer[range]), (ip(peer), &gre[..]));
        }
    }
    let foreign = lab.inside(|| GreSocket::open(ip("203.0.113.5"))).unwrap_err();
    assert!(foreign.to_string().contains("give an interface of this machine this address first"), "{foreign}");
}

#[test]
fn gre_leaves_without_df_and_with_ttl_64() {
    let Some(lab) = Lab::new() else { return };
    let left = lab.inside(|| GreSocket::open(ip(OURS))).expect("GRE socket");
    // A second raw socket sees the IPv4 header that GreSocket strips.
    let right = lab.inside_theirs(|| {
        let kind = socket2::Type::RAW;
        socket2::Socket::new(socket2::Domain::IPV4, kind, Some(socket2::Protocol::from(47))).expect("raw socket")
    });
    right.set_nonblocking(true).unwrap();
    left.send_to(ip(PEER), &[0, 0, 8, 0]).expect("send");
    let mut packet = [0; 64];
    let length = receive_when(&right, || io::Read::read(&mut &right, &mut packet).map(Some));
    assert_eq!((length, packet[0], packet[6] & 0x40, packet[8], packet[9]), (24, 0x45, 0, 64, 47));
}

#[test]
fn control_messages_go_there_and_back_in_both_families() {
    let Some(lab) = Lab::new() else { return };
    let open = || [OURS, OURS6].map(|rloc| ControlSocket::open(ip(rloc)).expect("control socket"));
    let ours = lab.inside(open);
    let busy = lab.inside(|| ControlSocket::open(ip(OURS))).unwrap_err();
    assert!(busy.to_string().contains("another LISP router runs on this machine"), "{busy}");
    let theirs = lab.inside_theirs(|| [PEER, PEER6].map(|rloc| ControlSocket::open(ip(rloc)).expect("control socket")));
    for (left, right) in ours.iter().zip(&theirs) {
        let mut buffer = [0; 64];
        assert_eq!(left.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        left.send_to(SocketAddr::new(right.local(), CONTROL_PORT), b"request").expect("send");
        let (length, from) = receive_when(right, || right.receive(&mut buffer).map(Some));
        assert_eq!((&buffer[..length], from), (&b"request"[..], SocketAddr::new(left.local(), CONTROL_PORT)));
        right.send_to(from, b"reply").expect("send back");
        let (length, from) = receive_when(left, || left.receive(&mut buffer).map(Some));
        assert_eq!((&buffer[..length], from), (&b"reply"[..], SocketAddr::new(right.local(), CONTROL_PORT)));
    }
}

/// G-3, G-4: from whatever port, but not with a wrong UDP checksum, nor without one.
#[test]
fn control_messages_need_a_checksum_and_no_particular_source_port() {
    let Some(lab) = Lab::new() else { return };
    for (ours, peer) in [(OURS, PEER), (OURS6, PEER6)] {
        let socket = lab.inside(|| ControlSocket::open(ip(ours)).expect("control socket"));
        let raw = lab.inside_theirs(|| IpSocket::open(ip(peer)).expect("raw socket"));
        let datagram = |port: u16, payload: &[u8]| {
            let (source, destination) = ((ip(peer), port).into(), (ip(ours), CONTROL_PORT).into());
            UdpPacket { source, destination, ttl: 64, payload }.encode()
        };
        let checksum = if ip(ours).is_ipv4() { 26..28 } else { 46..48 };
        let without = |payload: &[u8]| {
            let mut packet = datagram(CONTROL_PORT, payload);
            packet[checksum.clone()].fill(0);
            packet
        };
        let mut wrong = datagram(CONTROL_PORT, b"wrong checksum");
        *wrong.last_mut().unwrap() ^= 1;
        let good = datagram(61_001, b"from another port");
        for packet in [without(b"no checksum"), wrong, without(b""), good] {
            raw.send(ip(ours), &packet).expect("send");
        }
        // They arrive in the order in which they were sent.
        let mut buffer = [0; 64];
        let (length, from) = receive_when(&socket, || socket.receive(&mut buffer).map(Some));
        assert_eq!((&buffer[..length], from), (&b"from another port"[..], SocketAddr::new(ip(peer), 61_001)));
    }
}

/// RTR-8: port 4341 of an RLOC, beside 4342; a datagram in the guise of data may come without a UDP checksum.
#[test]
fn what_comes_in_the_guise_of_data_needs_no_checksum() {
    let Some(lab) = Lab::new() else { return };
    let (socket, _control) = lab.inside(|| {
        let data = ControlSocket::open_data(ip(OURS)).expect("data socket");
        (data, ControlSocket::open(ip(OURS)).expect("control socket"))
    });
    let raw = lab.inside_theirs(|| IpSocket::open(ip(PEER)).expect("raw socket"));
    let (source, destination) = ((ip(PEER), CONTROL_PORT).into(), (ip(OURS), 4341).into());
    let mut packet = UdpPacket { source, destination, ttl: 64, payload: b"notify" }.encode();
    packet[26..28].fill(0);
    raw.send(ip(OURS), &packet).expect("send");
    let mut buffer = [0; 64];
    let (length, from) = receive_when(&socket, || socket.receive(&mut buffer).map(Some));
    assert_eq!((&buffer[..length], from), (&b"notify"[..], SocketAddr::new(ip(PEER), CONTROL_PORT)));
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Polls `source` and calls `receive` until it gives something.
fn receive_when<T>(source: impl AsFd, mut receive: impl FnMut() -> io::Result<Option<T>>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match receive() {
            Ok(Some(received)) => return received,
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(source.as_fd(), Duration::from_millis(200)),
            Err(error) => panic!("receive: {error}"),
        }
        assert!(Instant::now() < deadline, "nothing came");
    }
}

fn wait(source: BorrowedFd<'_>, at_most: Duration) {
    let timeout = PollTimeout::try_from(at_most).unwrap();
    poll(&mut [PollFd::new(source, PollFlags::POLLIN)], timeout).expect("poll");
}

/// The machine and the socket it lives on, with the port 7 on `core`.
struct Control {
    netlink: Netlink,
    underlay: Underlay,
    changed: Vec<IpAddr>,
}

impl Control {
    fn start(lab: &Lab) -> Self {
        let mut inputs = Vec::new();
        let netlink = lab.inside(|| {
            let mut netlink = Netlink::open().expect("netlink");
            netlink.start(&mut inputs).expect("first round");
            netlink
        });
        let mut control = Self { netlink, underlay: Underlay::new(vec![(7, "core".to_owned())]), changed: Vec::new() };
        for input in inputs {
            control.step(input);
        }
        control
    }

    fn step(&mut self, input: Input) {
        let mut todo = Vec::new();
        self.underlay.step(Instant::now(), input, &mut todo);
        for output in todo {
            self.netlink.perform(&output).expect("perform");
            if let Output::Changed(destination) = output {
                self.changed.push(destination);
            }
        }
    }

    fn watch(&mut self, destination: &str) {
        self.step(Input::Watch(ip(destination)));
    }

    fn progress(&self, destination: &str) -> Progress {
        self.underlay.explain(ip(destination))
    }

    /// Runs until `condition` holds.
    fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut inputs = Vec::new();
        loop {
            self.netlink.receive(&mut inputs).expect("receive");
            for input in inputs.drain(..) {
                self.step(input);
            }
            self.step(Input::Wake);
            if condition(self) {
                return;
            }
            let state: Vec<_> = self.underlay.watched().take(9).map(|d| (d, self.underlay.explain(d))).collect();
            assert!(Instant::now() < deadline, "never came true: {state:?}, {:?}", self.netlink.counters());
            let due = self.underlay.due().map_or(PATIENCE, |due| due.saturating_duration_since(Instant::now()));
            wait(self.netlink.as_fd(), due.min(Duration::from_millis(200)));
        }
    }
}

/// Two namespaces, each with one end, `core`, of a veth pair.
struct Lab(Namespaces);

impl Lab {
    fn new() -> Option<Self> {
        let lab = Self(Namespaces::new("altos", &["ours", "theirs"])?);
        let (ours, theirs) = (lab.0.of("ours"), lab.0.of("theirs"));
        namespaces::ip(&format!("link add core netns {ours} type veth peer name core netns {theirs}"));
        for (role, end) in [("ours", 10), ("theirs", 20)] {
            lab.0.ip(role, &format!("link set core address 02:00:00:00:00:{end}"));
            lab.0.ip(role, &format!("addr add 240.0.254.{end}/24 dev core"));
            lab.0.ip(role, &format!("addr add 2001:db8::{end}/64 dev core nodad"));
            lab.0.ip(role, "link set core up");
        }
        Some(lab)
    }

    /// Runs `ip` in our namespace.
    fn ours(&self, arguments: &str) {
        self.0.ip("ours", arguments);
    }

    fn theirs(&self, arguments: &str) {
        self.0.ip("theirs", arguments);
    }

    fn show(&self, arguments: &str) -> String {
        self.0.ip("ours", arguments)
    }

    fn batch(&self, lines: &str) {
        self.0.batch("ours", lines);
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.inside("ours", work)
    }

    fn inside_theirs<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.inside("theirs", work)
    }
}
