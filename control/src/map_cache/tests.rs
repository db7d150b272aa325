//! Stories with time.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use altitude_dataplane::mapping::{Eid, InstanceId, Locator, Prefix};
use proptest::prelude::*;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;

use self::{
    Event::{Batch, GiveUp, Install, Look, Put, Remove, Static, Used, Wake},
    Output::{Fault, Publish, Refresh, Release, Withdraw},
};

/// What a script tells: the machine's inputs, and packets with the look that finds them.
#[derive(Debug, Clone)]
enum Event {
    Install(Vec<Mapping>),
    GiveUp(EidPrefix),
    Static(Mapping),
    /// For so many seconds; 0 is for ever.
    Put(Mapping, u64),
    Remove(EidPrefix),
    Batch(Vec<Mapping>, Vec<EidPrefix>),
    /// Ten packets, and a look at all entries.
    Used(EidPrefix),
    Look,
    Wake,
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn host(text: &str) -> Eid {
    Eid { instance: InstanceId::DEFAULT, address: text.parse().unwrap() }
}

/// A mapping for `minutes`.
fn mapping(prefix: &str, minutes: u32) -> Mapping {
    let locators = vec![Locator::unicast([240, 0, 254, 20].into(), 1, 100)];
    Mapping { locators, ..Mapping::negative(eid(prefix), Ttl::from_wire(minutes), Action::NoAction) }
}

fn negative(prefix: &str, minutes: u32, action: Action) -> Mapping {
    Mapping::negative(eid(prefix), Ttl::from_wire(minutes), action)
}

/// All of [`mapping`]'s have one locator-set, the first.
fn publish(prefix: &str, minutes: u32) -> Output {
    Publish(mapping(prefix, minutes), Some(SetNumber::new(0)))
}

struct Stage {
    cache: MapCache,
    start: Instant,
    /// The workers' counters, as long as there is an entry.
    packets: RefCell<HashMap<EidPrefix, u64>>,
    /// Locator-sets released so far.
    released: Vec<SetNumber>,
    /// Entries that looks found in use.
    seen: Vec<EidPrefix>,
}

impl Stage {
    fn new(capacity: usize) -> Self {
        let start = Instant::now();
        let cache = MapCache::new(Settings { capacity }, start);
        Self { cache, start, packets: RefCell::default(), released: Vec::new(), seen: Vec::new() }
    }

    fn step(&mut self, seconds: u64, event: Event) -> Vec<Output> {
        let input = match event {
            Install(records) => Input::Install(records),
            GiveUp(eid) => Input::GiveUp(eid),
            Batch(puts, removes) => Input::Batch(puts.into_iter().map(|put| (put, None)).collect(), removes),
            Put(mapping, seconds) => Input::Put(mapping, (seconds > 0).then_some(Duration::from_secs(seconds))),
            Static(mapping) => Input::Static(mapping),
            Remove(eid) => Input::Remove(eid),
            Look => Input::Look,
            Wake => Input::Wake,
            Used(eid) => {
                if let Some(packets) = self.packets.borrow_mut().get_mut(&eid) {
                    *packets += 10;
                }
                Input::Look
            }
        };
        self.input(self.start + Duration::from_secs(seconds), input)
    }

    fn input(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let mut todo = Vec::new();
        let meter = |eid: &EidPrefix| self.packets.borrow().get(eid).copied().unwrap_or(0);
        self.cache.step(now, input, &meter, &mut todo);
        for output in &todo {
            match output {
                Publish(mapping, _) => _ = self.packets.get_mut().entry(mapping.eid).or_default(),
                Withdraw(eid) => _ = self.packets.get_mut().remove(eid),
                Release(set) => self.released.push(*set),
                Output::Used(eid) => self.seen.push(*eid),
                Refresh(_) | Fault(_) => {}
            }
        }
        todo.retain(|output| !matches!(output, Release(_) | Output::Used(_)));
        todo
    }

    /// Plays a script of (s, event, what must be done).
    fn play<const N: usize>(&mut self, script: [(u64, Event, Vec<Output>); N]) {
        for (index, (seconds, input, expected)) in script.into_iter().enumerate() {
            assert_eq!(self.step(seconds, input), expected, "line {index}, at {seconds} s");
        }
    }

    /// Seconds until the entry ends.
    fn expires(&self, prefix: &str) -> Option<u64> {
        let cached = self.cache.get(&eid(prefix)).unwrap();
        cached.expires.map(|expires| expires.duration_since(self.start).as_secs())
    }

    /// Each entry's deadline, since the start.
    fn deadlines(&self) -> impl Iterator<Item = Duration> {
        let numbers = 0..self.cache.store.entries.places();
        numbers.filter_map(|number| Some(TICK * self.cache.deadlines.deadline(number)? as u32))
    }

    /// The first of them.
    fn due(&self) -> Option<Duration> {
        let first = self.deadlines().min();
        let due = self.cache.due().map(|due| due.duration_since(self.start));
        assert!(due <= first && due.is_some() == first.is_some(), "woken too late: {due:?}, {first:?}");
        first
    }

