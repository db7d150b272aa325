//! DPDK's testpmd on veth: its AF_XDP driver, or where that one is missing its packet-socket driver; it swaps
//! link-layer addresses and polls without end.

use super::{START_LIMIT, Setup};
use crate::{
    bench::veth::Cable,
    lab::{LabError, Process},
};

pub(super) const PROGRAM: &str = "dpdk-testpmd";
/// Best first.
const DRIVERS: [&str; 2] = ["net_af_xdp", "net_af_packet"];

pub(super) fn start(setup: &Setup) -> Result<Process, LabError> {
    if setup.cores.generator == setup.cores.device {
        return Err(LabError::Wrong("needs two cores".into()));
    }
    start_with(DRIVERS[0], setup).or_else(|why| start_with(DRIVERS[1], setup).map_err(|_| why))
}

fn start_with(driver: &str, setup: &Setup) -> Result<Process, LabError> {
    let cores = setup.cores;
    let mut command = setup.cable.device.command(PROGRAM);
    command.args(["-l", &format!("{},{}", cores.generator, cores.device)]);
    // The main thread only waits; the other one forwards.
    command.args(["--main-lcore", &cores.generator.to_string()]);
    command.args(["--no-huge", "-m", "256", "--no-pci", "--no-telemetry"]);
    command.args(["--file-prefix", &format!("altitude{}", std::process::id())]);
    for (index, interface) in [Cable::NEAR, Cable::FAR].into_iter().enumerate() {
        command.args(["--vdev", &format!("{driver}{index},iface={interface}")]);
    }
    // Statistics are asked for because it ends at once if it can neither print them nor read a command.
    command.args(["--", "--forward-mode=macswap", "--auto-start", "--stats-period=3600"]);
    command.args(["--total-num-mbufs=16384", "--no-mlockall"]);
    let mut process = Process::start(PROGRAM, &mut command, setup.folder)?;
    process.wait_line(START_LIMIT, |line| line.contains("forwards packets on"))?;
    Ok(process)
}
