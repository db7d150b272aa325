//! The mapping API's Unix socket: the listener, and connections that answer by themselves from a
//! [`View`].

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use socket2::{Domain, SockAddr, Socket, Type};

use super::explain;
use crate::api::{self, Conduct, MESSAGE_MAX, View};

/// Connections at one time.
pub const CONNECTIONS_MAX: usize = 16;
/// Requests of one connection answered in one round.
const REQUESTS: usize = 16;
/// A client that takes no reply for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// Waiting to be accepted.
const BACKLOG: i32 = 16;
/// The owner and its group may ask.
const MODE: u32 = 0o660;
/// The group whose members may ask, if there is one of this name.
const GROUP: &str = "altitude";

/// The listening socket. Its file is removed when it is dropped, unless it is another's by then.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl Listener {
    /// Listens at `path`. A directory that is missing is made; the file of a router that died is replaced.
    ///
    /// # Errors
    /// Texts that say what to do: another router listens there, something else is there, missing privilege.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let tried = format!("open the API socket {}", path.display());
        let tell = |error: io::Error| {
            let help = match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "be root, or give a path that may be written with --api"
                }
                io::ErrorKind::AddrInUse => "stop it, or give another path with --api",
                io::ErrorKind::AlreadyExists => "give another path with --api",
                _ => "",
            };
            explain(&error, &tried, help)
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(tell)?;
        }
        make_way(path).map_err(tell)?;
        Self::open(path).map_err(tell)
    }

    fn open(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let metadata = fs::metadata(path)?;
        let listener = Self { socket, path: path.to_owned(), file: (metadata.dev(), metadata.ino()) };
        // Nobody can connect before listen, so nobody slips in before the mode is right.
        if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
            std::os::unix::fs::chown(path, None, Some(group.gid.as_raw()))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        listener.socket.listen(BACKLOG)?;
        Ok(listener)
    }

    /// Takes the next connection; `None` if `open` connections are as many as may be, and it was turned away.
    ///
    /// # Errors
    /// `WouldBlock` if nobody waits; those of the accept call.
    pub fn accept(&self, open: usize) -> io::Result<Option<Connection>> {
        let (socket, _) = self.socket.accept()?;
        if open >= CONNECTIONS_MAX {
            return Ok(None);
        }
        socket.set_nonblocking(true)?;
        Ok(Some(Connection::new(socket)))
    }
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

/// One client. Replies wait in it while the client is slow; until they have left, no further request is read.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    replies: VecDeque<Vec<u8>>,
    /// To be dropped when the replies have left.
    closing: bool,
    /// Since when the first reply waits for the client.
    waiting: Option<Instant>,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(socket: Socket) -> Self {
        // One octet more than a message may have, so that a longer one shows.
        Self { socket, replies: VecDeque::new(), closing: false, waiting: None, buffer: vec![0; MESSAGE_MAX + 1] }
    }

    /// Sends what waits, then reads and answers requests: to be called at every event, readable or writable.
    pub fn serve(&mut self, view: &dyn View, now: Instant) -> Next {
        for _ in 0..REQUESTS {
            match self.flush(now) {
                Ok(true) if self.closing => return Next::Drop,
                Ok(true) => {}
                Ok(false) => return Next::Wait,
                Err(_) => return Next::Drop,
            }
            match self.socket.read(&mut self.buffer) {
                Ok(0) => return Next::Drop,
                Ok(length) if length > MESSAGE_MAX => self.replies.push_back(api::too_long()),
                Ok(length) => {
                    let mut replies = Vec::new();
                    self.closing = api::handle(&self.buffer[..length], view, &mut replies) == Conduct::Close;
                    self.replies.extend(replies);
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

    /// Whether the client took no reply for so long that it is to be dropped.
    #[must_use]
    pub fn stalled(&self, now: Instant) -> bool {
        self.waiting.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE)
    }

    /// Sends what waits; false if some is left.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while let Some(reply) = self.replies.front() {
            match self.socket.write(reply) {
                Ok(_) => {
                    self.replies.pop_front();
                    self.waiting = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting.get_or_insert(now);
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

event_source!(Listener, socket);
event_source!(Connection, socket);
