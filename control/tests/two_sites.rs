//! Two sites and an ALT router as values, under a clock of the test's own: every octet that would cross a wire is encoded and
//! read back.
//!
//! ```text
//! site 1.1.0.0/16 ─ west ══ALT══ middle ══ALT══ east ─ site 2.2.0.0/16
//!       240.0.254.10 ────────── underlay ────────── 240.0.254.20
//! ```

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_control::{
    alt::{
        datagrams::{self, Engine},
        rib::{Hop, StaticRib},
        tunnels::{Options, Payload, Tunnel, TunnelId, Tunnels},
    },
    map_cache::{self, MapCache},
    resolver::{self, Resolver},
    responder::{self, Arrival, Responder},
    wire::{MapReply, Message},
};
use altitude_dataplane::{
    mapping::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Ttl},
    verdict::{Miss, Wanted},
};

const WEST: usize = 0;
const EAST: usize = 2;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

/// One process with all its machines.
struct Node {
    rloc: IpAddr,
    tunnels: Tunnels,
    rib: StaticRib,
    engine: Engine,
    resolver: Resolver,
    responder: Responder,
    cache: MapCache,
    nonce: u64,
}

/// What is under way on the underlay.
enum Flight {
    Gre { from: IpAddr, to: IpAddr, octets: Vec<u8> },
    Control { to: SocketAddr, octets: Vec<u8> },
}

impl Node {
    /// `routes` lead to a neighbour's RLOC, or nowhere.
    fn new(rloc: &str, site: Option<&str>, neighbours: &[&str], routes: &[(&str, Option<&str>)]) -> Self {
        let rloc = address(rloc);
        let tunnel = |(index, remote): (usize, &&str)| Tunnel {
            name: format!("alt{index}"),
            local: rloc,
            remote: address(remote),
            key: Some(77),
            checksum: true,
            addresses: Vec::new(),
            options: Options::default(),
        };
        let tunnels = Tunnels::new(neighbours.iter().enumerate().map(tunnel).collect()).unwrap();
        let hop = |neighbour: &Option<&str>| match neighbour {
            Some(remote) => Hop::Tunnel(TunnelId(neighbours.iter().position(|other| other == remote).unwrap())),
            None => Hop::Discard,
        };
        let routes = routes.iter().map(|(prefix, neighbour)| (eid(prefix), hop(neighbour))).collect();
        let mapping = |prefix: &str| Mapping {
            locators: vec![Locator::unicast(rloc, 1, 100)],
            ..Mapping::negative(eid(prefix), Ttl::Minutes(10), Action::NoAction)
        };
        let database: Vec<EidPrefix> = site.iter().map(|prefix| eid(prefix)).collect();
        Self {
            rloc,
            engine: Engine::new(datagrams::Settings::new(vec![rloc], database.clone()), &tunnels),
            tunnels,
            rib: StaticRib::new(routes).unwrap(),
            resolver: Resolver::new(resolver::Settings {
                pitr: false,
                itr_rlocs: vec![rloc],
                database,
                shortest_v4: 8,
                shortest_v6: 16,
                pending_max: 64,
                source_max: 64,
                site_max: 64,
                records_max: 32,
                security: None,
            }),
            responder: Responder::new(responder::Settings::new(site.into_iter().map(mapping).collect(), vec![rloc])),
            cache: MapCache::new(map_cache::Settings { capacity: 64 }, Instant::now()),
            nonce: 0,
        }
    }

    fn miss(&mut self, now: Instant, destination: &str) -> Vec<Flight> {
        let destination = Eid { instance: InstanceId::DEFAULT, address: address(destination) };
        let miss = Miss { wanted: Wanted::Mapping, destination, source: address("1.1.1.1") };
        self.resolve(now, resolver::Input::Miss(miss))
    }

