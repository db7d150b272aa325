//! The header that is kept is the one that the sources make, and compilers take it without a warning.

use std::{env, fs, path::Path, process::Command};

const WARNINGS: [&str; 6] = ["-Wall", "-Wextra", "-pedantic", "-Wredundant-decls", "-Werror", "-fsyntax-only"];

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generated() -> String {
    let config = cbindgen::Config::from_file(crate_folder().join("cbindgen.toml")).expect("a configuration");
    // From here it finds all modules: each given by itself would be in the header a second time.
    let root = crate_folder().join("src/lib.rs");
    let bindings = cbindgen::Builder::new().with_config(config).with_src(root).generate().expect("a header");
    let mut header = Vec::new();
    bindings.write(&mut header);
    String::from_utf8(header).expect("text")
}

#[test]
fn the_header_is_what_the_sources_make() {
    let path = crate_folder().join("include/altitude.h");
    let fresh = generated();
    if env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::write(&path, &fresh).expect("a header that can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let place = kept.lines().zip(fresh.lines()).position(|(kept, fresh)| kept != fresh);
    assert!(
        kept == fresh,
        "include/altitude.h is not what ffi/src makes, first at line {}: \
         run `UPDATE=1 cargo test --package altitude-ffi --test header`",
        place.map_or_else(|| kept.lines().count().min(fresh.lines().count()) + 1, |line| line + 1)
    );
}

/// Whether `source` compiles without a warning; false, and said so, if the machine has no such compiler.
fn compiles(compiler: &str, options: &[&str], source: &Path) -> bool {
    if Command::new(compiler).arg("--version").output().is_err() {
        println!("SKIP: no {compiler} on this machine");
        return false;
    }
    let output = Command::new(compiler)
        .args(WARNINGS)
        .args(options)
        .arg(source)
        .arg("-I")
        .arg(crate_folder().join("include"))
        .output()
        .expect("a compiler that runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {options:?}:\n{said}");
    true
}

#[test]
fn the_header_is_clean_c11() {
    let alone = crate_folder().join("tests/header_only.c");
    if compiles("cc", &["-Wpadded", "-x", "c", "-std=c11"], &alone) {
        compiles("cc", &["-Wpadded", "-x", "c", "-std=c17"], &alone);
    }
}

#[test]
fn the_header_is_clean_cxx() {
    let alone = crate_folder().join("tests/header_only.c");
    if compiles("c++", &["-Wpadded", "-x", "c++", "-std=c++11"], &alone) {
        compiles("c++", &["-Wpadded", "-x", "c++", "-std=c++20"], &alone);
    }
}

#[test]
fn the_readmes_program_compiles() {
    let readme = fs::read_to_string(crate_folder().join("README.md")).expect("a README");
    let (_, rest) = readme.split_once("```c\n").expect("a program");
    let (program, _) = rest.split_once("```").expect("its end");
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("altitude-readme.c");
    fs::write(&source, program).expect("a folder that can be written");
    compiles("cc", &["-std=c11"], &source);
}
