//! Subscriptions: which xTRs hear of changes to which EID-Prefixes, and what they have not acknowledged yet.
//!
//! ```text
//!                    asked ─▶ Map-Notify with its nonce ──▶ acknowledged ─▶ live ── something changes ─▶ Map-Notify, nonce + 1
//!                              │ nobody acknowledges: twice more    │ nobody acknowledges: again after 3 × 3, 6, 12, 24 s,
//!                              └─▶ forgotten                        │ each time to the next ITR-RLOC
//!                                                                   └─▶ lost: one Map-Notify with action 5, once
//! asked without an ITR-RLOC, acknowledged ─▶ ended ◀── nothing registered in 15 minutes
//! ```
//!
//! A change is noted for those who hear of it in slices ([`notes`]), so that a turn costs as much whatever the number of subscribers.
//! Of one subscription one Map-Notify is under way at a time: a subscriber takes none that is older than another, so none may
//! overtake. What changes meanwhile waits as a set of prefixes, and goes out as it is then, as many records as fit.
//!
//! A Map-Request proves nothing of who sent it, the Map-Notify-Ack does. So what it wants is kept beside what is there
//! ([`asks`]), and takes its place when the Map-Notify that answers it is acknowledged: nobody else can overwrite or end a
//! subscription, or use up its nonces. Of one that has ended, the nonce is kept.
//!
//! Sources: RFC 9437 §5 (subscribing), §6 (publishing), §7.2 (limits); RFC 9301 §5.7 (retransmission).

mod asks;
mod association;
mod notes;
mod publish;
pub(super) mod saved;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    ops::Bound,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Eid, EidPrefix, Mapping};

#[cfg(test)]
pub(super) use self::notes::SLICE;
use self::{asks::Asks, association::Used, notes::Notes};
use super::{
    Output, SiteFault,
    registry::{
        Registry,
        news::{LAST, SPACINGS},
        notify::CONTROL_PORT,
    },
};
use crate::{
    lisp_sec::gate::Association,
    prefix_map::PrefixMap,
    rate::{Bucket, Rate},
    slab::Slab,
    wire::{Key, XtrIdentity},
};

/// ITR-RLOCs kept of a subscription: enough for one to fail.
const RLOCS_MAX: usize = 8;
/// Prefixes of one subscription that wait to be published; an xTR that cannot be told of more begins anew.
pub(super) const PENDING_MAX: usize = 256;

/// An xTR that may subscribe, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its xTR-ID; `None`: whoever is not named elsewhere.
    pub xtr_id: Option<[u8; 16]>,
    /// Keys shared with it: the first signs, all are accepted. Without any each subscription has one of its own, out of the
    /// One-Time Key that it was asked for with (RFC 9437 §7.1).
    pub keys: Vec<Key>,
    /// What it may subscribe to, and parts of it; empty: everything.
    pub eids: Vec<EidPrefix>,
}

/// What the publishing side is told at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishing {
    /// Those who may subscribe.
    pub peers: Vec<Peer>,
    /// Most subscriptions of one xTR.
    pub each_max: usize,
    /// Most subscriptions altogether.
    pub all_max: usize,
    /// Map-Notifies that answer nothing, all subscribers together (RFC 9437 §5).
    pub pace: Rate,
    /// How long a subscription to what is not registered lasts, and the TTL of what it is answered (RFC 9437 §5).
    pub temporary_minutes: u32,
}

impl Publishing {
    /// The defaults: 4096 subscriptions of each, 65,536 of all, 1000 Map-Notifies a second, 15 minutes.
    #[must_use]
    pub const fn new(peers: Vec<Peer>) -> Self {
        let pace = Rate { burst: 100, every: Duration::from_millis(1) };
        Self { peers, each_max: 4096, all_max: 65_536, pace, temporary_minutes: 15 }
    }

    fn temporary(&self) -> Duration {
        Duration::from_secs(u64::from(self.temporary_minutes) * 60)
    }
}

/// What a subscription is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    xtr: XtrIdentity,
    eid: EidPrefix,
    /// The LISP-SEC key that it was asked for under, where no key is shared.
    client: Option<u128>,
}

/// A Map-Notify that is not acknowledged yet.
#[derive(Debug)]
struct Sent {
    nonce: u64,
    octets: Vec<u8>,
    again_at: Instant,
    times: usize,
}

