//! A configuration as it was written: texts and numbers, each with its place, nothing checked.

mod bgp;
mod features;
mod key;
mod lisp_sec;
mod map_server;
mod nat;
mod probing;
mod proxy;
mod pubsub;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::roles::RolesDraft;
pub use bgp::{AggregateDraft, AltDraft, NeighborDraft, RibDraft};
pub use features::FeaturesDraft;
pub use key::{KeyDraft, Secret};
pub use lisp_sec::{ClientDraft, LispSecDraft, ServerDraft};
pub use map_server::MapServerDraft;
pub use nat::{NatDraft, NatPeerDraft};
pub use probing::ProbingDraft;
pub use proxy::{PetrDraft, PitrPrefixDraft, RtrDraft};
pub use pubsub::{PubSubDraft, SubscriberDraft};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file, this many octets from its start.
    File {
        /// Octets from the start.
        offset: usize,
    },
    /// On the command line; the flag with its value.
    Flag(String),
    /// Nowhere in particular: something is missing.
    Whole,
}

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<T> {
    /// The value as written.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl<T> Given<T> {
    /// A value from the command line.
    #[must_use]
    pub const fn by_flag(value: T, flag: String) -> Self {
        Self { value, place: Place::Flag(flag) }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let place = Place::File { offset: spanned.span().start };
        Ok(Self { value: spanned.into_inner(), place })
    }
}

/// `[[site-port]]`, `[[core-port]]`, `[[native-port]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PortDraft {
    /// Interface name.
    pub name: Given<String>,
    /// Instance-ID of a site port or a native port.
    pub instance: Option<Given<i64>>,
}

/// `[[eid-prefix]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EidPrefixDraft {
    /// `address/length`.
    pub prefix: Given<String>,
    /// Instance-ID.
    pub instance: Option<Given<i64>>,
    /// Record TTL, minutes.
    pub ttl: Option<Given<i64>>,
    /// Map-Version.
    pub version: Option<Given<i64>>,
    /// Absent: all our RLOCs.
    pub locators: Option<Vec<LocatorDraft>>,
}

/// One element of `locators`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LocatorDraft {
    /// The RLOC.
    pub address: Given<String>,
    /// Routers that re-encapsulate on the way to it, in the order of the way.
    pub via: Option<Vec<Given<String>>>,
    /// None of those may be passed by.
    pub strict: Option<Given<bool>>,
    /// 0 … 255.
    pub priority: Option<Given<i64>>,
    /// 0 … 255.
    pub weight: Option<Given<i64>>,
    /// `false`: the RLOC of another xTR of this site.
    pub local: Option<Given<bool>>,
}

/// `[[alt.tunnel]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TunnelDraft {
    /// Name of the TUN interface.
    pub name: Given<String>,
    /// Far end.
    pub remote: Given<String>,
    /// Our end; absent: our first RLOC of the family.
    pub local: Option<Given<String>>,
    /// GRE key.
    pub key: Option<Given<i64>>,
    /// GRE checksum.
    pub checksum: Option<Given<bool>>,
    /// `address/length` each.
    #[serde(default)]
    pub addresses: Vec<Given<String>>,
    /// ALT datagrams a second.
    pub ingress_rate: Option<Given<i64>>,
    /// Seconds between keepalives; 0 is off.
    pub keepalive: Option<Given<i64>>,
    /// Lost ones in a row that end the tunnel.
    pub keepalive_losses: Option<Given<i64>>,
    /// The kernel's GRE instead of our own.
    pub kernel: Option<Given<bool>>,
}

/// `[[alt.route]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RouteDraft {
    /// `address/length`.
    pub prefix: Given<String>,
    /// A tunnel's name or `discard`.
    pub via: Given<String>,
    /// Instance-ID.
    pub instance: Option<Given<i64>>,
    /// Tell our neighbours.
    pub announce: Option<Given<bool>>,
}

/// `[[map-cache]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StaticDraft {
    /// `address/length`.
    pub eid: Given<String>,
    /// Instance-ID.
    pub instance: Option<Given<i64>>,
    /// Map-Version.
    pub version: Option<Given<i64>>,
    /// Either these,
    pub locators: Option<Vec<LocatorDraft>>,
    /// or this.
    pub action: Option<Given<String>>,
}

/// The keys of the top level that are not lists of tables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Our RLOCs.
    pub rlocs: Option<Vec<Given<String>>>,
    /// Map-Resolvers we ask.
    pub map_resolvers: Option<Vec<Given<String>>>,
    /// 32 hexadecimal digits.
    pub xtr_id: Option<Given<String>>,
    /// 16 hexadecimal digits.
    pub site_id: Option<Given<String>>,
    /// Path.
    pub state_dir: Option<Given<String>>,
    /// PETRs we use.
    pub petrs: Option<Vec<Given<String>>>,
    /// Look-ups a second for one stranger's network.
    pub pitr_rate: Option<Given<i64>>,
    /// Cores, as `2-5` or `0,1`.
    pub workers: Option<Given<String>>,
    /// Core.
    pub control_core: Option<Given<i64>>,
    /// A name of [`XdpMode`](super::XdpMode).
    pub xdp: Option<Given<String>>,
    /// A name of [`Bind`](super::Bind).
    pub bind: Option<Given<String>>,
    /// Microseconds; 0 is off.
    pub busy_poll: Option<Given<i64>>,
    /// Descriptors.
    pub ring: Option<Given<i64>>,
    /// Frames of a worker.
    pub frames: Option<Given<i64>>,
    /// Huge pages.
    pub hugepages: Option<Given<bool>>,
    /// Entries.
    pub map_cache_max: Option<Given<i64>>,
    /// Frames at once.
    pub batch: Option<Given<i64>>,
    /// A name of [`Hold`](super::Hold).
    pub hold: Option<Given<String>>,
    /// A name of [`SourceCheck`](super::SourceCheck).
    pub source_check: Option<Given<String>>,
    /// A name of [`DscpName`](super::DscpName).
    pub dscp: Option<Given<String>>,
    /// A name of [`PathMtuName`](super::PathMtuName).
    pub path_mtu: Option<Given<String>>,
    /// A name of [`SiteRoutes`](super::SiteRoutes).
    pub site_routes: Option<Given<String>>,
    /// A name of [`ResolverName`](super::ResolverName).
    pub resolver: Option<Given<String>>,
    /// Path.
    pub api: Option<Given<String>>,
    /// `address:port`.
    pub metrics: Option<Given<String>>,
    /// Path, or `off`.
    pub api_read_only: Option<Given<String>>,
    /// A name of [`LogLevel`](super::LogLevel).
    pub log: Option<Given<String>>,
    /// A name of [`LogFormat`](super::LogFormat).
    pub log_format: Option<Given<String>>,
}

