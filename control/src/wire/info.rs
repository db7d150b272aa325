//! Info-Request and Info-Reply, type 7: how an xTR learns what a NAT makes of its address and port, and who relays for it.
//!
//! ```text
//! |Type=7 |R|            Reserved (27)                            |
//! |                         Nonce (64)                            |
//! |    Key ID (8) | Algorithm ID (8)| Authentication Data Length(16)|
//! | Authentication Data ...                                       |
//! |                         TTL (32, minutes)                     |
//! | Reserved (8) | EID mask-len (8) | EID-Prefix-AFI (16)         |
//! | EID-Prefix ...                                                |
//! | AFI = 0                                        if not R: an Info-Request
//! | NAT-Traversal LCAF                             if R: an Info-Reply
//!
//! | AFI = 16387 | Rsvd1 (8) | Flags (8) | Type = 7 | Rsvd2 (8) | Length (16) |
//! | MS UDP port (16)              | ETR UDP port (16)             |
//! | AFI | Global ETR RLOC | AFI | MS RLOC | AFI | Private ETR RLOC | AFI | RTR RLOC | ...
//! ```
//!
//! The draft has a Key ID of 16 bits; its second octet is the algorithm here as in all other messages (RFC 9301 §5.6).
//!
//! Source: draft-ermagan-lisp-nat-traversal-19 §4.1, §4.2; the LCAF RFC 8060 §4.4.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use altitude_dataplane::{mapping::EidPrefix, wire::WireError as Malformed};

use super::{
    WireError,
    authentication::{self, Authentication, AuthenticationError, Form, Key},
    cursor::Cursor,
    lcaf, record,
};

pub(super) const TYPE: u8 = 7;

const REPLY: u8 = 0x08;

/// An Info-Request, or the Info-Reply to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The answer has that of the question.
    pub nonce: u64,
    /// As it came, not verified; replaced by [`signed`](Self::signed).
    pub authentication: Authentication,
    /// How long the answer holds, minutes.
    pub ttl: u32,
    /// A prefix of the site that asks: it tells the Map-Server whose key this is.
    pub eid: EidPrefix,
    /// The R bit, and what a Map-Server says with it; a question has nothing here.
    pub reply: Option<Translation>,
}

/// What a Map-Server saw of who asked it: the NAT-Traversal LCAF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// The port that the Map-Server was asked on.
    pub map_server_port: u16,
    /// The source port of the question as it arrived.
    pub etr_port: u16,
    /// The source address of the question as it arrived: the Global ETR RLOC.
    pub etr: IpAddr,
    /// The address that the Map-Server was asked on.
    pub map_server: Option<IpAddr>,
    /// What the xTR calls itself; nothing in a reply.
    pub private_etr: Option<IpAddr>,
    /// Who relays for xTRs behind NATs, at most [`RTRS_MAX`](Self::RTRS_MAX); what more there are is left out.
    pub rtrs: Vec<IpAddr>,
}

impl Info {
    pub(super) fn parse(mut cursor: Cursor<'_>) -> Result<Self, WireError> {
        let [first, _, _, _] = cursor.array()?;
        let nonce = cursor.u64()?;
        let authentication = Authentication::read(&mut cursor)?;
        let ttl = cursor.u32()?;
        let [_reserved, length] = cursor.array()?;
        let eid = record::read_prefix(length, &mut cursor)?;
        let told = lcaf::read_translation(&mut cursor)?;
        cursor.end()?;
        let reply = match (first & REPLY != 0, told) {
            (false, None) => None,
            (true, Some(body)) => Some(Translation::parse(body)?),
            (false, Some(_)) => return Err(Malformed::Contradiction("an Info-Request that answers").into()),
            (true, None) => return Err(Malformed::Contradiction("an Info-Reply that tells nothing").into()),
        };
        Ok(Self { nonce, authentication, ttl, eid, reply })
    }

    /// The octets of the message, the authentication data as they are.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![TYPE << 4 | if self.reply.is_some() { REPLY } else { 0 }, 0, 0, 0];
        octets.extend(self.nonce.to_be_bytes());
        self.authentication.write(&mut octets);
        octets.extend(self.ttl.to_be_bytes());
        octets.extend([0, self.eid.prefix.length()]);
        record::write_prefix(&self.eid, &mut octets);
        match &self.reply {
            None => lcaf::write_absent(&mut octets),
            Some(told) => lcaf::write_translation(&told.body(), &mut octets),
        }
        octets
    }

    /// The octets of the message with its authentication data, under `key`.
    #[must_use]
    pub fn signed(mut self, key: &Key, form: Form) -> Vec<u8> {
        self.authentication = Authentication::room(key, form);
        let mut octets = self.encode();
        authentication::sign(&mut octets, key, form, false);
        octets
    }

    /// Whether `octets`, which this was read from, are what the owner of one of `keys` sent; the key is told.
    ///
    /// # Errors
    /// [`AuthenticationError`]: drop and count, no answer.
    pub fn verify<'k>(&self, octets: &[u8], keys: &'k [Key]) -> Result<&'k Key, AuthenticationError> {
        let key = self.authentication.key_of(keys)?;
        authentication::verify(octets, key, false).map(|()| key)
    }
}

impl Translation {
    /// RTRs that are believed of one reply.
    pub const RTRS_MAX: usize = 16;

    fn parse(mut cursor: Cursor<'_>) -> Result<Self, WireError> {
        let (map_server_port, etr_port) = (cursor.u16()?, cursor.u16()?);
        let etr = lcaf::read_rloc(&mut cursor)?;
        let etr = etr.ok_or(Malformed::Contradiction("an Info-Reply without the Global ETR RLOC"))?;
        let (map_server, private_etr) = (lcaf::read_rloc(&mut cursor)?, lcaf::read_rloc(&mut cursor)?);
        let mut rtrs = Vec::new();
        while !cursor.rest().is_empty() {
            // All are read, so that what makes no sense is seen wherever it stands.
            rtrs.extend(lcaf::read_rloc(&mut cursor)?.filter(|_| rtrs.len() < Self::RTRS_MAX));
        }
        Ok(Self { map_server_port, etr_port, etr, map_server, private_etr, rtrs })
    }

    /// What stands in the LCAF behind its length.
    fn body(&self) -> Vec<u8> {
        let mut body = self.map_server_port.to_be_bytes().to_vec();
        body.extend(self.etr_port.to_be_bytes());
        lcaf::write_rloc(self.etr, &mut body);
        for address in [self.map_server, self.private_etr] {
            match address {
                Some(address) => lcaf::write_rloc(address, &mut body),
                None => lcaf::write_absent(&mut body),
            }
        }
        self.rtrs.iter().take(Self::RTRS_MAX).for_each(|rtr| lcaf::write_rloc(*rtr, &mut body));
        body
    }
}
