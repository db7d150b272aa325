//! What our Map-Server must not forget: a file that a thread of its own writes.
//!
//! The control thread hands over octets and never waits: the journal of what changed goes to the end of the file in each round,
//! and a snapshot takes the file's place once it is whole, made a little in each round. A crash of the program loses
//! nothing; one of the machine what the kernel had not written yet.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use altitude_control::{
    map_server::{self, Cursor, MapServer},
    os::privilege,
};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

/// Its name in the state directory.
pub(super) const FILE: &str = "map-server.state";
/// Time from the end of a snapshot to the start of the next.
const EVERY: Duration = Duration::from_secs(60);
/// Time between two pieces of one.
const PIECE_EVERY: Duration = Duration::from_millis(5);
/// Entries of a piece: some tenths of a millisecond.
const PIECE: usize = 512;
/// Orders that wait for the thread.
const WAITING_MAX: usize = 256;
/// Octets of a journal that wait in the machine while the thread is behind; beyond that only the next snapshot has them.
const JOURNAL_MAX: usize = 16 << 20;

enum Order {
    Append(Vec<u8>),
    Begin,
    Piece(Vec<u8>),
    Finish,
}

/// The control thread's end.
pub(super) struct State {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    lost: Arc<AtomicU64>,
    /// How far the snapshot is, and a piece that the thread had no room for.
    building: Option<(Cursor, Option<Vec<u8>>)>,
    next: Instant,
    /// Something changed since the last snapshot began.
    changed: bool,
}

