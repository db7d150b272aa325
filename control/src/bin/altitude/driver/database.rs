//! Our own mappings as clients of the mapping API change them.
//!
//! A change goes the way of a reload: what it touches is told to the responder, the registrar, those that send to us, the
//! workers, the steering programs and BGP neighbours. A batch goes it once. What clients did is gone with the next start.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use altitude_control::{
    api::{Asker, BATCH_MAX, Batch, Done, Entry, Failed, Offer, Origin, Refused, Table, View},
    config::{TTL_MINUTES, change::Changes},
    database::{Difference, Own, follow},
};
use altitude_dataplane::mapping::{EidPrefix, InstanceId, Mapping, Ttl, sort_locators};

use super::{Driver, news::Turn, operations::less};
use crate::run::OWN_PREFIXES_MAX;

/// Mappings that clients may have put in or changed at one time. A change of one costs work for all.
const BY_CLIENTS_MAX: usize = 4096;
/// Mappings of clients that one round undoes: as much work as a batch.
const UNDONE: usize = BATCH_MAX;
const FULL: Refused =
    Refused::Full("clients have put in as many mappings of our own as may be: write them in the file");

/// What a client offers, as a mapping of ours, in the place of `before`; `rlocs` are ours. Where packets carry versions and it names
/// none, it has the next one if its locators are others: without one, packets by the version before would be dropped.
fn ours(offer: &Offer, before: Option<&Mapping>, rlocs: &[IpAddr], versions: bool) -> Mapping {
    let ttl = if offer.life.is_none() { Ttl::Minutes(TTL_MINUTES) } else { offer.mapping.ttl };
    let mut mapping = Mapping { ttl, authoritative: true, ..offer.mapping.clone() };
    for locator in &mut mapping.locators {
        locator.local = rlocs.contains(&locator.address);
    }
    sort_locators(&mut mapping.locators);
    if let Some(before) = before.filter(|_| versions && mapping.version == 0) {
        mapping = follow(mapping, before);
    }
    mapping
}

/// Whether a mapping says which version it is, or follows one, where packets carry versions.
fn has_version(offer: &Offer, before: bool, versions: bool) -> Result<(), Refused> {
    if !versions || before || offer.mapping.version != 0 {
        return Ok(());
    }
    let eid = offer.mapping.eid;
    Err(Refused::Invalid(format!(
        "map-versioning is on, and {eid} has no version: give one, newer than any that peers know"
    )))
}

