//! Stories of mappings, paths and hosts, seen through a worker's reader.

use std::{collections::BTreeSet, time::Instant};

use altitude_dataplane::{
    cache::{self, Reader, Way},
    mapping::{Hop, MapVersion, OUTER_MAX, Patch, Ttl},
};

use super::*;
use crate::map_cache::{self, Output};

/// An underlay that knows what the test tells it; what it was not told is waiting.
#[derive(Default)]
struct Known(HashMap<IpAddr, Path>, HashMap<IpAddr, prober::State>, Option<u32>, HashMap<IpAddr, Nonce>, Option<u16>);

const ALL: Features = Features { versions: true, status: true, nonces: true };

impl Paths for Known {
    fn path(&self, destination: IpAddr) -> Path {
        self.0.get(&destination).copied().unwrap_or(Path::Waiting)
    }

    fn source(&self, _destination: IpAddr) -> Option<IpAddr> {
        None
    }

    fn probed(&self, locator: IpAddr) -> prober::State {
        self.1.get(&locator).copied().unwrap_or_default()
    }

    fn nonce(&self, locator: IpAddr) -> Option<Nonce> {
        self.3.get(&locator).copied()
    }

    fn source_port(&self) -> Option<u16> {
        self.4
    }

    fn status(&self, _eid: &EidPrefix, _locators: &[Locator]) -> Option<u32> {
        self.2
    }
}

