//! GRE tunnels of the kernel's: the interface, and what comes out of it and goes into it.
//!
//! ```text
//! underlay ─ kernel's GRE ─ interface ─┬─ to an address of the interface: kernel TCP (BGP), ICMP
//!                                      └─ a copy of every packet: receive (ALT datagrams)
//!                           interface ◀── send
//! ```
//!
//! An interface of the tunnel's name that is there already serves as it is, whatever it is, as long as it leads from one
//! point to another. What comes out of the interface is EIDs' and nothing for the kernel's own routes: a rule keeps these
//! apart (RFC 6836 §6.2).

use std::{
    io::{self, Read, Write},
    net::IpAddr,
    os::fd::{AsRawFd, IntoRawFd},
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{GreIOFlags, InfoData, InfoGre, InfoGre6, InfoKind, LinkAttribute, LinkInfo, LinkMessage},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use nix::{libc, net::if_::if_nametoindex};
use pnet_datalink::{ChannelType, NetworkInterface, linux as datalink};
use socket2::{Domain, Protocol, Socket, Type};

use super::{explain, interface};
use crate::alt::tunnels::Tunnel;

/// What tells an interface that an earlier run left over from one that somebody else made.
const ALIAS: &str = "altitude";
/// TTL and Hop Limit of the outer header.
const TTL: u8 = 64;
/// Where our rules stand: after that of the kernel's own addresses, before all others.
const PRIORITY: u32 = 1;
/// `ETH_P_IP` and `ETH_P_IPV6` of linux/if_ether.h.
const PROTOCOLS: [u16; 2] = [0x0800, 0x86dd];

/// One tunnel. The interface goes with it if it was made here.
#[derive(Debug)]
pub struct KernelGre {
    /// IPv4 and IPv6: a socket sees one protocol, and none of what the kernel sends.
    sockets: [Socket; 2],
    link: Link,
}

/// The interface, and what is removed again when it goes.
#[derive(Debug)]
struct Link {
    name: String,
    index: u32,
    made: bool,
    rules: Vec<RuleMessage>,
}

impl KernelGre {
    /// Makes the interface with this MTU (octets) unless there is one of the tunnel's name, gives it the tunnel's addresses,
    /// and brings it up.
    ///
    /// # Errors
    /// Texts that say what to do: the kernel has no GRE (`Unsupported`), missing privilege, an interface that leads to more
    /// than one point.
    pub fn open(tunnel: &Tunnel, mtu: u16) -> io::Result<Self> {
        let name = &tunnel.name;
        if find(name)?.is_none() {
            let tried = format!("make the GRE interface {name}");
            let made = RouteNetlinkMessage::NewLink(creation(tunnel, mtu));
            interface::request(made, NLM_F_CREATE | NLM_F_EXCL, &tried)?;
        }
        let (index, point_to_point) = find(name)?.ok_or(io::ErrorKind::NotFound)?;
        let alias = std::fs::read_to_string(format!("/sys/class/net/{name}/ifalias")).unwrap_or_default();
        let made = alias.trim_end() == ALIAS;
        let mut link = Link { name: name.clone(), index, made, rules: Vec::new() };
        if !point_to_point {
            let text = format!(
                "interface {name} is there and does not lead from one point to another: rename the ALT tunnel, or remove \
                 the interface and the kernel's GRE takes its place"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        link.keep_apart()?;
        let [v4, v6] = PROTOCOLS.map(|protocol| packet_socket(protocol, name, index));
        let sockets = [v4?, v6?];
        if made {
            interface::bring_up(link.index, mtu)?;
        } else {
            interface::switch_on(link.index)?;
        }
        for (address, length) in &tunnel.addresses {
            interface::add_address(link.index, *address, *length)?;
        }
        Ok(Self { sockets, link })
    }

    /// Changes the MTU, octets; that of an interface that somebody else made stays as it is. Says whether it was changed.
    ///
    /// # Errors
    /// Those of the kernel, with what was tried.
    pub fn set_mtu(&self, mtu: u16) -> io::Result<bool> {
        if self.link.made {
            interface::bring_up(self.link.index, mtu)?;
        }
        Ok(self.link.made)
    }

    /// Takes one packet that came out of the tunnel and returns its length, octets; what is longer than `packet` is cut off.
    /// The kernel has what is for its own addresses already.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; those of the receive call.
    pub fn receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        match (&self.sockets[0]).read(packet) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (&self.sockets[1]).read(packet),
            received => received,
        }
    }

    /// Sends an IP packet through the tunnel.
    ///
    /// # Errors
    /// `WouldBlock` if the kernel takes no more; `InvalidInput` if this is no IP packet; those of the send call.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let mut socket = match packet.first().map(|octet| octet >> 4) {
            Some(4) => &self.sockets[0],
            Some(6) => &self.sockets[1],
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        socket.write(packet).map(drop)
    }

    /// Has an event loop watch both sockets under one token.
    ///
    /// # Errors
    /// Those of the event loop.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        self.sockets
            .iter()
            .try_for_each(|socket| registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE))
    }
}

