//! One routing table of the kernel's, as [`KernelRib`](crate::alt::rib::kernel::KernelRib) reads it.
//!
//! One socket carries the dumps and all notifications that can take a route away: routes, links, addresses, next-hop
//! objects. The kernel queues both in the order of what happened, so a dump with the notifications around it never tells of
//! a route that is gone.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, NetlinkBuffer, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkFlags, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

use super::{decode, send};
use crate::{
    alt::rib::kernel::{Input, KernelRoute, Told, Way},
    os::explain,
};
use altitude_dataplane::mapping::Prefix;

/// `RTNLGRP_` numbers of linux/rtnetlink.h: link, IPv4 addresses and routes, the same of IPv6, next-hop objects.
const GROUPS: [u32; 6] = [1, 5, 7, 9, 11, 32];
/// Receive buffer asked of the kernel, octets: room for a burst of some ten thousand notifications.
const SOCKET_BUFFER: usize = 8 << 20;
/// The kernel writes at most 32 KiB into one datagram of a dump.
const DATAGRAM: usize = 64 << 10;

const RTM_DELADDR: u16 = 21;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_DELROUTE: u16 = 25;
const RTM_DELNEXTHOP: u16 = 105;

/// The socket.
#[derive(Debug)]
pub struct RouteTable {
    socket: Socket,
    /// Our port number: what the kernel sends in answer to us carries it.
    port: u32,
    table: u32,
    buffer: Vec<u8>,
    sequence: u32,
    dump: Option<Dump>,
    undecoded: u64,
}

/// A dump under way: one family after the other.
#[derive(Debug, Clone, Copy)]
struct Dump {
    family: AddressFamily,
    sequence: u32,
    whole: bool,
}

