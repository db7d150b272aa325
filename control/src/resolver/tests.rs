//! Stories with time.

mod secured;

use altitude_dataplane::mapping::{Action, Hop, Locator, Prefix, Ttl};
use proptest::prelude::*;

use super::*;

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn miss(destination: &str) -> Input {
    Input::Miss(Miss {
        wanted: Wanted::Mapping,
        destination: Eid { instance: InstanceId::DEFAULT, address: destination.parse().unwrap() },
        source: [1, 1, 1, 1].into(),
    })
}

fn mapping(prefix: &str) -> Mapping {
    Mapping {
        ttl: Ttl::Minutes(1440),
        authoritative: true,
        locators: vec![Locator::unicast([240, 0, 254, 20].into(), 1, 100)],
        ..Mapping::negative(eid(prefix), Ttl::Remove, Action::NoAction)
    }
}

fn negative(prefix: &str) -> Mapping {
    Mapping::negative(eid(prefix), Ttl::Minutes(15), Action::NativelyForward)
}

fn reply(nonce: u64, records: Vec<Mapping>) -> Input {
    Input::Reply(MapReply { nonce, probe: false, echo_nonce: false, records, security: None })
}

fn settings() -> Settings {
    Settings {
        itr_rlocs: vec![[240, 0, 254, 10].into(), "2001:db8:f::10".parse().unwrap()],
        pitr: false,
        database: vec![eid("1.1.0.0/16"), eid("2001:db8:1::/48")],
        shortest_v4: 8,
        shortest_v6: 16,
        pending_max: 4,
        source_max: 4,
        site_max: 4,
        records_max: 3,
        security: None,
    }
}

/// The Map-Request for `asked`, because of a packet from 1.1.1.1.
fn request(asked: &str, nonce: u64) -> Output {
    let source = Eid { instance: InstanceId::DEFAULT, address: [1, 1, 1, 1].into() };
    let message = MapRequest::lookup(nonce, Some(source), &settings().itr_rlocs, eid(asked));
    Output::Request {
        target: eid(asked).prefix.address(),
        instance: InstanceId::DEFAULT,
        refresh: false,
        message,
        security: None,
    }
}

fn refresh(asked: &str, nonce: u64) -> Output {
    match request(asked, nonce) {
        Output::Request { target, instance, message, .. } => {
            let message = MapRequest { source_eid: None, ..message };
            Output::Request { target, instance, refresh: true, message, security: None }
        }
        _ => unreachable!("request makes requests"),
    }
}

use self::Output::{Discard, GiveUp, Install};

/// A resolver, a clock that starts at 0, and nonces 1, 2, 3 …
struct Stage {
    resolver: Resolver,
    start: Instant,
    nonce: u64,
}

impl Stage {
    fn new(settings: Settings) -> Self {
        Self { resolver: Resolver::new(settings), start: Instant::now(), nonce: 0 }
    }

    fn step(&mut self, ms: u64, input: Input) -> Vec<Output> {
        let mut todo = Vec::new();
        let nonce = &mut self.nonce;
        let mut nonces = || {
            *nonce += 1;
            *nonce
        };
        self.resolver.step(self.start + Duration::from_millis(ms), input, &mut nonces, &mut todo);
        todo
    }

    /// Plays a script of (ms, input, what must be done).
    fn play<const N: usize>(&mut self, script: [(u64, Input, Vec<Output>); N]) {
        for (index, (ms, input, expected)) in script.into_iter().enumerate() {
            assert_eq!(self.step(ms, input), expected, "line {index}, at {ms} ms");
        }
    }

    /// When the machine wants to be woken, in ms.
    fn due(&self) -> Option<u128> {
        self.resolver.due().map(|due| due.duration_since(self.start).as_millis())
    }

    fn assert_idle(&self) {
        assert_eq!((self.due(), self.resolver.pending().count()), (None, 0));
        assert!(self.resolver.outstanding.is_empty(), "a nonce outlived its request");
    }
}

