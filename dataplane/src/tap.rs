//! The tap: copies of packets, with what became of them, for somebody who looks on.
//!
//! ```text
//! control thread ─ order: a filter, or nothing any more ─→ worker      looked at once a turn
//! control thread ←─ records, and the octets they speak of ─ worker     what does not fit is counted, and never waited for
//! ```
//!
//! While nobody looks on, a turn pays one look at the queue of orders. While somebody does, every packet is asked whether it may
//! be wanted once it was looked up, and of those that may be, the head is kept: what is decided changes nothing else of a packet,
//! and changes it in place. What is dropped stays as it came, so nothing is kept for one who looks for losses. While the rings are
//! full, nothing is kept either. All memory for that is there from the start.
//!
//! Where a packet goes is asked of the table before it is decided on. Should the control thread turn a locator-set just between
//! the two, a packet of that turn may go by the port or to the RLOC that is wanted and not be shown.

#![forbid(unsafe_code)]

mod filter;

use std::{net::IpAddr, time::Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::{
    batch::{self, Batch},
    cache::Snapshot,
    classify::{IpHeader, Rlocs},
    counters::Counters,
    decap::is_for_etr,
    encap::Setup,
    frame::{Frame, Umem},
    mapping::{Eid, InstanceId, PortIndex},
    verdict::{Reason, Wanted},
    wire::vlan,
    worker::PortRole,
};

pub(crate) use filter::Lead;
pub use filter::{Filter, Reasons};
use filter::{Sieve, Sought, TUNNEL, header_length};

/// Packets that wait for the control thread, of one worker.
pub const RECORDS: usize = 8192;
/// The same, octets.
pub const OCTETS: usize = 1 << 20;
/// Orders under way to one worker.
const ORDERS: usize = 4;
/// Where a frame that comes alone is kept, behind those that go together.
pub(crate) const ALONE: usize = batch::TOGETHER;
/// Octets of a packet that may be changed: of the longest link-layer header and the longest outer header, and as many of the inner
/// header as are rewritten. The rest fills cache lines.
const HEAD: usize = 128;
const _: () = assert!(HEAD >= 14 + 4 * vlan::TAGS_MAX + 60 + TUNNEL + 20 && batch::TOGETHER <= u64::BITS as usize);
/// No link-layer header is as long as this, and every tunnel header longer.
const SHORTEST_TUNNEL: usize = 36;

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
    out: Out,
    sieve: Option<Sieve>,
    kept: Box<[Kept]>,
    /// What is wanted of the frames asked last is lost, for the rings have no room for it.
    is_losing: bool,
}

/// The rings to the control thread.
#[derive(Debug)]
struct Out {
    records: Producer<Record>,
    octets: Producer<u8>,
    /// Room in both when something found none. As long as they have no more, nothing else finds any.
    full: Option<(usize, usize)>,
}

/// What is kept of a packet as it was before it was decided on.
#[derive(Debug, Clone)]
struct Kept {
    /// Its first octets: what lies behind them stays as and where it is.
    head: [u8; HEAD],
    /// Where its frame started, and how long it was.
    start: usize,
    length: usize,
    /// Where begins what stays whichever way it goes, and whether it came out of a tunnel.
    behind: usize,
    tunnelled: bool,
    sought: Sought,
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
    let sought = Sought::default();
    let kept = Kept { head: [0; HEAD], start: 0, length: 0, behind: 0, tunnelled: false, sought };
    let out = Out { records, octets, full: None };
    let tap = Tap { orders, out, sieve: None, kept: vec![kept; ALONE + 1].into(), is_losing: false };
    (tap, Watch { orders: orders_in, records: records_out, octets: octets_out })
}

impl Tap {
    /// Takes up what it was told; whether anybody looks on.
    #[inline]
    pub(crate) fn attend(&mut self) -> bool {
        while let Ok(order) = self.orders.pop() {
            self.sieve = order.map(Sieve::new);
        }
        self.is_on()
    }

    /// Whether anybody looks on.
    #[inline]
    pub(crate) const fn is_on(&self) -> bool {
        self.sieve.is_some()
    }

    /// Asks frames that were looked up and came in by a port with this role whether they may be wanted, and keeps what will be
    /// changed of those that are, from `place` on. Gives them as bits, the first frame's the lowest.
    pub(crate) fn keep(
        &mut self,
        place: usize,
        frames: &[Frame],
        umem: &Umem,
        batch: &Batch,
        arrived: &Arrived<'_>,
    ) -> u64 {
        let Some(sieve) = self.sieve else { return 0 };
        if !sieve.wants_sent() {
            // What is dropped stays as it came.
            return u64::MAX;
        }
        let Arrived { ingress, role, cache, setup } = arrived;
        self.is_losing = !sieve.goes_by_way && self.out.is_full();
        let mut leads = sieve.goes_by_way.then(|| batch.leads(cache));
        let mut bits = 0;
        for (index, frame) in frames.iter().enumerate() {
            let octets = umem.octets(frame);
            let lead = leads.as_mut().and_then(Iterator::next).unwrap_or(Lead::Way(None));
            let Some(sought) = sieve.seek(octets, *ingress, role.instance, &lead) else { continue };
            bits |= 1 << index;
            if !self.is_losing {
                self.kept[place + index].fill(octets, frame.start(), sought, role.core, &setup.rlocs);
            }
        }
        bits
    }

