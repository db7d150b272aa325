//! What the kernel knows of links, addresses, neighbours and routes, by rtnetlink (RFC 3549 describes the protocol).
//!
//! One socket carries notifications, dumps and route questions. The start, and every loss of notifications (`ENOBUFS`,
//! a dump that was interrupted), is a round: [`Input::SyncBegin`], the dumps of links, addresses and neighbours one
//! after the other, [`Input::SyncEnd`]. Multicast groups are joined before the first dump, so nothing falls between.
//!
//! The kernel answers a route question before the `send` that carries it returns. So when the socket has nothing more
//! to read, whatever question is still open will never be answered; the machine repeats it.

mod decode;
pub mod inside;
pub mod table;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::IpAddr,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    link::LinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage},
    route::{RouteAttribute, RouteMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};

use super::explain;
use crate::underlay::{Input, Output};

/// `RTNLGRP_` numbers of linux/rtnetlink.h: link, neighbours, IPv4 addresses, routes and rules, the same of IPv6,
/// and next-hop objects.
const GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 32];
/// Receive buffer asked of the kernel, octets: room for a burst of some thousand notifications.
const SOCKET_BUFFER: usize = 4 << 20;
/// The kernel writes at most 32 KiB into one datagram of a dump.
const DATAGRAM: usize = 64 << 10;
/// Open route questions at a time: their answers never fill the socket's buffer.
const OPEN: usize = 64;
/// Route questions that wait; further ones are dropped and counted, and the machine asks again.
const WAITING: usize = 131_072;
/// How long [`Netlink::start`] waits for the kernel.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Rounds repeated because something changed under a dump; the last is taken as it is.
const REPEATS: u32 = 8;

/// Part of a round of synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dump {
    Links,
    Addresses,
    Neighbours,
}

impl Dump {
    const fn next(self) -> Option<Self> {
        match self {
            Self::Links => Some(Self::Addresses),
            Self::Addresses => Some(Self::Neighbours),
            Self::Neighbours => None,
        }
    }
}

/// A round of synchronisation in progress.
#[derive(Debug, Clone, Copy)]
struct Round {
    dump: Dump,
    /// Sequence number of the dump's request.
    sequence: u32,
    /// Something changed under a dump.
    interrupted: bool,
    /// Notifications were lost since the round began.
    overrun: bool,
    /// Interrupted rounds just before this one.
    repeated: u32,
}

/// What went other than wished; only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetlinkCounters {
    /// Times the kernel said that notifications were lost.
    pub overruns: u64,
    /// Rounds repeated because something changed under a dump.
    pub interrupted: u64,
    /// Messages that could not be decoded, and were skipped.
    pub undecoded: u64,
    /// Route questions dropped because too many were waiting.
    pub questions_dropped: u64,
    /// Route questions the kernel did not answer.
    pub questions_lost: u64,
    /// Requests to resolve a neighbour that the kernel refused.
    pub refused: u64,
}

/// The netlink socket and what is under way on it.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    /// Our port number: what the kernel sends in answer to us carries it.
    port: u32,
    buffer: Vec<u8>,
    sequence: u32,
    round: Option<Round>,
    waiting: VecDeque<IpAddr>,
    /// The same as a set: a destination waits once.
    waits: BTreeSet<IpAddr>,
    /// Questions asked, by sequence number.
    open: BTreeMap<u32, IpAddr>,
    counters: NetlinkCounters,
}

