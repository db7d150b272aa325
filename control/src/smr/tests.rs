//! Stories of changed mappings and of those who must know.

use altitude_dataplane::mapping::InstanceId;

use super::*;
use Output::{Ask, Discard, Solicit};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

struct World {
    smr: Smr,
    start: Instant,
}

impl World {
    fn new() -> Self {
        Self { smr: Smr::new(Settings::default()), start: Instant::now() }
    }

    fn at(&mut self, ms: u64, input: Input<'_>) -> Vec<Output> {
        let mut todo = Vec::new();
        self.smr.step(self.start + Duration::from_millis(ms), input, &mut todo);
        todo
    }

    /// Everything up to `ms`, with its time.
    fn run(&mut self, ms: u64) -> Vec<(u64, Output)> {
        let mut all = Vec::new();
        while let Some(due) = self.smr.due().filter(|due| *due <= self.start + Duration::from_millis(ms)) {
            let at = due.duration_since(self.start).as_millis() as u64;
            all.extend(self.at(at, Input::Wake).into_iter().map(|output| (at, output)));
        }
        all
    }
}

const OURS: &str = "1.1.0.0/16";

/// SMR-1: three peers, one idle for 61 s; only those that were sent data in the last minute are told.
#[test]
fn a_change_is_told_to_those_sent_to_in_the_last_minute() {
    let mut world = World::new();
    for (ms, rloc) in [(0, "240.0.0.1"), (1_500, "240.0.0.2"), (40_000, "240.0.0.3")] {
        assert_eq!(world.at(ms, Input::Used(ip(rloc))), []);
    }
    let told = world.at(61_000, Input::Changed(eid(OURS)));
    assert_eq!(told, [Solicit(ip("240.0.0.2"), eid(OURS)), Solicit(ip("240.0.0.3"), eid(OURS))]);
}

/// SMR-1: an SMR may be lost, so it comes three times, 3 s apart, to whoever does not ask.
#[test]
fn it_is_repeated_until_they_ask() {
    let (deaf, hears) = (ip("240.0.0.1"), ip("240.0.0.2"));
    let mut world = World::new();
    for rloc in [deaf, hears] {
        world.at(0, Input::Used(rloc));
    }
    assert_eq!(world.at(0, Input::Changed(eid(OURS))).len(), 2);
    assert_eq!(world.at(10, Input::Asked(eid(OURS), &[hears])), []);
    let later = world.run(100_000);
    assert_eq!(later, [(3_000, Solicit(deaf, eid(OURS))), (6_000, Solicit(deaf, eid(OURS)))]);
    assert!(world.smr.due().is_none() && world.smr.tellings.is_empty());
}

/// MV-6, SMR-2: an ITR that goes on with an old version is sent one SMR in three seconds, whatever the number of its packets.
#[test]
fn who_sends_by_an_old_version_is_told_at_the_pace_of_smrs() {
    let peer = ip("240.0.0.1");
    let mut world = World::new();
    let mut sent = Vec::new();
    for ms in (0..60_000).step_by(50) {
        let all = world.at(ms, Input::Outdated(peer, eid(OURS)));
        sent.extend(all.into_iter().map(|output| (ms, output)));
    }
    assert!(sent.iter().all(|(_, output)| *output == Solicit(peer, eid(OURS))));
    assert!((20..=24).contains(&sent.len()), "{} in a minute", sent.len());
    assert!(world.smr.tellings.len() <= 1);
    // Nobody else is told, and a peer that is being told already is not told twice.
    let mut world = World::new();
    world.at(0, Input::Used(peer));
    assert_eq!(world.at(0, Input::Changed(eid(OURS))).len(), 1);
    assert_eq!(world.at(1, Input::Outdated(peer, eid(OURS))), []);
}

/// SMR-2: changes all the time; to one RLOC four at once and one in 3 s after that, whatever the number of prefixes.
#[test]
fn what_one_rloc_is_sent_has_a_rate() {
    let peer = ip("240.0.0.1");
    let mut world = World::new();
    let mut sent = Vec::new();
    for ms in (0..60_000).step_by(100) {
        world.at(ms, Input::Used(peer));
        let all = world.at(ms, Input::Changed(eid(&format!("1.{}.0.0/16", ms / 100 % 8))));
        sent.extend(all.into_iter().filter(|output| matches!(output, Solicit(..))).map(|_| ms));
    }
    assert!(sent.len() <= 4 + 20, "{} in a minute", sent.len());
    assert!(sent.len() >= 20, "{sent:?}");
}

