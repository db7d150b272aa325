//! Tables as the kernel tells them, and what is left of them.

use super::*;
use crate::alt::rib::lately::LATELY;

const ALT0: u32 = 7;
const ALT1: u32 = 8;

struct Table {
    rib: KernelRib,
    start: Instant,
    now: Instant,
    todo: Vec<Output>,
}

impl Table {
    /// Dumped once, empty.
    fn new() -> Self {
        let start = Instant::now();
        let devices = BTreeMap::from([(ALT0, TunnelId(0)), (ALT1, TunnelId(1))]);
        let rib = KernelRib::new(InstanceId::DEFAULT, 4342, devices, start);
        let mut table = Self { rib, start, now: start, todo: Vec::new() };
        assert_eq!(table.rib.due(), Some(start));
        assert_eq!(table.step(Input::Wake), [Output::Dump]);
        table.dump(&[]);
        assert!(table.rib.is_read());
        table
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        self.rib.step(self.now, input, &mut self.todo);
        std::mem::take(&mut self.todo)
    }

    /// Answers the dump that was asked for.
    fn dump(&mut self, routes: &[KernelRoute]) {
        self.step(Input::Begin);
        for route in routes {
            self.step(Input::Route(route.clone(), Told::Dumped));
        }
        assert_eq!(self.step(Input::End { whole: true }), []);
    }

    fn at(&mut self, milliseconds: u64) {
        self.now = self.start + Duration::from_millis(milliseconds);
    }

    fn hop(&self, address: &str) -> Option<Hop> {
        self.rib.lookup(InstanceId::DEFAULT, address.parse().unwrap())
    }
}

fn route(prefix: &str, metric: u32, way: Way) -> KernelRoute {
    KernelRoute { prefix: prefix.parse().unwrap(), metric, tos: 0, way }
}

fn through(prefix: &str, metric: u32, device: u32) -> KernelRoute {
    route(prefix, metric, Way::Devices(vec![device]))
}

fn tunnel(id: usize) -> Option<Hop> {
    Some(Hop::Tunnel(TunnelId(id)))
}

#[test]
fn routes_come_are_replaced_and_go() {
    let mut table = Table::new();
    for (input, expected) in [
        (Input::Route(through("10.1.0.0/16", 20, ALT0), Told::Added), tunnel(0)),
        (Input::Route(through("10.1.0.0/16", 20, ALT1), Told::Replaced), tunnel(1)),
        (Input::Route(route("10.1.1.0/24", 20, Way::Discard), Told::Added), Some(Hop::Discard)),
        (Input::Gone(route("10.1.1.0/24", 20, Way::Discard)), tunnel(1)),
        // Not the one that is there: an event about a route that was replaced in between.
        (Input::Gone(through("10.1.0.0/16", 99, ALT1)), tunnel(1)),
        (Input::Gone(through("10.1.0.0/16", 20, ALT1)), None),
    ] {
        let told = format!("{input:?}");
        assert_eq!(table.step(input), []);
        assert_eq!(table.hop("10.1.1.1"), expected, "{told}");
    }
    assert!(table.rib.is_empty());
}

#[test]
fn the_lowest_metric_wins_and_the_next_takes_over() {
    let mut table = Table::new();
    table.step(Input::Route(through("2001:db8::/32", 1024, ALT0), Told::Added));
    table.step(Input::Route(through("2001:db8::/32", 20, ALT1), Told::Added));
    assert_eq!((table.hop("2001:db8::1"), table.rib.len()), (tunnel(1), 1));
    table.step(Input::Gone(through("2001:db8::/32", 20, ALT1)));
    assert_eq!(table.hop("2001:db8::1"), tunnel(0));
}

#[test]
fn of_several_devices_the_first_tunnel_counts_and_other_routes_are_ignored() {
    let mut table = Table::new();
    let several = route("10.0.0.0/8", 0, Way::Devices(vec![1, ALT1, ALT0]));
    assert_eq!(table.step(Input::Route(several, Told::Added)), []);
    assert_eq!(table.hop("10.1.1.1"), tunnel(1));
    let ignored = [Output::Fault(RibFault::NotATunnel)];
    assert_eq!(table.step(Input::Route(through("11.0.0.0/8", 0, 1), Told::Added)), ignored);
    assert_eq!(table.step(Input::Route(route("12.0.0.0/8", 0, Way::Other), Told::Added)), ignored);
    assert_eq!(table.step(Input::Gone(through("11.0.0.0/8", 0, 1))), []);
    // What was a tunnel's and no longer is has gone, too.
    assert_eq!(table.step(Input::Route(through("10.0.0.0/8", 0, 1), Told::Replaced)), ignored);
    assert!(table.rib.is_empty());
}

