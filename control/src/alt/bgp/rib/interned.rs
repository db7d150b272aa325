//! Path attributes, each set kept once however many routes have it.

use std::{hash::BuildHasher, num::NonZeroU32};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::{
    alt::bgp::route::{Attributes, Segment},
    slab::Slab,
};

/// LOCAL_PREF of a route that came without one (RFC 4271 §5.1.5 leaves it open; everybody says 100).
pub(super) const LOCAL_PREF: u32 = 100;

/// NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED (RFC 1997).
const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;
const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;

/// A set of attributes in an [`Interner`]; valid as long as somebody holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AttributesId(NonZeroU32);

impl AttributesId {
    const fn of(place: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(place))
    }

    const fn place(self) -> u32 {
        self.0.get() - 1
    }
}

/// How far the communities of a route let it go (RFC 1997).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everywhere.
    Any,
    /// Not to another AS.
    Internal,
    /// To nobody.
    Here,
}

/// A set with what the decision process and the export ask of it.
#[derive(Debug)]
pub(crate) struct Interned {
    pub(crate) attributes: Attributes,
    /// As the decision process counts it.
    pub(super) path_length: u32,
    /// The AS it came from; 0 for our own.
    pub(super) neighbor_as: u32,
    pub(super) scope: Scope,
    holders: u32,
    hash: u64,
}

/// All sets.
#[derive(Debug)]
pub(crate) struct Interner {
    places: HashTable<u32>,
    sets: Slab<Interned>,
    hasher: DefaultHashBuilder,
}

impl Interner {
    pub(crate) fn new() -> Self {
        Self { places: HashTable::new(), sets: Slab::new(), hasher: DefaultHashBuilder::default() }
    }

    /// The number of a set, which the caller holds once more from now on.
    pub(crate) fn hold(&mut self, attributes: Attributes) -> AttributesId {
        let hash = self.hasher.hash_one(&attributes);
        let sets = &self.sets;
        let same = |place: &u32| sets[*place].hash == hash && sets[*place].attributes == attributes;
        if let Some(&place) = self.places.find(hash, same) {
            return self.hold_again(AttributesId::of(place));
        }
        let place = self.sets.insert(Interned {
            path_length: attributes.as_path.length() as u32,
            neighbor_as: neighbor_as(&attributes),
            scope: scope(&attributes.communities),
            attributes,
            holders: 1,
            hash,
        });
        let sets = &self.sets;
        self.places.insert_unique(hash, place, |place| sets[*place].hash);
        AttributesId::of(place)
    }

    /// One holder more.
    pub(crate) fn hold_again(&mut self, id: AttributesId) -> AttributesId {
        self.sets[id.place()].holders += 1;
        id
    }

    /// One holder less; without any the set is gone.
    pub(crate) fn release(&mut self, id: AttributesId) {
        let set = &mut self.sets[id.place()];
        set.holders -= 1;
        if set.holders == 0 {
            if let Ok(entry) = self.places.find_entry(set.hash, |place| *place == id.place()) {
                entry.remove();
            }
            self.sets.remove(id.place());
        }
    }

    /// A set that somebody holds.
    pub(crate) fn get(&self, id: AttributesId) -> &Interned {
        &self.sets[id.place()]
    }

    /// How many different ones.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}

fn scope(communities: &[u32]) -> Scope {
    if communities.contains(&NO_ADVERTISE) {
        Scope::Here
    } else if communities.contains(&NO_EXPORT) || communities.contains(&NO_EXPORT_SUBCONFED) {
        Scope::Internal
    } else {
        Scope::Any
    }
}

/// The AS that a route came from: the first of its path (RFC 4271 §9.1.2.2 c).
fn neighbor_as(attributes: &Attributes) -> u32 {
    match attributes.as_path.0.first() {
        Some(Segment::Sequence(asns)) => asns.first().copied().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alt::bgp::rib::tests::attributes;

    #[test]
    fn equal_sets_are_one_and_go_with_their_last_holder() {
        let mut interner = Interner::new();
        let one = interner.hold(attributes(&[64513, 64514]));
        let other = interner.hold(attributes(&[64513]));
        assert_ne!(one, other);
        assert_eq!(interner.hold(attributes(&[64513, 64514])), one);
        assert_eq!((interner.get(one).path_length, interner.get(one).neighbor_as), (2, 64513));
        interner.release(one);
        assert_eq!(interner.len(), 2);
        interner.release(one);
        assert_eq!(interner.len(), 1);
        let reused = interner.hold(attributes(&[64515]));
        assert_eq!((reused, interner.len()), (one, 2));
        assert_eq!(interner.get(other).attributes, attributes(&[64513]));
    }
}
