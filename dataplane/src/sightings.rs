//! What the LISP headers of peers tell the control thread: bounded, and each thing once in a while.
//!
//! Every packet of a peer says the same again. A `Desk` keeps in mind what it passed on, so that one thing goes up once in
//! its time however many packets say it, and a peer whose packets all say different things is heard as rarely. What it
//! cannot keep in mind it passes on, within the bounds of a turn and of a second: then the queue and the control thread's own limits hold.

#![forbid(unsafe_code)]

use std::{hash::BuildHasher, net::IpAddr, time::Instant};

use foldhash::fast::FixedState;

use crate::{
    counters::Counters,
    features::TOLD_MAX,
    mapping::{Eid, MapVersion},
    queue::SightingQueue,
};

/// Most sightings that go up in one turn.
const TURN_MAX: usize = 16;
/// Most that go up in a millisecond, on average: each thing that is kept in mind once a second, and as many again.
const PER_MS: u32 = 8;
/// What a quiet time saves up.
const SAVED_MAX: u32 = 512;
/// Things kept in mind.
const PLACES: usize = 4096;
/// How soon a peer is heard that says another thing than before, milliseconds.
const OTHER_AFTER: u32 = 100;
/// How soon the same is passed on again, milliseconds.
const SAME_AFTER: u32 = 1_000;
/// The same of what has an SMR sent: the pace of SMRs (RFC 9301 §6.1), so that each can bring one about.
const OLDER_AFTER: u32 = 3_000;
/// The same once that was done [`TOLD_MAX`] times (RFC 9302 §7.1).
const OLDER_STILL_AFTER: u32 = 30_000;
/// What was not said for so long is forgotten, milliseconds.
const FORGOTTEN_AFTER: u32 = 60_000;

/// What the header of a packet from a peer told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The RLOC it came from.
    pub rloc: IpAddr,
    /// Who sent the inner packet.
    pub source: Eid,
    /// Whom it is for.
    pub destination: IpAddr,
    /// What.
    pub seen: Seen,
}

/// What a header told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// V: the peer's mapping of the destination, which is ours, is of this version, older than ours.
    DestOlder(MapVersion),
    /// V: the mapping of the source is of this version, newer than ours of it.
    SourceNewer(MapVersion),
    /// L: Locator-Status-Bits of the source's site that are not those of its mark.
    Status {
        /// Bit i is the locator of ordinal i.
        bits: u32,
        /// How many bits there were room for: 8 or 32.
        width: u8,
    },
    /// N and E: the peer asks for this nonce back.
    EchoAsked(u32),
    /// N: a nonce, perhaps the one that we asked for.
    Nonce(u32),
    /// No nonce.
    NoNonce,
}

impl Seen {
    /// Kind, value, and the time after which the same is passed on again, as often as it was.
    const fn key(self, times: u8) -> (u8, u32, u32) {
        match self {
            Self::DestOlder(version) if times > TOLD_MAX => (1, version.get() as u32, OLDER_STILL_AFTER),
            Self::DestOlder(version) => (1, version.get() as u32, OLDER_AFTER),
            Self::SourceNewer(version) => (2, version.get() as u32, SAME_AFTER),
            Self::Status { bits, .. } => (3, bits, SAME_AFTER),
            Self::EchoAsked(nonce) => (4, nonce, SAME_AFTER),
            Self::Nonce(nonce) => (5, nonce, SAME_AFTER),
            Self::NoNonce => (6, 0, SAME_AFTER),
        }
    }
}

/// What was passed on; the default is nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    key: u64,
    value: u32,
    at: u32,
    times: u8,
}

/// A worker's own.
#[derive(Debug)]
pub(crate) struct Desk {
    queue: SightingQueue,
    places: Box<[Place]>,
    hasher: FixedState,
    begun: Instant,
    /// Milliseconds since [`FORGOTTEN_AFTER`] before that.
    now: u32,
    /// Of [`TURN_MAX`].
    left: usize,
    /// Of [`SAVED_MAX`].
    saved: u32,
    /// Something was queued since [`Desk::take_told`].
    told: bool,
}

impl Desk {
    /// With all its memory; `seed` keeps peers from choosing what collides.
    pub(crate) fn new(queue: SightingQueue, seed: u32, begun: Instant) -> Self {
        Self {
            queue,
            places: vec![Place::default(); PLACES].into(),
            hasher: FixedState::with_seed(u64::from(seed)),
            begun,
            now: FORGOTTEN_AFTER,
            left: TURN_MAX,
            saved: SAVED_MAX,
            told: false,
        }
    }

