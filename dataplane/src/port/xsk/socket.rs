//! One AF_XDP socket: one queue of one interface.

use std::{
    fmt, io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue,
    config::{BindFlags, LibxdpFlags, SocketConfig},
    socket::SocketCreateError,
};

use super::{
    Interface, SocketOptions,
    depth::Depth,
    error::{SteerError, XskError},
    shift::Shift,
    sockopt,
    steer::Steering,
    umem::{SharedMemory, os_error, ring_size},
};
use crate::{
    frame::{Frame, Umem},
    port::{BATCH, Port},
};

/// Most frames that one port may have on its way in and on its way out, so that no port takes all of them.
///
/// Half of the frames are shared out to the fill rings and a quarter to the transmit rings. A quarter is left for
/// batches and held frames: a port whose peer is slow, or a burst on one port, never empties another's fill ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    receive: usize,
    transmit: usize,
}

impl Share {
    /// Of `frames` frames for each of `ports` ports, whose rings hold `ring`.
    pub(super) fn of(frames: usize, ports: usize, ring: u32) -> Self {
        let ring = ring as usize;
        Self { receive: (frames / 2 / ports).min(ring), transmit: (frames / 4 / ports).min(ring) }
    }
}

/// Frames that one busy poll may take: what a driver's own poll takes.
const POLL_BUDGET: u32 = 64;

/// The kernel's counters of one socket, since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XskStatistics {
    /// Frames dropped on receive for other reasons than the ones below, for example too long for a slot.
    pub rx_dropped: u64,
    /// Frames dropped because a fill descriptor was wrong. Stays 0.
    pub rx_invalid: u64,
    /// Frames dropped because the worker did not empty the receive ring in time.
    pub rx_ring_full: u64,
    /// Times that the fill ring had no frame for an arriving packet.
    pub fill_ring_empty: u64,
    /// Transmit descriptors refused. Stays 0.
    pub tx_invalid: u64,
    /// Times that the transmit ring was empty when the driver looked.
    pub tx_ring_empty: u64,
}

/// One queue of one interface over AF_XDP. The frames on its rings are of the [`Umem`] it was opened with, and it works
/// with no other.
///
/// A dropped port takes the frames on its rings with it; [`Port::outstanding`] tells before how many they are. Its queue
/// is free for another socket when the port, its [`Umem`] (which keeps the worker's first socket open), and every
/// [`Observer`] and [`Sleeper`](super::Sleeper) made of it are dropped; until then frames that are steered to it are lost,
/// so drop the [`Steering`] first.
pub struct XskPort {
    interface: Interface,
    queue: u32,
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    /// Entries of each ring.
    ring: u32,
    shift: Shift,
    share: Share,
    /// Within the share.
    depth: Depth,
    /// Frames on the fill ring, in the kernel's hands for receiving, or on the receive ring.
    receiving: usize,
    /// Frames on the transmit ring, in the kernel's hands for sending, or on the completion ring.
    transmitting: usize,
    /// Written by the rings, read at once: received and completed frames, frames to fill.
    taken: Box<[FrameDesc; BATCH]>,
    /// Frames to transmit. Apart from `taken`, whose options the receive ring sets.
    given: Box<[FrameDesc; BATCH]>,
    /// Where the region is that the frames are of.
    region: usize,
    busy_poll: bool,
    zero_copy: bool,
    huge_pages: bool,
}

