//! Neighbours and BGP routes, as tables and as JSON.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use altitude_control::api::{BgpRoute, BgpStatus, NeighborStatus, RouteOrigin, RoutesAsked, Stat, client::Client};
use altitude_dataplane::mapping::EidPrefix;
use serde_json::{Value, json};

use super::{
    ShowError,
    json::counters,
    table::Columns,
    text::{clock, or_nothing},
};

/// The neighbours; one alone in full if `only` names it by address or name.
pub(super) fn tables(status: &BgpStatus, only: Option<&str>, all: bool) -> String {
    let Some(speaker) = &status.speaker else {
        return "BGP is not spoken here: give --alt-as and --alt-neighbor, or [alt] as and [[alt.neighbor]]\n"
            .to_owned();
    };
    if let Some(only) = only {
        let found: Vec<String> = named(status, only).map(|neighbor| detail(neighbor, all)).collect();
        return if found.is_empty() { format!("there is no neighbour {only}\n") } else { found.join("\n") };
    }
    let up = status.neighbors.iter().filter(|neighbor| neighbor.session.is_some()).count();
    let restarting = if speaker.restarting { ", restarting: nothing is announced yet" } else { "" };
    let head = format!(
        "AS {}, router ID {}, {up} of {} neighbours up{restarting}\n\n",
        speaker.asn,
        speaker.router_id,
        status.neighbors.len()
    );
    let titles =
        ["NEIGHBOR", "NAME", ">AS", ">INSTANCE", "TUNNEL", "STATE", ">SINCE", ">RECEIVED", ">ADVERTISED", "LAST DOWN"];
    let mut columns = Columns::new(titles);
    for neighbor in &status.neighbors {
        let name = if neighbor.name == neighbor.address.to_string() { "-" } else { &neighbor.name };
        columns.row([
            neighbor.address.to_string(),
            name.to_owned(),
            neighbor.asn.to_string(),
            neighbor.instance.to_string(),
            neighbor.tunnel.clone(),
            neighbor.state.to_owned(),
            clock(neighbor.since),
            neighbor.received.to_string(),
            neighbor.advertised.to_string(),
            neighbor.last_down.as_ref().map_or("-", |(_, reason)| reason).to_owned(),
        ]);
    }
    head + &or_nothing(&columns, "there is no neighbour")
}

fn named<'a>(status: &'a BgpStatus, only: &str) -> impl Iterator<Item = &'a NeighborStatus> {
    let address: Option<IpAddr> = only.parse().ok();
    status.neighbors.iter().filter(move |neighbor| Some(neighbor.address) == address || neighbor.name == only)
}

fn detail(neighbor: &NeighborStatus, all: bool) -> String {
    let mut lines = vec![
        ("neighbor", format!("{} ({}), AS {}", neighbor.address, neighbor.name, neighbor.asn)),
        ("over", format!("tunnel {}, our end {}, instance {}", neighbor.tunnel, neighbor.local, neighbor.instance)),
        ("state", format!("{} for {}", neighbor.state, clock(neighbor.since))),
    ];
    if let Some(session) = &neighbor.session {
        lines.push(("router ID", session.router_id.to_string()));
        let hold = session.hold.as_secs();
        lines.push(("hold time", if hold == 0 { "none".to_owned() } else { format!("{hold} s") }));
        lines.push(("agreed on", session.capabilities.join(", ")));
    }
    lines.push(("prefixes", format!("{} received, {} advertised", neighbor.received, neighbor.advertised)));
    if let Some((ago, reason)) = &neighbor.last_down {
        lines.push(("last down", format!("{} ago: {reason}", clock(*ago))));
    }
    if let Some(retry) = neighbor.retry {
        lines.push(("next attempt", format!("in {}", clock(retry))));
    }
    if let Some(stale) = neighbor.stale {
        lines.push(("stale routes", format!("kept for {} yet: the neighbour restarts", clock(stale))));
    }
    let text: String = lines.iter().map(|(title, text)| format!("{title:<14}{text}\n")).collect();
    let mut columns = Columns::new(["COUNTER", ">VALUE"]);
    for Stat { name, value } in neighbor.stats.iter().filter(|stat| all || stat.value != 0) {
        columns.row([name.to_string(), value.to_string()]);
    }
    if columns.is_empty() { text } else { format!("{text}\n{}", columns.render()) }
}

/// The same as one document.
pub(super) fn document(status: &BgpStatus, only: Option<&str>) -> Value {
    let neighbors: Vec<Value> = match only {
        None => status.neighbors.iter().map(neighbor_document).collect(),
        Some(only) => named(status, only).map(neighbor_document).collect(),
    };
    json!({
        "as": status.speaker.map(|speaker| speaker.asn),
        "router-id": status.speaker.map(|speaker| speaker.router_id.to_string()),
        "restarting": status.speaker.is_some_and(|speaker| speaker.restarting),
        "neighbors": neighbors,
    })
}

