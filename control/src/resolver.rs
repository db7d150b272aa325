//! The resolver: asks the mapping system for what workers miss, and lets in only answers to what was asked.
//!
//! ```text
//!          Miss, Refresh                       Reply that fits
//!   idle ─────────────────▶ pending ─────────────────────────────▶ Install
//!     ▲                    │  ▲  │
//!     │        Request ◀───┘  │  │ 10 tries without an answer
//!     │        after 0, 1, 2, 4 … 30 s
//!     └──────────────────────────┴──▶ GiveUp: dropped for 30 s, then one try at a time
//! ```
//!
//! Each Map-Request asks for one record with a nonce of its own. While an EID-Prefix is pending, the nonce of every try is
//! good, once: an answer to the first try that overtakes the second one is an answer. A nonce dies when it is used,
//! when its EID-Prefix is answered, and when the machine gives up.
//!
//! With LISP-SEC each Map-Request has a One-Time Key beside its nonce, and only an answer that is signed under it counts; one that
//! is not is dropped without spending the nonce, so that it cannot keep the right one out.
//!
//! Rate: no two Map-Requests for one EID-Prefix within a second. EIDs under a prefix that an answer named in the last
//! minute share that second: the first to be due is asked for, and its answer serves the others, so they count a try and
//! send nothing.
//!
//! Sources: RFC 9301 §5.2 (one record, source EID), §5.3 (rate, retries, nonces), §5.5 (more-specifics); RFC 9302 §7.1
//! (staying at one request per 30 s); RFC 7835 §3.8 (what else a reply must satisfy); RFC 9303 §6.4, §6.9 (LISP-SEC).

#![forbid(unsafe_code)]

mod admission;
mod memory;
mod proof;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use altitude_dataplane::{
    mapping::{Eid, EidPrefix, InstanceId, Mapping},
    verdict::{Miss, Wanted},
};

pub use self::proof::says_other;
use self::{memory::Memory, sources::Sources};
use crate::{
    fault::faults,
    lisp_sec::{
        SecurityFault,
        asking::{Asking, Sealed},
    },
    prefix_map::PrefixMap,
    wire::{MapReply, MapRequest},
};

/// Map-Requests for one EID-Prefix before the machine gives up (RFC 9301 §5.3).
pub const TRIES_MAX: u32 = 10;
/// Shortest time between two Map-Requests for one EID-Prefix (RFC 9301 §5.3).
pub const SPACING_MIN: Duration = Duration::from_secs(1);
/// Where the doubling of the spacing ends: the rate the RFCs fall back to (RFC 9302 §7.1).
pub const SPACING_MAX: Duration = Duration::from_secs(30);
/// How long the last try waits for its answer: as long as workers hold packets.
pub const LAST_WAIT: Duration = Duration::from_secs(3);
/// How long the prefixes of an answer are remembered for the rate limit.
pub const NAMED_FOR: Duration = Duration::from_secs(60);
/// How long an EID given up on gets one try at a time instead of ten.
pub const EXHAUSTED_FOR: Duration = Duration::from_secs(300);

/// What the resolver is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our RLOCs, where answers shall go; at most 32 are put into a Map-Request.
    pub itr_rlocs: Vec<IpAddr>,
    /// Whether we are a PITR: what others than our own site make us ask is marked so.
    pub pitr: bool,
    /// Our own EID-Prefixes: never asked for, never taken from others.
    pub database: Vec<EidPrefix>,
    /// Shortest IPv4 prefix to accept, in bits.
    pub shortest_v4: u8,
    /// Shortest IPv6 prefix to accept, in bits.
    pub shortest_v6: u8,
    /// Most EID-Prefixes asked for at a time.
    pub pending_max: usize,
    /// Most of these that one source's packets made us ask for, 1 or more: a host, or an IPv6 /64.
    pub source_max: usize,
    /// Most of these that the hosts of one instance made us ask for, 1 or more.
    pub site_max: usize,
    /// Most records of one Map-Reply.
    pub records_max: usize,
    /// LISP-SEC; `None`: it is not asked for, and nothing is proven.
    pub security: Option<Asking>,
}

