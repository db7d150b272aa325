//! NAT traversal as it was written.

use serde::Deserialize;

use super::{Given, KeyDraft};

/// `[nat]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NatDraft {
    /// Whether this xTR may sit behind a NAT.
    pub site: Option<Given<bool>>,
    /// Seconds from one registration behind a NAT to the next.
    pub keepalive: Option<Given<i64>>,
    /// Whether this RTR relays for xTRs behind NATs.
    pub rtr: Option<Given<bool>>,
    /// At an RTR: Map-Servers that xTRs may register with through it.
    #[serde(default)]
    pub map_server: Vec<NatPeerDraft>,
    /// At a Map-Server: RTRs that xTRs behind NATs are told of.
    #[serde(default)]
    pub relay: Vec<NatPeerDraft>,
}

/// `[[nat.map-server]]` and `[[nat.relay]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NatPeerDraft {
    /// Where it is.
    pub address: Given<String>,
    /// Either this,
    pub key: Option<KeyDraft>,
    /// or these, or none.
    pub keys: Option<Vec<KeyDraft>>,
}

impl NatDraft {
    /// What is given here, and from `other` what is not given here.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            site: self.site.or(other.site),
            keepalive: self.keepalive.or(other.keepalive),
            rtr: self.rtr.or(other.rtr),
            map_server: if self.map_server.is_empty() { other.map_server } else { self.map_server },
            relay: if self.relay.is_empty() { other.relay } else { self.relay },
        }
    }
}
