//! Links between namespaces, and how they are set up.

use std::{net::IpAddr, process::Command};

use super::{LabError, Namespace, run};

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
    /// Gives the interface an address.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ip` said.
    pub fn address(&self, address: IpAddr, length: u8) -> Result<(), LabError> {
        self.namespace.ip(&format!("address add {address}/{length} dev {}", self.name)).map(drop)
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

    /// Whether an XDP program is attached, by `ip link`.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ip` said.
    pub fn has_xdp(&self) -> Result<bool, LabError> {
        Ok(self.namespace.ip(&format!("link show dev {}", self.name))?.contains("xdp"))
    }
}
