//! The control thread: owns the sockets and timers, feeds the machines, and does what they say.
//!
//! One event loop. Every socket is served a bounded number of messages a round, so that a flood at one starves no
//! other; what changed in a round becomes visible to workers in one step at its end.

mod bgp;
mod clients;
mod messages;
mod reachability;
mod registration;
mod restart;
pub(crate) mod ribs;
mod roles;
mod state;
mod tables;
pub(crate) mod tunnels;
mod view;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use altitude_control::{
    alt::{
        bgp::speaker::{self, Speaker},
        datagrams::{self, DatagramFault, Engine},
        rib::{kernel::RibFault, sources::Routes},
        tunnels::{GreFault, TunnelError, TunnelId, Tunnels},
    },
    config::Config,
    fault::{ControlFault, Tally},
    map_cache::{self, CacheFault, Cached, MapCache},
    map_resolver::{Choice, ClientFault, EcmFault, MapResolver},
    map_server::{MapServer, SiteFault},
    os::api_socket::Connection,
    publisher::{self, Publisher},
    resolver::{self, Resolver, ResolverFault},
    responder::{self, RequestFault, Responder},
};
use altitude_dataplane::{
    cache::Writer,
    mapping::{Action, Eid, EidPrefix, Mapping, Prefix},
    port::xsk::Steering,
    verdict::{Miss, Wanted},
};
use mio::{Events, Interest, Poll, Token};
use rand_chacha::ChaCha20Rng;
use signal_hook::consts::SIGHUP;
use signal_hook_mio::v1_0::Signals;

use self::{
    bgp::{Connections, Ending},
    reachability::Reachability,
    registration::Registration,
    tunnels::TunnelState,
};
use super::{
    run::{Kernel, RunError, SITE_HOSTS_MAX, Sockets},
    workers::WorkerLink,
};

/// Workers ring it when they have queued misses.
pub(crate) const BELL: Token = Token(1);
const SIGNALS: Token = Token(0);
const NETLINK: Token = Token(2);
const API: Token = Token(3);
const CONTROL: usize = 0x1000;
const GRE: usize = 0x2000;
const TUN: usize = 0x3000;
const TABLE: usize = 0x4000;
const LISTENER: usize = 0x5000;
const ICMP: usize = 0x6000;
const CLIENT: usize = 0x1_0000;

/// Messages taken from one socket, and misses from one worker, in one round.
const ROUND: usize = 256;
/// How often clients of the API that read nothing are looked for.
const STALLED_EVERY: Duration = Duration::from_secs(10);
/// How often site hosts age by one round.
const AGE_EVERY: Duration = Duration::from_secs(60);
/// How often what workers may still read is looked at, and what was refused is tried again, while there is some.
const RECLAIM_EVERY: Duration = Duration::from_millis(100);
/// Largest message or packet received.
const MESSAGE_MAX: usize = 65_536;
/// How long neighbours may take to hear that the router ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// How often each fault was seen.
#[derive(Default)]
struct Faults {
    control: Tally<ControlFault>,
    resolver: Tally<ResolverFault>,
    request: Tally<RequestFault>,
    cache: Tally<CacheFault>,
    gre: Tally<GreFault>,
    datagram: Tally<DatagramFault>,
    rib: Tally<RibFault>,
    ecm: Tally<EcmFault>,
    client: Tally<ClientFault>,
    site: Tally<SiteFault>,
}

/// Messages by kind, and what met a bound.
#[derive(Default)]
struct Traffic {
    map_requests_in: u64,
    map_requests_out: u64,
    map_replies_in: u64,
    map_replies_out: u64,
    alt_forwarded: u64,
    /// Map-Requests that our Map-Server handed to an ETR.
    map_requests_to_sites: u64,
    map_registers_in: u64,
    map_notifies_out: u64,
    icmp_errors_out: u64,
    misses: u64,
    /// EIDs that nobody answered for.
    given_up: u64,
    /// Destinations without a path because as many are watched as may be.
    paths_refused: u64,
    /// API clients turned away because as many are connected as may be.
    clients_refused: u64,
}

