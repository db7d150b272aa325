//! From a checked configuration to a running router, and back down again.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use altitude_control::{
    alt::datagrams::Unreachable,
    config::{self, Config, PathMtuName, Problems},
    os::{
        api_socket::Listener,
        bgp_socket::{BgpListener, FarEnd},
        control_socket::ControlSocket,
        gre_socket::GreSocket,
        icmp_socket::IcmpSocket,
        ip_socket::IpSocket,
        netlink::{Netlink, table::RouteTable},
        privilege,
    },
    underlay::{self, PortLink, RouteHop, Underlay},
};
use altitude_dataplane::{
    cache,
    frame::{HEADROOM, SLOT},
    mapping::PortIndex,
    port::xsk::{SteerError, XskError},
    proxy::Proxy,
    worker::{Hold, PortRole, Settings, SourceCheck},
};
use mio::Poll;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use typed_arena::Arena;

use super::{
    driver::{self, Driver, reload::Source, tunnels::Device},
    metrics::Endpoint,
    workers::{self, WorkerLink},
};

/// Site hosts whose link-layer address is kept at one time; as many of other destinations, where each has its own next hop.
pub(crate) const SITE_HOSTS_MAX: usize = 16_384;

/// EID-prefixes of ours, as many as the steering program can tell apart.
pub(crate) const OWN_PREFIXES_MAX: usize = 65_536;

/// Why the router does not run: one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Found before anything was touched.
    #[error("{0}")]
    Unfit(String),
    /// AF_XDP.
    #[error(transparent)]
    Socket(#[from] XskError),
    /// The steering program.
    #[error(transparent)]
    Steering(#[from] SteerError),
    /// Any other call to the kernel; the text names it.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// The kernel's view of the network: the netlink socket and the machine it feeds.
pub(crate) struct Kernel {
    pub(crate) netlink: Netlink,
    pub(crate) underlay: Underlay,
}

/// Sockets of the control thread.
pub(crate) struct Sockets {
    /// UDP 4342, one per RLOC, in their order.
    pub(crate) control: Vec<ControlSocket>,
    /// UDP 4341, one per RLOC, where we may be behind a NAT.
    pub(crate) data: Vec<ControlSocket>,
    /// Protocol 47, one per local tunnel end.
    pub(crate) gre: Vec<GreSocket>,
    /// One per tunnel, in their order; none where the kernel would not use it.
    pub(crate) devices: Vec<Option<Device>>,
    /// One per instance whose EID routes come from a table of the kernel's.
    pub(crate) tables: Vec<RouteTable>,
    /// Where BGP neighbours connect: one per address of ours that has some.
    pub(crate) bgp: Vec<BgpListener>,
    /// One of each family of RLOCs, where ICMP errors are sent; by family.
    pub(crate) icmp: Vec<(bool, IpSocket)>,
    /// One of each family of RLOCs that are probed, or whose paths are measured, where ICMP errors are heard.
    pub(crate) hints: Vec<IcmpSocket>,
    pub(crate) api: Listener,
    /// The same for everybody, for reading alone.
    pub(crate) api_read_only: Option<Listener>,
}

/// Runs the router until SIGTERM, SIGINT or SIGUSR1; `load` reads the configuration again.
pub(crate) fn run(config: &Config, load: &dyn Fn() -> Result<Config, Problems>) -> Result<(), RunError> {
    check_privileges(config)?;
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
    let metrics = config.metrics.map(Endpoint::bind).transpose()?;
    let mut kernel = Kernel::open(config)?;
    kernel.check(config)?;
    let sockets = Sockets::open(config)?;
    kernel.catch_up()?; // the TUN devices are there now

    let entries = config.map_cache_max + 2 * SITE_HOSTS_MAX + OWN_PREFIXES_MAX;
    let (writer, readers) = cache::new(entries, worker_count(config));
    let dataplane = workers::open(config, &kernel.settings(config)?, readers)?;
    if let Some(id) = config.control_core
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!(core = id, "the kernel refused to pin the control thread to this core; it runs unpinned");
    }

    let poll = Poll::new()?;
    let bell = Arc::new(mio::Waker::new(poll.registry(), driver::BELL)?);
    let (stop, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let wakers: Vec<_> = dataplane.links.iter().map(|link: &WorkerLink| link.waker.clone()).collect();
    let loaded = Arena::new();
    let source = Source { load, loaded: &loaded };
    let mut driver =
        Driver::new(config, source, poll, signals, kernel, sockets, writer, dataplane.steering, dataplane.links)?;
    // All that is opened is open; what is left needs no more. Threads that are started from here on have no more either.
    // Who could read files of others at the start can at a reload.
    privilege::give_up_all_but(&[privilege::NET_ADMIN, privilege::BPF, privilege::DAC_READ_SEARCH])?;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut result = Ok(());
        for prepared in dataplane.prepared {
            let bell = bell.clone();
            let ring = move || drop(bell.wake());
            match prepared.start(scope, ring, &stop, &ended) {
                Ok(thread) => threads.push(thread),
                Err(error) => result = Err(RunError::System(error)),
            }
        }
        if result.is_ok() {
            result = metrics.map_or(Ok(()), |endpoint| endpoint.serve(&config.api)).map_err(RunError::System);
        }
        if result.is_ok() {
            tracing::info!(summary = config.summary(), "ready");
            result = driver.run(&ended);
        }
        // First the steering programs go, so that the kernel sees every frame again; then the workers.
        driver.detach();
        stop.store(true, Ordering::Relaxed);
        for waker in wakers {
            waker.wake();
        }
        for thread in threads {
            if thread.join().is_err() {
                result = Err(RunError::Unfit("a worker thread panicked; the log above says where".to_owned()));
            }
        }
        driver.farewell();
        result
    })
}

