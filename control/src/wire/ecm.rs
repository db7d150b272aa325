//! Encapsulated Control Message, type 8: an IP packet with a control message inside another control message.
//!
//! ```text
//! |Type=8 |S|D|R|N|            Reserved (24)                      |
//! | authentication data           if S                            |
//! | IPv4 or IPv6 header | UDP header | control message            |
//! authentication data of type 1 are LISP-SEC's, of type 2 a Map-Server's for an RTR:
//! | AD Type = 2   |            Reserved (24)                      |
//! |    Key ID (8) | Algorithm ID (8)| Authentication Data Length(16)|
//! | MS-RTR Authentication Data ...                                |
//! ```
//!
//! R and N are NAT traversal's: this one is for the RTR to look at, this one an RTR has relayed. RFC 9301 §12.6 has other names
//! for them (E and M); who relays for nobody sends neither and looks at neither.
//!
//! The draft leaves open what the MS-RTR MAC is over, and what a key is derived from. Here it is over the whole message with
//! the authentication data zeroed, as everywhere else, so that nothing of the inner addresses or the first word can be changed
//! on the way; a key is derived from the nonce of the message inside.
//!
//! Source: RFC 9301 §5.8; authentication data RFC 9303 §6.1; R, N and type 2 draft-ermagan-lisp-nat-traversal-19 §4.3, §4.4.

#[cfg(test)]
mod tests;

use altitude_dataplane::wire::WireError as Malformed;

use super::{
    WireError,
    authentication::{self, Authentication, AuthenticationError, Form, Key},
    cursor::Cursor,
    lisp_sec::{EID_AD_MIN, LISP_SEC},
    packet::{self, UdpPacket},
};

/// The message's type.
pub const TYPE: u8 = 8;

const SECURITY: u8 = 0x08;
const DDT: u8 = 0x04;
const FOR_RTR: u8 = 0x02;
const RELAYED: u8 = 0x01;

/// The type of a Map-Server's authentication data for an RTR.
const MS_RTR: u8 = 2;
/// Where their Key ID stands in the message.
const MS_RTR_KEY_AT: usize = 4 + 4;
/// What a key for them is derived for.
const MS_RTR_SALT: &[u8] = b"MS-RTR Authentication";

/// An Encapsulated Control Message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ecm<'a> {
    /// D: the answer shall be a Map-Referral (RFC 8111 §5).
    pub ddt: bool,
    /// R: an RTR is to look at what is inside: a Map-Register of an xTR behind a NAT, or the Map-Notify for it.
    pub for_rtr: bool,
    /// N: an RTR has relayed what is inside.
    pub relayed: bool,
    /// S, and what it announces.
    pub proof: Option<Proof<'a>>,
    /// The inner IP packet, whole.
    pub packet: &'a [u8],
    /// Its datagram; the UDP checksum is right.
    pub datagram: UdpPacket<'a>,
}

/// The authentication data of an ECM, from their type on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof<'a> {
    /// LISP-SEC's; [`RequestData::parse`](super::lisp_sec::RequestData::parse) reads them.
    LispSec(&'a [u8]),
    /// Of a Map-Server that shares a key with the RTR; [`Ecm::verify`] does.
    MapServer(&'a [u8]),
}

impl<'a> Ecm<'a> {
    /// Reads a whole message. Octets behind the inner packet are ignored, as those behind any IP packet.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: cut off, another type, authentication data of an unknown type, or an inner packet that
    /// [`UdpPacket::parse`] refuses.
    pub fn parse(octets: &'a [u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(octets);
        let [first, _, _, _] = cursor.array()?;
        if first >> 4 != TYPE {
            return Err(Malformed::Contradiction("not an Encapsulated Control Message").into());
        }
        let proof = if first & SECURITY != 0 { Some(proof(&mut cursor)?) } else { None };
        let inner = cursor.rest();
        let datagram = UdpPacket::parse(inner)?;
        let length = packet::destination(inner).map_or(inner.len(), |(_, length)| length);
        let has = |bit| first & bit != 0;
        let (ddt, for_rtr, relayed) = (has(DDT), has(FOR_RTR), has(RELAYED));
        Ok(Self { ddt, for_rtr, relayed, proof, packet: &inner[..length], datagram })
    }

    /// The octets of the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.ddt, DDT) | flag(self.for_rtr, FOR_RTR) | flag(self.relayed, RELAYED);
        let (security, data) = match self.proof {
            Some(Proof::LispSec(data) | Proof::MapServer(data)) => (SECURITY, data),
            None => (0, &[][..]),
        };
        [&[TYPE << 4 | security | flags, 0, 0, 0], data, self.packet].concat()
    }

    /// LISP-SEC's authentication data.
    #[must_use]
    pub const fn security(&self) -> Option<&'a [u8]> {
        match self.proof {
            Some(Proof::LispSec(data)) => Some(data),
            _ => None,
        }
    }

    /// Whether `octets`, which this was read from, are what a Map-Server with one of `keys` sent; the key is told. `None` if no
    /// Map-Server claims that.
    ///
    /// # Errors
    /// [`AuthenticationError`]: drop and count, no answer.
    pub fn verify<'k>(&self, octets: &[u8], keys: &'k [Key]) -> Option<Result<&'k Key, AuthenticationError>> {
        let Some(Proof::MapServer(data)) = self.proof else { return None };
        let end = 4 + data.len() + self.packet.len();
        let named = keys.iter().find(|key| key.id == octets[MS_RTR_KEY_AT]);
        let key = named.ok_or(AuthenticationError::UnknownKey(octets[MS_RTR_KEY_AT]));
        let nonce = inner_nonce(self.datagram.payload);
        Some(key.and_then(|key| {
            authentication::verify_at(&octets[..end], MS_RTR_KEY_AT, key, MS_RTR_SALT, nonce).map(|()| key)
        }))
    }
}