impl RouteTable {
    /// Opens the socket and joins the multicast groups, for the table of this number.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn open(table: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(|error| explain(&error, "open a netlink socket", ""))?;
        // Only CAP_NET_ADMIN may go beyond rmem_max; a smaller buffer merely means more dumps.
        if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER)?;
        }
        // Has the kernel dump this table alone; where it cannot, all tables come and the others are left out below.
        let _ = socket.set_netlink_get_strict_chk(true);
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        for group in GROUPS {
            match socket.add_membership(group) {
                // Kernels before 5.3 know no next-hop objects.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                joined => joined.map_err(|error| explain(&error, "join a netlink group", ""))?,
            }
        }
        let buffer = vec![0; DATAGRAM];
        Ok(Self { socket, port, table, buffer, sequence: 0, dump: None, undecoded: 0 })
    }

    /// Asks for a dump of the table. A second one is not to be asked for before [`Input::End`] or [`Input::Refused`] came.
    ///
    /// # Errors
    /// Those of the send call.
    pub fn dump(&mut self, inputs: &mut Vec<Input>) -> io::Result<()> {
        inputs.push(Input::Begin);
        self.ask(AddressFamily::Inet, true)
    }

    /// Messages that could not be decoded, and were skipped.
    #[must_use]
    pub const fn undecoded(&self) -> u64 {
        self.undecoded
    }

    /// Reads at most `datagrams` datagrams and appends what they say; true if there may be more.
    ///
    /// # Errors
    /// Those of the socket calls. Lost notifications are no error: they become [`Input::Lost`].
    pub fn receive(&mut self, datagrams: usize, inputs: &mut Vec<Input>) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.read(datagrams, &mut buffer, inputs);
        self.buffer = buffer;
        read
    }

    fn read(&mut self, datagrams: usize, buffer: &mut Vec<u8>, inputs: &mut Vec<Input>) -> io::Result<bool> {
        for _ in 0..datagrams {
            match self.socket.recv_from(&mut &mut buffer[..], libc::MSG_TRUNC) {
                // Other processes may write to our port too; only the kernel has port 0.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok((length, _)) if length > buffer.len() => {
                    buffer.resize(length.next_power_of_two(), 0);
                    inputs.push(Input::Lost);
                }
                Ok((length, _)) => self.datagram(&buffer[..length], inputs)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => inputs.push(Input::Lost),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(explain(&error, "receive from netlink", "")),
            }
        }
        Ok(true)
    }

    fn ask(&mut self, family: AddressFamily, whole: bool) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.attributes = vec![RouteAttribute::Table(self.table)];
        send(&self.socket, self.sequence, RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        self.dump = Some(Dump { family, sequence: self.sequence, whole });
        Ok(())
    }

    fn datagram(&mut self, datagram: &[u8], inputs: &mut Vec<Input>) -> io::Result<()> {
        let mut rest = datagram;
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            let length = message.length() as usize;
            self.message(&rest[..length], inputs)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    fn message(&mut self, octets: &[u8], inputs: &mut Vec<Input>) -> io::Result<()> {
        let buffer = NetlinkBuffer::new(octets);
        let dumped = buffer.port_number() == self.port
            && self.dump.as_ref().is_some_and(|dump| dump.sequence == buffer.sequence_number());
        if let Some(dump) = self.dump.as_mut().filter(|_| dumped) {
            dump.whole &= buffer.flags() & NLM_F_DUMP_INTR == 0;
        }
        match buffer.message_type() {
            NLMSG_DONE | NLMSG_ERROR if dumped => self.ended(octets, inputs)?,
            NLMSG_OVERRUN => inputs.push(Input::Lost),
            decode::RTM_NEWROUTE => {
                let told = match (dumped, buffer.flags() & NLM_F_REPLACE != 0) {
                    (true, _) => Told::Dumped,
                    (false, true) => Told::Replaced,
                    (false, false) => Told::Added,
                };
                inputs.extend(self.route(octets).map(|route| Input::Route(route, told)));
            }
            RTM_DELROUTE => inputs.extend(self.route(octets).map(Input::Gone)),
            RTM_NEWLINK => inputs.extend(self.link(octets)),
            RTM_DELLINK | RTM_DELADDR | RTM_DELNEXTHOP => inputs.push(Input::Shaken),
            _ => {}
        }
        Ok(())
    }

    /// The dump of one family is over: the other comes next, or the end.
    fn ended(&mut self, octets: &[u8], inputs: &mut Vec<Input>) -> io::Result<()> {
        let Some(dump) = self.dump.take() else { return Ok(()) };
        if NetlinkBuffer::new(octets).message_type() == NLMSG_ERROR {
            // There is no such table yet, or no such family: there are no routes.
            let empty = [libc::ENOENT, libc::EAFNOSUPPORT, libc::EOPNOTSUPP];
            if !decode::error(octets).raw_os_error().is_some_and(|error| empty.contains(&error)) {
                inputs.push(Input::Refused);
                return Ok(());
            }
        }
        if dump.family == AddressFamily::Inet {
            return self.ask(AddressFamily::Inet6, dump.whole);
        }
        inputs.push(Input::End { whole: dump.whole });
        Ok(())
    }

    fn decoded(&mut self, octets: &[u8]) -> Option<RouteNetlinkMessage> {
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(octets).map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(message)) => Some(message),
            _ => {
                self.undecoded += 1;
                None
            }
        }
    }

    /// The route, if it is one of the table.
    fn route(&mut self, octets: &[u8]) -> Option<KernelRoute> {
        let (RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)) = self.decoded(octets)?
        else {
            return None;
        };
        let table = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
        if table.unwrap_or(u32::from(route.header.table)) != self.table
            || route.header.flags.contains(RouteFlags::Cloned)
        {
            return None;
        }
        kernel_route(&route)
    }

    fn link(&mut self, octets: &[u8]) -> Option<Input> {
        let RouteNetlinkMessage::NewLink(link) = self.decoded(octets)? else { return None };
        let LinkMessage { header, .. } = &link;
        // Bridges report their ports in messages of the same type but another family.
        if header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let up = header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
        Some(if up { Input::LinkUp(header.index) } else { Input::LinkDown(header.index) })
    }
}

/// `None` for families other than IP.
fn kernel_route(route: &RouteMessage) -> Option<KernelRoute> {
    let header = &route.header;
    let unspecified = match header.address_family {
        AddressFamily::Inet => [0; 4].into(),
        AddressFamily::Inet6 => [0; 16].into(),
        _ => return None,
    };
    let (mut destination, mut metric, mut devices) = (unspecified, 0, Vec::new());
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = (*address).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => destination = (*address).into(),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) if !header.flags.contains(RouteFlags::Dead) => devices.push(*index),
            RouteAttribute::MultiPath(hops) => {
                let alive = hops.iter().filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead));
                devices.extend(alive.map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    let way = match header.kind {
        RouteType::Unicast => Way::Devices(devices),
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Way::Discard,
        _ => Way::Other,
    };
    let prefix = Prefix::new(destination, header.destination_prefix_length).ok()?;
    Some(KernelRoute { prefix, metric, tos: header.tos, way })
}

event_source!(RouteTable, socket);
