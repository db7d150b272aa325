//! Which addresses may stand as an RLOC, and where an answer goes.

#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use crate::wire::MapRequest;

/// Whether a packet may be sent to or come from `address`: neither unspecified, loopback, multicast, broadcast nor
/// IPv6 link-local (RFC 9301 §5.4). 240.0.0.0/4 is fine: private networks number RLOCs from it.
#[must_use]
pub const fn routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.octets()[0] == 0 || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

/// The address families that an xTR has RLOCs of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Families {
    /// It can send IPv4 packets of its own.
    pub v4: bool,
    /// It can send IPv6 packets of its own.
    pub v6: bool,
}

impl Families {
    /// The families of `rlocs`.
    #[must_use]
    pub fn of(rlocs: &[IpAddr]) -> Self {
        Self { v4: rlocs.iter().any(IpAddr::is_ipv4), v6: rlocs.iter().any(IpAddr::is_ipv6) }
    }

    /// Whether `address` is of one of them.
    #[must_use]
    pub const fn reach(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }
}

/// Where the answer to `request`, which came from `source`, goes: the ITR-RLOC that sent it if it is listed, else the
/// first that a packet of ours can reach; to the port the request came from (RFC 9301 §5.5). `None`: nowhere.
#[must_use]
pub fn answer_address(request: &MapRequest, source: SocketAddr, ours: Families) -> Option<SocketAddr> {
    let reachable = |address: &&IpAddr| routable(**address) && ours.reach(**address);
    let mut candidates = request.itr_rlocs.iter().filter(reachable);
    let first = *candidates.clone().next()?;
    let chosen = candidates.find(|address| **address == source.ip()).copied().unwrap_or(first);
    (source.port() != 0).then_some(SocketAddr::new(chosen, source.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-12.
    #[test]
    fn only_unicast_addresses_are_rlocs() {
        for (text, expected) in [
            ("240.0.254.10", true),
            ("10.0.0.1", true),
            ("2001:db8::1", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("127.0.0.1", false),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("ff02::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(routable(text.parse().unwrap()), expected, "{text}");
        }
    }
}
