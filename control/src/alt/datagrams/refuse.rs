//! What is said of an EID without a way on: a negative Map-Reply, an ICMP error, or nothing, all of it limited.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use altitude_dataplane::mapping::{Action, Eid, EidPrefix, Ttl};

use super::{DatagramFault, Engine, Output, Settings, Unreachable};
use crate::{
    alt::{icmp, rib::Rib},
    rate::{Limited, Limits},
    rloc::{Families, answer_address},
    wire::{MapReply, MapRequest},
};

/// Negative TTL of a hole, minutes (RFC 9301 §8.3).
const HOLE_MINUTES: u32 = 15;
/// Negative TTL of what cannot be reached now, minutes (RFC 9301 §8.3).
const UNREACHABLE_MINUTES: u32 = 1;

/// Why there is no way on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dead {
    /// In an aggregate of ours, but in no site.
    Hole,
    /// The route leads back where the request came from, or into a tunnel that is down or not there.
    Unusable,
    /// No route at all.
    NoRoute,
    /// No route at all, where all routes are known.
    Nowhere,
}

/// What may still be said, and to whom.
#[derive(Debug)]
pub(super) struct Refusals {
    unreachable: Unreachable,
    families: Families,
    replies: Limits<(IpAddr, EidPrefix)>,
    errors: Limits<IpAddr>,
}

impl Refusals {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            unreachable: settings.unreachable,
            families: Families::of(&settings.rlocs),
            replies: Limits::new(settings.each, settings.all, settings.watched_max),
            errors: Limits::new(settings.icmp_each, settings.icmp_all, settings.watched_max),
        }
    }

    /// The families we can answer in.
    pub(super) const fn families(&self) -> Families {
        self.families
    }

    /// Pairs and RLOCs watched.
    #[cfg(test)]
    pub(super) fn watched(&self) -> usize {
        self.replies.watched().max(self.errors.watched())
    }

    fn take_reply(&mut self, now: Instant, key: (IpAddr, EidPrefix)) -> Result<(), DatagramFault> {
        self.replies.take(now, &[key]).map_err(|limited| match limited {
            Limited::Spent | Limited::Overall => DatagramFault::ReplyLimited,
            Limited::TableFull => DatagramFault::WatchedFull,
        })
    }
}

impl Engine {
    /// A negative answer or an ICMP error about `packet` within the limits, if one is wanted.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        request: &MapRequest,
        source: SocketAddr,
        (eid, dead): (Eid, Dead),
        packet: &[u8],
        rib: &dyn Rib,
    ) -> Result<Output, DatagramFault> {
        if dead != Dead::Unusable && went_lately(now, eid, rib) {
            return Err(DatagramFault::LatelyLost);
        }
        // A hole of our own, and what a Map-Resolver knows of no site, is an answer, not a failure.
        let failure = matches!(dead, Dead::Unusable | Dead::NoRoute);
        match self.refusals.unreachable {
            _ if request.dont_reply || request.smr => return Err(DatagramFault::Unreachable),
            Unreachable::Silent if failure => return Err(DatagramFault::Unreachable),
            Unreachable::Icmp if failure => {
                return self.error(now, icmp::Error::Unreachable, DatagramFault::Unreachable, source.ip(), packet);
            }
            _ => {}
        }
        let to = answer_address(request, source, self.refusals.families).ok_or(DatagramFault::NoItrRloc)?;
        self.refusals.take_reply(now, (to.ip(), EidPrefix::host(eid)))?;
        Ok(self.negative(request, eid, dead, to, rib))
    }

    /// What becomes of a datagram whose TTL is used up.
    pub(super) fn expired(&mut self, now: Instant, to: IpAddr, packet: &[u8]) -> Result<Output, DatagramFault> {
        match self.refusals.unreachable {
            Unreachable::Icmp => self.error(now, icmp::Error::TimeExceeded, DatagramFault::TtlExpired, to, packet),
            _ => Err(DatagramFault::TtlExpired),
        }
    }

    /// An ICMP error from our RLOC of the family of `to`; without one there is only the fault to count.
    fn error(
        &mut self,
        now: Instant,
        error: icmp::Error,
        fault: DatagramFault,
        to: IpAddr,
        packet: &[u8],
    ) -> Result<Output, DatagramFault> {
        let from = self.rlocs.iter().find(|rloc| rloc.is_ipv4() == to.is_ipv4()).ok_or(fault)?;
        let packet = icmp::packet(error, *from, to, packet).ok_or(fault)?;
        self.refusals.errors.take(now, &[to]).map_err(|_| DatagramFault::IcmpLimited)?;
        Ok(Output::Icmp { to, packet, fault })
    }

    /// Speaks of no more than is known to be so: in an aggregate or a route, of what no other route and no site of ours reaches
    /// into; without a route, of the EID alone.
    pub(super) fn negative(&self, request: &MapRequest, eid: Eid, dead: Dead, to: SocketAddr, rib: &dyn Rib) -> Output {
        let (minutes, action) = match (dead, self.refusals.unreachable) {
            (Dead::Hole | Dead::Nowhere, _) => (HOLE_MINUTES, Action::NativelyForward),
            (_, Unreachable::Drop) => (UNREACHABLE_MINUTES, Action::Drop),
            _ => (UNREACHABLE_MINUTES, Action::NativelyForward),
        };
        let about = if dead == Dead::NoRoute { EidPrefix::host(eid) } else { self.gap(eid, rib) };
        Output::NegativeReply { to, message: MapReply::negative(request.nonce, about, Ttl::Minutes(minutes), action) }
    }

    /// The widest prefix around `eid` that no route, no EID-Prefix of ours and no site reaches into.
    fn gap(&self, eid: Eid, rib: &dyn Rib) -> EidPrefix {
        let routes = EidPrefix { prefix: rib.gap(eid.instance, eid.address), instance: eid.instance };
        // All three hold the EID, so each lies inside the wider ones.
        let gaps = [self.database.gap(eid), self.sites.gap(eid), routes];
        gaps.into_iter().max_by_key(|gap| gap.prefix.length()).unwrap_or(routes)
    }
}

/// Whether a better route than the one there is, if any, went lately.
pub(super) fn went_lately(now: Instant, eid: Eid, rib: &dyn Rib) -> bool {
    let length = rib.route(eid.instance, eid.address).map(|(prefix, _)| prefix.length());
    rib.went_lately(now, eid, length)
}
