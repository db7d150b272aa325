//! A small seeded mutator: the same inputs on every run, so that a failure is found again by running the test again.

/// Inputs made from a corpus.
#[derive(Debug)]
pub(crate) struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

/// Octets that lengths, counts, versions, AFIs and flags trip over.
const EDGES: [u8; 12] = [0, 1, 2, 3, 4, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xfe, 0xff];

impl<'a> Mutator<'a> {
    /// Starts a sequence; `corpus` must not be empty.
    pub(crate) fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        assert!(!corpus.is_empty());
        Self { corpus, state: seed | 1 }
    }

    /// xorshift64*: plenty for picking places, and the same everywhere.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `limit`, which must not be 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// The next input: one of the corpus, changed in one to five places.
    pub(crate) fn input(&mut self) -> Vec<u8> {
        let pick = self.below(self.corpus.len());
        let mut octets = self.corpus[pick].clone();
        for _ in 0..=self.below(5) {
            self.change(&mut octets);
        }
        octets
    }

    fn change(&mut self, octets: &mut Vec<u8>) {
        let at = self.below(octets.len().max(1));
        // Most changes leave the length alone: a message of a wrong length is refused before much else is looked at.
        match self.below(16) {
            0 => octets.truncate(at),
            1 => octets.insert(at.min(octets.len()), self.next() as u8),
            _ if octets.is_empty() => octets.push(self.next() as u8),
            2 => _ = octets.remove(at),
            3 => {
                // Repeat a stretch: a record, a locator, a nested header.
                let length = self.below(octets.len() - at + 1);
                let stretch = octets[at..at + length].to_vec();
                octets.splice(at..at, stretch);
            }
            4 => {
                // Go on as another one of the corpus.
                let pick = self.below(self.corpus.len());
                let other = &self.corpus[pick];
                octets.truncate(at);
                octets.extend(&other[at.min(other.len())..]);
            }
            5..=9 => octets[at] ^= 1 << self.below(8),
            10..=12 => octets[at] = self.next() as u8,
            _ => octets[at] = EDGES[self.below(EDGES.len())],
        }
    }
}