#[test]
fn what_a_later_dump_lacks_has_gone() {
    let mut table = Table::new();
    table.step(Input::Route(through("10.1.0.0/16", 20, ALT0), Told::Added));
    table.step(Input::Route(through("10.2.0.0/16", 20, ALT1), Told::Added));
    table.at(500);
    assert_eq!(table.step(Input::LinkDown(ALT0)), [Output::Dump]);
    // Told while the dump is under way, and no part of it.
    table.step(Input::Begin);
    table.step(Input::Route(through("10.3.0.0/16", 20, ALT1), Told::Added));
    table.step(Input::Route(through("10.2.0.0/16", 20, ALT1), Told::Dumped));
    assert_eq!(table.hop("10.1.1.1"), tunnel(0), "nothing is gone before the end");
    assert_eq!(table.step(Input::End { whole: true }), []);
    assert_eq!([table.hop("10.1.1.1"), table.hop("10.2.1.1"), table.hop("10.3.1.1")], [None, tunnel(1), tunnel(1)]);
    let lately = |address: &str, at: Instant| {
        let eid = Eid { instance: InstanceId::DEFAULT, address: address.parse().unwrap() };
        table.rib.went_lately(at, eid, None)
    };
    assert!(lately("10.1.1.1", table.now) && !lately("10.2.1.1", table.now));
    assert!(!lately("10.1.1.1", table.now + LATELY));
    // A second word of the same loss is no news; the link's return and second loss is.
    assert_eq!(table.step(Input::LinkDown(ALT0)), []);
    assert_eq!(table.rib.due(), None);
    table.step(Input::LinkUp(ALT0));
    table.step(Input::LinkDown(ALT0));
    assert_eq!(table.rib.due(), Some(table.start + Duration::from_millis(600)));
}

#[test]
fn dumps_are_apart_and_one_at_a_time() {
    let mut table = Table::new();
    assert_eq!(table.step(Input::Shaken), []);
    table.at(99);
    assert_eq!(table.step(Input::Wake), []);
    table.at(100);
    assert_eq!(table.step(Input::Wake), [Output::Dump]);
    table.step(Input::Begin);
    assert_eq!(table.step(Input::Lost), [Output::Fault(RibFault::Lost)]);
    assert_eq!(table.rib.due(), None, "the dump comes to its end first");
    table.at(300);
    assert_eq!(table.step(Input::End { whole: true }), [Output::Dump]);
    table.step(Input::Begin);
    table.at(500);
    assert_eq!(table.step(Input::End { whole: false }), [Output::Dump], "changed under the dump: read again");
    assert_eq!(table.step(Input::Refused), [Output::Fault(RibFault::Refused)]);
    assert_eq!(table.rib.due(), Some(table.start + Duration::from_millis(1500)));
}

#[test]
fn a_refused_dump_takes_no_route_away() {
    let mut table = Table::new();
    table.step(Input::Route(through("10.1.0.0/16", 20, ALT0), Told::Added));
    table.at(500);
    assert_eq!(table.step(Input::Shaken), [Output::Dump]);
    table.step(Input::Refused);
    assert_eq!(table.hop("10.1.1.1"), tunnel(0));
}

#[test]
fn two_routes_of_one_metric_are_sorted_out_by_a_dump() {
    let mut table = Table::new();
    let (first, second) = (through("10.1.0.0/16", 0, ALT0), through("10.1.0.0/16", 0, ALT1));
    table.step(Input::Route(first.clone(), Told::Added));
    table.at(500);
    // Behind the other (append) or before it (prepend): the event does not say.
    assert_eq!(table.step(Input::Route(second.clone(), Told::Added)), [Output::Dump]);
    table.dump(&[second.clone(), first.clone()]);
    assert_eq!(table.hop("10.1.1.1"), tunnel(1), "the first of the dump is the one the kernel uses");
    table.at(1000);
    assert_eq!(table.step(Input::Gone(second)), [Output::Dump], "the one behind it takes over");
    table.dump(&[first]);
    assert_eq!(table.hop("10.1.1.1"), tunnel(0));
}

#[test]
fn a_table_has_a_bound() {
    let mut table = Table::new();
    table.rib.limit = 1;
    table.step(Input::Route(through("10.1.0.0/16", 0, ALT0), Told::Added));
    let refused = table.step(Input::Route(through("10.2.0.0/16", 0, ALT0), Told::Added));
    assert_eq!(refused, [Output::Fault(RibFault::Full)]);
    assert_eq!((table.hop("10.2.1.1"), table.rib.len()), (None, 1));
    assert_eq!(table.step(Input::Route(through("10.1.0.0/16", 0, ALT1), Told::Replaced)), []);
    assert_eq!(table.hop("10.1.1.1"), tunnel(1));
}
