//! The resolver while two workers miss a hundred thousand different EIDs a second, and every one is asked for and answered.
//!
//! ```text
//! two workers' queues, at a pace ─ misses ─→ rounds of the control thread ─ Map-Requests ─→ the mapping system
//!                                                                        ←─ Map-Replies ─ a millisecond later
//! ```
//!
//! The rounds are those of the program's loop: at most [`ROUND`] messages, then at most as many misses of each worker, through
//! codec, resolver and map-cache. Time is CPU time of the rounds alone: it stands still while workers and mapping system have
//! their turn, and goes on by a nap when there is nothing to do. So other programs on the machine change nothing. What counts is
//! how many misses found no room, and how long a Map-Reply waits for its round.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use altitude_control::{
    map_cache::{self, MapCache},
    resolver::{Input, Output, Resolver, Settings},
    wire::{MapReply, Message},
};
use altitude_dataplane::{
    mapping::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Prefix, Ttl},
    queue::{self, Consumer, MissQueue},
    verdict::{Miss, Wanted},
};
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

/// Messages of a socket and misses of a worker in a round, as in the program's loop.
const ROUND: usize = 256;
/// Misses of a worker under way, as in the program.
const QUEUE: usize = 1024;
/// Workers.
const WORKERS: usize = 2;
/// Misses a second of both together: a scan, and what it is compared with.
pub(super) const SCAN: u32 = 100_000;
pub(super) const QUIET: u32 = 1000;
/// From a Map-Request to its Map-Reply.
const AWAY: Duration = Duration::from_millis(1);
/// How long the control thread sleeps when there is nothing to do.
const NAP: Duration = Duration::from_micros(20);

/// What came of it.
#[derive(Debug)]
pub(super) struct Measured {
    /// Misses a second that the control thread took.
    pub(super) taken: f64,
    /// Of those offered, in percent: how many found no room.
    pub(super) lost: f64,
    /// And how many the resolver discarded, as one that has too many under way does: the next packet asks again.
    pub(super) discarded: f64,
    /// Mappings put into the map-cache a second.
    pub(super) installed: f64,
    /// Microseconds that a Map-Reply waited: median and 99th percentile.
    pub(super) waited: [f64; 2],
    /// Share of its time that the control thread was busy, in percent.
    pub(super) share: f64,
}

/// Two workers that miss `rate` EIDs a second together, for so long.
pub(super) fn run(rate: u32, length: Duration) -> Measured {
    let (queues, misses) = (0..WORKERS).map(|_| queue::misses(QUEUE)).unzip();
    let mut world = World { rate: f64::from(rate), queues, offered: 0, lost: 0, replies: VecDeque::new() };
    let mut control = Control::new(misses);
    let (mut clock, mut busy) = (Duration::ZERO, Duration::ZERO);
    while clock < length {
        world.go_on(clock);
        let before = cpu();
        let idle = control.round(clock, &mut world);
        let took = cpu().saturating_sub(before);
        clock += if idle { NAP } else { took };
        busy += if idle { Duration::ZERO } else { took };
    }
    let (seconds, offered) = (clock.as_secs_f64(), world.offered.max(1) as f64);
    Measured {
        taken: control.taken as f64 / seconds,
        lost: world.lost as f64 / offered * 100.0,
        discarded: control.discarded as f64 / offered * 100.0,
        installed: control.installed as f64 / seconds,
        waited: [0.5, 0.99].map(|part| control.waited.value_at_quantile(part) as f64 / 1e3),
        share: busy.as_secs_f64() / seconds * 100.0,
    }
}

/// The workers and the mapping system.
struct World {
    rate: f64,
    queues: Vec<MissQueue>,
    offered: u64,
    lost: u64,
    /// Map-Replies, and when they come.
    replies: VecDeque<(Duration, Vec<u8>)>,
}

impl World {
    /// Offers the misses that are due.
    fn go_on(&mut self, clock: Duration) {
        let due = (clock.as_secs_f64() * self.rate) as u64;
        while self.offered < due {
            let destination = Eid { instance: InstanceId::DEFAULT, address: address(self.offered).into() };
            let miss = Miss { wanted: Wanted::Mapping, destination, source: [1, 1, 1, 1].into() };
            self.lost += u64::from(!self.queues[self.offered as usize % WORKERS].offer(miss));
            self.offered += 1;
        }
    }
}