impl XskPort {
    /// Opens and binds a socket. Its fill ring is empty.
    pub(super) fn open(
        interface: &Interface,
        queue: u32,
        memory: &SharedMemory,
        options: &SocketOptions,
        bind: BindFlags,
        (shift, share): (Shift, Share),
    ) -> Result<Self, XskError> {
        let name = interface.name.parse().map_err(|_| XskError::Options(format!("'{}' is no name", interface.name)))?;
        let ring = ring_size(options)?;
        let config = SocketConfig::builder()
            .rx_queue_size(ring)
            .tx_queue_size(ring)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(bind | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        // SAFETY: libxdp loads no program (INHIBIT_PROG_LOAD), so none is detached twice.
        let opened = unsafe { Socket::new(config, &memory.umem, &name, queue) };
        let (tx, rx, rings) = opened.map_err(|error| refused(&error, interface, queue, bind))?;
        let (fill, completion) = rings.ok_or_else(|| {
            XskError::Options(format!("{} is named twice: each queue of an interface takes one socket", interface.name))
        })?;
        let fd = tx.fd().as_raw_fd();
        let kernel = |doing| move |source| XskError::Kernel { doing, interface: interface.name.clone(), source };
        sockopt::raise_tx_budget(fd, options.ring);
        if let Some(usec) = options.busy_poll {
            sockopt::prefer_busy_poll(fd, usec, POLL_BUDGET).map_err(kernel("setting busy polling"))?;
        }
        Ok(Self {
            interface: interface.clone(),
            queue,
            tx,
            rx,
            fill,
            completion,
            ring: options.ring,
            shift,
            share,
            depth: Depth::new(share.receive),
            receiving: 0,
            transmitting: 0,
            taken: Box::new([FrameDesc::default(); BATCH]),
            given: Box::new([FrameDesc::default(); BATCH]),
            region: memory.region.address(),
            busy_poll: options.busy_poll.is_some(),
            zero_copy: sockopt::is_zero_copy(fd).map_err(kernel("asking for the bind mode"))?,
            huge_pages: memory.huge_pages,
        })
    }

    /// The interface.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The receive queue.
    #[must_use]
    pub const fn queue(&self) -> u32 {
        self.queue
    }

    /// Whether the driver moves frames to and from this memory without copying them.
    #[must_use]
    pub const fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether the frames are on huge pages. If they were asked for and this is false, there were none to be had: the
    /// port works, each packet just costs more address translation; the operator should hear of it.
    #[must_use]
    pub const fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// Makes `steering` feed this socket; until then it receives nothing.
    ///
    /// # Errors
    /// [`SteerError::WrongSocket`], [`SteerError::ZeroCopyNeedsNative`], or the kernel's refusal.
    pub fn register(&self, steering: &mut Steering) -> Result<(), SteerError> {
        steering.feed(&self.interface, self.queue, self.fd(), self.zero_copy)
    }

    /// The kernel's counters.
    ///
    /// # Errors
    /// Those of getsockopt(2); none on an open socket.
    pub fn statistics(&self) -> io::Result<XskStatistics> {
        sockopt::statistics(self.raw_fd())
    }

    /// A handle that reads the counters from another thread.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn observer(&self) -> io::Result<Observer> {
        Ok(Observer { socket: self.duplicate()? })
    }

    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.fd().try_clone_to_owned()
    }

    fn raw_fd(&self) -> RawFd {
        self.tx.fd().as_raw_fd()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the queues keep the socket open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.raw_fd()) }
    }

    /// Takes sent frames back into the free list, so that the next to be used is the one just sent.
    fn reclaim(&mut self, umem: &mut Umem) {
        while self.transmitting > 0 {
            // SAFETY: the descriptors are overwritten; the frames were this UMEM's when they were transmitted.
            let count = unsafe { self.completion.consume(&mut self.taken[..]) };
            self.transmitting -= count;
            for descriptor in &self.taken[..count] {
                let frame = umem.adopt(descriptor.addr(), 0);
                umem.release(frame);
            }
            if count < BATCH {
                return;
            }
        }
    }

    /// Hands free frames to the fill ring, as deep as it shall be.
    pub(super) fn refill(&mut self, umem: &mut Umem) {
        let mut wanted = self.depth.now().saturating_sub(self.receiving).min(umem.free());
        while wanted > 0 {
            let count = wanted.min(BATCH);
            for descriptor in &mut self.taken[..count] {
                let Some(frame) = umem.allocate() else { unreachable!("as many are free as are wanted") };
                let (start, length) = umem.surrender(frame);
                self.shift.set(descriptor, start, length);
            }
            // SAFETY: the frames are of this UMEM (checked by every caller), and belong to the ring from here.
            let produced = unsafe { self.fill.produce(&self.taken[..count]) };
            self.receiving += produced;
            if produced < count {
                // The ring has an entry for every frame of the share, so this is the kernel's doing; lose nothing.
                for descriptor in &self.taken[produced..count] {
                    let frame = umem.adopt(descriptor.addr(), 0);
                    umem.release(frame);
                }
                return;
            }
            wanted -= count;
        }
    }

    fn take_received(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>, limit: usize) -> usize {
        // SAFETY: the descriptors are overwritten.
        let count = unsafe { self.rx.consume(&mut self.taken[..limit.min(BATCH)]) };
        self.depth.taken(count == limit.min(BATCH), || count + self.rx.nb_avail_exact() as usize);
        self.receiving -= count;
        for descriptor in &self.taken[..count] {
            batch.push(umem.adopt(descriptor.addr(), descriptor.lengths().data()));
        }
        count
    }

    /// Wakes the kernel where it waits for us: a driver that ran out of fill frames, and in copy mode a transmit ring
    /// that the last wake-up did not empty. When traffic flows, neither is the case.
    fn wake(&mut self, received: usize) {
        if self.receiving > 0 && (self.fill.needs_wakeup() || (self.busy_poll && received == 0)) {
            sockopt::wake_receive(self.raw_fd());
        }
        if self.transmitting > 0 && (self.busy_poll || self.tx.nb_free_exact() < self.ring) && self.tx.needs_wakeup() {
            sockopt::wake_transmit(self.raw_fd());
        }
    }

    fn check(&self, umem: &Umem) {
        assert!(umem.region().address() == self.region, "a port works only with the Umem it was opened with");
    }
}

