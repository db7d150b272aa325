//! The UDP sockets of LISP control messages, bound to one RLOC each: port 4342 (RFC 9301 §5), and behind a NAT port 4341, whose
//! binding data comes in by (draft-ermagan-lisp-nat-traversal-19 §4.3).

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::explain;

/// Port of LISP control messages (RFC 9301 §11.1).
pub const CONTROL_PORT: u16 = 4342;

/// Port of LISP data packets (RFC 9300 §19.1).
const DATA_PORT: u16 = 4341;

/// Drops datagrams without a UDP checksum, which IPv4 allows and LISP control messages must not be (RFC 9301 §5). Wrong ones
/// the kernel drops by itself; it hands this program the datagram from its UDP header on, the checksum at octet 6.
const CHECKSUM_NEEDED: [SockFilter; 4] = [
    SockFilter::new(0x28, 0, 0, 6),        // ldh [6]
    SockFilter::new(0x15, 0, 1, 0),        // jeq #0, next, one further
    SockFilter::new(0x06, 0, 0, 0),        // ret #0: drop
    SockFilter::new(0x06, 0, 0, u32::MAX), // ret #-1: all of it
];

/// The socket.
#[derive(Debug)]
pub struct ControlSocket {
    socket: UdpSocket,
    local: IpAddr,
}

impl ControlSocket {
    /// Opens the socket and binds it to port 4342 of `local`.
    ///
    /// # Errors
    /// Texts that say what to do: not an address of this machine, port in use.
    pub fn open(local: IpAddr) -> io::Result<Self> {
        Self::open_port(local, CONTROL_PORT, "control")
    }

    /// The same with port 4341, for what the steering program leaves to the kernel of it. Data packets may have no UDP checksum
    /// (RFC 9300 §5.3), and what comes in their guise needs none either over IPv4; over IPv6 the kernel wants one, and RTRs
    /// send these from sockets, which compute it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_data(local: IpAddr) -> io::Result<Self> {
        Self::open_port(local, DATA_PORT, "data")
    }

    fn open_port(local: IpAddr, port: u16, kind: &str) -> io::Result<Self> {
        let socket = Self::prepare(local, port).map_err(|error| {
            let help = match error.kind() {
                io::ErrorKind::AddrNotAvailable => "give an interface of this machine this address first",
                io::ErrorKind::AddrInUse => "another LISP router runs on this machine: stop it",
                io::ErrorKind::PermissionDenied => "the security policy of this machine forbids it",
                _ => "",
            };
            explain(&error, &format!("open the LISP {kind} socket of {local}"), help)
        })?;
        Ok(Self { socket, local })
    }

    fn prepare(local: IpAddr, port: u16) -> io::Result<UdpSocket> {
        let address = SocketAddr::new(local, port);
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        if port == CONTROL_PORT {
            socket.attach_filter(&CHECKSUM_NEEDED)?;
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    }

    /// The RLOC the socket is bound to.
    #[must_use]
    pub const fn local(&self) -> IpAddr {
        self.local
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Those of the send call: `WouldBlock`, no route, an address of the other family, an ICMP error that came for an
    /// earlier message.
    pub fn send_to(&self, to: SocketAddr, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, to).map(drop)
    }

    /// Receives one message into `buffer`; returns its length, octets, and its source. A longer message is cut off at
    /// the end of `buffer`.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; those of the receive call.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer)
    }
}

event_source!(ControlSocket, socket);
