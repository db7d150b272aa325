//! `show subscriptions`.

use altitude_control::api::SubscriptionStatus;
use serde_json::{Value, json};

use super::{Answer, eid, json as documents, text};
use std::time::Duration;

fn list() -> Vec<SubscriptionStatus> {
    let ours = SubscriptionStatus {
        ours: true,
        eid: eid("2.2.0.0/16", 0),
        standing: "live",
        since: Duration::from_secs(61),
        left: None,
        nonce: 0x101,
        count: 3,
        xtr: None,
        peers: vec![[240, 0, 254, 50].into()],
    };
    let other = SubscriptionStatus {
        ours: false,
        eid: eid("1.1.0.0/16", 7),
        standing: "unacknowledged",
        left: Some(Duration::from_secs(60)),
        count: 1,
        xtr: Some(([0xab; 16], 42)),
        peers: vec![[240, 0, 254, 10].into(), [240, 0, 254, 11].into()],
        ..ours.clone()
    };
    vec![ours, other]
}

#[test]
fn subscriptions_of_both_roles_are_told_apart() {
    let id = "ab".repeat(16);
    let shown = text::tables(&Answer::Subscriptions(list()), false);
    let lines: Vec<String> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[1], "2.2.0.0/16 live 00:01:01 240.0.254.50 3");
    let other = format!("[7]1.1.0.0/16 {id} unacknowledged 00:01:01 00:01:00 1 240.0.254.10, 240.0.254.11");
    assert_eq!((lines.len(), &lines[4]), (5, &other), "{shown}");
    let none = text::tables(&Answer::Subscriptions(Vec::new()), false);
    assert_eq!(none, "there is no subscription; see [pubsub]\n");
}

#[test]
fn the_document_of_subscriptions_has_stable_keys() {
    let document: Value = serde_json::from_str(&documents::document(&Answer::Subscriptions(list()))).unwrap();
    let ours = json!({
        "eid": "2.2.0.0/16", "instance": 0, "standing": "live", "since": 61, "map-server": "240.0.254.50",
        "nonce": "0000000000000101", "notifies": 3,
    });
    assert_eq!(document["subscriptions"], json!([ours]));
    let other = json!({
        "eid": "1.1.0.0/16", "instance": 7, "xtr-id": "ab".repeat(16), "site-id": "000000000000002a",
        "standing": "unacknowledged", "since": 61, "left": 60, "itr-rlocs": ["240.0.254.10", "240.0.254.11"],
        "nonce": "0000000000000101", "waiting": 1,
    });
    assert_eq!(document["subscribers"], json!([other]));
}
