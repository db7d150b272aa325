//! What an answer must prove with LISP-SEC (RFC 9303 §6.9).

use std::time::Instant;

use altitude_dataplane::mapping::{Locator, Mapping};

use super::{Asked, Output, Resolver};
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
    /// outstanding where it does not.
    pub(super) fn prove(
        &mut self,
        now: Instant,
        reply: &mut MapReply,
        octets: &[u8],
        todo: &mut Vec<Output>,
    ) -> Result<(), SecurityFault> {
        let Some(asking) = &self.settings.security else { return Ok(()) };
        let Some(Asked { eid, sealed: Some(sealed) }) = self.outstanding.get(&reply.nonce) else { return Ok(()) };
        let (eid, downgrade, next) = (*eid, asking.downgrade, asking.after(sealed));
        let proof = match sealed.verify(reply, octets) {
            Ok(proof) if proof.signed || downgrade => proof,
            Ok(_) => return Err(SecurityFault::Stripped),
            Err(fault) => {
                if fault == SecurityFault::Algorithm {
                    // Asked for with another one as soon as its second is over (RFC 9303 §6.9).
                    self.pending.get_mut(&eid).into_iter().for_each(|pending| pending.algorithm = next);
                    self.hurry(now, &eid);
                }
                return Err(fault);
            }
        };
        // The Map-Server says that no ETR can sign.
        if proof.signed && proof.cant_sign && downgrade && reply.records.iter().all(Mapping::is_negative) {
            self.spend(reply.nonce);
            self.pending.get_mut(&eid).into_iter().for_each(|pending| pending.downgraded = true);
            self.hurry(now, &eid);
            return Err(SecurityFault::Downgraded);
        }
        if !proof.signed {
            todo.push(Output::Insecure(SecurityFault::Downgraded));
        }
        let before = reply.records.len();
        reply.records.retain(|record| proof.covers(record));
        let beyond = before - reply.records.len();
        todo.extend(std::iter::repeat_n(Output::Insecure(SecurityFault::Overclaim), beyond));
        Ok(())
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
