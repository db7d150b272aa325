//! A router's own mappings, put in and taken out through its API: registered, answered for, forwarded, and back to what its file
//! says.
//!
//! ```text
//! site1 ─ xtr1 ── Map-Resolver and Map-Server ── xtr2 ─ site2, whose IPv4 prefix no file names
//!                                                 ▲
//!                                       a client that adds it
//! ```

use std::{fs, ops::Range, process::Command};

use altitude_perf::lab::{self, Lab, Pings, Process, Router, SITES, wait_until};
use serde_json::Value;

use super::{mapd::compiled, *};

const SERVER: &str = "240.0.254.30";
const RLOC: &str = "240.0.254.20";
const KEY: &str = "key = { id = 1, algorithm = \"sha256\", secret = \"of the sites\" }\n";

fn start(lab: &Lab, name: &str, namespace: &lab::Namespace, text: &str) -> Router {
    let file = lab.folder().join(format!("{name}.toml"));
    fs::write(&file, text).unwrap();
    let flags = ["--config".to_owned(), file.display().to_string()];
    Router::start(name, namespace, &flags, lab.folder()).unwrap()
}

/// Both sites register; everybody in the core may ask.
fn map_server(lab: &Lab) -> Router {
    let sites = SITES.iter().map(|site| {
        let [v4, v6] = site.eid_prefixes();
        format!("[[site]]\nname = \"{v4}\"\neid-prefixes = [\"{v4}\", \"{v6}\"]\nmore-specifics = true\n{KEY}")
    });
    let state = lab.folder().join("state-ms");
    let head = format!(
        "rlocs = [\"{SERVER}\"]\nstate-dir = \"{}\"\n[map-resolver]\nclients = [\"240.0.254.0/24\"]\n",
        state.display()
    );
    start(lab, "ms", &lab.alt, &(head + &sites.collect::<String>()))
}

/// An xTR that registers these of its prefixes.
fn site(lab: &Lab, index: usize, prefixes: &[String]) -> String {
    let own: String = prefixes.iter().map(|prefix| format!("[[eid-prefix]]\nprefix = \"{prefix}\"\n")).collect();
    let state = lab.folder().join(format!("state-{index}"));
    format!(
        "workers = \"0\"\nrlocs = [\"{}\"]\nmap-resolvers = [\"{SERVER}\"]\nstate-dir = \"{}\"\n[[site-port]]\nname = \"site\"\n\
         [[core-port]]\nname = \"core\"\n{own}[[map-server]]\naddress = \"{SERVER}\"\n{KEY}",
        SITES[index].rloc.0,
        state.display()
    )
}

/// What the Map-Server has of its sites.
fn registered(server: &Router) -> Result<String, lab::LabError> {
    let json: Value = serde_json::from_str(&server.show(&["sites", "--json"])?).unwrap();
    Ok(json.to_string())
}

