//! Captured packets, to be sent as they are.

use std::{fs::File, io::BufReader, path::Path, time::Duration};

use altitude_dataplane::wire::ethernet::EthernetHeader;
use pcap_file::{DataLink, pcap::PcapReader};

use super::{live::PACKET, stream::Progress};

/// Most packets of a capture: 128 MiB in the kernel's table.
const PACKETS_MAX: usize = 1 << 16;

/// The packets of a capture file.
#[derive(Debug, Clone)]
pub struct Replay {
    packets: Vec<Vec<u8>>,
    times: Vec<Duration>,
    skipped: usize,
}

impl Replay {
    /// Reads a capture in the pcap format.
    ///
    /// # Errors
    /// A line for the user: no such file, another format, not Ethernet, no packet that can be sent, too many.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let file = File::open(path).map_err(|error| format!("{name}: {error}"))?;
        let damaged = |error| {
            format!("{name} is not a pcap file, or breaks off: {error} (pcapng is converted by `editcap -F pcap`)")
        };
        let mut reader = PcapReader::new(BufReader::new(file)).map_err(damaged)?;
        let link = reader.header().datalink;
        if link != DataLink::ETHERNET {
            return Err(format!("{name} was captured on {link:?}, not on Ethernet"));
        }
        let mut replay = Self { packets: Vec::new(), times: Vec::new(), skipped: 0 };
        while let Some(packet) = reader.next_packet() {
            let packet = packet.map_err(damaged)?;
            let whole = packet.orig_len as usize == packet.data.len();
            if !whole || !(EthernetHeader::LENGTH..=LONGEST).contains(&packet.data.len()) {
                replay.skipped += 1;
                continue;
            }
            if replay.packets.len() == PACKETS_MAX {
                return Err(format!("{name} has more than {PACKETS_MAX} packets: cut it with `editcap -r`"));
            }
            replay.packets.push(packet.data.into_owned());
            replay.times.push(packet.timestamp);
        }
        if replay.packets.is_empty() {
            return Err(format!("{name} has no packet that can be sent, {} that cannot", replay.skipped));
        }
        Ok(replay)
    }

    /// The packets, in the file's order.
    #[must_use]
    pub fn packets(&self) -> &[Vec<u8>] {
        &self.packets
    }

    /// When each of them was captured.
    #[must_use]
    pub fn times(&self) -> &[Duration] {
        &self.times
    }

    /// Packets that are not sent: cut short by the capture, or too long or too short for a frame.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// Writes the next packet to `octets`, which have room for the longest one, and returns its length.
    pub(super) fn write(&self, progress: &mut Progress, octets: &mut [u8]) -> usize {
        let packet = &self.packets[(progress.frames % self.packets.len() as u64) as usize];
        progress.frames += 1;
        progress.octets += packet.len() as u64;
        octets[..packet.len()].copy_from_slice(packet);
        packet.len()
    }

    pub(super) fn longest(&self) -> usize {
        self.packets.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Longest packet that both ways of sending have room for.
const LONGEST: usize = 1792;
const _: () =
    assert!(LONGEST <= PACKET && LONGEST <= altitude_dataplane::frame::SLOT - altitude_dataplane::frame::HEADROOM);
