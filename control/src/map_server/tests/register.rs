//! Map-Registers: what is believed, how long it is kept, and who is told.

use altitude_dataplane::mapping::Hop;

use super::*;
use crate::wire::{MapNotify, WireError};

const G01: &str = "38000101000000000000001001010014941d2554d98c749166c0f1434b3589ba6cf5f7a4000005a00118100000000001c0000200\
                   0164ff0000050001cb007101";
const N01: &str = "4000000100000000000000100101001408c3f8bdf99551a5b80995d3a651fdf9e4627b03000005a00118100000000001c0000200\
                   0164ff0000050001cb007101";
const G06: &str = "30000c010000000000000015010200100c9f2bbee3d80f9dfafd654a60356ef6000000000118000000000001c0000200\
                   0164ff0000010001cb007101";
/// The ETR of G01.
const ETR: &str = "203.0.113.1";
const OTHER: &str = "203.0.113.9";
const PREFIX: &str = "192.0.2.0/24";

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn psk(id: u8, algorithm: Algorithm) -> Key {
    Key::new(id, algorithm, b"lisp-psk-1")
}

/// The site of the vectors; key 1 is for SHA-1.
fn site(keys: Vec<Key>) -> Site {
    Site { name: "vectors".to_owned(), eids: vec![eid(PREFIX)], keys, ..Site::default() }
}

fn world(sites: Vec<Site>) -> World {
    World::new(Settings { wall: WALL, first_nonce: 5000, ..Settings::new(sites, vec![address(US)]) })
}

fn xtr(number: u8) -> Option<XtrIdentity> {
    Some(XtrIdentity { xtr_id: [number; 16], site_id: 7 })
}

fn with(nonce: u64, records: Vec<Mapping>, xtr: Option<XtrIdentity>) -> MapRegister {
    MapRegister { nonce, records, xtr, ..MapRegister::default() }
}

/// Notifies among the outputs, as read, with where they go.
fn notifies(outputs: &[Output]) -> Vec<(String, MapNotify)> {
    let read = |output: &Output| {
        let Output::Notify { to, octets, .. } = output else { return None };
        let Ok(Message::MapNotify(notify)) = Message::parse(octets) else { panic!("{octets:?}") };
        Some((to.to_string(), notify))
    };
    outputs.iter().filter_map(read).collect()
}

fn locators(mapping: &Mapping) -> Vec<String> {
    mapping.locators.iter().map(|locator| locator.address.to_string()).collect()
}

/// MS-1, MS-11: the vectors of a deployed router; its Map-Notify is the expected one octet for octet, once.
#[test]
fn a_map_register_is_taken_once_and_answered_with_its_nonce() {
    let mut world = world(vec![site(vec![psk(1, Algorithm::Sha1)])]);
    let outputs = world.octets(ETR, &octets(G01));
    let [registered, announced, Output::Notify { to, local, octets: notify }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*registered, Output::Registered { site: ONE, eid: eid(PREFIX), by: address(ETR), key: 1 });
    assert_eq!(*announced, Output::Announce(eid(PREFIX)));
    assert_eq!((to.to_string().as_str(), local.to_string().as_str()), ("203.0.113.1:4342", US));
    assert_eq!(*notify, octets(N01));
    // Again: the Map-Notify may have been lost, so it is sent once more, to its owner alone.
    let again = world.octets(ETR, &octets(G01));
    assert_eq!((faults(&again), notifies(&again).len()), (vec![SiteFault::Repeated], 1));
    let moved = SocketAddr::new(address(ETR), 61000);
    let Ok(Message::MapRegister(message)) = Message::parse(&octets(G01)) else { panic!("vector G01") };
    let input = Input::Register { from: moved, local: address(US), message: &message, octets: &octets(G01) };
    assert_eq!(world.step(input), [Output::Drop(SiteFault::Repeated)]);
    let older = with(0xf, vec![record(PREFIX, &[ETR])], None);
    let older = older.signed(&psk(1, Algorithm::Sha1), Form { whole_mac: true, ..Form::default() });
    assert_eq!(world.octets(ETR, &older), [Output::Drop(SiteFault::Replayed)]);
    let mut forged = octets(G01);
    forged[11] += 1; // a greater nonce
    assert_eq!(world.octets(ETR, &forged), [Output::Drop(SiteFault::Mac)]);
    assert_eq!(world.server.refused(ONE).map(|refusal| (refusal.fault, refusal.key)), Some((SiteFault::Mac, 1)));
    world.at(1000).step(Input::Wake);
    assert!(world.registered().is_empty());
    assert_eq!(faults(&world.octets(ETR, &octets(G01))), [SiteFault::Repeated], "nonces outlive registrations");
    assert!(world.registered().is_empty());
}

