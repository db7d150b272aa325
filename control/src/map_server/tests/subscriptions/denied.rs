//! Renewals that are denied.

use super::*;

/// What the xTR is told of the end.
fn lost(outputs: &[Output]) -> Vec<(u64, Action)> {
    let ends =
        |notify: &MapNotify| notify.records[0].is_negative() && notify.records[0].action == Action::DropAuthFailure;
    let ending = notifies(outputs).into_iter().map(|(_, notify)| notify).filter(ends);
    ending.map(|notify| (notify.nonce, notify.records[0].action)).collect()
}

/// PS-4: a subscription ends when its renewal is answered with a Map-Reply, and its xTR is told: whoever asked may be another.
#[test]
fn a_denied_renewal_ends_what_lived() {
    let mut world = World::subscribed();
    assert_eq!(world.server.subscribed_len(), 1);
    // Its ETR answers for itself from now on.
    world.up(ONE, PREFIX, &["240.0.254.21"]);
    assert_eq!(world.server.subscribed_len(), 1, "nobody has asked yet");
    let request = Message::parse(&octets(Q08)).unwrap();
    let Message::MapRequest(request) = request else { panic!() };
    let outputs = world.at(4).request(SUBSCRIBER, &MapRequest { nonce: 0x900, ..request });
    assert_eq!(faults(&outputs), [SiteFault::SubscriptionNotOurs, SiteFault::SubscriptionLost]);
    assert!(outputs.iter().any(|output| matches!(output, Output::Encapsulate { .. })), "an ETR answers");
    assert_eq!(lost(&outputs), [(0x103, Action::DropAuthFailure)], "under its own nonce");
    assert_eq!(world.server.subscribed_len(), 0);
    assert!(notifies(&world.proxied(ONE, PREFIX, &["240.0.254.22"])).is_empty(), "nothing is published to it");
}

/// A Map-Request that is denied for what it says itself ends nothing: another one may have sent it.
#[test]
fn a_denied_stranger_ends_nothing() {
    let mut world = World::subscribed();
    let who = XtrIdentity { xtr_id: std::array::from_fn(|at| at as u8), site_id: 1 };
    let outputs = world.subscribe(who, 0x101, PREFIX);
    assert_eq!(faults(&outputs), [SiteFault::SubscriptionReplayed]);
    let nowhere = MapRequest { itr_rlocs: vec![address("127.0.0.1")], ..subscription(who, 0x900, PREFIX) };
    assert_eq!(faults(&world.at(2).request(SUBSCRIBER, &nowhere)), [SiteFault::NoItrRloc]);
    assert_eq!(world.server.subscribed_len(), 1);
}

/// PS-4, PS-5: whoever registers with a wrong key while a site is down ends none of its subscriptions: a renewal is answered with
/// action 5, and what the site registers then is published all the same.
#[test]
fn a_site_that_is_down_and_cannot_register_ends_nothing() {
    let mut world = World::subscribed();
    let limit = world.start + Duration::from_secs(200);
    while let Some(due) = world.server.due().filter(|due| *due < limit) {
        world.now = due;
        let outputs = world.step(Input::Wake);
        notifies(&outputs).iter().for_each(|(_, notify)| drop(world.thank(notify)));
    }
    world.at(200);
    assert_eq!(world.registered(), Vec::<String>::new());
    assert_eq!(world.server.subscribed_len(), 1);
    let wrong = Key::new(key(ONE).id, Algorithm::Sha256, b"of a stranger");
    let message =
        MapRegister { proxy: true, records: vec![record(PREFIX, &["240.0.254.66"])], ..MapRegister::default() };
    let outputs = world.register("240.0.254.66", &wrong, message);
    assert!(!faults(&outputs).is_empty());
    let Ok(Message::MapRequest(request)) = Message::parse(&octets(Q08)) else { panic!() };
    let outputs = world.request(SUBSCRIBER, &MapRequest { nonce: 0x900, ..request });
    assert_eq!(faults(&outputs), [SiteFault::SubscriptionUnserved]);
    let replied = outputs.iter().find_map(|output| match output {
        Output::Reply { message, .. } => Some(message.records[0].action),
        _ => None,
    });
    assert_eq!((replied, world.server.subscribed_len()), (Some(Action::DropAuthFailure), 1));
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.22"]);
    let [(_, notify)] = &notifies(&outputs)[..] else { panic!("{outputs:?}") };
    assert_eq!(told(notify), [at(PREFIX, "240.0.254.22")]);
}
