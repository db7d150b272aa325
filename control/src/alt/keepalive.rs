//! Whether a tunnel carries packets: GRE keepalives, the link under it, and what ICMP hints at.
//!
//! A keepalive is a GRE packet inside a GRE packet, addressed back to its sender: whoever is at the far end and forwards what
//! comes out of a tunnel sends it back without knowing what it is, as routers of several makers do.
//!
//! ```text
//! we send    IP us→them │ GRE │ IP them→us, protocol 47 │ GRE, protocol type 0
//! they send                     IP them→us, protocol 47 │ GRE, protocol type 0
//!
//!               Link(false)                    as many keepalives lost as allowed
//!   down: link ◀──────────── up ──────────────────────────────────────────▶ down: silent
//!        │                    ▲ ▲                                             │
//!        └──── Link(true) ────┘ └───────────────── Returned ──────────────────┘
//! ```
//!
//! An ICMP error that says the far end is gone can be forged by anybody on the way, so it is a hint: it makes the next
//! keepalive leave at once, and is shown.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::wire::{ipv4::Ipv4Header, ipv6::Ipv6Header};

use crate::wire::{
    gre::{self, GreHeader},
    packet::enclose,
};

/// IP protocol of GRE.
const GRE: u8 = 47;
/// TTL and Hop Limit of the inner packet, which the far end lowers or not.
const TTL: u8 = 255;
/// Shortest time between two keepalives, however many hints come.
const SPACING_MIN: Duration = Duration::from_secs(1);

/// How the far end is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From one keepalive to the next.
    pub every: Duration,
    /// Lost ones in a row that mean the tunnel is down, at least 1.
    pub losses: u32,
}

/// A GRE packet inside another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inner<'a> {
    source: IpAddr,
    destination: IpAddr,
    /// From the GRE header on.
    pub(super) gre: &'a [u8],
}

/// The GRE packet that `packet` carries, if it carries one.
pub(super) fn inner_gre(packet: &[u8]) -> Option<Inner<'_>> {
    match packet.first()? >> 4 {
        4 => {
            let (header, gre) = Ipv4Header::split(packet).ok()?;
            let whole = header.protocol == GRE;
            whole.then_some(Inner { source: header.source.into(), destination: header.destination.into(), gre })
        }
        _ => {
            let (header, gre) = Ipv6Header::split(packet).ok()?;
            let whole = header.next_header == GRE;
            whole.then_some(Inner { source: header.source.into(), destination: header.destination.into(), gre })
        }
    }
}

/// Whether it is a keepalive of the far end `from` of our tunnel with this key: nothing else goes back.
pub(super) fn is_of(inner: &Inner<'_>, from: IpAddr, to: IpAddr, key: Option<u32>) -> bool {
    let header = GreHeader::split(inner.gre).map(|(header, _)| header);
    (inner.source, inner.destination) == (to, from)
        && header.is_ok_and(|header| header.protocol == gre::KEEPALIVE && header.key == key)
}

/// The inner packet of a keepalive: from the far end to us.
pub(super) fn packet(from: IpAddr, to: IpAddr, gre: &[u8]) -> Vec<u8> {
    // Tunnels with ends of two families are refused when they are made.
    enclose((from, to), GRE, TTL, false, gre).unwrap_or_default()
}

/// What an ICMP error says of the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// It has no GRE.
    Protocol,
    /// It does not answer.
    Host,
    /// There is no route to it.
    Network,
    /// A filter is in the way.
    Prohibited,
}

impl Hint {
    /// The text an operator reads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "protocol unreachable: no GRE at the far end",
            Self::Host => "host unreachable",
            Self::Network => "network unreachable",
            Self::Prohibited => "administratively prohibited",
        }
    }
}

/// What happens to a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A keepalive came back.
    Returned,
    /// The route to the far end leads out of a link that can carry packets, or not.
    Link(bool),
    /// An ICMP error about a packet to the far end came.
    Hint(Hint),
    /// The time of [`Liveness::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send a keepalive ([`Tunnels::keepalive`](super::tunnels::Tunnels::keepalive)).
    Send,
    /// The tunnel is something else now.
    Changed(State),
}

/// Whether a tunnel carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// As far as is known.
    Up,
    /// No link, or no route to the far end.
    LinkDown,
    /// The far end sent no keepalive back.
    Silent,
}

impl State {
    /// The text an operator reads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::LinkDown => "down: no link or route to the far end",
            Self::Silent => "down: no keepalive came back",
        }
    }
}

/// The state of one tunnel.
#[derive(Debug, Clone)]
pub struct Liveness {
    settings: Option<Settings>,
    link: bool,
    /// Keepalives sent since the last one that came back.
    lost: u32,
    sent_at: Option<Instant>,
    next: Option<Instant>,
    state: State,
    hint: Option<(Hint, Instant)>,
    hints: u64,
}

impl Liveness {
    /// A tunnel that is up until something says otherwise; without settings nothing is sent.
    #[must_use]
    pub fn new(settings: Option<Settings>, now: Instant) -> Self {
        let next = settings.map(|_| now);
        Self { settings, link: true, lost: 0, sent_at: None, next, state: State::Up, hint: None, hints: 0 }
    }

