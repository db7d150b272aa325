//! Map-Requests that subscribe: what they are answered, and what subscribers hear of later.

use std::{net::IpAddr, time::Instant};

use altitude_dataplane::mapping::{Action, EidPrefix, Mapping, Ttl};

use super::{
    Asked, MapServer, Output, SiteFault, UNSERVED_MINUTES, payload_max, reply_length,
    subscriptions::{Ask, PENDING_MAX, Said, first},
};
use crate::rloc::routable;

/// Octets of a Map-Notify beyond those of a Map-Reply with the same records: authentication data of the longest kind.
pub(super) const BEYOND_REPLY: usize = 4 + 32;

impl MapServer {
    /// Takes in a Map-Request that may be a subscription (RFC 9437 §5). False: it is to be answered as any other.
    ///
    /// # Errors
    /// A nonce that was used before: nothing is answered.
    pub(super) fn subscribed(
        &mut self,
        now: Instant,
        asked: &Asked<'_>,
        todo: &mut Vec<Output>,
    ) -> Result<bool, SiteFault> {
        let Asked { request, source, .. } = *asked;
        let wanted = request.records.first().filter(|record| record.notify);
        let Some((record, own)) = wanted.zip(self.subscriptions.as_ref()) else { return Ok(false) };
        let Some(xtr) = request.xtr else {
            todo.push(Output::Drop(SiteFault::SubscriptionUnnamed));
            return Ok(false);
        };
        let usable = |rloc: &IpAddr| routable(*rloc) && self.families.reach(*rloc);
        let rlocs: Vec<IpAddr> = request.itr_rlocs.iter().copied().filter(usable).collect();
        let ends = request.itr_rlocs.is_empty();
        if !ends && rlocs.is_empty() {
            return Err(SiteFault::NoItrRloc);
        }
        let of_its_own = asked.protection.and_then(|protection| protection.association(request.nonce));
        let (eid, nonce, source) = (record.eid, request.nonce, source.ip());
        let ask = Ask { xtr, eid, nonce, ends, rlocs: &rlocs, source, own: of_its_own.as_ref() };
        let denied = self.registry.site_of(first(&ask.eid)).is_some_and(|(_, site)| self.registry.sites[site.0].denied);
        let permitted = own.permit(&ask).and(if denied { Err(SiteFault::SubscriptionDenied) } else { Ok(()) });
        if let Err(fault) = permitted {
            let taken = self.turn_away(fault, &ask, asked, todo)?;
            if fault == SiteFault::SubscriptionDenied {
                self.end_denied(now, asked, todo);
            }
            return Ok(taken);
        }
        let said = match self.said(now, &ask, own.settings().temporary_minutes) {
            Ok(said) => said,
            // Whatever may be said of it, it ends.
            Err(_) if ends => Said { records: Vec::new(), rest: Vec::new(), temporary: false },
            Err(fault) => return self.turn_away(fault, &ask, asked, todo),
        };
        let Some(own) = &mut self.subscriptions else { return Ok(false) };
        if ends {
            let record = said.records.into_iter().next();
            let record = record.unwrap_or(Mapping::negative(ask.eid, Ttl::Remove, Action::NoAction));
            own.unsubscribe(now, &ask, record, todo);
        } else {
            own.subscribe(now, &ask, said, todo);
        }
        Ok(true)
    }

    fn turn_away(
        &self,
        fault: SiteFault,
        ask: &Ask<'_>,
        asked: &Asked<'_>,
        todo: &mut Vec<Output>,
    ) -> Result<bool, SiteFault> {
        let action = match fault {
            SiteFault::SubscriptionReplayed => return Err(fault),
            SiteFault::SubscriptionDenied => Action::DropPolicyDenied,
            SiteFault::SubscriptionUnknown | SiteFault::SubscriptionKeyUsed => Action::DropAuthFailure,
            _ => {
                todo.push(Output::Drop(fault));
                return Ok(false);
            }
        };
        todo.push(Output::Drop(fault));
        todo.push(self.negative(asked, ask.eid, UNSERVED_MINUTES, action)?);
        Ok(true)
    }

