//! RLOC-probing as it was written.

use serde::Deserialize;

use super::Given;

/// `[rloc-probing]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProbingDraft {
    /// Seconds between two probes; 0 is off.
    pub interval: Option<Given<i64>>,
    /// Seconds between two probes of a locator beside which another could take over.
    pub failover_interval: Option<Given<i64>>,
    /// Probes after one without an answer.
    pub retries: Option<Given<i64>>,
    /// Seconds an answer may take at most.
    pub retry_interval: Option<Given<i64>>,
    /// Seconds that a locator which flaps must answer for.
    pub hold_down: Option<Given<i64>>,
}

impl ProbingDraft {
    /// What is given here, and from `other` what is not given here.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            interval: self.interval.or(other.interval),
            failover_interval: self.failover_interval.or(other.failover_interval),
            retries: self.retries.or(other.retries),
            retry_interval: self.retry_interval.or(other.retry_interval),
            hold_down: self.hold_down.or(other.hold_down),
        }
    }
}
