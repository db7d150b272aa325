//! Subject and reference at work on one thread, and two subjects on two.

use std::{
    sync::{Arc, Barrier, Mutex},
    time::{Duration, Instant},
};

use altitude_dataplane::{
    cache::Reader,
    counters::Counters,
    frame::{Frame, Umem},
    port::Region,
    queue::Consumer,
    tap::Watch,
    verdict::Miss,
    worker::{Worker, turn},
};
use core_affinity::CoreId;
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

use super::{Case, Round, Table, Traffic, pin, turns};
use crate::bench::{
    Direction, Effort,
    mappings::Mappings,
    pool::{self, PoolPort},
    xtr::{CORE, Ready, SITE, swap_turn},
};

/// Frames going round: a receive ring and a transmit ring of the default size.
const FRAMES: usize = 2048;
/// Frames beside those: for what the worker holds and splits.
const SPARE: usize = 2048;

/// Runs `work`, which returns how many packets it saw through, and takes the CPU time of the thread meanwhile.
pub(super) fn measured(work: impl FnOnce() -> u64) -> Round {
    let before = thread_time();
    let packets = work();
    Round { packets, took: thread_time().saturating_sub(before) }
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("every thread has a clock")
}

/// Altitude's worker and the address-swapping forwarder, each with its own frames, over the same traffic.
pub(super) struct Pair {
    altitude: Altitude,
    forwarder: Swapper,
}

impl Pair {
    /// For worker number `index`.
    pub(super) fn new(case: &Case, mappings: &Mappings, index: usize) -> Self {
        let traffic = Arc::new(Traffic::new(case.shape(), mappings));
        Self::of(case, &traffic, index)
    }

    fn of(case: &Case, traffic: &Arc<Traffic>, index: usize) -> Self {
        Self {
            altitude: Altitude::new(case, traffic, index),
            forwarder: Swapper::new(traffic, index, case.tuning.batch),
        }
    }

    pub(super) fn altitude(&mut self, reader: &mut Reader, length: Duration, turns: &mut Histogram<u64>) -> u64 {
        let start = Instant::now();
        let mut now = start;
        let given = self.given();
        while now - start < length {
            self.altitude.turn(reader, now);
            let after = Instant::now();
            turns.saturating_record((after - now).as_nanos() as u64);
            now = after;
        }
        self.given() - given
    }

    pub(super) fn forwarder(&mut self, length: Duration) -> u64 {
        let start = Instant::now();
        let given = self.forwarder.ports[0].given();
        while start.elapsed() < length {
            self.forwarder.turn();
        }
        self.forwarder.ports[0].given() - given
    }

    /// Takes turns until the subject has been given `packets`: for counting, without a clock.
    pub(super) fn altitude_packets(&mut self, reader: &mut Reader, packets: u64) {
        let now = Instant::now();
        while self.given() < packets {
            self.altitude.turn(reader, now);
        }
    }

    /// As [`altitude_packets`](Self::altitude_packets) for the reference.
    pub(super) fn forwarder_packets(&mut self, packets: u64) {
        while self.forwarder.ports[0].given() < packets {
            self.forwarder.turn();
        }
    }

    /// Packets that the subject was given so far.
    pub(super) fn given(&self) -> u64 {
        self.altitude.ports.iter().map(PoolPort::given).max().unwrap_or(0)
    }

    /// Where to look on; for one who asks.
    pub(super) fn watch(&mut self) -> Watch {
        self.altitude.watch.take().expect("one who asks")
    }

    /// Packets that found no room on their way to whoever looks on.
    pub(super) fn untraced(&self) -> u64 {
        self.altitude.counters.untraced.get()
    }

    #[cfg(test)]
    pub(super) fn counters(&self) -> &Counters {
        &self.altitude.counters
    }

