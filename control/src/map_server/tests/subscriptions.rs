//! Subscriptions: who may have one, what is published, and when it is lost.

mod denied;
mod inside;
mod keys;
mod proofs;
mod slices;

use super::*;
use crate::wire::MapNotify;

const Q08: &str = "1010000100000000000001010001c000020a0001cb00710180180001c6336400000102030405060708090a0b0c0d0e0f00000000\
                   00000001";
const Q10: &str =
    "1010000100000000000001020001c000020a000080180001c6336400000102030405060708090a0b0c0d0e0f0000000000000001";
const N04: &str = "40000001000000000000010201020010c6f1ab89eb25eefed6bab2b45ce94106000000000018000000000001c6336400";
/// The ITR of Q08, and what it asks for.
const SUBSCRIBER: &str = "203.0.113.1";
const PREFIX: &str = "198.51.100.0/24";
const SECOND_RLOC: &str = "203.0.113.2";

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn psk() -> Key {
    Key::new(1, Algorithm::Sha256, b"lisp-psk-1")
}

fn xtr(number: u8) -> XtrIdentity {
    XtrIdentity { xtr_id: [number; 16], site_id: 1 }
}

/// A Map-Server for the prefixes of the vectors, where everybody with the key may subscribe.
fn publishing() -> Settings {
    let peers = vec![Peer { xtr_id: None, keys: vec![psk()], eids: Vec::new() }];
    let site = |name: &str, prefix: &str, number| Site {
        name: name.to_owned(),
        eids: vec![eid(prefix)],
        more_specifics: true,
        keys: vec![key(SiteId(number))],
        ..Site::default()
    };
    let sites = vec![site("one", "198.51.0.0/16", 0), site("two", "10.2.0.0/16", 1)];
    let settings = Settings::new(sites, vec![address("203.0.113.200"), address("2001:db8::1")]);
    Settings { wall: WALL, publishing: Some(Publishing::new(peers)), ..settings }
}

impl World {
    fn proxied(&mut self, site: SiteId, prefix: &str, etrs: &[&str]) -> Vec<Output> {
        let message = MapRegister { proxy: true, records: vec![record(prefix, etrs)], ..MapRegister::default() };
        self.register("240.0.254.99", &key(site), message)
    }

    /// Hands over a Map-Request from port 61000 of `from`.
    fn request(&mut self, from: &str, request: &MapRequest) -> Vec<Output> {
        let eid = request.records[0].eid;
        let eid = Eid { instance: eid.instance, address: eid.prefix.address() };
        let source = SocketAddr::new(address(from), 61000);
        let packet =
            UdpPacket { source, destination: (address(SECOND_RLOC), 4342).into(), ttl: 61, payload: &request.encode() };
        self.step(Input::Request { eid, request, source, packet: &packet.encode(), protection: None })
    }

    fn vector(&mut self, from: &str, hex: &str) -> Vec<Output> {
        let Ok(Message::MapRequest(request)) = Message::parse(&octets(hex)) else { panic!("{hex}") };
        assert_eq!(request.encode(), octets(hex));
        self.request(from, &request)
    }

    fn subscribe(&mut self, who: XtrIdentity, nonce: u64, prefix: &str) -> Vec<Output> {
        self.request(SUBSCRIBER, &subscription(who, nonce, prefix))
    }

    fn unsubscribe(&mut self, from: &str, who: XtrIdentity, nonce: u64, prefix: &str) -> Vec<Output> {
        self.request(from, &MapRequest { itr_rlocs: Vec::new(), ..subscription(who, nonce, prefix) })
    }

    /// The xTR acknowledges what it was sent.
    fn thank(&mut self, notify: &MapNotify) -> Vec<Output> {
        let ack = MapNotify { ack: true, ..notify.clone() }.signed(&psk(), Form::default());
        self.octets(SUBSCRIBER, &ack)
    }

    /// The Map-Notify among outputs, thanked for.
    fn thanked(&mut self, outputs: &[Output]) -> MapNotify {
        let [(_, notify)] = &notifies(outputs)[..] else { panic!("{outputs:?}") };
        assert_eq!(faults(&self.thank(notify)), []);
        notify.clone()
    }

