//! `altitude map monitor`: events as they come.

use std::{
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use altitude_control::api::{
    Entry, Event, Filter, Method, MissReason, Stale, Table,
    client::{Client, Told},
};
use altitude_dataplane::mapping::InstanceId;
use serde_json::{Value, json};

use super::MapError;
use crate::show;

/// Prints events until `count` have come, or for ever.
pub(super) fn monitor(
    client: &mut Client,
    filter: Filter,
    count: Option<u64>,
    json: bool,
    out: &mut impl Write,
) -> Result<(), MapError> {
    client.subscribe(&[filter], false)?;
    if !json {
        writeln!(out, "{:<12}  {:<8}  {:<24}  DETAILS", "TIME (UTC)", "EVENT", "EID OR RLOC")?;
        out.flush()?;
    }
    let mut left = count;
    while left != Some(0) {
        let Some(told) = client.next_event(None)? else { continue };
        if json {
            writeln!(out, "{}", document(&told))?;
        } else {
            out.write_all(lines(&told, &clock(SystemTime::now())).as_bytes())?;
        }
        out.flush()?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// `hh:mm:ss.mmm` of the day in UTC.
pub(crate) fn clock(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, since.subsec_millis())
}

const fn name(event: &Event) -> &'static str {
    match event {
        Event::Added(_) => "add",
        Event::Changed(_) => "change",
        Event::Deleted { .. } => "delete",
        Event::Flushed { .. } => "flush",
        Event::Missed { .. } => "miss",
        Event::Judged { up: true, .. } => "reach",
        Event::Judged { up: false, .. } => "badreach",
        Event::Stale { .. } => "stale",
        Event::StatusBits { .. } => "lsbits",
    }
}

const fn table(table: Table) -> &'static str {
    match table {
        Table::Cache => "map-cache",
        Table::Database => "database",
    }
}

const fn reason(reason: MissReason) -> &'static str {
    match reason {
        MissReason::NoEntry => "no-entry",
        MissReason::Expiring => "expiring",
        MissReason::SendMapRequest => "send-map-request",
    }
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Probe => "probe",
        Method::EchoNonce => "echo-nonce",
        Method::StatusBits => "status-bits",
        Method::Icmp => "icmp",
        Method::Rib => "route",
        Method::Admin => "admin",
    }
}

/// One event for people; one that comes after a loss has a line in front.
pub(super) fn lines(told: &Told, time: &str) -> String {
    let (place, details) = match &told.event {
        Event::Added(entry) | Event::Changed(entry) => (entry.eid.to_string(), content(entry)),
        Event::Deleted { eid, expired, .. } => {
            (eid.to_string(), if *expired { "its time was over" } else { "taken out" }.to_owned())
        }
        Event::Flushed { table: of, instance, all } => {
            let whose = instance.map_or("all instances".to_owned(), |instance| format!("instance {}", instance.get()));
            let also = if *all { ", static mappings too" } else { "" };
            (table(*of).to_owned(), format!("emptied, {whose}{also}"))
        }
        Event::Stale { eid, which, seen, ours, peer } => {
            let whose = if *which == Stale::Local { "our copy is old" } else { "the peer's copy is old" };
            (eid.to_string(), format!("{whose}: version {seen} from {peer}, ours is {ours}"))
        }
        Event::StatusBits { eid, bits, width, peer } => {
            (eid.to_string(), format!("{bits:0width$b} from {peer}", width = usize::from(*width)))
        }
        Event::Missed { eid, reason: why, suppressed, from, .. } => {
            let from = from.map_or_else(String::new, |from| format!("  from {from}"));
            let more = if *suppressed > 0 { format!("  and {suppressed} before") } else { String::new() };
            (eid.to_string(), format!("{}{from}{more}", reason(*why)))
        }
        Event::Judged { locator, method: by, state, rtt, .. } => {
            let rtt = rtt.map_or_else(String::new, |rtt| format!("  rtt {} µs", rtt.as_micros()));
            (locator.to_string(), format!("{}  probes say {state}{rtt}", method(*by)))
        }
    };
    let loss =
        if told.overrun { format!("{time:<12}  events were lost: read the tables again\n") } else { String::new() };
    format!("{loss}{time:<12}  {:<8}  {place:<24}  {details}\n", name(&told.event))
}

/// A mapping on one line.
fn content(entry: &Entry) -> String {
    let origin = entry.origin.name();
    if entry.locators.is_empty() {
        return format!("{origin}  {}", entry.action);
    }
    let locators = entry.locators.iter().map(|of| {
        let state = if of.up { "" } else { " (not up)" };
        format!("{} {}/{}{state}", of.locator.address, of.locator.priority, of.locator.weight)
    });
    format!("{origin}  {}", locators.collect::<Vec<_>>().join(", "))
}

/// One event for programs.
pub(super) fn document(told: &Told) -> Value {
    let mut document = match &told.event {
        Event::Added(entry) | Event::Changed(entry) => json!({ "entry": show::entry_document(entry) }),
        Event::Deleted { table: of, eid, expired } => json!({
            "table": table(*of), "eid": eid.prefix.to_string(), "instance": eid.instance.get(), "expired": expired,
        }),
        Event::Flushed { table: of, instance, all } => json!({
            "table": table(*of), "instance": instance.map(InstanceId::get), "all": all,
        }),
        Event::Stale { eid, which, seen, ours, peer } => json!({
            "eid": eid.prefix.to_string(), "instance": eid.instance.get(), "seen": seen, "ours": ours,
            "copy": if *which == Stale::Local { "local" } else { "remote" }, "peer": peer.to_string(),
        }),
        Event::StatusBits { eid, bits, width, peer } => json!({
            "eid": eid.prefix.to_string(), "instance": eid.instance.get(), "bits": bits, "width": width,
            "peer": peer.to_string(),
        }),
        Event::Missed { eid, reason: why, suppressed, from, .. } => json!({
            "eid": eid.prefix.to_string(), "instance": eid.instance.get(), "reason": reason(*why),
            "suppressed": suppressed, "from": from.map(|from| from.to_string()),
        }),
        Event::Judged { locator, method: by, state, rtt, .. } => json!({
            "locator": locator.to_string(), "method": method(*by), "state": state,
            "rtt": rtt.map(|rtt| rtt.as_micros() as u64),
        }),
    };
    document["event"] = name(&told.event).into();
    document["number"] = told.number.into();
    document["overrun"] = told.overrun.into();
    document
}
