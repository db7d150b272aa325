//! Registrations as the mapping API shows them.

use std::time::Instant;

use altitude_control::{
    api::{PrefixStatus, RegistrationStatus},
    registrar::Registrar,
};

use super::super::registration::Registration;

/// How things stand with each Map-Server.
pub(super) fn statuses(registration: &Registration, now: Instant) -> Vec<RegistrationStatus> {
    let servers = registration.registrar.iter().flat_map(Registrar::servers);
    let status = servers.map(|status| {
        let reason = status.reason(registration.circumstances(status.address));
        let prefixes = status.prefixes.iter().map(|(eid, standing, since)| PrefixStatus {
            eid: *eid,
            standing: standing.name(),
            since: now.saturating_duration_since(*since),
        });
        RegistrationStatus {
            server: status.address,
            standing: status.standing.name(),
            since: now.saturating_duration_since(status.since),
            sent: status.sent,
            confirmed: status.confirmed,
            last_notify: status.last_notify.map(|at| now.saturating_duration_since(at)),
            reason: reason.map(|reason| (reason.what, reason.remedy)),
            prefixes: prefixes.collect(),
        }
    });
    status.collect()
}
