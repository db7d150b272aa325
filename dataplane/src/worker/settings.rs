//! What a worker is told at start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    mapping::{InstanceId, MacAddress},
    proxy::Proxy,
};

/// What happens to packets while their mapping is fetched (RFC 9300 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// They are dropped.
    Drop,
    /// They wait, within the bounds of [`hold`](crate::hold).
    Queue,
}

/// What a worker asks of the source of a packet out of a tunnel before it delivers it (RFC 9300 §16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceCheck {
    /// That it is none of our own EIDs.
    #[default]
    Standard,
    /// The same; and the mapping of a source that has none is asked for.
    Notify,
    /// That it has a mapping, and that the packet came from one of its locators.
    Secure,
}

/// Which DSCP a packet has that comes out of a tunnel (RFC 9300 §5.3, RFC 2983 §3). Its ECN field goes by RFC 6040 in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DscpModel {
    /// What the core made of it: that of the outer header.
    #[default]
    Uniform,
    /// Its own: what the core does to the outer header ends with the tunnel.
    Pipe,
}

impl DscpModel {
    /// Bits of the inner TOS that stay as they are.
    pub(crate) const fn kept(self) -> u8 {
        match self {
            Self::Uniform => 0,
            Self::Pipe => 0xfc,
        }
    }
}

/// What a port is for, and who we are on it.
#[derive(Debug, Clone, Copy)]
pub struct PortRole {
    /// Hosts of the site are behind it.
    pub site: bool,
    /// Other tunnel routers are behind it. A port may be both.
    pub core: bool,
    /// Networks without LISP are behind it, of which we attract packets to EIDs: see [`proxy`](crate::proxy). Such a port may
    /// be a core port, and no site port.
    pub native: bool,
    /// The instance of the site behind it (RFC 9300 §8), or that of the EIDs which packets out of it are for.
    pub instance: InstanceId,
    /// Its link-layer address.
    pub mac: MacAddress,
    /// Source of ICMP errors to hosts behind it; without one none is sent.
    pub address4: Option<Ipv4Addr>,
    /// Source of ICMPv6 errors to hosts behind it; without one none is sent.
    pub address6: Option<Ipv6Addr>,
}

/// What a worker is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// In the order of the ports.
    pub ports: Vec<PortRole>,
    /// Our routing locators.
    pub rlocs: Vec<IpAddr>,
    /// Seed of the flow hash; random, the same for all workers of a process.
    pub hash_seed: u32,
    /// Whether frames wait for their mapping.
    pub hold: Hold,
    /// How sources of packets out of tunnels are checked.
    pub source_check: SourceCheck,
    /// What we do for other sites.
    pub proxy: Proxy,
    /// Most frames that a turn takes from a port, 1 … [`BATCH`](crate::port::BATCH).
    pub batch: usize,
}
