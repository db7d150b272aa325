//! Frames and the memory they live in.
//!
//! A [`Umem`] is one region cut into slots of [`SLOT`] octets. A [`Frame`] is the right to one slot: it is neither
//! `Clone` nor `Send`, and is always in exactly one place: a ring, a batch, a hold queue or the free list. At the end
//! of a run every slot is accounted for.

use std::marker::PhantomData;

use crate::port::Region;

/// Octets of a slot: a 1500-octet packet with the kernel's headroom fits twice over.
pub const SLOT: usize = 2048;

/// Octets free in front of a packet that a port received; the outer header grows into them.
pub const HEADROOM: usize = 256;

/// The exclusive right to one slot of a [`Umem`], with where the packet in it starts and how long it is.
///
/// Must end in [`Umem::release`] or in a port's ring; a dropped frame is a leak that the accounting shows.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its Umem: release or transmit it"]
pub struct Frame {
    /// Octets from the start of the region.
    start: u32,
    length: u32,
    /// Frames stay with the thread that owns their memory.
    _not_send: PhantomData<*const ()>,
}

impl Frame {
    /// Length of the packet, octets.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether it holds no packet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    const fn slot(&self) -> u32 {
        self.start / SLOT as u32
    }

    /// Where the packet starts, octets from the start of the region.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.start as usize
    }
}

/// Frame memory of one worker, shared by all its ports.
///
/// The free list is last in, first out: the slot used last is the one still in the cache.
#[derive(Debug)]
pub struct Umem {
    region: Region,
    free: Vec<u32>,
    slots: usize,
}

impl Umem {
    /// Cuts `region` into slots, all free.
    #[must_use]
    pub fn new(region: Region) -> Self {
        let slots = region.len() / SLOT;
        let free = (0..slots as u32).rev().collect();
        Self { region, free, slots }
    }

    /// Memory of somebody else's with one frame in it, which begins at `start`; it must be no longer than a slot. Nothing can be
    /// allocated from it.
    pub(crate) const fn of_lent(region: Region, start: usize, length: usize) -> (Self, Frame) {
        let frame = Frame { start: start as u32, length: length as u32, _not_send: PhantomData };
        (Self { region, free: Vec::new(), slots: 0 }, frame)
    }

    /// The memory the slots are cut from.
    pub(crate) const fn region(&self) -> &Region {
        &self.region
    }

    /// Frames there are.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// Frames nobody uses.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// An empty frame with [`HEADROOM`], if one is free.
    #[inline]
    pub fn allocate(&mut self) -> Option<Frame> {
        let slot = self.free.pop()?;
        Some(Frame { start: slot * SLOT as u32 + HEADROOM as u32, length: 0, _not_send: PhantomData })
    }

    /// Empties the frame: as [`allocate`](Self::allocate) gives it.
    #[inline]
    pub fn renew(&mut self, frame: &mut Frame) {
        (frame.start, frame.length) = (frame.slot() * SLOT as u32 + HEADROOM as u32, 0);
    }

    /// Takes a frame back.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "the frame ends here")]
    pub fn release(&mut self, frame: Frame) {
        debug_assert!(self.free.len() < self.slots, "a frame was released twice");
        self.free.push(frame.slot());
    }

    /// Brings what a turn will touch of the packet nearer, to be read and written: its headers, and the end of the room
    /// in front of it.
    #[inline(always)]
    pub fn prefetch(&self, frame: &Frame) {
        self.region.prefetch(frame.start());
    }

    /// The packet.
    #[inline]
    #[must_use]
    pub fn octets(&self, frame: &Frame) -> &[u8] {
        &self.region[frame.start()..frame.start() + frame.len()]
    }

