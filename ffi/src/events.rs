//! The functions that hear of events.

use std::{ffi::c_int, net::IpAddr, os::fd::AsRawFd, ptr, time::Duration};

use altitude_control::api::{Event, FILTERS_MAX, Filter, MissDetail, Op, Stale, Table, client::Told};
use altitude_dataplane::mapping::EidPrefix;

use crate::{
    ALTMAP_AFI_IPV4, ALTMAP_BOTH, ALTMAP_CACHE, ALTMAP_DATABASE, Altmap, AltmapEid, AltmapEntry, AltmapRloc,
    fault::{Errno, boundary},
    records::{Place, Sized16, address},
};

/// Operation: a mapping came; `entry` and `rlocs` are there.
pub const ALTMAP_OP_ADD: u16 = 1;
/// Operation: a mapping left.
pub const ALTMAP_OP_DELETE: u16 = 2;
/// Operation: a mapping says something else; `entry` and `rlocs` are there.
pub const ALTMAP_OP_CHANGE: u16 = 3;
/// Operation: packets to `eid` from `from` find no mapping; answer with altmap_add. `reason` is ALTMAP_MISS_*.
pub const ALTMAP_OP_MISS: u16 = 5;
/// Operation: `rlocs[0]` is used again. `reason` is how that was found out: 1 probe, 2 echo-nonce, 3 status bits, 4 ICMP,
/// 5 route, 6 a client.
pub const ALTMAP_OP_REACH: u16 = 6;
/// Operation: `rlocs[0]` is not used any more. `reason` as for ALTMAP_OP_REACH.
pub const ALTMAP_OP_BADREACH: u16 = 7;
/// Operation: a table was emptied.
pub const ALTMAP_OP_FLUSH: u16 = 9;
/// Operation: a map-version in a packet from `from` shows that a copy of the mapping `eid` is old. `reason` is whose: 1 the router's
/// of another site's, 2 the peer's of one of the router's. `seen` is the version of the packet, `ours` that of the router.
pub const ALTMAP_OP_STALE: u16 = 11;
/// Operation: packets from `from` carry other Locator-Status-Bits about `eid` than before: `seen` has them, bit i for the RLOC of
/// ordinal i; `ours` is how many there was room for.
pub const ALTMAP_OP_LSBITS: u16 = 12;
/// For `altmap_subscribe`: every event.
pub const ALTMAP_EVERY_OP: u32 = 0x1aee;

/// For `altmap_subscribe_to`: tell also what this handle does itself.
pub const ALTMAP_ECHO_ME: u32 = 0x40;
/// FILTERs that `altmap_subscribe_to` takes.
pub const ALTMAP_FILTERS_MAX: usize = 16;
const _: () = assert!(ALTMAP_FILTERS_MAX == FILTERS_MAX, "a header has numbers");
/// Table of an event that is about none: ALTMAP_OP_REACH, ALTMAP_OP_BADREACH.
pub const ALTMAP_NO_TABLE: i32 = -1;

/// Reason of a MISS: there is no entry.
pub const ALTMAP_MISS_NO_ENTRY: c_int = 1;
/// Reason of a MISS: the entry's time is nearly over, and packets use it; answer with altmap_change.
pub const ALTMAP_MISS_EXPIRING: c_int = 2;
/// Reason of a MISS: the entry says that the mapping system is to be asked; answer with altmap_change.
pub const ALTMAP_MISS_SEND_MAP_REQUEST: c_int = 3;

/// Flag of an event: events before it were lost; dump the tables again.
pub const ALTMAP_EVENT_OVERRUN: u32 = 0x20;
/// Flag of an event: the entry's time was over.
pub const ALTMAP_EVENT_EXPIRED: u32 = 0x80;
/// Flag of an event: static entries too.
pub const ALTMAP_EVENT_ALL: u32 = 0x100;

