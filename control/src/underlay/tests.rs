use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Adjacency, MacAddress};

use super::{
    Input::{
        self, Address, AddressGone, Link, LinkGone, Neighbour, Route, RoutesChanged, SyncBegin, SyncEnd, Unwatch, Wake,
        Watch,
    },
    Limits,
    Output::{self, AddressesChanged, AskRoute, Changed, Refused, Resolve},
    PortLink, Progress, RouteHop, Underlay, backoff,
};

const ETH0: u32 = 3;
const ETH1: u32 = 4;
const WIFI: u32 = 9;
const OUR_MAC: MacAddress = [2, 0, 0, 0, 0, 1];
const PEER_MAC: MacAddress = [2, 0, 0, 0, 0, 2];
const OTHER_MAC: MacAddress = [2, 0, 0, 0, 0, 3];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: u32, name: &str, up: bool) -> Input {
    Link { index, name: name.to_owned(), mac: Some(OUR_MAC), mtu: 1500, up }
}

fn address(text: &str) -> Input {
    Address { index: ETH0, address: ip(text), length: 24 }
}

fn answer(destination: &str, gateway: Option<&str>) -> Input {
    answer_via(destination, ETH0, gateway)
}

fn answer_via(destination: &str, index: u32, gateway: Option<&str>) -> Input {
    let hop = RouteHop { index, gateway: gateway.map(ip), source: Some(ip("240.0.254.10")) };
    Route { destination: ip(destination), hop: Some(hop) }
}

fn no_route(destination: &str) -> Input {
    Route { destination: ip(destination), hop: None }
}

fn neighbour(text: &str, mac: Option<MacAddress>) -> Input {
    Neighbour { index: ETH0, address: ip(text), mac, permanent: false }
}

fn resolve(text: &str) -> Output {
    Resolve { index: ETH0, address: ip(text) }
}

fn ask(text: &str) -> Output {
    AskRoute(ip(text))
}

fn changed(text: &str) -> Output {
    Changed(ip(text))
}

const fn adjacency(destination: MacAddress) -> Option<Adjacency> {
    Some(Adjacency { port: 1, destination, source: OUR_MAC, vlan: None, mtu: 1500 })
}

/// A machine with port 1 on `eth0` and port 0 on `eth1`, and the start of its time.
struct Story {
    underlay: Underlay,
    start: Instant,
}

impl Story {
    fn new() -> Self {
        let ports = vec![(0, "eth1".to_owned()), (1, "eth0".to_owned())];
        let mut story = Self { underlay: Underlay::new(ports), start: Instant::now() };
        story.play([(0, link(ETH0, "eth0", true), &[]), (0, address("240.0.254.10"), &[AddressesChanged])]);
        story
    }

    /// Rows of milliseconds, input, and what must come out.
    fn play<const N: usize>(&mut self, script: [(u64, Input, &[Output]); N]) -> &Underlay {
        for (at, input, expected) in script {
            let shown = format!("at {at} ms: {input:?}");
            let mut todo = Vec::new();
            self.underlay.step(self.start + Duration::from_millis(at), input, &mut todo);
            assert_eq!(todo, expected, "{shown}");
        }
        &self.underlay
    }

    fn due_ms(&self) -> Option<u128> {
        self.underlay.due().map(|due| (due - self.start).as_millis())
    }
}

const PEER: &str = "240.0.254.20";
const GATEWAY: &str = "240.0.254.1";
const FAR: &str = "198.51.100.7";

