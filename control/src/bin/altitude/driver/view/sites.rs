//! The sites of our Map-Server.

use std::time::{Duration, Instant};

use altitude_control::{
    api::{RefusalStatus, SitePrefix, SiteStatus, SitesPage, XtrStatus},
    fault::Fault,
    map_server::{Held, Holder, MapServer, Refusal, Site, SiteId, Who},
};

/// Sites from this one on, with about `max` prefixes together.
pub(super) fn page(server: &MapServer, from: u32, max: usize) -> SitesPage {
    let second = server.second(Instant::now());
    let mut page = SitesPage::default();
    let mut prefixes = 0;
    for (id, site) in server.sites().skip(from as usize) {
        if prefixes >= max {
            page.next = Some(id.0 as u32);
            break;
        }
        let status = status(server, id, site, second);
        prefixes += status.prefixes.len().max(1);
        page.sites.push(status);
    }
    page
}

fn status(server: &MapServer, id: SiteId, site: &Site, second: u64) -> SiteStatus {
    let mut prefixes = Vec::new();
    for eid in &site.eids {
        let whole = server.held(eid).next().filter(|held| held.eid == *eid);
        if whole.is_none() {
            prefixes.push(SitePrefix { eid: *eid, xtrs: Vec::new() });
        }
        // What lies inside may be another site's.
        let own = server.held(eid).filter(|held| held.site == id);
        prefixes.extend(own.map(|held| prefix(held, second)));
    }
    SiteStatus {
        name: site.name.clone(),
        keyed: !site.keys.is_empty(),
        denied: site.denied,
        etrs: site.etrs.clone(),
        prefixes,
        refused: server.refused(id).map(|refusal| refused(refusal, second)),
    }
}

fn prefix(held: Held, second: u64) -> SitePrefix {
    SitePrefix { eid: held.eid, xtrs: held.holders.into_iter().map(|holder| xtr(holder, second)).collect() }
}

fn xtr(holder: Holder, second: u64) -> XtrStatus {
    XtrStatus {
        xtr_id: match holder.who {
            Who::Xtr(id) => Some(id),
            Who::Source(_) => None,
        },
        site_id: holder.site_id,
        source: holder.source,
        key: holder.key,
        since: Duration::from_secs(second.saturating_sub(holder.since)),
        left: Duration::from_secs(holder.expires.saturating_sub(second)),
        proxy: holder.proxy,
        merge: holder.merge,
        signs: holder.signs,
        ttl: holder.mapping.ttl,
        locators: holder.mapping.locators,
    }
}

fn refused(refusal: Refusal, second: u64) -> RefusalStatus {
    RefusalStatus {
        reason: refusal.fault.name().to_owned(),
        source: refusal.from,
        key: refusal.key,
        ago: Duration::from_secs(second.saturating_sub(refusal.at)),
    }
}
