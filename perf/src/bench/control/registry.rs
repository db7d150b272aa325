//! One process, one thread: octets in, octets out. Time is CPU time of the thread.

use std::{
    collections::HashMap,
    fs,
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_control::{
    map_resolver::{enclose, open},
    map_server::{Input, MapServer, Output, Settings, Site},
    rate::Rate,
    wire::{Algorithm, Form, Key, MapRegister, MapReply, MapRequest, Message, ecm, packet::UdpPacket},
};
use altitude_dataplane::mapping::{Action, Eid, EidPrefix, InstanceId, Locator, Mapping, Prefix, Ttl};
use nix::time::{ClockId, clock_gettime};

use super::PREFIXES;
use crate::bench::lpm::random::Random;

/// Different Map-Requests: more than a cache holds of what their look-ups touch.
const REQUESTS: usize = 65_536;
/// Times each is asked.
const PASSES: u64 = 4;
/// Longer than a registration lasts beside the time between two rounds: the clock of the machine, not ours.
const ROUND: Duration = Duration::from_secs(60);
const US: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const ITR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2));

/// What one round says.
#[derive(Debug)]
pub(super) struct Measured {
    /// Map-Registers a CPU-second; the first time and once more.
    pub(super) registers: f64,
    /// Read and verified alone.
    pub(super) macs: f64,
    /// CPU seconds of all of them, the first time.
    pub(super) seconds: f64,
    /// Map-Requests answered a CPU-second.
    pub(super) proxied: f64,
    /// By codec and hash table.
    pub(super) plain: f64,
    /// Handed to an ETR.
    pub(super) forwarded: f64,
    /// Of a registration.
    pub(super) octets: f64,
}

/// CPU time of this thread so far.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("every thread has a clock")
}

/// Octets of resident memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
}

pub(super) fn eid(number: u32) -> EidPrefix {
    // /28s from 16.0.0.0 on.
    let address = Ipv4Addr::from(0x1000_0000 + (number << 4));
    EidPrefix { instance: InstanceId::DEFAULT, prefix: Prefix::new(address.into(), 28).expect("28 bits") }
}

pub(super) fn secret(site: u32) -> String {
    format!("the secret of site {site}")
}

fn key(site: u32) -> Key {
    Key::new(1, Algorithm::Sha256, secret(site).as_bytes())
}

fn etr(site: u32) -> IpAddr {
    Ipv4Addr::from(0xcb00_0000 + site).into()
}

fn mapping(number: u32) -> Mapping {
    let site = number / PREFIXES;
    let locators = [etr(site), Ipv4Addr::from(0xcc00_0000 + site).into()];
    Mapping {
        locators: locators.map(|rloc| Locator { local: true, ..Locator::unicast(rloc, 1, 50) }).to_vec(),
        authoritative: true,
        ..Mapping::negative(eid(number), Ttl::Minutes(1440), Action::NoAction)
    }
}

fn server(sites: u32, now: Instant) -> MapServer {
    let site = |site: u32| Site {
        name: format!("site {site}"),
        eids: (0..PREFIXES).map(|index| eid(site * PREFIXES + index)).collect(),
        keys: vec![key(site)],
        ..Site::default()
    };
    let all = Rate { burst: u32::MAX, every: Duration::from_nanos(1) };
    let settings = Settings::new((0..sites).map(site).collect(), vec![US]);
    // A small table has each EID asked for more often than one ITR may.
    let each = Rate { burst: 1000, ..settings.each };
    MapServer::new(Settings { each, all, wall: 1_800_000_000, ..settings }, now)
}

/// Map-Registers of all sites, as octets.
pub(super) fn registers(sites: u32, nonce: u64, proxy: bool) -> Vec<Vec<u8>> {
    let message = |site: u32| {
        let records = (0..PREFIXES).map(|index| mapping(site * PREFIXES + index)).collect();
        let message = MapRegister { proxy, want_notify: true, nonce, records, ..MapRegister::default() };
        message.signed(&key(site), Form::default())
    };
    (0..sites).map(message).collect()
}

/// Registers all sites; CPU time of it.
fn register(server: &mut MapServer, now: Instant, messages: &[Vec<u8>]) -> Result<Duration, String> {
    let mut todo = Vec::new();
    let mut confirmed = 0;
    let start = cpu();
    for (site, octets) in messages.iter().enumerate() {
        let Ok(Message::MapRegister(message)) = Message::parse(octets) else {
            return Err("no Map-Register".to_owned());
        };
        let from = SocketAddr::new(etr(site as u32), 4342);
        server.step(now, Input::Register { from, local: US, message: &message, octets }, &mut todo);
        confirmed += usize::from(matches!(todo.last(), Some(Output::Notify { .. })));
        todo.clear();
    }
    let took = cpu() - start;
    if confirmed == messages.len() { Ok(took) } else { Err(format!("{confirmed} sites are registered")) }
}

