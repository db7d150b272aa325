//! `altitude map`: what it takes.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use altitude_control::{
    api::{Filter, Offer, Op, Operation, Table},
    config::API_PATH,
};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Mapping, Prefix, Ttl};
use clap::{Args, Subcommand, ValueEnum};

use super::eid::{eid_or_prefix, eid_prefix};

/// `altitude map`.
#[derive(Debug, Args)]
pub(crate) struct Map {
    #[command(subcommand)]
    pub(crate) what: MapCommand,

    /// Print JSON instead of text: for programs, stable from version to version; of monitor one object a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Socket of the router's mapping API; `get` and `monitor` do at the one for reading as well.
    #[arg(long, value_name = "PATH", default_value = API_PATH, global = true)]
    pub(crate) api: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MapCommand {
    /// Put a mapping into the map-cache or the database; fails if there is one for exactly this EID-prefix.
    Add(OfferArguments),
    /// Replace the mapping of exactly this EID-prefix; its counters stay.
    Change(ChangeArguments),
    /// Take the mapping of exactly this EID-prefix out, and print what it was.
    #[command(alias = "delete")]
    Del(DelArguments),
    /// Make the changes that a file tells: up to 256 all at once or none, more of them batch by batch.
    ///
    /// Each line is an `add`, `change` or `del` as `altitude map` takes it; # begins a remark. All are about one table. They are
    /// verified first, each as if those before it were made. A mistake is one line `FILE:LINE: what is wrong`, the exit code is
    /// 1, and nothing has changed then.
    ///
    /// Up to 256 changes are made at once. More of them are made in batches of up to 256, in the file's order, but all lines about
    /// one EID-prefix together where the last of them stands. All batches are verified before the first is made; each is made
    /// whole or not at all. Between two of them packets are forwarded and others may change the table; and in a map-cache that is
    /// nearly full, what the file puts in pushes out what was learned, which its later lines may be about, and what it puts in for a
    /// time (--ttl) may be pushed out like that. Should a batch fail for any of this, those before it stay made, and the error says
    /// which lines were made and which were not. A file for several steps that each must be made at once, such as cutting up a
    /// prefix, has at most 256 lines, or is several files. --since is for the first 32,768 changes of a file.
    Apply {
        /// The file; - is standard input.
        file: PathBuf,

        /// Have the router say whether the changes could be made now, and make none.
        #[arg(long)]
        dry_run: bool,
    },
    /// Look up: the longest match of an EID, or exactly an EID-prefix.
    Get {
        /// An EID or an EID-prefix, `[5]10.1.2.3` in instance 5.
        #[arg(value_name = "EID|EID-PREFIX", value_parser = eid_or_prefix)]
        eid: EidPrefix,

        /// Look in the router's own mappings instead of the map-cache.
        #[arg(long)]
        database: bool,
    },
    /// Empty the map-cache, but for static mappings and those of NAT traversal; or undo what `altitude map` and programs made of the router's own mappings.
    Flush {
        /// Of the router's own mappings instead: those of the configuration that were changed are again as it says, and those that were
        /// put in go, with their hosts. With map-versioning what is again as it was has a later Map-Version, so that peers hear of it.
        /// What was taken out comes back with `altitude reload`.
        #[arg(long, conflicts_with = "all")]
        database: bool,

        /// Of this instance alone.
        #[arg(long, value_name = "IID", value_parser = instance)]
        instance: Option<InstanceId>,

        /// Static mappings too: those of the configuration come back when it is read again. And those of NAT traversal: sites
        /// behind NATs cannot be reached until they have registered again, which takes minutes.
        #[arg(long)]
        all: bool,
    },
    /// Have a locator used again that `badreach` took out of use.
    Reach(JudgedArguments),
    /// Take a locator out of use, in every mapping that has it, whatever RLOC-probes say.
    Badreach(JudgedArguments),
    /// Print what happens to mappings and locators, as it happens, until interrupted.
    Monitor {
        /// These events alone [default: all].
        #[arg(long, value_name = "EVENT", value_enum, value_delimiter = ',')]
        only: Vec<EventKind>,

        /// Mappings and misses inside this EID-prefix alone; verdicts on locators come in any case.
        #[arg(long, value_name = "EID-PREFIX", value_parser = eid_prefix)]
        eid: Option<EidPrefix>,

        /// End after so many.
        #[arg(long, short, value_name = "N")]
        count: Option<u64>,
    },
}

/// A mapping as it is written on the command line.
#[derive(Debug, Args)]
pub(crate) struct OfferArguments {
    /// EID-prefix, `[5]10.0.0.0/8` in instance 5.
    #[arg(value_name = "EID-PREFIX", value_parser = eid_prefix)]
    eid: EidPrefix,

    /// Locators, each with its priority [default: 1] and weight [default: 100].
    #[arg(value_name = "RLOC[,PRIORITY[,WEIGHT]]", value_parser = locator)]
    #[arg(required_unless_present = "action", conflicts_with = "action")]
    locators: Vec<Locator>,

    /// What happens to packets instead: a negative mapping.
    #[arg(long, value_enum)]
    action: Option<ActionName>,

    /// One of the router's own mappings: an EID-prefix of its site, with the router's RLOCs and those of the site's other xTRs.
    ///
    /// It is registered, answered for and announced as if the configuration named it, until it is taken out or the router ends.
    /// --ttl is then its Record TTL [default: a day].
    #[arg(long, conflicts_with = "action")]
    database: bool,

    /// None of its RLOCs is this router's, and that is meant: the site's other xTRs have them all.
    #[arg(long, requires = "database")]
    foreign: bool,

    /// Seconds that it stays [default: until it is taken out].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    ttl: Option<u32>,

