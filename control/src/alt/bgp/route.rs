//! What all parts of the speaker call a route: neighbours, families, path attributes, updates.
//!
//! Source: RFC 4271 §4.3, §5 (attributes), RFC 4760 (families), RFC 6793 (4-octet AS numbers), RFC 1997 (communities).

use std::net::{IpAddr, Ipv4Addr};

use altitude_dataplane::mapping::Prefix;

/// Which neighbour: its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub usize);

/// What a session carries: unicast (SAFI 1) of one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// AFI 1.
    V4,
    /// AFI 2.
    V6,
}

impl Family {
    /// Both, in the order of their AFI.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of a prefix.
    #[must_use]
    pub fn of(prefix: &Prefix) -> Self {
        if prefix.address().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// ORIGIN; the lower is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// 0.
    Igp,
    /// 1.
    Egp,
    /// 2.
    Incomplete,
}

/// One segment of an AS path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// In the order travelled, the last AS first.
    Sequence(Box<[u32]>),
    /// In no order: what an aggregate is made of.
    Set(Box<[u32]>),
}

/// AS_PATH, AS4_PATH already merged in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AsPath(pub Box<[Segment]>);

impl AsPath {
    /// Number of ASes as the decision process counts them: a set counts one (RFC 4271 §9.1.2.2).
    #[must_use]
    pub fn length(&self) -> usize {
        let count = |segment: &Segment| match segment {
            Segment::Sequence(asns) => asns.len(),
            Segment::Set(_) => 1,
        };
        self.0.iter().map(count).sum()
    }

    /// Whether it has been through this AS.
    #[must_use]
    pub fn contains(&self, asn: u32) -> bool {
        self.0.iter().any(|segment| match segment {
            Segment::Sequence(asns) | Segment::Set(asns) => asns.contains(&asn),
        })
    }
}

/// A transitive attribute that is not understood here and goes on as it came, with the Partial bit (RFC 4271 §5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Foreign {
    /// Attribute flags.
    pub flags: u8,
    /// Attribute type code.
    pub kind: u8,
    /// Its octets.
    pub value: Box<[u8]>,
}

/// Path attributes without the next hop; routes that were announced together share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH.
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF, from a neighbour of our own AS only.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR: AS and router.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// COMMUNITIES.
    pub communities: Box<[u32]>,
    /// The rest.
    pub foreign: Box<[Foreign]>,
}

/// One UPDATE, its families together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// No longer reachable through the neighbour; also what an error in an attribute made so (RFC 7606 §2).
    pub withdrawn: Vec<Prefix>,
    /// Reachable, all with `attributes`: at most one next hop for each family.
    pub announced: Vec<(IpAddr, Vec<Prefix>)>,
    /// Of `announced`; there whenever that is not empty.
    pub attributes: Option<Attributes>,
}