/// What happens to the resolver.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A worker found no mapping.
    Miss(Miss),
    /// A cached mapping in use nears its end, or is in doubt (RFC 9301 §5.3).
    Refresh(EidPrefix),
    /// An SMR speaks of a cached mapping: the mapping system is asked, with the s bit (RFC 9301 §6.1).
    Solicited(EidPrefix),
    /// A Map-Reply came, from wherever.
    Reply(MapReply),
    /// One with the S bit: what it proves is in its octets.
    SecuredReply {
        /// As read.
        reply: MapReply,
        /// What it was read from.
        octets: Vec<u8>,
    },
    /// The time of [`Resolver::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send `message` towards `target`, the EID that the mapping system routes on.
    Request {
        /// The EID asked for; the first address of a refreshed prefix.
        target: IpAddr,
        /// Its instance.
        instance: InstanceId,
        /// Whether it asks again for what nears its end: such requests stay off the ALT (RFC 6836 §5.1). Those that an SMR
        /// invoked do not: they go through the mapping system (RFC 9301 §6.1).
        refresh: bool,
        /// The Map-Request.
        message: MapRequest,
        /// LISP-SEC's authentication data for its ECM: it must not go without them.
        security: Option<Box<[u8]>>,
    },
    /// Put all of these into the map-cache in one step; a record of [`Ttl::Remove`](altitude_dataplane::mapping::Ttl)
    /// takes its entry out.
    Install(Vec<Mapping>),
    /// Count this: what is installed next was signed by its sender.
    Proven,
    /// Nobody answered: drop what goes there for 30 s. Only ever a host.
    GiveUp(EidPrefix),
    /// Count this.
    Discard(ResolverFault),
    /// Count this, and tell the operator: somebody may be lying.
    Insecure(SecurityFault),
}

/// Why something had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Plain(ResolverFault),
    Insecure(SecurityFault),
}

impl From<ResolverFault> for Refused {
    fn from(fault: ResolverFault) -> Self {
        Self::Plain(fault)
    }
}

impl From<SecurityFault> for Refused {
    fn from(fault: SecurityFault) -> Self {
        Self::Insecure(fault)
    }
}

faults! {
    /// Why a miss was not asked for, or a Map-Reply had no effect.
    ResolverFault {
        /// As many pending as allowed; the next packet asks again.
        PendingFull = "resolver-pending-full",
        /// As many pending as one source may have; those of others are asked for.
        SourceFull = "resolver-source-pending-full",
        /// So are those that the site may have.
        SiteFull = "resolver-site-pending-full",
        /// Missed or refreshed inside our own EID-Prefixes.
        Local = "resolver-own-eid",
        /// A miss that wants something other than a mapping.
        NotAMapping = "resolver-not-a-mapping",
        /// The source of nonces repeats itself; the try is skipped.
        NonceRepeated = "resolver-nonce-repeated",
        /// An answer to an RLOC-probe where none was asked for.
        ProbeReply = "reply-to-probe",
        /// No outstanding request has this nonce: forged, repeated, or too late.
        NonceUnknown = "reply-nonce-unknown",
        /// More records than allowed.
        TooManyRecords = "reply-too-many-records",
        /// No record covers what was asked for.
        NotCovering = "reply-not-covering",
        /// A record that lies outside the one that covers what was asked for.
        Unrelated = "reply-unrelated-record",
        /// A record inside our own EID-Prefixes.
        OwnPrefix = "reply-own-prefix",
        /// A prefix with locators that is shorter than allowed.
        TooShort = "reply-prefix-too-short",
    }
}

