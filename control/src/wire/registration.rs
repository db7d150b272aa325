//! Map-Register, Map-Notify and Map-Notify-Ack, types 3, 4 and 5: one layout behind different first words.
//!
//! ```text
//! |Type=3 |P|S|I|        Reserved (12)    |E|T|a|R|M| Record Count|
//! |Type=4 |I|              Reserved (19)            | Record Count|     and 5
//! |                         Nonce (64)                            |
//! |    Key ID (8) | Algorithm ID (8)| Authentication Data Length(16)|
//! | Authentication Data ...                                       |
//! | EID-records ...                               Record Count times
//! | xTR-ID (128) | Site-ID (64)                   if I
//! ```
//!
//! A Map-Notify has no flags in RFC 9301 and yet the contents of the Map-Register it answers, so what is left over after the
//! last record is taken for the identity when it has that length and a bit says so: the first flag, where the NAT-traversal
//! draft has it, or the third, where routers copy it from the Map-Register.
//!
//! Source: RFC 9301 §5.6, §5.7; the I bit of types 4 and 5 draft-ermagan-lisp-nat-traversal-19 §4.4.

#[cfg(test)]
mod tests;

use altitude_dataplane::{mapping::Mapping, wire::WireError as Malformed};

use super::{
    WireError, XtrIdentity,
    authentication::{self, Authentication, AuthenticationError, Form, Key},
    cursor::Cursor,
    record,
};

pub(super) const MAP_REGISTER: u8 = 3;
pub(super) const MAP_NOTIFY: u8 = 4;
pub(super) const MAP_NOTIFY_ACK: u8 = 5;

const PROXY: u8 = 8;
const SECURITY: u8 = 4;
const IDENTITY: u8 = 2;
const EID_NOTIFY: u8 = 0x10;
const TTL_TIMEOUT: u8 = 8;
const MERGE: u8 = 4;
const WANT_NOTIFY: u8 = 1;
/// The I bit of types 4 and 5.
const NOTIFY_IDENTITY: u8 = 8;

/// An ETR's mappings for a Map-Server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "flags of the message")]
pub struct MapRegister {
    /// P bit: the Map-Server answers for the ETR.
    pub proxy: bool,
    /// S bit: the ETR speaks LISP-SEC.
    pub security: bool,
    /// E bit: a first-hop router has seen a dynamic EID.
    pub eid_notify: bool,
    /// T bit: the registration ends with the Record TTL instead of after three minutes.
    pub ttl_timeout: bool,
    /// a bit: locators of all xTRs that register the same EID-Prefix are merged.
    pub merge: bool,
    /// M bit: a Map-Notify is wanted.
    pub want_notify: bool,
    /// Grows with each message under one key and xTR-ID.
    pub nonce: u64,
    /// As it came, not verified; replaced by [`signed`](Self::signed).
    pub authentication: Authentication,
    /// Up to 255.
    pub records: Vec<Mapping>,
    /// Who sent it, with the I bit.
    pub xtr: Option<XtrIdentity>,
}

/// A Map-Server's word on mappings, or the thanks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapNotify {
    /// Type 5: a Map-Notify-Ack.
    pub ack: bool,
    /// Of what is answered; grows by one with each that answers nothing.
    pub nonce: u64,
    /// As it came, not verified; replaced by [`signed`](Self::signed).
    pub authentication: Authentication,
    /// Up to 255.
    pub records: Vec<Mapping>,
    /// Of the Map-Register, if there was one.
    pub xtr: Option<XtrIdentity>,
}

impl MapRegister {
    /// Records that fit the Record Count.
    pub const RECORDS_MAX: usize = 255;

    pub(super) fn parse(mut cursor: Cursor<'_>) -> Result<Self, WireError> {
        let [first, _, third, count] = cursor.array()?;
        let nonce = cursor.u64()?;
        let authentication = Authentication::read(&mut cursor)?;
        let records = read_records(&mut cursor, count)?;
        let identity = first & IDENTITY != 0;
        let xtr = identity.then(|| authentication::read_identity(&mut cursor)).transpose()?;
        cursor.end()?;
        Ok(Self {
            proxy: first & PROXY != 0,
            security: first & SECURITY != 0,
            eid_notify: third & EID_NOTIFY != 0,
            ttl_timeout: third & TTL_TIMEOUT != 0,
            merge: third & MERGE != 0,
            want_notify: third & WANT_NOTIFY != 0,
            nonce,
            authentication,
            records,
            xtr,
        })
    }

