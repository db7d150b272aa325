//! TCP for BGP against a real kernel: two network namespaces joined by a veth pair.
//!
//! Needs root; without it every test says so and passes.

mod namespaces;

use std::{
    fs,
    io::{self, Read, Write},
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use altitude_control::os::bgp_socket::{BGP_PORT, BgpListener, FarEnd, connected, dial, settle};
use mio::net::TcpStream;
use namespaces::Namespaces;

const OURS: [&str; 2] = ["10.42.1.1", "fd42::1"];
const THEIRS: [&str; 2] = ["10.42.1.2", "fd42::2"];

/// Far more than anything here takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_connection_carries_octets_both_ways_and_no_further_than_the_next_hop() {
    let Some(lab) = Lab::new() else { return };
    for (ours, theirs) in OURS.into_iter().zip(THEIRS) {
        let listener = lab.listen(ours, &[plain(theirs)]).expect("listen");
        assert_eq!(listener.local(), ip(ours));
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut dialled = lab.dial(theirs, plain(ours)).expect("dial");
        let (mut accepted, from) = until(|| listener.accept().ok());
        assert_eq!(from, ip(theirs));
        settle(&accepted, &plain(theirs)).expect("settle");
        until(|| connected(&dialled).expect("connected").then_some(()));
        assert_eq!(dialled.peer_addr().unwrap().port(), BGP_PORT);
        exchange(&mut dialled, &mut accepted);
        exchange(&mut accepted, &mut dialled);
        if ip(ours).is_ipv4() {
            assert_eq!((dialled.ttl().unwrap(), accepted.ttl().unwrap()), (1, 1));
        }
    }
}

#[test]
fn the_same_password_connects_and_another_does_not() {
    let Some(lab) = Lab::new() else { return };
    for (ours, theirs) in OURS.into_iter().zip(THEIRS) {
        let listener = lab.listen(ours, &[signed(theirs, "correct horse")]).expect("listen");
        for (far, counter) in [(signed(ours, "battery staple"), "TCPMD5Failure"), (plain(ours), "TCPMD5NotFound")] {
            let before = lab.counter(counter);
            let dialled = lab.dial(theirs, far).expect("dial");
            until(|| (lab.counter(counter) > before).then_some(()));
            assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "{counter}");
            assert!(!connected(&dialled).expect("still trying"));
        }
        let mut dialled = lab.dial(theirs, signed(ours, "correct horse")).expect("dial");
        let (mut accepted, _) = until(|| listener.accept().ok());
        until(|| connected(&dialled).expect("connected").then_some(()));
        exchange(&mut dialled, &mut accepted);
        exchange(&mut accepted, &mut dialled);
        // Another password later, then none.
        listener.sign(&signed(theirs, "battery staple")).expect("sign");
        drop((dialled, accepted));
        let dialled = lab.dial(theirs, signed(ours, "battery staple")).expect("dial");
        until(|| connected(&dialled).expect("connected").then_some(()));
        listener.sign(&plain(theirs)).expect("sign");
        let dialled = lab.dial(theirs, plain(ours)).expect("dial");
        until(|| connected(&dialled).expect("connected").then_some(()));
    }
}

#[test]
fn what_may_have_passed_a_router_is_dropped_where_ttl_security_is_asked_for() {
    let Some(lab) = Lab::new() else { return };
    for (ours, theirs) in OURS.into_iter().zip(THEIRS) {
        let listener = lab.listen(ours, &[secure(theirs)]).expect("listen");
        let before = lab.counter("TCPMinTTLDrop");
        let lower = lab.dial(theirs, plain(ours)).expect("dial");
        until(|| (lab.counter("TCPMinTTLDrop") > before).then_some(()));
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!connected(&lower).expect("still trying"));
        let mut dialled = lab.dial(theirs, secure(ours)).expect("dial");
        let (mut accepted, _) = until(|| listener.accept().ok());
        settle(&accepted, &secure(theirs)).expect("settle");
        until(|| connected(&dialled).expect("connected").then_some(()));
        exchange(&mut dialled, &mut accepted);
        exchange(&mut accepted, &mut dialled);
    }
}

#[test]
fn refusals_and_mistakes_are_told_with_what_to_do() {
    let Some(lab) = Lab::new() else { return };
    let refused = lab.dial(OURS[0], plain(THEIRS[0])).expect("dial");
    let error = until(|| connected(&refused).err());
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let error = lab.listen("192.0.2.1", &[]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let text = error.to_string();
    assert!(text.contains("192.0.2.1") && text.contains("give an interface"), "{text}");
    let _first = lab.listen(OURS[0], &[]).expect("listen");
    let text = lab.listen(OURS[0], &[]).unwrap_err().to_string();
    assert!(text.contains("another BGP speaker"), "{text}");
    let long = "x".repeat(81);
    let text = lab.listen(OURS[1], &[signed(THEIRS[1], &long)]).unwrap_err().to_string();
    assert!(text.contains("1 to 80 octets"), "{text}");
}

fn plain(address: &str) -> FarEnd<'_> {
    FarEnd { address: ip(address), password: None, ttl_security: false }
}

fn secure(address: &str) -> FarEnd<'_> {
    FarEnd { ttl_security: true, ..plain(address) }
}

fn signed<'a>(address: &str, password: &'a str) -> FarEnd<'a> {
    FarEnd { address: ip(address), password: Some(password), ttl_security: false }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What `attempt` comes to at last.
fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

fn exchange(from: &mut TcpStream, to: &mut TcpStream) {
    let mut octets = [0; 32];
    from.write_all(b"a message of some octets").expect("write");
    let length = until(|| to.read(&mut octets).ok());
    assert_eq!(&octets[..length], b"a message of some octets");
}

/// Two namespaces and a link between them.
struct Lab(Namespaces);

impl Lab {
    fn new() -> Option<Self> {
        let lab = Self(Namespaces::new("altbgp", &["ours", "theirs"])?);
        let (ours, theirs) = (lab.0.of("ours"), lab.0.of("theirs"));
        namespaces::ip(&format!("link add alt0 netns {ours} type veth peer name alt0 netns {theirs}"));
        for (role, addresses) in [("ours", OURS), ("theirs", THEIRS)] {
            lab.0.ip(role, &format!("addr add {}/30 dev alt0", addresses[0]));
            lab.0.ip(role, &format!("addr add {}/64 dev alt0 nodad", addresses[1]));
            lab.0.ip(role, "link set alt0 up");
        }
        Some(lab)
    }

    fn listen(&self, local: &str, far: &[FarEnd<'_>]) -> io::Result<BgpListener> {
        self.0.inside("ours", || BgpListener::open(ip(local), far))
    }

    /// From the namespace that has `local`.
    fn dial(&self, local: &str, far: FarEnd<'_>) -> io::Result<TcpStream> {
        let role = if OURS.contains(&local) { "ours" } else { "theirs" };
        self.0.inside(role, || dial(ip(local), &far))
    }

    /// One of the kernel's counters of TCP, in our namespace.
    fn counter(&self, name: &str) -> u64 {
        let text = self.0.inside("ours", || fs::read_to_string("/proc/thread-self/net/netstat").expect("counters"));
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("TcpExt:")).collect();
        let [names, values] = lines[..] else { panic!("{text}") };
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let (_, value) = pairs.find(|(found, _)| *found == name).expect("a counter of this name");
        value.parse().expect("a number")
    }
}
