//! `altitude show registrations`.

use altitude_control::api::RegistrationStatus;
use serde_json::{Value, json};

use super::{
    table::Columns,
    text::{clock, or_nothing},
};

/// The Map-Servers, what each says of each prefix, and why it does not say better.
pub(super) fn tables(list: &[RegistrationStatus]) -> String {
    let mut servers =
        Columns::new(["MAP-SERVER", "STANDING", ">SINCE", ">SENT", ">CONFIRMED", ">LAST NOTIFY", ">PREFIXES"]);
    let mut prefixes = Columns::new(["EID-PREFIX", "MAP-SERVER", "STANDING", ">SINCE"]);
    let mut reasons = String::new();
    for status in list {
        let server = status.server.to_string();
        let registered = status.prefixes.iter().filter(|prefix| prefix.standing == "registered").count();
        servers.row([
            server.clone(),
            status.standing.to_owned(),
            clock(status.since),
            status.sent.to_string(),
            status.confirmed.to_string(),
            status.last_notify.map_or("-".to_owned(), |ago| format!("{} ago", clock(ago))),
            format!("{registered}/{}", status.prefixes.len()),
        ]);
        for prefix in &status.prefixes {
            let standing = prefix.standing.to_owned();
            prefixes.row([prefix.eid.to_string(), server.clone(), standing, clock(prefix.since)]);
        }
        if let Some((what, remedy)) = &status.reason {
            reasons += &format!("\n{server}: {what}\n  what to do: {remedy}\n");
        }
    }
    if servers.is_empty() {
        return or_nothing(&servers, "there is no Map-Server; add --map-server or [[map-server]]");
    }
    format!("{}\n{}{reasons}", servers.render(), prefixes.render())
}

pub(super) fn document(list: &[RegistrationStatus]) -> Value {
    let prefix = |prefix: &altitude_control::api::PrefixStatus| {
        json!({
            "eid": prefix.eid.prefix.to_string(),
            "instance": prefix.eid.instance.get(),
            "standing": prefix.standing,
            "since": prefix.since.as_secs(),
        })
    };
    let server = |status: &RegistrationStatus| {
        let (why, remedy) = status.reason.as_ref().map(|(what, remedy)| (what, remedy)).unzip();
        json!({
            "map-server": status.server,
            "standing": status.standing,
            "since": status.since.as_secs(),
            "sent": status.sent,
            "confirmed": status.confirmed,
            "last-notify": status.last_notify.map(|ago| ago.as_secs()),
            "why": why,
            "remedy": remedy,
            "prefixes": status.prefixes.iter().map(prefix).collect::<Vec<_>>(),
        })
    };
    json!({ "registrations": list.iter().map(server).collect::<Vec<_>>() })
}
