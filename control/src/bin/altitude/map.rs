//! `altitude map`: has a running router change its tables, and prints what it says.
//!
//! JSON, stable as that of `show`:
//!
//! ```text
//! add, change, flush, reach, badreach  { "done": NAME, "generation": N, "count": N }
//! apply    { "done": "apply" or "dry-run", "generation": N, "count": N, "batches": N }
//! del      { "done": "del", "generation": N, "count": N, "entry": entry }
//! get      { "generation": N, "entry": entry or null }
//! monitor  one a line: { "event": NAME, "number": N, "overrun": bool, … } with
//!          add, change    "entry": entry
//!          delete         "table", "eid", "instance", "expired"
//!          flush          "table", "instance" (null: all), "all"
//!          miss           "eid", "instance", "reason", "suppressed", "from"
//!          reach, badreach "locator", "method", "state", "rtt" (microseconds or null)
//! ```

mod apply;
mod monitor;

pub(crate) use monitor::clock;

use std::{
    io::{self, Write},
    path::Path,
};

use altitude_control::api::{
    Judged, Operation, Table,
    client::{Client, ClientError, Performed},
};
use serde_json::json;

use crate::{
    cli::{JudgedArguments, Map, MapCommand, filter, table},
    show,
};

/// Why `altitude map` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    #[error("no entry for {0}")]
    Missing(String),
    #[error("{0}")]
    File(String),
}

/// Does what is asked, and prints.
pub(crate) fn map(arguments: &Map) -> Result<(), MapError> {
    let connect = || Client::connect(&arguments.api);
    let done = match &arguments.what {
        MapCommand::Monitor { only, eid, count } => {
            monitor::monitor(&mut connect()?, filter(only, *eid), *count, arguments.json, &mut io::stdout().lock())
        }
        MapCommand::Get { eid, database } => {
            let (table, mut client) = (table(*database), connect()?);
            let entry = client.find(table, eid)?;
            if arguments.json {
                let entry = entry.as_ref().map(show::entry_document);
                print(&format!("{}\n", json!({ "generation": client.generation(), "entry": entry })))
            } else {
                let entry = entry.ok_or_else(|| MapError::Missing(eid.to_string()))?;
                print(&show::entries(table, vec![entry]))
            }
        }
        MapCommand::Apply { file, dry_run } => apply::apply(&arguments.api, file, *dry_run, arguments.json),
        change => {
            let (name, operation) = operation(change);
            let performed = connect()?.perform(&operation)?;
            print(&said(name, &operation, &performed, arguments.json))
        }
    };
    match done {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(MapError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn print(text: &str) -> Result<(), MapError> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// `altitude reload`.
pub(crate) fn reload(api: &Path) -> Result<(), MapError> {
    let performed = Client::connect(api)?.perform(&Operation::Reload)?;
    print(&said("reload", &Operation::Reload, &performed, false))
}

/// `altitude bgp clear`.
pub(crate) fn clear(api: &Path, neighbor: &str, soft: bool) -> Result<(), MapError> {
    let operation = Operation::Clear { neighbor: Some(neighbor.to_owned()).filter(|named| named != "all"), soft };
    let performed = Client::connect(api)?.perform(&operation)?;
    print(&said("clear", &operation, &performed, false))
}

/// The operation of a command that is one, with its name.
fn operation(command: &MapCommand) -> (&'static str, Operation) {
    let judged = |arguments: &JudgedArguments| match (arguments.rloc, arguments.eid) {
        (Some(rloc), _) => Judged::Locator(rloc),
        (None, Some(eid)) => Judged::Mapping(eid),
        (None, None) => unreachable!("one of the two is required"),
    };
    match command {
        MapCommand::Add(offer) => ("add", Operation::Add(offer.offer())),
        MapCommand::Change(arguments) => ("change", arguments.operation()),
        MapCommand::Del(arguments) => ("del", arguments.operation()),
        MapCommand::Flush { database, instance, all } => {
            ("flush", Operation::Flush { table: table(*database), instance: *instance, all: *all })
        }
        MapCommand::Reach(arguments) => ("reach", Operation::Judge { judged: judged(arguments), up: true }),
        MapCommand::Badreach(arguments) => ("badreach", Operation::Judge { judged: judged(arguments), up: false }),
        MapCommand::Get { .. } | MapCommand::Monitor { .. } | MapCommand::Apply { .. } => {
            unreachable!("these change nothing")
        }
    }
}

/// What is printed of a change that was done.
fn said(name: &str, operation: &Operation, performed: &Performed, json: bool) -> String {
    let Performed { generation, entry, count } = performed;
    if json {
        let mut document = json!({ "done": name, "generation": generation, "count": count });
        if let Some(entry) = entry {
            document["entry"] = show::entry_document(entry);
        }
        return format!("{document}\n");
    }
    let many = |noun: &str| format!("{count} {noun}{}", if *count == 1 { "" } else { "s" });
    match operation {
        Operation::Add(offer) => format!("added {}\n", offer.mapping.eid),
        Operation::Change { offer, .. } => format!("changed {}\n", offer.mapping.eid),
        Operation::Delete { table, eid, .. } => {
            let was = entry.iter().map(|entry| show::entries(*table, vec![entry.clone()]));
            format!("took out {eid}, which was\n{}", was.collect::<String>())
        }
        Operation::Flush { table: Table::Database, .. } => format!("undid {}\n", many("change")),
        Operation::Flush { .. } => format!("took out {}\n", many("mapping")),
        Operation::Judge { up: true, .. } => format!("to be used again: {}\n", many("locator")),
        Operation::Judge { up: false, .. } => format!("out of use: {}\n", many("locator")),
        Operation::Clear { soft: true, .. } => format!("routes are exchanged again with {}\n", many("neighbour")),
        Operation::Clear { .. } => format!("begun anew: {}\n", many("session")),
        Operation::Reload if *count == 0 => "nothing changed\n".to_owned(),
        Operation::Reload => format!("changed: {count}\n"),
    }
}

#[cfg(test)]
mod tests;
