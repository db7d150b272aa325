//! Header features between two routers: what packets on the core say, by tshark, and what the other end makes of it.

use std::{process::Command, time::Duration};

use altitude_perf::lab::{self, Capture, Family, Lab, Router, SITES, wait_until};

/// Far more than any of it takes; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(30);

/// Flags of an xTR with features on and a version of its EID-prefixes.
fn flags(lab: &Lab, index: usize, version: u16, features: &[&str]) -> Vec<String> {
    let mut flags = lab.xtr_flags(index, Family::V4);
    for pair in flags.chunks_mut(2).filter(|pair| pair[0] == "--eid-prefix") {
        pair[1] += &format!(",version={version}");
    }
    flags.extend(features.iter().map(|feature| format!("--{feature}")));
    flags
}

fn start(lab: &Lab, index: usize, version: u16, features: &[&str]) -> Router {
    let name = format!("xtr{}-v{version}", index + 1);
    Router::start(&name, &lab.xtrs[index], &flags(lab, index, version, features), lab.folder()).unwrap()
}

fn counter(router: &Router, name: &str) -> u64 {
    let json: serde_json::Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
    lab::total(&json, name).unwrap_or_else(|| panic!("no {name} in {json}"))
}

/// What tshark reads in the LISP headers of a capture: source RLOC, flags, and these fields; each once, in their order.
fn headers(lab: &Lab, name: &str, fields: &[&str]) -> Vec<String> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(lab.folder().join(format!("{name}.pcap"))).args(["-Y", "lisp-data", "-T", "fields"]);
    tshark.args(["-E", "separator= ", "-E", "occurrence=f", "-e", "ip.src", "-e", "lisp-data.flags"]);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    let mut seen: Vec<String> = Vec::new();
    for line in lab::run(&mut tshark).unwrap().lines().map(str::trim_end) {
        if !seen.iter().any(|known| known == line) {
            seen.push(line.to_owned());
        }
    }
    seen
}

fn version_of(router: &Router, prefix: &str) -> Option<u64> {
    let json: serde_json::Value = serde_json::from_str(&router.show(&["map-cache", "--json"]).unwrap()).unwrap();
    let entries = json["map-cache"].as_array().unwrap_or_else(|| panic!("{json}"));
    entries.iter().find(|entry| entry["eid"] == prefix).and_then(|entry| entry["version"].as_u64())
}

/// MV-4, MV-6, MV-7, MV-11: packets carry both versions both ways; a router that comes back with a newer version of its mapping is
/// noticed by its first packets, and the other end asks, without waiting for a TTL.
#[test]
fn versions_travel_and_a_newer_one_is_noticed() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let one = start(&lab, 0, 7, &["map-versioning"]);
    let mut two = start(&lab, 1, 9, &["map-versioning"]);
    let capture = Capture::start("before", lab.core_link(0), "udp port 4341", lab.folder()).unwrap();
    for to in lab.hosts(1) {
        let pings = lab.ping(0, to, 3).unwrap();
        assert_eq!(pings.answered, 3, "{to}\n{}\n{}", one.process.output(), two.process.output());
    }
    drop(capture.stop().unwrap());
    let versions = ["lisp-data.srcmapver", "lisp-data.dstmapver"];
    let seen = headers(&lab, "before", &versions);
    assert_eq!(seen, ["240.0.254.10 0x10 7 9", "240.0.254.20 0x10 9 7"]);
    assert!(two.show(&["database"]).unwrap().contains("VERSION"));

    two.stop().unwrap();
    let two = start(&lab, 1, 10, &["map-versioning"]);
    let capture = Capture::start("after", lab.core_link(0), "udp port 4341", lab.folder()).unwrap();
    let [prefix, _] = SITES[1].eid_prefixes();
    wait_until("the newer version in the map-cache", LIMIT, || {
        lab.ping(0, lab.hosts(1)[0], 1)?;
        Ok((version_of(&one, &prefix) == Some(10)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}\n{}", one.process.output(), two.process.output()));
    assert_eq!(lab.ping(0, lab.hosts(1)[0], 2).unwrap().answered, 2);
    drop(capture.stop().unwrap());
    let seen = headers(&lab, "after", &versions);
    for wanted in ["240.0.254.10 0x10 7 9", "240.0.254.20 0x10 10 7", "240.0.254.10 0x10 7 10"] {
        assert!(seen.iter().any(|line| line == wanted), "no {wanted}: {seen:?}");
    }
    assert!(counter(&two, "older_versions_told_of") > 0 && counter(&two, "smrs_sent") > 0);
    assert_eq!(counter(&two, "dest_version_newer") + counter(&one, "source_version_older"), 0);
}
