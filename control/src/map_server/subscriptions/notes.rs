//! Changes, until all who are to hear of them have them noted. Many may have subscribed to one prefix, so this goes in slices, over
//! as many turns as it takes.
//!
//! A change is a prefix, not what is said of it: that is looked up when it is published. So one that changes again goes to the end of
//! the queue unless it waits there already, and nothing is lost. Whoever subscribes meanwhile has been told how it is now.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Bound,
};

use altitude_dataplane::mapping::{EidPrefix, Prefix};

use super::{Name, PENDING_MAX, Registry, Standing, Subscriptions};

/// Subscriptions that are looked at in one turn.
pub(in crate::map_server) const SLICE: usize = 1024;
/// Changes that wait; when there are more, the oldest is worked off at once.
const WAITING_MAX: usize = 262_144;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Notes {
    /// The oldest first, each once.
    waiting: VecDeque<EidPrefix>,
    is_waiting: BTreeSet<EidPrefix>,
    /// The change that is being worked on, and how far it is.
    at: Option<(EidPrefix, Place)>,
    /// Everybody is told everything: of whom is next.
    all: Option<Bound<Name>>,
}

/// How far a change is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Subscriptions to what covers it: of this length at most, of that length those after this number.
    Around { length: u8, after: Option<u32> },
    /// Those to parts of it: from this prefix on, of that those after this number.
    Inside { from: Bound<EidPrefix>, after: Option<u32> },
}

impl Notes {
    pub(super) const fn new() -> Self {
        Self { waiting: VecDeque::new(), is_waiting: BTreeSet::new(), at: None, all: None }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.at.is_none() && self.all.is_none()
    }

    fn next(&mut self) -> Option<(EidPrefix, Place)> {
        self.at.take().or_else(|| {
            let eid = self.waiting.pop_front()?;
            self.is_waiting.remove(&eid);
            Some((eid, Place::Around { length: eid.prefix.length(), after: None }))
        })
    }
}

impl Subscriptions {
    /// Something else is registered of `eid` than before.
    pub(in crate::map_server) fn changed(&mut self, registry: &Registry, eid: EidPrefix) {
        if registry.denies(&eid) || self.by_scope.is_empty() || !self.notes.is_waiting.insert(eid) {
            return;
        }
        self.notes.waiting.push_back(eid);
        while self.notes.waiting.len() > WAITING_MAX {
            let (Some((eid, place)), mut left) = (self.notes.next(), SLICE) else { return };
            self.notes.at = self.tell(registry, eid, place, &mut left).map(|place| (eid, place));
        }
    }

    /// Everybody is to be told how everything stands: nobody knows what they have missed.
    pub(super) fn tell_all(&mut self, registry: &Registry) {
        for eid in std::mem::take(&mut self.missing) {
            self.changed(registry, eid);
        }
        self.notes.all = Some(Bound::Unbounded);
    }

    /// Goes on with what has changed, as far as one turn may.
    pub(super) fn note_changes(&mut self, registry: &Registry) {
        let mut left = SLICE;
        while left > 0 {
            left -= 1;
            if let Some((eid, place)) = self.notes.next() {
                self.notes.at = self.tell(registry, eid, place, &mut left).map(|place| (eid, place));
            } else if let Some(from) = self.notes.all.take() {
                self.notes.all = self.tell_next(registry, from, &mut left);
            } else {
                return;
            }
        }
    }

    /// Notes the change for some more of those that hear of it; `None`: all have it.
    fn tell(&mut self, registry: &Registry, eid: EidPrefix, place: Place, left: &mut usize) -> Option<Place> {
        let first_inside = Place::Inside { from: Bound::Excluded(eid), after: None };
        match place {
            Place::Around { length, after } => {
                let cut = EidPrefix { prefix: Prefix::new(eid.prefix.address(), length).ok()?, ..eid };
                let Some((scope, _)) = self.by_scope.covering(&cut) else { return Some(first_inside) };
                let found = scope.prefix.length();
                let after = after.filter(|_| found == length);
                if let Some(after) = self.tell_some(scope, eid, after, left) {
                    return Some(Place::Around { length: found, after: Some(after) });
                }
                let shorter = found.checked_sub(1).map(|length| Place::Around { length, after: None });
                Some(shorter.unwrap_or(first_inside))
            }
            Place::Inside { from, after } => {
                let next = self.by_scope.iter_from(from).next();
                let scope = next.map(|(scope, _)| scope).filter(|scope| eid.covers(scope))?;
                let after = after.filter(|_| from == Bound::Included(scope));
                // Those who asked for a part of it hear of that part, where nothing longer says what it maps to: they know
                // nothing of what else is inside.
                let match_of = registry.table.index.covering(&scope).map(|(found, _)| found.prefix.length());
                let hears = match_of.is_none_or(|length| length <= eid.prefix.length());
                match hears.then(|| self.tell_some(scope, scope, after, left)).flatten() {
                    Some(after) => Some(Place::Inside { from: Bound::Included(scope), after: Some(after) }),
                    None => Some(Place::Inside { from: Bound::Excluded(scope), after: None }),
                }
            }
        }
    }

    /// Notes `eid` for so many of those of one scope, in the order of their numbers; the last of them, if there may be more.
    fn tell_some(&mut self, scope: EidPrefix, eid: EidPrefix, after: Option<u32>, left: &mut usize) -> Option<u32> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let numbers = self.by_scope.get(&scope)?.range((start, Bound::Unbounded));
        // One at least: there must be an end.
        let some: Vec<u32> = numbers.copied().take((*left).max(1)).collect();
        some.iter().for_each(|number| self.pend(*number, eid));
        let more = some.len() >= (*left).max(1);
        *left = left.saturating_sub(some.len());
        some.last().copied().filter(|_| more)
    }

    /// Tells the next one everything of its scope; where to go on, if there is one.
    fn tell_next(&mut self, registry: &Registry, from: Bound<Name>, left: &mut usize) -> Option<Bound<Name>> {
        let (name, number) =
            self.by_name.range((from, Bound::Unbounded)).next().map(|(name, number)| (*name, *number))?;
        if self.table[number].standing == Standing::Live {
            let scope = self.table[number].scope;
            self.pend(number, scope);
            let inside = registry.table.index.within(&scope).map(|(eid, _)| eid);
            for eid in inside.filter(|eid| !registry.denies(eid)).take(PENDING_MAX + 1) {
                self.pend(number, eid);
                *left = left.saturating_sub(1);
            }
        }
        Some(Bound::Excluded(name))
    }

    fn pend(&mut self, number: u32, eid: EidPrefix) {
        // One too many is enough to know that there are too many.
        let pending = &mut self.table[number].pending;
        if pending.len() <= PENDING_MAX {
            pending.insert(eid);
        }
        self.queue(number);
    }
}
