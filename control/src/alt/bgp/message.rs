//! BGP-4 messages: octets ⇄ values.
//!
//! ```text
//! octets of a connection ─▶ Splitter ─▶ one message ─▶ parse ─▶ Message, and the faults found on the way
//! octets of a connection ◀──────────────────────────── encode ◀─ Message
//! ```
//!
//! What an error does is decided here, where it is seen (RFC 7606 §2): the session ends ([`Notification`] in place of a
//! message), the routes of the message count as withdrawn, or one attribute is dropped. Nothing else about a message is
//! trusted before it is checked; no message is longer than [`MESSAGE_MAX`].

mod attributes;
mod capabilities;
mod encode;
mod fault;
mod nlri;
mod notification;
mod splitter;
mod update;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use altitude_dataplane::mapping::Prefix;

pub use encode::{encode, encode_update};
pub use fault::BgpFault;
pub use notification::{Cease, Notification};
pub use splitter::Splitter;

use super::{
    route::{Family, Update},
    settings::{Families, NeighborSettings},
};

/// Longest message, octets (RFC 4271 §4.1).
pub const MESSAGE_MAX: usize = 4096;
/// Marker, length and type, octets: the shortest message.
pub const HEADER: usize = 19;
/// Stands for an AS number that needs 4 octets wherever only 2 fit (RFC 6793 §9).
pub const AS_TRANS: u16 = 23456;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// RFC 4271 §4.2.
    Open(Open),
    /// RFC 4271 §4.3.
    Update(Update),
    /// The UPDATE that ends the first exchange of a family (RFC 4724 §2).
    EndOfRib(Family),
    /// RFC 4271 §4.4.
    Keepalive,
    /// RFC 4271 §4.5.
    Notification(Notification),
    /// RFC 2918 §3, RFC 7313 §3.2.
    RouteRefresh {
        /// Which of the families.
        family: Family,
        /// Its subtype.
        kind: RefreshKind,
    },
}

/// Message subtype of a ROUTE-REFRESH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefreshKind {
    /// 0: announce all again.
    Request,
    /// 1: what follows is all there is (BoRR).
    Begin,
    /// 2: that was all (EoRR).
    End,
}

/// What a speaker says of itself when a connection opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// AS number, that of the 4-octet capability if there is one.
    pub asn: u32,
    /// Proposed hold time, seconds.
    pub hold: u16,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Multiprotocol capabilities (RFC 4760 §8); without any, IPv4 unicast.
    pub families: Families,
    /// Route Refresh (RFC 2918 §2).
    pub route_refresh: bool,
    /// Enhanced Route Refresh (RFC 7313 §3.1).
    pub enhanced_refresh: bool,
    /// Graceful Restart (RFC 4724 §3).
    pub graceful: Option<Graceful>,
    /// Speaks 4-octet AS numbers (RFC 6793 §3).
    pub four_octet: bool,
}

/// The Graceful Restart capability (RFC 4724 §3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graceful {
    /// The sender has restarted (Restart State).
    pub restarting: bool,
    /// How long the routes should be kept, seconds, at most 4095.
    pub time: u16,
    /// Families whose routes may be kept, and whether the sender's forwarding state was kept over its restart.
    pub families: Vec<(Family, bool)>,
}

/// What reading and writing a message depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// AS numbers of AS_PATH and AGGREGATOR have 4 octets: both sides said so.
    pub four_octet: bool,
    /// Families that both sides speak.
    pub families: Families,
    /// Our AS number.
    pub asn: u32,
    /// The neighbour's AS number.
    pub remote_asn: u32,
    /// The neighbour's address.
    pub remote: IpAddr,
    /// Our addresses on the tunnel: never a next hop of the neighbour's.
    pub own: Vec<IpAddr>,
    /// Subnets of the tunnel, where its next hops must lie.
    pub subnets: Vec<Prefix>,
}

impl Context {
    /// A session of `asn` with `neighbor` that negotiated all its families and 4-octet AS numbers.
    #[must_use]
    pub fn new(asn: u32, neighbor: &NeighborSettings) -> Self {
        let subnet = |(address, length): &(IpAddr, u8)| Prefix::new(*address, *length).ok();
        Self {
            four_octet: true,
            families: neighbor.families,
            asn,
            remote_asn: neighbor.asn,
            remote: neighbor.remote,
            own: neighbor.tunnel_addresses.iter().map(|(address, _)| *address).collect(),
            subnets: neighbor.tunnel_addresses.iter().filter_map(subnet).collect(),
        }
    }

    /// Whether the neighbour is of another AS.
    #[must_use]
    pub const fn external(&self) -> bool {
        self.asn != self.remote_asn
    }
}

/// A message as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// `None`: well-formed, and about something not spoken here.
    pub message: Option<Message>,
    /// What was wrong with it, each to be counted.
    pub faults: Vec<BgpFault>,
}

/// Reads one message, as a [`Splitter`] hands it out: header and all.
///
/// # Errors
/// The [`Notification`] that the session must end with.
pub fn parse(octets: &[u8], context: &Context) -> Result<Parsed, Notification> {
    let mut faults = Vec::new();
    let body = octets.get(HEADER..).ok_or_else(|| Notification::bad_length(octets))?;
    let message = match octets[HEADER - 1] {
        1 => Some(Message::Open(capabilities::open(body)?)),
        2 => Some(update::update(body, context, &mut faults)?),
        3 => Some(Message::Notification(Notification::read(body).ok_or_else(|| Notification::bad_length(octets))?)),
        4 if body.is_empty() => Some(Message::Keepalive),
        4 => return Err(Notification::bad_length(octets)),
        5 => refresh(body, &mut faults)?,
        kind => return Err(Notification::new(1, 3, &[kind])),
    };
    Ok(Parsed { message, faults })
}

/// Reads the body of a ROUTE-REFRESH; unknown families and subtypes are passed over (RFC 2918 §4, RFC 7313 §5).
fn refresh(body: &[u8], faults: &mut Vec<BgpFault>) -> Result<Option<Message>, Notification> {
    let &[afi0, afi1, subtype, safi] = body else { return Err(Notification::bad_refresh_length(body)) };
    let family = match (afi0, afi1, safi) {
        (0, 1, 1) => Family::V4,
        (0, 2, 1) => Family::V6,
        _ => {
            faults.push(BgpFault::RefreshUnknown);
            return Ok(None);
        }
    };
    let kind = match subtype {
        0 => RefreshKind::Request,
        1 => RefreshKind::Begin,
        2 => RefreshKind::End,
        _ => {
            faults.push(BgpFault::RefreshUnknown);
            return Ok(None);
        }
    };
    Ok(Some(Message::RouteRefresh { family, kind }))
}
