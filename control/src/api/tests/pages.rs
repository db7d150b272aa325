//! Dumps made a page at a time, while the table changes under them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{
    write::{Book, offer, perform},
    *,
};
use crate::api::session::event as read;

fn place(number: u32) -> String {
    format!("10.{}.{}.0/24", number >> 8 & 0xff, number & 0xff)
}

fn dump(instance: Option<u32>) -> Vec<u8> {
    let mut body = vec![1, 0, 1, 0, 2];
    if let Some(instance) = instance {
        entry::put_instance(&mut body, InstanceId::new(instance).unwrap());
    }
    Header { op: Op::GET, flags: Flags::DUMP, errno: 0, sequence: 1, generation: 0 }.message(&body)
}

/// Header and entries of a page.
fn page(octets: &[u8]) -> (Header, Vec<Entry>) {
    let (header, body) = Header::split(octets).unwrap();
    (header, entries(&[(header, body.to_vec())]))
}

/// A subscriber that takes in what comes, in its order: pages and events.
#[derive(Default)]
struct Follower {
    table: BTreeMap<EidPrefix, IpAddr>,
    /// How often a page had each entry.
    dumped: BTreeMap<EidPrefix, u32>,
}

impl Follower {
    fn learn(&mut self, entry: &Entry) {
        self.table.insert(entry.eid, entry.locators[0].locator.address);
    }

    fn hear(&mut self, session: &mut Session) {
        while let Some(message) = session.first() {
            match read(&message).unwrap().1 {
                Event::Added(entry) | Event::Changed(entry) => self.learn(&entry),
                Event::Deleted { eid, .. } => drop(self.table.remove(&eid)),
                other => panic!("{other:?}"),
            }
            session.told();
        }
    }
}

/// One random change of the book's, and the event of it.
fn change(book: &mut Book, state: &mut u64) -> Option<Event> {
    let text = place((random(state) % 4096) as u32);
    let rloc = format!("240.0.254.{}", random(state) % 200 + 1);
    let operation = match random(state) % 3 {
        0 => Operation::Add(offer(&text, &[&rloc])),
        1 => Operation::Change { offer: offer(&text, &[&rloc]), unless_after: None },
        _ => Operation::Delete { table: Table::Cache, eid: eid(&text, 0), unless_after: None },
    };
    let there = book.entries.contains_key(&eid(&text, 0));
    let done = perform(book, &mut Session::new(Asker(1), Rights::Write), &operation).0.errno == 0;
    let now = book.entries.get(&eid(&text, 0)).cloned();
    done.then(|| match now {
        Some(entry) if there => Event::Changed(entry),
        Some(entry) => Event::Added(entry),
        None => Event::Deleted { table: Table::Cache, eid: eid(&text, 0), expired: false },
    })
}

#[test]
fn a_table_read_while_it_changes_is_the_final_one_and_what_stays_comes_once() {
    let (mut book, mut state, now) = (Book::default(), 0x0a17_17de, Instant::now());
    for number in 0..3000 {
        perform(&mut book, &mut session(), &Operation::Add(offer(&place(number), &["240.0.254.1"])));
    }
    let mut reader = Session::new(Asker(2), Rights::Read);
    let mut filter = Vec::new();
    Filter::default().put(&mut filter);
    let subscribe = Header { op: Op::SUBSCRIBE, flags: Flags::default(), errno: 0, sequence: 1, generation: 0 };
    answers(&subscribe.message(&filter), &mut book, &mut reader);

    let mut follower = Follower::default();
    let mut touched = BTreeSet::new();
    let begun = book.generation();
    let before: Vec<EidPrefix> = book.entries.keys().copied().collect();
    let mut replies = Vec::new();
    assert_eq!(handle(&dump(None), &mut book, &mut reader, &mut replies), Conduct::Keep);
    assert!(replies.is_empty() && reader.is_at_work());
    let mut pages = 0;
    loop {
        // As the socket does it: what happened before has left when a page is made.
        follower.hear(&mut reader);
        let (header, entries) = page(&next_page(&book, &mut reader).unwrap());
        assert_eq!(header.generation, begun, "what changed meanwhile counts as changed");
        assert!(entries.is_sorted_by_key(|entry| entry.eid));
        pages += 1;
        for entry in &entries {
            follower.learn(entry);
            *follower.dumped.entry(entry.eid).or_default() += 1;
        }
        if !header.flags.has(Flags::MORE) {
            break;
        }
        for _ in 0..200 {
            if let Some(event) = change(&mut book, &mut state) {
                touched.insert(match &event {
                    Event::Added(entry) | Event::Changed(entry) => entry.eid,
                    Event::Deleted { eid, .. } => *eid,
                    other => panic!("{other:?}"),
                });
                reader.tell(now, &event, None, &mut |_| Arc::from(event.body()));
            }
        }
    }
    assert!(!reader.is_at_work() && next_page(&book, &mut reader).is_none());
    follower.hear(&mut reader);
    let last: BTreeMap<EidPrefix, IpAddr> =
        book.entries.values().map(|entry| (entry.eid, entry.locators[0].locator.address)).collect();
    assert!(pages > 5 && touched.len() > 500, "{pages} pages, {} changed", touched.len());
    assert_eq!(follower.table, last);
    for eid in before.iter().filter(|eid| !touched.contains(*eid)) {
        assert_eq!(follower.dumped.get(eid), Some(&1), "{eid}");
    }
    assert!(follower.dumped.values().all(|count| *count == 1), "no entry comes twice");
}

