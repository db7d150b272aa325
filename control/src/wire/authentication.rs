//! Authentication data: what proves that a Map-Register, Map-Notify, Map-Notify-Ack or Info message came from who shares a key.
//!
//! ```text
//! |    Key ID (8) | Algorithm ID (8)| Authentication Data Length(16)|
//! |                     Authentication Data ...                     |
//! ```
//!
//! The MAC is over the whole message with the authentication data zeroed. Deployed routers differ from RFC 9301 in two
//! ways, and both forms are accepted: they do not cut the MAC off (20 and 32 octets where the RFC has 12 and 16), and
//! they include the trailing xTR-ID and Site-ID, which the RFC leaves out.
//!
//! Source: RFC 9301 §5.6, §12.5; RFC 2404, RFC 4868 (lengths), RFC 5869 (HKDF).

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use altitude_dataplane::wire::WireError as Malformed;

use super::{WireError, cursor::Cursor};

/// Where Key ID stands in all these messages.
const AT: usize = 12;
/// Octets of Key ID, Algorithm ID and length.
const BEFORE_DATA: usize = 4;
/// Octets of xTR-ID and Site-ID.
const IDENTITY: usize = 24;

/// How a MAC is computed (RFC 9301 §12.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// 1: HMAC-SHA-1-96. Not for the public Internet (RFC 9301 §1.1).
    Sha1,
    /// 2: HMAC-SHA-256-128.
    Sha256,
    /// 3: HMAC-SHA-256-128 under a key derived for each message.
    Sha256Hkdf,
}

impl Algorithm {
    /// Every algorithm, by number.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha256Hkdf];

    /// The Algorithm ID.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Sha1 => 1,
            Self::Sha256 => 2,
            Self::Sha256Hkdf => 3,
        }
    }

    /// Octets of its MAC: as the RFC cuts it, and whole.
    const fn lengths(self) -> [usize; 2] {
        match self {
            Self::Sha1 => [12, 20],
            Self::Sha256 | Self::Sha256Hkdf => [16, 32],
        }
    }
}

/// A secret shared with a Map-Server, and how to use it. The secret is wiped when it goes and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Key ID: several may be valid at once, to change them without a gap.
    pub id: u8,
    /// The only algorithm that is accepted with it.
    pub algorithm: Algorithm,
    secret: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// A key of these octets.
    #[must_use]
    pub fn new(id: u8, algorithm: Algorithm, secret: &[u8]) -> Self {
        Self { id, algorithm, secret: Zeroizing::new(secret.to_vec()) }
    }

    /// The same under another Key ID.
    pub(crate) fn with_id(&self, id: u8) -> Self {
        Self { id, ..self.clone() }
    }

    /// What is shared.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

/// What a peer's messages look like, where RFC and deployed code differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Form {
    /// The MAC is not cut off: 20 and 32 octets.
    pub whole_mac: bool,
    /// The MAC ends with the last record, and xTR-ID and Site-ID are unprotected (RFC 9301 §5.6 to the letter).
    pub records_only: bool,
}

/// Key ID, Algorithm ID and MAC as they stand in a message, not verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Authentication {
    /// Key ID.
    pub key_id: u8,
    /// Algorithm ID; 0 is none.
    pub algorithm: u8,
    /// Authentication data, at most 65,535 octets.
    pub data: Vec<u8>,
}

/// Why a message is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// Its Key ID names no key of ours.
    #[error("key {0} is not known")]
    UnknownKey(u8),
    /// Another algorithm than the key's, or none.
    #[error("algorithm {0} is not the one of this key")]
    Algorithm(u8),
    /// A MAC of a length that its algorithm does not have.
    #[error("{0} octets of authentication data are not what the algorithm gives")]
    Length(usize),
    /// The MAC is of another key or of other octets.
    #[error("the authentication data are wrong: not the same key at both ends, or changed on the way")]
    Mac,
}

impl Authentication {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let [key_id, algorithm] = cursor.array()?;
        let length = cursor.u16()?;
        Ok(Self { key_id, algorithm, data: cursor.take(length.into())?.to_vec() })
    }

    pub(super) fn write(&self, octets: &mut Vec<u8>) {
        let data = &self.data[..self.data.len().min(u16::MAX.into())];
        octets.extend([self.key_id, self.algorithm]);
        octets.extend((data.len() as u16).to_be_bytes());
        octets.extend(data);
    }

    /// The key that is named.
    pub(super) fn key_of<'k>(&self, keys: &'k [Key]) -> Result<&'k Key, AuthenticationError> {
        keys.iter().find(|key| key.id == self.key_id).ok_or(AuthenticationError::UnknownKey(self.key_id))
    }

    /// Room for a MAC under `key`, zeroed.
    pub(super) fn room(key: &Key, form: Form) -> Self {
        let length = key.algorithm.lengths()[usize::from(form.whole_mac)];
        Self { key_id: key.id, algorithm: key.algorithm.number(), data: vec![0; length] }
    }
}

