//! Speakers wired together under virtual time.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use world::{World, address, eid, ip, permit, prefix};

use super::*;
use crate::{
    alt::bgp::{
        fsm::State,
        route::Segment,
        settings::{Aggregate, Dampening, MaxPrefixes, MaxPrefixesAction, PrefixList, Rule},
    },
    alt::rib::lately::LATELY,
    fault::Fault,
};

const SECOND: Duration = Duration::from_secs(1);

/// The path of the route that a speaker uses.
fn path(speaker: &Speaker, text: &str) -> Option<Vec<u32>> {
    let routes = speaker.routes(None, usize::MAX);
    let route = routes.iter().find(|route| route.selected && route.eid == eid(text))?;
    let of = |segment: &Segment| match segment {
        Segment::Sequence(asns) | Segment::Set(asns) => asns.to_vec(),
    };
    Some(route.attributes.as_path.0.iter().flat_map(of).collect())
}

fn prefixes(speaker: &Speaker) -> Vec<String> {
    speaker.routes(None, usize::MAX).iter().filter(|route| route.selected).map(|route| route.eid.to_string()).collect()
}

fn refused(speaker: &Speaker, peer: usize, fault: RouteFault) -> u64 {
    speaker.neighbors().nth(peer).unwrap().refused.get(fault)
}

#[test]
fn routes_of_both_families_come_and_go() {
    let mut world = World::line(2);
    world.start();
    world.input(0, Input::Originate(eid("10.1.0.0/16")));
    world.input(0, Input::Originate(eid("2001:db8:1::/48")));
    world.run_for(SECOND * 5);
    assert_eq!(prefixes(&world.speakers[1]), ["10.1.0.0/16", "2001:db8:1::/48"]);
    assert_eq!(path(&world.speakers[1], "10.1.0.0/16"), Some(vec![64512]));
    let found = world.speakers[1].lookup(InstanceId::DEFAULT, ip("2001:db8:1::7"));
    assert_eq!(found, Some(Hop::Tunnel(TunnelId(0))));
    assert_eq!(world.speakers[0].lookup(InstanceId::DEFAULT, ip("10.1.2.3")), Some(Hop::Discard));
    assert_eq!(world.speakers[1].lookup(InstanceId::new(5).unwrap(), ip("10.1.2.3")), None);
    assert_eq!(world.speakers[1].gap(InstanceId::DEFAULT, ip("10.2.3.4")), prefix("10.2.0.0/15"));
    world.input(0, Input::Withdraw(eid("10.1.0.0/16")));
    world.run_for(SECOND);
    assert_eq!(prefixes(&world.speakers[1]), ["2001:db8:1::/48"]);
    world.input(0, Input::Shutdown { text: "moving" });
    world.run_for(SECOND);
    assert!(prefixes(&world.speakers[1]).is_empty());
    assert!(world.events(1).iter().any(|event| matches!(
        event,
        Event::Down { reason, kept: false, .. } if reason.to_string().contains("moving")
    )));
}

/// ALT-4.
#[test]
fn a_ring_of_three_has_no_loops_and_another_way() {
    let mut world = World::ring(3);
    world.start();
    world.input(0, Input::Originate(eid("10.1.0.0/16")));
    world.run_for(SECOND * 5);
    assert_eq!(path(&world.speakers[1], "10.1.0.0/16"), Some(vec![64512]));
    assert_eq!(path(&world.speakers[2], "10.1.0.0/16"), Some(vec![64512]));
    assert_eq!(world.speakers[0].routes(None, usize::MAX).len(), 1);
    world.cut(0, 1);
    world.run_for(SECOND);
    assert_eq!(path(&world.speakers[1], "10.1.0.0/16"), Some(vec![64514, 64512]), "round the other way");
    world.input(0, Input::Withdraw(eid("10.1.0.0/16")));
    world.run_for(SECOND);
    for speaker in &world.speakers {
        assert!(prefixes(speaker).is_empty(), "nobody keeps it alive");
    }
    world.mend(0, 1);
    world.input(0, Input::Originate(eid("10.1.0.0/16")));
    world.run_for(SECOND * 60);
    assert_eq!(path(&world.speakers[1], "10.1.0.0/16"), Some(vec![64512]));
    // While the withdrawal is on its way, each of the others thinks of the other one, and says so to where it came from.
    world.input(0, Input::Withdraw(eid("10.1.0.0/16")));
    world.run_for(SECOND);
    let echoed: u64 = (0..2).map(|peer| refused(&world.speakers[0], peer, RouteFault::AsLoop)).sum();
    assert!(echoed >= 2, "{echoed}");
    let told = |event: &&Event| matches!(event, Event::Refused { fault: RouteFault::AsLoop, .. });
    assert_eq!(world.events(0).iter().filter(told).count(), 2, "said once a session");
    assert!(world.speakers.iter().all(|speaker| prefixes(speaker).is_empty()));
}

