//! EID-record and locator-record, shared by all messages that carry mappings.
//!
//! ```text
//! |                     Record TTL (32, minutes)                  |
//! | Locator Count(8)| EID mask-len(8)| ACT(3)|A|   Reserved(12)   |
//! | Rsvd(4) |   Map-Version(12)      |    EID-Prefix-AFI (16)     |
//! |                     EID-Prefix ...                            |
//! and for each locator
//! | Priority(8) | Weight(8) | M Priority(8) | M Weight(8) |
//! | Unused flags (13)              |L|p|R| Loc-AFI (16)     |
//! | Locator ...                                             |
//! ```
//!
//! Source: RFC 9301 §5.4; Map-Version RFC 9302 §7.

use altitude_dataplane::{
    mapping::{Action, Eid, EidPrefix, Hop, Locator, Mapping, Prefix, Ttl, routes},
    wire::WireError as Malformed,
};

use super::{WireError, cursor::Cursor, lcaf};

/// Locators that fit the Locator Count of one record.
const LOCATORS_MAX: usize = 255;
const AUTHORITATIVE: u8 = 0x10;
const LOCAL: u8 = 4;
const PROBED: u8 = 2;
const REACHABLE: u8 = 1;

/// Reads one EID-record with its locators. ACT counts only when no locator is left (RFC 9301 §5.4, RFC 9306 §3).
pub(super) fn read_mapping(cursor: &mut Cursor<'_>) -> Result<Mapping, WireError> {
    let ttl = Ttl::from_wire(cursor.u32()?);
    let [count, mask_length, action, _reserved] = cursor.array()?;
    let version = cursor.u16()? & 0x0fff;
    let eid = read_prefix(mask_length, cursor)?;
    let mut locators = Vec::new();
    for _ in 0..count {
        locators.extend(read_locator(cursor)?);
    }
    let authoritative = action & AUTHORITATIVE != 0;
    let action = if locators.is_empty() { Action::from_bits(action >> 5) } else { Action::NoAction };
    Ok(Mapping { eid, ttl, version, action, authoritative, locators })
}

/// Reads the EID that a mask-length of `length` bits belongs to; host bits are masked off.
pub(super) fn read_prefix(length: u8, cursor: &mut Cursor<'_>) -> Result<EidPrefix, WireError> {
    let Eid { instance, address } =
        lcaf::read_eid(cursor)?.ok_or(Malformed::Contradiction("EID-Prefix without an address"))?;
    let prefix = Prefix::new(address, length)
        .map_err(|_| Malformed::Contradiction("EID mask-len longer than an address of its family"))?;
    Ok(EidPrefix { instance, prefix })
}

/// Reads one locator-record: nothing is one to leave out, several are a path or a list.
fn read_locator(cursor: &mut Cursor<'_>) -> Result<Vec<Locator>, WireError> {
    let [priority, weight, multicast_priority, multicast_weight] = cursor.array()?;
    let [_unused, flags] = cursor.array()?;
    let stops = match lcaf::read_locator(cursor)? {
        None => Vec::new(),
        Some(lcaf::Route::Direct(address)) => vec![(address, None)],
        Some(lcaf::Route::Either(addresses)) => {
            let end = addresses.len() - 1;
            let hop = |at| if at == end { Hop::alternative().last() } else { Hop::alternative() };
            addresses.into_iter().enumerate().map(|(at, address)| (address, Some(hop(at)))).collect()
        }
        Some(lcaf::Route::Path(stops)) => {
            let end = stops.len() - 1;
            let hop = |(at, hop): (usize, Hop)| if at == end { hop.last() } else { hop };
            stops.into_iter().enumerate().map(|(at, (address, bits))| (address, Some(hop((at, bits))))).collect()
        }
    };
    let locator = |(address, hop)| Locator {
        address,
        hop,
        priority,
        weight,
        multicast_priority,
        multicast_weight,
        local: flags & LOCAL != 0,
        probed: flags & PROBED != 0,
        reachable: flags & REACHABLE != 0,
        translated: None,
    };
    Ok(stops.into_iter().map(locator).collect())
}

/// Writes one EID-record with its locators, in the order they are in.
pub(super) fn write_mapping(mapping: &Mapping, octets: &mut Vec<u8>) {
    let locators = || routes(&mapping.locators).take(LOCATORS_MAX);
    let action = if mapping.is_negative() { mapping.action.bits() } else { 0 };
    let authoritative = if mapping.authoritative { AUTHORITATIVE } else { 0 };
    octets.extend(mapping.ttl.to_wire().to_be_bytes());
    octets.extend([locators().count() as u8, mapping.eid.prefix.length(), action << 5 | authoritative, 0]);
    octets.extend((mapping.version & 0x0fff).to_be_bytes());
    write_prefix(&mapping.eid, octets);
    for route in locators() {
        let Some(locator) = route.last() else { continue };
        octets.extend([locator.priority, locator.weight, locator.multicast_priority, locator.multicast_weight]);
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(locator.local, LOCAL) | flag(locator.probed, PROBED) | flag(locator.reachable, REACHABLE);
        octets.extend([0, flags]);
        if locator.hop.is_none() {
            lcaf::write_rloc(locator.address, octets);
            continue;
        }
        if locator.hop.is_some_and(Hop::is_alternative) {
            let addresses: Vec<_> = route.iter().map(|one| one.address).collect();
            lcaf::write_list(&addresses, octets);
            continue;
        }
        let stops: Vec<_> = route.iter().filter_map(|stop| Some((stop.address, stop.hop?))).collect();
        lcaf::write_path(&stops, octets);
    }
}

/// Writes the EID of a prefix; its length stands elsewhere.
pub(super) fn write_prefix(eid: &EidPrefix, octets: &mut Vec<u8>) {
    lcaf::write_eid(Some(Eid { instance: eid.instance, address: eid.prefix.address() }), octets);
}
