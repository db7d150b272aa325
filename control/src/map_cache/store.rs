//! What the map-cache holds, packed for millions: entries in numbered places, an index by prefix, locator-sets shared.

use std::{
    ops::Bound,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Action, Eid, EidPrefix, Locator, Mapping, Ttl};

use super::{
    Origin,
    order::Segment,
    sets::{SetNumber, Sets},
};
use crate::{prefix_map::PrefixMap, slab::Slab};

/// One tick of the map-cache's clock: no entry leaves early, none later than this.
pub const TICK: Duration = Duration::from_millis(100);
/// The deadline of what never ends.
pub(super) const NEVER: u64 = u64::MAX;

/// Time in ticks since the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(pub(super) Instant);

impl Clock {
    /// The last tick that has come by `at`.
    pub(super) fn tick(self, at: Instant) -> u64 {
        (at.saturating_duration_since(self.0).as_millis() / TICK.as_millis()) as u64
    }

    /// The first tick that is not before `at`.
    pub(super) fn tick_after(self, at: Instant) -> u64 {
        at.saturating_duration_since(self.0).as_nanos().div_ceil(TICK.as_nanos()) as u64
    }

    pub(super) fn instant(self, tick: u64) -> Instant {
        self.0 + Duration::from_millis(tick * TICK.as_millis() as u64)
    }
}

/// How far an entry is in the present one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Not used so far.
    Idle,
    Used,
    /// The time to ask again has come; it is asked for with its first use.
    Ripe,
    /// Asked for again.
    Asked,
}

/// How much an entry is used, over all its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Warmth {
    /// Not looked at yet. Its first packet is the one that asked for it, and no use.
    New,
    Cold,
    /// Once found in use: perhaps one short flow.
    Warm,
    /// Found in use again.
    Hot,
    /// Hot, but not in use at the last look.
    Cooling,
}

impl Warmth {
    pub(super) const fn segment(self) -> Segment {
        match self {
            Self::Hot | Self::Cooling => Segment::Hot,
            Self::New | Self::Cold | Self::Warm => Segment::Cold,
        }
    }
}

/// One entry. 56 octets; its places in the wheel and in the order of use are kept there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) eid: EidPrefix,
    /// Without one it is negative.
    pub(super) set: Option<SetNumber>,
    /// When it leaves; [`NEVER`] for static ones, and for those that clients want so.
    pub(super) expires: u64,
    /// Since when there is an entry for this prefix: ticks, enough for 13 years.
    pub(super) created: u32,
    pub(super) ttl: u32,
    /// Packets that had used it at the last look, modulo 2^32.
    pub(super) packets: u32,
    pub(super) version: u16,
    pub(super) action: Action,
    pub(super) authoritative: bool,
    pub(super) origin: Origin,
    pub(super) life: Life,
    pub(super) warmth: Warmth,
    /// A less-specific reply did not list it; the next one that does not takes it out.
    pub(super) doubted: bool,
}

const _: () = assert!(size_of::<Option<Entry>>() == 56, "each octet here is a megabyte in a map-cache of a million");

impl Entry {
    /// Whether it says the same as `other`.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let said =
            |entry: &Self| (entry.set, entry.ttl, entry.version, entry.action, entry.authoritative, entry.origin);
        self.eid == other.eid && said(self) == said(other)
    }
}

/// One entry, as `show map-cache` sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cached<'a> {
    /// The EIDs it speaks of.
    pub eid: EidPrefix,
    /// How long it was to be kept.
    pub ttl: Ttl,
    /// Map-Version; 0 is none.
    pub version: u16,
    /// Used only without locators.
    pub action: Action,
    /// An ETR of the site itself answered.
    pub authoritative: bool,
    /// In wire order.
    pub locators: &'a [Locator],
    /// The number of the set they are; `None` without locators.
    pub set: Option<SetNumber>,
    /// Who said it.
    pub origin: Origin,
    /// Since when there is an entry for this prefix, to the tick.
    pub created: Instant,
    /// When it leaves; `None` for those that stay.
    pub expires: Option<Instant>,
}

impl Cached<'_> {
    /// Whether it has no locators.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.locators.is_empty()
    }

    /// What it says.
    #[must_use]
    pub fn mapping(&self) -> Mapping {
        Mapping {
            eid: self.eid,
            ttl: self.ttl,
            version: self.version,
            action: self.action,
            authoritative: self.authoritative,
            locators: self.locators.to_vec(),
        }
    }
}

/// What a map-cache occupies, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The entries themselves.
    pub entries: usize,
    /// The index by prefix.
    pub index: usize,
    /// Deadlines.
    pub deadlines: usize,
    /// The order of use.
    pub order: usize,
    /// Locator-sets.
    pub sets: usize,
}

impl Memory {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.entries + self.index + self.deadlines + self.order + self.sets
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) entries: Slab<Entry>,
    pub(super) index: PrefixMap<u32>,
    pub(super) sets: Sets,
}

impl Store {
    pub(super) const fn new() -> Self {
        Self { entries: Slab::new(), index: PrefixMap::new(), sets: Sets::new() }
    }

    /// The number of the entry of exactly this prefix.
    pub(super) fn number(&self, eid: &EidPrefix) -> Option<u32> {
        self.index.get(eid).copied()
    }

    /// The entry of exactly this prefix.
    pub(super) fn exact(&self, eid: &EidPrefix) -> Option<&Entry> {
        self.number(eid).map(|number| &self.entries[number])
    }

    /// The entry of the longest prefix that covers `inner`.
    pub(super) fn covering(&self, inner: &EidPrefix) -> Option<&Entry> {
        self.index.covering(inner).map(|(_, number)| &self.entries[*number])
    }

    /// The entry of the longest prefix that holds `eid`.
    pub(super) fn longest(&self, eid: Eid) -> Option<&Entry> {
        self.covering(&EidPrefix::host(eid))
    }

    /// Every entry inside `outer` with its number, by address and length.
    pub(super) fn within(&self, outer: &EidPrefix) -> impl Iterator<Item = (u32, &Entry)> {
        self.index.within(outer).map(|(_, number)| (*number, &self.entries[*number]))
    }

    /// Every entry, by instance, address and length.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.index.iter().map(|(_, number)| &self.entries[*number])
    }

    /// The same, from this prefix on.
    pub(super) fn iter_from(&self, start: Bound<EidPrefix>) -> impl Iterator<Item = &Entry> {
        self.index.iter_from(start).map(|(_, number)| &self.entries[*number])
    }

    /// Puts in an entry for a prefix that has none.
    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        let eid = entry.eid;
        let number = self.entries.insert(entry);
        self.index.insert(eid, number);
        number
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Entry> {
        let entry = self.entries.remove(number)?;
        self.index.remove(&entry.eid);
        Some(entry)
    }

    /// The entry as others may see it.
    pub(super) fn show(&self, entry: &Entry, clock: Clock) -> Cached<'_> {
        Cached {
            eid: entry.eid,
            ttl: Ttl::from_wire(entry.ttl),
            version: entry.version,
            action: entry.action,
            authoritative: entry.authoritative,
            set: entry.set,
            locators: entry.set.map_or(&[], |set| self.sets.locators(set)),
            origin: entry.origin,
            created: clock.instant(entry.created.into()),
            expires: (entry.expires != NEVER).then(|| clock.instant(entry.expires)),
        }
    }
}
