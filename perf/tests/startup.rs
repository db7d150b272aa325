//! Starts that must fail: one clear line, the right exit code, nothing left behind. And that two instances live side by
//! side on one machine.

use std::{path::Path, process::Command, time::Duration};

use altitude_perf::lab::{self, Family, Lab, LabError, Link, Namespace, Process, Router, veth};

const LIMIT: Duration = Duration::from_secs(20);

/// What the first site's router is started with, changed.
struct Case {
    name: &'static str,
    /// Parts of the flags' values, replaced.
    replace: &'static [(&'static str, &'static str)],
    add: &'static [&'static str],
    /// Program and arguments in front of `altitude`.
    through: &'static [&'static str],
    exit: i32,
    /// All of them are in what it prints.
    says: &'static [&'static str],
}

impl Case {
    const GOOD: Self = Self { name: "", replace: &[], add: &[], through: &[], exit: 1, says: &[] };
}

const CASES: &[Case] = &[
    Case {
        name: "no privileges",
        through: &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        says: &["run as root", "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"],
        ..Case::GOOD
    },
    Case { name: "no such interface", replace: &[("site", "nosuch")], says: &["nosuch"], ..Case::GOOD },
    Case {
        name: "RLOC of nobody",
        replace: &[("240.0.254.10", "240.0.254.99")],
        says: &["240.0.254.99"],
        ..Case::GOOD
    },
    Case {
        name: "no route to the tunnel's far end",
        replace: &[("240.0.254.30", "203.0.113.9")],
        says: &["no route to 203.0.113.9", "alt0"],
        ..Case::GOOD
    },
    Case {
        name: "more workers than queues",
        add: &["--workers", "0,1"],
        says: &["receive queues 1, workers 2", "ethtool -L site combined 2"],
        ..Case::GOOD
    },
    Case { name: "prefix twice", add: &["--eid-prefix", "1.1.0.0/16"], says: &["1.1.0.0/16"], ..Case::GOOD },
    Case {
        name: "RLOC inside an EID-prefix",
        add: &["--eid-prefix", "240.0.0.0/8"],
        says: &["240.0.254.10", "240.0.0.0/8"],
        ..Case::GOOD
    },
    Case { name: "route to no tunnel", add: &["--alt-route", "9.0.0.0/8=alt7"], says: &["alt7"], ..Case::GOOD },
    Case { name: "unknown flag", add: &["--no-such-flag"], exit: 2, says: &["--no-such-flag"], ..Case::GOOD },
    Case { name: "bad value", add: &["--xdp", "fast"], exit: 2, says: &["native"], ..Case::GOOD },
];

/// A second instance beside the first, on the same interfaces but with a tunnel interface of its own.
const SECOND: Case = Case { replace: &[("alt0", "alt9")], ..Case::GOOD };

#[test]
fn a_failed_start_says_why_and_leaves_nothing_behind() {
    let Some(lab) = lab_here() else { return };
    for case in CASES {
        fail(&lab, case, &lab.folder().join("fails.sock"));
        assert_clean(&lab.xtrs[0], "alt0", case.name);
        assert!(!lab.folder().join("fails.sock").exists(), "{}: a socket was left", case.name);
    }
}

#[test]
fn a_busy_interface_is_refused_and_its_owner_goes_on() {
    let Some(lab) = lab_here() else { return };
    let mut first = Router::start("first", &lab.xtrs[0], &lab.xtr_flags(0, Family::V4), lab.folder()).unwrap();
    let api = lab.folder().join("second.sock");
    let output = fail(&lab, &Case { name: "busy RLOC", says: &["240.0.254.10"], ..SECOND }, &api);
    assert!(output.contains("another LISP router"), "{output}");

    // With an RLOC of its own it gets as far as the interfaces.
    Link { namespace: &lab.xtrs[0], name: "core" }.address([240, 0, 254, 11].into(), 24).unwrap();
    let replace = &[("alt0", "alt9"), ("240.0.254.10", "240.0.254.11")];
    fail(&lab, &Case { name: "busy queue", replace, says: &["site"], ..SECOND }, &api);
    assert!(Link { namespace: &lab.xtrs[0], name: "site" }.has_xdp().unwrap(), "the first instance lost its program");
    assert!(first.stop().unwrap().success(), "{}", first.process.output());
    assert_clean(&lab.xtrs[0], "alt0", "after SIGTERM");
}

