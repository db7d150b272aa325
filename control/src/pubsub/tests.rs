//! Subscriptions that are asked for, confirmed, told of changes, refused and lost.

mod keys;
mod model;

use altitude_dataplane::mapping::{Action, Eid, Hop, InstanceId, Locator, Ttl};

use super::*;
use crate::wire::{Algorithm, Form, Message};

const SERVER: &str = "203.0.113.200:4342";
const Q08: &str = "1010000100000000000001010001c000020a0001cb00710180180001c6336400000102030405060708090a0b0c0d0e0f00000000\
                   00000001";
const Q10: &str =
    "1010000100000000000001020001c000020a000080180001c6336400000102030405060708090a0b0c0d0e0f0000000000000001";
const N04: &str = "40000001000000000000010201020010c6f1ab89eb25eefed6bab2b45ce94106000000000018000000000001c6336400";
const PREFIX: &str = "198.51.100.0/24";

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn key() -> Key {
    Key::new(1, Algorithm::Sha256, b"lisp-psk-1")
}

fn settings() -> Settings {
    Settings {
        xtr: XtrIdentity { xtr_id: std::array::from_fn(|at| at as u8), site_id: 1 },
        itr_rlocs: vec![[203, 0, 113, 1].into()],
        keys: vec![key()],
        security: None,
        lookups: true,
        fixed: Vec::new(),
        database: vec![eid("192.0.2.0/24")],
        shortest: [8, 16],
        subscriptions_max: 100,
        first_nonce: 0x100,
    }
}

fn at(prefix: &str, rloc: [u8; 4]) -> Mapping {
    Mapping {
        locators: vec![Locator::unicast(rloc.into(), 1, 100)],
        ..Mapping::negative(eid(prefix), Ttl::Minutes(60), Action::NoAction)
    }
}

fn gone(prefix: &str) -> Mapping {
    Mapping::negative(eid(prefix), Ttl::Remove, Action::NoAction)
}

/// A subscriber with a clock, in whose map-cache everything is in use.
struct World {
    subscriber: Subscriber,
    start: Instant,
    now: Instant,
    unused: bool,
}

impl World {
    fn new(settings: Settings) -> Self {
        let start = Instant::now();
        Self { subscriber: Subscriber::new(settings, start, &mut || 0), start, now: start, unused: false }
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start + Duration::from_secs(seconds);
        self
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut todo = Vec::new();
        let unused = self.unused;
        self.subscriber.step(self.now, input, &|_| !unused, &mut || 0, &mut todo);
        todo
    }

    fn learn(&mut self, prefix: &str) -> Vec<Output> {
        self.step(Input::Learned(&[eid(prefix)]))
    }

    fn octets(&mut self, octets: &[u8]) -> Vec<Output> {
        let Ok(Message::MapNotify(message)) = Message::parse(octets) else { panic!("{octets:?}") };
        self.step(Input::Notify { from: SERVER.parse().unwrap(), message, octets })
    }

    fn notify(&mut self, nonce: u64, records: Vec<Mapping>) -> Vec<Output> {
        self.octets(&notify(nonce, records))
    }

    /// A subscription that is confirmed with the nonce 0x101.
    fn live() -> Self {
        let mut world = Self::new(settings());
        world.learn(PREFIX);
        world.at(1).step(Input::Wake);
        assert_eq!(faults(&world.notify(0x101, vec![at(PREFIX, [240, 0, 254, 21])])), []);
        world
    }

    /// An ordinary Map-Reply comes.
    fn refuse(&mut self, nonce: u64) -> Vec<Output> {
        let reply = MapReply::negative(nonce, eid(PREFIX), Ttl::Minutes(1), Action::DropPolicyDenied);
        self.step(Input::Replied { reply: &reply, octets: &reply.encode() })
    }

    fn standing(&self) -> Standing {
        self.subscriber.iter().next().unwrap().standing
    }
}

fn notify(nonce: u64, records: Vec<Mapping>) -> Vec<u8> {
    MapNotify { nonce, records, ..MapNotify::default() }.signed(&key(), Form::default())
}

