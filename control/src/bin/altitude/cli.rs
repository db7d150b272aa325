//! The command line: what it takes, and the help that teaches it.

mod apply;
mod eid;
mod examples;
mod lig;
mod lisp_sec;
mod map;
mod nat;
pub(crate) mod pages;
mod run;
mod show;
mod top;
mod trace;

use std::path::PathBuf;

use altitude_control::config::API_PATH;
use clap::{Parser, Subcommand};

use self::examples::{LIG_EXAMPLES, MAP_EXAMPLES, RUN_ABOUT, RUN_EXAMPLES, SHOW_EXAMPLES, TRACE_ABOUT, TRACE_EXAMPLES};
pub(crate) use self::{
    apply::changes,
    lig::{EidOrSelf, Lig},
    map::{JudgedArguments, Map, MapCommand, filter, table},
    run::Run,
    show::{Show, What},
    top::Top,
    trace::Trace,
};

/// A LISP tunnel router (xTR) in user space, on AF_XDP, with LISP+ALT.
#[derive(Debug, Parser)]
#[command(
    name = "altitude",
    version,
    max_term_width = 120,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forward packets and speak the control protocols until SIGTERM or SIGINT.
    #[command(long_about = RUN_ABOUT, after_long_help = RUN_EXAMPLES)]
    Run(Box<Run>),
    /// Say what is wrong in a configuration file, and where; change nothing.
    ///
    /// Each mistake is one line `FILE:LINE: what is wrong; what to do`, all of them at once, and the exit code is 1.
    /// Cores are checked against this machine.
    Check {
        /// The TOML file that `altitude run --config` would read.
        file: PathBuf,
    },
    /// Ask a running router what it knows and counts.
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Change a running router's map-cache, look things up in it, watch what happens to it.
    #[command(after_long_help = MAP_EXAMPLES)]
    Map(Map),
    /// Ask the mapping system for an EID, as an ITR would, and print what it answers (RFC 6835).
    #[command(after_long_help = LIG_EXAMPLES)]
    Lig(Lig),
    /// Watch a running router, live: rates, load, locators, the ALT, and what happens.
    ///
    /// Made for 80 x 24 and more. Ports and workers with their rates and why they drop; locators, those that are down first;
    /// tunnels, BGP neighbours and Map-Servers; and events as they come. q ends it, the other keys stand in the last line.
    Top(Top),
    /// Watch packets pass through a running router, each with what became of it.
    #[command(long_about = TRACE_ABOUT, after_long_help = TRACE_EXAMPLES)]
    Trace(Trace),
    /// Begin sessions with BGP neighbours of a running router anew, or have their routes exchanged again.
    Bgp {
        #[command(subcommand)]
        what: BgpCommand,

        /// Socket of the router's mapping API: what it was started with.
        #[arg(long, value_name = "PATH", default_value = API_PATH, global = true)]
        api: PathBuf,
    },
    /// Have a running router read its configuration again, and take up what changed.
    ///
    /// EID-prefixes and their locators, static mappings, static routes of the ALT, Map-Resolvers and the log level change while
    /// packets pass; flows that they do not concern lose none. Where anything else differs, or the file has a mistake, nothing
    /// is applied and all of it is named. SIGHUP does the same, and the log says what came of it.
    Reload {
        /// Socket of the router's mapping API: what it was started with.
        #[arg(long, value_name = "PATH", default_value = API_PATH)]
        api: PathBuf,
    },
    /// Print a completion script for a shell.
    ///
    /// bash: altitude completions bash > /etc/bash_completion.d/altitude
    #[command(verbatim_doc_comment)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages, one for the program and one for each command, into a folder.
    ///
    /// altitude man /usr/local/share/man/man1
    #[command(verbatim_doc_comment)]
    Man {
        /// The folder; made if it is missing.
        folder: PathBuf,
    },
}

/// `altitude bgp`.
#[derive(Debug, Subcommand)]
pub(crate) enum BgpCommand {
    /// End a neighbour's session and begin it anew; its routes are gone until it has sent them again. `altitude show bgp` tells
    /// how that goes.
    Clear {
        /// Name or address of a neighbour, or `all`.
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        neighbor: String,

        /// Keep the session: ask for its routes again (RFC 2918), and send it ours.
        #[arg(long)]
        soft: bool,
    },
}

#[cfg(test)]
mod tests;
