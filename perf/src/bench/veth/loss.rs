//! The rate at which a device begins to lose frames (RFC 2544 §26.1, with a loss that may be more than none).

use std::{path::Path, time::Duration};

use super::{Bench, Place, Traffic, case::stream_name, silent};
use crate::{
    bench::{Report, Row, device::Sockets, references::Subject, veth::Load},
    lab::LabError,
};

/// What is searched, and how exactly.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Search {
    /// Share of frames that may be lost
    #[arg(long, default_value_t = 0.001, value_parser = share)]
    pub loss: f64,
    /// The search ends when it knows the rate to this share of it
    #[arg(long, default_value_t = 0.02, value_parser = share)]
    pub precision: f64,
    /// How the AF_XDP sockets are opened
    #[command(flatten)]
    pub sockets: Sockets,
}

/// Between no and all frames.
fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0).ok_or_else(|| "a number between 0 and 1".into())
}

/// Most trials of one search; each halves what is not known.
const TRIALS_MAX: usize = 20;
/// A generator that did not send this share of what it was to send is itself the limit.
const GENERATOR_LIMIT: f64 = 0.02;
/// Times in a row that it may do so.
const GENERATOR_TRIES: u32 = 3;

/// A trial's outcome.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trial {
    /// Frames a second that were really sent.
    offered: f64,
    /// Share of them that did not arrive.
    lost: f64,
}

/// Searches for each of both devices the highest rate that loses no more than [`Search::loss`].
///
/// # Errors
/// What the lab or one of the processes said.
pub fn ndr(report: &Report, search: Search, round: Duration, traffic: &Traffic, perf: &Path) -> Result<(), LabError> {
    let mut bench = Bench::new(perf, search.sockets)?;
    let load = bench.load(Place::Sockets, traffic)?;
    let mut reference = None;
    for subject in [Subject::Forwarder, Subject::Altitude] {
        let place = (subject, Place::Sockets);
        // What it carries when flooded bounds what it carries without loss.
        let most = bench.measure(place, traffic, &load, None, round)?.carried();
        let case = format!("{}/ndr", stream_name(traffic));
        let row = |case: String, value, unit| Row {
            bench: "ndr",
            case,
            subject: subject.name(),
            value,
            unit,
            reference: None,
            ratio: None,
        };
        let mut step = 0;
        let rate = highest(1.25 * most, search, |rate| {
            let trial = bench.trial(subject, &load, traffic, rate, round)?;
            step += 1;
            let step_case = format!("{case}/step {step} at {:.3} Mpps", trial.offered / 1e6);
            report.row(&row(step_case, trial.lost * 100.0, "% lost"));
            Ok::<_, LabError>(trial)
        })?;
        let result = row(case, rate / 1e6, "Mpps");
        report.row(&match reference {
            None => result,
            Some(reference) => {
                Row { reference: Some(Subject::Forwarder.name()), ratio: Some(rate / reference), ..result }
            }
        });
        reference = reference.or(Some(rate));
    }
    Ok(())
}

impl Bench<'_> {
    fn trial(
        &mut self,
        subject: Subject,
        load: &Load,
        traffic: &Traffic,
        rate: f64,
        round: Duration,
    ) -> Result<Trial, LabError> {
        let cable = self.cable(Place::Sockets)?;
        let device = self.start(subject, Place::Sockets, traffic)?;
        let before = cable.arrived()?;
        load.begin(Some(rate))?;
        std::thread::sleep(round);
        let sent = load.end()?;
        let arrived = silent(&cable)?.since(&before).packets;
        device.stop()?;
        if sent.packets == 0 {
            return Err(LabError::Wrong("the generator sent nothing".into()));
        }
        let lost = sent.packets.saturating_sub(arrived) as f64 / sent.packets as f64;
        Ok(Trial { offered: sent.packets as f64 / sent.seconds, lost })
    }
}

/// The highest rate known to lose no more than allowed, 0 if none is; searched by halving below `most`. A rate that the
/// generator did not keep without loss says nothing and is tried again; if it never does, the generator is the limit.
fn highest<E>(most: f64, search: Search, mut trial: impl FnMut(f64) -> Result<Trial, E>) -> Result<f64, E> {
    let (mut good, mut bad, mut idle) = (0.0_f64, most, 0);
    for _ in 0..TRIALS_MAX {
        if bad - good <= search.precision * bad || idle == GENERATOR_TRIES {
            break;
        }
        let rate = f64::midpoint(good, bad);
        let Trial { offered, lost } = trial(rate)?;
        if lost > search.loss {
            (bad, idle) = (rate, 0);
        } else if offered < (1.0 - GENERATOR_LIMIT) * rate {
            (good, idle) = (good.max(offered), idle + 1);
        } else {
            (good, idle) = (rate, 0);
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search =
        Search { loss: 0.001, precision: 0.01, sockets: Sockets { ring: None, frames: None, hugepages: false } };

    /// A device that carries `capacity` frames a second and loses all above.
    fn device(capacity: f64) -> impl FnMut(f64) -> Result<Trial, ()> {
        move |offered| Ok(Trial { offered, lost: (1.0 - capacity / offered).max(0.0) })
    }

    #[test]
    fn the_limit_is_found_from_below() {
        for capacity in [1e3, 123_456.0, 650_000.0, 799_000.0] {
            let found = highest(800_000.0, SEARCH, device(capacity)).unwrap();
            let allowed = capacity / (1.0 - SEARCH.loss);
            assert!(found <= allowed * 1.000_1 && found >= allowed * 0.98, "{found} of {capacity}");
        }
    }

    #[test]
    fn the_search_ends() {
        // A device that loses always, and one that never does.
        let mut asked = 0;
        let found = highest(1e6, SEARCH, |offered| {
            asked += 1;
            Ok::<_, ()>(Trial { offered, lost: 1.0 })
        });
        assert_eq!((found, asked), (Ok(0.0), TRIALS_MAX));
        assert!(highest(1e6, SEARCH, |offered| Ok::<_, ()>(Trial { offered, lost: 0.0 })).unwrap() > 0.98e6);
        // An error is not searched around.
        assert_eq!(highest(1e6, SEARCH, |_| Err("gone")), Err("gone"));
    }

    #[test]
    fn a_generator_that_cannot_keep_up_is_the_limit() {
        let slow = |rate: f64| Ok::<_, ()>(Trial { offered: rate.min(300_000.0), lost: 0.0 });
        assert_eq!(highest(1e6, SEARCH, slow), Ok(300_000.0));
    }
}
