//! Packet rates, always beside a forwarder on the same ports that only swaps link-layer addresses, in the same run.
//!
//! A rate alone says more of the machine than of the program; the ratio is what is compared and kept.

pub mod alt;
pub mod control;
mod device;
pub mod generator;
pub mod lpm;
mod mappings;
pub mod mem;
mod meter;
mod packets;
mod pool;
mod references;
pub mod veth;
mod xtr;

pub use device::{Device, Forwarder, Tally, forward};
pub use generator::{Arrived, Distribution, Sent, Sink, Traffic, generate};
pub use packets::{Direction, Families, Size};
pub use references::Subject;

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

/// One figure: a line of the table, an object of `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// `lpm`, `mem`, `veth`, `alt`, `control`, `floods`.
    pub bench: &'static str,
    /// What was done to which packets: `encap/v4v4/64/10k`, `v4/dfz/rand/b32`.
    pub case: String,
    /// What was measured: `altitude`, or the name of a reference.
    pub subject: &'static str,
    /// Median over the rounds, in `unit`.
    pub value: f64,
    /// Unit of `value`: `Mpps`, `ns`, `octets`, `µs`, `Mpps/CPU-second`, `CPU-s`, `GiB`.
    pub unit: &'static str,
    /// What `ratio` compares with; `None` if nothing was measured beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<&'static str>,
    /// Median over the rounds of the subject's value ÷ the reference's, measured in turns in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

/// Where figures go: a table for people, or one JSON object a line.
#[derive(Debug)]
pub struct Report {
    json: bool,
    setting: Setting,
}

/// Where and how a run measured; part of every JSON line, and the table's first line.
#[derive(Debug, Clone, Serialize)]
struct Setting {
    machine: String,
    kernel: String,
    mode: String,
}

impl Report {
    /// A report; the table starts with the machine, the kernel and `mode`.
    #[must_use]
    pub fn start(json: bool, mode: &str) -> Self {
        let setting = Setting { machine: machine(), kernel: kernel(), mode: mode.to_owned() };
        if !json {
            let Setting { machine, kernel, mode } = &setting;
            say(&format!("{machine}, kernel {kernel}, {mode}"));
            say(&format!("{:<40} {:<12} {:>11} {:<16} {:>7}", "case", "subject", "value", "unit", "ratio"));
        }
        Self { json, setting }
    }

    /// Prints a row.
    pub fn row(&self, row: &Row) {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            row: &'a Row,
            #[serde(flatten)]
            setting: &'a Setting,
        }
        if self.json {
            return say(&serde_json::to_string(&Line { row, setting: &self.setting }).expect("plain values"));
        }
        let Row { case, subject, value, unit, reference, ratio, .. } = row;
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:>7.3}"));
        let to = reference.map_or_else(String::new, |reference| format!(" × {reference}"));
        say(&format!("{case:<40} {subject:<12} {value:>11.3} {unit:<16} {ratio}{to}"));
    }

    /// Says what is not measured, and why; beside the lines of figures, not among them.
    pub fn skip(&self, what: &str, why: &str) {
        let line = format!("SKIP {what}: {why}");
        if self.json {
            let _ = writeln!(std::io::stderr(), "{line}");
        } else {
            say(&line);
        }
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
