//! Answers as tables.

use std::{collections::BTreeMap, time::Duration};

use altitude_control::api::{AltStatus, Counts, Entry, EntryLocator, PortStatus, Scope, Stat};
use altitude_dataplane::mapping::MacAddress;

use super::{Answer, table::Columns};

/// The tables of an answer; counters at zero only if `all` are wanted.
pub(super) fn tables(answer: &Answer, all: bool) -> String {
    match answer {
        Answer::MapCache(entries) => map_cache(entries),
        Answer::Database(entries) => database(entries),
        Answer::Locators(locators) => super::locators::table(locators),
        Answer::Counters(counts) => counters(counts, all),
        Answer::Ports(list) => ports(list, all),
        Answer::Alt(status) => alt(status),
        Answer::Registrations(list) => super::registration::tables(list),
        Answer::Subscriptions(list) => super::subscriptions::tables(list),
        Answer::Nat(list) => super::nat::table(list),
        Answer::Bgp(status, only) => super::bgp::tables(status, only.as_deref(), all),
    }
}

fn map_cache(entries: &[Entry]) -> String {
    let versions = have_versions(entries);
    let titles = ["LOCATOR OR ACTION", ">PRIORITY/WEIGHT", "STATE", ">PACKETS", ">OCTETS"];
    let head = ["EID-PREFIX", ">TTL LEFT", "ORIGIN"].into_iter().chain(versions.then_some(">VERSION"));
    let mut columns = Columns::new(head.chain(titles));
    for entry in entries {
        let left = entry.left.map_or("-".to_owned(), clock);
        let head = [entry.eid.to_string(), left, entry.origin.name().to_owned()].into_iter();
        rows(&mut columns, head.chain(versions.then(|| version(entry))).collect(), entry);
    }
    or_nothing(&columns, "the map-cache is empty")
}

fn database(entries: &[Entry]) -> String {
    let versions = have_versions(entries);
    let head = ["EID-PREFIX", ">TTL", "ORIGIN"].into_iter().chain(versions.then_some(">VERSION"));
    let mut columns = Columns::new(head.chain(["LOCATOR", ">PRIORITY/WEIGHT", "STATE", ">PACKETS", ">OCTETS"]));
    for entry in entries {
        let ttl = entry.ttl.map_or("-".to_owned(), clock);
        let head = [entry.eid.to_string(), ttl, entry.origin.name().to_owned()].into_iter();
        rows(&mut columns, head.chain(versions.then(|| version(entry))).collect(), entry);
    }
    or_nothing(&columns, "there is no EID-prefix of ours")
}

/// Map-versions are for few networks: where no mapping has one there is no column.
fn have_versions(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| entry.version != 0)
}

fn version(entry: &Entry) -> String {
    if entry.version == 0 { "-".to_owned() } else { entry.version.to_string() }
}

/// One row for each locator; what belongs to the whole entry stands in the first.
fn rows(columns: &mut Columns, head: Vec<String>, entry: &Entry) {
    let width = head.len();
    let use_of = [entry.packets.to_string(), entry.octets.to_string()];
    let Some((first, others)) = entry.locators.split_first() else {
        let action = [entry.action.to_string(), String::new(), String::new()];
        return columns.row(head.into_iter().chain(action).chain(use_of));
    };
    columns.row(head.into_iter().chain(locator(first)).chain(use_of));
    for other in others {
        columns.row(std::iter::repeat_n(String::new(), width).chain(locator(other)));
    }
}

fn locator(EntryLocator { locator, up, bad }: &EntryLocator) -> [String; 3] {
    let state = match (up, locator.usable()) {
        _ if *bad => "taken out",
        (true, _) => "up",
        (false, true) => "no path",
        (false, false) if locator.reachable => "not offered",
        (false, false) => "unreachable",
    };
    let whose = if locator.local { "local, " } else { "" };
    [locator.address.to_string(), format!("{}/{}", locator.priority, locator.weight), format!("{whose}{state}")]
}

fn counters(counts: &[Counts], all: bool) -> String {
    let (workers, control): (Vec<&Counts>, Vec<&Counts>) =
        counts.iter().partition(|counts| matches!(counts.scope, Scope::Worker(_)));
    let title = |counts: &&Counts| match counts.scope {
        Scope::Worker(number) => format!(">WORKER {number}"),
        Scope::Control => ">CONTROL".to_owned(),
    };
    let titles = |group: &[&Counts]| group.iter().map(title).collect::<Vec<_>>();
    let stats = |group: &[&Counts]| group.iter().map(|counts| counts.stats.clone()).collect::<Vec<_>>();
    let parts = [
        matrix("WORKERS", &titles(&workers), &stats(&workers), true, all),
        matrix("CONTROL THREAD", &titles(&control), &stats(&control), false, all),
    ];
    let shown: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if shown.is_empty() {
        return "every counter is zero; --all shows them\n".to_owned();
    }
    shown.join("\n")
}

