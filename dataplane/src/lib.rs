//! All that a packet touches: wire formats, the map-cache, ports, and the two straight paths between them.
//!
//! ```text
//! site port ─ receive → read → look up → encap → transmit ─ core port
//! core port ─ receive → read → look up → decap → transmit ─ site port
//! ```
//!
//! Start with [`worker`], then [`encap`] and [`decap`]; `batch` is how frames take their first steps together. Whatever is known before a packet arrives is already octets
//! ([`mapping::OuterHeader`]): control compiles, the dataplane copies.
//!
//! A worker's turn never allocates, locks, blocks, logs or makes a system call other than a port's wake-ups.

mod batch;
pub mod cache;
pub mod classify;
pub mod counters;
pub mod decap;
pub mod encap;
pub mod features;
pub mod fragment;
pub mod frame;
pub mod hold;
pub mod icmp_error;
pub mod inline;
pub mod mapping;
pub mod port;
pub mod proxy;
pub mod queue;
pub mod run;
pub mod samples;
pub mod sightings;
pub mod tap;
pub mod verdict;
pub mod wire;
pub mod worker;