/// Workers that will run: none without ports.
fn worker_count(config: &Config) -> usize {
    if config.ports.is_empty() { 0 } else { config.workers.len() }
}

impl Kernel {
    fn open(config: &Config) -> Result<Self, RunError> {
        let ports = config.ports.iter().enumerate().map(|(index, port)| (index as PortIndex, port.name.clone()));
        let mut kernel = Self { netlink: Netlink::open()?, underlay: Underlay::new(ports.collect()) };
        kernel.catch_up()?;
        Ok(kernel)
    }

    /// Lets the underlay know all that the kernel knows now. Nothing is watched yet, so nothing is to be done.
    fn catch_up(&mut self) -> Result<(), RunError> {
        let mut inputs = Vec::new();
        self.netlink.start(&mut inputs)?;
        self.netlink.receive(&mut inputs)?;
        let mut todo = Vec::new();
        for input in inputs {
            self.underlay.step(Instant::now(), input, &mut todo);
        }
        for output in &todo {
            self.netlink.perform(output)?;
        }
        Ok(())
    }

    /// What the configuration names must exist, before anything is opened.
    fn check(&mut self, config: &Config) -> Result<(), RunError> {
        let links: Vec<PortLink> = self.underlay.ports().collect();
        for port in &config.ports {
            let flag = match (port.site, port.native) {
                (true, _) => "--site-port",
                (_, true) => "--native-port",
                _ => "--core-port",
            };
            let Some(link) = links.iter().find(|link| link.name == port.name) else {
                let name = &port.name;
                return unfit(format!("there is no interface {name}: `ip link` lists those there are; correct {flag}"));
            };
            if !link.up {
                let name = &port.name;
                return unfit(format!(
                    "interface {name} is down: `ip link set {name} up`, and see that its peer is up"
                ));
            }
            check_mtu(&port.name, link.mtu)?;
            check_queues(&port.name, config.workers.len())?;
        }
        let own = self.underlay.own_addresses();
        if let Some(rloc) = config.rlocs.iter().find(|rloc| !own.contains(rloc)) {
            return unfit(format!(
                "RLOC {rloc} is not an address of this machine: `ip address add {rloc}/{} dev <core interface>`, or \
                 correct --rloc",
                if rloc.is_ipv4() { 24 } else { 64 }
            ));
        }
        for tunnel in &config.tunnels {
            self.check_route(&tunnel.name, tunnel.remote)?;
        }
        Ok(())
    }

