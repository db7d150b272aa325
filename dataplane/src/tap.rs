//! The tap: copies of packets, with what became of them, for somebody who looks on.
//!
//! ```text
//! control thread ─ order: a filter, or nothing any more ─→ worker      looked at once a turn
//! control thread ←─ records, and the octets they speak of ─ worker     what does not fit is counted, and never waited for
//! ```
//!
//! While nobody looks on, a turn pays one look at the queue of orders. While somebody does, every packet is copied before it
//! is decided on, for what is decided changes it in place, and frames go together in small batches; all memory for that is
//! there from the start.

#![forbid(unsafe_code)]

use std::{net::IpAddr, time::Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::{
    classify::{IpHeader, Rlocs},
    counters::Counters,
    decap::is_for_etr,
    frame::SLOT,
    mapping::{Eid, EidPrefix, InstanceId, PortIndex},
    verdict::{Reason, Wanted},
    wire::{lisp::DataHeader, udp::UdpHeader},
};

/// Packets that wait for the control thread, of one worker.
pub const RECORDS: usize = 8192;
/// The same, octets.
pub const OCTETS: usize = 1 << 20;
/// Orders under way to one worker.
const ORDERS: usize = 4;
/// Frames that go together while somebody looks on.
pub(crate) const TOGETHER: usize = 16;
/// Where the copy of a frame that comes alone is kept.
pub(crate) const ALONE: usize = TOGETHER;
/// Octets in front of the inner packet of a tunnel, behind the outer IP header.
const TUNNEL: usize = UdpHeader::LENGTH + DataHeader::LENGTH;
/// No link-layer header is as long as this, and every tunnel header longer.
const SHORTEST_TUNNEL: usize = 36;

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

/// Which way a packet goes by its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It came in.
    In,
    /// It goes out.
    Out,
}

/// How a packet came to be decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It arrived.
    Arrived,
    /// It was held, and the answer came.
    Waited,
    /// It is part of one that was split.
    Part,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Sent to this RLOC with an outer header.
    Encapsulated(IpAddr),
    /// The inner packet was sent on.
    Decapsulated,
    /// Sent from one tunnel into another, to this RLOC.
    Reencapsulated(IpAddr),
    /// Sent without an outer header.
    Native,
    /// Cut in two, each decided on by itself.
    Split,
    /// Held until what is missing for it comes.
    Held(Wanted, Eid),
    /// Dropped.
    Dropped(Reason),
    /// An ICMP error of ours, sent.
    IcmpError,
}

/// One packet. Its octets are the next [`captured`](Self::captured) ones of the other ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Number of the trace that it belongs to.
    pub trace: u32,
    /// Begin of the turn that decided.
    pub at: Instant,
    /// The port that it came in by or goes out by.
    pub port: PortIndex,
    /// Which of the two.
    pub side: Side,
    /// How it came to be decided on.
    pub came: Came,
    /// What became of it.
    pub fate: Fate,
    /// Port that a packet which was sent goes out by.
    pub egress: Option<PortIndex>,
    /// Octets of the packet.
    pub length: u32,
    /// The first so many of them were copied.
    pub captured: u32,
}

/// The control thread's end.
#[derive(Debug)]
pub struct Watch {
    orders: Producer<Option<Filter>>,
    records: Consumer<Record>,
    octets: Consumer<u8>,
}

impl Watch {
    /// Tells the worker what is wanted from its next turn on; `None`: nothing any more. False if it has not yet taken up what
    /// it was told before.
    #[must_use]
    pub fn order(&mut self, filter: Option<Filter>) -> bool {
        self.orders.push(filter).is_ok()
    }

    /// Whether the worker has taken up all that it was told: a begin and an end find room then.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.orders.slots() == ORDERS
    }

    /// Takes the next record out and appends its octets to `out`.
    pub fn take(&mut self, out: &mut Vec<u8>) -> Option<Record> {
        let record = self.records.pop().ok()?;
        // Octets go in before their record does.
        if let Ok(chunk) = self.octets.read_chunk(record.captured as usize) {
            let (front, behind) = chunk.as_slices();
            out.extend_from_slice(front);
            out.extend_from_slice(behind);
            chunk.commit_all();
        }
        Some(record)
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct Tap {
    orders: Consumer<Option<Filter>>,
    records: Producer<Record>,
    octets: Producer<u8>,
    filter: Option<Filter>,
    kept: Box<[Kept]>,
}

/// A packet as it was before it was decided on.
#[derive(Debug, Clone)]
struct Kept {
    octets: [u8; SLOT],
    length: usize,
    /// Where its frame started.
    start: usize,
}

/// What is to be said of a packet, beside its octets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Note {
    pub(crate) at: Instant,
    pub(crate) port: PortIndex,
    pub(crate) side: Side,
    pub(crate) came: Came,
    pub(crate) fate: Fate,
    pub(crate) egress: Option<PortIndex>,
}

/// Both ends of a tap.
#[must_use]
pub fn tap() -> (Tap, Watch) {
    let (orders_in, orders) = RingBuffer::new(ORDERS);
    let (records, records_out) = RingBuffer::new(RECORDS);
    let (octets, octets_out) = RingBuffer::new(OCTETS);
    let kept = vec![Kept { octets: [0; SLOT], length: 0, start: 0 }; TOGETHER + 1].into();
    let tap = Tap { orders, records, octets, filter: None, kept };
    (tap, Watch { orders: orders_in, records: records_out, octets: octets_out })
}