    fn assert_consistent(&self) {
        let cache = &self.cache;
        assert!(cache.len() <= cache.settings.capacity);
        let (mut timed, mut ordered, mut given_up) = (0, [BTreeSet::new(), BTreeSet::new()], 0);
        let mut users = BTreeMap::<SetNumber, u32>::new();
        for (eid, &number) in cache.store.index.iter().collect::<Vec<_>>() {
            let entry = &cache.store.entries[number];
            assert_eq!(entry.eid, eid);
            let deadline = cache.deadlines.deadline(number);
            let expected = match (entry.origin, entry.life) {
                (Origin::Static, _) => None,
                (Origin::Reply, Life::Idle | Life::Used) => deadline.filter(|deadline| *deadline <= entry.expires),
                _ => Some(entry.expires),
            };
            assert_eq!((deadline, deadline.is_some()), (expected, entry.origin != Origin::Static));
            timed += usize::from(deadline.is_some());
            if entry.origin != Origin::Static {
                ordered[entry.warmth.segment() as usize].insert(number);
            }
            given_up += usize::from(entry.origin == Origin::GivenUp);
            if let Some(set) = entry.set {
                *users.entry(set).or_default() += 1;
            }
        }
        assert_eq!(self.deadlines().count(), timed);
        for (segment, ordered) in [Segment::Cold, Segment::Hot].into_iter().zip(ordered) {
            assert_eq!(cache.order.count(segment), ordered.len());
            assert_eq!(cache.order.iter(segment).collect::<BTreeSet<_>>(), ordered);
        }
        assert_eq!(cache.given_up.len(), given_up);
        assert_eq!(cache.store.sets.users().collect::<BTreeMap<_, _>>(), users);
    }
}

/// ITR-20.
#[test]
fn an_entry_lives_its_minutes_and_no_longer() {
    let mut stage = Stage::new(8);
    stage.play([
        // s   input                                  to do
        (0, Install(vec![mapping("2.2.0.0/16", 2)]), vec![publish("2.2.0.0/16", 2)]),
        (119, Wake, vec![]),
        (120, Wake, vec![Withdraw(eid("2.2.0.0/16"))]),
        (121, Wake, vec![]),
    ]);
    assert_eq!(stage.due(), None);
}

/// ITR-20.
#[test]
fn ttl_zero_takes_out_and_the_highest_value_means_a_day() {
    let mut stage = Stage::new(8);
    stage.play([
        (0, Install(vec![mapping("2.2.0.0/16", 1440)]), vec![publish("2.2.0.0/16", 1440)]),
        (5, Install(vec![mapping("2.2.2.0/24", 0)]), vec![]), // nothing of exactly this prefix
        (6, Install(vec![mapping("2.2.0.0/16", 0)]), vec![Withdraw(eid("2.2.0.0/16"))]),
        (7, Install(vec![mapping("2.2.0.0/16", u32::MAX)]), vec![publish("2.2.0.0/16", u32::MAX)]),
    ]);
    assert_eq!(stage.expires("2.2.0.0/16"), Some(7 + 24 * 60 * 60));
    stage.step(8, Install(vec![mapping("3.0.0.0/8", u32::MAX - 1)]));
    assert_eq!(stage.expires("3.0.0.0/8"), Some(8 + 60 * u64::from(u32::MAX - 1)), "8000 years do not overflow");
}

/// ITR-21.
#[test]
fn an_entry_in_use_is_asked_for_again_between_75_and_90_percent_of_its_life() {
    let mut stage = Stage::new(8);
    stage.step(0, Install(vec![mapping("2.2.0.0/16", 10)]));
    let at = stage.due().unwrap();
    assert!((450..=540).contains(&at.as_secs()), "{at:?}");
    let (before, after) = (at.as_secs(), at.as_secs() + 1);
    stage.play([
        (100, Used(eid("2.2.0.0/16")), vec![]),
        (before, Wake, vec![]),
        (after, Wake, vec![Refresh(eid("2.2.0.0/16"))]),
        (after + 1, Used(eid("2.2.0.0/16")), vec![]), // once in a life
        (after + 2, Install(vec![mapping("2.2.0.0/16", 10)]), vec![]), // nothing new to publish
    ]);
    assert_eq!(stage.expires("2.2.0.0/16"), Some(after + 602), "a new life");
    stage.play([
        // Not used since: not asked for, and gone at the end.
        (after + 601, Wake, vec![]),
        (after + 602, Wake, vec![Withdraw(eid("2.2.0.0/16"))]),
    ]);
}

/// ITR-21.
#[test]
fn an_entry_first_used_near_its_end_is_asked_for_at_once() {
    let mut stage = Stage::new(8);
    stage.play([
        (0, Install(vec![mapping("2.2.0.0/16", 10)]), vec![publish("2.2.0.0/16", 10)]),
        (595, Wake, vec![]),
        (596, Used(eid("2.2.0.0/16")), vec![Refresh(eid("2.2.0.0/16"))]),
        (597, Used(eid("2.2.0.0/16")), vec![]),
    ]);
}

/// ITR-21: jittered.
#[test]
fn refreshes_of_prefixes_learned_together_are_spread() {
    let mut stage = Stage::new(1024);
    let records = (0..=255).map(|third| mapping(&format!("2.2.{third}.0/24"), 1000)).collect();
    stage.step(0, Install(records));
    let mut in_tenth = [0; 10];
    for deadline in stage.deadlines() {
        let seconds = deadline.as_secs();
        assert!((45_000..=54_000).contains(&seconds), "{seconds}");
        in_tenth[((seconds - 45_000) / 900).min(9) as usize] += 1;
    }
    assert!(in_tenth.iter().all(|count| (10..=45).contains(count)), "of 256, by tenth of the span: {in_tenth:?}");
}

/// ITR-29.
#[test]
fn negative_entries_keep_their_action_and_ttl_and_are_refreshed_too() {
    for action in [Action::NoAction, Action::NativelyForward, Action::SendMapRequest, Action::Drop] {
        let mut stage = Stage::new(8);
        let record = negative("3.0.0.0/8", 15, action);
        stage.play([
            (0, Install(vec![record.clone()]), vec![Publish(record.clone(), None)]),
            (1, Used(eid("3.0.0.0/8")), vec![]),
            (899, Wake, vec![Refresh(eid("3.0.0.0/8"))]),
            (900, Wake, vec![Withdraw(eid("3.0.0.0/8"))]),
        ]);
    }
}

/// ITR-25.
#[test]
fn more_specifics_override_and_remove_nothing() {
    let mut stage = Stage::new(8);
    stage.play([
        (0, Install(vec![mapping("2.2.0.0/16", 10)]), vec![publish("2.2.0.0/16", 10)]),
        (60, Install(vec![mapping("2.2.2.0/24", 10)]), vec![publish("2.2.2.0/24", 10)]),
    ]);
    assert_eq!(stage.expires("2.2.0.0/16"), Some(600));
    assert_eq!(stage.cache.lookup(host("2.2.2.2")).unwrap().eid, eid("2.2.2.0/24"));
    assert_eq!(stage.cache.lookup(host("2.2.3.3")).unwrap().eid, eid("2.2.0.0/16"));
    assert_eq!(stage.cache.lookup(host("2.3.0.1")), None);
}

/// ITR-26.
#[test]
fn a_less_specific_that_comes_later_ends_with_its_more_specifics() {
    let mut stage = Stage::new(8);
    stage.play([
        (0, Install(vec![mapping("2.2.2.0/24", 10)]), vec![publish("2.2.2.0/24", 10)]),
        (0, Install(vec![mapping("2.2.3.0/24", 20)]), vec![publish("2.2.3.0/24", 20)]),
        (
            60,
            Install(vec![mapping("2.2.0.0/16", 60)]),
            vec![Refresh(eid("2.2.2.0/24")), Refresh(eid("2.2.3.0/24")), publish("2.2.0.0/16", 60)],
        ),
    ]);
    assert_eq!(stage.expires("2.2.0.0/16"), Some(600));
    // Static entries and ones in the same reply do not shorten it.
    let mut stage = Stage::new(8);
    stage.step(0, Static(mapping("2.2.2.0/24", 1)));
    stage.step(60, Install(vec![mapping("2.2.0.0/16", 60), mapping("2.2.3.0/24", 60)]));
    assert_eq!((stage.expires("2.2.0.0/16"), stage.expires("2.2.3.0/24")), (Some(3660), Some(3660)));
}

/// ITR-27.
#[test]
fn more_specifics_that_a_reply_no_longer_lists_are_asked_for_then_taken_out() {
    let mut stage = Stage::new(8);
    stage.play([
        (
            0,
            Install(vec![mapping("2.2.0.0/16", 60), mapping("2.2.2.0/24", 60), mapping("2.2.2.128/25", 60)]),
            // Longest first: no packet may meet what a more-specific overrides.
            vec![publish("2.2.2.128/25", 60), publish("2.2.2.0/24", 60), publish("2.2.0.0/16", 60)],
        ),
        // The site changed its mind about the /25; one round of questions, though two records cover it.
        (100, Install(vec![mapping("2.2.0.0/16", 60), mapping("2.2.2.0/24", 60)]), vec![Refresh(eid("2.2.2.128/25"))]),
        (101, Install(vec![mapping("2.2.2.0/24", 60)]), vec![Withdraw(eid("2.2.2.128/25"))]),
        // The /24 belongs to another site that still answers for it: in doubt, then confirmed.
        (200, Install(vec![mapping("2.2.0.0/16", 60)]), vec![Refresh(eid("2.2.2.0/24"))]),
        (201, Install(vec![mapping("2.2.2.0/24", 60)]), vec![]),
        (300, Install(vec![mapping("2.2.0.0/16", 60)]), vec![Refresh(eid("2.2.2.0/24"))]),
    ]);
    assert_eq!(stage.cache.len(), 2);
}

#[test]
fn questions_about_more_specifics_are_bounded() {
    let mut stage = Stage::new(1024);
    for third in 0..=255 {
        stage.step(0, Install(vec![mapping(&format!("2.2.{third}.0/24"), 60)]));
    }
    let todo = stage.step(1, Install(vec![mapping("2.2.0.0/16", 60)]));
    let asked = todo.iter().filter(|output| matches!(output, Refresh(_))).count();
    assert_eq!(asked, DOUBTS_MAX);
    assert!(todo.contains(&Fault(CacheFault::DoubtsCapped)));
    assert_eq!(stage.cache.len(), 257);
}

/// ITR-28.
#[test]
fn the_records_of_one_reply_share_the_shortest_ttl() {
    let mut stage = Stage::new(8);
    let gone = mapping("2.2.9.0/24", 0);
    stage.step(0, Install(vec![mapping("2.2.0.0/16", 60), mapping("2.2.2.0/24", 10), gone]));
    assert_eq!((stage.expires("2.2.0.0/16"), stage.expires("2.2.2.0/24")), (Some(600), Some(600)));
    assert_eq!(stage.cache.len(), 2);
}

/// ITR-47.
#[test]
fn what_nobody_answers_for_is_dropped_for_30_seconds() {
    let drop = negative("2.2.2.2/32", 1, Action::Drop);
    let mut stage = Stage::new(8);
    stage.play([
        (0, GiveUp(eid("2.2.2.2/32")), vec![Publish(drop.clone(), None)]),
        (1, Used(eid("2.2.2.2/32")), vec![]), // not refreshed: the resolver paces itself
        (29, Wake, vec![]),
        (30, Wake, vec![Withdraw(eid("2.2.2.2/32"))]),
        (40, GiveUp(eid("2.2.2.2/32")), vec![Publish(drop, None)]),
        // An answer about more than that ends it early.
        (50, Install(vec![mapping("2.2.0.0/16", 60)]), vec![Withdraw(eid("2.2.2.2/32")), publish("2.2.0.0/16", 60)]),
        // Late: something else says what to do by now.
        (60, GiveUp(eid("2.2.2.2/32")), vec![]),
        (61, GiveUp(eid("2.2.0.0/16")), vec![]),
    ]);
    assert_eq!(stage.cache.get(&eid("2.2.0.0/16")).unwrap().origin, Origin::Reply);
    // An entry that only says to ask gives way to the drop.
    let ask = negative("3.0.0.0/8", 60, Action::SendMapRequest);
    stage.step(70, Install(vec![ask]));
    assert_eq!(stage.step(71, GiveUp(eid("3.3.3.3/32"))), [Publish(negative("3.3.3.3/32", 1, Action::Drop), None)]);
}

#[test]
fn what_a_client_put_in_stays_as_long_as_it_said_and_gives_way_to_no_reply() {
    let mut stage = Stage::new(3);
    stage.play([
        (0, Put(mapping("2.2.0.0/16", 1), 0), vec![publish("2.2.0.0/16", 1)]),
        (1, Install(vec![mapping("2.2.0.0/16", 60)]), vec![Fault(CacheFault::StaticKept)]),
        (2, Install(vec![mapping("2.2.0.0/16", 0)]), vec![Fault(CacheFault::StaticKept)]),
        (3, Put(mapping("3.3.0.0/16", 2), 100), vec![publish("3.3.0.0/16", 2)]),
        // In use, it is asked for again before its end, and without an answer it ends.
        (20, Used(eid("3.3.0.0/16")), vec![]),
        (95, Wake, vec![Refresh(eid("3.3.0.0/16"))]),
        (102, Wake, vec![]),
        (103, Wake, vec![Withdraw(eid("3.3.0.0/16"))]),
        // Over a learned and over a static one; the same content from another hand is a change.
        (110, Install(vec![mapping("4.0.0.0/8", 60)]), vec![publish("4.0.0.0/8", 60)]),
        (111, Put(mapping("4.0.0.0/8", 60), 0), vec![publish("4.0.0.0/8", 60)]),
        (112, Static(mapping("5.0.0.0/8", 60)), vec![publish("5.0.0.0/8", 60)]),
        (113, Put(mapping("5.0.0.0/8", 60), 600), vec![publish("5.0.0.0/8", 60)]),
        // Full: what has an end gives way, what has none does not.
        (
            114,
            Put(mapping("6.0.0.0/8", 60), 0),
            vec![Fault(CacheFault::Evicted), Withdraw(eid("5.0.0.0/8")), publish("6.0.0.0/8", 60)],
        ),
        (115, Put(mapping("7.0.0.0/8", 60), 600), vec![Fault(CacheFault::Full)]),
        // A day later all that has no end is there.
        (100_000, Wake, vec![]),
    ]);
    assert_eq!(stage.cache.len(), 3);
    assert!(stage.cache.iter().all(|cached| (cached.origin, cached.expires) == (Origin::Api, None)));
}

/// What a Map-Server publishes replaces what was learned and leaves the operator's alone; an answer has what it does not list asked
/// for again, news does not, and what a renewal only repeats begins no new life.
#[test]
fn publications_are_installed_by_what_they_are() {
    let start = Instant::now();
    let mut cache = MapCache::new(Settings { capacity: 100 }, start);
    // What is said, and how long the wider entry lasts from then on, in seconds from the start.
    let mut step = |seconds: u64, input: Input| {
        let mut todo = Vec::new();
        cache.step(start + Duration::from_secs(seconds), input, &|_| 0, &mut todo);
        let ends = cache.get(&eid("10.0.0.0/16")).and_then(|cached| cached.expires);
        (todo, ends.map_or(0, |ends| (ends - start).as_secs()))
    };
    let part = negative("10.0.1.0/24", 60, Action::Drop);
    step(0, Input::Install(vec![mapping("10.0.0.0/16", 60), part]));
    step(0, Input::Static(mapping("10.9.0.0/16", 60)));
    let news = vec![negative("10.0.0.0/16", 60, Action::Drop), mapping("10.9.0.0/16", 60)];
    let (todo, _) = step(1, Input::Published(news, Notice::Change));
    let asked = |todo: &[Output]| todo.iter().filter(|output| matches!(output, Refresh(_))).count();
    assert!(todo.contains(&Fault(CacheFault::StaticKept)) && asked(&todo) == 0, "{todo:?}");
    // A renewal that says the same leaves the life as it is, and doubts what it does not list.
    let same = || vec![negative("10.0.0.0/16", 60, Action::Drop)];
    let (todo, ends) = step(600, Input::Published(same(), Notice::Again));
    assert_eq!((todo, ends), (vec![Refresh(eid("10.0.1.0/24"))], 3600));
    let (todo, ends) = step(601, Input::Published(same(), Notice::Answer { scope: eid("10.0.0.0/16") }));
    assert_eq!((todo, ends), (vec![Withdraw(eid("10.0.1.0/24"))], 4201));
    // An answer about a wider prefix doubts what is inside of that.
    let parts = vec![mapping("10.5.0.0/24", 60)];
    let (todo, _) = step(601, Input::Published(parts, Notice::Answer { scope: eid("10.0.0.0/8") }));
    assert!(todo.contains(&Refresh(eid("10.0.0.0/16"))) && asked(&todo) == 1, "{todo:?}");
    let gone = ["10.0.0.0/16", "10.5.0.0/24"];
    let gone = gone.into_iter().map(|text| Mapping::negative(eid(text), Ttl::Remove, Action::NoAction)).collect();
    let ended = [Withdraw(eid("10.0.0.0/16")), Withdraw(eid("10.5.0.0/24"))];
    assert_eq!(step(602, Input::Published(gone, Notice::Change)).0, ended);
    assert_eq!(cache.iter().map(|cached| cached.origin).collect::<Vec<_>>(), [Origin::Static]);
}

#[test]
fn a_step_tells_what_ended_by_itself_from_what_it_was_asked_for() {
    let mut stage = Stage::new(8);
    stage.step(0, Put(mapping("2.2.0.0/16", 1), 10));
    stage.step(0, Put(mapping("3.3.0.0/16", 1), 0));
    let mut todo = vec![Release(SetNumber::new(9))];
    let now = stage.start + Duration::from_secs(10);
    let ended = stage.cache.step(now, Input::Remove(eid("3.3.0.0/16")), &|_| 0, &mut todo);
    let withdrawn =
        |todo: &[Output]| todo.iter().filter(|output| matches!(output, Withdraw(_))).cloned().collect::<Vec<_>>();
    assert_eq!(withdrawn(&todo[..ended]), [Withdraw(eid("2.2.0.0/16"))]);
    assert_eq!(withdrawn(&todo[ended..]), [Withdraw(eid("3.3.0.0/16"))]);
}

#[test]
fn a_batch_goes_in_more_specifics_first_and_leaves_less_specifics_first() {
    let mut stage = Stage::new(10);
    let old = ["2.0.0.0/8", "2.2.0.0/16", "2.2.2.0/24"];
    for prefix in old {
        stage.step(0, Put(negative(prefix, 1, Action::Drop), 0));
    }
    stage.step(0, GiveUp(eid("9.9.9.9/32")));
    let puts = ["2.0.0.0/8", "9.0.0.0/8", "9.9.0.0/16"].map(|prefix| mapping(prefix, 1)).to_vec();
    let removes = vec![eid("2.2.2.0/24"), eid("2.2.0.0/16"), eid("7.0.0.0/8")];
    let order = vec![
        publish("9.9.0.0/16", 1),
        publish("2.0.0.0/8", 1),
        publish("9.0.0.0/8", 1),
        Withdraw(eid("2.2.0.0/16")),
        Withdraw(eid("2.2.2.0/24")),
        Withdraw(eid("9.9.9.9/32")),
    ];
    assert_eq!(stage.step(1, Batch(puts, removes)), order, "the short drop too ends when what covers it is there");
    assert_eq!(stage.cache.len(), 3);
}

/// Nested prefixes of 10.0.0.0/28, some of them, in random order.
fn some_of_a_few(random: &mut ChaCha8Rng) -> Vec<EidPrefix> {
    let prefix = |random: &mut ChaCha8Rng| {
        let length = 28 + (random.next_u32() % 5) as u8;
        let last = random.next_u32() as u8 & 15 & (0xff_u8.checked_shl(u32::from(32 - length)).unwrap_or(0));
        eid(&format!("10.0.0.{last}/{length}"))
    };
    (0..random.next_u32() % 8).map(|_| prefix(random)).collect()
}

#[test]
fn amid_a_batch_each_packet_finds_what_the_table_said_before_or_says_after() {
    type Table = BTreeMap<EidPrefix, Mapping>;
    let mut random = ChaCha8Rng::from_seed([5; 32]);
    let ways = |table: &Table| -> Vec<Option<Mapping>> {
        let way = |last: u8| {
            let host = host(&format!("10.0.0.{last}"));
            let found = table.iter().filter(|(eid, _)| eid.contains(host));
            found.max_by_key(|(eid, _)| eid.prefix.length()).map(|(_, mapping)| mapping.clone())
        };
        (0..16).map(way).collect()
    };
    let apply = |table: &mut Table, output: &Output| match output {
        Publish(mapping, _) => drop(table.insert(mapping.eid, mapping.clone())),
        Withdraw(eid) => drop(table.remove(eid)),
        _ => {}
    };
    let mut turned = 0;
    for _ in 0..2000 {
        let mut stage = Stage::new(100);
        let mut table = Table::new();
        for eid in some_of_a_few(&mut random) {
            let event = match random.next_u32() % 4 {
                0 => GiveUp(eid),
                _ => Put(Mapping { eid, ..negative("0.0.0.0/0", 1, Action::NoAction) }, 0),
            };
            stage.step(0, event).iter().for_each(|output| apply(&mut table, output));
        }
        let puts = some_of_a_few(&mut random).into_iter().collect::<BTreeSet<_>>();
        let removes = some_of_a_few(&mut random).into_iter().filter(|eid| !puts.contains(eid)).collect();
        let new = |eid| Mapping { eid, ..mapping("0.0.0.0/0", 1) };
        let outputs = stage.step(1, Batch(puts.into_iter().map(new).collect(), removes));
        let before = ways(&table);
        let mut last = table.clone();
        outputs.iter().for_each(|output| apply(&mut last, output));
        let after = ways(&last);
        for output in &outputs {
            apply(&mut table, output);
            for (at, way) in ways(&table).iter().enumerate() {
                assert!(way == &before[at] || way == &after[at], "10.0.0.{at} amid {outputs:?}");
            }
        }
        turned += usize::from(before != after);
    }
    assert!(turned > 1000, "{turned}");
}

#[test]
fn a_batch_without_room_does_nothing_and_what_it_names_gives_no_room() {
    let puts = |prefixes: &[&str]| prefixes.iter().map(|prefix| mapping(prefix, 1)).collect::<Vec<_>>();
    let named = |prefixes: &[&str]| prefixes.iter().map(|prefix| eid(prefix)).collect::<BTreeSet<_>>();
    let mut stage = Stage::new(4);
    stage.step(0, Static(mapping("1.0.0.0/8", 1)));
    for prefix in ["3.0.0.0/8", "4.0.0.0/8", "5.0.0.0/8"] {
        stage.step(0, Install(vec![mapping(prefix, 60)]));
    }
    assert_eq!(stage.cache.room(&named(&["6.0.0.0/8"]), &[]), 3);
    assert_eq!(stage.cache.room(&named(&["3.0.0.0/8", "6.0.0.0/8"]), &[eid("4.0.0.0/8")]), 1);
    let full = Batch(puts(&["3.0.0.0/8", "6.0.0.0/8", "7.0.0.0/8"]), vec![eid("4.0.0.0/8")]);
    assert_eq!(stage.step(1, full), [Fault(CacheFault::Full)]);
    let left: Vec<EidPrefix> = stage.cache.iter().map(|cached| cached.eid).collect();
    assert_eq!(left, ["1.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8", "5.0.0.0/8"].map(eid));
    // The oldest would have to give way, but is named: the youngest does.
    let fits = stage.step(1, Batch(puts(&["3.0.0.0/8", "6.0.0.0/8"]), vec![eid("4.0.0.0/8")]));
    let gone = [Fault(CacheFault::Evicted), Withdraw(eid("5.0.0.0/8"))];
    assert_eq!(fits[..2], gone);
    assert_eq!(fits[fits.len() - 1], Withdraw(eid("4.0.0.0/8")));
    let left: Vec<EidPrefix> = stage.cache.iter().map(|cached| cached.eid).collect();
    assert_eq!(left, ["1.0.0.0/8", "3.0.0.0/8", "6.0.0.0/8"].map(eid));
    // Put in for ever, they give way to nothing any more.
    assert_eq!(stage.cache.room(&named(&["8.0.0.0/8"]), &[]), 1);
    assert_eq!(stage.step(2, Batch(puts(&["8.0.0.0/8", "9.0.0.0/8"]), vec![])), [Fault(CacheFault::Full)]);
}

#[test]
fn a_client_takes_over_what_was_given_up_on() {
    let mut stage = Stage::new(8);
    stage.play([
        (0, GiveUp(eid("2.2.2.2/32")), vec![Publish(negative("2.2.2.2/32", 1, Action::Drop), None)]),
        (1, Put(mapping("2.2.0.0/16", 1), 0), vec![Withdraw(eid("2.2.2.2/32")), publish("2.2.0.0/16", 1)]),
        (2, GiveUp(eid("2.2.2.2/32")), vec![]),
    ]);
}

#[test]
fn static_entries_stay() {
    let mut stage = Stage::new(2);
    stage.play([
        (0, Static(mapping("2.2.0.0/16", 1)), vec![publish("2.2.0.0/16", 1)]),
        (90, Wake, vec![]), // whatever its TTL says
        (91, Install(vec![mapping("2.2.0.0/16", 60)]), vec![Fault(CacheFault::StaticKept)]),
        (92, Install(vec![mapping("2.2.0.0/16", 0)]), vec![Fault(CacheFault::StaticKept)]),
        (93, GiveUp(eid("2.2.0.0/16")), vec![]),
        (94, Install(vec![mapping("3.0.0.0/8", 60)]), vec![publish("3.0.0.0/8", 60)]),
        (95, Used(eid("3.0.0.0/8")), vec![]),
        // Full: the learned one gives way, though the static one was used longer ago.
        (
            96,
            Static(mapping("4.0.0.0/8", 1)),
            vec![Fault(CacheFault::Evicted), Withdraw(eid("3.0.0.0/8")), publish("4.0.0.0/8", 1)],
        ),
        (97, Install(vec![mapping("5.0.0.0/8", 60)]), vec![Fault(CacheFault::Full)]),
        (98, Static(mapping("6.0.0.0/8", 60)), vec![Fault(CacheFault::Full)]),
        (99, Remove(eid("4.0.0.0/8")), vec![Withdraw(eid("4.0.0.0/8"))]),
        (99, Remove(eid("4.0.0.0/8")), vec![]),
        (100, Install(vec![mapping("5.0.0.0/8", 60)]), vec![publish("5.0.0.0/8", 60)]),
    ]);
    // The operator takes over a learned one; it no longer ends.
    stage.step(101, Static(mapping("5.0.0.0/8", 60)));
    let cached = stage.cache.get(&eid("5.0.0.0/8")).unwrap();
    assert_eq!((cached.origin, cached.expires), (Origin::Static, None));
    assert_eq!(cached.created, stage.start + Duration::from_secs(100));
    assert_eq!((stage.due(), stage.cache.order.count(Segment::Cold)), (None, 0));
}

/// ITR-34.
#[test]
fn the_least_recently_used_gives_way() {
    let mut stage = Stage::new(3);
    for (at, prefix) in ["2.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8"].into_iter().enumerate() {
        stage.step(at as u64, Install(vec![mapping(prefix, 60)]));
    }
    stage.play([
        (10, Used(eid("2.0.0.0/8")), vec![]),
        (11, Used(eid("9.0.0.0/8")), vec![]), // gone by the time the report came
        (
            12,
            Install(vec![mapping("5.0.0.0/8", 60)]),
            vec![Fault(CacheFault::Evicted), Withdraw(eid("3.0.0.0/8")), publish("5.0.0.0/8", 60)],
        ),
        // Replacing needs no room.
        (13, Install(vec![mapping("4.0.0.0/8", 30)]), vec![publish("4.0.0.0/8", 30)]),
        (
            14,
            Install(vec![mapping("6.0.0.0/8", 60)]),
            vec![Fault(CacheFault::Evicted), Withdraw(eid("2.0.0.0/8")), publish("6.0.0.0/8", 60)],
        ),
    ]);
}

/// What the map-cache must hold, kept the plain way: every entry looked at every time. Without doubts and shortened lives,
/// which the script avoids by lengths that do not nest, except for short drops.
#[derive(Default)]
struct Model {
    entries: BTreeMap<EidPrefix, Modelled>,
    /// Moments of use so far.
    moment: u64,
}

#[derive(Clone, Copy)]
struct Modelled {
    origin: Origin,
    /// Seconds since the start.
    expires: Option<u64>,
    /// Looks that found it in use: from the second on it is hot.
    uses: u8,
    /// When it came to the front of its list.
    front: u64,
}

impl Model {
    fn step(&mut self, now: u64, event: &Event, capacity: usize) {
        self.entries.retain(|_, entry| entry.expires.is_none_or(|expires| expires > now));
        let (origin, records): (Origin, Vec<(EidPrefix, Option<u64>)>) = match event {
            Install(records) => {
                let life = |record: &Mapping| match record.ttl {
                    Ttl::Remove => None,
                    Ttl::Minutes(minutes) => Some(u64::from(minutes) * 60),
                    Ttl::ReceiverDecides => Some(24 * 3600),
                };
                (Origin::Reply, records.iter().map(|record| (record.eid, life(record))).collect())
            }
            Static(mapping) => (Origin::Static, vec![(mapping.eid, Some(0))]),
            GiveUp(eid) if self.entries.contains_key(eid) => return,
            GiveUp(eid) => (Origin::GivenUp, vec![(*eid, Some(30))]),
            Remove(eid) => {
                self.entries.remove(eid);
                return;
            }
            Used(eid) => {
                self.touch(eid, 1, capacity);
                self.cool(Some(eid));
                return;
            }
            Look => {
                self.cool(None);
                return;
            }
            Wake => return,
            Put(..) | Batch(..) => unreachable!("no script of the model has one"),
        };
        for (eid, life) in records {
            let before = self.entries.get(&eid).copied();
            if before.is_some_and(|before| before.origin == Origin::Static) && origin != Origin::Static {
                continue;
            }
            let Some(life) = life else {
                self.entries.remove(&eid);
                continue;
            };
            if before.is_none() && self.entries.len() >= capacity {
                let learned = self.entries.iter().filter(|(_, entry)| entry.origin != Origin::Static);
                let oldest = learned.min_by_key(|(_, entry)| (entry.uses >= 2, entry.front));
                let Some(oldest) = oldest.map(|(eid, _)| *eid) else { continue };
                self.entries.remove(&oldest);
            }
            let expires = (origin != Origin::Static).then_some(now + life);
            let uses = before.map_or(0, |before| before.uses);
            self.entries.insert(eid, Modelled { origin, expires, uses, front: 0 });
            self.touch(&eid, 0, capacity);
        }
    }

