//! Stories with time.

use std::time::Duration;

use altitude_dataplane::{
    mapping::{Action, EidPrefix, InstanceId, Prefix, Ttl},
    wire::checksum::checksum,
};
use proptest::prelude::*;

use super::*;
use crate::{
    alt::{icmp, rib::StaticRib, tunnels::Options},
    wire::{Algorithm, Form, Key, MapRegister, RequestRecord},
};

/// To the ITR's site, and to an ETR's.
const WEST: TunnelId = TunnelId(0);
const EAST: TunnelId = TunnelId(1);
const V0: InstanceId = InstanceId::DEFAULT;

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: V0, prefix: text.parse().unwrap() }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tunnels() -> Tunnels {
    let tunnel = |name: &str, remote: &str, inside: [&str; 2]| Tunnel {
        name: name.to_owned(),
        local: address("240.0.254.1"),
        remote: address(remote),
        key: None,
        checksum: false,
        addresses: inside.iter().map(|text| (address(text), 126 - 96 * u8::from(text.contains('.')))).collect(),
        options: Options::default(),
    };
    Tunnels::new(vec![
        tunnel("alt0", "240.0.254.10", ["10.0.0.1", "fd00::1"]),
        tunnel("alt1", "240.0.254.20", ["10.0.0.5", "fd00::5"]),
    ])
    .unwrap()
}

fn rib() -> StaticRib {
    StaticRib::new(vec![
        (eid("1.1.0.0/16"), Hop::Tunnel(WEST)),
        (eid("2.2.0.0/16"), Hop::Tunnel(EAST)),
        (eid("2001:db8:2::/48"), Hop::Tunnel(EAST)),
        (eid("10.1.0.0/16"), Hop::Discard),
        (eid("10.1.64.0/18"), Hop::Tunnel(EAST)),
        (eid("10.9.0.0/16"), Hop::Tunnel(TunnelId(9))), // a tunnel that is gone
    ])
    .unwrap()
}

/// An ALT router that is also the xTR of 10.1.192.0/20.
fn settings() -> Settings {
    Settings::new(vec![address("240.0.254.1")], vec![eid("10.1.192.0/20"), eid("2001:db8:9::/48")])
}

fn request(asked: &str) -> MapRequest {
    let source = Eid { instance: V0, address: address("1.1.1.1") };
    let asked = EidPrefix { instance: V0, prefix: asked.parse().unwrap() };
    MapRequest::lookup(0x0102_0304_0506_0708, Some(source), &[address("240.0.254.10")], asked)
}

/// The ALT datagram that carries `request` from the ITR for `destination`.
fn datagram(request: &MapRequest, destination: &str, ttl: u8) -> Vec<u8> {
    let destination = address(destination);
    let source = if destination.is_ipv4() { "240.0.254.10" } else { "2001:db8:f::10" };
    packet(source, destination, CONTROL_PORT, ttl, &request.encode())
}

fn packet(source: &str, destination: IpAddr, port: u16, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let source = (address(source), CONTROL_PORT).into();
    UdpPacket { source, destination: (destination, port).into(), ttl, payload }.encode()
}

/// An IPv4 packet whose header was changed, made right again.
fn with_header_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn receive(from: TunnelId, packet: &[u8]) -> Output {
    one(&mut Engine::new(settings(), &tunnels()), Instant::now(), from, packet)
}

fn one(engine: &mut Engine, now: Instant, from: TunnelId, packet: &[u8]) -> Output {
    let (mut todo, mut given) = (Vec::new(), packet.to_vec());
    engine.receive(now, from, &mut given, &rib(), &mut todo);
    assert_eq!(todo.len(), 1, "each packet has one fate: {todo:?}");
    let output = todo.remove(0);
    // What goes on is the packet given: shown as one of our own, to be compared.
    match output {
        Output::PassOn { tunnel, length } => Output::Forward { tunnel, packet: given[..length].to_vec() },
        output => {
            assert_eq!(given, packet, "only what goes on is changed");
            output
        }
    }
}

