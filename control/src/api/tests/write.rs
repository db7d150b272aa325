//! Requests that change something: golden octets, what is refused, and who may.

use std::collections::BTreeMap;

use super::*;

/// A router whose map-cache can be written.
#[derive(Default)]
pub(super) struct Book {
    pub(super) entries: BTreeMap<EidPrefix, Entry>,
    pub(super) generation: u64,
    /// What it was last asked to do.
    pub(super) asked: Vec<(Asker, Operation)>,
}

impl View for Book {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn entries(&self, table: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new(self.entries.values().filter(move |entry| entry.table == table).cloned())
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

impl Router for Book {
    fn view(&self) -> &dyn View {
        self
    }

    fn perform(&mut self, asker: Asker, operation: Operation) -> Result<Outcome, Refused> {
        self.asked.push((asker, operation.clone()));
        let done = match operation {
            Operation::Add(offer) if self.entries.contains_key(&offer.mapping.eid) => {
                Err(Refused::Exists(offer.mapping.eid))
            }
            Operation::Add(offer) | Operation::Change { offer, .. } => {
                let entry = Entry::new(offer.table, &offer.mapping, Origin::Api, UNIX_EPOCH, |_| true);
                self.entries.insert(entry.eid, entry);
                Ok(Done::default())
            }
            Operation::Delete { eid, .. } => match self.entries.remove(&eid) {
                None => Err(Refused::Missing(format!("no entry for exactly {eid}"))),
                entry => Ok(Done { entry, count: 1 }),
            },
            Operation::Flush { .. } => Ok(Done { entry: None, count: std::mem::take(&mut self.entries).len() as u64 }),
            Operation::Judge { .. } | Operation::Clear { .. } | Operation::Reload => Ok(Done { entry: None, count: 3 }),
        };
        self.generation += u64::from(done.is_ok());
        done.map(Outcome::Done)
    }

    fn perform_all(&mut self, asker: Asker, operations: Vec<Operation>) -> Result<Done, Failed> {
        let batch = Batch::verify(operations.clone(), self)?;
        for eid in batch.removes() {
            self.entries.remove(&eid);
        }
        for (_, offer) in batch.puts() {
            let entry = Entry::new(offer.table, &offer.mapping, Origin::Api, UNIX_EPOCH, |_| true);
            self.entries.insert(entry.eid, entry);
        }
        self.generation += 1;
        let count = operations.len() as u64;
        self.asked.extend(operations.into_iter().map(|operation| (asker, operation)));
        Ok(Done { entry: None, count })
    }

    fn try_all(&mut self, operations: Vec<Operation>, ahead: i32) -> Result<i32, Failed> {
        let batch = Batch::verify(operations, self)?;
        Ok(ahead + batch.puts().count() as i32 - batch.removes().len() as i32)
    }
}

/// 66.0.0.0/8 is its own, and all that is there has changed since the generation 41.
impl Checks for Book {
    fn holds(&self, table: Table, eid: &EidPrefix) -> bool {
        self.entries.get(eid).is_some_and(|entry| entry.table == table)
    }

    fn acceptable(&self, offer: &Offer) -> Result<(), Refused> {
        let own = eid("66.0.0.0/8", 0).covers(&offer.mapping.eid);
        if own { Err(Refused::Invalid("our own".to_owned())) } else { Ok(()) }
    }

    fn unchanged(&self, table: Table, eid: &EidPrefix, unless_after: Option<u64>) -> Result<(), Refused> {
        match self.entries.get(eid).filter(|entry| entry.table == table) {
            None => Err(Refused::Missing(format!("no entry for exactly {eid}"))),
            Some(_) if unless_after == Some(41) => Err(Refused::Changed(*eid)),
            Some(_) => Ok(()),
        }
    }
}

pub(super) fn offer(text: &str, locators: &[&str]) -> Offer {
    let locators = locators.iter().map(|address| Locator::unicast(address.parse().unwrap(), 1, 100)).collect();
    let mapping = Mapping { locators, ..Mapping::negative(eid(text, 0), Ttl::ReceiverDecides, Action::NoAction) };
    Offer { table: Table::Cache, mapping, life: None, ephemeral: false, foreign: false }
}

/// One of each, as a client writes it.
fn operations() -> Vec<Operation> {
    let plain = offer("2.2.0.0/16", &["240.0.254.20", "2001:db8::20"]);
    let rich = Offer {
        mapping: Mapping { version: 9, authoritative: true, ttl: Ttl::Minutes(2), ..plain.mapping.clone() },
        life: Some(Duration::from_secs(61)),
        ephemeral: true,
        foreign: true,
        ..plain.clone()
    };
    let mut hole = offer("2001:db8::/32", &[]);
    (hole.mapping.eid.instance, hole.mapping.action) = (InstanceId::new(5).unwrap(), Action::NativelyForward);
    vec![
        Operation::Add(plain),
        Operation::Change { offer: rich, unless_after: Some(41) },
        Operation::Change { offer: hole, unless_after: None },
        Operation::Delete { table: Table::Database, eid: eid("1.1.0.0/16", 3), unless_after: Some(1) },
        Operation::Flush { table: Table::Cache, instance: None, all: false },
        Operation::Flush { table: Table::Database, instance: InstanceId::new(7), all: true },
        Operation::Judge { judged: Judged::Locator([240, 0, 254, 20].into()), up: false },
        Operation::Judge { judged: Judged::Mapping(eid("2.2.2.0/24", 1)), up: true },
        Operation::Reload,
        Operation::Clear { neighbor: Some("10.42.0.1".to_owned()), soft: true },
        Operation::Clear { neighbor: None, soft: false },
    ]
}

/// The first reply to an operation.
pub(super) fn perform(router: &mut dyn Router, session: &mut Session, operation: &Operation) -> (Header, Vec<u8>) {
    let (op, flags, body) = super::super::write::request(operation);
    let request = Header { op, flags, errno: 0, sequence: 77, generation: 0 }.message(&body);
    let mut replies = Vec::new();
    assert_eq!(handle(&request, router, session, &mut replies), Conduct::Keep);
    let [reply] = replies.as_slice() else { panic!("{replies:?}") };
    let (header, body) = Header::split(reply).unwrap();
    (header, body.to_vec())
}

#[test]
fn operations_arrive_as_they_were_asked_for() {
    for operation in operations() {
        let mut book = Book::default();
        perform(&mut book, &mut session(), &operation);
        assert_eq!(book.asked, [(Asker(7), operation)]);
    }
}

#[test]
fn golden_add_and_its_reply() {
    let (mut book, mut replies) = (Book::default(), Vec::new());
    let request = [
        b'A', b'L', b'T', b'1', 147, 0, 0, 0, // magic, length
        1, 0, 0, 0, 0, 0, 0, 0, // ADD, no flags, no error
        8, 7, 6, 5, 4, 3, 2, 1, // sequence
        0, 0, 0, 0, 0, 0, 0, 0, // generation
        1, 0, 1, 0, 0, // TABLE: the cache
        2, 0, 4, 0, 0, 0, 0, 0, // IID
        3, 0, 8, 0, 0, 1, 16, 0, 2, 2, 0, 0, // EID 2.2.0.0/16
        4, 0, 36, 0, // MAPPING
        4, 0, 0, 0, 90, 0, 0, 0, 0, 0, 0, 7, // ephemeral, 90 s, no version, act 0, origin api
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // figures
        5, 0, 46, 0, 1, 100, 255, 0, 0x10, 0, 0, 0, // RLOC 1/100, R
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // figures
        0, 1, 240, 0, 254, 20,
    ];
    assert_eq!(handle(&request, &mut book, &mut session(), &mut replies), Conduct::Keep);
    let mut reply = request[..32].to_vec();
    (reply[4], reply[10], reply[24]) = (32, 1, 1);
    assert_eq!(replies, [reply], "done, at generation 1");
    let offer =
        Offer { life: Some(Duration::from_secs(90)), ephemeral: true, ..offer("2.2.0.0/16", &["240.0.254.20"]) };
    let mapping = Mapping { ttl: Ttl::Minutes(2), ..offer.mapping.clone() };
    assert_eq!(book.asked, [(Asker(7), Operation::Add(Offer { mapping, ..offer }))]);
    // What the library writes is the same.
    let (_, operation) = &book.asked[0];
    let (op, flags, body) = super::super::write::request(operation);
    assert_eq!((op, flags, body.as_slice()), (Op::ADD, Flags::default(), &request[32..]));
}

/// The request for an operation, header and TLVs apart.
fn octets(operation: &Operation) -> ([u8; 4], Vec<u8>) {
    let (op, flags, body) = super::super::write::request(operation);
    let message = Header { op, flags, errno: 0, sequence: 0, generation: 0 }.message(&body);
    (message[8..12].try_into().unwrap(), body)
}

#[test]
fn golden_change_delete_flush_and_verdicts() {
    let [_, change, hole, delete, flush, flush_all, bad, reach, reload, soft, all] = &operations()[..] else {
        panic!("eleven")
    };
    let (head, body) = octets(change);
    assert_eq!(head, [3, 0, 0, 0]);
    assert_eq!(
        body[29..41],
        [14, 0, 0, 0, 61, 0, 0, 0, 9, 0, 0, 7],
        "authoritative, ephemeral, foreign, 61 s, version 9"
    );
    assert_eq!(body[body.len() - 12..], [1, 0x80, 8, 0, 41, 0, 0, 0, 0, 0, 0, 0], "MUST_GEN");
    let (head, body) = octets(hole);
    assert_eq!(head, [3, 0, 0, 0]);
    assert_eq!(body[41..53], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7], "NEGATIVE, for ever, ACT 1");
    assert_eq!(body.len(), 77, "no RLOC");
    let must = [1, 0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let place = [1, 0, 1, 0, 1, 2, 0, 4, 0, 3, 0, 0, 0, 3, 0, 8, 0, 0, 1, 16, 0, 1, 1, 0, 0];
    assert_eq!(octets(delete), ([2, 0, 0, 0], [place.as_slice(), &must].concat()));
    assert_eq!(octets(flush), ([9, 0, 0, 0], vec![1, 0, 1, 0, 0]));
    assert_eq!(octets(flush_all), ([9, 0, 0, 1], vec![1, 0, 1, 0, 1, 2, 0, 4, 0, 7, 0, 0, 0]));
    let (head, body) = octets(bad);
    assert_eq!(head, [7, 0, 0, 0]);
    assert_eq!(body[..12], [5, 0, 46, 0, 0, 0, 255, 0, 0x50, 0, 0, 0], "an RLOC that is bad");
    assert_eq!(body[44..], [0, 1, 240, 0, 254, 20, 8, 0, 6, 0, 6, 3, 0, 0, 0, 0], "and REACH_INFO: admin, down");
    let place = vec![2, 0, 4, 0, 1, 0, 0, 0, 3, 0, 8, 0, 0, 1, 24, 0, 2, 2, 2, 0];
    assert_eq!(octets(reach), ([6, 0, 0, 0], place));
    assert_eq!(octets(reload), ([0, 0x40, 0, 0], Vec::new()));
    let clear = [&[0x29, 0x40, 10, 0, 1][..], b"10.42.0.1"].concat();
    assert_eq!(octets(soft), ([2, 0x40, 0, 0], clear));
    assert_eq!(octets(all), ([2, 0x40, 0, 0], vec![0x29, 0x40, 1, 0, 2]));
}

/// A name that got lost on the way there, as that of an empty shell variable, must not mean all neighbours.
#[test]
fn clear_without_a_name_is_refused_unless_it_says_all() {
    let (mut book, mut session) = (Book::default(), session());
    let clear = |name: &str| Operation::Clear { neighbor: Some(name.to_owned()), soft: false };
    let (header, text) = perform(&mut book, &mut session, &clear(""));
    assert_eq!(header.errno, errno::INVALID, "{}", String::from_utf8_lossy(&text));
    assert_eq!(perform(&mut book, &mut session, &clear("core")).0.errno, 0);
    let both = Header { op: Op::CLEAR, flags: Flags::default(), errno: 0, sequence: 1, generation: 0 };
    let mut replies = Vec::new();
    handle(&both.message(&[0x29, 0x40, 2, 0, 2, b'x']), &mut book, &mut session, &mut replies);
    assert_eq!(Header::split(&replies[0]).unwrap().0.errno, errno::INVALID);
}

#[test]
fn a_reply_says_what_was_taken_out_and_how_much() {
    let (mut book, mut session) = (Book::default(), session());
    let add = Operation::Add(offer("2.2.0.0/16", &["240.0.254.20"]));
    assert_eq!(perform(&mut book, &mut session, &add).0.errno, 0);
    let (header, body) = perform(&mut book, &mut session, &add);
    assert_eq!((header.errno, header.generation), (errno::EXISTS, 1));
    assert!(String::from_utf8_lossy(&body).contains("2.2.0.0/16 is there already"));
    let there = book.entries[&eid("2.2.0.0/16", 0)].clone();
    let delete = Operation::Delete { table: Table::Cache, eid: there.eid, unless_after: None };
    let reply = perform(&mut book, &mut session, &delete);
    assert_eq!((reply.0.errno, reply.0.generation), (0, 2));
    assert_eq!(entries(&[reply]), [there]);
    assert_eq!(perform(&mut book, &mut session, &delete).0.errno, errno::NOT_FOUND);
    let judge = Operation::Judge { judged: Judged::Locator([240, 0, 254, 20].into()), up: false };
    let (_, body) = perform(&mut book, &mut session, &judge);
    assert_eq!(body[..14], [11, 0, 10, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0], "three locators");
}

#[test]
fn what_makes_no_sense_reaches_nobody() {
    let plain = offer("2.2.0.0/16", &["240.0.254.20"]);
    let with = |change: fn(&mut Offer)| {
        let mut offer = plain.clone();
        change(&mut offer);
        Operation::Add(offer)
    };
    let rlocs = |count: u8| (0..count).map(|last| Locator::unicast([240, 0, 254, last].into(), 1, 1)).collect();
    let cases: [(Operation, &str); 7] = [
        (with(|offer| offer.mapping.version = 4096), "at most 4095"),
        (with(|offer| offer.mapping.action = Action::Drop), "RLOCs or an action"),
        (with(|offer| offer.mapping.locators[0].address = [224, 0, 0, 1].into()), "no unicast address"),
        (with(|offer| offer.mapping.locators[0].address = [2, 2, 9, 9].into()), "an address of the core"),
        (with(|offer| offer.mapping.locators.push(offer.mapping.locators[0])), "is there twice"),
        (
            Operation::Add(Offer {
                mapping: Mapping { locators: rlocs(33), ..plain.mapping.clone() },
                ..plain.clone()
            }),
            "at most 32 RLOCs",
        ),
        (
            Operation::Add(Offer {
                mapping: Mapping { locators: rlocs(255), ..plain.mapping.clone() },
                ..plain.clone()
            }),
            "at most 32 RLOCs",
        ),
    ];
    for (operation, reason) in cases {
        let mut book = Book::default();
        let (header, body) = perform(&mut book, &mut session(), &operation);
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!((header.errno, book.asked.len()), (errno::INVALID, 0), "{text}");
        assert!(text.contains(reason), "{text}");
    }
    let whole = Operation::Add(Offer { mapping: Mapping { locators: rlocs(32), ..plain.mapping.clone() }, ..plain });
    assert_eq!(perform(&mut Book::default(), &mut session(), &whole).0.errno, 0);
}

#[test]
fn malformed_changes_are_refused_with_their_reason() {
    let place = [3, 0, 8, 0, 0, 1, 16, 0, 2, 2, 0, 0].as_slice();
    let mapping =
        |flags: u8, act: u8| [&[4, 0, 36, 0, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, act, 7][..], &[0; 24]].concat();
    let must = [1, 0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0].as_slice();
    let cases: [(Op, Flags, Vec<u8>, u32, &str); 11] = [
        (Op::ADD, Flags::default(), vec![], errno::INVALID, "an EID is missing"),
        (Op::ADD, Flags::default(), place.to_vec(), errno::INVALID, "RLOCs, or the flag NEGATIVE"),
        (Op::ADD, Flags::default(), [place, &mapping(0, 0)].concat(), errno::INVALID, "RLOCs, or the flag NEGATIVE"),
        (Op::ADD, Flags::default(), [place, &mapping(1, 6)].concat(), errno::INVALID, "ACT is 0 to 5"),
        (Op::ADD, Flags::default(), [place, &mapping(1, 1)[..20]].concat(), errno::INVALID, "ends early"),
        (Op::ADD, Flags::default(), [place, &mapping(1, 1), must].concat(), errno::INVALID, "MUST_GEN means nothing"),
        (Op::DELETE, Flags::default(), [&[1, 0, 1, 0, 2], place].concat(), errno::INVALID, "one table at a time"),
        (Op::FLUSH, Flags::default(), place.to_vec(), errno::INVALID, "DELETE takes out one EID"),
        (Op::REACH, Flags::default(), vec![], errno::INVALID, "about one RLOC"),
        (Op::REACH, Flags::default(), vec![8, 0, 6, 0, 9, 0, 0, 0, 0, 0], errno::INVALID, "method"),
        (Op::CHANGE, Flags::default(), [place, &must[..8]].concat(), errno::INVALID, "ends early"),
    ];
    for (op, flags, body, number, reason) in cases {
        let request = Header { op, flags, errno: 0, sequence: 1, generation: 0 }.message(&body);
        let (mut book, mut replies) = (Book::default(), Vec::new());
        handle(&request, &mut book, &mut session(), &mut replies);
        let text = String::from_utf8_lossy(&replies[0][32..]).into_owned();
        assert_eq!(Header::split(&replies[0]).unwrap().0.errno, number, "{reason}: {text}");
        assert!(text.contains(reason) && book.asked.is_empty(), "{reason}: {text}");
    }
}

#[test]
fn who_may_only_read_changes_nothing_and_may_read_all() {
    for operation in operations() {
        let (mut book, mut reader) = (Book::default(), Session::new(Asker(1), Rights::Read));
        let (header, body) = perform(&mut book, &mut reader, &operation);
        assert_eq!((header.errno, book.asked.len()), (errno::DENIED, 0), "{operation:?}");
        assert!(String::from_utf8_lossy(&body).contains("may only read"));
        assert_ne!(perform(&mut book, &mut session(), &operation).0.errno, errno::DENIED, "{operation:?}");
    }
    for (op, flags) in [(Op::HELLO, Flags::default()), (Op::GET, Flags::DUMP), (Op::STATS, Flags::default())] {
        let request = Header { op, flags, errno: 0, sequence: 1, generation: 0 }.message(&[]);
        let (_, replies) = answers(&request, &mut Book::default(), &mut Session::new(Asker(1), Rights::Read));
        assert_eq!(Header::split(&replies[0]).unwrap().0.errno, 0);
    }
}
