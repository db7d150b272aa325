//! Frames that the kernel sends by itself: `BPF_PROG_RUN` on live frames makes some million a second on one core.
//!
//! One run does for the whole stream, whatever the rate: the program itself looks at the clock and drops frames until one
//! is due, and a signal ends it. A run for each burst would cost more than its frames.

use std::{
    fs::File,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use altitude_dataplane::port::xsk::Interface;
use libbpf_rs::{ErrorKind, Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput, Xdp, XdpFlags};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{
        pthread::{pthread_kill, pthread_self},
        signal::Signal,
    },
};
use signal_hook::consts::SIGUSR2;

use super::{
    pace::{Pacer, Timing, round},
    replay::Replay,
    stream::{HEAD, PROBE, Progress, Record, Stream},
};

const PROGRAMS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/traffic.bpf.o"));
/// `BPF_F_TEST_XDP_LIVE_FRAMES` of linux/bpf.h: what the program redirects is really sent.
const LIVE_FRAMES: u32 = 1 << 1;
/// `NETDEV_XDP_ACT_NDO_XMIT` of linux/netdev.h: the driver sends what programs redirect.
const SENDS_REDIRECTED: u64 = 1 << 2;
/// How often the end of a stream is looked for.
const POLL: Duration = Duration::from_millis(5);
/// Between two signals that are to end a run.
const INTERRUPT: Duration = Duration::from_millis(2);
/// Entries of a table written at once.
const CHUNK: usize = 4096;
/// Octets of a captured packet in the kernel's table; `PACKET` of traffic.bpf.c.
pub(super) const PACKET: usize = 2036;

/// The kernel's generator, set up.
#[derive(Debug)]
pub(super) struct Live {
    object: Object,
    program: &'static str,
    /// Its orders but for the pace, with which they start.
    plan: Vec<u8>,
    /// What the kernel makes frames of; the program writes them anew.
    frame: Vec<u8>,
    plans: MapHandle,
    progress: MapHandle,
    _known: Known,
}

/// Makes the kernel know the program also between two runs.
///
/// The kernel enters a program that runs more than once into its XDP dispatcher and takes it out again afterwards, and
/// waits each time until no CPU uses the old entries: some 35 ms a run on an idle machine, in which nothing is sent. A
/// program that is attached somewhere is in the dispatcher already. So it is attached to the loopback interface of a
/// network namespace that is made for it, where no packet ever passes.
#[derive(Debug)]
struct Known {
    _link: Link,
    _namespace: File,
}

impl Known {
    /// The current thread is in its own namespace again when this returns, also with an error.
    fn make(object: &Object, name: &str) -> Result<Self, String> {
        const HERE: &str = "/proc/thread-self/ns/net";
        const LOOPBACK: i32 = 1;
        let wrong = |what| move |error| format!("a namespace for the generator's program, {what}: {error}");
        let home = File::open(HERE).map_err(|error| wrong("looking back")(error.to_string()))?;
        let program = object.progs_mut().find(|program| program.name() == name);
        let program = program.ok_or_else(|| format!("no program {name}"))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| wrong("entering")(error.to_string()))?;
        let attached = File::open(HERE).map_err(|error| error.to_string()).and_then(|namespace| {
            let link = program.attach_xdp(LOOPBACK).map_err(|error| error.to_string())?;
            Ok(Self { _link: link, _namespace: namespace })
        });
        setns(home, CloneFlags::CLONE_NEWNET).map_err(|error| wrong("leaving")(error.to_string()))?;
        attached.map_err(wrong("attaching"))
    }
}

impl Live {
    /// The kernel's generator of a stream, sending through `interface`; without one its frames are only made.
    pub(super) fn stream(interface: Option<&Interface>, stream: &Stream) -> Result<Self, String> {
        let sizes = [("flows", stream.records.len()), ("order", stream.order.len())];
        let object = load(&sizes)?;
        fill(&map(&object, "flows")?, stream.records.iter().map(record))?;
        fill(&map(&object, "order")?, stream.order.iter().map(|flow| flow.to_ne_bytes().to_vec()))?;
        let frame = vec![0; stream.longest()];
        let plan = plan(interface, frame.len(), stream);
        Self::start(object, "generate", frame, plan, interface)
    }

