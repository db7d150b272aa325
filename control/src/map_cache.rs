//! The map-cache as the control plane keeps it: who said what, until when, and what must be asked again.
//!
//! ```text
//! Install ─▶ entry ── 75–90 % of its life, in use ──▶ Refresh ──▶ Install (new life)
//!              │  └── end of its life ──▶ Withdraw
//!              ├── TTL 0, Remove ──▶ Withdraw
//!              └── table full and least recently used ──▶ Withdraw
//! ```
//!
//! * A more-specific entry overrides by longest match and takes nothing out; a less-specific one that comes later lives no
//!   longer than the more-specifics it covers. Those that the same reply does not list are asked for again at once, and
//!   taken out when the next answer still does not list them.
//! * Static entries never end and give way to nothing from the network.
//! * An EID-Prefix given up on is dropped for 30 s.
//!
//! Everything that must happen at some time is in one ordered set of deadlines, one per entry: no step looks at all entries.
//!
//! Sources: RFC 9301 §5.4 (TTL, actions), §5.3 (refresh), §5.5 (overlapping prefixes); RFC 7835 §3.1 (bounds).

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Action, Eid, EidPrefix, Mapping, Ttl};

use crate::{fault::faults, prefix_map::PrefixMap};

/// Life of a record that leaves it to the receiver (RFC 9301 §5.4).
pub const LOCAL_POLICY_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an EID-Prefix that nobody answers for is dropped.
pub const GIVEN_UP_FOR: Duration = Duration::from_secs(30);
/// Most more-specifics that one Install asks for again; the others live until their own end.
pub const DOUBTS_MAX: usize = 64;

/// What the map-cache is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most entries, static ones included.
    pub capacity: usize,
}

/// What happens to the map-cache.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The records of one Map-Reply, already let in by the resolver. They share the shortest of their lives.
    Install(Vec<Mapping>),
    /// Nobody answers for it.
    GiveUp(EidPrefix),
    /// A mapping of the operator's; its TTL has no meaning here.
    Static(Mapping),
    /// The operator wants exactly this entry out.
    Remove(EidPrefix),
    /// Packets used exactly this entry since the last report.
    Used(EidPrefix),
    /// The time of [`MapCache::due`] has come.
    Wake,
}

/// What must be done. All outputs of one step become visible to workers together.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Put in or replace the entry of exactly this prefix.
    Publish(Mapping),
    /// Take out the entry of exactly this prefix.
    Withdraw(EidPrefix),
    /// Ask the mapping system again.
    Refresh(EidPrefix),
    /// Count this.
    Fault(CacheFault),
}

faults! {
    /// What went otherwise than asked.
    CacheFault {
        /// Full: the least recently used entry gave way.
        Evicted = "map-cache-evicted",
        /// Full of static entries: the mapping was not taken in.
        Full = "map-cache-full",
        /// A Map-Reply speaks of exactly the prefix of a static entry, which stays.
        StaticKept = "map-cache-static-kept",
        /// More more-specifics in doubt than are asked for again at once.
        DoubtsCapped = "map-cache-doubts-capped",
    }
}

/// Who is responsible for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The operator.
    Static,
    /// A Map-Reply.
    Reply,
    /// The resolver gave up.
    GivenUp,
}

impl Origin {
    /// Stable name, as `show map-cache` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Reply => "map-reply",
            Self::GivenUp => "given-up",
        }
    }
}

/// One entry, as `show map-cache` sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cached {
    /// What it says.
    pub mapping: Mapping,
    /// Who said it.
    pub origin: Origin,
    /// Since when there is an entry for this prefix.
    pub created: Instant,
    /// Since when it says this.
    pub updated: Instant,
    /// When it leaves; `None` for static ones.
    pub expires: Option<Instant>,
    /// Its place in the set of deadlines.
    deadline: Option<Instant>,
    /// The time to ask again has come.
    ripe: bool,
    /// Asked again in this life.
    asked: bool,
    /// Used since this life began.
    used: bool,
    /// A less-specific reply did not list it; the next one that does not takes it out.
    doubted: bool,
    /// Place in the order of use; `None` for static ones.
    age: Option<u64>,
}

/// The machine.
#[derive(Debug)]
pub struct MapCache {
    settings: Settings,
    entries: PrefixMap<Cached>,
    deadlines: BTreeSet<(Instant, EidPrefix)>,
    by_age: BTreeMap<u64, EidPrefix>,
    next_age: u64,
}

