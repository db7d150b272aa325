//! One neighbour.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::{InstanceId, Prefix};

use super::{Around, as_number, prefix_list};
use crate::{
    alt::{
        bgp::settings::{Dampening, Families, MaxPrefixes, MaxPrefixesAction, NeighborSettings, Password, PrefixList},
        tunnels::TunnelId,
    },
    config::{
        Given, NeighborDraft,
        validate::{Findings, key, values},
    },
};

/// Longest key of TCP-MD5 that Linux takes, octets (`TCP_MD5SIG_MAXKEYLEN`).
const PASSWORD_MAX: usize = 80;
/// Longest name, octets.
const NAME_MAX: usize = 64;
/// Most prefixes a bound may allow.
const PREFIXES_MAX: i64 = 16_777_216;
/// After which a neighbour that announced too much is tried again, unless told otherwise.
const MAX_PREFIXES_RESTART: Duration = Duration::from_secs(300);

/// Reads all of it before giving up, so that every mistake is found.
pub(super) fn neighbor(item: &NeighborDraft, around: &Around<'_>, findings: &mut Findings) -> Option<NeighborSettings> {
    let before = findings.list.len();
    let end = end(item, around, findings);
    let asn = as_number(&item.asn, "the neighbour's AS", findings);
    let instance = item.instance.as_ref().map_or(Some(InstanceId::DEFAULT), |given| values::instance(given, findings));
    let name = item.name.as_ref().map(|given| name(given, findings));
    let password = password(item, around, findings);
    let hold = item.hold.as_ref().and_then(|given| hold(given, findings));
    let count = |given: &Option<Given<i64>>, name: &str, range, findings: &mut Findings| -> Option<u16> {
        given.as_ref().and_then(|given| values::number(given, name, range, findings))
    };
    let connect_retry = count(&item.connect_retry, "connect-retry", 1..=3600, findings);
    let interval = count(&item.advertisement_interval, "advertisement-interval", 0..=600, findings);
    let families = item.families.as_ref().map(|given| families(item, given, findings));
    let max_prefixes = max_prefixes(item, findings);
    let list = |given: &Option<Vec<Given<String>>>, findings: &mut Findings| {
        given.as_ref().map_or_else(PrefixList::default, |rules| prefix_list::read(rules, findings))
    };
    let (import, export) = (list(&item.import, findings), list(&item.export, findings));
    let (tunnel, local, length, remote) = end?;
    let default = NeighborSettings::new(tunnel, local, length, remote, asn?);
    let neighbor = NeighborSettings {
        name: name.flatten().unwrap_or(default.name),
        instance: instance?,
        tunnel_addresses: around.tunnels[tunnel.0].value.addresses.clone(),
        password,
        ttl_security: yes(&item.ttl_security, default.ttl_security),
        hold: hold.unwrap_or(default.hold),
        connect_retry: connect_retry.unwrap_or(default.connect_retry),
        advertisement_interval: interval
            .map_or(default.advertisement_interval, |seconds| Duration::from_secs(seconds.into())),
        passive: yes(&item.passive, default.passive),
        families: families.unwrap_or(default.families),
        max_prefixes,
        import,
        export,
        graceful_restart: yes(&item.graceful_restart, default.graceful_restart),
        dampening: yes(&item.dampening, false).then(Dampening::default),
        default_originate: yes(&item.default_originate, default.default_originate),
        ..default
    };
    (findings.list.len() == before).then_some(neighbor)
}

fn yes(given: &Option<Given<bool>>, default: bool) -> bool {
    given.as_ref().map_or(default, |given| given.value)
}

/// The tunnel the neighbour is at the far end of, our address and subnet there, and its address: a neighbour elsewhere would
/// need routers in between that are none of the ALT (rule ALT-3).
fn end(item: &NeighborDraft, around: &Around<'_>, findings: &mut Findings) -> Option<(TunnelId, IpAddr, u8, IpAddr)> {
    let remote = values::rloc(&item.address, findings)?;
    let place = &item.address.place;
    let all = around.tunnels.iter().enumerate().flat_map(|(index, tunnel)| {
        tunnel.value.addresses.iter().map(move |(address, length)| (TunnelId(index), *address, *length))
    });
    let all: Vec<_> = all.collect();
    if let Some((tunnel, ..)) = all.iter().find(|(_, address, _)| *address == remote) {
        let name = &around.tunnels[tunnel.0].value.name;
        let what = format!("neighbour {remote} is our own address on tunnel {name}");
        findings.wrong(place, what, "give the address of the other end");
        return None;
    }
    let within = |(_, address, length): &(TunnelId, IpAddr, u8)| {
        Prefix::new(*address, *length).is_ok_and(|subnet| subnet.contains(remote))
    };
    let mut ends: Vec<_> = all.iter().copied().filter(within).collect();
    ends.sort_by_key(|(_, _, length)| std::cmp::Reverse(*length));
    let Some(&(tunnel, local, length)) = ends.first() else {
        let subnets: Vec<String> = all.iter().map(|(_, address, length)| format!("{address}/{length}")).collect();
        let remedy = if subnets.is_empty() {
            "give a tunnel an address (addresses = [...], or address= of --alt-tunnel) on a subnet with the neighbour"
                .into()
        } else {
            format!("BGP runs through tunnels only: give an address on a subnet of {}", subnets.join(", "))
        };
        findings.missing(place, format!("neighbour {remote} is on no tunnel's subnet"), remedy);
        return None;
    };
    if let Some((other, ..)) = ends.iter().find(|(other, _, other_length)| *other != tunnel && *other_length == length)
    {
        let name = |id: TunnelId| &around.tunnels[id.0].value.name;
        findings.wrong(
            place,
            format!("neighbour {remote} is on a subnet of tunnel {} and of {}", name(tunnel), name(*other)),
            "give each tunnel a subnet of its own",
        );
        return None;
    }
    Some((tunnel, local, length, remote))
}

