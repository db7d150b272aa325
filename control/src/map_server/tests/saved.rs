//! Registrations and nonces over a restart.

use super::{super::Damaged, *};

fn world(settings: Settings) -> World {
    World::new(Settings { journal: true, ..settings })
}

/// The Map-Server with this configuration after `seconds`, with what was written before.
fn restarted(before: &World, octets: &[u8], settings: Settings, seconds: u64) -> (World, Restored, Vec<Output>) {
    let mut after = world(Settings { wall: WALL + seconds, ..settings });
    after.nonce = before.nonce;
    let mut todo = Vec::new();
    let restored = after.server.restore(after.now, octets, &mut todo).unwrap();
    (after, restored, todo)
}

fn proxied(world: &mut World, site: SiteId, prefix: &str, etrs: &[&str]) {
    let records = vec![record(prefix, etrs)];
    let xtr = Some(XtrIdentity { xtr_id: [9; 16], site_id: 3 });
    let message = MapRegister { proxy: true, merge: true, records, xtr, ..MapRegister::default() };
    assert_eq!(faults(&world.register("240.0.254.99", &key(site), message)), []);
}

/// MS-1: nonces survive a restart, and so does what is registered, as long as it would have lasted.
#[test]
fn a_restart_forgets_neither_registrations_nor_nonces() {
    let mut before = world(settings());
    before.up(ONE, "10.1.9.0/24", &["240.0.254.21"]);
    before.at(100);
    proxied(&mut before, ONE, "10.1.0.0/16", &["240.0.254.21", "2001:db8::1"]);
    proxied(&mut before, TWO, "10.1.64.0/18", &["240.0.254.22"]);
    let replay =
        MapRegister { nonce: before.nonce, records: vec![record("10.1.64.0/18", &[ITR])], ..MapRegister::default() };
    let replay = MapRegister { xtr: Some(XtrIdentity { xtr_id: [9; 16], site_id: 3 }), ..replay }
        .signed(&key(TWO), Form::default());

    let (mut after, restored, told) = restarted(&before, &before.state(), settings(), 150);
    assert_eq!(restored, Restored { xtrs: 3, registrations: 3, ..Restored::default() });
    let mut announced = told;
    announced.sort_by_key(|output| format!("{output:?}"));
    assert_eq!(announced, [Output::Announce(eid("10.1.0.0/16")), Output::Announce(eid("10.1.64.0/18"))]);
    assert_eq!(after.state(), before.state(), "all of it");
    assert_eq!(faults(&after.octets("240.0.254.99", &replay)), [SiteFault::Replayed]);
    assert!(matches!(after.ask("10.1.200.1"), Output::Reply { .. }), "proxied as before");
    assert_eq!(faults(&after.up(ONE, "10.1.9.0/24", &["240.0.254.21"])), [], "a greater nonce is good");
    // 150 seconds were over when it came back; those of second 100 have 130 left.
    after.at(129).step(Input::Wake);
    assert_eq!(after.registered().len(), 3);
    after.at(130).step(Input::Wake);
    assert_eq!(after.registered(), ["10.1.9.0/24"]);

    let (late, restored, told) = restarted(&before, &before.state(), settings(), 10_000);
    assert_eq!((restored.registrations, restored.left_out, restored.xtrs, told), (0, 3, 3, vec![]));
    assert!(late.registered().is_empty());
}

/// MS-1, MS-20: what changed after the snapshot is in the journal; what a crash tore off is not missed.
#[test]
fn a_journal_makes_a_snapshot_whole() {
    let mut before = world(settings());
    before.up(ONE, "10.1.1.0/24", &["240.0.254.21"]);
    before.up(ONE, "10.1.2.0/24", &["240.0.254.21"]);
    before.server.journal().unwrap().clear();
    // In pieces, with changes between them.
    let (mut file, mut at) = (Vec::new(), Cursor::default());
    let mut changes: Vec<fn(&mut World)> = vec![
        |world| drop(world.up(TWO, "10.1.64.0/18", &["240.0.254.22"])),
        |world| drop(world.down(ONE, "10.1.1.0/24")),
        |world| drop(world.up(ONE, "10.1.3.0/24", &["240.0.254.21"])),
    ];
    while !before.server.snapshot(&mut at, 2, &mut file) {
        if let Some(change) = changes.pop() {
            change(&mut before);
        }
    }
    for change in changes.drain(..).rev() {
        change(&mut before);
    }
    before.up(ONE, "10.1.2.0/24", &["240.0.254.29"]);
    file.extend(before.server.journal().unwrap().iter());
    let (after, restored, _) = restarted(&before, &file, settings(), 1);
    assert!(!restored.torn);
    assert_eq!(after.registered(), before.registered());
    assert_eq!(after.registered(), ["10.1.2.0/24", "10.1.3.0/24", "10.1.64.0/18"]);
    let last = after.server.held(&eid("10.1.2.0/24")).next().unwrap();
    assert_eq!(last.holders[0].mapping.locators[0].address, address("240.0.254.29"));
    let (_, restored, _) = restarted(&before, &file[..file.len() - 3], settings(), 1);
    assert!(restored.torn);
}

/// MS-19, MS-3: what the configuration no longer allows does not come back.
#[test]
fn what_the_configuration_no_longer_has_is_left_out() {
    let mut before = world(settings());
    before.up(ONE, "10.1.1.0/24", &["240.0.254.21"]);
    before.up(TWO, "10.1.64.0/18", &["240.0.254.22"]);
    type Change = fn(&mut Settings);
    let cases: [(Change, &[&str]); 5] = [
        (|_| {}, &["10.1.1.0/24", "10.1.64.0/18"]),
        (|settings| settings.sites[0].more_specifics = false, &["10.1.64.0/18"]),
        (|settings| settings.sites[1].keys = vec![Key::new(2, Algorithm::Sha256, b"new")], &["10.1.1.0/24"]),
        (|settings| settings.sites[1].name = "new".to_owned(), &["10.1.1.0/24"]),
        (|settings| settings.sites[1].eids = vec![eid("10.1.0.0/17")], &[]), // one's prefix is inside two's now
    ];
    for (line, (change, left)) in cases.into_iter().enumerate() {
        let mut settings = settings();
        change(&mut settings);
        let (after, ..) = restarted(&before, &before.state(), settings, 1);
        assert_eq!(after.registered(), left, "line {line}");
    }
}

proptest! {
    #[test]
    fn a_damaged_file_is_refused_as_a_whole(at in any::<prop::sample::Index>(), flip in 1_u8..=255, cut in any::<prop::sample::Index>()) {
        let mut before = world(settings());
        before.up(ONE, "10.1.1.0/24", &["240.0.254.21"]);
        before.up(TWO, "10.1.64.0/18", &["240.0.254.22"]);
        let file = before.state();
        let mut changed = file.clone();
        changed[at.index(file.len())] ^= flip;
        for octets in [&changed[..], &file[..cut.index(file.len())]] {
            let mut after = world(settings());
            let empty = after.state();
            let mut todo = Vec::new();
            let refused = after.server.restore(after.now, octets, &mut todo);
            prop_assert!(matches!(refused, Err(Damaged::Magic | Damaged::Frame(_))), "{refused:?}");
            prop_assert!(todo.is_empty() && after.state() == empty);
        }
    }
}