    /// Runs the resolver, the map-cache on what it learns, and the ALT engine on what it asks.
    fn resolve(&mut self, now: Instant, input: resolver::Input) -> Vec<Flight> {
        let mut todo = Vec::new();
        let nonce = &mut self.nonce;
        let mut nonces = || {
            *nonce += 1;
            *nonce
        };
        self.resolver.step(now, input, &mut nonces, &mut todo);
        let (mut into_alt, mut told) = (Vec::new(), Vec::new());
        for output in todo {
            match output {
                resolver::Output::Request { target, instance, message, .. } => {
                    let target = Eid { instance, address: target };
                    self.engine.originate(now, &message, self.rloc, target, &self.rib, &mut into_alt);
                }
                resolver::Output::Install(records) => {
                    self.cache.step(now, map_cache::Input::Install(records), &|_| 0, &mut told);
                }
                resolver::Output::GiveUp(eid) => {
                    self.cache.step(now, map_cache::Input::GiveUp(eid), &|_| 0, &mut told);
                }
                resolver::Output::Discard(fault) => panic!("{fault:?}"),
                resolver::Output::Insecure(fault) => panic!("{fault:?}"),
                resolver::Output::Proven => panic!("nobody signs"),
            }
        }
        self.perform(now, into_alt, &[])
    }

    fn perform(&mut self, now: Instant, todo: Vec<datagrams::Output>, given: &[u8]) -> Vec<Flight> {
        let through = |tunnel, packet: &[u8]| {
            let octets = self.tunnels.wrap(tunnel, packet).unwrap();
            Flight::Gre { from: self.rloc, to: self.tunnels.get(tunnel).unwrap().remote, octets }
        };
        let perform = |output| match output {
            datagrams::Output::PassOn { tunnel, length } => through(tunnel, &given[..length]),
            datagrams::Output::Forward { tunnel, packet } => through(tunnel, &packet),
            datagrams::Output::Deliver { request, source } => {
                let arrival = Arrival { source, destination: None };
                let answer = self.responder.answer(now, &request, arrival).unwrap();
                Flight::Control { to: answer.to, octets: answer.message.encode() }
            }
            datagrams::Output::NegativeReply { to, message } => Flight::Control { to, octets: message.encode() },
            other => panic!("{other:?}"),
        };
        todo.into_iter().map(perform).collect()
    }

    fn receive(&mut self, now: Instant, flight: Flight) -> Vec<Flight> {
        match flight {
            Flight::Gre { from, to, octets } => {
                let (tunnel, payload) = self.tunnels.receive(from, to, &octets).unwrap();
                let Payload::Packet(packet) = payload else { panic!("{payload:?}") };
                let (mut packet, mut todo) = (packet.to_vec(), Vec::new());
                self.engine.receive(now, tunnel, &mut packet, &self.rib, &mut todo);
                self.perform(now, todo, &packet)
            }
            Flight::Control { octets, .. } => {
                let Ok(Message::MapReply(reply)) = Message::parse(&octets) else { panic!("no Map-Reply") };
                self.resolve(now, resolver::Input::Reply(reply))
            }
        }
    }

    fn cached(&self, destination: &str) -> Option<Mapping> {
        let eid = Eid { instance: InstanceId::DEFAULT, address: address(destination) };
        self.cache.lookup(eid).map(|cached| cached.mapping())
    }
}

/// The slides' numbers, and at the ALT router an aggregate over both sites.
fn nodes() -> [Node; 3] {
    let (west, middle, east) = ("240.0.254.10", "240.0.254.1", "240.0.254.20");
    let sites = [("0.0.0.0/4", None), ("1.1.0.0/16", Some(west)), ("2.2.0.0/16", Some(east))];
    [
        Node::new(west, Some("1.1.0.0/16"), &[middle], &[("0.0.0.0/0", Some(middle))]),
        Node::new(middle, None, &[west, east], &sites),
        Node::new(east, Some("2.2.0.0/16"), &[middle], &[("0.0.0.0/0", Some(middle))]),
    ]
}

/// Lets everything under way arrive; says what arrived where.
fn settle(nodes: &mut [Node], now: Instant, mut flights: Vec<Flight>) -> Vec<String> {
    let mut seen = Vec::new();
    while !flights.is_empty() {
        let flight = flights.remove(0);
        let to = match &flight {
            Flight::Gre { to, .. } => {
                seen.push(format!("GRE to {to}"));
                *to
            }
            Flight::Control { to, .. } => {
                seen.push(format!("UDP to {to}"));
                to.ip()
            }
        };
        assert!(seen.len() < 100, "it goes on for ever: {seen:?}");
        let node = nodes.iter_mut().find(|node| node.rloc == to).expect("to somebody");
        flights.extend(node.receive(now, flight));
    }
    seen
}