    /// To the front with it; should too many be hot, the oldest of them is so no longer.
    fn touch(&mut self, eid: &EidPrefix, uses: u8, capacity: usize) {
        self.moment += 2;
        let Some(entry) = self.entries.get_mut(eid) else { return };
        entry.uses = (entry.uses + uses).min(2);
        entry.front = self.moment;
        let hot = self.entries.values_mut().filter(|entry| entry.origin != Origin::Static && entry.uses == 2);
        let mut hot: Vec<_> = hot.collect();
        if hot.len() > capacity.saturating_sub((capacity / 8).max(1)) {
            let oldest = hot.iter_mut().min_by_key(|entry| entry.front).expect("not empty");
            (oldest.uses, oldest.front) = (1, self.moment + 1);
        }
    }

    /// What is hot and not in use is so no longer.
    fn cool(&mut self, used: Option<&EidPrefix>) {
        let idle = |(eid, entry): &(&EidPrefix, &mut Modelled)| {
            entry.uses == 2 && entry.origin != Origin::Static && Some(*eid) != used
        };
        let mut idle: Vec<_> = self.entries.iter_mut().filter(idle).map(|(_, entry)| entry).collect();
        idle.sort_unstable_by_key(|entry| entry.front);
        for entry in idle {
            self.moment += 2;
            (entry.uses, entry.front) = (1, self.moment);
        }
    }

