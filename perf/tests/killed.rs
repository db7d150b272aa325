//! kill -9 in the middle of traffic, again and again: nothing that is left over keeps the next start from working.

use std::time::Duration;

use altitude_perf::lab::{self, Family, Lab, Link, Process, Router, wait_until};

const KILLS: usize = 10;
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_router_that_is_killed_starts_again_as_if_nothing_had_been() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let _xtr2 = Router::start("xtr2", &lab.xtrs[1], &lab.xtr_flags(1, Family::V4), lab.folder()).unwrap();
    let xtr = &lab.xtrs[0];
    let what_is_there = || {
        let look = |what: &str| xtr.ip(what).unwrap();
        [look("-o link show"), look("rule show"), look("route show table all"), look("-6 route show table all")]
            .concat()
    };
    let before = links(&what_is_there());
    let mut flood = lab.sites[0].command("ping");
    flood.args(["-q", "-i", "0.002", "2.2.2.2"]);
    let mut flood = Process::start("flood", &mut flood, lab.folder()).unwrap();
    for round in 0..KILLS {
        let name = format!("xtr1-{round}");
        // The same API socket, tunnel interface and state every time.
        let mut router = Router::start("xtr1", xtr, &lab.xtr_flags(0, Family::V4), lab.folder())
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        // Not at once every time: an ETR answers an ITR that asks for the same again and again only so often.
        wait_until("answered ping", LIMIT, || {
            let passed = lab.ping(0, "2.2.2.2".parse().unwrap(), 1)?;
            Ok((passed.answered == 1).then_some(()))
        })
        .unwrap_or_else(|error| panic!("after kill {round}: {error}"));
        router.process.kill().unwrap();
        for port in ["site", "core"] {
            assert!(
                !Link { namespace: xtr, name: port }.has_xdp().unwrap(),
                "{port} kept its program after kill {round}"
            );
        }
        // The interface of a tunnel goes with the process, and its routes with it.
        assert_eq!(links(&what_is_there()), before, "after kill {round}");
    }
    let mut last = Router::start("xtr1", xtr, &lab.xtr_flags(0, Family::V4), lab.folder()).unwrap();
    assert!(last.stop().unwrap().success(), "{}", last.process.output());
    flood.kill().unwrap();
    assert_eq!(links(&what_is_there()), before, "after an orderly end");
}

/// What is there of links, rules and routes, without the counters and times that come and go.
fn links(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            line.split_whitespace()
                .filter(|word| !word.chars().all(|c| c.is_ascii_digit()))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    lines.sort();
    lines
}
