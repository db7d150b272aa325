//! What Map-Requests are answered with, or to whom they go.

use std::net::IpAddr;

use altitude_dataplane::mapping::{Action, Eid, EidPrefix, Mapping, Ttl};

use super::{
    super::{Proxying, SiteFault, SiteId},
    Configured, Registry,
    table::flag,
};
use crate::{
    rloc::{Families, routable},
    wire::{Key, MapReply, MapRequest},
};

/// Most records of an answer.
const RECORDS_MAX: usize = MapReply::RECORDS_MAX;

/// An ETR that signs its answers.
pub(in crate::map_server) struct Signer {
    pub(in crate::map_server) rloc: IpAddr,
    /// The one that it registered with last.
    pub(in crate::map_server) key: Key,
    /// Others that registered the prefix cannot sign.
    pub(in crate::map_server) others_cant: bool,
}

impl Registry {
    /// The next in turn of the ETRs that can sign (S bit). `None`: none of them can.
    pub(in crate::map_server) fn signer(&mut self, head: u32, families: Families) -> Result<Option<Signer>, SiteFault> {
        let turn = self.table.turn(head);
        let reachable = |address: IpAddr| routable(address) && families.reach(address);
        let (mut any, mut others_cant, mut etrs) = (false, false, Vec::new());
        for (_, one) in self.table.chain_from(head) {
            let xtr = &self.table.registrants[one.registrant];
            let keys = &self.sites[xtr.site as usize].keys;
            let key = keys.iter().find(|key| key.id == one.key).filter(|_| one.has(flag::SIGNS));
            let Some(key) = key else {
                others_cant = true;
                continue;
            };
            any = true;
            // A locator-set names all xTRs of the site, and another one may not sign: its own have the L bit (RFC 9301 §5.4).
            let source = xtr.source.ip();
            let own = self.table.locators(one).iter().filter(|locator| locator.local || locator.address == source);
            let usable = own.filter(|locator| locator.usable() && locator.is_etr() && reachable(locator.address));
            let before = etrs.len();
            etrs.extend(usable.map(|locator| (locator.address, key)));
            if etrs.len() == before && reachable(source) {
                etrs.push((source, key));
            }
        }
        if !any {
            return Ok(None);
        }
        let (rloc, key) = etrs.get(turn % etrs.len().max(1)).ok_or(SiteFault::NoEtr)?;
        Ok(Some(Signer { rloc: *rloc, key: (*key).clone(), others_cant }))
    }

    /// What is registered around the EID, within the configured prefix `whole`: the ETRs of a wider site do not serve a
    /// narrower one inside it.
    pub(in crate::map_server) fn serving(&self, eid: Eid, whole: &EidPrefix) -> Option<(EidPrefix, u32)> {
        let (part, head) = self.table.index.longest(eid)?;
        (part.prefix.length() >= whole.prefix.length()).then_some((part, *head))
    }

    /// What is registered around the prefix that is asked for: its first address may be in a more-specific, which others serve.
    /// `None`: not registered as a whole.
    pub(in crate::map_server) fn around(&self, eid: Eid, request: &MapRequest) -> Option<(EidPrefix, u32)> {
        let host = EidPrefix::host(eid);
        let asked = request.records.iter().map(|record| record.eid).find(|asked| asked.covers(&host))?;
        let (whole, configured) = self.configured.covering(&asked)?;
        let (found, head) = self.table.index.covering(&asked)?;
        let served = found.prefix.length() >= whole.prefix.length() && !self.sites[configured.site.0].denied;
        served.then_some((found, *head))
    }

    /// Whether we answer for the registration instead of its ETRs (RFC 9301 §8.3): always for one behind a NAT, whose RTR
    /// takes no Map-Requests for it.
    pub(in crate::map_server) fn proxies(&self, head: u32) -> bool {
        let Some(registration) = self.table.registrations.get(head) else { return false };
        let site = SiteId(self.table.registrants[registration.registrant].site as usize);
        match self.sites[site.0].proxy {
            Proxying::Always => true,
            Proxying::Never => self.table.chain_from(head).any(|(_, one)| one.has(flag::RELAYED)),
            Proxying::Etr => self.table.chain_from(head).any(|(_, one)| one.has(flag::PROXY) || one.has(flag::RELAYED)),
        }
    }