impl Port for XskPort {
    fn receive(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>, limit: usize) {
        self.check(umem);
        self.reclaim(umem);
        self.refill(umem);
        let received = self.take_received(umem, batch, limit);
        self.wake(received);
    }

    fn transmit(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>) -> usize {
        self.check(umem);
        if self.share.transmit - self.transmitting < batch.len() {
            self.reclaim(umem);
        }
        let wanted = batch.len().min(self.share.transmit - self.transmitting);
        // The ring has an entry for each frame of the share, but nobody promises that a driver frees the entry before
        // it completes the frame.
        let accepted = wanted.min(self.tx.nb_free(wanted as u32) as usize);
        let mut filled = 0;
        for (index, frame) in batch.drain(..accepted).enumerate() {
            if frame.is_empty() {
                // The kernel skips an empty descriptor and never completes it: the frame would be lost.
                umem.release(frame);
            } else {
                let (start, length) = umem.surrender(frame);
                self.shift.set(&mut self.given[filled], start, length);
                filled += 1;
            }
            if filled == BATCH || (index + 1 == accepted && filled > 0) {
                // SAFETY: the frames are of this UMEM (checked above), and belong to the ring from here.
                let produced = unsafe { self.tx.produce(&self.given[..filled]) };
                assert!(produced == filled, "only this port fills the transmit ring, and it had room");
                self.transmitting += produced;
                filled = 0;
            }
        }
        if accepted > 0 && self.tx.needs_wakeup() {
            sockopt::wake_transmit(self.raw_fd());
        }
        accepted
    }

    fn outstanding(&self) -> usize {
        self.receiving + self.transmitting
    }
}

impl fmt::Debug for XskPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XskPort")
            .field("interface", &self.interface.name)
            .field("queue", &self.queue)
            .field("receiving", &self.receiving)
            .field("transmitting", &self.transmitting)
            .field("zero_copy", &self.zero_copy)
            .finish_non_exhaustive()
    }
}

/// Reads a socket's counters while a worker has the port. It keeps the socket open.
#[derive(Debug)]
pub struct Observer {
    socket: OwnedFd,
}

impl Observer {
    /// The kernel's counters.
    ///
    /// # Errors
    /// Those of getsockopt(2); none on an open socket.
    pub fn statistics(&self) -> io::Result<XskStatistics> {
        sockopt::statistics(self.socket.as_raw_fd())
    }
}

fn refused(error: &SocketCreateError, interface: &Interface, queue: u32, bind: BindFlags) -> XskError {
    let source = os_error(error);
    let name = interface.name.clone();
    match source.raw_os_error() {
        Some(libc::EBUSY) => XskError::Busy { interface: name, queue },
        Some(libc::EPERM | libc::EACCES) => XskError::Permission { interface: name },
        Some(libc::EAFNOSUPPORT) => XskError::NoAfXdp,
        Some(libc::EOPNOTSUPP | libc::EINVAL) if bind.contains(BindFlags::XDP_ZEROCOPY) => {
            XskError::NoZeroCopy { interface: name, queue }
        }
        Some(libc::EINVAL) => XskError::NoQueue { interface: name, queue },
        _ => XskError::Kernel { doing: "opening an AF_XDP socket", interface: name, source },
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn all_shares_together_leave_a_quarter() {
        for (frames, ports, ring) in [(8192, 2, 1024), (8192, 16, 1024), (1024, 4, 4096), (65_536, 3, 2048)] {
            let share = Share::of(frames, ports, ring);
            assert!(share.receive > 0 && share.transmit > 0);
            assert!(share.receive <= ring as usize && share.transmit <= ring as usize, "an entry for each frame");
            assert!((share.receive + share.transmit) * ports <= frames / 4 * 3, "{frames} frames, {ports} ports");
        }
    }
}
