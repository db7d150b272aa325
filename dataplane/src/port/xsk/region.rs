//! The memory that frames live in.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
    slice,
};

use crate::frame::SLOT;

/// A contiguous region of octets: allocated in the process, or the memory that AF_XDP sockets share with the kernel.
///
/// The start and the length are kept beside the owner, so that reaching a packet costs no branch on whose memory it is.
pub struct Region {
    start: NonNull<u8>,
    length: usize,
    owner: Owner,
}

enum Owner {
    /// A boxed slice, given up to `start` and taken back on drop.
    Process,
    /// Keeps the mapping; it is unmapped when the last socket and this are gone.
    Kernel(#[expect(dead_code, reason = "held for its drop")] xsk_rs::Umem),
}

// SAFETY: the region is reached through this value alone: a boxed slice has no other owner, and of a UMEM's mapping
// the sockets never touch an octet themselves, only hand descriptors to the kernel.
unsafe impl Send for Region {}

impl Region {
    /// Zeroed memory for `slots` frames, in the process only.
    #[must_use]
    pub fn anonymous(slots: usize) -> Self {
        let octets: Box<[u8]> = vec![0; slots * SLOT].into();
        let length = octets.len();
        let start = NonNull::new(Box::into_raw(octets).cast()).expect("a box is never null");
        Self { start, length, owner: Owner::Process }
    }

    /// The mapping of `umem`, which holds `slots` frames and starts at address `start`.
    ///
    /// # Safety
    /// `umem` must map `slots * SLOT` octets from `start` on, and no other `Region` may be made of it.
    pub(super) unsafe fn of_umem(umem: xsk_rs::Umem, start: usize, slots: usize) -> Self {
        // xsk-rs gives slices of single frames only. The mapping's own pointer went to C when the UMEM was registered,
        // so its provenance is exposed and the address is enough to get it back.
        let start = NonNull::new(ptr::with_exposed_provenance_mut(start)).expect("a mapping is never at address 0");
        Self { start, length: slots * SLOT, owner: Owner::Kernel(umem) }
    }

    /// Where the region is in this process: tells one region from another.
    pub(super) fn address(&self) -> usize {
        self.start.as_ptr().addr()
    }
}

impl Deref for Region {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is valid for `length` octets as long as `owner` lives, and writing needs `&mut self`. The
        // kernel writes only to slots whose frames a fill ring owns; the right to a slot is a `Frame` and given up when
        // the ring takes it, so nobody reads an octet that the kernel writes.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Region {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; and the kernel only reads slots whose frames a transmit ring owns.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if matches!(self.owner, Owner::Process) {
            let octets = ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.length);
            // SAFETY: the pointer and length of the box that `anonymous` gave up, taken back once.
            drop(unsafe { Box::from_raw(octets) });
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.owner {
            Owner::Process => "process",
            Owner::Kernel(_) => "kernel",
        };
        f.debug_struct("Region").field("length", &self.length).field("shared with", &owner).finish()
    }
}
