//! Links between namespaces, and how they are set up.

use std::{collections::HashSet, fs, net::IpAddr, process::Command, time::Duration};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::{LabError, Namespace, process::wait_until, run};

/// How long the kernel may take to start a thread.
const THREAD_LIMIT: Duration = Duration::from_secs(5);

/// One end of a link: an interface in a namespace.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Its name there.
    pub name: &'a str,
}

/// Makes a veth pair between two namespaces, both ends up with this MTU and all offloads off.
///
/// AF_XDP sees frames as the sender left them: with offloads on, unfinished checksums and 64 KiB segments.
///
/// # Errors
/// [`LabError::Refused`] with what `ip` or `ethtool` said.
pub fn veth(one: Link, other: Link, mtu: u16) -> Result<(), LabError> {
    run(Command::new("ip").args(["link", "add", one.name, "netns", one.namespace.name(), "type", "veth"]).args([
        "peer",
        "name",
        other.name,
        "netns",
        other.namespace.name(),
    ]))?;
    for end in [one, other] {
        end.namespace.ip(&format!("link set {} mtu {mtu} up", end.name))?;
        end.offloads_off()?;
    }
    Ok(())
}

impl Link<'_> {
    /// Gives the interface an address, usable at once.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ip` said.
    pub fn address(&self, address: IpAddr, length: u8) -> Result<(), LabError> {
        // Without detection of duplicates an IPv6 address is tentative yet for a moment, and cannot be bound; with this it
        // never is.
        let flag = if address.is_ipv6() { "nodad" } else { "" };
        self.namespace.ip(&format!("address add {address}/{length} dev {} {flag}", self.name)).map(drop)
    }

    /// Sets the interface's MAC address.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ip` said.
    pub fn mac(&self, address: &str) -> Result<(), LabError> {
        self.namespace.ip(&format!("link set {} address {address}", self.name)).map(drop)
    }

    fn offloads_off(&self) -> Result<(), LabError> {
        let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        run(self.namespace.command("ethtool").args(["-K", self.name]).args(off)).map(drop)
    }

    /// Makes the interface receive by NAPI, which lets its peer send redirected frames; of veth, GRO does it.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ethtool` said.
    pub fn receive_by_napi(&self) -> Result<(), LabError> {
        run(self.namespace.command("ethtool").args(["-K", self.name, "gro", "on"])).map(drop)
    }

    /// Gives what the interface receives to a kernel thread of its own on `core` (threaded NAPI), and returns the
    /// thread's number. The thread stays as long as the interface, which must receive by NAPI.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what the kernel said, [`LabError::Late`] if no thread appears.
    pub fn receive_on(&self, core: usize) -> Result<u32, LabError> {
        let before: HashSet<u32> = self.napi_threads().collect();
        let enable = format!("echo 1 > /sys/class/net/{}/threaded", self.name);
        run(self.namespace.command("sh").args(["-c", &enable]))?;
        let thread = wait_until("NAPI thread", THREAD_LIMIT, || {
            Ok(self.napi_threads().find(|thread| !before.contains(thread)))
        })?;
        let mut cores = CpuSet::new();
        cores
            .set(core)
            .and_then(|()| sched_setaffinity(Pid::from_raw(thread.cast_signed()), &cores))
            .map_err(|error| LabError::os("pinning a NAPI thread")(error.into()))?;
        Ok(thread)
    }

    /// The kernel's threads for interfaces of this name, in any namespace.
    fn napi_threads(&self) -> impl Iterator<Item = u32> {
        let start = format!("napi/{}-", self.name);
        let threads = fs::read_dir("/proc").into_iter().flatten().flatten();
        threads.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(move |thread: &u32| {
            fs::read_to_string(format!("/proc/{thread}/comm")).is_ok_and(|name| name.starts_with(&start))
        })
    }

    /// Whether an XDP program is attached, by `ip link`.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ip` said.
    pub fn has_xdp(&self) -> Result<bool, LabError> {
        Ok(self.namespace.ip(&format!("link show dev {}", self.name))?.contains("xdp"))
    }
}
