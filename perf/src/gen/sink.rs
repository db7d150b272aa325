//! Counting what arrives.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Arguments, sending::say};
use crate::bench::generator::{Arrived, Sink};

/// How often the end is looked for.
const POLL: Duration = Duration::from_millis(20);

/// Counts until the end that was asked for, or until `stopped`.
pub(super) fn count(arguments: &Arguments, stopped: impl Fn() -> bool) -> Result<(), String> {
    let probes = arguments.probes.is_some();
    let sink = Sink::attach(&arguments.interface, probes)?;
    if !arguments.json {
        say(&format!("{}: what arrives is counted and dropped", arguments.interface));
    }
    let (start, mut before, mut next) = (Instant::now(), Arrived::default(), Duration::from_secs(1));
    let mut last = Duration::ZERO;
    while !stopped() && arguments.time.is_none_or(|time| start.elapsed() < time) {
        thread::sleep(POLL);
        let elapsed = start.elapsed();
        if elapsed >= next && !arguments.json {
            let now = sink.arrived()?;
            line(elapsed.as_secs(), &now.since(&before), (elapsed - last).as_secs_f64());
            (before, last, next) = (now, elapsed, Duration::from_secs(elapsed.as_secs() + 1));
        }
    }
    let arrived = sink.arrived()?;
    if arguments.json {
        say(&serde_json::to_string(&arrived).map_err(|error| error.to_string())?);
    } else {
        let Arrived { packets, octets, probes, foreign, .. } = &arrived;
        say(&format!("{packets} packets, {octets} octets, {probes} probes"));
        if *foreign > 0 {
            say(&format!("{foreign} probes are stamped by another machine's clock: no latency is known of them"));
        }
        if probes > foreign {
            say(&format!("latency of probes: {}", latency(&arrived)));
        }
    }
    Ok(())
}

fn line(second: u64, arrived: &Arrived, seconds: f64) {
    let rate = arrived.packets as f64 / seconds;
    let bits = 8.0 * arrived.octets as f64 / seconds / 1e9;
    let latency = if arrived.latencies.is_empty() { String::new() } else { format!("  {}", latency(arrived)) };
    say(&format!("{second:>6} s  {rate:>12.0} pps {bits:>8.3} Gbit/s of frames{latency}"));
}

fn latency(arrived: &Arrived) -> String {
    let histogram = arrived.histogram();
    let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    format!(
        "p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, most {:.1} µs",
        micros(0.5),
        micros(0.99),
        micros(0.999),
        histogram.max() as f64 / 1000.0
    )
}
