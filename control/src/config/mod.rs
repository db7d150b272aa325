//! What an operator tells the router, checked as a whole before anything is touched.
//!
//! ```text
//! TOML file ─ file::read ──┐
//!                          ├─ Draft (texts and numbers, each with its place) ─ validate ─ Config (typed, consistent)
//! command line ─ flags ────┘
//! ```
//!
//! A flag wins over the file: a single value replaces the file's, and a list given by flags replaces the file's whole
//! list of that name. Every mistake is a [`Problem`] with its place, what is wrong and what to do; all of them are
//! reported together.

#![forbid(unsafe_code)]

mod admit;
pub mod change;
mod draft;
mod file;
pub mod flags;
mod nat;
mod problem;
pub mod roles;
mod validate;

use std::{collections::BTreeMap, fmt, net::IpAddr, net::SocketAddr, path::Path, path::PathBuf, str::FromStr};

use altitude_dataplane::{
    features::Features,
    mapping::{EidPrefix, InstanceId, Mapping},
};

pub use crate::{
    alt::{
        bgp::settings::Settings as SpeakerSettings,
        rib::{Hop, sources::RibSource},
        tunnels::{Tunnel, TunnelId},
    },
    registrar::MapServer,
};
use crate::{lisp_sec, map_server::Publishing, prober, wire::Key};
pub use draft::{
    AggregateDraft, AltDraft, ClientDraft, Draft, EidPrefixDraft, FeaturesDraft, Given, KeyDraft, LispSecDraft,
    LocatorDraft, MapServerDraft, NatDraft, NatPeerDraft, NeighborDraft, PetrDraft, PitrPrefixDraft, Place, PortDraft,
    ProbingDraft, PubSubDraft, RibDraft, RouteDraft, RtrDraft, Secret, ServerDraft, Settings, StaticDraft,
    SubscriberDraft, TunnelDraft,
};
pub use nat::{Nat, NatPeer};
pub use problem::{Problem, Problems};
pub use roles::{Proxies, Roles, RolesDraft};

/// Where the mapping API listens by default.
pub const API_PATH: &str = "/run/altitude/map.sock";
/// Where what must survive a restart is kept by default.
pub const STATE_DIR: &str = "/var/lib/altitude";
/// Descriptors of each AF_XDP ring by default.
pub const RING: u32 = 2048;
/// Frames of each worker by default, what two ports' rings need; more where there are more ports.
pub const FRAMES: usize = 9280;
/// Entries of the map-cache by default.
pub const MAP_CACHE_MAX: usize = 65_536;
/// Record TTL of our own mappings by default, minutes.
pub const TTL_MINUTES: u32 = 1440;
/// Priority of a locator by default.
pub const PRIORITY: u8 = 1;
/// Weight of a locator by default.
pub const WEIGHT: u8 = 100;

/// The whole configuration of one router; every part fits the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Dataplane interfaces, site ports first; at most [`PORTS_MAX`](altitude_dataplane::counters::PORTS_MAX), each
    /// name once. Empty in an ALT router without a site.
    pub ports: Vec<Port>,
    /// Our RLOCs, each once, in the order given; the first of a family is the one we send from.
    pub rlocs: Vec<IpAddr>,
    /// Our own mappings (the Database): what we answer Map-Requests with. Locators in wire order.
    pub database: Vec<Mapping>,
    /// Static mappings of the map-cache; they never expire.
    pub map_cache: Vec<Mapping>,
    /// Tunnels of the ALT; a [`TunnelId`] is an index into them.
    pub tunnels: Vec<Tunnel>,
    /// Static routes of the ALT, each EID-prefix once.
    pub routes: Vec<Route>,
    /// Where the EID routes of each instance come from beside those; every instance that is mentioned anywhere.
    pub ribs: BTreeMap<InstanceId, RibSource>,
    /// Our BGP speaker, if there is one.
    pub speaker: Option<SpeakerSettings>,
    /// It tells its neighbours of our EID-prefixes.
    pub announce_database: bool,
    /// What we are besides an xTR, and whom we ask.
    pub roles: Roles,
    /// Whom the database is registered with, each address once.
    pub map_servers: Vec<MapServer>,
    /// Who we are to them.
    pub identity: Identity,
    /// Directory for what must survive a restart; made when it is first needed.
    pub state_dir: PathBuf,
    /// How locators are probed; `None`: not at all.
    pub probing: Option<prober::Settings>,
    /// Header features beyond the public Internet's profile.
    pub features: Features,
    /// Subscriptions, of either side.
    pub pubsub: PubSub,
    /// NAT traversal.
    pub nat: Nat,
    /// LISP-SEC; `None`: it is off, and no message says anything of it.
    pub lisp_sec: Option<lisp_sec::Settings>,
    /// Cores the workers are pinned to, one worker each, at least one.
    pub workers: Vec<usize>,
    /// Core the control thread is pinned to, if any.
    pub control_core: Option<usize>,
    /// How the steering program is attached.
    pub xdp: XdpMode,
    /// How sockets are bound.
    pub bind: Bind,
    /// Busy polling time of a socket, microseconds; `None` is off.
    pub busy_poll: Option<u32>,
    /// Descriptors of each ring, a power of two.
    pub ring: u32,
    /// Frames of each worker, enough to fill every ring.
    pub frames: usize,
    /// Whether frame memory shall lie on huge pages, where there are some.
    pub hugepages: bool,
    /// Most entries of the map-cache.
    pub map_cache_max: usize,
    /// Most frames that a worker takes from a port at once.
    pub batch: usize,
    /// What happens to packets whose mapping is being fetched.
    pub hold: Hold,
    /// How sources of packets out of tunnels are checked.
    pub source_check: SourceCheck,
    /// Which DSCP packets out of tunnels have.
    pub dscp: DscpName,
    /// What is believed of paths that carry less than their first link.
    pub path_mtu: PathMtuName,
    /// Whether our mappings say which EID-prefixes no route leads to inside.
    pub site_routes: SiteRoutes,
    /// Who asks the mapping system for what is missed.
    pub resolver: ResolverName,
    /// Socket of the mapping API.
    pub api: PathBuf,
    /// Where metrics are served over HTTP, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Its socket for everybody, where nothing can be changed; `None`: there is none.
    pub api_read_only: Option<PathBuf>,
    /// Least severe log level that is written.
    pub log: LogLevel,
    /// Shape of a log line.
    pub log_format: LogFormat,
    /// What is unwise and yet accepted.
    pub warnings: Vec<Problem>,
}

