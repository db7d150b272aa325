//! What subscribers hear of a part, of what is around it, and of what they may not know.

use super::*;

impl World {
    fn restarted(&self, settings: Settings, file: &[u8], seconds: u64) -> (Self, usize) {
        let mut after = Self::new(Settings { wall: WALL + seconds, ..settings });
        after.nonce = self.nonce;
        let restored = after.server.restore(after.now, file, &mut Vec::new()).unwrap();
        (after, restored.subscriptions)
    }

    fn heard(&mut self, outputs: &[Output]) -> Vec<(String, Ttl, Vec<String>)> {
        let all = notifies(outputs);
        all.iter().for_each(|(_, notify)| drop(self.thank(notify)));
        all.iter().flat_map(|(_, notify)| told(notify)).collect()
    }
}

/// PS-8: who was told of a part, because there is too much beside it to list, hears of that part when what is around it changes.
/// Of the whole it could not know where it is overridden.
#[test]
fn a_part_hears_of_its_part_of_what_is_around_it() {
    let mut world = World::new(publishing());
    world.proxied(ONE, "198.51.0.0/16", &["240.0.254.21"]);
    for part in 128..200 {
        world.proxied(ONE, &format!("198.51.{part}.0/24"), &["240.0.254.99"]);
    }
    let outputs = world.subscribe(xtr(1), 5, "198.51.7.7/32");
    assert_eq!(told(&world.thanked(&outputs)), [at("198.51.0.0/17", "240.0.254.21")]);
    let outputs = world.proxied(ONE, "198.51.0.0/16", &["240.0.254.22"]);
    assert_eq!(world.heard(&outputs), [at("198.51.0.0/17", "240.0.254.22")]);
    let outputs = world.proxied(ONE, "198.51.7.0/24", &["240.0.254.23"]);
    assert_eq!(world.heard(&outputs), [at("198.51.7.0/24", "240.0.254.23")]);
    let outputs = world.down(ONE, "198.51.0.0/16");
    assert_eq!(world.heard(&outputs), [gone("198.51.0.0/17")]);
}

/// PS-5: what only says again what was said is no news, whichever of two ETRs says it; who answers is.
#[test]
fn a_refresh_of_two_etrs_is_no_news() {
    let mut world = World::new(publishing());
    let etrs = ["240.0.254.21", "240.0.254.22"];
    let refresh = |world: &mut World, own: usize, proxy| {
        let mut record = record(PREFIX, &etrs);
        record.locators.iter_mut().enumerate().for_each(|(at, locator)| locator.local = at == own);
        let message = MapRegister { proxy, merge: true, records: vec![record], ..MapRegister::default() };
        world.register(etrs[own], &key(ONE), message)
    };
    refresh(&mut world, 0, true);
    refresh(&mut world, 1, true);
    let outputs = world.subscribe(xtr(1), 5, PREFIX);
    world.thanked(&outputs);
    let to_subscriber = |outputs: &[Output]| {
        let ours = |output: &&Output| matches!(output, Output::Notify { to, .. } if to.ip() == address(SUBSCRIBER));
        outputs.iter().filter(ours).cloned().collect::<Vec<_>>()
    };
    for own in [0, 1, 1, 0] {
        let outputs = refresh(&mut world, own, true);
        assert_eq!(to_subscriber(&outputs), [], "{own}");
    }
    let first = refresh(&mut world, 0, false);
    let mut outputs = to_subscriber(&first);
    outputs.extend(to_subscriber(&refresh(&mut world, 1, false)));
    let notify = notifies(&outputs).pop().unwrap().1;
    assert_eq!((notify.records[0].eid, notify.records[0].action), (eid(PREFIX), Action::SendMapRequest));
}

/// After a restart everybody is told how everything inside stands, and what is not there any more.
#[test]
fn a_restart_publishes_all_that_is_inside() {
    let settings = || Settings { journal: true, ..publishing() };
    let mut before = World::new(settings());
    let all = ["198.51.0.0/16", "198.51.1.0/24", "198.51.2.0/24"];
    for prefix in all {
        before.proxied(ONE, prefix, &["240.0.254.21"]);
    }
    let outputs = before.subscribe(xtr(1), 5, "198.51.0.0/16");
    before.thanked(&outputs);
    let mut file = before.state();
    file.extend(before.server.journal().unwrap().iter());
    // It was down for so long that all registrations ran out.
    let (mut after, restored) = before.restarted(settings(), &file, 1000);
    assert_eq!(restored, 1);
    for prefix in [all[0], all[1], "198.51.3.0/24"] {
        let outputs = after.at(20).proxied(ONE, prefix, &["240.0.254.22"]);
        after.heard(&outputs);
    }
    let outputs = after.at(180).step(Input::Wake);
    let mut heard = after.heard(&outputs);
    heard.sort_by(|one, other| one.0.cmp(&other.0));
    let now = |prefix| at(prefix, "240.0.254.22");
    assert_eq!(heard, [now(all[0]), now(all[1]), gone(all[2]), now("198.51.3.0/24")]);
}

