//! The mapping API over real sockets: a listener in a thread, clients against it.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use altitude_control::{
    api::{
        AltStatus, Asker, Counts, Done, Entry, Event, Filter, Flags, Header, Judged, MESSAGE_MAX, Offer, Op, Operation,
        Origin, Outcome, PortStatus, RING, Refused, RouteStatus, Router, Scope, Stat, SubscriptionStatus,
        SubscriptionsAfter, SubscriptionsPage, Table, TunnelStatus, View,
        client::{Client, ClientError},
    },
    os::api_socket::{CONNECTIONS_MAX, Connection, Listener, Next},
};
use altitude_dataplane::mapping::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Prefix, Ttl};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockAddr, Socket, Type};

/// Far more than anything here takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("altitude-api-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// In a folder that is not there yet.
    fn socket(&self) -> PathBuf {
        self.0.join("run/map.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A router with this many entries.
struct Fake(u32);

fn entry(table: Table, number: u32) -> Entry {
    let prefix = Prefix::new([10, (number >> 16) as u8, (number >> 8) as u8, number as u8].into(), 32).unwrap();
    let mapping = Mapping {
        eid: EidPrefix { instance: InstanceId::DEFAULT, prefix },
        ttl: Ttl::Minutes(1440),
        version: 3,
        action: Action::NoAction,
        authoritative: true,
        locators: vec![
            Locator { local: true, ..Locator::unicast([240, 0, 254, 20].into(), 1, 100) },
            Locator { reachable: false, ..Locator::unicast("2001:db8::20".parse().unwrap(), 2, 50) },
        ],
    };
    let created = UNIX_EPOCH + Duration::from_millis(u64::from(number));
    let mut entry = Entry::new(table, &mapping, Origin::MapReply, created, |rloc| rloc.is_ipv4());
    entry.left = Some(Duration::from_secs(600));
    entry.used = Some(UNIX_EPOCH + Duration::from_secs(9));
    (entry.packets, entry.octets) = (u64::from(number), u64::from(number) * 100);
    entry
}

fn hole() -> Entry {
    let eid = EidPrefix { instance: InstanceId::new(7).unwrap(), prefix: "2001:db8::/32".parse().unwrap() };
    let mapping = Mapping::negative(eid, Ttl::ReceiverDecides, Action::DropPolicyDenied);
    Entry::new(Table::Database, &mapping, Origin::GivenUp, SystemTime::UNIX_EPOCH, |_| false)
}

fn subscription(number: u32) -> SubscriptionStatus {
    SubscriptionStatus {
        ours: true,
        eid: entry(Table::Cache, number).eid,
        standing: "live",
        since: Duration::from_secs(3),
        left: None,
        nonce: number.into(),
        count: 1,
        xtr: None,
        peers: vec![[240, 0, 254, 50].into()],
    }
}

impl Fake {
    fn place(&self, eid: EidPrefix) -> u32 {
        (0..self.0).find(|number| entry(Table::Cache, *number).eid == eid).unwrap()
    }
}

impl View for Fake {
    fn generation(&self) -> u64 {
        1
    }

    fn entries(&self, table: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        match table {
            Table::Cache => Box::new((0..self.0).map(|number| entry(Table::Cache, number))),
            Table::Database => Box::new([hole()].into_iter()),
        }
    }

    fn counts(&self) -> Vec<Counts> {
        let worker = |number| Counts { scope: Scope::Worker(number), stats: vec![Stat::new("missed", 4)] };
        vec![worker(0), worker(1), Counts { scope: Scope::Control, stats: vec![Stat::new("misses", u64::MAX)] }]
    }

    fn ports(&self) -> Vec<PortStatus> {
        let port = |name: &str, site| PortStatus {
            name: name.to_owned(),
            index: 3,
            site,
            core: !site,
            native: false,
            instance: InstanceId::new(InstanceId::MAX).unwrap(),
            up: site,
            zero_copy: !site,
            mtu: 9000,
            mac: site.then_some([2, 0, 0, 0, 0, 1]),
            stats: vec![Stat::new("received-packets", 5), Stat::new("sent-packets", 6)],
        };
        vec![port("eth1", true), port("eth0", false)]
    }

    fn subscriptions(&self, after: Option<SubscriptionsAfter>, max: usize) -> SubscriptionsPage {
        let begin = match after {
            Some(SubscriptionsAfter::Ours(eid)) => self.place(eid) + 1,
            _ => 0,
        };
        let end = (begin + max as u32).min(self.0);
        let next = (end < self.0).then(|| SubscriptionsAfter::Ours(entry(Table::Cache, end - 1).eid));
        SubscriptionsPage { list: (begin..end).map(subscription).collect(), next }
    }

    fn alt(&self) -> AltStatus {
        let tunnel = |name: &str, key: Option<u32>| TunnelStatus {
            name: name.to_owned(),
            local: "2001:db8::1".parse().unwrap(),
            remote: "2001:db8::2".parse().unwrap(),
            key,
            checksum: key.is_none(),
            up: key.is_some(),
            addresses: vec![([10, 42, 0, 1].into(), 30)],
            stats: vec![Stat::new("sent", 8)],
        };
        let eid = EidPrefix { instance: InstanceId::new(5).unwrap(), prefix: "0.0.0.0/0".parse().unwrap() };
        let routes =
            vec![RouteStatus { eid, via: Some("alt1".to_owned()) }, RouteStatus { eid: hole().eid, via: None }];
        AltStatus { tunnels: vec![tunnel("alt0", Some(0)), tunnel("alt1", None)], sources: Vec::new(), routes }
    }
}

/// Serves at `path` as the program does, until `body` ends.
fn serving<T>(path: &Path, view: &(impl View + Sync), body: impl FnOnce() -> T) -> T {
    let mut listener = Listener::bind(path).unwrap();
    let mut poll = Poll::new().unwrap();
    let stop = AtomicBool::new(false);
    let waker = mio::Waker::new(poll.registry(), Token(0)).unwrap();
    poll.registry().register(&mut listener, Token(1), Interest::READABLE).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut connections: Vec<Option<Connection>> = Vec::new();
            let mut events = Events::with_capacity(16);
            while !stop.load(Ordering::Relaxed) {
                poll.poll(&mut events, Some(PATIENCE)).unwrap();
                for token in events.iter().map(mio::event::Event::token) {
                    if token == Token(1) {
                        accept(&listener, &poll, &mut connections);
                    } else if token != Token(0) {
                        serve(&mut connections[token.0 - 2], view);
                    }
                }
            }
        });
        struct Stop<'a>(&'a AtomicBool, &'a mio::Waker);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
                self.1.wake().unwrap();
            }
        }
        // Also when the body panics: else the scope waits for ever.
        let _stop = Stop(&stop, &waker);
        body()
    })
}

