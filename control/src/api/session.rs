//! One client's state: what it may do, and the events that wait for it.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Asker, Done, Event, Filter, Flags, Header, MissDetail, Op, Refused, Rights, batch::Run, message::ProtocolError,
    work::Work,
};
use crate::rate::{Bucket, Rate};

/// Events that wait for one subscriber.
pub const RING: usize = 4096;
/// Filters of one subscriber.
pub const FILTERS_MAX: usize = 16;

/// See the module's text.
#[derive(Debug)]
pub struct Session {
    asker: Asker,
    rights: Rights,
    subscriber: Option<Subscriber>,
    /// What it waits for.
    pub(super) work: Option<Work>,
    /// The batch that is coming in, between its first message and its last.
    pub(super) run: Option<Run>,
    /// What it asked for last was much work.
    pub(super) long: bool,
}

/// An event in a ring: all but what is the subscriber's own is shared.
#[derive(Debug)]
struct Told {
    op: Op,
    flags: Flags,
    number: u64,
    body: Arc<[u8]>,
}

#[derive(Debug)]
struct Subscriber {
    /// Each with its bound on MISS events.
    filters: Vec<(Filter, Bucket)>,
    echo: bool,
    ring: VecDeque<Told>,
    /// Those of the ring that packets cause.
    misses: usize,
    /// Number of the last event, told or lost.
    number: u64,
}

impl Session {
    /// A client that has subscribed to nothing.
    #[must_use]
    pub const fn new(asker: Asker, rights: Rights) -> Self {
        Self { asker, rights, subscriber: None, work: None, run: None, long: false }
    }

    /// Who it is.
    #[must_use]
    pub const fn asker(&self) -> Asker {
        self.asker
    }

    /// What it may do.
    #[must_use]
    pub const fn rights(&self) -> Rights {
        self.rights
    }

    /// How much of packets it wants with MISS events.
    #[must_use]
    pub fn detail(&self) -> MissDetail {
        let filters = self.subscriber.iter().flat_map(|subscriber| &subscriber.filters);
        let misses = filters.filter(|(filter, _)| filter.ops >> Op::MISS.0 & 1 == 1);
        misses.map(|(filter, _)| filter.detail).max().unwrap_or_default()
    }

    /// Whether it wants any events.
    #[must_use]
    pub const fn is_subscriber(&self) -> bool {
        self.subscriber.is_some()
    }

    /// Whether what it asked for last [was long](super::Operation::is_long), and others are to have their turn; said once.
    pub fn take_long(&mut self) -> bool {
        std::mem::take(&mut self.long)
    }

    /// Whether it waits for the end of a dump or of a change; no request of it is to be read before.
    #[must_use]
    pub const fn is_at_work(&self) -> bool {
        self.work.is_some()
    }

    /// A change that was [to come later](super::Outcome::Later) came to its end: the reply is the
    /// [next page](super::next_page), behind the events that wait.
    pub fn conclude(&mut self, outcome: &Result<Done, Refused>, generation: u64) {
        if let Some(reply) = self.work.as_ref().and_then(|work| work.outcome(outcome, generation)) {
            self.work = Some(Work::Ended(reply));
        }
    }

    /// Replaces its filters; none ends the subscription. Events are numbered from `generation` on.
    pub(super) fn subscribe(&mut self, filters: Vec<Filter>, echo: bool, generation: u64) {
        let filters: Vec<_> = filters.into_iter().map(|filter| (filter, Bucket::default())).collect();
        self.subscriber = (!filters.is_empty()).then(|| {
            let before = self.subscriber.take();
            let (ring, misses) = before.map(|before| (before.ring, before.misses)).unwrap_or_default();
            let number = ring.back().map_or(generation, |told| told.number);
            Subscriber { filters, echo, ring, misses, number }
        });
    }

    /// Takes in what happened, if it is wanted; `cause` is the client that did it. `body` is of [`Event::body_for`].
    pub fn tell(
        &mut self,
        now: Instant,
        event: &Event,
        cause: Option<Asker>,
        body: &mut dyn FnMut(MissDetail) -> Arc<[u8]>,
    ) {
        let own = cause == Some(self.asker);
        let Some(subscriber) = self.subscriber.as_mut().filter(|subscriber| subscriber.echo || !own) else { return };
        if let Some(detail) = subscriber.wants(now, event) {
            subscriber.push(event, body(detail));
        }
    }

    /// The next event's message, if one waits; it stays until [`told`](Self::told).
    #[must_use]
    pub fn first(&self) -> Option<Vec<u8>> {
        let told = self.subscriber.as_ref()?.ring.front()?;
        let header = Header { op: told.op, flags: told.flags, errno: 0, sequence: 0, generation: told.number };
        Some(header.message(&told.body))
    }

    /// The next event has left.
    pub fn told(&mut self) {
        let Some(subscriber) = &mut self.subscriber else { return };
        if let Some(told) = subscriber.ring.pop_front() {
            subscriber.misses -= usize::from(is_by_packets(told.op));
        }
    }
}

/// Whether packets cause such events, as many as they like: no change of a table is lost for them.
fn is_by_packets(op: Op) -> bool {
    matches!(op, Op::MISS | Op::STALE | Op::LSBITS)
}

impl Subscriber {
    /// How much of the packet, if it wants the event.
    fn wants(&mut self, now: Instant, event: &Event) -> Option<MissDetail> {
        let (filter, bucket) = self.filters.iter_mut().find(|(filter, _)| filter.takes(event))?;
        let within = match filter.rate.filter(|_| event.op() == Op::MISS) {
            None => true,
            Some(rate) => bucket.take(now, Rate { burst: rate, every: Duration::from_secs(1) / rate }),
        };
        within.then_some(filter.detail)
    }

    /// Appends an event. In a full ring the oldest that a packet caused gives way, which a gap in the numbers shows; where there is none
    /// everything goes, and the event that comes instead says OVERRUN.
    fn push(&mut self, event: &Event, body: Arc<[u8]>) {
        self.number += 1;
        let mut told = Told { op: event.op(), flags: event.flags(), number: self.number, body };
        if self.ring.len() >= RING {
            if self.misses > 0 {
                let oldest =
                    self.ring.iter().position(|told| is_by_packets(told.op) && !told.flags.has(Flags::OVERRUN));
                self.misses -= usize::from(oldest.and_then(|at| self.ring.remove(at)).is_some());
            } else if is_by_packets(told.op) {
                return;
            } else {
                self.ring.clear();
                told.flags = told.flags.with(Flags::OVERRUN);
            }
        }
        self.misses += usize::from(is_by_packets(told.op));
        self.ring.push_back(told);
    }
}

/// Reads an event out of a message.
///
/// # Errors
/// [`ProtocolError`], also if it is none.
pub(super) fn event(message: &[u8]) -> Result<(Header, Event), ProtocolError> {
    let (header, body) = Header::split(message)?;
    if !header.flags.has(Flags::EVENT) {
        return Err(ProtocolError::Value("not an event"));
    }
    Event::read(&header, body).map(|event| (header, event))
}
