//! The same steps while somebody looks on: see [`tap`](crate::tap).

use std::{ops::Range, time::Instant};

use super::Worker;
use crate::{
    batch::{Batch, TOGETHER},
    cache::Snapshot,
    counters::Counters,
    encap::Context,
    frame::Frame,
    mapping::{InstanceId, PortIndex},
    tap::{ALONE, Arrived, Came, Fate, Note, Side, Tap},
    verdict::{Reason, Verdict},
};

/// Why a frame is dropped that missed something and is not held.
const NOT_HELD: [Reason; 3] = [Reason::MissNotHeld, Reason::HoldFull, Reason::MissQueueFull];

impl Worker {
    /// Takes up what the control thread wants to see; whether it wants to see anything.
    #[inline]
    pub(super) fn attend(&mut self) -> bool {
        self.tap.as_mut().is_some_and(Tap::attend)
    }

    /// Whether somebody looks on.
    pub(super) fn is_watched(&self) -> bool {
        self.tap.as_ref().is_some_and(Tap::is_on)
    }

    /// As [`forward_all`](Self::forward_all), with a note of each frame.
    #[cold]
    #[inline(never)]
    pub(super) fn forward_all_traced(
        &mut self,
        frames: &mut Vec<Frame>,
        ingress: PortIndex,
        cache: &Snapshot<'_>,
        now: Instant,
    ) {
        self.count_received(frames, ingress);
        let role = self.setup.ports[usize::from(ingress)];
        let Some(mut batch) = self.batch.take() else { unreachable!("it is always put back") };
        let note = Note::of(now, ingress, Came::Arrived);
        while !frames.is_empty() {
            let count = frames.len().min(TOGETHER);
            batch.look_up(&self.umem, &frames[..count], &role, cache, &self.setup);
            let sought = self.keep(0, &frames[..count], ingress, &batch, cache);
            let context = Context { cache, setup: &self.setup };
            let desk = self.desk.as_mut();
            match batch.decide(&mut self.umem, &mut frames[..count], role.instance, &context, desk) {
                Some(egress) => {
                    self.note_all_sent(sought, &frames[..count], note, egress);
                    self.queue_all(egress, frames.drain(..count), now);
                }
                None => {
                    for (place, (frame, verdict)) in frames.drain(..count).zip(batch.verdicts()).enumerate() {
                        let place = (sought >> place & 1 == 1).then_some(place);
                        self.carry_out_traced(verdict, frame, place, note, cache);
                    }
                }
            }
        }
        self.batch = Some(batch);
    }

    /// As [`forward`](Self::forward), with a note.
    #[cold]
    pub(super) fn forward_traced(
        &mut self,
        mut frame: Frame,
        ingress: PortIndex,
        came: Came,
        cache: &Snapshot<'_>,
        now: Instant,
    ) -> bool {
        let role = self.setup.ports[usize::from(ingress)];
        let one = std::slice::from_ref(&frame);
        self.single.look_up(&self.umem, one, &role, cache, &self.setup);
        let Self { single, tap, umem, setup, .. } = self;
        let arrived = Arrived { ingress, role, cache, setup };
        let sought = tap.as_mut().map_or(0, |tap| tap.keep(ALONE, one, umem, single, &arrived));
        let verdict = self.decide(&mut frame, ingress, cache);
        let place = (sought & 1 == 1).then_some(ALONE);
        self.carry_out_traced(verdict, frame, place, Note::of(now, ingress, came), cache)
    }

    /// Which of the frames may be wanted, as bits; see [`Tap::keep`].
    fn keep(&mut self, place: usize, frames: &[Frame], ingress: PortIndex, batch: &Batch, cache: &Snapshot<'_>) -> u64 {
        let Self { tap, umem, setup, .. } = self;
        let arrived = Arrived { ingress, role: setup.ports[usize::from(ingress)], cache, setup };
        tap.as_mut().map_or(0, |tap| tap.keep(place, frames, umem, batch, &arrived))
    }

