//! The control thread: owns the sockets and timers, feeds the machines, and does what they say.
//!
//! One event loop. Every socket is served a bounded number of messages a round, so that a flood at one starves no
//! other; what changed in a round becomes visible to workers in one step at its end.

mod begin;
mod bgp;
mod clients;
mod counts;
mod database;
mod features;
mod inside;
mod lisp_sec;
mod messages;
mod nat_site;
mod news;
mod operations;
mod pubsub;
mod reachability;
mod registration;
mod relay;
pub(crate) mod reload;
mod restart;
pub(crate) mod ribs;
mod roles;
mod state;
mod sweeps;
mod tables;
mod trace;
pub(crate) mod tunnels;
mod view;

use std::{
    collections::{BTreeSet, HashMap},
    ffi::c_int,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use altitude_control::{
    alt::{
        bgp::speaker::{self, Speaker},
        datagrams::{self, Engine},
        rib::sources::Routes,
        tunnels::{TunnelId, Tunnels},
    },
    api::{MissReason, Rights},
    config::Config,
    database::Database,
    lisp_sec::gate::Gate,
    map_cache::{self, Cached, MapCache},
    map_resolver::{Choice, MapResolver},
    map_server::MapServer,
    os::api_socket::Connection,
    publisher::Publisher,
    resolver::{self, Resolver},
    responder::Responder,
    strangers::Strangers,
};
use altitude_dataplane::{
    mapping::{Action, Eid, EidPrefix},
    port::xsk::Steering,
    verdict::{Miss, Wanted},
};
use mio::{Events, Poll, Token};
use rand_chacha::ChaCha20Rng;
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

pub(crate) use self::messages::nonces;
use self::{
    bgp::{Connections, Ending},
    counts::{Faults, Traffic},
    inside::Inside,
    nat_site::NatSite,
    news::News,
    operations::Operations,
    pubsub::PubSub,
    reachability::Reachability,
    registration::Registration,
    relay::Relaying,
    trace::Traces,
    tunnels::TunnelState,
};
use super::{
    log,
    run::{Kernel, RunError, Sockets},
    service::Service,
    workers::WorkerLink,
};

/// Workers ring it when they have queued misses.
pub(crate) const BELL: Token = Token(1);
const SIGNALS: Token = Token(0);
const NETLINK: Token = Token(2);
const API: Token = Token(3);
const API_READ_ONLY: Token = Token(5);
const CONTROL: usize = 0x1000;
const GRE: usize = 0x2000;
const TUN: usize = 0x3000;
const TABLE: usize = 0x4000;
const LISTENER: usize = 0x5000;
const ICMP: usize = 0x6000;
const DATA: usize = 0x7000;
const CLIENT: usize = 0x1_0000;

/// Messages taken from one socket, and misses from one worker, in one round.
const ROUND: usize = 256;
/// How often clients of the API that read nothing are looked for.
const STALLED_EVERY: Duration = Duration::from_secs(10);
/// How often site hosts age by one round.
const AGE_EVERY: Duration = Duration::from_secs(60);
/// How often what workers may still read is looked at, and what was refused is tried again, while there is some.
const RECLAIM_EVERY: Duration = Duration::from_millis(100);
/// After which the steering programs are told again what the kernel refused.
const STEER_AGAIN: Duration = Duration::from_secs(10);
/// Largest message or packet received.
const MESSAGE_MAX: usize = 65_536;
/// How long neighbours may take to hear that the router ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// The control thread's state.
pub(crate) struct Driver<'a> {
    config: &'a Config,
    /// Our own mappings: the configuration's, and what clients made of them.
    own: Database,
    source: reload::Source<'a>,
    poll: Poll,
    signals: Signals,
    kernel: Kernel,
    sockets: Sockets,
    connections: HashMap<Token, Connection>,
    next_client: usize,
    operations: Operations,
    news: News,
    traces: Traces,
    steering: Vec<Steering>,
    workers: Vec<WorkerLink>,
    resolver: Resolver,
    responder: Responder,
    map_cache: MapCache,
    publisher: Publisher,
    reachability: Reachability,
    inside: Inside,
    tunnels: Tunnels,
    rib: Routes<Speaker>,
    bgp: Connections,
    engine: Engine,
    /// What the engine last said; kept for its memory.
    datagrams: Vec<datagrams::Output>,
    map_resolver: Option<MapResolver>,
    gate: Gate,
    map_server: MapServer,
    registration: Registration,
    pubsub: PubSub,
    relaying: Relaying,
    nat_site: NatSite,
    /// Where it writes what must survive a restart.
    state: Option<state::State>,
    /// Whom we ask ourselves.
    map_resolvers: Choice,
    /// EID-prefixes of our Map-Server's sites that are served now: what the ALT is to be told of.
    announced: BTreeSet<EidPrefix>,
    /// What others may have us look up; `None` where they cannot.
    strangers: Option<Strangers>,
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
    /// Changes of the tables so far.
    generation: u64,
    tunnel_states: Vec<TunnelState>,
    service: Service,
    /// When the MTUs of tunnels are to be looked at.
    next_paths: Option<Instant>,
    /// When the steering programs are told again what they were not told of.
    next_steer: Option<Instant>,
    buffer: Vec<u8>,
}

