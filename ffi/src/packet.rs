//! The slides' `lisp_output()` and `lisp_input()`: packets of another dataplane's, in its own memory.

use std::{
    ffi::{CString, c_char, c_int},
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use altitude_dataplane::{
    cache::Reader,
    inline::{Decided, Inline, PACKET_MAX},
    mapping::{EidPrefix, InstanceId, Prefix},
    verdict::{Miss, Notice, Reason, Verdict},
};

use crate::{
    AltitudeTable, AltmapEid,
    fault::boundary,
    records::{Place, Sized16},
    table::Shared,
};

/// Octets that must be free in front of a packet, for whatever `altitude_lisp_output` puts there; in front of one to be
/// decapsulated 14 are enough. They may be written over; no other octets of the memory but these and the packet's are touched.
pub const ALTITUDE_HEADROOM: usize = 70;
/// Longest packet, octets.
pub const ALTITUDE_PACKET_MAX: usize = 1792;

/// Verdict: it has its new headers; send it, an IP packet between `start` and `start + length`.
pub const ALTITUDE_SEND: u8 = 1;
/// Verdict: as `ALTITUDE_SEND`, but without an outer header, as its mapping says (ACT 1); one hop was taken off.
pub const ALTITUDE_NATIVE: u8 = 2;
/// Verdict: there is no mapping for `eid`, or it says to ask (ACT 2); `from` is whose packet it is. The packet is as it was: keep
/// it, and hand it over again when the mapping is in the table; or drop it.
pub const ALTITUDE_MISS: u8 = 3;
/// Verdict: too long with an outer header, and its sender allows fragments; `limit` is the longest that passes. The packet is as it
/// was: split it in two (RFC 9300 section 7.1), and hand both over.
pub const ALTITUDE_SPLIT: u8 = 4;
/// Verdict: drop it; `reason` says why, and `notice` what its sender is to be told by ICMP, if anything. The packet is as it was.
pub const ALTITUDE_DROP: u8 = 5;

/// Notice: nothing.
pub const ALTITUDE_NOTICE_NONE: u8 = 0;
/// Notice: its TTL or Hop Limit ran out.
pub const ALTITUDE_NOTICE_TIME_EXCEEDED: u8 = 1;
/// Notice: it is longer than `limit`.
pub const ALTITUDE_NOTICE_TOO_BIG: u8 = 2;
/// Notice: no RLOC of its destination can be reached.
pub const ALTITUDE_NOTICE_UNREACHABLE: u8 = 3;
/// Notice: its mapping says that such packets are dropped (ACT 3).
pub const ALTITUDE_NOTICE_PROHIBITED: u8 = 4;

/// Flag of a packet: whatever the verdict, `eid` has no mapping and should be asked for, as the source check wants to know it.
pub const ALTITUDE_ASK: u32 = 1;

/// A packet, and what became of it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AltitudePacket {
    /// `sizeof(altitude_packet)` as the caller was compiled.
    pub size: u16,
    /// ALTITUDE_SEND and so on: written.
    pub verdict: u8,
    /// ALTITUDE_NOTICE_*: written.
    pub notice: u8,
    /// Why it is to be dropped, for `altitude_reason_name`: written. Numbers may differ from one version to the next, names do not.
    pub reason: u16,
    /// Octets; 0 if the verdict does not need it: written.
    pub limit: u16,
    /// Instance-ID: of the site that it came from, for `altitude_lisp_output`; that its LISP header named: written by
    /// `altitude_lisp_input`.
    pub iid: u32,
    /// ALTITUDE_ASK or 0: written.
    pub flags: u32,
    /// The memory that it lies in, room in front of it included.
    pub memory: *mut u8,
    /// Octets of the memory.
    pub capacity: usize,
    /// Where its IP header begins, octets from the start of the memory: read, and written if it moved.
    pub start: usize,
    /// Its length from there on: read, and written if it changed.
    pub length: usize,
    /// What is to be asked for, all bits of the address, if anything is: written.
    pub eid: AltmapEid,
    /// Whose packet asks for it: written.
    pub from: AltmapEid,
}

// SAFETY: see the struct; a test adds up the fields.
unsafe impl Sized16 for AltitudePacket {}

/// A thread that packets go through. Made by `altitude_thread_new`, given up by `altitude_thread_free`; one thread uses it at a time.
pub struct AltitudeThread {
    shared: Arc<Shared>,
    /// `None` only while it is being dropped.
    reader: Option<Reader>,
    inline: Inline,
}

/// What the header promises of threads, although no compiler looks behind a pointer of C's.
const _: () = {
    const fn any_thread_may_use<T: Send + Sync>() {}
    const fn may_go_to_another_thread<T: Send>() {}
    any_thread_may_use::<Shared>();
    may_go_to_another_thread::<AltitudeThread>();
};

impl std::fmt::Debug for AltitudeThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AltitudeThread").field("inline", &self.inline).finish_non_exhaustive()
    }
}

impl Drop for AltitudeThread {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.shared.leave(reader, self.inline.counters().clone());
        }
    }
}

