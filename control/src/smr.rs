//! Solicit-Map-Request: has ITRs that send to us ask again when one of our mappings changes, and asks again when they say so.
//!
//! ```text
//! our mapping changes ─▶ S=1, D=1 to each RLOC sent to in the last minute ─▶ again after 3 s, unless it asks (s=1)
//! an old version comes ─▶ the same, once, to the RLOC it came from
//! S=1 comes           ─▶ the cached prefix it speaks of is asked for, s=1, through the mapping system
//! ```
//!
//! An SMR proves nothing: whoever sends it gets no answer, and the mapping comes from where it always comes from. What it can
//! cause is bounded for each prefix and altogether.
//!
//! Sources: RFC 9301 §6.1, §5.2 (S, s, D).

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Eid, EidPrefix};

use crate::{
    fault::faults,
    rate::{Bucket, Buckets, Limited, Limits, Rate},
    wire::MapRequest,
};

/// How long whoever was sent data counts as somebody who must be told (RFC 9301 §6.1).
pub const CONTACT_FOR: Duration = Duration::from_secs(60);
/// Time between two SMRs to one RLOC, and between two Map-Requests for one prefix (RFC 9301 §6.1).
pub const SPACING: Duration = Duration::from_secs(3);
/// Most cached prefixes that one SMR has asked for.
pub const SOLICITED_MAX: usize = 8;
/// How often one is told of one change while it does not ask.
pub const TRIES_MAX: u8 = 3;

/// What the machine is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// SMRs to one RLOC: a few at once, as each names one prefix.
    pub each: Rate,
    /// SMRs altogether.
    pub all: Rate,
    /// Map-Requests for one cached prefix that SMRs cause.
    pub each_asked: Rate,
    /// Map-Requests altogether that SMRs cause.
    pub all_asked: Rate,
    /// Most RLOCs remembered, most SMRs waiting, and most prefixes whose rate is watched.
    pub most: usize,
}

