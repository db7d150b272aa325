//! Sites that come and go, and requests for them.

use altitude_dataplane::mapping::InstanceId;
use proptest::prelude::*;

use super::*;
use crate::wire::{ecm::Ecm, packet::UdpPacket};

const ITR: &str = "240.0.254.10";
const ONE: SiteId = SiteId(0);
const TWO: SiteId = SiteId(1);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn host(text: &str) -> Eid {
    Eid { instance: InstanceId::DEFAULT, address: address(text) }
}

/// Site one may be served in parts, and site two lies inside it.
fn settings() -> Settings {
    let site = |name: &str, eids: &[&str], more_specifics, etrs: &[&str]| Site {
        name: name.to_owned(),
        eids: eids.iter().map(|text| eid(text)).collect(),
        more_specifics,
        etrs: etrs.iter().map(|text| address(text)).collect(),
    };
    let sites = vec![
        site("one", &["10.1.0.0/16", "2001:db8:1::/48"], true, &["240.0.254.21", "240.0.254.22"]),
        site("two", &["10.1.64.0/18"], false, &[]),
    ];
    Settings::new(sites, vec![address("240.0.254.1")])
}

fn up(site: SiteId, prefix: &str, etrs: &[&str]) -> Input<'static> {
    Input::SiteUp { site, eid: eid(prefix), etrs: etrs.iter().map(|text| address(text)).collect() }
}

fn down(site: SiteId, prefix: &str) -> Input<'static> {
    Input::SiteDown { site, eid: eid(prefix) }
}

fn step(server: &mut MapServer, now: Instant, input: Input<'_>) -> Vec<Output> {
    let mut todo = Vec::new();
    server.step(now, input, &mut todo);
    todo
}

fn request(asked: &str, rloc: &str) -> (MapRequest, Vec<u8>) {
    let request = MapRequest::lookup(7, None, &[address(rloc)], EidPrefix::host(host(asked)));
    let source = if asked.contains(':') { "2001:db8:f::10" } else { rloc };
    let (source, destination) = ((address(source), 61000).into(), (address(asked), 4342).into());
    let packet = UdpPacket { source, destination, ttl: 61, payload: &request.encode() }.encode();
    (request, packet)
}

/// Asks as `rloc`.
fn ask_as(server: &mut MapServer, now: Instant, rloc: &str, asked: &str) -> Output {
    let (request, packet) = request(asked, rloc);
    let source = SocketAddr::new(address(rloc), 61000);
    let input = Input::Request { eid: host(asked), request: &request, source, packet: &packet };
    let mut outputs = step(server, now, input);
    assert_eq!(outputs.len(), 1);
    if let Output::Encapsulate { message, .. } = &outputs[0] {
        // MS-8: octet for octet.
        assert_eq!(Ecm::parse(message).unwrap().packet, packet);
    }
    outputs.remove(0)
}

fn ask(server: &mut MapServer, now: Instant, asked: &str) -> Output {
    ask_as(server, now, ITR, asked)
}

fn etr(output: &Output) -> String {
    let Output::Encapsulate { to, .. } = output else { panic!("{output:?}") };
    to.to_string()
}

fn negative(output: &Output) -> (String, Ttl, Action) {
    let Output::Reply { to, message } = output else { panic!("{output:?}") };
    assert_eq!((to.to_string().as_str(), message.nonce, message.records.len()), ("240.0.254.10:61000", 7, 1));
    assert!(message.records[0].is_negative() && !message.records[0].authoritative, "ETR-13");
    (message.records[0].eid.to_string(), message.records[0].ttl, message.records[0].action)
}

/// The hook: what comes up is announced once, as configured; what is gone altogether is withdrawn.
#[test]
fn a_configured_prefix_is_announced_while_any_part_of_it_is_served() {
    let (mut server, now) = (MapServer::new(settings()), Instant::now());
    let whole = || vec![Output::Announce(eid("10.1.0.0/16"))];
    for (line, (input, expected)) in [
        (up(ONE, "10.1.1.0/24", &[ITR]), whole()),
        (up(ONE, "10.1.2.0/24", &[ITR]), vec![]),
        (up(ONE, "10.1.1.0/24", &[ITR]), vec![]), // again
        (up(TWO, "10.1.64.0/18", &[ITR]), vec![Output::Announce(eid("10.1.64.0/18"))]),
        (down(ONE, "10.1.1.0/24"), vec![]),
        (down(ONE, "10.1.1.0/24"), vec![]),
        (down(ONE, "10.1.2.0/24"), vec![Output::Withdraw(eid("10.1.0.0/16"))]), // though two is up inside
        (up(ONE, "10.1.0.0/16", &[ITR]), whole()),
        (down(TWO, "10.1.64.0/18"), vec![Output::Withdraw(eid("10.1.64.0/18"))]),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(step(&mut server, now, input), expected, "line {line}");
    }
}

