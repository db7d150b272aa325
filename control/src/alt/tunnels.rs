//! GRE tunnels to ALT neighbours: which tunnel a packet came through, and the octets that go into one.
//!
//! ```text
//! kernel, protocol 47:  from, to, GRE octets ─▶ receive ─▶ tunnel and its payload
//!                       GRE octets ◀─ wrap ◀──────────── tunnel and payload
//! ```
//!
//! Tunnels are told apart by (local, remote, key). A checksum is verified wherever there is one; sequence numbers are not
//! spoken and ignored. No tunnel runs inside another: GRE within GRE is a loop, but for keepalives ([`keepalive`]).
//!
//! Sources: RFC 2784 §2, §3.1; RFC 2890 §2.1 (key).
//!
//! [`keepalive`]: super::keepalive

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use altitude_dataplane::wire::WireError as Malformed;

use super::keepalive;
use crate::{
    fault::faults,
    rate::Rate,
    rloc,
    wire::{
        WireError,
        gre::{self, GreHeader, Head},
    },
};

/// Most tunnels of one router.
pub const TUNNELS_MAX: usize = 1024;
/// Longest name of a network interface, octets.
const NAME_MAX: usize = 15;

/// One GRE tunnel; its name is that of its TUN interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Name of the TUN interface.
    pub name: String,
    /// Our end: one of our RLOCs.
    pub local: IpAddr,
    /// The neighbour's end.
    pub remote: IpAddr,
    /// Tells tunnels between the same two ends apart.
    pub key: Option<u32>,
    /// Send a checksum.
    pub checksum: bool,
    /// Addresses of the TUN interface with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What else it shall do.
    pub options: Options,
}

/// What a tunnel does only where it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// ALT datagrams out of it; `None` is the rate of all tunnels.
    pub ingress: Option<Rate>,
    /// Ask the far end whether it is there.
    pub keepalive: Option<keepalive::Settings>,
    /// Have the kernel's GRE do the encapsulation, or an interface of the tunnel's name that is there.
    pub kernel: bool,
}

/// What was inside a GRE packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// An IP packet.
    Packet(&'a [u8]),
    /// A keepalive of the far end: a GRE packet that is to go back to it as it is.
    Keepalive(&'a [u8]),
    /// A keepalive of ours that the far end sent back.
    Returned,
}

/// Which of the configured tunnels: its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelId(pub usize);

/// Why tunnels were refused; the texts say what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// More than [`TUNNELS_MAX`].
    #[error("{0} ALT tunnels: at most {TUNNELS_MAX} are possible")]
    TooMany(usize),
    /// Empty, too long, or holding characters that an interface name may not have.
    #[error("'{0}' cannot name a tunnel interface: use 1 to {NAME_MAX} characters without '/', ':' and spaces")]
    Name(String),
    /// Two tunnels of one name.
    #[error("two ALT tunnels are called '{0}': rename one")]
    DuplicateName(String),
    /// The ends cannot be the ends of a tunnel.
    #[error("ALT tunnel '{name}': {local} and {remote} must be two different unicast addresses of one family")]
    Ends {
        /// Whose.
        name: String,
        /// Our end.
        local: IpAddr,
        /// The neighbour's end.
        remote: IpAddr,
    },
    /// Nothing tells two tunnels apart.
    #[error("ALT tunnels '{0}' and '{1}' have the same ends: give them different keys")]
    Indistinct(String, String),
    /// An interface address that is none.
    #[error("ALT tunnel '{name}': {address}/{length} cannot be the address of an interface")]
    Address {
        /// Whose.
        name: String,
        /// The address.
        address: IpAddr,
        /// Its prefix length, bits.
        length: u8,
    },
    /// One interface address on two tunnels.
    #[error("{0} is the address of two ALT tunnels: take it off one")]
    DuplicateAddress(IpAddr),
}

faults! {
    /// Why a GRE packet was dropped.
    GreFault {
        /// Cut off, or bits that are refused.
        Malformed = "gre-malformed",
        /// A version other than 0.
        Version = "gre-bad-version",
        /// A wrong checksum.
        Checksum = "gre-bad-checksum",
        /// No tunnel has this source and destination.
        UnknownPeer = "gre-unknown-peer",
        /// Tunnels with this source and destination have other keys.
        UnknownKey = "gre-unknown-key",
        /// The payload is neither IPv4 nor IPv6, or not what the header says it is.
        NotIp = "gre-not-ip",
        /// Of a tunnel that the kernel's GRE serves: another's with the same local end had us listen.
        Kernels = "gre-of-the-kernel",
        /// Another GRE packet inside that is no keepalive (RFC 2784 §3.1).
        Recursion = "gre-in-gre",
    }
}

/// The configured tunnels.
#[derive(Debug, Clone)]
pub struct Tunnels {
    tunnels: Vec<Tunnel>,
    by_ends: BTreeMap<(IpAddr, IpAddr, Option<u32>), TunnelId>,
    peers: BTreeSet<(IpAddr, IpAddr)>,
}

