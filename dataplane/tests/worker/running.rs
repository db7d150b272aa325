//! The thread's body: it sleeps only when idle and offline, rings when misses were queued, and stops clean.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use altitude_dataplane::{
    port::{MemPort, Port},
    run::{Idle, Sleep, run},
};

use crate::{packets::*, world::*};

/// Notes each sleep, and stops the worker at the last.
struct Bed<'a> {
    sleeps: Rc<RefCell<Vec<Duration>>>,
    left: usize,
    stop: &'a AtomicBool,
}

impl Sleep for Bed<'_> {
    fn sleep(&mut self, at_most: Duration) {
        self.sleeps.borrow_mut().push(at_most);
        self.left -= 1;
        if self.left == 0 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs until the second sleep; gives the sleeps, the rings of the bell and the world's counters.
fn two_sleeps(frames: &[Vec<u8>]) -> (Vec<Duration>, u32, std::sync::Arc<altitude_dataplane::counters::Counters>) {
    let mut ports: Vec<MemPort> = (0..3).map(|_| MemPort::new()).collect();
    for frame in frames {
        ports[SITE_PORT].arrive(frame.clone());
    }
    let World { worker, ports, reader, counters, mut writer, misses, .. } = World::on(ports, Options::default());
    writer.publish();
    let stop = AtomicBool::new(false);
    let sleeps = Rc::default();
    let bell = Cell::new(0);
    let bed = Bed { sleeps: Rc::clone(&sleeps), left: 2, stop: &stop };
    run(worker, ports, reader, bed, || bell.set(bell.get() + 1), Idle { busy: false }, &stop);
    drop(misses);
    (sleeps.take(), bell.get(), counters)
}

#[test]
fn an_idle_worker_sleeps_long_and_leaves_nothing_behind() {
    let (sleeps, bell, counters) = two_sleeps(&[]);
    assert_eq!((sleeps, bell), (vec![Duration::from_millis(100); 2], 0));
    assert_eq!(counters.turns.get(), counters.idle_turns.get());
    assert_eq!(counters.leaked.get(), 0);
}

#[test]
fn a_worker_that_holds_frames_rings_and_sleeps_lightly() {
    let frames = [udp("1.1.1.1", "2.2.2.2", (1, 2), 9), udp("1.1.1.1", "2.2.2.3", (1, 2), 9)];
    let (sleeps, bell, counters) = two_sleeps(&frames.map(|packet| packet.host_frame()));
    assert_eq!((sleeps, bell), (vec![Duration::from_millis(5); 2], 1), "one ring for a turn's misses");
    assert_eq!((counters.held.get(), counters.leaked.get()), (2, 0));
}

/// A port that stops its worker after some turns.
struct Last<'a> {
    turns: u32,
    stop: &'a AtomicBool,
}

impl Port for Last<'_> {
    fn receive(
        &mut self,
        _: &mut altitude_dataplane::frame::Umem,
        _: &mut Vec<altitude_dataplane::frame::Frame>,
        _: usize,
    ) {
        self.turns -= 1;
        if self.turns == 0 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn transmit(
        &mut self,
        _: &mut altitude_dataplane::frame::Umem,
        _: &mut Vec<altitude_dataplane::frame::Frame>,
    ) -> usize {
        0
    }

    fn outstanding(&self) -> usize {
        0
    }
}

#[test]
fn a_busy_worker_never_sleeps() {
    struct Never;
    impl Sleep for Never {
        fn sleep(&mut self, _: Duration) {
            panic!("told never to sleep");
        }
    }
    let stop = AtomicBool::new(false);
    let ports = (0..3).map(|_| Last { turns: 1000, stop: &stop }).collect();
    let World { worker, ports, reader, counters, .. } = World::on(ports, Options::default());
    run(worker, ports, reader, Never, || panic!("nothing was missed"), Idle { busy: true }, &stop);
    assert_eq!((counters.turns.get(), counters.leaked.get()), (1000, 0));
}
