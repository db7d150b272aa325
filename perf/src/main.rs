//! The program `altitude-perf`: the demo, the benches, and the small tools that they run inside namespaces.

use std::{
    env,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use altitude_perf::{
    bench::{self, Device, Sink, Traffic},
    demo, r#gen, lab, labs, report, tcp,
};
use clap::{Parser, Subcommand};
use signal_hook::consts::SIGTERM;

const LPM_MODE: &str = "longest-prefix match, 1 reader, ns of CPU time per look-up: less is better; \
                        dir-24-8 in small pages, the rest in huge ones";

#[derive(Parser)]
#[command(name = "altitude-perf", version, about = "Demo, benches and lab tools of Altitude")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Two sites talk: builds the network of the slides in namespaces, shows it at work, removes it
    Demo {
        /// Leave it standing and say how to look around
        #[arg(long)]
        keep: bool,
        /// Only remove what an earlier --keep left standing
        #[arg(long, conflicts_with = "keep")]
        remove: bool,
    },
    /// An ALT with BGP in namespaces: builds it, shows that it works, removes it
    Lab(labs::Choice),
    /// The map-cache's longest-prefix match, beside DIR-24-8 and DPDK's rte_lpm and rte_lpm6
    ///
    /// Tables are those of the folder in ALTITUDE_DATA or ../shared/data (`dfz`); where they are absent, tables of the
    /// same length histogram (`generated`). Cases are named like v4/dfz/rand/b32; values are nanoseconds of
    /// CPU time per look-up, so a ratio below 1 means that Altitude is faster.
    Lpm {
        #[command(flatten)]
        measure: Measure,
        /// Prefixes in place of the real tables: one a line, gzip if it ends in .gz
        #[arg(long, value_name = "FILE")]
        table: Option<PathBuf>,
        /// Only cases whose name has this in it
        #[arg(long, value_name = "SUBSTRING")]
        only: Option<String>,
        /// Small tables: shows that everything works, not how fast it is
        #[arg(long)]
        quick: bool,
    },
    /// The whole worker in the process, beside a forwarder that only swaps addresses
    Mem {
        #[command(flatten)]
        measure: Measure,
        #[command(flatten)]
        choice: bench::mem::Choice,
    },
    /// Real AF_XDP on veth, beside a forwarder that only swaps addresses on the same interfaces
    Veth {
        #[command(flatten)]
        measure: Measure,
        #[command(flatten)]
        choice: bench::veth::Choice,
    },
    /// The rate at which frames begin to be lost on veth, of Altitude and of the forwarder
    Ndr {
        /// One JSON object a line instead of the table
        #[arg(long)]
        json: bool,
        /// Milliseconds of one trial
        #[arg(long, default_value_t = 1000)]
        round: u64,
        #[command(flatten)]
        search: bench::veth::Search,
        #[command(flatten)]
        traffic: Traffic,
    },
    /// What floods, and ten thousand changes a second, cost flows whose mappings are cached: the whole program on veth
    Floods {
        #[command(flatten)]
        measure: Measure,
        #[command(flatten)]
        choice: bench::veth::Floods,
    },
    /// The ALT at scale: a million EID-prefixes through the BGP speaker, beside BIRD, and Map-Requests through the tunnels
    ///
    /// Prefixes are those of the folder in ALTITUDE_DATA or ../shared/data, split over 4 neighbours; where they are absent, as
    /// many of the same lengths. BIRD takes part if it is installed. Less is better, but for datagrams.
    Alt {
        /// One JSON object a line instead of the table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: bench::alt::Choice,
    },
    /// The Map-Server at scale: a million registered prefixes, Map-Registers and Map-Requests in the process
    Control {
        /// One JSON object a line instead of the table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        choice: bench::control::Choice,
    },
    /// Sends packets at a rate, or counts them: the veth bench's generator and sink, for two boxes
    Gen(Box<r#gen::Arguments>),
    /// One HTML page with curves and tables of what benches printed with --json
    Report {
        /// Their lines, of as many runs as wanted; - or none: standard input
        inputs: Vec<PathBuf>,
        /// The page
        #[arg(long, default_value = "altitude-report.html")]
        output: PathBuf,
    },
    /// What the veth bench runs inside its namespaces
    #[command(hide = true)]
    Inside {
        #[command(subcommand)]
        part: Part,
    },
    /// A TCP transfer whose every octet is checked
    Tcp {
        #[command(subcommand)]
        end: End,
    },
}

#[derive(clap::Args)]
struct Measure {
    /// One JSON object a line instead of the table
    #[arg(long)]
    json: bool,
    /// Milliseconds of one measurement
    #[arg(long, default_value_t = 200)]
    round: u64,
    /// Measurements of each case
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

impl Measure {
    const fn effort(&self) -> bench::Effort {
        bench::Effort { round: Duration::from_millis(self.round), rounds: self.rounds }
    }
}

#[derive(Subcommand)]
enum Part {
    Generator {
        #[arg(long)]
        interface: String,
        #[command(flatten)]
        traffic: Traffic,
    },
    Device {
        #[command(flatten)]
        device: Device,
    },
    Sink {
        #[arg(long)]
        interface: String,
        /// Look for probes too
        #[arg(long)]
        probes: bool,
    },
    Count {
        #[command(flatten)]
        counted: bench::mem::Counted,
    },
    AltScale {
        #[arg(long)]
        quick: bool,
    },
    AltSpeaker,
}

#[derive(Subcommand)]
enum End {
    /// Connects and sends
    Send {
        /// The receiver
        #[arg(long)]
        to: SocketAddr,
        #[command(flatten)]
        stream: Stream,
    },
    /// Waits for one connection and checks what comes
    Receive {
        /// Address and port to listen on
        #[arg(long)]
        at: SocketAddr,
        #[command(flatten)]
        stream: Stream,
    },
}

#[derive(clap::Args)]
struct Stream {
    /// Length of the transfer
    #[arg(long)]
    octets: u64,
    /// Which octets: the same at both ends
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Demo { remove: true, .. } => {
            demo::remove();
            Ok(())
        }
        Task::Demo { keep, .. } => return demo::show(keep),
        Task::Lab(choice) => return labs::show(&choice),
        Task::Mem { measure, choice } => {
            let report = bench::Report::start(measure.json, "in the process, 2048 frames a worker, CPU time");
            bench::mem::bench(&report, measure.effort(), &choice)
        }
        Task::Veth { measure, choice } => {
            in_lab(measure.json, |report, perf| bench::veth::bench(report, measure.effort(), &choice, perf))
        }
        Task::Ndr { json, round, search, traffic } => {
            in_lab(json, |report, perf| bench::veth::ndr(report, search, Duration::from_millis(round), &traffic, perf))
        }
        Task::Floods { measure, choice } => {
            in_lab(measure.json, |report, _| bench::veth::floods(report, measure.effort(), &choice))
        }
        Task::Lpm { measure, table, only, quick } => {
            let mode = if quick { format!("{LPM_MODE}; quick: small tables") } else { LPM_MODE.to_owned() };
            let report = bench::Report::start(measure.json, &mode);
            let options = bench::lpm::Options { effort: measure.effort(), table, only, quick };
            bench::lpm::bench(&report, &options).map_err(|error| error.to_string())
        }
        Task::Alt { json, choice } => {
            let report = bench::Report::start(json, "4 neighbours, 1 thread, CPU time, peak of resident memory");
            bench::alt::bench(&report, &choice)
        }
        Task::Control { json, choice } => {
            let report = bench::Report::start(json, "1 thread, CPU time, resident memory");
            bench::control::bench(&report, &choice)
        }
        Task::Gen(arguments) => r#gen::run(&arguments),
        Task::Report { inputs, output } => write_report(&inputs, &output),
        Task::Inside { part } => inside(part),
        Task::Tcp { end } => transfer(&end),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "altitude-perf: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a bench on veth.
fn in_lab(json: bool, bench: impl FnOnce(&bench::Report, &Path) -> Result<(), lab::LabError>) -> Result<(), String> {
    lab::available()?;
    let perf = env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let report = bench::Report::start(json, "AF_XDP on veth, copy, 1 queue, driver mode, generator on another core");
    bench(&report, &perf).map_err(|error| error.to_string())
}

fn write_report(inputs: &[PathBuf], output: &Path) -> Result<(), String> {
    let (figures, charts) = report::write(inputs, output).map_err(|error| error.to_string())?;
    println!("{}: {figures} figures, {charts} charts", output.display());
    Ok(())
}

/// The generator has the first core, the device the last one.
fn inside(part: Part) -> Result<(), String> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let pin = |core: Option<&core_affinity::CoreId>| core.is_some_and(|core| core_affinity::set_for_current(*core));
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, stop.clone()).map_err(|error| error.to_string())?;
    match part {
        Part::Generator { interface, traffic } => {
            pin(cores.first());
            println!("ready");
            say(&bench::generate(&interface, &traffic, &stop)?)
        }
        Part::Device { device } => {
            pin(cores.last());
            say(&bench::forward(&device, &stop, || println!("ready"))?)
        }
        Part::Count { counted } => counted.run(),
        Part::AltScale { quick } => say(&bench::alt::scale_inside(quick)?),
        Part::AltSpeaker => bench::alt::serve(&stop, || println!("ready")),
        Part::Sink { interface, probes } => {
            let sink = Sink::attach(&interface, probes)?;
            println!("ready");
            while !stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            say(&sink.arrived()?)
        }
    }
}

/// Prints a result for the program that started this one.
fn say(result: &impl serde::Serialize) -> Result<(), String> {
    println!("{}", serde_json::to_string(result).map_err(|error| error.to_string())?);
    Ok(())
}

fn transfer(end: &End) -> Result<(), String> {
    let done = match end {
        End::Send { to, stream } => tcp::send(*to, stream.octets, stream.seed),
        End::Receive { at, stream } => {
            let listener = TcpListener::bind(at).map_err(|error| format!("listening on {at}: {error}"))?;
            println!("listening on {at}");
            tcp::receive(&listener, stream.octets, stream.seed)
        }
    };
    println!("{}", done.map_err(|error| error.to_string())?);
    Ok(())
}
