//! Stories with time.

use altitude_dataplane::mapping::{InstanceId, Locator, Prefix};
use proptest::prelude::*;

use super::*;

use self::{
    Input::{GiveUp, Install, Remove, Static, Used, Wake},
    Output::{Fault, Publish, Refresh, Withdraw},
};

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

fn publish(prefix: &str, minutes: u32) -> Output {
    Publish(mapping(prefix, minutes))
}

struct Stage {
    cache: MapCache,
    start: Instant,
}

impl Stage {
    fn new(capacity: usize) -> Self {
        Self { cache: MapCache::new(Settings { capacity }), start: Instant::now() }
    }

    fn step(&mut self, seconds: u64, input: Input) -> Vec<Output> {
        let mut todo = Vec::new();
        self.cache.step(self.start + Duration::from_secs(seconds), input, &mut todo);
        todo
    }

    /// Plays a script of (s, input, what must be done).
    fn play<const N: usize>(&mut self, script: [(u64, Input, Vec<Output>); N]) {
        for (index, (seconds, input, expected)) in script.into_iter().enumerate() {
            assert_eq!(self.step(seconds, input), expected, "line {index}, at {seconds} s");
        }
    }

    /// Seconds until the entry ends.
    fn expires(&self, prefix: &str) -> Option<u64> {
        let cached = self.cache.get(&eid(prefix)).unwrap();
        cached.expires.map(|expires| expires.duration_since(self.start).as_secs())
    }

    fn due(&self) -> Option<Duration> {
        self.cache.due().map(|due| due.duration_since(self.start))
    }

    fn assert_consistent(&self) {
        let cache = &self.cache;
        assert!(cache.len() <= cache.settings.capacity);
        let deadlines: BTreeSet<_> = cache.iter().filter_map(|c| Some((c.deadline?, c.mapping.eid))).collect();
        assert_eq!(cache.deadlines, deadlines);
        let ages: BTreeMap<_, _> = cache.iter().filter_map(|c| Some((c.age?, c.mapping.eid))).collect();
        assert_eq!(cache.by_age, ages);
    }
}

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

#[test]
fn refreshes_of_prefixes_learned_together_are_spread() {
    let mut stage = Stage::new(1024);
    let records = (0..=255).map(|third| mapping(&format!("2.2.{third}.0/24"), 1000)).collect();
    stage.step(0, Install(records));
    let mut in_tenth = [0; 10];
    for (deadline, _) in &stage.cache.deadlines {
        let seconds = deadline.duration_since(stage.start).as_secs();
        assert!((45_000..=54_000).contains(&seconds), "{seconds}");
        in_tenth[((seconds - 45_000) / 900).min(9) as usize] += 1;
    }
    assert!(in_tenth.iter().all(|count| (10..=45).contains(count)), "of 256, by tenth of the span: {in_tenth:?}");
}

#[test]
fn negative_entries_keep_their_action_and_ttl_and_are_refreshed_too() {
    for action in [Action::NoAction, Action::NativelyForward, Action::SendMapRequest, Action::Drop] {
        let mut stage = Stage::new(8);
        let record = negative("3.0.0.0/8", 15, action);
        stage.play([
            (0, Install(vec![record.clone()]), vec![Publish(record.clone())]),
            (1, Used(eid("3.0.0.0/8")), vec![]),
            (899, Wake, vec![Refresh(eid("3.0.0.0/8"))]),
            (900, Wake, vec![Withdraw(eid("3.0.0.0/8"))]),
        ]);
    }
}

#[test]
fn more_specifics_override_and_remove_nothing() {
    let mut stage = Stage::new(8);
    stage.play([
        (0, Install(vec![mapping("2.2.0.0/16", 10)]), vec![publish("2.2.0.0/16", 10)]),
        (60, Install(vec![mapping("2.2.2.0/24", 10)]), vec![publish("2.2.2.0/24", 10)]),
    ]);
    assert_eq!(stage.expires("2.2.0.0/16"), Some(600));
    assert_eq!(stage.cache.lookup(host("2.2.2.2")).unwrap().mapping.eid, eid("2.2.2.0/24"));
    assert_eq!(stage.cache.lookup(host("2.2.3.3")).unwrap().mapping.eid, eid("2.2.0.0/16"));
    assert_eq!(stage.cache.lookup(host("2.3.0.1")), None);
}

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

