//! ALTs of any shape in namespaces: routers, tunnels between them, sites, and who speaks BGP where.
//!
//! [`Plan`] says what there is, [`Stand`] builds and runs it, [`Asker`] asks it as an ITR does.
//!
//! ```text
//! host ── site [ xTR ] core ────────── br0 in `core` ────────── core [ xTR ] site ── host
//!                 │                                                │
//!                 └── tunnels over the core, or over cables of their own that can be cut ──┘
//! ```

mod asker;
mod catalogue;
mod config;
mod plan;
mod routes;
mod stand;
mod watch;

pub use asker::{Answer, Asker};
pub use catalogue::{daemons, levels, mixed, pair, slides};
pub use plan::{AggregatePlan, Bgp, Plan, Role, RouterPlan, SitePlan, TunnelPlan};
pub use routes::{EidRoute, Neighbour};
pub use stand::{Cut, Stand};
pub use watch::{Watched, watch_cut};
