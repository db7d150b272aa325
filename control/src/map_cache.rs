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
//! * Static entries never end and give way to nothing from the network; no more do those that a client of the mapping API put
//!   in, which end when the client said.
//! * An EID-Prefix given up on is dropped for 30 s.
//! * What is used is learned from the workers' counters, a bounded slice of the entries with each look; no packet writes a
//!   mark. Who must give way is looked at once more before it does.
//!
//! It is made for millions of entries: 56 octets each (`store`), 16 for the deadline (`wheel`), 8 for the order of use
//! (`order`), and locator-sets that mappings share (`sets`). No step looks at all entries, nor moves a table to grow it.
//!
//! Sources: RFC 9301 §5.4 (TTL, actions), §5.3 (refresh), §5.5 (overlapping prefixes); RFC 7835 §3.1 (bounds).

#![forbid(unsafe_code)]

mod batch;
mod lookup;
mod order;
mod origin;
mod refresh;
mod reply;
pub(crate) mod sets;
mod store;
#[cfg(test)]
mod tests;
pub(crate) mod wheel;

use std::time::{Duration, Instant};

use altitude_dataplane::mapping::{Action, EidPrefix, Mapping, Ttl};

use crate::{fault::faults, prefix_map::PrefixMap};

pub use origin::{Notice, Origin};
pub use sets::SetNumber;
pub use store::{Cached, Memory, TICK};

use order::{Order, Segment};
use origin::Heard;
use refresh::refresh_at;
use store::{Clock, Entry, Life, NEVER, Store, Warmth};
use wheel::Wheel;

/// Life of a record that leaves it to the receiver (RFC 9301 §5.4).
pub const LOCAL_POLICY_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an EID-Prefix that nobody answers for is dropped.
pub const GIVEN_UP_FOR: Duration = Duration::from_secs(30);
/// Most more-specifics that one Install asks for again; the others live until their own end.
pub const DOUBTS_MAX: usize = 64;
/// Most entries beneath one record that an Install looks at; those beyond neither shorten its life nor come in doubt.
pub const BENEATH_MAX: usize = 1024;
/// Most entries whose use one [`Input::Look`] looks at.
pub const LOOKS_MAX: u32 = 2048;
/// How long it takes to look at all entries once, up to 200,000 of them; beyond, looks come no faster.
pub const LOOK_ROUND: Duration = Duration::from_secs(10);
/// Shortest time between two looks: a round over a million entries takes 50 s.
pub const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);
/// Most entries that are looked at once more before one gives way; should all be in use, the next one gives way unseen.
const LAST_LOOKS_MAX: usize = 64;
/// Most entries that one step ends or asks again for; the next step goes on, and [`MapCache::due`] wants it at once.
const ENDS_MAX: usize = 256;

/// What the map-cache is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most entries, static ones included.
    pub capacity: usize,
}

/// What happens to the map-cache.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The records of one Map-Reply, already let in by the resolver. They share the shortest of their lives; of several for
    /// one prefix the last counts.
    Install(Vec<Mapping>),
    /// The records of a Map-Notify of a Map-Server that we subscribed at (RFC 9437 §5, §6), in the same way.
    Published(Vec<Mapping>, Notice),
    /// Nobody answers for it.
    GiveUp(EidPrefix),
    /// A mapping of the operator's; its TTL has no meaning here.
    Static(Mapping),
    /// A mapping of a client of the mapping API, whatever is there: for so long, or until it is taken out.
    Put(Mapping, Option<Duration>),
    /// A mapping that NAT traversal knows of, until it is taken out. What the operator or a client put in stays.
    Nat(Mapping),
    /// NAT traversal wants its entry of exactly this prefix out.
    NatGone(EidPrefix),
    /// Mappings of a client of the mapping API as in `Put`, and prefixes that leave: all, or nothing if there is no
    /// [room](MapCache::room) for them.
    Batch(Vec<(Mapping, Option<Duration>)>, Vec<EidPrefix>),
    /// The operator wants exactly this entry out.
    Remove(EidPrefix),
    /// Look at the use of the next entries, [`MapCache::look_every`] after the last time.
    Look,
    /// The time of [`MapCache::due`] has come.
    Wake,
}

