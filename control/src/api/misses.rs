//! How often misses become events: at most once a second for an EID, and a thousand a second in all.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::EidPrefix;

use crate::rate::{Bucket, Rate};

/// Shortest time between two events for one EID.
const EACH: Duration = Duration::from_secs(1);
/// All of them together.
const ALL: Rate = Rate { burst: 1000, every: Duration::from_millis(1) };
/// How long an EID is remembered, with the misses that made no event.
const REMEMBERED: Duration = Duration::from_secs(10);
/// EIDs remembered at one time; the one told longest ago is forgotten first.
const REMEMBERED_MAX: usize = 8192;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Misses {
    /// When it was last told, and misses since then that were not.
    told: HashMap<EidPrefix, (Instant, u16)>,
    order: VecDeque<(Instant, EidPrefix)>,
    all: Bucket,
}

impl Misses {
    /// Whether a miss becomes an event; if so, how many of the same EID did not since the last one.
    pub fn tell(&mut self, now: Instant, eid: EidPrefix) -> Option<u16> {
        while let Some(&(at, oldest)) = self.order.front() {
            if now < at + REMEMBERED && self.order.len() < REMEMBERED_MAX {
                break;
            }
            self.order.pop_front();
            if self.told.get(&oldest).is_some_and(|(last, _)| *last == at) {
                self.told.remove(&oldest);
            }
        }
        let known = self.told.get_mut(&eid);
        let soon = known.as_ref().is_some_and(|(last, _)| now < *last + EACH);
        if soon || !self.all.take(now, ALL) {
            if let Some((_, suppressed)) = known {
                *suppressed = suppressed.saturating_add(1);
            }
            return None;
        }
        self.order.push_back((now, eid));
        Some(self.told.insert(eid, (now, 0)).map_or(0, |(_, suppressed)| suppressed))
    }
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::{Eid, InstanceId};

    use super::*;

    fn eid(number: u32) -> EidPrefix {
        EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: number.to_be_bytes().into() })
    }

    #[test]
    fn an_eid_is_told_once_a_second_with_what_was_left_out() {
        let (mut misses, start) = (Misses::default(), Instant::now());
        let script: [(u64, u32, Option<u16>); 8] = [
            // ms  EID  told
            (0, 1, Some(0)),
            (1, 1, None),
            (999, 1, None),
            (999, 2, Some(0)),
            (1000, 1, Some(2)),
            (2000, 1, Some(0)),
            (3000, 2, Some(0)),
            (20_000, 1, Some(0)),
        ];
        for (at, number, told) in script {
            assert_eq!(misses.tell(start + Duration::from_millis(at), eid(number)), told, "{number} at {at}");
        }
    }

    #[test]
    fn a_scan_is_told_a_thousand_times_a_second_and_remembered_within_a_bound() {
        let (mut misses, start) = (Misses::default(), Instant::now());
        let mut told = 0;
        for number in 0..200_000 {
            // 20,000 a second for ten seconds.
            let now = start + Duration::from_micros(u64::from(number) * 50);
            told += u32::from(misses.tell(now, eid(number)).is_some());
        }
        assert!((10_990..=11_000).contains(&told), "{told} in ten seconds, a full bucket in front");
        assert!(misses.told.len() <= REMEMBERED_MAX && misses.order.len() <= REMEMBERED_MAX);
    }
}
