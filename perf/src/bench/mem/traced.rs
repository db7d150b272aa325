//! What a trace costs: a worker's rate while its packets are shown to somebody, beside its rate while nobody looks on.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use altitude_dataplane::{
    mapping::{EidPrefix, InstanceId},
    tap::{Filter, Reasons, Watch},
};

use super::{Case, Pair, measured, pin, turns};
use crate::bench::{
    Direction,
    mappings::Mappings,
    xtr::{self, site_prefix},
};

/// Remote prefixes in the table, and as many flows.
const PREFIXES: u32 = 10_000;
/// How often records are taken away, as the program does it.
const EVERY: Duration = Duration::from_millis(1);
/// Octets of a packet where only headers are wanted.
const HEADERS: u16 = 128;

/// Which packets are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Wanted {
    /// All of them, whole.
    Whole,
    /// The first octets of all of them.
    Headers,
    /// Those of a prefix that about one packet in a hundred is of.
    Few,
    /// Of a prefix that no packet is of: each is looked at, and none is shown.
    Nothing,
    /// What is dropped, and nothing is.
    Drops,
}

impl Wanted {
    /// Each, with the name of its case.
    pub(in crate::bench) const ALL: [(&'static str, Self); 5] = [
        ("whole", Self::Whole),
        ("headers", Self::Headers),
        ("few", Self::Few),
        ("nothing", Self::Nothing),
        ("drops", Self::Drops),
    ];

    /// The prefix that an end of a packet is to be in. Destinations are spread over all of unicast.
    fn prefix(self) -> Option<EidPrefix> {
        let prefix = match self {
            Self::Whole | Self::Headers | Self::Drops => return None,
            Self::Few => "64.0.0.0/7",
            Self::Nothing => "127.0.0.0/8",
        };
        let prefix = prefix.parse().expect("a prefix");
        debug_assert!(!site_prefix(true).covers(&prefix), "every packet is from there");
        Some(EidPrefix { instance: InstanceId::DEFAULT, prefix })
    }
}

/// What came of it; rates in millions of packets a CPU-second.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Measured {
    pub(in crate::bench) quiet: f64,
    pub(in crate::bench) traced: f64,
    /// Share of the packets wanted that found room on their way to whoever looks on, percent.
    pub(in crate::bench) shown: f64,
}

fn filter(wanted: Wanted) -> Filter {
    Filter {
        trace: 1,
        eid: wanted.prefix(),
        rloc: None,
        ports: u16::MAX,
        reasons: (wanted == Wanted::Drops).then_some(Reasons::ALL),
        snaplen: if wanted == Wanted::Headers { HEADERS } else { u16::MAX },
    }
}

/// Measures once, so long each.
pub(in crate::bench) fn run(wanted: Wanted, length: Duration) -> Measured {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    pin(&cores, 0);
    let case = Case::usual(Direction::Encap, PREFIXES);
    let mappings = Mappings::spread(case.families, PREFIXES, None);
    let (_writer, mut readers) = xtr::table(case.families, &mappings, 1);
    let reader = &mut readers[0];
    let mut pair = Pair::new(&case, &mappings, 0);
    let (mut watch, mut times) = (pair.watch(), turns());
    // Warms caches up, and is not counted.
    pair.altitude(reader, length / 4, &mut times);
    let quiet = measured(|| pair.altitude(reader, length, &mut times)).rate();
    assert!(watch.order(Some(filter(wanted))), "there is room for an order");
    let (given, lost) = (pair.given(), pair.untraced());
    let done = AtomicBool::new(false);
    let (traced, taken) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            pin(&cores, 1);
            take_all(&mut watch, &done)
        });
        let traced = measured(|| pair.altitude(reader, length, &mut times)).rate();
        done.store(true, Ordering::Relaxed);
        (traced, reading.join().expect("a thread that ends"))
    });
    // A packet that is sent is shown twice: as it came and as it left.
    let (packets, lost) = (2 * (pair.given() - given), pair.untraced() - lost);
    match wanted {
        Wanted::Nothing | Wanted::Drops => assert_eq!((taken, lost), (0, 0), "packets were shown that nobody wanted"),
        Wanted::Few => assert!((1..packets / 50).contains(&(taken + lost)), "{taken} and {lost} of {packets}"),
        Wanted::Whole | Wanted::Headers => assert!(taken > 0, "no packet was shown"),
    }
    reader.go_offline();
    pair.finish(&case);
    let shown = if taken + lost == 0 { 100.0 } else { 100.0 * taken as f64 / (taken + lost) as f64 };
    Measured { quiet, traced, shown }
}

/// The control thread's part; how many packets came.
fn take_all(watch: &mut Watch, done: &AtomicBool) -> u64 {
    let (mut octets, mut taken) = (Vec::new(), 0);
    loop {
        // Read first, so that the last look is one behind the end.
        let last = done.load(Ordering::Relaxed);
        while watch.take(&mut octets).is_some() {
            octets.clear();
            taken += 1;
        }
        if last {
            return taken;
        }
        std::thread::sleep(EVERY);
    }
}

/// The rate of a worker that encapsulates and of one that decapsulates, with so many prefixes: nanoseconds a packet.
pub(in crate::bench) fn plain(prefixes: u32, length: Duration) -> [f64; 2] {
    [Direction::Encap, Direction::Decap].map(|direction| {
        let case = Case::usual(direction, prefixes);
        let mappings = Mappings::spread(case.families, prefixes, None);
        let (_writer, mut readers) = xtr::table(case.families, &mappings, 1);
        let (mut pair, mut times) = (Pair::new(&case, &mappings, 0), turns());
        pair.altitude(&mut readers[0], length / 4, &mut times);
        let rate = measured(|| pair.altitude(&mut readers[0], length, &mut times)).rate();
        readers[0].go_offline();
        pair.finish(&case);
        1000.0 / rate
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_shown_and_nothing_else() {
        for (name, wanted) in Wanted::ALL {
            let measured = run(wanted, Duration::from_millis(20));
            assert!(measured.quiet > 0.0 && measured.traced > 0.0, "{name}: {measured:?}");
            assert!((0.0..=100.0).contains(&measured.shown) && measured.shown > 0.0, "{name}: {measured:?}");
        }
        assert!(plain(256, Duration::from_millis(5)).iter().all(|nanoseconds| *nanoseconds > 0.0));
    }
}
