//! xTRs behind NATs: what they are told, and what RTRs relay for them.

use super::*;
use crate::{
    nat::Peer,
    wire::{Authentication, Info, Translation, ecm},
};

/// An RTR that shares a key with us, and one that does not.
const KEYED: &str = "240.0.254.30";
const PLAIN: &str = "240.0.254.31";
/// What the xTR calls itself.
const INNER: &str = "10.0.0.2:4342";

fn shared() -> Key {
    Key::new(3, Algorithm::Sha256Hkdf, b"of the RTR")
}

fn world() -> World {
    let relays = vec![
        Peer { address: address(KEYED), keys: vec![shared(), Key::new(4, Algorithm::Sha256, b"next")] },
        Peer { address: address(PLAIN), keys: Vec::new() },
    ];
    World::new(Settings { relays, ..settings() })
}

fn register(nonce: u64, records: Vec<Mapping>) -> MapRegister {
    let xtr = Some(XtrIdentity { xtr_id: [7; 16], site_id: 42 });
    MapRegister { nonce, records, xtr, proxy: true, want_notify: true, ..MapRegister::default() }
}

impl World {
    /// A Map-Register comes through an RTR.
    fn relayed(&mut self, rtr: &str, to: &str, key: &Key, message: MapRegister) -> Vec<Output> {
        self.relayed_of(INNER, rtr, to, key, message)
    }

    fn relayed_of(&mut self, inner: &str, rtr: &str, to: &str, key: &Key, message: MapRegister) -> Vec<Output> {
        let payload = message.signed(key, Form::default());
        let source = inner.parse().unwrap();
        let packet = UdpPacket { source, destination: to.parse().unwrap(), ttl: 64, payload: &payload }.encode();
        let octets = ecm::encapsulate_relayed(&packet);
        let ecm = Ecm::parse(&octets).unwrap();
        let Ok(Message::MapRegister(message)) = Message::parse(&payload) else { panic!("a Map-Register") };
        let from = SocketAddr::new(address(rtr), 4342);
        self.step(Input::Relayed { from, local: address(US), ecm: &ecm, message: &message })
    }

    fn informed(&mut self, from: &str, info: Info, key: &Key) -> Vec<Output> {
        let octets = info.signed(key, Form::default());
        let Ok(Message::Info(message)) = Message::parse(&octets) else { panic!("an Info-Request") };
        let (from, local) = (from.parse().unwrap(), address(US));
        self.step(Input::Info { from, local, message: &message, octets: &octets })
    }
}

fn ask(nonce: u64, prefix: &str) -> Info {
    Info { nonce, authentication: Authentication::default(), ttl: 1440, eid: eid(prefix), reply: None }
}

/// The ECM that a Map-Notify went out in, as it is.
fn notified(outputs: &[Output], rtr: &str) -> Vec<u8> {
    let sent: Vec<&Output> = outputs.iter().filter(|output| matches!(output, Output::Notify { .. })).collect();
    let [Output::Notify { to, local, octets }] = &sent[..] else { panic!("{outputs:?}") };
    assert_eq!((to.to_string(), local.to_string()), (format!("{rtr}:4342"), US.to_owned()));
    octets.clone()
}

/// RTR-5: what an RTR relays is registered as if it had come from the xTR, and its Map-Notify goes back in an ECM with R to the
/// RTR, for what the xTR calls itself; with a key shared it has S and authentication data of type 2 that verify, without one not.
#[test]
fn a_relayed_map_register_is_answered_through_the_rtr() {
    for (rtr, keyed) in [(KEYED, true), (PLAIN, false)] {
        let mut world = world();
        let message = register(200, vec![record("10.1.1.0/24", &[rtr])]);
        let outputs = world.relayed(rtr, "240.0.254.1:4342", &key(ONE), message);
        assert!(outputs.iter().any(|output| matches!(output, Output::Registered { .. })), "{outputs:?}");
        assert_eq!(world.registered(), ["10.1.1.0/24"]);

        let octets = notified(&outputs, rtr);
        let ecm = Ecm::parse(&octets).unwrap();
        assert_eq!((ecm.for_rtr, ecm.relayed, octets[0] & 0x08 != 0), (true, false, keyed));
        assert_eq!(
            (ecm.datagram.source.to_string(), ecm.datagram.destination.to_string()),
            ("240.0.254.1:4342".to_owned(), INNER.to_owned())
        );
        match ecm.verify(&octets, &[shared()]) {
            Some(proof) => assert!(keyed && octets[4] == 2 && proof == Ok(&shared())),
            None => assert!(!keyed),
        }
        let payload = ecm.datagram.payload;
        let Ok(Message::MapNotify(notify)) = Message::parse(payload) else { panic!("a Map-Notify") };
        assert_eq!(notify.verify(payload, &[key(ONE)]), Ok(&key(ONE)), "what the xTR verifies");
        let identity = Some(XtrIdentity { xtr_id: [7; 16], site_id: 42 });
        assert_eq!((notify.nonce, notify.xtr, notify.records.len()), (200, identity, 1));

        // Others are told that they are to send to the RTR.
        let Output::Reply { message, .. } = world.ask("10.1.1.1") else { panic!("a Map-Reply") };
        assert_eq!(message.records[0].locators[0].address, address(rtr));
        // The same again may be somebody's copy, whatever it says that it comes from: the RTR is not to believe that. An xTR that
        // heard nothing registers with another nonce.
        for (inner, nonce, fault) in [
            (INNER, 200, SiteFault::Repeated),
            ("10.9.9.9:4342", 200, SiteFault::Repeated),
            (INNER, 199, SiteFault::Replayed),
        ] {
            let again = register(nonce, vec![record("10.1.1.0/24", &[rtr])]);
            let outputs = world.relayed_of(inner, rtr, "240.0.254.1:4342", &key(ONE), again);
            assert_eq!(outputs, [Output::Drop(fault)], "{inner} {nonce}");
        }
        let next = register(201, vec![record("10.1.1.0/24", &[rtr])]);
        notified(&world.relayed(rtr, "240.0.254.1:4342", &key(ONE), next), rtr);
    }
}