/// ALT-1, ALT-5, ALT-12.
#[test]
fn a_map_request_goes_on_with_one_hop_less_and_nothing_else_changed() {
    for (asked, ttl) in [("2.2.2.2", 64), ("2.2.2.2", 2), ("2001:db8:2::2", 64), ("10.1.77.88", 64)] {
        let request = request(asked);
        let expected = Output::Forward { tunnel: EAST, packet: datagram(&request, asked, ttl - 1) };
        assert_eq!(receive(WEST, &datagram(&request, asked, ttl)), expected, "{asked} with TTL {ttl}");
    }
    for ttl in [0, 1] {
        let dropped = receive(WEST, &datagram(&request("2.2.2.2"), "2.2.2.2", ttl));
        assert_eq!(dropped, Output::Drop(DatagramFault::TtlExpired), "TTL {ttl}");
    }
}

#[test]
fn what_asks_for_our_own_eids_is_delivered() {
    for (asked, source) in [("10.1.192.9", "240.0.254.10"), ("2001:db8:9::9", "2001:db8:f::10")] {
        let request = request(asked);
        let source = SocketAddr::new(address(source), CONTROL_PORT);
        let expected = Output::Deliver { request: request.clone(), source };
        // With its last hop, too: it goes no further.
        assert_eq!(receive(EAST, &datagram(&request, asked, 1)), expected);
    }
}

#[test]
fn what_is_for_the_tunnel_interface_is_the_kernels() {
    let bgp = |destination: &str| {
        let mut syn = packet("10.0.0.2", address(destination), 179, 255, &[0; 12]);
        syn[9] = 6;
        with_header_checksum(syn)
    };
    for packet in [bgp("10.0.0.1"), packet("fd00::2", address("fd00::1"), 53, 64, b"any port")] {
        assert_eq!(receive(WEST, &packet), Output::ToTun { tunnel: WEST, length: packet.len() });
    }
    // The address of another tunnel is not for this neighbour.
    assert_eq!(receive(EAST, &bgp("10.0.0.1")), Output::Drop(DatagramFault::NotADatagram));
    assert_eq!(receive(WEST, &bgp("2.2.2.2")), Output::Drop(DatagramFault::NotADatagram), "TCP of a host");
}

/// ALT-1, ALT-12.
#[test]
fn everything_else_is_dropped_by_name() {
    use DatagramFault::*;
    let fine = || datagram(&request("2.2.2.2"), "2.2.2.2", 64);
    let to = address("2.2.2.2");
    let octets = request("2.2.2.2").encode();
    let spoil = |at: usize| {
        let mut packet = fine();
        packet[at] ^= 1;
        packet
    };
    let mut fragment = fine();
    fragment[6] = 0x20;
    let fragment = with_header_checksum(fragment);
    let reply = MapReply { nonce: 1, probe: false, echo_nonce: false, records: vec![], security: None }.encode();
    let register = MapRegister::default().signed(&Key::new(1, Algorithm::Sha256, b"k"), Form::default());
    let foreign = EidPrefix { instance: InstanceId::new(5).unwrap(), ..eid("2.2.3.3/32") };
    let other = MapRequest { records: vec![RequestRecord { notify: false, eid: foreign }], ..request("2.2.2.2") };
    for (name, packet, fault) in [
        ("nothing", vec![], NotIp),
        ("version 7", vec![0x70; 40], NotIp),
        ("cut off", fine()[..30].to_vec(), NotIp),
        ("a data packet's port", packet("240.0.254.10", to, 4341, 64, &octets), NotControl),
        ("a wrong header checksum", spoil(10), Checksum),
        ("a wrong UDP checksum", spoil(26), Checksum),
        ("a fragment", fragment, NotADatagram),
        ("loopback source", packet("127.0.0.1", to, 4342, 64, &octets), Martian),
        ("multicast source", packet("224.0.0.9", to, 4342, 64, &octets), Martian),
        ("our RLOC as source", packet("240.0.254.1", to, 4342, 64, &octets), OwnSource),
        ("our tunnel address as source", packet("10.0.0.5", to, 4342, 64, &octets), OwnSource),
        ("the tunnel's far end", packet("240.0.254.20", address("240.0.254.10"), 4342, 64, &octets), LoopsBack),
        ("our RLOC", packet("240.0.254.10", address("240.0.254.1"), 4342, 64, &octets), ToRloc),
        ("half a message", packet("240.0.254.10", to, 4342, 64, &octets[..20]), Malformed),
        ("no message", packet("240.0.254.10", to, 4342, 64, &[]), Malformed),
        ("a Map-Reply", packet("240.0.254.10", to, 4342, 64, &reply), NotMapRequest),
        ("a Map-Register", packet("240.0.254.10", to, 4342, 64, &register), NotMapRequest),
        ("a probe", datagram(&MapRequest { probe: true, ..request("2.2.2.2") }, "2.2.2.2", 64), Probe),
        ("another EID", datagram(&request("2.2.3.3"), "2.2.2.2", 64), EidMismatch),
        ("another EID in another instance", datagram(&other, "2.2.2.2", 64), EidMismatch),
    ] {
        assert_eq!(receive(WEST, &packet), Output::Drop(fault), "{name}");
    }
    assert_eq!(receive(TunnelId(2), &fine()), Output::Drop(UnknownTunnel));
}