    /// Its Map-Version, 1 to 4095 [default: none; with map-versioning on, of one of the router's own mappings that is replaced the
    /// next one, and of a new one it must be given].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4095))]
    version: Option<u16>,
}

/// What takes the place of a mapping.
#[derive(Debug, Args)]
pub(crate) struct ChangeArguments {
    #[command(flatten)]
    offer: OfferArguments,

    /// Only if it has not changed since this generation, which `altitude map get --json` told.
    #[arg(long, value_name = "GENERATION")]
    since: Option<u64>,
}

/// A mapping that is to go.
#[derive(Debug, Args)]
pub(crate) struct DelArguments {
    /// EID-prefix, `[5]10.0.0.0/8` in instance 5.
    #[arg(value_name = "EID-PREFIX", value_parser = eid_prefix)]
    eid: EidPrefix,

    /// From the router's own mappings instead of the map-cache: its hosts are cut off at once. What the configuration names
    /// comes back when that is read again.
    #[arg(long)]
    database: bool,

    /// Only if it has not changed since this generation.
    #[arg(long, value_name = "GENERATION")]
    since: Option<u64>,
}

/// Whose locators are meant.
#[derive(Debug, Args)]
pub(crate) struct JudgedArguments {
    /// The locator.
    #[arg(value_name = "RLOC", required_unless_present = "eid", conflicts_with = "eid")]
    pub(crate) rloc: Option<IpAddr>,

    /// All locators of the mapping that packets to this EID or EID-prefix use.
    #[arg(long, value_name = "EID|EID-PREFIX", value_parser = eid_or_prefix)]
    pub(crate) eid: Option<EidPrefix>,
}

/// What a negative mapping does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ActionName {
    /// Dropped (no action).
    NoAction,
    /// Forwarded without LISP: to the PETRs, or by the routes of the core.
    NativelyForward,
    /// Every packet asks again.
    SendMapRequest,
    /// Dropped.
    Drop,
    /// Dropped: denied by policy.
    PolicyDenied,
    /// Dropped: not authenticated.
    AuthFailure,
}

/// What can be monitored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventKind {
    /// A mapping came.
    Add,
    /// A mapping left.
    Delete,
    /// A mapping says something else.
    Change,
    /// Packets want a mapping: at most one a second for an EID.
    Miss,
    /// A locator is used again.
    Reach,
    /// A locator is not used any more.
    Badreach,
    /// The map-cache was emptied.
    Flush,
}

impl OfferArguments {
    /// The mapping.
    pub(crate) fn offer(&self) -> Offer {
        let action = match self.action {
            None | Some(ActionName::NoAction) => Action::NoAction,
            Some(ActionName::NativelyForward) => Action::NativelyForward,
            Some(ActionName::SendMapRequest) => Action::SendMapRequest,
            Some(ActionName::Drop) => Action::Drop,
            Some(ActionName::PolicyDenied) => Action::DropPolicyDenied,
            Some(ActionName::AuthFailure) => Action::DropAuthFailure,
        };
        let negative = Mapping::negative(self.eid, Ttl::ReceiverDecides, action);
        let mapping = Mapping { version: self.version.unwrap_or(0), locators: self.locators.clone(), ..negative };
        let life = self.ttl.map(|seconds| Duration::from_secs(seconds.into()));
        Offer { table: table(self.database), mapping, life, ephemeral: false, foreign: self.foreign }
    }
}

impl ChangeArguments {
    /// The operation.
    pub(crate) fn operation(&self) -> Operation {
        Operation::Change { offer: self.offer.offer(), unless_after: self.since }
    }
}

impl DelArguments {
    /// The operation.
    pub(crate) fn operation(&self) -> Operation {
        Operation::Delete { table: table(self.database), eid: self.eid, unless_after: self.since }
    }
}

/// Where a command looks or writes.
pub(crate) const fn table(database: bool) -> Table {
    if database { Table::Database } else { Table::Cache }
}

impl EventKind {
    const fn op(self) -> Op {
        match self {
            Self::Add => Op::ADD,
            Self::Delete => Op::DELETE,
            Self::Change => Op::CHANGE,
            Self::Miss => Op::MISS,
            Self::Reach => Op::REACH,
            Self::Badreach => Op::BADREACH,
            Self::Flush => Op::FLUSH,
        }
    }
}

/// What is wanted of all events.
pub(crate) fn filter(only: &[EventKind], eid: Option<EidPrefix>) -> Filter {
    let ops: Vec<Op> = only.iter().map(|kind| kind.op()).collect();
    let filter = if ops.is_empty() { Filter::default() } else { Filter::of(&ops) };
    Filter {
        instance: eid.map(|eid| eid.instance),
        prefix: eid.map(|eid: EidPrefix| -> Prefix { eid.prefix }),
        ..filter
    }
}

fn instance(text: &str) -> Result<InstanceId, String> {
    text.parse().ok().and_then(InstanceId::new).ok_or_else(|| "the Instance-ID is a number of 24 bits".to_owned())
}

/// `RLOC[,PRIORITY[,WEIGHT]]`.
fn locator(text: &str) -> Result<Locator, String> {
    let mut parts = text.split(',');
    let address = parts.next().unwrap_or_default();
    let address = address.parse().map_err(|_| format!("'{address}' is no IPv4 or IPv6 address"))?;
    let mut number = |name: &str, default: u8| match parts.next() {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("{name} is 0 to 255, not '{text}'")),
    };
    let (priority, weight) = (number("the priority", 1)?, number("the weight", 100)?);
    match parts.next() {
        None => Ok(Locator::unicast(address, priority, weight)),
        Some(more) => Err(format!("'{more}' is too much: write RLOC,PRIORITY,WEIGHT")),
    }
}
