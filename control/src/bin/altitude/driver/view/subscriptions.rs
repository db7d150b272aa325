//! PubSub subscriptions as the mapping API shows them.

use std::time::Instant;

use altitude_control::{
    api::SubscriptionStatus,
    map_server::{MapServer, Subscriber as Other},
    pubsub::{Subscribed, Subscriber},
};

/// Ours, then those at our Map-Server.
pub(super) fn statuses(ours: Option<&Subscriber>, server: &MapServer, now: Instant) -> Vec<SubscriptionStatus> {
    let ours = ours.into_iter().flat_map(Subscriber::iter).map(|one| own(&one, now));
    ours.chain(server.subscriptions().map(|one| other(&one, now))).collect()
}

fn own(one: &Subscribed, now: Instant) -> SubscriptionStatus {
    SubscriptionStatus {
        ours: true,
        eid: one.eid,
        standing: one.standing.name(),
        since: now.saturating_duration_since(one.since),
        left: None,
        nonce: one.nonce,
        count: one.notifies,
        xtr: None,
        peers: one.server.into_iter().collect(),
    }
}

fn other(one: &Other<'_>, now: Instant) -> SubscriptionStatus {
    SubscriptionStatus {
        ours: false,
        eid: one.eid,
        standing: match (one.unacknowledged, one.confirmed) {
            (_, false) => "unconfirmed",
            (true, true) => "unacknowledged",
            (false, true) => "confirmed",
        },
        since: now.saturating_duration_since(one.since),
        left: one.until.map(|until| until.saturating_duration_since(now)),
        nonce: one.nonce,
        count: one.pending as u64,
        xtr: Some((one.xtr.xtr_id, one.xtr.site_id)),
        peers: one.rlocs.to_vec(),
    }
}
