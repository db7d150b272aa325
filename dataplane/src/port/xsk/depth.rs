//! How many frames wait in the kernel for packets.
//!
//! A frame comes back to the cache's attention when the kernel has gone once through all that wait, so fewer are
//! faster: on veth, 64 octets, one core of two (AMD EPYC, Linux 6.18), 256 gave as many packets a second of CPU time as
//! 1024, 2048 gave 4 to 6 % less and 4096 gave 7 % less, whatever the size of the rings themselves; while compilers ran
//! beside, the difference drowned. But while a worker is kept from its core, packets take what waits: 1024 frames are
//! 10 ms at 100,000 a second. With the compilers beside, that rate lost up to 5 % in 3 seconds with 1024 frames, up to
//! 2.5 % with 2048 and nothing with 4096.
//!
//! So a port keeps few waiting until it is shown that they do not do: a burst that used up most of them at once doubles
//! them, as far as there are ring entries. When more packets come than the worker can ever take, more frames do not
//! help, they only add to the wait: then it is few again.

/// Waiting when all is well.
const FEW: usize = 1024;
/// Batches taken one after the other without an end that tell too much traffic from a burst.
const OVERLOAD: u32 = 256;

/// How many frames are handed out for receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    now: usize,
    most: usize,
    /// Full batches since the ring was empty.
    full: u32,
}

impl Depth {
    /// Never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { now: FEW.min(most), most, full: 0 }
    }

    /// Frames to have on their way in.
    pub(super) const fn now(self) -> usize {
        self.now
    }

    /// A batch was taken; `full` if there may be more, and `waiting` tells how many packets there were in all.
    pub(super) fn taken(&mut self, full: bool, waiting: impl FnOnce() -> usize) {
        if !full {
            self.full = 0;
            return;
        }
        self.full += 1;
        if self.full == 1 && waiting() >= self.now / 4 * 3 {
            self.now = (2 * self.now).min(self.most);
        } else if self.full >= OVERLOAD {
            self.now = FEW.min(self.most);
            // Counts no further, and is not the first one either.
            self.full = OVERLOAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a backlog of `packets` in batches of 64, and then the empty ring.
    fn burst(depth: &mut Depth, packets: usize) {
        for left in (1..=packets / 64).rev() {
            depth.taken(true, || left * 64);
        }
        depth.taken(false, || unreachable!("asked only for full batches"));
    }

    #[test]
    fn bursts_that_nearly_empty_the_ring_make_it_deeper() {
        let mut depth = Depth::new(4096);
        let mut depths = Vec::new();
        for packets in [64, 700, 1024, 1024, 1400, 1600, 4096, 4096, 0] {
            burst(&mut depth, packets);
            depths.push(depth.now());
        }
        // ¾ of 1024 is 768, of 2048 is 1536.
        assert_eq!(depths, [1024, 1024, 2048, 2048, 2048, 4096, 4096, 4096, 4096]);
    }

    #[test]
    fn too_much_traffic_does_not() {
        let mut depth = Depth::new(4096);
        burst(&mut depth, 1024);
        assert_eq!(depth.now(), 2048);
        for _ in 0..10_000 {
            depth.taken(true, || 2048);
        }
        assert_eq!(depth.now(), 1024);
        burst(&mut depth, 1024);
        assert_eq!(depth.now(), 1024, "its end is no burst");
        burst(&mut depth, 1024);
        assert_eq!(depth.now(), 2048, "but the next one is");
    }

    #[test]
    fn a_small_share_is_never_exceeded() {
        let mut depth = Depth::new(96);
        burst(&mut depth, 96);
        assert_eq!(depth.now(), 96);
    }
}
