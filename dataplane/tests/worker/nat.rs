//! A re-encapsulating router for xTRs behind NATs: what it relays, and from and to which UDP ports.

use altitude_dataplane::{
    cache::{Choice, Forwarding},
    mapping::{Candidate, LocatorSet, Mark, OuterHeader, Ports},
    worker::SourceCheck,
};

use crate::{packets::*, world::*};

/// What the NAT of site 2 has for its xTR; the address is site 2's.
const TRANSLATED: Ports = Ports { source: Some(4342), destination: 20_001 };

/// Site 2 registered through us and is behind a NAT, site 3 is an ordinary one.
fn world(options: Options) -> World {
    let mut world = World::with(Options { rtr: true, nat: true, ..options });
    world.learn_side(1, 3, false, None);
    for (eid, port) in [("2.2.0.0/16", 20_001), ("5.5.0.0/16", 20_002), ("7.7.0.0/16", 4341)] {
        behind_nat(&mut world, eid, Ports { destination: port, ..TRANSLATED });
    }
    world
}

fn behind_nat(world: &mut World, eid: &str, ports: Ports) {
    let (from, to) = (rloc(1, false), rloc(2, false));
    let outer = OuterHeader::new(&adjacency(CORE_PORT, 1500), from, to, instance(0)).unwrap().with_ports(ports);
    let candidate = Candidate { address: to, priority: 1, weight: 1, outer: Some(outer) };
    let choice = Choice::Tunnel(LocatorSet::compile(&[candidate]).unwrap());
    let set = world.writer.add_set(&[to], &choice).unwrap();
    let mark = Mark { relayed: true, ..Mark::default() };
    world.writer.insert_marked(prefix(eid), Forwarding::Encapsulate(set), mark).unwrap();
    world.writer.publish();
}

fn tunnelled(from: u8, source: &str, destination: &str) -> Vec<u8> {
    let inner = udp(source, destination, (1, 2), 20).octets();
    lisp(&rloc(from, false).to_string(), &rloc(1, false).to_string(), 0, 0, &inner).peer_frame()
}

/// RTR-9: to an xTR behind a NAT packets go from the control port to the port that the NAT has for it, whatever the flow; from it
/// they go on as any.
#[test]
fn packets_to_a_translated_port_come_from_the_control_port() {
    let mut world = world(Options::default());
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    for host in 1..20 {
        let sent = world.through(CORE_PORT, tunnelled(3, &format!("3.3.3.{host}"), "2.2.2.2"), CORE_PORT);
        assert_eq!(sent[26..34], [240, 0, 254, 10, 240, 0, 254, 20]);
        assert_eq!((word(&sent, 34), word(&sent, 36)), (4342, 20_001));
    }
    let sent = world.through(CORE_PORT, tunnelled(2, "2.2.2.2", "3.3.3.3"), CORE_PORT);
    assert_eq!(sent[30..34], [240, 0, 254, 30]);
    assert!(word(&sent, 34) >= 0xc000 && word(&sent, 36) == 4341);
    // Two xTRs behind one NAT: it goes back to where it came from, and to another port, be it one that the NAT did not change.
    for (to, port) in [("5.5.5.5", 20_002), ("7.7.7.7", 4341)] {
        let sent = world.through(CORE_PORT, tunnelled(2, "2.2.2.2", to), CORE_PORT);
        assert_eq!((&sent[30..34], word(&sent, 34), word(&sent, 36)), (&[240, 0, 254, 20][..], 4342, port));
    }
    assert_eq!((world.counters.reencapsulated.get(), world.drops()), (22, [].into()));
    world.settle_accounts();
}

/// RTR-9: with neither end registered nothing is sent and nothing is asked for; one end is enough.
#[test]
fn only_what_one_registered_end_has_is_relayed() {
    let mut world = world(Options::default());
    for (source, destination) in [("4.4.4.4", "3.3.3.3"), ("3.3.3.3", "4.4.4.4"), ("4.4.4.4", "6.6.6.6")] {
        assert_eq!(world.pass(CORE_PORT, tunnelled(4, source, destination)), [], "{source} to {destination}");
    }
    assert_eq!((world.drops(), world.asked()), ([("not-registered", 3)].into(), vec![]));
    world.through(CORE_PORT, tunnelled(4, "4.4.4.4", "2.2.2.2"), CORE_PORT);
    // What a registered end sends to a site that is not known yet waits for it.
    assert_eq!(world.pass(CORE_PORT, tunnelled(2, "2.2.2.2", "4.4.4.4")), []);
    assert_eq!(world.asked().len(), 1);
    // When its registration is over, it is a stranger again.
    assert!(world.writer.remove(&prefix("2.2.0.0/16")));
    world.writer.publish();
    assert_eq!(world.pass(CORE_PORT, tunnelled(2, "2.2.2.2", "3.3.3.3")), []);
    assert_eq!(world.drops(), [("not-registered", 4)].into());
    world.settle_accounts();
}

/// An RTR that is a PETR as well sends the packets of LISP sites on natively, and relays no more for that.
#[test]
fn a_petr_beside_it_relays_for_registered_ends_alone() {
    let mut world = world(Options { proxy: true, ..Options::default() });
    world.learn_side(1, 4, false, None);
    world.learn(prefix("8.0.0.0/8"), Forwarding::Native(adjacency(NATIVE_PORT, 1500)));
    world.through(CORE_PORT, tunnelled(4, "4.4.4.4", "8.8.8.8"), NATIVE_PORT);
    world.through(CORE_PORT, tunnelled(4, "4.4.4.4", "2.2.2.2"), CORE_PORT);
    assert_eq!(world.pass(CORE_PORT, tunnelled(4, "4.4.4.4", "3.3.3.3")), []);
    assert_eq!(world.drops(), [("not-registered", 1)].into());
    world.settle_accounts();
}

/// RTR-9: an inner source that is registered is none where the packet comes from elsewhere than its NAT: nothing is sent, nothing is
/// asked for, whatever the check of sources. What goes to a registered end comes from anybody.
#[test]
fn who_writes_a_registered_source_is_not_it() {
    let mut world = world(Options { source_check: SourceCheck::Standard, ..Options::default() });
    for destination in ["3.3.3.3", "4.4.4.4"] {
        assert_eq!(world.pass(CORE_PORT, tunnelled(4, "2.2.2.2", destination)), []);
    }
    assert_eq!((world.drops(), world.asked()), ([("outer-source-foreign", 2)].into(), vec![]));
    world.through(CORE_PORT, tunnelled(4, "2.2.2.2", "5.5.5.5"), CORE_PORT);
    world.settle_accounts();
}

/// ETR-7: with the strictest check what says that it is from a registered end has to come from its NAT.
#[test]
fn a_forged_source_is_none_where_sources_are_checked() {
    let mut world = world(Options { source_check: SourceCheck::Secure, ..Options::default() });
    world.through(CORE_PORT, tunnelled(2, "2.2.2.2", "3.3.3.3"), CORE_PORT);
    assert_eq!(world.pass(CORE_PORT, tunnelled(4, "2.2.2.2", "3.3.3.3")), []);
    assert_eq!(world.drops(), [("outer-source-foreign", 1)].into());
    world.settle_accounts();
}
