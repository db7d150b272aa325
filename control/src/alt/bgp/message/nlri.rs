//! Runs of prefixes as UPDATE carries them (RFC 4271 §4.3, RFC 4760 §5).
//!
//! These are read and written here and not by `netgauze-bgp-pkt`: see [`super::update`] for the reasons.

use std::net::IpAddr;

use altitude_dataplane::mapping::Prefix;

use super::BgpFault;
use crate::alt::bgp::route::Family;

/// Reads a run of prefixes of `family` and appends them to `prefixes`; bits after a prefix are ignored.
///
/// Prefixes that no EID can be in are left out and told as a fault (RFC 4271 §6.3). `None` if the run cannot be read: a length
/// above the family's, or the run ends inside a prefix.
pub(super) fn read(
    mut run: &[u8],
    family: Family,
    prefixes: &mut Vec<Prefix>,
    faults: &mut Vec<BgpFault>,
) -> Option<()> {
    // Most are of 16 to 24 bits (IPv4) or 32 to 48 bits (IPv6).
    prefixes.reserve(run.len() / if family == Family::V4 { 4 } else { 6 });
    while let Some((&length, rest)) = run.split_first() {
        let (octets, rest) = rest.split_at_checked(usize::from(length).div_ceil(8))?;
        run = rest;
        let address: IpAddr = match family {
            Family::V4 => padded::<4>(octets)?.into(),
            Family::V6 => padded::<16>(octets)?.into(),
        };
        let prefix = Prefix::new(address, length).ok()?;
        if is_eid(&prefix) {
            prefixes.push(prefix);
        } else {
            faults.push(BgpFault::PrefixRefused);
        }
    }
    Some(())
}

/// The octets at the front of an address whose others are zero.
fn padded<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    let mut address = [0; N];
    address.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(address)
}

/// Whether a host may have an address of this block: neither multicast nor loopback nor link-local.
fn is_eid(prefix: &Prefix) -> bool {
    match prefix.address() {
        IpAddr::V4(address) => !(prefix.length() >= 4 && (address.is_multicast() || address.is_loopback())),
        IpAddr::V6(address) => {
            !(prefix.length() >= 8 && (address.is_multicast() || address.is_unicast_link_local()))
                && !(prefix.length() == 128 && address.is_loopback())
        }
    }
}

/// Octets of `prefix` in a run.
pub(super) fn length(prefix: &Prefix) -> usize {
    1 + usize::from(prefix.length()).div_ceil(8)
}

/// Appends `prefix` to a run.
pub(super) fn write(prefix: &Prefix, run: &mut Vec<u8>) {
    run.push(prefix.length());
    let octets = length(prefix) - 1;
    match prefix.address() {
        IpAddr::V4(address) => run.extend_from_slice(&address.octets()[..octets]),
        IpAddr::V6(address) => run.extend_from_slice(&address.octets()[..octets]),
    }
}
