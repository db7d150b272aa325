//! Rate limits: token buckets kept as one instant each.
//!
//! [`Limits`] is what an answering role has: a bucket for each key, and one over all.
//!
//! A bucket remembers when it will be full again; the tokens missing now are the distance to that instant. A full
//! bucket is therefore the same as none, and a table of buckets forgets it.

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// How often something may happen: `burst` at once, then one every `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens of a full bucket; 0 allows nothing.
    pub burst: u32,
    /// Time until a token comes back.
    pub every: Duration,
}

impl Rate {
    /// Whether a bucket that is full again at `full_at` holds a token at `now`.
    fn allows(self, full_at: Instant, now: Instant) -> bool {
        self.burst > 0 && full_at.saturating_duration_since(now) <= self.every.saturating_mul(self.burst - 1)
    }
}

/// One bucket, full at first.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub const fn new() -> Self {
        Self { full_at: None }
    }

    /// Takes a token; false if there is none.
    pub fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        let allowed = rate.allows(full_at, now);
        if allowed {
            self.full_at = Some(full_at + rate.every);
        }
        allowed
    }

    /// When there is a token again; `None` if there is one at any time.
    pub(crate) fn next(&self, rate: Rate) -> Option<Instant> {
        self.full_at.map(|full_at| full_at - rate.every.saturating_mul(rate.burst.saturating_sub(1)))
    }
}

/// Why a table of buckets gave no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// The key's bucket is empty.
    Spent,
    /// As many keys as the table holds are short of tokens, and this one is new.
    TableFull,
    /// The bucket over all keys is empty ([`Limits`]).
    Overall,
}

/// A bounded table of buckets of one [`Rate`], one per key.
#[derive(Debug, Clone)]
pub struct Buckets<K> {
    rate: Rate,
    capacity: usize,
    full_at: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Clone> Buckets<K> {
    /// An empty table for at most `capacity` keys that are short of tokens.
    #[must_use]
    pub const fn new(rate: Rate, capacity: usize) -> Self {
        Self { rate, capacity, full_at: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// Whether [`take`](Self::take) would succeed for `key`.
    ///
    /// # Errors
    /// [`Limited`], by which bound it would not.
    pub fn ready(&mut self, now: Instant, key: &K) -> Result<(), Limited> {
        self.forget_full(now);
        match self.full_at.get(key) {
            Some(&full_at) if self.rate.allows(full_at, now) => Ok(()),
            None if !self.rate.allows(now, now) => Err(Limited::Spent),
            None if self.full_at.len() < self.capacity => Ok(()),
            None => Err(Limited::TableFull),
            Some(_) => Err(Limited::Spent),
        }
    }

    /// Takes a token of `key`.
    ///
    /// # Errors
    /// [`Limited`], by which bound there is none.
    pub fn take(&mut self, now: Instant, key: K) -> Result<(), Limited> {
        self.ready(now, &key)?;
        let before = self.full_at.get(&key).copied();
        if let Some(before) = before {
            self.by_time.remove(&(before, key.clone()));
        }
        let full_at = before.unwrap_or(now) + self.rate.every;
        self.by_time.insert((full_at, key.clone()));
        self.full_at.insert(key, full_at);
        Ok(())
    }

    /// Keys that are short of tokens, as of the last call that took a time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether no key is short of tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }

    fn forget_full(&mut self, now: Instant) {
        while self.by_time.first().is_some_and(|(full_at, _)| *full_at <= now) {
            if let Some((_, key)) = self.by_time.pop_first() {
                self.full_at.remove(&key);
            }
        }
    }
}

/// A bucket for each key, and one over all of them.
#[derive(Debug, Clone)]
pub struct Limits<K> {
    each: Buckets<K>,
    all: Bucket,
    all_rate: Rate,
}

impl<K: Ord + Clone> Limits<K> {
    /// `each` for at most `capacity` keys that are short of tokens, `all` for everything together.
    #[must_use]
    pub fn new(each: Rate, all: Rate, capacity: usize) -> Self {
        Self { each: Buckets::new(each, capacity), all: Bucket::default(), all_rate: all }
    }

    /// Takes a token of each of `keys` and one of all together, or none at all: what is refused spends nothing of others.
    ///
    /// # Errors
    /// [`Limited`], by which bound there is none. A table that gets full within `keys` has spent those before.
    pub fn take(&mut self, now: Instant, keys: &[K]) -> Result<(), Limited> {
        keys.iter().try_for_each(|key| self.each.ready(now, key))?;
        if !self.all.take(now, self.all_rate) {
            return Err(Limited::Overall);
        }
        keys.iter().try_for_each(|key| self.each.take(now, key.clone()))
    }

    /// Keys that are short of tokens, as of the last call that took a time.
    #[cfg(test)]
    pub(crate) fn watched(&self) -> usize {
        self.each.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Rate = Rate { burst: 3, every: Duration::from_secs(3) };

    #[test]
    fn a_burst_then_one_each_interval() {
        let start = Instant::now();
        let (mut bucket, mut table) = (Bucket::default(), Buckets::new(THREE, 4));
        let script = [
            // ms     allowed
            (0, true),
            (0, true),
            (1, true),
            (1, false),
            (2_999, false),
            (3_000, true),
            (3_000, false),
            (6_000, true),
            // Idle for long: no more than a burst is saved up.
            (60_000, true),
            (60_000, true),
            (60_000, true),
            (60_000, false),
        ];
        for (ms, allowed) in script {
            let now = start + Duration::from_millis(ms);
            assert_eq!(bucket.take(now, THREE), allowed, "bucket at {ms} ms");
            assert_eq!(table.take(now, 'a').is_ok(), allowed, "table at {ms} ms");
        }
    }

    #[test]
    fn a_table_keeps_keys_apart_and_its_bound() {
        let start = Instant::now();
        let mut table = Buckets::new(THREE, 2);
        assert_eq!((table.take(start, 1), table.take(start, 2)), (Ok(()), Ok(())));
        assert_eq!(table.take(start, 3), Err(Limited::TableFull));
        assert_eq!(table.take(start, 1), Ok(()), "a known key needs no new place");
        assert_eq!(table.len(), 2);
        let later = start + Duration::from_secs(3);
        assert_eq!(table.take(later, 3), Ok(()), "key 2 is full again and forgotten");
        assert_eq!(table.take(later, 2), Err(Limited::TableFull));
    }

    #[test]
    fn what_is_refused_spends_nothing_of_others() {
        let start = Instant::now();
        let one = Rate { burst: 1, every: Duration::from_secs(3) };
        let mut limits = Limits::new(one, THREE, 8);
        assert_eq!(limits.take(start, &['a', 'b']), Ok(()));
        assert_eq!(
            limits.take(start, &['c', 'a']),
            Err(Limited::Spent),
            "and c keeps its token, and so do all together"
        );
        assert_eq!((limits.take(start, &['c']), limits.take(start, &['d'])), (Ok(()), Ok(())));
        assert_eq!(limits.take(start, &['e']), Err(Limited::Overall));
        let later = start + Duration::from_secs(3);
        assert_eq!(
            (limits.take(later, &['e']), limits.watched()),
            (Ok(()), 1),
            "e was spared, the others are full again"
        );
    }

    #[test]
    fn a_burst_of_zero_allows_nothing() {
        let none = Rate { burst: 0, every: Duration::from_secs(1) };
        assert!(!Bucket::default().take(Instant::now(), none));
        assert_eq!(Buckets::new(none, 2).take(Instant::now(), 1), Err(Limited::Spent));
    }
}