    /// The octets of the message, the authentication data as they are. Records beyond
    /// [`RECORDS_MAX`](Self::RECORDS_MAX) are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let first = flag(self.proxy, PROXY) | flag(self.security, SECURITY) | flag(self.xtr.is_some(), IDENTITY);
        let third = flag(self.eid_notify, EID_NOTIFY)
            | flag(self.ttl_timeout, TTL_TIMEOUT)
            | flag(self.merge, MERGE)
            | flag(self.want_notify, WANT_NOTIFY);
        let start = [MAP_REGISTER << 4 | first, 0, third];
        encode(start, self.nonce, &self.authentication, &self.records, self.xtr.as_ref())
    }

    /// The octets of the message with its authentication data, under `key`.
    #[must_use]
    pub fn signed(mut self, key: &Key, form: Form) -> Vec<u8> {
        self.authentication = Authentication::room(key, form);
        let mut octets = self.encode();
        authentication::sign(&mut octets, key, form, self.xtr.is_some());
        octets
    }

    /// Whether `octets`, which this was read from, are what the owner of one of `keys` sent; the key is told.
    ///
    /// # Errors
    /// [`AuthenticationError`]: drop and count, no answer.
    pub fn verify<'k>(&self, octets: &[u8], keys: &'k [Key]) -> Result<&'k Key, AuthenticationError> {
        verify(octets, &self.authentication, self.xtr.is_some(), keys)
    }
}

impl MapNotify {
    pub(super) fn parse(mut cursor: Cursor<'_>) -> Result<Self, WireError> {
        let [first, _, _, count] = cursor.array()?;
        let nonce = cursor.u64()?;
        let authentication = Authentication::read(&mut cursor)?;
        let records = read_records(&mut cursor, count)?;
        let xtr = if cursor.rest().is_empty() {
            None
        } else if first & (NOTIFY_IDENTITY | IDENTITY) == 0 {
            return Err(Malformed::Contradiction("octets left over after the message").into());
        } else {
            Some(authentication::read_identity(&mut cursor)?)
        };
        cursor.end()?;
        Ok(Self { ack: first >> 4 == MAP_NOTIFY_ACK, nonce, authentication, records, xtr })
    }

    /// The octets of the message, the authentication data as they are. Records beyond
    /// [`RECORDS_MAX`](MapRegister::RECORDS_MAX) are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = if self.ack { MAP_NOTIFY_ACK } else { MAP_NOTIFY };
        let identity = if self.xtr.is_some() { NOTIFY_IDENTITY } else { 0 };
        let start = [kind << 4 | identity, 0, 0];
        encode(start, self.nonce, &self.authentication, &self.records, self.xtr.as_ref())
    }

    /// The octets of the message with its authentication data, under `key`.
    #[must_use]
    pub fn signed(mut self, key: &Key, form: Form) -> Vec<u8> {
        self.authentication = Authentication::room(key, form);
        let mut octets = self.encode();
        authentication::sign(&mut octets, key, form, self.xtr.is_some());
        octets
    }

    /// As [`MapRegister::verify`].
    ///
    /// # Errors
    /// As there.
    pub fn verify<'k>(&self, octets: &[u8], keys: &'k [Key]) -> Result<&'k Key, AuthenticationError> {
        verify(octets, &self.authentication, self.xtr.is_some(), keys)
    }
}

fn read_records(cursor: &mut Cursor<'_>, count: u8) -> Result<Vec<Mapping>, WireError> {
    (0..count).map(|_| record::read_mapping(cursor)).collect()
}

fn encode(
    [first, second, third]: [u8; 3],
    nonce: u64,
    authentication: &Authentication,
    records: &[Mapping],
    xtr: Option<&XtrIdentity>,
) -> Vec<u8> {
    let records = &records[..records.len().min(MapRegister::RECORDS_MAX)];
    let mut octets = vec![first, second, third, records.len() as u8];
    octets.extend(nonce.to_be_bytes());
    authentication.write(&mut octets);
    for mapping in records {
        record::write_mapping(mapping, &mut octets);
    }
    if let Some(xtr) = xtr {
        octets.extend(xtr.xtr_id);
        octets.extend(xtr.site_id.to_be_bytes());
    }
    octets
}

fn verify<'k>(
    octets: &[u8],
    given: &Authentication,
    identity: bool,
    keys: &'k [Key],
) -> Result<&'k Key, AuthenticationError> {
    let key = given.key_of(keys)?;
    authentication::verify(octets, key, identity).map(|()| key)
}