#[test]
fn more_specifics_that_a_reply_no_longer_lists_are_asked_for_then_taken_out() {
    let mut stage = Stage::new(8);
    stage.play([
        (
            0,
            Install(vec![mapping("2.2.0.0/16", 60), mapping("2.2.2.0/24", 60), mapping("2.2.2.128/25", 60)]),
            vec![publish("2.2.0.0/16", 60), publish("2.2.2.0/24", 60), publish("2.2.2.128/25", 60)],
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

#[test]
fn the_records_of_one_reply_share_the_shortest_ttl() {
    let mut stage = Stage::new(8);
    let gone = mapping("2.2.9.0/24", 0);
    stage.step(0, Install(vec![mapping("2.2.0.0/16", 60), mapping("2.2.2.0/24", 10), gone]));
    assert_eq!((stage.expires("2.2.0.0/16"), stage.expires("2.2.2.0/24")), (Some(600), Some(600)));
    assert_eq!(stage.cache.len(), 2);
}

#[test]
fn what_nobody_answers_for_is_dropped_for_30_seconds() {
    let drop = negative("2.2.2.2/32", 1, Action::Drop);
    let mut stage = Stage::new(8);
    stage.play([
        (0, GiveUp(eid("2.2.2.2/32")), vec![Publish(drop.clone())]),
        (1, Used(eid("2.2.2.2/32")), vec![]), // not refreshed: the resolver paces itself
        (29, Wake, vec![]),
        (30, Wake, vec![Withdraw(eid("2.2.2.2/32"))]),
        (40, GiveUp(eid("2.2.2.2/32")), vec![Publish(drop)]),
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
    assert_eq!(stage.step(71, GiveUp(eid("3.3.3.3/32"))), [Publish(negative("3.3.3.3/32", 1, Action::Drop))]);
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
    assert_eq!((stage.due(), stage.cache.by_age.len()), (None, 0));
}

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
struct Model(BTreeMap<EidPrefix, (Origin, Option<u64>, u64)>);

impl Model {
    fn step(&mut self, now: u64, order: u64, input: &Input, capacity: usize) {
        self.0.retain(|_, (_, expires, _)| expires.is_none_or(|expires| expires > now));
        let (origin, records): (Origin, Vec<(EidPrefix, Option<u64>)>) = match input {
            Install(records) => {
                let life = |record: &Mapping| match record.ttl {
                    Ttl::Remove => None,
                    Ttl::Minutes(minutes) => Some(u64::from(minutes) * 60),
                    Ttl::ReceiverDecides => Some(24 * 3600),
                };
                (Origin::Reply, records.iter().map(|record| (record.eid, life(record))).collect())
            }
            Static(mapping) => (Origin::Static, vec![(mapping.eid, Some(0))]),
            GiveUp(eid) if self.0.contains_key(eid) => return,
            GiveUp(eid) => (Origin::GivenUp, vec![(*eid, Some(30))]),
            Remove(eid) => {
                self.0.remove(eid);
                return;
            }
            Used(eid) => {
                if let Some((_, _, age)) = self.0.get_mut(eid) {
                    *age = order;
                }
                return;
            }
            Wake => return,
        };
        for (eid, life) in records {
            let before = self.0.get(&eid).map(|(origin, _, _)| *origin);
            if before == Some(Origin::Static) && origin != Origin::Static {
                continue;
            }
            let Some(life) = life else {
                self.0.remove(&eid);
                continue;
            };
            if before.is_none() && self.0.len() >= capacity {
                let oldest = self.0.iter().filter(|(_, (origin, _, _))| *origin != Origin::Static);
                let Some(oldest) = oldest.min_by_key(|(_, (_, _, age))| *age).map(|(eid, _)| *eid) else { continue };
                self.0.remove(&oldest);
            }
            let expires = (origin != Origin::Static).then_some(now + life);
            self.0.insert(eid, (origin, expires, order));
        }
    }
}

fn flat_prefix() -> impl Strategy<Value = EidPrefix> {
    (0_u32..2, any::<bool>(), 0_u8..6).prop_map(|(instance, v4, low)| {
        let address: std::net::IpAddr =
            if v4 { [2, 2, low, 0].into() } else { [0x2001, 0xdb8, low.into(), 0, 0, 0, 0, 0].into() };
        let prefix = Prefix::new(address, if v4 { 24 } else { 48 }).unwrap();
        EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix }
    })
}

fn input(prefix: impl Strategy<Value = EidPrefix> + Clone, records: usize) -> impl Strategy<Value = Input> {
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
        script in prop::collection::vec((0_u64..40, input(flat_prefix().boxed(), 1)), 0..120), capacity in 1_usize..8,
    ) {
        let (mut stage, mut model) = (Stage::new(capacity), Model::default());
        let mut published = BTreeSet::new();
        let mut now = 0;
        for (order, (pause, input)) in script.into_iter().enumerate() {
            now += pause;
            model.step(now, order as u64, &input, capacity);
            for output in stage.step(now, input) {
                match output {
                    Publish(mapping) => { published.insert(mapping.eid); }
                    Withdraw(eid) => prop_assert!(published.remove(&eid), "withdrew what was not there"),
                    Refresh(eid) => prop_assert!(published.contains(&eid), "asked for what is not there"),
                    Fault(_) => {}
                }
            }
            stage.assert_consistent();
            let held: BTreeMap<_, _> = stage.cache.iter().map(|cached| {
                let expires = cached.expires.map(|expires| expires.duration_since(stage.start).as_secs());
                (cached.mapping.eid, (cached.origin, expires))
            }).collect();
            let expected: BTreeMap<_, _> = model.0.iter().map(|(eid, (origin, expires, _))| (*eid, (*origin, *expires))).collect();
            prop_assert_eq!(&held, &expected);
            prop_assert_eq!(published.iter().collect::<Vec<_>>(), held.keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn nested_prefixes_keep_it_consistent(
        script in prop::collection::vec((0_u64..40, input(nested_prefix().boxed(), 4)), 0..120), capacity in 1_usize..12,
    ) {
        let mut stage = Stage::new(capacity);
        let mut now = 0;
        for (pause, input) in script {
            now += pause;
            stage.step(now, input);
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
