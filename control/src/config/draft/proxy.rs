//! What is written of the roles between LISP and networks without it.

use serde::Deserialize;

use super::Given;

/// `[petr]`: its presence makes us one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PetrDraft {
    /// Instance-IDs; absent: the default instance.
    pub instances: Option<Vec<Given<i64>>>,
}

/// `[rtr]`: its presence makes us one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RtrDraft {
    /// Instance-IDs; absent: the default instance.
    pub instances: Option<Vec<Given<i64>>>,
}

/// `[[pitr-prefix]]`: the first makes us a PITR.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PitrPrefixDraft {
    /// `address/length`.
    pub prefix: Given<String>,
    /// Instance-ID.
    pub instance: Option<Given<i64>>,
}
