//! The prober: asks the locators that flows use, or could use next, whether they are there (RLOC-probing).
//!
//! ```text
//!            answer                      answer, or many of them after flapping
//! unknown ────────▶ up ◀───────────────────────────────────── down
//!    │               └── probe, 3 retries: no answer ─────────▶
//!    └── the same ──▶ mute ── answer ──▶ up
//! ```
//!
//! * One probe serves every entry that has the locator: it asks about the prefix that was used last, and what the answer says
//!   of that prefix refreshes its mapping.
//! * Probed is what entries in use have at the lowest priority where a locator works, what they have at better ones, and at
//!   the next one: where flows go, would rather go, and would go to.
//! * A locator beside which another could take over is probed more often than one whose flows have nowhere to move.
//! * Patience follows the round-trip time, within the second between two Map-Requests for a prefix and the retry interval.
//! * A locator that never answered is mute, not down: some ETRs answer no probes. The publisher avoids it only for one that
//!   does answer.
//! * One that goes down again soon after it came up must then answer every probe for a while.
//!
//! Nothing is concluded from packets that come or do not come back (RFC 9300 §10), and an ICMP error only makes the next
//! probe go out at once.
//!
//! Sources: RFC 9301 §7.1 (probing), §5.2 (no ECM, no mapping system), §5.3 (rate), §5.4 (A, p); RFC 6298 §2 (round-trip
//! times); RFC 7835 §3.4 (bounds).

#![forbid(unsafe_code)]

mod rtt;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Hop, Locator};

use crate::{
    fault::faults,
    rate::{Bucket, Buckets, Rate},
    rloc::{Families, routable},
    wire::{MapReply, MapRequest},
};

pub use rtt::Rtt;
use target::Target;

/// Shortest time between two Map-Requests for one EID-Prefix (RFC 9301 §5.3), probes among them.
pub const SPACING_MIN: Duration = Duration::from_secs(1);
/// How long a probe waits that some limit does not let out.
const POSTPONE: Duration = Duration::from_millis(250);
/// Intervals vary by this part either way.
const JITTER: f64 = 0.2;

/// What the prober is told at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Between two probes of a locator without rival.
    pub interval: Duration,
    /// Between two probes of a locator whose flows could move to another.
    pub failover_interval: Duration,
    /// Probes after one that was not answered, before the locator is down.
    pub retries: u32,
    /// How long an answer may take at most.
    pub retry_interval: Duration,
    /// A locator that goes down within this time after it came up must answer for as long before it is up again.
    pub hold_down: Duration,
    /// Of the families that we can send in.
    pub families: Families,
    /// Most locators that are probed at one time.
    pub locators_max: usize,
    /// Probes altogether; where it is not enough all intervals get longer.
    pub all: Rate,
}

impl Settings {
    /// The defaults: every 30 s ± 20 %, every 3 s where flows could move, 3 retries of at most 2 s, 60 s of holding down,
    /// 16,384 locators, 500 probes a second.
    #[must_use]
    pub const fn new(families: Families) -> Self {
        Self {
            interval: Duration::from_secs(30),
            failover_interval: Duration::from_secs(3),
            retries: 3,
            retry_interval: Duration::from_secs(2),
            hold_down: Duration::from_secs(60),
            families,
            locators_max: 16_384,
            all: Rate { burst: 100, every: Duration::from_millis(2) },
        }
    }
}

/// What probes say of a locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It never answered.
    Mute,
    /// It answered, and does not any more.
    Down,
    /// It answers again, but went down too soon after it last came up: it is held down where there is another.
    Held,
}

/// What happens to the prober.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Packets used the entry of this prefix.
    Used {
        /// The cached prefix.
        eid: EidPrefix,
        /// Its locators.
        locators: &'a [Locator],
        /// Until when that counts as use.
        until: Instant,
    },
    /// A Map-Reply with the P bit came, from wherever.
    Reply(&'a MapReply),
    /// Something hints that the locator is gone, or back.
    Hint(IpAddr),
    /// The time of [`Prober::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send a Map-Request with the P bit for this prefix to the locator itself, from an RLOC of ours.
    Probe {
        /// Where it goes, outside any ECM.
        locator: IpAddr,
        /// The cached prefix; the Source-EID is absent.
        eid: EidPrefix,
        /// The nonce.
        nonce: u64,
    },
    /// What probes say of a locator is another thing now.
    Changed(IpAddr, State),
    /// The reply answers a probe: its records may refresh the mapping.
    Confirmed {
        /// The prefix it was about.
        eid: EidPrefix,
        /// The locator that works, as the answer says.
        locator: IpAddr,
    },
    /// Count this.
    Discard(ProbeFault),
}

faults! {
    /// Why a probe reply had no effect, or a locator is not probed.
    ProbeFault {
        /// No probe on its way has this nonce: forged, repeated, or too late.
        NonceUnknown = "probe-reply-nonce-unknown",
        /// A record without the A bit: not from the site itself.
        NotAuthoritative = "probe-reply-not-authoritative",
        /// No p bit, and the address that was probed is not among the locators.
        NotInSet = "probe-reply-not-in-set",
        /// The p bit is at a locator that is not probed here.
        OtherLocator = "probe-reply-other-locator",
        /// As many locators are probed as may be.
        Full = "probe-table-full",
        /// The rate of the prefix or of all probes together lets it out later.
        Postponed = "probe-postponed",
        /// The source of nonces repeats itself; the probe is postponed.
        NonceRepeated = "probe-nonce-repeated",
    }
}