/// The one record of a negative answer, and where it goes.
fn negative(output: &Output) -> (String, Ttl, Action, SocketAddr) {
    let Output::NegativeReply { to, message } = output else { panic!("{output:?}") };
    assert_eq!((message.nonce, message.probe, message.records.len()), (0x0102_0304_0506_0708, false, 1));
    let record = &message.records[0];
    assert!(record.is_negative() && !record.authoritative);
    (record.eid.to_string(), record.ttl, record.action, *to)
}

/// ALT-9, ALT-10.
#[test]
fn holes_and_dead_ends_are_answered_to_the_itr() {
    let to: SocketAddr = "240.0.254.10:4342".parse().unwrap();
    use Action::{Drop, NativelyForward};
    for (asked, from, unreachable, expected) in [
        // A hole in the aggregate, short of 10.1.64.0/18 and of our own 10.1.192.0/20.
        ("10.1.128.199", WEST, Unreachable::NativelyForward, Some(("10.1.128.0/18", 15, NativelyForward))),
        ("10.1.1.1", WEST, Unreachable::NativelyForward, Some(("10.1.0.0/18", 15, NativelyForward))),
        ("10.1.1.1", WEST, Unreachable::Silent, Some(("10.1.0.0/18", 15, NativelyForward))),
        // The route leads back, or into a tunnel that is gone.
        ("1.1.9.9", WEST, Unreachable::NativelyForward, Some(("1.1.0.0/16", 1, NativelyForward))),
        ("1.1.9.9", WEST, Unreachable::Drop, Some(("1.1.0.0/16", 1, Drop))),
        ("10.9.9.9", WEST, Unreachable::Drop, Some(("10.9.0.0/16", 1, Drop))),
        ("1.1.9.9", WEST, Unreachable::Silent, None),
        // No route: we know of nothing but the question.
        ("9.9.9.9", EAST, Unreachable::NativelyForward, Some(("9.9.9.9/32", 1, NativelyForward))),
        ("2001:db8:77::1", EAST, Unreachable::Drop, Some(("2001:db8:77::1/128", 1, Drop))),
        ("9.9.9.9", EAST, Unreachable::Silent, None),
    ] {
        let mut engine = Engine::new(Settings { unreachable, ..settings() }, &tunnels());
        let output = one(&mut engine, Instant::now(), from, &datagram(&request(asked), asked, 64));
        match expected {
            Some((prefix, minutes, action)) => {
                assert_eq!(negative(&output), (prefix.to_owned(), Ttl::Minutes(minutes), action, to), "{asked}");
            }
            None => assert_eq!(output, Output::Drop(DatagramFault::Unreachable), "{asked}"),
        }
    }
}

#[test]
fn negative_answers_that_nobody_wants_or_can_get_are_not_sent() {
    let hole = || request("10.1.1.1");
    for (request, fault) in [
        (MapRequest { dont_reply: true, ..hole() }, DatagramFault::Unreachable),
        (MapRequest { smr: true, ..hole() }, DatagramFault::Unreachable),
        (MapRequest { itr_rlocs: vec![], ..hole() }, DatagramFault::NoItrRloc),
        (MapRequest { itr_rlocs: vec![address("2001:db8:f::10")], ..hole() }, DatagramFault::NoItrRloc),
    ] {
        assert_eq!(receive(WEST, &datagram(&request, "10.1.1.1", 64)), Output::Drop(fault));
    }
}

