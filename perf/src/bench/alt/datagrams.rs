//! ALT datagrams with all the routes of the load: how many a core forwards, in the process and through GRE sockets.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use altitude_control::{
    alt::{
        bgp::speaker::Speaker,
        datagrams::{CONTROL_PORT, Engine, Output, Settings},
        rib::{Hop, Rib},
        tunnels::{Options, Payload, Tunnel, TunnelId, Tunnels},
    },
    os::gre_socket::GreSocket,
    rate::Rate,
    wire::{MapRequest, packet::UdpPacket},
};
use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{feed, scale};
use crate::{
    bench::lpm::random::Random,
    lab::{LabError, Link, Namespace, veth},
};

/// Different datagrams: more than a cache holds of what their look-ups touch.
const DATAGRAMS: usize = 65_536;
/// Of them, between two looks at the clock.
const BATCH: usize = 32;
/// Our RLOC, and those of the far ends.
const RLOC: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const LONGEST: usize = 2048;

const fn far(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, 10 + index as u8)
}

fn tunnels() -> Tunnels {
    let tunnel = |index| Tunnel {
        name: format!("alt{index}"),
        local: RLOC.into(),
        remote: far(index).into(),
        key: None,
        checksum: false,
        addresses: vec![(feed::local(index).into(), 24)],
        options: Options::default(),
    };
    Tunnels::new((0..feed::NEIGHBORS).map(tunnel).collect()).expect("plain tunnels")
}

/// An engine that lets everything through.
fn engine(tunnels: &Tunnels) -> Engine {
    let all = Rate { burst: u32::MAX, every: Duration::from_nanos(1) };
    Engine::new(Settings { ingress: all, ..Settings::new(vec![RLOC.into()], Vec::new()) }, tunnels)
}

/// Map-Requests for EIDs in random prefixes whose routes lead on from the first tunnel.
fn datagrams(speaker: &Speaker, prefixes: &[Prefix]) -> Vec<Vec<u8>> {
    let mut random = Random::new(0xd9);
    let mut packets = Vec::with_capacity(DATAGRAMS);
    while packets.len() < DATAGRAMS {
        let prefix = prefixes[random.below(prefixes.len())];
        let address = prefix.address();
        let way = speaker.lookup(InstanceId::DEFAULT, address);
        if !matches!(way, Some(Hop::Tunnel(tunnel)) if tunnel != TunnelId(0)) {
            continue;
        }
        let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix: Prefix::host(address) };
        let itr: IpAddr = Ipv4Addr::new(198, 51, 100, 7).into();
        let request = MapRequest::lookup(random.next(), None, &[itr], eid);
        let source: IpAddr = match address {
            IpAddr::V4(_) => itr,
            IpAddr::V6(_) => feed::address6(200, 7).into(),
        };
        let (source, destination) = ((source, CONTROL_PORT).into(), (address, CONTROL_PORT).into());
        packets.push(UdpPacket { source, destination, ttl: 64, payload: &request.encode() }.encode());
    }
    packets
}

/// Thousands a CPU-second through the engine alone; each datagram is copied in first, as from a socket.
///
/// # Errors
/// If one of them was not forwarded.
pub(super) fn in_process(speaker: &Speaker, prefixes: &[Prefix], quick: bool) -> Result<f64, String> {
    let packets = datagrams(speaker, prefixes);
    let mut engine = engine(&tunnels());
    let (mut todo, mut buffer) = (Vec::new(), [0; LONGEST]);
    let passes = if quick { 2 } else { 32 };
    let mut start = scale::cpu();
    for pass in 0..=passes {
        if pass == 1 {
            // The first pass warms up.
            start = scale::cpu();
        }
        for batch in packets.chunks(BATCH) {
            let now = Instant::now();
            for packet in batch {
                let octets = &mut buffer[..packet.len()];
                octets.copy_from_slice(packet);
                engine.receive(now, TunnelId(0), octets, speaker, &mut todo);
            }
            if todo.len() != batch.len() || !todo.iter().all(|output| matches!(output, Output::PassOn { .. })) {
                return Err(format!("a datagram was not forwarded: {todo:?}"));
            }
            todo.clear();
        }
    }
    Ok((passes * packets.len()) as f64 / (scale::cpu() - start).as_secs_f64() / 1e3)
}