/// An event.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AltmapEvent {
    /// `sizeof(altmap_event)` as the caller was compiled.
    pub size: u16,
    /// ALTMAP_OP_*.
    pub op: u16,
    /// ALTMAP_EVENT_*.
    pub flags: u32,
    /// Its number: one more than the last; a gap means that MISS, STALE or LSBITS events are missing.
    pub r#gen: u64,
    /// What it is about; of REACH and BADREACH all zero. Of FLUSH `iid` alone counts: UINT32_MAX for all instances.
    pub eid: AltmapEid,
    /// Of a MISS: where the packet came from; `afi` is 0 if that is not known. Of STALE and LSBITS the peer's RLOC.
    pub from: AltmapEid,
    /// Of ADD and CHANGE, else NULL.
    pub entry: *const AltmapEntry,
    /// Of ADD, CHANGE, REACH and BADREACH, else NULL.
    pub rlocs: *const AltmapRloc,
    /// Number of RLOCs.
    pub nrloc: usize,
    /// Of MISS, REACH, BADREACH and STALE, else 0.
    pub reason: c_int,
    /// Of a MISS: misses of the same EID since the last event that made none.
    pub suppressed: u32,
    /// Of a MISS, if more than the EID was asked for: an IP packet that missed, or the beginning of it. NULL if there was none, or
    /// none was asked for. Programs compiled before this was here go without.
    pub packet: *const u8,
    /// Its octets.
    pub packet_len: usize,
    /// Of STALE and LSBITS, else 0.
    pub seen: u32,
    /// Of STALE and LSBITS, else 0.
    pub ours: u32,
    /// ALTMAP_CACHE, ALTMAP_DATABASE or ALTMAP_NO_TABLE. Programs compiled before this was here go without.
    pub table: i32,
    /// Zero.
    pub rsv: u32,
}

/// Which events are wanted. All zero but `size` and `ops` it is: of the map-cache, everywhere.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AltmapFilter {
    /// `sizeof(altmap_filter)` as the caller was compiled.
    pub size: u16,
    /// How much of packets a MISS shows: 0 to 2, as for `altmap_subscribe`.
    pub miss_detail: u8,
    /// Zero.
    pub rsv: u8,
    /// A bit `1 << ALTMAP_OP_*` for each operation; at least one.
    pub ops: u32,
    /// ALTMAP_CACHE, ALTMAP_DATABASE or ALTMAP_BOTH. Verdicts on RLOCs belong to no table, and come in any case.
    pub table: i32,
    /// MISS events a second at most; 0 is the router's own bound.
    pub miss_rate: u32,
    /// Inside this EID-prefix alone; everywhere if it is all zero.
    pub only: AltmapEid,
}

// SAFETY: see the struct; a test adds up the fields.
unsafe impl Sized16 for AltmapFilter {}

impl AltmapFilter {
    fn filter(&self) -> Result<Filter, Errno> {
        let AltmapEid { afi, plen, rsv, iid, addr } = self.only;
        let everywhere = (afi, plen, rsv, iid, addr) == (0, 0, 0, 0, [0; 16]);
        let only: Option<EidPrefix> = if everywhere { None } else { Some(self.only.prefix()?) };
        let table = match self.table {
            ALTMAP_CACHE => Some(Table::Cache),
            ALTMAP_DATABASE => Some(Table::Database),
            ALTMAP_BOTH => None,
            _ => return Err(libc::EINVAL),
        };
        if self.rsv != 0 || self.ops == 0 {
            return Err(libc::EINVAL);
        }
        Ok(Filter {
            ops: self.ops,
            table,
            instance: only.map(|only| only.instance),
            prefix: only.map(|only| only.prefix),
            rate: Some(self.miss_rate).filter(|&rate| rate != 0),
            detail: detail(self.miss_detail.into())?,
        })
    }
}

fn detail(number: c_int) -> Result<MissDetail, Errno> {
    match number {
        0 => Ok(MissDetail::Eid),
        1 => Ok(MissDetail::Header),
        2 => Ok(MissDetail::Packet),
        _ => Err(libc::EINVAL),
    }
}

// SAFETY: see the struct; a test adds up the fields. NULL is a value of each pointer.
unsafe impl Sized16 for AltmapEvent {
    const LEAST: usize = std::mem::offset_of!(Self, packet);
}

/// What the pointers of the last event lead to.
#[derive(Debug, Default)]
pub(crate) struct Last {
    entry: Option<Box<AltmapEntry>>,
    rlocs: Vec<AltmapRloc>,
    packet: Vec<u8>,
}