fn accept(listener: &Listener, poll: &Poll, connections: &mut Vec<Option<Connection>>) {
    loop {
        match listener.accept(connections.iter().flatten().count(), Asker(connections.len() as u64)) {
            Ok(Some(mut connection)) => {
                let token = Token(connections.len() + 2);
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut connection, token, interest).unwrap();
                connections.push(Some(connection));
            }
            Ok(None) => {}
            Err(error) => return assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

fn serve(connection: &mut Option<Connection>, view: &impl View) {
    loop {
        match connection.as_mut().map(|connection| connection.serve(&mut &*view, Instant::now())) {
            Some(Next::Again) => {}
            Some(Next::Drop) => return *connection = None,
            Some(Next::Wait) | None => return,
        }
    }
}

fn raw(path: &Path) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
    socket
}

#[test]
fn a_client_reads_back_all_that_the_router_knows() {
    let folder = Folder::new();
    // More than the socket's buffers hold, so that replies wait for the client.
    let view = Fake(20_000);
    serving(&folder.socket(), &view, || {
        let mut client = Client::connect(&folder.socket()).unwrap();
        assert_eq!(client.hello().unwrap(), concat!("altitude ", env!("CARGO_PKG_VERSION")));
        assert_eq!(client.dump(Table::Cache).unwrap(), view.entries(Table::Cache).collect::<Vec<_>>());
        assert_eq!(client.dump(Table::Database).unwrap(), [hole()]);
        let eid = |address: [u8; 4]| Eid { instance: InstanceId::DEFAULT, address: address.into() };
        assert_eq!(client.get(Table::Cache, eid([10, 0, 1, 0])).unwrap(), Some(entry(Table::Cache, 256)));
        assert_eq!(client.get(Table::Cache, eid([11, 0, 0, 0])).unwrap(), None);
        assert_eq!(client.counts().unwrap(), view.counts());
        assert_eq!(client.totals().unwrap(), [Stat::new("missed", 8), Stat::new("misses", u64::MAX)]);
        assert_eq!(client.ports().unwrap(), view.ports());
        assert_eq!(client.alt().unwrap(), view.alt());
    });
}

/// PS-10: subscriptions are listed in pages, and the client has all of them.
#[test]
fn many_subscriptions_come_in_pages() {
    let folder = Folder::new();
    let view = Fake(5000);
    serving(&folder.socket(), &view, || {
        let mut client = Client::connect(&folder.socket()).unwrap();
        assert_eq!(client.subscriptions().unwrap(), (0..5000).map(subscription).collect::<Vec<_>>());
    });
    assert!(view.subscriptions(None, 2048).next.is_some());
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_router() {
    let folder = Folder::new();
    let path = folder.socket();
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    drop(listener);
    assert!(!path.exists());
    let error = Client::connect(&path).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
}

#[test]
fn the_socket_of_a_dead_router_is_replaced_and_that_of_a_live_one_is_not() {
    let folder = Folder::new();
    let path = folder.socket();
    fs::create_dir(path.parent().unwrap()).unwrap();
    // A dropped listener of the standard library leaves its file, as a killed process does.
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::connect(&path), Err(ClientError::NotRunning { .. })));
    let first = Listener::bind(&path).unwrap();
    let error = Listener::bind(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let said = error.to_string();
    let process = format!("(process {})", std::process::id());
    assert!(said.contains(&process) && said.contains("give another path with --api"), "{said}");
    // Another program's socket of the same name is left alone.
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
    let error = Listener::bind(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "a stream socket listens there: {error}");
    drop(other);
}

#[test]
fn a_file_in_the_way_is_no_socket_and_stays() {
    let folder = Folder::new();
    let path = folder.0.join("precious");
    fs::write(&path, "do not lose me").unwrap();
    let error = Listener::bind(&path).unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "do not lose me");
    let error = Listener::bind(&path.join("map.sock")).unwrap_err();
    assert!(error.to_string().starts_with("open the API socket"), "{error}");
}

