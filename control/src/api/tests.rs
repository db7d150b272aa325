//! Golden octets, answers of the server, and mutated messages.

mod batch;
mod events;
mod pages;
mod trace;
mod write;

use std::time::UNIX_EPOCH;

use altitude_dataplane::mapping::{Eid, Prefix};

use super::{
    bgp::Collected,
    entry::Entries,
    message::{Fields, Tlvs, errno, kind, put},
    registration::Registrations,
    status::Detail,
    *,
};

/// A router with this in its tables.
struct Fake {
    cache: Vec<Entry>,
    database: Vec<Entry>,
}

const SECOND: Duration = Duration::from_secs(1);

fn eid(text: &str, instance: u32) -> EidPrefix {
    EidPrefix { instance: InstanceId::new(instance).unwrap(), prefix: text.parse().unwrap() }
}

fn positive(table: Table, text: &str, instance: u32, locators: &[&str]) -> Entry {
    let locators = locators.iter().map(|address| Locator::unicast(address.parse().unwrap(), 1, 100));
    let mapping = Mapping {
        eid: eid(text, instance),
        ttl: Ttl::Minutes(1440),
        version: 0,
        action: Action::NoAction,
        authoritative: true,
        locators: locators.collect(),
    };
    let created = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let mut entry = Entry::new(table, &mapping, Origin::MapReply, created, |address| address.is_ipv4());
    entry.left = Some(Duration::from_secs(86_000));
    (entry.packets, entry.octets) = (7, 700);
    entry
}

fn negative(text: &str, action: Action) -> Entry {
    let mapping = Mapping::negative(eid(text, 0), Ttl::ReceiverDecides, action);
    Entry {
        used: Some(UNIX_EPOCH + SECOND),
        ..Entry::new(Table::Cache, &mapping, Origin::Static, UNIX_EPOCH, |_| false)
    }
}

fn fake() -> Fake {
    Fake {
        cache: vec![
            positive(Table::Cache, "2.2.0.0/16", 0, &["240.0.254.20", "2001:db8::20"]),
            negative("2.2.9.0/24", Action::NativelyForward),
            positive(Table::Cache, "2.2.0.0/16", 5, &["240.0.254.30"]),
        ],
        database: vec![positive(Table::Database, "1.1.0.0/16", 0, &["240.0.254.10"])],
    }
}

impl View for Fake {
    fn generation(&self) -> u64 {
        42
    }

