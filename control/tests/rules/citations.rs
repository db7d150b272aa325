//! The rules that tests cite.

use std::{fs, path::Path};

/// A rule that a test would fail for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Citation {
    /// As in `ITR-23`.
    pub(crate) rule: String,
    /// The function's name.
    pub(crate) test: String,
    /// From the top of the repository, with forward slashes.
    pub(crate) file: String,
}

/// All citations of the workspace, ordered by file and place.
pub(crate) fn all(top: &Path) -> Vec<Citation> {
    let mut found = Vec::new();
    for folder in ["control", "dataplane", "ffi", "perf"] {
        walk(top, &top.join(folder), &mut found);
    }
    found
}

fn walk(top: &Path, folder: &Path, found: &mut Vec<Citation>) {
    let entries = fs::read_dir(folder).expect("a readable folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(top).expect("below the top").to_string_lossy().into_owned();
        // This folder's own tests hold citations as examples.
        if path.is_dir() && !name.ends_with("/target") && name != "control/tests/rules" {
            walk(top, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(of(&name, &fs::read_to_string(&path).expect("a readable source")));
        }
    }
}

/// The citations of one source file, in macros too.
fn of(file: &str, text: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    let (mut doc, mut is_test) = (String::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            doc.push_str(words);
            doc.push(' ');
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]";
        } else {
            let function = line.split_once("fn ").map(|(_, rest)| rest.split(['(', '<']).next().unwrap_or(rest));
            if let Some(test) = function.filter(|_| is_test) {
                found.extend(cited(&doc).map(|rule| Citation {
                    rule: rule.into(),
                    test: test.into(),
                    file: file.into(),
                }));
            }
            doc.clear();
            is_test = false;
        }
    }
    found
}

/// The rules at the start of a doc comment: `ITR-23, ETR-16: …`.
fn cited(doc: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(doc.trim_start());
    std::iter::from_fn(move || {
        let (rule, after) = split_rule(rest?)?;
        rest = after.strip_prefix(',').map(str::trim_start);
        Some(rule)
    })
}

/// Splits capitals, a hyphen and a number off the front.
fn split_rule(text: &str) -> Option<(&str, &str)> {
    let letters = text.find(|c: char| !c.is_ascii_uppercase())?;
    let number = text[letters..].strip_prefix('-')?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let end = letters + 1 + digits;
    let ends = text[end..].chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '-');
    (letters > 0 && digits > 0 && ends).then(|| text.split_at(end))
}

#[test]
fn citations_are_the_first_words_above_a_test() {
    let text = r#"
/// ITR-1: not above a test.
fn helper() {}

/// ITR-23, ETR-16,
/// RCH-4: three.
#[test]
fn three() {}

macro_rules! stories {
    () => {
        /// MR-1, and MR-9 is not among the first words.
        #[test]
        #[cfg(unix)]
        fn one() {}
    };
}

#[test]
/// G-2.
pub(crate) fn after<T>() {}

/// Keeps ITR-3.
#[test]
fn none() {}

/// SHA-1-like words and SHA-2x are no rules.
#[test]
fn word() {}
"#;
    let found: Vec<_> = of("a.rs", text).into_iter().map(|Citation { rule, test, .. }| (rule, test)).collect();
    let wanted = [("ITR-23", "three"), ("ETR-16", "three"), ("RCH-4", "three"), ("MR-1", "one"), ("G-2", "after")];
    assert_eq!(found, wanted.map(|(rule, test)| (rule.to_owned(), test.to_owned())));
}
