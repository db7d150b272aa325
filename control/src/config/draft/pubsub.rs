//! PubSub as it was written.

use serde::Deserialize;

use super::{Given, KeyDraft};

/// `[pubsub]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PubSubDraft {
    /// A name of [`SubscribeName`](crate::config::SubscribeName).
    pub subscribe: Option<Given<String>>,
    /// `address/length` each: subscribed to in any case.
    pub prefixes: Option<Vec<Given<String>>>,
    /// Instance-ID of these.
    pub instance: Option<Given<i64>>,
    /// Whether others may subscribe at our Map-Server.
    pub publish: Option<Given<bool>>,
    /// Either this,
    pub key: Option<KeyDraft>,
    /// or these.
    pub keys: Option<Vec<KeyDraft>>,
    /// xTRs with keys of their own.
    #[serde(default)]
    pub subscriber: Vec<SubscriberDraft>,
    /// Subscriptions: ours, and those of one xTR at our Map-Server.
    pub max_subscriptions: Option<Given<i64>>,
    /// Subscriptions of all xTRs at our Map-Server.
    pub max_subscribers: Option<Given<i64>>,
    /// Map-Notifies a second.
    pub notify_rate: Option<Given<i64>>,
    /// Minutes.
    pub temporary: Option<Given<i64>>,
}

/// `[[pubsub.subscriber]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SubscriberDraft {
    /// 32 hexadecimal digits.
    pub xtr_id: Given<String>,
    /// Either this,
    pub key: Option<KeyDraft>,
    /// or these, or those of all.
    pub keys: Option<Vec<KeyDraft>>,
    /// `address/length` each: all that it may subscribe to.
    pub eid_prefixes: Option<Vec<Given<String>>>,
    /// Instance-ID of these.
    pub instance: Option<Given<i64>>,
}

impl PubSubDraft {
    /// What is given here, and from `other` what is not given here.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        let keyed = self.key.is_some() || self.keys.is_some();
        Self {
            subscribe: self.subscribe.or(other.subscribe),
            prefixes: self.prefixes.or(other.prefixes),
            instance: self.instance.or(other.instance),
            publish: self.publish.or(other.publish),
            key: if keyed { self.key } else { other.key },
            keys: if keyed { self.keys } else { other.keys },
            subscriber: if self.subscriber.is_empty() { other.subscriber } else { self.subscriber },
            max_subscriptions: self.max_subscriptions.or(other.max_subscriptions),
            max_subscribers: self.max_subscribers.or(other.max_subscribers),
            notify_rate: self.notify_rate.or(other.notify_rate),
            temporary: self.temporary.or(other.temporary),
        }
    }
}
