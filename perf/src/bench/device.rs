//! The device under test of the veth bench: a process in its namespace that forwards between two interfaces.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use altitude_dataplane::{
    frame::Umem,
    port::{
        Port,
        xsk::{Interface, Roles, Sleeper, SocketOptions, Steering, XdpMode, XskPort, open_worker, sleeper},
    },
    run::{Idle, Sleep, run},
    worker::BATCH_DEFAULT,
};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{
    Families, Traffic,
    mappings::Mappings,
    packets::rloc,
    xtr::{Ready, Tuning, site_prefix, swap_turn, table},
};

/// Of the address-swapping forwarder, the same as the worker's: see `run.rs` of the dataplane.
const IDLE_TURNS: u32 = 16;
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// What forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Forwarder {
    /// Altitude's worker.
    Altitude,
    /// A loop that only swaps link-layer addresses.
    Swap,
}

impl Forwarder {
    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Altitude => "altitude",
            Self::Swap => "swap",
        }
    }
}

/// How the AF_XDP sockets of a device are opened: as Altitude does, but for what is said here.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Sockets {
    /// Descriptors of each ring
    #[arg(long)]
    pub ring: Option<u32>,
    /// Frames
    #[arg(long)]
    pub frames: Option<usize>,
    /// Ask for huge pages
    #[arg(long)]
    pub hugepages: bool,
}

impl Sockets {
    /// Command line words that clap reads as this very value.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut number = |name: &str, value: Option<String>| words.extend(value.map(|value| format!("{name}={value}")));
        number("--ring", self.ring.map(|ring| ring.to_string()));
        number("--frames", self.frames.map(|frames| frames.to_string()));
        words.extend(self.hugepages.then(|| "--hugepages".into()));
        words
    }

    fn options(&self) -> SocketOptions {
        let usual = SocketOptions::default();
        SocketOptions {
            ring: self.ring.unwrap_or(usual.ring),
            frames: self.frames.unwrap_or(usual.frames),
            hugepages: usual.hugepages || self.hugepages,
            ..usual
        }
    }
}

/// What a device is told at start.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Device {
    /// What forwards
    #[arg(long)]
    pub forwarder: Forwarder,
    /// Inner and outer family
    #[arg(long)]
    pub families: Families,
    /// Far prefixes in the table, those of the generator's traffic
    #[arg(long)]
    pub prefixes: u32,
    /// The interface to the site
    #[arg(long)]
    pub site: String,
    /// The interface to the core
    #[arg(long)]
    pub core: String,
    /// Its sockets
    #[command(flatten)]
    pub sockets: Sockets,
}

/// What was forwarded, and what it cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Tally {
    /// Frames taken from the interfaces.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// CPU time of the forwarding thread, seconds; time of the kernel on its behalf included.
    pub cpu: f64,
    /// Time by the clock, seconds.
    pub wall: f64,
    /// Whether the interfaces moved frames without copying them.
    pub zero_copy: bool,
}

/// Forwards between two interfaces of this namespace until `stop`. Calls `ready` when frames are taken.
///
/// # Errors
/// A line with what could not be opened.
pub fn forward(device: &Device, stop: &AtomicBool, ready: impl FnOnce()) -> Result<Tally, String> {
    let named = |name: &str| Interface::named(name).map_err(|error| error.to_string());
    let interfaces = [named(&device.site)?, named(&device.core)?];
    let (umem, ports) = open_worker(&interfaces, 0, &device.sockets.options()).map_err(|error| error.to_string())?;
    let zero_copy = ports.iter().all(XskPort::zero_copy);
    let (sleeper, _waker) = sleeper(&ports).map_err(|error| format!("what wakes the worker: {error}"))?;
    // What waits at the ports when it starts: nothing, the steering program feeds them only now.
    let steered = |ports: &[XskPort]| steer(&interfaces, ports, device.families).map_err(|error| error.to_string());
    let clock = || Ok::<_, String>((Instant::now(), thread_time()?));

    let (received, sent, start, before) = match device.forwarder {
        Forwarder::Altitude => {
            let v4 = device.families.inner4;
            let far = (0..device.prefixes).map(|index| Traffic::far(v4, index)).collect();
            // The table's other ends live as long as the worker runs.
            let (_writer, mut readers) = table(device.families, &Mappings::listed(device.families, far), 1);
            let Ready { worker, counters, misses: _misses, watch: _watch } =
                Ready::new(device.families, umem, Tuning::default());
            let _steering = steered(&ports)?;
            ready();
            let (start, before) = clock()?;
            run(worker, ports, readers.remove(0), sleeper, || {}, Idle { busy: false }, stop);
            let received = [0, 1].map(|port| counters.port(port).received.packets.get()).iter().sum();
            (received, counters.encapsulated.get() + counters.decapsulated.get(), start, before)
        }
        Forwarder::Swap => {
            let _steering = steered(&ports)?;
            ready();
            let (start, before) = clock()?;
            let (received, sent) = swap(umem, ports, sleeper, stop);
            (received, sent, start, before)
        }
    };
    let cpu = thread_time()?.saturating_sub(before).as_secs_f64();
    Ok(Tally { received, sent, cpu, wall: start.elapsed().as_secs_f64(), zero_copy })
}

fn steer(
    interfaces: &[Interface; 2],
    ports: &[XskPort],
    families: Families,
) -> Result<Vec<Steering>, altitude_dataplane::port::xsk::SteerError> {
    let mut all = Vec::new();
    for (index, (interface, port)) in interfaces.iter().zip(ports).enumerate() {
        let roles = Roles { site: index == 0, core: index == 1, native: false };
        let mut steering = Steering::attach(interface, roles, XdpMode::Native)?;
        steering.set_site_prefixes(&[site_prefix(families.inner4)])?;
        steering.set_rlocs(&[rloc(families.outer4, true)])?;
        port.register(&mut steering)?;
        all.push(steering);
    }
    Ok(all)
}

/// As [`run`] does, but for the work itself. Returns how many frames it received and sent.
fn swap(mut umem: Umem, mut ports: Vec<XskPort>, mut sleeper: Sleeper, stop: &AtomicBool) -> (u64, u64) {
    let mut batch = Vec::with_capacity(BATCH_DEFAULT);
    let (mut received, mut sent, mut idle_turns) = (0, 0, 0);
    while !stop.load(Ordering::Relaxed) {
        let turn = swap_turn(&mut umem, &mut ports, &mut batch);
        received += turn.received as u64;
        sent += turn.sent as u64;
        if turn.received > 0 {
            idle_turns = 0;
            continue;
        }
        idle_turns += 1;
        if idle_turns < IDLE_TURNS {
            std::hint::spin_loop();
            continue;
        }
        sleeper.sleep(SLEEP_MAX);
    }
    let outstanding: usize = ports.iter().map(Port::outstanding).sum();
    assert_eq!(umem.free() + outstanding, umem.slots(), "a frame leaked");
    (received, sent)
}

fn thread_time() -> Result<Duration, String> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).map_err(|error| error.to_string())
}
