//! Network namespaces by `ip netns`, named `alt<pid>-<role>` so that a later run can tell a dead run's from a live one's.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{LabError, daemon, run};

/// What the name of a lab's folder starts with, in the folder for temporary files.
const FOLDER: &str = "altitude-lab-";

/// Namespaces of this process, for the signal handler.
static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// One network namespace; removed on drop, with the programs still running in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    kept: bool,
}

impl Namespace {
    /// Makes the namespace `<owner>-<role>`, its loopback interface up.
    ///
    /// IPv6 addresses in it are usable at once: no duplicate address detection, nothing waits for it.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ip` or `sysctl` said.
    pub fn create(owner: &str, role: &str) -> Result<Self, LabError> {
        let name = format!("{owner}-{role}");
        run(Command::new("ip").args(["netns", "add", &name]))?;
        made().push(name.clone());
        let namespace = Self { name, kept: false };
        namespace.ip("link set lo up")?;
        run(namespace.command("sysctl").args([
            "-qw",
            "net.ipv6.conf.all.accept_dad=0",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv6.conf.default.router_solicitations=0",
        ]))?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command line that runs `program` inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `ip` with these arguments, separated by blanks, inside; returns what it printed.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ip` said.
    pub fn ip(&self, arguments: &str) -> Result<String, LabError> {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    /// Runs `work` inside, on a thread of its own. What it opens belongs to this namespace wherever it is used later.
    ///
    /// # Errors
    /// [`LabError::Os`] if the namespace cannot be entered; then `work` is not called.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T, LabError>>, LabError> {
        let path = Path::new("/run/netns").join(&self.name);
        let entry = fs::File::open(&path).map_err(LabError::os(path.display().to_string()))?;
        let enter = move || {
            // A thread's own choice: the other threads stay where they are.
            setns(entry, CloneFlags::CLONE_NEWNET).map_err(|error| LabError::os("setns")(error.into()))?;
            Ok(work())
        };
        thread::Builder::new().name(self.name.clone()).spawn(enter).map_err(LabError::os("a thread"))
    }

    /// Runs `work` inside and waits for what it returns.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    ///
    /// # Panics
    /// If `work` does.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, LabError> {
        self.spawn(work)?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Leaves it standing on drop and on signals.
    pub fn keep(&mut self) {
        self.kept = true;
        made().retain(|name| *name != self.name);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.name);
            made().retain(|name| *name != self.name);
        }
    }
}

fn made() -> std::sync::MutexGuard<'static, Vec<String>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends what runs in the namespace and removes its name. Best effort: it may be half made or half gone.
fn remove(name: &str) {
    let pids = run(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
    for pid in pids.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
        // Only programs that the lab started can be in a namespace that the lab made.
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        daemon::remove_scratch(pid);
    }
    let _ = run(Command::new("ip").args(["netns", "del", name]));
}

/// Makes the folder for `owner`'s logs, captures and sockets, empty.
///
/// # Errors
/// [`LabError::Os`] if it cannot be made.
pub fn work_folder(owner: &str) -> Result<PathBuf, LabError> {
    let folder = folder_of(owner);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(LabError::os(folder.display().to_string()))?;
    Ok(folder)
}

fn folder_of(owner: &str) -> PathBuf {
    env::temp_dir().join(format!("{FOLDER}{owner}"))
}

/// Removes namespaces and folders that dead runs left over, and those of `owner`; returns the namespaces' names.
pub fn remove_left_over(owner: &str) -> Vec<String> {
    let listed = run(Command::new("ip").args(["netns", "list"])).unwrap_or_default();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    let left: Vec<String> = names.filter(|name| is_left_over(name, owner)).map(str::to_owned).collect();
    for name in &left {
        remove(name);
    }
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let lab = name.to_str().and_then(|name| name.strip_prefix(FOLDER));
        if lab.is_some_and(|lab| is_left_over(&format!("{lab}-"), owner)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    left
}

fn is_left_over(name: &str, owner: &str) -> bool {
    let Some((lab, _role)) = name.split_once('-') else { return false };
    if lab == owner {
        return true;
    }
    let pid = lab.strip_prefix("alt").filter(|pid| !pid.is_empty() && pid.bytes().all(|digit| digit.is_ascii_digit()));
    pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

/// From now on SIGINT and SIGTERM remove every namespace of this process, and its folder, before they end it.
///
/// # Errors
/// [`LabError::Os`] if the handlers cannot be set.
pub fn remove_on_signal() -> Result<(), LabError> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(LabError::os("signal handlers"))?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            for name in made().drain(..) {
                remove(&name);
                if let Some((owner, _)) = name.split_once('-') {
                    let _ = fs::remove_dir_all(folder_of(owner));
                }
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_left_over;

    #[test]
    fn only_namespaces_of_dead_runs_and_our_own_are_left_over() {
        let own = format!("alt{}", std::process::id());
        // No process has a number above the kernel's limit of 2^22.
        for (name, left) in [
            ("alt4194999-xtr1", true),
            ("altdemo-xtr1", false),
            ("alt-xtr1", false),
            ("alt1-xtr1", false),
            ("alternative", false),
            ("alt4194999x-xtr1", false),
            ("build-4194999", false),
        ] {
            assert_eq!(is_left_over(name, &own), left, "{name}");
        }
        assert!(is_left_over(&format!("{own}-core"), &own));
        assert!(is_left_over("altdemo-core", "altdemo"));
    }
}