fn requests(outputs: &[Output]) -> Vec<&MapRequest> {
    outputs
        .iter()
        .filter_map(|output| if let Output::Request { message, .. } = output { Some(&**message) } else { None })
        .collect()
}

fn faults(outputs: &[Output]) -> Vec<PubSubFault> {
    outputs.iter().filter_map(|output| if let Output::Drop(fault) = output { Some(*fault) } else { None }).collect()
}

fn installed(outputs: &[Output]) -> Vec<Mapping> {
    let records = outputs.iter().filter_map(|output| match output {
        Output::Install { records, .. } => Some(records.clone()),
        _ => None,
    });
    records.flatten().collect()
}

/// The Map-Notify-Ack among outputs, as read and with a good MAC.
fn thanks(outputs: &[Output]) -> Vec<MapNotify> {
    let read = |output: &Output| {
        let Output::Acknowledge { to, octets } = output else { return None };
        let Ok(Message::MapNotify(ack)) = Message::parse(octets) else { panic!("{octets:?}") };
        assert!(ack.ack && ack.verify(octets, &[key()]).is_ok() && to.to_string() == SERVER);
        Some(ack)
    };
    outputs.iter().filter_map(read).collect()
}

/// The Map-Request of a vector, with an EID of ours as its source.
fn of_ours(vector: MapRequest) -> MapRequest {
    let own = Eid { instance: InstanceId::DEFAULT, address: [192, 0, 2, 0].into() };
    MapRequest { source_eid: Some(own), ..vector }
}

/// PS-1: the vector, octet for octet but for its source EID; each try and each renewal has the nonce after the last.
#[test]
fn what_is_looked_up_is_subscribed_to() {
    let mut world = World::new(settings());
    assert_eq!((world.learn(PREFIX), world.learn(PREFIX)), (vec![], vec![]));
    assert!(world.learn("192.0.2.128/25").is_empty() && world.subscriber.len() == 1, "ours");
    let mut seen = Vec::new();
    let mut all = Vec::new();
    while world.standing() != Standing::Silent {
        world.now = world.subscriber.due().unwrap();
        let outputs = world.step(Input::Wake);
        for request in requests(&outputs) {
            seen.push(((world.now - world.start).as_secs(), request.nonce));
        }
        all.extend(outputs);
    }
    assert_eq!(seen, [(1, 0x101), (3, 0x102), (7, 0x103), (15, 0x104), (31, 0x105)]);
    assert_eq!(faults(&all), [PubSubFault::Unanswered]);
    let Ok(Message::MapRequest(vector)) = Message::parse(&octets(Q08)) else { panic!() };
    assert_eq!(requests(&all)[0], &of_ours(vector));
    assert_eq!(world.subscriber.due(), Some(world.now + RENEW_EVERY), "left to look-ups, and tried again");
    world.now += RENEW_EVERY;
    assert_eq!(requests(&world.step(Input::Wake))[0].nonce, 0x106);
}

/// PS-1: the first nonces of a run are above all of the run before, at a place that nobody can foretell.
#[test]
fn nonces_grow_over_restarts_and_over_what_is_forgotten() {
    let mut drawn = [u64::MAX, 0, 1 << 63].into_iter();
    let first = 0x6b49_d200_0000_0000;
    let mut subscriber = Subscriber::new(
        Settings {
            first_nonce: first,
            fixed: vec![eid("10.1.0.0/16"), eid("10.2.0.0/16"), eid("10.3.0.0/16")],
            ..settings()
        },
        Instant::now(),
        &mut || drawn.next().unwrap(),
    );
    let nonces: Vec<u64> = subscriber.iter().map(|one| one.nonce).collect();
    assert_eq!(nonces, [first + (1 << 33) - 1, first, first + (1 << 32)]);
    assert!(nonces.iter().all(|nonce| *nonce < first + (1 << 34)), "below those of the next run");
    // What is forgotten and comes back goes on; what even that forgot is still below.
    subscriber.settings.subscriptions_max = 1;
    let now = Instant::now() + Duration::from_secs(2);
    let mut todo = Vec::new();
    subscriber.step(now, Input::Stop, &|_| true, &mut || 0, &mut todo);
    subscriber.settings.fixed.clear();
    for prefix in ["10.1.0.0/16", "10.9.0.0/16"] {
        subscriber.step(now, Input::Learned(&[eid(prefix)]), &|_| true, &mut || 0, &mut todo);
        let one = subscriber.iter().next().unwrap();
        assert!(one.nonce >= first + (1 << 33) - 1, "{prefix}: {:#x}", one.nonce);
        subscriber.step(now, Input::Stop, &|_| true, &mut || 0, &mut todo);
    }
}

