//! The same steps while somebody looks on: see [`tap`](crate::tap).

use std::time::Instant;

use super::Worker;
use crate::{
    cache::Snapshot,
    counters::Counters,
    encap::Context,
    frame::Frame,
    mapping::{InstanceId, PortIndex},
    tap::{ALONE, Came, Fate, Note, Side, TOGETHER, Tap},
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
        while !frames.is_empty() {
            let count = frames.len().min(TOGETHER);
            batch.look_up(&self.umem, &frames[..count], &role, cache, &self.setup);
            self.keep(0, &frames[..count]);
            let context = Context { cache, setup: &self.setup };
            let _same = batch.decide(&mut self.umem, &mut frames[..count], role.instance, &context, self.desk.as_mut());
            for (place, (frame, verdict)) in frames.drain(..count).zip(batch.verdicts()).enumerate() {
                let note = Note::of(now, ingress, Came::Arrived);
                self.carry_out_traced(verdict, frame, place, note, cache);
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
        self.keep(ALONE, std::slice::from_ref(&frame));
        let verdict = self.judge(&mut frame, ingress, cache);
        self.carry_out_traced(verdict, frame, ALONE, Note::of(now, ingress, came), cache)
    }

    fn keep(&mut self, place: usize, frames: &[Frame]) {
        let Some(tap) = &mut self.tap else { return };
        for (index, frame) in frames.iter().enumerate() {
            tap.keep(place + index, self.umem.octets(frame), frame.start());
        }
    }

    fn carry_out_traced(
        &mut self,
        verdict: Verdict,
        frame: Frame,
        place: usize,
        note: Note,
        cache: &Snapshot<'_>,
    ) -> bool {
        let (ingress, now) = (note.port, note.at);
        let queued = |worker: &Self| worker.outgoing.get(usize::from(ingress)).map(|outgoing| outgoing.frames.len());
        let (held, waiting) = (self.counters.held.get(), queued(self));
        let dropped = NOT_HELD.map(|reason| self.counters.dropped(reason));
        // What carrying it out decides is told afterwards, all else before: its parts and its losses come behind it.
        match verdict {
            Verdict::Send(egress) | Verdict::SendAndAsk(egress, _) => self.note_sent(note, place, &frame, egress),
            Verdict::Split => self.note(note, place, Fate::Split),
            Verdict::Refuse(reason, _) | Verdict::Drop(reason) | Verdict::DropAndAsk(reason, _) => {
                self.note(note, place, Fate::Dropped(reason));
            }
            Verdict::Miss(_) => {}
        }
        let sent = self.carry_out(verdict, frame, ingress, cache, now);
        match verdict {
            Verdict::Miss(miss) if self.counters.held.get() != held => {
                self.note(note, place, Fate::Held(miss.wanted, miss.destination));
            }
            Verdict::Miss(_) => {
                let mut reasons = NOT_HELD.into_iter().zip(dropped);
                let reason = reasons.find(|(reason, before)| self.counters.dropped(*reason) != *before);
                self.note(note, place, Fate::Dropped(reason.map_or(Reason::HoldFull, |(reason, _)| reason)));
            }
            Verdict::Refuse(..) if queued(self) != waiting => self.note_error(note),
            _ => {}
        }
        sent
    }

    fn instance(&self, port: PortIndex) -> InstanceId {
        self.setup.ports.get(usize::from(port)).map(|role| role.instance).unwrap_or_default()
    }

    fn note(&mut self, note: Note, place: usize, fate: Fate) {
        let instance = self.instance(note.port);
        if let Some(tap) = &mut self.tap {
            tap.note(Note { fate, ..note }, place, None, instance, &self.counters);
        }
    }

    fn note_sent(&mut self, note: Note, place: usize, frame: &Frame, egress: PortIndex) {
        let instance = self.instance(note.port);
        let core = self.setup.ports[usize::from(note.port)].core;
        if let Some(tap) = &mut self.tap {
            let octets = self.umem.octets(frame);
            let fate = tap.sent_as(place, octets, frame.start(), core, &self.setup.rlocs);
            let note = Note { fate, egress: Some(egress), ..note };
            tap.note(note, place, Some(octets), instance, &self.counters);
        }
    }

    /// The frame queued last is an ICMP error.
    fn note_error(&mut self, note: Note) {
        let instance = self.instance(note.port);
        let queued = self.outgoing.get(usize::from(note.port)).and_then(|outgoing| outgoing.frames.last());
        if let (Some(tap), Some(frame)) = (&mut self.tap, queued) {
            let note = Note { side: Side::Out, fate: Fate::IcmpError, ..note };
            tap.note_octets(note, self.umem.octets(frame), instance, &self.counters);
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
            tap.note_octets(note, self.umem.octets(&frame), instance, &self.counters);
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
        tap.note_octets(note, octets, instance, counters);
    }
}

impl Note {
    const fn of(at: Instant, port: PortIndex, came: Came) -> Self {
        Self { at, port, side: Side::In, came, fate: Fate::Native, egress: None }
    }
}
