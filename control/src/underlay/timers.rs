//! The machine's timers: at most one per purpose, earliest first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

/// Longest pause between two questions without an answer.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What is done when the time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Ask for the routes of all watched destinations.
    AllRoutes,
    /// Ask for the route of one destination.
    Route(IpAddr),
    /// Ask for a next hop: interface index and address.
    Hop(u32, IpAddr),
}

/// As many as there are watched destinations and their next hops, and one: so their bound is this one's too.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, Timer)>,
    by_timer: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Sets the timer, or moves it if it is set.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.by_timer.insert(timer, at) {
            self.by_time.remove(&(before, timer));
        }
        self.by_time.insert((at, timer));
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.by_timer.contains_key(&timer)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer out if its time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

/// Pause after question number `attempts`, counted from 0: 1, 2, 4, … 30 seconds.
pub(super) fn backoff(attempts: u32) -> Duration {
    BACKOFF_MAX.min(Duration::from_secs(1 << attempts.min(5)))
}
