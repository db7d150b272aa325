//! What operators are told of the publisher.

use std::{collections::BTreeMap, net::IpAddr};

use altitude_dataplane::{
    cache::{self, Choice},
    mapping::{EidPrefix, Locator, OuterHeader},
};

use super::{HostUse, Paths, Publisher, User};
use crate::map_cache::SetNumber;

impl Publisher {
    /// The first `max` locators behind `after`, each with the locator-sets that have it.
    #[must_use]
    pub fn locators(&self, after: Option<IpAddr>, max: usize) -> BTreeMap<IpAddr, Vec<SetNumber>> {
        let mut page: BTreeMap<IpAddr, Vec<SetNumber>> = BTreeMap::new();
        let held = self.sets.iter().enumerate().filter_map(|(place, held)| Some((place, held.as_ref()?)));
        for (place, held) in held {
            let set = SetNumber::new(place as u32);
            let behind = |address: &IpAddr| after.is_none_or(|after| *address > after);
            for address in held.locators.iter().map(|locator| locator.address).filter(behind) {
                let beyond = page.len() >= max && page.last_key_value().is_some_and(|(last, _)| address > *last);
                if beyond {
                    continue;
                }
                let sets = page.entry(address).or_default();
                // Of a path, an address may be several stops.
                if sets.last() != Some(&set) {
                    sets.push(set);
                }
                if page.len() > max {
                    page.pop_last();
                }
            }
        }
        page
    }

    /// Locators of a set that flows go to now.
    pub fn carrying(&self, set: SetNumber, paths: &dyn Paths) -> Vec<IpAddr> {
        let Some(Some(held)) = self.sets.get(set.place()) else { return Vec::new() };
        match self.choose(held.instance, &held.locators, paths) {
            Choice::Tunnel(set) => set.outers().iter().map(OuterHeader::destination).collect(),
            Choice::Request | Choice::Unusable => Vec::new(),
        }
    }

    /// Octets of its own books, at most, and of the workers' table.
    #[must_use]
    pub fn octets(&self) -> (usize, cache::Memory) {
        let held = self.sets.iter().flatten();
        let locators: usize = held.map(|held| held.locators.len() * size_of::<Locator>()).sum();
        let sets = self.users.values().map(|users| users.sets.len()).sum::<usize>();
        // B-trees are counted as nodes half full.
        let trees = 2 * (sets * size_of::<SetNumber>() + self.natives.len() * size_of::<(EidPrefix, User)>());
        let trees = trees + 2 * self.beyond.len() * size_of::<(EidPrefix, HostUse, User)>();
        let hosts = self.hosts.allocation_size() + self.users.allocation_size();
        (self.sets.octets() + locators + trees + hosts, self.writer.octets())
    }
}