/// Two sites at an aggregator, which has a core neighbour: 1 and 2 – 0 – 3.
fn edge(summary_only: bool) -> World {
    World::star(4, |index, settings| {
        if index == 0 {
            settings.aggregates =
                vec![Aggregate { eid: eid("10.1.0.0/16"), components: vec![PeerId(0), PeerId(1)], summary_only }];
        }
        if index == 1 || index == 2 {
            settings.originate = vec![eid(if index == 1 { "10.1.0.0/18" } else { "10.1.64.0/18" })];
        }
    })
}

/// ALT-9.
#[test]
fn an_aggregate_hides_its_components_and_answers_for_its_holes() {
    let mut world = edge(true);
    world.start();
    world.run_for(SECOND * 5);
    assert_eq!(prefixes(&world.speakers[3]), ["10.1.0.0/16"]);
    let route = world.speakers[3].routes(None, 1).remove(0);
    assert!(route.attributes.atomic_aggregate);
    assert_eq!(route.attributes.aggregator, Some((64512, [10, 0, 0, 1].into())));
    let aggregator = &world.speakers[0];
    for (asked, hop) in [
        ("10.1.1.1", Hop::Tunnel(TunnelId(0))),
        ("10.1.64.1", Hop::Tunnel(TunnelId(1))),
        ("10.1.128.199", Hop::Discard),
    ] {
        assert_eq!(aggregator.lookup(InstanceId::DEFAULT, ip(asked)), Some(hop), "{asked}");
    }
    assert_eq!(aggregator.gap(InstanceId::DEFAULT, ip("10.1.128.199")), prefix("10.1.128.0/17"));
    // Not only a summary: the components go along.
    let mut world = edge(false);
    world.start();
    world.run_for(SECOND * 5);
    assert_eq!(prefixes(&world.speakers[3]), ["10.1.0.0/16", "10.1.0.0/18", "10.1.64.0/18"]);
}

#[test]
fn what_has_just_lost_its_route_is_known_as_that_for_a_while() {
    let mut world = edge(true);
    world.start();
    world.run_for(SECOND * 5);
    let host = |text: &str| Eid { instance: InstanceId::DEFAULT, address: ip(text) };
    let lately = |world: &World, router: usize, asked: &str| {
        let length = world.speakers[router].route(InstanceId::DEFAULT, ip(asked)).map(|(prefix, _)| prefix.length());
        world.speakers[router].went_lately(world.now, host(asked), length)
    };
    assert!(!lately(&world, 0, "10.1.64.1"));
    world.input(2, Input::Shutdown { text: "" });
    world.run_for(SECOND);
    // The aggregate is still there, and does not answer for it.
    assert_eq!(world.speakers[0].lookup(InstanceId::DEFAULT, ip("10.1.64.1")), None);
    assert!(lately(&world, 0, "10.1.64.1") && !lately(&world, 0, "10.1.128.199"));
    // What is no longer announced by ourselves was meant to go.
    world.input(1, Input::Withdraw(eid("10.1.0.0/18")));
    world.run_for(SECOND);
    assert!(!lately(&world, 1, "10.1.1.1") && lately(&world, 0, "10.1.1.1"));
    world.input(1, Input::Originate(eid("10.1.0.0/18")));
    world.run_for(SECOND);
    assert!(!lately(&world, 0, "10.1.1.1"), "it has come back");
    world.run_for(LATELY);
    assert!(!lately(&world, 0, "10.1.64.1"));
}

