//! The memory that frames live in.

use std::{
    alloc::{self, Layout},
    any::Any,
    fmt,
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
    slice,
};

use crate::frame::{Frame, SLOT, Umem};

/// A contiguous region of octets: allocated in the process, or the memory that AF_XDP sockets share with the kernel.
///
/// The start and the length are kept beside the owner, so that reaching a packet costs no branch on whose memory it is.
pub struct Region {
    start: NonNull<u8>,
    length: usize,
    owner: Owner,
}

/// Octets of a huge page.
const HUGE_PAGE: usize = 2 << 20;
/// Octets that a prefetch brings in.
const CACHE_LINE: usize = 64;

enum Owner {
    /// The allocation that `start` is; given back on drop.
    Process(Layout),
    /// Nobody whom it matters to: see [`Region::lent`].
    Lender,
    /// Keeps the mapping; it is unmapped when the last socket and this are gone.
    /// Behind a pointer, so that who has only memory of the process, or lent memory, is not linked with libxdp for the sake of a
    /// drop.
    Kernel(#[expect(dead_code, reason = "held for its drop")] Box<dyn Any>),
}

// SAFETY: the region is reached through this value alone: an allocation has no other owner, and of a UMEM's mapping
// the sockets never touch an octet themselves, only hand descriptors to the kernel.
unsafe impl Send for Region {}

impl Region {
    /// Zeroed memory for `slots` frames, in the process only; on huge pages where the kernel has some to give.
    ///
    /// # Panics
    /// Without a slot.
    #[must_use]
    pub fn anonymous(slots: usize) -> Self {
        assert!(slots > 0, "memory for no frame");
        let length = slots * SLOT;
        let align = if length < HUGE_PAGE { SLOT } else { HUGE_PAGE };
        let layout = Layout::from_size_align(length, align).expect("frame memory is far below the address space");
        // SAFETY: the layout is not of size zero.
        let start = unsafe { alloc::alloc(layout) };
        let Some(start) = NonNull::new(start) else { alloc::handle_alloc_error(layout) };
        // Advice comes before the first touch, and only for whole huge pages: an allocator may keep others for itself.
        let whole = length - length % HUGE_PAGE;
        if whole > 0 {
            // SAFETY: the range is inside the allocation, and the advice changes no octet. A kernel without huge pages
            // refuses, and ordinary pages serve.
            let _refused = unsafe { libc::madvise(start.as_ptr().cast(), whole, libc::MADV_HUGEPAGE) };
        }
        // SAFETY: the allocation has that many octets, all ours.
        unsafe { start.write_bytes(0, length) };
        Self { start, length, owner: Owner::Process(layout) }
    }

    /// The mapping of `umem`, which holds `slots` frames and starts at address `start`.
    ///
    /// # Safety
    /// `umem` must map `slots * SLOT` octets from `start` on, and no other `Region` may be made of it.
    pub(super) unsafe fn of_umem(umem: xsk_rs::Umem, start: usize, slots: usize) -> Self {
        // xsk-rs gives slices of single frames only. The mapping's own pointer went to C when the UMEM was registered,
        // so its provenance is exposed and the address is enough to get it back.
        let start = NonNull::new(ptr::with_exposed_provenance_mut(start)).expect("a mapping is never at address 0");
        Self { start, length: slots * SLOT, owner: Owner::Kernel(Box::new(umem)) }
    }

    /// Memory that is another's.
    ///
    /// # Safety
    /// Nobody else may touch `octets` as long as the region is there, and it must be gone when their borrow ends.
    unsafe fn lent(octets: &mut [u8]) -> Self {
        Self { start: NonNull::from(&mut *octets).cast(), length: octets.len(), owner: Owner::Lender }
    }

    /// Brings the cache line of octet `at` nearer, and those before and behind it, to be read and written. Any number will
    /// do: outside the region it does nothing.
    #[inline(always)]
    pub(crate) fn prefetch(&self, at: usize) {
        let address = self.start.as_ptr().wrapping_add(at);
        prefetch_to_write(address.wrapping_sub(CACHE_LINE));
        prefetch_to_write(address);
        prefetch_to_write(address.wrapping_add(CACHE_LINE));
    }

    /// Where the region is in this process: tells one region from another.
    pub(super) fn address(&self) -> usize {
        self.start.as_ptr().addr()
    }
}

/// Lets `body` work on `octets` as if they were the memory of a worker with one frame, which begins at octet `start` and reaches to
/// the end. What is left of it when `body` returns is where the frame was moved to.
///
/// # Panics
/// If `octets` are more than a slot has, or `start` is beyond them.
pub(crate) fn with_lent<R>(octets: &mut [u8], start: usize, body: impl FnOnce(&mut Umem, &mut Frame) -> R) -> R {
    assert!(octets.len() <= SLOT && start <= octets.len(), "a packet in a slot");
    let length = octets.len() - start;
    // SAFETY: `octets` are borrowed until this returns, and the region ends with `umem` before that: the one caller, `inline`,
    // neither keeps nor exchanges the Umem, of which there is no other to exchange it for.
    let region = unsafe { Region::lent(octets) };
    let (mut umem, mut frame) = Umem::of_lent(region, start, length);
    body(&mut umem, &mut frame)
}

/// Brings a cache line nearer in a state in which it can be written. Never faults, whatever the address.
#[inline(always)]
fn prefetch_to_write(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which every x86-64 processor either follows (PREFETCHW) or takes for a no-operation.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint of the base instruction set; it changes neither memory nor registers.
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
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
        if let Owner::Process(layout) = self.owner {
            // SAFETY: the allocation that `anonymous` made with this layout, given back once.
            unsafe { alloc::dealloc(self.start.as_ptr(), layout) };
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.owner {
            Owner::Process(_) => "process",
            Owner::Lender => "lender",
            Owner::Kernel(_) => "kernel",
        };
        f.debug_struct("Region").field("length", &self.length).field("shared with", &owner).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_any_size_is_zero_and_aligned() {
        for slots in [1, 3, 1023, 1024, 1500] {
            let mut region = Region::anonymous(slots);
            assert_eq!(region.len(), slots * SLOT);
            assert!(region.iter().all(|octet| *octet == 0));
            let align = if region.len() < HUGE_PAGE { SLOT } else { HUGE_PAGE };
            assert_eq!(region.address() % align, 0);
            let last = region.len() - 1;
            region[last] = 7;
            region.prefetch(last);
            region.prefetch(usize::MAX);
            assert_eq!(region[last], 7);
        }
    }
}
