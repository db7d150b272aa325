//! Compiles the steering program `bpf/steer.bpf.c` to BPF with clang.

use std::{env, io, path::PathBuf, process::Command};

const SOURCE: &str = "bpf/steer.bpf.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("steer.bpf.o");

    // -g makes the BTF that describes the maps; the relative path and the compilation directory keep the machine that
    // builds out of it.
    let status = Command::new(&clang)
        .args(["-target", "bpf", "-O2", "-g", "-fdebug-compilation-dir=.", "-Wall", "-Wextra", "-Werror", "-c", SOURCE])
        .arg("-o")
        .arg(&object)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{clang} did not compile {SOURCE} ({status}); it needs the BPF target: clang 11 or later"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => panic!(
            "{SOURCE} is compiled by clang, and '{clang}' was not found: install the package 'clang' \
             (Debian and Ubuntu: apt-get install clang), or name the compiler in the environment variable CLANG"
        ),
        Err(error) => panic!("running {clang} for {SOURCE}: {error}"),
    }
}
