//! `altitude trace`: what a running router does with packets, as pcapng or line by line.

mod capture;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use altitude_control::api::{
    TraceAsk, TraceEnd, TraceNews, TraceVerdict, Traced,
    client::{Client, ClientError},
};
use altitude_dataplane::{
    classify::IpHeader,
    tap::{Came, Side},
};
use nix::libc;
use signal_hook::consts::{SIGINT, SIGTERM};

use self::capture::Capture;
use crate::{cli::Trace, map::clock};

/// How long a signal may go unseen.
const LOOK: Duration = Duration::from_millis(200);
/// How long the end may take after it was asked for: packets may still be on their way.
const END: Duration = Duration::from_secs(5);

/// Why `altitude trace` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0} is no port of this router: it has {1}")]
    Port(String, String),
    #[error("cannot write {path}: {error}")]
    Write { path: String, error: io::Error },
    #[error("signals cannot be caught: {0}")]
    Signals(io::Error),
    #[error("the router has not told of the trace's end; it ends with this connection")]
    NoEnd,
}

/// Where packets go.
enum Sink {
    Capture(Capture<Box<dyn Write>>),
    Lines(Box<dyn Write>),
}

/// Shows packets until the trace ends.
pub(crate) fn trace(arguments: &Trace) -> Result<(), TraceError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).map_err(TraceError::Signals)?;
    }
    let mut client = Client::connect(&arguments.api)?;
    let names: Vec<String> = client.ports()?.into_iter().map(|port| port.name).collect();
    let ask = ask(arguments, &names)?;
    let name = arguments.write.as_deref().map_or("standard output".to_owned(), |path| path.display().to_string());
    let told = |error| TraceError::Write { path: name.clone(), error };
    // A trace that is not granted leaves the file of the one before alone.
    client.trace(&ask)?;
    let mut sink = open(arguments.write.as_deref(), &names, ask.snaplen).map_err(told)?;
    match follow(&mut client, &mut sink, &names, &stop) {
        Ok(end) => {
            // Not among the packets, whoever reads them.
            let _ = write!(io::stderr(), "{}", said(end));
            Ok(())
        }
        // A reader that has seen enough, such as `head`, is no failure.
        Err(Failed::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Failed::Write(error)) => Err(told(error)),
        Err(Failed::Client(error)) => Err(error.into()),
        Err(Failed::NoEnd) => Err(TraceError::NoEnd),
    }
}

/// What is asked for, with ports by their numbers.
fn ask(arguments: &Trace, names: &[String]) -> Result<TraceAsk, TraceError> {
    let number = |name: &String| {
        let unknown = || TraceError::Port(name.clone(), names.join(", "));
        names.iter().position(|other| other == name).ok_or_else(unknown)
    };
    let ports = arguments.port.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    Ok(TraceAsk {
        eid: arguments.eid,
        rloc: arguments.rloc,
        ports: if ports.is_empty() { u16::MAX } else { ports.iter().fold(0, |bits, port| bits | 1 << port) },
        drops: arguments.drops,
        reasons: arguments.reason.clone(),
        snaplen: arguments.snaplen,
        count: arguments.count,
        time: Duration::from_secs(arguments.seconds),
    })
}

fn open(path: Option<&Path>, names: &[String], snaplen: u16) -> io::Result<Sink> {
    let stdout = || Box::new(io::stdout()) as Box<dyn Write>;
    let out: Box<dyn Write> = match path {
        None => return Ok(Sink::Lines(stdout())),
        Some(path) if path == Path::new("-") => stdout(),
        Some(path) => Box::new(BufWriter::new(private(path)?)),
    };
    Capture::begin(out, names, snaplen).map(Sink::Capture)
}

/// A file for its owner's eyes alone, as packets are private; not one that somebody's link leads to.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path)
}

/// Why it came to no good end.
enum Failed {
    Write(io::Error),
    Client(ClientError),
    NoEnd,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// Writes packets as they come, until the end, which a signal brings about.
fn follow(client: &mut Client, sink: &mut Sink, names: &[String], stop: &AtomicBool) -> Result<TraceEnd, Failed> {
    let mut until: Option<Instant> = None;
    loop {
        if stop.load(Ordering::Relaxed) && until.is_none() {
            client.end_trace().map_err(Failed::Client)?;
            until = Some(Instant::now() + END);
        }
        if until.is_some_and(|until| Instant::now() > until) {
            return Err(Failed::NoEnd);
        }
        match client.next_traced(LOOK).map_err(Failed::Client)? {
            Some(TraceNews::Packets(packets)) => {
                for packet in &packets {
                    let comment = comment(packet, names);
                    match sink {
                        Sink::Capture(capture) => capture.add(packet, &comment)?,
                        Sink::Lines(out) => writeln!(out, "{}", line(packet, &comment))?,
                    }
                }
                // Whoever reads along sees them now.
                match sink {
                    Sink::Capture(capture) => capture.flush()?,
                    Sink::Lines(out) => out.flush()?,
                }
            }
            Some(TraceNews::End(end)) => return Ok(end),
            None => {}
        }
    }
}

/// How it went.
fn said(TraceEnd { shown, lost }: TraceEnd) -> String {
    let packets = |count: u64| format!("{count} packet{}", if count == 1 { "" } else { "s" });
    match lost {
        0 => format!("{}\n", packets(shown)),
        1 => format!("{}; 1 packet was not traced\n", packets(shown)),
        lost => format!("{}; {} were not traced\n", packets(shown), packets(lost)),
    }
}

/// What became of a packet: `in by eth1: encapsulated to 240.0.254.20, out by eth0`.
fn comment(packet: &Traced, names: &[String]) -> String {
    let name = |port: u8| names.get(usize::from(port)).map_or("a port that is gone", String::as_str);
    let way = match packet.side {
        Side::In => "in by",
        Side::Out => "out by",
    };
    let came = match packet.came {
        Came::Arrived => "",
        Came::Waited => "after its wait ",
        Came::Part => "part of a packet that was split, ",
    };
    let verdict = match &packet.verdict {
        TraceVerdict::Encapsulated(rloc) => format!("encapsulated to {rloc}"),
        TraceVerdict::Decapsulated => "decapsulated".to_owned(),
        TraceVerdict::Reencapsulated(rloc) => format!("re-encapsulated to {rloc}"),
        TraceVerdict::Native => "forwarded natively".to_owned(),
        TraceVerdict::Split => "split in two".to_owned(),
        TraceVerdict::Held { neighbour: false, eid } => format!("missed: held until a mapping for {eid} comes"),
        TraceVerdict::Held { neighbour: true, eid } => {
            format!("missed: held until the link-layer address of {eid} comes")
        }
        TraceVerdict::Dropped(reason) => format!("dropped, {reason}"),
        TraceVerdict::IcmpError => "an ICMP error of ours".to_owned(),
    };
    let egress = match (packet.side, packet.egress) {
        (Side::In, Some(egress)) => format!(", out by {}", name(egress)),
        _ => String::new(),
    };
    format!("{way} {}: {came}{verdict}{egress}", name(packet.port))
}

/// A packet for people.
fn line(packet: &Traced, comment: &str) -> String {
    let addresses = match IpHeader::in_frame(&packet.octets) {
        Ok((_, ip)) => format!("{} > {}", ip.source, ip.destination),
        Err(_) => "no IP packet to be read".to_owned(),
    };
    format!("{}  {addresses}  {} octets  {comment}", clock(packet.at), packet.length)
}

#[cfg(test)]
mod tests;