/// Counters down, owners across; empty if no row is left.
fn matrix(name: &str, titles: &[String], owners: &[Vec<Stat>], total: bool, all: bool) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut values: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (owner, stats) in owners.iter().enumerate() {
        for stat in stats {
            let row = values.entry(&stat.name).or_insert_with(|| {
                order.push(&stat.name);
                vec![0; owners.len()]
            });
            row[owner] = stat.value;
        }
    }
    let total_title = total.then(|| ">TOTAL".to_owned());
    let mut columns = Columns::new([name.to_owned()].into_iter().chain(total_title).chain(titles.iter().cloned()));
    for name in order {
        let row = &values[name];
        if all || row.iter().any(|&value| value != 0) {
            let sum = row.iter().fold(0_u64, |sum, &value| sum.wrapping_add(value));
            let total = total.then(|| sum.to_string());
            columns.row([name.to_owned()].into_iter().chain(total).chain(row.iter().map(ToString::to_string)));
        }
    }
    if columns.is_empty() { String::new() } else { columns.render() }
}

fn ports(list: &[PortStatus], all: bool) -> String {
    let mut columns = Columns::new(["PORT", "ROLE", ">INSTANCE", "LINK", "SOCKETS", ">MTU", "MAC"]);
    for port in list {
        columns.row([
            port.name.clone(),
            port.roles().to_owned(),
            port.instance.to_string(),
            if port.up { "up" } else { "down" }.to_owned(),
            if port.zero_copy { "zero-copy" } else { "copy" }.to_owned(),
            port.mtu.to_string(),
            port.mac.map_or("-".to_owned(), mac),
        ]);
    }
    let titles: Vec<String> = list.iter().map(|port| format!(">{}", port.name)).collect();
    let stats: Vec<Vec<Stat>> = list.iter().map(|port| port.stats.clone()).collect();
    let counters = matrix("COUNTER", &titles, &stats, false, all);
    let table = or_nothing(&columns, "there is no port: an ALT router without a site");
    if counters.is_empty() { table } else { format!("{table}\n{counters}") }
}

fn alt(status: &AltStatus) -> String {
    let mut names: Vec<&str> = Vec::new();
    for stat in status.tunnels.iter().flat_map(|tunnel| &tunnel.stats) {
        if !names.contains(&&*stat.name) {
            names.push(&stat.name);
        }
    }
    let fixed = ["TUNNEL", "STATE", "LOCAL", "REMOTE", ">KEY", "CHECKSUM", "ADDRESSES"].map(str::to_owned);
    let counted = names.iter().map(|name| format!(">{}", name.to_uppercase()));
    let mut tunnels = Columns::new(fixed.into_iter().chain(counted));
    for tunnel in &status.tunnels {
        let addresses = tunnel.addresses.iter().map(|(address, length)| format!("{address}/{length}"));
        let fixed = [
            tunnel.name.clone(),
            if tunnel.up { "up" } else { "down" }.to_owned(),
            tunnel.local.to_string(),
            tunnel.remote.to_string(),
            tunnel.key.map_or("-".to_owned(), |key| key.to_string()),
            if tunnel.checksum { "yes" } else { "no" }.to_owned(),
            addresses.collect::<Vec<_>>().join(" "),
        ];
        let value = |name: &&str| tunnel.stats.iter().find(|stat| stat.name == **name).map_or(0, |stat| stat.value);
        tunnels.row(fixed.into_iter().chain(names.iter().map(|name| value(name).to_string())));
    }
    let mut sources = Columns::new([">INSTANCE", "ROUTES FROM", ">PREFIXES", "STATE"]);
    for source in &status.sources {
        let state = if source.ready { "ready" } else { "being read" };
        let prefixes = source.prefixes.to_string();
        sources.row([source.instance.to_string(), source.source.clone(), prefixes, state.to_owned()]);
    }
    let mut routes = Columns::new(["STATIC ROUTE", "VIA"]);
    for route in &status.routes {
        routes.row([route.eid.to_string(), route.via.clone().unwrap_or_else(|| "discard".to_owned())]);
    }
    let (tunnels, sources) = (or_nothing(&tunnels, "there is no tunnel"), or_nothing(&sources, "there is no source"));
    format!("{tunnels}\n{sources}\n{}", or_nothing(&routes, "there is no static route"))
}

pub(super) fn or_nothing(columns: &Columns, nothing: &str) -> String {
    if columns.is_empty() { format!("{nothing}\n") } else { columns.render() }
}

/// Hours, minutes and seconds, days in front if there are any.
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days > 0 { format!("{days}d {rest}") } else { rest }
}

/// The address as people write it.
pub(super) fn mac(address: MacAddress) -> String {
    address.map(|octet| format!("{octet:02x}")).join(":")
}
