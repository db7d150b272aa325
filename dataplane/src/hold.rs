//! Frames that wait for a mapping or a neighbour: few per EID, bounded in all, for three seconds.
//!
//! ```text
//! first frame for an EID ─ held, miss offered ─┬─ table changed, answer there ─ freed in order of arrival
//! second … fourth        ─ held                ├─ a fifth frame              ─ the oldest gives way
//!                                              └─ three seconds              ─ freed as expired
//! ```
//!
//! Everything is allocated at start. RFC 9300 §6 leaves the choice to us; the limits are behaviour rule ITR-45.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::{
    cache::{Snapshot, Way},
    frame::Frame,
    mapping::{Eid, PortIndex},
    verdict::{Miss, Wanted},
};

/// Most frames held for one EID.
pub const PER_EID: usize = 4;
/// Most frames held by one worker.
pub const PER_WORKER: usize = 1024;
/// Longest time a frame is held.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// A miss that still has no answer is offered again after this time, if packets keep coming: the pace of Map-Requests
/// (RFC 9301 §5.3), so that an entry with ACT 2 goes on asking.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Expiry is looked for no more often than this, so that a full queue costs little.
const SWEEP: Duration = Duration::from_millis(10);

/// Who sent a frame. What strangers sent waits apart: the control thread may refuse to ask for them, and that must not keep
/// our site waiting for the same EID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// A host of our site.
    Site,
    /// Somebody whom a PITR, PETR or RTR serves.
    Stranger,
}

/// A frame that waits.
#[derive(Debug)]
pub struct Held {
    /// As it was received.
    pub frame: Frame,
    /// The port it came in by.
    pub ingress: PortIndex,
    expires: Instant,
}

/// What became of a frame offered for holding.
#[derive(Debug)]
pub enum Place {
    /// It is held.
    Held {
        /// The oldest frame for the same EID, which gave way.
        displaced: Option<Held>,
        /// The miss should be offered; answer with [`HoldQueue::asked`] if the queue took it.
        ask: bool,
    },
    /// The worker holds as many as it may: the frame comes back.
    Full(Frame),
}

/// The frames for one EID.
#[derive(Debug)]
struct Waiting {
    miss: Miss,
    whose: Whose,
    /// When the control thread was last asked; `None` while its queue was full.
    asked: Option<Instant>,
    /// Oldest first, without gaps.
    frames: [Option<Held>; PER_EID],
}

impl Waiting {
    const fn key(&self) -> (Eid, Whose) {
        (self.miss.destination, self.whose)
    }

    fn oldest(&self) -> Option<Instant> {
        self.frames[0].as_ref().map(|held| held.expires)
    }

    fn take_oldest(&mut self) -> Option<Held> {
        let oldest = self.frames[0].take();
        self.frames.rotate_left(1);
        oldest
    }
}

/// Whether the control thread, asked then, is to be asked now.
fn is_due(asked: Option<Instant>, now: Instant) -> bool {
    asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_AGAIN)
}

/// The frames of one worker that wait.
#[derive(Debug)]
pub struct HoldQueue {
    /// Where in `waiting` each EID is, by whom it was asked for.
    places: HashMap<(Eid, Whose), usize>,
    waiting: Vec<Waiting>,
    frames: usize,
    limit: usize,
    /// Members of `waiting` whose miss no queue has taken yet.
    unasked: usize,
    /// No frame expires before; `None` if there is none.
    sweep: Option<Instant>,
}

