//! Two sites with two paths between them, and flows that are watched on both.
//!
//! ```text
//!          core 240.1.1.10 ── 240.1.1.1  path a  240.1.2.1 ── 240.1.2.20 core
//! site1 ── xtr1                                                      xtr2 ── site2
//!          core2 240.2.1.10 ─ 240.2.1.1  path b  240.2.2.1 ── 240.2.2.20 core2
//! ```
//! Each path is a router of the kernel's. The ALT is on links of its own, so that nothing but packets is cut with a path.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    net::if_::if_nametoindex,
    sys::{
        socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt},
        time::TimeVal,
    },
};

use super::{CORE_MTU, LabError, Link, Namespace, Router, SITES, remove_left_over, run, veth, wait_until, work_folder};

/// Flows of each direction.
pub const FLOWS: u16 = 64;
/// Between two packets of a flow.
const EVERY: Duration = Duration::from_millis(20);
/// Where the first flow of each direction leaves from.
const FIRST_PORTS: [u16; 2] = [20_000, 21_000];
/// Where all go.
const SINK_PORT: u16 = 9;
const READY_LIMIT: Duration = Duration::from_secs(60);
const SITE_MTU: u16 = 1500;
/// How long a watching thread waits for a packet before it looks whether it shall end.
const PATIENCE_US: i64 = 100_000;

/// Names of the paths.
pub const PATHS: [&str; 2] = ["a", "b"];

/// How a path is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The router in the middle loses packets without a word.
    Silent,
    /// The router in the middle says that it has no route.
    Told,
    /// The link between the first site's router and the path goes down.
    LinkDown,
}

/// A flow: its direction (0 is from the first site) and its number.
pub type Flow = (usize, u16);

/// Where packets of a flow came out of the paths since the last [`Watch::mark`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// The first on each path.
    pub first: [Option<Instant>; 2],
    /// The last on each path.
    pub last: [Option<Instant>; 2],
}

/// What was seen of all flows.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<BTreeMap<Flow, Seen>>>);

impl Watch {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Flow, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was seen so far; returns when that was.
    #[must_use]
    pub fn mark(&self) -> Instant {
        let mut seen = self.lock();
        seen.clear();
        Instant::now()
    }

    /// What was seen since.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<Flow, Seen> {
        self.lock().clone()
    }

    fn note(&self, flow: Flow, path: usize) {
        let now = Instant::now();
        let mut all = self.lock();
        let seen = all.entry(flow).or_default();
        seen.first[path].get_or_insert(now);
        seen.last[path] = Some(now);
    }
}

/// The lab.
#[derive(Debug)]
pub struct Failover {
    /// The xTRs.
    pub routers: Vec<Router>,
    /// The flows.
    pub watch: Watch,
    alt: Option<Router>,
    sites: [Namespace; 2],
    xtrs: [Namespace; 2],
    paths: [Namespace; 2],
    alt_namespace: Namespace,
    folder: std::path::PathBuf,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), LabError>>>,
}

/// The locator of site `index` on `path`.
#[must_use]
pub const fn rloc(index: usize, path: usize) -> Ipv4Addr {
    Ipv4Addr::new(240, path as u8 + 1, index as u8 + 1, [10, 20][index])
}

impl Failover {
    /// Builds it, starts the routers and the flows, and waits until flows use both paths both ways and probes are answered.
    ///
    /// # Errors
    /// What `ip` and its like said; [`LabError::Late`].
    pub fn new() -> Result<Self, LabError> {
        let owner = format!("alt{}-fo", std::process::id());
        remove_left_over(&owner);
        let make = |role: &str| Namespace::create(&owner, role);
        let mut lab = Self {
            routers: Vec::new(),
            watch: Watch::default(),
            alt: None,
            sites: [make("site1")?, make("site2")?],
            xtrs: [make("xtr1")?, make("xtr2")?],
            paths: [make("a")?, make("b")?],
            alt_namespace: make("alt")?,
            folder: work_folder(&owner)?,
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        lab.cable()?;
        lab.start_routers()?;
        lab.start_flows()?;
        lab.wait_ready()?;
        Ok(lab)
    }

    /// What the kernel of the host of site `index` knows of the path to the other host, octets, once a packet of `length` octets
    /// was sent there.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn path_mtu_after(&self, index: usize, length: u16) -> Result<u16, LabError> {
        let (from, to) = (SITES[index].host.0, SITES[1 - index].host.0);
        let ask = move || {
            let socket = UdpSocket::bind((from, 0))?;
            // With DF, as long as the kernel knows no better; then in parts.
            socket.send_to(&vec![0; usize::from(length) - 28], (to, SINK_PORT))?;
            altitude_control::os::path_mtu::path_mtu(from.into(), to.into())
        };
        self.sites[index].inside(ask)?.map_err(LabError::os("ask for the MTU of a path"))
    }

