//! Events: golden octets, filters, the ring and its overflow.

use std::{sync::Arc, time::Instant};

use super::*;
use crate::api::{
    client::Told,
    session::{RING, event as read},
};

fn miss(number: u32) -> Event {
    let host = Eid { instance: InstanceId::DEFAULT, address: number.to_be_bytes().into() };
    Event::Missed {
        eid: EidPrefix::host(host),
        reason: MissReason::NoEntry,
        suppressed: 0,
        from: None,
        packet: Vec::new(),
    }
}

fn gone(number: u32) -> Event {
    let host = Eid { instance: InstanceId::DEFAULT, address: number.to_be_bytes().into() };
    Event::Deleted { table: Table::Cache, eid: EidPrefix::host(host), expired: false }
}

fn judged(up: bool) -> Event {
    let rtt = up.then_some(Duration::from_micros(1500));
    let state = if up { "up" } else { "down" };
    Event::Judged { locator: [240, 0, 254, 20].into(), up, method: Method::Probe, state, rtt }
}

fn all() -> Vec<Event> {
    let from = Some("2001:db8::1".parse().unwrap());
    let eid = eid("2.2.2.2/32", 5);
    vec![
        Event::Added(fake().cache[0].clone()),
        Event::Changed(fake().cache[1].clone()),
        gone(7),
        Event::Deleted { table: Table::Database, eid, expired: true },
        Event::Flushed { table: Table::Cache, instance: None, all: false },
        Event::Flushed { table: Table::Cache, instance: InstanceId::new(3), all: true },
        Event::Missed { eid, reason: MissReason::Expiring, suppressed: 513, from, packet: Vec::new() },
        judged(true),
        judged(false),
        Event::Stale { eid, which: Stale::Local, seen: 0x203, ours: 0x102, peer: [240, 0, 254, 20].into() },
        Event::Stale { eid, which: Stale::Remote, seen: 1, ours: 2, peer: "2001:db8::1".parse().unwrap() },
        Event::StatusBits { eid, bits: 0x0605, width: 32, peer: [240, 0, 254, 20].into() },
    ]
}

/// A client with these filters.
fn subscriber(filters: &[Filter], echo: bool) -> Session {
    let mut session = session();
    let mut body = Vec::new();
    filters.iter().for_each(|filter| filter.put(&mut body));
    let flags = if echo { Flags::ECHO_ME } else { Flags::default() };
    let request = Header { op: Op::SUBSCRIBE, flags, errno: 0, sequence: 1, generation: 0 }.message(&body);
    let mut replies = Vec::new();
    handle(&request, &mut &fake(), &mut session, &mut replies);
    let reply = Header::split(&replies[0]).unwrap().0;
    assert_eq!((reply.errno, reply.generation, replies.len()), (0, 42, 1));
    session
}

fn tell(session: &mut Session, event: &Event, cause: Option<Asker>) {
    session.tell(Instant::now(), event, cause, &mut |detail| Arc::from(event.body_for(detail)));
}

/// Takes what waits.
fn drain(session: &mut Session) -> Vec<Told> {
    std::iter::from_fn(|| {
        let (header, event) = read(&session.first()?).unwrap();
        session.told();
        Some(Told { number: header.generation, overrun: header.flags.has(Flags::OVERRUN), event })
    })
    .collect()
}

#[test]
fn events_come_as_they_are_and_are_numbered() {
    let mut session = subscriber(&[Filter::default()], false);
    all().iter().for_each(|event| tell(&mut session, event, None));
    let told = drain(&mut session);
    assert_eq!(
        told.iter().map(|told| told.number).collect::<Vec<_>>(),
        (43..43 + all().len() as u64).collect::<Vec<_>>()
    );
    assert!(told.iter().all(|told| !told.overrun));
    assert_eq!(told.into_iter().map(|told| told.event).collect::<Vec<_>>(), all());
}

