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

/// RCH-13: packets say which locators of their site work, by the order of the addresses; when one stops working they say so, and
/// the other end probes it.
#[test]
fn packets_say_which_locators_work() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let features = ["map-versioning", "locator-status-bits"];
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let routers = [0, 1].map(|index| {
        let mut flags = flags(&lab, index, 7, &features);
        flags.extend(["--rloc".to_owned(), SITES[index].rloc.1.to_string()]);
        Router::start(["xtr1", "xtr2"][index], &lab.xtrs[index], &flags, lab.folder()).unwrap()
    });
    let bits = |name: &str| -> Vec<String> {
        let seen = headers(&lab, name, &["lisp-data.lsb"]);
        seen.iter().filter_map(|line| line.rsplit_once(' ')).map(|(_, bits)| bits.to_owned()).collect()
    };
    let capture = Capture::start("both", lab.core_link(1), "udp port 4341", lab.folder()).unwrap();
    for to in lab.hosts(1) {
        assert_eq!(lab.ping(0, to, 2).unwrap().answered, 2, "{to}\n{}", routers[0].process.output());
    }
    drop(capture.stop().unwrap());
    let both = bits("both");
    assert!(!both.is_empty() && both.iter().all(|bits| bits.ends_with('3')), "{both:?}");

    lab.xtrs[1].ip(&format!("-6 address del {}/64 dev core", SITES[1].rloc.1)).unwrap();
    let capture = Capture::start("one", lab.core_link(1), "udp port 4341", lab.folder()).unwrap();
    wait_until("a probe because of the bits", LIMIT, || {
        lab.ping(0, lab.hosts(1)[0], 1)?;
        Ok((counter(&routers[0], "status_bit_hints") > 0).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}\n{}", routers[0].process.output(), routers[1].process.output()));
    drop(capture.stop().unwrap());
    let one = bits("one");
    assert!(one.iter().any(|bits| bits.ends_with('1')), "{one:?}");
    assert_eq!(lab.ping(0, lab.hosts(1)[0], 2).unwrap().answered, 2, "by the other locator");
}

/// RCH-15, RCH-17: with pings both ways one router asks for a nonce, and the other's packets carry it back; nothing is lost.
#[test]
fn a_nonce_comes_back() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let routers = [0, 1].map(|index| start(&lab, index, 7, &["echo-nonce"]));
    let capture = Capture::start("nonces", lab.core_link(0), "udp port 4341", lab.folder()).unwrap();
    let echoed = || -> u64 { routers.iter().map(|router| counter(router, "nonces_echoed")).sum() };
    wait_until("a nonce that came back", LIMIT, || {
        assert_eq!(lab.ping(0, lab.hosts(1)[0], 1)?.answered, 1);
        Ok((echoed() > 0).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}\n{}", routers[0].process.output(), routers[1].process.output()));
    drop(capture.stop().unwrap());
    let seen = headers(&lab, "nonces", &["lisp-data.nonce"]);
    let words: Vec<Vec<&str>> = seen.iter().map(|line| line.split(' ').collect()).collect();
    let asked =
        |by: &str| words.iter().filter(|word| word[..2] == [by, "0xa0"]).map(|word| word[2]).collect::<Vec<_>>();
    let back = |by: &str, nonce: &str| words.iter().any(|word| word[..] == [by, "0x80", nonce]);
    let [one, two] = ["240.0.254.10", "240.0.254.20"];
    let came_back = asked(one).iter().any(|nonce| back(two, nonce)) || asked(two).iter().any(|nonce| back(one, nonce));
    assert!(came_back, "{seen:?}");
    for router in &routers {
        assert_eq!(counter(router, "nonces_lost"), 0);
    }
}
