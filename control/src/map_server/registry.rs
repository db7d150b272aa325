//! The registry: believes Map-Registers, keeps what they say as long as they say it, and tells xTRs what became of it.
//!
//! ```text
//! Map-Register ─ whose prefix? ─ MAC ─ nonce grows? ─ within the rate? ─ all records allowed? ─▶ kept, Map-Notify if wanted
//!                      └───────────┴──────┴──────────────┴────────────────┴─▶ refused as a whole: nothing changes
//! 3 minutes, or TTL ─▶ gone          TTL 0 ─▶ gone
//! a union of several xTRs changes ─▶ news to the others, again until acknowledged: 3 × every 3 s, then after 6, 12, 24 s
//! ```
//!
//! An xTR is known by its xTR-ID, or without one by its address; its last nonce under each key is kept when its
//! registrations end, or old messages would be believed again. The few that a site may have are a bound: of the one that gives
//! way, the nonce is left as a floor for whoever comes new.
//!
//! Sources: RFC 9301 §5.6 (nonces, merging), §5.7 (Map-Notify), §8.2 (time-out, what may be registered); RFC 7835 §3.9 (limits).

mod answer;
mod changes;
pub(super) mod news;
pub(super) mod notify;
pub(super) mod saved;
pub(super) mod table;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Eid, EidPrefix, MapVersion, Mapping, Ttl, sort_locators};

use self::{
    news::News,
    table::{END, Last, New, Registrant, Registration, Table, Who, flag},
};
use super::{Output, Settings, Site, SiteFault, SiteId, nat::Relayed};
use crate::{
    prefix_map::PrefixMap,
    rate::Bucket,
    wire::{AuthenticationError, MapRegister},
};

/// How long a registration lasts without another Map-Register (RFC 9301 §8.2).
pub const TIMEOUT: Duration = Duration::from_secs(180);
/// Most xTRs of a site, those included that have nothing registered.
const XTRS_MAX: u32 = 64;
/// Most xTRs that register one prefix.
const XTRS_OF_PREFIX_MAX: usize = 16;
/// Most locators of one record: each stop of a path is one, and each list of addresses.
const LOCATORS_MAX: usize = 64;
/// Registrations taken out in one step: the rest waits for the next.
const EXPIRED_MAX: usize = 4096;

/// A configured prefix.
#[derive(Debug, Clone, Copy)]
struct Configured {
    site: SiteId,
    /// Prefixes registered of it, not of another one inside it.
    live: u32,
}

/// Why a Map-Register was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub fault: SiteFault,
    /// Who sent it.
    pub from: SocketAddr,
    /// Its Key ID.
    pub key: u8,
    /// When, seconds since 1970.
    pub at: u64,
}

/// One site as it goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// What the site is known by in a file.
    mark: u64,
    /// Prefixes registered.
    pub(super) prefixes: u32,
    xtrs: u32,
    bucket: Bucket,
    /// The greatest nonce of an xTR that gave way to another.
    floor: u64,
    /// Which of its fixed ETRs is next.
    pub(super) turn: usize,
    pub(super) refused: Option<Box<Refusal>>,
    /// When somebody last failed to prove that he is of the site, seconds since 1970.
    failed: u64,
}

/// Seconds since 1970 by a clock that nobody sets.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    wall: u64,
}

impl Clock {
    fn second(self, now: Instant) -> u64 {
        self.wall + now.saturating_duration_since(self.start).as_secs()
    }

    /// The first second that is not before `now`.
    fn second_after(self, now: Instant) -> u64 {
        self.wall + now.saturating_duration_since(self.start).as_nanos().div_ceil(1_000_000_000) as u64
    }

    fn instant(self, second: u64) -> Instant {
        self.start + Duration::from_secs(second.saturating_sub(self.wall))
    }
}

