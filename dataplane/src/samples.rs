//! Copies of packets that find no mapping, for clients of the mapping API that want to see them.
//!
//! Nothing is copied while nobody wants any: a worker looks at that once a turn. Then the first few in a turn are whose miss goes to
//! the control thread, and before it, so that whoever takes the miss finds the packet. Of one out of a tunnel it is the inner.

#![forbid(unsafe_code)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

pub use rtrb::Consumer;
use rtrb::RingBuffer;

use crate::{classify::IpHeader, counters::Counters, frame::SLOT, mapping::Eid, verdict::Miss};

/// UDP and LISP headers.
const LISP_HEADERS: usize = 16;
/// Most copies of a turn.
const TURN_MAX: usize = 4;

/// An IP packet that found no mapping.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What was looked up for it.
    pub destination: Eid,
    length: u16,
    octets: [u8; SLOT],
}

impl Sample {
    /// The packet.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

/// A worker's end of the queue to the control thread.
#[derive(Debug)]
pub struct Samples {
    queue: rtrb::Producer<Sample>,
    wanted: Arc<AtomicBool>,
    /// Of this turn.
    left: usize,
    last: Option<Eid>,
}

impl Samples {
    /// Both ends of a queue of so many packets; copies are made as long as `wanted` is set.
    #[must_use]
    pub fn new(capacity: usize, wanted: Arc<AtomicBool>) -> (Self, Consumer<Sample>) {
        let (queue, consumer) = RingBuffer::new(capacity);
        (Self { queue, wanted, left: 0, last: None }, consumer)
    }

    /// A turn begins.
    pub(crate) fn begin(&mut self) {
        // Relaxed: a turn more or less does not matter.
        self.left = if self.wanted.load(Ordering::Relaxed) { TURN_MAX } else { 0 };
        self.last = None;
    }

    /// Whether a copy would be made.
    pub(crate) const fn is_wanted(&self) -> bool {
        self.left > 0
    }

    /// Copies the packet in this frame that missed, if that is wanted; `tunnelled`: it stands behind LISP headers.
    #[cold]
    pub(crate) fn offer(&mut self, miss: &Miss, frame: &[u8], tunnelled: bool, counters: &Counters) {
        if self.left == 0 || self.last == Some(miss.destination) {
            return;
        }
        let Ok((link, header)) = IpHeader::in_frame(frame) else { return };
        let mut packet = &frame[link..link + header.total];
        if tunnelled {
            let inner = packet.get(header.length + LISP_HEADERS..).unwrap_or_default();
            let Ok(header) = IpHeader::read(inner) else { return };
            packet = &inner[..header.total];
        }
        let packet = &packet[..packet.len().min(SLOT)];
        let mut sample = Sample { destination: miss.destination, length: packet.len() as u16, octets: [0; SLOT] };
        sample.octets[..packet.len()].copy_from_slice(packet);
        (self.left, self.last) = (self.left - 1, Some(miss.destination));
        if self.queue.push(sample).is_err() {
            counters.samples_lost.add(1);
        }
    }
}