fn name(given: &Given<String>, findings: &mut Findings) -> Option<String> {
    let name = &given.value;
    if !name.is_empty() && name.len() <= NAME_MAX && !name.contains(char::is_control) {
        return Some(name.clone());
    }
    let what = "the name of a neighbour is empty, too long, or not printable";
    findings.wrong(&given.place, what, format!("give 1 to {NAME_MAX} octets of text"));
    None
}

/// The password, from the configuration or from a file of its own. It is part of no finding.
fn password(item: &NeighborDraft, around: &Around<'_>, findings: &mut Findings) -> Option<Password> {
    let (place, password) = match (&item.password, &item.password_file) {
        (None, None) => return None,
        (Some(given), None) => (&given.place, given.value.0.clone()),
        (Some(_), Some(file)) => {
            let what = format!("neighbour {} has both a password and a password file", item.address.value);
            findings.wrong(&file.place, what, "keep one");
            return None;
        }
        (None, Some(file)) => (&file.place, key::first_line("password", file, around.folder, findings)?),
    };
    let wrong = match password.len() {
        0 => "is empty",
        1..=PASSWORD_MAX if !password.contains('\0') => return Some(Password::new(password)),
        1..=PASSWORD_MAX => "contains a NUL character",
        _ => "is too long",
    };
    let what = format!("the password of neighbour {} {wrong}", item.address.value);
    findings.wrong(place, what, format!("give 1 to {PASSWORD_MAX} octets, the same at both ends"));
    None
}

fn hold(given: &Given<i64>, findings: &mut Findings) -> Option<u16> {
    let hold = values::number(given, "hold", 0..=i64::from(u16::MAX), findings)?;
    if matches!(hold, 1 | 2) {
        let what = format!("a hold time of {hold} s is too short for BGP");
        findings.wrong(&given.place, what, "give 3 or more, or 0 for a session without keepalives");
        return None;
    }
    Some(hold)
}

fn families(item: &NeighborDraft, given: &[Given<String>], findings: &mut Findings) -> Families {
    let mut families = Families::NONE;
    for name in given {
        match name.value.as_str() {
            "ipv4" => families.v4 = true,
            "ipv6" => families.v6 = true,
            other => findings.wrong(&name.place, format!("address family '{other}' is unknown"), "write ipv4 or ipv6"),
        }
    }
    if given.is_empty() {
        let what = format!("the families of neighbour {} are an empty list", item.address.value);
        findings.wrong(
            &item.address.place,
            what,
            "name ipv4, ipv6 or both, or take the line away: both is the default",
        );
    }
    families
}

fn max_prefixes(item: &NeighborDraft, findings: &mut Findings) -> Option<MaxPrefixes> {
    let action = item.max_prefixes_action.as_ref().map(|given| {
        let seconds = |text: &str| text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
        let action = match (given.value.as_str(), given.value.strip_prefix("restart=")) {
            ("warn", _) => Some(MaxPrefixesAction::Warn),
            ("idle", _) => Some(MaxPrefixesAction::Idle),
            (_, Some(text)) => seconds(text).map(|seconds| MaxPrefixesAction::Restart(Duration::from_secs(seconds))),
            _ => None,
        };
        if action.is_none() {
            let what = format!("max-prefixes-action '{}' is unknown", given.value);
            findings.wrong(&given.place, what, "write warn, idle, or restart=SECONDS with 1 to 86400");
        }
        if item.max_prefixes.is_none() {
            let what = "max-prefixes-action without max-prefixes";
            findings.missing(&given.place, what, "add max-prefixes = N, or take it away");
        }
        action
    });
    let limit = values::number(item.max_prefixes.as_ref()?, "max-prefixes", 1..=PREFIXES_MAX, findings)?;
    let action = action.map_or(Some(MaxPrefixesAction::Restart(MAX_PREFIXES_RESTART)), |action| action)?;
    Some(MaxPrefixes { limit, action })
}
