//! TOML text → [`Draft`].
//!
//! serde ends at a document's first mistake. So that an operator sees all of them at once, each element of a list and
//! each single value is read on its own; one that fails is reported, left out, and the rest is read on.

use std::ops::Range;

use serde::{Deserialize, de::IntoDeserializer};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{Draft, Place, Settings, problem::Finding};

/// Reads what can be read, and says what cannot.
pub(super) fn read(text: &str) -> (Draft, Vec<Finding>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut findings: Vec<Finding> = errors.iter().map(syntax).collect();
    // What a syntax error leaves behind would only raise false alarms.
    if !findings.is_empty() {
        return (Draft::default(), findings);
    }
    let mut draft = Draft::default();
    let mut singles = DeTable::new();
    for (key, value) in root.into_inner() {
        match key.get_ref().as_ref() {
            "site-port" => draft.site_ports = list("site-port", value, &mut findings),
            "core-port" => draft.core_ports = list("core-port", value, &mut findings),
            "native-port" => draft.native_ports = list("native-port", value, &mut findings),
            "pitr-prefix" => draft.roles.pitr_prefixes = list("pitr-prefix", value, &mut findings),
            "rtr" => draft.roles.rtr = single("[rtr]", value, &mut findings),
            "petr" => draft.roles.petr = single("[petr]", value, &mut findings),
            "eid-prefix" => draft.eid_prefixes = list("eid-prefix", value, &mut findings),
            "map-cache" => draft.map_cache = list("map-cache", value, &mut findings),
            "alt" => alt(value, &mut draft, &mut findings),
            "map-server" => draft.map_servers = list("map-server", value, &mut findings),
            "site" => draft.roles.sites = list("site", value, &mut findings),
            "rloc-probing" => draft.probing = single("[rloc-probing]", value, &mut findings).unwrap_or_default(),
            "features" => draft.features = single("[features]", value, &mut findings).unwrap_or_default(),
            "pubsub" => draft.pubsub = single("[pubsub]", value, &mut findings).unwrap_or_default(),
            "nat" => draft.nat = single("[nat]", value, &mut findings).unwrap_or_default(),
            "lisp-sec" => draft.lisp_sec = single("[lisp-sec]", value, &mut findings),
            "map-resolver" => draft.roles.map_resolver = single("[map-resolver]", value, &mut findings),
            _ => {
                singles.insert(key, value);
            }
        }
    }
    draft.settings = table(Owner::Top, 0..0, singles, &mut findings).unwrap_or_default();
    (draft, findings)
}

