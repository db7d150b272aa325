//! A raw socket that hears ICMP errors about LISP packets of ours: workers send those past the kernel, so that no UDP socket
//! is told of them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use altitude_dataplane::wire::{ipv4::Ipv4Header, ipv6::Ipv6Header, protocol};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::explain;
use crate::path_mtu::TooBig;

/// Port of LISP data packets (RFC 9300 §5.3), and of control messages.
const LISP_PORTS: [u16; 2] = [4341, 4342];
/// ICMP header in front of the quoted packet, octets.
const ICMP_HEADER: usize = 8;
/// Types that are heard: destination unreachable (RFC 792), destination unreachable and packet too big (RFC 4443 §3.1, §3.2).
const UNREACHABLE_V4: u8 = 3;
const UNREACHABLE_V6: u8 = 1;
const TOO_BIG_V6: u8 = 2;
/// Code of a destination unreachable that says: fragmentation needed and DF set (RFC 792, RFC 1191 §4).
const FRAGMENTATION_NEEDED: u8 = 4;

/// An error about a LISP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It did not arrive.
    Unreachable {
        /// The source it had.
        source: IpAddr,
        /// The destination it had.
        locator: IpAddr,
    },
    /// It was too long for a link on its way.
    TooBig(TooBig),
}

/// The socket of one family.
#[derive(Debug)]
pub struct IcmpSocket {
    socket: Socket,
    v4: bool,
}

impl IcmpSocket {
    /// Opens the socket of the family of `like`. Nothing but these types comes through: the kernel filters.
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

    /// The next error about a LISP packet. `None` for an error about something else.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; those of the receive call.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Heard>> {
        let length = io::Read::read(&mut &self.socket, buffer)?;
        Ok(quoted(&buffer[..length], self.v4))
    }
}

/// Lets through what has one of the types in its first octet behind the IP header, which IPv4 sockets are handed and IPv6 ones
/// are not.
fn filter(v4: bool) -> Vec<SockFilter> {
    // Opcodes of classic BPF: LDXB MSH, LDB IND, LDB ABS, JEQ K, RET K.
    let [ihl, indexed, absolute, equal, leave] = [0xb1, 0x50, 0x30, 0x15, 0x06];
    let step = |code, jt, jf, k| SockFilter::new(code, jt, jf, k);
    let (mut steps, wanted): (_, &[u8]) = if v4 {
        (vec![step(ihl, 0, 0, 0), step(indexed, 0, 0, 0)], &[UNREACHABLE_V4])
    } else {
        (vec![step(absolute, 0, 0, 0)], &[UNREACHABLE_V6, TOO_BIG_V6])
    };
    // Each jumps over those behind it to where the packet is let through; the last over that.
    for (at, kind) in wanted.iter().enumerate() {
        let behind = (wanted.len() - 1 - at) as u8;
        steps.push(step(equal, behind, u8::from(behind == 0), u32::from(*kind)));
    }
    steps.extend([step(leave, 0, 0, u32::MAX), step(leave, 0, 0, 0)]);
    steps
}

