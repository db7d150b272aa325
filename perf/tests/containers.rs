//! docker/Dockerfile and docker/compose.yml, built and run: the slides' two sites talk through containers, with FRR as the
//! ALT's routing.
//!
//! Wherever a Docker engine can be started. No registry is asked: docker/base-images.sh makes the two images that the
//! Dockerfile starts from. `ALTITUDE_CONTAINERS=FOLDER` keeps the images in FOLDER, so that a second run builds only what
//! changed. The release is built, as users do: the profile dev was measured and takes as long.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use altitude_perf::lab::{self, LabError, Namespace};
use serde_json::Value;

#[path = "containers/engine.rs"]
mod engine;

use engine::Engine;

const BASE: &str = "altitude-test-base";
const RUST: &str = "altitude-test-rust";
/// For a container to be healthy, a session to stand, a route to arrive.
const LIMIT: Duration = Duration::from_secs(60);
const PINGS: &str = "20";

/// Bits of the capabilities (capabilities(7)).
const CAPABILITIES: [(&str, u32); 6] =
    [("NET_BIND_SERVICE", 10), ("NET_ADMIN", 12), ("NET_RAW", 13), ("IPC_LOCK", 14), ("SYS_ADMIN", 21), ("BPF", 39)];
const ROUTERS: [&str; 4] = ["xtr1", "xtr2", "alt1", "alt2"];

/// Prints how long each step took: the only place where this test costs is worth knowing.
struct Steps(Instant);

impl Steps {
    fn done(&mut self, what: &str) {
        println!("{:>7.1} s  {what}", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

#[test]
fn the_two_sites_talk_in_containers() {
    let mut steps = Steps(Instant::now());
    let owner = format!("alt{}", std::process::id());
    lab::remove_left_over(&owner);
    let kept = env::var_os("ALTITUDE_CONTAINERS").map(PathBuf::from);
    let data = kept.clone().unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("containers"));
    let mut engine = match Engine::new(&owner, &data, kept.is_some()) {
        Ok(engine) => engine,
        Err(why) => return println!("SKIP: {why}"),
    };
    if let Err(why) = engine.start(None).and_then(|()| base(&engine)) {
        return println!("SKIP: no container engine or no Debian to be had here: {why}");
    }
    steps.done("engine, Debian by debootstrap");
    build(&engine, &mut steps);
    engine.stop().unwrap();

    let namespace = Namespace::create(&owner, "docker").unwrap();
    engine.start(Some(&namespace)).unwrap();
    refuses_without_capabilities(&engine);
    steps.done("engine in a network of its own, a start without capabilities");
    let lab = Composed::up(&engine);
    steps.done("containers up and healthy");
    lab.capabilities();
    lab.routes();
    steps.done("capabilities, BGP");
    lab.pings();
    steps.done("pings");
    lab.restart();
    steps.done("an xTR restarted");
    lab.hang();
    steps.done("an xTR that hangs is unhealthy");
    lab.stop();
    steps.done("stopped");
}

/// The Debian image, unless an earlier run left it.
fn base(engine: &Engine) -> Result<(), LabError> {
    if engine.docker(&["image", "inspect", BASE]).is_ok() {
        return Ok(());
    }
    base_images(engine, &["debian", BASE])
}

fn base_images(engine: &Engine, arguments: &[&str]) -> Result<(), LabError> {
    lab::run(engine.client(&mut Command::new(repository("docker/base-images.sh"))).args(arguments)).map(drop)
}

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn build(engine: &Engine, steps: &mut Steps) {
    if engine.docker(&["image", "inspect", RUST]).is_err() {
        base_images(engine, &["rust", RUST, BASE]).unwrap();
        steps.done("the build image");
    }
    let (base, rust) = (format!("BASE_IMAGE={BASE}"), format!("RUST_IMAGE={RUST}"));
    let (file, context) = (repository("docker/Dockerfile"), repository(""));
    for (image, target) in [("altitude-lab", "lab"), ("altitude", "altitude")] {
        let before = engine.cpu();
        let arguments = ["build", "--quiet", "--network", "host", "--tag", image, "--target", target];
        let settings = ["--build-arg", &base, "--build-arg", &rust, "--file"];
        let mut command = Command::new("docker");
        command.args(arguments).args(settings).arg(&file).arg(&context);
        lab::run(engine.client(&mut command)).unwrap();
        let size = engine.docker(&["image", "inspect", "--format", "{{.Size}}", image]).unwrap();
        let size = size.trim().parse::<f64>().unwrap() / 1e6;
        let cpu = engine.cpu().unwrap_or_default().saturating_sub(before.unwrap_or_default());
        steps.done(&format!("image {image}: {size:.1} MB, {:.0} s of CPU", cpu.as_secs_f64()));
    }
}

/// The image says by itself what it lacks.
fn refuses_without_capabilities(engine: &Engine) {
    let run = ["run", "--rm", "--network", "none", "--cap-drop", "ALL", "altitude"];
    let flags = "run --rloc 240.0.254.10 --site-port eth0 --core-port eth0 --eid-prefix 1.1.0.0/16";
    let arguments: Vec<&str> = run.into_iter().chain(flags.split(' ')).collect();
    let refused = engine.docker(&arguments).unwrap_err().to_string();
    assert!(refused.contains("lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"), "{refused}");
}

fn json(text: &str) -> Result<Value, LabError> {
    serde_json::from_str(text).map_err(|error| LabError::Wrong(format!("{error}: {text}")))
}

/// The compose file's containers; their logs are printed when a check fails, and they are removed.
struct Composed<'e> {
    engine: &'e Engine,
    /// Container by service.
    ids: BTreeMap<String, String>,
    /// What stands for CAP_BPF.
    bpf: &'static str,
}

impl<'e> Composed<'e> {
    fn up(engine: &'e Engine) -> Self {
        // Before 23, Docker knows no CAP_BPF.
        let knows = ["create", "--network", "none", "--cap-add", "BPF", BASE, "true"];
        let bpf = if engine.docker(&knows).is_ok() { "BPF" } else { "SYS_ADMIN" };
        let mut lab = Self { engine, ids: BTreeMap::new(), bpf };
        if let Err(error) = lab.compose(&["up", "--detach", "--no-build"]) {
            panic!("{error}\n{}", engine.health());
        }
        let filter = "label=com.docker.compose.project=altitude";
        let format = r#"{{.Label "com.docker.compose.service"}} {{.ID}}"#;
        let listed = engine.docker(&["ps", "--all", "--filter", filter, "--format", format]).unwrap();
        let ids = listed.lines().filter_map(|line| line.split_once(' '));
        lab.ids = ids.map(|(service, id)| (service.to_owned(), id.to_owned())).collect();
        assert_eq!(lab.ids.len(), 12, "{:?}", lab.ids);
        for service in lab.ids.keys() {
            lab.wait_health(service, "healthy");
        }
        lab
    }

