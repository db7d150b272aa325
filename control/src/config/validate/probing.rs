//! RLOC-probing.

use std::{net::IpAddr, time::Duration};

use super::{Findings, values};
use crate::{
    config::{Given, ProbingDraft},
    prober::Settings,
    rloc::Families,
};

/// Longest interval, seconds.
const INTERVAL_MAX: i64 = 3600;

/// Reads it; `None` where it is off.
pub(super) fn probing(given: &ProbingDraft, rlocs: &[Given<IpAddr>], findings: &mut Findings) -> Option<Settings> {
    let own: Vec<IpAddr> = rlocs.iter().map(|rloc| rloc.value).collect();
    let defaults = Settings::new(Families::of(&own));
    let mut seconds = |given: &Option<Given<i64>>, name, range, default: Duration| {
        let number = given.as_ref().and_then(|given| values::number(given, name, range, findings));
        number.map_or(default, Duration::from_secs)
    };
    let interval = seconds(&given.interval, "interval", 0..=INTERVAL_MAX, defaults.interval);
    let failover = seconds(
        &given.failover_interval,
        "failover-interval",
        1..=INTERVAL_MAX,
        // Who wants more probes than by default wants them here too.
        defaults.failover_interval.min(interval.max(Duration::from_secs(1))),
    );
    let retry_interval = seconds(&given.retry_interval, "retry-interval", 1..=60, defaults.retry_interval);
    let hold_down = seconds(&given.hold_down, "hold-down", 0..=INTERVAL_MAX, defaults.hold_down);
    let retries = given.retries.as_ref().and_then(|given| values::number(given, "retries", 0..=20, findings));
    if let (Some(wrong), true) = (&given.failover_interval, !interval.is_zero() && failover > interval) {
        findings.wrong(
            &wrong.place,
            format!("failover-interval {} is longer than the interval of {}", failover.as_secs(), interval.as_secs()),
            "make it shorter: it is for locators beside which another could take over",
        );
    }
    (!interval.is_zero()).then_some(Settings {
        interval,
        failover_interval: failover,
        retries: retries.unwrap_or(defaults.retries),
        retry_interval,
        hold_down,
        ..defaults
    })
}
