//! A raw socket that sends whole IP packets and receives none: what ICMP errors leave through.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::explain;

/// `IPPROTO_RAW`: the sender writes the IP header, and nothing is ever received.
const RAW: i32 = 255;

/// The socket of one family.
#[derive(Debug)]
pub struct IpSocket {
    socket: Socket,
}

impl IpSocket {
    /// Opens the socket of the family of `like`.
    ///
    /// # Errors
    /// A text that says what to do: missing privilege.
    pub fn open(like: IpAddr) -> io::Result<Self> {
        let family = Domain::for_address(SocketAddr::new(like, 0));
        let opened = Socket::new(family, Type::RAW, Some(Protocol::from(RAW)));
        let help = "run as root or with CAP_NET_RAW";
        let socket = opened.map_err(|error| explain(&error, "open the socket that ICMP errors leave by", help))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends `packet`, whose header is written but for the IPv4 identification and checksum, to `to`.
    ///
    /// # Errors
    /// Those of the send call: `WouldBlock`, no route.
    pub fn send(&self, to: IpAddr, packet: &[u8]) -> io::Result<()> {
        self.socket.send_to(packet, &SocketAddr::new(to, 0).into()).map(drop)
    }
}
