//! Generator, benchmarks, reference forwarders and the namespace lab.
//!
//! Start with [`lab`] for what the tests and the demo stand on, and with [`demo`] and [`labs`] for what they show.

pub mod bench;
pub mod demo;
pub mod r#gen;
pub mod lab;
pub mod labs;
pub mod report;
pub mod tcp;
