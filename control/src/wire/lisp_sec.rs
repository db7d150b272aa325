//! LISP-SEC authentication data: how an answer proves which EID-Prefixes its sender may speak of, and that nobody changed it.
//!
//! ```text
//! in an ECM, directly after its first word
//! | ECM AD Type=1 | Unassigned(8) | Requested HMAC ID (16)        |
//! | OTK Length (16)               | Key ID (8)  | OTK Wrap ID (8) |
//! | One-Time Key Preamble (64), wrapped One-Time Key (128)        |
//! | EID-AD
//! in a Map-Reply, directly after the last record
//! | MR AD Type=1  | Unassigned (24)                               |
//! | EID-AD | PKT-AD Length (16) | PKT HMAC ID (16) | PKT HMAC ... |
//! EID-AD
//! | EID-AD Length (16)            | KDF ID (16)                   |
//! | Record Count(8) |E|Unass.(7)  | EID HMAC ID (16)              |   an ITR's ends before this word
//! | Unassigned (8) | EID mask-len (8) | EID-AFI (16) | EID-Prefix ...      Record Count times
//! | EID HMAC ...
//! ```
//!
//! The lengths of EID-AD and PKT-AD count themselves. That of the key can be read to count its own word or not: 24 is written,
//! 24 and 28 are read. No MAC is computed or verified here ([`crate::lisp_sec`] does).
//!
//! Source: RFC 9303 §6.1, §6.2, §8.

use altitude_dataplane::{mapping::EidPrefix, wire::WireError as Malformed};

use super::{WireError, cursor::Cursor, record};

/// The type of both authentication data.
pub(super) const LISP_SEC: u8 = 1;
/// Octets of a One-Time Key with its preamble.
pub const WRAPPED: usize = 24;
/// The same with the length word counted.
const WRAPPED_WITH_WORD: usize = 28;
/// EID-AD Length counts itself and the KDF ID.
pub(super) const EID_AD_MIN: u16 = 4;
/// PKT-AD Length counts itself and the PKT HMAC ID.
const PKT_AD_MIN: u16 = 4;
const CANT_SIGN: u8 = 0x80;

/// How a One-Time Key is wrapped: the OTK Wrapping IDs (RFC 9303 §8.3).
pub mod wrapping {
    /// Not at all: only for a channel that is encrypted itself.
    pub const NULL: u8 = 1;
    /// AES Key Wrap under a key of HKDF-SHA256.
    pub const AES_128: u8 = 2;
}

/// What authenticates, and what derives keys: HMAC IDs and KDF IDs have the same numbers (RFC 9303 §8.2, §8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// 1: AUTH-HMAC-SHA-1-96 and HKDF-SHA1-128.
    Sha1,
    /// 2: AUTH-HMAC-SHA-256-128 and HKDF-SHA256.
    Sha256,
}

impl Hash {
    /// Its HMAC ID and KDF ID.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 1,
            Self::Sha256 => 2,
        }
    }

    /// The one of an ID; 0 is no preference.
    #[must_use]
    pub const fn of_id(id: u16) -> Option<Self> {
        match id {
            1 => Some(Self::Sha1),
            2 => Some(Self::Sha256),
            _ => None,
        }
    }

    /// Octets of its MAC.
    #[must_use]
    pub const fn mac_length(self) -> usize {
        match self {
            Self::Sha1 => 12,
            Self::Sha256 => 16,
        }
    }
}

/// The authentication data of an ECM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestData<'a> {
    /// The HMAC ID that the answer shall have; 0 is no preference.
    pub hmac: u16,
    /// Which shared key the One-Time Key is wrapped under.
    pub key_id: u8,
    /// How it is wrapped: one of [`wrapping`].
    pub wrapping: u8,
    /// Preamble and One-Time Key.
    pub wrapped: [u8; WRAPPED],
    /// What the asker may be told of.
    pub eids: EidData<'a>,
}

/// The EID-AD: the EID-Prefixes that whoever signs is allowed to speak of, as a Map-Server knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EidData<'a> {
    octets: &'a [u8],
    /// The KDF ID; 0 is no preference.
    pub kdf: u16,
    /// What a Map-Server adds; an ITR leaves it out.
    pub signed: Option<Signed<'a>>,
}

/// The part of an EID-AD that a Map-Server fills in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<'a> {
    /// E: some ETR of these EID-Prefixes cannot sign its answers.
    pub cant_sign: bool,
    /// EID HMAC ID.
    pub hmac: u16,
    /// The EID-Prefixes.
    pub prefixes: Vec<EidPrefix>,
    /// EID HMAC, not verified.
    pub mac: &'a [u8],
}

/// The authentication data of a Map-Reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyData<'a> {
    /// Which EID-Prefixes its sender may speak of.
    pub eids: EidData<'a>,
    /// PKT HMAC ID and PKT HMAC, not verified. It ends the message. `None`: the sender cannot sign.
    pub packet: Option<(u16, &'a [u8])>,
}

