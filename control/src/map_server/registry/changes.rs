//! Which prefixes say something else than before, for subscribers.

use altitude_dataplane::mapping::{EidPrefix, Mapping};

use super::Registry;

impl Registry {
    /// What is registered, where anybody may have subscribed to it.
    pub(super) fn said(&self, head: Option<u32>) -> Option<Mapping> {
        self.changed.as_ref().and(head).and_then(|head| self.table.merged(head))
    }

    /// Notes that something else is registered than was `said` before, if it is.
    pub(super) fn note_change(&mut self, eid: EidPrefix, said: Option<&Mapping>) {
        let Some(changed) = &mut self.changed else { return };
        let head = self.table.index.get(&eid).copied();
        if said != head.and_then(|head| self.table.merged(head)).as_ref() {
            changed.push(eid);
        }
    }
}
