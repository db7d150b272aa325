//! Ports inside the process that cost next to nothing: packets go round and round over a ring of frames.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use altitude_dataplane::{
    frame::{Frame, HEADROOM, SLOT, Umem},
    port::{BATCH, Port},
};

use super::packets::Template;

/// Frames on their way round, oldest first: what a NIC's rings hold.
#[derive(Debug)]
struct Pool {
    ready: VecDeque<Frame>,
    templates: Vec<Template>,
    /// Packets given so far; the next one is of the next template.
    given: usize,
    taken: u64,
}

/// One end: packets come from `source` ends and are swallowed by both.
#[derive(Debug)]
pub(super) struct PoolPort {
    pool: Rc<RefCell<Pool>>,
    source: bool,
}

/// Two ports, packets arriving at the first one; `frames` of `umem` go round.
pub(super) fn pair(umem: &mut Umem, frames: usize, templates: Vec<Template>) -> Vec<PoolPort> {
    let mut ready = VecDeque::with_capacity(frames);
    ready.extend(std::iter::from_fn(|| umem.allocate()).take(frames));
    let pool = Rc::new(RefCell::new(Pool { ready, templates, given: 0, taken: 0 }));
    vec![PoolPort { pool: pool.clone(), source: true }, PoolPort { pool, source: false }]
}

impl PoolPort {
    /// Packets that went round so far.
    pub(super) fn taken(&self) -> u64 {
        self.pool.borrow().taken
    }
}

impl Port for PoolPort {
    /// Only the headers are written, as the cache would have them from the NIC; the payload is whatever was there.
    fn receive(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>) {
        if !self.source {
            return;
        }
        let pool = &mut *self.pool.borrow_mut();
        for mut frame in pool.ready.drain(..BATCH.min(pool.ready.len())) {
            let template = &pool.templates[pool.given % pool.templates.len()];
            pool.given += 1;
            renew(umem, &mut frame, template);
            batch.push(frame);
        }
    }

    fn transmit(&mut self, _umem: &mut Umem, batch: &mut Vec<Frame>) -> usize {
        let pool = &mut *self.pool.borrow_mut();
        let count = batch.len();
        pool.taken += count as u64;
        pool.ready.extend(batch.drain(..));
        count
    }

    fn outstanding(&self) -> usize {
        if self.source { self.pool.borrow().ready.len() } else { 0 }
    }
}

/// Moves the packet back to where a port receives it, and writes its headers anew.
fn renew(umem: &mut Umem, frame: &mut Frame, template: &Template) {
    let offset = frame.start() % SLOT;
    if offset < HEADROOM {
        umem.shrink(frame, HEADROOM - offset);
    }
    let back = umem.grow(frame, offset.saturating_sub(HEADROOM));
    assert!(back && umem.set_len(frame, template.total()), "a frame that a port gave fits again");
    umem.octets_mut(frame)[..template.head().len()].copy_from_slice(template.head());
}
