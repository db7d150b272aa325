//! The ALT at scale: a million EID-prefixes through the BGP speaker, and Map-Requests through the tunnels.
//!
//! * `scale/process`: the speaker in the process, octets in and octets out; its CPU time and the peak of its memory.
//! * `scale/tcp`: the same speaker behind TCP on veth, and BIRD in its place with the same neighbours and the same octets.
//! * `datagrams/process`: ALT datagrams through [`Engine`](altitude_control::alt::datagrams::Engine) with all those routes.
//! * `datagrams/gre`: the same through raw GRE sockets in namespaces.
//!
//! Time is CPU time of what is measured, so that a neighbour on the machine spoils little. Each subject runs in a process of its
//! own, so that a peak of memory is nobody else's.

mod datagrams;
mod device;
mod feed;
mod scale;
mod tcp;
mod world;

use std::{env, net::IpAddr, path::Path, process::Command, sync::Arc};

use altitude_dataplane::mapping::Prefix;
use serde::{Deserialize, Serialize};

pub use device::serve;

use self::tcp::{Cost, Subject};
use super::{Report, Row, lpm, median};
use crate::lab;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Choice {
    /// Measurements of each case
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Only cases whose name has this in it
    #[arg(long, value_name = "SUBSTRING")]
    pub only: Option<String>,
    /// Small tables: shows that everything works, not how fast it is
    #[arg(long)]
    pub quick: bool,
}

/// What the process of its own says.
#[derive(Debug, Serialize, Deserialize)]
pub struct InProcess {
    prefixes: usize,
    sets: usize,
    /// Prefixes announced, over all neighbours.
    announced: usize,
    /// CPU seconds.
    cpu: f64,
    /// The longest step, CPU milliseconds.
    longest: f64,
    /// Peak of resident memory, and what it was before, octets.
    peak: u64,
    before: u64,
    /// Datagrams a CPU-second, thousands.
    datagrams: f64,
}

/// Measures the chosen cases.
///
/// # Errors
/// A line that says what could not be done.
pub fn bench(report: &Report, choice: &Choice) -> Result<(), String> {
    let wants = |case: &str| choice.only.as_ref().is_none_or(|only| case.contains(only.as_str()));
    let row = |case: &str, subject, value, unit| Row {
        bench: "alt",
        case: case.to_owned(),
        subject,
        value,
        unit,
        reference: None,
        ratio: None,
    };
    let perf = env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let of_process = ["scale/process", "scale/process/memory", "scale/process/step", "datagrams/process"];
    if of_process.iter().any(|case| wants(case)) {
        let all = (0..choice.rounds).map(|_| in_process(&perf, choice.quick)).collect::<Result<Vec<_>, _>>()?;
        let of = |value: fn(&InProcess) -> f64| median(&all.iter().map(value).collect::<Vec<_>>());
        let values = [
            (of(|one| one.cpu), "CPU-s"),
            (of(|one| one.peak as f64 / GIB), "GiB"),
            (of(|one| one.longest), "CPU-ms"),
            (of(|one| one.datagrams), "k/CPU-s"),
        ];
        for (case, (value, unit)) in of_process.iter().zip(values).filter(|(case, _)| wants(case)) {
            report.row(&row(case, "altitude", value, unit));
        }
    }
    let sockets = || {
        lab::available()?;
        // A run that is killed leaves nothing behind, and nothing is left of earlier ones.
        lab::remove_on_signal().map_err(|error| error.to_string())?;
        lab::remove_left_over(&format!("alt{}", std::process::id()));
        Ok::<(), String>(())
    };
    if wants("scale/tcp") {
        match sockets() {
            Ok(()) => over_tcp(report, choice, &perf)?,
            Err(why) => report.skip("scale/tcp", &why),
        }
    }
    if wants("datagrams/gre") {
        match sockets() {
            Ok(()) => {
                let rates = (0..choice.rounds).map(|_| datagrams::through_sockets(choice.quick));
                let rates = rates.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
                report.row(&row("datagrams/gre", "altitude", median(&rates), "k/CPU-s"));
            }
            Err(why) => report.skip("datagrams/gre", &why),
        }
    }
    Ok(())
}

