//! Two ALT routers as processes, each in a network namespace of its own, with a router between them: what goes through their
//! tunnel, and what may not.
//!
//! ```text
//! left 240.0.1.10 ── mid ── 240.0.2.20 right       alt0: 10.42.0.1 ═══ 10.42.0.2
//! ```
//!
//! Needs root; without it every test says so and passes.

mod namespaces;

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use altitude_control::{
    alt::keepalive::Hint,
    os::{gre_socket::GreSocket, path_mtu::path_mtu, tun::Tun},
    wire::{MapRequest, packet::UdpPacket},
};
use altitude_dataplane::mapping::{Eid, EidPrefix, InstanceId};
use namespaces::Namespaces;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const LEFT: &str = "240.0.1.10";
const RIGHT: &str = "240.0.2.20";
/// Far more than anything here takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// Enough for the kernel to look at what an ICMP error quotes.
const PAYLOAD: [u8; 20] = [0x45; 20];
/// Octets of a transfer that a full BGP table takes.
const TABLE: usize = 4 << 20;

#[test]
fn a_table_goes_through_whole_though_the_way_carries_1400_octets() {
    // In the middle, where the routers cannot see it and outer packets are fragmented; and at the end, where they can.
    for (narrow, mtu) in [("mid", 1476), ("left", 1376)] {
        let Some(lab) = Lab::new() else { return };
        if narrow == "mid" {
            lab.ip("mid", "link set right mtu 1400");
        } else {
            lab.ip("left", "link set core mtu 1400");
        }
        let (left, _right) = (lab.router("left", &[]), lab.router("right", &[]));
        left.until("the MTU of alt0", |show| show.contains(&format!("\"mtu\": {mtu}")));
        assert!(lab.ip("left", "link show dev alt0").contains(&format!("mtu {mtu} ")));
        assert_eq!(lab.transfer(TABLE), TABLE, "{narrow}");
        if narrow == "left" {
            // It follows a change.
            lab.ip("left", "link set core mtu 1500");
            left.until("the MTU of alt0", |show| show.contains("\"mtu\": 1476"));
        }
    }
}

#[test]
fn bad_gre_is_counted_by_its_reason_and_spares_what_runs_through_the_tunnel() {
    let Some(lab) = Lab::new() else { return };
    let (left, _right) = (lab.router("left", &[",key=7,checksum"]), lab.router("right", &[",key=7,checksum"]));
    let mut session = lab.session();
    session.pass(b"before");
    // From the far end's address, as only it can be told: a tunnel of the same ends with wrong packets in it.
    let spoof = lab.inside("right", || GreSocket::open(RIGHT.parse().unwrap())).expect("GRE socket");
    let looped = ip_packet(RIGHT, LEFT, 47, &[0x20, 0, 0x88, 0xbe, 0, 0, 0, 7]);
    let wrong = [
        ("gre-unknown-key", vec![0x20, 0, 8, 0, 0, 0, 0, 8, 0x45]),
        ("gre-bad-version", vec![0x20, 1, 8, 0, 0, 0, 0, 7, 0x45]),
        ("gre-bad-checksum", vec![0xa0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 7, 0x45]),
        ("gre-malformed", vec![0x60, 0, 8, 0, 0, 0, 0, 7, 0x45]),
        ("gre-not-ip", vec![0x20, 0, 8, 6, 0, 0, 0, 7, 0x45]),
        ("gre-in-gre", [&[0x20, 0, 8, 0, 0, 0, 0, 7], &looped[..]].concat()),
        ("alt-loops-back", [&[0x20, 0, 8, 0, 0, 0, 0, 7], &ip_packet(LEFT, RIGHT, 17, &[0; 8])[..]].concat()),
        ("alt-to-rloc", [&[0x20, 0, 8, 0, 0, 0, 0, 7], &ip_packet("9.9.9.9", LEFT, 17, &[0; 8])[..]].concat()),
        (
            "alt-not-a-datagram",
            [&[0x20, 0, 8, 0, 0, 0, 0, 7], &ip_packet("9.9.9.9", "2.2.2.2", 6, &[0; 20])[..]].concat(),
        ),
    ];
    for (_, packet) in &wrong {
        for _ in 0..3 {
            spoof.send_to(LEFT.parse().unwrap(), packet).expect("send");
        }
    }
    for (name, _) in &wrong {
        left.until_counted(name, 3);
    }
    session.pass(b"after");
}

