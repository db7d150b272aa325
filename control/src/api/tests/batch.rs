//! Batches: golden octets, and that one which fails leaves nothing, in the table or in the session.

use super::{
    write::{Book, offer},
    *,
};

fn add(text: &str) -> Operation {
    Operation::Add(offer(text, &["240.0.254.20"]))
}

fn change(text: &str, unless_after: Option<u64>) -> Operation {
    Operation::Change { offer: offer(text, &["240.0.254.21"]), unless_after }
}

fn delete(text: &str, unless_after: Option<u64>) -> Operation {
    Operation::Delete { table: Table::Cache, eid: eid(text, 0), unless_after }
}

/// The messages of a batch, numbered from 100.
fn messages(operations: &[Operation]) -> Vec<Vec<u8>> {
    let last = operations.len() - 1;
    let message = |(at, operation)| {
        let (op, _, body) = super::super::write::request(operation);
        let flags = if at < last { Flags::ATOMIC.with(Flags::MORE) } else { Flags::ATOMIC };
        Header { op, flags, errno: 0, sequence: 100 + at as u64, generation: 0 }.message(&body)
    };
    operations.iter().enumerate().map(message).collect()
}

/// All replies to these messages.
fn send(book: &mut dyn Router, session: &mut Session, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut replies = Vec::new();
    for message in messages {
        assert_eq!(handle(message, book, session, &mut replies), Conduct::Keep);
    }
    replies
}

/// The sequence of the message for which a batch was refused, the error and its text, from the one reply.
fn failed(replies: &[Vec<u8>]) -> (u64, u32, String) {
    let [reply] = replies else { panic!("{replies:?}") };
    let (header, body) = Header::split(reply).unwrap();
    let tlvs: Vec<_> = Tlvs(body).map(Result::unwrap).collect();
    let [(kind::FAILED, mut sequence), (kind::TEXT, text)] = tlvs[..] else { panic!("{tlvs:?}") };
    (sequence.u64().unwrap(), header.errno, text.text().unwrap().to_owned())
}

/// With 1.0.0.0/8 and 2.0.0.0/8.
fn book() -> Book {
    let mut book = Book::default();
    let entry = |text| positive(Table::Cache, text, 0, &["240.0.254.10"]);
    book.entries = ["1.0.0.0/8", "2.0.0.0/8"].map(|text| (eid(text, 0), entry(text))).into();
    book
}

