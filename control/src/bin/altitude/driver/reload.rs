//! A changed configuration, taken up while packets pass.
//!
//! The whole file is read and checked as at the start, then compared with what runs. If something differs that cannot change
//! live nothing is applied at all. What is applied touches its own entries alone: flows of others never notice.

use std::time::Instant;

use altitude_control::{
    alt::{bgp::speaker, rib::StaticRib},
    config::{
        Config, Problems,
        change::{Changes, compare},
    },
    map_cache,
    map_resolver::Choice,
    smr,
};
use altitude_dataplane::mapping::{EidPrefix, Mapping};

use super::{Driver, reachability::offering};
use crate::log;

/// How the configuration is read again, and where those that were read live.
pub(crate) struct Source<'a> {
    /// The file and the flags, as at the start.
    pub(crate) load: &'a dyn Fn() -> Result<Config, Problems>,
    pub(crate) loaded: &'a typed_arena::Arena<Config>,
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
        self.config = self.source.loaded.alloc(new);
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
        self.take_up_static(now, &changes);
        self.take_up_prefixes(now, &changes)?;
        Ok(changes.count())
    }

    fn take_up_static(&mut self, now: Instant, changes: &Changes) {
        for eid in &changes.static_gone {
            // What a client put in its place is the client's.
            if self.map_cache.get(eid).is_some_and(|cached| cached.origin == map_cache::Origin::Static) {
                self.cache(now, map_cache::Input::Remove(*eid));
            }
        }
        for mapping in &changes.static_new {
            self.resolver.settle(&mapping.eid);
            self.cache(now, map_cache::Input::Static(mapping.clone()));
        }
    }

    fn take_up_prefixes(&mut self, now: Instant, changes: &Changes) -> Result<(), String> {
        let concerned = [&changes.prefixes_gone[..], &changes.prefixes_new, &changes.prefixes_changed].concat();
        for eid in &changes.withdrawn {
            if !self.announced.contains(eid) {
                self.speak(now, speaker::Input::Withdraw(*eid));
            }
        }
        for eid in &changes.originated {
            self.speak(now, speaker::Input::Originate(*eid));
        }
        if concerned.is_empty() {
            return Ok(());
        }
        let mut watches = Vec::new();
        for eid in &changes.prefixes_gone {
            self.publisher.disown(eid, &mut watches);
        }
        self.watch(now, watches);
        for eid in &changes.prefixes_new {
            self.forget_inside(now, eid);
            self.publisher.own(*eid);
        }
        let own: Vec<EidPrefix> = self.config.database.iter().map(|mapping| mapping.eid).collect();
        self.resolver.set_database(&own);
        self.engine.set_database(&own);
        let database = offering(&self.config.database, &self.config.rlocs, &self.reachability.offered);
        self.responder.set_database(database.clone());
        self.register_anew(now, database);
        self.mark_own(now);
        for eid in concerned {
            self.solicit(now, smr::Input::Changed(eid));
        }
        self.steer().map_err(|error| format!("the steering programs were not told of the EID-prefixes: {error}"))
    }

    /// What was learned of other sites inside a prefix that is ours now is wrong.
    fn forget_inside(&mut self, now: Instant, own: &EidPrefix) {
        let learned = |cached: &map_cache::Cached<'_>| {
            own.covers(&cached.eid) && !self.config.map_cache.iter().any(|fixed: &Mapping| fixed.eid == cached.eid)
        };
        let inside: Vec<EidPrefix> = self.map_cache.iter().filter(learned).map(|cached| cached.eid).collect();
        for eid in inside {
            self.cache(now, map_cache::Input::Remove(eid));
        }
    }
}
