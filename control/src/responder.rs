//! The responder: answers Map-Requests for the site's own EID-Prefixes, as an ETR.
//!
//! ```text
//! Map-Request ─ wants an answer? ─ somebody to answer? ─ our EIDs? ─ within the rates? ─▶ Map-Reply
//! ```
//!
//! A Map-Reply holds the longest match of what was asked for and all more-specifics beneath it; every record is
//! authoritative, with its locators in wire order, L on the addresses of this xTR and p on the one that was probed. Where that
//! is longer than a control packet may be, it holds instead the part of the match that needs no more-specifics beside it.
//! It goes to one of the ITR-RLOCs, to the port the request came from. The M-bit record of a request is never looked at.
//!
//! Sources: RFC 9301 §5.2 (probes, D), §5.3 (ITR-RLOCs), §5.4 (A, L, p, R, rate), §5.5 (overlapping prefixes), §6.1 (SMR).

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Eid, EidPrefix, Mapping, sort_locators};

use crate::{
    database::Difference,
    fault::faults,
    prefix_map::PrefixMap,
    rate::{Limited, Limits, Rate},
    rloc::{Families, answer_address, routable},
    wire::{MapReply, MapRequest},
};

/// Most records a Map-Reply can count.
const RECORDS_MAX: usize = 255;

/// What the responder is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our own mappings. TTL, priorities, weights and R bits go out as they are here.
    pub database: Vec<Mapping>,
    /// Our RLOCs: they get the L bit, and their families are those we can answer in.
    pub rlocs: Vec<IpAddr>,
    /// Map-Replies to one destination RLOC about one EID-Prefix.
    pub each: Rate,
    /// Answers to probes of one of our locators, to one destination RLOC about one EID-Prefix.
    pub each_probed: Rate,
    /// Map-Replies altogether; as many answers to probes again.
    pub all: Rate,
    /// E bit of Map-Replies: nonces are given back (RFC 9301 §5.4).
    pub echo_nonce: bool,
    /// Most pairs of destination RLOC and EID-Prefix whose rate is watched at a time.
    pub watched_max: usize,
}

impl Settings {
    /// The default rates: 3 at once and one every 3 s for each pair (RFC 9301 §5.4), 1000 a second altogether. Probes have a
    /// rate of their own, 3 at once and one a second: with the other, a site of two locators would seem to lose them.
    #[must_use]
    pub const fn new(database: Vec<Mapping>, rlocs: Vec<IpAddr>) -> Self {
        Self {
            database,
            rlocs,
            each: Rate { burst: 3, every: Duration::from_secs(3) },
            each_probed: Rate { burst: 3, every: Duration::from_secs(1) },
            all: Rate { burst: 1000, every: Duration::from_millis(1) },
            echo_nonce: false,
            watched_max: 16_384,
        }
    }
}

/// How a Map-Request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Address and UDP port it came from.
    pub source: SocketAddr,
    /// The address it was sent to, if known: gets the p bit in the answer to a probe.
    pub destination: Option<IpAddr>,
}

/// A Map-Reply to send from port 4342.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// One of the request's ITR-RLOCs, with the port the request came from.
    pub to: SocketAddr,
    /// The Map-Reply.
    pub message: MapReply,
}

faults! {
    /// Why a Map-Request was not answered.
    RequestFault {
        /// An SMR (S bit): a Map-Request is due, not a Map-Reply.
        Smr = "request-smr",
        /// The D bit says that no answer is wanted.
        DontReply = "request-dont-reply",
        /// No ITR-RLOC of a family that we have, or none that can be sent to, or no port.
        NoItrRloc = "request-no-itr-rloc",
        /// Nothing asked for is ours.
        EidNotOurs = "request-eid-not-ours",
        /// More records to answer than a Map-Reply holds.
        TooManyRecords = "request-too-many-records",
        /// That ITR-RLOC was told of that EID-Prefix as often as allowed.
        Limited = "request-rate-limited",
        /// As many Map-Replies as allowed altogether.
        LimitedOverall = "request-rate-limited-overall",
        /// As many pairs of ITR-RLOC and EID-Prefix as can be watched.
        WatchedFull = "request-rate-table-full",
    }
}

/// The machine.
#[derive(Debug)]
pub struct Responder {
    database: PrefixMap<Mapping>,
    rlocs: Vec<IpAddr>,
    families: Families,
    echo_nonce: bool,
    limits: Limits<(IpAddr, EidPrefix)>,
    probed: Limits<(IpAddr, EidPrefix, IpAddr)>,
}

