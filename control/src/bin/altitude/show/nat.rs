//! `altitude show nat`.

use altitude_control::api::BindingStatus;
use serde_json::{Value, json};

use super::{
    table::Columns,
    text::{clock, or_nothing},
};

/// One row for each binding, what is behind it last.
pub(super) fn table(list: &[BindingStatus]) -> String {
    let mut columns = Columns::new([
        "STATE",
        "TRANSLATED",
        "OUR-RLOC",
        "XTR-ITSELF",
        "XTR-ID",
        "NONCE",
        ">AGE",
        ">HEARD",
        "EID-PREFIXES",
    ]);
    for one in list {
        let eids: Vec<String> = one.eids.iter().map(ToString::to_string).collect();
        columns.row([
            state(one).to_owned(),
            one.translated.to_string(),
            one.rloc.to_string(),
            one.inner.to_string(),
            hex(one.xtr_id),
            format!("{:016x}", one.nonce),
            clock(one.since),
            clock(one.heard),
            if eids.is_empty() { "-".to_owned() } else { eids.join(", ") },
        ]);
    }
    or_nothing(&columns, "no xTR behind a NAT registers through us; see [nat]")
}

pub(super) fn document(list: &[BindingStatus]) -> Value {
    let one = |one: &BindingStatus| {
        let eids: Vec<Value> = one
            .eids
            .iter()
            .map(|eid| json!({ "eid": eid.prefix.to_string(), "instance": eid.instance.get() }))
            .collect();
        json!({
            "state": state(one),
            "translated": one.translated.ip(),
            "translated-port": one.translated.port(),
            "rloc": one.rloc,
            "inner": one.inner.ip(),
            "inner-port": one.inner.port(),
            "xtr-id": hex(one.xtr_id),
            "site-id": Some(one.site_id).filter(|id| *id != 0).map(|id| format!("{id:016x}")),
            "nonce": format!("{:016x}", one.nonce),
            "age": one.since.as_secs(),
            "heard": one.heard.as_secs(),
            "eid-prefixes": eids,
        })
    };
    json!({ "bindings": list.iter().map(one).collect::<Vec<_>>() })
}

const fn state(one: &BindingStatus) -> &'static str {
    if one.verified { "verified" } else { "unverified" }
}

fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}
