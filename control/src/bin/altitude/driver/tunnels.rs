//! GRE tunnels and their TUN devices: packets out of and into them, whether they are up, and how much they carry.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_control::{
    alt::{
        bgp::speaker,
        datagrams,
        keepalive::{self, Liveness},
        tunnels::{Payload, Tunnel, TunnelId},
    },
    config::Config,
    fault::ControlFault,
    os::{
        kernel_gre::KernelGre,
        path_mtu::path_mtu,
        tun::{Tun, tunnel_mtu},
    },
    responder::Arrival,
    underlay,
};

use altitude_dataplane::mapping::EidPrefix;
use mio::{Interest, Registry, Token};

use super::{Driver, ROUND};

/// After a change of links or routes, how long others may follow before the paths of tunnels are looked at again.
const SETTLE: Duration = Duration::from_millis(200);

/// The kernel's end of a tunnel.
pub(crate) enum Device {
    /// Its packets are encapsulated here.
    Tun(Tun),
    /// The kernel's GRE has it, or what else is behind an interface.
    Kernel(KernelGre),
}

impl Device {
    /// The device of `tunnel`; none where it is served here and has no addresses, as the kernel would not use it.
    pub(crate) fn open(tunnel: &Tunnel) -> Result<Option<Self>, io::Error> {
        if !tunnel.options.kernel && tunnel.addresses.is_empty() {
            return Ok(None);
        }
        let mtu =
            tunnel_mtu(path_mtu(tunnel.local, tunnel.remote)?, tunnel.remote, tunnel.key.is_some(), tunnel.checksum);
        if !tunnel.options.kernel {
            return Tun::open(&tunnel.name, mtu, &tunnel.addresses).map(|tun| Some(Self::Tun(tun)));
        }
        KernelGre::open(tunnel, mtu).map(|gre| Some(Self::Kernel(gre))).map_err(|error| {
            if error.kind() != io::ErrorKind::Unsupported {
                return error;
            }
            let (name, module) = (&tunnel.name, if tunnel.local.is_ipv4() { "ip_gre" } else { "ip6_gre" });
            let text = format!(
                "tunnel {name} asks for the kernel's GRE, and this kernel has none: `modprobe {module}`, or leave `kernel` \
                 out and the tunnel is served here"
            );
            io::Error::new(error.kind(), text)
        })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tun(tun) => registry.register(tun, token, Interest::READABLE),
            Self::Kernel(gre) => gre.register(registry, token),
        }
    }

    /// Changes the MTU where it is ours to change, and says whether it is.
    fn set_mtu(&self, mtu: u16) -> io::Result<bool> {
        match self {
            Self::Tun(tun) => tun.set_mtu(mtu).map(|()| true),
            Self::Kernel(gre) => gre.set_mtu(mtu),
        }
    }

    fn receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tun(tun) => tun.receive(packet),
            Self::Kernel(gre) => gre.receive(packet),
        }
    }

    /// Has the kernel take a packet for one of the tunnel's own addresses.
    fn deliver(&self, packet: &[u8]) -> io::Result<()> {
        match self {
            Self::Tun(tun) => tun.send(packet),
            Self::Kernel(_) => Ok(()), // it has it: it came out of its own interface
        }
    }
}

/// What is known and counted of one tunnel.
pub(super) struct TunnelState {
    pub(super) liveness: Liveness,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// MTU of its TUN device, octets.
    pub(super) mtu: Option<u16>,
}

impl TunnelState {
    pub(super) fn new(settings: Option<keepalive::Settings>, now: Instant) -> Self {
        Self { liveness: Liveness::new(settings, now), received: 0, sent: 0, mtu: None }
    }
}

/// What the ALT engine is told.
pub(super) fn engine_settings(config: &Config, database: Vec<EidPrefix>) -> datagrams::Settings {
    datagrams::Settings {
        sites: config.roles.sites.iter().flat_map(|site| site.eids.clone()).collect(),
        ingress: config.roles.ingress,
        unreachable: config.roles.unreachable,
        ..datagrams::Settings::new(config.rlocs.clone(), database)
    }
}

