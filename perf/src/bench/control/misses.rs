//! The resolver while two workers miss a hundred thousand different EIDs a second, and every one is asked for and answered.
//!
//! ```text
//! core 0: two workers' queues, at a pace ─ misses ─→ rounds of the control thread ─ Map-Requests ─→ the mapping system
//!         last core:                                                              ←─ Map-Replies ─
//! ```
//!
//! The rounds are those of the program's loop: at most [`ROUND`] messages, then at most as many misses of each worker, through
//! codec, resolver and map-cache. What counts is how many misses found no room, and how long a Map-Reply waits for its round.

use std::{
    net::Ipv4Addr,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
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
use core_affinity::CoreId;
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
/// Map-Requests and Map-Replies under way: a socket's buffer.
const UNDER_WAY: usize = 4096;
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
    /// Share of a core that the control thread took, in percent.
    pub(super) share: f64,
}

/// A Map-Reply on its way, since when.
type Replied = (Instant, Vec<u8>);

/// Two workers that miss `rate` EIDs a second together, for so long.
///
/// # Errors
/// If the machine does not tell its cores.
pub(super) fn run(rate: u32, length: Duration) -> Result<Measured, String> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let (Some(&outside), Some(&control)) = (cores.first(), cores.last()) else { return Err("no cores".to_owned()) };
    let (queues, consumers): (Vec<MissQueue>, Vec<Consumer<Miss>>) = (0..WORKERS).map(|_| queue::misses(QUEUE)).unzip();
    let (ask, asked) = sync_channel::<(u64, Eid)>(UNDER_WAY);
    let (answer, answered) = sync_channel::<Replied>(UNDER_WAY);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let world = scope.spawn(move || world(outside, rate, length, queues, &asked, &answer, stop));
        let served = scope.spawn(move || serve(control, consumers, &ask, &answered, stop));
        let (offered, lost) = world.join().expect("the world goes on");
        let Served { taken, installed, discarded, waited, took } = served.join().expect("the control thread goes on");
        let seconds = length.as_secs_f64();
        Ok(Measured {
            taken: taken as f64 / seconds,
            lost: lost as f64 / offered.max(1) as f64 * 100.0,
            discarded: discarded as f64 / offered.max(1) as f64 * 100.0,
            installed: installed as f64 / seconds,
            waited: [0.5, 0.99].map(|part| waited.value_at_quantile(part) as f64 / 1e3),
            share: took.as_secs_f64() / seconds * 100.0,
        })
    })
}

/// The workers and the mapping system. Returns misses offered and those that found no room.
fn world(
    core: CoreId,
    rate: u32,
    length: Duration,
    mut queues: Vec<MissQueue>,
    asked: &Receiver<(u64, Eid)>,
    answer: &SyncSender<Replied>,
    stop: &AtomicBool,
) -> (u64, u64) {
    core_affinity::set_for_current(core);
    let (mut offered, mut lost) = (0_u64, 0);
    let start = Instant::now();
    while start.elapsed() < length {
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while offered < due {
            let destination = Eid { instance: InstanceId::DEFAULT, address: address(offered).into() };
            let miss = Miss { wanted: Wanted::Mapping, destination, source: [1, 1, 1, 1].into() };
            lost += u64::from(!queues[offered as usize % WORKERS].offer(miss));
            offered += 1;
        }
        while let Ok((nonce, eid)) = asked.try_recv() {
            let octets = reply(nonce, eid).encode();
            // As a socket does: what does not fit is lost, and asked for again.
            let _ = answer.try_send((Instant::now(), octets));
        }
        std::hint::spin_loop();
    }
    stop.store(true, Ordering::Relaxed);
    (offered, lost)
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

struct Served {
    taken: u64,
    installed: u64,
    discarded: u64,
    waited: Histogram<u64>,
    took: Duration,
}

/// The control thread's rounds.
fn serve(
    core: CoreId,
    mut misses: Vec<Consumer<Miss>>,
    ask: &SyncSender<(u64, Eid)>,
    answered: &Receiver<Replied>,
    stop: &AtomicBool,
) -> Served {
    core_affinity::set_for_current(core);
    let settings = Settings {
        itr_rlocs: vec![[203, 0, 113, 1].into()],
        pitr: false,
        database: Vec::new(),
        shortest_v4: 8,
        shortest_v6: 16,
        pending_max: 8192,
        records_max: 64,
        security: None,
    };
    let (mut resolver, mut todo) = (Resolver::new(settings), Vec::new());
    let mut cache = MapCache::new(map_cache::Settings { capacity: 1 << 20 }, Instant::now());
    let mut nonce = 0_u64;
    let mut nonces = || {
        nonce = nonce.wrapping_add(0x9e37_79b9_7f4a_7c15);
        nonce
    };
    let waited = Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds that hold");
    let mut served = Served { taken: 0, installed: 0, discarded: 0, waited, took: Duration::ZERO };
    let before = cpu();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let mut idle = true;
        for _ in 0..ROUND {
            let (sent, octets) = match answered.try_recv() {
                Ok(reply) => reply,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            };
            idle = false;
            served.waited.saturating_record(sent.elapsed().as_nanos() as u64);
            if let Ok(Message::MapReply(reply)) = Message::parse(&octets) {
                resolver.step(now, Input::Reply(reply), &mut nonces, &mut todo);
            }
        }
        for queue in &mut misses {
            for _ in 0..ROUND {
                let Ok(miss) = queue.pop() else { break };
                idle = false;
                served.taken += 1;
                resolver.step(now, Input::Miss(miss), &mut nonces, &mut todo);
            }
        }
        if resolver.due().is_some_and(|due| due <= now) {
            resolver.step(now, Input::Wake, &mut nonces, &mut todo);
        }
        carry_out(now, &mut todo, &mut cache, ask, &mut served);
        if idle {
            thread::sleep(NAP);
        }
    }
    served.took = cpu().saturating_sub(before);
    served
}

fn carry_out(
    now: Instant,
    todo: &mut Vec<Output>,
    cache: &mut MapCache,
    ask: &SyncSender<(u64, Eid)>,
    served: &mut Served,
) {
    let mut published = Vec::new();
    for output in todo.drain(..) {
        match output {
            Output::Request { target, instance, message, .. } => {
                std::hint::black_box(message.encode());
                // As a socket does.
                let _ = ask.try_send((message.nonce, Eid { instance, address: target }));
            }
            Output::Install(mappings) => {
                served.installed += mappings.len() as u64;
                cache.step(now, map_cache::Input::Install(mappings), &|_| 0, &mut published);
                published.clear();
            }
            Output::GiveUp(_) | Output::Insecure(_) => {}
            Output::Discard(_) => served.discarded += 1,
        }
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("every thread has a clock")
}
