//! FRR: one zebra and one bgpd, asked through `vtysh`.
//!
//! Paths are given one by one in place of `-N`, which would put them into `/etc/frr` and `/run/frr`.

use std::{
    fmt::Write,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{BgpNeighbour, BgpSettings, Daemon, Route, START_LIMIT, Session, as_path, is_v6, json};
use crate::lab::{LabError, Namespace, Process, run};

pub(super) const ZEBRA: &str = "/usr/lib/frr/zebra";
pub(super) const BGPD: &str = "/usr/lib/frr/bgpd";
/// Where FRR's daemons keep files of a run, by name and process; those that are killed leave them.
const SCRATCH: &str = "/var/tmp/frr";

/// Removes what a killed FRR daemon of this process ID left.
pub(in crate::lab) fn remove_scratch(pid: u32) {
    for daemon in ["zebra", "bgpd"] {
        let _ = fs::remove_dir_all(Path::new(SCRATCH).join(format!("{daemon}.{pid}")));
    }
}

/// A running FRR. bgpd ends before zebra: it takes its routes back.
#[derive(Debug)]
pub(super) struct Frr {
    bgpd: Process,
    zebra: Process,
    namespace: String,
    name: String,
    folder: PathBuf,
    logs: PathBuf,
    asn: u32,
    starts: u32,
    kept: bool,
}

impl Drop for Frr {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        for process in [&mut self.bgpd, &mut self.zebra] {
            // One that has to be killed leaves its files.
            let _ = process.stop();
            remove_scratch(process.id());
        }
    }
}

impl Frr {
    pub(super) fn start(
        name: &str,
        namespace: &Namespace,
        settings: &BgpSettings,
        folder: &Path,
    ) -> Result<Self, LabError> {
        let own = folder.join(name);
        fs::create_dir_all(&own).map_err(LabError::os(own.display().to_string()))?;
        let write = |file: &str, text: &str| fs::write(own.join(file), text).map_err(LabError::os(file));
        write("zebra.conf", &format!("hostname {name}\nlog stdout\n"))?;
        write("bgpd.conf", &configuration(name, settings))?;
        write("vtysh.conf", "")?;
        // They start as root, read their files and become this user before they make sockets.
        run(Command::new("chown").args(["-R", "frr:frr"]).arg(&own))?;

        let mut zebra = namespace.command(ZEBRA);
        zebra.args(["-P", "0", "--log", "stdout"]).arg("-f").arg(own.join("zebra.conf"));
        zebra.arg("-i").arg(own.join("zebra.pid")).arg("-z").arg(own.join("zserv.api"));
        zebra.arg("--vty_socket").arg(&own);
        let mut zebra = Process::start(&format!("{name}.zebra"), &mut zebra, folder)?;
        zebra.wait_for("zebra's socket", START_LIMIT, || Ok(own.join("zserv.api").exists().then_some(())))?;
        let bgpd = bgpd(name, namespace.name(), &own, folder, 0)?;
        let mut frr = Self {
            bgpd,
            zebra,
            namespace: namespace.name().to_owned(),
            name: name.to_owned(),
            folder: own,
            logs: folder.to_owned(),
            asn: settings.asn,
            starts: 1,
            kept: false,
        };
        frr.answers()?;
        Ok(frr)
    }

    fn answers(&mut self) -> Result<(), LabError> {
        let folder = self.folder.clone();
        // bgpd listens to vtysh before it has read its file; the instance is there afterwards.
        self.bgpd.wait_for("answer from bgpd", START_LIMIT, || {
            let answer = vtysh(&folder, &["show bgp summary json"]).unwrap_or_default();
            Ok(answer.contains("routerId").then_some(()))
        })
    }

    fn ask(&self, question: &str) -> Result<Value, LabError> {
        json(&vtysh(&self.folder, &[question])?)
    }

    fn configure(&self, lines: &[&str]) -> Result<(), LabError> {
        let router = format!("router bgp {}", self.asn);
        let lines: Vec<&str> = ["configure terminal", &router].iter().chain(lines).copied().collect();
        let said = vtysh(&self.folder, &lines)?;
        // vtysh exits with 0 whatever bgpd thinks of a line.
        if said.contains('%') {
            return Err(LabError::Refused { command: lines.join("; "), said });
        }
        Ok(())
    }
}

fn bgpd(name: &str, namespace: &str, own: &Path, logs: &Path, starts: u32) -> Result<Process, LabError> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, BGPD, "-P", "0", "--log", "stdout"]);
    command.arg("-f").arg(own.join("bgpd.conf")).arg("-i").arg(own.join("bgpd.pid"));
    command.arg("-z").arg(own.join("zserv.api")).arg("--vty_socket").arg(own);
    Process::start(&format!("{name}.bgpd.{starts}"), &mut command, logs)
}

fn vtysh(folder: &Path, lines: &[&str]) -> Result<String, LabError> {
    let mut command = Command::new("vtysh");
    command.arg("--vty_socket").arg(folder).arg("--config_dir").arg(folder);
    run(command.args(lines.iter().flat_map(|line| ["-c", line])))
}

fn family(prefix: &str) -> &'static str {
    if is_v6(prefix) { "ipv6" } else { "ipv4" }
}

