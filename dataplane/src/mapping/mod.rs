//! The nouns both planes share: EID, prefix, locator, mapping, and what they compile to.
//!
//! Everything here is a plain value. [`Mapping`] is what the control plane knows (RFC 9301 §5.4); [`LocatorSet`],
//! [`OuterHeader`] and [`NextHop`] are what it compiles to, so that a worker only chooses and copies.

#![forbid(unsafe_code)]

mod choice;
mod locator;
mod mark;
mod next_hop;
mod outer;
mod path;
mod prefix;
mod version;

pub use choice::{Candidate, LocatorSet, SLOTS};
pub use locator::{Action, Locator, Mapping, Ttl, UNUSABLE_PRIORITY};
pub use mark::Mark;
pub use next_hop::NextHop;
pub use outer::{Adjacency, MacAddress, Nonce, OUTER_MAX, OuterHeader, Patch, PortIndex, Ports, VlanTag};
pub use path::{Hop, routes, settle, sort_locators};
pub use prefix::{Eid, EidPrefix, InstanceId, Prefix, PrefixError};
pub use version::MapVersion;
