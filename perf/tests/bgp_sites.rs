//! Two sites find each other over an ALT without a static route: three routers of ours speak BGP, signed, through GRE.

use std::{path::Path, process::Command, time::Duration};

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
    let datagrams = lab::total(&relayed, "alt_datagrams_forwarded");
    assert!(datagrams >= Some(4), "both families, asked by both, again after a second: {relayed}");

    announced_while_ours(xtr1, alt);
    cleared(alt);

    // A router that is stopped says so, and its EID-prefixes are gone at its neighbour's neighbour.
    assert!(xtr2.stop().unwrap().success());
    wait_until("withdrawal", LIMIT, || Ok((!xtr1.show(&["bgp", "routes"])?.contains("2.2.0.0/16")).then_some(())))
        .unwrap();
    let down = alt.show(&["bgp", "--neighbor", "10.42.2.1"]).unwrap();
    assert!(down.contains("the neighbour sent Cease, Administrative Shutdown"), "{down}");
    let rest = xtr1.show(&["bgp", "routes"]).unwrap();
    assert!(rest.contains("1.1.0.0/16") && !rest.contains("2001:db8:2::/48"), "{rest}");
}

/// What a client of the mapping API makes ours is announced, and withdrawn when it takes that back.
fn announced_while_ours(xtr: &Router, alt: &Router) {
    let known = |is: bool| {
        let what = format!("1.9.0.0/16 announced: {is}");
        wait_until(&what, LIMIT, || Ok((alt.show(&["bgp", "routes"])?.contains("1.9.0.0/16") == is).then_some(())))
            .unwrap();
    };
    altitude(&["map", "add", "1.9.0.0/16", "240.0.254.10", "--database"], &xtr.api).unwrap();
    known(true);
    altitude(&["map", "del", "1.9.0.0/16", "--database"], &xtr.api).unwrap();
    known(false);
}

/// A session is begun anew, or only its routes are exchanged again.
fn cleared(alt: &Router) {
    let counter = |name: &str| {
        let ours = json(alt, &["bgp", "--json"]);
        let neighbors = ours["neighbors"].as_array().unwrap();
        let counts = neighbors.iter().map(|neighbor| neighbor["counters"][name].as_u64().unwrap());
        counts.collect::<Vec<_>>().try_into().unwrap()
    };
    let before: [[u64; 2]; 2] = [counter("sessions"), counter("refreshes-sent")];
    let said = altitude(&["bgp", "clear", "10.42.2.1", "--soft"], &alt.api).unwrap();
    assert_eq!(said, "routes are exchanged again with 1 neighbour\n");
    wait_until("a route refresh", LIMIT, || Ok((counter("refreshes-sent")[1] > before[1][1]).then_some(()))).unwrap();
    assert_eq!(counter("sessions"), before[0], "no session ends for it");
    assert_eq!(altitude(&["bgp", "clear", "all"], &alt.api).unwrap(), "begun anew: 2 sessions\n");
    wait_until("sessions and routes again", LIMIT, || {
        let again = counter("sessions") == before[0].map(|count| count + 1);
        let ours = json(alt, &["bgp", "--json"]);
        let whole = ours["neighbors"].as_array().unwrap().iter().all(|neighbor| neighbor["received"] == 2);
        Ok((again && whole).then_some(()))
    })
    .unwrap();
    // Whoever may only read ends no session, and there is nobody else.
    let reader = alt.api.with_file_name("alt-ro.sock");
    let why = altitude(&["bgp", "clear", "all"], &reader).unwrap_err().to_string();
    assert!(why.contains("may only read"), "{why}");
    let why = altitude(&["bgp", "clear", "10.42.9.9"], &alt.api).unwrap_err().to_string();
    assert!(why.contains("no BGP neighbour 10.42.9.9"), "{why}");
}

fn altitude(arguments: &[&str], api: &Path) -> Result<String, lab::LabError> {
    lab::run(Command::new(lab::altitude_binary()?).args(arguments).arg("--api").arg(api))
}

fn json(router: &Router, what: &[&str]) -> Value {
    serde_json::from_str(&router.show(what).unwrap()).unwrap()
}
