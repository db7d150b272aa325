//! Why a message was not believed, or not protected.

use crate::fault::faults;

faults! {
    /// Why LISP-SEC refused a message, and what it let pass all the same.
    SecurityFault {
        /// Authentication data in an ECM, and LISP-SEC is not switched on here.
        Off = "ecm-lisp-sec",
        /// A message without authentication data where none is taken without them (RFC 9301 §9).
        Unprotected = "lisp-sec-unprotected",
        /// Authentication data that cannot be read.
        Malformed = "lisp-sec-malformed",
        /// A One-Time Key that is not wrapped, or in a way not spoken here (RFC 9303 §6.5).
        Wrapping = "lisp-sec-unwrapped-key",
        /// A Key ID that is not shared with its sender.
        UnknownKey = "lisp-sec-unknown-key",
        /// A One-Time Key that was wrapped under another key, or changed on the way.
        NotOurKey = "lisp-sec-key-not-ours",
        /// Nobody can be asked with a One-Time Key: only the ALT leads there.
        OnlyAlt = "lisp-sec-only-alt",
        /// A Map-Reply to a protected Map-Request without S bit, EID-AD or PKT-AD.
        Stripped = "reply-lisp-sec-stripped",
        /// An EID HMAC that is wrong: the EID-Prefixes are not those of the Map-Server.
        EidMac = "reply-lisp-sec-bad-eid-mac",
        /// A PKT HMAC that is wrong: not by the ETR, or changed on the way.
        PacketMac = "reply-lisp-sec-bad-packet-mac",
        /// Another HMAC ID or KDF ID than was asked for.
        Algorithm = "reply-lisp-sec-other-algorithm",
        /// A record beyond the EID-Prefixes that its sender may speak of; the others of its message count.
        Overclaim = "reply-lisp-sec-overclaim",
        /// An ETR that cannot sign was believed, or is asked again without protection, as the settings allow.
        Downgraded = "reply-lisp-sec-downgraded",
    }
}
