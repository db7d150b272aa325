//! Protected Map-Requests: who of the ETRs can sign, and what is said where nobody can (RFC 9303 §6.7).
//!
//! ```text
//! P bit in a registration ─▶ Reply, signed here, E = 0
//! S bit in one ───────────▶ Encapsulate: MS-OTK and EID-AD to such an ETR, E = 1 if another one cannot sign
//! neither ────────────────▶ Reply: negative, signed here, E = 1
//! ```

use altitude_dataplane::mapping::{Action, EidPrefix, Ttl};

use super::{Asked, MapServer, Output, SiteFault, UNSERVED_MINUTES};
use crate::{lisp_sec::keys::SharedKey, rloc::answer_address, wire::MapReply, wire::ecm};

impl MapServer {
    /// Hands a protected Map-Request to an ETR that can sign, or says that there is none.
    pub(super) fn secured(&mut self, head: u32, found: EidPrefix, asked: &Asked<'_>) -> Result<Output, SiteFault> {
        let Some(protection) = asked.protection else { return Err(SiteFault::NoEtr) };
        let Some(signer) = self.registry.signer(head, self.families)? else {
            // Whoever serves the first address of what is asked for may be able to sign.
            let serving = self.registry.serving(asked.eid, &found);
            return if serving == Some((found, head)) { self.unsigned(asked) } else { Err(SiteFault::NoEtr) };
        };
        let key = SharedKey::from(&signer.key);
        let security = protection.to_etr(asked.request.nonce, &key, found, signer.others_cant);
        Ok(Output::Encapsulate { to: signer.rloc, message: ecm::encapsulate_secured(&security, asked.packet) })
    }

    /// No ETR of the EID can sign: said under signature, so that nobody else can say it.
    pub(super) fn unsigned(&self, asked: &Asked<'_>) -> Result<Output, SiteFault> {
        let Some(protection) = asked.protection else { return Err(SiteFault::NoEtr) };
        if asked.request.dont_reply {
            return Err(SiteFault::Unserved);
        }
        let to = answer_address(asked.request, asked.source, self.families).ok_or(SiteFault::NoItrRloc)?;
        let about = self.registry.gap(asked.eid);
        let ttl = Ttl::Minutes(UNSERVED_MINUTES);
        let mut message = MapReply::negative(asked.request.nonce, about, ttl, Action::DropAuthFailure);
        protection.sign(&mut message, about, true);
        Ok(Output::Reply { to, message })
    }
}
