//! The whole worker in the process: no NIC, no kernel, only what the program itself costs.
//!
//! Time is the CPU time of the thread that works, so that a neighbour on the machine spoils little; how long turns took
//! is by the clock, as a packet feels it.

mod case;
mod instructions;
mod run;
pub(super) mod traced;
mod traffic;

use std::time::Duration;

use altitude_dataplane::cache::{Reader, Writer};
use core_affinity::CoreId;
use hdrhistogram::Histogram;

pub use case::Choice;
pub use instructions::Counted;
pub(super) use traffic::{Place, Traffic};

use self::{
    case::{Case, TableKey},
    run::{Pair, measured},
};
use super::{Effort, Report, Row, mappings::Mappings, median, xtr};

/// Measures the chosen cases.
///
/// # Errors
/// A line that says what could not be started.
pub fn bench(report: &Report, effort: Effort, choice: &Choice) -> Result<(), String> {
    let cases = choice.cases();
    if cases.is_empty() {
        return Err("no case has a name like that".into());
    }
    if choice.instructions {
        return instructions::bench(report, &cases);
    }
    // Asked once: a thread that is tied to a core sees no other.
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    pin(&cores, 0);
    let mut table = None;
    for case in &cases {
        if usize::from(case.workers) > cores.len() {
            report.skip(&case.name(), "fewer cores than workers");
            continue;
        }
        // Large tables take longer to fill than to measure with.
        if table.as_ref().is_none_or(|table: &Table| table.key != case.table()) {
            drop(table.take());
            table = Some(Table::new(case.table()));
        }
        let Some(table) = &mut table else { unreachable!("just made") };
        measure(case, table, effort, &cores).iter().for_each(|row| report.row(row));
    }
    Ok(())
}

/// A filled table, with a reading end for each of two workers.
struct Table {
    key: TableKey,
    mappings: Mappings,
    /// Keeps the table.
    _writer: Writer,
    readers: Vec<Reader>,
}

impl Table {
    fn new(key: TableKey) -> Self {
        let mappings = Mappings::spread(key.families, key.prefixes, key.sets);
        let (writer, readers) = xtr::table(key.families, &mappings, 2);
        Self { key, mappings, _writer: writer, readers }
    }
}

/// What one subject did in one round.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    packets: u64,
    /// CPU time.
    took: Duration,
}

impl Round {
    /// Millions of packets a second.
    fn rate(self) -> f64 {
        self.packets as f64 / self.took.as_secs_f64() / 1e6
    }
}

fn turns() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1_000_000_000, 3).expect("bounds that are right")
}

/// The rate beside the forwarder's, the forwarder's own, and how long turns took.
fn measure(case: &Case, table: &mut Table, effort: Effort, cores: &[CoreId]) -> Vec<Row> {
    if case.workers == 2 {
        return two_workers(case, table, effort, cores);
    }
    let mut turns = turns();
    let mut pair = Pair::new(case, &table.mappings, 0);
    let reader = &mut table.readers[0];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first round warms caches up and is not counted.
    for round in 0..=effort.rounds {
        let reference = measured(|| pair.forwarder(effort.round));
        let rate = measured(|| pair.altitude(reader, effort.round, &mut turns));
        if round == 0 {
            turns.reset();
            continue;
        }
        ours.push(rate.rate());
        theirs.push(reference.rate());
    }
    reader.go_offline();
    pair.finish(case);
    let name = case.name();
    let mut rows = pairs(&name, ("altitude", &ours), ("forwarder", &theirs));
    let micros = |percentile| turns.value_at_percentile(percentile) as f64 / 1000.0;
    for (share, percentile) in [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)] {
        rows.push(row(format!("{name}/turn {share}"), "altitude", micros(percentile), "µs"));
    }
    rows
}

/// Two workers on a core each, on the same table, beside one of them alone.
fn two_workers(case: &Case, table: &mut Table, effort: Effort, cores: &[CoreId]) -> Vec<Row> {
    let name = case.name();
    let rounds = run::together(case, table, effort, cores);
    let rate = |workers: &[Round]| workers.iter().map(|round| round.rate()).sum::<f64>();
    let ours: Vec<f64> = rounds.iter().map(|(both, _)| rate(both)).collect();
    let theirs: Vec<f64> = rounds.iter().map(|(_, alone)| alone.rate()).collect();
    let mut rows = pairs(&name, ("altitude", &ours), ("one worker", &theirs));
    // Of two that work at once, the time a packet takes is no figure.
    rows.retain(|row| row.unit == "Mpps");
    rows
}

/// Rows for rates in Mpps that were measured in turns, and the same as nanoseconds a packet.
fn pairs(name: &str, ours: (&'static str, &[f64]), theirs: (&'static str, &[f64])) -> Vec<Row> {
    let ratios: Vec<f64> = ours.1.iter().zip(theirs.1).map(|(ours, theirs)| ours / theirs).collect();
    let (rate, reference, ratio) = (median(ours.1), median(theirs.1), median(&ratios));
    let compared = |row, ratio| Row { reference: Some(theirs.0), ratio: Some(ratio), ..row };
    vec![
        row(name.to_owned(), theirs.0, reference, "Mpps"),
        compared(row(name.to_owned(), ours.0, rate, "Mpps"), ratio),
        row(name.to_owned(), theirs.0, 1000.0 / reference, "ns"),
        compared(row(name.to_owned(), ours.0, 1000.0 / rate, "ns"), 1.0 / ratio),
    ]
}

fn row(case: String, subject: &'static str, value: f64, unit: &'static str) -> Row {
    Row { bench: "mem", case, subject, value, unit, reference: None, ratio: None }
}

/// Ties this thread to a core, counted from the last one: the first one has the machine's interrupts. Where that is
/// not allowed it runs anywhere.
fn pin(cores: &[CoreId], from_last: usize) {
    if let Some(core) = cores.len().checked_sub(from_last + 1).and_then(|index| cores.get(index)) {
        core_affinity::set_for_current(*core);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Direction, Families, Size};

    #[test]
    fn every_case_forwards_every_packet() {
        let effort = Effort { round: Duration::from_millis(2), rounds: 1 };
        for direction in [Direction::Encap, Direction::Decap] {
            for families in Families::ALL {
                let case = Case { families, size: Size::Imix, ..Case::usual(direction, 256) };
                // Its own check fails if a packet is dropped or a frame lost.
                let rows = measure(&case, &mut Table::new(case.table()), effort, &[]);
                assert!(rows[..4].iter().all(|row| row.value > 0.0), "{rows:?}");
            }
        }
    }

    #[test]
    fn misses_are_as_many_as_they_should_be() {
        let case = Case { hit: 50, ..Case::usual(Direction::Encap, 1000) };
        let mut table = Table::new(case.table());
        let mut pair = Pair::new(&case, &table.mappings, 0);
        pair.altitude(&mut table.readers[0], Duration::from_millis(20), &mut turns());
        let counters = pair.counters();
        let missed = counters.missed.get() as f64 / pair.given() as f64;
        assert!((0.45..0.55).contains(&missed), "{missed}");
    }
}
