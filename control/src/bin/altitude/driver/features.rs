//! Header features: what packets of ours say of our mappings, and what those of others had workers pass on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_control::{
    api::{Event, Stale, Stat},
    config::Config,
    echo_nonce::{self, EchoNonce, NonceFault},
    fault::Tally,
    rate::{Bucket, Rate},
    resolver, smr,
    status_bits::{self, StatusBits, StatusFault},
    versions::{self, VersionFault, Versions},
};
use altitude_dataplane::{
    mapping::{Eid, EidPrefix, MapVersion, Mapping, Mark},
    sightings::{Seen, Sighting},
};

use rand_chacha::rand_core::Rng;

use super::{Driver, ROUND};

/// How often subscribers are told what peers' headers say.
const TOLD: Rate = Rate { burst: 100, every: Duration::from_millis(10) };

/// The machines; each is there if its feature is on.
pub(super) struct Features {
    pub(super) versions: Option<Versions>,
    pub(super) status: Option<StatusBits>,
    pub(super) nonces: Option<EchoNonce>,
    pub(super) counts: Counts,
    /// Of events about what peers' headers say.
    told: Bucket,
    pub(super) version_faults: Tally<VersionFault>,
    pub(super) status_faults: Tally<StatusFault>,
    pub(super) nonce_faults: Tally<NonceFault>,
    numbers: Numbers,
}

/// The numbers that marks tell our mappings apart by: each keeps its own for as long as it is there, so that one more mapping
/// changes the marks of no others.
#[derive(Default)]
struct Numbers {
    by_eid: BTreeMap<EidPrefix, u16>,
}

impl Numbers {
    /// These are our mappings from now on. Of more than there are numbers some share one.
    fn set<'a>(&mut self, own: impl Iterator<Item = &'a EidPrefix>) {
        let own: BTreeSet<EidPrefix> = own.copied().collect();
        self.by_eid.retain(|eid, _| own.contains(eid));
        let used: BTreeSet<u16> = self.by_eid.values().copied().collect();
        let mut free = (0..=u16::MAX).filter(|number| !used.contains(number));
        for eid in own {
            self.by_eid.entry(eid).or_insert_with(|| free.next().unwrap_or_default());
        }
    }
}

/// What became of what workers saw.
#[derive(Default)]
pub(super) struct Counts {
    /// Sightings that came up.
    pub(super) sightings: u64,
    /// Mappings asked for because of a newer version.
    pub(super) versions_asked: u64,
    /// Peers that came by an old version of a mapping of ours.
    pub(super) versions_old: u64,
    /// Events about what peers' headers say, beyond what subscribers are told.
    pub(super) untold: u64,
    /// Probes that changed bits asked for.
    pub(super) status_hints: u64,
}

impl Features {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let on = config.features;
        Self {
            versions: on.versions.then(|| Versions::new(&config.database, now)),
            status: on.status.then(|| StatusBits::new(&config.database, now)),
            nonces: on.nonces.then(EchoNonce::default),
            counts: Counts::default(),
            told: Bucket::default(),
            version_faults: Tally::default(),
            status_faults: Tally::default(),
            nonce_faults: Tally::default(),
            numbers: Numbers::default(),
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let Self { versions, status, nonces, .. } = self;
        let versions = versions.as_ref().and_then(Versions::due);
        let status = status.as_ref().and_then(StatusBits::due);
        let nonces = nonces.as_ref().and_then(EchoNonce::due);
        [versions, status, nonces].into_iter().flatten().min()
    }

    /// What packets of a mapping of ours say, and packets to it are held against.
    fn own(&self, mapping: &Mapping) -> Mark {
        Mark {
            version: self.versions.as_ref().and_then(|_| MapVersion::new(mapping.version)),
            status: self.status.as_ref().and_then(|status| status.own_bits(mapping)),
            outlived: self.versions.as_ref().is_some_and(|versions| versions.outlived(&mapping.eid)),
            number: self.numbers.by_eid.get(&mapping.eid).copied().unwrap_or_default(),
            relayed: false,
        }
    }
}