#[test]
fn golden_events() {
    let octets = |event: &Event| {
        let mut session = subscriber(&[Filter::default()], false);
        tell(&mut session, event, None);
        session.first().unwrap()
    };
    let place = [1, 0, 1, 0, 0, 2, 0, 4, 0, 5, 0, 0, 0, 3, 0, 8, 0, 0, 1, 32, 0, 2, 2, 2, 2];
    let missed = octets(&all()[6]);
    assert_eq!(missed[8..16], [5, 0, 4, 0, 0, 0, 0, 0], "MISS, EVENT");
    assert_eq!(missed[16..32], [0, 0, 0, 0, 0, 0, 0, 0, 43, 0, 0, 0, 0, 0, 0, 0], "no sequence, its number");
    assert_eq!(missed[32..57], place);
    assert_eq!(missed[57..65], [6, 0, 4, 0, 2, 4, 1, 2], "MISS_INFO: expiring, IPv4, 513 suppressed");
    assert_eq!(missed[65..71], [5, 0x40, 18, 0, 0, 2], "FROM an IPv6 address");
    assert_eq!(missed.len(), 87);

    let deleted = octets(&all()[3]);
    assert_eq!(deleted[8..12], [2, 0, 0x84, 0], "DELETE, EVENT and EXPIRED");
    assert_eq!((deleted[36], deleted.len()), (1, 57), "of the database");

    let flushed = octets(&all()[5]);
    assert_eq!(flushed[8..12], [9, 0, 4, 1], "FLUSH, EVENT and ALL");
    assert_eq!(flushed[32..], [1, 0, 1, 0, 0, 2, 0, 4, 0, 3, 0, 0, 0]);

    let reached = octets(&judged(true));
    assert_eq!(reached[8..12], [6, 0, 4, 0]);
    assert_eq!(reached[40..44], [1, 0, 0, 0].map(|octet| octet | if octet == 1 { 0x10 } else { 0 }), "UP and R");
    assert_eq!(reached[76..], [0, 1, 240, 0, 254, 20, 8, 0, 6, 0, 1, 1, 0xdc, 5, 0, 0], "probe, up, 1500 µs");
    assert_eq!(octets(&judged(false))[8..12], [7, 0, 4, 0]);

    let added = octets(&all()[0]);
    let mut entry = Vec::new();
    entry::put_entry(&mut entry, &fake().cache[0]);
    assert_eq!((added[8], &added[32..]), (1, entry.as_slice()), "ADD has the entry as GET has it");
    assert_eq!(octets(&all()[1])[8], 3);
}

#[test]
fn golden_stale_and_status_bits() {
    let octets = |event: &Event| {
        let mut session = subscriber(&[Filter::default()], false);
        tell(&mut session, event, None);
        session.first().unwrap()
    };
    let place = [2, 0, 4, 0, 5, 0, 0, 0, 3, 0, 8, 0, 0, 1, 32, 0, 2, 2, 2, 2];
    let stale = octets(&all()[9]);
    assert_eq!(stale[8..12], [11, 0, 4, 0], "STALE, EVENT");
    assert_eq!((&stale[32..37], &stale[37..57]), (&[1, 0, 1, 0, 0][..], &place[..]), "of the cache");
    assert_eq!(stale[57..], [9, 0, 11, 0, 1, 3, 2, 2, 1, 0, 1, 240, 0, 254, 20], "local, seen 0x203, ours 0x102");
    let remote = octets(&all()[10]);
    assert_eq!((remote[36], &remote[57..64]), (1, &[9, 0, 23, 0, 2, 1, 0][..]), "of the database, remote");
    let bits = octets(&all()[11]);
    assert_eq!((&bits[8..12], bits[36]), (&[12, 0, 4, 0][..], 0), "LSBITS, EVENT; of the cache");
    assert_eq!(bits[57..], [6, 0x40, 11, 0, 5, 6, 0, 0, 32, 0, 1, 240, 0, 254, 20]);
}

