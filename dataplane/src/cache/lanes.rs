//! How a batch reads the cells of a flat root: one address after the other, or eight abreast where there is AVX2.
//!
//! Either way two loads of an address depend on each other, and those of the others go on meanwhile. How many do is a
//! matter of how few instructions stand between them, as the processor holds only so many at a time. Eight abreast there
//! are six for an address: a cell is loaded straight into its place of a vector, and what is decided between the two
//! loads is decided for eight at once. One after the other there are fourteen, and twice the time.

use std::hint::select_unpredictable;
#[cfg(target_arch = "x86_64")]
use std::sync::atomic::AtomicU32;

use super::{
    descend::GROUP,
    lookup::Address,
    memory::prefetch,
    tables::{BLOCK, FLAT, JUNCTION, Root, Tables},
};

/// A way to read cells.
pub(super) trait Lanes {
    /// At most [`GROUP`] addresses under one flat root. Returns whether some found no slot:
    /// [`end_odd`](super::descend::end_odd) is theirs.
    fn descend_flat<A: Address>(tables: &Tables, root: Root, addresses: &[A], found: &mut [u32]) -> bool;
}

/// One after the other, on any processor.
pub(super) struct Single;

impl Lanes for Single {
    /// An address that no block lies below stays where it is, and reads its cell once more.
    #[inline(always)]
    fn descend_flat<A: Address>(tables: &Tables, root: Root, addresses: &[A], found: &mut [u32]) -> bool {
        let cells = tables.cells();
        let below = |place: u32, octet: u32| {
            let cell = tables.cell(cells, place);
            let place = select_unpredictable(cell & BLOCK != 0, cell | octet, place);
            prefetch(cells.wrapping_add(place as usize));
            place
        };
        let first = root.first_cell();
        let mut places = [0_u32; GROUP];
        abreast(&mut places, addresses, |place, address| {
            *place = below(first + address.head(FLAT), address.octet(FLAT));
        });
        let mut odd = 0;
        abreast(found, &places, |slot, place| {
            *slot = tables.cell(cells, *place);
            odd |= *slot;
        });
        odd & JUNCTION != 0
    }
}

/// Does something with each pair; eight in a row are unrolled.
#[inline(always)]
fn abreast<A, B>(left: &mut [A], right: &[B], mut each: impl FnMut(&mut A, &B)) {
    let count = left.len().min(right.len());
    let (left, left_rest) = left[..count].as_chunks_mut::<8>();
    let (right, right_rest) = right[..count].as_chunks::<8>();
    for (left, right) in left.iter_mut().zip(right) {
        for lane in 0..8 {
            each(&mut left[lane], &right[lane]);
        }
    }
    for (left, right) in left_rest.iter_mut().zip(right_rest) {
        each(left, right);
    }
}

/// Eight abreast: only where AVX2 was seen.
#[cfg(target_arch = "x86_64")]
pub(super) struct Eight;