    fn entries(&self, table: Table) -> Box<dyn Iterator<Item = Entry> + '_> {
        let entries = if table == Table::Cache { &self.cache } else { &self.database };
        Box::new(entries.iter().cloned())
    }

    fn counts(&self) -> Vec<Counts> {
        let worker = |number: u16, encapsulated| Counts {
            scope: Scope::Worker(number),
            stats: vec![Stat::new("encapsulated", encapsulated), Stat::new("missed", 1)],
        };
        let control = Counts { scope: Scope::Control, stats: vec![Stat::new("map-requests-out", 3)] };
        vec![worker(0, 10), worker(1, 20), control]
    }

    fn ports(&self) -> Vec<PortStatus> {
        vec![PortStatus {
            name: "eth0".to_owned(),
            index: 3,
            site: false,
            core: true,
            native: true,
            instance: InstanceId::DEFAULT,
            up: true,
            zero_copy: true,
            mtu: 1500,
            mac: Some([2, 0, 0, 0, 0, 1]),
            stats: vec![Stat::new("received-packets", 5)],
        }]
    }

    fn alt(&self) -> AltStatus {
        let tunnel = TunnelStatus {
            name: "alt0".to_owned(),
            local: [240, 0, 254, 10].into(),
            remote: [240, 0, 254, 30].into(),
            key: Some(9),
            checksum: true,
            up: true,
            addresses: vec![([10, 42, 0, 1].into(), 30), ("fd00::1".parse().unwrap(), 64)],
            stats: Vec::new(),
        };
        let routes = vec![
            RouteStatus { eid: eid("0.0.0.0/0", 0), via: Some("alt0".to_owned()) },
            RouteStatus { eid: eid("9.0.0.0/8", 5), via: None },
        ];
        let source = |instance, source: &str, ready| SourceStatus {
            instance: InstanceId::new(instance).unwrap(),
            source: source.to_owned(),
            ready,
            prefixes: 7,
        };
        let sources = vec![source(0, "embedded", true), source(5, "netlink:table=4342", false)];
        AltStatus { tunnels: vec![tunnel], sources, routes }
    }

    fn bgp(&self) -> BgpStatus {
        let speaker = SpeakerStatus { asn: 64530, router_id: [10, 42, 0, 2].into(), restarting: true };
        BgpStatus { speaker: Some(speaker), neighbors: vec![neighbor("east", true), neighbor("west", false)] }
    }

    /// As many as fill two pages and a bit.
    fn locators(&self, after: Option<IpAddr>, max: usize) -> Vec<LocatorStatus> {
        let address = |number: u32| IpAddr::from((0xf000_0000 + number).to_be_bytes());
        let all = (0..5000).map(address).filter(|address| after.is_none_or(|after| *address > after));
        all.take(max).map(locator).collect()
    }

    fn registrations(&self) -> Vec<RegistrationStatus> {
        let server = |last: u8, standing, prefixes: u32| RegistrationStatus {
            server: [240, 0, 254, last].into(),
            standing,
            since: SECOND * 100_000,
            sent: 7,
            confirmed: u64::from(prefixes),
            last_notify: (prefixes > 0).then_some(SECOND * 9),
            reason: (prefixes == 0).then(|| ("why".to_owned(), "what to do".to_owned())),
            prefixes: (0..prefixes)
                .map(|number| PrefixStatus {
                    eid: eid(&format!("10.{}.{}.0/24", number >> 8, number & 255), number % 3),
                    standing: PREFIX_STANDINGS[number as usize % PREFIX_STANDINGS.len()],
                    since: SECOND * number,
                })
                .collect(),
        };
        vec![server(40, "partial", 5000), server(41, "silent", 0), server(42, "registered", 1)]
    }

    /// 5000 prefixes with two routes each, then one with more routes than any other.
    fn bgp_routes(&self, asked: RoutesAsked, max: usize) -> Vec<BgpRoute> {
        let prefixes = (0..5000_u32).map(|number| (eid(&format!("10.{}.{}.0/24", number / 250, number % 250), 0), 2));
        let all = prefixes.chain([(eid("11.0.0.0/8", 0), 1000)]);
        let wanted = |eid: &EidPrefix| {
            asked.exact.is_none_or(|exact| exact == *eid) && asked.after.is_none_or(|after| *eid > after)
        };
        let routes =
            all.filter(|(eid, _)| wanted(eid)).flat_map(|(eid, count)| (0..count).map(move |n| bgp_route(eid, n)));
        routes.take(max).collect()
    }
}

fn locator(address: IpAddr) -> LocatorStatus {
    LocatorStatus { address, up: true, why: "why ".repeat(10), mappings: 7, carrying: 1, probing: None }
}

fn neighbor(name: &str, up: bool) -> NeighborStatus {
    NeighborStatus {
        name: name.to_owned(),
        address: [10, 42, 0, 1].into(),
        local: "fd00::1".parse().unwrap(),
        tunnel: format!("{name}-tunnel"),
        instance: InstanceId::new(5).unwrap(),
        asn: u32::MAX,
        state: if up { "Established" } else { "Active" },
        since: 77 * SECOND,
        session: up.then(|| SessionStatus {
            router_id: [1, 2, 3, 4].into(),
            hold: 90 * SECOND,
            capabilities: vec!["ipv4-unicast".to_owned(), "4-octet-as".to_owned()],
        }),
        received: 1_000_000,
        advertised: 3,
        last_down: (!up).then(|| (9 * SECOND, "the neighbour sent Cease".to_owned())),
        retry: (!up).then_some(2 * SECOND),
        stale: up.then_some(3 * SECOND),
        stats: vec![Stat::new("updates-received", 5)],
    }
}

