//! Sites that come and go, and requests for them.

mod nat;
mod register;
mod saved;
mod secured;
mod subscriptions;

use altitude_dataplane::mapping::{InstanceId, Locator};
use proptest::prelude::*;

use super::*;
use crate::{
    rate::Rate,
    wire::{Algorithm, Form, Key, Message, XtrIdentity, ecm::Ecm, packet::UdpPacket},
};
use std::time::Duration;

const ITR: &str = "240.0.254.10";
const US: &str = "240.0.254.1";
const ONE: SiteId = SiteId(0);
const TWO: SiteId = SiteId(1);
/// Seconds since 1970 when a test begins.
const WALL: u64 = 1_800_000_000;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn host(text: &str) -> Eid {
    Eid { instance: InstanceId::DEFAULT, address: address(text) }
}

/// The key of the site of this number.
fn key(site: SiteId) -> Key {
    Key::new(1, Algorithm::Sha256, format!("secret of {}", site.0).as_bytes())
}

/// Site one may be served in parts, and site two lies inside it. Site three has ETRs that need not register.
fn settings() -> Settings {
    let site = |index: usize, name: &str, eids: &[&str], more_specifics, etrs: &[&str]| Site {
        name: name.to_owned(),
        eids: eids.iter().map(|text| eid(text)).collect(),
        more_specifics,
        etrs: etrs.iter().map(|text| address(text)).collect(),
        keys: vec![key(SiteId(index))],
        ..Site::default()
    };
    let sites = vec![
        site(0, "one", &["10.1.0.0/16", "2001:db8:1::/48"], true, &[]),
        site(1, "two", &["10.1.64.0/18"], false, &[]),
        site(2, "three", &["10.3.0.0/16"], true, &["240.0.254.21", "2001:db8::21", "240.0.254.22"]),
    ];
    Settings { wall: WALL, ..Settings::new(sites, vec![address(US)]) }
}

/// A Map-Server with a clock, and routers that register with growing nonces.
struct World {
    server: MapServer,
    start: Instant,
    now: Instant,
    nonce: u64,
}

impl World {
    fn new(settings: Settings) -> Self {
        let start = Instant::now();
        Self { server: MapServer::new(settings, start), start, now: start, nonce: 100 }
    }

