//! `altitude-perf gen`: the lab's generator and sink as a tool for two boxes.

mod sending;
mod sink;
mod words;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use altitude_dataplane::mapping::Prefix;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::bench::{
    Direction, Families, Size,
    generator::{Distribution, Means},
};
use words::{Mac, Rate, mac, number, rate, time};

/// What `altitude-perf gen` was asked for.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Interface to send through, or to count at
    #[arg(long, value_name = "NAME")]
    interface: String,

    /// Count and drop what arrives instead of sending; with --probes, measure how long probes were on their way
    #[arg(long, conflicts_with_all = ["to", "pcap", "rate"])]
    sink: bool,

    #[command(flatten)]
    ends: Ends,

    #[command(flatten)]
    flows: Flows,

    /// Send the packets of this capture (pcap, Ethernet) as they are, over and over; without --rate at their own pace
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "from", "flows", "prefixes", "size", "direction", "probes"])]
    pcap: Option<PathBuf>,

    /// Packets a second: 1000, 250k, 1Mpps; or flood, which is as many as can be sent [default: 1k]
    #[arg(long, value_name = "PPS", value_parser = rate)]
    rate: Option<Rate>,

    /// End after so long: 500ms, 10s, 5m; without it, at SIGINT or SIGTERM
    #[arg(long, value_name = "TIME", value_parser = time)]
    time: Option<Duration>,

    /// End after so many packets
    #[arg(long, value_name = "NUMBER", conflicts_with = "sink", value_parser = number)]
    packets: Option<u64>,

    /// Every so many-th packet is a probe that carries the time; a sink looks for probes
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    probes: Option<u32>,

    /// Who sends: by default the kernel by itself (live frames), where kernel and driver can, else an AF_XDP socket
    #[arg(long, value_enum, value_name = "MEANS", conflicts_with = "sink")]
    means: Option<Means>,

    /// One JSON object at the end instead of a line each second
    #[arg(long)]
    json: bool,
}

/// The two ends of the packets.
#[derive(Debug, Clone, clap::Args)]
struct Ends {
    /// MAC address to send to: that of the router's interface
    #[arg(long, value_name = "MAC", value_parser = mac, required_unless_present_any = ["sink", "pcap"])]
    to: Option<Mac>,

    /// MAC address to send from [default: the interface's]
    #[arg(long, value_name = "MAC", value_parser = mac)]
    from: Option<Mac>,

    /// What the router does with the packets: encap sends it plain ones, decap LISP-encapsulated ones
    #[arg(long, value_enum, default_value = "encap")]
    direction: Direction,

    /// Families, inner and outer: v4v4, v4v6, v6v4, v6v6
    #[arg(long, default_value = "v4v4")]
    families: Families,

    /// The host on the router's site: source of plain packets, inner destination of LISP packets [default: 1.1.1.1,
    /// 2001:db8:1:1::1]
    #[arg(long, value_name = "EID")]
    host: Option<IpAddr>,

    /// Outer source of LISP packets: the far RLOC [default: 240.0.254.20, 2001:db8:f::14]
    #[arg(long, value_name = "RLOC")]
    outer_source: Option<IpAddr>,

    /// Outer destination of LISP packets: the router's RLOC [default: 240.0.254.10, 2001:db8:f::a]
    #[arg(long, value_name = "RLOC")]
    outer_destination: Option<IpAddr>,

    /// Instance-ID of LISP packets, 0 to 16777215 [default: none, the I bit is zero]
    #[arg(long, value_name = "IID", value_parser = clap::value_parser!(u32).range(..=0x00ff_ffff))]
    instance_id: Option<u32>,
}

/// What the packets are like.
#[derive(Debug, Clone, clap::Args)]
struct Flows {
    /// Octets of the packets inside, Ethernet header and frame check sequence included: 64 to 1518, or imix (7 × 64,
    /// 4 × 570, 1 × 1518)
    #[arg(long, default_value = "64")]
    size: Size,

    /// Flows, by far host and ports, up to 1048576
    #[arg(long, default_value = "1000", value_name = "NUMBER", value_parser = number)]
    flows: u64,

    /// EID-prefixes of the far hosts; flows are spread over all of them [default: 2.2.0.0/16, 2001:db8:2::/48]
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    prefixes: Vec<Prefix>,

    /// Which flow each packet belongs to: each in its turn, or few make most of the traffic (exponent 1)
    #[arg(long, value_enum, default_value_t)]
    distribution: Distribution,

    /// Share of packets of the --prefixes, percent; the rest is of --strangers
    #[arg(long, default_value_t = 100, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    hit_percent: u8,

    /// Prefixes that have no mapping [default: 3.3.0.0/16, 2001:db8:3::/48]
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    strangers: Vec<Prefix>,
}

const EXAMPLES: &str = "\
Examples (as root; everything to the router's MAC address, here 52:54:00:00:00:01):

  What can the router encapsulate? Site packets to 10,000 flows in one /16, as many as can be sent:
    altitude-perf gen --interface eth1 --to 52:54:00:00:00:01 --prefixes 2.2.0.0/16 --flows 10k --rate flood

  The Internet's mix of lengths, few flows making most of it, a million packets a second for ten seconds:
    altitude-perf gen --interface eth1 --to 52:54:00:00:00:01 --size imix --distribution zipf --rate 1Mpps --time 10s

  LISP packets from the core, IPv6 in IPv4, Instance-ID 7:
    altitude-perf gen --interface eth2 --to 52:54:00:00:00:02 --direction decap --families v6v4 --instance-id 7 \\
      --outer-source 192.0.2.20 --outer-destination 192.0.2.10 --host 2001:db8:1:1::1 --prefixes 2001:db8:2::/48

  Every tenth packet finds no mapping:
    altitude-perf gen --interface eth1 --to 52:54:00:00:00:01 --hit-percent 90 --strangers 3.3.0.0/16

  The far end, on the other interface or box: counts, and tells how long probes were on their way (one clock only):
    altitude-perf gen --interface eth2 --sink --probes
    altitude-perf gen --interface eth1 --to 52:54:00:00:00:01 --rate 100k --probes 100

  Packets of a capture, at their own pace, or faster:
    altitude-perf gen --interface eth1 --pcap site.pcap
    altitude-perf gen --interface eth1 --pcap site.pcap --rate 500k --packets 1M

Only send where every packet may go: nothing here slows down for others.";

/// Does what was asked for; ends early on SIGINT and SIGTERM.
///
/// # Errors
/// A line for the user.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| format!("signal handlers: {error}"))?;
    }
    let stopped = || stop.load(Ordering::Relaxed);
    if arguments.sink { sink::count(arguments, stopped) } else { sending::send(arguments, stopped) }
}
