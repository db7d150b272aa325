//! Keeps the house in order: who may import whom, where `unsafe` may live, and how long files and functions get.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of a source file, tests not counted.
const FILE_LINES: usize = 500;
/// Lines of a function, from its signature to its closing brace.
const FUNCTION_LINES: usize = 70;
/// Folders whose files may hold `unsafe`.
const UNSAFE_FOLDERS: [&str; 3] = ["dataplane/src/cache/", "dataplane/src/port/xsk/", "ffi/"];

/// (files that start with this, must not contain this, because)
const ARROWS: [(&str, &str, &str); 9] = [
    ("dataplane/", "altitude_control", "the dataplane never imports the control plane"),
    ("dataplane/", "altitude_perf", "nobody imports perf"),
    ("control/src/", "altitude_perf", "nobody imports perf"),
    ("control/src/", "altitude_ffi", "nobody imports ffi"),
    ("dataplane/src/wire/", "crate::cache", "wire knows octets only"),
    ("dataplane/src/wire/", "crate::port", "wire knows octets only"),
    ("dataplane/src/mapping/", "crate::cache", "mapping is below the cache"),
    ("dataplane/src/mapping/", "crate::port", "mapping is below the ports"),
    ("dataplane/src/cache/", "crate::port", "the cache knows no port"),
];

/// Machines are values: nothing of the world inside.
const PURE: [&str; 16] = [
    "control/src/resolver",
    "control/src/responder",
    "control/src/lisp_sec",
    "control/src/map_cache",
    "control/src/map_resolver",
    "control/src/map_server",
    "control/src/nat",
    "control/src/prober",
    "control/src/publisher",
    "control/src/pubsub",
    "control/src/registrar",
    "control/src/smr",
    "control/src/underlay",
    "control/src/alt/",
    "control/src/wire/",
    "dataplane/src/wire/",
];
const WORLD: [&str; 6] =
    ["Instant::now", "SystemTime::now", "std::net::UdpSocket", "getrandom", "thread::spawn", "mio::"];

struct Source {
    /// From the top of the repository, with forward slashes.
    name: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut found = Vec::new();
    for folder in ["dataplane", "control", "ffi", "perf"] {
        walk(&top.join(folder), &mut found);
    }
    found
        .into_iter()
        .map(|path| Source {
            name: path.strip_prefix(top).expect("below the top").to_string_lossy().into_owned(),
            text: fs::read_to_string(&path).expect("a readable source"),
        })
        .collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                walk(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs") || name.contains("/fuzz/") || name.ends_with("_tests.rs")
}

/// The part of a file before its inline tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

fn assert_none(what: &str, mut found: Vec<String>) {
    found.sort();
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn imports_follow_the_arrows() {
    let mut found = Vec::new();
    for source in sources() {
        for (folder, needle, because) in ARROWS {
            if source.name.starts_with(folder) && !is_test(&source.name) && source.text.contains(needle) {
                found.push(format!("{}: {needle} ({because})", source.name));
            }
        }
    }
    assert_none("imports against the arrows of ARCHITECTURE.md", found);
}

#[test]
fn machines_are_pure() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| PURE.iter().any(|folder| source.name.starts_with(folder))) {
        let code = without_tests(&source.text);
        for needle in WORLD.iter().filter(|needle| !is_test(&source.name) && code.contains(**needle)) {
            found.push(format!("{}: {needle}", source.name));
        }
    }
    assert_none("machines that reach for the world", found);
}

#[test]
fn unsafe_lives_where_it_may() {
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"];
    let mut found = Vec::new();
    for source in sources() {
        let allowed = UNSAFE_FOLDERS.iter().any(|folder| source.name.starts_with(folder));
        if !allowed && !source.name.ends_with("tests/tidy.rs") && words.iter().any(|word| source.text.contains(word)) {
            found.push(source.name);
        }
    }
    assert_none("unsafe outside its folders", found);
}

#[test]
fn files_stay_short() {
    let found = sources()
        .iter()
        .filter(|source| !is_test(&source.name))
        .map(|source| (without_tests(&source.text).lines().count(), &source.name))
        .filter(|(lines, _)| *lines > FILE_LINES)
        .map(|(lines, name)| format!("{name}: {lines} lines"))
        .collect();
    assert_none(&format!("files above {FILE_LINES} lines"), found);
}

#[test]
fn functions_stay_short() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !is_test(&source.name)) {
        let lines: Vec<&str> = without_tests(&source.text).lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let body = line.trim_start();
            let indent = line.len() - body.len();
            let is_function = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "const fn ", "pub const fn "]
                .iter()
                .any(|start| body.starts_with(start));
            if !is_function {
                continue;
            }
            // rustfmt closes a function at the indentation of its signature.
            let closing = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| **line == closing).map_or(0, |end| end + 1);
            if length > FUNCTION_LINES {
                found.push(format!("{}:{}: {length} lines", source.name, start + 1));
            }
        }
    }
    assert_none(&format!("functions above {FUNCTION_LINES} lines"), found);
}
