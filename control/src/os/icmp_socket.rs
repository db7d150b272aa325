//! A raw socket that hears ICMP errors about LISP packets of ours: workers send those past the kernel, so that no UDP socket
//! is told of them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use altitude_dataplane::wire::{ipv4::Ipv4Header, ipv6::Ipv6Header, protocol};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::explain;

/// Port of LISP data packets (RFC 9300 §5.3), and of control messages.
const LISP_PORTS: [u16; 2] = [4341, 4342];
/// ICMP header in front of the quoted packet, octets.
const ICMP_HEADER: usize = 8;
/// ICMP destination unreachable (RFC 792) and ICMPv6 destination unreachable (RFC 4443 §3.1).
const UNREACHABLE: (u8, u8) = (3, 1);

/// The socket of one family.
#[derive(Debug)]
pub struct IcmpSocket {
    socket: Socket,
    v4: bool,
}

impl IcmpSocket {
    /// Opens the socket of the family of `like`. Nothing but destination unreachable comes through: the kernel filters.
    ///
    /// # Errors
    /// A text that says what to do: missing privilege.
    pub fn open(like: IpAddr) -> io::Result<Self> {
        let prepare = || {
            let number = if like.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
            let domain = Domain::for_address(SocketAddr::new(like, 0));
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(number))))?;
            socket.set_nonblocking(true)?;
            socket.attach_filter(&filter(like.is_ipv4()))?;
            Ok(socket)
        };
        let help = "run as root or with CAP_NET_RAW";
        let socket =
            prepare().map_err(|error: io::Error| explain(&error, "open the socket that hears ICMP errors", help))?;
        Ok(Self { socket, v4: like.is_ipv4() })
    }

    /// The next error about a LISP packet: the source and destination it had. `None` for an error about something else.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; those of the receive call.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(IpAddr, IpAddr)>> {
        let length = io::Read::read(&mut &self.socket, buffer)?;
        Ok(quoted(&buffer[..length], self.v4))
    }
}

/// Lets through what has the type of destination unreachable in its first octet behind the IP header, which IPv4 sockets are
/// handed and IPv6 ones are not.
fn filter(v4: bool) -> Vec<SockFilter> {
    // Opcodes of classic BPF: LDXB MSH, LDB IND, LDB ABS, JEQ K, RET K.
    let [ihl, indexed, absolute, equal, leave] = [0xb1, 0x50, 0x30, 0x15, 0x06];
    let step = |code, jt, jf, k| SockFilter::new(code, jt, jf, k);
    let (load, wanted) = if v4 {
        (vec![step(ihl, 0, 0, 0), step(indexed, 0, 0, 0)], UNREACHABLE.0)
    } else {
        (vec![step(absolute, 0, 0, 0)], UNREACHABLE.1)
    };
    let judge = [step(equal, 0, 1, wanted.into()), step(leave, 0, 0, u32::MAX), step(leave, 0, 0, 0)];
    load.into_iter().chain(judge).collect()
}

/// Source and destination of the LISP packet that an error quotes, if it is about one. The quote need not be whole.
fn quoted(message: &[u8], v4: bool) -> Option<(IpAddr, IpAddr)> {
    let icmp = if v4 { Ipv4Header::split(message).ok()?.1 } else { message };
    let packet = icmp.get(ICMP_HEADER..)?;
    let (source, destination, next, ports): (IpAddr, IpAddr, u8, &[u8]) = if v4 {
        let length = usize::from(packet.first()? & 0x0f) * 4;
        let address = |at: usize| packet.get(at..at + 4)?.first_chunk::<4>().copied();
        (address(12)?.into(), address(16)?.into(), *packet.get(9)?, packet.get(length..)?)
    } else {
        let address = |at: usize| packet.get(at..at + 16)?.first_chunk::<16>().copied();
        (address(8)?.into(), address(24)?.into(), *packet.get(6)?, packet.get(Ipv6Header::LENGTH..)?)
    };
    let port = u16::from_be_bytes([*ports.get(2)?, *ports.get(3)?]);
    (next == protocol::UDP && LISP_PORTS.contains(&port)).then_some((source, destination))
}

event_source!(IcmpSocket, socket);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alt::icmp::{Error, packet};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// UDP from `source` to `destination`, cut off behind the UDP header.
    fn datagram(source: &str, destination: &str, port: u16) -> Vec<u8> {
        let udp = [&[0x12, 0x34][..], &port.to_be_bytes(), &[0, 8, 0, 0]].concat();
        crate::wire::packet::enclose((ip(source), ip(destination)), protocol::UDP, 64, false, &udp).unwrap()
    }

    #[test]
    fn the_locator_is_read_from_what_an_error_quotes() {
        for (router, source, destination) in
            [("240.9.0.1", "240.1.0.10", "240.1.0.20"), ("2001:db8::1", "2001:db8::10", "2001:db8::20")]
        {
            let v4 = ip(source).is_ipv4();
            let heard = |datagram: &[u8]| {
                let error = packet(Error::Unreachable, ip(router), ip(source), datagram).unwrap();
                quoted(&error[if v4 { 0 } else { Ipv6Header::LENGTH }..], v4)
            };
            for (port, known) in [(4341, true), (4342, true), (53, false)] {
                let about = heard(&datagram(source, destination, port));
                assert_eq!(about, known.then_some((ip(source), ip(destination))), "port {port}");
            }
            let whole = datagram(source, destination, 4341);
            for length in 1..whole.len() - 4 {
                assert_eq!(heard(&whole[..length]), None, "cut to {length}");
            }
        }
    }
}
