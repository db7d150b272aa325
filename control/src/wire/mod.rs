//! Control messages and the packets around them: octets ⇄ values. One file per message or header.
//!
//! Guarantees:
//!
//! * Reading never panics, whatever the octets are. Every length is verified before it is used, counts are never
//!   taken for allocation sizes, and nothing recurses: an LCAF is stepped over by its length, and of those looked into
//!   (Instance-ID, AFI-List, path, NAT-Traversal) only plain addresses are read.
//! * A message is read whole or not at all: octets left over after the last record refuse it.
//! * What is not spoken is told apart: a *locator* of an unknown LCAF type is left out, and a record whose locators
//!   were all left out is a negative one; an *EID* of an unknown LCAF type, a vendor's LCAF and an unknown address
//!   family refuse the message ([`WireError`] says which; RFC 9301 §5.1, RFC 9306 §3, §4).
//! * Reserved bits are ignored when read and zero when written. What is written reads back as the same value, as long
//!   as counts are within what the fields' documentation allows; what exceeds a count field is left out.
//! * Writing allocates and does not fail, but for the panics named ([`packet::UdpPacket::encode`]).
#![forbid(unsafe_code)]

mod authentication;
mod cursor;
pub mod data_map_notify;
pub mod ecm;
mod error;
pub mod gre;
mod info;
mod lcaf;
pub mod lisp_sec;
mod map_reply;
mod map_request;
pub mod packet;
mod record;
mod registration;

pub use authentication::{Algorithm, Authentication, AuthenticationError, Form, Key};
pub use error::WireError;
pub use info::{Info, Translation};
pub use map_reply::MapReply;
pub use map_request::{MapRequest, RequestRecord, XtrIdentity};
pub use registration::{MapNotify, MapRegister};

use altitude_dataplane::wire::WireError as Malformed;

use self::cursor::Cursor;

/// A control message: the payload of a UDP datagram with port 4342 on either side (RFC 9301 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Type 1.
    MapRequest(MapRequest),
    /// Type 2.
    MapReply(MapReply),
    /// Type 3.
    MapRegister(MapRegister),
    /// Types 4 and 5.
    MapNotify(MapNotify),
    /// Type 7.
    Info(Info),
    /// Another type: its number, 4 bits. Nothing else of it was read; [`ecm::TYPE`] is for [`ecm::Ecm`].
    Other(u8),
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// [`WireError`], see the kinds there.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let first = octets.first().ok_or(Malformed::Truncated { need: 1, have: 0 })?;
        let cursor = Cursor::new(octets);
        match first >> 4 {
            map_request::TYPE => MapRequest::parse(cursor).map(Self::MapRequest),
            map_reply::TYPE => MapReply::parse(cursor).map(Self::MapReply),
            registration::MAP_REGISTER => MapRegister::parse(cursor).map(Self::MapRegister),
            registration::MAP_NOTIFY | registration::MAP_NOTIFY_ACK => MapNotify::parse(cursor).map(Self::MapNotify),
            info::TYPE => Info::parse(cursor).map(Self::Info),
            other => Ok(Self::Other(other)),
        }
    }
}
