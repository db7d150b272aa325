//! Echo requests and who answers them (RFC 792, RFC 4443 §4).
//!
//! The lab sends them itself: `ping` waits for its last reply no longer than a tenth of a second at this pace, and calls lost
//! what a busy machine delivers a little later.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use altitude_dataplane::wire::checksum::checksum;
use socket2::{Domain, Protocol, Socket, Type};

use super::{LabError, Namespace};

/// TTL that echo requests leave their host with: none of the defaults, so that a copy is no accident.
pub const PING_TTL: u8 = 41;
/// TOS that echo requests leave their host with: DSCP AF11, not ECN-capable.
pub const PING_TOS: u8 = 0x28;

/// Between two requests.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long the last reply is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Octets of data, as `ping` sends.
const DATA: usize = 56;
/// Longer than any reply with its IP header, octets.
const REPLY_MAX: usize = 256;

/// What became of echo requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pings {
    /// Requests.
    pub sent: u16,
    /// Of them with a reply.
    pub answered: u16,
}

/// Pings `to` from a host, `count` times, ten a second, with sequence numbers from 1 on; none is sent twice.
///
/// # Errors
/// [`LabError::Os`].
pub fn ping(host: &Namespace, to: IpAddr, count: u16) -> Result<Pings, LabError> {
    host.inside(move || exchange(to, count))?.map_err(LabError::os(format!("ping {to}")))
}

fn exchange(to: IpAddr, count: u16) -> io::Result<Pings> {
    /// A raw socket sees the replies to all of a host's requests.
    static IDENTIFIER: AtomicU16 = AtomicU16::new(1);
    let identifier = IDENTIFIER.fetch_add(1, Ordering::Relaxed);
    let mut socket = open(to)?;
    let mut answered = BTreeSet::new();
    let mut next = Instant::now();
    for sequence in 1..=count {
        socket.send(&request(to, identifier, sequence))?;
        next += INTERVAL;
        if sequence < count {
            collect(&mut socket, identifier, next, usize::MAX, &mut answered)?;
        }
    }
    collect(&mut socket, identifier, Instant::now() + PATIENCE, count.into(), &mut answered)?;
    Ok(Pings { sent: count, answered: answered.len() as u16 })
}

fn open(to: IpAddr) -> io::Result<Socket> {
    let socket = match to {
        IpAddr::V4(_) => {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
            socket.set_ttl_v4(PING_TTL.into())?;
            socket.set_tos_v4(PING_TOS.into())?;
            socket
        }
        IpAddr::V6(_) => {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.set_unicast_hops_v6(PING_TTL.into())?;
            socket.set_tclass_v6(PING_TOS.into())?;
            socket
        }
    };
    socket.connect(&SocketAddr::new(to, 0).into())?;
    Ok(socket)
}

fn request(to: IpAddr, identifier: u16, sequence: u16) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let [id0, id1] = identifier.to_be_bytes();
    let [seq0, seq1] = sequence.to_be_bytes();
    let mut octets = vec![kind, 0, 0, 0, id0, id1, seq0, seq1];
    octets.extend(std::iter::repeat_n(0x5a, DATA));
    // Of ICMPv6 the kernel knows the pseudo-header and does it itself.
    if to.is_ipv4() {
        let sum = checksum(&octets);
        octets[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    octets
}

/// Takes replies until `deadline`, or until there are `enough`.
fn collect(
    socket: &mut Socket,
    identifier: u16,
    deadline: Instant,
    enough: usize,
    answered: &mut BTreeSet<u16>,
) -> io::Result<()> {
    let mut buffer = [0; REPLY_MAX];
    while answered.len() < enough {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut buffer) {
            Ok(length) => answered.extend(reply(&buffer[..length], identifier)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An ICMP error about a request: it will have no reply.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The sequence number of a reply to one of ours. An IPv4 socket hands out the IP header too, an IPv6 one does not.
fn reply(packet: &[u8], identifier: u16) -> Option<u16> {
    let start = if packet.first()? >> 4 == 4 { usize::from(packet[0] & 0x0f) * 4 } else { 0 };
    let &[kind, _, _, _, id0, id1, seq0, seq1, ..] = packet.get(start..)? else { return None };
    let is_ours = matches!(kind, 0 | 129) && u16::from_be_bytes([id0, id1]) == identifier;
    is_ours.then(|| u16::from_be_bytes([seq0, seq1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_to_ours_are_told_from_others() {
        let v4 = [&[0x45; 20][..], &[0, 0, 9, 9, 0, 7, 1, 2, 0x5a]].concat();
        let v6 = [129, 0, 9, 9, 0, 7, 1, 2, 0x5a];
        assert_eq!([reply(&v4, 7), reply(&v6, 7)], [Some(0x102); 2]);
        assert_eq!([reply(&v4, 8), reply(&v6, 8), reply(&v6[..7], 7), reply(&[], 7)], [None; 4]);
        let own = request([127, 0, 0, 1].into(), 7, 1);
        assert_eq!((reply(&own, 7), checksum(&own)), (None, 0), "a request is no reply, and its checksum is right");
    }
}
