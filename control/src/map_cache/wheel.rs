//! The deadlines of all entries: a hierarchical timing wheel whose blocks come apart a little at a time.
//!
//! ```text
//! level 0   slots of 1 tick      this block of 256 ticks and the next
//! level 1   slots of 256 ticks   this block of 256 × 256 ticks and the next
//! level 2   slots of 65,536 …    …
//! ```
//!
//! Setting and clearing a deadline moves one entry between two lists. A slot of an upper level must be dealt out to the level
//! below before its time comes. Because a level has room for two blocks, that is done during the whole block before, in
//! even shares, so that no step ever deals out a large slot at once, however many deadlines stand together.
//!
//! Source: Varghese and Lauck, "Hashed and hierarchical timing wheels" (SOSP 1987); the dealing in shares is our own.

use crate::slab::Chunked;

const NONE: u32 = u32::MAX;
/// Bits of a tick that one level tells apart.
const BITS: u32 = 8;
/// Slots of a level: two blocks.
const SLOTS: usize = 2 << BITS;
/// 6 × 8 bits of ticks.
const LEVELS: usize = 6;
/// The latest tick there is: 892,000 years of tenths of a second.
const TICK_MAX: u64 = (1 << (BITS * LEVELS as u32)) - 1;
/// Deadlines dealt out at least, when some are: few enough not to be felt, enough that a few need no second wake-up.
const SHARE_MIN: u32 = 64;

/// Where an entry stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The tick in the upper bits, the level in the lower 8; [`Place::UNSET`] if in no slot.
    at: u64,
    next: u32,
    previous: u32,
}

impl Place {
    const UNSET: Self = Self { at: u64::MAX, next: NONE, previous: NONE };

    const fn tick(&self) -> u64 {
        self.at >> 8
    }

    const fn level(&self) -> usize {
        (self.at & 0xff) as usize
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    first: u32,
    count: u32,
}

#[derive(Debug)]
struct Level {
    slots: Box<[Slot; SLOTS]>,
    occupied: [u64; SLOTS / 64],
}

impl Level {
    fn new() -> Self {
        Self { slots: Box::new([Slot { first: NONE, count: 0 }; SLOTS]), occupied: [0; SLOTS / 64] }
    }

    fn slot(&mut self, turn: u64) -> &mut Slot {
        &mut self.slots[turn as usize % SLOTS]
    }

    fn mark(&mut self, turn: u64, occupied: bool) {
        let at = turn as usize % SLOTS;
        let bit = 1 << (at % 64);
        if occupied {
            self.occupied[at / 64] |= bit;
        } else {
            self.occupied[at / 64] &= !bit;
        }
    }

    /// The first occupied slot from `turn` on; all are less than [`SLOTS`] away.
    fn first(&self, turn: u64) -> Option<u64> {
        let start = turn as usize % SLOTS;
        let words = self.occupied.len();
        // The word of the start twice: first its upper bits, at the end its lower ones.
        for step in 0..=words {
            let index = (start / 64 + step) % words;
            let mask = match step {
                0 => u64::MAX << (start % 64),
                step if step == words => !(u64::MAX << (start % 64)),
                _ => u64::MAX,
            };
            let word = self.occupied[index] & mask;
            if word != 0 {
                let at = index * 64 + word.trailing_zeros() as usize;
                return Some(turn + ((at + SLOTS - start) % SLOTS) as u64);
            }
        }
        None
    }
}

/// See the module's text. Entries are known by number, ticks count from the start. 16 octets an entry.
#[derive(Debug)]
pub(crate) struct Wheel {
    places: Chunked<Place>,
    levels: [Level; LEVELS],
    /// All deadlines before this tick were handed out.
    now: u64,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self { places: Chunked::new(), levels: std::array::from_fn(|_| Level::new()), now: 0 }
    }

    /// Sets the deadline of `number`, in place of the one it had. One in the past is due at once.
    pub(crate) fn arm(&mut self, number: u32, tick: u64) {
        self.disarm(number);
        self.places.reach(number, &Place::UNSET);
        self.link(number, tick.clamp(self.now, TICK_MAX));
    }

