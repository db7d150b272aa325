//! Real AF_XDP on veth: generator – device – sink, each in a namespace of its own.
//!
//! Every measurement starts the device anew, Altitude and the reference in turns, the forwarder on the very same
//! interfaces with the same steering program and socket options. What counts is what reaches the sink, per second of
//! CPU time of the device: see `meter.rs`.
//!
//! All get as much as the generator can send. The forwarder, openoverlayrouter and testpmd are programs as Altitude is,
//! and what it costs to bring frames to their doors is counted for none of them. The kernel's paths do their receiving
//! themselves, so beside them Altitude's receiving is counted too: of the thread that receives for it, on the
//! generator's core, as large a share as of the frames that the thread took did reach the worker. The others it threw
//! away, because a flood is more than a worker can take; a path of the kernel never takes them.

mod cable;
mod case;
mod floods;
mod load;
mod loss;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    rc::Rc,
    thread,
    time::Duration,
};

use super::{
    Arrived, Direction, Effort, Families, Report, Row, Size, Traffic,
    device::Sockets,
    generator::Sent,
    median,
    meter::Meter,
    references::{Device, Setup, Subject},
};
use crate::lab::{LabError, remove_left_over, remove_on_signal, work_folder};

pub(super) use cable::{Cable, mac};
pub use case::Choice;
use case::{Case, Kind};
pub use floods::{Floods, floods};
use load::Load;
pub use loss::{Search, ndr};

/// Of what both can carry, the load at which latency is measured.
const HALF: f64 = 0.5;
/// One frame of so many is a probe.
const PROBE_EVERY: u32 = 64;
/// How long the sink must stay silent after the generator stopped.
const SILENCE: Duration = Duration::from_millis(4);
/// A measurement with fewer frames says nothing.
const FRAMES_MIN: u64 = 1000;
/// Of a measurement that says nothing.
const TRIES: u32 = 3;

/// Which cores are whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) generator: usize,
    pub(crate) device: usize,
}

impl Cores {
    /// The generator has the first core, the device the last one.
    pub(crate) fn here() -> Self {
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        let id = |core: Option<&core_affinity::CoreId>| core.map_or(0, |core| core.id);
        Self { generator: id(ids.first()), device: id(ids.last()) }
    }
}

/// Measures these cases; `perf` is the program `altitude-perf`. References that are not installed are skipped.
///
/// # Errors
/// What the lab or one of the processes said.
pub fn bench(report: &Report, effort: Effort, choice: &Choice, perf: &Path) -> Result<(), LabError> {
    let mut bench = Bench::new(perf, choice.sockets)?;
    choice.cases().iter().try_for_each(|case| bench.case(report, effort, case))
}

/// Starts a subject in a lab of its own, sends it some traffic, and returns what arrived when it was `frames` frames.
///
/// # Errors
/// What the lab or one of the processes said.
pub fn try_out(subject: Subject, traffic: &Traffic, frames: u64, perf: &Path) -> Result<Arrived, LabError> {
    let mut bench = Bench::new(perf, Sockets::default())?;
    let place = Place::of(subject);
    let cable = bench.cable(place)?;
    let load = Load::open(&cable, traffic, bench.cores)?;
    let device = bench.start(subject, place, traffic)?;
    load.begin(traffic.rate)?;
    let waited = crate::lab::wait_until("forwarded frames", Duration::from_secs(20), || {
        Ok(Some(cable.arrived()?).filter(|arrived| arrived.packets >= frames))
    });
    load.end()?;
    device.stop()?;
    waited
}

/// Which cable a device is at. Those that change their namespace have it for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// Programs with AF_XDP sockets, one at a time.
    Sockets,
    /// The same, their receiving in a thread whose time is known.
    Received,
    /// The same, with a sink that looks for probes.
    Probed,
    Own(Subject),
}

impl Place {
    const fn of(subject: Subject) -> Self {
        match subject {
            Subject::Altitude | Subject::Forwarder | Subject::Testpmd => Self::Sockets,
            Subject::Kernel | Subject::Vxlan | Subject::Oor => Self::Own(subject),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::Received => "received",
            Self::Probed => "probed",
            Self::Own(subject) => subject.name(),
        }
    }
}

struct Bench<'a> {
    owner: String,
    folder: PathBuf,
    perf: &'a Path,
    cores: Cores,
    sockets: Sockets,
    cables: HashMap<Place, Rc<Cable>>,
}

