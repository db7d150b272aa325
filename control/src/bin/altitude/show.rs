//! `altitude show`: asks a running router and prints what it says, as tables or as one JSON document.

mod bgp;
mod json;
mod locators;
mod nat;
mod registration;
mod sites;
mod subscriptions;
pub(crate) mod table;
mod text;
mod watch;

use std::{
    io::{self, Write},
    time::Duration,
};

use altitude_control::api::{
    AltStatus, BgpStatus, BindingStatus, Counts, Entry, LocatorStatus, PortStatus, RegistrationStatus,
    SubscriptionStatus, Table,
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
    Subscriptions(Vec<SubscriptionStatus>),
    Nat(Vec<BindingStatus>),
}

/// Why nothing more is shown.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error(transparent)]
    Ask(#[from] ClientError),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Asks and prints, again and again if it is to watch.
pub(crate) fn show(arguments: &Show) -> Result<(), String> {
    let shown = match arguments.watch {
        Some(seconds) => watch::watch(arguments, Duration::from_secs(seconds)),
        None => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            print(arguments, &mut out).and_then(|()| Ok(out.flush()?))
        }
    };
    match shown {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(ShowError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| format!("altitude: {error}")),
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

/// Asks and prints once. What may be very long is printed as it comes.
fn print(arguments: &Show, out: &mut dyn Write) -> Result<(), ShowError> {
    let mut client = Client::connect(&arguments.api)?;
    if arguments.part.is_some() {
        return bgp::routes(&mut client, arguments.prefix, arguments.json, out);
    }
    let Some(answer) = ask(&mut client, arguments)? else { return sites::sites(&mut client, arguments.json, out) };
    let text = if arguments.json { json::document(&answer) } else { text::tables(&answer, arguments.all) };
    Ok(out.write_all(text.as_bytes())?)
}

fn ask(client: &mut Client, arguments: &Show) -> Result<Option<Answer>, ClientError> {
    Ok(Some(match arguments.what {
        What::MapCache => Answer::MapCache(client.dump(Table::Cache)?),
        What::Database => Answer::Database(client.dump(Table::Database)?),
        What::Locators => Answer::Locators(client.locators()?),
        What::Counters => Answer::Counters(client.counts()?),
        What::Ports => Answer::Ports(client.ports()?),
        What::Alt => Answer::Alt(client.alt()?),
        What::Registrations => Answer::Registrations(client.registrations()?),
        What::Subscriptions => Answer::Subscriptions(client.subscriptions()?),
        What::Nat => Answer::Nat(client.bindings()?),
        What::Bgp => Answer::Bgp(client.bgp()?, arguments.neighbor.clone()),
        // Too many for one answer.
        What::Sites => return Ok(None),
    }))
}

#[cfg(test)]
mod tests;
