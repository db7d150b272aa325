//! A core that carries less than the links into it: hosts hear of it.

use std::time::Duration;

use altitude_perf::lab::{self, failover::Failover};

/// Far more than a packet and its error take; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(60);

/// MTU-4, MTU-5: a router in the middle that carries less says so, and hosts are told what is left of it. The way
/// back is another path.
#[test]
fn hosts_are_told_what_a_narrow_path_carries() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Failover::new().unwrap();
    assert_eq!(lab.path_mtu_after(0, 1500).unwrap(), 1500, "the core carries what the site does");
    for path in [0, 1] {
        lab.narrow(path, 1, 1400).unwrap();
    }
    lab::wait_until("the host of site 1 to be told", LIMIT, || {
        Ok((lab.path_mtu_after(0, 1500)? == 1400 - 36).then_some(()))
    })
    .unwrap();
    let counters: serde_json::Value =
        serde_json::from_str(&lab.routers[0].show(&["counters", "--json"]).unwrap()).unwrap();
    let known = counters["control"]["path-mtus"].as_u64().unwrap_or_default();
    assert!((1..=2).contains(&known), "of the locators on the narrow paths: {counters}");
    assert_eq!(lab.path_mtu_after(1, 1500).unwrap(), 1500, "the way back is as wide as before");
}
