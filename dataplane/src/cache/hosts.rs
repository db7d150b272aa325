//! IPv6 hosts: /128 prefixes in one hash table for all instances.
//!
//! A trie down to bit 128 would cost ten more steps for each host. So the trie ends at bit 66 for them: a node there,
//! even without any way on, tells a look-up to ask the table. How many hosts stand behind such a node is the writer's
//! business ([`Store::crowds`]).

use std::sync::atomic::Ordering;

use super::{
    entry::Entry,
    store::{Retired, Store},
    tables::{DEEP, Hashed, Host, Root},
    trie::Key,
};

/// Places of the first table, as a power of two.
const FIRST_LOG: u32 = 5;

impl Store {
    /// Whether hosts stand behind the first 66 bits of `key`.
    pub(super) fn is_crowded(&self, key: &Key) -> bool {
        self.crowds.contains_key(&crowd(key))
    }

    pub(super) fn insert_host(&mut self, root: Root, key: &Key, slot: u32) {
        self.make_host_room();
        let table = Hashed::from_word(self.tables.host_table.load(Ordering::Relaxed));
        self.enter_host(table, key, self.records.entry(slot).0);
        self.host_places += 1;
        self.live_hosts += 1;
        let crowd = self.crowds.entry(crowd(key)).or_default();
        *crowd += 1;
        if *crowd == 1 {
            self.insert_deep(root, key);
        }
    }

    pub(super) fn withdraw_host(&mut self, root: Root, key: &Key) {
        if let Some(host) = self.host_of(key) {
            // The place stays taken until the table is written anew: a worker may be comparing its address.
            host.entry.store(Host::GONE, Ordering::Release);
            self.live_hosts -= 1;
        }
        let Some(left) = self.crowds.get_mut(&crowd(key)) else { return };
        *left -= 1;
        if *left == 0 {
            self.crowds.remove(&crowd(key));
            self.withdraw_deep(root, key);
        }
    }

    pub(super) fn rewrite_host(&self, key: &Key, new: Entry) {
        if let Some(host) = self.host_of(key) {
            host.entry.store(new.0, Ordering::Release);
        }
    }

    fn host_of(&self, key: &Key) -> Option<&Host> {
        let table = Hashed::from_word(self.tables.host_table.load(Ordering::Relaxed));
        let mut at = self.tables.host_place(key.instance, key.bits) & table.mask();
        loop {
            let host = self.tables.host(table.base + at);
            match host.entry.load(Ordering::Relaxed) {
                0 => return None,
                entry if entry != Host::GONE && is(host, key) => return Some(host),
                _ => at = (at + 1) & table.mask(),
            }
        }
    }

    /// Writes a host into a place never used.
    fn enter_host(&self, table: Hashed, key: &Key, entry: u64) {
        let mut at = self.tables.host_place(key.instance, key.bits) & table.mask();
        while self.tables.host(table.base + at).entry.load(Ordering::Relaxed) != 0 {
            at = (at + 1) & table.mask();
        }
        let host = self.tables.host(table.base + at);
        host.high.store((key.bits >> 64) as u64, Ordering::Relaxed);
        host.low.store(key.bits as u64, Ordering::Relaxed);
        host.instance.store(u64::from(key.instance), Ordering::Relaxed);
        // Ordering 1: the entry shows the address with it.
        host.entry.store(entry, Ordering::Release);
    }

    /// Sees to it that the table has a place for one more host and is at most half full.
    ///
    /// # Panics
    /// If the system has no memory left, as every allocation would.
    fn make_host_room(&mut self) {
        let word = self.tables.host_table.load(Ordering::Relaxed);
        let old = Hashed::from_word(word);
        if word != 0 && (self.host_places + 1) * 2 <= 1 << old.log {
            return;
        }
        let log = ((self.live_hosts + 1) * 4).next_power_of_two().ilog2().max(FIRST_LOG);
        let base = self.hosts.allocate(&self.tables.hosts, 1 << log).expect("no memory left for the map-cache");
        let table = Hashed { base, log };
        let places = if word == 0 { 0 } else { 1 << old.log };
        for at in 0..places {
            let host = self.tables.host(old.base + at);
            let entry = host.entry.load(Ordering::Relaxed);
            if entry != 0 && entry != Host::GONE {
                let high = u128::from(host.high.load(Ordering::Relaxed)) << 64;
                let bits = high | u128::from(host.low.load(Ordering::Relaxed));
                let instance = host.instance.load(Ordering::Relaxed) as u32;
                self.enter_host(table, &Key { instance, bits, length: 128 }, entry);
            }
        }
        self.host_places = self.live_hosts;
        self.tables.host_table.store(table.word(), Ordering::Release);
        if word != 0 {
            self.retire(Retired::Hosts { base: old.base, count: 1 << old.log });
        }
    }
}

/// What hosts behind one node at bit 66 have in common.
const fn crowd(key: &Key) -> (u32, u128) {
    (key.instance, key.bits >> (128 - DEEP))
}

fn is(host: &Host, key: &Key) -> bool {
    host.high.load(Ordering::Relaxed) == (key.bits >> 64) as u64
        && host.low.load(Ordering::Relaxed) == key.bits as u64
        && host.instance.load(Ordering::Relaxed) == u64::from(key.instance)
}
