use std::{env, fs, path::PathBuf, process};

use super::*;
use crate::port::Region;

const LIMIT: usize = 64;

#[test]
fn what_a_file_holds_goes_through_frames_into_another() {
    let frames = vector_frames();
    assert!(frames.len() > LIMIT / 2, "the vectors hold {} frames", frames.len());
    let files = Files::new("through");
    // Twice over, so that it takes more than one batch.
    let packets: Vec<_> = frames.iter().chain(&frames).chain(&frames).collect();
    write_capture(&files.input, packets.iter().map(|octets| (octets.len() as u32, octets.as_slice())));

    let mut umem = Umem::new(Region::anonymous(LIMIT));
    let mut port = PcapPort::open(&files.input, &files.output).unwrap();
    let mut batch = Vec::new();
    let mut received = 0;
    while !port.exhausted() {
        port.receive(&mut umem, &mut batch, LIMIT);
        assert!(batch.len() <= LIMIT);
        received += batch.len();
        let waiting = batch.len();
        for frame in &mut batch {
            assert!(umem.grow(frame, 2), "as much headroom as any port gives");
            umem.octets_mut(frame)[..2].copy_from_slice(b"<>");
        }
        assert_eq!(port.transmit(&mut umem, &mut batch), waiting);
        assert_eq!(umem.free(), umem.slots());
    }
    assert_eq!((received, port.skipped(), port.outstanding()), (packets.len(), 0, 0));
    port.finish().unwrap();

    let written = read_capture(&files.output);
    assert_eq!(written.len(), packets.len());
    for (written, packet) in written.iter().zip(packets) {
        assert_eq!(written, &[b"<>", packet.as_slice()].concat());
    }
}

#[test]
fn a_packet_waits_for_a_frame_and_an_unfit_one_is_skipped() {
    let files = Files::new("unfit");
    let long = vec![1; ROOM + 1];
    let packets: [(u32, &[u8]); 5] =
        [(60, &[2; 60]), (ROOM as u32 + 1, &long), (99, &[3; 60]), (ROOM as u32, &long[1..]), (60, &[4; 60])];
    write_capture(&files.input, packets.into_iter());
    let mut umem = Umem::new(Region::anonymous(1));
    let mut port = PcapPort::open(&files.input, &files.output).unwrap();
    let mut lengths = Vec::new();
    while !port.exhausted() {
        let mut batch = Vec::new();
        port.receive(&mut umem, &mut batch, LIMIT);
        for frame in batch {
            lengths.push((frame.len(), umem.octets(&frame)[0]));
            umem.release(frame);
        }
    }
    assert_eq!((lengths, port.skipped()), (vec![(60, 2), (ROOM, 1), (60, 4)], 2));
}

#[test]
fn a_broken_file_ends_the_run_and_is_named_at_the_end() {
    let files = Files::new("broken");
    write_capture(&files.input, [(60, [2; 60].as_slice()), (60, &[3; 60])].into_iter());
    let whole = fs::read(&files.input).unwrap();
    fs::write(&files.input, &whole[..whole.len() - 1]).unwrap();
    let mut umem = Umem::new(Region::anonymous(4));
    let mut port = PcapPort::open(&files.input, &files.output).unwrap();
    let mut batch = Vec::new();
    port.receive(&mut umem, &mut batch, LIMIT);
    assert_eq!((batch.len(), port.exhausted()), (1, true));
    port.transmit(&mut umem, &mut batch);
    assert_eq!(umem.free(), 4);
    let text = port.finish().unwrap_err().to_string();
    assert!(text.contains("broken"), "{text}");
}

#[test]
fn files_that_are_no_ethernet_capture_are_refused_and_nothing_is_overwritten() {
    let files = Files::new("refused");
    fs::write(&files.output, "precious").unwrap();
    let text = |files: &Files| PcapPort::open(&files.input, &files.output).unwrap_err().to_string();
    assert!(text(&files).contains("refused"));
    fs::write(&files.input, [7; 100]).unwrap();
    assert!(text(&files).contains("not a pcap file"));
    let header = PcapHeader { datalink: DataLink::RAW, ..PcapHeader::default() };
    PcapWriter::with_header(File::create(&files.input).unwrap(), header).unwrap();
    assert!(text(&files).contains("RAW"));
    assert_eq!(fs::read_to_string(&files.output).unwrap(), "precious");
}

/// An input and an output file of one test, removed at its end.
struct Files {
    input: PathBuf,
    output: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let path = |side| env::temp_dir().join(format!("altitude-pcap-{}-{name}-{side}.pcap", process::id()));
        Self { input: path("in"), output: path("out") }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.input, &self.output] {
            let _never_created = fs::remove_file(path);
        }
    }
}

fn write_capture<'a>(path: &Path, packets: impl Iterator<Item = (u32, &'a [u8])>) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for (index, (length, octets)) in packets.enumerate() {
        writer.write_packet(&PcapPacket::new(Duration::from_secs(index as u64), length, octets)).unwrap();
    }
}

fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    std::iter::from_fn(|| reader.next_packet().map(|packet| packet.unwrap().data.into_owned())).collect()
}

/// The whole frames of the codec vectors.
fn vector_frames() -> Vec<Vec<u8>> {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../../tests/vectors/vectors.json")).unwrap();
    let digits = vectors.as_array().unwrap().iter().filter_map(|vector| vector["frame_hex"].as_str());
    let octet = |pair: &str| u8::from_str_radix(pair, 16).unwrap();
    digits
        .filter(|hex| !hex.is_empty())
        .map(|hex| (0..hex.len()).step_by(2).map(|at| octet(&hex[at..at + 2])).collect())
        .collect()
}