/// PS-4: what is not allowed any more is not kept over a restart, but for its nonce.
#[test]
fn permissions_that_were_taken_back_hold_after_a_restart() {
    let mut before = World::new(publishing());
    before.proxied(ONE, PREFIX, &["240.0.254.21"]);
    for who in [1, 2] {
        let outputs = before.subscribe(xtr(who), 5, PREFIX);
        before.thanked(&outputs);
    }
    let file = before.state();
    let with = |change: fn(&mut Settings)| {
        let mut settings = publishing();
        change(&mut settings);
        settings
    };
    let cases = [
        (with(|_| {}), 2),
        (with(|settings| settings.publishing.as_mut().unwrap().peers[0].eids = vec![eid("10.0.0.0/8")]), 0),
        (with(|settings| settings.publishing.as_mut().unwrap().all_max = 1), 1),
        (with(|settings| settings.publishing.as_mut().unwrap().each_max = 0), 0),
        (with(|settings| settings.sites[0].denied = true), 0),
    ];
    for (line, (settings, kept)) in cases.into_iter().enumerate() {
        let (mut after, restored) = before.restarted(settings, &file, 0);
        assert_eq!((restored, after.server.subscribed_len()), (kept, kept), "line {line}");
        assert_eq!(faults(&after.subscribe(xtr(1), 5, PREFIX)), [SiteFault::SubscriptionReplayed], "line {line}");
    }
}

/// PS-4: of a site that nobody is told of, who asked for everything is not told either.
#[test]
fn a_denied_site_is_not_in_what_covers_it() {
    let mut settings = publishing();
    settings.sites[1].denied = true;
    let inside = Site {
        name: "inside".to_owned(),
        eids: vec![eid("198.51.9.0/24")],
        keys: vec![key(SiteId(2))],
        denied: true,
        ..Site::default()
    };
    settings.sites.push(inside);
    let mut world = World::new(settings);
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    world.proxied(TWO, "10.2.0.0/16", &["240.0.254.21"]);
    let outputs = world.subscribe(xtr(1), 5, "0.0.0.0/0");
    assert_eq!(told(&world.thanked(&outputs)), [at(PREFIX, "240.0.254.21")]);
    let outputs = world.proxied(TWO, "10.2.0.0/16", &["240.0.254.22"]);
    assert!(notifies(&outputs).is_empty());
    // Nor where an answer lists all that is inside a match.
    world.proxied(ONE, "198.51.0.0/16", &["240.0.254.21"]);
    world.proxied(SiteId(2), "198.51.9.0/24", &["240.0.254.21"]);
    let outputs = world.subscribe(xtr(2), 5, "198.51.0.0/24");
    assert_eq!(told(&notifies(&outputs)[0].1), [at("198.51.0.0/21", "240.0.254.21")]);
}

/// PS-6: a subscription ends at its xTR's wish, whatever has become of its prefix.
#[test]
fn what_is_not_ours_to_tell_can_be_unsubscribed_from() {
    let mut world = World::subscribed();
    let outputs = world.up(ONE, PREFIX, &["240.0.254.21"]);
    world.thanked(&outputs);
    let xtr = XtrIdentity { xtr_id: std::array::from_fn(|at| at as u8), site_id: 1 };
    let outputs = world.unsubscribe(SUBSCRIBER, xtr, 0x103, PREFIX);
    let notify = world.thanked(&outputs);
    assert_eq!((notify.nonce, told(&notify)), (0x103, vec![gone(PREFIX)]));
    assert_eq!(world.server.subscribed_len(), 0);
}

/// PS-3: a wide confirmation lists what we answer for; what ETRs answer for is looked up as without it.
#[test]
fn a_wide_confirmation_leaves_out_what_etrs_answer_for() {
    let mut world = World::new(publishing());
    world.proxied(ONE, PREFIX, &["240.0.254.21"]);
    world.up(ONE, "198.51.101.0/24", &["240.0.254.21"]);
    let outputs = world.subscribe(xtr(1), 5, "198.0.0.0/8");
    assert_eq!(told(&world.thanked(&outputs)), [at(PREFIX, "240.0.254.21")]);
    world.down(ONE, PREFIX);
    assert_eq!(faults(&world.subscribe(xtr(2), 5, "198.0.0.0/8")), [SiteFault::SubscriptionNotOurs]);
}
