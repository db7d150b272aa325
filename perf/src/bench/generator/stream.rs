//! Frames in the order in which they are sent: made by a recipe, as the kernel's program makes them too.

use std::net::IpAddr;

use altitude_dataplane::wire::checksum::fold;

use super::{
    chance::{Chance, mix},
    recipe::{Class, Flow, Places, Recipe},
    traffic::Distribution,
};
use crate::bench::Direction;

/// Most flows and far prefixes.
pub(crate) const FLOWS_MAX: u32 = 1 << 20;
/// Packets after which drawn flows repeat.
const DRAWN: u32 = 1 << 20;
/// Of the mix of sizes, before it repeats; `LENGTHS` of traffic.bpf.c.
pub(super) const LENGTHS: usize = 12;
/// Different lengths, and the class of probes behind them; `PROBE` of traffic.bpf.c.
pub(super) const PROBE: usize = 3;
/// Room for a class's first octets; `HEAD` of traffic.bpf.c.
pub(super) const HEAD: usize = 144;

/// `struct flow` of traffic.bpf.c: what differs by flow, as it lies in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) address: [u8; 16],
    pub(super) ports: [u8; 4],
    pub(super) outer_port: [u8; 2],
    pub(super) ip_sum: u16,
    pub(super) udp_sum: u16,
}

impl Record {
    fn of(flow: &Flow) -> Self {
        let mut address = [0; 16];
        match flow.address {
            IpAddr::V4(v4) => address[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => address = v6.octets(),
        }
        let ([a, b], [c, d]) = (flow.ports.0.to_be_bytes(), flow.ports.1.to_be_bytes());
        let (ip_sum, udp_sum) = (flow.ip_sum(), flow.udp_sum());
        Self { address, ports: [a, b, c, d], outer_port: flow.outer_port.to_be_bytes(), ip_sum, udp_sum }
    }
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    pub(super) frames: u64,
    pub(super) octets: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) probes: u64,
    /// Frames that were due and came too late to be sent.
    pub(super) forgone: u64,
    /// When the first frame was due and the last one sent, ns; 0 if nobody looked at the clock.
    pub(super) start: u64,
    pub(super) last: u64,
}

/// A stream by a recipe.
#[derive(Debug, Clone)]
pub struct Stream {
    pub(super) places: Places,
    /// Octets of the address that differs by flow.
    pub(super) address_length: usize,
    pub(super) classes: Vec<Class>,
    pub(super) probe: Class,
    /// Class of each packet, over and over.
    pub(super) turns: [u8; LENGTHS],
    /// Flows to far hosts, then those to strangers.
    pub(super) records: Vec<Record>,
    pub(super) flows: u32,
    /// Which flow each packet to a far host has, over and over; empty if they come in turns.
    pub(super) order: Vec<u32>,
    pub(super) hit_percent: u8,
    pub(super) probes: Option<u32>,
}

impl Stream {
    /// The stream of a recipe; the same recipe gives the same stream.
    ///
    /// # Errors
    /// A line for the user, if addresses are not of the families that the others have, or there are none.
    pub fn new(recipe: &Recipe) -> Result<Self, String> {
        check(recipe)?;
        let (classes, turns) = recipe.classes();
        let flows = |stranger| {
            let mut flows: Vec<Record> =
                (0..recipe.flows).map(|index| Record::of(&recipe.flow(index, stranger))).collect();
            // Neighbours in a table are not neighbours in traffic.
            Chance::new(u64::from(recipe.flows)).shuffle(&mut flows);
            flows
        };
        let mut records = flows(false);
        if recipe.hit_percent < 100 {
            records.extend(flows(true));
        }
        let order = match recipe.distribution {
            Distribution::Uniform => Vec::new(),
            Distribution::Zipf => Chance::new(1).zipf(recipe.flows, DRAWN),
        };
        Ok(Self {
            places: recipe.places(),
            address_length: if recipe.near.is_ipv4() { 4 } else { 16 },
            probe: recipe.probe(),
            turns: std::array::from_fn(|place| turns[place % turns.len()] as u8),
            classes,
            records,
            flows: recipe.flows,
            order,
            hit_percent: recipe.hit_percent,
            probes: recipe.probes,
        })
    }

