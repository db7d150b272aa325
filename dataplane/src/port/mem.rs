//! A port inside the process: tests and benchmarks put octets in at one end and take them out at the other.

use std::collections::VecDeque;

use super::Port;
use crate::frame::{Frame, Umem};

/// Two queues of packets: what the port will receive, and what it was given to transmit.
#[derive(Debug, Default)]
pub struct MemPort {
    arriving: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    /// Transmit ring entries; `None` is no limit.
    room: Option<usize>,
}

impl MemPort {
    /// A port that transmits everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A port whose transmit ring holds `room` packets until [`take_sent`](Self::take_sent).
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self { room: Some(room), ..Self::default() }
    }

    /// Lets a packet arrive, from the Ethernet header on.
    pub fn arrive(&mut self, packet: impl Into<Vec<u8>>) {
        self.arriving.push_back(packet.into());
    }

    /// Packets not yet received.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.arriving.len()
    }

    /// What was transmitted since the last call, oldest first.
    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }
}

impl Port for MemPort {
    /// A packet stays waiting while no frame is free; one that is longer than a frame's room is cut.
    fn receive(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>, limit: usize) {
        for _ in 0..limit.min(self.arriving.len()) {
            let Some(mut frame) = umem.allocate() else { return };
            let Some(packet) = self.arriving.pop_front() else { return umem.release(frame) };
            let length = packet.len().min(crate::frame::SLOT - crate::frame::HEADROOM);
            assert!(umem.set_len(&mut frame, length), "the length was cut to the slot");
            umem.octets_mut(&mut frame).copy_from_slice(&packet[..length]);
            batch.push(frame);
        }
    }

    fn transmit(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>) -> usize {
        let count = self.room.map_or(batch.len(), |room| batch.len().min(room.saturating_sub(self.sent.len())));
        for frame in batch.drain(..count) {
            self.sent.push(umem.octets(&frame).to_vec());
            umem.release(frame);
        }
        count
    }

    fn outstanding(&self) -> usize {
        0
    }
}