#[test]
fn golden_batch_and_its_reply() {
    let first = [
        b'A', b'L', b'T', b'1', 44, 0, 0, 0, // magic, length
        2, 0, 0x12, 0, 0, 0, 0, 0, // DELETE, ATOMIC and MORE
        100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // sequence, generation
        3, 0, 8, 0, 0, 1, 8, 0, 1, 0, 0, 0, // EID 1.0.0.0/8
    ];
    let mut last = first;
    (last[10], last[16], last[40]) = (0x10, 101, 2); // ATOMIC alone, sequence, EID 2.0.0.0/8
    let (mut book, mut session) = (book(), session());
    assert_eq!(send(&mut book, &mut session, &[first.to_vec()]), Vec::<Vec<u8>>::new(), "only the last is answered");
    assert_eq!(book.entries.len(), 2, "and nothing is done before");
    let replies = send(&mut book, &mut session, &[last.to_vec()]);
    let mut done = vec![b'A', b'L', b'T', b'1', 57, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0];
    done.extend([101, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // sequence, generation
    done.extend([11, 0, 10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0x40, 7, 0]); // STAT: 2, NAME
    done.extend(b"touched");
    assert_eq!(replies, [done]);
    assert!(book.entries.is_empty());
    // Once more, none of them is there: the first is the one that fails.
    let replies = send(&mut book, &mut session, &[first.to_vec(), last.to_vec()]);
    let mut refused = vec![b'A', b'L', b'T', b'1', 78, 0, 0, 0, 2, 0, 1, 0, 2, 0, 0, 0];
    refused.extend([101, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // sequence of the last one, generation
    refused.extend([7, 0x40, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0]); // FAILED: the first one's
    refused.extend([12, 0, 30, 0]); // TEXT
    refused.extend(b"no entry for exactly 1.0.0.0/8");
    assert_eq!(replies, [refused]);
}

#[test]
fn a_batch_is_verified_as_if_it_were_done_one_by_one() {
    let operations = [
        add("3.0.0.0/8"),
        change("3.0.0.0/8", None),
        delete("1.0.0.0/8", Some(1)),
        add("1.0.0.0/8"),
        change("2.0.0.0/8", Some(7)),
        add("4.0.0.0/8"),
        delete("4.0.0.0/8", None),
    ];
    let mut book = book();
    let replies = send(&mut book, &mut session(), &messages(&operations));
    assert_eq!(Header::split(&replies[0]).unwrap().0.errno, 0);
    let now = |book: &Book| {
        let last = |entry: &Entry| format!("{} {}", entry.eid, entry.locators[0].locator.address);
        book.entries.values().map(last).collect::<Vec<_>>()
    };
    assert_eq!(now(&book), ["1.0.0.0/8 240.0.254.20", "2.0.0.0/8 240.0.254.21", "3.0.0.0/8 240.0.254.21"]);
    assert_eq!(book.asked.len(), operations.len());
}

#[test]
fn whatever_fails_nothing_is_done_and_the_reply_names_it() {
    let odd = |mut offer: Offer, change: fn(&mut Offer)| {
        change(&mut offer);
        Operation::Add(offer)
    };
    let plain = offer("5.0.0.0/8", &["240.0.254.20"]);
    let delete_own = Operation::Delete { table: Table::Database, eid: eid("1.0.0.0/8", 0), unless_after: None };
    let flush = Operation::Flush { table: Table::Cache, instance: None, all: false };
    let cases = [
        (vec![add("1.0.0.0/8")], errno::EXISTS),
        (vec![add("5.0.0.0/8"), add("5.0.0.0/8")], errno::EXISTS),
        (vec![change("5.0.0.0/8", None)], errno::NOT_FOUND),
        (vec![delete("5.0.0.0/8", None)], errno::NOT_FOUND),
        (vec![delete("1.0.0.0/8", None), delete("1.0.0.0/8", None)], errno::NOT_FOUND),
        (vec![delete("1.0.0.0/8", None), change("1.0.0.0/8", None)], errno::NOT_FOUND),
        (vec![change("1.0.0.0/8", Some(41))], errno::AGAIN),
        (vec![delete("1.0.0.0/8", Some(41))], errno::AGAIN),
        (vec![change("1.0.0.0/8", Some(40)), change("1.0.0.0/8", Some(40))], errno::AGAIN),
        (vec![add("66.6.0.0/16")], errno::INVALID),
        (vec![odd(plain.clone(), |offer| offer.mapping.version = 4096)], errno::INVALID),
        (vec![odd(plain.clone(), |offer| offer.mapping.locators[0].address = [5, 5, 9, 9].into())], errno::INVALID),
        (vec![odd(plain, |offer| offer.table = Table::Database)], errno::INVALID),
        (vec![delete_own], errno::INVALID),
        (vec![flush], errno::INVALID),
        (vec![Operation::Reload], errno::INVALID),
    ];
    for (bad, number) in cases {
        let fails = 101 + bad.len() as u64;
        let good = [add("3.0.0.0/8"), delete("2.0.0.0/8", None)];
        let after = [add("4.0.0.0/8"), add("4.0.0.0/8")];
        let batch = [&good[..], &bad, &after].concat();
        let (mut book, mut session) = (book(), session());
        let before = book.entries.clone();
        let (sequence, errno, text) = failed(&send(&mut book, &mut session, &messages(&batch)));
        assert_eq!((sequence, errno), (fails, number), "{bad:?}: {text}");
        assert!(book.entries == before && book.generation == 0 && book.asked.is_empty(), "{bad:?}");
        // The session keeps nothing of it.
        let replies = send(&mut book, &mut session, &messages(&good));
        assert_eq!((Header::split(&replies[0]).unwrap().0.errno, book.asked.len()), (0, 2), "{bad:?}");
    }
}

#[test]
fn messages_that_no_batch_may_have_spoil_it() {
    let good = messages(&[add("3.0.0.0/8"), add("4.0.0.0/8"), add("5.0.0.0/8")]);
    let odd = |op, flags: Flags, body: &[u8]| {
        Header { op, flags: flags.with(Flags::ATOMIC), errno: 0, sequence: 9, generation: 0 }.message(body)
    };
    let cases = [
        (odd(Op::HELLO, Flags::MORE, &[]), errno::INVALID),
        (odd(Op::GET, Flags::MORE.with(Flags::DUMP), &[]), errno::INVALID),
        (odd(Op::SUBSCRIBE, Flags::MORE, &[]), errno::INVALID),
        (odd(Op::TRACE, Flags::MORE, &[]), errno::INVALID),
        (odd(Op::DELETE, Flags::MORE.with(Flags::REPLY), &good[0][32..]), errno::INVALID),
        (odd(Op::ADD, Flags::MORE, &[]), errno::INVALID),
        (odd(Op::ADD, Flags::MORE, &[3, 0, 9]), errno::INVALID),
        (odd(Op::ADD, Flags::MORE, &[3, 0x80, 0, 0]), errno::UNSUPPORTED),
    ];
    for (message, number) in cases {
        let run = [good[0].clone(), message.clone(), good[1].clone(), good[2].clone()];
        let (mut book, mut session) = (book(), session());
        let (sequence, errno, _) = failed(&send(&mut book, &mut session, &run));
        assert_eq!((sequence, errno, book.asked.len()), (9, number, 0), "{message:?}");
        // As the last one it ends the batch.
        let mut last = message.clone();
        last[10] &= !2;
        let (sequence, errno, _) = failed(&send(&mut book, &mut session, &[good[0].clone(), last]));
        assert_eq!((sequence, errno, book.asked.len()), (9, number, 0), "{message:?}");
        assert_eq!(Header::split(&send(&mut book, &mut session, &good)[0]).unwrap().0.errno, 0);
    }
}

#[test]
fn one_message_too_many_or_too_long_spoils_a_batch() {
    let many: Vec<Operation> = (0..=BATCH_MAX).map(|at| add(&format!("10.{}.{}.0/24", at >> 8, at & 255))).collect();
    let (mut book, mut session) = (book(), session());
    let replies = send(&mut book, &mut session, &messages(&many[..BATCH_MAX]));
    assert_eq!((Header::split(&replies[0]).unwrap().0.errno, book.entries.len()), (0, 2 + BATCH_MAX));
    let (sequence, errno, text) = failed(&send(&mut book, &mut session, &messages(&many)));
    assert_eq!((sequence, errno), (100 + BATCH_MAX as u64, errno::NO_SPACE), "{text}");
    assert!(text.contains(&BATCH_MAX.to_string()), "{text}");
    assert_eq!(book.entries.len(), 2 + BATCH_MAX);

    let run = messages(&many[BATCH_MAX..]);
    let long = |flags| {
        let mut long = Header { op: Op::ADD, flags, errno: 0, sequence: 9, generation: 0 }.message(&[]);
        long.resize(MESSAGE_MAX + 1, 0);
        long
    };
    let more = long(Flags::ATOMIC.with(Flags::MORE));
    assert_eq!(too_long(&more, &mut book, &mut session), None);
    let (sequence, errno, _) = failed(&send(&mut book, &mut session, &run));
    assert_eq!((sequence, errno, book.entries.len()), (9, errno::TOO_LONG, 2 + BATCH_MAX));
    let alone = too_long(&long(Flags::default()), &mut book, &mut session).unwrap();
    assert_eq!(Header::split(&alone).unwrap().0.errno, errno::TOO_LONG);
    assert_eq!(Header::split(&send(&mut book, &mut session, &run)[0]).unwrap().0.errno, 0);
}

#[test]
fn who_may_only_read_batches_nothing_and_others_messages_in_between_are_their_own() {
    let run = messages(&[add("3.0.0.0/8"), delete("3.0.0.0/8", None), add("3.0.0.0/8")]);
    let mut book = book();
    let mut reader = Session::new(Asker(1), Rights::Read);
    let (sequence, errno, _) = failed(&send(&mut book, &mut reader, &run));
    assert_eq!((sequence, errno, book.asked.len()), (100, errno::DENIED, 0));

    let (op, flags, body) = super::super::write::request(&delete("1.0.0.0/8", None));
    let single = Header { op, flags, errno: 0, sequence: 5, generation: 0 }.message(&body);
    let mut session = session();
    assert!(send(&mut book, &mut session, &run[..2]).is_empty());
    let replies = send(&mut book, &mut session, std::slice::from_ref(&single));
    assert_eq!(Header::split(&replies[0]).unwrap().0.errno, 0);
    assert_eq!(book.asked, [(Asker(7), delete("1.0.0.0/8", None))]);
    // Another connection's batch is another one.
    let mut other = Session::new(Asker(8), Rights::Write);
    assert_eq!(Header::split(&send(&mut book, &mut other, &run)[0]).unwrap().0.errno, 0);
    let (sequence, errno, _) = failed(&send(&mut book, &mut session, &run[2..]));
    assert_eq!((sequence, errno), (100, errno::EXISTS), "3.0.0.0/8 came in between");
}

#[test]
fn a_batch_of_the_database_is_one_too() {
    let own = |operation| match operation {
        Operation::Add(offer) => Operation::Add(Offer { table: Table::Database, ..offer }),
        Operation::Delete { eid, unless_after, .. } => Operation::Delete { table: Table::Database, eid, unless_after },
        other => other,
    };
    let (mut book, mut session) = (Book::default(), session());
    let run = messages(&[own(add("3.0.0.0/8")), own(add("4.0.0.0/8")), own(delete("3.0.0.0/8", None))]);
    assert_eq!(Header::split(&send(&mut book, &mut session, &run)[0]).unwrap().0.errno, 0);
    let left: Vec<_> = book.entries.values().map(|entry| (entry.table, entry.eid)).collect();
    assert_eq!(left, [(Table::Database, eid("4.0.0.0/8", 0))]);
    // The cache's operations are about other entries.
    let run = messages(&[delete("4.0.0.0/8", None)]);
    assert_eq!(failed(&send(&mut book, &mut session, &run)).1, errno::NOT_FOUND);
}

/// A message of a batch with TRIAL behind its body.
fn trial(message: &[u8]) -> Vec<u8> {
    let (header, body) = Header::split(message).unwrap();
    header.message(&[body, &[0, 0xc0, 0, 0]].concat())
}

#[test]
fn a_trial_says_what_a_batch_would_and_does_nothing() {
    let (mut book, mut session) = (book(), session());
    let before = book.entries.clone();
    for at in 0..3 {
        let mut run = messages(&[add("3.0.0.0/8"), delete("1.0.0.0/8", None), add("4.0.0.0/8")]);
        run[at] = trial(&run[at]);
        assert_eq!(Header::split(&send(&mut book, &mut session, &run)[0]).unwrap().0.errno, 0, "{at}");
        assert!(book.entries == before && book.asked.is_empty() && book.generation == 0, "{at}");
    }
    // Of one that would be behind it, it says how many entries more or less there would be.
    let ahead = |replies: &[Vec<u8>]| {
        let (header, body) = Header::split(&replies[0]).unwrap();
        let found = Tlvs(body).map(Result::unwrap).find(|(kind, _)| *kind == kind::AHEAD);
        (header.errno, found.map(|(_, fields)| super::super::batch::ahead(fields).unwrap()))
    };
    for (tlv, expected) in
        [(&[][..], -1), (&[0x81, 0x40, 4, 0, 7, 0, 0, 0], 6), (&[0x81, 0x40, 4, 0, 252, 255, 255, 255], -5)]
    {
        let mut run = messages(&[delete("2.0.0.0/8", None), delete("1.0.0.0/8", None), add("4.0.0.0/8")]);
        run[0] = trial(&run[0]);
        let (header, body) = Header::split(&run[0]).unwrap();
        run[0] = header.message(&[body, tlv].concat());
        assert_eq!(ahead(&send(&mut book, &mut session, &run)), (0, Some(expected)), "{tlv:?}");
    }
    let mut done = messages(&[add("3.0.0.0/8"), delete("3.0.0.0/8", None)]);
    let (header, body) = Header::split(&done[1]).unwrap();
    done[1] = header.message(&[body, &[0x81, 0x40, 4, 0, 7, 0, 0, 0]].concat());
    assert_eq!(failed(&send(&mut book, &mut session, &done)).1, errno::INVALID, "what is no trial has no AHEAD");
    assert!(book.entries == before && book.asked.is_empty());
    let mut run = messages(&[add("3.0.0.0/8"), add("1.0.0.0/8")]);
    run[0] = trial(&run[0]);
    assert_eq!(failed(&send(&mut book, &mut session, &run)).1, errno::EXISTS);
    // Alone it is no batch, and does nothing either.
    let (op, flags, body) = super::super::write::request(&add("3.0.0.0/8"));
    let single = trial(&Header { op, flags, errno: 0, sequence: 5, generation: 0 }.message(&body));
    let replies = send(&mut book, &mut session, &[single]);
    assert_eq!(Header::split(&replies[0]).unwrap().0.errno, errno::INVALID);
    assert!(book.entries == before && book.asked.is_empty());
}

#[test]
fn a_router_that_does_no_batches_says_so() {
    let run = messages(&[add("3.0.0.0/8"), add("4.0.0.0/8")]);
    assert_eq!(failed(&send(&mut &fake(), &mut session(), &run)).1, errno::UNSUPPORTED);
}
