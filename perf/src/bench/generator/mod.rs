//! Both ends of the lab: where frames come from, and their grave.
//!
//! A [`Recipe`] says what frames are like (a bench's is a [`Traffic`]); a [`Stream`] is the same frames in the order in
//! which they are sent, or a [`Replay`] those of a capture; a [`Generator`] sends them, when a [`Pacer`] says so. The
//! kernel sends them by itself where it can (`BPF_PROG_RUN` on live frames: some million a second on one core), else an
//! AF_XDP socket does (a tenth). The [`Sink`] counts what arrives.

mod afxdp;
mod chance;
mod live;
mod pace;
mod recipe;
mod replay;
mod sink;
mod stream;
mod traffic;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use altitude_dataplane::port::xsk::Interface;
use serde::{Deserialize, Serialize};

pub use pace::{Due, Pacer};
pub use recipe::Recipe;
pub use replay::Replay;
pub use sink::{Arrived, Sink};
pub use stream::Stream;
pub use traffic::{Distribution, Traffic, pps};

use afxdp::AfXdp;
use live::Live;

/// Shorter waits are spun away: the kernel wakes a sleeper some 50 µs late.
const SPIN: Duration = Duration::from_micros(120);
/// Longest sleep, so that a stop is noticed.
const SLEEP: Duration = Duration::from_millis(20);

/// Who sends the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Means {
    /// The kernel by itself: `BPF_PROG_RUN` on live frames.
    LiveFrames,
    /// An AF_XDP socket.
    AfXdp,
}

/// What is sent.
#[derive(Debug, Clone)]
pub enum Source {
    /// Frames by a recipe.
    Stream(Stream),
    /// Frames of a capture.
    Replay(Replay),
}

/// What was sent. One object of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Frames, probes among them.
    pub packets: u64,
    /// Of all of them, from the Ethernet header on, without frame check sequence.
    pub octets: u64,
    /// Probes among them.
    pub probes: u64,
    /// Frames that were due but not sent: the generator cannot keep the rate.
    pub forgone: u64,
    /// Time from the first frame on.
    pub seconds: f64,
    /// Who sent them.
    pub means: Means,
}

/// Sends frames through an interface.
#[derive(Debug)]
pub struct Generator {
    source: Source,
    sender: Sender,
    refused: Option<String>,
}

#[derive(Debug)]
enum Sender {
    Live(Live),
    AfXdp(Box<AfXdp>),
}

impl Generator {
    /// A generator on `interface`: by these means, or by the best that there are.
    ///
    /// # Errors
    /// A line with what the kernel refused.
    pub fn open(interface: &str, source: Source, means: Option<Means>) -> Result<Self, String> {
        let interface = Interface::named(interface).map_err(|error| error.to_string())?;
        if !nix::unistd::geteuid().is_root() {
            return Err("sending frames needs root: run as root or through sudo".into());
        }
        let live = || match &source {
            Source::Stream(stream) => Live::stream(Some(&interface), stream),
            Source::Replay(replay) => Live::replay(Some(&interface), replay),
        };
        let socket = || AfXdp::open(&interface).map(|socket| Sender::AfXdp(Box::new(socket)));
        let (sender, refused) = match means {
            Some(Means::LiveFrames) => (Sender::Live(live()?), None),
            Some(Means::AfXdp) => (socket()?, None),
            None => match live() {
                Ok(live) => (Sender::Live(live), None),
                Err(why) => (socket()?, Some(why)),
            },
        };
        Ok(Self { source, sender, refused })
    }

    /// By which means it sends.
    #[must_use]
    pub const fn means(&self) -> Means {
        match self.sender {
            Sender::Live(_) => Means::LiveFrames,
            Sender::AfXdp(_) => Means::AfXdp,
        }
    }

    /// Why it is not the kernel that sends.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Sends `count` frames and returns how many it could not: the interface does not keep up.
    fn send(&mut self, count: u32) -> Result<u32, String> {
        let socket = match &mut self.sender {
            Sender::Live(live) => return live.send(count).map(|()| 0),
            Sender::AfXdp(socket) => socket,
        };
        let mut left = count;
        while left > 0 {
            let sent = match &self.source {
                Source::Stream(stream) => {
                    socket.send(left, |progress, octets| stream.write(progress, octets, afxdp::now))
                }
                Source::Replay(replay) => socket.send(left, |progress, octets| replay.write(progress, octets)),
            };
            if sent == 0 {
                break;
            }
            left -= sent;
        }
        Ok(left)
    }

    /// Sends at the pacer's pace as long as `goes_on` says so; it is asked some times in a millisecond, and is told how
    /// long the generator has been sending.
    ///
    /// # Errors
    /// A line with what the kernel refused.
    pub fn run(&mut self, mut pacer: Pacer, mut goes_on: impl FnMut(&Self, Duration) -> bool) -> Result<Sent, String> {
        let start = Instant::now();
        loop {
            let elapsed = start.elapsed();
            if !goes_on(self, elapsed) {
                break;
            }
            match pacer.due(elapsed) {
                Due::Frames(count) => {
                    let unsent = self.send(count)?;
                    pacer.forgo(unsent);
                }
                Due::Wait(wait) if wait > SPIN => thread::sleep((wait - SPIN).min(SLEEP)),
                Due::Wait(_) => std::hint::spin_loop(),
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(Sent { forgone: pacer.forgone(), seconds, ..self.sent()? })
    }

    /// What was sent so far; it knows no time.
    ///
    /// # Errors
    /// A line with what the kernel refused.
    pub fn sent(&self) -> Result<Sent, String> {
        let progress = match &self.sender {
            Sender::Live(live) => live.progress()?,
            Sender::AfXdp(socket) => socket.progress,
        };
        let stream::Progress { frames: packets, octets, probes, .. } = progress;
        Ok(Sent { packets, octets, probes, forgone: 0, seconds: 0.0, means: self.means() })
    }
}

/// Sends a bench's traffic through `interface` until `stop`.
///
/// # Errors
/// A line with what the kernel refused.
pub fn generate(interface: &str, traffic: &Traffic, stop: &AtomicBool) -> Result<Sent, String> {
    let stream = Stream::new(&traffic.recipe())?;
    let mut generator = Generator::open(interface, Source::Stream(stream), None)?;
    generator.run(Pacer::new(traffic.rate), |_, _| !stop.load(Ordering::Relaxed))
}
