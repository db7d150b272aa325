//! Secrets and shared keys as they were written.

use std::fmt;

use serde::Deserialize;

use super::Given;

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// `key = { … }`, and each element of `keys`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KeyDraft {
    /// Key ID.
    pub id: Option<Given<i64>>,
    /// A name of [`AlgorithmName`](crate::config::AlgorithmName).
    pub algorithm: Option<Given<String>>,
    /// Either this,
    pub secret: Option<Given<Secret>>,
    /// or the path of a file with it.
    pub secret_file: Option<Given<String>>,
}
