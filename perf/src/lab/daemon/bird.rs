//! BIRD 2: one process with a control socket of its own, asked through `birdc`.

use std::{
    fmt::Write,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;

use super::{BgpNeighbour, BgpSettings, Daemon, Route, START_LIMIT, Session, as_path, is_v6};
use crate::lab::{LabError, Namespace, Process, run};

/// A running BIRD.
#[derive(Debug)]
pub(super) struct Bird {
    process: Process,
    namespace: String,
    name: String,
    folder: PathBuf,
    logs: PathBuf,
    settings: BgpSettings,
    starts: u32,
}

impl Bird {
    pub(super) fn start(
        name: &str,
        namespace: &Namespace,
        settings: &BgpSettings,
        folder: &Path,
    ) -> Result<Self, LabError> {
        let own = folder.join(name);
        fs::create_dir_all(&own).map_err(LabError::os(own.display().to_string()))?;
        fs::write(own.join("bird.conf"), configuration(settings)).map_err(LabError::os("bird.conf"))?;
        let mut bird = Self {
            process: bird(name, namespace.name(), &own, folder, 0)?,
            namespace: namespace.name().to_owned(),
            name: name.to_owned(),
            folder: own,
            logs: folder.to_owned(),
            settings: settings.clone(),
            starts: 1,
        };
        bird.answers()?;
        Ok(bird)
    }

    fn answers(&mut self) -> Result<(), LabError> {
        let folder = self.folder.clone();
        self.process.wait_for("answer from BIRD", START_LIMIT, || {
            Ok(birdc(&folder, "show status").is_ok_and(|answer| answer.contains("Daemon is up")).then_some(()))
        })
    }

    fn reconfigure(&self) -> Result<(), LabError> {
        fs::write(self.folder.join("bird.conf"), configuration(&self.settings)).map_err(LabError::os("bird.conf"))?;
        let said = birdc(&self.folder, "configure")?;
        if said.contains("Reconfigur") {
            return Ok(());
        }
        Err(LabError::Refused { command: "birdc configure".into(), said })
    }

    fn protocol(&self, remote: IpAddr) -> Result<String, LabError> {
        let index = self.settings.neighbours.iter().position(|neighbour| neighbour.remote == remote);
        index.map(protocol).ok_or_else(|| LabError::Wrong(format!("BIRD was given no neighbour {remote}")))
    }
}

fn bird(name: &str, namespace: &str, own: &Path, logs: &Path, starts: u32) -> Result<Process, LabError> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "bird", "-f"]).arg("-c").arg(own.join("bird.conf"));
    command.arg("-s").arg(own.join("bird.ctl")).arg("-P").arg(own.join("bird.pid"));
    if starts > 0 {
        command.arg("-R");
    }
    Process::start(&format!("{name}.bird.{starts}"), &mut command, logs)
}

fn birdc(folder: &Path, line: &str) -> Result<String, LabError> {
    run(Command::new("birdc").arg("-s").arg(folder.join("bird.ctl")).args(line.split_whitespace()))
}

/// What a neighbour's protocol is called in the configuration.
fn protocol(index: usize) -> String {
    format!("neighbour{index}")
}

fn configuration(settings: &BgpSettings) -> String {
    let BgpSettings { asn, router_id, neighbours, originate, table } = settings;
    let mut text = format!("log stderr all;\nrouter id {router_id};\nprotocol device {{ scan time 1; }}\n");
    if let Some(time) = neighbours.iter().find_map(|neighbour| neighbour.graceful_restart) {
        let _ = writeln!(text, "graceful restart wait {time};");
    }
    for family in ["ipv4", "ipv6"] {
        let own = originate.iter().filter(|prefix| is_v6(prefix) == (family == "ipv6"));
        let routes: String = own.map(|prefix| format!(" route {prefix} unreachable;")).collect();
        let _ = writeln!(text, "protocol static own_{family} {{ {family};{routes} }}");
        // EID routes in the main table would draw the sites' packets into the ALT (RFC 6836 §6.2).
        if let Some(table) = table {
            let export = "import none; export where source = RTS_BGP;";
            let _ = writeln!(text, "protocol kernel to_{family} {{ kernel table {table}; {family} {{ {export} }}; }}");
        }
    }
    for (index, neighbour) in neighbours.iter().enumerate() {
        text.push_str(&neighbour_lines(&protocol(index), *asn, neighbour));
    }
    text
}

