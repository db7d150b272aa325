//! Mistakes in a configuration, each with its place, what is wrong and what to do.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::Place;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `FILE:LINE`, `FILE`, the flag, or `configuration`.
    pub place: String,
    /// Line of the file, for sorting; `None` for flags and for the whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.what, self.remedy)
    }
}

/// All mistakes of a configuration, one a line, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let what = match error.kind() {
            io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        let remedy = "give the path of a readable TOML file".to_owned();
        Self(vec![Problem { place: path.display().to_string(), line: None, what, remedy }])
    }
}

/// A mistake whose place is not yet a line.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) place: Place,
    pub(super) what: String,
    pub(super) remedy: String,
}

/// The text that places point into.
pub(super) struct Source<'a> {
    file: Option<(PathBuf, &'a str)>,
}

impl<'a> Source<'a> {
    pub(super) const fn flags_only() -> Self {
        Self { file: None }
    }

    pub(super) fn file(path: &Path, text: &'a str) -> Self {
        Self { file: Some((path.to_owned(), text)) }
    }

    /// The folder of the file; where paths in it start.
    pub(super) fn folder(&self) -> &Path {
        self.file.as_ref().and_then(|(path, _)| path.parent()).unwrap_or(Path::new(""))
    }

    /// Findings in the order of the file, flags and the whole last.
    pub(super) fn locate(&self, findings: Vec<Finding>) -> Problems {
        let mut problems: Vec<Problem> = findings.into_iter().map(|finding| self.problem(finding)).collect();
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        problems.dedup();
        Problems(problems)
    }

    fn problem(&self, finding: Finding) -> Problem {
        let Finding { place, what, remedy } = finding;
        let (line, place) = match (place, &self.file) {
            (Place::File { offset }, Some((path, text))) => {
                let line = 1 + text.as_bytes().iter().take(offset).filter(|&&octet| octet == b'\n').count();
                (Some(line), format!("{}:{line}", path.display()))
            }
            (Place::Flag(flag), _) => (None, flag),
            (Place::Whole, Some((path, _))) => (None, path.display().to_string()),
            (Place::Whole | Place::File { .. }, None) => (None, "configuration".to_owned()),
        };
        Problem { place, line, what, remedy }
    }
}