impl MapCache {
    /// An empty map-cache.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings, entries: PrefixMap::new(), deadlines: BTreeSet::new(), by_age: BTreeMap::new(), next_age: 0 }
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input, todo: &mut Vec<Output>) {
        self.wake(now, todo);
        match input {
            Input::Install(records) => self.install(now, records, todo),
            Input::GiveUp(eid) => self.give_up(now, eid, todo),
            Input::Static(mapping) => {
                self.drop_given_up(&mapping.eid, todo);
                self.put(now, mapping, Origin::Static, None, todo);
            }
            Input::Remove(eid) => self.withdraw(&eid, todo),
            Input::Used(eid) => self.used(&eid, todo),
            Input::Wake => {}
        }
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Every entry, by instance, address and length.
    pub fn iter(&self) -> impl Iterator<Item = &Cached> {
        self.entries.iter().map(|(_, cached)| cached)
    }

    /// The entry of exactly this prefix.
    #[must_use]
    pub fn get(&self, eid: &EidPrefix) -> Option<&Cached> {
        self.entries.get(eid)
    }

    /// The entry that packets to `eid` use.
    #[must_use]
    pub fn lookup(&self, eid: Eid) -> Option<&Cached> {
        self.entries.longest(eid).map(|(_, cached)| cached)
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ends what has ended and asks again for what is ripe and in use.
    fn wake(&mut self, now: Instant, todo: &mut Vec<Output>) {
        while self.due().is_some_and(|due| due <= now) {
            let Some((_, eid)) = self.deadlines.pop_first() else { return };
            let Some(cached) = self.entries.get_mut(&eid) else { continue };
            cached.deadline = None;
            if cached.expires.is_some_and(|expires| expires <= now) {
                self.withdraw(&eid, todo);
                continue;
            }
            cached.ripe = true;
            cached.deadline = cached.expires;
            self.deadlines.extend(cached.expires.map(|expires| (expires, eid)));
            refresh_if_wanted(cached, todo);
        }
    }

    fn used(&mut self, eid: &EidPrefix, todo: &mut Vec<Output>) {
        let Some(cached) = self.entries.get_mut(eid) else { return };
        cached.used = true;
        if let Some(age) = &mut cached.age {
            self.by_age.remove(age);
            *age = self.next_age;
            self.by_age.insert(self.next_age, *eid);
            self.next_age += 1;
        }
        refresh_if_wanted(cached, todo);
    }

    fn install(&mut self, now: Instant, records: Vec<Mapping>, todo: &mut Vec<Output>) {
        let lasting = |record: &&Mapping| life(record.ttl).is_some();
        let listed: BTreeSet<EidPrefix> = records.iter().map(|record| record.eid).collect();
        let covering: Vec<EidPrefix> = records.iter().filter(lasting).map(|record| record.eid).collect();
        self.doubt_beneath(&covering, &listed, todo);
        let shared = records.iter().filter_map(|record| life(record.ttl)).min();
        for record in records {
            match shared.filter(|_| lasting(&&record)) {
                Some(shared) => {
                    self.drop_given_up(&record.eid, todo);
                    let beneath = self.unlisted(&record.eid, &listed).filter_map(|(_, cached)| cached.expires).min();
                    let expires = beneath.map_or(now + shared, |beneath| beneath.min(now + shared));
                    self.put(now, record, Origin::Reply, Some(expires), todo);
                }
                None if self.origin(&record.eid) == Some(Origin::Static) => {
                    todo.push(Output::Fault(CacheFault::StaticKept));
                }
                None => self.withdraw(&record.eid, todo),
            }
        }
    }

    /// Asks again for the learned more-specifics that a reply does not list, or takes them out if that was done before.
    fn doubt_beneath(&mut self, covering: &[EidPrefix], listed: &BTreeSet<EidPrefix>, todo: &mut Vec<Output>) {
        let beneath = covering.iter().flat_map(|eid| self.unlisted(eid, listed)).map(|(inner, _)| *inner);
        let beneath: BTreeSet<EidPrefix> = beneath.collect();
        let mut doubts = 0;
        for inner in beneath {
            let Some(cached) = self.entries.get_mut(&inner) else { continue };
            if cached.doubted {
                self.withdraw(&inner, todo);
            } else if doubts < DOUBTS_MAX {
                doubts += 1;
                cached.doubted = true;
                todo.push(Output::Refresh(inner));
            } else {
                todo.push(Output::Fault(CacheFault::DoubtsCapped));
                return;
            }
        }
    }

    /// The learned entries inside `eid` that a reply does not list.
    fn unlisted(&self, eid: &EidPrefix, listed: &BTreeSet<EidPrefix>) -> impl Iterator<Item = (&EidPrefix, &Cached)> {
        let entries = self.entries.within(eid);
        entries.filter(|(inner, cached)| cached.origin == Origin::Reply && !listed.contains(inner))
    }

    /// Anything newer and wider than a short drop ends it.
    fn drop_given_up(&mut self, eid: &EidPrefix, todo: &mut Vec<Output>) {
        let within = self.entries.within(eid).filter(|(_, cached)| cached.origin == Origin::GivenUp);
        let given_up: Vec<EidPrefix> = within.map(|(inner, _)| *inner).filter(|inner| inner != eid).collect();
        for inner in given_up {
            self.withdraw(&inner, todo);
        }
    }

    /// A short drop, unless by now something else says what to do; an entry with Send-Map-Request says nothing but to ask.
    fn give_up(&mut self, now: Instant, eid: EidPrefix, todo: &mut Vec<Output>) {
        let known = self.entries.covering(&eid).map(|(_, cached)| &cached.mapping);
        if known.is_none_or(|known| known.is_negative() && known.action == Action::SendMapRequest) {
            let mapping = Mapping::negative(eid, Ttl::Minutes(1), Action::Drop);
            self.put(now, mapping, Origin::GivenUp, Some(now + GIVEN_UP_FOR), todo);
        }
    }

    /// Begins a new life for the entry of `mapping`.
    fn put(
        &mut self,
        now: Instant,
        mapping: Mapping,
        origin: Origin,
        expires: Option<Instant>,
        todo: &mut Vec<Output>,
    ) {
        let eid = mapping.eid;
        if origin != Origin::Static && self.origin(&eid) == Some(Origin::Static) {
            todo.push(Output::Fault(CacheFault::StaticKept));
            return;
        }
        let before = self.take(&eid);
        if before.is_none() && !self.make_room(todo) {
            todo.push(Output::Fault(CacheFault::Full));
            return;
        }
        let refresh_at = expires.filter(|_| origin == Origin::Reply).map(|expires| refresh_at(&eid, now, expires));
        let deadline = refresh_at.or(expires);
        self.deadlines.extend(deadline.map(|deadline| (deadline, eid)));
        let age = (origin != Origin::Static).then_some(self.next_age);
        if let Some(age) = age {
            self.by_age.insert(age, eid);
            self.next_age += 1;
        }
        if before.as_ref().is_none_or(|before| before.mapping != mapping) {
            todo.push(Output::Publish(mapping.clone()));
        }
        let created = before.map_or(now, |before| before.created);
        let cached = Cached {
            mapping,
            origin,
            created,
            updated: now,
            expires,
            deadline,
            ripe: false,
            asked: false,
            used: false,
            doubted: false,
            age,
        };
        self.entries.insert(eid, cached);
    }

    /// Whether one more entry fits, if need be after the least recently used one gave way.
    fn make_room(&mut self, todo: &mut Vec<Output>) -> bool {
        while self.entries.len() >= self.settings.capacity {
            let Some((_, oldest)) = self.by_age.first_key_value().map(|(age, eid)| (*age, *eid)) else { return false };
            todo.push(Output::Fault(CacheFault::Evicted));
            self.withdraw(&oldest, todo);
        }
        true
    }

    fn withdraw(&mut self, eid: &EidPrefix, todo: &mut Vec<Output>) {
        if self.take(eid).is_some() {
            todo.push(Output::Withdraw(*eid));
        }
    }

    /// Takes the entry out of every table.
    fn take(&mut self, eid: &EidPrefix) -> Option<Cached> {
        let cached = self.entries.remove(eid)?;
        if let Some(deadline) = cached.deadline {
            self.deadlines.remove(&(deadline, *eid));
        }
        if let Some(age) = cached.age {
            self.by_age.remove(&age);
        }
        Some(cached)
    }

    fn origin(&self, eid: &EidPrefix) -> Option<Origin> {
        self.entries.get(eid).map(|cached| cached.origin)
    }
}

fn refresh_if_wanted(cached: &mut Cached, todo: &mut Vec<Output>) {
    if cached.ripe && cached.used && !cached.asked {
        cached.asked = true;
        todo.push(Output::Refresh(cached.mapping.eid));
    }
}

/// How long a record may be kept; `None` for not at all.
fn life(ttl: Ttl) -> Option<Duration> {
    match ttl {
        Ttl::Remove | Ttl::Minutes(0) => None,
        Ttl::Minutes(minutes) => Some(Duration::from_secs(u64::from(minutes) * 60)),
        Ttl::ReceiverDecides => Some(LOCAL_POLICY_TTL),
    }
}

/// Between 75 and 90 % of the life that begins `now`, by a hash of the prefix: prefixes learned together are not asked for
/// again together, and a replay does the same.
fn refresh_at(eid: &EidPrefix, now: Instant, expires: Instant) -> Instant {
    let mut hash = Fnv1a::default();
    hash.add(&eid.instance.get().to_be_bytes());
    match eid.prefix.address() {
        IpAddr::V4(v4) => hash.add(&v4.octets()),
        IpAddr::V6(v6) => hash.add(&v6.octets()),
    }
    hash.add(&[eid.prefix.length()]);
    let spread = f64::from(hash.high()) / f64::from(u32::MAX);
    now + expires.saturating_duration_since(now).mul_f64(0.75 + 0.15 * spread)
}

/// FNV-1a, 64 bits: the same on every machine and in every run, unlike the standard library's hasher.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn add(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = (self.0 ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// 32 bits, stirred once more: neighbouring prefixes differ in one octet near the end.
    const fn high(&self) -> u32 {
        ((self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }
}