/// A Map-Register as it came; through an RTR, which `from` is then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub(super) from: SocketAddr,
    pub(super) local: IpAddr,
    pub(super) message: &'a MapRegister,
    pub(super) octets: &'a [u8],
    pub(super) relay: Option<Relayed<'a>>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) sites: Vec<Site>,
    pub(super) states: Vec<State>,
    configured: PrefixMap<Configured>,
    pub(super) table: Table,
    news: News,
    clock: Clock,
    registrations_max: usize,
    /// Whether older versions are refused.
    versions: bool,
    /// Whether ETRs without LISP-SEC are refused.
    signed_only: bool,
    /// What has changed, as [`saved`] writes it.
    pub(super) journal: Option<Vec<u8>>,
    /// The last Map-Register that was for no site.
    pub(super) stranger: Option<Refusal>,
    /// Prefixes that say something else than before, where subscribers hear of it.
    pub(super) changed: Option<Vec<EidPrefix>>,
}

impl Registry {
    pub(super) fn new(settings: &Settings, sites: Vec<Site>, now: Instant) -> Self {
        let configured = sites.iter().enumerate().flat_map(|(index, site)| {
            site.eids.iter().map(move |eid| (*eid, Configured { site: SiteId(index), live: 0 }))
        });
        Self {
            configured: configured.collect(),
            states: sites.iter().map(|site| State { mark: saved::mark(&site.name), ..State::default() }).collect(),
            table: Table::new(settings.wall),
            news: News::new(settings.first_nonce),
            clock: Clock { start: now, wall: settings.wall },
            registrations_max: settings.registrations_max,
            versions: settings.versions,
            signed_only: settings.signed_only,
            journal: settings.journal.then(Vec::new),
            stranger: None,
            changed: settings.publishing.is_some().then(Vec::new),
            sites,
        }
    }

    /// The configured prefix that holds the EID, and whose it is.
    pub(super) fn site_of(&self, eid: Eid) -> Option<(EidPrefix, SiteId)> {
        self.configured.longest(eid).map(|(whole, configured)| (whole, configured.site))
    }

    /// Whose prefix it is, or part of whose.
    pub(super) fn owner(&self, eid: &EidPrefix) -> Option<SiteId> {
        self.configured.covering(eid).map(|(_, configured)| configured.site)
    }

    /// The widest prefix around an EID of no site that holds no EID of one.
    pub(super) fn outside(&self, eid: Eid) -> EidPrefix {
        self.configured.gap(eid)
    }

    pub(super) fn second(&self, now: Instant) -> u64 {
        self.clock.second(now)
    }

    /// Whether somebody failed lately to prove that he is of the site.
    pub(super) fn fails(&self, now: Instant, site: SiteId) -> bool {
        let failed = self.states[site.0].failed;
        failed > 0 && self.clock.second(now) < failed + TIMEOUT.as_secs()
    }

