//! Map-Request, type 1.
//!
//! ```text
//! |Type=1 |A|M|P|S|p|s|R|I|  Rsvd   |L|D|   IRC   | Record Count  |
//! |                         Nonce (64)                            |
//! | Source-EID-AFI (16) | Source EID ...
//! | ITR-RLOC-AFI 1 (16) | ITR-RLOC 1 ...        IRC + 1 times
//! |N|Reserved(7) | EID mask-len(8) | EID-Prefix-AFI(16) | EID-Prefix ...   Record Count times
//! | Map-Reply Record: an EID-record with its locators     if M
//! | xTR-ID (128) | Site-ID (64)                           if I
//! ```
//!
//! Source: RFC 9301 §5.2, §5.3; the I and N bits and the trailer RFC 9437 §4.

use std::net::IpAddr;

use altitude_dataplane::mapping::{Eid, EidPrefix, Mapping};

/// A question to the mapping system or to a locator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapRequest {
    /// Random for every message; comes back in the Map-Reply.
    pub nonce: u64,
    /// A bit: the site itself shall answer, not the mapping system.
    pub authoritative: bool,
    /// P bit: an RLOC-probe.
    pub probe: bool,
    /// S bit: Solicit-Map-Request.
    pub smr: bool,
    /// p bit: sent by a PITR.
    pub pitr: bool,
    /// s bit: caused by an SMR.
    pub smr_invoked: bool,
    /// L bit: the sender's address belongs to the site's locator-set.
    pub local_xtr: bool,
    /// D bit: no Map-Reply wanted; used with S.
    pub dont_reply: bool,
    /// The inner source that made us ask; `None` (AFI 0) for refreshes and probes.
    pub source_eid: Option<Eid>,
    /// Where the answer may go, 0 … 32. Empty is what a single ITR-RLOC of AFI 0 reads as: nobody to answer.
    pub itr_rlocs: Vec<IpAddr>,
    /// What is asked for, 1 … 255; a sender asks for one (RFC 9301 §5.2).
    pub records: Vec<RequestRecord>,
    /// M: the sender's own mapping. Not verified by anything: never install it as it is (RFC 9301 §5.3).
    pub reply_record: Option<Mapping>,
    /// I: who subscribes (RFC 9437 §4).
    pub xtr: Option<XtrIdentity>,
}

/// One EID-Prefix asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRecord {
    /// N bit: changes shall be notified (RFC 9437 §4).
    pub notify: bool,
    /// A host for a miss; the cached prefix for refreshes, probes and SMRs.
    pub eid: EidPrefix,
}

/// Which xTR of which site sent a message (RFC 9437 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XtrIdentity {
    /// Unique within the site.
    pub xtr_id: [u8; 16],
    /// The site.
    pub site_id: u64,
}