/// Has events told from now on: those whose bit `1 << ALTMAP_OP_*` is set in `ops`, inside `only` if that is not NULL. It
/// replaces what was subscribed to before; `ops` 0 ends it. What this handle does itself is not told.
///
/// `miss_detail` is 0: a MISS has the EID, and the packet's source; 1: the packet's IP header too, and the 8 octets behind it; 2: the
/// packet, as far as workers have handed it over.
///
/// -EINVAL: `ops` has a bit that is no event, `only` is none, or `miss_detail` is not 0 to 2; -EPERM: `miss_detail` 2, and this
/// client may only read.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread; `only` is NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_subscribe(
    handle: *mut Altmap,
    ops: u32,
    miss_detail: c_int,
    only: *const AltmapEid,
) -> c_int {
    boundary(|| {
        let detail = detail(miss_detail)?;
        // SAFETY: NULL or readable, by the caller's promise.
        let only = unsafe { only.as_ref() }.map(AltmapEid::prefix).transpose()?;
        let filter = Filter {
            ops,
            instance: only.map(|only: EidPrefix| only.instance),
            prefix: only.map(|only| only.prefix),
            detail,
            ..Filter::default()
        };
        let filters = if ops == 0 { &[][..] } else { &[filter] };
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        let handle = unsafe { handle.as_mut() }.ok_or(libc::EINVAL)?;
        handle.ask(|client| client.subscribe(filters, false)).map(|_| 0)
    })
}

/// As `altmap_subscribe`, with a choice of tables: has events told that one of `n` filters takes. It replaces what was subscribed
/// to before; `n` 0 ends it. With ALTMAP_ECHO_ME in `flags` what this handle does itself is told, too: whoever empties a table and
/// follows it by events sees so where that began.
///
/// Before the call, `filters[0].size` is set to `sizeof(altmap_filter)`; so large is each. No pointer is kept.
///
/// -EINVAL: a NULL, more than ALTMAP_FILTERS_MAX, another flag, or a filter that is none; -EAFNOSUPPORT: `only.afi` is none of
/// ALTMAP_AFI_*; -EPERM: `miss_detail` 2, and this client may only read. What was subscribed to before holds then.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread; `filters` is NULL or `n` filters of `filters[0].size` octets each that are
/// readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_subscribe_to(
    handle: *mut Altmap,
    filters: *const AltmapFilter,
    n: usize,
    flags: u32,
) -> c_int {
    boundary(|| {
        if n > ALTMAP_FILTERS_MAX || flags & !ALTMAP_ECHO_ME != 0 || (filters.is_null() && n != 0) {
            return Err(libc::EINVAL);
        }
        let mut wanted = Vec::new();
        if n != 0 {
            // SAFETY: not NULL, so readable, with `size` set, by the caller's promise; nothing is written.
            let places = unsafe { Place::new(filters.cast_mut())? };
            for at in 0..n {
                // SAFETY: one of the `n` of the size that the first says.
                wanted.push(unsafe { places.read(at) }.filter()?);
            }
        }
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        let handle = unsafe { handle.as_mut() }.ok_or(libc::EINVAL)?;
        handle.ask(|client| client.subscribe(&wanted, flags & ALTMAP_ECHO_ME != 0)).map(|_| 0)
    })
}

/// The descriptor of the connection, for poll or epoll: when it is readable, call `altmap_next` with 0 until it says -EAGAIN. It
/// stays the library's: not to be closed, read or written. After another call than `altmap_next`, events may wait that
/// the descriptor does not tell of: call `altmap_next` first.
///
/// -EINVAL: a NULL; -ENOTCONN: the connection was lost.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_fd(handle: *const Altmap) -> c_int {
    boundary(|| {
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        let handle = unsafe { handle.as_ref() }.ok_or(libc::EINVAL)?;
        handle.client.as_ref().map(AsRawFd::as_raw_fd).ok_or(libc::ENOTCONN)
    })
}

/// Takes the next event, waiting at most `timeout_ms` milliseconds for it; for ever if that is negative.
///
/// Before the call, `event->size` is set to `sizeof(altmap_event)`. On 0 `*event` is written; what its pointers lead to is
/// valid until the next call with this handle.
///
/// -EAGAIN: there was none in that time; -EINVAL: a NULL, or a `size` that is none; and what happens to the connection, as for
/// `altmap_get`.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread; `event` is NULL or writable, with its `size` set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_next(handle: *mut Altmap, event: *mut AltmapEvent, timeout_ms: c_int) -> c_int {
    boundary(|| {
        if event.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: not NULL and writable, with `size` set, by the caller's promise.
        let place = unsafe { Place::new(event)? };
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        let handle = unsafe { handle.as_mut() }.ok_or(libc::EINVAL)?;
        let limit = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let (told, generation) = handle.ask(|client| client.next_event(limit))?;
        let told = told.ok_or(libc::EAGAIN)?;
        let written = AltmapEvent::new(&told, generation, &mut handle.last);
        // SAFETY: as above.
        unsafe { place.write(0, &written) };
        Ok(0)
    })
}

