//! Memory that the writer fills while workers read it: arenas that never move, and arrays handed out of them.
//!
//! An [`Arena`] reserves address space once and takes pages as it grows, so that an index stays good for as long as
//! the table lives. Who may read what and when is not decided here: see [`quiescence`](super::quiescence).

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

/// A huge page of x86-64 and aarch64, octets. Beyond the first one an arena asks for huge pages: random look-ups
/// over small pages spend more on the TLB than on the table.
const HUGE: usize = 2 << 20;
/// Pages are taken in steps of this many octets while the arena is small.
const STEP: usize = 64 << 10;

/// Address space for up to `limit` values of `T`, all octets zero until written.
///
/// `T` is plain data for which zero octets are a value, and needs no drop.
pub(super) struct Arena<T> {
    base: NonNull<T>,
    limit: usize,
    /// Octets from `base` on that may be touched.
    committed: AtomicUsize,
    mapping: *mut libc::c_void,
    mapped: usize,
    huge: bool,
    _owns: PhantomData<T>,
}

// SAFETY: the arena only gives out shared references and raw pointers; what `T` allows to be shared, it allows here.
unsafe impl<T: Send + Sync> Send for Arena<T> {}
// SAFETY: as above; growing is one writer's business and changes page protection only.
unsafe impl<T: Send + Sync> Sync for Arena<T> {}

impl<T> Arena<T> {
    /// Reserves address space; `huge` asks for huge pages as it grows.
    ///
    /// # Panics
    /// If the system refuses the address space (a limit on virtual memory), or `T` needs a drop.
    pub(super) fn reserve(limit: usize, huge: bool) -> Self {
        assert!(!std::mem::needs_drop::<T>(), "an arena drops nothing");
        let mapped = (limit * size_of::<T>()).next_multiple_of(HUGE) + HUGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), mapped, libc::PROT_NONE, flags, -1, 0) };
        assert!(mapping != libc::MAP_FAILED, "no address space for the map-cache: raise the limit on virtual memory");
        let skip = mapping.addr().next_multiple_of(HUGE) - mapping.addr();
        // SAFETY: `skip` is below HUGE, and HUGE more than needed was mapped.
        let base = NonNull::new(unsafe { mapping.byte_add(skip) }.cast()).expect("a mapping is never at address 0");
        Self { base, limit, committed: AtomicUsize::new(0), mapping, mapped, huge, _owns: PhantomData }
    }

    /// Values it has address space for.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Makes the first `count` values usable. The writer's alone; false if the system has no memory or `limit` is met.
    pub(super) fn commit(&self, count: usize) -> bool {
        let have = self.committed.load(Ordering::Relaxed);
        let need = count * size_of::<T>();
        if need <= have {
            return true;
        }
        if count > self.limit {
            return false;
        }
        let step = if need > HUGE { HUGE } else { STEP };
        let until = need.next_multiple_of(step);
        // SAFETY: `until` stays inside the mapping, which is HUGE longer than `limit` values.
        let from = unsafe { self.base.as_ptr().byte_add(have) };
        // SAFETY: the range is ours and holds no value yet.
        let opened = unsafe { libc::mprotect(from.cast(), until - have, libc::PROT_READ | libc::PROT_WRITE) } == 0;
        if opened {
            self.committed.store(until, Ordering::Relaxed);
            if self.huge && until > HUGE {
                self.advise(0, until / size_of::<T>(), libc::MADV_HUGEPAGE);
                if have <= HUGE {
                    // What was filled in small pages until now.
                    self.advise(0, HUGE / size_of::<T>(), libc::MADV_COLLAPSE);
                }
            }
        }
        opened
    }

    /// Tells the kernel what a range of values is good for; a refusal changes speed only.
    pub(super) fn advise(&self, from: usize, count: usize, advice: libc::c_int) {
        // SAFETY: the range is inside the mapping; no advice used here but `discard`'s changes what is read.
        unsafe { libc::madvise(self.base.as_ptr().add(from).cast(), count * size_of::<T>(), advice) };
    }

    /// Octets of memory behind the arena: of a sparse one only the pages that were touched.
    pub(super) fn resident(&self) -> usize {
        const PAGE: usize = 4096;
        let committed = self.committed.load(Ordering::Relaxed);
        let mut pages = vec![0_u8; committed.div_ceil(PAGE)];
        // SAFETY: the range is mapped, and `pages` has an octet for each of its pages.
        let asked = unsafe { libc::mincore(self.base.as_ptr().cast(), committed, pages.as_mut_ptr()) };
        if asked == 0 { pages.iter().filter(|&&page| page & 1 == 1).count() * PAGE } else { committed }
    }

    /// Sets a range of values, which nobody reads any more, back to zero; large ones give their pages back.
    ///
    /// # Safety
    /// The range is committed, and nobody holds a reference into it.
    pub(super) unsafe fn clear(&self, from: usize, count: usize) {
        const PAGE: usize = 4096;
        let octets = size_of::<T>();
        let base = self.base.as_ptr().addr();
        let (start, end) = (base + from * octets, base + (from + count) * octets);
        let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        // Only where pages begin and end with values; they do where it matters.
        let whole = PAGE.is_multiple_of(octets) && last.saturating_sub(first) >= HUGE;
        let (first, last) =
            if whole { ((first - base) / octets, (last - base) / octets) } else { (from + count, from + count) };
        if last > first {
            self.advise(first, last - first, libc::MADV_DONTNEED);
        }
        for (from, until) in [(from, first), (last, from + count)] {
            // SAFETY: committed and unread, as promised; zero octets are a `T`.
            unsafe { ptr::write_bytes(self.base.as_ptr().add(from), 0, until - from) };
        }
    }

    /// The value `index`.
    ///
    /// # Safety
    /// `index` is committed, and what the writer put there is not being replaced while the reference lives.
    #[inline(always)]
    pub(super) unsafe fn get(&self, index: u32) -> &T {
        // SAFETY: committed, as promised; zero octets and everything written through `put` are a `T`.
        unsafe { &*self.base.as_ptr().add(index as usize) }
    }

    /// The `count` values from `index` on.
    ///
    /// # Safety
    /// As of [`get`](Self::get), for each of them.
    #[inline(always)]
    pub(super) unsafe fn slice(&self, index: u32, count: usize) -> &[T] {
        // SAFETY: as in `get`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(index as usize), count) }
    }

    /// Where value `index` lies; never followed here.
    #[inline(always)]
    pub(super) fn address(&self, index: u32) -> *const T {
        self.base.as_ptr().wrapping_add(index as usize)
    }

    /// Writes a value that no reader can reach.
    ///
    /// # Safety
    /// `index` is committed, and nobody holds a reference to it.
    pub(super) unsafe fn put(&self, index: u32, value: T) {
        // SAFETY: as promised.
        unsafe { ptr::write(self.base.as_ptr().add(index as usize), value) };
    }
}