/// How a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nobody has proven yet to have asked for it, or for its end; its place by age.
    Asked { place: u64, ends: bool },
    /// Its xTR has acknowledged it.
    Live,
    /// It is over; its place by age.
    Ended { place: u64 },
}

/// One xTR's interest in one prefix.
#[derive(Debug)]
struct Subscription {
    name: Name,
    /// What it hears of: the prefix asked for, or the wider one that the answer spoke of.
    scope: EidPrefix,
    /// Its place among the peers.
    peer: usize,
    /// What was made of its One-Time Key, where no key is shared.
    key: Option<Key>,
    rlocs: Vec<IpAddr>,
    /// Which of them is next.
    turn: usize,
    /// The last one, of either side.
    nonce: u64,
    standing: Standing,
    since: Instant,
    /// When it ends because nothing is registered.
    until: Option<Instant>,
    pending: BTreeSet<EidPrefix>,
    queued: bool,
    sent: Option<Sent>,
}

/// A Map-Request with the N bit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) xtr: XtrIdentity,
    pub(super) eid: EidPrefix,
    pub(super) nonce: u64,
    /// It is to end.
    pub(super) ends: bool,
    /// Where Map-Notifies shall go: one or more, unless it is to end.
    pub(super) rlocs: &'a [IpAddr],
    /// Where the Map-Request came from.
    pub(super) source: IpAddr,
    /// Of a protected one: what that gives.
    pub(super) own: Option<&'a Association>,
}

/// What the Map-Notify says that confirms a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) records: Vec<Mapping>,
    /// What did not fit.
    pub(super) rest: Vec<EidPrefix>,
    /// Nothing is registered.
    pub(super) temporary: bool,
}

/// What a Map-Notify-Ack was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acked {
    Nothing,
    Forged,
    Taken,
}

/// The machine: see the module's text.
#[derive(Debug)]
pub(super) struct Subscriptions {
    settings: Publishing,
    /// Our RLOCs: what Map-Notifies are sent from.
    rlocs: Vec<IpAddr>,
    table: Slab<Subscription>,
    /// Those that live or have ended.
    by_name: BTreeMap<Name, u32>,
    asks: Asks,
    by_scope: PrefixMap<BTreeSet<u32>>,
    /// How many of each xTR live, by the LISP-SEC key that they were asked for under.
    live: BTreeMap<(XtrIdentity, Option<u128>), usize>,
    /// Those that have ended, the oldest first: as many as may live.
    ended: BTreeSet<(u64, u32)>,
    ends: u64,
    by_nonce: BTreeSet<(u64, u32)>,
    retries: BTreeSet<(Instant, u32)>,
    temporary: BTreeSet<(Instant, u32)>,
    queue: VecDeque<u32>,
    /// Whether what is sent again goes first, when the next token comes.
    again_first: bool,
    bucket: Bucket,
    used: Used,
    notes: Notes,
    /// Changes are left to note, since then.
    goes_on: Option<Instant>,
    /// When what was there before a restart is published anew.
    resync: Option<Instant>,
    /// What was registered before a restart, and was not after it.
    missing: Vec<EidPrefix>,
    /// What has changed, as [`saved`] writes it.
    pub(super) journal: Vec<u8>,
}

impl Subscriptions {
    pub(super) const fn new(settings: Publishing, rlocs: Vec<IpAddr>) -> Self {
        Self {
            settings,
            rlocs,
            table: Slab::new(),
            by_name: BTreeMap::new(),
            asks: Asks::new(),
            by_scope: PrefixMap::new(),
            live: BTreeMap::new(),
            ended: BTreeSet::new(),
            ends: 0,
            by_nonce: BTreeSet::new(),
            retries: BTreeSet::new(),
            temporary: BTreeSet::new(),
            queue: VecDeque::new(),
            again_first: false,
            bucket: Bucket::new(),
            used: Used::new(),
            notes: Notes::new(),
            goes_on: None,
            resync: None,
            missing: Vec::new(),
            journal: Vec::new(),
        }
    }

    pub(super) const fn settings(&self) -> &Publishing {
        &self.settings
    }

    /// How many live.
    pub(super) fn len(&self) -> usize {
        self.by_name.len() - self.ended.len()
    }