/// LOC-10: of an AFI-List in a publication the address of a family of ours is taken.
#[test]
fn of_an_afi_list_the_address_of_a_family_of_ours_is_installed() {
    let mut world = World::live();
    let plain = at(PREFIX, [240, 0, 254, 22]);
    let others = ["127.0.0.1", "2001:db8:f::22"].map(|text| (text.parse().unwrap(), Hop::alternative()));
    let locators = plain.locators[0].over(&others, Hop::alternative());
    let outputs = world.notify(0x102, vec![Mapping { locators, ..plain.clone() }]);
    assert_eq!(installed(&outputs), [plain]);
}

/// PS-3: a Map-Notify with the pending nonce fills the map-cache and is acknowledged; another nonce, another key or another
/// prefix does neither.
#[test]
fn a_map_notify_with_the_nonce_confirms() {
    let mut world = World::new(settings());
    world.learn(PREFIX);
    world.at(1).step(Input::Wake);
    let mapping = at(PREFIX, [240, 0, 254, 21]);
    let wrong = MapNotify { nonce: 0x101, records: vec![mapping.clone()], ..MapNotify::default() };
    let other = |id: u8, secret: &[u8]| wrong.clone().signed(&Key::new(id, Algorithm::Sha256, secret), Form::default());
    let cases = [
        (other(1, b"another"), PubSubFault::Mac),
        (other(2, b"lisp-psk-1"), PubSubFault::UnknownKey),
        (notify(0x100, vec![mapping.clone()]), PubSubFault::Replayed),
        (notify(0x102, vec![mapping.clone()]), PubSubFault::Unrelated),
        (notify(0x101, vec![]), PubSubFault::Unrelated),
        (notify(0x101, vec![at("10.0.0.0/16", [240, 0, 254, 21])]), PubSubFault::Unrelated),
        (notify(0x101, vec![mapping.clone(), at("192.0.2.0/24", [240, 0, 254, 21])]), PubSubFault::Unrelated),
        (notify(0x101, vec![at("192.0.0.0/7", [240, 0, 254, 21])]), PubSubFault::Unrelated),
    ];
    for (line, (octets, fault)) in cases.into_iter().enumerate() {
        assert_eq!(world.octets(&octets), [Output::Drop(fault)], "line {line}");
    }
    let outputs = world.notify(0x101, vec![mapping.clone()]);
    assert_eq!((installed(&outputs), faults(&outputs)), (vec![mapping.clone()], vec![]));
    let ack = &thanks(&outputs)[0];
    assert_eq!((ack.nonce, &ack.records), (0x101, &vec![mapping]));
    assert_eq!((world.standing(), world.subscriber.due()), (Standing::Live, Some(world.now + RENEW_EVERY)));
}