impl Driver<'_> {
    pub(super) fn feature_stats(&self) -> [Stat; 9] {
        let counts = &self.reachability.features.counts;
        let nonces = self.reachability.features.nonces.as_ref().map(EchoNonce::counts).unwrap_or_default();
        [
            Stat::new("header-sightings", counts.sightings),
            Stat::new("newer-versions-asked-for", counts.versions_asked),
            Stat::new("older-versions-told-of", counts.versions_old),
            Stat::new("status-bit-hints", counts.status_hints),
            Stat::new("header-events-limited", counts.untold),
            Stat::new("nonces-asked", nonces.asked),
            Stat::new("nonces-echoed", nonces.echoed),
            Stat::new("nonces-lost", nonces.lost),
            Stat::new("nonces-given-back", nonces.given_back),
        ]
    }

    /// Takes what workers saw; true if some is left for the next round.
    pub(super) fn take_sightings(&mut self, now: Instant) -> bool {
        let mut left = false;
        for index in 0..self.workers.len() {
            for _ in 0..ROUND {
                let Ok(sighting) = self.workers[index].sightings.pop() else { break };
                self.sighted(now, sighting);
            }
            left |= !self.workers[index].sightings.is_empty();
        }
        left
    }

    fn sighted(&mut self, now: Instant, sighting: Sighting) {
        let Sighting { rloc, source, destination, seen } = sighting;
        self.reachability.features.counts.sightings += 1;
        tracing::debug!(%rloc, %source, %destination, ?seen, "a peer's header");
        match seen {
            Seen::DestOlder(version) => {
                let own = self.publisher.own_prefix(Eid { instance: source.instance, address: destination });
                if let Some(eid) = own {
                    self.reachability.features.counts.versions_old += 1;
                    self.old_copy_news(now, eid, version, rloc);
                    self.solicit(now, smr::Input::Outdated(rloc, eid));
                }
            }
            Seen::SourceNewer(said) => {
                let Some(cached) = self.map_cache.lookup(source) else { return };
                let (eid, fixed) = (cached.eid, cached.origin.is_fixed());
                let cached = MapVersion::new(cached.version);
                let (seen, ours) = (said.get(), cached.map_or(0, MapVersion::get));
                // Another worker may have seen it too, and the answer be here by now.
                if cached.is_none_or(|cached| said.order(cached).is_gt()) {
                    self.tell_seen(now, Event::Stale { eid, which: Stale::Local, seen, ours, peer: rloc });
                }
                self.version(now, versions::Input::Newer { eid, cached, said, fixed });
            }
            Seen::Status { bits, width } => {
                let Some(cached) = self.map_cache.lookup(source) else { return };
                let (eid, locators) = (cached.eid, cached.locators.to_vec());
                if self.status(now, status_bits::Input::Seen { eid, locators: &locators, bits, width }) {
                    self.tell_seen(now, Event::StatusBits { eid, bits, width, peer: rloc });
                }
            }
            Seen::EchoAsked(_) | Seen::Nonce(_) | Seen::NoNonce => {
                self.nonce(now, echo_nonce::Input::Heard(rloc, seen));
            }
        }
    }

    /// A peer's packets go by an old version of a mapping of ours.
    fn old_copy_news(&mut self, now: Instant, eid: EidPrefix, seen: MapVersion, peer: IpAddr) {
        let ours = self.responder.database().find(|mapping| mapping.eid == eid).map_or(0, |mapping| mapping.version);
        self.tell_seen(now, Event::Stale { eid, which: Stale::Remote, seen: seen.get(), ours, peer });
    }

    /// Has subscribers told what packets caused, within limits.
    fn tell_seen(&mut self, now: Instant, event: Event) {
        match self.news.listeners == 0 || self.reachability.features.told.take(now, TOLD) {
            true => self.tell(event),
            false => self.reachability.features.counts.untold += 1,
        }
    }

    pub(super) fn wake_features(&mut self, now: Instant) {
        if self.reachability.features.due().is_some_and(|due| due <= now) {
            self.version(now, versions::Input::Wake);
            self.status(now, status_bits::Input::Wake);
            self.nonce(now, echo_nonce::Input::Wake);
        }
    }

    /// The entry of a cached prefix is gone.
    pub(super) fn forget_features(&mut self, now: Instant, eid: EidPrefix) {
        self.status(now, status_bits::Input::Gone(eid));
    }

    fn version(&mut self, now: Instant, input: versions::Input) {
        let Some(versions) = &mut self.reachability.features.versions else { return };
        let mut todo = Vec::new();
        versions.step(now, input, &mut todo);
        // Once for all that come together: they may be as many as there are prefixes.
        if todo.iter().any(|output| matches!(output, versions::Output::Outlived(_))) {
            self.mark_own(now);
        }
        for output in todo {
            match output {
                versions::Output::Ask(eid) => {
                    self.reachability.features.counts.versions_asked += 1;
                    tracing::debug!(%eid, "its site has a newer version of the mapping");
                    self.resolve(now, resolver::Input::Refresh(eid));
                }
                versions::Output::Outlived(_) => {}
                versions::Output::Discard(fault) => self.reachability.features.version_faults.count(fault),
            }
        }
    }

    /// True if bits are known from now on that were not before.
    fn status(&mut self, now: Instant, input: status_bits::Input<'_>) -> bool {
        let Some(status) = &mut self.reachability.features.status else { return false };
        let mut todo = Vec::new();
        status.step(now, input, &mut todo);
        let new = todo.iter().any(|output| matches!(output, status_bits::Output::Known(..)));
        if todo.iter().any(|output| matches!(output, status_bits::Output::Resume(_))) {
            self.mark_own(now);
        }
        for output in todo {
            match output {
                status_bits::Output::Hint(locator) => {
                    self.reachability.features.counts.status_hints += 1;
                    tracing::debug!(%locator, "its site's status bits changed: a probe tells more");
                    self.hint(now, locator);
                }
                status_bits::Output::Known(eid, _) => {
                    let Some(mapping) = self.map_cache.get(&eid).map(|cached| cached.mapping()) else { continue };
                    let known = self.reachability.known(&self.kernel.underlay);
                    self.publisher.mark(&mapping, &known);
                }
                status_bits::Output::Resume(_) => {}
                status_bits::Output::Discard(fault) => self.reachability.features.status_faults.count(fault),
            }
        }
        new
    }

    /// A reply that was accepted says whether its site gives nonces back; what a Map-Server says for it does not.
    pub(super) fn hear_echoes(&mut self, now: Instant, records: &[Mapping], echoes: bool) {
        if self.reachability.features.nonces.is_none() {
            return;
        }
        for locator in records.iter().filter(|record| record.authoritative).flat_map(|record| &record.locators) {
            self.nonce(now, echo_nonce::Input::Echoes(locator.address, echoes));
        }
    }

    pub(super) fn nonce(&mut self, now: Instant, input: echo_nonce::Input) {
        let Some(nonces) = &mut self.reachability.features.nonces else { return };
        let mut todo = Vec::new();
        nonces.step(now, input, &mut || self.nonces.next_u64(), &mut todo);
        for output in todo {
            match output {
                echo_nonce::Output::Turn(rloc) => self.turn(rloc),
                echo_nonce::Output::Lost(locator) => {
                    tracing::warn!(%locator, "packets come back without the nonce asked for: it is avoided and probed");
                    self.turn(locator);
                    self.hint(now, locator);
                }
                echo_nonce::Output::Discard(fault) => self.reachability.features.nonce_faults.count(fault),
            }
        }
    }

    fn turn(&mut self, rloc: IpAddr) {
        let known = self.reachability.known(&self.kernel.underlay);
        self.publisher.path_changed(rloc, &known);
    }

    /// Has packets of our EID-prefixes say what is so now: our mappings, their locators' states or their ages changed.
    pub(super) fn mark_own(&mut self, now: Instant) {
        let features = &mut self.reachability.features;
        let database: Vec<Mapping> = self.responder.database().cloned().collect();
        if let Some(versions) = &mut features.versions {
            versions.set_database(&database, now);
        }
        if let Some(status) = &mut features.status {
            status.set_database(&database, now);
        }
        if !self.config.features.marks() {
            return;
        }
        features.numbers.set(database.iter().map(|mapping| &mapping.eid));
        self.publisher.mark_own(database.iter().map(|mapping| (mapping.eid, features.own(mapping))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_keeps_its_number_while_others_come_and_go() {
        let mut numbers = Numbers::default();
        let mut numbered = |own: &[&str]| -> Vec<u16> {
            let eid = |text: &&str| EidPrefix { prefix: text.parse().unwrap(), instance: Default::default() };
            let own: Vec<EidPrefix> = own.iter().map(eid).collect();
            numbers.set(own.iter());
            assert_eq!(numbers.by_eid.len(), own.len());
            own.iter().map(|eid| numbers.by_eid[eid]).collect()
        };
        assert_eq!(numbered(&["2.0.0.0/8", "3.0.0.0/8"]), [0, 1]);
        assert_eq!(numbered(&["1.0.0.0/8", "2.0.0.0/8", "3.0.0.0/8"]), [2, 0, 1], "one before the others");
        assert_eq!(numbered(&["1.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8"]), [2, 1, 0], "a number that is free again");
    }
}
