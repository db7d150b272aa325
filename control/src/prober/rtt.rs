//! Round-trip times, smoothed as TCP does it (RFC 6298 §2).

use std::time::Duration;

/// Smoothed round-trip time of one locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtt {
    /// SRTT.
    pub smoothed: Duration,
    /// RTTVAR.
    pub variation: Duration,
}

impl Rtt {
    /// After the first measurement.
    pub(super) fn first(measured: Duration) -> Self {
        Self { smoothed: measured, variation: measured / 2 }
    }

    /// After one more. The variation is moved first, by the old smoothed time.
    pub(super) fn update(&mut self, measured: Duration) {
        let error = self.smoothed.abs_diff(measured);
        self.variation = (self.variation * 3 + error) / 4;
        self.smoothed = (self.smoothed * 7 + measured) / 8;
    }

    /// How long an answer may take (RTO, without its bounds).
    pub(super) fn patience(self) -> Duration {
        self.smoothed + self.variation * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_rfc_6298() {
        let ms = Duration::from_millis;
        let mut rtt = Rtt::first(ms(80));
        assert_eq!((rtt.smoothed, rtt.variation, rtt.patience()), (ms(80), ms(40), ms(240)));
        rtt.update(ms(160));
        assert_eq!((rtt.smoothed, rtt.variation, rtt.patience()), (ms(90), ms(50), ms(290)));
        rtt.update(ms(90));
        assert_eq!((rtt.smoothed, rtt.variation), (ms(90), Duration::from_micros(37_500)));
        for _ in 0..200 {
            rtt.update(ms(20));
        }
        assert!(rtt.smoothed < ms(21) && rtt.variation < ms(1), "{rtt:?}");
    }
}