/// A locator as operators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// What probes say.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// It is down and answers, but flapped.
    pub held: bool,
    /// Round-trip time; `None` before the first answer.
    pub rtt: Option<Rtt>,
    /// Probes sent.
    pub sent: u64,
    /// Of them answered.
    pub answered: u64,
    /// Of them not answered in time.
    pub lost: u64,
}

/// The machine. Ordered collections throughout: a recorded run replays the same.
#[derive(Debug)]
pub struct Prober {
    settings: Settings,
    targets: BTreeMap<IpAddr, Target>,
    deadlines: BTreeSet<(Instant, IpAddr)>,
    /// Good nonces: at most one more than retries for each locator.
    outstanding: BTreeMap<u64, (IpAddr, EidPrefix)>,
    each: Buckets<EidPrefix>,
    all: Bucket,
}

impl Prober {
    /// A prober that knows of no locator yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let each = Buckets::new(Rate { burst: 1, every: SPACING_MIN }, settings.locators_max);
        Self {
            settings,
            targets: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            each,
            all: Bucket::default(),
        }
    }

    /// Takes in one input and appends what must be done to `todo`. `random` gives 64 random bits at each call: nonces and
    /// jitter.
    pub fn step(&mut self, now: Instant, input: Input<'_>, random: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        match input {
            Input::Used { eid, locators, until } => self.used(now, eid, locators, until, random, todo),
            Input::Reply(reply) => {
                if let Err(fault) = self.answered(now, reply, random, todo) {
                    todo.push(Output::Discard(fault));
                }
            }
            Input::Hint(locator) => self.hint(now, locator),
            Input::Wake => {}
        }
        while let Some(&(due, locator)) = self.deadlines.first().filter(|(due, _)| *due <= now) {
            self.deadlines.remove(&(due, locator));
            self.turn(now, locator, random, todo);
        }
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// What probes say of a locator.
    #[must_use]
    pub fn state(&self, locator: IpAddr) -> State {
        self.targets.get(&locator).map_or(State::Unknown, |target| target.state)
    }

    /// What is known of a locator, if it is probed.
    #[must_use]
    pub fn report(&self, locator: IpAddr) -> Option<Report> {
        self.targets.get(&locator).map(|target| Report {
            state: target.state,
            since: target.since,
            held: target.is_held(),
            rtt: target.rtt,
            sent: target.sent,
            answered: target.answered,
            lost: target.lost,
        })
    }

    /// How many locators are probed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    fn used(
        &mut self,
        now: Instant,
        eid: EidPrefix,
        locators: &[Locator],
        until: Instant,
        random: &mut dyn FnMut() -> u64,
        todo: &mut Vec<Output>,
    ) {
        let families = self.settings.families;
        let known = || locators.iter().filter(|locator| routable(locator.address) && families.reach(locator.address));
        // Of a set that offers nothing all are asked: an answer may offer something (RFC 9300 §9).
        let offers = known().any(Locator::usable);
        let offered = || known().filter(|locator| locator.usable() || !offers);
        let works = |locator: &&Locator| matches!(self.state(locator.address), State::Unknown | State::Up);
        let best = offered().filter(works).map(|locator| locator.priority).min();
        let best = best.or_else(|| offered().map(|locator| locator.priority).max());
        let beyond = offered().map(|locator| locator.priority).filter(|priority| Some(*priority) > best).min();
        let last = beyond.or(best);
        let rivalled = offered().count() > 1;
        let wanted: Vec<IpAddr> =
            offered().filter(|locator| Some(locator.priority) <= last).map(|locator| locator.address).collect();
        for address in wanted {
            if !self.targets.contains_key(&address) {
                if self.targets.len() >= self.settings.locators_max {
                    todo.push(Output::Discard(ProbeFault::Full));
                    continue;
                }
                self.targets.insert(address, Target::new(now, eid));
                self.deadlines.insert((now, address));
            }
            self.want(now, address, (eid, until, rivalled), random);
        }
    }

    /// Prolongs the probing of a known locator.
    fn want(
        &mut self,
        now: Instant,
        address: IpAddr,
        (eid, until, rivalled): (EidPrefix, Instant, bool),
        random: &mut dyn FnMut() -> u64,
    ) {
        let Some(target) = self.targets.get_mut(&address) else { return };
        target.eid = eid;
        target.wanted = target.wanted.max(until);
        if rivalled {
            target.rivalled = target.rivalled.max(until);
            let soon = now + jittered(self.settings.failover_interval, random);
            if !target.waiting && target.due > soon {
                self.arm(address, soon);
            }
        }
    }

    /// Has something happen for a locator at `due`, and not at what was its time before.
    fn arm(&mut self, address: IpAddr, due: Instant) {
        if let Some(target) = self.targets.get_mut(&address) {
            self.deadlines.remove(&(target.due, address));
            target.due = due;
            self.deadlines.insert((due, address));
        }
    }

    /// What is due for a locator is done: the end of a probe's time, or the next probe.
    fn turn(&mut self, now: Instant, address: IpAddr, random: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        let Some(target) = self.targets.get_mut(&address) else { return };
        if target.waiting && target.lose(&self.settings) {
            if target.give_up(now, &self.settings) {
                todo.push(Output::Changed(address, target.state));
            }
            let pause = jittered(target.interval(now, &self.settings), random);
            return self.arm(address, now + pause);
        }
        if target.wanted <= now {
            return self.forget(address, todo);
        }
        if let Err(fault) = self.send(now, address, random, todo) {
            todo.push(Output::Discard(fault));
            self.arm(address, now + POSTPONE);
        }
    }

    fn send(
        &mut self,
        now: Instant,
        locator: IpAddr,
        random: &mut dyn FnMut() -> u64,
        todo: &mut Vec<Output>,
    ) -> Result<(), ProbeFault> {
        let Some(target) = self.targets.get_mut(&locator) else { return Ok(()) };
        let eid = target.eid;
        let nonce = (0..4).map(|_| random()).find(|nonce| !self.outstanding.contains_key(nonce));
        let nonce = nonce.ok_or(ProbeFault::NonceRepeated)?;
        self.each.ready(now, &eid).map_err(|_| ProbeFault::Postponed)?;
        if !self.all.take(now, self.settings.all) || self.each.take(now, eid).is_err() {
            return Err(ProbeFault::Postponed);
        }
        if let Some(stale) = target.send(now, nonce, &self.settings) {
            self.outstanding.remove(&stale);
        }
        self.outstanding.insert(nonce, (locator, eid));
        self.deadlines.insert((target.due, locator));
        todo.push(Output::Probe { locator, eid, nonce });
        Ok(())
    }

    /// Nobody uses it any more, and what was found out of it is no longer true for long.
    fn forget(&mut self, address: IpAddr, todo: &mut Vec<Output>) {
        let Some(target) = self.targets.remove(&address) else { return };
        for awaited in &target.awaited {
            self.outstanding.remove(&awaited.nonce);
        }
        if target.state != State::Unknown {
            todo.push(Output::Changed(address, State::Unknown));
        }
    }

    /// Checks a probe reply and credits the locator that it names.
    fn answered(
        &mut self,
        now: Instant,
        reply: &MapReply,
        random: &mut dyn FnMut() -> u64,
        todo: &mut Vec<Output>,
    ) -> Result<(), ProbeFault> {
        let &(probed, eid) = self.outstanding.get(&reply.nonce).ok_or(ProbeFault::NonceUnknown)?;
        if !reply.probe_is_authoritative() {
            return Err(ProbeFault::NotAuthoritative);
        }
        self.outstanding.remove(&reply.nonce);
        let sent = self.targets.get_mut(&probed).and_then(|target| target.take(reply.nonce));
        let took = now.saturating_duration_since(sent.ok_or(ProbeFault::NonceUnknown)?);
        let locators = || reply.records.iter().flat_map(|record| &record.locators);
        // Of an AFI-List all addresses have the bit, and one was asked.
        let listed = |locator: &Locator| locator.hop.is_some_and(Hop::is_alternative);
        let names = |locator: &&Locator| locator.probed && (!listed(locator) || locator.address == probed);
        let named = locators().find(names).map(|locator| locator.address);
        let credited = match named {
            Some(named) => named,
            None if locators().any(|locator| locator.address == probed) => probed,
            None => return Err(ProbeFault::NotInSet),
        };
        let target = self.targets.get_mut(&credited).ok_or(ProbeFault::OtherLocator)?;
        if target.answer(now, took, &self.settings) {
            todo.push(Output::Changed(credited, target.state));
        }
        let pause = jittered(target.interval(now, &self.settings), random);
        self.arm(credited, now + pause);
        todo.push(Output::Confirmed { eid, locator: credited });
        Ok(())
    }

    /// The next probe goes out at once, unless one is on its way or has just been.
    fn hint(&mut self, now: Instant, locator: IpAddr) {
        let Some(target) = self.targets.get(&locator) else { return };
        let lately = target.asked.is_some_and(|asked| now < asked + SPACING_MIN);
        if !target.waiting && !lately {
            self.arm(locator, now);
        }
    }
}

/// The probe itself: plain, with the P bit, about the cached prefix, and `from` alone as where the answer goes, so that it comes
/// back the way that is asked about.
#[must_use]
pub fn request(nonce: u64, from: Option<IpAddr>, eid: EidPrefix) -> MapRequest {
    MapRequest { probe: true, ..MapRequest::lookup(nonce, None, from.as_slice(), eid) }
}

/// The interval, up to a fifth shorter or longer.
fn jittered(interval: Duration, random: &mut dyn FnMut() -> u64) -> Duration {
    let part = (random() >> 11) as f64 / (1_u64 << 53) as f64;
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * part)
}
