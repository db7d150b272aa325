//! Real AF_XDP on veth: generator – device – sink, each in a namespace of its own.
//!
//! Every measurement starts the device anew, Altitude's worker and the address-swapping forwarder in turns, on the same
//! interfaces with the same steering program and socket options. What counts is what reaches the sink, per second of
//! CPU time of the device's thread.

use std::{path::Path, thread, time::Duration};

use super::{Arrived, Direction, Effort, Families, Forwarder, Report, Row, Size, Tally, Traffic, median};
use crate::{
    bench::{
        packets::{CORE_MAC, OUR_MAC, SITE_MAC},
        xtr::MTU,
    },
    lab::{LabError, Link, Namespace, Process, remove_left_over, remove_on_signal, run, veth, work_folder},
};

const START_LIMIT: Duration = Duration::from_secs(20);

/// Measures these cases; `perf` is the program `altitude-perf`.
///
/// # Errors
/// What the lab or one of the processes said.
pub fn bench(report: &Report, effort: Effort, traffics: &[Traffic], perf: &Path) -> Result<(), LabError> {
    remove_on_signal()?;
    let owner = format!("alt{}", std::process::id());
    remove_left_over(&owner);
    let folder = work_folder(&owner)?;
    let bench = Bench { cable: Cable::new(&owner)?, folder: &folder, perf };
    let measured = traffics
        .iter()
        .try_for_each(|traffic| bench.case(*traffic, effort).map(|rows| rows.iter().for_each(|row| report.row(row))));
    let _ = std::fs::remove_dir_all(&folder);
    measured
}

/// Three namespaces in a row.
struct Cable {
    generator: Namespace,
    device: Namespace,
    sink: Namespace,
}

impl Cable {
    fn new(owner: &str) -> Result<Self, LabError> {
        let make = |role| Namespace::create(owner, role);
        let cable = Self { generator: make("generator")?, device: make("device")?, sink: make("sink")? };
        for namespace in [&cable.generator, &cable.device, &cable.sink] {
            // Without its own IPv6 the kernel sends nothing by itself: the sink counts the device's frames only.
            run(namespace.command("sysctl").args(["-qw", "net.ipv6.conf.default.disable_ipv6=1"]))?;
        }
        let near = Link { namespace: &cable.device, name: "near" };
        let far = Link { namespace: &cable.device, name: "far" };
        veth(Link { namespace: &cable.generator, name: "out" }, near, MTU)?;
        let end = Link { namespace: &cable.sink, name: "in" };
        veth(far, end, MTU)?;
        near.mac(&mac(OUR_MAC))?;
        end.mac(&mac(CORE_MAC))?;
        Link { namespace: &cable.generator, name: "out" }.mac(&mac(SITE_MAC))?;
        Ok(cable)
    }
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

struct Bench<'a> {
    cable: Cable,
    folder: &'a Path,
    perf: &'a Path,
}

impl Bench<'_> {
    fn case(&self, traffic: Traffic, effort: Effort) -> Result<Vec<Row>, LabError> {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            let (reference, _) = self.measure(Forwarder::Swap, traffic, effort.round)?;
            let (rate, _) = self.measure(Forwarder::Altitude, traffic, effort.round)?;
            ours.push(rate);
            theirs.push(reference);
            ratios.push(rate / reference);
        }
        let Traffic { direction, families, size, .. } = traffic;
        let case = format!("{}/{}/{}", direction.name(), families.name(), size.name());
        let row = |subject, value| Row {
            bench: "veth",
            case: case.clone(),
            subject,
            value,
            unit: "Mpps/CPU-second",
            reference: None,
            ratio: None,
        };
        Ok(vec![
            row("forwarder", median(&theirs)),
            Row { reference: Some("forwarder"), ratio: Some(median(&ratios)), ..row("altitude", median(&ours)) },
        ])
    }

    /// One forwarder under full load: millions of frames that reached the sink per CPU-second of the device.
    fn measure(&self, forwarder: Forwarder, traffic: Traffic, length: Duration) -> Result<(f64, Tally), LabError> {
        let mut sink = self.start("sink", &self.cable.sink, &["sink".into(), "--interface".into(), "in".into()])?;
        let mut device = self.start("device", &self.cable.device, &device_arguments(forwarder, traffic))?;
        let mut generator = self.start("generator", &self.cable.generator, &generator_arguments(traffic))?;
        // The measurement itself: nothing is waited for but the time.
        thread::sleep(length);
        device.stop()?;
        generator.stop()?;
        sink.stop()?;
        let tally: Tally = last(&device)?;
        let Arrived { packets: arrived, .. } = last(&sink)?;
        if arrived == 0 || arrived > tally.sent {
            let Tally { sent, .. } = tally;
            return Err(LabError::Wrong(format!("{forwarder:?} sent {sent} frames, {arrived} reached the sink")));
        }
        Ok((arrived as f64 / tally.cpu / 1e6, tally))
    }

    fn start(&self, name: &str, namespace: &Namespace, arguments: &[String]) -> Result<Process, LabError> {
        let mut command = namespace.command(self.perf);
        command.arg("inside").args(arguments);
        let mut process = Process::start(name, &mut command, self.folder)?;
        process.wait_line(START_LIMIT, |line| line == "ready")?;
        Ok(process)
    }
}

fn device_arguments(forwarder: Forwarder, traffic: Traffic) -> Vec<String> {
    let (site, core) = match traffic.direction {
        Direction::Encap => ("near", "far"),
        Direction::Decap => ("far", "near"),
    };
    let forwarder = if forwarder == Forwarder::Altitude { "altitude" } else { "swap" };
    let families = traffic.families.name();
    ["device", "--forwarder", forwarder, "--families", &families, "--site", site, "--core", core]
        .map(str::to_owned)
        .into()
}

fn generator_arguments(traffic: Traffic) -> Vec<String> {
    let mut words: Vec<String> = ["generator", "--interface", "out"].map(str::to_owned).into();
    words.extend(traffic.arguments());
    words
}

/// The last line that the process printed, which is its result.
fn last<T: serde::de::DeserializeOwned>(process: &Process) -> Result<T, LabError> {
    let output = process.output();
    let line = output.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| LabError::Wrong(format!("{error} in: {output}")))
}

/// The usual cases: all four mixes encapsulated and decapsulated at the smallest size, and the mix of sizes.
#[must_use]
pub fn usual() -> Vec<Traffic> {
    let mut all = Vec::new();
    for direction in [Direction::Encap, Direction::Decap] {
        for families in Families::ALL {
            all.push(Traffic::new(direction, families, Size::Octets(64)));
        }
        all.push(Traffic::new(direction, Families::ALL[0], Size::Imix));
    }
    all
}