#[test]
fn a_peer_on_the_link_is_resolved_and_kept_fresh() {
    let mut story = Story::new();
    story.play([
        (0, Watch(ip(PEER)), &[ask(PEER)]),
        (0, Watch(ip(PEER)), &[]), // already watched
        (5, answer(PEER, None), &[resolve(PEER)]),
        (5, answer(PEER, None), &[]), // the same again
    ]);
    assert_eq!(story.underlay.explain(ip(PEER)), Progress::WaitingForNeighbour);
    assert_eq!(story.underlay.adjacency(ip(PEER)), None);
    story.play([
        (6, neighbour(PEER, Some(PEER_MAC)), &[changed(PEER)]),
        (7, neighbour(PEER, Some(PEER_MAC)), &[]), // merely another state of the same
        (30_005, Wake, &[]),                       // too early
        (30_006, Wake, &[resolve(PEER)]),
        (60_006, Wake, &[resolve(PEER)]),
        (60_010, neighbour(PEER, Some(OTHER_MAC)), &[changed(PEER)]),
    ]);
    assert_eq!(story.underlay.adjacency(ip(PEER)), adjacency(OTHER_MAC));
    assert_eq!(story.underlay.explain(ip(PEER)), Progress::Ready);
    assert_eq!(story.underlay.source_for(ip(PEER)), Some(ip("240.0.254.10")));
}

#[test]
fn a_silent_next_hop_is_asked_ever_more_rarely() {
    let mut story = Story::new();
    story.play([
        (0, Watch(ip(FAR)), &[ask(FAR)]),
        (0, answer(FAR, Some(GATEWAY)), &[resolve(GATEWAY)]),
        (999, Wake, &[]),
        (1_000, Wake, &[resolve(GATEWAY)]),
        (3_000, Wake, &[resolve(GATEWAY)]),
        (3_000, neighbour(GATEWAY, None), &[]), // the kernel gave up: nothing new
        (7_000, Wake, &[resolve(GATEWAY)]),
        (15_000, Wake, &[resolve(GATEWAY)]),
        (31_000, Wake, &[resolve(GATEWAY)]),
        (60_999, Wake, &[]),
        (61_000, Wake, &[resolve(GATEWAY)]), // 30 seconds from now on
        (91_000, Wake, &[resolve(GATEWAY)]),
        (91_001, neighbour(GATEWAY, Some(PEER_MAC)), &[changed(FAR)]),
        (91_002, neighbour(GATEWAY, None), &[resolve(GATEWAY), changed(FAR)]), // lost: at once, and from 1 s again
        (92_002, Wake, &[resolve(GATEWAY)]),
        (92_003, Unwatch(ip(FAR)), &[]),
        (92_003, Unwatch(ip(FAR)), &[]),
    ]);
    assert_eq!(story.due_ms(), None);
    assert_eq!(story.underlay.explain(ip(FAR)), Progress::NotWatched);
}

#[test]
fn destinations_behind_one_gateway_share_its_questions() {
    let mut story = Story::new();
    story.play([
        (0, Watch(ip(FAR)), &[ask(FAR)]),
        (0, Watch(ip("198.51.100.8")), &[ask("198.51.100.8")]),
        (0, answer(FAR, Some(GATEWAY)), &[resolve(GATEWAY)]),
        (0, answer("198.51.100.8", Some(GATEWAY)), &[]),
        (1, neighbour(GATEWAY, Some(PEER_MAC)), &[changed(FAR), changed("198.51.100.8")]),
        (2, Unwatch(ip(FAR)), &[]),
        (30_001, Wake, &[resolve(GATEWAY)]), // the other still uses it
        (30_002, Unwatch(ip("198.51.100.8")), &[]),
    ]);
    assert_eq!(story.due_ms(), None);
}

#[test]
fn a_missing_route_is_asked_for_again() {
    let mut story = Story::new();
    story.play([
        (0, Watch(ip(FAR)), &[ask(FAR)]),
        (1, no_route(FAR), &[changed(FAR)]), // that there is no way is an answer
        (1_000, Wake, &[ask(FAR)]),
        (3_000, Wake, &[ask(FAR)]), // the answer before it was lost
        (3_001, no_route(FAR), &[]),
    ]);
    assert_eq!(story.underlay.explain(ip(FAR)), Progress::NoRoute);
    story.play([
        (7_000, Wake, &[ask(FAR)]),
        (7_001, answer(FAR, Some(GATEWAY)), &[resolve(GATEWAY), changed(FAR)]),
        (7_002, neighbour(GATEWAY, Some(PEER_MAC)), &[changed(FAR)]),
    ]);
    assert_eq!(story.due_ms(), Some(37_002), "only the next hop is left to ask for");
}

