//! Map-Registers that wait for their Map-Notify, and which binding each of them is of.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    time::Instant,
};

use altitude_dataplane::mapping::{EidPrefix, Mapping};
use sha2::{Digest, Sha256};

use super::{
    Relay, RelayFault, STRANGERS_OF_XTR_MAX, UNVERIFIED_FOR, WAITING_MAX,
    binding::{Name, push_bounded},
};

/// What a Map-Register and its Map-Notify have in common, in few octets: xTR-ID, nonce, Map-Server, EID-Prefixes.
pub(super) type Mark = [u8; 32];

/// A Map-Register that was relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) mark: Mark,
    /// Its nonce, and the Map-Server.
    nonce: (u64, IpAddr),
    since: Instant,
}

pub(super) fn mark(xtr_id: [u8; 16], (nonce, server): (u64, IpAddr), records: &[Mapping]) -> Mark {
    let eids: BTreeSet<EidPrefix> = records.iter().map(|record| record.eid).collect();
    let mut hash = Sha256::new().chain_update(xtr_id).chain_update(nonce.to_be_bytes());
    hash.update(format!("{server}\n"));
    for EidPrefix { instance, prefix } in eids {
        hash.update(format!("{} {prefix}\n", instance.get()));
    }
    hash.finalize().into()
}

impl Relay {
    /// Whether nobody else of this xTR-ID sent the same nonce for the same prefixes, both of which are in what a MAC covers, as what
    /// the xTR calls itself is not. Where a binding has all of these prefixes, those that have not have no say: whoever sends a
    /// nonce first that the xTR will use keeps it from nothing.
    pub(super) fn is_first(
        &self,
        now: Instant,
        name: &Name,
        mark: &Mark,
        records: &[Mapping],
    ) -> Result<(), RelayFault> {
        let waiting = self.waits(now, mark, records).filter(|other| other != name);
        if waiting.is_some_and(|other| self.has_all(&other, records) || !self.has_all(name, records)) {
            return Err(RelayFault::Replayed);
        }
        let mut others = records.first().and_then(|record| self.claims.get(&record.eid)).into_iter().flatten();
        let has_proven = |other: &Name| self.bindings.get(other).is_some_and(|held| held.proven.contains(mark));
        match others.any(|other| other != name && has_proven(other)) {
            true => Err(RelayFault::Replayed),
            false => Ok(()),
        }
    }

    /// Which binding a Map-Notify is for. One that came after [`UNVERIFIED_FOR`] is for none, unless the binding has what it is about.
    pub(super) fn waits(&self, now: Instant, mark: &Mark, records: &[Mapping]) -> Option<Name> {
        let name = *self.waiting.get(mark)?;
        let one = self.bindings.get(&name)?.waiting.iter().find(|one| one.mark == *mark)?;
        (now < one.since + UNVERIFIED_FOR || self.has_all(&name, records)).then_some(name)
    }

    /// Why a Map-Notify is for none.
    pub(super) fn unasked(&self, (xtr_id, inner): ([u8; 16], IpAddr), nonce: (u64, IpAddr)) -> RelayFault {
        let mut of_xtr = self.of_xtr(xtr_id, inner).peekable();
        if of_xtr.peek().is_none() {
            return RelayFault::Unwanted;
        }
        let mut waiting = of_xtr.take(STRANGERS_OF_XTR_MAX).filter_map(|name| self.bindings.get(&name));
        match waiting.any(|held| held.waiting.iter().any(|one| one.nonce == nonce)) {
            true => RelayFault::OtherPrefixes,
            false => RelayFault::Nonce,
        }
    }

    /// A Map-Register was relayed; nobody else waits for the same any more.
    pub(super) fn wait(&mut self, now: Instant, name: Name, mark: Mark, nonce: (u64, IpAddr)) {
        self.no_more_waits(&mark);
        let Some(held) = self.bindings.get_mut(&name) else { return };
        let oldest = push_bounded(&mut held.waiting, Waiting { mark, nonce, since: now }, WAITING_MAX);
        self.waiting.insert(mark, name);
        oldest.map(|oldest| self.waiting.remove(&oldest.mark));
    }

    /// Its Map-Notify came.
    pub(super) fn prove(&mut self, name: &Name, mark: Mark) {
        self.no_more_waits(&mark);
        if let Some(held) = self.bindings.get_mut(name) {
            push_bounded(&mut held.proven, mark, WAITING_MAX);
        }
    }

    /// A binding ended.
    pub(super) fn forget_waiting(&mut self, waiting: &VecDeque<Waiting>) {
        for one in waiting {
            self.waiting.remove(&one.mark);
        }
    }

    fn no_more_waits(&mut self, mark: &Mark) {
        let name = self.waiting.remove(mark);
        if let Some(held) = name.and_then(|name| self.bindings.get_mut(&name)) {
            held.waiting.retain(|one| one.mark != *mark);
        }
    }

    /// Whether a Map-Server vouched for all that a message is about: for another prefix is for nothing, as who owns another site
    /// may call himself by any xTR-ID.
    fn has_all(&self, name: &Name, records: &[Mapping]) -> bool {
        let prefixes = self.bindings.get(name).map(|held| &held.prefixes);
        prefixes.is_some_and(|prefixes| records.iter().all(|record| prefixes.contains_key(&record.eid)))
    }
}
