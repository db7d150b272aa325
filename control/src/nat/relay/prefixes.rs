//! EID-Prefixes behind the bindings.

use std::{collections::BTreeSet, num::NonZeroU16, time::Instant};

use altitude_dataplane::mapping::{Action, EidPrefix, Locator, Mapping, Ttl, UNUSABLE_PRIORITY, sort_locators};

use super::{
    CLAIMS_MAX, Output, PREFIXES_MAX, Relay, RelayFault, TELL_AGAIN,
    binding::{Claim, Held, Name, lasts},
};

impl Relay {
    /// Believes what a Map-Server says of a binding, all of it or nothing: the xTR, once it hears of it, sends everything here.
    pub(super) fn take_in(
        &mut self,
        now: Instant,
        name: Name,
        records: &[Mapping],
        todo: &mut Vec<Output>,
    ) -> Result<(), RelayFault> {
        self.has_room(&name, records)?;
        for record in records {
            match lasts(record.ttl) {
                None => self.unclaim(&name, &record.eid, todo),
                Some(lasts) => self.claim(now, name, record, now + lasts, todo),
            }
        }
        self.set_deadline(&name);
        Ok(())
    }

    fn has_room(&self, name: &Name, records: &[Mapping]) -> Result<(), RelayFault> {
        let Some(held) = self.bindings.get(name) else { return Err(RelayFault::Nonce) };
        let kept = records.iter().filter(|record| lasts(record.ttl).is_some()).map(|record| record.eid);
        let new: BTreeSet<EidPrefix> = kept.filter(|eid| !held.prefixes.contains_key(eid)).collect();
        if new.iter().any(|eid| !self.settings.instances.contains(&eid.instance)) {
            return Err(RelayFault::ForeignInstance);
        }
        let is_full = |eid: &EidPrefix| self.claims.get(eid).is_some_and(|names| names.len() >= CLAIMS_MAX);
        if held.prefixes.len() + new.len() > PREFIXES_MAX || new.iter().any(is_full) {
            return Err(RelayFault::TooMany);
        }
        let unheard = new.iter().filter(|eid| !self.claims.contains_key(eid)).count();
        let fits = unheard == 0 || self.claims.len() + unheard <= self.settings.prefixes_max;
        if fits { Ok(()) } else { Err(RelayFault::NoRoom) }
    }

    /// A prefix is behind a binding. If it is new there, it is behind no other one of what is the same xTR: its NAT forgot that.
    fn claim(&mut self, now: Instant, name: Name, record: &Mapping, expires: Instant, todo: &mut Vec<Output>) {
        let eid = record.eid;
        let own = record.locators.iter().find(|locator| locator.address == name.inner);
        let own = own.filter(|locator| locator.priority != UNUSABLE_PRIORITY);
        // What says nothing of the xTR's own link has it share with the site's others.
        let (priority, weight) = own.map_or((1, 100), |locator| (locator.priority, locator.weight));
        let Some(held) = self.bindings.get_mut(&name) else { return };
        let before = held.prefixes.get(&eid).copied();
        let same = before.filter(|before| (before.priority, before.weight) == (priority, weight));
        let told = same.map(|before| before.told).filter(|told| now.saturating_duration_since(*told) < TELL_AGAIN);
        held.prefixes.insert(eid, Claim { expires, priority, weight, told: told.unwrap_or(now) });
        let names = self.claims.entry(eid).or_default();
        names.insert(name);
        let is_old = |other: &&Name| (other.xtr_id, other.inner) == (name.xtr_id, name.inner) && **other != name;
        let old: Vec<Name> = names.iter().filter(is_old).filter(|_| before.is_none()).copied().collect();
        for other in &old {
            self.forget(other, &eid);
        }
        if told.is_none() {
            self.tell(&eid, todo);
        }
        for other in old {
            match self.bindings.get(&other).is_some_and(Held::is_verified) {
                true => self.set_deadline(&other),
                false => self.end(other, todo),
            }
        }
    }

    /// Says how a prefix is reached now.
    pub(super) fn tell(&mut self, eid: &EidPrefix, todo: &mut Vec<Output>) {
        let names = self.claims.get(eid).into_iter().flatten();
        let locator = |name: &Name| {
            let claim = self.bindings.get(name)?.prefixes.get(eid)?;
            let translated = NonZeroU16::new(name.translated.port());
            Some(Locator { translated, ..Locator::unicast(name.translated.ip(), claim.priority, claim.weight) })
        };
        let mut locators: Vec<Locator> = names.filter_map(locator).collect();
        if locators.is_empty() {
            self.claims.remove(eid);
            todo.push(Output::Remove(*eid));
            return;
        }
        sort_locators(&mut locators);
        let mapping = Mapping::negative(*eid, Ttl::ReceiverDecides, Action::NoAction);
        todo.push(Output::Install(Mapping { locators, ..mapping }));
    }

    pub(super) fn unclaim(&mut self, name: &Name, eid: &EidPrefix, todo: &mut Vec<Output>) {
        if self.forget(name, eid) {
            self.tell(eid, todo);
        }
    }

    /// Takes a prefix from a binding; false if it had it not.
    fn forget(&mut self, name: &Name, eid: &EidPrefix) -> bool {
        let held = self.bindings.get_mut(name);
        if held.is_none_or(|held| held.prefixes.remove(eid).is_none()) {
            return false;
        }
        if let Some(names) = self.claims.get_mut(eid) {
            names.remove(name);
        }
        true
    }
}
