//! Locator-sets, each kept once for all mappings of an instance that have it.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroU32,
};

use altitude_dataplane::mapping::{InstanceId, Locator};

use crate::slab::Slab;

/// A locator-set of an instance, as long as a mapping has it; small numbers are given out first, and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetNumber(NonZeroU32);

impl SetNumber {
    /// The number from its place, counted from zero.
    ///
    /// # Panics
    /// At `u32::MAX`.
    #[must_use]
    pub const fn new(place: u32) -> Self {
        Self(NonZeroU32::new(place.wrapping_add(1)).expect("fewer than 2^32 - 1 sets"))
    }

    /// Its place, counted from zero.
    #[must_use]
    pub const fn place(self) -> u32 {
        self.0.get() - 1
    }
}

#[derive(Debug)]
struct Shared {
    instance: InstanceId,
    /// Mappings that have it.
    users: u32,
    locators: Box<[Locator]>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Sets {
    sets: Slab<Shared>,
    /// By the hash of instance and locators: a B-tree grows node by node, where a hash table stops to move everything.
    by_hash: BTreeSet<(u64, SetNumber)>,
    /// Locators of all sets together.
    locators: usize,
}

impl Sets {
    pub(crate) const fn new() -> Self {
        Self { sets: Slab::new(), by_hash: BTreeSet::new(), locators: 0 }
    }

    /// Finds or makes the set, for one more mapping.
    pub(crate) fn share(&mut self, instance: InstanceId, locators: &[Locator]) -> SetNumber {
        let hash = hash(instance, locators);
        let same_hash = self.by_hash.range((hash, SetNumber::new(0))..).take_while(|(other, _)| *other == hash);
        let known = same_hash.map(|(_, number)| *number).find(|number| {
            let shared = &self.sets[number.place()];
            shared.instance == instance && *shared.locators == *locators
        });
        if let Some(number) = known {
            self.sets[number.place()].users += 1;
            return number;
        }
        let number = SetNumber::new(self.sets.insert(Shared { instance, users: 1, locators: locators.into() }));
        self.by_hash.insert((hash, number));
        self.locators += locators.len();
        number
    }

    /// One mapping fewer has it; true if that was the last one.
    pub(crate) fn leave(&mut self, number: SetNumber) -> bool {
        let shared = &mut self.sets[number.place()];
        shared.users -= 1;
        if shared.users > 0 {
            return false;
        }
        self.by_hash.remove(&(hash(shared.instance, &shared.locators), number));
        self.locators -= shared.locators.len();
        self.sets.remove(number.place());
        true
    }

    pub(crate) fn locators(&self, number: SetNumber) -> &[Locator] {
        &self.sets[number.place()].locators
    }

    pub(super) fn users_of(&self, number: SetNumber) -> u32 {
        self.sets.get(number.place()).map_or(0, |shared| shared.users)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Octets in use; the index as B-tree nodes half full.
    pub(crate) fn octets(&self) -> usize {
        self.sets.octets() + self.locators * size_of::<Locator>() + self.len() * 2 * size_of::<(u64, SetNumber)>()
    }

    /// Each set with how many mappings have it.
    #[cfg(test)]
    pub(crate) fn users(&self) -> impl Iterator<Item = (SetNumber, u32)> {
        self.by_hash.iter().map(|(_, number)| (*number, self.sets[number.place()].users))
    }
}

/// The same in every run, and hard to find many equal ones for: locators come from the network.
fn hash(instance: InstanceId, locators: &[Locator]) -> u64 {
    let mut hash = DefaultHasher::new();
    (instance, locators).hash(&mut hash);
    hash.finish()
}
