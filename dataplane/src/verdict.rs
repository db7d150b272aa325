//! What becomes of a frame, and why one is dropped.

use crate::mapping::{Eid, PortIndex};

/// What a path decided for one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it through this port; its octets are ready.
    Send(PortIndex),
    /// Send it, and ask for the mapping of who sent it.
    SendAndAsk(PortIndex, Miss),
    /// No mapping: ask for one, and hold the frame if allowed.
    Miss(Miss),
    /// Split the packet and decide on the parts: too long for the way, and its sender allows it (RFC 9300 §7.1).
    Split,
    /// Count, tell the source by ICMP where the rules allow it, and release.
    Refuse(Reason, Notice),
    /// Count and release.
    Drop(Reason),
    /// Count and release, and ask for the mapping of who sent it.
    DropAndAsk(Reason, Miss),
}

/// What an ICMP error says to the source of a packet that was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// TTL or Hop Limit ran out in transit.
    TimeExceeded,
    /// Longer than the way carries.
    TooBig {
        /// Largest packet that passes, octets: S = L − H of RFC 9300 §7.1.
        limit: u16,
    },
    /// There is a mapping, but no locator in it can be used.
    Unreachable,
    /// The mapping system says drop (ACT 3).
    Prohibited,
}

/// What the control thread is asked for. It crosses the queue as a value; the frame stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Miss {
    /// What is missing for it.
    pub wanted: Wanted,
    /// The destination that was looked up.
    pub destination: Eid,
    /// The source of the packet that asked, in the same instance.
    pub source: std::net::IpAddr,
}