/// PS-5: publications replace what is cached, one nonce after the other; what is not newer is dropped and counted, and only the
/// last one is thanked for again.
#[test]
fn publications_are_taken_once() {
    let mut world = World::live();
    let mapping = |last: u8| at(PREFIX, [240, 0, 254, last]);
    for last in 2..5_u8 {
        let outputs = world.notify(0x100 + u64::from(last), vec![mapping(last)]);
        assert_eq!((installed(&outputs), thanks(&outputs).len()), (vec![mapping(last)], 1));
    }
    for (nonce, last) in [(0x103, 3), (0x101, 21), (0x104, 99), (0x104 + (1 << 63), 7)] {
        assert_eq!(world.notify(nonce, vec![mapping(last)]), [Output::Drop(PubSubFault::Replayed)], "{nonce:#x}");
    }
    for ahead in [NONCES_AHEAD_MAX + 1, 1 << 20, 1 << 40] {
        assert_eq!(world.notify(0x104 + ahead, vec![mapping(7)]), [Output::Drop(PubSubFault::Unrelated)], "another's");
    }
    let outputs = world.notify(0x104, vec![mapping(4)]);
    assert_eq!((thanks(&outputs).len(), faults(&outputs)), (1, vec![PubSubFault::Repeated]));
    assert!(installed(&outputs).is_empty());
    let outputs = world.octets(&octets(N04));
    assert_eq!(outputs, [Output::Drop(PubSubFault::Replayed)], "the nonce of the vector is over by now");
}

/// PS-7: the vector, TTL 0, takes the entry out; the subscription stays, and tells when the prefix comes back.
#[test]
fn a_withdrawn_prefix_leaves_the_map_cache() {
    let mut world = World::live();
    let outputs = world.octets(&octets(N04));
    assert_eq!((installed(&outputs), thanks(&outputs)[0].nonce), (vec![gone(PREFIX)], 0x102));
    let outputs = world.notify(0x103, vec![at(PREFIX, [240, 0, 254, 22])]);
    assert_eq!(installed(&outputs).len(), 1);
    assert_eq!(world.standing(), Standing::Live);
}

/// PS-8: longer prefixes inside are taken in, and a message with others is not. One that is too wide is left out alone, or the
/// subscription around it could never live.
#[test]
fn more_specifics_inside_are_taken_in() {
    let mut world = World::live();
    let outputs = world.notify(0x102, vec![at("198.51.100.7/32", [240, 0, 254, 22]), gone("198.51.100.8/32")]);
    assert_eq!(installed(&outputs).len(), 2);
    let records = vec![at(PREFIX, [1, 2, 3, 4]), at("10.0.0.0/24", [1, 2, 3, 4])];
    assert_eq!(world.notify(0x103, records), [Output::Drop(PubSubFault::Unrelated)]);
    let outputs = world.notify(0x103, vec![at("198.0.0.0/7", [1, 2, 3, 4])]);
    let counts = (faults(&outputs), thanks(&outputs).len(), installed(&outputs).len());
    assert_eq!(counts, (vec![PubSubFault::TooShort], 1, 0));
    // A wide hole is believed for the first eight bits.
    let hole = Mapping::negative(eid("192.0.0.0/3"), Ttl::Minutes(15), Action::NativelyForward);
    assert_eq!(installed(&world.notify(0x104, vec![hole]))[0].eid, eid("198.0.0.0/8"));
}

/// PS-3, PS-5: a subscription around a prefix of ours lives: what is said of ours is thanked for, and not believed.
#[test]
fn a_subscription_around_our_own_prefix_lives() {
    let fixed = vec![eid("192.0.0.0/16")];
    let mut world = World::new(Settings { fixed, lookups: false, ..settings() });
    world.at(1).step(Input::Wake);
    let (own, other) = (at("192.0.2.7/32", [1, 2, 3, 4]), at("192.0.3.0/24", [240, 0, 254, 21]));
    let outputs = world.notify(0x101, vec![own.clone(), other.clone()]);
    assert_eq!((faults(&outputs), installed(&outputs)), (vec![PubSubFault::OwnPrefix], vec![other]));
    assert_eq!((world.standing(), thanks(&outputs).len()), (Standing::Live, 1));
    // One that is about nothing but ours is for the subscriber all the same, unless it is of another key or to be told elsewhere.
    let expects = |world: &World, octets: &[u8]| {
        let Ok(Message::MapNotify(message)) = Message::parse(octets) else { panic!("{octets:?}") };
        world.subscriber.expects(&message, octets)
    };
    assert!(expects(&world, &notify(0x102, vec![own.clone()])));
    let signed = |nonce, secret: &[u8]| {
        let key = Key::new(1, Algorithm::Sha256, secret);
        MapNotify { nonce, records: vec![own.clone()], ..MapNotify::default() }.signed(&key, Form::default())
    };
    assert!(!expects(&world, &signed(0x102, b"of the registrar")));
    assert!(!expects(&world, &signed(0x102 + (1 << 40), b"lisp-psk-1")));
    let outputs = world.notify(0x102, vec![own]);
    assert_eq!((thanks(&outputs).len(), installed(&outputs).len()), (1, 0));
}