/// Steps over the authentication data and returns them.
fn proof<'a>(cursor: &mut Cursor<'a>) -> Result<Proof<'a>, WireError> {
    let whole = cursor.rest();
    let [kind, _, _, _] = cursor.array()?;
    match kind {
        LISP_SEC => step_over_lisp_sec(cursor)?,
        MS_RTR => drop(Authentication::read(cursor)?),
        _ => return Err(Malformed::Contradiction("authentication data of an unknown type").into()),
    }
    let data = &whole[..whole.len() - cursor.rest().len()];
    Ok(if kind == LISP_SEC { Proof::LispSec(data) } else { Proof::MapServer(data) })
}

/// Steps over what follows the first word of LISP-SEC's.
fn step_over_lisp_sec(cursor: &mut Cursor<'_>) -> Result<(), WireError> {
    // RFC 9303 can be read to count the length word itself, which makes 28 of 24.
    let length = usize::from(cursor.u16()?);
    cursor.take(2)?;
    cursor.take(if length == 28 { 24 } else { length })?;
    let eid_ad = usize::from(cursor.u16()?);
    let rest = eid_ad.checked_sub(2).filter(|_| eid_ad >= usize::from(EID_AD_MIN));
    cursor.take(rest.ok_or(Malformed::Contradiction("EID-AD Length below 4"))?)?;
    Ok(())
}

/// Where all messages with a nonce have it; nothing where there is none.
fn inner_nonce(message: &[u8]) -> &[u8] {
    message.get(4..12).unwrap_or_default()
}

/// The message that carries `packet`, an IP packet with a control message.
#[must_use]
pub fn encapsulate(packet: &[u8]) -> Vec<u8> {
    [&[TYPE << 4, 0, 0, 0], packet].concat()
}

/// The same with LISP-SEC's authentication data, from their type on.
#[must_use]
pub fn encapsulate_secured(security: &[u8], packet: &[u8]) -> Vec<u8> {
    [&[TYPE << 4 | SECURITY, 0, 0, 0], security, packet].concat()
}

/// The same for an RTR to look at: R.
#[must_use]
pub fn encapsulate_for_rtr(packet: &[u8]) -> Vec<u8> {
    [&[TYPE << 4 | FOR_RTR, 0, 0, 0], packet].concat()
}

/// The same as an RTR passes it on: N.
#[must_use]
pub fn encapsulate_relayed(packet: &[u8]) -> Vec<u8> {
    [&[TYPE << 4 | RELAYED, 0, 0, 0], packet].concat()
}

/// The same for an RTR that shares `key` with the Map-Server that says so: R and S.
#[must_use]
pub fn encapsulate_vouched(key: &Key, form: Form, packet: &[u8]) -> Vec<u8> {
    let mut octets = vec![TYPE << 4 | FOR_RTR | SECURITY, 0, 0, 0, MS_RTR, 0, 0, 0];
    Authentication::room(key, form).write(&mut octets);
    octets.extend(packet);
    let nonce = UdpPacket::parse(packet).map_or(&[][..], |datagram| inner_nonce(datagram.payload)).to_vec();
    authentication::sign_at(&mut octets, MS_RTR_KEY_AT, key, MS_RTR_SALT, &nonce);
    octets
}
