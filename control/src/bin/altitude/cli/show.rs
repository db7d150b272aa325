//! `altitude show`: what it takes.

use std::path::PathBuf;

use altitude_control::config::API_PATH;
use altitude_dataplane::mapping::EidPrefix;
use clap::{Args, CommandFactory, ValueEnum};

use super::{Cli, eid::eid_prefix};

/// `altitude show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// What to show.
    #[arg(value_enum)]
    pub(crate) what: What,

    /// Of bgp: the routes instead of the neighbours.
    #[arg(value_enum)]
    pub(crate) part: Option<Part>,

    /// Of the BGP routes: only those to exactly this prefix, `[5]10.0.0.0/8` in instance 5.
    #[arg(requires = "part", value_parser = eid_prefix)]
    pub(crate) prefix: Option<EidPrefix>,

    /// Of bgp: all about one neighbour, by its address or name.
    #[arg(long, value_name = "ADDR|NAME", conflicts_with = "part")]
    pub(crate) neighbor: Option<String>,

    /// Print one JSON document instead of tables: for programs, stable from version to version.
    #[arg(long)]
    pub(crate) json: bool,

    /// Show it again every so many seconds, in place on a terminal; Ctrl-C ends it.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) watch: Option<u64>,

    /// Show the counters at zero too (JSON always has them).
    #[arg(long)]
    pub(crate) all: bool,

    /// Socket of the router's mapping API: what it was started with.
    #[arg(long, value_name = "PATH", default_value = API_PATH)]
    pub(crate) api: PathBuf,
}

impl Show {
    /// What the definition of the arguments cannot say.
    ///
    /// # Errors
    /// Of usage.
    pub(crate) fn check(&self) -> Result<(), clap::Error> {
        if self.what == What::Bgp || (self.part.is_none() && self.neighbor.is_none()) {
            return Ok(());
        }
        let text = "`routes` and --neighbor belong to `altitude show bgp`";
        Err(Cli::command().error(clap::error::ErrorKind::ArgumentConflict, text))
    }
}

/// What `show bgp` can show instead of neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Every route of every neighbour, the best (*) first, and why the others are not.
    Routes,
}

/// What a router can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Mappings of other sites: how long yet, who said so, locators and their state, packets and octets.
    ///
    /// State of a locator: up (packets can be sent to it), no path (no route or next hop, or no answer to probes:
    /// `altitude show locators` says which), unreachable (its site says so), not offered (priority 255).
    MapCache,
    /// Our own EID-prefixes and locators, as Map-Requests for them are answered.
    Database,
    /// Locators of other sites: whether they can be used and why not, what RLOC-probes found, how many mappings have them.
    ///
    /// MAPPINGS have it in their locator-set, and flows of CARRYING of them go to it now.
    Locators,
    /// What each worker and the control thread counted, drops by reason.
    Counters,
    /// The interfaces: role, link, packets, what the kernel says of the rings, what was steered where.
    Ports,
    /// Tunnels of the ALT, where its routes come from, and the static ones.
    Alt,
    /// BGP neighbours: state and since when, prefixes received and advertised, why the last session ended.
    Bgp,
    /// Map-Servers that our EID-prefixes are registered with: what each says of each prefix, and why it is not registered.
    ///
    /// Standings: waiting (the first answer is not there yet), registered, silent (no answer to what was sent again and
    /// again), wrong-key (its answers are not signed with our key), partial (it refuses some prefixes, or is silent about
    /// them). Below the tables stands what to do about it.
    Registrations,
    /// PubSub: what we subscribed to and how it stands, and who subscribed to what at our Map-Server.
    ///
    /// Ours: asking, live, refused (the Map-Server would not: the mapping lives by look-ups), silent (nobody answered). Those of
    /// others: unconfirmed (its first Map-Notify-Ack is not there yet), confirmed, unacknowledged (a Map-Notify is under way).
    Subscriptions,
    /// xTRs behind NATs that register through us, the RTR: what each NAT has for them, and what is behind it.
    ///
    /// An unverified one moves no data: no Map-Server has vouched for it yet. AGE is since its first Map-Register, HEARD since its
    /// last.
    Nat,
    /// Sites of our Map-Server: who registered each prefix, with which key, until when, and what was refused last.
    Sites,
}
