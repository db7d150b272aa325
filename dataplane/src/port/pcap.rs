//! Placeholder replaced by the port helper.

/// A port that reads one capture file and writes another.
#[derive(Debug)]
pub struct PcapPort;
