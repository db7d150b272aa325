//! The Map-Server at scale: a million registered prefixes of 100 000 sites.
//!
//! * `register`: Map-Registers of 10 prefixes each, as octets, through codec, MAC, registry and Map-Notify.
//! * `proxy`: Map-Requests in ECMs, as octets, for random registered EIDs; answered with Map-Replies, as octets.
//! * `forward`: the same, handed to an ETR in an ECM.
//! * `misses/…`: two workers that miss a hundred thousand different EIDs a second, each asked for and answered: how many the
//!   control thread takes, and how long a Map-Reply waits, beside the same with a thousand a second.
//! * `sockets/…`: the program behind UDP sockets on veth: seconds until all sites have their Map-Notify, Map-Replies a second with one
//!   client, and a second of the program's CPU time.
//! * `api/…`: the program's mapping API: microseconds from a GET or an ADD to its answer, ADDs a second one after another, and the
//!   share of a core that ten thousand ADDs a second take.
//! * `trace/…`: a worker's rate while every packet is shown to a client (`whole`, `headers`: their first 128 octets), one in a
//!   hundred (`few`), and while a trace looks at every packet and wants none (`nothing`; `drops`: what is dropped), beside its rate
//!   while nobody looks on; and the share of what is wanted that found room on its way.
//! * `abi/…`: nanoseconds of `altitude_lisp_output()` and `altitude_lisp_input()` for a packet, called from C, beside what a packet
//!   costs a worker.
//! * `octets`: what a registration occupies, by what the process grew.
//!
//! Beside `register` stands the MAC alone, read and verified; beside requests the codec with a hash table of the same prefixes, which
//! knows no longest match, no gap, no limits.

mod abi;
mod clients;
mod misses;
mod registry;
mod sockets;

use std::time::Duration;

use super::{Report, Row, median, mem::traced};
use crate::lab;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Choice {
    /// Measurements of each case
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Only cases whose name has this in it
    #[arg(long, value_name = "SUBSTRING")]
    pub only: Option<String>,
    /// Few sites: shows that everything works, not how fast it is
    #[arg(long)]
    pub quick: bool,
}

/// Sites, of [`PREFIXES`] prefixes each.
const SITES: u32 = 100_000;
const SITES_QUICK: u32 = 1000;
/// Prefixes of a site, all in one Map-Register.
const PREFIXES: u32 = 10;

/// Measures the chosen cases.
///
/// # Errors
/// A line that says what went wrong: nothing is reported of a Map-Server that does not answer as it must.
pub fn bench(report: &Report, choice: &Choice) -> Result<(), String> {
    let sites = if choice.quick { SITES_QUICK } else { SITES };
    let wants = |case: &str| choice.only.as_ref().is_none_or(|only| case.contains(only.as_str()));
    if ["register", "register/all", "proxy", "forward", "octets"].iter().any(|case| wants(case)) {
        in_process(report, choice, sites)?;
    }
    if wants("misses") {
        missing(report, choice);
    }
    if wants("trace") {
        tracing(report, choice);
    }
    if wants("abi") {
        calling(report, choice).map_err(|error| error.to_string())?;
    }
    type Live = fn(&Report, &Choice, u32) -> Result<(), lab::LabError>;
    let live: [(&str, Live); 2] = [("sockets", through_sockets), ("api", through_the_api)];
    for (name, run) in live.into_iter().filter(|(name, _)| wants(name)) {
        match lab::available() {
            Ok(()) => run(report, choice, sites).map_err(|error| error.to_string())?,
            Err(why) => report.skip(name, &why),
        }
    }
    Ok(())
}

fn missing(report: &Report, choice: &Choice) {
    let length = std::time::Duration::from_secs(if choice.quick { 1 } else { 4 });
    let (mut scans, mut quiets) = (Vec::new(), Vec::new());
    for _ in 0..choice.rounds.max(1) {
        quiets.push(misses::run(misses::QUIET, length));
        scans.push(misses::run(misses::SCAN, length));
    }
    type Measure = fn(&misses::Measured) -> f64;
    let cases: [(&str, &str, Measure, bool); 7] = [
        ("misses/taken", "misses/s", |one| one.taken, false),
        ("misses/lost", "%", |one| one.lost, false),
        ("misses/discarded", "%", |one| one.discarded, false),
        ("misses/installed", "mappings/s", |one| one.installed, false),
        ("misses/reply/p50", "µs", |one| one.waited[0], true),
        ("misses/reply/p99", "µs", |one| one.waited[1], true),
        ("misses/share", "% of its time", |one| one.share, false),
    ];
    for (case, unit, of, beside) in cases {
        let values = |of_all: &[misses::Measured]| of_all.iter().map(of).collect::<Vec<f64>>();
        let (scan, quiet) = (values(&scans), values(&quiets));
        let row = |subject, value, reference, ratio| {
            report.row(&Row { bench: "control", case: case.to_owned(), subject, value, unit, reference, ratio });
        };
        if beside {
            row("1k misses/s", median(&quiet), None, None);
        }
        let ratios: Vec<f64> = scan.iter().zip(&quiet).map(|(scan, quiet)| scan / quiet).collect();
        let ratio = beside.then(|| median(&ratios));
        row("altitude", median(&scan), beside.then_some("1k misses/s"), ratio);
    }
}

/// How long one measurement of packets takes.
const fn length(choice: &Choice) -> Duration {
    Duration::from_millis(if choice.quick { 50 } else { 2000 })
}

