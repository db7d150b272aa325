//! Stories with time: a registrar, and Map-Servers that answer or not.

use altitude_dataplane::mapping::{Action, InstanceId, Locator};

use super::*;
use crate::wire::{Algorithm, Message};

const FIRST: u64 = 1 << 32;
const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(240, 0, 254, 2));

fn key(id: u8, secret: &[u8]) -> Key {
    Key::new(id, Algorithm::Sha256, secret)
}

fn mapping(prefix: &str) -> Mapping {
    Mapping {
        ttl: Ttl::Minutes(1440),
        locators: vec![
            Locator { probed: true, ..Locator::unicast([240, 0, 254, 20].into(), 1, 50) },
            Locator::unicast([240, 0, 254, 10].into(), 1, 50),
        ],
        ..Mapping::negative(eid(prefix), Ttl::Remove, Action::NoAction)
    }
}

fn eid(prefix: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: prefix.parse().unwrap() }
}

fn server(address: IpAddr) -> MapServer {
    MapServer { address, keys: vec![key(1, b"one")], form: Form::default(), proxy: false, merge: false }
}

/// A registrar, a clock that starts at 0, and what it sent.
struct Stage {
    registrar: Registrar,
    start: Instant,
}

impl Stage {
    fn new(servers: Vec<MapServer>, prefixes: &[&str]) -> Self {
        let start = Instant::now();
        let database = prefixes.iter().map(|prefix| mapping(prefix)).collect();
        let settings = Settings { servers, database, xtr: None, first_nonce: FIRST };
        Self { registrar: Registrar::new(settings, start), start }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn step(&mut self, ms: u64, input: Input) -> Vec<Output> {
        let mut todo = Vec::new();
        self.registrar.step(self.at(ms), input, &mut todo);
        todo
    }

    /// Everything sent until `ms`, each with the time it was due, nobody answering.
    fn run_until(&mut self, ms: u64) -> Vec<(u64, MapRegister)> {
        let mut sent = Vec::new();
        while let Some(due) = self.registrar.due().filter(|due| *due <= self.at(ms)) {
            let at = due.duration_since(self.start).as_millis() as u64;
            sent.extend(registers(&self.step(at, Input::Wake)).into_iter().map(|register| (at, register)));
        }
        sent
    }

    fn standing(&self) -> Standing {
        self.registrar.servers().next().unwrap().standing
    }
}

/// The Map-Registers among outputs, each verified.
fn registers(todo: &[Output]) -> Vec<MapRegister> {
    let sent = todo.iter().filter_map(|output| match output {
        Output::Send { octets, .. } => Some(octets),
        _ => None,
    });
    sent.map(|octets| match Message::parse(octets) {
        Ok(Message::MapRegister(register)) => {
            register.verify(octets, &[key(1, b"one")]).unwrap();
            register
        }
        other => panic!("{other:?}"),
    })
    .collect()
}

fn notify(nonce: u64, records: Vec<Mapping>, key: &Key) -> Input {
    let octets = MapNotify { nonce, records, ..MapNotify::default() }.signed(key, Form::default());
    let Ok(Message::MapNotify(message)) = Message::parse(&octets) else { panic!("a Map-Notify") };
    Input::Notify { from: V4, message, octets }
}

fn answer(register: &MapRegister) -> Input {
    notify(register.nonce, register.records.clone(), &key(1, b"one"))
}

#[test]
fn rounds_are_quick_for_five_minutes_and_then_every_minute() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let mut rounds = Vec::new();
    while let Some(due) = stage.registrar.due().filter(|due| *due <= stage.at(3_600_000)) {
        let at = due.duration_since(stage.start).as_millis() as u64;
        for register in registers(&stage.step(at, Input::Wake)) {
            rounds.push((at / 1000, register.want_notify));
            if register.want_notify {
                stage.step(at, answer(&register));
            }
        }
    }
    let quick: Vec<_> = (0..15).map(|round| (round * 20, true)).collect();
    assert_eq!(rounds[..15], quick);
    let later: Vec<u64> = rounds[15..].iter().map(|(at, _)| *at).collect();
    assert_eq!(later, (0..56).map(|round| 300 + round * 60).collect::<Vec<_>>());
    let confirmed = rounds[15..].iter().filter(|(_, confirm)| *confirm).count();
    assert_eq!(confirmed, 12, "one in {CONFIRM_EVERY} of the later ones asks for a Map-Notify");
}