/// One EID-Prefix asked for and not answered yet.
#[derive(Debug)]
struct Pending {
    /// The inner source that made us ask; none for a refresh.
    source: Option<IpAddr>,
    refresh: bool,
    /// An SMR was the cause, or came in the meantime.
    solicited: bool,
    tries: u32,
    tries_max: u32,
    sent_at: Option<Instant>,
    due: Instant,
    nonces: Vec<u64>,
    /// Which algorithm of LISP-SEC is asked for next.
    algorithm: usize,
    /// Nobody can sign the answer, and it is taken all the same.
    downgraded: bool,
}

/// One Map-Request that is not answered yet.
#[derive(Debug)]
struct Asked {
    eid: EidPrefix,
    sealed: Option<Sealed>,
}

/// The machine. Ordered collections throughout: a recorded run replays the same.
#[derive(Debug)]
pub struct Resolver {
    settings: Settings,
    database: PrefixMap<()>,
    pending: PrefixMap<Pending>,
    /// How many of them each source has.
    sources: Sources,
    outstanding: BTreeMap<u64, Asked>,
    deadlines: BTreeSet<(Instant, EidPrefix)>,
    /// Prefixes that answers named, and when the next Map-Request under each may go.
    named: Memory<Instant>,
    /// Given up on lately: one try at a time.
    exhausted: Memory<()>,
}

impl Resolver {
    /// Other EID-Prefixes are ours from now on.
    pub fn set_database(&mut self, database: &[EidPrefix]) {
        self.database = database.iter().map(|eid| (*eid, ())).collect();
    }

