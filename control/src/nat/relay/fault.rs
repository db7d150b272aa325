//! What an RTR did not relay, or did not believe.

use crate::fault::faults;

faults! {
    /// What an RTR did not relay, or did not believe.
    RelayFault {
        /// A Map-Register that does not say whose it is (I bit).
        Unnamed = "nat-register-without-identity",
        /// A Map-Register for a Map-Server that is not configured, or for another port than 4342.
        ForeignServer = "nat-register-foreign-map-server",
        /// A Map-Register from source port 0, where nothing can be sent.
        NoPort = "nat-register-without-port",
        /// A Map-Register whose xTR calls itself by none of the addresses that it registers.
        ForeignInner = "nat-register-foreign-inner-source",
        /// A Map-Register of what is not reached through this RTR.
        ForeignRtr = "nat-register-foreign-rtr",
        /// The same nonce came from elsewhere before.
        Replayed = "nat-register-nonce-replayed",
        /// As many Map-Registers of one address, or of strangers, as are relayed.
        Limited = "nat-register-limited",
        /// As many bindings as one address, or all, may have.
        Full = "nat-table-full",
        /// A binding that was not verified made room for another one.
        GaveWay = "nat-unverified-gave-way",
        /// From no Map-Server of ours, or for no xTR that registers through us.
        Unwanted = "nat-notify-unwanted",
        /// What is to prove that the Map-Server said it is wrong, or made with a key that we do not have.
        Forged = "nat-notify-bad-authentication",
        /// Nothing proves that the Map-Server said it, though we share a key.
        Unproven = "nat-notify-without-authentication",
        /// Answers no Map-Register that we relayed and that waits.
        Nonce = "nat-notify-nonce",
        /// It is about other prefixes than the Map-Register was.
        OtherPrefixes = "nat-notify-other-prefixes",
        /// A prefix of an instance that we do not serve.
        ForeignInstance = "nat-foreign-instance",
        /// As many prefixes as one xTR, or bindings as one prefix, may have.
        TooMany = "nat-too-many-prefixes",
        /// As many prefixes as there are for xTRs behind NATs.
        NoRoom = "nat-prefixes-full",
        /// A verified binding whose Map-Registers, or their Map-Notifies, stayed away.
        Lost = "nat-binding-lost",
    }
}
