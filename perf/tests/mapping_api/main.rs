//! A running router, changed and watched through its mapping API.

mod batch;
mod database;
mod mapd;
mod shown;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use altitude_control::api::{
    Entry, Event, Filter, Judged, Method, Offer, Op, Operation, Origin, Table,
    client::{Client, ClientError, Told},
};
use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, Mapping, Ttl};
use altitude_perf::lab::{self, Lab, Router};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

/// A router without a site: its tables are all that is needed.
fn router(lab: &Lab) -> Router {
    let flags = "--rloc 240.0.254.30 --alt-tunnel alt0,remote=240.0.254.10 --rloc-probing off";
    let flags: Vec<String> = flags.split(' ').map(str::to_owned).collect();
    Router::start("api", &lab.alt, &flags, lab.folder()).unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn offer(eid: EidPrefix, last: u8) -> Offer {
    let locators = vec![Locator::unicast([240, 0, 254, last].into(), 1, 100)];
    let mapping = Mapping { locators, ..Mapping::negative(eid, Ttl::ReceiverDecides, Action::NoAction) };
    Offer { table: Table::Cache, mapping, life: None, ephemeral: false, foreign: false }
}

fn connect(router: &Router) -> Client {
    Client::connect(&router.api).unwrap()
}

fn refused(result: Result<impl std::fmt::Debug, ClientError>) -> u32 {
    match result {
        Err(ClientError::Refused { errno, .. }) => errno,
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits for the next event.
fn next(client: &mut Client) -> Told {
    client.next_event(Some(LIMIT)).unwrap().expect("an event in time")
}

/// Waits for the next event about a mapping; what is found out about paths to locators comes in between.
fn next_change(client: &mut Client) -> Event {
    loop {
        match next(client).event {
            Event::Judged { .. } => {}
            event => return event,
        }
    }
}

#[test]
fn a_client_changes_the_map_cache_and_others_hear_of_it() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let router = router(&lab);
    let (mut writer, mut listener) = (connect(&router), connect(&router));
    listener.subscribe(&[Filter::default()], false).unwrap();
    let (place, inner) = (eid("2.2.0.0/16"), eid("2.2.2.0/24"));

    writer.perform(&Operation::Add(offer(place, 20))).unwrap();
    let Event::Added(entry) = next_change(&mut listener) else { panic!("not told of ADD") };
    assert_eq!((entry.eid, entry.origin, entry.left), (place, Origin::Api, None));
    assert_eq!(refused(writer.perform(&Operation::Add(offer(place, 21)))), libc_errno("EEXIST"));
    assert_eq!(
        refused(writer.perform(&Operation::Change { offer: offer(inner, 21), unless_after: None })),
        libc_errno("ENOENT")
    );

    // Compare-and-set: who has seen the latest may change it, once.
    let seen = writer.find(Table::Cache, &place).map(|_| writer.generation()).unwrap();
    let change = |last| Operation::Change { offer: offer(place, last), unless_after: Some(seen) };
    writer.perform(&Operation::Add(offer(inner, 22))).unwrap();
    writer.perform(&change(21)).unwrap();
    assert_eq!(refused(writer.perform(&change(22))), libc_errno("EAGAIN"));
    assert!(matches!(next_change(&mut listener), Event::Added(entry) if entry.eid == inner));
    let Event::Changed(entry) = next_change(&mut listener) else { panic!("not told of CHANGE") };
    assert_eq!(entry.locators[0].locator.address.to_string(), "240.0.254.21");

    // A verdict of ours takes a locator out of use until it is taken back.
    let judge = |up| Operation::Judge { judged: Judged::Locator([240, 0, 254, 21].into()), up };
    assert_eq!(writer.perform(&judge(false)).unwrap().count, 1);
    let told = |event| matches!(event, Event::Judged { locator, up: false, method: Method::Admin, .. } if locator.to_string() == "240.0.254.21");
    while !told(next(&mut listener).event) {}
    assert!(writer.find(Table::Cache, &place).unwrap().unwrap().locators[0].bad);
    writer.perform(&judge(true)).unwrap();
    assert!(!writer.find(Table::Cache, &place).unwrap().unwrap().locators[0].bad);
    let stranger = Operation::Judge { judged: Judged::Locator([9, 9, 9, 9].into()), up: false };
    assert_eq!(refused(writer.perform(&stranger)), libc_errno("ENOENT"));

    // Its time over, an entry leaves by itself, and that is told.
    let brief = Offer { life: Some(Duration::from_millis(1)), ..offer(eid("3.0.0.0/8"), 20) };
    writer.perform(&Operation::Add(brief)).unwrap();
    let expired = |event| matches!(event, Event::Deleted { expired: true, eid, .. } if eid.to_string() == "3.0.0.0/8");
    while !expired(next(&mut listener).event) {}

    // What was to go with a connection goes with it.
    let mut mayfly = connect(&router);
    mayfly.perform(&Operation::Add(Offer { ephemeral: true, ..offer(eid("4.0.0.0/8"), 20) })).unwrap();
    assert!(writer.find(Table::Cache, &eid("4.0.0.0/8")).unwrap().unwrap().ephemeral);
    drop(mayfly);
    let gone = |event| matches!(event, Event::Deleted { expired: false, eid, .. } if eid.to_string() == "4.0.0.0/8");
    while !gone(next(&mut listener).event) {}

    let delete = Operation::Delete { table: Table::Cache, eid: inner, unless_after: None };
    assert_eq!(writer.perform(&delete).unwrap().entry.unwrap().eid, inner);
    assert_eq!(refused(writer.perform(&delete)), libc_errno("ENOENT"));
    assert!(matches!(next_change(&mut listener), Event::Deleted { .. }));
    let flush = Operation::Flush { table: Table::Cache, instance: None, all: false };
    assert_eq!(writer.perform(&flush).unwrap().count, 1);
    // One event, and not one for each mapping.
    assert!(matches!(next_change(&mut listener), Event::Flushed { .. }));
    assert!(writer.dump(Table::Cache).unwrap().is_empty());
    // It has no site.
    let database = Offer { table: Table::Database, ..offer(place, 30) };
    assert_eq!(refused(writer.perform(&Operation::Add(database))), libc_errno("EINVAL"));
    let flush = Operation::Flush { table: Table::Database, instance: None, all: true };
    assert_eq!(refused(writer.perform(&flush)), libc_errno("EOPNOTSUPP"), "not with ALL");
}

/// The number of an error.
fn libc_errno(name: &str) -> u32 {
    use nix::errno::Errno;
    let number = match name {
        "EEXIST" => Errno::EEXIST,
        "ENOENT" => Errno::ENOENT,
        "EAGAIN" => Errno::EAGAIN,
        "ENOSPC" => Errno::ENOSPC,
        "EINVAL" => Errno::EINVAL,
        _ => Errno::EOPNOTSUPP,
    };
    number as u32
}

/// What an entry says, without what moves by itself.
fn said(entry: &Entry) -> String {
    let locators: Vec<String> = entry.locators.iter().map(|of| of.locator.address.to_string()).collect();
    format!("{} {:?}", locators.join(" "), entry.origin)
}

/// Takes an event in; false at the mark.
fn apply(table: &mut BTreeMap<EidPrefix, String>, event: Event, mark: &EidPrefix) -> bool {
    match event {
        Event::Added(entry) if entry.eid == *mark => return false,
        Event::Added(entry) | Event::Changed(entry) => drop(table.insert(entry.eid, said(&entry))),
        Event::Deleted { eid, .. } => drop(table.remove(&eid)),
        Event::Flushed { .. } => table.clear(),
        Event::Missed { .. } | Event::Judged { .. } | Event::Stale { .. } | Event::StatusBits { .. } => {}
    }
    true
}

fn read_table(client: &mut Client) -> BTreeMap<EidPrefix, String> {
    client.dump(Table::Cache).unwrap().iter().map(|entry| (entry.eid, said(entry))).collect()
}

/// xorshift64*: the same changes in every run.
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[test]
fn subscribing_and_reading_under_a_hundred_thousand_changes_gives_the_final_table() {
    const CHANGES: u32 = 100_000;
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let router = router(&lab);
    let mark = eid("9.9.9.9/32");
    let mut listener = connect(&router);
    listener.subscribe(&[Filter::of(&[Op::ADD, Op::CHANGE, Op::DELETE, Op::FLUSH])], false).unwrap();
    let (begun, wait) = mpsc::channel();
    let mut writer = connect(&router);
    let writing = thread::spawn(move || {
        let (mut state, mut done) = (0x0a17_17de, 0_u32);
        for number in 0..CHANGES {
            let number_of = random(&mut state);
            let eid = eid(&format!("10.{}.{}.0/24", number_of % 8, number_of >> 8 & 0xff));
            let last = (random(&mut state) % 4) as u8 + 20;
            let operation = match random(&mut state) % 100 {
                0..45 => Operation::Add(offer(eid, last)),
                45..70 => Operation::Change { offer: offer(eid, last), unless_after: None },
                _ => Operation::Delete { table: Table::Cache, eid, unless_after: None },
            };
            match writer.perform(&operation) {
                Ok(_) => done += 1,
                // It is there already, or not.
                Err(ClientError::Refused { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            if number == CHANGES / 4 {
                begun.send(()).unwrap();
            }
        }
        writer.perform(&Operation::Add(offer(mark, 20))).unwrap();
        done
    });
    wait.recv_timeout(LIMIT * 4).unwrap();
    let (mut table, mut overruns, mut events) = (read_table(&mut listener), 0, 0_u32);
    assert!(!table.is_empty());
    loop {
        let told = listener.next_event(Some(LIMIT)).unwrap().expect("an event in time");
        events += 1;
        if told.overrun {
            overruns += 1;
            table = read_table(&mut listener);
            if table.remove(&mark).is_some() {
                break;
            }
        }
        if !apply(&mut table, told.event, &mark) {
            break;
        }
    }
    let done = writing.join().unwrap();
    let mut last = read_table(&mut connect(&router));
    last.remove(&mark);
    println!(
        "{done} of {CHANGES} changes done, {events} events, {overruns} overruns, {} entries at the end",
        last.len()
    );
    assert!(done > CHANGES / 4 && last.len() > 100);
    assert_eq!(table, last);
}

#[test]
fn a_flush_of_many_lets_others_work_meanwhile_and_subscribers_follow() {
    const ENTRIES: u32 = 40_000;
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let router = router(&lab);
    let mut writer = connect(&router);
    let place = |number: u32| eid(&format!("10.{}.{}.{}/32", number >> 16, number >> 8 & 0xff, number & 0xff));
    for number in 0..ENTRIES {
        writer.perform(&Operation::Add(offer(place(number), 20))).unwrap();
    }
    let mark = eid("9.9.9.9/32");
    let (mut listener, mut flusher) = (connect(&router), connect(&router));
    listener.subscribe(&[Filter::of(&[Op::ADD, Op::CHANGE, Op::DELETE, Op::FLUSH])], false).unwrap();
    let mut table = read_table(&mut listener);
    assert_eq!(table.len(), ENTRIES as usize);
    let flushing = thread::spawn(move || {
        flusher.perform(&Operation::Flush { table: Table::Cache, instance: None, all: false }).unwrap()
    });
    // Puts in and replaces what the flush has met and what it has not, until it has ended.
    let (mut state, mut meanwhile) = (0x0a17_17de, 0);
    while !flushing.is_finished() {
        let eid = place((random(&mut state) % u64::from(2 * ENTRIES)) as u32);
        let change = Operation::Change { offer: offer(eid, 22), unless_after: None };
        if writer.perform(&Operation::Add(offer(eid, 21))).is_err() {
            let _ = writer.perform(&change);
        }
        meanwhile += 1;
    }
    let count = flushing.join().unwrap().count;
    writer.perform(&Operation::Add(offer(mark, 20))).unwrap();
    while apply(&mut table, next(&mut listener).event, &mark) {}
    let mut last = read_table(&mut listener);
    last.remove(&mark);
    println!("{count} taken out, {meanwhile} changes meanwhile, {} entries at the end", last.len());
    // A flush of this size takes some 80 rounds; in one go it would have let two or three in.
    assert!(count >= u64::from(ENTRIES) && meanwhile > 3);
    assert_eq!(table, last);
}

#[test]
fn a_flush_holds_from_its_event_on_for_whoever_reads_or_writes_while_it_goes_on() {
    const ENTRIES: u32 = 30_000;
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let router = router(&lab);
    let (mut writer, mut listener) = (connect(&router), connect(&router));
    let place = |number: u32| eid(&format!("10.{}.{}.{}/32", number >> 16, number >> 8 & 0xff, number & 0xff));
    for number in 0..ENTRIES {
        writer.perform(&Operation::Add(offer(place(number), 20))).unwrap();
    }
    let (kept, mark) = (place(ENTRIES - 1), eid("9.9.9.9/32"));
    let filters = [Filter::of(&[Op::ADD, Op::CHANGE, Op::DELETE, Op::FLUSH])];
    listener.subscribe(&filters, false).unwrap();
    let mut flusher = connect(&router);
    flusher.subscribe(&filters, false).unwrap();
    let flushing = thread::spawn(move || {
        let flush = Operation::Flush { table: Table::Cache, instance: None, all: false };
        (flusher.perform(&flush).unwrap().count, flusher)
    });
    assert!(matches!(next_change(&mut listener), Event::Flushed { .. }));
    // The last of them is the last that it comes to.
    let change = Operation::Change { offer: offer(kept, 21), unless_after: None };
    let absent = refused(writer.perform(&change)) == libc_errno("ENOENT");
    let absent = absent && writer.find(Table::Cache, &kept).unwrap().is_none();
    writer.perform(&Operation::Add(offer(kept, 22))).unwrap();
    let mut late = connect(&router);
    late.subscribe(&filters, false).unwrap();
    let mut table = read_table(&mut late);
    let first: Vec<EidPrefix> = table.keys().copied().collect();
    let (count, mut flusher) = flushing.join().unwrap();
    writer.perform(&Operation::Add(offer(mark, 20))).unwrap();
    while apply(&mut table, next(&mut late).event, &mark) {}
    assert!(absent, "a client finds what was flushed");
    assert_eq!((first, count), (vec![kept], u64::from(ENTRIES)));
    let mut last = read_table(&mut late);
    last.remove(&mark);
    assert_eq!((last.keys().copied().collect::<Vec<_>>(), table), (vec![kept], last));
    // Who flushed heard only what others did.
    assert!(matches!(next_change(&mut flusher), Event::Added(entry) if entry.eid == kept));
    assert!(matches!(next_change(&mut flusher), Event::Added(entry) if entry.eid == mark));
}

/// `altitude map …`: exit code, what it printed, what it complained of.
fn map(api: &Path, arguments: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(lab::altitude_binary().unwrap());
    let output = command.arg("map").args(arguments.split(' ')).arg("--api").arg(api).output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn altitude_map_does_it_from_the_command_line() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let router = router(&lab);
    let read_only: PathBuf = lab.folder().join("api-ro.sock");
    let altitude = lab::altitude_binary().unwrap();
    let monitor = lab::Process::start(
        "monitor",
        Command::new(&altitude).args(["map", "monitor", "--json", "--count", "3", "--api"]).arg(&read_only),
        lab.folder(),
    )
    .unwrap();
    let mut people = lab::Process::start(
        "people",
        Command::new(&altitude).args(["map", "monitor", "--api"]).arg(&router.api),
        lab.folder(),
    )
    .unwrap();
    people.wait_line(LIMIT, |line| line.starts_with("TIME")).unwrap();
    // The other one has no titles: it hears once it is one of two clients that do.
    lab::wait_until("two subscribers", LIMIT, || {
        let (_, said, _) = map(&router.api, "add 9.0.0.0/8 --action drop");
        map(&router.api, "del 9.0.0.0/8");
        assert_eq!(said, "added 9.0.0.0/8\n");
        Ok(monitor.output().contains("add").then_some(()))
    })
    .unwrap();

    assert_eq!(map(&router.api, "add 2.2.0.0/16 240.0.254.20,1,60 240.0.254.21").1, "added 2.2.0.0/16\n");
    let (code, _, why) = map(&router.api, "add 2.2.0.0/16 240.0.254.20");
    assert!(code == Some(1) && why.contains("2.2.0.0/16 is there already: CHANGE replaces it"), "{why}");
    let (code, said, _) = map(&read_only, "get 2.2.2.2");
    assert!(code == Some(0) && said.contains("2.2.0.0/16") && said.contains("api") && said.contains("1/60"), "{said}");
    let (_, said, _) = map(&read_only, "get 2.2.2.2 --json");
    let json: Value = serde_json::from_str(&said).unwrap();
    let generation = json["generation"].as_u64().unwrap();
    assert_eq!((&json["entry"]["origin"], &json["entry"]["locators"][1]["weight"]), (&"api".into(), &100.into()));
    let (code, _, why) = map(&read_only, "del 2.2.0.0/16");
    assert!(code == Some(1) && why.contains("may only read"), "{why}");
    let change = format!("change 2.2.0.0/16 240.0.254.22 --since {generation}");
    assert_eq!(map(&router.api, &change).0, Some(0));
    let (code, _, why) = map(&router.api, &change);
    assert!(code == Some(1) && why.contains("has changed meanwhile"), "{why}");
    assert_eq!(map(&router.api, "badreach 240.0.254.22").1, "out of use: 1 locator\n");
    assert!(map(&router.api, "get 2.2.2.2").1.contains("taken out"));
    assert_eq!(map(&router.api, "reach --eid 2.2.2.2").1, "to be used again: 1 locator\n");
    let (_, said, _) = map(&router.api, "del 2.2.0.0/16");
    assert!(said.contains("took out 2.2.0.0/16, which was") && said.contains("240.0.254.22"), "{said}");
    let (code, _, why) = map(&router.api, "get 2.2.2.2");
    assert!(code == Some(1) && why.contains("no entry for 2.2.2.2/32"), "{why}");
    map(&router.api, "add 3.0.0.0/8 --action drop --ttl 600");
    assert_eq!(map(&router.api, "flush").1, "took out 1 mapping\n");

    people.wait_line(LIMIT, |line| line.contains("flush") && line.contains("emptied")).unwrap();
    for wanted in ["badreach  240.0.254.22", "delete    2.2.0.0/16", "change    2.2.0.0/16"] {
        assert!(people.output().contains(wanted), "{wanted} in {}", people.output());
    }
    let ended = monitor.finish(LIMIT).unwrap();
    let objects: Vec<Value> = ended.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 3);
    assert!(objects.iter().all(|object| object["overrun"] == false), "{ended}");
}
