//! Control messages and the packets around them: octets ⇄ values.
#![forbid(unsafe_code)]

mod error;
mod map_reply;
mod map_request;

pub use error::WireError;
pub use map_reply::MapReply;
pub use map_request::{MapRequest, RequestRecord, XtrIdentity};
