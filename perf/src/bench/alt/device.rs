//! The speaker over TCP: what stands in BIRD's place. Only what a driver must do: sockets, `poll`, and the machine.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use altitude_control::alt::bgp::{
    peer::ConnectionId,
    speaker::{Input, Output, Speaker},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{feed, scale};

/// What is read at once, octets.
const READ: usize = 64 * 1024;
/// The longest sleep: how late a stop is seen, milliseconds.
const SLEEP: u16 = 100;

/// Its port.
pub(super) const PORT: u16 = 179;

struct Connection {
    stream: TcpStream,
    pending: Vec<u8>,
}

/// Serves the neighbours until told to stop.
///
/// # Errors
/// A line that says what the system refused.
pub fn serve(stop: &AtomicBool, ready: impl FnOnce()) -> Result<(), String> {
    let text = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let listen = |index| {
        let listener = TcpListener::bind(SocketAddr::new(feed::local(index).into(), PORT))?;
        listener.set_nonblocking(true).map(|()| listener)
    };
    let listeners: Vec<TcpListener> =
        (0..feed::NEIGHBORS).map(listen).collect::<Result<_, _>>().map_err(text("listening"))?;
    let mut speaker = Speaker::new(scale::settings(feed::NEIGHBORS), Instant::now(), 1).map_err(|e| e.to_string())?;
    let mut todo = Vec::new();
    let mut connections: BTreeMap<ConnectionId, Connection> = BTreeMap::new();
    let mut buffer = vec![0; READ];
    speaker.step(Instant::now(), Input::Start, &mut todo);
    ready();
    while !stop.load(Ordering::Relaxed) {
        let numbers = wait(&listeners, &connections, &speaker).map_err(text("poll"))?;
        for listener in &listeners {
            while let Ok((stream, remote)) = listener.accept() {
                let local = stream.local_addr().map_err(text("accept"))?.ip();
                stream.set_nonblocking(true).map_err(text("accept"))?;
                if let Some(id) = speaker.admit(Instant::now(), local, remote.ip(), &mut todo) {
                    connections.insert(id, Connection { stream, pending: Vec::new() });
                }
            }
        }
        obey(&mut speaker, &mut connections, &mut todo);
        for id in numbers {
            let Some(connection) = connections.get_mut(&id) else { continue };
            let input = match connection.stream.read(&mut buffer) {
                Ok(0) => Input::Closed(id),
                Ok(length) => Input::Octets(id, &buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => Input::Closed(id),
            };
            speaker.step(Instant::now(), input, &mut todo);
            if input == Input::Closed(id) {
                connections.remove(&id);
            }
            obey(&mut speaker, &mut connections, &mut todo);
        }
        let now = Instant::now();
        if speaker.due().is_some_and(|due| due <= now) {
            speaker.step(now, Input::Wake, &mut todo);
            obey(&mut speaker, &mut connections, &mut todo);
        }
    }
    Ok(())
}

/// Waits until something can be done; returns the connections that can be read or written.
fn wait(
    listeners: &[TcpListener],
    connections: &BTreeMap<ConnectionId, Connection>,
    speaker: &Speaker,
) -> io::Result<Vec<ConnectionId>> {
    let mut fds: Vec<PollFd> = listeners.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
    fds.extend(connections.values().map(|one| {
        let write = if one.pending.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        PollFd::new(one.stream.as_fd(), PollFlags::POLLIN | write)
    }));
    let now = Instant::now();
    let until = speaker.due().map_or(u16::MAX.into(), |due| due.saturating_duration_since(now).as_millis());
    poll(&mut fds, PollTimeout::from(u16::try_from(until).unwrap_or(SLEEP).min(SLEEP)))?;
    let active = |fd: &PollFd| fd.any().unwrap_or(false);
    let of_connections = fds[listeners.len()..].iter().zip(connections.keys());
    Ok(of_connections.filter(|(fd, _)| active(fd)).map(|(_, id)| *id).collect())
}

/// Does what the speaker wants, until it wants nothing more.
fn obey(speaker: &mut Speaker, connections: &mut BTreeMap<ConnectionId, Connection>, todo: &mut Vec<Output>) {
    for output in std::mem::take(todo) {
        match output {
            Output::Write { connection, octets } => {
                if let Some(connection) = connections.get_mut(&connection) {
                    connection.pending.extend_from_slice(&octets);
                }
            }
            Output::Close(connection) => {
                connections.remove(&connection);
            }
            Output::Connect { .. } | Output::Event(_) | Output::Changed(_) => {}
        }
    }
    for (id, connection) in connections.iter_mut().filter(|(_, connection)| !connection.pending.is_empty()) {
        if flush(connection) {
            speaker.step(Instant::now(), Input::Drained(*id), todo);
        }
    }
}

/// Writes what the socket takes; true if that was all. What cannot be written any more is noticed by reading.
fn flush(connection: &mut Connection) -> bool {
    let mut start = 0;
    while start < connection.pending.len() {
        match connection.stream.write(&connection.pending[start..]) {
            Ok(0) | Err(_) => break,
            Ok(length) => start += length,
        }
    }
    connection.pending.drain(..start);
    connection.pending.is_empty()
}
