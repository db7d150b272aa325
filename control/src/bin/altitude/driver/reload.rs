//! A changed configuration, taken up while packets pass.
//!
//! The whole file is read and checked as at the start, then compared with what runs. If something differs that cannot change
//! live nothing is applied at all. What is applied touches its own entries alone: flows of others never notice.
//!
//! What the file names is as the file says, whatever clients of the mapping API made of it; what they put in beside it stays, and
//! where it cannot stand beside the file nothing is applied either.

use std::{collections::BTreeSet, time::Instant};

use altitude_control::{
    alt::{bgp::speaker, rib::StaticRib},
    config::{
        Config, Problems,
        change::{Changes, compare},
    },
    database::{Database, Difference},
    map_cache,
    map_resolver::Choice,
};
use altitude_dataplane::mapping::EidPrefix;

use super::Driver;
use crate::log;

/// How the configuration is read again, and where those that were read live.
pub(crate) struct Source<'a> {
    /// The file and the flags, as at the start.
    pub(crate) load: &'a dyn Fn() -> Result<Config, Problems>,
    pub(crate) loaded: &'a typed_arena::Arena<Config>,
}

/// Whether what clients have put in can stand beside a configuration.
fn stands_beside(own: &Database, new: &Config) -> Result<(), String> {
    for own in own.by_clients() {
        new.admit(&own.mapping, own.foreign).map_err(|why| {
            let eid = own.mapping.eid;
            format!("a client of the mapping API has made {eid} ours, and {why}; `altitude map del --database {eid}`, or change the file")
        })?;
    }
    Ok(())
}

/// The changes from one configuration to another, each with what clients made of its EID-prefixes.
fn with_clients(changes: Changes, (old, before): (&Config, &Database), (new, after): (&Config, &Database)) -> Changes {
    let originated = |config: &Config, database: &Database| -> BTreeSet<EidPrefix> {
        let known = config.speaker.iter().flat_map(|own| &own.originate).copied().chain(database.eids());
        known.filter(|eid| config.originates(eid, database.get(eid).is_some())).collect()
    };
    let (told, to_tell) = (originated(old, before), originated(new, after));
    let Difference { gone, new, changed } = before.difference(after);
    Changes {
        prefixes_gone: gone,
        prefixes_new: new,
        prefixes_changed: changed,
        withdrawn: told.difference(&to_tell).copied().collect(),
        originated: to_tell.difference(&told).copied().collect(),
        ..changes
    }
}

impl Driver<'_> {
    /// Takes up what changed, and returns how many things did.
    ///
    /// # Errors
    /// Why nothing changed: what is wrong with the file, or what cannot change live.
    pub(super) fn reload(&mut self, now: Instant) -> Result<usize, String> {
        self.service.reloading();
        let reloaded = self.try_reload(now);
        match &reloaded {
            Ok(changes) => tracing::info!(changes, "configuration reloaded"),
            Err(why) => tracing::warn!(%why, "configuration not reloaded; nothing changed"),
        }
        self.service.ready(now, &self.config.summary());
        reloaded
    }

    fn try_reload(&mut self, now: Instant) -> Result<usize, String> {
        let new = (self.source.load)().map_err(|problems| problems.to_string())?;
        let changes = compare(self.config, &new).map_err(|fixed| {
            format!("cannot change while the router runs: {}; put it back, or restart the router", fixed.join("; "))
        })?;
        let fixed = new.routes.iter().map(|route| (route.eid, route.hop)).collect();
        let fixed = StaticRib::new(fixed).map_err(|error| error.to_string())?;
        let own = self.own.rewritten(&new.database, now, new.features.versions);
        stands_beside(&own, &new)?;
        let changes = with_clients(changes, (self.config, &self.own), (&new, &own));
        (self.own, self.config) = (own, self.source.loaded.alloc(new));
        // From here on nothing fails.
        if changes.log {
            log::set_level(self.config.log);
        }
        if changes.map_resolvers {
            self.map_resolvers = Choice::new(self.config.roles.map_resolvers.clone());
        }
        if changes.routes {
            self.rib.fixed = fixed;
        }
        // What was ours may be a static mapping from now on, and the other way round: what goes goes first.
        self.drop_static(now, &changes);
        self.take_up_prefixes(now, &changes);
        self.take_up_static(now);
        Ok(changes.count())
    }

    fn drop_static(&mut self, now: Instant, changes: &Changes) {
        for eid in &changes.static_gone {
            // What a client put in its place is the client's.
            if self.map_cache.get(eid).is_some_and(|cached| cached.origin == map_cache::Origin::Static) {
                self.cache(now, map_cache::Input::Remove(*eid));
            }
        }
    }

    /// Puts in every static mapping that is not there as it is written: also those that a client of the API has taken out or
    /// replaced. They stay, whoever put another there before.
    fn take_up_static(&mut self, now: Instant) {
        for mapping in &self.config.map_cache {
            let as_written = |cached: map_cache::Cached<'_>| {
                cached.origin == map_cache::Origin::Static
                    && cached.action == mapping.action
                    && cached.version == mapping.version
                    && *cached.locators == *mapping.locators
            };
            let there = self.map_cache.get(&mapping.eid).filter(|cached| !self.is_condemned(cached));
            if !there.is_some_and(as_written) {
                self.operations.disown(&mapping.eid);
                self.resolver.settle(&mapping.eid);
                self.clear_for(now, &mapping.eid);
                self.cache(now, map_cache::Input::Static(mapping.clone()));
            }
        }
    }

    pub(super) fn take_up_prefixes(&mut self, now: Instant, changes: &Changes) {
        let Changes { prefixes_gone, prefixes_new, prefixes_changed, .. } = changes;
        for eid in &changes.withdrawn {
            if !self.announced.contains(eid) {
                self.speak(now, speaker::Input::Withdraw(*eid));
            }
        }
        for eid in &changes.originated {
            self.speak(now, speaker::Input::Originate(*eid));
        }
        if [prefixes_gone, prefixes_new, prefixes_changed].iter().all(|list| list.is_empty()) {
            return;
        }
        if prefixes_gone.is_empty() && prefixes_new.is_empty() {
            return self.tell_own(now, prefixes_changed);
        }
        let mut watches = Vec::new();
        self.forget_inside(now, prefixes_new);
        // What is new comes before what it replaces goes: its hosts are ours all the while.
        for eid in prefixes_new {
            self.publisher.own(*eid, &mut watches);
        }
        self.publisher.disown(prefixes_gone, &mut watches);
        self.watch(now, watches);
        let own = self.own.eids();
        self.resolver.set_database(&own);
        if let Some(subscriber) = &mut self.pubsub.subscriber {
            subscriber.set_database(&own);
        }
        self.engine.set_database(&own);
        self.carry(now);
        self.tell_own(now, prefixes_changed);
        self.inside.look_again(now);
        self.steer_or_again(now);
    }
}