/// MS-1: each nonce must be greater than the one before of this xTR and key; random ones are for sites that say so.
#[test]
fn nonces_grow_for_each_xtr_and_key() {
    let keys = || vec![psk(1, Algorithm::Sha256), psk(2, Algorithm::Sha256)];
    let script = [
        // key, xTR, nonce, strict, legacy
        (1, 1, 10, true, true),
        (1, 1, 9, false, true),
        (1, 1, 11, true, true),
        (2, 1, 3, true, true), // a key of its own
        (1, 2, 5, true, true), // an xTR of its own
        (1, 2, 4, false, true),
        (2, 1, 2, false, true),
        (1, 1, u64::MAX, true, true),
        (1, 1, 0, false, true),
    ];
    for legacy in [false, true] {
        let mut world = world(vec![Site { any_nonce: legacy, ..site(keys()) }]);
        for (line, (key, number, nonce, strict, any)) in script.into_iter().enumerate() {
            let message = with(nonce, vec![record(PREFIX, &[ETR])], xtr(number));
            let signed = message.signed(&psk(key, Algorithm::Sha256), Form::default());
            let taken = faults(&world.octets(ETR, &signed)).is_empty();
            assert_eq!(taken, if legacy { any } else { strict }, "legacy {legacy}, line {line}");
        }
    }
}

/// MV-8, MV-10: version 10, then 9 by a fresh nonce: nothing changes and nobody is told, whichever xTR of the site says so.
/// Where versions are not heeded it is taken.
#[test]
fn an_older_version_is_refused_where_versions_are_heeded() {
    let key = || psk(1, Algorithm::Sha256);
    // Version, xTR; whether it is taken.
    let script =
        [(10, 1, true), (9, 1, false), (9, 2, false), (10, 2, true), (0, 1, true), (11, 1, true), (10, 2, false)];
    for versions in [true, false] {
        let sites = vec![site(vec![key()])];
        let mut world = World::new(Settings { wall: WALL, versions, ..Settings::new(sites, vec![address(US)]) });
        for (line, (version, number, taken)) in script.into_iter().enumerate() {
            let record = Mapping { version, ..record(PREFIX, &[ETR]) };
            let message = MapRegister { want_notify: true, ..with(100 + line as u64, vec![record], xtr(number)) };
            let before = world.registered();
            let outputs = world.octets(ETR, &message.signed(&key(), Form::default()));
            if taken || !versions {
                assert_eq!((faults(&outputs), notifies(&outputs).len()), (vec![], 1), "line {line}");
            } else {
                assert_eq!(outputs, [Output::Drop(SiteFault::OlderVersion)], "line {line}");
                assert_eq!(world.registered(), before);
            }
        }
        // What is taken back is taken back, of whatever version.
        let back = Mapping { version: 3, ttl: Ttl::Remove, ..record(PREFIX, &[ETR]) };
        let message = with(1_000, vec![back], xtr(1));
        assert_eq!(faults(&world.octets(ETR, &message.signed(&key(), Form::default()))), []);
    }
}

