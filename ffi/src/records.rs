//! The structs that C sees, and how they are filled.

use std::{
    net::IpAddr,
    ptr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use altitude_control::api::{Entry, EntryLocator, Origin};
use altitude_dataplane::mapping::{EidPrefix, InstanceId, Locator, Prefix};

use crate::{ALTMAP_AFI_IPV4, ALTMAP_AFI_IPV6, ALTMAP_HOST, fault::Errno};

/// Flag of an entry: no RLOCs; `act` says what is done.
pub const ALTMAP_NEGATIVE: u32 = 0x01;
/// Flag of an entry: an ETR of the site itself said so.
pub const ALTMAP_AUTHORITATIVE: u32 = 0x02;
/// Flag of an entry: it goes with the connection of the client that put it in.
pub const ALTMAP_EPHEMERAL: u32 = 0x04;
/// Flag of an entry of the router's own: none of its RLOCs is the router's, and that is meant.
pub const ALTMAP_FOREIGN: u32 = 0x08;

/// Flag of an RLOC: packets can be sent to it now.
pub const ALTMAP_RLOC_UP: u32 = 0x01;
/// Flag of an RLOC: one of the router's own interfaces.
pub const ALTMAP_RLOC_LIF: u32 = 0x02;
/// Flag of an RLOC: reachable, as its record says (R).
pub const ALTMAP_RLOC_REACHABLE: u32 = 0x10;
/// Flag of an RLOC: of the ETR that sent the record (L).
pub const ALTMAP_RLOC_LOCAL: u32 = 0x20;
/// Flag of an RLOC: a client has taken it out of use (`altmap_reach`).
pub const ALTMAP_RLOC_BAD: u32 = 0x40;

/// Origin: the operator.
pub const ALTMAP_ORIGIN_STATIC: u8 = 1;
/// Origin: a Map-Reply.
pub const ALTMAP_ORIGIN_MAP_REPLY: u8 = 2;
/// Origin: a Map-Notify of a Map-Server that the router subscribed at.
pub const ALTMAP_ORIGIN_PUBSUB: u8 = 4;
/// Origin: a client of this API.
pub const ALTMAP_ORIGIN_API: u8 = 7;
/// Origin: nobody answered; this stops asking for a while.
pub const ALTMAP_ORIGIN_GIVEN_UP: u8 = 128;
/// Origin: NAT traversal.
pub const ALTMAP_ORIGIN_NAT: u8 = 129;

/// `left_s` of an entry that stays.
pub const ALTMAP_STAYS: u32 = u32::MAX;

/// An EID, or an EID-prefix.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AltmapEid {
    /// ALTMAP_AFI_*.
    pub afi: u16,
    /// Prefix length in bits, or ALTMAP_HOST.
    pub plen: u8,
    /// Zero.
    pub rsv: u8,
    /// Instance-ID, 24 bits.
    pub iid: u32,
    /// The address in network order; what its family does not need is zero.
    pub addr: [u8; 16],
}

/// An RLOC of an entry. Figures that the router does not keep for each RLOC yet are 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AltmapRloc {
    /// `sizeof(altmap_rloc)` as the caller was compiled.
    pub size: u16,
    /// ALTMAP_AFI_*.
    pub afi: u16,
    /// The address in network order; what its family does not need is zero.
    pub addr: [u8; 16],
    /// Lower is preferred; 255 is not to be used.
    pub prio: u8,
    /// Share of the load among RLOCs of the same priority.
    pub weight: u8,
    /// As `prio`, for multicast.
    pub mprio: u8,
    /// As `weight`, for multicast.
    pub mweight: u8,
    /// ALTMAP_RLOC_*.
    pub flags: u32,
    /// Octets.
    pub mtu: u32,
    /// Microseconds.
    pub rtt_us: u32,
    /// Zero.
    pub rsv: u32,
    /// Packets sent to it.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
    /// Last nonce sent.
    pub tx_nonce: u32,
    /// Last nonce received.
    pub rx_nonce: u32,
}

