//! Sending, and what is told of it.

use std::{
    cell::Cell,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use altitude_dataplane::mapping::{InstanceId, MacAddress, Prefix};
use nix::ifaddrs::getifaddrs;

use super::{Arguments, Ends, words::Mac, words::Rate};
use crate::bench::generator::{Generator, Means, Pacer, Recipe, Replay, Sent, Source, Stream};

/// Of a rate that was not given.
const GENTLE: f64 = 1000.0;
/// Octets of a frame on the wire beyond those counted: preamble, frame check sequence and gap.
const WIRE: u64 = 8 + 4 + 12;

/// Sends until the end that was asked for, or until `stopped`.
pub(super) fn send(arguments: &Arguments, stopped: impl Fn() -> bool) -> Result<(), String> {
    let (source, pacer) = source(arguments)?;
    let mut generator = Generator::open(&arguments.interface, source, arguments.means)?;
    let quiet = arguments.json;
    if !quiet {
        announce(arguments, &generator);
    }
    let (seconds, before) = (Cell::new(1), Cell::new((Duration::ZERO, generator.sent()?)));
    let pacer = pacer.until(arguments.packets);
    let sent = generator.run(pacer, |generator, elapsed| {
        if !quiet && elapsed >= Duration::from_secs(seconds.get()) {
            seconds.set(elapsed.as_secs() + 1);
            if let Ok(sent) = generator.sent() {
                let (then, earlier) = before.replace((elapsed, sent));
                say(&format!("{:>6} s  {}", elapsed.as_secs(), speed(&earlier, &sent, (elapsed - then).as_secs_f64())));
            }
        }
        !stopped() && arguments.time.is_none_or(|time| elapsed < time)
    })?;
    if quiet {
        say(&serde_json::to_string(&sent).map_err(|error| error.to_string())?);
    } else {
        summary(&sent);
    }
    Ok(())
}

fn source(arguments: &Arguments) -> Result<(Source, Pacer), String> {
    let rate = match arguments.rate {
        Some(Rate::Flood) => None,
        Some(Rate::Pps(rate)) => Some(rate),
        None => Some(GENTLE),
    };
    let Some(file) = &arguments.pcap else {
        return Ok((Source::Stream(Stream::new(&recipe(arguments)?)?), Pacer::new(rate)));
    };
    let replay = Replay::read(file)?;
    if replay.skipped() > 0 && !arguments.json {
        let skipped = replay.skipped();
        say(&format!("{skipped} packets are not sent: cut short by the capture, or longer than 1792 octets"));
    }
    let pacer = if arguments.rate.is_some() { Pacer::new(rate) } else { Pacer::times(replay.times()) };
    Ok((Source::Replay(replay), pacer))
}

fn recipe(arguments: &Arguments) -> Result<Recipe, String> {
    let Arguments { ends, flows, .. } = arguments;
    let (inner4, outer4) = (ends.families.inner4, ends.families.outer4);
    let v6 = |site, subnet, host| Ipv6Addr::new(0x2001, 0xdb8, site, subnet, 0, 0, 0, host);
    let host = |v4: Ipv4Addr, v6: Ipv6Addr, is4: bool| -> IpAddr { if is4 { v4.into() } else { v6.into() } };
    let rloc = |last: u8| host(Ipv4Addr::new(240, 0, 254, last), v6(0xf, 0, last.into()), outer4);
    let prefixes = |given: &[Prefix], site: u8| {
        if given.is_empty() {
            let address = host(Ipv4Addr::new(site, site, 0, 0), v6(site.into(), 0, 0), inner4);
            vec![Prefix::new(address, if inner4 { 16 } else { 48 }).expect("a length of the family")]
        } else {
            given.to_vec()
        }
    };
    let Some(to) = ends.to else { return Err("--to MAC: who is to receive the packets?".into()) };
    Ok(Recipe {
        macs: (source_mac(ends, &arguments.interface)?, to.0),
        direction: ends.direction,
        outer4,
        size: flows.size,
        near: ends.host.unwrap_or_else(|| host(Ipv4Addr::new(1, 1, 1, 1), v6(1, 1, 1), inner4)),
        far: prefixes(&flows.prefixes, 2),
        strangers: prefixes(&flows.strangers, 3),
        rlocs: (ends.outer_source.unwrap_or_else(|| rloc(20)), ends.outer_destination.unwrap_or_else(|| rloc(10))),
        instance: ends.instance_id.and_then(InstanceId::new),
        flows: flows.flows.try_into().unwrap_or(u32::MAX),
        distribution: flows.distribution,
        hit_percent: flows.hit_percent,
        probes: arguments.probes,
    })
}

fn source_mac(ends: &Ends, interface: &str) -> Result<MacAddress, String> {
    if let Some(Mac(from)) = ends.from {
        return Ok(from);
    }
    let all = getifaddrs().map_err(|error| format!("the interface's MAC address: {error}"))?;
    let named = all.filter(|entry| entry.interface_name == interface);
    let mut macs = named.filter_map(|entry| entry.address.as_ref()?.as_link_addr()?.addr());
    macs.next()
        .ok_or_else(|| format!("{interface} has no MAC address to send from, or is not there: `ip link` lists it"))
}

fn announce(arguments: &Arguments, generator: &Generator) {
    let means = match generator.means() {
        Means::LiveFrames => "the kernel sends by itself (live frames)",
        Means::AfXdp => "an AF_XDP socket sends",
    };
    say(&format!("{}: {means}", arguments.interface));
    if let Some(why) = generator.refused() {
        say(&format!("  live frames would be some ten times faster, but {why}"));
    }
}

/// What was sent in so many seconds; of a single frame there is no rate.
fn speed(earlier: &Sent, later: &Sent, seconds: f64) -> String {
    if seconds <= 0.0 {
        return "no rate".into();
    }
    let packets = later.packets - earlier.packets;
    let bits = 8 * (later.octets - earlier.octets + WIRE * packets);
    format!("{:>12.0} pps {:>8.3} Gbit/s on the wire", packets as f64 / seconds, bits as f64 / seconds / 1e9)
}

fn summary(sent: &Sent) {
    let nothing = Sent { packets: 0, octets: 0, ..*sent };
    let Sent { packets, octets, probes, forgone, seconds, .. } = sent;
    let probes = if *probes > 0 { format!(", {probes} of them probes") } else { String::new() };
    say(&format!(
        "{packets} packets{probes}, {octets} octets in {seconds:.3} s: {}",
        speed(&nothing, sent, *seconds).trim()
    ));
    if *forgone > 0 {
        say(&format!("{forgone} packets more were due: this generator cannot keep the rate"));
    }
}

/// Prints a line; one that nobody reads any more is no error.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
