//! Header features as they were written.

use serde::Deserialize;

use super::Given;

/// `[features]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FeaturesDraft {
    /// Map-versions in data packets.
    pub map_versioning: Option<Given<bool>>,
    /// Locator-Status-Bits in data packets.
    pub locator_status_bits: Option<Given<bool>>,
    /// Nonces that are asked back.
    pub echo_nonce: Option<Given<bool>>,
}

impl FeaturesDraft {
    /// What is given here, and from `other` what is not given here.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            map_versioning: self.map_versioning.or(other.map_versioning),
            locator_status_bits: self.locator_status_bits.or(other.locator_status_bits),
            echo_nonce: self.echo_nonce.or(other.echo_nonce),
        }
    }
}
