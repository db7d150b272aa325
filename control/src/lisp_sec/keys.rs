//! Keys of LISP-SEC: made, derived, wrapped and used. None of them is ever printed. What is kept of them is wiped when it goes, and
//! so is what hashes and ciphers keep; copies that the compiler leaves on the stack are not.
//!
//! ```text
//! per-msg-key = HKDF-SHA256(nonce | "OTK-Key-Wrap" | shared key)     RFC 9303 §6.5
//! wrapped     = AES-KEY-WRAP-128(per-msg-key, One-Time Key)          RFC 3394
//! MS-OTK      = KDF(ITR-OTK)                                         RFC 9303 §6.7
//! PubSubKey   = KDF(ITR-OTK | nonce)                                 RFC 9437 §7.1
//! ```
//!
//! The RFC gives no salt and no context: both are empty, and 16 octets are taken.

use aes_kw::{KeyInit as _, KwAes128};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::wire::{
    Algorithm, Key,
    lisp_sec::{Hash, WRAPPED},
};

/// Octets of a One-Time Key.
const LENGTH: usize = 16;
/// Key ID of Map-Notifies to a subscriber without a shared key: RFC 9437 §7.1 names none.
const PUBSUB_KEY_ID: u8 = 0;
/// What the mark of a key is derived with: no nonce has this length.
const MARK: &[u8] = b"mark";

/// A secret shared by an ITR and a Map-Resolver, a Map-Resolver and a Map-Server, or a Map-Server and an ETR.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey {
    /// Key ID.
    pub id: u8,
    secret: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SharedKey {
    /// A key of these octets.
    #[must_use]
    pub fn new(id: u8, secret: &[u8]) -> Self {
        Self { id, secret: Zeroizing::new(secret.to_vec()) }
    }

    /// Whether both hold the same secret.
    #[must_use]
    pub fn is_same_secret(&self, other: &Self) -> bool {
        self.secret == other.secret
    }

    /// What tells its secret from others, and nobody the secret, as long as that cannot be guessed.
    #[must_use]
    pub fn mark(&self) -> u128 {
        u128::from_be_bytes(*expand(Hash::Sha256, &[MARK, &self.secret]))
    }
}

/// A site's key signs its Map-Registers, and wraps what its Map-Server sends it.
impl From<&Key> for SharedKey {
    fn from(key: &Key) -> Self {
        Self::new(key.id, key.secret())
    }
}

/// A key for one Map-Request and the answers to it: ITR-OTK or MS-OTK.
#[derive(Clone, PartialEq, Eq)]
pub struct OneTimeKey(Zeroizing<[u8; LENGTH]>);

impl std::fmt::Debug for OneTimeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneTimeKey(..)")
    }
}

/// What was wrapped is no key: another shared key at the other end, another nonce, or changed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the One-Time Key was wrapped under another key, or changed on the way")]
pub struct NotWrapped;

impl OneTimeKey {
    /// A key of these octets.
    #[must_use]
    pub fn new(octets: [u8; LENGTH]) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// A new key; `words` gives 64 random bits at each call.
    pub fn random(words: &mut dyn FnMut() -> u64) -> Self {
        let mut octets = Zeroizing::new([0; LENGTH]);
        for word in octets.chunks_exact_mut(8) {
            word.copy_from_slice(&words().to_ne_bytes());
        }
        Self(octets)
    }

    /// The key that a Map-Server derives for the ETR: MS-OTK (RFC 9303 §6.7).
    #[must_use]
    pub fn derived(&self, kdf: Hash) -> Self {
        self.derived_with(&[], kdf)
    }

    /// KDF(key | `more`), as PubSub wants it of a nonce (RFC 9437 §7.1).
    #[must_use]
    pub fn derived_with(&self, more: &[u8], kdf: Hash) -> Self {
        Self(expand(kdf, &[&self.0[..], more]))
    }

    /// What signs Map-Notifies to who subscribed with this key and this nonce: PubSubKey, by the KDF that wraps the key (RFC
    /// 9437 §7.1).
    #[must_use]
    pub fn pubsub_key(&self, nonce: u64) -> Key {
        let key = self.derived_with(&nonce.to_be_bytes(), Hash::Sha256);
        Key::new(PUBSUB_KEY_ID, Algorithm::Sha256, &key.0[..])
    }

    /// What tells it from other keys, and nobody the key.
    #[must_use]
    pub fn mark(&self) -> u128 {
        u128::from_be_bytes(*self.derived_with(MARK, Hash::Sha256).0)
    }

    /// Preamble and key under a shared key, for the message with this nonce (RFC 9303 §6.5).
    #[must_use]
    pub fn wrapped(&self, nonce: u64, under: &SharedKey) -> [u8; WRAPPED] {
        let mut wrapped = [0; WRAPPED];
        let done = wrapper(nonce, under).wrap_key(&self.0[..], &mut wrapped).is_ok();
        assert!(done, "16 octets become 24");
        wrapped
    }

    /// The key out of its wrapping.
    ///
    /// # Errors
    /// [`NotWrapped`]: the message must be dropped (RFC 9303 §6.5).
    pub fn unwrapped(nonce: u64, wrapped: &[u8; WRAPPED], under: &SharedKey) -> Result<Self, NotWrapped> {
        let mut octets = Zeroizing::new([0; LENGTH]);
        wrapper(nonce, under).unwrap_key(wrapped, &mut octets[..]).map_err(|_| NotWrapped)?;
        Ok(Self(octets))
    }

    /// The MAC of octets in parts, as long as the hash cuts it.
    #[must_use]
    pub fn mac(&self, hash: Hash, parts: &[&[u8]]) -> Vec<u8> {
        let mut mac = match hash {
            Hash::Sha1 => mac_of::<Hmac<Sha1>>(&self.0[..], parts),
            Hash::Sha256 => mac_of::<Hmac<Sha256>>(&self.0[..], parts),
        };
        mac.truncate(hash.mac_length());
        mac
    }

