//! The mapping API for C: opens a router's socket, reads its tables, changes them, and hears of what happens.
//!
//! `include/altitude.h` is made from this crate and is what C sees; `README.md` has the conventions and how to link.
//! The comments here are the header's comments, so they speak of C.
//!
//! No pointer into Rust's memory leaves but the opaque handle and the static texts; no callback is called from a thread
//! other than the caller's.

// The border to C is made of raw pointers: every block says whose promise it rests on.
#![allow(unsafe_code)]

mod batch;
mod events;
mod fault;
mod packet;
mod records;
mod table;
mod write;

use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_void},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use altitude_control::api::{
    Operation, Table,
    client::{Client, ClientError},
};

pub use batch::*;
pub use events::*;
pub use packet::*;
pub use records::*;
pub use table::*;
pub use write::*;

use fault::{Errno, boundary};

/// The version of this interface, for `altmap_open`.
pub const ALTMAP_ABI: c_int = 1;

/// Table: mappings of other sites (the map-cache).
pub const ALTMAP_CACHE: c_int = 0;
/// Table: the router's own mappings (the database).
pub const ALTMAP_DATABASE: c_int = 1;

/// For `altmap_subscribe_to`: both tables.
pub const ALTMAP_BOTH: c_int = 2;

/// AFI of an IPv4 address: the first 4 octets of `addr`.
pub const ALTMAP_AFI_IPV4: u16 = 1;
/// AFI of an IPv6 address.
pub const ALTMAP_AFI_IPV6: u16 = 2;
/// `plen` of an EID that has none: all bits of the address, so the longest match.
pub const ALTMAP_HOST: u8 = 255;

/// A connection to a router. Made by `altmap_open`, ended by `altmap_close`; one thread uses it at a time.
#[derive(Debug)]
pub struct Altmap {
    /// `None` once an answer was lost: what comes next on the socket can no longer be told apart.
    client: Option<Client>,
    last: events::Last,
    /// Changes that wait for `altmap_batch_commit`, after `altmap_batch_begin`.
    batch: Option<Vec<Operation>>,
}

impl Altmap {
    /// Asks the router, and gives up the connection if its answer was lost.
    fn ask<T>(&mut self, question: impl FnOnce(&mut Client) -> Result<T, ClientError>) -> Result<(T, u64), Errno> {
        // Taken out, so that a panic in between leaves no half-read connection behind.
        let mut client = self.client.take().ok_or(libc::ENOTCONN)?;
        let answer = question(&mut client).map(|answer| (answer, client.generation()));
        if answer.as_ref().err().is_none_or(fault::keeps_connection) {
            self.client = Some(client);
        }
        answer.map_err(|error| fault::errno(&error))
    }
}

/// What `altmap_dump` calls for each entry: its prefix, the entry, and its `n` RLOCs, an array of the library's
/// `sizeof(altmap_rloc)`, which is `rlocs[0].size`. All are valid until it returns. It returns 0 to go on; anything else
/// ends the dump. It may use the handle, but not close it; it must neither throw nor longjmp.
pub type AltmapVisit = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        eid: *const AltmapEid,
        entry: *const AltmapEntry,
        rlocs: *const AltmapRloc,
        n: usize,
    ) -> c_int,
>;

/// Connects to the router whose mapping API listens at `path`, and puts the handle into `*out`.
///
/// `abi` is ALTMAP_ABI. `*out` is written on 0 and only then, and is the caller's until `altmap_close`. `path` is not
/// kept. Any thread may call. Blocks at most 5 seconds.
///
/// -EINVAL: a NULL, or a path that is empty or too long for a socket; -EPROTONOSUPPORT: the library does not speak this
/// ABI; -ENOENT: no such socket; -ECONNREFUSED: the router died; -EACCES: the socket's permissions say no.
///
/// # Safety
/// `path` is NULL or a string that ends with a NUL; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_open(path: *const c_char, abi: c_int, out: *mut *mut Altmap) -> c_int {
    boundary(|| {
        if path.is_null() || out.is_null() {
            return Err(libc::EINVAL);
        }
        if abi != ALTMAP_ABI {
            return Err(libc::EPROTONOSUPPORT);
        }
        // SAFETY: not NULL, so a string that ends with a NUL, by the caller's promise; read before this returns.
        let path = unsafe { CStr::from_ptr(path) }.to_bytes();
        if path.is_empty() {
            return Err(libc::EINVAL);
        }
        let client = Client::connect(Path::new(OsStr::from_bytes(path))).map_err(|error| fault::errno(&error))?;
        let handle =
            Box::into_raw(Box::new(Altmap { client: Some(client), last: events::Last::default(), batch: None }));
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { out.write(handle) };
        Ok(0)
    })
}

/// Ends the connection and frees the handle; NULL is allowed and does nothing.
///
/// # Safety
/// `handle` is NULL or from `altmap_open`, not closed yet, and in use by no other thread and by no `altmap_dump`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_close(handle: *mut Altmap) {
    boundary(|| {
        if !handle.is_null() {
            // SAFETY: from altmap_open, thus from Box::into_raw, and given up by the caller.
            drop(unsafe { Box::from_raw(handle) });
        }
        Ok(0)
    });
}

