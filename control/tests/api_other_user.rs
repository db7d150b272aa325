//! The program as another user's at the socket of the mapping API: a process of its own, and the kernel tells whose.
//!
//! By itself, because a child holds its parent's descriptors for a moment, which other tests would take for clients.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use altitude_control::{
    api::{
        AltStatus, Asker, Counts, Done, Entry, Operation, Origin, Outcome, PortStatus, Refused, Router, Table,
        TraceAsk, View,
    },
    os::api_socket::{Listener, Next},
};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Mapping, Ttl};

const NOBODY: u32 = 65_534;

/// A router with one mapping that does as it is told, and notes how often.
struct Obedient(u32);

impl View for Obedient {
    fn generation(&self) -> u64 {
        1
    }

    fn entries(&self, _: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix: "10.0.0.0/8".parse().unwrap() };
        let mapping = Mapping::negative(eid, Ttl::ReceiverDecides, Action::Drop);
        Box::new(std::iter::once(Entry::new(Table::Cache, &mapping, Origin::Static, std::time::UNIX_EPOCH, |_| false)))
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

impl Router for Obedient {
    fn view(&self) -> &dyn View {
        self
    }

    fn perform(&mut self, _: Asker, _: Operation) -> Result<Outcome, Refused> {
        self.0 += 1;
        Ok(Done::default().into())
    }

    fn trace(&mut self, _: Asker, _: Option<TraceAsk>) -> Result<(), Refused> {
        self.0 += 1;
        Ok(())
    }
}

/// Serves whoever comes until `stop`.
fn serve(listener: &Listener, router: &Mutex<Obedient>, stop: &AtomicBool) {
    let mut connections = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while let Ok(Some(connection)) = listener.accept(0, Asker(1)) {
            connections.push(connection);
        }
        let mut router = router.lock().unwrap();
        connections.retain_mut(|connection| connection.serve(&mut *router, Instant::now()) != Next::Drop);
        drop(router);
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_process_of_another_user_may_look_and_changes_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return println!("SKIP: needs root, to start a process as another user");
    }
    let folder = std::env::temp_dir().join(format!("altitude-other-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(&folder, 0o755);
    // Where it was built others may not enter.
    let (program, socket) = (folder.join("altitude"), folder.join("map.sock"));
    fs::copy(env!("CARGO_BIN_EXE_altitude"), &program).unwrap();
    let listener = Listener::bind(&socket).unwrap();
    let (router, stop) = (Mutex::new(Obedient(0)), AtomicBool::new(false));
    let run = |user: u32, arguments: &str| {
        let mut command = Command::new(&program);
        command.args(arguments.split(' ')).arg("--api").arg(&socket).uid(user).gid(user);
        let done = command.output().expect("a folder whose programs others may run");
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (add, look) = ("map add 2.2.0.0/16 240.0.254.20", "map get 10.0.0.1");
    let changes = [add, "map del 2.2.0.0/16", "map flush", "map badreach 240.0.254.20", "reload", "trace --count 1"];
    let seen = thread::scope(|scope| {
        scope.spawn(|| serve(&listener, &router, &stop));
        let closed = run(NOBODY, look);
        open(&socket, 0o666);
        let refused = changes.map(|change| run(NOBODY, change));
        let done = router.lock().unwrap().0;
        let allowed = [run(NOBODY, look), run(0, add)];
        stop.store(true, Ordering::Relaxed);
        (closed, refused, done, allowed)
    });
    drop(listener);
    fs::remove_dir_all(&folder).unwrap();
    let (closed, refused, done, allowed) = seen;
    assert!(closed.0 == Some(1) && closed.1.contains("may not be opened"), "the file is closed to others: {closed:?}");
    for (change, (code, said)) in changes.iter().zip(refused) {
        assert!(code == Some(1) && said.contains("(error 1)"), "{change}: {code:?} {said}");
    }
    assert_eq!(done, 0, "nothing was done");
    assert_eq!(allowed, [(Some(0), String::new()), (Some(0), String::new())]);
    assert_eq!(router.into_inner().unwrap().0, 1, "root may");
}
