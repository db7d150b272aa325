//! Stories with time: a registrar, and Map-Servers that answer or not.

use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator};

use super::*;
use crate::wire::{Algorithm, AuthenticationError, Message};

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
        let settings = Settings {
            servers,
            database,
            xtr: None,
            security: false,
            first_nonce: FIRST,
            secret: [9; 16],
            way: Way::Direct,
        };
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

    fn status(&self) -> ServerStatus {
        self.registrar.server(V4).unwrap()
    }

    /// How things stand, and since when, ms.
    fn standing(&self) -> (Standing, u64) {
        let status = self.status();
        (status.standing, status.since.duration_since(self.start).as_millis() as u64)
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
    Input::Notify { from: V4, delivered: false, message, octets }
}

/// What tells that things stand otherwise now.
const fn stands(standing: Standing) -> Output {
    Output::Stands { server: V4, standing }
}

fn answer(register: &MapRegister) -> Input {
    notify(register.nonce, register.records.clone(), &key(1, b"one"))
}

/// ETR-20, ETR-23: every 20 s and each confirmed for five minutes, then every minute and one in five confirmed.
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

/// ETR-22, ETR-20: each with a nonce of its own, greater than the last.
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
    assert!(nonces.len() == 10 && nonces[0] >= FIRST && nonces.is_sorted_by(|a, b| a < b), "{nonces:x?}");
    assert!(sent.iter().all(|(_, register)| register.want_notify));
    assert_eq!(stage.standing(), (Standing::Silent, 3000), "after two retries");
}

/// ETR-22, ETR-26: the answer ends the retries, whichever of the nonces it names, and is good once.
#[test]
fn the_answer_to_a_retry_registers_and_ends_the_retries() {
    for slow in [false, true] {
        let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
        let sent = stage.run_until(1000);
        assert_eq!(sent.len(), 2);
        let answered = &sent[usize::from(!slow)].1;
        assert_eq!(stage.step(1200, answer(answered)), [stands(Standing::Registered)], "slow: {slow}");
        assert_eq!(stage.standing(), (Standing::Registered, 1200));
        for register in [&sent[0].1, &sent[1].1] {
            assert_eq!(stage.step(1300, answer(register)), [Output::Drop(NotifyFault::Replayed)]);
        }
        assert_eq!(stage.registrar.due(), Some(stage.at(20_000)));
    }
}

#[test]
fn two_retries_without_an_answer_put_in_doubt_what_was_confirmed() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let sent = stage.run_until(0).remove(0).1;
    stage.step(100, answer(&sent));
    let again = stage.run_until(21_500);
    assert_eq!(again.len(), 2);
    assert_eq!(stage.standing(), (Standing::Registered, 100), "one lost message is no loss");
    let todo = stage.step(23_000, Input::Wake);
    assert_eq!(todo[1..], [stands(Standing::Silent)]);
    let status = stage.status();
    assert_eq!(status.prefixes, [(eid("1.1.0.0/16"), PrefixStanding::Silent, stage.at(23_000))]);
    let reason = status.reason(Circumstances::default()).unwrap();
    assert_eq!(reason.what, "nothing comes back any more");
    let last = registers(&todo).remove(0);
    assert_eq!(stage.step(23_100, answer(&last)), [stands(Standing::Registered)]);
}

/// ETR-25, ETR-28: no locator is marked as probed, and nothing is merged that was not told to be.
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

/// G-5: the whole packet is within 576 and 1280 octets.
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
    assert_eq!(stage.standing(), (Standing::Waiting, 0));
    let mut fewer = last.records.clone();
    fewer.pop();
    let partial = Standing::Partial { refused: 1, silent: 0 };
    assert_eq!(stage.step(20, notify(last.nonce, fewer, &key(1, b"one"))), [stands(partial)]);
    let refused: Vec<EidPrefix> = {
        let prefixes = stage.status().prefixes.into_iter();
        prefixes.filter(|(_, standing, _)| *standing == PrefixStanding::Refused).map(|(eid, ..)| eid).collect()
    };
    assert_eq!(refused, [eid("10.59.0.0/16")]);
    let reason = stage.status().reason(Circumstances::default()).unwrap();
    assert_eq!(reason.what, "it refuses 10.59.0.0/16");
    let sent = registers(&stage.step(20_000, Input::Wake));
    let outputs: Vec<Output> = sent.iter().flat_map(|register| stage.step(20_010, answer(register))).collect();
    assert_eq!(outputs, [stands(Standing::Registered)]);
    assert_eq!(stage.status().reason(Circumstances::default()), None);
}

