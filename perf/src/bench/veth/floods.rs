//! What others can do to flows whose mappings are cached: the whole program, with two site ports and a core port.
//!
//! ```text
//! out ─ near ┐                    cached flows, at a rate that the worker has twice over
//!            ├ router ─ far ─ in  what is encapsulated; malformed packets and Map-Requests come from there
//! out ─ side ┘                    packets to a million EIDs that have no mapping
//! ```
//!
//! One worker on the last core; generators and the control thread share the first one. A flood is as much as its generator can
//! send beside the other. Of each flood: the share of cached flows' packets that were encapsulated and sent, with and without it in
//! turns on the same router, how many packets a second it had, and what was dropped meanwhile, by reason.
//!
//! `adds` is another thing: as much of cached flows as can be sent, and clients that put ten thousand mappings a second into the
//! map-cache, or none, in turns. What counts is packets per CPU-second of the worker's thread.

mod frames;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use altitude_control::api::{
    Offer, Operation, Table,
    client::{Client, ClientError},
};
use altitude_dataplane::mapping::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Ttl};

use super::{Cable, Cores, Load, cable::mac};
use crate::{
    bench::{
        Direction, Effort, Families, Report, Row, Size, Traffic,
        generator::{Replay, Source, Stream},
        median,
        meter::Meter,
        packets::{CORE_MAC, OUR_MAC, SITE_MAC, rloc},
        xtr::MTU,
    },
    lab::{LabError, Link, Namespace, Router, remove_left_over, remove_on_signal, run, veth, work_folder},
};

/// Of what the worker can carry, what cached flows have beside a flood: what is left is the flood's, whose port has the same
/// share of each turn.
const PART: f64 = 0.25;
/// Mappings a second.
const ADDS: f64 = 10_000.0;
/// Clients that put them in, one after another each.
const CLIENTS: u64 = 4;
/// Nothing was encapsulated for so long: all packets went their way.
const SILENCE: Duration = Duration::from_millis(20);
const V4: Families = Families { inner4: true, outer4: true };

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Floods {
    /// Only cases whose name has this in it: adds, misses, malformed, map-requests
    #[arg(long, value_name = "SUBSTRING")]
    only: Option<String>,
}

/// Measures the chosen cases.
///
/// # Errors
/// What the lab or the program said.
pub fn floods(report: &Report, effort: Effort, choice: &Floods) -> Result<(), LabError> {
    remove_on_signal()?;
    let owner = format!("alt{}", std::process::id());
    remove_left_over(&owner);
    let folder = work_folder(&owner)?;
    let done = Stand::new(&owner, &folder).and_then(|mut stand| stand.all(report, effort, choice));
    let _ = fs::remove_dir_all(&folder);
    done
}

struct Stand {
    cores: Cores,
    cable: Cable,
    side: Namespace,
    client: Client,
    router: Router,
    cached: Load,
}

/// What was counted, by name.
type Counts = BTreeMap<String, u64>;

/// One time with a flood, or without.
struct Phase {
    /// Of cached flows' packets, those that were sent on, percent.
    passed: f64,
    /// Packets of the flood a second.
    offered: f64,
    counts: Counts,
    seconds: f64,
}

impl Stand {
    fn new(owner: &str, folder: &Path) -> Result<Self, LabError> {
        let cores = Cores::here();
        let cable = Cable::new(owner, "floods", false)?;
        let side = Namespace::create(owner, "floods-side")?;
        run(side.command("sysctl").args(["-qw", "net.ipv6.conf.default.disable_ipv6=1"]))?;
        let (out, inside) =
            (Link { namespace: &side, name: Cable::OUT }, Link { namespace: &cable.device, name: "side" });
        veth(out, inside, MTU)?;
        out.mac(&mac(SITE_MAC))?;
        inside.mac(&mac(OUR_MAC))?;
        inside.receive_by_napi()?;
        let far = Link { namespace: &cable.device, name: Cable::FAR };
        far.mac(&mac(OUR_MAC))?;
        far.receive_by_napi()?;
        let (ours, theirs) = (rloc(true, true), rloc(true, false));
        far.address(ours, 24)?;
        cable.device.ip(&format!("neigh add {theirs} lladdr {} dev {} nud permanent", mac(CORE_MAC), Cable::FAR))?;
        let traffic = Traffic::new(Direction::Encap, V4, Size::Octets(64));
        let router = Router::start("floods", &cable.device, &flags(cores, &traffic, folder)?, folder)?;
        let client = Client::connect(&router.api).map_err(wrong)?;
        let cached = Load::open(&cable, &traffic, cores)?;
        Ok(Self { cores, cable, side, client, router, cached })
    }

    fn all(&mut self, report: &Report, effort: Effort, choice: &Floods) -> Result<(), LabError> {
        let wants = |case: &str| choice.only.as_ref().is_none_or(|only| case.contains(only.as_str()));
        if wants("adds") {
            self.adds(report, effort)?;
        }
        let most = self.phase(None, None, effort.round)?.counts.get("encapsulated").copied().unwrap_or(0);
        let rate = PART * most as f64 / effort.round.as_secs_f64();
        report.row(&row("cached flows".to_owned(), rate / 1e6, "Mpps"));
        for case in ["misses", "malformed", "map-requests"].into_iter().filter(|case| wants(case)) {
            let flood = self.flood(case)?;
            self.beside(report, effort, (case, &flood), rate)?;
        }
        Ok(())
    }