fn neighbor_document(neighbor: &NeighborStatus) -> Value {
    let session = neighbor.session.as_ref();
    let seconds = |duration: Option<std::time::Duration>| duration.map(|duration| duration.as_secs());
    json!({
        "address": neighbor.address.to_string(),
        "name": neighbor.name,
        "as": neighbor.asn,
        "instance": neighbor.instance.get(),
        "tunnel": neighbor.tunnel,
        "local": neighbor.local.to_string(),
        "state": neighbor.state,
        "since": neighbor.since.as_secs(),
        "router-id": session.map(|session| session.router_id.to_string()),
        "hold": session.map(|session| session.hold.as_secs()),
        "capabilities": session.map_or(&[][..], |session| &session.capabilities),
        "received": neighbor.received,
        "advertised": neighbor.advertised,
        "last-down": neighbor.last_down.as_ref().map(|(ago, reason)| json!({ "ago": ago.as_secs(), "reason": reason })),
        "retry": seconds(neighbor.retry),
        "stale": seconds(neighbor.stale),
        "counters": counters(&neighbor.stats),
    })
}

/// Prints routes page by page, as there may be a million of them.
pub(super) fn routes(
    client: &mut Client,
    exact: Option<EidPrefix>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ShowError> {
    let mut asked = RoutesAsked { exact, after: None };
    let mut printer = Printer::start(json, out)?;
    loop {
        let (routes, next) = client.bgp_routes(asked)?;
        printer.page(&routes)?;
        match next {
            Some(next) => asked.after = Some(next),
            None => return Ok(printer.end(exact.is_some())?),
        }
    }
}

/// Routes in lines of fixed columns, or as the elements of one JSON list.
pub(super) struct Printer<'a> {
    json: bool,
    out: &'a mut dyn Write,
    count: u64,
}

impl<'a> Printer<'a> {
    pub(super) fn start(json: bool, out: &'a mut dyn Write) -> io::Result<Self> {
        if json {
            out.write_all(b"{ \"routes\": [")?;
        }
        Ok(Self { json, out, count: 0 })
    }

    pub(super) fn page(&mut self, routes: &[BgpRoute]) -> io::Result<()> {
        for route in routes {
            match (self.json, self.count) {
                (true, 0) => write!(self.out, "\n  {}", route_document(route))?,
                (true, _) => write!(self.out, ",\n  {}", route_document(route))?,
                (false, count) => {
                    if count == 0 {
                        writeln!(self.out, "{}", line("", "EID-PREFIX", "FROM", "AS PATH", "NOTES"))?;
                    }
                    writeln!(self.out, "{}", route_line(route))?;
                }
            }
            self.count += 1;
        }
        Ok(())
    }

    pub(super) fn end(self, exact: bool) -> io::Result<()> {
        match (self.json, self.count) {
            (true, 0) => self.out.write_all(b"] }\n"),
            (true, _) => self.out.write_all(b"\n] }\n"),
            (false, 0) if exact => self.out.write_all(b"there is no BGP route to exactly this prefix\n"),
            (false, 0) => self.out.write_all(b"there is no BGP route\n"),
            (false, _) => Ok(()),
        }
    }
}

fn line(mark: &str, eid: &str, from: &str, path: &str, notes: &str) -> String {
    format!("{mark:<2}{eid:<28}{from:<18}{path:<30}{notes}").trim_end().to_owned()
}

fn route_line(route: &BgpRoute) -> String {
    let mut notes = Vec::new();
    if !route.best {
        notes.push(route.why_not.clone());
    }
    if route.stale {
        notes.push("stale".to_owned());
    }
    notes.extend(route.med.map(|med| format!("MED {med}")));
    notes.extend(route.communities.iter().map(|community| self::community(*community)));
    let path = if route.as_path.is_empty() { "-" } else { &route.as_path };
    let mark = if route.best { "*" } else { "" };
    line(mark, &route.eid.to_string(), from(route), &format!("{path} "), &notes.join(", "))
}

fn from(route: &BgpRoute) -> &str {
    match route.origin {
        RouteOrigin::Local => "(ours)",
        RouteOrigin::Aggregate => "(aggregate)",
        RouteOrigin::Neighbor => &route.neighbor,
    }
}

/// As operators write it (RFC 1997).
fn community(community: u32) -> String {
    format!("{}:{}", community >> 16, community & 0xffff)
}

fn route_document(route: &BgpRoute) -> Value {
    json!({
        "eid": route.eid.prefix.to_string(),
        "instance": route.eid.instance.get(),
        "origin": match route.origin {
            RouteOrigin::Local => "local",
            RouteOrigin::Aggregate => "aggregate",
            RouteOrigin::Neighbor => "neighbor",
        },
        "neighbor": Some(&route.neighbor).filter(|name| !name.is_empty()),
        "best": route.best,
        "why-not": Some(&route.why_not).filter(|why| !why.is_empty()),
        "stale": route.stale,
        "as-path": route.as_path,
        "med": route.med,
        "communities": route.communities.iter().map(|community| self::community(*community)).collect::<Vec<_>>(),
    })
}
