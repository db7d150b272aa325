//! One turn of a worker: receive, decide, send. Start reading here.
//!
//! ```text
//! ports ─ receive → frames ─┬─ read ─ look up ─┬─ site side: encap ─┬─ Send   → outgoing[port] ─ transmit → ports
//!    held frames, answered ─┘   together, by   └─ core side: decap ─┤  Miss   → hold, and ask the control thread
//!                                `batch`                            ├─ Split  → two parts, decided anew
//!                                                                   ├─ Refuse → counted, ICMP back to the host
//!                                                                   └─ Drop   → counted, released
//! ```
//!
//! The frames of one port go through the first two steps together, because what they need of the table comes from
//! memory and can come at the same time. From there on each is decided and carried out by itself, in the order of arrival.
//! A worker owns one queue of every port and the memory of all its frames. It is made on its own thread and stays
//! there, because a [`Frame`] does. One snapshot, no lock, no allocation, no system call but a port's wake-ups.
//! Frames that a transmit ring refuses stay for one more turn, in front of the next ones, and are then counted as
//! [`Reason::TransmitFull`]: a ring that drains between two turns loses nothing, one that does not adds no latency.

#![forbid(unsafe_code)]

mod settings;
mod traced;

use std::{sync::Arc, time::Instant, vec::Drain};

use crate::{
    batch::{Batch, TOGETHER},
    cache::Snapshot,
    classify::{FlowKey, Rlocs},
    counters::Counters,
    decap::is_for_etr,
    encap::{Context, Setup},
    features::Features,
    fragment,
    frame::{Frame, Umem},
    hold::{Held, HoldQueue, PER_WORKER, Place, Whose, is_answered},
    icmp_error::{self, Limiter, Speaker},
    mapping::{Eid, PortIndex},
    port::{BATCH, Port},
    queue::{MissQueue, SightingQueue},
    samples::Samples,
    sightings::Desk,
    tap::{Came, Side, Tap},
    verdict::{Miss, Notice, Reason, Verdict, Wanted},
};

pub use settings::{DscpModel, Hold, PortRole, Settings, SourceCheck};

/// Frames that a turn takes from a port if nobody chose: `batch` has what others cost.
pub const BATCH_DEFAULT: usize = 64;

/// Most misses offered in one turn for frames that are not held: a scan over addresses reaches the control thread at
/// this pace at most, and not with every packet.
const UNHELD_ASKS: usize = 16;

/// The state of one worker between two turns.
#[derive(Debug)]
pub struct Worker {
    setup: Setup,
    /// Most frames of a batch.
    limit: usize,
    umem: Umem,
    misses: MissQueue,
    counters: Arc<Counters>,
    /// Frames of one port, before they are decided on.
    frames: Vec<Frame>,
    /// What is known of them meanwhile.
    batch: Option<Box<Batch>>,
    /// The same for a frame that comes alone: one that was held, or part of one that was split.
    single: Box<Batch>,
    outgoing: Vec<Outgoing>,
    /// `None`: frames are not held.
    held: Option<HoldQueue>,
    freed: Vec<Held>,
    /// ICMP errors to our site, and those to strangers: they cannot take the site's.
    limiter: Limiter,
    limiter_strangers: Limiter,
    /// Of the table in the turn before.
    generation: u64,
    /// Left of [`UNHELD_ASKS`] in this turn, and the EID asked for last.
    unheld_asks: (usize, Option<Eid>),
    /// Whether a miss was queued since [`Worker::take_asked`].
    asked: bool,
    /// Where a header feature is on.
    desk: Option<Desk>,
    /// Where somebody may look on.
    tap: Option<Tap>,
    /// `None`: nobody can want copies of packets.
    samples: Option<Samples>,
}

/// Frames for one port.
#[derive(Debug)]
struct Outgoing {
    /// Oldest first; never beyond its capacity.
    frames: Vec<Frame>,
    /// How many at the front were already refused once.
    refused: usize,
}

