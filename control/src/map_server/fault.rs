//! Why a Map-Server refused a registration or a subscription, or did nothing about a Map-Request.

use crate::fault::faults;

faults! {
    /// Why a Map-Server refused a registration or a subscription, or did nothing about a Map-Request.
    SiteFault {
        /// A Map-Register about a prefix of no site.
        UnknownSite = "site-register-unknown",
        /// A Map-Register for a site that has no keys.
        NoKey = "site-register-no-key",
        /// A Key ID that is not shared with the site.
        UnknownKey = "site-register-unknown-key",
        /// Signed by another key or with another algorithm, or changed on the way.
        Mac = "site-register-bad-authentication",
        /// Of an ETR that does not speak LISP-SEC (S bit), where only those that do may register (RFC 9301 §9).
        NotSigning = "site-register-without-lisp-sec",
        /// A nonce that is not greater than the last one (RFC 9301 §5.6).
        Replayed = "site-register-nonce-replayed",
        /// The last Map-Register once more, octet for octet; its Map-Notify is sent again, nothing else happens.
        Repeated = "site-register-repeated",
        /// More Map-Registers of one site than allowed.
        RegisterLimited = "site-register-limited",
        /// A Map-Register that was relayed by no RTR of ours.
        UnknownRtr = "site-register-unknown-rtr",
        /// A Map-Register that an RTR relayed and that does not say whose it is (I bit).
        RelayedUnnamed = "site-relayed-without-identity",
        /// A Map-Register that an RTR relayed here and that is for another address or port.
        RelayedElsewhere = "site-relayed-for-another",
        /// An Info-Request about a prefix of no site.
        InfoUnknown = "info-request-unknown",
        /// An Info-Request with a Key ID that is not shared with the site.
        InfoUnknownKey = "info-request-unknown-key",
        /// An Info-Request signed by another key or with another algorithm, or changed on the way.
        InfoMac = "info-request-bad-authentication",
        /// More Info-Requests of one address than are answered.
        InfoLimited = "info-request-limited",
        /// A record of an older version than one that is registered of its prefix (RFC 9302 §5).
        OlderVersion = "site-register-older-version",
        /// A prefix that is not the site's, or part of one where parts are not allowed (RFC 9301 §8.2).
        ForeignPrefix = "site-foreign-prefix",
        /// As many prefixes as one site may have registered.
        TooManyPrefixes = "site-too-many-prefixes",
        /// As many xTRs as one site, or one prefix, may have.
        TooManyXtrs = "site-too-many-xtrs",
        /// A record with more locators than are kept.
        TooManyLocators = "site-too-many-locators",
        /// As many registrations as all sites together may have.
        RegistryFull = "site-registry-full",
        /// News that an xTR did not acknowledge.
        Unacknowledged = "site-notify-unacknowledged",
        /// As many pieces of news wait for an acknowledgement as may.
        NotifyTableFull = "site-notify-table-full",
        /// A Map-Notify-Ack for nothing that waits for one.
        AckUnwanted = "site-notify-ack-unwanted",
        /// A Map-Notify-Ack signed by another key, or changed on the way.
        AckMac = "site-notify-ack-bad-authentication",
        /// No ETR that a packet of ours can reach.
        NoEtr = "site-no-etr",
        /// An RLOC-probe, which is for an ETR (RFC 9301 §5.2).
        Probe = "site-probe",
        /// That ITR asked for that EID as often as allowed, or all of them together.
        Limited = "site-request-limited",
        /// As many pairs of ITR-RLOC and EID as can be watched.
        WatchedFull = "site-request-table-full",
        /// Nobody serves the EID, and no answer is wanted, or silence is configured.
        Unserved = "site-unserved",
        /// The answer is known here, and no answer is wanted (D bit).
        DontReply = "site-dont-reply",
        /// No ITR-RLOC that our answer could reach.
        NoItrRloc = "site-no-itr-rloc",
        /// A subscription that does not say whose it is: the request is answered as any other (RFC 9437 §5).
        SubscriptionUnnamed = "subscription-without-identity",
        /// A subscription with a nonce that is not greater than the last one (RFC 9437 §5).
        SubscriptionReplayed = "subscription-nonce-replayed",
        /// A subscription of an xTR that shares no key with us (RFC 9437 §5).
        SubscriptionUnknown = "subscription-no-key",
        /// A subscription with a One-Time Key that another one came with (RFC 9437 §7.1).
        SubscriptionKeyUsed = "subscription-one-time-key-reused",
        /// A subscription to what this xTR is not told of (RFC 9437 §5).
        SubscriptionDenied = "subscription-denied",
        /// A subscription to what the ETRs answer for themselves, or silence is kept about: answered as any other request.
        SubscriptionNotOurs = "subscription-not-proxied",
        /// A subscription to what nobody has registered just now, where that is not to be told as such: answered as any other
        /// request, and it ends none.
        SubscriptionUnserved = "subscription-not-registered",
        /// A subscription to a prefix with more registered inside than one subscriber is told of: answered as any other request.
        SubscriptionTooWide = "subscription-too-wide",
        /// As many subscriptions as one xTR may have: answered as any other request.
        SubscriptionsOfXtr = "subscription-limit-of-xtr",
        /// As many subscriptions as all xTRs together may have: answered as any other request.
        SubscriptionsFull = "subscription-table-full",
        /// A subscription that ended because its xTR acknowledged nothing, could not be told of everything, or is not to be told
        /// of it any more.
        SubscriptionLost = "subscription-lost",
        /// A subscription that nobody proved by a Map-Notify-Ack to want.
        SubscriptionUnproven = "subscription-unproven",
        /// A Map-Notify-Ack of a subscriber, signed by another key, or changed on the way.
        SubscriptionAckMac = "subscription-ack-bad-authentication",
    }
}