fn bgp_route(eid: EidPrefix, number: u32) -> BgpRoute {
    BgpRoute {
        eid,
        origin: if number == 0 { RouteOrigin::Local } else { RouteOrigin::Neighbor },
        neighbor: if number == 0 { String::new() } else { format!("n{number}") },
        best: number == 0,
        stale: number == 1,
        why_not: if number == 0 { String::new() } else { "longer AS path".to_owned() },
        as_path: "64510 {64520}".to_owned(),
        med: (number == 1).then_some(7),
        communities: if number == 1 { vec![1, 2] } else { Vec::new() },
    }
}

fn collected(detail: Detail, asked: RoutesAsked) -> Collected {
    let mut body = Vec::new();
    detail.put(&mut body);
    if let Some(eid) = asked.exact {
        entry::put_instance(&mut body, eid.instance);
        entry::put_prefix(&mut body, eid.prefix);
    }
    if let Some(after) = asked.after {
        bgp::put_cursor(&mut body, &after);
    }
    let mut collected = Collected::default();
    let replies = ask(Op::STATS, Flags::default(), &body, &fake());
    assert!(replies.len() < 20 && replies.iter().all(|(_, body)| body.len() < MESSAGE_MAX));
    for tlv in replies.iter().flat_map(|(_, body)| Tlvs(body)) {
        let (kind, fields) = tlv.unwrap();
        collected.take(kind, fields).unwrap();
    }
    collected
}

#[test]
fn neighbours_come_as_they_are() {
    let collected = collected(Detail::Bgp, RoutesAsked::default());
    assert_eq!(collected.status, fake().bgp());
}

#[test]
fn registrations_come_as_they_are_however_many_prefixes_there_are() {
    let mut body = Vec::new();
    Detail::Registrations.put(&mut body);
    let replies = ask(Op::STATS, Flags::default(), &body, &fake());
    assert!(replies.len() > 1 && replies.iter().all(|(_, body)| body.len() < MESSAGE_MAX));
    let mut collected = Registrations::default();
    for tlv in replies.iter().flat_map(|(_, body)| Tlvs(body)) {
        let (kind, fields) = tlv.unwrap();
        collected.take(kind, fields).unwrap();
    }
    assert_eq!(collected.list, fake().registrations());
    for kind in [kind::REASON, kind::REMEDY, kind::REGISTERED] {
        assert!(Registrations::default().take(kind, Fields(&[0; 9])).is_err(), "{kind:#x}");
    }
}

#[test]
fn standings_are_those_of_the_registrar() {
    use crate::{
        registrar::{PrefixStanding, Standing},
        wire::AuthenticationError,
    };
    let standings = [
        Standing::Waiting,
        Standing::Registered,
        Standing::Silent,
        Standing::WrongKey(AuthenticationError::Mac),
        Standing::Partial { refused: 1, silent: 0 },
    ];
    assert_eq!(standings.map(Standing::name), STANDINGS);
    let of_prefixes =
        [PrefixStanding::Waiting, PrefixStanding::Registered, PrefixStanding::Refused, PrefixStanding::Silent];
    assert_eq!(of_prefixes.map(PrefixStanding::name), PREFIX_STANDINGS);
}

#[test]
fn routes_come_in_pages_that_cut_no_prefix() {
    let (mut asked, mut routes, mut pages) = (RoutesAsked::default(), Vec::new(), 0);
    loop {
        let page = collected(Detail::Routes, asked);
        assert!(page.routes.len() <= 2048);
        routes.extend(page.routes);
        pages += 1;
        match page.next {
            Some(next) => asked.after = Some(next),
            None => break,
        }
    }
    assert_eq!((routes.len(), pages), (11_000, 6));
    assert_eq!(routes, fake().bgp_routes(RoutesAsked::default(), usize::MAX));
    let exact = RoutesAsked { exact: Some(eid("10.3.4.0/24", 0)), after: None };
    let found = collected(Detail::Routes, exact);
    assert_eq!(found.routes, [0, 1].map(|number| bgp_route(eid("10.3.4.0/24", 0), number)));
    assert_eq!(found.next, None);
}

