//! What a mapping costs, all told: fills map-cache, publisher and the workers' table with 1M IPv4 and 200k IPv6 mappings of
//! two locators each, and prints octets per mapping by part and the time of each kind of step.
//!
//! ```text
//! cargo run --release -p altitude-control --example memory              a table for three counts of locator-sets
//! cargo run --release -p altitude-control --example memory -- 20000     one of them: how many different sets there are
//! ```
//!
//! "heap" is what the global allocator handed out (allocation-counter), without its own overhead; the workers' table lies in
//! mappings of its own beside it. "resident" is what the kernel says the process grew by: all told, whoever has it.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
    time::{Duration, Instant},
};

use altitude_control::{
    map_cache::{self, Input, MapCache, Output},
    publisher::{self, Path, Paths, Publisher},
};
use altitude_dataplane::{
    cache,
    features::Features,
    mapping::{Action, Adjacency, EidPrefix, InstanceId, Locator, Mapping, Prefix, Ttl},
};

const V4: usize = 1_000_000;
const V6: usize = 200_000;
const COUNT: usize = V4 + V6;
/// Mappings installed after the table is full: each has another give way.
const BEYOND: usize = 100_000;
/// Different RLOCs at most: the underlay machine watches 65,536 destinations.
const RLOCS_MAX: usize = 60_000;
/// Lengths of prefixes, in parts of 100, roughly as in the Internet's routing tables.
const LENGTHS_V4: [(u64, u8); 6] = [(58, 24), (12, 22), (10, 23), (9, 20), (6, 19), (5, 16)];
const LENGTHS_V6: [(u64, u8); 5] = [(48, 48), (18, 32), (14, 44), (12, 40), (8, 36)];

/// xorshift64*: the same prefixes in every run.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn length(&mut self, lengths: &[(u64, u8)]) -> u8 {
        let mut at = self.next() % 100;
        for &(parts, length) in lengths {
            match at.checked_sub(parts) {
                None => return length,
                Some(left) => at = left,
            }
        }
        lengths[0].1
    }

    fn prefix(&mut self, v4: bool) -> EidPrefix {
        let (address, length): (IpAddr, u8) = if v4 {
            let bits = (1 << 24) + (self.next() as u32) % (223 << 24);
            (Ipv4Addr::from(bits).into(), self.length(&LENGTHS_V4))
        } else {
            let bits = u128::from(0x2000_0000_0000_0000 | self.next() >> 3) << 64;
            (Ipv6Addr::from(bits).into(), self.length(&LENGTHS_V6))
        };
        let prefix = Prefix::new(address, length).expect("lengths fit their family");
        EidPrefix { instance: InstanceId::DEFAULT, prefix }
    }
}

/// An underlay where everything can be reached, or nothing.
struct Ready(bool);

impl Paths for Ready {
    fn path(&self, _: IpAddr) -> Path {
        let adjacency = Adjacency { port: 1, destination: [2; 6], source: [4; 6], vlan: None, mtu: 1500 };
        if self.0 { Path::Ready(adjacency) } else { Path::Unreachable }
    }

    fn source(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }
}

fn rloc(index: usize) -> IpAddr {
    Ipv4Addr::from(0xcb00_0000 + (index % RLOCS_MAX) as u32).into()
}

/// The mapping with the set of this number: two RLOCs, each in two sets.
fn mapping(eid: EidPrefix, set: usize) -> Mapping {
    // The weights tell sets apart that share their RLOCs because there are no more.
    let weight = 50 + (set / RLOCS_MAX) as u8;
    let locators = vec![Locator::unicast(rloc(set), 1, weight), Locator::unicast(rloc(set + 1), 1, 50)];
    Mapping { locators, ..Mapping::negative(eid, Ttl::Minutes(1440), Action::NoAction) }
}

/// The control thread's part that has to do with mappings.
struct Control {
    cache: MapCache,
    publisher: Publisher,
    todo: Vec<Output>,
    watches: Vec<publisher::Watch>,
    withdrawn: usize,
}

impl Control {
    fn new(now: Instant) -> Self {
        let (writer, _readers) = cache::new(COUNT, 1);
        let settings = publisher::Settings {
            rlocs: vec![[192, 0, 2, 1].into()],
            petrs: Vec::new(),
            hosts_max: 1,
            native_by_host: false,
            features: Features::default(),
        };
        Self {
            cache: MapCache::new(map_cache::Settings { capacity: COUNT }, now),
            publisher: Publisher::new(settings, writer),
            todo: Vec::new(),
            watches: Vec::new(),
            withdrawn: 0,
        }
    }

    /// As the driver does: step the map-cache, do what it says, end the group of changes.
    fn step(&mut self, now: Instant, input: Input) -> Duration {
        let began = Instant::now();
        let publisher = &self.publisher;
        self.cache.step(now, input, &|eid| publisher.hits(eid).packets, &mut self.todo);
        for output in self.todo.drain(..) {
            match output {
                Output::Publish(mapping, set) => {
                    self.publisher.show(&mapping, set, &Ready(true), &mut self.watches);
                }
                Output::Withdraw(eid) => {
                    self.withdrawn += 1;
                    self.publisher.hide(&eid, &mut self.watches);
                }
                Output::Release(set) => self.publisher.release(set, &mut self.watches),
                Output::Refresh(_) | Output::Used(_) | Output::Fault(_) => {}
            }
        }
        self.publisher.publish();
        let took = began.elapsed();
        self.watches.clear();
        took
    }
}

