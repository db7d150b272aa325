//! `show registrations`.

use std::time::Duration;

use altitude_control::api::{PrefixStatus, RegistrationStatus};
use serde_json::{Value, json};

use super::{Answer, eid, json as documents, text};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn list() -> Vec<RegistrationStatus> {
    let prefix = |text, standing, since| PrefixStatus { eid: eid(text, 0), standing, since: seconds(since) };
    let silent = RegistrationStatus {
        server: [240, 0, 254, 41].into(),
        standing: "silent",
        since: seconds(61),
        sent: 9,
        confirmed: 0,
        last_notify: None,
        reason: Some(("nothing came back".to_owned(), "see that it runs".to_owned())),
        prefixes: vec![prefix("1.1.0.0/16", "silent", 61)],
    };
    let registered = RegistrationStatus {
        server: [240, 0, 254, 40].into(),
        standing: "registered",
        since: seconds(90_000),
        sent: 1500,
        confirmed: 310,
        last_notify: Some(seconds(7)),
        reason: None,
        prefixes: vec![prefix("1.1.0.0/16", "registered", 90_000)],
    };
    vec![registered, silent]
}

#[test]
fn each_map_server_its_prefixes_and_what_to_do() {
    let expected = "\
MAP-SERVER    STANDING          SINCE  SENT  CONFIRMED   LAST NOTIFY  PREFIXES
240.0.254.40  registered  1d 01:00:00  1500        310  00:00:07 ago       1/1
240.0.254.41  silent         00:01:01     9          0             -       0/1

EID-PREFIX  MAP-SERVER    STANDING          SINCE
1.1.0.0/16  240.0.254.40  registered  1d 01:00:00
1.1.0.0/16  240.0.254.41  silent         00:01:01

240.0.254.41: nothing came back
  what to do: see that it runs
";
    assert_eq!(text::tables(&Answer::Registrations(list()), false), expected);
    let none = text::tables(&Answer::Registrations(Vec::new()), false);
    assert_eq!(none, "there is no Map-Server; add --map-server or [[map-server]]\n");
}

#[test]
fn the_document_has_the_same() {
    let document: Value = serde_json::from_str(&documents::document(&Answer::Registrations(list()))).unwrap();
    assert_eq!(document["registrations"][0]["last-notify"], 7);
    let prefix = json!({ "eid": "1.1.0.0/16", "instance": 0, "standing": "silent", "since": 61 });
    let silent = json!({
        "map-server": "240.0.254.41", "standing": "silent", "since": 61, "sent": 9, "confirmed": 0, "last-notify": null,
        "why": "nothing came back", "remedy": "see that it runs", "prefixes": [prefix],
    });
    assert_eq!(document["registrations"][1], silent);
}
