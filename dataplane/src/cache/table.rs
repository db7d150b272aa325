//! All instances and both families: what one publication shows.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::{
    Entry,
    lpm::{Key, Trie, bits},
};
use crate::mapping::{EidPrefix, InstanceId};

/// One version of the map-cache; a clone shares all nodes.
#[derive(Clone, Default)]
pub(super) struct Table {
    /// The publication that shows it.
    pub(super) generation: u64,
    /// By Instance-ID; only those that have an entry.
    instances: Trie<Instance>,
}

#[derive(Clone, Default)]
struct Instance {
    v4: Trie<Entry>,
    v6: Trie<Entry>,
}

impl Instance {
    #[inline]
    const fn family(&self, address: IpAddr) -> &Trie<Entry> {
        if address.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    const fn family_mut(&mut self, address: IpAddr) -> &mut Trie<Entry> {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

impl Table {
    #[inline]
    pub(super) fn lookup(&self, instance: InstanceId, address: IpAddr) -> Option<&Entry> {
        self.instances.get(&Key::instance(instance))?.family(address).lookup(bits(address))
    }

    pub(super) fn knows(&self, instance: InstanceId) -> bool {
        self.instances.get(&Key::instance(instance)).is_some()
    }

    /// The entry of exactly this prefix.
    pub(super) fn get(&self, eid: &EidPrefix) -> Option<&Entry> {
        let instance = self.instances.get(&Key::instance(eid.instance))?;
        instance.family(eid.prefix.address()).get(&Key::prefix(&eid.prefix))
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let EidPrefix { instance, prefix } = entry.eid();
        let key = Key::instance(instance);
        if let Some(instance) = self.instances.get_mut(&key) {
            instance.family_mut(prefix.address()).insert(Key::prefix(&prefix), entry);
        } else {
            let mut instance = Instance::default();
            instance.family_mut(prefix.address()).insert(Key::prefix(&prefix), entry);
            self.instances.insert(key, instance);
        }
    }

    /// Takes out the entry of exactly this prefix, if there is one, and its instance with the last.
    pub(super) fn remove(&mut self, eid: &EidPrefix) {
        let key = Key::instance(eid.instance);
        let Some(instance) = self.instances.get_mut(&key) else { return };
        instance.family_mut(eid.prefix.address()).remove(&Key::prefix(&eid.prefix));
        if instance.v4.is_empty() && instance.v6.is_empty() {
            self.instances.remove(&key);
        }
    }
}
