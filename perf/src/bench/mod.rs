//! Packet rates, always beside a forwarder on the same ports that only swaps link-layer addresses, in the same run.
//!
//! A rate alone says more of the machine than of the program; the ratio is what is compared and kept.

mod device;
mod generator;
pub mod mem;
mod packets;
mod pool;
pub mod veth;
mod xtr;

pub use device::{Forwarder, Tally, forward};
pub use generator::{Sink, Traffic, generate};
pub use packets::{Direction, Families, Size};

use std::{fs, io::Write, time::Duration};

use serde::Serialize;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// One measurement.
    pub round: Duration,
    /// Measurements of each of the two, taken in turns.
    pub rounds: usize,
}

/// One measured case.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// `mem` or `veth`.
    pub bench: &'static str,
    /// What was done to which packets.
    pub case: String,
    /// What was measured.
    pub subject: &'static str,
    /// Median over the rounds, in `unit`.
    pub value: f64,
    /// Unit of `value` and `reference`.
    pub unit: &'static str,
    /// The same of the address-swapping forwarder.
    pub reference: f64,
    /// Median over the rounds of subject ÷ reference.
    pub ratio: f64,
    /// Turn latency of the subject in microseconds: median, 99 and 99.9 of 100. Empty where it was not measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub turn_us: Vec<f64>,
}

/// Where figures go: a table for people, or one JSON object a line.
#[derive(Debug)]
pub struct Report {
    json: bool,
}

impl Report {
    /// A report; the table starts with the machine, the kernel and `mode`.
    #[must_use]
    pub fn start(json: bool, mode: &str) -> Self {
        if !json {
            say(&format!("{}, kernel {}, {mode}", machine(), kernel()));
            say(&format!(
                "{:<34} {:<9} {:>9} {:>9} {:<16} {:>6}  turn µs p50 p99 p99.9",
                "case", "subject", "value", "swapping", "unit", "ratio"
            ));
        }
        Self { json }
    }

    /// Prints a row.
    pub fn row(&self, row: &Row) {
        if self.json {
            return say(&serde_json::to_string(row).expect("plain values"));
        }
        let Row { case, subject, value, reference, unit, ratio, .. } = row;
        let turn: Vec<String> = row.turn_us.iter().map(|micros| format!("{micros:>5.1}")).collect();
        let turn = turn.join(" ");
        say(&format!("{case:<34} {subject:<9} {value:>9.3} {reference:>9.3} {unit:<16} {ratio:>6.3}  {turn}"));
    }
}

/// Prints a line; one that nobody reads any more is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{}", line.trim_end());
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} × {cores}", model.map_or("unknown processor", |(_, name)| name))
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The middle of the values, NaN of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