    /// Seconds after the start.
    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start + Duration::from_secs(seconds);
        self
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut todo = Vec::new();
        self.server.step(self.now, input, &mut todo);
        todo
    }

    /// Hands over a datagram from port 4342 of `from`.
    fn octets(&mut self, from: &str, octets: &[u8]) -> Vec<Output> {
        let from = SocketAddr::new(address(from), 4342);
        match Message::parse(octets).unwrap() {
            Message::MapRegister(message) => {
                self.step(Input::Register { from, local: address(US), message: &message, octets })
            }
            Message::MapNotify(message) => self.step(Input::Acknowledge { message: &message, octets }),
            other => panic!("{other:?}"),
        }
    }

    /// Registers as an xTR that has `key`; the nonce is the next one.
    fn register(&mut self, from: &str, key: &Key, message: MapRegister) -> Vec<Output> {
        self.nonce += 1;
        let octets = MapRegister { nonce: self.nonce, ..message }.signed(key, Form::default());
        self.octets(from, &octets)
    }

    /// An ETR of the site registers one prefix, which RLOCs serve.
    fn up(&mut self, site: SiteId, prefix: &str, etrs: &[&str]) -> Vec<Output> {
        let message = MapRegister { records: vec![record(prefix, etrs)], ..MapRegister::default() };
        self.register("240.0.254.99", &key(site), message)
    }

    /// And takes it back.
    fn down(&mut self, site: SiteId, prefix: &str) -> Vec<Output> {
        let records = vec![Mapping { ttl: Ttl::Remove, ..record(prefix, &[]) }];
        self.register("240.0.254.99", &key(site), MapRegister { records, ..MapRegister::default() })
    }

    /// Asks as `rloc`.
    fn ask_as(&mut self, rloc: &str, asked: &str) -> Output {
        self.ask_with(rloc, asked, |request| request)
    }

    fn ask_with(&mut self, rloc: &str, asked: &str, change: impl FnOnce(MapRequest) -> MapRequest) -> Output {
        self.ask_protected(rloc, asked, None, change)
    }

    fn ask_protected(
        &mut self,
        rloc: &str,
        asked: &str,
        protection: Option<&Protection>,
        change: impl FnOnce(MapRequest) -> MapRequest,
    ) -> Output {
        let request = change(MapRequest::lookup(7, None, &[address(rloc)], EidPrefix::host(host(asked))));
        let source = if asked.contains(':') { "2001:db8:f::10" } else { ITR };
        let (source, destination) = ((address(source), 61000).into(), (address(asked), 4342).into());
        let packet = UdpPacket { source, destination, ttl: 61, payload: &request.encode() }.encode();
        let source = SocketAddr::new(address(rloc), 61000);
        let mut outputs =
            self.step(Input::Request { eid: host(asked), request: &request, source, packet: &packet, protection });
        assert_eq!(outputs.len(), 1);
        if let Output::Encapsulate { message, .. } = &outputs[0] {
            // MS-8: octet for octet.
            assert_eq!(Ecm::parse(message).unwrap().packet, packet);
        }
        outputs.remove(0)
    }

    fn ask(&mut self, asked: &str) -> Output {
        self.ask_as(ITR, asked)
    }

    /// All that is kept of registrations, as octets.
    fn state(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        assert!(self.server.snapshot(&mut Cursor::default(), usize::MAX, &mut octets));
        octets
    }

    /// Registered prefixes of all sites.
    fn registered(&self) -> Vec<String> {
        let of = |site: &Site| site.eids.clone();
        let all: Vec<EidPrefix> = self.server.sites().flat_map(|(_, site)| of(site)).collect();
        let mut texts: Vec<String> =
            all.iter().flat_map(|whole| self.server.held(whole).map(|held| held.eid.to_string())).collect();
        texts.sort();
        texts.dedup();
        texts
    }
}

fn record(prefix: &str, etrs: &[&str]) -> Mapping {
    let locator = |text: &&str| Locator { local: true, ..Locator::unicast(address(text), 1, 100) };
    Mapping {
        locators: etrs.iter().map(locator).collect(),
        authoritative: true,
        ..Mapping::negative(eid(prefix), Ttl::Minutes(1440), Action::NoAction)
    }
}

/// What the ALT is told.
fn alt(outputs: Vec<Output>) -> Vec<Output> {
    outputs.into_iter().filter(|output| matches!(output, Output::Announce(_) | Output::Withdraw(_))).collect()
}

