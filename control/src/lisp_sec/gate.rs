//! The part of everybody who is asked: Map-Resolver, Map-Server and ETR take One-Time Keys out of ECMs, hand them on, and sign
//! answers.

use std::net::IpAddr;

use altitude_dataplane::mapping::{Eid, EidPrefix, Prefix};

use super::{
    SecurityFault,
    keys::{OneTimeKey, SharedKey},
};
use crate::wire::{
    Key, MapReply, MapRequest,
    lisp_sec::{EidData, Hash, ReplyData, RequestData, wrapping},
};

/// Most octets that a Map-Reply grows by, where we say what its EIDs are: one IPv6 prefix in an instance.
const GROWTH: usize = 4 + 8 + 32 + 16 + 20;

/// Keys tried at most on one message: as many as an ETR's Map-Servers can have of one Key ID.
const TRIALS_MAX: usize = 16;

/// Who may ask with a One-Time Key, and who is asked with one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// ITRs and Map-Resolvers.
    pub clients: Vec<Client>,
    /// Keys of our site: its Map-Servers wrap what they send under them.
    pub site_keys: Vec<SharedKey>,
    /// Whom a Map-Resolver hands protected Map-Requests to.
    pub servers: Vec<Server>,
    /// Nothing is taken without protection but RLOC-probes and SMRs, which are believed to be no more than hints.
    pub strict: bool,
}

/// Keys shared with some ITRs or Map-Resolvers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Where they are; empty is anywhere.
    pub from: Vec<Prefix>,
    /// One or more.
    pub keys: Vec<SharedKey>,
}

/// A Map-Server that a Map-Resolver shares a key with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub address: IpAddr,
    /// What it serves.
    pub eids: Vec<EidPrefix>,
    /// Wraps One-Time Keys.
    pub key: SharedKey,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    settings: Option<Settings>,
}

/// The One-Time Key of a Map-Request, and what its answer shall be signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    otk: OneTimeKey,
    /// As they were asked for.
    ids: (u16, u16),
    /// The EID-AD of a Map-Server: then the key is an MS-OTK, and we are the ETR.
    granted: Option<Vec<u8>>,
    /// The mark of the key that it was wrapped under.
    under: u128,
}

/// What a subscription has of its Map-Request, where no key is shared (RFC 9437 §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// Signs its Map-Notifies.
    pub key: Key,
    /// What tells its One-Time Key from others.
    pub mark: u128,
    /// What tells whose LISP-SEC key admitted it from other keys: that alone is proven of who asks.
    pub client: u128,
}

impl Gate {
    /// A gate; without settings LISP-SEC is switched off.
    #[must_use]
    pub const fn new(settings: Option<Settings>) -> Self {
        Self { settings }
    }

    /// Whether nothing is taken without protection.
    #[must_use]
    pub const fn is_strict(&self) -> bool {
        matches!(&self.settings, Some(settings) if settings.strict)
    }

    /// Whether a Map-Request for our EIDs or sites may be answered, however it came.
    ///
    /// # Errors
    /// [`SecurityFault::Unprotected`]: drop and count.
    pub fn permit(&self, request: &MapRequest, protection: Option<&Protection>) -> Result<(), SecurityFault> {
        let refused = self.is_strict() && protection.is_none() && !request.probe;
        if refused { Err(SecurityFault::Unprotected) } else { Ok(()) }
    }

    /// What protects the Map-Request with this nonce that came in an ECM, with these authentication data or none.
    ///
    /// # Errors
    /// [`SecurityFault`]: drop and count.
    pub fn admit(
        &self,
        from: IpAddr,
        nonce: u64,
        security: Option<&[u8]>,
    ) -> Result<Option<Protection>, SecurityFault> {
        let (settings, security) = match (&self.settings, security) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return Err(SecurityFault::Off),
            (Some(settings), None) if settings.strict => return Err(SecurityFault::Unprotected),
            (Some(_), None) => return Ok(None),
            (Some(settings), Some(security)) => (settings, security),
        };
        let data = RequestData::parse(security).map_err(|_| SecurityFault::Malformed)?;
        if data.wrapping != wrapping::AES_128 {
            return Err(SecurityFault::Wrapping);
        }
        let clients = settings.clients.iter().filter(|client| client.has(from)).flat_map(|client| &client.keys);
        // What Map-Servers send has an EID-AD, what others send has none (RFC 9303 §6.1).
        let (keys, granted): (Vec<&SharedKey>, _) = match data.eids.signed {
            None => (clients.collect(), None),
            Some(_) => (settings.site_keys.iter().collect(), Some(data.eids.octets().to_vec())),
        };
        let mut fault = SecurityFault::UnknownKey;
        for key in keys.into_iter().filter(|key| key.id == data.key_id).take(TRIALS_MAX) {
            match OneTimeKey::unwrapped(nonce, &data.wrapped, key) {
                Ok(otk) => {
                    let ids = (data.hmac, data.eids.kdf);
                    return Ok(Some(Protection { otk, ids, granted, under: key.mark() }));
                }
                Err(_) => fault = SecurityFault::NotOurKey,
            }
        }
        Err(fault)
    }

    /// The Map-Server that a protected Map-Request for the EID is handed to.
    #[must_use]
    pub fn server(&self, eid: Eid) -> Option<&Server> {
        let host = EidPrefix::host(eid);
        let of =
            |server: &Server| server.eids.iter().filter(|own| own.covers(&host)).map(|own| own.prefix.length()).max();
        let servers = self.settings.iter().flat_map(|settings| &settings.servers);
        servers
            .filter_map(|server| Some((of(server)?, server)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, server)| server)
    }
}

