//! The nonces of one run: each greater than all before, and none to be foretold.
//!
//! ```text
//! first ─┬─ 2¹⁶ numbers ─┬─ 2¹⁶ numbers ─┬─ 2¹⁶ numbers ─▶ one of each, by a secret
//! ```

use sha2::{Digest, Sha256};

/// Of how many numbers each nonce is one, as a power of 2.
pub(super) const SPREAD_BITS: u32 = 16;

/// The nonces of one run.
#[derive(Debug, Clone)]
pub(super) struct Nonces {
    first: u64,
    drawn: u64,
    secret: Secret,
}

/// Not for any log.
#[derive(Clone)]
struct Secret([u8; 16]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Nonces {
    /// All of them are `first` or greater.
    pub(super) const fn new(first: u64, secret: [u8; 16]) -> Self {
        Self { first, drawn: 0, secret: Secret(secret) }
    }

    /// The next.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.nth(self.drawn - 1)
    }

    /// Whether it was one of them. A Map-Server's own nonces count from the clock, too, and may lie in between.
    pub(super) fn has_drawn(&self, nonce: u64) -> bool {
        let index = nonce.checked_sub(self.first).map(|above| above >> SPREAD_BITS);
        index.is_some_and(|index| index < self.drawn && self.nth(index) == nonce)
    }

    fn nth(&self, index: u64) -> u64 {
        let digest = Sha256::new().chain_update(self.secret.0).chain_update(index.to_be_bytes()).finalize();
        let place = digest.iter().take(8).fold(0, |number, octet| number << 8 | u64::from(*octet));
        self.first + (index << SPREAD_BITS) + (place >> (64 - SPREAD_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 0x6b49_d200_0000_0000;

    /// ETR-20: nonces grow.
    #[test]
    fn each_is_greater_than_the_last_and_none_can_be_foretold() {
        let (mut one, mut other) = (Nonces::new(FIRST, [1; 16]), Nonces::new(FIRST, [2; 16]));
        let drawn: Vec<u64> = (0..1000).map(|_| one.draw()).collect();
        assert!(drawn[0] >= FIRST && drawn.is_sorted_by(|a, b| a < b), "{drawn:x?}");
        assert!(drawn[999] < FIRST + (1000 << SPREAD_BITS));
        // Who knows how many there were knows one in 65,536.
        let same = drawn.iter().filter(|nonce| other.draw() == **nonce).count();
        assert!(same < 5, "{same}");
        let mut places: Vec<u64> = drawn.iter().map(|nonce| nonce & ((1 << SPREAD_BITS) - 1)).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 950, "{}", places.len());
    }

    #[test]
    fn what_was_drawn_is_known_and_nothing_in_between() {
        let mut nonces = Nonces::new(FIRST, [1; 16]);
        let next = nonces.clone().draw();
        assert!(!nonces.has_drawn(next) && !nonces.has_drawn(0));
        let drawn: Vec<u64> = (0..100).map(|_| nonces.draw()).collect();
        assert!(drawn.iter().all(|nonce| nonces.has_drawn(*nonce)));
        assert!(!drawn.iter().any(|nonce| nonces.has_drawn(nonce + 1) || nonces.has_drawn(nonce - 1)));
        assert!(!format!("{nonces:?}").contains("1, 1"));
    }
}