#[test]
fn keepalives_tell_that_the_far_end_is_gone_and_that_it_is_back() {
    let Some(lab) = Lab::new() else { return };
    let left = lab.router("left", &[",keepalive=1,keepalive-losses=2"]);
    let is = |show: &str, state: &str| show.contains(&format!("\"state\": \"{state}\""));
    // The far end does not watch, but answers: it need not be configured.
    let right = lab.router("right", &[]);
    left.until("a tunnel that is up", |show| is(show, "up") && !show.contains("\"received\": 0"));
    drop(right);
    left.until("a silent far end", |show| is(show, "down"));
    assert!(left.log().contains("down: no keepalive came back"), "{}", left.log());
    // Nobody there speaks GRE, and the kernel says so: a hint.
    left.until("ICMP hints", |show| !show.contains("\"icmp-hints\": 0"));
    let _right = lab.router("right", &[]);
    left.until("a far end that is back", |show| is(show, "up"));
    // A link is seen at once, without any keepalive.
    lab.ip("left", "link set core down");
    left.until("a link that is down", |show| is(show, "down"));
    assert!(left.log().contains("down: no link or route to the far end"), "{}", left.log());
}

#[test]
fn an_icmp_error_of_the_underlay_is_a_hint_and_nothing_more() {
    let Some(lab) = Lab::new() else { return };
    // No program: the far end's kernel knows no GRE, and says so.
    let socket = lab.inside("left", || GreSocket::open(LEFT.parse().unwrap())).expect("GRE socket");
    let remote: IpAddr = RIGHT.parse().unwrap();
    assert_eq!(first_hint(&socket, remote), (remote, Hint::Protocol));
    // The error that waits does not stop the next packet, to whomever.
    socket.send(remote, &[0, 0, 8, 0], &PAYLOAD).expect("send");
    lab.ip("mid", "route add unreachable 240.0.3.0/24");
    let nowhere: IpAddr = "240.0.3.1".parse().unwrap();
    while socket.hint().is_ok() {}
    assert_eq!(first_hint(&socket, nowhere), (nowhere, Hint::Host));
    // Without keepalives the tunnel stays up.
    let left = lab.router("left", &[]);
    lab.inside("left", || std::net::UdpSocket::bind("10.42.0.1:0").unwrap().send_to(b"x", "10.42.0.2:9").unwrap());
    left.until("ICMP hints", |show| !show.contains("\"icmp-hints\": 0") && show.contains("\"state\": \"up\""));
}

#[test]
fn the_kernels_gre_serves_or_is_refused_where_there_is_none() {
    let Some(lab) = Lab::new() else { return };
    let probe = Command::new("ip")
        .args(["-n", &lab.namespaces.of("mid"), "link", "add", "probe", "type", "gre"])
        .args(["local", "240.0.1.1", "remote", "240.0.1.10"])
        .output()
        .expect("ip");
    if probe.status.success() {
        // One end the kernel's, the other ours.
        let (left, _right) =
            (lab.router("left", &[",key=7,checksum,kernel"]), lab.router("right", &[",key=7,checksum"]));
        assert!(lab.ip("left", "-details link show dev alt0").contains("gre"));
        assert_eq!(lab.transfer(TABLE), TABLE);
        drop(left);
        assert!(!lab.ip("left", "link").contains("alt0"), "it goes with its router");
        return;
    }
    let output = lab.command("left", &[",kernel"]).output().expect("altitude");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let text = "asks for the kernel's GRE, and this kernel has none: `modprobe ip_gre`, or leave `kernel` out";
    assert!(said.contains(text), "{said}");
    assert!(!lab.ip("left", "rule").contains("alt0"), "nothing is left behind");
}

