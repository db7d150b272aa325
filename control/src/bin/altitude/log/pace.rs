//! How many lines of one kind may be written: what others can cause must not fill a disk (RFC 9303 §6.4).
//!
//! A kind is the place in the program that writes it, so there are as many as there are such places. Each has a bucket; what finds
//! it empty is left out and counted, and said once the pace has fallen.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use altitude_control::rate::{Bucket, Rate};
use tracing::{
    Event, Level, Metadata,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one kind that an operator reads.
pub(super) const LINES: Rate = Rate { burst: 100, every: Duration::from_millis(200) };
/// The same at levels that are for finding faults.
pub(super) const DETAILS: Rate = Rate { burst: 1000, every: Duration::from_millis(10) };
/// What was left out is said after so long at the latest, and each kind no more often.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Of a line that stands for those that were left out, characters.
const MESSAGE_MAX: usize = 160;

/// Lines that were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// What the first of them said.
    pub(super) message: String,
    pub(super) lines: u64,
}

/// One kind of lines.
#[derive(Default)]
struct Kind {
    bucket: Bucket,
    /// Since when, what and how many.
    left_out: Option<(Instant, LeftOut)>,
}

/// The buckets of all kinds.
pub(super) struct Pace<K> {
    kinds: HashMap<K, Kind>,
}

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Self { kinds: HashMap::new() }
    }
}

impl<K: std::hash::Hash + Eq> Pace<K> {
    /// Whether a line may be written; one that may not is counted, and the first asked for its `message`.
    pub(super) fn admit(&mut self, now: Instant, kind: K, rate: Rate, message: impl FnOnce() -> String) -> bool {
        let kind = self.kinds.entry(kind).or_default();
        if kind.bucket.take(now, rate) {
            return true;
        }
        let (_, left_out) = kind.left_out.get_or_insert_with(|| (now, LeftOut { message: message(), lines: 0 }));
        left_out.lines += 1;
        false
    }

    /// What was left out of each kind for so long that it is to be said; and whether there is some left to be said later.
    pub(super) fn take(&mut self, now: Instant) -> (Vec<LeftOut>, bool) {
        let due = |since: &Instant| now.saturating_duration_since(*since) >= TOLD_EVERY;
        let kinds = self.kinds.values_mut();
        let told =
            kinds.filter_map(|kind| kind.left_out.take_if(|(since, _)| due(since)).map(|(_, left_out)| left_out));
        let told = told.collect();
        (told, self.kinds.values().any(|kind| kind.left_out.is_some()))
    }
}

/// The pace of the program's log.
pub(super) struct Limiter<C> {
    pace: Mutex<Pace<Identifier>>,
    clock: C,
    /// Whether anything was left out that was not said yet.
    behind: AtomicBool,
}

impl<C: Fn() -> Instant> Limiter<C> {
    pub(super) fn new(clock: C) -> Self {
        Self { pace: Mutex::default(), clock, behind: AtomicBool::new(false) }
    }

    fn pace(&self) -> MutexGuard<'_, Pace<Identifier>> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be said of lines that were left out. Costs nothing while there are none.
    pub(super) fn left_out(&self) -> Vec<LeftOut> {
        // Relaxed: what is seen late is said late.
        if !self.behind.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut pace = self.pace();
        let (told, more) = pace.take((self.clock)());
        self.behind.store(more, Ordering::Relaxed);
        told
    }

    fn admits(&self, event: &Event<'_>) -> bool {
        let rate = if *event.metadata().level() <= Level::INFO { LINES } else { DETAILS };
        let mut pace = self.pace();
        let admitted = pace.admit((self.clock)(), event.metadata().callsite(), rate, || message(event));
        if !admitted {
            self.behind.store(true, Ordering::Relaxed);
        }
        admitted
    }
}

/// The limiter, shared between the log and who says what was left out.
pub(super) struct Shared<C: 'static>(pub(super) &'static Limiter<C>);

impl<S, C: Fn() -> Instant + 'static> Filter<S> for Shared<C> {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.0.admits(event)
    }
}

/// What an event says, without its values.
fn message(event: &Event<'_>) -> String {
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }
    let mut found = Message(String::new());
    event.record(&mut found);
    found.0.chars().take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests;