    /// Clears the deadline of `number`, if it has one.
    pub(crate) fn disarm(&mut self, number: u32) {
        let Some(&place) = self.places.get(number) else { return };
        if place.at == Place::UNSET.at {
            return;
        }
        let turn = place.tick() >> (BITS * place.level() as u32);
        let level = &mut self.levels[place.level()];
        let slot = level.slot(turn);
        slot.count -= 1;
        let is_empty = slot.count == 0;
        match place.previous {
            NONE => slot.first = place.next,
            previous => self.places[previous].next = place.next,
        }
        if place.next != NONE {
            self.places[place.next].previous = place.previous;
        }
        if is_empty {
            level.mark(turn, false);
        }
        self.places[number] = Place::UNSET;
    }

    /// Takes out one entry whose deadline is not after `until`, with that deadline; earlier ones come first.
    pub(crate) fn pop(&mut self, until: u64) -> Option<(u64, u32)> {
        loop {
            let first = self.levels[0].slot(self.now).first;
            if first != NONE && self.now <= until {
                self.disarm(first);
                return Some((self.now, first));
            }
            match self.next_event().filter(|event| *event <= until) {
                Some(event) => {
                    self.now = event;
                    self.deal();
                }
                None => {
                    self.now = self.now.max(until);
                    return None;
                }
            }
        }
    }

    /// When to call [`pop`](Self::pop) next: at the next deadline, or earlier to deal out some more of a slot.
    pub(crate) fn due(&self) -> Option<u64> {
        let is_due = self.levels[0].first(self.now) == Some(self.now);
        if is_due { Some(self.now) } else { self.next_event() }
    }

    /// The deadline of `number`.
    pub(crate) fn deadline(&self, number: u32) -> Option<u64> {
        self.places.get(number).filter(|place| place.at != Place::UNSET.at).map(Place::tick)
    }

    pub(crate) fn octets(&self) -> usize {
        self.places.octets() + size_of::<Self>() + LEVELS * size_of::<[Slot; SLOTS]>()
    }

    /// The next tick after `now` at which a slot of level 0 is due or a share is to be dealt out.
    fn next_event(&self) -> Option<u64> {
        let due = self.levels[0].first(self.now + 1);
        let shares = (1..LEVELS).filter_map(|index| {
            let (span, below) = (BITS * index as u32, BITS * (index as u32 - 1));
            let turn = self.now >> span;
            let first = self.levels[index].first(turn + 1)?;
            // Into its last block but one: at its start. In it: with the next slot of the level below.
            Some(if first > turn + 1 { (first - 1) << span } else { ((self.now >> below) + 1) << below })
        });
        due.into_iter().chain(shares).min()
    }

    /// Deals out the shares of the slots whose time comes with the next turn of their level; returns how many entries moved.
    fn deal(&mut self) -> u32 {
        let mut moved = 0;
        for index in (1..LEVELS).rev() {
            let (span, below) = (BITS * index as u32, BITS * (index as u32 - 1));
            let next = (self.now >> span) + 1;
            let count = self.levels[index].slot(next).count;
            if count == 0 {
                continue;
            }
            let turns_left = ((next << (span - below)) - (self.now >> below)) as u32;
            for _ in 0..count.div_ceil(turns_left).max(SHARE_MIN).min(count) {
                let first = self.levels[index].slot(next).first;
                let tick = self.places[first].tick();
                self.disarm(first);
                self.link(first, tick);
                moved += 1;
            }
        }
        moved
    }