/// One turn: decides on every frame that arrived or whose answer came, and sends. Returns how many frames there were.
///
/// `ports` are those of [`Settings::ports`], in that order.
pub fn turn<P: Port>(worker: &mut Worker, ports: &mut [P], cache: &Snapshot<'_>, now: Instant) -> usize {
    worker.unheld_asks = (UNHELD_ASKS, None);
    worker.desk.iter_mut().for_each(|desk| desk.begin(now));
    worker.samples.iter_mut().for_each(Samples::begin);
    let watched = worker.attend();
    let mut count = worker.settle_held(cache, now);
    let mut frames = std::mem::take(&mut worker.frames);
    for (ingress, port) in ports.iter_mut().enumerate() {
        port.receive(&mut worker.umem, &mut frames, worker.limit);
        count += frames.len();
        if watched {
            worker.forward_all_traced(&mut frames, ingress as PortIndex, cache, now);
        } else {
            worker.forward_all(&mut frames, ingress as PortIndex, cache, now);
        }
    }
    worker.frames = frames;
    for (egress, port) in ports.iter_mut().enumerate() {
        worker.transmit(egress as PortIndex, port, now);
    }
    worker.counters.turns.add(1);
    worker.counters.idle_turns.add(u64::from(count == 0));
    count
}

impl Worker {
    /// A worker with all its memory.
    ///
    /// # Panics
    /// If there are more ports than [`PORTS_MAX`](crate::counters::PORTS_MAX), or if [`Settings::batch`] is out of range.
    #[must_use]
    pub fn new(settings: Settings, umem: Umem, misses: MissQueue, counters: Arc<Counters>) -> Self {
        let Settings { ports: roles, rlocs, hash_seed, hold, source_check, proxy, batch } = settings;
        assert!((1..=BATCH).contains(&batch), "a batch of {batch} frames");
        assert!(roles.len() <= crate::counters::PORTS_MAX, "more ports than a worker counts");
        let key = FlowKey::new(hash_seed);
        // Held frames must not starve the receive rings of a small memory.
        let held = PER_WORKER.min(umem.slots() / 4);
        // Of a turn: every frame received and every frame freed, and as many again that splits added.
        let most = 2 * (batch * roles.len() + held);
        Self {
            frames: Vec::with_capacity(batch),
            batch: Some(Box::default()),
            single: Box::default(),
            limit: batch,
            outgoing: roles.iter().map(|_| Outgoing { frames: Vec::with_capacity(2 * most), refused: 0 }).collect(),
            held: (hold == Hold::Queue).then(|| HoldQueue::new(held)),
            freed: Vec::with_capacity(held),
            limiter: Limiter::new(key),
            limiter_strangers: Limiter::new(key),
            generation: 0,
            unheld_asks: (0, None),
            asked: false,
            desk: None,
            tap: None,
            samples: None,
            setup: Setup {
                ports: roles,
                rlocs: Rlocs::new(&rlocs),
                key,
                hash_seed,
                source_check,
                asks_sources: source_check != SourceCheck::Standard || proxy.admits_by_source(),
                proxy,
                features: Features::default(),
                kept: DscpModel::Uniform.kept(),
                counters: counters.clone(),
            },
            umem,
            misses,
            counters,
        }
    }

    /// Switches header features on; what peers' headers tell goes up by `queue`.
    #[must_use]
    pub fn with_features(mut self, features: Features, queue: SightingQueue, now: Instant) -> Self {
        self.setup.features = features;
        self.desk = features.any().then(|| Desk::new(queue, self.setup.hash_seed, now));
        self
    }

    /// Says whether hosts get the core's DSCP or their own.
    #[must_use]
    pub const fn with_dscp(mut self, model: DscpModel) -> Self {
        self.setup.kept = model.kept();
        self
    }

    /// Lets somebody look on through `tap`.
    #[must_use]
    pub fn with_tap(mut self, tap: Tap) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Copies packets that find no mapping to `samples`, when somebody wants them.
    #[must_use]
    pub fn with_samples(mut self, samples: Samples) -> Self {
        self.samples = Some(samples);
        self
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Frames that wait for an answer.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.held.as_ref().map_or(0, HoldQueue::len)
    }

