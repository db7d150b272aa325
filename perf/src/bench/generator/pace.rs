//! When the next frames are due. Knows no clock: the time comes in.

use std::time::Duration;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// So many frames.
    Frames(u32),
    /// Nothing, for so long.
    Wait(Duration),
    /// Nothing any more.
    End,
}

/// Frames told at once in a flood.
const FLOOD: u64 = 1 << 12;
/// A generator that was kept from sending makes up for so much time and so many frames only: a burst of all that was
/// missed would measure the queues behind it.
const ARREARS: (Duration, u64) = (Duration::from_millis(1), 64);

/// Time units a nanosecond, as a power of two; `FRACTION` of traffic.bpf.c.
const FRACTION: u32 = 12;

/// The pace, for the kernel's program: `struct plan` of traffic.bpf.c tells the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) end: u64,
    pub(super) interval: u64,
    pub(super) arrears: u64,
    pub(super) round: u64,
}

/// Tells when frames are due.
#[derive(Debug, Clone)]
pub struct Pacer {
    pace: Pace,
    sent: u64,
    forgone: u64,
    /// Frames after which nothing is due any more.
    end: u64,
}

#[derive(Debug, Clone)]
enum Pace {
    Flood,
    /// Frames a second.
    Rate(f64),
    /// When each frame of a round is due, from the round's start on, and how long a round is.
    Times(Vec<Duration>, Duration),
}

impl Pacer {
    /// `rate` frames a second, or as many as can be sent.
    #[must_use]
    pub const fn new(rate: Option<f64>) -> Self {
        let pace = match rate {
            Some(rate) => Pace::Rate(rate),
            None => Pace::Flood,
        };
        Self { pace, sent: 0, forgone: 0, end: u64::MAX }
    }

    /// The frames of a capture at these times, over and over.
    #[must_use]
    pub fn times(times: &[Duration]) -> Self {
        let (due, round) = round(times);
        Self { pace: Pace::Times(due, round), sent: 0, forgone: 0, end: u64::MAX }
    }

    /// The same, ending after so many frames if a number is given.
    #[must_use]
    pub fn until(self, frames: Option<u64>) -> Self {
        Self { end: frames.unwrap_or(u64::MAX), ..self }
    }

    /// Frames that were not sent because the generator did not get to it in time.
    #[must_use]
    pub const fn forgone(&self) -> u64 {
        self.forgone
    }

    /// Whether all frames that were asked for are sent, if so many are.
    pub(super) const fn ended(&self, sent: u64) -> bool {
        sent >= self.end
    }

    /// The same for the kernel's program.
    pub(super) fn timing(&self) -> Timing {
        let units = |time: f64| (time * 1e9 * f64::from(1 << FRACTION)) as u64;
        let (interval, arrears, round) = match &self.pace {
            Pace::Flood => (0, 0, 0),
            Pace::Rate(rate) => (units(1.0 / rate), units(ARREARS.0.as_secs_f64() + ARREARS.1 as f64 / rate), 0),
            Pace::Times(_, round) => (0, 0, round.as_nanos() as u64),
        };
        Timing { end: self.end, interval, arrears, round }
    }

    /// Takes back frames that were told and could not be sent. A flood has no rate to fall behind.
    pub const fn forgo(&mut self, frames: u32) {
        self.sent -= frames as u64;
        if !matches!(self.pace, Pace::Flood) {
            self.forgone += frames as u64;
        }
    }

    /// What is due `elapsed` after the start. Frames told are frames sent.
    pub fn due(&mut self, elapsed: Duration) -> Due {
        if self.sent >= self.end {
            return Due::End;
        }
        let next = self.sent + self.forgone;
        let due_by_now = self.due_by(elapsed).unwrap_or(next + FLOOD);
        let Some(mut missing) = due_by_now.checked_sub(next).filter(|missing| *missing > 0) else {
            return Due::Wait(self.time_of(next).saturating_sub(elapsed).max(Duration::from_nanos(1)));
        };
        // A captured packet is sent even if it is late: the stream must stay the file's.
        if let Pace::Rate(rate) = self.pace {
            let most = (rate * ARREARS.0.as_secs_f64()) as u64 + ARREARS.1;
            self.forgone += missing.saturating_sub(most);
            missing = missing.min(most);
        }
        let frames = missing.min(FLOOD).min(self.end - self.sent);
        self.sent += frames;
        Due::Frames(frames as u32)
    }

    /// Frames due up to now; the first one at the start. `None` in a flood.
    fn due_by(&self, elapsed: Duration) -> Option<u64> {
        match &self.pace {
            Pace::Flood => None,
            Pace::Rate(rate) => Some((elapsed.as_secs_f64() * rate) as u64 + 1),
            Pace::Times(due, round) => {
                let rounds = elapsed.as_nanos() / round.as_nanos();
                let into = Duration::from_nanos((elapsed.as_nanos() % round.as_nanos()) as u64);
                Some(rounds as u64 * due.len() as u64 + due.partition_point(|time| *time <= into) as u64)
            }
        }
    }

    fn time_of(&self, frame: u64) -> Duration {
        match &self.pace {
            Pace::Flood => Duration::ZERO,
            Pace::Rate(rate) => Duration::from_secs_f64(frame as f64 / rate),
            Pace::Times(due, round) => {
                let frames = due.len().max(1) as u64;
                let rounds = (frame / frames).min(u64::from(u32::MAX)) as u32;
                *round * rounds + due.get((frame % frames) as usize).copied().unwrap_or_default()
            }
        }
    }
}