    fn flood(&self, case: &str) -> Result<Load, LabError> {
        let core = self.cores.generator;
        if case == "misses" {
            let mut traffic = Traffic::new(Direction::Encap, V4, Size::Octets(64));
            (traffic.hit_percent, traffic.flows, traffic.prefixes) = (0, 1 << 20, 100_000);
            let stream = Stream::new(&traffic.recipe()).map_err(LabError::Wrong)?;
            return Load::of(&self.side, Cable::OUT, Source::Stream(stream), core);
        }
        let frames = if case == "malformed" { frames::malformed() } else { frames::map_requests() };
        let source = Source::Replay(Replay::of(frames));
        Load::of(&self.cable.sink, Cable::IN, source, core)
    }

    /// With the flood and without it, in turns.
    fn beside(
        &mut self,
        report: &Report,
        effort: Effort,
        (case, flood): (&str, &Load),
        rate: f64,
    ) -> Result<(), LabError> {
        let (mut alone, mut flooded, mut ratios, mut offered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut counts, mut seconds) = (Counts::new(), 0.0);
        for _ in 0..effort.rounds {
            let without = self.phase(None, Some(rate), effort.round)?;
            let with = self.phase(Some(flood), Some(rate), effort.round)?;
            ratios.push(with.passed / without.passed);
            alone.push(without.passed);
            flooded.push(with.passed);
            offered.push(with.offered);
            with.counts.into_iter().for_each(|(name, count)| *counts.entry(name).or_default() += count);
            seconds += with.seconds;
        }
        let name = format!("{case}/cached flows");
        report.row(&Row { subject: "without", ..row(name.clone(), median(&alone), "% of sent") });
        let (reference, ratio) = (Some("without"), Some(median(&ratios)));
        report.row(&Row { reference, ratio, ..row(name, median(&flooded), "% of sent") });
        report.row(&row(format!("{case}/flood"), median(&offered) / 1e6, "Mpps"));
        // Where the flood went, and what it took with it.
        let gone = counts.into_iter().filter(|(name, count)| *count > 0 && !is_plain(name));
        for (name, count) in gone {
            report.row(&row(format!("{case}/{name}"), count as f64 / seconds / 1e6, "Mpps"));
        }
        Ok(())
    }

    fn phase(&mut self, flood: Option<&Load>, rate: Option<f64>, length: Duration) -> Result<Phase, LabError> {
        let before = self.settled()?;
        self.cached.begin(rate)?;
        if let Some(flood) = flood {
            flood.begin(None)?;
        }
        // The measurement itself: nothing is waited for but the time.
        thread::sleep(length);
        let sent = self.cached.end()?;
        let flooded = flood.map(Load::end).transpose()?;
        let mut counts = self.settled()?;
        for (name, count) in &mut counts {
            *count = count.saturating_sub(before.get(name).copied().unwrap_or(0));
        }
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let passed = count("encapsulated").saturating_sub(count("transmit-full") + count("far kernel-tx-invalid"));
        Ok(Phase {
            passed: passed as f64 / sent.packets.max(1) as f64 * 100.0,
            offered: flooded.map_or(0.0, |sent| sent.packets as f64 / sent.seconds),
            seconds: sent.seconds,
            counts,
        })
    }

    /// What was counted, when nothing is encapsulated any more.
    fn settled(&mut self) -> Result<Counts, LabError> {
        let mut last = self.counts()?;
        loop {
            thread::sleep(SILENCE);
            let now = self.counts()?;
            if now.get("encapsulated") == last.get("encapsulated") {
                return Ok(now);
            }
            last = now;
        }
    }

    fn counts(&mut self) -> Result<Counts, LabError> {
        let totals = self.client.totals().map_err(wrong)?;
        let mut counts: Counts = totals.into_iter().map(|stat| (stat.name.into_owned(), stat.value)).collect();
        for port in self.client.ports().map_err(wrong)? {
            counts.extend(port.stats.into_iter().map(|stat| (format!("{} {}", port.name, stat.name), stat.value)));
        }
        Ok(counts)
    }

