//! An ITR that subscribed hears of a site's new locator and of its end from the Map-Server: no SMR, no look-up, no TTL is waited
//! for. A capture at its port shows each message, and tshark judges them.
//!
//! ```text
//! xtr1 ── subscription ──▶ ms ◀── Map-Register ── xtr2
//!   ◀──── Map-Notify ─────┘
//! ```

use std::{fs, process::Command, time::Duration};

use altitude_perf::lab::{self, Capture, Kind, Lab, Link, Packet, Router, SITES, altitude_binary, run, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// In the place of the ALT router.
const MS: &str = "240.0.254.30";
/// A host that is not there: nothing of site 2 answers, so xtr2 has nobody to send an SMR to.
const NOBODY: [u8; 4] = [2, 2, 2, 99];
const NEW_RLOC: &str = "240.0.254.21";

fn document(router: &Router, what: &str) -> Value {
    serde_json::from_str(&router.show(&[what, "--json"]).unwrap()).unwrap()
}

fn counter(router: &Router, name: &str) -> u64 {
    let json = document(router, "counters");
    lab::total(&json, &name.replace('-', "_")).unwrap_or_else(|| panic!("no {name} in {json}"))
}

/// The map-cache's entry of site 2, as (origin, locators, action).
fn entry(router: &Router) -> Option<(String, Vec<String>, String)> {
    let [prefix, _] = SITES[1].eid_prefixes();
    let json = document(router, "map-cache");
    let entry = json["map-cache"].as_array()?.iter().find(|entry| entry["eid"] == prefix.as_str())?.clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let locators = entry["locators"].as_array()?.iter().map(|locator| text(&locator["address"])).collect();
    Some((text(&entry["origin"]), locators, text(&entry["action"])))
}

fn start(lab: &Lab, name: &str, index: Option<usize>, config: &str) -> Router {
    let file = lab.folder().join(format!("{name}.toml"));
    fs::write(&file, config).unwrap();
    let flags = ["--config".to_owned(), file.display().to_string()];
    Router::start(name, index.map_or(&lab.alt, |index| &lab.xtrs[index]), &flags, lab.folder()).unwrap()
}

fn map_server(lab: &Lab) -> Router {
    let [v4, _] = SITES[1].eid_prefixes();
    let state = lab.folder().join("ms-state");
    let config = format!(
        "rlocs = [\"{MS}\"]\nstate-dir = \"{}\"\n[map-resolver]\nclients = [\"240.0.254.0/24\"]\n\
         [[site]]\nname = \"two\"\neid-prefixes = [\"{v4}\"]\nkey = {{ secret = \"of site two\" }}\n\
         [pubsub]\npublish = true\nkey = {{ secret = \"of subscribers\" }}\n",
        state.display(),
    );
    start(lab, "ms", None, &config)
}

fn xtr(lab: &Lab, index: usize, rest: &str) -> String {
    let site = &SITES[index];
    let [v4, _] = site.eid_prefixes();
    let state = lab.folder().join(format!("state{index}"));
    format!(
        "rlocs = [\"{}\", \"{}\"]\nworkers = \"0\"\nstate-dir = \"{}\"\nmap-resolvers = [\"{MS}\"]\n\
         [rloc-probing]\ninterval = 0\n[[site-port]]\nname = \"site\"\n[[core-port]]\nname = \"core\"\n[[eid-prefix]]\nprefix = \"{v4}\"\n{rest}",
        site.rloc.0,
        if index == 0 { "240.0.254.11" } else { NEW_RLOC },
        state.display(),
    )
}

/// xtr2, which registers this locator.
fn etr(lab: &Lab, rloc: &str) -> String {
    let server = format!("[[map-server]]\naddress = \"{MS}\"\nproxy = true\nkey = {{ secret = \"of site two\" }}\n");
    xtr(lab, 1, &format!("locators = [{{ address = \"{rloc}\" }}]\n{server}"))
}

fn count(packets: &[Packet], of: u8) -> usize {
    let control = packets.iter().filter(|packet| matches!(packet.kind, Kind::Control { message, .. } if message == of));
    control.inspect(|packet| assert!(!packet.damaged, "{packet:?}")).count()
}

/// PS-1, PS-2, PS-3, PS-5, PS-7: subscribed by a look-up, told of another locator and of the end.
#[test]
fn a_subscriber_follows_a_site_that_moves_and_goes() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    for (index, more) in [(0, "240.0.254.11"), (1, NEW_RLOC)] {
        lab.xtrs[index].ip(&format!("address add {more}/24 dev core")).unwrap();
    }
    let ms = map_server(&lab);
    let old = SITES[1].rloc.0.to_string();
    let mut etr_router = start(&lab, "xtr2", Some(1), &etr(&lab, &old));
    let registered = || Ok((counter(&ms, "registrations") == 1).then_some(()));
    wait_until("a registration", LIMIT, registered).unwrap();
    let itr = "[pubsub]\nsubscribe = \"lookups\"\nkey = { secret = \"of subscribers\" }\n";
    let mut itr = start(&lab, "xtr1", Some(0), &xtr(&lab, 0, itr));
    let filter = "udp port 4342";
    let at = Link { namespace: &lab.core, name: "xtr1" };
    let capture = Capture::start("xtr1", at, filter, lab.folder()).unwrap();

    // The first packet looks the site up; a second later it is subscribed to.
    let _ = lab.ping(0, NOBODY.into(), 1).unwrap();
    let live = || Ok(Some(itr.show(&["subscriptions"])?).filter(|shown| shown.contains("live")));
    let shown = wait_until("a subscription", LIMIT, live).unwrap();
    assert!(shown.contains("2.2.0.0/16") && shown.contains(MS), "{shown}");
    assert_eq!(entry(&itr), Some(("pubsub".to_owned(), vec![old.clone()], String::new())));
    let confirmed = || Ok(Some(ms.show(&["subscriptions"])?).filter(|shown| shown.contains(" confirmed ")));
    let shown = wait_until("its first Map-Notify-Ack", LIMIT, confirmed).unwrap();
    assert!(shown.contains("2.2.0.0/16") && shown.contains("240.0.254.10"), "{shown}");

    // The site gets another locator.
    let asked = counter(&itr, "map-requests-sent");
    fs::write(lab.folder().join("xtr2.toml"), etr(&lab, NEW_RLOC)).unwrap();
    run(Command::new(altitude_binary().unwrap()).args(["reload", "--api"]).arg(&etr_router.api)).unwrap();
    let moved = || Ok(entry(&itr).filter(|(_, locators, _)| locators == &[NEW_RLOC]));
    let (origin, ..) = wait_until("the new locator", LIMIT, moved).unwrap();
    assert_eq!((origin.as_str(), counter(&itr, "map-requests-sent")), ("pubsub", asked), "nothing was asked");

    // The site goes: its entry leaves at once, and the next packet hears that nobody serves it.
    assert!(etr_router.stop().unwrap().success());
    wait_until("the end of the entry", LIMIT, || Ok(entry(&itr).is_none().then_some(()))).unwrap();
    assert_eq!(counter(&itr, "map-requests-sent"), asked, "nothing was asked");
    let _ = lab.ping(0, NOBODY.into(), 1).unwrap();
    let negative = || Ok(entry(&itr).filter(|(.., action)| action == "natively-forward"));
    wait_until("a negative answer", LIMIT, negative).unwrap();

    // It unsubscribes when it stops.
    assert!(itr.stop().unwrap().success());
    let nobody = || Ok((counter(&ms, "subscribers") == 0).then_some(()));
    wait_until("the end of the subscription", LIMIT, nobody).unwrap();
    let packets = capture.stop().unwrap();
    // Map-Notifies: the confirmation, the new locator, the end; perhaps the one for the end of the subscription.
    assert!((3..=5).contains(&count(&packets, 4)), "{packets:?}");
    assert!(count(&packets, 5) >= 3, "each was acknowledged");
    for name in ["subscription-nonce-replayed", "subscription-lost", "subscription-ack-bad-authentication"] {
        assert_eq!(counter(&ms, name), 0, "{name}");
    }
}