const fn adjacency(port: u8) -> Adjacency {
    Adjacency { port, destination: [2, 0, 0, 0, 0, port], source: [2; 6], vlan: None, mtu: 1600 }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn mapping(prefix: &str, locators: &[&str]) -> Mapping {
    Mapping {
        locators: locators.iter().map(|address| Locator::unicast(ip(address), 1, 50)).collect(),
        ..Mapping::negative(eid(prefix), Ttl::Minutes(1440), Action::NoAction)
    }
}

struct World {
    cache: MapCache,
    publisher: Publisher,
    reader: Reader,
    known: Known,
    now: Instant,
}

impl World {
    fn new(rlocs: &[&str], capacity: usize) -> Self {
        Self::with_petrs(rlocs, &[], capacity)
    }

    fn with_petrs(rlocs: &[&str], petrs: &[&str], capacity: usize) -> Self {
        Self::with(rlocs, petrs, capacity, false)
    }

    fn with(rlocs: &[&str], petrs: &[&str], capacity: usize, native_by_host: bool) -> Self {
        let (writer, mut readers) = cache::new(capacity, 1);
        let addresses = |list: &[&str]| list.iter().map(|address| ip(address)).collect();
        let (rlocs, petrs) = (addresses(rlocs), addresses(petrs));
        let settings = Settings { rlocs, petrs, hosts_max: 2, native_by_host, features: ALL };
        let now = Instant::now();
        Self {
            cache: MapCache::new(map_cache::Settings { capacity: 4096 }, now),
            publisher: Publisher::new(settings, writer),
            reader: readers.remove(0),
            known: Known::default(),
            now,
        }
    }

    /// Steps the map-cache and has the publisher do what it says.
    fn cache(&mut self, input: map_cache::Input) -> Vec<Watch> {
        let (mut outputs, mut todo) = (Vec::new(), Vec::new());
        let publisher = &self.publisher;
        self.cache.step(self.now, input, &|eid| publisher.hits(eid).packets, &mut outputs);
        for output in outputs {
            match output {
                Output::Publish(mapping, set) => self.publisher.show(&mapping, set, &self.known, &mut todo),
                Output::Withdraw(eid) => self.publisher.hide(&eid, &mut todo),
                Output::Release(set) => self.publisher.release(set, &mut todo),
                Output::Refresh(_) | Output::Used(_) | Output::Fault(_) => panic!("{output:?}"),
            }
        }
        todo
    }

    fn show(&mut self, mapping: Mapping) -> Vec<Watch> {
        self.cache(map_cache::Input::Static(mapping))
    }

    fn hide(&mut self, prefix: &str) -> Vec<Watch> {
        self.cache(map_cache::Input::Remove(eid(prefix)))
    }

    /// What header features say of the entry that packets to it meet.
    fn mark(&mut self, address: &str) -> Option<Mark> {
        let snapshot = self.reader.snapshot();
        snapshot.lookup(InstanceId::DEFAULT, ip(address)).map(|entry| snapshot.mark(entry))
    }

    fn path(&mut self, destination: &str, path: Path) {
        self.known.0.insert(ip(destination), path);
        self.publisher.path_changed(ip(destination), &self.known);
    }

    fn probed(&mut self, locator: &str, state: prober::State) {
        self.known.1.insert(ip(locator), state);
        self.publisher.path_changed(ip(locator), &self.known);
    }

    fn mend(&mut self) {
        self.publisher.mend(&self.cache, &self.known, &mut Vec::new());
    }

    /// Where packets of each slot go.
    fn slots(&mut self, address: &str) -> Vec<IpAddr> {
        self.publisher.publish();
        let snapshot = self.reader.snapshot();
        let Some(entry) = snapshot.lookup(InstanceId::DEFAULT, ip(address)) else { return Vec::new() };
        let ways = (0..64).map(|slot| snapshot.way(entry, slot << 26));
        ways.filter_map(|way| if let Way::Tunnel(outer) = way { Some(outer.destination()) } else { None }).collect()
    }

    /// What a packet to `address` meets after publication; of tunnels the destinations, over all flows.
    fn meets(&mut self, address: &str) -> Option<Met> {
        self.publisher.publish();
        let snapshot = self.reader.snapshot();
        let entry = snapshot.lookup(InstanceId::DEFAULT, ip(address))?;
        let ways = (0..64).map(|slot| snapshot.way(entry, slot << 26));
        let tunnels: BTreeSet<IpAddr> = ways
            .filter_map(|way| if let Way::Tunnel(outer) = way { Some(outer.destination()) } else { None })
            .collect();
        Some(match snapshot.way(entry, 0) {
            Way::Tunnel(_) => Met::Tunnels(tunnels.into_iter().collect()),
            Way::Deliver(next_hop) => Met::Deliver(next_hop.adjacency()),
            Way::Unresolved => Met::Unresolved,
            Way::Native(next_hop) => Met::Native(next_hop.adjacency()),
            Way::NativeUnresolved => Met::NativeUnresolved,
            Way::Request => Met::Request,
            Way::Drop(reason) => Met::Drop(reason),
        })
    }
}

#[derive(Debug, PartialEq)]
enum Met {
    Tunnels(Vec<IpAddr>),
    Deliver(Adjacency),
    Unresolved,
    Native(Adjacency),
    NativeUnresolved,
    Request,
    Drop(Reason),
}

fn tunnels(destinations: &[&str]) -> Option<Met> {
    Some(Met::Tunnels(destinations.iter().map(|destination| ip(destination)).collect()))
}

fn world() -> World {
    World::new(&["240.0.254.10", "2001:db8:f::10"], 64)
}

#[test]
fn a_mapping_is_asked_for_until_its_path_is_ready() {
    let mut world = world();
    let todo = world.show(mapping("2.2.0.0/16", &["240.0.254.20"]));
    assert_eq!(todo, [Watch::Start(ip("240.0.254.20"))]);
    assert_eq!(world.meets("2.2.2.2"), Some(Met::Request));
    world.path("240.0.254.20", Path::Ready(adjacency(1)));
    assert_eq!(world.meets("2.2.2.2"), tunnels(&["240.0.254.20"]));
    world.path("240.0.254.20", Path::Unreachable);
    assert_eq!(world.meets("2.2.2.2"), Some(Met::Drop(Reason::NoUsableLocator)), "no route is an answer, not a wait");
}

/// ITR-10.
#[test]
fn a_locator_of_a_family_we_lack_or_without_path_is_left_out() {
    let mut world = World::new(&["240.0.254.10"], 64);
    world.path("240.0.254.20", Path::Ready(adjacency(1)));
    world.path("240.0.254.21", Path::Unreachable);
    world.path("2001:db8:f::20", Path::Ready(adjacency(1)));
    world.show(mapping("2.2.0.0/16", &["240.0.254.20", "240.0.254.21", "2001:db8:f::20"]));
    assert_eq!(world.meets("2.2.2.2"), tunnels(&["240.0.254.20"]));
}

/// LOC-1, LOC-2.
#[test]
fn a_locator_that_is_not_reachable_or_of_priority_255_is_neither_watched_nor_used() {
    let mut world = world();
    world.path("240.0.254.22", Path::Ready(adjacency(1)));
    let mut record = mapping("2.2.0.0/16", &["240.0.254.20", "240.0.254.21", "240.0.254.22"]);
    record.locators[0].reachable = false;
    record.locators[1].priority = 255;
    assert_eq!(world.show(record), [Watch::Start(ip("240.0.254.22"))]);
    assert_eq!(world.meets("2.2.2.2"), tunnels(&["240.0.254.22"]));
    assert_eq!(world.hide("2.2.0.0/16"), [Watch::Stop(ip("240.0.254.22"))]);
}

/// ITR-33: the entry stays, and says that none of its locators can be used.
#[test]
fn a_mapping_without_a_usable_locator_drops() {
    let mut world = world();
    let rlocs = ["240.0.254.20", "2001:db8:f::20"];
    for rloc in rlocs {
        world.path(rloc, Path::Ready(adjacency(1)));
    }
    for (prefix, unusable) in [
        ("2.2.0.0/16", (|locator| locator.reachable = false) as fn(&mut Locator)),
        ("3.3.0.0/16", |locator| locator.priority = 255),
    ] {
        let mut record = mapping(prefix, &rlocs);
        record.locators.iter_mut().for_each(unusable);
        world.show(record);
        let address = eid(prefix).prefix.address().to_string();
        assert_eq!(world.meets(&address), Some(Met::Drop(Reason::NoUsableLocator)), "{prefix}");
        world.show(mapping(prefix, &rlocs));
        assert_eq!(world.meets(&address), tunnels(&rlocs), "{prefix}");
    }
}

#[test]
fn a_replaced_mapping_stops_watching_what_only_it_used() {
    let mut world = world();
    world.show(mapping("2.2.0.0/16", &["240.0.254.20", "240.0.254.21"]));
    world.show(mapping("3.3.0.0/16", &["240.0.254.21"]));
    let todo = world.show(mapping("2.2.0.0/16", &["240.0.254.22"]));
    assert_eq!(todo, [Watch::Start(ip("240.0.254.22")), Watch::Stop(ip("240.0.254.20"))]);
    assert_eq!(world.hide("3.3.0.0/16"), [Watch::Stop(ip("240.0.254.21"))]);
    assert_eq!((world.meets("3.3.3.3"), world.meets("2.2.2.2")), (None, Some(Met::Request)));
}

#[test]
fn a_changed_path_turns_the_set_and_all_mappings_that_have_it_follow() {
    let mut world = World::new(&["240.0.254.10"], 1024);
    world.path("240.0.254.20", Path::Ready(adjacency(1)));
    world.path("240.0.254.21", Path::Ready(adjacency(1)));
    for third in 0..=255 {
        world.show(mapping(&format!("2.2.{third}.0/24"), &["240.0.254.20", "240.0.254.21"]));
        world.show(mapping(&format!("3.3.{third}.0/24"), &["240.0.254.21"]));
    }
    assert_eq!(world.publisher.users[&ip("240.0.254.21")].sets.len(), 2, "two sets, however many mappings");
    assert_eq!(world.meets("2.2.9.9"), tunnels(&["240.0.254.20", "240.0.254.21"]));
    world.path("240.0.254.21", Path::Waiting);
    for third in 0..=255 {
        assert_eq!(world.meets(&format!("2.2.{third}.9")), tunnels(&["240.0.254.20"]));
        assert_eq!(world.meets(&format!("3.3.{third}.9")), Some(Met::Request));
    }
    world.path("240.0.254.21", Path::Ready(adjacency(2)));
    assert_eq!(world.meets("3.3.255.9"), tunnels(&["240.0.254.21"]));
}

#[test]
fn the_same_locators_in_two_instances_are_two_sets() {
    let mut world = world();
    world.path("240.0.254.20", Path::Ready(adjacency(1)));
    let mut other = mapping("2.2.0.0/16", &["240.0.254.20"]);
    other.eid.instance = InstanceId::new(7).unwrap();
    world.show(mapping("2.2.0.0/16", &["240.0.254.20"]));
    world.show(other);
    world.publisher.publish();
    let snapshot = world.reader.snapshot();
    let length = |instance| {
        let entry = snapshot.lookup(InstanceId::new(instance).unwrap(), ip("2.2.2.2")).unwrap();
        let Way::Tunnel(outer) = snapshot.way(entry, 0) else { panic!("no tunnel") };
        let mut frame = [0; OUTER_MAX];
        outer.stamp(&mut frame, &Patch { inner_length: 20, ttl: 64, tos: 0, flow: 0 });
        u32::from_be_bytes(frame[outer.len() - 4..outer.len()].try_into().unwrap()) >> 8
    };
    assert_eq!((length(0), length(7)), (0, 7), "each header carries its own Instance-ID");
}

#[test]
fn what_found_no_room_is_shown_once_there_is_some() {
    let mut world = World::new(&["240.0.254.10"], 2);
    world.path("240.0.254.20", Path::Ready(adjacency(1)));
    for prefix in ["2.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8"] {
        world.show(mapping(prefix, &["240.0.254.20"]));
    }
    assert_eq!((world.publisher.refused(), world.publisher.wants_mending()), (1, true));
    world.mend();
    assert_eq!((world.meets("4.4.4.4"), world.publisher.refused()), (None, 1), "counted once");
    world.hide("3.0.0.0/8");
    world.mend();
    assert_eq!(world.meets("4.4.4.4"), tunnels(&["240.0.254.20"]));
    assert!(!world.publisher.wants_mending());
    // What is withdrawn meanwhile is not missed.
    world.show(mapping("5.0.0.0/8", &["240.0.254.20"]));
    world.hide("5.0.0.0/8");
    assert!(!world.publisher.wants_mending());
}

/// ITR-29, ITR-30.
#[test]
fn negative_mappings_become_their_action() {
    let mut world = world();
    for (action, expected) in [
        (Action::NoAction, Met::Drop(Reason::ActNoAction)),
        (Action::SendMapRequest, Met::Request),
        (Action::Drop, Met::Drop(Reason::ActDrop)),
        (Action::DropPolicyDenied, Met::Drop(Reason::ActPolicyDenied)),
        (Action::DropAuthFailure, Met::Drop(Reason::ActAuthFailure)),
        (Action::NativelyForward, Met::Request),
    ] {
        world.show(Mapping::negative(eid("8.0.0.0/8"), Ttl::Minutes(15), action));
        assert_eq!(world.meets("8.8.8.8"), Some(expected), "{action}");
    }
    world.path("8.0.0.1", Path::Ready(adjacency(1)));
    assert_eq!(world.meets("8.8.8.8"), Some(Met::Native(adjacency(1))));
    world.path("8.0.0.1", Path::Unreachable);
    assert_eq!(world.meets("8.8.8.8"), Some(Met::Drop(Reason::NativeNoRoute)));
    // A site moved in: its path counts, the native one is watched no more.
    let todo = world.show(mapping("8.0.0.0/8", &["240.0.254.20"]));
    assert!(todo.contains(&Watch::Stop(ip("8.0.0.1"))) && todo.contains(&Watch::Start(ip("240.0.254.20"))));
    world.path("8.0.0.1", Path::Ready(adjacency(1)));
    assert_eq!(world.meets("8.8.8.8"), Some(Met::Request));
}

/// ITR-30, PETR-3: what is no EID goes to the PETRs, IPv6 over IPv4 too; other actions stay.
#[test]
fn petrs_share_what_would_go_natively() {
    let mut world = World::with_petrs(&["240.0.254.10"], &["240.0.254.60", "240.0.254.61"], 64);
    let todo = world.show(Mapping::negative(eid("8.0.0.0/8"), Ttl::Minutes(15), Action::NativelyForward));
    assert_eq!(todo, ["240.0.254.60", "240.0.254.61"].map(|petr| Watch::Start(ip(petr))), "not the prefix's own route");
    assert_eq!(world.meets("8.8.8.8"), Some(Met::Request));
    for petr in ["240.0.254.60", "240.0.254.61"] {
        world.path(petr, Path::Ready(adjacency(1)));
    }
    // The second prefix shares the set; of the other family it is all the same.
    assert_eq!(world.show(Mapping::negative(eid("2600::/12"), Ttl::Minutes(15), Action::NativelyForward)), []);
    world.show(Mapping::negative(eid("9.0.0.0/8"), Ttl::Minutes(15), Action::Drop));
    let both = || tunnels(&["240.0.254.60", "240.0.254.61"]);
    assert!(world.publisher.sends_to(ip("240.0.254.60")) && !world.publisher.has_locator(ip("240.0.254.60")));
    assert!(!world.publisher.sends_to(ip("240.0.254.62")));
    assert_eq!((world.meets("8.8.8.8"), world.meets("2600::1")), (both(), both()));
    assert_eq!(world.meets("9.9.9.9"), Some(Met::Drop(Reason::ActDrop)));
    world.path("240.0.254.60", Path::Unreachable);
    assert_eq!(
        (world.meets("8.8.8.8"), world.meets("2600::1")),
        (tunnels(&["240.0.254.61"]), tunnels(&["240.0.254.61"]))
    );
    world.path("240.0.254.61", Path::Unreachable);
    assert_eq!(world.meets("8.8.8.8"), Some(Met::Drop(Reason::NoUsableLocator)), "and not natively behind its back");
    world.hide("8.0.0.0/8");
    assert_eq!(world.meets("8.8.8.8"), None);
}

#[test]
fn site_hosts_come_go_and_are_bounded() {
    let mut world = world();
    let mut todo = Vec::new();
    world.publisher.own(eid("1.1.0.0/16"), &mut Vec::new());
    assert_eq!(world.meets("1.1.1.1"), Some(Met::Unresolved));

    let host = |last| Eid { instance: InstanceId::DEFAULT, address: IpAddr::from([1, 1, 1, last]) };
    world.path("1.1.1.1", Path::Ready(adjacency(0)));
    world.publisher.want_host(host(1), &world.known, &mut todo);
    world.publisher.want_host(host(1), &world.known, &mut todo);
    assert_eq!(todo, [Watch::Start(ip("1.1.1.1"))]);
    assert_eq!(world.meets("1.1.1.1"), Some(Met::Deliver(adjacency(0))));

    world.path("1.1.1.1", Path::Waiting);
    assert_eq!(world.meets("1.1.1.1"), Some(Met::Unresolved));

    world.publisher.want_host(host(2), &world.known, &mut todo);
    world.publisher.want_host(host(3), &world.known, &mut todo);
    assert_eq!((todo.len(), world.publisher.refused()), (2, 1), "the third host is beyond the limit");

    todo.clear();
    for _ in 0..IDLE_ROUNDS {
        world.publisher.age_hosts(&mut todo);
    }
    todo.sort_by_key(|watch| format!("{watch:?}"));
    assert_eq!(todo, [Watch::Stop(ip("1.1.1.1")), Watch::Stop(ip("1.1.1.2"))]);
}

#[test]
fn prefixes_that_are_ours_no_more_take_their_hosts_with_them_and_no_others() {
    let mut world = world();
    for text in ["1.1.0.0/16", "1.2.0.0/16", "1.3.0.0/16"] {
        world.publisher.own(eid(text), &mut Vec::new());
    }
    for (third, text) in [(2, "1.2.1.1"), (3, "1.3.1.1")] {
        world.path(text, Path::Ready(adjacency(0)));
        let host = Eid { instance: InstanceId::DEFAULT, address: IpAddr::from([1, third, 1, 1]) };
        world.publisher.want_host(host, &world.known, &mut Vec::new());
    }
    let mut todo = Vec::new();
    world.publisher.disown(&[eid("1.1.0.0/16"), eid("1.2.0.0/16")], &mut todo);
    assert_eq!(todo, [Watch::Stop(ip("1.2.1.1"))]);
    assert_eq!(world.meets("1.3.1.1"), Some(Met::Deliver(adjacency(0))));
    assert_eq!([world.meets("1.1.1.1"), world.meets("1.2.1.1")], [None, None]);
}

/// PETR-1, PITR-7: where there are many ways out, each destination is asked for; what is an EID after all is forgotten.
#[test]
fn destinations_beyond_come_go_and_are_bounded() {
    let mut world = World::with(&["240.0.254.10"], &[], 64, true);
    let native = |prefix: &str| Mapping::negative(eid(prefix), Ttl::Minutes(15), Action::NativelyForward);
    let host = |text: &str| Eid { instance: InstanceId::DEFAULT, address: ip(text) };
    world.publisher.own(eid("8.1.0.0/16"), &mut Vec::new());
    assert_eq!(world.show(native("8.0.0.0/8")), [], "no address stands for all");
    assert_eq!(world.meets("8.8.8.8"), Some(Met::NativeUnresolved));
    let mut todo = Vec::new();
    world.publisher.want_host(host("8.8.8.8"), &world.known, &mut todo);
    world.publisher.want_host(host("8.1.1.1"), &world.known, &mut todo);
    world.publisher.want_host(host("8.8.8.9"), &world.known, &mut todo);
    world.publisher.want_host(host("8.8.8.10"), &world.known, &mut todo);
    let mut watched: Vec<Watch> = ["8.8.8.8", "8.1.1.1", "8.8.8.9"].map(|text| Watch::Start(ip(text))).into();
    watched.extend([Watch::Stop(ip("8.8.8.8")), Watch::Start(ip("8.8.8.10"))]);
    assert_eq!((todo, world.publisher.refused()), (watched, 0), "two beyond at a time: one that nobody uses gives way");
    for (path, met) in [
        (Path::Waiting, Met::NativeUnresolved),
        (Path::Ready(adjacency(1)), Met::Native(adjacency(1))),
        (Path::Unreachable, Met::Drop(Reason::NativeNoRoute)),
        (Path::Ready(adjacency(2)), Met::Native(adjacency(2))),
    ] {
        world.path("8.8.8.9", path);
        assert_eq!(world.meets("8.8.8.9"), Some(met));
    }
    assert_eq!(world.meets("8.7.7.7"), Some(Met::NativeUnresolved), "each for itself");
    world.path("8.1.1.1", Path::Ready(adjacency(0)));
    assert_eq!(world.meets("8.1.1.1"), Some(Met::Deliver(adjacency(0))));
    // A site moved in.
    let todo = world.show(mapping("8.8.0.0/16", &["240.0.254.20"]));
    assert_eq!(todo.iter().filter(|watch| matches!(watch, Watch::Stop(_))).count(), 2);
    assert_eq!(world.meets("8.8.8.8"), Some(Met::Request));
    world.hide("8.8.0.0/16");
    assert_eq!(world.meets("8.8.8.8"), Some(Met::NativeUnresolved));
    // Without a packet it is forgotten, and with its prefix.
    let mut todo = Vec::new();
    world.publisher.want_host(host("8.8.8.8"), &world.known, &mut todo);
    (0..IDLE_ROUNDS).for_each(|_| world.publisher.age_hosts(&mut todo));
    assert_eq!(todo.iter().filter(|watch| **watch == Watch::Stop(ip("8.8.8.8"))).count(), 1);
    world.publisher.want_host(host("8.8.8.8"), &world.known, &mut todo);
    assert_eq!(world.hide("8.0.0.0/8"), [Watch::Stop(ip("8.8.8.8"))]);
    assert_eq!(world.meets("8.8.8.8"), None);
}

/// LOC-9, RTR-14: a path is entered at its first stop, by a router on it behind itself; a stop that cannot be reached is passed
/// by unless it is strict, and a path that passes somebody twice is none.
#[test]
fn a_path_is_entered_behind_ourselves() {
    let (a, b, etr) = ("240.0.254.31", "240.0.254.32", "240.0.254.20");
    let path = |stops: &[&str], strict: u8| {
        let stops: Vec<_> = stops.iter().map(|stop| (ip(stop), Hop::from_bits(strict))).collect();
        let end = Locator::unicast(ip(etr), 1, 50);
        Mapping { locators: end.over(&stops, Hop::from_bits(strict)), ..mapping("2.2.0.0/16", &[]) }
    };
    let unusable = || Some(Met::Drop(Reason::NoUsableLocator));
    for (own, stops, strict, dead, expected) in [
        ("240.0.254.10", &[a, b][..], 0, &[][..], tunnels(&[a])),
        (a, &[a, b], 0, &[], tunnels(&[b])),
        (b, &[a, b], 0, &[], tunnels(&[etr])),
        ("240.0.254.10", &[a, b], 0, &[a], tunnels(&[b])),
        ("240.0.254.10", &[a, b], 0, &[a, b], tunnels(&[etr])),
        (a, &[a, b], 0, &[b], tunnels(&[etr])),
        ("240.0.254.10", &[a, b], 1, &[], tunnels(&[a])),
        ("240.0.254.10", &[a, b], 1, &[a], unusable()),
        (a, &[a, b], 1, &[b], unusable()),
        ("240.0.254.10", &[a, b], 4, &[], unusable()), // to be looked up
        ("240.0.254.10", &[a, b, a], 0, &[], unusable()),
        (etr, &[a, b], 0, &[], unusable()), // we are its end
    ] {
        let mut world = World::new(&[own], 64);
        for stop in [a, b, etr] {
            world.path(stop, if dead.contains(&stop) { Path::Unreachable } else { Path::Ready(adjacency(1)) });
        }
        world.show(path(stops, strict));
        assert_eq!(world.meets("2.2.2.2"), expected, "{own} {stops:?} strict {strict} dead {dead:?}");
    }
    // While the first stop is waited for nobody is passed by.
    let mut world = World::new(&["240.0.254.10"], 64);
    world.path(b, Path::Ready(adjacency(1)));
    world.show(path(&[a, b], 0));
    assert_eq!(world.meets("2.2.2.2"), Some(Met::Request));
    world.path(a, Path::Ready(adjacency(1)));
    assert_eq!(world.meets("2.2.2.2"), tunnels(&[a]));
}

/// RCH-7, LOC-3, LOC-6: what probes say has flows move away and back, those of the locator in question alone.
#[test]
fn a_locator_that_does_not_answer_is_left_and_returned_to() {
    let (a, b) = ("240.1.0.20", "240.2.0.20");
    let mut world = world();
    world.show(mapping("2.2.0.0/16", &[a, b]));
    world.path(a, Path::Ready(adjacency(1)));
    world.path(b, Path::Ready(adjacency(2)));
    assert_eq!(world.meets("2.2.2.2"), tunnels(&[a, b]));
    let slots = world.slots("2.2.2.2");
    world.probed(a, prober::State::Up);
    world.probed(b, prober::State::Up);
    world.probed(a, prober::State::Down);
    assert_eq!(world.meets("2.2.2.2"), tunnels(&[b]));
    world.probed(a, prober::State::Up);
    assert_eq!(world.slots("2.2.2.2"), slots, "each flow is where it was");
    world.probed(a, prober::State::Down);
    for (before, after) in slots.iter().zip(world.slots("2.2.2.2")) {
        assert!(*before != ip(b) || after == ip(b), "a flow of the other locator moved");
    }
    world.probed(b, prober::State::Down);
    assert_eq!(world.meets("2.2.2.2"), Some(Met::Drop(Reason::NoUsableLocator)), "none answers any more");
}

/// RCH-7: ETRs that answer no probes at all are not cut off; beside one that does answer a mute locator is avoided.
#[test]
fn a_mute_locator_is_avoided_only_for_one_that_answers() {
    let (a, b) = ("240.1.0.20", "240.2.0.20");
    let mut world = world();
    world.show(mapping("2.2.0.0/16", &[a, b]));
    world.path(a, Path::Ready(adjacency(1)));
    world.path(b, Path::Ready(adjacency(2)));
    world.probed(a, prober::State::Mute);
    assert_eq!(world.meets("2.2.2.2"), tunnels(&[a, b]));
    world.probed(b, prober::State::Mute);
    assert_eq!(world.meets("2.2.2.2"), tunnels(&[a, b]));
    world.probed(b, prober::State::Up);
    assert_eq!(world.meets("2.2.2.2"), tunnels(&[b]));
    world.probed(b, prober::State::Down);
    assert_eq!(world.meets("2.2.2.2"), tunnels(&[a]), "perhaps it is only mute");
}

/// RCH-12: without a route to it a locator is down, whatever probes said a moment ago.
#[test]
fn no_route_is_down_at_once() {
    let (a, b) = ("240.1.0.20", "240.2.0.20");
    let mut world = world();
    world.show(mapping("2.2.0.0/16", &[a, b]));
    world.path(a, Path::Ready(adjacency(1)));
    world.path(b, Path::Ready(adjacency(2)));
    world.probed(a, prober::State::Up);
    world.path(a, Path::Unreachable);
    assert_eq!(world.meets("2.2.2.2"), tunnels(&[b]));
    world.path(a, Path::Ready(adjacency(1)));
    assert_eq!(world.meets("2.2.2.2"), tunnels(&[a, b]));
}

/// MV-3, MV-4: a mapping's version goes with it, old or new; what has none, or is negative, says nothing. Bits that its site sent
/// last go with it too.
#[test]
fn a_mappings_version_and_bits_go_with_it() {
    let mut world = world();
    let mark = |version, status| Some(Mark { version: MapVersion::new(version), status, ..Mark::default() });
    let of = |version| Mapping { version, ..mapping("2.2.0.0/16", &["240.1.0.20"]) };
    for version in [0, 7, 4095, 0] {
        world.show(of(version));
        assert_eq!(world.mark("2.2.2.2"), mark(version, None));
    }
    world.known.2 = Some(5);
    world.publisher.mark(&of(7), &world.known);
    assert_eq!(world.mark("2.2.2.2"), mark(7, Some(5)));
    world.show(of(8));
    assert_eq!(world.mark("2.2.2.2"), mark(8, Some(5)));
    world.show(Mapping { version: 9, ..Mapping::negative(eid("2.2.0.0/16"), Ttl::Minutes(1), Action::Drop) });
    assert_eq!(world.mark("2.2.2.2"), mark(0, None));
}

/// MV-10: with all features off nothing of a mapping reaches packets, whatever its record says.
#[test]
fn without_features_there_are_no_marks() {
    let mut world = world();
    world.publisher.settings.features = Features::default();
    world.known.2 = Some(5);
    world.show(Mapping { version: 7, ..mapping("2.2.0.0/16", &["240.1.0.20"]) });
    assert_eq!(world.mark("2.2.2.2"), Some(Mark::default()));
}

/// MV-5, MV-6: packets are for hosts, whose entries are longer than the EID-prefix that has the version: they say the same, from
/// the first moment on and after each change; those of a longer EID-prefix of ours say what that says.
#[test]
fn hosts_of_the_site_say_what_their_eid_prefix_says() {
    let mut world = world();
    let mark = |version| Mark { version: MapVersion::new(version), number: version, ..Mark::default() };
    for (text, version) in [("1.1.0.0/16", 1), ("1.1.2.0/24", 2)] {
        world.publisher.own(eid(text), &mut Vec::new());
        world.publisher.mark_own([(eid(text), mark(version))]);
    }
    for host in ["1.1.1.1", "1.1.2.1"] {
        world.path(host, Path::Ready(adjacency(0)));
        let host = Eid { instance: InstanceId::DEFAULT, address: ip(host) };
        world.publisher.want_host(host, &world.known, &mut Vec::new());
    }
    let marks =
        |world: &mut World| ["1.1.1.1", "1.1.9.9", "1.1.2.1", "1.1.2.9"].map(|eid| world.mark(eid).unwrap().number);
    assert_eq!(marks(&mut world), [1, 1, 2, 2]);
    world.publisher.mark_own([(eid("1.1.0.0/16"), mark(3))]);
    assert_eq!(marks(&mut world), [3, 3, 2, 2]);
    world.publisher.mark_own([(eid("1.1.2.0/24"), mark(4))]);
    assert_eq!(marks(&mut world), [3, 3, 4, 4]);
    world.publisher.mark_own([(eid("1.1.0.0/16"), mark(5)), (eid("1.1.2.0/24"), mark(6))]);
    assert_eq!(marks(&mut world), [5, 5, 6, 6], "both at once");
    world.publisher.own(eid("1.1.1.0/24"), &mut Vec::new());
    assert_eq!(marks(&mut world), [0, 5, 6, 6], "one more prefix, which says nothing yet");
    let host = Eid { instance: InstanceId::DEFAULT, address: ip("1.1.2.1") };
    assert_eq!(world.publisher.own_prefix(host), Some(eid("1.1.2.0/24")));
}

/// RCH-15: each locator has a nonce of its own, in all packets to it at once and in no other's; and it goes as it came.
#[test]
fn packets_carry_the_nonce_of_their_locator() {
    let (a, b) = ("240.1.0.20", "240.2.0.20");
    let mut world = world();
    world.show(mapping("2.2.0.0/16", &[a, b]));
    world.path(a, Path::Ready(adjacency(1)));
    world.path(b, Path::Ready(adjacency(2)));
    let words = |world: &mut World| {
        let snapshot = world.reader.snapshot();
        let entry = snapshot.lookup(InstanceId::DEFAULT, ip("2.2.2.2")).unwrap();
        let words = (0..64).map(|slot| {
            let Way::Tunnel(outer) = snapshot.way(entry, slot << 26) else { panic!("no tunnel") };
            let mut frame = [0; OUTER_MAX];
            outer.stamp(&mut frame, &Patch { inner_length: 40, ttl: 64, tos: 0, flow: 1 });
            let lisp = u32::from_be_bytes(frame[outer.len() - 8..outer.len() - 4].try_into().unwrap());
            (outer.destination(), lisp)
        });
        words.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(words(&mut world), [(ip(a), 0), (ip(b), 0)]);
    world.known.3.insert(ip(a), Nonce { value: 0xbeef, echo: true });
    world.publisher.path_changed(ip(a), &world.known);
    assert_eq!(words(&mut world), [(ip(a), 0xa000_beef), (ip(b), 0)]);
    world.known.3.insert(ip(b), Nonce { value: 0xcafe, echo: false });
    world.publisher.path_changed(ip(b), &world.known);
    assert_eq!(words(&mut world), [(ip(a), 0xa000_beef), (ip(b), 0x8000_cafe)]);
    world.known.3.clear();
    world.publisher.path_changed(ip(a), &world.known);
    world.publisher.path_changed(ip(b), &world.known);
    assert_eq!(words(&mut world), [(ip(a), 0), (ip(b), 0)]);
}

/// RTR-9, RTR-10: each of two xTRs behind one NAT is sent to at its own port, from the control port, and its entry says that it is
/// relayed for; what we send from behind a NAT leaves from one port, as soon as that is known.
#[test]
fn translated_locators_have_ports_of_their_own() {
    let nat = "240.0.254.20";
    let mut world = world();
    world.path(nat, Path::Ready(adjacency(1)));
    let behind = |prefix: &str, port: u16| {
        let mut mapping = mapping(prefix, &[nat]);
        mapping.locators[0].translated = std::num::NonZeroU16::new(port);
        mapping
    };
    world.cache(map_cache::Input::Nat(behind("2.2.0.0/16", 20_001)));
    world.cache(map_cache::Input::Nat(behind("3.3.0.0/16", 4341)));
    world.show(mapping("4.4.0.0/16", &[nat]));
    let mut seen = |source_port: Option<u16>| {
        world.known.4 = source_port;
        world.publisher.ports_changed(&world.known);
        world.publisher.publish();
        let snapshot = world.reader.snapshot();
        ["2.2.2.2", "3.3.3.3", "4.4.4.4"].map(|address| {
            let entry = snapshot.lookup(InstanceId::DEFAULT, ip(address)).unwrap();
            let Way::Tunnel(outer) = snapshot.way(entry, 7) else { panic!("no tunnel") };
            (outer.ports().source, outer.ports().destination, snapshot.mark(entry).relayed)
        })
    };
    let translated = [(Some(4342), 20_001, true), (Some(4342), 4341, true)];
    assert_eq!(seen(None), [translated[0], translated[1], (None, 4341, false)]);
    assert_eq!(seen(Some(50_007)), [translated[0], translated[1], (Some(50_007), 4341, false)]);
    assert_eq!(seen(None), [translated[0], translated[1], (None, 4341, false)]);
}
