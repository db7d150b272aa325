//! The Map-Server: announces its sites' EID-Prefixes into the ALT and hands Map-Requests for them to their ETRs.
//!
//! ```text
//! SiteUp ──▶ Announce the configured prefix, once       Request ─ a registered part of a site ─▶ Encapsulate to an ETR
//! SiteDown ▶ Withdraw it, when nothing of it is left            ─ a part that nobody serves ───▶ Reply: negative, 1 min
//! ```
//!
//! The Map-Request goes to the ETR as it came, in an ECM; the ETR answers the ITR itself. What is configured is kept apart
//! from what is registered, so a site that is down for a minute is not declared to be no LISP site. Sites come from the
//! configuration; a registration feeds the same inputs.
//!
//! Sources: RFC 9301 §8.2, §8.3; RFC 6836 §4.2 (the other action).

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use altitude_dataplane::mapping::{Action, Eid, EidPrefix, Ttl};

use crate::{
    alt::datagrams::Unreachable,
    fault::faults,
    prefix_map::PrefixMap,
    rate::{Limited, Limits, Rate},
    rloc::{Families, answer_address, routable},
    wire::{MapReply, MapRequest, ecm},
};

/// Negative TTL of what no ETR serves now, minutes (RFC 9301 §8.3).
const UNSERVED_MINUTES: u32 = 1;
/// Most prefixes registered for one site (RFC 7835 §3.9).
pub const REGISTERED_MAX: usize = 4096;

/// A site as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// What operators call it.
    pub name: String,
    /// Its EID-Prefixes.
    pub eids: Vec<EidPrefix>,
    /// Whether parts of them may be served by other ETRs than the whole.
    pub more_specifics: bool,
    /// RLOCs of ETRs that always serve it; none where all of them register.
    pub etrs: Vec<IpAddr>,
}

/// Which of the configured sites: its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub usize);

/// What the Map-Server is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sites; no EID-Prefix is in two of them.
    pub sites: Vec<Site>,
    /// Our RLOCs: their families are those we can send in.
    pub rlocs: Vec<IpAddr>,
    /// What to say about EIDs that no ETR serves now.
    pub unreachable: Unreachable,
    /// Map-Requests of one ITR-RLOC about one EID.
    pub each: Rate,
    /// Map-Requests altogether.
    pub all: Rate,
    /// Most pairs of ITR-RLOC and EID whose rate is watched at a time.
    pub watched_max: usize,
}

impl Settings {
    /// The defaults: 3 at once and one a second for each pair, 10 000 a second altogether.
    #[must_use]
    pub const fn new(sites: Vec<Site>, rlocs: Vec<IpAddr>) -> Self {
        Self {
            sites,
            rlocs,
            unreachable: Unreachable::NativelyForward,
            each: Rate { burst: 3, every: Duration::from_secs(1) },
            all: Rate { burst: 10_000, every: Duration::from_micros(100) },
            watched_max: 65_536,
        }
    }
}

/// What happens to the Map-Server.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    /// These ETRs serve this EID-Prefix of the site, from now on and instead of others.
    SiteUp {
        /// The site.
        site: SiteId,
        /// One of its prefixes, or a part of one where the site may have them.
        eid: EidPrefix,
        /// RLOCs of the ETRs.
        etrs: Vec<IpAddr>,
    },
    /// Nobody serves this EID-Prefix of the site any more.
    SiteDown {
        /// The site.
        site: SiteId,
        /// As it was up.
        eid: EidPrefix,
    },
    /// A Map-Request came, over the ALT or from a Map-Resolver.
    Request {
        /// The EID asked for.
        eid: Eid,
        /// The Map-Request.
        request: &'a MapRequest,
        /// IP source and UDP port of its datagram.
        source: SocketAddr,
        /// The whole IP packet, as it came.
        packet: &'a [u8],
    },
}

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Originate this prefix in the ALT.
    Announce(EidPrefix),
    /// Originate it no more.
    Withdraw(EidPrefix),
    /// Send this ECM to port 4342 of an ETR.
    Encapsulate {
        /// The ETR's RLOC.
        to: IpAddr,
        /// The message.
        message: Vec<u8>,
    },
    /// Send this Map-Reply from port 4342, on the underlay.
    Reply {
        /// One of the request's ITR-RLOCs, with the port the request came from.
        to: SocketAddr,
        /// One negative record.
        message: MapReply,
    },
    /// Count this.
    Drop(SiteFault),
}