/// A message that is lost again and again says nothing of the others, and its news is told once.
#[test]
fn one_message_that_is_never_answered_leaves_the_others_registered() {
    let prefixes: Vec<String> = (0..30).map(|n| format!("10.{n}.0.0/16")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let mut stage = Stage::new(vec![server(V4)], &prefixes);
    let mut news = Vec::new();
    while let Some(due) = stage.registrar.due().filter(|due| *due <= stage.at(900_000)) {
        let ms = due.duration_since(stage.start).as_millis() as u64;
        let todo = stage.step(ms, Input::Wake);
        for register in registers(&todo).iter().filter(|register| register.records[0].eid == eid("10.0.0.0/16")) {
            news.extend(stage.step(ms, answer(register)));
        }
        news.extend(todo.into_iter().filter(|output| matches!(output, Output::Stands { .. })));
    }
    let registered = |(_, standing, _): &&(EidPrefix, PrefixStanding, Instant)| *standing == PrefixStanding::Registered;
    let status = stage.status();
    let answered = status.prefixes.iter().filter(registered).count();
    assert!(answered > 0 && answered < 30);
    let [Output::Stands { standing: Standing::Partial { refused: 0, .. }, .. }] = &news[..] else { panic!("{news:?}") };
    assert_eq!(status.standing, Standing::Partial { refused: 0, silent: 30 - answered });
    let reason = status.reason(Circumstances::default()).unwrap().what;
    assert!(reason.starts_with("it gives no answer for 10.1") && reason.contains(" more"), "{reason}");
}

/// ETR-26: address, key and MAC first; what fails changes nothing.
#[test]
fn what_is_not_proved_changes_nothing_but_says_that_keys_differ() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let sent = stage.run_until(0).remove(0).1;
    let records = || sent.records.clone();
    let Input::Notify { message, octets, .. } = answer(&sent) else { unreachable!("answer makes one") };
    let stranger = Input::Notify { from: [9, 9, 9, 9].into(), delivered: false, message, octets };
    assert_eq!(stage.step(1, stranger), [Output::Drop(NotifyFault::Stranger)]);
    let wrong = notify(sent.nonce, records(), &key(1, b"two"));
    let told = Standing::WrongKey(AuthenticationError::Mac);
    assert_eq!(stage.step(2, wrong.clone()), [stands(told), Output::Drop(NotifyFault::Mac)]);
    assert_eq!(stage.standing(), (told, 2));
    let unknown = notify(sent.nonce, records(), &key(7, b"one"));
    assert_eq!(stage.step(3, unknown), [Output::Drop(NotifyFault::UnknownKey)], "not news");
    let sha1 = notify(sent.nonce, records(), &Key::new(1, Algorithm::Sha1, b"one"));
    assert_eq!(stage.step(3, sha1), [Output::Drop(NotifyFault::Mac)]);
    assert_eq!(stage.standing(), (Standing::WrongKey(AuthenticationError::Algorithm(1)), 2));
    assert_eq!(stage.step(4, answer(&sent)), [stands(Standing::Registered)]);
    // A forged one does not take away what was confirmed.
    assert_eq!(stage.step(5, wrong), [Output::Drop(NotifyFault::Mac)]);
    assert_eq!(stage.standing(), (Standing::Registered, 4));
}

