//! OPEN and its capabilities (RFC 4271 §4.2, RFC 5492).
//!
//! Each capability is cut out here and handed to `netgauze-bgp-pkt` by itself: where it meets one it cannot read, it goes on
//! somewhere inside of it, and an unknown address family would take the capabilities after it along.

use std::net::Ipv4Addr;

use netgauze_bgp_pkt::{
    capabilities::{
        BgpCapability, FourOctetAsCapability, GracefulRestartAddressFamily, GracefulRestartCapability,
        MultiProtocolExtensionsCapability,
    },
    open::{BgpOpenMessage, BgpOpenMessageParameter},
};
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::{WritablePdu, reader::SliceReader, traits::ParseFrom};

use super::{AS_TRANS, Graceful, Notification, Open};
use crate::alt::bgp::{route::Family, settings::Families};

/// The one version there is.
const VERSION: u8 = 4;
/// Type of the parameter that holds capabilities (RFC 5492 §4).
const CAPABILITIES: u8 = 2;
/// Type and length that say that lengths have 2 octets (RFC 9072 §2).
const EXTENDED: u8 = 255;

/// Reads the body of an OPEN.
///
/// # Errors
/// OPEN Message Errors (RFC 4271 §6.2): version, AS 0, hold time of 1 or 2 s, an identifier of 0, parameters that are none.
pub(super) fn open(body: &[u8]) -> Result<Open, Notification> {
    let malformed = || Notification::new(2, 0, &[]);
    let (&[version, as0, as1, hold0, hold1, id0, id1, id2, id3, length], rest) =
        body.split_first_chunk::<10>().ok_or_else(malformed)?;
    if version != VERSION {
        return Err(Notification::new(2, 1, &[0, VERSION]));
    }
    let mut open = Open {
        asn: u16::from_be_bytes([as0, as1]).into(),
        hold: u16::from_be_bytes([hold0, hold1]),
        router_id: Ipv4Addr::new(id0, id1, id2, id3),
        families: Families::NONE,
        route_refresh: false,
        enhanced_refresh: false,
        graceful: None,
        four_octet: false,
    };
    read_parameters(length, rest, &mut open).ok_or_else(malformed)??;
    if open.families.is_empty() {
        open.families = Families { v4: true, v6: false };
    }
    if open.asn == 0 || (!open.four_octet && open.asn == u32::from(AS_TRANS)) {
        return Err(Notification::new(2, 2, &[as0, as1]));
    }
    if matches!(open.hold, 1 | 2) {
        return Err(Notification::new(2, 6, &[hold0, hold1]));
    }
    // With 4-octet AS numbers any identifier but 0 will do (RFC 6286 §2.1).
    if open.router_id.is_unspecified() {
        return Err(Notification::new(2, 3, &[id0, id1, id2, id3]));
    }
    Ok(open)
}

/// `None` if the lengths contradict each other.
fn read_parameters(length: u8, rest: &[u8], open: &mut Open) -> Option<Result<(), Notification>> {
    let extended = length == EXTENDED && rest.first() == Some(&EXTENDED);
    let mut parameters = if extended {
        let (&[_, high, low], parameters) = rest.split_first_chunk::<3>()?;
        (usize::from(u16::from_be_bytes([high, low])) == parameters.len()).then_some(parameters)?
    } else {
        (usize::from(length) == rest.len()).then_some(rest)?
    };
    while let Some((&kind, rest)) = parameters.split_first() {
        let (value, rest) = if extended {
            let (&[high, low], rest) = rest.split_first_chunk::<2>()?;
            rest.split_at_checked(u16::from_be_bytes([high, low]).into())?
        } else {
            let (&length, rest) = rest.split_first()?;
            rest.split_at_checked(length.into())?
        };
        if kind != CAPABILITIES {
            return Some(Err(Notification::new(2, 4, &[kind])));
        }
        read_capabilities(value, open)?;
        parameters = rest;
    }
    Some(Ok(()))
}

/// Capabilities that are unknown, or not as they should be, are passed over (RFC 5492 §3).
fn read_capabilities(mut run: &[u8], open: &mut Open) -> Option<()> {
    while !run.is_empty() {
        let length = usize::from(*run.get(1)?);
        let (capability, rest) = run.split_at_checked(2 + length)?;
        run = rest;
        match BgpCapability::parse(&mut SliceReader::new(capability)) {
            Ok(BgpCapability::MultiProtocolExtensions(capability)) => {
                if let Some(family) = family(capability.address_type()) {
                    open.families.insert(family);
                }
            }
            Ok(BgpCapability::RouteRefresh) => open.route_refresh = true,
            Ok(BgpCapability::EnhancedRouteRefresh) => open.enhanced_refresh = true,
            Ok(BgpCapability::FourOctetAs(capability)) => {
                open.four_octet = true;
                open.asn = capability.asn4();
            }
            Ok(BgpCapability::GracefulRestartCapability(capability)) => {
                let kept = |listed: &GracefulRestartAddressFamily| {
                    Some((family(listed.address_type())?, listed.forwarding_state()))
                };
                open.graceful = Some(Graceful {
                    restarting: capability.restart(),
                    time: capability.time(),
                    families: capability.address_families().iter().filter_map(kept).collect(),
                });
            }
            _ => {}
        }
    }
    Some(())
}

const fn family(address_type: AddressType) -> Option<Family> {
    match address_type {
        AddressType::Ipv4Unicast => Some(Family::V4),
        AddressType::Ipv6Unicast => Some(Family::V6),
        _ => None,
    }
}

const fn address_type(family: Family) -> AddressType {
    match family {
        Family::V4 => AddressType::Ipv4Unicast,
        Family::V6 => AddressType::Ipv6Unicast,
    }
}

/// Appends the body of an OPEN.
pub(super) fn write(open: &Open, octets: &mut Vec<u8>) {
    let multiprotocol = |family| MultiProtocolExtensionsCapability::new(address_type(family));
    let mut capabilities: Vec<BgpCapability> =
        open.families.iter().map(multiprotocol).map(BgpCapability::MultiProtocolExtensions).collect();
    if open.route_refresh {
        capabilities.push(BgpCapability::RouteRefresh);
    }
    if open.enhanced_refresh {
        capabilities.push(BgpCapability::EnhancedRouteRefresh);
    }
    if let Some(graceful) = &open.graceful {
        let kept = |&(family, kept): &(Family, bool)| GracefulRestartAddressFamily::new(kept, address_type(family));
        let families: Vec<_> = graceful.families.iter().map(kept).collect();
        let capability = GracefulRestartCapability::new(graceful.restarting, false, graceful.time & 0x0fff, families);
        capabilities.push(BgpCapability::GracefulRestartCapability(capability));
    }
    if open.four_octet {
        capabilities.push(BgpCapability::FourOctetAs(FourOctetAsCapability::new(open.asn)));
    }
    let parameters = if capabilities.is_empty() {
        Vec::new()
    } else {
        vec![BgpOpenMessageParameter::new_capabilities(capabilities)]
    };
    let short = u16::try_from(open.asn).unwrap_or(AS_TRANS);
    let message = BgpOpenMessage::new(short, open.hold, open.router_id, parameters);
    message.write(octets).expect("a Vec takes all that is written to it");
}
