//! The Map-Server: believes what its sites' ETRs register, announces their EID-Prefixes into the ALT, and answers Map-Requests
//! for them or hands them to an ETR.
//!
//! ```text
//! Map-Register ─▶ registry ─ first of a configured prefix ─▶ Announce       Request ─ registered, P bit ─▶ Reply: what is stored
//!                    └─────── last of it gone ────────────▶ Withdraw                ─ registered ───────▶ Encapsulate to an ETR
//!                                                                                   ─ nobody serves it ─▶ Reply: negative, 1 min
//!                                                                                   ─ of no site ───────▶ Reply: negative, 15 min
//! ```
//!
//! The Map-Request goes to the ETR as it came, in an ECM; the ETR answers the ITR itself. What is configured is kept apart
//! from what is registered, so a site that is down for a minute is not declared to be no LISP site. A site may name ETRs in the
//! configuration: they serve what nobody has registered.
//!
//! xTRs that subscribe to a prefix hear of what changes there (`subscriptions`), where that is switched on.
//!
//! Sources: RFC 9301 §8.2, §8.3; RFC 6836 §4.2 (the other action); RFC 9303 §6.7 (LISP-SEC); RFC 9437 §5.

#![forbid(unsafe_code)]

mod fault;
mod nat;
mod registry;
mod secured;
mod site;
mod subscribe;
mod subscriptions;
#[cfg(test)]
mod tests;
mod view;

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use altitude_dataplane::mapping::{Action, Eid, EidPrefix, Mapping, Ttl};

pub(crate) use self::subscriptions::is_newer;
pub use self::{
    fault::SiteFault,
    registry::{
        Refusal, TIMEOUT,
        saved::{Cursor, Damaged, MAGIC, Restored},
        table::Who,
    },
    site::{PREFIXES_MAX, Proxying, Settings, Site, SiteId},
    subscriptions::{Peer, Publishing, Subscriber},
    view::{Held, Holder},
};
use self::{
    nat::Nat,
    registry::{Arrived, Registry},
    subscriptions::{Acked, Subscriptions},
};
use crate::{
    alt::datagrams::Unreachable,
    lisp_sec::gate::Protection,
    prefix_map::PrefixMap,
    rate::{Limited, Limits},
    rloc::{Families, answer_address, routable},
    wire::{
        Info, MapNotify, MapRegister, MapReply, MapRequest, XtrIdentity,
        ecm::{self, Ecm},
    },
};

/// Negative TTL of what no ETR serves now, minutes (RFC 9301 §8.3).
const UNSERVED_MINUTES: u32 = 1;
/// Negative TTL of what is in no site, minutes (RFC 9301 §8.3).
const OUTSIDE_MINUTES: u32 = 15;

/// What happens to the Map-Server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input<'a> {
    /// A Map-Register came.
    Register {
        /// Address and UDP port it came from.
        from: SocketAddr,
        /// Which of our addresses it was sent to.
        local: IpAddr,
        /// As read.
        message: &'a MapRegister,
        /// What it was read from.
        octets: &'a [u8],
    },
    /// A Map-Register came in an ECM with the N bit: through an RTR.
    Relayed {
        /// The RTR's address and UDP port.
        from: SocketAddr,
        /// Which of our addresses it was sent to.
        local: IpAddr,
        /// The ECM.
        ecm: &'a Ecm<'a>,
        /// What is inside.
        message: &'a MapRegister,
    },
    /// An Info-Request came.
    Info {
        /// Address and UDP port it came from.
        from: SocketAddr,
        /// Which of our addresses it was sent to.
        local: IpAddr,
        /// As read.
        message: &'a Info,
        /// What it was read from.
        octets: &'a [u8],
    },
    /// A Map-Notify-Ack came.
    Acknowledge {
        /// As read.
        message: &'a MapNotify,
        /// What it was read from.
        octets: &'a [u8],
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
        /// LISP-SEC's One-Time Key, if it came with one.
        protection: Option<&'a Protection>,
    },
    /// The time of [`MapServer::due`] has come.
    Wake,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Originate this prefix in the ALT.
    Announce(EidPrefix),
    /// Originate it no more.
    Withdraw(EidPrefix),
    /// An xTR registered a prefix that it had not. For the log.
    Registered {
        /// The site.
        site: SiteId,
        /// The prefix.
        eid: EidPrefix,
        /// Where the xTR is.
        by: IpAddr,
        /// The Key ID it used.
        key: u8,
    },
    /// An xTR's registration ended, or it took it back. For the log.
    Unregistered {
        /// The site.
        site: SiteId,
        /// The prefix.
        eid: EidPrefix,
        /// Where the xTR is.
        by: IpAddr,
    },
    /// An xTR subscribed, or did so again. For the log.
    Subscribed {
        /// The xTR.
        xtr: XtrIdentity,
        /// What it wants to hear of.
        eid: EidPrefix,
        /// Where it asked from.
        by: IpAddr,
    },
    /// A subscription ended. For the log.
    Unsubscribed {
        /// The xTR.
        xtr: XtrIdentity,
        /// What it asked for.
        eid: EidPrefix,
    },
    /// Send this Map-Notify from port 4342 of one of our addresses.
    Notify {
        /// The xTR.
        to: SocketAddr,
        /// The address that it registers at.
        local: IpAddr,
        /// The message.
        octets: Vec<u8>,
    },
    /// Send this Info-Reply from port 4342 of one of our addresses.
    Inform {
        /// Who asked, as we see it.
        to: SocketAddr,
        /// The address that was asked.
        local: IpAddr,
        /// The message.
        octets: Vec<u8>,
    },
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
        /// Not authoritative.
        message: MapReply,
    },
    /// Count this.
    Drop(SiteFault),
}

