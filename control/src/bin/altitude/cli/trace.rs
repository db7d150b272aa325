//! What `altitude trace` takes.

use std::{net::IpAddr, path::PathBuf};

use altitude_control::{api::SNAPLEN_MAX, config::API_PATH};
use altitude_dataplane::{mapping::EidPrefix, verdict::Reason};
use clap::Args;

use super::eid::eid_or_prefix;

/// `altitude trace`.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// Write pcapng to this file; - is standard output, for `wireshark -k -i -` [default: print a line for each packet].
    #[arg(long, short, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,

    /// Packets from or to this EID or EID-prefix alone, `[5]10.0.0.0/8` in instance 5; of a tunnelled packet the inner one
    /// counts.
    #[arg(long, value_name = "EID|EID-PREFIX", value_parser = eid_or_prefix)]
    pub(crate) eid: Option<EidPrefix>,

    /// Packets with this RLOC at one end of their outer header alone: as they came, or as they are sent.
    #[arg(long, value_name = "RLOC")]
    pub(crate) rloc: Option<IpAddr>,

    /// Packets dropped for this reason alone, a drop counter's name; may be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = reason)]
    pub(crate) reason: Vec<Reason>,

    /// Packets that come or go by this port alone; may be given several times.
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub(crate) port: Vec<String>,

    /// Dropped packets alone.
    #[arg(long)]
    pub(crate) drops: bool,

    /// Octets kept of each packet.
    #[arg(long, value_name = "OCTETS", default_value_t = SNAPLEN_MAX)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(SNAPLEN_MAX)))]
    pub(crate) snaplen: u16,

    /// End after so many packets.
    #[arg(long, short, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,

    /// End after so many seconds.
    #[arg(long, short, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,

    /// Socket of the router's mapping API: what it was started with.
    #[arg(long, value_name = "PATH", default_value = API_PATH)]
    pub(crate) api: PathBuf,
}

fn reason(name: &str) -> Result<Reason, String> {
    let found = Reason::ALL.iter().find(|reason| reason.name() == name);
    found
        .copied()
        .ok_or_else(|| "no packet is dropped for that: `altitude show counters --all` has the names".to_owned())
}