impl Client {
    /// Whether somebody is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let meet = |one: &Prefix, other: &Prefix| one.contains(other.address()) || other.contains(one.address());
        let anywhere = self.from.is_empty() || other.from.is_empty();
        anywhere || self.from.iter().any(|one| other.from.iter().any(|other| meet(one, other)))
    }

    fn has(&self, address: IpAddr) -> bool {
        self.from.is_empty() || self.from.iter().any(|prefix| prefix.contains(address))
    }
}

impl Protection {
    /// What the answer is signed with: what was asked for, where that is spoken here (RFC 9303 §6.7.1, §6.8).
    fn hashes(&self) -> (Hash, Hash) {
        let of = |id| Hash::of_id(id).unwrap_or(Hash::Sha256);
        (of(self.ids.0), of(self.ids.1))
    }

    /// The authentication data of the ECM in which a Map-Resolver hands this Map-Request to a Map-Server: the same ITR-OTK under
    /// their key (RFC 9303 §6.6).
    #[must_use]
    pub fn onward(&self, nonce: u64, key: &SharedKey) -> Vec<u8> {
        let wrapped = self.otk.wrapped(nonce, key);
        RequestData::encode_with(self.ids.0, key.id, wrapping::AES_128, &wrapped, &EidData::bare(self.ids.1))
    }

    /// The authentication data of the ECM in which a Map-Server hands this Map-Request to an ETR: MS-OTK under the site's key, and
    /// what the ETR may speak of under the ITR-OTK (RFC 9303 §6.7.1).
    #[must_use]
    pub fn to_etr(&self, nonce: u64, key: &SharedKey, registered: EidPrefix, cant_sign: bool) -> Vec<u8> {
        let wrapped = self.otk.derived(self.hashes().1).wrapped(nonce, key);
        let eids = self.granted(registered, cant_sign);
        RequestData::encode_with(self.ids.0, key.id, wrapping::AES_128, &wrapped, &eids)
    }

    fn granted(&self, about: EidPrefix, cant_sign: bool) -> Vec<u8> {
        let (hmac, kdf) = self.hashes();
        let mut eids = EidData::unsigned(kdf.id(), hmac, cant_sign, &[about]);
        self.otk.sign(hmac, &mut eids);
        eids
    }

    /// What a subscription has of this Map-Request. `None`: it was handed to us as to an ETR, and the subscriber has another key.
    #[must_use]
    pub fn association(&self, nonce: u64) -> Option<Association> {
        let made = || Association { key: self.otk.pubsub_key(nonce), mark: self.otk.mark(), client: self.under };
        self.granted.is_none().then(made)
    }

    /// Octets that [`sign`](Self::sign) adds at most.
    #[must_use]
    pub fn growth(&self) -> usize {
        self.granted.as_ref().map_or(GROWTH, |eids| 4 + eids.len() + 20)
    }

    /// Protects an answer: an ETR copies what a Map-Server granted it (RFC 9303 §6.8); who answers a Map-Resolver's or an ITR's
    /// own message grants it himself, `about` being what he may speak of (RFC 9303 §6.7.2).
    pub fn sign(&self, reply: &mut MapReply, about: EidPrefix, cant_sign: bool) {
        let (hmac, kdf) = self.hashes();
        let (key, eids) = match &self.granted {
            Some(granted) => (self.otk.clone(), granted.clone()),
            None => (self.otk.derived(kdf), self.granted(about, cant_sign)),
        };
        reply.security = Some(ReplyData::unsigned(&eids, Some(hmac)));
        let mut octets = reply.encode();
        key.sign(hmac, &mut octets);
        let mac = &octets[octets.len() - hmac.mac_length()..];
        if let Some(security) = &mut reply.security {
            let at = security.len() - mac.len();
            security[at..].copy_from_slice(mac);
        }
    }

    /// The same for what speaks of the EID asked for: the widest of its records that holds it.
    pub fn sign_about(&self, reply: &mut MapReply, asked: Eid, cant_sign: bool) {
        let host = EidPrefix::host(asked);
        let holding = reply.records.iter().map(|record| record.eid).filter(|eid| eid.covers(&host));
        let about = holding.min_by_key(|eid| eid.prefix.length()).unwrap_or(host);
        self.sign(reply, about, cant_sign);
    }
}