fn neighbour_lines(name: &str, own: u32, neighbour: &BgpNeighbour) -> String {
    let BgpNeighbour { local, remote, asn, hold, password, passive, max_prefixes, graceful_restart, ttl_security } =
        neighbour;
    let mut text = format!("protocol bgp {name} {{\n  local {} as {own};\n  neighbor {remote} as {asn};\n", local.0);
    let _ = writeln!(text, "  hold time {hold};\n  keepalive time {};", hold / 3);
    text.push_str("  connect retry time 1;\n  connect delay time 1;\n  error wait time 1, 2;\n");
    if let Some(password) = password {
        let _ = writeln!(text, "  password \"{password}\";");
    }
    if *passive {
        text.push_str("  passive yes;\n");
    }
    if *ttl_security {
        text.push_str("  ttl security yes;\n");
    }
    match graceful_restart {
        Some(time) => drop(writeln!(text, "  graceful restart yes;\n  graceful restart time {time};")),
        None => text.push_str("  graceful restart off;\n"),
    }
    let limit = max_prefixes.map_or(String::new(), |limit| format!(" import limit {limit} action disable;"));
    for (family, next_hop) in [("ipv4", String::new()), ("ipv6", format!(" next hop address {};", local.1))] {
        let _ = writeln!(text, "  {family} {{ import all; export all;{limit}{next_hop} }};");
    }
    text.push_str("}\n");
    text
}

/// The sum of the first numbers of all lines such as `Routes: 2 imported, …`.
fn imported(text: &str) -> u64 {
    let counts = text.lines().filter_map(|line| line.trim().strip_prefix("Routes:"));
    counts.filter_map(|counts| counts.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

impl Daemon for Bird {
    fn session(&self, remote: IpAddr) -> Result<Session, LabError> {
        let text = birdc(&self.folder, &format!("show protocols all {}", self.protocol(remote)?))?;
        let state = text.lines().find_map(|line| line.trim().strip_prefix("BGP state:"));
        let established = state.is_some_and(|state| state.trim() == "Established");
        Ok(Session { established, accepted: imported(&text), text })
    }

    fn route(&self, prefix: &str) -> Result<Option<Route>, LabError> {
        let text = match birdc(&self.folder, &format!("show route {prefix} primary all")) {
            // This is how it says that there is none.
            Err(LabError::Refused { said, .. }) if said.contains("Network not found") => return Ok(None),
            answer => answer?,
        };
        let path = text.lines().find_map(|line| line.trim().strip_prefix("BGP.as_path:"));
        Ok(path.map(|path| Route { as_path: as_path(path), stale: text.contains("BGP.stale") }))
    }

    fn announce(&mut self, prefix: &str) -> Result<(), LabError> {
        self.settings.originate.push(prefix.to_owned());
        self.reconfigure()
    }

    fn withdraw(&mut self, prefix: &str) -> Result<(), LabError> {
        self.settings.originate.retain(|own| own != prefix);
        self.reconfigure()
    }

    fn ask_refresh(&self, remote: IpAddr) -> Result<(), LabError> {
        birdc(&self.folder, &format!("reload in {}", self.protocol(remote)?)).map(drop)
    }

    fn reset(&self, remote: IpAddr) -> Result<(), LabError> {
        birdc(&self.folder, &format!("restart {}", self.protocol(remote)?)).map(drop)
    }

    fn freeze(&self) -> Result<(), LabError> {
        self.process.signal(Signal::SIGSTOP)
    }

    fn thaw(&self) -> Result<(), LabError> {
        self.process.signal(Signal::SIGCONT)
    }

    fn kill(&mut self) -> Result<(), LabError> {
        self.process.kill()?;
        // BIRD takes the socket of a dead one for that of a running one only while somebody answers there.
        fs::remove_file(self.folder.join("bird.ctl")).map_err(LabError::os("bird.ctl"))
    }

    fn restart(&mut self) -> Result<(), LabError> {
        self.process = bird(&self.name, &self.namespace, &self.folder, &self.logs, self.starts)?;
        self.starts += 1;
        self.answers()
    }

    fn log(&self) -> String {
        self.process.output()
    }

    fn prompt(&self) -> String {
        format!("birdc -s {} show protocols", self.folder.join("bird.ctl").display())
    }

    fn keep(&mut self) {
        self.process.keep();
    }
}
