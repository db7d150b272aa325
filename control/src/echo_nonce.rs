//! Echo-nonce: asks an ETR for a nonce back in its own packets, and gives it back the one that it asks for.
//!
//! ```text
//!                 packets flow both ways, the site echoes
//! idle ◀──────────────────────────────────────────────────▶ asking: N+E and our nonce in every packet
//!   ▲ echoed, or nobody spoke for a while                      │
//!   ├──────────────────────────────────────────────────────────┤
//!   │ a probe is answered, or a minute passed                  │ packets still come without it after 3 s
//!   └────────────────────────────────────────────── lost ◀─────┘
//! N+E from there ─▶ N and that nonce in every packet to it, as long as it asks; our own asking waits
//! ```
//!
//! Nothing is concluded from silence: where no packets come back, none can carry an echo. An echo counts only from the RLOC
//! that was asked, of the nonce it was asked for, while it is asked. A lost path is avoided and probed at once; an answer to
//! the probe overrides what is missing here.
//!
//! Sources: RFC 9300 §10.1, §16; RFC 7835 §3.4 (bounds).

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::{mapping::Nonce, sightings::Seen};

use crate::{
    fault::faults,
    rate::{Buckets, Limited, Rate},
};

/// How long packets may come back without the nonce.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long one asking lasts at most: then nobody spoke, or too seldom to tell.
const ASKED_FOR: Duration = Duration::from_secs(10);
/// Between the end of one asking and the start of the next, ± a fifth.
pub const EVERY: Duration = Duration::from_secs(30);
/// How long a packet from there says that packets flow both ways.
const TWO_WAY_FOR: Duration = Duration::from_secs(5);
/// How long a nonce is given back after it was last asked for: workers pass that on once a second.
const GIVEN_BACK_FOR: Duration = Duration::from_secs(5);
/// How long our own asking waits for a peer's, ± a fifth so that two do not ask at once again.
const SUSPENDED_FOR: Duration = Duration::from_secs(15);
/// How long a path is avoided that no probe speaks for.
const LOST_FOR: Duration = Duration::from_secs(60);
/// Most RLOCs known.
const RLOCS_MAX: usize = 16_384;
/// How often what one RLOC asks changes what packets to it say.
const CHANGES: Rate = Rate { burst: 4, every: Duration::from_secs(1) };

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum Input {
    /// An authoritative Map-Reply of the locator's site says whether it gives nonces back (its E bit).
    Echoes(IpAddr, bool),
    /// Packets use a mapping with this locator; that counts until then.
    Used(IpAddr, Instant),
    /// A packet came from there, with or without a nonce.
    Heard(IpAddr, Seen),
    /// It answered an RLOC-probe.
    Answered(IpAddr),
    /// The time of [`EchoNonce::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// What packets to this RLOC say, or whether it is used, is another thing now.
    Turn(IpAddr),
    /// Probe it: packets come back without its echo.
    Lost(IpAddr),
    /// Count this.
    Discard(NonceFault),
}

faults! {
    /// Why a nonce had no effect.
    NonceFault {
        /// From an RLOC that no mapping in use has.
        Stranger = "nonce-from-stranger",
        /// Not the one that we asked for, or we asked for none.
        Unexpected = "nonce-unexpected",
        /// It asks for other nonces faster than packets to it are changed.
        Limited = "nonce-request-rate-limited",
        /// As many RLOCs as can be remembered.
        Full = "nonce-table-full",
    }
}

/// How often what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Nonces that we asked for.
    pub asked: u64,
    /// Of them given back.
    pub echoed: u64,
    /// Of them missing in packets that came back.
    pub lost: u64,
    /// Nonces of others that we gave back.
    pub given_back: u64,
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    echoes: bool,
    used_until: Instant,
    heard: Option<Instant>,
    /// Our nonce, and since when it is asked for.
    asking: Option<(u32, Instant)>,
    /// No asking before.
    next: Instant,
    /// Its nonce, and until when it is given back.
    giving: Option<(u32, Instant)>,
    /// Until when it is avoided.
    lost: Option<Instant>,
    /// Its place among the deadlines.
    due: Option<Instant>,
}

/// The machine.
#[derive(Debug)]
pub struct EchoNonce {
    peers: BTreeMap<IpAddr, Peer>,
    deadlines: BTreeSet<(Instant, IpAddr)>,
    /// Nonces asked for: no two RLOCs have the same (RFC 9300 §5.3).
    out: BTreeSet<u32>,
    changes: Buckets<IpAddr>,
    counts: Counts,
}