#[test]
fn another_protocol_and_too_long_requests_do_no_harm() {
    let folder = Folder::new();
    serving(&folder.socket(), &Fake(1), || {
        let mut buffer = vec![0; MESSAGE_MAX];
        let mut stranger = raw(&folder.socket());
        stranger.write_all(b"GET / HTTP/1.1").unwrap();
        let length = stranger.read(&mut buffer).unwrap();
        assert_ne!(Header::split(&buffer[..length]).unwrap().0.errno, 0);
        assert_eq!(stranger.read(&mut buffer).unwrap(), 0, "the connection ends");

        let mut talker = raw(&folder.socket());
        talker.write_all(&vec![0; MESSAGE_MAX + 1]).unwrap();
        let length = talker.read(&mut buffer).unwrap();
        assert_ne!(Header::split(&buffer[..length]).unwrap().0.errno, 0);
        let hello = Header { op: Op::HELLO, flags: Flags::default(), errno: 0, sequence: 5, generation: 0 };
        talker.write_all(&hello.message(&[])).unwrap();
        let length = talker.read(&mut buffer).unwrap();
        assert_eq!(Header::split(&buffer[..length]).unwrap().0.errno, 0, "the connection goes on");
    });
}

#[test]
fn clients_beyond_the_limit_are_turned_away_and_the_others_served() {
    let folder = Folder::new();
    serving(&folder.socket(), &Fake(1), || {
        let mut clients: Vec<Client> =
            (0..CONNECTIONS_MAX).map(|_| Client::connect(&folder.socket()).unwrap()).collect();
        for client in &mut clients {
            client.hello().unwrap();
        }
        let mut late = Client::connect(&folder.socket()).unwrap();
        late.hello().unwrap_err();
        clients[0].hello().unwrap();
    });
}

