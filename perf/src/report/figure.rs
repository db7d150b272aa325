//! One figure as a bench printed it: the reading side of [`crate::bench::Row`].

use std::io::BufRead;

use serde::Deserialize;

use super::ReportError;

/// A line of `--json`. What it has beyond these keys is not looked at.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Figure {
    pub(super) bench: String,
    pub(super) case: String,
    pub(super) subject: String,
    /// Absent (`null`) where nothing could be measured.
    pub(super) value: Option<f64>,
    pub(super) unit: String,
    #[serde(default)]
    pub(super) reference: Option<String>,
    #[serde(default)]
    pub(super) ratio: Option<f64>,
    #[serde(flatten)]
    pub(super) setting: Setting,
}

/// Where and how it was measured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Setting {
    #[serde(default)]
    pub(super) machine: String,
    #[serde(default)]
    pub(super) kernel: String,
    #[serde(default)]
    pub(super) mode: String,
}

/// All figures of `lines`; `input` names them in errors. Empty lines are no figures.
///
/// # Errors
/// [`ReportError::Line`] at the first line that is none, [`ReportError::Os`] if reading fails.
pub(super) fn read(input: &str, lines: impl BufRead) -> Result<Vec<Figure>, ReportError> {
    let mut figures = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let line = line.map_err(|source| ReportError::Os { what: input.into(), source })?;
        if line.trim().is_empty() {
            continue;
        }
        let figure = serde_json::from_str(&line);
        let said = |error: serde_json::Error| ReportError::Line {
            input: input.into(),
            line: index + 1,
            said: position_of_line_only(&error),
        };
        figures.push(figure.map_err(said)?);
    }
    Ok(figures)
}

/// The parser counts lines too, but has always seen only one.
fn position_of_line_only(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let what = said.split(" at line ").next().unwrap_or(&said);
    if error.column() == 0 { what.to_owned() } else { format!("{what} at column {}", error.column()) }
}

/// Different settings in the order they first appear.
pub(super) fn settings(figures: &[Figure]) -> Vec<&Setting> {
    let mut settings: Vec<&Setting> = Vec::new();
    for figure in figures {
        if !settings.contains(&&figure.setting) {
            settings.push(&figure.setting);
        }
    }
    settings
}