    /// A world in which the vectors' prefix is served and subscribed to.
    fn subscribed() -> Self {
        let mut world = Self::new(publishing());
        world.proxied(ONE, PREFIX, &["240.0.254.21"]);
        let outputs = world.vector(SUBSCRIBER, Q08);
        world.thanked(&outputs);
        world
    }
}

fn subscription(who: XtrIdentity, nonce: u64, prefix: &str) -> MapRequest {
    let rlocs = [address(SUBSCRIBER), address(SECOND_RLOC)];
    let mut request = MapRequest::lookup(nonce, None, &rlocs, eid(prefix));
    request.records[0].notify = true;
    MapRequest { xtr: Some(who), ..request }
}

/// Map-Notifies to subscribers, as read and with good MACs, with where they go.
fn notifies(outputs: &[Output]) -> Vec<(String, MapNotify)> {
    let read = |output: &Output| {
        let Output::Notify { to, octets, .. } = output else { return None };
        let Ok(Message::MapNotify(notify)) = Message::parse(octets) else { panic!("{octets:?}") };
        assert!(!notify.ack && notify.verify(octets, &[psk()]).is_ok());
        Some((to.to_string(), notify))
    };
    outputs.iter().filter_map(read).collect()
}

fn told(notify: &MapNotify) -> Vec<(String, Ttl, Vec<String>)> {
    let locators = |mapping: &Mapping| mapping.locators.iter().map(|one| one.address.to_string()).collect();
    notify.records.iter().map(|record| (record.eid.to_string(), record.ttl, locators(record))).collect()
}

fn at(prefix: &str, rloc: &str) -> (String, Ttl, Vec<String>) {
    (prefix.to_owned(), Ttl::Minutes(1440), vec![rloc.to_owned()])
}

fn gone(prefix: &str) -> (String, Ttl, Vec<String>) {
    (prefix.to_owned(), Ttl::Remove, Vec::new())
}

/// PS-2: the vector is confirmed with its nonce and our MAC; what is not newer is dropped in silence, what is newer counts.
#[test]
fn a_subscription_is_confirmed_once_for_each_nonce() {
    let mut world = World::new(publishing());
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    let outputs = world.vector(SUBSCRIBER, Q08);
    let [(to, notify)] = &notifies(&outputs)[..] else { panic!("{outputs:?}") };
    assert_eq!((to.as_str(), notify.nonce), ("203.0.113.1:4342", 0x101));
    assert_eq!(told(notify), [at(PREFIX, "240.0.254.21")]);
    assert!(!notify.records[0].authoritative && !notify.records[0].locators[0].local, "we are no ETR");
    assert_eq!(world.at(2).vector(SUBSCRIBER, Q08), [Output::Drop(SiteFault::SubscriptionReplayed)]);
    // The next one comes from elsewhere, and is told there.
    let Ok(Message::MapRequest(mut request)) = Message::parse(&octets(Q08)) else { panic!() };
    (request.nonce, request.itr_rlocs) = (0x102, vec![address(SECOND_RLOC)]);
    let outputs = world.at(4).request(SECOND_RLOC, &request);
    let (to, notify) = &notifies(&outputs)[0];
    assert_eq!((to.as_str(), notify.nonce), ("203.0.113.2:4342", 0x102));
    world.thank(notify);
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.22"]);
    assert_eq!(notifies(&outputs)[0].0, "203.0.113.2:4342", "ITR-RLOCs were overwritten");
    assert_eq!(world.server.subscribed_len(), 1);
}

