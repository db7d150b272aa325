//! Who may ask what, how often, and what goes on.

use altitude_dataplane::mapping::{Action, Eid, InstanceId, Locator, Ttl};

use super::*;
use crate::wire::{Algorithm, Form, Key, MapRegister, RequestRecord, ecm};

const ITR: &str = "203.0.113.1";
const NONCE: u64 = 0x0102_0304_0506_0708;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

/// Vector E01's question, asked by others.
fn request(asked: &str, rlocs: &[&str]) -> MapRequest {
    let source = Eid { instance: InstanceId::DEFAULT, address: address("192.0.2.10") };
    let rlocs: Vec<IpAddr> = rlocs.iter().map(|text| address(text)).collect();
    let host = EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: address(asked) });
    MapRequest::lookup(NONCE, Some(source), &rlocs, host)
}

fn inner(source: &str, destination: &str, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = ((address(source), 61000).into(), (address(destination), CONTROL_PORT).into());
    UdpPacket { source, destination, ttl, payload }.encode()
}

/// The ECM of an ITR.
fn message(inner_source: &str, asked: &str, rlocs: &[&str], ttl: u8) -> Vec<u8> {
    ecm::encapsulate(&inner(inner_source, asked, ttl, &request(asked, rlocs).encode()))
}

use crate::alt::datagrams::CONTROL_PORT;

/// What became of an ECM: the datagram that goes on (source, EID, TTL), a record, or why not.
#[derive(Debug, PartialEq)]
enum Fate {
    Resolved(String, String, u8),
    Replied(SocketAddr, Mapping),
    Dropped(ClientFault),
}

fn ask(resolver: &mut MapResolver, now: Instant, from: &str, octets: &[u8]) -> Fate {
    let mut todo = Vec::new();
    let opened = open(octets).unwrap();
    let from = SocketAddr::new(address(from), 4342);
    resolver.step(now, Input::Asked { from, opened: opened.clone(), protection: None }, &mut todo);
    assert_eq!(todo.len(), 1);
    match todo.remove(0) {
        Output::Resolve { ask, request } => {
            assert_eq!((ask.packet, *request), (opened.packet, opened.request), "unaltered");
            assert_eq!(ask.datagram.payload, opened.datagram.payload);
            Fate::Resolved(ask.datagram.source.to_string(), ask.eid.to_string(), ask.datagram.ttl)
        }
        Output::Reply { to, mut message } => {
            assert_eq!((message.nonce, message.records.len()), (NONCE, 1));
            Fate::Replied(to, message.records.remove(0))
        }
        Output::Drop(fault) => Fate::Dropped(fault),
    }
}

fn open_to_all() -> Settings {
    Settings::new(vec![address("203.0.113.2")])
}

fn resolved(source: &str, eid: &str) -> Fate {
    Fate::Resolved(source.to_owned(), eid.to_owned(), 63)
}

/// MR-6, ALT-5: an RLOC as source, the EID as destination, and the port that the answer goes to.
#[test]
fn the_rloc_that_asks_is_the_source_on_the_alt() {
    let v6 = "2001:db8:f::10";
    for (inner_source, asked, rlocs, expected) in [
        (ITR, "198.51.100.20", &[ITR][..], "203.0.113.1:61000"),
        (ITR, "198.51.100.20", &["203.0.113.9", ITR], "203.0.113.1:61000"),
        // The inner source is an EID: the first RLOC of the family.
        ("192.0.2.10", "198.51.100.20", &[v6, ITR, "203.0.113.9"], "203.0.113.1:61000"),
        // No RLOC of the EID's family: whatever the ITR put there.
        ("2001:db8:a::10", "2001:db8:b::20", &[ITR], "[2001:db8:a::10]:61000"),
        ("2001:db8:a::10", "2001:db8:b::20", &[ITR, v6], "[2001:db8:f::10]:61000"),
    ] {
        let octets = message(inner_source, asked, rlocs, 64);
        let host = asked.to_owned();
        let fate = ask(&mut MapResolver::new(open_to_all()), Instant::now(), ITR, &octets);
        assert_eq!(fate, resolved(expected, &host), "{inner_source} {rlocs:?}");
    }
}

