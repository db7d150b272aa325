//! Mapping daemons of others: C and Python programs against the C library answer what a router misses that asks nobody itself.
//!
//! ```text
//! site1 ─ xtr1 (resolver off) ─ mapd ── ECM ──▶ Map-Resolver, Map-Server ──▶ xtr2 ─ site2
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use altitude_perf::lab::{self, Lab, Pings, Process, Router, SITES};
use serde_json::Value;

use super::LIMIT;

const SERVER: &str = "240.0.254.30";

/// Sites and their ETRs, and everybody in the core may ask.
fn map_server(lab: &Lab) -> Router {
    let sites = SITES.iter().map(|site| {
        let [v4, v6] = site.eid_prefixes();
        let rloc = site.rloc.0;
        format!("[[site]]\nname = \"{rloc}\"\neid-prefixes = [\"{v4}\", \"{v6}\"]\netrs = [\"{rloc}\"]\n")
    });
    let roles = "[map-resolver]\nclients = [\"240.0.254.0/24\"]\n";
    let state = lab.folder().join("state");
    let head = format!("rlocs = [\"{SERVER}\"]\nstate-dir = \"{}\"\n{roles}", state.display());
    let file = lab.folder().join("ms.toml");
    fs::write(&file, head + &sites.collect::<String>()).unwrap();
    let flags = ["--config".to_owned(), file.display().to_string()];
    Router::start("ms", &lab.alt, &flags, lab.folder()).unwrap()
}

fn xtr(lab: &Lab, index: usize, more: &str) -> Router {
    let site = &SITES[index];
    let [v4, v6] = site.eid_prefixes();
    let flags = format!(
        "--site-port site --core-port core --rloc {} --eid-prefix {v4} --eid-prefix {v6} --workers 0 {more}",
        site.rloc.0
    );
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    Router::start(["xtr1", "xtr2"][index], &lab.xtrs[index], &flags, lab.folder()).unwrap()
}

/// The top of the sources.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Builds the C library, and tells its folder.
fn library() -> PathBuf {
    let folder = lab::altitude_binary().unwrap().parent().unwrap().to_owned();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "altitude-ffi"]).current_dir(top());
    build.env("CARGO_TARGET_DIR", folder.parent().unwrap());
    lab::run(&mut build).unwrap();
    folder
}

/// Compiles an example in C.
pub(super) fn compiled(lab: &Lab, name: &str) -> PathBuf {
    let (library, source, program) = (library(), top().join("ffi"), lab.folder().join(name));
    let mut compile = Command::new("cc");
    compile.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"]);
    compile.arg(source.join("include")).arg(source.join(format!("examples/{name}.c"))).arg("-L").arg(&library);
    compile.arg("-laltitude").arg(format!("-Wl,-rpath,{}", library.display())).arg("-o").arg(&program);
    lab::run(&mut compile).unwrap();
    program
}

/// What a daemon has put in is there, and its router asked nobody.
fn judge(router: &Router) {
    let json: Value = serde_json::from_str(&router.show(&["map-cache", "--json"]).unwrap()).unwrap();
    let entries = json["map-cache"].as_array().unwrap();
    let found = |eid: &str| entries.iter().find(|entry| entry["eid"] == eid).unwrap_or_else(|| panic!("{eid}: {json}"));
    for eid in SITES[1].eid_prefixes() {
        let entry = found(&eid);
        assert_eq!(
            (&entry["origin"], &entry["locators"][0]["address"]),
            (&"api".into(), &"240.0.254.20".into()),
            "{json}"
        );
    }
    let json: Value = serde_json::from_str(&router.show(&["counters", "--json"]).unwrap()).unwrap();
    assert_eq!(lab::total(&json, "map_requests_sent"), Some(0), "{json}");
    assert_eq!(lab::total(&json, "map_requests_pending"), Some(0), "{json}");
}

/// Has a daemon, started in xtr1's namespace, resolve the demo.
fn resolves(daemon: impl FnOnce(&Lab, &Path) -> Command) {
    let lab = Lab::new().unwrap();
    let server = map_server(&lab);
    let xtrs = [xtr(&lab, 0, "--resolver off"), xtr(&lab, 1, &format!("--map-resolver {SERVER}"))];
    let mut mapd = Process::start("mapd", &mut daemon(&lab, &xtrs[0].api), lab.folder()).unwrap();
    mapd.wait_line(LIMIT, |line| line == "ready").unwrap();
    for to in lab.hosts(1) {
        let pings = lab.ping(0, to, 20).unwrap();
        assert_eq!(pings, Pings { sent: 20, answered: 20 }, "{to}: {}", mapd.output());
    }
    judge(&xtrs[0]);
    println!("{}", mapd.output());
    // Killed as by kill -9, it leaves nothing behind.
    mapd.kill().unwrap();
    lab::wait_until("an empty map-cache", LIMIT, || {
        Ok(xtrs[0].show(&["map-cache"])?.contains("the map-cache is empty").then_some(()))
    })
    .unwrap();
    drop(server);
}

#[test]
fn a_mapping_daemon_in_c_resolves_the_demo() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    resolves(|lab, api| {
        let mut command = lab.xtrs[0].command(compiled(lab, "mapd"));
        command.arg(api).args([SITES[0].rloc.0.to_string().as_str(), SERVER]);
        command
    });
}

#[test]
fn a_mapping_daemon_in_python_resolves_the_demo() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    if Command::new("python3").arg("--version").output().is_err() {
        return println!("SKIP: no python3 on this machine");
    }
    let library = library();
    resolves(|lab, api| {
        let mut command = lab.xtrs[0].command("python3");
        command.arg(top().join("ffi/examples/mapd.py")).arg(library.join("libaltitude.so")).arg(api);
        command.args([SITES[0].rloc.0.to_string().as_str(), SERVER]);
        command
    });
}

/// Nobody answers: packets are dropped after a while, the router goes on, and what comes late is used all the same.
#[test]
fn without_a_daemon_packets_wait_and_a_late_answer_does_no_harm() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let router = xtr(&lab, 0, "--resolver off");
    let other = xtr(&lab, 1, "--resolver off");
    let to = lab.hosts(1)[0];
    assert_eq!(lab.ping(0, to, 1).unwrap(), Pings { sent: 1, answered: 0 });
    let altitude = lab::altitude_binary().unwrap();
    for (router, arguments) in [(&router, ["2.2.0.0/16", "240.0.254.20"]), (&other, ["1.1.0.0/16", "240.0.254.10"])] {
        lab::run(Command::new(&altitude).args(["map", "add"]).args(arguments).arg("--api").arg(&router.api)).unwrap();
    }
    assert_eq!(lab.ping(0, to, 3).unwrap(), Pings { sent: 3, answered: 3 });
}
