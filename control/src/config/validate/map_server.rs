//! The Map-Servers that our EID-prefixes are registered with, and who we are to them.

use std::{net::IpAddr, path::Path};

use altitude_dataplane::mapping::Mapping;

use super::{Findings, Unique, key, values};
use crate::{
    config::{Draft, Given, Identity, LegacyName, MapServerDraft, Settings},
    registrar::MapServer,
};

/// Most Map-Servers of one site.
const MAP_SERVERS_MAX: usize = 16;

/// Reads them all: neither ourselves nor anybody who needs LISP to be reached (RFC 9301 §8.1).
pub(super) fn map_servers(
    draft: &Draft,
    rlocs: &[Given<IpAddr>],
    database: &[Given<Mapping>],
    folder: &Path,
    findings: &mut Findings,
) -> Vec<MapServer> {
    let mut seen = Unique::new();
    let mut servers = Vec::new();
    for item in &draft.map_servers {
        let address = address(&item.address, rlocs, database, findings);
        if let Some(address) = address.filter(|address| !seen.first(*address)) {
            findings.wrong(&item.address.place, format!("Map-Server {address} is given twice"), "keep one");
        }
        let server = map_server(item, address, folder, findings);
        servers.extend(findings.gap(server));
    }
    if let Some(extra) = draft.map_servers.get(MAP_SERVERS_MAX) {
        let what = format!("{} Map-Servers are more than {MAP_SERVERS_MAX}", draft.map_servers.len());
        findings.wrong(&extra.address.place, what, "give fewer: two or three are enough for one to fail");
    }
    if let Some(first) = draft.map_servers.first()
        && draft.eid_prefixes.is_empty()
    {
        findings.missing(
            &first.address.place,
            "there is a Map-Server, but nothing to register with it",
            "add --eid-prefix PREFIX or [[eid-prefix]]: the addresses of our hosts",
        );
    }
    servers
}

fn address(
    given: &Given<String>,
    rlocs: &[Given<IpAddr>],
    database: &[Given<Mapping>],
    findings: &mut Findings,
) -> Option<IpAddr> {
    let address = values::rloc(given, findings)?;
    let within = database.iter().map(|own| own.value.eid).find(|eid| eid.prefix.contains(address));
    let (what, remedy) = if let Some(eid) = within {
        let what = format!("Map-Server {address} lies inside our own EID-prefix {eid}");
        (what, "a Map-Server is reached over the core: give its address there")
    } else if rlocs.iter().any(|rloc| rloc.value == address) {
        let what = format!("Map-Server {address} is our own RLOC");
        (what, "give another router's: our own Map-Server knows our EID-prefixes without being told")
    } else if !rlocs.is_empty() && !rlocs.iter().any(|rloc| rloc.value.is_ipv4() == address.is_ipv4()) {
        let what = format!("no RLOC is of the family of Map-Server {address}");
        (what, "give an RLOC of that family, or another address of the Map-Server")
    } else {
        return Some(address);
    };
    findings.wrong(&given.place, what, remedy);
    None
}

fn map_server(
    item: &MapServerDraft,
    address: Option<IpAddr>,
    folder: &Path,
    findings: &mut Findings,
) -> Option<MapServer> {
    let owner = format!("Map-Server {}", item.address.value);
    let place = &item.address.place;
    let keys = key::keys(&owner, place, (item.key.as_ref(), item.keys.as_deref()), folder, findings);
    if item.key.is_none() && item.keys.is_none() {
        let remedy = "add key = { secret-file = \"PATH\" }: it believes nobody without one";
        findings.wrong(place, format!("{owner} has no key"), remedy);
    }
    let allowed = [LegacyName::WholeMac, LegacyName::RecordsOnly];
    let (form, _) = key::legacy(item.legacy.as_deref().unwrap_or_default(), &allowed, findings);
    let yes = |given: &Option<Given<bool>>| given.as_ref().is_some_and(|given| given.value);
    let keys = keys.filter(|keys| !keys.is_empty())?;
    Some(MapServer { address: address?, keys, form, proxy: yes(&item.proxy), merge: yes(&item.merge) })
}

/// Who we are among the xTRs of our site.
pub(super) fn identity(settings: &Settings, findings: &mut Findings) -> Identity {
    let xtr_id = settings.xtr_id.as_ref().and_then(|given| hex(given, "xtr-id", 32, findings));
    let site_id = settings.site_id.as_ref().and_then(|given| hex(given, "site-id", 16, findings));
    Identity { xtr_id: xtr_id.map(u128::to_be_bytes), site_id: site_id.map_or(0, |id| id as u64) }
}

pub(super) fn hex(given: &Given<String>, name: &str, digits: usize, findings: &mut Findings) -> Option<u128> {
    let text = given.value.as_str();
    if text.len() == digits && text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return u128::from_str_radix(text, 16).ok();
    }
    let what = format!("{name} '{text}' is not {digits} hexadecimal digits");
    findings.wrong(
        &given.place,
        what,
        format!("write all {digits}, for example {}", "0123456789abcdef".repeat(digits / 16)),
    );
    None
}

/// The directory that what must survive a restart is kept in.
pub(super) fn state_dir(given: &Given<String>, findings: &mut Findings) -> Option<std::path::PathBuf> {
    if given.value.starts_with('/') && !given.value.contains('\0') {
        return Some(given.value.clone().into());
    }
    let what = format!("'{}' cannot be the state directory", given.value);
    findings.wrong(&given.place, what, "give an absolute path, for example /var/lib/altitude");
    None
}
