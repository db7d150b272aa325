//! Two sites find each other over an ALT without a static route: three routers of ours speak BGP, signed, through GRE.

use std::time::Duration;

use altitude_perf::lab::{self, Family, Lab, Pings, Router, wait_until};
use serde_json::Value;

/// Far more than anything here takes; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(30);

/// ALT-2, ALT-17.
#[test]
fn sites_talk_over_an_alt_of_bgp_alone() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let mut routers = lab.start_routers_by_bgp(Family::V4).unwrap();
    for to in lab.hosts(1) {
        assert_eq!(lab.ping(0, to, 3).unwrap(), Pings { sent: 3, answered: 3 }, "{to}");
    }
    // What the ALT knows is no route of the kernel's, and the underlay's are no routes of the ALT: two are received, see below.
    for family in ["-4", "-6"] {
        let kernel = lab.xtrs[0].ip(&format!("{family} route show table all")).unwrap();
        assert!(!kernel.contains("2.2.0.0") && !kernel.contains("2001:db8:2:"), "{kernel}");
    }
    let [xtr1, xtr2, alt] = &mut routers;
    let ours = json(alt, &["bgp", "--json"]);
    assert_eq!((&ours["as"], &ours["neighbors"][1]["state"]), (&64_530.into(), &"Established".into()), "{ours}");
    for neighbor in ours["neighbors"].as_array().unwrap() {
        assert_eq!((&neighbor["received"], &neighbor["advertised"]), (&2.into(), &2.into()), "{ours}");
    }
    let sources = json(xtr1, &["alt", "--json"]);
    assert_eq!(sources["routes"], Value::Array(Vec::new()), "no static route: {sources}");
    let route = json(xtr1, &["bgp", "routes", "2.2.0.0/16", "--json"]);
    assert_eq!(route["routes"][0]["as-path"], "64530 64520", "{route}");
    let relayed = json(alt, &["counters", "--json"]);
    assert_eq!(lab::total(&relayed, "alt_datagrams_forwarded"), Some(4), "both families, asked by both: {relayed}");

    // A router that is stopped says so, and its EID-prefixes are gone at its neighbour's neighbour.
    assert!(xtr2.stop().unwrap().success());
    wait_until("withdrawal", LIMIT, || Ok((!xtr1.show(&["bgp", "routes"])?.contains("2.2.0.0/16")).then_some(())))
        .unwrap();
    let down = alt.show(&["bgp", "--neighbor", "10.42.2.1"]).unwrap();
    assert!(down.contains("the neighbour sent Cease, Administrative Shutdown"), "{down}");
    let rest = xtr1.show(&["bgp", "routes"]).unwrap();
    assert!(rest.contains("1.1.0.0/16") && !rest.contains("2001:db8:2::/48"), "{rest}");
}

fn json(router: &Router, what: &[&str]) -> Value {
    serde_json::from_str(&router.show(what).unwrap()).unwrap()
}
