//! What a Map-Reply must satisfy beside its nonce before anything of it is used (RFC 7835 §3.8, RFC 9301 §5.4, §5.5).

use altitude_dataplane::mapping::{EidPrefix, Mapping, Prefix, settle, sort_locators};

use super::{ResolverFault, Settings};
use crate::{prefix_map::PrefixMap, rloc};

/// Lets the records in, as a whole or not at all, with their locators in wire order.
///
/// * One record covers what was asked for, and the others lie beneath it: the longest match and its more-specifics.
/// * None lies inside our own database.
/// * None with locators is shorter than the floor. A negative one that is gets narrowed to the floor around what was asked
///   for: a mapping system that knows little describes a wide hole, and may be believed for the EID in question only.
///
/// Of an AFI-List the first address stays whose family we have an RLOC of, and that packets may be sent to (RFC 8060 §4.10.5).
/// Locators that no packet may be sent to stay, as unreachable.
pub(super) fn admit(
    settings: &Settings,
    database: &PrefixMap<()>,
    asked: &EidPrefix,
    mut records: Vec<Mapping>,
) -> Result<Vec<Mapping>, ResolverFault> {
    if records.len() > settings.records_max {
        return Err(ResolverFault::TooManyRecords);
    }
    let covering = records.iter().map(|record| record.eid).filter(|eid| eid.covers(asked));
    let widest = covering.min_by_key(|eid| eid.prefix.length()).ok_or(ResolverFault::NotCovering)?;
    let floor = if asked.prefix.address().is_ipv4() { settings.shortest_v4 } else { settings.shortest_v6 };
    let families = rloc::Families::of(&settings.itr_rlocs);
    for record in &mut records {
        if !widest.covers(&record.eid) {
            return Err(ResolverFault::Unrelated);
        }
        if database.covering(&record.eid).is_some() {
            return Err(ResolverFault::OwnPrefix);
        }
        if record.eid.prefix.length() < floor {
            record.eid = narrowed(record, asked, floor).ok_or(ResolverFault::TooShort)?;
        }
        settle(&mut record.locators, |address| families.reach(address) && rloc::routable(address));
        for locator in &mut record.locators {
            locator.reachable &= rloc::routable(locator.address);
            // Says something of this message, and nothing of the mapping.
            locator.probed = false;
        }
        sort_locators(&mut record.locators);
    }
    Ok(records)
}

/// The floor's prefix around what was asked for, if `record` is negative and covers that.
fn narrowed(record: &Mapping, asked: &EidPrefix, floor: u8) -> Option<EidPrefix> {
    let prefix = Prefix::new(asked.prefix.address(), floor).ok()?;
    let eid = EidPrefix { instance: asked.instance, prefix };
    (record.is_negative() && record.eid.covers(&eid) && eid.covers(asked)).then_some(eid)
}
