//! AF_XDP: shared memory, sockets, the steering program, sleeping and waking.
//!
//! # How a frame travels the four rings
//!
//! A worker has one [`Umem`] and one [`XskPort`] per interface, all on the same queue number. Every socket has four
//! rings, each with one writer and one reader, the worker and the kernel; an entry is the right to a slot, so a frame is
//! in one ring, or in the kernel's hands between two, or the worker's.
//!
//! ```text
//!            ┌───────────── free list of the Umem, last in first out ◄─────────────┐
//!            │ refill                                                      reclaim │
//!            ▼                                                                     │
//!      fill ring ──► kernel puts a packet at slot + 256 ──► receive ring           │
//!      (site port)                                              │ receive          │
//!                                                               ▼                  │
//!                                         Frame: classify, look up, encap          │
//!                                         its start moves 36 octets or more        │
//!                                         to the front, nothing is copied          │
//!                                                               │ transmit         │
//!                                                               ▼                  │
//!      completion ring ◄── kernel or NIC sent it ◄──────── transmit ring           │
//!      (core port) └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! A frame that is dropped goes to the free list at once. A port's share of frames on each way is bounded (see `Share`
//! in `socket.rs`), so no port starves another.
//!
//! The rings are shared memory; system calls happen only to wake the kernel: in copy mode one `sendto` per
//! [`transmit`](crate::port::Port::transmit), on a zero-copy NIC only when its driver asks (need-wakeup is always on).
//!
//! # Busy polling
//!
//! With `busy_poll`, every socket prefers busy polling: all ports of an xTR receive. It saves the interrupt but ties
//! the queue to the worker's calls. On virtio and igb a preference on a socket that transmits stalled its sending, so
//! such a port wakes its transmit ring on every turn until the last frame is complete. It is off unless asked for, and
//! needs `napi_defer_hard_irqs` and `gro_flush_timeout` of the interface set by the operator to be of use.

#![allow(unsafe_code)]

mod depth;
mod error;
mod region;
mod shift;
mod socket;
mod sockopt;
mod steer;
mod umem;
mod wake;

use std::{ffi::CString, thread, time::Duration};

use xsk_rs::config::BindFlags;

pub use error::{SteerError, XskError};
pub use region::Region;
pub(crate) use region::with_lent;
pub use socket::{Observer, XskPort, XskStatistics};
pub use steer::{SteerCounts, Steering};
pub use wake::{Sleeper, Waker, sleeper};

use self::{shift::Shift, socket::Share};
use crate::frame::Umem;

/// A network interface of the current network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
}

impl Interface {
    /// Finds the interface by name.
    ///
    /// # Errors
    /// [`SteerError::Gone`] if there is none.
    pub fn named(name: &str) -> Result<Self, SteerError> {
        let gone = || SteerError::Gone { interface: name.to_owned() };
        let text = CString::new(name).map_err(|_| gone())?;
        // SAFETY: reads the NUL-terminated name.
        match unsafe { libc::if_nametoindex(text.as_ptr()) } {
            0 => Err(gone()),
            index => Ok(Self { name: name.to_owned(), index }),
        }
    }
}

/// How sockets are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bind {
    /// Zero-copy if every interface has it, else copy: the sockets share one memory, so they share the mode.
    #[default]
    Auto,
    /// Zero-copy or nothing.
    ZeroCopy,
    /// Copy.
    Copy,
}

/// Where the steering program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpMode {
    /// In the driver if it can, else generic.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// On socket buffers: any driver, slower, no zero-copy.
    Generic,
}

/// What an interface is to the xTR; it may be both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Hosts with EIDs are behind it.
    pub site: bool,
    /// RLOCs are reached through it.
    pub core: bool,
    /// Networks without LISP are behind it, of which packets to EID aggregates are taken.
    pub native: bool,
}

/// How the sockets of one worker are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// Entries of every ring, a power of two, at least 64. More only cost memory: a port uses as few as will do, to keep
    /// frames in the cache.
    pub ring: u32,
    /// Frames per worker.
    pub frames: usize,
    /// Bind mode.
    pub bind: Bind,
    /// Busy polling, µs per call.
    pub busy_poll: Option<u32>,
    /// Ask for huge pages; where there are none, [`XskPort::huge_pages`] tells.
    pub hugepages: bool,
}