/// ALT-10.
#[test]
fn negative_answers_are_limited_for_each_itr_and_altogether() {
    let start = Instant::now();
    let all = Rate { burst: 8, every: Duration::from_secs(1) };
    let mut engine = Engine::new(Settings { all, watched_max: 4, ..settings() }, &tunnels());
    let mut ask = |ms: u64, rloc: u8, asked: &str| {
        let request = MapRequest { itr_rlocs: vec![[240, 0, 254, rloc].into()], ..request(asked) };
        match one(&mut engine, start + Duration::from_millis(ms), WEST, &datagram(&request, asked, 64)) {
            Output::NegativeReply { .. } => Ok(()),
            Output::Drop(fault) => Err(fault),
            other => panic!("{other:?}"),
        }
    };
    let script = [
        (0, 10, "10.1.1.1", Ok(())),
        (0, 10, "10.1.1.1", Ok(())),
        (0, 10, "10.1.1.1", Ok(())),
        (0, 10, "10.1.1.1", Err(DatagramFault::ReplyLimited)),
        (0, 10, "10.1.1.2", Ok(())),
        (0, 11, "10.1.1.1", Ok(())),
        (0, 12, "10.1.1.1", Ok(())),
        (0, 13, "10.1.1.1", Err(DatagramFault::WatchedFull)),
        (0, 11, "10.1.1.1", Ok(())),
        (0, 12, "10.1.1.1", Ok(())),
        (0, 12, "10.1.1.1", Err(DatagramFault::ReplyLimited)), // the eight altogether are spent
        (3_000, 10, "10.1.1.1", Ok(())),
    ];
    for (index, (ms, rloc, asked, expected)) in script.into_iter().enumerate() {
        assert_eq!(ask(ms, rloc, asked), expected, "line {index}, at {ms} ms");
    }
}

/// ALT-13.
#[test]
fn a_flood_out_of_one_tunnel_stops_at_its_rate_and_spares_bgp_and_the_other() {
    let start = Instant::now();
    let ingress = Rate { burst: 5, every: Duration::from_millis(10) };
    let mut engine = Engine::new(Settings { ingress, ..settings() }, &tunnels());
    let (flood, bgp) =
        (datagram(&request("2.2.2.2"), "2.2.2.2", 64), packet("10.0.0.2", address("10.0.0.1"), 179, 1, &[]));
    let mut forwarded = 0;
    for ms in 0..1000 {
        let now = start + Duration::from_millis(ms);
        match one(&mut engine, now, WEST, &flood) {
            Output::Forward { .. } => forwarded += 1,
            output => assert_eq!(output, Output::Drop(DatagramFault::IngressLimited)),
        }
        assert!(matches!(one(&mut engine, now, WEST, &bgp), Output::ToTun { .. }));
    }
    assert_eq!(forwarded, 5 + 99);
    let other = datagram(&request("1.1.1.1"), "1.1.1.1", 64);
    assert!(matches!(one(&mut engine, start, EAST, &other), Output::Forward { .. }));
}

/// Routes of which those that held these prefixes went lately.
struct Shaken(StaticRib, Vec<EidPrefix>);

impl Rib for Shaken {
    fn route(&self, instance: InstanceId, eid: IpAddr) -> Option<(Prefix, Hop)> {
        self.0.route(instance, eid)
    }

    fn gap(&self, instance: InstanceId, eid: IpAddr) -> Prefix {
        self.0.gap(instance, eid)
    }

    fn went_lately(&self, _: Instant, eid: Eid, length: Option<u8>) -> bool {
        let longer = |gone: &&EidPrefix| length.is_none_or(|length| gone.prefix.length() > length);
        self.1.iter().filter(longer).any(|gone| gone.contains(eid))
    }
}

/// ALT-9.
#[test]
fn nothing_is_said_of_what_lost_its_route_a_moment_ago() {
    let rib = Shaken(rib(), vec![eid("10.1.0.0/18"), eid("7.7.0.0/16"), eid("2.0.0.0/8")]);
    let (mut engine, now) = (Engine::new(settings(), &tunnels()), Instant::now());
    for (asked, silent) in [
        ("10.1.7.8", true),      // a component of our aggregate, not a hole
        ("10.1.128.199", false), // a hole as before
        ("7.7.7.7", true),
        ("9.9.9.9", false),
        ("2.2.2.2", false), // a longer route leads on
    ] {
        let mut todo = Vec::new();
        engine.receive(now, WEST, &mut datagram(&request(asked), asked, 64), &rib, &mut todo);
        assert_eq!(todo == [Output::Drop(DatagramFault::LatelyLost)], silent, "{asked}: {todo:?}");
    }
    // Nor does our own ITR take it for a hole: it asks elsewhere, or again.
    let mut todo = Vec::new();
    let asked = request("10.1.7.8");
    let target = Eid { instance: V0, address: address("10.1.7.8") };
    assert!(!engine.originate(now, &asked, address("240.0.254.1"), target, &rib, &mut todo));
    assert_eq!(todo, []);
}

