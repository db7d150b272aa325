//! Network namespaces of a test's own, removed with it whatever becomes of the test.
#![allow(dead_code, reason = "each test program has its part of it")]

use std::{
    fs::File,
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    unistd::geteuid,
};

/// Namespaces by the role they play, each with its loopback up.
pub(crate) struct Namespaces {
    name: String,
    roles: Vec<&'static str>,
}

impl Namespaces {
    /// Makes them; without root it says so and gives none.
    pub(crate) fn new(prefix: &str, roles: &[&'static str]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !geteuid().is_root() {
            println!("SKIP: network namespaces need root");
            return None;
        }
        let name = format!("{prefix}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let all = Self { name, roles: roles.to_vec() };
        for role in roles {
            ip(&format!("netns add {}", all.of(role)));
            all.ip(role, "link set lo up");
        }
        Some(all)
    }

    /// What all of them are called together.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The namespace of a role, by its name.
    pub(crate) fn of(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }

    /// Runs `ip` in one, and returns what it printed.
    pub(crate) fn ip(&self, role: &str, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.of(role)))
    }

    /// Runs the lines of an `ip` batch in one.
    pub(crate) fn batch(&self, role: &str, lines: &str) {
        let arguments = ["-n", &self.of(role), "-batch", "-"];
        let mut child = Command::new("ip").args(arguments).stdin(Stdio::piped()).spawn().expect("ip");
        child.stdin.take().unwrap().write_all(lines.as_bytes()).expect("write to ip");
        assert!(child.wait().expect("ip").success());
    }

    /// Does `work` in one: a thread of its own enters it, and what it opens there stays there.
    pub(crate) fn inside<T: Send>(&self, role: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.of(role));
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                setns(File::open(path).expect("namespace"), CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                work()
            });
            entered.join().expect("thread")
        })
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for role in &self.roles {
            // No assertion: this runs while a failed one unwinds.
            let _ = Command::new("ip").args(["netns", "del", &self.of(role)]).status();
        }
    }
}

/// Runs `ip`, and returns what it printed.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