#[test]
fn locators_come_in_pages() {
    let (mut after, mut found, mut pages) = (None, Vec::new(), Vec::new());
    loop {
        let mut body = Vec::new();
        Detail::Locators.put(&mut body);
        if let Some(after) = after {
            locators::put_after(&mut body, after);
        }
        let before = found.len();
        after = None;
        for (_, body) in ask(Op::STATS, Flags::default(), &body, &fake()) {
            for tlv in Tlvs(&body) {
                match tlv.unwrap() {
                    (kind::LOCATOR, fields) => found.push(locators::locator(fields).unwrap()),
                    (kind::AFTER, fields) => after = Some(locators::after(fields).unwrap()),
                    (other, _) => panic!("{other:#x}"),
                }
            }
        }
        pages.push(found.len() - before);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2048, 2048, 904]);
    assert_eq!(found, fake().locators(None, usize::MAX));
}

#[test]
fn a_tlv_without_what_it_belongs_to_is_refused() {
    for kind in [kind::THROUGH, kind::SESSION, kind::NAME, kind::REASON, kind::AS_PATH, kind::PATH] {
        assert!(Collected::default().take(kind, Fields(&[0; 12])).is_err(), "{kind:#x}");
    }
}

/// All that is answered to a request.
fn answers(request: &[u8], router: &mut dyn Router, session: &mut Session) -> (Conduct, Vec<Vec<u8>>) {
    let mut replies = Vec::new();
    let conduct = handle(request, router, session, &mut replies);
    replies.extend(std::iter::from_fn(|| next_page(router.view(), session)));
    (conduct, replies)
}

fn ask(op: Op, flags: Flags, body: &[u8], view: &Fake) -> Vec<(Header, Vec<u8>)> {
    let request = Header { op, flags, errno: 0, sequence: 77, generation: 0 }.message(body);
    let (conduct, replies) = answers(&request, &mut &*view, &mut session());
    assert_eq!(conduct, Conduct::Keep);
    replies.iter().map(|reply| Header::split(reply).unwrap()).map(|(header, body)| (header, body.to_vec())).collect()
}

/// A client that may do everything.
fn session() -> Session {
    Session::new(Asker(7), Rights::Write)
}

fn entries(replies: &[(Header, Vec<u8>)]) -> Vec<Entry> {
    let mut entries = Entries::default();
    for tlv in replies.iter().flat_map(|(_, body)| Tlvs(body)) {
        let (kind, fields) = tlv.unwrap();
        entries.take(kind, fields).unwrap();
    }
    entries.finish()
}

fn eid_tlv(octets: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, kind::EID, |out| out.extend(octets));
    body
}

#[test]
fn golden_hello() {
    let request = [
        b'A', b'L', b'T', b'1', 32, 0, 0, 0, // magic, length
        13, 0, 0, 0, 0, 0, 0, 0, // HELLO, no flags, no error
        8, 7, 6, 5, 4, 3, 2, 1, // sequence
        0, 0, 0, 0, 0, 0, 0, 0, // generation
    ];
    let mut replies = Vec::new();
    handle(&request, &mut &fake(), &mut session(), &mut replies);
    let text = concat!("altitude ", env!("CARGO_PKG_VERSION"));
    let mut expected = request.to_vec();
    (expected[4], expected[10], expected[24]) = (36 + text.len() as u8, 1, 42);
    expected.extend([12, 0, text.len() as u8, 0]);
    expected.extend(text.as_bytes());
    assert_eq!(replies, [expected]);
}

