//! Subscriptions in the Map-Server's file, behind the registrations: each as a frame of its own, the last of one name counts.

use std::{net::IpAddr, time::Instant};

use super::{Name, Proven, RLOCS_MAX, Subscription, Subscriptions};
use crate::{
    map_server::registry::{
        TIMEOUT,
        saved::{Fields, SUBSCRIPTION, frame, frames, put_address, put_eid},
    },
    wire::XtrIdentity,
};

/// Flag: it has ended, and only its nonce is kept.
const ENDED: u8 = 1;
/// Flag: its xTR has acknowledged something.
const PROVEN: u8 = 2;

pub(super) fn put(one: &Subscription, out: &mut Vec<u8>) {
    let (xtr, eid) = &one.name;
    frame(out, SUBSCRIPTION, |out| {
        out.extend(xtr.xtr_id);
        out.extend(xtr.site_id.to_be_bytes());
        put_eid(out, eid);
        put_eid(out, &one.scope);
        out.extend(one.nonce.to_be_bytes());
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        out.push(flag(one.ended.is_some(), ENDED) | flag(one.proven.is_some(), PROVEN));
        for rloc in &one.rlocs {
            put_address(out, *rloc);
        }
    });
}

/// One subscription as it was written.
struct Read {
    name: Name,
    scope: altitude_dataplane::mapping::EidPrefix,
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
            if let Some(one) = self.table.get(*at) {
                put(one, out);
            }
            *at += 1;
        }
        *at >= self.table.places()
    }

    /// Takes in those of a file that is not damaged; returns how many live. What happened to their prefixes meanwhile they are
    /// told when the registrations have had time to come back.
    pub(in crate::map_server) fn restore(&mut self, now: Instant, octets: &[u8]) -> usize {
        for (_, kind, fields) in frames(octets) {
            if kind == SUBSCRIPTION
                && let Some(read) = read(fields)
            {
                self.take_back(now, read);
            }
        }
        self.journal.clear();
        if self.len() > 0 {
            self.resync = Some(now + TIMEOUT);
        }
        self.len()
    }

    fn take_back(&mut self, now: Instant, read: Read) {
        let Read { name: (xtr, eid), scope, nonce, flags, rlocs } = read;
        let known = self.by_name.contains_key(&(xtr, eid));
        if !known && self.by_name.len() >= self.settings.all_max * 2 {
            return;
        }
        let ask = super::Ask { xtr, eid, nonce, rlocs: &[], source: IpAddr::from([0; 4]) };
        let Some(number) = self.enter(now, &ask) else { return };
        self.set_scope(number, scope);
        let one = &mut self.table[number];
        one.nonce = nonce;
        one.proven = (flags & PROVEN != 0).then(|| Proven { nonce, rlocs: rlocs.clone() });
        one.rlocs = rlocs;
        if flags & ENDED != 0 {
            self.end(number, &mut Vec::new());
        }
    }
}