impl Default for EchoNonce {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            out: BTreeSet::new(),
            changes: Buckets::new(CHANGES, RLOCS_MAX),
            counts: Counts::default(),
        }
    }
}

impl EchoNonce {
    /// Takes in one input and appends what must be done to `todo`. `random` gives 64 random bits at each call.
    pub fn step(&mut self, now: Instant, input: Input, random: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        let done = match input {
            Input::Echoes(rloc, echoes) => self.meet(now, rloc).map(|peer| peer.echoes = echoes),
            Input::Used(rloc, until) => self.meet(now, rloc).map(|peer| peer.used_until = peer.used_until.max(until)),
            Input::Heard(rloc, seen) => self.heard(now, rloc, seen, random, todo),
            Input::Answered(rloc) => {
                self.found(rloc, todo);
                Ok(())
            }
            Input::Wake => Ok(()),
        };
        if let Err(fault) = done {
            todo.push(Output::Discard(fault));
        }
        if let Input::Echoes(rloc, _) | Input::Used(rloc, _) | Input::Heard(rloc, _) | Input::Answered(rloc) = input {
            self.begin(now, rloc, random, todo);
            self.arm(rloc);
        }
        while let Some(&(due, rloc)) = self.deadlines.first().filter(|(due, _)| *due <= now) {
            self.deadlines.remove(&(due, rloc));
            if let Some(peer) = self.peers.get_mut(&rloc) {
                peer.due = None;
            }
            self.end(now, rloc, random, todo);
            self.arm(rloc);
        }
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// What packets to an RLOC carry. A nonce that it asked for goes before one that we ask for.
    #[must_use]
    pub fn nonce(&self, rloc: IpAddr) -> Option<Nonce> {
        let peer = self.peers.get(&rloc)?;
        let given = peer.giving.map(|(value, _)| Nonce { value, echo: false });
        given.or_else(|| peer.asking.map(|(value, _)| Nonce { value, echo: true }))
    }

    /// Whether packets came back from there without the nonce asked for, and nothing has spoken for it since.
    #[must_use]
    pub fn is_lost(&self, rloc: IpAddr) -> bool {
        self.peers.get(&rloc).is_some_and(|peer| peer.lost.is_some())
    }

    /// How often what happened.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The peer, made if there is room for one more: of those that nobody uses one gives way.
    fn meet(&mut self, now: Instant, rloc: IpAddr) -> Result<&mut Peer, NonceFault> {
        if !self.peers.contains_key(&rloc) && self.peers.len() >= RLOCS_MAX {
            let idle = self.peers.iter().find(|(_, peer)| peer.used_until <= now && peer.due.is_none());
            let idle = idle.map(|(rloc, _)| *rloc).ok_or(NonceFault::Full)?;
            self.peers.remove(&idle);
        }
        Ok(self.peers.entry(rloc).or_insert(Peer {
            echoes: false,
            used_until: now,
            heard: None,
            asking: None,
            next: now,
            giving: None,
            lost: None,
            due: None,
        }))
    }

    fn heard(
        &mut self,
        now: Instant,
        rloc: IpAddr,
        seen: Seen,
        random: &mut dyn FnMut() -> u64,
        todo: &mut Vec<Output>,
    ) -> Result<(), NonceFault> {
        let peer = self.peers.get_mut(&rloc).ok_or(NonceFault::Stranger)?;
        peer.heard = Some(now);
        let asking = peer.asking;
        match (seen, asking) {
            (Seen::EchoAsked(nonce), _) => return self.give(now, rloc, nonce, random, todo),
            (Seen::Nonce(nonce), Some((ours, _))) if nonce == ours => {
                self.counts.echoed += 1;
                self.stop_asking(rloc, now + jittered(EVERY, random), todo);
                self.found(rloc, todo);
            }
            // An echo that was missing for long enough, while packets came.
            (_, Some((_, since))) if now >= since + PATIENCE => {
                self.counts.lost += 1;
                self.stop_asking(rloc, now + jittered(EVERY, random), todo);
                if let Some(peer) = self.peers.get_mut(&rloc) {
                    peer.lost = Some(now + LOST_FOR);
                }
                todo.push(Output::Lost(rloc));
            }
            (Seen::Nonce(_), _) => return Err(NonceFault::Unexpected),
            _ => {}
        }
        Ok(())
    }

    /// It asks for a nonce: packets to it carry that, and our own asking waits.
    fn give(
        &mut self,
        now: Instant,
        rloc: IpAddr,
        nonce: u32,
        random: &mut dyn FnMut() -> u64,
        todo: &mut Vec<Output>,
    ) -> Result<(), NonceFault> {
        let peer = self.peers.get(&rloc).ok_or(NonceFault::Stranger)?;
        let same = peer.giving.is_some_and(|(giving, _)| giving == nonce);
        if !same {
            self.changes.take(now, rloc).map_err(|limited| match limited {
                Limited::TableFull => NonceFault::Full,
                Limited::Spent | Limited::Overall => NonceFault::Limited,
            })?;
            self.counts.given_back += 1;
            todo.push(Output::Turn(rloc));
        }
        self.withdraw(rloc);
        let wait = jittered(SUSPENDED_FOR, random);
        if let Some(peer) = self.peers.get_mut(&rloc) {
            peer.giving = Some((nonce, now + GIVEN_BACK_FOR));
            peer.next = peer.next.max(now + wait);
        }
        Ok(())
    }

    /// Begins to ask if there is reason to.
    fn begin(&mut self, now: Instant, rloc: IpAddr, random: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        let Some(peer) = self.peers.get(&rloc) else { return };
        let two_way = peer.used_until > now && peer.heard.is_some_and(|heard| now < heard + TWO_WAY_FOR);
        let busy = peer.asking.is_some() || peer.giving.is_some() || peer.lost.is_some();
        if !peer.echoes || !two_way || busy || now < peer.next {
            return;
        }
        let mut draws = (0..4).map(|_| random() as u32 & Nonce::MAX);
        let Some(nonce) = draws.find(|nonce| !self.out.contains(nonce)) else { return };
        self.out.insert(nonce);
        self.counts.asked += 1;
        if let Some(peer) = self.peers.get_mut(&rloc) {
            peer.asking = Some((nonce, now));
        }
        todo.push(Output::Turn(rloc));
    }

    /// What ends at this time ends.
    fn end(&mut self, now: Instant, rloc: IpAddr, random: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        let Some(&Peer { asking, giving, lost, .. }) = self.peers.get(&rloc) else { return };
        if asking.is_some_and(|(_, since)| since + ASKED_FOR <= now) {
            self.stop_asking(rloc, now + jittered(EVERY, random), todo);
        }
        if giving.is_some_and(|(_, until)| until <= now)
            && let Some(peer) = self.peers.get_mut(&rloc)
        {
            peer.giving = None;
            todo.push(Output::Turn(rloc));
        }
        if lost.is_some_and(|until| until <= now) {
            self.found(rloc, todo);
        }
    }

    /// The path is believed in again.
    fn found(&mut self, rloc: IpAddr, todo: &mut Vec<Output>) {
        if let Some(peer) = self.peers.get_mut(&rloc)
            && peer.lost.take().is_some()
        {
            todo.push(Output::Turn(rloc));
        }
    }

    fn stop_asking(&mut self, rloc: IpAddr, next: Instant, todo: &mut Vec<Output>) {
        if self.withdraw(rloc) {
            todo.push(Output::Turn(rloc));
        }
        if let Some(peer) = self.peers.get_mut(&rloc) {
            peer.next = next;
        }
    }

    /// Takes our own nonce back; false if there is none.
    fn withdraw(&mut self, rloc: IpAddr) -> bool {
        let asking = self.peers.get_mut(&rloc).and_then(|peer| peer.asking.take());
        asking.is_some_and(|(nonce, _)| self.out.remove(&nonce))
    }

    /// Puts the RLOC's next end among the deadlines.
    fn arm(&mut self, rloc: IpAddr) {
        let Some(peer) = self.peers.get_mut(&rloc) else { return };
        let ends = [peer.asking.map(|(_, since)| since + ASKED_FOR), peer.giving.map(|(_, until)| until), peer.lost];
        let due = ends.into_iter().flatten().min();
        if due == peer.due {
            return;
        }
        if let Some(before) = std::mem::replace(&mut peer.due, due) {
            self.deadlines.remove(&(before, rloc));
        }
        self.deadlines.extend(due.map(|due| (due, rloc)));
    }
}

/// The time, a fifth more or less at most.
fn jittered(time: Duration, random: &mut dyn FnMut() -> u64) -> Duration {
    let part = (random() >> 11) as f64 / (1_u64 << 53) as f64;
    time.mul_f64(0.8 + 0.4 * part)
}
