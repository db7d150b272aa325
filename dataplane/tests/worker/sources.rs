//! The levels of the source check, ETR-7: which source, by which RLOC, with which mapping, is delivered and asked for.

use altitude_dataplane::{
    cache::{Choice, Forwarding},
    mapping::Eid,
    verdict::{Miss, Reason, Wanted},
    worker::SourceCheck,
};

use crate::{packets::*, world::*};

/// Sources with a mapping of one locator, of two, of one that is being resolved, of none that works; a negative entry;
/// and none at all.
fn world(source_check: SourceCheck) -> World {
    let mut world = World::with(Options { source_check, ..Options::default() });
    let tunnel = choice(rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, 1500));
    let two = [rloc(2, false), rloc(3, false), rloc(3, true)];
    for (eid, members, choice) in [
        ("2.2.0.0/16", &two[..1], tunnel.clone()),
        ("3.3.0.0/16", &two[..], tunnel),
        ("4.4.0.0/16", &two[..1], Choice::Request),
        ("5.5.0.0/16", &two[..1], Choice::Unusable),
    ] {
        let set = world.writer.add_set(members, &choice).unwrap();
        world.learn(prefix(eid), Forwarding::Encapsulate(set));
    }
    world.learn(prefix("6.6.0.0/16"), Forwarding::Drop(Reason::ActDrop));
    world
}

fn encapsulated(source: &str, from: u8, v6: bool) -> Vec<u8> {
    let inner = udp(source, "1.1.1.1", (1, 2), 20).octets();
    lisp(&rloc(from, v6).to_string(), &rloc(1, v6).to_string(), 0, 0, &inner).peer_frame()
}

/// ETR-7, ETR-8, ITR-35: by default nobody learns anything from a packet's source
#[test]
fn the_matrix_of_levels_and_sources() {
    use Reason::{InnerSourceLocal as Local, InnerSourceUnknown as Unknown, OuterSourceForeign as Foreign};
    // Source, RLOC it comes from, and whether over IPv6; what `secure` says; whether nobody knows it.
    let cases: [(&str, u8, bool, Option<Reason>, bool); 13] = [
        ("2.2.2.2", 2, false, None, false),
        ("2.2.2.2", 3, false, Some(Foreign), false),
        ("2.2.2.2", 2, true, Some(Foreign), false),
        ("3.3.3.3", 2, false, None, false),
        ("3.3.3.3", 3, false, None, false),
        ("3.3.3.3", 3, true, None, false),
        ("3.3.3.3", 4, false, Some(Foreign), false),
        // Whether we could answer is not asked.
        ("4.4.4.4", 2, false, None, false),
        ("5.5.5.5", 2, false, None, false),
        ("6.6.6.6", 2, false, Some(Foreign), false),
        ("7.7.7.7", 2, false, Some(Unknown), true),
        ("7.7.7.7", 9, true, Some(Unknown), true),
        ("1.1.7.7", 2, false, Some(Local), false),
    ];
    for level in [SourceCheck::Standard, SourceCheck::Notify, SourceCheck::Secure] {
        for (number, &(source, from, v6, secure, unknown)) in cases.iter().enumerate() {
            let mut world = world(level);
            let said = if level == SourceCheck::Secure { secure } else { secure.filter(|reason| *reason == Local) };
            let sent = world.pass(CORE_PORT, encapsulated(source, from, v6));
            assert_eq!(sent.len(), usize::from(said.is_none()), "{level:?}, case {number}");
            assert_eq!(
                world.drops(),
                said.iter().map(|reason| (reason.name(), 1)).collect(),
                "{level:?}, case {number}"
            );
            let wanted = Miss {
                wanted: Wanted::Mapping,
                destination: Eid { instance: instance(0), address: source.parse().unwrap() },
                source: "1.1.1.1".parse().unwrap(),
            };
            let asks = unknown && level != SourceCheck::Standard;
            assert_eq!(
                world.asked(),
                asks.then_some(wanted).into_iter().collect::<Vec<_>>(),
                "{level:?}, case {number}"
            );
            assert_eq!(world.worker.take_asked(), asks);
            world.settle_accounts();
        }
    }
}

#[test]
fn a_source_that_was_asked_for_passes_once_its_mapping_is_there() {
    let mut world = world(SourceCheck::Secure);
    let packet = encapsulated("7.7.7.7", 2, false);
    assert!(world.pass(CORE_PORT, packet.clone()).is_empty());
    world.learn_tunnel(prefix("7.0.0.0/8"), rloc(1, false), rloc(2, false), 0, &adjacency(CORE_PORT, 1500));
    world.through(CORE_PORT, packet.clone(), SITE_PORT);
    // The mapping moves away, and its old locator with it.
    world.learn_tunnel(prefix("7.0.0.0/8"), rloc(1, false), rloc(3, false), 0, &adjacency(CORE_PORT, 1500));
    assert!(world.pass(CORE_PORT, packet).is_empty());
    assert_eq!(world.drops(), [("inner-source-unknown", 1), ("outer-source-foreign", 1)].into());
    world.settle_accounts();
}

#[test]
fn a_flood_of_unknown_sources_asks_at_a_bounded_pace() {
    for level in [SourceCheck::Notify, SourceCheck::Secure] {
        let mut world = world(level);
        for n in 0..600 {
            let source = format!("7.7.{}.{}", n / 200, n % 200 + 1);
            world.ports[CORE_PORT].arrive(encapsulated(&source, 2, false));
        }
        let mut turns = 0;
        while world.turn() > 0 {
            turns += 1;
            assert!(world.asked().len() <= 16, "{level:?}");
        }
        assert_eq!(turns, 10);
        assert_eq!(world.counters.misses_unasked.get(), 600 - 10 * 16);
        world.sent();
        world.settle_accounts();
    }
}
