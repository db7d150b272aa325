//! Which packets somebody wants to see. A packet is asked twice: as it came, before anything of it is copied, and when it is
//! known what became of it.
//!
//! The first question costs every packet its price while a trace runs, so it is two steps: what stands at the place of the
//! addresses, read with no check at all, lets nearly all packets go that are not meant; the rest is read as the paths read it.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::{Fate, Note};
use crate::{
    cache::Way,
    classify::IpHeader,
    mapping::{Eid, EidPrefix, InstanceId, PortIndex, Prefix},
    verdict::Reason,
    wire::{
        lisp::DataHeader,
        udp::{LISP_DATA, UdpHeader},
        vlan,
    },
};

/// Octets in front of the inner packet of a tunnel, behind the outer IP header.
pub(super) const TUNNEL: usize = UdpHeader::LENGTH + DataHeader::LENGTH;

/// Which packets are wanted: those that meet everything that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// Number of the trace; its records have it too.
    pub trace: u32,
    /// One end of the packet is in this prefix: of the inner packet, where there is one.
    pub eid: Option<EidPrefix>,
    /// One end of the outer header, as it came or as it was written, is this.
    pub rloc: Option<IpAddr>,
    /// Bit n for port n: it came or goes by one of these.
    pub ports: u16,
    /// Dropped for one of these reasons; `None`: for any, and those that were not dropped too.
    pub reasons: Option<Reasons>,
    /// Octets of each packet that are copied at most.
    pub snaplen: u16,
}

/// A set of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reasons(u128);

const _: () = assert!(Reason::ALL.len() <= u128::BITS as usize, "a set of reasons has a bit for each");

impl Reasons {
    /// Every reason.
    pub const ALL: Self = Self(u128::MAX);

    /// The same set with one more.
    #[must_use]
    pub const fn with(self, reason: Reason) -> Self {
        Self(self.0 | 1 << reason as u8)
    }

    /// Whether a reason is one of them.
    #[must_use]
    pub const fn has(self, reason: Reason) -> bool {
        self.0 >> reason as u8 & 1 == 1
    }
}

/// Where the table leads a packet that is not yet decided on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lead<'a> {
    /// There, or nowhere.
    Way(Option<Way<'a>>),
    /// Into a tunnel that is chosen when it is decided on.
    Tunnel,
}

impl Lead<'_> {
    fn may_leave_by(&self, wanted: impl Fn(PortIndex) -> bool) -> bool {
        match self {
            Self::Way(Some(Way::Tunnel(outer))) => wanted(outer.port()),
            Self::Way(Some(Way::Native(next_hop) | Way::Deliver(next_hop))) => wanted(next_hop.port()),
            Self::Way(_) => false,
            Self::Tunnel => true,
        }
    }

    fn may_lead_to(&self, rloc: IpAddr) -> bool {
        match self {
            Self::Way(Some(Way::Tunnel(outer))) => outer.destination() == rloc,
            Self::Way(_) => false,
            Self::Tunnel => true,
        }
    }
}

/// A filter as it is asked of packets as they come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sieve {
    pub(super) filter: Filter,
    eid: Option<(InstanceId, Block)>,
    rloc: Option<Block>,
    /// Whether it depends on where a packet goes.
    pub(super) goes_by_way: bool,
    /// Whether it depends on what becomes of it in another way.
    pub(super) waits: bool,
}

/// A packet that may be wanted, as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sought {
    /// Whether it came with the RLOC.
    of_rloc: bool,
}

impl Sieve {
    pub(super) fn new(filter: Filter) -> Self {
        Self {
            filter,
            eid: filter.eid.map(|eid| (eid.instance, Block::of(eid.prefix))),
            rloc: filter.rloc.map(|rloc| Block::of(Prefix::host(rloc))),
            goes_by_way: filter.rloc.is_some() || filter.ports != u16::MAX,
            waits: filter.reasons.is_some(),
        }
    }

    /// Whether it wants packets that are sent.
    pub(super) const fn wants_sent(&self) -> bool {
        !self.waits
    }

    /// Asks a packet that came in by `port`, whose untagged packets are of `instance`; `None` if it is not wanted, whatever
    /// becomes of it. Not asked where only losses are wanted.
    #[inline]
    pub(super) fn seek(&self, octets: &[u8], port: PortIndex, instance: InstanceId, lead: &Lead<'_>) -> Option<Sought> {
        if self.is_plainly_foreign(octets) || self.goes_by_way && !self.may_go(port, lead) {
            return None;
        }
        if self.eid.is_none() && self.rloc.is_none() {
            return Some(Sought { of_rloc: false });
        }
        let written = self.filter.rloc.is_some_and(|rloc| lead.may_lead_to(rloc));
        if !self.may_meet(octets, instance, written) {
            return None;
        }
        let met = self.filter.meets(octets, instance)?;
        (met.eid && (met.rloc || written)).then_some(Sought { of_rloc: met.rloc })
    }

    fn may_go(&self, port: PortIndex, lead: &Lead<'_>) -> bool {
        self.filter.has_port(port) || lead.may_leave_by(|port| self.filter.has_port(port))
    }

    /// Whether a frame has no address that is wanted, as nearly all have none that are IPv4 without tags, options or tunnel.
    #[inline(always)]
    fn is_plainly_foreign(&self, octets: &[u8]) -> bool {
        let (Some((_, block)), Some(head)) = (&self.eid, octets.first_chunk::<38>()) else { return false };
        let [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, 0x45, ..] = head else { return false };
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let within = match block {
            Block::V4 { bits, mask } => (word(26) & mask == *bits) | (word(30) & mask == *bits),
            Block::V6 { .. } => false,
        };
        !within && [head[36], head[37]] != LISP_DATA.to_be_bytes()
    }

