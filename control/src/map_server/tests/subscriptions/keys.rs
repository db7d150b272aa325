//! Subscriptions without a shared key: keys out of LISP-SEC's One-Time Keys.

use super::*;
use crate::lisp_sec::{
    asking::Asking,
    gate::{self, Client, Gate},
    keys::SharedKey,
};
use crate::wire::lisp_sec::Hash;

/// A Map-Server that shares no key with subscribers.
fn keyless() -> Settings {
    let peers = vec![Peer { xtr_id: None, keys: Vec::new(), eids: Vec::new() }];
    Settings { publishing: Some(Publishing::new(peers)), journal: true, ..publishing() }
}

/// The secret of an ITR, and the one of another ITR.
const ITRS: [&[u8]; 2] = [b"of the ITR", b"of another ITR"];

/// What a Map-Request with this nonce comes with, and the key that its ITR makes of it; `seed` stands for the One-Time Key.
fn sealed(nonce: u64, seed: u64) -> (Protection, Key) {
    sealed_by(ITRS[0], nonce, seed)
}

fn sealed_by(secret: &[u8], nonce: u64, seed: u64) -> (Protection, Key) {
    let key = SharedKey::new(9, secret);
    let asking = Asking { key: key.clone(), algorithms: vec![Hash::Sha256], downgrade: false };
    let (sealed, octets) = asking.seal(nonce, 0, &mut || seed);
    let clients = vec![Client { from: vec![], keys: vec![key] }];
    let gate = Gate::new(Some(gate::Settings { clients, ..gate::Settings::default() }));
    let protection = gate.admit(address(SUBSCRIBER), nonce, Some(&octets)).unwrap().unwrap();
    (protection, sealed.pubsub_key(nonce))
}

/// The one Map-Notify among outputs, if it is signed with the key.
fn signed(outputs: &[Output], key: &Key) -> Option<MapNotify> {
    let mut notifies = outputs.iter().filter_map(|output| match output {
        Output::Notify { octets, .. } => Some(octets),
        _ => None,
    });
    let (Some(octets), None) = (notifies.next(), notifies.next()) else { panic!("{outputs:?}") };
    let Ok(Message::MapNotify(notify)) = Message::parse(octets) else { panic!("{octets:?}") };
    notify.verify(octets, std::slice::from_ref(key)).is_ok().then_some(notify)
}

impl World {
    fn ask_sealed(&mut self, request: &MapRequest, seed: u64) -> (Vec<Output>, Key) {
        self.ask_by(ITRS[0], request, seed)
    }

    fn ask_by(&mut self, secret: &[u8], request: &MapRequest, seed: u64) -> (Vec<Output>, Key) {
        let (protection, key) = sealed_by(secret, request.nonce, seed);
        let eid = Eid { instance: InstanceId::DEFAULT, address: request.records[0].eid.prefix.address() };
        let (source, protection) = (SocketAddr::new(address(SUBSCRIBER), 61000), Some(&protection));
        (self.step(Input::Request { eid, request, source, packet: &[], protection }), key)
    }

    fn thank_under(&mut self, key: &Key, notify: &MapNotify) -> Vec<Output> {
        let ack = MapNotify { ack: true, ..notify.clone() }.signed(key, Form::default());
        self.octets(SUBSCRIBER, &ack)
    }

    fn acknowledged(&mut self, notify: &MapNotify, key: &Key) -> Vec<SiteFault> {
        faults(&self.thank_under(key, notify))
    }

    /// A subscription with nonce 5 lives, under the key of seed 1.
    fn keyed() -> (Self, Key) {
        let mut world = Self::new(keyless());
        world.proxied(ONE, PREFIX, &["240.0.254.21"]);
        let (outputs, key) = world.ask_sealed(&subscription(xtr(1), 5, PREFIX), 1);
        let notify = signed(&outputs, &key).expect("under the key of the request");
        assert_eq!((notify.nonce, world.acknowledged(&notify, &key)), (5, vec![]));
        (world, key)
    }
}

fn replied(outputs: &[Output]) -> Option<(SiteFault, Action)> {
    let [Output::Drop(fault), Output::Reply { message, .. }] = outputs else { return None };
    Some((*fault, message.records[0].action))
}