/// What must be done, in this order: more-specifics come before and leave after less-specifics (RFC 9301 §5.5), and what
/// gives way leaves first.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Put in or replace the entry of exactly this prefix; its locators, if it has any, are this set.
    Publish(Mapping, Option<SetNumber>),
    /// Take out the entry of exactly this prefix.
    Withdraw(EidPrefix),
    /// No entry has this set any more; its number may be given out again.
    Release(SetNumber),
    /// Ask the mapping system again.
    Refresh(EidPrefix),
    /// A look found that packets use this entry and its locators.
    Used(EidPrefix),
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
        /// A Map-Reply speaks of exactly the prefix of a static entry, of a client's or of one behind a NAT, which stays.
        StaticKept = "map-cache-static-kept",
        /// More more-specifics in doubt than are asked for again at once.
        DoubtsCapped = "map-cache-doubts-capped",
        /// More entries beneath a record than are looked at.
        BeneathCapped = "map-cache-beneath-capped",
    }
}

/// How many packets used exactly this entry so far: the sum of the workers' counters, which start at zero with an entry.
pub type Meter<'a> = &'a dyn Fn(&EidPrefix) -> u64;

/// The machine.
#[derive(Debug)]
pub struct MapCache {
    settings: Settings,
    clock: Clock,
    store: Store,
    deadlines: Wheel,
    order: Order,
    /// Entries the resolver gave up on: few, and looked for with every Install.
    given_up: PrefixMap<()>,
    /// The number of the entry to be looked at next.
    cursor: u32,
}