faults! {
    /// Why a Map-Server refused a registration or did nothing about a Map-Request.
    SiteFault {
        /// A prefix that is not the site's, or part of one where parts are not allowed (RFC 9301 §8.2).
        ForeignPrefix = "site-foreign-prefix",
        /// As many prefixes as one site may have registered.
        TooManyPrefixes = "site-too-many-prefixes",
        /// No ETR that a packet of ours can reach.
        NoEtr = "site-no-etr",
        /// Not an EID of any site.
        NotOurs = "site-eid-not-ours",
        /// That ITR asked for that EID as often as allowed, or all of them together.
        Limited = "site-request-limited",
        /// As many pairs of ITR-RLOC and EID as can be watched.
        WatchedFull = "site-request-table-full",
        /// Nobody serves the EID, and no answer is wanted, or silence is configured.
        Unserved = "site-unserved",
        /// Nobody serves the EID, and no ITR-RLOC that a negative answer could reach.
        NoItrRloc = "site-no-itr-rloc",
    }
}

/// What one prefix has been registered with.
#[derive(Debug)]
struct Registration {
    site: SiteId,
    /// Those that can be reached; not empty.
    etrs: Vec<IpAddr>,
    /// The next one in turn: a retry after a loss finds another.
    next: usize,
}

/// The machine.
#[derive(Debug)]
pub struct MapServer {
    sites: Vec<Site>,
    configured: PrefixMap<SiteId>,
    registered: PrefixMap<Registration>,
    /// How many prefixes each site has registered.
    counts: Vec<usize>,
    families: Families,
    unreachable: Unreachable,
    limits: Limits<(IpAddr, Eid)>,
}