impl Default for SocketOptions {
    /// For two ports: full rings at both of them, and some frames in hand. 19 MB.
    fn default() -> Self {
        Self { ring: 2048, frames: 9280, bind: Bind::Auto, busy_poll: None, hugepages: false }
    }
}

/// Fewest entries of a ring; as many frames may be on their way to each, and as many again in hand.
const RING_MIN: usize = 64;

/// First wait before a busy queue is tried again; each following one is twice as long.
const BUSY_WAIT: Duration = Duration::from_millis(10);

/// Tries for a busy queue: after a crash the kernel needs a moment to let go of it. 10 ms … 1.28 s, 2.5 s in all.
const BUSY_TRIES: u32 = 9;

/// Opens one memory and one socket per interface, all on queue `queue`, and fills the fill rings; the ports are in the
/// order of `interfaces`. Waits for a queue that was just given up, so not to be called on a packet's path.
///
/// # Errors
/// [`XskError`], whose text says what to do.
pub fn open_worker(
    interfaces: &[Interface],
    queue: u32,
    options: &SocketOptions,
) -> Result<(Umem, Vec<XskPort>), XskError> {
    check(interfaces, options)?;
    let shift = Shift::find()?;
    allow_locked_memory();
    let open = |mode| patiently(|| open_all(interfaces, queue, options, mode, shift));
    match options.bind {
        Bind::ZeroCopy => open(BindFlags::XDP_ZEROCOPY),
        Bind::Copy => open(BindFlags::XDP_COPY),
        Bind::Auto => match open(BindFlags::XDP_ZEROCOPY) {
            Err(XskError::NoZeroCopy { .. }) => open(BindFlags::XDP_COPY),
            opened => opened,
        },
    }
}

fn check(interfaces: &[Interface], options: &SocketOptions) -> Result<(), XskError> {
    if interfaces.is_empty() {
        return Err(XskError::Options("there is no interface to open a socket on".to_owned()));
    }
    for (position, interface) in interfaces.iter().enumerate() {
        if interfaces[..position].iter().any(|earlier| earlier.index == interface.index) {
            let name = &interface.name;
            return Err(XskError::Options(format!(
                "{name} is named twice: name an interface once, with both its roles"
            )));
        }
    }
    if !options.ring.is_power_of_two() || (options.ring as usize) < RING_MIN {
        return Err(XskError::Options(format!(
            "--ring must be a power of two from {RING_MIN} on, not {}",
            options.ring
        )));
    }
    let least = 4 * RING_MIN * interfaces.len();
    if options.frames < least {
        let ports = interfaces.len();
        let frames = options.frames;
        return Err(XskError::Options(format!("--frames must be at least {least} for {ports} ports, not {frames}")));
    }
    Ok(())
}

/// Everything anew on each try: what a failed bind leaves of a UMEM cannot be bound again.
fn open_all(
    interfaces: &[Interface],
    queue: u32,
    options: &SocketOptions,
    mode: BindFlags,
    shift: Shift,
) -> Result<(Umem, Vec<XskPort>), XskError> {
    let memory = umem::create(options, &interfaces[0].name)?;
    let share = Share::of(options.frames, interfaces.len(), options.ring);
    let mut ports = interfaces
        .iter()
        .map(|interface| XskPort::open(interface, queue, &memory, options, mode, (shift, share)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut umem = Umem::new(memory.region);
    for port in &mut ports {
        port.refill(&mut umem);
    }
    Ok((umem, ports))
}

fn patiently<T>(mut open: impl FnMut() -> Result<T, XskError>) -> Result<T, XskError> {
    for attempt in 0..BUSY_TRIES - 1 {
        match open() {
            Err(XskError::Busy { .. }) => thread::sleep(BUSY_WAIT * 2_u32.pow(attempt)),
            done => return done,
        }
    }
    open()
}

/// Frame memory counts as locked. Root may lock any amount; others get what their hard limit allows.
fn allow_locked_memory() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the one structure. If they fail, opening fails later and says why.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            let _refused = libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit);
        }
    }
}
