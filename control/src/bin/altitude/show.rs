//! `altitude show`: asks a running router and prints what it says, as tables or as one JSON document.

mod json;
mod table;
mod text;

use std::io::{self, Write};

use altitude_control::api::{
    AltStatus, Counts, Entry, PortStatus, Table,
    client::{Client, ClientError},
};

use crate::cli::{Show, What};

/// An answer of the router.
enum Answer {
    MapCache(Vec<Entry>),
    Database(Vec<Entry>),
    Counters(Vec<Counts>),
    Ports(Vec<PortStatus>),
    Alt(AltStatus),
}

/// Asks and prints.
pub(crate) fn show(arguments: &Show) -> Result<(), String> {
    let answer = ask(arguments).map_err(|error| format!("altitude: {error}"))?;
    let text = if arguments.json { json::document(&answer) } else { text::tables(&answer, arguments.all) };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("altitude: cannot print: {error}")),
        _ => Ok(()),
    }
}

fn ask(arguments: &Show) -> Result<Answer, ClientError> {
    let mut client = Client::connect(&arguments.api)?;
    Ok(match arguments.what {
        What::MapCache => Answer::MapCache(client.dump(Table::Cache)?),
        What::Database => Answer::Database(client.dump(Table::Database)?),
        What::Counters => Answer::Counters(client.counts()?),
        What::Ports => Answer::Ports(client.ports()?),
        What::Alt => Answer::Alt(client.alt()?),
    })
}

#[cfg(test)]
mod tests;
