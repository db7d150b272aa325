//! Configuration of an interface: addresses, MTU, up. Each call waits for the kernel's acknowledgement.

use std::{io, net::IpAddr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{explain, netlink};

/// Help for what only an administrator may do.
const PRIVILEGE: &str = "run as root or with CAP_NET_ADMIN";

/// Gives the interface an address; one it has already is no error. IPv6 addresses serve at once, without duplicate
/// address detection (RFC 4862 §5.4), which a tunnel cannot do.
///
/// # Errors
/// Those of the kernel: no such interface, missing privilege, IPv6 switched off.
pub fn add_address(index: u32, address: IpAddr, length: u8) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = netlink::family(address);
    message.header.index = index;
    message.header.prefix_len = length;
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    let tried = format!("add address {address}/{length} to interface {index}");
    request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE, &tried)
}

/// Sets the largest IP packet the interface carries, octets, and switches the interface on.
///
/// # Errors
/// Those of the kernel: no such interface, missing privilege, an MTU out of the driver's range.
pub fn bring_up(index: u32, mtu: u16) -> io::Result<()> {
    let mut message = up(index);
    message.attributes = vec![LinkAttribute::Mtu(u32::from(mtu))];
    let tried = format!("bring up interface {index} with MTU {mtu}");
    request(RouteNetlinkMessage::SetLink(message), 0, &tried)
}

/// Switches the interface on.
///
/// # Errors
/// Those of the kernel: no such interface, missing privilege.
pub fn switch_on(index: u32) -> io::Result<()> {
    request(RouteNetlinkMessage::SetLink(up(index)), 0, &format!("bring up interface {index}"))
}

fn up(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

pub(super) fn request(message: RouteNetlinkMessage, flags: u16, tried: &str) -> io::Result<()> {
    let help = |error: &io::Error| {
        let help = if error.kind() == io::ErrorKind::PermissionDenied { PRIVILEGE } else { "" };
        explain(error, tried, help)
    };
    exchange(message, flags).map_err(|error| help(&error))
}

fn exchange(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    netlink::send(&socket, 1, message, flags | NLM_F_ACK)?;
    let (octets, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&octets).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        NetlinkPayload::Error(_) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "netlink answered something else than an acknowledgement")),
    }
}