#[test]
fn an_unanswered_message_goes_again_with_a_new_nonce_after_1_2_4_and_at_last_60_seconds() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    stage.registrar.quick_until = stage.start;
    let sent = stage.run_until(200_000);
    let times: Vec<u64> = sent.iter().map(|(at, _)| at / 1000).collect();
    assert_eq!(
        times,
        [0, 1, 3, 7, 15, 31, 60, 92, 120, 180],
        "a round takes the retries' place and keeps their spacing"
    );
    let nonces: Vec<u64> = sent.iter().map(|(_, register)| register.nonce).collect();
    assert_eq!(nonces, (FIRST..FIRST + 10).collect::<Vec<_>>());
    assert!(sent.iter().all(|(_, register)| register.want_notify));
    assert_eq!(stage.standing(), Standing::Silent { since: stage.start });
}

#[test]
fn the_answer_to_a_retry_registers_and_ends_the_retries() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let sent = stage.run_until(1000);
    assert_eq!(sent.len(), 2);
    assert_eq!(stage.step(1200, answer(&sent[1].1)), [Output::Registered(V4)]);
    assert_eq!(stage.standing(), Standing::Registered { since: stage.at(1200) });
    assert_eq!(stage.step(1300, answer(&sent[1].1)), [Output::Drop(NotifyFault::Replayed)], "each nonce is good once");
    assert_eq!(stage.registrar.due(), Some(stage.at(20_000)));
    let lost = stage.run_until(22_000);
    assert_eq!(lost.len(), 2);
    assert!(matches!(stage.standing(), Standing::Registered { .. }), "one lost message is no loss");
    let todo: Vec<Output> = [23_000, 27_000].into_iter().flat_map(|ms| stage.step(ms, Input::Wake)).collect();
    assert!(todo.contains(&Output::Lost(V4)), "{todo:?}");
}

#[test]
fn records_are_authoritative_sorted_and_never_probed() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let sent = stage.run_until(0);
    let [record] = &sent[0].1.records[..] else { panic!("one record") };
    let addresses: Vec<IpAddr> = record.locators.iter().map(|locator| locator.address).collect();
    assert!(record.authoritative && record.locators.iter().all(|locator| !locator.probed));
    assert_eq!(addresses, [IpAddr::from([240, 0, 254, 10]), [240, 0, 254, 20].into()]);
    assert!(!sent[0].1.merge && !sent[0].1.proxy && !sent[0].1.ttl_timeout);
}