impl Tunnels {
    /// Checks `tunnels`; their places in the list become their [`TunnelId`]s.
    ///
    /// # Errors
    /// [`TunnelError`] names the first one that cannot be.
    pub fn new(tunnels: Vec<Tunnel>) -> Result<Self, TunnelError> {
        if tunnels.len() > TUNNELS_MAX {
            return Err(TunnelError::TooMany(tunnels.len()));
        }
        let mut by_ends = BTreeMap::new();
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for (index, tunnel) in tunnels.iter().enumerate() {
            check(tunnel)?;
            if !names.insert(&tunnel.name) {
                return Err(TunnelError::DuplicateName(tunnel.name.clone()));
            }
            if let Some((address, _)) = tunnel.addresses.iter().find(|(address, _)| !addresses.insert(*address)) {
                return Err(TunnelError::DuplicateAddress(*address));
            }
            let ends = (tunnel.remote, tunnel.local, tunnel.key);
            if let Some(TunnelId(other)) = by_ends.insert(ends, TunnelId(index)) {
                return Err(TunnelError::Indistinct(tunnels[other].name.clone(), tunnel.name.clone()));
            }
        }
        let peers = tunnels.iter().map(|tunnel| (tunnel.remote, tunnel.local)).collect();
        Ok(Self { tunnels, by_ends, peers })
    }

    /// The tunnel of this place in the list.
    #[must_use]
    pub fn get(&self, id: TunnelId) -> Option<&Tunnel> {
        self.tunnels.get(id.0)
    }

    /// The tunnel of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<TunnelId> {
        self.tunnels.iter().position(|tunnel| tunnel.name == name).map(TunnelId)
    }

    /// Every tunnel in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (TunnelId, &Tunnel)> {
        self.tunnels.iter().enumerate().map(|(index, tunnel)| (TunnelId(index), tunnel))
    }

    /// The tunnel that `octets`, which came `from` a peer `to` an address of ours in an IP packet of protocol 47, belong to,
    /// and what is inside.
    ///
    /// # Errors
    /// [`GreFault`]: drop and count.
    pub fn receive<'a>(&self, from: IpAddr, to: IpAddr, octets: &'a [u8]) -> Result<(TunnelId, Payload<'a>), GreFault> {
        if !self.peers.contains(&(from, to)) {
            return Err(GreFault::UnknownPeer);
        }
        if gre::version(octets).is_some_and(|version| version != 0) {
            return Err(GreFault::Version);
        }
        let (header, payload) = GreHeader::split(octets).map_err(|error| match error {
            WireError::Malformed(Malformed::Checksum(_)) => GreFault::Checksum,
            _ => GreFault::Malformed,
        })?;
        let tunnel = *self.by_ends.get(&(from, to, header.key)).ok_or(GreFault::UnknownKey)?;
        if self.tunnels[tunnel.0].options.kernel {
            return Err(GreFault::Kernels);
        }
        if header.protocol == gre::KEEPALIVE {
            return Ok((tunnel, Payload::Returned));
        }
        if protocol(payload) != Some(header.protocol) {
            return Err(GreFault::NotIp);
        }
        match keepalive::inner_gre(payload) {
            None => Ok((tunnel, Payload::Packet(payload))),
            Some(inner) if keepalive::is_of(&inner, from, to, header.key) => {
                Ok((tunnel, Payload::Keepalive(inner.gre)))
            }
            Some(_) => Err(GreFault::Recursion),
        }
    }

    /// The GRE header to send `packet` with, from the tunnel's local end to the remote one as protocol 47. `None` if there is
    /// no such tunnel or `packet` is no IP packet.
    #[must_use]
    pub fn head(&self, tunnel: TunnelId, packet: &[u8]) -> Option<Head> {
        let tunnel = self.get(tunnel)?;
        let header =
            GreHeader { checksum: tunnel.checksum, key: tunnel.key, sequence: None, protocol: protocol(packet)? };
        Some(header.head(packet))
    }

    /// GRE header and `packet` in one; as [`head`](Self::head).
    #[must_use]
    pub fn wrap(&self, tunnel: TunnelId, packet: &[u8]) -> Option<Vec<u8>> {
        Some([self.head(tunnel, packet)?.as_slice(), packet].concat())
    }

    /// The packet that asks the far end of a tunnel for a sign of life: to be sent through the tunnel like any other.
    #[must_use]
    pub fn keepalive(&self, tunnel: TunnelId) -> Option<Vec<u8>> {
        let tunnel = self.get(tunnel)?;
        let header = GreHeader { checksum: tunnel.checksum, key: tunnel.key, sequence: None, protocol: gre::KEEPALIVE };
        Some(keepalive::packet(tunnel.remote, tunnel.local, header.head(&[]).as_slice()))
    }
}

/// The EtherType of an IP packet, by its first nibble.
fn protocol(packet: &[u8]) -> Option<u16> {
    match packet.first()? >> 4 {
        4 => Some(gre::IPV4),
        6 => Some(gre::IPV6),
        _ => None,
    }
}

fn check(tunnel: &Tunnel) -> Result<(), TunnelError> {
    let name = tunnel.name.clone();
    let odd = |octet: char| octet == '/' || octet == ':' || octet.is_whitespace() || octet.is_control();
    if name.is_empty() || name.len() > NAME_MAX || name.contains(odd) || name == "." || name == ".." {
        return Err(TunnelError::Name(name));
    }
    let (local, remote) = (tunnel.local, tunnel.remote);
    let one_family = local.is_ipv4() == remote.is_ipv4();
    if !one_family || local == remote || !rloc::routable(local) || !rloc::routable(remote) {
        return Err(TunnelError::Ends { name, local, remote });
    }
    for &(address, length) in &tunnel.addresses {
        let limit = if address.is_ipv4() { 32 } else { 128 };
        let unicast = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
        if length == 0 || length > limit || !unicast || address == remote || address == local {
            return Err(TunnelError::Address { name, address, length });
        }
    }
    Ok(())
}
