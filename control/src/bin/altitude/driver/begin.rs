//! The control thread before its first round.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    time::Instant,
};

use altitude_control::{
    alt::{datagrams::Engine, tunnels::Tunnels},
    config::Config,
    database::Database,
    lisp_sec::gate::Gate,
    map_cache::{self, MapCache},
    map_resolver::{Choice, MapResolver},
    map_server::MapServer,
    publisher::{self, Publisher},
    resolver::Resolver,
    responder::{self, Responder},
    strangers::Strangers,
};
use altitude_dataplane::{
    cache::Writer,
    mapping::{EidPrefix, Prefix},
    port::xsk::Steering,
};
use mio::{Interest, Poll, Token};
use signal_hook_mio::v1_0::Signals;

use super::{
    AGE_EVERY, API, API_READ_ONLY, CLIENT, CONTROL, DATA, Driver, GRE, ICMP, LISTENER, MESSAGE_MAX, NETLINK, SIGNALS,
    STALLED_EVERY, STEER_AGAIN, TABLE, TUN,
    bgp::Connections,
    counts::{Faults, Traffic},
    inside::Inside,
    messages,
    nat_site::NatSite,
    news::News,
    operations::Operations,
    pubsub::PubSub,
    reachability::Reachability,
    registration::Registration,
    relay::Relaying,
    reload::Source,
    ribs, roles,
    trace::Traces,
    tunnels::{self, TunnelState},
};
use crate::{
    run::{Kernel, RunError, SITE_HOSTS_MAX, Sockets},
    service::Service,
    workers::WorkerLink,
};

/// What the publisher goes by.
fn publisher_settings(config: &Config) -> publisher::Settings {
    publisher::Settings {
        rlocs: config.rlocs.clone(),
        petrs: config.roles.petrs.clone(),
        hosts_max: SITE_HOSTS_MAX,
        native_by_host: config.roles.proxies.is_on(),
        features: config.features,
    }
}

/// What answers Map-Requests for our own mappings.
fn responder(config: &Config) -> Responder {
    Responder::new(responder::Settings {
        echo_nonce: config.features.nonces,
        ..responder::Settings::new(config.database.clone(), config.rlocs.clone())
    })
}

impl<'a> Driver<'a> {
    #[expect(clippy::too_many_arguments, reason = "called once, by the composition root")]
    pub(crate) fn new(
        config: &'a Config,
        source: Source<'a>,
        poll: Poll,
        signals: Signals,
        kernel: Kernel,
        mut sockets: Sockets,
        writer: Writer,
        steering: Vec<Steering>,
        workers: Vec<WorkerLink>,
    ) -> Result<Self, RunError> {
        let own: Vec<EidPrefix> = config.database.iter().map(|mapping| mapping.eid).collect();
        let tunnels = Tunnels::new(config.tunnels.clone()).map_err(|error| RunError::Unfit(error.to_string()))?;
        let now = Instant::now();
        let bgp = Connections::new(std::mem::take(&mut sockets.bgp), config, now);
        let (registration, mut nonces) = (Registration::new(config, now)?, messages::nonces()?);
        let mut driver = Self {
            config,
            own: Database::new(&config.database, now),
            source,
            rib: ribs::routes(config, bgp.mark.as_ref(), now)?,
            bgp,
            pubsub: PubSub::new(config, &registration, &mut nonces, now),
            relaying: Relaying::new(config),
            nat_site: NatSite::new(config, &registration, &mut nonces, now),
            registration,
            poll,
            signals,
            kernel,
            sockets,
            connections: HashMap::new(),
            next_client: CLIENT,
            operations: Operations::default(),
            news: News::default(),
            traces: Traces::default(),
            steering,
            workers,
            resolver: Resolver::new(messages::resolver_settings(config, own.clone())),
            responder: responder(config),
            map_cache: MapCache::new(map_cache::Settings { capacity: config.map_cache_max }, now),
            publisher: Publisher::new(publisher_settings(config), writer),
            reachability: Reachability::new(config, now),
            inside: Inside::new(config, now),
            engine: Engine::new(tunnels::engine_settings(config, own), &tunnels),
            datagrams: Vec::new(),
            map_resolver: config.roles.map_resolver.clone().map(MapResolver::new),
            gate: Gate::new(config.lisp_sec.as_ref().map(|settings| settings.gate.clone())),
            map_server: MapServer::new(roles::server_settings(config), now),
            state: None,
            map_resolvers: Choice::new(config.roles.map_resolvers.clone()),
            announced: BTreeSet::new(),
            tunnels,
            strangers: config.roles.proxies.is_on().then(|| Strangers::new(config.roles.proxies.rate)),
            faults: Faults::default(),
            traffic: Traffic::default(),
            nonces,
            ready: BTreeSet::new(),
            next_look: now + map_cache::LOOK_ROUND,
            next_stalled: now + STALLED_EVERY,
            next_age: now + AGE_EVERY,
            limbo: 0,
            generation: 0,
            tunnel_states: config.tunnels.iter().map(|t| TunnelState::new(t.options.keepalive, now)).collect(),
            service: Service::new(),
            next_paths: None,
            next_steer: None,
            buffer: vec![0; MESSAGE_MAX],
        };
        driver.enter(now).map(|()| driver)
    }

