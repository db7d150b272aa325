//! Longest-prefix match of the map-cache, beside DIR-24-8 and DPDK's `rte_lpm` and `rte_lpm6` in the same run.
//!
//! Cases are named family/table/traffic/batch: `v4/dfz/rand/b32`; `single` is one look-up after the other. Values are
//! nanoseconds per look-up, so a ratio below 1 means that Altitude is faster. All subjects look up the same addresses,
//! drawn before and streamed in order, in turns on the same core; before any of it is timed, each subject's answers to
//! the first addresses are compared with those of a plain model, and a wrong one ends the run.
//!
//! Further cases: `build` and `memory` of each table; `… updates/s` with a writer on the other core, and how long its
//! updates take; `small` with many Instance-IDs of few prefixes; `memory/…` with whole mappings.

mod dir24;
mod dpdk;
mod lookups;
mod model;
mod random;
mod subject;
mod table;
mod traffic;

use std::{
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
};

use core_affinity::CoreId;

use self::{
    dpdk::Program,
    table::{Family, Table},
    traffic::Pattern,
};
use super::{Effort, Report, Row};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long and how often.
    pub effort: Effort,
    /// Prefixes to use in place of the real tables, one a line; gzip if the name ends in `.gz`.
    pub table: Option<PathBuf>,
    /// Only cases whose name has this in it.
    pub only: Option<String>,
    /// Small tables: whether everything works, not how fast.
    pub quick: bool,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum LpmError {
    /// A file that cannot be read, or a thread that cannot be made.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
    /// A line that is not a prefix.
    #[error("{}:{line}: {why}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// From 1; 0 for the whole file.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A structure found another prefix than the model: its time would mean nothing.
    #[error("{subject} finds {found:?} for {address}, where prefix {expected} of the table is right")]
    Mismatch {
        /// Whose answer is wrong.
        subject: &'static str,
        /// What was looked up.
        address: IpAddr,
        /// Place of the right prefix in the table; `u32::MAX` if there is none.
        expected: u32,
        /// The answer; `None` if all that is known is that it is another.
        found: Option<u32>,
    },
    /// The DPDK program failed.
    #[error("DPDK program: {0}")]
    Dpdk(String),
    /// The map-cache refused a prefix.
    #[error("map-cache: {0}")]
    Cache(#[from] altitude_dataplane::cache::CacheError),
}

/// How large everything is.
#[derive(Debug)]
struct Sizes {
    /// Addresses drawn for each case.
    queries: usize,
    /// Of these, compared with the model before timing.
    verified: usize,
    hosts: usize,
    /// Parts of the table.
    curve: &'static [(usize, &'static str)],
}

impl Sizes {
    const FULL: Self = Self {
        queries: 1 << 20,
        verified: 1 << 16,
        hosts: 200_000,
        curve: &[(1000, "1k"), (10_000, "10k"), (100_000, "100k"), (1_000_000, "1M")],
    };
    const QUICK: Self =
        Self { queries: 1 << 14, verified: 1 << 12, hosts: 4000, curve: &[(1000, "1k"), (10_000, "10k")] };
}

/// A run.
struct Bench<'a> {
    report: &'a Report,
    options: &'a Options,
    sizes: Sizes,
    /// DPDK's side, where it is installed.
    program: Option<Program>,
    /// Readers' core.
    reader: CoreId,
    /// The writer's core; `None` if there is only one.
    writer: Option<CoreId>,
}

/// Measures everything; the calling thread is pinned to the last core.
///
/// # Errors
/// [`LpmError`]; a reference that is not there is none, but a line `SKIP: why`.
pub fn bench(report: &Report, options: &Options) -> Result<(), LpmError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let reader = cores.last().copied().unwrap_or(CoreId { id: 0 });
    core_affinity::set_for_current(reader);
    let bench = Bench {
        report,
        options,
        sizes: if options.quick { Sizes::QUICK } else { Sizes::FULL },
        program: Program::compile().map_err(|why| skip(report, &format!("rte_lpm and rte_lpm6: {why}"))).ok(),
        reader,
        writer: cores.first().copied().filter(|_| cores.len() > 1),
    };
    for table in bench.tables()? {
        bench.lookups(&table, &Pattern::ALL, &[1, 8, 32, 64])?;
        for (count, name) in bench.sizes.curve {
            bench.lookups(&table.resized(*count, name), &[Pattern::Rand], &[32])?;
        }
    }
    for family in Family::ALL {
        let hosts = Table::hosts(family, bench.sizes.hosts);
        bench.lookups(&hosts, &[Pattern::Zipf, Pattern::Rand], &[1, 32])?;
    }
    Ok(())
}

impl Bench<'_> {
    fn tables(&self) -> Result<Vec<Table>, LpmError> {
        match &self.options.table {
            Some(path) => Table::file(path),
            None if self.options.quick => Ok(Family::ALL.map(|family| Table::generated(family, 50)).to_vec()),
            None => Family::ALL.into_iter().map(Table::usual).collect(),
        }
    }

    fn wants(&self, case: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| case.contains(only))
    }

    /// A row without a reference, if it is wanted.
    fn figure(&self, case: String, subject: &'static str, value: f64, unit: &'static str) {
        if self.wants(&case) {
            self.report.row(&Row { bench: "lpm", case, subject, value, unit, reference: None, ratio: None });
        }
    }

    /// A line on standard error, so that nobody thinks that a long step hangs.
    fn progress(&self, line: &str) {
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Says what is not measured, and why: in the table; beside JSON on standard error.
fn skip(report: &Report, why: &str) {
    let line = format!("SKIP: {why}");
    if report.json {
        let _ = writeln!(io::stderr(), "{line}");
    } else {
        super::say(&line);
    }
}

#[cfg(test)]
mod tests;
