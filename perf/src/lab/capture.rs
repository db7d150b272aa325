//! Captures: tcpdump in a namespace, to a file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{LabError, Link, Packet, Process, read, wait_until};

const START_LIMIT: Duration = Duration::from_secs(10);

/// A running capture. Packets are in the file at once.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures what passes `link` to `<folder>/<name>.pcap`, whole packets; returns when it captures.
    ///
    /// `filter` is in tcpdump's language; empty for everything.
    ///
    /// # Errors
    /// [`LabError::Ended`] with what tcpdump said.
    pub fn start(name: &str, link: Link, filter: &str, folder: &Path) -> Result<Self, LabError> {
        let file = folder.join(format!("{name}.pcap"));
        let mut command = link.namespace.command("tcpdump");
        // -Z root: it would give up the right to write here.
        command.args(["-i", link.name, "-n", "-p", "-U", "--immediate-mode", "-s", "0", "-B", "16384", "-Z", "root"]);
        command.arg("-w").arg(&file).args(filter.split_whitespace());
        let mut process = Process::start(&format!("{name}.tcpdump"), &mut command, folder)?;
        process.wait_line(START_LIMIT, |line| line.contains("listening on"))?;
        Ok(Self { process, file })
    }

    /// Waits until the file holds what `enough` wants to see, then stops and returns all packets in it.
    ///
    /// # Errors
    /// [`LabError::Late`] if it is not there within `limit`, and what tshark said.
    pub fn stop_when(
        mut self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[Packet]) -> bool,
    ) -> Result<Vec<Packet>, LabError> {
        wait_until(what, limit, || Ok(enough(&read(&self.file)?).then_some(())))?;
        self.process.stop()?;
        read(&self.file)
    }

    /// Stops now and returns all packets in the file.
    ///
    /// # Errors
    /// What tshark said.
    pub fn stop(mut self) -> Result<Vec<Packet>, LabError> {
        self.process.stop()?;
        read(&self.file)
    }

    /// Leaves it running.
    pub fn keep(&mut self) {
        self.process.keep();
    }
}
