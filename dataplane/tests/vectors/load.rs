//! The checked-in vectors of every message, as the tests of both crates read them.

#![allow(dead_code, reason = "each test reads its part")]

use std::collections::BTreeMap;

/// One vector of `vectors.json`.
#[derive(Debug)]
pub(crate) struct Vector {
    /// Letter of its kind, and a number.
    pub(crate) id: String,
    /// What it shows.
    pub(crate) title: String,
    /// The message.
    pub(crate) payload: Vec<u8>,
    /// The whole Ethernet frame around it.
    pub(crate) frame: Vec<u8>,
    /// What an independent decoder shows of it: field → values joined with commas.
    pub(crate) expected: BTreeMap<String, String>,
}

/// All vectors.
pub(crate) fn all() -> Vec<Vector> {
    let json: serde_json::Value = serde_json::from_str(include_str!("vectors.json")).expect("valid JSON");
    let entries = json.as_array().expect("an array");
    entries.iter().map(vector).collect()
}

fn vector(entry: &serde_json::Value) -> Vector {
    let text = |name: &str| entry[name].as_str().unwrap_or_else(|| panic!("field {name} of {entry}")).to_owned();
    let expected = entry["tshark_expect"].as_object().expect("an object");
    Vector {
        id: text("id"),
        title: text("title"),
        payload: octets(&text("payload_hex")),
        frame: octets(&text("frame_hex")),
        expected: expected
            .iter()
            .map(|(field, value)| (field.clone(), value.as_str().expect("a text").to_owned()))
            .collect(),
    }
}

fn octets(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a hex digit") as u8;
    hex.as_bytes().as_chunks::<2>().0.iter().map(|&[high, low]| digit(high) << 4 | digit(low)).collect()
}