impl MapServer {
    /// A Map-Server whose sites are all down.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let sites = settings.sites.iter().enumerate();
        let configured = sites.flat_map(|(index, site)| site.eids.iter().map(move |eid| (*eid, SiteId(index))));
        Self {
            configured: configured.collect(),
            registered: PrefixMap::new(),
            counts: vec![0; settings.sites.len()],
            families: Families::of(&settings.rlocs),
            unreachable: settings.unreachable,
            limits: Limits::new(settings.each, settings.all, settings.watched_max),
            sites: settings.sites,
        }
    }

    /// The sites.
    pub fn sites(&self) -> impl Iterator<Item = (SiteId, &Site)> {
        self.sites.iter().enumerate().map(|(index, site)| (SiteId(index), site))
    }

    /// What is up: prefix, site, ETRs.
    pub fn registered(&self) -> impl Iterator<Item = (EidPrefix, SiteId, &[IpAddr])> {
        self.registered.iter().map(|(eid, known)| (eid, known.site, &known.etrs[..]))
    }

    /// Whether the EID is of a site, up or down.
    #[must_use]
    pub fn has(&self, eid: Eid) -> bool {
        self.configured.longest(eid).is_some()
    }

    /// The inputs that bring up what is configured to be always up.
    #[must_use]
    pub fn configured(&self) -> Vec<Input<'static>> {
        let always = self.sites().filter(|(_, site)| !site.etrs.is_empty());
        let up = |(id, site): (SiteId, &Site)| {
            let etrs = site.etrs.clone();
            let up = move |eid: &EidPrefix| Input::SiteUp { site: id, eid: *eid, etrs: etrs.clone() };
            site.eids.iter().map(up).collect::<Vec<_>>()
        };
        always.flat_map(up).collect()
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input<'_>, todo: &mut Vec<Output>) {
        let done = match input {
            Input::SiteUp { site, eid, etrs } => self.up(site, eid, etrs),
            Input::SiteDown { site, eid } => self.down(site, &eid),
            Input::Request { eid, request, source, packet } => {
                self.request(now, eid, request, source, packet).map(Some)
            }
        };
        todo.extend(done.unwrap_or_else(|fault| Some(Output::Drop(fault))));
    }

    fn up(&mut self, site: SiteId, eid: EidPrefix, mut etrs: Vec<IpAddr>) -> Result<Option<Output>, SiteFault> {
        let whole = self.prefix_of(site, &eid)?;
        etrs.retain(|etr| routable(*etr) && self.families.reach(*etr));
        if etrs.is_empty() {
            return Err(SiteFault::NoEtr);
        }
        let first = self.serving(&whole).next().is_none();
        if self.registered.get(&eid).is_none() {
            let count = &mut self.counts[site.0];
            if *count >= REGISTERED_MAX {
                return Err(SiteFault::TooManyPrefixes);
            }
            *count += 1;
        }
        self.registered.insert(eid, Registration { site, etrs, next: 0 });
        Ok(first.then_some(Output::Announce(whole)))
    }

    fn down(&mut self, site: SiteId, eid: &EidPrefix) -> Result<Option<Output>, SiteFault> {
        let whole = self.prefix_of(site, eid)?;
        if self.registered.remove(eid).is_none() {
            return Ok(None);
        }
        self.counts[site.0] -= 1;
        let last = self.serving(&whole).next().is_none();
        Ok(last.then_some(Output::Withdraw(whole)))
    }

    /// The configured prefix of the site that `eid` is, or may be a part of.
    fn prefix_of(&self, site: SiteId, eid: &EidPrefix) -> Result<EidPrefix, SiteFault> {
        let (whole, owner) = self.configured.covering(eid).ok_or(SiteFault::ForeignPrefix)?;
        let allowed = *owner == site && (whole == *eid || self.sites[site.0].more_specifics);
        if allowed { Ok(whole) } else { Err(SiteFault::ForeignPrefix) }
    }

    /// What is registered of a configured prefix, not of another one inside it.
    fn serving<'a>(&'a self, whole: &'a EidPrefix) -> impl Iterator<Item = EidPrefix> + 'a {
        let inside = self.registered.within(whole).map(|(eid, _)| eid);
        inside.filter(|eid| self.configured.covering(eid).is_some_and(|(covering, _)| covering == *whole))
    }

    fn request(
        &mut self,
        now: Instant,
        eid: Eid,
        request: &MapRequest,
        source: SocketAddr,
        packet: &[u8],
    ) -> Result<Output, SiteFault> {
        let (whole, _) = self.configured.longest(eid).ok_or(SiteFault::NotOurs)?;
        let asker = request.itr_rlocs.first().copied().unwrap_or(source.ip());
        self.limit(now, (asker, eid))?;
        let serving = self.registered.longest(eid).map(|(part, _)| part);
        // The ETR of a wider site does not serve a narrower one that is down.
        let Some(part) = serving.filter(|part| part.prefix.length() >= whole.prefix.length()) else {
            return self.unserved(eid, request, source);
        };
        let registration = self.registered.get_mut(&part).ok_or(SiteFault::NotOurs)?;
        let to = registration.etrs[registration.next % registration.etrs.len()];
        registration.next = registration.next.wrapping_add(1);
        Ok(Output::Encapsulate { to, message: ecm::encapsulate(packet) })
    }

    fn limit(&mut self, now: Instant, key: (IpAddr, Eid)) -> Result<(), SiteFault> {
        self.limits.take(now, &[key]).map_err(|limited| match limited {
            Limited::Spent | Limited::Overall => SiteFault::Limited,
            Limited::TableFull => SiteFault::WatchedFull,
        })
    }

    fn unserved(&self, eid: Eid, request: &MapRequest, source: SocketAddr) -> Result<Output, SiteFault> {
        if request.dont_reply || self.unreachable == Unreachable::Silent {
            return Err(SiteFault::Unserved);
        }
        let to = answer_address(request, source, self.families).ok_or(SiteFault::NoItrRloc)?;
        let action = if self.unreachable == Unreachable::Drop { Action::Drop } else { Action::NativelyForward };
        let gaps = [self.configured.gap(eid), self.registered.gap(eid)];
        let about = gaps.into_iter().max_by_key(|gap| gap.prefix.length()).unwrap_or(EidPrefix::host(eid));
        let message = MapReply::negative(request.nonce, about, Ttl::Minutes(UNSERVED_MINUTES), action);
        Ok(Output::Reply { to, message })
    }
}