/// A whole configuration as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// Site ports.
    pub site_ports: Vec<PortDraft>,
    /// Core ports.
    pub core_ports: Vec<PortDraft>,
    /// Native ports.
    pub native_ports: Vec<PortDraft>,
    /// Our EID-prefixes.
    pub eid_prefixes: Vec<EidPrefixDraft>,
    /// ALT tunnels.
    pub tunnels: Vec<TunnelDraft>,
    /// ALT routes.
    pub routes: Vec<RouteDraft>,
    /// BGP neighbours.
    pub neighbors: Vec<NeighborDraft>,
    /// Aggregates.
    pub aggregates: Vec<AggregateDraft>,
    /// Sources of EID routes.
    pub ribs: Vec<RibDraft>,
    /// The rest of `[alt]`.
    pub alt: AltDraft,
    /// Static mappings.
    pub map_cache: Vec<StaticDraft>,
    /// Map-Servers we register with.
    pub map_servers: Vec<MapServerDraft>,
    /// Map-Resolver, Map-Server, PETR and PITR.
    pub roles: RolesDraft,
    /// RLOC-probing.
    pub probing: ProbingDraft,
    /// Header features.
    pub features: FeaturesDraft,
    /// Subscriptions.
    pub pubsub: PubSubDraft,
    /// NAT traversal.
    pub nat: NatDraft,
    /// LISP-SEC, if it is switched on.
    pub lisp_sec: Option<LispSecDraft>,
    /// The rest.
    pub settings: Settings,
}

impl Draft {
    /// What is given here, and from `other` what is not given here.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        fn list<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
            if first.is_empty() { second } else { first }
        }
        Self {
            site_ports: list(self.site_ports, other.site_ports),
            core_ports: list(self.core_ports, other.core_ports),
            native_ports: list(self.native_ports, other.native_ports),
            eid_prefixes: list(self.eid_prefixes, other.eid_prefixes),
            tunnels: list(self.tunnels, other.tunnels),
            routes: list(self.routes, other.routes),
            neighbors: list(self.neighbors, other.neighbors),
            aggregates: list(self.aggregates, other.aggregates),
            ribs: list(self.ribs, other.ribs),
            alt: self.alt.over(other.alt),
            map_cache: list(self.map_cache, other.map_cache),
            map_servers: list(self.map_servers, other.map_servers),
            roles: self.roles.over(other.roles),
            probing: self.probing.over(other.probing),
            features: self.features.over(other.features),
            pubsub: self.pubsub.over(other.pubsub),
            nat: self.nat.over(other.nat),
            lisp_sec: match (self.lisp_sec, other.lisp_sec) {
                (Some(first), Some(second)) => Some(first.over(second)),
                (first, second) => first.or(second),
            },
            settings: self.settings.over(other.settings),
        }
    }
}

impl Settings {
    fn over(self, other: Self) -> Self {
        Self {
            rlocs: self.rlocs.or(other.rlocs),
            map_resolvers: self.map_resolvers.or(other.map_resolvers),
            xtr_id: self.xtr_id.or(other.xtr_id),
            site_id: self.site_id.or(other.site_id),
            state_dir: self.state_dir.or(other.state_dir),
            petrs: self.petrs.or(other.petrs),
            pitr_rate: self.pitr_rate.or(other.pitr_rate),
            workers: self.workers.or(other.workers),
            control_core: self.control_core.or(other.control_core),
            xdp: self.xdp.or(other.xdp),
            bind: self.bind.or(other.bind),
            busy_poll: self.busy_poll.or(other.busy_poll),
            ring: self.ring.or(other.ring),
            frames: self.frames.or(other.frames),
            hugepages: self.hugepages.or(other.hugepages),
            map_cache_max: self.map_cache_max.or(other.map_cache_max),
            batch: self.batch.or(other.batch),
            hold: self.hold.or(other.hold),
            source_check: self.source_check.or(other.source_check),
            dscp: self.dscp.or(other.dscp),
            path_mtu: self.path_mtu.or(other.path_mtu),
            site_routes: self.site_routes.or(other.site_routes),
            resolver: self.resolver.or(other.resolver),
            api: self.api.or(other.api),
            metrics: self.metrics.or(other.metrics),
            api_read_only: self.api_read_only.or(other.api_read_only),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
        }
    }
}
