//! Octets ⇄ values on the packet's path.
#![forbid(unsafe_code)]

mod error;

pub use error::WireError;
