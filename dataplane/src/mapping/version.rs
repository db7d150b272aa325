//! Map-Versions: which of two states of a mapping is the newer one.

use std::{cmp::Ordering, num::NonZeroU16};

/// A Map-Version of 12 bits; never 0, which means that there is none (RFC 9302 §6.1).
///
/// Versions go round, so they have an order of their own and no [`Ord`]: of two, at most half the circle apart, the one
/// ahead is newer (RFC 9302 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapVersion(NonZeroU16);

impl MapVersion {
    /// The largest.
    pub const MAX: u16 = 0x0fff;

    /// A version from a field of 12 bits or more; bits above are ignored, and 0 is none.
    #[must_use]
    #[inline]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value & Self::MAX) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number, 1 … 4095.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// How this version stands to `other`: [`Ordering::Greater`] is newer (RFC 9302 §6).
    #[must_use]
    #[inline]
    pub const fn order(self, other: Self) -> Ordering {
        const HALF: u16 = 1 << 11;
        let ahead = self.get().wrapping_sub(other.get());
        let behind = other.get().wrapping_sub(self.get());
        if self.get() == other.get() {
            Ordering::Equal
        } else if (self.get() > other.get() && ahead <= HALF) || (self.get() < other.get() && behind > HALF) {
            Ordering::Greater
        } else {
            Ordering::Less
        }
    }

    /// The version after this one: 1 after 4095 (RFC 9302 §6.1).
    #[must_use]
    pub const fn next(self) -> Self {
        match Self::new(self.get() + 1) {
            Some(next) => next,
            None => Self(NonZeroU16::MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(value: u16) -> MapVersion {
        MapVersion::new(value).unwrap()
    }

    /// MV-1: every pair against the formula of RFC 9302 §6, written out; and its own example.
    #[test]
    fn every_pair_has_the_order_of_the_formula() {
        for one in 1..=4095_i32 {
            for two in 1..=4095_i32 {
                let newer = (two > one && two - one <= 2048) || (one > two && one - two > 2048);
                let expected = match (one == two, newer) {
                    (true, _) => Ordering::Equal,
                    (false, true) => Ordering::Greater,
                    (false, false) => Ordering::Less,
                };
                assert_eq!(version(two as u16).order(version(one as u16)), expected, "{two} to {one}");
            }
        }
        let newer = |than: u16| (1..=4095).filter(move |value| version(*value).order(version(than)).is_gt());
        assert_eq!((newer(69).min(), newer(69).max(), newer(69).count()), (Some(70), Some(2117), 2048));
    }

    /// MV-2: none of them is 0, and 0 is none of them: neither newer nor older than anything.
    #[test]
    fn zero_is_no_version_and_none_leads_to_it() {
        assert_eq!((MapVersion::new(0), MapVersion::new(0x1000)), (None, None));
        for value in 1..=4095 {
            let next = version(value).next();
            assert_eq!(next.get(), if value == 4095 { 1 } else { value + 1 });
            assert!(next.order(version(value)).is_gt());
        }
    }
}
