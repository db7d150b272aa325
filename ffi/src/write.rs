//! The functions that change mappings.

use std::{ffi::c_int, net::IpAddr, time::Duration};

use altitude_control::api::{Judged, Offer, Operation, RLOCS_MAX, Table};
use altitude_dataplane::mapping::{Action, Locator, Mapping, Ttl};

use crate::{
    Altmap, AltmapEid, AltmapEntry, AltmapRloc,
    fault::{Errno, boundary},
    records::{
        ALTMAP_AUTHORITATIVE, ALTMAP_EPHEMERAL, ALTMAP_FOREIGN, ALTMAP_NEGATIVE, ALTMAP_RLOC_LOCAL,
        ALTMAP_RLOC_REACHABLE, Place, address_of,
    },
    table_of,
};

/// Puts a mapping into a table; fails if exactly this prefix is there.
///
/// Of `entry`, `size`, `version`, `flags`, `ttl_s` and `act` are read: `ttl_s` seconds is how long it stays, 0 until it is taken
/// out; with ALTMAP_NEGATIVE there are no RLOCs and `act` is done; with ALTMAP_EPHEMERAL it goes when the handle is closed
/// or the program dies. NULL stands for a mapping with RLOCs that stays. Of each RLOC, `size` (of the first), `afi`, `addr`, `prio`,
/// `weight`, `mprio`, `mweight` and the flags ALTMAP_RLOC_REACHABLE, without which it is not used, and ALTMAP_RLOC_LOCAL
/// are read. No pointer is kept. Blocks at most 5 seconds for each message.
///
/// In ALTMAP_DATABASE it is one of the router's own mappings from then on: registered, answered for and announced as if its
/// configuration named it. `ttl_s` is then its Record TTL, 0 a day. It has RLOCs, one of them the router's unless
/// ALTMAP_FOREIGN, and is checked as the configuration is. When the configuration is read again, what that names is as it says.
///
/// -EEXIST: it is there, altmap_change replaces it; -EINVAL: a NULL, a `size`, EID, RLOC or `act` that is none, RLOCs and
/// ALTMAP_NEGATIVE together or neither, an EID of the map-cache that is the router's own, a mapping of the router's own that its
/// configuration could not have either; -ENOSPC: the table is full; -EPERM: this client may only read; and what happens to the
/// connection, as for `altmap_get`.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread; `eid` is NULL or readable; `entry` is NULL or an entry of
/// `entry->size` octets; `rlocs` is NULL or `n` RLOCs of `rlocs[0].size` octets each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_add(
    handle: *mut Altmap,
    table: c_int,
    eid: *const AltmapEid,
    entry: *const AltmapEntry,
    rlocs: *const AltmapRloc,
    n: usize,
) -> c_int {
    boundary(|| {
        // SAFETY: the caller's promise for each pointer.
        let offer = unsafe { offer(table, eid, entry, rlocs, n)? };
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        unsafe { change(handle, Operation::Add(offer)) }
    })
}

/// Replaces the mapping of exactly this prefix, whose counters stay. As `altmap_add` for the rest.
///
/// `must_gen` is 0, or the `gen` of an entry that `altmap_get` or `altmap_dump` gave: then -EAGAIN if the mapping has changed
/// since. The `gen` in an event is no such number.
///
/// -ENOENT: there is none.
///
/// # Safety
/// As for `altmap_add`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_change(
    handle: *mut Altmap,
    table: c_int,
    eid: *const AltmapEid,
    entry: *const AltmapEntry,
    rlocs: *const AltmapRloc,
    n: usize,
    must_gen: u64,
) -> c_int {
    boundary(|| {
        // SAFETY: the caller's promise for each pointer.
        let offer = unsafe { offer(table, eid, entry, rlocs, n)? };
        let unless_after = Some(must_gen).filter(|&must_gen| must_gen != 0);
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        unsafe { change(handle, Operation::Change { offer, unless_after }) }
    })
}

/// Takes the mapping of exactly this prefix out of a table.
///
/// -ENOENT: there is none; -EINVAL: a NULL, a table or EID that is none; -EPERM as for `altmap_add`.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread; `eid` is NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_delete(handle: *mut Altmap, table: c_int, eid: *const AltmapEid) -> c_int {
    boundary(|| {
        // SAFETY: NULL or readable, by the caller's promise.
        let eid = unsafe { eid.as_ref() }.ok_or(libc::EINVAL)?.prefix()?;
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        unsafe { change(handle, Operation::Delete { table: table_of(table)?, eid, unless_after: None }) }
    })
}

/// Takes all mappings out of a table, static ones and those of NAT traversal only if `all` is not 0. What comes into it meanwhile may go too. Of ALTMAP_DATABASE
/// it undoes what clients made: what they put in leaves, what they changed is as the configuration says. Blocks until it is
/// done, or until 60 seconds went by without any message, which costs the connection.
///
/// -EINVAL: a NULL, or a table that is none; -EOPNOTSUPP: `all` of ALTMAP_DATABASE; -EPERM as for `altmap_add`.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_flush(handle: *mut Altmap, table: c_int, all: c_int) -> c_int {
    boundary(|| {
        let operation = Operation::Flush { table: table_of(table)?, instance: None, all: all != 0 };
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        unsafe { perform(handle, &operation) }
    })
}