#[test]
fn an_interface_that_is_there_serves_as_the_tunnel() {
    let Some(lab) = Lab::new() else { return };
    // What is behind it, the kernel's GRE or anything else, is played by the test.
    let far_end = lab.inside("left", || Tun::open("alt0", 1400, &[])).expect("TUN");
    lab.forward("left");
    let mut command = lab.command("left", &[",kernel"]);
    command.args(["--alt-tunnel", "alt1,remote=240.0.2.20,key=9,address=10.42.1.1/30"]);
    command.args(["--alt-route", "3.3.0.0/16=alt1"]);
    let left = lab.start("left", command);
    let gre = lab.inside("right", || GreSocket::open(RIGHT.parse().unwrap())).expect("GRE socket");
    let replies = lab.inside("right", || UdpSocket::bind((RIGHT, 4342))).expect("UDP socket");
    replies.set_read_timeout(Some(PATIENCE)).unwrap();

    // Out of it: what leads nowhere, answered on the underlay; the rest, on through our own GRE.
    far_end.send(&map_request(7, "4.4.4.4")).expect("send");
    let (mut octets, from) = ([0; 1500], SocketAddr::new(LEFT.parse().unwrap(), 4342));
    let (length, replied) = replies.recv_from(&mut octets).expect("a Map-Reply");
    assert_eq!((octets[0] >> 4, &octets[4..12], replied), (2, &7_u64.to_be_bytes()[..], from));
    assert!(length > 12);
    far_end.send(&map_request(8, "3.3.3.3")).expect("send");
    let forwarded = wait_for("a datagram through our own GRE", || {
        let (_, range) = gre.receive(&mut octets).ok()?;
        let packet = octets[range].get(8..)?.to_vec(); // after GRE header and key
        (packet.get(16..20) == Some(&[3, 3, 3, 3])).then_some(packet)
    });
    assert_eq!(forwarded[8], 63, "one hop less");

    // Into it: what our own GRE brings, and what the kernel answers at the tunnel's address.
    let arrives = [&[0x20, 0, 8, 0, 0, 0, 0, 9][..], &map_request(9, "2.2.2.2")].concat();
    gre.send_to(LEFT.parse().unwrap(), &arrives).expect("send");
    let mut came = |destination: [u8; 4]| {
        wait_for("a packet in the tunnel", || {
            let length = far_end.receive(&mut octets).ok()?;
            (octets[16..20] == destination).then(|| octets[..length].to_vec())
        })
    };
    assert_eq!(came([2, 2, 2, 2])[8], 63);
    far_end.send(&ip_packet("10.42.0.2", "10.42.0.1", 1, &[8, 0, 0xf7, 0xfd, 0, 1, 0, 1])).expect("send");
    assert_eq!(came([10, 42, 0, 2])[20], 0, "an echo reply");

    // What came out took none of the kernel's own routes, though it forwards: the whole default route leads to the middle.
    assert!(lab.ip("left", "rule").contains("from all iif alt0 blackhole"));
    let forwarded = lab.inside("left", || fs::read_to_string("/proc/thread-self/net/snmp")).expect("counters");
    let lines: Vec<&str> = forwarded.lines().filter(|line| line.starts_with("Ip:")).collect();
    let place = lines[0].split(' ').position(|name| name == "ForwDatagrams").expect("a counter");
    assert_eq!(lines[1].split(' ').nth(place), Some("0"), "{forwarded}");
    drop(left);
    assert!(!lab.ip("left", "rule").contains("alt0"), "the rule goes with its router");
    assert!(lab.ip("left", "link").contains("alt0"), "the interface was not the router's");
}

#[test]
fn the_path_mtu_is_the_routes_or_else_the_interfaces() {
    let Some(lab) = Lab::new() else { return };
    let ask = || lab.inside("left", || path_mtu(LEFT.parse().unwrap(), RIGHT.parse().unwrap()));
    assert_eq!(ask().unwrap(), 1500);
    lab.ip("left", "link set core mtu 1400");
    assert_eq!(ask().unwrap(), 1400);
    lab.ip("left", "route replace default via 240.0.1.1 mtu 1380");
    assert_eq!(ask().unwrap(), 1380);
    lab.ip("left", "route del default");
    assert!(ask().unwrap_err().to_string().contains("ask for the path MTU from 240.0.1.10 to 240.0.2.20"));
}

/// Sends until an ICMP error is there: the first packets wait for the neighbour to be found.
fn first_hint(socket: &GreSocket, remote: IpAddr) -> (IpAddr, Hint) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let _ = socket.send(remote, &[0, 0, 8, 0], &PAYLOAD);
        if let Ok(Some(hint)) = socket.hint() {
            return hint;
        }
        assert!(Instant::now() < deadline, "no ICMP error from {remote}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// An ALT datagram of the far end: a Map-Request for an EID, to be answered there.
fn map_request(nonce: u64, eid: &str) -> Vec<u8> {
    let eid: IpAddr = eid.parse().unwrap();
    let host = EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: eid });
    let request = MapRequest::lookup(nonce, None, &[RIGHT.parse().unwrap()], host);
    let source = SocketAddr::new(RIGHT.parse().unwrap(), 4342);
    let destination = SocketAddr::new(eid, 4342);
    UdpPacket { source, destination, ttl: 64, payload: &request.encode() }.encode()
}

/// An IPv4 packet, its header checksum right.
fn ip_packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let mut packet = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend(octets(source));
    packet.extend(octets(destination));
    let sum = altitude_dataplane::wire::checksum::checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// Three namespaces in a row.
struct Lab {
    namespaces: Namespaces,
    folder: PathBuf,
}

