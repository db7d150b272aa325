//! Random numbers that every run draws alike, and Zipf's law.

/// SplitMix64 of a seed: the same numbers on every machine and in every run.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Random(u64);

impl Random {
    pub(in crate::bench) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::bench) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(in crate::bench) const fn wide(&mut self) -> u128 {
        ((self.next() as u128) << 64) | self.next() as u128
    }

    /// 0 … `bound` − 1.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub(in crate::bench) const fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing to draw from");
        // The high half of the product: even to within 2⁻³² for the bounds of a bench, and no division.
        ((self.next() as u128 * bound as u128) >> 64) as usize
    }

    /// 0 ≤ x < 1.
    pub(in crate::bench) const fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(in crate::bench) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Zipf's law with exponent 1 over ranks 0 … n − 1: rank k is drawn in proportion to 1 ÷ (k + 1).
#[derive(Debug)]
pub(in crate::bench) struct Zipf {
    /// Sums of the shares up to and with each rank; the last is 1.
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(in crate::bench) fn new(ranks: usize) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=ranks)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|share| *share /= sum);
        Self { cumulative }
    }

    pub(in crate::bench) fn rank(&self, random: &mut Random) -> usize {
        let drawn = random.unit();
        self.cumulative.partition_point(|share| *share <= drawn).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_and_within_bounds() {
        let mut random = Random::new(1);
        let mut counts = [0_usize; 10];
        for _ in 0..100_000 {
            counts[random.below(10)] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        let mut order: Vec<usize> = (0..1000).collect();
        random.shuffle(&mut order);
        assert!(order.windows(2).any(|pair| pair[0] > pair[1]), "not shuffled");
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn zipf_draws_rank_k_in_proportion_to_its_inverse() {
        let zipf = Zipf::new(1000);
        let mut random = Random::new(2);
        let mut counts = vec![0_u32; 1000];
        for _ in 0..1_000_000 {
            counts[zipf.rank(&mut random)] += 1;
        }
        let harmonic: f64 = (1..=1000).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1_u32, 2, 10, 100] {
            let expected = 1e6 / harmonic / f64::from(rank);
            let drawn = f64::from(counts[rank as usize - 1]);
            assert!((drawn / expected - 1.0).abs() < 0.12, "rank {rank}: {drawn} drawn, {expected} expected");
        }
        let tail: u32 = counts[500..].iter().sum();
        let expected = 1e6 * (501..=1000).map(|rank| 1.0 / f64::from(rank)).sum::<f64>() / harmonic;
        assert!((f64::from(tail) / expected - 1.0).abs() < 0.02, "{tail} of the last half, {expected} expected");
    }
}