/// ALT-8.
#[test]
fn an_aggregate_waits_for_all_its_components_and_outlives_all_but_one() {
    let mut world = edge(true);
    world.cut(0, 2);
    world.start();
    world.run_for(SECOND * 5);
    assert_eq!(prefixes(&world.speakers[3]), ["10.1.0.0/18"], "its other originator is not known yet");
    world.mend(0, 2);
    world.run_for(SECOND * 70);
    assert_eq!(prefixes(&world.speakers[3]), ["10.1.0.0/16"]);
    assert!(world.events(0).contains(&Event::AggregateUp(eid("10.1.0.0/16"))));
    world.cut(0, 1);
    world.run_for(SECOND);
    assert_eq!(prefixes(&world.speakers[3]), ["10.1.0.0/16"]);
    let lookup = |text| world.speakers[0].lookup(InstanceId::DEFAULT, ip(text));
    assert_eq!(lookup("10.1.1.1"), None, "a site that cannot be reached is no hole");
    assert_eq!(lookup("10.1.128.199"), Some(Hop::Discard));
    world.cut(0, 2);
    world.run_for(SECOND);
    assert!(prefixes(&world.speakers[3]).is_empty());
    assert!(world.events(0).contains(&Event::AggregateDown(eid("10.1.0.0/16"))));
}

/// ALT-14.
#[test]
fn beyond_an_aggregator_nobody_sees_a_flapping_component() {
    let mut world = edge(true);
    world.start();
    world.run_for(SECOND * 5);
    let updates = |world: &World| world.speakers[3].neighbors().next().unwrap().session.received.updates;
    let before = updates(&world);
    for _ in 0..30 {
        world.input(1, Input::Originate(eid("10.1.7.0/24")));
        world.run_for(SECOND / 2);
        world.input(1, Input::Withdraw(eid("10.1.7.0/24")));
        world.run_for(SECOND / 2);
    }
    assert_eq!(updates(&world), before);
}

/// ALT-14.
#[test]
fn a_flapping_route_is_held_back_until_it_is_stable() {
    let mut world = World::star(3, |index, settings| {
        if index == 0 {
            settings.neighbors[0].dampening = Some(Dampening::default());
        }
    });
    world.start();
    world.run_for(SECOND * 5);
    for _ in 0..3 {
        world.input(1, Input::Originate(eid("10.1.7.0/24")));
        world.run_for(SECOND);
        world.input(1, Input::Withdraw(eid("10.1.7.0/24")));
        world.run_for(SECOND);
    }
    world.input(1, Input::Originate(eid("10.1.7.0/24")));
    world.input(1, Input::Originate(eid("10.1.8.0/24")));
    world.run_for(SECOND);
    assert_eq!(prefixes(&world.speakers[2]), ["10.1.8.0/24"]);
    let held = world.speakers[0].routes(None, 1).remove(0);
    assert!(held.dampened && !held.selected);
    assert_eq!(refused(&world.speakers[0], 0, RouteFault::Dampened), 1);
    world.run_for(SECOND * 60 * 40);
    assert_eq!(prefixes(&world.speakers[2]), ["10.1.7.0/24", "10.1.8.0/24"]);
}

#[test]
fn a_refresh_says_everything_again_between_marks() {
    let mut world = World::line(2);
    world.start();
    for third in 0..50 {
        world.input(0, Input::Originate(eid(&format!("10.1.{third}.0/24"))));
    }
    world.run_for(SECOND * 5);
    let status = |world: &World| world.speakers[1].neighbors().next().unwrap().session;
    let before = status(&world);
    world.input(1, Input::Clear { peer: PeerId(0), soft: true });
    world.run_for(SECOND);
    let after = status(&world);
    assert_eq!(after.established, before.established, "the session stays");
    assert!(after.received.updates > before.received.updates);
    assert_eq!(after.received.refreshes, before.received.refreshes + 4, "BoRR and EoRR of both families");
    let routes = world.speakers[1].routes(None, usize::MAX);
    assert!(routes.len() == 50 && routes.iter().all(|route| !route.stale));
    world.input(1, Input::Clear { peer: PeerId(0), soft: false });
    world.run_for(SECOND * 10);
    assert_eq!(status(&world).established, before.established + 1);
    assert_eq!(prefixes(&world.speakers[1]).len(), 50);
}