    /// Length of the longest frame.
    pub(super) fn longest(&self) -> usize {
        self.classes.iter().map(|class| class.total).chain([self.probe.total]).max().unwrap_or(0)
    }

    /// Writes the next frame to `octets`, which have room for the longest one, and returns its length. A probe carries
    /// the time `now`, nanoseconds.
    pub(super) fn write(&self, progress: &mut Progress, octets: &mut [u8], now: impl FnOnce() -> u64) -> usize {
        let number = progress.frames;
        progress.frames += 1;
        let record = &self.records[self.choose(progress, number)];
        let probe = self.probes.is_some_and(|every| number % u64::from(every) == u64::from(every) - 1);
        let class = if probe {
            &self.probe
        } else {
            &self.classes[usize::from(self.turns[(number % LENGTHS as u64) as usize])]
        };
        progress.octets += class.total as u64;
        let octets = &mut octets[..class.total];
        octets[..class.head.len()].copy_from_slice(&class.head);
        octets[class.head.len()..].fill(0);
        let mut udp_sum = u32::from(class.udp_sum) + u32::from(record.udp_sum);
        if probe {
            progress.probes += 1;
            let stamp = now().to_be_bytes();
            octets[self.places.stamp..][..stamp.len()].copy_from_slice(&stamp);
            udp_sum += altitude_dataplane::wire::checksum::sum(&stamp);
        }
        self.personalize(octets, class, record, udp_sum);
        class.total
    }

    fn personalize(&self, octets: &mut [u8], class: &Class, record: &Record, udp_sum: u32) {
        let Places { address, ports, outer_port, ip_sum, udp_sum: udp_sum_at, .. } = self.places;
        let mut put = |at: usize, what: &[u8]| {
            if at > 0 {
                octets[at..at + what.len()].copy_from_slice(what);
            }
        };
        put(address, &record.address[..self.address_length]);
        put(ports, &record.ports);
        put(outer_port, &record.outer_port);
        put(ip_sum, &(!fold(u32::from(class.ip_sum) + u32::from(record.ip_sum))).to_be_bytes());
        // A computed zero would mean that there is none (RFC 768).
        let checksum = match !fold(udp_sum) {
            0 => 0xffff,
            checksum => checksum,
        };
        put(udp_sum_at, &checksum.to_be_bytes());
    }

    /// The record of packet `number`.
    fn choose(&self, progress: &mut Progress, number: u64) -> usize {
        if mix(number) % 100 >= u64::from(self.hit_percent) {
            let turn = progress.misses;
            progress.misses += 1;
            return (u64::from(self.flows) + turn % u64::from(self.flows)) as usize;
        }
        let turn = progress.hits;
        progress.hits += 1;
        if self.order.is_empty() {
            (turn % u64::from(self.flows)) as usize
        } else {
            self.order[turn as usize & (self.order.len() - 1)] as usize
        }
    }
}

fn check(recipe: &Recipe) -> Result<(), String> {
    let same = |what: &str, address: IpAddr, v4: bool| {
        let family = if v4 { "IPv4" } else { "IPv6" };
        if address.is_ipv4() == v4 { Ok(()) } else { Err(format!("{what} {address} is not an {family} address")) }
    };
    let inner4 = recipe.near.is_ipv4();
    recipe.far.iter().try_for_each(|prefix| same("the far prefix", prefix.address(), inner4))?;
    recipe.strangers.iter().try_for_each(|prefix| same("the prefix without mapping", prefix.address(), inner4))?;
    if recipe.direction == Direction::Decap {
        same("the outer source", recipe.rlocs.0, recipe.outer4)?;
        same("the outer destination", recipe.rlocs.1, recipe.outer4)?;
    }
    if recipe.far.is_empty() || (recipe.strangers.is_empty() && recipe.hit_percent < 100) {
        return Err("packets need a prefix to go to, with a mapping or without".into());
    }
    if !(1..=FLOWS_MAX).contains(&recipe.flows) {
        return Err(format!("{} flows: from 1 to {FLOWS_MAX} can be", recipe.flows));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