    /// The kernel's generator of captured packets.
    pub(super) fn replay(interface: Option<&Interface>, replay: &Replay) -> Result<Self, String> {
        let object = load(&[("packets", replay.packets().len())])?;
        let packet = |(octets, due): (&Vec<u8>, Duration)| {
            let mut value = (due.as_nanos() as u64).to_ne_bytes().to_vec();
            value.extend((octets.len() as u32).to_ne_bytes());
            value.extend(octets);
            value.resize(8 + 4 + PACKET, 0);
            value
        };
        let (due, _) = round(replay.times());
        fill(&map(&object, "packets")?, replay.packets().iter().zip(due).map(packet))?;
        let frame = vec![0; replay.longest()];
        let index = interface.map_or(0, |interface| interface.index);
        let mut plan = words(&[index, frame.len() as u32, replay.packets().len() as u32]);
        plan.resize(PLAN - TIMING, 0);
        Self::start(object, "replay", frame, plan, interface)
    }

    fn start(
        object: Object,
        program: &'static str,
        frame: Vec<u8>,
        plan: Vec<u8>,
        interface: Option<&Interface>,
    ) -> Result<Self, String> {
        let (plans, progress) = (map(&object, "plans")?, map(&object, "progresses")?);
        let known = Known::make(&object, program)?;
        let live = Self { object, program, plan, frame, plans, progress, _known: known };
        if let Some(interface) = interface {
            live.check(interface)?;
        }
        Ok(live)
    }

    /// Whether the kernel has live frames, and whether the interface sends what the program redirects: else it would be
    /// dropped without a word.
    fn check(&self, interface: &Interface) -> Result<(), String> {
        // Sends nothing: it drops.
        self.run_program("swallow", 1)?;
        let query = Xdp::new(self.progress.as_fd()).query(interface.index.cast_signed(), XdpFlags::NONE);
        let features = query.map_or(0, |answer| answer.feature_flags);
        // Kernels before 6.3 tell no features at all; the driver then has to show it.
        if features & SENDS_REDIRECTED == 0 && (features != 0 || tells_features()) {
            let name = &interface.name;
            return Err(format!("{name} does not send redirected frames (of veth, the peer needs XDP or GRO)"));
        }
        Ok(())
    }

    /// Begins a run at this pace; in tests, on a clock of nanoseconds. A stream goes on where the last run left it, a
    /// capture starts anew. Returns where it begins.
    pub(super) fn begin(&self, pacer: &Pacer, clock: Option<u64>) -> Result<Progress, String> {
        let Progress { frames, hits, misses, .. } = self.progress()?;
        let base = if self.program == "replay" {
            Progress::default()
        } else {
            Progress { frames, hits, misses, ..Progress::default() }
        };
        let words: Vec<u8> = [base.frames, 0, base.hits, base.misses, 0, 0, 0, 0, 0]
            .iter()
            .flat_map(|word: &u64| word.to_ne_bytes())
            .collect();
        let set = self.progress.update(&0_u32.to_ne_bytes(), &words, MapFlags::ANY);
        set.map_err(|error| format!("the generator's progress: {error}"))?;
        self.set_pace(pacer, &base, clock)?;
        Ok(base)
    }

    /// Sets the pace, for a run that began at `base`.
    pub(super) fn set_pace(&self, pacer: &Pacer, base: &Progress, clock: Option<u64>) -> Result<(), String> {
        let Timing { end, interval, arrears, round } = pacer.timing();
        let end = end.saturating_add(base.frames);
        let mut plan: Vec<u8> =
            [end, interval, arrears, round, clock.unwrap_or(0)].iter().flat_map(|word| word.to_ne_bytes()).collect();
        plan.extend(&self.plan);
        let set = self.plans.update(&0_u32.to_ne_bytes(), &plan, MapFlags::ANY);
        set.map_err(|error| format!("the generator's plan: {error}"))
    }

