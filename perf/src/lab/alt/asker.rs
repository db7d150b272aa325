//! An ITR of the lab's own: it asks over one tunnel, and what is answered is looked at by whoever asked.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use altitude_control::{
    os::gre_socket::GreSocket,
    wire::{
        MapRequest, Message,
        gre::{self, GreHeader},
        packet::UdpPacket,
    },
};
use altitude_dataplane::mapping::{Eid, EidPrefix, InstanceId, Mapping};

use crate::lab::{LabError, Namespace};

/// Port of LISP control messages (RFC 9301 §11.1).
const CONTROL_PORT: u16 = 4342;
/// Hop limit of a datagram on the ALT.
const TTL: u8 = 64;
/// Longer than any Map-Reply of these labs, octets.
const MESSAGE_MAX: usize = 2048;
/// A look-up without an answer is asked again after this.
const AGAIN: Duration = Duration::from_millis(250);

/// Asks as an ITR attached to the ALT does: Map-Requests through a tunnel, Map-Replies natively.
#[derive(Debug)]
pub struct Asker {
    gre: GreSocket,
    control: UdpSocket,
    /// Each look-up has an RLOC of its own out of these 2^16.
    block: Ipv4Addr,
    rloc6: Ipv6Addr,
    router: Ipv4Addr,
    nonce: u64,
}

/// One Map-Reply.
#[derive(Debug, Clone)]
pub struct Answer {
    /// As in the request.
    pub nonce: u64,
    /// Who sent it.
    pub from: IpAddr,
    /// When it was read.
    pub at: Instant,
    /// Its record.
    pub mapping: Mapping,
}

impl Asker {
    /// Opens the sockets of an ITR with these RLOCs, and all of the /16 `block`, whose tunnel leads to `router`.
    ///
    /// # Errors
    /// [`LabError::Os`].
    pub fn open(
        namespace: &Namespace,
        rloc: (Ipv4Addr, Ipv6Addr),
        block: Ipv4Addr,
        router: Ipv4Addr,
    ) -> Result<Self, LabError> {
        let any = (Ipv4Addr::UNSPECIFIED, CONTROL_PORT);
        let open = move || Ok((GreSocket::open(rloc.0.into())?, UdpSocket::bind(any)?));
        let (gre, control) = namespace.inside(open)?.map_err(LabError::os("the asker's sockets"))?;
        Ok(Self { gre, control, block, rloc6: rloc.1, router, nonce: 0 })
    }

    /// Sends one Map-Request for `eid` and returns its nonce.
    ///
    /// # Errors
    /// [`LabError::Os`].
    pub fn ask(&mut self, eid: IpAddr) -> Result<u64, LabError> {
        self.nonce += 1;
        let rloc = IpAddr::from(Ipv4Addr::from_bits(self.block.to_bits() | self.nonce as u32 & 0xffff));
        let asked = EidPrefix::host(Eid { instance: InstanceId::DEFAULT, address: eid });
        let request = MapRequest::lookup(self.nonce, None, &[rloc], asked).encode();
        let (source, protocol): (IpAddr, u16) = match eid {
            IpAddr::V4(_) => (rloc, gre::IPV4),
            IpAddr::V6(_) => (self.rloc6.into(), gre::IPV6),
        };
        let packet = UdpPacket {
            source: SocketAddr::new(source, CONTROL_PORT),
            destination: SocketAddr::new(eid, CONTROL_PORT),
            ttl: TTL,
            payload: &request,
        };
        let octets = GreHeader { checksum: false, key: None, sequence: None, protocol }.encode(&packet.encode());
        self.gre.send_to(self.router.into(), &octets).map_err(LabError::os("a Map-Request"))?;
        Ok(self.nonce)
    }

    /// The Map-Replies of one record that come until `deadline`; returns at the first, with all that are there then.
    ///
    /// # Errors
    /// [`LabError::Os`], [`LabError::Wrong`] for anything that is not such a Map-Reply.
    pub fn answers(&mut self, deadline: Instant) -> Result<Vec<Answer>, LabError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut message = [0; MESSAGE_MAX];
        let mut answers = Vec::new();
        // The first is waited for, the others are there or not.
        let mut wait = Some(left).filter(|left| !left.is_zero());
        loop {
            self.control.set_nonblocking(wait.is_none()).map_err(LabError::os("the asker's socket"))?;
            self.control.set_read_timeout(wait.take()).map_err(LabError::os("the asker's socket"))?;
            match self.control.recv_from(&mut message) {
                Ok((length, from)) => answers.push(answer(&message[..length], from.ip())?),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                Err(error) => return Err(LabError::os("a Map-Reply")(error)),
            }
        }
        Ok(answers)
    }

    /// Asks for `eid` until it is answered.
    ///
    /// # Errors
    /// [`LabError::Late`] after `limit`.
    pub fn look_up(&mut self, eid: IpAddr, limit: Duration) -> Result<Answer, LabError> {
        let start = Instant::now();
        let first = self.nonce + 1;
        while start.elapsed() < limit {
            self.ask(eid)?;
            let answers = self.answers(Instant::now() + AGAIN)?;
            if let Some(answer) = answers.into_iter().find(|answer| answer.nonce >= first) {
                return Ok(answer);
            }
        }
        Err(LabError::Late { what: format!("answer for {eid}"), limit, log: String::new() })
    }
}

fn answer(octets: &[u8], from: IpAddr) -> Result<Answer, LabError> {
    match Message::parse(octets) {
        Ok(Message::MapReply(mut reply)) if reply.records.len() == 1 => {
            Ok(Answer { nonce: reply.nonce, from, at: Instant::now(), mapping: reply.records.remove(0) })
        }
        other => Err(LabError::Wrong(format!("{from} sent the asker {other:?}"))),
    }
}
