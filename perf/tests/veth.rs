//! The veth bench's devices: that each that is installed here forwards what the generator sends. Nothing is timed.

use std::path::Path;

use altitude_perf::{
    bench::{Direction, Families, Size, Subject, Traffic, veth},
    lab::LabError,
};

/// Frames that must reach the sink.
const FRAMES: u64 = 2000;
/// Octets more or less because of frames that devices send of their own: a Map-Request for each of 256 mappings, the
/// kernel's neighbour discovery. A frame that was not encapsulated is 36 octets or more.
const STRAYS: u64 = 300 * 36;
/// A rate that every device carries, packets a second.
const RATE: f64 = 20_000.0;

#[test]
fn every_device_that_is_installed_forwards() {
    if let Err(why) = altitude_perf::lab::available() {
        println!("SKIP: {why}");
        return;
    }
    let (v4, v6) = (Families { inner4: true, outer4: true }, Families { inner4: false, outer4: false });
    let (encap, decap) = (Direction::Encap, Direction::Decap);
    // Octets of a frame that leaves: a smallest one has 60 with IPv4 and 62 with IPv6 inside; LISP adds 36 or 56, VXLAN
    // with its Ethernet header 50 or 70.
    let cases = [
        (Subject::Altitude, encap, v4, 60 + 36),
        (Subject::Altitude, decap, v6, 62),
        (Subject::Forwarder, encap, v4, 60),
        (Subject::Forwarder, decap, v6, 62 + 56),
        (Subject::Kernel, encap, v4, 60),
        (Subject::Kernel, encap, v6, 62),
        (Subject::Vxlan, encap, v4, 60 + 50),
        (Subject::Vxlan, encap, v6, 62 + 70),
        (Subject::Oor, encap, v4, 60 + 36),
        (Subject::Testpmd, encap, v4, 60),
    ];
    for (subject, direction, families, octets) in cases {
        let name = format!("{} {}/{}", subject.name(), direction.name(), families.name());
        if let Err(why) = subject.installed() {
            println!("SKIP {name}: {why}");
            continue;
        }
        let traffic = Traffic { rate: Some(RATE), ..Traffic::new(direction, families, Size::Octets(64)) };
        match veth::try_out(subject, &traffic, FRAMES, Path::new(env!("CARGO_BIN_EXE_altitude-perf"))) {
            Ok(arrived) => {
                assert!(arrived.packets >= FRAMES, "{name}: {} frames", arrived.packets);
                let expected = octets * arrived.packets;
                let off = expected.abs_diff(arrived.octets);
                assert!(off <= STRAYS, "{name}: {} octets, not {expected}", arrived.octets);
            }
            // What is not ours may be unable to start here; forwarding nothing is another matter.
            Err(LabError::Ended { log, .. }) if subject == Subject::Testpmd => println!("SKIP {name}: {log}"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}