/// We answer for a site behind a NAT even if told never to: nobody else can, as its RTR passes no Map-Requests on.
#[test]
fn a_site_behind_a_nat_is_answered_for() {
    let mut settings = Settings { relays: vec![Peer { address: address(PLAIN), keys: Vec::new() }], ..settings() };
    settings.sites[0].proxy = Proxying::Never;
    let mut world = World::new(settings);
    world.register("240.0.254.99", &key(ONE), register(1, vec![record("10.1.2.0/24", &["240.0.254.99"])]));
    world.relayed(PLAIN, "240.0.254.1:4342", &key(ONE), register(2, vec![record("10.1.1.0/24", &[PLAIN])]));
    assert!(matches!(world.ask("10.1.1.1"), Output::Reply { .. }));
    assert_eq!(etr(&world.ask("10.1.2.1")), "240.0.254.99");
}

/// RTR-5: an RTR adds nothing to what an xTR may: the site's key has to be right, the prefix the site's, the xTR named, the RTR one
/// of ours, and the message for us.
#[test]
fn what_an_rtr_relays_is_checked_as_any() {
    for (rtr, to, with, prefix, named, fault) in [
        (KEYED, "240.0.254.1:4342", key(TWO), "10.1.1.0/24", true, SiteFault::Mac),
        (KEYED, "240.0.254.1:4342", shared(), "10.1.1.0/24", true, SiteFault::UnknownKey),
        (KEYED, "240.0.254.1:4342", key(ONE), "10.2.0.0/24", true, SiteFault::UnknownSite),
        (KEYED, "240.0.254.1:4342", key(TWO), "10.1.64.0/24", true, SiteFault::ForeignPrefix),
        (KEYED, "240.0.254.1:4342", key(ONE), "10.1.1.0/24", false, SiteFault::RelayedUnnamed),
        ("240.0.254.32", "240.0.254.1:4342", key(ONE), "10.1.1.0/24", true, SiteFault::UnknownRtr),
        (KEYED, "240.0.254.2:4342", key(ONE), "10.1.1.0/24", true, SiteFault::RelayedElsewhere),
        (KEYED, "240.0.254.1:4343", key(ONE), "10.1.1.0/24", true, SiteFault::RelayedElsewhere),
    ] {
        let mut world = world();
        let message = register(200, vec![record(prefix, &[rtr])]);
        let message = MapRegister { xtr: message.xtr.filter(|_| named), ..message };
        assert_eq!(world.relayed(rtr, to, &with, message), [Output::Drop(fault)]);
        assert_eq!(world.registered(), Vec::<String>::new());
    }
    let mut off = World::new(settings());
    assert!(!off.server.takes_relayed());
    let message = register(200, vec![record("10.1.1.0/24", &[KEYED])]);
    let outputs = off.relayed(KEYED, "240.0.254.1:4342", &key(ONE), message);
    assert_eq!(outputs, [Output::Drop(SiteFault::UnknownRtr)]);
}

/// News of a union go to those that they can reach: one behind a NAT hears of it when it registers next.
#[test]
fn news_reach_no_xtr_behind_a_nat() {
    let mut world = world();
    let merged = |nonce, etr| MapRegister { merge: true, ..register(nonce, vec![record("10.1.1.0/24", &[etr])]) };
    world.relayed(PLAIN, "240.0.254.1:4342", &key(ONE), merged(200, PLAIN));
    let direct = MapRegister { xtr: None, ..merged(0, "240.0.254.99") };
    let outputs = world.register("240.0.254.99", &key(ONE), direct);
    let told: Vec<String> = outputs
        .iter()
        .filter_map(|output| if let Output::Notify { to, .. } = output { Some(to.to_string()) } else { None })
        .collect();
    assert_eq!(told, ["240.0.254.99:4342"], "its own answer alone");
    let outputs = world.relayed(PLAIN, "240.0.254.1:4342", &key(ONE), merged(201, PLAIN));
    let octets = notified(&outputs[..1], PLAIN);
    let Ok(Message::MapNotify(notify)) = Message::parse(Ecm::parse(&octets).unwrap().datagram.payload) else {
        panic!("a Map-Notify")
    };
    assert_eq!(notify.records[0].locators.len(), 2, "the union");
}