#[test]
fn two_instances_share_a_machine() {
    let Some(lab) = lab_here() else { return };
    let xtr = &lab.xtrs[0];
    let mut first = Router::start("first", xtr, &lab.xtr_flags(0, Family::V4), lab.folder()).unwrap();

    let inside = Link { namespace: xtr, name: "site-b" };
    let outside = Link { namespace: xtr, name: "core-b" };
    veth(Link { namespace: &lab.sites[0], name: "eth1" }, inside, 1500).unwrap();
    veth(Link { namespace: &lab.core, name: "xtr1b" }, outside, 1600).unwrap();
    inside.address([3, 3, 0, 1].into(), 16).unwrap();
    outside.address([240, 0, 253, 10].into(), 24).unwrap();
    let flags = "--site-port site-b --core-port core-b --rloc 240.0.253.10 --eid-prefix 3.3.0.0/16 \
                 --alt-tunnel altb,remote=240.0.253.30 --alt-route 0.0.0.0/0=altb";
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let mut second = Router::start("second", xtr, &flags, lab.folder()).unwrap();
    assert!(second.stop().unwrap().success(), "{}", second.process.output());
    assert!(!inside.has_xdp().unwrap() && !outside.has_xdp().unwrap());
    assert!(Link { namespace: xtr, name: "site" }.has_xdp().unwrap(), "the first instance lost its program");
    assert!(first.stop().unwrap().success(), "{}", first.process.output());
    assert_clean(xtr, "alt0", "after SIGTERM");
}

fn lab_here() -> Option<Lab> {
    match lab::available() {
        Ok(()) => Some(Lab::new().unwrap()),
        Err(why) => {
            println!("SKIP: {why}");
            None
        }
    }
}

/// Starts the case, which must end by itself, and returns what it printed.
fn fail(lab: &Lab, case: &Case, api: &Path) -> String {
    let mut flags = lab.xtr_flags(0, Family::V4);
    for (part, other) in case.replace {
        flags.iter_mut().skip(1).step_by(2).for_each(|value| *value = value.replace(part, other));
    }
    // A flag that may be given once is given anew.
    if let Some(given) = flags.iter().position(|word| word == "--workers" && case.add.contains(&"--workers")) {
        flags.drain(given..given + 2);
    }
    flags.extend(case.add.iter().map(|&word| word.to_owned()));
    let altitude = lab::altitude_binary().unwrap();
    let mut command = match case.through {
        [] => lab.xtrs[0].command(altitude),
        [program, arguments @ ..] => {
            let mut command = lab.xtrs[0].command(program);
            command.args(arguments).arg(altitude);
            command
        }
    };
    command.arg("run").arg("--api").arg(api).args(flags);
    let output = ends(case, &mut command, lab.folder()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    for said in case.says {
        assert!(output.contains(said), "{}: no {said} in: {output}", case.name);
    }
    output
}

fn ends(case: &Case, command: &mut Command, folder: &Path) -> Result<String, LabError> {
    let mut process = Process::start("fails", command, folder)?;
    let status = process.wait(LIMIT)?;
    let output = process.output();
    assert_eq!(status.code(), Some(case.exit), "{}: {output}", case.name);
    assert!(!output.contains("panicked"), "{}: {output}", case.name);
    // What went wrong is one line; a wrong usage is followed by the usage.
    let errors = output.lines().filter(|line| line.to_lowercase().contains("error")).count();
    assert!(case.exit == 2 || errors <= 1, "{}: more than one line: {output}", case.name);
    Ok(output)
}

fn assert_clean(namespace: &Namespace, tun: &str, after: &str) {
    for name in ["site", "core"] {
        assert!(!Link { namespace, name }.has_xdp().unwrap(), "{after}: an XDP program was left on {name}");
    }
    assert!(!namespace.ip("link show").unwrap().contains(tun), "{after}: {tun} was left");
}
