//! `show locators`.

use altitude_control::api::ProbingStatus;

use super::*;

fn two() -> Vec<LocatorStatus> {
    let probing = ProbingStatus {
        state: 3,
        since: Duration::from_secs(75),
        held: false,
        rtt: Some((Duration::from_micros(20_460), Duration::from_micros(300))),
        sent: 12,
        answered: 8,
        lost: 4,
    };
    let down = LocatorStatus {
        address: [240, 1, 2, 20].into(),
        up: false,
        why: "no answer to RLOC-probes".to_owned(),
        mappings: 7,
        carrying: 0,
        probing: Some(probing),
    };
    let quiet = LocatorStatus {
        address: [240, 2, 2, 20].into(),
        up: true,
        why: String::new(),
        carrying: 7,
        probing: None,
        ..down.clone()
    };
    vec![down, quiet]
}

#[test]
fn locators_table() {
    let table = text::tables(&Answer::Locators(two()), false);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0].join(" "), "LOCATOR STATE PROBES SAY SINCE RTT SENT ANSWERED LOST MAPPINGS CARRYING WHY");
    assert_eq!(rows[1].join(" "), "240.1.2.20 down down 00:01:15 20.5 ms 12 8 4 7 0 no answer to RLOC-probes");
    assert_eq!(rows[2].join(" "), "240.2.2.20 up - - - - - - 7 7");
    assert_eq!(text::tables(&Answer::Locators(Vec::new()), false), "no mapping has a locator\n");
}

#[test]
fn locators_document() {
    let expected = json!({ "locators": [
        { "address": "240.1.2.20", "up": false, "why": "no answer to RLOC-probes", "mappings": 7, "carrying": 0, "probing": {
            "state": "down", "since": 75, "held": false, "rtt": 20_460, "rtt-variation": 300, "sent": 12, "answered": 8,
            "lost": 4 } },
        { "address": "240.2.2.20", "up": true, "why": "", "mappings": 7, "carrying": 7, "probing": null },
    ] });
    assert_eq!(parsed(&Answer::Locators(two())), expected);
}
