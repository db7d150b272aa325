//! Whoever forges a Map-Request cannot acknowledge what it is answered, and so changes nothing.

use super::*;

const STRANGER: &str = "203.0.113.66";
/// The xTR of Q08.
const VICTIM: XtrIdentity = XtrIdentity { xtr_id: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], site_id: 1 };

fn forged(who: XtrIdentity, nonce: u64) -> MapRequest {
    MapRequest { itr_rlocs: vec![address(STRANGER)], ..subscription(who, nonce, PREFIX) }
}

impl World {
    /// What is sent from now to this second, with none of it acknowledged.
    fn until(&mut self, seconds: u64) -> Vec<Output> {
        let mut all = Vec::new();
        while let Some(due) = self.server.due().filter(|due| *due <= self.start + Duration::from_secs(seconds)) {
            self.now = due;
            all.extend(self.step(Input::Wake));
        }
        self.at(seconds);
        all
    }
}

/// PS-2: what nobody acknowledged stands beside what was: that hears of every change, and its nonces are not used up.
#[test]
fn a_stranger_overwrites_nothing() {
    let mut world = World::subscribed();
    let outputs = world.request(STRANGER, &forged(VICTIM, 0x900));
    let (to, notify) = notifies(&outputs).remove(0);
    assert_eq!(to, "203.0.113.66:4342");
    let other = Key::new(1, Algorithm::Sha256, b"another");
    let ack = MapNotify { ack: true, ..notify }.signed(&other, Form::default());
    assert_eq!(faults(&world.octets(STRANGER, &ack)), [SiteFault::SubscriptionAckMac]);
    // Something changes meanwhile.
    let outputs = world.at(1).proxied(ONE, PREFIX, &["240.0.254.22"]);
    let (to, notify) = notifies(&outputs).remove(0);
    assert_eq!(
        (to.as_str(), notify.nonce, told(&notify)),
        ("203.0.113.1:4342", 0x102, vec![at(PREFIX, "240.0.254.22")])
    );
    world.thank(&notify);
    let outputs = world.until(80);
    assert_eq!(faults(&outputs), [SiteFault::SubscriptionUnproven]);
    assert_eq!(notifies(&outputs).len(), 2, "two more for the stranger, and no news of an end");
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.23"]);
    assert_eq!(world.thanked(&outputs).nonce, 0x103);
    let outputs = world.subscribe(VICTIM, 0x104, PREFIX);
    assert_eq!(world.thanked(&outputs).nonce, 0x104, "its renewal is none of an old message");
    // One that was never proven leaves nothing behind.
    world.subscribe(xtr(9), 5, PREFIX);
    world.until(179);
    assert_eq!(world.server.subscribed_len(), 1);
    assert_eq!(notifies(&world.subscribe(xtr(9), 5, PREFIX)).len(), 1, "not even its nonce");
}

/// PS-6: nobody ends the subscription of another, nor one that is yet to come.
#[test]
fn a_stranger_ends_nothing() {
    let mut world = World::subscribed();
    let outputs = world.unsubscribe(STRANGER, VICTIM, 0x900, PREFIX);
    assert_eq!(notifies(&outputs)[0].0, "203.0.113.66:4342");
    assert_eq!(notifies(&world.at(1).unsubscribe(STRANGER, xtr(9), u64::MAX >> 1, PREFIX)).len(), 1);
    assert_eq!(world.server.subscribed_len(), 1);
    let outputs = world.at(2).proxied(ONE, PREFIX, &["240.0.254.22"]);
    assert_eq!(world.thanked(&outputs).nonce, 0x102);
    world.until(60);
    for (who, nonce) in [(VICTIM, 0x103), (xtr(9), 5)] {
        let outputs = world.subscribe(who, nonce, PREFIX);
        assert_eq!(world.thanked(&outputs).nonce, nonce);
    }
    assert_eq!(world.server.subscribed_len(), 2);
    // Its own wish ends it, whatever else is asked for meanwhile.
    world.at(70).request(STRANGER, &forged(VICTIM, 0x200));
    let outputs = world.unsubscribe(SUBSCRIBER, VICTIM, 0x104, PREFIX);
    world.thanked(&outputs);
    assert_eq!(world.server.subscribed_len(), 1);
}

/// PS-5: what changes between an answer and its acknowledgement is published after it, with a nonce that nothing else has.
#[test]
fn what_changes_before_the_proof_is_not_lost() {
    let mut world = World::subscribed();
    let outputs = world.subscribe(VICTIM, 0x102, PREFIX);
    let renewed = notifies(&outputs).remove(0).1;
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.22"]);
    assert_eq!(notifies(&outputs)[0].1.nonce, 0x103, "0x102 is the answer's");
    // The answer is acknowledged, the publication was lost.
    let outputs = world.thank(&renewed);
    let notify = world.thanked(&outputs);
    assert_eq!((notify.nonce, told(&notify)), (0x104, vec![at(PREFIX, "240.0.254.22")]));
    assert_eq!(notifies(&world.until(100)), []);
    let outputs = world.subscribe(xtr(2), 1, PREFIX);
    let first = notifies(&outputs).remove(0).1;
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.23"]);
    world.thanked(&outputs);
    let outputs = world.thank(&first);
    assert_eq!(told(&world.thanked(&outputs)), [at(PREFIX, "240.0.254.23")]);
}

