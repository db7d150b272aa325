//! Stories with time: a site, Map-Servers that tell what they see, and RTRs.

use altitude_dataplane::mapping::{Action, InstanceId, Mapping, Ttl};

use super::*;
use crate::wire::{Algorithm, Form, Key, XtrIdentity, packet::UdpPacket};

const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 100));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 101));
const NAT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));
const RTR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 200));
const RTR2: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 201));
const XTR_ID: [u8; 16] = [9; 16];
const KEEPALIVE: Duration = Duration::from_secs(30);
const PORT: u16 = 50_123;

fn key() -> Key {
    Key::new(1, Algorithm::Sha256, b"of the site")
}

fn eid() -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: "1.1.0.0/16".parse().unwrap() }
}

/// A site, a clock that starts at 0, and a counter of nonces.
struct Stage {
    site: Site,
    start: Instant,
    nonce: u64,
}

impl Stage {
    fn new(rlocs: &[IpAddr], servers: &[IpAddr]) -> Self {
        let server = |address: &IpAddr| MapServer {
            address: *address,
            keys: vec![key()],
            form: Form::default(),
            proxy: false,
            merge: false,
        };
        let settings = Settings {
            rlocs: rlocs.to_vec(),
            servers: servers.iter().map(server).collect(),
            eid: Some(eid()),
            xtr_id: XTR_ID,
            keepalive: KEEPALIVE,
            port: PORT,
        };
        let start = Instant::now();
        Self { site: Site::new(settings, start), start, nonce: 0 }
    }

    fn step(&mut self, ms: u64, input: Input<'_>) -> Vec<Output> {
        let mut todo = Vec::new();
        let mut nonce = || {
            self.nonce += 1;
            self.nonce
        };
        self.site.step(self.start + Duration::from_millis(ms), input, &mut nonce, &mut todo);
        todo
    }

    /// What is asked until `ms`, each with the time it was due, nobody answering; and all else that is to be done.
    fn run_until(&mut self, ms: u64) -> (Vec<(u64, Info)>, Vec<Output>) {
        let (mut asked, mut rest) = (Vec::new(), Vec::new());
        while let Some(due) = self.site.due().filter(|due| *due <= self.start + Duration::from_millis(ms)) {
            let at = due.duration_since(self.start).as_millis() as u64;
            for output in self.step(at, Input::Wake) {
                match output {
                    Output::Ask { octets, .. } => asked.push((at, question(&octets))),
                    other => rest.push(other),
                }
            }
        }
        (asked, rest)
    }

    /// An Info-Reply to the last question.
    fn told(&mut self, ms: u64, from: IpAddr, local: IpAddr, reply: Translation) -> Vec<Output> {
        let octets = self.reply(self.nonce, reply, &key());
        self.hear(ms, from, local, &octets)
    }

    fn reply(&self, nonce: u64, reply: Translation, key: &Key) -> Vec<u8> {
        Info { nonce, authentication: Default::default(), ttl: 5, eid: eid(), reply: Some(reply) }
            .signed(key, Form::default())
    }

    fn hear(&mut self, ms: u64, from: IpAddr, local: IpAddr, octets: &[u8]) -> Vec<Output> {
        let Ok(Message::Info(message)) = Message::parse(octets) else { panic!("an Info-Reply") };
        self.step(ms, Input::Info { local, from, message, octets })
    }
}

fn question(octets: &[u8]) -> Info {
    let Ok(Message::Info(info)) = Message::parse(octets) else { panic!("an Info-Request") };
    info.verify(octets, &[key()]).expect("our key");
    info
}

fn seen(etr: IpAddr, etr_port: u16, rtrs: &[IpAddr]) -> Translation {
    let rtrs = rtrs.to_vec();
    Translation { map_server_port: 4342, etr_port, etr, map_server: Some(SERVER), private_etr: None, rtrs }
}

fn relayed(rtr: IpAddr) -> Output {
    Output::Way(Way::Relayed(Relay { rtr, hidden: vec![OURS], every: KEEPALIVE }))
}

/// A Data-Map-Notify of the Map-Server's for an xTR.
fn data_map_notify(xtr_id: [u8; 16]) -> Vec<u8> {
    let xtr = Some(XtrIdentity { xtr_id, site_id: 0 });
    let records = vec![Mapping::negative(eid(), Ttl::Minutes(1), Action::NoAction)];
    let notify = MapNotify { nonce: 7, records, xtr, ..MapNotify::default() }.signed(&key(), Form::default());
    in_data(SocketAddr::new(SERVER, 4342), 4342, &notify)
}

fn in_data(source: SocketAddr, to: u16, payload: &[u8]) -> Vec<u8> {
    let destination = SocketAddr::new(OURS, to);
    crate::wire::data_map_notify::encode(&UdpPacket { source, destination, ttl: 64, payload }.encode())
}

