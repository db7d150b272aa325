//! Flags of LISP-SEC.

use altitude_control::config::{KeyDraft, LispSecDraft};
use clap::Args;

use super::run::given;

/// Those of `altitude run`.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "LISP-SEC")]
pub(super) struct LispSecFlags {
    /// Speak LISP-SEC: answers prove that their sender may give them [default: false].
    ///
    /// Our Map-Servers are told, and send us Map-Requests that only we can answer. Our own Map-Requests are protected with
    /// --lisp-sec-key-file. The file's [lisp-sec] has the rest: who may ask us, and what is done where somebody cannot sign;
    /// --lisp-sec=false switches it off.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    lisp_sec: Option<bool>,

    /// File whose first line is the secret shared with the Map-Resolvers: our Map-Requests are protected.
    ///
    /// Answers without proof are dropped then, and a router in the core can no longer send our packets elsewhere. Never the
    /// secret of a --map-server. Key ID 1; another one, and other algorithms, are for the file's [lisp-sec].
    #[arg(long, value_name = "PATH")]
    lisp_sec_key_file: Option<String>,

    /// Take nothing without LISP-SEC but RLOC-probes and SMRs [default: false].
    ///
    /// For networks where everybody speaks it. What comes over the ALT has no protection and is dropped.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    lisp_sec_strict: Option<bool>,
}

impl LispSecFlags {
    /// A key and strictness switch it on, unless it is said to be off; strictness that is taken away switches nothing.
    pub(super) fn draft(&self) -> Option<LispSecDraft> {
        let file = given("lisp-sec-key-file", self.lisp_sec_key_file.as_ref());
        let key = file.map(|file| KeyDraft { secret_file: Some(file), ..KeyDraft::default() });
        let strict = given("lisp-sec-strict", self.lisp_sec_strict.as_ref());
        let implied = key.is_some() || self.lisp_sec_strict == Some(true);
        let enabled = self.lisp_sec.or(implied.then_some(true));
        let any = enabled.is_some() || strict.is_some();
        any.then(|| LispSecDraft { enabled, key, strict, ..LispSecDraft::default() })
    }
}
