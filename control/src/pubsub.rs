//! The subscriber: has Map-Servers tell it of changes to the mappings that it uses, instead of asking again.
//!
//! ```text
//!                    ┌── no answer: nonce + 1, again after 2, 4, 8, 16 s
//!   learned ─ 1 s ─▶ asking ── Map-Notify with one of its nonces ──▶ live ── Map-Notify with a greater nonce ─▶ Install
//!                    │  ▲                                            │
//!       a Map-Reply, │  └── every 10 minutes, while it is in use ────┤
//!        or nothing  ▼                                               └── not in use any more ─▶ Map-Request without ITR-RLOC
//!                  refused ── after 10 minutes ─▶ asking
//! ```
//!
//! It follows the resolver, and never stands in its way: a mapping is looked up as without it, and is subscribed to when it is
//! there. Who refuses or does not answer leaves an entry that lives and is asked for again as any other.
//!
//! With LISP-SEC its Map-Requests are protected, and so are Map-Replies that refuse them. Where no key is shared with the
//! Map-Servers, Map-Notifies are signed with what both make of the One-Time Key (RFC 9437 §7.1).
//!
//! Nonces: those of one prefix grow by one with each message of either side. The first lies above all of earlier runs, at a
//! place that cannot be foretold, and above all that this run has forgotten ([`Settings::first_nonce`]).
//!
//! Sources: RFC 9437 §5 (subscribing), §6 (publications), §7.1 (keys); RFC 9301 §5.3 (rate), §5.7 (Map-Notify-Ack).

#![forbid(unsafe_code)]

mod asking;
mod receive;
mod standing;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    ops::Bound,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Mapping};

use self::standing::One;
pub use self::standing::Standing;
use crate::{
    fault::faults,
    lisp_sec::{SecurityFault, asking::Asking},
    map_cache::Notice,
    map_server::is_newer,
    prefix_map::PrefixMap,
    wire::{Key, MapNotify, MapReply, MapRequest, XtrIdentity},
};

/// From learning a mapping to asking for more of it: the second of its prefix that the look-up took (RFC 9301 §5.3).
pub const FIRST_AFTER: Duration = Duration::from_secs(1);
/// From the first try to the second, doubling from there.
pub const SPACING_FIRST: Duration = Duration::from_secs(2);
/// Map-Requests without an answer until the prefix is left to look-ups alone.
pub const TRIES_MAX: usize = 5;
/// From one renewal to the next, and from a refusal to the next try. Shorter than what a Map-Server keeps a subscription to
/// nothing for (RFC 9437 §5).
pub const RENEW_EVERY: Duration = Duration::from_secs(600);
/// A subscription that is lost again before this time waits as a refused one does.
pub const LOST_SPACING: Duration = Duration::from_secs(60);
/// Subscriptions at one time, unless told otherwise.
pub const SUBSCRIPTIONS_MAX: usize = 4096;
/// How far ahead a nonce may be: more were never sent, so it belongs to another subscription, or answers a Map-Request that
/// somebody forged; that must not be acknowledged, or it would be proven.
pub const NONCES_AHEAD_MAX: u64 = 64;
/// Subscriptions whose time has come that one step works on; the others are due at once.
const TURNS_MAX: usize = 256;
/// Bits of the place in this run's nonces where the first is.
const FIRST_BITS: u32 = 33;

/// What the subscriber is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who we are.
    pub xtr: XtrIdentity,
    /// Our RLOCs, where Map-Notifies shall go.
    pub itr_rlocs: Vec<IpAddr>,
    /// Keys shared with the Map-Servers; without any, `security` is needed.
    pub keys: Vec<Key>,
    /// LISP-SEC: then nothing goes out without it.
    pub security: Option<Asking>,
    /// Whether what is looked up is subscribed to.
    pub lookups: bool,
    /// What is subscribed to in any case.
    pub fixed: Vec<EidPrefix>,
    /// Our own EID-Prefixes: never taken from others.
    pub database: Vec<EidPrefix>,
    /// Shortest IPv4 and IPv6 prefixes with locators to accept, in bits.
    pub shortest: [u8; 2],
    /// Most subscriptions.
    pub subscriptions_max: usize,
    /// Greater than every nonce of earlier runs, with room for 2³⁴.
    pub first_nonce: u64,
}

/// What happens to the subscriber.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    /// A Map-Reply brought these prefixes into the map-cache.
    Learned(&'a [EidPrefix]),
    /// A Map-Notify came for a subscriber.
    Notify {
        /// Where it came from.
        from: SocketAddr,
        /// As read.
        message: MapNotify,
        /// What it was read from.
        octets: &'a [u8],
    },
    /// A Map-Reply came with one of our nonces ([`Subscriber::asked`]).
    Replied {
        /// As read.
        reply: &'a MapReply,
        /// What it was read from.
        octets: &'a [u8],
    },
    /// Everything is to end.
    Stop,
    /// The time of [`Subscriber::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this Map-Request on its way through the mapping system.
    Request {
        /// The Map-Request.
        message: Box<MapRequest>,
        /// LISP-SEC's authentication data for its ECM: it must not go without them.
        security: Option<Box<[u8]>>,
    },
    /// Send this Map-Notify-Ack from port 4342.
    Acknowledge {
        /// Where the Map-Notify came from.
        to: SocketAddr,
        /// The message.
        octets: Vec<u8>,
    },
    /// Put these into the map-cache in one step; one of TTL 0 takes its entry out.
    Install {
        /// As they came, admitted.
        records: Vec<Mapping>,
        /// What they are.
        notice: Notice,
    },
    /// Things stand otherwise with a prefix. For the log.
    Stands(EidPrefix, Standing),
    /// Count this.
    Drop(PubSubFault),
    /// Count this, and tell the operator: somebody may be lying.
    Insecure(SecurityFault),
}