impl<'a> RequestData<'a> {
    /// Reads the authentication data of an ECM, from their type on.
    ///
    /// # Errors
    /// [`WireError`]: cut off, another type, lengths that do not fit, or an EID that is not spoken.
    pub fn parse(octets: &'a [u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(octets);
        let [kind, _] = cursor.array()?;
        if kind != LISP_SEC {
            return Err(Malformed::Contradiction("authentication data of an unknown type").into());
        }
        let hmac = cursor.u16()?;
        let length = usize::from(cursor.u16()?);
        if length != WRAPPED && length != WRAPPED_WITH_WORD {
            return Err(Malformed::Contradiction("a One-Time Key of another length").into());
        }
        let [key_id, wrapping] = cursor.array()?;
        let data = Self { hmac, key_id, wrapping, wrapped: cursor.array()?, eids: EidData::read(&mut cursor)? };
        cursor.end()?;
        Ok(data)
    }

    /// The octets, from the type on; the EID-AD as it is.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Self::encode_with(self.hmac, self.key_id, self.wrapping, &self.wrapped, self.eids.octets)
    }

    /// The same of parts, with the octets of an EID-AD.
    #[must_use]
    pub fn encode_with(hmac: u16, key_id: u8, wrapping: u8, wrapped: &[u8; WRAPPED], eids: &[u8]) -> Vec<u8> {
        let mut octets = vec![LISP_SEC, 0];
        octets.extend(hmac.to_be_bytes());
        octets.extend((WRAPPED as u16).to_be_bytes());
        octets.extend([key_id, wrapping]);
        octets.extend(wrapped);
        octets.extend(eids);
        octets
    }
}

impl<'a> EidData<'a> {
    /// Reads an EID-AD off the front of what is left.
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        let whole = cursor.rest();
        let length = cursor.u16()?;
        let rest = length.checked_sub(2).filter(|_| length >= EID_AD_MIN);
        let mut inside =
            Cursor::new(cursor.take(rest.ok_or(Malformed::Contradiction("EID-AD Length below 4"))?.into())?);
        let octets = &whole[..length.into()];
        let kdf = inside.u16()?;
        if inside.rest().is_empty() {
            return Ok(Self { octets, kdf, signed: None });
        }
        let [count, flags] = inside.array()?;
        let hmac = inside.u16()?;
        let mut prefixes = Vec::new();
        for _ in 0..count {
            let [_unassigned, length] = inside.array()?;
            prefixes.push(record::read_prefix(length, &mut inside)?);
        }
        let signed = Signed { cant_sign: flags & CANT_SIGN != 0, hmac, prefixes, mac: inside.rest() };
        Ok(Self { octets, kdf, signed: Some(signed) })
    }

    /// As it came: an ETR copies it.
    #[must_use]
    pub const fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// What the EID HMAC is over, but for the HMAC, which counts as zeros (RFC 9303 §6.7.1). §6.9 names the HMAC ID instead, which
    /// nobody could verify. Everything, where there is none.
    #[must_use]
    pub fn covered(&self) -> &'a [u8] {
        let mac = self.signed.as_ref().map_or(0, |signed| signed.mac.len());
        &self.octets[..self.octets.len() - mac]
    }

    /// The EID-AD of an ITR.
    #[must_use]
    pub const fn bare(kdf: u16) -> [u8; EID_AD_MIN as usize] {
        let [high, low] = kdf.to_be_bytes();
        [0, EID_AD_MIN as u8, high, low]
    }

    /// The EID-AD of a Map-Server, with zeros for its MAC, which are its last octets. At most 255 EID-Prefixes are told.
    #[must_use]
    pub fn unsigned(kdf: u16, hmac: Hash, cant_sign: bool, prefixes: &[EidPrefix]) -> Vec<u8> {
        let prefixes = &prefixes[..prefixes.len().min(u8::MAX.into())];
        let mut octets = Self::bare(kdf).to_vec();
        octets.extend([prefixes.len() as u8, if cant_sign { CANT_SIGN } else { 0 }]);
        octets.extend(hmac.id().to_be_bytes());
        for eid in prefixes {
            octets.extend([0, eid.prefix.length()]);
            record::write_prefix(eid, &mut octets);
        }
        octets.resize(octets.len() + hmac.mac_length(), 0);
        let length = octets.len() as u16;
        octets[..2].copy_from_slice(&length.to_be_bytes());
        octets
    }
}

impl<'a> ReplyData<'a> {
    /// Reads the authentication data of a Map-Reply, from their type to the end of the message.
    ///
    /// # Errors
    /// [`WireError`]: cut off, another type, lengths that do not fit, or an EID that is not spoken.
    pub fn parse(octets: &'a [u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(octets);
        let [kind, _, _, _] = cursor.array()?;
        if kind != LISP_SEC {
            return Err(Malformed::Contradiction("authentication data of an unknown type").into());
        }
        let eids = EidData::read(&mut cursor)?;
        if cursor.rest().is_empty() {
            return Ok(Self { eids, packet: None });
        }
        let length = cursor.u16()?;
        let hmac = cursor.u16()?;
        let mac = length.checked_sub(PKT_AD_MIN).ok_or(Malformed::Contradiction("PKT-AD Length below 4"))?;
        let mac = cursor.take(mac.into())?;
        cursor.end()?;
        Ok(Self { eids, packet: Some((hmac, mac)) })
    }

