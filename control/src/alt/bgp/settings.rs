//! What an operator says of the speaker and of its neighbours: plain values, already checked by the configuration.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};

use zeroize::Zeroizing;

use super::route::{Family, PeerId};
use crate::alt::tunnels::TunnelId;

/// The speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Our AS number; never 0, nor AS_TRANS (23456).
    pub asn: u32,
    /// Our BGP Identifier; never 0.0.0.0.
    pub router_id: Ipv4Addr,
    /// The neighbours; a [`PeerId`] is a place in this list.
    pub neighbors: Vec<NeighborSettings>,
    /// Aggregates announced once a component is there.
    pub aggregates: Vec<Aggregate>,
    /// EID-prefixes announced as our own from the start.
    pub originate: Vec<EidPrefix>,
    /// How long neighbours are asked to keep our routes while we restart, seconds, at most 4095 (RFC 4724 §3).
    pub restart_time: u16,
    /// Longest time a neighbour's routes are kept as stale, whatever it asks for (RFC 4724 §4.2).
    pub stale_time: Duration,
    /// Whether this start is a restart over which the EID routes were kept: OPENs then carry the Restart State bit.
    pub restarting: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            asn: 0,
            router_id: Ipv4Addr::UNSPECIFIED,
            neighbors: Vec::new(),
            aggregates: Vec::new(),
            originate: Vec::new(),
            restart_time: 120,
            stale_time: Duration::from_secs(360),
            restarting: false,
        }
    }
}

/// Key of TCP-MD5 (RFC 2385), 1 … 80 octets: shown nowhere, and wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A key of these octets.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(Zeroizing::new(password))
    }

    /// What the kernel is told.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborSettings {
    /// What operators see.
    pub name: String,
    /// Whose ALT it belongs to; its routes enter the table of this instance only.
    pub instance: InstanceId,
    /// The tunnel it is at the far end of.
    pub tunnel: TunnelId,
    /// Our addresses on that tunnel with the lengths of their subnets.
    pub tunnel_addresses: Vec<(IpAddr, u8)>,
    /// Our end of the TCP connection, one of `tunnel_addresses`.
    pub local: IpAddr,
    /// The neighbour's address.
    pub remote: IpAddr,
    /// Its AS number.
    pub asn: u32,
    /// Signs its connections.
    pub password: Option<Password>,
    /// Send with TTL 255 and accept nothing less (GTSM, RFC 5082).
    pub ttl_security: bool,
    /// Hold time we propose, seconds: 0 (none) or at least 3.
    pub hold: u16,
    /// Time between attempts to connect, seconds; jittered.
    pub connect_retry: u16,
    /// Least time between two announcements of the same prefix (MinRouteAdvertisementInterval, RFC 4271 §9.2.1.1).
    pub advertisement_interval: Duration,
    /// Wait for the neighbour to connect.
    pub passive: bool,
    /// What the session carries.
    pub families: Families,
    /// How many prefixes the neighbour may announce.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Which of its routes are taken.
    pub import: PrefixList,
    /// Which of our routes it is told.
    pub export: PrefixList,
    /// Keep its routes over its restart, and ask it to keep ours (RFC 4724).
    pub graceful_restart: bool,
    /// Hold back routes that flap (RFC 2439).
    pub dampening: Option<Dampening>,
    /// Announce the default route of each family to it.
    pub default_originate: bool,
}

impl NeighborSettings {
    /// A neighbour with nothing but defaults.
    #[must_use]
    pub fn new(tunnel: TunnelId, local: IpAddr, length: u8, remote: IpAddr, asn: u32) -> Self {
        Self {
            name: remote.to_string(),
            instance: InstanceId::DEFAULT,
            tunnel,
            tunnel_addresses: vec![(local, length)],
            local,
            remote,
            asn,
            password: None,
            ttl_security: false,
            hold: 90,
            connect_retry: 5,
            advertisement_interval: Duration::ZERO,
            passive: false,
            families: Families::ALL,
            max_prefixes: None,
            import: PrefixList::default(),
            export: PrefixList::default(),
            graceful_restart: true,
            dampening: None,
            default_originate: false,
        }
    }
}

/// A set of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Families {
    /// IPv4 unicast.
    pub v4: bool,
    /// IPv6 unicast.
    pub v6: bool,
}

impl Families {
    /// Both.
    pub const ALL: Self = Self { v4: true, v6: true };
    /// None.
    pub const NONE: Self = Self { v4: false, v6: false };

    /// Whether `family` is among them.
    #[must_use]
    pub const fn contains(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Adds `family`.
    pub const fn insert(&mut self, family: Family) {
        match family {
            Family::V4 => self.v4 = true,
            Family::V6 => self.v6 = true,
        }
    }

    /// Those of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { v4: self.v4 && other.v4, v6: self.v6 && other.v6 }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.v4 && !self.v6
    }

    /// Each of them, in the order of their AFI.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |family| self.contains(*family))
    }
}

impl FromIterator<Family> for Families {
    fn from_iter<T: IntoIterator<Item = Family>>(families: T) -> Self {
        let mut set = Self::NONE;
        families.into_iter().for_each(|family| set.insert(family));
        set
    }
}

/// A bound on what a neighbour announces, counted over its families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// Most prefixes that are fine.
    pub limit: u32,
    /// What happens to one more.
    pub action: MaxPrefixesAction,
}

/// What happens to a neighbour above its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxPrefixesAction {
    /// It is said and counted; the routes beyond are not taken.
    Warn,
    /// The session ends with Cease, Maximum Number of Prefixes Reached (RFC 4486), and is tried again after this time.
    Restart(Duration),
    /// The session ends in the same way and stays down until an operator clears it.
    Idle,
}

/// A shorter prefix announced in place of many (RFC 6836 §7.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// What is announced.
    pub eid: EidPrefix,
    /// The neighbours that originate its components: all of them must be our own neighbours (rule ALT-8).
    pub components: Vec<PeerId>,
    /// Keep the components to ourselves.
    pub summary_only: bool,
}

/// Rules tried in order; the first that matches decides. A list without rules permits all, one with rules denies the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrefixList(pub Vec<Rule>);

/// One line of a [`PrefixList`]: prefixes inside `prefix` of `ge` to `le` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Permit, or deny.
    pub permit: bool,
    /// The block.
    pub prefix: Prefix,
    /// Shortest length, bits.
    pub ge: u8,
    /// Longest length, bits.
    pub le: u8,
}

/// Flap dampening (RFC 2439 §4.2); penalties in thousandths of a flap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dampening {
    /// Time in which a penalty falls by half.
    pub half_life: Duration,
    /// Penalty below which a route is used again.
    pub reuse: u32,
    /// Penalty above which a route is held back.
    pub suppress: u32,
    /// Longest time a stable route is held back.
    pub max_suppress: Duration,
}

impl Default for Dampening {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(15 * 60),
            reuse: 750,
            suppress: 2000,
            max_suppress: Duration::from_secs(60 * 60),
        }
    }
}