fn wait_registered(server: &Router, prefix: &str, is: bool) {
    wait_until(&format!("{prefix} registered: {is}"), LIMIT, || {
        let there = server.show(&["sites"])?.lines().any(|line| line.contains(prefix) && line.contains(RLOC));
        Ok((there == is).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", registered(server).unwrap()));
}

fn own(text: &str) -> Offer {
    let locators = vec![Locator::unicast(RLOC.parse().unwrap(), 1, 100)];
    let mapping = Mapping { locators, ..Mapping::negative(eid(text), Ttl::ReceiverDecides, Action::NoAction) };
    Offer { table: Table::Database, mapping, life: None, ephemeral: false, foreign: false }
}

fn next_own(listener: &mut Client) -> (&'static str, EidPrefix) {
    loop {
        match next(listener).event {
            Event::Added(entry) if entry.table == Table::Database => return ("add", entry.eid),
            Event::Changed(entry) if entry.table == Table::Database => return ("change", entry.eid),
            Event::Deleted { table: Table::Database, eid, .. } => return ("delete", eid),
            _ => {}
        }
    }
}

fn altitude(arguments: &[&str], router: &Router) -> Result<String, lab::LabError> {
    lab::run(Command::new(lab::altitude_binary()?).args(arguments).arg("--api").arg(&router.api))
}

#[test]
fn what_a_client_makes_ours_is_registered_reached_and_gone_with_it() {
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let server = map_server(&lab);
    let [v4, v6] = SITES[1].eid_prefixes();
    let xtr1 = start(&lab, "xtr1", &lab.xtrs[0], &site(&lab, 0, &SITES[0].eid_prefixes()));
    let xtr2 = start(&lab, "xtr2", &lab.xtrs[1], &site(&lab, 1, std::slice::from_ref(&v6)));
    wait_registered(&server, &v6, true);
    let [to4, to6] = lab.hosts(1);
    assert_eq!(lab.ping(0, to6, 3).unwrap(), Pings { sent: 3, answered: 3 });
    let mut listener = connect(&xtr2);
    listener.subscribe(&[Filter::of(&[Op::ADD, Op::CHANGE, Op::DELETE])], false).unwrap();

    // A program in C makes the prefix the router's own while it runs.
    let program = compiled(&lab, "own");
    let (prefix, length) = v4.split_once('/').unwrap();
    let mut command = lab.xtrs[1].command(&program);
    command.arg(&xtr2.api).args([prefix, length, RLOC]);
    let mut client = Process::start("own", &mut command, lab.folder()).unwrap();
    client.wait_line(LIMIT, |line| line == "ready").unwrap();
    assert_eq!(next_own(&mut listener), ("add", eid(&v4)));
    wait_registered(&server, &v4, true);
    assert_eq!(lab.ping(0, to4, 20).unwrap(), Pings { sent: 20, answered: 20 }, "{}", xtr2.process.output());
    let there = listener.find(Table::Database, &eid(&v4)).unwrap().unwrap();
    assert_eq!((there.origin, there.ephemeral, there.ttl), (Origin::Api, true, Some(Duration::from_secs(600))));
    assert!(there.locators[0].locator.local && there.locators[0].locator.reachable, "{there:?}");

    // Killed, it leaves nothing behind, at the Map-Server either; what the file says goes on.
    client.kill().unwrap();
    assert_eq!(next_own(&mut listener), ("delete", eid(&v4)));
    wait_registered(&server, &v4, false);
    assert_eq!(lab.ping(0, to4, 1).unwrap().answered, 0);
    assert_eq!(lab.ping(0, to6, 3).unwrap(), Pings { sent: 3, answered: 3 });
    changes(&lab, &server, [&xtr1, &xtr2], &mut listener);
    cut_under_traffic(&lab, &server, &xtr2);
}

/// What an operator does with the database, refusals, batches and a reload.
fn changes(lab: &Lab, server: &Router, [xtr1, xtr2]: [&Router; 2], listener: &mut Client) {
    let [v4, v6] = SITES[1].eid_prefixes();
    let mut writer = connect(xtr2);
    let add = |text: &str| Operation::Add(own(text));
    for (bad, name) in [
        (add(&v6), "EEXIST"),
        (Operation::Change { offer: own("2.9.0.0/16"), unless_after: None }, "ENOENT"),
        (Operation::Delete { table: Table::Database, eid: eid("2.9.0.0/16"), unless_after: None }, "ENOENT"),
        (add("240.0.0.0/4"), "EINVAL"),
        (Operation::Add(Offer { table: Table::Database, ..offer(eid("2.9.0.0/16"), 21) }), "EINVAL"),
    ] {
        assert_eq!(refused(writer.perform(&bad)), libc_errno(name), "{bad:?}");
    }
    assert_eq!(writer.dump(Table::Database).unwrap().len(), 1, "nothing of it was done");

    // By hand, with a batch that fails and one that does not; the Map-Server follows.
    let file = lab.folder().join("changes.txt");
    let lines = format!("# moves in\nadd {v4} {RLOC} --database --ttl 600\n\nadd 2.2.7.0/24 {RLOC} --database\n");
    fs::write(&file, format!("{lines}add {v6} {RLOC} --database\n")).unwrap();
    let path = file.display().to_string();
    let why = altitude(&["map", "apply", &path], xtr2).unwrap_err().to_string();
    assert!(why.contains("changes.txt:5:") && why.contains("is there already"), "{why}");
    fs::write(&file, &lines).unwrap();
    let said = altitude(&["map", "apply", &path, "--dry-run"], xtr2).unwrap();
    assert_eq!(said, "2 changes can be made; nothing was changed\n");
    assert_eq!(writer.dump(Table::Database).unwrap().len(), 1, "neither has changed anything");
    assert_eq!(altitude(&["map", "apply", &path], xtr2).unwrap(), "2 changes made\n");
    assert_eq!([(); 2].map(|()| next_own(listener)), [("add", eid(&v4)), ("add", eid("2.2.7.0/24"))]);
    wait_registered(server, "2.2.7.0/24", true);
    // While nobody had it the Map-Server said so, for a minute.
    altitude(&["map", "flush"], xtr1).unwrap();
    assert_eq!(lab.ping(0, lab.hosts(1)[0], 3).unwrap(), Pings { sent: 3, answered: 3 });

    // Compare-and-set, and what the file does not name stays over a reload while what it names comes back.
    let seen = writer.find(Table::Database, &eid(&v4)).map(|_| writer.generation()).unwrap();
    let change = || Operation::Change {
        offer: Offer { life: Some(Duration::from_secs(60)), ..ttl(own(&v4), 1) },
        unless_after: Some(seen),
    };
    writer.perform(&change()).unwrap();
    assert_eq!(next_own(listener), ("change", eid(&v4)));
    assert_eq!(refused(writer.perform(&change())), libc_errno("EAGAIN"));
    let taken = altitude(&["map", "del", "--database", &v6], xtr2).unwrap();
    assert!(taken.contains(&v6) && taken.contains(RLOC), "{taken}");
    assert_eq!(next_own(listener), ("delete", eid(&v6)));
    assert_eq!(altitude(&["reload"], xtr2).unwrap(), "changed: 1\n");
    assert_eq!(next_own(listener), ("add", eid(&v6)));
    let left: Vec<(EidPrefix, Origin)> =
        writer.dump(Table::Database).unwrap().iter().map(|entry| (entry.eid, entry.origin)).collect();
    let expected = [(v4.as_str(), Origin::Api), ("2.2.7.0/24", Origin::Api), (&v6, Origin::Static)];
    assert_eq!(left, expected.map(|(text, origin)| (eid(text), origin)));
    wait_registered(server, &v6, true);
    altitude(&["map", "flush"], xtr1).unwrap();
    for to in lab.hosts(1) {
        assert_eq!(lab.ping(0, to, 3).unwrap(), Pings { sent: 3, answered: 3 }, "{to}");
    }

    // A flush undoes what clients made, tells each, and leaves what the file says; what was taken out stays out until a reload.
    altitude(&["map", "change", &v6, RLOC, "--database", "--ttl", "60"], xtr2).unwrap();
    assert_eq!(next_own(listener), ("change", eid(&v6)));
    let all = Operation::Flush { table: Table::Database, instance: None, all: true };
    assert_eq!(refused(writer.perform(&all)), libc_errno("EOPNOTSUPP"));
    let other = Operation::Flush { table: Table::Database, instance: InstanceId::new(7), all: false };
    assert_eq!(writer.perform(&other).unwrap().count, 0);
    assert_eq!(altitude(&["map", "flush", "--database"], xtr2).unwrap(), "undid 3 changes\n");
    let mut told = [(); 3].map(|()| next_own(listener));
    told.sort_unstable();
    assert_eq!(told, [("change", eid(&v6)), ("delete", eid(&v4)), ("delete", eid("2.2.7.0/24"))]);
    let left: Vec<(EidPrefix, Origin)> =
        writer.dump(Table::Database).unwrap().iter().map(|entry| (entry.eid, entry.origin)).collect();
    assert_eq!(left, [(eid(&v6), Origin::Static)]);
    wait_registered(server, &v4, false);
    fs::write(&file, &lines).unwrap();
    altitude(&["map", "apply", &path], xtr2).unwrap();
    assert_eq!([(); 2].map(|()| next_own(listener)), [("add", eid(&v4)), ("add", eid("2.2.7.0/24"))]);
    wait_registered(server, "2.2.7.0/24", true);
    altitude(&["map", "flush"], xtr1).unwrap();
    for to in lab.hosts(1) {
        assert_eq!(lab.ping(0, to, 3).unwrap(), Pings { sent: 3, answered: 3 }, "{to}");
    }

    // A file that what clients put in cannot stand beside is refused, by name.
    let file = lab.folder().join("xtr2.toml");
    let text = fs::read_to_string(&file).unwrap();
    let inside = "[[map-cache]]\neid = \"2.2.7.0/28\"\nlocators = [{ address = \"240.0.254.10\" }]\n";
    fs::write(&file, format!("{text}{inside}")).unwrap();
    let why = altitude(&["reload"], xtr2).unwrap_err().to_string();
    assert!(why.contains("2.2.7.0/28") && why.contains("map del --database"), "{why}");
    fs::write(&file, text).unwrap();
    assert_eq!(altitude(&["reload"], xtr2).unwrap(), "nothing changed\n");
}

/// A prefix is cut in two and made whole again while packets pass: none is lost, here or at the Map-Server.
fn cut_under_traffic(lab: &Lab, server: &Router, xtr2: &Router) {
    const PINGS: usize = 600;
    let [v4, _] = SITES[1].eid_prefixes();
    let halves = ["2.2.0.0/17", "2.2.128.0/17"];
    let mut ping = lab.sites[0].command("ping");
    ping.args(["-q", "-i", "0.01", "-c", &PINGS.to_string(), &lab.hosts(1)[0].to_string()]);
    let ping = Process::start("ping", &mut ping, lab.folder()).unwrap();
    let file = lab.folder().join("cut.txt");
    let lines = |verb: &str, prefixes: &[&str], rloc: &str| -> String {
        prefixes.iter().map(|prefix| format!("{verb} {prefix} {rloc} --database\n")).collect()
    };
    let apply = |text: String, named: &str| {
        fs::write(&file, text).unwrap();
        assert_eq!(altitude(&["map", "apply", &file.display().to_string()], xtr2).unwrap(), "3 changes made\n");
        wait_registered(server, named, true);
    };
    let mut rounds = 0;
    while !ping.output().contains("packets transmitted") {
        apply(lines("del", &[v4.as_str()], "") + &lines("add", &halves, RLOC), halves[1]);
        wait_registered(server, &v4, false);
        apply(lines("del", &halves, "") + &lines("add", &[v4.as_str()], RLOC), &v4);
        wait_registered(server, halves[1], false);
        rounds += 1;
    }
    let said = ping.output();
    assert!(said.contains(&format!("{PINGS} packets transmitted, {PINGS} received")), "{rounds} rounds: {said}");
    assert!(rounds > 0);
}

fn ttl(offer: Offer, minutes: u32) -> Offer {
    Offer { mapping: Mapping { ttl: Ttl::Minutes(minutes), ..offer.mapping }, ..offer }
}

/// The bound holds for single changes and batches alike, and what is there can still be changed and taken out.
#[test]
fn clients_put_in_as_many_mappings_of_our_own_as_may_be() {
    const MAX: u32 = 4096;
    if let Err(why) = lab::available() {
        return println!("SKIP: {why}");
    }
    let lab = Lab::new().unwrap();
    let flags = format!("--site-port site --core-port core --rloc {RLOC} --eid-prefix 2.2.0.0/16 --workers 0");
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let router = Router::start("xtr2", &lab.xtrs[1], &flags, lab.folder()).unwrap();
    let mut writer = connect(&router);
    let place = |number: u32| format!("10.{}.{}.0/24", number >> 8, number & 255);
    let add = |number: u32| Operation::Add(own(&place(number)));
    let batch = |from: u32| (from..from + 256).map(add).collect::<Vec<_>>();
    for from in (0..MAX - 256).step_by(256) {
        writer.perform_all(&batch(from)).unwrap();
    }
    writer.perform(&add(MAX - 256)).unwrap();
    match writer.perform_all(&batch(MAX - 255)) {
        Err(ClientError::BatchRefused { at: 255, errno, .. }) => assert_eq!(errno, libc_errno("ENOSPC")),
        other => panic!("{other:?}"),
    }
    writer.perform_all(&batch(MAX - 255)[..255]).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(refused(writer.perform(&add(MAX))), libc_errno("ENOSPC"));
    writer.perform(&Operation::Change { offer: ttl(own(&place(7)), 9), unless_after: None }).unwrap();
    writer.perform(&Operation::Delete { table: Table::Database, eid: eid(&place(8)), unless_after: None }).unwrap();
    writer.perform(&add(MAX)).unwrap();
    println!("a change, a DELETE and an ADD among {MAX} mappings took {:?}", begun.elapsed());
    assert_eq!(writer.dump(Table::Database).unwrap().len() as u32, MAX + 1);

    // A file of several batches: what leaves with one makes room for the next, and a trial sees where it ends before any is made.
    let file = lab.folder().join("many.txt");
    let path = file.display().to_string();
    let lines = |verb: &str, numbers: Range<u32>, rloc: &str| -> String {
        numbers.map(|number| format!("{verb} {} {rloc} --database\n", place(number))).collect()
    };
    fs::write(&file, lines("del", 100..357, "") + &lines("add", 5000..5300, RLOC)).unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let why = altitude(&[&["map", "apply", &path], more].concat(), &router).unwrap_err().to_string();
        assert!(why.contains("many.txt:515: clients have put in") && why.contains("nothing was changed"), "{why}");
    }
    assert_eq!(writer.dump(Table::Database).unwrap().len() as u32, MAX + 1);
    fs::write(&file, lines("del", 100..400, "") + &lines("add", 5000..5300, RLOC)).unwrap();
    let said = altitude(&["map", "apply", &path, "--dry-run"], &router).unwrap();
    assert_eq!(said, "600 changes can be made in 3 batches; nothing was changed\n");
    assert!(writer.find(Table::Database, &eid(&place(100))).unwrap().is_some());
    assert_eq!(altitude(&["map", "apply", &path], &router).unwrap(), "600 changes made in 3 batches\n");
    let there =
        [100, 399, 5000, 5299].map(|number| writer.find(Table::Database, &eid(&place(number))).unwrap().is_some());
    assert_eq!(there, [false, false, true, true]);
}