    fn held(&self) -> BTreeMap<EidPrefix, (Origin, Option<u64>)> {
        self.entries.iter().map(|(eid, entry)| (*eid, (entry.origin, entry.expires))).collect()
    }
}

impl Stage {
    /// Entries with origin and end, in seconds since the start.
    fn held(&self) -> BTreeMap<EidPrefix, (Origin, Option<u64>)> {
        let seconds = |at: Instant| at.duration_since(self.start).as_secs();
        self.cache.iter().map(|cached| (cached.eid, (cached.origin, cached.expires.map(seconds)))).collect()
    }
}

#[test]
fn agrees_with_looking_at_every_entry_over_three_hundred_thousand_operations() {
    const CAPACITY: usize = 400;
    let mut random = ChaCha8Rng::from_seed([3; 32]);
    let (mut stage, mut model) = (Stage::new(CAPACITY), Model::default());
    let mut published = BTreeSet::new();
    let (mut now, mut evicted, mut refreshed) = (0, 0, 0);
    for operation in 0..300_000 {
        now += u64::from(random.next_u32().is_multiple_of(4));
        let prefix = flat(random.next_u32() % 2, random.next_u32().is_multiple_of(2), (random.next_u32() % 200) as u8);
        let event = match random.next_u32() % 32 {
            0..14 => {
                let minutes = [0, 1, 5, 30, u32::MAX][random.next_u32() as usize % 5];
                let mut record = Mapping { eid: prefix, ..mapping("0.0.0.0/0", minutes) };
                record.locators[0].weight = (random.next_u32() % 8) as u8;
                Install(vec![record])
            }
            14 => Static(Mapping { eid: prefix, ..mapping("0.0.0.0/0", 1) }),
            15..18 => GiveUp(prefix),
            18..20 => Remove(prefix),
            20..31 => Used(prefix),
            _ => Wake,
        };
        model.step(now, &event, CAPACITY);
        for output in stage.step(now, event) {
            match output {
                Publish(mapping, _) => _ = published.insert(mapping.eid),
                Withdraw(eid) => assert!(published.remove(&eid), "withdrew what was not there"),
                Refresh(eid) => {
                    refreshed += 1;
                    assert!(published.contains(&eid), "asked for what is not there");
                }
                Fault(fault) => evicted += usize::from(fault == CacheFault::Evicted),
                Release(_) | Output::Used(_) => {}
            }
        }
        assert_eq!(stage.cache.len(), model.entries.len(), "operation {operation}");
        if operation % 250 == 0 {
            stage.assert_consistent();
            assert_eq!(stage.held(), model.held(), "operation {operation}");
            assert!(published.iter().eq(model.entries.keys()));
        }
    }
    assert!(evicted > 10_000 && refreshed > 1000, "it was hardly tried: {evicted} evicted, {refreshed} refreshed");
}

/// ITR-34.
#[test]
fn hot_and_static_entries_stay_while_a_scan_goes_through_a_full_table() {
    const CAPACITY: u32 = 1000;
    let mut stage = Stage::new(CAPACITY as usize);
    let hot: Vec<EidPrefix> = (0..600).map(|index| v4_host(0x0a00_0000 + index)).collect();
    let fixed: Vec<EidPrefix> = (0..20).map(|index| v4_host(0x0b00_0000 + index)).collect();
    for eid in &fixed {
        stage.step(0, Static(Mapping { eid: *eid, ..mapping("0.0.0.0/0", 1) }));
    }
    for eid in &hot {
        stage.step(0, Install(vec![Mapping { eid: *eid, ..mapping("0.0.0.0/0", 1440) }]));
    }
    // One round of looks in quiet, then the scan: each second five times the table, with one look in ten seconds.
    let mut evicted = 0;
    for second in 1..=40_u32 {
        let now = stage.start + Duration::from_secs(second.into());
        for eid in &hot {
            *stage.packets.get_mut().entry(*eid).or_default() += 50;
        }
        if second % 10 == 0 {
            stage.input(now, Input::Look);
        }
        for index in 0..if second > 20 { 5 * CAPACITY } else { 0 } {
            let once = v4_host(0x2000_0000 + second * 0x1_0000 + index);
            let todo = stage.input(now, Input::Install(vec![Mapping { eid: once, ..mapping("0.0.0.0/0", 1440) }]));
            evicted += todo.iter().filter(|output| **output == Fault(CacheFault::Evicted)).count();
            // Most send the packet that asked for them, some a short flow.
            *stage.packets.get_mut().entry(once).or_default() += if index % 10 == 0 { 8 } else { 1 };
        }
    }
    assert_eq!((stage.cache.len(), evicted), (CAPACITY as usize, 20 * 5000 - 380));
    assert!(fixed.iter().chain(&hot).all(|eid| stage.cache.get(eid).is_some()), "none of them gave way");
    stage.assert_consistent();
    // And what is hot no more gives way in the end.
    for second in 41..=80_u32 {
        let now = stage.start + Duration::from_secs(second.into());
        for index in 0..100 {
            let used = v4_host(0x4000_0000 + (second % 8) * 100 + index);
            stage.input(now, Input::Install(vec![Mapping { eid: used, ..mapping("0.0.0.0/0", 1440) }]));
            *stage.packets.get_mut().entry(used).or_default() += 50;
        }
        stage.input(now, Input::Look);
    }
    let left = hot.iter().filter(|eid| stage.cache.get(eid).is_some()).count();
    assert!(left <= 200, "{left} of the 600 are left beside the 800 in use now");
}

#[test]
fn a_full_table_with_everything_in_use_still_takes_in_what_is_new() {
    let mut stage = Stage::new(200);
    for index in 0..200 {
        stage.step(0, Install(vec![Mapping { eid: v4_host(index), ..mapping("0.0.0.0/0", 1440) }]));
    }
    for second in 1..=3 {
        stage.packets.get_mut().values_mut().for_each(|packets| *packets += 100);
        let fresh = v4_host(1000 + second);
        let now = stage.start + Duration::from_secs(second.into());
        let todo = stage.input(now, Input::Install(vec![Mapping { eid: fresh, ..mapping("0.0.0.0/0", 1440) }]));
        assert!(todo.contains(&Fault(CacheFault::Evicted)) && stage.cache.get(&fresh).is_some());
    }
    stage.assert_consistent();
}

#[test]
fn looks_are_bounded_and_come_round() {
    const COUNT: u32 = 3 * LOOKS_MAX;
    let (mut stage, asked) = (Stage::new(COUNT as usize), RefCell::new(0));
    assert_eq!(stage.cache.look_every(), LOOK_ROUND);
    for index in 0..COUNT {
        stage.step(0, Install(vec![Mapping { eid: v4_host(index), ..mapping("0.0.0.0/0", 1440) }]));
    }
    assert_eq!(stage.cache.look_every(), LOOK_ROUND / 3);
    let meter = |_: &EidPrefix| {
        *asked.borrow_mut() += 1;
        5
    };
    for round in 1..=4 {
        stage.cache.step(stage.start, Input::Look, &meter, &mut Vec::new());
        assert_eq!(*asked.borrow(), round * LOOKS_MAX, "one slice with each look");
        let warm = stage.cache.store.iter().filter(|entry| entry.warmth == Warmth::Warm).count();
        assert_eq!(warm, (round * LOOKS_MAX).min(COUNT) as usize, "each entry once in a round");
    }
}

#[test]
fn the_first_packet_is_the_one_that_asked_and_no_use() {
    let mut stage = Stage::new(8);
    stage.step(0, Install(vec![mapping("2.2.0.0/16", 10)]));
    stage.packets.get_mut().insert(eid("2.2.0.0/16"), 1);
    stage.play([
        (1, Look, vec![]),
        (599, Wake, vec![]), // in nobody's use
    ]);
    stage.packets.get_mut().insert(eid("2.2.0.0/16"), 2);
    stage.play([(599, Look, vec![Refresh(eid("2.2.0.0/16"))])]);
}

/// RCH-8: what the prober is told of: entries with locators that packets used since the last look.
#[test]
fn looks_tell_what_is_in_use() {
    let mut stage = Stage::new(8);
    stage.step(
        0,
        Install(vec![mapping("2.2.0.0/16", 10), mapping("3.3.0.0/16", 10), negative("4.4.0.0/16", 10, Action::Drop)]),
    );
    for (prefix, packets) in [("2.2.0.0/16", 2), ("3.3.0.0/16", 1), ("4.4.0.0/16", 9)] {
        stage.packets.get_mut().insert(eid(prefix), packets);
    }
    stage.step(1, Look);
    assert_eq!(stage.seen, [eid("2.2.0.0/16")], "one packet is the one that asked, and nothing is there to be probed");
    stage.step(11, Look);
    assert_eq!(stage.seen.len(), 1, "no packet since");
    stage.step(12, Used(eid("3.3.0.0/16")));
    assert_eq!(stage.seen[1..], [eid("3.3.0.0/16")]);
}

/// SMR-4: what an SMR may speak of: the entry that covers its prefix, else those beneath it, and a bounded number of them.
#[test]
fn what_lies_around_a_prefix() {
    let mut stage = Stage::new(64);
    stage.step(0, Install(vec![mapping("2.2.0.0/16", 10), mapping("2.2.2.0/24", 10)]));
    (0..20).for_each(|third| drop(stage.step(0, Install(vec![mapping(&format!("3.3.{third}.0/24"), 10)]))));
    for (asked, expected) in [
        ("2.2.2.2/32", &["2.2.2.0/24"][..]),
        ("2.2.0.0/16", &["2.2.0.0/16"]),
        ("2.2.9.0/24", &["2.2.0.0/16"]),
        ("2.0.0.0/8", &["2.2.0.0/16", "2.2.2.0/24"]),
        ("9.0.0.0/8", &[]),
    ] {
        let expected: Vec<EidPrefix> = expected.iter().map(|prefix| eid(prefix)).collect();
        assert_eq!(stage.cache.around(&eid(asked), 8), expected, "{asked}");
    }
    assert_eq!(stage.cache.around(&eid("3.0.0.0/8"), 8).len(), 8);
}

#[test]
fn use_just_before_the_refresh_is_seen_without_a_look() {
    let mut stage = Stage::new(8);
    stage.step(0, Install(vec![mapping("2.2.0.0/16", 10)]));
    stage.packets.get_mut().insert(eid("2.2.0.0/16"), 9);
    assert_eq!(stage.step(541, Wake), [Refresh(eid("2.2.0.0/16"))]);
}

#[test]
fn mappings_of_one_instance_share_their_locator_sets() {
    let one = |prefix: &str, instance: u32, weight: u8| {
        let mut record = mapping(prefix, 60);
        record.eid.instance = InstanceId::new(instance).unwrap();
        record.locators[0].weight = weight;
        record
    };
    let mut stage = Stage::new(8);
    let mut numbers = Vec::new();
    let records = [one("2.0.0.0/8", 0, 1), one("3.0.0.0/8", 0, 1), one("4.0.0.0/8", 1, 1), one("5.0.0.0/8", 0, 2)];
    for record in records {
        for output in stage.step(0, Install(vec![record])) {
            let Publish(_, Some(set)) = output else { panic!("{output:?}") };
            numbers.push(set.place());
        }
    }
    assert_eq!((numbers, stage.cache.sets()), (vec![0, 0, 1, 2], 3));
    // Replaced in place: the new set is named before the old one is released.
    let changed = one("5.0.0.0/8", 0, 3);
    let mut todo = Vec::new();
    let input = Input::Install(vec![changed.clone()]);
    stage.cache.step(stage.start, input, &|_| 0, &mut todo);
    assert_eq!(todo, [Publish(changed, Some(SetNumber::new(3))), Release(SetNumber::new(2))]);
    // A set leaves with the last mapping that has it.
    for (prefix, released) in [("2.0.0.0/8", vec![]), ("3.0.0.0/8", vec![SetNumber::new(0)])] {
        stage.released.clear();
        stage.step(1, Remove(eid(prefix)));
        assert_eq!(stage.released, released);
    }
    stage.assert_consistent();
}

/// ITR-28.
#[test]
fn of_several_records_the_longest_comes_first_and_leaves_last() {
    let mut stage = Stage::new(8);
    stage.step(0, Install(vec![mapping("2.2.0.0/16", 60), mapping("2.2.2.0/24", 60), mapping("3.0.0.0/8", 60)]));
    let gone = ["2.2.2.0/24", "2.2.0.0/16", "3.0.0.0/8"].map(|prefix| mapping(prefix, 0));
    let mut records = vec![mapping("2.2.0.0/20", 60), mapping("2.2.2.0/25", 60)];
    records.extend(gone);
    let todo = stage.step(1, Install(records));
    let expected = [
        publish("2.2.2.0/25", 60),
        publish("2.2.0.0/20", 60),
        Withdraw(eid("3.0.0.0/8")),
        Withdraw(eid("2.2.0.0/16")),
        Withdraw(eid("2.2.2.0/24")),
    ];
    assert_eq!(todo, expected);
}

#[test]
fn what_an_install_looks_at_beneath_is_bounded() {
    let mut stage = Stage::new(5000);
    for index in 0..2 * BENEATH_MAX as u32 {
        let eid = v4_host(0x0202_0000 + index);
        stage.step(0, Install(vec![Mapping { eid, ..mapping("0.0.0.0/0", 1440) }]));
    }
    let todo = stage.step(1, Install(vec![mapping("2.2.0.0/16", 1440)]));
    assert!(todo.contains(&Fault(CacheFault::BeneathCapped)) && todo.contains(&publish("2.2.0.0/16", 1440)));
    assert_eq!(stage.expires("2.2.0.0/16"), Some(1440 * 60), "not longer than those it looked at");
}

#[test]
fn what_ends_together_ends_a_few_hundred_at_a_time() {
    let mut stage = Stage::new(5000);
    for index in 0..3000 {
        stage.step(0, GiveUp(v4_host(index)));
    }
    let mut left = 3000;
    while left > 0 {
        let due = stage.cache.due().unwrap();
        assert!(due <= stage.start + GIVEN_UP_FOR, "the next step is wanted at once");
        let ended = stage.step(30, Wake).len();
        assert_eq!(ended, left.min(ENDS_MAX));
        left -= ended;
    }
    stage.assert_consistent();
    assert_eq!((stage.cache.len(), stage.cache.due()), (0, None));
}

fn v4_host(bits: u32) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: Prefix::host(IpAddr::V4(bits.into())) }
}

