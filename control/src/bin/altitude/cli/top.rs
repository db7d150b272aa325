//! What `altitude top` takes.

use std::path::PathBuf;

use altitude_control::config::API_PATH;
use clap::Args;

/// `altitude top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Seconds between two looks.
    #[arg(long, short, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=16))]
    pub(crate) every: u64,

    /// Socket of the router's mapping API: what it was started with.
    #[arg(long, value_name = "PATH", default_value = API_PATH)]
    pub(crate) api: PathBuf,
}
