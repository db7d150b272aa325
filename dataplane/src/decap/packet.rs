//! A packet from the core, between what is read of it and what is decided.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::{
    batch::ASKS,
    classify::IpHeader,
    features::Arrived,
    mapping::{Eid, InstanceId},
    verdict::{Miss, Wanted},
    wire::lisp::DataHeader,
};

/// What the outer headers say, once they passed.
pub(super) struct Outer {
    /// Octets in front of the outer IP header.
    pub(super) link: usize,
    /// Octets in front of the inner packet.
    pub(super) length: usize,
    /// Octets of the UDP payload behind the LISP header.
    pub(super) inner: usize,
    pub(super) instance: InstanceId,
    pub(super) tos: u8,
    pub(super) ttl: u8,
}

/// What an inner header says, once it passed.
pub(super) struct Inner {
    pub(super) v4: bool,
    pub(super) total: u16,
    pub(super) tos: u8,
    pub(super) ttl: u8,
}

/// A packet from the core, between its two parts: its length, where it and its outer header start, and the TOS and TTL that
/// it will have.
///
/// One word, as [`SitePacket`](crate::encap::SitePacket).
#[derive(Debug, Clone, Copy)]
pub(crate) struct CorePacket(pub(crate) u64);

impl CorePacket {
    const ODD: u64 = 1 << 16;
    const NOT_CAPABLE: u64 = 1 << 17;
    const V4: u64 = 1 << 56;
    const CHANGED: u64 = 1 << 57;
    const ASKS: u64 = ASKS;

    #[inline(always)]
    pub(super) fn new(outer: &Outer, inner: &Inner, asks: bool) -> Self {
        let set = |is: bool, bit: u64| if is { bit } else { 0 };
        let ecn = Ecn::combine(inner.tos, outer.tos);
        // The smaller of both; the ETR takes no hop off of its own (RFC 9300 §5.3).
        let ttl = inner.ttl.min(outer.ttl);
        // DSCP by the uniform model (RFC 9300 §5.3, RFC 2983 §3); what stays by the pipe model is put back as it is written.
        let tos = outer.tos & 0xfc | ecn.codepoint.unwrap_or(0);
        let changed = (tos != inner.tos) | (ttl != inner.ttl);
        let flags = set(ecn.odd, Self::ODD)
            | set(ecn.codepoint.is_none(), Self::NOT_CAPABLE)
            | set(inner.v4, Self::V4)
            | set(changed, Self::CHANGED)
            | set(asks, Self::ASKS);
        let places = (outer.length as u64) << 24 | (outer.link as u64) << 48;
        Self(u64::from(ttl) | u64::from(tos) << 8 | u64::from(inner.total) << 32 | places | flags)
    }

    /// What its TTL will be; 0: it must be dropped.
    #[inline(always)]
    pub(super) const fn ttl(self) -> u8 {
        self.0 as u8
    }

    /// What its TOS will be by the uniform model.
    #[inline(always)]
    pub(super) const fn tos(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Whether TTL or TOS differ from those that it has.
    #[inline(always)]
    pub(super) const fn is_changed(self) -> bool {
        self.0 & Self::CHANGED != 0
    }

    /// Whether its ECN fields do not go together but may pass.
    #[inline(always)]
    pub(super) const fn is_odd(self) -> bool {
        self.0 & Self::ODD != 0
    }

    /// Whether its ECN fields say that it must be dropped.
    #[inline(always)]
    pub(super) const fn is_not_capable(self) -> bool {
        self.0 & Self::NOT_CAPABLE != 0
    }

    /// Octets of the inner packet.
    #[inline(always)]
    pub(super) const fn total(self) -> usize {
        (self.0 >> 32 & 0xffff) as usize
    }

    /// Octets in front of it.
    #[inline(always)]
    pub(super) const fn outer(self) -> usize {
        (self.0 >> 24 & 0xff) as usize
    }

    /// Octets in front of the outer IP header.
    #[inline(always)]
    pub(super) const fn link(self) -> usize {
        (self.0 >> 48 & 0xff) as usize
    }

    /// Whether the inner packet is IPv4.
    #[inline(always)]
    pub(super) const fn is_v4(self) -> bool {
        self.0 & Self::V4 != 0
    }

    /// Whether the entry of its source has to be seen first.
    #[inline(always)]
    pub(super) const fn asks(self) -> bool {
        self.0 & Self::ASKS != 0
    }

    /// The instance that its LISP header names: the last octets in front of it.
    #[cold]
    pub(crate) fn instance(self, octets: &[u8]) -> InstanceId {
        let (header, _) = DataHeader::split(&octets[self.outer() - 8..]).expect("it was read before");
        InstanceId::new(header.instance.unwrap_or(0)).unwrap_or_default()
    }

    /// The RLOC it came from.
    #[inline(always)]
    pub(super) fn rloc(self, octets: &[u8]) -> IpAddr {
        let ip = &octets[self.link()..];
        if ip[0] >> 4 == 4 {
            IpAddr::from([ip[12], ip[13], ip[14], ip[15]])
        } else {
            IpAddr::from(<[u8; 16]>::try_from(&ip[8..24]).expect("16 octets"))
        }
    }

    /// What header features go by.
    pub(super) fn arrived(self, octets: &[u8]) -> Arrived {
        let (header, inner) = DataHeader::split(&octets[self.outer() - 8..]).expect("it was read before");
        let ip = IpHeader::read(inner).expect("it was read before");
        let instance = InstanceId::new(header.instance.unwrap_or(0)).unwrap_or_default();
        let source = Eid { instance, address: ip.source };
        Arrived { header, rloc: self.rloc(octets), source, destination: ip.destination }
    }

    /// Asks for what is missing for one of its addresses.
    #[cold]
    pub(super) fn miss(self, octets: &[u8], wanted: Wanted) -> Miss {
        let header = IpHeader::read(&octets[self.outer()..]).expect("it was read before");
        let (source, destination) = match wanted {
            Wanted::Neighbour => (header.source, header.destination),
            // The mapping of who sent it.
            Wanted::Mapping => (header.destination, header.source),
        };
        let instance = self.instance(octets);
        Miss { wanted, destination: Eid { instance, address: destination }, source }
    }
}

/// What becomes of the ECN field on decapsulation.
struct Ecn {
    /// Goes out in the inner header; `None`: the packet must be dropped.
    codepoint: Option<u8>,
    /// A combination that should not happen.
    odd: bool,
}

impl Ecn {
    /// The table of RFC 6040 §4.2, figure 4: row by inner, column by outer; codepoints 00 Not-ECT, 01 ECT(1), 10
    /// ECT(0), 11 CE.
    #[inline]
    fn combine(inner: u8, outer: u8) -> Self {
        const ODD: u8 = 0x10;
        const DROP: u8 = 0x20;
        const TABLE: [[u8; 4]; 4] = [
            // outer: Not-ECT, ECT(1), ECT(0), CE
            [0b00, ODD, ODD, DROP],
            [0b01, 0b01, 0b01 | ODD, 0b11],
            [0b10, 0b01, 0b10, 0b11],
            [0b11, 0b11 | ODD, 0b11, 0b11],
        ];
        let cell = TABLE[usize::from(inner & 3)][usize::from(outer & 3)];
        Self { codepoint: (cell & DROP == 0).then_some(cell & 3), odd: cell & ODD != 0 }
    }
}