impl Link {
    /// Keeps the kernel from routing by its own tables what comes out of the interface.
    fn keep_apart(&mut self) -> io::Result<()> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let tried = format!("keep packets out of {} from the kernel's own routes", self.name);
            let rule = rule(family, &self.name);
            let asked = RouteNetlinkMessage::NewRule(rule.clone());
            match interface::request(asked, NLM_F_CREATE | NLM_F_EXCL, &tried) {
                // Left over from a run that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.rules.push(rule),
                // A kernel without IPv6 routes none.
                Err(_) if family == AddressFamily::Inet6 && !has_ipv6() => {}
                asked => {
                    asked?;
                    self.rules.push(rule);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for rule in self.rules.drain(..) {
            if let Err(error) = interface::request(RouteNetlinkMessage::DelRule(rule), 0, "remove a rule") {
                tracing::warn!(tunnel = self.name, %error, "a rule stays: `ip rule` shows it");
            }
        }
        if self.made {
            let mut message = LinkMessage::default();
            message.header.index = self.index;
            if let Err(error) = interface::request(RouteNetlinkMessage::DelLink(message), 0, "remove the interface") {
                tracing::warn!(tunnel = self.name, %error, "the GRE interface stays: `ip link delete` removes it");
            }
        }
    }
}

fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// The interface of this name, if there is one: its index, and whether it leads from one point to another.
fn find(name: &str) -> io::Result<Option<(u32, bool)>> {
    let flags = match std::fs::read_to_string(format!("/sys/class/net/{name}/flags")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        flags => flags?,
    };
    let flags = i32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).map_err(io::Error::other)?;
    let index = if_nametoindex(name)?;
    Ok(Some((index, flags & (libc::IFF_POINTOPOINT | libc::IFF_NOARP) != 0)))
}

/// A socket of IP packets of one protocol in and out of one interface.
fn packet_socket(protocol: u16, interface: &str, index: u32) -> io::Result<Socket> {
    let prepare = || -> io::Result<Socket> {
        let number = Protocol::from(i32::from(protocol.to_be()));
        let socket = Socket::new(Domain::from(libc::AF_PACKET), Type::DGRAM, Some(number))?;
        socket.set_nonblocking(true)?;
        // What it makes of the copy besides binding it is not needed.
        let name = interface.to_owned();
        let interface =
            NetworkInterface { name, index, description: String::new(), mac: None, ips: Vec::new(), flags: 0 };
        let settings = datalink::Config {
            channel_type: ChannelType::Layer3(protocol),
            promiscuous: false,
            socket_fd: Some(socket.try_clone()?.into_raw_fd()),
            ..datalink::Config::default()
        };
        datalink::channel(&interface, settings)?;
        Ok(socket)
    };
    prepare().map_err(|error| {
        let help = if error.kind() == io::ErrorKind::PermissionDenied { "run as root or with CAP_NET_RAW" } else { "" };
        explain(&error, &format!("open the packet socket of interface {interface}"), help)
    })
}

/// What comes out of `name` and is for none of our addresses goes nowhere.
fn rule(family: AddressFamily, name: &str) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::Blackhole;
    rule.attributes = vec![RuleAttribute::Iifname(name.to_owned()), RuleAttribute::Priority(PRIORITY)];
    rule
}