    /// When [`wake`](Self::wake) is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let expiry = self.table.due().map(|second| self.clock.instant(second));
        [expiry, self.news.due()].into_iter().flatten().min()
    }

    pub(super) fn register(&mut self, now: Instant, arrived: Arrived<'_>, todo: &mut Vec<Output>) {
        let owner = arrived.message.records.first().and_then(|record| self.owner(&record.eid));
        let outcome = match owner {
            Some(site) => self.take_in(now, site, arrived, todo),
            None => Err(SiteFault::UnknownSite),
        };
        let Err(fault) = outcome else { return };
        let second = self.clock.second(now);
        let refusal = Refusal { fault, from: arrived.from, key: arrived.message.authentication.key_id, at: second };
        match owner.map(|site| &mut self.states[site.0]) {
            None => self.stranger = Some(refusal),
            Some(_) if fault == SiteFault::Repeated => {}
            Some(state) => {
                state.refused = Some(Box::new(refusal));
                if matches!(fault, SiteFault::Mac | SiteFault::UnknownKey) {
                    state.failed = second;
                }
            }
        }
        todo.push(Output::Drop(fault));
    }

    /// Verifies everything, then changes something.
    fn take_in(
        &mut self,
        now: Instant,
        site: SiteId,
        arrived: Arrived<'_>,
        todo: &mut Vec<Output>,
    ) -> Result<(), SiteFault> {
        let Arrived { from, message, octets, .. } = arrived;
        let of = &self.sites[site.0];
        (!of.keys.is_empty()).then_some(()).ok_or(SiteFault::NoKey)?;
        let key = message.verify(octets, &of.keys).map_err(|error| match error {
            AuthenticationError::UnknownKey(_) => SiteFault::UnknownKey,
            _ => SiteFault::Mac,
        })?;
        // Through an RTR a copy would lead packets to whoever sent it.
        let (any_nonce, rate) = (of.any_nonce && arrived.relay.is_none(), of.rate());
        let last = Last { key: key.id, nonce: message.nonce, mac: Last::start_of(&message.authentication.data) };
        let who = message.xtr.map_or(Who::Source(from.ip()), |xtr| Who::Xtr(xtr.xtr_id));
        let known = self.table.registrant(site.0 as u32, who);
        if !any_nonce && let Err(fault) = self.is_newer(site, known, last) {
            let again = fault == SiteFault::Repeated && arrived.relay.is_none();
            if again && known.is_some_and(|known| self.table.registrants[known].source == from) {
                self.confirm(site, arrived, todo);
            }
            return Err(fault);
        }
        if !self.states[site.0].bucket.take(now, rate) {
            return Err(SiteFault::RegisterLimited);
        }
        self.check(site, known, message)?;
        let registrant = self.meet(now, site, (who, known), last, arrived)?;
        for record in &message.records {
            if record.ttl == Ttl::Remove {
                let mine = self.table.chain(&record.eid).find(|(_, one)| one.registrant == registrant);
                if let Some((number, _)) = mine {
                    self.forget(now, number, todo);
                }
            } else {
                self.keep(now, (site, registrant), record, arrived, todo);
            }
        }
        self.confirm(site, arrived, todo);
        Ok(())
    }

    /// RFC 9301 §5.6.
    fn is_newer(&self, site: SiteId, known: Option<u32>, last: Last) -> Result<(), SiteFault> {
        let before = known.and_then(|known| self.table.registrants[known].last.iter().find(|one| one.key == last.key));
        match before {
            Some(before) if *before == last => Err(SiteFault::Repeated),
            Some(before) if last.nonce <= before.nonce => Err(SiteFault::Replayed),
            // Nonces count from anything, so a zero is no floor.
            None if last.nonce <= self.states[site.0].floor && self.states[site.0].floor > 0 => {
                Err(SiteFault::Replayed)
            }
            _ => Ok(()),
        }
    }

    /// Whether all records are allowed: a message is taken as a whole or not at all.
    fn check(&self, site: SiteId, known: Option<u32>, message: &MapRegister) -> Result<(), SiteFault> {
        if self.signed_only && !message.security {
            return Err(SiteFault::NotSigning);
        }
        let (mut prefixes, mut registrations) = (0, 0);
        for record in &message.records {
            self.prefix_of(site, &record.eid)?;
            if record.locators.iter().filter(|one| one.is_end() || !one.is_etr()).count() > LOCATORS_MAX {
                return Err(SiteFault::TooManyLocators);
            }
            if record.ttl == Ttl::Remove {
                continue;
            }
            if self.versions && self.is_older(record) {
                return Err(SiteFault::OlderVersion);
            }
            let (mut others, mut mine) = (0, false);
            for (_, one) in self.table.chain(&record.eid) {
                if Some(one.registrant) == known { mine = true } else { others += 1 }
            }
            if others >= XTRS_OF_PREFIX_MAX {
                return Err(SiteFault::TooManyXtrs);
            }
            prefixes += usize::from(others == 0 && !mine);
            registrations += usize::from(!mine);
        }
        if self.states[site.0].prefixes as usize + prefixes > self.sites[site.0].limit() {
            return Err(SiteFault::TooManyPrefixes);
        }
        if self.table.len() + registrations > self.registrations_max {
            return Err(SiteFault::RegistryFull);
        }
        Ok(())
    }

    /// Whether a newer version of the record is registered, by this xTR or another one of the site: all of them must say the
    /// same (RFC 9302 §9). What has no version is neither newer nor older.
    fn is_older(&self, record: &Mapping) -> bool {
        let Some(said) = MapVersion::new(record.version) else { return false };
        let mut versions = self.table.chain(&record.eid).filter_map(|(_, one)| one.version());
        versions.any(|known| said.order(known).is_lt())
    }

    /// The configured prefix of the site that `eid` is, or may be a part of.
    fn prefix_of(&self, site: SiteId, eid: &EidPrefix) -> Result<EidPrefix, SiteFault> {
        let (whole, owner) = self.configured.covering(eid).ok_or(SiteFault::ForeignPrefix)?;
        let allowed = owner.site == site && (whole == *eid || self.sites[site.0].more_specifics);
        if allowed { Ok(whole) } else { Err(SiteFault::ForeignPrefix) }
    }

    /// Notes what the xTR says of itself; another one gives way where there are too many.
    fn meet(
        &mut self,
        now: Instant,
        site: SiteId,
        (who, known): (Who, Option<u32>),
        last: Last,
        arrived: Arrived<'_>,
    ) -> Result<u32, SiteFault> {
        let Arrived { from, local, message, .. } = arrived;
        let heard = self.clock.second(now);
        let number = match known {
            Some(number) => number,
            None => {
                self.make_room(site)?;
                self.states[site.0].xtrs += 1;
                self.table.add_registrant(Registrant {
                    site: site.0 as u32,
                    who,
                    site_id: 0,
                    source: from,
                    local,
                    last: Vec::with_capacity(1),
                    key: last.key,
                    whole_mac: false,
                    heard,
                    registrations: 0,
                })
            }
        };
        let keys = &self.sites[site.0].keys;
        let registrant = &mut self.table.registrants[number];
        registrant.site_id = message.xtr.map_or(0, |xtr| xtr.site_id);
        (registrant.source, registrant.local, registrant.heard, registrant.key) = (from, local, heard, last.key);
        registrant.whole_mac = notify::is_whole(&message.authentication.data);
        registrant.last.retain(|one| one.key != last.key && keys.iter().any(|key| key.id == one.key));
        registrant.last.push(last);
        if let Some(journal) = &mut self.journal {
            saved::put_xtr(self.states[site.0].mark, &self.table.registrants[number], journal);
        }
        Ok(number)
    }

    /// Makes room for one more xTR of the site: the one heard last the longest time ago gives way, if nothing is registered by
    /// it.
    fn make_room(&mut self, site: SiteId) -> Result<(), SiteFault> {
        if self.states[site.0].xtrs < XTRS_MAX {
            return Ok(());
        }
        let all = self.table.registrants_of(site.0 as u32);
        let idle = all.filter(|number| self.table.registrants[*number].registrations == 0);
        let oldest = idle.min_by_key(|number| self.table.registrants[*number].heard).ok_or(SiteFault::TooManyXtrs)?;
        let state = &mut self.states[site.0];
        if let Some(gone) = self.table.remove_registrant(oldest) {
            state.xtrs -= 1;
            state.floor = gone.last.iter().map(|last| last.nonce).fold(state.floor, u64::max);
            if let Some(journal) = &mut self.journal {
                saved::put_floor(state.mark, state.floor, journal);
            }
        }
        Ok(())
    }

    /// Puts in or renews one registration.
    fn keep(
        &mut self,
        now: Instant,
        (site, registrant): (SiteId, u32),
        record: &Mapping,
        Arrived { message, relay, .. }: Arrived<'_>,
        todo: &mut Vec<Output>,
    ) {
        let second = self.clock.second_after(now);
        let lasts = match record.ttl {
            Ttl::Minutes(minutes) if message.ttl_timeout => u64::from(minutes) * 60,
            _ => TIMEOUT.as_secs(),
        };
        let new = New {
            mapping: &ready(record),
            registrant,
            key: self.table.registrants[registrant].key,
            flags: flag::of(message) | if relay.is_some() { flag::RELAYED } else { 0 },
            since: self.clock.second(now) as u32,
            expires: second + lasts,
        };
        self.put(now, site, new, todo);
    }

    fn put(&mut self, now: Instant, site: SiteId, new: New<'_>, todo: &mut Vec<Output>) {
        let (eid, registrant) = (new.mapping.eid, new.registrant);
        let head = self.table.index.get(&eid).copied();
        let before = head.filter(|_| self.is_merged(&eid, registrant)).and_then(|head| self.table.merged(head));
        let said = self.said(eid);
        let size = self.table.len();
        let put = self.table.put(new);
        if self.table.len() > size {
            let xtr = &self.table.registrants[registrant];
            todo.push(Output::Registered { site, eid, by: xtr.source.ip(), key: xtr.key });
        }
        if head.is_none() {
            self.states[site.0].prefixes += 1;
            self.count(&eid, true, todo);
        }
        if before.is_some() {
            self.tell_others(now, &eid, registrant, before, todo);
        }
        self.note_change(eid, said.as_ref());
        if let Some(journal) = self.journal.as_mut().filter(|_| put.changed) {
            saved::put_registration(self.states[site.0].mark, &self.table, put.number, journal);
        }
    }

    /// Takes one registration out.
    fn forget(&mut self, now: Instant, number: u32, todo: &mut Vec<Output>) {
        let Registration { eid, registrant, .. } = self.table.registrations[number];
        let site = SiteId(self.table.registrants[registrant].site as usize);
        let head = self.table.index.get(&eid).copied().unwrap_or(END);
        let before = if self.is_merged(&eid, registrant) { self.table.merged(head) } else { None };
        let said = self.said(eid);
        if let Some(journal) = &mut self.journal {
            let xtr = &self.table.registrants[registrant];
            saved::put_gone(self.states[site.0].mark, xtr.who, &eid, journal);
        }
        let by = self.table.registrants[registrant].source.ip();
        if self.table.remove(number) {
            self.states[site.0].prefixes -= 1;
            self.count(&eid, false, todo);
        }
        todo.push(Output::Unregistered { site, eid, by });
        if before.is_some() {
            self.tell_others(now, &eid, registrant, before, todo);
        }
        self.note_change(eid, said.as_ref());
    }

    /// Counts a prefix that is registered from now on, or no more, and announces or withdraws what it is of.
    fn count(&mut self, eid: &EidPrefix, up: bool, todo: &mut Vec<Output>) {
        let Some((whole, _)) = self.configured.covering(eid) else { return };
        let Some(configured) = self.configured.get_mut(&whole) else { return };
        configured.live = if up { configured.live + 1 } else { configured.live - 1 };
        // Fixed ETRs serve it in any case, and it was announced at the start.
        if !self.sites[configured.site.0].etrs.is_empty() {
            return;
        }
        match (up, configured.live) {
            (true, 1) => todo.push(Output::Announce(whole)),
            (false, 0) => todo.push(Output::Withdraw(whole)),
            _ => {}
        }
    }

    /// Ends what has run out, and repeats news.
    pub(super) fn wake(&mut self, now: Instant, todo: &mut Vec<Output>) {
        let second = self.clock.second(now);
        for _ in 0..EXPIRED_MAX {
            let Some(number) = self.table.expired(second) else { break };
            self.forget(now, number, todo);
        }
        self.news.repeat(now, todo);
    }
}

/// A record as it is kept: in wire order, and without what no record of a Map-Register may have (RFC 9301 §5.4).
fn ready(record: &Mapping) -> Mapping {
    let mut mapping = record.clone();
    for locator in &mut mapping.locators {
        locator.probed = false;
    }
    sort_locators(&mut mapping.locators);
    mapping
}
