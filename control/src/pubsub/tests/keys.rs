//! With LISP-SEC: keys out of One-Time Keys, and refusals that prove where they come from.

use super::*;
use crate::{
    lisp_sec::{
        gate::{self, Client, Gate, Protection},
        keys::SharedKey,
    },
    wire::lisp_sec::Hash,
};

fn shared() -> SharedKey {
    SharedKey::new(7, b"of the ITR")
}

fn secured() -> Settings {
    let asking = Asking { key: shared(), algorithms: vec![Hash::Sha256, Hash::Sha1], downgrade: false };
    Settings { keys: Vec::new(), security: Some(asking), ..settings() }
}

/// Random numbers that do not repeat.
fn step(world: &mut World, input: Input<'_>) -> Vec<Output> {
    let (mut todo, unused) = (Vec::new(), world.unused);
    let mut last = world.now.duration_since(world.start).as_nanos() as u64;
    let mut random = || {
        last += 1;
        last
    };
    world.subscriber.step(world.now, input, &|_| !unused, &mut random, &mut todo);
    todo
}

/// What a Map-Server reads of the one Map-Request among outputs: its nonce, and the protection it came with.
fn asked(outputs: &[Output]) -> (u64, Protection) {
    let mut found = outputs.iter().filter_map(|output| match output {
        Output::Request { message, security } => Some((message.nonce, security.as_deref())),
        _ => None,
    });
    let (Some((nonce, security)), None) = (found.next(), found.next()) else { panic!("{outputs:?}") };
    let clients = vec![Client { from: Vec::new(), keys: vec![shared()] }];
    let gate = Gate::new(Some(gate::Settings { clients, strict: true, ..gate::Settings::default() }));
    (nonce, gate.admit([203, 0, 113, 1].into(), nonce, security).unwrap().expect("it is protected"))
}

fn key_of((nonce, protection): &(u64, Protection)) -> Key {
    protection.association(*nonce).unwrap().key
}

/// A Map-Notify comes that is signed with the key, under a Key ID of the Map-Server's own choice.
fn hear(world: &mut World, key: &Key, nonce: u64, records: Vec<Mapping>) -> Vec<Output> {
    let octets = MapNotify { nonce, records, ..MapNotify::default() }.signed(&key.with_id(5), Form::default());
    let Ok(Message::MapNotify(message)) = Message::parse(&octets) else { panic!() };
    step(world, Input::Notify { from: SERVER.parse().unwrap(), message, octets: &octets })
}

/// Whether the outputs thank under the key.
fn thanked(outputs: &[Output], key: &Key) -> bool {
    outputs.iter().any(|output| {
        let Output::Acknowledge { octets, .. } = output else { return false };
        let Ok(Message::MapNotify(ack)) = Message::parse(octets) else { panic!() };
        ack.ack && ack.verify(octets, &[key.with_id(5)]).is_ok()
    })
}

fn news(last: u8) -> Vec<Mapping> {
    vec![at(PREFIX, [240, 0, 254, last])]
}

/// A subscription that is confirmed under the key of its Map-Request.
fn live() -> (World, u64, Key) {
    let mut world = World::new(secured());
    step(&mut world, Input::Learned(&[eid(PREFIX)]));
    let request = asked(&step(world.at(1), Input::Wake));
    let key = key_of(&request);
    assert!(thanked(&hear(&mut world, &key, request.0, news(21)), &key));
    assert_eq!(world.standing(), Standing::Live);
    (world, request.0, key)
}

/// PS-9, SEC-13: a subscription is protected, and what its Map-Notifies are signed with is made of its One-Time Key and nonce: no
/// other key counts, neither that of another try nor one of another nonce.
#[test]
fn map_notifies_count_under_the_key_of_their_request_alone() {
    let mut world = World::new(secured());
    step(&mut world, Input::Learned(&[eid(PREFIX)]));
    let first = asked(&step(world.at(1), Input::Wake));
    let second = asked(&step(world.at(3), Input::Wake));
    assert_ne!(key_of(&first), key_of(&second), "each try has a One-Time Key of its own");
    let strange = [key(), key_of(&second), second.1.association(first.0).unwrap().key];
    for wrong in strange {
        assert_eq!(hear(&mut world, &wrong, first.0, news(66)), [Output::Drop(PubSubFault::Mac)]);
    }
    let outputs = hear(&mut world, &key_of(&first), first.0, news(21));
    assert_eq!((installed(&outputs), thanked(&outputs, &key_of(&first))), (news(21), true));
    for wrong in [key(), key_of(&second)] {
        assert_eq!(hear(&mut world, &wrong, first.0 + 1, news(66)), [Output::Drop(PubSubFault::Mac)]);
    }
    let outputs = hear(&mut world, &key_of(&first), first.0 + 1, news(22));
    assert_eq!(installed(&outputs), news(22), "and what is published later");
    let again = hear(&mut world, &key_of(&first), first.0 + 1, news(22));
    assert!(thanked(&again, &key_of(&first)) && faults(&again) == [PubSubFault::Repeated]);
}

