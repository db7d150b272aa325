//! What `altitude lig` takes.

use std::{net::IpAddr, path::PathBuf};

use altitude_control::config::API_PATH;
use altitude_dataplane::mapping::Eid;
use clap::Args;

use super::eid::eid_or_self;

/// `altitude lig`.
#[derive(Debug, Args)]
pub(crate) struct Lig {
    /// The EID, `[5]10.1.2.3` in instance 5; or `self` for the EID-prefixes of the router on this machine: does the mapping
    /// system know them?
    #[arg(value_name = "EID|self", value_parser = eid_or_self)]
    pub(crate) eid: EidOrSelf,

    /// Address of the Map-Resolver to ask.
    #[arg(long, short, value_name = "ADDR")]
    pub(crate) map_resolver: IpAddr,

    /// Map-Requests at most.
    #[arg(long, short, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub(crate) count: u32,

    /// Seconds to wait for an answer to each.
    #[arg(long, short, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=5))]
    pub(crate) timeout: u64,

    /// Our RLOC, where the answer goes [default: the address that packets to the Map-Resolver leave from].
    #[arg(long, value_name = "ADDR")]
    pub(crate) rloc: Option<IpAddr>,

    /// Source of the Map-Request inside the ECM, of the EID's family [default: our RLOC, or where that is of the other family
    /// the address that packets to the EID leave from].
    #[arg(long, short, value_name = "ADDR")]
    pub(crate) source: Option<IpAddr>,

    /// File whose first line is the secret that the Map-Resolver shares with us: asks with LISP-SEC, and takes no answer without
    /// proof of all of it.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    pub(crate) lisp_sec_key_file: Option<PathBuf>,

    /// Key ID of that secret.
    #[arg(long, value_name = "ID", default_value_t = 1, requires = "lisp_sec_key_file")]
    pub(crate) lisp_sec_key_id: u8,

    /// Takes answers of which the EID-prefixes alone are proven too: the Map-Server says that an ETR cannot sign the rest. With
    /// --config its downgrade counts.
    #[arg(long, requires = "lisp_sec_key_file", conflicts_with = "config")]
    pub(crate) lisp_sec_downgrade: bool,

    /// The router's configuration file, whose [lisp-sec] has the key and the algorithms: asks as the router does.
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,

    /// Print one JSON document instead of a table: for programs, stable from version to version.
    #[arg(long)]
    pub(crate) json: bool,

    /// Socket of the router's mapping API, which is asked what `self` is.
    #[arg(long, value_name = "PATH", default_value = API_PATH)]
    pub(crate) api: PathBuf,
}

/// Whom `lig` asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EidOrSelf {
    /// This EID.
    Eid(Eid),
    /// The router's own.
    Own,
}