/// Makes what one thread needs to hand packets over, and puts it into `*out`.
///
/// `*out` is written on 0 and only then, and is the caller's until `altitude_thread_free`. Any thread may call.
///
/// -EINVAL: a NULL; -EBUSY: the table has as many threads as it was made for.
///
/// # Safety
/// `table` is NULL or from `altitude_table_new`; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_thread_new(table: *mut AltitudeTable, out: *mut *mut AltitudeThread) -> c_int {
    boundary(|| {
        if out.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: NULL or from altitude_table_new, by the caller's promise.
        let table = unsafe { table.as_ref() }.ok_or(libc::EINVAL)?;
        let shared = table.shared.clone();
        let (reader, counters) = shared.join().ok_or(libc::EBUSY)?;
        let inline = Inline::new(&shared.rlocs, shared.hash_seed, shared.source_check, counters);
        let thread = AltitudeThread { shared, reader: Some(reader), inline };
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { out.write(Box::into_raw(Box::new(thread))) };
        Ok(0)
    })
}

/// Gives it up; NULL is allowed and does nothing. The table may be given up before.
///
/// # Safety
/// `thread` is NULL or from `altitude_thread_new`, not freed yet, and in use by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_thread_free(thread: *mut AltitudeThread) {
    boundary(|| {
        if !thread.is_null() {
            // SAFETY: from altitude_thread_new, thus from Box::into_raw, and given up by the caller.
            drop(unsafe { Box::from_raw(thread) });
        }
        Ok(0)
    });
}

/// Says that this thread hands no packet over for a while. To be called before it sleeps or waits: until then, or until its next
/// packet, the table keeps the memory of all that is taken out or replaced, and refuses changes in the end (-ENOSPC). Its next packet
/// ends that by itself. NULL is allowed and does nothing.
///
/// # Safety
/// `thread` is NULL or from `altitude_thread_new`, and in use by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_quiescent(thread: *mut AltitudeThread) {
    boundary(|| {
        // SAFETY: NULL or from altitude_thread_new, and in use by nobody else, by the caller's promise.
        if let Some(reader) = unsafe { thread.as_mut() }.and_then(|thread| thread.reader.as_mut()) {
            reader.go_offline();
        }
        Ok(0)
    });
}

/// Encapsulates an IP packet that came from a site: looks its addresses up, chooses an RLOC by its flow, takes one hop off, and
/// writes outer IP, UDP and LISP headers in front of it. All fields of `*packet` that are written are written on 0; nothing is on
/// an error. Does not block, lock or allocate.
///
/// -EINVAL: a NULL, a `size` that is none, a packet beyond its memory, or an `iid` of more than 24 bits; -EMSGSIZE: it is longer than
/// ALTITUDE_PACKET_MAX.
///
/// # Safety
/// `thread` is NULL or from `altitude_thread_new`, and in use by no other thread; `packet` is NULL or writable, with its `size` set;
/// `packet->memory` is NULL or has `capacity` octets, of which nobody else uses the packet's and the ALTITUDE_HEADROOM in front of it,
/// as far as there are, meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_lisp_output(thread: *mut AltitudeThread, packet: *mut AltitudePacket) -> c_int {
    // SAFETY: the caller's promise for both.
    unsafe {
        pass(thread, packet, |thread, reader, iid, memory, range| {
            let instance = InstanceId::new(iid)?;
            Some(thread.output(&reader.snapshot(), instance, memory, range))
        })
    }
}

/// Decapsulates an IP packet that came from the core: checks its headers and addresses, takes the outer ones off, and gives the
/// inner one their ECN, DSCP and TTL. As `altitude_lisp_output` for the rest; `iid` is written.
///
/// # Safety
/// As for `altitude_lisp_output`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_lisp_input(thread: *mut AltitudeThread, packet: *mut AltitudePacket) -> c_int {
    // SAFETY: the caller's promise for both.
    unsafe {
        pass(thread, packet, |thread, reader, _, memory, range| Some(thread.input(&reader.snapshot(), memory, range)))
    }
}

/// # Safety
/// As `altitude_lisp_output`.
unsafe fn pass(
    thread: *mut AltitudeThread,
    packet: *mut AltitudePacket,
    decide: impl FnOnce(&mut Inline, &mut Reader, u32, &mut [u8], std::ops::Range<usize>) -> Option<Decided>,
) -> c_int {
    boundary(|| {
        if packet.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: not NULL and writable, with `size` set, by the caller's promise.
        let place = unsafe { Place::new(packet)? };
        // SAFETY: as above.
        let mut packet = unsafe { place.read(0) };
        let end = packet.start.checked_add(packet.length).filter(|end| *end <= packet.capacity);
        // SAFETY: NULL or from altitude_thread_new, and in use by nobody else, by the caller's promise.
        let thread = unsafe { thread.as_mut() }.ok_or(libc::EINVAL)?;
        let AltitudeThread { reader: Some(reader), inline, .. } = thread else { return Err(libc::EINVAL) };
        let (Some(end), false) = (end, packet.memory.is_null()) else { return Err(libc::EINVAL) };
        if packet.length > PACKET_MAX {
            return Err(libc::EMSGSIZE);
        }
        // Of its memory no more than the packet and the room in front of it: the rest may be another packet's.
        let before = packet.start - packet.start.min(ALTITUDE_HEADROOM);
        // SAFETY: not NULL, and inside the octets that nobody else uses meanwhile, by the caller's promise.
        let memory = unsafe { std::slice::from_raw_parts_mut(packet.memory.add(before), end - before) };
        let range = packet.start - before..end - before;
        let mut decided = decide(inline, reader, packet.iid, memory, range).ok_or(libc::EINVAL)?;
        decided.start += before;
        tell(&mut packet, &decided);
        // SAFETY: writable, by the caller's promise.
        unsafe { place.write(0, &packet) };
        Ok(0)
    })
}