impl Default for Settings {
    /// Four SMRs at once to one RLOC and then one in 3 s; 500 a second; one Map-Request for one prefix in 3 s, 100 a second.
    fn default() -> Self {
        Self {
            each: Rate { burst: 4, every: SPACING },
            all: Rate { burst: 500, every: Duration::from_millis(2) },
            each_asked: Rate { burst: 1, every: SPACING },
            all_asked: Rate { burst: 100, every: Duration::from_millis(10) },
            most: 16_384,
        }
    }
}

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Packets were sent to this RLOC.
    Used(IpAddr),
    /// What we say of this EID-Prefix of ours is another thing now.
    Changed(EidPrefix),
    /// A packet from this RLOC came by an old version of this EID-Prefix of ours (RFC 9302 §7.1).
    Outdated(IpAddr, EidPrefix),
    /// A Map-Request with the s bit for an EID of this prefix of ours came; one of these is who asks.
    Asked(EidPrefix, &'a [IpAddr]),
    /// An SMR came; these cached prefixes are what it speaks of.
    Solicited(&'a [EidPrefix]),
    /// The time of [`Smr::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send a Map-Request with S and D for our prefix to this RLOC.
    Solicit(IpAddr, EidPrefix),
    /// Ask the mapping system for this cached prefix, with s.
    Ask(EidPrefix),
    /// Count this.
    Discard(SmrFault),
}

faults! {
    /// Why an SMR had no effect, or was not sent.
    SmrFault {
        /// It speaks of nothing that is cached here.
        NotCached = "smr-not-cached",
        /// That prefix was asked for a moment ago because of an SMR.
        Limited = "smr-rate-limited",
        /// As many Map-Requests as SMRs may cause altogether.
        LimitedOverall = "smr-rate-limited-overall",
        /// As many prefixes as can be watched.
        WatchedFull = "smr-rate-table-full",
        /// As many RLOCs as can be remembered: this one will not be told of changes.
        ContactsFull = "smr-contacts-full",
        /// As many SMRs wait as may.
        QueueFull = "smr-queue-full",
    }
}

/// One that must be told of one prefix.
#[derive(Debug, Clone, Copy)]
struct Telling {
    tries: u8,
    due: Instant,
}

/// The machine.
#[derive(Debug)]
pub struct Smr {
    settings: Settings,
    contacts: BTreeMap<IpAddr, Instant>,
    tellings: BTreeMap<(IpAddr, EidPrefix), Telling>,
    deadlines: BTreeSet<(Instant, IpAddr, EidPrefix)>,
    each: Buckets<IpAddr>,
    all: Bucket,
    asked: Limits<EidPrefix>,
}

/// The SMR itself: S and D, our prefix both as what changed and as who says so.
#[must_use]
pub fn request(nonce: u64, itr_rlocs: &[IpAddr], eid: EidPrefix) -> MapRequest {
    let source = Eid { instance: eid.instance, address: eid.prefix.address() };
    MapRequest { smr: true, dont_reply: true, ..MapRequest::lookup(nonce, Some(source), itr_rlocs, eid) }
}

/// Cached prefixes that an SMR speaks of, at most [`SOLICITED_MAX`]: by its record, or by its Source-EID where the record leads
/// to none. RFC 9301 §6.1 does not say which of them names what changed, and implementations differ. `cached` tells what there
/// is around a prefix.
pub fn solicited(request: &MapRequest, cached: impl Fn(&EidPrefix) -> Vec<EidPrefix>) -> Vec<EidPrefix> {
    let records = request.records.iter().map(|record| record.eid);
    let named: Vec<EidPrefix> = records.flat_map(|eid| cached(&eid)).take(SOLICITED_MAX).collect();
    match request.source_eid {
        Some(source) if named.is_empty() => cached(&EidPrefix::host(source)),
        _ => named,
    }
}

impl Smr {
    /// A machine that has met nobody yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            contacts: BTreeMap::new(),
            tellings: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            each: Buckets::new(settings.each, settings.most),
            all: Bucket::default(),
            asked: Limits::new(settings.each_asked, settings.all_asked, settings.most),
            settings,
        }
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input<'_>, todo: &mut Vec<Output>) {
        match input {
            Input::Used(rloc) => self.used(now, rloc, todo),
            Input::Changed(eid) => self.changed(now, eid, todo),
            Input::Outdated(rloc, eid) => self.outdated(now, rloc, eid, todo),
            Input::Asked(eid, rlocs) => rlocs.iter().for_each(|rloc| self.told(*rloc, eid)),
            Input::Solicited(cached) => self.solicited(now, cached, todo),
            Input::Wake => {}
        }
        self.run(now, todo);
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, ..)| *due)
    }

    fn used(&mut self, now: Instant, rloc: IpAddr, todo: &mut Vec<Output>) {
        if !self.contacts.contains_key(&rloc) && self.contacts.len() >= self.settings.most {
            self.contacts.retain(|_, last| now < *last + CONTACT_FOR);
            if self.contacts.len() >= self.settings.most {
                return todo.push(Output::Discard(SmrFault::ContactsFull));
            }
        }
        self.contacts.insert(rloc, now);
    }

    /// Everybody who was sent data lately is to be told; a change on top of a change begins anew.
    fn changed(&mut self, now: Instant, eid: EidPrefix, todo: &mut Vec<Output>) {
        self.contacts.retain(|_, last| now < *last + CONTACT_FOR);
        let contacts: Vec<IpAddr> = self.contacts.keys().copied().collect();
        for rloc in contacts {
            self.told(rloc, eid);
            if self.tellings.len() >= self.settings.most {
                return todo.push(Output::Discard(SmrFault::QueueFull));
            }
            self.tellings.insert((rloc, eid), Telling { tries: 0, due: now });
            self.deadlines.insert((now, rloc, eid));
        }
    }

    /// One is to be told, once: if it does not hear, its next packets say so.
    fn outdated(&mut self, now: Instant, rloc: IpAddr, eid: EidPrefix, todo: &mut Vec<Output>) {
        if self.tellings.contains_key(&(rloc, eid)) {
            return;
        }
        if self.tellings.len() >= self.settings.most {
            return todo.push(Output::Discard(SmrFault::QueueFull));
        }
        self.tellings.insert((rloc, eid), Telling { tries: TRIES_MAX - 1, due: now });
        self.deadlines.insert((now, rloc, eid));
    }

    /// It has asked, so it knows.
    fn told(&mut self, rloc: IpAddr, eid: EidPrefix) {
        if let Some(telling) = self.tellings.remove(&(rloc, eid)) {
            self.deadlines.remove(&(telling.due, rloc, eid));
        }
    }

    fn run(&mut self, now: Instant, todo: &mut Vec<Output>) {
        while let Some(&(due, rloc, eid)) = self.deadlines.first().filter(|(due, ..)| *due <= now) {
            self.deadlines.remove(&(due, rloc, eid));
            let allowed = self.each.ready(now, &rloc).is_ok()
                && self.all.take(now, self.settings.all)
                && self.each.take(now, rloc).is_ok();
            let Some(telling) = self.tellings.get_mut(&(rloc, eid)) else { continue };
            if allowed {
                todo.push(Output::Solicit(rloc, eid));
                telling.tries += 1;
            }
            if telling.tries >= TRIES_MAX {
                self.tellings.remove(&(rloc, eid));
            } else {
                telling.due = now + SPACING;
                self.deadlines.insert((telling.due, rloc, eid));
            }
        }
    }

    fn solicited(&mut self, now: Instant, cached: &[EidPrefix], todo: &mut Vec<Output>) {
        if cached.is_empty() {
            todo.push(Output::Discard(SmrFault::NotCached));
        }
        for eid in cached {
            todo.push(match self.asked.take(now, &[*eid]) {
                Ok(()) => Output::Ask(*eid),
                Err(Limited::Spent) => Output::Discard(SmrFault::Limited),
                Err(Limited::Overall) => Output::Discard(SmrFault::LimitedOverall),
                Err(Limited::TableFull) => Output::Discard(SmrFault::WatchedFull),
            });
        }
    }
}
