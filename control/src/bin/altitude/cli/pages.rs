//! What is made of the definition of the command line: completion scripts and man pages.

use std::{
    io::{self, Write},
    path::Path,
};

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Prints the completion script of a shell.
///
/// # Errors
/// If it cannot be printed.
pub(crate) fn completions(shell: Shell) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "altitude", &mut script);
    match io::stdout().write_all(&script) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes a man page for the program and one for each of its commands, and returns how many.
///
/// # Errors
/// If the folder cannot be made or written to.
pub(crate) fn man(folder: &Path) -> io::Result<usize> {
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(explain)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(explain)?;
    Ok(pages(&Cli::command()))
}

/// One for the command, and those of its own.
fn pages(command: &clap::Command) -> usize {
    1 + command.get_subcommands().map(pages).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_man_page_for_every_command_with_its_flags() {
        let folder = std::env::temp_dir().join(format!("altitude-man-{}", std::process::id()));
        let pages = man(&folder).unwrap();
        let written = std::fs::read_dir(&folder).unwrap().count();
        let run = std::fs::read_to_string(folder.join("altitude-run.1"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(written, pages);
        let run = run.unwrap();
        assert!(run.contains("source\\-check") && run.contains(".TH"), "{run}");
    }
}
