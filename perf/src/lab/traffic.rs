//! Traffic between the two sites' hosts.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use super::{Lab, LabError, Pings, Process, SITES, ping};

const LISTEN_LIMIT: Duration = Duration::from_secs(10);
const TRANSFER_LIMIT: Duration = Duration::from_secs(60);

impl Lab {
    /// Pings `to` from the host of site `from`, as [`ping`].
    ///
    /// # Errors
    /// [`LabError::Os`].
    pub fn ping(&self, from: usize, to: IpAddr, count: u16) -> Result<Pings, LabError> {
        ping(&self.sites[from], to, count)
    }

    /// Sends `octets` over one TCP connection from the host of site `from` to `to`, the other's, every octet checked; `perf`
    /// is the program `altitude-perf`. Returns what the receiver and the sender printed, which are the same.
    ///
    /// # Errors
    /// [`LabError::Ended`] with what the end that failed printed.
    pub fn transfer(&self, perf: &Path, from: usize, to: IpAddr, octets: u64, seed: u64) -> Result<String, LabError> {
        let to = SocketAddr::new(to, 5001).to_string();
        let stream = ["--octets".to_owned(), octets.to_string(), "--seed".to_owned(), seed.to_string()];
        let mut command = self.sites[1 - from].command(perf);
        command.args(["tcp", "receive", "--at", &to]).args(&stream);
        let mut receiver = Process::start("tcp-receive", &mut command, self.folder())?;
        receiver.wait_line(LISTEN_LIMIT, |line| line.starts_with("listening"))?;
        let mut command = self.sites[from].command(perf);
        command.args(["tcp", "send", "--to", &to]).args(&stream);
        let sender = Process::start("tcp-send", &mut command, self.folder())?;
        let (sent, received) = (sender.finish(TRANSFER_LIMIT)?, receiver.finish(TRANSFER_LIMIT)?);
        let last = |printed: &str| printed.lines().last().unwrap_or_default().to_owned();
        let digest = |line: &str| line.rsplit_once(',').map(|(digest, _seconds)| digest.to_owned());
        let (sent, received) = (last(&sent), last(&received));
        if digest(&sent).is_none() || digest(&sent) != digest(&received) {
            return Err(LabError::Wrong(format!("sent {sent}; received {received}")));
        }
        Ok(received)
    }

    /// Address of the host of site `index`, of both families.
    #[must_use]
    pub fn hosts(&self, index: usize) -> [IpAddr; 2] {
        [SITES[index].host.0.into(), SITES[index].host.1.into()]
    }
}
