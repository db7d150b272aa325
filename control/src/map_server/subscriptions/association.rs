//! What signs the Map-Notifies of a subscription: a key that was shared beforehand, or one that was made of the One-Time Key of
//! its Map-Request. Such a key is good for one subscription, until it is renewed with another one.
//!
//! An xTR-ID is claimed, and what LISP-SEC proves is whose key the Map-Request came under: of a Map-Resolver, or of an ITR. So
//! that key is a part of what the subscription is known by ([`Name`]), and who has another one has other subscriptions.
//!
//! A One-Time Key is good once. As many as there may be subscriptions, and some, are remembered, over a restart too; what tells
//! them apart gives none of them away. It is used up by being asked with, acknowledged or not, so a client of LISP-SEC can turn all
//! of them over, as fast as the limits let it ask. That costs room in the file, and lets in nothing old: an old Map-Request is
//! stopped by the nonce of its name first, and to be taken it would have to be acknowledged under its key.
//!
//! Source: RFC 9437 §7.1.

use std::collections::{BTreeSet, VecDeque};

use super::{Ask, Name, SiteFault, Subscriptions, saved};
use crate::wire::Key;

/// One-Time Keys that are remembered in any case.
const USED_MIN: usize = 65_536;

/// Marks of One-Time Keys that were used.
#[derive(Debug)]
pub(super) struct Used {
    marks: BTreeSet<u128>,
    /// The oldest first.
    order: VecDeque<u128>,
    /// How many were forgotten.
    forgotten: u64,
}

impl Used {
    pub(super) const fn new() -> Self {
        Self { marks: BTreeSet::new(), order: VecDeque::new(), forgotten: 0 }
    }

    /// False if it was there already.
    fn insert(&mut self, mark: u128, max: usize) -> bool {
        if !self.marks.insert(mark) {
            return false;
        }
        self.order.push_back(mark);
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.marks.remove(&oldest);
            self.forgotten += 1;
        }
        true
    }

    /// The one at this place, counted from the first that ever was, and the place of the next. `None`: there are no more.
    pub(super) fn next(&self, place: u64) -> Option<(u128, u64)> {
        let place = place.max(self.forgotten);
        let mark = self.order.get(usize::try_from(place - self.forgotten).ok()?)?;
        Some((*mark, place + 1))
    }
}

impl Subscriptions {
    /// Whether we can sign what it is told: with a shared key, or with one of a One-Time Key that nobody has used before.
    ///
    /// # Errors
    /// [`SiteFault`]: its authentication fails.
    pub(super) fn is_signed(&self, peer: usize, ask: &Ask<'_>) -> Result<(), SiteFault> {
        if !self.settings.peers[peer].keys.is_empty() {
            return Ok(());
        }
        let own = ask.own.ok_or(SiteFault::SubscriptionUnknown)?;
        if self.used.marks.contains(&own.mark) { Err(SiteFault::SubscriptionKeyUsed) } else { Ok(()) }
    }

    /// The key that the subscription shall have for itself; its One-Time Key is used from now on.
    pub(super) fn take_key(&mut self, peer: usize, ask: &Ask<'_>) -> Option<Key> {
        let own = ask.own.filter(|_| self.settings.peers[peer].keys.is_empty())?;
        self.use_mark(own.mark);
        Some(own.key.clone())
    }

    /// What a subscription of this peer to what is asked for is known by.
    pub(super) fn name(&self, peer: usize, ask: &Ask<'_>) -> Name {
        let own = ask.own.filter(|_| self.settings.peers[peer].keys.is_empty());
        Name { xtr: ask.xtr, eid: ask.eid, client: own.map(|own| own.client) }
    }

    pub(super) fn use_mark(&mut self, mark: u128) {
        if self.used.insert(mark, self.settings.all_max.max(USED_MIN)) {
            saved::put_used(mark, &mut self.journal);
        }
    }

    /// What its Map-Notifies are signed with, and its Map-Notify-Acks are: the first signs.
    pub(super) fn keys(&self, number: u32) -> &[Key] {
        let one = &self.table[number];
        one.key.as_ref().map_or(&self.settings.peers[one.peer].keys, std::slice::from_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PS-9, PS-10: so many used One-Time Keys are remembered, the oldest is forgotten first, and a reader that was there
    /// meanwhile misses none of the others.
    #[test]
    fn what_is_remembered_is_bounded() {
        let mut used = Used::new();
        assert!((0..10).all(|mark| used.insert(mark, 10)) && !used.insert(0, 10));
        let (first, place) = used.next(0).unwrap();
        assert!(used.insert(10, 10) && used.insert(11, 10));
        let rest: Vec<u128> =
            std::iter::successors(used.next(place), |(_, next)| used.next(*next)).map(|(mark, _)| mark).collect();
        assert_eq!((first, rest), (0, (2..12).collect()));
        assert!(used.insert(1, 10), "forgotten");
    }
}
