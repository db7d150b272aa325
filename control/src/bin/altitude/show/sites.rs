//! `altitude show sites`: page by page, as there may be a million prefixes.

use std::io::Write;

use altitude_control::api::{RefusalStatus, SitePrefix, SiteStatus, XtrStatus, client::Client};
use altitude_dataplane::mapping::{Locator, Ttl};
use serde_json::{Value, json};

use super::{ShowError, table::Columns, text::clock};

/// Asks and prints.
pub(super) fn sites(client: &mut Client, json: bool, out: &mut dyn Write) -> Result<(), ShowError> {
    let (mut from, mut count) = (0, 0);
    if json {
        write!(out, "{{ \"sites\": [")?;
    }
    loop {
        let page = client.sites(from)?;
        if json {
            for site in &page.sites {
                let comma = if count == 0 { "" } else { "," };
                write!(out, "{comma}\n  {}", document(site))?;
                count += 1;
            }
        } else {
            count += page.sites.len();
            write!(out, "{}", table(&page.sites))?;
        }
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    match (json, count) {
        (true, 0) => writeln!(out, "] }}")?,
        (true, _) => writeln!(out, "\n] }}")?,
        (false, 0) => writeln!(out, "there is no site of a Map-Server here")?,
        (false, _) => {}
    }
    Ok(())
}

/// The table of one page.
pub(super) fn table(sites: &[SiteStatus]) -> String {
    let titles = ["SITE", "EID-PREFIX", "XTR", "FROM", ">KEY", ">SINCE", ">LEFT", "ANSWERS", "LOCATORS"];
    let mut columns = Columns::new(titles);
    for site in sites {
        let mut name = Some(&site.name);
        for prefix in &site.prefixes {
            let mut eid = Some(prefix.eid.to_string());
            let mut head = || [name.take().cloned().unwrap_or_default(), eid.take().unwrap_or_default()];
            if prefix.xtrs.is_empty() {
                let empty = std::iter::repeat_n(String::new(), 6);
                columns.row(head().into_iter().chain(empty).chain([unserved(site)]));
            }
            for xtr in &prefix.xtrs {
                columns.row(head().into_iter().chain(row(site, xtr)));
            }
        }
        if let Some(refused) = &site.refused {
            let empty = std::iter::repeat_n(String::new(), 8);
            columns.row(empty.chain([format!("last refused: {}", refusal(refused))]));
        }
    }
    if columns.is_empty() { String::new() } else { columns.render() }
}

fn unserved(site: &SiteStatus) -> String {
    let etrs: Vec<String> = site.etrs.iter().map(ToString::to_string).collect();
    match (etrs.is_empty(), site.keyed) {
        (false, _) => format!("not registered; fixed: {}", etrs.join(", ")),
        (true, true) => "not registered".to_owned(),
        (true, false) => "not registered: the site has no keys".to_owned(),
    }
}

fn refusal(refused: &RefusalStatus) -> String {
    let RefusalStatus { reason, source, key, ago } = refused;
    format!("{reason}, from {source} with key {key}, {} ago", clock(*ago))
}

fn row(site: &SiteStatus, xtr: &XtrStatus) -> [String; 7] {
    let locator = |one: &Locator| {
        let down = if one.usable() { "" } else { " (down)" };
        format!("{} {}/{}{down}", one.address, one.priority, one.weight)
    };
    let locators: Vec<String> = xtr.locators.iter().map(locator).collect();
    let who = xtr.xtr_id.map_or("-".to_owned(), hex);
    let answers = if site.denied {
        "denied"
    } else if xtr.proxy {
        "we"
    } else {
        "ETR"
    };
    let merged = if xtr.merge { ", merged" } else { "" };
    let signs = if xtr.signs { ", LISP-SEC" } else { "" };
    [
        who,
        xtr.source.ip().to_string(),
        xtr.key.to_string(),
        clock(xtr.since),
        clock(xtr.left),
        format!("{answers}{merged}{signs}"),
        locators.join(", "),
    ]
}

fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

/// The document of one site.
pub(super) fn document(site: &SiteStatus) -> Value {
    json!({
        "name": site.name,
        "keyed": site.keyed,
        "denied": site.denied,
        "etrs": site.etrs,
        "prefixes": site.prefixes.iter().map(prefix).collect::<Vec<_>>(),
        "refused": site.refused.as_ref().map(|refused| json!({
            "reason": refused.reason,
            "from": refused.source.ip(),
            "port": refused.source.port(),
            "key": refused.key,
            "ago": refused.ago.as_secs(),
        })),
    })
}

fn prefix(prefix: &SitePrefix) -> Value {
    json!({
        "eid": prefix.eid.prefix.to_string(),
        "instance": prefix.eid.instance.get(),
        "xtrs": prefix.xtrs.iter().map(registration).collect::<Vec<_>>(),
    })
}

fn registration(xtr: &XtrStatus) -> Value {
    let locator = |one: &Locator| {
        json!({
            "address": one.address,
            "priority": one.priority,
            "weight": one.weight,
            "reachable": one.reachable,
        })
    };
    let ttl = match xtr.ttl {
        Ttl::Minutes(minutes) => Some(u64::from(minutes) * 60),
        Ttl::Remove | Ttl::ReceiverDecides => None,
    };
    json!({
        "xtr-id": xtr.xtr_id.map(hex),
        "site-id": Some(xtr.site_id).filter(|id| *id != 0).map(|id| format!("{id:016x}")),
        "from": xtr.source.ip(),
        "key": xtr.key,
        "since": xtr.since.as_secs(),
        "left": xtr.left.as_secs(),
        "proxy": xtr.proxy,
        "merge": xtr.merge,
        "lisp-sec": xtr.signs,
        "ttl": ttl,
        "locators": xtr.locators.iter().map(locator).collect::<Vec<_>>(),
    })
}
