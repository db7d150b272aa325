//! What a run must know of those before it: who we are, and which nonces are used up.
//!
//! A Map-Server takes no nonce that is not greater than the last one (RFC 9301 §5.6). A run starts at the wall clock's
//! seconds in the upper half of the nonce, or above all that the last run may have used, whichever is greater: so they grow
//! even where the clock was set back, and the file is written once a start.

use std::{fmt, net::IpAddr};

use sha2::{Digest, Sha256};

/// Numbers set aside for one run, of which every 65,536th is a nonce, and the time of some 64 seconds: restarts do not get ahead of
/// the clock for long, and a run that used them all would have sent for years, or a message each millisecond for an hour, with the
/// clock ahead of it all the while.
const SET_ASIDE: u64 = 1 << 38;
/// No run has come this far: a file that says so is damaged.
const USED_MAX: u64 = u64::MAX - (1 << 40);

/// What is kept from run to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What our xTR-ID is made of, unless the operator gives one: a random number.
    pub seed: [u8; 16],
    /// Every nonce that was ever used is below.
    pub nonces_below: u64,
}

/// Why a text is not what a run left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is damaged")]
pub struct Damaged;

impl Memory {
    /// Reads what [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    /// [`Damaged`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Damaged> {
        let value = |key: &str, digits: usize| {
            let mut lines = text.lines().filter_map(|line| line.split_once(" = ").filter(|(name, _)| *name == key));
            let (_, value) = lines.next().filter(|_| lines.next().is_none()).ok_or(Damaged)?;
            let hex = value.len() == digits && value.bytes().all(|octet| octet.is_ascii_hexdigit());
            u128::from_str_radix(value, 16).ok().filter(|_| hex).ok_or(Damaged)
        };
        let nonces_below = u64::try_from(value("nonces-below", 16)?).map_err(|_| Damaged)?;
        let seed = value("seed", 32)?.to_be_bytes();
        if nonces_below > USED_MAX { Err(Damaged) } else { Ok(Self { seed, nonces_below }) }
    }

    /// The first nonce of a run that starts `seconds` after 1970 by the clock, and what to keep of it before any is used.
    /// `earlier` is what was kept before, and `seed` is for when nothing was.
    #[must_use]
    pub fn begin(earlier: Option<Self>, seconds: u64, seed: [u8; 16]) -> (u64, Self) {
        let by_clock = (seconds << 32).min(USED_MAX);
        let first = earlier.map_or(by_clock, |earlier| earlier.nonces_below.max(by_clock));
        let seed = earlier.map_or(seed, |earlier| earlier.seed);
        (first, Self { seed, nonces_below: first + SET_ASIDE })
    }

    /// The xTR-ID of a router with this first RLOC: two routers that share a state directory are two xTRs all the same.
    #[must_use]
    pub fn xtr_id(&self, rloc: IpAddr) -> [u8; 16] {
        let digest = Sha256::new().chain_update(self.seed).chain_update(rloc.to_string()).finalize();
        std::array::from_fn(|index| digest[index])
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Written by altitude at each start. Without it Map-Servers may not believe a router whose clock was set"
        )?;
        writeln!(f, "# back, and take it for another one of its site.")?;
        writeln!(f, "seed = {:032x}", u128::from_be_bytes(self.seed))?;
        writeln!(f, "nonces-below = {:016x}", self.nonces_below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff];
    const NOW: u64 = 1_800_000_000;

    /// ETR-20, ETR-21: nonces grow from run to run whatever the clock does, and from the clock where nothing was kept.
    #[test]
    fn each_run_starts_above_all_nonces_of_those_before() {
        let (mut first, mut memory) = Memory::begin(None, NOW, WHO);
        assert_eq!(first, NOW << 32);
        // An hour later, at once again, an hour back, ten years back, ten years on, and back.
        for seconds in [NOW + 3600, NOW + 3600, NOW, NOW - 315_360_000, NOW + 315_360_000, NOW] {
            let kept = Memory::parse(&memory.to_string()).unwrap();
            assert_eq!(kept, memory);
            let (next, then) = Memory::begin(Some(kept), seconds, [9; 16]);
            assert!(next >= first + SET_ASIDE && next >= seconds << 32, "{seconds}");
            assert_eq!(then.seed, WHO, "who we are stays");
            (first, memory) = (next, then);
        }
    }

    #[test]
    fn a_clock_that_is_centuries_ahead_leaves_room_for_nonces() {
        let (first, memory) = Memory::begin(None, u64::from(u32::MAX), WHO);
        assert!(first < u64::MAX - SET_ASIDE);
        assert_eq!(Memory::parse(&memory.to_string()), Err(Damaged), "such a clock is not believed again");
    }

    #[test]
    fn routers_of_one_machine_are_two_xtrs_and_each_stays_the_same() {
        let rlocs: [IpAddr; 2] = [[240, 0, 254, 10].into(), [240, 0, 254, 20].into()];
        let memory = Memory { seed: WHO, nonces_below: 1 };
        let later = Memory { nonces_below: 2, ..memory };
        assert_ne!(memory.xtr_id(rlocs[0]), memory.xtr_id(rlocs[1]));
        assert_eq!(memory.xtr_id(rlocs[0]), later.xtr_id(rlocs[0]));
        assert_ne!(memory.xtr_id(rlocs[0]), Memory { seed: [7; 16], ..memory }.xtr_id(rlocs[0]));
    }

    #[test]
    fn what_is_damaged_is_not_believed() {
        let good = Memory { seed: WHO, nonces_below: 0x6b49_d200_0000_0000 }.to_string();
        assert!(good.contains("seed = 000102030405060708090a0b0c0d0eff\nnonces-below = 6b49d20000000000\n"), "{good}");
        for (from, to) in [
            ("seed", "sead"),
            ("0eff", "0ef"),
            ("0eff", "0efg"),
            ("6b49", "+b49"),
            ("6b49", "ffff"),
            ("nonces", "seed = 000102030405060708090a0b0c0d0eff\nnonces"),
        ] {
            let bad = good.replace(from, to);
            let bad = if from == "6b49" && to == "ffff" { bad.replace("d200000", "fffffff") } else { bad };
            assert_eq!(Memory::parse(&bad), Err(Damaged), "{bad}");
        }
        assert_eq!(Memory::parse(""), Err(Damaged));
    }
}