    fn compose(&self, arguments: &[&str]) -> Result<String, LabError> {
        self.engine.compose(&repository("docker/compose.yml"), &[("ALTITUDE_BPF", self.bpf)], arguments)
    }

    fn wait_health(&self, service: &str, wanted: &str) {
        let what = format!("{wanted} container {service}");
        let format = "{{.State.Status}} {{.State.Health.Status}}";
        lab::wait_until(&what, LIMIT, || {
            let state = self.engine.docker(&["inspect", "--format", format, &self.ids[service]])?;
            match state.trim().split_once(' ') {
                Some(("running", health)) => Ok((health == wanted).then_some(())),
                _ => Err(LabError::Wrong(format!("{service}: {state}"))),
            }
        })
        .unwrap();
    }

    /// What a program in the service's container prints.
    fn exec(&self, service: &str, command: &[&str]) -> Result<String, LabError> {
        let arguments: Vec<&str> = ["exec", &self.ids[service]].into_iter().chain(command.iter().copied()).collect();
        self.engine.docker(&arguments)
    }

    /// Exactly what the compose file names can be had; of that a router holds what it needs beyond its start.
    fn capabilities(&self) {
        let xtr: &[&str] = &["NET_ADMIN", "NET_RAW", "IPC_LOCK", "NET_BIND_SERVICE", self.bpf];
        let alt: &[&str] = &["NET_ADMIN", "NET_RAW"];
        let frr: &[&str] = &["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "SYS_ADMIN"];
        for (services, names) in [(["xtr1", "xtr2"], xtr), (["alt1", "alt2"], alt), (["alt1-frr", "alt2-frr"], frr)] {
            let bits = CAPABILITIES.iter().filter(|(name, _)| names.contains(name));
            let wanted = bits.fold(0u64, |all, (_, bit)| all | 1 << bit);
            let kept = CAPABILITIES.iter().filter(|(name, _)| *name == "NET_ADMIN" || *name == self.bpf);
            let kept = kept.fold(0u64, |all, (_, bit)| all | 1 << bit) & wanted;
            for service in services {
                let router = ROUTERS.contains(&service);
                let status = self.exec(service, &["cat", "/proc/1/status"]).unwrap();
                for (field, wanted) in [
                    ("CapPrm:", if router { kept } else { wanted }),
                    ("CapEff:", if router { kept } else { wanted }),
                    ("CapBnd:", wanted),
                ] {
                    let held = status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim();
                    assert_eq!(
                        u64::from_str_radix(held, 16).unwrap(),
                        wanted,
                        "{service} {field} {held} is not {wanted:016x}"
                    );
                }
            }
        }
    }

    /// BGP has carried each site's EID-prefixes to the other: FRR's eight sessions stand, it has put the prefixes into
    /// the table that Altitude reads and into no other, and each xTR has the other's alone.
    fn routes(&self) {
        for service in ["alt1-frr", "alt2-frr"] {
            lab::wait_until(&format!("BGP sessions of {service}"), LIMIT, || {
                let summary = json(&self.exec(service, &["vtysh", "-c", "show bgp summary json"])?)?;
                let families = ["ipv4Unicast", "ipv6Unicast"].map(|family| &summary[family]["peers"]);
                let peers = families.iter().filter_map(|peers| peers.as_object()).flatten();
                let ready = peers.filter(|(_, peer)| peer["state"] == "Established" && peer["pfxRcd"] != 0).count();
                Ok((ready == 4).then_some(()))
            })
            .unwrap();
        }
        for (wires, far) in [("alt1-net", "2"), ("alt2-net", "1")] {
            let routes = |family: &str, table: &str| {
                self.exec(wires, &["ip", family, "route", "show", "table", table]).unwrap_or_default()
            };
            for (family, prefix) in [("-4", format!("{far}.{far}.0.0/16 ")), ("-6", format!("2001:db8:{far}::/48 "))] {
                // What bgpd has chosen comes into the kernel's table a little later.
                lab::wait_until(&format!("{prefix}by alt2 at {wires}"), LIMIT, || {
                    let there = routes(family, "4342");
                    let mut lines = there.lines().filter(|line| line.starts_with(&prefix));
                    Ok(lines.any(|line| line.contains("dev alt2 proto bgp")).then_some(()))
                })
                .unwrap();
                assert!(!routes(family, "main").contains(&prefix), "{wires}: {prefix} in the main table");
            }
        }
        for xtr in ["xtr1", "xtr2"] {
            lab::wait_until(&format!("routes of {xtr}"), LIMIT, || {
                let shown = json(&self.exec(xtr, &["altitude", "show", "bgp", "--json"])?)?;
                let neighbors = shown["neighbors"].as_array().map_or(&[][..], Vec::as_slice);
                let ready = |neighbor: &&Value| neighbor["state"] == "Established" && neighbor["received"] == 1;
                Ok((neighbors.iter().filter(ready).count() == 2).then_some(()))
            })
            .unwrap();
        }
    }

    /// The hosts reach each other; not even the first packet is lost.
    fn pings(&self) {
        for to in ["2.2.2.2", "2001:db8:2:2::2"] {
            let said = self.exec("site1", &["ping", "-n", "-c", PINGS, "-i", "0.1", "-W", "3", to]).unwrap();
            let wanted = format!("{PINGS} packets transmitted, {PINGS} received");
            assert!(said.contains(&wanted), "{to}: {said}");
            println!("           {to}: {}", said.lines().last().unwrap_or_default());
        }
    }

    /// Another process in the same namespace: what wired it still stands.
    fn restart(&self) {
        self.engine.docker(&["restart", &self.ids["xtr1"]]).unwrap();
        self.wait_health("xtr1", "healthy");
        self.routes();
        self.pings();
    }

    /// A program that stands still does not answer its health check, and is healthy again when it goes on.
    fn hang(&self) {
        for (signal, health) in [("STOP", "unhealthy"), ("CONT", "healthy")] {
            self.engine.docker(&["kill", "--signal", signal, &self.ids["xtr2"]]).unwrap();
            self.wait_health("xtr2", health);
        }
    }

    /// SIGTERM ends the routers properly, as process 1 of their containers too.
    fn stop(&self) {
        self.compose(&["stop"]).unwrap();
        for router in ROUTERS {
            let ended = self.engine.docker(&["inspect", "--format", "{{.State.ExitCode}}", &self.ids[router]]);
            assert_eq!(ended.unwrap().trim(), "0", "{router}");
        }
    }
}

impl Drop for Composed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "{}",
                self.compose(&["logs", "--no-color", "--tail", "40"]).unwrap_or_else(|error| error.to_string())
            );
        }
        let _ = self.compose(&["down", "--timeout", "1", "--volumes"]);
    }
}
