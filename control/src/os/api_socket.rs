//! The mapping API's Unix sockets: listeners, and connections that answer by themselves from a
//! [`View`](crate::api::View).

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use socket2::{Domain, SockAddr, Socket, Type};

use super::explain;
use crate::api::{self, Asker, Conduct, Done, Event, MESSAGE_MAX, MissDetail, Refused, Rights, Router, Session};

/// Connections of one listener at one time.
pub const CONNECTIONS_MAX: usize = 16;
/// Requests of one connection answered in one round.
const REQUESTS: usize = 16;
/// A client that takes no reply for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages of a trace that wait for the client before it gets no more.
const TRACED: usize = 4;
/// Waiting to be accepted.
const BACKLOG: i32 = 16;
/// The owner and its group may write.
const MODE: u32 = 0o660;
/// Everybody may read.
const MODE_READ_ONLY: u32 = 0o666;
/// The permissions of all but owner and group.
const OTHERS: u32 = 0o007;
/// The group whose members may write, if there is one of this name.
const GROUP: &str = "altitude";

/// The listening socket. Its file is removed when it is dropped, unless it is another's by then.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
    /// What may be done through it at most.
    rights: Rights,
}

impl Listener {
    /// Listens at `path`. A directory that is missing is made; the file of a router that died is replaced.
    ///
    /// # Errors
    /// Texts that say what to do: another router listens there, something else is there, missing privilege.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Self::bind_for(path, Rights::Write, "--api")
    }

    /// The same for everybody, and for reading alone.
    ///
    /// # Errors
    /// As of [`bind`](Self::bind).
    pub fn bind_read_only(path: &Path) -> io::Result<Self> {
        Self::bind_for(path, Rights::Read, "--api-read-only")
    }

    fn bind_for(path: &Path, rights: Rights, flag: &str) -> io::Result<Self> {
        let tried = format!("open the API socket {}", path.display());
        let tell = |error: io::Error| {
            let help = match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    format!("be root, or give a path that may be written with {flag}")
                }
                io::ErrorKind::AddrInUse => format!("stop it, or give another path with {flag}"),
                io::ErrorKind::AlreadyExists => format!("give another path with {flag}"),
                _ => String::new(),
            };
            explain(&error, &tried, &help)
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(tell)?;
        }
        make_way(path).map_err(tell)?;
        Self::open(path, rights).map_err(tell)
    }

    fn open(path: &Path, rights: Rights) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let metadata = fs::metadata(path)?;
        let listener = Self { socket, path: path.to_owned(), file: (metadata.dev(), metadata.ino()), rights };
        // Nobody can connect before listen, so nobody slips in before the mode is right.
        if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
            // Who is not of the group cannot give it away: the socket stays its own then.
            match std::os::unix::fs::chown(path, None, Some(group.gid.as_raw())) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            }
        }
        let mode = if rights == Rights::Write { MODE } else { MODE_READ_ONLY };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listener.socket.listen(BACKLOG)?;
        Ok(listener)
    }

    /// Takes the next connection, to be known as `asker`; `None` if `open` connections of this listener are as many as may
    /// be, and it was turned away.
    ///
    /// # Errors
    /// `WouldBlock` if nobody waits; those of the accept call.
    pub fn accept(&self, open: usize, asker: Asker) -> io::Result<Option<Connection>> {
        let (socket, _) = self.socket.accept()?;
        if open >= CONNECTIONS_MAX {
            return Ok(None);
        }
        socket.set_nonblocking(true)?;
        let rights = match self.rights {
            Rights::Read => Rights::Read,
            Rights::Write => self.rights_of(&socket),
        };
        Ok(Some(Connection::new(socket, Session::new(asker, rights), self.rights)))
    }

    /// What the peer may do: the kernel has let nobody in but owner and group, unless somebody has opened the file to others.
    fn rights_of(&self, socket: &Socket) -> Rights {
        let Ok(peer) = getsockopt(socket, PeerCredentials) else { return Rights::Read };
        let file = fs::metadata(&self.path).ok().filter(|file| (file.dev(), file.ino()) == self.file);
        let group = file.as_ref().map(|file| (file.gid(), file.mode() & OTHERS != 0));
        rights((peer.uid(), peer.gid()), nix::unistd::geteuid().as_raw(), group)
    }
}