    /// Whether a frame has an address that is wanted, as far as its first octets tell; those of one that is malformed may say so
    /// wrongly.
    #[inline]
    fn may_meet(&self, octets: &[u8], instance: InstanceId, written: bool) -> bool {
        let Ok((_, packet)) = vlan::payload(octets) else { return false };
        let Some(behind) = header_length(packet) else { return false };
        let tunnel = packet.get(behind + 2..behind + 4) == Some(&LISP_DATA.to_be_bytes()[..]);
        if self.rloc.is_some_and(|rloc| !(written || tunnel && rloc.has_end_of(packet))) {
            return false;
        }
        let Some((wanted, block)) = &self.eid else { return true };
        let inner = || {
            let (lisp, inner) = DataHeader::split(packet.get(behind + UdpHeader::LENGTH..)?).ok()?;
            Some(lisp.instance.unwrap_or(0) == wanted.get() && block.has_end_of(inner))
        };
        // What only looks like a tunnel has ends of its own.
        *wanted == instance && block.has_end_of(packet) || tunnel && inner().unwrap_or(false)
    }
}

/// Octets of the header of an IP packet, if it is one, as its first octet says.
#[inline]
pub(super) fn header_length(packet: &[u8]) -> Option<usize> {
    match packet.first()? >> 4 {
        4 => Some(usize::from(packet[0] & 0xf) * 4),
        6 => Some(40),
        _ => None,
    }
}

/// A prefix as a mask.
#[derive(Debug, Clone, Copy)]
enum Block {
    V4 { bits: u32, mask: u32 },
    V6 { bits: u128, mask: u128 },
}

impl Block {
    fn of(prefix: Prefix) -> Self {
        let length = u32::from(prefix.length());
        match prefix.address() {
            IpAddr::V4(v4) => Self::V4 { bits: v4.to_bits(), mask: u32::MAX.checked_shl(32 - length).unwrap_or(0) },
            IpAddr::V6(v6) => Self::V6 { bits: v6.to_bits(), mask: u128::MAX.checked_shl(128 - length).unwrap_or(0) },
        }
    }

    /// Whether one of the addresses at the front of an IP packet lies in it.
    #[inline]
    fn has_end_of(&self, packet: &[u8]) -> bool {
        match self {
            Self::V4 { bits, mask } => packet.first_chunk::<20>().is_some_and(|head| {
                let (words, _) = head.as_chunks::<4>();
                let within = |word: [u8; 4]| u32::from_be_bytes(word) & mask == *bits;
                head[0] >> 4 == 4 && within(words[3]) | within(words[4])
            }),
            Self::V6 { bits, mask } => packet.first_chunk::<40>().is_some_and(|head| {
                let (words, _) = head[8..].as_chunks::<16>();
                let within = |word: [u8; 16]| u128::from_be_bytes(word) & mask == *bits;
                head[0] >> 4 == 6 && within(words[0]) | within(words[1])
            }),
        }
    }
}

/// Which of the addresses that a filter names a packet came with; of what it does not name, always.
struct Met {
    eid: bool,
    rloc: bool,
}

impl Filter {
    const fn has_port(&self, port: PortIndex) -> bool {
        self.ports >> port & 1 == 1
    }

    /// Whether a packet is wanted of which this became; its octets are as they came.
    pub(super) fn wants(&self, note: &Note, octets: &[u8], instance: InstanceId) -> bool {
        if !self.wants_fate(note) {
            return false;
        }
        if self.eid.is_none() && self.rloc.is_none() {
            return true;
        }
        self.meets(octets, instance).is_some_and(|met| met.eid && (met.rloc || self.is_written(note)))
    }

    /// The same of one that was asked before.
    pub(super) fn wants_sought(&self, note: &Note, sought: Sought) -> bool {
        self.wants_fate(note) && (self.rloc.is_none() || sought.of_rloc || self.is_written(note))
    }

    fn wants_fate(&self, note: &Note) -> bool {
        let dropped = |reasons: Reasons| matches!(note.fate, Fate::Dropped(reason) if reasons.has(reason));
        self.reasons.is_none_or(dropped)
            && (self.has_port(note.port) || note.egress.is_some_and(|egress| self.has_port(egress)))
    }

    /// Whether the RLOC is that of the outer header that was written.
    fn is_written(&self, note: &Note) -> bool {
        match note.fate {
            Fate::Encapsulated(to) | Fate::Reencapsulated(to) => self.rloc == Some(to),
            _ => false,
        }
    }

    /// `None`: it is no IP packet.
    fn meets(&self, octets: &[u8], instance: InstanceId) -> Option<Met> {
        let (link, ip) = IpHeader::in_frame(octets).ok()?;
        let tunnel = octets.get(link + ip.length..link + ip.total).and_then(inside);
        let eid = self.eid.is_none_or(|prefix| {
            let (instance, inner) = tunnel.unwrap_or((instance, ip));
            [inner.source, inner.destination].iter().any(|&address| prefix.contains(Eid { instance, address }))
        });
        let of = |rloc: IpAddr| tunnel.is_some() && (ip.source == rloc || ip.destination == rloc);
        Some(Met { eid, rloc: self.rloc.is_none_or(of) })
    }
}

/// The inner header of a LISP data packet, and its instance.
fn inside(payload: &[u8]) -> Option<(InstanceId, IpHeader)> {
    let (udp, data) = UdpHeader::split(payload).ok()?;
    let (lisp, inner) = DataHeader::split(data).ok().filter(|_| udp.destination == LISP_DATA)?;
    Some((InstanceId::new(lisp.instance.unwrap_or(0))?, IpHeader::read(inner).ok()?))
}