#[test]
fn each_subscriber_sees_as_much_of_a_packet_as_it_asked_for() {
    let header = [&[0x45][..], &[1; 19]].concat();
    let packet = [&header[..], &[2; 30]].concat();
    let six = [&[0x60][..], &[3; 79]].concat();
    let with = |packet: &[u8]| match miss(7) {
        Event::Missed { eid, reason, suppressed, from, .. } => {
            Event::Missed { eid, reason, suppressed, from, packet: packet.to_vec() }
        }
        other => other,
    };
    for (packet, detail, shown) in [
        (&packet, MissDetail::Eid, 0),
        (&packet, MissDetail::Header, 28),
        (&packet, MissDetail::Packet, 50),
        (&six, MissDetail::Header, 48),
        (&header[..9].to_vec(), MissDetail::Header, 9),
    ] {
        let mut session = subscriber(&[Filter { detail, ..Filter::default() }], false);
        assert_eq!(session.detail(), detail);
        tell(&mut session, &with(packet), None);
        let message = session.first().unwrap();
        assert_eq!(drain(&mut session)[0].event, with(&packet[..shown]), "{detail:?}");
        if shown > 0 {
            assert_eq!(message[message.len() - shown - 4..][..4], [7, 0, shown as u8, 0], "PACKET comes last");
        }
    }
    // Nobody copies packets for who wants no MISS.
    let changes = Filter { detail: MissDetail::Packet, ..Filter::of(&[Op::ADD]) };
    assert_eq!(subscriber(&[changes], false).detail(), MissDetail::Eid);
    let mut body = Vec::new();
    Filter { detail: MissDetail::Packet, ..Filter::default() }.put(&mut body);
    let request = Header { op: Op::SUBSCRIBE, flags: Flags::default(), errno: 0, sequence: 1, generation: 0 };
    let mut reader = Session::new(Asker(1), Rights::Read);
    let (_, replies) = answers(&request.message(&body), &mut &fake(), &mut reader);
    assert_eq!(Header::split(&replies[0]).unwrap().0.errno, errno::DENIED, "no bodies for readers");
    assert!(!reader.is_subscriber());
}

#[test]
fn golden_filter() {
    let mut body = Vec::new();
    let prefix = Some("2.2.0.0/16".parse().unwrap());
    let filter = Filter {
        table: Some(Table::Cache),
        instance: InstanceId::new(5),
        prefix,
        rate: Some(9),
        ..Filter::of(&[Op::MISS])
    };
    filter.put(&mut body);
    let octets = [10, 0, 22, 0, 0x20, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 16, 0, 2, 2, 0, 0];
    assert_eq!(body, octets);
    assert_eq!(Filter::read(Fields(&body[4..])), Ok(filter));
    body.clear();
    Filter::default().put(&mut body);
    assert_eq!(body[4..], [0xee, 0x1a, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0]);
    assert_eq!(Filter::read(Fields(&body[4..])), Ok(Filter::default()));
}