#[test]
fn route_changes_are_coalesced_and_reported_only_if_they_matter() {
    let mut story = Story::new();
    story.play([
        (0, neighbour(PEER, Some(PEER_MAC)), &[]),
        (0, neighbour(GATEWAY, Some(OTHER_MAC)), &[]),
        (0, RoutesChanged, &[]), // nothing watched
        (0, Watch(ip(FAR)), &[ask(FAR)]),
        (0, answer(FAR, Some(GATEWAY)), &[resolve(GATEWAY), changed(FAR)]),
        (10, RoutesChanged, &[ask(FAR)]),
        (11, RoutesChanged, &[]),
        (50, RoutesChanged, &[]),
        (51, answer(FAR, Some(GATEWAY)), &[]), // as before
        (109, Wake, &[]),
        (110, Wake, &[ask(FAR)]),
        (111, answer(FAR, Some(PEER)), &[resolve(PEER), changed(FAR)]),
    ]);
    assert_eq!(story.underlay.adjacency(ip(FAR)), adjacency(PEER_MAC));
    story.play([
        (500, RoutesChanged, &[ask(FAR)]),
        (501, no_route(FAR), &[changed(FAR)]),
        (502, answer("203.0.113.1", None), &[]), // never asked for
    ]);
    assert_eq!(story.underlay.adjacency(ip(FAR)), None);
}

#[test]
fn an_unanswered_question_after_a_change_is_repeated() {
    let mut story = Story::new();
    story.play([
        (0, neighbour(PEER, Some(PEER_MAC)), &[]),
        (0, Watch(ip(PEER)), &[ask(PEER)]),
        (0, answer(PEER, None), &[resolve(PEER), changed(PEER)]),
        (10, RoutesChanged, &[ask(PEER)]),
        (1_010, Wake, &[ask(PEER)]),
    ]);
    assert_eq!(story.underlay.adjacency(ip(PEER)), adjacency(PEER_MAC), "the old way serves until the answer");
}

#[test]
fn a_link_that_goes_down_takes_the_adjacency_and_gives_it_back() {
    let mut story = Story::new();
    story.play([
        (0, Watch(ip(PEER)), &[ask(PEER)]),
        (0, answer(PEER, None), &[resolve(PEER)]),
        (1, neighbour(PEER, Some(PEER_MAC)), &[changed(PEER)]),
        (200, link(ETH0, "eth0", true), &[]),
        (300, link(ETH0, "eth0", false), &[changed(PEER), ask(PEER)]),
    ]);
    assert_eq!(story.underlay.explain(ip(PEER)), Progress::LinkDown);
    story.play([
        (301, neighbour(PEER, None), &[]), // flushed with the link, and no question while it is down
        (302, no_route(PEER), &[]),
        (500, link(ETH0, "eth0", true), &[ask(PEER)]),
        (501, answer(PEER, None), &[resolve(PEER), changed(PEER)]),
        (502, neighbour(PEER, Some(PEER_MAC)), &[changed(PEER)]),
    ]);
    assert_eq!(story.underlay.adjacency(ip(PEER)), adjacency(PEER_MAC));
}

#[test]
fn an_interface_that_comes_back_with_another_index_is_the_same_port() {
    let mut story = Story::new();
    story.play([
        (0, Watch(ip(PEER)), &[ask(PEER)]),
        (0, answer(PEER, None), &[resolve(PEER)]),
        (1, neighbour(PEER, Some(PEER_MAC)), &[changed(PEER)]),
        // An address that goes makes the routes doubtful, and so does the link; both within one pause.
        (200, LinkGone(ETH0), &[AddressesChanged, ask(PEER), changed(PEER)]),
        (201, LinkGone(ETH0), &[]),
        (202, no_route(PEER), &[]),
    ]);
    assert!(story.underlay.own_addresses().is_empty());
    story.play([
        (300, link(12, "eth0", true), &[ask(PEER)]),
        (301, answer_via(PEER, 12, None), &[Resolve { index: 12, address: ip(PEER) }, changed(PEER)]),
        (302, Neighbour { index: 12, address: ip(PEER), mac: Some(PEER_MAC), permanent: false }, &[changed(PEER)]),
    ]);
    assert_eq!(story.underlay.adjacency(ip(PEER)), adjacency(PEER_MAC));
}