    /// Does what was decided, and notes it. `place`: where what may be wanted was kept; nothing becomes wanted later.
    fn carry_out_traced(
        &mut self,
        verdict: Verdict,
        frame: Frame,
        place: Option<usize>,
        note: Note,
        cache: &Snapshot<'_>,
    ) -> bool {
        let (ingress, now) = (note.port, note.at);
        let queued = |worker: &Self| worker.outgoing.get(usize::from(ingress)).map(|outgoing| outgoing.frames.len());
        let (held, waiting) = (self.counters.held.get(), queued(self));
        let dropped = NOT_HELD.map(|reason| self.counters.dropped(reason));
        let octets = frame.start()..frame.start() + frame.len();
        // What carrying it out decides is told afterwards, all else before: its parts and its losses come behind it.
        match (verdict, place) {
            (_, None) | (Verdict::Miss(_), _) => {}
            (Verdict::Send(egress) | Verdict::SendAndAsk(egress, _), Some(place)) => {
                self.note_sent(note, place, &frame, egress);
            }
            (Verdict::Split, _) => self.note(note, octets.clone(), Fate::Split),
            (Verdict::Refuse(reason, _) | Verdict::Drop(reason) | Verdict::DropAndAsk(reason, _), _) => {
                self.note(note, octets.clone(), Fate::Dropped(reason));
            }
        }
        let sent = self.carry_out(verdict, frame, ingress, cache, now);
        match verdict {
            Verdict::Miss(_) if place.is_none() => {}
            // Held or released, nobody writes to it before the ports are asked for frames again.
            Verdict::Miss(miss) if self.counters.held.get() != held => {
                self.note(note, octets, Fate::Held(miss.wanted, miss.destination));
            }
            Verdict::Miss(_) => {
                let mut reasons = NOT_HELD.into_iter().zip(dropped);
                let reason = reasons.find(|(reason, before)| self.counters.dropped(*reason) != *before);
                self.note(note, octets, Fate::Dropped(reason.map_or(Reason::HoldFull, |(reason, _)| reason)));
            }
            // An address of ours is its source: it may be wanted where what it answers is not.
            Verdict::Refuse(..) if queued(self) != waiting => self.note_error(note),
            _ => {}
        }
        sent
    }

    fn instance(&self, port: PortIndex) -> InstanceId {
        self.setup.ports.get(usize::from(port)).map(|role| role.instance).unwrap_or_default()
    }

    /// Notes a packet that is still in memory as it came.
    fn note(&mut self, note: Note, octets: Range<usize>, fate: Fate) {
        let instance = self.instance(note.port);
        if let Some(tap) = &mut self.tap {
            tap.note(Note { fate, ..note }, &self.umem.region()[octets], instance, &self.counters);
        }
    }

    fn note_sent(&mut self, note: Note, place: usize, frame: &Frame, egress: PortIndex) {
        if let Some(tap) = &mut self.tap {
            let sent = (self.umem.octets(frame), frame.start());
            let note = Note { egress: Some(egress), ..note };
            tap.note_sent(note, place, sent, self.umem.region(), &self.counters);
        }
    }

    /// Notes those of `frames` that may be wanted, all of which are sent by one port.
    fn note_all_sent(&mut self, mut sought: u64, frames: &[Frame], note: Note, egress: PortIndex) {
        if sought == 0 || self.tap.as_ref().is_none_or(|tap| tap.passes_over(sought, &self.counters)) {
            return;
        }
        while sought != 0 {
            let place = sought.trailing_zeros() as usize;
            self.note_sent(note, place, &frames[place], egress);
            sought &= sought - 1;
        }
    }

    /// The frame queued last is an ICMP error.
    fn note_error(&mut self, note: Note) {
        let instance = self.instance(note.port);
        let queued = self.outgoing.get(usize::from(note.port)).and_then(|outgoing| outgoing.frames.last());
        if let (Some(tap), Some(frame)) = (&mut self.tap, queued) {
            let note = Note { side: Side::Out, fate: Fate::IcmpError, ..note };
            tap.note(note, self.umem.octets(frame), instance, &self.counters);
        }
    }

    /// Drops a frame that was decided on before.
    pub(super) fn drop_late(
        &mut self,
        frame: Frame,
        (port, side, came): (PortIndex, Side, Came),
        reason: Reason,
        now: Instant,
    ) {
        let instance = self.instance(port);
        if let Some(tap) = self.tap.as_mut().filter(|tap| tap.is_on()) {
            let note = Note { side, fate: Fate::Dropped(reason), ..Note::of(now, port, came) };
            tap.note(note, self.umem.octets(&frame), instance, &self.counters);
        }
        self.drop(frame, reason);
    }
}

/// Notes that a transmit ring refused a packet for good.
pub(super) fn unsent(
    tap: &mut Option<Tap>,
    now: Instant,
    (egress, instance): (PortIndex, InstanceId),
    octets: &[u8],
    counters: &Counters,
) {
    if let Some(tap) = tap.as_mut().filter(|tap| tap.is_on()) {
        let fate = Fate::Dropped(Reason::TransmitFull);
        let note = Note { side: Side::Out, fate, ..Note::of(now, egress, Came::Arrived) };
        tap.note(note, octets, instance, counters);
    }
}

impl Note {
    const fn of(at: Instant, port: PortIndex, came: Came) -> Self {
        Self { at, port, side: Side::In, came, fate: Fate::Native, egress: None }
    }
}