/// The control thread's state.
pub(crate) struct Driver<'a> {
    config: &'a Config,
    poll: Poll,
    signals: Signals,
    kernel: Kernel,
    sockets: Sockets,
    connections: HashMap<Token, Connection>,
    next_client: usize,
    steering: Vec<Steering>,
    workers: Vec<WorkerLink>,
    resolver: Resolver,
    responder: Responder,
    map_cache: MapCache,
    publisher: Publisher,
    reachability: Reachability,
    tunnels: Tunnels,
    rib: Routes<Speaker>,
    bgp: Connections,
    engine: Engine,
    /// What the engine last said; kept for its memory.
    datagrams: Vec<datagrams::Output>,
    map_resolver: Option<MapResolver>,
    map_server: MapServer,
    registration: Registration,
    /// Where it writes what must survive a restart.
    state: Option<state::State>,
    /// Whom we ask ourselves.
    map_resolvers: Choice,
    /// EID-prefixes of our Map-Server's sites that are served now: what the ALT is to be told of.
    announced: BTreeSet<EidPrefix>,
    faults: Faults,
    traffic: Traffic,
    /// Source of nonces, seeded once by the operating system.
    nonces: ChaCha20Rng,
    /// Sockets that had more to say than a round takes.
    ready: BTreeSet<Token>,
    next_look: Instant,
    next_stalled: Instant,
    next_age: Instant,
    limbo: usize,
    /// Publications so far.
    generation: u64,
    tunnel_states: Vec<TunnelState>,
    /// When the MTUs of tunnels are to be looked at.
    next_paths: Option<Instant>,
    started: Instant,
    buffer: Vec<u8>,
}

impl<'a> Driver<'a> {
    #[expect(clippy::too_many_arguments, reason = "called once, by the composition root")]
    pub(crate) fn new(
        config: &'a Config,
        poll: Poll,
        signals: Signals,
        kernel: Kernel,
        mut sockets: Sockets,
        writer: Writer,
        steering: Vec<Steering>,
        workers: Vec<WorkerLink>,
    ) -> Result<Self, RunError> {
        let own: Vec<EidPrefix> = config.database.iter().map(|mapping| mapping.eid).collect();
        let unfit = |error: TunnelError| RunError::Unfit(error.to_string());
        let tunnels = Tunnels::new(config.tunnels.clone()).map_err(unfit)?;
        let now = Instant::now();
        let bgp = Connections::new(std::mem::take(&mut sockets.bgp), config, now);
        let mut driver = Self {
            config,
            rib: ribs::routes(config, bgp.mark.as_ref(), now)?,
            bgp,
            registration: Registration::new(config, now)?,
            poll,
            signals,
            kernel,
            sockets,
            connections: HashMap::new(),
            next_client: CLIENT,
            steering,
            workers,
            resolver: Resolver::new(messages::resolver_settings(config, own.clone())),
            responder: Responder::new(responder::Settings::new(config.database.clone(), config.rlocs.clone())),
            map_cache: MapCache::new(map_cache::Settings { capacity: config.map_cache_max }, now),
            publisher: Publisher::new(
                publisher::Settings {
                    rlocs: config.rlocs.clone(),
                    petrs: config.roles.petrs.clone(),
                    hosts_max: SITE_HOSTS_MAX,
                },
                writer,
            ),
            reachability: Reachability::new(config),
            engine: Engine::new(tunnels::engine_settings(config, own), &tunnels),
            datagrams: Vec::new(),
            map_resolver: config.roles.map_resolver.clone().map(MapResolver::new),
            map_server: MapServer::new(roles::server_settings(config), now),
            state: None,
            map_resolvers: Choice::new(config.roles.map_resolvers.clone()),
            announced: BTreeSet::new(),
            tunnels,
            faults: Faults::default(),
            traffic: Traffic::default(),
            nonces: messages::nonces()?,
            ready: BTreeSet::new(),
            next_look: now + map_cache::LOOK_ROUND,
            next_stalled: now + STALLED_EVERY,
            next_age: now + AGE_EVERY,
            limbo: 0,
            generation: 0,
            tunnel_states: config.tunnels.iter().map(|t| TunnelState::new(t.options.keepalive, now)).collect(),
            next_paths: None,
            started: now,
            buffer: vec![0; MESSAGE_MAX],
        };
        driver.register()?;
        driver.fill(now);
        driver.steer()?;
        driver.watch_tunnels(now);
        driver.check_own_rlocs(now);
        Ok(driver)
    }