/// ITR-23, ITR-49.
#[test]
fn a_miss_is_asked_for_once_and_installed() {
    let mut stage = Stage::new(settings());
    stage.play([
        // ms   input                                     to do
        (0, miss("2.2.2.2"), vec![request("2.2.2.2", 1)]),
        (10, miss("2.2.2.2"), vec![]), // already asked
        (999, Input::Wake, vec![]),    // too early
        (1_000, Input::Wake, vec![request("2.2.2.2", 2)]),
        (1_100, reply(7, vec![mapping("2.2.0.0/16")]), vec![Discard(ResolverFault::NonceUnknown)]),
        (1_200, reply(2, vec![mapping("2.2.0.0/16")]), vec![Install(vec![mapping("2.2.0.0/16")])]),
        (1_300, reply(2, vec![mapping("2.2.0.0/16")]), vec![Discard(ResolverFault::NonceUnknown)]), // replayed
        (1_300, reply(1, vec![mapping("2.2.0.0/16")]), vec![Discard(ResolverFault::NonceUnknown)]), // no longer pending
    ]);
    stage.assert_idle();
}

/// PITR-2: what a stranger's packet makes us ask is marked, and names no EID of ours; what our own site asks is not.
#[test]
fn a_pitr_marks_what_others_make_it_ask() {
    let mut stage = Stage::new(Settings { pitr: true, ..settings() });
    let missed_by = |source: [u8; 4]| {
        let Input::Miss(miss) = miss("9.9.9.9") else { unreachable!("it makes misses") };
        Input::Miss(Miss { source: source.into(), ..miss })
    };
    let asked = |todo: Vec<Output>| match &todo[..] {
        [Output::Request { message, .. }] => (message.pitr, message.source_eid.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(stage.step(0, missed_by([8, 8, 8, 8]))), (true, false));
    let mut stage = Stage::new(Settings { pitr: true, ..settings() });
    assert_eq!(asked(stage.step(0, missed_by([1, 1, 1, 1]))), (false, true));
    assert_eq!(asked(stage.step(0, Input::Refresh(eid("9.0.0.0/8")))), (true, false));
    let mut stage = Stage::new(settings());
    assert_eq!(asked(stage.step(0, missed_by([8, 8, 8, 8]))), (false, true));
}

/// ITR-23.
#[test]
fn a_late_answer_to_an_earlier_try_counts_while_pending_and_each_nonce_once() {
    let mut stage = Stage::new(settings());
    stage.play([
        (0, miss("2.2.2.2"), vec![request("2.2.2.2", 1)]),
        (1_000, Input::Wake, vec![request("2.2.2.2", 2)]),
        // The content is refused, and the nonce is spent.
        (1_001, reply(2, vec![mapping("3.0.0.0/8")]), vec![Discard(ResolverFault::NotCovering)]),
        (1_002, reply(2, vec![mapping("2.2.0.0/16")]), vec![Discard(ResolverFault::NonceUnknown)]),
        (1_100, reply(1, vec![mapping("2.2.0.0/16")]), vec![Install(vec![mapping("2.2.0.0/16")])]),
    ]);
    stage.assert_idle();
}

/// ITR-42, ITR-43, ITR-47.
#[test]
fn ten_tries_ever_further_apart_then_a_short_drop_then_one_at_a_time() {
    let mut stage = Stage::new(settings());
    stage.step(0, miss("2.2.2.2"));
    let mut sent = vec![0];
    let mut given_up = Vec::new();
    // A host sends without end; while the map-cache drops (30 s), nothing is missed.
    for second in 1..=600 {
        let dropped = given_up.last().is_some_and(|at| second < at + 30);
        let input = if dropped { Input::Wake } else { miss("2.2.2.2") };
        for output in stage.step(second * 1000, input) {
            match output {
                Output::Request { .. } => sent.push(second),
                GiveUp(prefix) if prefix == eid("2.2.2.2") => given_up.push(second),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(sent[..10], [0, 1, 3, 7, 15, 31, 61, 91, 121, 151]);
    assert_eq!(given_up[0], 154);
    assert!(sent[10..].windows(2).all(|pair| pair[1] - pair[0] >= 30), "a second burst: {sent:?}");
    assert!(sent.len() > 20, "it keeps trying: {sent:?}");
    // An answer ends it, and the next outage gets ten tries again.
    let asked = (700..800).find(|second| !stage.step(second * 1000, miss("2.2.2.2")).is_empty()).unwrap();
    let answer = reply(stage.nonce, vec![mapping("2.2.0.0/16")]);
    assert_eq!(stage.step(asked * 1000 + 20, answer), [Install(vec![mapping("2.2.0.0/16")])]);
    let outputs: Vec<Output> = (900..1_055).flat_map(|second| stage.step(second * 1000, miss("2.2.2.2"))).collect();
    assert_eq!(outputs.len(), 11);
    assert_eq!(outputs[10], GiveUp(eid("2.2.2.2")));
}

/// ITR-41, ITR-49.
#[test]
fn one_record_for_each_of_two_misses_and_one_reply_may_answer_both() {
    let mut stage = Stage::new(settings());
    stage.play([
        (0, miss("2.2.2.2"), vec![request("2.2.2.2", 1)]),
        (0, miss("2.2.3.3"), vec![request("2.2.3.3", 2)]),
        (0, miss("2.3.3.3"), vec![request("2.3.3.3", 3)]),
        (50, reply(1, vec![mapping("2.2.0.0/16")]), vec![Install(vec![mapping("2.2.0.0/16")])]),
        (60, reply(2, vec![mapping("2.2.0.0/16")]), vec![Discard(ResolverFault::NonceUnknown)]),
        (70, reply(3, vec![negative("2.3.0.0/16")]), vec![Install(vec![negative("2.3.0.0/16")])]),
    ]);
    stage.assert_idle();
}

/// ITR-31, ITR-42.
#[test]
fn no_second_request_for_an_eid_prefix_within_a_second() {
    let ask = |prefix| Mapping { action: Action::SendMapRequest, ..negative(prefix) };
    let mut stage = Stage::new(settings());
    stage.play([
        (0, miss("2.2.2.2"), vec![request("2.2.2.2", 1)]),
        (20, reply(1, vec![ask("2.2.0.0/16")]), vec![Install(vec![ask("2.2.0.0/16")])]),
        // Each packet asks again, from several hosts: one request a second for the prefix, not lost, only later.
        (30, miss("2.2.2.2"), vec![]),
        (40, miss("2.2.9.9"), vec![]),
        (999, Input::Wake, vec![]),
        (1_000, Input::Wake, vec![request("2.2.2.2", 2)]),
        (1_020, reply(2, vec![ask("2.2.0.0/16")]), vec![Install(vec![ask("2.2.0.0/16")])]),
        (1_021, miss("2.2.9.9"), vec![]),
        (2_000, Input::Wake, vec![request("2.2.9.9", 3)]),
        (2_010, miss("2.2.7.7"), vec![]),
        // 2.2.7.7's first try falls away, since 2.2.9.9 was asked for again in that second.
        (3_000, Input::Wake, vec![request("2.2.7.7", 4)]),
        (3_020, reply(4, vec![mapping("2.2.0.0/16")]), vec![Install(vec![mapping("2.2.0.0/16")])]),
    ]);
    stage.assert_idle();
}

/// SMR-3: what an SMR invokes carries the s bit and is for the mapping system, even if a refresh was under way; who sent the
/// SMR has no part in it.
#[test]
fn an_smr_has_the_mapping_system_asked() {
    let invoked = |asked: &str, nonce: u64| match refresh(asked, nonce) {
        Output::Request { target, instance, message, .. } => {
            let message = MapRequest { smr_invoked: true, ..message };
            Output::Request { target, instance, refresh: false, message, security: None }
        }
        _ => unreachable!("refresh makes requests"),
    };
    let mut stage = Stage::new(settings());
    stage.play([
        (0, Input::Solicited(eid("2.2.0.0/16")), vec![invoked("2.2.0.0/16", 1)]),
        (10, Input::Solicited(eid("2.2.0.0/16")), vec![]),
        (20, reply(1, vec![mapping("2.2.0.0/16")]), vec![Install(vec![mapping("2.2.0.0/16")])]),
        (5_000, Input::Refresh(eid("3.3.0.0/16")), vec![refresh("3.3.0.0/16", 2)]),
        (6_000, Input::Wake, vec![refresh("3.3.0.0/16", 3)]),
        // What is on its way may be older than the change: asked anew as soon as the second is over.
        (6_100, Input::Solicited(eid("3.3.0.0/16")), vec![]),
        (7_000, Input::Wake, vec![invoked("3.3.0.0/16", 4)]),
        (7_010, Input::Solicited(eid("1.1.0.0/16")), vec![Discard(ResolverFault::Local)]),
        (7_020, reply(4, vec![mapping("3.3.0.0/16")]), vec![Install(vec![mapping("3.3.0.0/16")])]),
    ]);
    stage.assert_idle();
}

/// RCH-6: what a probe reply says of the prefix asked about, and of what lies beneath it, may refresh the cache; what it says
/// beyond is nothing that a locator can say.
#[test]
fn a_probe_reply_refreshes_its_prefix_and_no_more() {
    let resolver = Resolver::new(settings());
    let heavier = |prefix: &str| Mapping {
        locators: vec![Locator { weight: 7, probed: true, ..Locator::unicast([240, 0, 254, 20].into(), 1, 100) }],
        ..mapping(prefix)
    };
    let clean = |prefix: &str| {
        let mut record = heavier(prefix);
        record.locators[0].probed = false; // the p bit is no part of the mapping
        record
    };
    let asked = eid("2.2.0.0/16");
    for (records, expected) in [
        (vec![heavier("2.2.0.0/16")], Ok(vec![clean("2.2.0.0/16")])),
        (vec![heavier("2.2.0.0/16"), heavier("2.2.2.0/24")], Ok(vec![clean("2.2.0.0/16"), clean("2.2.2.0/24")])),
        (vec![heavier("2.0.0.0/8")], Err(ResolverFault::Unrelated)),
        (vec![heavier("3.3.0.0/16")], Err(ResolverFault::NotCovering)),
        (vec![heavier("2.2.0.0/16"), heavier("1.1.1.0/24")], Err(ResolverFault::Unrelated)),
        (vec![], Err(ResolverFault::NotCovering)),
    ] {
        assert_eq!(resolver.confirmed(&asked, records), expected);
    }
}

/// ITR-22: without a Map-Resolver a locator is asked, by a probe: its authoritative answer counts for a refresh alone.
#[test]
fn a_refresh_may_be_answered_by_a_probe_reply() {
    let probed = |nonce: u64, authoritative: bool| {
        let records = vec![Mapping { authoritative, ..mapping("2.2.0.0/16") }];
        Input::Reply(MapReply { nonce, probe: true, echo_nonce: false, records, security: None })
    };
    let mut stage = Stage::new(settings());
    stage.play([
        (0, Input::Refresh(eid("2.2.0.0/16")), vec![refresh("2.2.0.0/16", 1)]),
        (10, probed(1, false), vec![Discard(ResolverFault::ProbeReply)]),
        (20, probed(1, true), vec![Install(vec![mapping("2.2.0.0/16")])]),
        (20, probed(1, true), vec![Discard(ResolverFault::NonceUnknown)]),
        (5_000, miss("2.2.2.2"), vec![request("2.2.2.2", 2)]),
        (5_010, probed(2, true), vec![Discard(ResolverFault::ProbeReply)]),
        (5_020, reply(2, vec![mapping("2.2.0.0/16")]), vec![Install(vec![mapping("2.2.0.0/16")])]),
    ]);
    stage.assert_idle();
}

/// ITR-21: the cached prefix, and no Source-EID.
#[test]
fn a_refresh_asks_for_the_cached_prefix_without_a_source() {
    let mut stage = Stage::new(settings());
    stage.play([
        (0, Input::Refresh(eid("2.2.0.0/16")), vec![refresh("2.2.0.0/16", 1)]),
        (0, Input::Refresh(eid("2.2.0.0/16")), vec![]),
        // A more-specific alone does not answer for the whole.
        (10, reply(1, vec![mapping("2.2.2.0/24")]), vec![Discard(ResolverFault::NotCovering)]),
        (1_000, Input::Wake, vec![refresh("2.2.0.0/16", 2)]),
        (1_010, reply(2, vec![mapping("2.2.0.0/16")]), vec![Install(vec![mapping("2.2.0.0/16")])]),
        // Refreshes of prefixes beneath do not wait for one another.
        (1_020, Input::Refresh(eid("2.2.2.0/24")), vec![refresh("2.2.2.0/24", 3)]),
        (1_020, Input::Refresh(eid("2.2.3.0/24")), vec![refresh("2.2.3.0/24", 4)]),
    ]);
    // Nobody answers: the entries run out by themselves, no drop is put in.
    let outputs: Vec<Output> = (2..200).flat_map(|second| stage.step(second * 1000, Input::Wake)).collect();
    assert!(outputs.iter().all(|output| matches!(output, Output::Request { refresh: true, .. })));
    assert_eq!(outputs.len(), 18);
    stage.assert_idle();
}

/// ITR-23, ITR-24, G-8.
#[test]
fn replies_that_must_not_be_believed() {
    let probe = |nonce| match reply(nonce, vec![mapping("2.2.0.0/16")]) {
        Input::Reply(reply) => Input::Reply(MapReply { probe: true, ..reply }),
        other => other,
    };
    let other_instance = Mapping {
        eid: EidPrefix { instance: InstanceId::new(5).unwrap(), ..eid("2.2.0.0/16") },
        ..mapping("2.2.0.0/16")
    };
    let good = || mapping("2.2.0.0/16");
    let cases: [(Input, ResolverFault); 9] = [
        (probe(1), ResolverFault::ProbeReply),
        (reply(0x1234, vec![good()]), ResolverFault::NonceUnknown),
        (reply(1, vec![]), ResolverFault::NotCovering),
        (reply(1, vec![mapping("2.3.0.0/16")]), ResolverFault::NotCovering),
        (reply(1, vec![other_instance]), ResolverFault::NotCovering),
        (reply(1, vec![good(), mapping("9.0.0.0/8")]), ResolverFault::Unrelated),
        (reply(1, vec![mapping("0.0.0.0/0")]), ResolverFault::TooShort),
        (reply(1, vec![mapping("0.0.0.0/5")]), ResolverFault::TooShort),
        (reply(1, vec![good(), good(), good(), good()]), ResolverFault::TooManyRecords),
    ];
    for (input, fault) in cases {
        let mut stage = Stage::new(settings());
        stage.step(0, miss("2.2.2.2"));
        assert_eq!(stage.step(1, input.clone()), [Discard(fault)], "{input:?}");
        assert_eq!(stage.resolver.pending().count(), 1, "still waiting for an answer");
    }
    // Our own prefix, hidden beneath one that covers what was asked for.
    let mut stage = Stage::new(settings());
    stage.step(0, miss("1.2.2.2"));
    let spoofed = reply(1, vec![mapping("1.0.0.0/8"), mapping("1.1.1.0/24")]);
    assert_eq!(stage.step(1, spoofed), [Discard(ResolverFault::OwnPrefix)]);
}

/// ITR-24.
#[test]
fn a_wide_hole_is_believed_only_around_what_was_asked_for() {
    let mut stage = Stage::new(settings());
    stage.play([
        (0, miss("9.9.9.9"), vec![request("9.9.9.9", 1)]),
        (1, reply(1, vec![negative("0.0.0.0/0")]), vec![Install(vec![negative("9.0.0.0/8")])]),
        (2, miss("9.9.9.9"), vec![]), // within the second
    ]);
    let mut open = Stage::new(Settings { shortest_v4: 0, ..settings() });
    open.play([
        (0, miss("9.9.9.9"), vec![request("9.9.9.9", 1)]),
        (1, reply(1, vec![mapping("0.0.0.0/0")]), vec![Install(vec![mapping("0.0.0.0/0")])]),
    ]);
}

/// LOC-10, G-12: of an AFI-List the first address is installed whose family we have an RLOC of and that packets may go to.
#[test]
fn of_an_afi_list_the_address_of_a_family_of_ours_comes_out() {
    let first: IpAddr = "2001:db8:f::20".parse().unwrap();
    let last = Locator::unicast([240, 0, 254, 20].into(), 3, 70);
    // Of our families, and good for nothing.
    let useless = ["127.0.0.1", "0.0.0.0", "fe80::1"].map(|text| text.parse().unwrap());
    let others = [&useless[..], &[first]].concat().into_iter().map(|address| (address, Hop::alternative()));
    let list = last.over(&others.collect::<Vec<_>>(), Hop::alternative());
    let record = Mapping { locators: list, ..mapping("2.2.0.0/16") };
    for (own, expected) in [(&["240.0.254.10"][..], last.address), (&["240.0.254.10", "2001:db8:f::10"], first)] {
        let itr_rlocs = own.iter().map(|text| text.parse().unwrap()).collect();
        let mut stage = Stage::new(Settings { itr_rlocs, ..settings() });
        stage.step(0, miss("2.2.2.2"));
        let one = Mapping { locators: vec![Locator { address: expected, ..last }], ..record.clone() };
        assert_eq!(stage.step(1, reply(1, vec![record.clone()])), [Install(vec![one])], "{own:?}");
    }
}

/// G-12, LOC-7.
#[test]
fn records_come_out_sorted_and_addresses_that_cannot_be_sent_to_unreachable() {
    let locator = |text: &str| Locator::unicast(text.parse().unwrap(), 1, 1);
    let texts = ["2001:db8::1", "255.255.255.255", "240.0.254.20", "ff02::1", "224.0.0.5"];
    let record = Mapping { locators: texts.map(locator).to_vec(), ..mapping("2.2.0.0/16") };
    let mut stage = Stage::new(settings());
    stage.step(0, miss("2.2.2.2"));
    let todo = stage.step(1, reply(1, vec![record]));
    let [Install(records)] = &todo[..] else { panic!("{todo:?}") };
    let shown: Vec<_> = records[0].locators.iter().map(|l| (l.address.to_string(), l.reachable)).collect();
    let expected = [
        ("224.0.0.5", false),
        ("240.0.254.20", true),
        ("255.255.255.255", false),
        ("2001:db8::1", true),
        ("ff02::1", false),
    ];
    assert_eq!(shown, expected.map(|(text, reachable)| (text.to_owned(), reachable)));
}

#[test]
fn a_record_with_ttl_zero_ends_the_wait_and_the_next_packet_asks_within_the_rate() {
    let gone = || Mapping { ttl: Ttl::Remove, ..mapping("2.2.0.0/16") };
    let mut stage = Stage::new(settings());
    stage.play([
        (0, miss("2.2.2.2"), vec![request("2.2.2.2", 1)]),
        (10, reply(1, vec![gone()]), vec![Install(vec![gone()])]),
        (20, miss("2.2.2.2"), vec![]),
        (1_000, Input::Wake, vec![request("2.2.2.2", 2)]),
    ]);
}

/// ITR-34: as many at a time as are allowed
#[test]
fn misses_that_are_not_asked_for() {
    let neighbour = match miss("2.2.2.2") {
        Input::Miss(miss) => Input::Miss(Miss { wanted: Wanted::Neighbour, ..miss }),
        other => other,
    };
    let mut stage = Stage::new(settings());
    stage.play([
        (0, miss("1.1.9.9"), vec![Discard(ResolverFault::Local)]),
        (0, Input::Refresh(eid("1.1.9.0/24")), vec![Discard(ResolverFault::Local)]),
        (0, neighbour, vec![Discard(ResolverFault::NotAMapping)]),
        (0, miss("2.0.0.1"), vec![request("2.0.0.1", 1)]),
        (0, miss("2.0.0.2"), vec![request("2.0.0.2", 2)]),
        (0, miss("2.0.0.3"), vec![request("2.0.0.3", 3)]),
        (0, miss("2.0.0.4"), vec![request("2.0.0.4", 4)]),
        (0, miss("2.0.0.5"), vec![Discard(ResolverFault::PendingFull)]),
        (0, miss("2.0.0.4"), vec![]), // needs no new place
        (1, reply(1, vec![mapping("2.0.0.1/32")]), vec![Install(vec![mapping("2.0.0.1/32")])]),
        (2, miss("2.0.0.5"), vec![request("2.0.0.5", 5)]),
    ]);
}

/// ITR-34: one source has so many misses in progress and no more, whatever the others have; an IPv6 host is its /64, as it may
/// have any number of addresses. What is answered or given up makes room.
#[test]
fn one_source_does_not_take_all_places() {
    let from = |destination: &str, source: &str| match miss(destination) {
        Input::Miss(miss) => Input::Miss(Miss { source: source.parse().unwrap(), ..miss }),
        other => other,
    };
    let full = || vec![Discard(ResolverFault::SourceFull)];
    let mut stage = Stage::new(Settings { pending_max: 100, source_max: 2, site_max: 100, ..settings() });
    let asked = |stage: &mut Stage, destination: &str, source: &str| {
        let todo = stage.step(0, from(destination, source));
        matches!(todo[..], [Output::Request { .. }])
    };
    assert!(asked(&mut stage, "2.0.0.1", "1.1.0.1") && asked(&mut stage, "2.0.0.2", "1.1.0.1"));
    assert_eq!(stage.step(0, from("2.0.0.3", "1.1.0.1")), full());
    assert_eq!(stage.step(0, from("2.0.0.2", "1.1.0.1")), [], "needs no new place");
    assert!(asked(&mut stage, "2.0.0.3", "1.1.0.2"), "another host");
    assert!(asked(&mut stage, "2001:db8:9::1", "2001:db8:1::1") && asked(&mut stage, "2001:db8:9::2", "2001:db8:1::2"));
    assert_eq!(stage.step(0, from("2001:db8:9::3", "2001:db8:1::ffff")), full());
    assert!(asked(&mut stage, "2001:db8:9::3", "2001:db8:1:1::1"), "another /64");
    assert_eq!(stage.step(1, Input::Refresh(eid("3.3.0.0/16"))).len(), 1, "what is refreshed has no source");
    stage.step(2, reply(1, vec![mapping("2.0.0.1/32")]));
    assert!(asked(&mut stage, "2.0.0.4", "1.1.0.1"));
    assert_eq!(stage.step(2, from("2.0.0.5", "1.1.0.1")), full());
    for second in 1..=300 {
        stage.step(second * 1000, Input::Wake);
    }
    assert_eq!(stage.step(300_000, from("2.0.0.6", "1.1.0.1")).len(), 1, "given up");
}

/// ITR-34: a host that makes up addresses takes the places of its site and no more: other instances are asked for. What is
/// answered makes room. Whatever all instances ask for, what is cached is refreshed.
#[test]
fn one_site_does_not_take_all_places() {
    let five = InstanceId::new(5).unwrap();
    let from = |destination: &str, source: &str, instance| match miss(destination) {
        Input::Miss(miss) => Input::Miss(Miss {
            source: source.parse().unwrap(),
            destination: Eid { instance, ..miss.destination },
            ..miss
        }),
        other => other,
    };
    let mut stage = Stage::new(Settings { pending_max: 6, source_max: 2, site_max: 3, ..settings() });
    let full = vec![Discard(ResolverFault::SiteFull)];
    for number in 1..=9 {
        let todo = stage.step(0, from(&format!("2.0.0.{number}"), &format!("1.1.0.{number}"), InstanceId::DEFAULT));
        assert_eq!(todo == full, number > 3, "{number}: {todo:?}");
    }
    assert_eq!(stage.step(0, from("2001:db8:9::1", "2001:db8:1::1", InstanceId::DEFAULT)), full, "whatever the family");
    assert_eq!(stage.step(0, from("2.0.0.4", "1.1.0.1", five)).len(), 1, "another instance");
    assert_eq!(stage.step(0, Input::Refresh(eid("3.3.0.0/16"))).len(), 1, "what is refreshed is no site's");
    stage.step(1, reply(1, vec![mapping("2.0.0.1/32")]));
    assert!(matches!(stage.step(1, from("2.0.0.4", "1.1.0.4", InstanceId::DEFAULT))[..], [Output::Request { .. }]));
    assert_eq!(stage.step(1, from("2.0.0.5", "1.1.0.5", InstanceId::DEFAULT)), full);

    let mut stage = Stage::new(Settings { pending_max: 8, source_max: 8, site_max: 6, ..settings() });
    for number in 1..=8 {
        let todo = stage.step(0, from(&format!("2.0.0.{number}"), "1.1.0.1", InstanceId::DEFAULT));
        assert_eq!(todo == full, number > 6, "{number}: {todo:?}");
    }
    assert_eq!(stage.step(0, from("2.0.0.1", "1.1.0.1", five)).len(), 1);
    let no_place = vec![Discard(ResolverFault::PendingFull)];
    assert_eq!(stage.step(0, from("2.0.0.2", "1.1.0.1", five)), no_place, "the last is for what is refreshed");
    assert!(matches!(stage.step(0, Input::Refresh(eid("3.3.0.0/16")))[..], [Output::Request { .. }]));
    assert_eq!(stage.step(0, Input::Refresh(eid("4.4.0.0/16"))), no_place);
}

#[test]
fn instances_are_asked_for_apart() {
    let five = InstanceId::new(5).unwrap();
    let mut stage = Stage::new(settings());
    let own_address_elsewhere = Miss {
        wanted: Wanted::Mapping,
        destination: Eid { instance: five, address: [1, 1, 1, 9].into() },
        source: [7, 7, 7, 7].into(),
    };
    let todo = stage.step(0, Input::Miss(own_address_elsewhere));
    let [Output::Request { instance, message, .. }] = &todo[..] else { panic!("{todo:?}") };
    assert_eq!((*instance, message.records[0].eid.instance, message.source_eid.unwrap().instance), (five, five, five));
}

#[test]
fn nonces_that_repeat_skip_a_try() {
    let mut resolver = Resolver::new(settings());
    let start = Instant::now();
    let mut todo = Vec::new();
    for (ms, input) in [(0, miss("2.2.2.2")), (0, miss("3.3.3.3"))] {
        resolver.step(start + Duration::from_millis(ms), input, &mut || 42, &mut todo);
    }
    assert_eq!(todo, [request("2.2.2.2", 42), Discard(ResolverFault::NonceRepeated)]);
    todo.clear();
    let mut nonce = 100;
    let mut nonces = || {
        nonce += 1;
        nonce
    };
    resolver.step(start + Duration::from_secs(1), Input::Wake, &mut nonces, &mut todo);
    assert_eq!(todo, [request("2.2.2.2", 101), request("3.3.3.3", 102)]);
}

fn any_prefix() -> impl Strategy<Value = EidPrefix> {
    (0_u32..2, any::<bool>(), any::<u8>(), 0_u8..=32).prop_map(|(instance, v4, low, length)| {
        let address: IpAddr =
            if v4 { [2, 2, low, low].into() } else { [0x2001, 0xdb8, 2, 0, 0, 0, 0, low.into()].into() };
        let prefix = Prefix::new(address, if v4 { length } else { length * 4 }).unwrap();
        EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix }
    })
}

fn any_mapping() -> impl Strategy<Value = Mapping> {
    (any_prefix(), any::<u32>(), 0_u8..8, prop::collection::vec(any::<[u8; 4]>(), 0..3)).prop_map(
        |(eid, ttl, action, locators)| Mapping {
            locators: locators.into_iter().map(|address| Locator::unicast(address.into(), 1, 1)).collect(),
            ..Mapping::negative(eid, Ttl::from_wire(ttl), Action::from_bits(action))
        },
    )
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        any_prefix().prop_map(|eid| {
            let destination = Eid { instance: eid.instance, address: eid.prefix.address() };
            Input::Miss(Miss { wanted: Wanted::Mapping, destination, source: [1, 1, 1, 1].into() })
        }),
        any_prefix().prop_map(Input::Refresh),
        // Nonces that are or were outstanding, mostly.
        (0_u64..64, any::<bool>(), prop::collection::vec(any_mapping(), 0..5)).prop_map(|(nonce, probe, records)| {
            Input::Reply(MapReply { nonce, probe, echo_nonce: false, records, security: None })
        }),
        Just(Input::Wake),
    ]
}

proptest! {
    /// ITR-41, ITR-42.
    #[test]
    fn whatever_comes_bounds_hold_and_the_rate_is_kept(
        script in prop::collection::vec((0_u64..5_000, any_input()), 0..200),
    ) {
        let mut stage = Stage::new(settings());
        let mut now = 0;
        let mut last = BTreeMap::new();
        for (pause, input) in script {
            now += pause;
            let asked = matches!(input, Input::Miss(_) | Input::Refresh(_));
            for output in stage.step(now, input) {
                match output {
                    Output::Request { message, .. } => {
                        prop_assert_eq!(message.records.len(), 1);
                        let before = last.insert(message.records[0].eid, now);
                        prop_assert!(before.is_none_or(|before| now - before >= 1000), "two within a second");
                    }
                    Install(records) => {
                        prop_assert!(!asked && records.len() <= 3);
                        for record in records {
                            prop_assert!(stage.resolver.pending.within(&record.eid).next().is_none(), "still pending");
                        }
                    }
                    GiveUp(prefix) => prop_assert!(prefix.prefix.is_host()),
                    Discard(_) => {}
                    Output::Insecure(fault) => prop_assert!(false, "{fault:?} without LISP-SEC"),
                    Output::Proven => prop_assert!(false, "proven without LISP-SEC"),
                }
            }
            let resolver = &stage.resolver;
            prop_assert!(resolver.pending.len() <= 4 && resolver.deadlines.len() == resolver.pending.len());
            prop_assert!(resolver.outstanding.len() <= 4 * TRIES_MAX as usize);
            let nonces: usize = resolver.pending.iter().map(|(_, pending)| pending.nonces.len()).sum();
            prop_assert_eq!(resolver.outstanding.len(), nonces, "a nonce without its request, or the reverse");
            prop_assert!(resolver.named.values.len() <= 4 && resolver.exhausted.values.len() <= 4);
            prop_assert!(stage.due().is_none_or(|due| due > u128::from(now)), "something was due and was not done");
        }
    }
}