/// Which kind of knowledge a worker misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A mapping: the destination is outside the local EID-prefixes and nothing is cached.
    Mapping,
    /// The link-layer address of a host or next hop, inside the site or towards a destination that is no EID.
    Neighbour,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a frame was dropped; one counter each. The texts are stable names for operators.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Stable name, as `show counters` and metrics print it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    // From the site.
    /// Shorter than its headers say, or than any header.
    SiteTruncated = "site-truncated",
    /// Neither IPv4 nor IPv6, or a version nibble that contradicts the EtherType.
    SiteNotIp = "site-not-ip",
    /// IPv4 header length below 5 words or beyond the packet.
    SiteBadHeader = "site-bad-header",
    /// Wrong IPv4 header checksum.
    SiteBadChecksum = "site-bad-checksum",
    /// Source outside the local EID-prefixes: not a packet of this site.
    SourceNotLocal = "source-not-local",
    /// Source that no packet in transit may have: loopback, multicast, unspecified, broadcast, link-local.
    SourceMartian = "source-martian",
    /// Destination that cannot be unicast to: loopback, multicast, unspecified, broadcast, link-local.
    DestinationMartian = "destination-martian",
    /// Destination inside a local EID-prefix: the site delivers it itself.
    DestinationLocal = "destination-local",
    /// Destination is one of our RLOCs, which are reached without LISP: never looked up (RFC 9301 §8.1).
    DestinationRloc = "destination-rloc",
    /// TTL or Hop Limit at 1 or 0 before encapsulation.
    TtlExpired = "ttl-expired",
    /// Longer than the path carries after encapsulation.
    TooBig = "too-big",
    /// A mapping with no locator that can be used.
    NoUsableLocator = "no-usable-locator",
    /// Negative entry, ACT 0.
    ActNoAction = "act-no-action",
    /// Negative entry, ACT 3.
    ActDrop = "act-drop",
    /// Negative entry, ACT 4.
    ActPolicyDenied = "act-policy-denied",
    /// Negative entry, ACT 5.
    ActAuthFailure = "act-auth-failure",
    /// Natively forwarded, but no next hop is known.
    NativeNoRoute = "native-no-route",
    /// Came natively for an EID aggregate, has no mapping, and would leave natively by where it came from.
    NativeLoop = "native-loop",
    /// Came natively for none of the EID aggregates that we attract.
    DestinationNotAggregated = "destination-not-aggregated",
    // Waiting for a mapping.
    /// No mapping yet, and holding is switched off.
    MissNotHeld = "miss-not-held",
    /// No mapping yet, and the EID's places were full: the oldest frame gave way.
    HoldDisplaced = "hold-displaced",
    /// No mapping yet, and the worker's hold queue was full.
    HoldFull = "hold-full",
    /// Held until the limit passed without an answer.
    HoldExpired = "hold-expired",
    // From the core.
    /// Shorter than its headers say, or than any header.
    OuterTruncated = "outer-truncated",
    /// Outer packet neither IPv4 nor IPv6, or a bad header length.
    OuterBadHeader = "outer-bad-header",
    /// Wrong outer IPv4 header checksum.
    OuterBadChecksum = "outer-bad-checksum",
    /// A fragment of an outer packet.
    OuterFragment = "outer-fragment",
    /// Outer destination is none of our RLOCs.
    OuterNotOurs = "outer-not-ours",
    /// Outer source that no packet in transit may have: loopback, multicast, unspecified, broadcast, link-local.
    OuterMartian = "outer-martian",
    /// Not UDP to port 4341.
    NotLisp = "not-lisp",
    /// UDP length that contradicts the IP length, or is below 16.
    UdpBadLength = "udp-bad-length",
    /// Non-zero UDP checksum that is wrong.
    UdpBadChecksum = "udp-bad-checksum",
    /// LISP payload encrypted (K bits set): not spoken here.
    Encrypted = "encrypted",
    /// Instance-ID of no site of ours.
    UnknownInstance = "unknown-instance",
    /// Inner packet shorter than its headers say.
    InnerTruncated = "inner-truncated",
    /// Inner packet neither IPv4 nor IPv6, or a bad header length.
    InnerBadHeader = "inner-bad-header",
    /// Wrong inner IPv4 header checksum.
    InnerBadChecksum = "inner-bad-checksum",
    /// Inner source inside our own EID-prefixes: spoofed.
    InnerSourceLocal = "inner-source-local",
    /// The source check is `secure`, and the inner source has no mapping that vouches for it; it is asked for.
    InnerSourceUnknown = "inner-source-unknown",
    /// The source check is `secure`, and the outer source is no locator of the inner source's mapping.
    OuterSourceForeign = "outer-source-foreign",
    /// Inner source that no packet in transit may have.
    InnerSourceMartian = "inner-source-martian",
    /// Inner destination that cannot be unicast to.
    InnerDestinationMartian = "inner-destination-martian",
    /// Inner destination is one of our RLOCs.
    InnerDestinationRloc = "inner-destination-rloc",
    /// Inner destination outside the local EID-prefixes.
    InnerDestinationForeign = "inner-destination-foreign",
    /// Inner destination is an EID of another site: a PETR is for what is none, and a re-encapsulating router sends nothing
    /// back to where it came from.
    InnerDestinationEid = "inner-destination-eid",
    /// Neither inner address is of an xTR behind a NAT that registered through us.
    NotRegistered = "not-registered",
    /// V set, and our mapping of the inner destination has no version (RFC 9302 §6.1).
    VersionUnexpected = "version-unexpected",
    /// V set with a dest map-version of 0, which no ITR may send.
    DestVersionZero = "dest-version-zero",
    /// Dest map-version newer than our mapping is.
    DestVersionNewer = "dest-version-newer",
    /// Dest map-version older than our mapping: the ITR was told ten times, or nobody can hold it any more.
    DestVersionOlder = "dest-version-older",
    /// Source map-version older than the mapping that we have of the inner source.
    SourceVersionOlder = "source-version-older",
    /// Outer CE over an inner packet that is not ECN-capable (RFC 6040 §4.2).
    EcnNotCapable = "ecn-not-capable",
    /// TTL or Hop Limit at 0 after decapsulation.
    InnerTtlExpired = "inner-ttl-expired",
    /// Longer than the site's link carries.
    InnerTooBig = "inner-too-big",
    // On the way out.
    /// No room in front of the packet for the header.
    NoHeadroom = "no-headroom",
    /// The transmit ring was full.
    TransmitFull = "transmit-full",
    /// The frame could not be held, and its miss not be asked for either: queue full, or too many misses in one turn.
    MissQueueFull = "miss-queue-full",
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn names_are_unique_and_in_counter_order() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