    /// Sends, in a run that began at `base`, as long as `goes_on` says so, which is told for how long it has been.
    ///
    /// The kernel sends in a thread of its own, which only a signal gets back from it.
    pub(super) fn run(
        &self,
        pacer: &Pacer,
        base: &Progress,
        mut goes_on: impl FnMut(Duration) -> bool,
    ) -> Result<(), String> {
        // Only to interrupt: nobody looks at the flag.
        let handler = signal_hook::flag::register(SIGUSR2, Arc::default()).map_err(|error| error.to_string())?;
        let stopping = AtomicBool::new(false);
        let done = thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let stop = &stopping;
            let sending = scope.spawn(move || {
                let _ = tell.send(pthread_self());
                while !stop.load(Ordering::Relaxed) {
                    // Longer than a minute, even if nothing is due.
                    self.run_program(self.program, i32::MAX as u32)?;
                }
                Ok(())
            });
            let thread = told.recv();
            let start = Instant::now();
            let sent_all = || self.progress().is_ok_and(|progress| pacer.ended(progress.frames - base.frames));
            while !sending.is_finished() && goes_on(start.elapsed()) && !sent_all() {
                thread::sleep(POLL);
            }
            stopping.store(true, Ordering::Relaxed);
            while !sending.is_finished() {
                // A signal may come just before the run begins, and is lost: hence more than one.
                let _ = thread.as_ref().map(|thread| pthread_kill(*thread, Signal::SIGUSR2));
                thread::sleep(INTERRUPT);
            }
            sending.join().unwrap_or_else(|_| Err("the generator's thread panicked".into()))
        });
        signal_hook::low_level::unregister(handler);
        done
    }

    /// Runs a program on live frames.
    fn run_program(&self, name: &str, count: u32) -> Result<(), String> {
        let program = self.object.progs_mut().find(|program| program.name() == name);
        let input =
            ProgramInput { data_in: Some(&self.frame), flags: LIVE_FRAMES, repeat: count, ..ProgramInput::default() };
        match program.ok_or_else(|| format!("no program {name}"))?.test_run(input) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                Err(format!("the kernel refused to send live frames (Linux 5.18 can): {error}"))
            }
            _ => Ok(()),
        }
    }

    /// Makes the next frame without sending it, if one is due.
    #[cfg(test)]
    pub(super) fn make(&self) -> Result<Option<Vec<u8>>, String> {
        let frame = self.frame.clone();
        let mut made = vec![0; frame.len()];
        let input = ProgramInput { data_in: Some(&frame), data_out: Some(&mut made), ..ProgramInput::default() };
        let program = self.object.progs_mut().find(|program| program.name() == self.program);
        let output = program.expect("it was there").test_run(input).map_err(|error| error.to_string())?;
        match (output.return_value, output.data) {
            // XDP_DROP, XDP_PASS
            (1, _) => Ok(None),
            (2, Some(data)) => Ok(Some(data.to_vec())),
            (verdict, _) => Err(format!("the program's verdict is {verdict}")),
        }
    }

    pub(super) fn progress(&self) -> Result<Progress, String> {
        let value = self.progress.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY);
        let value = value.map_err(|error| format!("reading the generator's progress: {error}"))?.unwrap_or_default();
        let mut words = value.as_chunks::<8>().0.iter().map(|octets| u64::from_ne_bytes(*octets));
        let mut next = || words.next().unwrap_or_default();
        Ok(Progress {
            frames: next(),
            octets: next(),
            hits: next(),
            misses: next(),
            probes: next(),
            forgone: next(),
            start: next(),
            last: next(),
        })
    }
}

/// Linux tells what a driver can do with XDP since 6.3.
fn tells_features() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 3)
}