/// SMR-2: a flood of SMRs about two prefixes; each is asked for once in 3 s.
#[test]
fn what_smrs_cause_has_a_rate() {
    let (one, two) = (eid("2.2.0.0/16"), eid("3.3.0.0/16"));
    let mut world = World::new();
    let mut asked = Vec::new();
    for ms in 0..9_001 {
        asked.extend(world.at(ms, Input::Solicited(&[one, two])).into_iter().map(|output| (ms, output)));
    }
    let (asked, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(_, output)| matches!(output, Ask(_)));
    let expected: Vec<_> =
        [0, 3_000, 6_000, 9_000].into_iter().flat_map(|ms| [(ms, Ask(one)), (ms, Ask(two))]).collect();
    assert_eq!(asked, expected);
    assert!(refused.iter().all(|(_, output)| *output == Discard(SmrFault::Limited)));
    // And SMRs about a thousand prefixes cause no more than all together may.
    let many: Vec<EidPrefix> = (0..1_000).map(|n| eid(&format!("10.{}.{}.0/24", n / 250, n % 250))).collect();
    let outputs = world.at(20_000, Input::Solicited(&many));
    assert_eq!(outputs.iter().filter(|output| matches!(output, Ask(_))).count(), 100);
    assert!(outputs.contains(&Discard(SmrFault::LimitedOverall)));
}

/// SMR-4: nothing cached: nothing out, and nothing kept after a hundred thousand of them.
#[test]
fn what_is_not_cached_is_not_asked_for() {
    let mut world = World::new();
    for ms in 0..100_000 {
        assert_eq!(world.at(ms, Input::Solicited(&[])), [Discard(SmrFault::NotCached)]);
    }
    assert!(world.smr.asked.watched() == 0 && world.smr.contacts.is_empty() && world.smr.tellings.is_empty());
}

#[test]
fn tables_have_bounds() {
    let mut world = World::new();
    world.smr.settings.most = 10;
    let rloc = |n: u8| ip(&format!("240.0.0.{n}"));
    for n in 1..=10 {
        assert_eq!(world.at(0, Input::Used(rloc(n))), []);
    }
    assert_eq!(world.at(1, Input::Used(rloc(11))), [Discard(SmrFault::ContactsFull)]);
    assert_eq!(world.at(60_000, Input::Used(rloc(11))), [], "the others are no contacts any more");
    for n in 1..=9 {
        world.at(60_000, Input::Used(rloc(n)));
    }
    assert_eq!(world.at(60_001, Input::Changed(eid(OURS))).len(), 10);
    let more = world.at(60_002, Input::Changed(eid("1.2.0.0/16")));
    assert_eq!(more, [Discard(SmrFault::QueueFull)]);
}

/// SMR-1, SMR-5, SMR-6: S and D, one record; the record and the Source-EID name the prefix that changed.
#[test]
fn an_smr_names_the_prefix_that_changed() {
    let smr = request(0x3333_3333_4444_4444, &[ip("203.0.113.2")], eid("198.51.100.0/24"));
    let expected = [
        &[0x11, 0, 0x20, 1, 0x33, 0x33, 0x33, 0x33, 0x44, 0x44, 0x44, 0x44][..], // S, D, IRC 0, one record; nonce
        &[0, 1, 198, 51, 100, 0],
        &[0, 1, 203, 0, 113, 2],
        &[0, 24, 0, 1, 198, 51, 100, 0],
    ];
    assert_eq!(smr.encode(), expected.concat());
}

/// SMR-5: the record names the prefix; the Source-EID does where the record leads nowhere; AFI 0 there is fine.
#[test]
fn the_record_is_preferred_to_the_source_eid() {
    let known = [eid("2.2.0.0/16"), eid("3.3.0.0/16")];
    let cached = |asked: &EidPrefix| known.iter().copied().filter(|known| known.covers(asked)).collect();
    let smr = |record: &str, source: Option<&str>| {
        let source = source.map(|text| Eid { instance: InstanceId::DEFAULT, address: ip(text) });
        MapRequest { source_eid: source, ..request(1, &[ip("240.0.0.1")], eid(record)) }
    };
    for (record, source, expected) in [
        ("2.2.0.0/16", Some("3.3.3.3"), &[known[0]][..]),
        ("2.2.0.0/16", None, &[known[0]]),
        ("9.9.0.0/16", Some("3.3.3.3"), &[known[1]]),
        ("9.9.0.0/16", None, &[]),
    ] {
        assert_eq!(solicited(&smr(record, source), cached), expected, "{record} {source:?}");
    }
}