impl AltmapEvent {
    fn new(told: &Told, generation: u64, last: &mut Last) -> Self {
        *last = Last::default();
        let Told { number, overrun, event } = told;
        let mut made = Self {
            size: size_of::<Self>() as u16,
            op: event.op().0,
            flags: if *overrun { ALTMAP_EVENT_OVERRUN } else { 0 },
            r#gen: *number,
            eid: AltmapEid::NONE,
            from: AltmapEid::NONE,
            entry: ptr::null(),
            rlocs: ptr::null(),
            nrloc: 0,
            reason: 0,
            suppressed: 0,
            packet: ptr::null(),
            packet_len: 0,
            seen: 0,
            ours: 0,
            table: table_of(event),
            rsv: 0,
        };
        match event {
            Event::Added(entry) | Event::Changed(entry) => {
                made.eid = AltmapEid::new(&entry.eid);
                made.entry = &raw const **last.entry.insert(Box::new(AltmapEntry::new(entry, generation)));
                last.rlocs.extend(entry.locators.iter().map(AltmapRloc::new));
            }
            Event::Deleted { eid, expired, .. } => {
                made.eid = AltmapEid::new(eid);
                made.flags |= if *expired { ALTMAP_EVENT_EXPIRED } else { 0 };
            }
            Event::Flushed { instance, all, .. } => {
                made.eid.iid = instance.map_or(u32::MAX, altitude_dataplane::mapping::InstanceId::get);
                made.flags |= if *all { ALTMAP_EVENT_ALL } else { 0 };
            }
            Event::Stale { eid, which, seen, ours, peer } => {
                (made.eid, made.from) = (AltmapEid::new(eid), host(*peer, 0));
                (made.reason, made.seen, made.ours) = (*which as c_int, (*seen).into(), (*ours).into());
            }
            Event::StatusBits { eid, bits, width, peer } => {
                (made.eid, made.from) = (AltmapEid::new(eid), host(*peer, 0));
                (made.seen, made.ours) = (*bits, (*width).into());
            }
            Event::Missed { eid, reason, suppressed, from, packet } => {
                made.eid = AltmapEid::new(eid);
                made.reason = *reason as c_int;
                made.suppressed = (*suppressed).into();
                if let Some(from) = from {
                    made.from = host(*from, eid.instance.get());
                }
                last.packet.clone_from(packet);
                if !last.packet.is_empty() {
                    (made.packet, made.packet_len) = (last.packet.as_ptr(), last.packet.len());
                }
            }
            Event::Judged { locator, up, method, rtt, .. } => {
                made.reason = *method as c_int;
                let rtt_us = rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
                last.rlocs.push(AltmapRloc::judged(*locator, *up, rtt_us));
            }
        }
        if !last.rlocs.is_empty() {
            (made.rlocs, made.nrloc) = (last.rlocs.as_ptr(), last.rlocs.len());
        }
        made
    }
}

fn table_of(event: &Event) -> i32 {
    let table = match event {
        Event::Added(entry) | Event::Changed(entry) => entry.table,
        Event::Deleted { table, .. } | Event::Flushed { table, .. } => *table,
        Event::Missed { .. } | Event::StatusBits { .. } | Event::Stale { which: Stale::Local, .. } => Table::Cache,
        Event::Stale { which: Stale::Remote, .. } => Table::Database,
        Event::Judged { .. } => return ALTMAP_NO_TABLE,
    };
    if table == Table::Cache { ALTMAP_CACHE } else { ALTMAP_DATABASE }
}

/// One address of an instance.
fn host(of: IpAddr, iid: u32) -> AltmapEid {
    let (afi, addr) = address(of);
    AltmapEid { afi, plen: if afi == ALTMAP_AFI_IPV4 { 32 } else { 128 }, rsv: 0, iid, addr }
}

// The numbers in the header are those of the messages.
const _: () = {
    assert!(ALTMAP_OP_ADD == Op::ADD.0 && ALTMAP_OP_DELETE == Op::DELETE.0 && ALTMAP_OP_CHANGE == Op::CHANGE.0);
    assert!(ALTMAP_OP_MISS == Op::MISS.0 && ALTMAP_OP_REACH == Op::REACH.0 && ALTMAP_OP_BADREACH == Op::BADREACH.0);
    assert!(ALTMAP_OP_FLUSH == Op::FLUSH.0 && ALTMAP_OP_STALE == Op::STALE.0 && ALTMAP_OP_LSBITS == Op::LSBITS.0);
};