#[test]
fn routes_outlive_a_restart_of_the_neighbour_that_comes_back() {
    let mut world = World::line(3);
    world.start();
    world.input(0, Input::Originate(eid("10.1.0.0/16")));
    world.input(0, Input::Originate(eid("10.2.0.0/16")));
    world.run_for(SECOND * 5);
    let updates = |world: &World| world.speakers[2].neighbors().next().unwrap().session.received.updates;
    let before = updates(&world);
    world.crash(0);
    world.run_for(SECOND);
    let routes = world.speakers[1].routes(None, usize::MAX);
    assert!(routes.len() == 2 && routes.iter().all(|route| route.stale && route.selected));
    assert!(world.speakers[1].neighbors().next().unwrap().stale_until.is_some());
    // It comes back, and one of its prefixes is no longer there.
    world.restart(0, |settings| {
        settings.restarting = true;
        settings.originate = vec![eid("10.1.0.0/16")];
    });
    world.run_for(SECOND * 60);
    assert_eq!(prefixes(&world.speakers[1]), ["10.1.0.0/16"]);
    assert_eq!(prefixes(&world.speakers[2]), ["10.1.0.0/16"]);
    assert!(world.speakers[1].routes(None, usize::MAX).iter().all(|route| !route.stale));
    assert_eq!(updates(&world), before + 1, "beyond, only the withdrawal was seen");
    assert!(world.events(0).contains(&Event::RestartOver));
    assert!(!world.speakers[0].summary().deferring);
}

#[test]
fn routes_of_a_neighbour_that_comes_back_without_them_go_at_once() {
    let mut world = World::line(2);
    world.start();
    world.input(0, Input::Originate(eid("10.1.0.0/16")));
    world.run_for(SECOND * 5);
    world.crash(0);
    world.run_for(SECOND);
    assert_eq!(prefixes(&world.speakers[1]), ["10.1.0.0/16"]);
    // It forwards nothing of what it forwarded before, and says so.
    world.restart(0, |_| {});
    world.run_for(SECOND * 60);
    assert!(world.speakers[1].routes(None, usize::MAX).is_empty());
}

#[test]
fn routes_of_a_neighbour_that_does_not_come_back_go_in_time() {
    let mut world = World::line(2);
    world.start();
    world.input(0, Input::Originate(eid("10.1.0.0/16")));
    world.run_for(SECOND * 5);
    world.crash(0);
    world.run_for(SECOND * 119);
    assert_eq!(prefixes(&world.speakers[1]), ["10.1.0.0/16"]);
    world.run_for(SECOND * 2);
    assert!(prefixes(&world.speakers[1]).is_empty());
    assert!(world.events(1).contains(&Event::StaleGone { peer: PeerId(0) }));
}

#[test]
fn after_a_restart_of_ours_nothing_is_said_until_all_is_known() {
    // 1 – 0 – 2: 0 restarts while 2 is away, so only time ends the wait.
    let mut world = World::star(3, |_, _| {});
    world.start();
    world.input(1, Input::Originate(eid("10.1.0.0/16")));
    world.run_for(SECOND * 5);
    world.cut(0, 2);
    world.crash(0);
    world.restart(0, |settings| {
        settings.restarting = true;
        settings.restart_time = 30;
        settings.originate = vec![eid("10.9.0.0/16")];
    });
    world.run_for(SECOND * 20);
    assert!(world.speakers[0].summary().deferring);
    assert_eq!(prefixes(&world.speakers[0]), ["10.1.0.0/16", "10.9.0.0/16"], "what is known is used");
    assert_eq!(prefixes(&world.speakers[1]), ["10.1.0.0/16"]);
    world.run_for(SECOND * 11);
    assert_eq!(prefixes(&world.speakers[1]), ["10.1.0.0/16", "10.9.0.0/16"]);
}