/// ETR-26: only what answers nothing is acknowledged, and once more when it comes once more: the first thanks were lost.
#[test]
fn news_of_the_map_server_is_acknowledged_and_an_ack_never() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let sent = stage.run_until(0).remove(0).1;
    assert_eq!(stage.step(0, answer(&sent)), [stands(Standing::Registered)], "an answer is not acknowledged");
    let news = |nonce| notify(nonce, vec![mapping("1.1.0.0/16")], &key(1, b"one"));
    for ms in [1, 3001] {
        let [Output::Send { to: V4, through: None, octets }] = &stage.step(ms, news(77))[..] else {
            panic!("one Map-Notify-Ack")
        };
        let Ok(Message::MapNotify(ack)) = Message::parse(octets) else { panic!("{octets:?}") };
        assert_eq!((ack.ack, ack.nonce), (true, 77));
        assert!(ack.verify(octets, &[key(1, b"one")]).is_ok());
        let ack = Input::Notify { from: V4, delivered: false, message: ack, octets: octets.clone() };
        assert_eq!(stage.step(ms, ack), [Output::Drop(NotifyFault::Ack)]);
    }
    assert_eq!(stage.step(4000, news(76)), [Output::Drop(NotifyFault::Replayed)]);
}

#[test]
fn a_key_may_be_changed_without_a_gap() {
    let both = MapServer { keys: vec![key(1, b"one"), key(2, b"two")], ..server(V4) };
    let mut stage = Stage::new(vec![both], &["1.1.0.0/16"]);
    let sent = stage.run_until(0).remove(0).1;
    let answer = notify(sent.nonce, sent.records, &key(2, b"two"));
    assert_eq!(stage.step(1, answer), [stands(Standing::Registered)]);
}

#[test]
fn a_change_withdraws_what_is_gone_and_registers_the_rest_at_once() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16", "1.2.0.0/16"]);
    let sent = stage.run_until(0).remove(0).1;
    stage.step(1, answer(&sent));
    stage.run_until(400_000 - 1);
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

/// A prefix that others take the place of is there until they are: nobody who asks meanwhile hears that there is none.
#[test]
fn what_is_replaced_is_withdrawn_behind_what_replaces_it() {
    let mut stage = Stage::new(vec![server(V4)], &["1.0.0.0/8", "2.1.0.0/16", "9.0.0.0/8"]);
    let told = |todo: &[Output]| -> Vec<(Vec<EidPrefix>, bool)> {
        let gone = |register: &MapRegister| register.records.iter().all(|record| record.ttl == Ttl::Remove);
        let eids = |register: &MapRegister| register.records.iter().map(|record| record.eid).collect();
        registers(todo).iter().map(|register| (eids(register), gone(register))).collect()
    };
    let eids = |list: &[&str]| list.iter().map(|text| eid(text)).collect::<Vec<_>>();
    let sent = stage.run_until(0).remove(0).1;
    stage.step(1, answer(&sent));
    // One is cut in two, one becomes part of a wider one, one simply leaves.
    let cut = ["1.0.0.0/9", "1.128.0.0/9", "2.0.0.0/8"];
    let todo = stage.step(200, Input::Change(cut.map(mapping).to_vec()));
    assert_eq!(told(&todo), [(eids(&["9.0.0.0/8"]), true)]);
    let todo = stage.step(1000, Input::Wake);
    assert_eq!(told(&todo), [(eids(&cut), false), (eids(&["1.0.0.0/8", "2.1.0.0/16"]), true)]);

    // What comes back in time is not withdrawn, and an end withdraws what waited.
    stage.step(1100, Input::Change(vec![mapping("1.0.0.0/8"), mapping("2.0.0.0/8")]));
    stage.step(1200, Input::Change(vec![mapping("1.0.0.0/9"), mapping("1.0.0.0/8"), mapping("2.0.0.0/8")]));
    let todo = stage.step(1300, Input::Stop);
    let all: Vec<EidPrefix> =
        told(&todo).into_iter().flat_map(|(eids, gone)| if gone { eids } else { Vec::new() }).collect();
    assert_eq!(all, eids(&["1.0.0.0/9", "1.0.0.0/8", "2.0.0.0/8", "1.128.0.0/9"]));
}