    /// The records of an answer about the EID: its longest match and all more-specifics, all with one TTL (RFC 9301 §5.5). Where
    /// that is too long, or an ETR wants to answer for a part of it: the part of the match that needs no more-specifics
    /// beside it. `None` if even that does not fit.
    pub(in crate::map_server) fn records(
        &self,
        eid: Eid,
        found: EidPrefix,
        fits: impl Fn(&[Mapping]) -> bool,
    ) -> Option<Vec<Mapping>> {
        let mut records: Vec<Mapping> = Vec::new();
        // Of a site inside that nobody serves, or hears of, there is no record: a wider one would speak for it.
        let sites = self.configured.within(&found).filter(|(eid, _)| *eid != found);
        let told = |inside: &Configured| inside.live > 0 && !self.sites[inside.site.0].denied;
        let mut whole = sites.take(RECORDS_MAX).all(|(_, inside)| told(inside));
        for (_, head) in self.table.index.within(&found) {
            whole = whole && records.len() < RECORDS_MAX && self.proxies(*head);
            if !whole {
                break;
            }
            records.extend(self.told(*head));
            // Room for one record more is asked for at each step, or a site with many parts would cost much for nothing.
            if records.len().is_multiple_of(16) && !fits(&records) {
                whole = false;
                break;
            }
        }
        if whole && fits(&records) {
            let ttl = records.iter().map(|record| record.ttl.to_wire()).min().unwrap_or(0);
            records.iter_mut().for_each(|record| record.ttl = Ttl::from_wire(ttl));
            return Some(records);
        }
        // Of a wider prefix that was asked for, the part that its first address is in.
        let (_, head) = self.table.index.longest(eid).filter(|(_, head)| self.proxies(**head))?;
        let mut record = self.told(*head)?;
        record.eid = self.gap(eid);
        let narrowed = vec![record];
        fits(&narrowed).then_some(narrowed)
    }

    /// The widest prefix around the EID that is within what it matches, and that nothing else reaches into: neither
    /// another registration nor another site.
    pub(in crate::map_server) fn gap(&self, eid: Eid) -> EidPrefix {
        let gaps = [self.configured.gap(eid), self.table.index.gap(eid)];
        gaps.into_iter().max_by_key(|gap| gap.prefix.length()).unwrap_or(EidPrefix::host(eid))
    }

    /// A prefix as subscribers are told of it: what is registered, TTL 0 if nothing is (RFC 9437 §5), and to ask where an ETR
    /// wants to answer itself.
    pub(in crate::map_server) fn published(&self, eid: EidPrefix) -> Mapping {
        match self.table.index.get(&eid) {
            Some(head) if self.proxies(*head) => self.told(*head),
            Some(_) => Some(Mapping::negative(eid, Ttl::Minutes(1), Action::SendMapRequest)),
            None => None,
        }
        .unwrap_or_else(|| Mapping::negative(eid, Ttl::Remove, Action::NoAction))
    }

    /// The whole of what a subscriber hears of: where it is not registered as such, as the wider prefix around it, which may
    /// have more inside than it knows of.
    pub(in crate::map_server) fn published_whole(&self, scope: EidPrefix) -> Mapping {
        let of_site = self.configured.covering(&scope).map(|(whole, _)| whole);
        let serving = self.table.index.covering(&scope).map(|(found, _)| found);
        let serving = serving.filter(|found| of_site.is_some_and(|whole| whole.covers(found)));
        Mapping { eid: scope, ..self.published(serving.unwrap_or(scope)) }
    }

    /// Whether nobody is told of the prefix, by the site's configuration.
    pub(in crate::map_server) fn denies(&self, eid: &EidPrefix) -> bool {
        self.configured.covering(eid).is_some_and(|(_, configured)| self.sites[configured.site.0].denied)
    }

    /// Whether anything is registered that covers the prefix or lies in it.
    pub(in crate::map_server) fn knows(&self, eid: &EidPrefix) -> bool {
        self.table.index.covering(eid).is_some() || self.table.index.within(eid).next().is_some()
    }

    /// A registered mapping as a Map-Server tells it: it is no ETR (RFC 9301 §5.4, §8.3).
    fn told(&self, head: u32) -> Option<Mapping> {
        let mut mapping = self.table.merged(head)?;
        mapping.authoritative = false;
        for locator in &mut mapping.locators {
            locator.local = false;
            locator.reachable &= routable(locator.address);
        }
        Some(mapping)
    }

    /// The next ETR in turn: a retry after a loss finds another. Without a locator that can be reached, who registered it.
    pub(in crate::map_server) fn etr(&mut self, head: u32, families: Families) -> Option<IpAddr> {
        let turn = self.table.turn(head);
        let first = self.table.registrations.get(head)?;
        let reachable = |address: IpAddr| routable(address) && families.reach(address);
        let pick = |candidates: &[IpAddr]| {
            let usable = candidates.len().max(1);
            candidates.get(turn % usable).copied()
        };
        let (merged, plain);
        let locators = if first.has(flag::MERGE) && self.table.chain_from(head).nth(1).is_some() {
            merged = self.table.merged(head)?;
            &merged.locators[..]
        } else {
            plain = self.table.locators(first);
            plain
        };
        let usable =
            locators.iter().filter(|locator| locator.usable() && locator.is_etr()).map(|locator| locator.address);
        let etrs: Vec<IpAddr> = usable.filter(|address| reachable(*address)).collect();
        pick(&etrs).or_else(|| {
            let sources =
                self.table.chain_from(head).map(|(_, one)| self.table.registrants[one.registrant].source.ip());
            pick(&sources.filter(|address| reachable(*address)).collect::<Vec<_>>())
        })
    }
}