    /// Puts an entry that stands nowhere into the lowest level that reaches as far as its deadline.
    fn link(&mut self, number: u32, tick: u64) {
        let block = |index: usize, tick: u64| tick >> (BITS * (index as u32 + 1));
        let reaches = |index: &usize| block(*index, tick) - block(*index, self.now) <= 1;
        let index = (0..LEVELS - 1).find(reaches).unwrap_or(LEVELS - 1);
        let turn = tick >> (BITS * index as u32);
        let level = &mut self.levels[index];
        let slot = level.slot(turn);
        let next = slot.first;
        *slot = Slot { first: number, count: slot.count + 1 };
        level.mark(turn, true);
        self.places[number] = Place { at: tick << 8 | index as u64, next, previous: NONE };
        if next != NONE {
            self.places[next].previous = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;

    /// Deadlines the plain way.
    #[derive(Default)]
    struct Model {
        by_tick: BTreeSet<(u64, u32)>,
        ticks: BTreeMap<u32, u64>,
    }

    impl Model {
        fn arm(&mut self, number: u32, tick: u64) {
            self.disarm(number);
            self.by_tick.insert((tick, number));
            self.ticks.insert(number, tick);
        }

        fn disarm(&mut self, number: u32) {
            if let Some(tick) = self.ticks.remove(&number) {
                self.by_tick.remove(&(tick, number));
            }
        }
    }

    #[test]
    fn agrees_with_an_ordered_set_over_half_a_million_operations() {
        let mut random = ChaCha8Rng::from_seed([7; 32]);
        let (mut wheel, mut model, mut now) = (Wheel::new(), Model::default(), 0_u64);
        let mut handed_out = 0;
        for _ in 0..500_000 {
            let number = random.next_u32() % 3000;
            match random.next_u32() % 8 {
                0..4 => {
                    // As often a few ticks as a few thousand years.
                    let distance = random.next_u64() >> (24 + random.next_u32() % 40);
                    wheel.arm(number, now + distance);
                    model.arm(number, now + distance);
                }
                4 => {
                    wheel.disarm(number);
                    model.disarm(number);
                }
                5 => {
                    let first = model.by_tick.first().map(|(tick, _)| *tick);
                    assert_eq!(wheel.due().is_some(), first.is_some());
                    assert!(wheel.due() <= first, "never later than the first deadline");
                    now = wheel.due().unwrap_or(now).max(now);
                }
                _ => now += random.next_u64() >> (34 + random.next_u32() % 30),
            }
            if random.next_u32() % 4 == 0 {
                while let Some((tick, number)) = wheel.pop(now) {
                    assert!(tick <= now && model.by_tick.first().is_some_and(|(first, _)| *first == tick), "in order");
                    assert_eq!(model.ticks.get(&number), Some(&tick));
                    model.disarm(number);
                    handed_out += 1;
                }
                assert!(model.by_tick.first().is_none_or(|(first, _)| *first > now), "none is late");
                assert!(wheel.due().is_none_or(|due| due > now));
            }
            assert_eq!(wheel.deadline(number), model.ticks.get(&number).copied());
        }
        assert!(handed_out > 50_000 && model.ticks.len() > 100, "{handed_out}, {}", model.ticks.len());
    }

    #[test]
    fn a_large_slot_comes_apart_in_small_shares() {
        const COUNT: u32 = 100_000;
        let mut wheel = Wheel::new();
        for number in 0..COUNT {
            // All within one slot of level 2, a day from now, and within ten of level 1.
            wheel.arm(number, 864_000 + u64::from(number % 2560));
        }
        let (mut most, mut wakes) = (0, 0);
        while let Some(event) = wheel.next_event().filter(|event| *event < 864_000) {
            wheel.now = event;
            most = most.max(wheel.deal());
            wakes += 1;
        }
        assert!(most <= 2 * COUNT / 256 + SHARE_MIN, "at most {most} moved in one step");
        assert!(wakes <= 4 * 256, "{wakes} wake-ups");
        let mut handed_out = 0;
        while let Some((tick, number)) = wheel.pop(870_000) {
            assert_eq!(tick, 864_000 + u64::from(number % 2560));
            handed_out += 1;
        }
        assert_eq!((handed_out, wheel.due()), (COUNT, None));
    }

    #[test]
    fn the_last_tick_there_is_holds_what_lies_beyond_it() {
        let mut wheel = Wheel::new();
        wheel.arm(0, u64::MAX);
        assert_eq!((wheel.deadline(0), wheel.pop(TICK_MAX - 1)), (Some(TICK_MAX), None));
        assert_eq!(wheel.pop(TICK_MAX), Some((TICK_MAX, 0)));
    }
}
