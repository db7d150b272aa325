//! Sites of our Map-Server.

use std::{collections::HashMap, net::IpAddr, path::Path};

use altitude_dataplane::mapping::EidPrefix;

use super::{Findings, Unique, eid_prefix, key, roles::findings_rloc, values};
use crate::{
    config::{Given, LegacyName, ProxyName, roles::SiteDraft},
    map_server::{Proxying, Site},
};

/// Most prefixes that a site may be allowed to register.
const PREFIXES_MAX: i64 = 1_000_000;

/// Reads them all; `own` are our RLOCs.
pub(super) fn sites(drafts: &[SiteDraft], own: &[IpAddr], folder: &Path, findings: &mut Findings) -> Vec<Site> {
    let (mut names, mut prefixes) = (Unique::new(), Unique::new());
    let mut sites = Vec::new();
    for item in drafts {
        let place = &item.name.place;
        let name = item.name.value.clone();
        if name.trim().is_empty() {
            findings.wrong(place, "a site without a name", "name it after its place or customer");
        } else if !names.first(name.clone()) {
            findings.wrong(place, format!("site {name} is given twice"), "give each site a name of its own");
        }
        let eids = eids(item, &mut prefixes, findings);
        let etrs = etrs(item, own, findings);
        let owner = format!("site {name}");
        let keys = key::keys(&owner, place, (item.key.as_ref(), item.keys.as_deref()), folder, findings);
        if item.etrs.is_empty() && item.key.is_none() && item.keys.is_none() {
            let what = format!("site {name} has neither ETRs nor keys");
            let remedy = "add keys = [{ secret-file = \"PATH\" }] for ETRs that register, or etrs = [\"RLOC\"]";
            findings.wrong(place, what, remedy);
        }
        let allowed = [LegacyName::Nonce, LegacyName::WholeMac, LegacyName::RecordsOnly];
        let (form, any_nonce) = key::legacy(item.legacy.as_deref().unwrap_or_default(), &allowed, findings);
        let yes = |given: &Option<Given<bool>>| given.as_ref().is_some_and(|given| given.value);
        let prefixes_max = item.max_prefixes.as_ref();
        sites.push(Site {
            name,
            eids,
            more_specifics: yes(&item.more_specifics),
            etrs,
            keys: keys.unwrap_or_default(),
            form,
            any_nonce,
            proxy: proxying(item.proxy.as_ref(), findings),
            prefixes_max: prefixes_max
                .and_then(|given| values::number(given, "max-prefixes", 1..=PREFIXES_MAX, findings))
                .unwrap_or_default(),
            denied: yes(&item.denied),
        });
    }
    apart(&sites, drafts, findings);
    sites
}

fn eids(item: &SiteDraft, seen: &mut Unique<EidPrefix>, findings: &mut Findings) -> Vec<EidPrefix> {
    let (place, name) = (&item.name.place, &item.name.value);
    if item.eid_prefixes.is_empty() {
        findings.wrong(place, format!("site {name} has no EID-prefixes"), "add eid-prefixes = [\"10.1.1.0/24\"]");
    }
    let eids: Vec<Option<EidPrefix>> =
        item.eid_prefixes.iter().map(|prefix| eid_prefix(prefix, item.instance.as_ref(), findings)).collect();
    for eid in eids.iter().flatten() {
        if !seen.first(*eid) {
            let what = format!("EID-prefix {eid} is given for two sites, or twice for one");
            findings.wrong(place, what, "a prefix belongs to one site");
        }
    }
    eids.into_iter().flatten().collect()
}

fn etrs(item: &SiteDraft, own: &[IpAddr], findings: &mut Findings) -> Vec<IpAddr> {
    let etrs: Vec<Option<IpAddr>> = item.etrs.iter().map(|etr| findings_rloc(etr, findings)).collect();
    if etrs.iter().flatten().any(|etr| own.contains(etr)) {
        let what = format!("an ETR of site {} is our own RLOC", item.name.value);
        let remedy = "write its EID-prefixes as [[eid-prefix]]: they are then answered for here";
        findings.wrong(&item.name.place, what, remedy);
    }
    etrs.into_iter().flatten().collect()
}

fn proxying(given: Option<&Given<String>>, findings: &mut Findings) -> Proxying {
    match given.and_then(|given| values::choice(given, "proxy", findings)) {
        None | Some(ProxyName::Etr) => Proxying::Etr,
        Some(ProxyName::Always) => Proxying::Always,
        Some(ProxyName::Never) => Proxying::Never,
    }
}

/// ETRs of two sites behind one anycast RLOC must be told apart by their keys (RFC 9301 §8.4.1).
fn apart(sites: &[Site], drafts: &[SiteDraft], findings: &mut Findings) {
    let mut by_etr: HashMap<IpAddr, Vec<usize>> = HashMap::new();
    for (index, etr) in sites.iter().enumerate().flat_map(|(index, site)| site.etrs.iter().map(move |etr| (index, etr)))
    {
        let others = by_etr.entry(*etr).or_default();
        let same = others.iter().find(|other| sites[**other].keys.iter().any(|key| sites[index].keys.contains(key)));
        if let Some(other) = same {
            let what = format!("sites {} and {} share ETR {etr} and a key", sites[*other].name, sites[index].name);
            findings.wrong(&drafts[index].name.place, what, "give each site a secret of its own");
        }
        others.push(index);
    }
}
