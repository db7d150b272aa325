//! The seam to a NIC.
//!
//! [`Port`] is all that the dataplane knows of a NIC queue. Ports: [`MemPort`] in the process, [`PcapPort`] from file to
//! file, and `xsk` for AF_XDP.

mod mem;
mod pcap;
pub mod xsk;

pub use mem::MemPort;
pub use pcap::{PcapPort, PcapPortError};
pub use xsk::Region;
pub(crate) use xsk::with_lent;

use crate::frame::{Frame, Umem};

/// Most frames that a [`Port::receive`] is ever asked for.
pub const BATCH: usize = 256;

/// One queue of one interface. No call blocks or allocates, once the batch has its capacity.
pub trait Port {
    /// Appends received frames to `batch`, at most `limit`, which is not above [`BATCH`].
    fn receive(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>, limit: usize);

    /// Takes frames from the front of `batch`, oldest first, and returns how many; the rest did not fit the ring.
    fn transmit(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>) -> usize;

    /// Frames that the port's rings own at the moment.
    fn outstanding(&self) -> usize;
}
