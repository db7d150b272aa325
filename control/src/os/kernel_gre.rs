//! Whether the kernel has GRE tunnels of its own.

use std::{io, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
};

use super::interface;

/// The name of the device that is asked for and removed again.
const PROBE: &str = "altgreprobe";

/// Asks the kernel for a GRE device of the family of `end`, and removes it again.
///
/// # Errors
/// `Unsupported` if the kernel has no GRE; those of the netlink calls, such as missing privilege.
pub fn probe(end: IpAddr) -> io::Result<()> {
    let kind = if end.is_ipv4() { InfoKind::GreTun } else { InfoKind::GreTun6 };
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(PROBE.to_owned()), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    interface::request(RouteNetlinkMessage::NewLink(message), flags, "make a GRE device of the kernel")?;
    let mut gone = LinkMessage::default();
    gone.attributes = vec![LinkAttribute::IfName(PROBE.to_owned())];
    interface::request(RouteNetlinkMessage::DelLink(gone), 0, "remove the GRE device again")
}