    /// A resolver that nobody has asked yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let database = settings.database.iter().map(|eid| (*eid, ())).collect();
        Self {
            database,
            pending: PrefixMap::default(),
            sources: Sources::default(),
            outstanding: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            named: Memory::new(settings.pending_max),
            exhausted: Memory::new(settings.pending_max),
            settings,
        }
    }

    /// Takes in one input and appends what must be done to `todo`. `nonces` gives 64 random bits at each call.
    pub fn step(&mut self, now: Instant, input: Input, nonces: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        self.named.expire(now);
        self.exhausted.expire(now);
        let result = match input {
            Input::Miss(miss) if miss.wanted == Wanted::Mapping => {
                self.ask(now, EidPrefix::host(miss.destination), Some(miss.source)).map_err(Refused::Plain)
            }
            Input::Miss(_) => Err(ResolverFault::NotAMapping.into()),
            Input::Refresh(eid) => self.ask(now, eid, None).map_err(Refused::Plain),
            Input::Solicited(eid) => self.ask(now, eid, None).map(|()| self.solicit(now, &eid)).map_err(Refused::Plain),
            Input::Reply(reply) => self.answered(now, reply, &[], todo),
            Input::SecuredReply { reply, octets } => self.answered(now, reply, &octets, todo),
            Input::Wake => Ok(()),
        };
        match result {
            Ok(()) => {}
            Err(Refused::Plain(fault)) => todo.push(Output::Discard(fault)),
            Err(Refused::Insecure(fault)) => todo.push(Output::Insecure(fault)),
        }
        self.run(now, nonces, todo);
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Somebody else said what `eid` maps to: what is pending inside is asked for no more.
    pub fn settle(&mut self, eid: &EidPrefix) {
        let covered: Vec<EidPrefix> = self.pending.within(eid).map(|(eid, _)| eid).collect();
        for eid in covered {
            self.forget(&eid);
        }
    }

    /// EID-Prefixes asked for and not answered, for the operator, with the number of tries so far.
    pub fn pending(&self) -> impl Iterator<Item = (EidPrefix, u32)> {
        self.pending.iter().map(|(eid, pending)| (eid, pending.tries))
    }

    /// Makes `eid` pending, unless it is already.
    fn ask(&mut self, now: Instant, eid: EidPrefix, source: Option<IpAddr>) -> Result<(), ResolverFault> {
        if self.pending.get(&eid).is_some() {
            return Ok(());
        }
        if self.database.covering(&eid).is_some() {
            return Err(ResolverFault::Local);
        }
        // An eighth is for what is refreshed: no misses, of however many instances, have a mapping in use lapse.
        let max = self.settings.pending_max;
        if self.pending.len() >= if source.is_some() { max - max / 8 } else { max } {
            return Err(ResolverFault::PendingFull);
        }
        if let Some(source) = source {
            self.sources.enter(eid.instance, source, &self.settings)?;
        }
        let refresh = source.is_none();
        let due = self.share(&eid, refresh).map_or(now, |(_, next)| next.max(now));
        let tries_max = if self.exhausted.get(&eid).is_some() { 1 } else { TRIES_MAX };
        let pending = Pending {
            source,
            refresh,
            solicited: false,
            tries: 0,
            tries_max,
            sent_at: None,
            due,
            nonces: Vec::new(),
            algorithm: 0,
            downgraded: false,
        };
        self.pending.insert(eid, pending);
        self.deadlines.insert((due, eid));
        Ok(())
    }

    /// What is pending is asked for because of an SMR now, as soon as its second is over: an answer on its way may be older.
    fn solicit(&mut self, now: Instant, eid: &EidPrefix) {
        let Some(pending) = self.pending.get_mut(eid) else { return };
        pending.solicited = true;
        self.hurry(now, eid);
    }

    /// What is pending is asked for again as soon as its second is over.
    fn hurry(&mut self, now: Instant, eid: &EidPrefix) {
        let Some(pending) = self.pending.get_mut(eid) else { return };
        let soon = pending.sent_at.map_or(now, |sent_at| now.max(sent_at + SPACING_MIN));
        if soon < pending.due && pending.tries < pending.tries_max {
            self.deadlines.remove(&(pending.due, *eid));
            pending.due = soon;
            self.deadlines.insert((soon, *eid));
        }
    }

    /// Sends or gives up whatever is due.
    fn run(&mut self, now: Instant, nonces: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        while self.due().is_some_and(|due| due <= now) {
            let Some((_, eid)) = self.deadlines.pop_first() else { return };
            if self.pending.get(&eid).is_some_and(|pending| pending.tries < pending.tries_max) {
                self.try_once(now, eid, nonces, todo);
            } else {
                self.give_up(now, eid, todo);
            }
        }
    }

    fn try_once(&mut self, now: Instant, eid: EidPrefix, nonces: &mut dyn FnMut() -> u64, todo: &mut Vec<Output>) {
        let Some(pending) = self.pending.get_mut(&eid) else { return };
        pending.tries += 1;
        let spacing = SPACING_MAX.min(SPACING_MIN.saturating_mul(1 << (pending.tries - 1).min(8)));
        pending.due = now + if pending.tries == pending.tries_max { LAST_WAIT } else { spacing };
        self.deadlines.insert((pending.due, eid));
        let refresh = pending.refresh;
        if let Some((named, next)) = self.share(&eid, refresh) {
            if next > now {
                return;
            }
            self.named.remember(named, now + NAMED_FOR, now + SPACING_MIN);
        }
        let Some(nonce) = (0..4).map(|_| nonces()).find(|nonce| !self.outstanding.contains_key(nonce)) else {
            todo.push(Output::Discard(ResolverFault::NonceRepeated));
            return;
        };
        let Some(pending) = self.pending.get_mut(&eid) else { return };
        pending.sent_at = Some(now);
        pending.nonces.push(nonce);
        let asking = self.settings.security.as_ref().filter(|_| !pending.downgraded);
        let (sealed, security) = asking.map(|asking| asking.seal(nonce, pending.algorithm, nonces)).unzip();
        self.outstanding.insert(nonce, Asked { eid, sealed });
        let source = pending.source.map(|address| Eid { instance: eid.instance, address });
        // A stranger's address is no EID, and its packet none of ours (RFC 9301 §5.2).
        let ours = |eid: &Eid| self.database.covering(&EidPrefix::host(*eid)).is_some();
        let source = source.filter(|eid| !self.settings.pitr || ours(eid));
        let lookup = MapRequest::lookup(nonce, source, &self.settings.itr_rlocs, eid);
        let pitr = self.settings.pitr && source.is_none();
        let message = MapRequest { smr_invoked: pending.solicited, pitr, ..lookup };
        todo.push(Output::Request {
            target: eid.prefix.address(),
            instance: eid.instance,
            refresh: pending.refresh && !pending.solicited,
            message,
            security: security.map(Vec::into_boxed_slice),
        });
    }

    /// The EID-Prefix whose second `eid` shares, and when the next Map-Request for it may go. A missed host belongs to the
    /// longest prefix that an answer named; a refreshed prefix is one itself.
    fn share(&self, eid: &EidPrefix, refresh: bool) -> Option<(EidPrefix, Instant)> {
        if refresh { self.named.get(eid).map(|next| (*eid, next)) } else { self.named.covering(eid) }
    }

    /// A refresh that nobody answers only lets the entry run out; a miss gets a short drop.
    fn give_up(&mut self, now: Instant, eid: EidPrefix, todo: &mut Vec<Output>) {
        let Some(pending) = self.forget(&eid) else { return };
        if !pending.refresh {
            self.exhausted.remember(eid, now + EXHAUSTED_FOR, ());
            todo.push(Output::GiveUp(eid));
        }
    }

    /// Checks a Map-Reply; what it says completes every pending EID-Prefix that it covers.
    fn answered(
        &mut self,
        now: Instant,
        mut reply: MapReply,
        octets: &[u8],
        todo: &mut Vec<Output>,
    ) -> Result<(), Refused> {
        let Asked { eid: asked, sealed } = self.outstanding.get(&reply.nonce).ok_or(ResolverFault::NonceUnknown)?;
        let (asked, is_sealed) = (*asked, sealed.is_some());
        // A refresh may be asked of a locator itself, as a probe (RFC 9301 §5.2).
        let refreshed = self.pending.get(&asked).is_some_and(|pending| pending.refresh) && !is_sealed;
        if reply.probe && !(refreshed && reply.probe_is_authoritative()) {
            return Err(ResolverFault::ProbeReply.into());
        }
        let is_proven = self.prove(now, &mut reply, octets, todo)?;
        self.spend(reply.nonce);
        let records = admission::admit(&self.settings, &self.database, &asked, reply.records)?;
        for record in &records {
            let covered: Vec<EidPrefix> = self.pending.within(&record.eid).map(|(eid, _)| eid).collect();
            let sent_at = covered.iter().filter_map(|eid| self.forget(eid)?.sent_at).max();
            if let Some(sent_at) = sent_at {
                self.named.remember(record.eid, now + NAMED_FOR, sent_at + SPACING_MIN);
            }
            for eid in &covered {
                self.exhausted.forget(eid);
            }
        }
        todo.extend(is_proven.then_some(Output::Proven));
        todo.push(Output::Install(records));
        Ok(())
    }

    /// The records of a probe reply that may refresh what is cached for `asked`: as checked as any, and none but of that
    /// prefix and beneath it. A locator that was asked itself does not speak for more.
    ///
    /// # Errors
    /// [`ResolverFault`], why they may not.
    pub fn confirmed(&self, asked: &EidPrefix, records: Vec<Mapping>) -> Result<Vec<Mapping>, ResolverFault> {
        let records = admission::admit(&self.settings, &self.database, asked, records)?;
        let within = records.iter().all(|record| asked.covers(&record.eid));
        if within { Ok(records) } else { Err(ResolverFault::Unrelated) }
    }

    /// Takes `eid` out of everything that waits for it.
    fn forget(&mut self, eid: &EidPrefix) -> Option<Pending> {
        let pending = self.pending.remove(eid)?;
        self.deadlines.remove(&(pending.due, *eid));
        for nonce in &pending.nonces {
            self.outstanding.remove(nonce);
        }
        if let Some(source) = pending.source {
            self.sources.leave(eid.instance, source);
        }
        Some(pending)
    }
}