/// ALT-15.
#[test]
fn too_many_prefixes_do_what_was_asked_for() {
    let limited = |action| {
        let mut world = World::star(2, |index, settings| {
            if index == 0 {
                settings.neighbors[0].max_prefixes = Some(MaxPrefixes { limit: 10, action });
            }
        });
        world.start();
        for third in 0..11 {
            world.input(1, Input::Originate(eid(&format!("10.1.{third}.0/24"))));
        }
        world.run_for(SECOND * 10);
        world
    };
    let warned = limited(MaxPrefixesAction::Warn);
    assert_eq!(prefixes(&warned.speakers[0]).len(), 10);
    assert_eq!(refused(&warned.speakers[0], 0, RouteFault::MaxPrefixes), 1);
    let said = Event::MaxPrefixes { peer: PeerId(0), limit: 10 };
    assert_eq!(warned.events(0).iter().filter(|event| **event == said).count(), 1);

    let mut idle = limited(MaxPrefixesAction::Idle);
    assert!(prefixes(&idle.speakers[0]).is_empty());
    idle.run_for(SECOND * 600);
    assert_eq!(idle.speakers[0].neighbors().next().unwrap().session.state, State::Idle);
    idle.input(1, Input::Withdraw(eid("10.1.0.0/24")));
    idle.input(0, Input::Clear { peer: PeerId(0), soft: false });
    idle.run_for(SECOND * 120);
    assert_eq!(prefixes(&idle.speakers[0]).len(), 10);

    let mut again = limited(MaxPrefixesAction::Restart(SECOND * 60));
    assert!(prefixes(&again.speakers[0]).is_empty());
    again.input(1, Input::Withdraw(eid("10.1.0.0/24")));
    again.run_for(SECOND * 40);
    assert!(prefixes(&again.speakers[0]).is_empty());
    again.run_for(SECOND * 120);
    assert_eq!(prefixes(&again.speakers[0]).len(), 10);
}

/// ALT-15.
#[test]
fn lists_decide_what_passes() {
    let mut world = World::star(3, |index, settings| {
        if index == 0 {
            let deny = Rule { permit: false, prefix: prefix("10.2.0.0/16"), ge: 16, le: 32 };
            settings.neighbors[0].import = PrefixList(vec![deny, permit("10.0.0.0/8", 24)]);
            settings.neighbors[1].export = PrefixList(vec![permit("10.1.0.0/16", 16)]);
        }
    });
    world.start();
    for text in ["10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "10.2.1.0/24", "11.0.0.0/8"] {
        world.input(1, Input::Originate(eid(text)));
    }
    world.run_for(SECOND * 5);
    assert_eq!(prefixes(&world.speakers[0]), ["10.1.0.0/16", "10.1.1.0/24"]);
    assert_eq!(refused(&world.speakers[0], 0, RouteFault::ImportDenied), 3);
    assert_eq!(prefixes(&world.speakers[2]), ["10.1.0.0/16"]);
}

/// ALT-11.
#[test]
fn a_default_route_can_be_told_to_a_neighbour() {
    let mut world = World::star(3, |index, settings| {
        if index == 0 {
            settings.neighbors[0].default_originate = true;
            settings.neighbors[0].export = PrefixList(vec![permit("192.0.2.0/24", 24)]);
        }
    });
    world.start();
    world.input(2, Input::Originate(eid("10.1.0.0/16")));
    world.run_for(SECOND * 5);
    assert_eq!(prefixes(&world.speakers[1]), ["0.0.0.0/0", "::/0"]);
    assert_eq!(world.speakers[1].lookup(InstanceId::DEFAULT, ip("10.1.2.3")), Some(Hop::Tunnel(TunnelId(0))));
    assert!(prefixes(&world.speakers[2]).is_empty() || prefixes(&world.speakers[2]) == ["10.1.0.0/16"]);
    world.input(1, Input::Clear { peer: PeerId(0), soft: true });
    world.run_for(SECOND * 2);
    assert_eq!(prefixes(&world.speakers[1]), ["0.0.0.0/0", "::/0"], "a refresh repeats it");
}

