//! What a router asks about a mapping that it has already stays off the ALT.

use std::{cell::Cell, net::IpAddr, time::Duration};

use altitude_perf::lab::{self, Capture, Family, Kind, Lab, Packet, Router, SITES};
use serde_json::Value;

/// A mapping of one minute is asked for again after 54 s at most.
const LIMIT: Duration = Duration::from_secs(90);

/// Seconds that the mapping of site 2 has left.
fn left(router: &Router) -> Option<u64> {
    let json: Value = serde_json::from_str(&router.show(&["map-cache", "--json"]).unwrap()).unwrap();
    let entries = json["map-cache"].as_array().expect("entries");
    entries.iter().find(|entry| entry["eid"] == "2.2.0.0/16")?["left"].as_u64()
}

/// Map-Requests of the first xTR: where they went, natively or in the tunnel.
fn requests(packets: &[Packet], in_gre: bool) -> Vec<IpAddr> {
    let ours = |packet: &&Packet| {
        matches!(packet.kind, Kind::Control { message: 1, tunnelled, .. } if tunnelled == in_gre)
            && packet.headers[0].source == IpAddr::from(SITES[0].rloc.0)
    };
    let destination = |packet: &Packet| packet.headers.last().expect("a header").destination;
    packets.iter().filter(ours).map(destination).collect()
}

/// ALT-7: a mapping in use comes near its end, and is renewed without a word in the tunnel.
#[test]
fn what_is_asked_about_a_cached_mapping_stays_off_the_alt() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let short_lived = |flag: String| if flag == "2.2.0.0/16" { flag + ",ttl=1" } else { flag };
    let [one, two] = [0, 1].map(|index| {
        let flags: Vec<String> = lab.xtr_flags(index, Family::V4).into_iter().map(short_lived).collect();
        Router::start(["xtr1", "xtr2"][index], &lab.xtrs[index], &flags, lab.folder()).unwrap()
    });
    let capture = Capture::start("core", lab.core_link(0), "udp port 4342 or proto 47", lab.folder()).unwrap();
    let host = lab.hosts(1)[0];
    let before = Cell::new(None);
    lab::wait_until("a new life of the mapping", LIMIT, || {
        let pings = lab.ping(0, host, 1)?;
        assert_eq!(pings.answered, 1, "the mapping must not lapse");
        let now = left(&one);
        // A refresh, or what comes with the answer to a probe.
        let renewed = now > before.replace(now) && now > Some(40) && before.get().is_some();
        Ok((renewed && requested_again(&one)).then_some(()))
    })
    .unwrap();
    drop(two);
    let packets = capture.stop().unwrap();
    assert_eq!(requests(&packets, true), [host], "the miss, and nothing after it");
    let natively = requests(&packets, false);
    assert!(!natively.is_empty() && natively.iter().all(|to| *to == IpAddr::from(SITES[1].rloc.0)), "{natively:?}");
}

/// Whether more was sent than the one Map-Request of the miss.
fn requested_again(router: &Router) -> bool {
    let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
    let sent = |name: &str| json["control"][name].as_u64().unwrap_or(0);
    sent("map-requests-sent") + sent("rloc-probes-sent") > 1
}
