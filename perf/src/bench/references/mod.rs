//! Devices under test: Altitude's worker, and what it is compared with.
//!
//! Every device forwards from the interface `near` of its namespace to `far`; all have the same mappings or routes.

mod kernel;
mod oor;
mod testpmd;

use std::{path::Path, time::Duration};

use super::{
    Direction, Forwarder, Traffic,
    meter::{self, Meter},
    veth::{Cable, Cores},
};
use crate::lab::{LabError, Process};

/// How long a program may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Altitude's worker.
    Altitude,
    /// An AF_XDP loop on the same ports that only swaps link-layer addresses.
    Forwarder,
    /// The kernel's IP forwarding.
    Kernel,
    /// The kernel's VXLAN encapsulation, routed into.
    Vxlan,
    /// openoverlayrouter: LISP by a TUN device and a raw socket, one thread.
    Oor,
    /// DPDK's testpmd on its AF_XDP driver, swapping link-layer addresses.
    Testpmd,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Altitude, Self::Forwarder, Self::Kernel, Self::Vxlan, Self::Oor, Self::Testpmd];

    /// As in the rows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Altitude => "altitude",
            Self::Forwarder => "forwarder",
            Self::Kernel => "kernel",
            Self::Vxlan => "vxlan",
            Self::Oor => "oor",
            Self::Testpmd => "testpmd",
        }
    }

    /// Whether it is installed here.
    ///
    /// # Errors
    /// A line that says what is missing.
    pub fn installed(self) -> Result<(), String> {
        let program = match self {
            Self::Oor => oor::PROGRAM,
            Self::Testpmd => testpmd::PROGRAM,
            Self::Altitude | Self::Forwarder | Self::Kernel | Self::Vxlan => return Ok(()),
        };
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
        if found { Ok(()) } else { Err(format!("`{program}` is not installed")) }
    }

    /// Whether its figures hold its receiving too: see [`super::meter`].
    #[must_use]
    pub const fn receives_itself(self) -> bool {
        matches!(self, Self::Kernel | Self::Vxlan)
    }
}

/// What a device is started with.
pub(crate) struct Setup<'a> {
    pub(crate) cable: &'a Cable,
    pub(crate) traffic: &'a Traffic,
    /// For files; the logs are here.
    pub(crate) folder: &'a Path,
    /// The program `altitude-perf`.
    pub(crate) perf: &'a Path,
    pub(crate) cores: Cores,
}

/// A device that forwards until it is dropped.
pub(crate) struct Device {
    meters: Vec<Meter>,
    process: Option<Process>,
}

impl Device {
    /// Starts `subject` and waits until it takes frames.
    pub(crate) fn start(subject: Subject, setup: &Setup) -> Result<Self, LabError> {
        match subject {
            Subject::Altitude => Self::program(inside(Forwarder::Altitude, setup)?),
            Subject::Forwarder => Self::program(inside(Forwarder::Swap, setup)?),
            Subject::Oor => Self::program(oor::start(setup)?),
            Subject::Testpmd => Self::program(testpmd::start(setup)?),
            Subject::Kernel => Ok(Self { meters: vec![kernel::forwarding(setup)?], process: None }),
            Subject::Vxlan => Ok(Self { meters: vec![kernel::vxlan(setup)?], process: None }),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "reads as the other ways do")]
    fn program(process: Process) -> Result<Self, LabError> {
        Ok(Self { meters: vec![Meter::Process(process.id())], process: Some(process) })
    }

    /// Counts the time of this thread of the kernel too.
    pub(crate) fn with_thread(mut self, thread: u32) -> Self {
        self.meters.push(Meter::Thread(thread));
        self
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Result<Duration, LabError> {
        meter::read_all(&self.meters)
    }

    /// Ends a program; the kernel's paths stay, because nothing else uses their cable.
    pub(crate) fn stop(mut self) -> Result<(), LabError> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let status = process.stop()?;
        // Ours end by themselves when told; a leaked frame is a panic there.
        let ended = status.success() || std::os::unix::process::ExitStatusExt::signal(&status) == Some(15);
        if ended { Ok(()) } else { Err(LabError::Wrong(format!("the device ended with {status}: {}", process.output()))) }
    }
}

/// The AF_XDP devices: a process of this program.
fn inside(forwarder: Forwarder, setup: &Setup) -> Result<Process, LabError> {
    let (site, core) = match setup.traffic.direction {
        Direction::Encap => (Cable::NEAR, Cable::FAR),
        Direction::Decap => (Cable::FAR, Cable::NEAR),
    };
    let mut command = setup.cable.device.command(setup.perf);
    command.args(["inside", "device", "--forwarder", forwarder.name(), "--site", site, "--core", core]);
    command.args(["--families", &setup.traffic.families.name()]);
    let mut process = Process::start("device", &mut command, setup.folder)?;
    process.wait_line(START_LIMIT, |line| line == "ready")?;
    Ok(process)
}
