//! `show nat`.

use altitude_control::api::BindingStatus;
use serde_json::{Value, json};

use super::{Answer, eid, json as documents, text};
use std::time::Duration;

fn list() -> Vec<BindingStatus> {
    let one = BindingStatus {
        verified: true,
        xtr_id: [0xab; 16],
        site_id: 42,
        translated: "203.0.113.50:20001".parse().unwrap(),
        rloc: [240, 0, 254, 30].into(),
        inner: "10.0.0.2:4342".parse().unwrap(),
        nonce: 0x101,
        since: Duration::from_secs(61),
        heard: Duration::from_secs(7),
        eids: vec![eid("1.1.0.0/16", 0), eid("2001:db8::/32", 7)],
    };
    let fresh = BindingStatus { verified: false, site_id: 0, eids: vec![], ..one.clone() };
    vec![one, fresh]
}

/// RTR-4: all five items of a binding are shown, before it is verified, too.
#[test]
fn bindings_are_shown_with_what_is_behind_them() {
    let id = "ab".repeat(16);
    let shown = text::tables(&Answer::Nat(list()), false);
    let lines: Vec<String> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let kept = format!("203.0.113.50:20001 240.0.254.30 10.0.0.2:4342 {id} 0000000000000101 00:01:01 00:00:07");
    assert_eq!(lines[1], format!("verified {kept} 1.1.0.0/16, [7]2001:db8::/32"), "{shown}");
    assert_eq!(lines[2], format!("unverified {kept} -"), "{shown}");
    let none = text::tables(&Answer::Nat(Vec::new()), false);
    assert_eq!(none, "no xTR behind a NAT registers through us; see [nat]\n");
}

#[test]
fn the_document_of_bindings_has_stable_keys() {
    let document: Value = serde_json::from_str(&documents::document(&Answer::Nat(list()))).unwrap();
    let one = json!({
        "state": "verified", "translated": "203.0.113.50", "translated-port": 20001, "rloc": "240.0.254.30",
        "inner": "10.0.0.2", "inner-port": 4342, "xtr-id": "ab".repeat(16), "site-id": "000000000000002a",
        "nonce": "0000000000000101", "age": 61, "heard": 7,
        "eid-prefixes": [{ "eid": "1.1.0.0/16", "instance": 0 }, { "eid": "2001:db8::/32", "instance": 7 }],
    });
    assert_eq!(document["bindings"][0], one);
    assert_eq!(
        (&document["bindings"][1]["state"], &document["bindings"][1]["site-id"]),
        (&json!("unverified"), &json!(null))
    );
}