    /// A subscription whose renewal was answered otherwise ends, where it would not be taken as it stands either, and that not for
    /// the moment alone: a Map-Request ends nobody's subscription, nor does whoever cannot register. Its xTR is told, as it may
    /// not be the one that asked.
    pub(super) fn end_denied(&mut self, now: Instant, asked: &Asked<'_>, todo: &mut Vec<Output>) {
        let Asked { request, source, protection, .. } = *asked;
        let wanted = request.records.first().filter(|record| record.notify).zip(request.xtr);
        let Some(((record, xtr), own)) = wanted.zip(self.subscriptions.as_ref()) else { return };
        let of_its_own = protection.and_then(|protection| protection.association(request.nonce));
        let (eid, nonce, source) = (record.eid, request.nonce, source.ip());
        let ask = Ask { xtr, eid, nonce, ends: false, rlocs: &[], source, own: of_its_own.as_ref() };
        let Some((number, rlocs)) = own.renews(&ask) else { return };
        let said = self.said(now, &Ask { rlocs, ..ask }, own.settings().temporary_minutes);
        let refused = said.is_err_and(|fault| fault != SiteFault::SubscriptionUnserved);
        let denied = self.registry.denies(&eid) || !own.may_have(xtr, &eid) || refused;
        if let Some(own) = self.subscriptions.as_mut().filter(|_| denied) {
            own.lose(now, number, todo);
        }
    }

    /// What a new subscriber is told, unless it is not for us to tell, or nothing is to be said.
    fn said(&self, now: Instant, ask: &Ask<'_>, temporary_minutes: u32) -> Result<Said, SiteFault> {
        const NOT_OURS: SiteFault = SiteFault::SubscriptionNotOurs;
        let (eid, registry) = (first(&ask.eid), &self.registry);
        let to = ask.rlocs.first().copied().unwrap_or(ask.source);
        let fits = |records: &[Mapping]| reply_length(records) + BEYOND_REPLY <= payload_max(to);
        let whole = registry.site_of(eid);
        let covering = registry.table.index.covering(&ask.eid);
        // The ETRs of a wider site do not serve a narrower one inside it.
        let serving = covering.filter(|(found, _)| whole.is_some_and(|(whole, _)| whole.covers(found)));
        if let Some((found, head)) = serving {
            let records = registry.proxies(*head).then(|| registry.records(eid, found, fits)).flatten();
            return Ok(Said { records: records.ok_or(NOT_OURS)?, rest: Vec::new(), temporary: false });
        }
        // What its ETRs answer for is looked up at them, as before.
        let told = |(found, head): &(EidPrefix, &u32)| registry.proxies(**head) && !registry.denies(found);
        let mut within = registry.table.index.within(&ask.eid).filter(told).map(|(found, _)| found);
        let mut records: Vec<Mapping> = Vec::new();
        let mut rest: Vec<EidPrefix> = Vec::new();
        for found in within.by_ref() {
            records.push(registry.published(found));
            if !fits(&records) {
                records.pop();
                rest.push(found);
                break;
            }
        }
        rest.extend(within.take(PENDING_MAX));
        if rest.len() > PENDING_MAX {
            return Err(SiteFault::SubscriptionTooWide);
        }
        if !records.is_empty() || !rest.is_empty() {
            return Ok(Said { records, rest, temporary: false });
        }
        if registry.table.index.within(&ask.eid).next().is_some() {
            return Err(NOT_OURS);
        }
        let negative = match whole {
            Some((_, site)) if !registry.sites[site.0].etrs.is_empty() => return Err(NOT_OURS),
            Some((_, site)) => {
                // That somebody failed to register is an answer; in a Map-Notify it would say that the subscription is lost.
                let action = self.unserved_action(now, site).ok().filter(|action| *action != Action::DropAuthFailure);
                let action = action.ok_or(SiteFault::SubscriptionUnserved)?;
                Mapping::negative(registry.gap(eid), Ttl::Minutes(UNSERVED_MINUTES), action)
            }
            None if self.unreachable == super::Unreachable::Silent => return Err(NOT_OURS),
            None => Mapping::negative(self.hole(eid), Ttl::Minutes(temporary_minutes), Action::NativelyForward),
        };
        Ok(Said { records: vec![negative], rest, temporary: true })
    }

    /// Tells subscribers of what changed, and of what they have not acknowledged.
    pub(super) fn publish(&mut self, now: Instant, todo: &mut Vec<Output>) {
        let Some(own) = &mut self.subscriptions else { return };
        for eid in self.registry.changed.as_mut().map(std::mem::take).into_iter().flatten() {
            own.changed(&self.registry, eid);
        }
        own.run(now, &self.registry, todo);
        if let Some(journal) = &mut self.registry.journal {
            journal.append(&mut own.journal);
        } else {
            own.journal.clear();
        }
    }
}