    /// Sets the MTU of what a path leads to an xTR by: its router says when a packet is too long for it.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn narrow(&self, path: usize, index: usize, mtu: u16) -> Result<(), LabError> {
        let link = self.path_link(path, index);
        link.namespace.ip(&format!("link set {} mtu {mtu}", link.name)).map(drop)
    }

    /// Where logs go.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path's end of an xTR's link.
    #[must_use]
    pub fn path_link(&self, path: usize, index: usize) -> Link<'_> {
        Link { namespace: &self.paths[path], name: ["xtr1", "xtr2"][index] }
    }

    fn cable(&self) -> Result<(), LabError> {
        for path in &self.paths {
            let settings =
                ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"];
            run(path.command("sysctl").arg("-qw").args(settings))?;
        }
        for index in [0, 1] {
            let (host, xtr) = (&self.sites[index], &self.xtrs[index]);
            let settings = ["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"];
            run(xtr.command("sysctl").arg("-qw").args(settings))?;
            let (outer, inner) = (Link { namespace: host, name: "eth0" }, Link { namespace: xtr, name: "site" });
            veth(outer, inner, SITE_MTU)?;
            outer.address(SITES[index].host.0.into(), SITES[index].length.0)?;
            inner.address(SITES[index].gateway.0.into(), SITES[index].length.0)?;
            host.ip(&format!("route add default via {}", SITES[index].gateway.0))?;
            for path in [0, 1] {
                let near = Link { namespace: xtr, name: ["core", "core2"][path] };
                veth(near, self.path_link(path, index), CORE_MTU)?;
                let router = Ipv4Addr::new(240, path as u8 + 1, index as u8 + 1, 1);
                near.address(rloc(index, path).into(), 24)?;
                self.path_link(path, index).address(router.into(), 24)?;
                xtr.ip(&format!("route add 240.{}.{}.0/24 via {router}", path + 1, 2 - index))?;
            }
            let near = Link { namespace: xtr, name: "mgmt" };
            let far = Link { namespace: &self.alt_namespace, name: ["xtr1", "xtr2"][index] };
            veth(near, far, CORE_MTU)?;
            near.address(Ipv4Addr::new(10, 9, index as u8 + 1, 1).into(), 30)?;
            far.address(Ipv4Addr::new(10, 9, index as u8 + 1, 2).into(), 30)?;
        }
        Ok(())
    }

    fn start_routers(&mut self) -> Result<(), LabError> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let alt = "--rloc 10.9.1.2 --alt-tunnel alt1,remote=10.9.1.1,local=10.9.1.2 --alt-route 1.1.0.0/16=alt1 \
                   --alt-tunnel alt2,remote=10.9.2.1,local=10.9.2.2 --alt-route 2.2.0.0/16=alt2";
        self.alt = Some(Router::start("alt", &self.alt_namespace, &words(alt), &self.folder)?);
        for index in [0, 1] {
            let (name, site) = (["xtr1", "xtr2"][index], index + 1);
            let worker = index % thread::available_parallelism().map_or(1, usize::from);
            let flags = format!(
                "--site-port site --core-port core --core-port core2 --rloc {} --rloc {} --eid-prefix {} --workers {worker} \
                 --path-mtu learn \
                 --alt-tunnel alt0,remote=10.9.{site}.2,local=10.9.{site}.1 --alt-route 0.0.0.0/0=alt0",
                rloc(index, 0),
                rloc(index, 1),
                SITES[index].eid_prefixes()[0],
            );
            self.routers.push(Router::start(name, &self.xtrs[index], &words(&flags), &self.folder)?);
        }
        Ok(())
    }

    fn start_flows(&mut self) -> Result<(), LabError> {
        for (path, namespace) in self.paths.iter().enumerate() {
            let (watch, stop) = (self.watch.clone(), self.stop.clone());
            self.threads.push(namespace.spawn(move || look(&watch, path, &stop).unwrap_or_default())?);
        }
        for direction in [0, 1] {
            let to = SocketAddr::new(SITES[1 - direction].host.0.into(), SINK_PORT);
            let stop = self.stop.clone();
            self.threads.push(self.sites[direction].spawn(move || send(direction, to, &stop).unwrap_or_default())?);
        }
        Ok(())
    }

    fn wait_ready(&self) -> Result<(), LabError> {
        wait_until("flows on both paths both ways", READY_LIMIT, || {
            let seen = self.watch.seen();
            let on = |direction, path: usize| {
                seen.iter().any(|((of, _), seen)| *of == direction && seen.last[path].is_some())
            };
            let all = seen.len() == 2 * usize::from(FLOWS);
            Ok((all && [0, 1].iter().all(|direction| on(*direction, 0) && on(*direction, 1))).then_some(()))
        })?;
        self.wait_locators("answers to probes of every locator", READY_LIMIT, |up, answered| up && answered > 0)
    }

    /// Waits until both routers say of both locators of the other (whether it is up, answered probes) what is wanted.
    ///
    /// # Errors
    /// [`LabError::Late`].
    pub fn wait_locators(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(bool, u64) -> bool,
    ) -> Result<(), LabError> {
        wait_until(what, limit, || {
            for router in &self.routers {
                let shown: serde_json::Value =
                    serde_json::from_str(&router.show(&["locators", "--json"])?).unwrap_or_default();
                let list = shown["locators"].as_array().cloned().unwrap_or_default();
                let good = |locator: &serde_json::Value| {
                    let answered = locator["probing"]["answered"].as_u64().unwrap_or_default();
                    wanted(locator["up"].as_bool().unwrap_or_default(), answered)
                };
                if list.len() != 2 || !list.iter().all(good) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }

    /// Cuts a path.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn cut(&self, path: usize, how: Break) -> Result<(), LabError> {
        match how {
            Break::Silent => self.at_both(path, |rloc, _| format!("route add blackhole {rloc}/32")),
            // A rule rather than a route: the router's own errors must find their way.
            Break::Told => self.at_both(path, |_, link| format!("rule add iif {link} unreachable")),
            Break::LinkDown => self.paths[path].ip("link set xtr1 down").map(drop),
        }
    }

    /// Runs `ip` in the middle of a path for each end of it.
    fn at_both(&self, path: usize, arguments: impl Fn(Ipv4Addr, &str) -> String) -> Result<(), LabError> {
        for index in [0, 1] {
            let end = self.path_link(path, index);
            end.namespace.ip(&arguments(rloc(index, path), end.name))?;
        }
        Ok(())
    }

    /// Mends it again.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn mend(&self, path: usize, how: Break) -> Result<(), LabError> {
        match how {
            Break::Silent => self.at_both(path, |rloc, _| format!("route del blackhole {rloc}/32")),
            Break::Told => self.at_both(path, |_, link| format!("rule del iif {link} unreachable")),
            Break::LinkDown => self.paths[path].ip("link set xtr1 up").map(drop),
        }
    }

    /// Which path each flow is on, as long as each stays on one.
    ///
    /// # Errors
    /// [`LabError::Late`] if packets of a flow are missing, [`LabError::Wrong`] if one flow is on both paths.
    pub fn homes(&self) -> Result<BTreeMap<Flow, usize>, LabError> {
        let _ = self.watch.mark();
        wait_until("a packet of every flow", READY_LIMIT, || {
            Ok((self.watch.seen().len() == 2 * usize::from(FLOWS)).then_some(()))
        })?;
        let home = |(flow, seen): (Flow, Seen)| match seen.first {
            [Some(_), None] => Ok((flow, 0)),
            [None, Some(_)] => Ok((flow, 1)),
            _ => Err(LabError::Wrong(format!("flow {flow:?} is on both paths"))),
        };
        self.watch.seen().into_iter().map(home).collect()
    }

    /// Waits until every flow came out on the path that `expected` names since `start`, and returns how long the first packet of
    /// those that `moving` picks took, by direction: the slowest flow's.
    ///
    /// # Errors
    /// [`LabError::Late`] after `limit`; [`LabError::Wrong`] if a flow that is not moving was on another path.
    pub fn wait_moved(
        &self,
        start: Instant,
        limit: Duration,
        expected: impl Fn(Flow) -> usize,
        moving: impl Fn(Flow) -> bool,
    ) -> Result<[Duration; 2], LabError> {
        wait_until("all flows on the other path", limit, || {
            let seen = self.watch.seen();
            let there = |(flow, seen): (&Flow, &Seen)| seen.first[expected(*flow)].is_some();
            Ok((seen.len() == 2 * usize::from(FLOWS) && seen.iter().all(there)).then_some(()))
        })?;
        let mut slowest = [Duration::ZERO; 2];
        for (flow, seen) in self.watch.seen() {
            let path = expected(flow);
            if !moving(flow) && seen.first[1 - path].is_some() {
                return Err(LabError::Wrong(format!("flow {flow:?} was to stay on path {}", PATHS[path])));
            }
            if let Some(first) = seen.first[path].filter(|_| moving(flow)) {
                slowest[flow.0] = slowest[flow.0].max(first.saturating_duration_since(start));
            }
        }
        Ok(slowest)
    }
}