/// One of 2 × 2 × 256 prefixes that do not nest.
fn flat(instance: u32, v4: bool, low: u8) -> EidPrefix {
    let address: IpAddr = if v4 { [2, 2, low, 0].into() } else { [0x2001, 0xdb8, low.into(), 0, 0, 0, 0, 0].into() };
    let prefix = Prefix::new(address, if v4 { 24 } else { 48 }).unwrap();
    EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix }
}

fn flat_prefix() -> impl Strategy<Value = EidPrefix> {
    (0_u32..2, any::<bool>(), 0_u8..6).prop_map(|(instance, v4, low)| flat(instance, v4, low))
}

fn event(prefix: impl Strategy<Value = EidPrefix> + Clone, records: usize) -> impl Strategy<Value = Event> {
    let ttl = prop_oneof![Just(0_u32), 1_u32..4, Just(u32::MAX)];
    let record = (prefix.clone(), ttl).prop_map(|(eid, ttl)| Mapping { eid, ..mapping("0.0.0.0/0", ttl) });
    prop_oneof![
        4 => prop::collection::vec(record, 1..=records).prop_map(Install),
        1 => prefix.clone().prop_map(|eid| Static(Mapping { eid, ..mapping("0.0.0.0/0", 1) })),
        1 => prefix.clone().prop_map(GiveUp),
        1 => prefix.clone().prop_map(Remove),
        4 => prefix.prop_map(Used),
        2 => Just(Wake),
    ]
}

