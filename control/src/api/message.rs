//! Octets ⇄ header and TLVs.

use std::net::IpAddr;

/// Octets of a header.
pub const HEADER: usize = 32;
/// Largest message, octets.
pub const MESSAGE_MAX: usize = 65_536;

const MAGIC: [u8; 4] = *b"ALT1";

/// Types of TLVs.
pub(super) mod kind {
    /// The high bit of a type: a receiver that does not know it refuses the message.
    pub(in crate::api) const MANDATORY: u16 = 0x8000;

    pub(in crate::api) const TABLE: u16 = 1;
    pub(in crate::api) const IID: u16 = 2;
    pub(in crate::api) const EID: u16 = 3;
    pub(in crate::api) const MAPPING: u16 = 4;
    pub(in crate::api) const RLOC: u16 = 5;
    pub(in crate::api) const MISS_INFO: u16 = 6;
    pub(in crate::api) const PACKET: u16 = 7;
    pub(in crate::api) const REACH_INFO: u16 = 8;
    pub(in crate::api) const STALE_INFO: u16 = 9;
    pub(in crate::api) const FILTER: u16 = 10;
    pub(in crate::api) const STAT: u16 = 11;
    pub(in crate::api) const TEXT: u16 = 12;
    /// High bit set: who does not know it must not make the changes.
    pub(in crate::api) const TRIAL: u16 = 0xc000;
    pub(in crate::api) const MUST_GEN: u16 = MANDATORY | 1;
    pub(in crate::api) const DETAIL: u16 = 0x4000;
    pub(in crate::api) const NAME: u16 = 0x4001;
    pub(in crate::api) const SCOPE: u16 = 0x4002;
    pub(in crate::api) const EXPIRY: u16 = 0x4003;
    pub(in crate::api) const VOLUME: u16 = 0x4004;
    pub(in crate::api) const FROM: u16 = 0x4005;
    pub(in crate::api) const STATUS_BITS: u16 = 0x4006;
    pub(in crate::api) const FAILED: u16 = 0x4007;
    pub(in crate::api) const PORT: u16 = 0x4010;
    pub(in crate::api) const TUNNEL: u16 = 0x4011;
    pub(in crate::api) const ADDRESS: u16 = 0x4012;
    pub(in crate::api) const ROUTE: u16 = 0x4013;
    pub(in crate::api) const SOURCE: u16 = 0x4014;
    pub(in crate::api) const SPEAKER: u16 = 0x4020;
    pub(in crate::api) const NEIGHBOR: u16 = 0x4021;
    pub(in crate::api) const THROUGH: u16 = 0x4022;
    pub(in crate::api) const REASON: u16 = 0x4023;
    pub(in crate::api) const SESSION: u16 = 0x4024;
    pub(in crate::api) const PATH: u16 = 0x4025;
    pub(in crate::api) const AS_PATH: u16 = 0x4026;
    pub(in crate::api) const COMMUNITIES: u16 = 0x4027;
    pub(in crate::api) const CURSOR: u16 = 0x4028;
    pub(in crate::api) const CLEAR: u16 = 0x4029;
    pub(in crate::api) const REGISTRATION: u16 = 0x4030;
    pub(in crate::api) const REMEDY: u16 = 0x4031;
    pub(in crate::api) const REGISTERED: u16 = 0x4032;
    pub(in crate::api) const LOCATOR: u16 = 0x4050;
    pub(in crate::api) const AFTER: u16 = 0x4051;
    pub(in crate::api) const SUBSCRIPTION: u16 = 0x4070;
    pub(in crate::api) const BINDING: u16 = 0x4080;
    pub(in crate::api) const AHEAD: u16 = 0x4081;
    pub(in crate::api) const BINDINGS_AFTER: u16 = 0x4082;
    pub(in crate::api) const SUBSCRIPTIONS_AFTER: u16 = 0x4071;
    pub(in crate::api) const SITE: u16 = 0x4040;
    pub(in crate::api) const REFUSAL: u16 = 0x4041;
    pub(in crate::api) const XTR: u16 = 0x4042;
    pub(in crate::api) const NEXT: u16 = 0x4043;
    pub(in crate::api) const TRACE: u16 = 0x4060;
    pub(in crate::api) const TRACED: u16 = 0x4061;
    pub(in crate::api) const TRACE_END: u16 = 0x4062;
}

/// AFIs (RFC 8060 §2.2).
const AFI_IPV4: u16 = 1;
const AFI_IPV6: u16 = 2;

