//! Figures as a page: the lines that the benches print with `--json`, of one run or of many, become one HTML file that
//! needs nothing beside it.
//!
//! ```text
//! lines ─ figure ─▶ Figure ─ case ─▶ axes and words ─ curves ─▶ Chart ─ chart ─▶ SVG ─┐
//!                     └────────────────────────────────────────────────── page ──▶ HTML ◀┘
//! ```
//!
//! Every figure is in a table; a curve is drawn wherever two figures or more differ in one number of their case alone.

mod case;
mod chart;
mod curves;
mod figure;
mod page;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A line is no figure; lines count from 1.
    #[error("{input}:{line}: {said}; a report is made of lines that a bench printed with --json")]
    Line {
        /// The file, or `standard input`.
        input: String,
        /// Which line of it.
        line: usize,
        /// What is wrong with it.
        said: String,
    },
    /// There were no lines at all.
    #[error("no figure in {0}")]
    Empty(String),
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    Os {
        /// The file, or `standard input`.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// Writes the page of all figures in `inputs` to `output`; `-`, or no input, is standard input. Returns how many
/// figures and how many charts it has.
///
/// # Errors
/// [`ReportError`]; nothing is written then.
pub fn write(inputs: &[PathBuf], output: &Path) -> Result<(usize, usize), ReportError> {
    let mut figures = Vec::new();
    let standard = [PathBuf::from("-")];
    let inputs = if inputs.is_empty() { &standard } else { inputs };
    for input in inputs {
        let name = if input == Path::new("-") { "standard input".into() } else { input.display().to_string() };
        let refused = |source| ReportError::Os { what: name.clone(), source };
        let reader: Box<dyn BufRead> = if input == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(input).map_err(refused)?))
        };
        figures.extend(figure::read(&name, reader)?);
    }
    if figures.is_empty() {
        let names: Vec<_> = inputs.iter().map(|input| input.display().to_string()).collect();
        return Err(ReportError::Empty(names.join(", ")));
    }
    let charts = curves::charts(&figures);
    fs::write(output, page::page(&figures, &charts))
        .map_err(|source| ReportError::Os { what: output.display().to_string(), source })?;
    Ok((figures.len(), charts.len()))
}