#[test]
fn a_client_that_takes_no_replies_is_told_by_time_and_asked_no_more() {
    let folder = Folder::new();
    let path = folder.socket();
    let listener = Listener::bind(&path).unwrap();
    let mut client = raw(&path);
    let mut connection = listener.accept(0, Asker(1)).unwrap().unwrap();
    let dump = Header { op: Op::GET, flags: Flags::DUMP, errno: 0, sequence: 1, generation: 0 }.message(&[]);
    client.write_all(&dump).unwrap();
    let (view, start) = (Fake(20_000), Instant::now());
    while connection.serve(&mut &view, start) == Next::Again {}
    assert!(!connection.stalled(start));
    // A second request waits in the socket until the replies to the first have left.
    client.write_all(&dump).unwrap();
    assert_eq!(connection.serve(&mut &view, start + Duration::from_secs(9)), Next::Wait);
    assert!(!connection.stalled(start + Duration::from_secs(9)));
    assert!(connection.stalled(start + Duration::from_secs(10)));
    // Progress starts the time anew.
    let mut buffer = vec![0; MESSAGE_MAX];
    client.read_exact(&mut buffer[..32]).unwrap();
    assert_eq!(connection.serve(&mut &view, start + Duration::from_secs(10)), Next::Wait);
    assert!(!connection.stalled(start + Duration::from_secs(19)));
    // And a client that is gone ends it.
    drop(client);
    assert_eq!(connection.serve(&mut &view, start + Duration::from_secs(11)), Next::Drop);
}

#[test]
fn what_waits_of_a_trace_is_bounded_and_a_client_that_takes_none_of_it_is_told_by_time() {
    let folder = Folder::new();
    let path = folder.socket();
    let listener = Listener::bind(&path).unwrap();
    let mut client = raw(&path);
    let mut connection = listener.accept(0, Asker(1)).unwrap().unwrap();
    let (view, start) = (Fake(0), Instant::now());
    let message =
        Header { op: Op::TRACE, flags: Flags::EVENT, errno: 0, sequence: 0, generation: 0 }.message(&[0; 60_000]);
    let mut added = 0;
    while connection.takes_traced() {
        connection.add_traced(message.clone());
        assert_eq!(connection.serve(&mut &view, start), Next::Wait);
        added += 1;
        assert!(added < 1000, "the socket holds so much, and then some messages wait");
    }
    assert!(!connection.stalled(start + Duration::from_secs(9)) && connection.stalled(start + Duration::from_secs(10)));
    // Whatever it takes makes room, and nothing is lost.
    let mut buffer = vec![0; MESSAGE_MAX];
    for _ in 0..added {
        assert_eq!(client.read(&mut buffer).unwrap(), message.len());
        assert_eq!(connection.serve(&mut &view, start), Next::Wait);
    }
    assert!(connection.takes_traced() && !connection.stalled(start + Duration::from_secs(3600)));
}

/// A router that does as it is told, and has nothing.
struct Obedient<'a>(&'a Fake, u32);

impl Router for Obedient<'_> {
    fn view(&self) -> &dyn View {
        self.0
    }

    fn perform(&mut self, _asker: Asker, _operation: Operation) -> Result<Outcome, Refused> {
        self.1 += 1;
        Ok(Done::default().into())
    }
}

/// One of each kind.
fn operations() -> [Operation; 6] {
    let entry = entry(Table::Cache, 1);
    let mapping = Mapping::negative(entry.eid, Ttl::ReceiverDecides, Action::Drop);
    let offer = Offer { table: Table::Cache, mapping, life: None, ephemeral: false, foreign: false };
    let judged = Judged::Locator([240, 0, 254, 20].into());
    [
        Operation::Add(offer.clone()),
        Operation::Change { offer, unless_after: None },
        Operation::Delete { table: Table::Cache, eid: entry.eid, unless_after: None },
        Operation::Flush { table: Table::Cache, instance: None, all: false },
        Operation::Judge { judged, up: true },
        Operation::Judge { judged, up: false },
    ]
}