/// Thousands a CPU-second of the thread that receives, forwards and sends; one neighbour sends as fast as it can.
///
/// # Errors
/// [`LabError`].
pub(super) fn through_sockets(quick: bool) -> Result<f64, LabError> {
    let prefixes = super::prefixes(quick).map_err(LabError::Wrong)?;
    let speaker = scale::run(&feed::split(prefixes.clone())).speaker;
    let packets = datagrams(&speaker, &prefixes);
    let owner = format!("alt{}", std::process::id());
    let (near, world) = (Namespace::create(&owner, "router")?, Namespace::create(&owner, "world")?);
    let link = (Link { namespace: &near, name: "core" }, Link { namespace: &world, name: "core" });
    veth(link.0, link.1, 1500)?;
    link.0.address(RLOC.into(), 24)?;
    (0..feed::NEIGHBORS).try_for_each(|index| link.1.address(far(index).into(), 24))?;
    let stop = Arc::new(AtomicBool::new(false));
    let arrived = Arc::new(AtomicU64::new(0));
    let count = if quick { 20_000 } else { 1_000_000 };
    let opened = near.inside(|| GreSocket::open(RLOC.into()))?.map_err(LabError::os("GRE socket"))?;
    // Before anything is sent: the kernel would answer for sockets that are not there yet.
    let open = || (0..feed::NEIGHBORS).map(|index| GreSocket::open(far(index).into())).collect::<Result<Vec<_>, _>>();
    let mut others = world.inside(open)?.map_err(LabError::os("GRE socket"))?;
    let first = others.remove(0);
    let (of_sender, of_receiver) = (stop.clone(), (stop.clone(), arrived.clone()));
    let sender = world.spawn(move || send(&first, &packets, &of_sender))?;
    let receiver = world.spawn(move || receive(&others, &of_receiver.0, &of_receiver.1))?;
    let router = near.spawn(move || forward(&opened, &speaker, count))?;
    let rate = router.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    stop.store(true, Ordering::Relaxed);
    for thread in [sender, receiver] {
        let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        done.map_err(LabError::os("GRE socket"))?;
    }
    if arrived.load(Ordering::Relaxed) == 0 {
        return Err(LabError::Wrong("no datagram came out of the tunnels".to_owned()));
    }
    rate.map_err(LabError::os("forwarding"))
}

/// The router: one thread, one socket, one buffer.
fn forward(socket: &GreSocket, speaker: &Speaker, count: u64) -> io::Result<f64> {
    let tunnels = tunnels();
    let mut engine = engine(&tunnels);
    let (mut todo, mut buffer) = (Vec::new(), [0; LONGEST]);
    let (mut forwarded, mut start) = (0, None);
    while forwarded < count {
        let (from, range) = match socket.receive(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(1000_u16))?;
                continue;
            }
            Err(error) => {
                passing(socket, error)?;
                continue;
            }
        };
        start.get_or_insert_with(scale::cpu);
        let Ok((tunnel, Payload::Packet(packet))) = tunnels.receive(from, RLOC.into(), &buffer[range.clone()]) else {
            continue;
        };
        let at = range.end - packet.len();
        engine.receive(Instant::now(), tunnel, &mut buffer[at..range.end], speaker, &mut todo);
        for output in todo.drain(..) {
            let Output::PassOn { tunnel, length } = output else { continue };
            let packet = &buffer[at..at + length];
            let (Some(head), Some(to)) = (tunnels.head(tunnel, packet), tunnels.get(tunnel)) else { continue };
            match socket.send(to.remote, head.as_slice(), packet) {
                Ok(()) => forwarded += 1,
                Err(error) => passing(socket, error)?,
            }
        }
    }
    let took = scale::cpu() - start.unwrap_or_default();
    Ok(forwarded as f64 / took.as_secs_f64() / 1e3)
}

/// Whether one may go on after `error`: a full queue, or a far end that has no room, for which its kernel sends ICMP as if nobody
/// were there.
fn passing(socket: &GreSocket, error: io::Error) -> io::Result<()> {
    while socket.hint().is_ok() {}
    let full = error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(nix::libc::ENOPROTOOPT);
    if full { Ok(()) } else { Err(error) }
}

/// The first neighbour.
fn send(socket: &GreSocket, packets: &[Vec<u8>], stop: &AtomicBool) -> io::Result<()> {
    let tunnels = tunnels();
    while !stop.load(Ordering::Relaxed) {
        for packet in packets.iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
            let head = tunnels.head(TunnelId(0), packet).expect("an IP packet");
            socket.send(RLOC.into(), head.as_slice(), packet).or_else(|error| passing(socket, error))?;
        }
    }
    Ok(())
}

/// The others: they count.
fn receive(sockets: &[GreSocket], stop: &AtomicBool, arrived: &AtomicU64) -> io::Result<()> {
    let mut buffer = [0; LONGEST];
    while !stop.load(Ordering::Relaxed) {
        let mut fds: Vec<PollFd> = sockets.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut fds, PollTimeout::from(100_u16))?;
        for socket in sockets {
            while socket.receive(&mut buffer).is_ok() {
                arrived.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}
