//! Stories with time.

use altitude_dataplane::mapping::{Action, InstanceId, Locator, Prefix, Ttl};

use super::*;
use crate::wire::RequestRecord;

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mapping(prefix: &str, locators: &[&str]) -> Mapping {
    Mapping {
        locators: locators.iter().map(|text| Locator::unicast(address(text), 1, 50)).collect(),
        ..Mapping::negative(eid(prefix), Ttl::Minutes(1440), Action::NoAction)
    }
}

/// The site of RFC 9301 §5.5's example beside the slides' one; the second xTR of the site has 240.0.254.21.
fn settings() -> Settings {
    let database = vec![
        mapping("2.2.0.0/16", &["2001:db8:f::20", "240.0.254.21", "240.0.254.20"]),
        mapping("2001:db8::/32", &["240.0.254.20"]),
        mapping("2001:db8:1::/48", &["240.0.254.20"]),
        mapping("2001:db8:1:1::/64", &["240.0.254.20"]),
        mapping("2001:db8:1:2::/64", &["240.0.254.20"]),
    ];
    Settings::new(database, vec![address("240.0.254.20"), address("2001:db8:f::20")])
}

fn request(asked: &[&str]) -> MapRequest {
    MapRequest {
        records: asked.iter().map(|text| RequestRecord { notify: false, eid: eid(text) }).collect(),
        ..MapRequest::lookup(0x0102_0304_0506_0708, None, &[address("240.0.254.10")], eid("::/0"))
    }
}

fn arrival() -> Arrival {
    Arrival { source: "240.0.254.10:4342".parse().unwrap(), destination: None }
}

fn answer(request: &MapRequest) -> Result<Answer, RequestFault> {
    Responder::new(settings()).answer(Instant::now(), request, arrival())
}

fn prefixes(answer: &Answer) -> Vec<String> {
    answer.message.records.iter().map(|record| record.eid.to_string()).collect()
}

/// ETR-13, ETR-14.
#[test]
fn an_answer_says_what_an_etr_of_the_site_says() {
    let answer = answer(&request(&["2.2.2.2/32"])).unwrap();
    assert_eq!(answer.to, "240.0.254.10:4342".parse().unwrap());
    let MapReply { nonce, probe, echo_nonce, records, security } = answer.message;
    assert_eq!((nonce, probe, echo_nonce, security), (0x0102_0304_0506_0708, false, false, None));
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((record.eid, record.ttl, record.authoritative), (eid("2.2.0.0/16"), Ttl::Minutes(1440), true));
    let locators: Vec<_> =
        record.locators.iter().map(|l| (l.address.to_string(), l.local, l.probed, l.reachable)).collect();
    let expected = [
        ("240.0.254.20", true, false, true),
        ("240.0.254.21", false, false, true),
        ("2001:db8:f::20", true, false, true),
    ];
    assert_eq!(locators, expected.map(|(text, local, probed, reachable)| (text.to_owned(), local, probed, reachable)));
}

/// ETR-12, ETR-15.
#[test]
fn the_longest_match_with_its_more_specifics_and_nothing_above() {
    for (asked, expected) in [
        (&["2001:db8:1:1::1/128"][..], &["2001:db8:1:1::/64"][..]),
        (&["2001:db8:1:5::1/128"], &["2001:db8:1::/48", "2001:db8:1:1::/64", "2001:db8:1:2::/64"]),
        (&["2001:db8:2::1/128"], &["2001:db8::/32", "2001:db8:1::/48", "2001:db8:1:1::/64", "2001:db8:1:2::/64"]),
        (&["2001:db8:1::/48"], &["2001:db8:1::/48", "2001:db8:1:1::/64", "2001:db8:1:2::/64"]),
        // Several records, two of them ours; nothing twice.
        (&["2.2.2.2/32", "9.9.9.9/32", "2001:db8:1:2::1/128"], &["2.2.0.0/16", "2001:db8:1:2::/64"]),
        (
            &["2001:db8:1:2::1/128", "2001:db8:1:5::/64", "2001:db8:1:2::2/128"],
            &["2001:db8:1::/48", "2001:db8:1:1::/64", "2001:db8:1:2::/64"],
        ),
    ] {
        assert_eq!(prefixes(&answer(&request(asked)).unwrap()), expected, "{asked:?}");
    }
}