impl<T> Drop for Arena<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this arena's own, and every reference into it borrowed the arena.
        unsafe { libc::munmap(self.mapping, self.mapped) };
    }
}

/// Most values of an array.
pub(super) const ARRAY_MAX: usize = 64;

/// Which sizes arrays come in: exact while small, in steps of at most a quarter above, so that an array that grows by
/// one mostly finds one that another left behind.
const SIZES: [u8; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64];

/// For each count, the place of its size in [`SIZES`].
const CLASSES: [u8; ARRAY_MAX + 1] = {
    let mut classes = [0; ARRAY_MAX + 1];
    let (mut count, mut class) = (1, 0);
    while count <= ARRAY_MAX {
        if count > SIZES[class] as usize {
            class += 1;
        }
        classes[count] = class as u8;
        count += 1;
    }
    classes
};

/// Which parts of an arena are handed out, as arrays of 1 to [`ARRAY_MAX`] values. Index 0 is never handed out.
pub(super) struct Arrays {
    /// The first index never used.
    next: usize,
    limit: usize,
    free: [Vec<u32>; SIZES.len()],
    used: usize,
}

impl Arrays {
    pub(super) fn new(limit: usize) -> Self {
        Self { next: 1, limit, free: std::array::from_fn(|_| Vec::new()), used: 0 }
    }

    /// Whether `arrays` arrays of any size can be handed out without asking the arena for more than it has.
    pub(super) const fn has_room(&self, arrays: usize) -> bool {
        self.next + arrays * ARRAY_MAX <= self.limit
    }