impl Lab {
    fn new() -> Option<Self> {
        let namespaces = Namespaces::new("alttun", &["left", "mid", "right"])?;
        let folder = std::env::temp_dir().join(namespaces.name());
        fs::create_dir_all(&folder).expect("a folder");
        let lab = Self { namespaces, folder };
        for (role, number, end) in [("left", 1, 10), ("right", 2, 20)] {
            let (inside, mid) = (lab.namespaces.of(role), lab.namespaces.of("mid"));
            namespaces::ip(&format!("link add core netns {inside} type veth peer name {role} netns {mid}"));
            lab.ip(role, &format!("addr add 240.0.{number}.{end}/24 dev core"));
            lab.ip("mid", &format!("addr add 240.0.{number}.1/24 dev {role}"));
            lab.ip(role, "link set core up");
            lab.ip("mid", &format!("link set {role} up"));
            lab.ip(role, &format!("route add default via 240.0.{number}.1"));
        }
        lab.forward("mid");
        Some(lab)
    }

    /// Has a kernel forward packets.
    fn forward(&self, role: &str) {
        self.inside(role, || fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding"));
    }

    fn ip(&self, role: &str, arguments: &str) -> String {
        self.namespaces.ip(role, arguments)
    }

    fn inside<T: Send>(&self, role: &str, work: impl FnOnce() -> T + Send) -> T {
        self.namespaces.inside(role, work)
    }

    /// `altitude run` with a tunnel to the other side and these options of it.
    fn command(&self, role: &str, options: &[&str]) -> Command {
        let (local, remote, end) = if role == "left" { (LEFT, RIGHT, 1) } else { (RIGHT, LEFT, 2) };
        let tunnel = format!("alt0,remote={remote},address=10.42.0.{end}/30{}", options.concat());
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespaces.of(role), env!("CARGO_BIN_EXE_altitude"), "run"]);
        command.arg("--api").arg(self.folder.join(format!("{role}.sock")));
        command.args(["--rloc", local, "--alt-tunnel", &tunnel, "--alt-route", "2.2.0.0/16=alt0"]);
        command
    }

    fn router(&self, role: &str, options: &[&str]) -> Router {
        self.start(role, self.command(role, options))
    }

    fn start(&self, role: &str, mut command: Command) -> Router {
        let log = self.folder.join(format!("{role}.log"));
        let out = File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out);
        let router =
            Router { child: command.spawn().expect("altitude"), log, api: self.folder.join(format!("{role}.sock")) };
        router.until("readiness", |_| router.log().contains("ready"));
        router
    }

    /// A TCP connection through the tunnel.
    fn session(&self) -> Session {
        let listener = self.inside("right", || TcpListener::bind("10.42.0.2:179")).expect("the tunnel's address");
        let near = self.inside("left", || {
            TcpStream::connect_timeout(&SocketAddr::from(([10, 42, 0, 2], 179)), PATIENCE).expect("through the tunnel")
        });
        let (far, _) = listener.accept().expect("accept");
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        near.set_write_timeout(Some(PATIENCE)).unwrap();
        Session { near, far }
    }

    /// Sends so many octets through the tunnel and returns how many came, each as it was sent.
    fn transfer(&self, octets: usize) -> usize {
        let Session { mut near, mut far } = self.session();
        thread::scope(|scope| {
            scope.spawn(move || {
                let pattern: Vec<u8> = (0..octets).map(|index| (index % 251) as u8).collect();
                near.write_all(&pattern).expect("send");
            });
            let mut came = Vec::new();
            far.read_to_end(&mut came).expect("receive");
            assert!(came.iter().enumerate().all(|(index, octet)| *octet == (index % 251) as u8));
            came.len()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // No assertion: this runs while a failed one unwinds.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Session {
    near: TcpStream,
    far: TcpStream,
}

impl Session {
    fn pass(&mut self, octets: &[u8]) {
        self.near.write_all(octets).expect("send");
        let mut came = vec![0; octets.len()];
        self.far.read_exact(&mut came).expect("receive");
        assert_eq!(came, octets);
    }
}

struct Router {
    child: Child,
    log: PathBuf,
    api: PathBuf,
}

impl Router {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn show(&self, what: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_altitude"));
        let output = command.args(["show", what, "--json", "--api"]).arg(&self.api).output().expect("altitude");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until what `show alt` prints is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let show = self.show("alt");
            if wanted(&show) {
                return;
            }
            assert!(Instant::now() < deadline, "never came: {what}\n{show}\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a counter of the control thread stands at `count`, or above: the kernel's own multicasts go through a tunnel.
    fn until_counted(&self, name: &str, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let show = self.show("counters");
            let json: serde_json::Value = serde_json::from_str(&show).expect("JSON");
            let seen = json["control"][name].as_u64();
            if seen >= Some(count) {
                return;
            }
            assert!(seen.is_some() && Instant::now() < deadline, "{name} is {seen:?}, not {count}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