/// The request to make the interface of `tunnel`.
fn creation(tunnel: &Tunnel, mtu: u16) -> LinkMessage {
    let mut flags = GreIOFlags::empty();
    flags.set(GreIOFlags::Key, tunnel.key.is_some());
    flags.set(GreIOFlags::Checksum, tunnel.checksum);
    let (kind, data) = match (tunnel.local, tunnel.remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            let mut data = vec![
                InfoGre::Local(local),
                InfoGre::Remote(remote),
                InfoGre::Ttl(TTL),
                InfoGre::IFlags(flags),
                InfoGre::OFlags(flags),
                // Too large a packet is fragmented outside, as our own tunnels do it.
                InfoGre::PathMTUDiscovery(false),
            ];
            data.extend(tunnel.key.into_iter().flat_map(|key| [InfoGre::IKey(key), InfoGre::OKey(key)]));
            (InfoKind::GreTun, InfoData::GreTun(data))
        }
        (local, remote) => {
            // Ends of two families were refused before: the kernel says what is missing.
            let ipv6 = |end| if let IpAddr::V6(end) = end { Some(end) } else { None };
            let mut data = vec![InfoGre6::Ttl(TTL), InfoGre6::IFlags(flags), InfoGre6::OFlags(flags)];
            data.extend(ipv6(local).map(InfoGre6::Local));
            data.extend(ipv6(remote).map(InfoGre6::Remote));
            data.extend(tunnel.key.into_iter().flat_map(|key| [InfoGre6::IKey(key), InfoGre6::OKey(key)]));
            (InfoKind::GreTun6, InfoData::GreTun6(data))
        }
    };
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(tunnel.name.clone()),
        LinkAttribute::IfAlias(ALIAS.to_owned()),
        LinkAttribute::Mtu(u32::from(mtu)),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]),
    ];
    message
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    /// Type and value of the attributes in `octets` (host order lengths, padded to four).
    fn attributes(mut octets: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut found = Vec::new();
        while let [l0, l1, t0, t1, ..] = *octets {
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            found.push((u16::from_ne_bytes([t0, t1]) & 0x3fff, octets[4..length].to_vec()));
            octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        found
    }

    fn data_of(tunnel: &Tunnel) -> (String, Vec<(u16, Vec<u8>)>) {
        let message = creation(tunnel, 1400);
        let mut octets = vec![0; message.buffer_len()];
        message.emit(&mut octets);
        let outer = attributes(&octets[16..]); // after struct ifinfomsg
        let value = |all: &[(u16, Vec<u8>)], number| all.iter().find(|(kind, _)| *kind == number).unwrap().1.clone();
        assert_eq!(value(&outer, 3), b"alt0\0", "IFLA_IFNAME");
        assert_eq!(value(&outer, 4), 1400_u32.to_ne_bytes(), "IFLA_MTU");
        assert_eq!(value(&outer, 20), b"altitude\0", "IFLA_IFALIAS");
        let info = attributes(&value(&outer, 18)); // IFLA_LINKINFO
        let kind = String::from_utf8(value(&info, 1)).unwrap();
        let mut data = attributes(&value(&info, 2));
        data.sort();
        (kind.trim_end_matches('\0').to_owned(), data)
    }

    /// The numbers are those of linux/if_tunnel.h; keys, flags and addresses are in network order.
    #[test]
    fn the_kernel_is_asked_for_just_this_tunnel() {
        let plain = Tunnel {
            name: "alt0".to_owned(),
            local: "240.0.254.10".parse().unwrap(),
            remote: "240.0.254.30".parse().unwrap(),
            key: None,
            checksum: false,
            addresses: Vec::new(),
            options: crate::alt::tunnels::Options::default(),
        };
        let (ends, ttl) = ([(6, vec![240, 0, 254, 10]), (7, vec![240, 0, 254, 30])], (8, vec![64]));
        let none = [(2, vec![0, 0]), (3, vec![0, 0])];
        let expected = [&none[..], &ends, &[ttl.clone(), (10, vec![0])]].concat();
        assert_eq!(data_of(&plain), ("gre".to_owned(), expected));

        let full = Tunnel { key: Some(0x0102_0304), checksum: true, ..plain.clone() };
        let flags = [(2, vec![0xa0, 0]), (3, vec![0xa0, 0])];
        let keys = [(4, vec![1, 2, 3, 4]), (5, vec![1, 2, 3, 4])];
        let expected = [&flags[..], &keys, &ends, &[ttl.clone(), (10, vec![0])]].concat();
        assert_eq!(data_of(&full), ("gre".to_owned(), expected));

        let (local, remote) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let v6 = Tunnel { local: IpAddr::V6(local), remote: IpAddr::V6(remote), ..full };
        let ends = [(6, local.octets().to_vec()), (7, remote.octets().to_vec())];
        let expected = [&flags[..], &keys, &ends, &[ttl]].concat();
        assert_eq!(data_of(&v6), ("ip6gre".to_owned(), expected));
    }
}