fn originate(settings: Settings, rloc: &str, asked: &str) -> (bool, Vec<Output>) {
    let mut todo = Vec::new();
    let engine = Engine::new(settings, &tunnels());
    let target = Eid { instance: V0, address: address(asked) };
    let routed = engine.originate(Instant::now(), &request(asked), address(rloc), target, &rib(), &mut todo);
    (routed, todo)
}

/// ALT-5, ALT-6.
#[test]
fn a_request_of_ours_leaves_with_an_rloc_as_source_and_the_eid_as_destination() {
    let (routed, todo) = originate(settings(), "240.0.254.1", "2.2.2.2");
    let [Output::Forward { tunnel, packet }] = &todo[..] else { panic!("{todo:?}") };
    let sent = UdpPacket::parse(packet).unwrap();
    assert!(routed);
    assert_eq!((*tunnel, sent.ttl, sent.payload), (EAST, 64, &request("2.2.2.2").encode()[..]));
    assert_eq!(sent.source, "240.0.254.1:4342".parse().unwrap());
    assert_eq!(sent.destination, "2.2.2.2:4342".parse().unwrap());
    // No RLOC of the EID's family: the tunnel's own address.
    let (routed, todo) = originate(settings(), "240.0.254.1", "2001:db8:2::2");
    let [Output::Forward { packet, .. }] = &todo[..] else { panic!("{todo:?}") };
    assert!(routed);
    assert_eq!(UdpPacket::parse(packet).unwrap().source, "[fd00::5]:4342".parse().unwrap());
}

/// ITR-48.
#[test]
fn a_request_of_ours_without_a_route_is_not_the_alts() {
    assert_eq!(originate(settings(), "240.0.254.1", "9.9.9.9"), (false, vec![]));
    let no_source = (false, vec![Output::Drop(DatagramFault::NoSource)]);
    assert_eq!(originate(settings(), "240.0.254.1", "10.9.9.9"), no_source, "the tunnel is gone");
    // A hole of our own aggregate is answered here, and no limit applies to ourselves.
    let (routed, todo) =
        originate(Settings { rlocs: vec![address("240.0.254.10")], ..settings() }, "240.0.254.10", "10.1.1.1");
    let to = "240.0.254.10:4342".parse().unwrap();
    assert!(routed && todo.len() == 1);
    assert_eq!(negative(&todo[0]), ("10.1.0.0/18".to_owned(), Ttl::Minutes(15), Action::NativelyForward, to));
}

/// ALT-18.
#[test]
fn an_instance_has_routes_of_its_own() {
    let five = InstanceId::new(5).unwrap();
    let in_five = EidPrefix { instance: five, ..eid("2.2.2.2/32") };
    let request = MapRequest { records: vec![RequestRecord { notify: false, eid: in_five }], ..request("2.2.2.2") };
    let output = receive(WEST, &datagram(&request, "2.2.2.2", 64));
    assert_eq!(negative(&output).0, "[5]2.2.2.2/32", "no ALT for this instance here");
    let rib = StaticRib::new(vec![(in_five, Hop::Tunnel(EAST))]).unwrap();
    let mut todo = Vec::new();
    let mut packet = datagram(&request, "2.2.2.2", 64);
    let length = packet.len();
    Engine::new(settings(), &tunnels()).receive(Instant::now(), WEST, &mut packet, &rib, &mut todo);
    assert_eq!(todo, [Output::PassOn { tunnel: EAST, length }]);
    assert_eq!(packet, datagram(&request, "2.2.2.2", 63));
}

/// ALT-11, ALT-12: a route that makes two routers play ping-pong: the second one turns it down instead.
#[test]
fn two_default_routes_that_point_at_each_other_make_no_loop() {
    let default = |tunnel| StaticRib::new(vec![(eid("0.0.0.0/0"), Hop::Tunnel(tunnel))]).unwrap();
    let mut todo = Vec::new();
    let mut engine = Engine::new(settings(), &tunnels());
    let mut packet = datagram(&request("9.9.9.9"), "9.9.9.9", 64);
    engine.receive(Instant::now(), WEST, &mut packet, &default(EAST), &mut todo);
    assert!(matches!(todo.remove(0), Output::PassOn { tunnel: EAST, .. }));
    engine.receive(Instant::now(), WEST, &mut packet, &default(WEST), &mut todo);
    assert_eq!(negative(&todo[0]).2, Action::NativelyForward);
}

