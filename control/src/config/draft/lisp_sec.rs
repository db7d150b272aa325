//! LISP-SEC as it was written.

use serde::Deserialize;

use super::{Given, KeyDraft};

/// `[lisp-sec]`: in a file its presence switches it on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LispSecDraft {
    /// Whether it is on; `None`: nothing is said of it. A flag may switch off what is in the file.
    #[serde(skip, default = "on")]
    pub enabled: Option<bool>,
    /// Shared with the Map-Resolvers that we ask.
    pub key: Option<KeyDraft>,
    /// Names of [`SignatureName`](crate::config::SignatureName).
    pub algorithms: Option<Vec<Given<String>>>,
    /// Whether ETRs that cannot sign are believed.
    pub downgrade: Option<Given<bool>>,
    /// Whether nothing is taken without protection.
    pub strict: Option<Given<bool>>,
    /// Who may ask us.
    #[serde(default)]
    pub client: Vec<ClientDraft>,
    /// Whom a Map-Resolver hands requests to.
    #[serde(default)]
    pub map_server: Vec<ServerDraft>,
}

/// `[[lisp-sec.client]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClientDraft {
    /// `address/length` each; absent: anywhere.
    #[serde(default)]
    pub from: Vec<Given<String>>,
    /// Either this,
    pub key: Option<KeyDraft>,
    /// or these.
    pub keys: Option<Vec<KeyDraft>>,
}

/// `[[lisp-sec.map-server]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServerDraft {
    /// Where it is.
    pub address: Given<String>,
    /// `address/length` each.
    pub eid_prefixes: Vec<Given<String>>,
    /// Instance-ID of them.
    pub instance: Option<Given<i64>>,
    /// Shared with it.
    pub key: KeyDraft,
}

const fn on() -> Option<bool> {
    Some(true)
}

impl LispSecDraft {
    /// What is given here, and from `other` what is not given here.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            enabled: self.enabled.or(other.enabled),
            key: self.key.or(other.key),
            algorithms: self.algorithms.or(other.algorithms),
            downgrade: self.downgrade.or(other.downgrade),
            strict: self.strict.or(other.strict),
            client: if self.client.is_empty() { other.client } else { self.client },
            map_server: if self.map_server.is_empty() { other.map_server } else { self.map_server },
        }
    }
}
