//! EID routes out of a table of a real kernel's: dump, events, links that take routes with them, lost notifications.
//!
//! Needs root; without it every test says so and passes.

mod namespaces;

use std::{
    collections::BTreeMap,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use altitude_control::{
    alt::{
        rib::{
            Hop, Rib,
            kernel::{self, KernelRib, RibFault},
        },
        tunnels::TunnelId,
    },
    fault::Tally,
    os::{netlink::table::RouteTable, tun::Tun},
};
use altitude_dataplane::mapping::InstanceId;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};

use namespaces::Namespaces;

/// Far more than anything here takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);
const ROLE: &str = "router";
const TABLE: &str = "4342";

#[test]
fn what_was_there_before_what_comes_and_what_goes() {
    let Some(lab) = Lab::new() else { return };
    lab.batch(
        "route add 10.1.0.0/16 via 10.42.0.2 dev alt0 table 4342\n\
         route add 10.1.9.0/24 dev lo table 4342\n\
         route add blackhole 10.3.0.0/16 table 4342 metric 20\n\
         route add 10.4.0.0/16 dev alt1 table 4343\n\
         route add 10.5.0.0/16 dev alt1\n\
         route add 2001:db8:1::/48 via fd00:42::2 dev alt1 table 4342\n",
    );
    let mut table = lab.table();
    table.until(KernelRib::is_read);
    for (address, expected) in [
        ("10.1.1.1", tunnel(0)),
        ("10.1.9.1", tunnel(0)), // the longer one leads to no tunnel
        ("10.3.1.1", Some(Hop::Discard)),
        ("10.4.1.1", None), // another table's
        ("10.5.1.1", None), // the main table's
        ("2001:db8:1::1", tunnel(1)),
    ] {
        assert_eq!(table.hop(address), expected, "{address}");
    }
    assert_eq!(table.faults.get(RibFault::NotATunnel), 1);

    lab.ip("route replace 10.1.0.0/16 dev alt1 table 4342");
    table.until(|rib| hop(rib, "10.1.1.1") == tunnel(1));
    lab.ip("route add 10.2.0.0/16 dev alt0 table 4342 metric 20");
    lab.ip("route add unreachable 10.2.0.0/16 table 4342 metric 200");
    table.until(|rib| hop(rib, "10.2.1.1") == tunnel(0));
    lab.ip("route del 10.2.0.0/16 dev alt0 table 4342");
    table.until(|rib| hop(rib, "10.2.1.1") == Some(Hop::Discard));
    lab.ip("-6 route add 2001:db8:2::/48 table 4342 nexthop via fd00:42::2 dev alt1 nexthop via fd00:41::2 dev alt0");
    table.until(|rib| hop(rib, "2001:db8:2::1") == tunnel(1));
    lab.ip("-6 route del 2001:db8:1::/48 table 4342");
    table.until(|rib| hop(rib, "2001:db8:1::1").is_none());
    assert_eq!(table.dumps, 1, "single routes come as events");
    // A second route of the same metric, before the first: only a dump can tell which one counts.
    lab.ip("route prepend 10.1.0.0/16 dev alt0 table 4342");
    table.until(|rib| hop(rib, "10.1.1.1") == tunnel(0));
    lab.ip("route del 10.1.0.0/16 dev alt0 table 4342");
    table.until(|rib| hop(rib, "10.1.1.1") == tunnel(1));
}

#[test]
fn a_table_that_does_not_exist_is_empty_and_may_come_later() {
    let Some(lab) = Lab::new() else { return };
    let mut table = lab.table();
    table.until(KernelRib::is_read);
    assert!(table.rib.is_empty());
    lab.ip("route add 10.1.0.0/16 dev alt0 table 4342");
    table.until(|rib| hop(rib, "10.1.1.1") == tunnel(0));
}

/// The kernel says nothing of the routes that go with a link.
#[test]
fn a_link_that_goes_down_or_away_takes_its_routes_with_it() {
    let Some(mut lab) = Lab::new() else { return };
    for (device, low) in [("alt0", 1), ("alt1", 2)] {
        lab.ip(&format!("route add 10.{low}.0.0/16 dev {device} table 4342"));
        lab.ip(&format!("-6 route add 2001:db8:{low}::/48 dev {device} table 4342"));
    }
    let mut table = lab.table();
    table.until(|rib| rib.len() == 4);
    lab.ip("link set alt0 down");
    table.until(|rib| hop(rib, "10.1.1.1").is_none() && hop(rib, "2001:db8:1::1").is_none());
    assert_eq!((table.hop("10.2.1.1"), table.hop("2001:db8:2::1")), (tunnel(1), tunnel(1)));
    lab.ip("link set alt0 up");
    lab.ip("route add 10.1.0.0/16 dev alt0 table 4342");
    table.until(|rib| hop(rib, "10.1.1.1") == tunnel(0));
    lab.tuns.pop();
    table.until(|rib| rib.len() == 1);
    assert_eq!(table.hop("10.1.1.1"), tunnel(0));
}

/// The last IPv4 address of an interface takes the IPv4 routes through it with it.
#[test]
fn an_address_that_goes_takes_its_routes_with_it() {
    let Some(lab) = Lab::new() else { return };
    lab.ip("route add 10.1.0.0/16 dev alt0 table 4342");
    let mut table = lab.table();
    table.until(|rib| rib.len() == 1);
    lab.ip("addr del 10.42.0.1/30 dev alt0");
    table.until(KernelRib::is_empty);
}

