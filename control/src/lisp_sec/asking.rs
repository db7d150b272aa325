//! The ITR's part: a One-Time Key for each Map-Request, and what its answer must prove.

use altitude_dataplane::mapping::{EidPrefix, Mapping};

use super::{
    SecurityFault,
    keys::{OneTimeKey, SharedKey},
};
use crate::wire::{
    Key, MapReply,
    lisp_sec::{EidData, Hash, ReplyData, RequestData, wrapping},
};

/// How an ITR asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// Shared with its Map-Resolvers.
    pub key: SharedKey,
    /// What answers shall be signed with, one or more, the best first.
    pub algorithms: Vec<Hash>,
    /// ETRs that cannot sign are believed where a Map-Server says so (E bit, RFC 9303 §6.7).
    pub downgrade: bool,
}

/// What is kept of a protected Map-Request, beside its nonce, until it is answered or given up (RFC 9303 §6.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    otk: OneTimeKey,
    hash: Hash,
}

/// What a Map-Reply proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Whom its sender may speak of.
    prefixes: Vec<EidPrefix>,
    /// E: some ETR cannot sign.
    pub cant_sign: bool,
    /// Whether the message itself is signed.
    pub signed: bool,
}

impl Asking {
    /// A new key for the Map-Request with this nonce, and the authentication data of its ECM. `algorithm` counts from the best,
    /// round and round; `words` gives 64 random bits at each call.
    pub fn seal(&self, nonce: u64, algorithm: usize, words: &mut dyn FnMut() -> u64) -> (Sealed, Vec<u8>) {
        let sealed =
            Sealed { otk: OneTimeKey::random(words), hash: self.algorithms[algorithm % self.algorithms.len()] };
        let (bare, hash) = (EidData::bare(sealed.hash.id()), sealed.hash.id());
        let wrapped = sealed.otk.wrapped(nonce, &self.key);
        let (key_id, wrapping) = (self.key.id, wrapping::AES_128);
        let octets = RequestData::encode_with(hash, key_id, wrapping, &wrapped, &bare);
        (sealed, octets)
    }

    /// Which algorithm to ask for when the one of this request was not heeded.
    #[must_use]
    pub fn after(&self, sealed: &Sealed) -> usize {
        self.algorithms.iter().position(|hash| *hash == sealed.hash).map_or(0, |at| at + 1)
    }
}

impl Sealed {
    /// What signs Map-Notifies to the subscription that this was asked for with (RFC 9437 §7.1).
    #[must_use]
    pub fn pubsub_key(&self, nonce: u64) -> Key {
        self.otk.pubsub_key(nonce)
    }

    /// What the Map-Reply proves; `octets` are what it was read from.
    ///
    /// # Errors
    /// [`SecurityFault`]: drop it and wait on (RFC 9303 §6.9).
    pub fn verify(&self, reply: &MapReply, octets: &[u8]) -> Result<Proof, SecurityFault> {
        let data = reply.security.as_deref().ok_or(SecurityFault::Stripped)?;
        let data = ReplyData::parse(data).map_err(|_| SecurityFault::Malformed)?;
        let signed = data.eids.signed.as_ref().ok_or(SecurityFault::Stripped)?;
        let id = self.hash.id();
        if signed.hmac != id || data.eids.kdf != id || data.packet.is_some_and(|(hmac, _)| hmac != id) {
            return Err(SecurityFault::Algorithm);
        }
        if !self.otk.verifies(self.hash, data.eids.covered(), signed.mac) {
            return Err(SecurityFault::EidMac);
        }
        if let Some((_, mac)) = data.packet {
            let covered = &octets[..octets.len().saturating_sub(mac.len())];
            if !self.otk.derived(self.hash).verifies(self.hash, covered, mac) {
                return Err(SecurityFault::PacketMac);
            }
        } else if !signed.cant_sign {
            return Err(SecurityFault::Stripped);
        }
        Ok(Proof { prefixes: signed.prefixes.clone(), cant_sign: signed.cant_sign, signed: data.packet.is_some() })
    }
}

impl Proof {
    /// Whether the record is within what its sender may speak of. One that is wider is none of it, though RFC 9303 §6.9 can
    /// be read to cut it to size: its example (§6.9.1) drops it.
    #[must_use]
    pub fn covers(&self, record: &Mapping) -> bool {
        self.prefixes.iter().any(|prefix| prefix.covers(&record.eid))
    }
}