#[test]
fn announcements_keep_their_distance() {
    let mut world = World::star(2, |index, settings| {
        if index == 0 {
            settings.neighbors[0].advertisement_interval = SECOND * 30;
        }
    });
    world.start();
    world.run_for(SECOND * 5);
    world.input(0, Input::Originate(eid("10.1.0.0/16")));
    world.run_for(SECOND);
    assert_eq!(prefixes(&world.speakers[1]), ["10.1.0.0/16"], "the first goes at once");
    let updates = |world: &World| world.speakers[1].neighbors().next().unwrap().session.received.updates;
    let before = updates(&world);
    for _ in 0..10 {
        world.input(0, Input::Withdraw(eid("10.1.0.0/16")));
        world.input(0, Input::Originate(eid("10.2.0.0/16")));
        world.run_for(SECOND);
        world.input(0, Input::Originate(eid("10.1.0.0/16")));
        world.input(0, Input::Withdraw(eid("10.2.0.0/16")));
        world.run_for(SECOND);
    }
    assert_eq!(updates(&world), before);
    world.input(0, Input::Originate(eid("10.3.0.0/16")));
    world.run_for(SECOND * 30);
    assert_eq!(prefixes(&world.speakers[1]), ["10.1.0.0/16", "10.3.0.0/16"]);
    assert_eq!(updates(&world), before + 1, "what came and went is not said");
}

#[test]
fn a_connection_that_takes_nothing_gets_no_more() {
    let mut world = World::line(2);
    world.start();
    world.run_for(SECOND * 5);
    world.stuck = true;
    let written = world.written(0);
    // Each with a neighbour's worth of attributes of its own would be more; these are a million octets of prefixes.
    for number in 0..100_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + (number << 8));
        let prefix = Prefix::new(address.into(), 24).unwrap();
        world.input(0, Input::Originate(EidPrefix { instance: InstanceId::DEFAULT, prefix }));
    }
    world.run_for(SECOND * 2);
    let held_back = world.written(0) - written;
    assert!((64 * 1024..128 * 1024).contains(&held_back), "{held_back}");
    assert!(world.speakers[0].due().is_none_or(|due| due > world.now), "it waits and does not spin");
    world.unstick();
    world.run_for(SECOND * 5);
    assert_eq!(world.speakers[1].summary().instances[0].prefixes, 100_000);
    assert!(world.speakers[0].neighbors().next().unwrap().in_step);
}

#[test]
fn instances_do_not_meet() {
    let mut world = World::star(3, |index, settings| {
        let five = InstanceId::new(5).unwrap();
        settings.neighbors.last_mut().unwrap().instance = if index == 1 { InstanceId::DEFAULT } else { five };
    });
    world.start();
    world.input(1, Input::Originate(eid("10.1.0.0/16")));
    world.run_for(SECOND * 5);
    assert_eq!(prefixes(&world.speakers[0]), ["10.1.0.0/16"]);
    assert!(prefixes(&world.speakers[2]).is_empty());
    assert_eq!(world.speakers[0].lookup(InstanceId::new(5).unwrap(), ip("10.1.0.1")), None);
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let now = Instant::now();
    let base = World::settings(3, &[(0, 1), (0, 2)]).remove(0);
    let aggregate =
        |components| Aggregate { eid: eid("10.1.0.0/16"), components: vec![components], summary_only: false };
    let mut unknown = base.clone();
    unknown.aggregates = vec![aggregate(PeerId(7))];
    assert_eq!(
        Speaker::new(unknown, now, 0).unwrap_err().to_string(),
        "aggregate 10.1.0.0/16: a component is no configured neighbour; name one of the [[alt.neighbor]] addresses"
    );
    let mut foreign = base.clone();
    foreign.aggregates = vec![aggregate(PeerId(1))];
    foreign.neighbors[1].instance = InstanceId::new(5).unwrap();
    assert!(matches!(Speaker::new(foreign, now, 0), Err(SpeakerError::ForeignComponent { .. })));
    let mut twice = base.clone();
    twice.aggregates = vec![aggregate(PeerId(0)), aggregate(PeerId(1))];
    assert_eq!(Speaker::new(twice, now, 0).unwrap_err(), SpeakerError::DuplicateAggregate(eid("10.1.0.0/16")));
    let mut same = base.clone();
    same.neighbors[1] = same.neighbors[0].clone();
    assert!(matches!(Speaker::new(same, now, 0), Err(SpeakerError::DuplicateNeighbor(_))));
    let mut many = base;
    many.neighbors = vec![many.neighbors[0].clone(); NEIGHBORS_MAX + 1];
    assert_eq!(Speaker::new(many, now, 0).unwrap_err(), SpeakerError::TooManyNeighbors(NEIGHBORS_MAX + 1));
}

