//! The table of the packet functions: made, filled and freed by the caller, read by the caller's threads.

use std::{
    ffi::{CStr, c_char, c_int},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use altitude_control::{
    api::{RLOCS_MAX, Refused},
    inline::{Settings, Table},
};
use altitude_dataplane::{cache::Reader, counters::Counters, worker::SourceCheck};

use crate::{
    ALTMAP_CACHE, AltmapEid, AltmapEntry, AltmapRloc,
    fault::{Errno, boundary},
    records::{Place, Sized16, address_of},
    write::{octets_of, offer},
};

/// Source check: no packet out of a tunnel may come from an EID of our own.
pub const ALTITUDE_CHECK_STANDARD: u8 = 0;
/// Source check: the same, and the mapping of a source that has none is to be asked for (ALTITUDE_ASK).
pub const ALTITUDE_CHECK_NOTIFY: u8 = 1;
/// Source check: the source has a mapping, and the packet came from one of its RLOCs.
pub const ALTITUDE_CHECK_SECURE: u8 = 2;

/// Most entries times threads: each thread counts what it used of each, in 16 octets.
const COUNTED_MAX: u64 = 1 << 28;

/// What a table is made for.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AltitudeConfig {
    /// `sizeof(altitude_config)` as the caller was compiled.
    pub size: u16,
    /// Largest IP packet towards other tunnel routers, octets; 0 is 1500.
    pub core_mtu: u16,
    /// Largest IP packet towards hosts of the site, octets; 0 is 1500.
    pub site_mtu: u16,
    /// ALTITUDE_CHECK_*.
    pub source_check: u8,
    /// Zero.
    pub rsv: u8,
    /// Most mappings and EID-prefixes of our own together; up to 16,777,216, and with `threads` multiplied up to 268,435,456.
    pub capacity: u32,
    /// Most threads at one time; up to 256.
    pub threads: u32,
    /// Seed of the flow hash: random, so that nobody outside can tell which flows share an RLOC.
    pub hash_seed: u32,
    /// Number of `rlocs`, 1 to 32.
    pub nrloc: u32,
    /// Our own RLOCs, the preferred ones of a family first; only `size` (of the first), `afi` and `addr` are read.
    pub rlocs: *const AltmapRloc,
}

// SAFETY: see the struct; a test adds up the fields.
unsafe impl Sized16 for AltitudeConfig {}

/// A table. Made by `altitude_table_new`, given up by `altitude_table_free`; any thread may use it at any time, and those that
/// change it wait for each other.
#[derive(Debug)]
pub struct AltitudeTable {
    pub(crate) shared: Arc<Shared>,
}

/// What a table and its threads have together.
pub(crate) struct Shared {
    table: Mutex<Table>,
    /// Those that no thread has, each with where it counts.
    readers: Mutex<Vec<(Reader, Arc<Counters>)>>,
    /// Of all of them.
    counters: Vec<Arc<Counters>>,
    pub(crate) rlocs: Vec<IpAddr>,
    pub(crate) hash_seed: u32,
    pub(crate) source_check: SourceCheck,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("rlocs", &self.rlocs).finish_non_exhaustive()
    }
}

impl Shared {
    /// The right to read, if not as many have it as may.
    pub(crate) fn join(&self) -> Option<(Reader, Arc<Counters>)> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Gives it back.
    pub(crate) fn leave(&self, mut reader: Reader, counters: Arc<Counters>) {
        reader.go_offline();
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push((reader, counters));
    }

    /// Changes the table; after a panic in the middle of a change there is no other.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> Result<T, Errno>) -> Result<T, Errno> {
        change(&mut *self.table.lock().map_err(|_| libc::EFAULT)?)
    }
}

/// Makes an empty table, and puts it into `*out`.
///
/// `*out` is written on 0 and only then, and is the caller's until `altitude_table_free`. No pointer is kept. Any thread may call.
///
/// -EINVAL: a NULL, a `size`, RLOC or `source_check` that is none, no RLOC or thread, more of either or a larger `capacity` than
/// may be; -EAFNOSUPPORT: an `afi` is none of ALTMAP_AFI_*.
///
/// # Safety
/// `config` is NULL or a config of `config->size` octets whose `rlocs` are `nrloc` RLOCs of `rlocs[0].size` octets each; `out` is
/// NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_table_new(config: *const AltitudeConfig, out: *mut *mut AltitudeTable) -> c_int {
    boundary(|| {
        if config.is_null() || out.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: not NULL, and of the size that it says, by the caller's promise.
        let config = unsafe { Place::new(config.cast_mut())?.read(0) };
        // SAFETY: the caller's promise for `rlocs`.
        let table = unsafe { table_of(&config)? };
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { out.write(Box::into_raw(Box::new(table))) };
        Ok(0)
    })
}