#[test]
fn many_prefixes_go_in_messages_of_576_or_1280_octets() {
    let prefixes: Vec<String> = (0..60).map(|n| format!("10.{n}.0.0/16")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    for (address, limit) in [(V4, 548), ("2001:db8::2".parse().unwrap(), 1232)] {
        let mut stage = Stage::new(vec![server(address)], &prefixes);
        let todo = stage.step(0, Input::Wake);
        let sizes: Vec<usize> = todo
            .iter()
            .map(|output| match output {
                Output::Send { octets, .. } => octets.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(sizes.iter().all(|size| *size <= limit), "{sizes:?}");
        assert!(sizes[..sizes.len() - 1].iter().all(|size| *size > limit - 60), "{sizes:?} are not full");
        let mut told: Vec<EidPrefix> =
            registers(&todo).iter().flat_map(|register| register.records.iter().map(|record| record.eid)).collect();
        told.sort_unstable();
        let mut all: Vec<EidPrefix> = prefixes.iter().map(|prefix| eid(prefix)).collect();
        all.sort_unstable();
        assert_eq!(told, all);
    }
}

#[test]
fn it_is_registered_when_every_message_is_confirmed_and_partly_when_a_prefix_is_left_out() {
    let prefixes: Vec<String> = (0..60).map(|n| format!("10.{n}.0.0/16")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let mut stage = Stage::new(vec![server(V4)], &prefixes);
    let sent = registers(&stage.step(0, Input::Wake));
    let (last, others) = sent.split_last().unwrap();
    for register in others {
        assert_eq!(stage.step(10, answer(register)), []);
    }
    let mut fewer = last.records.clone();
    fewer.pop();
    assert_eq!(stage.step(20, notify(last.nonce, fewer, &key(1, b"one"))), []);
    assert_eq!(stage.standing(), Standing::Partial { refused: 1 });
    let sent = registers(&stage.step(20_000, Input::Wake));
    let outputs: Vec<Output> = sent.iter().flat_map(|register| stage.step(20_010, answer(register))).collect();
    assert_eq!(outputs, [Output::Registered(V4)]);
}

#[test]
fn what_is_not_proved_changes_nothing_but_says_that_keys_differ() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let sent = stage.run_until(0).remove(0).1;
    let records = || sent.records.clone();
    let Input::Notify { message, octets, .. } = answer(&sent) else { unreachable!("answer makes one") };
    let stranger = Input::Notify { from: [9, 9, 9, 9].into(), message, octets };
    assert_eq!(stage.step(1, stranger), [Output::Drop(NotifyFault::Stranger)]);
    let wrong = notify(sent.nonce, records(), &key(1, b"two"));
    assert_eq!(stage.step(2, wrong), [Output::Drop(NotifyFault::Mac)]);
    assert_eq!(stage.standing(), Standing::WrongKey { since: stage.at(2) });
    let unknown = notify(sent.nonce, records(), &key(7, b"one"));
    assert_eq!(stage.step(3, unknown), [Output::Drop(NotifyFault::UnknownKey)]);
    assert_eq!(stage.step(4, answer(&sent)), [Output::Registered(V4)]);
}

#[test]
fn news_of_the_map_server_is_acknowledged_once_and_an_ack_never() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    stage.run_until(0);
    let news = || notify(77, vec![mapping("1.1.0.0/16")], &key(1, b"one"));
    let [Output::Send { to: V4, octets }] = &stage.step(1, news())[..] else { panic!("one Map-Notify-Ack") };
    let Ok(Message::MapNotify(ack)) = Message::parse(octets) else { panic!("{octets:?}") };
    assert_eq!((ack.ack, ack.nonce), (true, 77));
    assert!(ack.verify(octets, &[key(1, b"one")]).is_ok());
    assert_eq!(stage.step(2, news()), [Output::Drop(NotifyFault::Replayed)]);
    let ack = Input::Notify { from: V4, message: ack, octets: octets.clone() };
    assert_eq!(stage.step(3, ack), [Output::Drop(NotifyFault::Ack)]);
}

#[test]
fn a_key_may_be_changed_without_a_gap() {
    let both = MapServer { keys: vec![key(1, b"one"), key(2, b"two")], ..server(V4) };
    let mut stage = Stage::new(vec![both], &["1.1.0.0/16"]);
    let sent = stage.run_until(0).remove(0).1;
    assert_eq!(stage.step(1, notify(sent.nonce, sent.records, &key(2, b"two"))), [Output::Registered(V4)]);
}

#[test]
fn a_change_withdraws_what_is_gone_and_registers_the_rest_at_once() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16", "1.2.0.0/16"]);
    let sent = stage.run_until(0).remove(0).1;
    stage.step(1, answer(&sent));
    let todo = stage.step(400_000, Input::Change(vec![mapping("1.2.0.0/16"), mapping("1.3.0.0/16")]));
    let told: Vec<(Vec<EidPrefix>, bool, bool)> = registers(&todo)
        .iter()
        .map(|register| {
            let gone = register.records.iter().all(|record| record.ttl == Ttl::Remove);
            (register.records.iter().map(|record| record.eid).collect(), gone, register.ttl_timeout)
        })
        .collect();
    let (gone, kept) = (vec![eid("1.1.0.0/16")], vec![eid("1.2.0.0/16"), eid("1.3.0.0/16")]);
    assert_eq!(told, [(gone, true, true), (kept, false, false)]);
}

#[test]
fn a_stop_withdraws_everything_from_everyone_and_is_the_end() {
    let v6: IpAddr = "2001:db8::2".parse().unwrap();
    let mut stage = Stage::new(vec![server(V4), server(v6)], &["1.1.0.0/16"]);
    stage.run_until(0);
    let told = registers(&stage.step(5, Input::Stop));
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|register| register.records[0].ttl == Ttl::Remove && register.nonce > FIRST + 1));
    assert_eq!(stage.registrar.due(), None);
}
