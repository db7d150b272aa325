//! A worker with in-process ports, its table, its queue to the control thread and a clock that stands still.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use altitude_dataplane::{
    cache::{self, Choice, Delivery, Forwarding, Reader, Writer},
    counters::Counters,
    features::Features,
    frame::Umem,
    mapping::{Adjacency, Candidate, EidPrefix, InstanceId, LocatorSet, OuterHeader, VlanTag},
    port::{MemPort, Port, Region},
    proxy::Proxy,
    queue::{self, Consumer},
    sightings::Sighting,
    tap::{self, Watch},
    verdict::{Miss, Reason},
    worker::{DscpModel, Hold, PortRole, Settings, SourceCheck, Worker, turn},
};

use crate::packets::{CORE, HOST, PEER, SITE};

pub(crate) const SITE_PORT: usize = 0;
pub(crate) const CORE_PORT: usize = 1;
/// A port that is site and core at once.
pub(crate) const BOTH_PORT: usize = 2;
/// Two ports towards networks without LISP; the second is a core port, too.
pub(crate) const NATIVE_PORT: usize = 3;
pub(crate) const NATIVE_CORE_PORT: usize = 4;

/// How a world differs from the usual one.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) slots: usize,
    pub(crate) hold: Hold,
    pub(crate) misses: usize,
    pub(crate) source_check: SourceCheck,
    /// As a PETR of instance 0, and as a PITR for 2.0.0.0/8, 1.0.0.0/8 and 2001:db8::/32.
    pub(crate) proxy: bool,
    /// As a re-encapsulating router of instance 0.
    pub(crate) rtr: bool,
    /// It takes only what comes from somebody known.
    pub(crate) known: bool,
    /// The same, for xTRs behind NATs alone.
    pub(crate) nat: bool,
    /// Most frames of a batch.
    pub(crate) batch: usize,
    /// This side's number: EIDs n.n.0.0/16 and 2001:db8:n::/48, RLOCs 240.0.254.n0 and 2001:db8:254::n.
    pub(crate) side: u8,
    pub(crate) features: Features,
    pub(crate) dscp: DscpModel,
    /// Instance of the site port.
    pub(crate) instance: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            slots: 4096,
            hold: Hold::Queue,
            misses: 1024,
            source_check: SourceCheck::Standard,
            proxy: false,
            rtr: false,
            known: false,
            nat: false,
            batch: 64,
            side: 1,
            features: Features::default(),
            dscp: DscpModel::Uniform,
            instance: 0,
        }
    }
}

pub(crate) struct World<P = MemPort> {
    pub(crate) worker: Worker,
    pub(crate) ports: Vec<P>,
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    pub(crate) misses: Consumer<Miss>,
    pub(crate) sightings: Consumer<Sighting>,
    pub(crate) watch: Watch,
    pub(crate) counters: Arc<Counters>,
    pub(crate) now: Instant,
}

pub(crate) fn instance(number: u32) -> InstanceId {
    InstanceId::new(number).unwrap()
}

pub(crate) fn rloc(side: u8, v6: bool) -> IpAddr {
    let text = if v6 { format!("2001:db8:254::{side}") } else { format!("240.0.254.{side}0") };
    text.parse().unwrap()
}

/// Next hop out of a port, with the MTU of the link.
pub(crate) fn adjacency(port: usize, mtu: u16) -> Adjacency {
    let (destination, source) = if port == CORE_PORT || port >= NATIVE_PORT { (PEER, CORE) } else { (HOST, SITE) };
    Adjacency { port: port as u8, destination, source, vlan: None, mtu }
}

/// The choice of one locator: encapsulation from one RLOC to another.
pub(crate) fn choice(from: IpAddr, to: IpAddr, number: u32, adjacency: &Adjacency) -> Choice {
    let outer = OuterHeader::new(adjacency, from, to, instance(number));
    let candidate = Candidate { address: to, priority: 1, weight: 1, outer };
    Choice::Tunnel(LocatorSet::compile(&[candidate]).unwrap())
}

pub(crate) fn prefix(text: &str) -> EidPrefix {
    prefix_in(0, text)
}

pub(crate) fn prefix_in(number: u32, text: &str) -> EidPrefix {
    EidPrefix { instance: instance(number), prefix: text.parse().unwrap() }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::on((0..5).map(|_| MemPort::new()).collect(), options)
    }

    /// One frame in, one turn, everything that went out with its port.
    pub(crate) fn pass(&mut self, port: usize, frame: Vec<u8>) -> Vec<(usize, Vec<u8>)> {
        self.ports[port].arrive(frame);
        self.turn();
        self.sent()
    }

    /// As [`pass`](Self::pass) where exactly one frame must come out of `egress`.
    pub(crate) fn through(&mut self, port: usize, frame: Vec<u8>, egress: usize) -> Vec<u8> {
        let mut sent = self.pass(port, frame);
        assert_eq!(sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [egress], "drops: {:?}", self.drops());
        sent.remove(0).1
    }

    pub(crate) fn sent(&mut self) -> Vec<(usize, Vec<u8>)> {
        let ports = self.ports.iter_mut().enumerate();
        ports.flat_map(|(index, port)| port.take_sent().into_iter().map(move |frame| (index, frame))).collect()
    }
}