impl Driver<'_> {
    /// Has the routes to the far ends watched.
    pub(super) fn watch_tunnels(&mut self, now: Instant) {
        for index in 0..self.config.tunnels.len() {
            self.learn(now, underlay::Input::Watch(self.config.tunnels[index].remote));
        }
        self.next_paths = Some(now);
    }

    /// When something of the tunnels is due.
    pub(super) fn tunnels_due(&self) -> Option<Instant> {
        self.tunnel_states.iter().filter_map(|state| state.liveness.due()).chain(self.next_paths).min()
    }

    pub(super) fn wake_tunnels(&mut self, now: Instant) {
        for index in 0..self.tunnel_states.len() {
            if self.tunnel_states[index].liveness.due().is_some_and(|due| due <= now) {
                self.tell_tunnel(now, TunnelId(index), keepalive::Input::Wake);
            }
        }
        if self.next_paths.is_some_and(|due| due <= now) {
            self.next_paths = None;
            self.fit_tunnels();
        }
    }

    /// Looks at what netlink told: links of tunnels at once, their MTU when it is quiet again.
    pub(super) fn check_tunnels(&mut self, now: Instant) {
        for index in 0..self.tunnel_states.len() {
            let reaches = self.kernel.underlay.reaches(self.config.tunnels[index].remote);
            self.tell_tunnel(now, TunnelId(index), keepalive::Input::Link(reaches));
        }
        if !self.tunnel_states.is_empty() {
            self.next_paths.get_or_insert(now + SETTLE);
        }
    }

    fn tell_tunnel(&mut self, now: Instant, tunnel: TunnelId, input: keepalive::Input) {
        let mut todo = Vec::new();
        self.tunnel_states[tunnel.0].liveness.step(now, input, &mut todo);
        for output in todo {
            match output {
                keepalive::Output::Send => {
                    if let Some(packet) = self.tunnels.keepalive(tunnel) {
                        self.send_through(tunnel, &packet);
                    }
                }
                keepalive::Output::Changed(state) => {
                    let name = &self.config.tunnels[tunnel.0].name;
                    tracing::info!(tunnel = name, state = state.as_str(), "ALT tunnel changed");
                    let up = state == keepalive::State::Up;
                    self.engine.set_up(tunnel, up);
                    self.speak(now, speaker::Input::Tunnel { tunnel, up });
                }
            }
        }
    }

    /// Gives each TUN device the MTU that the path to the far end leaves it.
    fn fit_tunnels(&mut self) {
        for (index, tunnel) in self.config.tunnels.iter().enumerate() {
            let Some(device) = &self.sockets.devices[index] else { continue };
            // Without a route there is nothing to learn, and nothing to send.
            let Ok(path) = path_mtu(tunnel.local, tunnel.remote) else { continue };
            let mtu = tunnel_mtu(path, tunnel.remote, tunnel.key.is_some(), tunnel.checksum);
            let state = &mut self.tunnel_states[index];
            if state.mtu == Some(mtu) {
                continue;
            }
            match device.set_mtu(mtu) {
                Ok(true) => {
                    tracing::info!(tunnel = tunnel.name, path, mtu, "MTU of an ALT tunnel");
                    state.mtu = Some(mtu);
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(tunnel = tunnel.name, mtu, %error, "the MTU of an ALT tunnel stays"),
            }
        }
    }

    /// Reads one GRE socket; true if it may have more.
    pub(super) fn serve_gre(&mut self, index: usize, now: Instant) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let local = self.sockets.gre[index].local();
        let mut more = true;
        for _ in 0..ROUND {
            match self.sockets.gre[index].receive(&mut buffer) {
                Ok((from, gre)) => self.tunnelled(now, from, local, &mut buffer[gre]),
                Err(error) => {
                    more = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.buffer = buffer;
        for _ in 0..ROUND {
            let Ok(hint) = self.sockets.gre[index].hint() else { break };
            if let Some((remote, hint)) = hint {
                self.hinted(now, local, remote, hint);
            }
        }
        more
    }

    /// An ICMP error says that something is wrong with the far end; nobody says that it is true.
    fn hinted(&mut self, now: Instant, local: IpAddr, remote: IpAddr, hint: keepalive::Hint) {
        for index in 0..self.tunnel_states.len() {
            let tunnel = &self.config.tunnels[index];
            if (tunnel.local, tunnel.remote) == (local, remote) {
                tracing::debug!(tunnel = tunnel.name, hint = hint.as_str(), "ICMP error from the underlay");
                self.tell_tunnel(now, TunnelId(index), keepalive::Input::Hint(hint));
            }
        }
    }

    fn tunnelled(&mut self, now: Instant, from: IpAddr, local: IpAddr, gre: &mut [u8]) {
        let (tunnel, start) = match self.tunnels.receive(from, local, gre) {
            Ok((tunnel, Payload::Packet(packet))) => (tunnel, gre.len() - packet.len()),
            Ok((tunnel, Payload::Keepalive(back))) => {
                self.tunnel_states[tunnel.0].received += 1;
                self.send_gre(tunnel, back, &[]);
                return;
            }
            Ok((tunnel, Payload::Returned)) => {
                self.tunnel_states[tunnel.0].received += 1;
                self.tell_tunnel(now, tunnel, keepalive::Input::Returned);
                return;
            }
            Err(fault) => {
                self.faults.gre.count(fault);
                return;
            }
        };
        self.emerged(now, tunnel, &mut gre[start..]);
    }

    /// A packet came out of a tunnel.
    fn emerged(&mut self, now: Instant, tunnel: TunnelId, packet: &mut [u8]) {
        self.tunnel_states[tunnel.0].received += 1;
        let mut todo = std::mem::take(&mut self.datagrams);
        self.engine.receive(now, tunnel, packet, &self.rib, &mut todo);
        self.perform(now, &mut todo, packet);
        self.datagrams = todo;
    }

    /// Reads packets that the kernel sends into a tunnel, or that come out of one of its own; true if it may have more.
    pub(super) fn serve_device(&mut self, tunnel: TunnelId, now: Instant) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut more = true;
        for _ in 0..ROUND {
            let Some(device) = &self.sockets.devices[tunnel.0] else { break };
            let emerges = matches!(device, Device::Kernel(_));
            match device.receive(&mut buffer) {
                Ok(length) if emerges => self.emerged(now, tunnel, &mut buffer[..length]),
                Ok(length) => self.send_through(tunnel, &buffer[..length]),
                Err(error) => {
                    more = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.buffer = buffer;
        more
    }

    /// Does what the ALT engine says, and empties the list; `packet` is what the engine was given.
    pub(super) fn perform(&mut self, now: Instant, todo: &mut Vec<datagrams::Output>, packet: &mut [u8]) {
        for output in todo.drain(..) {
            match output {
                datagrams::Output::PassOn { tunnel, length } => {
                    self.traffic.alt_forwarded += 1;
                    self.send_through(tunnel, &packet[..length]);
                }
                datagrams::Output::Forward { tunnel, packet } => {
                    self.traffic.alt_forwarded += 1;
                    self.send_through(tunnel, &packet);
                }
                datagrams::Output::Deliver { request, source } => {
                    self.traffic.map_requests_in += 1;
                    self.answer(now, &request, Arrival { source, destination: None }, None);
                }
                datagrams::Output::Site { eid, request, source, length } => {
                    self.serve_site(now, eid, &request, source, &packet[..length], None);
                }
                datagrams::Output::ToTun { tunnel, length } => {
                    let device = self.sockets.devices[tunnel.0].as_ref();
                    if device.is_none_or(|device| device.deliver(&packet[..length]).is_err()) {
                        self.faults.control.count(ControlFault::TunnelNotSent);
                    }
                }
                datagrams::Output::NegativeReply { to, message } => {
                    self.traffic.map_replies_out += 1;
                    self.send(to, &message.encode());
                }
                datagrams::Output::Icmp { to, packet, fault } => {
                    self.faults.datagram.count(fault);
                    self.send_icmp(to, &packet);
                }
                datagrams::Output::Drop(fault) => self.faults.datagram.count(fault),
            }
        }
    }

    fn send_icmp(&mut self, to: IpAddr, packet: &[u8]) {
        let socket = self.sockets.icmp.iter().find(|(v4, _)| *v4 == to.is_ipv4());
        if socket.is_some_and(|(_, socket)| socket.send(to, packet).is_ok()) {
            self.traffic.icmp_errors_out += 1;
        } else {
            self.faults.control.count(ControlFault::NotSent);
        }
    }

    /// Sends an IP packet through a tunnel.
    pub(super) fn send_through(&mut self, tunnel: TunnelId, packet: &[u8]) {
        if let Some(Device::Kernel(gre)) = &self.sockets.devices[tunnel.0] {
            match gre.send(packet) {
                Ok(()) => self.tunnel_states[tunnel.0].sent += 1,
                Err(_) => self.faults.control.count(ControlFault::TunnelNotSent),
            }
            return;
        }
        match self.tunnels.head(tunnel, packet) {
            Some(head) => self.send_gre(tunnel, head.as_slice(), packet),
            None => self.faults.control.count(ControlFault::TunnelNotSent),
        }
    }

    /// Sends a GRE packet of two parts to the far end of a tunnel.
    fn send_gre(&mut self, tunnel: TunnelId, head: &[u8], packet: &[u8]) {
        let ends = &self.config.tunnels[tunnel.0];
        let socket = self.sockets.gre.iter().find(|socket| socket.local() == ends.local);
        if socket.is_some_and(|socket| socket.send(ends.remote, head, packet).is_ok()) {
            self.tunnel_states[tunnel.0].sent += 1;
        } else {
            self.faults.control.count(ControlFault::TunnelNotSent);
        }
    }
}
