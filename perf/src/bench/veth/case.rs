//! What is measured, and what it is called.

use super::{Direction, Families, Size, Traffic};
use crate::bench::{Distribution, device::Sockets, references::Subject};

/// Which cases are measured.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Choice {
    /// Only cases whose name holds this text
    #[arg(long)]
    pub only: Option<String>,
    /// Every case, instead of the usual selection: takes half an hour
    #[arg(long)]
    pub all: bool,
    /// How the AF_XDP sockets are opened
    #[command(flatten)]
    pub sockets: Sockets,
}

/// What Altitude is measured for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Packets a second of CPU time, beside this one's.
    Against(Subject),
    /// How long probes take at half load, beside the forwarder's.
    Latency,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Case {
    pub(super) traffic: Traffic,
    pub(super) kind: Kind,
}

const V4V4: Families = Families { inner4: true, outer4: true };

impl Case {
    const fn new(direction: Direction, families: Families, size: Size, kind: Kind) -> Self {
        Self { traffic: Traffic::new(direction, families, size), kind }
    }

    /// `encap/v4v4/64 vs forwarder`; what differs from 256 prefixes, 1024 flows, in turns, all with a mapping, comes
    /// before the blank: `/10k`, `/1M flows`, `/zipf`, `/hit 50`. `encap/v4v4/64/latency`.
    pub(super) fn name(&self) -> String {
        let name = stream_name(&self.traffic);
        match self.kind {
            Kind::Against(subject) => format!("{name} vs {}", subject.name()),
            Kind::Latency => name + "/latency",
        }
    }
}

/// `encap/v4v4/64`, and what differs from the usual.
pub(super) fn stream_name(traffic: &Traffic) -> String {
    let Traffic { direction, families, size, flows, prefixes, distribution, hit_percent, .. } = *traffic;
    let usual = Traffic::new(direction, families, size);
    let mut name = format!("{}/{}/{}", direction.name(), families.name(), size.name());
    if prefixes != usual.prefixes {
        name += &format!("/{}", short(prefixes));
    }
    if flows != usual.flows && flows != prefixes {
        name += &format!("/{} flows", short(flows));
    }
    if distribution == Distribution::Zipf {
        name += "/zipf";
    }
    if hit_percent != 100 {
        name += &format!("/hit {hit_percent}");
    }
    name
}

impl Choice {
    pub(super) fn cases(&self) -> Vec<Case> {
        let mut cases = usual();
        if self.all {
            let more: Vec<Case> = every().into_iter().filter(|case| !cases.contains(case)).collect();
            cases.extend(more);
        }
        cases.retain(|case| self.only.as_ref().is_none_or(|only| case.name().contains(only.as_str())));
        cases
    }
}

/// What a developer wants to see: some two minutes.
fn usual() -> Vec<Case> {
    let forwarder = Kind::Against(Subject::Forwarder);
    let small = Size::Octets(64);
    let mut cases = Vec::new();
    for direction in [Direction::Encap, Direction::Decap] {
        cases.extend(Families::ALL.map(|families| Case::new(direction, families, small, forwarder)));
        cases.extend([Size::Imix, Size::Octets(1400)].map(|size| Case::new(direction, V4V4, size, forwarder)));
    }
    let others = [Subject::Kernel, Subject::Vxlan, Subject::Oor, Subject::Testpmd];
    cases.extend(others.map(|subject| Case::new(Direction::Encap, V4V4, small, Kind::Against(subject))));
    cases.push(Case::new(Direction::Encap, V4V4, small, Kind::Latency));
    cases
}

/// The usual ones, and the curves over sizes, flows, prefixes and hit ratios.
fn every() -> Vec<Case> {
    let forwarder = Kind::Against(Subject::Forwarder);
    let mut cases = Vec::new();
    for direction in [Direction::Encap, Direction::Decap] {
        for families in Families::ALL {
            for size in [Size::Octets(64), Size::Imix, Size::Octets(1400)] {
                cases.push(Case::new(direction, families, size, forwarder));
            }
        }
        cases.push(Case::new(direction, V4V4, Size::Octets(64), Kind::Latency));
        let small = Case::new(direction, V4V4, Size::Octets(64), forwarder);
        let with = |change: &dyn Fn(&mut Traffic)| {
            let mut case = small;
            change(&mut case.traffic);
            case
        };
        cases.extend([1, 1000, 100_000, 1_000_000].map(|flows| with(&|traffic| traffic.flows = flows)));
        cases.extend(
            [1000, 10_000, 100_000, 1_000_000]
                .map(|prefixes| with(&|traffic| (traffic.prefixes, traffic.flows) = (prefixes, prefixes))),
        );
        cases.push(with(&|traffic| {
            (traffic.prefixes, traffic.flows, traffic.distribution) = (100_000, 100_000, Distribution::Zipf);
        }));
        if direction == Direction::Encap {
            cases.extend([50, 0].map(|percent| with(&|traffic| traffic.hit_percent = percent)));
        }
    }
    for size in [Size::Imix, Size::Octets(1400)] {
        for subject in [Subject::Kernel, Subject::Vxlan, Subject::Oor, Subject::Testpmd] {
            cases.push(Case::new(Direction::Encap, V4V4, size, Kind::Against(subject)));
        }
    }
    let v6 = Families { inner4: false, outer4: false };
    for subject in [Subject::Kernel, Subject::Vxlan] {
        cases.push(Case::new(Direction::Encap, v6, Size::Octets(64), Kind::Against(subject)));
    }
    cases
}

/// `10000` as `10k`.
fn short(number: u32) -> String {
    match number {
        0 => "0".into(),
        _ if number.is_multiple_of(1_000_000) => format!("{}M", number / 1_000_000),
        _ if number.is_multiple_of(1000) => format!("{}k", number / 1000),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_tell_cases_apart_and_choose_them() {
        let all = Choice { all: true, ..Choice::default() }.cases();
        let names: HashSet<String> = all.iter().map(Case::name).collect();
        assert_eq!(names.len(), all.len());
        for name in [
            "encap/v4v4/64 vs forwarder",
            "decap/v6v4/imix vs forwarder",
            "encap/v4v4/64 vs vxlan",
            "encap/v4v4/64/1M flows vs forwarder",
            "encap/v4v4/64/10k vs forwarder",
            "decap/v4v4/64/100k/zipf vs forwarder",
            "encap/v4v4/64/hit 50 vs forwarder",
            "encap/v4v4/64/latency",
        ] {
            assert!(names.contains(name), "{name}");
        }
        let chosen = Choice { only: Some("64 vs vxlan".into()), ..Choice::default() }.cases();
        assert_eq!(chosen.iter().map(Case::name).collect::<Vec<_>>(), ["encap/v4v4/64 vs vxlan"]);
    }
}
