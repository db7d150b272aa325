//! What an ETR says of an EID-prefix of its own that it cannot deliver to.

use std::time::Duration;

use altitude_perf::lab::{self, Family, Lab, Pings, Router};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const EID: &str = "2.2.0.0/16";

/// What is cached of the locator of [`EID`]'s mapping.
fn cached(router: &Router) -> Value {
    let json: Value = serde_json::from_str(&router.show(&["map-cache", "--json"]).unwrap()).unwrap();
    let entries = json["map-cache"].as_array().unwrap_or_else(|| panic!("no map-cache in {json}"));
    let mapping = entries.iter().find(|mapping| mapping["eid"] == EID);
    mapping.unwrap_or_else(|| panic!("no {EID} in {json}"))["locators"][0].clone()
}

/// ETR-18: the route into the site goes, and the ITR hears of it by an SMR and a Map-Reply with R=0; it comes back, and so do the
/// pings.
#[test]
fn an_etr_whose_route_inside_is_gone_says_so() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let [itr, etr, _alt] = lab.start_routers(Family::V4).unwrap();
    let there = lab.hosts(1)[0];
    assert_eq!(lab.ping(0, there, 2).unwrap(), Pings { sent: 2, answered: 2 });
    assert_eq!(cached(&itr)["reachable"], true, "{}", cached(&itr));

    let route = format!("{EID} dev site src 2.2.0.1");
    lab.xtrs[1].ip(&format!("route del {route}")).unwrap();
    let says = || Ok((cached(&itr)["reachable"] == false).then_some(()));
    let heard = lab::wait_until("R=0 at the ITR", LIMIT, says);
    heard.unwrap_or_else(|error| panic!("{error}\n{}", etr.process.output()));
    assert!(etr.process.output().contains("no route leads to this EID-prefix"), "{}", etr.process.output());
    // The other prefix of the site is as it was.
    let other = lab.ping(0, lab.hosts(1)[1], 2).unwrap();
    let shown = || itr.show(&["map-cache"]).unwrap() + &itr.show(&["counters"]).unwrap();
    assert_eq!(other, Pings { sent: 2, answered: 2 }, "{}", shown());

    lab.xtrs[1].ip(&format!("route add {route}")).unwrap();
    let both = || Ok((lab.ping(0, there, 2)? == Pings { sent: 2, answered: 2 }).then_some(()));
    lab::wait_until("pings again", LIMIT, both).unwrap_or_else(|error| panic!("{error}\n{}", etr.process.output()));
}