impl MapCache {
    /// An empty map-cache, whose time begins now.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            clock: Clock(now),
            store: Store::new(),
            deadlines: Wheel::new(),
            order: Order::new(),
            given_up: PrefixMap::new(),
            cursor: 0,
        }
    }

    /// Takes in one input and appends what must be done to `todo`. Returns the length of `todo` before the input was looked
    /// at: what was withdrawn up to there left because its time was over.
    pub fn step(&mut self, now: Instant, input: Input, meter: Meter<'_>, todo: &mut Vec<Output>) -> usize {
        self.wake(now, meter, todo);
        let ended = todo.len();
        match input {
            Input::Install(records) => self.install(now, records, Heard::Reply, meter, todo),
            Input::Published(records, notice) => self.install(now, records, Heard::Notify(notice), meter, todo),
            Input::GiveUp(eid) => self.give_up(now, eid, meter, todo),
            Input::Static(mapping) => {
                self.drop_given_up(&mapping.eid, todo);
                self.put(now, mapping, Origin::Static, NEVER, meter, todo);
            }
            Input::Put(mapping, life) => {
                self.drop_given_up(&mapping.eid, todo);
                let expires = life.map_or(NEVER, |life| self.clock.tick_after(now + life));
                self.put(now, mapping, Origin::Api, expires, meter, todo);
            }
            Input::Nat(mapping) => {
                self.drop_given_up(&mapping.eid, todo);
                self.put(now, mapping, Origin::Nat, NEVER, meter, todo);
            }
            Input::NatGone(eid) if self.origin(&eid) == Some(Origin::Nat) => self.withdraw_exact(&eid, todo),
            Input::NatGone(_) => {}
            Input::Batch(puts, removes) => self.batch(now, puts, &removes, meter, todo),
            Input::Remove(eid) => self.withdraw_exact(&eid, todo),
            Input::Look => self.look_on(meter, todo),
            Input::Wake => {}
        }
        ended
    }

    /// When the next [`Input::Wake`] is due: never later than a deadline, sometimes earlier, to keep the deadlines in order.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.due().map(|tick| self.clock.instant(tick))
    }

    /// How long after one [`Input::Look`] the next is wanted.
    #[must_use]
    pub fn look_every(&self) -> Duration {
        let looks = self.store.entries.places().div_ceil(LOOKS_MAX).max(1);
        (LOOK_ROUND / looks).max(LOOK_EVERY_MIN)
    }

    /// How long it takes to look at all entries once.
    #[must_use]
    pub fn look_round(&self) -> Duration {
        self.look_every() * self.store.entries.places().div_ceil(LOOKS_MAX).max(1)
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.index.is_empty()
    }

    /// How many different locator-sets they have.
    #[must_use]
    pub fn sets(&self) -> usize {
        self.store.sets.len()
    }

    /// What it occupies at most; B-trees are counted by their worst filling.
    #[must_use]
    pub fn octets(&self) -> Memory {
        Memory {
            entries: self.store.entries.octets(),
            index: self.store.index.octets() + self.given_up.octets(),
            deadlines: self.deadlines.octets(),
            order: self.order.octets(),
            sets: self.store.sets.octets(),
        }
    }

    /// Ends what has ended and asks again for what is ripe and in use.
    fn wake(&mut self, now: Instant, meter: Meter<'_>, todo: &mut Vec<Output>) {
        let tick = self.clock.tick(now);
        let mut ended = Vec::new();
        while ended.len() < ENDS_MAX
            && let Some((deadline, number)) = self.deadlines.pop(tick)
        {
            ended.push((deadline, self.store.entries[number].eid, number));
        }
        ended.sort_unstable();
        for (_, _, number) in ended {
            let entry = &mut self.store.entries[number];
            if entry.expires <= tick {
                self.withdraw(number, todo);
                continue;
            }
            self.deadlines.arm(number, entry.expires);
            if entry.life == Life::Used {
                entry.life = Life::Asked;
                todo.push(Output::Refresh(entry.eid));
            } else {
                entry.life = Life::Ripe;
                self.look(number, meter, todo);
            }
        }
    }

    /// Looks at the use of the next entries in the order of their numbers.
    fn look_on(&mut self, meter: Meter<'_>, todo: &mut Vec<Output>) {
        let places = self.store.entries.places();
        for _ in 0..LOOKS_MAX.min(places) {
            self.cursor = if self.cursor < places { self.cursor } else { 0 };
            if self.store.entries.get(self.cursor).is_some() {
                self.look(self.cursor, meter, todo);
            }
            self.cursor += 1;
        }
        for _ in 0..LOOKS_MAX {
            let oldest = self.order.oldest(Segment::Hot);
            let Some(oldest) = oldest.filter(|oldest| self.store.entries[*oldest].warmth == Warmth::Cooling) else {
                break;
            };
            self.cool(oldest);
        }
    }

    /// Looks whether packets used the entry since the last look; if so it moves to the front.
    fn look(&mut self, number: u32, meter: Meter<'_>, todo: &mut Vec<Output>) -> bool {
        let entry = &mut self.store.entries[number];
        let packets = meter(&entry.eid) as u32;
        let gained = packets.wrapping_sub(std::mem::replace(&mut entry.packets, packets));
        if gained == 0 {
            if entry.warmth == Warmth::Hot {
                entry.warmth = Warmth::Cooling;
            }
            return false;
        }
        let warmth = match entry.warmth {
            Warmth::New if gained == 1 => {
                entry.warmth = Warmth::Cold;
                return false;
            }
            Warmth::New | Warmth::Cold => Warmth::Warm,
            Warmth::Warm | Warmth::Hot | Warmth::Cooling => Warmth::Hot,
        };
        if entry.set.is_some() {
            todo.push(Output::Used(entry.eid));
        }
        match entry.life {
            Life::Idle => entry.life = Life::Used,
            Life::Ripe => {
                entry.life = Life::Asked;
                todo.push(Output::Refresh(entry.eid));
            }
            Life::Used | Life::Asked => {}
        }
        self.renew(number, warmth);
        true
    }

    /// Puts an entry in front of those as warm as it is from now on. Those that never end are in no order.
    fn renew(&mut self, number: u32, warmth: Warmth) {
        let entry = &mut self.store.entries[number];
        let before = std::mem::replace(&mut entry.warmth, warmth);
        self.order.remove(number, before.segment());
        if entry.expires == NEVER {
            return;
        }
        self.order.push(number, warmth.segment());
        // A part of the table stays for new entries to show whether they are used.
        let hot_max = self.settings.capacity.saturating_sub((self.settings.capacity / 8).max(1));
        if self.order.count(Segment::Hot) > hot_max
            && let Some(oldest) = self.order.oldest(Segment::Hot)
        {
            self.cool(oldest);
        }
    }

    /// Moves an entry from the hot list to the front of the cold one.
    fn cool(&mut self, number: u32) {
        self.order.remove(number, Segment::Hot);
        self.order.push(number, Segment::Cold);
        self.store.entries[number].warmth = Warmth::Warm;
    }

    /// Anything newer and wider than a short drop ends it.
    fn drop_given_up(&mut self, eid: &EidPrefix, todo: &mut Vec<Output>) {
        let within = self.given_up.within(eid).map(|(inner, ())| inner);
        let given_up: Vec<EidPrefix> = within.filter(|inner| inner != eid).collect();
        for inner in given_up {
            self.withdraw_exact(&inner, todo);
        }
    }

    /// A short drop, unless by now something else says what to do; an entry with Send-Map-Request says nothing but to ask.
    fn give_up(&mut self, now: Instant, eid: EidPrefix, meter: Meter<'_>, todo: &mut Vec<Output>) {
        let known = self.store.covering(&eid);
        if known.is_none_or(|known| known.set.is_none() && known.action == Action::SendMapRequest) {
            let mapping = Mapping::negative(eid, Ttl::Minutes(1), Action::Drop);
            let expires = self.clock.tick_after(now + GIVEN_UP_FOR);
            self.put(now, mapping, Origin::GivenUp, expires, meter, todo);
        }
    }

    /// Begins a new life for the entry of `mapping`.
    fn put(
        &mut self,
        now: Instant,
        mapping: Mapping,
        origin: Origin,
        expires: u64,
        meter: Meter<'_>,
        todo: &mut Vec<Output>,
    ) {
        let eid = mapping.eid;
        let learned = matches!(origin, Origin::Reply | Origin::PubSub | Origin::GivenUp);
        let kept = match self.origin(&eid) {
            Some(Origin::Static | Origin::Api) => learned || origin == Origin::Nat,
            Some(Origin::Nat) => learned,
            _ => false,
        };
        if kept {
            todo.push(Output::Fault(CacheFault::StaticKept));
            return;
        }
        let known = self.store.number(&eid);
        if known.is_none() && !self.make_room(1, meter, todo) {
            todo.push(Output::Fault(CacheFault::Full));
            return;
        }
        let tick = self.clock.tick(now);
        let set = (!mapping.is_negative()).then(|| self.store.sets.share(eid.instance, &mapping.locators));
        let mut entry = Entry {
            eid,
            set,
            expires,
            created: u32::try_from(tick).unwrap_or(u32::MAX),
            ttl: mapping.ttl.to_wire(),
            packets: 0,
            version: mapping.version,
            action: mapping.action,
            authoritative: mapping.authoritative,
            origin,
            life: Life::Idle,
            warmth: Warmth::New,
            doubted: false,
        };
        let mut released = None;
        let number = if let Some(number) = known {
            let before = &mut self.store.entries[number];
            (entry.created, entry.packets, entry.warmth) = (before.created, before.packets, before.warmth);
            if !before.agrees(&entry) {
                todo.push(Output::Publish(mapping, set));
            }
            released = std::mem::replace(before, entry).set;
            number
        } else {
            todo.push(Output::Publish(mapping, set));
            self.store.insert(entry)
        };
        self.release(released, todo);
        self.enter_lists(number, tick);
    }

    /// Gives the entry of a new life its deadline and its place in the order of use.
    fn enter_lists(&mut self, number: u32, tick: u64) {
        let &Entry { eid, origin, expires, warmth, .. } = &self.store.entries[number];
        match origin {
            Origin::Static | Origin::Nat => self.deadlines.disarm(number),
            Origin::Api if expires == NEVER => self.deadlines.disarm(number),
            Origin::Reply | Origin::PubSub | Origin::Api => self.deadlines.arm(number, refresh_at(&eid, tick, expires)),
            Origin::GivenUp => self.deadlines.arm(number, expires),
        }
        self.renew(number, warmth);
        if origin == Origin::GivenUp {
            self.given_up.insert(eid, ());
        } else {
            self.given_up.remove(&eid);
        }
    }

    /// Whether so many more entries fit, if need be after the least recently used ones gave way.
    fn make_room(&mut self, new: usize, meter: Meter<'_>, todo: &mut Vec<Output>) -> bool {
        let mut looks = 0;
        while self.len() + new > self.settings.capacity {
            let oldest = self.order.oldest(Segment::Cold).or_else(|| self.order.oldest(Segment::Hot));
            let Some(oldest) = oldest else { return false };
            looks += 1;
            if looks <= LAST_LOOKS_MAX && self.look(oldest, meter, todo) {
                continue; // it is in front now
            }
            todo.push(Output::Fault(CacheFault::Evicted));
            self.withdraw(oldest, todo);
        }
        true
    }

    fn withdraw_exact(&mut self, eid: &EidPrefix, todo: &mut Vec<Output>) {
        if let Some(number) = self.store.number(eid) {
            self.withdraw(number, todo);
        }
    }

    /// Takes the entry out of every table.
    fn withdraw(&mut self, number: u32, todo: &mut Vec<Output>) {
        let Some(entry) = self.store.remove(number) else { return };
        self.deadlines.disarm(number);
        self.order.remove(number, entry.warmth.segment());
        if entry.origin == Origin::GivenUp {
            self.given_up.remove(&entry.eid);
        }
        todo.push(Output::Withdraw(entry.eid));
        self.release(entry.set, todo);
    }

    fn release(&mut self, set: Option<SetNumber>, todo: &mut Vec<Output>) {
        if let Some(set) = set.filter(|set| self.store.sets.leave(*set)) {
            todo.push(Output::Release(set));
        }
    }

    fn origin(&self, eid: &EidPrefix) -> Option<Origin> {
        self.store.exact(eid).map(|entry| entry.origin)
    }
}