#[cfg(target_arch = "x86_64")]
impl Lanes for Eight {
    #[inline(always)]
    fn descend_flat<A: Address>(tables: &Tables, root: Root, addresses: &[A], found: &mut [u32]) -> bool {
        let (eights, rest) = A::v4(addresses).as_chunks::<8>();
        let count = eights.len() * 8;
        let (of_eights, of_rest) = found.split_at_mut(count);
        // SAFETY: `Walk::best` takes what is compiled for this only where it saw AVX2.
        let odd = unsafe { avx2::descend_flat(tables, root, eights, of_eights.as_chunks_mut::<8>().0) };
        odd | (!rest.is_empty() && Single::descend_flat(tables, root, rest, of_rest))
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::{
        arch::{
            asm,
            x86_64::{
                __m128i, __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_blendv_ps, _mm256_castps_si256,
                _mm256_castsi256_ps, _mm256_loadu_si256, _mm256_or_si256, _mm256_set_m128i, _mm256_set1_epi32,
                _mm256_setzero_si256, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_testz_si256,
            },
        },
        sync::atomic::{Ordering, fence},
    };

    use super::{AtomicU32, FLAT, GROUP, JUNCTION, Root, Tables};

    /// Eight in a row: addresses, places of cells, or what cells hold.
    type Row = [u32; 8];

    /// As [`Lanes::descend_flat`](super::Lanes::descend_flat); there are at most as many rows as make a [`GROUP`].
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn descend_flat(tables: &Tables, root: Root, addresses: &[Row], found: &mut [Row]) -> bool {
        let cells = tables.cells();
        let first = cells.wrapping_add(root.first_cell() as usize);
        let mut places = [[0; 8]; GROUP / 8];
        for (places, addresses) in places.iter_mut().zip(addresses) {
            // SAFETY: each cell of the root is read, as `Tables::cell` does.
            let cell = unsafe { cells_of_roots(first, addresses) };
            store(places, below(root, load(addresses), cell));
        }
        let mut odd = _mm256_setzero_si256();
        for (found, places) in found.iter_mut().zip(&places) {
            // SAFETY: places of cells, made above as `Tables::cell` wants them.
            let cell = unsafe { cells_at(cells, places) };
            odd = _mm256_or_si256(odd, cell);
            store(found, cell);
        }
        // What a slot leads to was written before the slot.
        fence(Ordering::Acquire);
        _mm256_testz_si256(odd, _mm256_set1_epi32(JUNCTION as i32)) == 0
    }

    /// Where addresses read next: in the block that their cell of the root leads to, or that cell again.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn below(root: Root, address: __m256i, cell: __m256i) -> __m256i {
        let first = _mm256_set1_epi32(root.first_cell() as i32);
        let again = _mm256_add_epi32(first, _mm256_srli_epi32::<{ 32 - FLAT as i32 }>(address));
        let octet = _mm256_and_si256(_mm256_srli_epi32::<{ 24 - FLAT as i32 }>(address), _mm256_set1_epi32(0xff));
        let below = _mm256_or_si256(cell, octet);
        // By the sign of the cell, which is `BLOCK`.
        let (again, below, cell) = (_mm256_castsi256_ps(again), _mm256_castsi256_ps(below), _mm256_castsi256_ps(cell));
        _mm256_castps_si256(_mm256_blendv_ps(again, below, cell))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(row: &Row) -> __m256i {
        // SAFETY: eight words are there, and no alignment is asked for.
        unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(row: &mut Row, words: __m256i) {
        // SAFETY: as in `load`.
        unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), words) }
    }

    /// Reads eight cells, whose places relative to `$cells` an instruction takes from a row.
    ///
    /// In assembly, since a load that others may write to meanwhile is compiled to two instructions: one that loads, and
    /// one that puts in place. Aligned words are loaded whole, and in order (Intel SDM 3A §9.2.2).
    macro_rules! gather {
        ($cells:expr, $row:expr, $place:literal, $at:literal) => {{
            let (low, high): (__m128i, __m128i);
            asm!(
                concat!($place, " ptr [{row} + ", $at, "]"),
                "vmovd {low}, dword ptr [{cells} + {place} * 4]",
                concat!($place, " ptr [{row} + 4 + ", $at, "]"),
                "vpinsrd {low}, {low}, dword ptr [{cells} + {place} * 4], 1",
                concat!($place, " ptr [{row} + 8 + ", $at, "]"),
                "vpinsrd {low}, {low}, dword ptr [{cells} + {place} * 4], 2",
                concat!($place, " ptr [{row} + 12 + ", $at, "]"),
                "vpinsrd {low}, {low}, dword ptr [{cells} + {place} * 4], 3",
                concat!($place, " ptr [{row} + 16 + ", $at, "]"),
                "vmovd {high}, dword ptr [{cells} + {place} * 4]",
                concat!($place, " ptr [{row} + 20 + ", $at, "]"),
                "vpinsrd {high}, {high}, dword ptr [{cells} + {place} * 4], 1",
                concat!($place, " ptr [{row} + 24 + ", $at, "]"),
                "vpinsrd {high}, {high}, dword ptr [{cells} + {place} * 4], 2",
                concat!($place, " ptr [{row} + 28 + ", $at, "]"),
                "vpinsrd {high}, {high}, dword ptr [{cells} + {place} * 4], 3",
                row = in(reg) $row.as_ptr(),
                cells = in(reg) $cells,
                place = out(reg) _,
                low = out(xmm_reg) low,
                high = out(xmm_reg) high,
                options(pure, readonly, nostack, preserves_flags),
            );
            _mm256_set_m128i(high, low)
        }};
    }

    /// What the root's cells hold that addresses are in: by their first 16 bits, which are the last two octets in memory.
    ///
    /// # Safety
    /// `first` is the first of a root's 2^16 cells.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn cells_of_roots(first: *const AtomicU32, addresses: &Row) -> __m256i {
        const { assert!(FLAT == 16) };
        // SAFETY: every two octets are a place in the root, as promised; the addresses are a row's.
        unsafe { gather!(first, addresses, "movzx {place:e}, word", "2") }
    }

    /// What the cells at some places hold.
    ///
    /// # Safety
    /// The places are of cells of a flat root, or of one of its blocks, counted from `cells`.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn cells_at(cells: *const AtomicU32, places: &Row) -> __m256i {
        // SAFETY: as promised; the places are a row's.
        unsafe { gather!(cells, places, "mov {place:e}, dword", "0") }
    }
}