impl Tap {
    /// Takes up what it was told; whether anybody looks on.
    #[inline]
    pub(crate) fn attend(&mut self) -> bool {
        while let Ok(order) = self.orders.pop() {
            self.filter = order;
        }
        self.is_on()
    }

    /// Whether anybody looks on.
    #[inline]
    pub(crate) const fn is_on(&self) -> bool {
        self.filter.is_some()
    }

    /// Copies a packet before it is decided on.
    pub(crate) fn keep(&mut self, place: usize, octets: &[u8], start: usize) {
        let kept = &mut self.kept[place];
        kept.octets[..octets.len()].copy_from_slice(octets);
        (kept.length, kept.start) = (octets.len(), start);
    }

    /// What became of the packet kept at `place` that is sent as `sent`, in a frame that starts at `start` now.
    pub(crate) fn sent_as(&self, place: usize, sent: &[u8], start: usize, core: bool, rlocs: &Rlocs) -> Fate {
        let kept = &self.kept[place];
        let octets = &kept.octets[..kept.length];
        let Ok((link, ip)) = IpHeader::in_frame(octets) else { return Fate::Native };
        let tunnelled = core && is_for_etr(octets, rlocs);
        // What lies behind did not move.
        let behind = kept.start + link + if tunnelled { ip.length + TUNNEL } else { 0 };
        let rloc = if behind - start < SHORTEST_TUNNEL { None } else { IpHeader::in_frame(sent).ok() };
        match (rloc, tunnelled) {
            (Some((_, outer)), false) => Fate::Encapsulated(outer.destination),
            (Some((_, outer)), true) => Fate::Reencapsulated(outer.destination),
            (None, true) => Fate::Decapsulated,
            (None, false) => Fate::Native,
        }
    }

    /// Passes on the packet kept at `place`, if it is wanted; and, of one that is `sent`, the packet that it became.
    pub(crate) fn note(
        &mut self,
        note: Note,
        place: usize,
        sent: Option<&[u8]>,
        instance: InstanceId,
        counters: &Counters,
    ) {
        let Some(filter) = self.filter else { return };
        let Kept { octets, length, .. } = &self.kept[place];
        let octets = &octets[..*length];
        if !filter.wants(&note, octets, instance) {
            return;
        }
        push((&mut self.records, &mut self.octets), &filter, note, octets, counters);
        if let (Some(sent), Some(port)) = (sent, note.egress) {
            let note = Note { port, side: Side::Out, ..note };
            push((&mut self.records, &mut self.octets), &filter, note, sent, counters);
        }
    }

    /// Passes on a packet as it is now, if it is wanted.
    pub(crate) fn note_octets(&mut self, note: Note, octets: &[u8], instance: InstanceId, counters: &Counters) {
        if let Some(filter) = self.filter.filter(|filter| filter.wants(&note, octets, instance)) {
            push((&mut self.records, &mut self.octets), &filter, note, octets, counters);
        }
    }
}

fn push(
    (records, ring): (&mut Producer<Record>, &mut Producer<u8>),
    filter: &Filter,
    note: Note,
    octets: &[u8],
    counters: &Counters,
) {
    let Note { at, port, side, came, fate, egress } = note;
    let captured = octets.len().min(usize::from(filter.snaplen));
    if records.is_full() || ring.push_entire_slice(&octets[..captured]).is_err() {
        counters.untraced.add(1);
        return;
    }
    let (length, captured) = (octets.len() as u32, captured as u32);
    let record = Record { trace: filter.trace, at, port, side, came, fate, egress, length, captured };
    let fits = records.push(record).is_ok();
    debug_assert!(fits, "there was room, and nobody else takes it");
}

impl Filter {
    fn wants(&self, note: &Note, octets: &[u8], instance: InstanceId) -> bool {
        if let Some(reasons) = self.reasons
            && !matches!(note.fate, Fate::Dropped(reason) if reasons.has(reason))
        {
            return false;
        }
        let by = |port: PortIndex| self.ports >> port & 1 == 1;
        if !by(note.port) && !note.egress.is_some_and(by) {
            return false;
        }
        if self.eid.is_none() && self.rloc.is_none() {
            return true;
        }
        let Ok((link, ip)) = IpHeader::in_frame(octets) else { return false };
        let tunnel = octets.get(link + ip.length..link + ip.total).and_then(inside);
        self.rloc.is_none_or(|rloc| {
            let written = match note.fate {
                Fate::Encapsulated(to) | Fate::Reencapsulated(to) => to == rloc,
                _ => false,
            };
            written || tunnel.is_some() && (ip.source == rloc || ip.destination == rloc)
        }) && self.eid.is_none_or(|prefix| {
            let (instance, inner) = tunnel.unwrap_or((instance, ip));
            [inner.source, inner.destination].iter().any(|&address| prefix.contains(Eid { instance, address }))
        })
    }
}

/// The inner header of a LISP data packet, and its instance.
fn inside(payload: &[u8]) -> Option<(InstanceId, IpHeader)> {
    let (udp, data) = UdpHeader::split(payload).ok()?;
    let (lisp, inner) = DataHeader::split(data).ok().filter(|_| udp.destination == crate::wire::udp::LISP_DATA)?;
    Some((InstanceId::new(lisp.instance.unwrap_or(0))?, IpHeader::read(inner).ok()?))
}