/// Looks an EID up in a table: the longest match if `eid->plen` is ALTMAP_HOST or all bits of the address, else the
/// entry of exactly this prefix.
///
/// Before the call, `entry->size` and `rlocs[0].size` are set to `sizeof` of their types, and `*n` to how many RLOCs
/// there is room for; `rlocs` may be NULL if `*n` is 0. On 0, `*entry`, `rlocs[0]` to `rlocs[*n - 1]` and `*n`, the
/// number of RLOCs, are written. On -ENOBUFS, `*n` is how many RLOCs need room, `*entry` is written, and `rlocs` is
/// not. On another error nothing is written. No pointer is kept. Blocks at most 5 seconds for each message.
///
/// -EINVAL: a NULL, a table or `size` that is none, host bits in a prefix; -EAFNOSUPPORT: `eid->afi` is none of
/// ALTMAP_AFI_*; -ENOENT: no entry; -ENOBUFS: too many RLOCs. -EPIPE, -ECONNRESET, -ETIMEDOUT, -EPROTO: the router is
/// gone, or does not answer as it should; from then on -ENOTCONN, until the handle is closed and another one opened.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread; `eid` is NULL or readable; `entry` and `n` are NULL or
/// writable; the `size` of `entry` and of `rlocs[0]` is set; `rlocs` is NULL or `*n` RLOCs of `rlocs[0].size` octets each that are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_get(
    handle: *mut Altmap,
    table: c_int,
    eid: *const AltmapEid,
    entry: *mut AltmapEntry,
    rlocs: *mut AltmapRloc,
    n: *mut usize,
) -> c_int {
    boundary(|| {
        if handle.is_null() || eid.is_null() || entry.is_null() || n.is_null() {
            return Err(libc::EINVAL);
        }
        let table = table_of(table)?;
        // SAFETY: neither is NULL, so readable by the caller's promise; all octets of both are valid values.
        let (eid, room) = unsafe { (eid.read().prefix()?, n.read()) };
        if rlocs.is_null() && room != 0 {
            return Err(libc::EINVAL);
        }
        // SAFETY: not NULL and writable, with `size` set, by the caller's promise.
        let entry = unsafe { records::Place::new(entry)? };
        // SAFETY: as above; without room for one RLOC nothing is read.
        let places = if room == 0 { None } else { Some(unsafe { records::Place::new(rlocs)? }) };
        // SAFETY: open and in use by nobody else, by the caller's promise.
        let (found, generation) = unsafe { &mut *handle }.ask(|client| client.find(table, &eid))?;
        let found = found.ok_or(libc::ENOENT)?;
        // SAFETY: `entry` and `n` as above; `rlocs` holds `room` RLOCs, and no more than that are written.
        unsafe {
            entry.write(0, &AltmapEntry::new(&found, generation));
            n.write(found.locators.len());
            if found.locators.len() > room {
                return Err(libc::ENOBUFS);
            }
            for (at, locator) in found.locators.iter().enumerate() {
                let Some(places) = &places else { break };
                places.write(at, &AltmapRloc::new(locator));
            }
        }
        Ok(0)
    })
}

/// Calls `visit` for each entry of a table, ascending by EID, with `user` as it is: on the caller's thread, after the
/// whole table has arrived. Returns 0, or what `visit` returned to end the dump. No pointer is kept. Blocks at most 5
/// seconds for each message.
///
/// The router reads its table while it sends: an entry that is there all the while comes exactly once, and `gen` is that of the
/// beginning, so that altmap_change refuses to replace what changed meanwhile. After altmap_subscribe, altmap_next tells what
/// changed since; who takes that in, in its order, after the dump has the router's table.
///
/// -EINVAL: a NULL other than `user`, or a table that is none; and what happens to the connection, as for `altmap_get`.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread; `visit` is NULL or can be called with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_dump(
    handle: *mut Altmap,
    table: c_int,
    visit: AltmapVisit,
    user: *mut c_void,
) -> c_int {
    boundary(|| {
        let visit = visit.filter(|_| !handle.is_null()).ok_or(libc::EINVAL)?;
        let table = table_of(table)?;
        // SAFETY: open and in use by nobody else, by the caller's promise; the borrow ends before `visit` may use it.
        let (entries, generation) = unsafe { &mut *handle }.ask(|client| client.dump(table))?;
        let mut rlocs: Vec<AltmapRloc> = Vec::new();
        for found in &entries {
            rlocs.clear();
            rlocs.extend(found.locators.iter().map(AltmapRloc::new));
            let entry = AltmapEntry::new(found, generation);
            // SAFETY: can be called, by the caller's promise; the pointers live until it has returned.
            let verdict = unsafe { visit(user, &raw const entry.eid, &raw const entry, rlocs.as_ptr(), rlocs.len()) };
            if verdict != 0 {
                return Ok(verdict);
            }
        }
        Ok(0)
    })
}

/// The library's version, for people. The text is static: never freed.
#[unsafe(no_mangle)]
pub extern "C" fn altmap_version() -> *const c_char {
    concat!("altitude ", env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// What a result means, for people: 0 or a negative error number. The text is static: never freed. Any thread may call.
#[unsafe(no_mangle)]
pub extern "C" fn altmap_strerror(result: c_int) -> *const c_char {
    fault::text(result).as_ptr()
}

fn table_of(number: c_int) -> Result<Table, Errno> {
    match number {
        ALTMAP_CACHE => Ok(Table::Cache),
        ALTMAP_DATABASE => Ok(Table::Database),
        _ => Err(libc::EINVAL),
    }
}
