//! Map-Notifies: answers to Map-Registers, and news of unions that others have changed.

use std::{net::SocketAddr, time::Instant};

use altitude_dataplane::mapping::{EidPrefix, Mapping, Ttl};

use super::{
    super::{Output, SiteFault, SiteId},
    Arrived, Registry, news,
    table::{END, Registrant, Registration, Who, flag},
};
use crate::wire::{Form, Key, MapNotify, XtrIdentity};

/// UDP port of Map-Notifies (RFC 9301 §5.7).
pub(in crate::map_server) const CONTROL_PORT: u16 = 4342;

impl Registry {
    /// Whether others than `registrant` want to hear how their union changes.
    pub(super) fn is_merged(&self, eid: &EidPrefix, registrant: u32) -> bool {
        self.table.chain(eid).any(|(_, one)| one.has(flag::MERGE) && one.registrant != registrant)
    }

    /// Sends the union to those who share in it, but for the one that changed it (RFC 9301 §5.6).
    pub(super) fn tell_others(
        &mut self,
        now: Instant,
        eid: &EidPrefix,
        but: u32,
        before: Option<Mapping>,
        todo: &mut Vec<Output>,
    ) {
        let head = self.table.index.get(eid).copied().unwrap_or(END);
        let union = self.table.merged(head);
        let same = before.zip(union.as_ref()).is_some_and(|(before, union)| before.locators == union.locators);
        let Some(union) = union.filter(|_| !same) else { return };
        let told = |one: &Registration| one.has(flag::MERGE) && !one.has(flag::RELAYED);
        let others = self.table.chain(eid).filter(|(_, one)| told(one) && one.registrant != but);
        let others: Vec<u32> = others.map(|(_, one)| one.registrant).collect();
        for registrant in others {
            let xtr = &self.table.registrants[registrant];
            let site = &self.sites[xtr.site as usize];
            let Some(key) = site.keys.iter().find(|key| key.id == xtr.key).or(site.keys.first()) else { continue };
            let nonce = self.news.nonce();
            let identity = identity(xtr);
            let notify = MapNotify { nonce, records: vec![union.clone()], xtr: identity, ..MapNotify::default() };
            let octets = notify.signed(key, Form { whole_mac: site.form.whole_mac || xtr.whole_mac, ..site.form });
            let to = SocketAddr::new(xtr.source.ip(), CONTROL_PORT);
            let sent =
                news::Sent { site: SiteId(xtr.site as usize), about: (registrant, *eid), to, local: xtr.local, octets };
            self.news.send(now, nonce, sent, todo);
        }
    }

    /// Answers a Map-Register that wants it: the same nonce, the same fields, our MAC (RFC 9301 §5.7).
    pub(super) fn confirm(&self, site: SiteId, arrived: Arrived<'_>, todo: &mut Vec<Output>) {
        let Arrived { from, local, message, relay, .. } = arrived;
        let site = &self.sites[site.0];
        let key = site.keys.iter().find(|key| key.id == message.authentication.key_id);
        let Some(key) = key.filter(|_| message.want_notify) else { return };
        let record = |record: &Mapping| {
            let head = self.table.index.get(&record.eid).filter(|_| message.merge && record.ttl != Ttl::Remove);
            head.and_then(|head| self.table.merged(*head)).unwrap_or_else(|| record.clone())
        };
        let records = message.records.iter().map(record).collect();
        let notify = MapNotify { nonce: message.nonce, records, xtr: message.xtr, ..MapNotify::default() };
        let whole_mac = site.form.whole_mac || is_whole(&message.authentication.data);
        let octets = notify.signed(key, Form { whole_mac, ..site.form });
        let octets = relay.map_or_else(|| octets.clone(), |relay| relay.enclose(&octets));
        todo.push(Output::Notify { to: SocketAddr::new(from.ip(), CONTROL_PORT), local, octets });
    }

    /// Takes in a Map-Notify-Ack.
    pub(in crate::map_server) fn acknowledge(&mut self, message: &MapNotify, octets: &[u8]) -> Result<(), SiteFault> {
        let site = self.news.waiting(message.nonce).ok_or(SiteFault::AckUnwanted)?;
        let keys: &[Key] = &self.sites[site.0].keys;
        message.verify(octets, keys).map_err(|_| SiteFault::AckMac)?;
        self.news.acknowledged(message.nonce);
        Ok(())
    }
}

fn identity(xtr: &Registrant) -> Option<XtrIdentity> {
    match xtr.who {
        Who::Xtr(xtr_id) => Some(XtrIdentity { xtr_id, site_id: xtr.site_id }),
        Who::Source(_) => None,
    }
}

/// MACs that are not cut off have 20 and 32 octets, others 12 and 16.
pub(super) const fn is_whole(mac: &[u8]) -> bool {
    mac.len() > 16
}