/// ETR-24: a dead locator is registered as such at once, the others as they were.
#[test]
fn a_locator_that_goes_down_is_told_at_once() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16", "1.2.0.0/16"]);
    let sent = stage.run_until(0).remove(0).1;
    assert!(sent.records.iter().all(|record| record.locators.iter().all(|locator| locator.reachable)));
    stage.step(1, answer(&sent));
    let mut changed = mapping("1.1.0.0/16");
    changed.locators[0].reachable = false;
    let todo = stage.step(5000, Input::Change(vec![changed, mapping("1.2.0.0/16")]));
    let told = registers(&todo).remove(0);
    let up = |index: usize| -> Vec<(IpAddr, bool)> {
        let locators = told.records[index].locators.iter();
        locators.map(|locator| (locator.address, locator.reachable)).collect()
    };
    let [first, second] = [IpAddr::from([240, 0, 254, 10]), [240, 0, 254, 20].into()];
    assert_eq!(up(0), [(first, true), (second, false)]);
    assert_eq!(up(1), [(first, true), (second, true)]);
    let standings: Vec<PrefixStanding> = stage.status().prefixes.iter().map(|(_, standing, _)| *standing).collect();
    assert_eq!(standings, [PrefixStanding::Waiting, PrefixStanding::Registered]);
}

#[test]
fn a_locator_that_flaps_is_told_once_a_second() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    stage.run_until(0);
    let mut sent = 0;
    for ms in (10..2000).step_by(10) {
        let mut flapping = mapping("1.1.0.0/16");
        flapping.locators[0].reachable = ms % 20 == 0;
        sent += registers(&stage.step(ms, Input::Change(vec![flapping]))).len();
    }
    assert_eq!((sent, stage.registrar.due()), (1, Some(stage.at(2000))));
    let last = stage.run_until(2000).remove(0).1;
    assert!(!last.records[0].locators[1].reachable, "the last state is told");
}

/// ETR-28: with merge each xTR tells its own locators alone.
#[test]
fn with_merge_the_bit_is_set_and_only_our_own_locators_are_told() {
    let merging = MapServer { merge: true, proxy: true, ..server(V4) };
    let mut stage = Stage::new(vec![merging], &["1.1.0.0/16"]);
    stage.registrar.database[0].locators[0].local = true;
    let register = stage.run_until(0).remove(0).1;
    assert!(register.merge && register.proxy);
    let told: Vec<IpAddr> = register.records[0].locators.iter().map(|locator| locator.address).collect();
    assert_eq!(told, [IpAddr::from([240, 0, 254, 10])]);
}

/// ETR-27: with Record TTL 0 and the T bit, authenticated and with nonces like any other.
#[test]
fn a_stop_withdraws_everything_from_everyone_and_is_the_end() {
    let v6: IpAddr = "2001:db8::2".parse().unwrap();
    let mut stage = Stage::new(vec![server(V4), server(v6)], &["1.1.0.0/16"]);
    let last = stage.run_until(0).iter().map(|(_, register)| register.nonce).max().unwrap();
    let told = registers(&stage.step(5, Input::Stop));
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|register| register.records[0].ttl == Ttl::Remove && register.nonce > last));
    assert!(told.iter().all(|register| register.ttl_timeout && !register.want_notify));
    assert_eq!(stage.registrar.due(), None);
}

