//! The writer's own book: which prefix has which slot. Workers never look here.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::{HashTable, hash_table};

use super::entry::{Action, Entry, Hits};
use crate::mapping::{EidPrefix, InstanceId, Prefix};

/// What the writer knows of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) eid: EidPrefix,
    pub(super) action: Action,
    /// Its own leaf, if it stands in the root or the fallback; 0 otherwise.
    pub(super) leaf: u32,
    /// What the counters of the slot stood at when it was handed out.
    pub(super) base: Hits,
}

/// Records by slot, and slots by prefix.
pub(super) struct Records {
    records: Vec<Record>,
    by_prefix: HashTable<u32>,
    hasher: FixedState,
    /// Slots that may be handed out again.
    free: Vec<u32>,
    limit: usize,
}

impl Records {
    /// Room for `capacity` prefixes, and for slots up to `limit`.
    pub(super) fn new(capacity: usize, limit: usize, seed: u64) -> Self {
        Self {
            records: Vec::new(),
            // Of its final size at once: growing it would visit every record, in the middle of one insert.
            by_prefix: HashTable::with_capacity(capacity),
            hasher: FixedState::with_seed(seed),
            free: Vec::new(),
            limit,
        }
    }

    /// Prefixes there are.
    pub(super) fn len(&self) -> usize {
        self.by_prefix.len()
    }

    /// The slot of exactly this prefix.
    pub(super) fn find(&self, eid: &EidPrefix) -> Option<u32> {
        let same = |slot: &u32| self.records[*slot as usize].eid == *eid;
        self.by_prefix.find(self.hasher.hash_one(eid), same).copied()
    }

    /// The longest prefix that covers `eid`, is shorter, and has a length of at least `from` bits.
    pub(super) fn cover(&self, eid: &EidPrefix, from: u32) -> Option<u32> {
        (from..u32::from(eid.prefix.length())).rev().find_map(|length| {
            let prefix = Prefix::new(eid.prefix.address(), length as u8).expect("shorter than one that is");
            self.find(&EidPrefix { instance: eid.instance, prefix })
        })
    }

    pub(super) fn get(&self, slot: u32) -> &Record {
        &self.records[slot as usize]
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Record {
        &mut self.records[slot as usize]
    }

    /// The word that a leaf of this record holds.
    pub(super) fn entry(&self, slot: u32) -> Entry {
        Entry::new(slot, self.get(slot).action)
    }

    /// Length in bits of the prefix that a word of the table stands for.
    pub(super) fn length(&self, word: u64) -> u32 {
        Entry::from_word(word).map_or(0, |entry| u32::from(self.get(entry.slot()).eid.prefix.length()))
    }

    /// Enters a prefix that is not there; `None` while all slots are used or wait for workers.
    pub(super) fn enter(&mut self, eid: EidPrefix, action: Action, total: impl Fn(u32) -> Hits) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.records.len() < self.limit => self.records.len() as u32,
            None => return None,
        };
        let record = Record { eid, action, leaf: 0, base: total(slot) };
        if slot as usize == self.records.len() {
            self.records.push(record);
        } else {
            self.records[slot as usize] = record;
        }
        let (records, hasher) = (&self.records, &self.hasher);
        self.by_prefix.insert_unique(hasher.hash_one(eid), slot, |&slot| hasher.hash_one(records[slot as usize].eid));
        Some(slot)
    }

    /// Strikes a prefix out; its slot comes back by [`release`](Self::release) once no worker can count for it.
    pub(super) fn strike(&mut self, slot: u32) {
        let hash = self.hasher.hash_one(self.get(slot).eid);
        if let Ok(entry) = self.by_prefix.find_entry(hash, |&other| other == slot) {
            hash_table::OccupiedEntry::remove(entry);
        }
    }

    /// Lets a slot be handed out again.
    pub(super) fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Slots ever handed out.
    pub(super) fn slots(&self) -> usize {
        self.records.len()
    }

    /// Octets in use.
    pub(super) fn octets(&self) -> usize {
        self.records.len() * size_of::<Record>() + self.by_prefix.allocation_size() + self.free.capacity() * 4
    }

    /// Slots of all prefixes of one family of an instance. Looks at every record there is.
    pub(super) fn of(&self, instance: InstanceId, v6: bool) -> Vec<u32> {
        let wanted = |slot: &u32| {
            let EidPrefix { instance: its, prefix } = self.get(*slot).eid;
            its == instance && prefix.address().is_ipv6() == v6
        };
        self.by_prefix.iter().copied().filter(wanted).collect()
    }

    /// Prefixes shorter than `below` bits of one family of an instance.
    pub(super) fn shorter(&self, instance: InstanceId, v6: bool, below: u32) -> impl Iterator<Item = u32> + '_ {
        (0..below).flat_map(move |length| (0..1_u32 << length).map(move |head| (length, head))).filter_map(
            move |(length, head)| {
                let first = if length == 0 { 0 } else { head << (32 - length) };
                let address =
                    if v6 { (u128::from(first) << 96).to_be_bytes().into() } else { first.to_be_bytes().into() };
                self.find(&EidPrefix { instance, prefix: Prefix::new(address, length as u8).ok()? })
            },
        )
    }
}