/// A look-up inside of what is subscribed to is subscribed to by itself: the wider one may not be told of it.
#[test]
fn what_is_inside_is_subscribed_to_as_well() {
    let mut world = World::live();
    world.learn("198.51.100.128/25");
    assert_eq!(world.subscriber.len(), 2);
}

/// A prefix that has become ours is not subscribed to any longer than until its renewal.
#[test]
fn what_becomes_ours_is_left() {
    let mut world = World::live();
    world.subscriber.set_database(&[eid("198.51.0.0/16")]);
    world.now += RENEW_EVERY;
    let outputs = world.step(Input::Wake);
    assert_eq!((requests(&outputs)[0].itr_rlocs.len(), world.subscriber.len()), (0, 0));
}

/// PS-5: a publication that is under way while a renewal is asked for confirms nothing.
#[test]
fn a_publication_between_two_tries_is_none_of_them() {
    let mut world = World::live();
    world.now += RENEW_EVERY;
    assert_eq!(requests(&world.step(Input::Wake))[0].nonce, 0x102);
    // One with a nonce beyond it, then the next try, whose nonce lies beyond both.
    world.notify(0x105, vec![at(PREFIX, [240, 0, 254, 22])]);
    world.now = world.subscriber.due().unwrap();
    assert_eq!(requests(&world.step(Input::Wake))[0].nonce, 0x106);
    world.notify(0x106, vec![at(PREFIX, [240, 0, 254, 22])]);
    assert_eq!(world.subscriber.due(), Some(world.now + RENEW_EVERY));
    assert!((0x100..0x110).all(|nonce| !world.subscriber.asked(nonce)), "nothing is waited for any more");
}

/// A publication beside what was asked for belongs to the subscription whose answer spoke of a wider prefix.
#[test]
fn a_publication_beside_what_was_asked_for_is_taken() {
    let mut world = World::new(settings());
    world.learn(PREFIX);
    world.at(1).step(Input::Wake);
    world.notify(0x101, vec![at("198.51.0.0/16", [240, 0, 254, 21])]);
    let beside = vec![at("198.51.7.0/24", [240, 0, 254, 22])];
    assert_eq!(installed(&world.notify(0x102, beside.clone())), beside);
    // One that crosses a renewal does not confirm it, or what is beside would be forgotten.
    world.now += RENEW_EVERY;
    world.step(Input::Wake);
    assert_eq!(installed(&world.notify(0x103, beside.clone())), beside);
    assert!(world.subscriber.asked(0x103));
    // And not any more when the answer speaks of the prefix alone.
    world.now = world.subscriber.due().unwrap();
    assert_eq!(requests(&world.step(Input::Wake))[0].nonce, 0x104);
    world.notify(0x104, vec![at(PREFIX, [240, 0, 254, 21])]);
    assert_eq!(faults(&world.notify(0x105, beside)), [PubSubFault::Unrelated]);
}