/// RTR-2, the Map-Server's side: an xTR that proves to be of a site is told the address and port that it was seen with, and the RTRs,
/// where the question came from and signed with the site's key.
#[test]
fn an_xtr_is_told_what_it_looks_like() {
    let mut world = world();
    let outputs = world.informed("203.0.113.50:20001", ask(0x2222, "10.1.0.0/16"), &key(ONE));
    let [Output::Inform { to, local, octets }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((to.to_string(), local.to_string()), ("203.0.113.50:20001".to_owned(), US.to_owned()));
    let Ok(Message::Info(reply)) = Message::parse(octets) else { panic!("an Info-Reply") };
    assert_eq!(reply.verify(octets, &[key(ONE)]), Ok(&key(ONE)));
    let told = Translation {
        map_server_port: 4342,
        etr_port: 20_001,
        etr: address("203.0.113.50"),
        map_server: Some(address(US)),
        private_etr: None,
        rtrs: vec![address(KEYED), address(PLAIN)],
    };
    assert_eq!((reply.nonce, reply.eid, reply.reply), (0x2222, eid("10.1.0.0/16"), Some(told)));

    for (prefix, with, fault) in [
        ("10.1.0.0/16", key(TWO), SiteFault::InfoMac),
        ("10.1.0.0/16", shared(), SiteFault::InfoUnknownKey),
        ("10.2.0.0/16", key(ONE), SiteFault::InfoUnknown),
    ] {
        let outputs = world.informed("203.0.113.50:20001", ask(1, prefix), &with);
        assert_eq!(outputs, [Output::Drop(fault)], "{prefix}");
    }
    // One address may ask so often, and all together.
    let faults: Vec<SiteFault> = (0..64)
        .flat_map(|nonce| faults(&world.informed("198.18.0.1:9", ask(nonce, "10.1.0.0/16"), &key(ONE))))
        .collect();
    assert_eq!(faults, [SiteFault::InfoLimited; 32]);
    let from = |number: u32| format!("{}:9", std::net::Ipv4Addr::from_bits(0xc612_0000 + number));
    let count = |world: &mut World, number: u32, prefix: &str, with: &Key| {
        let all = (0..number).flat_map(|number| self::faults(&world.informed(&from(number), ask(1, prefix), with)));
        all.filter(|fault| *fault == SiteFault::InfoLimited).count()
    };
    // What nobody proves to be a site's, from however many addresses, takes nothing of it; what is a copy of one, only that site's.
    let mut world = self::world();
    assert_eq!(count(&mut world, 5000, "10.1.0.0/16", &key(TWO)), 0);
    assert_eq!(count(&mut world, 600, "10.1.0.0/16", &key(ONE)), 100);
    assert_eq!(count(&mut world, 1, "10.1.64.0/24", &key(TWO)), 0);
}

/// A site that may use any nonces may not through an RTR: the sender of a copy would have what is the site's.
#[test]
fn any_nonce_is_none_through_an_rtr() {
    let mut settings = Settings { relays: vec![Peer { address: address(PLAIN), keys: Vec::new() }], ..settings() };
    settings.sites[0].any_nonce = true;
    let mut world = World::new(settings);
    let relayed = |world: &mut World, nonce| {
        let message = register(nonce, vec![record("10.1.1.0/24", &[PLAIN])]);
        faults(&world.relayed(PLAIN, "240.0.254.1:4342", &key(ONE), message))
    };
    for (nonce, expected) in
        [(200, vec![]), (200, vec![SiteFault::Repeated]), (199, vec![SiteFault::Replayed]), (201, vec![])]
    {
        assert_eq!(relayed(&mut world, nonce), expected, "{nonce}");
    }
    let direct = register(3, vec![record("10.1.1.0/24", &[PLAIN])]);
    assert_eq!(faults(&world.register("240.0.254.99", &key(ONE), direct)), [], "directly as ever");
}

/// A Map-Request does not come through to an xTR behind a NAT: we answer for it, whatever it or its site wants otherwise.
#[test]
fn nobody_else_answers_for_an_xtr_behind_a_nat() {
    for proxying in [Proxying::Never, Proxying::Etr] {
        let mut world = World::new(Settings {
            relays: vec![Peer { address: address(PLAIN), keys: Vec::new() }],
            sites: settings().sites.into_iter().map(|site| Site { proxy: proxying, ..site }).collect(),
            ..settings()
        });
        let message = MapRegister { proxy: false, ..register(200, vec![record("10.1.1.0/24", &[PLAIN])]) };
        world.relayed(PLAIN, "240.0.254.1:4342", &key(ONE), message);
        let Output::Reply { message, .. } = world.ask("10.1.1.1") else { panic!("a Map-Reply") };
        assert_eq!(message.records[0].locators[0].address, address(PLAIN));
    }
}