    /// Every packet took the path it was meant for, and no frame was lost.
    pub(super) fn finish(self, case: &Case) {
        let Altitude { worker, ports, counters, .. } = self.altitude;
        let (arrives, leaves, forwarded) = match case.direction {
            Direction::Encap => (SITE, CORE, counters.encapsulated.get()),
            Direction::Decap => (CORE, SITE, counters.decapsulated.get()),
        };
        let (received, sent) = (&counters.port(arrives).received, &counters.port(leaves).sent);
        let missed = counters.missed.get();
        assert_eq!(forwarded + missed, received.packets.get(), "not every packet was forwarded");
        assert_eq!(forwarded, sent.packets.get(), "not every packet was sent");
        assert!((case.hit < 100) == (missed > 0), "{missed} packets missed");
        assert_eq!(counters.copied_octets.get(), 0, "packets were copied");
        // Counts leaks, and fails on one in debug builds.
        worker.finish(ports);
        assert_eq!(counters.leaked.get(), 0, "a frame leaked");
    }
}

/// Altitude's worker over a pair of ports.
struct Altitude {
    worker: Worker,
    ports: Vec<PoolPort>,
    counters: Arc<Counters>,
    misses: Consumer<Miss>,
    watch: Option<Watch>,
}

impl Altitude {
    fn new(case: &Case, traffic: &Arc<Traffic>, index: usize) -> Self {
        let mut umem = Umem::new(Region::anonymous(FRAMES + SPARE));
        let mut ports = pool::pair(&mut umem, FRAMES, traffic.clone(), traffic.place(50 * index));
        if case.direction == Direction::Decap {
            // Packets arrive at the core.
            ports.swap(usize::from(SITE), usize::from(CORE));
        }
        let Ready { worker, counters, misses, watch } = Ready::new(case.families, umem, case.tuning);
        Self { worker, ports, counters, misses, watch: Some(watch) }
    }

    fn turn(&mut self, reader: &mut Reader, now: Instant) {
        turn(&mut self.worker, &mut self.ports, &reader.snapshot(), now);
        if self.worker.take_asked() {
            // The control thread's part: it takes what is asked for, and here nobody answers.
            while self.misses.pop().is_ok() {}
        }
    }
}

/// The forwarder to compare with: it receives, swaps the link-layer addresses and sends.
struct Swapper {
    umem: Umem,
    ports: Vec<PoolPort>,
    batch: Vec<Frame>,
}

impl Swapper {
    fn new(traffic: &Arc<Traffic>, index: usize, batch: usize) -> Self {
        let mut umem = Umem::new(Region::anonymous(FRAMES + SPARE));
        let ports = pool::pair(&mut umem, FRAMES, traffic.clone(), traffic.place(50 * index));
        Self { umem, ports, batch: Vec::with_capacity(batch) }
    }

    fn turn(&mut self) {
        swap_turn(&mut self.umem, &mut self.ports, &mut self.batch);
    }
}

/// Rounds of two workers at once, and of the first one alone.
pub(super) fn together(case: &Case, table: &mut Table, effort: Effort, cores: &[CoreId]) -> Vec<([Round; 2], Round)> {
    let traffic = Arc::new(Traffic::new(case.shape(), &table.mappings));
    let start = Barrier::new(2);
    let results = Mutex::new(vec![([Round::default(); 2], Round::default()); effort.rounds]);
    let work = |index: usize, reader: &mut Reader| {
        pin(cores, index);
        let mut pair = Pair::of(case, &traffic, index);
        let mut turns = turns();
        for round in 0..=effort.rounds {
            reader.go_offline();
            start.wait();
            if index == 0 {
                let alone = measured(|| pair.altitude(reader, effort.round, &mut turns));
                if round > 0 {
                    results.lock().expect("no thread panics with it")[round - 1].1 = alone;
                }
            }
            start.wait();
            let both = measured(|| pair.altitude(reader, effort.round, &mut turns));
            if round > 0 {
                results.lock().expect("no thread panics with it")[round - 1].0[index] = both;
            }
        }
        reader.go_offline();
        pair.finish(case);
    };
    let [first, second] = &mut table.readers[..] else { unreachable!("a table has two readers") };
    std::thread::scope(|scope| {
        scope.spawn(|| work(0, first));
        scope.spawn(|| work(1, second));
    });
    results.into_inner().expect("no thread panicked with it")
}