/// An entry of a table.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AltmapEntry {
    /// `sizeof(altmap_entry)` as the caller was compiled.
    pub size: u16,
    /// Map-Version; 0 is none.
    pub version: u16,
    /// ALTMAP_NEGATIVE, ALTMAP_AUTHORITATIVE.
    pub flags: u32,
    /// The record's TTL in seconds; 0 is none.
    pub ttl_s: u32,
    /// What is done without RLOCs, as the ACT field of a Map-Reply (RFC 9301 section 5.4).
    pub act: u8,
    /// ALTMAP_ORIGIN_*.
    pub origin: u8,
    /// Number of RLOCs.
    pub nrloc: u16,
    /// Generation of the tables when the entry was read; grows whenever a table changes.
    pub r#gen: u64,
    /// Packets that used it.
    pub hits: u64,
    /// Their inner octets.
    pub octets: u64,
    /// When it came, milliseconds since 1970.
    pub created_ms: u64,
    /// When it was last used, milliseconds since 1970; 0 is never, or not known.
    pub used_ms: u64,
    /// Seconds until it leaves, or ALTMAP_STAYS.
    pub left_s: u32,
    /// Zero.
    pub rsv: u32,
    /// The prefix it is of.
    pub eid: AltmapEid,
}

impl AltmapEid {
    /// All zero: there is none.
    pub(crate) const NONE: Self = Self { afi: 0, plen: 0, rsv: 0, iid: 0, addr: [0; 16] };

    pub(crate) fn new(eid: &EidPrefix) -> Self {
        let (afi, addr) = address(eid.prefix.address());
        Self { afi, plen: eid.prefix.length(), rsv: 0, iid: eid.instance.get(), addr }
    }

    /// What is asked for.
    pub(crate) fn prefix(&self) -> Result<EidPrefix, Errno> {
        let address = address_of(self.afi, self.addr)?;
        let instance = InstanceId::new(self.iid).ok_or(libc::EINVAL)?;
        let prefix = match self.plen {
            ALTMAP_HOST => Prefix::host(address),
            length => Prefix::new(address, length).map_err(|_| libc::EINVAL)?,
        };
        if prefix.address() != address || self.rsv != 0 {
            return Err(libc::EINVAL);
        }
        Ok(EidPrefix { instance, prefix })
    }
}

impl AltmapRloc {
    pub(crate) fn new(EntryLocator { locator, up, bad }: &EntryLocator) -> Self {
        let (afi, addr) = address(locator.address);
        Self {
            size: size_of::<Self>() as u16,
            afi,
            addr,
            prio: locator.priority,
            weight: locator.weight,
            mprio: locator.multicast_priority,
            mweight: locator.multicast_weight,
            flags: if *up { ALTMAP_RLOC_UP } else { 0 }
                | if *bad { ALTMAP_RLOC_BAD } else { 0 }
                | if locator.reachable { ALTMAP_RLOC_REACHABLE } else { 0 }
                | if locator.local { ALTMAP_RLOC_LIF | ALTMAP_RLOC_LOCAL } else { 0 },
            mtu: 0,
            rtt_us: 0,
            rsv: 0,
            packets: 0,
            octets: 0,
            tx_nonce: 0,
            rx_nonce: 0,
        }
    }
}

impl AltmapRloc {
    /// One of which only the address, whether it is used and how far away it is are known.
    pub(crate) fn judged(locator: IpAddr, up: bool, rtt_us: u32) -> Self {
        let entry = EntryLocator { locator: Locator::unicast(locator, 0, 0), up, bad: !up };
        Self { rtt_us, ..Self::new(&entry) }
    }
}

impl AltmapEntry {
    pub(crate) fn new(entry: &Entry, generation: u64) -> Self {
        Self {
            size: size_of::<Self>() as u16,
            version: entry.version,
            flags: if entry.locators.is_empty() { ALTMAP_NEGATIVE } else { 0 }
                | if entry.authoritative { ALTMAP_AUTHORITATIVE } else { 0 }
                | if entry.ephemeral { ALTMAP_EPHEMERAL } else { 0 },
            ttl_s: entry.ttl.map_or(0, seconds),
            act: entry.action.bits(),
            origin: match entry.origin {
                Origin::Static => ALTMAP_ORIGIN_STATIC,
                Origin::MapReply => ALTMAP_ORIGIN_MAP_REPLY,
                Origin::PubSub => ALTMAP_ORIGIN_PUBSUB,
                Origin::Api => ALTMAP_ORIGIN_API,
                Origin::GivenUp => ALTMAP_ORIGIN_GIVEN_UP,
                Origin::Nat => ALTMAP_ORIGIN_NAT,
            },
            // The socket's messages have room for far fewer.
            nrloc: entry.locators.len().try_into().unwrap_or(u16::MAX),
            r#gen: generation,
            hits: entry.packets,
            octets: entry.octets,
            created_ms: milliseconds(entry.created),
            used_ms: entry.used.map_or(0, milliseconds),
            left_s: entry.left.map_or(ALTMAP_STAYS, seconds),
            rsv: 0,
            eid: AltmapEid::new(&entry.eid),
        }
    }
}