#[test]
fn sites_with_etrs_are_up_from_the_start() {
    let mut server = MapServer::new(settings());
    let up = server.configured();
    assert_eq!(up.len(), 2, "the prefixes of site one; two has to register");
    let outputs: Vec<Output> = up.into_iter().flat_map(|input| step(&mut server, Instant::now(), input)).collect();
    assert_eq!(outputs, [Output::Announce(eid("10.1.0.0/16")), Output::Announce(eid("2001:db8:1::/48"))]);
    assert_eq!(server.registered().count(), 2);
    assert!(server.has(host("10.1.200.1")) && server.has(host("10.1.64.1")) && !server.has(host("10.2.0.1")));
}

/// MS-3, MS-17.
#[test]
fn a_site_has_its_own_prefixes_and_no_more_of_them_than_it_may() {
    let (mut server, now) = (MapServer::new(settings()), Instant::now());
    for (input, fault) in [
        (up(ONE, "10.0.0.0/15", &[ITR]), SiteFault::ForeignPrefix),
        (up(ONE, "10.2.0.0/16", &[ITR]), SiteFault::ForeignPrefix),
        (up(ONE, "10.1.64.0/18", &[ITR]), SiteFault::ForeignPrefix), // two's
        (up(ONE, "10.1.65.0/24", &[ITR]), SiteFault::ForeignPrefix), // inside two's
        (up(TWO, "10.1.64.0/24", &[ITR]), SiteFault::ForeignPrefix), // a part
        (down(TWO, "10.1.0.0/16"), SiteFault::ForeignPrefix),
        (up(TWO, "10.1.64.0/18", &[]), SiteFault::NoEtr),
        (up(TWO, "10.1.64.0/18", &["2001:db8::1", "224.0.0.1"]), SiteFault::NoEtr), // we have no IPv6 RLOC
    ] {
        let text = format!("{input:?}");
        assert_eq!(step(&mut server, now, input), [Output::Drop(fault)], "{text}");
    }
    for index in 0..=REGISTERED_MAX as u32 {
        let prefix =
            EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: (0x0a01_8000 + index).to_be_bytes().into() });
        let outputs = step(&mut server, now, Input::SiteUp { site: ONE, eid: prefix, etrs: vec![address(ITR)] });
        let refused = outputs.contains(&Output::Drop(SiteFault::TooManyPrefixes));
        assert_eq!(refused, index == REGISTERED_MAX as u32, "{index}");
    }
    assert_eq!(step(&mut server, now, up(TWO, "10.1.64.0/18", &[ITR])), [Output::Announce(eid("10.1.64.0/18"))]);
}

/// MS-8.
#[test]
fn a_request_goes_to_the_etrs_in_turn() {
    let (mut server, now) = (MapServer::new(settings()), Instant::now());
    for input in server.configured() {
        step(&mut server, now, input);
    }
    step(&mut server, now, up(ONE, "10.1.9.0/24", &["240.0.254.99"]));
    let asked: Vec<String> = (0..3).map(|_| etr(&ask(&mut server, now, "10.1.1.1"))).collect();
    assert_eq!(asked, ["240.0.254.21", "240.0.254.22", "240.0.254.21"], "a retry finds another");
    assert_eq!(etr(&ask(&mut server, now, "10.1.9.9")), "240.0.254.99", "the longest match");
    assert_eq!(etr(&ask(&mut server, now, "2001:db8:1::1")), "240.0.254.21");
}

/// MS-4, MS-5.
#[test]
fn what_nobody_serves_is_told_for_a_minute_and_no_wider_than_it_is() {
    let now = Instant::now();
    for (unreachable, action) in [
        (Unreachable::NativelyForward, Action::NativelyForward),
        (Unreachable::Icmp, Action::NativelyForward),
        (Unreachable::Drop, Action::Drop), // RFC 6836 §4.2
    ] {
        let mut server = MapServer::new(Settings { unreachable, ..settings() });
        let minute = |text: &str| (text.to_owned(), Ttl::Minutes(1), action);
        // All of site one but two's part.
        assert_eq!(negative(&ask(&mut server, now, "10.1.200.1")), minute("10.1.128.0/17"));
        step(&mut server, now, up(ONE, "10.1.0.0/16", &["240.0.254.21"]));
        assert_eq!(
            negative(&ask(&mut server, now, "10.1.70.1")),
            minute("10.1.64.0/18"),
            "one's ETR does not serve two"
        );
        step(&mut server, now, down(ONE, "10.1.0.0/16"));
        step(&mut server, now, up(ONE, "10.1.9.0/24", &["240.0.254.99"]));
        assert_eq!(negative(&ask(&mut server, now, "10.1.8.1")), minute("10.1.8.0/24"), "a hole within the site");
        assert_eq!(ask(&mut server, now, "10.2.0.1"), Output::Drop(SiteFault::NotOurs));
    }
}