    /// A turn begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        // After 49 days the count begins anew, and a few things are passed on once more or once less.
        let passed = now.saturating_duration_since(self.begun).as_millis() as u32;
        let before = std::mem::replace(&mut self.now, passed.wrapping_add(FORGOTTEN_AFTER));
        let since = self.now.saturating_sub(before);
        self.saved = since.saturating_mul(PER_MS).saturating_add(self.saved).min(SAVED_MAX);
        self.left = TURN_MAX.min(self.saved as usize);
    }

    /// Whether something was queued since the last call: the control thread should be woken.
    pub(crate) fn take_told(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }

    /// Passes a sighting on unless that was done lately, and tells how often it was by now. `about` is which thing of the
    /// peer's, or of ours, it speaks of.
    pub(crate) fn tell(&mut self, sighting: Sighting, about: u64, counters: &Counters) -> u8 {
        let (kind, value, _) = sighting.seen.key(0);
        let key = self.hasher.hash_one((kind, sighting.rloc, about)) | 1;
        let place = key as usize / 2 % PLACES;
        let before = self.places[place];
        let passed = self.now.wrapping_sub(before.at);
        let known = before.key == key && passed < FORGOTTEN_AFTER;
        let same = known && before.value == value;
        let times = if same { before.times } else { 0 };
        let (.., again) = sighting.seen.key(times);
        if same && passed < again || known && passed < OTHER_AFTER {
            return times;
        }
        if self.left == 0 || !self.queue.offer(sighting) {
            counters.sightings_lost.add(1);
            return times;
        }
        self.left -= 1;
        self.saved -= 1;
        self.told = true;
        counters.sightings.add(1);
        let times = times.saturating_add(1);
        self.places[place] = Place { key, value, at: self.now, times };
        times
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{mapping::InstanceId, queue};

    struct World {
        desk: Desk,
        up: queue::Consumer<Sighting>,
        counters: Counters,
        start: Instant,
    }

    impl World {
        fn new(room: usize) -> Self {
            let (queue, up) = queue::sightings(room);
            let start = Instant::now();
            Self { desk: Desk::new(queue, 7, start), up, counters: Counters::default(), start }
        }

        /// Tells it at that time, and says whether it went up.
        fn at(&mut self, ms: u64, last: u8, seen: Seen) -> bool {
            self.desk.begin(self.start + Duration::from_millis(ms));
            self.tell(last, seen)
        }

        fn tell(&mut self, last: u8, seen: Seen) -> bool {
            let source = Eid { instance: InstanceId::DEFAULT, address: [2, 2, 2, 2].into() };
            let sighting = Sighting { rloc: [240, 0, 0, last].into(), source, destination: [1, 1, 1, 1].into(), seen };
            self.desk.tell(sighting, 0, &self.counters);
            let told = self.up.pop() == Ok(sighting);
            assert_eq!(self.desk.take_told(), told);
            told
        }
    }

    #[test]
    fn the_same_goes_up_once_in_its_time_and_each_peer_for_itself() {
        let mut world = World::new(8);
        let nonce = Seen::EchoAsked(7);
        let told: Vec<u64> = (0..3_000).filter(|ms| world.at(*ms, 1, nonce)).collect();
        assert_eq!(told, [0, 1_000, 2_000]);
        assert!(world.at(3_000, 2, nonce) && world.at(3_000, 2, Seen::Nonce(7)));
    }

    /// RCH-18: a peer that asks for another nonce with each packet has few of them passed on.
    #[test]
    fn what_always_differs_has_a_pace_too() {
        let mut world = World::new(8);
        let told: Vec<u64> = (0..1_000).filter(|ms| world.at(*ms, 1, Seen::EchoAsked(*ms as u32))).collect();
        assert_eq!(told, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    }

    #[test]
    fn a_turn_and_the_queue_have_their_bounds_and_what_is_lost_is_counted() {
        let mut world = World::new(100);
        world.desk.begin(world.start);
        let told = (0..100).filter(|last| world.tell(*last, Seen::NoNonce)).count();
        assert_eq!((told, world.counters.sightings.get(), world.counters.sightings_lost.get()), (16, 16, 84));

        // However short the turns are, a second has its bound too.
        let mut world = World::new(1);
        let mut told = 0;
        for turn in 0..100_000_u64 {
            world.desk.begin(world.start + Duration::from_micros(10 * turn));
            told += usize::from(world.tell(turn as u8, Seen::EchoAsked(turn as u32)));
        }
        assert!(told <= 512 + 8 * 1000, "{told}");

        let mut world = World::new(1);
        world.desk.begin(world.start);
        let sighting = |last: u8| Sighting {
            rloc: [240, 0, 0, last].into(),
            source: Eid { instance: InstanceId::DEFAULT, address: [2, 2, 2, 2].into() },
            destination: [1, 1, 1, 1].into(),
            seen: Seen::NoNonce,
        };
        assert_eq!(world.desk.tell(sighting(1), 0, &world.counters), 1);
        assert_eq!(world.desk.tell(sighting(2), 0, &world.counters), 0, "no room, so it is tried with the next packet");
        assert_eq!(world.counters.sightings_lost.get(), 1);
        assert_eq!(world.up.pop(), Ok(sighting(1)));
        assert_eq!(world.desk.tell(sighting(2), 0, &world.counters), 1);
    }
}
