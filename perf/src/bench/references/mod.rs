//! Devices under test: Altitude's worker, and what it is compared with.
//!
//! Every device forwards from the interface `near` of its namespace to `far`; all have the same mappings or routes.

mod kernel;
mod oor;
mod testpmd;

use std::{path::Path, time::Duration};

use super::{
    Direction, Forwarder, Tally, Traffic,
    device::Sockets,
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

    /// Whether its figures hold its receiving too: see `meter.rs`.
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
    /// Of the AF_XDP devices.
    pub(crate) sockets: Sockets,
}

/// A device that forwards until it is dropped.
pub(crate) struct Device {
    meters: Vec<Meter>,
    process: Option<Process>,
    /// Whether the process is of this program.
    ours: bool,
}

impl Device {
    /// Starts `subject` and waits until it takes frames.
    pub(crate) fn start(subject: Subject, setup: &Setup) -> Result<Self, LabError> {
        match subject {
            Subject::Altitude => inside(Forwarder::Altitude, setup).map(|process| Self::program(process, true)),
            Subject::Forwarder => inside(Forwarder::Swap, setup).map(|process| Self::program(process, true)),
            Subject::Oor => oor::start(setup).map(|process| Self::program(process, false)),
            Subject::Testpmd => testpmd::start(setup).map(|process| Self::program(process, false)),
            Subject::Kernel => kernel::forwarding(setup).map(Self::kernel),
            Subject::Vxlan => kernel::vxlan(setup).map(Self::kernel),
        }
    }

    fn program(process: Process, ours: bool) -> Self {
        Self { meters: vec![Meter::Process(process.id())], process: Some(process), ours }
    }

    fn kernel(meter: Meter) -> Self {
        Self { meters: vec![meter], process: None, ours: false }
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Result<Duration, LabError> {
        meter::read_all(&self.meters)
    }

    /// Ends a program; the kernel's paths stay, because nothing else uses their cable. Ours tell what they did.
    pub(crate) fn stop(mut self) -> Result<Option<Tally>, LabError> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.stop()?;
        if !self.ours {
            return Ok(None);
        }
        let output = process.output();
        // It ends by itself when told; a leaked frame is a panic.
        let tally = output.lines().last().and_then(|line| serde_json::from_str(line).ok()).filter(|_| status.success());
        tally.map(Some).ok_or_else(|| LabError::Wrong(format!("the device ended with {status}: {output}")))
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
    command.args(["--families", &setup.traffic.families.name(), "--prefixes", &setup.traffic.prefixes.to_string()]);
    command.args(setup.sockets.arguments());
    let mut process = Process::start("device", &mut command, setup.folder)?;
    process.wait_line(START_LIMIT, |line| line == "ready")?;
    Ok(process)
}