/// What an error says of the LISP packet that it quotes, if it is about one. The quote need not be whole.
fn quoted(message: &[u8], v4: bool) -> Option<Heard> {
    let icmp = if v4 { Ipv4Header::split(message).ok()?.1 } else { message };
    let (header, packet) = icmp.split_first_chunk::<ICMP_HEADER>()?;
    let word = |octets: &[u8], at: usize| Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]));
    let (source, destination, next, length, udp): (IpAddr, IpAddr, u8, u16, &[u8]) = if v4 {
        let length = usize::from(packet.first()? & 0x0f) * 4;
        let address = |at: usize| packet.get(at..at + 4)?.first_chunk::<4>().copied();
        (address(12)?.into(), address(16)?.into(), *packet.get(9)?, word(packet, 2)?, packet.get(length..)?)
    } else {
        let address = |at: usize| packet.get(at..at + 16)?.first_chunk::<16>().copied();
        let length = word(packet, 4)?.saturating_add(Ipv6Header::LENGTH as u16);
        (address(8)?.into(), address(24)?.into(), *packet.get(6)?, length, packet.get(Ipv6Header::LENGTH..)?)
    };
    let ports = (word(udp, 0)?, word(udp, 2)?);
    if next != protocol::UDP || !LISP_PORTS.contains(&ports.1) {
        return None;
    }
    let too_big = |mtu| Heard::TooBig(TooBig { mtu, source, destination, ports, length });
    Some(match (header[0], header[1]) {
        (UNREACHABLE_V4, FRAGMENTATION_NEEDED) if v4 => too_big(u32::from(u16::from_be_bytes([header[6], header[7]]))),
        (TOO_BIG_V6, _) if !v4 => too_big(u32::from_be_bytes([header[4], header[5], header[6], header[7]])),
        _ => Heard::Unreachable { source, locator: destination },
    })
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
                let expected = Heard::Unreachable { source: ip(source), locator: ip(destination) };
                assert_eq!(about, known.then_some(expected), "port {port}");
            }
            let whole = datagram(source, destination, 4341);
            for length in 1..whole.len() - 4 {
                assert_eq!(heard(&whole[..length]), None, "cut to {length}");
            }
        }
    }

    /// The kernel's own answer, on sockets that any user may have.
    #[test]
    fn nothing_but_errors_that_may_concern_locators_comes_through_the_filter() {
        for (v4, expected) in [(true, vec![UNREACHABLE_V4]), (false, vec![UNREACHABLE_V6, TOO_BIG_V6])] {
            let (sender, receiver) = Socket::pair(Domain::UNIX, Type::DGRAM, None).unwrap();
            receiver.set_nonblocking(true).unwrap();
            receiver.attach_filter(&filter(v4)).unwrap();
            // IPv4 with options: the type is behind them.
            let header: &[u8] = if v4 { &[&[0x46][..], &[0; 23]].concat() } else { &[] };
            let passes = |kind: &u8| {
                sender.send(&[header, &[*kind; 8]].concat()).unwrap();
                io::Read::read(&mut &receiver, &mut [0; 64]).is_ok()
            };
            assert_eq!((0..=u8::MAX).filter(passes).collect::<Vec<_>>(), expected, "IPv4: {v4}");
        }
    }

    /// MTU-4, MTU-5: the MTU and all that it is judged by are read from what an error quotes.
    #[test]
    fn what_a_path_carries_is_read_from_an_error() {
        let (source, destination) = ("240.1.0.10", "240.1.0.20");
        let mut v4 =
            packet(Error::Unreachable, ip("240.9.0.1"), ip(source), &datagram(source, destination, 4341)).unwrap();
        v4[20 + 1] = FRAGMENTATION_NEEDED;
        v4[20 + 6..20 + 8].copy_from_slice(&1400_u16.to_be_bytes());
        let too_big = |mtu, source: &str, destination: &str, length| {
            let (source, destination) = (ip(source), ip(destination));
            Heard::TooBig(TooBig { mtu, source, destination, ports: (0x1234, 4341), length })
        };
        assert_eq!(quoted(&v4, true), Some(too_big(1400, source, destination, 28)));
        let (source, destination) = ("2001:db8::10", "2001:db8::20");
        let v6 =
            packet(Error::Unreachable, ip("2001:db8::1"), ip(source), &datagram(source, destination, 4341)).unwrap();
        let mut v6 = v6[Ipv6Header::LENGTH..].to_vec();
        v6[..2].copy_from_slice(&[TOO_BIG_V6, 0]);
        v6[4..8].copy_from_slice(&70_000_u32.to_be_bytes());
        assert_eq!(quoted(&v6, false), Some(too_big(70_000, source, destination, 48)));
    }
}
