//! A raw socket of IP protocol 47 (GRE, RFC 2784), bound to one RLOC: all tunnels of that RLOC share it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr},
    ops::Range,
    os::fd::AsRawFd,
};

use nix::{
    libc,
    sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrStorage, recvfrom, recvmsg, setsockopt,
        sockopt::{Ipv4RecvErr, Ipv6RecvErr},
    },
};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, Socket, Type};

use super::explain;
use crate::alt::keepalive::Hint;

const GRE: i32 = 47;
/// TTL and Hop Limit of the outer header.
const TTL: u32 = 64;
/// Shortest IPv4 header, octets.
const IPV4_HEADER: usize = 20;

/// The socket. What it sends and receives are GRE packets: GRE header and payload, without an IP header.
#[derive(Debug)]
pub struct GreSocket {
    socket: Socket,
    local: IpAddr,
}

impl GreSocket {
    /// Opens the socket and binds it to `local`.
    ///
    /// # Errors
    /// Texts that say what to do: missing privilege, not an address of this machine.
    pub fn open(local: IpAddr) -> io::Result<Self> {
        let tried = || format!("open the GRE socket of {local}");
        let socket = Self::prepare(local).map_err(|error| {
            let help = match error.kind() {
                io::ErrorKind::PermissionDenied => "run as root or with CAP_NET_RAW",
                io::ErrorKind::AddrNotAvailable => "give an interface of this machine this address first",
                _ => "",
            };
            explain(&error, &tried(), help)
        })?;
        Ok(Self { socket, local })
    }

    fn prepare(local: IpAddr) -> io::Result<Socket> {
        let address = SocketAddr::new(local, 0);
        let socket = Socket::new(Domain::for_address(address), Type::RAW, Some(Protocol::from(GRE)))?;
        // The tunnel has no way to tell the inner sender of a smaller path, so large packets are fragmented.
        if local.is_ipv4() {
            socket.set_ttl_v4(TTL)?;
            rustix::net::sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
            setsockopt(&socket, Ipv4RecvErr, &true)?;
        } else {
            socket.set_unicast_hops_v6(TTL)?;
            rustix::net::sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
            setsockopt(&socket, Ipv6RecvErr, &true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    }

    /// The RLOC the socket is bound to: source of what it sends, destination of what it receives.
    #[must_use]
    pub const fn local(&self) -> IpAddr {
        self.local
    }

    /// Sends a GRE packet to `remote`.
    ///
    /// # Errors
    /// Those of the send call: `WouldBlock`, no route, an address of the other family.
    pub fn send_to(&self, remote: IpAddr, gre: &[u8]) -> io::Result<()> {
        self.socket.send_to(gre, &SocketAddr::new(remote, 0).into()).map(drop)
    }

    /// Sends a GRE packet of two parts, its header and what is inside, to `remote`.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub fn send(&self, remote: IpAddr, head: &[u8], packet: &[u8]) -> io::Result<()> {
        let to = SocketAddr::new(remote, 0).into();
        let parts = [IoSlice::new(head), IoSlice::new(packet)];
        let sent = self.socket.send_to_vectored(&parts, &to);
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                // An ICMP error about an earlier packet to anybody is reported by the next call, once.
                self.socket.send_to_vectored(&parts, &to).map(drop)
            }
            sent => sent.map(drop),
        }
    }

    /// The next ICMP error about a packet sent: whom it was for, and what it says. `None` if there is none, or if it is
    /// one that says nothing of a tunnel.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; those of the receive call.
    pub fn hint(&self) -> io::Result<Option<(IpAddr, Hint)>> {
        let mut quoted = [0; 64];
        let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let mut parts = [IoSliceMut::new(&mut quoted)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let remote = message.address.as_ref().and_then(address_of);
        let hint = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => hint(&error),
            _ => None,
        });
        Ok(remote.zip(hint))
    }

    /// Receives a packet into `buffer` and returns its source and where in `buffer` the GRE packet lies. A longer packet
    /// is cut off at the end of `buffer`.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; `InvalidData` if the IP header makes no sense; those of the receive call.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(IpAddr, Range<usize>)> {
        let (length, from) = recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), buffer)?;
        let source = from.as_ref().and_then(address_of).ok_or(io::ErrorKind::InvalidData)?;
        // For IPv4 the kernel hands out the header too, for IPv6 it does not (RFC 3542 §3).
        let start = match self.local {
            IpAddr::V4(_) => ipv4_header(&buffer[..length]).ok_or(io::ErrorKind::InvalidData)?,
            IpAddr::V6(_) => 0,
        };
        Ok((source, start..length))
    }
}

/// What an ICMP error means (RFC 792; RFC 1812 §5.2.7.1; RFC 4443 §3.1, §3.4).
const fn hint(error: &libc::sock_extended_err) -> Option<Hint> {
    match (error.ee_origin, error.ee_type, error.ee_code) {
        (libc::SO_EE_ORIGIN_ICMP, 3, 2) | (libc::SO_EE_ORIGIN_ICMP6, 4, 1) => Some(Hint::Protocol),
        (libc::SO_EE_ORIGIN_ICMP, 3, 1 | 7 | 12) | (libc::SO_EE_ORIGIN_ICMP6, 1, 3) => Some(Hint::Host),
        (libc::SO_EE_ORIGIN_ICMP, 3, 0 | 6 | 11) | (libc::SO_EE_ORIGIN_ICMP6, 1, 0) => Some(Hint::Network),
        (libc::SO_EE_ORIGIN_ICMP, 3, 9 | 10 | 13) | (libc::SO_EE_ORIGIN_ICMP6, 1, 1) => Some(Hint::Prohibited),
        _ => None,
    }
}

fn address_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
}

/// Length of the IPv4 header at the front of `packet`, octets.
fn ipv4_header(packet: &[u8]) -> Option<usize> {
    let length = usize::from(packet.first()? & 0x0f) * 4;
    (length >= IPV4_HEADER && length <= packet.len()).then_some(length)
}

event_source!(GreSocket, socket);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ipv4_header_is_as_long_as_it_says() {
        let packet = |first: u8| {
            let mut packet = [0; 24];
            packet[0] = first;
            ipv4_header(&packet)
        };
        assert_eq!([0x45, 0x46, 0x44, 0x40, 0x47].map(packet), [Some(20), Some(24), None, None, None]);
        assert_eq!(ipv4_header(&[]), None);
    }
}
