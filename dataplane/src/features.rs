//! Header features beyond the public Internet's profile, each switched on by name (RFC 9300 §4.1): map-versions,
//! Locator-Status-Bits, nonces.
//!
//! With all of them off no packet comes here. With one on every packet takes the long way through `encap` and `decap`,
//! because what it is to say, or what it says, hangs on the mapping of its source too.
//!
//! The nonces of what we send are part of the ready outer header: there is one for each locator.
//!
//! Sources: RFC 9300 §5.3, §10, §10.1, §13.1; RFC 9302 §7.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::{
    cache::Entry,
    counters::Counters,
    encap::{Context, Setup},
    mapping::{Eid, MapVersion, Mark},
    sightings::{Desk, Seen, Sighting},
    verdict::Reason,
    wire::lisp::{self, DataHeader, Tag},
};

/// How often a peer is told that its version of a mapping of ours is old before its packets are dropped (RFC 9302 §7.1).
pub const TOLD_MAX: u8 = 10;

/// Which features are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Map-versions (RFC 9302).
    pub versions: bool,
    /// Locator-Status-Bits (RFC 9300 §10).
    pub status: bool,
    /// Echo-nonce (RFC 9300 §10.1).
    pub nonces: bool,
}

impl Features {
    /// Whether any is.
    #[must_use]
    pub const fn any(self) -> bool {
        self.versions | self.status | self.nonces
    }

    /// Whether what packets say hangs on the mapping of their source: entries have marks.
    #[must_use]
    pub const fn marks(self) -> bool {
        self.versions | self.status
    }
}

/// Adds to a ready LISP header what the mappings of source and destination say. `source` is `None` for a packet that is
/// not a site's own, of which a PITR says version 0 (RFC 9302 §A.2).
pub(crate) fn stamp(
    header: &mut [u8; DataHeader::LENGTH],
    features: Features,
    source: Option<Mark>,
    destination: Mark,
) {
    // A nonce is there for a while, the versions can wait: both need the same octets.
    let free = header[0] & lisp::N == 0;
    if let Some(dest) = destination.version.filter(|_| features.versions && free) {
        let version = source.map_or(Some(0), |mark| mark.version.map(MapVersion::get));
        if let Some(source) = version {
            let word = u32::from(source) << 12 | u32::from(dest.get());
            header[0] |= lisp::V;
            header[1..4].copy_from_slice(&word.to_be_bytes()[1..]);
        }
    }
    if let Some(bits) = source.and_then(|mark| mark.status).filter(|_| features.status) {
        header[0] |= lisp::L;
        if header[0] & lisp::I != 0 {
            header[7] = bits as u8;
        } else {
            header[4..8].copy_from_slice(&bits.to_be_bytes());
        }
    }
}

/// A packet out of a tunnel, as far as it matters here.
pub(crate) struct Arrived {
    /// Its LISP header.
    pub(crate) header: DataHeader,
    /// The RLOC it came from.
    pub(crate) rloc: IpAddr,
    /// Its inner addresses.
    pub(crate) source: Eid,
    pub(crate) destination: IpAddr,
}

impl Arrived {
    fn sighting(&self, seen: Seen) -> Sighting {
        let &Self { rloc, source, destination, .. } = self;
        Sighting { rloc, source, destination, seen }
    }
}

/// Holds what a packet says against what is known, and tells the control thread what it should know. `destination` is the
/// entry of ours that it is for: `None` at a PETR, where packets are for nobody of ours and the version says nothing (RFC
/// 9302 §A.2).
///
/// # Errors
/// Why the packet must be dropped.
pub(crate) fn check(
    arrived: &Arrived,
    source: Option<Entry>,
    destination: Option<Entry>,
    context: &Context<'_>,
    desk: &mut Desk,
) -> Result<(), Reason> {
    let Setup { features, counters, .. } = context.setup;
    let about = |entry: Entry| u64::from(entry.number());
    let known = source.map(|entry| (entry, context.cache.mark(entry)));
    // Bits of another state of the locator-set than ours speak of other locators.
    let mut same_set = true;
    if let Tag::Versions { source: source_version, dest } = arrived.header.tag
        && features.versions
    {
        if let Some(entry) = destination {
            check_dest(arrived, dest, context.cache.mark(entry), counters, desk)?;
        }
        let cached = known.and_then(|(entry, mark)| Some((entry, mark.version?)));
        if let (Some((entry, cached)), Some(said)) = (cached, MapVersion::new(source_version)) {
            let order = said.order(cached);
            if order.is_lt() {
                return Err(Reason::SourceVersionOlder);
            }
            if order.is_gt() {
                same_set = false;
                desk.tell(arrived.sighting(Seen::SourceNewer(said)), about(entry), counters);
            }
        }
    }
    if let (Some(bits), Some((entry, mark)), true) = (arrived.header.status, known, features.status && same_set) {
        let (width, mask) = if arrived.header.instance.is_some() { (8, 0xff) } else { (32, u32::MAX) };
        if mark.status.is_none_or(|before| (before ^ bits) & mask != 0) {
            desk.tell(arrived.sighting(Seen::Status { bits, width }), about(entry), counters);
        }
    }
    if features.nonces {
        let seen = match arrived.header.tag {
            Tag::Nonce { value, echo: true } => Seen::EchoAsked(value),
            Tag::Nonce { value, echo: false } => Seen::Nonce(value),
            _ => Seen::NoNonce,
        };
        desk.tell(arrived.sighting(seen), 0, counters);
    }
    Ok(())
}

/// Holds the version of the destination's mapping against ours, which knows best (RFC 9302 §7.1).
fn check_dest(arrived: &Arrived, said: u16, ours: Mark, counters: &Counters, desk: &mut Desk) -> Result<(), Reason> {
    let own = ours.version.ok_or(Reason::VersionUnexpected)?;
    let said = MapVersion::new(said).ok_or(Reason::DestVersionZero)?;
    let order = said.order(own);
    if order.is_gt() {
        return Err(Reason::DestVersionNewer);
    }
    if order.is_eq() {
        return Ok(());
    }
    let about = u64::from(ours.number) << 16 | u64::from(own.get());
    if ours.outlived || desk.tell(arrived.sighting(Seen::DestOlder(said)), about, counters) > TOLD_MAX {
        return Err(Reason::DestVersionOlder);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MV-9: a PITR's packets are no site's: they carry the version of the destination's mapping, and 0 for their own; no bits.
    #[test]
    fn what_is_no_sites_own_says_version_zero() {
        let both = Features { versions: true, status: true, nonces: false };
        let theirs = Mark { version: MapVersion::new(0x456), status: Some(7), ..Mark::default() };
        let mut header = [0x08, 0, 0, 0, 0, 0, 7, 0];
        stamp(&mut header, both, None, theirs);
        assert_eq!(header, [0x18, 0x00, 0x04, 0x56, 0, 0, 7, 0]);
    }

    /// RCH-15: a nonce that is in the ready header stays: a packet cannot carry versions beside it. Bits it can; vector D01.
    #[test]
    fn a_nonce_goes_before_versions() {
        let all = Features { versions: true, status: true, nonces: true };
        let ours = Mark { version: MapVersion::new(1), status: Some(5), ..Mark::default() };
        let mut header = [0x80, 0xab, 0xcd, 0xef, 0, 0, 0, 0];
        stamp(&mut header, all, Some(ours), ours);
        assert_eq!(header, [0xc0, 0xab, 0xcd, 0xef, 0, 0, 0, 5]);
    }
}
