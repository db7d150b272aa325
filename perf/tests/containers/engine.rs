//! A Docker engine of the test's own: its images, containers, sockets and mounts lie in its own folders and namespaces,
//! beside any engine that the machine runs, and all of it goes when it is dropped.
//!
//! It is started twice over the same images. Building needs package mirrors: then it shares the machine's network, without
//! a bridge and without a rule. Containers are run by an engine inside a network namespace of their own, where its
//! bridges meet nobody.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use altitude_perf::lab::{self, LabError, Namespace, Process};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Folders that the two daemons use wherever their own are; hidden by empty ones while they run.
const SHARED: [&str; 3] = ["/run/docker/plugins", "/run/docker", "/run/containerd"];

/// What runs as process 1 of the engine's own process and mount namespaces. $1: folder for sockets, $2: folder for
/// images, $3: parent of its control groups. Whatever happens to it, the kernel ends the containers and takes the
/// mounts away.
const DAEMONS: &str = r#"
for folder in /run/docker /run/containerd; do
    mkdir -p $folder && mount -t tmpfs tmpfs $folder || exit
done
echo '{}' >"$1/daemon.json"
containerd --root "$2/containerd" --state "$1/containerd" --address "$1/containerd.sock" --log-level warn &
exec dockerd --config-file "$1/daemon.json" --containerd "$1/containerd.sock" --data-root "$2/docker" \
    --exec-root "$1/docker" --host "unix://$1/docker.sock" --pidfile "$1/docker.pid" --storage-driver overlay2 \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$3" --log-level warn \
    --bridge none --iptables=false --ip6tables=false
"#;

/// How this machine calls Compose.
#[derive(Debug, Clone, Copy)]
enum Compose {
    /// `docker compose`.
    Plugin,
    /// `docker-compose`.
    Program,
}

/// The engine; stopped and removed on drop.
#[derive(Debug)]
pub(crate) struct Engine {
    daemons: Option<Process>,
    compose: Compose,
    /// Sockets and logs: a short path, for socket addresses have 108 octets.
    folder: PathBuf,
    /// Images and containers, a few GiB.
    data: PathBuf,
    data_kept: bool,
    cgroup: String,
    /// Those of [`SHARED`] that were not there before.
    made: Vec<&'static str>,
}

impl Engine {
    /// Prepares an engine with its images in `data`, which stays if `data_kept`.
    ///
    /// # Errors
    /// Why none can be had here, for `SKIP`.
    pub(crate) fn new(owner: &str, data: &Path, data_kept: bool) -> Result<Self, String> {
        lab::available()?;
        let needed =
            ["containerd", "dockerd", "docker", "runc", "debootstrap", "unshare", "nsenter", "setpriv", "rustc"];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let missing = |program: &&str| !std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        if let Some(program) = needed.iter().find(|program| missing(program)) {
            return Err(format!("`{program}` is missing: run docker/deps.sh containers"));
        }
        let works = |program: &str, word: &str| Command::new(program).arg(word).arg("version").output();
        let plugin = works("docker", "compose").is_ok_and(|run| run.status.success());
        if !plugin && missing(&"docker-compose") {
            return Err("neither `docker compose` nor `docker-compose` is here: run docker/deps.sh containers".into());
        }
        let compose = if plugin { Compose::Plugin } else { Compose::Program };
        let folder = lab::work_folder(owner).map_err(|error| error.to_string())?;
        // What a killed run left over.
        if !data_kept {
            let _ = fs::remove_dir_all(data);
        }
        fs::create_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
        let made = SHARED.into_iter().filter(|folder| !Path::new(folder).exists()).collect();
        let (data, cgroup) = (data.to_owned(), format!("/altitude-{owner}"));
        Ok(Self { daemons: None, compose, folder, data, data_kept, cgroup, made })
    }