/// Has a client's request answered by `router`.
fn exchange(
    listener: &Listener,
    path: &Path,
    router: &mut dyn Router,
    ask: impl FnOnce(&mut Client) -> Result<(), ClientError> + Send,
) -> Result<(), ClientError> {
    let mut client = Client::connect(path).unwrap();
    let mut connection = listener.accept(0, Asker(9)).unwrap().unwrap();
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&mut client));
        let start = Instant::now();
        while !asked.is_finished() {
            assert!(start.elapsed() < PATIENCE, "no answer");
            connection.serve(router, Instant::now());
            thread::yield_now();
        }
        asked.join().unwrap()
    })
}

/// Changes of our own mappings are work for all who know of them: however many wait, others have their turn after each.
#[test]
fn of_long_changes_a_client_has_one_done_in_a_turn() {
    let folder = Folder::new();
    let path = folder.socket();
    let listener = Listener::bind(&path).unwrap();
    let (mut client, mut connection) = (raw(&path), listener.accept(0, Asker(1)).unwrap().unwrap());
    let view = Fake(1);
    let mut router = Obedient(&view, 0);
    let [cache, database] = [0, 1].map(|table| {
        let delete = Header { op: Op::DELETE, flags: Flags::default(), errno: 0, sequence: 1, generation: 0 };
        delete.message(&[1, 0, 1, 0, table, 2, 0, 4, 0, 0, 0, 0, 0, 3, 0, 8, 0, 0, 1, 24, 0, 10, 0, 0, 0])
    });
    for message in [&cache, &database, &database, &cache] {
        client.write_all(message).unwrap();
    }
    let mut turns = Vec::new();
    loop {
        let next = connection.serve(&mut router, Instant::now());
        turns.push(router.1);
        if next == Next::Wait {
            break;
        }
        assert_eq!(next, Next::Again);
    }
    assert_eq!(turns, [2, 3, 4]);
    let reload = Header { op: Op::RELOAD, flags: Flags::default(), errno: 0, sequence: 2, generation: 0 }.message(&[]);
    client.write_all(&reload).unwrap();
    client.write_all(&cache).unwrap();
    assert_eq!((connection.serve(&mut router, Instant::now()), router.1), (Next::Again, 5));
}

#[test]
fn at_the_socket_for_reading_not_even_root_changes_anything() {
    let folder = Folder::new();
    let (path, read_only) = (folder.socket(), folder.0.join("run/map-ro.sock"));
    let (both, one) = (Listener::bind(&path).unwrap(), Listener::bind_read_only(&read_only).unwrap());
    assert_eq!(fs::metadata(&read_only).unwrap().permissions().mode() & 0o777, 0o666);
    let view = Fake(3);
    let mut router = Obedient(&view, 0);
    for operation in operations() {
        let ask = |client: &mut Client| client.perform(&operation).map(drop);
        let error = exchange(&one, &read_only, &mut router, ask).unwrap_err();
        assert!(matches!(error, ClientError::Refused { errno: 1, .. }), "{operation:?}: {error}");
        assert_eq!(router.1, 0);
    }
    type Ask = fn(&mut Client) -> Result<(), ClientError>;
    let asks: [Ask; 4] = [
        |client| client.hello().map(drop),
        |client| client.dump(Table::Cache).map(|entries| assert_eq!(entries.len(), 3)),
        |client| client.totals().map(drop),
        |client| client.subscribe(&[Filter::default()], false),
    ];
    for ask in asks {
        exchange(&one, &read_only, &mut router, ask).unwrap();
    }
    for (count, operation) in (1..).zip(operations()) {
        exchange(&both, &path, &mut router, |client| client.perform(&operation).map(drop)).unwrap();
        assert_eq!(router.1, count);
    }
}

/// A DELETE of this number.
fn gone(number: u32) -> Event {
    Event::Deleted { table: Table::Cache, eid: entry(Table::Cache, number).eid, expired: false }
}