faults! {
    /// Why nothing was subscribed to, or a Map-Notify had no effect.
    PubSubFault {
        /// As many subscriptions as may be: the mapping lives by look-ups alone.
        Full = "pubsub-table-full",
        /// A subscription was answered with a Map-Reply.
        Refused = "pubsub-refused",
        /// Nobody answered a subscription.
        Unanswered = "pubsub-unanswered",
        /// The Map-Server gave a subscription up.
        Lost = "pubsub-lost",
        /// A Map-Notify under a Key ID that is not shared.
        UnknownKey = "pubsub-notify-unknown-key",
        /// A Map-Notify signed by another key, or changed on the way.
        Mac = "pubsub-notify-bad-authentication",
        /// A Map-Notify about nothing that is subscribed to, or with a nonce that nobody waits for.
        Unrelated = "pubsub-notify-unrelated",
        /// A Map-Notify whose nonce is not greater than the last one: perhaps a replay (RFC 9437 §6).
        Replayed = "pubsub-notify-nonce-replayed",
        /// A Map-Notify that could be of more subscriptions than have their keys tried, and of those tried it is none.
        Crowded = "pubsub-notify-too-many-subscriptions",
        /// The last Map-Notify once more; it is acknowledged again, nothing else happens.
        Repeated = "pubsub-notify-repeated",
        /// A Map-Notify with a record inside our own EID-Prefixes.
        OwnPrefix = "pubsub-notify-own-prefix",
        /// A Map-Notify with locators for a prefix that is shorter than allowed.
        TooShort = "pubsub-notify-prefix-too-short",
    }
}

/// A subscription of ours, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// To what.
    pub eid: EidPrefix,
    /// How it stands,
    pub standing: Standing,
    /// and since when.
    pub since: Instant,
    /// The Map-Server that spoke last.
    pub server: Option<IpAddr>,
    /// The last nonce of either side.
    pub nonce: u64,
    /// Map-Notifies taken in.
    pub notifies: u64,
}

/// A Map-Request that unsubscribed.
#[derive(Debug)]
struct Left {
    nonce: u64,
    /// Signs the answer, where no key is shared.
    key: Option<Key>,
    /// The answer was there.
    confirmed: bool,
}

/// Whether the map-cache has a learned entry of exactly this prefix.
pub type InUse<'a> = &'a dyn Fn(&EidPrefix) -> bool;

/// The machine.
#[derive(Debug)]
pub struct Subscriber {
    settings: Settings,
    database: PrefixMap<()>,
    list: PrefixMap<One>,
    deadlines: BTreeSet<(Instant, EidPrefix)>,
    /// Nonces of Map-Requests that are not answered.
    outstanding: BTreeMap<u64, EidPrefix>,
    /// By what a confirmation spoke of, where that is wider: what was asked for.
    scopes: PrefixMap<BTreeSet<EidPrefix>>,
    /// Map-Requests that unsubscribed, whose Map-Notifies are to be acknowledged, the oldest first. As many as there may be
    /// subscriptions.
    leaving: VecDeque<Left>,
    /// Nonces of prefixes that are not subscribed to any more.
    forgotten: PrefixMap<u64>,
    /// Above all nonces whose prefixes are not known any more.
    floor: u64,
}

impl Subscriber {
    /// A subscriber that begins with what is fixed.
    #[must_use]
    pub fn new(settings: Settings, now: Instant, random: &mut dyn FnMut() -> u64) -> Self {
        let mut subscriber = Self {
            database: settings.database.iter().map(|eid| (*eid, ())).collect(),
            list: PrefixMap::new(),
            deadlines: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            scopes: PrefixMap::new(),
            leaving: VecDeque::new(),
            forgotten: PrefixMap::new(),
            floor: settings.first_nonce,
            settings,
        };
        for eid in subscriber.settings.fixed.clone() {
            // No limit for these: the configuration has one.
            subscriber.add(now, eid, true, random);
        }
        subscriber
    }