/// PS-4: a Map-Reply refuses; the entry then lives by look-ups, and the next try comes after a while.
#[test]
fn a_map_reply_refuses() {
    let mut world = World::new(settings());
    world.learn(PREFIX);
    world.at(1).step(Input::Wake);
    assert!(world.subscriber.asked(0x101) && !world.subscriber.asked(0x102));
    let outputs = world.refuse(0x101);
    assert_eq!(outputs, [Output::Stands(eid(PREFIX), Standing::Refused), Output::Drop(PubSubFault::Refused)]);
    assert!(!world.subscriber.asked(0x101));
    assert_eq!(world.subscriber.due(), Some(world.now + RENEW_EVERY));
    assert_eq!(faults(&world.notify(0x101, vec![gone(PREFIX)])), [PubSubFault::Unrelated], "nobody waits for it");
}

/// PS-4, PS-5: where the renewal of one that lives is refused without a proof, that may be anybody's word: it is renewed later, and
/// what its Map-Server publishes counts, until that says that it has ended.
#[test]
fn a_refused_renewal_ends_what_lived_only_where_the_map_server_says_so() {
    let mut world = World::live();
    world.now += RENEW_EVERY;
    assert_eq!(requests(&world.step(Input::Wake))[0].nonce, 0x102);
    let outputs = world.refuse(0x102);
    assert_eq!(outputs, [Output::Stands(eid(PREFIX), Standing::Refused), Output::Drop(PubSubFault::Refused)]);
    let news = || vec![at(PREFIX, [240, 0, 254, 22])];
    assert_eq!(world.subscriber.due(), Some(world.now + RENEW_EVERY));
    assert_eq!(installed(&world.notify(0x102, news())), news());
    assert_eq!(world.standing(), Standing::Live);
    let ended = Mapping::negative(eid(PREFIX), Ttl::Minutes(1), Action::DropAuthFailure);
    assert_eq!(faults(&world.notify(0x103, vec![ended])), [PubSubFault::Lost]);
    assert_eq!(world.notify(0x104, news()), [Output::Drop(PubSubFault::Unrelated)]);
    world.now += FIRST_AFTER;
    assert_eq!(requests(&world.step(Input::Wake))[0].nonce, 0x104);
    world.refuse(0x104);
    let outputs = world.step(Input::Stop);
    assert_eq!(requests(&outputs), [] as [&MapRequest; 0], "there is nothing to end");
}

/// PS-10: a step works on so many whose time has come, and the others are due at once.
#[test]
fn the_work_of_a_step_is_bounded() {
    let fixed: Vec<EidPrefix> = (0..600_u32).map(|n| eid(&format!("10.{}.{}.0/24", n >> 8, n & 0xff))).collect();
    let mut world = World::new(Settings { fixed, ..settings() });
    world.at(1);
    let mut seen = Vec::new();
    while world.subscriber.due().is_some_and(|due| due <= world.now) {
        seen.push(requests(&world.step(Input::Wake)).len());
    }
    assert_eq!(seen, [256, 256, 88]);
}

/// PS-6: what is not in use any more is unsubscribed from, as the vector has it but for its source EID; at the end, everything is.
#[test]
fn what_is_not_in_use_is_unsubscribed_from() {
    let Ok(Message::MapRequest(vector)) = Message::parse(&octets(Q10)) else { panic!() };
    let expected = of_ours(vector);
    let mut world = World::live();
    world.unused = true;
    world.now += RENEW_EVERY;
    let outputs = world.step(Input::Wake);
    assert_eq!((requests(&outputs), world.subscriber.len()), (vec![&expected], 0));
    let outputs = world.notify(0x102, vec![at(PREFIX, [240, 0, 254, 21])]);
    assert_eq!((thanks(&outputs).len(), outputs.len()), (1, 1), "its confirmation is thanked for, and nothing else");
    assert!(world.subscriber.has_left());
    let mut ending = World::live();
    assert_eq!(requests(&ending.step(Input::Stop)), [&expected]);
    assert!(!ending.subscriber.has_left(), "it is to be thanked for yet");
    ending.notify(0x102, vec![at(PREFIX, [240, 0, 254, 21])]);
    assert!(ending.subscriber.has_left());
    // It comes back with a greater nonce.
    world.unused = false;
    world.learn(PREFIX);
    world.now += FIRST_AFTER;
    assert_eq!(requests(&world.step(Input::Wake))[0].nonce, 0x103);
}