#[test]
fn a_subscriber_that_does_not_read_is_told_once_what_it_lost_and_holds_nothing_up() {
    let folder = Folder::new();
    let path = folder.socket();
    let listener = Listener::bind(&path).unwrap();
    let (mut slow, mut connection) = (raw(&path), listener.accept(0, Asker(1)).unwrap().unwrap());
    let view = Fake(0);
    let everything = [10, 0, 18, 0, 0xee, 0x1a, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0];
    let subscribe = Header { op: Op::SUBSCRIBE, flags: Flags::default(), errno: 0, sequence: 1, generation: 0 };
    slow.write_all(&subscribe.message(&everything)).unwrap();
    let start = Instant::now();
    // Who listens from now on lets what happens next come in between.
    assert_eq!([(); 2].map(|()| connection.serve(&mut &view, start)), [Next::Again, Next::Wait]);
    let count = 10 * RING as u32;
    for number in 0..count {
        connection.tell(start, &gone(number), None, &mut |_| gone(number).body().into());
        connection.serve(&mut &view, start);
    }
    // It is not a client that takes no replies: it may stay, with what fits its ring.
    assert!(!connection.stalled(start + Duration::from_secs(3600)));
    let mut buffer = vec![0; MESSAGE_MAX];
    let (mut numbers, mut overruns, mut last) = (Vec::new(), 0, None);
    let mut take = |slow: &mut Socket, connection: &mut Connection| {
        let length = slow.read(&mut buffer).unwrap();
        connection.serve(&mut &view, start);
        let (header, body) = Header::split(&buffer[..length]).unwrap();
        if header.flags.has(Flags::REPLY) {
            return;
        }
        numbers.push(header.generation);
        overruns += u32::from(header.flags.has(Flags::OVERRUN));
        last = Some(Event::read(&header, body).unwrap());
    };
    slow.set_nonblocking(true).unwrap();
    loop {
        connection.serve(&mut &view, start);
        match slow.peek(&mut [std::mem::MaybeUninit::uninit(); 1]) {
            Ok(_) => take(&mut slow, &mut connection),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert_eq!((overruns, last), (1, Some(gone(count - 1))));
    assert!(numbers.windows(2).all(|pair| pair[1] > pair[0]) && numbers.len() < count as usize);
    drop(slow);
    connection.tell(start, &gone(0), None, &mut |_| gone(0).body().into());
    assert_eq!(connection.serve(&mut &view, start), Next::Drop);
}

/// A router all of whose changes take a while.
struct Slow<'a>(&'a Fake);

impl Router for Slow<'_> {
    fn view(&self) -> &dyn View {
        self.0
    }

    fn perform(&mut self, _asker: Asker, _operation: Operation) -> Result<Outcome, Refused> {
        Ok(Outcome::Later)
    }
}

#[test]
fn the_reply_to_a_change_that_took_a_while_stands_behind_what_happened_before_it() {
    let folder = Folder::new();
    let path = folder.socket();
    let listener = Listener::bind(&path).unwrap();
    let (mut client, mut connection) = (raw(&path), listener.accept(0, Asker(1)).unwrap().unwrap());
    let (view, start) = (Fake(0), Instant::now());
    let everything = [10, 0, 18, 0, 0xee, 0x1a, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0];
    let subscribe = Header { op: Op::SUBSCRIBE, flags: Flags::default(), errno: 0, sequence: 1, generation: 0 };
    let flush = Header { op: Op::FLUSH, flags: Flags::default(), errno: 0, sequence: 2, generation: 0 };
    client.write_all(&subscribe.message(&everything)).unwrap();
    client.write_all(&flush.message(&[])).unwrap();
    assert_eq!([(); 2].map(|()| connection.serve(&mut Slow(&view), start)), [Next::Again, Next::Wait]);
    connection.tell(start, &gone(3), None, &mut |_| gone(3).body().into());
    connection.conclude(&Ok(Done::default()), 77);
    while connection.serve(&mut Slow(&view), start) == Next::Again {}
    let mut buffer = vec![0; MESSAGE_MAX];
    let heads = [(); 3].map(|()| {
        let length = client.read(&mut buffer).unwrap();
        Header::split(&buffer[..length]).unwrap().0
    });
    assert_eq!(heads.map(|head| head.op), [Op::SUBSCRIBE, Op::DELETE, Op::FLUSH]);
    assert!(heads[1].flags.has(Flags::EVENT) && heads[2].flags.has(Flags::REPLY));
}
