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
use stream::Progress;

/// Shorter waits are spun away: the kernel wakes a sleeper some 50 µs late.
const SPIN: Duration = Duration::from_micros(120);
/// Longest sleep, so that a stop is noticed.
const SLEEP: Duration = Duration::from_millis(20);
/// How long a socket may take to send what it was given. An interface that is down never does.
const LINGER: Duration = Duration::from_millis(200);

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
    /// From when the first frame was due to when the last one was sent.
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
    /// Where the run began.
    base: Progress,
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
        Ok(Self { source, sender, refused, base: Progress::default() })
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

    /// Sends at the pacer's pace as long as `goes_on` says so; it is asked some hundred times a second, and is told how
    /// long the generator has been sending. A stream goes on where the last run left it; a capture starts anew.
    ///
    /// # Errors
    /// A line with what the kernel refused.
    pub fn run(&mut self, pacer: Pacer, mut goes_on: impl FnMut(&Self, Duration) -> bool) -> Result<Sent, String> {
        if let Sender::Live(live) = &self.sender {
            self.base = live.begin(&pacer, None)?;
        }
        match &self.sender {
            Sender::Live(live) => live.run(&pacer, &self.base, |elapsed| goes_on(self, elapsed))?,
            Sender::AfXdp(_) => self.run_socket(pacer, goes_on)?,
        }
        self.sent()
    }

    fn run_socket(&mut self, mut pacer: Pacer, mut goes_on: impl FnMut(&Self, Duration) -> bool) -> Result<(), String> {
        if let Sender::AfXdp(socket) = &mut self.sender {
            self.base = socket.begin(matches!(self.source, Source::Replay(_)));
        }
        let start = Instant::now();
        loop {
            let elapsed = start.elapsed();
            let ended = !goes_on(self, elapsed);
            let Sender::AfXdp(socket) = &mut self.sender else { return Ok(()) };
            socket.progress.start = 1;
            socket.progress.last = 1 + elapsed.as_nanos() as u64;
            socket.progress.forgone = pacer.forgone();
            match pacer.due(elapsed) {
                _ if ended => break,
                Due::End => break,
                Due::Frames(count) => pacer.forgo(send(socket, &self.source, count)),
                Due::Wait(wait) if wait > SPIN => thread::sleep((wait - SPIN).min(SLEEP)),
                Due::Wait(_) => std::hint::spin_loop(),
            }
        }
        let end = Instant::now();
        while let Sender::AfXdp(socket) = &mut self.sender
            && !socket.flush()
            && end.elapsed() < LINGER
        {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// What was sent in this run so far.
    ///
    /// # Errors
    /// A line with what the kernel refused.
    pub fn sent(&self) -> Result<Sent, String> {
        let progress = match &self.sender {
            Sender::Live(live) => live.progress()?,
            Sender::AfXdp(socket) => socket.progress,
        };
        let Progress { frames, octets, probes, forgone, start, last, .. } = progress;
        let packets = frames - self.base.frames;
        let seconds = Duration::from_nanos(last.saturating_sub(start)).as_secs_f64();
        Ok(Sent { packets, octets, probes, forgone, seconds, means: self.means() })
    }
}

/// Sends `count` frames and returns how many it could not: the interface does not keep up.
fn send(socket: &mut AfXdp, source: &Source, count: u32) -> u32 {
    let mut left = count;
    while left > 0 {
        let sent = match source {
            Source::Stream(stream) => socket.send(left, |progress, octets| stream.write(progress, octets, afxdp::now)),
            Source::Replay(replay) => socket.send(left, |progress, octets| replay.write(progress, octets)),
        };
        if sent == 0 {
            break;
        }
        left -= sent;
    }
    left
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
