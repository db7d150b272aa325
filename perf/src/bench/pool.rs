//! Ports inside the process that cost next to nothing: packets go round and round over a ring of frames.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc};

use altitude_dataplane::{
    frame::{Frame, Umem},
    port::Port,
};

use super::mem::{Place, Traffic};

/// Frames on their way round, oldest first: what a NIC's rings hold.
#[derive(Debug)]
struct Pool {
    ready: VecDeque<Frame>,
    traffic: Arc<Traffic>,
    /// Of the next packet.
    place: Place,
    given: u64,
}

/// One end: packets come from `source` ends and are swallowed by both.
#[derive(Debug)]
pub(super) struct PoolPort {
    pool: Rc<RefCell<Pool>>,
    source: bool,
}

/// Two ports, packets arriving at the first one; `frames` of `umem` go round.
pub(super) fn pair(umem: &mut Umem, frames: usize, traffic: Arc<Traffic>, place: Place) -> Vec<PoolPort> {
    let mut ready = VecDeque::with_capacity(umem.slots());
    ready.extend(std::iter::from_fn(|| umem.allocate()).take(frames));
    let pool = Rc::new(RefCell::new(Pool { ready, traffic, place, given: 0 }));
    vec![PoolPort { pool: pool.clone(), source: true }, PoolPort { pool, source: false }]
}

impl PoolPort {
    /// Packets that arrived so far.
    pub(super) fn given(&self) -> u64 {
        self.pool.borrow().given
    }
}

impl Port for PoolPort {
    /// Only the headers are written, as the cache would have them from the NIC.
    fn receive(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>, limit: usize) {
        if !self.source {
            return;
        }
        let Pool { ready, traffic, place, given } = &mut *self.pool.borrow_mut();
        if ready.len() < limit {
            // Frames that the worker dropped.
            ready.extend(std::iter::from_fn(|| umem.allocate()).take(limit));
        }
        let first = batch.len();
        while batch.len() - first < limit
            && let Some(frame) = ready.pop_front()
        {
            batch.push(frame);
        }
        for frame in &mut batch[first..] {
            traffic.write(place, umem, frame);
        }
        *given += (batch.len() - first) as u64;
    }

    fn transmit(&mut self, _umem: &mut Umem, batch: &mut Vec<Frame>) -> usize {
        let count = batch.len();
        self.pool.borrow_mut().ready.extend(batch.drain(..));
        count
    }

    fn outstanding(&self) -> usize {
        if self.source { self.pool.borrow().ready.len() } else { 0 }
    }
}
