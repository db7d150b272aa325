//! Programs of the lab: started, waited for, and stopped again.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::LabError;

/// How long a program may take to stop after SIGTERM: a router says farewell for up to 3 s before it takes all down.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);
/// Lines of a program's output that an error shows.
const TAIL: usize = 12;

/// Runs a command to its end and returns what it printed on standard output.
///
/// # Errors
/// [`LabError::Refused`] if it cannot be started or does not exit with 0.
pub fn run(command: &mut Command) -> Result<String, LabError> {
    let line = command_line(command);
    let output = command.stdin(Stdio::null()).output().map_err(LabError::os(format!("`{line}`")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [&output.stderr, &output.stdout].map(|octets| String::from_utf8_lossy(octets).trim().to_owned());
    Err(LabError::Refused { command: line, said: format!("{}: {}", output.status, said.join(" ")) })
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Waits until `condition` gives a value.
///
/// # Errors
/// [`LabError::Late`] after `limit`, or what the condition failed with.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<T, LabError> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            return Err(LabError::Late { what: what.into(), limit, log: String::new() });
        }
        thread::sleep(POLL);
    }
}

/// A program running in the lab, its output in a file. Stopped on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    kept: bool,
}

impl Process {
    /// Starts `command`, both its outputs going to the new file `<folder>/<name>.log`.
    ///
    /// # Errors
    /// [`LabError::Os`] if the file or the process cannot be made.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self, LabError> {
        let log = folder.join(format!("{name}.log"));
        let out = File::create(&log).map_err(LabError::os(log.display().to_string()))?;
        let err = out.try_clone().map_err(LabError::os(log.display().to_string()))?;
        let line = command_line(command);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(LabError::os(line))?;
        Ok(Self { name: name.into(), child, log, kept: false })
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
    }

    /// Its process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has printed a line that `wanted` accepts, and returns the line.
    ///
    /// # Errors
    /// [`LabError::Ended`] if it ends without, [`LabError::Late`] after `limit`.
    pub fn wait_line(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, LabError> {
        let start = Instant::now();
        loop {
            // Asked before the output is read: what it printed last is still looked at.
            let ended = self.child.try_wait().map_err(LabError::os(&self.name))?;
            if let Some(line) = self.output().lines().find(|line| wanted(line)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = ended {
                return Err(LabError::Ended { name: self.name.clone(), status, log: self.tail() });
            }
            if start.elapsed() > limit {
                let what = format!("expected line from {}", self.name);
                return Err(LabError::Late { what, limit, log: format!(": {}", self.tail()) });
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until `condition`, which is about this program, gives a value.
    ///
    /// # Errors
    /// [`LabError::Ended`] if the program ends before, [`LabError::Late`] after `limit`, or what the condition failed
    /// with.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Result<Option<T>, LabError>,
    ) -> Result<T, LabError> {
        let waited = wait_until(what, limit, || {
            let ended = self.child.try_wait().map_err(LabError::os(&self.name))?;
            match (condition()?, ended) {
                (Some(value), _) => Ok(Some(value)),
                (None, None) => Ok(None),
                (None, Some(status)) => Err(LabError::Ended { name: self.name.clone(), status, log: self.tail() }),
            }
        });
        match waited {
            Err(LabError::Late { what, limit, .. }) => {
                Err(LabError::Late { what, limit, log: format!(": {}", self.tail()) })
            }
            other => other,
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// [`LabError::Os`] if it is gone.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .map_err(|error| LabError::os(format!("{signal} to {}", self.name))(error.into()))
    }

    /// Ends it by SIGKILL.
    ///
    /// # Errors
    /// [`LabError::Os`] if it cannot be killed or waited for.
    pub fn kill(&mut self) -> Result<(), LabError> {
        self.child.kill().map_err(LabError::os(&self.name))?;
        self.child.wait().map(drop).map_err(LabError::os(&self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`LabError::Late`] after `limit`; it still runs then.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        let late = format!("end of {}", self.name);
        wait_until(&late, limit, || self.child.try_wait().map_err(LabError::os(&self.name)))
    }

    /// Waits for its end and returns its output; anything but exit code 0 is an error.
    ///
    /// # Errors
    /// [`LabError::Ended`], or [`LabError::Late`] after `limit`.
    pub fn finish(mut self, limit: Duration) -> Result<String, LabError> {
        let status = self.wait(limit)?;
        if status.success() {
            return Ok(self.output());
        }
        Err(LabError::Ended { name: self.name.clone(), status, log: self.tail() })
    }

    /// Sends SIGTERM, waits for its end, and after five seconds sends SIGKILL.
    ///
    /// # Errors
    /// [`LabError::Late`] if SIGKILL was needed.
    pub fn stop(&mut self) -> Result<ExitStatus, LabError> {
        if let Some(status) = self.child.try_wait().map_err(LabError::os(&self.name))? {
            return Ok(status);
        }
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let stopped = self.wait(STOP_LIMIT);
        if stopped.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        stopped
    }

    /// Leaves it running on drop.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_waited_for_and_stopped() {
        let folder = std::env::temp_dir().join(format!("altitude-process-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let shell = |name: &str, script: &str| Process::start(name, Command::new("sh").args(["-c", script]), &folder);
        let limit = Duration::from_secs(20);

        let mut speaks = shell("speaks", "echo one; echo ready now; exec sleep 1000").unwrap();
        assert_eq!(speaks.wait_line(limit, |line| line.starts_with("ready")).unwrap(), "ready now");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&speaks.stop().unwrap()), Some(15));

        let mut dies = shell("dies", "echo cannot; exit 3").unwrap();
        let error = dies.wait_line(limit, |line| line == "ready").unwrap_err();
        assert!(matches!(&error, LabError::Ended { status, log, .. } if status.code() == Some(3) && log == "cannot"));

        let mute = shell("mute", "exec sleep 1000").unwrap().wait_line(Duration::ZERO, |_| true);
        assert!(matches!(mute, Err(LabError::Late { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }
}
