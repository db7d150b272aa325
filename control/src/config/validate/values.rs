//! Single values: addresses, prefixes, numbers, names.

use std::{net::IpAddr, ops::RangeInclusive, str::FromStr};

use altitude_dataplane::mapping::{InstanceId, Prefix};

use super::Findings;
use crate::config::{Given, Place};

/// Longest interface name, octets (IFNAMSIZ without its NUL).
const NAME_MAX: usize = 15;

/// An address that packets can be sent to and from across the core: no host's own, no group's, no link's
/// (RFC 9301 §5.4).
pub(super) fn rloc(given: &Given<String>, findings: &mut Findings) -> Option<IpAddr> {
    let Ok(address) = given.value.parse::<IpAddr>() else {
        findings.wrong(
            &given.place,
            format!("'{}' is not an address", given.value),
            "write an IPv4 or IPv6 address without a length, for example 240.0.254.10",
        );
        return None;
    };
    let Some(kind) = unroutable(address) else { return Some(address) };
    findings.wrong(&given.place, format!("{address} is {kind}"), "give an address that the core routes");
    None
}

/// Why an address cannot be an RLOC.
pub(in crate::config) fn unroutable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address == IpAddr::from([255; 4]) {
        Some("the broadcast address")
    } else if link_local {
        Some("a link-local address")
    } else {
        None
    }
}

/// A prefix with no host bits set, of addresses that hosts can have.
pub(super) fn eid_prefix(given: &Given<String>, findings: &mut Findings) -> Option<Prefix> {
    let prefix = match given.value.parse::<Prefix>() {
        Ok(prefix) => prefix,
        Err(error) => {
            findings.wrong(&given.place, error.to_string(), "correct the prefix");
            return None;
        }
    };
    let written = given.value.split('/').next().and_then(|address| address.parse::<IpAddr>().ok());
    if written.is_some_and(|address| address != prefix.address()) {
        findings.wrong(
            &given.place,
            format!("prefix {} has host bits set", given.value),
            format!("write {prefix}, or the length that was meant"),
        );
        return None;
    }
    // The default prefixes start at the unspecified address and are good routes and static mappings.
    match unroutable(prefix.address()).filter(|_| prefix.length() > 0) {
        None => Some(prefix),
        Some(kind) => {
            findings.wrong(&given.place, format!("prefix {prefix} starts at {kind}"), "give addresses that hosts have");
            None
        }
    }
}

/// An interface's address with the length of its network; host bits are meant.
pub(super) fn interface_address(given: &Given<String>, findings: &mut Findings) -> Option<(IpAddr, u8)> {
    let parsed = given.value.split_once('/').and_then(|(address, length)| {
        let address: IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        Prefix::new(address, length).ok().map(|_| (address, length))
    });
    if parsed.is_none() {
        findings.wrong(
            &given.place,
            format!("'{}' is not an interface address", given.value),
            "write it as address/length, for example 10.42.0.1/30",
        );
    }
    parsed
}

/// An Instance-ID.
pub(super) fn instance(given: &Given<i64>, findings: &mut Findings) -> Option<InstanceId> {
    let range = 0..=i64::from(InstanceId::MAX);
    number(given, "Instance-ID", range, findings).and_then(InstanceId::new)
}

/// A number in a range.
pub(super) fn number<T: TryFrom<i64>>(
    given: &Given<i64>,
    name: &str,
    range: RangeInclusive<i64>,
    findings: &mut Findings,
) -> Option<T> {
    if range.contains(&given.value) {
        return T::try_from(given.value).ok();
    }
    findings.wrong(
        &given.place,
        format!("{name} {} is out of range", given.value),
        format!("give {} to {}", range.start(), range.end()),
    );
    None
}

/// One of a few words.
pub(super) fn choice<T: FromStr<Err = String>>(
    given: &Given<String>,
    name: &str,
    findings: &mut Findings,
) -> Option<T> {
    given
        .value
        .parse()
        .map_err(|remedy: String| findings.wrong(&given.place, format!("{name} '{}' is unknown", given.value), remedy))
        .ok()
}

/// The name of a network interface, as the kernel takes it.
pub(super) fn interface(given: &Given<String>, findings: &mut Findings) -> Option<String> {
    let name = &given.value;
    let wrong = name.is_empty()
        || name.len() > NAME_MAX
        || name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if wrong {
        findings.wrong(
            &given.place,
            format!("'{name}' cannot be the name of an interface"),
            format!("give at most {NAME_MAX} octets without '/', ':' and blanks"),
        );
        return None;
    }
    Some(name.clone())
}

/// Cores as a list: numbers and ranges with commas between, in the order given.
pub(super) fn cores(given: &Given<String>, known: &[usize], findings: &mut Findings) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in given.value.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) else {
            findings.wrong(
                &given.place,
                format!("'{}' is not a list of cores", given.value),
                "write numbers and ranges, for example 2-5 or 0,1",
            );
            return None;
        };
        if first > last {
            findings.wrong(&given.place, format!("core range {part} runs backwards"), format!("write {last}-{first}"));
            return None;
        }
        // The first core that is not there ends the range: a range of billions is not walked.
        for core in first..=last {
            if !core_known(core, known, &given.place, findings) {
                return None;
            }
            if cores.contains(&core) {
                findings.wrong(
                    &given.place,
                    format!("core {core} is listed twice"),
                    "give each worker a core of its own",
                );
                return None;
            }
            cores.push(core);
        }
    }
    Some(cores)
}

/// Whether this process may run on the core.
pub(super) fn core_known(core: usize, known: &[usize], place: &Place, findings: &mut Findings) -> bool {
    let here = known.contains(&core);
    if !here {
        let list = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        findings.wrong(place, format!("core {core} is not one this process may use"), format!("choose from {list}"));
    }
    here
}