/// # Safety
/// As `altitude_table_new` for the config's `rlocs`.
unsafe fn table_of(config: &AltitudeConfig) -> Result<AltitudeTable, Errno> {
    let &AltitudeConfig { nrloc, rlocs, capacity, threads, core_mtu, site_mtu, hash_seed, .. } = config;
    let source_check = match config.source_check {
        ALTITUDE_CHECK_STANDARD => SourceCheck::Standard,
        ALTITUDE_CHECK_NOTIFY => SourceCheck::Notify,
        ALTITUDE_CHECK_SECURE => SourceCheck::Secure,
        _ => return Err(libc::EINVAL),
    };
    let bounded = (1..=RLOCS_MAX).contains(&(nrloc as usize))
        && (1..=1 << 24).contains(&capacity)
        && (1..=256).contains(&threads)
        && u64::from(capacity) * u64::from(threads) <= COUNTED_MAX
        && config.rsv == 0;
    if rlocs.is_null() || !bounded {
        return Err(libc::EINVAL);
    }
    // SAFETY: not NULL, with the size of each in the first, by the caller's promise.
    let places = unsafe { Place::new(rlocs.cast_mut())? };
    let mut addresses = Vec::new();
    for at in 0..nrloc as usize {
        // SAFETY: one of `nrloc`, by the caller's promise.
        let rloc = unsafe { places.read(at) };
        addresses.push(address_of(rloc.afi, rloc.addr)?);
    }
    let or_usual = |mtu: u16| if mtu == 0 { 1500 } else { mtu };
    let settings = Settings {
        capacity: capacity as usize,
        threads: threads as usize,
        rlocs: addresses.clone(),
        core_mtu: or_usual(core_mtu),
        site_mtu: or_usual(site_mtu),
    };
    let (table, readers) = Table::new(settings, Instant::now());
    let counters: Vec<Arc<Counters>> = readers.iter().map(|_| Arc::default()).collect();
    let readers = readers.into_iter().zip(counters.iter().cloned()).collect();
    let shared = Shared {
        table: Mutex::new(table),
        readers: Mutex::new(readers),
        counters,
        rlocs: addresses,
        hash_seed,
        source_check,
    };
    Ok(AltitudeTable { shared: Arc::new(shared) })
}

/// Gives a table up; NULL is allowed and does nothing. Its memory is freed with its last thread's.
///
/// # Safety
/// `table` is NULL or from `altitude_table_new`, not freed yet, and in use by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_table_free(table: *mut AltitudeTable) {
    boundary(|| {
        if !table.is_null() {
            // SAFETY: from altitude_table_new, thus from Box::into_raw, and given up by the caller.
            drop(unsafe { Box::from_raw(table) });
        }
        Ok(0)
    });
}

/// Puts a mapping in, or in the place of the one of exactly this prefix, whose hits stay. `entry` and `rlocs` as for `altmap_add`,
/// but that a mapping stays until it is taken out: `ttl_s` is not looked at, nor ALTMAP_EPHEMERAL. Packets see it at once.
///
/// -EINVAL: a NULL, a `size`, EID, RLOC or `act` that is none, RLOCs and ALTMAP_NEGATIVE together or neither, a prefix inside one of
/// our own, an RLOC inside the prefix; -ENOSPC: the table is full, or a thread has neither handed a packet over nor called
/// `altitude_quiescent` for so long that no memory can be used anew; there is no mapping of the prefix then.
///
/// # Safety
/// `table` is NULL or from `altitude_table_new`; the rest as for `altmap_add`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_table_put(
    table: *mut AltitudeTable,
    eid: *const AltmapEid,
    entry: *const AltmapEntry,
    rlocs: *const AltmapRloc,
    n: usize,
) -> c_int {
    boundary(|| {
        // SAFETY: the caller's promise for each pointer.
        let offer = unsafe { offer(ALTMAP_CACHE, eid, entry, rlocs, n)? };
        // SAFETY: NULL or from altitude_table_new, by the caller's promise.
        let table = unsafe { table.as_ref() }.ok_or(libc::EINVAL)?;
        table.shared.change(|table| done(&table.put(Instant::now(), offer.mapping)))
    })
}

/// Takes the mapping of exactly this prefix out. Packets see it at once.
///
/// -ENOENT: there is none; -EINVAL: a NULL, or an EID that is none; -EAFNOSUPPORT as for `altitude_table_new`.
///
/// # Safety
/// `table` is NULL or from `altitude_table_new`; `eid` is NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_table_delete(table: *mut AltitudeTable, eid: *const AltmapEid) -> c_int {
    // SAFETY: the caller's promise for each pointer.
    unsafe { change(table, eid, |table, eid| found(table.remove(Instant::now(), &eid))) }
}