/// MS-2: without an xTR-ID the address tells xTRs apart.
#[test]
fn without_an_xtr_id_nonces_belong_to_an_address() {
    let mut world = world(vec![site(vec![psk(1, Algorithm::Sha256)])]);
    let [low, high] = [3, 900].map(|nonce| {
        with(nonce, vec![record(PREFIX, &[ETR])], None).signed(&psk(1, Algorithm::Sha256), Form::default())
    });
    let [low_next, high_next] = [4, 901].map(|nonce| {
        with(nonce, vec![record(PREFIX, &[ETR])], None).signed(&psk(1, Algorithm::Sha256), Form::default())
    });
    for (line, (from, octets, taken)) in [
        (ETR, &high, true),
        (OTHER, &low, true),
        (ETR, &high_next, true),
        (OTHER, &low_next, true),
        (ETR, &high, false),
        (OTHER, &low, false),
        (ETR, &low_next, false),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(faults(&world.octets(from, octets)).is_empty(), taken, "line {line}");
    }
}

/// MS-3: of a message with one prefix too many nothing is taken.
#[test]
fn a_site_registers_its_own_prefixes_and_nothing_else() {
    let mut world = World::new(settings());
    let state = world.state();
    for (site, prefixes, fault) in [
        (ONE, &["10.0.0.0/15"][..], SiteFault::UnknownSite),
        (ONE, &["10.2.0.0/16"], SiteFault::UnknownSite),
        (ONE, &["10.1.0.0/16", "10.0.0.0/8"], SiteFault::ForeignPrefix),
        (ONE, &["10.1.0.0/16", "10.1.64.0/18"], SiteFault::ForeignPrefix), // two's
        (ONE, &["10.1.0.0/16", "10.1.65.0/24"], SiteFault::ForeignPrefix), // inside two's
        (ONE, &["10.1.64.0/18"], SiteFault::Mac),                          // two's, with one's key
        (TWO, &["10.1.64.0/24"], SiteFault::ForeignPrefix),                // a part
        (TWO, &["10.1.64.0/18", "10.1.0.0/16"], SiteFault::ForeignPrefix),
        (ONE, &[], SiteFault::UnknownSite),
    ] {
        let records = prefixes.iter().map(|prefix| record(prefix, &[ITR])).collect();
        let outputs = world.register(ITR, &key(site), MapRegister { records, ..MapRegister::default() });
        assert_eq!(outputs, [Output::Drop(fault)], "{site:?} {prefixes:?}");
        assert_eq!(world.state(), state, "nothing changed");
    }
    let refused = world.server.refused(TWO).unwrap();
    assert_eq!((refused.fault, refused.from.ip()), (SiteFault::ForeignPrefix, address(ITR)));
    assert!(world.server.stranger().is_some());
    let mut keyless = settings();
    keyless.sites[0].keys.clear();
    assert_eq!(World::new(keyless).up(ONE, "10.1.0.0/16", &[ITR]), [Output::Drop(SiteFault::NoKey)]);
}

/// MS-10: three minutes without a Map-Register, or the TTL of the record where the T bit says so.
#[test]
fn a_registration_ends_when_it_is_not_renewed() {
    let mut world = world(vec![site(vec![psk(1, Algorithm::Sha256)])]);
    let register = |world: &mut World, ttl_timeout, minutes| {
        let records = vec![Mapping { ttl: Ttl::Minutes(minutes), ..record(PREFIX, &[ETR]) }];
        world.register(ETR, &psk(1, Algorithm::Sha256), MapRegister { ttl_timeout, records, ..MapRegister::default() })
    };
    let gone = [Output::Withdraw(eid(PREFIX)), Output::Unregistered { site: ONE, eid: eid(PREFIX), by: address(ETR) }];
    register(&mut world, false, 1440);
    register(world.at(60), false, 1440);
    assert_eq!(world.server.due(), Some(world.start + Duration::from_secs(240)));
    assert_eq!(world.at(239).step(Input::Wake), []);
    assert_eq!(world.registered(), [PREFIX]);
    assert_eq!(world.at(240).step(Input::Wake), gone);
    assert!(world.registered().is_empty() && world.server.due().is_none());
    register(&mut world, true, 10);
    assert_eq!(world.at(839).step(Input::Wake), []);
    assert_eq!(world.at(840).step(Input::Wake), gone);
    // Half a second before a full one: not early by that.
    world.now += Duration::from_millis(500);
    register(&mut world, false, 1);
    assert_eq!(world.at(1020).step(Input::Wake), []);
    assert_eq!(world.at(1021).step(Input::Wake), gone);
}

