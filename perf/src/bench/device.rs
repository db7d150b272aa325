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
    Families,
    packets::rloc,
    xtr::{Xtr, site_prefix, swap_turn},
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

/// What was forwarded, and what it cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Tally {
    /// Frames sent.
    pub sent: u64,
    /// CPU time of the forwarding thread, seconds; time of the kernel on its behalf included.
    pub cpu: f64,
    /// Time by the clock, seconds.
    pub wall: f64,
    /// Whether the interfaces moved frames without copying them.
    pub zero_copy: bool,
}

/// Forwards between the interfaces `site` and `core` of this namespace until `stop`. Calls `ready` when frames are
/// taken.
///
/// # Errors
/// A line with what could not be opened.
pub fn forward(
    forwarder: Forwarder,
    families: Families,
    [site, core]: [&str; 2],
    stop: &AtomicBool,
    ready: impl FnOnce(),
) -> Result<Tally, String> {
    let named = |name: &str| Interface::named(name).map_err(|error| error.to_string());
    let interfaces = [named(site)?, named(core)?];
    let (umem, ports) = open_worker(&interfaces, 0, &SocketOptions::default()).map_err(|error| error.to_string())?;
    let steering = steer(&interfaces, &ports, families).map_err(|error| error.to_string())?;
    let zero_copy = ports.iter().all(XskPort::zero_copy);
    let (sleeper, _waker) = sleeper(&ports).map_err(|error| format!("what wakes the worker: {error}"))?;
    ready();

    let (start, before) = (Instant::now(), thread_time()?);
    let sent = match forwarder {
        Forwarder::Altitude => worker(families, umem, ports, sleeper, stop),
        Forwarder::Swap => swap(umem, ports, sleeper, stop),
    };
    let cpu = thread_time()?.saturating_sub(before).as_secs_f64();
    drop(steering);
    Ok(Tally { sent, cpu, wall: start.elapsed().as_secs_f64(), zero_copy })
}

fn steer(
    interfaces: &[Interface; 2],
    ports: &[XskPort],
    families: Families,
) -> Result<Vec<Steering>, altitude_dataplane::port::xsk::SteerError> {
    let mut all = Vec::new();
    for (index, (interface, port)) in interfaces.iter().zip(ports).enumerate() {
        let roles = Roles { site: index == 0, core: index == 1 };
        let mut steering = Steering::attach(interface, roles, XdpMode::Native)?;
        steering.set_site_prefixes(&[site_prefix(families.inner4)])?;
        steering.set_rlocs(&[rloc(families.outer4, true)])?;
        port.register(&mut steering)?;
        all.push(steering);
    }
    Ok(all)
}

fn worker(families: Families, umem: Umem, ports: Vec<XskPort>, sleeper: Sleeper, stop: &AtomicBool) -> u64 {
    let Xtr { worker, reader, counters, rest: _rest } = Xtr::new(families, umem);
    run(worker, ports, reader, sleeper, || {}, Idle { busy: false }, stop);
    counters.encapsulated.get() + counters.decapsulated.get()
}

/// As [`run`] does, but for the work itself.
fn swap(mut umem: Umem, mut ports: Vec<XskPort>, mut sleeper: Sleeper, stop: &AtomicBool) -> u64 {
    let mut batch = Vec::with_capacity(BATCH_DEFAULT);
    let (mut sent, mut idle_turns) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let frames = swap_turn(&mut umem, &mut ports, &mut batch) as u64;
        sent += frames;
        idle_turns = if frames > 0 { 0 } else { idle_turns + 1 };
        if idle_turns >= IDLE_TURNS {
            sleeper.sleep(SLEEP_MAX);
        }
    }
    let outstanding: usize = ports.iter().map(Port::outstanding).sum();
    assert_eq!(umem.free() + outstanding, umem.slots(), "a frame leaked");
    sent
}

fn thread_time() -> Result<Duration, String> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).map_err(|error| error.to_string())
}
