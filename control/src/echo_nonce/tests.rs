//! Stories of two routers that ask each other.

use super::*;
use Input::{Answered, Echoes, Heard, Used, Wake};
use Output::{Discard, Lost, Turn};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn peer() -> IpAddr {
    ip("240.0.254.20")
}

struct World {
    machine: EchoNonce,
    start: Instant,
    /// Nonces count up from here.
    random: u64,
}

impl World {
    fn new() -> Self {
        Self { machine: EchoNonce::default(), start: Instant::now(), random: 0x00be_eeee }
    }

    /// One whose peer gives nonces back, and is sent to for an hour.
    fn met() -> Self {
        let mut world = Self::new();
        let until = world.after(3_600_000);
        assert_eq!(world.at(0, Echoes(peer(), true)), []);
        assert_eq!(world.at(0, Used(peer(), until)), []);
        world
    }

    fn after(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn at(&mut self, ms: u64, input: Input) -> Vec<Output> {
        let (mut todo, now) = (Vec::new(), self.after(ms));
        let random = &mut self.random;
        let mut draw = || {
            *random += 1;
            *random
        };
        self.machine.step(now, input, &mut draw, &mut todo);
        todo
    }

    fn carries(&self) -> Option<(u32, bool)> {
        self.machine.nonce(peer()).map(|nonce| (nonce.value, nonce.echo))
    }

    /// The nonce that is asked for.
    fn asked(&self) -> u32 {
        let Some((nonce, true)) = self.carries() else { panic!("{:?}", self.carries()) };
        nonce
    }
}

/// RCH-15: with packets both ways each of ours carries N, E and a nonce until it comes back; the next time it is another.
#[test]
fn a_nonce_is_asked_for_until_it_comes_back() {
    let mut world = World::met();
    assert_eq!(world.carries(), None, "nothing came from there yet");
    assert_eq!(world.at(100, Heard(peer(), Seen::NoNonce)), [Turn(peer())]);
    let first = world.asked();
    assert!(first <= Nonce::MAX);
    assert_eq!(world.at(200, Heard(peer(), Seen::NoNonce)), [], "under way before it was asked");
    assert_eq!(world.at(300, Heard(peer(), Seen::Nonce(first))), [Turn(peer())]);
    assert_eq!((world.carries(), world.machine.is_lost(peer())), (None, false));
    let next =
        (1_000..60_000).step_by(1_000).find(|ms| !world.at(*ms, Heard(peer(), Seen::NoNonce)).is_empty()).unwrap();
    assert!((24_000..=37_000).contains(&next), "{next}");
    assert_ne!(world.asked(), first);
    let counts = Counts { asked: 2, echoed: 1, ..Counts::default() };
    assert_eq!(world.machine.counts(), counts);
}

/// RCH-15: only who says in a Map-Reply that it gives nonces back is asked, and only while packets flow both ways.
#[test]
fn only_who_echoes_and_speaks_is_asked() {
    let until = |world: &World| world.after(3_600_000);
    let mut world = World::new();
    let used = Used(peer(), until(&world));
    world.at(0, used);
    world.at(0, Heard(peer(), Seen::NoNonce));
    assert_eq!(world.carries(), None, "it never said that it echoes");
    world.at(1, Echoes(peer(), true));
    assert!(world.carries().is_some());

    let mut world = World::new();
    world.at(0, Echoes(peer(), true));
    world.at(0, Heard(peer(), Seen::NoNonce));
    assert_eq!(world.carries(), None, "nothing is sent there");
    let used = Used(peer(), until(&world));
    world.at(6_000, used);
    assert_eq!(world.carries(), None, "and that it spoke is long ago");
    world.at(6_001, Heard(peer(), Seen::NoNonce));
    assert!(world.carries().is_some());
    world.at(6_002, Echoes(peer(), false));
    assert_eq!(world.at(6_003, Heard(ip("240.0.254.99"), Seen::EchoAsked(1))), [Discard(NonceFault::Stranger)]);
}

/// RCH-16, RCH-9: packets come back without the echo for three seconds: the path is lost and probed, and an answer overrides it.
/// No packets at all: nothing is concluded.
#[test]
fn packets_without_the_echo_are_a_loss_and_silence_is_not() {
    let mut world = World::met();
    world.at(0, Heard(peer(), Seen::NoNonce));
    let mut script = Vec::new();
    for ms in (500..6_000).step_by(500) {
        script.extend(world.at(ms, Heard(peer(), Seen::NoNonce)).into_iter().map(|output| (ms, output)));
    }
    assert_eq!(script, [(3_000, Turn(peer())), (3_000, Lost(peer()))]);
    assert!(world.machine.is_lost(peer()) && world.carries().is_none());
    assert_eq!(world.at(7_000, Answered(peer())), [Turn(peer())]);
    assert!(!world.machine.is_lost(peer()));
    // Where nobody probes it is tried again after a minute.
    let mut world = World::met();
    world.at(0, Heard(peer(), Seen::NoNonce));
    world.at(3_000, Heard(peer(), Seen::NoNonce));
    assert_eq!(world.machine.due(), Some(world.after(63_000)));
    assert_eq!(world.at(62_999, Wake), []);
    assert_eq!(world.at(63_000, Wake), [Turn(peer())]);
    assert!(!world.machine.is_lost(peer()));

    let mut world = World::met();
    world.at(0, Heard(peer(), Seen::NoNonce));
    assert_eq!(world.machine.due(), Some(world.after(10_000)));
    assert_eq!(world.at(10_000, Wake), [Turn(peer())]);
    assert_eq!((world.machine.is_lost(peer()), world.carries(), world.machine.due()), (false, None, None));
    assert_eq!(world.machine.counts().lost, 0);
}

/// RCH-15: what a peer asks for is given back in all packets to it, without E, for as long as it asks: vector D05, then D06.
#[test]
fn a_nonce_that_is_asked_for_is_given_back() {
    let mut world = World::met();
    assert_eq!(world.at(0, Heard(peer(), Seen::EchoAsked(0xbeef))), [Turn(peer())]);
    assert_eq!(world.carries(), Some((0xbeef, false)));
    assert_eq!(world.at(1_000, Heard(peer(), Seen::EchoAsked(0xbeef))), []);
    assert_eq!(world.at(2_000, Heard(peer(), Seen::EchoAsked(0xcafe))), [Turn(peer())]);
    assert_eq!(world.carries(), Some((0xcafe, false)));
    assert_eq!(world.machine.due(), Some(world.after(7_000)));
    assert_eq!(world.at(7_000, Wake), [Turn(peer())]);
    assert_eq!((world.carries(), world.machine.counts().given_back), (None, 2));
}

/// RCH-17: both ask at once: who hears the other's request takes its own back and answers, and asks only some time later.
#[test]
fn of_two_that_ask_each_gives_way_and_answers() {
    let mut world = World::met();
    world.at(0, Heard(peer(), Seen::NoNonce));
    world.asked();
    assert_eq!(world.at(500, Heard(peer(), Seen::EchoAsked(0xbeef))), [Turn(peer())]);
    assert_eq!(world.carries(), Some((0xbeef, false)));
    // That the other does not echo meanwhile is no loss.
    let mut next = None;
    for ms in (1_000..40_000).step_by(250) {
        let seen = if ms < 4_000 { Seen::EchoAsked(0xbeef) } else { Seen::NoNonce };
        let outputs = world.at(ms, Heard(peer(), seen));
        assert!(!outputs.contains(&Lost(peer())) || next.is_some(), "{ms}");
        if next.is_none() && matches!(world.carries(), Some((_, true))) {
            next = Some(ms);
        }
    }
    assert!(next.is_some_and(|ms| (3_750 + 12_000..=3_750 + 18_250).contains(&ms)), "{next:?}");
}

/// RCH-18: echoes of nonces that were not asked for, or not there, or not any more, do nothing.
#[test]
fn only_the_nonce_that_was_asked_for_there_counts() {
    let mut world = World::met();
    let other = ip("240.0.254.30");
    let until = world.after(3_600_000);
    world.at(0, Echoes(other, true));
    world.at(0, Used(other, until));
    assert_eq!(world.at(0, Heard(peer(), Seen::Nonce(1))), [Discard(NonceFault::Unexpected), Turn(peer())]);
    let ours = world.asked();
    world.at(1, Heard(other, Seen::NoNonce));
    let theirs = world.machine.nonce(other).unwrap().value;
    assert_ne!(ours, theirs, "each locator has its own");
    let unexpected = [Discard(NonceFault::Unexpected)];
    for guess in (0..1_000).filter(|guess| *guess != ours) {
        assert_eq!(world.at(10, Heard(peer(), Seen::Nonce(guess))), unexpected);
    }
    assert_eq!(world.at(11, Heard(other, Seen::Nonce(ours))), unexpected, "by another RLOC");
    assert_eq!(world.asked(), ours);
    world.at(20, Heard(peer(), Seen::Nonce(ours)));
    assert_eq!(world.at(30, Heard(peer(), Seen::Nonce(ours))), unexpected, "once");
    assert_eq!(world.machine.counts().echoed, 1);
}

/// RCH-18, RCH-17: 1e5 requests, each for another nonce: what packets carry changes once a second, and nothing grows.
#[test]
fn a_storm_of_requests_changes_packets_at_a_bounded_pace() {
    let mut world = World::met();
    let mut changes = 0;
    for n in 0..100_000_u32 {
        changes += world.at(u64::from(n) / 10, Heard(peer(), Seen::EchoAsked(n))).len()
            - usize::from(world.machine.nonce(peer()).is_some_and(|nonce| nonce.value != n));
    }
    assert!((10..=14).contains(&changes), "{changes} in ten seconds");
    assert_eq!((world.machine.peers.len(), world.machine.deadlines.len(), world.machine.out.len()), (1, 1, 0));
    for n in 0..20_000_u32 {
        let stranger = IpAddr::from((0x0a00_0000 | n).to_be_bytes());
        assert_eq!(world.at(10_000, Heard(stranger, Seen::EchoAsked(n))), [Discard(NonceFault::Stranger)]);
    }
    assert_eq!(world.machine.peers.len(), 1);
}

/// As many RLOCs as there is room for; those that nobody uses give way.
#[test]
fn the_table_has_a_bound() {
    let mut world = World::new();
    let rloc = |n: u32| IpAddr::from((0x0a00_0000 | n).to_be_bytes());
    let soon = world.after(1_000);
    for n in 0..RLOCS_MAX as u32 {
        assert_eq!(world.at(0, Used(rloc(n), soon)), []);
    }
    assert_eq!(world.at(10, Used(peer(), soon)), [Discard(NonceFault::Full)]);
    assert_eq!(world.at(1_000, Used(peer(), soon)), []);
    assert_eq!(world.machine.peers.len(), RLOCS_MAX);
}
