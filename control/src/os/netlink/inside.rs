//! Which prefixes the kernel routes out of an interface.
//!
//! Asked anew each time, on a socket of its own: the kernel leaves all other routes out of the dump, so even beside a full
//! table the answer is short.

use std::{io, time::Duration};

use altitude_dataplane::mapping::Prefix;
use netlink_packet_core::{NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    libc,
    sys::{
        socket::{setsockopt, sockopt},
        time::{TimeVal, TimeValLike},
    },
};

use super::{decode, send};
use crate::os::explain;

/// Longest wait for one datagram of an answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// The kernel writes at most 32 KiB into one datagram of a dump.
const DATAGRAM: usize = 64 << 10;

/// The prefixes that unicast routes lead to by the interface of this index, of both families; not those whose link is
/// down.
///
/// # Errors
/// Those of the socket calls, `WouldBlock` if the kernel does not answer, and what it answers.
pub fn prefixes_by(interface: u32) -> io::Result<Vec<Prefix>> {
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(|error| explain(&error, "open a netlink socket", ""))?;
    // Where the kernel cannot choose, all routes come and the others are left out below.
    let _ = socket.set_netlink_get_strict_chk(true);
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PATIENCE.as_millis() as i64))?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut prefixes = Vec::new();
    for (sequence, family) in [(1, AddressFamily::Inet), (2, AddressFamily::Inet6)] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.attributes = vec![RouteAttribute::Oif(interface)];
        send(&socket, sequence, RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        while read(&socket, sequence, interface, &mut prefixes)? {}
    }
    Ok(prefixes)
}

/// Takes in one datagram; false if it was the dump's last.
fn read(socket: &Socket, sequence: u32, interface: u32, prefixes: &mut Vec<Prefix>) -> io::Result<bool> {
    let mut buffer = vec![0; DATAGRAM];
    let (length, _) = loop {
        match socket.recv_from(&mut &mut buffer[..], 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received?,
        }
    };
    let mut rest = &buffer[..length];
    while let Ok(message) = NetlinkBuffer::new_checked(rest) {
        let length = message.length() as usize;
        let octets = &rest[..length];
        if message.sequence_number() == sequence {
            match message.message_type() {
                NLMSG_DONE => return Ok(false),
                NLMSG_ERROR => {
                    let error = decode::error(octets);
                    // No such family here: there are no routes.
                    let none = [libc::EAFNOSUPPORT, libc::EOPNOTSUPP];
                    let none = error.raw_os_error().is_some_and(|code| none.contains(&code));
                    return if none { Ok(false) } else { Err(error) };
                }
                decode::RTM_NEWROUTE => prefixes.extend(prefix(octets, interface)),
                _ => {}
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// The destination of a route that leads out by the interface.
fn prefix(octets: &[u8], interface: u32) -> Option<Prefix> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(octets).ok()?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) = message.payload else { return None };
    let header = &route.header;
    if header.kind != RouteType::Unicast
        || header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown | RouteFlags::Cloned)
    {
        return None;
    }
    let mut destination = match header.address_family {
        AddressFamily::Inet => [0; 4].into(),
        AddressFamily::Inet6 => [0; 16].into(),
        _ => return None,
    };
    let (mut leads, mut named) = (false, false);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = (*address).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => destination = (*address).into(),
            RouteAttribute::Oif(index) => {
                named = true;
                leads |= *index == interface;
            }
            RouteAttribute::MultiPath(hops) => {
                named = true;
                let down = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
                leads |= hops.iter().any(|hop| hop.interface_index == interface && !hop.flags.intersects(down));
            }
            _ => {}
        }
    }
    // A route by a next-hop object alone names no interface; the kernel chose it by the one asked for.
    (leads || !named).then(|| Prefix::new(destination, header.destination_prefix_length).ok()).flatten()
}