    /// When [`run`](Self::run) is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let token = self.bucket.next(self.settings.pace);
        let retry = self.retries.first().map(|(at, _)| token.map_or(*at, |token| token.max(*at)));
        let queued = if self.queue.is_empty() { None } else { token };
        let temporary = self.temporary.first().map(|(at, _)| *at);
        [retry, queued, temporary, self.resync, self.goes_on, self.asks.due()].into_iter().flatten().min()
    }

    fn peer(&self, xtr: XtrIdentity) -> Option<usize> {
        let named = self.settings.peers.iter().position(|peer| peer.xtr_id == Some(xtr.xtr_id));
        named.or_else(|| self.settings.peers.iter().position(|peer| peer.xtr_id.is_none()))
    }

    /// Whether a Map-Request with the N bit may be taken for a subscription: what is wrong is a fault (RFC 9437 §5).
    pub(super) fn permit(&self, ask: &Ask<'_>) -> Result<(), SiteFault> {
        let peer = self.peer(ask.xtr).ok_or(SiteFault::SubscriptionUnknown)?;
        let name = self.name(peer, ask);
        let known = self.by_name.get(&name).map(|number| &self.table[*number]);
        if known.is_some_and(|known| !is_newer(ask.nonce, known.nonce)) || self.has_asked(&name, ask.nonce) {
            return Err(SiteFault::SubscriptionReplayed);
        }
        self.is_signed(peer, ask)?;
        if !self.allows(peer, &ask.eid) {
            return Err(SiteFault::SubscriptionDenied);
        }
        let lives = known.is_some_and(|known| known.standing == Standing::Live);
        if ask.ends || lives { Ok(()) } else { self.room(&name) }
    }

    /// Whether one more may live.
    fn room(&self, name: &Name) -> Result<(), SiteFault> {
        if self.live.get(&(name.xtr, name.client)).copied().unwrap_or(0) >= self.settings.each_max {
            return Err(SiteFault::SubscriptionsOfXtr);
        }
        if self.len() >= self.settings.all_max { Err(SiteFault::SubscriptionsFull) } else { Ok(()) }
    }

    /// Whether the xTR may subscribe to it at all.
    fn allows(&self, peer: usize, eid: &EidPrefix) -> bool {
        let allowed = &self.settings.peers[peer].eids;
        allowed.is_empty() || allowed.iter().any(|wide| wide.covers(eid))
    }

    /// Whether the xTR may subscribe to it, as it is configured.
    pub(super) fn may_have(&self, xtr: XtrIdentity, eid: &EidPrefix) -> bool {
        self.peer(xtr).is_some_and(|peer| self.allows(peer, eid))
    }

    /// The subscription that lives and that this Map-Request would renew, with where it is told.
    pub(super) fn renews(&self, ask: &Ask<'_>) -> Option<(u32, &[IpAddr])> {
        let number = *self.by_name.get(&self.name(self.peer(ask.xtr)?, ask))?;
        let one = self.table.get(number).filter(|one| one.standing == Standing::Live)?;
        Some((number, &one.rlocs))
    }

    fn watch(&mut self, scope: EidPrefix, number: u32) {
        match self.by_scope.get_mut(&scope) {
            Some(numbers) => drop(numbers.insert(number)),
            None => drop(self.by_scope.insert(scope, BTreeSet::from([number]))),
        }
    }

    fn unwatch(&mut self, number: u32) {
        let scope = self.table[number].scope;
        if let Some(numbers) = self.by_scope.get_mut(&scope) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_scope.remove(&scope);
            }
        }
    }

    fn set_until(&mut self, number: u32, until: Option<Instant>) {
        if let Some(before) = std::mem::replace(&mut self.table[number].until, until) {
            self.temporary.remove(&(before, number));
        }
        self.temporary.extend(until.map(|until| (until, number)));
    }

    fn count_down(&mut self, name: &Name) {
        let whose = (name.xtr, name.client);
        if let Some(count) = self.live.get_mut(&whose) {
            *count -= 1;
            if *count == 0 {
                self.live.remove(&whose);
            }
        }
    }

    /// Nothing is published to it any more; its nonce is kept, as long as there is room.
    fn end(&mut self, number: u32, todo: &mut Vec<Output>) {
        self.set_until(number, None);
        self.drop_sent(number);
        if self.table[number].standing != Standing::Live {
            return;
        }
        self.unwatch(number);
        self.ends += 1;
        let one = &mut self.table[number];
        one.pending.clear();
        one.standing = Standing::Ended { place: self.ends };
        let name = one.name;
        todo.push(Output::Unsubscribed { xtr: name.xtr, eid: name.eid });
        self.count_down(&name);
        self.ended.insert((self.ends, number));
        if self.ended.len() > self.settings.all_max
            && let Some((_, oldest)) = self.ended.first().copied()
        {
            self.remove(oldest);
        }
    }

    /// Forgets one, its nonce too. Where it is queued, nobody is found at its turn.
    fn remove(&mut self, number: u32) {
        self.set_until(number, None);
        self.drop_sent(number);
        let (name, standing) = (self.table[number].name, self.table[number].standing);
        match standing {
            Standing::Ended { place } => drop(self.ended.remove(&(place, number))),
            Standing::Live => {
                self.unwatch(number);
                self.count_down(&name);
            }
            Standing::Asked { place, .. } => {
                self.unwatch(number);
                self.asks.remove(&name, place);
            }
        }
        if self.by_name.get(&name) == Some(&number) {
            self.by_name.remove(&name);
        }
        self.table.remove(number);
    }

    fn drop_sent(&mut self, number: u32) {
        if let Some(sent) = self.table[number].sent.take() {
            self.by_nonce.remove(&(sent.nonce, number));
            self.retries.remove(&(sent.again_at, number));
            self.asks.retries.remove(&(sent.again_at, number));
        }
    }

    fn note(&mut self, number: u32) {
        saved::put(&self.table[number], &mut self.journal);
    }

    /// All that live, from this one on; those of one xTR and prefix count as one.
    pub(super) fn iter_from(&self, from: Bound<(XtrIdentity, EidPrefix)>) -> impl Iterator<Item = Subscriber<'_>> {
        let from = match from {
            Bound::Included((xtr, eid)) => Bound::Included(Name { xtr, eid, client: None }),
            Bound::Excluded((xtr, eid)) => Bound::Excluded(Name { xtr, eid, client: Some(u128::MAX) }),
            Bound::Unbounded => Bound::Unbounded,
        };
        let all = self.by_name.range((from, Bound::Unbounded)).map(|(_, number)| &self.table[*number]);
        all.filter(|one| one.standing == Standing::Live).map(Subscription::show)
    }

    /// Those that nobody has proven yet to want, after this place.
    pub(super) fn unconfirmed(&self, after: u64) -> impl Iterator<Item = (u64, Subscriber<'_>)> {
        let all = self.asks.after(after).map(|(place, number)| (place, &self.table[number]));
        let starts = |one: &Subscription| matches!(one.standing, Standing::Asked { ends: false, .. });
        all.filter(move |(_, one)| starts(one)).map(|(place, one)| (place, one.show()))
    }
}