/// Those of the tables that no speaker refuses: a generated table goes through loopback addresses and network 0, too.
fn prefixes(quick: bool) -> Result<Vec<Prefix>, String> {
    let mut prefixes = lpm::prefixes(quick).map_err(|error| error.to_string())?;
    prefixes.retain(|prefix| match prefix.address() {
        IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_loopback() && !v4.is_multicast(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_multicast() && !v6.is_unicast_link_local(),
    });
    Ok(prefixes)
}

fn in_process(perf: &Path, quick: bool) -> Result<InProcess, String> {
    let mut command = Command::new(perf);
    command.args(["inside", "alt-scale"]);
    if quick {
        command.arg("--quick");
    }
    let output = command.output().map_err(|error| format!("{}: {error}", perf.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// The process of its own.
///
/// # Errors
/// A line that says what is wrong: nothing is reported of a speaker that does not say what it must.
pub fn scale_inside(quick: bool) -> Result<InProcess, String> {
    let prefixes = prefixes(quick)?;
    let feeds = feed::split(prefixes.clone());
    let own = std::process::id();
    let before = tcp::peak(own).unwrap_or(0);
    let start = scale::cpu();
    let mut outcome = scale::run(&feeds);
    let cpu = (scale::cpu() - start).as_secs_f64();
    let peak = tcp::peak(own).unwrap_or(0);
    let mut announced = 0;
    for feed in &feeds {
        let told = scale::announced(feed.index, &outcome.sent[feed.index]);
        if told != prefixes.len() - feed.prefixes {
            return Err(format!("neighbour {} was told of {told} prefixes", feed.index));
        }
        announced += told;
    }
    outcome.sent.clear();
    let datagrams = datagrams::in_process(&outcome.speaker, &prefixes, quick)?;
    let sets = feeds.iter().map(|feed| feed.sets).sum();
    let longest = outcome.longest.as_secs_f64() * 1e3;
    Ok(InProcess { prefixes: prefixes.len(), sets, announced, cpu, longest, peak, before, datagrams })
}

/// Ours and BIRD in turns.
fn over_tcp(report: &Report, choice: &Choice, perf: &Path) -> Result<(), String> {
    let feeds = Arc::new(feed::split(prefixes(choice.quick)?));
    let bird = tcp::has_bird();
    if !bird {
        report.skip("scale/tcp of BIRD", "`bird` is not installed (package bird2)");
    }
    let (mut ours, mut theirs): (Vec<Cost>, Vec<Cost>) = (Vec::new(), Vec::new());
    for _ in 0..choice.rounds {
        ours.push(tcp::run(Subject::Altitude, &feeds, perf).map_err(|error| error.to_string())?);
        if bird {
            theirs.push(tcp::run(Subject::Bird, &feeds, perf).map_err(|error| error.to_string())?);
        }
    }
    type Measure = (&'static str, &'static str, fn(&Cost) -> f64);
    let measures: [Measure; 3] = [
        ("scale/tcp", "CPU-s", |cost| cost.cpu.as_secs_f64()),
        ("scale/tcp/memory", "GiB", |cost| cost.peak as f64 / GIB),
        ("scale/tcp/elapsed", "s", |cost| cost.elapsed.as_secs_f64()),
    ];
    for (case, unit, of) in measures {
        let values = |costs: &[Cost]| costs.iter().map(of).collect::<Vec<f64>>();
        let (ours, theirs) = (values(&ours), values(&theirs));
        let row = |subject, value, reference, ratio| {
            report.row(&Row { bench: "alt", case: case.to_owned(), subject, value, unit, reference, ratio });
        };
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        if bird {
            row("bird", median(&theirs), None, None);
        }
        row("altitude", median(&ours), bird.then_some("bird"), bird.then(|| median(&ratios)));
    }
    Ok(())
}
