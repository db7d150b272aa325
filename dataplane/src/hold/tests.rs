//! The queue against a plain model: lists in a map, everything searched.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{frame::Umem, mapping::InstanceId, port::Region, verdict::Wanted};

const LIMIT: usize = 9;

#[derive(Debug, Clone)]
enum Step {
    /// A frame for EID n arrives; whether the queue to the control thread has room.
    Hold(u8, bool),
    /// The mapping of EID n arrives.
    Settle(u8),
    Wait(u64),
    Expire,
    /// The queue to the control thread takes so many.
    AskAgain(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_u8, any::<bool>()).prop_map(|(eid, room)| Step::Hold(eid, room)),
        2 => (0..6_u8).prop_map(Step::Settle),
        3 => (0..2000_u64).prop_map(Step::Wait),
        3 => Just(Step::Expire),
        1 => (0..3_usize).prop_map(Step::AskAgain),
    ];
    proptest::collection::vec(step, 1..120)
}

fn miss(eid: u8) -> Miss {
    let address = [2, 2, 2, eid].into();
    let destination = Eid { instance: InstanceId::DEFAULT, address };
    Miss { wanted: Wanted::Mapping, destination, source: [1, 1, 1, 1].into() }
}

/// For each EID: when it was asked for, and its frames with their times of arrival, oldest first.
#[derive(Default)]
struct Model(BTreeMap<u8, (Option<Instant>, Frames)>);

type Frames = Vec<(usize, Instant)>;

impl Model {
    fn len(&self) -> usize {
        self.0.values().map(|(_, frames)| frames.len()).sum()
    }

    /// What holding does: the frame that gives way, and whether to ask; `None` if full.
    fn hold(&mut self, eid: u8, frame: usize, now: Instant) -> Option<(Option<usize>, bool)> {
        let full = self.len() == LIMIT;
        let known = self.0.get(&eid).map_or(0, |(_, frames)| frames.len());
        if full && known < PER_EID {
            return None;
        }
        let (asked, frames) = self.0.entry(eid).or_default();
        let displaced = (frames.len() == PER_EID).then(|| frames.remove(0).0);
        frames.push((frame, now));
        Some((displaced, asked.is_none_or(|asked| now - asked >= ASK_AGAIN)))
    }
}

proptest! {
    #[test]
    fn holds_what_the_model_holds(steps in steps()) {
        let mut umem = Umem::new(Region::anonymous(64));
        let mut queue = HoldQueue::new(LIMIT);
        let mut model = Model::default();
        let mut now = Instant::now();
        let mut swept = None;
        let mut freed = Vec::new();
        for step in steps {
            match step {
                Step::Hold(eid, room) => {
                    let frame = umem.allocate().unwrap();
                    let start = frame.start();
                    let expected = model.hold(eid, start, now);
                    match queue.hold(miss(eid), Whose::Site, frame, 3, now) {
                        Place::Held { displaced, ask } => {
                            prop_assert_eq!(Some((displaced.as_ref().map(|held| held.frame.start()), ask)), expected);
                            if ask && room {
                                queue.asked(miss(eid).destination, Whose::Site, now);
                                model.0.get_mut(&eid).unwrap().0 = Some(now);
                            }
                            displaced.into_iter().for_each(|held| umem.release(held.frame));
                        }
                        Place::Full(frame) => {
                            prop_assert_eq!((frame.start(), expected), (start, None));
                            umem.release(frame);
                        }
                    }
                }
                Step::Settle(eid) => {
                    queue.settle(|waiting| *waiting == miss(eid), &mut freed);
                    let expected: Vec<usize> =
                        model.0.remove(&eid).into_iter().flat_map(|(_, frames)| frames).map(|(frame, _)| frame).collect();
                    prop_assert_eq!(freed.iter().map(|held| held.frame.start()).collect::<Vec<_>>(), expected);
                }
                Step::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                Step::Expire => {
                    queue.expire(now, &mut freed);
                    let late: Vec<usize> = freed.iter().map(|held| held.frame.start()).collect();
                    // Nothing early; nothing left that is due, unless a sweep was less than ten milliseconds ago.
                    for (_, frames) in model.0.values_mut() {
                        for (frame, arrived) in frames.extract_if(.., |(frame, _)| late.contains(frame)) {
                            prop_assert!(now - arrived >= PATIENCE, "frame {} left early", frame);
                        }
                        let due = frames.iter().any(|(_, arrived)| now - *arrived >= PATIENCE);
                        prop_assert!(!due || swept.is_some_and(|swept| now - swept < SWEEP));
                    }
                    model.0.retain(|_, (_, frames)| !frames.is_empty());
                    if !late.is_empty() {
                        swept = Some(now);
                    }
                }
                Step::AskAgain(mut room) => {
                    let unasked = model.0.values().filter(|(asked, _)| asked.is_none()).count();
                    let expected = unasked.min(room);
                    let mut offered = Vec::new();
                    let taken = queue.ask_again(now, |miss| {
                        offered.push(miss);
                        room > 0 && { room -= 1; true }
                    });
                    prop_assert_eq!(taken, expected);
                    for asked in &offered[..taken] {
                        let (eid, entry) = model.0.iter_mut().find(|(eid, _)| miss(**eid) == *asked).unwrap();
                        prop_assert!(entry.0.replace(now).is_none(), "EID {} asked for already", eid);
                    }
                }
            }
            freed.drain(..).for_each(|held| umem.release(held.frame));
            prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.len() == 0));
            prop_assert_eq!(umem.slots() - umem.free(), queue.len());
        }
        queue.drain(&mut freed);
        prop_assert_eq!(freed.len(), model.len());
        freed.drain(..).for_each(|held| umem.release(held.frame));
    }
}

#[test]
fn keys_that_come_and_go_never_make_the_map_grow() {
    let mut umem = Umem::new(Region::anonymous(LIMIT + 1));
    let mut queue = HoldQueue::new(LIMIT);
    let (places, waiting) = (queue.places.capacity(), queue.waiting.capacity());
    let now = Instant::now();
    let mut freed = Vec::new();
    for n in 0..100_000_u32 {
        let mut one = miss(0);
        one.destination.address = n.to_be_bytes().into();
        assert!(matches!(queue.hold(one, Whose::Site, umem.allocate().unwrap(), 0, now), Place::Held { .. }));
        if queue.len() == LIMIT {
            let mut keep = n;
            queue.settle(
                |_| {
                    keep = keep.rotate_left(5) ^ n;
                    !keep.is_multiple_of(3)
                },
                &mut freed,
            );
            if queue.len() == LIMIT {
                queue.drain(&mut freed);
            }
        }
        freed.drain(..).for_each(|held| umem.release(held.frame));
    }
    assert_eq!((queue.places.capacity(), queue.waiting.capacity()), (places, waiting));
}
