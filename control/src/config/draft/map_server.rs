//! A Map-Server as it was written.

use serde::Deserialize;

use super::{Given, KeyDraft};

/// `[[map-server]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MapServerDraft {
    /// Where it is.
    pub address: Given<String>,
    /// Either this,
    pub key: Option<KeyDraft>,
    /// or these.
    pub keys: Option<Vec<KeyDraft>>,
    /// Whether it answers for us.
    pub proxy: Option<Given<bool>>,
    /// Whether it merges what the site's xTRs register.
    pub merge: Option<Given<bool>>,
    /// Names of [`LegacyName`](crate::config::LegacyName).
    pub legacy: Option<Vec<Given<String>>>,
}