impl Subscription {
    fn show(&self) -> Subscriber<'_> {
        Subscriber {
            xtr: self.name.xtr,
            eid: self.name.eid,
            rlocs: &self.rlocs,
            nonce: self.nonce,
            since: self.since,
            until: self.until,
            confirmed: self.standing == Standing::Live,
            unacknowledged: self.sent.is_some(),
            pending: self.pending.len(),
        }
    }
}

/// A subscription, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber<'a> {
    /// The xTR.
    pub xtr: XtrIdentity,
    /// What it asked for.
    pub eid: EidPrefix,
    /// Where it is told.
    pub rlocs: &'a [IpAddr],
    /// The last nonce.
    pub nonce: u64,
    /// Since when.
    pub since: Instant,
    /// When it ends unless something is registered.
    pub until: Option<Instant>,
    /// It has acknowledged a Map-Notify.
    pub confirmed: bool,
    /// A Map-Notify is not acknowledged yet.
    pub unacknowledged: bool,
    /// Prefixes that it is to be told of after that.
    pub pending: usize,
}

/// Whether a nonce is greater than another, by the arithmetic of serial numbers (RFC 9437 §6, RFC 1982).
pub(crate) const fn is_newer(nonce: u64, than: u64) -> bool {
    let ahead = nonce.wrapping_sub(than);
    ahead != 0 && ahead < 1 << 63
}

/// The first EID of a prefix.
pub(super) const fn first(eid: &EidPrefix) -> Eid {
    Eid { instance: eid.instance, address: eid.prefix.address() }
}
