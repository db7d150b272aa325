//! Octets ⇄ values on the packet's path. One file per header.
//!
//! Guarantees, the same for every header:
//!
//! * Values are in host order, octets in network order.
//! * Reading (`split`) never panics and never allocates, whatever the octets are. Lengths are verified before they are
//!   used; what follows the header is returned as a slice already cut to the length the header states.
//! * A value cannot hold fields that exclude each other. Fields narrower than their type (named with their width)
//!   are cut to it when written.
//! * Reserved bits are ignored when read and zero when written.
//! * Writing (`write`) fills exactly `LENGTH` (or `length()`) octets from the front and returns nothing; it panics if
//!   fewer are there, for the caller has made the room. What is written reads back as the same value.
//! * Checksums of a header alone are computed when it is written. Reading does not verify them, except where said:
//!   [`checksum::verifies`] does, when the caller wants it.
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
mod error;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod lisp;
pub mod udp;
pub mod vlan;

pub use error::WireError;

/// IP protocol and IPv6 Next Header numbers that the two paths know (IANA).
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// GRE: the ALT's tunnels.
    pub const GRE: u8 = 47;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}
