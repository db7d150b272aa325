//! The speaker as it was written.

use serde::Deserialize;

use super::{Given, Secret};

/// The keys of `[alt]` that are not lists of tables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AltDraft {
    /// Our AS number.
    #[serde(rename = "as")]
    pub asn: Option<Given<i64>>,
    /// BGP Identifier.
    pub router_id: Option<Given<String>>,
    /// A name of [`RibSource`](crate::alt::rib::sources::RibSource) for every instance without one of its own.
    pub rib: Option<Given<String>>,
    /// Whether our own EID-prefixes are announced.
    pub announce_database: Option<Given<bool>>,
    /// Seconds.
    pub restart_time: Option<Given<i64>>,
    /// A name of [`UnreachableName`](crate::config::UnreachableName).
    pub unreachable: Option<Given<String>>,
    /// ALT datagrams a second.
    pub ingress_rate: Option<Given<i64>>,
}

impl AltDraft {
    pub(super) fn over(self, other: Self) -> Self {
        Self {
            asn: self.asn.or(other.asn),
            router_id: self.router_id.or(other.router_id),
            rib: self.rib.or(other.rib),
            announce_database: self.announce_database.or(other.announce_database),
            restart_time: self.restart_time.or(other.restart_time),
            unreachable: self.unreachable.or(other.unreachable),
            ingress_rate: self.ingress_rate.or(other.ingress_rate),
        }
    }
}

/// `[[alt.rib]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RibDraft {
    /// Instance-ID; absent: every instance without a source of its own.
    pub instance: Option<Given<i64>>,
    /// A name of [`RibSource`](crate::alt::rib::sources::RibSource).
    pub source: Given<String>,
}

/// `[[alt.neighbor]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NeighborDraft {
    /// Its address on a tunnel.
    pub address: Given<String>,
    /// Its AS number.
    #[serde(rename = "as")]
    pub asn: Given<i64>,
    /// What operators see.
    pub name: Option<Given<String>>,
    /// Instance-ID of its routes.
    pub instance: Option<Given<i64>>,
    /// Either this,
    pub password: Option<Given<Secret>>,
    /// or the path of a file with it.
    pub password_file: Option<Given<String>>,
    /// GTSM.
    pub ttl_security: Option<Given<bool>>,
    /// Seconds.
    pub hold: Option<Given<i64>>,
    /// Seconds.
    pub connect_retry: Option<Given<i64>>,
    /// Seconds.
    pub advertisement_interval: Option<Given<i64>>,
    /// Wait to be connected.
    pub passive: Option<Given<bool>>,
    /// `ipv4`, `ipv6`.
    pub families: Option<Vec<Given<String>>>,
    /// Prefixes.
    pub max_prefixes: Option<Given<i64>>,
    /// `warn`, `idle` or `restart=SECONDS`.
    pub max_prefixes_action: Option<Given<String>>,
    /// Rules.
    pub import: Option<Vec<Given<String>>>,
    /// Rules.
    pub export: Option<Vec<Given<String>>>,
    /// RFC 4724.
    pub graceful_restart: Option<Given<bool>>,
    /// RFC 2439.
    pub dampening: Option<Given<bool>>,
    /// Announce the default route.
    pub default_originate: Option<Given<bool>>,
}

impl NeighborDraft {
    /// A neighbour of which no more than the necessary is said.
    #[must_use]
    pub const fn new(address: Given<String>, asn: Given<i64>) -> Self {
        Self {
            address,
            asn,
            name: None,
            instance: None,
            password: None,
            password_file: None,
            ttl_security: None,
            hold: None,
            connect_retry: None,
            advertisement_interval: None,
            passive: None,
            families: None,
            max_prefixes: None,
            max_prefixes_action: None,
            import: None,
            export: None,
            graceful_restart: None,
            dampening: None,
            default_originate: None,
        }
    }
}

/// `[[alt.aggregate]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AggregateDraft {
    /// `address/length`.
    pub prefix: Given<String>,
    /// Instance-ID.
    pub instance: Option<Given<i64>>,
    /// Addresses of neighbours.
    pub components: Vec<Given<String>>,
    /// Announce the aggregate alone.
    pub summary_only: Option<Given<bool>>,
}