/// MS-20: vector G06 takes back what was registered, and nobody can who has no key.
#[test]
fn a_zero_ttl_takes_a_prefix_back() {
    let mut world = world(vec![site(vec![psk(1, Algorithm::Sha256)])]);
    world.nonce = 1;
    world.up_vectors();
    let mut forged = octets(G06);
    forged[16] ^= 1;
    assert_eq!(world.octets(ETR, &forged), [Output::Drop(SiteFault::Mac)]);
    assert_eq!(world.registered(), [PREFIX]);
    let other = world.octets(OTHER, &octets(G06));
    assert_eq!((other, world.registered()), (vec![], vec![PREFIX.to_owned()]), "not what another xTR registered");
    assert_eq!(alt(world.octets(ETR, &octets(G06))), [Output::Withdraw(eid(PREFIX))]);
    assert!(world.registered().is_empty());
}

impl World {
    /// Registers the vectors' prefix as their ETR, under key 1 with SHA-256.
    fn up_vectors(&mut self) {
        let message = MapRegister { records: vec![record(PREFIX, &[ETR])], ..MapRegister::default() };
        let outputs = self.register(ETR, &psk(1, Algorithm::Sha256), message);
        assert_eq!(faults(&outputs), []);
    }

    /// Registers with the merge bit as the xTR of this number.
    fn merge(&mut self, number: u8, etrs: &[&str], ttl: Ttl) -> Vec<Output> {
        let records = vec![Mapping { ttl, ..record(PREFIX, etrs) }];
        let message =
            MapRegister { merge: true, want_notify: true, records, xtr: xtr(number), ..MapRegister::default() };
        self.register(&format!("203.0.113.{number}"), &psk(1, Algorithm::Sha256), message)
    }

    /// Acknowledges a Map-Notify under this key.
    fn acknowledge(&mut self, notify: &MapNotify, key: &Key) -> Vec<Output> {
        let ack = MapNotify { ack: true, ..notify.clone() };
        self.octets(ETR, &ack.signed(key, Form::default()))
    }
}

