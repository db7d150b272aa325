//! The body of a worker's thread: turns until told to stop, sleep when there is nothing to do.

#![forbid(unsafe_code)]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    cache::Reader,
    port::Port,
    worker::{Worker, turn},
};

/// Idle turns before a worker sleeps: a few microseconds, less than a wake-up costs.
const IDLE_TURNS: u32 = 16;
/// Longest sleep. Frames and wakers end it earlier; `stop` is seen after it at the latest.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Longest sleep while frames are held: a table published without a wake-up is seen, and expiry is timely.
const SLEEP_HOLDING: Duration = Duration::from_millis(5);

/// How a worker waits for frames.
pub trait Sleep {
    /// Returns when a port has frames, when somebody wakes the worker, or after `at_most`. May return early.
    fn sleep(&mut self, at_most: Duration);
}

/// What a worker does without frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// Keep polling, never sleep: for a core of its own.
    pub busy: bool,
}

/// Takes turns until `stop`, then accounts for every frame ([`Worker::finish`]).
///
/// `bell` is rung after a turn that queued misses: it wakes the control thread. While the worker sleeps it is offline
/// for the table's reclamation, so a sleeping worker holds up nothing.
pub fn run<P: Port>(
    mut worker: Worker,
    mut ports: Vec<P>,
    mut reader: Reader,
    mut sleeper: impl Sleep,
    bell: impl Fn(),
    idle: Idle,
    stop: &AtomicBool,
) {
    let mut idle_turns = 0;
    // Relaxed: nothing else is published with it.
    while !stop.load(Ordering::Relaxed) {
        let snapshot = reader.snapshot();
        let frames = turn(&mut worker, &mut ports, &snapshot, Instant::now());
        if worker.take_asked() {
            bell();
        }
        if frames > 0 || worker.unsent() > 0 {
            idle_turns = 0;
            continue;
        }
        idle_turns += 1;
        if idle.busy || idle_turns < IDLE_TURNS {
            std::hint::spin_loop();
            continue;
        }
        reader.go_offline();
        sleeper.sleep(if worker.holding() > 0 { SLEEP_HOLDING } else { SLEEP_MAX });
    }
    reader.go_offline();
    worker.finish(ports);
}