/// What a table of keys stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner<'a> {
    /// The document; its keys are all optional.
    Top,
    /// `[alt]`; its keys are all optional.
    Alt,
    /// A table of its own, with its brackets; a mistake in it leaves nothing of it.
    Table(&'a str),
    /// An element of a list.
    Element(&'a str),
}

fn alt(value: Spanned<DeValue<'_>>, draft: &mut Draft, findings: &mut Vec<Finding>) {
    let span = value.span();
    let DeValue::Table(keys) = value.into_inner() else {
        return findings.push(wrong(&span, "'alt' is not a table", "write [alt], [[alt.tunnel]] and [[alt.route]]"));
    };
    let mut singles = DeTable::new();
    for (key, value) in keys {
        match key.get_ref().as_ref() {
            "tunnel" => draft.tunnels = list("alt.tunnel", value, findings),
            "route" => draft.routes = list("alt.route", value, findings),
            "neighbor" => draft.neighbors = list("alt.neighbor", value, findings),
            "aggregate" => draft.aggregates = list("alt.aggregate", value, findings),
            "rib" if matches!(value.get_ref(), DeValue::Array(_)) => draft.ribs = list("alt.rib", value, findings),
            _ => {
                singles.insert(key, value);
            }
        }
    }
    draft.alt = table(Owner::Alt, span, singles, findings).unwrap_or_default();
}

/// Reads one table; `name` is with its brackets.
fn single<T>(name: &str, value: Spanned<DeValue<'_>>, findings: &mut Vec<Finding>) -> Option<T>
where
    T: for<'de> Deserialize<'de>,
{
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(keys) => table(Owner::Table(name), span, keys, findings),
        _ => {
            findings.push(wrong(&span, format!("{name} is not a table"), format!("write {name}, with one bracket")));
            None
        }
    }
}

/// Reads a list of tables; elements with a mistake are left out.
fn list<T>(name: &str, value: Spanned<DeValue<'_>>, findings: &mut Vec<Finding>) -> Vec<T>
where
    T: for<'de> Deserialize<'de>,
{
    let span = value.span();
    let remedy = format!("write [[{name}]], with two brackets on each side");
    let DeValue::Array(elements) = value.into_inner() else {
        findings.push(wrong(&span, format!("'{name}' is not a list of tables"), remedy));
        return Vec::new();
    };
    let mut items = Vec::new();
    for element in elements {
        let span = element.span();
        match element.into_inner() {
            DeValue::Table(keys) => items.extend(table(Owner::Element(name), span, keys, findings)),
            _ => findings.push(wrong(&span, format!("an element of '{name}' is not a table"), remedy.as_str())),
        }
    }
    items
}

/// Reads one table, reporting each key that is unknown or of the wrong type. An element of a list with a mistake is `None`:
/// what is left of it would raise false alarms.
fn table<T>(owner: Owner<'_>, span: Range<usize>, mut keys: DeTable<'_>, findings: &mut Vec<Finding>) -> Option<T>
where
    T: for<'de> Deserialize<'de>,
{
    let before = findings.len();
    loop {
        let value = Spanned::new(span.clone(), DeValue::Table(keys.clone()));
        let error = match T::deserialize(value.into_deserializer()) {
            Ok(item) => {
                return Some(item).filter(|_| matches!(owner, Owner::Top | Owner::Alt) || findings.len() == before);
            }
            Err(error) => error,
        };
        let at = error.span().unwrap_or(span.clone());
        let inside = |outer: Range<usize>| outer.start <= at.start && at.end <= outer.end;
        let culprit = keys.iter().find(|(key, value)| inside(key.span()) || inside(value.span()));
        let Some((key, value)) = culprit.map(|(key, value)| (key.clone(), value.clone())) else {
            // A missing key, unless it is one that was there and wrong.
            if findings.len() == before {
                findings.push(structure(owner, None, &at, &error));
            }
            return None;
        };
        let unknown = inside(key.span());
        let mut finding = structure(owner, (!unknown).then_some(key.get_ref().as_ref()), &at, &error);
        let alone = DeTable::from_iter([(key.clone(), value)]);
        if unknown
            && owner != Owner::Top
            && table::<Settings>(Owner::Top, 0..0, alone, &mut Vec::new()).is_some_and(|s| s != Settings::default())
        {
            "it belongs to the top level: move it above the first [[...]] of the file".clone_into(&mut finding.remedy);
        }
        findings.push(finding);
        keys.remove(&key);
    }
}

/// A mistake that serde found.
fn structure(owner: Owner<'_>, key: Option<&str>, at: &Range<usize>, error: &Error) -> Finding {
    let (mut what, mut remedy) = halves(error, "see docker/altitude.example.toml");
    if let Some(field) = what.strip_prefix("missing field ") {
        remedy = format!("add {}", field.replace('`', "") + " = ...");
    } else if let Some(key) = key {
        what = format!("'{key}': {what}");
    }
    let unknown = what.starts_with("unknown field");
    match owner {
        Owner::Table(name) => what = format!("{what} in {name}"),
        Owner::Element(name) => what = format!("{what} in [[{name}]]"),
        Owner::Alt => {
            what += " in [alt]";
            if unknown {
                remedy += ", [[alt.tunnel]], [[alt.route]], [[alt.neighbor]], [[alt.aggregate]], [[alt.rib]]";
            }
        }
        Owner::Top if unknown => {
            remedy += ", [[site-port]], [[core-port]], [[eid-prefix]], [[map-cache]], [alt], [[alt.tunnel]], [[alt.route]], [[map-server]], \
                 [[site]], [map-resolver], [rloc-probing], [pubsub]";
        }
        Owner::Top => {}
    }
    wrong(at, what, remedy)
}

/// A mistake that the TOML parser found.
fn syntax(error: &Error) -> Finding {
    let (what, remedy) = halves(error, "correct the TOML syntax");
    wrong(&error.span().unwrap_or(0..0), what, remedy)
}

/// What is wrong, and what was expected instead.
fn halves(error: &Error, otherwise: &str) -> (String, String) {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    match message.split_once(", expected ") {
        Some((what, expected)) => (what.to_owned(), format!("expected {expected}")),
        None => (message, otherwise.to_owned()),
    }
}

fn wrong(span: &Range<usize>, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { place: Place::File { offset: span.start }, what: what.into(), remedy: remedy.into() }
}