    /// What is left to do before the first round.
    fn enter(&mut self, now: Instant) -> Result<(), RunError> {
        self.register()?;
        self.fill(now);
        self.steer()?;
        self.watch_tunnels(now);
        self.check_own_rlocs(now);
        Ok(())
    }

    fn register(&mut self) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut self.signals, SIGNALS, Interest::READABLE)?;
        registry.register(&mut self.kernel.netlink, NETLINK, Interest::READABLE)?;
        registry.register(&mut self.sockets.api, API, Interest::READABLE)?;
        if let Some(listener) = &mut self.sockets.api_read_only {
            registry.register(listener, API_READ_ONLY, Interest::READABLE)?;
        }
        for (index, socket) in self.sockets.control.iter_mut().enumerate() {
            registry.register(socket, Token(CONTROL + index), Interest::READABLE)?;
        }
        for (index, socket) in self.sockets.data.iter_mut().enumerate() {
            registry.register(socket, Token(DATA + index), Interest::READABLE)?;
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
            self.publisher.own(mapping.eid, &mut Vec::new());
        }
        self.mark_own(now);
        for mapping in &self.config.map_cache {
            self.cache(now, map_cache::Input::Static(mapping.clone()));
        }
        self.begin_roles(now);
        self.publish(now);
    }

    /// Tells the steering programs what is ours.
    pub(super) fn steer(&mut self) -> Result<(), RunError> {
        let prefixes = |instance| -> Vec<Prefix> {
            let own = self.own.iter().map(|own| own.mapping.eid);
            own.filter(|eid| eid.instance == instance).map(|eid| eid.prefix).collect()
        };
        let aggregates = |instance| -> Vec<Prefix> {
            let all = self.config.roles.proxies.aggregates.iter();
            all.filter(|eid| eid.instance == instance).map(|eid| eid.prefix).collect()
        };
        let own = self.kernel.underlay.own_addresses();
        for (steering, port) in self.steering.iter_mut().zip(&self.config.ports) {
            steering.set_behind_nat(self.config.nat.keepalive.is_some())?;
            steering.set_rlocs(&self.config.rlocs)?;
            steering.set_own_addresses(&own)?;
            if port.native {
                steering.set_aggregates(&aggregates(port.instance))?;
            } else {
                steering.set_site_prefixes(&prefixes(port.instance))?;
            }
        }
        Ok(())
    }

    /// The same while packets pass: what a kernel refuses now it may take later.
    pub(super) fn steer_or_again(&mut self, now: Instant) {
        let steered = self.steer();
        self.next_steer = steered.is_err().then_some(now + STEER_AGAIN);
        if let Err(error) = steered {
            tracing::error!(%error, "the steering programs were not told of EID-prefixes or addresses; tried again in a while");
        }
    }
}