/// Writes down what became of a packet.
fn tell(packet: &mut AltitudePacket, decided: &Decided) {
    let (verdict, reason, notice, asks) = match decided.verdict {
        Verdict::Send(_) if decided.native => (ALTITUDE_NATIVE, None, None, None),
        Verdict::Send(_) => (ALTITUDE_SEND, None, None, None),
        Verdict::SendAndAsk(_, miss) => (ALTITUDE_SEND, None, None, Some(miss)),
        Verdict::Miss(miss) => (ALTITUDE_MISS, None, None, Some(miss)),
        Verdict::Split => (ALTITUDE_SPLIT, None, None, None),
        Verdict::Refuse(reason, notice) => (ALTITUDE_DROP, Some(reason), Some(notice), None),
        Verdict::Drop(reason) => (ALTITUDE_DROP, Some(reason), None, None),
        Verdict::DropAndAsk(reason, miss) => (ALTITUDE_DROP, Some(reason), None, Some(miss)),
    };
    (packet.notice, packet.limit) = match notice {
        None => (ALTITUDE_NOTICE_NONE, decided.limit),
        Some(Notice::TimeExceeded) => (ALTITUDE_NOTICE_TIME_EXCEEDED, 0),
        Some(Notice::TooBig { limit }) => (ALTITUDE_NOTICE_TOO_BIG, limit),
        Some(Notice::Unreachable) => (ALTITUDE_NOTICE_UNREACHABLE, 0),
        Some(Notice::Prohibited) => (ALTITUDE_NOTICE_PROHIBITED, 0),
    };
    packet.verdict = verdict;
    packet.reason = reason.map_or(0, |reason| reason as u16 + 1);
    packet.flags = if asks.is_some() && verdict != ALTITUDE_MISS { ALTITUDE_ASK } else { 0 };
    (packet.start, packet.length, packet.iid) = (decided.start, decided.length, decided.instance.get());
    (packet.eid, packet.from) = match asks {
        None => (AltmapEid::NONE, AltmapEid::NONE),
        Some(Miss { destination, source, .. }) => {
            let host = |address: IpAddr| {
                AltmapEid::new(&EidPrefix { instance: destination.instance, prefix: Prefix::host(address) })
            };
            (host(destination.address), host(source))
        }
    };
}

/// The name of a reason, as `altitude show counters` has it, or "none" for 0 and "unknown" beyond. The text is never freed. Any
/// thread may call.
#[unsafe(no_mangle)]
pub extern "C" fn altitude_reason_name(reason: u16) -> *const c_char {
    static NAMES: LazyLock<Vec<CString>> = LazyLock::new(|| {
        let names = Reason::ALL.iter().map(|reason| reason.name());
        names.map(|name| CString::new(name).unwrap_or_default()).collect()
    });
    match usize::from(reason).checked_sub(1).map(|place| NAMES.get(place)) {
        None => c"none".as_ptr(),
        Some(None) => c"unknown".as_ptr(),
        Some(Some(name)) => name.as_ptr(),
    }
}

/// The name of a verdict: "send", "native", "miss", "split", "drop", or "unknown". The text is static. Any thread may call.
#[unsafe(no_mangle)]
pub extern "C" fn altitude_verdict_name(verdict: u8) -> *const c_char {
    let name = match verdict {
        ALTITUDE_SEND => c"send",
        ALTITUDE_NATIVE => c"native",
        ALTITUDE_MISS => c"miss",
        ALTITUDE_SPLIT => c"split",
        ALTITUDE_DROP => c"drop",
        _ => c"unknown",
    };
    name.as_ptr()
}

const _: () = assert!(ALTITUDE_PACKET_MAX == PACKET_MAX && ALTITUDE_HEADROOM == altitude_dataplane::inline::ROOM);

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn every_reason_has_its_name() {
        // SAFETY: the texts end with a NUL and are never freed.
        let name = |number| unsafe { CStr::from_ptr(altitude_reason_name(number)) }.to_str().unwrap();
        for (number, reason) in (1..).zip(Reason::ALL) {
            assert_eq!((name(number), usize::from(number)), (reason.name(), *reason as usize + 1));
        }
        assert_eq!([name(0), name(u16::MAX)], ["none", "unknown"]);
    }
}
