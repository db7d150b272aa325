//! DIR-24-8 (Gupta, Lin, McKeown: Routing Lookups in Hardware at Memory Access Speeds, 1998), to compare with.
//!
//! One read for prefixes up to /24, two for longer ones; 64 MiB, and no updates: whoever builds it knows all prefixes.

use std::{hint::black_box, sync::Arc, time::Duration};

use altitude_dataplane::mapping::Prefix;

use super::{
    LpmError,
    model::left,
    subject::{BATCH_MAX, STRETCH, Subject, compare, timed},
    traffic::Queries,
};

const SLOTS: usize = 1 << 24;

/// Set in a slot that points at a group; the other bits of a word are an index + 1, 0 for no prefix.
const GROUP: u32 = 1 << 31;

/// The table of 2²⁴ words, and groups of 2⁸ where longer prefixes are.
pub(super) struct Dir24 {
    slots: Box<[u32; SLOTS]>,
    groups: Vec<[u32; 256]>,
    queries: Arc<Queries>,
    position: usize,
}

impl Dir24 {
    /// Of IPv4 prefixes; their places in the slice are what look-ups find.
    pub(super) fn new(prefixes: &[Prefix]) -> Self {
        let slots = vec![0; SLOTS].into_boxed_slice().try_into().expect("as many");
        let queries = Arc::new(Queries::V4(Vec::new()));
        let mut table = Self { slots, groups: Vec::new(), queries, position: 0 };
        let mut order: Vec<usize> = (0..prefixes.len()).collect();
        // Longer ones overwrite what they are nested in.
        order.sort_by_key(|index| prefixes[*index].length());
        for index in order {
            let address = (left(prefixes[index].address()) >> 96) as u32;
            table.insert(address, prefixes[index].length(), index as u32 + 1);
        }
        table
    }

    fn insert(&mut self, address: u32, length: u8, word: u32) {
        let slot = (address >> 8) as usize;
        if length <= 24 {
            self.slots[slot..slot + (1 << (24 - length))].fill(word);
            return;
        }
        if self.slots[slot] & GROUP == 0 {
            self.groups.push([self.slots[slot]; 256]);
            self.slots[slot] = (self.groups.len() as u32 - 1) | GROUP;
        }
        let first = (address & 0xff) as usize;
        let group = &mut self.groups[(self.slots[slot] & !GROUP) as usize];
        group[first..first + (1 << (32 - length))].fill(word);
    }

    #[inline]
    fn find(&self, address: u32) -> u32 {
        self.resolve(self.slots[(address >> 8) as usize], address)
    }

    #[inline]
    fn resolve(&self, word: u32, address: u32) -> u32 {
        if word & GROUP == 0 { word } else { self.groups[(word & !GROUP) as usize][(address & 0xff) as usize] }
    }

    /// All first reads, which do not wait for each other, then the second ones of those that need them.
    #[inline]
    fn find_all(&self, addresses: &[u32], words: &mut [u32]) {
        for (address, word) in addresses.iter().zip(&mut *words) {
            *word = self.slots[(address >> 8) as usize];
        }
        for (address, word) in addresses.iter().zip(words) {
            *word = self.resolve(*word, *address);
        }
    }

    fn stretch(&self, addresses: &[u32], batch: usize) {
        if batch == 1 {
            for address in addresses {
                black_box(self.find(*address));
            }
            return;
        }
        let mut words = [0; BATCH_MAX];
        for addresses in addresses.chunks(batch) {
            self.find_all(addresses, &mut words[..addresses.len()]);
            black_box(&mut words);
        }
    }
}

impl Subject for Dir24 {
    fn name(&self) -> &'static str {
        "dir-24-8"
    }

    fn octets(&self) -> u64 {
        (size_of_val(&*self.slots) + size_of_val(self.groups.as_slice())) as u64
    }

    fn take(&mut self, queries: &Arc<Queries>) -> Result<(), LpmError> {
        self.queries = queries.clone();
        self.position = 0;
        Ok(())
    }

    fn verify(&mut self, batch: usize, expected: &[u32]) -> Result<(), LpmError> {
        let Queries::V4(addresses) = &*self.queries else { return Ok(()) };
        let addresses = &addresses[..expected.len()];
        let mut words = vec![0; addresses.len()];
        if batch == 1 {
            words = addresses.iter().map(|address| self.find(*address)).collect();
        } else {
            for (addresses, words) in addresses.chunks(batch).zip(words.chunks_mut(batch)) {
                self.find_all(addresses, words);
            }
        }
        // No prefix is word 0, index `NONE`.
        let answers: Vec<u32> = words.iter().map(|word| word.wrapping_sub(1)).collect();
        compare(self.name(), &self.queries, expected, &answers)
    }

    fn round(&mut self, batch: usize, length: Duration) -> Result<f64, LpmError> {
        let Self { queries, position, .. } = &*self;
        let (queries, mut position) = (queries.clone(), *position);
        let Queries::V4(addresses) = &*queries else { return Ok(f64::NAN) };
        let took = timed(&mut position, addresses.len(), length, |start| {
            self.stretch(&addresses[start..start + STRETCH], batch);
        });
        self.position = position;
        Ok(took)
    }
}