proptest! {
    #[test]
    fn agrees_with_looking_at_every_entry(
        script in prop::collection::vec((0_u64..40, event(flat_prefix().boxed(), 1)), 0..120), capacity in 1_usize..8,
    ) {
        let (mut stage, mut model) = (Stage::new(capacity), Model::default());
        let mut published = BTreeSet::new();
        let mut now = 0;
        for (pause, event) in script {
            now += pause;
            model.step(now, &event, capacity);
            for output in stage.step(now, event) {
                match output {
                    Publish(mapping, _) => { published.insert(mapping.eid); }
                    Withdraw(eid) => prop_assert!(published.remove(&eid), "withdrew what was not there"),
                    Refresh(eid) => prop_assert!(published.contains(&eid), "asked for what is not there"),
                    Fault(_) | Release(_) | Output::Used(_) => {}
                }
            }
            stage.assert_consistent();
            let held = stage.held();
            prop_assert_eq!(&held, &model.held());
            prop_assert_eq!(published.iter().collect::<Vec<_>>(), held.keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn nested_prefixes_keep_it_consistent(
        script in prop::collection::vec((0_u64..40, event(nested_prefix().boxed(), 4)), 0..120), capacity in 1_usize..12,
    ) {
        let mut stage = Stage::new(capacity);
        let mut now = 0;
        for (pause, event) in script {
            now += pause;
            stage.step(now, event);
            stage.assert_consistent();
            prop_assert!(stage.due().is_none_or(|due| due > Duration::from_secs(now)), "due and not done");
        }
    }
}

fn nested_prefix() -> impl Strategy<Value = EidPrefix> {
    (0_u8..=32, any::<u8>()).prop_map(|(length, low)| EidPrefix {
        instance: InstanceId::DEFAULT,
        prefix: Prefix::new([2, low & 1, 0, low].into(), length).unwrap(),
    })
}

/// What NAT traversal knows stays until it says otherwise, whatever Map-Replies say of it; the operator and clients win.
#[test]
fn entries_of_nat_traversal_stay() {
    let mut stage = Stage::new(8);
    let start = stage.start;
    let mut step = |seconds: u64, input: Input| stage.input(start + Duration::from_secs(seconds), input);
    assert_eq!(step(0, Input::Nat(mapping("2.2.0.0/16", 60))), [publish("2.2.0.0/16", 60)]);
    assert_eq!(step(1, Input::Install(vec![mapping("2.2.0.0/16", 5)])), [Fault(CacheFault::StaticKept)]);
    assert_eq!(step(2, Input::Install(vec![mapping("2.2.0.0/16", 0)])), [Fault(CacheFault::StaticKept)]);
    assert_eq!(step(100_000, Input::Wake), []);
    step(100_001, Input::Put(negative("2.2.0.0/16", 60, Action::Drop), None));
    assert_eq!(step(100_002, Input::Nat(mapping("2.2.0.0/16", 60))), [Fault(CacheFault::StaticKept)]);
    assert_eq!(step(100_003, Input::NatGone(eid("2.2.0.0/16"))), [], "it is a client's now");
    step(100_004, Input::Remove(eid("2.2.0.0/16")));
    step(100_005, Input::Nat(mapping("2.2.0.0/16", 60)));
    assert_eq!(step(100_006, Input::NatGone(eid("2.2.0.0/16")))[0], Withdraw(eid("2.2.0.0/16")));
    assert!(stage.cache.is_empty());
}
