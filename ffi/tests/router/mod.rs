//! An API server as the router's event loop runs it, with tables of the test's own.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant, UNIX_EPOCH},
};

use altitude_control::{
    api::{
        AltStatus, Asker, Batch, Checks, Counts, Done, Entry, Event, Failed, Method, Offer, Operation, Origin, Outcome,
        PortStatus, Refused, Table, View,
    },
    os::api_socket::{Connection, Listener, Next},
};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Mapping, Ttl};
use mio::{Events, Interest, Poll, Token, Waker};

/// A packet that missed: an IPv4 header, and 12 octets.
pub(crate) const MISSED: [u8; 32] = {
    let mut octets = [7; 32];
    octets[0] = 0x45;
    octets
};

const LISTENER: Token = Token(0);
const STOP: Token = Token(1);

/// What the router knows.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) cache: Vec<Entry>,
    pub(crate) database: Vec<Entry>,
    /// What is to be told, and whom not.
    pub(crate) news: Vec<(Asker, Event)>,
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
            news: Vec::new(),
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

impl Tables {
    fn entries_of(&mut self, table: Table) -> &mut Vec<Entry> {
        if table == Table::Cache { &mut self.cache } else { &mut self.database }
    }
}

impl View for Tables {
    fn generation(&self) -> u64 {
        42
    }

    fn entries(&self, table: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        let entries = if table == Table::Cache { &self.cache } else { &self.database };
        let mut entries = entries.clone();
        entries.sort_by_key(|entry| entry.eid);
        Box::new(entries.into_iter())
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

/// Does as it is told, if there is sense in it; at an EID of 66.0.0.0/8 a miss happens instead.
impl altitude_control::api::Router for Tables {
    fn view(&self) -> &dyn View {
        self
    }

    fn perform(&mut self, asker: Asker, operation: Operation) -> Result<Outcome, Refused> {
        let at = |cache: &[Entry], eid: &EidPrefix| cache.iter().position(|entry| entry.eid == *eid);
        let made = |offer: &Offer| Entry {
            left: offer.life.filter(|_| offer.table == Table::Cache),
            ephemeral: offer.ephemeral,
            ..Entry::new(offer.table, &offer.mapping, Origin::Api, UNIX_EPOCH, |_| true)
        };
        let event = match operation {
            Operation::Add(offer) if at(self.entries_of(offer.table), &offer.mapping.eid).is_some() => {
                return Err(Refused::Exists(offer.mapping.eid));
            }
            Operation::Add(offer) => {
                let entry = made(&offer);
                self.entries_of(offer.table).push(entry.clone());
                Event::Added(entry)
            }
            Operation::Change { unless_after: Some(41), offer } => return Err(Refused::Changed(offer.mapping.eid)),
            Operation::Change { offer, .. } => {
                let missing = || Refused::Missing("nothing there".to_owned());
                let place = at(self.entries_of(offer.table), &offer.mapping.eid).ok_or_else(missing)?;
                self.entries_of(offer.table)[place] = made(&offer);
                Event::Changed(made(&offer))
            }
            Operation::Delete { table, eid, .. } => {
                let missing = || Refused::Missing("nothing there".to_owned());
                let place = at(self.entries_of(table), &eid).ok_or_else(missing)?;
                self.entries_of(table).remove(place);
                Event::Deleted { table, eid, expired: eid.prefix.length() == 24 }
            }
            Operation::Flush { table, instance, all } => {
                self.cache.clear();
                Event::Flushed { table, instance, all }
            }
            Operation::Judge { judged: altitude_control::api::Judged::Locator(locator), up } => {
                let rtt = Some(Duration::from_micros(1500));
                Event::Judged { locator, up, method: Method::Admin, state: "unknown", rtt }
            }
            Operation::Judge { .. } | Operation::Clear { .. } | Operation::Reload => {
                return Err(Refused::Unsupported("not here"));
            }
        };
        if let Event::Added(entry) = &event
            && entry.eid.prefix.address().to_string().starts_with("66.")
        {
            let reason = altitude_control::api::MissReason::NoEntry;
            let from = Some([1, 1, 1, 1].into());
            self.news
                .push((asker, Event::Missed { eid: entry.eid, reason, suppressed: 7, from, packet: MISSED.to_vec() }));
            return Ok(Done::default().into());
        }
        self.news.push((asker, event));
        Ok(Done::default().into())
    }

    fn perform_all(&mut self, asker: Asker, operations: Vec<Operation>) -> Result<Done, Failed> {
        Batch::verify(operations.clone(), self)?;
        let count = operations.len() as u64;
        for operation in operations {
            self.perform(asker, operation).expect("it was verified");
        }
        Ok(Done { entry: None, count })
    }
}

impl Checks for Tables {
    fn holds(&self, table: Table, eid: &EidPrefix) -> bool {
        let entries = if table == Table::Cache { &self.cache } else { &self.database };
        entries.iter().any(|entry| entry.eid == *eid)
    }

    fn acceptable(&self, offer: &Offer) -> Result<(), Refused> {
        let nowhere = offer.table == Table::Database && offer.mapping.locators.is_empty();
        if nowhere { Err(Refused::Invalid("it leads nowhere".to_owned())) } else { Ok(()) }
    }

    fn unchanged(&self, table: Table, eid: &EidPrefix, unless_after: Option<u64>) -> Result<(), Refused> {
        match unless_after {
            _ if !self.holds(table, eid) => Err(Refused::Missing("nothing there".to_owned())),
            Some(41) => Err(Refused::Changed(*eid)),
            _ => Ok(()),
        }
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
        let thread = thread::spawn(move || serve(poll, &listener, tables));
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

fn serve(mut poll: Poll, listener: &Listener, mut tables: Tables) -> io::Result<()> {
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
                    answer(&mut connections, token, &mut tables);
                    for (cause, event) in std::mem::take(&mut tables.news) {
                        let now = Instant::now();
                        for connection in connections.values_mut() {
                            connection.tell(now, &event, Some(cause), &mut |detail| event.body_for(detail).into());
                        }
                    }
                    for token in connections.keys().copied().collect::<Vec<_>>() {
                        answer(&mut connections, token, &mut tables);
                    }
                }
            }
        }
    }
}

fn answer(connections: &mut HashMap<Token, Connection>, token: Token, tables: &mut Tables) {
    let Some(connection) = connections.get_mut(&token) else { return };
    let outcome = loop {
        match connection.serve(tables, Instant::now()) {
            Next::Again => {}
            outcome => break outcome,
        }
    };
    if outcome == Next::Drop {
        connections.remove(&token);
    }
}
