//! The asking end, as `altitude show` uses it: blocking, with a time limit on every message.

mod batch;
mod events;
mod trace;

use std::{
    collections::VecDeque,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use altitude_dataplane::mapping::{Eid, EidPrefix, Prefix};
use nix::sys::socket::MsgFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    AltStatus, BgpRoute, BgpStatus, BindingStatus, Counts, Entry, LocatorStatus, PortStatus, RegistrationStatus,
    RoutesAsked, SitesPage, Stat, SubscriptionStatus, Table,
    bgp::{self, Collected},
    entry::{self, Entries},
    locators,
    message::{Fields, Flags, Header, MESSAGE_MAX, Op, ProtocolError, Tlvs, errno, kind},
    nat::{self, Bindings},
    registration::Registrations,
    session::RING,
    sites,
    status::{Detail, Statuses},
    subscriptions::{self, Subscriptions},
};

pub use events::{Performed, Told};

/// How long a message may take either way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the router's answer is not there.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no router answers at {}: start it with `altitude run`, or give its socket with --api", path.display())]
    NotRunning {
        /// The API's socket.
        path: PathBuf,
        /// What the kernel said: there is no such file, or nobody behind it.
        error: io::Error,
    },
    /// The socket's permissions say no.
    #[error("{} may not be opened: be root, or join the socket's group", .0.display())]
    Forbidden(PathBuf),
    /// Another error of the socket.
    #[error("{}: {error}", path.display())]
    Socket {
        /// The API's socket.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The router refused.
    #[error("the router refused (error {errno}): {text}")]
    Refused {
        /// Linux error number.
        errno: u32,
        /// The router's reason.
        text: String,
    },
    /// The router refused a batch.
    #[error("the router refused change {} of the batch, and so all (error {errno}): {text}", at + 1)]
    BatchRefused {
        /// Which one could not be done, the first being 0.
        at: usize,
        /// Linux error number.
        errno: u32,
        /// The router's reason.
        text: String,
    },
    /// What came is no answer to what was asked.
    #[error("the router's answer cannot be read: {0}")]
    Answer(#[from] ProtocolError),
}

/// A connection to a router.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    path: PathBuf,
    sequence: u64,
    generation: u64,
    /// Events that came while an answer was waited for.
    events: VecDeque<Told>,
    /// How many of them are kept: as many as wait at the router, and one more for each entry of the longest answer so far.
    keep_max: usize,
    /// As long as the longest message.
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to the router whose API listens at `path`.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`], [`ClientError::Forbidden`], [`ClientError::Socket`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.connect(&SockAddr::unix(path)?)?;
            Ok(socket)
        };
        match connect() {
            Ok(socket) => {
                let buffer = vec![0; MESSAGE_MAX];
                let path = path.to_owned();
                Ok(Self { socket, path, sequence: 0, generation: 0, events: VecDeque::new(), keep_max: RING, buffer })
            }
            Err(error) => Err(Self::explain(path, error)),
        }
    }

    fn explain(path: &Path, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { path: path.to_owned(), error }
            }
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(path.to_owned()),
            io::ErrorKind::WouldBlock => {
                let error = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}"));
                ClientError::Socket { path: path.to_owned(), error }
            }
            _ => ClientError::Socket { path: path.to_owned(), error },
        }
    }

    /// Generation of the tables in the last answer; it grows whenever a table changes.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Who answers: program and version.
    ///
    /// # Errors
    /// All but those of connecting.
    pub fn hello(&mut self) -> Result<String, ClientError> {
        let mut name = String::new();
        self.ask(Op::HELLO, Flags::default(), &[], |kind, fields| {
            if kind == kind::TEXT {
                fields.text()?.clone_into(&mut name);
            }
            Ok(())
        })?;
        Ok(name)
    }

    /// All entries of a table, ascending. What changes while they come is told by events if this is a subscriber: they are kept,
    /// and told in their order, by which the table becomes what it is.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn dump(&mut self, table: Table) -> Result<Vec<Entry>, ClientError> {
        let mut body = Vec::new();
        entry::put_table(&mut body, Some(table));
        let mut entries = Entries::default();
        self.ask(Op::GET, Flags::DUMP, &body, |kind, fields| entries.take(kind, fields))?;
        Ok(entries.finish())
    }

    /// The entry of the longest prefix that holds the EID.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn get(&mut self, table: Table, eid: Eid) -> Result<Option<Entry>, ClientError> {
        self.find(table, &EidPrefix { instance: eid.instance, prefix: Prefix::host(eid.address) })
    }

    /// The entry of exactly the prefix; of the longest match if the prefix holds one address only.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn find(&mut self, table: Table, eid: &EidPrefix) -> Result<Option<Entry>, ClientError> {
        let mut body = Vec::new();
        entry::put_table(&mut body, Some(table));
        entry::put_instance(&mut body, eid.instance);
        entry::put_prefix(&mut body, eid.prefix);
        let mut entries = Entries::default();
        match self.ask(Op::GET, Flags::default(), &body, |kind, fields| entries.take(kind, fields)) {
            Ok(()) => Ok(entries.finish().pop()),
            Err(ClientError::Refused { errno: errno::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every counter, summed over workers.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn totals(&mut self) -> Result<Vec<Stat>, ClientError> {
        self.statuses(None).map(|statuses| statuses.totals)
    }

    /// Every counter of every worker and of the control thread.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn counts(&mut self) -> Result<Vec<Counts>, ClientError> {
        self.statuses(Some(Detail::Counters)).map(|statuses| statuses.counts)
    }

    /// The ports.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn ports(&mut self) -> Result<Vec<PortStatus>, ClientError> {
        self.statuses(Some(Detail::Ports)).map(|statuses| statuses.ports)
    }

    /// Tunnels and routes of the ALT.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn alt(&mut self) -> Result<AltStatus, ClientError> {
        self.statuses(Some(Detail::Alt)).map(|statuses| statuses.alt)
    }

    /// Locators of the map-cache, ascending, page by page.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn locators(&mut self) -> Result<Vec<LocatorStatus>, ClientError> {
        let (mut found, mut after): (Vec<LocatorStatus>, _) = (Vec::new(), None);
        loop {
            let mut body = Vec::new();
            Detail::Locators.put(&mut body);
            if let Some(after) = after {
                locators::put_after(&mut body, after);
            }
            let mut next = None;
            self.ask(Op::STATS, Flags::default(), &body, |kind, fields| {
                match kind {
                    kind::LOCATOR => found.push(locators::locator(fields)?),
                    kind::AFTER => next = Some(locators::after(fields)?),
                    _ => {}
                }
                Ok(())
            })?;
            // Pages go on: a router that names the same place again is asked no more.
            after = next.filter(|next| after.is_none_or(|after| *next > after));
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// The BGP speaker and its neighbours.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn bgp(&mut self) -> Result<BgpStatus, ClientError> {
        self.collect(Detail::Bgp, RoutesAsked::default()).map(|collected| collected.status)
    }

    /// A page of BGP routes, and where the next one starts if there is one.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn bgp_routes(&mut self, asked: RoutesAsked) -> Result<(Vec<BgpRoute>, Option<EidPrefix>), ClientError> {
        self.collect(Detail::Routes, asked).map(|collected| (collected.routes, collected.next))
    }

    /// The Map-Servers that our EID-prefixes are registered with.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn registrations(&mut self) -> Result<Vec<RegistrationStatus>, ClientError> {
        let mut body = Vec::new();
        Detail::Registrations.put(&mut body);
        let mut collected = Registrations::default();
        self.ask(Op::STATS, Flags::default(), &body, |kind, fields| collected.take(kind, fields))?;
        Ok(collected.list)
    }

    /// PubSub subscriptions, the router's own and those at its Map-Server.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn subscriptions(&mut self) -> Result<Vec<SubscriptionStatus>, ClientError> {
        let mut collected = Subscriptions::default();
        loop {
            let mut body = Vec::new();
            Detail::Subscriptions.put(&mut body);
            if let Some(after) = collected.page.next.take() {
                subscriptions::put_after(&mut body, &after);
            }
            self.ask(Op::STATS, Flags::default(), &body, |kind, fields| collected.take(kind, fields))?;
            if collected.page.next.is_none() {
                return Ok(collected.page.list);
            }
        }
    }

    /// xTRs behind NATs that register through the router, an RTR, page by page.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn bindings(&mut self) -> Result<Vec<BindingStatus>, ClientError> {
        let (mut collected, mut after) = (Bindings::default(), None);
        loop {
            let mut body = Vec::new();
            Detail::Bindings.put(&mut body);
            if let Some(after) = &after {
                nat::put_after(&mut body, after);
            }
            self.ask(Op::STATS, Flags::default(), &body, |kind, fields| collected.take(kind, fields))?;
            // Pages go on: a router that names the same place again is asked no more.
            after = collected.page.next.take().filter(|next| after.is_none_or(|after| *next > after));
            if after.is_none() {
                return Ok(collected.page.list);
            }
        }
    }

    /// A page of the Map-Server's sites, from this place on.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn sites(&mut self, from: u32) -> Result<SitesPage, ClientError> {
        let mut body = Vec::new();
        Detail::Sites.put(&mut body);
        sites::put_next(&mut body, from);
        let mut collected = sites::Collected::default();
        self.ask(Op::STATS, Flags::default(), &body, |kind, fields| collected.take(kind, fields))?;
        Ok(collected.page)
    }

    fn collect(&mut self, detail: Detail, asked: RoutesAsked) -> Result<Collected, ClientError> {
        let mut body = Vec::new();
        detail.put(&mut body);
        if let Some(eid) = asked.exact {
            entry::put_instance(&mut body, eid.instance);
            entry::put_prefix(&mut body, eid.prefix);
        }
        if let Some(after) = asked.after {
            bgp::put_cursor(&mut body, &after);
        }
        let mut collected = Collected::default();
        self.ask(Op::STATS, Flags::default(), &body, |kind, fields| collected.take(kind, fields))?;
        Ok(collected)
    }

    fn statuses(&mut self, detail: Option<Detail>) -> Result<Statuses, ClientError> {
        let mut body = Vec::new();
        if let Some(detail) = detail {
            detail.put(&mut body);
        }
        let mut statuses = Statuses::default();
        self.ask(Op::STATS, Flags::default(), &body, |kind, fields| statuses.take(kind, fields))?;
        Ok(statuses)
    }

    /// Sends one message. That the router is gone must be an error and never a SIGPIPE, which a C program that uses this
    /// through the C ABI may not ignore: POSIX leaves open whether `SOCK_SEQPACKET` raises it.
    fn send(&self, message: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send_with_flags(message, MsgFlags::MSG_NOSIGNAL.bits()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }

    /// Takes the next message in.
    fn receive(&mut self) -> Result<Vec<u8>, ClientError> {
        loop {
            let length = match self.socket.read(&mut self.buffer) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other,
            };
            let length = length.map_err(|error| Self::explain(&self.path, error))?;
            return Ok(self.buffer[..length].to_vec());
        }
    }

    /// Asks, and hands every TLV of the answer to `take`.
    fn ask(
        &mut self,
        op: Op,
        flags: Flags,
        body: &[u8],
        mut take: impl FnMut(u16, Fields<'_>) -> Result<(), ProtocolError>,
    ) -> Result<(), ClientError> {
        self.sequence += 1;
        let request = Header { op, flags, errno: 0, sequence: self.sequence, generation: 0 };
        let mut eids = 0;
        self.send(&request.message(body)).map_err(|error| Self::explain(&self.path, error))?;
        loop {
            let message = self.receive()?;
            let (reply, body) = Header::split(&message)?;
            if reply.flags.has(Flags::EVENT) {
                self.keep(&message)?;
                continue;
            }
            if reply.errno != 0 {
                return Err(refused(reply.errno, body));
            }
            if reply.op != op || reply.sequence != self.sequence || !reply.flags.has(Flags::REPLY) {
                return Err(ProtocolError::Value("it answers another question").into());
            }
            for tlv in Tlvs(body) {
                let (kind, fields) = tlv?;
                eids += usize::from(kind == kind::EID);
                take(kind, fields)?;
            }
            self.keep_max = self.keep_max.max(RING + eids);
            self.generation = reply.generation;
            if !reply.flags.has(Flags::MORE) {
                return Ok(());
            }
        }
    }
}

fn refused(errno: u32, body: &[u8]) -> ClientError {
    let texts = Tlvs(body).filter_map(Result::ok).filter(|(kind, _)| *kind == kind::TEXT);
    let text = texts.filter_map(|(_, fields)| fields.text().ok()).collect::<Vec<_>>().join(", ");
    ClientError::Refused { errno, text }
}