    /// A tunnel whose far end has no route can never work.
    fn check_route(&mut self, tunnel: &str, remote: IpAddr) -> Result<(), RunError> {
        if self.route(remote)?.is_none() {
            return unfit(format!(
                "no route to {remote}, the far end of ALT tunnel {tunnel}: `ip route get {remote}` shows what the \
                 kernel thinks; add a route or correct --alt-tunnel"
            ));
        }
        Ok(())
    }

    /// Asks the kernel for a route and waits for its answer, which comes before the send call returns.
    fn route(&mut self, destination: IpAddr) -> Result<Option<RouteHop>, RunError> {
        self.netlink.perform(&underlay::Output::AskRoute(destination))?;
        let mut inputs = Vec::new();
        self.netlink.receive(&mut inputs)?;
        let mut answer = None;
        let mut todo = Vec::new();
        for input in inputs {
            match input {
                underlay::Input::Route { destination: of, hop } if of == destination => answer = hop,
                input => self.underlay.step(Instant::now(), input, &mut todo),
            }
        }
        Ok(answer)
    }

    /// Who we are on each port, for the workers.
    fn settings(&self, config: &Config) -> Result<Settings, RunError> {
        let links: Vec<PortLink> = self.underlay.ports().collect();
        let mut ports = Vec::new();
        for (index, port) in config.ports.iter().enumerate() {
            let link = links.iter().find(|link| usize::from(link.port) == index);
            let Some((link, mac)) = link.and_then(|link| Some((link, link.mac?))) else {
                return unfit(format!("interface {} has no Ethernet address: it cannot be a port", port.name));
            };
            let addresses = || link.addresses.iter().map(|(address, _)| *address);
            ports.push(PortRole {
                site: port.site,
                core: port.core,
                native: port.native,
                instance: port.instance,
                mac,
                address4: addresses().find_map(|address| match address {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                }),
                address6: addresses().find_map(|address| match address {
                    IpAddr::V6(address) if !address.is_unicast_link_local() => Some(address),
                    _ => None,
                }),
            });
        }
        let hold = match config.hold {
            config::Hold::Drop => Hold::Drop,
            config::Hold::Queue => Hold::Queue,
        };
        let source_check = match config.source_check {
            config::SourceCheck::Standard => SourceCheck::Standard,
            config::SourceCheck::Notify => SourceCheck::Notify,
            config::SourceCheck::Secure => SourceCheck::Secure,
        };
        Ok(Settings {
            ports,
            rlocs: config.rlocs.clone(),
            hash_seed: u32::from_ne_bytes(driver::random()?),
            hold,
            source_check,
            proxy: Proxy {
                petr: config.roles.proxies.petr,
                rtr: config.roles.proxies.rtr,
                nat: config.nat.map_servers.is_some(),
                known: config.roles.proxies.known && config.nat.map_servers.is_none(),
                instances: config.roles.proxies.instances.clone(),
                aggregates: config.roles.proxies.aggregates.clone(),
            },
            batch: config.batch,
        })
    }
}

/// Largest packet that fits a frame with its link-layer header, two VLAN tags included: a longer one would be lost as it
/// comes in, without a word to its sender.
const MTU_MAX: usize = SLOT - HEADROOM - (14 + 2 * 4);

fn check_mtu(interface: &str, mtu: u16) -> Result<(), RunError> {
    if usize::from(mtu) <= MTU_MAX {
        return Ok(());
    }
    unfit(format!(
        "the MTU of {interface} is {mtu}, and packets of more than {MTU_MAX} octets do not fit a frame: \
         `ip link set {interface} mtu {MTU_MAX}`, and the same at its neighbours"
    ))
}

/// All that will be needed, named at once rather than one by one.
fn check_privileges(config: &Config) -> Result<(), RunError> {
    let mut needs = vec![privilege::NET_ADMIN, privilege::NET_RAW];
    if !config.ports.is_empty() {
        needs.push(privilege::BPF);
    }
    if config.speaker.is_some() {
        needs.push(privilege::NET_BIND_SERVICE);
    }
    let lacking = privilege::lacking(&needs)?;
    if lacking.is_empty() {
        return Ok(());
    }
    unfit(format!(
        "this process lacks {}: run as root, or give the program its capabilities with `setcap \
         cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock,cap_net_bind_service+ep`",
        lacking.join(", ")
    ))
}

