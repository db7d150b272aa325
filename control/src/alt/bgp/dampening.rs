//! Routes that flap are held back until they are stable (RFC 2439).
//!
//! Each withdrawal adds 1000 to a route's penalty and each change of its attributes 500; the penalty falls by half in every
//! half-life. Above `suppress` the route is not used, below `reuse` it is used again, below half of that it is forgotten. A
//! ceiling bounds how long a route that has become stable is held back (RFC 2439 §4.2, §4.5). Routes that go because their session
//! ended are no flaps.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::Prefix;
use hashbrown::HashMap;

use super::settings::Dampening;

/// Most routes of one neighbour that are watched at a time.
const WATCHED_MAX: usize = 65_536;

/// What a neighbour did to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flap {
    /// Took it away.
    Withdrawal,
    /// Announced it with other attributes.
    Change,
}

impl Flap {
    const fn penalty(self) -> f64 {
        match self {
            Self::Withdrawal => 1000.0,
            Self::Change => 500.0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Merit {
    /// At `at`.
    penalty: f64,
    at: Instant,
    suppressed: bool,
    /// When it is used again, or forgotten.
    due: Instant,
}

/// The routes of one neighbour that have flapped of late.
#[derive(Debug)]
pub(super) struct Dampener {
    settings: Dampening,
    merits: HashMap<Prefix, Merit>,
    by_time: BTreeSet<(Instant, Prefix)>,
}

/// As many routes are watched as can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Dampener {
    pub(super) fn new(settings: Dampening) -> Self {
        Self { settings, merits: HashMap::new(), by_time: BTreeSet::new() }
    }

    /// Whether the route to `prefix` is held back.
    pub(super) fn suppressed(&self, prefix: &Prefix) -> bool {
        self.merits.get(prefix).is_some_and(|merit| merit.suppressed)
    }

    /// Notes a flap; true if the route is held back from now on.
    ///
    /// # Errors
    /// [`Full`] for one more route than can be watched.
    pub(super) fn flap(&mut self, now: Instant, prefix: Prefix, flap: Flap) -> Result<bool, Full> {
        let before = self.merits.get(&prefix).copied();
        if before.is_none() && self.merits.len() >= WATCHED_MAX {
            return Err(Full);
        }
        let decayed = before.map_or(0.0, |merit| self.decayed(&merit, now));
        let halves = ratio(self.settings.max_suppress, self.settings.half_life);
        let ceiling = f64::from(self.settings.reuse) * halves.exp2();
        let penalty = (decayed + flap.penalty()).min(ceiling);
        let was = before.is_some_and(|merit| merit.suppressed);
        let suppressed = was || penalty > f64::from(self.settings.suppress);
        self.put(prefix, now, penalty, suppressed);
        Ok(suppressed && !was)
    }

    fn put(&mut self, prefix: Prefix, now: Instant, penalty: f64, suppressed: bool) {
        let until = f64::from(self.settings.reuse) * if suppressed { 1.0 } else { 0.5 };
        let halves = (penalty / until).log2().max(0.0);
        let due = now + self.settings.half_life.mul_f64(halves);
        if let Some(before) = self.merits.insert(prefix, Merit { penalty, at: now, suppressed, due }) {
            self.by_time.remove(&(before.due, prefix));
        }
        self.by_time.insert((due, prefix));
    }

    fn decayed(&self, merit: &Merit, now: Instant) -> f64 {
        let halves = ratio(now.saturating_duration_since(merit.at), self.settings.half_life);
        merit.penalty * (-halves).exp2()
    }

    /// When the next route may be used again, or is forgotten.
    pub(super) fn due(&self) -> Option<Instant> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// The next route that is used again at `now`; forgets those that were stable for long.
    pub(super) fn reuse(&mut self, now: Instant) -> Option<Prefix> {
        while let Some((due, prefix)) = self.by_time.first().copied().filter(|(due, _)| *due <= now) {
            self.by_time.remove(&(due, prefix));
            let merit = self.merits.remove(&prefix)?;
            if merit.suppressed {
                self.put(prefix, now, self.decayed(&merit, now), false);
                return Some(prefix);
            }
        }
        None
    }
}

fn ratio(time: Duration, half_life: Duration) -> f64 {
    if half_life.is_zero() { f64::INFINITY } else { time.as_secs_f64() / half_life.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn prefix(index: u16) -> Prefix {
        Prefix::new([10, (index >> 8) as u8, index as u8, 0].into(), 24).unwrap()
    }

    #[test]
    fn three_withdrawals_suppress_and_half_lives_forgive() {
        let start = Instant::now();
        let mut dampener = Dampener::new(Dampening::default());
        let flapping = prefix(1);
        let second = Duration::from_secs(1);
        assert_eq!(dampener.flap(start, flapping, Flap::Withdrawal), Ok(false));
        assert_eq!(dampener.flap(start + second, flapping, Flap::Withdrawal), Ok(false));
        assert!(!dampener.suppressed(&flapping));
        assert_eq!(dampener.flap(start + second * 2, flapping, Flap::Withdrawal), Ok(true));
        assert_eq!(dampener.flap(start + second * 2, flapping, Flap::Change), Ok(false), "it already is");
        assert!(dampener.suppressed(&flapping) && !dampener.suppressed(&prefix(2)));
        // 3500 falls below 750 in log2(3500 / 750) = 2.22 half-lives of 15 minutes: 33 minutes and 20 seconds.
        let due = dampener.due().unwrap() - start;
        assert!((33 * MINUTE..34 * MINUTE).contains(&due), "{due:?}");
        assert_eq!(dampener.reuse(start + 33 * MINUTE), None);
        assert_eq!(dampener.reuse(start + due), Some(flapping));
        assert!(!dampener.suppressed(&flapping));
        // 375 a half-life later, where it is forgotten.
        let gone = dampener.due().unwrap() - start;
        assert!((48 * MINUTE..49 * MINUTE + MINUTE / 2).contains(&gone), "{gone:?}");
        assert_eq!(dampener.reuse(start + gone), None);
        assert_eq!((dampener.due(), dampener.merits.len()), (None, 0));
    }

    #[test]
    fn a_stable_route_is_held_back_for_the_longest_time_at_most() {
        let start = Instant::now();
        let mut dampener = Dampener::new(Dampening::default());
        for flap in 0..1000 {
            let _ = dampener.flap(start + Duration::from_millis(flap), prefix(1), Flap::Withdrawal);
        }
        let due = dampener.due().unwrap() - start;
        assert!(due <= 60 * MINUTE + Duration::from_secs(2) && due > 59 * MINUTE, "{due:?}");
    }

    #[test]
    fn the_number_of_watched_routes_is_bounded() {
        let start = Instant::now();
        let mut dampener = Dampener::new(Dampening::default());
        for index in 0..=u16::MAX {
            assert_eq!(dampener.flap(start, prefix(index), Flap::Change), Ok(false));
        }
        let other = Prefix::new([11, 0, 0, 0].into(), 8).unwrap();
        assert_eq!(dampener.flap(start, other, Flap::Change), Err(Full));
        assert_eq!(dampener.flap(start, prefix(0), Flap::Change), Ok(false));
        // The others are forgotten in time: 500 falls below 375 in 6 minutes.
        assert_eq!(dampener.reuse(start + 7 * MINUTE), None);
        assert_eq!(dampener.flap(start + 7 * MINUTE, other, Flap::Change), Ok(false));
    }
}
