//! The generator where the kernel does not send by itself: an AF_XDP socket that only transmits, ten times slower.

use altitude_dataplane::{
    frame::{Frame, Umem},
    port::{
        BATCH, Port,
        xsk::{Interface, SocketOptions, XskPort, open_worker},
    },
};
use nix::time::{ClockId, clock_gettime};

use super::stream::Progress;

/// An AF_XDP socket on the interface's first queue.
#[derive(Debug)]
pub(super) struct AfXdp {
    umem: Umem,
    port: XskPort,
    /// Made, and not yet taken by the interface.
    batch: Vec<Frame>,
    /// Frames that the socket holds when it sends nothing: its fill ring.
    idle: usize,
    pub(super) progress: Progress,
}

impl AfXdp {
    pub(super) fn open(interface: &Interface) -> Result<Self, String> {
        let opened = open_worker(std::slice::from_ref(interface), 0, &SocketOptions::default());
        let (umem, mut ports) = opened.map_err(|error| error.to_string())?;
        let port = ports.pop().ok_or("no socket was opened")?;
        let idle = port.outstanding();
        Ok(Self { umem, port, batch: Vec::with_capacity(BATCH), idle, progress: Progress::default() })
    }

    /// Begins a run, and returns where: a stream goes on where the last run left it.
    pub(super) fn begin(&mut self, anew: bool) -> Progress {
        let Progress { frames, hits, misses, .. } = self.progress;
        let base = Progress { frames, hits, misses, ..Progress::default() };
        self.progress = if anew { Progress::default() } else { base };
        self.progress
    }

    /// Gives the interface what it did not take yet; whether it has sent all.
    pub(super) fn flush(&mut self) -> bool {
        self.reclaim();
        self.port.transmit(&mut self.umem, &mut self.batch);
        self.batch.is_empty() && self.port.outstanding() <= self.idle
    }

    /// Sends at most a batch and returns how many frames that were: fewer, or none, if the interface does not keep up.
    /// `write` makes the next frame and returns its length.
    pub(super) fn send(&mut self, count: u32, mut write: impl FnMut(&mut Progress, &mut [u8]) -> usize) -> u32 {
        self.reclaim();
        let before = self.batch.len();
        while self.batch.len() < BATCH.min(count as usize) {
            let Some(mut frame) = self.umem.allocate() else { break };
            let room = self.umem.set_len(&mut frame, LONGEST);
            assert!(room, "a fresh frame has this room");
            let length = write(&mut self.progress, self.umem.octets_mut(&mut frame));
            let fits = self.umem.set_len(&mut frame, length);
            assert!(fits, "a frame is no longer than its room");
            self.batch.push(frame);
        }
        let made = self.batch.len() - before;
        // What the ring does not take goes first the next time.
        self.port.transmit(&mut self.umem, &mut self.batch);
        made as u32
    }

    /// Takes back what was sent. Nothing is steered here, so nothing arrives.
    fn reclaim(&mut self) {
        let mut arrived = Vec::new();
        self.port.receive(&mut self.umem, &mut arrived, BATCH);
        arrived.into_iter().for_each(|frame| self.umem.release(frame));
    }
}

/// What a frame has room for.
const LONGEST: usize = altitude_dataplane::frame::SLOT - altitude_dataplane::frame::HEADROOM;

/// The clock of probes, as the kernel's programs read it: CLOCK_MONOTONIC, nanoseconds.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    now.as_nanos() as u64
}
