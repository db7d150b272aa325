//! Why a packet out of a tunnel, or a Map-Request for the ALT, came to nothing.

use crate::fault::faults;

faults! {
    /// Why a packet out of a tunnel was dropped, or a Map-Request not sent.
    DatagramFault {
        /// Not an IP packet, or cut off.
        NotIp = "alt-not-ip",
        /// A tunnel that is not configured.
        UnknownTunnel = "alt-unknown-tunnel",
        /// Addressed to the far end of the tunnel it came from (RFC 2784 §3.1).
        LoopsBack = "alt-loops-back",
        /// Addressed to an RLOC of ours: the ALT carries EIDs.
        ToRloc = "alt-to-rloc",
        /// More out of this tunnel than allowed.
        IngressLimited = "alt-ingress-limited",
        /// Not UDP, a fragment, or lengths that contradict each other.
        NotADatagram = "alt-not-a-datagram",
        /// A wrong IPv4 header or UDP checksum.
        Checksum = "alt-bad-checksum",
        /// UDP, but not to port 4342.
        NotControl = "alt-not-control",
        /// A source that no router may have.
        Martian = "alt-martian-source",
        /// One of our own addresses as source: it went round in a circle.
        OwnSource = "alt-own-source",
        /// A control message that cannot be read.
        Malformed = "alt-malformed-message",
        /// A control message other than a Map-Request.
        NotMapRequest = "alt-not-map-request",
        /// An RLOC-probe, which must not use the mapping system.
        Probe = "alt-probe",
        /// No record holds the EID that the datagram is addressed to.
        EidMismatch = "alt-eid-mismatch",
        /// TTL or Hop Limit used up.
        TtlExpired = "alt-ttl-expired",
        /// No way on, and silence is configured or the request wants no answer.
        Unreachable = "alt-unreachable",
        /// The route went lately: no answer now, for another may be on its way.
        LatelyLost = "alt-route-lately-lost",
        /// No way on, and no ITR-RLOC that a negative answer could reach.
        NoItrRloc = "alt-no-itr-rloc",
        /// A negative answer too many.
        ReplyLimited = "alt-reply-limited",
        /// An ICMP error too many.
        IcmpLimited = "alt-icmp-limited",
        /// As many pairs of ITR-RLOC and EID as can be watched.
        WatchedFull = "alt-reply-table-full",
        /// Neither an RLOC nor a tunnel address of the EID's family to send a Map-Request from.
        NoSource = "alt-no-source-address",
    }
}