impl Driver<'_> {
    pub(super) fn add_own(&mut self, now: Instant, asker: Asker, offer: &Offer) -> Result<Done, Refused> {
        self.admits(offer)?;
        let eid = offer.mapping.eid;
        if self.own.get(&eid).is_some() {
            return Err(Refused::Exists(eid));
        }
        self.put_own(now, asker, offer)
    }

    pub(super) fn change_own(
        &mut self,
        now: Instant,
        asker: Asker,
        offer: &Offer,
        unless_after: Option<u64>,
    ) -> Result<Done, Refused> {
        self.own_unchanged(&offer.mapping.eid, unless_after)?;
        self.admits(offer)?;
        self.put_own(now, asker, offer)
    }

    pub(super) fn delete_own(
        &mut self,
        now: Instant,
        eid: &EidPrefix,
        unless_after: Option<u64>,
    ) -> Result<Done, Refused> {
        self.own_unchanged(eid, unless_after)?;
        let entry = self.exact(Table::Database, eid);
        let difference = self.own.take(eid);
        self.own_changed(now, difference);
        Ok(Done { entry, count: 1 })
    }

    fn put_own(&mut self, now: Instant, asker: Asker, offer: &Offer) -> Result<Done, Refused> {
        if self.own_room() == 0 && !self.is_by_client(&offer.mapping.eid) {
            return Err(FULL);
        }
        let mapping = self.as_ours(offer);
        let difference = self.own.put(now, mapping, offer.foreign, offer.ephemeral.then_some(asker));
        self.own_changed(now, difference);
        Ok(Done { count: 1, ..Done::default() })
    }

    fn as_ours(&self, offer: &Offer) -> Mapping {
        ours(offer, self.own.held(&offer.mapping.eid), &self.config.rlocs, self.config.features.versions)
    }

    /// Whether a mapping may be one of ours, whatever else is there.
    pub(super) fn admits(&self, offer: &Offer) -> Result<(), Refused> {
        has_version(offer, self.own.held(&offer.mapping.eid).is_some(), self.config.features.versions)?;
        self.config.admit(&offer.mapping, offer.foreign).map_err(Refused::Invalid)
    }

    pub(super) fn own_unchanged(&self, eid: &EidPrefix, unless_after: Option<u64>) -> Result<(), Refused> {
        if self.own.get(eid).is_none() {
            return Err(Refused::Missing(format!("{eid} is none of our EID-prefixes")));
        }
        self.not_since(eid, unless_after)
    }

    /// How many more mappings clients may put in or change; there is room for so many prefixes in workers' tables and steering.
    fn own_room(&self) -> usize {
        let all = OWN_PREFIXES_MAX.saturating_sub(self.own.iter().count());
        BY_CLIENTS_MAX.saturating_sub(self.own.by_clients().count()).min(all)
    }

    pub(super) fn is_by_client(&self, eid: &EidPrefix) -> bool {
        self.own.get(eid).is_some_and(|own| own.origin == Origin::Api)
    }

    /// Whether there is room for all that a batch puts in; else which operation is the first without.
    pub(super) fn fits_own(&self, batch: &Batch, ahead: i32) -> Result<(), Failed> {
        let new = batch.puts().filter(|(_, offer)| !self.is_by_client(&offer.mapping.eid));
        let mut places: Vec<usize> = new.map(|(at, _)| at).collect();
        places.sort_unstable();
        places.get(less(self.own_room(), ahead)).map_or(Ok(()), |&first| Err((first, FULL)))
    }

    /// Does all of a batch, as one change.
    pub(super) fn do_own(&mut self, now: Instant, asker: Asker, batch: &Batch) {
        let mut difference = Difference::default();
        for (_, offer) in batch.puts() {
            let mapping = self.as_ours(offer);
            difference.extend(self.own.put(now, mapping, offer.foreign, offer.ephemeral.then_some(asker)));
        }
        for eid in batch.removes() {
            difference.extend(self.own.take(&eid));
        }
        (self.news.cause, self.news.about) = (Some(asker), Some(batch.named()));
        self.own_changed(now, difference);
        (self.news.cause, self.news.about) = (None, None);
    }

    /// Undoes the next of what goes with a client that has left; true if there is more.
    pub(super) fn own_left(&mut self, now: Instant, asker: Asker) -> bool {
        let versions = self.config.features.versions;
        let difference = self.own.undo(now, |own| own.owner == Some(asker), UNDONE, versions);
        if difference != Difference::default() {
            self.own_changed(now, difference);
        }
        self.own.owns_some(asker)
    }

    /// Undoes the next of what clients had made of one instance, or of all, by their put number `until`; returns how many, and
    /// whether there is more. Each entry is told by itself: some leave, and some are again as the configuration says.
    pub(super) fn flush_own(
        &mut self,
        now: Instant,
        asker: Asker,
        (instance, until): (Option<InstanceId>, u64),
    ) -> (usize, bool) {
        let versions = self.config.features.versions;
        // What only its R bits changed of since is what it was: by puts, not by generations.
        let goes = |own: &Own| instance.is_none_or(|instance| own.mapping.eid.instance == instance) && own.put <= until;
        let difference = self.own.undo(now, goes, UNDONE, versions);
        let mut undone = difference.concerned();
        let count = undone.len();
        if count > 0 {
            undone.sort_unstable();
            (self.news.cause, self.news.about) = (Some(asker), Some(undone));
            self.own_changed(now, difference);
            (self.news.cause, self.news.about) = (None, None);
        }
        (count, count == UNDONE)
    }

    /// Takes up a change of our own mappings that was made.
    fn own_changed(&mut self, now: Instant, difference: Difference) {
        let told = |eid: &&EidPrefix| self.config.originates(eid, true) && !self.config.originates(eid, false);
        let withdrawn = difference.gone.iter().filter(told).copied().collect();
        let originated = difference.new.iter().filter(told).copied().collect();
        tracing::info!(
            gone = difference.gone.len(),
            new = difference.new.len(),
            changed = difference.changed.len(),
            "a client of the mapping API changed our EID-prefixes"
        );
        let Difference { gone, new, changed } = difference;
        let changes = Changes {
            prefixes_gone: gone,
            prefixes_new: new,
            prefixes_changed: changed,
            withdrawn,
            originated,
            ..Changes::default()
        };
        self.take_up_prefixes(now, &changes);
    }

    /// Our mappings as they are now, for whoever answers or registers.
    pub(super) fn offering(&self) -> Vec<Mapping> {
        let database = self.own.iter().map(|own| own.mapping.clone()).collect();
        super::reachability::offering(database, &self.config.rlocs, &self.reachability.offered, &self.inside.cut_off)
    }

    /// Has told what our mappings say from now on, to all whom it may concern; `touched` are entries that clients are told of even
    /// if their mapping is the same.
    pub(super) fn tell_own(&mut self, now: Instant, touched: &[EidPrefix]) {
        let database = self.offering();
        let difference = self.responder.set_database(database.clone());
        if difference != Difference::default() {
            self.register_anew(now, database);
            self.mark_own(now);
            for eid in difference.concerned() {
                self.solicit(now, altitude_control::smr::Input::Changed(eid));
            }
        }
        let Difference { gone, new, changed } = difference;
        for eid in gone {
            self.turned(Table::Database, eid, Turn::Left { expired: false });
        }
        for eid in &new {
            self.turned(Table::Database, *eid, Turn::Came);
        }
        let new: BTreeSet<EidPrefix> = new.into_iter().collect();
        let touched = touched.iter().filter(|eid| self.own.get(eid).is_some() && !new.contains(eid));
        let changed: BTreeSet<EidPrefix> = changed.iter().chain(touched).copied().collect();
        for eid in changed {
            self.turned(Table::Database, eid, Turn::Changed);
        }
    }

    /// A mapping of ours as the API shows it.
    pub(super) fn own_entry(&self, eid: &EidPrefix) -> Option<Entry> {
        let (own, mapping) = (self.own.get(eid)?, self.responder.mapping(eid)?);
        let up = |address| self.kernel.underlay.own_addresses().contains(&address);
        let entry = Entry::new(Table::Database, mapping, own.origin, self.wall_clock(own.since), up);
        Some(self.with_hits(Entry { ephemeral: own.owner.is_some(), ..entry }))
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::{Action, Locator};

    use super::*;

    fn offer(version: u16, rlocs: &[[u8; 4]]) -> Offer {
        let eid = EidPrefix { prefix: "1.1.0.0/16".parse().unwrap(), instance: Default::default() };
        let locators = rlocs.iter().map(|&rloc| Locator::unicast(rloc.into(), 1, 100)).collect();
        let negative = Mapping::negative(eid, Ttl::ReceiverDecides, Action::NoAction);
        let mapping = Mapping { version, locators, ..negative };
        Offer { table: Table::Database, mapping, life: None, ephemeral: false, foreign: false }
    }

    #[test]
    fn a_change_that_names_no_version_has_the_next_one() {
        let [one, two] = [[240, 0, 254, 10], [240, 0, 254, 11]];
        let rlocs = [one.into()];
        let version = |offer: &Offer, before: u16, versions| {
            let before = ours(&self::offer(before, &[one]), None, &rlocs, false);
            ours(offer, Some(&before), &rlocs, versions).version
        };
        assert_eq!(version(&offer(0, &[one, two]), 5, true), 6);
        assert_eq!(version(&offer(0, &[one, two]), 4095, true), 1);
        assert_eq!(version(&offer(0, &[one]), 5, true), 5, "it says the same");
        assert_eq!(version(&offer(9, &[one, two]), 5, true), 9);
        assert_eq!(version(&offer(0, &[one, two]), 0, true), 0, "nobody knows of a version");
        assert_eq!(version(&offer(0, &[one, two]), 5, false), 0, "nobody looks at versions");
    }

    #[test]
    fn what_is_new_names_its_version_where_packets_carry_them() {
        let [without, with] = [0, 5].map(|version| offer(version, &[[240, 0, 254, 10]]));
        let refused = has_version(&without, false, true).unwrap_err();
        assert!(matches!(&refused, Refused::Invalid(why) if why.contains("1.1.0.0/16")), "{refused}");
        for (offer, before, versions) in [(&with, false, true), (&without, true, true), (&without, false, false)] {
            assert_eq!(has_version(offer, before, versions), Ok(()));
        }
    }
}