/// PS-9: what confirms a subscription and is published to it is signed with the key of its Map-Request, until a renewal brings
/// another one, and thanks under no other count.
#[test]
fn a_subscription_has_the_key_of_its_request() {
    let (mut world, key) = World::keyed();
    let (_, other) = sealed(5, 2);
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.22"]);
    let notify = signed(&outputs, &key).expect("published under the same key");
    assert_eq!(world.acknowledged(&notify, &other), [SiteFault::SubscriptionAckMac]);
    assert_eq!(world.acknowledged(&notify, &key), []);
    let (outputs, renewed) = world.at(9).ask_sealed(&subscription(xtr(1), 7, PREFIX), 2);
    let notify = signed(&outputs, &renewed).expect("under the new one");
    // Until it is proven, the old one holds.
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.23"]);
    let published = signed(&outputs, &key).unwrap();
    assert_eq!(world.acknowledged(&published, &key), []);
    let outputs = world.thank_under(&renewed, &notify);
    assert!(signed(&outputs, &renewed).is_some() && signed(&outputs, &key).is_none(), "what changed meanwhile");
}

/// PS-9, PS-4: a One-Time Key that was used before, and none at all, are refused with action 5; the reply is signed as any other.
#[test]
fn a_used_one_time_key_and_none_are_refused() {
    let (mut world, key) = World::keyed();
    for (who, nonce) in [(1, 6), (2, 6)] {
        let (outputs, _) = world.at(u64::from(who) * 2).ask_sealed(&subscription(xtr(who), nonce, PREFIX), 1);
        assert_eq!(replied(&outputs), Some((SiteFault::SubscriptionKeyUsed, Action::DropAuthFailure)));
        let Output::Reply { message, .. } = &outputs[1] else { panic!() };
        assert!(message.security.is_some());
    }
    let outputs = world.at(9).subscribe(xtr(1), 6, PREFIX);
    assert_eq!(replied(&outputs), Some((SiteFault::SubscriptionUnknown, Action::DropAuthFailure)));
    // None of them has ended or changed anything.
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.22"]);
    assert!(signed(&outputs, &key).is_some());
    let (outputs, fresh) = world.at(12).ask_sealed(&subscription(xtr(1), 7, PREFIX), 3);
    assert!(outputs.iter().any(|output| matches!(output, Output::Notify { .. })));
    assert_ne!(fresh, key);
}

/// A shared key is used where there is one, with a One-Time Key beside it or not.
#[test]
fn a_shared_key_goes_first() {
    let mut world = World::new(publishing());
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    for (nonce, at) in [(5, 2), (6, 4)] {
        let (outputs, key) = world.at(at).ask_sealed(&subscription(xtr(1), nonce, PREFIX), 1);
        assert!(signed(&outputs, &psk()).is_some() && signed(&outputs, &key).is_none());
    }
}

/// PS-9, PS-6: the end is confirmed under the key of the Map-Request that wishes it.
#[test]
fn the_end_has_a_key_of_its_own() {
    let (mut world, key) = World::keyed();
    let end = MapRequest { itr_rlocs: Vec::new(), ..subscription(xtr(1), 6, PREFIX) };
    let (outputs, last) = world.at(2).ask_sealed(&end, 2);
    let notify = signed(&outputs, &last).unwrap();
    assert_eq!(world.acknowledged(&notify, &key), [SiteFault::SubscriptionAckMac]);
    assert_eq!((world.server.subscribed_len(), world.acknowledged(&notify, &last)), (1, vec![]));
    assert_eq!(world.server.subscribed_len(), 0);
}

/// PS-9: keys, and which One-Time Keys were used, survive a restart, by snapshot and by journal; a key that is shared by then takes
/// their place.
#[test]
fn keys_survive_a_restart() {
    let (mut world, key) = World::keyed();
    let (outputs, _) = world.at(2).ask_sealed(&subscription(xtr(2), 5, PREFIX), 7);
    assert_eq!(outputs.len(), 1, "asked, and not proven: its One-Time Key is used all the same");
    let journal = std::mem::take(world.server.journal().unwrap());
    let snapshot = world.state();
    let empty = World::new(keyless()).state();
    for file in [snapshot, [empty, journal].concat()] {
        let mut after = World::new(keyless());
        after.nonce = world.nonce;
        after.server.restore(after.now, &file, &mut Vec::new()).unwrap();
        assert_eq!(after.server.subscribed_len(), 1);
        for seed in [1, 7] {
            let (outputs, _) = after.ask_sealed(&subscription(xtr(3), seed, PREFIX), seed);
            assert_eq!(faults(&outputs), [SiteFault::SubscriptionKeyUsed], "{seed}");
        }
        let outputs = after.at(9).proxied(ONE, PREFIX, &["240.0.254.29"]);
        assert!(signed(&outputs, &key).is_some());
        let mut shared = World::new(Settings { journal: true, ..publishing() });
        shared.nonce = world.nonce;
        shared.server.restore(shared.now, &file, &mut Vec::new()).unwrap();
        let outputs = shared.at(9).proxied(ONE, PREFIX, &["240.0.254.29"]);
        assert!(signed(&outputs, &psk()).is_some());
    }
}

