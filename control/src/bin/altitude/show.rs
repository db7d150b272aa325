//! `altitude show`: asks a running router and prints what it says, as tables or as one JSON document.

mod bgp;
mod json;
mod locators;
mod registration;
mod sites;
pub(crate) mod table;
mod text;

use std::io::{self, Write};

use altitude_control::api::{
    AltStatus, BgpStatus, Counts, Entry, LocatorStatus, PortStatus, RegistrationStatus, Table,
    client::{Client, ClientError},
};

use crate::cli::{Show, What};

/// An answer of the router.
enum Answer {
    MapCache(Vec<Entry>),
    Database(Vec<Entry>),
    Locators(Vec<LocatorStatus>),
    Counters(Vec<Counts>),
    Ports(Vec<PortStatus>),
    Alt(AltStatus),
    /// With the neighbour that alone is wanted.
    Bgp(BgpStatus, Option<String>),
    Registrations(Vec<RegistrationStatus>),
}

/// Asks and prints.
pub(crate) fn show(arguments: &Show) -> Result<(), String> {
    if arguments.part.is_some() {
        return show_routes(arguments);
    }
    let answer = ask(arguments).map_err(|error| format!("altitude: {error}"))?;
    let Some(answer) = answer else { return show_sites(arguments) };
    let text = if arguments.json { json::document(&answer) } else { text::tables(&answer, arguments.all) };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("altitude: cannot print: {error}")),
        _ => Ok(()),
    }
}

/// Entries of one table, as `show` prints them.
pub(crate) fn entries(table: Table, entries: Vec<Entry>) -> String {
    let answer = match table {
        Table::Cache => Answer::MapCache(entries),
        Table::Database => Answer::Database(entries),
    };
    text::tables(&answer, false)
}

pub(crate) use json::entry as entry_document;

/// Prints BGP routes as they come.
fn show_routes(arguments: &Show) -> Result<(), String> {
    let tell = |error: &dyn std::fmt::Display| format!("altitude: {error}");
    let mut client = Client::connect(&arguments.api).map_err(|error| tell(&error))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let shown = bgp::routes(&mut client, arguments.prefix, arguments.json, &mut out);
    match shown.and_then(|()| Ok(out.flush()?)) {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(bgp::RoutesError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(tell(&error)),
        Ok(()) => Ok(()),
    }
}

/// Prints the sites of the Map-Server as they come.
fn show_sites(arguments: &Show) -> Result<(), String> {
    let tell = |error: &dyn std::fmt::Display| format!("altitude: {error}");
    let mut client = Client::connect(&arguments.api).map_err(|error| tell(&error))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let shown = sites::sites(&mut client, arguments.json, &mut out);
    match shown.and_then(|()| Ok(out.flush()?)) {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(sites::SitesError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(tell(&error)),
        Ok(()) => Ok(()),
    }
}

fn ask(arguments: &Show) -> Result<Option<Answer>, ClientError> {
    let mut client = Client::connect(&arguments.api)?;
    Ok(Some(match arguments.what {
        What::MapCache => Answer::MapCache(client.dump(Table::Cache)?),
        What::Database => Answer::Database(client.dump(Table::Database)?),
        What::Locators => Answer::Locators(client.locators()?),
        What::Counters => Answer::Counters(client.counts()?),
        What::Ports => Answer::Ports(client.ports()?),
        What::Alt => Answer::Alt(client.alt()?),
        What::Registrations => Answer::Registrations(client.registrations()?),
        What::Bgp => Answer::Bgp(client.bgp()?, arguments.neighbor.clone()),
        // Too many for one answer.
        What::Sites => return Ok(None),
    }))
}

#[cfg(test)]
mod tests;