/// Why octets are not a message. The texts are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Ends before what its lengths promise.
    #[error("the message ends early")]
    Truncated,
    /// Not of this protocol: wrong magic, or lengths that disagree. Nothing after it can be trusted.
    #[error("not a message of the mapping API, version 1")]
    NotOurs,
    /// A value out of its range, or one too many or too few.
    #[error("{0}")]
    Value(&'static str),
    /// An AFI other than IPv4 and IPv6.
    #[error("address family {0} is not spoken here")]
    Afi(u16),
    /// A TLV that must be understood, and is not.
    #[error("TLV type {0:#06x} is not known here")]
    Unknown(u16),
}

impl ProtocolError {
    /// The error number of a reply, as Linux numbers them.
    #[must_use]
    pub const fn errno(&self) -> u32 {
        match self {
            Self::Truncated | Self::Value(_) => errno::INVALID,
            Self::NotOurs => errno::PROTOCOL,
            Self::Afi(_) => errno::FAMILY,
            Self::Unknown(_) => errno::UNSUPPORTED,
        }
    }
}

/// Error numbers of replies.
pub(super) mod errno {
    use nix::errno::Errno;

    pub(in crate::api) const NOT_FOUND: u32 = Errno::ENOENT as u32;
    pub(in crate::api) const AGAIN: u32 = Errno::EAGAIN as u32;
    pub(in crate::api) const DENIED: u32 = Errno::EPERM as u32;
    pub(in crate::api) const EXISTS: u32 = Errno::EEXIST as u32;
    pub(in crate::api) const INVALID: u32 = Errno::EINVAL as u32;
    pub(in crate::api) const BUSY: u32 = Errno::EBUSY as u32;
    pub(in crate::api) const NO_SPACE: u32 = Errno::ENOSPC as u32;
    pub(in crate::api) const PROTOCOL: u32 = Errno::EPROTO as u32;
    pub(in crate::api) const TOO_LONG: u32 = Errno::EMSGSIZE as u32;
    pub(in crate::api) const UNSUPPORTED: u32 = Errno::EOPNOTSUPP as u32;
    pub(in crate::api) const FAMILY: u32 = Errno::EAFNOSUPPORT as u32;
}

/// What a message is about; other numbers are refused by their receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op(pub u16);

impl Op {
    /// Puts in a mapping where there is none.
    pub const ADD: Self = Self(1);
    /// Takes a mapping out.
    pub const DELETE: Self = Self(2);
    /// Replaces a mapping.
    pub const CHANGE: Self = Self(3);
    /// Looks up one entry, or dumps a table.
    pub const GET: Self = Self(4);
    /// Tells that a packet found no mapping: an event.
    pub const MISS: Self = Self(5);
    /// Locators are to be used again.
    pub const REACH: Self = Self(6);
    /// Locators are not to be used.
    pub const BADREACH: Self = Self(7);
    /// Says which events are wanted.
    pub const SUBSCRIBE: Self = Self(8);
    /// Empties a table.
    pub const FLUSH: Self = Self(9);
    /// Reads counters.
    pub const STATS: Self = Self(10);
    /// Tells that a map-version in a packet is older or newer than ours: an event.
    pub const STALE: Self = Self(11);
    /// Tells which Locator-Status-Bits packets carry: an event.
    pub const LSBITS: Self = Self(12);
    /// Asks who answers.
    pub const HELLO: Self = Self(13);
    /// Has the router read its configuration again; Altitude's own.
    pub const RELOAD: Self = Self(0x4000);
    /// Shows packets and what becomes of them; Altitude's own.
    pub const TRACE: Self = Self(0x4001);
    /// Begins sessions with BGP neighbours anew; Altitude's own.
    pub const CLEAR: Self = Self(0x4002);
}

/// The flags of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u16);

/// The flags used so far.
pub const FLAGS: [(Flags, &str); 9] = [
    (Flags::REPLY, "REPLY"),
    (Flags::MORE, "MORE"),
    (Flags::EVENT, "EVENT"),
    (Flags::DUMP, "DUMP"),
    (Flags::ATOMIC, "ATOMIC"),
    (Flags::OVERRUN, "OVERRUN"),
    (Flags::ECHO_ME, "ECHO-ME"),
    (Flags::EXPIRED, "EXPIRED"),
    (Flags::ALL, "ALL"),
];

impl Flags {
    /// Answers a request.
    pub const REPLY: Self = Self(1);
    /// Not the last message of an answer.
    pub const MORE: Self = Self(2);
    /// Nobody asked for it.
    pub const EVENT: Self = Self(4);
    /// The whole table.
    pub const DUMP: Self = Self(8);
    /// Of a batch: all its changes are made, or none.
    pub const ATOMIC: Self = Self(0x10);
    /// Events before this one were lost.
    pub const OVERRUN: Self = Self(0x20);
    /// Events of the subscriber's own changes are wanted too.
    pub const ECHO_ME: Self = Self(0x40);
    /// The entry's time was over.
    pub const EXPIRED: Self = Self(0x80);
    /// Static entries too.
    pub const ALL: Self = Self(0x100);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The first 32 octets of a message.
///
/// | offset | 0 | 4 | 8 | 10 | 12 | 16 | 24 |
/// |---|---|---|---|---|---|---|---|
/// | field | "ALT1" | length u32 | op u16 | flags u16 | errno u32 | sequence u64 | generation u64 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is about.
    pub op: Op,
    /// How.
    pub flags: Flags,
    /// 0 is done; else a Linux error number.
    pub errno: u32,
    /// The asker's cookie.
    pub sequence: u64,
    /// Generation of the tables.
    pub generation: u64,
}