/// A Map-Request: [`Input::Request`].
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    eid: Eid,
    request: &'a MapRequest,
    source: SocketAddr,
    packet: &'a [u8],
    protection: Option<&'a Protection>,
}

/// The machine.
#[derive(Debug)]
pub struct MapServer {
    registry: Registry,
    /// `None`: nobody can subscribe.
    subscriptions: Option<Subscriptions>,
    nat: Nat,
    families: Families,
    unreachable: Unreachable,
    aggregates: Option<PrefixMap<()>>,
    limits: Limits<(IpAddr, Eid)>,
}

impl MapServer {
    /// A Map-Server where nothing is registered.
    #[must_use]
    pub fn new(mut settings: Settings, now: Instant) -> Self {
        let sites = std::mem::take(&mut settings.sites);
        Self {
            registry: Registry::new(&settings, sites, now),
            subscriptions: settings.publishing.take().map(|own| Subscriptions::new(own, settings.rlocs.clone())),
            nat: Nat::new(std::mem::take(&mut settings.relays)),
            families: Families::of(&settings.rlocs),
            unreachable: settings.unreachable,
            aggregates: settings.aggregates.map(|list| list.into_iter().map(|eid| (eid, ())).collect()),
            limits: Limits::new(settings.each, settings.all, settings.watched_max),
        }
    }

    /// The sites.
    pub fn sites(&self) -> impl Iterator<Item = (SiteId, &Site)> {
        self.registry.sites.iter().enumerate().map(|(index, site)| (SiteId(index), site))
    }

    /// Whether the EID is of a site, served or not.
    #[must_use]
    pub fn has(&self, eid: Eid) -> bool {
        self.registry.site_of(eid).is_some()
    }

    /// Whether anybody could register.
    #[must_use]
    pub fn takes_registrations(&self) -> bool {
        self.registry.sites.iter().any(|site| !site.keys.is_empty())
    }

    /// Announces what fixed ETRs serve in any case.
    pub fn begin(&self, todo: &mut Vec<Output>) {
        let always = self.registry.sites.iter().filter(|site| !site.etrs.is_empty());
        todo.extend(always.flat_map(|site| &site.eids).map(|eid| Output::Announce(*eid)));
    }

