//! Rtnetlink messages as inputs of the underlay machine.

use std::{io, net::IpAddr};

use altitude_dataplane::mapping::MacAddress;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType, RouteVia},
};

use crate::underlay::{Input, RouteHop};

/// First message type of rtnetlink; below are the control messages.
pub(super) const RTM_BASE: u16 = 16;
pub(super) const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// Where the flags lie in a route message: after the netlink header and eight octets of the route header.
const ROUTE_FLAGS: std::ops::Range<usize> = 24..28;

/// Is this a message of routes, rules or next-hop objects?
pub(super) const fn concerns_routes(kind: u16) -> bool {
    matches!(kind, RTM_NEWROUTE | RTM_DELROUTE | RTM_NEWRULE | RTM_DELRULE | RTM_NEWNEXTHOP | RTM_DELNEXTHOP)
}

/// Can this message of routes change where packets go? Cloned IPv6 routes are a cache of such decisions.
///
/// Not decoded further: a full table can come at once, and every one of its messages means the same.
pub(super) fn changes_routes(octets: &[u8]) -> bool {
    let kind = octets.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    let flags = octets.get(ROUTE_FLAGS).and_then(|flags| Some(u32::from_ne_bytes(flags.try_into().ok()?)));
    match (kind, flags) {
        (Some(RTM_NEWROUTE | RTM_DELROUTE), Some(flags)) => flags & RouteFlags::Cloned.bits() == 0,
        _ => true,
    }
}

/// The message as an input: `None` if it cannot be decoded, `Some(None)` if it is of no interest.
pub(super) fn input(octets: &[u8]) -> Option<Option<Input>> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(octets).ok()?;
    let NetlinkPayload::InnerMessage(message) = message.payload else { return Some(None) };
    Some(match message {
        RouteNetlinkMessage::NewLink(link) => new_link(&link),
        RouteNetlinkMessage::DelLink(link) if of_link(&link) => Some(Input::LinkGone(link.header.index)),
        RouteNetlinkMessage::NewAddress(address) => {
            let (index, length) = (address.header.index, address.header.prefix_len);
            own_address(&address).map(|address| Input::Address { index, address, length })
        }
        RouteNetlinkMessage::DelAddress(address) => {
            own_address(&address).map(|own| Input::AddressGone { index: address.header.index, address: own })
        }
        RouteNetlinkMessage::NewNeighbour(neighbour) => new_neighbour(&neighbour),
        RouteNetlinkMessage::DelNeighbour(neighbour) => neighbour_address(&neighbour).map(|address| Input::Neighbour {
            index: neighbour.header.ifindex,
            address,
            mac: None,
            permanent: false,
        }),
        _ => None,
    })
}

/// The next hop in the answer to a route question: `None` if it cannot be decoded, `Some(None)` if there is none.
pub(super) fn route(octets: &[u8]) -> Option<Option<RouteHop>> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(octets).ok()?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) = message.payload else { return None };
    if !matches!(route.header.kind, RouteType::Unicast | RouteType::Local | RouteType::Anycast) {
        return Some(None);
    }
    Some(hop(&route))
}

/// The error a message of type `NLMSG_ERROR` carries.
pub(super) fn error(octets: &[u8]) -> io::Error {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(octets).map(|message| message.payload) {
        Ok(NetlinkPayload::Error(error)) => error.to_io(),
        _ => io::Error::from(io::ErrorKind::InvalidData),
    }
}

/// Bridges report their ports in messages of the same type but another family.
fn of_link(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Unspec
}

fn new_link(link: &LinkMessage) -> Option<Input> {
    if !of_link(link) {
        return None;
    }
    let (mut name, mut mac, mut mtu) = (None, None, 0);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(octets) => mac = mac_address(octets),
            LinkAttribute::Mtu(octets) => mtu = u16::try_from(*octets).unwrap_or(u16::MAX),
            _ => {}
        }
    }
    // The carrier itself: IFF_RUNNING follows it up to a second later, a start in between would find the link down.
    let flags = link.header.flags;
    let up = flags.contains(LinkFlags::Up | LinkFlags::LowerUp) && !flags.contains(LinkFlags::Dormant);
    Some(Input::Link { index: link.header.index, name: name?, mac, mtu, up })
}

/// The local end; on a point-to-point link `IFA_ADDRESS` is the far end.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => own = Some(*address),
            _ => {}
        }
    }
    own
}

fn new_neighbour(neighbour: &NeighbourMessage) -> Option<Input> {
    let address = neighbour_address(neighbour)?;
    let header = &neighbour.header;
    let permanent = matches!(header.state, NeighbourState::Permanent | NeighbourState::Noarp);
    let valid = permanent
        || matches!(
            header.state,
            NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe
        );
    let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(octets) if valid => mac_address(octets),
        _ => None,
    });
    Some(Input::Neighbour { index: header.ifindex, address, mac, permanent: permanent && mac.is_some() })
}

/// The address of an ARP or ND entry; bridge and proxy entries have other meanings.
fn neighbour_address(neighbour: &NeighbourMessage) -> Option<IpAddr> {
    if neighbour.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    })
}

/// All zeros is what loopback and unresolved entries have.
fn mac_address(octets: &[u8]) -> Option<MacAddress> {
    MacAddress::try_from(octets).ok().filter(|mac| *mac != [0; 6])
}

fn hop(route: &RouteMessage) -> Option<RouteHop> {
    let (mut index, mut gateway, mut source) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Gateway(address) => gateway = route_address(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some(IpAddr::from(*address)),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(IpAddr::from(*address)),
            RouteAttribute::PrefSource(address) => source = route_address(address),
            _ => {}
        }
    }
    Some(RouteHop { index: index?, gateway, source })
}

fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::from(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::from(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
