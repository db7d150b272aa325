//! A network namespace per test, veth pairs in it, and a station with a packet socket at the far end of each.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use altitude_dataplane::{
    frame::{Frame, Umem},
    mapping::MacAddress,
    port::{
        Port,
        xsk::{Interface, SocketOptions, XskError, XskPort, open_worker, sleeper},
    },
    run::Sleep,
};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sched::{CloneFlags, unshare},
    sys::{
        socket::{
            AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt,
            socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};

/// Longest wait for something that must come. Passing it fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Frames that a port is asked for at once.
pub(crate) const LIMIT: usize = 64;

/// Runs `story` in a network namespace of its own, which is gone when it ends, however it ends.
pub(crate) fn in_namespace(story: impl FnOnce() + Send) {
    let entered = |story: Box<dyn FnOnce() + Send + '_>| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            return println!("SKIP: a network namespace of its own needs root: {error}");
        }
        if Command::new("ip").arg("-V").output().is_err() {
            return println!("SKIP: the command 'ip' (package iproute2) is not there");
        }
        story();
    };
    // A thread, because a namespace belongs to one, and tests run in parallel threads of one process.
    let outcome = thread::scope(|scope| scope.spawn(|| entered(Box::new(story))).join());
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// `open_worker`, with the kernel's lack of AF_XDP told from failure.
pub(crate) fn open(interfaces: &[&Interface], options: &SocketOptions) -> Option<(Umem, Vec<XskPort>)> {
    let interfaces: Vec<Interface> = interfaces.iter().map(|&interface| interface.clone()).collect();
    match open_worker(&interfaces, 0, options) {
        Ok(opened) => Some(opened),
        Err(XskError::NoAfXdp) => {
            println!("SKIP: {}", XskError::NoAfXdp);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A veth pair, both ends up, without addresses.
pub(crate) struct Link {
    pub(crate) near: Interface,
    pub(crate) far: Interface,
}

pub(crate) fn link(near: &str, far: &str) -> Link {
    ip(&format!("link add {near} numrxqueues 1 numtxqueues 1 type veth peer name {far} numrxqueues 1 numtxqueues 1"));
    for end in [near, far] {
        // No link-local address, so nothing is sent that the test did not send.
        ip(&format!("link set dev {end} addrgenmode none"));
        ip(&format!("link set dev {end} up"));
    }
    Link { near: Interface::named(near).unwrap(), far: Interface::named(far).unwrap() }
}

fn link_address(interface: &Interface) -> LinkAddr {
    getifaddrs()
        .unwrap()
        .filter(|entry| entry.interface_name == interface.name)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .unwrap()
}

pub(crate) fn mac(interface: &Interface) -> MacAddress {
    link_address(interface).addr().unwrap()
}

/// A packet socket on one interface.
pub(crate) struct Station {
    socket: OwnedFd,
    address: LinkAddr,
}

impl Station {
    pub(crate) fn on(interface: &Interface) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        let address = link_address(interface);
        bind(socket.as_raw_fd(), &address).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(20)).unwrap();
        Self { socket, address }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = sendto(self.socket.as_raw_fd(), frame, &self.address, MsgFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
    }

    /// The next frame on the interface, if one comes at once.
    pub(crate) fn try_receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 4096];
        match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => frame.truncate(length),
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            Err(error) => panic!("{error}"),
        }
        Some(frame)
    }

    /// Waits for a frame.
    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut frame = vec![0; 4096];
        let deadline = Instant::now() + PATIENCE;
        loop {
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) => {
                    frame.truncate(length);
                    return frame;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => assert!(Instant::now() < deadline, "no frame came"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Receives on `ports[index]` until a frame comes; sleeps in between as a worker does.
pub(crate) fn receive_one(ports: &mut [XskPort], index: usize, umem: &mut Umem) -> Frame {
    let (mut sleeper, _waker) = sleeper(ports).unwrap();
    let mut batch = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        ports[index].receive(umem, &mut batch, LIMIT);
        if let Some(frame) = batch.pop() {
            assert!(batch.is_empty(), "one frame was sent");
            return frame;
        }
        assert!(Instant::now() < deadline, "the socket received nothing: {:?}", ports[index].statistics());
        sleeper.sleep(Duration::from_millis(50));
    }
}

pub(crate) fn ethernet(to: MacAddress, tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 0x99]);
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `fragment` is flags and offset as they are in the header; `options` a multiple of 4 octets.
pub(crate) fn ipv4(
    source: &str,
    destination: &str,
    protocol: u8,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let length = (20 + options.len() + payload.len()) as u16;
    let mut packet = vec![0x45 + (options.len() / 4) as u8, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.parse::<Ipv4Addr>().unwrap().octets());
    packet.extend(destination.parse::<Ipv4Addr>().unwrap().octets());
    packet.extend(options);
    let sum: u32 = packet.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

pub(crate) fn ipv6(source: &str, destination: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(source.parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(destination.parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(payload);
    packet
}

/// IPv6 Fragment header (RFC 8200 §4.5) in front of `payload`; `offset` in units of 8 octets.
pub(crate) fn fragment6(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![next, 0];
    packet.extend((offset << 3 | u16::from(more)).to_be_bytes());
    packet.extend([0, 0, 0, 1]);
    packet.extend(payload);
    packet
}

pub(crate) fn udp(destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = 50_000_u16.to_be_bytes().to_vec();
    datagram.extend(destination.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}