/// Different for each number, and in no order.
fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from(0x1000_0000 | (number as u32).wrapping_mul(0x9e37_79b1) >> 4)
}

fn reply(nonce: u64, eid: Eid) -> MapReply {
    let prefix = Prefix::host(eid.address);
    let eid = EidPrefix { instance: eid.instance, prefix };
    let locators = vec![Locator { local: true, ..Locator::unicast([203, 0, 113, 9].into(), 1, 100) }];
    let mapping =
        Mapping { locators, authoritative: true, ..Mapping::negative(eid, Ttl::Minutes(1440), Action::NoAction) };
    MapReply { nonce, probe: false, echo_nonce: false, records: vec![mapping], security: None }
}

/// The control thread.
struct Control {
    misses: Vec<Consumer<Miss>>,
    resolver: Resolver,
    cache: MapCache,
    todo: Vec<Output>,
    start: Instant,
    nonce: u64,
    taken: u64,
    installed: u64,
    discarded: u64,
    waited: Histogram<u64>,
}

impl Control {
    fn new(misses: Vec<Consumer<Miss>>) -> Self {
        let settings = Settings {
            itr_rlocs: vec![[203, 0, 113, 1].into()],
            pitr: false,
            database: Vec::new(),
            shortest_v4: 8,
            shortest_v6: 16,
            pending_max: 8192,
            source_max: 8192,
            site_max: 8192,
            records_max: 64,
            security: None,
        };
        let start = Instant::now();
        Self {
            misses,
            resolver: Resolver::new(settings),
            cache: MapCache::new(map_cache::Settings { capacity: 1 << 20 }, start),
            todo: Vec::new(),
            start,
            nonce: 0,
            taken: 0,
            installed: 0,
            discarded: 0,
            waited: Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds that hold"),
        }
    }

    /// One round; true if there was nothing to do.
    fn round(&mut self, clock: Duration, world: &mut World) -> bool {
        let mut idle = true;
        let begin = cpu();
        for _ in 0..ROUND {
            let Some((_, octets)) = world.replies.front().filter(|(at, _)| *at <= clock) else { break };
            let reply = Message::parse(octets);
            let Some((at, _)) = world.replies.pop_front() else { break };
            idle = false;
            let now = clock + cpu().saturating_sub(begin);
            self.waited.saturating_record(now.saturating_sub(at).as_nanos() as u64);
            if let Ok(Message::MapReply(reply)) = reply {
                self.step(clock, Input::Reply(reply));
            }
        }
        for worker in 0..self.misses.len() {
            for _ in 0..ROUND {
                let Ok(miss) = self.misses[worker].pop() else { break };
                idle = false;
                self.taken += 1;
                self.step(clock, Input::Miss(miss));
            }
        }
        if self.resolver.due().is_some_and(|due| due <= self.start + clock) {
            self.step(clock, Input::Wake);
        }
        self.carry_out(clock, world);
        idle
    }

    fn step(&mut self, clock: Duration, input: Input) {
        let nonce = &mut self.nonce;
        let mut nonces = || {
            *nonce = nonce.wrapping_add(0x9e37_79b9_7f4a_7c15);
            *nonce
        };
        self.resolver.step(self.start + clock, input, &mut nonces, &mut self.todo);
    }

    fn carry_out(&mut self, clock: Duration, world: &mut World) {
        let mut published = Vec::new();
        for output in self.todo.drain(..) {
            match output {
                Output::Request { target, instance, message, .. } => {
                    std::hint::black_box(message.encode());
                    // Made here, which costs the round a little more than it would.
                    let octets = reply(message.nonce, Eid { instance, address: target }).encode();
                    world.replies.push_back((clock + AWAY, octets));
                }
                Output::Install(mappings) => {
                    self.installed += mappings.len() as u64;
                    let install = map_cache::Input::Install(mappings);
                    self.cache.step(self.start + clock, install, &|_| 0, &mut published);
                    published.clear();
                }
                Output::GiveUp(_) | Output::Insecure(_) | Output::Proven => {}
                Output::Discard(_) => self.discarded += 1,
            }
        }
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("every thread has a clock")
}