#[test]
fn mtu_and_mac_of_the_port_reach_the_adjacency() {
    let mut story = Story::new();
    let jumbo = Link { index: ETH0, name: "eth0".to_owned(), mac: Some(OTHER_MAC), mtu: 9000, up: true };
    story.play([
        (0, neighbour(PEER, Some(PEER_MAC)), &[]),
        (0, Watch(ip(PEER)), &[ask(PEER)]),
        (0, answer(PEER, None), &[resolve(PEER), changed(PEER)]),
        (1, jumbo, &[changed(PEER)]),
    ]);
    let expected = Adjacency { port: 1, destination: PEER_MAC, source: OTHER_MAC, vlan: None, mtu: 9000 };
    assert_eq!(story.underlay.adjacency(ip(PEER)), Some(expected));
    let ports: Vec<_> = story.underlay.ports().collect();
    let port = PortLink {
        port: 1,
        name: "eth0".to_owned(),
        index: ETH0,
        mac: Some(OTHER_MAC),
        mtu: 9000,
        up: true,
        addresses: vec![(ip("240.0.254.10"), 24)],
    };
    assert_eq!(ports, [port]);
}

#[test]
fn what_is_not_ours_or_not_there_is_explained() {
    let mut story = Story::new();
    story.play([(0, link(WIFI, "wlan0", true), &[]), (0, Watch(ip(FAR)), &[ask(FAR)])]);
    assert_eq!(story.underlay.explain(ip(FAR)), Progress::WaitingForRoute);
    story.play([(0, answer_via(FAR, WIFI, None), &[changed(FAR)])]); // no question to a link that is none of ours
    assert_eq!(story.underlay.explain(ip(FAR)), Progress::NotOnPort);
    assert_eq!(story.underlay.explain(ip(PEER)), Progress::NotWatched);
    // Our own address; IPv6 local routes name the port, so asking it for the neighbour must not happen either.
    let own = [changed("240.0.254.10")];
    story.play([(1, Watch(ip("240.0.254.10")), &[ask("240.0.254.10")]), (1, answer("240.0.254.10", None), &own)]);
    assert_eq!(story.underlay.explain(ip("240.0.254.10")), Progress::Own);
    assert_eq!(story.underlay.explain(ip("240.0.254.10")).to_string(), "address of this machine");
    // The address leaves us: from then on it is a neighbour like any other.
    let gone = AddressGone { index: ETH0, address: ip("240.0.254.10") };
    let again = [AddressesChanged, changed("240.0.254.10"), resolve("240.0.254.10"), ask(FAR), ask("240.0.254.10")];
    let underlay = story.play([(2, gone, &again)]);
    assert_eq!(underlay.explain(ip("240.0.254.10")), Progress::WaitingForNeighbour);
    assert_eq!(underlay.adjacency(ip("240.0.254.10")), None);
}

#[test]
fn a_permanent_neighbour_is_never_asked_for() {
    let mut story = Story::new();
    let fixed = Neighbour { index: ETH0, address: ip(PEER), mac: Some(PEER_MAC), permanent: true };
    story.play([
        (0, fixed.clone(), &[]),
        (0, Watch(ip(PEER)), &[ask(PEER)]),
        (0, answer(PEER, None), &[changed(PEER)]),
    ]);
    assert_eq!(story.due_ms(), None);
    story.play([
        (1, neighbour(PEER, None), &[resolve(PEER), changed(PEER)]), // deleted: the wire may know
        (2, fixed, &[changed(PEER)]),
    ]);
    assert_eq!(story.due_ms(), None);
}

