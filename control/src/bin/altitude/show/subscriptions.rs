//! `altitude show subscriptions`.

use altitude_control::api::SubscriptionStatus;
use serde_json::{Value, json};

use super::{
    table::Columns,
    text::{clock, or_nothing},
};

/// Ours, and those at our Map-Server.
pub(super) fn tables(list: &[SubscriptionStatus]) -> String {
    let mut ours = Columns::new(["EID-PREFIX", "STANDING", ">SINCE", "MAP-SERVER", ">NOTIFIES"]);
    let mut others = Columns::new(["EID-PREFIX", "SUBSCRIBER", "STANDING", ">SINCE", ">LEFT", ">WAITING", "ITR-RLOCS"]);
    for one in list {
        let (eid, standing, since) = (one.eid.to_string(), one.standing.to_owned(), clock(one.since));
        let peers: Vec<String> = one.peers.iter().map(ToString::to_string).collect();
        let peers = if peers.is_empty() { "-".to_owned() } else { peers.join(", ") };
        let count = one.count.to_string();
        if one.ours {
            ours.row([eid, standing, since, peers, count]);
        } else {
            let xtr = one.xtr.map_or("-".to_owned(), |(id, _)| hex(id));
            others.row([eid, xtr, standing, since, one.left.map_or("-".to_owned(), clock), count, peers]);
        }
    }
    match (ours.is_empty(), others.is_empty()) {
        (true, true) => or_nothing(&ours, "there is no subscription; see [pubsub]"),
        (false, true) => ours.render(),
        (true, false) => others.render(),
        (false, false) => format!("{}\n{}", ours.render(), others.render()),
    }
}

fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

pub(super) fn document(list: &[SubscriptionStatus]) -> Value {
    let ours = |one: &SubscriptionStatus| {
        json!({
            "eid": one.eid.prefix.to_string(),
            "instance": one.eid.instance.get(),
            "standing": one.standing,
            "since": one.since.as_secs(),
            "map-server": one.peers.first(),
            "nonce": format!("{:016x}", one.nonce),
            "notifies": one.count,
        })
    };
    let other = |one: &SubscriptionStatus| {
        json!({
            "eid": one.eid.prefix.to_string(),
            "instance": one.eid.instance.get(),
            "xtr-id": one.xtr.map(|(id, _)| hex(id)),
            "site-id": one.xtr.map(|(_, site)| site).filter(|id| *id != 0).map(|id| format!("{id:016x}")),
            "standing": one.standing,
            "since": one.since.as_secs(),
            "left": one.left.map(|left| left.as_secs()),
            "itr-rlocs": one.peers,
            "nonce": format!("{:016x}", one.nonce),
            "waiting": one.count,
        })
    };
    json!({
        "subscriptions": list.iter().filter(|one| one.ours).map(ours).collect::<Vec<_>>(),
        "subscribers": list.iter().filter(|one| !one.ours).map(other).collect::<Vec<_>>(),
    })
}