    /// Starts it, in the machine's network or in `namespace`, and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::Ended`] with what it printed last, [`LabError::Late`].
    pub(crate) fn start(&mut self, namespace: Option<&Namespace>) -> Result<(), LabError> {
        // Not by `ip netns exec`: that mounts another /sys, without the control groups.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]);
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        if let Some(namespace) = namespace {
            command.arg("nsenter").arg(format!("--net=/run/netns/{}", namespace.name()));
        }
        command.args(["sh", "-c", DAEMONS, "sh"]).arg(&self.folder).arg(&self.data).arg(&self.cgroup);
        let daemons = self.daemons.insert(Process::start("docker", &mut command, &self.folder)?);
        // The socket is there only when all else is.
        let socket = self.folder.join("docker.sock");
        let waited = lab::wait_until("answer of dockerd", START_LIMIT, || {
            if daemons.wait(Duration::ZERO).is_ok() {
                // Ended: the next line is its error.
                daemons.wait_line(Duration::ZERO, |_| false)?;
            }
            Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(()))
        });
        waited.and_then(|()| self.docker(&["info"]).map(drop))
    }

    /// Stops it and its containers; the images stay.
    ///
    /// # Errors
    /// [`LabError::Late`] if it had to be killed.
    pub(crate) fn stop(&mut self) -> Result<(), LabError> {
        let Some(mut daemons) = self.daemons.take() else { return Ok(()) };
        // dockerd is the one child of unshare, which keeps SIGTERM to itself.
        let parent = daemons.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let _ = kill(Pid::from_raw(child), Signal::SIGTERM);
        }
        daemons.wait(STOP_LIMIT).map(drop)
    }

    /// What its health checks said of each container, for who looks why some are not well.
    pub(crate) fn health(&self) -> String {
        let ids = self.docker(&["ps", "--all", "--quiet"]).unwrap_or_default();
        let told = ids.lines().map(|id| {
            let format = "{{.Name}}: {{.State.Status}} {{json .State.Health}}";
            let logs = self.docker(&["logs", "--tail", "5", id]).unwrap_or_else(|error| error.to_string());
            self.docker(&["inspect", "--format", format, id]).unwrap_or_else(|error| error.to_string()) + &logs
        });
        told.collect()
    }

    /// Runs `docker` with these arguments and returns what it printed.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what it said.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Result<String, LabError> {
        lab::run(self.client(&mut Command::new("docker")).args(arguments))
    }

    /// Runs Compose on `file`, whose variables are `settings`.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what it said.
    pub(crate) fn compose(
        &self,
        file: &Path,
        settings: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<String, LabError> {
        let mut command = match self.compose {
            Compose::Plugin => Command::new("docker"),
            Compose::Program => Command::new("docker-compose"),
        };
        if matches!(self.compose, Compose::Plugin) {
            command.arg("compose");
        }
        lab::run(self.client(&mut command).envs(settings.iter().copied()).arg("--file").arg(file).args(arguments))
    }

    /// Makes `command` talk to this engine.
    pub(crate) fn client<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for other in ["DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "COMPOSE_PROJECT_NAME", "COMPOSE_FILE"] {
            command.env_remove(other);
        }
        command.env("DOCKER_HOST", format!("unix://{}", self.folder.join("docker.sock").display()))
    }

    /// CPU time of everything that ran in its containers so far, if the machine's control groups tell.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let group = self.cgroup.trim_start_matches('/');
        let first = fs::read_to_string(format!("/sys/fs/cgroup/cpuacct/{group}/cpuacct.usage"));
        if let Some(ns) = first.ok().and_then(|usage| usage.trim().parse().ok()) {
            return Some(Duration::from_nanos(ns));
        }
        let second = fs::read_to_string(format!("/sys/fs/cgroup/{group}/cpu.stat")).ok()?;
        let us = second.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())?;
        Some(Duration::from_micros(us))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.stop();
        for base in ["/sys/fs/cgroup".to_owned()].into_iter().chain(subfolders(Path::new("/sys/fs/cgroup"))) {
            remove_cgroup(&Path::new(&base).join(self.cgroup.trim_start_matches('/')));
        }
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
        let _ = fs::remove_dir_all(&self.folder);
        if !self.data_kept {
            let _ = fs::remove_dir_all(&self.data);
        }
    }
}

fn subfolders(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.path().display().to_string()).collect()
}

/// Removes a control group with those below; the kernel refuses while processes are in it.
fn remove_cgroup(group: &Path) {
    for below in subfolders(group) {
        remove_cgroup(Path::new(&below));
    }
    let _ = fs::remove_dir(group);
}