#[test]
fn a_next_hop_of_the_other_family_serves() {
    let mut story = Story::new();
    story.play([
        (0, Watch(ip(FAR)), &[ask(FAR)]),
        (0, answer(FAR, Some("fe80::1")), &[resolve("fe80::1")]), // RFC 8950 next hop
        (1, neighbour("fe80::1", Some(PEER_MAC)), &[changed(FAR)]),
    ]);
    assert_eq!(story.underlay.adjacency(ip(FAR)), adjacency(PEER_MAC));
}

#[test]
fn after_lost_notifications_only_what_was_told_again_remains() {
    let mut story = Story::new();
    story.play([
        (0, link(ETH1, "eth1", true), &[]),
        (0, address("192.0.2.1"), &[AddressesChanged]),
        (0, neighbour(PEER, Some(PEER_MAC)), &[]),
        (0, neighbour(GATEWAY, Some(OTHER_MAC)), &[]),
        (0, Watch(ip(PEER)), &[ask(PEER)]),
        (0, answer(PEER, None), &[resolve(PEER), changed(PEER)]),
        (0, Watch(ip(FAR)), &[ask(FAR)]),
        (0, answer(FAR, Some(GATEWAY)), &[resolve(GATEWAY), changed(FAR)]),
        (200, SyncBegin, &[]),
        (201, link(ETH0, "eth0", true), &[]),
        (202, address("240.0.254.10"), &[]),
        (203, neighbour(PEER, Some(PEER_MAC)), &[]),
        (204, SyncEnd, &[AddressesChanged, ask(FAR), ask(PEER), resolve(GATEWAY), changed(FAR)]),
    ]);
    assert_eq!(story.underlay.own_addresses(), [ip("240.0.254.10")]);
    assert_eq!(story.underlay.adjacency(ip(PEER)), adjacency(PEER_MAC));
    assert_eq!(story.underlay.ports().count(), 1);
}

#[test]
fn an_address_on_two_links_is_ours_until_both_lost_it() {
    let mut story = Story::new();
    let twin = Address { index: ETH1, address: ip("240.0.254.10"), length: 32 };
    story.play([
        (0, twin, &[]),
        (1, AddressGone { index: ETH0, address: ip("240.0.254.10") }, &[]),
        (2, AddressGone { index: ETH0, address: ip("240.0.254.10") }, &[]),
    ]);
    assert_eq!(story.underlay.own_addresses(), [ip("240.0.254.10")]);
    story.play([(3, AddressGone { index: ETH1, address: ip("240.0.254.10") }, &[AddressesChanged])]);
    assert!(story.underlay.own_addresses().is_empty());
}

#[test]
fn bounds_hold_and_say_so() {
    let mut story = Story::new();
    story.underlay.limits = Limits { watched: 1, neighbours: 1 };
    story.play([
        (0, Watch(ip(PEER)), &[ask(PEER)]),
        (0, Watch(ip(FAR)), &[Refused(ip(FAR))]),
        (0, Watch(ip(PEER)), &[]),
        (0, neighbour(PEER, Some(PEER_MAC)), &[]),
        (0, neighbour(GATEWAY, Some(PEER_MAC)), &[]),
        (0, neighbour(PEER, Some(OTHER_MAC)), &[]), // a known one may change
        (0, answer(PEER, None), &[resolve(PEER), changed(PEER)]),
    ]);
    assert_eq!(story.underlay.ignored(), 1);
    assert_eq!(story.underlay.adjacency(ip(PEER)), adjacency(OTHER_MAC));
    story.play([(1, Unwatch(ip(PEER)), &[]), (1, Watch(ip(FAR)), &[ask(FAR)])]);
    assert_eq!(story.underlay.watched().collect::<Vec<_>>(), [ip(FAR)]);
}

#[test]
fn pauses_double_up_to_thirty_seconds() {
    let seconds: Vec<_> = [0, 1, 4, 5, 6, 63, 64, u32::MAX].map(|n| backoff(n).as_secs()).into();
    assert_eq!(seconds, [1, 2, 16, 30, 30, 30, 30, 30]);
}
