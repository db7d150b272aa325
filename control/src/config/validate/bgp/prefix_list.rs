//! Prefix lists: `permit 10.0.0.0/8 ge 16 le 24`.

use altitude_dataplane::mapping::Prefix;

use crate::{
    alt::bgp::settings::{PrefixList, Rule},
    config::{Given, validate::Findings},
};

/// Most rules of one list.
const RULES_MAX: usize = 4096;
/// How a rule is written.
const FORM: &str =
    "write permit or deny, a prefix, and perhaps ge and le with lengths: \"permit 10.0.0.0/8 ge 16 le 24\"";

/// The list; rules with mistakes are left out.
pub(super) fn read(rules: &[Given<String>], findings: &mut Findings) -> PrefixList {
    if let Some(extra) = rules.get(RULES_MAX) {
        let what = format!("{} rules are more than the {RULES_MAX} of one list", rules.len());
        findings.wrong(&extra.place, what, "use shorter prefixes with le");
    }
    let rule = |given: &Given<String>| match rule(&given.value) {
        Ok(rule) => Some(rule),
        Err((what, remedy)) => {
            findings.wrong(&given.place, format!("prefix-list rule \"{}\" {what}", given.value), remedy);
            None
        }
    };
    PrefixList(rules.iter().filter_map(rule).collect())
}

/// What is wrong with a rule, and what to do.
type Wrong = (String, String);

fn rule(text: &str) -> Result<Rule, Wrong> {
    let form = |what: &str| (what.to_owned(), FORM.to_owned());
    let mut words = text.split_whitespace();
    let permit = match words.next() {
        Some("permit") => true,
        Some("deny") => false,
        _ => return Err(form("says neither permit nor deny")),
    };
    let prefix = prefix(words.next().ok_or_else(|| form("has no prefix"))?)?;
    let (mut ge, mut le) = (None, None);
    while let Some(word) = words.next() {
        let bound = match word {
            "ge" => &mut ge,
            "le" => &mut le,
            other => return Err(form(&format!("has a word '{other}' that means nothing here"))),
        };
        let length = words.next().and_then(|length| length.parse::<u8>().ok());
        let length = length.ok_or_else(|| form(&format!("has {word} without a length")))?;
        if bound.replace(length).is_some() {
            return Err(form(&format!("has {word} twice")));
        }
    }
    let width = if prefix.address().is_ipv4() { 32 } else { 128 };
    // As everywhere: with ge alone all longer ones, with neither exactly this one.
    let (shortest, longest) = (ge.unwrap_or(prefix.length()), le.or(ge.map(|_| width)).unwrap_or(prefix.length()));
    if shortest < prefix.length() || shortest > longest || longest > width {
        let what = format!("can match nothing: it asks for {shortest} to {longest} bits");
        return Err((what, format!("lengths go up from {} to ge, to le, to {width}", prefix.length())));
    }
    Ok(Rule { permit, prefix, ge: shortest, le: longest })
}

fn prefix(text: &str) -> Result<Prefix, Wrong> {
    let prefix: Prefix = text.parse().map_err(|error| (format!("is no rule: {error}"), FORM.to_owned()))?;
    let written = text.split('/').next().and_then(|address| address.parse().ok());
    if written.is_some_and(|address: std::net::IpAddr| address != prefix.address()) {
        return Err((format!("has host bits set in {text}"), format!("write {prefix}, or the length that was meant")));
    }
    Ok(prefix)
}
