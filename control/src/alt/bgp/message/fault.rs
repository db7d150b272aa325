//! What may be wrong with a neighbour's messages and connections.

use crate::fault::faults;

faults! {
    /// Why something of a BGP neighbour was not taken as it came.
    BgpFault {
        /// An attribute was malformed or contradicted another: its routes count as withdrawn (RFC 7606 §2).
        TreatAsWithdraw = "bgp-treat-as-withdraw",
        /// A malformed attribute was dropped, the routes were taken (RFC 7606 §2).
        AttributeDiscarded = "bgp-attribute-discarded",
        /// The first AS of the path is not the neighbour's (RFC 4271 §6.3): withdrawn.
        FirstAs = "bgp-first-as",
        /// The next hop is ours or not on the tunnel (RFC 4271 §6.3): withdrawn.
        NextHop = "bgp-next-hop",
        /// A prefix that no EID can be in, multicast for one: passed over.
        PrefixRefused = "bgp-prefix-refused",
        /// Routes of a family that the session does not carry: passed over.
        FamilyNotNegotiated = "bgp-family-not-negotiated",
        /// A ROUTE-REFRESH of an unknown family or subtype: passed over.
        RefreshUnknown = "bgp-refresh-unknown",
        /// A message that makes no sense: the session ended.
        MessageMalformed = "bgp-message-malformed",
        /// An OPEN that is not acceptable: wrong AS, identifier, version or hold time.
        OpenRefused = "bgp-open-refused",
        /// A message that does not belong into the state of the session: it ended.
        Unexpected = "bgp-message-unexpected",
        /// Nothing was heard for the hold time: the session ended.
        HoldExpired = "bgp-hold-expired",
        /// More messages other than UPDATEs than any neighbour needs: the session ended.
        Flood = "bgp-flood",
        /// A second connection was given up (RFC 4271 §6.8).
        Collision = "bgp-collision",
        /// Routes that could not be told to the neighbour: too many attributes for a message, or no next hop of the family.
        NotSendable = "bgp-not-sendable",
        /// The neighbour connected while it is not welcome.
        NotWelcome = "bgp-not-welcome",
    }
}
