//! The largest IP packet that the kernel would send to an address without fragments.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::explain;

/// Any port: nothing is sent.
const PORT: u16 = 4342;

/// The MTU of the path from `local` to `remote`, octets: of the route where it names one, else of the interface, or
/// what has been learned of the path (RFC 1191 §5).
///
/// # Errors
/// Those of the socket calls: no route, not an address of this machine.
pub fn path_mtu(local: IpAddr, remote: IpAddr) -> io::Result<u16> {
    ask(local, remote).map_err(|error| explain(&error, &format!("ask for the path MTU from {local} to {remote}"), ""))
}

fn ask(local: IpAddr, remote: IpAddr) -> io::Result<u16> {
    let local = SocketAddr::new(local, 0);
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&local.into())?;
    socket.connect(&SocketAddr::new(remote, PORT).into())?;
    let mtu = match remote {
        IpAddr::V4(_) => rustix::net::sockopt::ip_mtu(&socket)?,
        IpAddr::V6(_) => rustix::net::sockopt::ipv6_mtu(&socket)?,
    };
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}
