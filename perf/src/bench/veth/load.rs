//! The generator of a cable: opened once for a case, then started and stopped for each measurement.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
};

use super::{Cable, Cores, Traffic};
use crate::{
    bench::generator::{Generator, Pacer, Sent, Source, Stream},
    lab::{LabError, Namespace},
};

/// A generator that waits, or sends.
pub(super) struct Load {
    /// Rates; it ends when this does.
    orders: Option<Sender<Option<f64>>>,
    answers: Receiver<Result<Sent, String>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), LabError>>>,
}

impl Load {
    /// Makes the frames and sets the generator up, on a core of its own.
    pub(super) fn open(cable: &Cable, traffic: &Traffic, cores: Cores) -> Result<Self, LabError> {
        let stream = Stream::new(&traffic.recipe()).map_err(LabError::Wrong)?;
        Self::of(&cable.generator, Cable::OUT, Source::Stream(stream), cores.generator)
    }

    /// Sets a generator up in this namespace.
    pub(super) fn of(
        namespace: &Namespace,
        interface: &'static str,
        source: Source,
        core: usize,
    ) -> Result<Self, LabError> {
        let (orders, wanted) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let (opened, open) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = namespace.spawn(move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            let mut generator = match Generator::open(interface, source, None) {
                Ok(generator) => generator,
                Err(why) => return drop(opened.send(Err(why))),
            };
            let _ = opened.send(Ok(()));
            for rate in wanted {
                let sent = generator.run(Pacer::new(rate), |_, _| !stopped.load(Ordering::Relaxed));
                if answer.send(sent).is_err() {
                    return;
                }
            }
        })?;
        let gone = |_| LabError::Wrong("the generator did not start".into());
        open.recv().map_err(gone)?.map_err(LabError::Wrong)?;
        Ok(Self { orders: Some(orders), answers, stop, thread: Some(thread) })
    }

    /// Starts sending: frames a second, or as many as can be sent.
    pub(super) fn begin(&self, rate: Option<f64>) -> Result<(), LabError> {
        self.stop.store(false, Ordering::Relaxed);
        let order = self.orders.as_ref().map(|orders| orders.send(rate));
        if order.is_some_and(|sent| sent.is_ok()) { Ok(()) } else { Err(ended()) }
    }

    /// Stops sending.
    pub(super) fn end(&self) -> Result<Sent, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        self.answers.recv().map_err(|_| ended())?.map_err(LabError::Wrong)
    }
}

fn ended() -> LabError {
    LabError::Wrong("the generator ended by itself".into())
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