/// G-5.
#[test]
fn more_specifics_that_do_not_fit_leave_the_part_that_needs_none() {
    let mut database: Vec<Mapping> =
        (0..200).map(|third| mapping(&format!("2.2.{third}.0/24"), &["240.0.254.20"])).collect();
    database.push(mapping("2.2.0.0/16", &["240.0.254.21"]));
    let mut responder = Responder::new(Settings { database, ..settings() });
    let mut ask = |text: &str| responder.answer(Instant::now(), &request(&[text]), arrival());
    // 2.2.200.0/21 is what no /24 reaches into around 2.2.201.1.
    let answer = ask("2.2.201.1/32").unwrap();
    assert_eq!(prefixes(&answer), ["2.2.200.0/21"]);
    assert_eq!(answer.message.records[0].locators[0].address, address("240.0.254.21"));
    assert!(answer.message.encode().len() <= 548);
    assert_eq!(prefixes(&ask("2.2.7.1/32").unwrap()), ["2.2.7.0/24"]);
    // Asked for as a whole it is told of its first part, as a Map-Server would; and a part as it was told of before.
    let answer = ask("2.2.0.0/16").unwrap();
    assert_eq!(prefixes(&answer), ["2.2.0.0/24"]);
    assert_eq!(answer.message.records[0].locators[0].address, address("240.0.254.20"));
    assert_eq!(prefixes(&ask("2.2.200.0/21").unwrap()), ["2.2.200.0/21"]);
    // Of many that are asked for at once, the first ones are answered.
    let many: Vec<String> = (0..100).map(|third| format!("2.2.{third}.1/32")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let answer = responder.answer(Instant::now(), &request(&many), arrival()).unwrap();
    assert!((2..100).contains(&answer.message.records.len()) && prefixes(&answer)[0] == "2.2.0.0/24");
    assert!(answer.message.encode().len() <= 548);
    let mut database: Vec<Mapping> =
        (0..=255).map(|third| mapping(&format!("2.2.{third}.0/24"), &["240.0.254.20"])).collect();
    database.push(mapping("2.2.0.0/16", &["240.0.254.21"]));
    responder.set_database(database);
    let asked = MapRequest { itr_rlocs: vec![address("240.0.254.11")], ..request(&["2.2.0.0/16"]) };
    assert_eq!(prefixes(&responder.answer(Instant::now(), &asked, arrival()).unwrap()), ["2.2.0.0/24"]);
}

/// RCH-3: P, the nonce, and A in every record; the p bit at the locator that was probed.
#[test]
fn a_probe_is_answered_as_a_probe_and_names_the_locator_probed() {
    let probe = MapRequest { probe: true, ..request(&["2.2.0.0/16"]) };
    let mut responder = Responder::new(settings());
    for (destination, expected) in [
        (Some("240.0.254.20"), vec!["240.0.254.20"]),
        (Some("10.0.0.1"), vec![]), // not in the set: nothing to name
        (None, vec![]),
    ] {
        let arrival = Arrival { destination: destination.map(address), ..arrival() };
        let message = responder.answer(Instant::now(), &probe, arrival).unwrap().message;
        assert!(message.probe && message.records.iter().all(|record| record.authoritative));
        assert_eq!(message.nonce, probe.nonce);
        let probed = message.records[0].locators.iter().filter(|locator| locator.probed);
        assert_eq!(probed.map(|locator| locator.address.to_string()).collect::<Vec<_>>(), expected);
    }
    // Not a probe: no p bit, wherever it was sent.
    let arrival = Arrival { destination: Some(address("240.0.254.20")), ..arrival() };
    let message =
        Responder::new(settings()).answer(Instant::now(), &request(&["2.2.2.2/32"]), arrival).unwrap().message;
    assert!(message.records[0].locators.iter().all(|locator| !locator.probed));
}

/// ETR-11, ETR-16.
#[test]
fn it_goes_to_an_itr_rloc_that_can_be_reached_at_the_port_of_the_request() {
    let both = || vec![address("240.0.254.10"), address("2001:db8:f::10")];
    for (itr_rlocs, source, ours, expected) in [
        (both(), "240.0.254.10:4342", vec!["240.0.254.20"], Some("240.0.254.10:4342")),
        (both(), "240.0.254.10:61001", vec!["2001:db8:f::20"], Some("[2001:db8:f::10]:61001")),
        (both(), "[2001:db8:f::10]:4342", vec!["240.0.254.20", "2001:db8:f::20"], Some("[2001:db8:f::10]:4342")),
        // Through the ALT or a Map-Resolver the source may be any address: never where the answer goes.
        (both(), "9.9.9.9:4342", vec!["240.0.254.20", "2001:db8:f::20"], Some("240.0.254.10:4342")),
        (vec![], "240.0.254.10:4342", vec!["240.0.254.20"], None),
        (vec![address("2001:db8:f::10")], "240.0.254.10:4342", vec!["240.0.254.20"], None),
        (vec![address("224.0.0.1"), address("255.255.255.255")], "240.0.254.10:4342", vec!["240.0.254.20"], None),
        (both(), "240.0.254.10:0", vec!["240.0.254.20"], None),
    ] {
        let rlocs = ours.iter().map(|text| address(text)).collect();
        let mut responder = Responder::new(Settings { rlocs, ..settings() });
        let request = MapRequest { itr_rlocs: itr_rlocs.clone(), ..request(&["2.2.2.2/32"]) };
        let arrival = Arrival { source: source.parse().unwrap(), destination: None };
        let to = responder.answer(Instant::now(), &request, arrival).map(|answer| answer.to);
        let expected = expected.map(|text| text.parse().unwrap()).ok_or(RequestFault::NoItrRloc);
        assert_eq!(to, expected, "{itr_rlocs:?} from {source} by {ours:?}");
    }
}

/// ETR-17: an ITR that probes two locators of ours, each once in 3 s and after a loss three times more, hears of all; beyond
/// that, and for what is no probe, there are the rates.
#[test]
fn probes_have_a_rate_of_their_own() {
    let start = Instant::now();
    let mut responder = Responder::new(settings());
    let probe = MapRequest { probe: true, ..request(&["2.2.0.0/16"]) };
    let mut answered = |ms: u64, locator: &str| {
        let arrival = Arrival { destination: Some(address(locator)), ..arrival() };
        responder.answer(start + Duration::from_millis(ms), &probe, arrival).map(|_| ())
    };
    let locators = ["240.0.254.20", "2001:db8:f::20"];
    for ms in (0..60_000).step_by(2_400) {
        assert_eq!(locators.map(|locator| answered(ms, locator)), [Ok(()); 2], "at {ms} ms");
    }
    assert_eq!([1_000, 2_000, 3_000].map(|ms| answered(60_000 + ms, locators[0])), [Ok(()); 3]);
    let flood = (0..10_000).filter(|ms| answered(70_000 + ms, locators[0]).is_ok()).count();
    assert_eq!(flood, 12, "three, and one in each second after");
    let plain = request(&["2.2.2.2/32"]);
    let plain =
        (0..9_000).filter(|ms| responder.answer(start + Duration::from_millis(90_000 + ms), &plain, arrival()).is_ok());
    assert_eq!(plain.count(), 3 + 2);
}

/// SMR-6, SMR-7, ETR-10, ITR-36: an SMR, or any request with the D bit, gets no Map-Reply; one that an SMR invoked is ordinary,
/// with the same nonce and no P. Nor does what a request carries change anything.
#[test]
fn requests_that_get_no_answer() {
    let plain = || request(&["2.2.2.2/32"]);
    let elsewhere = EidPrefix { instance: InstanceId::new(5).unwrap(), ..eid("2.2.2.2/32") };
    let instance_five = vec![RequestRecord { notify: false, eid: elsewhere }];
    for (request, fault) in [
        (MapRequest { smr: true, dont_reply: true, ..plain() }, RequestFault::Smr),
        (MapRequest { smr: true, ..plain() }, RequestFault::Smr),
        (MapRequest { dont_reply: true, ..plain() }, RequestFault::DontReply),
        (request(&["9.9.9.9/32"]), RequestFault::EidNotOurs),
        (request(&["2.0.0.0/8"]), RequestFault::EidNotOurs), // more than we can speak for
        (request(&[]), RequestFault::EidNotOurs),
        (MapRequest { records: instance_five, ..plain() }, RequestFault::EidNotOurs),
    ] {
        assert_eq!(answer(&request), Err(fault), "{request:?}");
    }
    // The answer to an SMR, and one from a PITR, are ordinary.
    for request in [MapRequest { smr_invoked: true, ..plain() }, MapRequest { pitr: true, ..plain() }] {
        let message = answer(&request).unwrap().message;
        assert!(message.nonce == request.nonce && !message.probe);
    }
    // The mapping it carries changes nothing in the answer.
    let boast = MapRequest { reply_record: Some(mapping("2.2.2.0/24", &["9.9.9.9"])), ..plain() };
    assert_eq!(answer(&boast), answer(&plain()));
}

/// ETR-17.
#[test]
fn three_at_once_then_one_in_three_seconds_for_each_rloc_and_prefix() {
    let start = Instant::now();
    let mut responder = Responder::new(settings());
    let from = |text: &str, asked: &str| MapRequest { itr_rlocs: vec![address(text)], ..request(&[asked]) };
    let (a, b) = ("240.0.254.10", "240.0.254.11");
    let script: [(u64, &str, &str, Result<(), RequestFault>); 12] = [
        // ms   ITR-RLOC  asked           answered
        (0, a, "2.2.2.2/32", Ok(())),
        (0, a, "2.2.2.2/32", Ok(())),
        (0, a, "2.2.3.3/32", Ok(())),
        (0, a, "2.2.4.4/32", Err(RequestFault::Limited)), // the same prefix, whoever is asked for in it
        (0, a, "2001:db8:2::1/128", Ok(())),              // another prefix
        (0, b, "2.2.2.2/32", Ok(())),                     // another ITR
        (2_999, a, "2.2.2.2/32", Err(RequestFault::Limited)),
        (3_000, a, "2.2.2.2/32", Ok(())),
        (3_001, a, "2.2.2.2/32", Err(RequestFault::Limited)),
        (6_000, a, "2.2.2.2/32", Ok(())),
        (60_000, a, "2.2.2.2/32", Ok(())),
        (60_000, a, "2.2.2.2/32", Ok(())),
    ];
    for (index, (ms, rloc, asked, expected)) in script.into_iter().enumerate() {
        let now = start + Duration::from_millis(ms);
        let got = responder.answer(now, &from(rloc, asked), arrival()).map(|_| ());
        assert_eq!(got, expected, "line {index}, at {ms} ms");
    }
}

/// ETR-17.
#[test]
fn forged_itr_rlocs_fill_neither_the_table_nor_the_wire() {
    let start = Instant::now();
    let all = Rate { burst: 10, every: Duration::from_millis(100) };
    let mut responder = Responder::new(Settings { all, watched_max: 4, ..settings() });
    let mut faults = Vec::new();
    for last in 0..20 {
        let request = MapRequest { itr_rlocs: vec![[10, 0, 0, last + 1].into()], ..request(&["2.2.2.2/32"]) };
        faults.push(responder.answer(start, &request, arrival()).err());
    }
    assert_eq!(faults[..4], [None; 4]);
    assert!(faults[4..].iter().all(|fault| *fault == Some(RequestFault::WatchedFull)));
    assert_eq!(responder.limits.watched(), 4);
    let mut responder = Responder::new(Settings { all, ..settings() });
    let answered = (1..=200).filter(|last| {
        let request = MapRequest { itr_rlocs: vec![[10, 0, 0, *last].into()], ..request(&["2.2.2.2/32"]) };
        responder.answer(start, &request, arrival()).is_ok()
    });
    assert_eq!(answered.count(), 10);
}

#[test]
fn the_database_can_change_under_way() {
    let mut responder = Responder::new(settings());
    responder.set_database(vec![mapping("3.3.0.0/16", &["240.0.254.20"])]);
    let mut ask = |text: &str| responder.answer(Instant::now(), &request(&[text]), arrival());
    assert_eq!(ask("2.2.2.2/32"), Err(RequestFault::EidNotOurs));
    assert_eq!(prefixes(&ask("3.3.3.3/32").unwrap()), ["3.3.0.0/16"]);
    let down = Locator { reachable: false, ..Locator::unicast(address("240.0.254.20"), 1, 1) };
    responder.set_database(vec![Mapping { locators: vec![down], ..mapping("3.3.0.0/16", &[]) }]);
    let answer = responder.answer(Instant::now(), &request(&["3.3.3.3/32"]), arrival()).unwrap();
    assert!(!answer.message.records[0].locators[0].reachable, "R as the site says");
    assert_eq!(Prefix::host(address("3.3.3.3")).length(), 32);
}

/// RCH-15: whoever wants to ask us for nonces reads in our Map-Replies, those to probes too, whether we give them back.
#[test]
fn the_e_bit_says_whether_nonces_are_given_back() {
    for echo_nonce in [false, true] {
        let mut responder = Responder::new(Settings { echo_nonce, ..settings() });
        for probe in [false, true] {
            let request = MapRequest { probe, ..request(&["2.2.2.2/32"]) };
            let answer = responder.answer(Instant::now(), &request, arrival()).unwrap();
            assert_eq!((answer.message.echo_nonce, answer.message.probe), (echo_nonce, probe));
        }
    }
}