    fn register(&mut self) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut self.signals, SIGNALS, Interest::READABLE)?;
        registry.register(&mut self.kernel.netlink, NETLINK, Interest::READABLE)?;
        registry.register(&mut self.sockets.api, API, Interest::READABLE)?;
        for (index, socket) in self.sockets.control.iter_mut().enumerate() {
            registry.register(socket, Token(CONTROL + index), Interest::READABLE)?;
        }
        for (index, socket) in self.sockets.gre.iter_mut().enumerate() {
            registry.register(socket, Token(GRE + index), Interest::READABLE)?;
        }
        for (index, device) in self.sockets.devices.iter_mut().enumerate() {
            if let Some(device) = device {
                device.register(registry, Token(TUN + index))?;
            }
        }
        for (index, table) in self.sockets.tables.iter_mut().enumerate() {
            registry.register(table, Token(TABLE + index), Interest::READABLE)?;
        }
        for (index, socket) in self.sockets.hints.iter_mut().enumerate() {
            registry.register(socket, Token(ICMP + index), Interest::READABLE)?;
        }
        for (index, listener) in self.bgp.listeners().enumerate() {
            registry.register(listener, Token(LISTENER + index), Interest::READABLE)?;
        }
        Ok(())
    }

    /// What is known before the first packet: our EID-prefixes, the static mappings and the sites.
    fn fill(&mut self, now: Instant) {
        for mapping in &self.config.database {
            self.publisher.own(mapping.eid);
        }
        for mapping in &self.config.map_cache {
            self.cache(now, map_cache::Input::Static(mapping.clone()));
        }
        self.begin_roles(now);
        self.publish(now);
    }

    /// Tells the steering programs what is ours.
    fn steer(&mut self) -> Result<(), RunError> {
        let prefixes = |instance| -> Vec<Prefix> {
            let own = self.config.database.iter().map(|mapping: &Mapping| mapping.eid);
            own.filter(|eid| eid.instance == instance).map(|eid| eid.prefix).collect()
        };
        let own = self.kernel.underlay.own_addresses();
        for (steering, port) in self.steering.iter_mut().zip(&self.config.ports) {
            steering.set_rlocs(&self.config.rlocs)?;
            steering.set_own_addresses(&own)?;
            steering.set_site_prefixes(&prefixes(port.instance))?;
        }
        Ok(())
    }

    /// Serves until a signal comes, or until a worker's thread ends, which is a fault.
    pub(crate) fn run(&mut self, ended: &AtomicBool) -> Result<(), RunError> {
        let mut events = Events::with_capacity(256);
        let mut until: Option<Instant> = None;
        self.speak(Instant::now(), speaker::Input::Start);
        loop {
            let now = Instant::now();
            let timeout = if self.ready.is_empty() { self.due(now, until) } else { Some(Duration::ZERO) };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            self.ready.extend(events.iter().map(mio::event::Event::token));
            let now = Instant::now();
            for token in std::mem::take(&mut self.ready) {
                if token == SIGNALS {
                    if let Some(signal) = self.signals.pending().next() {
                        tracing::info!(signal, "stopping");
                        let ending = if signal == SIGHUP { Ending::Restart } else { Ending::Stop };
                        self.end_sessions(now, ending);
                        if ending == Ending::Stop {
                            self.end_registrations(now);
                        }
                        until.get_or_insert(now + FAREWELL);
                    }
                } else if self.serve(token, now)? {
                    self.ready.insert(token);
                }
            }
            if self.take_misses(now) {
                self.ready.insert(BELL);
            }
            self.wake(now);
            self.publish(now);
            if until.is_some_and(|until| until <= now || self.sessions_ended()) {
                return Ok(());
            }
            if ended.load(Ordering::Relaxed) {
                return Err(RunError::Unfit("a worker ended by itself; stopping".to_owned()));
            }
        }
    }

    /// Serves one socket; true if it may have more.
    fn serve(&mut self, token: Token, now: Instant) -> Result<bool, RunError> {
        match token {
            BELL => Ok(false), // the misses are taken in every round
            NETLINK => {
                self.hear_kernel(now)?;
                Ok(false)
            }
            API => self.accept(),
            Token(index) if index >= bgp::CONNECTION => Ok(self.serve_connection(token, now)),
            Token(index) if index >= CLIENT => Ok(self.serve_client(token, now)),
            Token(index) if index >= ICMP => Ok(self.serve_icmp(index - ICMP, now)),
            Token(index) if index >= LISTENER => Ok(self.serve_listener(index - LISTENER, now)),
            Token(index) if index >= TABLE => Ok(self.serve_table(index - TABLE, now)),
            Token(index) if index >= TUN => Ok(self.serve_device(TunnelId(index - TUN), now)),
            Token(index) if index >= GRE => Ok(self.serve_gre(index - GRE, now)),
            Token(index) => Ok(self.serve_control(index - CONTROL, now)),
        }
    }

    /// Takes what workers miss; true if some is left for the next round.
    fn take_misses(&mut self, now: Instant) -> bool {
        let mut left = false;
        for index in 0..self.workers.len() {
            for _ in 0..ROUND {
                let Ok(miss) = self.workers[index].misses.pop() else { break };
                self.missed(now, miss);
            }
            left |= !self.workers[index].misses.is_empty();
        }
        left
    }

    fn missed(&mut self, now: Instant, miss: Miss) {
        self.traffic.misses += 1;
        match miss.wanted {
            Wanted::Neighbour => self.want_host(now, miss.destination),
            Wanted::Mapping if self.is_known(miss.destination) => {}
            Wanted::Mapping => self.resolve(now, resolver::Input::Miss(miss)),
        }
    }

    /// Whether asking would bring nothing new: the mapping came while the miss was on its way, or is there and only the
    /// path to its locators is missing.
    fn is_known(&self, eid: Eid) -> bool {
        let asks_again = |cached: &Cached<'_>| cached.is_negative() && cached.action == Action::SendMapRequest;
        self.map_cache.lookup(eid).is_some_and(|cached| !asks_again(&cached))
    }

    /// How long the loop may sleep; `until` is when it ends.
    fn due(&self, now: Instant, until: Option<Instant>) -> Option<Duration> {
        let reclaim = (self.limbo > 0 || self.publisher.wants_mending()).then(|| now + RECLAIM_EVERY);
        [
            self.resolver.due(),
            self.map_cache.due(),
            self.kernel.underlay.due(),
            self.tunnels_due(),
            self.tables_due(),
            self.speaker_due(),
            self.registration_due(),
            self.reachability.due(),
            self.roles_due(),
            until,
            reclaim,
            Some(self.next_look),
            Some(self.next_stalled),
            Some(self.next_age),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|due| due.saturating_duration_since(now))
    }

    fn wake(&mut self, now: Instant) {
        let past = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if past(self.resolver.due()) {
            self.resolve(now, resolver::Input::Wake);
        }
        if past(self.map_cache.due()) {
            self.cache(now, map_cache::Input::Wake);
        }
        if past(self.kernel.underlay.due()) {
            self.learn(now, altitude_control::underlay::Input::Wake);
        }
        self.wake_tunnels(now);
        self.wake_tables(now);
        self.wake_speaker(now);
        self.wake_registration(now);
        self.wake_reachability(now);
        self.wake_roles(now);
        if self.next_look <= now {
            self.cache(now, map_cache::Input::Look);
            self.next_look = now + self.map_cache.look_every();
        }
        if self.next_stalled <= now {
            self.next_stalled = now + STALLED_EVERY;
            self.drop_stalled(now);
        }
        if self.next_age <= now {
            self.next_age = now + AGE_EVERY;
            self.age_hosts(now);
        }
    }

    /// Ends the round's changes, and has workers look at what they hold.
    fn publish(&mut self, now: Instant) {
        if self.publisher.wants_mending() {
            self.mend(now);
        }
        if self.publisher.publish() {
            self.generation += 1;
            for worker in &self.workers {
                worker.waker.wake();
            }
        }
        self.limbo = self.publisher.limbo();
    }

    /// Gives the interfaces back to the kernel.
    pub(crate) fn detach(&mut self) {
        self.steering.clear();
    }

    /// Writes what must survive, and says how the run ended: whether every frame is accounted for.
    pub(crate) fn farewell(&mut self) {
        self.end_roles();
        let total = |count: fn(&altitude_dataplane::counters::Counters) -> u64| -> u64 {
            self.workers.iter().map(|worker| count(&worker.counters)).sum()
        };
        let leaked = total(|counters| counters.leaked.get());
        let (encapsulated, decapsulated) =
            (total(|counters| counters.encapsulated.get()), total(|counters| counters.decapsulated.get()));
        if leaked > 0 {
            tracing::error!(leaked, "frames are unaccounted for: please report this");
        }
        tracing::info!(encapsulated, decapsulated, leaked, "stopped");
    }
}

/// Octets from the operating system's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], RunError> {
    let mut octets = [0; N];
    match getrandom::fill(&mut octets) {
        Ok(()) => Ok(octets),
        Err(error) => Err(RunError::Unfit(format!("the system gives no random numbers: {error}"))),
    }
}