/// What a peer of this user and group may do at a socket for writing, which is of our user and of a group; and whether its file
/// is open to others too. Members of the group by another than their first one are known by that alone that they came in.
fn rights((user, first_group): (u32, u32), ours: u32, file: Option<(u32, bool)>) -> Rights {
    let trusted = user == 0
        || user == ours
        || file.is_some_and(|(group, open_to_others)| !open_to_others || first_group == group);
    if trusted { Rights::Write } else { Rights::Read }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = fs::metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if ours {
            // What cannot be removed now is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket file of a router that died; anything else in the way is an error.
fn make_way(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    // A backlog that is full must not make us wait: it, too, is a sign of life.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => {
            let process = getsockopt(&probe, PeerCredentials).map(|peer| peer.pid()).unwrap_or_default();
            let text = format!("another program listens there (process {process})");
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

/// What a connection needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing before its next event.
    Wait,
    /// Another round: it may have more.
    Again,
    /// To be dropped: the client is gone, or spoke another protocol.
    Drop,
}

/// One client. Replies wait in it while the client is slow; until they have left, no further request is read, and no further
/// page of a dump is made.
///
/// What it holds is bounded: a request and a page of [`MESSAGE_MAX`] octets, or an answer to STATS, and
/// [`RING`](crate::api::RING) events, whose bodies all subscribers share.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    session: Session,
    /// Of the listener that it came by.
    came_by: Rights,
    replies: VecDeque<Vec<u8>>,
    /// Messages of a trace.
    traced: VecDeque<Vec<u8>>,
    /// To be dropped when the replies have left.
    closing: bool,
    /// Since when the first reply waits for the client.
    waiting: Option<Instant>,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(socket: Socket, session: Session, came_by: Rights) -> Self {
        // One octet more than a message may have, so that a longer one shows.
        let buffer = vec![0; MESSAGE_MAX + 1];
        Self {
            socket,
            session,
            came_by,
            replies: VecDeque::new(),
            traced: VecDeque::new(),
            closing: false,
            waiting: None,
            buffer,
        }
    }

    /// What may be done at most through the listener that it came by.
    #[must_use]
    pub const fn came_by(&self) -> Rights {
        self.came_by
    }

    /// How much of packets it wants with MISS events.
    #[must_use]
    pub fn detail(&self) -> MissDetail {
        self.session.detail()
    }

    /// Whether it wants any events.
    #[must_use]
    pub const fn is_subscriber(&self) -> bool {
        self.session.is_subscriber()
    }

    /// Takes in what happened, for the next [`serve`](Self::serve) to send: see [`Session::tell`].
    pub fn tell(
        &mut self,
        now: Instant,
        event: &Event,
        cause: Option<Asker>,
        body: &mut dyn FnMut(MissDetail) -> Arc<[u8]>,
    ) {
        self.session.tell(now, event, cause, body);
    }

    /// Whether messages of a trace may be added: a client that is slow takes them as they leave.
    #[must_use]
    pub fn takes_traced(&self) -> bool {
        self.traced.len() < TRACED
    }

    /// Adds a message of a trace, for the next [`serve`](Self::serve) to send.
    pub fn add_traced(&mut self, message: Vec<u8>) {
        self.traced.push_back(message);
    }

    /// Sends what waits, then reads and answers requests: to be called at every event, readable or writable.
    pub fn serve(&mut self, router: &mut dyn Router, now: Instant) -> Next {
        for _ in 0..REQUESTS {
            match self.flush(now) {
                Ok(true) if self.closing => return Next::Drop,
                Ok(true) => {}
                Ok(false) => return Next::Wait,
                Err(_) => return Next::Drop,
            }
            if self.session.is_at_work() {
                // All that happened before has left: a page stands among the events where it belongs.
                let Some(page) = api::next_page(router.view(), &mut self.session) else { return Next::Wait };
                self.replies.push_back(page);
                return self.pause(now);
            }
            match self.socket.read(&mut self.buffer) {
                Ok(0) => return Next::Drop,
                Ok(length) if length > MESSAGE_MAX => {
                    self.replies.extend(api::too_long(&self.buffer[..length], router, &mut self.session));
                }
                Ok(length) => {
                    let (mut replies, heard) = (Vec::new(), self.session.is_subscriber());
                    let request = &self.buffer[..length];
                    self.closing = api::handle(request, router, &mut self.session, &mut replies) == Conduct::Close;
                    // After long work or a long answer it is the others' turn; and who listens now is to hear of what it does next.
                    let long = self.session.take_long() || replies.len() > 1;
                    let pause = long || heard != self.session.is_subscriber();
                    self.replies.extend(replies);
                    if pause {
                        return self.pause(now);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Next::Wait,
                    io::ErrorKind::Interrupted => {}
                    _ => return Next::Drop,
                },
            }
        }
        Next::Again
    }

    /// Sends what waits, and lets others have their turn.
    fn pause(&mut self, now: Instant) -> Next {
        match self.flush(now) {
            Ok(true) => Next::Again,
            Ok(false) => Next::Wait,
            Err(_) => Next::Drop,
        }
    }

    /// A change that the client waits for came to its end; the next [`serve`](Self::serve) sends the reply, behind the events
    /// that happened before.
    pub fn conclude(&mut self, outcome: &Result<Done, Refused>, generation: u64) {
        self.session.conclude(outcome, generation);
    }

    /// Whether the client took no reply for so long that it is to be dropped.
    #[must_use]
    pub fn stalled(&self, now: Instant) -> bool {
        self.waiting.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE)
    }

    /// Sends what waits; false if some is left. Requests are read only when nothing waits, so replies are older than any event
    /// that waits with them.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while let Some(reply) = self.replies.front() {
            if !send(&mut self.socket, reply)? {
                self.waiting.get_or_insert(now);
                return Ok(false);
            }
            self.replies.pop_front();
            self.waiting = None;
        }
        while let Some(event) = self.session.first() {
            if !send(&mut self.socket, &event)? {
                return Ok(false);
            }
            self.session.told();
        }
        while let Some(message) = self.traced.front() {
            if !send(&mut self.socket, message)? {
                self.waiting.get_or_insert(now);
                return Ok(false);
            }
            self.traced.pop_front();
            self.waiting = None;
        }
        Ok(true)
    }
}

/// Sends one message; false if the client's buffer is full.
fn send(socket: &mut Socket, message: &[u8]) -> io::Result<bool> {
    loop {
        match socket.write(message) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

event_source!(Listener, socket);
event_source!(Connection, socket);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_the_files_mode_lets_in_may_write_and_strangers_may_not() {
        const OURS: u32 = 500;
        const GROUP: u32 = 60;
        let (closed, open) = (Some((GROUP, false)), Some((GROUP, true)));
        let cases = [
            // user and first group, the file, what may be done
            ((0, 0), closed, Rights::Write),
            ((0, 0), None, Rights::Write),
            ((OURS, 7), open, Rights::Write),
            ((OURS, 7), None, Rights::Write),
            ((501, GROUP), closed, Rights::Write),
            ((501, GROUP), open, Rights::Write),
            // The kernel has let it in by another of its groups.
            ((501, 7), closed, Rights::Write),
            // Somebody has opened the file to all.
            ((501, 7), open, Rights::Read),
            // The file is another one by now.
            ((501, GROUP), None, Rights::Read),
        ];
        for (peer, file, expected) in cases {
            assert_eq!(rights(peer, OURS, file), expected, "{peer:?} {file:?}");
        }
    }
}