/// One measurement.
struct Measured {
    arrived: Arrived,
    sent: Sent,
    /// Frames that the device took, if it tells.
    received: Option<u64>,
    cpu: Duration,
}

impl Measured {
    /// Millions of frames per CPU-second.
    fn rate(&self, traffic: &Traffic) -> Result<f64, LabError> {
        // Where some packets have no mapping, what counts is that they were dealt with.
        let frames = if traffic.hit_percent < 100 { self.received.unwrap_or(0) } else { self.arrived.packets };
        if frames < FRAMES_MIN {
            return Err(LabError::Wrong(format!("of {} frames, {frames} were forwarded", self.sent.packets)));
        }
        Ok(frames as f64 / self.cpu.as_secs_f64() / 1e6)
    }

    /// Frames per second by the clock.
    fn carried(&self) -> f64 {
        self.arrived.packets as f64 / self.sent.seconds
    }
}

impl<'a> Bench<'a> {
    fn new(perf: &'a Path, sockets: Sockets) -> Result<Self, LabError> {
        remove_on_signal()?;
        let owner = format!("alt{}", std::process::id());
        remove_left_over(&owner);
        let folder = work_folder(&owner)?;
        Ok(Self { owner, folder, perf, cores: Cores::here(), sockets, cables: HashMap::new() })
    }

    fn case(&mut self, report: &Report, effort: Effort, case: &Case) -> Result<(), LabError> {
        match case.kind {
            Kind::Latency => self.latency(report, effort, case),
            Kind::Against(subject) => {
                let skipped = match subject.installed() {
                    Err(why) => Some(why),
                    Ok(()) if subject == Subject::Forwarder => return self.against(report, effort, case, subject),
                    // What is not ours may be unable to run here; the other cases can.
                    Ok(()) => self.against(report, effort, case, subject).err().map(|error| error.to_string()),
                };
                if let Some(why) = skipped {
                    report.skip(&format!("veth {}", case.name()), &why);
                }
                Ok(())
            }
        }
    }

    fn against(&mut self, report: &Report, effort: Effort, case: &Case, subject: Subject) -> Result<(), LabError> {
        let traffic = &case.traffic;
        let theirs = (subject, Place::of(subject));
        let ours = (Subject::Altitude, if subject.receives_itself() { Place::Received } else { Place::Sockets });
        let (their_load, our_load) = (self.load(theirs.1, traffic)?, self.load(ours.1, traffic)?);
        let (mut our_rates, mut their_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            let reference = self.rate(theirs, traffic, &their_load, effort.round)?;
            let value = self.rate(ours, traffic, &our_load, effort.round)?;
            our_rates.push(value);
            their_rates.push(reference);
            ratios.push(value / reference);
        }
        pair(report, &case.name(), "Mpps/CPU-second", subject.name(), (&their_rates, &our_rates, &ratios));
        Ok(())
    }

    /// Millions of frames per CPU-second under all that can be sent. Where others use the device's core too, it may get
    /// next to no time: then once more.
    fn rate(
        &mut self,
        device: (Subject, Place),
        traffic: &Traffic,
        load: &Load,
        length: Duration,
    ) -> Result<f64, LabError> {
        let mut again = || self.measure(device, traffic, load, None, length)?.rate(traffic);
        (1..TRIES).fold(again(), |tried, _| tried.or_else(|_| again()))
    }

    /// Probes at half of what the slower one carries.
    fn latency(&mut self, report: &Report, effort: Effort, case: &Case) -> Result<(), LabError> {
        const PERCENTILES: [f64; 3] = [50.0, 99.0, 99.9];
        let mut traffic = case.traffic;
        traffic.probes = Some(PROBE_EVERY);
        let load = self.load(Place::Probed, &traffic)?;
        let subjects = [Subject::Forwarder, Subject::Altitude];
        let mut slower = f64::INFINITY;
        for subject in subjects {
            let flood = self.measure((subject, Place::Probed), &traffic, &load, None, effort.round)?;
            slower = slower.min(flood.carried());
        }
        // Of both, by percentile and round, µs.
        let mut values = [[(); 3]; 2].map(|percentiles| percentiles.map(|()| Vec::new()));
        for _ in 0..effort.rounds {
            for (subject, values) in subjects.into_iter().zip(&mut values) {
                let place = (subject, Place::Probed);
                let measured = self.measure(place, &traffic, &load, Some(HALF * slower), effort.round)?;
                let histogram = measured.arrived.histogram();
                for (percentile, values) in PERCENTILES.into_iter().zip(values) {
                    values.push(histogram.value_at_percentile(percentile) as f64 / 1e3);
                }
            }
        }
        let [theirs, ours] = values;
        for (percentile, (theirs, ours)) in PERCENTILES.into_iter().zip(theirs.iter().zip(&ours)) {
            let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
            let name = format!("{} p{percentile}", case.name());
            pair(report, &name, "µs", Subject::Forwarder.name(), (theirs, ours, &ratios));
        }
        Ok(())
    }