/// Nanoseconds of each step of a kind; all memory is there before the first.
struct Times {
    name: &'static str,
    nanoseconds: Vec<u64>,
}

impl Times {
    fn new(name: &'static str, count: usize) -> Self {
        let mut nanoseconds = vec![1; count];
        nanoseconds.clear();
        Self { name, nanoseconds }
    }

    fn add(&mut self, took: Duration) {
        self.nanoseconds.push(took.as_nanos() as u64);
    }

    fn print(mut self) {
        self.nanoseconds.sort_unstable();
        let last = self.nanoseconds.len() - 1;
        let at = |part: f64| self.nanoseconds[(last as f64 * part) as usize] as f64 / 1000.0;
        let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), at(1.0));
        println!("{:<44} {:>8} {p50:>10.2} {p99:>10.2} {p999:>10.2} {max:>10.2}", self.name, last + 1);
    }
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
}

fn one_case(sets: usize) {
    let start = Instant::now();
    let mut installs = Times::new("install one mapping, table growing", COUNT * 5 / 4);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut fresh = |cache: &MapCache, v4: bool| loop {
        let eid = random.prefix(v4);
        if cache.get(&eid).is_none() {
            return eid;
        }
    };
    let before = resident();
    let mut control = None;
    let heap = allocation_counter::measure(|| {
        let control = control.insert(Control::new(start));
        // More than so many: a less-specific has more-specifics in doubt, and the next one has them out (RFC 9301 §5.5).
        for index in 0.. {
            if control.cache.len() == COUNT {
                break;
            }
            // One IPv6 mapping in six, so that both families grow together; loaded over an hour.
            let eid = fresh(&control.cache, index % (COUNT / V6) != 0);
            let now = start + Duration::from_micros(3000 * index as u64);
            installs.add(control.step(now, Input::Install(vec![mapping(eid, index % sets)])));
        }
    });
    let grown = resident() - before;
    let mut control = control.expect("made above");
    println!("\n{COUNT} mappings, {} locator-sets", control.cache.sets());
    print_memory(&control, heap.bytes_current as usize, grown);

    println!("\n{:<44} {:>8} {:>10} {:>10} {:>10} {:>10}", "microseconds", "steps", "p50", "p99", "p99.9", "max");
    installs.print();
    let now = start + Duration::from_secs(3600);
    let mut beyond = Times::new("install one mapping, table full", BEYOND);
    for index in 0..BEYOND {
        let eid = fresh(&control.cache, index % 6 != 0);
        beyond.add(control.step(now, Input::Install(vec![mapping(eid, index % sets)])));
    }
    beyond.print();
    assert!(control.cache.len() <= COUNT && control.withdrawn >= BEYOND);
    look_and_end(control, now, sets);
}

fn look_and_end(mut control: Control, now: Instant, sets: usize) {
    let mut looks = Times::new("look at the use of 2048 entries", 1000);
    for _ in 0..1000 {
        looks.add(control.step(now, Input::Look));
    }
    looks.print();
    let mut turns = Times::new("an RLOC lost or back: all its sets turned", 1000);
    for index in 0..1000 {
        let began = Instant::now();
        control.publisher.path_changed(rloc(index * 7 % sets), &Ready(index % 2 == 1));
        control.publisher.publish();
        turns.add(began.elapsed());
    }
    turns.print();
    // All lives end, none refreshed: every wake-up that the driver would have.
    let mut wakes = Times::new("wake: deadlines, until all have ended", 4_000_000);
    while let Some(due) = control.cache.due() {
        wakes.add(control.step(due, Input::Wake));
    }
    wakes.print();
    assert!(control.cache.is_empty());
}

fn print_memory(control: &Control, heap: usize, grown: usize) {
    let cache = control.cache.octets();
    let (books, table) = control.publisher.octets();
    let of_cache = cache.total() + books;
    println!("{:<44} {:>20}", "part", "octets per mapping");
    for (part, octets) in [
        ("map-cache: entries", cache.entries),
        ("map-cache: index by prefix (at most)", cache.index),
        ("map-cache: deadlines", cache.deadlines),
        ("map-cache: order of use", cache.order),
        ("map-cache: locator-sets", cache.sets),
        ("publisher: sets, users of RLOCs", books),
        ("= control", of_cache),
        ("workers' table: trie", table.trie),
        ("workers' table: sets, headers, next hops", table.values),
        ("workers' table: the writer's books", table.records),
        ("workers' table: counters of one worker", table.counters),
        ("= workers' table", table.total()),
        ("= by their own account", of_cache + table.total()),
        ("heap (control, and the writer's books)", heap),
        ("resident, all told", grown),
    ] {
        println!("{part:<44} {:>20.1}", octets as f64 / COUNT as f64);
    }
}

fn main() {
    if let Some(sets) = env::args().nth(1) {
        one_case(sets.parse().expect("how many different locator-sets"));
        return;
    }
    let line = |path: &str, key: &str| -> String {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(key)).unwrap_or("unknown");
        found.rsplit(": ").next().unwrap_or(found).to_owned()
    };
    println!("{}, Linux {}", line("/proc/cpuinfo", "model name"), line("/proc/sys/kernel/osrelease", ""));
    println!("1 control thread, 1 worker's counters, prefixes of both families mixed and nested, TTL 1440 min");
    let own = env::current_exe().expect("this program");
    for sets in [1_000, 20_000, 100_000] {
        // A process each, so that what is resident is the case's own.
        let status = Command::new(&own).arg(sets.to_string()).status().expect("the same program again");
        assert!(status.success());
    }
}
