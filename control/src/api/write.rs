//! Requests that change something ⇄ operations.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::{Action, EidPrefix, Mapping, Ttl};

use super::{
    Judged, Offer, Operation, RLOCS_MAX, Refused, Table, bgp,
    entry::{self, Terms},
    event::{self, Method},
    message::{Flags, Header, Op, kind, put},
    request::Request,
};

/// What a MAPPING that is not there stands for.
const PLAIN: Terms = Terms {
    negative: false,
    authoritative: false,
    ephemeral: false,
    foreign: false,
    life: None,
    version: 0,
    action: Action::NoAction,
};

/// The operation that a request asks for.
pub(super) fn operation(asked: &Header, request: Request) -> Result<Operation, Refused> {
    let invalid = |text: &str| Refused::Invalid(text.to_owned());
    let table = match (request.table, asked.op) {
        (None, _) => Table::Cache,
        (Some(Some(table)), _) => table,
        (Some(None), Op::REACH | Op::BADREACH) => Table::Cache,
        (Some(None), _) => return Err(invalid("one table at a time: TABLE is 0 or 1 here")),
    };
    let eid = request.eid();
    let unless_after = request.must_generation;
    let needed = || eid.ok_or_else(|| invalid("an EID is missing"));
    match asked.op {
        Op::ADD => {
            if unless_after.is_some() {
                return Err(invalid("ADD replaces nothing, so MUST_GEN means nothing"));
            }
            offer(table, needed()?, request).map(Operation::Add)
        }
        Op::CHANGE => Ok(Operation::Change { offer: offer(table, needed()?, request)?, unless_after }),
        Op::DELETE => Ok(Operation::Delete { table, eid: needed()?, unless_after }),
        Op::RELOAD => Ok(Operation::Reload),
        Op::CLEAR => {
            let (neighbor, soft) =
                request.clear.ok_or_else(|| invalid("CLEAR says which neighbour, or that all are meant"))?;
            Ok(Operation::Clear { neighbor, soft })
        }
        Op::FLUSH => {
            if eid.is_some() {
                return Err(invalid("FLUSH takes a table and perhaps an instance: DELETE takes out one EID"));
            }
            Ok(Operation::Flush { table, instance: request.instance, all: asked.flags.has(Flags::ALL) })
        }
        _ => {
            let judged = match (&request.locators[..], eid) {
                ([locator], None) => Judged::Locator(locator.address),
                ([], Some(eid)) => Judged::Mapping(eid),
                _ => return Err(invalid("a verdict is about one RLOC, or about those of one EID")),
            };
            Ok(Operation::Judge { judged, up: asked.op == Op::REACH })
        }
    }
}

fn offer(table: Table, eid: EidPrefix, request: Request) -> Result<Offer, Refused> {
    let terms = request.terms.unwrap_or(PLAIN);
    if terms.negative != request.locators.is_empty() {
        return Err(Refused::Invalid("a mapping has RLOCs, or the flag NEGATIVE and an action".to_owned()));
    }
    let minutes = |life: Duration| Ttl::Minutes(u32::try_from(life.as_secs().div_ceil(60)).unwrap_or(u32::MAX - 1));
    let mapping = Mapping {
        eid,
        ttl: terms.life.map_or(Ttl::ReceiverDecides, minutes),
        version: terms.version,
        action: terms.action,
        authoritative: terms.authoritative,
        locators: request.locators,
    };
    let offer = Offer { table, mapping, life: terms.life, ephemeral: terms.ephemeral, foreign: terms.foreign };
    offer.check()?;
    Ok(offer)
}

/// The request that asks for an operation: its op, flags and TLVs.
pub(super) fn request(operation: &Operation) -> (Op, Flags, Vec<u8>) {
    let mut out = Vec::new();
    let place = |out: &mut Vec<u8>, table: Table, eid: &EidPrefix| {
        entry::put_table(out, Some(table));
        entry::put_instance(out, eid.instance);
        entry::put_prefix(out, eid.prefix);
    };
    let must = |out: &mut Vec<u8>, generation: Option<u64>| {
        if let Some(generation) = generation {
            put(out, kind::MUST_GEN, |out| out.extend(generation.to_le_bytes()));
        }
    };
    match operation {
        Operation::Add(offer) | Operation::Change { offer, .. } => {
            place(&mut out, offer.table, &offer.mapping.eid);
            let Mapping { version, action, authoritative, locators, .. } = &offer.mapping;
            let terms = Terms {
                negative: locators.is_empty(),
                authoritative: *authoritative,
                ephemeral: offer.ephemeral,
                foreign: offer.foreign,
                life: offer.life,
                version: *version,
                action: *action,
            };
            entry::put_terms(&mut out, &terms);
            // One more than may be shows the mistake; the router says so.
            for locator in locators.iter().take(RLOCS_MAX + 1) {
                entry::put_locator(&mut out, &super::EntryLocator { locator: *locator, up: false, bad: false });
            }
            match operation {
                Operation::Change { unless_after, .. } => {
                    must(&mut out, *unless_after);
                    (Op::CHANGE, Flags::default(), out)
                }
                _ => (Op::ADD, Flags::default(), out),
            }
        }
        Operation::Delete { table, eid, unless_after } => {
            place(&mut out, *table, eid);
            must(&mut out, *unless_after);
            (Op::DELETE, Flags::default(), out)
        }
        Operation::Flush { table, instance, all } => {
            entry::put_table(&mut out, Some(*table));
            if let Some(instance) = instance {
                entry::put_instance(&mut out, *instance);
            }
            (Op::FLUSH, if *all { Flags::ALL } else { Flags::default() }, out)
        }
        Operation::Reload => (Op::RELOAD, Flags::default(), out),
        Operation::Clear { neighbor, soft } => {
            bgp::put_clear(&mut out, neighbor.as_deref(), *soft);
            (Op::CLEAR, Flags::default(), out)
        }
        Operation::Judge { judged, up } => {
            match judged {
                Judged::Locator(address) => put_judged(&mut out, *address, *up),
                Judged::Mapping(eid) => {
                    entry::put_instance(&mut out, eid.instance);
                    entry::put_prefix(&mut out, eid.prefix);
                }
            }
            (if *up { Op::REACH } else { Op::BADREACH }, Flags::default(), out)
        }
    }
}

fn put_judged(out: &mut Vec<u8>, address: IpAddr, up: bool) {
    event::put_named_locator(out, address, up);
    event::put_reach_info(out, Method::Admin, if up { 1 } else { 3 }, None);
}