/// ALT-10: the third choice beside a negative answer and silence, limited for each RLOC and altogether.
#[test]
fn where_icmp_is_chosen_the_rloc_that_asked_gets_it_within_limits() {
    let icmp_all = Rate { burst: 4, every: Duration::from_secs(1) };
    let mut engine =
        Engine::new(Settings { unreachable: Unreachable::Icmp, icmp_all, watched_max: 2, ..settings() }, &tunnels());
    let start = Instant::now();
    let mut ask = |ms: u64, rloc: &str, asked: &str, ttl: u8| {
        let datagram = packet(rloc, address(asked), CONTROL_PORT, ttl, &request(asked).encode());
        (one(&mut engine, start + Duration::from_millis(ms), WEST, &datagram), datagram)
    };
    let (output, datagram) = ask(0, "240.0.254.10", "9.9.9.9", 64);
    let expected = icmp::packet(icmp::Error::Unreachable, address("240.0.254.1"), address("240.0.254.10"), &datagram);
    let (to, fault) = (address("240.0.254.10"), DatagramFault::Unreachable);
    assert_eq!(output, Output::Icmp { to, packet: expected.unwrap(), fault });
    let (output, datagram) = ask(0, "240.0.254.10", "2.2.2.2", 1);
    let expected = icmp::packet(icmp::Error::TimeExceeded, address("240.0.254.1"), to, &datagram);
    assert_eq!(output, Output::Icmp { to, packet: expected.unwrap(), fault: DatagramFault::TtlExpired });
    let script = [
        (0, "240.0.254.10", true),
        (0, "240.0.254.10", false), // three for this one
        (0, "240.0.254.11", true),
        (0, "240.0.254.11", false), // four altogether
        (1_000, "240.0.254.12", true),
        (1_000, "240.0.254.13", false), // as many as are watched
    ];
    for (line, (ms, rloc, told)) in script.into_iter().enumerate() {
        match ask(ms, rloc, "9.9.9.9", 64).0 {
            Output::Icmp { to, .. } if told => assert_eq!(to, address(rloc)),
            output => assert_eq!((output, told), (Output::Drop(DatagramFault::IcmpLimited), false), "line {line}"),
        }
    }
    // A hole is known not to be a site, so it is answered.
    assert!(matches!(ask(2_000, "240.0.254.10", "10.1.1.1", 64).0, Output::NegativeReply { .. }));
    // We have no IPv6 RLOC to speak from.
    let v6 = ask(9_000, "2001:db8:f::10", "2001:db8:77::1", 64).0;
    assert_eq!(v6, Output::Drop(DatagramFault::Unreachable));
}

#[test]
fn routes_into_a_tunnel_that_is_down_lead_nowhere() {
    let mut engine = Engine::new(settings(), &tunnels());
    let asks = datagram(&request("2.2.2.2"), "2.2.2.2", 64);
    let now = Instant::now();
    engine.set_up(EAST, false);
    let gone = one(&mut engine, now, WEST, &asks);
    assert_eq!(negative(&gone).1, Ttl::Minutes(1));
    engine.set_up(EAST, true);
    engine.set_up(TunnelId(7), true);
    assert!(matches!(one(&mut engine, now, WEST, &asks), Output::Forward { tunnel: EAST, .. }));
}

#[test]
fn a_tunnel_may_have_a_rate_of_its_own() {
    let mut slow = vec![tunnels().get(WEST).unwrap().clone(), tunnels().get(EAST).unwrap().clone()];
    slow[0].options.ingress = Some(Rate { burst: 2, every: Duration::from_secs(1) });
    let mut engine = Engine::new(settings(), &Tunnels::new(slow).unwrap());
    let now = Instant::now();
    for (from, asked, passed) in [(WEST, "2.2.2.2", 2), (EAST, "1.1.1.1", 10)] {
        let asks = datagram(&request(asked), asked, 64);
        let forwarded =
            (0..10).filter(|_| matches!(one(&mut engine, now, from, &asks), Output::Forward { .. })).count();
        assert_eq!(forwarded, passed, "{from:?}");
    }
}