    /// The packet, to change.
    #[inline]
    pub fn octets_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        &mut self.region[frame.start()..frame.start() + frame.len()]
    }

    /// Copies `range` of one packet into another, to its octets from `at` on.
    ///
    /// # Panics
    /// If the range or the octets written reach beyond their packets.
    pub fn copy(&mut self, from: &Frame, range: std::ops::Range<usize>, to: &mut Frame, at: usize) {
        assert!(range.end <= from.len() && at + range.len() <= to.len(), "a copy stays inside both packets");
        let target = to.start() + at;
        self.region.copy_within(from.start() + range.start..from.start() + range.end, target);
    }

    /// Makes room for `front` octets in place of the first `skip` octets of the packet, and lets `length` octets follow
    /// them; false, and nothing done, if the slot has no such room.
    #[inline(always)]
    #[must_use]
    pub fn replace_front(&mut self, frame: &mut Frame, skip: usize, front: usize, length: usize) -> bool {
        let behind = frame.start() % SLOT + skip;
        if (behind < front) | (behind + length > SLOT) {
            return false;
        }
        frame.start = (frame.start() + skip - front) as u32;
        frame.length = (front + length) as u32;
        true
    }

    /// Moves the packet's start `count` octets towards the front; false, and nothing done, if the slot has no such room.
    #[inline]
    #[must_use]
    pub fn grow(&mut self, frame: &mut Frame, count: usize) -> bool {
        if frame.start() % SLOT < count {
            return false;
        }
        frame.start -= count as u32;
        frame.length += count as u32;
        true
    }

    /// Takes `count` octets off the front of the packet (all of it, if it is shorter).
    #[inline]
    pub fn shrink(&mut self, frame: &mut Frame, count: usize) {
        let count = (count as u32).min(frame.length);
        frame.start += count;
        frame.length -= count;
    }

    /// Sets the packet's length, cutting or extending it at the end within the slot; false if it does not fit.
    #[inline]
    #[must_use]
    pub fn set_len(&mut self, frame: &mut Frame, length: usize) -> bool {
        if frame.start() % SLOT + length > SLOT {
            return false;
        }
        frame.length = length as u32;
        true
    }

    /// Hands a frame to a ring: its start and length.
    #[expect(clippy::needless_pass_by_value, reason = "the ring owns the frame from here")]
    pub(crate) fn surrender(&mut self, frame: Frame) -> (usize, usize) {
        (frame.start(), frame.len())
    }

    /// Takes a frame over from a ring. The ring must have owned it, as after [`surrender`](Self::surrender).
    pub(crate) fn adopt(&mut self, start: usize, length: usize) -> Frame {
        debug_assert!(start % SLOT + length <= SLOT && start < self.slots * SLOT, "a ring returned a foreign frame");
        Frame { start: start as u32, length: length as u32, _not_send: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_moves_only_within_its_slot() {
        let mut umem = Umem::new(Region::anonymous(4));
        let mut frame = umem.allocate().unwrap();
        assert!(umem.set_len(&mut frame, 100));
        umem.octets_mut(&mut frame)[0] = 7;
        assert!(umem.grow(&mut frame, HEADROOM));
        assert_eq!((frame.len(), umem.octets(&frame)[HEADROOM]), (100 + HEADROOM, 7));
        assert!(!umem.grow(&mut frame, 1), "the next slot is not ours");
        umem.shrink(&mut frame, HEADROOM);
        assert_eq!((frame.len(), umem.octets(&frame)[0]), (100, 7));
        assert!(!umem.set_len(&mut frame, SLOT - HEADROOM + 1));
        assert!(umem.set_len(&mut frame, SLOT - HEADROOM));
        umem.release(frame);
        assert_eq!(umem.free(), 4);
    }

    #[test]
    fn the_front_of_a_packet_is_replaced_only_within_its_slot() {
        let mut umem = Umem::new(Region::anonymous(2));
        let mut frame = umem.allocate().unwrap();
        assert!(umem.set_len(&mut frame, 100));
        umem.octets_mut(&mut frame)[14] = 7;
        assert!(umem.replace_front(&mut frame, 14, 50, 40));
        assert_eq!((frame.len(), umem.octets(&frame)[50]), (90, 7));
        let start = frame.start();
        assert!(!umem.replace_front(&mut frame, 50, HEADROOM + 15, 40), "the slot before is not ours");
        assert!(!umem.replace_front(&mut frame, 50, 14, SLOT - HEADROOM - 13), "nor the one behind");
        assert_eq!((frame.start(), frame.len()), (start, 90));
        assert!(umem.replace_front(&mut frame, 50, HEADROOM + 14, SLOT - HEADROOM - 14));
        assert_eq!((frame.start() % SLOT, frame.len()), (0, SLOT));
        umem.release(frame);
    }

    #[test]
    fn every_slot_is_handed_out_once() {
        let mut umem = Umem::new(Region::anonymous(3));
        let frames: Vec<Frame> = std::iter::from_fn(|| umem.allocate()).collect();
        let mut slots: Vec<usize> = frames.iter().map(|frame| frame.start() / SLOT).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2]);
        assert_eq!(umem.free(), 0);
        for frame in frames {
            umem.release(frame);
        }
        assert_eq!(umem.free(), umem.slots());
    }
}
