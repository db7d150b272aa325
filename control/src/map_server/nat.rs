//! NAT traversal: xTRs ask what they look like and who relays for them, and register through RTRs.
//!
//! An RTR proves nothing by itself: what it relays is signed with the site's key as any Map-Register. Where a key is shared with it,
//! the Map-Notify that goes back through it proves to it that we said that, so that it may believe where the xTR is. So a
//! Map-Register that comes again is not answered again: it may be anybody's copy, whatever nonces its site may use otherwise.
//!
//! Source: draft-ermagan-lisp-nat-traversal-19 §4.1, §4.2, §4.4, §5.2.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{MapServer, Output, SiteFault, SiteId, registry::Arrived, registry::notify::CONTROL_PORT};
use crate::{
    nat::Peer,
    rate::{Buckets, Limits, Rate},
    wire::{
        AuthenticationError, Form, Info, Key, MapRegister, Translation,
        ecm::{self, Ecm},
        packet::UdpPacket,
    },
};

/// Info-Requests of one address: several xTRs, behind one NAT, each with several RLOCs.
const INFOS: Rate = Rate { burst: 32, every: Duration::from_millis(250) };
/// Info-Requests of one site that are proven to be its own, and of all sites: whoever has one can send it again from any address.
const SITES_INFOS: Rate = Rate { burst: 500, every: Duration::from_millis(4) };
const ALL_INFOS: Rate = Rate { burst: 2000, every: Duration::from_millis(1) };
/// Most addresses, and most sites, whose Info-Requests are counted at a time.
const WATCHED_MAX: usize = 65_536;
/// How long an Info-Reply holds, minutes.
const INFO_MINUTES: u32 = 1440;
/// TTL of the packet around a Map-Notify that goes back through an RTR.
const TTL: u8 = 64;

/// What NAT traversal adds to a Map-Server.
#[derive(Debug)]
pub(super) struct Nat {
    /// RTRs that xTRs are told of, and that may relay.
    relays: Vec<Peer>,
    /// Before anything is known of whom they are from, so that no address makes us verify many.
    infos: Buckets<IpAddr>,
    /// What is proven; of what is not, whatever its source, nobody's answer gets less.
    proven: Limits<SiteId>,
}

/// How a Map-Register came through an RTR.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relayed<'a> {
    /// The inner addresses: the xTR's own, and ours.
    inner: (SocketAddr, SocketAddr),
    /// What the RTR knows us by.
    key: Option<&'a Key>,
}

impl Nat {
    pub(super) fn new(relays: Vec<Peer>) -> Self {
        Self {
            relays,
            infos: Buckets::new(INFOS, WATCHED_MAX),
            proven: Limits::new(SITES_INFOS, ALL_INFOS, WATCHED_MAX),
        }
    }
}

impl Relayed<'_> {
    /// A Map-Notify on its way back.
    pub(super) fn enclose(self, notify: &[u8]) -> Vec<u8> {
        let (destination, source) = self.inner;
        let packet = UdpPacket { source, destination, ttl: TTL, payload: notify }.encode();
        match self.key {
            Some(key) => ecm::encapsulate_vouched(key, Form::default(), &packet),
            None => ecm::encapsulate_for_rtr(&packet),
        }
    }
}

impl MapServer {
    /// Whether xTRs behind NATs are served here.
    #[must_use]
    pub fn takes_relayed(&self) -> bool {
        !self.nat.relays.is_empty()
    }

    /// Takes in a Map-Register that an RTR relayed.
    pub(super) fn relayed(
        &mut self,
        now: Instant,
        (from, local): (SocketAddr, IpAddr),
        ecm: &Ecm<'_>,
        message: &MapRegister,
        todo: &mut Vec<Output>,
    ) -> Result<(), SiteFault> {
        let relay = self.nat.relays.iter().find(|relay| relay.address == from.ip()).ok_or(SiteFault::UnknownRtr)?;
        if message.xtr.is_none() {
            return Err(SiteFault::RelayedUnnamed);
        }
        let (source, destination) = (ecm.datagram.source, ecm.datagram.destination);
        // The RTR knows what waits by this address: it has to be one that we answer from.
        if destination != SocketAddr::new(local, CONTROL_PORT) {
            return Err(SiteFault::RelayedElsewhere);
        }
        let relay = Some(Relayed { inner: (source, destination), key: relay.keys.first() });
        let arrived = Arrived { from, local, message, octets: ecm.datagram.payload, relay };
        self.registry.register(now, arrived, todo);
        Ok(())
    }

    /// Tells an xTR of a site what it looks like from here, and who relays.
    pub(super) fn info(
        &mut self,
        now: Instant,
        (from, local): (SocketAddr, IpAddr),
        message: &Info,
        octets: &[u8],
    ) -> Result<Output, SiteFault> {
        self.nat.infos.take(now, from.ip()).map_err(|_| SiteFault::InfoLimited)?;
        let owner = self.registry.owner(&message.eid).ok_or(SiteFault::InfoUnknown)?;
        let (keys, form) = (&self.registry.sites[owner.0].keys, self.registry.sites[owner.0].form);
        let key = message.verify(octets, keys).map_err(|error| match error {
            AuthenticationError::UnknownKey(_) => SiteFault::InfoUnknownKey,
            _ => SiteFault::InfoMac,
        })?;
        self.nat.proven.take(now, &[owner]).map_err(|_| SiteFault::InfoLimited)?;
        let told = Translation {
            map_server_port: CONTROL_PORT,
            etr_port: from.port(),
            etr: from.ip(),
            map_server: Some(local),
            private_etr: None,
            rtrs: self.nat.relays.iter().map(|relay| relay.address).collect(),
        };
        let whole_mac = form.whole_mac || message.authentication.data.len() > 16;
        let reply = Info { ttl: INFO_MINUTES, reply: Some(told), ..message.clone() };
        Ok(Output::Inform { to: from, local, octets: reply.signed(key, Form { whole_mac, ..form }) })
    }
}
