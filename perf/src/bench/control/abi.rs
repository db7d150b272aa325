//! The packet functions of the C library as a C program calls them, beside the worker that is made of the same.
//!
//! The program is `ffi/examples/tunnel.c`, compiled with -O2 against the library beside this one: one packet a call, in memory
//! that it has just written. The worker takes a batch a turn from ports that cost almost nothing, and rings and counters are
//! in its figure.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{
    bench::mem::traced,
    lab::{LabError, run, work_folder},
};

/// Prefixes in the tables.
const PREFIXES: u32 = 1000;

/// What came of it: nanoseconds a packet, out and in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) abi: [f64; 2],
    pub(super) worker: [f64; 2],
}

/// Compiles the program; `Err` says what is missing for that.
pub(super) fn program(folder: &Path) -> Result<std::path::PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    // Tests lie one folder deeper.
    let folders = here.ancestors().skip(1).take(2);
    let library = folders.map(Path::to_owned).find(|folder| folder.join("libaltitude.so").exists());
    let library =
        library.ok_or("no libaltitude.so beside this program: `cargo build --release --package altitude-ffi`")?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ffi");
    let program = folder.join("tunnel");
    let mut compile = Command::new("cc");
    compile.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-I"]).arg(sources.join("include"));
    compile.arg(sources.join("examples/tunnel.c")).arg("-L").arg(&library).arg("-laltitude");
    compile.arg(format!("-Wl,-rpath,{}", library.display())).arg("-o").arg(&program);
    run(&mut compile).map_err(|error| error.to_string())?;
    Ok(program)
}

/// Measures once, so long each.
///
/// # Errors
/// [`LabError`] of the program.
pub(super) fn measure(program: &Path, length: Duration) -> Result<Measured, LabError> {
    let seconds = format!("{:.3}", length.as_secs_f64());
    let said = run(Command::new(program).args([PREFIXES.to_string(), seconds]))?;
    let abi = figures(&said).ok_or_else(|| LabError::Wrong(format!("no figures in {said}")))?;
    Ok(Measured { abi, worker: traced::plain(PREFIXES, length) })
}

/// A folder of this process's, gone when `work` has ended.
pub(super) fn in_folder<T>(work: impl FnOnce(&Path) -> T) -> Result<T, LabError> {
    let folder = work_folder(&format!("abi{}", std::process::id()))?;
    let done = work(&folder);
    let _ = fs::remove_dir_all(&folder);
    Ok(done)
}

/// `… output 30.1 ns a packet, input 40.2 ns`.
fn figures(said: &str) -> Option<[f64; 2]> {
    let line = said.lines().find(|line| line.contains(" ns a packet"))?;
    let after = |word: &str| line.split_once(word)?.1.split_whitespace().next()?.parse::<f64>().ok();
    Some([after("output ")?, after("input ")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_the_last_line() {
        let said = "encapsulated:\n  45 00\ncame out as it went in: yes\n1000 prefixes, 64 octets: output 30.5 ns a packet, input 41.2 ns\n";
        assert_eq!(figures(said), Some([30.5, 41.2]));
        assert_eq!(figures("came out as it went in: NO\n"), None);
    }
}
