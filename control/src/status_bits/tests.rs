//! Stories of locators that go and come back.

use altitude_dataplane::mapping::{Action, InstanceId, Ttl};

use super::*;
use Output::{Discard, Hint, Known, Resume};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn locators(addresses: &[&str]) -> Vec<Locator> {
    addresses.iter().map(|address| Locator::unicast(ip(address), 1, 50)).collect()
}

fn own(text: &str, addresses: &[&str]) -> Mapping {
    let negative = Mapping::negative(eid(text), Ttl::Minutes(1440), Action::NoAction);
    Mapping { locators: locators(addresses), ..negative }
}

struct World {
    machine: StatusBits,
    start: Instant,
}

impl World {
    fn new(database: &[Mapping]) -> Self {
        let start = Instant::now();
        Self { machine: StatusBits::new(database, start), start }
    }

    fn after(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn at(&mut self, ms: u64, input: Input<'_>) -> Vec<Output> {
        let mut todo = Vec::new();
        self.machine.step(self.after(ms), input, &mut todo);
        todo
    }

    fn seen(&mut self, ms: u64, locators: &[Locator], bits: u32, width: u8) -> Vec<Output> {
        self.at(ms, Input::Seen { eid: eid(THEIRS), locators, bits, width })
    }
}

const THEIRS: &str = "2.2.0.0/16";

/// RCH-13, LOC-7: bits by ordinal, unusable locators counted too; a change of 1 to 0 or back has that locator probed, and
/// nothing else is concluded. The first bits are those of vector D01, to a set of two.
#[test]
fn a_change_has_the_locator_probed() {
    let two = locators(&["240.0.254.20", "240.0.254.21"]);
    let mut world = World::new(&[]);
    assert_eq!(world.seen(0, &two, 1, 32), [Hint(ip("240.0.254.21")), Known(eid(THEIRS), 1)]);
    assert_eq!(world.machine.seen_bits(&eid(THEIRS), &two), Some(1));
    assert_eq!(world.seen(1_000, &two, 1, 32), [Discard(StatusFault::Known)]);
    assert_eq!(world.seen(4_000, &two, 3, 32), [Hint(ip("240.0.254.21")), Known(eid(THEIRS), 3)]);
    // Of locators that we do not know nothing is concluded.
    assert_eq!(world.seen(10_000, &two, 0xff03, 32), [Known(eid(THEIRS), 0xff03)]);
    // The record said that the first is not reachable: that it says so too is no change.
    let mut gone = two.clone();
    gone[0].reachable = false;
    let mut world = World::new(&[]);
    assert_eq!(world.seen(0, &gone, 2, 32), [Known(eid(THEIRS), 2)]);
}

/// RCH-13: beside an Instance-ID there are eight bits, and the locators behind them are as before.
#[test]
fn eight_bits_say_nothing_of_the_ninth_locator() {
    let addresses: Vec<String> = (1..=9).map(|n| format!("240.0.254.{n}")).collect();
    let nine = locators(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let mut world = World::new(&[]);
    assert_eq!(world.seen(0, &nine, 0x7f, 8), [Hint(ip("240.0.254.8")), Known(eid(THEIRS), 0x17f)]);
    assert_eq!(world.seen(9_000, &nine, 0x7f, 32), [Hint(ip("240.0.254.9")), Known(eid(THEIRS), 0x7f)]);
}

/// RCH-13: a peer whose bits change with every packet: two probes of a locator at once, then one in three seconds.
#[test]
fn bits_that_always_change_are_acted_on_at_a_bounded_pace() {
    let two = locators(&["240.0.254.20", "240.0.254.21"]);
    let mut world = World::new(&[]);
    let mut hints = Vec::new();
    for ms in 0..30_000 {
        let outputs = world.seen(ms, &two, (ms % 4) as u32, 32);
        if outputs.iter().any(|output| matches!(output, Hint(_))) {
            hints.push(ms);
        }
    }
    assert!((10..=12).contains(&hints.len()), "{hints:?}");
    // Ten thousand prefixes at once: a hundred.
    let acted = (0..10_000).filter(|n| {
        let eid = eid(&format!("10.{}.{}.0/24", n / 250, n % 250));
        let outputs = world.at(60_000, Input::Seen { eid, locators: &two, bits: 1, width: 32 });
        outputs.iter().any(|output| matches!(output, Hint(_)))
    });
    assert_eq!(acted.count(), 100);
}

/// RCH-13, LOC-7: what was said of one locator-set says nothing of the next.
#[test]
fn bits_belong_to_a_locator_set() {
    let (two, other) = (locators(&["240.0.254.20", "240.0.254.21"]), locators(&["240.0.254.20", "240.0.254.22"]));
    let mut world = World::new(&[]);
    world.seen(0, &two, 1, 32);
    assert_eq!(world.machine.seen_bits(&eid(THEIRS), &other), None);
    assert_eq!(world.seen(9_000, &other, 1, 32), [Hint(ip("240.0.254.22")), Known(eid(THEIRS), 1)]);
    assert_eq!(world.machine.seen_bits(&eid(THEIRS), &two), None);
    world.at(9_001, Input::Gone(eid(THEIRS)));
    assert!(world.machine.seen.is_empty());
}

/// RCH-13: our bits are our R bits, in wire order; of more than 32 locators the first 32.
#[test]
fn our_bits_are_the_r_bits() {
    let mut three = locators(&["240.0.254.10", "240.0.254.11", "240.0.254.12"]);
    assert_eq!(bits(&three), 0b111);
    three[1].reachable = false;
    assert_eq!(bits(&three), 0b101);
    three[0].priority = 255; // not usable, and yet it has its place
    assert_eq!((bits(&three), bits(&[])), (0b101, 0));
    let many: Vec<Locator> = (0..40_u8).map(|n| Locator::unicast([240, 0, 0, n].into(), 1, 1)).collect();
    assert_eq!(bits(&many), u32::MAX);
}

/// RCH-14: a locator was added: no bits for five minutes; another mapping of ours goes on with its own.
#[test]
fn after_a_change_of_the_set_there_are_no_bits_for_five_minutes() {
    let (before, other) = (own("1.1.0.0/16", &["240.0.254.10"]), own("1.2.0.0/16", &["240.0.254.10"]));
    let after = own("1.1.0.0/16", &["240.0.254.10", "240.0.254.11"]);
    let mut world = World::new(&[before.clone(), other.clone()]);
    assert_eq!((world.machine.own_bits(&before), world.machine.own_bits(&other)), (Some(1), Some(1)));
    let changed = world.after(1_000);
    world.machine.set_database(&[after.clone(), other.clone()], changed);
    assert_eq!((world.machine.own_bits(&after), world.machine.own_bits(&other)), (None, Some(1)));
    assert_eq!(world.machine.due(), Some(changed + QUIET_FOR));
    // That a locator fails meanwhile changes the state, not the set.
    let mut failed = after.clone();
    failed.locators[0].reachable = false;
    let later = world.after(100_000);
    world.machine.set_database(&[failed.clone(), other], later);
    assert_eq!(world.at(300_999, Input::Wake), []);
    assert_eq!(world.machine.own_bits(&failed), None);
    assert_eq!(world.at(301_000, Input::Wake), [Resume(eid("1.1.0.0/16"))]);
    assert_eq!(world.machine.own_bits(&failed), Some(0b10));
}