    /// The octets with this EID-AD and zeros for the PKT HMAC, which are the last ones; without a hash, no PKT-AD.
    #[must_use]
    pub fn unsigned(eids: &[u8], hmac: Option<Hash>) -> Vec<u8> {
        let mut octets = [&[LISP_SEC, 0, 0, 0], eids].concat();
        if let Some(hmac) = hmac {
            octets.extend((PKT_AD_MIN + hmac.mac_length() as u16).to_be_bytes());
            octets.extend(hmac.id().to_be_bytes());
            octets.resize(octets.len() + hmac.mac_length(), 0);
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(text: &str, instance: u32) -> EidPrefix {
        let instance = altitude_dataplane::mapping::InstanceId::new(instance).unwrap();
        EidPrefix { instance, prefix: text.parse().unwrap() }
    }

    #[test]
    fn octets_and_value() {
        let prefixes = [eid("198.51.100.0/24", 0), eid("2001:db8::/32", 77)];
        for (hash, mac) in [(Hash::Sha1, 12), (Hash::Sha256, 16)] {
            let eids = EidData::unsigned(2, hash, true, &prefixes);
            assert_eq!(eids.len(), 8 + (2 + 6) + (2 + 8 + 4 + 18) + mac);
            let reply = ReplyData::unsigned(&eids, Some(hash));
            let read = ReplyData::parse(&reply).unwrap();
            let signed = read.eids.signed.clone().unwrap();
            assert_eq!(
                (read.eids.octets(), read.eids.kdf, read.packet.unwrap()),
                (&eids[..], 2, (hash.id(), &[0; 16][..mac]))
            );
            assert_eq!(
                (signed.cant_sign, signed.hmac, &signed.prefixes[..], signed.mac.len()),
                (true, hash.id(), &prefixes[..], mac)
            );
            assert_eq!(read.eids.covered(), &eids[..eids.len() - mac]);
            assert_eq!(ReplyData::parse(&ReplyData::unsigned(&eids, None)).unwrap().packet, None);

            let request =
                RequestData { hmac: 1, key_id: 9, wrapping: wrapping::AES_128, wrapped: [7; 24], eids: read.eids };
            let octets = request.encode();
            assert_eq!(RequestData::parse(&octets), Ok(request.clone()));
            let with_word: Vec<u8> = [&octets[..5], &[28], &octets[6..]].concat();
            assert_eq!(RequestData::parse(&with_word), Ok(request));
            for length in 0..octets.len() {
                assert!(RequestData::parse(&octets[..length]).is_err(), "cut to {length}");
            }
            for length in (0..reply.len()).filter(|length| *length != reply.len() - mac - 4) {
                assert!(ReplyData::parse(&reply[..length]).is_err(), "cut to {length}");
            }
        }
    }

    /// SEC-3.
    #[test]
    fn an_itr_says_nothing_of_eids() {
        let bare = EidData::bare(2);
        assert_eq!(bare, [0, 4, 0, 2]);
        let octets = [&[1, 0, 0, 2, 0, 24, 1, 2][..], &[7; 24], &bare].concat();
        let read = RequestData::parse(&octets).unwrap();
        assert_eq!((read.eids.kdf, &read.eids.signed, &read.encode()), (2, &None, &octets));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let data = |head: &[u8], eids: &[u8]| [head, &[7; 24][..], eids].concat();
        for wrong in [
            data(&[2, 0, 0, 2, 0, 24, 1, 2], &[0, 4, 0, 2]),    // another type
            data(&[1, 0, 0, 2, 0, 25, 1, 2], &[0, 4, 0, 2]),    // the key's length
            data(&[1, 0, 0, 2, 0, 24, 1, 2], &[0, 3, 0, 2]),    // EID-AD Length
            data(&[1, 0, 0, 2, 0, 24, 1, 2], &[0, 4, 0, 2, 0]), // something left over
            data(&[1, 0, 0, 2, 0, 24, 1, 2], &[0, 9, 0, 2, 1, 0, 0, 2, 0]), // a record cut off
            data(&[1, 0, 0, 2, 0, 24, 1, 2], &[0xff, 0xff, 0, 2, 1, 0, 0, 2]), // beyond the end
        ] {
            assert!(RequestData::parse(&wrong).is_err(), "{wrong:?}");
        }
        for wrong in [
            &[2, 0, 0, 0, 0, 4, 0, 2][..],
            &[1, 0, 0, 0, 0, 4, 0, 2, 0, 3, 0, 2],
            &[1, 0, 0, 0, 0, 4, 0, 2, 0, 5, 0, 2],
        ] {
            assert!(ReplyData::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