/// An acknowledgement is one of what was said, not of a number.
#[test]
fn an_acknowledgement_of_something_else_is_none() {
    let mut world = World::new(publishing());
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    let outputs = world.subscribe(xtr(1), 5, PREFIX);
    let notify = notifies(&outputs).remove(0).1;
    let other = MapNotify { records: vec![record(PREFIX, &["240.0.254.66"])], ..notify.clone() };
    assert_eq!(faults(&world.thank(&other)), [SiteFault::AckUnwanted]);
    assert_eq!(world.server.subscribed_len(), 0);
    assert_eq!(faults(&world.thank(&notify)), []);
    assert_eq!(world.server.subscribed_len(), 1);
}

/// PS-10: what strangers ask for takes nothing from the pace of publications, is sent three times at most, and is not kept.
#[test]
fn strangers_take_nothing_from_subscribers() {
    let mut settings = Settings { journal: true, ..publishing() };
    settings.publishing.as_mut().unwrap().pace = Rate { burst: 1, every: Duration::from_secs(60) };
    let mut world = World::new(settings);
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    let outputs = world.subscribe(xtr(200), 1, PREFIX);
    world.thanked(&outputs);
    world.server.journal().unwrap().clear();
    for who in 0..100 {
        let forged = MapRequest { itr_rlocs: vec![address(&format!("203.0.113.{who}"))], ..forged(xtr(who), 7) };
        assert_eq!(notifies(&world.request(STRANGER, &forged)).len(), 1);
    }
    assert!(world.server.journal().unwrap().is_empty());
    let outputs = world.until(30);
    assert_eq!((notifies(&outputs).len(), faults(&outputs).len()), (200, 100));
    assert_eq!(world.server.subscribed_len(), 1);
    let outputs = world.proxied(ONE, PREFIX, &["240.0.254.22"]);
    assert_eq!(told(&world.thanked(&outputs)), [at(PREFIX, "240.0.254.22")]);
}

/// PS-10: silent subscribers do not keep publications from the others.
#[test]
fn publications_and_retries_take_turns() {
    let mut settings = publishing();
    settings.publishing.as_mut().unwrap().pace = Rate { burst: 1, every: Duration::from_secs(1) };
    let mut world = World::new(settings);
    world.proxied(ONE, "198.51.0.0/16", &["240.0.254.21"]);
    world.proxied(TWO, "10.2.0.0/16", &["240.0.254.21"]);
    let parts = (0..10).map(|who| (who, format!("198.51.{who}.0/24")));
    for (who, prefix) in parts.chain([(99, "10.2.0.0/16".to_owned())]) {
        let outputs = world.subscribe(xtr(who), 5, &prefix);
        world.thanked(&outputs);
    }
    world.proxied(ONE, "198.51.0.0/16", &["240.0.254.22"]);
    world.until(20);
    world.proxied(TWO, "10.2.0.0/16", &["240.0.254.22"]);
    let outputs = world.until(24);
    let heard: Vec<_> = notifies(&outputs).iter().flat_map(|(_, notify)| told(notify)).collect();
    assert!(heard.contains(&at("10.2.0.0/16", "240.0.254.22")), "{heard:?}");
}

/// What nobody proved to want is not kept over a restart, and does not take the place of what was.
#[test]
fn a_restart_proves_nothing() {
    let settings = || Settings { journal: true, ..publishing() };
    let mut before = World::new(settings());
    before.proxied(ONE, PREFIX, &["240.0.254.21"]);
    let outputs = before.vector(SUBSCRIBER, Q08);
    before.thanked(&outputs);
    before.request(STRANGER, &forged(VICTIM, 0x900));
    before.at(1).request(STRANGER, &forged(xtr(8), 0x900));
    let mut file = before.state();
    file.extend(before.server.journal().unwrap().iter());
    let mut after = World::new(settings());
    after.nonce = before.nonce;
    assert_eq!(after.server.restore(after.now, &file, &mut Vec::new()).unwrap().subscriptions, 1);
    let outputs = after.proxied(ONE, PREFIX, &["240.0.254.22"]);
    let (to, notify) = notifies(&outputs).remove(0);
    assert_eq!((to.as_str(), notify.nonce), ("203.0.113.1:4342", 0x102));
}