/// The address of this family in C's memory.
pub(crate) fn address_of(afi: u16, addr: [u8; 16]) -> Result<IpAddr, Errno> {
    let [a, b, c, d, ..] = addr;
    match afi {
        ALTMAP_AFI_IPV4 => Ok(IpAddr::from([a, b, c, d])),
        ALTMAP_AFI_IPV6 => Ok(IpAddr::from(addr)),
        _ => Err(libc::EAFNOSUPPORT),
    }
}

pub(crate) fn address(address: IpAddr) -> (u16, [u8; 16]) {
    match address {
        IpAddr::V4(v4) => {
            let mut addr = [0; 16];
            addr[..4].copy_from_slice(&v4.octets());
            (ALTMAP_AFI_IPV4, addr)
        }
        IpAddr::V6(v6) => (ALTMAP_AFI_IPV6, v6.octets()),
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A struct that begins with its size and may be filled in C's memory.
///
/// # Safety
/// `repr(C)`, without padding, any octets are a value, and the first field is the `u16` of the size.
pub(crate) unsafe trait Sized16: Copy {
    /// Octets of the first version of the struct: what was appended since is missing from older callers' structs.
    const LEAST: usize = size_of::<Self>();
}

// SAFETY: see the struct; a test adds up the fields.
unsafe impl Sized16 for AltmapEntry {}
// SAFETY: see the struct; a test adds up the fields.
unsafe impl Sized16 for AltmapRloc {}

/// C's memory for one struct, or for an array of them, each as large as C's compiler thought.
#[derive(Debug)]
pub(crate) struct Place<T> {
    start: *mut T,
    size: u16,
}

impl<T: Sized16> Place<T> {
    /// Reads the size in the first struct, which is that of all.
    ///
    /// # Safety
    /// `start` is aligned and its first two octets are readable.
    pub(crate) unsafe fn new(start: *mut T) -> Result<Self, Errno> {
        // SAFETY: the caller's promise, and the trait's: the size comes first.
        let size = unsafe { start.cast::<u16>().read() };
        // A larger one is from a header newer than this library.
        if usize::from(size) < T::LEAST || usize::from(size) % align_of::<T>() != 0 {
            return Err(libc::EINVAL);
        }
        Ok(Self { start, size })
    }

    /// Reads the struct at `at`; what a newer header has beyond a `T` is left unread. Only of structs that were never appended to.
    ///
    /// # Safety
    /// The memory of structs 0 to `at`, of the size read, is readable.
    pub(crate) unsafe fn read(&self, at: usize) -> T {
        const { assert!(T::LEAST == size_of::<T>(), "all of it is there") };
        // SAFETY: inside the caller's memory; `new` has verified that each struct has room for a T and is aligned.
        unsafe { self.start.byte_add(at * usize::from(self.size)).read() }
    }

    /// Fills the struct at `at`: its size stays, what an older header has not is left out, and what a newer one has beyond `value`
    /// becomes zero.
    ///
    /// # Safety
    /// The memory of structs 0 to `at`, of the size read, is writable.
    pub(crate) unsafe fn write(&self, at: usize, value: &T) {
        let size = usize::from(self.size);
        let known = size.min(size_of::<T>());
        // SAFETY: inside the caller's memory, no more than the size of each; the trait promises that there is no padding, so all
        // octets of `value` are set. The structs after the first are aligned as it is, which `new` has verified.
        unsafe {
            let place = self.start.byte_add(at * size);
            ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), place.cast(), known);
            place.cast::<u16>().write(self.size);
            ptr::write_bytes(place.cast::<u8>().add(known), 0, size - known);
        }
    }
}