/// RTR-2: from each RLOC each Map-Server of its family is asked, under its key, again and again.
#[test]
fn each_rloc_asks_each_map_server() {
    let v6: IpAddr = "2001:db8::2".parse().unwrap();
    let mut stage = Stage::new(&[OURS, v6], &[SERVER, OTHER]);
    let todo = stage.step(0, Input::Wake);
    let asked: Vec<(IpAddr, IpAddr)> = todo
        .iter()
        .map(|output| match output {
            Output::Ask { from, to, octets } => {
                assert_eq!((question(octets).eid, question(octets).reply), (eid(), None));
                (*from, *to)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked, [(OURS, SERVER), (OURS, OTHER)]);
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    let (asked, rest) = stage.run_until(130_000);
    let times: Vec<u64> = asked.iter().map(|(at, _)| at / 1000).collect();
    assert_eq!(times, [0, 1, 3, 7, 15, 31, 63, 123]);
    let nonces: Vec<u64> = asked.iter().map(|(_, info)| info.nonce).collect();
    assert_eq!(nonces, [1, 2, 3, 4, 5, 6, 7, 8], "each its own");
    assert_eq!(rest, [Output::Way(Way::Direct), Output::Stands(Standing::Open)], "nobody here speaks of NATs");
}

/// RTR-2: what the Map-Server saw is what was sent, so that there is no NAT.
#[test]
fn without_a_nat_all_is_as_ever() {
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    stage.step(0, Input::Wake);
    let todo = stage.told(50, SERVER, OURS, seen(OURS, 4342, &[RTR]));
    assert_eq!(todo, [Output::Way(Way::Direct), Output::Stands(Standing::Open)]);
    assert_eq!(stage.site.source_port(), None);
    // The registrar's news are of no concern, though an RTR is known.
    assert_eq!(stage.step(60, Input::Confirmed), []);
    assert_eq!(stage.step(61, Input::Silent), []);
    // The answer holds for its five minutes.
    assert_eq!(stage.run_until(300_049).0.len(), 0);
    assert_eq!(stage.run_until(300_050).0.len(), 1);
}

/// RTR-2, RTR-3, RTR-8, RTR-10: another address is a NAT, and so is another port.
#[test]
fn behind_a_nat_the_way_is_through_the_first_rtr() {
    for (etr, port) in [(NAT, 4342), (NAT, 20_001), (OURS, 20_001)] {
        let mut stage = Stage::new(&[OURS], &[SERVER]);
        stage.step(0, Input::Wake);
        let todo = stage.told(50, SERVER, OURS, seen(etr, port, &[RTR, RTR2]));
        assert_eq!(todo, [relayed(RTR), Output::Stands(Standing::Trying(RTR))]);
        assert_eq!((stage.site.source_port(), stage.site.rloc_towards(RTR)), (Some(PORT), Some(OURS)));
        let octets = data_map_notify(XTR_ID);
        let todo = stage.step(90, Input::Data { from: (RTR, 4342).into(), octets: &octets });
        let [Output::Notify { from: SERVER, message, octets }] = &todo[..] else { panic!("{todo:?}") };
        assert!(message.verify(octets, &[key()]).is_ok(), "it is what the Map-Server signed");
        // Nothing goes anywhere before the registrar believes it.
        let todo = stage.step(91, Input::Confirmed);
        assert_eq!(todo, [Output::Lead(Some(RTR)), Output::Stands(Standing::Behind(RTR))]);
        assert_eq!(stage.step(92, Input::Confirmed), []);
    }
}

/// RTR-8: what is for another xTR, not from our RTR or no Map-Notify is discarded, each counted.
#[test]
fn a_data_map_notify_is_for_us_and_from_our_rtr() {
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    stage.step(0, Input::Wake);
    let good = data_map_notify(XTR_ID);
    let rtr = SocketAddr::new(RTR, 4342);
    let data = |octets, from| Input::Data { from, octets };
    assert_eq!(stage.step(10, data(&good, rtr)), [Output::Drop(NatFault::Stranger)], "no RTR is known yet");
    stage.told(50, SERVER, OURS, seen(NAT, 4342, &[RTR]));
    let foreign = data_map_notify([8; 16]);
    let source = SocketAddr::new(SERVER, 4342);
    let nobody = MapNotify { nonce: 7, ..MapNotify::default() }.signed(&key(), Form::default());
    let (nobody, register) = (in_data(source, 4342, &nobody), in_data(source, 4342, &[0x30; 16]));
    let port = in_data(source, 4341, &good[8 + 28..]);
    let mut instance = good.clone();
    instance[6] ^= 1;
    let cut = good[..30].to_vec();
    for (octets, from, fault) in [
        (&good, SocketAddr::new(RTR2, 4342), NatFault::Stranger),
        (&foreign, rtr, NatFault::OtherXtr),
        (&nobody, rtr, NatFault::OtherXtr),
        (&register, rtr, NatFault::Malformed),
        (&port, rtr, NatFault::Malformed),
        (&instance, rtr, NatFault::Malformed),
        (&cut, rtr, NatFault::Malformed),
    ] {
        assert_eq!(stage.step(60, data(octets, from)), [Output::Drop(fault)]);
    }
    assert!(matches!(stage.step(61, data(&good, rtr))[..], [Output::Notify { .. }]));
}

/// An Info-Reply proves who sent it and answers a question; whatever does not changes nothing.
#[test]
fn only_the_answer_of_who_was_asked_counts() {
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    stage.step(0, Input::Wake);
    let nat = || seen(NAT, 4342, &[RTR]);
    let good = stage.reply(1, nat(), &key());
    let cases = [
        (stage.reply(99, nat(), &key()), SERVER, OURS, NatFault::Unasked),
        (good.clone(), OTHER, OURS, NatFault::Unasked),
        (good.clone(), SERVER, OTHER, NatFault::Unasked),
        (stage.reply(1, nat(), &Key::new(1, Algorithm::Sha256, b"another")), SERVER, OURS, NatFault::Mac),
        (stage.reply(1, nat(), &Key::new(1, Algorithm::Sha1, b"of the site")), SERVER, OURS, NatFault::Mac),
        (stage.reply(1, nat(), &Key::new(2, Algorithm::Sha256, b"x")), SERVER, OURS, NatFault::UnknownKey),
    ];
    for (octets, from, local, fault) in cases {
        assert_eq!(stage.hear(10, from, local, &octets), [Output::Drop(fault)]);
    }
    let question = Info { reply: None, ..question(&stage.reply(1, nat(), &key())) }.signed(&key(), Form::default());
    assert_eq!(stage.hear(10, SERVER, OURS, &question), [Output::Drop(NatFault::Unasked)], "a question is no answer");
    assert_eq!(stage.hear(11, SERVER, OURS, &good)[0], relayed(RTR));
    assert_eq!(stage.hear(12, SERVER, OURS, &good), [Output::Drop(NatFault::Unasked)], "it is good once");
}

/// RTR-8: no packet goes to an RTR that is silent; another takes over, and after the last one a pause.
#[test]
fn a_silent_rtr_gives_way_to_the_next() {
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    stage.step(0, Input::Wake);
    stage.told(50, SERVER, OURS, seen(NAT, 4342, &[RTR, RTR2]));
    stage.step(60, Input::Confirmed);
    let todo = stage.step(40_000, Input::Silent);
    assert_eq!(todo, [Output::Lead(None), relayed(RTR2), Output::Stands(Standing::Trying(RTR2))]);
    // The second is silent, too: the Map-Server is asked whether there is another, and the first tried again later.
    let todo = stage.step(43_000, Input::Silent);
    assert!(matches!(todo[..], [Output::Ask { .. }]), "{todo:?}");
    let (_, rest) = stage.run_until(72_999);
    assert_eq!(rest, []);
    let (_, rest) = stage.run_until(73_000);
    assert_eq!(rest, [relayed(RTR), Output::Stands(Standing::Trying(RTR))]);
    assert_eq!(stage.step(73_500, Input::Confirmed), [Output::Lead(Some(RTR)), Output::Stands(Standing::Behind(RTR))]);
    // One that the Map-Server names no more is left.
    stage.run_until(400_000);
    let todo = stage.told(400_001, SERVER, OURS, seen(NAT, 4342, &[RTR2]));
    assert_eq!(todo, [Output::Lead(None), relayed(RTR2), Output::Stands(Standing::Trying(RTR2))]);
    stage.run_until(800_000);
    let todo = stage.told(800_001, SERVER, OURS, seen(NAT, 4342, &[]));
    assert_eq!(todo, [Output::Way(Way::Stranded), Output::Stands(Standing::Stranded)]);
}

/// One that is named while the others are given a rest is tried at once, and then left alone.
#[test]
fn a_new_rtr_needs_no_rest() {
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    stage.step(0, Input::Wake);
    stage.told(50, SERVER, OURS, seen(NAT, 4342, &[RTR]));
    assert!(matches!(stage.step(3_050, Input::Silent)[..], [Output::Ask { .. }]));
    assert_eq!(stage.step(3_060, Input::Silent), [], "it rests already");
    let todo = stage.told(3_100, SERVER, OURS, seen(NAT, 4342, &[RTR2]));
    assert_eq!(todo, [relayed(RTR2), Output::Stands(Standing::Trying(RTR2))]);
    let (_, rest) = stage.run_until(200_000);
    assert_eq!(rest, []);
}

/// One that is named beside a dead one is tried, though the dead one stays named and the registrar told of its silence once.
#[test]
fn a_second_rtr_that_is_named_later_is_tried() {
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    stage.step(0, Input::Wake);
    stage.told(50, SERVER, OURS, seen(NAT, 4342, &[RTR]));
    assert!(matches!(stage.step(3_050, Input::Silent)[..], [Output::Ask { .. }]));
    stage.told(3_060, SERVER, OURS, seen(NAT, 4342, &[RTR]));
    // As long as nothing leads anywhere, the Map-Server is asked after each rest.
    let (asked, rest) = stage.run_until(63_050);
    assert_eq!(rest, []);
    assert!(asked.iter().any(|(at, _)| *at == 33_050) && asked.iter().any(|(at, _)| *at == 63_050), "{asked:?}");
    let todo = stage.told(63_060, SERVER, OURS, seen(NAT, 4342, &[RTR, RTR2]));
    assert_eq!(todo, [relayed(RTR2), Output::Stands(Standing::Trying(RTR2))]);
    let (_, rest) = stage.run_until(120_000);
    assert_eq!(rest, []);
    assert_eq!(stage.step(120_001, Input::Confirmed)[0], Output::Lead(Some(RTR2)));
}

/// A NAT comes and goes: what is told follows it.
#[test]
fn the_way_follows_what_is_seen() {
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    stage.step(0, Input::Wake);
    stage.told(50, SERVER, OURS, seen(OURS, 4342, &[]));
    stage.run_until(300_050);
    let todo = stage.told(300_060, SERVER, OURS, seen(NAT, 4342, &[RTR]));
    assert_eq!(todo, [relayed(RTR), Output::Stands(Standing::Trying(RTR))]);
    stage.step(300_070, Input::Confirmed);
    stage.run_until(600_060);
    let todo = stage.told(600_070, SERVER, OURS, seen(OURS, 4342, &[RTR]));
    assert_eq!(todo, [Output::Lead(None), Output::Way(Way::Direct), Output::Stands(Standing::Open)]);
    assert_eq!(stage.site.source_port(), None);
}

/// Nothing is asked for that could not be answered, and nothing subscribed to before it is known that it can be told.
#[test]
fn nothing_is_asked_from_behind_a_nat() {
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    let stands = |stage: &Stage| (stage.site.is_hidden(), stage.site.is_open());
    stage.step(0, Input::Wake);
    assert_eq!(stands(&stage), (false, false), "nobody knows yet");
    stage.told(50, SERVER, OURS, seen(NAT, 4342, &[]));
    assert_eq!(stands(&stage), (true, false), "no RTR is known");
    stage.run_until(300_050);
    stage.told(300_051, SERVER, OURS, seen(NAT, 4342, &[RTR]));
    assert_eq!(stands(&stage), (true, false), "nothing came through it");
    stage.step(300_060, Input::Confirmed);
    assert_eq!(stands(&stage), (true, false));
    stage.run_until(600_051);
    stage.told(600_052, SERVER, OURS, seen(OURS, 4342, &[RTR]));
    assert_eq!(stands(&stage), (false, true));
}

/// RTR-3: what a NAT hides is told apart from what it does not.
#[test]
fn only_hidden_rlocs_are_hidden() {
    let v6: IpAddr = "2001:db8::2".parse().unwrap();
    let server6: IpAddr = "2001:db8::100".parse().unwrap();
    let mut stage = Stage::new(&[v6, OURS], &[SERVER, server6]);
    stage.step(0, Input::Wake);
    let octets = stage.reply(1, seen(NAT, 4342, &[RTR, [127, 0, 0, 1].into(), OURS]), &key());
    assert_eq!(stage.hear(10, SERVER, OURS, &octets)[0], relayed(RTR), "our own address and loopback are no RTRs");
    let octets = stage.reply(2, seen(v6, 4342, &[RTR2]), &key());
    assert_eq!(stage.hear(11, server6, v6, &octets), [], "nothing is new");
    assert_eq!(stage.site.rtrs, [RTR, RTR2]);
}

#[test]
fn without_an_eid_prefix_nobody_is_asked() {
    let mut stage = Stage::new(&[OURS], &[SERVER]);
    assert_eq!(stage.step(0, Input::Change(None)), []);
    assert_eq!(stage.site.due(), None);
    let todo = stage.step(10, Input::Change(Some(eid())));
    assert!(matches!(todo[..], [Output::Ask { .. }]), "{todo:?}");
}