/// Every way not to be registered has its words, and the words name what the operator must compare.
#[test]
fn each_standing_says_why_and_what_to_do() {
    let stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let now = stage.start;
    let with = |standing, confirmed, prefixes: &[(&str, PrefixStanding)]| ServerStatus {
        standing,
        sent: 3,
        confirmed,
        prefixes: prefixes.iter().map(|(prefix, standing)| (eid(prefix), *standing, now)).collect(),
        ..stage.status()
    };
    let wrong = |error| with(Standing::WrongKey(error), 0, &[]);
    let by = |way, standing| ServerStatus { way, ..with(standing, 0, &[]) };
    let plain = Circumstances::default();
    let no_route = Circumstances { not_sent: Some("Network is unreachable"), ..plain };
    let by_clock = Circumstances { nonces_by_clock: true, ..plain };
    let ten: Vec<String> = (0..10).map(|n| format!("10.{n}.0.0/16")).collect();
    let ten: Vec<_> = ten.iter().map(|prefix| (prefix.as_str(), PrefixStanding::Refused)).collect();
    let lost = [("1.1.0.0/16", PrefixStanding::Registered), ("1.2.0.0/16", PrefixStanding::Silent)];
    for (status, circumstances, what, remedy) in [
        (with(Standing::Waiting, 0, &[]), plain, "its answer is not there yet", "again after 1, 2, 4 … 60 s"),
        (with(Standing::Silent, 0, &[]), plain, "nothing came back for 3 messages", "UDP 4342 passes"),
        (by(Way::Held, Standing::Waiting), plain, "whether a NAT is between us", "UDP 4342 passes"),
        (by(Way::Stranded, Standing::Waiting), plain, "no Map-Server names an RTR", "[[nat.relay]]"),
        (by(relay(30), Standing::Silent), plain, "nothing came back", "the RTR 240.0.254.60 runs and relays"),
        (with(Standing::Silent, 0, &[]), plain, "nothing", "Key ID 1, algorithm sha256 and the same secret"),
        (with(Standing::Silent, 0, &[]), by_clock, "nothing", "that the clock here was not set back"),
        (with(Standing::Silent, 1, &[]), plain, "nothing comes back any more", "see that it runs"),
        (with(Standing::Silent, 0, &[]), no_route, "not sent: Network is unreachable", "ip route get 240.0.254.2"),
        (
            wrong(AuthenticationError::UnknownKey(7)),
            plain,
            "with Key ID 7, which is not ours (Key ID 1)",
            "id = 7 here",
        ),
        (wrong(AuthenticationError::Algorithm(1)), plain, "algorithm 1, and our key is for sha256", "1 is sha1"),
        (wrong(AuthenticationError::Length(5)), plain, "5 octets of authentication data", "what its software sends"),
        (wrong(AuthenticationError::Mac), plain, "with another secret", "the same secret at both ends"),
        (
            with(Standing::Partial { refused: 10, silent: 0 }, 1, &ten),
            plain,
            "it refuses 10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16, 10.5.0.0/16, 10.6.0.0/16, \
             10.7.0.0/16 and 2 more",
            "more-specifics",
        ),
        (
            with(Standing::Partial { refused: 0, silent: 1 }, 1, &lost),
            plain,
            "it gives no answer for 1.2.0.0/16",
            "lost on the way",
        ),
    ] {
        let reason = status.reason(circumstances).unwrap();
        assert!(reason.what.contains(what), "{what} is not in {}", reason.what);
        assert!(reason.remedy.contains(remedy), "{remedy} is not in {}", reason.remedy);
    }
    assert_eq!(with(Standing::Registered, 1, &[]).reason(no_route), None);
}

const RTR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(240, 0, 254, 60));

fn relay(seconds: u64) -> Way {
    let hidden = vec![[240, 0, 254, 10].into()];
    Way::Relayed(Relay { rtr: RTR, hidden, every: Duration::from_secs(seconds) })
}

/// What is sent, and the RTR that it goes through.
fn through(todo: &[Output]) -> Vec<Option<IpAddr>> {
    let sent = todo.iter().filter_map(|output| match output {
        Output::Send { through, .. } => Some(*through),
        _ => None,
    });
    sent.collect()
}

/// RTR-3: P, M and I; the RTR as a locator with R, ours without where a NAT hides it. The others stay as they are.
#[test]
fn behind_a_nat_the_mapping_names_the_rtr() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    stage.registrar.xtr = Some(XtrIdentity { xtr_id: [7; 16], site_id: 9 });
    let todo = stage.step(0, Input::Way(relay(30)));
    assert_eq!(through(&todo), [Some(RTR)]);
    let [register] = &registers(&todo)[..] else { panic!("one Map-Register") };
    assert!(register.proxy && register.want_notify);
    assert_eq!(register.xtr.map(|xtr| xtr.site_id), Some(9));
    let locators: Vec<_> = register.records[0]
        .locators
        .iter()
        .map(|locator| (locator.address.to_string(), locator.priority, locator.reachable))
        .collect();
    let seen = |address: &str, reachable| (address.to_owned(), 1, reachable);
    assert_eq!(locators, [seen("240.0.254.10", false), seen("240.0.254.20", true), seen("240.0.254.60", true)]);
    // A Map-Server that merges is told of ours and of the RTR, not of the site's other xTRs.
    let mut stage = Stage::new(vec![MapServer { merge: true, ..server(V4) }], &["1.1.0.0/16"]);
    stage.registrar.database[0].locators[0].local = true;
    let told = registers(&stage.step(0, Input::Way(relay(30))));
    let told: Vec<_> = told[0].records[0].locators.iter().map(|locator| locator.address.to_string()).collect();
    assert_eq!(told, ["240.0.254.10", "240.0.254.60"]);
}

