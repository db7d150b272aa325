//! Locators of other sites, as tables and as JSON.

use std::time::Duration;

use altitude_control::api::{LocatorStatus, PROBE_STATES};
use serde_json::{Value, json};

use super::{table::Columns, text};

/// One row for each locator.
pub(super) fn table(locators: &[LocatorStatus]) -> String {
    let mut columns = Columns::new([
        "LOCATOR",
        "STATE",
        "PROBES SAY",
        ">SINCE",
        ">RTT",
        ">SENT",
        ">ANSWERED",
        ">LOST",
        ">MAPPINGS",
        ">CARRYING",
        "WHY",
    ]);
    for locator in locators {
        let number = |of: fn(&altitude_control::api::ProbingStatus) -> u64| {
            locator.probing.as_ref().map_or("-".to_owned(), |probing| of(probing).to_string())
        };
        let rtt = locator.probing.and_then(|probing| probing.rtt);
        columns.row([
            locator.address.to_string(),
            if locator.up { "up" } else { "down" }.to_owned(),
            locator.probing.map_or("-", |probing| PROBE_STATES[usize::from(probing.state)]).to_owned(),
            locator.probing.map_or("-".to_owned(), |probing| text::clock(probing.since)),
            rtt.map_or("-".to_owned(), |(smoothed, _)| milliseconds(smoothed)),
            number(|probing| probing.sent),
            number(|probing| probing.answered),
            number(|probing| probing.lost),
            locator.mappings.to_string(),
            locator.carrying.to_string(),
            locator.why.clone(),
        ]);
    }
    text::or_nothing(&columns, "no mapping has a locator")
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// The list under its key.
pub(super) fn document(locators: &[LocatorStatus]) -> Value {
    let microseconds = |time: Duration| time.as_micros() as u64;
    let one = |locator: &LocatorStatus| {
        let probing = locator.probing.map(|probing| {
            json!({
                "state": PROBE_STATES[usize::from(probing.state)],
                "since": probing.since.as_secs(),
                "held": probing.held,
                "rtt": probing.rtt.map(|(smoothed, _)| microseconds(smoothed)),
                "rtt-variation": probing.rtt.map(|(_, variation)| microseconds(variation)),
                "sent": probing.sent,
                "answered": probing.answered,
                "lost": probing.lost,
            })
        });
        json!({
            "address": locator.address.to_string(),
            "up": locator.up,
            "why": locator.why,
            "mappings": locator.mappings,
            "carrying": locator.carrying,
            "probing": probing,
        })
    };
    json!({ "locators": locators.iter().map(one).collect::<Vec<_>>() })
}