impl HoldQueue {
    /// A queue for at most `limit` frames.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        // Twice the room: a map at most half full clears the traces of removed keys in place, without allocating.
        let places = HashMap::with_capacity(2 * limit + 2);
        Self { places, waiting: Vec::with_capacity(limit), frames: 0, limit, unasked: 0, sweep: None }
    }

    /// Most frames held at a time.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Frames held.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frames
    }

    /// Whether no frame is held.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Whether a frame that waits for the answer to `miss` would have the control thread asked.
    #[must_use]
    pub fn asks(&self, miss: &Miss, whose: Whose, now: Instant) -> bool {
        match self.places.get(&(miss.destination, whose)) {
            Some(&place) => is_due(self.waiting[place].asked, now),
            None => self.frames < self.limit,
        }
    }

    /// Takes a frame that waits for the answer to `miss`.
    pub fn hold(&mut self, miss: Miss, whose: Whose, frame: Frame, ingress: PortIndex, now: Instant) -> Place {
        let held = Held { frame, ingress, expires: now + PATIENCE };
        if let Some(&place) = self.places.get(&(miss.destination, whose)) {
            let waiting = &mut self.waiting[place];
            let ask = is_due(waiting.asked, now);
            let Some(free) = waiting.frames.iter().position(Option::is_none) else {
                let displaced = waiting.take_oldest();
                waiting.frames[PER_EID - 1] = Some(held);
                return Place::Held { displaced, ask };
            };
            if self.frames == self.limit {
                return Place::Full(held.frame);
            }
            waiting.frames[free] = Some(held);
            self.frames += 1;
            return Place::Held { displaced: None, ask };
        }
        if self.frames == self.limit {
            return Place::Full(held.frame);
        }
        self.places.insert((miss.destination, whose), self.waiting.len());
        self.waiting.push(Waiting { miss, whose, asked: None, frames: [Some(held), None, None, None] });
        self.frames += 1;
        self.unasked += 1;
        self.sweep.get_or_insert(now + PATIENCE);
        Place::Held { displaced: None, ask: true }
    }

    /// Notes that the control thread's queue took the miss for `eid`.
    pub fn asked(&mut self, eid: Eid, whose: Whose, now: Instant) {
        if let Some(&place) = self.places.get(&(eid, whose))
            && self.waiting[place].asked.replace(now).is_none()
        {
            self.unasked -= 1;
        }
    }

    /// Offers the misses that no queue has taken yet, until one is refused; returns how many were taken.
    pub fn ask_again(&mut self, now: Instant, mut offer: impl FnMut(Miss) -> bool) -> usize {
        let mut taken = 0;
        if self.unasked == 0 {
            return taken;
        }
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.asked.is_none()) {
            if !offer(waiting.miss) {
                break;
            }
            waiting.asked = Some(now);
            taken += 1;
        }
        self.unasked -= taken;
        taken
    }

    /// Moves the frames of every EID whose miss is answered to `freed`: each EID's oldest first.
    pub fn settle(&mut self, mut answered: impl FnMut(&Miss) -> bool, freed: &mut Vec<Held>) {
        let mut place = 0;
        while place < self.waiting.len() {
            if answered(&self.waiting[place].miss) {
                freed.extend(self.remove(place));
            } else {
                place += 1;
            }
        }
    }

    /// Moves frames that waited too long to `freed`; a frame may stay up to ten milliseconds longer than
    /// [`PATIENCE`].
    pub fn expire(&mut self, now: Instant, freed: &mut Vec<Held>) {
        if self.sweep.is_none_or(|sweep| now < sweep) {
            return;
        }
        let mut place = 0;
        while place < self.waiting.len() {
            let waiting = &mut self.waiting[place];
            while waiting.oldest().is_some_and(|expires| expires <= now) {
                freed.extend(waiting.take_oldest());
                self.frames -= 1;
            }
            if waiting.oldest().is_none() {
                drop(self.remove(place));
            } else {
                place += 1;
            }
        }
        let next = self.waiting.iter().filter_map(Waiting::oldest).min();
        self.sweep = next.map(|next| next.max(now + SWEEP));
    }

    /// Takes every frame out, for the end of a run.
    pub fn drain(&mut self, freed: &mut Vec<Held>) {
        self.settle(|_| true, freed);
    }

    /// Takes an EID out; gives its frames, oldest first. The last EID takes its place.
    fn remove(&mut self, place: usize) -> impl Iterator<Item = Held> + use<> {
        let gone = self.waiting.swap_remove(place);
        self.places.remove(&gone.key());
        if let Some(moved) = self.waiting.get(place) {
            self.places.insert(moved.key(), place);
        }
        if gone.asked.is_none() {
            self.unasked -= 1;
        }
        self.frames -= gone.frames.iter().flatten().count();
        gone.frames.into_iter().flatten()
    }
}

/// Whether a packet that missed would fare better with this table.
pub(crate) fn is_answered(cache: &Snapshot<'_>, miss: &Miss) -> bool {
    let Eid { instance, address } = miss.destination;
    // A set says the same to every flow whether its mapping is known.
    let way = cache.lookup(instance, address).map(|entry| cache.way(entry, 0));
    match miss.wanted {
        Wanted::Mapping => !matches!(way, None | Some(Way::Request)),
        Wanted::Neighbour => !matches!(way, Some(Way::Unresolved | Way::NativeUnresolved)),
    }
}

#[cfg(test)]
mod tests;