    /// When the next [`Input::Wake`] is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let subscriptions = self.subscriptions.as_ref().and_then(Subscriptions::due);
        [self.registry.due(), subscriptions].into_iter().flatten().min()
    }

    /// Takes in one input and appends what must be done to `todo`.
    pub fn step(&mut self, now: Instant, input: Input<'_>, todo: &mut Vec<Output>) {
        match input {
            Input::Register { from, local, message, octets } => {
                self.registry.register(now, Arrived { from, local, message, octets, relay: None }, todo);
            }
            Input::Relayed { from, local, ecm, message } => {
                let taken = self.relayed(now, (from, local), ecm, message, todo);
                todo.extend(taken.err().map(Output::Drop));
            }
            Input::Info { from, local, message, octets } => {
                todo.push(self.info(now, (from, local), message, octets).unwrap_or_else(Output::Drop));
            }
            Input::Acknowledge { message, octets } => {
                let taken = self.acknowledge(message, octets, todo);
                todo.extend(taken.err().map(Output::Drop));
            }
            Input::Request { eid, request, source, packet, protection } => {
                let asked = Asked { eid, request, source, packet, protection };
                let done = self.asked(now, &asked, todo);
                todo.extend(done.unwrap_or_else(|fault| Some(Output::Drop(fault))));
            }
            Input::Wake => self.registry.wake(now, todo),
        }
        self.publish(now, todo);
    }

    /// Takes in a Map-Notify-Ack, of a subscriber or of an ETR.
    fn acknowledge(&mut self, message: &MapNotify, octets: &[u8], todo: &mut Vec<Output>) -> Result<(), SiteFault> {
        let acked = self.subscriptions.as_mut().map_or(Acked::Nothing, |own| own.acknowledge(message, octets, todo));
        match acked {
            Acked::Taken => Ok(()),
            Acked::Forged => self.registry.acknowledge(message, octets).or(Err(SiteFault::SubscriptionAckMac)),
            Acked::Nothing => self.registry.acknowledge(message, octets),
        }
    }

    /// What has changed since it was last emptied, where the settings want it: to be appended to a snapshot.
    pub const fn journal(&mut self) -> Option<&mut Vec<u8>> {
        self.registry.journal.as_mut()
    }

    /// Appends some more of a snapshot of what is registered; true when it is complete. What changes meanwhile is in the
    /// journal, which must be appended to it.
    pub fn snapshot(&self, at: &mut Cursor, count: usize, out: &mut Vec<u8>) -> bool {
        at.registered = at.registered || self.registry.snapshot(at, count, out);
        let subscriptions = |at: &mut Cursor, out: &mut Vec<u8>| {
            self.subscriptions.as_ref().is_none_or(|own| own.snapshot(at, count, out))
        };
        at.registered && subscriptions(at, out)
    }

    /// Takes in a snapshot with its journal, as of before a restart.
    ///
    /// # Errors
    /// [`Damaged`]: nothing was taken in.
    pub fn restore(&mut self, now: Instant, octets: &[u8], todo: &mut Vec<Output>) -> Result<Restored, Damaged> {
        let mut restored = self.registry.restore(now, octets, todo)?;
        if let (Some(own), Some(changed)) = (&mut self.subscriptions, &mut self.registry.changed) {
            let changed = std::mem::take(changed);
            restored.subscriptions = own.restore(now, &self.registry, changed, octets);
        }
        Ok(restored)
    }

    /// Takes in a Map-Request: all are within the limits, some subscribe, the others want an answer.
    fn asked(&mut self, now: Instant, asked: &Asked<'_>, todo: &mut Vec<Output>) -> Result<Option<Output>, SiteFault> {
        let Asked { eid, request, source, .. } = *asked;
        if request.probe {
            return Err(SiteFault::Probe);
        }
        let asker = request.itr_rlocs.first().copied().unwrap_or(source.ip());
        self.limit(now, (asker, eid))?;
        if self.subscribed(now, asked, todo)? {
            return Ok(None);
        }
        let answer = self.request(now, asked)?;
        self.end_denied(now, asked, todo);
        Ok(Some(answer))
    }

    fn request(&mut self, now: Instant, asked: &Asked<'_>) -> Result<Output, SiteFault> {
        let Asked { eid, request, packet, protection, .. } = *asked;
        if let Some((found, head)) = self.registry.around(eid, request) {
            return self.registered(found, head, asked);
        }
        let Some((whole, site)) = self.registry.site_of(eid) else { return self.outside(asked) };
        if self.registry.sites[site.0].denied {
            return self.negative(asked, self.registry.gap(eid), UNSERVED_MINUTES, Action::DropPolicyDenied);
        }
        let Some((found, head)) = self.registry.serving(eid, &whole) else {
            return match self.fixed(site, packet) {
                // Nobody registered that he can sign.
                Some(_) if protection.is_some() => self.unsigned(asked),
                Some(handed) => Ok(handed),
                None => self.unserved(now, site, asked),
            };
        };
        self.registered(found, head, asked)
    }

    fn registered(&mut self, found: EidPrefix, head: u32, asked: &Asked<'_>) -> Result<Output, SiteFault> {
        let Asked { request, packet, protection, .. } = *asked;
        // With the A bit an ETR of the site is to answer (RFC 9301 §5.2).
        if !request.authoritative
            && self.registry.proxies(head)
            && let Some(reply) = self.proxy(found, asked)
        {
            return reply;
        }
        if protection.is_some() {
            return self.secured(head, found, asked);
        }
        let to = self.registry.etr(head, self.families).ok_or(SiteFault::NoEtr)?;
        Ok(Output::Encapsulate { to, message: ecm::encapsulate(packet) })
    }

    fn limit(&mut self, now: Instant, key: (IpAddr, Eid)) -> Result<(), SiteFault> {
        self.limits.take(now, &[key]).map_err(|limited| match limited {
            Limited::Spent | Limited::Overall => SiteFault::Limited,
            Limited::TableFull => SiteFault::WatchedFull,
        })
    }

    /// Hands the request to the next fixed ETR of the site, if it has one that can be reached.
    fn fixed(&mut self, site: SiteId, packet: &[u8]) -> Option<Output> {
        let families = self.families;
        let etrs = self.registry.sites[site.0].etrs.iter().filter(|etr| routable(**etr) && families.reach(**etr));
        let count = etrs.clone().count();
        let turn = &mut self.registry.states[site.0].turn;
        *turn = turn.wrapping_add(1);
        let to = *etrs.into_iter().nth(turn.wrapping_sub(1).checked_rem(count)?)?;
        Some(Output::Encapsulate { to, message: ecm::encapsulate(packet) })
    }

    /// Answers with what is stored; `None` if that fits no message.
    fn proxy(&self, found: EidPrefix, asked: &Asked<'_>) -> Option<Result<Output, SiteFault>> {
        let Asked { eid, request, source, protection, .. } = *asked;
        if request.dont_reply {
            return Some(Err(SiteFault::DontReply));
        }
        let Some(to) = answer_address(request, source, self.families) else {
            return Some(Err(SiteFault::NoItrRloc));
        };
        let growth = protection.map_or(0, Protection::growth);
        let fits = |records: &[Mapping]| reply_length(records) + growth <= payload_max(to.ip());
        let records = self.registry.records(eid, found, fits)?;
        let mut message = MapReply { nonce: request.nonce, probe: false, echo_nonce: false, records, security: None };
        if let Some(protection) = protection {
            protection.sign(&mut message, found, false);
        }
        Some(Ok(Output::Reply { to, message }))
    }

    fn unserved(&self, now: Instant, site: SiteId, asked: &Asked<'_>) -> Result<Output, SiteFault> {
        let action = self.unserved_action(now, site)?;
        self.negative(asked, self.registry.gap(asked.eid), UNSERVED_MINUTES, action)
    }

    fn unserved_action(&self, now: Instant, site: SiteId) -> Result<Action, SiteFault> {
        match self.unreachable {
            Unreachable::Silent => Err(SiteFault::Unserved),
            Unreachable::Drop => Ok(Action::Drop),
            _ if self.registry.fails(now, site) => Ok(Action::DropAuthFailure),
            _ => Ok(Action::NativelyForward),
        }
    }

    /// An EID of no site: what is said of it must not reach further than what we may speak of (RFC 9301 §8.3).
    fn outside(&self, asked: &Asked<'_>) -> Result<Output, SiteFault> {
        let hole = self.hole(asked.eid);
        if self.unreachable == Unreachable::Silent {
            return Err(SiteFault::Unserved);
        }
        self.negative(asked, hole, OUTSIDE_MINUTES, Action::NativelyForward)
    }

    fn hole(&self, eid: Eid) -> EidPrefix {
        let mut hole = self.registry.outside(eid);
        if let Some(aggregates) = &self.aggregates {
            let ours = aggregates.longest(eid).map_or(EidPrefix::host(eid), |(aggregate, ())| aggregate);
            if ours.prefix.length() > hole.prefix.length() {
                hole = ours;
            }
        }
        hole
    }

    fn negative(&self, asked: &Asked<'_>, about: EidPrefix, minutes: u32, action: Action) -> Result<Output, SiteFault> {
        let Asked { request, source, protection, .. } = *asked;
        if request.dont_reply {
            return Err(SiteFault::Unserved);
        }
        let to = answer_address(request, source, self.families).ok_or(SiteFault::NoItrRloc)?;
        let mut message = MapReply::negative(request.nonce, about, Ttl::Minutes(minutes), action);
        if let Some(protection) = protection {
            protection.sign(&mut message, about, false);
        }
        Ok(Output::Reply { to, message })
    }
}

/// Octets of a Map-Reply with these records (RFC 9301 §5.4), an Instance-ID counted for each EID where it has one.
fn reply_length(records: &[Mapping]) -> usize {
    let address = |address: IpAddr| if address.is_ipv4() { 6 } else { 18 };
    let record = |mapping: &Mapping| {
        let instance = if mapping.eid.instance.get() == 0 { 0 } else { 12 };
        let locators: usize = mapping.locators.iter().map(|locator| 6 + address(locator.address)).sum();
        10 + instance + address(mapping.eid.prefix.address()) + locators
    };
    12 + records.iter().map(record).sum::<usize>()
}

/// Octets of UDP payload that need no knowledge of the path's MTU (RFC 9301 §5).
const fn payload_max(to: IpAddr) -> usize {
    match to {
        IpAddr::V4(_) => 576 - 20 - 8,
        IpAddr::V6(_) => 1280 - 40 - 8,
    }
}