/// RTR-11: what keeps the binding comes as often as it is told, from the first message on, and is confirmed each time.
#[test]
fn behind_a_nat_rounds_are_as_often_as_the_binding_needs() {
    for seconds in [7, 30, 120] {
        let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
        let mut todo = stage.step(0, Input::Way(relay(seconds)));
        for round in 0..5 {
            let at = round * seconds * 1000;
            let [register] = &registers(&todo)[..] else { panic!("one Map-Register") };
            assert!(register.want_notify);
            stage.step(at + 1, answer(register));
            let due = stage.registrar.due().unwrap().duration_since(stage.start).as_millis() as u64;
            assert_eq!(due, at + seconds * 1000);
            todo = stage.step(due, Input::Wake);
        }
    }
}

/// RTR-8: an RTR that nothing comes back through is known by it, after two retries.
#[test]
fn silence_behind_a_nat_is_told() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let register = registers(&stage.step(0, Input::Way(relay(30)))).remove(0);
    stage.step(10, answer(&register));
    assert_eq!(stage.standing().0, Standing::Registered);
    stage.run_until(32_999);
    assert_eq!(stage.standing().0, Standing::Registered);
    stage.run_until(33_000);
    assert_eq!(stage.standing(), (Standing::Silent, 33_000));
    // Another way begins anew, and a withdrawal goes it too.
    let other = Way::Relayed(Relay { rtr: V4, hidden: Vec::new(), every: INTERVAL });
    let todo = stage.step(40_000, Input::Way(other.clone()));
    assert_eq!((through(&todo), stage.standing().0), (vec![Some(V4)], Standing::Waiting));
    assert_eq!(stage.step(40_001, Input::Way(other)), [], "it is the same");
    let todo = stage.step(40_002, Input::Stop);
    assert_eq!((through(&todo), registers(&todo)[0].records[0].ttl), (vec![Some(V4)], Ttl::Remove));
}

/// RTR-8: an RTR that falls silent is known by that, whoever pretends to be the Map-Server elsewhere meanwhile; what is wrong through it
/// is a reason of its own.
#[test]
fn what_comes_past_the_rtr_says_nothing_of_it() {
    for (delivered, standing) in [(false, Standing::Silent), (true, Standing::WrongKey(AuthenticationError::Mac))] {
        let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
        let register = registers(&stage.step(0, Input::Way(relay(30)))).remove(0);
        stage.step(10, answer(&register));
        let Input::Notify { from, message, octets, .. } = notify(1, Vec::new(), &key(1, b"two")) else {
            unreachable!()
        };
        let forged = Input::Notify { from, delivered, message, octets };
        assert_eq!(stage.step(29_000, forged), [Output::Drop(NotifyFault::Mac)]);
        stage.run_until(33_000);
        assert_eq!(stage.standing(), (standing, 33_000));
    }
}

/// RTR-8, RTR-11: however often a round comes, silence is known by what was sent in three seconds of it, and one answer ends it.
#[test]
fn silence_is_known_however_short_a_round_is() {
    for (seconds, silent_at) in [(1, 4000), (2, 6000), (3, 6000), (30, 33_000), (120, 123_000)] {
        let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
        let register = registers(&stage.step(0, Input::Way(relay(seconds)))).remove(0);
        stage.step(10, answer(&register));
        stage.run_until(silent_at + 1000);
        assert_eq!(stage.standing(), (Standing::Silent, silent_at), "each {seconds} s");
        let again = registers(&stage.step(silent_at + 200_000, Input::Wake)).remove(0);
        assert_eq!(stage.step(silent_at + 200_001, answer(&again)), [stands(Standing::Registered)]);
        // One that is lost is no loss.
        stage.run_until(silent_at + 200_000 + seconds * 1000);
        assert_eq!(stage.standing().0, Standing::Registered);
    }
}

/// A site that takes another RTR is reached by it minutes later, whatever its mappings' TTL.
#[test]
fn a_mapping_that_names_an_rtr_is_kept_for_minutes() {
    for (ttl, told) in [
        (Ttl::Minutes(1440), Ttl::Minutes(3)),
        (Ttl::Minutes(2), Ttl::Minutes(2)),
        (Ttl::ReceiverDecides, Ttl::Minutes(3)),
    ] {
        let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
        stage.registrar.database[0].ttl = ttl;
        assert_eq!(stage.run_until(0)[0].1.records[0].ttl, ttl, "without an RTR it is ours to say");
        let todo = stage.step(1000, Input::Way(relay(30)));
        assert_eq!(registers(&todo)[0].records[0].ttl, told);
    }
}

