//! Who hangs on the path to a destination.

use std::collections::BTreeSet;

use altitude_dataplane::mapping::{Eid, EidPrefix, InstanceId};

use crate::map_cache::SetNumber;

/// Who needs the path to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum User {
    /// A locator-set.
    Set(SetNumber),
    /// A prefix that is natively forwarded.
    Native(EidPrefix),
    /// A host of the site.
    Host(Eid),
    /// A destination that is no EID.
    Beyond(Eid),
    /// What goes through the PETRs in an instance.
    Proxy(InstanceId),
}

/// Users of one destination; an RLOC may have very many sets and seldom anything else.
#[derive(Debug, Default)]
pub(super) struct Users {
    pub(super) sets: BTreeSet<SetNumber>,
    pub(super) others: BTreeSet<User>,
}

impl Users {
    pub(super) fn insert(&mut self, user: User) {
        match user {
            User::Set(set) => self.sets.insert(set),
            other => self.others.insert(other),
        };
    }

    pub(super) fn remove(&mut self, user: User) {
        match user {
            User::Set(set) => self.sets.remove(&set),
            other => self.others.remove(&other),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.others.is_empty()
    }
}
