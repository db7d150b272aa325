//! The lab's launchers: FRR, BIRD and GoBGP hear one another over tunnels that Altitude carries.

use std::time::Duration;

use altitude_perf::lab::{
    self, LabError, Software,
    alt::{self, Stand},
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(30);
/// What one end announces beyond the middle.
const PREFIXES: [&str; 2] = ["10.7.0.0/16", "2001:db8:7::/48"];

#[test]
fn routes_cross_a_row_of_three_daemons_and_go_again() {
    let row = [Software::Bird, Software::Frr, Software::GoBgp];
    let plan = alt::daemons(row);
    if let Err(why) = plan.available() {
        return println!("SKIP: {why}");
    }
    let mut stand = Stand::new(plan).unwrap();
    stand.start().unwrap();
    for (from, to, path) in [("left", "right", [64_812, 64_811]), ("right", "left", [64_812, 64_813])] {
        for prefix in PREFIXES {
            stand.daemon(from).announce(prefix).unwrap();
            let arrived = wait_until(&format!("{prefix} of {from}"), LIMIT, || stand.daemon(to).route(prefix));
            assert_eq!(arrived.unwrap().as_path, path, "{prefix} of {from}");
            stand.daemon(from).withdraw(prefix).unwrap();
            gone(&mut stand, to, prefix).unwrap();
        }
    }
    let middle = stand.plan.place("middle");
    for neighbour in stand.plan.daemon_settings(middle).neighbours {
        let session = stand.daemon("middle").session(neighbour.remote).unwrap();
        assert!(session.established, "{}", session.text);
    }
}

#[test]
fn nothing_is_left_of_a_lab_with_daemons() {
    let plan = alt::daemons([Software::Frr, Software::Bird, Software::Frr]);
    if let Err(why) = plan.available() {
        return println!("SKIP: {why}");
    }
    let mut stand = Stand::new(plan).unwrap();
    stand.start().unwrap();
    stand.daemon("left").kill().unwrap();
    stand.daemon("left").restart().unwrap();
    let (folder, name) = (stand.folder().to_owned(), stand.namespace("left").name().to_owned());
    drop(stand);
    assert!(!folder.exists());
    let namespaces = lab::run(std::process::Command::new("ip").args(["netns", "list"])).unwrap();
    assert!(!namespaces.contains(&name), "{namespaces}");
}

fn gone(stand: &mut Stand, router: &str, prefix: &str) -> Result<(), LabError> {
    let what = format!("withdrawal of {prefix} at {router}");
    wait_until(&what, LIMIT, || Ok(stand.daemon(router).route(prefix)?.is_none().then_some(())))
}
