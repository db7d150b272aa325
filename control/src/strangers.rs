//! How much others than our own site may have us look up: anybody on the Internet can send to a PITR, and through any ETR's
//! hosts to a PETR (RFC 7835 §3.6).
//!
//! A bucket for each network that packets come from, and one over all of them. What it refuses costs the packet that asked, and
//! nothing that is known.

#![forbid(unsafe_code)]

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::Prefix;

use crate::rate::{Limited, Limits, Rate};

/// How many networks may be short of tokens at a time.
const NETWORKS_MAX: usize = 16_384;
/// Seconds' worth of look-ups at once.
const BURST: u32 = 2;
/// All networks together may do as much as so many of them.
const TOGETHER: u32 = 100;
/// What counts as one network, in bits: as long as prefixes are announced in the Internet.
const NETWORK: [u8; 2] = [24, 48];

/// The limits.
#[derive(Debug)]
pub struct Strangers(Limits<Prefix>);

impl Strangers {
    /// `rate` look-ups a second for one network, 1 … 100,000.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        let per_second = |rate: u32| Rate { burst: rate * BURST, every: Duration::from_secs(1) / rate };
        Self(Limits::new(per_second(rate), per_second(rate * TOGETHER), NETWORKS_MAX))
    }

    /// Whether something may be looked up for a packet from `source`.
    ///
    /// # Errors
    /// [`Limited`], by which bound it may not.
    pub fn allow(&mut self, now: Instant, source: IpAddr) -> Result<(), Limited> {
        let network = Prefix::new(source, NETWORK[usize::from(source.is_ipv6())]);
        self.0.take(now, &[network.unwrap_or_else(|_| Prefix::host(source))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PITR-5: a scan from one network asks at a bounded pace and leaves others theirs; a scan from everywhere has a bound too.
    #[test]
    fn a_scan_is_limited_and_others_are_not() {
        let (mut strangers, start) = (Strangers::new(20), Instant::now());
        let mut asked = |address: [u8; 4], ms: u64| {
            let now = start + Duration::from_millis(ms);
            (0..1000).filter(|_| strangers.allow(now, address.into()).is_ok()).count()
        };
        assert_eq!(asked([8, 8, 8, 8], 0), 40);
        assert_eq!(asked([8, 8, 8, 9], 0), 0, "the same network");
        assert_eq!(asked([8, 8, 9, 8], 0), 40, "another one");
        assert_eq!(asked([8, 8, 8, 8], 1000), 20);
        let everywhere: usize = (0..=255).map(|net| asked([9, 9, net, 1], 1000)).sum();
        assert!((3900..=4000).contains(&everywhere), "{everywhere}");
        let (mut strangers, v6) = (Strangers::new(20), |net: u16| IpAddr::from([0x2600, 0, net, 7, 0, 0, 0, 1]));
        assert_eq!((0..100).filter(|_| strangers.allow(start, v6(1)).is_ok()).count(), 40);
        assert!(strangers.allow(start, v6(2)).is_ok());
    }
}