/// PubSub (RFC 9437).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PubSub {
    /// We subscribe to mappings.
    pub subscribe: Option<Subscribing>,
    /// Others may subscribe at our Map-Server.
    pub publish: Option<Publishing>,
}

/// What we subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribing {
    /// To what is looked up.
    pub lookups: bool,
    /// To these in any case.
    pub fixed: Vec<EidPrefix>,
    /// Keys shared with the Map-Servers, one or more.
    pub keys: Vec<Key>,
    /// Most subscriptions.
    pub max: usize,
}

/// Who this router is among the xTRs of its site (RFC 9301 §5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity {
    /// xTR-ID, unique within the site; `None`: one is made up at the first start and kept.
    pub xtr_id: Option<[u8; 16]>,
    /// Site-ID; 0 is none.
    pub site_id: u64,
}

/// One interface that packets of the dataplane come and go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Interface name.
    pub name: String,
    /// Hosts of the site are behind it: packets from it are encapsulated.
    pub site: bool,
    /// The RLOC space is behind it: LISP packets from it are decapsulated.
    pub core: bool,
    /// Networks without LISP are behind it: packets from it to EIDs that we attract are encapsulated.
    pub native: bool,
    /// Instance that the site's or the strangers' packets belong to; the default one for a core port.
    pub instance: InstanceId,
}

/// One static route of the ALT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// EIDs it leads to.
    pub eid: EidPrefix,
    /// Where Map-Requests for them go.
    pub hop: Hop,
    /// Neighbours are told of it.
    pub announce: bool,
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$item_doc])* $item,)* }

        impl $name {
            /// The texts that name a choice, in the order of the variants.
            pub const NAMES: &'static [&'static str] = &[$($text,)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$item => $text,)* })
            }
        }

        impl FromStr for $name {
            type Err = String;

            /// Fails with what would have been accepted.
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$item),)*
                    _ => Err(format!("write one of {}", Self::NAMES.join(", "))),
                }
            }
        }
    };
}

choice! {
    /// How the steering program is attached to an interface.
    XdpMode {
        /// In the driver where it can, else in the kernel's generic path.
        Auto = "auto",
        /// In the driver or not at all.
        Native = "native",
        /// In the kernel's generic path.
        Generic = "generic",
    }
}

choice! {
    /// How an AF_XDP socket is bound.
    Bind {
        /// Zero-copy where the driver can, else with copies.
        Auto = "auto",
        /// Zero-copy or not at all.
        ZeroCopy = "zerocopy",
        /// With copies.
        Copy = "copy",
    }
}

choice! {
    /// What happens to packets whose mapping is being fetched.
    Hold {
        /// Dropped and counted.
        Drop = "drop",
        /// A few wait for the answer.
        Queue = "queue",
    }
}

choice! {
    /// What is asked of the source of a packet out of a tunnel before it is delivered (RFC 9300 §16).
    SourceCheck {
        /// That it is none of our own EIDs.
        Standard = "standard",
        /// The same, and the mapping of an unknown source is fetched.
        Notify = "notify",
        /// That it has a mapping and came from one of its locators.
        Secure = "secure",
    }
}

choice! {
    /// Which DSCP a packet out of a tunnel has (RFC 9300 §5.3, RFC 2983 §3).
    DscpName {
        /// The outer header's.
        Uniform = "uniform",
        /// Its own.
        Pipe = "pipe",
    }
}

choice! {
    /// How long packets to a locator may be (RFC 9300 §7).
    PathMtuName {
        /// As long as the link that they leave by carries.
        Link = "link",
        /// As long as routers on the way say that they carry.
        Learn = "learn",
    }
}

