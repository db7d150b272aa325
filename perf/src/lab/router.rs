//! `altitude run` in the lab.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;

use super::{Lab, LabError, Namespace, Process, SITES, Site, run, topology::ALT_RLOC, wait_until};

const READY_LIMIT: Duration = Duration::from_secs(20);
/// Far more than sessions and routes take; reaching it is a failure.
const ROUTES_LIMIT: Duration = Duration::from_secs(30);
/// AS numbers of the sites' tunnel routers and of the ALT router.
const SITE_ASES: [u32; 2] = [64_510, 64_520];
const ALT_AS: u32 = 64_530;

/// Which address family the RLOCs are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// This family's address of a pair.
    #[must_use]
    pub fn of<A: Into<IpAddr> + Copy, B: Into<IpAddr> + Copy>(self, pair: (A, B)) -> IpAddr {
        match self {
            Self::V4 => pair.0.into(),
            Self::V6 => pair.1.into(),
        }
    }
}

/// A running `altitude run`.
#[derive(Debug)]
pub struct Router {
    /// The process.
    pub process: Process,
    /// Its API socket.
    pub api: PathBuf,
}

impl Router {
    /// Starts `altitude run` with these flags and the API socket `<folder>/<name>.sock`, and waits until it is ready.
    ///
    /// # Errors
    /// [`LabError::Ended`] with what it printed, [`LabError::Late`].
    pub fn start(name: &str, namespace: &Namespace, flags: &[String], folder: &Path) -> Result<Self, LabError> {
        let mut router = Self::launch(name, namespace, flags, folder)?;
        router.wait_ready()?;
        Ok(router)
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// [`LabError::Ended`] with what it printed, [`LabError::Late`].
    pub fn wait_ready(&mut self) -> Result<(), LabError> {
        self.process.wait_line(READY_LIMIT, is_ready)?;
        wait_until("API socket", READY_LIMIT, || Ok(self.api.exists().then_some(())))
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// [`LabError::Os`] if it cannot be started.
    pub fn launch(name: &str, namespace: &Namespace, flags: &[String], folder: &Path) -> Result<Self, LabError> {
        let api = folder.join(format!("{name}.sock"));
        let mut command = namespace.command(altitude_binary()?);
        command.arg("run").arg("--api").arg(&api).args(flags);
        Ok(Self { process: Process::start(name, &mut command, folder)?, api })
    }

    /// What `altitude show <what…>` prints for this router.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what it said.
    pub fn show(&self, what: &[&str]) -> Result<String, LabError> {
        Self::show_at(&self.api, what)
    }

    /// What `altitude show <what…>` prints for the router with this API socket.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what it said.
    pub fn show_at(api: &Path, what: &[&str]) -> Result<String, LabError> {
        run(Command::new(altitude_binary()?).arg("show").args(what).arg("--api").arg(api))
    }

    /// Stops it as an operator does, by SIGTERM.
    ///
    /// # Errors
    /// [`LabError::Late`] if it does not stop by itself.
    pub fn stop(&mut self) -> Result<ExitStatus, LabError> {
        self.process.stop()
    }
}

/// Whether a log line, text or JSON, is the one of a program that is ready.
fn is_ready(line: &str) -> bool {
    line.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "ready")
}

impl Lab {
    /// Flags of the xTR of site `index` (0 or 1): both EID-prefixes, one RLOC of `family`, the ALT as the way to all.
    #[must_use]
    pub fn xtr_flags(&self, index: usize, family: Family) -> Vec<String> {
        let site = &SITES[index];
        let [prefix4, prefix6] = site.eid_prefixes();
        // One worker per router, spread over the cores there are.
        let worker = (index % std::thread::available_parallelism().map_or(1, usize::from)).to_string();
        // EIDs of the family that the RLOC is not of are asked for from the tunnel's own address.
        let tunnel = format!("alt0,remote={},{}", family.of(ALT_RLOC), tunnel_addresses(index, 1));
        let rloc = family.of(site.rloc).to_string();
        let pairs = [
            ("--site-port", "site"),
            ("--core-port", "core"),
            ("--rloc", &rloc),
            ("--eid-prefix", &prefix4),
            ("--eid-prefix", &prefix6),
            ("--alt-tunnel", &tunnel),
            ("--alt-route", "0.0.0.0/0=alt0"),
            ("--alt-route", "::/0=alt0"),
            ("--workers", &worker),
        ];
        pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
    }

    /// Flags of the ALT router: a tunnel to each xTR, and the sites' EID-prefixes behind them.
    #[must_use]
    pub fn alt_flags(&self, family: Family) -> Vec<String> {
        let mut flags = vec!["--rloc".to_owned(), family.of(ALT_RLOC).to_string()];
        for (index, site) in SITES.iter().enumerate() {
            let tunnel = format!("alt{}", index + 1);
            let ends = format!("remote={},{}", family.of(site.rloc), tunnel_addresses(index, 2));
            flags.extend(["--alt-tunnel".to_owned(), format!("{tunnel},{ends}")]);
            for prefix in site.eid_prefixes() {
                flags.extend(["--alt-route".to_owned(), format!("{prefix}={tunnel}")]);
            }
        }
        flags
    }