/// When each of a capture's packets is due from the start on, and how long all of them take: between the last one and
/// the first of the next round as long as between two on average.
pub(super) fn round(times: &[Duration]) -> (Vec<Duration>, Duration) {
    let first = times.iter().min().copied().unwrap_or_default();
    let mut last = Duration::ZERO;
    // A capture may hold packets that are a little out of order; they are sent in the file's order.
    let due: Vec<Duration> = times
        .iter()
        .map(|time| {
            last = last.max(time.saturating_sub(first));
            last
        })
        .collect();
    let gap = last.checked_div(due.len().saturating_sub(1) as u32).unwrap_or(Duration::from_secs(1));
    (due, (last + gap).max(Duration::from_nanos(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// Looks at the clock every `step` and counts what is sent within `length`.
    fn sent(pacer: &mut Pacer, step: Duration, length: Duration) -> u64 {
        let (mut now, mut frames) = (Duration::ZERO, 0);
        while now < length {
            match pacer.due(now) {
                Due::Frames(count) => frames += u64::from(count),
                Due::Wait(wait) => now += wait.max(step),
                Due::End => break,
            }
        }
        frames
    }

    #[test]
    fn a_rate_is_kept_however_often_the_clock_is_looked_at() {
        for rate in [1.0, 999.0, 250_000.0, 3_333_333.3] {
            for step in [US, 13 * US, 700 * US] {
                let mut pacer = Pacer::new(Some(rate));
                let frames = sent(&mut pacer, step, Duration::from_secs(2));
                // The first frame is due at once; the clock was last looked at up to a step before the end.
                let least = (rate * (2.0 - step.as_secs_f64())) as u64;
                assert!((least..=(rate * 2.0) as u64 + 1).contains(&frames), "{rate}/s, every {step:?}: {frames}");
                assert_eq!(pacer.forgone(), 0);
            }
        }
    }

    #[test]
    fn a_rate_has_no_gaps_and_no_bursts() {
        let mut pacer = Pacer::new(Some(1000.0));
        assert_eq!(pacer.due(Duration::ZERO), Due::Frames(1));
        assert_eq!(pacer.due(Duration::ZERO), Due::Wait(1000 * US));
        assert_eq!(pacer.due(999 * US), Due::Wait(US));
        assert_eq!(pacer.due(1000 * US), Due::Frames(1));
        assert_eq!(pacer.due(2999 * US), Due::Frames(1));
        assert_eq!(pacer.due(2999 * US), Due::Wait(US));
    }

    #[test]
    fn what_was_missed_for_long_is_forgone_and_told() {
        let mut pacer = Pacer::new(Some(1_000_000.0));
        assert_eq!(pacer.due(Duration::ZERO), Due::Frames(1));
        // A second in which nobody asked: a million are due, a millisecond's worth and a few are made up for.
        assert_eq!(pacer.due(Duration::from_secs(1)), Due::Frames(1064));
        assert_eq!(pacer.forgone(), 1_000_000 - 1064);
        assert_eq!(pacer.due(Duration::from_secs(1)), Due::Wait(US));
        let later = Duration::from_secs(1) + Duration::from_nanos(1500);
        assert_eq!(pacer.due(later), Due::Frames(1), "and then the rate goes on");
    }

    #[test]
    fn a_flood_is_always_due() {
        let mut pacer = Pacer::new(None);
        assert_eq!(pacer.due(Duration::ZERO), Due::Frames(FLOOD as u32));
        assert_eq!(pacer.due(Duration::ZERO), Due::Frames(FLOOD as u32));
    }

    #[test]
    fn it_ends_after_the_frames_asked_for_whatever_could_not_be_sent() {
        let mut flood = Pacer::new(None).until(Some(FLOOD + 5));
        assert_eq!(flood.due(Duration::ZERO), Due::Frames(FLOOD as u32));
        assert_eq!(flood.due(Duration::ZERO), Due::Frames(5));
        flood.forgo(2);
        assert_eq!(flood.due(Duration::ZERO), Due::Frames(2));
        assert_eq!((flood.due(Duration::ZERO), flood.forgone()), (Due::End, 0));

        let mut paced = Pacer::new(Some(1000.0)).until(Some(3));
        assert_eq!(paced.due(1000 * US), Due::Frames(2));
        paced.forgo(1);
        assert_eq!(paced.due(9000 * US), Due::Frames(2));
        assert_eq!((paced.due(9000 * US), paced.forgone()), (Due::End, 1));
    }

    #[test]
    fn captured_packets_keep_their_distances_round_after_round() {
        let mut pacer = Pacer::times(&[50 * US, 60 * US, 60 * US, 110 * US]);
        let mut told = Vec::new();
        for now in (0..=170).step_by(10) {
            while let Due::Frames(count) = pacer.due(now * US) {
                told.push((now, count));
            }
        }
        // Between the last and the first again: 60 µs in all, three gaps.
        assert_eq!(told, [(0, 1), (10, 2), (60, 1), (80, 1), (90, 2), (140, 1), (160, 1), (170, 2)]);
        assert_eq!(pacer.due(171 * US), Due::Wait(49 * US));
    }

    #[test]
    fn captures_without_time_are_sent_nevertheless() {
        for times in [&[US][..], &[US, US]] {
            let mut pacer = Pacer::times(times);
            assert_eq!(pacer.due(Duration::ZERO), Due::Frames(times.len() as u32));
        }
        let mut backwards = Pacer::times(&[20 * US, 10 * US, 30 * US]);
        assert_eq!(backwards.due(9 * US), Due::Wait(US));
        assert_eq!(backwards.due(10 * US), Due::Frames(2));
    }
}