#[test]
fn negative_answers_that_nobody_wants_or_can_get_are_not_sent() {
    let now = Instant::now();
    let mut server = MapServer::new(Settings { unreachable: Unreachable::Silent, ..settings() });
    assert_eq!(ask(&mut server, now, "10.1.1.1"), Output::Drop(SiteFault::Unserved));
    let mut server = MapServer::new(settings());
    let (plain, packet) = request("10.1.1.1", ITR);
    for (request, fault) in [
        (MapRequest { dont_reply: true, ..plain.clone() }, SiteFault::Unserved),
        (MapRequest { itr_rlocs: vec![], ..plain.clone() }, SiteFault::NoItrRloc),
        (MapRequest { itr_rlocs: vec![address("2001:db8:f::10")], ..plain }, SiteFault::NoItrRloc),
    ] {
        let source = SocketAddr::new(address(ITR), 61000);
        let input = Input::Request { eid: host("10.1.1.1"), request: &request, source, packet: &packet };
        assert_eq!(step(&mut server, now, input), [Output::Drop(fault)]);
    }
}

#[test]
fn requests_are_limited_for_each_itr_and_altogether() {
    let (all, start) = (Rate { burst: 5, every: Duration::from_secs(1) }, Instant::now());
    let mut server = MapServer::new(Settings { all, watched_max: 2, ..settings() });
    let mut ask = |ms: u64, rloc: &str, asked: &str| {
        let output = ask_as(&mut server, start + Duration::from_millis(ms), rloc, asked);
        if let Output::Drop(fault) = output { Some(fault) } else { None }
    };
    use SiteFault::{Limited, WatchedFull};
    for (line, (ms, rloc, asked, expected)) in [
        (0, ITR, "10.1.1.1", None),
        (0, ITR, "10.1.1.1", None),
        (0, ITR, "10.1.1.1", None),
        (0, ITR, "10.1.1.1", Some(Limited)),
        (0, "240.0.254.11", "10.1.1.1", None),
        (0, "240.0.254.12", "10.1.1.1", Some(WatchedFull)),
        (0, "240.0.254.11", "10.1.1.1", None),
        (0, "240.0.254.11", "10.1.1.1", Some(Limited)), // the five altogether
        (1_000, ITR, "10.1.1.1", None),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(ask(ms, rloc, asked), expected, "line {line}");
    }
}

proptest! {
    /// What is said of an EID is true of the whole prefix it is said of.
    #[test]
    fn a_negative_answer_holds_the_eid_and_nothing_that_is_served(
        parts in prop::collection::vec((any::<u16>(), 17_u8..=32), 0..12), asked in any::<u16>(),
    ) {
        let (mut server, now) = (MapServer::new(settings()), Instant::now());
        let at = |low: u16| IpAddr::from((0x0a01_0000 | u32::from(low)).to_be_bytes());
        let mut served = Vec::new();
        for (low, length) in parts {
            let prefix = EidPrefix { instance: InstanceId::DEFAULT, prefix: altitude_dataplane::mapping::Prefix::new(at(low), length).unwrap() };
            let outputs = step(&mut server, now, Input::SiteUp { site: ONE, eid: prefix, etrs: vec![address(ITR)] });
            if !matches!(outputs[..], [Output::Drop(_)]) {
                served.push(prefix);
            }
        }
        let asked = Eid { instance: InstanceId::DEFAULT, address: at(asked) };
        // Site two's part is not site one's, whatever one registers around it.
        prop_assume!(!eid("10.1.64.0/18").contains(asked));
        let output = ask(&mut server, now, &asked.address.to_string());
        let covered = served.iter().any(|prefix| prefix.contains(asked));
        match output {
            Output::Encapsulate { .. } => prop_assert!(covered),
            Output::Reply { message, .. } => {
                let said = message.records[0].eid;
                prop_assert!(!covered && said.contains(asked) && said.prefix.length() >= 16);
                for prefix in served {
                    let inside = said.contains(Eid { instance: prefix.instance, address: prefix.prefix.address() });
                    let around = prefix.contains(Eid { instance: said.instance, address: said.prefix.address() });
                    prop_assert!(!inside && !around, "{said} meets {prefix}");
                }
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
