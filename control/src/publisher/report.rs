//! What operators are told of the publisher.

use std::net::IpAddr;

use altitude_dataplane::{
    cache::{self, Choice},
    mapping::{EidPrefix, Locator, OuterHeader},
};

use super::{HostUse, Paths, Publisher, User};
use crate::map_cache::SetNumber;

impl Publisher {
    /// Every locator-set with its locators, and which of them flows go to now.
    pub fn sets<'a>(
        &'a self,
        paths: &'a dyn Paths,
    ) -> impl Iterator<Item = (SetNumber, &'a [Locator], Vec<IpAddr>)> + 'a {
        let held = self.sets.iter().enumerate().filter_map(|(place, held)| Some((place, held.as_ref()?)));
        held.map(move |(place, held)| {
            let carrying = match self.choose(held.instance, &held.locators, paths) {
                Choice::Tunnel(set) => set.outers().iter().map(OuterHeader::destination).collect(),
                Choice::Request | Choice::Unusable => Vec::new(),
            };
            (SetNumber::new(place as u32), &*held.locators, carrying)
        })
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