impl Drop for Failover {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if thread::panicking() {
            println!("logs of the failed lab: {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Sends the flows of one direction, and takes in those of the other.
fn send(direction: usize, to: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let sink = UdpSocket::bind((any, SINK_PORT))?;
    sink.set_nonblocking(true)?;
    let bind = |flow| UdpSocket::bind((any, FIRST_PORTS[direction] + flow));
    let sockets = (0..FLOWS).map(bind).collect::<Result<Vec<_>, _>>()?;
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        for socket in &sockets {
            // What cannot be sent is a packet lost: the watch sees it missing.
            let _ = socket.send_to(&[0x5a; 32], to);
        }
        while sink.recv(&mut buffer).is_ok() {}
        thread::sleep(EVERY);
    }
    Ok(())
}

/// Notes the flows' packets that leave a path towards an xTR.
fn look(watch: &Watch, path: usize, stop: &AtomicBool) -> nix::Result<()> {
    let packets = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&packets, sockopt::ReceiveTimeout, &TimeVal::new(0, PATIENCE_US))?;
    let towards = [if_nametoindex("xtr1")?, if_nametoindex("xtr2")?];
    let mut buffer = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, Some(from))) = recvfrom::<LinkAddr>(packets.as_raw_fd(), &mut buffer) else { continue };
        let Some((destination, port)) = lisp(&buffer[..length]) else { continue };
        for direction in [0, 1] {
            let far = 1 - direction;
            let leaves = from.ifindex() == towards[far] as usize && destination == rloc(far, path);
            let flow = port.checked_sub(FIRST_PORTS[direction]).filter(|flow| *flow < FLOWS);
            if let Some(flow) = flow.filter(|_| leaves) {
                watch.note((direction, flow), path);
            }
        }
    }
    Ok(())
}

/// Outer destination and inner UDP source port of a LISP data packet in IPv4 in Ethernet, with IPv4 inside and no options.
fn lisp(frame: &[u8]) -> Option<(Ipv4Addr, u16)> {
    const OUTER: usize = 14;
    const UDP: usize = OUTER + 20;
    const INNER: usize = UDP + 8 + 8;
    const INNER_UDP: usize = INNER + 20;
    let two = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let lisp = two(12)? == 0x0800 && frame.get(OUTER + 9) == Some(&17) && two(UDP + 2)? == 4341;
    let inner = frame.get(INNER) == Some(&0x45) && frame.get(INNER + 9) == Some(&17);
    let destination = frame.get(OUTER + 16..OUTER + 20)?.first_chunk::<4>().copied()?;
    (lisp && inner).then(|| Some((destination.into(), two(INNER_UDP)?))).flatten()
}