impl Header {
    /// Splits a whole message into its header and its TLVs.
    ///
    /// # Errors
    /// [`ProtocolError::NotOurs`] if magic or length are wrong.
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), ProtocolError> {
        let header = Self::first(message)?;
        let length = Fields(&message[4..]).u32()?;
        if length as usize != message.len() {
            return Err(ProtocolError::NotOurs);
        }
        Ok((header, &message[HEADER..]))
    }

    /// The header of a message, of which the end may be missing.
    pub(super) fn first(message: &[u8]) -> Result<Self, ProtocolError> {
        let mut fields = Fields(message);
        if message.len() < HEADER || fields.array::<4>()? != MAGIC {
            return Err(ProtocolError::NotOurs);
        }
        let _length = fields.u32()?;
        Ok(Self {
            op: Op(fields.u16()?),
            flags: Flags(fields.u16()?),
            errno: fields.u32()?,
            sequence: fields.u64()?,
            generation: fields.u64()?,
        })
    }

    /// The message of this header and `body`, which is at most [`MESSAGE_MAX`] − [`HEADER`] octets of TLVs.
    #[must_use]
    pub fn message(&self, body: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(MAGIC);
        message.extend(((HEADER + body.len()) as u32).to_le_bytes());
        message.extend(self.op.0.to_le_bytes());
        message.extend(self.flags.0.to_le_bytes());
        message.extend(self.errno.to_le_bytes());
        message.extend(self.sequence.to_le_bytes());
        message.extend(self.generation.to_le_bytes());
        message.extend(body);
        message
    }
}

/// What is left to read of a value; every length is verified first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ProtocolError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The AFI of an address, in network order.
    pub(super) fn afi(&mut self) -> Result<u16, ProtocolError> {
        self.array().map(u16::from_be_bytes)
    }

    /// The address of an AFI.
    pub(super) fn address_of(&mut self, afi: u16) -> Result<IpAddr, ProtocolError> {
        match afi {
            AFI_IPV4 => self.array::<4>().map(IpAddr::from),
            AFI_IPV6 => self.array::<16>().map(IpAddr::from),
            other => Err(ProtocolError::Afi(other)),
        }
    }

    /// AFI and address.
    pub(super) fn address(&mut self) -> Result<IpAddr, ProtocolError> {
        let afi = self.afi()?;
        self.address_of(afi)
    }

    /// The rest as text.
    pub(super) fn text(self) -> Result<&'a str, ProtocolError> {
        std::str::from_utf8(self.0).map_err(|_| ProtocolError::Value("a name is not UTF-8"))
    }

    /// Nothing may be left.
    pub(super) const fn end(self) -> Result<(), ProtocolError> {
        if self.0.is_empty() { Ok(()) } else { Err(ProtocolError::Value("a TLV is too long")) }
    }
}

/// Writes one TLV: type, length of the value, value.
pub(super) fn put(out: &mut Vec<u8>, kind: u16, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend(kind.to_le_bytes());
    let length_at = out.len();
    out.extend([0; 2]);
    value(out);
    let length = (out.len() - length_at - 2) as u16;
    out[length_at..length_at + 2].copy_from_slice(&length.to_le_bytes());
}

/// Appends AFI and address.
pub(super) fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    out.extend(afi(address).to_be_bytes());
    put_bare_address(out, address);
}

/// The AFI of an address.
pub(super) const fn afi(address: IpAddr) -> u16 {
    if address.is_ipv4() { AFI_IPV4 } else { AFI_IPV6 }
}

/// Appends an address without its AFI.
pub(super) fn put_bare_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

/// The TLVs of a body, in order. Ends after the first that is cut off.
pub(super) struct Tlvs<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<(u16, Fields<'a>), ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut fields = Fields(std::mem::take(&mut self.0));
        let read = fields.u16().and_then(|kind| Ok((kind, usize::from(fields.u16()?))));
        Some(read.and_then(|(kind, length)| {
            let (value, rest) = fields.0.split_at_checked(length).ok_or(ProtocolError::Truncated)?;
            self.0 = rest;
            Ok((kind, Fields(value)))
        }))
    }
}
