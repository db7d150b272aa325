//! Traffic between the two sites' hosts.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use super::{Lab, LabError, Namespace, Process, SITES, run};

const LISTEN_LIMIT: Duration = Duration::from_secs(10);
const TRANSFER_LIMIT: Duration = Duration::from_secs(60);

/// TTL that echo requests leave their host with: none of the defaults, so that a copy is no accident.
pub const PING_TTL: u8 = 41;
/// TOS that echo requests leave their host with: DSCP AF11, not ECN-capable.
pub const PING_TOS: u8 = 0x28;

/// What `ping` counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pings {
    /// Requests.
    pub sent: u32,
    /// Replies.
    pub answered: u32,
}

/// Pings `to` from a host, `count` times, ten a second; the first one is not retried.
///
/// # Errors
/// [`LabError::Wrong`] if `ping` printed no summary.
pub fn ping(host: &Namespace, to: IpAddr, count: u32) -> Result<Pings, LabError> {
    let mut command = host.command("ping");
    command.args(["-n", "-c", &count.to_string(), "-i", "0.1", "-W", "3"]);
    command.args(["-t", &PING_TTL.to_string(), "-Q", &PING_TOS.to_string(), &to.to_string()]);
    // Lost packets make ping exit with 1: they are the caller's to judge.
    let printed = match run(&mut command) {
        Ok(printed) => printed,
        Err(LabError::Refused { said, .. }) => said,
        Err(error) => return Err(error),
    };
    summary(&printed).ok_or_else(|| LabError::Wrong(format!("ping {to}: {printed}")))
}

impl Lab {
    /// Pings `to` from the host of site `from`, as [`ping`].
    ///
    /// # Errors
    /// [`LabError::Wrong`] if `ping` printed no summary.
    pub fn ping(&self, from: usize, to: IpAddr, count: u32) -> Result<Pings, LabError> {
        ping(&self.sites[from], to, count)
    }

    /// Sends `octets` over one TCP connection from site 1's host to site 2's, every octet checked; `perf` is the
    /// program `altitude-perf`. Returns what the receiver and the sender printed, which are the same.
    ///
    /// # Errors
    /// [`LabError::Ended`] with what the end that failed printed.
    pub fn transfer(&self, perf: &Path, to: IpAddr, octets: u64, seed: u64) -> Result<String, LabError> {
        let to = SocketAddr::new(to, 5001).to_string();
        let stream = ["--octets".to_owned(), octets.to_string(), "--seed".to_owned(), seed.to_string()];
        let mut command = self.sites[1].command(perf);
        command.args(["tcp", "receive", "--at", &to]).args(&stream);
        let mut receiver = Process::start("tcp-receive", &mut command, self.folder())?;
        receiver.wait_line(LISTEN_LIMIT, |line| line.starts_with("listening"))?;
        let mut command = self.sites[0].command(perf);
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

/// Reads `20 packets transmitted, 20 received, …`.
fn summary(printed: &str) -> Option<Pings> {
    let line = printed.lines().find(|line| line.contains("packets transmitted"))?;
    let number = |word: &str| {
        let part = line.split(", ").find(|part| part.contains(word))?;
        part.split_whitespace().find_map(|token| token.parse().ok())
    };
    Some(Pings { sent: number("transmitted")?, answered: number("received")? })
}

#[cfg(test)]
mod tests {
    use super::{Pings, summary};

    #[test]
    fn the_summary_is_read_with_and_without_losses() {
        let text = "PING\n\n--- 2.2.2.2 ping statistics ---\n20 packets transmitted, 18 received, +1 errors, 10% packet \
                    loss, time 1919ms\n";
        assert_eq!(summary(text), Some(Pings { sent: 20, answered: 18 }));
        assert_eq!(summary("connect: Network is unreachable"), None);
    }
}
