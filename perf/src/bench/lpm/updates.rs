//! Look-ups while a writer on another core changes the table, and how long each of its changes takes.
//!
//! Every change is published on its own, as a Map-Reply's is: the worst case for readers. Half of them take a random
//! prefix out and put it back, half put a more-specific of one in and take it out. Latency is of the change and its
//! publication together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use altitude_dataplane::{
    cache::CacheError,
    mapping::{EidPrefix, Prefix},
};
use hdrhistogram::Histogram;

use super::{
    Bench, LpmError, Row,
    altitude::{Altitude, Filled, Reading, eid},
    model::Model,
    random::Random,
    subject::Subject,
    table::{Table, more_specific},
    traffic::Pattern,
};
use crate::bench::median;

/// Look-ups together.
const BATCH: usize = 32;

/// How often a default route comes and goes.
const DEFAULTS: usize = 50;

/// How fast the writer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// There is none.
    Idle,
    /// So many a second.
    Paced(u32),
    /// As fast as it can.
    Flood,
}

/// And what cases call it.
const PACES: [(Pace, &str); 5] = [
    (Pace::Idle, "0/s"),
    (Pace::Paced(1000), "1k/s"),
    (Pace::Paced(10_000), "10k/s"),
    (Pace::Paced(100_000), "100k/s"),
    (Pace::Flood, "flood"),
];

/// What a writer did.
struct Done {
    inserts: Histogram<u64>,
    removes: Histogram<u64>,
    took: Duration,
}

impl Done {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds that are right");
        Self { inserts: histogram(), removes: histogram(), took: Duration::ZERO }
    }

    fn add(&mut self, other: &Self) {
        self.inserts.add(&other.inserts).expect("the same bounds");
        self.removes.add(&other.removes).expect("the same bounds");
        self.took += other.took;
    }

    fn rate(&self) -> f64 {
        (self.inserts.len() + self.removes.len()) as f64 / self.took.as_secs_f64()
    }
}

impl Bench<'_> {
    /// Every pace in turns.
    pub(super) fn updates(&self, table: &Table) -> Result<(), LpmError> {
        let name = format!("{}/{}", table.family.name(), table.name);
        let parts = ["rand/b32/updates", "insert", "remove", "rate", "default route"];
        let mut cases = PACES.iter().flat_map(|(_, pace)| parts.map(|part| format!("{name}/{part} {pace}")));
        if !cases.any(|case| self.wants(&case)) {
            return Ok(());
        }
        let Some(core) = self.writer else {
            self.skip(&format!("{name}/rand/b32/updates: a writer needs a second core"));
            return Ok(());
        };
        let mut altitude = Altitude::new(table)?;
        altitude.take(&Pattern::Rand.queries(table, &Model::new(&table.prefixes), self.sizes.queries))?;
        let Altitude { cache, reading } = &mut altitude;
        let mut values = [const { Vec::new() }; PACES.len()];
        let mut done = [(); PACES.len()].map(|()| Done::new());
        for round in 0..=self.options.effort.rounds {
            for (index, (pace, _)) in PACES.iter().enumerate() {
                let churn = Churn { cache, table, random: Random::new(round as u64), pending: None };
                let (value, updates) = self.beside_writer(reading, core, |stop| churn.run(*pace, stop))?;
                // The first round warms caches up and is not counted.
                if round > 0 {
                    values[index].push(value);
                    done[index].add(&updates);
                }
            }
        }
        for (index, (_, pace)) in PACES.iter().enumerate() {
            self.pace(&name, pace, [&values[0], &values[index]], &done[index]);
        }
        let (_, routes) = self.beside_writer(reading, core, |stop| flap(cache, table, stop))?;
        self.latency(&name, "default route insert", &routes.inserts);
        self.latency(&name, "default route remove", &routes.removes);
        Ok(())
    }

    /// A round of the reader on this core beside a writer on `core`, which is told when to stop.
    fn beside_writer(
        &self,
        reading: &mut Reading,
        core: core_affinity::CoreId,
        writer: impl FnOnce(&AtomicBool) -> Result<Done, LpmError> + Send,
    ) -> Result<(f64, Done), LpmError> {
        let (running, stop) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                core_affinity::set_for_current(core);
                running.store(true, Ordering::Release);
                writer(&stop)
            });
            while !running.load(Ordering::Acquire) {
                thread::yield_now();
            }
            let value = reading.round(BATCH, self.options.effort.round);
            stop.store(true, Ordering::Release);
            let done = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok((value, done))
        })
    }

    /// The reader's time beside that without a writer, and the writer's.
    fn pace(&self, name: &str, pace: &str, [idle, values]: [&[f64]; 2], done: &Done) {
        let case = format!("{name}/rand/b{BATCH}/updates {pace}");
        let updated = !done.inserts.is_empty();
        let ratios: Vec<f64> = values.iter().zip(idle).map(|(value, idle)| value / idle).collect();
        if self.wants(&case) {
            self.report.row(&Row {
                bench: "lpm",
                case,
                subject: "altitude",
                value: median(values),
                unit: "ns",
                reference: updated.then_some("no writer"),
                ratio: updated.then(|| median(&ratios)),
            });
        }
        if updated {
            self.figure(format!("{name}/rate {pace}"), "altitude", done.rate(), "updates/s");
            self.latency(name, &format!("insert {pace}"), &done.inserts);
            self.latency(name, &format!("remove {pace}"), &done.removes);
        }
    }

    fn latency(&self, name: &str, what: &str, nanoseconds: &Histogram<u64>) {
        for (percent, percentile) in [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)] {
            let micros = nanoseconds.value_at_percentile(percentile) as f64 / 1e3;
            self.figure(format!("{name}/{what} {percent}"), "altitude", micros, "µs");
        }
    }
}