/// ALT-5, ALT-11.
#[test]
fn a_miss_goes_through_the_alt_and_the_answer_comes_back_on_the_underlay() {
    let (mut nodes, now) = (nodes(), Instant::now());
    let flights = nodes[WEST].miss(now, "2.2.2.2");
    let seen = settle(&mut nodes, now, flights);
    assert_eq!(seen, ["GRE to 240.0.254.1", "GRE to 240.0.254.20", "UDP to 240.0.254.10:4342"]);
    let mapping = nodes[WEST].cached("2.2.200.200").expect("the whole prefix is known now");
    assert_eq!((mapping.eid, mapping.authoritative), (eid("2.2.0.0/16"), true));
    assert_eq!(mapping.locators[0].address, address("240.0.254.20"));
    assert!(mapping.locators[0].local && mapping.locators[0].usable());
}

#[test]
fn an_eid_of_no_site_is_a_hole_and_its_prefix_meets_no_site() {
    let (mut nodes, now) = (nodes(), Instant::now());
    let flights = nodes[WEST].miss(now, "8.8.8.8");
    let seen = settle(&mut nodes, now, flights);
    assert_eq!(seen, ["GRE to 240.0.254.1", "UDP to 240.0.254.10:4342"]);
    let hole = nodes[WEST].cached("8.8.8.8").unwrap();
    // The hole is 8.0.0.0/5; the ITR believes no more than a /8 of it.
    assert_eq!((hole.eid, hole.action, hole.ttl), (eid("8.0.0.0/8"), Action::NativelyForward, Ttl::Minutes(15)));
    assert_eq!(nodes[WEST].cached("2.2.2.2"), None);
}

#[test]
fn a_site_that_is_gone_is_told_for_a_minute_and_makes_no_loop() {
    let (mut nodes, now) = (nodes(), Instant::now());
    // East forgot its own prefix: its default route leads back to where the request came from.
    nodes[EAST] = Node::new("240.0.254.20", None, &["240.0.254.1"], &[("0.0.0.0/0", Some("240.0.254.1"))]);
    let flights = nodes[WEST].miss(now, "2.2.2.2");
    let seen = settle(&mut nodes, now, flights);
    assert_eq!(seen, ["GRE to 240.0.254.1", "GRE to 240.0.254.20", "UDP to 240.0.254.10:4342"]);
    let gone = nodes[WEST].cached("2.2.2.2").unwrap();
    assert_eq!((gone.action, gone.ttl), (Action::NativelyForward, Ttl::Minutes(1)));
}

/// ITR-47.
#[test]
fn a_mute_mapping_system_ends_in_a_short_drop_and_a_working_one_in_a_mapping() {
    let (mut nodes, start) = (nodes(), Instant::now());
    let mut lost = nodes[WEST].miss(start, "2.2.2.2");
    for second in 1..=160 {
        lost.extend(nodes[WEST].resolve(start + Duration::from_secs(second), resolver::Input::Wake));
    }
    assert_eq!(lost.len(), 10, "ten tries, all lost");
    assert_eq!(nodes[WEST].cached("2.2.2.2").map(|mapping| mapping.action), Some(Action::Drop));
    let now = start + Duration::from_secs(200);
    nodes[WEST].cache.step(now, map_cache::Input::Wake, &|_| 0, &mut Vec::new());
    assert_eq!(nodes[WEST].cached("2.2.2.2"), None);
    let flights = nodes[WEST].miss(now, "2.2.2.2");
    settle(&mut nodes, now, flights);
    assert_eq!(nodes[WEST].cached("2.2.2.2").map(|mapping| mapping.eid), Some(eid("2.2.0.0/16")));
}

/// ITR-23.
#[test]
fn a_forged_answer_changes_nothing() {
    let (mut nodes, now) = (nodes(), Instant::now());
    let flights = nodes[WEST].miss(now, "2.2.2.2");
    let forged = Mapping {
        locators: vec![Locator::unicast(address("6.6.6.6"), 1, 100)],
        ..Mapping::negative(eid("2.2.0.0/16"), Ttl::Minutes(1440), Action::NoAction)
    };
    let reply = MapReply { nonce: 0xbad, probe: false, echo_nonce: false, records: vec![forged], security: None };
    let mut todo = Vec::new();
    nodes[WEST].resolver.step(now, resolver::Input::Reply(reply), &mut || 0, &mut todo);
    assert_eq!(todo, [resolver::Output::Discard(resolver::ResolverFault::NonceUnknown)]);
    settle(&mut nodes, now, flights);
    assert_eq!(nodes[WEST].cached("2.2.2.2").unwrap().locators[0].address, address("240.0.254.20"));
}
