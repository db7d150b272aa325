//! What an operator sees with `altitude show` while two sites talk.

use altitude_perf::lab::{self, Family, Lab, Pings};
use serde_json::Value;

#[test]
fn show_tells_what_happened() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let routers = lab.start_routers(Family::V4).unwrap();
    for to in lab.hosts(1) {
        assert_eq!(lab.ping(0, to, 3).unwrap(), Pings { sent: 3, answered: 3 }, "{to}");
    }
    let [xtr1, _, alt] = &routers;
    for (what, said) in [
        ("map-cache", &["2.2.0.0/16", "2001:db8:2::/48", "240.0.254.20"][..]),
        ("database", &["1.1.0.0/16", "2001:db8:1::/48", "240.0.254.10"]),
        ("counters", &["encapsulated", "decapsulated"]),
        ("ports", &["site", "core"]),
        ("alt", &["alt0", "240.0.254.30", "0.0.0.0/0"]),
    ] {
        let shown = xtr1.show(&[what]).unwrap();
        let missing: Vec<_> = said.iter().filter(|said| !shown.contains(**said)).collect();
        assert!(missing.is_empty(), "{what} says nothing of {missing:?}:\n{shown}");
        let json = xtr1.show(&[what, "--json"]).unwrap();
        let parsed: Result<Value, _> = serde_json::from_str(&json);
        assert!(parsed.is_ok(), "{what} --json: {parsed:?}:\n{json}");
    }
    // Six requests out and six replies back, no other packet of the hosts', and nothing copied on the way.
    let counters: Value = serde_json::from_str(&xtr1.show(&["counters", "--json"]).unwrap()).unwrap();
    for (name, count) in [("encapsulated", 6), ("decapsulated", 6), ("copied_octets", 0), ("leaked", 0)] {
        assert_eq!(lab::total(&counters, name), Some(count), "{name} in {counters}");
    }
    let relayed: Value = serde_json::from_str(&alt.show(&["counters", "--json"]).unwrap()).unwrap();
    // Both families, asked by both xTRs; what takes longer than a second is asked again.
    assert!(lab::total(&relayed, "alt_datagrams_forwarded") >= Some(4), "{relayed}");

    let nobody = lab.folder().join("nobody.sock");
    let refused = lab::Router::show_at(&nobody, &["counters"]).unwrap_err().to_string();
    assert!(refused.contains("exit status: 1") && refused.contains("nobody.sock"), "{refused}");
}