#[test]
fn golden_get() {
    // EID 2.2.2.2: AFI 1 in network order, mask 32.
    let replies = ask(Op::GET, Flags::default(), &eid_tlv(&[0, 1, 32, 0, 2, 2, 2, 2]), &fake());
    let [(header, body)] = replies.as_slice() else { panic!("{replies:?}") };
    assert_eq!((header.errno, header.sequence, header.flags), (0, 77, Flags::REPLY));
    #[rustfmt::skip]
    let expected = [
        1, 0, 1, 0, 0, // TABLE cache
        2, 0, 4, 0, 0, 0, 0, 0, // IID 0
        3, 0, 8, 0, 0, 1, 16, 0, 2, 2, 0, 0, // EID 2.2.0.0/16
        4, 0, 36, 0, // MAPPING
        2, 0, 0, 0, 0x80, 0x51, 1, 0, // authoritative, 86400 s
        0, 0, 0, 2, // no version, no action, by a Map-Reply
        7, 0, 0, 0, 0, 0, 0, 0, // hits
        0x7b, 0x68, 0xe5, 0xcf, 0x8b, 1, 0, 0, // created, ms since 1970
        0, 0, 0, 0, 0, 0, 0, 0, // never used
        3, 0x40, 4, 0, 0xf0, 0x4f, 1, 0, // EXPIRY 86000 s
        4, 0x40, 8, 0, 0xbc, 2, 0, 0, 0, 0, 0, 0, // VOLUME 700
        5, 0, 46, 0, 1, 100, 255, 0, 0x11, 0, 0, 0, // RLOC: priorities, weights; up, reachable
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 1, 240, 0, 254, 20,
        5, 0, 58, 0, 1, 100, 255, 0, 0x10, 0, 0, 0, // RLOC: reachable
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 2, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20,
    ];
    assert_eq!(*body, expected);
    assert_eq!(entries(&replies), [fake().cache[0].clone()]);
}

#[test]
fn golden_stats() {
    let replies = ask(Op::STATS, Flags::default(), &[], &fake());
    let mut expected = Vec::new();
    for (id, value, name) in [(0, 30, "encapsulated"), (1, 2, "missed"), (2, 3, "map-requests-out")] {
        expected.extend([11, 0, 10, 0, id, 0, value, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 0x40, name.len() as u8, 0]);
        expected.extend(name.as_bytes());
    }
    assert_eq!(replies[0].1, expected);
}

