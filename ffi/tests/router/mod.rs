//! An API server as the router's event loop runs it, with tables of the test's own.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant, UNIX_EPOCH},
};

use altitude_control::{
    api::{AltStatus, Asker, Counts, Entry, Origin, PortStatus, Table, View},
    os::api_socket::{Connection, Listener, Next},
};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Mapping, Ttl};
use mio::{Events, Interest, Poll, Token, Waker};

const LISTENER: Token = Token(0);
const STOP: Token = Token(1);

/// What the router knows.
pub(crate) struct Tables {
    pub(crate) cache: Vec<Entry>,
    pub(crate) database: Vec<Entry>,
}

impl Tables {
    /// Every kind of entry once.
    pub(crate) fn small() -> Self {
        let wide = mapping("2.2.0.0/16", 9, &[("240.0.254.20", 1, 60), ("2001:db8::20", 2, 40)]);
        let created = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let wide = Entry {
            left: Some(Duration::from_secs(86_000)),
            packets: 7,
            octets: 700,
            ..Entry::new(Table::Cache, &wide, Origin::MapReply, created, |address| address.is_ipv4())
        };
        let mut own = mapping("1.1.0.0/16", 0, &[("240.0.254.10", 1, 100)]);
        own.locators[0].local = true;
        let negative = |text, instance, ttl, action, origin| {
            let mapping = Mapping::negative(eid(text, instance), ttl, action);
            Entry::new(Table::Cache, &mapping, origin, UNIX_EPOCH, |_| false)
        };
        let hole = negative("2.2.9.0/24", 0, Ttl::ReceiverDecides, Action::NativelyForward, Origin::Static);
        Self {
            cache: vec![
                wide,
                Entry { used: Some(UNIX_EPOCH + Duration::from_secs(1)), ..hole },
                negative("2.2.0.0/16", 5, Ttl::Minutes(1), Action::Drop, Origin::GivenUp),
                negative("2001:db8:2::/48", 0, Ttl::Minutes(1), Action::SendMapRequest, Origin::MapReply),
            ],
            database: vec![Entry::new(Table::Database, &own, Origin::Static, UNIX_EPOCH, |_| true)],
        }
    }
}

fn eid(text: &str, instance: u32) -> EidPrefix {
    EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix: text.parse().unwrap() }
}

fn mapping(text: &str, version: u16, locators: &[(&str, u8, u8)]) -> Mapping {
    let locators = locators.iter();
    Mapping {
        eid: eid(text, 0),
        ttl: Ttl::Minutes(1440),
        version,
        action: Action::NoAction,
        authoritative: true,
        locators: locators
            .map(|(rloc, prio, weight)| Locator::unicast(rloc.parse().unwrap(), *prio, *weight))
            .collect(),
    }
}

/// An entry of the cache with so many RLOCs.
pub(crate) fn cache_entry(text: &str, rlocs: u8) -> Entry {
    let rlocs: Vec<String> = (0..rlocs).map(|last| format!("240.0.254.{last}")).collect();
    let rlocs: Vec<(&str, u8, u8)> = rlocs.iter().map(|rloc| (rloc.as_str(), 1, 1)).collect();
    Entry::new(Table::Cache, &mapping(text, 0, &rlocs), Origin::MapReply, UNIX_EPOCH, |_| true)
}

impl View for Tables {
    fn generation(&self) -> u64 {
        42
    }

    fn entries(&self, table: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        let entries = if table == Table::Cache { &self.cache } else { &self.database };
        Box::new(entries.iter().cloned())
    }

    fn counts(&self) -> Vec<Counts> {
        Vec::new()
    }

    fn ports(&self) -> Vec<PortStatus> {
        Vec::new()
    }

    fn alt(&self) -> AltStatus {
        AltStatus::default()
    }
}

/// A thread that answers until this is dropped; by then every connection is closed.
pub(crate) struct Router {
    path: PathBuf,
    stop: Waker,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Router {
    pub(crate) fn start(path: &Path, tables: Tables) -> Self {
        let poll = Poll::new().unwrap();
        let mut listener = Listener::bind(path).unwrap();
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
        let stop = Waker::new(poll.registry(), STOP).unwrap();
        let thread = thread::spawn(move || serve(poll, &listener, &tables));
        Self { path: path.to_owned(), stop, thread: Some(thread) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.wake().expect("a thread to wake");
        let ended = self.thread.take().expect("one drop").join();
        // A second panic would hide the test's own.
        if !thread::panicking() {
            ended.expect("no panic").expect("no error");
        }
    }
}

fn serve(mut poll: Poll, listener: &Listener, tables: &Tables) -> io::Result<()> {
    let mut events = Events::with_capacity(16);
    let mut connections: HashMap<Token, Connection> = HashMap::new();
    let mut next = 2;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            match event.token() {
                STOP => return Ok(()),
                LISTENER => loop {
                    match listener.accept(connections.len(), Asker(next as u64)) {
                        Ok(Some(mut connection)) => {
                            let interest = Interest::READABLE | Interest::WRITABLE;
                            poll.registry().register(&mut connection, Token(next), interest)?;
                            connections.insert(Token(next), connection);
                            next += 1;
                        }
                        Ok(None) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                },
                token => {
                    let Some(connection) = connections.get_mut(&token) else { continue };
                    let outcome = loop {
                        match connection.serve(&mut &*tables, Instant::now()) {
                            Next::Again => {}
                            outcome => break outcome,
                        }
                    };
                    if outcome == Next::Drop {
                        connections.remove(&token);
                    }
                }
            }
        }
    }
}