/// A figure beside a reference's, measured in turns: the reference's row, and ours with the median of the ratios.
fn beside(report: &Report, case: &str, unit: &'static str, ours: &[f64], (reference, theirs): (&'static str, &[f64])) {
    let row = |subject, value, reference, ratio| {
        report.row(&Row { bench: "control", case: case.to_owned(), subject, value, unit, reference, ratio });
    };
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    row(reference, median(theirs), None, None);
    row("altitude", median(ours), Some(reference), Some(median(&ratios)));
}

fn tracing(report: &Report, choice: &Choice) {
    for (name, wanted) in traced::Wanted::ALL {
        let rounds: Vec<_> = (0..choice.rounds.max(1)).map(|_| traced::run(wanted, length(choice))).collect();
        let values = |of: fn(&traced::Measured) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
        let quiet = values(|one| one.quiet);
        beside(report, &format!("trace/{name}"), "Mpps", &values(|one| one.traced), ("nobody looks on", &quiet));
        let (case, value) = (format!("trace/{name}/shown"), median(&values(|one| one.shown)));
        report.row(&Row {
            bench: "control",
            case,
            subject: "altitude",
            value,
            unit: "%",
            reference: None,
            ratio: None,
        });
    }
}

fn calling(report: &Report, choice: &Choice) -> Result<(), lab::LabError> {
    abi::in_folder(|folder| {
        let program = match abi::program(folder) {
            Ok(program) => program,
            Err(why) => {
                report.skip("abi", &why);
                return Ok(());
            }
        };
        let rounds = 0..choice.rounds.max(1);
        let rounds = rounds.map(|_| abi::measure(&program, length(choice))).collect::<Result<Vec<_>, _>>()?;
        for (at, case) in ["abi/output", "abi/input"].into_iter().enumerate() {
            let ours: Vec<f64> = rounds.iter().map(|one| one.abi[at]).collect();
            let theirs: Vec<f64> = rounds.iter().map(|one| one.worker[at]).collect();
            beside(report, case, "ns", &ours, ("worker", &theirs));
        }
        Ok(())
    })?
}

fn through_the_api(report: &Report, choice: &Choice, _sites: u32) -> Result<(), lab::LabError> {
    lab::remove_on_signal()?;
    let rounds = (0..choice.rounds.max(1)).map(|_| clients::run(choice.quick)).collect::<Result<Vec<_>, _>>()?;
    type Measure = fn(&clients::Measured) -> f64;
    let cases: [(&str, &str, Measure); 6] = [
        ("api/get/p50", "µs", |one| one.get[0]),
        ("api/get/p99", "µs", |one| one.get[1]),
        ("api/add/p50", "µs", |one| one.add[0]),
        ("api/add/p99", "µs", |one| one.add[1]),
        ("api/add", "messages/s", |one| one.adds),
        ("api/add/share", "% of a core at 10k/s", |one| one.share),
    ];
    for (case, unit, of) in cases {
        let value = median(&rounds.iter().map(of).collect::<Vec<_>>());
        let case = case.to_owned();
        report.row(&Row { bench: "control", case, subject: "altitude", value, unit, reference: None, ratio: None });
    }
    Ok(())
}

fn through_sockets(report: &Report, choice: &Choice, sites: u32) -> Result<(), lab::LabError> {
    // A run that is killed leaves nothing behind.
    lab::remove_on_signal()?;
    let rounds = (0..choice.rounds.max(1)).map(|_| sockets::run(sites)).collect::<Result<Vec<_>, _>>()?;
    type Measure = fn(&sockets::Measured) -> f64;
    let cases: [(&str, &str, Measure); 3] = [
        ("sockets/register", "s", |one| one.registered),
        ("sockets/proxy", "requests/s", |one| one.replies),
        ("sockets/proxy/cpu", "requests/CPU-s", |one| one.replies_by_cpu),
    ];
    for (case, unit, of) in cases {
        let value = median(&rounds.iter().map(of).collect::<Vec<_>>());
        let case = case.to_owned();
        report.row(&Row { bench: "control", case, subject: "altitude", value, unit, reference: None, ratio: None });
    }
    Ok(())
}

fn in_process(report: &Report, choice: &Choice, sites: u32) -> Result<(), String> {
    let wants = |case: &str| choice.only.as_ref().is_none_or(|only| case.contains(only.as_str()));
    let rounds = (0..choice.rounds.max(1)).map(|_| registry::run(sites)).collect::<Result<Vec<_>, _>>()?;
    type Measure = fn(&registry::Measured) -> f64;
    /// A reference and its figure.
    type Beside = Option<(&'static str, Measure)>;
    let cases: [(&str, &str, Measure, Beside); 5] = [
        ("register", "messages/s", |one| one.registers, Some(("mac alone", |one| one.macs))),
        ("register/all", "CPU-s", |one| one.seconds, None),
        ("proxy", "requests/s", |one| one.proxied, Some(("hash table", |one| one.plain))),
        ("forward", "requests/s", |one| one.forwarded, None),
        ("octets", "octets", |one| one.octets, None),
    ];
    for (case, unit, of, reference) in cases.into_iter().filter(|(case, ..)| wants(case)) {
        let values = |of: Measure| rounds.iter().map(of).collect::<Vec<f64>>();
        // Only the first round makes the process grow: later ones find its memory free.
        let median_of = |of: Measure| if unit == "octets" { values(of)[0] } else { median(&values(of)) };
        let row = |subject, value, reference, ratio| {
            report.row(&Row { bench: "control", case: case.to_owned(), subject, value, unit, reference, ratio });
        };
        if let Some((subject, theirs)) = reference {
            row(subject, median_of(theirs), None, None);
            let ratios: Vec<f64> = rounds.iter().map(|one| of(one) / theirs(one)).collect();
            row("altitude", median_of(of), Some(subject), Some(median(&ratios)));
        } else {
            row("altitude", median_of(of), None, None);
        }
    }
    Ok(())
}