#[test]
fn filters_take_what_they_name() {
    let place = |text: &str, instance| Filter {
        prefix: Some(text.parse().unwrap()),
        instance: Some(InstanceId::new(instance).unwrap()),
        ..Filter::default()
    };
    let database = Filter { table: Some(Table::Database), ..Filter::default() };
    let cases: [(&[Filter], &[usize]); 8] = [
        (&[Filter::default()], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (&[Filter::of(&[Op::STALE, Op::LSBITS])], &[9, 10, 11]),
        (&[Filter::of(&[Op::MISS])], &[6]),
        (&[Filter::of(&[Op::REACH]), Filter::of(&[Op::ADD, Op::DELETE])], &[0, 2, 3, 7]),
        // Verdicts are of no table, instance or prefix.
        (&[database], &[3, 7, 8, 10]),
        (&[place("2.2.2.0/24", 5)], &[3, 6, 7, 8, 9, 10, 11]),
        (&[place("2.2.0.0/16", 0)], &[0, 1, 4, 7, 8]),
        (&[place("9.0.0.0/8", 3)], &[5, 7, 8]),
    ];
    for (filters, expected) in cases {
        let mut session = subscriber(filters, false);
        let taken = (0..all().len()).filter(|&at| {
            tell(&mut session, &all()[at], None);
            !drain(&mut session).is_empty()
        });
        let mut expected = expected.to_vec();
        // A flush of all instances touches each.
        if filters[0].instance.is_some() && !expected.contains(&4) {
            expected.push(4);
            expected.sort_unstable();
        }
        assert_eq!(taken.collect::<Vec<_>>(), expected, "{filters:?}");
    }
}

#[test]
fn own_changes_are_told_to_who_wants_them() {
    for (echo, cause, count) in [(false, 7, 0), (false, 8, 1), (true, 7, 1)] {
        let mut session = subscriber(&[Filter::default()], echo);
        tell(&mut session, &gone(1), Some(Asker(cause)));
        assert_eq!(drain(&mut session).len(), count);
    }
    // Without filters the subscription ends.
    let mut session = subscriber(&[], true);
    tell(&mut session, &gone(1), None);
    assert!(!session.is_subscriber() && session.first().is_none());
}

#[test]
fn misses_are_told_no_faster_than_a_subscriber_wants() {
    let (mut session, start) = (subscriber(&[Filter { rate: Some(2), ..Filter::default() }], false), Instant::now());
    for (at, event, told) in
        [(0, miss(1), 1), (0, miss(2), 1), (0, miss(3), 0), (0, gone(3), 1), (500, miss(4), 1), (500, miss(5), 0)]
    {
        session.tell(start + Duration::from_millis(at), &event, None, &mut |_| Arc::from(event.body()));
        assert_eq!(drain(&mut session).len(), told, "{event:?}");
    }
}

#[test]
fn an_overflow_says_so_once_however_long_it_lasts() {
    let mut session = subscriber(&[Filter::default()], false);
    let count = 3 * RING as u32 + 100;
    (0..count).for_each(|number| tell(&mut session, &gone(number), None));
    let told = drain(&mut session);
    assert_eq!(told.iter().filter(|told| told.overrun).count(), 1);
    assert!(told[0].overrun && told.len() <= RING);
    // The last ones are there without a gap, and numbers tell how many are not.
    let numbers: Vec<u64> = told.iter().map(|told| told.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(numbers.last(), Some(&(42 + u64::from(count))));
    assert_eq!(told.last().unwrap().event, gone(count - 1));
    // And afterwards all is as before.
    tell(&mut session, &gone(1), None);
    assert!(!drain(&mut session)[0].overrun);
}

#[test]
fn misses_give_way_first_and_no_table_must_be_read_again() {
    let mut session = subscriber(&[Filter::default()], false);
    (0..100).for_each(|number| tell(&mut session, &miss(number), None));
    (0..RING as u32).for_each(|number| tell(&mut session, &gone(number), None));
    // Full of changes: what packets cause finds no place, and takes none away.
    [miss(777), all()[9].clone(), all()[11].clone()].iter().for_each(|event| tell(&mut session, event, None));
    let told = drain(&mut session);
    assert!(told.iter().all(|told| !told.overrun));
    assert_eq!(
        told.iter().map(|told| told.event.clone()).collect::<Vec<_>>(),
        (0..RING as u32).map(gone).collect::<Vec<_>>()
    );
    tell(&mut session, &gone(1), None);
    assert_eq!(drain(&mut session)[0].number, 42 + 100 + RING as u64 + 4, "what was lost has numbers");
}

#[test]
fn what_cannot_be_subscribed_to_is_refused() {
    let filter = |ops: u32, detail: u8, table: u8| {
        let mut body = vec![10, 0, 18, 0];
        body.extend(ops.to_le_bytes());
        body.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, table, detail, 0, 0, 0, 0]);
        body
    };
    let cases = [
        (filter(0, 0, 2), errno::INVALID, "names an operation"),
        (filter(1 << 4, 0, 2), errno::INVALID, "names an operation"),
        (filter(1 << 5, 0, 3), errno::INVALID, "TABLE"),
        (filter(1 << 5, 3, 2), errno::INVALID, "detail"),
        (filter(1 << 5, 0, 2).repeat(17), errno::INVALID, "at most 16"),
        (filter(1 << 5, 0, 2)[..20].to_vec(), errno::INVALID, "ends early"),
    ];
    for (body, number, reason) in cases {
        let replies = ask(Op::SUBSCRIBE, Flags::default(), &body, &fake());
        let text = String::from_utf8_lossy(&replies[0].1).into_owned();
        assert!(replies[0].0.errno == number && text.contains(reason), "{reason}: {text}");
    }
}
