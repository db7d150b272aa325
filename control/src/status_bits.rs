//! Locator-Status-Bits: which locators of a site its own packets say are up.
//!
//! ```text
//! a link of ours fails ─▶ R bits of our mappings ─▶ bits that our packets carry
//! bits of a site change ─▶ a probe of each locator concerned, at a bounded pace ─▶ what probes say is believed
//! ```
//!
//! A bit proves nothing, so it moves no flow by itself (RFC 7835 §5). Bit i stands for the locator of ordinal i in wire order,
//! and means something only to whoever has the same locator-set: after ours changed, L stays 0 for a while.
//!
//! Sources: RFC 9300 §5.3, §10, §13.1; RFC 7835 §3.2, §5.

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{EidPrefix, Locator, Mapping};

use crate::{
    fault::faults,
    rate::{Limited, Limits, Rate},
};

/// How long our packets carry no bits after a locator was added to or removed from our mapping (RFC 9300 §13.1).
pub const QUIET_FOR: Duration = Duration::from_secs(300);
/// Changes of one prefix's bits that are acted on: two at once, for a locator that goes and comes back.
const EACH: Rate = Rate { burst: 2, every: Duration::from_secs(3) };
/// The same altogether.
const ALL: Rate = Rate { burst: 100, every: Duration::from_millis(10) };
/// Most prefixes whose bits are remembered, or whose rate is watched.
const WATCHED_MAX: usize = 65_536;
/// Most bits there are.
const BITS: usize = 32;

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A packet of a site carried bits that its mark in the table does not have.
    Seen {
        /// The cached prefix.
        eid: EidPrefix,
        /// Its locators, in wire order.
        locators: &'a [Locator],
        /// The bits.
        bits: u32,
        /// How many of them there were room for.
        width: u8,
    },
    /// The cached prefix is gone.
    Gone(EidPrefix),
    /// The time of [`StatusBits::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Probe this locator: its bit changed.
    Hint(IpAddr),
    /// These bits of the cached prefix are known from now on.
    Known(EidPrefix, u32),
    /// Packets of this prefix of ours carry bits again.
    Resume(EidPrefix),
    /// Count this.
    Discard(StatusFault),
}

faults! {
    /// Why bits in a packet had no effect.
    StatusFault {
        /// They are known by now.
        Known = "status-bits-known",
        /// Bits of that prefix were acted on a moment ago.
        Limited = "status-bits-rate-limited",
        /// As many changes as are acted on altogether.
        LimitedOverall = "status-bits-rate-limited-overall",
        /// As many prefixes as can be watched.
        WatchedFull = "status-bits-table-full",
    }
}

/// Bits of another site's, and whose they are.
#[derive(Debug, Clone)]
struct Seen {
    bits: u32,
    locators: Box<[IpAddr]>,
}

/// A mapping of ours.
#[derive(Debug, Clone)]
struct Own {
    locators: Vec<IpAddr>,
    quiet_until: Option<Instant>,
}

/// The machine.
#[derive(Debug)]
pub struct StatusBits {
    own: BTreeMap<EidPrefix, Own>,
    deadlines: BTreeSet<(Instant, EidPrefix)>,
    seen: BTreeMap<EidPrefix, Seen>,
    acted: Limits<EidPrefix>,
}

/// Bits as R bits say: bit i is the locator of ordinal i. Of more locators than there are bits the first are told.
#[must_use]
pub fn bits(locators: &[Locator]) -> u32 {
    let first = locators.iter().take(BITS).enumerate();
    first.fold(0, |bits, (ordinal, locator)| bits | u32::from(locator.reachable) << ordinal)
}

impl StatusBits {
    /// A machine for our own mappings.
    #[must_use]
    pub fn new(database: &[Mapping], now: Instant) -> Self {
        let acted = Limits::new(EACH, ALL, WATCHED_MAX);
        let mut machine = Self { own: BTreeMap::new(), deadlines: BTreeSet::new(), seen: BTreeMap::new(), acted };
        machine.set_database(database, now);
        machine
    }

    /// Replaces our own mappings. Those whose locator-set is another one fall silent.
    pub fn set_database(&mut self, database: &[Mapping], now: Instant) {
        let before = std::mem::take(&mut self.own);
        self.deadlines.clear();
        for mapping in database {
            let locators: Vec<IpAddr> = mapping.locators.iter().map(|locator| locator.address).collect();
            let quiet_until = match before.get(&mapping.eid) {
                Some(own) if own.locators == locators => own.quiet_until,
                Some(_) => Some(now + QUIET_FOR),
                None => None,
            };
            self.deadlines.extend(quiet_until.map(|until| (until, mapping.eid)));
            self.own.insert(mapping.eid, Own { locators, quiet_until });
        }
    }

    /// What packets of this mapping of ours carry; `None` while L is to be 0.
    #[must_use]
    pub fn own_bits(&self, mapping: &Mapping) -> Option<u32> {
        let own = self.own.get(&mapping.eid)?;
        own.quiet_until.is_none().then(|| bits(&mapping.locators))
    }

    /// What the site of a cached prefix last said of these locators.
    #[must_use]
    pub fn seen_bits(&self, eid: &EidPrefix, locators: &[Locator]) -> Option<u32> {
        let seen = self.seen.get(eid)?;
        locators.iter().map(|locator| &locator.address).eq(seen.locators.iter()).then_some(seen.bits)
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input<'_>, todo: &mut Vec<Output>) {
        match input {
            Input::Seen { eid, locators, bits, width } => {
                if let Err(fault) = self.seen(now, eid, locators, (bits, width), todo) {
                    todo.push(Output::Discard(fault));
                }
            }
            Input::Gone(eid) => drop(self.seen.remove(&eid)),
            Input::Wake => {}
        }
        while let Some(&(until, eid)) = self.deadlines.first().filter(|(until, _)| *until <= now) {
            self.deadlines.remove(&(until, eid));
            if let Some(own) = self.own.get_mut(&eid) {
                own.quiet_until = None;
                todo.push(Output::Resume(eid));
            }
        }
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    fn seen(
        &mut self,
        now: Instant,
        eid: EidPrefix,
        locators: &[Locator],
        (said, width): (u32, u8),
        todo: &mut Vec<Output>,
    ) -> Result<(), StatusFault> {
        // Bits beyond the locators that we know of say nothing, and those that had no room are as before.
        let room = if usize::from(width) < BITS { (1 << width) - 1 } else { u32::MAX };
        let before = self.seen_bits(&eid, locators);
        // Where nothing was said before, the record is what was said.
        let base = before.unwrap_or_else(|| bits(locators));
        let now_known = base & !room | said & room;
        if before == Some(now_known) {
            return Err(StatusFault::Known);
        }
        if before.is_none() && !self.seen.contains_key(&eid) && self.seen.len() >= WATCHED_MAX {
            return Err(StatusFault::WatchedFull);
        }
        self.acted.take(now, &[eid]).map_err(|limited| match limited {
            Limited::Spent => StatusFault::Limited,
            Limited::Overall => StatusFault::LimitedOverall,
            Limited::TableFull => StatusFault::WatchedFull,
        })?;
        let changed = |ordinal: &usize| (base ^ now_known) >> ordinal & 1 != 0;
        let hints = (0..locators.len().min(BITS)).filter(changed);
        todo.extend(hints.map(|ordinal| Output::Hint(locators[ordinal].address)));
        let addresses = locators.iter().map(|locator| locator.address).collect();
        self.seen.insert(eid, Seen { bits: now_known, locators: addresses });
        todo.push(Output::Known(eid, now_known));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
