//! The four neighbours over TCP: they say what they have and count what they are told.

use std::{
    collections::HashSet,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use altitude_control::alt::bgp::message::{self, Context, Message, Splitter};
use altitude_dataplane::mapping::Prefix;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use super::{
    device::PORT,
    feed::{self, Feed},
};

const READ: usize = 256 * 1024;

/// One neighbour's connection.
struct Neighbor {
    stream: TcpStream,
    splitter: Splitter,
    context: Context,
    /// What is left to say.
    octets: Vec<u8>,
    said: usize,
    /// Prefixes it was told of, each once however often it was said, and of how many it must be.
    told: HashSet<Prefix>,
    expected: usize,
}

/// Connects as all four neighbours.
fn connect(feeds: &[Feed], limit: Duration) -> Result<Vec<Neighbor>, String> {
    let total: usize = feeds.iter().map(|feed| feed.prefixes).sum();
    let start = Instant::now();
    let one = |feed: &Feed| loop {
        let error = match dial(feed.index) {
            Ok(stream) => {
                let octets = [feed::greeting(feed.index), feed.octets.clone()].concat();
                let (splitter, context) = (Splitter::default(), feed::context(feed.index));
                let expected = total - feed.prefixes;
                let told = HashSet::with_capacity(expected);
                return Ok(Neighbor { stream, splitter, context, octets, said: 0, told, expected });
            }
            Err(error) => error,
        };
        if start.elapsed() > limit {
            return Err(format!("connecting to {}: {error}", feed::local(feed.index)));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    feeds.iter().map(one).collect()
}

fn dial(index: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(feed::remote(index).into(), 0).into())?;
    socket.connect(&SocketAddr::new(feed::local(index).into(), PORT).into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Says everything and returns how long it took until everybody was told of everything.
///
/// # Errors
/// A line that says which neighbour still waits for what.
pub(super) fn exchange(feeds: &[Feed], limit: Duration) -> Result<Duration, String> {
    let mut neighbors = connect(feeds, limit)?;
    let start = Instant::now();
    let mut buffer = vec![0; READ];
    while neighbors
        .iter()
        .any(|neighbor| neighbor.told.len() < neighbor.expected || neighbor.said < neighbor.octets.len())
    {
        if start.elapsed() > limit {
            let waiting = neighbors.iter().map(|neighbor| format!("{} of {}", neighbor.told.len(), neighbor.expected));
            return Err(format!("after {limit:?}, told of {}", waiting.collect::<Vec<_>>().join(", ")));
        }
        let mut fds: Vec<PollFd> = neighbors.iter().map(interest).collect();
        poll(&mut fds, PollTimeout::from(100_u16)).map_err(|error| error.to_string())?;
        for neighbor in &mut neighbors {
            neighbor.turn(&mut buffer)?;
        }
    }
    Ok(start.elapsed())
}

fn interest(neighbor: &Neighbor) -> PollFd<'_> {
    let write = if neighbor.said < neighbor.octets.len() { PollFlags::POLLOUT } else { PollFlags::empty() };
    PollFd::new(neighbor.stream.as_fd(), PollFlags::POLLIN | write)
}

impl Neighbor {
    fn turn(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        let blocked = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        match self.stream.read(buffer) {
            Ok(0) => return Err("the speaker closed a session".to_owned()),
            Ok(length) => self.read(&buffer[..length])?,
            Err(error) if blocked(&error) => {}
            Err(error) => return Err(format!("reading: {error}")),
        }
        if self.said < self.octets.len() {
            match self.stream.write(&self.octets[self.said..]) {
                Ok(length) => self.said += length,
                Err(error) if blocked(&error) => {}
                Err(error) => return Err(format!("writing: {error}")),
            }
        }
        Ok(())
    }

    fn read(&mut self, octets: &[u8]) -> Result<(), String> {
        self.splitter.push(octets);
        while let Some(framed) = self.splitter.next() {
            let octets = framed.map_err(|notification| notification.to_string())?;
            let parsed = message::parse(octets, &self.context).map_err(|notification| notification.to_string())?;
            match parsed.message {
                Some(Message::Update(update)) => {
                    self.told.extend(update.announced.into_iter().flat_map(|(_, prefixes)| prefixes));
                }
                Some(Message::Notification(notification)) => return Err(notification.to_string()),
                _ => {}
            }
        }
        Ok(())
    }
}
