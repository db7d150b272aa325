//! What the engine is told at start.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::EidPrefix;

use crate::rate::Rate;

/// What an ITR is told about an EID that no route leads on to. RFC 6836 §4.2 and RFC 9301 §8.3 differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreachable {
    /// Natively-Forward for a minute (RFC 9301 §8.3).
    #[default]
    NativelyForward,
    /// Drop for a minute (RFC 6836 §4.2).
    Drop,
    /// Nothing (RFC 6836 §5.3 leaves it open).
    Silent,
    /// An ICMP error to the RLOC that the datagram came from, over the underlay (RFC 6836 §5.3); one too when its TTL is
    /// used up.
    Icmp,
}

/// What the engine is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our RLOCs.
    pub rlocs: Vec<IpAddr>,
    /// Our own EID-Prefixes: what asks for them is delivered.
    pub database: Vec<EidPrefix>,
    /// EID-Prefixes of the sites of our Map-Server, registered or not: what asks for them is its business.
    pub sites: Vec<EidPrefix>,
    /// ALT datagrams out of one tunnel that has no rate of its own (RFC 6836 §4.1).
    pub ingress: Rate,
    /// What to say about EIDs without a way on.
    pub unreachable: Unreachable,
    /// Negative Map-Replies to one ITR-RLOC about one EID.
    pub each: Rate,
    /// Negative Map-Replies altogether.
    pub all: Rate,
    /// ICMP errors to one RLOC.
    pub icmp_each: Rate,
    /// ICMP errors altogether.
    pub icmp_all: Rate,
    /// Most pairs of ITR-RLOC and EID whose rate is watched at a time, and most RLOCs that get ICMP errors.
    pub watched_max: usize,
}

impl Settings {
    /// The defaults: 20 000 datagrams a second out of each tunnel; negative answers as the responder limits its own; an
    /// ICMP error a second for an RLOC, and a hundred altogether.
    #[must_use]
    pub const fn new(rlocs: Vec<IpAddr>, database: Vec<EidPrefix>) -> Self {
        Self {
            rlocs,
            database,
            sites: Vec::new(),
            ingress: Rate { burst: 20_000, every: Duration::from_micros(50) },
            unreachable: Unreachable::NativelyForward,
            each: Rate { burst: 3, every: Duration::from_secs(3) },
            all: Rate { burst: 1000, every: Duration::from_millis(1) },
            icmp_each: Rate { burst: 3, every: Duration::from_secs(1) },
            icmp_all: Rate { burst: 100, every: Duration::from_millis(10) },
            watched_max: 16_384,
        }
    }
}