impl<P: Port> World<P> {
    /// A world whose local prefixes are in the table.
    pub(crate) fn on(ports: Vec<P>, options: Options) -> Self {
        let Options { slots, hold, misses, source_check, proxy, rtr, known, nat, batch, side, features, dscp, .. } =
            options;
        let number = options.instance;
        let role = |site, core, native| PortRole {
            site,
            core,
            native,
            instance: if core || native { InstanceId::DEFAULT } else { instance(number) },
            mac: if site { SITE } else { CORE },
            address4: Some([side, side, 0, 1].into()),
            address6: Some(format!("2001:db8:{side}::1").parse().unwrap()),
        };
        let settings = Settings {
            ports: vec![
                role(true, false, false),
                role(false, true, false),
                role(true, true, false),
                role(false, false, true),
                role(false, true, true),
            ],
            // The last two are those of the vectors.
            rlocs: vec![
                rloc(side, false),
                rloc(side, true),
                [203, 0, 113, 2].into(),
                "2001:db8:ffff::2".parse().unwrap(),
            ],
            hash_seed: 7,
            hold,
            source_check,
            proxy: Proxy {
                petr: proxy,
                rtr,
                known,
                nat,
                instances: vec![InstanceId::DEFAULT],
                aggregates: ["1.0.0.0/8", "2.0.0.0/8", "2001:db8::/32"].map(prefix).to_vec(),
            },
            batch,
        };
        let settings = Settings { ports: settings.ports.into_iter().take(ports.len()).collect(), ..settings };
        let (writer, mut readers) = cache::new(1024, 1);
        let (up, down) = queue::misses(misses);
        let counters = Arc::new(Counters::default());
        let umem = Umem::new(Region::anonymous(slots));
        let (told, sightings) = queue::sightings(64);
        let now = Instant::now();
        let (tap, watch) = tap::tap();
        let worker = Worker::new(settings, umem, up, counters.clone()).with_dscp(dscp);
        let worker = worker.with_features(features, told, now).with_tap(tap);
        let reader = readers.remove(0);
        let mut world = Self { worker, ports, writer, reader, misses: down, sightings, watch, counters, now };
        let local = Forwarding::Local(Delivery::Adjacent(adjacency(SITE_PORT, 1500)));
        world.writer.insert(prefix(&format!("{side}.{side}.0.0/16")), local).unwrap();
        world.learn(prefix(&format!("2001:db8:{side}::/48")), local);
        world
    }

    pub(crate) fn learn(&mut self, eid: EidPrefix, forwarding: Forwarding) {
        self.writer.insert(eid, forwarding).unwrap();
        self.writer.publish();
    }

    /// Encapsulates what goes to `eid` from one RLOC to another.
    pub(crate) fn learn_tunnel(
        &mut self,
        eid: EidPrefix,
        from: IpAddr,
        to: IpAddr,
        number: u32,
        adjacency: &Adjacency,
    ) {
        let set = self.writer.add_set(&[to], &choice(from, to, number, adjacency)).unwrap();
        self.learn(eid, Forwarding::Encapsulate(set));
    }

    /// Reaches side `to` (EIDs of both families) over RLOCs of one family.
    pub(crate) fn learn_side(&mut self, from: u8, to: u8, v6: bool, vlan: Option<VlanTag>) {
        let adjacency = Adjacency { vlan, ..adjacency(CORE_PORT, 1500) };
        for eid in [format!("{to}.{to}.0.0/16"), format!("2001:db8:{to}::/48")] {
            self.learn_tunnel(prefix(&eid), rloc(from, v6), rloc(to, v6), 0, &adjacency);
        }
    }

    pub(crate) fn turn(&mut self) -> usize {
        turn(&mut self.worker, &mut self.ports, &self.reader.snapshot(), self.now)
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    pub(crate) fn asked(&mut self) -> Vec<Miss> {
        std::iter::from_fn(|| self.misses.pop().ok()).collect()
    }

    /// What went up since the last call.
    pub(crate) fn told(&mut self) -> Vec<Sighting> {
        std::iter::from_fn(|| self.sightings.pop().ok()).collect()
    }

    /// Every reason that has counted something.
    pub(crate) fn drops(&self) -> BTreeMap<&'static str, u64> {
        let all = Reason::ALL.iter().map(|reason| (reason.name(), self.counters.dropped(*reason)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Every frame went one way and one way only; ends the run with nothing leaked.
    pub(crate) fn settle_accounts(self) {
        let counters = self.counters;
        let received: u64 = (0..5).map(|port| counters.port(port).received.packets.get()).sum();
        let sent: u64 = (0..5).map(|port| counters.port(port).sent.packets.get()).sum();
        let full = counters.dropped(Reason::TransmitFull);
        let dropped: u64 = Reason::ALL.iter().map(|reason| counters.dropped(*reason)).sum::<u64>() - full;
        let forwarded = counters.encapsulated.get() + counters.decapsulated.get() + counters.native.get();
        let forwarded = forwarded + counters.reencapsulated.get();
        let holding = self.worker.holding() as u64;
        assert_eq!(received + counters.split.get(), forwarded + dropped + holding, "what came in");
        assert_eq!(forwarded + counters.icmp_sent.get(), sent + full + self.worker.unsent() as u64, "what goes out");
        self.worker.finish(self.ports);
        assert_eq!(counters.leaked.get(), 0);
    }
}
