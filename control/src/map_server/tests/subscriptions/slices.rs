//! Changes that many hear of: noted in slices, and none is lost, whatever happens meanwhile.

use std::collections::BTreeMap;

use super::*;
use crate::map_server::subscriptions::{Ask, SLICE, Said};

const CROWD: u32 = 3000;
const WHOLE: &str = "198.51.0.0/16";
/// Nonces of one subscriber: fewer are used.
const NONCES: u64 = 1 << 20;

fn named(number: u32) -> XtrIdentity {
    XtrIdentity { xtr_id: std::array::from_fn(|at| if at < 4 { number.to_be_bytes()[at] } else { 7 }), site_id: 1 }
}

/// Of each subscriber what it was told last, of each prefix the locator.
#[derive(Default)]
struct Heard(BTreeMap<u32, BTreeMap<String, Vec<String>>>);

impl World {
    /// Subscribers that are told at once, as far as the machine gets in a turn, each to its prefix.
    fn crowd(prefix: impl Fn(u32) -> String) -> Self {
        let mut settings = Settings { journal: true, ..publishing() };
        settings.publishing.as_mut().unwrap().pace = Rate { burst: 1_000_000, every: Duration::from_nanos(1) };
        let mut world = Self::new(settings);
        world.proxied(ONE, WHOLE, &["240.0.254.21"]);
        for number in 0..CROWD {
            world.join(number, &prefix(number), &mut Heard::default());
        }
        assert_eq!(world.server.subscribed_len(), CROWD as usize);
        world
    }

    /// One more subscribes, or does so again: its Map-Notify says what is registered.
    fn join(&mut self, number: u32, prefix: &str, heard: &mut Heard) {
        let rlocs = [address(SUBSCRIBER)];
        let eid = eid(prefix);
        let (now, registry) = (self.now, &self.server.registry);
        let (found, _) = registry.table.index.covering(&eid).unwrap();
        let records = vec![Mapping { eid, ..registry.published(found) }];
        let own = self.server.subscriptions.as_mut().unwrap();
        let known = own.iter_from(std::ops::Bound::Included((named(number), eid))).next();
        let known = known.filter(|one| one.xtr == named(number)).map(|one| one.nonce);
        let nonce = known.map_or(u64::from(number + 1) * NONCES, |nonce| nonce + 1);
        let (xtr, source) = (named(number), rlocs[0]);
        let ask = Ask { xtr, eid, nonce, ends: false, rlocs: &rlocs, source, own: None };
        let mut todo = Vec::new();
        own.subscribe(now, &ask, Said { records, rest: Vec::new(), temporary: false }, &mut todo);
        self.hear(&todo, heard);
    }

    /// All that is sent is read and acknowledged, and what follows from that too. Each turn sends no more than it may.
    fn hear(&mut self, outputs: &[Output], heard: &mut Heard) {
        let mut waiting = notifies(outputs);
        while let Some((_, notify)) = waiting.pop() {
            let told = heard.0.entry((notify.nonce / NONCES) as u32 - 1).or_default();
            for (prefix, _, locators) in super::told(&notify) {
                told.insert(prefix, locators);
            }
            let next = notifies(&self.thank(&notify));
            assert!(next.len() <= SLICE + 1);
            waiting.extend(next);
        }
    }

    /// Turns until nothing is due.
    fn work_off(&mut self, heard: &mut Heard) {
        while self.server.due().is_some_and(|due| due <= self.now) {
            let outputs = self.step(Input::Wake);
            self.hear(&outputs, heard);
        }
    }
}

fn all_know(heard: &Heard, prefix: impl Fn(u32) -> String, rloc: &str) {
    for number in 0..CROWD {
        let told = heard.0.get(&number).and_then(|told| told.get(&prefix(number)));
        assert_eq!(told, Some(&vec![rloc.to_owned()]), "{number}");
    }
}

/// PS-10: a change is noted for so many in a turn, and the rest is due at once. What changes again meanwhile reaches all as it is then;
/// who comes, renews or goes meanwhile gets no harm.
#[test]
fn a_change_is_noted_in_slices() {
    let mut world = World::crowd(|_| WHOLE.to_owned());
    let outputs = world.at(1).proxied(ONE, WHOLE, &["240.0.254.22"]);
    let first = notifies(&outputs).len();
    assert!((1..=SLICE).contains(&first), "{first} of {CROWD} in one turn");
    assert!(world.server.due().unwrap() <= world.now);
    let mut heard = Heard::default();
    // Nothing of the first slice is acknowledged before the next change.
    let later = world.proxied(ONE, WHOLE, &["240.0.254.23"]);
    world.hear(&outputs, &mut heard);
    world.hear(&later, &mut heard);
    for number in [0, 1500, CROWD - 1] {
        world.join(number, WHOLE, &mut heard);
    }
    world.join(CROWD, WHOLE, &mut heard);
    let gone = world.unsubscribe(SUBSCRIBER, named(7), 8 * NONCES + 500, WHOLE);
    world.hear(&gone, &mut Heard::default());
    heard.0.entry(7).or_default().insert(WHOLE.to_owned(), vec!["240.0.254.23".to_owned()]);
    world.work_off(&mut heard);
    all_know(&heard, |_| WHOLE.to_owned(), "240.0.254.23");
    assert_eq!(world.server.subscribed_len(), CROWD as usize);
}

/// PS-10: the same for those who asked for parts of it.
#[test]
fn a_change_reaches_all_parts_in_slices() {
    let part = |number: u32| format!("198.51.{}.{}/28", number >> 4, (number & 15) << 4);
    let mut world = World::crowd(part);
    let mut heard = Heard::default();
    let outputs = world.at(1).proxied(ONE, WHOLE, &["240.0.254.22"]);
    assert!((1..=SLICE).contains(&notifies(&outputs).len()));
    world.hear(&outputs, &mut heard);
    // A part that gets a mapping of its own meanwhile hears of that.
    let own = part(2500);
    let outputs = world.proxied(ONE, &own, &["240.0.254.99"]);
    world.hear(&outputs, &mut heard);
    world.work_off(&mut heard);
    assert_eq!(heard.0[&2500][&own], ["240.0.254.99"]);
    heard.0.entry(2500).or_default().insert(own, vec!["240.0.254.22".to_owned()]);
    all_know(&heard, part, "240.0.254.22");
}

/// PS-10, PS-5: after a restart all are told everything, a slice in each turn.
#[test]
fn everything_is_told_in_slices() {
    let before = World::crowd(|_| WHOLE.to_owned());
    let file = before.state();
    let mut settings = Settings { journal: true, ..publishing() };
    settings.publishing.as_mut().unwrap().pace = Rate { burst: 1_000_000, every: Duration::from_nanos(1) };
    let mut world = World::new(settings);
    world.nonce = before.nonce;
    world.server.restore(world.now, &file, &mut Vec::new()).unwrap();
    let mut heard = Heard::default();
    world.at(170).proxied(ONE, WHOLE, &["240.0.254.21"]);
    world.work_off(&mut heard);
    heard = Heard::default();
    let outputs = world.at(190).step(Input::Wake);
    assert!((1..=SLICE).contains(&notifies(&outputs).len()));
    assert!(world.server.due().unwrap() <= world.now);
    world.hear(&outputs, &mut heard);
    world.work_off(&mut heard);
    all_know(&heard, |_| WHOLE.to_owned(), "240.0.254.21");
}