/// A writer that changes the table and leaves it as it was.
struct Churn<'a> {
    cache: &'a mut Filled,
    table: &'a Table,
    random: Random,
    /// What undoes the last change.
    pending: Option<Change>,
}

#[derive(Clone, Copy)]
enum Change {
    /// Back to the place of the table.
    Insert(usize),
    Remove(EidPrefix),
}

impl Churn<'_> {
    fn run(mut self, pace: Pace, stop: &AtomicBool) -> Result<Done, LpmError> {
        let mut done = Done::new();
        let start = Instant::now();
        let mut updates = 0_u64;
        // However short the round, and whoever else had the core: a writer that writes has a time of each kind to tell.
        let told = |done: &Done| pace == Pace::Idle || !(done.inserts.is_empty() || done.removes.is_empty());
        while !stop.load(Ordering::Acquire) || !told(&done) {
            let due = match pace {
                Pace::Idle => 0,
                Pace::Paced(rate) => (start.elapsed().as_secs_f64() * f64::from(rate)) as u64,
                Pace::Flood => u64::MAX,
            };
            if updates < due {
                self.step(&mut done)?;
                updates += 1;
            } else if pace == Pace::Paced(100_000) {
                std::hint::spin_loop();
            } else {
                thread::sleep(Duration::from_micros(50));
            }
        }
        done.took = start.elapsed();
        if self.pending.is_some() {
            self.step(&mut done)?;
        }
        Ok(done)
    }

    fn step(&mut self, done: &mut Done) -> Result<(), LpmError> {
        match self.pending.take() {
            Some(Change::Insert(index)) => {
                let again = eid(self.cache.prefixes[index]);
                timed_insert(self.cache, again, index, &mut done.inserts)
            }
            Some(Change::Remove(more)) => timed_remove(self.cache, &more, &mut done.removes),
            None => self.fresh(done),
        }
    }

    fn fresh(&mut self, done: &mut Done) -> Result<(), LpmError> {
        let index = self.random.below(self.cache.prefixes.len());
        let prefix = self.cache.prefixes[index];
        let longer = if self.random.below(2) == 0 { self.longer(prefix) } else { None };
        if let Some(longer) = longer {
            self.pending = Some(Change::Remove(longer));
            return timed_insert(self.cache, longer, index, &mut done.inserts);
        }
        self.pending = Some(Change::Insert(index));
        timed_remove(self.cache, &eid(prefix), &mut done.removes)
    }

    /// A prefix inside `prefix`, up to four bits longer, that the table does not have.
    fn longer(&mut self, prefix: Prefix) -> Option<EidPrefix> {
        let longer = more_specific(self.table.family, prefix, prefix.length() + 4, &mut self.random)?;
        Some(eid(longer)).filter(|longer| self.cache.writer.hits(longer).is_none())
    }
}

/// A default route comes and goes: the last that is done with a table, since one that was there does not come back.
fn flap(cache: &mut Filled, table: &Table, stop: &AtomicBool) -> Result<Done, LpmError> {
    let mut done = Done::new();
    let default_route = eid(table.family.prefix(0, 0));
    while done.inserts.len() < DEFAULTS as u64 || !stop.load(Ordering::Acquire) {
        timed_insert(cache, default_route, 0, &mut done.inserts)?;
        timed_remove(cache, &default_route, &mut done.removes)?;
    }
    Ok(done)
}

fn timed_insert(
    cache: &mut Filled,
    prefix: EidPrefix,
    index: usize,
    latency: &mut Histogram<u64>,
) -> Result<(), LpmError> {
    let forwarding = cache.forwarding(index);
    let start = Instant::now();
    loop {
        match cache.writer.insert(prefix, forwarding) {
            // The reader is in the middle of a turn; waiting for it is part of what an update takes.
            Err(CacheError::Waiting(_)) => drop(cache.writer.reclaim()),
            inserted => break inserted?,
        }
    }
    cache.writer.publish();
    latency.saturating_record(start.elapsed().as_nanos() as u64);
    Ok(())
}

fn timed_remove(cache: &mut Filled, prefix: &EidPrefix, latency: &mut Histogram<u64>) -> Result<(), LpmError> {
    let start = Instant::now();
    let removed = cache.writer.remove(prefix);
    cache.writer.publish();
    latency.saturating_record(start.elapsed().as_nanos() as u64);
    assert!(removed, "{prefix} was not in the map-cache");
    Ok(())
}
