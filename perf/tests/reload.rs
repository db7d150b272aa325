//! A configuration changed under traffic: what changes does, flows of others lose nothing, and what cannot change is refused by
//! name with nothing applied.

use std::{fs, process::Command, time::Duration};

use altitude_perf::lab::{self, Family, Lab, Process, Router, altitude_binary, run, wait_until};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(20);
/// Echo requests that pass while the configuration changes again and again.
const PINGS: usize = 2000;

/// The first site's router, its mappings written down instead of looked up.
const FILE: &str = r#"
rlocs = ["240.0.254.10"]
log = "info"
[[site-port]]
name = "site"
[[core-port]]
name = "core"
[[eid-prefix]]
prefix = "1.1.0.0/16"
ttl = 5
[[map-cache]]
eid = "2.2.0.0/16"
locators = [{ address = "240.0.254.20" }]
[[alt.tunnel]]
name = "alt0"
remote = "240.0.254.30"
[[alt.route]]
prefix = "0.0.0.0/0"
via = "alt0"
"#;

#[test]
fn what_changes_live_does_and_other_flows_lose_nothing() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let _alt = Router::start("alt", &lab.alt, &lab.alt_flags(Family::V4), lab.folder()).unwrap();
    let _xtr2 = Router::start("xtr2", &lab.xtrs[1], &lab.xtr_flags(1, Family::V4), lab.folder()).unwrap();
    let file = lab.folder().join("xtr1.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write(FILE);
    let flags = ["--config".to_owned(), file.display().to_string()];
    let mut router = Router::start("xtr1", &lab.xtrs[0], &flags, lab.folder()).unwrap();
    assert_eq!(lab.ping(0, "2.2.2.2".parse().unwrap(), 3).unwrap().answered, 3);

    // Nothing is another: nothing changes.
    assert_eq!(reload(&router).unwrap().trim(), "nothing changed");

    let mut ping = lab.sites[0].command("ping");
    ping.args(["-q", "-i", "0.005", "-c", &PINGS.to_string(), "2.2.2.2"]);
    let mut ping = Process::start("ping", &mut ping, lab.folder()).unwrap();
    let more = format!(
        "{}[[eid-prefix]]\nprefix = \"1.9.0.0/16\"\n[[map-cache]]\neid = \"9.0.0.0/8\"\nlocators = [{{ address = \"240.0.254.20\" }}]\n",
        FILE.replace("ttl = 5", "ttl = 7").replace("\"info\"", "\"debug\"")
    );
    let mut reloads = 0;
    while ping_runs(&mut ping) {
        write(&more);
        // A prefix with another TTL, one that is new, a static mapping, the log level.
        assert_eq!(reload(&router).unwrap().trim(), "changed: 4");
        let shown = ["database", "map-cache"].map(|table| router.show(&[table]).unwrap());
        assert!(shown[0].contains("1.9.0.0/16") && shown[0].contains("00:07:00"), "{}", shown[0]);
        assert!(shown[1].contains("9.0.0.0/8"), "{}", shown[1]);
        write(FILE);
        assert_eq!(reload(&router).unwrap().trim(), "changed: 4");
        let shown = ["database", "map-cache"].map(|table| router.show(&[table]).unwrap());
        assert!(!shown[0].contains("1.9.0.0/16") && shown[0].contains("00:05:00"), "{}", shown[0]);
        assert!(!shown[1].contains("9.0.0.0/8"), "{}", shown[1]);
        reloads += 2;
    }
    let said = ping.output();
    assert!(said.contains(&format!("{PINGS} packets transmitted, {PINGS} received")), "{reloads} reloads: {said}");
    assert!(reloads >= 4, "{reloads} reloads while packets passed");

    // A prefix that is new is one to be reached at, and the workers take what it sends.
    write(&FILE.replace("1.1.0.0/16", "1.0.0.0/8"));
    assert_eq!(reload(&router).unwrap().trim(), "changed: 2");
    assert_eq!(lab.ping(0, "2.2.2.2".parse().unwrap(), 3).unwrap().answered, 3);

    // What was ours is another site's from now on.
    let fixed = "[[map-cache]]\neid = \"2.2.0.0/16\"\nlocators = [{ address = \"240.0.254.20\" }]\n";
    write(&FILE.replace(fixed, "[[eid-prefix]]\nprefix = \"2.2.0.0/16\"\n"));
    assert_eq!(reload(&router).unwrap().trim(), "changed: 4");
    assert_eq!(lab.ping(0, "2.2.2.2".parse().unwrap(), 1).unwrap().answered, 0, "it is said to be our own");
    write(FILE);
    assert_eq!(reload(&router).unwrap().trim(), "changed: 2");
    assert_eq!(lab.ping(0, "2.2.2.2".parse().unwrap(), 3).unwrap().answered, 3);

    refused(&lab, &router, &file);

    // SIGHUP does the same, and the router goes on.
    write(FILE);
    router.process.signal(Signal::SIGHUP).unwrap();
    wait_until("reload by SIGHUP", LIMIT, || Ok(router.show(&["database"])?.contains("1.1.0.0/16").then_some(())))
        .unwrap();
    assert!(router.stop().unwrap().success(), "{}", router.process.output());
}

/// What cannot change, and what is wrong, is told, and nothing of it is applied.
fn refused(lab: &Lab, router: &Router, file: &std::path::Path) {
    let before = router.show(&["database"]).unwrap();
    let changed = FILE.replace("log =", "hold = \"drop\"\nring = 512\nlog =");
    for (text, said) in [
        (changed.as_str(), &["ring", "hold", "restart the router"][..]),
        (&FILE.replace("ttl = 5", "ttl = \"five\""), &["xtr1.toml:10", "ttl"]),
        (&FILE.replace("via = \"alt0\"", "via = \"alt7\""), &["alt7"]),
    ] {
        fs::write(file, text).unwrap();
        let refusal = reload(router).unwrap_err().to_string();
        let missing: Vec<_> = said.iter().filter(|said| !refusal.contains(**said)).collect();
        assert!(missing.is_empty(), "{missing:?} is missing in {refusal}");
        assert_eq!(router.show(&["database"]).unwrap(), before);
    }
    let silent = Command::new(altitude_binary().unwrap())
        .args(["reload", "--api"])
        .arg(lab.folder().join("xtr1-ro.sock"))
        .output()
        .unwrap();
    assert_eq!(silent.status.code(), Some(1));
}

fn reload(router: &Router) -> Result<String, lab::LabError> {
    run(Command::new(altitude_binary()?).args(["reload", "--api"]).arg(&router.api))
}

fn ping_runs(ping: &mut Process) -> bool {
    !ping.output().contains("packets transmitted")
}