#[test]
fn lost_notifications_are_made_up_for() {
    let Some(lab) = Lab::new() else { return };
    let mut table = lab.table();
    table.until(KernelRib::is_read);
    setsockopt(&table.socket, sockopt::RcvBuf, &1).expect("the smallest buffer");
    let mut batch: String = (0..250).map(|n| format!("route add 10.9.{n}.0/24 dev alt0 table {TABLE}\n")).collect();
    batch.extend((0..249).map(|n| format!("route del 10.9.{n}.0/24 dev alt0 table {TABLE}\n")));
    lab.batch(&batch);
    table.until(|rib| rib.len() == 1 && hop(rib, "10.9.249.1") == tunnel(0));
    assert!(table.faults.get(RibFault::Lost) > 0 && table.dumps > 1, "{} dumps", table.dumps);
}

#[test]
fn a_big_table_is_read_in_parts() {
    let Some(lab) = Lab::new() else { return };
    let route = |n: u32| format!("route add 10.{}.{}.0/24 dev alt{} table {TABLE}\n", n / 250, n % 250, n % 2);
    lab.batch(&(0..20_000).map(route).collect::<String>());
    let mut table = lab.table();
    table.until(KernelRib::is_read);
    assert_eq!((table.rib.len(), table.hop("10.79.249.1")), (20_000, tunnel(1)));
    assert!(table.rounds > 20_000 * 40 / (16 * 32_768), "{} rounds", table.rounds);
    lab.ip(&format!("route flush table {TABLE}"));
    table.until(KernelRib::is_empty);
}

fn tunnel(id: usize) -> Option<Hop> {
    Some(Hop::Tunnel(TunnelId(id)))
}

fn hop(rib: &KernelRib, address: &str) -> Option<Hop> {
    rib.lookup(InstanceId::DEFAULT, address.parse().unwrap())
}

/// The machine and its socket.
struct Table {
    rib: KernelRib,
    socket: RouteTable,
    faults: Tally<RibFault>,
    dumps: usize,
    rounds: usize,
}

impl Table {
    fn hop(&self, address: &str) -> Option<Hop> {
        hop(&self.rib, address)
    }

    fn step(&mut self, input: kernel::Input) {
        let (mut todo, mut inputs) = (Vec::new(), Vec::new());
        self.rib.step(Instant::now(), input, &mut todo);
        for output in todo {
            match output {
                kernel::Output::Dump => {
                    self.dumps += 1;
                    self.socket.dump(&mut inputs).expect("ask for a dump");
                }
                kernel::Output::Fault(fault) => self.faults.count(fault),
            }
        }
        inputs.into_iter().for_each(|input| self.step(input));
    }

    /// Runs until `condition` holds, with nothing left to read.
    fn until(&mut self, condition: impl Fn(&KernelRib) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.step(kernel::Input::Wake);
            let mut inputs = Vec::new();
            let more = self.socket.receive(16, &mut inputs).expect("receive");
            self.rounds += 1;
            inputs.into_iter().for_each(|input| self.step(input));
            if !more && condition(&self.rib) {
                return;
            }
            assert!(Instant::now() < deadline, "never came true: {} routes, {} dumps", self.rib.len(), self.dumps);
            if !more {
                let left = |due: Instant| due.saturating_duration_since(Instant::now());
                let timeout = self.rib.due().map_or(PATIENCE, left).min(Duration::from_millis(200));
                let timeout = PollTimeout::try_from(timeout).unwrap();
                poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout).expect("poll");
            }
        }
    }
}

/// A namespace with the tunnel interfaces alt0 and alt1.
struct Lab {
    namespaces: Namespaces,
    tuns: Vec<Tun>,
}

impl Lab {
    fn new() -> Option<Self> {
        let mut lab = Self { namespaces: Namespaces::new("alttab", &[ROLE])?, tuns: Vec::new() };
        for (tunnel, addresses) in
            [("alt0", ["10.42.0.1/30", "fd00:41::1/64"]), ("alt1", ["10.42.1.1/30", "fd00:42::1/64"])]
        {
            let addresses = addresses.map(|address| {
                let (address, length) = address.split_once('/').unwrap();
                (address.parse().unwrap(), length.parse().unwrap())
            });
            let tun = lab.inside(|| Tun::open(tunnel, 1476, &addresses).expect("TUN"));
            lab.tuns.push(tun);
        }
        Some(lab)
    }

    fn table(&self) -> Table {
        let devices = self.tuns.iter().enumerate().map(|(id, tun)| (tun.index(), TunnelId(id)));
        let rib = KernelRib::new(
            InstanceId::DEFAULT,
            TABLE.parse().unwrap(),
            devices.collect::<BTreeMap<_, _>>(),
            Instant::now(),
        );
        let socket = self.inside(|| RouteTable::open(rib.table()).expect("netlink"));
        Table { rib, socket, faults: Tally::default(), dumps: 0, rounds: 0 }
    }

    fn ip(&self, arguments: &str) {
        self.namespaces.ip(ROLE, arguments);
    }

    fn batch(&self, lines: &str) {
        self.namespaces.batch(ROLE, lines);
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespaces.inside(ROLE, work)
    }
}
