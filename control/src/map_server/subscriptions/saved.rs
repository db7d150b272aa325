//! Subscriptions in the Map-Server's file, behind the registrations: each as a frame of its own, the last of one name counts.

use std::{net::IpAddr, time::Instant};

use altitude_dataplane::mapping::EidPrefix;

use super::{Name, RLOCS_MAX, Standing, Subscription, Subscriptions};
use crate::{
    map_server::registry::{
        Registry, TIMEOUT,
        saved::{Cursor, Fields, SUBSCRIPTION, USED, frame, frames, put_address, put_eid},
    },
    wire::{Algorithm, Key, XtrIdentity},
};

/// Flag: it has ended, and only its nonce is kept.
const ENDED: u8 = 1;
/// Flag: its own key and the mark of its LISP-SEC key stand before its RLOCs.
const KEYED: u8 = 2;
/// Octets of such a key, as LISP-SEC derives it.
const SECRET: usize = 16;

pub(super) fn put(one: &Subscription, out: &mut Vec<u8>) {
    let Name { xtr, eid, client } = &one.name;
    frame(out, SUBSCRIPTION, |out| {
        out.extend(xtr.xtr_id);
        out.extend(xtr.site_id.to_be_bytes());
        put_eid(out, eid);
        put_eid(out, &one.scope);
        out.extend(one.nonce.to_be_bytes());
        let own = one.key.as_ref().zip(*client);
        let own = own.and_then(|(key, client)| Some((<[u8; SECRET]>::try_from(key.secret()).ok()?, client)));
        let ended = if one.standing == Standing::Live { 0 } else { ENDED };
        out.push(ended | if own.is_some() { KEYED } else { 0 });
        out.extend(own.into_iter().flat_map(|(key, client)| key.into_iter().chain(client.to_be_bytes())));
        for rloc in &one.rlocs {
            put_address(out, *rloc);
        }
    });
}

pub(super) fn put_used(mark: u128, out: &mut Vec<u8>) {
    frame(out, USED, |out| out.extend(mark.to_be_bytes()));
}

/// One subscription as it was written.
struct Read {
    name: Name,
    scope: EidPrefix,
    nonce: u64,
    flags: u8,
    key: Option<Key>,
    rlocs: Vec<IpAddr>,
}

fn read(mut fields: Fields<'_>) -> Option<Read> {
    let xtr = XtrIdentity { xtr_id: fields.array()?, site_id: fields.u64()? };
    let (eid, scope, nonce, flags) = (fields.eid()?, fields.eid()?, fields.u64()?, fields.u8()?);
    let keyed = flags & KEYED != 0;
    let key = if keyed { Some(fields.array::<SECRET>()?) } else { None };
    let key = key.map(|secret| Key::new(0, Algorithm::Sha256, &secret));
    let client = if keyed { Some(u128::from_be_bytes(fields.array()?)) } else { None };
    let mut rlocs = Vec::new();
    while !fields.is_empty() && rlocs.len() < RLOCS_MAX {
        rlocs.push(fields.address()?);
    }
    Some(Read { name: Name { xtr, eid, client }, scope, nonce, flags, key, rlocs })
}

impl Subscriptions {
    /// Appends `count` more of all; true when there are no more.
    pub(in crate::map_server) fn snapshot(&self, at: &mut Cursor, count: usize, out: &mut Vec<u8>) -> bool {
        for _ in 0..count {
            if at.subscription < self.table.places() {
                // What nobody has proven to want is not worth keeping.
                let one = self.table.get(at.subscription);
                if let Some(one) = one.filter(|one| !matches!(one.standing, Standing::Asked { .. })) {
                    put(one, out);
                }
                at.subscription += 1;
            } else if let Some((mark, next)) = self.used.next(at.used) {
                put_used(mark, out);
                at.used = next;
            } else {
                return true;
            }
        }
        false
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
        for (_, kind, mut fields) in frames(octets) {
            match kind {
                SUBSCRIPTION => {
                    if let Some(read) = read(fields) {
                        self.take_back(now, registry, read);
                    }
                }
                USED => fields.array().into_iter().for_each(|mark| self.use_mark(u128::from_be_bytes(mark))),
                _ => {}
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
        let Read { mut name, scope, nonce, flags, key, rlocs } = read;
        let Some(peer) = self.peer(name.xtr) else { return };
        // A key that is shared now takes the place of its own; without any it cannot be told.
        let shared = !self.settings.peers[peer].keys.is_empty();
        let key = key.filter(|_| !shared);
        name.client = name.client.filter(|_| !shared);
        if let Some(before) = self.by_name.get(&name).copied() {
            self.remove(before);
        }
        let allowed = self.allows(peer, &name.eid) && !registry.denies(&name.eid) && self.room(&name).is_ok();
        let allowed = allowed && (shared || key.is_some());
        let one = Subscription { nonce, key, rlocs, ..Subscription::new(now, name, peer, scope, Standing::Live) };
        let number = self.table.insert(one);
        self.watch(scope, number);
        self.go_live(number);
        if flags & ENDED != 0 || !allowed {
            self.end(number, &mut Vec::new());
        }
    }
}
