//! The table of bindings: who gets a place in it, and when it ends.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use altitude_dataplane::mapping::EidPrefix;

use super::{
    ENDED_MAX, Output, Relay, RelayFault, STRANGERS_OF_XTR_MAX, UNVERIFIED_FOR,
    binding::{Held, Name},
};
use crate::{rate::Bucket, wire::XtrIdentity};

impl Relay {
    /// Makes a binding. Where there is no room, one that is not verified gives way, the one that ends first: who floods us makes
    /// room for himself, and a Map-Notify is back before it is the turn of the others.
    pub(super) fn meet(
        &mut self,
        now: Instant,
        name: Name,
        local: IpAddr,
        xtr: XtrIdentity,
        todo: &mut Vec<Output>,
    ) -> Result<(), RelayFault> {
        let address = name.translated.ip();
        if let Some(of_address) = self.addresses.get(&address) {
            let mut of_xtr =
                of_address.unverified.iter().map(|(_, other)| *other).filter(|other| other.xtr_id == name.xtr_id);
            let first = of_xtr.next();
            if of_xtr.count() + 1 >= STRANGERS_OF_XTR_MAX {
                self.give_way(first, todo)?;
            }
        }
        if let Some(of_address) = self.addresses.get(&address) {
            let (all, unverified) = (of_address.bindings, &of_address.unverified);
            if all >= self.settings.of_address_max || unverified.len() >= self.settings.strangers_of_address_max {
                self.give_way(unverified.first().map(|(_, name)| *name), todo)?;
            }
        }
        if self.bindings.len() >= self.settings.bindings_max {
            self.give_way(self.unverified.first().map(|(_, name)| *name), todo)?;
        }
        self.addresses.entry(address).or_default().bindings += 1;
        let held = Held {
            xtr,
            rloc: local,
            inner_port: 0,
            nonce: 0,
            waiting: VecDeque::new(),
            proven: VecDeque::new(),
            bucket: Bucket::new(),
            prefixes: BTreeMap::new(),
            told: false,
            since: now,
            heard: now,
            due: now,
        };
        self.bindings.insert(name, held);
        self.set_deadline(&name);
        Ok(())
    }

    fn give_way(&mut self, name: Option<Name>, todo: &mut Vec<Output>) -> Result<(), RelayFault> {
        self.end(name.ok_or(RelayFault::Full)?, todo);
        todo.push(Output::Drop(RelayFault::GaveWay));
        Ok(())
    }

    /// Bindings of an xTR that calls itself so.
    pub(super) fn of_xtr(&self, xtr_id: [u8; 16], inner: IpAddr) -> impl Iterator<Item = Name> {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let names = self.bindings.range(Name { xtr_id, inner, translated: any }..).map(|(name, _)| *name);
        names.take_while(move |name| (name.xtr_id, name.inner) == (xtr_id, inner))
    }

    /// Takes a binding out, and what is behind it.
    pub(super) fn end(&mut self, name: Name, todo: &mut Vec<Output>) {
        let Some(held) = self.bindings.remove(&name) else { return };
        self.forget_waiting(&held.waiting);
        let deadline = (held.due, name);
        self.deadlines.remove(&deadline);
        self.unverified.remove(&deadline);
        let address = name.translated.ip();
        if let Some(of_address) = self.addresses.get_mut(&address) {
            of_address.unverified.remove(&deadline);
            of_address.bindings -= 1;
            if of_address.bindings == 0 {
                self.addresses.remove(&address);
            }
        }
        for eid in held.prefixes.keys() {
            if let Some(names) = self.claims.get_mut(eid) {
                names.remove(&name);
            }
            self.tell(eid, todo);
        }
        if held.told {
            todo.push(Output::Ended { xtr: held.xtr, translated: name.translated });
        }
    }

    /// Ends what has run out, so much of it at a time.
    pub(super) fn end_old(&mut self, now: Instant, todo: &mut Vec<Output>) {
        let mut ended = 0;
        while ended < ENDED_MAX
            && let Some(&(due, name)) = self.deadlines.first()
            && due <= now
        {
            let Some(held) = self.bindings.get(&name) else {
                self.deadlines.pop_first();
                continue;
            };
            let over: Vec<EidPrefix> =
                held.prefixes.iter().filter(|(_, claim)| claim.expires <= now).map(|(eid, _)| *eid).collect();
            ended += 1 + over.len();
            for eid in &over {
                self.unclaim(&name, eid, todo);
            }
            if self.bindings.get(&name).is_some_and(Held::is_verified) {
                self.set_deadline(&name);
                continue;
            }
            if !over.is_empty() {
                todo.push(Output::Drop(RelayFault::Lost));
            }
            self.end(name, todo);
        }
    }

    pub(super) fn set_deadline(&mut self, name: &Name) {
        let Some(held) = self.bindings.get_mut(name) else { return };
        let before = (held.due, *name);
        let first = held.prefixes.values().map(|claim| claim.expires).min();
        held.due = first.unwrap_or(held.heard + UNVERIFIED_FOR);
        let (after, verified) = ((held.due, *name), held.is_verified());
        self.deadlines.remove(&before);
        self.deadlines.insert(after);
        let of_address = self.addresses.entry(name.translated.ip()).or_default();
        for set in [&mut self.unverified, &mut of_address.unverified] {
            set.remove(&before);
            if !verified {
                set.insert(after);
            }
        }
    }
}
