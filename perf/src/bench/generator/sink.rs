//! The far end: counts what arrives, drops it, and tells how long probes were on their way.

use std::os::fd::AsFd;

use altitude_dataplane::port::xsk::Interface;
use hdrhistogram::Histogram;
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Xdp, XdpFlags};
use serde::{Deserialize, Serialize};

use super::live::{load, map};

/// `BUCKETS` of traffic.bpf.c.
const BUCKETS: u32 = 36 * 64;

/// Counts and drops what arrives at an interface as long as it lives.
#[derive(Debug)]
pub struct Sink {
    tallies: MapHandle,
    latencies: MapHandle,
    _link: Link,
}

/// What arrived. One object of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Arrived {
    /// Frames, probes among them.
    pub packets: u64,
    /// Of all of them, from the Ethernet header on, without frame check sequence.
    pub octets: u64,
    /// Probes among them.
    pub probes: u64,
    /// Probes whose stamp is of another machine's clock: they are not in the latencies.
    pub foreign: u64,
    /// How long probes were on their way, ns, and how many were as long; precise to 1 in 64, in ascending order.
    pub latencies: Vec<(u64, u64)>,
}

impl Arrived {
    /// The probes' latencies, ns.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1 << 40, 3).expect("bounds that are right");
        for (value, count) in &self.latencies {
            histogram.saturating_record_n(*value, *count);
        }
        histogram
    }

    /// What arrived since `earlier`, which is of the same sink.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |value: u64| earlier.latencies.iter().find(|(known, _)| *known == value).map_or(0, |(_, n)| *n);
        let later = self.latencies.iter().map(|(value, count)| (*value, count - before(*value)));
        Self {
            packets: self.packets - earlier.packets,
            octets: self.octets - earlier.octets,
            probes: self.probes - earlier.probes,
            foreign: self.foreign - earlier.foreign,
            latencies: later.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

impl Sink {
    /// Attaches to `interface`. Looking for probes costs the receiving core some nanoseconds for each packet, so it is
    /// asked for with `probes`.
    ///
    /// # Errors
    /// A line with what the kernel refused.
    pub fn attach(interface: &str, probes: bool) -> Result<Self, String> {
        let index = Interface::named(interface).map_err(|error| error.to_string())?.index;
        let object = load(&[])?;
        let (tallies, latencies) = (map(&object, "tallies")?, map(&object, "latencies")?);
        let attached = Xdp::new(tallies.as_fd()).query_id(index.cast_signed(), XdpFlags::NONE);
        if attached.is_ok_and(|program| program != 0) {
            return Err(format!("another XDP program is attached to {interface}: `bpftool net show dev {interface}`"));
        }
        let name = if probes { "measure" } else { "swallow" };
        let program = object.progs_mut().find(|program| program.name() == name);
        let link = program.ok_or_else(|| format!("no program {name}"))?.attach_xdp(index.cast_signed());
        let link = link.map_err(|error| format!("attaching to {interface}: {error}"))?;
        Ok(Self { tallies, latencies, _link: link })
    }

    /// What arrived so far.
    ///
    /// # Errors
    /// A line with what the kernel refused.
    pub fn arrived(&self) -> Result<Arrived, String> {
        let [packets, octets, probes, foreign] = sums(&self.tallies, 0)?;
        let mut latencies = Vec::new();
        if probes > foreign {
            for bucket in 0..BUCKETS {
                let [count] = sums(&self.latencies, bucket)?;
                if count > 0 {
                    latencies.push((middle(bucket), count));
                }
            }
        }
        Ok(Arrived { packets, octets, probes, foreign, latencies })
    }
}

/// The counters of an entry, over all CPUs.
fn sums<const N: usize>(map: &MapHandle, entry: u32) -> Result<[u64; N], String> {
    let per_cpu = map.lookup_percpu(&entry.to_ne_bytes(), MapFlags::ANY);
    let per_cpu = per_cpu.map_err(|error| format!("reading the sink: {error}"))?.unwrap_or_default();
    let mut sums = [0; N];
    for value in &per_cpu {
        for (sum, octets) in sums.iter_mut().zip(value.as_chunks::<8>().0) {
            *sum += u64::from_ne_bytes(*octets);
        }
    }
    Ok(sums)
}

/// The middle of what a bucket holds, ns: up to 63 it is the value, then 64 buckets share each power of two.
fn middle(bucket: u32) -> u64 {
    let Some(power) = (bucket / 64).checked_sub(1) else { return bucket.into() };
    let least = u64::from(64 + bucket % 64) << power;
    least + ((1 << power) - 1) / 2
}

#[cfg(test)]
mod tests {
    use libbpf_rs::ProgramInput;

    use super::{
        super::{afxdp::now, recipe::MAGIC},
        *,
    };

    #[test]
    fn buckets_follow_one_another() {
        assert_eq!([0, 1, 63, 64, 127].map(middle), [0, 1, 63, 64, 127]);
        // Two values a bucket, then four.
        assert_eq!([128, 129, 191, 192, 193].map(middle), [128, 130, 254, 257, 261]);
        assert!((1..BUCKETS).all(|bucket| middle(bucket) > middle(bucket - 1)));
        assert!(middle(BUCKETS - 1) > 1 << 40, "18 minutes are enough");
    }

    #[test]
    fn a_histogram_has_the_latencies() {
        let arrived = Arrived { latencies: vec![(1000, 98), (5000, 2)], probes: 100, ..Arrived::default() };
        let histogram = arrived.histogram();
        assert_eq!((histogram.len(), histogram.value_at_quantile(0.5)), (100, 1000));
        assert_eq!(histogram.value_at_quantile(0.99) / 10, 500);
        let more = Arrived { latencies: vec![(1000, 99), (4000, 1), (5000, 2)], probes: 102, ..Arrived::default() };
        assert_eq!(more.since(&arrived).latencies, [(1000, 1), (4000, 1)]);
        assert_eq!(more.since(&arrived).probes, 2);
    }

    /// Lets the kernel's program look at a probe that was stamped so long ago, or so much later than now. Returns the
    /// tally, the latencies, and the longest that it can have been on its way.
    fn measure(ago: i64) -> Result<([u64; 4], Vec<u64>, u64), String> {
        let object = load(&[])?;
        let program = object.progs_mut().find(|program| program.name() == "measure").unwrap();
        let before = now();
        let mut frame = vec![0; 14 + 20 + 8];
        frame.extend(MAGIC);
        frame.extend(before.saturating_add_signed(-ago).to_be_bytes());
        let input = ProgramInput { data_in: Some(&frame), ..ProgramInput::default() };
        program.test_run(input).map_err(|error| error.to_string())?;
        let longest = (now() - before).saturating_add_signed(ago);
        let latencies = map(&object, "latencies")?;
        let found = |bucket: &u32| sums(&latencies, *bucket).unwrap() == [1];
        Ok((sums(&map(&object, "tallies")?, 0)?, (0..BUCKETS).filter(found).map(middle).collect(), longest))
    }

    #[test]
    fn the_kernel_puts_latencies_into_the_right_buckets() {
        if !nix::unistd::geteuid().is_root() {
            return println!("SKIP: needs root (BPF)");
        }
        for ago in [0, 1000, 100_000, 12_345_678, 3_000_000_000, 1 << 39] {
            // A machine that was just started has no such past.
            if now() < ago as u64 {
                continue;
            }
            let (tally, latencies, longest) = match measure(ago) {
                Ok(measured) => measured,
                Err(why) => return println!("SKIP: {why}"),
            };
            assert_eq!((tally, latencies.len()), ([1, 58, 1, 0], 1));
            let precise = ago as u64 - ago as u64 / 64..=longest + longest / 64;
            assert!(precise.contains(&latencies[0]), "{} is not in {precise:?}", latencies[0]);
        }
        let (tally, latencies, _) = measure(-3_600_000_000_000).unwrap();
        assert_eq!((tally, latencies), ([1, 58, 1, 1], Vec::new()), "stamped by another clock");
    }
}