choice! {
    /// What a missing route into the site means for our mappings (RFC 9300 §11).
    SiteRoutes {
        /// They say that our RLOCs do not reach the EID-prefix.
        Heed = "heed",
        /// Nothing.
        Ignore = "ignore",
    }
}

choice! {
    /// Who asks the mapping system for what workers miss.
    ResolverName {
        /// We do.
        BuiltIn = "built-in",
        /// Clients of the mapping API, which are told of each miss.
        Off = "off",
    }
}

choice! {
    /// What is subscribed to without being named.
    SubscribeName {
        /// What is looked up.
        Lookups = "lookups",
        /// Nothing.
        Off = "off",
    }
}

choice! {
    /// What an ITR is told about an EID that cannot be reached.
    UnreachableName {
        /// To forward natively for a minute (RFC 9301 §8.3).
        NativelyForward = "natively-forward",
        /// To drop for a minute (RFC 6836 §4.2).
        Drop = "drop",
        /// Nothing.
        Silent = "silent",
        /// An ICMP error, over the underlay.
        Icmp = "icmp",
    }
}

choice! {
    /// How messages are authenticated (RFC 9301 §12.5).
    AlgorithmName {
        /// HMAC-SHA-256-128 under a key derived for each message.
        Sha256Hkdf = "sha256-hkdf",
        /// HMAC-SHA-256-128.
        Sha256 = "sha256",
        /// HMAC-SHA-1-96, for routers that know no better.
        Sha1 = "sha1",
    }
}

choice! {
    /// What LISP-SEC's answers are signed with (RFC 9303 §8.2).
    SignatureName {
        /// HMAC-SHA-256-128 and HKDF-SHA256.
        Sha256 = "sha256",
        /// HMAC-SHA-1-96 and HKDF-SHA1-128, for routers that know no better.
        Sha1 = "sha1",
    }
}

choice! {
    /// Who answers Map-Requests for a site of our Map-Server (RFC 9301 §8.3).
    ProxyName {
        /// We, where an ETR asks for it.
        Etr = "etr",
        /// We.
        Always = "always",
        /// An ETR.
        Never = "never",
    }
}

choice! {
    /// Where the messages of deployed routers differ from RFC 9301.
    LegacyName {
        /// Nonces need not grow.
        Nonce = "nonce",
        /// The MAC is not cut off: 20 and 32 octets.
        WholeMac = "whole-mac",
        /// The MAC leaves out xTR-ID and Site-ID, as the RFC has it and others do not.
        RecordsOnly = "records-only",
    }
}

choice! {
    /// Least severe log level that is written.
    LogLevel {
        /// What stopped or will stop the router.
        Error = "error",
        /// What an operator should look at.
        Warn = "warn",
        /// What the router did.
        Info = "info",
        /// Why it did so.
        Debug = "debug",
        /// Every message in and out.
        Trace = "trace",
    }
}

choice! {
    /// Shape of a log line.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// What the configuration is checked against, besides itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Numbers of the cores this process may run on, ascending, not empty.
    pub cores: Vec<usize>,
}

impl Machine {
    /// The machine this process runs on.
    #[must_use]
    pub fn here() -> Self {
        let mut cores: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        cores.sort_unstable();
        if cores.is_empty() {
            cores.push(0);
        }
        Self { cores }
    }
}

/// Reads `file`, lets `flags` win over it, and checks the whole.
///
/// # Errors
/// Every mistake of both, in the order of their lines.
pub fn load(file: Option<&Path>, flags: Draft, machine: &Machine) -> Result<Config, Problems> {
    let Some(path) = file else {
        return validate::validate(&flags, machine, Vec::new(), &problem::Source::flags_only());
    };
    let text = std::fs::read_to_string(path).map_err(|error| Problems::unreadable(path, &error))?;
    parse(path, &text, flags, machine)
}

/// As [`load`], for text already read from `path`; `path` only names the place of a problem.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, flags: Draft, machine: &Machine) -> Result<Config, Problems> {
    let (draft, problems) = file::read(text);
    validate::validate(&flags.over(draft), machine, problems, &problem::Source::file(path, text))
}

impl Config {
    /// One line on what the router would be.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
        let site = self.ports.iter().filter(|port| port.site).count();
        let core = self.ports.iter().filter(|port| port.core).count();
        [
            count(site, "site port", "site ports"),
            count(core, "core port", "core ports"),
            count(self.rlocs.len(), "RLOC", "RLOCs"),
            count(self.database.len(), "EID-prefix", "EID-prefixes"),
            count(self.map_cache.len(), "static mapping", "static mappings"),
            count(self.tunnels.len(), "ALT tunnel", "ALT tunnels"),
            count(self.routes.len(), "ALT route", "ALT routes"),
            count(
                self.speaker.as_ref().map_or(0, |speaker| speaker.neighbors.len()),
                "BGP neighbour",
                "BGP neighbours",
            ),
            count(self.map_servers.len(), "Map-Server", "Map-Servers"),
            count(self.workers.len(), "worker", "workers"),
        ]
        .join(", ")
    }
}

#[cfg(test)]
mod tests;
