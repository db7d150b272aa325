//! `altitude`: a LISP tunnel router in user space.
//!
//! The composition root: the command line, the configuration, the sockets and threads. What it decides lives in the
//! libraries.

mod cli;
mod driver;
mod lig;
mod log;
mod map;
mod metrics;
mod run;
mod service;
mod show;
mod top;
mod trace;
mod workers;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use altitude_control::config::{self, Draft, Machine};
use clap::Parser;
use cli::{BgpCommand, Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes: 0 done, 1 failed, 2 usage (clap's own).
fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(arguments) => start(&arguments),
        Command::Check { file } => check(&file),
        Command::Show(arguments) => {
            arguments.check().unwrap_or_else(|error| error.exit());
            show::show(&arguments)
        }
        Command::Top(arguments) => top::top(&arguments),
        Command::Trace(arguments) => trace::trace(&arguments).map_err(|error| format!("altitude: {error}")),
        Command::Bgp { what: BgpCommand::Clear { neighbor, soft }, api } => {
            map::clear(&api, &neighbor, soft).map_err(|error| format!("altitude: {error}"))
        }
        Command::Reload { api } => map::reload(&api).map_err(|error| format!("altitude: {error}")),
        Command::Completions { shell } => cli::pages::completions(shell).map_err(|error| format!("altitude: {error}")),
        Command::Man { folder } => man(&folder),
        Command::Map(arguments) => map::map(&arguments).map_err(|error| format!("altitude: {error}")),
        Command::Lig(arguments) => lig::lig(&arguments).map_err(|error| format!("altitude: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // With nobody left to read it, there is nothing better to do.
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &cli::Run) -> Result<(), String> {
    // The cores are those of the start: by the time of a reload the control thread may be pinned to one of them.
    let machine = Machine::here();
    let load = || config::load(arguments.config.as_deref(), arguments.draft(), &machine);
    let config = load().map_err(|problems| problems.to_string())?;
    log::start(config.log, config.log_format);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    run::run(&config, &load).map_err(|error| format!("altitude: {error}"))
}

/// `altitude man FOLDER`.
fn man(folder: &Path) -> Result<(), String> {
    let pages = cli::pages::man(folder).map_err(|error| format!("altitude: {error}"))?;
    writeln!(io::stdout(), "{pages} pages in {}", folder.display()).map_err(|error| error.to_string())
}

/// `altitude check FILE`.
fn check(file: &Path) -> Result<(), String> {
    let config =
        config::load(Some(file), Draft::default(), &Machine::here()).map_err(|problems| problems.to_string())?;
    for warning in &config.warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    writeln!(io::stdout(), "{}: ok ({})", file.display(), config.summary()).map_err(|error| error.to_string())
}