/// Takes a locator out of use in every mapping that has it (`up` is 0), or takes that back. `addr` has 4 or 16 octets.
///
/// -ENOENT: no mapping has it; -EINVAL: a NULL; -EAFNOSUPPORT: `afi` is none of ALTMAP_AFI_*; -ENOSPC: as many locators are out
/// of use as may be; -EPERM as for `altmap_add`.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread; `addr` is NULL or readable for the octets of its family.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_reach(handle: *mut Altmap, afi: u16, addr: *const u8, up: c_int) -> c_int {
    boundary(|| {
        // SAFETY: the caller's promise.
        let judged = Judged::Locator(unsafe { octets_of(afi, addr)? });
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        unsafe { perform(handle, &Operation::Judge { judged, up: up != 0 }) }
    })
}

/// # Safety
/// `handle` is NULL or open, and in use by no other thread.
unsafe fn perform(handle: *mut Altmap, operation: &Operation) -> Result<c_int, Errno> {
    // SAFETY: the caller's promise.
    let handle = unsafe { handle.as_mut() }.ok_or(libc::EINVAL)?;
    handle.ask(|client| client.perform(operation)).map(|_| 0)
}

/// # Safety
/// `handle` is NULL or open, and in use by no other thread.
unsafe fn change(handle: *mut Altmap, operation: Operation) -> Result<c_int, Errno> {
    // SAFETY: the caller's promise.
    unsafe { handle.as_mut() }.ok_or(libc::EINVAL)?.change(operation)
}

/// The address at `addr`.
///
/// # Safety
/// `addr` is NULL or readable for the octets of its family.
pub(crate) unsafe fn octets_of(afi: u16, addr: *const u8) -> Result<IpAddr, Errno> {
    if addr.is_null() {
        return Err(libc::EINVAL);
    }
    let octets = match afi {
        crate::ALTMAP_AFI_IPV4 => 4,
        crate::ALTMAP_AFI_IPV6 => 16,
        _ => return Err(libc::EAFNOSUPPORT),
    };
    let mut whole = [0; 16];
    // SAFETY: not NULL, so readable for as many octets by the caller's promise.
    whole[..octets].copy_from_slice(unsafe { std::slice::from_raw_parts(addr, octets) });
    address_of(afi, whole)
}

/// # Safety
/// As `altmap_add` for `eid`, `entry` and `rlocs`.
pub(crate) unsafe fn offer(
    table: c_int,
    eid: *const AltmapEid,
    entry: *const AltmapEntry,
    rlocs: *const AltmapRloc,
    n: usize,
) -> Result<Offer, Errno> {
    // SAFETY: NULL or readable, by the caller's promise.
    let eid = unsafe { eid.as_ref() }.ok_or(libc::EINVAL)?.prefix()?;
    let table: Table = table_of(table)?;
    if n > RLOCS_MAX || (rlocs.is_null() && n != 0) {
        return Err(libc::EINVAL);
    }
    // SAFETY: not NULL, and of the size that it says, by the caller's promise.
    let entry = if entry.is_null() { None } else { Some(unsafe { Place::new(entry.cast_mut())?.read(0) }) };
    let flags = entry.map_or(0, |entry| entry.flags);
    let is = |flag: u32| flags & flag != 0;
    let action = entry.map_or(0, |entry| entry.act);
    if is(ALTMAP_NEGATIVE) != (n == 0) || action > Action::DropAuthFailure.bits() {
        return Err(libc::EINVAL);
    }
    let mut locators = Vec::with_capacity(n);
    if n > 0 {
        // SAFETY: not NULL, with the size of each in the first, by the caller's promise.
        let places = unsafe { Place::new(rlocs.cast_mut())? };
        for at in 0..n {
            // SAFETY: one of `n`, by the caller's promise.
            locators.push(locator(&unsafe { places.read(at) })?);
        }
    }
    let life = entry.map_or(0, |entry| entry.ttl_s);
    let mapping = Mapping {
        version: entry.map_or(0, |entry| entry.version),
        authoritative: is(ALTMAP_AUTHORITATIVE),
        locators,
        ..Mapping::negative(eid, Ttl::ReceiverDecides, Action::from_bits(action))
    };
    let life = Some(life).filter(|&life| life != 0).map(|life| Duration::from_secs(life.into()));
    Ok(Offer { table, mapping, life, ephemeral: is(ALTMAP_EPHEMERAL), foreign: is(ALTMAP_FOREIGN) })
}

fn locator(rloc: &AltmapRloc) -> Result<Locator, Errno> {
    Ok(Locator {
        multicast_priority: rloc.mprio,
        multicast_weight: rloc.mweight,
        local: rloc.flags & ALTMAP_RLOC_LOCAL != 0,
        reachable: rloc.flags & ALTMAP_RLOC_REACHABLE != 0,
        ..Locator::unicast(address_of(rloc.afi, rloc.addr)?, rloc.prio, rloc.weight)
    })
}
