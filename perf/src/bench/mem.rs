//! The whole worker in the process: no NIC, no kernel, only what the program itself costs.

use std::time::{Duration, Instant};

use altitude_dataplane::{
    cache::Reader,
    frame::{Frame, Umem},
    port::{BATCH, Region},
    worker::{Worker, turn},
};
use hdrhistogram::Histogram;

use super::{
    Direction, Effort, Families, Report, Row, Size, median, packets,
    pool::{self, PoolPort},
    xtr::{CORE, Rest, SITE, Xtr, swap_turn},
};

/// Frames going round: a receive ring and a transmit ring of the default size.
const FRAMES: usize = 2048;

/// Measures both directions of the four family mixes.
pub fn bench(report: &Report, effort: Effort, sizes: &[Size]) {
    for direction in [Direction::Encap, Direction::Decap] {
        for families in Families::ALL {
            for size in sizes {
                case(direction, families, *size, effort).iter().for_each(|row| report.row(row));
            }
        }
    }
}

/// The rate beside the forwarder's, the forwarder's own, and how long turns took.
fn case(direction: Direction, families: Families, size: Size, effort: Effort) -> Vec<Row> {
    let mut subject = Subject::new(direction, families, size);
    let mut swapper = Swapper::new(direction, families, size);
    let mut turns = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).expect("bounds that are right");
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms caches up and is not counted.
    for round in 0..=effort.rounds {
        let reference = swapper.round(effort.round);
        let rate = subject.round(effort.round, &mut turns);
        if round == 0 {
            turns.reset();
            continue;
        }
        ours.push(rate);
        theirs.push(reference);
        ratios.push(rate / reference);
    }
    subject.check(direction);
    let case = format!("{}/{}/{}", direction.name(), families.name(), size.name());
    let row = |case: String, subject, value, unit| Row {
        bench: "mem",
        case,
        subject,
        value,
        unit,
        reference: None,
        ratio: None,
    };
    let micros = |percentile| turns.value_at_percentile(percentile) as f64 / 1000.0;
    let mut rows = vec![
        row(case.clone(), "forwarder", median(&theirs), "Mpps"),
        Row {
            reference: Some("forwarder"),
            ratio: Some(median(&ratios)),
            ..row(case.clone(), "altitude", median(&ours), "Mpps")
        },
    ];
    for (name, percentile) in [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)] {
        rows.push(row(format!("{case}/turn {name}"), "altitude", micros(percentile), "µs"));
    }
    rows
}

/// Millions of packets a second.
fn rate(packets: u64, took: Duration) -> f64 {
    packets as f64 / took.as_secs_f64() / 1e6
}

/// Altitude's worker over a pair of ports.
struct Subject {
    worker: Worker,
    ports: Vec<PoolPort>,
    reader: Reader,
    _rest: Rest,
}

impl Subject {
    fn new(direction: Direction, families: Families, size: Size) -> Self {
        let mut umem = Umem::new(Region::anonymous(FRAMES + 4 * BATCH));
        let mut ports = pool::pair(&mut umem, FRAMES, packets::templates(direction, families, size));
        if direction == Direction::Decap {
            // Packets arrive at the core.
            ports.swap(usize::from(SITE), usize::from(CORE));
        }
        let Xtr { worker, reader, rest, .. } = Xtr::new(families, umem);
        Self { worker, ports, reader, _rest: rest }
    }

    fn round(&mut self, length: Duration, turns: &mut Histogram<u64>) -> f64 {
        let before = self.ports[0].taken();
        let start = Instant::now();
        let mut now = start;
        while now - start < length {
            let snapshot = self.reader.snapshot();
            turn(&mut self.worker, &mut self.ports, &snapshot, now);
            let after = Instant::now();
            turns.saturating_record((after - now).as_nanos() as u64);
            now = after;
        }
        rate(self.ports[0].taken() - before, now - start)
    }

    /// Every packet took the path it was meant for, and no frame was lost.
    fn check(self, direction: Direction) {
        let counters = self.worker.counters();
        let (arrives, leaves, forwarded) = match direction {
            Direction::Encap => (SITE, CORE, counters.encapsulated.get()),
            Direction::Decap => (CORE, SITE, counters.decapsulated.get()),
        };
        let (received, sent) = (&counters.port(arrives).received, &counters.port(leaves).sent);
        assert_eq!(forwarded, received.packets.get(), "not every packet was forwarded");
        assert_eq!(forwarded, sent.packets.get(), "not every packet was sent");
        assert_eq!(counters.copied_octets.get(), 0, "packets were copied");
        // Counts leaks, and fails on one in debug builds.
        self.worker.finish(self.ports);
    }
}

/// The forwarder to compare with: it receives, swaps the link-layer addresses and sends.
struct Swapper {
    umem: Umem,
    ports: Vec<PoolPort>,
    batch: Vec<Frame>,
}

impl Swapper {
    fn new(direction: Direction, families: Families, size: Size) -> Self {
        let mut umem = Umem::new(Region::anonymous(FRAMES + 4 * BATCH));
        let ports = pool::pair(&mut umem, FRAMES, packets::templates(direction, families, size));
        Self { umem, ports, batch: Vec::with_capacity(BATCH) }
    }

    fn round(&mut self, length: Duration) -> f64 {
        let before = self.ports[0].taken();
        let start = Instant::now();
        let mut now = start;
        while now - start < length {
            swap_turn(&mut self.umem, &mut self.ports, &mut self.batch);
            now = Instant::now();
        }
        rate(self.ports[0].taken() - before, now - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_forwards_every_packet() {
        let effort = Effort { round: Duration::from_millis(2), rounds: 1 };
        for direction in [Direction::Encap, Direction::Decap] {
            for families in Families::ALL {
                // Its own check fails if a packet is dropped or a frame lost.
                let rows = case(direction, families, Size::Imix, effort);
                assert!(rows[..2].iter().all(|row| row.value > 0.0), "{rows:?}");
            }
        }
    }
}
