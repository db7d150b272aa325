//! DIR-24-8 (Gupta, Lin, McKeown: Routing Lookups in Hardware at Memory Access Speeds, 1998), to compare with.
//!
//! One read for prefixes up to /24, two for longer ones; 64 MiB, and no updates: whoever builds it knows all prefixes.
//! An entry is a whole word, since every prefix has its own value. Half of what 64 MiB cost is the TLB's, so there are
//! two: the plain one in pages as they come, and one that asks for huge pages, as the map-cache does.

use std::{hint::black_box, io, sync::Arc, time::Duration};

use altitude_dataplane::{cache::prefetch, mapping::Prefix};
use memmap2::{Advice, MmapMut};

use super::{
    LpmError,
    model::left,
    subject::{BATCH_MAX, STRETCH, Subject, compare, timed},
    traffic::Queries,
};

const SLOTS: usize = 1 << 24;

/// Set in a slot that points at a group; the other bits of a word are an index + 1, 0 for no prefix.
const GROUP: u32 = 1 << 31;

/// A word in memory, which the mapping hands out as octets.
type Word = [u8; 4];

/// The table of 2²⁴ words, and behind it groups of 2⁸ where longer prefixes are.
pub(super) struct Dir24 {
    memory: MmapMut,
    huge: bool,
    queries: Arc<Queries>,
    position: usize,
}

/// The table as look-ups see it.
#[derive(Clone, Copy)]
struct View<'a> {
    slots: &'a [Word; SLOTS],
    groups: &'a [Word],
}

impl Dir24 {
    /// Of IPv4 prefixes; their places in the slice are what look-ups find. `huge` asks for huge pages.
    ///
    /// # Errors
    /// [`LpmError::Io`] if there is no memory.
    pub(super) fn new(prefixes: &[Prefix], huge: bool) -> Result<Self, LpmError> {
        let no_memory = |error: io::Error| LpmError::Io("memory for DIR-24-8".to_owned(), error);
        let address = |prefix: &Prefix| (left(prefix.address()) >> 96) as u32;
        let longer = prefixes.iter().filter(|prefix| prefix.length() > 24);
        let mut blocks: Vec<u32> = longer.map(|prefix| address(prefix) >> 8).collect();
        blocks.sort_unstable();
        blocks.dedup();
        let mut memory = MmapMut::map_anon(4 * (SLOTS + 256 * blocks.len())).map_err(no_memory)?;
        // A kernel that knows no such advice answers with an error, and gives pages as they come.
        let _ = memory.advise(if huge { Advice::HugePage } else { Advice::NoHugePage });

        let words = memory.as_chunks_mut::<4>().0;
        let mut order: Vec<usize> = (0..prefixes.len()).collect();
        // Longer ones overwrite what they are nested in.
        order.sort_by_key(|index| prefixes[*index].length());
        let mut groups = 0;
        for index in order {
            insert(words, &mut groups, address(&prefixes[index]), prefixes[index].length(), index as u32 + 1);
        }
        Ok(Self { memory, huge, queries: Arc::new(Queries::V4(Vec::new())), position: 0 })
    }

    fn view(&self) -> View<'_> {
        let (slots, groups) = self.memory.as_chunks::<4>().0.split_first_chunk().expect("as many");
        View { slots, groups }
    }
}

fn insert(words: &mut [Word], groups: &mut u32, address: u32, length: u8, word: u32) {
    let slot = (address >> 8) as usize;
    if length <= 24 {
        words[slot..slot + (1 << (24 - length))].fill(word.to_ne_bytes());
        return;
    }
    let before = words[slot];
    let mut group = u32::from_ne_bytes(before);
    if group & GROUP == 0 {
        group = *groups | GROUP;
        *groups += 1;
        words[slot] = group.to_ne_bytes();
        words[SLOTS + ((group & !GROUP) as usize) * 256..][..256].fill(before);
    }
    let first = SLOTS + ((group & !GROUP) as usize) * 256 + (address & 0xff) as usize;
    words[first..first + (1 << (32 - length))].fill(word.to_ne_bytes());
}

impl View<'_> {
    #[inline]
    fn slot(self, address: u32) -> u32 {
        u32::from_ne_bytes(self.slots[(address >> 8) as usize])
    }

    #[inline]
    fn resolve(self, word: u32, address: u32) -> u32 {
        if word & GROUP == 0 {
            return word;
        }
        u32::from_ne_bytes(self.groups[((word & !GROUP) << 8 | address & 0xff) as usize])
    }

    #[inline]
    fn find(self, address: u32) -> u32 {
        self.resolve(self.slot(address), address)
    }

    /// Asks for all first lines, then reads: of the ways tried the fastest (reading at once took 1.4 times as long,
    /// all first reads before the second ones 1.2 times, sizes known when compiled 1.4 times for 32).
    #[inline]
    fn find_all(self, addresses: &[u32], words: &mut [u32]) {
        for address in addresses {
            prefetch(&self.slots[(address >> 8) as usize]);
        }
        for (address, word) in addresses.iter().zip(words) {
            *word = self.find(*address);
        }
    }

    /// Gives `found` the words of one batch of addresses after the other.
    #[inline]
    fn all(self, addresses: &[u32], batch: usize, mut found: impl FnMut(&[u32])) {
        if batch == 1 {
            return addresses.iter().for_each(|address| found(&[self.find(*address)]));
        }
        let mut words = [0; BATCH_MAX];
        for addresses in addresses.chunks(batch) {
            let words = &mut words[..addresses.len()];
            self.find_all(addresses, words);
            found(words);
        }
    }
}

impl Subject for Dir24 {
    fn name(&self) -> &'static str {
        if self.huge { "dir-24-8-thp" } else { "dir-24-8" }
    }

    fn octets(&self) -> u64 {
        self.memory.len() as u64
    }

    fn take(&mut self, queries: &Arc<Queries>) -> Result<(), LpmError> {
        self.queries = queries.clone();
        self.position = 0;
        Ok(())
    }

    fn verify(&mut self, batch: usize, expected: &[u32]) -> Result<(), LpmError> {
        let Queries::V4(addresses) = &*self.queries else { return Ok(()) };
        let (view, addresses) = (self.view(), &addresses[..expected.len()]);
        let mut words = Vec::with_capacity(addresses.len());
        view.all(addresses, batch, |found| words.extend_from_slice(found));
        // No prefix is word 0, index `NONE`.
        let answers: Vec<u32> = words.iter().map(|word| word.wrapping_sub(1)).collect();
        compare(self.name(), &self.queries, expected, &answers)
    }

    fn round(&mut self, batch: usize, length: Duration) -> Result<f64, LpmError> {
        let Queries::V4(addresses) = &*self.queries else { return Ok(f64::NAN) };
        let (view, mut position) = (self.view(), self.position);
        let took = timed(&mut position, addresses.len(), length, |start| {
            view.all(&addresses[start..start + STRETCH], batch, |found| {
                black_box(found);
            });
        });
        self.position = position;
        Ok(took)
    }
}
