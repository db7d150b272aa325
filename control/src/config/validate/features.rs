//! Header features.

use altitude_dataplane::{features::Features, mapping::Mapping};

use super::Findings;
use crate::config::{Draft, FeaturesDraft, Given};

/// Reads them: each is off unless it is switched on by name (RFC 9300 §4.1).
pub(super) fn features(draft: &Draft, database: &[Given<Mapping>], probing: bool, findings: &mut Findings) -> Features {
    let FeaturesDraft { map_versioning, locator_status_bits, echo_nonce } = &draft.features;
    let on = |given: &Option<Given<bool>>| given.as_ref().is_some_and(|given| given.value);
    let features = Features { versions: on(map_versioning), status: on(locator_status_bits), nonces: on(echo_nonce) };
    if let (Some(status), true, false) = (locator_status_bits, features.status, features.versions) {
        findings.wrong(
            &status.place,
            "locator-status-bits without map-versioning: nothing would tell which locator-set the bits speak of",
            "switch map-versioning on too, at all sites that use the bits",
        );
    }
    if let (Some(status), true, false) = (locator_status_bits, features.status, probing) {
        findings.wrong(
            &status.place,
            "locator-status-bits without RLOC-probing: what bits say is believed only once a probe says so too",
            "switch probing on, or the bits off",
        );
    }
    if let (Some(versions), true) = (map_versioning, features.versions)
        && let Some(without) = database.iter().find(|own| own.value.version == 0)
    {
        findings.warn(
            &versions.place,
            format!("map-versioning is on, and EID-prefix {} has no version", without.value.eid),
            "write version = N (1 to 4095) in its [[eid-prefix]], the same at all xTRs of the site: without one its \
             packets carry none, and packets to it that carry one are dropped",
        );
    }
    features
}