    /// Passes on the packet kept at `place` and what it became, in a frame that starts at `start` now. Nothing but its head was
    /// written to, so the rest is still in `region`.
    pub(crate) fn note_sent(
        &mut self,
        note: Note,
        place: usize,
        (sent, start): (&[u8], usize),
        region: &[u8],
        counters: &Counters,
    ) {
        let Some(Sieve { filter, .. }) = self.sieve.filter(Sieve::wants_sent) else { return };
        if self.is_losing {
            return counters.untraced.add(2);
        }
        let kept = &self.kept[place];
        let note = Note { fate: kept.sent_as(sent, start), ..note };
        if !filter.wants_sought(&note, kept.sought) {
            return;
        }
        let head = kept.length.min(HEAD);
        let rest = &region[kept.start + head..kept.start + kept.length];
        self.out.push(&filter, note, (&kept.head[..head], rest), counters);
        if let Some(port) = note.egress {
            self.out.push(&filter, Note { port, side: Side::Out, ..note }, (sent, &[]), counters);
        }
    }

    /// Whether nothing is to be noted of frames that were asked last and are all sent: nobody wants such, or there is no room, which
    /// it counts.
    pub(crate) fn passes_over(&self, sought: u64, counters: &Counters) -> bool {
        let wants = self.sieve.as_ref().is_some_and(Sieve::wants_sent);
        if wants && self.is_losing {
            counters.untraced.add(2 * u64::from(sought.count_ones()));
        }
        !wants || self.is_losing
    }

    /// Passes on a packet as it is now, if it is wanted.
    pub(crate) fn note(&mut self, note: Note, octets: &[u8], instance: InstanceId, counters: &Counters) {
        if let Some(Sieve { filter, .. }) = self.sieve
            && filter.wants(&note, octets, instance)
        {
            self.out.push(&filter, note, (octets, &[]), counters);
        }
    }
}

/// Where frames arrived, and what they were looked up in.
pub(crate) struct Arrived<'a> {
    pub(crate) ingress: PortIndex,
    pub(crate) role: PortRole,
    pub(crate) cache: &'a Snapshot<'a>,
    pub(crate) setup: &'a Setup,
}

impl Kept {
    fn fill(&mut self, octets: &[u8], start: usize, sought: Sought, core: bool, rlocs: &Rlocs) {
        let head = octets.len().min(HEAD);
        self.head[..head].copy_from_slice(&octets[..head]);
        let tunnelled = core && is_for_etr(octets, rlocs);
        // Of what is sent both are there.
        let packet = vlan::payload(octets).map_or(&[][..], |(_, packet)| packet);
        let outer = if tunnelled { header_length(packet).unwrap_or(0) + TUNNEL } else { 0 };
        let behind = start + octets.len() - packet.len() + outer;
        (self.start, self.length) = (start, octets.len());
        (self.behind, self.tunnelled, self.sought) = (behind, tunnelled, sought);
    }

    /// What became of it, now that it is sent as `sent`, in a frame that starts at `start`.
    fn sent_as(&self, sent: &[u8], start: usize) -> Fate {
        let room = self.behind.saturating_sub(start);
        let rloc = if room < SHORTEST_TUNNEL { None } else { IpHeader::in_frame(sent).ok() };
        match (rloc, self.tunnelled) {
            (Some((_, outer)), false) => Fate::Encapsulated(outer.destination),
            (Some((_, outer)), true) => Fate::Reencapsulated(outer.destination),
            (None, true) => Fate::Decapsulated,
            (None, false) => Fate::Native,
        }
    }
}

impl Out {
    /// Whether nobody took anything out since something found no room.
    fn is_full(&self) -> bool {
        self.full.is_some_and(|room| room == self.room())
    }

    fn room(&self) -> (usize, usize) {
        (self.records.slots(), self.octets.slots())
    }

    /// Passes on a packet whose octets are those of both slices.
    fn push(&mut self, filter: &Filter, note: Note, (head, rest): (&[u8], &[u8]), counters: &Counters) {
        let Note { at, port, side, came, fate, egress } = note;
        let length = head.len() + rest.len();
        let captured = length.min(usize::from(filter.snaplen));
        let (records, octets) = self.room();
        // Found out before an octet is touched.
        if records == 0 || octets < captured {
            self.full = Some((records, octets));
            counters.untraced.add(1);
            return;
        }
        let front = head.len().min(captured);
        for part in [&head[..front], &rest[..captured - front]] {
            let fits = self.octets.push_entire_slice(part).is_ok();
            debug_assert!(fits, "there was room, and nobody else takes it");
        }
        let (length, captured) = (length as u32, captured as u32);
        let record = Record { trace: filter.trace, at, port, side, came, fate, egress, length, captured };
        let fits = self.records.push(record).is_ok();
        debug_assert!(fits, "there was room, and nobody else takes it");
    }
}

#[cfg(test)]
mod tests;