    /// Frames that a transmit ring refused and that the next turn offers again.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.outgoing.iter().map(|outgoing| outgoing.frames.len()).sum()
    }

    /// Whether misses or sightings were queued since the last call: the control thread should be woken.
    pub fn take_asked(&mut self) -> bool {
        let told = self.desk.as_mut().is_some_and(Desk::take_told);
        std::mem::take(&mut self.asked) | told
    }

    /// Decides on frames that arrived at one port, and does what was decided. Leaves none.
    fn forward_all(&mut self, frames: &mut Vec<Frame>, ingress: PortIndex, cache: &Snapshot<'_>, now: Instant) {
        if frames.is_empty() {
            return;
        }
        self.count_received(frames, ingress);
        let role = self.setup.ports[usize::from(ingress)];
        // Lent out, because what is decided may need all of the worker.
        let Some(mut batch) = self.batch.take() else { unreachable!("it is always put back") };
        while !frames.is_empty() {
            let count = frames.len().min(TOGETHER);
            batch.look_up(&self.umem, &frames[..count], &role, cache, &self.setup);
            let context = Context { cache, setup: &self.setup };
            let desk = self.desk.as_mut();
            match batch.decide(&mut self.umem, &mut frames[..count], role.instance, &context, desk) {
                Some(egress) => self.queue_all(egress, frames.drain(..count), now),
                None => {
                    for (frame, verdict) in frames.drain(..count).zip(batch.verdicts()) {
                        self.carry_out(verdict, frame, ingress, cache, now);
                    }
                }
            }
        }
        self.batch = Some(batch);
    }

    fn count_received(&self, frames: &[Frame], ingress: PortIndex) {
        let received = &self.counters.port(ingress).received;
        received.packets.add(frames.len() as u64);
        received.octets.add(frames.iter().map(|frame| frame.len() as u64).sum());
    }

    /// The same for one frame; true if it goes out as a packet.
    fn forward(
        &mut self,
        mut frame: Frame,
        ingress: PortIndex,
        came: Came,
        cache: &Snapshot<'_>,
        now: Instant,
    ) -> bool {
        if self.is_watched() {
            return self.forward_traced(frame, ingress, came, cache, now);
        }
        let role = self.setup.ports[usize::from(ingress)];
        self.single.look_up(&self.umem, std::slice::from_ref(&frame), &role, cache, &self.setup);
        let verdict = self.decide(&mut frame, ingress, cache);
        self.carry_out(verdict, frame, ingress, cache, now)
    }

    /// Decides on one frame that was looked up.
    fn decide(&mut self, frame: &mut Frame, ingress: PortIndex, cache: &Snapshot<'_>) -> Verdict {
        let role = self.setup.ports[usize::from(ingress)];
        let context = Context { cache, setup: &self.setup };
        let one = std::slice::from_mut(frame);
        let _same = self.single.decide(&mut self.umem, one, role.instance, &context, self.desk.as_mut());
        self.single.verdicts().next().expect("one was decided on")
    }

    /// Does what was decided on a frame; true if it goes out as a packet.
    fn carry_out(
        &mut self,
        verdict: Verdict,
        frame: Frame,
        ingress: PortIndex,
        cache: &Snapshot<'_>,
        now: Instant,
    ) -> bool {
        match verdict {
            Verdict::Send(egress) => {
                self.queue(egress, frame, now);
                return true;
            }
            Verdict::SendAndAsk(egress, miss) => {
                self.ask(miss);
                self.queue(egress, frame, now);
                return true;
            }
            Verdict::Miss(miss) => self.miss(miss, frame, ingress, now),
            Verdict::Split => return self.split(frame, ingress, cache, now),
            Verdict::Refuse(reason, notice) => self.refuse(frame, ingress, reason, notice, now),
            Verdict::Drop(reason) => self.drop(frame, reason),
            Verdict::DropAndAsk(reason, miss) => {
                self.ask(miss);
                self.drop(frame, reason);
            }
        }
        false
    }

    fn split(&mut self, mut frame: Frame, ingress: PortIndex, cache: &Snapshot<'_>, now: Instant) -> bool {
        let Some(second) = fragment::split(&mut self.umem, &mut frame, &self.counters) else {
            self.drop_late(frame, (ingress, Side::In, Came::Arrived), Reason::TooBig, now);
            return false;
        };
        let first = self.forward(frame, ingress, Came::Part, cache, now);
        self.forward(second, ingress, Came::Part, cache, now) && first
    }

    fn drop(&mut self, frame: Frame, reason: Reason) {
        self.counters().drop(reason);
        self.umem.release(frame);
    }

    /// Queues what all goes out by one port, as most batches do.
    fn queue_all(&mut self, egress: PortIndex, frames: Drain<'_, Frame>, now: Instant) {
        match self.outgoing.get_mut(usize::from(egress)) {
            Some(Outgoing { frames: queued, .. }) if queued.len() + frames.len() <= queued.capacity() => {
                queued.extend(frames);
            }
            _ => frames.for_each(|frame| self.queue(egress, frame, now)),
        }
    }

    fn queue(&mut self, egress: PortIndex, frame: Frame, now: Instant) {
        match self.outgoing.get_mut(usize::from(egress)) {
            Some(outgoing) if outgoing.frames.len() < outgoing.frames.capacity() => outgoing.frames.push(frame),
            // No room, or a port that is not there: nothing can take it.
            _ => self.drop_late(frame, (egress, Side::Out, Came::Arrived), Reason::TransmitFull, now),
        }
    }

    fn refuse(&mut self, mut frame: Frame, ingress: PortIndex, reason: Reason, notice: Notice, now: Instant) {
        let PortRole { site, mac, address4, address6, .. } = self.setup.ports[usize::from(ingress)];
        let speaker = Speaker { mac, address4, address6 };
        let limiter = if site { &mut self.limiter } else { &mut self.limiter_strangers };
        if !icmp_error::answer(&mut self.umem, &mut frame, &speaker, notice, limiter, now) {
            return self.drop(frame, reason);
        }
        self.counters().drop(reason);
        self.counters.icmp_sent.add(1);
        self.queue(ingress, frame, now);
    }

    /// Holds the frame if allowed, and asks the control thread once for all frames that wait for the same.
    fn miss(&mut self, miss: Miss, frame: Frame, ingress: PortIndex, now: Instant) {
        self.counters.missed.add(1);
        // What strangers cause leaves half of the places to our site.
        let whose = if self.setup.ports[usize::from(ingress)].site { Whose::Site } else { Whose::Stranger };
        if self.samples.as_ref().is_some_and(Samples::is_wanted)
            && self.held.as_ref().is_some_and(|held| held.asks(&miss, whose, now))
        {
            self.sample(&miss, &frame, ingress);
        }
        let Some(held) = &mut self.held else { return self.drop_asking(miss, frame, ingress, Reason::MissNotHeld) };
        if whose == Whose::Stranger && held.len() >= held.limit() / 2 {
            return self.drop_asking(miss, frame, ingress, Reason::HoldFull);
        }
        match held.hold(miss, whose, frame, ingress, now) {
            Place::Held { displaced, ask } => {
                self.counters.held.add(1);
                if ask && self.misses.offer(miss) {
                    held.asked(miss.destination, whose, now);
                    self.asked = true;
                } else if ask {
                    self.counters.misses_unasked.add(1);
                }
                if let Some(oldest) = displaced {
                    self.drop_late(oldest.frame, (oldest.ingress, Side::In, Came::Waited), Reason::HoldDisplaced, now);
                }
            }
            Place::Full(frame) => self.drop_asking(miss, frame, ingress, Reason::HoldFull),
        }
    }

    /// Copies the packet of a miss that the control thread is about to be told of, if anybody wants it.
    fn sample(&mut self, miss: &Miss, frame: &Frame, ingress: PortIndex) {
        if let Some(samples) = self.samples.as_mut().filter(|_| miss.wanted == Wanted::Mapping) {
            let octets = self.umem.octets(frame);
            let tunnelled = self.setup.ports[usize::from(ingress)].core && is_for_etr(octets, &self.setup.rlocs);
            samples.offer(miss, octets, tunnelled, &self.counters);
        }
    }

    /// Drops a frame that cannot be held, but asks for what it missed, within the turn's bound.
    fn drop_asking(&mut self, miss: Miss, frame: Frame, ingress: PortIndex, reason: Reason) {
        if self.unheld_asks.0 > 0 {
            self.sample(&miss, &frame, ingress);
        }
        let asked = self.ask(miss);
        self.drop(frame, if asked { reason } else { Reason::MissQueueFull });
    }

    /// Asks the control thread for something that no frame waits for, within the turn's bound; false if it is not asked.
    fn ask(&mut self, miss: Miss) -> bool {
        let (left, last) = &mut self.unheld_asks;
        if *last == Some(miss.destination) {
            return true;
        }
        if *left == 0 || !self.misses.offer(miss) {
            self.counters.misses_unasked.add(1);
            return false;
        }
        (*left, *last) = (*left - 1, Some(miss.destination));
        self.asked = true;
        true
    }

    /// Frees held frames whose answer came with a new table, and those that waited too long; asks again for what the
    /// control thread's queue had no room for. Returns how many frames were freed.
    fn settle_held(&mut self, cache: &Snapshot<'_>, now: Instant) -> usize {
        let changed = std::mem::replace(&mut self.generation, cache.generation()) != cache.generation();
        let Some(held) = self.held.as_mut().filter(|held| !held.is_empty()) else { return 0 };
        let mut freed = std::mem::take(&mut self.freed);
        if changed {
            held.settle(|miss| is_answered(cache, miss), &mut freed);
        }
        let answered = freed.len();
        held.expire(now, &mut freed);
        self.asked |= held.ask_again(now, |miss| self.misses.offer(miss)) > 0;

        let frames = freed.len();
        for Held { frame, ingress, .. } in freed.drain(answered..) {
            self.drop_late(frame, (ingress, Side::In, Came::Waited), Reason::HoldExpired, now);
        }
        for Held { frame, ingress, .. } in freed.drain(..) {
            let sent = self.forward(frame, ingress, Came::Waited, cache, now);
            self.counters.held_sent.add(u64::from(sent));
        }
        self.freed = freed;
        frames
    }

    /// Gives a port what is for it; what it refuses a second time is dropped.
    fn transmit<P: Port>(&mut self, egress: PortIndex, port: &mut P, now: Instant) {
        let Self { outgoing, umem, counters, tap, setup, .. } = self;
        let instance = setup.ports[usize::from(egress)].instance;
        let counters: &Counters = counters;
        let Outgoing { frames, refused } = &mut outgoing[usize::from(egress)];
        let octets = |frames: &[Frame]| frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        let before = octets(frames);
        // Called with nothing to send too: the port may have wake-ups to make and completed frames to take back.
        let taken = port.transmit(umem, frames);
        let sent = &counters.port(egress).sent;
        sent.packets.add(taken as u64);
        sent.octets.add(before - octets(frames));
        for frame in frames.drain(..refused.saturating_sub(taken)) {
            traced::unsent(tap, now, (egress, instance), umem.octets(&frame), counters);
            counters.drop(Reason::TransmitFull);
            umem.release(frame);
        }
        *refused = frames.len();
    }

    /// Ends the run: every frame that no ring owns comes back, and what is missing then is counted as leaked.
    pub fn finish<P: Port>(mut self, ports: Vec<P>) {
        let mut freed = std::mem::take(&mut self.freed);
        if let Some(held) = &mut self.held {
            held.drain(&mut freed);
        }
        for Held { frame, .. } in freed {
            self.drop(frame, Reason::HoldExpired);
        }
        for Outgoing { frames, .. } in std::mem::take(&mut self.outgoing) {
            for frame in frames {
                self.drop(frame, Reason::TransmitFull);
            }
        }
        let owned: usize = ports.iter().map(Port::outstanding).sum();
        let leaked = self.umem.slots().saturating_sub(self.umem.free() + owned);
        self.counters.leaked.add(leaked as u64);
        debug_assert_eq!(leaked, 0, "a frame was dropped on the floor");
        // The rings go before the memory they point into.
        drop(ports);
    }
}