    /// Whether the tunnel carries packets.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The last ICMP hint and when it came, and how many there were.
    #[must_use]
    pub const fn hint(&self) -> (Option<(Hint, Instant)>, u64) {
        (self.hint, self.hints)
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input, todo: &mut Vec<Output>) {
        match input {
            Input::Returned => self.lost = 0,
            Input::Link(up) => {
                if up && !self.link {
                    // What was lost while there was no link says nothing about the far end.
                    self.lost = 0;
                    self.next = self.settings.map(|_| now);
                }
                self.link = up;
            }
            Input::Hint(hint) => {
                self.hint = Some((hint, now));
                self.hints += 1;
                let soonest = self.sent_at.map_or(now, |sent| sent + SPACING_MIN);
                self.next = self.next.map(|next| next.min(soonest.max(now)));
            }
            Input::Wake => self.wake(now, todo),
        }
        self.settle(todo);
    }

    fn wake(&mut self, now: Instant, todo: &mut Vec<Output>) {
        let Some(settings) = self.settings.filter(|_| self.next.is_some_and(|next| next <= now)) else { return };
        self.next = Some(now + settings.every);
        if self.link {
            self.lost = self.lost.saturating_add(1);
            self.sent_at = Some(now);
            todo.push(Output::Send);
        }
    }

    fn settle(&mut self, todo: &mut Vec<Output>) {
        // The one just sent is not lost yet.
        let silent = self.settings.is_some_and(|settings| self.lost > settings.losses);
        let state = match (self.link, silent) {
            (false, _) => State::LinkDown,
            (true, true) => State::Silent,
            (true, false) => State::Up,
        };
        if state != self.state {
            self.state = state;
            todo.push(Output::Changed(state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(settings: Option<Settings>, script: &[(u64, Input, &[Output])]) -> Liveness {
        let start = Instant::now();
        let mut tunnel = Liveness::new(settings, start);
        for (line, (ms, input, expected)) in script.iter().enumerate() {
            let mut todo = Vec::new();
            tunnel.step(start + Duration::from_millis(*ms), *input, &mut todo);
            assert_eq!(todo, *expected, "line {line}, at {ms} ms: {input:?}");
        }
        tunnel
    }

    const EVERY_10: Option<Settings> = Some(Settings { every: Duration::from_secs(10), losses: 3 });

    #[test]
    fn three_lost_keepalives_are_the_end_and_one_is_a_new_beginning() {
        use Input::{Returned, Wake};
        use Output::{Changed, Send};
        let tunnel = run(
            EVERY_10,
            &[
                (0, Wake, &[Send]),
                (5, Returned, &[]),
                (9_999, Wake, &[]),      // too early
                (10_000, Wake, &[Send]), // lost
                (20_000, Wake, &[Send]), // lost
                (30_000, Wake, &[Send]), // lost
                (40_000, Wake, &[Send, Changed(State::Silent)]),
                (50_000, Wake, &[Send]),
                (50_001, Returned, &[Changed(State::Up)]),
                (60_000, Wake, &[Send]),
                (60_001, Returned, &[]),
            ],
        );
        assert_eq!(tunnel.state(), State::Up);
    }

    #[test]
    fn the_link_decides_first_and_wipes_what_was_lost() {
        use Input::{Link, Returned, Wake};
        use Output::{Changed, Send};
        run(
            EVERY_10,
            &[
                (0, Wake, &[Send]),
                (100, Link(false), &[Changed(State::LinkDown)]),
                (100, Link(false), &[]),
                (10_000, Wake, &[]), // nothing leaves
                (40_000, Wake, &[]),
                (45_000, Link(true), &[Changed(State::Up)]),
                (45_000, Wake, &[Send]), // at once
                (45_001, Returned, &[]),
            ],
        );
        // Without keepalives the link is all there is.
        let plain = run(
            None,
            &[(0, Wake, &[]), (1, Link(false), &[Changed(State::LinkDown)]), (2, Link(true), &[Changed(State::Up)])],
        );
        assert_eq!(plain.due(), None);
    }

    #[test]
    fn a_hint_is_no_verdict_but_asks_at_once_and_not_more_than_once_a_second() {
        use Input::{Hint as Hinted, Returned, Wake};
        use Output::Send;
        let gone = Hinted(Hint::Protocol);
        let tunnel = run(
            EVERY_10,
            &[
                (0, Wake, &[Send]),
                (1, Returned, &[]),
                (5_000, gone, &[]),
                (5_000, Wake, &[Send]),
                (5_001, gone, &[]),
                (5_002, Wake, &[]),
                (5_003, gone, &[]),
                (6_000, Wake, &[Send]),
                (6_001, Returned, &[]),
            ],
        );
        assert_eq!((tunnel.state(), tunnel.hint().1), (State::Up, 3));
        let mut forged = vec![];
        let start = Instant::now();
        let mut plain = Liveness::new(None, start);
        for _ in 0..1000 {
            plain.step(start, gone, &mut forged);
        }
        assert_eq!((forged, plain.state(), plain.due()), (vec![], State::Up, None), "however many there are");
    }
}