impl Netlink {
    /// Opens the socket and joins the multicast groups. [`start`](Self::start) comes next.
    ///
    /// # Errors
    /// Those of the socket calls.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(|error| explain(&error, "open a netlink socket", ""))?;
        // Only CAP_NET_ADMIN may go beyond rmem_max; a smaller buffer merely means more rounds.
        if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER)?;
        }
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
        Ok(Self {
            socket,
            port,
            buffer: vec![0; DATAGRAM],
            sequence: 0,
            round: None,
            waiting: VecDeque::new(),
            waits: BTreeSet::new(),
            open: BTreeMap::new(),
            counters: NetlinkCounters::default(),
        })
    }

    /// Runs a round to its end, waiting for the kernel: afterwards own addresses and MACs are known.
    ///
    /// # Errors
    /// `TimedOut` if the kernel does not finish within five seconds; those of the socket calls.
    pub fn start(&mut self, inputs: &mut Vec<Input>) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        if self.round.is_none() {
            self.begin(0, inputs)?;
        }
        while self.round.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = "the kernel did not finish its netlink dumps within five seconds";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.receive(inputs)?;
        }
        Ok(())
    }

    /// What went other than wished so far.
    #[must_use]
    pub const fn counters(&self) -> NetlinkCounters {
        self.counters
    }

    /// Appends all that the kernel has to tell, until it has no more.
    ///
    /// # Errors
    /// Those of the socket calls. Lost notifications are no error: they begin a round of synchronisation.
    pub fn receive(&mut self, inputs: &mut Vec<Input>) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let drained = self.drain(&mut buffer, inputs);
        self.buffer = buffer;
        if drained? {
            inputs.push(Input::RoutesChanged); // once for a whole burst
        }
        Ok(())
    }

    /// Reads until there is no more; true if a route or a rule changed.
    fn drain(&mut self, buffer: &mut Vec<u8>, inputs: &mut Vec<Input>) -> io::Result<bool> {
        let mut routes_changed = false;
        loop {
            match self.socket.recv_from(&mut &mut buffer[..], libc::MSG_TRUNC) {
                // Other processes may write to our port too; only the kernel has port 0.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok((length, _)) if length > buffer.len() => {
                    buffer.resize(length.next_power_of_two(), 0);
                    self.overrun(inputs)?;
                }
                Ok((length, _)) => routes_changed |= self.datagram(&buffer[..length], inputs)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.overrun(inputs)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.counters.questions_lost += self.open.len() as u64;
                    self.open.clear();
                    if self.waiting.is_empty() {
                        return Ok(routes_changed);
                    }
                }
                Err(error) => return Err(explain(&error, "receive from netlink", "")),
            }
            self.pump()?;
        }
    }

    /// Does what the machine asks for, if it is for the kernel.
    ///
    /// # Errors
    /// Those of the send call. The machine repeats its questions, so the caller may merely count them.
    pub fn perform(&mut self, output: &Output) -> io::Result<()> {
        match output {
            Output::AskRoute(destination) if self.waits.contains(destination) => Ok(()),
            Output::AskRoute(_) if self.waiting.len() >= WAITING => {
                self.counters.questions_dropped += 1;
                Ok(())
            }
            Output::AskRoute(destination) => {
                self.waits.insert(*destination);
                self.waiting.push_back(*destination);
                self.pump()
            }
            Output::Resolve { index, address } => self.resolve(*index, *address),
            Output::Changed(_) | Output::AddressesChanged | Output::Refused(_) => Ok(()),
        }
    }

    /// Makes the kernel resolve a neighbour as if it had a packet for it: `NTF_USE` starts ARP or ND unless the entry
    /// is fresh.
    fn resolve(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.flags = NeighbourFlags::Use;
        message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::from(address))];
        self.send(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE).map(drop)
    }

    /// Asks the waiting questions, as many as may be open.
    fn pump(&mut self) -> io::Result<()> {
        while self.open.len() < OPEN {
            let Some(destination) = self.waiting.pop_front() else { break };
            self.waits.remove(&destination);
            let mut message = RouteMessage::default();
            message.header.address_family = family(destination);
            message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
            message.attributes = vec![RouteAttribute::Destination(destination.into())];
            let sequence = self.send(RouteNetlinkMessage::GetRoute(message), 0)?;
            self.open.insert(sequence, destination);
        }
        Ok(())
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.socket, self.sequence, message, flags)?;
        Ok(self.sequence)
    }

    /// Begins a round: from its beginning to its end everything is told anew.
    fn begin(&mut self, repeated: u32, inputs: &mut Vec<Input>) -> io::Result<()> {
        inputs.push(Input::SyncBegin);
        self.dump(Round { dump: Dump::Links, sequence: 0, interrupted: false, overrun: false, repeated })
    }

    /// Notifications were lost. A dump under way comes to its end first: the kernel runs one at a time per socket.
    fn overrun(&mut self, inputs: &mut Vec<Input>) -> io::Result<()> {
        self.counters.overruns += 1;
        match &mut self.round {
            Some(round) => round.overrun = true,
            None => self.begin(0, inputs)?,
        }
        Ok(())
    }

    fn dump(&mut self, round: Round) -> io::Result<()> {
        let message = match round.dump {
            Dump::Links => RouteNetlinkMessage::GetLink(LinkMessage::default()),
            Dump::Addresses => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            Dump::Neighbours => RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
        };
        let sequence = self.send(message, NLM_F_DUMP)?;
        self.round = Some(Round { sequence, ..round });
        Ok(())
    }

    /// Reads one datagram; true if a route or a rule changed.
    fn datagram(&mut self, datagram: &[u8], inputs: &mut Vec<Input>) -> io::Result<bool> {
        let mut rest = datagram;
        let mut routes_changed = false;
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            let length = message.length() as usize;
            routes_changed |= self.message(&rest[..length], inputs)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(routes_changed)
    }

    fn message(&mut self, octets: &[u8], inputs: &mut Vec<Input>) -> io::Result<bool> {
        let buffer = NetlinkBuffer::new(octets);
        let (kind, sequence) = (buffer.message_type(), buffer.sequence_number());
        let ours = buffer.port_number() == self.port;
        if ours
            && buffer.flags() & NLM_F_DUMP_INTR != 0
            && let Some(round) = self.round.as_mut().filter(|round| round.sequence == sequence)
        {
            round.interrupted = true;
        }
        match kind {
            NLMSG_DONE => self.done(sequence, inputs)?,
            NLMSG_OVERRUN => self.overrun(inputs)?,
            NLMSG_ERROR => self.error(sequence, octets, inputs)?,
            decode::RTM_NEWROUTE if ours => self.answer(sequence, octets, inputs),
            kind if decode::concerns_routes(kind) => return Ok(decode::changes_routes(octets)),
            kind if kind >= decode::RTM_BASE => match decode::input(octets) {
                Some(input) => inputs.extend(input),
                None => self.counters.undecoded += 1,
            },
            _ => {}
        }
        Ok(false)
    }

    fn answer(&mut self, sequence: u32, octets: &[u8], inputs: &mut Vec<Input>) {
        let Some(destination) = self.open.remove(&sequence) else { return };
        match decode::route(octets) {
            Some(hop) => inputs.push(Input::Route { destination, hop }),
            None => self.counters.undecoded += 1,
        }
    }

    /// A dump is over: the next one, or the end of the round.
    fn done(&mut self, sequence: u32, inputs: &mut Vec<Input>) -> io::Result<()> {
        let Some(round) = self.round.filter(|round| round.sequence == sequence) else { return Ok(()) };
        if let Some(next) = round.dump.next() {
            return self.dump(Round { dump: next, ..round });
        }
        self.round = None;
        if round.overrun {
            return self.begin(0, inputs);
        }
        if round.interrupted && round.repeated < REPEATS {
            self.counters.interrupted += 1;
            return self.begin(round.repeated + 1, inputs);
        }
        inputs.push(Input::SyncEnd);
        Ok(())
    }

    fn error(&mut self, sequence: u32, octets: &[u8], inputs: &mut Vec<Input>) -> io::Result<()> {
        if let Some(destination) = self.open.remove(&sequence) {
            // Unreachable, prohibited, blackhole: each has an error number of its own and none leads anywhere.
            inputs.push(Input::Route { destination, hop: None });
        } else if self.round.is_some_and(|round| round.sequence == sequence) {
            self.round = None;
            return Err(explain(&decode::error(octets), "dump by netlink", ""));
        } else {
            self.counters.refused += 1;
        }
        Ok(())
    }
}

pub(super) fn send(socket: &Socket, sequence: u32, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.sequence_number = sequence;
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    socket.send(&octets, 0).map(drop)
}

pub(super) const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

event_source!(Netlink, socket);