/// The same messages, read and verified.
fn verify(messages: &[Vec<u8>]) -> Result<Duration, String> {
    let keys: Vec<Key> = (0..messages.len() as u32).map(key).collect();
    let start = cpu();
    for (octets, key) in messages.iter().zip(&keys) {
        let Ok(Message::MapRegister(message)) = Message::parse(octets) else {
            return Err("no Map-Register".to_owned());
        };
        message.verify(octets, std::slice::from_ref(key)).map_err(|error| error.to_string())?;
    }
    Ok(cpu() - start)
}

/// Map-Requests in ECMs for random registered EIDs.
pub(super) fn requests(sites: u32, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(0xc0);
    let one = |nonce: usize| {
        let prefix = eid(random.below((sites * PREFIXES) as usize) as u32).prefix.address();
        let asked = EidPrefix { instance: InstanceId::DEFAULT, prefix: Prefix::host(prefix) };
        let request = MapRequest::lookup(nonce as u64, None, &[ITR], asked);
        enclose(&request, Some(ITR), prefix, None).expect("one family")
    };
    (0..count).map(one).collect()
}

/// Asks for all of them, at simulated times; a second of CPU time has so many.
fn ask(server: &mut MapServer, from: Instant, requests: &[Vec<u8>], right: fn(&Output) -> bool) -> Result<f64, String> {
    let mut todo = Vec::new();
    let mut start = cpu();
    for pass in 0..=PASSES {
        if pass == 1 {
            // The first pass warms up.
            start = cpu();
        }
        // Between two passes every ITR may ask again.
        let now = from + Duration::from_secs(4 * pass);
        for octets in requests {
            let opened = open(octets).map_err(|fault| format!("{fault:?}"))?;
            let (source, packet) = (opened.datagram.source, opened.packet);
            let (eid, request) = (opened.eid, &opened.request);
            server.step(now, Input::Request { eid, request, source, packet, protection: None }, &mut todo);
            let [output] = &todo[..] else { return Err("no answer".to_owned()) };
            if !right(output) {
                return Err(format!("{output:?}"));
            }
            if let Output::Reply { message, .. } = output {
                black_box(message.encode());
            }
            todo.clear();
        }
    }
    Ok((PASSES * requests.len() as u64) as f64 / (cpu() - start).as_secs_f64())
}

/// The same with a hash table of hosts: no more than finding it and the codec.
fn plain(sites: u32, requests: &[Vec<u8>]) -> Result<f64, String> {
    let table: HashMap<EidPrefix, Mapping> =
        (0..sites * PREFIXES).map(|number| (eid(number), mapping(number))).collect();
    let start = cpu();
    for _ in 0..PASSES {
        for octets in requests {
            let opened = open(octets).map_err(|fault| format!("{fault:?}"))?;
            let Eid { instance, address } = opened.eid;
            let prefix = Prefix::new(address, 28).map_err(|error| format!("{error:?}"))?;
            let found = table.get(&EidPrefix { instance, prefix }).ok_or("a prefix is missing")?;
            let (nonce, records) = (opened.request.nonce, vec![found.clone()]);
            let reply = MapReply { nonce, probe: false, echo_nonce: false, records, security: None };
            black_box(reply.encode());
        }
    }
    Ok((PASSES * requests.len() as u64) as f64 / (cpu() - start).as_secs_f64())
}

/// All of it once.
pub(super) fn run(sites: u32) -> Result<Measured, String> {
    let start = Instant::now();
    let count = f64::from(sites);
    let [first, again, forwarded] =
        [(1, true), (2, true), (3, false)].map(|(nonce, proxy)| registers(sites, nonce, proxy));
    let requests = requests(sites, REQUESTS);
    let mut server = server(sites, start);
    let before = resident();
    let seconds = register(&mut server, start, &first)?;
    let octets = (resident().saturating_sub(before)) as f64 / f64::from(sites * PREFIXES);
    if server.len() != (sites * PREFIXES) as usize {
        return Err(format!("{} registrations", server.len()));
    }
    let renewed = register(&mut server, start + ROUND, &again)?;
    let macs = verify(&again)?;
    let replied =
        |output: &Output| matches!(output, Output::Reply { message, .. } if !message.records[0].is_negative());
    let proxied = ask(&mut server, start + ROUND, &requests, replied)?;
    register(&mut server, start + 2 * ROUND, &forwarded)?;
    let handed_on = |output: &Output| {
        let Output::Encapsulate { message, .. } = output else { return false };
        ecm::Ecm::parse(message).is_ok_and(|ecm| UdpPacket::parse(ecm.packet).is_ok())
    };
    let forwarded = ask(&mut server, start + 2 * ROUND, &requests, handed_on)?;
    Ok(Measured {
        registers: 2.0 * count / (seconds + renewed).as_secs_f64(),
        macs: count / macs.as_secs_f64(),
        seconds: seconds.as_secs_f64(),
        proxied,
        plain: plain(sites, &requests)?,
        forwarded,
        octets,
    })
}