    /// An array of `count` values, 1 … [`ARRAY_MAX`]; [`has_room`](Self::has_room) was asked before. Index 0 for none.
    ///
    /// # Panics
    /// If the system has no memory left, as every allocation would.
    pub(super) fn allocate<T>(&mut self, arena: &Arena<T>, count: usize) -> u32 {
        if count == 0 {
            return 0;
        }
        let class = usize::from(CLASSES[count]);
        let size = usize::from(SIZES[class]);
        self.used += size;
        self.free[class].pop().unwrap_or_else(|| {
            let index = self.next;
            self.next += size;
            assert!(arena.commit(self.next), "no memory left for the map-cache");
            index as u32
        })
    }

    /// Takes an array of `count` values back that nobody reads any more.
    pub(super) fn release(&mut self, index: u32, count: usize) {
        if count > 0 {
            let class = usize::from(CLASSES[count]);
            self.used -= usize::from(SIZES[class]);
            self.free[class].push(index);
        }
    }

    /// Values handed out, and values ever touched.
    pub(super) const fn extent(&self) -> (usize, usize) {
        (self.used, self.next)
    }
}

/// Which parts of an arena are handed out, as few large blocks of any size.
#[derive(Default)]
pub(super) struct Blocks {
    next: usize,
    /// Blocks taken back, by length.
    free: BTreeMap<usize, Vec<u32>>,
}

impl Blocks {
    /// A block of `count` zero values, or `None` if the arena is full. Large blocks are laid so that the power of two of
    /// values at their end begins on a page, or on a huge page if it fills one.
    pub(super) fn allocate<T>(&mut self, arena: &Arena<T>, count: usize) -> Option<u32> {
        if let Some(start) = self.free.get_mut(&count).and_then(Vec::pop) {
            return Some(start);
        }
        let body = 1 << count.ilog2();
        let align = [HUGE, 4096].into_iter().find(|page| body * size_of::<T>() >= *page).unwrap_or(1);
        let front = count - body;
        let start = (self.next + front).next_multiple_of((align / size_of::<T>()).max(1)) - front;
        arena.commit(start + count).then(|| {
            self.next = start + count;
            start as u32
        })
    }

    /// Takes a block back that nobody reads any more.
    ///
    /// # Safety
    /// Nobody holds a reference into it.
    pub(super) unsafe fn release<T>(&mut self, arena: &Arena<T>, start: u32, count: usize) {
        // SAFETY: as promised; it was committed when it was handed out.
        unsafe { arena.clear(start as usize, count) };
        self.free.entry(count).or_default().push(start);
    }
}

/// Asks the processor to fetch the line of `value`; never faults.
#[inline(always)]
pub fn prefetch<T>(value: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address may be given.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(value.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint; any address may be given, no register or flag changes.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) value, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = value;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_disjoint_and_come_back() {
        let arena = Arena::<u64>::reserve(1 << 20, true);
        let mut arrays = Arrays::new(arena.limit());
        let mut taken: Vec<(u32, usize)> = (1..=ARRAY_MAX).map(|n| (arrays.allocate(&arena, n), n)).collect();
        taken.sort_unstable();
        for pair in taken.windows(2) {
            assert!(pair[0].0 as usize + pair[0].1 <= pair[1].0 as usize, "{pair:?} overlap");
        }
        assert!(taken[0].0 >= 1, "0 means none");
        let (_, touched) = arrays.extent();
        taken.iter().for_each(|&(index, count)| arrays.release(index, count));
        assert_eq!(arrays.extent(), (0, touched));
        (1..=ARRAY_MAX).for_each(|n| assert!(arrays.allocate(&arena, n) > 0));
        assert_eq!(arrays.extent().1, touched, "what came back was used again");
    }

    #[test]
    fn an_arena_grows_to_its_limit_and_blocks_come_back_empty() {
        let arena = Arena::<u64>::reserve(3 << 20, true);
        assert!(!arena.commit((3 << 20) + 1));
        let mut blocks = Blocks::default();
        let start = blocks.allocate(&arena, 2 << 20).unwrap();
        assert_eq!(blocks.allocate(&arena, 2 << 20), None);
        for index in [0, 5, (2 << 20) - 1] {
            // SAFETY: committed by `allocate`, and only this test knows it.
            unsafe { arena.put(start + index, 7) };
        }
        // SAFETY: as above.
        unsafe { blocks.release(&arena, start, 2 << 20) };
        assert_eq!(blocks.allocate(&arena, 2 << 20), Some(start));
        // SAFETY: as above.
        assert!([0, 5, (2 << 20) - 1].iter().all(|&index| unsafe { *arena.get(start + index) } == 0));
    }
}
