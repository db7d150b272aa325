//! Instructions a packet costs: they do not depend on what else the machine does.
//!
//! Valgrind counts all that a process does, filling the table included; two runs that differ only in how many packets
//! go through tell what a packet costs.

use std::{
    env,
    process::{Command, Stdio},
};

use super::{Case, Choice, Pair, Report, Table, row};
use crate::bench::Row;

const FEW: u64 = 2048;
const MANY: u64 = FEW + 16_384;
/// Larger tables take minutes to fill under valgrind, and instructions do not depend on them much.
const PREFIXES_MAX: u32 = 10_000;

/// What a process under valgrind does.
#[derive(Debug, Clone, clap::Args)]
pub struct Counted {
    #[arg(long)]
    case: String,
    #[arg(long)]
    reference: bool,
    #[arg(long)]
    packets: u64,
}

impl Counted {
    /// Sends that many packets through.
    ///
    /// # Errors
    /// There is no such case.
    pub fn run(&self) -> Result<(), String> {
        let case = Choice::named(&self.case).ok_or_else(|| format!("no case {}", self.case))?;
        let mut table = Table::new(case.table());
        let mut pair = Pair::new(&case, &table.mappings, 0);
        if self.reference {
            pair.forwarder_packets(self.packets);
        } else {
            pair.altitude_packets(&mut table.readers[0], self.packets);
        }
        Ok(())
    }
}

/// Counts for all `cases` that are small enough; says SKIP where there is no valgrind.
pub(super) fn bench(report: &Report, cases: &[Case]) -> Result<(), String> {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        report.skip("mem/instructions", "valgrind is not installed");
        return Ok(());
    }
    for case in cases.iter().filter(|case| case.workers == 1 && case.prefixes <= PREFIXES_MAX) {
        let (ours, theirs) = (per_packet(case, false)?, per_packet(case, true)?);
        let name = case.name();
        report.row(&row(name.clone(), "forwarder", theirs, "instructions"));
        let ratio = Some(ours / theirs);
        report.row(&Row { reference: Some("forwarder"), ratio, ..row(name, "altitude", ours, "instructions") });
    }
    Ok(())
}

fn per_packet(case: &Case, reference: bool) -> Result<f64, String> {
    let (few, many) = (count(case, reference, FEW)?, count(case, reference, MANY)?);
    Ok(many.saturating_sub(few) as f64 / (MANY - FEW) as f64)
}

fn count(case: &Case, reference: bool, packets: u64) -> Result<u64, String> {
    let perf = env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(perf);
    command.args(["inside", "count", "--case", &case.name(), "--packets", &packets.to_string()]);
    if reference {
        command.arg("--reference");
    }
    let output = command.output().map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    // ==123== Collected : 1234567
    let counted = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    counted.filter(|_| output.status.success()).ok_or_else(|| format!("valgrind counted nothing: {}", text.trim()))
}
