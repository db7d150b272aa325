//! Subscriptions in the Map-Server's file, behind the registrations: each as a frame of its own, the last of one name counts.

use std::{net::IpAddr, time::Instant};

use altitude_dataplane::mapping::EidPrefix;

use super::{Name, RLOCS_MAX, Standing, Subscription, Subscriptions};
use crate::{
    map_server::registry::{
        Registry, TIMEOUT,
        saved::{Fields, SUBSCRIPTION, frame, frames, put_address, put_eid},
    },
    wire::XtrIdentity,
};

/// Flag: it has ended, and only its nonce is kept.
const ENDED: u8 = 1;

pub(super) fn put(one: &Subscription, out: &mut Vec<u8>) {
    let (xtr, eid) = &one.name;
    frame(out, SUBSCRIPTION, |out| {
        out.extend(xtr.xtr_id);
        out.extend(xtr.site_id.to_be_bytes());
        put_eid(out, eid);
        put_eid(out, &one.scope);
        out.extend(one.nonce.to_be_bytes());
        out.push(if one.standing == Standing::Live { 0 } else { ENDED });
        for rloc in &one.rlocs {
            put_address(out, *rloc);
        }
    });
}

/// One subscription as it was written.
struct Read {
    name: Name,
    scope: EidPrefix,
    nonce: u64,
    flags: u8,
    rlocs: Vec<IpAddr>,
}

fn read(mut fields: Fields<'_>) -> Option<Read> {
    let xtr = XtrIdentity { xtr_id: fields.array()?, site_id: fields.u64()? };
    let (eid, scope, nonce, flags) = (fields.eid()?, fields.eid()?, fields.u64()?, fields.u8()?);
    let mut rlocs = Vec::new();
    while !fields.is_empty() && rlocs.len() < RLOCS_MAX {
        rlocs.push(fields.address()?);
    }
    Some(Read { name: (xtr, eid), scope, nonce, flags, rlocs })
}

impl Subscriptions {
    /// Appends `count` more of all; true when there are no more.
    pub(in crate::map_server) fn snapshot(&self, at: &mut u32, count: usize, out: &mut Vec<u8>) -> bool {
        for _ in 0..count {
            if *at >= self.table.places() {
                return true;
            }
            // What nobody has proven to want is not worth keeping.
            if let Some(one) = self.table.get(*at).filter(|one| !matches!(one.standing, Standing::Asked { .. })) {
                put(one, out);
            }
            *at += 1;
        }
        *at >= self.table.places()
    }

    /// Takes in those of a file that is not damaged; returns how many live. What happened to their prefixes meanwhile, and to
    /// those of the file that are not registered any more, they are told when the registrations have had time to come back.
    pub(in crate::map_server) fn restore(
        &mut self,
        now: Instant,
        registry: &Registry,
        mut known: Vec<EidPrefix>,
        octets: &[u8],
    ) -> usize {
        for (_, kind, fields) in frames(octets) {
            if kind == SUBSCRIPTION
                && let Some(read) = read(fields)
            {
                self.take_back(now, registry, read);
            }
        }
        self.journal.clear();
        if self.len() > 0 {
            self.resync = Some(now + TIMEOUT);
            known.retain(|eid| registry.table.index.get(eid).is_none());
            known.sort_unstable();
            known.dedup();
            self.missing = known;
        }
        self.len()
    }

    /// Of one that may not be any more the nonce is kept: the configuration may be another one than before.
    fn take_back(&mut self, now: Instant, registry: &Registry, read: Read) {
        let Read { name, scope, nonce, flags, rlocs } = read;
        let Some(peer) = self.peer(name.0) else { return };
        if let Some(before) = self.by_name.get(&name).copied() {
            self.remove(before);
        }
        let allowed = self.allows(peer, &name.1) && !registry.denies(&name.1) && self.room(name.0).is_ok();
        let one = Subscription { nonce, rlocs, ..Subscription::new(now, name, peer, scope, Standing::Live) };
        let number = self.table.insert(one);
        self.watch(scope, number);
        self.go_live(number);
        if flags & ENDED != 0 || !allowed {
            self.end(number, &mut Vec::new());
        }
    }
}