impl Responder {
    /// A responder for the site of `settings`.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut responder = Self {
            database: PrefixMap::new(),
            families: Families::of(&settings.rlocs),
            rlocs: settings.rlocs,
            echo_nonce: settings.echo_nonce,
            limits: Limits::new(settings.each, settings.all, settings.watched_max),
            probed: Limits::new(settings.each_probed, settings.all, settings.watched_max),
        };
        responder.set_database(settings.database);
        responder
    }

    /// Replaces our own mappings, and tells which of them say something else from now on.
    pub fn set_database(&mut self, database: Vec<Mapping>) -> Difference {
        let next: PrefixMap<Mapping> =
            database.into_iter().map(|mapping| (mapping.eid, self.ready_to_send(mapping))).collect();
        let mut difference = Difference::default();
        for (eid, mapping) in next.iter() {
            match self.database.get(&eid) {
                None => difference.new.push(eid),
                Some(before) if before != mapping => difference.changed.push(eid),
                Some(_) => {}
            }
        }
        let gone = self.database.iter().map(|(eid, _)| eid).filter(|eid| next.get(eid).is_none());
        difference.gone.extend(gone);
        self.database = next;
        difference
    }

    /// The mapping of exactly this prefix, as it goes out.
    #[must_use]
    pub fn mapping(&self, eid: &EidPrefix) -> Option<&Mapping> {
        self.database.get(eid)
    }

    /// Our own mappings as they go out, by instance, address and length.
    pub fn database(&self) -> impl Iterator<Item = &Mapping> {
        self.database.iter().map(|(_, mapping)| mapping)
    }

    /// Whether the EID is one of ours.
    #[must_use]
    pub fn owns(&self, eid: Eid) -> bool {
        self.database.longest(eid).is_some()
    }

    /// The answer to `request`.
    ///
    /// # Errors
    /// [`RequestFault`]: nothing is sent; count it.
    pub fn answer(&mut self, now: Instant, request: &MapRequest, arrival: Arrival) -> Result<Answer, RequestFault> {
        self.answer_with_room(now, request, arrival, 0)
    }

    /// The same, of a size that so many octets can be added to.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn answer_with_room(
        &mut self,
        now: Instant,
        request: &MapRequest,
        arrival: Arrival,
        room: usize,
    ) -> Result<Answer, RequestFault> {
        if request.smr {
            return Err(RequestFault::Smr);
        }
        if request.dont_reply {
            return Err(RequestFault::DontReply);
        }
        let to = answer_address(request, arrival.source, self.families).ok_or(RequestFault::NoItrRloc)?;
        let asked: Vec<EidPrefix> = request.records.iter().map(|record| record.eid).collect();
        let matches = asked.iter().filter_map(|eid| self.database.covering(eid));
        let matches: BTreeSet<EidPrefix> = matches.map(|(eid, _)| eid).collect();
        if matches.is_empty() {
            return Err(RequestFault::EidNotOurs);
        }
        self.limit(now, to.ip(), &matches, arrival.destination.filter(|_| request.probe))?;
        let beneath = matches.iter().flat_map(|eid| self.database.within(eid));
        let full: BTreeMap<EidPrefix, &Mapping> = beneath.take(RECORDS_MAX + 1).collect();
        let fits = |message: &MapReply| message.encode().len() + room <= payload_max(to.ip());
        let message = match reply(request, arrival.destination, full).filter(fits) {
            Some(message) => message,
            None => reply(request, arrival.destination, self.narrowed(&asked)).ok_or(RequestFault::TooManyRecords)?,
        };
        Ok(Answer { to, message: MapReply { echo_nonce: self.echo_nonce, ..message } })
    }

    /// The answer that needs no more-specifics beside it: of each match, the widest part around the EID asked for that none
    /// of them reaches into. For what was asked for as a prefix, the whole match with all more-specifics.
    fn narrowed(&self, asked: &[EidPrefix]) -> BTreeMap<EidPrefix, &Mapping> {
        let mut records = BTreeMap::new();
        for eid in asked {
            let Some((found, mapping)) = self.database.covering(eid) else { continue };
            if eid.prefix.is_host() {
                let host = Eid { instance: eid.instance, address: eid.prefix.address() };
                records.insert(self.database.gap(host), mapping);
            } else {
                let within = self.database.within(&found).take(RECORDS_MAX + 1);
                records.extend(within);
            }
        }
        records
    }

    /// Takes a token for every match, and none if one of them has none left; `probed` is the locator that a probe is for.
    fn limit(
        &mut self,
        now: Instant,
        to: IpAddr,
        matches: &BTreeSet<EidPrefix>,
        probed: Option<IpAddr>,
    ) -> Result<(), RequestFault> {
        let taken = match probed {
            Some(locator) => {
                let keys: Vec<_> = matches.iter().map(|eid| (to, *eid, locator)).collect();
                self.probed.take(now, &keys)
            }
            None => {
                let keys: Vec<_> = matches.iter().map(|eid| (to, *eid)).collect();
                self.limits.take(now, &keys)
            }
        };
        taken.map_err(|limited| match limited {
            Limited::Spent => RequestFault::Limited,
            Limited::TableFull => RequestFault::WatchedFull,
            Limited::Overall => RequestFault::LimitedOverall,
        })
    }

    fn ready_to_send(&self, mut mapping: Mapping) -> Mapping {
        mapping.authoritative = true;
        for locator in &mut mapping.locators {
            locator.local = self.rlocs.contains(&locator.address);
            locator.reachable &= routable(locator.address);
        }
        sort_locators(&mut mapping.locators);
        mapping
    }
}

/// A Map-Reply with these records, under the prefixes given, if they can be counted.
fn reply(
    request: &MapRequest,
    destination: Option<IpAddr>,
    records: BTreeMap<EidPrefix, &Mapping>,
) -> Option<MapReply> {
    if records.len() > RECORDS_MAX {
        return None;
    }
    let probed = destination.filter(|_| request.probe);
    let record = |(eid, mapping): (EidPrefix, &Mapping)| {
        let mut record = Mapping { eid, ..mapping.clone() };
        for locator in &mut record.locators {
            locator.probed = probed == Some(locator.address);
        }
        record
    };
    let records = records.into_iter().map(record).collect();
    Some(MapReply { nonce: request.nonce, probe: request.probe, echo_nonce: false, records, security: None })
}

/// Octets of UDP payload that need no knowledge of the path's MTU (RFC 9301 §5).
const fn payload_max(to: IpAddr) -> usize {
    match to {
        IpAddr::V4(_) => 576 - 20 - 8,
        IpAddr::V6(_) => 1280 - 40 - 8,
    }
}
