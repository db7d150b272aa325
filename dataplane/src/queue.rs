//! The queues from a worker up to the control thread: bounded, one producer, one consumer, wait-free.

pub use rtrb::Consumer;
use rtrb::RingBuffer;

use crate::{sightings::Sighting, verdict::Miss};

/// The worker's end. An offer never blocks: a full queue says so, and the worker counts it.
#[derive(Debug)]
pub struct MissQueue(rtrb::Producer<Miss>);

impl MissQueue {
    /// Queues a miss; false if there is no room.
    #[inline]
    #[must_use]
    pub fn offer(&mut self, miss: Miss) -> bool {
        self.0.push(miss).is_ok()
    }
}

/// Both ends of a queue for `capacity` misses.
#[must_use]
pub fn misses(capacity: usize) -> (MissQueue, Consumer<Miss>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    (MissQueue(producer), consumer)
}

/// The worker's end of the queue of what peers' headers told, where a header feature is on.
#[derive(Debug)]
pub struct SightingQueue(rtrb::Producer<Sighting>);

impl SightingQueue {
    /// Queues a sighting; false if there is no room.
    #[must_use]
    pub fn offer(&mut self, sighting: Sighting) -> bool {
        self.0.push(sighting).is_ok()
    }
}

/// Both ends of a queue for `capacity` sightings.
#[must_use]
pub fn sightings(capacity: usize) -> (SightingQueue, Consumer<Sighting>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    (SightingQueue(producer), consumer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mapping::{Eid, InstanceId},
        verdict::Wanted,
    };

    #[test]
    fn a_full_queue_refuses_and_order_is_kept() {
        let miss = |last: u8| Miss {
            wanted: Wanted::Mapping,
            destination: Eid { instance: InstanceId::DEFAULT, address: [2, 2, 2, last].into() },
            source: [1, 1, 1, 1].into(),
        };
        let (mut up, mut down) = misses(2);
        assert!(up.offer(miss(1)) && up.offer(miss(2)) && !up.offer(miss(3)));
        assert_eq!(down.pop(), Ok(miss(1)));
        assert!(up.offer(miss(4)));
        assert_eq!((down.pop(), down.pop()), (Ok(miss(2)), Ok(miss(4))));
        assert!(down.pop().is_err());
    }
}
