//! What `show sites` prints.

use altitude_control::api::{RefusalStatus, SitePrefix, SiteStatus, XtrStatus};

use super::{super::sites, *};

fn one() -> SiteStatus {
    let xtr = XtrStatus {
        xtr_id: Some([0xab; 16]),
        site_id: 42,
        source: "203.0.113.1:4342".parse().unwrap(),
        key: 2,
        since: Duration::from_secs(3700),
        left: Duration::from_secs(125),
        proxy: true,
        merge: true,
        signs: true,
        ttl: Ttl::Minutes(10),
        locators: vec![
            Locator::unicast([203, 0, 113, 1].into(), 1, 100),
            Locator { reachable: false, ..Locator::unicast([203, 0, 113, 2].into(), 2, 50) },
        ],
    };
    let refused = RefusalStatus {
        reason: "site-register-bad-authentication".to_owned(),
        source: "203.0.113.9:61000".parse().unwrap(),
        key: 1,
        ago: Duration::from_secs(5),
    };
    SiteStatus {
        name: "one".to_owned(),
        keyed: true,
        denied: false,
        etrs: Vec::new(),
        prefixes: vec![
            SitePrefix { eid: eid("10.1.0.0/16", 0), xtrs: vec![xtr] },
            SitePrefix { eid: eid("10.2.0.0/16", 7), xtrs: Vec::new() },
        ],
        refused: Some(refused),
    }
}

/// MS-19: the table names the key; what is not registered says why.
#[test]
fn a_site_shows_who_registered_it_and_why_not() {
    let text = sites::table(&[one()]);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let id = "ab".repeat(16);
    let first = ["one", "10.1.0.0/16", &id, "203.0.113.1", "2"];
    assert_eq!(lines[1][..5], first, "{text}");
    let locators = "we, merged, LISP-SEC 203.0.113.1 1/100, 203.0.113.2 2/50 (down)";
    assert_eq!(lines[1][lines[1].len() - 8..].join(" "), locators, "{text}");
    assert_eq!(lines[2].join(" "), "[7]10.2.0.0/16 not registered");
    assert!(lines[3].join(" ").starts_with("last refused: site-register-bad-authentication, from 203.0.113.9:61000"));
    let keyless = SiteStatus { keyed: false, refused: None, ..one() };
    assert!(sites::table(&[keyless]).contains("not registered: the site has no keys"));
    let fixed = SiteStatus { etrs: vec![[203, 0, 113, 7].into()], denied: true, ..one() };
    let text = sites::table(&[fixed]);
    assert!(text.contains("fixed: 203.0.113.7") && text.contains("denied, merged"), "{text}");
}

#[test]
fn the_document_of_a_site_has_stable_keys() {
    let document = sites::document(&one());
    assert_eq!(document["prefixes"][0]["xtrs"][0]["xtr-id"], json!("ab".repeat(16)));
    assert_eq!(document["prefixes"][0]["xtrs"][0]["site-id"], json!("000000000000002a"));
    let xtr = &document["prefixes"][0]["xtrs"][0];
    assert_eq!(
        (&xtr["key"], &xtr["left"], &xtr["ttl"], &xtr["lisp-sec"]),
        (&json!(2), &json!(125), &json!(600), &json!(true))
    );
    assert_eq!(
        xtr["locators"][1],
        json!({ "address": "203.0.113.2", "priority": 2, "weight": 50, "reachable": false })
    );
    assert_eq!((&document["prefixes"][1]["instance"], &document["prefixes"][1]["xtrs"]), (&json!(7), &json!([])));
    let refused = json!({
        "reason": "site-register-bad-authentication", "from": "203.0.113.9", "port": 61000, "key": 1, "ago": 5,
    });
    assert_eq!(document["refused"], refused);
}