#[test]
fn route_faults_have_names_of_their_own() {
    let mut names: Vec<&str> = RouteFault::ALL.iter().map(|fault| fault.name()).collect();
    names.extend(crate::alt::bgp::message::BgpFault::ALL.iter().map(|fault| fault.name()));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[derive(Debug, Clone)]
enum Happening {
    Originate(usize, usize),
    Withdraw(usize, usize),
    Cut(usize),
    Mend(usize),
    Refresh(usize),
    Wait(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    (0..8, 0_usize..6, 0_usize..4, 1_u64..3000).prop_map(|(kind, one, other, millis)| match kind {
        0 | 1 => Happening::Originate(one, other),
        2 => Happening::Withdraw(one, other),
        3 => Happening::Cut(one),
        4 => Happening::Mend(one),
        5 => Happening::Refresh(one),
        _ => Happening::Wait(millis),
    })
}

/// Hops from each router to the nearest originator of a prefix, by breadth.
fn distances(count: usize, links: &[(usize, usize)], origins: &[usize]) -> Vec<Option<usize>> {
    let mut distance: Vec<Option<usize>> = (0..count).map(|router| origins.contains(&router).then_some(0)).collect();
    for step in 0..count {
        for (one, other) in links.iter().flat_map(|(one, other)| [(*one, *other), (*other, *one)]) {
            if distance[one] == Some(step) && distance[other].is_none() {
                distance[other] = Some(step + 1);
            }
        }
    }
    distance
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happened_all_find_the_shortest_way_in_the_end(
        extra in prop::collection::vec((0_usize..5, 0_usize..5), 0..4),
        happenings in prop::collection::vec(happening(), 0..40),
    ) {
        let count = 5;
        let mut links: Vec<(usize, usize)> = (1..count).map(|router| (router - 1, router)).collect();
        for (one, other) in extra {
            let link = (one.min(other), one.max(other));
            if one != other && !links.contains(&link) {
                links.push(link);
            }
        }
        let mut world = World::of(World::settings(count, &links));
        world.start();
        let mut originated: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut cut: Vec<(usize, usize)> = Vec::new();
        let text = |which: usize| ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "2001:db8::/32"][which];
        for happening in happenings {
            match happening {
                Happening::Originate(router, which) => {
                    world.input(router % count, Input::Originate(eid(text(which))));
                    let routers = originated.entry(which).or_default();
                    routers.retain(|other| *other != router % count);
                    routers.push(router % count);
                }
                Happening::Withdraw(router, which) => {
                    world.input(router % count, Input::Withdraw(eid(text(which))));
                    originated.entry(which).or_default().retain(|other| *other != router % count);
                }
                Happening::Cut(which) => {
                    let link = links[which % links.len()];
                    world.cut(link.0, link.1);
                    cut.retain(|other| *other != link);
                    cut.push(link);
                }
                Happening::Mend(which) => {
                    let link = links[which % links.len()];
                    world.mend(link.0, link.1);
                    cut.retain(|other| *other != link);
                }
                Happening::Refresh(router) => {
                    world.input(router % count, Input::Clear { peer: PeerId(0), soft: true });
                }
                Happening::Wait(millis) => world.run_for(Duration::from_millis(millis)),
            }
        }
        world.run_for(SECOND * 120);
        links.retain(|link| !cut.contains(link));
        for which in 0..4 {
            let origins = originated.get(&which).cloned().unwrap_or_default();
            let expected = distances(count, &links, &origins);
            let found: Vec<Option<usize>> =
                world.speakers.iter().map(|speaker| path(speaker, text(which)).map(|path| path.len())).collect();
            prop_assert_eq!(found, expected, "{}", text(which));
        }
        for speaker in &world.speakers {
            prop_assert!(speaker.routes(None, usize::MAX).iter().all(|route| !route.stale));
        }
        let _ = address(0, 1);
    }
}
