//! As a service: under a user of its own with the unit's capabilities, telling the service manager how it goes, and giving up
//! what it needs no more.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use altitude_perf::lab::{self, Family, Lab, Process, Router, altitude_binary};

const LIMIT: Duration = Duration::from_secs(20);
const UNIT: &str = include_str!("../../docker/altitude.service");
/// CAP_NET_ADMIN and CAP_BPF.
const KEPT: u64 = 1 << 12 | 1 << 39;

#[test]
fn a_service_tells_how_it_goes_and_keeps_two_capabilities() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let _xtr2 = Router::start("xtr2", &lab.xtrs[1], &lab.xtr_flags(1, Family::V4), lab.folder()).unwrap();

    // What the service manager would have made: the socket it listens at, and the run directory.
    let notify = lab.folder().join("notify.sock");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let folder = lab.folder().join("run");
    fs::create_dir(&folder).unwrap();
    for path in [&notify, &folder] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let capabilities = unit("AmbientCapabilities");
    assert_eq!(capabilities, unit("CapabilityBoundingSet"));
    let set: String = capabilities.iter().map(|name| format!(",+{}", name[4..].to_lowercase())).collect();
    let mut command = lab.xtrs[0].command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    for which in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.arg(format!("{which}=-all{set}"));
    }
    let api = folder.join("xtr1.sock");
    command.arg(altitude_binary().unwrap()).arg("run").arg("--api").arg(&api).args(lab.xtr_flags(0, Family::V4));
    command.env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "2000000");
    let mut router = Router { process: Process::start("xtr1", &mut command, lab.folder()).unwrap(), api };
    let heard = hear(&manager, "READY=1");
    assert!(heard.iter().any(|line| line.starts_with("STATUS=1 site port, 1 core port")), "{heard:?}");
    router.wait_ready().unwrap();
    for _ in 0..3 {
        hear(&manager, "WATCHDOG=1");
    }
    assert_eq!(lab.ping(0, "2.2.2.2".parse().unwrap(), 3).unwrap().answered, 3);

    // Each thread has what is needed to steer and to ask the kernel, and no more.
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", router.process.id())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for field in ["CapEff", "CapPrm"] {
            let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
            assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap(), KEPT, "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        threads += 1;
    }
    assert!(threads >= 2, "a worker and the control thread");

    assert!(router.stop().unwrap().success(), "{}", router.process.output());
    hear(&manager, "STOPPING=1");
}

/// Everything that was told up to and with this word.
fn hear(manager: &UnixDatagram, word: &str) -> Vec<String> {
    let (mut heard, mut buffer, until) = (Vec::new(), [0; 4096], Instant::now() + LIMIT);
    loop {
        assert!(Instant::now() < until, "no {word}, but {heard:?}");
        let length = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("no {word}: {error}; heard {heard:?}"));
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        heard.extend(text.lines().map(str::to_owned));
        if heard.iter().any(|line| line == word) {
            return heard;
        }
    }
}

/// The words of a key of the unit.
fn unit(key: &str) -> BTreeSet<&'static str> {
    let lines = UNIT.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(name, _)| *name == key).flat_map(|(_, value)| value.split_whitespace()).collect()
}

#[test]
fn systemd_takes_the_unit() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        return println!("SKIP: `systemd-analyze` is missing: install systemd");
    }
    // Its programs need not be there; all else that it says is about the unit.
    let folder = std::env::temp_dir().join(format!("altitude-unit-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let unit = folder.join("altitude.service");
    let text = UNIT.replace("/usr/local/bin/altitude", "/bin/true");
    let lines = text.lines().filter(|line| !line.starts_with("Documentation=")).collect::<Vec<_>>().join("\n");
    fs::write(&unit, lines).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    // A key that it does not know is a warning, and no failure.
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
