//! What an answer must prove with LISP-SEC (RFC 9303 §6.9).

use std::time::Instant;

use altitude_dataplane::mapping::{EidPrefix, Locator, Mapping};

use super::{Asked, Output, Pending, Refused, Resolver, ResolverFault, TRIES_MAX};
use crate::{lisp_sec::SecurityFault, wire::MapReply};

/// Whether the answer to a probe says something else than is cached. With LISP-SEC it proves nothing: what it says is asked of the
/// mapping system (RFC 9303 §6.9). R bits are for the prober to judge.
#[must_use]
pub fn says_other(cached: Option<&Mapping>, record: &Mapping) -> bool {
    let said = |mapping: &Mapping| {
        let locators = mapping.locators.iter().map(|locator| Locator { reachable: true, ..*locator });
        (mapping.action, locators.collect::<Vec<_>>())
    };
    cached.is_none_or(|cached| said(cached) != said(record))
}

impl Resolver {
    /// Whether the reply proves what a protected request wants to know; of its records those stay that it proves. The request stays
    /// outstanding where it does not. True if its sender signed it.
    pub(super) fn prove(
        &mut self,
        now: Instant,
        reply: &mut MapReply,
        octets: &[u8],
        todo: &mut Vec<Output>,
    ) -> Result<bool, Refused> {
        let Some(asking) = &self.settings.security else { return Ok(false) };
        let Some(Asked { eid, sealed: Some(sealed) }) = self.outstanding.get(&reply.nonce) else { return Ok(false) };
        let (eid, downgrade, next) = (*eid, asking.downgrade, asking.after(sealed));
        let proof = match sealed.verify(reply, octets) {
            Ok(proof) if proof.signed || downgrade => proof,
            Ok(_) => return Err(SecurityFault::Stripped.into()),
            Err(fault) => {
                if fault == SecurityFault::Algorithm {
                    // Asked for with another one as soon as its second is over (RFC 9303 §6.9).
                    self.ask_otherwise(now, &eid, |pending| pending.algorithm = next);
                }
                return Err(fault.into());
            }
        };
        let before = reply.records.len();
        reply.records.retain(|record| proof.covers(record));
        let beyond = before - reply.records.len();
        todo.extend(std::iter::repeat_n(Output::Insecure(SecurityFault::Overclaim), beyond));
        // Nothing binds the EID of a Map-Request to its key: who changed it on the way gets a true answer about another one.
        if !reply.records.iter().any(|record| record.eid.covers(&eid)) {
            return Err(ResolverFault::NotCovering.into());
        }
        // The Map-Server says that no ETR can sign.
        if proof.signed && proof.cant_sign && downgrade && reply.records.iter().all(Mapping::is_negative) {
            self.spend(reply.nonce);
            self.ask_otherwise(now, &eid, |pending| pending.downgraded = true);
            return Err(SecurityFault::Downgraded.into());
        }
        if !proof.signed {
            todo.push(Output::Insecure(SecurityFault::Downgraded));
        }
        Ok(proof.signed)
    }

    /// What is pending is asked for in another way as soon as its second is over, with all its tries even if it was given up lately:
    /// somebody is there.
    fn ask_otherwise(&mut self, now: Instant, eid: &EidPrefix, change: impl FnOnce(&mut Pending)) {
        let Some(pending) = self.pending.get_mut(eid) else { return };
        change(pending);
        pending.tries_max = TRIES_MAX;
        self.hurry(now, eid);
    }

    /// A nonce is good once, and its One-Time Key goes with it.
    pub(super) fn spend(&mut self, nonce: u64) {
        if let Some(pending) = self.outstanding.remove(&nonce).and_then(|asked| self.pending.get_mut(&asked.eid)) {
            pending.nonces.retain(|other| *other != nonce);
        }
    }

    /// Whether only answers with proof are taken.
    #[must_use]
    pub const fn is_secured(&self) -> bool {
        self.settings.security.is_some()
    }
}