/// MR-2.
#[test]
fn every_request_goes_on_for_no_answer_is_kept() {
    let (mut resolver, now) = (MapResolver::new(open_to_all()), Instant::now());
    for second in 0..2 {
        let octets = message(ITR, "198.51.100.20", &[ITR], 64);
        let fate = ask(&mut resolver, now + Duration::from_secs(second), ITR, &octets);
        assert_eq!(fate, resolved("203.0.113.1:61000", "198.51.100.20"));
    }
}

/// MR-1, MR-9, and what wire.md 14 has dropped.
#[test]
fn only_a_map_request_for_the_mapping_system_comes_out_of_an_ecm() {
    let asked = "198.51.100.20";
    let plain = request(asked, &[ITR]);
    let with = |payload: &[u8]| ecm::encapsulate(&inner(ITR, asked, 64, payload));
    let other_port = {
        let (source, destination) = ((address(ITR), 61000).into(), (address(asked), 4341).into());
        UdpPacket { source, destination, ttl: 64, payload: &[8; 20] }.encode()
    };
    let mut tcp = inner(ITR, asked, 64, &plain.encode());
    tcp[9] = 6;
    tcp[10..12].fill(0);
    let sum = altitude_dataplane::wire::checksum::checksum(&tcp[..20]);
    tcp[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut spoiled = with(&plain.encode());
    *spoiled.last_mut().unwrap() ^= 1;
    let mut ddt = with(&plain.encode());
    ddt[0] |= 0x04;
    let elsewhere = RequestRecord { notify: false, eid: eid("198.51.100.21/32") };
    let register = MapRegister::default().signed(&Key::new(1, Algorithm::Sha256, b"k"), Form::default());
    for (what, octets, fault) in [
        ("a probe", with(&MapRequest { probe: true, ..plain.clone() }.encode()), EcmFault::Probe),
        ("an SMR", with(&MapRequest { smr: true, ..plain.clone() }.encode()), EcmFault::Smr),
        ("an ECM", with(&with(&plain.encode())), EcmFault::Nested),
        ("a Map-Register", with(&register), EcmFault::NotMapRequest),
        (
            "a Map-Reply",
            with(&MapReply::negative(1, eid("10.0.0.0/8"), Ttl::Minutes(1), Action::Drop).encode()),
            EcmFault::NotMapRequest,
        ),
        ("half a message", with(&plain.encode()[..20]), EcmFault::Malformed),
        ("a Data-Probe", ecm::encapsulate(&other_port), EcmFault::NotControl),
        ("TCP", ecm::encapsulate(&tcp), EcmFault::NotControl),
        ("a wrong checksum", spoiled, EcmFault::Checksum),
        ("a DDT request", ddt, EcmFault::Ddt),
        (
            "another EID",
            with(&MapRequest { records: vec![elsewhere], ..plain.clone() }.encode()),
            EcmFault::EidMismatch,
        ),
        ("nothing", vec![0x80, 0, 0, 0], EcmFault::Malformed),
    ] {
        assert_eq!(open(&octets).map(|_| ()), Err(fault), "{what}");
    }
    assert!(open(&with(&plain.encode())).is_ok());
}

/// ALT-18: the instance is the record's, the destination the plain EID.
#[test]
fn the_instance_of_the_record_goes_along() {
    let five = InstanceId::new(5).unwrap();
    let mut request = request("198.51.100.20", &[ITR]);
    request.records[0].eid.instance = five;
    let octets = ecm::encapsulate(&inner(ITR, "198.51.100.20", 64, &request.encode()));
    assert_eq!(open(&octets).unwrap().eid, Eid { instance: five, address: address("198.51.100.20") });
}

/// MR-7.
#[test]
fn an_answer_goes_to_who_asks_or_between_clients() {
    let clients = || Settings { clients: vec!["203.0.113.0/24".parse().unwrap()], ..open_to_all() };
    use ClientFault::{ForeignItrRloc, NoItrRloc, NotPermitted};
    for (settings, from, rlocs, expected) in [
        (open_to_all(), ITR, &[ITR][..], None),
        (open_to_all(), ITR, &["2001:db8:f::10", ITR], None), // its other RLOC
        (open_to_all(), ITR, &["198.18.0.1"], Some(ForeignItrRloc)),
        (open_to_all(), "198.18.0.1", &[ITR], Some(ForeignItrRloc)),
        (open_to_all(), ITR, &[], Some(NoItrRloc)),
        (clients(), ITR, &[ITR], None),
        (clients(), ITR, &["203.0.113.77"], None), // an xTR of the same site asks for the other
        (clients(), ITR, &["198.18.0.1"], Some(ForeignItrRloc)),
        (clients(), ITR, &["203.0.113.77", "198.18.0.1"], Some(ForeignItrRloc)),
        (clients(), "198.18.0.1", &["198.18.0.1"], Some(NotPermitted)),
    ] {
        let octets = message(ITR, "198.51.100.20", rlocs, 64);
        let fate = ask(&mut MapResolver::new(settings), Instant::now(), from, &octets);
        let fault = if let Fate::Dropped(fault) = fate { Some(fault) } else { None };
        assert_eq!(fault, expected, "{from} for {rlocs:?}");
    }
}

/// PS-6: who unsubscribes names no ITR-RLOC; the answer goes to the source, so that must be who asks, or a client.
#[test]
fn an_unsubscription_goes_on_without_an_itr_rloc() {
    use ClientFault::{NoItrRloc, NotPermitted};
    let clients = || Settings { clients: vec!["203.0.113.0/24".parse().unwrap()], ..open_to_all() };
    let ending = |source: &str, notify| {
        let mut request = request("198.51.100.20", &[]);
        request.records[0].notify = notify;
        request.xtr = Some(crate::wire::XtrIdentity { xtr_id: [7; 16], site_id: 1 });
        ecm::encapsulate(&inner(source, "198.51.100.20", 64, &request.encode()))
    };
    for (line, (settings, from, source, notify, fault)) in [
        (open_to_all(), ITR, ITR, true, None),
        (open_to_all(), ITR, ITR, false, Some(NoItrRloc)),
        (open_to_all(), ITR, "198.18.0.1", true, Some(NoItrRloc)),
        (clients(), ITR, "203.0.113.9", true, None),
        (clients(), "198.18.0.1", "198.18.0.1", true, Some(NotPermitted)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut resolver = MapResolver::new(settings);
        let fate = ask(&mut resolver, Instant::now(), from, &ending(source, notify));
        let expected = fault.map_or_else(|| resolved(&format!("{source}:61000"), "198.51.100.20"), Fate::Dropped);
        assert_eq!(fate, expected, "line {line}");
    }
}

/// MR-8.
#[test]
fn one_client_that_floods_leaves_the_others_their_share() {
    let (mut resolver, start) = (MapResolver::new(open_to_all()), Instant::now());
    let (mut flood, mut other) = (0, 0);
    for tick in 0..10_000_u32 {
        let now = start + Duration::from_micros(u64::from(tick) * 100);
        let asked = IpAddr::from([198, 51, (tick >> 8) as u8, tick as u8]).to_string();
        let octets = message(ITR, &asked, &[ITR], 64);
        flood += u32::from(matches!(ask(&mut resolver, now, ITR, &octets), Fate::Resolved(..)));
        if tick % 1000 == 0 {
            let octets = message("203.0.113.9", &asked, &["203.0.113.9"], 64);
            other += u32::from(matches!(ask(&mut resolver, now, "203.0.113.9", &octets), Fate::Resolved(..)));
        }
    }
    assert_eq!((flood, other), (100 + 99, 10), "a second of 10 000 requests");
}

#[test]
fn one_eid_has_a_limit_over_all_clients_and_tables_have_bounds() {
    let (mut resolver, now) = (MapResolver::new(Settings { watched_max: 16, ..open_to_all() }), Instant::now());
    let mut ask = |client: u8, asked: &str| {
        let rloc = IpAddr::from([203, 0, 113, client]).to_string();
        ask(&mut resolver, now, &rloc, &message(&rloc, asked, &[&rloc], 64))
    };
    for client in 0..12 {
        let limited = Fate::Dropped(ClientFault::EidLimited);
        assert_eq!(ask(client, "198.51.100.20") == limited, client >= 10, "{client}");
    }
    assert!(matches!(ask(15, "198.51.100.21"), Fate::Resolved(..)));
    for client in 20..23 {
        assert!(matches!(ask(client, "198.51.100.21"), Fate::Resolved(..)));
    }
    assert_eq!(ask(30, "198.51.100.21"), Fate::Dropped(ClientFault::WatchedFull));
}

/// MR-3, ETR-13: not authoritatively, to the port that asked, and of no more than the mapping is longest for.
#[test]
fn a_mapping_of_our_own_is_answered_here() {
    let mapping = Mapping {
        locators: vec![Locator::unicast(address("240.0.254.50"), 1, 100)],
        authoritative: true,
        ..Mapping::negative(eid("198.51.100.0/24"), Ttl::Minutes(1440), Action::NoAction)
    };
    let narrower = Mapping { eid: eid("198.51.100.128/25"), ..mapping.clone() };
    let mut resolver = MapResolver::new(Settings { mappings: vec![mapping.clone(), narrower], ..open_to_all() });
    let fate = ask(&mut resolver, Instant::now(), ITR, &message(ITR, "198.51.100.20", &[ITR], 1));
    let expected = Mapping { eid: eid("198.51.100.0/25"), authoritative: false, ..mapping };
    assert_eq!(fate, Fate::Replied("203.0.113.1:61000".parse().unwrap(), expected));
}

/// Two Map-Resolvers that took each other for a Map-Server would otherwise play for ever.
#[test]
fn the_inner_ttl_ends_a_circle() {
    let (mut resolver, now) = (MapResolver::new(open_to_all()), Instant::now());
    let fate = ask(&mut resolver, now, ITR, &message(ITR, "198.51.100.20", &[ITR], 2));
    assert_eq!(fate, Fate::Resolved("203.0.113.1:61000".into(), "198.51.100.20".into(), 1));
    let fate = ask(&mut resolver, now, ITR, &message(ITR, "198.51.100.20", &[ITR], 1));
    assert_eq!(fate, Fate::Dropped(ClientFault::TtlExpired));
}

/// ITR-40: what our ITR sends opens again as it was.
#[test]
fn what_is_enclosed_opens() {
    let v6 = address("2001:db8:f::10");
    for (rloc, asking, asked, expected) in [
        (Some(address(ITR)), "192.0.2.10", "198.51.100.20", Some("203.0.113.1:4342")),
        (None, "192.0.2.10", "198.51.100.20", Some("192.0.2.10:4342")),
        (Some(v6), "192.0.2.10", "198.51.100.20", Some("192.0.2.10:4342")),
        (Some(address(ITR)), "192.0.2.10", "2001:db8:b::20", None),
    ] {
        let mut request = request(asked, &[ITR]);
        request.source_eid = Some(Eid { instance: InstanceId::DEFAULT, address: address(asking) });
        let octets = enclose(&request, rloc, address(asked), None);
        assert_eq!(octets.is_some(), expected.is_some());
        let Some(octets) = octets else { continue };
        let opened = open(&octets).unwrap();
        assert_eq!((Some(opened.datagram.source.to_string().as_str()), opened.eid.address), (expected, address(asked)));
        assert_eq!((opened.datagram.ttl, opened.datagram.destination.port(), opened.request), (64, 4342, request));
    }
}
