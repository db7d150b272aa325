//! Which prefixes say something else than before, for subscribers.

use altitude_dataplane::mapping::{EidPrefix, Mapping};

use super::Registry;

impl Registry {
    /// What subscribers are told of the prefix now, where anybody may have subscribed to it.
    pub(super) fn said(&self, eid: EidPrefix) -> Option<Mapping> {
        self.changed.as_ref().map(|_| self.published(eid))
    }

    /// Notes that they are told something else than was `said` before, if they are.
    pub(super) fn note_change(&mut self, eid: EidPrefix, said: Option<&Mapping>) {
        if said != self.said(eid).as_ref()
            && let Some(changed) = &mut self.changed
        {
            changed.push(eid);
        }
    }
}
