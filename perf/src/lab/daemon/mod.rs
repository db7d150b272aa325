//! Other people's BGP daemons inside the lab's namespaces: FRR, BIRD and GoBGP from Debian's packages.
//!
//! Each instance lives in a folder of its own below the lab's: configuration, control sockets, process files and log.
//! Nothing is read from or written to the folders in `/etc` and `/run` that the packages made.

mod bird;
mod frr;
mod gobgp;

pub(super) use frr::remove_scratch;

use std::{
    env, fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use super::{LabError, Namespace};

/// How long a daemon may take to start, or to obey.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    /// FRR: zebra and bgpd.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP. It installs no routes.
    GoBgp,
}

impl fmt::Display for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
            Self::GoBgp => "GoBGP",
        })
    }
}

impl Software {
    /// Whether its programs are installed; what to do if not.
    ///
    /// # Errors
    /// A line for the user.
    pub fn installed(self) -> Result<(), String> {
        let programs: &[&str] = match self {
            Self::Frr => &[frr::ZEBRA, frr::BGPD, "vtysh"],
            Self::Bird => &["bird", "birdc"],
            Self::GoBgp => &["gobgpd", "gobgp"],
        };
        // Daemons live in sbin, which the path of a plain user's shell leaves out; a name with slashes stands alone.
        let path = env::var_os("PATH").unwrap_or_default();
        let missing = |program: &&&str| {
            let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
            !folders.map(|folder| folder.join(program)).any(|file| file.is_file())
        };
        match programs.iter().find(missing) {
            Some(program) => Err(format!("`{program}` of {self} is missing: run docker/deps.sh peers")),
            None => Ok(()),
        }
    }

    /// Starts it with `settings` in `<folder>/<name>` and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::Ended`] with what it printed, [`LabError::Late`].
    pub fn start(
        self,
        name: &str,
        namespace: &Namespace,
        settings: &BgpSettings,
        folder: &Path,
    ) -> Result<Box<dyn Daemon>, LabError> {
        Ok(match self {
            Self::Frr => Box::new(frr::Frr::start(name, namespace, settings, folder)?),
            Self::Bird => Box::new(bird::Bird::start(name, namespace, settings, folder)?),
            Self::GoBgp => Box::new(gobgp::GoBgp::start(name, namespace, settings, folder)?),
        })
    }
}

/// What a daemon is told to be.
#[derive(Debug, Clone)]
pub struct BgpSettings {
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Whom it talks to.
    pub neighbours: Vec<BgpNeighbour>,
    /// Prefixes of either family that it announces, whether there is a route or not.
    pub originate: Vec<String>,
    /// Kernel table for what it learns; none: nothing is installed.
    pub table: Option<u32>,
}

/// One neighbour of a daemon.
#[derive(Debug, Clone)]
pub struct BgpNeighbour {
    /// The daemon's own addresses on the tunnel: the session's end, and the next hop of IPv6 prefixes.
    pub local: (Ipv4Addr, Ipv6Addr),
    /// The neighbour's address.
    pub remote: IpAddr,
    /// The neighbour's AS.
    pub asn: u32,
    /// Hold time, seconds.
    pub hold: u16,
    /// TCP-MD5.
    pub password: Option<String>,
    /// Never dial.
    pub passive: bool,
    /// End the session when more prefixes of one family come.
    pub max_prefixes: Option<u32>,
    /// Offer graceful restart with this restart time, seconds.
    pub graceful_restart: Option<u16>,
    /// Demand TTL 255 of what comes.
    pub ttl_security: bool,
}

impl BgpNeighbour {
    /// A neighbour with a hold time of 3 s and nothing special about it.
    #[must_use]
    pub fn new(local: (Ipv4Addr, Ipv6Addr), remote: IpAddr, asn: u32) -> Self {
        Self {
            local,
            remote,
            asn,
            hold: 3,
            password: None,
            passive: false,
            max_prefixes: None,
            graceful_restart: None,
            ttl_security: false,
        }
    }
}

/// A session as the daemon sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// OPENs and the first KEEPALIVEs were exchanged.
    pub established: bool,
    /// Prefixes that came and were accepted, of all families.
    pub accepted: u64,
    /// What the daemon itself prints about it, for people.
    pub text: String,
}

/// A route that the daemon has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The ASes of its path, the neighbour's first.
    pub as_path: Vec<u32>,
    /// Kept over the neighbour's restart (RFC 4724).
    pub stale: bool,
}

/// A running daemon. Stopped on drop.
pub trait Daemon: fmt::Debug + Send {
    /// The session with the neighbour at this address.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what the daemon said.
    fn session(&self, remote: IpAddr) -> Result<Session, LabError>;

    /// The best route to exactly this prefix.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what the daemon said.
    fn route(&self, prefix: &str) -> Result<Option<Route>, LabError>;

    /// From now on announces this prefix too.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what the daemon said.
    fn announce(&mut self, prefix: &str) -> Result<(), LabError>;

    /// No longer announces this prefix.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what the daemon said.
    fn withdraw(&mut self, prefix: &str) -> Result<(), LabError>;

    /// Asks the neighbour to send all its routes again (RFC 2918).
    ///
    /// # Errors
    /// [`LabError::Refused`] with what the daemon said.
    fn ask_refresh(&self, remote: IpAddr) -> Result<(), LabError>;

    /// Ends the session by a NOTIFICATION; both sides may dial again at once.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what the daemon said.
    fn reset(&self, remote: IpAddr) -> Result<(), LabError>;

    /// Stops its processes in their tracks: the kernel goes on acknowledging, nobody answers.
    ///
    /// # Errors
    /// [`LabError::Os`].
    fn freeze(&self) -> Result<(), LabError>;

    /// Lets frozen processes go on.
    ///
    /// # Errors
    /// [`LabError::Os`].
    fn thaw(&self) -> Result<(), LabError>;

    /// Kills the BGP process without a word to its neighbours.
    ///
    /// # Errors
    /// [`LabError::Late`] if it does not go.
    fn kill(&mut self) -> Result<(), LabError>;

    /// Starts what [`kill`](Self::kill) ended, as restarting (RFC 4724), and waits until it answers.
    ///
    /// # Errors
    /// As of [`Software::start`].
    fn restart(&mut self) -> Result<(), LabError>;

    /// What its BGP process has printed since its last start.
    fn log(&self) -> String;

    /// A command line that asks it something, for people who look around.
    fn prompt(&self) -> String;

    /// Leaves it running on drop.
    fn keep(&mut self);
}

/// The ASes in a text such as `64513 64514 {1 2}`.
fn as_path(text: &str) -> Vec<u32> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

fn is_v6(prefix: &str) -> bool {
    prefix.contains(':')
}

/// Whether an answer is JSON, and which.
fn json(text: &str) -> Result<serde_json::Value, LabError> {
    serde_json::from_str(text).map_err(|error| LabError::Wrong(format!("{error} in what a daemon answered: {text}")))
}