    /// One device under load, counted from idle to idle.
    fn measure(
        &mut self,
        (subject, place): (Subject, Place),
        traffic: &Traffic,
        load: &Load,
        rate: Option<f64>,
        length: Duration,
    ) -> Result<Measured, LabError> {
        let cable = self.cable(place)?;
        let receiver = match place {
            Place::Received => Some(Receiver::of(&cable, self.cores.generator)?),
            _ => None,
        };
        let device = self.start(subject, place, traffic)?;
        let before = (cable.arrived()?, device.cpu()?);
        load.begin(rate)?;
        // The measurement itself: nothing is waited for but the time.
        thread::sleep(length);
        let sent = load.end()?;
        let arrived = silent(&cable)?.since(&before.0);
        let mut cpu = device.cpu()?.saturating_sub(before.1);
        let tally = device.stop()?;
        if let (Some(receiver), Some(tally)) = (receiver, tally) {
            cpu += receiver.share(&cable, tally.received)?;
        }
        if tally.is_some_and(|tally| arrived.packets > tally.sent) {
            return Err(LabError::Wrong(format!("{subject:?} sent less than {} frames that arrived", arrived.packets)));
        }
        Ok(Measured { arrived, sent, received: tally.map(|tally| tally.received), cpu })
    }

    fn start(&mut self, subject: Subject, place: Place, traffic: &Traffic) -> Result<Device, LabError> {
        let (cable, cores) = (self.cable(place)?, self.cores);
        Device::start(
            subject,
            &Setup { cable: &cable, traffic, folder: &self.folder, perf: self.perf, cores, sockets: self.sockets },
        )
    }

    fn load(&mut self, place: Place, traffic: &Traffic) -> Result<Load, LabError> {
        let cable = self.cable(place)?;
        Load::open(&cable, traffic, self.cores)
    }

    /// Made when it is needed first.
    fn cable(&mut self, place: Place) -> Result<Rc<Cable>, LabError> {
        if let Some(cable) = self.cables.get(&place) {
            return Ok(Rc::clone(cable));
        }
        let cable = Rc::new(Cable::new(&self.owner, place.name(), place == Place::Probed)?);
        self.cables.insert(place, Rc::clone(&cable));
        Ok(cable)
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The thread that receives for a program, when counting started.
struct Receiver {
    meter: Meter,
    cpu: Duration,
    taken: u64,
}

impl Receiver {
    fn of(cable: &Cable, core: usize) -> Result<Self, LabError> {
        let meter = Meter::Thread(cable.received_on(core)?);
        Ok(Self { meter, cpu: meter.read()?, taken: cable.taken()? })
    }

    /// Its CPU time for `received` of the frames that it took since.
    fn share(&self, cable: &Cable, received: u64) -> Result<Duration, LabError> {
        let (cpu, taken) = (self.meter.read()?.saturating_sub(self.cpu), cable.taken()? - self.taken);
        if received > taken {
            return Err(LabError::Wrong(format!("{received} frames received, {taken} taken off the interface")));
        }
        Ok(cpu.mul_f64(received as f64 / taken.max(1) as f64))
    }
}

/// What arrived, when nothing arrives any more.
fn silent(cable: &Cable) -> Result<Arrived, LabError> {
    let mut last = cable.arrived()?;
    loop {
        thread::sleep(SILENCE);
        let now = cable.arrived()?;
        if now.packets == last.packets {
            return Ok(now);
        }
        last = now;
    }
}

/// Two rows: the reference's, and Altitude's with the ratio.
fn pair(
    report: &Report,
    case: &str,
    unit: &'static str,
    reference: &'static str,
    (theirs, ours, ratios): (&[f64], &[f64], &[f64]),
) {
    let row =
        |subject, value| Row { bench: "veth", case: case.into(), subject, value, unit, reference: None, ratio: None };
    report.row(&row(reference, median(theirs)));
    let (reference, ratio) = (Some(reference), Some(median(ratios)));
    report.row(&Row { reference, ratio, ..row(Subject::Altitude.name(), median(ours)) });
}
