//! `altitude trace` beside a running router; its files are read by tshark.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use altitude_control::api::{
    TraceAsk,
    client::{Client, ClientError},
};
use altitude_perf::lab::{self, Family, Lab, Pings, Process, Router};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(20);

/// Starts `altitude trace` and waits until the router shows it packets.
fn trace(lab: &Lab, router: &Router, name: &str, flags: &[&str]) -> Process {
    let begun = |router: &Router| router.process.output().matches("a trace begins").count();
    let before = begun(router);
    let mut command = Command::new(lab::altitude_binary().unwrap());
    command.arg("trace").arg("--api").arg(&router.api).args(flags);
    let process = Process::start(name, &mut command, lab.folder()).unwrap();
    lab::wait_until("begin of the trace", LIMIT, || Ok((begun(router) > before).then_some(()))).unwrap();
    process
}

/// Interface and comment of each packet, as tshark reads them.
fn comments(file: &Path) -> Vec<(String, String)> {
    let fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment", "-E", "separator=|"];
    let printed = lab::run(Command::new("tshark").arg("-r").arg(file).args(fields)).unwrap();
    let split = |line: &str| line.split_once('|').map(|(port, text)| (port.to_owned(), text.to_owned()));
    printed.lines().filter_map(split).collect()
}

fn said(port: &str, comment: &str) -> (String, String) {
    (port.to_owned(), comment.to_owned())
}

#[test]
fn each_packet_has_its_verdict_as_a_comment() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let routers = lab.start_routers(Family::V4).unwrap();
    let there = lab.hosts(1)[0];
    assert_eq!(lab.ping(0, there, 1).unwrap(), Pings { sent: 1, answered: 1 });

    let file: PathBuf = lab.folder().join("trace.pcapng");
    let flags = ["--write", file.to_str().unwrap(), "--eid", "1.1.1.1"];
    let tracer = trace(&lab, &routers[0], "trace", &flags);
    assert_eq!(lab.ping(0, there, 1).unwrap(), Pings { sent: 1, answered: 1 });
    let ping = |arguments: &str| {
        // Neither is answered with an echo reply, which ping says by its exit code.
        let _ = lab.sites[0].command("ping").args(arguments.split(' ')).output().unwrap();
    };
    ping("-c 1 -W 1 -t 1 2.2.2.2");
    ping("-c 1 -W 1 9.9.9.9");
    tracer.signal(Signal::SIGINT).unwrap();
    let printed = tracer.finish(LIMIT).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "packets are private");

    let found = comments(&file);
    let forth = "encapsulated to 240.0.254.20";
    let expected = [
        said("site", &format!("in by site: {forth}, out by core")),
        said("core", &format!("out by core: {forth}")),
        said("core", "in by core: decapsulated, out by site"),
        said("site", "out by site: decapsulated"),
        said("site", "in by site: dropped, ttl-expired"),
        said("site", "out by site: an ICMP error of ours"),
        said("site", "in by site: missed: held until a mapping for 9.9.9.9 comes"),
    ];
    assert_eq!(found[..expected.len()], expected, "{found:?}");
    // What becomes of the one that was held is the mapping system's to say.
    let waited = |(_, comment): &(String, String)| comment.contains("after its wait ");
    assert!(found[expected.len()..].iter().all(waited), "{found:?}");
    assert!(printed.contains(&format!("{} packets", found.len())), "{printed}");

    let damaged = lab::run(Command::new("tshark").arg("-r").arg(&file).args(["-Y", "_ws.malformed"])).unwrap();
    assert_eq!(damaged, "");
    let outer = ["-Y", "udp.dstport == 4341", "-T", "fields", "-e", "frame.packet_flags_direction"];
    let outer = lab::run(Command::new("tshark").arg("-r").arg(&file).args(outer)).unwrap();
    assert_eq!(outer.split_whitespace().collect::<Vec<_>>(), ["0x00000002", "0x00000001"], "out, then in");
}

#[test]
fn one_trace_at_a_time_and_a_killed_client_ends_its_own() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let mut routers = lab.start_routers(Family::V4).unwrap();
    let mut tracer = trace(&lab, &routers[0], "trace", &["--drops", "--count", "5"]);
    let mut other = Client::connect(&routers[0].api).unwrap();
    match other.trace(&TraceAsk::default()) {
        Err(ClientError::Refused { errno, .. }) => assert_eq!(errno, nix::errno::Errno::EBUSY as u32),
        began => panic!("a second trace: {began:?}"),
    }
    let kept = lab.folder().join("kept.pcapng");
    std::fs::write(&kept, "of the day before").unwrap();
    let mut refused = Command::new(lab::altitude_binary().unwrap());
    refused.args(["trace", "--write"]).arg(&kept).arg("--api").arg(&routers[0].api);
    assert!(lab::run(&mut refused).is_err());
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "of the day before");
    tracer.kill().unwrap();
    routers[0].process.wait_line(LIMIT, |line| line.contains("a trace ended")).unwrap();
    let another = ["--drops", "--count", "2", "--seconds", "20"];
    let tracer = trace(&lab, &routers[0], "another", &another);
    let _ = lab.sites[0].command("ping").args("-c 2 -i 0.2 -W 1 -t 1 2.2.2.2".split(' ')).output().unwrap();
    let printed = tracer.finish(LIMIT).unwrap();
    let lines = printed.lines().filter(|line| line.contains("1.1.1.1 > 2.2.2.2") && line.contains("ttl-expired"));
    assert_eq!(lines.count(), 2, "{printed}");
    assert!(printed.contains("2 packets\n"), "{printed}");
}
