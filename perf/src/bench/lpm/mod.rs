//! Longest-prefix match of the map-cache, beside DIR-24-8 and DPDK's `rte_lpm` and `rte_lpm6` in the same run.
//!
//! Cases are named family/table/traffic/batch: `v4/dfz/rand/b32`; `single` is one look-up after the other. Values are
//! nanoseconds of CPU time per look-up, so a ratio below 1 means that Altitude is faster. All subjects look up the same
//! addresses, drawn before and streamed in order, in turns on the same core; before any of it is timed, each subject's
//! answers to the first addresses are compared with those of a plain model, and a wrong one ends the run.
//!
//! Further cases: `build` and `memory` of each table; `…/updates 10k/s` with a writer on the other core, and how long
//! its updates take; `small` with many Instance-IDs of few prefixes; `memory/…` with whole mappings.

mod altitude;
mod dir24;
mod dpdk;
mod lookups;
mod mappings;
mod model;
pub(super) mod random;
mod small;
mod subject;
mod table;
mod traffic;
mod updates;

use std::{
    cell::Cell,
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
    /// Nothing was measured.
    #[error("no case has '{0}' in its name; names are like v4/dfz/rand/b32")]
    NoCase(String),
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
    /// Whole mappings, IPv4 and IPv6, and how many that makes.
    mappings: [usize; 2],
    mappings_name: &'static str,
    /// Distinct locator-sets that they share.
    sets: usize,
    /// Instances with few prefixes, and how many that is.
    instances: (u32, &'static str),
}

impl Sizes {
    const FULL: Self = Self {
        queries: 1 << 20,
        verified: 1 << 16,
        hosts: 200_000,
        curve: &[(1000, "1k"), (10_000, "10k"), (100_000, "100k"), (1_000_000, "1M")],
        mappings: [1_000_000, 200_000],
        mappings_name: "1.2M",
        sets: 20_000,
        instances: (4096, "4096"),
    };
    const QUICK: Self = Self {
        queries: 1 << 14,
        verified: 1 << 12,
        hosts: 4000,
        curve: &[(1000, "1k"), (10_000, "10k")],
        mappings: [10_000, 2000],
        mappings_name: "12k",
        sets: 200,
        instances: (64, "64"),
    };
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
    /// Whether any case was wanted.
    matched: Cell<bool>,
}

/// The prefixes of both real tables, or of generated ones where those are absent; few of them if `quick`.
///
/// # Errors
/// A file that is there and cannot be read.
pub(super) fn prefixes(quick: bool) -> Result<Vec<altitude_dataplane::mapping::Prefix>, LpmError> {
    let table = |family| if quick { Ok(Table::generated(family, 50)) } else { Table::usual(family) };
    let tables = Family::ALL.into_iter().map(table).collect::<Result<Vec<_>, _>>()?;
    Ok(tables.into_iter().flat_map(|table| table.prefixes).collect())
}

/// Measures everything; the calling thread is pinned to the last core.
///
/// # Errors
/// [`LpmError`]; a reference that is not there is none, but a line `SKIP: why`.
pub fn bench(report: &Report, options: &Options) -> Result<(), LpmError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let reader = cores.last().copied().unwrap_or(CoreId { id: 0 });
    core_affinity::set_for_current(reader);
    let mut bench = Bench {
        report,
        options,
        sizes: if options.quick { Sizes::QUICK } else { Sizes::FULL },
        program: None,
        reader,
        writer: cores.first().copied().filter(|_| cores.len() > 1),
        matched: Cell::new(false),
    };
    match Program::compile() {
        Ok(program) => bench.program = Some(program),
        Err(why) => bench.skip(&format!("rte_lpm and rte_lpm6: {why}")),
    }
    let tables = bench.tables()?;
    for table in &tables {
        bench.lookups(table, &Pattern::ALL, &[1, 8, 32, 64])?;
        bench.updates(table)?;
        bench.curve(table)?;
    }
    for family in Family::ALL {
        let hosts = Table::hosts(family, bench.sizes.hosts);
        bench.lookups(&hosts, &[Pattern::Zipf, Pattern::Rand], &[1, 32])?;
    }
    bench.small()?;
    bench.mappings(&tables)?;
    match &options.only {
        Some(only) if !bench.matched.get() => Err(LpmError::NoCase(only.clone())),
        _ => Ok(()),
    }
}

impl Bench<'_> {
    fn tables(&self) -> Result<Vec<Table>, LpmError> {
        match &self.options.table {
            Some(path) => Table::file(path),
            None if self.options.quick => Ok(Family::ALL.map(|family| Table::generated(family, 50)).to_vec()),
            None => Family::ALL.into_iter().map(Table::usual).collect(),
        }
    }

    /// Look-ups against the number of prefixes.
    fn curve(&self, table: &Table) -> Result<(), LpmError> {
        for (count, name) in self.sizes.curve {
            match table.resized(*count, name) {
                Some(resized) => self.lookups(&resized, &[Pattern::Rand], &[32])?,
                None => self.skip(&format!("{}/{name}: the table has no room for more-specifics", table.family.name())),
            }
        }
        Ok(())
    }

    fn wants(&self, case: &str) -> bool {
        let wanted = self.options.only.as_ref().is_none_or(|only| case.contains(only));
        self.matched.set(self.matched.get() | wanted);
        wanted
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

    /// Says what is not measured, and why: in the table; beside JSON on standard error.
    fn skip(&self, why: &str) {
        let line = format!("SKIP: {why}");
        if self.report.json {
            self.progress(&line);
        } else {
            super::say(&line);
        }
    }
}

#[cfg(test)]
mod tests;