#[test]
fn a_dump_of_one_instance_begins_and_ends_with_it() {
    let replies = |instance| {
        let (_, replies) = answers(&dump(Some(instance)), &mut &fake(), &mut session());
        replies.iter().flat_map(|reply| page(reply).1).map(|entry| entry.eid).collect::<Vec<_>>()
    };
    assert_eq!(replies(5), [eid("2.2.0.0/16", 5)]);
    assert_eq!(replies(0), [eid("2.2.0.0/16", 0), eid("2.2.9.0/24", 0), eid("1.1.0.0/16", 0)]);
    assert_eq!(replies(4), []);
}

#[test]
fn a_page_is_no_longer_than_a_message_whatever_its_entries_are() {
    let rlocs: Vec<String> = (1..=32).map(|last| format!("2001:db8::{last:x}")).collect();
    let rlocs: Vec<&str> = rlocs.iter().map(String::as_str).collect();
    let mut book = Book::default();
    for number in 0..200 {
        perform(&mut book, &mut session(), &Operation::Add(offer(&place(number), &rlocs)));
    }
    let (_, replies) = answers(&dump(None), &mut book, &mut session());
    assert!(replies.len() > 5 && replies.iter().all(|reply| (1..=MESSAGE_MAX).contains(&reply.len())));
    assert!(replies[..replies.len() - 1].iter().all(|reply| reply.len() > MESSAGE_MAX - 2500), "and they are full");
    assert_eq!(replies.iter().map(|reply| page(reply).1.len()).sum::<usize>(), 200);
}

/// Says of every operation that it goes on.
struct Slow(Book);

impl Router for Slow {
    fn view(&self) -> &dyn View {
        &self.0
    }

    fn perform(&mut self, _: Asker, _: Operation) -> Result<Outcome, Refused> {
        Ok(Outcome::Later)
    }
}

#[test]
fn the_outcome_of_what_takes_long_comes_when_it_is_there() {
    let (mut router, mut asker) = (Slow(Book::default()), session());
    let request = Header { op: Op::FLUSH, flags: Flags::default(), errno: 0, sequence: 9, generation: 0 }.message(&[]);
    assert_eq!(answers(&request, &mut router, &mut asker).1, Vec::<Vec<u8>>::new());
    assert!(asker.is_at_work());
    assert!(next_page(&router.0, &mut asker).is_none(), "not yet");
    asker.conclude(&Ok(Done { entry: None, count: 258 }), 77);
    assert!(asker.is_at_work(), "what happened before is told first");
    let reply = next_page(&router.0, &mut asker).unwrap();
    let (header, body) = Header::split(&reply).unwrap();
    assert_eq!((header.op, header.sequence, header.generation, header.errno), (Op::FLUSH, 9, 77, 0));
    assert_eq!(body[..14], [11, 0, 10, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    asker.conclude(&Ok(Done::default()), 77);
    assert!(!asker.is_at_work() && next_page(&router.0, &mut asker).is_none());
    answers(&request, &mut router, &mut asker);
    asker.conclude(&Err(Refused::Full("no room")), 78);
    let reply = next_page(&router.0, &mut asker).unwrap();
    assert_eq!(Header::split(&reply).unwrap().0.errno, errno::NO_SPACE);
}

/// xTRs behind NATs, and how often it was asked for them.
struct Relay(Vec<BindingStatus>, std::cell::Cell<usize>);

impl View for Relay {
    fn generation(&self) -> u64 {
        7
    }

    fn entries(&self, _: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        Box::new(std::iter::empty())
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

    fn bindings(&self, after: Option<BindingsAfter>, max: usize) -> BindingsPage {
        self.1.set(self.1.get() + 1);
        let behind = self.0.iter().filter(|one| after.is_none_or(|after| one.place() > after));
        BindingsPage::of(behind.cloned(), max)
    }
}

/// A page has about 2048 rows, one for each binding and each prefix behind it; the last of a page asks for the next.
#[test]
fn bindings_come_in_pages_each_once() {
    let one = |number: u32, prefixes: u32| BindingStatus {
        verified: true,
        xtr_id: u128::from(number / 3).to_be_bytes(),
        site_id: 0,
        translated: (IpAddr::from([203, 0, 113, 1]), (number % 3) as u16).into(),
        rloc: [240, 0, 254, 1].into(),
        inner: "[2001:db8::1]:4342".parse().unwrap(),
        nonce: u64::from(number),
        since: Duration::ZERO,
        heard: Duration::ZERO,
        eids: (0..prefixes).map(|at| eid(&place(at), number)).collect(),
    };
    for (bindings, prefixes, pages) in [(0, 0, 1), (10, 2, 1), (2048, 0, 1), (2049, 0, 2), (5000, 1, 5), (24, 256, 3)] {
        let list: Vec<BindingStatus> = (0..bindings).map(|number| one(number, prefixes)).collect();
        let (relay, mut session) = (Relay(list, std::cell::Cell::new(0)), session());
        let mut router = &relay;
        let (mut collected, mut asked) = (super::super::nat::Bindings::default(), Vec::new());
        Detail::Bindings.put(&mut asked);
        loop {
            let request =
                Header { op: Op::STATS, flags: Flags::default(), errno: 0, sequence: 9, generation: 0 }.message(&asked);
            let mut replies = Vec::new();
            handle(&request, &mut router, &mut session, &mut replies);
            for reply in &replies {
                for tlv in Tlvs(Header::split(reply).unwrap().1) {
                    let (kind, fields) = tlv.unwrap();
                    collected.take(kind, fields).unwrap();
                }
            }
            let Some(after) = collected.page.next.take() else { break };
            asked.clear();
            Detail::Bindings.put(&mut asked);
            super::super::nat::put_after(&mut asked, &after);
        }
        assert_eq!(relay.1.get(), pages, "{bindings} of {prefixes}");
        assert_eq!(collected.page.list, relay.0, "{bindings} of {prefixes}");
    }
}