#[test]
fn get_finds_the_longest_match_the_exact_prefix_and_the_instance() {
    let found = |octets: &[u8], extra: &[u8]| {
        let replies = ask(Op::GET, Flags::default(), &[&eid_tlv(octets), extra].concat(), &fake());
        match replies[0].0.errno {
            0 => entries(&replies)[0].eid.to_string(),
            errno => errno.to_string(),
        }
    };
    let not_found = errno::NOT_FOUND.to_string();
    let (five, both, database) = ([2, 0, 4, 0, 5, 0, 0, 0], [1, 0, 1, 0, 2], [1, 0, 1, 0, 1]);
    assert_eq!(found(&[0, 1, 32, 0, 2, 2, 9, 9], &[]), "2.2.9.0/24");
    assert_eq!(found(&[0, 1, 255, 0, 2, 2, 8, 9], &[]), "2.2.0.0/16", "no mask is a host's");
    assert_eq!(found(&[0, 1, 16, 0, 2, 2, 0, 0], &[]), "2.2.0.0/16");
    assert_eq!(found(&[0, 1, 17, 0, 2, 2, 0, 0], &[]), not_found, "a mask asks for exactly the prefix");
    assert_eq!(found(&[0, 1, 32, 0, 2, 2, 9, 9], &five), "[5]2.2.0.0/16");
    assert_eq!(found(&[0, 1, 32, 0, 1, 1, 1, 1], &[]), not_found);
    assert_eq!(found(&[0, 1, 32, 0, 1, 1, 1, 1], &database), "1.1.0.0/16");
    assert_eq!(found(&[0, 1, 32, 0, 1, 1, 1, 1], &both), "1.1.0.0/16");
    assert_eq!(found(&[0, 2, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[]), not_found);
}

#[test]
fn a_dump_that_needs_many_messages_says_so_and_loses_nothing() {
    let locators: Vec<String> = (0..20).map(|last| format!("240.0.254.{last}")).collect();
    let locators: Vec<&str> = locators.iter().map(String::as_str).collect();
    let cache: Vec<Entry> = (0..1000_u32)
        .map(|n| positive(Table::Cache, &format!("10.{}.{}.0/24", n / 256, n % 256), 0, &locators))
        .collect();
    let view = Fake { cache: cache.clone(), database: Vec::new() };
    let replies = ask(Op::GET, Flags::DUMP, &[], &view);
    assert!(replies.len() > 10);
    let (last, first) = replies.split_last().unwrap();
    assert!(first.iter().all(|(header, _)| header.flags == Flags::REPLY.with(Flags::MORE)));
    assert_eq!(last.0.flags, Flags::REPLY);
    assert!(replies.iter().all(|(_, body)| HEADER + body.len() <= MESSAGE_MAX));
    assert_eq!(entries(&replies), cache);
    let empty = ask(Op::GET, Flags::DUMP, &[], &Fake { cache: Vec::new(), database: Vec::new() });
    assert_eq!((empty.len(), empty[0].1.len(), empty[0].0.errno), (1, 0, 0));
}

#[test]
fn a_dump_can_be_of_one_instance_or_of_both_tables() {
    let dump = |body: &[u8]| {
        let all = entries(&ask(Op::GET, Flags::DUMP, body, &fake()));
        all.iter().map(|entry| entry.eid.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(dump(&[2, 0, 4, 0, 5, 0, 0, 0]), ["[5]2.2.0.0/16"]);
    assert_eq!(dump(&[1, 0, 1, 0, 2]), ["2.2.0.0/16", "2.2.9.0/24", "[5]2.2.0.0/16", "1.1.0.0/16"]);
}

#[test]
fn what_cannot_be_done_is_refused_with_its_number_and_a_reason() {
    let cases: [(Op, Flags, &[u8], u32, &str); 12] = [
        (Op(14), Flags::default(), &[], errno::UNSUPPORTED, "operation 14 is not offered"),
        (Op::GET, Flags::default(), &[], errno::INVALID, "GET needs an EID"),
        (Op::GET, Flags::DUMP, &[3, 0, 8, 0, 0, 1, 32, 0, 2, 2, 2, 2], errno::INVALID, "a dump has no EID"),
        (Op::HELLO, Flags::REPLY, &[], errno::INVALID, "neither a reply nor an event"),
        (Op::HELLO, Flags::default(), &[1], errno::INVALID, "ends early"),
        (Op::HELLO, Flags::default(), &[1, 0, 9, 0, 0], errno::INVALID, "ends early"),
        (Op::HELLO, Flags::default(), &[1, 0, 1, 0, 3], errno::INVALID, "TABLE is 0, 1 or 2"),
        (Op::HELLO, Flags::default(), &[1, 0, 1, 0, 0, 1, 0, 1, 0, 0], errno::INVALID, "twice"),
        (Op::HELLO, Flags::default(), &[2, 0, 4, 0, 0, 0, 0, 1], errno::INVALID, "24 bits"),
        (Op::GET, Flags::default(), &[3, 0, 8, 0, 0, 1, 16, 0, 2, 2, 2, 2], errno::INVALID, "beyond its mask"),
        (Op::GET, Flags::default(), &[3, 0, 6, 0, 0x40, 3, 32, 0, 1, 1], errno::FAMILY, "family 16387"),
        (Op::STATS, Flags::default(), &[2, 0x80, 0, 0], errno::UNSUPPORTED, "0x8002"),
    ];
    for (op, flags, body, errno, reason) in cases {
        let replies = ask(op, flags, body, &fake());
        let [(header, body)] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!((header.errno, header.flags.has(Flags::REPLY), header.sequence), (errno, true, 77), "{reason}");
        assert!(String::from_utf8_lossy(body).contains(reason), "{reason}: {:?}", String::from_utf8_lossy(body));
    }
    // Unknown TLVs with the high bit clear are skipped.
    assert_eq!(ask(Op::HELLO, Flags::default(), &[0xff, 0x7f, 2, 0, 9, 9], &fake())[0].0.errno, 0);
}

#[test]
fn another_protocol_ends_the_connection() {
    for request in [b"GET / HTTP/1.1\r\n\r\nHost: altitude, I hope".as_slice(), b"", b"ALT1", &[0; 32]] {
        let mut replies = Vec::new();
        assert_eq!(handle(request, &mut &fake(), &mut session(), &mut replies), Conduct::Close);
        assert_eq!(Header::split(&replies[0]).unwrap().0.errno, errno::PROTOCOL);
    }
}

/// xorshift64*: the same mutations in every run.
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[test]
fn mutated_messages_are_answered_or_refused_and_never_panic() {
    let view = fake();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for (op, flags, body) in [
        (Op::GET, Flags::default(), eid_tlv(&[0, 1, 32, 0, 2, 2, 2, 2])),
        (Op::GET, Flags::DUMP, vec![1, 0, 1, 0, 2]),
        (Op::STATS, Flags::default(), vec![0, 0x40, 1, 0, 1]),
        (Op::STATS, Flags::default(), vec![0, 0x40, 1, 0, 2]),
        (Op::STATS, Flags::default(), vec![0, 0x40, 1, 0, 3]),
    ] {
        let request = Header { op, flags, errno: 0, sequence: 1, generation: 0 }.message(&body);
        seeds.extend(answers(&request, &mut &view, &mut session()).1);
        seeds.push(request);
    }
    let mut state = 0x0a17_17de;
    let (mut good, mut refused) = (0, 0);
    for round in 0..100_000 {
        let mut message = seeds[round % seeds.len()].clone();
        for _ in 0..random(&mut state) % 4 {
            let at = random(&mut state) as usize % message.len();
            match random(&mut state) % 3 {
                0 => message[at] = random(&mut state) as u8,
                1 => message.truncate(at.max(1)),
                _ => message.insert(at, random(&mut state) as u8),
            }
        }
        if random(&mut state).is_multiple_of(2) && message.len() >= 8 {
            let length = (message.len() as u32).to_le_bytes();
            message[4..8].copy_from_slice(&length);
        }
        for reply in &answers(&message, &mut &view, &mut session()).1 {
            match Header::split(reply).unwrap().0.errno {
                0 => good += 1,
                _ => refused += 1,
            }
        }
        // The client's side reads the same octets.
        if let Ok((_, body)) = Header::split(&message) {
            let (mut entries, mut statuses) = (Entries::default(), status::Statuses::default());
            for (kind, fields) in Tlvs(body).map_while(Result::ok) {
                let _ = (entries.take(kind, fields), statuses.take(kind, fields));
            }
        }
    }
    assert!(good > 1000 && refused > 1000, "{good} good, {refused} refused");
}

#[test]
fn a_views_lookups_prefer_the_longest() {
    let view = fake();
    let eid = |last: u8| Eid { instance: InstanceId::DEFAULT, address: [2, 2, 9, last].into() };
    assert_eq!(view.longest(Table::Cache, eid(1)).unwrap().eid.prefix.length(), 24);
    let exact = EidPrefix { instance: InstanceId::DEFAULT, prefix: Prefix::new([2, 2, 0, 0].into(), 16).unwrap() };
    assert_eq!(view.exact(Table::Cache, &exact).unwrap().packets, 7);
    assert!(view.exact(Table::Database, &exact).is_none());
}
