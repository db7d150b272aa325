//! GoBGP: `gobgpd` with its API on a socket of its own, asked through `gobgp`.

use std::{
    fmt::Write,
    fs,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{BgpNeighbour, BgpSettings, Daemon, Route, START_LIMIT, Session, is_v6, json};
use crate::lab::{LabError, Namespace, Process, run};

/// SESSION_STATE of its API: ESTABLISHED.
const ESTABLISHED: u64 = 6;
/// AS_PATH.
const AS_PATH: u64 = 2;

/// A running gobgpd.
#[derive(Debug)]
pub(super) struct GoBgp {
    process: Process,
    namespace: String,
    name: String,
    folder: PathBuf,
    logs: PathBuf,
    settings: BgpSettings,
    starts: u32,
}

impl GoBgp {
    pub(super) fn start(
        name: &str,
        namespace: &Namespace,
        settings: &BgpSettings,
        folder: &Path,
    ) -> Result<Self, LabError> {
        let own = folder.join(name);
        fs::create_dir_all(&own).map_err(LabError::os(own.display().to_string()))?;
        fs::write(own.join("gobgpd.toml"), configuration(settings)).map_err(LabError::os("gobgpd.toml"))?;
        let mut gobgp = Self {
            process: gobgpd(name, namespace.name(), &own, folder, 0)?,
            namespace: namespace.name().to_owned(),
            name: name.to_owned(),
            folder: own,
            logs: folder.to_owned(),
            settings: settings.clone(),
            starts: 1,
        };
        gobgp.answers()?;
        Ok(gobgp)
    }

    /// Waits until it answers and gives it its prefixes: its configuration holds none.
    fn answers(&mut self) -> Result<(), LabError> {
        let folder = self.folder.clone();
        self.process.wait_for("answer from gobgpd", START_LIMIT, || {
            // While nobody listens, gobgp waits a second by itself.
            let listening = folder.join("gobgp.sock").exists();
            Ok((listening && gobgp(&folder, "global").is_ok()).then_some(()))
        })?;
        self.settings.originate.iter().try_for_each(|prefix| self.add(prefix))
    }

    fn add(&self, prefix: &str) -> Result<(), LabError> {
        let next_hop = self.settings.neighbours.first().map_or(Ipv6Addr::UNSPECIFIED, |neighbour| neighbour.local.1);
        let next_hop = if is_v6(prefix) { format!("nexthop {next_hop}") } else { String::new() };
        gobgp(&self.folder, &format!("global rib add -a {} {prefix} {next_hop}", family(prefix))).map(drop)
    }
}

fn gobgpd(name: &str, namespace: &str, own: &Path, logs: &Path, starts: u32) -> Result<Process, LabError> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "gobgpd", "--pprof-disable", "--log-plain", "-t", "toml"]);
    command.arg("-f").arg(own.join("gobgpd.toml"));
    command.arg(format!("--api-hosts=unix://{}", own.join("gobgp.sock").display()));
    if starts > 0 {
        command.arg("--graceful-restart");
    }
    Process::start(&format!("{name}.gobgpd.{starts}"), &mut command, logs)
}

fn gobgp(folder: &Path, line: &str) -> Result<String, LabError> {
    let target = format!("unix://{}", folder.join("gobgp.sock").display());
    run(Command::new("gobgp").args(["--target", &target]).args(line.split_whitespace()))
}

fn family(prefix: &str) -> &'static str {
    if is_v6(prefix) { "ipv6" } else { "ipv4" }
}

fn configuration(settings: &BgpSettings) -> String {
    let mut text = format!("[global.config]\nas = {}\nrouter-id = \"{}\"\n", settings.asn, settings.router_id);
    for neighbour in &settings.neighbours {
        text.push_str(&neighbour_lines(neighbour));
    }
    text
}