/// The Map-Notifies among outputs that are signed with the key, with where they go.
fn told_under(outputs: &[Output], key: &Key) -> Vec<(String, MapNotify)> {
    let read = |output: &Output| {
        let Output::Notify { to, octets, .. } = output else { return None };
        let Ok(Message::MapNotify(notify)) = Message::parse(octets) else { panic!("{octets:?}") };
        notify.verify(octets, std::slice::from_ref(key)).is_ok().then(|| (to.to_string(), notify))
    };
    outputs.iter().filter_map(read).collect()
}

/// PS-9, PS-6: an xTR-ID is a claim. Who asks under another LISP-SEC key has a subscription of its own: it takes over, ends, locks
/// out and uses up nothing of who has the same xTR-ID, with any nonce, and neither over a restart.
#[test]
fn another_itrs_one_time_key_ends_nothing() {
    let (mut world, key) = World::keyed();
    let stranger = |nonce, rlocs: &[&str]| {
        let itr_rlocs = rlocs.iter().map(|text| address(text)).collect();
        MapRequest { itr_rlocs, ..subscription(xtr(1), nonce, PREFIX) }
    };
    let far = 5 + (1 << 62);
    let (outputs, other) = world.at(2).ask_by(ITRS[1], &stranger(far, &["203.0.113.66"]), 2);
    let notify = signed(&outputs, &other).unwrap();
    assert_eq!((world.acknowledged(&notify, &other), world.server.subscribed_len()), (vec![], 2));
    let outputs = world.at(4).proxied(ONE, PREFIX, &["240.0.254.22"]);
    for (key, expected) in [(&key, "203.0.113.1:4342"), (&other, "203.0.113.66:4342")] {
        let [(to, notify)] = &told_under(&outputs, key)[..] else { panic!("{outputs:?}") };
        assert_eq!((to.as_str(), world.acknowledged(notify, key)), (expected, vec![]));
    }
    let file = world.state();
    let mut after = World::new(keyless());
    after.nonce = world.nonce;
    after.server.restore(after.now, &file, &mut Vec::new()).unwrap();
    for mut world in [world, after] {
        assert_eq!(world.server.subscribed_len(), 2);
        let (outputs, last) = world.at(6).ask_by(ITRS[1], &stranger(far + 8, &[]), 3);
        let notify = signed(&outputs, &last).unwrap();
        assert_eq!((world.acknowledged(&notify, &last), world.server.subscribed_len()), (vec![], 1));
        // Its own renewal is no replay, and takes its own place.
        let (outputs, renewed) = world.at(8).ask_sealed(&subscription(xtr(1), 7, PREFIX), 4);
        let notify = signed(&outputs, &renewed).expect("its nonce is greater than the last of its own");
        assert_eq!((world.acknowledged(&notify, &renewed), world.server.subscribed_len()), (vec![], 1));
        let outputs = world.at(10).proxied(ONE, PREFIX, &["240.0.254.23"]);
        assert_eq!(told_under(&outputs, &renewed)[0].0, "203.0.113.1:4342");
    }
}

/// PS-10, PS-9: nor does it use up how many the xTR may have.
#[test]
fn another_itr_has_limits_of_its_own() {
    let mut settings = keyless();
    settings.publishing.as_mut().unwrap().each_max = 1;
    let mut world = World::new(settings);
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    for (secret, prefix, at) in [(ITRS[1], "198.51.100.0/25", 2), (ITRS[0], PREFIX, 4)] {
        let (outputs, key) = world.at(at).ask_by(secret, &subscription(xtr(1), 5, prefix), at);
        let notify = signed(&outputs, &key).unwrap();
        assert_eq!(world.acknowledged(&notify, &key), []);
    }
    assert_eq!(world.server.subscribed_len(), 2);
    let (outputs, _) = world.at(6).ask_sealed(&subscription(xtr(1), 6, "198.51.100.128/25"), 6);
    assert_eq!(faults(&outputs), [SiteFault::SubscriptionsOfXtr]);
}
