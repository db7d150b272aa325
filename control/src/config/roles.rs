//! What a router may be besides an xTR: ALT router with wishes, Map-Resolver, Map-Server, PETR, PITR; and whom an ITR asks.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use altitude_dataplane::mapping::{EidPrefix, InstanceId};
use serde::Deserialize;

use super::{Given, KeyDraft, PetrDraft, PitrPrefixDraft, RtrDraft};
use crate::{alt::datagrams::Unreachable, map_resolver, map_server::Site, rate::Rate};

/// ALT datagrams a second out of one tunnel by default.
pub const INGRESS_RATE: u32 = 20_000;
/// Keepalives lost in a row that end a tunnel, by default.
pub const KEEPALIVE_LOSSES: u32 = 3;

/// The checked roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Whom we ask about EIDs that no ALT route leads to, in this order.
    pub map_resolvers: Vec<IpAddr>,
    /// Who takes what would be forwarded natively, sharing it.
    pub petrs: Vec<IpAddr>,
    /// What we are between LISP and networks without it.
    pub proxies: Proxies,
    /// We are a Map-Resolver.
    pub map_resolver: Option<map_resolver::Settings>,
    /// Sites of our Map-Server; none: we are no Map-Server.
    pub sites: Vec<Site>,
    /// What is said about EIDs that cannot be reached.
    pub unreachable: Unreachable,
    /// ALT datagrams out of each tunnel that has no rate of its own.
    pub ingress: Rate,
}

/// PETR, PITR (RFC 6832) and re-encapsulating router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies {
    /// We are a PETR.
    pub petr: bool,
    /// We re-encapsulate.
    pub rtr: bool,
    /// With `rtr`: unless the operator says how sources are checked, it takes only what comes from a locator of its source's mapping
    /// or from a stop before it.
    pub known: bool,
    /// The one or the other of these instances.
    pub instances: Vec<InstanceId>,
    /// EID-prefixes that we attract; none: we are no PITR.
    pub aggregates: Vec<EidPrefix>,
    /// Look-ups a second for one stranger's network.
    pub rate: u32,
}

impl Proxies {
    /// Whether others than our own site make us look things up.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.petr || self.rtr || !self.aggregates.is_empty()
    }
}

/// `[map-resolver]`: its presence makes us one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MapResolverDraft {
    /// `address/length` each.
    pub clients: Option<Vec<Given<String>>>,
    /// Map-Requests of one client a second.
    pub client_rate: Option<Given<i64>>,
    /// Map-Requests for one EID a second.
    pub eid_rate: Option<Given<i64>>,
}

/// `[[site]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SiteDraft {
    /// What operators call it.
    pub name: Given<String>,
    /// `address/length` each.
    pub eid_prefixes: Vec<Given<String>>,
    /// Whether parts of them may be registered.
    pub more_specifics: Option<Given<bool>>,
    /// RLOCs.
    #[serde(default)]
    pub etrs: Vec<Given<String>>,
    /// Either this,
    pub key: Option<KeyDraft>,
    /// or these.
    pub keys: Option<Vec<KeyDraft>>,
    /// Names of [`LegacyName`](super::LegacyName).
    pub legacy: Option<Vec<Given<String>>>,
    /// A name of [`ProxyName`](super::ProxyName).
    pub proxy: Option<Given<String>>,
    /// Prefixes.
    pub max_prefixes: Option<Given<i64>>,
    /// Whether nobody is told where it is.
    pub denied: Option<Given<bool>>,
    /// Instance-ID.
    pub instance: Option<Given<i64>>,
}

/// The roles as they were written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RolesDraft {
    /// Role of a Map-Resolver.
    pub map_resolver: Option<MapResolverDraft>,
    /// Sites.
    pub sites: Vec<SiteDraft>,
    /// Role of a PETR.
    pub petr: Option<PetrDraft>,
    /// Role of a re-encapsulating router.
    pub rtr: Option<RtrDraft>,
    /// What a PITR attracts.
    pub pitr_prefixes: Vec<PitrPrefixDraft>,
}

impl RolesDraft {
    /// What is given here, and from `other` what is not given here.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            map_resolver: self.map_resolver.or(other.map_resolver),
            sites: if self.sites.is_empty() { other.sites } else { self.sites },
            petr: self.petr.or(other.petr),
            rtr: self.rtr.or(other.rtr),
            pitr_prefixes: if self.pitr_prefixes.is_empty() { other.pitr_prefixes } else { self.pitr_prefixes },
        }
    }
}
