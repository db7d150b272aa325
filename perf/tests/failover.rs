//! Two sites with two links each: what is cut is left by all its flows and by no other, and returned to.

use std::time::Duration;

use altitude_perf::lab::{
    self,
    failover::{Break, FLOWS, Failover},
};

/// Far more than probes, retries and SMRs take; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(120);

/// RCH-7, RCH-11, ITR-9, LOC-6, SMR-1, SMR-3: a path that loses packets without a word, one whose router says that it has no
/// route, and a link that is seen down at one end only: the other end hears of it by an SMR and from the mapping system.
#[test]
fn flows_leave_a_dead_path_and_come_back_and_no_other_moves() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Failover::new().unwrap();
    let homes = lab.homes().unwrap();
    assert_eq!(homes.len(), 2 * usize::from(FLOWS));
    for (path, how) in [(0, Break::Silent), (1, Break::Told), (0, Break::LinkDown)] {
        let moves = |flow| homes[&flow] == path;
        let start = lab.watch.mark();
        lab.cut(path, how).unwrap();
        lab.wait_moved(start, LIMIT, |_| 1 - path, moves).unwrap_or_else(|why| panic!("{how:?}: {why}"));
        let start = lab.watch.mark();
        lab.mend(path, how).unwrap();
        lab.wait_moved(start, LIMIT, |flow| homes[&flow], moves).unwrap_or_else(|why| panic!("back, {how:?}: {why}"));
        lab.wait_locators("every locator up again", LIMIT, |up, _| up).unwrap();
    }
    let counters: serde_json::Value =
        serde_json::from_str(&lab.routers[0].show(&["counters", "--json"]).unwrap()).unwrap();
    let counted = |name: &str| counters["control"][name].as_u64().unwrap_or_default();
    assert!(counted("icmp-hints") > 0 && counted("smrs-sent") > 0, "{counters}");
    assert!(counted("rloc-probes-confirmed") > 0 && counted("rloc-probes-answered") > 0);
    assert_eq!(lab.homes().unwrap(), homes, "every flow is where it was at first");
}