fn faults(outputs: &[Output]) -> Vec<SiteFault> {
    outputs.iter().filter_map(|output| if let Output::Drop(fault) = output { Some(*fault) } else { None }).collect()
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

/// What comes up is announced once, as configured; what is gone altogether is withdrawn.
#[test]
fn a_configured_prefix_is_announced_while_any_part_of_it_is_served() {
    let mut world = World::new(settings());
    let whole = || vec![Output::Announce(eid("10.1.0.0/16"))];
    type Act = fn(&mut World) -> Vec<Output>;
    let script: [(Act, Vec<Output>); 9] = [
        (|world| world.up(ONE, "10.1.1.0/24", &[ITR]), whole()),
        (|world| world.up(ONE, "10.1.2.0/24", &[ITR]), vec![]),
        (|world| world.up(ONE, "10.1.1.0/24", &[ITR]), vec![]), // again
        (|world| world.up(TWO, "10.1.64.0/18", &[ITR]), vec![Output::Announce(eid("10.1.64.0/18"))]),
        (|world| world.down(ONE, "10.1.1.0/24"), vec![]),
        (|world| world.down(ONE, "10.1.1.0/24"), vec![]),
        (|world| world.down(ONE, "10.1.2.0/24"), vec![Output::Withdraw(eid("10.1.0.0/16"))]), // though two is up inside
        (|world| world.up(ONE, "10.1.0.0/16", &[ITR]), whole()),
        (|world| world.down(TWO, "10.1.64.0/18"), vec![Output::Withdraw(eid("10.1.64.0/18"))]),
    ];
    for (line, (act, expected)) in script.into_iter().enumerate() {
        assert_eq!(alt(act(&mut world)), expected, "line {line}");
    }
}

#[test]
fn sites_with_fixed_etrs_are_served_and_announced_in_any_case() {
    let mut world = World::new(settings());
    let mut todo = Vec::new();
    world.server.begin(&mut todo);
    assert_eq!(todo, [Output::Announce(eid("10.3.0.0/16"))]);
    let asked: Vec<String> = (0..3).map(|_| etr(&world.ask("10.3.1.1"))).collect();
    assert_eq!(asked, ["240.0.254.21", "240.0.254.22", "240.0.254.21"], "in turn, those we can send to");
    assert_eq!(alt(world.up(SiteId(2), "10.3.9.0/24", &["240.0.254.99"])), [], "announced long ago");
    assert_eq!(etr(&world.ask("10.3.9.9")), "240.0.254.99", "what is registered wins");
    assert_eq!(etr(&world.ask("10.3.8.8")), "240.0.254.22", "the rest is served as before");
    assert_eq!(alt(world.down(SiteId(2), "10.3.9.0/24")), []);
    assert_eq!(etr(&world.ask("10.3.9.10")), "240.0.254.21");
    assert!(world.server.has(host("10.1.200.1")) && world.server.has(host("10.1.64.1")));
    assert!(!world.server.has(host("10.2.0.1")));
}

/// MS-8: an ETR gets the request as it came; its locators, or where none can be used the address it registers from.
#[test]
fn a_request_goes_to_the_etrs_in_turn() {
    let mut world = World::new(settings());
    world.up(ONE, "10.1.0.0/16", &["240.0.254.21", "240.0.254.22", "2001:db8::1"]);
    world.up(ONE, "2001:db8:1::/48", &["240.0.254.21"]);
    world.up(ONE, "10.1.9.0/24", &["240.0.254.98"]);
    let asked: Vec<String> = (0..3).map(|_| etr(&world.ask("10.1.1.1"))).collect();
    assert_eq!(asked, ["240.0.254.21", "240.0.254.22", "240.0.254.21"], "a retry finds another");
    assert_eq!(etr(&world.ask("10.1.9.9")), "240.0.254.98", "the longest match");
    assert_eq!(etr(&world.ask("2001:db8:1::1")), "240.0.254.21");
    for (prefix, etrs) in
        [("10.1.10.0/24", &["2001:db8::1"][..]), ("10.1.11.0/24", &[]), ("10.1.12.0/24", &["127.0.0.1"])]
    {
        world.up(ONE, prefix, etrs);
        let asked = prefix.replace("0/24", "7");
        assert_eq!(etr(&world.ask(&asked)), "240.0.254.99", "{prefix}: who registered it");
    }
}

/// MS-7, ETR-13: what is stored, as of no ETR; with the A bit the site itself is asked.
#[test]
fn we_answer_where_an_etr_or_the_configuration_wants_it() {
    for (mode, proxy, answered) in [
        (Proxying::Etr, true, true),
        (Proxying::Etr, false, false),
        (Proxying::Always, false, true),
        (Proxying::Never, true, false),
    ] {
        let mut settings = settings();
        settings.sites[0].proxy = mode;
        let mut world = World::new(settings);
        let mut records = vec![record("10.1.0.0/16", &["2001:db8::5", "240.0.254.21"])];
        records[0].locators[1].reachable = false;
        records[0].locators[0].probed = true;
        world.register("240.0.254.99", &key(ONE), MapRegister { proxy, records, ..MapRegister::default() });
        let output = world.ask("10.1.1.1");
        if !answered {
            assert_eq!(
                etr(&output),
                "240.0.254.99",
                "{mode:?} {proxy}: the first locator cannot be reached, the second is down"
            );
            continue;
        }
        let Output::Reply { to, message } = output else { panic!("{output:?}") };
        assert_eq!((to.to_string().as_str(), message.nonce), ("240.0.254.10:61000", 7));
        let [told] = &message.records[..] else { panic!("{message:?}") };
        // No wider than to where site two begins, which nobody serves.
        assert_eq!((told.eid, told.ttl, told.authoritative), (eid("10.1.0.0/18"), Ttl::Minutes(1440), false));
        let flags = |one: &Locator| (one.address.to_string(), one.local, one.probed, one.reachable);
        let expected =
            [("240.0.254.21".to_owned(), false, false, false), ("2001:db8::5".to_owned(), false, false, true)];
        assert_eq!(told.locators.iter().map(flags).collect::<Vec<_>>(), expected);
        let asked = world.ask_with(ITR, "10.1.1.2", |request| MapRequest { authoritative: true, ..request });
        assert_eq!(etr(&asked), "240.0.254.99", "{mode:?} {proxy}: A bit");
        let silent = world.ask_with(ITR, "10.1.1.3", |request| MapRequest { dont_reply: true, ..request });
        assert_eq!(silent, Output::Drop(SiteFault::DontReply));
        let nowhere = world.ask_with(ITR, "10.1.1.4", |request| MapRequest { itr_rlocs: vec![], ..request });
        assert_eq!(nowhere, Output::Drop(SiteFault::NoItrRloc));
    }
}

fn told(output: &Output) -> Vec<(String, Ttl)> {
    let Output::Reply { message, .. } = output else { panic!("{output:?}") };
    assert!(message.encode().len() <= 576 - 28, "G-5");
    message.records.iter().map(|record| (record.eid.to_string(), record.ttl)).collect()
}

/// MS-18: the longest match with all more-specifics, and one TTL for all; where that cannot be, no wider than what is true.
#[test]
fn overlapping_prefixes_are_told_together_or_not_at_all() {
    let mut world = World::new(settings());
    let proxied = |world: &mut World, site, prefix: &str, minutes, proxy| {
        let records = vec![Mapping { ttl: Ttl::Minutes(minutes), ..record(prefix, &["240.0.254.21"]) }];
        world.register("240.0.254.99", &key(site), MapRegister { proxy, records, ..MapRegister::default() });
    };
    let text = |text: &str, minutes| (text.to_owned(), Ttl::Minutes(minutes));
    proxied(&mut world, ONE, "10.1.0.0/16", 1440, true);
    proxied(&mut world, ONE, "10.1.1.0/24", 60, true);
    // Site two lies inside and is down: nobody may speak for it.
    assert_eq!(told(&world.ask("10.1.200.1")), [text("10.1.128.0/17", 1440)]);
    proxied(&mut world, TWO, "10.1.64.0/18", 600, true);
    let all = [text("10.1.0.0/16", 60), text("10.1.1.0/24", 60), text("10.1.64.0/18", 60)];
    assert_eq!(told(&world.ask("10.1.200.2")), all);
    assert_eq!(told(&world.ask("10.1.1.7")), [text("10.1.1.0/24", 60)], "not the less-specific above");
    // Part of it is answered for by its own ETR.
    proxied(&mut world, ONE, "10.1.2.0/24", 60, false);
    assert_eq!(told(&world.ask("10.1.200.3")), [text("10.1.128.0/17", 1440)]);
    world.down(ONE, "10.1.2.0/24");
    // More than a message holds.
    for third in 10..40 {
        proxied(&mut world, ONE, &format!("10.1.{third}.0/24"), 60, true);
    }
    assert_eq!(told(&world.ask("10.1.200.4")), [text("10.1.128.0/17", 1440)]);
}

/// MS-4, MS-15: an EID of no site is told for 15 minutes to be none, as far as we may speak of it.
#[test]
fn what_is_in_no_site_is_no_lisp_site_within_our_aggregates() {
    let ask = |aggregates: Option<Vec<EidPrefix>>, asked: &str| {
        let mut world = World::new(Settings { aggregates, ..settings() });
        negative(&world.ask(asked))
    };
    let natively = |prefix: &str| (prefix.to_owned(), Ttl::Minutes(15), Action::NativelyForward);
    assert_eq!(ask(None, "10.2.0.1"), natively("10.2.0.0/16"));
    assert_eq!(ask(None, "192.0.2.1"), natively("128.0.0.0/1"));
    let aggregate = || Some(vec![eid("192.0.0.0/8"), eid("10.0.0.0/12")]);
    assert_eq!(ask(aggregate(), "10.2.0.1"), natively("10.2.0.0/16"));
    assert_eq!(ask(aggregate(), "10.9.0.1"), natively("10.8.0.0/13"));
    assert_eq!(ask(aggregate(), "192.0.2.1"), natively("192.0.0.0/8"), "no wider than the aggregate");
    assert_eq!(ask(aggregate(), "172.16.0.1"), natively("172.16.0.1/32"), "others may know more");
}

/// MS-6: policy is Drop/Policy-Denied, a site whose ETRs fail to prove who they are Drop/Auth-Failure.
#[test]
fn why_a_site_is_not_served_shows_in_the_action() {
    let mut settings = settings();
    settings.sites[1].denied = true;
    let mut world = World::new(settings);
    world.up(TWO, "10.1.64.0/18", &["240.0.254.21"]);
    let minute = |prefix: &str, action| (prefix.to_owned(), Ttl::Minutes(1), action);
    assert_eq!(negative(&world.ask("10.1.65.1")), minute("10.1.64.0/18", Action::DropPolicyDenied));
    assert_eq!(negative(&world.ask("10.1.200.1")), minute("10.1.128.0/17", Action::NativelyForward));
    let message = MapRegister { records: vec![record("10.1.0.0/16", &[ITR])], ..MapRegister::default() };
    let stranger = Key::new(1, Algorithm::Sha256, b"a guess");
    assert_eq!(world.register("240.0.254.66", &stranger, message), [Output::Drop(SiteFault::Mac)]);
    assert_eq!(negative(&world.ask("10.1.200.2")), minute("10.1.128.0/17", Action::DropAuthFailure));
    world.at(181);
    assert_eq!(negative(&world.ask("10.1.200.1")), minute("10.1.128.0/17", Action::NativelyForward), "no longer true");
}

/// MS-14.
#[test]
fn a_probe_is_not_for_a_map_server() {
    let mut world = World::new(settings());
    world.up(ONE, "10.1.0.0/16", &["240.0.254.21"]);
    let output = world.ask_with(ITR, "10.1.1.1", |request| MapRequest { probe: true, ..request });
    assert_eq!(output, Output::Drop(SiteFault::Probe));
}

/// MS-5: configured and not registered is a minute, with the action of RFC 9301 §8.3 or that of RFC 6836 §4.2.
#[test]
fn what_nobody_serves_is_told_for_a_minute_and_no_wider_than_it_is() {
    for (unreachable, action) in [
        (Unreachable::NativelyForward, Action::NativelyForward),
        (Unreachable::Icmp, Action::NativelyForward),
        (Unreachable::Drop, Action::Drop), // RFC 6836 §4.2
    ] {
        let mut world = World::new(Settings { unreachable, ..settings() });
        let minute = |text: &str| (text.to_owned(), Ttl::Minutes(1), action);
        // All of site one but two's part.
        assert_eq!(negative(&world.ask("10.1.200.1")), minute("10.1.128.0/17"));
        world.up(ONE, "10.1.0.0/16", &["240.0.254.21"]);
        assert_eq!(negative(&world.ask("10.1.70.1")), minute("10.1.64.0/18"), "one's ETR does not serve two");
        world.down(ONE, "10.1.0.0/16");
        world.up(ONE, "10.1.9.0/24", &["240.0.254.99"]);
        assert_eq!(negative(&world.ask("10.1.8.1")), minute("10.1.8.0/24"), "a hole within the site");
    }
}

#[test]
fn negative_answers_that_nobody_wants_or_can_get_are_not_sent() {
    let mut world = World::new(Settings { unreachable: Unreachable::Silent, ..settings() });
    assert_eq!(world.ask("10.1.1.1"), Output::Drop(SiteFault::Unserved));
    assert_eq!(world.ask("10.2.1.1"), Output::Drop(SiteFault::Unserved));
    let mut world = World::new(settings());
    type Change = fn(MapRequest) -> MapRequest;
    let changes: [(Change, SiteFault); 3] = [
        (|request| MapRequest { dont_reply: true, ..request }, SiteFault::Unserved),
        (|request| MapRequest { itr_rlocs: vec![], ..request }, SiteFault::NoItrRloc),
        (|request| MapRequest { itr_rlocs: vec![address("2001:db8:f::10")], ..request }, SiteFault::NoItrRloc),
    ];
    for (change, fault) in changes {
        assert_eq!(world.ask_with(ITR, "10.1.1.1", change), Output::Drop(fault));
        world.at(10);
    }
}

#[test]
fn requests_are_limited_for_each_itr_and_altogether() {
    let all = Rate { burst: 5, every: Duration::from_secs(1) };
    let mut world = World::new(Settings { all, watched_max: 2, ..settings() });
    use SiteFault::{Limited, WatchedFull};
    for (line, (second, rloc, asked, expected)) in [
        (0, ITR, "10.1.1.1", None),
        (0, ITR, "10.1.1.1", None),
        (0, ITR, "10.1.1.1", None),
        (0, ITR, "10.1.1.1", Some(Limited)),
        (0, "240.0.254.11", "10.1.1.1", None),
        (0, "240.0.254.12", "10.1.1.1", Some(WatchedFull)),
        (0, "240.0.254.11", "10.1.1.1", None),
        (0, "240.0.254.11", "10.1.1.1", Some(Limited)), // the five altogether
        (1, ITR, "10.1.1.1", None),
    ]
    .into_iter()
    .enumerate()
    {
        let output = world.at(second).ask_as(rloc, asked);
        let fault = if let Output::Drop(fault) = output { Some(fault) } else { None };
        assert_eq!(fault, expected, "line {line}");
    }
}

proptest! {
    /// What is said of an EID is true of the whole prefix it is said of.
    #[test]
    fn a_negative_answer_holds_the_eid_and_nothing_that_is_served(
        parts in prop::collection::vec((any::<u16>(), 17_u8..=32), 0..12), asked in any::<u16>(),
    ) {
        let mut world = World::new(settings());
        let at = |low: u16| IpAddr::from((0x0a01_0000 | u32::from(low)).to_be_bytes());
        let mut served = Vec::new();
        for (low, length) in parts {
            let prefix = altitude_dataplane::mapping::Prefix::new(at(low), length).unwrap();
            let outputs = world.up(ONE, &prefix.to_string(), &[ITR]);
            if faults(&outputs).is_empty() {
                served.push(EidPrefix { instance: InstanceId::DEFAULT, prefix });
            }
        }
        let asked = Eid { instance: InstanceId::DEFAULT, address: at(asked) };
        // Site two's part is not site one's, whatever one registers around it.
        prop_assume!(!eid("10.1.64.0/18").contains(asked));
        let output = world.ask(&asked.address.to_string());
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