    /// Takes in one input and appends what must be done to `todo`. `random` gives 64 random bits at each call.
    pub fn step(
        &mut self,
        now: Instant,
        input: Input<'_>,
        in_use: InUse<'_>,
        random: &mut dyn FnMut() -> u64,
        todo: &mut Vec<Output>,
    ) {
        match input {
            Input::Learned(eids) if self.settings.lookups => {
                for eid in eids {
                    self.learned(now, *eid, random, todo);
                }
            }
            Input::Learned(_) | Input::Wake => {}
            Input::Notify { from, message, octets } => {
                if let Err(fault) = self.notified(now, from, message, octets, todo) {
                    todo.push(Output::Drop(fault));
                }
            }
            Input::Replied { reply, octets } => self.replied(now, reply, octets, todo),
            Input::Stop => {
                self.leaving.clear();
                let all: Vec<EidPrefix> = self.list.iter().map(|(eid, _)| eid).collect();
                for eid in all {
                    self.leave(&eid, random, todo);
                }
            }
        }
        for _ in 0..TURNS_MAX {
            let Some((_, eid)) = self.deadlines.first().copied().filter(|(due, _)| *due <= now) else { break };
            self.turn(now, eid, in_use, random, todo);
        }
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Whether a subscription with this nonce waits for its answer.
    #[must_use]
    pub fn asked(&self, nonce: u64) -> bool {
        self.outstanding.contains_key(&nonce)
    }

    /// Whether a Map-Notify is for us, although it may be only about our own EIDs: it is signed with our key, and belongs to a
    /// subscription.
    #[must_use]
    pub fn expects(&self, message: &MapNotify, octets: &[u8]) -> bool {
        self.find(message, octets).is_ok()
    }

    /// Whether all that was left has been confirmed.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.leaving.iter().all(|left| left.confirmed)
    }

    /// Other EID-Prefixes are ours from now on. What was subscribed to inside them is left when it would be renewed.
    pub fn set_database(&mut self, database: &[EidPrefix]) {
        self.database = database.iter().map(|eid| (*eid, ())).collect();
        self.settings.database = database.to_vec();
    }

    /// All subscriptions, by prefix.
    pub fn iter(&self) -> impl Iterator<Item = Subscribed> {
        self.iter_from(Bound::Unbounded)
    }

    /// The same, from this one on.
    pub fn iter_from(&self, from: Bound<EidPrefix>) -> impl Iterator<Item = Subscribed> {
        self.list.iter_from(from).map(|(eid, one)| Subscribed {
            eid,
            standing: one.standing,
            since: one.since,
            server: one.server,
            nonce: if is_newer(one.seen, one.sent) { one.seen } else { one.sent },
            notifies: one.notifies,
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn learned(&mut self, now: Instant, eid: EidPrefix, random: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        if self.list.get(&eid).is_some() || self.database.covering(&eid).is_some() {
            return;
        }
        if self.list.len() >= self.settings.subscriptions_max {
            return todo.push(Output::Drop(PubSubFault::Full));
        }
        self.add(now, eid, false, random);
    }

    fn add(&mut self, now: Instant, eid: EidPrefix, fixed: bool, random: &mut dyn FnMut() -> u64) {
        let before = self.forgotten.remove(&eid).unwrap_or_else(|| {
            let place = self.settings.first_nonce.wrapping_add(random() >> (64 - FIRST_BITS));
            if is_newer(self.floor, place) { self.floor } else { place }
        });
        let due = now + FIRST_AFTER;
        self.deadlines.insert((due, eid));
        let one = One {
            standing: Standing::Asking,
            since: now,
            fixed,
            sent: before,
            seen: before,
            seen_mac: 0,
            tries: Vec::new(),
            keys: Vec::new(),
            algorithm: 0,
            due,
            scope: eid,
            server: None,
            notifies: 0,
            lost_at: None,
        };
        self.list.insert(eid, one);
    }

    fn set_due(&mut self, eid: &EidPrefix, due: Instant) {
        if let Some(one) = self.list.get_mut(eid) {
            self.deadlines.remove(&(one.due, *eid));
            one.due = due;
            self.deadlines.insert((due, *eid));
        }
    }

    /// No answer is waited for any more.
    fn settle(&mut self, eid: &EidPrefix) {
        if let Some(one) = self.list.get_mut(eid) {
            for one in one.tries.drain(..) {
                self.outstanding.remove(&one.nonce);
            }
        }
    }

    /// What the Map-Server tells us of from now on, for having been asked about `eid`.
    fn set_scope(&mut self, eid: &EidPrefix, scope: EidPrefix) {
        let Some(one) = self.list.get_mut(eid) else { return };
        let before = std::mem::replace(&mut one.scope, scope);
        if let Some(asked) = self.scopes.get_mut(&before) {
            asked.remove(eid);
            if asked.is_empty() {
                self.scopes.remove(&before);
            }
        }
        if scope != *eid {
            match self.scopes.get_mut(&scope) {
                Some(asked) => drop(asked.insert(*eid)),
                None => drop(self.scopes.insert(scope, BTreeSet::from([*eid]))),
            }
        }
    }

    fn stand(&mut self, now: Instant, eid: &EidPrefix, standing: Standing, todo: &mut Vec<Output>) {
        if let Some(one) = self.list.get_mut(eid)
            && (one.standing != standing || (standing == Standing::Live && one.notifies == 1))
        {
            (one.standing, one.since) = (standing, now);
            todo.push(Output::Stands(*eid, standing));
        }
    }
}
