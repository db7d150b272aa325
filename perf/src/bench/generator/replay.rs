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

    /// Packets that are there already, each as long as a frame may be.
    pub(in crate::bench) fn of(packets: Vec<Vec<u8>>) -> Self {
        let times = vec![Duration::ZERO; packets.len()];
        Self { packets, times, skipped: 0 }
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

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};

    use super::*;

    /// Reads a capture of packets of these lengths, captured and on the wire.
    fn read(name: &str, link: DataLink, packets: &[(usize, u32)]) -> Result<Replay, String> {
        let path = env::temp_dir().join(format!("altitude-{name}-{}.pcap", std::process::id()));
        let header = PcapHeader { datalink: link, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(fs::File::create(&path).unwrap(), header).unwrap();
        for (number, (length, original)) in packets.iter().enumerate() {
            let octets = vec![number as u8; *length];
            writer.write_packet(&PcapPacket::new(Duration::from_secs(number as u64), *original, &octets)).unwrap();
        }
        drop(writer);
        let replay = Replay::read(&path);
        fs::remove_file(path).unwrap();
        replay
    }

    #[test]
    fn what_fits_is_replayed_and_the_rest_is_told() {
        let lengths = [(14, 14), (13, 13), (60, 61), (LONGEST, LONGEST as u32), (LONGEST + 1, LONGEST as u32 + 1)];
        let replay = read("fits", DataLink::ETHERNET, &lengths).unwrap();
        assert_eq!(replay.packets(), [vec![0; 14], vec![3; LONGEST]]);
        assert_eq!(replay.times(), [Duration::ZERO, Duration::from_secs(3)]);
        assert_eq!((replay.skipped(), replay.longest()), (3, LONGEST));
        let (mut progress, mut room) = (Progress::default(), vec![0xee; LONGEST]);
        let lengths: Vec<usize> = (0..3).map(|_| replay.write(&mut progress, &mut room)).collect();
        assert_eq!((lengths, progress.octets), (vec![14, LONGEST, 14], 28 + LONGEST as u64));
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        for (replay, why) in [
            (read("raw", DataLink::RAW, &[(60, 60)]), "was captured on RAW, not on Ethernet"),
            (read("empty", DataLink::ETHERNET, &[]), "has no packet that can be sent, 0 that cannot"),
            (read("short", DataLink::ETHERNET, &[(13, 13)]), "has no packet that can be sent, 1 that cannot"),
            (read("many", DataLink::ETHERNET, &[(14, 14)].repeat(PACKETS_MAX + 1)), "more than 65536 packets"),
            (Replay::read(Path::new("/dev/null")), "is not a pcap file"),
            (Replay::read(Path::new("/nonexistent")), "No such file"),
        ] {
            let said = replay.unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