impl Driver<'_> {
    /// Serves until a signal comes, or until a worker's thread ends, which is a fault.
    pub(crate) fn run(&mut self, ended: &AtomicBool) -> Result<(), RunError> {
        let mut events = Events::with_capacity(256);
        let mut until: Option<Instant> = None;
        self.speak(Instant::now(), speaker::Input::Start);
        self.service.ready(Instant::now(), &self.config.summary());
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
                    for signal in self.signals.pending().collect::<Vec<_>>() {
                        if self.signalled(now, signal) {
                            until.get_or_insert(now + FAREWELL);
                        }
                    }
                } else if self.serve(token, now)? {
                    self.ready.insert(token);
                }
            }
            if self.take_misses(now) | self.take_sightings(now) {
                self.ready.insert(BELL);
            }
            if self.sweep(now) {
                self.ready.insert(BELL);
            }
            self.wake(now);
            self.publish(now);
            self.distribute(now);
            if until.is_some_and(|until| until <= now || (self.sessions_ended() && self.subscriptions_ended())) {
                return Ok(());
            }
            if ended.load(Ordering::Relaxed) {
                return Err(RunError::Unfit("a worker ended by itself; stopping".to_owned()));
            }
        }
    }

    /// Does what a signal asks for; true if the router is to end.
    fn signalled(&mut self, now: Instant, signal: c_int) -> bool {
        if signal == SIGHUP {
            // What came of it is in the log.
            let _ = self.reload(now);
            return false;
        }
        tracing::info!(signal, "stopping");
        self.service.stopping();
        let ending = if signal == SIGUSR1 { Ending::Restart } else { Ending::Stop };
        self.end_sessions(now, ending);
        if ending == Ending::Stop {
            self.end_registrations(now);
            self.end_subscriptions(now);
        }
        true
    }

    /// Serves one socket; true if it may have more.
    fn serve(&mut self, token: Token, now: Instant) -> Result<bool, RunError> {
        match token {
            BELL => Ok(false), // the misses are taken in every round
            NETLINK => {
                self.hear_kernel(now)?;
                Ok(false)
            }
            API => self.accept(Rights::Write),
            API_READ_ONLY => self.accept(Rights::Read),
            Token(index) if index >= bgp::CONNECTION => Ok(self.serve_connection(token, now)),
            Token(index) if index >= CLIENT => Ok(self.serve_client(token, now)),
            Token(index) if index >= DATA => Ok(self.serve_data(index - DATA, now)),
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
            self.take_samples(now, index);
            for _ in 0..ROUND {
                let Ok(miss) = self.workers[index].misses.pop() else { break };
                self.take_samples(now, index);
                self.missed(now, miss);
            }
            left |= !self.workers[index].misses.is_empty();
        }
        self.end_samples(now, left);
        left
    }

    fn missed(&mut self, now: Instant, miss: Miss) {
        self.traffic.misses += 1;
        if !self.may_ask(now, &miss) {
            self.traffic.misses_limited += 1;
            return;
        }
        match miss.wanted {
            Wanted::Neighbour => self.want_host(now, miss.destination),
            Wanted::Mapping if self.is_known(miss.destination) => {}
            Wanted::Mapping => {
                let known = self.map_cache.lookup(miss.destination).is_some();
                let reason = if known { MissReason::SendMapRequest } else { MissReason::NoEntry };
                self.miss_news(now, EidPrefix::host(miss.destination), reason, Some(miss.source));
                self.resolve(now, resolver::Input::Miss(miss));
            }
        }
    }

    /// Whether the packet that missed may have something looked up: one of our site always may, another's within limits.
    fn may_ask(&mut self, now: Instant, miss: &Miss) -> bool {
        let Some(strangers) = &mut self.strangers else { return true };
        let ours = |address| {
            let eid = Eid { address, ..miss.destination };
            self.publisher.own_prefix(eid).is_some()
        };
        ours(miss.source) || ours(miss.destination.address) || strangers.allow(now, miss.source).is_ok()
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
            self.pubsub_due(),
            self.relaying.due(),
            self.nat_site_due(),
            self.reachability.due(),
            self.inside.due(),
            self.roles_due(),
            self.traces.due(),
            self.service.due(),
            self.next_steer,
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
        self.wake_pubsub(now);
        self.wake_relay(now);
        self.wake_nat_site(now);
        self.wake_reachability(now);
        self.wake_inside(now);
        self.wake_roles(now);
        self.wake_trace(now);
        log::settle();
        self.service.wake(now);
        if past(self.next_steer) {
            self.steer_or_again(now);
        }
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