    /// The worker's pace while clients change the map-cache, and while nobody does.
    fn adds(&mut self, report: &Report, effort: Effort) -> Result<(), LabError> {
        let meter = Meter::Thread(worker(&self.router)?);
        let (mut alone, mut beside, mut ratios, mut added) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let next = AtomicU64::new(0);
        self.cached.begin(None)?;
        for _ in 0..effort.rounds {
            let without = self.pace(meter, effort.round)?;
            let before = next.load(Ordering::Relaxed);
            let (api, core) = (self.router.api.clone(), self.cores.generator);
            let (stop, failed) = (AtomicBool::new(false), Mutex::new(None));
            let start = Instant::now();
            let with = thread::scope(|scope| {
                for _ in 0..CLIENTS {
                    scope.spawn(|| {
                        core_affinity::set_for_current(core_affinity::CoreId { id: core });
                        if let Err(error) = add(&api, &next, before, start, &stop) {
                            *failed.lock().expect("nobody panics with it") = Some(error);
                        }
                    });
                }
                let with = self.pace(meter, effort.round);
                stop.store(true, Ordering::Relaxed);
                with
            })?;
            if let Some(error) = failed.into_inner().expect("nobody panics with it") {
                return Err(wrong(error));
            }
            added.push((next.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64());
            ratios.push(with / without);
            alone.push(without);
            beside.push(with);
        }
        self.cached.end()?;
        let name = "adds/worker".to_owned();
        report.row(&row("adds".to_owned(), median(&added), "ADDs/s"));
        report.row(&Row { subject: "without", ..row(name.clone(), median(&alone), "Mpps/CPU-second") });
        let (reference, ratio) = (Some("without"), Some(median(&ratios)));
        report.row(&Row { reference, ratio, ..row(name, median(&beside), "Mpps/CPU-second") });
        Ok(())
    }

    /// Millions of packets that the worker encapsulates in a second of its CPU time.
    fn pace(&mut self, meter: Meter, length: Duration) -> Result<f64, LabError> {
        let sent = |counts: &Counts| counts.get("encapsulated").copied().unwrap_or(0);
        let (packets, cpu) = (sent(&self.counts()?), meter.read()?);
        thread::sleep(length);
        let (packets, cpu) = (sent(&self.counts()?) - packets, meter.read()?.saturating_sub(cpu));
        Ok(packets as f64 / cpu.as_secs_f64() / 1e6)
    }
}

/// What is no loss.
fn is_plain(name: &str) -> bool {
    const PLAIN: [&str; 6] = ["encapsulated", "turns", "idle-turns", "received", "sent", "steered"];
    // A port's counters have its name in front.
    name.split(' ').next_back().is_some_and(|own| PLAIN.contains(&own))
}

fn row(case: String, value: f64, unit: &'static str) -> Row {
    Row { bench: "floods", case, subject: "altitude", value, unit, reference: None, ratio: None }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn wrong(error: ClientError) -> LabError {
    LabError::Wrong(error.to_string())
}

/// Flags of the router, whose static mappings are in a file.
fn flags(cores: Cores, traffic: &Traffic, folder: &Path) -> Result<Vec<String>, LabError> {
    let theirs = rloc(true, false);
    let mapping = |index| {
        format!("[[map-cache]]\neid = \"{}\"\nlocators = [{{ address = \"{theirs}\" }}]\n", Traffic::far(true, index))
    };
    let file = folder.join("floods.toml");
    let text: String = (0..traffic.prefixes).map(mapping).collect();
    fs::write(&file, text).map_err(LabError::os(file.display().to_string()))?;
    let flags = format!(
        "--config {} --site-port {} --site-port side --core-port {} --rloc {} --eid-prefix 1.1.0.0/16 --workers {} \
         --control-core {} --rloc-probing off --alt-tunnel alt0,remote={theirs},address=10.42.0.1/30 --alt-route 0.0.0.0/0=alt0",
        file.display(),
        Cable::NEAR,
        Cable::FAR,
        rloc(true, true),
        cores.device,
        cores.generator,
    );
    Ok(flags.split_whitespace().map(str::to_owned).collect())
}

/// The worker's thread.
fn worker(router: &Router) -> Result<u32, LabError> {
    let tasks = format!("/proc/{}/task", router.process.id());
    let threads = fs::read_dir(&tasks).map_err(LabError::os(tasks.clone()))?.flatten();
    let mut named = threads
        .filter(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with("worker-")));
    let thread = named.next().and_then(|thread| thread.file_name().to_str()?.parse().ok());
    thread.ok_or_else(|| LabError::Wrong(format!("no worker in {tasks}")))
}

/// Puts in mappings that are not there yet, at its part of the pace, until it is told to stop.
fn add(api: &Path, next: &AtomicU64, before: u64, start: Instant, stop: &AtomicBool) -> Result<(), ClientError> {
    let mut client = Client::connect(api)?;
    while !stop.load(Ordering::Relaxed) {
        let due = before + (start.elapsed().as_secs_f64() * ADDS) as u64;
        let number = next.load(Ordering::Relaxed);
        if number >= due {
            thread::sleep(Duration::from_micros(200));
            continue;
        }
        if next.compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            client.perform(&Operation::Add(offer(number as u32)))?;
        }
    }
    Ok(())
}

fn offer(number: u32) -> Offer {
    let address = (0x5000_0000 + number).to_be_bytes().into();
    let eid = EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address });
    let locators = vec![Locator::unicast(rloc(true, false), 1, 100)];
    let mapping = Mapping { locators, ..Mapping::negative(eid, Ttl::ReceiverDecides, Action::NoAction) };
    Offer { table: Table::Cache, mapping, life: None, ephemeral: false, foreign: false }
}
