//! Stories of mappings, paths and hosts, seen through a worker's reader.

use altitude_dataplane::{
    cache::{self, Reader},
    mapping::Ttl,
};

use super::*;

/// An underlay that knows what the test tells it; what it was not told is waiting.
#[derive(Default)]
struct Known(HashMap<IpAddr, Path>);

impl Paths for Known {
    fn path(&self, destination: IpAddr) -> Path {
        self.0.get(&destination).copied().unwrap_or(Path::Waiting)
    }

    fn source(&self, _destination: IpAddr) -> Option<IpAddr> {
        None
    }
}

const fn adjacency(port: u8) -> Adjacency {
    Adjacency { port, destination: [2, 0, 0, 0, 0, port], source: [2; 6], vlan: None, mtu: 1600 }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eid(text: &str) -> EidPrefix {
    EidPrefix { instance: InstanceId::DEFAULT, prefix: text.parse().unwrap() }
}

fn mapping(prefix: &str, locators: &[&str]) -> Mapping {
    Mapping {
        locators: locators.iter().map(|address| Locator::unicast(ip(address), 1, 50)).collect(),
        ..Mapping::negative(eid(prefix), Ttl::Minutes(1440), Action::NoAction)
    }
}

fn world() -> (Publisher, Reader, Known) {
    let (writer, mut readers) = cache::new(64, 1);
    let settings = Settings { rlocs: vec![ip("240.0.254.10"), ip("2001:db8:f::10")], hosts_max: 2 };
    (Publisher::new(settings, writer), readers.remove(0), Known::default())
}

/// What a packet to `address` meets after publication.
fn meets(publisher: &mut Publisher, reader: &mut Reader, address: &str) -> Option<Forwarding> {
    publisher.publish();
    let snapshot = reader.snapshot();
    snapshot.lookup(InstanceId::DEFAULT, ip(address)).map(|entry| entry.forwarding().clone())
}

fn destinations(forwarding: Option<Forwarding>) -> Vec<IpAddr> {
    let Some(Forwarding::Encapsulate(set)) = forwarding else { panic!("{forwarding:?} does not encapsulate") };
    set.outers().iter().map(OuterHeader::destination).collect()
}

#[test]
fn a_mapping_is_asked_for_until_its_path_is_ready() {
    let (mut publisher, mut reader, mut known) = world();
    let mut todo = Vec::new();
    publisher.show(mapping("2.2.0.0/16", &["240.0.254.20"]), &known, &mut todo);
    assert_eq!(todo, [Watch::Start(ip("240.0.254.20"))]);
    assert_eq!(meets(&mut publisher, &mut reader, "2.2.2.2"), Some(Forwarding::Request));
    let host = Eid { instance: InstanceId::DEFAULT, address: ip("2.2.2.2") };
    assert!(publisher.waits_for_path(host));

    known.0.insert(ip("240.0.254.20"), Path::Ready(adjacency(1)));
    publisher.path_changed(ip("240.0.254.20"), &known);
    assert_eq!(destinations(meets(&mut publisher, &mut reader, "2.2.2.2")), [ip("240.0.254.20")]);
    assert!(!publisher.waits_for_path(host));

    known.0.insert(ip("240.0.254.20"), Path::Unreachable);
    publisher.path_changed(ip("240.0.254.20"), &known);
    assert_eq!(
        meets(&mut publisher, &mut reader, "2.2.2.2"),
        Some(Forwarding::Drop(Reason::NoUsableLocator)),
        "no route is an answer, not a wait"
    );
}

#[test]
fn a_locator_of_a_family_we_lack_or_without_path_is_left_out() {
    let (writer, mut readers) = cache::new(64, 1);
    let settings = Settings { rlocs: vec![ip("240.0.254.10")], hosts_max: 2 };
    let mut publisher = Publisher::new(settings, writer);
    let mut known = Known::default();
    known.0.insert(ip("240.0.254.20"), Path::Ready(adjacency(1)));
    known.0.insert(ip("240.0.254.21"), Path::Unreachable);
    known.0.insert(ip("2001:db8:f::20"), Path::Ready(adjacency(1)));
    let set = mapping("2.2.0.0/16", &["240.0.254.20", "240.0.254.21", "2001:db8:f::20"]);
    publisher.show(set, &known, &mut Vec::new());
    assert_eq!(destinations(meets(&mut publisher, &mut readers[0], "2.2.2.2")), [ip("240.0.254.20")]);
}

#[test]
fn a_replaced_mapping_stops_watching_what_only_it_used() {
    let (mut publisher, _, known) = world();
    let mut todo = Vec::new();
    publisher.show(mapping("2.2.0.0/16", &["240.0.254.20", "240.0.254.21"]), &known, &mut todo);
    publisher.show(mapping("3.3.0.0/16", &["240.0.254.21"]), &known, &mut todo);
    todo.clear();
    publisher.show(mapping("2.2.0.0/16", &["240.0.254.22"]), &known, &mut todo);
    assert_eq!(todo, [Watch::Stop(ip("240.0.254.20")), Watch::Start(ip("240.0.254.22"))]);
    todo.clear();
    publisher.hide(&eid("3.3.0.0/16"), &mut todo);
    assert_eq!(todo, [Watch::Stop(ip("240.0.254.21"))]);
}

#[test]
fn negative_mappings_become_their_action() {
    let (mut publisher, mut reader, mut known) = world();
    for (action, expected) in [
        (Action::NoAction, Forwarding::Drop(Reason::ActNoAction)),
        (Action::SendMapRequest, Forwarding::Request),
        (Action::Drop, Forwarding::Drop(Reason::ActDrop)),
        (Action::DropPolicyDenied, Forwarding::Drop(Reason::ActPolicyDenied)),
        (Action::DropAuthFailure, Forwarding::Drop(Reason::ActAuthFailure)),
        (Action::NativelyForward, Forwarding::Request),
    ] {
        publisher.show(Mapping::negative(eid("8.0.0.0/8"), Ttl::Minutes(15), action), &known, &mut Vec::new());
        assert_eq!(meets(&mut publisher, &mut reader, "8.8.8.8"), Some(expected), "{action}");
    }
    known.0.insert(ip("8.0.0.1"), Path::Ready(adjacency(1)));
    publisher.path_changed(ip("8.0.0.1"), &known);
    assert_eq!(meets(&mut publisher, &mut reader, "8.8.8.8"), Some(Forwarding::Native(adjacency(1))));
    known.0.insert(ip("8.0.0.1"), Path::Unreachable);
    publisher.path_changed(ip("8.0.0.1"), &known);
    assert_eq!(meets(&mut publisher, &mut reader, "8.8.8.8"), Some(Forwarding::Drop(Reason::NativeNoRoute)));
}

#[test]
fn site_hosts_come_go_and_are_bounded() {
    let (mut publisher, mut reader, mut known) = world();
    let mut todo = Vec::new();
    publisher.own(eid("1.1.0.0/16"));
    let unresolved = Some(Forwarding::Local(Delivery::Unresolved));
    assert_eq!(meets(&mut publisher, &mut reader, "1.1.1.1"), unresolved);

    let host = |last| Eid { instance: InstanceId::DEFAULT, address: IpAddr::from([1, 1, 1, last]) };
    known.0.insert(ip("1.1.1.1"), Path::Ready(adjacency(0)));
    publisher.want_host(host(1), &known, &mut todo);
    publisher.want_host(host(1), &known, &mut todo);
    assert_eq!(todo, [Watch::Start(ip("1.1.1.1"))]);
    let adjacent = Some(Forwarding::Local(Delivery::Adjacent(adjacency(0))));
    assert_eq!(meets(&mut publisher, &mut reader, "1.1.1.1"), adjacent);

    known.0.insert(ip("1.1.1.1"), Path::Waiting);
    publisher.path_changed(ip("1.1.1.1"), &known);
    assert_eq!(meets(&mut publisher, &mut reader, "1.1.1.1"), unresolved);

    publisher.want_host(host(2), &known, &mut todo);
    publisher.want_host(host(3), &known, &mut todo);
    assert_eq!((todo.len(), publisher.refused()), (2, 1), "the third host is beyond the limit");

    todo.clear();
    for _ in 0..IDLE_ROUNDS {
        publisher.age_hosts(&mut todo);
    }
    todo.sort_by_key(|watch| format!("{watch:?}"));
    assert_eq!(todo, [Watch::Stop(ip("1.1.1.1")), Watch::Stop(ip("1.1.1.2"))]);
}