/// A renewal is an answer like the first; who is told of the same again knows that it is one.
#[test]
fn a_live_subscription_is_renewed() {
    let mut world = World::live();
    world.notify(0x102, vec![at(PREFIX, [240, 0, 254, 22])]);
    world.now += RENEW_EVERY;
    assert_eq!(requests(&world.step(Input::Wake))[0].nonce, 0x103);
    assert_eq!(world.standing(), Standing::Live);
    let outputs = world.notify(0x103, vec![at(PREFIX, [240, 0, 254, 22])]);
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Install { notice: Notice::Again, .. })),
        "{outputs:?}"
    );
}

/// A subscription that the Map-Server has lost is asked for anew at once, but not again and again.
#[test]
fn a_lost_subscription_is_asked_for_anew() {
    let mut world = World::live();
    let lost = |nonce| (nonce, vec![Mapping::negative(eid(PREFIX), Ttl::Minutes(1), Action::DropAuthFailure)]);
    let (nonce, records) = lost(0x101);
    let outputs = world.notify(nonce, records);
    assert_eq!((faults(&outputs), installed(&outputs)), (vec![PubSubFault::Lost], vec![]));
    assert_eq!(world.standing(), Standing::Asking);
    world.now += FIRST_AFTER;
    assert_eq!(requests(&world.step(Input::Wake))[0].nonce, 0x102);
    world.notify(0x102, vec![at(PREFIX, [240, 0, 254, 22])]);
    let (nonce, records) = lost(0x103);
    world.notify(nonce, records);
    assert_eq!(world.subscriber.due(), Some(world.now + RENEW_EVERY));
}

/// Two subscriptions, one inside the other: each Map-Notify belongs to the one whose nonce it follows.
#[test]
fn overlapping_subscriptions_have_nonces_of_their_own() {
    let mut drawn = [0, 1 << 40].into_iter();
    let fixed = vec![eid("198.51.0.0/16"), eid(PREFIX)];
    let mut subscriber =
        Subscriber::new(Settings { fixed, ..settings() }, Instant::now(), &mut || drawn.next().unwrap());
    let now = Instant::now() + Duration::from_secs(2);
    let nonces: Vec<u64> = subscriber.iter().map(|one| one.nonce + 1).collect();
    let mut todo = Vec::new();
    subscriber.step(now, Input::Wake, &|_| true, &mut || 0, &mut todo);
    for (nonce, after) in [(nonces[0], 0), (nonces[1], 0), (nonces[0], 1), (nonces[1], 1)] {
        let octets = notify(nonce + after, vec![at(PREFIX, [240, 0, 254, 30 + after as u8])]);
        let Ok(Message::MapNotify(message)) = Message::parse(&octets) else { panic!() };
        todo.clear();
        let input = Input::Notify { from: SERVER.parse().unwrap(), message, octets: &octets };
        subscriber.step(now, input, &|_| true, &mut || 0, &mut todo);
        assert_eq!((faults(&todo), installed(&todo).len()), (vec![], 1));
    }
    let last: Vec<u64> = subscriber.iter().map(|one| one.nonce).collect();
    assert_eq!(last, [nonces[0] + 1, nonces[1] + 1]);
}

/// PS-10: no more are subscribed to than may be; the rest lives by look-ups.
#[test]
fn the_list_is_bounded() {
    let mut world = World::new(Settings { subscriptions_max: 2, ..settings() });
    let cases = [("10.1.0.0/16", false), ("10.2.0.0/16", false), ("10.3.0.0/16", true)];
    for (prefix, full) in cases {
        assert_eq!(!faults(&world.learn(prefix)).is_empty(), full);
    }
    assert_eq!(world.subscriber.len(), 2);
    let mut off = World::new(Settings { lookups: false, ..settings() });
    assert!(off.learn(PREFIX).is_empty() && off.subscriber.is_empty());
}