impl State {
    /// Reads what there is, hands it to the Map-Server, and starts the thread. What is not to be had is said and done without.
    pub(super) fn open(
        folder: &Path,
        server: &mut MapServer,
        now: Instant,
        todo: &mut Vec<map_server::Output>,
    ) -> Option<Self> {
        server.journal()?;
        let path = folder.join(FILE);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        let current = made.and_then(|()| restore(&path, server, now, todo));
        let (orders, waiting) = bounded(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let started = current.and_then(|current| {
            let writer = Writer { path: path.clone(), current, next: None, pending: Vec::new(), lost: lost.clone() };
            std::thread::Builder::new().name("state".to_owned()).spawn(move || writer.run(&waiting))
        });
        match started {
            Ok(thread) => Some(Self {
                orders: Some(orders),
                thread: Some(thread),
                lost,
                building: None,
                next: now,
                changed: true,
            }),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "registrations and their nonces will not survive a restart");
                None
            }
        }
    }

    /// How often something could not be written.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        (self.building.is_some() || self.changed).then_some(self.next)
    }

    /// Hands over what changed in a round, and a piece of a snapshot when it is due.
    pub(super) fn round(&mut self, server: &mut MapServer, now: Instant) {
        let Some(orders) = &self.orders else { return };
        if let Some(journal) = server.journal().filter(|journal| !journal.is_empty()) {
            self.changed = true;
            match orders.try_send(Order::Append(std::mem::take(journal))) {
                Err(TrySendError::Full(Order::Append(kept))) if kept.len() < JOURNAL_MAX => *journal = kept,
                Err(_) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                Ok(()) => {}
            }
        }
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        self.next = now + PIECE_EVERY;
        if self.building.is_none() {
            if orders.try_send(Order::Begin).is_err() {
                return;
            }
            (self.building, self.changed) = (Some((Cursor::default(), None)), false);
        }
        if self.piece(server) {
            self.next = now + EVERY;
        }
    }

    /// True when the snapshot is whole.
    fn piece(&mut self, server: &MapServer) -> bool {
        let (Some(orders), Some((at, kept))) = (&self.orders, &mut self.building) else { return false };
        if let Some(piece) = kept.take()
            && let Err(error) = orders.try_send(Order::Piece(piece))
        {
            if let Order::Piece(piece) = error.into_inner() {
                *kept = Some(piece);
            }
            return false;
        }
        // Room for the end is not taken by what comes before it.
        if orders.len() + 2 >= WAITING_MAX {
            return false;
        }
        let mut piece = Vec::new();
        let done = server.snapshot(at, PIECE, &mut piece);
        let sent = orders.try_send(Order::Piece(piece)).is_ok() && (!done || orders.try_send(Order::Finish).is_ok());
        if !sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        if done {
            self.building = None;
        }
        done
    }

    /// Writes all of it once more, and waits until that is done.
    pub(super) fn close(&mut self, server: &mut MapServer) {
        let Some(orders) = self.orders.take() else { return };
        let mut whole = Vec::new();
        server.snapshot(&mut Cursor::default(), usize::MAX, &mut whole);
        for order in [Order::Begin, Order::Piece(whole), Order::Finish] {
            if orders.send(order).is_err() {
                tracing::warn!("what is registered was not written at the end");
            }
        }
        drop(orders);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads the file; one that is damaged is put aside. The file is open at its end afterwards, if it may be written on.
fn restore(
    path: &Path,
    server: &mut MapServer,
    now: Instant,
    todo: &mut Vec<map_server::Output>,
) -> io::Result<Option<File>> {
    let octets = match fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match server.restore(now, &octets, todo) {
        Ok(restored) => {
            let map_server::Restored { xtrs, registrations, subscriptions, left_out, torn } = restored;
            tracing::info!(path = %path.display(), xtrs, registrations, subscriptions, left_out, torn, "registrations of before");
            if torn { Ok(None) } else { OpenOptions::new().append(true).open(path).map(Some) }
        }
        Err(why) => {
            let aside = path.with_extension("state.damaged");
            fs::rename(path, &aside)?;
            let (path, aside) = (path.display(), aside.display());
            tracing::error!(%path, %why, %aside, "registrations of before are lost; the file is put aside");
            Ok(None)
        }
    }
}

/// The thread's end.
struct Writer {
    path: PathBuf,
    /// Where the journal goes.
    current: Option<File>,
    /// The snapshot that is being made.
    next: Option<File>,
    /// The journal since its start.
    pending: Vec<u8>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        // Writing its file needs nothing that others may not do; the thread was started before the rest gave theirs up.
        if let Err(error) = privilege::give_up_all_but(&[privilege::DAC_READ_SEARCH]) {
            tracing::warn!(%error, "the thread that writes registrations keeps its capabilities");
        }
        let mut failing = false;
        for order in orders {
            let done = self.obey(order);
            if let Err(error) = &done {
                self.lost.fetch_add(1, Ordering::Relaxed);
                // The snapshot is not whole; the next one is tried in a while.
                self.next = None;
                if !failing {
                    let path = self.path.display();
                    tracing::error!(%path, %error, "what is registered is not written");
                }
            }
            failing = done.is_err();
        }
    }

    fn beside(&self) -> PathBuf {
        self.path.with_extension("state.new")
    }

    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Append(octets) => {
                if self.next.is_some() {
                    self.pending.extend_from_slice(&octets);
                }
                self.current.as_mut().map_or(Ok(()), |file| file.write_all(&octets))
            }
            Order::Begin => {
                self.pending.clear();
                let fresh =
                    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.beside())?;
                self.next = Some(fresh);
                Ok(())
            }
            Order::Piece(octets) => self.next.as_mut().map_or(Ok(()), |file| file.write_all(&octets)),
            Order::Finish => {
                let Some(mut file) = self.next.take() else { return Ok(()) };
                file.write_all(&std::mem::take(&mut self.pending))?;
                file.sync_all()?;
                fs::rename(self.beside(), &self.path)?;
                if let Some(folder) = self.path.parent() {
                    File::open(folder)?.sync_all()?;
                }
                self.current = Some(file);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use altitude_control::{
        map_server::{Input, Settings, Site, SiteId},
        wire::{Algorithm, Form, Key, MapRegister, Message},
    };
    use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Mapping, Ttl};

    use super::*;

    const EID: &str = "192.0.2.0/24";

    fn eid() -> EidPrefix {
        EidPrefix { instance: InstanceId::DEFAULT, prefix: EID.parse().unwrap() }
    }

    fn key() -> Key {
        Key::new(1, Algorithm::Sha256, b"secret")
    }

    fn server(now: Instant) -> MapServer {
        let site = Site { name: "one".to_owned(), eids: vec![eid()], keys: vec![key()], ..Site::default() };
        let settings = Settings::new(vec![site], vec![IpAddr::from([203, 0, 113, 1])]);
        MapServer::new(Settings { journal: true, wall: 1_800_000_000, ..settings }, now)
    }

    fn register(server: &mut MapServer, now: Instant, nonce: u64) -> bool {
        let records = vec![Mapping::negative(eid(), Ttl::Minutes(5), Action::NoAction)];
        let octets = MapRegister { nonce, records, ..MapRegister::default() }.signed(&key(), Form::default());
        let Ok(Message::MapRegister(message)) = Message::parse(&octets) else { panic!("a Map-Register") };
        let (from, local) = (SocketAddr::from(([203, 0, 113, 2], 4342)), [203, 0, 113, 1].into());
        let mut todo = Vec::new();
        server.step(now, Input::Register { from, local, message: &message, octets: &octets }, &mut todo);
        !todo.iter().any(|output| matches!(output, map_server::Output::Drop(_)))
    }

    /// A folder that is gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("altitude-state-{name}-{}", std::process::id())))
        }

        fn open(&self, server: &mut MapServer, now: Instant) -> Option<State> {
            State::open(&self.0, server, now, &mut Vec::new())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// MS-1: a nonce is refused after the end of the program and after a crash of it.
    #[test]
    fn nonces_survive_an_end_and_a_crash() {
        let (folder, now) = (Folder::new("crash"), Instant::now());
        let mut first = server(now);
        let mut state = folder.open(&mut first, now).unwrap();
        assert!(register(&mut first, now, 5));
        state.round(&mut first, now);
        state.close(&mut first);
        assert_eq!(state.lost(), 0);

        let mut second = server(now);
        let mut state = folder.open(&mut second, now).unwrap();
        assert_eq!(second.prefixes(SiteId(0)), 1);
        assert!(!register(&mut second, now, 5) && register(&mut second, now, 6));
        state.round(&mut second, now);
        // The thread ends when nobody has orders for it any more, as if the program had been killed after this round.
        drop(state.orders.take());
        state.thread.take().unwrap().join().unwrap();

        let mut third = server(now);
        let mut state = folder.open(&mut third, now).unwrap();
        assert!(!register(&mut third, now, 6) && register(&mut third, now, 7));
        state.close(&mut third);
    }

    #[test]
    fn a_snapshot_is_made_in_pieces_and_takes_the_place_of_the_file() {
        let (folder, mut now) = (Folder::new("pieces"), Instant::now());
        let mut first = server(now);
        let mut state = folder.open(&mut first, now).unwrap();
        assert!(register(&mut first, now, 5));
        assert_eq!(state.due(), Some(now));
        while state.changed || state.building.is_some() {
            now = now.max(state.due().unwrap());
            state.round(&mut first, now);
        }
        assert_eq!(state.due(), None, "nothing has changed since");
        assert!(register(&mut first, now, 6));
        state.round(&mut first, now);
        assert_eq!(state.due(), Some(now + EVERY));
        drop(state.orders.take());
        state.thread.take().unwrap().join().unwrap();
        let mut whole = Vec::new();
        first.snapshot(&mut Cursor::default(), usize::MAX, &mut whole);
        let file = fs::read(folder.0.join(FILE)).unwrap();
        assert!(file.len() > whole.len() && !folder.0.join("map-server.state.new").exists(), "with its journal");
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_the_router_goes_on() {
        let (folder, now) = (Folder::new("damaged"), Instant::now());
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.0.join(FILE), b"ALTMAPS\x01 and then rubbish").unwrap();
        let mut first = server(now);
        let mut state = folder.open(&mut first, now).unwrap();
        assert!(folder.0.join("map-server.state.damaged").exists());
        assert!(register(&mut first, now, 5));
        state.close(&mut first);
        let mut second = server(now);
        let _state = folder.open(&mut second, now).unwrap();
        assert_eq!(second.prefixes(SiteId(0)), 1);
    }

    #[test]
    fn without_a_folder_the_router_goes_on_without_a_file() {
        let now = Instant::now();
        let mut first = server(now);
        let nowhere = Path::new("/proc/self/no-such-folder");
        assert!(State::open(nowhere, &mut first, now, &mut Vec::new()).is_none());
        assert!(register(&mut first, now, 5));
    }
}