fn configuration(name: &str, settings: &BgpSettings) -> String {
    let BgpSettings { asn, router_id, neighbours, originate, table } = settings;
    let mut text = format!("hostname {name}\nlog stdout\ndebug bgp neighbor-events\n");
    // EID routes in the main table would draw the sites' packets into the ALT (RFC 6836 §6.2).
    let table = table.map_or(String::new(), |table| format!(" set table {table}\n"));
    let _ = write!(text, "route-map ALT-IN permit 10\n{table}exit\n");
    for (index, neighbour) in neighbours.iter().enumerate() {
        // An IPv4 session has no IPv6 next hop of its own.
        let _ =
            write!(text, "route-map OUT-{index} permit 10\n set ipv6 next-hop global {}\nexit\n", neighbour.local.1);
    }
    let _ = write!(text, "router bgp {asn}\n bgp router-id {router_id}\n bgp log-neighbor-changes\n");
    // The first demands a filter in each direction, the second a route for each `network`.
    text.push_str(" no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n");
    if let Some(time) = neighbours.iter().find_map(|neighbour| neighbour.graceful_restart) {
        let _ = write!(text, " bgp graceful-restart\n bgp graceful-restart restart-time {time}\n");
        text.push_str(" bgp graceful-restart preserve-fw-state\n");
    }
    for neighbour in neighbours {
        text.push_str(&neighbour_lines(neighbour));
    }
    for family in ["ipv4", "ipv6"] {
        let _ = writeln!(text, " address-family {family} unicast");
        for prefix in originate.iter().filter(|prefix| self::family(prefix) == family) {
            let _ = writeln!(text, "  network {prefix}");
        }
        for (index, BgpNeighbour { remote, max_prefixes, .. }) in neighbours.iter().enumerate() {
            let _ = write!(text, "  neighbor {remote} activate\n  neighbor {remote} route-map ALT-IN in\n");
            if family == "ipv6" {
                let _ = writeln!(text, "  neighbor {remote} route-map OUT-{index} out");
            }
            if let Some(limit) = max_prefixes {
                let _ = writeln!(text, "  neighbor {remote} maximum-prefix {limit}");
            }
        }
        text.push_str(" exit-address-family\n");
    }
    text.push_str("exit\n");
    text
}

fn neighbour_lines(neighbour: &BgpNeighbour) -> String {
    let BgpNeighbour { remote, asn, hold, password, passive, ttl_security, .. } = neighbour;
    let mut text = format!(" neighbor {remote} remote-as {asn}\n neighbor {remote} timers {} {hold}\n", hold / 3);
    let _ = write!(text, " neighbor {remote} timers connect 1\n neighbor {remote} advertisement-interval 0\n");
    if let Some(password) = password {
        let _ = writeln!(text, " neighbor {remote} password {password}");
    }
    if *passive {
        let _ = writeln!(text, " neighbor {remote} passive");
    }
    if *ttl_security {
        let _ = writeln!(text, " neighbor {remote} ttl-security hops 1");
    }
    text
}

impl Daemon for Frr {
    fn session(&self, remote: IpAddr) -> Result<Session, LabError> {
        let answer = self.ask(&format!("show bgp neighbors {remote} json"))?;
        let neighbour = &answer[remote.to_string()];
        let accepted = |family: &str| neighbour["addressFamilyInfo"][family]["acceptedPrefixCounter"].as_u64();
        Ok(Session {
            established: neighbour["bgpState"] == "Established",
            accepted: ["ipv4Unicast", "ipv6Unicast"].into_iter().filter_map(accepted).sum(),
            text: vtysh(&self.folder, &[&format!("show bgp neighbors {remote}")])?,
        })
    }

    fn route(&self, prefix: &str) -> Result<Option<Route>, LabError> {
        let answer = self.ask(&format!("show bgp {} unicast {prefix} json", family(prefix)))?;
        let paths = answer["paths"].as_array().map_or(&[][..], Vec::as_slice);
        let best = paths.iter().find(|path| path["bestpath"]["overall"] == true);
        Ok(best.map(|path| Route {
            as_path: as_path(path["aspath"]["string"].as_str().unwrap_or_default()),
            stale: path["stale"] == true,
        }))
    }

    fn announce(&mut self, prefix: &str) -> Result<(), LabError> {
        self.configure(&[&format!("address-family {} unicast", family(prefix)), &format!("network {prefix}")])
    }

    fn withdraw(&mut self, prefix: &str) -> Result<(), LabError> {
        self.configure(&[&format!("address-family {} unicast", family(prefix)), &format!("no network {prefix}")])
    }

    fn ask_refresh(&self, remote: IpAddr) -> Result<(), LabError> {
        let clear = ["ipv4", "ipv6"].map(|family| format!("clear bgp {family} unicast {remote} soft in"));
        vtysh(&self.folder, &clear.each_ref().map(String::as_str)).map(drop)
    }

    fn reset(&self, remote: IpAddr) -> Result<(), LabError> {
        vtysh(&self.folder, &[&format!("clear bgp {remote}")]).map(drop)
    }

    fn freeze(&self) -> Result<(), LabError> {
        self.bgpd.signal(Signal::SIGSTOP)
    }

    fn thaw(&self) -> Result<(), LabError> {
        self.bgpd.signal(Signal::SIGCONT)
    }

    fn kill(&mut self) -> Result<(), LabError> {
        let pid = self.bgpd.id();
        self.bgpd.kill()?;
        remove_scratch(pid);
        Ok(())
    }

    fn restart(&mut self) -> Result<(), LabError> {
        self.bgpd = bgpd(&self.name, &self.namespace, &self.folder, &self.logs, self.starts)?;
        self.starts += 1;
        self.answers()
    }

    fn log(&self) -> String {
        self.bgpd.output()
    }

    fn prompt(&self) -> String {
        let folder = self.folder.display();
        format!("vtysh --vty_socket {folder} --config_dir {folder} -c 'show bgp summary'")
    }

    fn keep(&mut self) {
        self.kept = true;
        self.zebra.keep();
        self.bgpd.keep();
    }
}
