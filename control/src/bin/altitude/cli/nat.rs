//! Flags of NAT traversal.

use altitude_control::config::NatDraft;
use clap::Args;

use super::run::given;

/// Those of `altitude run`.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "NAT traversal")]
pub(super) struct NatFlags {
    /// This router may sit behind a NAT: find out, and register through an RTR if so [default: false].
    ///
    /// Its Map-Servers are asked what our RLOCs look like to them. Behind a NAT our EID-prefixes are registered through an RTR
    /// that they name, all packets go to that RTR, and answers come back through it. Without a NAT nothing changes.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    nat_site: Option<bool>,

    /// Seconds between registrations through the RTR, 1 to 120: they keep the NAT's binding [default: 30].
    ///
    /// Less than the NAT remembers a UDP binding for: 60 seconds at some, more at most. When it forgets, nothing reaches us.
    #[arg(long, value_name = "SECONDS")]
    nat_keepalive: Option<i64>,

    /// As an RTR, relay for xTRs behind NATs [default: false].
    ///
    /// They register through us with the Map-Servers that the file's [[nat.map-server]] names, and packets from and to their
    /// EIDs alone are taken. Needs --as-rtr.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    nat_rtr: Option<bool>,
}

impl NatFlags {
    pub(super) fn draft(&self) -> NatDraft {
        NatDraft {
            site: given("nat-site", self.nat_site.as_ref()),
            keepalive: given("nat-keepalive", self.nat_keepalive.as_ref()),
            rtr: given("nat-rtr", self.nat_rtr.as_ref()),
            ..NatDraft::default()
        }
    }
}
