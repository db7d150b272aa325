//! Packets as a pcapng file.

use std::{
    borrow::Cow,
    io::{self, Write},
    time::UNIX_EPOCH,
};

use altitude_control::api::Traced;
use altitude_dataplane::tap::Side;
use pcap_file::{
    DataLink, Endianness, PcapError,
    pcapng::{
        PcapNgBlock, PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            section_header::{SectionHeaderBlock, SectionHeaderOption},
        },
    },
};

/// In if_tsresol: nanoseconds, as the writer writes them.
const NANOSECONDS: u8 = 9;

/// A file being written.
pub(super) struct Capture<W: Write> {
    writer: PcapNgWriter<W>,
}

impl<W: Write> Capture<W> {
    /// Begins a file with an interface for each port, in their order.
    pub(super) fn begin(out: W, names: &[String], snaplen: u16) -> io::Result<Self> {
        let program = concat!("altitude ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(program.into())],
            ..SectionHeaderBlock::default()
        };
        let mut writer = PcapNgWriter::with_section_header(out, section).map_err(failure)?;
        for name in names {
            let options = vec![
                InterfaceDescriptionOption::IfName(name.into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ];
            let interface =
                InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: snaplen.into(), options };
            writer.write_block(&interface.into_block()).map_err(failure)?;
        }
        Ok(Self { writer })
    }

    /// Adds a packet.
    pub(super) fn add(&mut self, packet: &Traced, comment: &str) -> io::Result<()> {
        // Bits 0 and 1 of epb_flags: 1 is inbound, 2 outbound.
        let direction = if packet.side == Side::In { 1 } else { 2 };
        let block = EnhancedPacketBlock {
            interface_id: packet.port.into(),
            timestamp: packet.at.duration_since(UNIX_EPOCH).unwrap_or_default(),
            original_len: packet.length,
            data: Cow::Borrowed(&packet.octets),
            options: vec![EnhancedPacketOption::Comment(comment.into()), EnhancedPacketOption::Flags(direction)],
        };
        self.writer.write_block(&block.into_block()).map(drop).map_err(failure)
    }

    /// Hands on what was written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }
}

fn failure(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