/// Puts the MAC into a message that has zeroed room for it and ends in an identity or not.
pub(super) fn sign(message: &mut [u8], key: &Key, form: Form, identity: bool) {
    let covered = if form.records_only && identity { message.len() - IDENTITY } else { message.len() };
    let data = data_range(message, AT);
    let mac = mac(key, salt(message), nonce(message), &[&message[..covered]]);
    message[data.clone()].copy_from_slice(&mac[..data.len()]);
}

/// Whether the MAC of a message that was read whole is right under `key`, in constant time; `identity` tells whether
/// xTR-ID and Site-ID are its end.
///
/// # Errors
/// [`AuthenticationError`], all but `UnknownKey`, which is for who chooses the key.
pub(super) fn verify(message: &[u8], key: &Key, identity: bool) -> Result<(), AuthenticationError> {
    let (before, given, after) = given(message, AT, key)?;
    let zeros = vec![0; given.len()];
    let (salt, nonce) = (salt(message), nonce(message));
    let is_right =
        |after: &[u8]| bool::from(mac(key, salt, nonce, &[before, &zeros, after])[..given.len()].ct_eq(given));
    // Both are computed where both may be right: which one was meant does not show in the time taken.
    let whole = is_right(after);
    let records = identity && is_right(&after[..after.len() - IDENTITY]);
    if whole | records { Ok(()) } else { Err(AuthenticationError::Mac) }
}

/// Puts the MAC into a message whose Key ID stands at `at`, which has zeroed room for it, and whose own nonce is `nonce`.
pub(super) fn sign_at(message: &mut [u8], at: usize, key: &Key, salt: &[u8], nonce: &[u8]) {
    let data = data_range(message, at);
    let mac = mac(key, salt, nonce, &[message]);
    message[data.clone()].copy_from_slice(&mac[..data.len()]);
}

/// Whether such a MAC is right, in constant time.
///
/// # Errors
/// As [`verify`].
pub(super) fn verify_at(
    message: &[u8],
    at: usize,
    key: &Key,
    salt: &[u8],
    nonce: &[u8],
) -> Result<(), AuthenticationError> {
    let (before, given, after) = given(message, at, key)?;
    let mac = mac(key, salt, nonce, &[before, &vec![0; given.len()], after]);
    if bool::from(mac[..given.len()].ct_eq(given)) { Ok(()) } else { Err(AuthenticationError::Mac) }
}

/// What stands before the MAC, the MAC, and what stands behind it.
type Parts<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// A message apart, if algorithm and length of its MAC are this key's.
fn given<'a>(message: &'a [u8], at: usize, key: &Key) -> Result<Parts<'a>, AuthenticationError> {
    let algorithm = message[at + 1];
    if algorithm != key.algorithm.number() {
        return Err(AuthenticationError::Algorithm(algorithm));
    }
    let data = data_range(message, at);
    let given = &message[data.clone()];
    if !key.algorithm.lengths().contains(&given.len()) {
        return Err(AuthenticationError::Length(given.len()));
    }
    Ok((&message[..data.start], given, &message[data.end..]))
}

/// Where the authentication data are, if their Key ID stands at `at`.
fn data_range(message: &[u8], at: usize) -> std::ops::Range<usize> {
    let length = u16::from_be_bytes([message[at + 2], message[at + 3]]);
    at + BEFORE_DATA..at + BEFORE_DATA + usize::from(length)
}

/// The nonce of all messages that have one.
fn nonce(message: &[u8]) -> &[u8] {
    &message[4..AT]
}

/// What the key of such a message is derived for: its name.
fn salt(message: &[u8]) -> &'static [u8] {
    match message[0] >> 4 {
        super::registration::MAP_REGISTER => b"Map-Register Authentication",
        super::registration::MAP_NOTIFY => b"Map-Notify Authentication",
        super::info::TYPE => b"Info Authentication",
        _ => b"Map-Notify-Ack Authentication",
    }
}

/// The MAC, not cut off, of a message in parts; the derived key depends on `salt` and `nonce`.
fn mac(key: &Key, salt: &[u8], nonce: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    fn over<M: Mac + KeyInit>(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(secret).expect("an HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().to_vec()
    }
    match key.algorithm {
        Algorithm::Sha1 => over::<Hmac<Sha1>>(&key.secret, parts),
        Algorithm::Sha256 => over::<Hmac<Sha256>>(&key.secret, parts),
        Algorithm::Sha256Hkdf => over::<Hmac<Sha256>>(&derived(key, salt, nonce)[..], parts),
    }
}

/// The key of one message: HKDF-SHA256 with the message's name as salt, nonce and secret as input and no context. RFC 9301
/// §5.6 leaves open which input is which.
fn derived(key: &Key, salt: &[u8], nonce: &[u8]) -> Zeroizing<[u8; 32]> {
    let input = Zeroizing::new([nonce, &key.secret[..]].concat());
    let mut output = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), &input).expand(&[], &mut output[..]).expect("32 octets are not too many");
    output
}

/// Reads the 24 octets of an identity.
pub(super) fn read_identity(cursor: &mut Cursor<'_>) -> Result<super::XtrIdentity, Malformed> {
    Ok(super::XtrIdentity { xtr_id: cursor.array()?, site_id: cursor.u64()? })
}
