//! Packets through a worker: octets in at one port, octets and exact counter differences out.

mod allocating;
mod batches;
mod errors;
mod features;
mod flows;
mod holding;
mod mutations;
mod nat;
mod packets;
mod proxies;
mod reasons;
mod roundtrip;
mod running;
mod samples;
mod sources;
mod splitting;
mod tracing;
mod vectors;
mod world;