/// RTR-8: the RTR hears of a withdrawal too, by the Map-Server's answer, which is no fault and no registration.
#[test]
fn what_is_withdrawn_through_an_rtr_is_withdrawn_at_the_rtr() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16", "1.2.0.0/16"]);
    let register = registers(&stage.step(0, Input::Way(relay(30)))).remove(0);
    stage.step(10, answer(&register));
    let confirmed = stage.registrar.confirmed();
    let todo = stage.step(2000, Input::Change(vec![mapping("1.2.0.0/16")]));
    let gone = registers(&todo).remove(0);
    assert_eq!((gone.records[0].ttl, gone.want_notify), (Ttl::Remove, true));
    assert_eq!(stage.step(2010, answer(&gone)), []);
    assert_eq!(stage.registrar.confirmed(), confirmed);
    assert_eq!(stage.step(2020, answer(&gone)), [Output::Drop(NotifyFault::Replayed)], "once");
    let todo = stage.step(2030, Input::Stop);
    assert!(registers(&todo)[0].want_notify);
}

/// RTR-8: what was captured before our start proves who signed it, and nothing of whether anybody hears us now.
#[test]
fn an_answer_of_an_earlier_run_confirms_nothing() {
    let mut stage = Stage::new(vec![server(V4)], &["1.1.0.0/16"]);
    let register = registers(&stage.step(0, Input::Way(relay(30)))).remove(0);
    let old = notify(FIRST - 1, register.records.clone(), &key(1, b"one"));
    assert!(matches!(stage.step(10, old)[..], [Output::Send { .. }]), "it may be news, and is thanked for");
    assert_eq!((stage.registrar.confirmed(), stage.standing().0), (0, Standing::Waiting));
    stage.step(20, answer(&register));
    assert_eq!((stage.registrar.confirmed(), stage.standing().0), (1, Standing::Registered));
}

/// RTR-2: as long as nobody knows whether there is a NAT nothing is told, not even that something is gone.
#[test]
fn what_is_held_back_is_told_later() {
    let start = Instant::now();
    let settings = Settings {
        servers: vec![server(V4)],
        database: vec![mapping("1.1.0.0/16")],
        xtr: None,
        security: false,
        first_nonce: FIRST,
        secret: [9; 16],
        way: Way::Held,
    };
    let mut stage = Stage { registrar: Registrar::new(settings, start), start };
    assert_eq!(stage.registrar.due(), None);
    assert_eq!(stage.step(0, Input::Wake), []);
    assert_eq!(through(&stage.step(1, Input::Change(vec![mapping("1.2.0.0/16")]))), []);
    let first = stage.registrar.nonce();
    assert!(first >= FIRST, "for the question whether there is one");
    let todo = stage.step(2, Input::Way(Way::Direct));
    assert!(through(&todo) == [None] && registers(&todo)[0].nonce > first);
    stage.step(3, Input::Way(Way::Held));
    assert_eq!(stage.step(4, Input::Stop), []);
}

/// RTR-3: with all that is around it, a message stays within what every path carries.
#[test]
fn behind_a_nat_messages_leave_room_for_what_is_around_them() {
    let prefixes: Vec<String> = (0..100).map(|third| format!("1.1.{third}.0/24")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let mut stage = Stage::new(vec![server(V4)], &prefixes);
    let todo = stage.step(0, Input::Way(relay(30)));
    let sizes = todo.iter().filter_map(|output| match output {
        Output::Send { octets, .. } => Some(octets.len()),
        _ => None,
    });
    // Outer IP and UDP, the ECM's word, inner IP and UDP.
    let largest = sizes.map(|size| 20 + 8 + 4 + 20 + 8 + size).max().unwrap();
    assert!((450..=576).contains(&largest), "{largest}");
    let told: usize = registers(&todo).iter().map(|register| register.records.len()).sum();
    assert_eq!(told, 100);
}