/// PS-4: an xTR without a key is told action 5, one that may not know action 4, and where nobody can subscribe the answer is
/// the ordinary one.
#[test]
fn refusals_are_map_replies() {
    let named = |eids: &[&str]| Peer {
        xtr_id: Some([1; 16]),
        keys: vec![psk()],
        eids: eids.iter().map(|text| eid(text)).collect(),
    };
    let with = |peers: Option<Vec<Peer>>| Settings { publishing: peers.map(Publishing::new), ..publishing() };
    let cases = [
        (with(Some(vec![named(&["198.51.0.0/16"])])), 1, None),
        (
            with(Some(vec![named(&["198.51.0.0/16"])])),
            2,
            Some((Action::DropAuthFailure, SiteFault::SubscriptionUnknown)),
        ),
        (with(Some(vec![named(&["10.0.0.0/8"])])), 1, Some((Action::DropPolicyDenied, SiteFault::SubscriptionDenied))),
    ];
    for (settings, who, expected) in cases {
        let mut world = World::new(settings);
        world.proxied(ONE, PREFIX, &["240.0.254.21"]);
        let outputs = world.subscribe(xtr(who), 5, PREFIX);
        assert_eq!(notifies(&outputs).len(), usize::from(expected.is_none()));
        let Some((action, fault)) = expected else { continue };
        let [Output::Drop(counted), Output::Reply { to, message }] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!((counted, to.to_string().as_str(), message.nonce), (&fault, "203.0.113.1:61000", 5));
        let record = &message.records[0];
        assert_eq!((record.eid.to_string().as_str(), record.action, record.locators.len()), (PREFIX, action, 0));
        assert_eq!(world.server.subscribed_len(), 0);
    }
    let mut denied = publishing();
    denied.sites[0].denied = true;
    let outputs = World::new(denied).subscribe(xtr(1), 5, PREFIX);
    assert_eq!(faults(&outputs), [SiteFault::SubscriptionDenied], "nobody is told of this site");
    // Off, without an identity, or with an ETR that answers for itself.
    let mut world = World::new(with(None));
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    let outputs = world.subscribe(xtr(1), 5, PREFIX);
    let [Output::Reply { message, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((message.nonce, message.records[0].locators.len()), (5, 1));
    let mut world = World::new(publishing());
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    let outputs = world.request(SUBSCRIBER, &MapRequest { xtr: None, ..subscription(xtr(1), 5, PREFIX) });
    let [Output::Drop(SiteFault::SubscriptionUnnamed), Output::Reply { .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    world.up(ONE, PREFIX, &["240.0.254.21"]);
    let outputs = world.subscribe(xtr(1), 6, PREFIX);
    let [Output::Drop(SiteFault::SubscriptionNotOurs), Output::Encapsulate { .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
}

/// PS-5: each change is published with the next nonce, as soon as the one before is acknowledged; a change that is none is not.
#[test]
fn changes_are_published_one_after_the_other() {
    let mut world = World::subscribed();
    for (change, rloc) in ["240.0.254.31", "240.0.254.32", "240.0.254.33"].into_iter().enumerate() {
        let outputs = world.proxied(ONE, PREFIX, &[rloc]);
        let notify = world.thanked(&outputs);
        assert_eq!((notify.nonce, told(&notify)), (0x102 + change as u64, vec![at(PREFIX, rloc)]));
        assert!(notifies(&world.proxied(ONE, PREFIX, &[rloc])).is_empty(), "a renewal is no news");
    }
    // None overtakes another, and what is told is how it stands then.
    let first = notifies(&world.proxied(ONE, PREFIX, &["240.0.254.34"])).remove(0).1;
    for rloc in ["240.0.254.35", "240.0.254.36"] {
        assert!(notifies(&world.proxied(ONE, PREFIX, &[rloc])).is_empty());
    }
    let outputs = world.thank(&first);
    let notify = world.thanked(&outputs);
    assert_eq!((first.nonce, notify.nonce, told(&notify)), (0x105, 0x106, vec![at(PREFIX, "240.0.254.36")]));
    assert_eq!(world.server.due(), Some(world.start + Duration::from_secs(180)), "nothing is waited for");
}

/// PS-6: the vector ends the subscription; it is confirmed to where it came from, and its nonce stays.
#[test]
fn an_xtr_unsubscribes() {
    let mut world = World::subscribed();
    let outputs = world.at(2).vector(SECOND_RLOC, Q10);
    let [(to, notify)] = &notifies(&outputs)[..] else { panic!("{outputs:?}") };
    assert_eq!((to.as_str(), notify.nonce), ("203.0.113.2:4342", 0x102));
    world.thank(notify);
    assert_eq!(world.server.subscribed_len(), 0);
    assert!(notifies(&world.proxied(ONE, PREFIX, &["240.0.254.22"])).is_empty());
    for replay in [Q08, Q10] {
        assert_eq!(world.at(9).vector(SUBSCRIBER, replay), [Output::Drop(SiteFault::SubscriptionReplayed)]);
    }
}

/// PS-7: what is taken back, and what runs out, is published with TTL 0, octet for octet as the vector has it.
#[test]
fn withdrawn_and_expired_prefixes_are_told() {
    let mut world = World::subscribed();
    let outputs = world.down(ONE, PREFIX);
    assert!(outputs.iter().any(|output| matches!(output, Output::Notify { octets: told, .. } if *told == octets(N04))));
    world.thanked(&outputs);
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    let notify = world.thanked(&outputs);
    assert_eq!((notify.nonce, told(&notify)), (0x103, vec![at(PREFIX, "240.0.254.21")]), "and comes back");
    let outputs = world.at(180).step(Input::Wake);
    assert_eq!(told(&notifies(&outputs)[0].1), [gone(PREFIX)]);
}

/// PS-7: what is not acknowledged goes to each ITR-RLOC in turn; after all retries the subscription is lost, and the xTR is told
/// once, with the next nonce.
#[test]
fn a_subscriber_that_is_silent_is_lost() {
    let mut world = World::new(publishing());
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    let outputs = world.subscribe(xtr(1), 5, PREFIX);
    world.thanked(&outputs);
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.22"]);
    let sent = notifies(&outputs).remove(0).1;
    let mut seen = Vec::new();
    for second in 1..=80 {
        let outputs = world.at(second).step(Input::Wake);
        seen.extend(notifies(&outputs).into_iter().map(|(to, notify)| (second, to, notify)));
    }
    let times: Vec<u64> = seen.iter().map(|(second, ..)| *second).collect();
    assert_eq!(times, [3, 6, 9, 15, 27, 51, 75]);
    let (last, retries) = seen.split_last().unwrap();
    for (count, (_, to, notify)) in retries.iter().enumerate() {
        let rloc = [SECOND_RLOC, SUBSCRIBER][count % 2];
        assert_eq!((to, notify), (&format!("{rloc}:4342"), &sent));
    }
    let lost = &last.2.records[0];
    assert_eq!((last.2.nonce, lost.action, lost.locators.len()), (7, Action::DropAuthFailure, 0));
    assert_ne!(lost.ttl, Ttl::Remove);
    assert_eq!(world.server.subscribed_len(), 0);
    assert_eq!(faults(&world.subscribe(xtr(1), 7, PREFIX)), [SiteFault::SubscriptionReplayed], "the nonce is kept");
    assert_eq!(notifies(&world.subscribe(xtr(1), 8, PREFIX)).len(), 1);
}

/// PS-8: who asked for a prefix hears of longer ones inside, and who asked for a part hears of what covers it.
#[test]
fn more_specifics_are_published_to_who_covers_them() {
    let mut world = World::new(publishing());
    world.proxied(ONE, "198.51.0.0/16", &["240.0.254.21"]);
    for (who, prefix) in [(1, "198.51.0.0/16"), (2, "198.51.100.7/32"), (3, "10.2.0.0/16")] {
        let outputs = world.subscribe(xtr(who), 5, prefix);
        world.thanked(&outputs);
    }
    let heard = |world: &mut World, outputs: Vec<Output>| {
        let all = notifies(&outputs);
        all.iter().for_each(|(_, notify)| drop(world.thank(notify)));
        all.iter().flat_map(|(_, notify)| told(notify)).collect::<Vec<_>>()
    };
    // The host was answered with the /16, so it is the /16 that it must know all about.
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.22"]);
    assert_eq!(heard(&mut world, outputs), [at(PREFIX, "240.0.254.22"), at(PREFIX, "240.0.254.22")]);
    let outputs = world.proxied(ONE, "198.51.0.0/16", &["240.0.254.23"]);
    assert_eq!(heard(&mut world, outputs).len(), 2);
    let outputs = world.down(ONE, PREFIX);
    assert_eq!(heard(&mut world, outputs), [gone(PREFIX), gone(PREFIX)]);
    let outputs = world.proxied(TWO, "10.2.3.0/24", &["240.0.254.24"]);
    assert_eq!(heard(&mut world, outputs), [at("10.2.3.0/24", "240.0.254.24")], "one that was not there before");
}

/// PS-10: the subscription beyond the limit is answered as any other Map-Request, and who has one keeps it.
#[test]
fn there_are_limits_for_one_and_for_all() {
    let mut settings = publishing();
    let own = settings.publishing.as_mut().unwrap();
    (own.each_max, own.all_max) = (2, 3);
    let mut world = World::new(settings);
    world.proxied(ONE, "198.51.0.0/16", &["240.0.254.21"]);
    let parts = ["198.51.1.0/24", "198.51.2.0/24", "198.51.3.0/24"];
    let cases = [
        (1, parts[0], None),
        (1, parts[1], None),
        (1, parts[2], Some(SiteFault::SubscriptionsOfXtr)),
        (2, parts[0], None),
        (3, parts[0], Some(SiteFault::SubscriptionsFull)),
        (1, parts[0], None), // again
    ];
    for (line, (who, prefix, fault)) in cases.into_iter().enumerate() {
        let outputs = world.at(10 * line as u64).subscribe(xtr(who), 100 + line as u64, prefix);
        assert_eq!(faults(&outputs), Vec::from_iter(fault), "line {line}");
        assert_eq!(notifies(&outputs).len(), usize::from(fault.is_none()));
        assert_eq!(outputs.iter().any(|output| matches!(output, Output::Reply { .. })), fault.is_some());
        world.thank(&notifies(&outputs).pop().map_or_else(MapNotify::default, |(_, notify)| notify));
    }
    assert_eq!(world.server.subscribed_len(), 3);
}

/// PS-10: two hundred publications at once go out at the pace that is allowed.
#[test]
fn publications_keep_their_pace() {
    let mut settings = publishing();
    settings.publishing.as_mut().unwrap().pace = Rate { burst: 10, every: Duration::from_millis(100) };
    let mut world = World::new(settings);
    world.proxied(ONE, "198.51.0.0/16", &["240.0.254.21"]);
    for who in 0..200 {
        let outputs = world.subscribe(xtr(who), 5, &format!("198.51.{who}.0/24"));
        world.thanked(&outputs);
    }
    let mut sent = notifies(&world.proxied(ONE, "198.51.0.0/16", &["240.0.254.22"])).len();
    assert_eq!(sent, 10);
    let due = world.server.due().unwrap();
    assert_eq!(due, world.now + Duration::from_millis(100));
    world.now = due;
    sent += notifies(&world.step(Input::Wake)).len();
    assert_eq!(sent, 11);
    world.now += Duration::from_secs(1);
    assert_eq!(notifies(&world.step(Input::Wake)).len(), 10);
}

/// A subscriber that cannot be told of everything is to begin anew, instead of being kept in an unbounded list.
#[test]
fn one_subscriber_has_a_bounded_list() {
    let mut world = World::new(publishing());
    world.proxied(ONE, "198.51.0.0/16", &["240.0.254.21"]);
    let first = notifies(&world.subscribe(xtr(1), 5, "198.51.0.0/16")).remove(0).1;
    for part in 0..=255 {
        world.proxied(ONE, &format!("198.51.{part}.0/24"), &["240.0.254.22"]);
    }
    world.proxied(ONE, "198.51.0.0/17", &["240.0.254.22"]);
    world.proxied(ONE, "198.51.128.0/17", &["240.0.254.22"]);
    let outputs = world.thank(&first);
    assert_eq!(faults(&outputs), [SiteFault::SubscriptionLost]);
    assert_eq!(notifies(&outputs)[0].1.records[0].action, Action::DropAuthFailure);
    let outputs = world.at(9).subscribe(xtr(1), 50, "198.51.0.0/16");
    assert_eq!(notifies(&outputs).len(), 1);
}

/// RFC 9437 §5: what nobody registered is answered with the hole and lasts for a quarter of an hour, unless it comes up.
#[test]
fn a_subscription_to_nothing_is_temporary() {
    let quarter = 15 * 60;
    for comes_up in [false, true] {
        let mut world = World::new(publishing());
        let outputs = world.subscribe(xtr(1), 5, "10.9.0.0/16");
        let notify = world.thanked(&outputs);
        assert_eq!(told(&notify), [("10.8.0.0/13".to_owned(), Ttl::Minutes(15), vec![])]);
        assert_eq!(notify.records[0].action, Action::NativelyForward);
        let outputs = world.subscribe(xtr(1), 5, "198.51.7.0/24");
        let notify = world.thanked(&outputs);
        assert_eq!(told(&notify), [("198.51.0.0/16".to_owned(), Ttl::Minutes(1), vec![])]);
        if comes_up {
            let outputs = world.proxied(ONE, PREFIX, &["240.0.254.21"]);
            assert_eq!(told(&world.thanked(&outputs)), [at(PREFIX, "240.0.254.21")]);
            world.at(170).proxied(ONE, PREFIX, &["240.0.254.21"]);
        }
        world.at(quarter - 1).step(Input::Wake);
        let before = world.server.subscribed_len();
        world.at(quarter).step(Input::Wake);
        assert_eq!((before, world.server.subscribed_len()), if comes_up { (2, 1) } else { (2, 0) });
    }
}

/// Subscriptions and their nonces survive a restart, those of the snapshot and those of the journal, and what changed meanwhile
/// is told when registrations have had the time to come back.
#[test]
fn a_restart_forgets_no_subscription() {
    let settings = || Settings { journal: true, ..publishing() };
    let mut before = World::new(settings());
    before.proxied(ONE, PREFIX, &["240.0.254.21"]);
    let outputs = before.vector(SUBSCRIBER, Q08);
    before.thanked(&outputs);
    before.server.journal().unwrap().clear();
    let mut file = before.state();
    let outputs = before.proxied(ONE, PREFIX, &["240.0.254.22"]);
    before.thanked(&outputs);
    let outputs = before.subscribe(xtr(7), 9, PREFIX);
    before.thanked(&outputs);
    let outputs = before.unsubscribe(SUBSCRIBER, xtr(7), 10, PREFIX);
    before.thanked(&outputs);
    file.extend(before.server.journal().unwrap().iter());

    let mut after = World::new(settings());
    after.nonce = before.nonce;
    let restored = after.server.restore(after.now, &file, &mut Vec::new()).unwrap();
    assert_eq!((restored.subscriptions, restored.torn, restored.left_out), (1, false, 0));
    assert_eq!(after.state(), before.state(), "all of it");
    assert_eq!(after.vector(SUBSCRIBER, Q08), [Output::Drop(SiteFault::SubscriptionReplayed)]);
    assert_eq!(faults(&after.at(9).subscribe(xtr(7), 10, PREFIX)), [SiteFault::SubscriptionReplayed]);
    let outputs = after.proxied(ONE, PREFIX, &["240.0.254.23"]);
    let notify = after.thanked(&outputs);
    assert_eq!((notify.nonce, told(&notify)), (0x103, vec![at(PREFIX, "240.0.254.23")]));
    after.at(170).proxied(ONE, PREFIX, &["240.0.254.23"]);
    let outputs = after.at(180).step(Input::Wake);
    assert_eq!(told(&notifies(&outputs)[0].1), [at(PREFIX, "240.0.254.23")], "as it stands, once");
    // Where nobody may subscribe any more they are left alone.
    let mut off = World::new(Settings { publishing: None, ..settings() });
    assert_eq!(off.server.restore(off.now, &file, &mut Vec::new()).unwrap().subscriptions, 0);
}
