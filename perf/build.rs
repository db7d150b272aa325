//! Compiles the bench's traffic programs `bpf/traffic.bpf.c` to BPF with clang, as the dataplane's build script does
//! with its steering program.

use std::{env, path::PathBuf, process::Command};

const SOURCE: &str = "bpf/traffic.bpf.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("traffic.bpf.o");
    let status = Command::new(&clang)
        .args(["-target", "bpf", "-O2", "-g", "-fdebug-compilation-dir=.", "-Wall", "-Wextra", "-Werror"])
        .args(["-Wno-unused-parameter", "-c", SOURCE, "-o"])
        .arg(&object)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{clang} did not compile {SOURCE} ({status}); it needs the BPF target: clang 11 or later"),
        Err(error) => panic!("{SOURCE} is compiled by clang (install the package clang, or set CLANG): {error}"),
    }
}
