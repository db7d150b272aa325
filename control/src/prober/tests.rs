//! Stories of locators that answer and stop answering, on a clock of their own.

use std::collections::BTreeMap;

use altitude_dataplane::mapping::{Action, InstanceId, Mapping, Ttl};

use super::*;

const BOTH: Families = Families { v4: true, v6: true };

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn locators(given: &[(&str, u8)]) -> Vec<Locator> {
    given.iter().map(|(address, priority)| Locator::unicast(ip(address), *priority, 50)).collect()
}

/// What a probe reply of the site says; the p bit at `probed`.
fn reply(nonce: u64, prefix: &str, set: &[&str], probed: &[&str]) -> MapReply {
    let locator = |address: &&str| Locator {
        local: true,
        probed: probed.contains(address),
        ..Locator::unicast(ip(address), 1, 50)
    };
    let record = Mapping {
        locators: set.iter().map(locator).collect(),
        authoritative: true,
        ..Mapping::negative(eid(prefix), Ttl::Minutes(1440), Action::NoAction)
    };
    MapReply { nonce, probe: true, echo_nonce: false, records: vec![record], security: None }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sent {
    ms: u64,
    locator: IpAddr,
    eid: EidPrefix,
    nonce: u64,
}

/// A prober, its time, and locators that answer or not.
struct World {
    prober: Prober,
    start: Instant,
    ms: u64,
    random: u64,
    /// How long an answer takes, ms; those not here do not answer.
    answers: BTreeMap<IpAddr, u64>,
    sent: Vec<Sent>,
    /// How many of them were looked at for an answer, and answers on their way.
    seen: usize,
    coming: Vec<(u64, Sent)>,
    changes: Vec<(u64, IpAddr, State)>,
    faults: Vec<ProbeFault>,
    confirmed: Vec<(EidPrefix, IpAddr)>,
}

impl World {
    fn new() -> Self {
        Self::with(Settings::new(BOTH))
    }

    fn with(settings: Settings) -> Self {
        Self {
            prober: Prober::new(settings),
            start: Instant::now(),
            ms: 0,
            random: 1,
            answers: BTreeMap::new(),
            sent: Vec::new(),
            seen: 0,
            coming: Vec::new(),
            changes: Vec::new(),
            faults: Vec::new(),
            confirmed: Vec::new(),
        }
    }

    fn answering(mut self, addresses: &[&str]) -> Self {
        self.answers = addresses.iter().map(|address| (ip(address), 20)).collect();
        self
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    fn step(&mut self, input: Input<'_>) {
        let (now, random) = (self.now(), &mut self.random);
        let mut todo = Vec::new();
        // SplitMix64: the same in every run, and spread well enough for jitter.
        let mut next = || {
            *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (*random ^ (*random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 31)
        };
        self.prober.step(now, input, &mut next, &mut todo);
        for output in todo {
            match output {
                Output::Probe { locator, eid, nonce } => self.sent.push(Sent { ms: self.ms, locator, eid, nonce }),
                Output::Changed(locator, state) => self.changes.push((self.ms, locator, state)),
                Output::Confirmed { eid, locator } => self.confirmed.push((eid, locator)),
                Output::Discard(fault) => self.faults.push(fault),
            }
        }
    }

    fn used(&mut self, prefix: &str, set: &[(&str, u8)]) {
        let until = self.now() + Duration::from_secs(60);
        self.step(Input::Used { eid: eid(prefix), locators: &locators(set), until });
    }

    /// Lets time pass to `ms`; the entry is used all the while, and locators that answer do.
    fn run(&mut self, ms: u64, uses: &[(&str, &[(&str, u8)])]) {
        while self.ms < ms {
            if self.ms.is_multiple_of(10_000) {
                uses.iter().for_each(|(prefix, set)| self.used(prefix, set));
            }
            for sent in &self.sent[self.seen..] {
                self.coming.extend(self.answers.get(&sent.locator).map(|after| (sent.ms + after, *sent)));
            }
            self.seen = self.sent.len();
            let (ready, later) = std::mem::take(&mut self.coming).into_iter().partition(|(at, _)| *at <= self.ms);
            self.coming = later;
            let ready: Vec<(u64, Sent)> = ready;
            for (_, sent) in ready {
                let address = sent.locator.to_string();
                let prefix = sent.eid.prefix.to_string();
                self.step(Input::Reply(&reply(sent.nonce, &prefix, &[&address], &[&address])));
            }
            self.step(Input::Wake);
            self.ms += 10;
        }
    }

    fn state(&self, address: &str) -> State {
        self.prober.state(ip(address))
    }

    fn times_of(&self, address: &str) -> Vec<u64> {
        self.sent.iter().filter(|sent| sent.locator == ip(address)).map(|sent| sent.ms).collect()
    }
}

const A: &str = "240.1.0.20";
const B: &str = "240.2.0.20";

/// RCH-8, RCH-1: a thousand entries with one RLOC, used all the time.
#[test]
fn one_probe_an_interval_serves_all_entries_of_a_locator() {
    let mut world = World::new().answering(&[A]);
    for round in 0..30 {
        for third in 0..250 {
            for second in 0..4 {
                world.used(&format!("10.{second}.{third}.0/24"), &[(A, 1)]);
            }
        }
        world.run((round + 1) * 10_000, &[]);
    }
    // 300 s, each interval between 24 and 36 s.
    assert!((9..=13).contains(&world.sent.len()), "{:?}", world.sent);
    assert_eq!((world.state(A), world.changes.len()), (State::Up, 1));
    let asked: BTreeSet<EidPrefix> = world.sent.iter().map(|sent| sent.eid).collect();
    assert!(asked.iter().all(|eid| eid.prefix.length() == 24), "asks about cached prefixes: {asked:?}");
    assert_eq!(world.confirmed.len(), world.sent.len());
}

/// RCH-8: entries that are not used any more; what was never used has no probe at all.
#[test]
fn what_nobody_uses_is_not_probed() {
    let mut world = World::new().answering(&[A]);
    world.run(120_000, &[]);
    assert_eq!(world.sent, []);
    world.used("2.2.0.0/16", &[(A, 1)]);
    world.run(180_000, &[]);
    let probes = world.sent.len();
    assert!((2..=3).contains(&probes), "{:?}", world.sent);
    world.run(600_000, &[]);
    assert_eq!((world.sent.len(), world.prober.is_empty(), world.prober.due()), (probes, true, None));
    assert_eq!(world.changes.last(), Some(&(world.changes.last().unwrap().0, ip(A), State::Unknown)), "and forgotten");
}

/// RCH-8: of five locators those at the lowest working priority, at better ones, and at the next.
#[test]
fn probed_is_where_flows_go_would_rather_go_and_would_go_next() {
    let set: &[(&str, u8)] = &[(A, 1), ("240.1.0.21", 1), (B, 2), ("240.3.0.20", 3), ("240.4.0.20", 255)];
    let all = [A, "240.1.0.21", B, "240.3.0.20", "240.4.0.20"];
    let mut world = World::new().answering(&all);
    world.run(20_000, &[("2.2.0.0/16", set)]);
    let probed: BTreeSet<IpAddr> = world.sent.iter().map(|sent| sent.locator).collect();
    assert_eq!(probed, [A, "240.1.0.21", B].map(ip).into());
    // Both best ones go: then the third priority is the next, and the best ones are still asked.
    world.answers = [(ip(B), 20)].into();
    world.run(50_000, &[("2.2.0.0/16", set)]);
    assert_eq!((world.state(A), world.state("240.1.0.21"), world.state(B)), (State::Down, State::Down, State::Up));
    (world.sent, world.seen) = (Vec::new(), 0);
    world.run(80_000, &[("2.2.0.0/16", set)]);
    let probed: BTreeSet<IpAddr> = world.sent.iter().map(|sent| sent.locator).collect();
    assert_eq!(probed, [A, "240.1.0.21", B, "240.3.0.20"].map(ip).into(), "priority 255 never");
}

/// ITR-33: nothing of the set may be used; probes go on, so that it is known when something may.
#[test]
fn a_set_that_offers_nothing_is_probed_all_the_same() {
    let none = |locator: Locator| Locator { reachable: false, ..locator };
    for set in [locators(&[(A, 255), (B, 255)]), locators(&[(A, 1), (B, 1)]).into_iter().map(none).collect()] {
        let mut world = World::new();
        let until = world.now() + Duration::from_secs(60);
        world.step(Input::Used { eid: eid("2.2.0.0/16"), locators: &set, until });
        world.run(10_000, &[]);
        assert!(!world.times_of(A).is_empty() && !world.times_of(B).is_empty(), "{set:?}");
    }
}

/// RCH-7: 3 retries after a probe without an answer, then down; one answer, and it is up.
#[test]
fn down_after_four_unanswered_and_up_after_one_answer() {
    let set: &[(&str, u8)] = &[(A, 1), (B, 1)];
    let mut world = World::new().answering(&[A, B]);
    world.run(61_000, &[("2.2.0.0/16", set)]);
    assert_eq!((world.state(A), world.state(B), world.changes.len()), (State::Up, State::Up, 2));
    let before = world.prober.report(ip(A)).unwrap();
    assert!(before.rtt.unwrap().smoothed.abs_diff(Duration::from_millis(20)) <= Duration::from_millis(10));
    assert_eq!((before.lost, before.sent), (0, before.answered));
    world.answers.remove(&ip(A));
    let cut = world.ms;
    world.run(cut + 20_000, &[("2.2.0.0/16", set)]);
    let (at, locator, state) = world.changes[2];
    assert_eq!((locator, state, world.changes.len()), (ip(A), State::Down, 3));
    // The next probe in 3.6 s at most, then four of a second each; the other locator of the prefix may hold one up a little.
    assert!(at - cut <= 10_000, "down {} ms after the cut", at - cut);
    let unanswered: Vec<u64> = world.times_of(A).into_iter().filter(|ms| (cut..at).contains(ms)).collect();
    assert_eq!(unanswered.len(), 4, "{unanswered:?}");
    assert!(unanswered.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{unanswered:?}");
    let report = world.prober.report(ip(A)).unwrap();
    assert!(report.lost >= 4 && report.sent == report.answered + report.lost, "{report:?}");
    assert_eq!(world.state(B), State::Up, "the other one is another matter");
    world.answers.insert(ip(A), 20);
    let mended = world.ms;
    world.run(mended + 20_000, &[("2.2.0.0/16", set)]);
    let (at, locator, state) = world.changes[3];
    assert_eq!((locator, state, world.changes.len()), (ip(A), State::Up, 4));
    assert!(at - mended <= 5_000, "up {} ms after it was mended", at - mended);
}

/// RCH-9: packets go one way for ten minutes and nothing comes back but answers to probes, a third of them lost.
#[test]
fn nothing_is_concluded_from_what_does_not_come_back() {
    let mut world = World::new().answering(&[A]);
    for third in 0..60 {
        let answers = third % 3 != 0;
        world.answers = if answers { [(ip(A), 20)].into() } else { BTreeMap::new() };
        // 3.5 s of loss hit at most three tries in a row.
        let until = world.ms + if answers { 8_500 } else { 3_500 };
        world.used("2.2.0.0/16", &[(A, 1)]);
        world.run(until, &[]);
    }
    assert!(world.changes.iter().all(|(_, _, state)| *state == State::Up), "{:?}", world.changes);
}

/// RCH-2: a thousand intervals lie within a fifth of 30 s and fill that space.
#[test]
fn intervals_are_jittered() {
    let mut world = World::new();
    let mut intervals: Vec<u64> = Vec::new();
    for place in 0..1_000_u32 {
        let address = IpAddr::from((0x0a00_0001 + place).to_be_bytes());
        world.answers.insert(address, 10);
        let prefix = format!("20.{}.{}.0/24", place / 250, place % 250);
        world.used(&prefix, &[(&address.to_string(), 1)]);
    }
    world.run(59_000, &[]);
    for address in world.answers.keys() {
        let times = world.times_of(&address.to_string());
        intervals.extend(times.windows(2).map(|pair| pair[1] - pair[0]));
    }
    assert!(intervals.len() >= 1_000, "{}", intervals.len());
    assert!(intervals.iter().all(|ms| (24_000..=36_100).contains(ms)), "{:?}", intervals.iter().max());
    for tenth in 0..10 {
        let range = 24_000_u64 + tenth * 1_200..24_000 + (tenth + 1) * 1_200;
        let count = intervals.iter().filter(|ms| range.contains(ms)).count();
        assert!((50..=200).contains(&count), "{count} in {range:?}");
    }
}

/// RCH-2: eight locators of one prefix, none of which answers: one Map-Request a second for the prefix.
#[test]
fn no_two_probes_about_one_prefix_within_a_second() {
    let addresses: Vec<String> = (1..=8).map(|last| format!("240.1.0.{last}")).collect();
    let set: Vec<(&str, u8)> = addresses.iter().map(|address| (address.as_str(), 1)).collect();
    let mut world = World::new();
    world.run(60_000, &[("2.2.0.0/16", &set)]);
    assert!(world.sent.windows(2).all(|pair| pair[1].ms - pair[0].ms >= 1_000), "{:?}", world.sent);
    assert!(world.sent.len() >= 40 && world.faults.contains(&ProbeFault::Postponed));
    assert!(addresses.iter().all(|address| world.state(address) == State::Mute), "all had their turn");
}

#[test]
fn all_probes_together_have_a_rate_and_wait_for_it() {
    let all = Rate { burst: 10, every: Duration::from_millis(100) };
    let mut world = World::with(Settings { all, ..Settings::new(BOTH) });
    for place in 0..200_u32 {
        let address = IpAddr::from((0x0a00_0001 + place).to_be_bytes());
        world.answers.insert(address, 10);
        world.used(&format!("20.0.{place}.0/24"), &[(&address.to_string(), 1)]);
    }
    world.run(23_000, &[]);
    assert_eq!(world.sent.len(), 200, "each had its turn before the first had its second");
    for sent in &world.sent {
        let within = world.sent.iter().filter(|other| (sent.ms..sent.ms + 1_000).contains(&other.ms)).count();
        assert!(within <= 20, "{within} within a second");
    }
}

/// RCH-3: one record of two without the A bit, and the whole message is worth nothing; the probe may yet be answered.
#[test]
fn a_reply_that_is_not_authoritative_is_discarded() {
    let mut world = World::new();
    world.used("2.2.0.0/16", &[(A, 1)]);
    let nonce = world.sent[0].nonce;
    let good = reply(nonce, "2.2.0.0/16", &[A], &[A]);
    let mut bad = good.clone();
    bad.records.push(Mapping { authoritative: false, ..bad.records[0].clone() });
    for bad in [bad, MapReply { records: Vec::new(), ..good.clone() }] {
        world.step(Input::Reply(&bad));
        assert_eq!((world.faults.pop(), world.state(A)), (Some(ProbeFault::NotAuthoritative), State::Unknown));
    }
    world.step(Input::Reply(&good));
    assert_eq!(
        (world.faults.len(), world.state(A), &world.confirmed[..]),
        (0, State::Up, &[(eid("2.2.0.0/16"), ip(A))][..])
    );
}

/// RCH-4, RCH-5: the first p bit names who is credited; without one it is who was probed, if it belongs to the set.
#[test]
fn the_p_bit_names_the_locator() {
    let elsewhere = "240.9.0.1";
    for (set, marked, credited, fault) in [
        (&[A, B][..], &[A][..], Some(A), None),
        (&[A, B], &[B], Some(B), None),
        (&[A, B], &[A, B], Some(A), None), // several: the first
        (&[A, B], &[], Some(A), None),     // none: the one that was asked
        (&[B], &[], None, Some(ProbeFault::NotInSet)),
        (&[], &[], None, Some(ProbeFault::NotInSet)),
        (&[A, elsewhere], &[elsewhere], None, Some(ProbeFault::OtherLocator)),
    ] {
        let mut world = World::new();
        world.used("3.3.0.0/16", &[(B, 1)]);
        world.used("2.2.0.0/16", &[(A, 1)]);
        let probe = *world.sent.iter().find(|sent| sent.locator == ip(A)).unwrap();
        world.step(Input::Reply(&reply(probe.nonce, "2.2.0.0/16", set, marked)));
        let up = [A, B].into_iter().find(|address| world.state(address) == State::Up);
        assert_eq!((up, world.faults.last().copied()), (credited, fault), "{set:?} {marked:?}");
    }
}

/// LOC-10: of an AFI-List the address is credited that was asked, though all have the p bit.
#[test]
fn of_an_afi_list_the_address_that_was_asked_is_credited() {
    let mut world = World::new();
    world.used("2.2.0.0/16", &[(B, 1)]);
    let mut good = reply(world.sent[0].nonce, "2.2.0.0/16", &[B], &[B]);
    let last = good.records[0].locators[0];
    good.records[0].locators = last.over(&[(ip(A), Hop::alternative())], Hop::alternative());
    world.step(Input::Reply(&good));
    assert_eq!((world.state(B), world.faults.len()), (State::Up, 0));
    assert_eq!(world.confirmed, [(eid("2.2.0.0/16"), ip(B))], "whoever else goes by probes hears of the same");
}

#[test]
fn each_nonce_is_good_once_and_none_but_ours() {
    let mut world = World::new();
    world.used("2.2.0.0/16", &[(A, 1)]);
    let nonce = world.sent[0].nonce;
    for (nonce, fault) in [
        (nonce ^ 1, Some(ProbeFault::NonceUnknown)),
        (nonce, None),
        (nonce, Some(ProbeFault::NonceUnknown)), // replayed
    ] {
        world.faults.clear();
        world.step(Input::Reply(&reply(nonce, "2.2.0.0/16", &[A], &[A])));
        assert_eq!(world.faults.first().copied(), fault);
    }
}

/// RCH-7: an answer to the first try that comes after the second went out is an answer, and was not lost.
#[test]
fn a_late_answer_counts() {
    let mut world = World::new();
    world.answers.insert(ip(A), 2_500); // patience is 2 s before the first answer
    world.run(6_000, &[("2.2.0.0/16", &[(A, 1)])]);
    let report = world.prober.report(ip(A)).unwrap();
    assert_eq!((report.state, report.lost, report.answered), (State::Up, 0, 2), "{report:?}");
}

/// RCH-7: a locator that comes up and goes down within a minute must answer for a minute.
#[test]
fn flapping_is_held_down() {
    let set: &[(&str, u8)] = &[(A, 1), (B, 1)];
    let uses = [("2.2.0.0/16", set)];
    let mut world = World::new().answering(&[A, B]);
    world.run(10_000, &uses);
    for (answers, for_ms, state) in [
        (false, 15_000, State::Down),
        (true, 10_000, State::Up), // the first time one answer is enough
        (false, 15_000, State::Down),
        (true, 40_000, State::Held), // and now it is not
    ] {
        world.answers = if answers { [(ip(A), 20), (ip(B), 20)].into() } else { [(ip(B), 20)].into() };
        world.run(world.ms + for_ms, &uses);
        assert_eq!(world.state(A), state, "at {} ms", world.ms);
    }
    assert!(world.prober.report(ip(A)).unwrap().held);
    // One probe lost: from the beginning.
    world.answers.remove(&ip(A));
    world.run(world.ms + 5_000, &uses);
    world.answers.insert(ip(A), 20);
    let steady = world.ms;
    world.run(steady + 58_000, &uses);
    assert_eq!(world.state(A), State::Held);
    world.run(steady + 70_000, &uses);
    assert_eq!(world.state(A), State::Up);
    // Up for longer than it is held: the next time counts as the first.
    world.run(world.ms + 70_000, &uses);
    world.answers.remove(&ip(A));
    world.run(world.ms + 15_000, &uses);
    world.answers.insert(ip(A), 20);
    world.run(world.ms + 10_000, &uses);
    assert_eq!(world.state(A), State::Up);
}

/// RCH-11: a hint has the next probe go out at once, no more than one a second, and decides nothing.
#[test]
fn a_hint_is_a_probe_and_not_a_verdict() {
    let mut world = World::new().answering(&[A]);
    world.run(10_000, &[("2.2.0.0/16", &[(A, 1)])]);
    let before = world.sent.len();
    for _ in 0..500 {
        world.step(Input::Hint(ip(A)));
        world.run(world.ms + 10, &[]);
    }
    let probes = world.sent.len() - before;
    assert!((4..=6).contains(&probes), "{probes} probes in 5 s of hints");
    assert_eq!((world.state(A), world.changes.len()), (State::Up, 1));
    world.step(Input::Hint(ip(B)));
    assert!(world.times_of(B).is_empty(), "not probed here");
    // And the hint shortens how long it takes.
    world.run(40_000, &[("2.2.0.0/16", &[(A, 1)])]);
    world.answers.clear();
    let hinted = world.ms;
    world.step(Input::Hint(ip(A)));
    world.run(hinted + 5_000, &[]);
    assert_eq!(world.state(A), State::Down);
}

#[test]
fn one_that_never_answered_is_mute_and_not_down() {
    let mut world = World::new();
    world.run(30_000, &[("2.2.0.0/16", &[(A, 1)])]);
    assert_eq!((world.state(A), &world.changes[..]), (State::Mute, &[(world.changes[0].0, ip(A), State::Mute)][..]));
    assert_eq!(world.changes[0].0, 8_000, "four times two seconds");
    world.answers.insert(ip(A), 20);
    world.run(90_000, &[("2.2.0.0/16", &[(A, 1)])]);
    assert_eq!(world.state(A), State::Up);
}

#[test]
fn what_cannot_be_sent_to_is_not_probed_and_the_table_has_its_bound() {
    let families = Families { v4: true, v6: false };
    let mut world = World::with(Settings { locators_max: 3, ..Settings::new(families) });
    world.used("2.2.0.0/16", &[("224.0.0.1", 1), ("127.0.0.1", 1), ("2001:db8::1", 1)]);
    assert!(world.prober.is_empty());
    for last in 1..=5 {
        world.used(&format!("2.{last}.0.0/16"), &[(&format!("240.1.0.{last}"), 1)]);
    }
    world.run(300_000, &[]);
    let full = world.faults.iter().filter(|fault| **fault == ProbeFault::Full).count();
    assert_eq!((full, world.sent.iter().map(|sent| sent.locator).collect::<BTreeSet<_>>().len()), (2, 3));
    assert!(world.prober.outstanding.is_empty() && world.prober.deadlines.is_empty(), "nothing is left behind");
}

/// RCH-1, ITR-41: octet for octet vector Q03: P alone, no Source-EID, one ITR-RLOC, the cached prefix.
#[test]
fn a_probe_is_a_plain_map_request_about_the_cached_prefix() {
    let probe = request(0x1111_1111_2222_2222, Some(ip("203.0.113.1")), eid("198.51.100.0/24"));
    let expected = [
        &[0x12, 0, 0, 1, 0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22][..], // P, IRC 0, one record; nonce
        &[0, 0],                                                              // no Source-EID
        &[0, 1, 203, 0, 113, 1],
        &[0, 24, 0, 1, 198, 51, 100, 0],
    ];
    assert_eq!(probe.encode(), expected.concat());
}