/// PS-9: a renewal brings a new key; the one before is good until the Map-Server has taken to the new one.
#[test]
fn a_renewal_brings_another_key() {
    let (mut world, nonce, before) = live();
    world.now += RENEW_EVERY;
    let renewal = asked(&step(&mut world, Input::Wake));
    let key = key_of(&renewal);
    assert_eq!(renewal.0, nonce + 1);
    // A publication that crosses it has its nonce, and is none of it.
    assert_eq!(installed(&hear(&mut world, &before, renewal.0, news(22))), news(22));
    assert!(world.subscriber.asked(renewal.0), "it is waited for");
    world.now += SPACING_FIRST;
    let renewal = asked(&step(&mut world, Input::Wake));
    let after = key_of(&renewal);
    assert!(key != after && thanked(&hear(&mut world, &after, renewal.0, news(22)), &after));
    // The Map-Server has not heard our thanks.
    assert_eq!(installed(&hear(&mut world, &before, renewal.0 + 1, news(23))), news(23));
    assert_eq!(installed(&hear(&mut world, &after, renewal.0 + 2, news(24))), news(24));
    assert_eq!(hear(&mut world, &before, renewal.0 + 3, news(66)), [Output::Drop(PubSubFault::Mac)]);
}

/// PS-9, PS-6: the end of a subscription is asked for under protection too, and confirmed under the key of that Map-Request.
#[test]
fn the_end_is_confirmed_under_its_own_key() {
    let (mut world, _, before) = live();
    let request = asked(&step(&mut world, Input::Stop));
    assert_eq!(hear(&mut world, &before, request.0, news(21)), [Output::Drop(PubSubFault::Mac)]);
    assert!(!world.subscriber.has_left());
    assert!(thanked(&hear(&mut world, &key_of(&request), request.0, news(21)), &key_of(&request)));
    assert!(world.subscriber.has_left());
}

/// PS-4, PS-5: a refusal that is signed ends what lived; with action 5 it may be so for the moment alone, as where nobody managed to
/// register, and what is published then counts.
#[test]
fn a_signed_refusal_ends_what_lived_unless_it_may_pass() {
    for (action, ends) in [(Action::DropPolicyDenied, true), (Action::DropAuthFailure, false)] {
        let (mut world, nonce, before) = live();
        world.now += RENEW_EVERY;
        let renewal = asked(&step(&mut world, Input::Wake));
        let mut reply = MapReply::negative(renewal.0, eid(PREFIX), Ttl::Minutes(1), action);
        renewal.1.sign(&mut reply, eid(PREFIX), false);
        step(&mut world, Input::Replied { reply: &reply, octets: &reply.encode() });
        assert_eq!(world.standing(), Standing::Refused);
        let expected = if ends { Vec::new() } else { news(22) };
        assert_eq!(installed(&hear(&mut world, &before, nonce + 1, news(22))), expected, "{action:?}");
        // What the Map-Server may still have is ended there.
        let left = step(&mut world, Input::Stop);
        assert_eq!(requests(&left).len(), usize::from(!ends), "{action:?}");
    }
}

/// PS-10: of so many subscriptions that a Map-Notify may be of the keys are tried; that there were more is told apart from a bad
/// authentication.
#[test]
fn keys_of_so_many_subscriptions_are_tried() {
    for (count, fault) in [(16, PubSubFault::Mac), (17, PubSubFault::Crowded)] {
        let fixed = (0..count).map(|number| eid(&format!("198.51.{number}.0/24"))).collect();
        let mut world = World::new(Settings { fixed, ..secured() });
        let outputs = step(world.at(1), Input::Wake);
        assert!(requests(&outputs).iter().all(|request| request.nonce == 0x101));
        let outputs = hear(&mut world, &key(), 0x101, vec![at("198.51.0.0/16", [240, 0, 254, 66])]);
        assert_eq!(outputs, [Output::Drop(fault)], "{count}");
    }
}

/// PS-9, PS-4, SEC-7: a Map-Reply refuses a protected subscription only if it is signed as LISP-SEC has it.
#[test]
fn a_refusal_is_signed_or_none() {
    let (mut world, ..) = live();
    world.now += RENEW_EVERY;
    let (nonce, protection) = asked(&step(&mut world, Input::Wake));
    let forged = MapReply::negative(nonce, eid(PREFIX), Ttl::Minutes(1), Action::DropPolicyDenied);
    let outputs = step(&mut world, Input::Replied { reply: &forged, octets: &forged.encode() });
    assert_eq!(outputs, [Output::Insecure(SecurityFault::Stripped)]);
    let mut signed = forged;
    protection.sign(&mut signed, eid(PREFIX), false);
    let mut changed = signed.encode();
    *changed.last_mut().unwrap() ^= 1;
    let Ok(Message::MapReply(other)) = Message::parse(&changed) else { panic!() };
    let outputs = step(&mut world, Input::Replied { reply: &other, octets: &changed });
    assert_eq!(outputs, [Output::Insecure(SecurityFault::PacketMac)]);
    assert_eq!(world.standing(), Standing::Live, "whoever cannot sign ends nothing");
    let outputs = step(&mut world, Input::Replied { reply: &signed, octets: &signed.encode() });
    assert_eq!(faults(&outputs), [PubSubFault::Refused]);
    assert_eq!(world.standing(), Standing::Refused);
}
