//! Worker threads: one per core, each with its own frame memory and its own queue of every port.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Scope, ScopedJoinHandle},
    time::Instant,
};

use altitude_control::config::{self, Config};
use altitude_dataplane::{
    cache::Reader,
    counters::Counters,
    features::Features,
    frame::Umem,
    port::xsk::{
        Bind, Interface, Observer, Roles, Sleeper, SocketOptions, Steering, Waker, XdpMode, XskPort, open_worker,
        sleeper,
    },
    queue::{Consumer, MissQueue, SightingQueue, misses, sightings},
    run::{Idle, run},
    samples::{Sample, Samples},
    sightings::Sighting,
    tap::{self, Tap, Watch},
    verdict::Miss,
    worker::{DscpModel, Settings, Worker},
};

use super::run::RunError;

/// Misses that one worker may have under way to the control thread.
const MISSES: usize = 1024;

/// The same of what peers' headers tell, where a header feature is on.
const SIGHTINGS: usize = 1024;

/// Copies of packets without a mapping that one worker may have under way.
const SAMPLES: usize = 64;

/// What the control thread keeps of a worker.
pub(crate) struct WorkerLink {
    pub(crate) misses: Consumer<Miss>,
    pub(crate) sightings: Consumer<Sighting>,
    pub(crate) watch: Watch,
    pub(crate) samples: Consumer<Sample>,
    /// Whether it copies packets that find no mapping.
    pub(crate) samples_wanted: Arc<AtomicBool>,
    pub(crate) waker: Waker,
    pub(crate) counters: Arc<Counters>,
    /// One per port, in their order.
    pub(crate) sockets: Vec<Observer>,
    pub(crate) zero_copy: bool,
}

/// A worker before its thread runs; frames are bound to that thread from then on.
pub(crate) struct Prepared {
    core: usize,
    settings: Settings,
    umem: Umem,
    ports: Vec<XskPort>,
    reader: Reader,
    sleeper: Sleeper,
    misses: MissQueue,
    sightings: SightingQueue,
    tap: Tap,
    samples: Samples,
    features: Features,
    dscp: DscpModel,
    counters: Arc<Counters>,
    busy: bool,
}

/// The interfaces with their steering programs, and the workers: nothing runs yet.
pub(crate) struct Dataplane {
    pub(crate) steering: Vec<Steering>,
    pub(crate) links: Vec<WorkerLink>,
    pub(crate) prepared: Vec<Prepared>,
}

/// Opens the sockets of every worker, then attaches the steering programs: their fill rings are full by then.
pub(crate) fn open(config: &Config, settings: &Settings, readers: Vec<Reader>) -> Result<Dataplane, RunError> {
    let interfaces = config.ports.iter().map(|port| Interface::named(&port.name)).collect::<Result<Vec<_>, _>>()?;
    let options = SocketOptions {
        ring: config.ring,
        frames: config.frames,
        bind: match config.bind {
            config::Bind::Auto => Bind::Auto,
            config::Bind::ZeroCopy => Bind::ZeroCopy,
            config::Bind::Copy => Bind::Copy,
        },
        busy_poll: config.busy_poll,
        hugepages: config.hugepages,
    };
    let mut links = Vec::new();
    let mut prepared = Vec::new();
    for (queue, (&core, reader)) in config.workers.iter().zip(readers).enumerate() {
        let (umem, ports) = open_worker(&interfaces, queue as u32, &options)?;
        let (sleeper, waker) = sleeper(&ports)?;
        let (queue, consumer) = misses(MISSES);
        let (told, sighted) = sightings(SIGHTINGS);
        let (tap, watch) = tap::tap();
        let samples_wanted = Arc::new(AtomicBool::new(false));
        let (samples, sampled) = Samples::new(SAMPLES, samples_wanted.clone());
        let counters = Arc::new(Counters::default());
        if options.hugepages && ports.iter().any(|port| !port.huge_pages()) {
            tracing::warn!(
                core,
                "no huge pages left for the frames of this worker: ordinary pages are used; reserve some with \
                 `sysctl vm.nr_hugepages=64`"
            );
        }
        links.push(WorkerLink {
            misses: consumer,
            sightings: sighted,
            watch,
            samples: sampled,
            samples_wanted,
            waker,
            counters: counters.clone(),
            sockets: ports.iter().map(XskPort::observer).collect::<Result<_, _>>()?,
            zero_copy: ports.iter().all(XskPort::zero_copy),
        });
        prepared.push(Prepared {
            core,
            settings: settings.clone(),
            umem,
            ports,
            reader,
            sleeper,
            misses: queue,
            sightings: told,
            tap,
            samples,
            features: config.features,
            dscp: match config.dscp {
                config::DscpName::Uniform => DscpModel::Uniform,
                config::DscpName::Pipe => DscpModel::Pipe,
            },
            counters,
            busy: config.busy_poll.is_some(),
        });
    }
    let steering = steer(config, &interfaces, &prepared)?;
    Ok(Dataplane { steering, links, prepared })
}

fn steer(config: &Config, interfaces: &[Interface], prepared: &[Prepared]) -> Result<Vec<Steering>, RunError> {
    let mode = match config.xdp {
        config::XdpMode::Auto => XdpMode::Auto,
        config::XdpMode::Native => XdpMode::Native,
        config::XdpMode::Generic => XdpMode::Generic,
    };
    let mut attached = Vec::new();
    for (index, (interface, port)) in interfaces.iter().zip(&config.ports).enumerate() {
        let roles = Roles { site: port.site, core: port.core, native: port.native };
        let mut steering = Steering::attach(interface, roles, mode)?;
        for worker in prepared {
            worker.ports[index].register(&mut steering)?;
        }
        tracing::info!(
            port = interface.name,
            site = port.site,
            core = port.core,
            native = port.native,
            xdp = if steering.generic() { "generic" } else { "native" },
            zero_copy = prepared.iter().all(|worker| worker.ports[index].zero_copy()),
            workers = prepared.len(),
            "attached"
        );
        attached.push(steering);
    }
    Ok(attached)
}

/// Tells the control thread that a worker's thread ended, however it did.
struct Ending<'a, B: Fn()> {
    ended: &'a AtomicBool,
    bell: &'a B,
}

impl<B: Fn()> Drop for Ending<'_, B> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        (self.bell)();
    }
}

impl Prepared {
    /// Starts the thread, pinned to its core. `bell` wakes the control thread; `ended` is set when the thread ends.
    pub(crate) fn start<'scope, B: Fn() + Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        bell: B,
        stop: &'scope AtomicBool,
        ended: &'scope AtomicBool,
    ) -> std::io::Result<ScopedJoinHandle<'scope, ()>> {
        let name = format!("worker-{}", self.core);
        std::thread::Builder::new().name(name).spawn_scoped(scope, move || {
            let _ending = Ending { ended, bell: &bell };
            if !core_affinity::set_for_current(core_affinity::CoreId { id: self.core }) {
                tracing::warn!(core = self.core, "the kernel refused to pin a worker to this core; it runs unpinned");
            }
            let worker = Worker::new(self.settings, self.umem, self.misses, self.counters).with_dscp(self.dscp);
            let worker = worker.with_features(self.features, self.sightings, Instant::now());
            let worker = worker.with_tap(self.tap).with_samples(self.samples);
            run(worker, self.ports, self.reader, self.sleeper, &bell, Idle { busy: self.busy }, stop);
        })
    }
}