/// Loads the programs, tables of these names having so many entries, at least one.
pub(super) fn load(sizes: &[(&str, usize)]) -> Result<Object, String> {
    let refused = |error: libbpf_rs::Error| match error.kind() {
        ErrorKind::PermissionDenied => {
            "loading the traffic programs needs CAP_NET_ADMIN and CAP_BPF: run as root".into()
        }
        _ => format!("loading the traffic programs: {error}"),
    };
    // libbpf would write on standard error by itself; what it returns says as much.
    libbpf_rs::set_print(None);
    let mut object = ObjectBuilder::default().open_memory(PROGRAMS).map_err(refused)?;
    for mut map in object.maps_mut() {
        if let Some((_, size)) = sizes.iter().find(|(name, _)| map.name() == *name) {
            map.set_max_entries((*size).max(1) as u32).map_err(refused)?;
        }
    }
    object.load().map_err(refused)
}

pub(super) fn map(object: &Object, name: &str) -> Result<MapHandle, String> {
    let map = object.maps().find(|map| map.name() == name).ok_or_else(|| format!("no table {name}"))?;
    MapHandle::try_from(&map).map_err(|error| format!("table {name}: {error}"))
}

/// Writes values from entry 0 on.
fn fill(map: &MapHandle, values: impl Iterator<Item = Vec<u8>>) -> Result<(), String> {
    let refused = |error| format!("filling a table of the generator: {error}");
    let (mut keys, mut octets, mut start) = (Vec::new(), Vec::new(), 0_u32);
    let flush = |keys: &mut Vec<u8>, octets: &mut Vec<u8>| {
        let count = (keys.len() / 4) as u32;
        if count > 0 {
            map.update_batch(keys, octets, count, MapFlags::ANY, MapFlags::ANY).map_err(refused)?;
        }
        keys.clear();
        octets.clear();
        Ok::<_, String>(())
    };
    for value in values {
        keys.extend(start.to_ne_bytes());
        octets.extend(value);
        start += 1;
        if keys.len() / 4 == CHUNK {
            flush(&mut keys, &mut octets)?;
        }
    }
    flush(&mut keys, &mut octets)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Octets of `struct plan`: the pace, words, the mix, four classes, and what fills the last word of eight.
const PLAN: usize = TIMING + 14 * 4 + 12 + (PROBE + 1) * (4 + 4 + 2 + 2 + HEAD) + 4;
/// Octets of the pace in front.
const TIMING: usize = 5 * 8;

/// `struct plan` of traffic.bpf.c behind its pace.
fn plan(interface: Option<&Interface>, longest: usize, stream: &Stream) -> Vec<u8> {
    let places = stream.places;
    let strangers = stream.records.len() as u32 - stream.flows;
    let mut plan = words(&[
        interface.map_or(0, |interface| interface.index),
        longest as u32,
        stream.flows,
        strangers,
        (stream.order.len() as u32).saturating_sub(1),
        stream.hit_percent.into(),
        stream.probes.unwrap_or(0),
        places.address as u32,
        stream.address_length as u32 / 4,
        places.ports as u32,
        places.outer_port as u32,
        places.ip_sum as u32,
        places.udp_sum as u32,
        places.stamp as u32,
    ]);
    plan.extend(stream.turns);
    for index in 0..=PROBE {
        let class = if index == PROBE { Some(&stream.probe) } else { stream.classes.get(index) };
        let (mut head, mut fixed) = ([0; HEAD], [0; 12]);
        if let Some(class) = class {
            head[..class.head.len()].copy_from_slice(&class.head);
            fixed[..8].copy_from_slice(&words(&[class.total as u32, class.head.len() as u32]));
            fixed[8..10].copy_from_slice(&class.ip_sum.to_be_bytes());
            fixed[10..].copy_from_slice(&class.udp_sum.to_be_bytes());
        }
        plan.extend(fixed);
        plan.extend(head);
    }
    plan.extend([0; 4]);
    debug_assert_eq!(TIMING + plan.len(), PLAN);
    plan
}

/// `struct flow` of traffic.bpf.c.
fn record(record: &Record) -> Vec<u8> {
    let mut value = record.address.to_vec();
    value.extend(record.ports);
    value.extend(record.outer_port);
    value.extend(record.ip_sum.to_be_bytes());
    value.extend(record.udp_sum.to_be_bytes());
    value.extend([0; 2]);
    value
}
