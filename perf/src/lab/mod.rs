//! The lab: network namespaces, veth pairs, programs inside them, captures, and tshark as the judge.
//!
//! Everything made here goes away again: on drop, on SIGINT and SIGTERM (after [`remove_on_signal`]), and what a killed
//! run left over at the next start. Nothing is waited for by the clock: each wait names its condition and a limit.

pub mod alt;
mod capture;
mod daemon;
mod echo;
pub mod failover;
mod judge;
mod link;
mod namespace;
mod packet;
mod process;
mod router;
mod topology;
mod traffic;

pub use capture::Capture;
pub use daemon::{BgpNeighbour, BgpSettings, Daemon, Route, Session, Software};
pub use echo::{PING_TOS, PING_TTL, Pings, ping};
pub use judge::{Asked, Core, judge_core, judge_site};
pub use link::{Link, veth};
pub use namespace::{Namespace, remove_left_over, remove_on_signal, work_folder};
pub use packet::{Header, Kind, Packet, read};
pub use process::{Process, run, wait_until};
pub use router::{Family, Router, altitude_binary, lig, total};
pub use topology::{CORE_MTU, Lab, SITES, Site};

use std::time::Duration;

/// Why the lab could not do its work. All a caller can do is show it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A helper program refused.
    #[error("`{command}`: {said}")]
    Refused {
        /// The command line.
        command: String,
        /// Its exit status and what it printed.
        said: String,
    },
    /// A program ended before it was ready.
    #[error("{name} ended early ({status}): {log}")]
    Ended {
        /// The program's name in the lab.
        name: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines it printed.
        log: String,
    },
    /// What was waited for did not happen.
    #[error("no {what} within {limit:?}{log}")]
    Late {
        /// The condition.
        what: String,
        /// The limit.
        limit: Duration,
        /// The last lines of the program waited for, or nothing.
        log: String,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// What was seen is not what must be seen.
    #[error("{0}")]
    Wrong(String),
}

impl LabError {
    /// Wraps a system error with what was tried.
    pub fn os(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Os { what, source }
    }
}

/// Whether namespaces and AF_XDP sockets can be made here; the reason if not.
///
/// # Errors
/// A line for the user, such as `needs root`.
pub fn available() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root (network namespaces, AF_XDP): run as root or through sudo".into());
    }
    let af_xdp = socket2::Domain::from(nix::libc::AF_XDP);
    socket2::Socket::new(af_xdp, socket2::Type::RAW, None)
        .map_err(|error| format!("this kernel or container offers no AF_XDP sockets: {error}"))?;
    for program in ["ip", "ethtool", "sysctl", "ping", "tcpdump", "tshark", "setpriv"] {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
        if !found {
            return Err(format!("`{program}` is missing: run docker/deps.sh"));
        }
    }
    Ok(())
}