fn neighbour_lines(neighbour: &BgpNeighbour) -> String {
    let BgpNeighbour { local, remote, asn, hold, password, passive, max_prefixes, graceful_restart, ttl_security } =
        neighbour;
    let mut text = format!("[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{remote}\"\npeer-as = {asn}\n");
    if let Some(password) = password {
        let _ = writeln!(text, "auth-password = \"{password}\"");
    }
    let _ = write!(text, "[neighbors.timers.config]\nconnect-retry = 1\nhold-time = {hold}\n");
    let _ = write!(text, "keepalive-interval = {}\nidle-hold-time-after-reset = 1\n", hold / 3);
    let _ = write!(text, "[neighbors.transport.config]\nlocal-address = \"{}\"\npassive-mode = {passive}\n", local.0);
    if *ttl_security {
        text.push_str("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n");
    }
    if let Some(time) = graceful_restart {
        let _ = write!(text, "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = {time}\n");
    }
    for family in ["ipv4", "ipv6"] {
        let _ = write!(
            text,
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}-unicast\"\n"
        );
        if graceful_restart.is_some() {
            text.push_str("[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n");
        }
        if let Some(limit) = max_prefixes {
            let _ = write!(text, "[neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = {limit}\n");
        }
    }
    text
}

/// The numbers under `name` of all families.
fn sum(families: &Value, name: &str) -> u64 {
    let families = families.as_array().map_or(&[][..], Vec::as_slice);
    families.iter().filter_map(|family| family["state"][name].as_u64()).sum()
}

impl Daemon for GoBgp {
    fn session(&self, remote: IpAddr) -> Result<Session, LabError> {
        let text = gobgp(&self.folder, &format!("-j neighbor {remote}"))?;
        let neighbour = json(&text)?;
        let established = neighbour["state"]["session_state"].as_u64() == Some(ESTABLISHED);
        Ok(Session { established, accepted: sum(&neighbour["afi_safis"], "accepted"), text })
    }

    fn route(&self, prefix: &str) -> Result<Option<Route>, LabError> {
        let text = match gobgp(&self.folder, &format!("-j global rib -a {} {prefix}", family(prefix))) {
            // This is how it says that there is none.
            Err(LabError::Refused { said, .. }) if said.contains("not in table") => return Ok(None),
            answer => answer?,
        };
        let answer = json(&text)?;
        let paths = answer.as_object().and_then(|prefixes| prefixes.values().next()).or(Some(&answer));
        // The best comes first.
        let Some(best) = paths.and_then(|paths| paths.get(0)) else { return Ok(None) };
        let attributes = best["attrs"].as_array().map_or(&[][..], Vec::as_slice);
        let path = attributes.iter().find(|attribute| attribute["type"].as_u64() == Some(AS_PATH));
        let segments = path.and_then(|path| path["as_paths"].as_array()).map_or(&[][..], Vec::as_slice);
        let asns = segments.iter().filter_map(|segment| segment["asns"].as_array()).flatten();
        let as_path = asns.filter_map(|asn| asn.as_u64().and_then(|asn| asn.try_into().ok())).collect();
        Ok(Some(Route { as_path, stale: best["stale"] == true }))
    }

    fn announce(&mut self, prefix: &str) -> Result<(), LabError> {
        self.settings.originate.push(prefix.to_owned());
        self.add(prefix)
    }

    fn withdraw(&mut self, prefix: &str) -> Result<(), LabError> {
        self.settings.originate.retain(|own| own != prefix);
        gobgp(&self.folder, &format!("global rib del -a {} {prefix}", family(prefix))).map(drop)
    }

    fn ask_refresh(&self, remote: IpAddr) -> Result<(), LabError> {
        gobgp(&self.folder, &format!("neighbor {remote} softresetin")).map(drop)
    }

    fn reset(&self, remote: IpAddr) -> Result<(), LabError> {
        // After its own `reset` it stays idle for half a minute, whatever it was configured with.
        ["disable", "enable"]
            .iter()
            .try_for_each(|verb| gobgp(&self.folder, &format!("neighbor {remote} {verb}")).map(drop))
    }

    fn freeze(&self) -> Result<(), LabError> {
        self.process.signal(Signal::SIGSTOP)
    }

    fn thaw(&self) -> Result<(), LabError> {
        self.process.signal(Signal::SIGCONT)
    }

    fn kill(&mut self) -> Result<(), LabError> {
        self.process.kill()?;
        fs::remove_file(self.folder.join("gobgp.sock")).map_err(LabError::os("gobgp.sock"))
    }

    fn restart(&mut self) -> Result<(), LabError> {
        self.process = gobgpd(&self.name, &self.namespace, &self.folder, &self.logs, self.starts)?;
        self.starts += 1;
        self.answers()
    }

    fn log(&self) -> String {
        self.process.output()
    }

    fn prompt(&self) -> String {
        format!("gobgp --target unix://{} neighbor", self.folder.join("gobgp.sock").display())
    }

    fn keep(&mut self) {
        self.process.keep();
    }
}
