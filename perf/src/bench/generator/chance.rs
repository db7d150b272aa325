//! Chance that is the same in every run.

/// A number that looks like chance, of the `number`-th place: splitmix64. traffic.bpf.c has the same.
pub(super) const fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Numbers one after another.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// Below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// From 0 on, below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Brings `values` into another order, each as likely.
    pub(super) fn shuffle<T>(&mut self, values: &mut [T]) {
        for end in (1..values.len()).rev() {
            values.swap(end, self.below(end + 1));
        }
    }

    /// `count` numbers below `limit`, number n with a weight of 1 ÷ (n + 1).
    pub(super) fn zipf(&mut self, limit: u32, count: u32) -> Vec<u32> {
        let mut total = 0.0;
        let up_to: Vec<f64> = (1..=limit)
            .map(|rank| {
                total += 1.0 / f64::from(rank);
                total
            })
            .collect();
        (0..count)
            .map(|_| {
                let point = self.unit() * total;
                (up_to.partition_point(|&sum| sum <= point) as u32).min(limit - 1)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_mixed_as_published() {
        // The first numbers of splitmix64 from seed 0, which adds its constant before it mixes.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn zipf_gives_rank_n_an_nth_of_the_first() {
        const DRAWN: u32 = 400_000;
        let mut counts = vec![0_u32; 1000];
        Chance::new(1).zipf(1000, DRAWN).into_iter().for_each(|flow| counts[flow as usize] += 1);
        // The weights' sum is the 1000th harmonic number.
        let first = f64::from(DRAWN) / 7.485_470_86;
        for rank in [1, 2, 3, 5, 10, 30] {
            let (wanted, have) = (first / f64::from(rank), f64::from(counts[rank as usize - 1]));
            // Five times what chance varies by.
            assert!((have - wanted).abs() < 5.0 * wanted.sqrt(), "rank {rank}: {have}, not {wanted}");
        }
        let tail: u32 = counts[500..].iter().sum();
        assert!((f64::from(tail) - first * 0.692_6).abs() < 5.0 * f64::from(tail).sqrt(), "{tail}");
        assert_eq!(Chance::new(1).zipf(1, 3), [0, 0, 0]);
    }

    #[test]
    fn shuffling_keeps_every_value() {
        let mut values: Vec<u32> = (0..1000).collect();
        Chance::new(7).shuffle(&mut values);
        let in_place = values.iter().enumerate().filter(|(place, value)| *place == **value as usize).count();
        assert!(in_place < 10, "{in_place} of 1000 stayed where they were");
        values.sort_unstable();
        assert!(values.into_iter().eq(0..1000));
    }
}
