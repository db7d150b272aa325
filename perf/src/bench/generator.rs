//! Both ends of the veth bench: frames that the kernel sends by itself, and their grave.
//!
//! `BPF_PROG_RUN` on live frames makes some million frames a second on one core; an AF_XDP generator makes a tenth.

use std::sync::atomic::{AtomicBool, Ordering};

use altitude_dataplane::port::xsk::Interface;
use libbpf_rs::{ErrorKind, Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput, ProgramMut};

use super::{
    Direction, Families, Size,
    packets::{self, Template},
};

const PROGRAMS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/traffic.bpf.o"));
/// `BPF_F_TEST_XDP_LIVE_FRAMES` of linux/bpf.h: what the program redirects is really sent.
const LIVE_FRAMES: u32 = 1 << 1;
/// Frames of the smallest share of a mix before the next size comes; setting one up costs some microseconds.
const BURST: u32 = 256;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Which path it takes in the router.
    pub direction: Direction,
    /// Inner and outer family.
    pub families: Families,
    /// Lengths.
    pub size: Size,
}

/// Sends through `interface` until `stop`.
///
/// # Errors
/// A line with what the kernel refused.
pub fn generate(interface: &str, traffic: Traffic, stop: &AtomicBool) -> Result<(), String> {
    let index = index(interface)?;
    let mut object = load()?;
    map(&object, "plans")?
        .update(&0_u32.to_ne_bytes(), &plan(index, traffic), MapFlags::ANY)
        .map_err(|error| format!("the generator's plan: {error}"))?;
    let program = program(&mut object, "generate")?;
    let frames: Vec<(Vec<u8>, u32)> = shares(traffic).iter().map(|(packet, share)| (frame(packet), *share)).collect();
    while !stop.load(Ordering::Relaxed) {
        for (frame, share) in &frames {
            let input = ProgramInput {
                data_in: Some(frame),
                flags: LIVE_FRAMES,
                repeat: share * BURST,
                ..ProgramInput::default()
            };
            match program.test_run(input) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(format!("running the generator: {error}"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Counts and drops what arrives at `interface` as long as it lives.
#[derive(Debug)]
pub struct Sink {
    counts: MapHandle,
    _link: Link,
}

impl Sink {
    /// Attaches to `interface`.
    ///
    /// # Errors
    /// A line with what the kernel refused.
    pub fn attach(interface: &str) -> Result<Self, String> {
        let index = index(interface)?;
        let mut object = load()?;
        let counts = map(&object, "counts")?;
        let link = program(&mut object, "swallow")?.attach_xdp(index.cast_signed());
        Ok(Self { counts, _link: link.map_err(|error| format!("attaching to {interface}: {error}"))? })
    }

    /// Frames so far.
    ///
    /// # Errors
    /// A line with what the kernel refused.
    pub fn count(&self) -> Result<u64, String> {
        let per_cpu = self.counts.lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY);
        let per_cpu = per_cpu.map_err(|error| format!("reading the sink: {error}"))?.unwrap_or_default();
        Ok(per_cpu.iter().filter_map(|value| Some(u64::from_ne_bytes(value.as_slice().try_into().ok()?))).sum())
    }
}

fn index(interface: &str) -> Result<u32, String> {
    Interface::named(interface).map(|interface| interface.index).map_err(|error| error.to_string())
}

fn load() -> Result<Object, String> {
    ObjectBuilder::default()
        .open_memory(PROGRAMS)
        .and_then(libbpf_rs::OpenObject::load)
        .map_err(|error| format!("loading the traffic programs: {error}"))
}

fn map(object: &Object, name: &str) -> Result<MapHandle, String> {
    let map = object.maps().find(|map| map.name() == name).ok_or_else(|| format!("no table {name}"))?;
    MapHandle::try_from(&map).map_err(|error| format!("table {name}: {error}"))
}

fn program<'obj>(object: &'obj mut Object, name: &str) -> Result<ProgramMut<'obj>, String> {
    object.progs_mut().find(|program| program.name() == name).ok_or_else(|| format!("no program {name}"))
}

/// `struct plan` of traffic.bpf.c.
fn plan(interface: u32, traffic: Traffic) -> Vec<u8> {
    const ETHERNET: u32 = 14;
    let outermost4 = match traffic.direction {
        Direction::Encap => traffic.families.inner4,
        Direction::Decap => traffic.families.outer4,
    };
    let ip = if outermost4 { 20 } else { 40 };
    let port = ETHERNET + ip + 1;
    let (subnet, balance) = match (traffic.direction, outermost4) {
        // 2.2.x.2, balanced by the high octet of the identification.
        (Direction::Encap, true) => (ETHERNET + 18, ETHERNET + 4),
        // 2001:db8:2:x::2; no checksum to balance.
        (Direction::Encap, false) => (ETHERNET + 24 + 7, 0),
        // All to one host, from flows that differ by the outer port.
        (Direction::Decap, _) => (0, 0),
    };
    [interface, subnet, balance, port].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The different lengths and how often each comes.
fn shares(traffic: Traffic) -> Vec<(Template, u32)> {
    let mut shares: Vec<(Template, u32)> = Vec::new();
    for template in packets::templates(traffic.direction, traffic.families, traffic.size).into_iter().take(12) {
        match shares.iter_mut().find(|(known, _)| known.total() == template.total()) {
            Some((_, share)) => *share += 1,
            None => shares.push((template, 1)),
        }
    }
    shares
}

fn frame(template: &Template) -> Vec<u8> {
    let mut frame = template.head().to_vec();
    frame.resize(template.total(), 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_comes_in_its_shares() {
        let traffic = |size| Traffic { direction: Direction::Encap, families: Families::ALL[0], size };
        let shares = |size| -> Vec<(usize, u32)> {
            shares(traffic(size)).iter().map(|(template, share)| (template.total() + 4, *share)).collect()
        };
        assert_eq!(shares(Size::Imix), [(64, 7), (570, 4), (1518, 1)]);
        assert_eq!(shares(Size::Octets(64)), [(64, 12)]);
    }
}
