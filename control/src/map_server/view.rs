//! What is registered, for operators.

use std::{net::SocketAddr, ops::Bound, time::Instant};

use altitude_dataplane::mapping::{EidPrefix, Mapping};

use super::{
    MapServer, Refusal, SiteId, Subscriber,
    registry::table::{Who, flag},
};
use crate::wire::XtrIdentity;

/// One registration.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// Who registered it.
    pub who: Who,
    /// Its Site-ID; 0 without one.
    pub site_id: u64,
    /// Where its last Map-Register came from.
    pub source: SocketAddr,
    /// The Key ID used last.
    pub key: u8,
    /// Since when without a break, seconds since 1970.
    pub since: u64,
    /// When it ends without another Map-Register, seconds since 1970.
    pub expires: u64,
    /// We answer for it.
    pub proxy: bool,
    /// Its locators are merged with those of others.
    pub merge: bool,
    /// It speaks LISP-SEC.
    pub signs: bool,
    /// As it came.
    pub mapping: Mapping,
}

/// One registered prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Whose.
    pub site: SiteId,
    /// The prefix.
    pub eid: EidPrefix,
    /// The one that spoke last first.
    pub holders: Vec<Holder>,
}

impl MapServer {
    /// How many prefixes a site has registered.
    #[must_use]
    pub fn prefixes(&self, site: SiteId) -> usize {
        self.registry.states[site.0].prefixes as usize
    }

    /// The last Map-Register of a site that was refused.
    #[must_use]
    pub fn refused(&self, site: SiteId) -> Option<Refusal> {
        self.registry.states[site.0].refused.as_deref().copied()
    }

    /// The last Map-Register that was for no site.
    #[must_use]
    pub const fn stranger(&self) -> Option<Refusal> {
        self.registry.stranger
    }

    /// Registrations of all sites.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.registry.table.len()
    }

    /// Whether nothing is registered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets that registrations occupy, as far as the tables tell.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.registry.table.octets()
    }

    /// The subscriptions that live, by xTR and prefix, from this one on.
    pub fn subscriptions(&self, from: Bound<(XtrIdentity, EidPrefix)>) -> impl Iterator<Item = Subscriber<'_>> {
        self.subscriptions.iter().flat_map(move |own| own.iter_from(from))
    }

    /// Those that nobody has confirmed yet, the oldest first, each with its place, after that place.
    pub fn unconfirmed(&self, after: u64) -> impl Iterator<Item = (u64, Subscriber<'_>)> {
        self.subscriptions.iter().flat_map(move |own| own.unconfirmed(after))
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn subscribed_len(&self) -> usize {
        self.subscriptions.as_ref().map_or(0, super::Subscriptions::len)
    }

    /// Whether anybody could subscribe.
    #[must_use]
    pub const fn publishes(&self) -> bool {
        self.subscriptions.is_some()
    }

    /// The time as the registry counts it: seconds since 1970.
    #[must_use]
    pub fn second(&self, now: Instant) -> u64 {
        self.registry.second(now)
    }

    /// What is registered of a configured prefix and inside it.
    pub fn held<'a>(&'a self, within: &'a EidPrefix) -> impl Iterator<Item = Held> + 'a {
        self.registry.table.index.within(within).map(|(eid, head)| self.show(eid, *head))
    }

    fn show(&self, eid: EidPrefix, head: u32) -> Held {
        let table = &self.registry.table;
        let holder = |(number, one): (u32, &super::registry::table::Registration)| {
            let xtr = &table.registrants[one.registrant];
            Holder {
                who: xtr.who,
                site_id: xtr.site_id,
                source: xtr.source,
                key: one.key,
                since: one.since.into(),
                expires: table.expires(number),
                proxy: one.has(flag::PROXY),
                merge: one.has(flag::MERGE),
                signs: one.has(flag::SIGNS),
                mapping: table.mapping(one),
            }
        };
        let site = table.registrations.get(head).map_or(0, |one| table.registrants[one.registrant].site as usize);
        Held { site: SiteId(site), eid, holders: table.chain_from(head).map(holder).collect() }
    }
}
