//! Prefixes whose last route went a moment ago.
//!
//! A router may lose its route before those that send through it have moved to another way. What they still send in between is
//! not for a place without a site: a negative answer would have the ITR send its packets past LISP for a minute or more, although
//! the site is there. Without an answer the ITR asks again (RFC 9301 §5.2), and by then the routers agree.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Eid, EidPrefix, Prefix};

use crate::prefix_map::PrefixMap;

/// How long a prefix counts as just gone: a neighbour may hold another way to it back for so long (the suggested
/// MinRouteAdvertisementInterval, RFC 4271 §10).
pub const LATELY: Duration = Duration::from_secs(30);
/// Most prefixes kept. Of more that go at once each counts as just gone, whichever it is.
const PREFIXES_MAX: usize = 65_536;

/// The prefixes.
#[derive(Debug, Clone, Default)]
pub struct Lately {
    gone: PrefixMap<Instant>,
    order: VecDeque<(Instant, EidPrefix)>,
    /// When one went that found no place.
    overflown: Option<Instant>,
}

impl Lately {
    /// The last route to a prefix has gone.
    pub fn lose(&mut self, now: Instant, eid: EidPrefix) {
        self.forget(now);
        if self.order.len() == PREFIXES_MAX {
            self.overflown = Some(now);
            return;
        }
        self.gone.insert(eid, now);
        self.order.push_back((now, eid));
    }

    /// Whether one of more than `length` bits that holds `eid` went lately; `None` for any.
    #[must_use]
    pub fn holds(&self, now: Instant, eid: Eid, length: Option<u8>) -> bool {
        if self.overflown.is_some_and(|when| is_recent(now, when)) {
            return true;
        }
        let mut inner = EidPrefix::host(eid);
        while let Some((found, when)) = self.gone.covering(&inner) {
            let bits = found.prefix.length();
            if length.is_some_and(|length| bits <= length) {
                return false;
            }
            if is_recent(now, *when) {
                return true;
            }
            let wider = bits.checked_sub(1).and_then(|bits| Prefix::new(eid.address, bits).ok());
            let Some(wider) = wider else { return false };
            inner.prefix = wider;
        }
        false
    }

    fn forget(&mut self, now: Instant) {
        while let Some((when, eid)) = self.order.front().copied().filter(|(when, _)| !is_recent(now, *when)) {
            self.order.pop_front();
            // It may have gone again since.
            if self.gone.get(&eid) == Some(&when) {
                self.gone.remove(&eid);
            }
        }
    }
}

fn is_recent(now: Instant, when: Instant) -> bool {
    now.saturating_duration_since(when) < LATELY
}

#[cfg(test)]
mod tests {
    use altitude_dataplane::mapping::InstanceId;

    use super::*;

    fn eid(text: &str) -> EidPrefix {
        EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
    }

    fn host(text: &str) -> Eid {
        Eid { instance: InstanceId::DEFAULT, address: text.parse().unwrap() }
    }

    #[test]
    fn a_prefix_counts_as_just_gone_for_a_while_each_time_it_goes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lately = Lately::default();
        lately.lose(at(0), eid("10.1.64.0/18"));
        lately.lose(at(10), eid("10.1.0.0/16"));
        for (seconds, address, length, expected) in [
            (0, "10.1.77.88", None, true),
            (0, "10.2.0.1", None, false),
            (20, "10.1.77.88", Some(16), true), // the match that is left is the aggregate
            (20, "10.1.77.88", Some(18), false), // it has come back
            (29, "10.1.77.88", Some(17), true),
            (30, "10.1.77.88", Some(17), false),
            (30, "10.1.77.88", Some(8), true), // the wider one went later
            (40, "10.1.77.88", None, false),
        ] {
            assert_eq!(lately.holds(at(seconds), host(address), length), expected, "{address} {length:?} at {seconds}");
        }
        lately.lose(at(25), eid("10.1.64.0/18"));
        lately.lose(at(35), eid("10.3.0.0/16"));
        assert!(lately.holds(at(54), host("10.1.77.88"), Some(17)), "it went a second time");
        assert!(!lately.holds(at(55), host("10.1.77.88"), Some(17)));
        lately.lose(at(100), eid("::/0"));
        assert_eq!((lately.order.len(), lately.gone.len()), (1, 1), "what is old is forgotten");
        assert!(lately.holds(at(100), host("2001:db8::1"), None) && !lately.holds(at(100), host("10.1.77.88"), None));
    }

    #[test]
    fn of_more_than_are_kept_all_count_as_just_gone() {
        let start = Instant::now();
        let mut lately = Lately::default();
        for number in 0..=PREFIXES_MAX as u32 {
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + (number << 4));
            lately.lose(start, eid(&format!("{address}/28")));
        }
        assert_eq!(lately.order.len(), PREFIXES_MAX);
        assert!(lately.holds(start, host("192.0.2.1"), None));
        assert!(!lately.holds(start + LATELY, host("192.0.2.1"), None));
    }
}