/// Worker n serves queue n: a queue without a worker would lose its packets, a worker without a queue has none.
fn check_queues(interface: &str, workers: usize) -> Result<(), RunError> {
    let Ok(entries) = std::fs::read_dir(format!("/sys/class/net/{interface}/queues")) else { return Ok(()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let queues = names.filter(|name| name.starts_with("rx-")).count();
    if queues == 0 || queues == workers {
        return Ok(());
    }
    unfit(format!(
        "interface {interface}: receive queues {queues}, workers {workers}, and each worker serves one queue: run \
         `ethtool -L {interface} combined {workers}` (or `rx {workers}`), or give {queues} cores to --workers"
    ))
}

impl Sockets {
    fn open(config: &Config) -> Result<Self, RunError> {
        let api = Listener::bind(&config.api)?;
        let api_read_only = config.api_read_only.as_deref().map(Listener::bind_read_only).transpose()?;
        let control = config.rlocs.iter().map(|rloc| ControlSocket::open(*rloc)).collect::<Result<_, _>>()?;
        let behind = config.rlocs.iter().filter(|_| config.nat.keepalive.is_some());
        let data = behind.map(|rloc| ControlSocket::open_data(*rloc)).collect::<Result<_, _>>()?;
        let ours = config.tunnels.iter().filter(|tunnel| !tunnel.options.kernel);
        let mut locals: Vec<IpAddr> = ours.map(|tunnel| tunnel.local).collect();
        locals.sort_unstable();
        locals.dedup();
        let gre = locals.into_iter().map(GreSocket::open).collect::<Result<_, _>>()?;
        let devices = config.tunnels.iter().map(Device::open).collect::<Result<_, _>>()?;
        let mut icmp: Vec<(bool, IpSocket)> = Vec::new();
        if config.roles.unreachable == Unreachable::Icmp {
            for rloc in &config.rlocs {
                if !icmp.iter().any(|(v4, _)| *v4 == rloc.is_ipv4()) {
                    icmp.push((rloc.is_ipv4(), IpSocket::open(*rloc)?));
                }
            }
        }
        let mut hints = Vec::new();
        for v4 in [true, false] {
            let heeded = config.probing.is_some() || config.path_mtu == PathMtuName::Learn;
            let rloc = config.rlocs.iter().find(|rloc| rloc.is_ipv4() == v4 && heeded);
            hints.extend(rloc.map(|rloc| IcmpSocket::open(*rloc)).transpose()?);
        }
        let tables = driver::ribs::open(config)?;
        let bgp = listeners(config)?;
        Ok(Self { control, data, gre, devices, tables, bgp, icmp, hints, api, api_read_only })
    }
}

/// A listener on each address that neighbours may connect to.
fn listeners(config: &Config) -> std::io::Result<Vec<BgpListener>> {
    let neighbors = || config.speaker.iter().flat_map(|speaker| &speaker.neighbors);
    let mut locals: Vec<IpAddr> = neighbors().map(|neighbor| neighbor.local).collect();
    locals.sort_unstable();
    locals.dedup();
    let open = |local: IpAddr| {
        let there: Vec<_> = neighbors().filter(|neighbor| neighbor.local == local).map(FarEnd::of).collect();
        BgpListener::open(local, &there)
    };
    locals.into_iter().map(open).collect()
}

fn unfit<T>(text: String) -> Result<T, RunError> {
    Err(RunError::Unfit(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MTU-7.
    #[test]
    fn an_interface_whose_packets_do_not_fit_is_refused() {
        assert!(check_mtu("eth0", 1500).is_ok() && check_mtu("eth0", 1770).is_ok());
        let text = check_mtu("eth0", 9000).unwrap_err().to_string();
        assert!(text.contains("MTU of eth0 is 9000") && text.contains("ip link set eth0 mtu 1770"), "{text}");
        assert!(check_mtu("eth0", 1771).is_err());
    }
}
