//! PubSub subscriptions as the mapping API shows them.

use std::{ops::Bound, time::Instant};

use altitude_control::{
    api::{SubscriptionStatus, SubscriptionsAfter, SubscriptionsPage},
    map_server::{MapServer, Subscriber as Other},
    pubsub::{Subscribed, Subscriber},
    wire::XtrIdentity,
};

/// Ours, then those at our Map-Server, then those that nobody has confirmed there: at most `max`, after this one.
pub(super) fn page(
    ours: Option<&Subscriber>,
    server: &MapServer,
    after: Option<SubscriptionsAfter>,
    max: usize,
) -> SubscriptionsPage {
    let now = Instant::now();
    // Where each of the three parts begins; none: it is behind.
    let (own_from, others_from, asks_after) = match after {
        None => (Some(Bound::Unbounded), Some(Bound::Unbounded), 0),
        Some(SubscriptionsAfter::Ours(eid)) => (Some(Bound::Excluded(eid)), Some(Bound::Unbounded), 0),
        Some(SubscriptionsAfter::Others(xtr_id, site_id, eid)) => {
            (None, Some(Bound::Excluded((XtrIdentity { xtr_id, site_id }, eid))), 0)
        }
        Some(SubscriptionsAfter::Unconfirmed(place)) => (None, None, place),
    };
    let ours = ours.zip(own_from).into_iter().flat_map(|(ours, from)| ours.iter_from(from));
    let ours = ours.map(|one| (SubscriptionsAfter::Ours(one.eid), own(&one, now)));
    let others = others_from.into_iter().flat_map(|from| server.subscriptions(from));
    let others =
        others.map(|one| (SubscriptionsAfter::Others(one.xtr.xtr_id, one.xtr.site_id, one.eid), other(&one, now)));
    let asks = server.unconfirmed(asks_after);
    let asks = asks.map(|(place, one)| (SubscriptionsAfter::Unconfirmed(place), other(&one, now)));
    let (mut page, mut last) = (SubscriptionsPage::default(), None);
    for (name, status) in ours.chain(others).chain(asks) {
        if page.list.len() == max {
            page.next = last;
            break;
        }
        page.list.push(status);
        last = Some(name);
    }
    page
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