#[test]
fn what_asks_for_a_site_of_our_map_server_is_its_business() {
    // 10.1.64.0/18 has a route, 10.1.192.0/20 is our own, and both lie inside.
    let sites = vec![eid("10.1.0.0/16"), eid("10.1.200.0/24"), eid("10.1.192.128/25")];
    let mut engine = Engine::new(Settings { sites, ..settings() }, &tunnels());
    for (asked, site) in [("10.1.1.1", true), ("10.1.200.1", true), ("10.1.192.129", true), ("10.1.193.1", false)] {
        let asks = datagram(&request(asked), asked, 1);
        let output = one(&mut engine, Instant::now(), WEST, &asks);
        match output {
            Output::Site { eid, length, .. } => {
                assert_eq!((site, eid.address, length), (true, address(asked), asks.len()));
            }
            output => assert!(!site && matches!(output, Output::Deliver { .. }), "{asked}: {output:?}"),
        }
    }
}

/// What follows an IP packet in a tunnel's payload is no part of it.
#[test]
fn padding_goes_no_further() {
    let asks = datagram(&request("2.2.2.2"), "2.2.2.2", 64);
    let padded = [&asks[..], &[0; 18]].concat();
    assert_eq!(receive(WEST, &padded), receive(WEST, &asks));
}

/// MR-4, MR-5, MR-6.
#[test]
fn a_map_resolver_hands_on_what_has_a_route_and_answers_what_is_in_no_site() {
    let mut engine = Engine::new(settings(), &tunnels());
    let now = Instant::now();
    let mut ask = |asked: &str, rloc: &str, ttl: u8| {
        let request = request(asked);
        let payload = request.encode();
        let (source, destination) = (SocketAddr::new(address(rloc), 61000), (address(asked), CONTROL_PORT).into());
        let datagram = UdpPacket { source, destination, ttl, payload: &payload };
        let ask = Ask { packet: &datagram.encode(), datagram, eid: Eid { instance: V0, address: address(asked) } };
        let mut todo = Vec::new();
        engine.resolve(now, &ask, request, &rib(), &mut todo);
        assert_eq!(todo.len(), 1);
        todo.remove(0)
    };
    let Output::Forward { tunnel: EAST, packet } = ask("2.2.2.2", "240.0.254.77", 9) else { panic!("not forwarded") };
    let sent = UdpPacket::parse(&packet).unwrap();
    assert_eq!((sent.source.to_string(), sent.ttl), ("240.0.254.77:61000".to_owned(), 9), "the answer's way back");
    assert_eq!(sent.payload, request("2.2.2.2").encode());
    assert!(matches!(ask("10.1.192.9", "240.0.254.77", 9), Output::Deliver { .. }));
    let to = "240.0.254.10:61000".parse().unwrap();
    let hole = (Ttl::Minutes(15), Action::NativelyForward, to);
    for (asked, about) in [("10.1.1.1", "10.1.0.0/18"), ("9.9.9.9", "8.0.0.0/7")] {
        let output = ask(asked, "240.0.254.10", 9);
        let (prefix, ttl, action, to) = negative(&output);
        assert_eq!((prefix.as_str(), (ttl, action, to)), (about, hole), "{asked}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_has_one_fate_and_bounds_hold(
        script in prop::collection::vec(
            (0_u64..100, 0_usize..3, prop::collection::vec((0_usize..80, any::<u8>()), 0..4), any::<[u8; 4]>(), any::<bool>()),
            1..60,
        ),
    ) {
        let mut engine = Engine::new(Settings { watched_max: 8, ..settings() }, &tunnels());
        let start = Instant::now();
        let mut now = 0;
        for (pause, from, spoiled, asked, fix) in script {
            now += pause;
            let asked = if fix { IpAddr::from([10, 1, asked[2], asked[3]]) } else { asked.into() }.to_string();
            let mut packet = datagram(&request(&asked), &asked, asked.len() as u8);
            for (at, value) in spoiled {
                if let Some(octet) = packet.get_mut(at) {
                    *octet = value;
                }
            }
            one(&mut engine, start + Duration::from_millis(now), TunnelId(from), &packet);
            prop_assert!(engine.refusals.watched() <= 8);
        }
    }

    #[test]
    fn noise_has_one_fate(noise in prop::collection::vec(any::<u8>(), 0..120), version in prop_oneof![Just(0x45_u8), Just(0x60)]) {
        receive(WEST, &noise);
        receive(WEST, &[&[version], &noise[..]].concat());
    }
}
