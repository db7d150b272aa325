//! A port from file to file: a capture arrives, what is transmitted becomes another capture.

use std::{
    fmt,
    fs::File,
    io::{BufReader, BufWriter, Write},
    path::Path,
    time::Duration,
};

use pcap_file::{
    DataLink, PcapError,
    pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter},
};

use super::Port;
use crate::frame::{Frame, HEADROOM, SLOT, Umem};

/// Longest packet that a frame holds, octets.
const ROOM: usize = SLOT - HEADROOM;

/// Why a capture could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PcapPortError {
    /// A file could not be opened, read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is no capture in the pcap format, or breaks off.
    #[error("{path} is not a pcap file, or breaks off: {reason} (pcapng is converted by `editcap -F pcap`)")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The capture's packets do not start with an Ethernet header.
    #[error("{path} was captured on {link}, not on Ethernet")]
    Link {
        /// The file.
        path: String,
        /// Its link type, as the format numbers them.
        link: String,
    },
}

/// Reads a capture file as its receive side and writes transmitted packets to another. For tests and offline runs: its
/// calls read and write files, so they may block.
///
/// A packet keeps the time of the packet that was received last before it, so that the same input always makes the same
/// output. After an error it receives and writes no more; [`finish`](Self::finish) tells.
pub struct PcapPort {
    input: PcapReader<BufReader<File>>,
    output: PcapWriter<BufWriter<File>>,
    /// What errors name.
    paths: [String; 2],
    exhausted: bool,
    skipped: u64,
    clock: Duration,
    failed: Option<PcapPortError>,
}

impl PcapPort {
    /// Opens `input` and creates `output`.
    ///
    /// # Errors
    /// [`PcapPortError`]; an existing `output` is overwritten only if `input` is a capture of Ethernet.
    pub fn open(input: &Path, output: &Path) -> Result<Self, PcapPortError> {
        let paths = [input, output].map(|path| path.display().to_string());
        let reader = File::open(input).map_err(|error| failure(&paths[0], PcapError::IoError(error)))?;
        let input = PcapReader::new(BufReader::new(reader)).map_err(|error| failure(&paths[0], error))?;
        let link = input.header().datalink;
        if link != DataLink::ETHERNET {
            return Err(PcapPortError::Link { path: paths[0].clone(), link: format!("{link:?}") });
        }
        let writer = File::create(output).map_err(|error| failure(&paths[1], PcapError::IoError(error)))?;
        let header = PcapHeader { ts_resolution: input.header().ts_resolution, ..PcapHeader::default() };
        let output =
            PcapWriter::with_header(BufWriter::new(writer), header).map_err(|error| failure(&paths[1], error))?;
        Ok(Self { input, output, paths, exhausted: false, skipped: 0, clock: Duration::ZERO, failed: None })
    }

    /// Whether every packet of the input was received, or no more can be.
    #[must_use]
    pub const fn exhausted(&self) -> bool {
        self.exhausted
    }

    /// Packets of the input that were cut short by the capture or are longer than a frame: not received.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Writes the output to the file.
    ///
    /// # Errors
    /// The first error of the whole run.
    pub fn finish(self) -> Result<(), PcapPortError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let path = self.paths[1].clone();
        self.output.into_writer().flush().map_err(|source| PcapPortError::File { path, source })
    }

    fn fail(&mut self, file: usize, error: PcapError) {
        self.exhausted = true;
        let error = failure(&self.paths[file], error);
        self.failed.get_or_insert(error);
    }
}

fn failure(path: &str, error: PcapError) -> PcapPortError {
    let path = path.to_owned();
    match error {
        PcapError::IoError(source) => PcapPortError::File { path, source },
        other => PcapPortError::Format { path, reason: other.to_string() },
    }
}

impl Port for PcapPort {
    fn receive(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>, limit: usize) {
        for _ in 0..limit {
            if self.exhausted {
                return;
            }
            // The frame first: a packet stays in the file while none is free.
            let Some(mut frame) = umem.allocate() else { return };
            match self.input.next_packet() {
                Some(Ok(packet)) => {
                    self.clock = packet.timestamp;
                    if packet.data.len() <= ROOM
                        && packet.orig_len as usize == packet.data.len()
                        && umem.set_len(&mut frame, packet.data.len())
                    {
                        umem.octets_mut(&mut frame).copy_from_slice(&packet.data);
                        batch.push(frame);
                    } else {
                        self.skipped += 1;
                        umem.release(frame);
                    }
                }
                Some(Err(error)) => {
                    umem.release(frame);
                    self.fail(0, error);
                }
                None => {
                    umem.release(frame);
                    self.exhausted = true;
                }
            }
        }
    }

    fn transmit(&mut self, umem: &mut Umem, batch: &mut Vec<Frame>) -> usize {
        let count = batch.len();
        for frame in batch.drain(..) {
            let octets = umem.octets(&frame);
            let packet = PcapPacket::new(self.clock, octets.len() as u32, octets);
            if self.failed.is_none()
                && let Err(error) = self.output.write_packet(&packet)
            {
                self.fail(1, error);
            }
            umem.release(frame);
        }
        count
    }

    fn outstanding(&self) -> usize {
        0
    }
}

impl fmt::Debug for PcapPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcapPort")
            .field("paths", &self.paths)
            .field("exhausted", &self.exhausted)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