    /// Whether `mac` is the MAC of `covered` with zeros in its own place at the end; in constant time.
    #[must_use]
    pub fn verifies(&self, hash: Hash, covered: &[u8], mac: &[u8]) -> bool {
        let zeros = [0; LENGTH];
        let is_long = mac.len() == hash.mac_length();
        is_long && bool::from(self.mac(hash, &[covered, &zeros[..mac.len()]]).ct_eq(mac))
    }

    /// Puts the MAC of `octets`, which end in zeros for it, into that place.
    pub fn sign(&self, hash: Hash, octets: &mut [u8]) {
        let mac = self.mac(hash, &[octets]);
        let at = octets.len() - mac.len();
        octets[at..].copy_from_slice(&mac);
    }
}

fn wrapper(nonce: u64, under: &SharedKey) -> KwAes128 {
    let key = expand(Hash::Sha256, &[&nonce.to_be_bytes(), b"OTK-Key-Wrap", &under.secret]);
    KwAes128::new(&(*key).into())
}

/// 16 octets of HKDF without salt and context.
fn expand(kdf: Hash, input: &[&[u8]]) -> Zeroizing<[u8; LENGTH]> {
    let input = Zeroizing::new(input.concat());
    let mut output = Zeroizing::new([0; LENGTH]);
    let done = match kdf {
        Hash::Sha1 => Hkdf::<Sha1>::new(None, &input).expand(&[], &mut output[..]),
        Hash::Sha256 => Hkdf::<Sha256>::new(None, &input).expand(&[], &mut output[..]),
    };
    done.expect("16 octets are not too many");
    output
}

fn mac_of<M: Mac + hmac::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as hmac::KeyInit>::new_from_slice(key).expect("an HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: u64 = 0x0a0b_0c0d_0e0f_1011;

    fn octets<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    fn itr_otk() -> OneTimeKey {
        OneTimeKey::new(octets("00112233445566778899aabbccddeeff"))
    }

    /// SEC-2: what was wrapped under another key, for another nonce, or changed on the way is no key.
    #[test]
    fn a_key_comes_out_of_its_wrapping_only_where_everything_fits() {
        let shared = SharedKey::new(1, b"itr-mr-psk");
        let wrapped = octets("2a0350ea098a2cfb46684b5ed5467f7777764416124d131f"); // vector E04
        assert_eq!(itr_otk().wrapped(NONCE, &shared), wrapped);
        assert_eq!(OneTimeKey::unwrapped(NONCE, &wrapped, &shared), Ok(itr_otk()));
        assert_eq!(OneTimeKey::unwrapped(NONCE, &wrapped, &SharedKey::new(1, b"other")), Err(NotWrapped));
        assert_eq!(OneTimeKey::unwrapped(NONCE + 1, &wrapped, &shared), Err(NotWrapped));
        for bit in 0..WRAPPED * 8 {
            let mut changed = wrapped;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(OneTimeKey::unwrapped(NONCE, &changed, &shared), Err(NotWrapped), "bit {bit}");
        }
    }

    #[test]
    fn the_key_for_the_etr_is_derived() {
        let derived = itr_otk().derived(Hash::Sha256);
        assert_eq!(derived, OneTimeKey::new(octets("a2f377ef8248cf00616538ff2ed3b979"))); // vector P30
        let others = [itr_otk().derived(Hash::Sha1), itr_otk().derived_with(&[0], Hash::Sha256), itr_otk()];
        assert!(others.iter().all(|other| *other != derived));
    }

    /// PS-9: computed once more by another routine, HKDF by hand out of two HMACs (RFC 5869 §2).
    #[test]
    fn the_key_of_a_subscription_is_derived_from_key_and_nonce() {
        let input = [&itr_otk().0[..], &NONCE.to_be_bytes()].concat();
        let extracted = mac_of::<Hmac<Sha256>>(&[0; 32], &[&input]);
        let expected = &mac_of::<Hmac<Sha256>>(&extracted, &[&[1]])[..16];
        assert_eq!(itr_otk().pubsub_key(NONCE), Key::new(0, Algorithm::Sha256, expected));
        assert_ne!(itr_otk().pubsub_key(NONCE), itr_otk().pubsub_key(NONCE + 1));
        let other = OneTimeKey::new([1; 16]);
        assert!(itr_otk().mark() == itr_otk().mark() && itr_otk().mark() != other.mark());
    }

    #[test]
    fn macs_are_as_long_as_the_rfc_cuts_them_and_none_other_is_right() {
        for (hash, length) in [(Hash::Sha1, 12), (Hash::Sha256, 16)] {
            let mut message = [&b"octets"[..], &[0; 16][..length]].concat();
            itr_otk().sign(hash, &mut message);
            let (covered, mac) = message.split_at(6);
            assert!(itr_otk().verifies(hash, covered, mac));
            assert!(!itr_otk().verifies(hash, b"octetz", mac) && !itr_otk().derived(hash).verifies(hash, covered, mac));
            for cut in 0..length {
                assert!(!itr_otk().verifies(hash, covered, &mac[..cut]));
            }
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let shown = format!("{:?} {:?}", itr_otk(), SharedKey::new(7, b"psk-of-this"));
        assert_eq!(shown, "OneTimeKey(..) SharedKey { id: 7, .. }");
        let mut word = 0;
        let key = OneTimeKey::random(&mut || {
            word += 1;
            word
        });
        assert_eq!((word, key == OneTimeKey::new([0; 16])), (2, false));
    }
}