    /// Starts the three routers without any static route of the ALT: they learn the sites' EID-prefixes from each other by
    /// BGP, signed (TCP-MD5). Returns when each knows them all.
    ///
    /// # Errors
    /// As of [`Router::start`]; [`LabError::Late`] if the routes do not come.
    pub fn start_routers_by_bgp(&self, family: Family) -> Result<[Router; 3], LabError> {
        let key = self.folder().join("alt.key");
        fs::write(&key, "the password of the demo\n").map_err(LabError::os(key.display().to_string()))?;
        let by_bgp = |flags: Vec<String>, asn: u32, neighbors: &[(String, u32)]| {
            let pairs = flags.chunks(2).filter(|pair| pair[0] != "--alt-route");
            let mut flags: Vec<String> = pairs.flatten().cloned().collect();
            flags.extend(["--alt-as".to_owned(), asn.to_string()]);
            for (address, asn) in neighbors {
                let neighbor = format!("{address},as={asn},password-file={}", key.display());
                flags.extend(["--alt-neighbor".to_owned(), neighbor]);
            }
            flags
        };
        let xtrs = [0, 1].map(|index| (tunnel_address(index, 1), SITE_ASES[index]));
        let alt = by_bgp(self.alt_flags(family), ALT_AS, &xtrs);
        let xtr = |index: usize| {
            let neighbor = (tunnel_address(index, 2), ALT_AS);
            let flags = by_bgp(self.xtr_flags(index, family), SITE_ASES[index], &[neighbor]);
            Router::start(["xtr1", "xtr2"][index], &self.xtrs[index], &flags, self.folder())
        };
        let alt = Router::start("alt", &self.alt, &alt, self.folder())?;
        let routers = [xtr(0)?, xtr(1)?, alt];
        for router in &routers {
            wait_until("EID-prefixes of both sites by BGP", ROUTES_LIMIT, || {
                let shown = router.show(&["bgp", "routes"])?;
                let mut all = SITES.iter().flat_map(Site::eid_prefixes);
                Ok(all.all(|prefix| shown.contains(&prefix)).then_some(()))
            })?;
        }
        Ok(routers)
    }

    /// Starts the three routers, the ALT router first.
    ///
    /// # Errors
    /// As of [`Router::start`].
    pub fn start_routers(&self, family: Family) -> Result<[Router; 3], LabError> {
        let alt = Router::start("alt", &self.alt, &self.alt_flags(family), self.folder())?;
        let xtr = |index: usize| {
            let name = ["xtr1", "xtr2"][index];
            Router::start(name, &self.xtrs[index], &self.xtr_flags(index, family), self.folder())
        };
        Ok([xtr(0)?, xtr(1)?, alt])
    }
}

/// The sum of all numbers under this name (`-` and `_` alike) in what `altitude show --json` printed, over workers;
/// `None` if there is none.
#[must_use]
pub fn total(json: &Value, name: &str) -> Option<u64> {
    let sum = |parts: &mut dyn Iterator<Item = Option<u64>>| parts.flatten().reduce(|sum, part| sum + part);
    match json {
        Value::Object(fields) => sum(&mut fields.iter().map(|(key, value)| match value.as_u64() {
            Some(count) => (key.replace('-', "_") == name).then_some(count),
            None => total(value, name),
        })),
        Value::Array(items) => sum(&mut items.iter().map(|item| total(item, name))),
        _ => None,
    }
}

/// Addresses inside the tunnel between the ALT router and xTR `index`: `end` is 1 at the xTR and 2 at the router.
fn tunnel_addresses(index: usize, end: u8) -> String {
    let (subnet, address) = (index + 1, tunnel_address(index, end));
    format!("address={address}/30,address=fd00:42:{subnet}::{end}/64")
}

/// The IPv4 one of them.
fn tunnel_address(index: usize, end: u8) -> String {
    format!("10.42.{}.{end}", index + 1)
}

/// Asks with `altitude lig` in a namespace; `arguments` are parted by spaces. Returns its exit code, and what it printed and
/// complained of.
///
/// # Errors
/// [`LabError::Os`] if it could not be started, and those of [`altitude_binary`].
pub fn lig(namespace: &Namespace, arguments: &str) -> Result<(Option<i32>, String, String), LabError> {
    let mut command = namespace.command(altitude_binary()?);
    let output = command.arg("lig").args(arguments.split(' ')).output().map_err(LabError::os("altitude lig"))?;
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}

/// The program `altitude` of this build: beside this executable, built if it is not there yet.
///
/// # Errors
/// [`LabError::Refused`] with what cargo said.
pub fn altitude_binary() -> Result<PathBuf, LabError> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(binary) = BINARY.get() {
        return Ok(binary.clone());
    }
    let this = env::current_exe().map_err(LabError::os("own path"))?;
    // Test executables are one folder deeper, in `deps`.
    let folders = this.ancestors().skip(1).take(2);
    let profile = folders.map(Path::to_owned).find(|folder| !folder.ends_with("deps"));
    let profile = profile.ok_or_else(|| LabError::Wrong(format!("no build folder above {}", this.display())))?;
    let binary = profile.join("altitude");
    // Cargo builds no binary of another package for a test; with nothing to do, this takes a blink.
    if this.parent().is_some_and(|folder| folder.ends_with("deps")) || !binary.is_file() {
        let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--package", "altitude-control", "--bin", "altitude"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", profile.parent().unwrap_or(&profile));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        run(&mut build)?;
    }
    Ok(BINARY.get_or_init(|| binary).clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{is_ready, total};

    #[test]
    fn counters_are_added_over_workers() {
        let json = json!({ "workers": [{ "copied-octets": 1, "port": { "copied_octets": 2 } }, { "missed": 7 }] });
        let found = ["copied_octets", "missed", "held"].map(|name| total(&json, name));
        assert_eq!(found, [Some(3), Some(7), None]);
    }

    #[test]
    fn the_ready_line_is_known_in_both_log_formats() {
        assert!(is_ready("2026-01-01T00:00:00Z  INFO altitude: ready"));
        assert!(is_ready(r#"{"level":"INFO","fields":{"message":"ready"}}"#));
        assert!(!is_ready("already bound"));
    }
}
