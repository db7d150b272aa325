//! TUN devices: the kernel's end of an ALT tunnel, so that kernel TCP (BGP) and ICMP run over it.

use std::{io, net::IpAddr, path::Path};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::{explain, interface};

/// A TUN device without packet information: each read and write is one IP packet. It vanishes with the last descriptor,
/// so a crash leaves nothing.
pub struct Tun {
    device: SyncDevice,
    name: String,
    index: u32,
}

impl Tun {
    /// Creates the device `name`, gives it the MTU (octets) and the addresses with their prefix lengths, and brings it
    /// up.
    ///
    /// # Errors
    /// Texts that say what to do: no `/dev/net/tun`, missing privilege, name in use, what the kernel refused.
    pub fn open(name: &str, mtu: u16, addresses: &[(IpAddr, u8)]) -> io::Result<Self> {
        let tried = || format!("create TUN device {name}");
        let device = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L3)
            .packet_information(false)
            .enable(false) // brought up below, after the MTU
            .build_sync()
            .map_err(|error| explain(&error, &tried(), help(&error)))?;
        device.set_nonblocking(true)?;
        let index = device.if_index().map_err(|error| explain(&error, &tried(), ""))?;
        interface::bring_up(index, mtu)?;
        for (address, length) in addresses {
            interface::add_address(index, *address, *length)?;
        }
        Ok(Self { device, name: name.to_owned(), index })
    }

    /// Interface name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Interface index.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Changes the MTU, octets.
    ///
    /// # Errors
    /// Those of the kernel, with what was tried.
    pub fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        interface::bring_up(self.index, mtu)
    }

    /// Reads one packet the kernel sends into the tunnel and returns its length, octets.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; those of the read call.
    pub fn receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        self.device.recv(packet)
    }

    /// Hands the kernel a packet as if it came out of the tunnel.
    ///
    /// # Errors
    /// `InvalidInput` if this is no IP packet; `WouldBlock` if the kernel takes no more; those of the write call.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.device.send(packet).map(drop)
    }
}

/// Smallest MTU of a tunnel, octets: what IPv6 needs (RFC 8200 §5). Where the path carries less, outer packets are fragmented.
const MTU_MIN: u16 = 1280;

/// Largest packet a tunnel carries when the path to its far end carries `path` octets: less outer IP header, GRE header, and
/// four octets each for key and checksum (RFC 2784 §2, RFC 2890 §2).
#[must_use]
pub const fn tunnel_mtu(path: u16, outer: IpAddr, key: bool, checksum: bool) -> u16 {
    let ip = if outer.is_ipv4() { 20 } else { 40 };
    let mtu = path.saturating_sub(ip + 4 + 4 * key as u16 + 4 * checksum as u16);
    if mtu < MTU_MIN { MTU_MIN } else { mtu }
}

fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "load the kernel module tun, or make /dev/net/tun (character device 10, 200) visible"
        }
        io::ErrorKind::PermissionDenied if !Path::new("/dev/net/tun").exists() => {
            "/dev/net/tun is missing and could not be made: load the kernel module tun"
        }
        io::ErrorKind::PermissionDenied => "run as root or with CAP_NET_ADMIN",
        io::ErrorKind::ResourceBusy => "another process has this device open: stop it or choose another tunnel name",
        io::ErrorKind::InvalidInput => {
            "an interface of this name exists that is no TUN device, or the name is not allowed"
        }
        _ => "",
    }
}

event_source!(Tun, device);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtu_leaves_room_for_every_header() {
        let v4 = "240.0.254.10".parse().unwrap();
        let v6 = "2001:db8::1".parse().unwrap();
        let rows = [
            // path, outer, key, checksum, MTU
            (1500, v4, false, false, 1476),
            (1500, v4, true, false, 1472),
            (1500, v4, true, true, 1468),
            (1500, v6, false, false, 1456),
            (1500, v6, true, true, 1448),
            (1400, v4, false, false, 1376),
            (9000, v4, false, false, 8976),
            (1300, v6, false, false, 1280), // fragmented outside
            (68, v4, false, false, 1280),
        ];
        for (path, outer, key, checksum, mtu) in rows {
            assert_eq!(tunnel_mtu(path, outer, key, checksum), mtu, "{path} {outer} key {key} checksum {checksum}");
        }
    }
}
