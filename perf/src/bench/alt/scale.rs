//! A million prefixes through the speaker in the process: octets in, octets out.

use std::time::{Duration, Instant};

use altitude_control::alt::bgp::{
    message::{self, Message, Splitter},
    peer::ConnectionId,
    settings::Settings,
    speaker::{Input, Output, Speaker},
};

use nix::time::{ClockId, clock_gettime};

use super::feed::{self, Feed};

/// What a socket hands over at once, octets.
const READ: usize = 64 * 1024;

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) speaker: Speaker,
    /// What each neighbour was sent.
    pub(super) sent: Vec<Vec<u8>>,
    /// The longest single step, CPU time.
    pub(super) longest: Duration,
}

/// The speaker under test.
pub(super) fn settings(neighbors: usize) -> Settings {
    Settings {
        asn: feed::ASN,
        router_id: [10, 42, 0, 1].into(),
        neighbors: (0..neighbors).map(feed::neighbor).collect(),
        ..Settings::default()
    }
}

/// Brings sessions up, feeds them in turns, and takes what is sent until there is nothing more.
pub(super) fn run(feeds: &[Feed]) -> Outcome {
    let now = Instant::now();
    let mut speaker = Speaker::new(settings(feeds.len()), now, 1).expect("plain settings");
    let mut todo = Vec::new();
    let mut sent: Vec<Vec<u8>> = feeds.iter().map(|feed| Vec::with_capacity(feed.octets.len() * 4)).collect();
    let mut longest = Duration::ZERO;
    let mut step = |speaker: &mut Speaker, input: Input<'_>, todo: &mut Vec<Output>| {
        let start = cpu();
        speaker.step(now, input, todo);
        longest = longest.max(cpu() - start);
    };
    step(&mut speaker, Input::Start, &mut todo);
    let mut connections: Vec<ConnectionId> = Vec::new();
    for feed in feeds {
        let ends = (feed::local(feed.index).into(), feed::remote(feed.index).into());
        let connection = speaker.admit(now, ends.0, ends.1, &mut todo).expect("welcome");
        step(&mut speaker, Input::Octets(connection, &feed::greeting(feed.index)), &mut todo);
        connections.push(connection);
    }
    let longest_feed = feeds.iter().map(|feed| feed.octets.len()).max().unwrap_or(0);
    let mut at = 0;
    loop {
        for (feed, connection) in feeds.iter().zip(&connections) {
            let piece = feed.octets.get(at..).unwrap_or_default();
            let piece = &piece[..piece.len().min(READ)];
            if !piece.is_empty() {
                step(&mut speaker, Input::Octets(*connection, piece), &mut todo);
            }
            for output in std::mem::take(&mut todo) {
                if let Output::Write { connection, octets } = output {
                    sent[connection.peer().0].extend_from_slice(&octets);
                    step(&mut speaker, Input::Drained(connection), &mut todo);
                }
            }
        }
        at = (at + READ).min(longest_feed);
        let idle = speaker.due().is_none_or(|due| due > now);
        if at == longest_feed && todo.is_empty() && idle {
            break;
        }
        if !idle {
            step(&mut speaker, Input::Wake, &mut todo);
        }
    }
    Outcome { speaker, sent, longest }
}

/// Prefixes that a neighbour was told of.
pub(super) fn announced(index: usize, octets: &[u8]) -> usize {
    let context = feed::context(index);
    let mut splitter = Splitter::default();
    let mut count = 0;
    for piece in octets.chunks(READ) {
        splitter.push(piece);
        while let Some(octets) = splitter.next() {
            let parsed = message::parse(octets.expect("well framed"), &context).expect("well formed");
            if let Some(Message::Update(update)) = parsed.message {
                assert!(update.withdrawn.is_empty(), "nothing was withdrawn");
                count += update.announced.iter().map(|(_, prefixes)| prefixes.len()).sum::<usize>();
            }
        }
    }
    count
}

/// CPU time of this thread so far.
pub(super) fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("every thread has a clock")
}
