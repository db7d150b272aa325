//! ALTs with BGP, as `altitude-perf lab` builds them: look-ups cross them, aggregates hide what is in them, holes are
//! answered, and a cut link is survived. Times are printed by the lab and never judged here.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::{Action, Ttl};
use altitude_perf::lab::{
    Pings,
    alt::{self, Cut, Plan, Stand},
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(40);
const PINGS: u16 = 3;

/// Builds a plan, starts it, and waits until every router knows every site; or says why it cannot be here.
fn standing(plan: Plan) -> Option<Stand> {
    if let Err(why) = plan.available() {
        println!("SKIP: {why}");
        return None;
    }
    let mut stand = Stand::new(plan).unwrap();
    stand.start().unwrap();
    stand.wait_converged(LIMIT).unwrap();
    Some(stand)
}

fn assert_pings(stand: &Stand, from: &str, to: &str) {
    let pings = stand.ping(from, to, PINGS).unwrap();
    assert_eq!(pings, Pings { sent: 2 * PINGS, answered: 2 * PINGS }, "{from} to {to}");
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_slides_sites_find_each_other_by_bgp() {
    let Some(stand) = standing(alt::slides()) else { return };
    assert_pings(&stand, "xtr1", "xtr2");
    assert_pings(&stand, "xtr2", "xtr1");
}

/// ALT-8, ALT-9, ALT-14.
#[test]
fn a_request_crosses_frr_altitude_and_bird() {
    let Some(mut stand) = standing(alt::mixed()) else { return };
    assert_pings(&stand, "xtr1", "xtr2");

    // Natively, from the site itself.
    let mut asker = stand.asker("asker").unwrap();
    for (eid, prefix) in [("10.1.77.88", "10.1.64.0/18"), ("2001:db8:1:1::88", "2001:db8:1:1::/64")] {
        let answer = asker.look_up(ip(eid), LIMIT).unwrap();
        let mapping = &answer.mapping;
        assert_eq!(answer.from, ip("240.0.254.10"), "{mapping:?}");
        assert_eq!(mapping.eid.prefix, prefix.parse().unwrap(), "{mapping:?}");
        assert!(mapping.authoritative && mapping.locators.iter().any(|locator| locator.address == answer.from));
    }

    // BIRD, beyond the aggregator, sees one route; FRR, on the near side, the component.
    for (aggregate, component) in [("10.1.0.0/16", "10.1.64.0/18"), ("2001:db8:1::/48", "2001:db8:1:1::/64")] {
        let route = stand.daemon("bird").route(aggregate).unwrap().expect("the aggregate");
        assert_eq!(route.as_path.first(), Some(&64_732), "{route:?}");
        assert_eq!(stand.daemon("bird").route(component).unwrap(), None, "{component}");
        assert!(stand.daemon("frr").route(component).unwrap().is_some(), "{component}");
    }

    // The aggregator speaks for the hole, of as much as it is.
    for (eid, hole) in [("10.1.128.199", "10.1.128.0/17"), ("2001:db8:1:8000::1", "2001:db8:1:8000::/49")] {
        let answer = asker.look_up(ip(eid), LIMIT).unwrap();
        let mapping = &answer.mapping;
        assert_eq!(answer.from, ip("240.0.254.32"), "{mapping:?}");
        assert_eq!(mapping.eid.prefix, hole.parse().unwrap(), "{mapping:?}");
        assert!(mapping.is_negative());
        assert_eq!((mapping.action, mapping.ttl), (Action::NativelyForward, Ttl::Minutes(15)));
    }

    // Without the neighbour that announces what is in it, nothing stands behind the aggregate (rule ALT-8).
    stand.daemon("frr").kill().unwrap();
    let gone = || Ok(stand.daemon("bird").route("10.1.0.0/16")?.is_none().then_some(()));
    wait_until("withdrawal of the aggregate", LIMIT, gone).unwrap();
}

/// ALT-14.
#[test]
fn the_core_of_three_levels_sees_one_route_for_two_sites() {
    let Some(stand) = standing(alt::levels()) else { return };
    assert_pings(&stand, "edge1", "edge3");
    assert_pings(&stand, "edge2", "edge1");
    let has = |router: &str, prefix: &str| {
        let prefix = prefix.parse().unwrap();
        stand.eid_routes(router).unwrap().iter().any(|route| route.eid == prefix)
    };
    for router in ["core1", "core2", "agg2", "edge3"] {
        assert!(has(router, "10.1.0.0/16") && has(router, "2001:db8:1::/48"), "{router}");
        for component in ["10.1.64.0/18", "10.1.0.0/18", "2001:db8:1:1::/64"] {
            assert!(!has(router, component), "{router} sees {component}");
        }
    }
    assert!(has("agg1", "10.1.64.0/18") && has("agg1", "10.1.0.0/18"));
}

#[test]
fn a_link_that_is_seen_down_is_survived() {
    survive(Cut::LinkDown);
}

#[test]
fn a_link_that_falls_silent_is_survived() {
    survive(Cut::Silent);
}

/// Cuts the link that look-ups go over, at the aggregator that must choose anew and behind the core it chose.
fn survive(how: Cut) {
    let Some(stand) = standing(alt::levels()) else { return };
    let mut asker = stand.asker("asker2").unwrap();
    let (eid, etr) = (ip("10.1.77.88"), ip("240.0.254.21"));
    for end in ["agg2", "agg1"] {
        let core = stand.way("agg2", eid).unwrap().expect("a way");
        let watched = alt::watch_cut(&stand, &mut asker, (eid, etr), ((end, &core), how), LIMIT).unwrap();
        println!("{how:?} {end}–{core}: {watched:?}");
        assert!(watched.wrong.is_empty(), "{watched:?}");
        assert_ne!(stand.way("agg2", eid).unwrap(), Some(core.clone()), "the way is another one");
        stand.mend(end, &core).unwrap();
        stand.wait_neighbours(LIMIT).unwrap();
    }
}