/// Makes an EID-prefix one of ours (`ours` is not 0): packets from it are encapsulated, packets to it come out of tunnels. Or takes
/// that back.
///
/// -ENOENT: it is none of ours; -EINVAL: a NULL, an EID that is none, or a prefix that has a mapping, or one inside it; -ENOSPC as for
/// `altitude_table_put`.
///
/// # Safety
/// As for `altitude_table_delete`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_table_own(table: *mut AltitudeTable, eid: *const AltmapEid, ours: c_int) -> c_int {
    let own = |table: &mut Table, eid| if ours == 0 { found(table.disown(&eid)) } else { done(&table.own(eid)) };
    // SAFETY: the caller's promise for each pointer.
    unsafe { change(table, eid, own) }
}

/// Says that a locator can be reached (`up` is not 0), as all can at first, or that it cannot: the mappings that have it use
/// others. `addr` has 4 or 16 octets.
///
/// -EINVAL: a NULL; -EAFNOSUPPORT: `afi` is none of ALTMAP_AFI_*; -ENOSPC as for `altitude_table_put`, but that it is known from
/// now on, and takes effect with a later call that changes the table.
///
/// # Safety
/// `table` is NULL or from `altitude_table_new`; `addr` is NULL or readable for the octets of its family.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_table_reach(
    table: *mut AltitudeTable,
    afi: u16,
    addr: *const u8,
    up: c_int,
) -> c_int {
    boundary(|| {
        // SAFETY: the caller's promise.
        let locator = unsafe { octets_of(afi, addr)? };
        // SAFETY: NULL or from altitude_table_new, by the caller's promise.
        let table = unsafe { table.as_ref() }.ok_or(libc::EINVAL)?;
        table.shared.change(|table| done(&table.judge(locator, up != 0).map(drop)))
    })
}

/// Packets that used the mapping, or the EID-prefix of our own, of exactly this prefix, and their inner octets, of all threads. May
/// lag behind them. `packets` and `octets` are written on 0 and only then.
///
/// -ENOENT: there is none; -EINVAL: a NULL, or an EID that is none.
///
/// # Safety
/// As for `altitude_table_delete`; `packets` and `octets` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_table_hits(
    table: *mut AltitudeTable,
    eid: *const AltmapEid,
    packets: *mut u64,
    octets: *mut u64,
) -> c_int {
    let read = |table: &mut Table, eid| {
        if packets.is_null() || octets.is_null() {
            return Err(libc::EINVAL);
        }
        let hits = table.hits(&eid).ok_or(libc::ENOENT)?;
        // SAFETY: neither is NULL, so writable by the caller's promise.
        unsafe {
            packets.write(hits.packets);
            octets.write(hits.octets);
        }
        Ok(0)
    };
    // SAFETY: the caller's promise for each pointer.
    unsafe { change(table, eid, read) }
}

/// What all threads of a table, also those given up, have counted so far under a stable name: "encapsulated", "decapsulated",
/// "missed", or a reason's. May lag behind them. `*out` is written on 0 and only then.
///
/// -ENOENT: there is no such counter; -EINVAL: a NULL.
///
/// # Safety
/// `table` is NULL or from `altitude_table_new`; `name` is NULL or a string that ends with a NUL; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altitude_table_count(
    table: *const AltitudeTable,
    name: *const c_char,
    out: *mut u64,
) -> c_int {
    boundary(|| {
        if name.is_null() || out.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: NULL or from altitude_table_new, by the caller's promise.
        let table = unsafe { table.as_ref() }.ok_or(libc::EINVAL)?;
        // SAFETY: not NULL, so a string that ends with a NUL, by the caller's promise.
        let name = unsafe { CStr::from_ptr(name) }.to_bytes();
        let values = table.shared.counters.iter().flat_map(|counters| counters.named());
        let values = values.filter(|(known, _)| known.as_bytes() == name).map(|(_, value)| value);
        let sum = values.reduce(u64::wrapping_add).ok_or(libc::ENOENT)?;
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { out.write(sum) };
        Ok(0)
    })
}

/// # Safety
/// As `altitude_table_delete`.
unsafe fn change(
    table: *mut AltitudeTable,
    eid: *const AltmapEid,
    change: impl FnOnce(&mut Table, altitude_dataplane::mapping::EidPrefix) -> Result<c_int, Errno>,
) -> c_int {
    boundary(|| {
        // SAFETY: NULL or readable, by the caller's promise.
        let eid = unsafe { eid.as_ref() }.ok_or(libc::EINVAL)?.prefix()?;
        // SAFETY: NULL or from altitude_table_new, by the caller's promise.
        let table = unsafe { table.as_ref() }.ok_or(libc::EINVAL)?;
        table.shared.change(|table| change(table, eid))
    })
}

fn done(result: &Result<(), Refused>) -> Result<c_int, Errno> {
    match result {
        Ok(()) => Ok(0),
        Err(Refused::Full(_)) => Err(libc::ENOSPC),
        Err(_) => Err(libc::EINVAL),
    }
}

const fn found(there: bool) -> Result<c_int, Errno> {
    if there { Ok(0) } else { Err(libc::ENOENT) }
}