/// MS-13, ETR-28: the union of all that want it; who shares in it hears of each change.
#[test]
fn locators_of_several_xtrs_are_merged() {
    let mut world = world(vec![site(vec![psk(1, Algorithm::Sha256)])]);
    let minutes = Ttl::Minutes(1440);
    let first = notifies(&world.merge(1, &["203.0.113.1"], minutes));
    assert_eq!(locators(&first[0].1.records[0]), ["203.0.113.1"]);
    let outputs = notifies(&world.merge(2, &["203.0.113.2", "203.0.113.1"], minutes));
    let [(to_first, news), (to_second, answer)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((to_first.as_str(), to_second.as_str()), ("203.0.113.1:4342", "203.0.113.2:4342"));
    for notify in [news, answer] {
        assert_eq!(locators(&notify.records[0]), ["203.0.113.1", "203.0.113.2"], "each address once");
    }
    assert_eq!((news.xtr, answer.xtr, news.nonce), (xtr(1), xtr(2), 5001));
    let renewed = notifies(&world.at(60).merge(2, &["203.0.113.1", "203.0.113.2"], minutes));
    assert_eq!(renewed.len(), 1, "no news in another order");
    // The ITR hears the union, and either ETR gets what it asks.
    let asked: Vec<String> = (0..2).map(|_| etr(&world.ask("192.0.2.1"))).collect();
    assert_eq!(asked, ["203.0.113.1", "203.0.113.2"]);
    // The first is silent, and its time runs out; the second is told.
    world.merge(2, &["203.0.113.2"], minutes);
    world.at(170).merge(2, &["203.0.113.2"], minutes);
    let outputs = notifies(&world.at(180).step(Input::Wake));
    let told: Vec<_> = outputs.iter().filter(|(to, _)| to.starts_with("203.0.113.2:")).collect();
    assert_eq!(locators(&told[0].1.records[0]), ["203.0.113.2"], "the union shrinks");
    assert_eq!(etr(&world.at(181).ask("192.0.2.1")), "203.0.113.2");
    // One that does not want to share has the prefix alone, as the last that spoke.
    let records = vec![record(PREFIX, &["203.0.113.3"])];
    world.register(
        "203.0.113.3",
        &psk(1, Algorithm::Sha256),
        MapRegister { records, xtr: xtr(3), ..MapRegister::default() },
    );
    assert_eq!(etr(&world.at(182).ask("192.0.2.1")), "203.0.113.3");
    assert_eq!(world.server.held(&eid(PREFIX)).next().unwrap().holders.len(), 2);
}

/// MS-12: news goes again after 3, 3, 3, 6, 12 and 24 seconds, until acknowledged with its nonce and a right MAC.
#[test]
fn news_is_repeated_until_it_is_acknowledged() {
    let mut world = world(vec![site(vec![psk(1, Algorithm::Sha256)])]);
    let long = Ttl::Minutes(1440);
    world.merge(1, &["203.0.113.1"], long);
    let news = notifies(&world.merge(2, &["203.0.113.2"], long)).remove(0).1;
    for seconds in [3, 6, 9, 15, 27, 51] {
        assert_eq!(world.server.due(), Some(world.start + Duration::from_secs(seconds)));
        let again = notifies(&world.at(seconds).step(Input::Wake));
        assert_eq!(again, [("203.0.113.1:4342".to_owned(), news.clone())], "{seconds}");
    }
    assert_eq!(world.at(75).step(Input::Wake), [Output::Drop(SiteFault::Unacknowledged)]);

    let news = notifies(&world.merge(2, &["203.0.113.3"], long)).remove(0).1;
    let key = psk(1, Algorithm::Sha256);
    let stranger = Key::new(1, Algorithm::Sha256, b"a guess");
    assert_eq!(world.acknowledge(&news, &stranger), [Output::Drop(SiteFault::AckMac)]);
    let other = MapNotify { nonce: news.nonce + 1, ..news.clone() };
    assert_eq!(world.acknowledge(&other, &key), [Output::Drop(SiteFault::AckUnwanted)]);
    assert_eq!(notifies(&world.at(78).step(Input::Wake)).len(), 1, "neither counted");
    assert_eq!(world.acknowledge(&news, &key), []);
    assert_eq!(world.server.due(), Some(world.start + Duration::from_secs(180)), "the next end of a registration");
    // Later news takes the place of earlier.
    world.merge(2, &["203.0.113.4"], long);
    let latest = notifies(&world.merge(2, &["203.0.113.5"], long)).remove(0).1;
    let again = notifies(&world.at(90).step(Input::Wake));
    assert_eq!(again, [("203.0.113.1:4342".to_owned(), latest)]);
}

/// MS-11: without the M bit there is no answer; an answer is not repeated, and has the form of the question.
#[test]
fn a_map_notify_answers_what_wants_one() {
    let mut world = world(vec![site(vec![psk(1, Algorithm::Sha256Hkdf)])]);
    for (want_notify, whole_mac, number) in [(false, false, 1), (true, false, 2), (true, true, 3)] {
        let message = MapRegister {
            want_notify,
            proxy: true,
            nonce: 40,
            records: vec![record(PREFIX, &[ETR])],
            xtr: xtr(number),
            ..MapRegister::default()
        };
        let signed = message.signed(&psk(1, Algorithm::Sha256Hkdf), Form { whole_mac, ..Form::default() });
        let outputs = world.octets(ETR, &signed);
        let answers = notifies(&outputs);
        assert_eq!(answers.len(), usize::from(want_notify));
        let Some((_, answer)) = answers.first() else { continue };
        assert_eq!((answer.nonce, answer.xtr, answer.ack), (40, xtr(number), false));
        assert_eq!(answer.records, [record(PREFIX, &[ETR])]);
        assert_eq!(answer.authentication.data.len(), if whole_mac { 32 } else { 16 });
        let Some(Output::Notify { octets, .. }) = outputs.last() else { panic!("{outputs:?}") };
        assert!(answer.verify(octets, &[psk(1, Algorithm::Sha256Hkdf)]).is_ok());
    }
    assert_eq!(world.server.due(), Some(world.start + TIMEOUT), "nothing is to be repeated");
}

/// MS-17: as many prefixes and messages as a site may have, and no more; others do not feel it.
#[test]
fn a_site_has_no_more_prefixes_and_messages_than_it_may() {
    let mut settings = settings();
    settings.sites[0].prefixes_max = 10;
    let mut world = World::new(settings);
    for third in 0..=10 {
        let outputs = world.up(ONE, &format!("10.1.{third}.0/24"), &[ITR]);
        let refused = faults(&outputs) == [SiteFault::TooManyPrefixes];
        assert_eq!(refused, third == 10, "{third}");
    }
    assert_eq!(world.registered().len(), 10);
    assert_eq!(faults(&world.up(ONE, "10.1.3.0/24", &[ITR])), [], "what is there may be renewed");
    // 100 messages a second: 64 at once are taken, and as many in 20 seconds.
    let taken = |world: &mut World, ms: std::ops::Range<u64>| {
        let mut count = 0;
        for ms in ms.step_by(10) {
            world.now = world.start + Duration::from_millis(ms);
            let outputs = world.up(ONE, "10.1.3.0/24", &[ITR]);
            assert!(matches!(faults(&outputs)[..], [] | [SiteFault::RegisterLimited]));
            count += usize::from(faults(&outputs).is_empty());
        }
        count
    };
    assert_eq!(taken(world.at(60), 60_000..61_000), 64 + 3);
    assert_eq!(taken(&mut world, 61_000..81_000), 64);
    assert_eq!(faults(&world.up(TWO, "10.1.64.0/18", &[ITR])), []);
    let records =
        vec![Mapping { locators: vec![Locator::unicast(address(ITR), 1, 1); 65], ..record("10.1.64.0/18", &[]) }];
    let message = MapRegister { records, ..MapRegister::default() };
    assert_eq!(faults(&world.register(ITR, &key(TWO), message)), [SiteFault::TooManyLocators]);
    // The addresses of an AFI-List are one locator, the stops of a path as many.
    for (hop, expected) in [(Hop::alternative(), vec![]), (Hop::from_bits(0), vec![SiteFault::TooManyLocators])] {
        let one = Locator::unicast(address(ITR), 1, 1);
        let locators = vec![one.over(&[(address("240.0.254.22"), hop)], hop); 64].concat();
        let records = vec![Mapping { locators, ..record("10.1.64.0/18", &[]) }];
        let message = MapRegister { records, ..MapRegister::default() };
        assert_eq!(faults(&world.register(ITR, &key(TWO), message)), expected, "{hop:?}");
    }
}

/// MS-17: nor more xTRs. One that has nothing registered gives way, and what it said cannot be said again.
#[test]
fn a_site_has_no_more_xtrs_than_it_may() {
    let mut world = world(vec![Site { prefixes_max: 1000, ..site(vec![psk(1, Algorithm::Sha256)]) }]);
    let say = |world: &mut World, number: u8, nonce: u64, ttl: Ttl| {
        let records = vec![Mapping { ttl, ..record(PREFIX, &[ETR]) }];
        let signed = with(nonce, records, xtr(number)).signed(&psk(1, Algorithm::Sha256), Form::default());
        faults(&world.octets(ETR, &signed))
    };
    for number in 0..16 {
        assert_eq!(say(&mut world, number, 1000, Ttl::Minutes(1)), []);
    }
    assert_eq!(say(&mut world, 16, 1000, Ttl::Minutes(1)), [SiteFault::TooManyXtrs], "of one prefix");
    for number in 16..64 {
        assert_eq!(say(world.at(number.into()), number, 1000 + u64::from(number), Ttl::Remove), []);
    }
    assert_eq!(say(world.at(64), 64, 1, Ttl::Remove), [], "16 gave way");
    assert_eq!(say(world.at(65), 16, 1016, Ttl::Minutes(1)), [SiteFault::Replayed], "what it said before");
    assert_eq!(say(world.at(66), 16, 1017, Ttl::Remove), [], "17 gave way");
    assert_eq!(say(world.at(67), 17, 1017, Ttl::Minutes(1)), [SiteFault::Replayed]);
}

/// MS-16: two xTRs behind one anycast RLOC are told apart by their xTR-IDs or keys, and both live.
#[test]
fn an_anycast_rloc_may_be_registered_by_several() {
    let mut world = World::new(settings());
    let any = "240.0.254.77";
    for (site, prefix, number) in [(ONE, "10.1.0.0/16", 1), (ONE, "10.1.0.0/16", 2), (TWO, "10.1.64.0/18", 1)] {
        let message = MapRegister {
            merge: true,
            records: vec![record(prefix, &[any])],
            xtr: xtr(number),
            ..MapRegister::default()
        };
        assert_eq!(faults(&world.register(any, &key(site), message)), []);
    }
    assert_eq!(world.registered(), ["10.1.0.0/16", "10.1.64.0/18"]);
    assert_eq!(world.server.held(&eid("10.1.0.0/16")).next().unwrap().holders.len(), 2);
    assert_eq!((etr(&world.ask("10.1.1.1")), etr(&world.ask("10.1.65.1"))), (any.to_owned(), any.to_owned()));
}

/// MS-19: several keys are valid at once, and the one used shows; one that is dropped is refused.
#[test]
fn keys_can_be_changed_without_a_gap() {
    let (old, new) = (psk(1, Algorithm::Sha1), Key::new(2, Algorithm::Sha256Hkdf, b"the new one"));
    let record = || MapRegister { records: vec![record(PREFIX, &[ETR])], ..MapRegister::default() };
    let mut both = world(vec![site(vec![old.clone(), new.clone()])]);
    for key in [&old, &new] {
        let outputs = both.register(ETR, key, record());
        assert_eq!(faults(&outputs), []);
        assert_eq!(both.server.held(&eid(PREFIX)).next().unwrap().holders[0].key, key.id);
    }
    let mut dropped = world(vec![site(vec![new.clone()])]);
    assert_eq!(dropped.register(ETR, &old, record()), [Output::Drop(SiteFault::UnknownKey)]);
    assert_eq!(faults(&dropped.register(ETR, &new, record())), []);
    // The right ID with the other algorithm is the wrong key.
    let weaker = Key::new(2, Algorithm::Sha1, b"the new one");
    assert_eq!(dropped.register(ETR, &weaker, record()), [Output::Drop(SiteFault::Mac)]);
}

proptest! {
    /// MS-1: whatever comes, without a right MAC and a greater nonce nothing changes.
    #[test]
    fn mutated_and_replayed_messages_change_nothing(
        at in any::<prop::sample::Index>(), flip in 1_u8..=255, cut in 0_usize..4, earlier in 0_usize..3, merge in any::<bool>(),
    ) {
        let mut world = world(vec![site(vec![psk(1, Algorithm::Sha256)])]);
        let message = |nonce, etr: &str| {
            let records = vec![record(PREFIX, &[etr])];
            let message = MapRegister { merge, want_notify: true, nonce, records, xtr: xtr(1), ..MapRegister::default() };
            message.signed(&psk(1, Algorithm::Sha256), Form::default())
        };
        let sent = [message(1, "203.0.113.1"), message(2, "203.0.113.2"), message(3, "203.0.113.1")];
        for octets in &sent {
            assert_eq!(faults(&world.octets(ETR, octets)), []);
        }
        let (state, next) = (world.state(), message(4, "203.0.113.66"));
        let mut mutated = next.clone();
        let at = at.index(mutated.len());
        mutated[at] ^= flip;
        mutated.truncate(next.len() - cut);
        for octets in [&mutated, &sent[earlier]] {
            let parsed: Result<Message, WireError> = Message::parse(octets);
            if let Ok(Message::MapRegister(_)) = parsed {
                let outputs = world.octets(ETR, octets);
                prop_assert_eq!(faults(&outputs).len(), 1);
                prop_assert!(alt(outputs).is_empty());
            }
            prop_assert_eq!(&world.state(), &state);
        }
        prop_assert_eq!(faults(&world.octets(ETR, &next)), vec![], "the true one is taken all the same");
        prop_assert!(world.state() != state);
    }
}

/// LOC-10: a Map-Server that answers for an ETR hands an AFI-List on as it is: which address is of use, the ITR knows. Where it
/// forwards a Map-Request, the first address that it can reach itself will do.
#[test]
fn an_afi_list_is_handed_on_whole() {
    let last = Locator::unicast(address("240.0.254.21"), 1, 100);
    let locators = last.over(&[(address("2001:db8::21"), Hop::alternative())], Hop::alternative());
    let mapping = Mapping { locators, ..record("10.1.0.0/16", &[]) };
    for proxy in [false, true] {
        let mut world = World::new(settings());
        let message = MapRegister { records: vec![mapping.clone()], proxy, ..MapRegister::default() };
        world.register("240.0.254.99", &key(ONE), message);
        match (world.ask("10.1.2.3"), proxy) {
            (Output::Reply { message, .. }, true) => {
                assert_eq!(message.records[0].locators, mapping.locators);
            }
            (Output::Encapsulate { to, .. }, false) => assert_eq!(to, last.address),
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// LOC-10, MS-13: a list that several xTRs register is merged into one, with the best that is said of it, as plain addresses are.
#[test]
fn afi_lists_of_several_xtrs_are_merged() {
    let mut world = world(vec![site(vec![psk(1, Algorithm::Sha256)])]);
    let locator = |text: &str, reachable| Locator { reachable, ..Locator::unicast(address(text), 1, 100) };
    let list = |reachable| {
        locator("203.0.113.1", reachable).over(&[(address("2001:db8::21"), Hop::alternative())], Hop::alternative())
    };
    let plain = |reachable| vec![locator("203.0.113.2", reachable)];
    let mut merge = |number: u8, locators: Vec<Locator>| {
        let records = vec![Mapping { locators, ..record(PREFIX, &[]) }];
        let message =
            MapRegister { merge: true, want_notify: true, records, xtr: xtr(number), ..MapRegister::default() };
        let outputs = world.register(&format!("203.0.113.{number}"), &psk(1, Algorithm::Sha256), message);
        notifies(&outputs).pop().unwrap().1.records.remove(0).locators
    };
    merge(1, [list(true), plain(false)].concat());
    assert_eq!(merge(2, [plain(true), list(false)].concat()), [list(true), plain(true)].concat());
}
